//! What experiments read: the arrivals and the pods of a published trace, and variations of a recorded log.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use solyx_connectors::backtest::departures::{self, Setting};
use solyx_connectors::backtest::openb;
use solyx_connectors::backtest::packing::{Frequencies, packing_backtest};
use solyx_connectors::rerun::{Recording, Variation, changes, stage};
use solyx_kernel::packing::Rule;
use solyx_schemas::codec::Codec;
use solyx_schemas::log::memory::MemoryLog;

use super::imports::{NODES, PODS};
use super::signed::SIGNED;
use super::{file, is_whole, own_words};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target {
            name: "arrivals",
            takes: "packing: the order of arrivals",
            seeds: orders,
            words: &["42", "N42", "\n42 ", "\nN42 ", "18446744073709551615"],
            run: arrivals,
        },
        Target {
            name: "stays",
            takes: "packing: pods with their times",
            seeds: stays,
            words: &["V100M32|", "||"],
            run: stay,
        },
        Target {
            name: "variation",
            takes: "what is otherwise in a backtest",
            seeds: variations,
            words: VARIATION,
            run: variation,
        },
    ]
}

const SEED: u64 = 42;
const VARIATION: &[&str] = &[
    "[policy]",
    "[weights]",
    "[executor]",
    "[[pools]]",
    "[[nodes]]",
    "[[rates]]",
    "[[energy]]",
    "baseline = ",
    "fleet = ",
    "planner = ",
    "\"cheapest-region\"",
    "\"lowest-carbon\"",
    "price_factor = ",
    "factor = ",
    "keep = ",
    "\"*\"",
    "nan",
    "inf",
    "true",
    "\"0.000001\"",
    "9223372036854775807",
];

fn orders() -> Vec<Vec<u8>> {
    let text = "41 0\n42 1 0 1 0 0 1\nN41 2 1 0\nN42 0 2 1\n";
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).expect("memory takes it");
    vec![text.as_bytes().to_vec(), gzip.finish().expect("memory takes it")]
}

/// Whoever arrives is placed or dropped, under each rule.
fn arrivals(input: &[u8]) -> Outcome {
    let (nodes, pods) = (file("arrivals-nodes.csv", NODES.as_bytes()), file("arrivals-pods.csv", PODS.as_bytes()));
    let order = file("arrivals.txt", input);
    let mut words = String::new();
    for rule in Rule::ALL {
        let report = match packing_backtest(&nodes, &pods, &order, SEED, rule, Frequencies::Learned) {
            Ok(report) => report,
            Err(error) => return own_words(error),
        };
        let arrived = openb::arrivals(&order, SEED, 3, 2).map_err(|error| error.to_string())?.pods.len() as u64;
        let told = report.placed + report.dropped;
        holds!(told == arrived, "{arrived} pods arrived, {told} were placed or dropped");
        words.push_str(if report.dropped == 0 { "all " } else { "some " });
    }
    Ok(words)
}

fn stays() -> Vec<Vec<u8>> {
    vec![PODS.as_bytes().to_vec()]
}

/// Pods come and go; what is counted of them comes to what there is.
fn stay(input: &[u8]) -> Outcome {
    let nodes = openb::nodes(&file("stays-nodes.csv", NODES.as_bytes())).map_err(|error| error.to_string())?;
    let stays = match openb::stays(&file("stays-pods.csv", input)) {
        Ok(stays) => stays,
        Err(error) => return own_words(error),
    };
    let setting = Setting { policy: Rule::Solyx, frequencies: Frequencies::Learned, each: 1, load: 1.1 };
    match departures::run(&nodes, &stays, setting) {
        Ok(report) => {
            let all = report.pods + report.left_out;
            holds!(all <= stays.len(), "{all} pods of {}", stays.len());
            holds!(report.unplaced <= report.pods, "{} of {} pods waited to the end", report.unplaced, report.pods);
            holds!(
                (0.0..=100.001).contains(&report.allocated_pct),
                "{} per cent of the GPU time was in use",
                report.allocated_pct
            );
            Ok(if report.unplaced == 0 { "all" } else { "some" }.to_owned())
        }
        Err(error) => own_words(error),
    }
}

fn variations() -> Vec<Vec<u8>> {
    let whole = r#"name = "otherwise"
description = "all that may be otherwise"
baseline = "cheapest-now"
planner = "packing-prices"
[policy]
order_rule = "sjf"
backfill_depth = 7
[weights]
carbon_per_kg = "0.08"
risk = 0.5
waiting_factor = 2
owned_first = "marginal-cost"
spot_reclaims_per_1000_h = 9
[executor]
seed = 7
start_delay = "30s"
repair = "2h"
busy_power = 0.8
[[pools]]
pool = "pod/*"
price_factor = 1.5
[[nodes]]
pool = "pod/h100"
keep = 1
[[rates]]
rate_card = "all"
factor = 1.1
[[energy]]
zone = "DE-LU"
price_factor = 0.5
"#;
    let named = |baseline: &str| format!("name = \"{baseline}\"\nbaseline = \"{baseline}\"\n");
    let removed = "name = \"less\"\n[[pools]]\npool = \"pod/h100\"\nclass = \"owned\"\ncordon = true\n";
    let fleet = "name = \"other\"\nfleet = \"other.toml\"\n";
    let named = solyx_connectors::rerun::baselines::BASELINES.iter().map(|(name, _)| named(name));
    named.chain([whole, removed, fleet].map(str::to_owned)).map(String::into_bytes).collect()
}

static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    let read = Recording::read(&SIGNED.log, &mut |_| {}).expect("a good log is read");
    read.expect("a log with epochs")
});

/// What a variation puts in another's place, or adds, is valid, and an error names a place, what was found and what was expected.
fn variation(input: &[u8]) -> Outcome {
    let wrong = |error: solyx_connectors::fleet::FleetError| {
        holds!(
            !error.place.trim().is_empty() && !error.expected.trim().is_empty(),
            "an error that does not say where or what: {error:?}"
        );
        own_words(error.expected)
    };
    let mut variation = match Variation::parse("variation.toml", &String::from_utf8_lossy(input)) {
        Ok(variation) => variation,
        Err(error) => return wrong(error),
    };
    // Whatever file it names, this one is read.
    if variation.fleet.is_some() {
        variation.fleet = Some(file("other.toml", include_bytes!("../../../../ops/fleets/hybrid.toml")));
    }
    let changes = match changes(&RECORDING, variation, "variation.toml") {
        Ok(changes) => changes,
        Err(error) => return wrong(error),
    };
    let replaced = changes.replaced.values().flatten();
    for record in replaced.chain(changes.added.iter().map(|taken| &taken.record)) {
        let decoded = Codec::global().decode_record(record);
        let event = decoded.map_err(|error| format!("a record of a variation does not decode: {error}"))?.event;
        event.check().map_err(|error| format!("{} is of a variation and not valid: {error}", event.name()))?;
        is_whole(&event)?;
    }
    for event in changes.scripts.iter().flatten() {
        event.check().map_err(|error| format!("{} is of a variation and not valid: {error}", event.name()))?;
    }
    stage(&RECORDING, &changes, &MemoryLog::new(), &std::collections::BTreeSet::new())
        .map_err(|error| format!("a variation cannot be staged: {error}"))?;
    let some = |is: bool, what| if is { what } else { "" };
    Ok(format!(
        "{} {} {}",
        some(!changes.replaced.is_empty(), "replaced"),
        some(!changes.added.is_empty(), "added"),
        some(changes.scripts.is_some(), "scripts")
    ))
}
