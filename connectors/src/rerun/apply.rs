//! What a variation makes of a recording: records in place of others, records that are not there, and records that are new.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::policy::{
    CostWeightsSet, OwnedFirst, SchedulingPolicySet, ScopeKind, ScopeState, ScopeStateChanged,
};
use solyx_schemas::ids::{EventId, Name, RefId, SourceId};
use solyx_schemas::log::Record;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::*;

use super::recording::{Recording, Taken};
use super::variation::{Variation, matches, wrong};
use super::{baselines, supply};
use crate::fleet::FleetError;
use crate::fleet::format::Policy;
use crate::fleet::policy::set_constants;

/// Requests between two plans where the log makes none and a variation asks for them: the kernel's own default.
const PLAN_INTERVAL: Count = Count(250);

/// What is otherwise in a run of a recording. Everything else is the recording's.
#[derive(Debug, Default)]
pub struct Changes {
    /// By place in the recording; nothing is what is not there any more.
    pub replaced: BTreeMap<usize, Option<Record>>,
    /// New, with the instant at which it comes.
    pub added: Vec<Taken>,
    /// All scripts, when some are otherwise.
    pub scripts: Option<Vec<Event>>,
}

/// A variation that is being worked into a recording.
pub(super) struct Change<'r> {
    pub recording: &'r Recording,
    pub file: &'r str,
    pub name: &'r str,
    pub changes: Changes,
}

/// What a variation changes. `file` is named where it is wrong.
pub fn changes(recording: &Recording, mut variation: Variation, file: &str) -> Result<Changes, FleetError> {
    if let Some(name) = variation.baseline.take() {
        let added = baselines::add(&name, &mut variation, recording);
        added.map_err(|expected| wrong(file, "field baseline", format!("{name:?}"), expected))?;
    }
    let name = variation.name.clone();
    let mut change = Change { recording, file, name: &name, changes: Changes::default() };
    if let Some(fleet) = &variation.fleet {
        supply::replace(&mut change, fleet)?;
    }
    for pools in &variation.pools {
        supply::pools(&mut change, pools)?;
    }
    for nodes in &variation.nodes {
        supply::keep_nodes(&mut change, nodes)?;
    }
    change.policy(&variation)?;
    change.weights(&variation)?;
    change.rates(&variation)?;
    change.energy(&variation)?;
    change.executor(&variation)?;
    Ok(change.changes)
}

/// A value times thousandths, rounded to the nearest, half away from zero; it stays at the end of its range.
pub(super) fn times(value: i64, milli: i64) -> i64 {
    let product = i128::from(value) * i128::from(milli);
    let half = if product < 0 { -500 } else { 500 };
    i64::try_from((product + half) / 1_000).unwrap_or(if product < 0 { i64::MIN } else { i64::MAX })
}

impl Change<'_> {
    /// Where something is wrong.
    pub fn wrong(&self, place: &str, found: impl ToString, expected: impl Into<String>) -> FleetError {
        wrong(self.file, place, found, expected)
    }

    /// Events of a topic as they are by now, with their places.
    pub fn events(&self, topic: Topic) -> Vec<(usize, Event)> {
        let is_untouched = |at: &usize| !self.changes.replaced.contains_key(at);
        let untouched = self.recording.events(topic).filter(|(at, _)| is_untouched(at));
        let touched = self.changes.replaced.iter().filter_map(|(at, record)| {
            let record = record.as_ref().filter(|record| record.topic.topic == topic)?;
            Some((*at, Codec::global().decode_record(record).ok()?.event))
        });
        let mut events: Vec<(usize, Event)> = untouched.chain(touched).collect();
        events.sort_by_key(|(at, _)| *at);
        events
    }

    /// Puts an event in another's place. It has to be valid.
    pub fn put(&mut self, at: usize, event: &Event, place: &str) -> Result<(), FleetError> {
        event.check().map_err(|e| self.wrong(&format!("{place}, field {}", e.path), &e.found, &e.expected))?;
        let old = &self.recording.taken[at].record;
        let record = Codec::global().record(event, old.topic, self.partitions(old.topic.topic));
        self.changes.replaced.insert(at, Some(record));
        Ok(())
    }

    /// Takes a record away.
    pub fn drop(&mut self, at: usize) {
        self.changes.replaced.insert(at, None);
    }

    /// Adds an event at the recording's first instant.
    pub fn add(&mut self, event: impl Into<Event>, place: &str) -> Result<(), FleetError> {
        let event = event.into();
        event.check().map_err(|e| self.wrong(&format!("{place}, field {}", e.path), &e.found, &e.expected))?;
        let topic = TopicName::live(event.topic());
        let record = Codec::global().record(&event, topic, self.partitions(event.topic()));
        self.changes.added.push(Taken { at: self.recording.from, record, counts: true });
        Ok(())
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.recording.partitions.get(&topic).copied().unwrap_or(topic.default_partitions())
    }

    /// Id and source of an event that a variation adds.
    pub fn lead(&self, what: &str) -> (EventId, SourceId) {
        let source = format!("backtest/{}", self.name);
        (EventId::from(blake3::hash(format!("{source}/{what}").as_bytes()).to_hex().as_str()), SourceId::from(source))
    }

    fn policy(&mut self, variation: &Variation) -> Result<(), FleetError> {
        let mut constants = match &variation.policy {
            None if variation.planner.is_none() => return Ok(()),
            constants => constants.clone().unwrap_or_default(),
        };
        if variation.planner.as_deref() == Some("none") {
            constants.plan_interval = Some(0);
        }
        let plans = variation.planner.is_some() && constants.plan_interval.is_none();
        self.check_rules(&constants)?;
        let mut found = false;
        for (at, event) in self.events(Topic::Policy) {
            if let Event::SchedulingPolicySet(mut set) = event {
                found = true;
                set_constants(&constants, &mut set);
                if plans && set.plan_interval.is_some_and(|interval| interval.0 == 0) {
                    set.plan_interval = Some(PLAN_INTERVAL);
                }
                self.put(at, &Event::SchedulingPolicySet(set), "policy")?;
            }
        }
        if found {
            return Ok(());
        }
        let (event_id, source) = self.lead("policy");
        let mut set = SchedulingPolicySet {
            event_id,
            source,
            occurred_us: self.recording.from,
            scope: Name::from("cell"),
            order_rule: Name::from("share-surcharge"),
            packing_rule: Name::from("solyx"),
            ..SchedulingPolicySet::default()
        };
        set_constants(&constants, &mut set);
        self.add(set, "policy")
    }

    /// The kernel rejects a policy with a rule that it does not know: better said before.
    fn check_rules(&self, constants: &Policy) -> Result<(), FleetError> {
        let orders = solyx_kernel::order_rule::OrderRule::NAMES.map(|(name, _)| name);
        if let Some(rule) = constants.order_rule.as_deref().filter(|rule| !orders.contains(rule)) {
            let expected = format!("one of {}", orders.join(", "));
            return Err(self.wrong("policy, field order_rule", format!("{rule:?}"), expected));
        }
        let packing = constants.packing_rule.as_deref();
        if let Some(rule) = packing.filter(|rule| solyx_kernel::packing::Rule::named(rule).is_none()) {
            let names = solyx_kernel::packing::Rule::ALL.map(solyx_kernel::packing::Rule::name).join(", ");
            return Err(self.wrong("policy, field packing_rule", format!("{rule:?}"), format!("one of {names}")));
        }
        Ok(())
    }

    fn weights(&mut self, variation: &Variation) -> Result<(), FleetError> {
        let Some(weights) = &variation.weights else { return Ok(()) };
        let owned_first = match &weights.owned_first {
            None => None,
            Some(word) => {
                let symbol = OwnedFirst::parse(&word.to_ascii_uppercase().replace('-', "_"));
                let expected = "forced or marginal-cost";
                Some(symbol.ok_or_else(|| self.wrong("weights, field owned_first", format!("{word:?}"), expected))?)
            }
        };
        let change = |set: &mut CostWeightsSet| {
            if let Some(price) = weights.carbon_per_kg {
                set.carbon_micros_per_kg = RateMicros(price.0);
            }
            if let Some(risk) = weights.risk {
                set.risk_milli = Milli(risk.0);
            }
            if let Some(price) = weights.latency_per_ms_gpu_hour {
                set.latency_micros_per_ms_gpu_hour = RateMicros(price.0);
            }
            if let Some(factor) = weights.waiting_factor {
                for class in &mut set.waiting {
                    class.waiting_micros_per_hour = RateMicros(times(class.waiting_micros_per_hour.0, factor.0));
                }
            }
            set.owned_first = owned_first.unwrap_or(set.owned_first);
            set.spot_reclaims_per_1000_h = weights.spot_reclaims_per_1000_h.map_or(set.spot_reclaims_per_1000_h, Count);
            set.node_failures_per_1000_h = weights.node_failures_per_1000_h.map_or(set.node_failures_per_1000_h, Count);
        };
        let mut found = false;
        let mut currency = None;
        for (at, event) in self.events(Topic::Policy) {
            match event {
                Event::CostWeightsSet(mut set) => {
                    found = true;
                    change(&mut set);
                    self.put(at, &Event::CostWeightsSet(set), "weights")?;
                }
                Event::CellDeclared(cell) => currency = Some(cell.reference_currency),
                _ => {}
            }
        }
        if found {
            return Ok(());
        }
        let Some(currency) = currency else {
            return Err(self.wrong("weights", "a log without a cell's currency", "a log that declares its cell"));
        };
        let (event_id, source) = self.lead("weights");
        let mut set = CostWeightsSet {
            event_id,
            source,
            occurred_us: self.recording.from,
            scope: Name::from("cell"),
            from_us: self.recording.from,
            currency,
            risk_milli: Milli(1_000),
            owned_first: OwnedFirst::Forced,
            ..CostWeightsSet::default()
        };
        change(&mut set);
        self.add(set, "weights")
    }

    fn rates(&mut self, variation: &Variation) -> Result<(), FleetError> {
        for rates in &variation.rates {
            let mut names = BTreeSet::new();
            let mut found = false;
            for (at, event) in self.events(Topic::Policy) {
                let Event::RateCardSet(mut card) = event else { continue };
                names.insert(card.rate_card.to_string());
                if !matches(&rates.rate_card, card.rate_card.as_str()) {
                    continue;
                }
                let wanted = |model: Option<&str>| rates.gpu_model.is_none() || rates.gpu_model.as_deref() == model;
                let of_model = |line: &solyx_schemas::events::policy::RateLine| {
                    wanted(line.gpu_model.as_ref().map(|model| model.as_str()))
                };
                for line in card.lines.iter_mut().filter(|line| of_model(line)) {
                    found = true;
                    for tier in &mut line.tiers {
                        tier.price_micros = RateMicros(times(tier.price_micros.0, rates.factor.0));
                    }
                }
                self.put(at, &Event::RateCardSet(card), "rates")?;
            }
            if !found {
                return Err(self.no_match("rates", &rates.rate_card, &names));
            }
        }
        Ok(())
    }

    fn energy(&mut self, variation: &Variation) -> Result<(), FleetError> {
        for energy in &variation.energy {
            let mut zones = BTreeSet::new();
            let (mut priced, mut measured) = (false, false);
            for (at, mut event) in self.events(Topic::Energy) {
                let zone = match &event {
                    Event::EnergyPriced(e) => &e.zone,
                    Event::CarbonReported(e) => &e.zone,
                    _ => continue,
                };
                let is_meant = matches(&energy.zone, zone.as_str());
                if !zones.contains(zone.as_str()) {
                    zones.insert(zone.to_string());
                }
                if !is_meant {
                    continue;
                }
                match (&mut event, energy.price_factor, energy.carbon_factor) {
                    (Event::EnergyPriced(e), Some(factor), _) => {
                        priced = true;
                        e.price_micros_per_mwh = RateMicros(times(e.price_micros_per_mwh.0, factor.0));
                    }
                    (Event::CarbonReported(e), _, Some(factor)) => {
                        measured = true;
                        e.mg_per_kwh = CarbonIntensityMgPerKwh(times(e.mg_per_kwh.0, factor.0));
                    }
                    _ => continue,
                }
                self.put(at, &event, "energy")?;
            }
            if !priced && !measured && !zones.iter().any(|zone| matches(&energy.zone, zone)) {
                return Err(self.no_match("energy", &energy.zone, &zones));
            }
            for (is_asked, is_there, field, expected) in [
                (energy.price_factor.is_some(), priced, "price_factor", "a zone that has a price in the log"),
                (energy.carbon_factor.is_some(), measured, "carbon_factor", "a zone whose carbon is in the log"),
            ] {
                if is_asked && !is_there {
                    let found = format!("{:?}, of which nothing would change", energy.zone);
                    return Err(self.wrong(&format!("energy, field {field}"), found, expected));
                }
            }
        }
        Ok(())
    }

    fn executor(&mut self, variation: &Variation) -> Result<(), FleetError> {
        let Some(wanted) = &variation.executor else { return Ok(()) };
        let mut scripts = self.changes.scripts.take().unwrap_or_else(|| self.recording.scripts.clone());
        if !scripts.iter().any(|event| matches!(event, Event::ExecutorScripted(_))) {
            let (event_id, source) = self.lead("executor");
            let script = solyx_schemas::events::plans::ExecutorScripted {
                event_id,
                source,
                occurred_us: self.recording.from,
                executor: self.recording.executor(),
                busy_power_milli: Milli(1_000),
                ..Default::default()
            };
            scripts.push(script.into());
        }
        for event in &mut scripts {
            let Event::ExecutorScripted(script) = event else { continue };
            let put = |field: &mut DurationUs, value: Option<crate::fleet::values::Span>| {
                *field = value.map_or(*field, |span| span.0);
            };
            put(&mut script.start_delay_us, wanted.start_delay);
            put(&mut script.stop_delay_us, wanted.stop_delay);
            put(&mut script.repair_us, wanted.repair);
            put(&mut script.power_interval_us, wanted.power_interval);
            let count = |old: Count, value: Option<i64>| value.map_or(old, Count);
            script.seed = count(script.seed, wanted.seed);
            script.node_failures_per_1000_h = count(script.node_failures_per_1000_h, wanted.node_failures_per_1000_h);
            script.spot_reclaims_per_1000_h = count(script.spot_reclaims_per_1000_h, wanted.spot_reclaims_per_1000_h);
            script.busy_power_milli = wanted.busy_power.map_or(script.busy_power_milli, |ratio| Milli(ratio.0));
            let check = event.check();
            check.map_err(|e| self.wrong(&format!("executor, field {}", e.path), &e.found, &e.expected))?;
        }
        self.changes.scripts = Some(scripts);
        Ok(())
    }

    /// A pattern that is of nothing.
    pub fn no_match(&self, table: &str, pattern: &str, names: &BTreeSet<String>) -> FleetError {
        const SHOWN: usize = 8;
        let mut shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
        if names.len() > SHOWN {
            shown.push("…");
        }
        let expected =
            if shown.is_empty() { "a log that has any".to_owned() } else { format!("one of {}", shown.join(", ")) };
        self.wrong(table, format!("{pattern:?}, which the log does not have"), expected)
    }

    /// Cordons something from the first instant on.
    pub fn cordon(&mut self, scope_kind: ScopeKind, scope: &str) -> Result<(), FleetError> {
        let (event_id, source) = self.lead(&format!("cordon/{scope}"));
        let cordon = ScopeStateChanged {
            event_id,
            source,
            occurred_us: self.recording.from,
            scope_kind,
            scope: RefId::from(scope),
            state: ScopeState::Cordoned,
            actor: Name::from("backtest"),
            reason: format!("variation {}", self.name),
        };
        self.add(cordon, "pools")
    }
}
