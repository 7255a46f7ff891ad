//! `solyx compare` and the views it is made of, by the built binary over two small worlds on real jobs.

mod common;

use std::path::Path;
use std::sync::OnceLock;

use common::{code, here, json, solyx, text};
use serde_json::Value;
use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::nodes::NodeRemoved;
use solyx_schemas::log::{Log, ReadLimit, Record};
use solyx_schemas::topics::{Topic, TopicName};

/// A hybrid and a leased world with the same two hundred jobs of one day.
fn worlds() -> (&'static str, &'static str) {
    static MADE: OnceLock<(tempfile::TempDir, String, String)> = OnceLock::new();
    let (_, hybrid, leased) = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let make = |fleet: &str| {
            let world = directory.path().join(fleet).display().to_string();
            let data = |file: &str| here(&format!("data/{file}"));
            let day = ["--from", "2023-09-04", "--to", "2023-09-05", "--log", &world];
            let shift = ["--shift-to", "2023-09-04", "--log", &world];
            let prices = data("price_usd_per_mwh_2023.csv.gz");
            let carbon = data("carbon_g_per_kwh_2023.csv.gz");
            let (jobs, egress) = (data("philly_jobs.csv.gz"), data("egress_usd_per_gb.csv.gz"));
            let done = |arguments: &[&str]| {
                let output = solyx(arguments);
                assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
            };
            done(&["publish", &here(&format!("fleets/{fleet}.toml")), "--staged", "--log", &world]);
            done(&[&["import", "energy", "--prices", &prices, "--carbon", &carbon], &day[..]].concat());
            done(&[&["import", "network", "--egress", &egress], &shift[..]].concat());
            done(&[&["import", "philly", "--jobs", &jobs, "--limit", "200"], &shift[..]].concat());
            done(&["run", "--log", &world, "--virtual", "--until", "2023-09-05"]);
            world
        };
        let (hybrid, leased) = (make("hybrid"), make("software-only"));
        (directory, hybrid, leased)
    });
    (hybrid, leased)
}

fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no integer"))
}

#[test]
fn figures_have_stable_names_and_agree_with_the_views_they_are_from() {
    let (hybrid, leased) = worlds();
    let output = solyx(&["compare", hybrid, leased, "--audit", "--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let compared = json(&output);
    let stages = compared["stages"].as_array().expect("stages");
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage["name"].as_str()).collect();
    assert_eq!(names, ["hybrid", "software-only"]);
    let fields: Vec<&String> = stages[0].as_object().expect("a stage").keys().collect();
    let expected = "name directory from_us to_us epochs chain_head jobs waiting completion currency revenue_micros cost_micros cost \
                    margin_micros margin_milli energy gpus egress_bytes egress_micros problems audit";
    assert_eq!(fields, expected.split_whitespace().collect::<Vec<_>>());
    for stage in stages {
        let jobs = &stage["jobs"];
        assert_eq!(jobs["requested"], 200);
        let states = ["waiting", "running", "done", "failed", "rejected", "cancelled"];
        assert_eq!(states.iter().map(|state| integer(&jobs[state])).sum::<i64>(), 200);
        let waiting = &stage["waiting"];
        assert!(integer(&waiting["p50_us"]) <= integer(&waiting["p95_us"]));
        assert!(integer(&waiting["p95_us"]) <= integer(&waiting["max_us"]));
        assert_eq!(
            waiting["counts"].as_array().expect("counts").iter().map(integer).sum::<i64>(),
            integer(&waiting["placed"])
        );
        let cost = &stage["cost"];
        let kinds = ["leases_micros", "commitments_micros", "depreciation_micros", "energy_micros"];
        let sum: i64 = kinds.iter().map(|kind| integer(&cost[kind])).sum();
        assert_eq!(integer(&stage["cost_micros"]), sum, "the kinds of cost are all of it");
        assert_eq!(integer(&stage["revenue_micros"]) - sum, integer(&stage["margin_micros"]));
        assert_eq!(stage["audit"]["ok"], true);
        assert_eq!(stage["audit"]["chain_head"], stage["chain_head"]);
    }
    assert_eq!(stages[1]["gpus"]["owned_used_gpu_milli_s"], 0);
    assert_eq!(stages[1]["energy"]["own_j"], 0, "a world without hardware of its own draws nothing");
    assert!(
        integer(&stages[1]["gpus"]["leased_held_gpu_milli_s"])
            >= integer(&stages[1]["gpus"]["leased_used_gpu_milli_s"])
    );
    assert!(integer(&stages[0]["gpus"]["owned_share_milli"]) > 900, "the hybrid world fills its own first");
    let billing = json(&solyx(&["view", "billing", "--log", hybrid, "--json"]));
    assert_eq!(billing["totals"]["cost_micros"], stages[0]["cost_micros"]);
    assert_eq!(billing["gpu_time"]["conserved"], true);
    // No node of the hybrid world comes or goes: what stood is what stands, for as long as the world lasted.
    let gpus = &stages[0]["gpus"];
    let lasted_us = integer(&stages[0]["to_us"]) - integer(&stages[0]["from_us"]);
    let stood_s = integer(&gpus["owned"]) * 1_000 * lasted_us / 1_000_000;
    let in_use = integer(&gpus["owned_used_gpu_milli_s"]) * 1_000 / stood_s;
    // What is told is cut off at a second.
    assert!((in_use..=in_use + 1).contains(&integer(&gpus["owned_in_use_milli"])), "{gpus}");
}

#[test]
fn what_nodes_did_while_they_stood_counts_after_they_were_removed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let world = directory.path().join("gone").display().to_string();
    let done = |arguments: &[&str]| {
        let output = solyx(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
        output
    };
    done(&["generate", "--seed", "7", "--jobs", "40", "--nodes", "6", "--days", "1", "--log", &world]);
    done(&["run", "--log", &world, "--virtual", "--until-idle"]);
    let of = || json(&done(&["compare", &world, "--json"]))["stages"][0]["gpus"].clone();
    let before = of();
    assert!(integer(&before["owned"]) > 0 && integer(&before["owned_in_use_milli"]) > 0, "{before}");
    // All that is left is removed at the last instant: no time passes without it.
    let dcim = json(&done(&["view", "dcim", "--log", &world, "--json"]));
    let nodes =
        dcim["sites"].as_array().expect("sites").iter().flat_map(|site| site["nodes"].as_array().expect("nodes"));
    let removed: Vec<Event> = nodes
        .filter_map(|node| {
            let node = node["node"].as_str()?;
            let (event_id, source) = (format!("{node}/removed").as_str().into(), "operator".into());
            Some(
                NodeRemoved { event_id, source, node: node.into(), reason: "sold".into(), ..NodeRemoved::default() }
                    .into(),
            )
        })
        .collect();
    let log = EmbeddedLog::open(&Path::new(&world).join("log"), EmbeddedOptions::default()).expect("the world's log");
    let topic = TopicName::live(Topic::Nodes);
    let record = |event: &Event| Codec::global().record(event, topic, log.partitions(topic));
    let mut producer = log.producer("operator").expect("a producer");
    producer.append(removed.iter().map(record).collect()).expect("they are written");
    producer.sync().expect("and synced");
    drop((producer, log));
    done(&["run", "--log", &world, "--virtual", "--until-idle"]);
    let after = of();
    assert_eq!(after["owned"], 0);
    for part in ["owned_used_gpu_milli_s", "owned_in_use_milli", "in_use_milli"] {
        assert_eq!(after[part], before[part], "{part}");
    }
}

#[test]
fn the_page_holds_all_it_needs() {
    let (hybrid, leased) = worlds();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("report.html").display().to_string();
    let output = solyx(&["compare", leased, hybrid, "--html", &path, "--title", "Two <worlds>"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains(&path) && said.contains("solyx explain philly/"), "{said}");
    let page = std::fs::read_to_string(&path).expect("the page is written");
    assert!(page.contains("Two &lt;worlds&gt;"));
    for part in ["Side by side", "One invoice", "Power, with headroom", "One explanation", "Audit", "<svg"] {
        assert!(page.contains(part), "the page has no {part}");
    }
    for outside in ["<script", "http://", "https://", "@import", "url(", "src="] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

#[test]
fn an_invoice_adds_up_and_one_that_is_not_there_is_a_finding() {
    let (hybrid, _) = worlds();
    let billing = json(&solyx(&["view", "billing", "--log", hybrid, "--json"]));
    let tenant = billing["invoices"][0]["tenant"].as_str().expect("an invoice").to_owned();
    let invoice = json(&solyx(&["view", "billing", "--invoice", &tenant, "--log", hybrid, "--json"]));
    let lines = invoice["lines"].as_array().expect("lines");
    let sum: i64 = lines.iter().map(|line| integer(&line["amount_micros"])).sum();
    assert_eq!(integer(&invoice["total_micros"]), sum);
    let said = text(&solyx(&["view", "billing", "--invoice", &tenant, "--log", hybrid]).stdout);
    assert!(said.starts_with(&format!("INVOICE  {tenant}  2023-09")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("Total")), "{said}");
    let none = solyx(&["view", "billing", "--invoice", "nobody", "--log", hybrid]);
    assert_eq!(code(&none), 1);
    assert!(text(&none.stderr).contains("there is no invoice of nobody"));
}

#[test]
fn every_view_is_text_for_people_too() {
    let (hybrid, _) = worlds();
    for (view, expected) in
        [("billing", "margin"), ("dcim", "power tree of MetaPod Frankfurt"), ("jobs", "waited: p50")]
    {
        let output = solyx(&["view", view, "--log", hybrid]);
        assert_eq!(code(&output), 0, "{view}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(expected), "{view}: {}", text(&output.stdout));
    }
}

/// The records of a log in a new one, with one placement said to be cheaper than it was.
fn falsified(from: &Path, to: &Path) {
    const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };
    let log = EmbeddedLog::open_read_only(&from.join("log")).expect("the world's log opens");
    let mut records: Vec<Record> = Vec::new();
    for topic in Topic::ALL.into_iter().flat_map(|topic| [TopicName::live(topic), TopicName::staged(topic)]) {
        for partition in 0..log.partitions(topic) {
            let read = log.read(topic, partition, 0, ALL).expect("the partition is read");
            records.extend(read.into_iter().map(|stored| stored.record));
        }
    }
    let mut placements =
        records.iter_mut().filter_map(|record| match Codec::global().decode(&record.value).ok()?.event {
            Event::JobPlaced(placed) => Some((record, placed)),
            _ => None,
        });
    let (record, mut placed) = placements.nth(50).expect("fifty jobs were placed");
    placed.terms.energy_micros.0 -= 1;
    record.value = Codec::global().encode(&(*placed).into());
    let options = EmbeddedOptions { durability: Durability::EveryN(1_000), partitions: None };
    let log = EmbeddedLog::open(&to.join("log"), options).expect("a new log");
    let mut producer = log.producer("copy").expect("a producer");
    producer.append(records).expect("the records are written");
    producer.sync().expect("and synced");
}

#[test]
fn a_world_with_one_decision_changed_fails_its_audit() {
    let (hybrid, leased) = worlds();
    let directory = tempfile::tempdir().expect("a temporary directory");
    falsified(Path::new(hybrid), directory.path());
    let false_one = directory.path().display().to_string();
    let output = solyx(&["compare", leased, &false_one, "--audit", "--json"]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let compared = json(&output);
    assert_eq!(compared["stages"][0]["audit"]["ok"], true);
    assert_eq!(compared["stages"][1]["audit"]["ok"], false);
    assert!(compared["stages"][1]["audit"]["first_difference"].is_object());
    let said = text(&solyx(&["compare", leased, &false_one, "--audit"]).stdout);
    assert!(said.lines().any(|line| line.starts_with("audit") && line.ends_with("FAILS")), "{said}");
}

#[test]
fn the_same_history_has_the_same_head_and_a_damaged_log_is_the_environment() {
    let (hybrid, _) = worlds();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = directory.path().join("archive").display().to_string();
    let copy = directory.path().join("copy").display().to_string();
    for arguments in [
        ["archive", "export", "--log", hybrid, "--archive", &archive],
        ["archive", "import", "--archive", &archive, "--log", &copy],
    ] {
        let output = solyx(&arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
    }
    let same = json(&solyx(&["compare", hybrid, &copy, "--json"]));
    assert_eq!(same["stages"][0]["chain_head"], same["stages"][1]["chain_head"]);
    assert_eq!(same["stages"][0]["revenue_micros"], same["stages"][1]["revenue_micros"]);
    std::fs::remove_file(Path::new(&copy).join("log").join("CURRENT")).expect("the log has a CURRENT");
    let broken = solyx(&["compare", hybrid, &copy]);
    assert_eq!(code(&broken), 3, "{}", text(&broken.stderr));
}

#[test]
fn wrong_use_is_said_with_the_way_out() {
    let (hybrid, _) = worlds();
    let empty = tempfile::tempdir().expect("a temporary directory");
    let nowhere = empty.path().display().to_string();
    let cases: [(&[&str], &str); 5] = [
        (&["compare"], "DIR"),
        (&["compare", &nowhere], "there is no log in"),
        (&["compare", hybrid, "--focus", "elsewhere"], "there is no world elsewhere"),
        (&["compare", hybrid, "--job", "nothing"], "there is no job nothing"),
        (&["view", "dcim", "--invoice", "6214e9", "--log", hybrid], "only the billing view has invoices"),
    ];
    for (arguments, expected) in cases {
        let output = solyx(arguments);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 2, "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let unwritable = solyx(&["compare", hybrid, "--html", "/proc/nowhere/report.html"]);
    assert_eq!(code(&unwritable), 3, "{}", text(&unwritable.stderr));
}
