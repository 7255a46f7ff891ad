//! Whether an input record counts: its place, its fields, the features in force. What the state has to say comes in `apply`.

use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::ids::FeatureId;
use solyx_schemas::sealed;

use crate::epoch::Rejection;
use crate::state::State;

/// Features that this build knows. A log that has switched on another one needs another build.
pub const KNOWN_FEATURES: &[&str] = &["spine", SEALED_FIELDS];
/// Sealed texts are judged: one that is no token, or whose key was destroyed, does not count. Without it they are texts.
pub const SEALED_FIELDS: &str = "sealed-fields";

/// Judges what can be judged without folding.
pub fn judge(state: &State, position: Position, key: &[u8], event: &Event) -> Result<(), Rejection> {
    let topic = position.topic();
    if event.topic() != topic {
        let detail = format!("{} stands in topic {}, expected {}", event.name(), topic.name(), event.topic().name());
        return Err(Rejection { reason: SkipReason::Misplaced, detail });
    }
    let expected_key = event.key();
    if key != expected_key.as_bytes() {
        let found = String::from_utf8_lossy(&key[..key.len().min(256)]).into_owned();
        let detail = format!("key: found {found:?}, expected {expected_key:?}");
        return Err(Rejection { reason: SkipReason::Misplaced, detail });
    }
    event.check().map_err(|error| Rejection { reason: SkipReason::Invalid, detail: error.to_string() })?;
    if let Event::FeatureEnabled(enabled) = event
        && !KNOWN_FEATURES.contains(&enabled.feature.as_str())
    {
        let known = KNOWN_FEATURES.join(", ");
        let detail = format!("field feature: found {}, expected one of {known}", enabled.feature);
        return Err(Rejection { reason: SkipReason::UnknownFeature, detail });
    }
    if let Some(feature) = needed_feature(event)
        && !in_force(state, feature)
    {
        let detail = format!("{} needs the feature {feature}, which is not in force", event.name());
        return Err(Rejection { reason: SkipReason::UnknownFeature, detail });
    }
    if in_force(state, SEALED_FIELDS) { sealed_texts(state, event) } else { Ok(()) }
}

/// The first feature in force that this build lacks.
pub fn unknown_feature(features: &[FeatureId]) -> Option<&FeatureId> {
    features.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()))
}

/// Whether a feature is in force.
pub fn in_force(state: &State, feature: &str) -> bool {
    state.meta().features.iter().any(|f| f.as_str() == feature)
}

fn sealed_texts(state: &State, event: &Event) -> Result<(), Rejection> {
    for (path, text) in sealed::texts_of(event) {
        let token = sealed::parse(text)
            .map_err(|error| Rejection { reason: SkipReason::Invalid, detail: error.within(&path).to_string() })?;
        if let Some(token) = token
            && let Some(tenant) = state.destroyed_keys.get(token.key_id)
        {
            let detail =
                format!("field {path}: found key {}, which {tenant} has destroyed, expected one in use", token.key_id);
            return Err(Rejection { reason: SkipReason::Rejected, detail });
        }
    }
    Ok(())
}

/// The feature that an event, or something in it, needs. What the first version had needs none.
fn needed_feature(_event: &Event) -> Option<&'static str> {
    None
}
