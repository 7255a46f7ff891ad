//! An audit: everything that an engine said, derived again from the log alone with a fresh kernel.
//!
//! Judgements (with an index of ids of its own), decisions, plans of packing prices, roots, digests and the chain must come out as recorded. Taken
//! as recorded, because no log can prove them: ranges, `now`, term, engine version, that a schema or a feature was unknown
//! then, and, where another version wrote an epoch, its words (not its reasons) for why a record does not count.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use solyx_kernel::{KNOWN_FEATURES, Kernel};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochReader, Frontier, RawEpoch, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::FeatureId;
use solyx_schemas::log::{Log, LogErrorKind, Scan};
use solyx_schemas::topics::Topic;

use crate::audit_places::Places;
use crate::audit_plans::Plans;
use crate::compare::{Difference, first_difference};
use crate::derive::{Duplicates, recorded_epoch};
use crate::error::RuntimeError;
use crate::ids::IdIndex;
use crate::progress::Progress;
use crate::snapshots::Snapshots;

/// Time between two reports of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// How an audit goes.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// A directory for the audit's own index of ids, which is emptied first; in memory when absent.
    pub index_dir: Option<PathBuf>,
    /// The last epoch to look at; all of them when absent.
    pub until_epoch: Option<i64>,
    /// Begins at the newest good snapshot of an engine that stands at this epoch or before it; where there is none, at the first.
    /// Of a record whose first copy lies before that it is taken as recorded that it was a duplicate.
    pub from: Option<(PathBuf, i64)>,
    /// A chain hash that history has to contain. A tail that was cut off whole leaves a good log: only who knows a later head
    /// can tell.
    pub head: Option<Hash32>,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditReport {
    /// Whether everything came out as recorded.
    pub ok: bool,
    /// Epochs derived again.
    pub epochs: u64,
    /// Records looked at: inputs judged again, outputs and epoch records derived again.
    pub events: u64,
    /// So many of them per second.
    pub events_per_s: u64,
    /// Chain hash of the last epoch that came out as recorded.
    pub chain_head: Hash32,
    /// The first epoch that was looked at; those before it are taken from a snapshot whose digest is in the chain.
    pub from_epoch: i64,
    /// Plans of packing prices made again.
    pub plans: u64,
    /// Plans taken as recorded, because the state at their frontier was not seen.
    pub plans_as_recorded: u64,
    /// Where the log and what follows from it part.
    pub first_difference: Option<Difference>,
}

/// Audits a log.
pub fn audit(
    source: &dyn Log,
    options: &AuditOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<AuditReport, RuntimeError> {
    let begun = Instant::now();
    let mut told = begun;
    let mut done = Progress::default();
    let (mut kernel, frontier) = beginning(source, options)?
        .map_or_else(|| (None, Frontier::default()), |(kernel, frontier)| (Some(kernel), frontier));
    let mut chain_head = frontier.chain_head;
    let mut ids = options.index_dir.as_deref().map_or_else(|| Ok(IdIndex::in_memory()), IdIndex::create)?;
    let mut reader = EpochReader::at(source, &frontier);
    let duplicates = if kernel.is_some() { Duplicates::JudgedSince } else { Duplicates::Judged };
    let mut plans = Plans::of(source)?;
    let mut places = Places::at(&frontier);
    let mut foreign = Foreign::default();
    let mut head_seen = options.head.is_none_or(|head| head == chain_head);
    let first_difference = loop {
        if options.until_epoch.is_some_and(|until| reader.next_epoch() > until) {
            break None;
        }
        let raw = match reader.next_raw() {
            Ok(Some(raw)) => raw,
            Ok(None) => break what_follows_nothing(source, &reader, &places)?,
            Err(ReadError::Log(error)) if error.kind != LogErrorKind::Damaged => return Err(error.into()),
            Err(error) => {
                break Some(Difference::new(reader.next_epoch(), "the log", "readability", error, "a whole epoch"));
            }
        };
        let kernel = kernel.get_or_insert_with(|| Kernel::new(raw.record.cell.clone()));
        if let Some(difference) = foreign.differs(&raw)? {
            break Some(difference);
        }
        if let Some(difference) = plans.differs(&raw) {
            break Some(difference);
        }
        if let Some(difference) = one_epoch(kernel, &mut ids, duplicates, source, &raw)? {
            break Some(difference);
        }
        if let Some(difference) = places.differs(source, &raw)? {
            break Some(difference);
        }
        plans.stand_at(kernel, raw.record.epoch);
        if ids.is_full() {
            ids.flush(&reader.frontier())?;
        }
        chain_head = raw.chain_hash;
        head_seen |= options.head == Some(chain_head);
        done.epochs += 1;
        done.events += (raw.inputs.len() + raw.outputs.len()) as u64 + 1;
        if told.elapsed() >= PROGRESS_PAUSE {
            told = Instant::now();
            done.now = kernel.now();
            progress(&done);
        }
    };
    let first_difference = first_difference.or_else(|| {
        let head = options.head.filter(|_| !head_seen)?;
        Some(Difference::new(reader.next_epoch(), "the log", "head", format!("history ends with {chain_head}"), head))
    });
    let micros = begun.elapsed().as_micros().max(1);
    let events_per_s = (u128::from(done.events) * 1_000_000 / micros) as u64;
    let ok = first_difference.is_none();
    let Progress { epochs, events, .. } = done;
    let Plans { derived: plans, as_recorded: plans_as_recorded, .. } = plans;
    let from_epoch = frontier.next_epoch;
    Ok(AuditReport {
        ok,
        from_epoch,
        epochs,
        events,
        events_per_s,
        chain_head,
        plans,
        plans_as_recorded,
        first_difference,
    })
}

/// Features that inputs have switched on and that this build lacks.
#[derive(Default)]
struct Foreign(BTreeSet<FeatureId>);

impl Foreign {
    /// An epoch under a feature that this build lacks cannot be made again: only a build that has it can. One that no input has switched
    /// on is a difference.
    fn differs(&mut self, raw: &RawEpoch) -> Result<Option<Difference>, RuntimeError> {
        let epoch = raw.record.epoch;
        let is_foreign = |feature: &&FeatureId| !KNOWN_FEATURES.contains(&feature.as_str());
        if let Some(feature) = raw.record.features.iter().find(is_foreign) {
            if self.0.contains(feature) {
                return Err(RuntimeError::Feature { epoch, feature: feature.to_string() });
            }
            let expected = "only features that an input of an earlier epoch has switched on";
            return Ok(Some(Difference::new(epoch, "epoch record", "features", feature, expected)));
        }
        let counted =
            raw.inputs.iter().filter(|input| input.skipped.is_none() && input.position.topic() == Topic::Policy);
        let decoded = counted.filter_map(|input| Codec::global().decode_record(&input.stored.record).ok());
        self.0.extend(decoded.filter_map(|decoded| match decoded.event {
            Event::FeatureEnabled(enabled) => Some(enabled.feature),
            _ => None,
        }));
        Ok(None)
    }
}

/// Where an audit of a part begins, if it does not begin at the first epoch.
fn beginning(source: &dyn Log, options: &AuditOptions) -> Result<Option<(Kernel, Frontier)>, RuntimeError> {
    let Some((dir, epoch)) = &options.from else { return Ok(None) };
    // Whose history it is says its first epoch.
    let Ok(Some(first)) = EpochReader::new(source).next_raw() else { return Ok(None) };
    let mut snapshots = Snapshots::new(Some(dir.clone()), i64::MAX);
    let (kernel, frontier) = snapshots.load_before(*epoch, source, &first.record.cell)?;
    Ok((frontier.next_epoch > 0).then_some((kernel, frontier)))
}

fn one_epoch(
    kernel: &mut Kernel,
    ids: &mut IdIndex,
    duplicates: Duplicates,
    source: &dyn Log,
    raw: &RawEpoch,
) -> Result<Option<Difference>, RuntimeError> {
    let derived = recorded_epoch(kernel, ids, duplicates, source, raw)?;
    Ok(first_difference(raw, &derived.closed))
}

/// After the last epoch nothing may stand that claims to go on: an epoch record or an output with a later number means that
/// a record before it was taken away or changed, or that the chain is broken; one with an earlier number was put there.
fn what_follows_nothing(
    source: &dyn Log,
    reader: &EpochReader<'_>,
    places: &Places,
) -> Result<Option<Difference>, RuntimeError> {
    let next = reader.next_epoch();
    let mut open_output = None;
    let mut stranger = None;
    for topic in [Topic::Decisions, Topic::Quarantine] {
        for partition in 0..source.partitions(topic.into()) {
            // The reader may have dropped records that did not fit; they stand after the last one it took.
            let from = places.next(topic, partition);
            for stored in Scan::new(source, topic.into(), partition, from) {
                let stored = match stored {
                    Ok(stored) => stored,
                    Err(error) if error.kind == LogErrorKind::Damaged => {
                        return Ok(Some(Difference::new(next, "the log", "readability", error, "what was written")));
                    }
                    Err(error) => return Err(error.into()),
                };
                let place = format!("{}/{partition}/{}", topic.name(), stored.ordinal);
                let event = match Codec::global().decode_record(&stored.record) {
                    Ok(decoded) => decoded.event,
                    Err(error) => return Ok(Some(Difference::new(next, place, "readability", error, "an output"))),
                };
                match event {
                    Event::EpochCommitted(record) if record.epoch >= next => {
                        return Ok(Some(out_of_chain(&record, place, reader)));
                    }
                    other if other.stamped().is_some_and(|stamp| stamp.epoch >= next) => {
                        open_output.get_or_insert((place, other.name()));
                    }
                    _ => {
                        stranger.get_or_insert(place);
                    }
                }
            }
        }
    }
    let open_output = open_output.map(|(place, name)| {
        Difference::new(next, place, "epoch record", "none", format!("one that closes this {name}"))
    });
    Ok(open_output.or_else(|| Some(Difference::new(next, stranger?, "order", "a record of no epoch", "none"))))
}

fn out_of_chain(record: &EpochCommitted, place: String, reader: &EpochReader<'_>) -> Difference {
    let next = reader.next_epoch();
    let head = reader.chain_head();
    if record.epoch > next {
        let recorded = format!("none before that of epoch {}", record.epoch);
        return Difference::new(next, place, "epoch record", recorded, "one");
    }
    if record.previous_chain_hash != head {
        return Difference::new(next, place, "previous_chain_hash", record.previous_chain_hash, head);
    }
    Difference::new(next, place, "outputs", "fewer than the epoch record names", "all of them")
}
