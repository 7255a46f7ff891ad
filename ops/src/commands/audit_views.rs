//! The views of a log that an audit found good: each derived again from the first epoch, and held against what the world keeps.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::{EpochSource, Fold, digest};
use solyx_projections::jobs::Jobs;
use solyx_projections::store::{KeptStore, RowDifference, StoreError, View};
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

/// A store that is kept of a view, none, or one that cannot be read.
type Kept = Result<Option<KeptStore>, StoreError>;
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
    /// Events folded per second, waiting and comparing apart.
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
            (Some(KeptView { next_epoch, not_compared: None }), None) => {
                format!("what is kept of it, up to epoch {}, is the same", output::grouped(*next_epoch))
            }
            (Some(KeptView { next_epoch, not_compared: Some(why) }), None) => {
                format!("what is kept of it, up to epoch {}, was not compared: {why}", output::grouped(*next_epoch))
            }
            (_, Some(difference)) => format!("first difference: {difference}"),
        };
        let (rows, rate) = (output::grouped(*rows as u64), output::grouped(*events_per_s));
        format!("view {view}: {rows} rows, digest {digest}, {rate} events/s; {kept}")
    }
}

impl KeptViews {
    /// Those of a world; of an archive there are none.
    pub fn of(world: Option<&Path>) -> Self {
        let open = |view: &str| world.map_or(Ok(None), |dir| KeptStore::open(&dir.join("views").join(view)));
        Self { billing: open("billing"), dcim: open("dcim"), failover: open("failover"), jobs: open("jobs") }
    }
}

/// Derives every view from the first epoch to the one before `end` and compares. `in_part` says that the log goes on there. The log
/// is read once; each view is folded by a thread of its own.
pub fn audited(log: &dyn Log, kept: KeptViews, end: i64, in_part: bool) -> Result<Vec<AuditedView>, Failure> {
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
        let read = read_ahead(log, end.next_epoch, &ahead);
        drop(ahead);
        let views = folding.map(|view| view.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        read.map(|()| views.into_iter().collect())
    })
}

/// Reads epochs and hands them to every view, for as long as it takes them.
fn read_ahead(log: &dyn Log, end: i64, views: &[SyncSender<Piece>]) -> Result<(), Failure> {
    let mut source = LogEpochs(EpochReader::new(log));
    let (mut piece, mut events) = (Vec::new(), 0);
    let hand_on = |piece: Vec<EpochBatch>| {
        let piece = Arc::new(piece);
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

/// Folds a view and holds it against what is kept where that stands.
fn folded<F: Fold + Default>(pieces: &Receiver<Piece>, kept: Kept, end: &End) -> AuditedView {
    let unreadable = |error: StoreError| RowDifference::new("the store", "readability", error, "a view");
    let mut view = View::<F>::empty();
    let mut first_difference = None;
    let kept = kept.unwrap_or_else(|error| {
        first_difference = Some(unreadable(error));
        None
    });
    let not_compared = kept.as_ref().and_then(|kept| not_compared(kept, view.fold.format(), end));
    let stands = kept.as_ref().map(|kept| KeptView { next_epoch: kept.position().next_epoch, not_compared });
    let mut compared = kept.filter(|_| stands.as_ref().is_some_and(|kept| kept.not_compared.is_none()));
    let stop = compared.as_ref().map(|kept| kept.position().next_epoch);
    if let Some(stop) = stop.filter(|stop| *stop > end.next_epoch) {
        let whole = "the log ends before it";
        first_difference =
            Some(RowDifference::new("position", "next_epoch", stop, format!("{}: {whole}", end.next_epoch)));
        compared = None;
    }
    let (mut events, mut busy) = (0, Duration::ZERO);
    let mut take_stock = |view: &View<F>, is_end: bool| -> Option<(usize, Hash32)> {
        let here = compared.take_if(|kept| kept.position().next_epoch == view.position.next_epoch);
        if here.is_none() && !is_end {
            return None;
        }
        let _turn = end.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = view.fold.entries();
        let stock = (entries.len(), if is_end { digest(&entries) } else { Hash32::default() });
        if let Some(kept) = here {
            first_difference = kept
                .first_difference(&view.fold, &view.position, entries)
                .unwrap_or_else(|error| Some(unreadable(error)));
        }
        Some(stock)
    };
    let mut underivable = None;
    'epochs: for piece in pieces {
        for epoch in &*piece {
            if stop == Some(view.position.next_epoch) {
                take_stock(&view, false);
            }
            let begun = Instant::now();
            if let Err(error) = view.take(epoch) {
                let at = format!("epoch {}", view.position.next_epoch);
                underivable = Some(RowDifference::new(at, "derivation", "a view", error));
                break 'epochs;
            }
            busy += begun.elapsed();
            events += events_of(epoch) as u64;
        }
        view.fold.forget_changes();
    }
    let (rows, digest) = match underivable {
        Some(_) => Default::default(),
        None => take_stock(&view, true).unwrap_or_default(),
    };
    AuditedView {
        view: view.fold.name(),
        format: view.fold.format(),
        next_epoch: view.position.next_epoch,
        rows,
        digest,
        events_per_s: (u128::from(events) * 1_000_000 / busy.as_micros().max(1)) as u64,
        kept: stands,
        first_difference: first_difference.or(underivable),
    }
}

/// Why a kept view cannot be held against one that is derived up to there.
fn not_compared(kept: &KeptStore, format: u32, end: &End) -> Option<String> {
    let position = kept.position();
    if position.format != format {
        return Some(format!("it has format {}, this build has {format}", position.format));
    }
    (end.in_part && position.next_epoch > end.next_epoch).then(|| "it goes beyond the last epoch looked at".to_owned())
}
