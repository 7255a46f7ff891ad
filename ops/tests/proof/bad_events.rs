//! Events that are wrong: at the command line each is named by line, field, value and what was expected; in the log each is
//! judged once, named by `doctor` and kept in the topic `quarantine`. What is good beside them goes on.

use serde_json::{Value, json};
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::decisions::{RecordQuarantined, SkipReason};
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::{Event, event_type};
use solyx_schemas::field::Field;
use solyx_schemas::json::to_json;
use solyx_schemas::log::{Log, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::Count;

use crate::world::{World, ops, solyx, solyx_reads};

/// When the hybrid fleet has been there for a day.
const START_US: i64 = 1_693_785_600_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// The example of an event, with other values in some fields.
fn event(name: &str, fields: Value) -> Value {
    let mut event = to_json(&(event_type(name).unwrap().example)());
    event["occurred_us"] = json!(START_US);
    for (field, value) in fields.as_object().unwrap() {
        event[field] = value.clone();
    }
    event
}

/// A job of the house for one GPU.
fn job(id: &str) -> Value {
    let gang = json!({
        "replicas_min": 1, "replicas_max": 1, "gpus": 1, "gpu_milli_each": 1000, "cpu_milli": 1000, "memory_mib": 1024,
        "exclusive_node": false,
    });
    json!({
        "type": "JobRequested", "event_id": format!("job/{id}"), "source": "proof", "occurred_us": START_US, "job": id,
        "tenant": "house", "kind": "TRAINING", "gang": gang, "models": [{"model": "H100", "speed_milli": 1000}],
        "expected_work_us": HOUR_US, "class": "standard", "preemptible": false, "attestation_required": false,
        "hold": false,
    })
}

fn with(mut event: Value, pointer: &str, value: Value) -> Value {
    *event.pointer_mut(pointer).unwrap() = value;
    event
}

fn without(mut event: Value, field: &str) -> Value {
    event.as_object_mut().unwrap().remove(field).unwrap();
    event
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// A world whose fleet is there.
fn hybrid() -> World {
    let world = World::empty();
    world.solyx(&["publish", &ops("fleets/hybrid.toml")]).ends(0);
    world
}

/// What the log has in quarantine.
fn quarantined(world: &World) -> Vec<RecordQuarantined> {
    let log = world.read();
    let outputs = EpochReader::new(&*log).flat_map(|epoch| epoch.unwrap().outputs);
    outputs
        .filter_map(|output| match output {
            Event::RecordQuarantined(e) => Some(*e),
            _ => None,
        })
        .collect()
}

/// The job ran to its end.
#[track_caller]
fn finished(world: &World, job: &str) {
    world.solyx(&["explain", job]).ends(0).says(&["admitted", "placed in", "finished, exit 0"]);
}

/// Lines of which some are wrong, with what has to be said of each of those.
fn wrong_lines() -> (String, Vec<&'static str>) {
    let mut unknown = job("unknown");
    unknown["type"] = json!("JobRequestd");
    let mut text = lines(&[
        job("good-1"),
        unknown,
        with(job("type"), "/expected_work_us", json!("an hour")),
        without(job("missing"), "tenant"),
        with(job("negative"), "/gang/gpus", json!(-4)),
    ]);
    text += "{\"type\": \"JobRequested\", \n";
    text += &lines(&[with(job("symbol"), "/kind", json!("DREAMING")), job("good-2")]);
    let said = vec![
        ":2: field type: found \"JobRequestd\", expected the name of an event; perhaps JobRequested",
        ":3: field expected_work_us: found \"an hour\", expected ",
        ":4: field tenant: found nothing, expected ",
        ":5: field gang.gpus: found -4, expected 0 to ",
        ":6: found \"{\\\"type\\\": \\\"JobRequested\\\",\", expected a JSON object",
        ":7: field kind: found \"DREAMING\", expected ",
    ];
    (text, said)
}

#[test]
fn wrong_lines_are_named_by_field_value_and_expectation_and_the_rest_is_published() {
    let world = hybrid();
    let (text, said) = wrong_lines();
    let file = world.write("events.jsonl", &text);
    world.solyx(&["publish", &file]).ends(1).says(&said).says(&["2 events published, 6 bad lines"]);
    solyx(&["events", "validate", &file]).ends(1).says(&said).says(&["2 good, 6 bad"]);
    world.run();
    finished(&world, "good-1");
    finished(&world, "good-2");
    assert_eq!(quarantined(&world), []);
    world.audit();
    // The same lines again, repaired, from a pipe: nothing counts twice, and what was missing is there.
    let repaired = lines(&[job("good-1"), job("missing"), job("good-2")]);
    let log = world.log();
    solyx_reads(&["publish", "-", "--log", log.to_str().unwrap()], &repaired).ends(0);
    world.run();
    finished(&world, "missing");
    let again: Vec<SkipReason> = quarantined(&world).iter().map(|e| e.reason).collect();
    assert_eq!(again, [SkipReason::Duplicate, SkipReason::Duplicate]);
    world.audit();
}

#[test]
fn an_import_counts_bad_lines_names_them_and_keeps_them_beside_the_world() {
    let world = hybrid();
    let (text, _) = wrong_lines();
    let file = world.write("events.jsonl", &text);
    let summary = world.solyx(&["import", "jsonl", &file, "--json"]).ends(1).json();
    assert_eq!((&summary["rows"], &summary["events"], &summary["bad"]), (&json!(8), &json!(2), &json!(6)), "{summary}");
    let kept = std::fs::read_to_string(world.log().join("bad-rows.jsonl")).unwrap();
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_line = |number: u64| kept.iter().find(|row| row["line"] == number).unwrap();
    assert_eq!(of_line(3)["field"], "expected_work_us");
    assert_eq!(of_line(3)["found"], "an hour");
    assert_eq!(of_line(5)["field"], "gang.gpus");
    world.run();
    finished(&world, "good-2");
}

#[test]
fn the_same_event_twice_is_passed_over_and_another_under_its_id_is_a_conflict() {
    let world = hybrid();
    let other = with(job("one"), "/expected_work_us", json!(2 * HOUR_US));
    let file = world.write("events.jsonl", lines(&[job("one"), job("one"), other, job("two")]));
    world.solyx(&["publish", &file]).ends(0);
    world.run();
    let found = quarantined(&world);
    let reasons: Vec<SkipReason> = found.iter().map(|e| e.reason).collect();
    assert_eq!(reasons, [SkipReason::Duplicate, SkipReason::Conflict], "{found:?}");
    for (e, reason) in found.iter().zip(["DUPLICATE", "CONFLICT"]) {
        let place = format!("{}/{}/{}", e.topic, e.partition, e.ordinal);
        world.solyx(&["doctor"]).ends(1).says(&[&format!("{place} does not count, {reason}: "), "job/one"]);
    }
    finished(&world, "one");
    finished(&world, "two");
    world.audit();
}

#[test]
fn an_unknown_feature_is_refused_with_those_that_are_known_and_the_engine_goes_on() {
    let world = hybrid();
    let feature = event("FeatureEnabled", json!({"feature": "telepathy", "event_id": "feature/telepathy"}));
    let file = world.write("events.jsonl", lines(&[feature, job("one")]));
    world.solyx(&["publish", &file]).ends(0);
    world.run();
    let found = quarantined(&world);
    assert_eq!(found.iter().map(|e| e.reason).collect::<Vec<_>>(), [SkipReason::UnknownFeature]);
    world.solyx(&["doctor"]).ends(1).says(&["UNKNOWN_FEATURE: field feature: found telepathy, expected one of spine"]);
    finished(&world, "one");
    world.audit();
}

#[test]
fn a_job_larger_than_any_fabric_domain_waits_for_that_by_name_and_delays_nobody() {
    let world = hybrid();
    let mut big = with(with(job("big"), "/gang/replicas_min", json!(24)), "/gang/replicas_max", json!(24));
    big["gang"]["gpus"] = json!(8);
    big["topology"] = json!({"required": "LEAF"});
    let file = world.write("events.jsonl", lines(&[big, job("small")]));
    world.solyx(&["publish", &file]).ends(0);
    world.run();
    world.solyx(&["explain", "big"]).ends(0).says(&["admitted", "waits for ", "[FABRIC_DOMAIN]", " asked, ", " there"]);
    finished(&world, "small");
    world.audit();
}

#[test]
fn a_node_of_an_unknown_pool_waits_is_shown_by_doctor_and_comes_alive_with_its_pool() {
    let world = hybrid();
    let node = json!({
        "node": "late-1", "pool": "late/h100", "event_id": "node/late-1", "feeds": [], "rack": null,
        "cpu_milli": 64000, "memory_mib": 262144,
        "gpus": [{"index": 0, "uuid": "GPU-1", "model": "H100", "memory_mib": 81920, "nvlink_domain": null, "max_w": 700}],
    });
    let mut wanting = job("wanting");
    wanting["residency"] = json!(["NO"]);
    let file = world.write("events.jsonl", lines(&[event("NodeReported", node), wanting]));
    world.solyx(&["publish", &file]).ends(0);
    world.run();
    let said = "node late-1 waits for pool late/h100, which is not declared; publish it, or correct the name";
    world.solyx(&["doctor"]).ends(1).says(&[said]);
    world.solyx(&["explain", "wanting"]).ends(0).says(&["waits for "]);
    let site = json!({
        "site": "late", "country": "NO", "grid_zone": "NO-1", "region": "late", "event_id": "site/late",
        "certificates": [], "storage_tiers": [], "labels": [],
    });
    let pool = json!({
        "pool": "late/h100", "site": "late", "class": "OWNED", "gpu_model": "H100", "event_id": "pool/late",
        "commitment": null,
    });
    let priced = json!({
        "pool": "late/h100", "price_micros_per_gpu_hour": 0, "effective_from_us": START_US, "event_id": "price/late",
    });
    let events = [event("SiteDeclared", site), event("PoolDeclared", pool), event("PoolPriced", priced)];
    let file = world.write("pool.jsonl", lines(&events));
    world.solyx(&["publish", &file]).ends(0);
    world.run();
    world.solyx(&["explain", "wanting"]).ends(0).says(&["placed in late/h100 on late-1", "finished, exit 0"]);
    assert!(!world.solyx(&["doctor"]).out.contains("late-1"));
    world.audit();
}

#[test]
fn a_price_that_overlaps_is_refused_and_a_hole_is_filled_for_a_day_and_said_to_be() {
    let world = World::hybrid(0);
    let price = |id: &str, from: i64, to: i64, revision: i64, micros: i64| {
        let (from, to) = (START_US + from * HOUR_US, START_US + to * HOUR_US);
        let id = format!("price/{id}");
        event(
            "EnergyPriced",
            json!({
                "event_id": id, "zone": "PROOF", "from_us": from, "to_us": to, "price_micros_per_mwh": micros,
                "kind": "DAY_AHEAD", "revision": revision, "published_us": START_US,
            }),
        )
    };
    let prices = [
        price("a", 0, 4, 0, 50_000_000),
        price("overlapping", 3, 6, 0, 90_000_000),
        price("newer", 3, 4, 1, 60_000_000),
        price("after-the-hole", 9, 12, 0, -1_000_000),
    ];
    let file = world.write("prices.jsonl", lines(&[&prices[..], &[job("one")]].concat()));
    world.solyx(&["publish", &file]).ends(0);
    world.run();
    let found = quarantined(&world);
    assert_eq!(found.iter().map(|e| e.reason).collect::<Vec<_>>(), [SkipReason::Rejected], "{found:?}");
    let said = "REJECTED: field from_us: found [1693796400000000, 1693807200000000) of revision 0, expected no overlap with \
                [1693785600000000, 1693800000000000) of the same zone, kind and revision";
    world.solyx(&["doctor"]).ends(1).says(&[said]);
    finished(&world, "one");
    world.audit();
}

/// Records that no command would write, as a broken producer might: the engine judges each of them.
#[test]
fn what_a_broken_producer_writes_is_judged_once_kept_in_quarantine_and_stops_nothing() {
    let world = hybrid();
    world.solyx(&["publish", &world.write("good.jsonl", lines(&[job("good")]))]).ends(0);
    let example = || JobRequested { event_id: "broken".into(), ..JobRequested::example("") };
    let (bad, reasons) = broken_records(example);
    {
        let dir = world.log().join("log");
        let log = solyx_connectors::log::embedded::EmbeddedLog::open(&dir, Default::default()).unwrap();
        log.producer("broken").unwrap().append(bad.clone()).unwrap();
    }
    world.run();
    let found = quarantined(&world);
    let mut of_kind: Vec<SkipReason> = found.iter().map(|e| e.reason).collect();
    of_kind.sort();
    assert_eq!(of_kind, reasons, "{found:?}");
    for record in &bad {
        let copy = found.iter().find(|e| e.original_value == hex(&record.value) && e.original_key == hex(&record.key));
        let copy = copy.unwrap_or_else(|| panic!("no copy of {record:?}"));
        assert!(!copy.detail.is_empty() && copy.original_bytes.0 == record.value.len() as i64, "{copy:?}");
    }
    let invalid = found.iter().find(|e| e.reason == SkipReason::Invalid).unwrap();
    assert!(invalid.detail.contains("gang.gpus: found -1, expected 0 to"), "{}", invalid.detail);
    finished(&world, "good");
    world.audit();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn broken_records(example: impl Fn() -> JobRequested) -> (Vec<Record>, Vec<SkipReason>) {
    let topic = TopicName::live(Topic::Jobs);
    let record = |event: &JobRequested| Codec::global().record(&Event::from(event.clone()), topic, 4);
    let mut negative = example();
    negative.gang.gpus = Count(-1);
    let mut unknown_schema = record(&JobRequested { event_id: "unknown-schema".into(), ..example() });
    unknown_schema.value[1..FRAME_LEN].copy_from_slice(&9_999_999_u32.to_be_bytes());
    let mut cut = record(&JobRequested { event_id: "cut".into(), ..example() });
    cut.value.truncate(40);
    let mut misplaced = record(&JobRequested { event_id: "misplaced".into(), ..example() });
    misplaced.key = b"another".to_vec();
    let mut reasons =
        vec![SkipReason::Invalid, SkipReason::UnknownSchema, SkipReason::Undecodable, SkipReason::Misplaced];
    reasons.sort();
    (vec![record(&negative), unknown_schema, cut, misplaced], reasons)
}
