//! Importers: traces and feeds as somebody wrote them, gzipped or not.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use solyx_connectors::import::{Options, Source, import};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::EVENT_TYPES;
use solyx_schemas::json;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Scan};
use solyx_schemas::topics::{Topic, TopicName};

use super::{file, is_whole, said};
use crate::{Outcome, Target, holds};

/// A target that imports a file of its own.
macro_rules! imported {
    ($name:literal, $takes:literal, $seed:expr, $source:expr) => {
        Target {
            name: $name,
            takes: $takes,
            seeds: || seeds($seed),
            words: WORDS,
            run: |input| {
                let source: fn(PathBuf) -> Source = $source;
                taken(&source(file(concat!($name, ".in"), input)))
            },
        }
    };
}

pub fn targets() -> Vec<Target> {
    vec![
        imported!("openb-nodes", "openb: nodes", NODES, |nodes| Source::Openb {
            nodes,
            pods: file("pods.csv", PODS.as_bytes())
        }),
        imported!("openb-pods", "openb: pods", PODS, |pods| Source::Openb {
            nodes: file("nodes.csv", NODES.as_bytes()),
            pods
        }),
        imported!("philly", "philly: jobs", PHILLY, |jobs| Source::Philly { jobs }),
        imported!("prices", "energy: prices", ENERGY, |file| Source::Energy { prices: Some(file), carbon: None }),
        imported!("carbon", "energy: carbon", ENERGY, |file| Source::Energy { prices: None, carbon: Some(file) }),
        imported!("gaia", "gaia: jobs", GAIA, |jobs| Source::Gaia { jobs, hours: true }),
        imported!("sia", "sia: jobs", SIA, |jobs| Source::Sia { jobs }),
        imported!("llm", "llm: requests", LLM, |requests| Source::Llm { requests }),
        imported!("offers", "offers: a catalog", OFFERS, |catalog| Source::Offers { catalog }),
        imported!("rtt", "network: round-trip times", RTT, |rtt| Source::Network {
            rtt: Some(rtt),
            throughput: Some(file("gbps.csv", GBPS.as_bytes())),
            egress: None
        }),
        imported!("throughput", "network: throughput", GBPS, |gbps| Source::Network {
            rtt: Some(file("rtt.csv", RTT.as_bytes())),
            throughput: Some(gbps),
            egress: None
        }),
        imported!("egress", "network: prices of traffic", EGRESS, |egress| Source::Network {
            rtt: None,
            throughput: None,
            egress: Some(egress)
        }),
        imported!("spot", "spot: availability", SPOT, |file| Source::Spot {
            file,
            pool: "aws/spot".to_owned(),
            instances_each: 3
        }),
        imported!("csv", "csv: a table", TABLE, |table| Source::Csv {
            file: table,
            mapping: file("mapping.toml", MAPPING.as_bytes())
        }),
        imported!("mapping", "csv: a mapping", MAPPING, |mapping| Source::Csv {
            file: file("table.csv", TABLE.as_bytes()),
            mapping
        }),
        Target {
            name: "jsonl",
            takes: "jsonl: events",
            seeds: jsonl,
            words: WORDS,
            run: |input| taken(&Source::Jsonl { file: file("events.jsonl", input) }),
        },
    ]
}

const WORDS: &[&str] = &[
    "gpu",
    "2023-11-16 18:15:46.6805900",
    "1e300",
    "\"",
    "\"\"",
    "occurred_us",
    "event_id",
    "decimal",
    "time",
    "integer",
    "{row}",
    "{",
    "}",
    "[0]",
    ".0.",
    "Running",
    "Failed",
    "Succeeded",
    "PREMIUM",
    "gap_seconds",
    "BE",
    "cifar10",
];
pub(super) const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nopenb-node-0000,64000,262144,2,P100\nopenb-node-0001,94000,262144,0,\nopenb-node-0002,96000,393216,8,G2\n";
pub(super) const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n\
    openb-pod-0000,12000,16384,1,1000,,LS,Running,0,12537496,0.0\nopenb-pod-0001,6000,12288,1,460,G2|P100,BE,Failed,427061,626067,427061.0\n";
const PHILLY: &str = "timestamp,duration,num_gpus,gpu_time,cluster\n2017-09-04 00:00:01,100.5,8,804,6214e9\n2017-10-04 13:00:59,3.25,1,3.25,ee9e8c\n";
const ENERGY: &str = "hour_utc,DE-LU,US-CAL-CISO\n2023-01-01T00:00:00Z,-5.17,121.4\n2023-01-01T01:00:00Z,,0.0\n2023-01-01T02:00:00Z,3,4\n";
const GAIA: &str = "arrival_time,length,cpus\n0.0,25.5,1\n1.5,2,4\n";
const SIA: &str = "name,time,application,num_replicas,batch_size\na,401.0,cifar10,12,4096\nb,1,bert,1,1\n";
const LLM: &str =
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,8000,1000\n2023-11-16 18:17:50.1,0,5000\n";
const OFFERS: &str = "provider,instance_type,gpu,gpu_count,vcpus,memory_gib,gpu_memory_mib_each,price_usd_per_hour,spot_usd_per_hour,region\n\
    aws,p4d.24xlarge,A100,8,96,1152,40960,32.7726,9.83,us-east-1\nlambda,gpu_1x_h100,H100,1,26,200,81920,2.49,,europe-central-1\n";
const RTT: &str = "src_region,dst_region,src_tier,dst_tier,min_rtt_ms,avg_rtt_ms,max_rtt_ms\na:x,a:y,PREMIUM,PREMIUM,1,248.7805,3\na:y,a:x,PREMIUM,STANDARD,1,2,3\n";
const GBPS: &str = "src_region,dst_region,src_tier,dst_tier,gbps_64conn\na:x,a:y,PREMIUM,PREMIUM,5.0528\n";
const EGRESS: &str = "src_region,dst_region,src_tier,dst_tier,usd_per_gb\na:x,a:y,PREMIUM,PREMIUM,0.147\n";
const SPOT: &str = "{\"metadata\": {\"gap_seconds\": 600}, \"data\": [1, 0, 4, 4, 2]}";
const TABLE: &str = "submitted,user,gpus,hours,model\n2024-01-01 00:00:00,ann,2,1.5,H100\n2024-01-02,bob,1,,H100\n";
const MAPPING: &str = "event = \"JobRequested\"\n[columns.submitted]\nfield = \"occurred_us\"\nas = \"time\"\n[columns.hours]\nfield = \"expected_work_us\"\n\
    as = \"decimal\"\nmultiplier = 3600000000\noptional = true\n[columns.gpus]\nfield = \"gang.gpus\"\nas = \"integer\"\n[columns.model]\nfield = \"models.0.model\"\n\
    [columns.user]\nfield = \"tenant\"\n[constants]\nevent_id = \"mine/{row}\"\nsource = \"import/mine\"\njob = \"mine/{user}/{row}\"\nclass = \"standard\"\n\
    kind = \"TRAINING\"\npreemptible = false\nattestation_required = false\nhold = false\n\"models.0.speed_milli\" = 1000\n\"gang.replicas_min\" = 1\n\
    \"gang.replicas_max\" = 1\n\"gang.gpu_milli_each\" = 1000\n\"gang.cpu_milli\" = 1000\n\"gang.memory_mib\" = 1024\n\"gang.exclusive_node\" = false\n";

/// A file, and the same gzipped.
fn seeds(text: &str) -> Vec<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).expect("memory takes it");
    vec![text.as_bytes().to_vec(), gzip.finish().expect("memory takes it")]
}

fn jsonl() -> Vec<Vec<u8>> {
    let of = |name: &str| {
        EVENT_TYPES
            .iter()
            .find(|kind| kind.short_name() == name)
            .map(|kind| json::to_json(&(kind.example)()).to_string())
    };
    let lines: Vec<String> =
        ["JobRequested", "EnergyPriced", "WorkScripted", "JobPlaced"].into_iter().filter_map(of).collect();
    seeds(&lines.join("\n"))
}

/// Imported whole; all that was written is valid, and each bad row says what was expected.
fn taken(source: &Source) -> Outcome {
    let log = MemoryLog::new();
    let options = Options { stretch: 2, limit: Some(10_000), ..Options::default() };
    let summary = match import(source, &options, &log, &mut |_| {}) {
        Ok(summary) => summary,
        Err(error) => return said(error),
    };
    let mut written = 0;
    for topic in Topic::INPUTS.into_iter().map(TopicName::staged).chain([TopicName::live(Topic::Sim)]) {
        for partition in 0..log.partitions(topic) {
            for stored in Scan::new(&log, topic, partition, 0) {
                let record = stored.map_err(|error| error.to_string())?.record;
                let decoded = Codec::global()
                    .decode_record(&record)
                    .map_err(|error| format!("what was written does not decode: {error}"))?;
                decoded
                    .event
                    .check()
                    .map_err(|error| format!("{} was written and is not valid: {error}", decoded.event.name()))?;
                is_whole(&decoded.event)?;
                written += 1;
            }
        }
    }
    holds!(written == summary.events, "{written} events were written, {} are counted", summary.events);
    let silent = summary.bad_rows.iter().find(|bad| bad.expected.trim().is_empty());
    holds!(silent.is_none(), "a bad row does not say what was expected: {silent:?}");
    let bad = summary.bad_rows.first().map(|bad| format!("{}: {}", bad.field, bad.expected)).unwrap_or_default();
    let cut = summary.truncated.first().map(|_| "cut").unwrap_or_default();
    Ok(format!("{} of {} {bad} {cut}", summary.events.min(3), summary.rows.min(3)))
}
