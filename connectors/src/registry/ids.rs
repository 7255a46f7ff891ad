//! The map between the ids of the lock file and a registry's.
//!
//! Each id is asked once in a process and kept; what an earlier process has asked is in a file, is used at once while the registry is
//! away, and is compared with what the registry says as soon as it answers. No lock is held while the registry is asked.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use solyx_schemas::codec::{Codec, FRAME_LEN, KnownSchema};
use solyx_schemas::log::{LogError, LogErrorKind};
use tracing::warn;

use super::cache::{Cache, Kept};
use super::client::Registry;
use super::config::stop;
use super::normal;

/// After "no such id", how long the same id is not asked again.
const NO_SUCH_ID_PAUSE: Duration = Duration::from_secs(5);
/// What an id stands for never changes, so that one that is of no schema of ours need hardly be asked again.
const FOREIGN_PAUSE: Duration = Duration::from_secs(600);
/// Ids remembered that are not ours. A full memory forgets the one that may be asked again first.
const NOT_OURS_MAX: usize = 4_096;
/// Ids remembered that are ours, whatever way their schemas are written.
const OURS_MAX: usize = 65_536;
/// After a registry did not answer, how long its error stands for its answer.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// After a registry did not answer, how long what the file says is taken without comparing it.
const COMPARE_PAUSE: Duration = Duration::from_secs(30);

static BY_LOCK_ID: LazyLock<HashMap<u32, KnownSchema>> =
    LazyLock::new(|| Codec::global().schemas().map(|schema| (schema.id, schema)).collect());

/// The map between the lock file's ids and a registry's.
#[derive(Debug)]
pub struct SchemaIds {
    registry: Registry,
    cache: Option<Cache>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The registry's id of a lock id.
    to: BTreeMap<u32, Id>,
    /// The lock id of a registry's id.
    from: BTreeMap<u32, Id>,
    /// The registry's ids that are not ours, and until when.
    not_ours: HashMap<u32, Instant>,
    /// The last error, and until when it stands.
    away: Option<(LogError, Instant)>,
    /// From when on what the file said is compared.
    compare_from: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Id {
    id: u32,
    /// The registry said so to this process; otherwise the file did.
    asked: bool,
}

impl SchemaIds {
    /// The ids of a registry; `cache` is the file that keeps them, as a rule in the world's directory.
    pub fn new(registry: Registry, cache: Option<PathBuf>) -> Self {
        let cache = cache.map(|path| Cache::new(path, registry.url()));
        let mut known = Known::default();
        if let Some(cache) = &cache {
            known.take(&cache.load());
        }
        Self { registry, cache, known: Mutex::new(known) }
    }

    /// The registry's id of a schema of the lock file, which is registered if that is allowed.
    /// `Retry`: the registry is away, and the id was never known. `Stop`: somebody has to register, permit or correct something.
    pub fn to_registry(&self, lock_id: u32) -> Result<u32, LogError> {
        let Some(schema) = BY_LOCK_ID.get(&lock_id) else {
            let detail = format!("schema id {lock_id} is not in registry.lock");
            return Err(stop(
                "a value cannot be written to Kafka",
                detail,
                "it was not encoded by this version of solyx",
            ));
        };
        let kept = match self.known().kept_or_away(|known| known.to.get(&lock_id).copied()) {
            Standing::Answer(id) => return Ok(id),
            Standing::Away(error) => return Err(error),
            Standing::Ask(kept) => kept,
        };
        match self.registry.id_of(schema.name, schema.avsc) {
            Ok(id) => {
                let mut known = self.known();
                if let Some(was) = known.from.get(&id).filter(|was| was.id != lock_id).copied() {
                    return Err(self.another_registry(id, was.id, Some(lock_id)));
                }
                known.to.insert(lock_id, Id { id, asked: true });
                known.from.insert(id, Id { id: lock_id, asked: true });
                known.not_ours.remove(&id);
                self.save(&known);
                Ok(id)
            }
            Err(error) => self.without_answer(kept, error),
        }
    }

    /// The lock id of a registry's id. `None`: the registry says that it has no such id, or one of a schema that is none of ours; that is
    /// final for the record that was read. `Retry`: the registry is away, and the id was never known.
    pub fn from_registry(&self, id: u32) -> Result<Option<u32>, LogError> {
        // Ids of the lock file are no registry's; a value that has one says which schema it is of without being asked.
        if BY_LOCK_ID.contains_key(&id) {
            return Ok(None);
        }
        let kept = {
            let known = self.known();
            if known.not_ours.get(&id).is_some_and(|until| Instant::now() < *until) {
                return Ok(None);
            }
            match known.kept_or_away(|known| known.from.get(&id).copied()) {
                Standing::Answer(lock_id) => return Ok(Some(lock_id)),
                Standing::Away(error) => return Err(error),
                Standing::Ask(kept) => kept,
            }
        };
        let text = match self.registry.schema(id) {
            Ok(text) => text,
            Err(error) => return self.without_answer(kept, error).map(Some),
        };
        let said = text.as_deref().and_then(normal::known).map(|schema| schema.id);
        let mut known = self.known();
        match (kept, said) {
            (None, None) => {
                let pause = if text.is_some() { FOREIGN_PAUSE } else { NO_SUCH_ID_PAUSE };
                known.remember_not_ours(id, Instant::now() + pause);
                Ok(None)
            }
            (None, Some(lock_id)) => {
                if known.from.len() < OURS_MAX {
                    known.from.insert(id, Id { id: lock_id, asked: true });
                    self.save(&known);
                }
                Ok(Some(lock_id))
            }
            (Some(lock_id), None) if text.is_none() => {
                warn!(
                    registry = self.registry.url(),
                    id, "the registry has lost a schema id; what is known of it goes on"
                );
                known.from.insert(id, Id { id: lock_id, asked: true });
                Ok(Some(lock_id))
            }
            (Some(lock_id), said) if said == Some(lock_id) => {
                known.from.insert(id, Id { id: lock_id, asked: true });
                Ok(Some(lock_id))
            }
            (Some(lock_id), said) => Err(self.another_registry(id, lock_id, said)),
        }
    }

    /// Puts the registry's id into a framed value that has one of the lock file's; anything else stays as it is.
    pub fn to_wire(&self, value: &mut [u8]) -> Result<(), LogError> {
        if let Some(id) = framing_id(value)
            && BY_LOCK_ID.contains_key(&id)
        {
            set_framing_id(value, self.to_registry(id)?);
        }
        Ok(())
    }

    /// Puts the lock file's id into a framed value that has the registry's id of a schema of ours; anything else stays as it is.
    pub fn to_ours(&self, value: &mut [u8]) -> Result<(), LogError> {
        if let Some(id) = framing_id(value)
            && let Some(lock_id) = self.from_registry(id)?
        {
            set_framing_id(value, lock_id);
        }
        Ok(())
    }

    /// What stands when the registry gave no answer: what the file says, if the registry is away and not unwilling.
    fn without_answer(&self, kept: Option<u32>, error: LogError) -> Result<u32, LogError> {
        if error.kind != LogErrorKind::Retry {
            return Err(error);
        }
        let mut known = self.known();
        let now = Instant::now();
        known.compare_from = Some(now + COMPARE_PAUSE);
        known.away = Some((error.clone(), now + AWAY_PAUSE));
        kept.ok_or(error)
    }

    fn another_registry(&self, id: u32, lock_id: u32, said: Option<u32>) -> LogError {
        let name = |lock_id: u32| BY_LOCK_ID.get(&lock_id).map_or("a schema that is not ours", |schema| schema.name);
        let detail = format!(
            "schema id {id} was {} and is now {}; values with it can mean either",
            name(lock_id),
            said.map_or("a schema that is not ours", name)
        );
        let hint = match &self.cache {
            Some(cache) => {
                format!("restore the registry; if its topics were begun anew too, delete {}", cache.path().display())
            }
            None => "restore the registry".to_owned(),
        };
        stop(format!("{} is not the registry that it was", self.registry.url()), detail, hint)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change of the maps is one insertion: a thread that panicked leaves them whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, known: &Known) {
        if let Some(cache) = &self.cache {
            cache.save(&known.kept());
        }
    }
}

/// Where a question stands before the registry is asked.
enum Standing {
    Answer(u32),
    Away(LogError),
    /// With what the file says, if it does.
    Ask(Option<u32>),
}

impl Known {
    fn kept_or_away(&self, find: impl Fn(&Self) -> Option<Id>) -> Standing {
        let now = Instant::now();
        match find(self) {
            Some(Id { id, asked: true }) => Standing::Answer(id),
            Some(Id { id, asked: false }) if self.compare_from.is_some_and(|from| now < from) => Standing::Answer(id),
            kept => match &self.away {
                Some((error, until)) if kept.is_none() && now < *until => Standing::Away(error.clone()),
                _ => Standing::Ask(kept.map(|kept| kept.id)),
            },
        }
    }

    fn remember_not_ours(&mut self, id: u32, until: Instant) {
        if self.not_ours.len() >= NOT_OURS_MAX && !self.not_ours.contains_key(&id) {
            let first = self.not_ours.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id);
            first.map(|id| self.not_ours.remove(&id));
        }
        self.not_ours.insert(id, until);
    }

    /// Takes what the file says. Schemas that this build does not know stay out, and come back to the file when they are asked again.
    fn take(&mut self, kept: &Kept) {
        let by_hash: HashMap<String, u32> =
            BY_LOCK_ID.values().map(|schema| (schema.hash.to_string(), schema.id)).collect();
        for (hash, id) in &kept.written {
            if let Some(lock_id) = by_hash.get(hash) {
                self.to.insert(*lock_id, Id { id: *id, asked: false });
            }
        }
        for (id, hash) in kept.read.iter().take(OURS_MAX) {
            if let Some(lock_id) = by_hash.get(&hash.to_string()) {
                self.from.insert(*id, Id { id: *lock_id, asked: false });
            }
        }
    }

    fn kept(&self) -> Kept {
        let hash = |lock_id: &u32| BY_LOCK_ID.get(lock_id).map(|schema| schema.hash);
        Kept {
            written: self.to.iter().filter_map(|(lock, id)| Some((hash(lock)?.to_string(), id.id))).collect(),
            read: self.from.iter().filter_map(|(id, lock)| Some((*id, hash(&lock.id)?))).collect(),
        }
    }
}

fn framing_id(value: &[u8]) -> Option<u32> {
    match value.first_chunk::<FRAME_LEN>() {
        Some(&[0, a, b, c, d]) => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn set_framing_id(value: &mut [u8], id: u32) {
    if let Some(place) = value.get_mut(1..FRAME_LEN) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}
