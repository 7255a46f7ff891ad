//! An audit: everything that an engine said, derived again from the log alone with a fresh kernel.
//!
//! Judgements (with an index of ids of its own), decisions, plans of packing prices, roots, digests and the chain must come out as recorded. Taken
//! as recorded, because no log can prove them: ranges, `now`, term, engine version, that a schema or a feature was unknown
//! then, and, where another version wrote an epoch, its words (not its reasons) for why a record does not count.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use solyx_kernel::{InputHashes, Kernel};
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::epochs::{EpochReader, Frontier, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::hash::{Hash32, chain_hash};
use solyx_schemas::log::{Log, LogErrorKind, Scan, StoredRecord};
use solyx_schemas::topics::Topic;

use crate::audit_features::{Foreign, switched_on};
use crate::audit_hash::{HashedEpoch, hash_ahead};
use crate::audit_ids::{Found, Judged, find_duplicates};
use crate::audit_places::{LeftOver, Places};
use crate::audit_plans::Plans;
use crate::audit_read::{AHEAD_MAX, Ending, Read, ReadEpoch, read_ahead};
use crate::audit_sealed::{Sealed, SealedTexts};
use crate::compare::{Difference, first_difference};
use crate::derive::{Taken, made_again};
use crate::error::RuntimeError;
use crate::ids::IdIndex;
use crate::processor_time::processor_time;
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
    /// So many of them per second, all in all.
    pub events_per_s: u64,
    /// So many of them per second of processor time of each of the four threads that go on beside one another.
    pub per_s: Rates,
    /// Chain hash of the last epoch that came out as recorded.
    pub chain_head: Hash32,
    /// The first epoch that was looked at; those before it are taken from a snapshot whose digest is in the chain.
    pub from_epoch: i64,
    /// Plans of packing prices made again.
    pub plans: u64,
    /// Plans taken as recorded, because the state at their frontier was not seen.
    pub plans_as_recorded: u64,
    /// What engines of earlier terms left in the output topics.
    pub left_over: Option<LeftOver>,
    /// Texts that were audited as sealed, by key: what they say depends on a key that no audit needs.
    pub sealed: Vec<SealedTexts>,
    /// Where the log and what follows from it part.
    pub first_difference: Option<Difference>,
}

/// Events per second of processor time of each part of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// Reading and decoding.
    pub read: u64,
    /// Hashing inputs.
    pub hashed: u64,
    /// Judging, decisions, digests and comparing.
    pub applied: u64,
    /// Finding duplicates.
    pub duplicates: u64,
}

/// Audits a log. Four threads work on it: one reads and decodes, one hashes what it has read, this one applies and compares, and one
/// finds duplicates behind it.
pub fn audit(
    source: &dyn Log,
    options: &AuditOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<AuditReport, RuntimeError> {
    let begun = Instant::now();
    let (kernel, frontier) = beginning(source, options)?
        .map_or_else(|| (None, Frontier::default()), |(kernel, frontier)| (Some(kernel), frontier));
    let of_part = kernel.is_some();
    let ids = options.index_dir.as_deref().map_or_else(|| Ok(IdIndex::in_memory()), IdIndex::create)?;
    let mut applying = Applying {
        source,
        kernel,
        plans: Plans::of(source, frontier.next_epoch)?,
        places: Places::at(&frontier),
        sealed: Sealed::default(),
        foreign: Foreign::default(),
        chain_head: frontier.chain_head,
        head: options.head,
        head_seen: options.head.is_none_or(|head| head == frontier.chain_head),
        done: Progress::default(),
    };
    let stop = AtomicBool::new(false);
    let reader = EpochReader::at(source, &frontier);
    let before = processor_time();
    let (mut applied, read, hashing, found) = std::thread::scope(|scope| {
        let (ahead, unhashed) = sync_channel(AHEAD_MAX);
        let reading = scope.spawn(move || read_ahead(reader, options.until_epoch, &ahead));
        let (ahead, epochs) = sync_channel(AHEAD_MAX);
        let hashing = scope.spawn(move || hash_ahead(unhashed, &ahead));
        let (behind, judged) = sync_channel(AHEAD_MAX);
        let stop = &stop;
        let finding = scope.spawn(move || find_duplicates(ids, of_part, judged, stop));
        let applied = applying.all(epochs, behind, stop, progress);
        (applied, joined(reading), joined(hashing), joined(finding))
    });
    let applying_took = processor_time() - before;
    let Found { difference: duplicate, busy: finding } = found?;
    let Read { mut reader, ending, busy: reading } = read;
    if let Ok(None) = &applied {
        applied = match ending {
            Ending::Done if options.until_epoch.is_some_and(|until| reader.next_epoch() > until) => Ok(None),
            Ending::Done => match what_follows_nothing(source, &reader, &applying.places) {
                // An engine that wrote on meanwhile left a good epoch there.
                Ok(Some(_)) if goes_on(source, &mut reader) => Ok(None),
                found => found,
            },
            Ending::Failed(ReadError::Log(error)) if error.kind != LogErrorKind::Damaged => Err(error.into()),
            Ending::Failed(error) => {
                Ok(Some(Difference::new(reader.next_epoch(), "the log", "readability", error, "a whole epoch")))
            }
            Ending::Left => Ok(None),
        };
    }
    let mut first_difference = applied?;
    let mut chain_head = applying.chain_head;
    if let Some((difference, before)) = duplicate
        && first_difference.as_ref().is_none_or(|other| difference.epoch <= other.epoch)
    {
        (first_difference, chain_head) = (Some(difference), before);
    }
    let end = reader.next_epoch();
    let first_difference = first_difference.or_else(|| {
        let head = options.head.filter(|_| !applying.head_seen)?;
        if lies_elsewhere(source, reader, head, &frontier) {
            return None;
        }
        Some(Difference::new(end, "the log", "head", format!("history ends with {chain_head}"), head))
    });
    let first_difference = first_difference.or_else(|| broken(applying.kernel.as_ref()?));
    let Progress { epochs, events, .. } = applying.done;
    let per_second = |time: Duration| (u128::from(events) * 1_000_000 / time.as_micros().max(1)) as u64;
    let Plans { derived: plans, as_recorded: plans_as_recorded, .. } = applying.plans;
    Ok(AuditReport {
        ok: first_difference.is_none(),
        from_epoch: frontier.next_epoch,
        epochs,
        events,
        events_per_s: per_second(begun.elapsed()),
        per_s: Rates {
            read: per_second(reading),
            hashed: per_second(hashing),
            applied: per_second(applying_took),
            duplicates: per_second(finding),
        },
        chain_head,
        plans,
        plans_as_recorded,
        left_over: applying.places.left_over,
        sealed: applying.sealed.into_report(),
        first_difference,
    })
}

/// What the last state breaks, although all of it came out as recorded: then the engine that decided it was wrong.
fn broken(kernel: &Kernel) -> Option<Difference> {
    let violation = kernel.state().violations().into_iter().next()?;
    Some(Difference::new(kernel.next_epoch() - 1, "the state", "invariants", "all of them hold", violation))
}

/// What a thread came to; its panic goes on here.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The kernel on its way through the log, and what is compared.
struct Applying<'l> {
    source: &'l dyn Log,
    kernel: Option<Kernel>,
    plans: Plans,
    places: Places,
    sealed: Sealed,
    foreign: Foreign,
    chain_head: Hash32,
    head: Option<Hash32>,
    head_seen: bool,
    done: Progress,
}

impl Applying<'_> {
    /// Applies epochs as they come and hands on each that came out as recorded, up to the first that did not.
    fn all(
        &mut self,
        epochs: Receiver<HashedEpoch>,
        behind: SyncSender<Judged>,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Option<Difference>, RuntimeError> {
        let mut told = Instant::now();
        for HashedEpoch { read, hashes } in epochs {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let before = self.chain_head;
            let (difference, taken) = self.one(&read, hashes)?;
            let has_differed = difference.is_some();
            // Whether its ids were judged right is asked of an epoch that came out otherwise, too: that may be the reason.
            let handed_on = behind.send(Judged { read, taken, before });
            if has_differed || handed_on.is_err() {
                return Ok(difference);
            }
            if told.elapsed() >= PROGRESS_PAUSE {
                told = Instant::now();
                progress(&self.done);
            }
        }
        Ok(None)
    }

    fn one(&mut self, read: &ReadEpoch, hashes: InputHashes) -> Result<(Option<Difference>, Vec<Taken>), RuntimeError> {
        let ReadEpoch { raw, decoded } = read;
        let record = &raw.record;
        if let Some(difference) = self.foreign.differs(read)? {
            return Ok((Some(difference), Vec::new()));
        }
        let kernel = self.kernel.get_or_insert_with(|| Kernel::new(record.cell.clone()));
        if let Some(difference) = self.plans.differs(raw) {
            return Ok((Some(difference), Vec::new()));
        }
        let (closed, taken) = made_again(kernel, self.source, raw, decoded, Some(hashes));
        if let Some(difference) = first_difference(raw, &closed) {
            switched_on(raw, &closed)?;
            return Ok((Some(difference), taken));
        }
        if let Some(difference) = self.places.differs(self.source, raw)? {
            return Ok((Some(difference), taken));
        }
        self.plans.stand_at(kernel, record.epoch);
        self.sealed.note(raw, decoded);
        self.chain_head = raw.chain_hash;
        self.head_seen |= self.head == Some(raw.chain_hash);
        self.done.epochs += 1;
        self.done.events += (raw.inputs.len() + raw.outputs.len()) as u64 + 1;
        self.done.now = kernel.now();
        Ok((None, taken))
    }
}

/// Where an audit of a part begins, if it does not begin at the first epoch.
fn beginning(source: &dyn Log, options: &AuditOptions) -> Result<Option<(Kernel, Frontier)>, RuntimeError> {
    let Some((dir, epoch)) = &options.from else { return Ok(None) };
    // Whose history it is says its first epoch.
    let first = match EpochReader::new(source).next_raw() {
        Ok(Some(first)) => first,
        Err(ReadError::Log(error)) if error.kind != LogErrorKind::Damaged => return Err(error.into()),
        // The audit itself says what is wrong with it.
        Ok(None) | Err(_) => return Ok(None),
    };
    let mut snapshots = Snapshots::new(Some(dir.clone()), i64::MAX);
    let (kernel, frontier) = snapshots.load_before(*epoch, source, &first.record.cell)?;
    Ok((frontier.next_epoch > 0).then_some((kernel, frontier)))
}

/// Whether one more epoch has become readable since the reader came to the end.
fn goes_on(source: &dyn Log, reader: &mut EpochReader<'_>) -> bool {
    source.look_up().is_ok() && matches!(reader.next_raw(), Ok(Some(_)))
}

/// Whether a chain hash is that of an epoch before those that an audit looked at, or behind them.
fn lies_elsewhere(source: &dyn Log, mut behind: EpochReader<'_>, head: Hash32, from: &Frontier) -> bool {
    let mut before = EpochReader::new(source);
    let earlier = std::iter::from_fn(|| before.next_raw().ok().flatten());
    let mut earlier = earlier.take_while(|raw| raw.record.epoch < from.next_epoch);
    let mut later = std::iter::from_fn(|| behind.next_raw().ok().flatten());
    earlier.any(|raw| raw.chain_hash == head) || later.any(|raw| raw.chain_hash == head)
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
            let mut scan = Scan::new(source, topic.into(), partition, from);
            while let Some(stored) = scan.next() {
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
                        let own = chain_hash(&stored.record.value[FRAME_LEN..]);
                        // What the record after it says shows whether this one is as it was written: then the one before is not,
                        // in something that nothing else can prove.
                        let is_whole =
                            || scan.filter_map(Result::ok).find_map(|stored| after(&stored, &record)) == Some(own);
                        if record.epoch == next
                            && record.previous_chain_hash != reader.chain_head()
                            && next > 0
                            && is_whole()
                        {
                            let (recorded, derived) = (reader.chain_head(), record.previous_chain_hash);
                            return Ok(Some(Difference::new(next - 1, place, "chain_hash", recorded, derived)));
                        }
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

/// What the record of the epoch after this one says of its chain hash; nothing of any other record.
fn after(stored: &StoredRecord, record: &EpochCommitted) -> Option<Hash32> {
    match Codec::global().decode_record(&stored.record).ok()?.event {
        Event::EpochCommitted(later) if later.epoch == record.epoch + 1 => Some(later.previous_chain_hash),
        _ => None,
    }
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
