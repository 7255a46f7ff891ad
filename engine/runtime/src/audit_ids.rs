//! Duplicates, found again behind the one who applies: a record counts or does not as the log says, and here is seen whether its
//! source and id really were new, said before, or said before otherwise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use solyx_kernel::Seen;
use solyx_schemas::epochs::{Frontier, RawInput};
use solyx_schemas::hash::Hash32;

use crate::audit_read::ReadEpoch;
use crate::compare::Difference;
use crate::derive::Taken;
use crate::error::RuntimeError;
use crate::ids::{Claim, IdIndex};
use crate::processor_time::processor_time;

/// An epoch that came out as recorded, with what was taken from the log's word.
pub struct Judged {
    /// The epoch.
    pub read: ReadEpoch,
    /// Its inputs.
    pub taken: Vec<Taken>,
    /// Chain hash of the epoch before it.
    pub before: Hash32,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The first record that was seen before, or was not, otherwise than recorded; with the chain hash before its epoch.
    pub difference: Option<(Difference, Hash32)>,
    /// Processor time that it took.
    pub busy: Duration,
}

/// Judges the ids of epochs as they come. `of_part`: they do not begin at the first one, and what was first said before that is not
/// known; it is taken as recorded that a record was said before. Sets `stop` with the first difference.
pub fn find_duplicates(
    mut ids: IdIndex,
    of_part: bool,
    epochs: Receiver<Judged>,
    stop: &AtomicBool,
) -> Result<Found, RuntimeError> {
    let mut found = Found::default();
    for judged in epochs {
        let difference = one_epoch(&mut ids, of_part, &judged)?;
        if ids.is_full() {
            // Nobody opens this index again: how far it has come is of no use.
            ids.flush(&Frontier::default())?;
        }
        if let Some(difference) = difference {
            stop.store(true, Ordering::Relaxed);
            found.difference = Some((difference, judged.before));
            break;
        }
    }
    found.busy = processor_time();
    Ok(found)
}

fn one_epoch(ids: &mut IdIndex, of_part: bool, judged: &Judged) -> Result<Option<Difference>, RuntimeError> {
    let ReadEpoch { raw, decoded } = &judged.read;
    for ((input, decoded), taken) in raw.inputs.iter().zip(decoded).zip(&judged.taken) {
        let (Some(recorded), Ok(decoded)) = (taken.seen, decoded) else { continue };
        let claim = Claim::of(decoded, &input.stored.record.value);
        let seen = ids.seen(&claim)?;
        if seen != recorded && !(of_part && seen == Seen::New) {
            return Ok(Some(difference(raw.record.epoch, input, seen)));
        }
        if taken.counts {
            ids.take(&claim);
        }
    }
    Ok(None)
}

fn difference(epoch: i64, input: &RawInput, seen: Seen) -> Difference {
    let position = input.position;
    let place = format!("{}/{}/{}", position.topic().name(), position.partition, position.ordinal);
    let recorded = input.skipped.map_or_else(|| "counts".to_owned(), |reason| reason.to_string());
    let derived = match seen {
        Seen::New => "an id that is new",
        Seen::Duplicate => "DUPLICATE",
        Seen::Conflict => "CONFLICT",
    };
    Difference::new(epoch, place, "judgement", recorded, derived)
}
