//! The views of a log that an audit found good: each derived again from the first epoch, and held against what the world keeps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::{EpochSource, Fold, digest};
use solyx_projections::jobs::Jobs;
use solyx_projections::store::{KeptCheckpoint, KeptStore, RowDifference, StoreError, View};
use solyx_runtime::processor_time;
use solyx_schemas::epochs::{EpochBatch, EpochReader};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::Log;

use crate::failure::Failure;
use crate::output;
use crate::world::{LogEpochs, unreadable_history};

/// Events that are handed on at once, about; an epoch is not divided.
const PIECE_EVENTS: usize = 4_096;
/// Pieces that wait for the slowest view.
const AHEAD_MAX: usize = 4;

/// What is kept of a view, nothing, or something that cannot be read.
type Kept = Result<Option<(KeptStore, Vec<KeptCheckpoint>)>, StoreError>;
/// Epochs that all views fold.
type Piece = Arc<Vec<EpochBatch>>;

/// The stores that a world keeps, each as it stood when it was opened.
pub struct KeptViews {
    billing: Kept,
    dcim: Kept,
    failover: Kept,
    jobs: Kept,
}

/// What was found of one view.
#[derive(Debug, Serialize)]
pub struct AuditedView {
    /// The view.
    view: &'static str,
    /// Format of its rows.
    format: u32,
    /// First epoch that it does not hold.
    next_epoch: i64,
    /// Its rows.
    rows: usize,
    /// Hash of all rows in their order: another auditor's is the same, whatever kind of log it was derived from.
    digest: Hash32,
    /// Events folded per second of processor time, comparing apart.
    events_per_s: u64,
    /// What the world keeps of it; absent where nothing is.
    kept: Option<KeptView>,
    /// Where the kept one differs.
    first_difference: Option<RowDifference>,
}

/// A kept view.
#[derive(Debug, Serialize)]
struct KeptView {
    /// First epoch that it does not hold.
    next_epoch: i64,
    /// Why it was not compared; absent where it was.
    not_compared: Option<String>,
    /// Its states of earlier epochs that were compared.
    checkpoints: usize,
}

impl AuditedView {
    /// Whether what is kept is what was derived.
    pub fn is_good(&self) -> bool {
        self.first_difference.is_none()
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Self { view, rows, digest, events_per_s, kept, first_difference, .. } = self;
        let kept = match (kept, first_difference) {
            (None, None) => "nothing of it is kept".to_owned(),
            (Some(KeptView { next_epoch, not_compared, checkpoints }), None) => {
                let found = match not_compared {
                    None => "is the same".to_owned(),
                    Some(why) => format!("was not compared: {why}"),
                };
                let earlier = match checkpoints {
                    0 => String::new(),
                    count => format!("; checkpoints that are the same: {}", output::grouped(*count as u64)),
                };
                format!("what is kept of it, up to epoch {}, {found}{earlier}", output::grouped(*next_epoch))
            }
            (_, Some(difference)) => format!("first difference: {difference}"),
        };
        let (rows, rate) = (output::grouped(*rows as u64), output::grouped(*events_per_s));
        format!("view {view}: {rows} rows, digest {digest}, {rate} events a second of processor time; {kept}")
    }
}

impl KeptViews {
    /// Those of a world; of an archive there are none.
    pub fn of(world: Option<&Path>) -> Self {
        let open = |view: &str| {
            let Some(dir) = world else { return Ok(None) };
            let Some(store) = KeptStore::open(&dir.join("views").join(view))? else { return Ok(None) };
            let checkpoints = store.checkpoints()?;
            Ok(Some((store, checkpoints)))
        };
        Self { billing: open("billing"), dcim: open("dcim"), failover: open("failover"), jobs: open("jobs") }
    }
}

/// Derives every view from the first epoch to the one before `end` and compares. `in_part` says that the log goes on there. The log
/// is read once; each view is folded by a thread of its own. `advance` hears how many epochs more were handed to them.
pub fn audited(
    log: &dyn Log,
    kept: KeptViews,
    end: i64,
    in_part: bool,
    advance: &dyn Fn(u64),
) -> Result<Vec<AuditedView>, Failure> {
    let end = End { next_epoch: end, in_part, turn: Mutex::new(()) };
    thread::scope(|scope| {
        let (mut ahead, end) = (Vec::new(), &end);
        let mut pieces = || {
            let (sender, pieces) = sync_channel(AHEAD_MAX);
            ahead.push(sender);
            pieces
        };
        let (billing, dcim, failover, jobs) = (pieces(), pieces(), pieces(), pieces());
        let folding = [
            scope.spawn(move || folded::<Billing>(&billing, kept.billing, end)),
            scope.spawn(move || folded::<Dcim>(&dcim, kept.dcim, end)),
            scope.spawn(move || folded::<Failover>(&failover, kept.failover, end)),
            scope.spawn(move || folded::<Jobs>(&jobs, kept.jobs, end)),
        ];
        let read = read_ahead(log, end.next_epoch, &ahead, advance);
        drop(ahead);
        let views = folding.map(|view| view.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        read.map(|()| views.into_iter().collect())
    })
}

/// Reads epochs and hands them to every view, for as long as it takes them.
fn read_ahead(log: &dyn Log, end: i64, views: &[SyncSender<Piece>], advance: &dyn Fn(u64)) -> Result<(), Failure> {
    let mut source = LogEpochs(EpochReader::new(log));
    let (mut piece, mut events) = (Vec::new(), 0);
    let hand_on = |piece: Vec<EpochBatch>| {
        let piece = Arc::new(piece);
        advance(piece.len() as u64);
        // One that failed takes no more and says why.
        views.iter().filter(|view| view.send(Arc::clone(&piece)).is_ok()).count() > 0
    };
    while source.0.next_epoch() < end {
        let Some(epoch) = source.next_epoch().map_err(|e| unreadable_history(&*e))? else {
            let detail = format!("epoch {} is no longer there", source.0.next_epoch());
            return Err(Failure::environment("the log changed under the audit", detail, "audit it again"));
        };
        events += events_of(&epoch);
        piece.push(epoch);
        if events >= PIECE_EVENTS {
            events = 0;
            if !hand_on(std::mem::take(&mut piece)) {
                return Ok(());
            }
        }
    }
    hand_on(piece);
    Ok(())
}

/// Its records, as an audit counts them.
fn events_of(epoch: &EpochBatch) -> usize {
    epoch.inputs.len() + epoch.outputs.len() + 1
}

/// Where the audit of the log ended.
struct End {
    next_epoch: i64,
    in_part: bool,
    /// One view at a time has all its rows beside its state.
    turn: Mutex<()>,
}

impl End {
    /// Whether something goes on where the log was not looked at.
    fn is_beyond(&self, next_epoch: i64) -> bool {
        self.in_part && next_epoch > self.next_epoch
    }
}

/// What is to be compared when the derived view stands where it stands.
enum Mark {
    InUse(KeptStore),
    Checkpoint(KeptCheckpoint),
}

/// What is kept of a view, by where it stands, and what was found of it so far.
#[derive(Default)]
struct Comparing {
    marks: BTreeMap<i64, Vec<Mark>>,
    checkpoints: usize,
    first_difference: Option<RowDifference>,
}

impl Comparing {
    fn add(&mut self, next_epoch: i64, mark: Mark) {
        self.marks.entry(next_epoch).or_default().push(mark);
    }

    /// Holds what stands where this view stands against it.
    fn at<F: Fold>(&mut self, view: &View<F>, end: &End) {
        for mark in self.marks.remove(&view.position.next_epoch).into_iter().flatten() {
            if self.first_difference.is_some() {
                return;
            }
            let _turn = end.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.first_difference = match mark {
                Mark::InUse(kept) => difference(&kept, view),
                Mark::Checkpoint(checkpoint) => match checkpoint.open() {
                    // It has gone with its store, which another took the place of.
                    Ok(None) => None,
                    Ok(Some(kept)) => {
                        self.checkpoints += 1;
                        misplaced(&kept, checkpoint.next_epoch(), view.fold.format())
                            .or_else(|| difference(&kept, view))
                    }
                    Err(error) => Some(unreadable(error)),
                }
                .map(|difference| difference.of_checkpoint(checkpoint.next_epoch())),
            };
        }
    }

    /// What is left stands where no view ever stood.
    fn left(&mut self, end: &End) {
        let Some((next_epoch, marks)) = self.marks.pop_first() else { return };
        let derived = match next_epoch > end.next_epoch {
            true => format!("{}: the log ends before it", end.next_epoch),
            false => format!("0 to {}", end.next_epoch),
        };
        let difference = RowDifference::new("position", "next_epoch", next_epoch, derived);
        let is_in_use = marks.iter().any(|mark| matches!(mark, Mark::InUse(_)));
        let difference = if is_in_use { difference } else { difference.of_checkpoint(next_epoch) };
        self.first_difference.get_or_insert(difference);
    }
}

fn difference<F: Fold>(kept: &KeptStore, view: &View<F>) -> Option<RowDifference> {
    let found = kept.first_difference(&view.fold, &view.position, view.fold.entries());
    found.unwrap_or_else(|error| Some(unreadable(error)))
}

fn unreadable(error: StoreError) -> RowDifference {
    RowDifference::new("the store", "readability", error, "a view")
}

/// A checkpoint that does not stand where its name says, or that this build cannot read although it reads what is in use.
fn misplaced(kept: &KeptStore, next_epoch: i64, format: u32) -> Option<RowDifference> {
    let position = kept.position();
    if position.next_epoch != next_epoch {
        return Some(RowDifference::new("position", "next_epoch", position.next_epoch, next_epoch));
    }
    (position.format != format).then(|| RowDifference::new("position", "format", position.format, format))
}

/// Folds a view and holds it against what is kept where that stands.
fn folded<F: Fold + Default>(pieces: &Receiver<Piece>, kept: Kept, end: &End) -> AuditedView {
    let mut view = View::<F>::empty();
    let mut comparing = Comparing::default();
    let mut stands = None;
    match kept {
        Ok(None) => {}
        Ok(Some((kept, checkpoints))) => {
            let next_epoch = kept.position().next_epoch;
            let not_compared = not_compared(&kept, view.fold.format(), end);
            // Of another format, checkpoints are as little of use as what is in use.
            if kept.position().format == view.fold.format() {
                for checkpoint in checkpoints.into_iter().filter(|kept| !end.is_beyond(kept.next_epoch())) {
                    comparing.add(checkpoint.next_epoch(), Mark::Checkpoint(checkpoint));
                }
            }
            if not_compared.is_none() {
                comparing.add(next_epoch, Mark::InUse(kept));
            }
            stands = Some(KeptView { next_epoch, not_compared, checkpoints: 0 });
        }
        Err(error) => comparing.first_difference = Some(unreadable(error)),
    }
    let (mut events, mut busy) = (0, Duration::ZERO);
    let mut underivable = None;
    'epochs: for piece in pieces {
        for epoch in &*piece {
            comparing.at(&view, end);
            let begun = processor_time();
            if let Err(error) = view.take(epoch) {
                let at = format!("epoch {}", view.position.next_epoch);
                underivable = Some(RowDifference::new(at, "derivation", "a view", error));
                break 'epochs;
            }
            busy += processor_time() - begun;
            events += events_of(epoch) as u64;
        }
        view.fold.forget_changes();
    }
    let mut stock = (0, Hash32::default());
    if underivable.is_none() && view.position.next_epoch == end.next_epoch {
        comparing.at(&view, end);
        comparing.left(end);
        let _turn = end.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = view.fold.entries();
        stock = (entries.len(), digest(&entries));
    }
    let Comparing { checkpoints, first_difference, .. } = comparing;
    AuditedView {
        view: view.fold.name(),
        format: view.fold.format(),
        next_epoch: view.position.next_epoch,
        rows: stock.0,
        digest: stock.1,
        events_per_s: (u128::from(events) * 1_000_000 / busy.as_micros().max(1)) as u64,
        kept: stands.map(|kept| KeptView { checkpoints, ..kept }),
        first_difference: first_difference.or(underivable),
    }
}

/// Why a kept view cannot be held against one that is derived up to there.
fn not_compared(kept: &KeptStore, format: u32, end: &End) -> Option<String> {
    let position = kept.position();
    if position.format != format {
        return Some(format!("it has format {}, this build has {format}", position.format));
    }
    end.is_beyond(position.next_epoch).then(|| "it goes beyond the last epoch looked at".to_owned())
}
