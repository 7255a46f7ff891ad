//! A generated world run again: unchanged it is the same to the bit, and what a variation names is otherwise.
#![allow(clippy::unwrap_used)] // a test stops where something is not as it has to be

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::generate::{Size, publish};
use solyx_connectors::rerun::{Changes, Recording, Reporter, Variation, baselines, changes, stage_and_run};
use solyx_runtime::{EngineOptions, RunEnd, VirtualOptions, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::plans::ScriptedEnd;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

const SIZE: Size = Size { jobs: 120, nodes: 12, days: 3 };

/// Runs what is staged, with the executor of the log's scripts.
fn executed(log: &MemoryLog, until: Option<TimeUs>) -> RunEnd {
    let mut cell = CellId::from("cell");
    let mut name = None;
    let staged = TopicName::staged(Topic::Policy);
    let sim = TopicName::live(Topic::Sim);
    for stored in Scan::new(log, staged, 0, 0).chain(Scan::new(log, sim, 0, 0)) {
        match Codec::global().decode_record(&stored.unwrap().record).unwrap().event {
            Event::CellDeclared(declared) => cell = declared.cell_id,
            Event::ExecutorScripted(script) => name = Some(script.executor),
            _ => {}
        }
    }
    let mut executor = SimulatedExecutor::from_log(name.expect("a script of the executor"), log).unwrap();
    let mut options = VirtualOptions::new(EngineOptions::new(cell, None));
    (options.until, options.until_idle) = (until, until.is_none());
    run_virtual(log, Some(&mut executor), &options, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

/// A generated world, run until it is idle.
fn base() -> &'static MemoryLog {
    static BASE: OnceLock<MemoryLog> = OnceLock::new();
    BASE.get_or_init(|| {
        let log = MemoryLog::new();
        publish(7, SIZE, &log, &mut |_| {}).unwrap();
        executed(&log, None);
        log
    })
}

fn recording(log: &MemoryLog) -> Recording {
    Recording::read(log, &mut |_| {}).unwrap().expect("it has epochs")
}

fn again(recording: &Recording, changes: &Changes) -> (MemoryLog, Hash32) {
    let log = MemoryLog::with_partitions(&recording.partitions);
    let stop = AtomicBool::new(false);
    let end = stage_and_run(recording, changes, &log, None, &stop, &mut |_| {}, &mut |_| {}).unwrap();
    (log, end.chain_head)
}

fn varied(recording: &Recording, text: &str) -> Changes {
    changes(recording, Variation::parse("v.toml", text).unwrap(), "v.toml").unwrap()
}

fn refused(recording: &Recording, text: &str) -> String {
    let parsed = Variation::parse("v.toml", text);
    parsed.and_then(|variation| changes(recording, variation, "v.toml")).expect_err("it is wrong").to_string()
}

fn decisions(log: &MemoryLog) -> Vec<Event> {
    EpochReader::new(log).flat_map(|epoch| epoch.unwrap().outputs).collect()
}

#[test]
fn a_variation_that_changes_nothing_is_the_base_to_the_bit() {
    let recording = recording(base());
    assert!(recording.complete && recording.left_out.is_empty(), "{:?}", recording.left_out);
    assert_eq!(recording.truth.scripted, 120);
    let (_, head) = again(&recording, &Changes::default());
    assert_eq!(head, recording.chain_head);
}

#[test]
fn a_base_that_was_cut_is_run_again_to_where_it_was_cut() {
    let log = MemoryLog::new();
    publish(7, SIZE, &log, &mut |_| {}).unwrap();
    let whole = recording(base());
    executed(&log, Some(TimeUs((whole.from.0 + whole.to.0) / 2)));
    let recording = recording(&log);
    assert!(!recording.complete);
    let (_, head) = again(&recording, &Changes::default());
    assert_eq!(head, recording.chain_head);
}

#[test]
fn a_log_without_staged_topics_and_scripts_tells_lengths_by_its_reports() {
    // What a log in real time would hold: inputs and decisions, and nothing of how they came.
    let log = MemoryLog::new();
    let mut producer = log.producer("copy").unwrap();
    for topic in Topic::ALL.into_iter().filter(|topic| !matches!(topic, Topic::Sim | Topic::Cursors)) {
        let name = TopicName::live(topic);
        for partition in 0..base().partitions(name) {
            let records: Vec<Record> =
                Scan::new(base(), name, partition, 0).map(|stored| stored.unwrap().record).collect();
            if !records.is_empty() {
                producer.append(records).unwrap();
            }
        }
    }
    let recording = recording(&log);
    assert_eq!(recording.reporter, Reporter::Others);
    assert_eq!((recording.truth.scripted, recording.truth.reported + recording.truth.censored), (0, 120));
    assert!(recording.left_out["usage"] > 0 && recording.left_out["RunStarted"] > 0);
    let truth =
        |recording: &Recording| -> std::collections::BTreeMap<String, (i64, ScriptedEnd, Option<FailureCategory>)> {
            let scripts = recording.scripts.iter().filter_map(|event| match event {
                Event::WorkScripted(script) => {
                    Some((script.job.to_string(), (script.work_us.0, script.end, script.failure)))
                }
                _ => None,
            });
            scripts.collect()
        };
    let (told, known) = (truth(&recording), truth(&self::recording(base())));
    let finished: Vec<_> = decisions_of_finished(&log);
    assert!(finished.len() > 50);
    for job in finished {
        assert_eq!(told[&job].0, known[&job].0, "{job} did all its work");
    }
    again(&recording, &Changes::default());
}

/// Jobs that finished.
fn decisions_of_finished(log: &MemoryLog) -> Vec<String> {
    let mut finished = Vec::new();
    for epoch in EpochReader::new(log) {
        for (_, event) in epoch.unwrap().counted() {
            if let Event::RunFinished(e) = event {
                finished.push(e.job.to_string());
            }
        }
    }
    finished
}

#[test]
fn another_policy_decides_otherwise_over_the_same_demand() {
    let recording = recording(base());
    let (log, head) = again(&recording, &varied(&recording, "name = \"sjf\"\n[policy]\norder_rule = \"sjf\""));
    assert_ne!(head, recording.chain_head);
    let requests = |log: &MemoryLog| -> usize {
        let counted = EpochReader::new(log).map(|epoch| {
            let epoch = epoch.unwrap();
            epoch.counted().filter(|(_, event)| matches!(event, Event::JobRequested(_))).count()
        });
        counted.sum()
    };
    assert_eq!(requests(&log), requests(base()));
}

#[test]
fn local_only_leases_nothing_and_cordons_are_told() {
    let recording = recording(base());
    let (log, _) = again(&recording, &varied(&recording, "name = \"local\"\nbaseline = \"local-only\""));
    let orders =
        |log: &MemoryLog| decisions(log).iter().filter(|event| matches!(event, Event::CapacityLeaseOrdered(_))).count();
    assert!(orders(base()) > 0);
    assert_eq!(orders(&log), 0);
}

#[test]
fn each_baseline_runs() {
    let recording = recording(base());
    let mut heads = std::collections::BTreeSet::new();
    for (name, _) in baselines::BASELINES {
        let text = format!("name = \"{name}\"\nbaseline = \"{name}\"");
        heads.insert(again(&recording, &varied(&recording, &text)).1);
    }
    assert!(heads.len() >= 7, "{} of nine baselines differ", heads.len());
}

#[test]
fn prices_seeds_weights_fleets_and_energy_can_be_otherwise() {
    let recording = recording(base());
    let base = recording.chain_head;
    for text in [
        "name = \"a\"\n[executor]\nseed = 99\nnode_failures_per_1000_h = 40",
        "name = \"b\"\n[weights]\ncarbon_per_kg = \"2\"\nowned_first = \"marginal-cost\"",
        "name = \"c\"\n[[pools]]\nclass = \"on-demand\"\nprice_factor = \"3\"",
        "name = \"d\"\n[[pools]]\nclass = \"spot\"\nremove = true",
        "name = \"e\"\n[[nodes]]\nkeep = 2",
        "name = \"f\"\n[[energy]]\nprice_factor = \"2\"\ncarbon_factor = \"0.5\"",
        "name = \"g\"\n[[rates]]\nfactor = \"1.5\"",
        "name = \"h\"\nplanner = \"none\"",
    ] {
        assert_ne!(again(&recording, &varied(&recording, text)).1, base, "{text}");
    }
}

#[test]
fn what_is_wrong_in_a_variation_is_said_by_field_value_and_expectation() {
    let recording = recording(base());
    for (text, expected) in [
        ("name = \"a\"\n[policy]\norder = \"sjf\"", "line 3 in [policy]"),
        ("name = \"a b\"", "field name: found \"a b\", expected 1 to 64"),
        (
            "name = \"a\"\n[[pools]]\npool = \"lamda-*\"\nclass = \"spot\"\nprice_factor = \"1.5\"",
            "pools: found \"lamda-*\", which the log does not have",
        ),
        (
            "name = \"a\"\n[[pools]]\nclass = \"owned\"\ninstances = 3",
            "pools, field instances: found \"*\", of which nothing would change",
        ),
        (
            "name = \"a\"\n[[energy]]\nzone = \"DE-LU\"",
            "nothing that is changed, expected price_factor or carbon_factor",
        ),
        (
            "name = \"a\"\n[policy]\norder_rule = \"random\"",
            "policy, field order_rule: found \"random\", expected one of",
        ),
        ("name = \"a\"\nplanner = \"horizon\"", "which this build does not have yet, expected packing-prices or none"),
        ("name = \"a\"\nbaseline = \"luck\"", "field baseline: found \"luck\", expected one of fifo, shortest-first"),
        (
            "name = \"a\"\n[[pools]]\npool = \"nowhere/*\"\nremove = true",
            "found \"nowhere/*\", which the log does not have",
        ),
        ("name = \"a\"\n[[pools]]\npool = \"*\"", "found nothing that is changed, expected remove, cordon"),
        ("name = \"a\"\n[weights]\ncarbon_per_kg = 0.5", "line 3 in [weights]"),
        ("name = \"a\"\nfleet = \"/nowhere.toml\"", "a fleet file that can be read"),
    ] {
        let said = refused(&recording, text);
        assert!(said.contains(expected), "{said}\n  should say {expected}");
    }
}

#[test]
fn what_a_variation_says_itself_goes_before_its_baseline() {
    let recording = recording(base());
    let text =
        |price: &str| format!("name = \"lc\"\nbaseline = \"lowest-carbon\"\n[weights]\ncarbon_per_kg = \"{price}\"");
    let heads = ["0", "0.5"].map(|price| again(&recording, &varied(&recording, &text(price))).1);
    assert_ne!(heads[0], heads[1]);
}
