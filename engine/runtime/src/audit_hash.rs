//! Hashing the inputs of epochs, between the one who reads and the one who applies: it follows from the records alone.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use solyx_kernel::InputHashes;

use crate::audit_read::ReadEpoch;
use crate::derive::hashes_of;
use crate::processor_time::processor_time;

/// An epoch that was read, with the hashes of its inputs.
pub struct HashedEpoch {
    /// The epoch.
    pub read: ReadEpoch,
    /// Of its inputs, in their order.
    pub hashes: InputHashes,
}

/// Hashes epochs as they come and hands them over, until there are no more or nobody wants more. Returns the processor time that it took.
pub fn hash_ahead(epochs: Receiver<ReadEpoch>, hashed: &SyncSender<HashedEpoch>) -> Duration {
    for read in epochs {
        let hashes = hashes_of(&read.raw, &read.decoded);
        if hashed.send(HashedEpoch { read, hashes }).is_err() {
            break;
        }
    }
    processor_time()
}
