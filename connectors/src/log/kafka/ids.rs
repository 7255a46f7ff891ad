//! Schema ids on the wire: the lock file's own, or a registry's.

use std::path::Path;
use std::sync::Arc;

use solyx_schemas::codec::{Codec, frame_id};
use solyx_schemas::log::LogError;

use super::config::KafkaConfig;
use crate::registry::{Registry, SchemaIds};

/// Rewrites the framing id of a value at the border of the log. Inside, ids are those of the lock file.
pub trait FrameIds: Send + Sync {
    /// From the wire's id to ours. A value whose id means nothing to us stays as it is.
    fn to_ours(&self, value: &mut [u8]) -> Result<(), LogError>;

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
    fn to_ours(&self, _: &mut [u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn to_wire(&self, _: &mut [u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn differ(&self) -> bool {
        false
    }
}

impl FrameIds for SchemaIds {
    fn to_ours(&self, value: &mut [u8]) -> Result<(), LogError> {
        // An id of the lock file is none of the registry's.
        if frame_id(value).is_some_and(|id| Codec::global().writer_schema(id).is_some()) {
            return Ok(());
        }
        Self::to_ours(self, value)
    }

    fn to_wire(&self, value: &mut [u8]) -> Result<(), LogError> {
        Self::to_wire(self, value)
    }
}

/// The ids that a cluster's configuration says; a registry's are kept in a file of the directory, for when it is away.
pub(super) fn of(config: &KafkaConfig, dir: Option<&Path>) -> Result<Arc<dyn FrameIds>, LogError> {
    Ok(match &config.registry {
        None => Arc::new(LockIds),
        Some(registry) => {
            let cache = dir.map(|dir| dir.join("schema-ids.json"));
            Arc::new(SchemaIds::new(Registry::open(registry)?, cache))
        }
    })
}
