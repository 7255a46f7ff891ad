//! What two say of the epoch that they decide differently, side by side.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use solyx_schemas::json::from_json;

use crate::commands::explain;

/// Jobs and pools that the state before is asked for.
pub const ASKED_MAX: usize = 12;

/// A record that one lets count and the other does not, or not for the same reason.
#[derive(Debug, Serialize)]
pub struct Judgement {
    /// Topic, partition and ordinal.
    pub record: String,
    /// What the first says.
    pub good: String,
    /// What the second says.
    pub bad: String,
}

/// A field in which the first two decisions differ.
#[derive(Debug, Serialize)]
pub struct Field {
    /// Its path.
    pub field: String,
    /// Of the first.
    pub good: Value,
    /// Of the second.
    pub bad: Value,
}

/// How two epochs differ.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Number.
    pub epoch: Value,
    /// Time.
    pub now_us: Value,
    /// Records judged differently, by position.
    pub judgements: Vec<Judgement>,
    /// Decisions that only the first makes, or makes in another place among the others.
    pub good: Vec<Value>,
    /// The same of the second.
    pub bad: Vec<Value>,
    /// Fields in which the first decision of each differs, where both are of one kind about the same.
    pub fields: Vec<Field>,
}

impl Difference {
    /// Of the two answers to `solyx derive --at`.
    pub fn of(good: &Value, bad: &Value) -> Self {
        let (only_good, only_bad) = decisions(good, bad);
        let fields = pair(&only_good, &only_bad).map_or_else(Vec::new, |(good, bad)| {
            let mut fields = Vec::new();
            fields_of("", good, bad, &mut fields);
            fields
        });
        let (epoch, now_us) = (good["epoch"].clone(), good["now_us"].clone());
        Self { epoch, now_us, judgements: judgements(good, bad), good: only_good, bad: only_bad, fields }
    }

    /// Jobs and pools that the differing decisions name, in the order in which they do.
    pub fn about(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let decisions = self.good.iter().chain(&self.bad);
        let named = decisions.flat_map(|decision| {
            ["job", "for_job", "pool", "from_pool"].map(|name| decision[name].as_str().map(str::to_owned))
        });
        named.flatten().filter(|id| seen.insert(id.clone())).take(ASKED_MAX).collect()
    }
}

/// The two decisions that answer each other: the first that one has, and what the other says of the same job.
pub fn pair<'v>(good: &'v [Value], bad: &'v [Value]) -> Option<(&'v Value, &'v Value)> {
    let same = |a: &Value, b: &Value| a["type"] == b["type"] && a["job"] == b["job"];
    good.iter().find_map(|g| Some((g, bad.iter().find(|b| same(g, b))?)))
}

/// A decision without its number among those of its epoch, which moves with any other.
fn unnumbered(decision: &Value) -> Value {
    let mut decision = decision.clone();
    if let Some(fields) = decision.as_object_mut() {
        fields.shift_remove("index");
    }
    decision
}

fn decisions(good: &Value, bad: &Value) -> (Vec<Value>, Vec<Value>) {
    let of = |said: &Value| said["decisions"].as_array().cloned().unwrap_or_default();
    let (good, bad) = (of(good), of(bad));
    let keys = |decisions: &[Value]| decisions.iter().map(|d| unnumbered(d).to_string()).collect::<Vec<_>>();
    let (of_good, of_bad) = (keys(&good), keys(&bad));
    let only = |all: &[Value], own: &[String], other: &[String]| {
        let mut other: Vec<&String> = other.iter().collect();
        let mut only = Vec::new();
        for (decision, key) in all.iter().zip(own) {
            match other.iter().position(|o| *o == key) {
                Some(at) => drop(other.swap_remove(at)),
                None => only.push(decision.clone()),
            }
        }
        only
    };
    let (only_good, only_bad) = (only(&good, &of_good, &of_bad), only(&bad, &of_bad, &of_good));
    if !only_good.is_empty() || !only_bad.is_empty() {
        return (only_good, only_bad);
    }
    // The same in another order.
    let moved = |at: &usize| of_good.get(*at) != of_bad.get(*at);
    let places: Vec<usize> = (0..good.len()).filter(moved).collect();
    let at = |all: &[Value]| places.iter().filter_map(|at| all.get(*at).cloned()).collect();
    (at(&good), at(&bad))
}

fn judgements(good: &Value, bad: &Value) -> Vec<Judgement> {
    let of = |said: &Value| -> Vec<(String, String)> {
        let skipped = said["skipped"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let place = |s: &Value| format!("{}/{}/{}", text(&s["topic"]), s["partition"], s["ordinal"]);
        skipped.map(|s| (place(s), text(&s["reason"]))).collect()
    };
    let (good, bad) = (of(good), of(bad));
    let reason = |said: &[(String, String)], record: &str| {
        said.iter().find(|(at, _)| at == record).map_or("counts".to_owned(), |(_, reason)| reason.clone())
    };
    let mut seen = BTreeSet::new();
    let records = good.iter().chain(&bad).map(|(record, _)| record).filter(|record| seen.insert((*record).clone()));
    let judged = records.map(|record| Judgement {
        record: record.clone(),
        good: reason(&good, record),
        bad: reason(&bad, record),
    });
    judged.filter(|judgement| judgement.good != judgement.bad).collect()
}

fn fields_of(path: &str, good: &Value, bad: &Value, found: &mut Vec<Field>) {
    if good == bad {
        return;
    }
    match (good, bad) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names.filter(|name| !(path.is_empty() && *name == "index")) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let null = Value::Null;
                fields_of(&path, a.get(name).unwrap_or(&null), b.get(name).unwrap_or(&null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (place, (a, b)) in a.iter().zip(b).enumerate() {
                fields_of(&format!("{path}[{place}]"), a, b, found);
            }
        }
        _ => found.push(Field { field: path.to_owned(), good: good.clone(), bad: bad.clone() }),
    }
}

/// A decision in words, as far as this build has words for it.
pub fn in_words(decision: &Value) -> String {
    match from_json(decision) {
        Ok(event) => {
            let job = decision["job"].as_str().map_or(String::new(), |job| format!("{job} "));
            format!("{job}{}", explain::said(&event))
        }
        Err(_) => decision.to_string(),
    }
}

/// What the states before the epoch have of an id: of both when they agree, of each otherwise.
pub fn before(id: &str, good: Value, bad: Value) -> Value {
    if good == bad { json!({"id": id, "both": good}) } else { json!({"id": id, "good": good, "bad": bad}) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(decisions: Value, skipped: Value) -> Value {
        json!({"epoch": 3, "now_us": 7, "decisions": decisions, "skipped": skipped})
    }

    #[test]
    fn what_only_one_decides_is_told_whatever_its_number() {
        let held = |job: &str, index: i64| json!({"type": "solyx.decisions.JobHeld", "job": job, "index": index});
        let good = said(json!([held("a", 0), held("b", 1)]), json!([]));
        let bad = said(json!([held("c", 0), held("a", 1), held("b", 2)]), json!([]));
        let difference = Difference::of(&good, &bad);
        assert_eq!((difference.good, difference.bad), (vec![], vec![held("c", 0)]));
    }

    #[test]
    fn another_order_of_the_same_is_a_difference() {
        let placed = |job: &str, index: i64| json!({"type": "solyx.decisions.JobPlaced", "job": job, "index": index});
        let good = said(json!([placed("a", 0), placed("b", 1), placed("c", 2)]), json!([]));
        let bad = said(json!([placed("b", 0), placed("a", 1), placed("c", 2)]), json!([]));
        let difference = Difference::of(&good, &bad);
        assert_eq!(difference.about(), ["a", "b"]);
    }

    #[test]
    fn fields_and_judgements_are_named() {
        let placed = |pool: &str| json!([{"type": "solyx.decisions.JobPlaced", "job": "a", "pool": pool, "terms": {"rent_micros": 1}}]);
        let skip = |reason: &str| json!([{"topic": "jobs", "partition": 0, "ordinal": 4, "reason": reason}]);
        let difference = Difference::of(&said(placed("x"), skip("INVALID")), &said(placed("y"), skip("DUPLICATE")));
        assert_eq!(difference.fields.len(), 1);
        assert_eq!((difference.fields[0].field.as_str(), &difference.fields[0].bad), ("pool", &json!("y")));
        let judgement = &difference.judgements[0];
        assert_eq!((judgement.record.as_str(), judgement.good.as_str()), ("jobs/0/4", "INVALID"));
        assert_eq!(judgement.bad, "DUPLICATE");
    }
}
