//! A build, or this one with a set of features, asked by `solyx derive` what it decides.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::commands::derive::FORMAT;
use crate::failure::Failure;

/// The longest line that a build may say, in bytes.
const LINE_LEN_MAX: u64 = 256 << 20;
/// Characters of what a build said on stderr that an error quotes.
const QUOTED_MAX: usize = 600;

/// One of the two that are compared.
#[derive(Clone, Debug)]
pub struct Build {
    /// How it is called in what is told.
    pub name: String,
    /// The binary.
    pub binary: PathBuf,
    /// What `solyx derive` is given beside what is asked: the log, features.
    pub args: Vec<String>,
}

/// A build at work.
pub struct Asked {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: File,
    /// The first line that it said.
    pub head: Value,
}

impl Build {
    /// Starts it, and reads the line that says which build it is.
    pub fn ask(&self, more: &[&str]) -> Result<Asked, Failure> {
        let unusable = |detail: String| {
            let hint =
                "name the binary of a version that has `solyx derive`, built from the same sources or later ones";
            Failure::usage(format!("{} cannot be compared", self.binary.display()), detail, hint)
        };
        let temporary = |e: std::io::Error| {
            Failure::environment("no temporary file", e, "set TMPDIR to a directory that can be written")
        };
        let stderr = tempfile::tempfile().map_err(temporary)?;
        let mut command = Command::new(&self.binary);
        command.arg("derive").args(&self.args).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr.try_clone().map_err(temporary)?);
        let mut child = command.spawn().map_err(|e| unusable(format!("it does not start: {e}")))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| unusable("it has no output".to_owned()))?;
        let mut asked =
            Asked { name: self.name.clone(), child, stdin, stdout: BufReader::new(stdout), stderr, head: Value::Null };
        match asked.line() {
            Ok(Some(head)) if head["format"] == FORMAT => asked.head = head,
            Ok(Some(head)) => {
                return Err(unusable(format!("it says format {}, this build reads {FORMAT}", head["format"])));
            }
            Ok(None) => return Err(unusable("it says nothing".to_owned())),
            Err(failure) if failure.detail.contains("unrecognized subcommand") => {
                return Err(unusable(format!("{} has no `solyx derive`", self.version())));
            }
            Err(failure) => return Err(failure),
        }
        Ok(asked)
    }

    /// What it says of its version.
    fn version(&self) -> String {
        let said = Command::new(&self.binary).arg("--version").stdin(Stdio::null()).output();
        let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        if said.is_empty() { self.binary.display().to_string() } else { said }
    }
}

impl Asked {
    /// Its next line; none when it has ended well.
    pub fn line(&mut self) -> Result<Option<Value>, Failure> {
        let mut text = String::new();
        let read = (&mut self.stdout).take(LINE_LEN_MAX).read_line(&mut text);
        let odd = |detail: String| {
            Failure::environment(
                format!("{} says what is no line of `solyx derive`", self.name),
                detail,
                "run `solyx derive` of it alone",
            )
        };
        match read {
            Ok(0) => {}
            Ok(_) => return serde_json::from_str(&text).map(Some).map_err(|e| odd(e.to_string())),
            Err(e) => return Err(odd(e.to_string())),
        }
        let status = self.child.wait().map_err(|e| odd(e.to_string()))?;
        if status.success() {
            return Ok(None);
        }
        let mut said = String::new();
        let read = self.stderr.seek(SeekFrom::Start(0)).and_then(|_| self.stderr.read_to_string(&mut said));
        let said: String = read.map_or_else(|e| e.to_string(), |_| said.trim().chars().take(QUOTED_MAX).collect());
        Err(Failure::environment(format!("{} ended with {status}", self.name), said, "run `solyx derive` of it alone"))
    }

    /// Asks for an id and reads the answer.
    pub fn about(&mut self, id: &str) -> Result<Value, Failure> {
        if let Some(stdin) = &mut self.stdin
            && let Err(e) = writeln!(stdin, "{id}").and_then(|()| stdin.flush())
        {
            return Err(Failure::environment(
                format!("{} does not listen", self.name),
                e,
                "run `solyx derive` of it alone",
            ));
        }
        Ok(self.line()?.unwrap_or_default())
    }
}

impl Drop for Asked {
    /// Whoever has heard enough ends it.
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
