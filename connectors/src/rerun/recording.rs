//! A recorded log, as far as it is demand, world and truth: what another policy would have met.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use solyx_kernel::unknown_feature;
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
use solyx_schemas::units::{Count, TimeUs};

use super::role::{Reporter, Role, role_of, role_of_topic};
use super::truth::{Truth, TruthCounts};

/// Who says the scripts that are made of a log's facts.
const SOURCE: &str = "backtest";
/// Epochs that are kept apart at most: for each of them a run reads its history again.
const LATE_MAX: usize = 32;
/// An epoch that took this part of one of its limits, or as many records that do not count, may have left something unread.
const FULL_PART: usize = 4;
const FULL_SKIPPED: usize = 16;
/// Records and bytes of an epoch where no cell is declared.
const EPOCH_LIMITS: (usize, usize) = (65_536, 16 << 20);

/// Why a log cannot be run again.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A feature is in force that this build lacks: it may change what the records mean.
    #[error(
        "epoch {epoch} has the feature {feature} in force, which this build lacks; use the build that wrote it or a newer one"
    )]
    Feature {
        /// Epoch.
        epoch: i64,
        /// The feature.
        feature: String,
    },
}

impl From<LogError> for RecordingError {
    fn from(error: LogError) -> Self {
        Self::Read(error.into())
    }
}

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
    /// Places in `taken` of what came to an instant that had been dealt with, as somebody wrote it between two runs. Each has an
    /// epoch of its own.
    pub late: Vec<Range<usize>>,
    /// Epochs of such that are too many to be kept apart: they come with the rest of their instants.
    pub late_not_apart: usize,
    /// Scripts of the executor: the log's own, and what is known of jobs without one.
    pub scripts: Vec<Event>,
    /// Where lengths come from.
    pub truth: TruthCounts,
    /// Records of others than the simulated executor that are left out, by what they are, as a log run again makes its own.
    pub left_out: BTreeMap<String, u64>,
}

impl Recording {
    /// Reads a log from its first epoch to its last. `progress` hears the epochs read.
    pub fn read(log: &dyn Log, progress: &mut dyn FnMut(i64)) -> Result<Option<Self>, RecordingError> {
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
            if let Some(feature) = unknown_feature(&epoch.record.features) {
                return Err(RecordingError::Feature { epoch: epoch.record.epoch, feature: feature.to_string() });
            }
            cell.get_or_insert_with(|| epoch.record.cell.clone());
            reading.epoch(epoch);
            progress(reader.next_epoch());
        }
        let Some(cell) = cell else { return Ok(None) };
        let complete = !reading.truth.is_running();
        let waiting = complete && reading.truth.is_open();
        let late = late(log, std::mem::take(&mut reading.again), &reading.taken)?;
        let late_not_apart = if late.len() > LATE_MAX { late.len() } else { 0 };
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
            late: if late_not_apart > 0 { Vec::new() } else { late },
            late_not_apart,
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

/// Of epochs at the instant of the epoch before, those that took nothing staged: what is staged for an instant comes to it at once,
/// in as many epochs as it needs.
fn late(log: &dyn Log, mut again: Vec<Range<usize>>, taken: &[Taken]) -> Result<Vec<Range<usize>>, LogError> {
    if again.is_empty() {
        return Ok(again);
    }
    let values = again.iter().flat_map(|epoch| &taken[epoch.clone()]).map(|taken| &taken.record.value);
    let sought: HashSet<&Vec<u8>> = values.collect();
    let mut staged = HashSet::new();
    for topic in Topic::INPUTS.map(TopicName::staged) {
        for partition in 0..log.partitions(topic) {
            for stored in Scan::new(log, topic, partition, 0) {
                staged.extend(sought.get(&stored?.record.value).copied());
            }
        }
    }
    again.retain(|epoch| taken[epoch.clone()].iter().all(|taken| !staged.contains(&taken.record.value)));
    Ok(again)
}

struct Reading {
    reporter: Reporter,
    taken: Vec<Taken>,
    /// Places of what was taken at the instant of the epoch before, which had taken all there was; epoch by epoch.
    again: Vec<Range<usize>>,
    /// Records and bytes of an epoch at most.
    limits: (usize, usize),
    /// Whether the last epoch may have left something unread.
    full: bool,
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
        let (taken, again, left_out, versions) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        let (truth, leased) = (Truth::default(), BTreeSet::new());
        let (limits, full) = (EPOCH_LIMITS, false);
        Ok(Self {
            reporter,
            taken,
            again,
            limits,
            full,
            truth,
            left_out,
            leased,
            versions,
            from: None,
            to: TimeUs::ZERO,
        })
    }

    fn epoch(&mut self, epoch: RawEpoch) {
        let now = epoch.record.now_us;
        let is_again = self.from.is_some() && now == self.to && !self.full;
        self.from.get_or_insert(now);
        self.to = now;
        let version = epoch.record.engine_version.as_str();
        if !self.versions.iter().any(|known| known == version) {
            self.versions.push(version.to_owned());
        }
        let (records_max, bytes_max) = self.limits;
        let bytes: usize = epoch.inputs.iter().map(|input| input.stored.record.size()).sum();
        self.full = epoch.inputs.len() >= records_max / FULL_PART
            || bytes >= bytes_max / FULL_PART
            || epoch.record.skipped.len() >= FULL_SKIPPED;
        let first = self.taken.len();
        for input in epoch.inputs {
            self.input(input, now);
        }
        if is_again && self.taken.len() > first {
            self.again.push(first..self.taken.len());
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
            match &decoded.event {
                Event::InstanceLeased(e) => _ = self.leased.insert(NodeId::from(e.instance.as_str())),
                Event::CellDeclared(e) => {
                    let limit = |limit: Count| usize::try_from(limit.0).unwrap_or_default().max(1);
                    self.limits = (limit(e.epoch_records_max), limit(e.epoch_bytes_max));
                }
                _ => {}
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

#[cfg(test)]
mod tests {
    use solyx_schemas::events::decisions::EpochCommitted;
    use solyx_schemas::log::memory::MemoryLog;

    use super::*;

    #[test]
    fn a_log_with_a_feature_that_this_build_lacks_is_not_run_again() {
        let log = MemoryLog::new();
        let record = EpochCommitted { features: vec!["from-the-future".into()], ..EpochCommitted::default() };
        let topic = TopicName::live(Topic::Decisions);
        let record = Codec::global().record(&Event::from(record), topic, log.partitions(topic));
        log.producer("engine").and_then(|mut engine| engine.append(vec![record])).expect("it is written");
        let error = Recording::read(&log, &mut |_| {}).expect_err("it is refused").to_string();
        let expected = "epoch 0 has the feature from-the-future in force, which this build lacks; use the build that wrote it or a newer one";
        assert_eq!(error, expected);
    }
}
