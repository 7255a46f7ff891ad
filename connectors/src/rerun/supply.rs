//! Other supply: another fleet in place of the recorded one, other pools, fewer nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::policy::ScopeKind;
use solyx_schemas::topics::Topic;
use solyx_schemas::units::{Count, RateMicros};

use super::apply::{Change, times};
use super::variation::{Nodes, Pools, matches};
use crate::fleet::{self, FleetError};

/// Topics that supply is in.
const SUPPLY: [Topic; 6] =
    [Topic::Policy, Topic::Facility, Topic::Assets, Topic::Capacity, Topic::Nodes, Topic::Attestation];

/// Whether an event describes supply: what a fleet is made of, and what became of it.
fn is_supply(event: &Event) -> bool {
    match event {
        Event::GpuModelDeclared(_) | Event::CommitmentBought(_) | Event::ReserveSet(_) | Event::PowerLimitSet(_) => {
            true
        }
        Event::ScopeStateChanged(e) => matches!(e.scope_kind, ScopeKind::Pool | ScopeKind::Site),
        event => event.topic() != Topic::Policy && SUPPLY.contains(&event.topic()),
    }
}

/// Puts a fleet file's supply in place of the recorded one, from the first instant on. Tenants, rules, prices of usage and
/// weights stay as recorded.
pub(super) fn replace(change: &mut Change<'_>, path: &Path) -> Result<(), FleetError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| change.wrong("field fleet", format!("{file}: {e}"), "a fleet file that can be read"))?;
    let events = fleet::parse(&file, &text, Some(change.recording.from))?;
    let mut features = BTreeSet::new();
    for topic in SUPPLY {
        for (at, event) in change.events(topic) {
            match &event {
                Event::FeatureEnabled(e) => _ = features.insert(e.feature.clone()),
                event if is_supply(event) => change.drop(at),
                _ => {}
            }
        }
    }
    // What providers had left is said of the pools that were.
    let scripts = change.changes.scripts.get_or_insert_with(|| change.recording.scripts.clone());
    scripts.retain(|event| !matches!(event, Event::AvailabilityScripted(_)));
    for event in events {
        let is_new = matches!(&event, Event::FeatureEnabled(e) if !features.contains(&e.feature));
        if is_supply(&event) || is_new {
            change.add(event, "fleet")?;
        }
    }
    Ok(())
}

/// Pools that are not there, cordoned, dearer or larger.
pub(super) fn pools(change: &mut Change<'_>, wanted: &Pools) -> Result<(), FleetError> {
    let class = match &wanted.class {
        None => None,
        Some(word) => {
            let symbol = CapacityClass::parse(&word.to_ascii_uppercase().replace('-', "_"));
            let expected = "one of owned, reserved, on-demand, spot";
            Some(symbol.ok_or_else(|| change.wrong("pools, field class", format!("{word:?}"), expected))?)
        }
    };
    let mut meant = BTreeSet::new();
    let mut names = BTreeSet::new();
    let declared: Vec<Event> = change.supply_events(Topic::Capacity);
    for event in &declared {
        if let Event::PoolDeclared(pool) = event {
            if class.is_some_and(|class| class != pool.class) {
                continue;
            }
            names.insert(pool.pool.to_string());
            if matches(&wanted.pool, pool.pool.as_str()) {
                meant.insert(pool.pool.to_string());
            }
        }
    }
    // A baseline names classes that a fleet may be without.
    if meant.is_empty() && !wanted.of_baseline {
        return Err(change.no_match("pools", &wanted.pool, &names));
    }
    if wanted.cordon {
        // Nobody opens them again.
        change.edit(Topic::Policy, "pools", |event| match event {
            Event::ScopeStateChanged(e) if e.scope_kind == ScopeKind::Pool && meant.contains(e.scope.as_str()) => {
                Edit::Drop
            }
            _ => Edit::Keep,
        })?;
        for pool in &meant {
            change.cordon(ScopeKind::Pool, pool)?;
        }
    }
    let (mut priced, mut counted) = (false, false);
    change.edit(Topic::Capacity, "pools", |event| {
        if !pool_of(event).is_some_and(|pool| meant.contains(pool)) {
            return Edit::Keep;
        }
        if wanted.remove {
            return Edit::Drop;
        }
        match event {
            Event::PoolPriced(e) => match (wanted.price_per_gpu_hour, wanted.price_factor) {
                (Some(price), _) => e.price_micros_per_gpu_hour = RateMicros(price.0),
                (None, Some(factor)) => {
                    e.price_micros_per_gpu_hour = RateMicros(times(e.price_micros_per_gpu_hour.0, factor.0));
                }
                (None, None) => return Edit::Keep,
            },
            Event::PoolAvailabilityReported(e) => match wanted.instances {
                Some(instances) => e.instances = Some(Count(instances)),
                None => return Edit::Keep,
            },
            _ => return Edit::Keep,
        }
        priced |= matches!(event, Event::PoolPriced(_));
        counted |= matches!(event, Event::PoolAvailabilityReported(_));
        Edit::Put
    })?;
    if let Some(instances) = wanted.instances {
        let mut scripts = change.changes.scripts.take().unwrap_or_else(|| change.recording.scripts.clone());
        for event in &mut scripts {
            if let Event::AvailabilityScripted(script) = event
                && meant.contains(script.pool.as_str())
            {
                script.instances = Count(instances);
                counted = true;
            }
        }
        change.changes.scripts = Some(scripts);
    }
    let changes_price = wanted.price_factor.is_some() || wanted.price_per_gpu_hour.is_some();
    for (is_asked, is_there, field, expected) in [
        (changes_price, priced, "price_factor or price_per_gpu_hour", "pools that have a price in the log"),
        (wanted.instances.is_some(), counted, "instances", "pools whose provider says what it has left"),
    ] {
        if is_asked && !is_there && !wanted.remove && !meant.is_empty() {
            let found = format!("{:?}, of which nothing would change", wanted.pool);
            return Err(change.wrong(&format!("pools, field {field}"), found, expected));
        }
    }
    if wanted.remove {
        // What was paid for them beforehand is not bought either.
        change.edit(Topic::Policy, "pools", |event| drop_commitment(event, &meant))?;
        let nodes = change.nodes_of(|pool| meant.contains(pool));
        change.drop_nodes(&nodes.into_values().flatten().collect())?;
    }
    Ok(())
}

/// Fewer nodes of ours.
pub(super) fn keep_nodes(change: &mut Change<'_>, wanted: &Nodes) -> Result<(), FleetError> {
    if wanted.keep < 0 {
        return Err(change.wrong("nodes, field keep", wanted.keep, "0 or more"));
    }
    let pools = change.nodes_of(|pool| matches(&wanted.pool, pool));
    if pools.is_empty() {
        let all = change.nodes_of(|_| true).into_keys().collect();
        return Err(change.no_match("nodes", &wanted.pool, &all));
    }
    let keep = usize::try_from(wanted.keep).unwrap_or(usize::MAX);
    let gone = pools.into_values().flat_map(|nodes| nodes.into_iter().skip(keep)).collect();
    change.drop_nodes(&gone)
}

fn drop_commitment(event: &Event, pools: &BTreeSet<String>) -> Edit {
    match event {
        Event::CommitmentBought(e) if pools.contains(e.pool.as_str()) => Edit::Drop,
        _ => Edit::Keep,
    }
}

fn pool_of(event: &Event) -> Option<&str> {
    match event {
        Event::PoolDeclared(e) => Some(e.pool.as_str()),
        Event::PoolPriced(e) => Some(e.pool.as_str()),
        Event::PoolAvailabilityReported(e) => Some(e.pool.as_str()),
        Event::PoolWithdrawn(e) => Some(e.pool.as_str()),
        _ => None,
    }
}

/// What becomes of an event.
enum Edit {
    Keep,
    Put,
    Drop,
}

impl Change<'_> {
    /// Events of a topic, those that a fleet file has added among them.
    fn supply_events(&self, topic: Topic) -> Vec<Event> {
        let added = self.changes.added.iter().filter(|taken| taken.record.topic.topic == topic);
        let codec = solyx_schemas::codec::Codec::global();
        let added = added.filter_map(|taken| Some(codec.decode_record(&taken.record).ok()?.event));
        self.events(topic).into_iter().map(|(_, event)| event).chain(added).collect()
    }

    /// Changes events of a topic, those that a fleet file has added among them.
    fn edit(&mut self, topic: Topic, place: &str, mut edit: impl FnMut(&mut Event) -> Edit) -> Result<(), FleetError> {
        for (at, mut event) in self.events(topic) {
            match edit(&mut event) {
                Edit::Keep => {}
                Edit::Put => self.put(at, &event, place)?,
                Edit::Drop => self.drop(at),
            }
        }
        let codec = solyx_schemas::codec::Codec::global();
        for taken in std::mem::take(&mut self.changes.added) {
            let decoded = codec.decode_record(&taken.record).ok().filter(|_| taken.record.topic.topic == topic);
            let Some(mut decoded) = decoded else {
                self.changes.added.push(taken);
                continue;
            };
            match edit(&mut decoded.event) {
                Edit::Keep => self.changes.added.push(taken),
                Edit::Put => self.add(decoded.event, place)?,
                Edit::Drop => {}
            }
        }
        Ok(())
    }

    /// Nodes by pool and name.
    fn nodes_of(&self, is_meant: impl Fn(&str) -> bool) -> BTreeMap<String, BTreeSet<String>> {
        let mut nodes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for event in self.supply_events(Topic::Nodes) {
            if let Event::NodeReported(node) = event
                && is_meant(node.pool.as_str())
            {
                nodes.entry(node.pool.to_string()).or_default().insert(node.node.to_string());
            }
        }
        nodes
    }

    /// Takes nodes away, with their attestations and what stands in the books for them.
    fn drop_nodes(&mut self, gone: &BTreeSet<String>) -> Result<(), FleetError> {
        let mut serials = BTreeSet::new();
        for event in self.supply_events(Topic::Assets) {
            if let Event::AssetInstalled(asset) = event
                && asset.node.as_ref().is_some_and(|node| gone.contains(node.as_str()))
            {
                serials.insert(asset.serial.to_string());
            }
        }
        let is_gone = |event: &mut Event| if gone.contains(&*event.key()) { Edit::Drop } else { Edit::Keep };
        self.edit(Topic::Nodes, "nodes", is_gone)?;
        self.edit(Topic::Attestation, "nodes", is_gone)?;
        self.edit(Topic::Assets, "nodes", |event| if serials.contains(&*event.key()) { Edit::Drop } else { Edit::Keep })
    }
}
