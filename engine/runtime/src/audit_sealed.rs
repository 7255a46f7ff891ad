//! Sealed texts that an audit met: it checks their tokens like any bytes and needs no key, so that what depends on a key that
//! is gone can only be listed.

use std::collections::BTreeMap;

use serde::Serialize;
use solyx_schemas::codec::{DecodeError, Decoded};
use solyx_schemas::epochs::{Position, RawEpoch, RawOutput};
use solyx_schemas::events::Event;
use solyx_schemas::sealed;

/// Records that are named for each key; the others are counted.
const NAMED_MAX: usize = 100;

/// What depends on one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SealedTexts {
    /// Id of the key.
    pub key_id: String,
    /// The epoch in which the log says that the key was destroyed.
    pub destroyed_in_epoch: Option<i64>,
    /// Texts of input records.
    pub texts: u64,
    /// Decisions that quote such a text.
    pub quoted: u64,
    /// The first records of both kinds: topic, partition, ordinal.
    pub records: Vec<String>,
}

/// What an audit has met, by key.
#[derive(Default)]
pub struct Sealed(BTreeMap<String, SealedTexts>);

impl Sealed {
    /// Takes note of an epoch that came out as recorded.
    pub fn note(&mut self, raw: &RawEpoch, decoded: &[Result<Decoded, DecodeError>]) {
        for (input, decoded) in raw.inputs.iter().zip(decoded) {
            let Ok(decoded) = decoded else { continue };
            if let Event::TenantKeyDestroyed(e) = &decoded.event
                && input.skipped.is_none()
            {
                self.of(e.key_id.as_str()).destroyed_in_epoch.get_or_insert(raw.record.epoch);
            }
            for (_, text) in sealed::texts_of(&decoded.event) {
                if let Ok(Some(token)) = sealed::parse(text) {
                    let Position { partition, ordinal, .. } = input.position;
                    let place = || format!("{}/{partition}/{ordinal}", input.position.topic().name());
                    self.of(token.key_id).add(false, place);
                }
            }
        }
        for RawOutput { event, stored } in &raw.outputs {
            // Of what is sealed only the reason of a cancellation is quoted by a decision.
            let Event::JobCancelled(cancelled) = event else { continue };
            for token in sealed::tokens(&cancelled.detail) {
                let record = &stored.record;
                let place = || format!("{}/{}/{}", record.topic.name(), record.partition, stored.ordinal);
                self.of(token.key_id).add(true, place);
            }
        }
    }

    fn of(&mut self, key_id: &str) -> &mut SealedTexts {
        self.0
            .entry(key_id.to_owned())
            .or_insert_with(|| SealedTexts { key_id: key_id.to_owned(), ..SealedTexts::default() })
    }

    /// All of it, in the order of keys.
    pub fn into_report(self) -> Vec<SealedTexts> {
        self.0.into_values().collect()
    }
}

impl SealedTexts {
    fn add(&mut self, quoted: bool, place: impl Fn() -> String) {
        if quoted {
            self.quoted += 1;
        } else {
            self.texts += 1;
        }
        if self.records.len() < NAMED_MAX {
            self.records.push(place());
        }
    }
}
