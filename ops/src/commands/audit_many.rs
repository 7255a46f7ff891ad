//! Several logs audited at once: a cell is a log of its own, and an audit of one needs nothing of the others.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Args;

use crate::failure::Failure;
use crate::world::Source;

/// Most audits at once, whatever the machine has.
const THREADS_MAX: usize = 64;

/// The logs to read, each of one cell.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Sources {
    /// Directory of a world; again for more of them.
    #[arg(long, value_name = "DIR")]
    log: Vec<PathBuf>,
    /// An archive; again for more of them.
    #[arg(long, value_name = "DIR")]
    archive: Vec<PathBuf>,
}

impl Sources {
    /// One by one, worlds first, in the order in which they were named.
    pub fn each(&self) -> Vec<Source> {
        let logs = self.log.iter().map(|dir| Source { log: Some(dir.clone()), archive: None });
        logs.chain(self.archive.iter().map(|dir| Source { log: None, archive: Some(dir.clone()) })).collect()
    }
}

/// What a log is called where several are told of.
pub fn name(source: &Source) -> String {
    source.log.as_ref().or(source.archive.as_ref()).map_or_else(String::new, |dir| dir.display().to_string())
}

/// What `audit` says of each source, in their order; so many at once.
pub fn at_once<T: Send>(
    sources: &[Source],
    threads: usize,
    audit: impl Fn(&Source) -> Result<T, Failure> + Sync,
) -> Vec<Result<T, Failure>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, THREADS_MAX).min(sources.len()) {
            scope.spawn(|| {
                while let Some((place, source)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    sources.get(place).map(|source| (place, source))
                } {
                    let said = audit(source);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, said));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, said)| said).collect()
}

/// So many at once unless somebody says otherwise: one for each core.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
