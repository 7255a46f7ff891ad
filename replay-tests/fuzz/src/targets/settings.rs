//! Files by which operators say what there is: fleets, and how a cluster and a registry are reached.

use solyx_connectors::fleet;
use solyx_connectors::log::kafka::KafkaConfig;
use solyx_connectors::registry::{Registry, RegistryConfig};

use super::{file, is_whole, said};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target { name: "fleet", takes: "a fleet file", seeds: fleets, words: TOML, run: load },
        Target {
            name: "cluster",
            takes: "how a cluster of Kafka is reached",
            seeds: clusters,
            words: CLUSTER,
            run: connection,
        },
    ]
}

const TOML: &[&str] = &[
    "[[nodes]]",
    "[[pools]]",
    "[[sites]]",
    "[policy]",
    "count = ",
    "racks = ",
    "= ",
    "true",
    "[]",
    "\"\"",
    "nan",
    "inf",
    "0x7fffffffffffffff",
    "1979-05-27T07:32:00Z",
    "{n}",
    "{rack}",
    "{leaf}",
    "1_000",
    "-1",
];
const CLUSTER: &[&str] = &[
    "[security]",
    "protocol = ",
    "\"SASL_SSL\"",
    "\"SSL\"",
    "mechanism = ",
    "\"PLAIN\"",
    "[registry]",
    "url = ",
    "prefix = ",
    "replication = ",
    "https://",
    "@",
];

fn fleets() -> Vec<Vec<u8>> {
    [
        include_bytes!("../../../../ops/fleets/hybrid.toml").to_vec(),
        include_bytes!("../../../../ops/fleets/software-only.toml").to_vec(),
        include_bytes!("../../../../ops/fleets/live.toml").to_vec(),
        include_bytes!("../../../../ops/fleets/metapods.toml").to_vec(),
    ]
    .to_vec()
}

/// What a fleet file becomes is valid, and an error names a place and what was expected there.
fn load(input: &[u8]) -> Outcome {
    match fleet::parse("fleet.toml", &String::from_utf8_lossy(input), None) {
        Ok(events) => {
            for event in &events {
                event
                    .check()
                    .map_err(|error| format!("{} comes of a fleet and is not valid: {error}", event.name()))?;
                is_whole(event)?;
            }
            Ok("a fleet".to_owned())
        }
        Err(error) => {
            holds!(
                !error.place.trim().is_empty() && !error.expected.trim().is_empty(),
                "an error that does not say where or what: {error:?}"
            );
            said(format!("{}: {}", error.place, error.expected))
        }
    }
}

fn clusters() -> Vec<Vec<u8>> {
    let plain = "bootstrap = \"localhost:9092\"\nprefix = \"solyx\"\nreplication = 3\nmin_insync_replicas = 2\ntransaction_timeout_ms = 10000\n";
    let registry = "\n[registry]\nurl = \"http://localhost:8081\"\nregister = true\n";
    let secure = "\n[security]\nprotocol = \"SASL_SSL\"\nmechanism = \"SCRAM-SHA-512\"\nusername = \"solyx\"\npassword_env = \"PASSWORD\"\nca_file = \"ca.pem\"\n";
    vec![plain.into(), format!("{plain}{registry}").into_bytes(), format!("{plain}{secure}{registry}").into_bytes()]
}

fn connection(input: &[u8]) -> Outcome {
    let file = file("cluster.toml", input);
    let cluster = KafkaConfig::load(&file).map_or_else(said, |_| Ok("a cluster".to_owned()))?;
    let registry = RegistryConfig::read(&file).and_then(|config| Registry::open(&config));
    let registry = registry.map_or_else(said, |_| Ok("a registry".to_owned()))?;
    Ok(format!("{cluster} {registry}"))
}
