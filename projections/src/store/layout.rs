//! Names and files of a view's directory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StoreError;

const CURRENT: &str = "CURRENT";
const CURRENT_NEW: &str = "CURRENT.new";
const TURN: &str = "LOCK";
/// How long a writer waits for the one before it, and how often it looks.
const TURN_WAIT_MAX: Duration = Duration::from_secs(60);
const TURN_PAUSE: Duration = Duration::from_millis(20);

/// The directory of one view.
#[derive(Clone)]
pub(super) struct Layout {
    directory: PathBuf,
}

/// The right to write a view, given back when it is dropped or its process ends.
pub(super) struct Turn {
    _file: fs::File,
}

impl Layout {
    /// Waits until nobody else writes this view: two people who look at one at the same time both bring it up to date.
    pub(super) fn wait_for_turn(&self) -> Result<Turn, StoreError> {
        fs::create_dir_all(&self.directory).map_err(|e| self.storage("create", e))?;
        let file = fs::File::create(self.directory.join(TURN)).map_err(|e| self.storage("open", e))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Turn { _file: file }),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < TURN_WAIT_MAX => std::thread::sleep(TURN_PAUSE),
                Err(fs::TryLockError::WouldBlock) => {
                    let waited = format!("another process has written it for {} s", TURN_WAIT_MAX.as_secs());
                    return Err(self.storage("open", waited));
                }
                Err(fs::TryLockError::Error(e)) => return Err(self.storage("lock", e)),
            }
        }
    }

    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(super) fn shown(&self) -> String {
        self.directory.display().to_string()
    }

    pub(super) fn storage(&self, what: &'static str, detail: impl ToString) -> StoreError {
        StoreError::Storage { what, path: self.shown(), detail: detail.to_string() }
    }

    pub(super) fn generation(&self, generation: u64) -> PathBuf {
        self.directory.join(format!("gen-{generation}"))
    }

    fn checkpoints_of(&self, generation: u64) -> PathBuf {
        self.directory.join(format!("gen-{generation}.at"))
    }

    /// The generation in use.
    pub(super) fn current(&self) -> Result<Option<u64>, StoreError> {
        let text = match fs::read_to_string(self.directory.join(CURRENT)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.storage("read", error)),
        };
        match generation_of(text.trim()) {
            Some(generation) => Ok(Some(generation)),
            None => {
                Err(self.storage("read", format!("CURRENT holds {:?}, expected a name such as gen-1", text.trim())))
            }
        }
    }

    /// Swaps to a generation: the new name is on disk before it replaces the old one, in one rename.
    pub(super) fn set_current(&self, generation: u64) -> Result<(), StoreError> {
        let new = self.directory.join(CURRENT_NEW);
        let swap = || -> std::io::Result<()> {
            let mut file = fs::File::create(&new)?;
            writeln!(file, "gen-{generation}")?;
            file.sync_all()?;
            fs::rename(&new, self.directory.join(CURRENT))?;
            fs::File::open(&self.directory)?.sync_all()
        };
        swap().map_err(|e| self.storage("swap", e))
    }

    /// Removes a generation and its checkpoints.
    pub(super) fn clear_generation(&self, generation: u64) -> Result<(), StoreError> {
        for path in [self.generation(generation), self.checkpoints_of(generation)] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(self.storage("clear", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every other generation.
    pub(super) fn clear_all_but(&self, kept: u64) -> Result<(), StoreError> {
        let names = fs::read_dir(&self.directory).map_err(|e| self.storage("list", e))?;
        for name in names {
            let name = name.map_err(|e| self.storage("list", e))?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(generation) = generation_of(name.trim_end_matches(".at")).filter(|found| *found != kept) {
                self.clear_generation(generation)?;
            }
        }
        Ok(())
    }

    /// Where a checkpoint before an epoch is to be made.
    pub(super) fn checkpoint(&self, generation: u64, next_epoch: i64) -> Result<PathBuf, StoreError> {
        let directory = self.checkpoints_of(generation);
        fs::create_dir_all(&directory).map_err(|e| self.storage("create", e))?;
        Ok(directory.join(next_epoch.to_string()))
    }

    /// The checkpoints of a generation with the first epoch that each does not hold.
    pub(super) fn checkpoints(&self, generation: u64) -> Result<Vec<(i64, PathBuf)>, StoreError> {
        let directory = match fs::read_dir(self.checkpoints_of(generation)) {
            Ok(directory) => directory,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.storage("list", error)),
        };
        let mut found = Vec::new();
        for entry in directory {
            let entry = entry.map_err(|e| self.storage("list", e))?;
            // What RocksDB has not finished carries another name and is passed over.
            if let Some(next_epoch) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((next_epoch, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }
}

fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix("gen-")?.parse().ok()
}
