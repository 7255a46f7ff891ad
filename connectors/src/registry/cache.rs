//! The small file that keeps what a registry said about ids, so that what was known goes on working while the registry is away. It is a
//! cache: one that cannot be read is left aside, and deleting it costs a few questions. Schemas are in it by their hash.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use solyx_schemas::hash::Hash32;
use tracing::warn;

/// The form of the file; another one is left aside.
const FORMAT: u32 = 1;

/// What one registry said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The registry's id with which a schema is written.
    pub(super) written: BTreeMap<String, u32>,
    /// The schema of each id of the registry that was read.
    pub(super) read: BTreeMap<u32, Hash32>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    /// By the registry's address.
    registries: BTreeMap<String, Kept>,
}

/// The file of one world.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    url: String,
}

impl Cache {
    pub(super) fn new(path: PathBuf, url: &str) -> Self {
        Self { path, url: url.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn load(&self) -> Kept {
        self.file().registries.remove(&self.url).unwrap_or_default()
    }

    /// Replaces what this registry said. A file that cannot be written is a warning: the next process asks again.
    pub(super) fn save(&self, kept: &Kept) {
        let mut file = self.file();
        file.registries.insert(self.url.clone(), kept.clone());
        if let Err(e) = write(&self.path, &file) {
            warn!(path = %self.path.display(), error = %e, "the registry's ids cannot be kept; they are asked again next time");
        }
    }

    fn file(&self) -> File {
        let empty = || File { format: FORMAT, registries: BTreeMap::new() };
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return empty(),
            Err(e) => {
                warn!(path = %self.path.display(), error = %e, "the registry's ids cannot be read; it is asked again");
                return empty();
            }
        };
        match serde_json::from_slice::<File>(&bytes) {
            Ok(file) if file.format == FORMAT => file,
            Ok(_) => empty(),
            Err(e) => {
                warn!(path = %self.path.display(), error = %e, "the file of the registry's ids is damaged; it is asked again");
                empty()
            }
        }
    }
}

/// The whole file or the one before: written beside it, then renamed.
fn write(path: &Path, file: &File) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut fresh = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut fresh, file)?;
    fresh.flush()?;
    fresh.as_file().sync_data()?;
    fresh.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_said_is_kept_by_their_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world/registry-ids.json");
        let (one, other) = (Cache::new(path.clone(), "http://one"), Cache::new(path.clone(), "http://other"));
        assert_eq!(one.load(), Kept::default());
        let kept = Kept { written: [("ab".to_owned(), 3)].into(), read: [(3, Hash32([7; 32]))].into() };
        one.save(&kept);
        other.save(&Kept::default());
        assert_eq!(one.load(), kept);
        assert_eq!(other.load(), Kept::default());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_left_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry-ids.json");
        let cache = Cache::new(path.clone(), "http://one");
        for text in ["", "{", "{\"format\":9,\"registries\":{}}", "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(cache.load(), Kept::default(), "{text}");
        }
        let kept = Kept { written: BTreeMap::new(), read: [(3, Hash32([7; 32]))].into() };
        cache.save(&kept);
        assert_eq!(cache.load(), kept);
    }
}
