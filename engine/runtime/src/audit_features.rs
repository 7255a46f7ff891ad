//! Features that inputs have switched on and that this build lacks.

use std::collections::BTreeSet;

use solyx_kernel::{Closed, KNOWN_FEATURES};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::RawEpoch;
use solyx_schemas::events::Event;
use solyx_schemas::ids::FeatureId;

use crate::audit_read::ReadEpoch;
use crate::compare::Difference;
use crate::error::RuntimeError;

/// Those of the epochs so far.
#[derive(Default)]
pub struct Foreign(BTreeSet<FeatureId>);

impl Foreign {
    /// An epoch under a feature that this build lacks cannot be made again: only a build that has it can. One that no input has switched
    /// on is a difference.
    pub fn differs(&mut self, ReadEpoch { raw, decoded }: &ReadEpoch) -> Result<Option<Difference>, RuntimeError> {
        let epoch = raw.record.epoch;
        let is_foreign = |feature: &&FeatureId| !KNOWN_FEATURES.contains(&feature.as_str());
        if let Some(feature) = raw.record.features.iter().find(is_foreign) {
            if self.0.contains(feature) {
                return Err(RuntimeError::Feature { epoch, feature: feature.to_string() });
            }
            let expected = "only features that an input of an earlier epoch has switched on";
            return Ok(Some(Difference::new(epoch, "epoch record", "features", feature, expected)));
        }
        for (input, decoded) in raw.inputs.iter().zip(decoded) {
            if input.skipped.is_none()
                && let Ok(decoded) = decoded
                && let Event::FeatureEnabled(enabled) = &decoded.event
            {
                self.0.insert(enabled.feature.clone());
            }
        }
        Ok(None)
    }
}

/// A feature that this build lacks and that a counted input of an epoch switches on: whoever counted it knows it. Only where the inputs
/// are those that were recorded, so that nobody hides a change behind it.
pub fn switched_on(raw: &RawEpoch, closed: &Closed) -> Result<(), RuntimeError> {
    let (epoch, counted) = (raw.record.epoch, raw.inputs.iter().filter(|input| input.skipped.is_none()));
    let decoded = counted.filter_map(|input| Codec::global().decode_record(&input.stored.record).ok());
    let lacking = decoded.map(|decoded| decoded.event).find_map(|event| match event {
        Event::FeatureEnabled(e) if !KNOWN_FEATURES.contains(&e.feature.as_str()) => Some(e.feature.to_string()),
        _ => None,
    });
    match lacking.filter(|_| closed.record.input_root == raw.record.input_root) {
        Some(feature) => Err(RuntimeError::Feature { epoch, feature }),
        None => Ok(()),
    }
}
