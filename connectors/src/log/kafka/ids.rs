//! Schema ids on the wire: the lock file's own, or a registry's.

use solyx_schemas::log::LogError;

/// Rewrites the framing id of a value at the border of the log. Inside, ids are those of the lock file.
pub trait FrameIds: Send + Sync {
    /// From the wire's id to ours. A value whose id means nothing to us stays as it is.
    fn from_wire(&self, value: &mut [u8]) -> Result<(), LogError>;

    /// From our id to the wire's. A value whose id is none of ours stays as it is.
    fn to_wire(&self, value: &mut [u8]) -> Result<(), LogError>;

    /// Whether the ids on the wire are others than ours.
    fn differ(&self) -> bool {
        true
    }
}

/// Without a registry the lock file's ids are those on the wire.
pub struct LockIds;

impl FrameIds for LockIds {
    fn from_wire(&self, _: &mut [u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn to_wire(&self, _: &mut [u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn differ(&self) -> bool {
        false
    }
}
