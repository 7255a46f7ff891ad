//! Events as JSON: what is accepted, what comes back, and what an error says.

#![allow(clippy::unwrap_used)] // helpers of tests

use serde_json::{Value, json};
use solyx_schemas::describe::describe;
use solyx_schemas::events::{EVENT_TYPES, Event, event_type};
use solyx_schemas::json::{from_json, read_lines, to_json};

/// A change of an event as JSON.
type Edit = fn(&mut Value);

fn example(name: &str) -> Value {
    to_json(&(event_type(name).unwrap().example)())
}

/// The one error of an event after an edit, as (path, found, expected).
fn error_after(name: &str, edit: impl FnOnce(&mut Value)) -> (String, String, String) {
    let mut value = example(name);
    edit(&mut value);
    let errors = from_json(&value).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = errors.into_iter().next().unwrap();
    (error.path, error.found, error.expected)
}

#[test]
fn every_example_is_valid_and_comes_back_from_its_json() {
    let wrong: Vec<String> =
        EVENT_TYPES.iter().filter_map(|t| (t.example)().check().err().map(|e| format!("{}: {e}", t.name))).collect();
    assert_eq!(wrong, Vec::<String>::new());
    for event_type in EVENT_TYPES {
        let event = (event_type.example)();
        let json = to_json(&event);
        assert_eq!(json["type"], event_type.name);
        assert_eq!(from_json(&json).unwrap(), event);
    }
}

#[test]
fn short_names_and_text_for_instants_are_understood_and_defaults_may_be_left_out() {
    let event = from_json(&json!({
        "type": "EnergyPriced", "event_id": "e1", "source": "market", "occurred_us": "2023-09-03T12:00:00Z",
        "zone": "DE-LU", "from_us": "2023-09-04T00:00:00Z", "to_us": 1_693_789_200_000_000i64,
        "price_micros_per_mwh": -1_500_000, "currency": "EUR", "kind": "DAY_AHEAD", "revision": 0,
        "published_us": "2023-09-03T14:00:00+02:00",
    }))
    .unwrap();
    let Event::EnergyPriced(priced) = &event else { panic!("{event:?}") };
    assert_eq!(priced.from_us.0, 1_693_785_600_000_000);
    assert_eq!(to_json(&event)["published_us"], 1_693_742_400_000_000i64);
    let cordon =
        json!({"type": "solyx.jobs.JobRequestAmended", "event_id": "a", "source": "b", "occurred_us": 0, "job": "j"});
    assert!(from_json(&cordon).is_ok());
}

#[test]
fn an_error_names_the_field_the_value_and_what_was_expected() {
    let (path, found, expected) = error_after("JobRequested", |v| v["gang"]["gpus"] = json!(-2));
    assert_eq!((path.as_str(), found.as_str()), ("gang.gpus", "-2"));
    assert!(expected.starts_with("0 to"), "{expected}");
    let (path, found, expected) = error_after("JobRequested", |v| v["kind"] = json!("TRAIN"));
    assert_eq!((path.as_str(), found.as_str()), ("kind", "\"TRAIN\""));
    assert_eq!(expected, "one of TRAINING, BATCH, SERVING, INTERACTIVE");
    let (path, found, _) = error_after("JobRequested", |v| v["gang"]["gpus"] = json!("eight"));
    assert_eq!((path.as_str(), found.as_str()), ("gang.gpus", "\"eight\""));
    let (path, found, _) = error_after("JobRequested", |v| drop(v.as_object_mut().unwrap().shift_remove("tenant")));
    assert_eq!((path.as_str(), found.as_str()), ("tenant", "nothing"));
    let (path, _, expected) = error_after("JobRequested", |v| v["tennant"] = json!("x"));
    assert_eq!(path, "tennant");
    assert!(expected.contains("perhaps tenant"), "{expected}");
    let (path, ..) = error_after("NodeReported", |v| v["gpus"][0]["max_w"] = json!(1.5));
    assert_eq!(path, "gpus[0].max_w");
    let (path, _, expected) = error_after("JobRequested", |v| v["type"] = json!("JobRequest"));
    assert_eq!(path, "type");
    assert!(expected.contains("JobRequested"), "{expected}");
    let (path, ..) = error_after("JobRequested", |v| v["job"] = json!("a job"));
    assert_eq!(path, "job");
    let (path, ..) = error_after("EpochCommitted", |v| v["state_digest"] = json!("AB"));
    assert_eq!(path, "state_digest");
    let (path, ..) = error_after("TenantDeclared", |v| v["billing_currency"] = json!("dollars"));
    assert_eq!(path, "billing_currency");
}

#[test]
fn all_that_is_wrong_with_the_types_of_an_event_is_said_at_once() {
    let mut value = example("JobRequested");
    value["gang"]["gpus"] = json!(true);
    value["class"] = json!(1);
    value["extra"] = json!(null);
    let paths: Vec<String> = from_json(&value).unwrap_err().into_iter().map(|e| e.path).collect();
    assert_eq!(paths, ["extra", "gang.gpus", "class"]);
}

/// A job with a MIG profile and these shares of GPUs.
fn mig(v: &mut Value, gpus: i64, gpu_milli_each: i64) {
    v["gang"]["mig_profile"] = json!("1g.10gb");
    v["gang"]["gpus"] = json!(gpus);
    v["gang"]["gpu_milli_each"] = json!(gpu_milli_each);
}

#[test]
fn fields_that_do_not_fit_together_are_named() {
    // Ids of runs and outputs are made from these two and have to be ids as well.
    let cases: [(&str, Edit, &str); 30] = [
        ("JobRequested", |v| v["job"] = json!("j".repeat(113)), "job"),
        ("CellDeclared", |v| v["cell_id"] = json!("c".repeat(65)), "cell_id"),
        ("JobRequested", |v| v["gang"]["replicas_max"] = json!(1), "gang.replicas_max"),
        ("JobRequested", |v| v["gang"]["replicas_min"] = json!(0), "gang.replicas_min"),
        ("JobRequested", |v| v["gang"]["gpu_milli_each"] = json!(500), "gang.gpu_milli_each"),
        ("JobRequested", |v| mig(v, 0, 1_000), "gang.gpus"),
        ("JobRequested", |v| mig(v, 1, 500), "gang.gpu_milli_each"),
        ("GpuModelDeclared", |v| v["mig_profiles"][0]["starts"] = json!([16]), "mig_profiles[0].starts"),
        ("GpuModelDeclared", |v| v["mig_profiles"][0]["slices"] = json!(17), "mig_profiles[0].slices"),
        ("JobRequested", |v| v["depends_on"][0]["job"] = v["job"].clone(), "depends_on[0].job"),
        ("JobRequested", |v| v["array"]["index"] = json!(8), "array.index"),
        ("JobRequested", |v| v["not_before_us"] = json!("2030-01-01"), "deadline_us"),
        ("JobRequested", |v| v["client_regions"][0]["weight_milli"] = json!(999), "client_regions"),
        ("JobRequested", |v| v["residency"] = json!(["Germany"]), "residency"),
        ("NodeReported", |v| v["feeds"][0]["share_milli"] = json!(400), "feeds"),
        ("NodeReported", |v| v["gpus"] = json!([v["gpus"][0], v["gpus"][0]]), "gpus[1]"),
        ("NodeReported", |v| v["gpus"][0]["index"] = json!(-1), "gpus[0].index"),
        ("EnergyPriced", |v| v["to_us"] = v["from_us"].clone(), "to_us"),
        ("EnergyPriced", |v| v["published_us"] = json!(1), "published_us"),
        ("CarbonReported", |v| v["occurred_us"] = json!(1), "published_us"),
        ("UsageMetered", |v| v["to_us"] = json!(v["to_us"].as_i64().unwrap() + 1), "to_us"),
        ("ExchangeRateSet", |v| v["denominator"] = json!(0), "denominator"),
        ("PeriodClosed", |v| v["period"] = json!("2023-13"), "period"),
        ("CellDeclared", |v| v["partitions"][0]["topic"] = json!("solyx.jobs"), "partitions[0].topic"),
        ("RateCardSet", |v| v["lines"][0]["tiers"][0]["up_to"] = json!(5), "lines[0].tiers[0].up_to"),
        ("RateCardSet", |v| v["lines"][0]["tiers"] = json!([]), "lines[0].tiers"),
        ("NodeAttested", |v| v["evidence_digest"] = json!("xyz"), "evidence_digest"),
        ("PowerElementDeclared", |v| v["parents"] = json!(["a", "b", "c"]), "parents"),
        ("WorkScripted", |v| v["end"] = json!("FAILED"), "failure"),
        ("JobPlaced", |v| v["nodes"] = json!([]), "nodes"),
    ];
    for (name, edit, field) in cases {
        assert_eq!(error_after(name, edit).0, field, "{name}");
    }
}

#[test]
fn a_bad_line_is_numbered_and_stops_nothing() {
    let good = example("TenantDeclared").to_string();
    let text = format!("{good}\n\n{{\"type\": \"TenantDeclared\"\nnot json\n\u{fffd}\n{good}\r\n[1]\n{good}");
    let mut seen = Vec::new();
    read_lines(text.as_bytes(), |line| seen.push((line.number, line.event.is_ok()))).unwrap();
    assert_eq!(seen, [(1, true), (3, false), (4, false), (5, false), (6, true), (7, false), (8, true)]);
}

#[test]
fn a_description_has_units_symbols_defaults_and_nested_fields() {
    let described = describe("JobRequested").unwrap();
    assert_eq!((described.topic, described.key.as_slice()), ("jobs", ["job"].as_slice()));
    let gang = described.fields.iter().find(|f| f.name == "gang").unwrap();
    assert!(gang.required && gang.fields.iter().any(|f| f.name == "memory_mib" && f.unit.as_deref() == Some("MiB")));
    let kind = described.fields.iter().find(|f| f.name == "kind").unwrap();
    assert_eq!(kind.symbols, ["TRAINING", "BATCH", "SERVING", "INTERACTIVE"]);
    assert_eq!(describe("solyx.network.LinkMeasured").unwrap().key, ["from_region", "to_region"]);
    assert!(describe("Nothing").is_none());
}
