//! A world in a directory of its own, and the binary at work on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use solyx_connectors::log::embedded::EmbeddedLog;
use solyx_schemas::log::Log;

/// The binary that is tested.
pub const SOLYX: &str = env!("CARGO_BIN_EXE_solyx");

/// The folder of what comes with the project: fleets and the excerpt of real data.
pub fn ops(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// What a command said and how it ended.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
    command: String,
}

impl Said {
    fn of(command: String, output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let Output { status, stdout, stderr } = output;
        let said = Self { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr), command };
        // Nothing that a command goes through here is worth a warning; what is wrong is said as its result.
        let loud = |line: &str| ["WARN", "ERROR", "panicked"].iter().any(|word| line.contains(word));
        assert!(!said.err.lines().any(loud), "{said}");
        said
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Everything in `texts` stands in what it said, on stdout or stderr.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text) || self.err.contains(text), "it does not say {text:?}: {self}");
        }
        self
    }

    /// It failed with an error of three parts that names all of `texts`.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Self {
        for part in ["error: ", "\n  detail: ", "\n  hint: "] {
            assert!(self.err.contains(part), "no {part:?}: {self}");
        }
        self.ends(code).says(texts)
    }

    /// Its last line as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, out, err, command } = self;
        write!(f, "\n{command}\nended {code}\n--- stdout\n{out}--- stderr\n{err}")
    }
}

/// A world, and files beside it.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// With nothing in it.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The hybrid fleet with so many jobs of the excerpt and the prices of their month, staged.
    pub fn hybrid(jobs: u64) -> Self {
        let world = Self::empty();
        world.stage_hybrid(&world.log(), jobs);
        world
    }

    /// The same, staged in another directory.
    pub fn stage_hybrid(&self, log: &Path, jobs: u64) {
        let log = log.to_str().unwrap();
        let (prices, carbon) = (ops("data/price_usd_per_mwh_2023.csv.gz"), ops("data/carbon_g_per_kwh_2023.csv.gz"));
        solyx(&["publish", &ops("fleets/hybrid.toml"), "--staged", "--log", log]).ends(0);
        let energy = ["import", "energy", "--prices", &prices, "--carbon", &carbon, "--log", log];
        solyx(&[&energy[..], &["--from", "2023-09-01", "--to", "2023-10-01"]].concat()).ends(0);
        let (file, jobs) = (ops("data/philly_jobs.csv.gz"), jobs.to_string());
        let philly = ["import", "philly", "--jobs", &file, "--shift-to", "2023-09-04", "--limit", &jobs, "--log", log];
        solyx(&philly).ends(0);
    }

    /// A path beside the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory that `--log` names.
    pub fn log(&self) -> PathBuf {
        self.path("world")
    }

    /// A file beside the world.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// The binary with these arguments and `--log` of this world.
    pub fn solyx(&self, args: &[&str]) -> Said {
        let log = self.log();
        solyx(&[args, &["--log", log.to_str().unwrap()]].concat())
    }

    /// A virtual run until idle, which must end well; its report.
    pub fn run(&self) -> Value {
        self.solyx(&["run", "--virtual", "--until-idle", "--json"]).ends(0).json()
    }

    /// An audit, which must agree.
    pub fn audit(&self) -> Value {
        let report = self.solyx(&["audit", "--json"]).ends(0).json();
        assert_eq!(report["ok"], true, "{report}");
        report
    }

    /// The log itself, to be read.
    pub fn read(&self) -> Arc<dyn Log> {
        EmbeddedLog::open_read_only(&self.log().join("log")).unwrap()
    }
}

/// The binary with these arguments.
pub fn solyx(args: &[&str]) -> Said {
    let output = Command::new(SOLYX).args(args).stdin(Stdio::null()).output().unwrap();
    Said::of(args.join(" "), output)
}

/// The binary with these arguments, given a text to read.
pub fn solyx_reads(args: &[&str], text: &str) -> Said {
    let mut command = Command::new(SOLYX);
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = piped.spawn().unwrap();
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Said::of(args.join(" "), process.wait_with_output().unwrap())
}

/// A shell command that runs the binary as `"$SOLYX"`.
pub fn shell(script: &str) -> Said {
    let output = Command::new("sh").args(["-c", script]).env("SOLYX", SOLYX).stdin(Stdio::null()).output().unwrap();
    Said::of(script.to_owned(), output)
}
