//! Whether an archive is what its manifest says: every file hashed, every row read, everything that differs named.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use solyx_schemas::codec::{LockLine, parse_lock};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::LogError;

use super::Progress;
use super::avro::Input;
use super::container::ContainerReader;
use super::manifest::{
    HashedFile, MANIFEST, MANIFEST_HASH, Manifest, REGISTRY, RecordFile, hash_file, inside, missing, part_name,
    unwritable,
};
use super::read::check_part;
use super::rows::RowReader;
use super::schemas::schema_hashes;
use crate::cores::on_all_cores;

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Path inside the archive.
    pub file: String,
    /// What differs.
    pub what: String,
    /// The first block that differs, from 0; absent where that is not known, and where it is not a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// The ordinals of that block's records: from the first to before the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordinals: Option<(u64, u64)>,
}

impl Problem {
    fn of(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), what: what.into(), block: None, ordinals: None }
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Whether everything is as the manifest says.
    pub ok: bool,
    /// Files of records looked at.
    pub files: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of the files that the manifest hashes.
    pub bytes: u64,
    /// Hash of the manifest; absent when there is no good one.
    pub manifest_sha256: Option<Hash32>,
    /// Everything that differs, by file.
    pub problems: Vec<Problem>,
}

/// Verifies the archive in `dir`. An error means that it could not be looked at; whatever differs is in the result. `progress`
/// hears records read and records in all.
pub fn verify(dir: &Path, progress: Progress<'_>) -> Result<Verified, LogError> {
    let mut found = Verified { ok: false, files: 0, records: 0, bytes: 0, manifest_sha256: None, problems: Vec::new() };
    let present = files_in(dir).map_err(|e| unwritable(dir, &e))?;
    let manifest = match Manifest::load(dir) {
        Ok((manifest, hash)) => {
            found.manifest_sha256 = Some(hash);
            manifest
        }
        Err((file, what)) => {
            found.problems.push(Problem::of(file, what));
            return Ok(found);
        }
    };
    let mut known: BTreeSet<&str> = manifest.hashed().map(|file| file.path.as_str()).collect();
    known.extend([MANIFEST, MANIFEST_HASH]);
    for extra in present.iter().filter(|path| !known.contains(path.as_str())) {
        found.problems.push(Problem::of(extra, "is not in the manifest"));
    }

    let registry = check_bytes(dir, &manifest.registry);
    // A lock file that differs is named once; rows are not held against it.
    let lock = if registry.is_some() { None } else { lock_by_id(dir).map_err(|what| found.problems.push(what)).ok() };
    found.problems.extend(registry);
    let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0_u64, u64::saturating_add);
    let total = sum(&mut manifest.files.iter().map(|file| file.records));
    let done = AtomicU64::new(0);
    let results = on_all_cores(&manifest.files, |file| -> Result<_, std::convert::Infallible> {
        let mut records = 0;
        let differs = check_bytes(dir, &file.file);
        let content = check_rows(dir, file, lock.as_ref(), &mut |count| {
            records += count;
            progress(done.fetch_add(count, Ordering::Relaxed) + count, total);
        });
        let what = match (differs, content) {
            (Some(Problem { what, .. }), Err(content)) if what != content => Some(format!("{what}; {content}")),
            (Some(Problem { what, .. }), _) | (None, Err(what)) => Some(what),
            (None, Ok(())) => None,
        };
        // Parts are looked at in a good file too: the manifest may say other hashes of them.
        let problem = match (what, first_part(dir, file)) {
            (None, None) => None,
            (Some(what), None) => Some(Problem::of(&file.file.path, what)),
            (what, Some(part)) => {
                let name = part_name(file, part);
                let what = match what {
                    Some(what) => format!("{what}; the first that differs is {name}"),
                    None => format!("has another {name} than the manifest"),
                };
                Some(Problem {
                    block: part.checked_sub(1).map(|block| block as u64),
                    ordinals: (part > 0).then(|| file.ordinals(part)),
                    ..Problem::of(&file.file.path, what)
                })
            }
        };
        Ok((records, problem))
    });
    let Ok(results) = results;
    for (records, problem) in results {
        found.records += records;
        found.problems.extend(problem);
    }
    found.files = manifest.files.len() as u64;
    found.bytes = sum(&mut manifest.hashed().map(|file| file.bytes));
    found.problems.sort_by(|a, b| a.file.cmp(&b.file));
    found.ok = found.problems.is_empty();
    Ok(found)
}

/// The schemas of the archive's lock file.
fn lock_by_id(dir: &Path) -> Result<HashMap<u32, LockLine>, Problem> {
    let text = std::fs::read_to_string(dir.join(REGISTRY)).map_err(|e| missing(&e));
    let lines = text.and_then(|text| parse_lock(&text).map_err(|what| format!("is no lock file: {what}")));
    let lines = lines.map_err(|what| Problem::of(REGISTRY, what))?;
    Ok(lines.into_iter().map(|line| (line.id, line)).collect())
}

/// Every file below a directory, by its path inside.
fn files_in(dir: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut open = vec![(dir.to_owned(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                open.push((entry.path(), format!("{name}/")));
            } else {
                files.insert(name);
            }
        }
    }
    Ok(files)
}

/// Length and hash of a file against the manifest.
pub(super) fn check_bytes(dir: &Path, file: &HashedFile) -> Option<Problem> {
    let what = match hash_file(&inside(dir, &file.path)) {
        Err(e) => missing(&e),
        Ok((bytes, _)) if bytes < file.bytes => {
            format!("is truncated: {bytes} bytes, the manifest says {}", file.bytes)
        }
        Ok((bytes, _)) if bytes > file.bytes => format!("has {bytes} bytes, the manifest says {}", file.bytes),
        Ok((_, hash)) if hash != file.sha256 => format!("has sha-256 {hash}, the manifest says {}", file.sha256),
        Ok(_) => return None,
    };
    Some(Problem::of(&file.path, what))
}

/// The first part of a file that is not what the manifest hashes. What was appended to a file is in none.
fn first_part(dir: &Path, file: &RecordFile) -> Option<usize> {
    let mut open = std::fs::File::open(inside(dir, &file.file.path)).ok()?;
    let mut bytes = Vec::new();
    (0..file.parts.len()).find(|part| {
        bytes.clear();
        let read = Read::take(&mut open, file.parts[*part].bytes).read_to_end(&mut bytes);
        read.is_err() || check_part(file, *part, &bytes).is_err()
    })
}

/// Reads every row of a file: whole, in order, as many as the manifest says, each body by a schema of the lock file.
fn check_rows(
    dir: &Path,
    file: &RecordFile,
    lock: Option<&HashMap<u32, LockLine>>,
    advance: &mut dyn FnMut(u64),
) -> Result<(), String> {
    let topic = file.topic()?;
    let mut reader = ContainerReader::open(&inside(dir, &file.file.path)).map_err(|e| missing(&e))?;
    let schema = reader.schema().map_err(|e| e.to_string())?;
    let rows = RowReader::new(&schema)?;
    let schemas = schema_hashes(&rows.body).ok_or("defines a type of its union twice")?;
    let about = [
        ("solyx.topic", file.topic.clone()),
        ("solyx.partition", file.partition.to_string()),
        ("solyx.from", file.from.to_string()),
    ];
    for (name, expected) in about {
        if reader.metadata(name) != Some(expected.as_bytes()) {
            return Err(format!("says another {name} than the manifest's {expected}"));
        }
    }
    // The ids whose rows have been seen to be of the lock file's schema, by branch.
    let mut agreed: BTreeMap<usize, u32> = BTreeMap::new();
    let mut next = file.from;
    let mut bytes = Vec::new();
    let places = reader.places().map_err(|e| format!("its blocks cannot be found: {e}"))?;
    if !file.parts.is_empty() {
        let mut at = 0;
        let ends = file.parts.iter().map(|part| {
            at += part.bytes;
            (at, part.records)
        });
        let blocks = places.iter().map(|place| (place.end(), place.records));
        if !ends.eq(std::iter::once((reader.first_block, 0)).chain(blocks)) {
            return Err("has other blocks than the parts that the manifest says".to_owned());
        }
    }
    for (number, place) in places.into_iter().enumerate() {
        let here = |what: &dyn std::fmt::Display| format!("block {number} from ordinal {next}: {what}");
        reader.block(place, &mut bytes).map_err(|e| here(&e))?;
        let mut input = Input::new(&bytes, 0);
        let first = next;
        for _ in 0..place.records {
            let row = rows
                .read(&mut input, topic, file.partition)
                .ok_or_else(|| format!("no whole row at ordinal {next}"))?;
            if row.stored.ordinal != next {
                return Err(format!("ordinal {} stands where {next} belongs", row.stored.ordinal));
            }
            if let Some(branch) = row.branch {
                let id = row.framing_id.ok_or_else(|| format!("ordinal {next} has an event without a framing id"))?;
                if let Some(lock) = lock.filter(|_| agreed.get(&branch) != Some(&id)) {
                    let (name, hash) = &schemas[branch];
                    let line =
                        lock.get(&id).ok_or_else(|| format!("ordinal {next}: schema id {id} is not in {REGISTRY}"))?;
                    if line.subject != *name || line.hash != *hash {
                        return Err(format!(
                            "ordinal {next}: schema id {id} is {} in {REGISTRY}, {name} here",
                            line.subject
                        ));
                    }
                    agreed.insert(branch, id);
                }
            }
            next += 1;
        }
        if !input.is_empty() {
            return Err(format!("block {number} from ordinal {first} has bytes after its last row"));
        }
        advance(next - first);
    }
    if next == file.next {
        return Ok(());
    }
    Err(format!("ends at ordinal {next}, the manifest says {}", file.next))
}
