//! Texts that only a tenant's key opens: hashes, decisions and audits do without it, and with it gone they are erased.

use serde_json::{Value, json};

use crate::signing::refuses_every_change;
use crate::world::{World, ops, solyx};

const LABEL: &str = "patient 4711";
const REASON: &str = "Mrs Example withdrew her consent";

/// A request of a tenant, as many events as it takes, and the end that somebody asks for.
fn events(tenant: &str) -> String {
    let text = std::fs::read_to_string(ops("fleets/first-job.jsonl")).unwrap();
    let mut request: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    request["tenant"] = json!(tenant);
    request["labels"] = json!([{"name": "who", "value": LABEL}]);
    request["hold"] = json!(true);
    let (job, source, at) = (&request["job"], &request["source"], &request["occurred_us"]);
    let cancel = json!({
        "type": "JobCancelRequested", "event_id": "cancel-1", "source": source, "occurred_us": at, "job": job,
        "actor": "desk", "reason": REASON,
    });
    format!("{request}\n{cancel}\n")
}

fn tenant() -> String {
    let text = std::fs::read_to_string(ops("fleets/first-job.jsonl")).unwrap();
    let request: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    request["tenant"].as_str().unwrap().to_owned()
}

struct Sealed {
    world: World,
    file: String,
    keys: String,
    key: String,
}

/// A world into which the events went sealed; with the feature on when it is asked for.
fn sealed(feature: bool) -> Sealed {
    let world = World::empty();
    let keys = world.path("keys").display().to_string();
    std::fs::create_dir(&keys).unwrap();
    let key = format!("{keys}/tenant.key");
    solyx(&["keys", "new", "--tenant", &tenant(), "--key-id", "team/1", &key]).ends(0);
    world.solyx(&["publish", &ops("fleets/hybrid.toml"), "--staged"]).ends(0);
    if feature {
        let on = r#"{"type":"FeatureEnabled","event_id":"on","source":"operator","occurred_us":"2023-09-04T00:00:00Z","feature":"sealed-fields"}"#;
        let on = world.write("on.jsonl", on);
        world.solyx(&["publish", &on, "--staged"]).ends(0);
    }
    let file = world.write("events.jsonl", events(&tenant()));
    let said = world.solyx(&["publish", &file, "--encrypt", &key, "--staged"]).ends(0);
    said.says(&["2 texts sealed", "2 events published, 0 bad lines"]);
    world.run();
    Sealed { world, file, keys, key }
}

#[test]
fn a_sealed_text_is_nowhere_in_the_log_and_is_shown_to_who_has_the_key() {
    let Sealed { world, keys, .. } = sealed(true);
    for topic in ["jobs", "decisions"] {
        let raw = world.solyx(&["tail", topic, "--all", "--json"]).ends(0);
        assert!(!raw.out.contains(LABEL) && !raw.out.contains(REASON), "{raw}");
        assert!(raw.out.contains("sealed:1:team/1:"), "{raw}");
    }
    let said = world.solyx(&["tail", "jobs", "--all"]).ends(0).says(&["[erased: key team/1 is not at hand]"]);
    assert!(!said.out.contains("sealed:1:"), "{said}");
    world.solyx(&["tail", "jobs", "--all", "--keys", &keys]).ends(0).says(&[LABEL, REASON]);
    world.solyx(&["tail", "jobs", "--all", "--keys", &keys, "--json"]).ends(0).says(&[LABEL, REASON]);
    // A decision quotes the reason, and is opened like the event itself.
    let said = world.solyx(&["explain", "first-job"]).ends(0);
    said.says(&["cancelled: ", "asked by desk: [erased: key team/1 is not at hand]"]);
    world.solyx(&["explain", "first-job", "--keys", &keys]).ends(0).says(&[&format!("asked by desk: {REASON}")]);
}

#[test]
fn without_the_key_everything_is_audited_as_before_and_what_depends_on_it_is_listed() {
    let Sealed { world, keys, key, .. } = sealed(true);
    let with_key = world.audit();
    std::fs::remove_file(&key).unwrap();
    let gone = json!({
        "type": "TenantKeyDestroyed", "event_id": "gone", "source": "operator", "occurred_us": 1_793_785_600_000_000_i64,
        "tenant": tenant(), "key_id": "team/1",
    });
    let gone = world.write("gone.jsonl", gone.to_string());
    world.solyx(&["publish", &gone]).ends(0);
    world.run();
    let said = world.audit();
    assert_eq!(with_key["sealed"][0]["destroyed_in_epoch"], Value::Null);
    let of_key = &said["sealed"][0];
    assert_eq!(
        (&of_key["key_id"], &of_key["texts"], &of_key["quoted"]),
        (&json!("team/1"), &json!(2), &json!(1)),
        "{said}"
    );
    assert!(of_key["destroyed_in_epoch"].is_i64(), "{said}");
    let records = of_key["records"].as_array().unwrap();
    assert!(records.iter().any(|r| r.as_str().unwrap().starts_with("jobs/")), "{said}");
    assert!(records.iter().any(|r| r.as_str().unwrap().starts_with("decisions/")), "{said}");
    world.solyx(&["audit"]).ends(0).says(&[
        "sealed with key team/1",
        "2 texts, quoted by 1 decisions",
        "what they said is erased",
    ]);
    world.solyx(&["explain", "first-job", "--keys", &keys]).ends(0).says(&["[erased: key team/1 is not at hand]"]);
    let archive = world.path("archive").display().to_string();
    world.solyx(&["archive", "export", "--archive", &archive]).ends(0);
    assert_eq!(solyx(&["audit", "--archive", &archive, "--json"]).ends(0).json()["sealed"], said["sealed"]);
}

#[test]
fn a_receipt_is_good_without_the_key_and_shows_nothing_of_what_is_sealed() {
    let Sealed { world, key, keys, .. } = sealed(true);
    world.key("first");
    world.declare("first");
    world.run();
    world.sign("first").ends(0);
    let decision = world.decisions("JobCancelled")[0].clone();
    let file = world.prove("decision", &decision);
    std::fs::rename(world.log(), world.path("away")).unwrap();
    let public = world.path("first.pub").display().to_string();
    let said = solyx(&["verify", &file, "--public-keys", &public]).ends(0);
    let said = said.says(&["good: ", "JobCancelled"]);
    let receipt = std::fs::read_to_string(&file).unwrap();
    let away = world.path("away").display().to_string();
    let shown = solyx(&["prove", "decision", &decision, "--log", &away, "--keys", &keys]).ends(0);
    assert_eq!(shown.out, receipt, "what goes to stdout is the file");
    std::fs::remove_file(&key).unwrap();
    for text in [&said.out, &receipt] {
        assert!(!text.contains(LABEL) && !text.contains(REASON), "{text}");
    }
    assert!(refuses_every_change(&file) > 100);
}

#[test]
fn the_same_events_sealed_again_are_duplicates_and_a_key_for_another_tenant_publishes_nothing_open() {
    let Sealed { world, file, key, keys } = sealed(false);
    world.solyx(&["publish", &file, "--encrypt", &key]).ends(0);
    world.run();
    let skipped = world.solyx(&["tail", "quarantine", "--all", "--json"]).ends(0);
    assert_eq!(skipped.out.matches("\"DUPLICATE\"").count(), 2, "{skipped}");
    assert!(!skipped.out.contains("CONFLICT"), "{skipped}");
    world.audit();

    let other = format!("{keys}/other.key");
    solyx(&["keys", "new", "--tenant", "another", "--key-id", "another/1", &other]).ends(0);
    solyx(&["keys", "new", "--tenant", "another", "--key-id", "another/1", &other])
        .fails(3, &["the key was not written", "exists"]);
    let said = world.solyx(&["publish", &file, "--encrypt", &other]).ends(1);
    said.says(&["field tenant: found", "expected a tenant of a key that is given: another/1"]);
    let said = world.solyx(&["publish", &file, "--encrypt", &key, "--encrypt", &other, "--json"]).ends(1);
    said.says(&["one key, since the event does not say whose it is"]);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
    world.solyx(&["publish", &file, "--encrypt", &other]).fails(2, &["its mode is 0644, expected 0600"]);
    world.solyx(&["tail", "jobs", "--keys", &keys]).fails(2, &["its mode is 0644, expected 0600"]);
}

#[test]
fn what_is_sealed_changes_no_decision() {
    let Sealed { world: with, .. } = sealed(true);
    let plain = World::empty();
    plain.solyx(&["publish", &ops("fleets/hybrid.toml"), "--staged"]).ends(0);
    let file = plain.write("events.jsonl", events(&tenant()));
    plain.solyx(&["publish", &file, "--staged"]).ends(0);
    plain.run();
    let decisions = |world: &World| {
        let said = world.solyx(&["tail", "decisions", "--all", "--json"]).ends(0);
        let events = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone());
        let decided = events.filter(|event| event["type"] != "solyx.decisions.EpochCommitted");
        let without_quotes = decided.map(|mut event| {
            event.as_object_mut().unwrap().remove("detail");
            event
        });
        without_quotes.collect::<Vec<_>>()
    };
    assert!(!decisions(&plain).is_empty());
    assert_eq!(decisions(&with), decisions(&plain));
}
