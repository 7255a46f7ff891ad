//! Reading and decoding, ahead of the one who applies.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use solyx_schemas::codec::{DecodeError, Decoded};
use solyx_schemas::epochs::{EpochReader, RawEpoch, ReadError};

use crate::derive::decoded_as_recorded;
use crate::processor_time::processor_time;

/// Epochs that wait between two threads of an audit: to be hashed, to be applied, to have their ids judged. One is bounded by the limits
/// of an epoch.
pub const AHEAD_MAX: usize = 4;

/// An epoch as the log has it, with its inputs decoded.
pub struct ReadEpoch {
    /// As the log has it.
    pub raw: RawEpoch,
    /// Its inputs, in their order.
    pub decoded: Vec<Result<Decoded, DecodeError>>,
}

/// Why reading ended.
pub enum Ending {
    /// There is no more, or no more was asked for.
    Done,
    /// The other side wants no more.
    Left,
    /// The log does not read on.
    Failed(ReadError),
}

/// Where reading ended.
pub struct Read<'a> {
    /// To see what lies behind the last epoch.
    pub reader: EpochReader<'a>,
    /// Why it ended.
    pub ending: Ending,
    /// Processor time that it took.
    pub busy: Duration,
}

/// Reads epochs up to one and hands them over, until the log ends or nobody wants more.
pub fn read_ahead<'a>(reader: EpochReader<'a>, until_epoch: Option<i64>, epochs: &SyncSender<ReadEpoch>) -> Read<'a> {
    let mut read = Read { reader, ending: Ending::Done, busy: Duration::ZERO };
    while until_epoch.is_none_or(|until| read.reader.next_epoch() <= until) {
        let raw = match read.reader.next_raw() {
            Ok(Some(raw)) => raw,
            Ok(None) => break,
            Err(error) => {
                read.ending = Ending::Failed(error);
                break;
            }
        };
        let decoded = decoded_as_recorded(&raw);
        if epochs.send(ReadEpoch { raw, decoded }).is_err() {
            read.ending = Ending::Left;
            break;
        }
    }
    read.busy = processor_time();
    read
}
