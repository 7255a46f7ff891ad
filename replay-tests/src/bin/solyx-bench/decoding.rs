//! Decoding and applying, against a bare `apache-avro` loop that decodes the same bodies and does nothing with them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use solyx_kernel::{Kernel, OpenEpoch, Seen};
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::events::{EVENT_TYPES, event_type};
use solyx_schemas::log::Log;
use solyx_schemas::topics::Topic;

use crate::history::History;
use crate::measure::{Measure, per_second};

/// The yardstick's name.
pub const AVRO: &str = "apache-avro, values decoded and dropped";

/// Decoding alone, decoding and applying, and whole epochs.
pub fn measure(history: &History, runs: u32) -> anyhow::Result<Vec<Measure>> {
    let schemas = EVENT_TYPES
        .iter()
        .map(|kind| Schema::parse_str(kind.avsc).with_context(|| format!("the schema of {}", kind.name)))
        .collect::<Result<Vec<_>, _>>()?;
    let readers =
        schemas.iter().map(|schema| GenericDatumReader::builder(schema).build()).collect::<Result<Vec<_>, _>>()?;
    let bodies = bodies(history);
    let (mut alone, mut applied, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let begun = Instant::now();
        for (kind, value) in &bodies {
            black_box(readers[*kind].read_value(&mut &value[FRAME_LEN..])?);
        }
        let yardstick = per_second(bodies.len(), begun.elapsed());
        let begun = Instant::now();
        for (_, value) in &bodies {
            black_box(Codec::global().decode(value)?);
        }
        alone.push((per_second(bodies.len(), begun.elapsed()), yardstick));
        let (taking, closing) = apply(history);
        applied.push((per_second(history.inputs, taking), yardstick));
        epochs.push((per_second(history.inputs, taking + closing), yardstick));
    }
    let of = format!("{} input records, {} bytes a body", bodies.len(), history.input_bytes / history.inputs.max(1));
    let with = |what: &str| format!("{what}: {of}");
    let epochs_what = format!("as above, with decisions, roots and digests of {} epochs: {of}", history.raw.len());
    Ok(vec![
        Measure::beside("decode", "events/s", with("bytes to typed events"), &alone, AVRO),
        Measure::beside("decode_and_apply", "events/s", with("decoded, judged, hashed and folded"), &applied, AVRO),
        Measure::beside("epochs", "events/s", epochs_what, &epochs, AVRO),
    ])
}

/// Input bodies by record type, in the order of application.
pub fn bodies(history: &History) -> Vec<(usize, &[u8])> {
    let values = history.raw.iter().flat_map(|raw| &raw.inputs).map(|input| input.stored.record.value.as_slice());
    let known = values.filter_map(|value| {
        let id = u32::from_be_bytes(*value.get(1..FRAME_LEN)?.first_chunk()?);
        let (name, _) = Codec::global().writer_schema(id)?;
        Some((event_type(name)?.index(), value))
    });
    known.collect()
}

/// All epochs once through a fresh kernel: time of taking records, and of closing epochs.
fn apply(history: &History) -> (Duration, Duration) {
    let mut kernel = Kernel::new(history.cell.clone());
    let (mut taking, mut closing) = (Duration::ZERO, Duration::ZERO);
    for raw in &history.raw {
        let begun = Instant::now();
        let mut epoch = OpenEpoch::open(&mut kernel, raw.record.now_us.0, raw.record.term);
        for input in &raw.inputs {
            let record = &input.stored.record;
            let decoded = Codec::global().decode_record(record);
            let seen = match input.skipped {
                Some(SkipReason::Duplicate) => Seen::Duplicate,
                Some(SkipReason::Conflict) => Seen::Conflict,
                _ => Seen::New,
            };
            epoch.take(input.position, &record.key, &record.value, decoded.as_ref(), || seen);
        }
        taking += begun.elapsed();
        let begun = Instant::now();
        black_box(epoch.close(&|topic: Topic| history.log.partitions(topic.into())));
        closing += begun.elapsed();
    }
    (taking, closing)
}
