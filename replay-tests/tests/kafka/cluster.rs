//! A real broker for the tests of this file: started once, stopped when the process ends, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use solyx_connectors::log::kafka::{self, KafkaConfig, KafkaLog, KafkaOptions};

use crate::forwarder::Forwarder;

/// The broker, behind a forwarder that can be told to break connections.
pub struct Cluster {
    dir: PathBuf,
    direct: KafkaConfig,
    through: KafkaConfig,
    pub forwarder: Forwarder,
    /// Its end lets `sh` stop the broker: the pipe closes with this process.
    _guard: Child,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static TURN: Mutex<()> = Mutex::new(());

/// The cluster, for one test at a time: some of them stop it.
pub fn cluster() -> (&'static Cluster, MutexGuard<'static, ()>) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = CLUSTER.get_or_init(Cluster::start);
    cluster.forwarder.heal();
    (cluster, turn)
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/kafka")
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("solyx-kafka-").tempdir().unwrap().keep();
        let stop =
            format!("cat > /dev/null; {} down --wipe --dir {} > /dev/null 2>&1", script().display(), dir.display());
        // In a session of its own, so that Ctrl-C on the tests leaves it alive to do its work.
        let guard = Command::new("setsid").args(["sh", "-c", &stop]).stdin(Stdio::piped()).spawn().unwrap();
        let up = Command::new(script()).args(["up", "--brokers", "1", "--through", "test", "--dir"]).arg(&dir).output();
        let up = up.unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let load = |file: &str| KafkaConfig::load(&dir.join(file)).unwrap();
        let (direct, through) = (load("kafka.toml"), load("through/test.toml"));
        let ports = std::fs::read_to_string(dir.join("through/test.ports")).unwrap();
        let ports: Vec<u16> = ports.split_whitespace().map(|port| port.parse().unwrap()).collect();
        let forwarder = Forwarder::start(ports[0], ports[1]);
        Self { dir, direct, through, forwarder, _guard: guard }
    }

    /// A cell of its own on the cluster, with its topics.
    pub fn cell(&self) -> Cell {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let of = |config: &KafkaConfig| KafkaConfig {
            prefix: prefix.clone(),
            transaction_timeout_ms: 3_000,
            ..config.clone()
        };
        let cell = Cell { direct: of(&self.direct), through: of(&self.through) };
        let applied = kafka::apply(&cell.direct, &Default::default()).unwrap();
        assert!(applied.differences.is_empty(), "{applied:?}");
        cell
    }

    /// `ops/kafka` with these words.
    pub fn broker(&self, command: &str) {
        let done = Command::new(script()).args([command, "1", "--dir"]).arg(&self.dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Topics of one test.
pub struct Cell {
    pub direct: KafkaConfig,
    pub through: KafkaConfig,
}

impl Cell {
    /// Its log, as somebody reaches it whom nothing disturbs.
    pub fn log(&self) -> Arc<KafkaLog> {
        KafkaLog::open(KafkaOptions::new(self.direct.clone(), None).unwrap()).unwrap()
    }

    /// Its log through the forwarder.
    pub fn disturbed(&self) -> Arc<KafkaLog> {
        KafkaLog::open(KafkaOptions::new(self.through.clone(), None).unwrap()).unwrap()
    }
}
