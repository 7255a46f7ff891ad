//! The part of an audit that makes packing prices again, from the state at each plan's frontier.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use solyx_kernel::Kernel;
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::RawEpoch;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{PlanKind, PlanPublished};
use solyx_schemas::log::{Log, LogError, LogErrorKind, Scan};
use solyx_schemas::topics::Topic;

use crate::compare::Difference;

/// Plans made again by frontier, as far as the audit has come.
#[derive(Default)]
pub struct Plans {
    frontiers: BTreeSet<i64>,
    /// None where the state had no prices to give.
    made: BTreeMap<i64, Option<PlanPublished>>,
    from_epoch: i64,
    /// Plans that came out as recorded.
    pub derived: u64,
    /// Plans whose frontier lies before the audit, taken as recorded.
    pub as_recorded: u64,
}

impl Plans {
    /// Looks which frontiers the plans of a log have: in real time they cannot be told beforehand. The audit begins at this epoch.
    pub fn of(log: &dyn Log, from_epoch: i64) -> Result<Self, LogError> {
        let mut plans = Self { from_epoch, ..Self::default() };
        for partition in 0..log.partitions(Topic::Plans.into()) {
            for stored in Scan::new(log, Topic::Plans.into(), partition, 0) {
                let stored = match stored {
                    Ok(stored) => stored,
                    // The epoch that took it will say so.
                    Err(error) if error.kind == LogErrorKind::Damaged => break,
                    Err(error) => return Err(error),
                };
                if let Ok(decoded) = Codec::global().decode_record(&stored.record)
                    && let Event::PlanPublished(plan) = decoded.event
                    && plan.kind == PlanKind::PackingPrices
                {
                    plans.frontiers.insert(plan.frontier_epoch.0);
                }
            }
        }
        Ok(plans)
    }

    /// The kernel stands at the end of an epoch: makes the plan of this frontier, if there is one.
    pub fn stand_at(&mut self, kernel: &Kernel, epoch: i64) {
        if self.frontiers.contains(&epoch) {
            self.made.insert(epoch, kernel.packing_plan());
        }
    }

    /// The first difference between the plans that an epoch read and those made again.
    pub fn differs(&mut self, raw: &RawEpoch) -> Option<Difference> {
        for input in raw.inputs.iter().filter(|input| input.skipped.is_none() && input.position.topic() == Topic::Plans)
        {
            let Ok(decoded) = Codec::global().decode_record(&input.stored.record) else { continue };
            let Event::PlanPublished(recorded) = &decoded.event else { continue };
            if recorded.kind != PlanKind::PackingPrices {
                continue;
            }
            let frontier = recorded.frontier_epoch.0;
            if self.from_epoch > 0 && frontier < self.from_epoch {
                self.as_recorded += 1;
                continue;
            }
            let place = format!("plans/{}/{}", input.position.partition, input.position.ordinal);
            let Some(Some(made)) = self.made.get(&frontier) else {
                let recorded = format!("prices of the state after epoch {frontier}");
                return Some(Difference::new(raw.record.epoch, place, "plan", recorded, "none: it has none to give"));
            };
            // Who said it, and when, follows from nothing.
            let PlanPublished { event_id, source, occurred_us, .. } = (**recorded).clone();
            let made = PlanPublished { event_id, source, occurred_us, ..made.clone() };
            if let Some((field, recorded, derived)) = first_field("", &as_json(recorded), &as_json(&made)) {
                return Some(Difference::new(raw.record.epoch, place, field, recorded, derived));
            }
            self.derived += 1;
            // Frontiers only rise: nobody asks for an earlier one any more.
            self.made = self.made.split_off(&frontier.saturating_add(1));
        }
        None
    }
}

fn as_json(plan: &PlanPublished) -> Value {
    serde_json::to_value(plan).unwrap_or_default()
}

/// Path and values of the first field in which two values differ.
fn first_field(path: &str, recorded: &Value, derived: &Value) -> Option<(String, String, String)> {
    match (recorded, derived) {
        (Value::Object(a), Value::Object(b)) => {
            let dot = if path.is_empty() { "" } else { "." };
            a.iter().find_map(|(name, value)| {
                first_field(&format!("{path}{dot}{name}"), value, b.get(name).unwrap_or(&Value::Null))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| first_field(&format!("{path}[{i}]"), a, b))
        }
        (Value::Array(a), Value::Array(b)) => {
            Some((path.to_owned(), format!("{} of them", a.len()), format!("{} of them", b.len())))
        }
        (a, b) => (a != b).then(|| (path.to_owned(), a.to_string(), b.to_string())),
    }
}
