//! A recorded log, as far as it is demand, world and truth: what another policy would have met.

use std::collections::{BTreeMap, BTreeSet};

use solyx_runtime::INSTANT;
use solyx_runtime::cursors::{Cursors, STAGED};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochReader, RawEpoch, RawInput, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, NodeId, SourceId};
use solyx_schemas::log::{Log, LogError, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

use super::role::{Reporter, Role, role_of, role_of_topic};
use super::truth::{Truth, TruthCounts};

/// Who says the scripts that are made of a log's facts.
const SOURCE: &str = "backtest";

/// A record of demand or world, and when it was read.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The instant.
    pub at: TimeUs,
    /// The record, of an input topic.
    pub record: Record,
    /// Whether it counted, as far as is known. What did not is handed on again as it is.
    pub counts: bool,
}

/// A log as it is run again. It holds every record of demand and world in memory: some hundred bytes for each.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The cell.
    pub cell: CellId,
    /// Chain hash of the last epoch.
    pub chain_head: Hash32,
    /// Epochs.
    pub epochs: i64,
    /// Builds that made them, in the order in which they first did.
    pub engine_versions: Vec<String>,
    /// Time of the first epoch.
    pub from: TimeUs,
    /// Time of the last.
    pub to: TimeUs,
    /// Whether nothing ran any more by then. Otherwise a run ends there too: what came after is not known.
    pub complete: bool,
    /// Whether jobs waited by then.
    pub waiting: bool,
    /// Who reported runs and leases.
    pub reporter: Reporter,
    /// Partitions of each topic.
    pub partitions: BTreeMap<Topic, u32>,
    /// Demand and world, in the order in which they were read.
    pub taken: Vec<Taken>,
    /// Scripts of the executor: the log's own, and what is known of jobs without one.
    pub scripts: Vec<Event>,
    /// Where lengths come from.
    pub truth: TruthCounts,
    /// Records of others than the simulated executor that are left out, by what they are, as a log run again makes its own.
    pub left_out: BTreeMap<String, u64>,
}

impl Recording {
    /// Reads a log from its first epoch to its last. `progress` hears the epochs read.
    pub fn read(log: &dyn Log, progress: &mut dyn FnMut(i64)) -> Result<Option<Self>, ReadError> {
        let (mut scripts, executor) = scripts_of(log)?;
        let mut reading = Reading::new(log, executor)?;
        for event in &scripts {
            if let Event::WorkScripted(script) = event {
                reading.truth.scripted(&script.job);
            }
        }
        let mut reader = EpochReader::new(log);
        let mut cell = None;
        while let Some(epoch) = reader.next_raw()? {
            cell.get_or_insert_with(|| epoch.record.cell.clone());
            reading.epoch(epoch);
            progress(reader.next_epoch());
        }
        let Some(cell) = cell else { return Ok(None) };
        let complete = !reading.truth.is_running();
        let waiting = complete && reading.truth.is_open();
        if complete {
            reading.rest(log)?;
        }
        scripts.retain(|event| match event {
            Event::WorkScripted(script) => reading.truth.knows(&script.job),
            _ => true,
        });
        let (derived, truth) = reading.truth.scripts(&SourceId::from(SOURCE));
        scripts.extend(derived);
        let partitions = Topic::ALL.into_iter().map(|topic| (topic, log.partitions(topic.into()))).collect();
        Ok(Some(Self {
            cell,
            chain_head: reader.chain_head(),
            epochs: reader.next_epoch(),
            engine_versions: reading.versions,
            from: reading.from.unwrap_or_default(),
            to: reading.to,
            complete,
            waiting,
            reporter: reading.reporter,
            partitions,
            taken: reading.taken,
            scripts,
            truth,
            left_out: reading.left_out,
        }))
    }

    /// Name of the executor that a run of it has.
    pub fn executor(&self) -> SourceId {
        let scripted = self.scripts.iter().find_map(|event| match event {
            Event::ExecutorScripted(script) => Some(script.executor.clone()),
            _ => None,
        });
        match (scripted, &self.reporter) {
            (Some(name), _) => name,
            (None, Reporter::Simulated(name)) => name.clone(),
            (None, Reporter::Others) => SourceId::from("simulated"),
        }
    }

    /// Events of a topic among what was taken and counted, with the place of each.
    pub fn events(&self, topic: Topic) -> impl Iterator<Item = (usize, Event)> + '_ {
        let of_topic =
            self.taken.iter().enumerate().filter(move |(_, taken)| taken.counts && taken.record.topic.topic == topic);
        of_topic.filter_map(|(at, taken)| Some((at, Codec::global().decode_record(&taken.record).ok()?.event)))
    }
}

/// The scripts of a log, and the name of the executor that they are for.
fn scripts_of(log: &dyn Log) -> Result<(Vec<Event>, Option<SourceId>), LogError> {
    let topic = TopicName::live(Topic::Sim);
    let mut scripts = Vec::new();
    let mut executor = None;
    for partition in 0..log.partitions(topic) {
        for stored in Scan::new(log, topic, partition, 0) {
            let Ok(decoded) = Codec::global().decode_record(&stored?.record) else { continue };
            if let Event::ExecutorScripted(script) = &decoded.event {
                executor.get_or_insert_with(|| script.executor.clone());
            }
            scripts.push(decoded.event);
        }
    }
    Ok((scripts, executor))
}

struct Reading {
    reporter: Reporter,
    taken: Vec<Taken>,
    truth: Truth,
    left_out: BTreeMap<String, u64>,
    /// Instances that were leased: in another run there are others.
    leased: BTreeSet<NodeId>,
    versions: Vec<String>,
    from: Option<TimeUs>,
    to: TimeUs,
}

impl Reading {
    /// An executor that moved in lockstep or in real time left its cursors; nobody else has any but the staged topics' reader.
    fn new(log: &dyn Log, executor: Option<SourceId>) -> Result<Self, ReadError> {
        let cursors = Cursors::read(log)?;
        let reader = cursors.readers().find(|reader| reader.as_str() != STAGED).cloned();
        let reporter = match reader.or(executor) {
            Some(name) => Reporter::Simulated(name),
            None => Reporter::Others,
        };
        let (taken, left_out, versions) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (truth, leased) = (Truth::default(), BTreeSet::new());
        Ok(Self { reporter, taken, truth, left_out, leased, versions, from: None, to: TimeUs::ZERO })
    }

    fn epoch(&mut self, epoch: RawEpoch) {
        let now = epoch.record.now_us;
        self.from.get_or_insert(now);
        self.to = now;
        let version = epoch.record.engine_version.as_str();
        if !self.versions.iter().any(|known| known == version) {
            self.versions.push(version.to_owned());
        }
        for input in epoch.inputs {
            self.input(input, now);
        }
        epoch.outputs.iter().for_each(|output| self.truth.output(&output.event));
    }

    fn input(&mut self, input: RawInput, at: TimeUs) {
        let topic = input.position.topic();
        // Meters are many, and tell nothing about lengths.
        if topic == Topic::Usage && self.reporter == Reporter::Others {
            return self.leave_out("usage");
        }
        let decoded = Codec::global().decode_record(&input.stored.record).ok();
        if input.skipped.is_none()
            && let Some(decoded) = &decoded
        {
            self.truth.input(&decoded.event);
            if let Event::InstanceLeased(e) = &decoded.event {
                self.leased.insert(NodeId::from(e.instance.as_str()));
            }
            if matches!(topic, Topic::Nodes | Topic::Attestation) && self.leased.contains(&*decoded.event.key()) {
                return self.leave_out("reports of leased instances");
            }
        }
        let role = match &decoded {
            Some(decoded) => role_of(&decoded.event, &self.reporter),
            None => role_of_topic(topic).unwrap_or(Role::World),
        };
        // A record under a wrong key would find its place when it is handed on again.
        if role == Role::World && input.skipped != Some(SkipReason::Misplaced) {
            self.taken.push(Taken { at, record: input.stored.record, counts: input.skipped.is_none() });
            return;
        }
        let source = decoded.as_ref().map(|decoded| decoded.event.identity().source);
        let is_executor =
            matches!((&self.reporter, &source), (Reporter::Simulated(name), Some(source)) if name.as_str() == *source);
        let is_planner = source.is_some_and(|source| source == solyx_kernel::plan::PLANNER);
        if !is_executor && !is_planner {
            self.leave_out(decoded.map_or(topic.name(), |decoded| short_name(decoded.event.name())));
        }
    }

    fn leave_out(&mut self, what: &str) {
        *self.left_out.entry(what.to_owned()).or_default() += 1;
    }

    /// Prices, carbon and availability that were staged for later, so that a run that lasts longer still has them.
    fn rest(&mut self, log: &dyn Log) -> Result<(), ReadError> {
        for topic in [Topic::Capacity, Topic::Network, Topic::Energy] {
            let name = TopicName::staged(topic);
            for partition in 0..log.partitions(name) {
                for stored in Scan::new(log, name, partition, 0) {
                    let mut record = stored?.record;
                    let Ok(decoded) = Codec::global().decode_record(&record) else { continue };
                    // Of a history that was itself run again the record says when it happens.
                    let said = record.header(INSTANT).and_then(|at| std::str::from_utf8(at).ok()?.parse().ok());
                    let at = said.map_or(decoded.event.identity().occurred_us, TimeUs);
                    record.headers.retain(|(name, _)| name != INSTANT);
                    if at > self.to && goes_on_alone(&decoded.event) {
                        let record = Record { topic: topic.into(), ..record };
                        self.taken.push(Taken { at, record, counts: true });
                    }
                }
            }
        }
        Ok(())
    }
}

/// What keeps no run going by itself.
fn goes_on_alone(event: &Event) -> bool {
    matches!(
        event,
        Event::EnergyPriced(_)
            | Event::CarbonReported(_)
            | Event::PoolPriced(_)
            | Event::EgressPriced(_)
            | Event::LinkMeasured(_)
            | Event::PoolAvailabilityReported(_)
    )
}

fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
