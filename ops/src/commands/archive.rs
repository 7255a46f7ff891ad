//! `solyx archive`: a log as one self-contained set of files, and back.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;
use solyx_connectors::log::archive::{self, ArchiveLog};

use crate::failure::{Exit, Outcome};
use crate::{output, progress, world};

/// Write, read back and verify archives.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx archive export --log world --archive world-archive\n  \
                        solyx archive verify --archive world-archive\n  \
                        solyx archive import --archive world-archive --log another")]
pub struct Archive {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write all that a log holds into a new archive.
    Export(Both),
    /// Bring an archive into a log that is empty or holds its beginning.
    Import(Both),
    /// Look at every byte of an archive.
    Verify {
        /// The archive.
        #[arg(long, value_name = "DIR")]
        archive: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Both {
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// The archive.
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
}

/// Runs it.
pub fn run(command: &Archive, json: bool) -> Outcome {
    let bar = progress::bar(0, "records", json);
    let tell = follow(&bar);
    match &command.what {
        What::Export(Both { log, archive }) => {
            let log = world::reader(log)?;
            let done = archive::export(&*log, archive, &tell)?;
            let text = format!("{} records in {} files, {} bytes", done.records, done.files, done.bytes);
            say(&bar, &done, &format!("{text}\nmanifest {}", done.manifest_sha256), json);
        }
        What::Import(Both { log, archive }) => {
            let partitions = Some(ArchiveLog::open(archive)?.partition_counts());
            let log = world::writer_with(log, false, partitions)?;
            let done = archive::import(archive, &*log, &tell)?;
            say(&bar, &done, &format!("{} records written, {} were there", done.records, done.present), json);
        }
        What::Verify { archive } => {
            let found = archive::verify(archive, &tell)?;
            let mut text = format!(
                "{}: {} records in {} files",
                if found.ok { "good" } else { "damaged" },
                found.records,
                found.files
            );
            for problem in &found.problems {
                text += &format!("\n{}: {}", problem.file, problem.what);
            }
            say(&bar, &found, &text, json);
            return Ok(if found.ok { Exit::Good } else { Exit::Finding });
        }
    }
    Ok(Exit::Good)
}

/// Shows how far a copy is.
pub fn follow(bar: &ProgressBar) -> impl Fn(u64, u64) + Sync + use<> {
    let bar = bar.clone();
    move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

fn say(bar: &ProgressBar, done: &impl Serialize, text: &str, json: bool) {
    bar.finish_and_clear();
    if json { output::json(done) } else { output::line(text) }
}
