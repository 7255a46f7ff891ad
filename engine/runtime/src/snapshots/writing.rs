//! A snapshot on its way to disk: its entries are taken from the kernel in small pieces between epochs, and a thread hashes
//! and writes them.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use solyx_kernel::Kernel;
use solyx_schemas::epochs::Frontier;

use super::MAGIC;

/// Bytes of entries taken at once: a fraction of a millisecond's work.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that may wait for the disk.
const PIECES_MAX: usize = 128;

/// What the thread is given.
enum Piece {
    Bytes(Vec<u8>),
    /// That was all. Without it the file is given up.
    End,
}

/// Where a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Entries are still to come, or the disk is still at work.
    Underway,
    /// It is on disk.
    Done,
}

/// A snapshot that is being written.
pub(super) struct Writing {
    /// The next epoch, of the state that is written.
    pub next_epoch: i64,
    /// Time that it has taken from its kernel.
    pub spent: Duration,
    pieces: Option<SyncSender<Piece>>,
    /// What the thread had no room for.
    unsent: Option<Piece>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Writing {
    /// Begins one of the state as it is now.
    pub fn begin(file: PathBuf, kernel: &mut Kernel, frontier: &Frontier) -> io::Result<Self> {
        let begun = Instant::now();
        let (head, entries) = kernel.begin_snapshot();
        // What a frontier and a snapshot of so many entries begin with.
        let first = postcard::to_stdvec(&(frontier, head, entries)).map_err(io::Error::other)?;
        let (pieces, received) = sync_channel(PIECES_MAX);
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || write(&received, &file))?;
        Ok(Self {
            next_epoch: frontier.next_epoch,
            spent: begun.elapsed(),
            pieces: Some(pieces),
            unsent: Some(Piece::Bytes(first)),
            thread: Some(thread),
        })
    }

    /// Takes entries from the kernel for some time, or until all is on disk.
    pub fn advance(&mut self, kernel: &mut Kernel, time: Option<Duration>) -> io::Result<Progress> {
        let begun = Instant::now();
        while let Some(pieces) = &self.pieces {
            let piece = match self.unsent.take() {
                Some(piece) => piece,
                None => next_piece(kernel)?,
            };
            let is_last = matches!(piece, Piece::End);
            // A thread that takes nothing any more has failed, and says how when it is joined.
            let gone = match time {
                None => pieces.send(piece).is_err(),
                Some(_) => match pieces.try_send(piece) {
                    Ok(()) => false,
                    Err(TrySendError::Disconnected(_)) => true,
                    Err(TrySendError::Full(piece)) => {
                        self.unsent = Some(piece);
                        break;
                    }
                },
            };
            if is_last || gone {
                self.pieces = None;
            }
            if time.is_some_and(|time| begun.elapsed() >= time) {
                break;
            }
        }
        self.spent += begun.elapsed();
        let over = self.pieces.is_none() && self.thread.as_ref().is_none_or(|t| time.is_none() || t.is_finished());
        if !over {
            return Ok(Progress::Underway);
        }
        self.join().map(|()| Progress::Done)
    }

    fn join(&mut self) -> io::Result<()> {
        let died = |_| Err(io::Error::other("the thread that writes died"));
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or_else(died))
    }
}

impl Drop for Writing {
    /// What is not whole is given up, before anybody else writes a file of this name.
    fn drop(&mut self) {
        self.pieces = None;
        if let Err(error) = self.join() {
            tracing::debug!(%error, "a snapshot was given up");
        }
    }
}

fn next_piece(kernel: &mut Kernel) -> io::Result<Piece> {
    let entries = kernel.next_entries(PIECE_BYTES);
    if entries.is_empty() {
        return Ok(Piece::End);
    }
    let mut bytes = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
    for entry in &entries {
        bytes = postcard::to_extend(entry, bytes).map_err(io::Error::other)?;
    }
    Ok(Piece::Bytes(bytes))
}

/// Writes what comes beside the file, and puts it in its place once it is whole and durable.
fn write(pieces: &Receiver<Piece>, file: &Path) -> io::Result<()> {
    let unfinished = file.with_extension(super::UNFINISHED);
    let mut out = File::create(&unfinished)?;
    let mut hasher = blake3::Hasher::new();
    out.write_all(MAGIC)?;
    out.write_all(hasher.finalize().as_bytes())?;
    loop {
        match pieces.recv() {
            Ok(Piece::Bytes(bytes)) => {
                hasher.update(&bytes);
                out.write_all(&bytes)?;
            }
            Ok(Piece::End) => break,
            Err(_) => return fs::remove_file(&unfinished),
        }
    }
    out.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    out.write_all(hasher.finalize().as_bytes())?;
    out.sync_all()?;
    fs::rename(unfinished, file)?;
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
