//! How a command ends: exit codes, and errors in three parts.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use solyx_runtime::Backoff;
use solyx_schemas::log::{LogError, LogErrorKind};

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Good = 0,
    /// The command did its work and found something that somebody should look at.
    Finding = 1,
    /// The command line or a file's content is wrong.
    Usage = 2,
    /// The machine, the disk or the log is not as it has to be.
    Environment = 3,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// What happened.
    pub what: String,
    /// Detail.
    pub detail: String,
    /// The way out.
    pub hint: String,
    /// Whether it may go away by itself.
    pub passing: bool,
}

/// What a command comes to.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Wrong use.
    pub fn usage(what: impl Into<String>, detail: impl ToString, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), detail: detail.to_string(), hint: hint.into(), passing: false }
    }

    /// A machine, disk or log that is not as it has to be.
    pub fn environment(what: impl Into<String>, detail: impl ToString, hint: impl Into<String>) -> Self {
        Self {
            exit: Exit::Environment,
            what: what.into(),
            detail: detail.to_string(),
            hint: hint.into(),
            passing: false,
        }
    }

    /// A finding that ends the command.
    pub fn finding(what: impl Into<String>, detail: impl ToString, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Finding, what: what.into(), detail: detail.to_string(), hint: hint.into(), passing: false }
    }

    /// Writes it to stderr.
    pub fn report(&self, json: bool) {
        if json {
            let error = serde_json::json!({
                "error": {"what": self.what, "detail": self.detail, "hint": self.hint, "exit": self.exit as u8},
            });
            eprintln!("{error}");
        } else {
            let [what, detail, hint] = [&self.what, &self.detail, &self.hint].map(|text| harmless(text));
            eprintln!("error: {what}\n  detail: {detail}\n  hint: {hint}");
        }
    }
}

/// The same on one line: what somebody else wrote cannot look like a line of ours.
pub fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

/// A text with nothing in it that a terminal obeys: what is quoted may come from anybody.
pub fn harmless(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() && c != '\n' && c != '\t' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// A file that cannot be written.
pub fn unwritable(path: &Path, error: impl ToString) -> Failure {
    Failure::environment(format!("cannot write {}", path.display()), error, "check the path and the disk")
}

/// Looks whether a file can be written, before the work whose outcome it is for. One that is there stays as it is.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    let was_there = path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|e| unwritable(path, e))?;
    if was_there { Ok(()) } else { std::fs::remove_file(path).map_err(|e| unwritable(path, e)) }
}

impl From<LogError> for Failure {
    fn from(e: LogError) -> Self {
        let passing = matches!(e.kind, LogErrorKind::Retry | LogErrorKind::Restart);
        Self { passing, ..Self::environment(e.what, e.detail, e.hint) }
    }
}

/// Does it again while it fails in passing, after growing pauses, until it is told to stop.
pub fn patiently<T>(stop: &AtomicBool, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut backoff = Backoff::new(stop);
    loop {
        match attempt() {
            Err(failure) if failure.passing && !stop.load(Ordering::Relaxed) => {
                let pause_ms = backoff.pause_ms();
                tracing::warn!(what = failure.what, detail = failure.detail, pause_ms, "it is tried again");
                backoff.sleep();
            }
            done => return done,
        }
    }
}

/// A failure to open or read a file that the user named.
pub fn unreadable(path: &std::path::Path, error: std::io::Error) -> Failure {
    let what = format!("cannot read {}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(what, error, "check the path"),
        std::io::ErrorKind::IsADirectory => Failure::usage(what, error, "name a file"),
        _ => Failure::environment(what, error, "check the permissions and the disk"),
    }
}
