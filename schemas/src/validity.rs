//! What an event must be beyond its single fields: intervals that have a length, shares that add up, gangs that make sense.
//!
//! Only what the event itself shows; what contradicts the state is the kernel's to judge.

use std::collections::BTreeSet;

use crate::events::Event;
use crate::events::common::{NodeGpus, Sum};
use crate::events::jobs::Gang;
use crate::field::FieldError;
use crate::topics::Topic;
use crate::units::{HOUR_US, RateMicros, TimeUs};

mod demand;
mod policy;
mod supply;

type Checked = Result<(), FieldError>;

/// The most GPUs one node may have; indices are below it.
pub const NODE_GPUS_MAX: i64 = 256;
/// The most that one GPU may draw, W: the sums of all that hangs on one feed stay within 64 bits.
const GPU_W_MAX: i64 = 100_000;
/// The most GPUs of one contract; the same for their sums.
const CONTRACT_GPUS_MAX: i64 = 1_000_000_000;
/// Memory slices of one GPU at most.
pub const MIG_SLICES_MAX: i64 = 16;
/// The whole of something in thousandths.
const WHOLE_MILLI: i64 = 1_000;

/// Whether the fields of an event fit together.
pub fn check_relations(event: &Event) -> Checked {
    match event.topic() {
        Topic::Policy => policy::check(event),
        Topic::Jobs | Topic::Runs | Topic::Usage | Topic::Sim => demand::check(event),
        _ => supply::check(event),
    }
}

/// `from` before `to`.
fn interval(from: TimeUs, to: TimeUs) -> Checked {
    expect(from < to, "to_us", to.0, || format!("later than from_us, which is {}", from.0))
}

/// `from` before `to` where there is one.
fn open_interval(from: TimeUs, to: Option<TimeUs>) -> Checked {
    to.map_or(Ok(()), |to| interval(from, to))
}

fn expect(good: bool, field: &str, found: impl ToString, expected: impl FnOnce() -> String) -> Checked {
    if good { Ok(()) } else { Err(FieldError::at(field, found, expected())) }
}

fn at_least(least: i64, field: &str, found: i64) -> Checked {
    expect(found >= least, field, found, || format!("at least {least}"))
}

fn between(least: i64, most: i64, field: &str, found: i64) -> Checked {
    expect((least..=most).contains(&found), field, found, || format!("{least} to {most}"))
}

fn price(field: &str, rate: RateMicros) -> Checked {
    at_least(0, field, rate.0)
}

fn amount(field: &str, sum: &Sum) -> Checked {
    at_least(0, "micros", sum.micros.0).map_err(|e| e.within(field))
}

/// No two of `items` are the same.
fn unique<T: Ord + ToString>(field: &str, items: impl IntoIterator<Item = T>) -> Checked {
    let mut seen = BTreeSet::new();
    for (i, item) in items.into_iter().enumerate() {
        let shown = item.to_string();
        expect(seen.insert(item), &format!("{field}[{i}]"), shown, || "each only once".to_owned())?;
    }
    Ok(())
}

/// Upper ends of tiers rise, and only the last is open.
fn tiers<T>(tiers: &[T], up_to: impl Fn(&T) -> Option<i64>, up_to_field: &str) -> Checked {
    let Some((last, closed)) = tiers.split_last() else {
        return Err(FieldError::at("tiers", "no tier", "at least one"));
    };
    let mut below = 0;
    for (i, tier) in closed.iter().enumerate() {
        let field = format!("tiers[{i}].{up_to_field}");
        match up_to(tier) {
            Some(end) => expect(end > below, &field, end, || format!("more than {below}, the end of the tier below"))?,
            None => return Err(FieldError::at(&field, "null", "an end, since another tier follows")),
        }
        below = up_to(tier).unwrap_or(below);
    }
    let field = format!("tiers[{}].{up_to_field}", closed.len());
    up_to(last).map_or(Ok(()), |end| Err(FieldError::at(&field, end, "null: the last tier is open")))
}

/// A month as in `2023-09`.
fn month(field: &str, text: &str) -> Checked {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    let good = bytes.len() == 7
        && bytes[4] == b'-'
        && digits(0..4)
        && digits(5..7)
        && (b"01".as_slice()..=b"12".as_slice()).contains(&&bytes[5..7]);
    expect(good, field, format!("{text:?}"), || "a month as in 2023-09".to_owned())
}

/// Whole bytes in lower-case hexadecimal.
fn hexadecimal(field: &str, text: &str, bytes: Option<usize>) -> Checked {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let good = digits && text.len().is_multiple_of(2) && bytes.is_none_or(|bytes| text.len() == 2 * bytes);
    expect(good, field, format!("{text:?}"), || match bytes {
        Some(bytes) => format!("{} hexadecimal digits in lower case", 2 * bytes),
        None => "an even number of hexadecimal digits in lower case".to_owned(),
    })
}

/// A country code of ISO 3166-1 alpha-2.
fn country(field: &str, code: &str) -> Checked {
    let good = code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    expect(good, field, format!("{code:?}"), || "a country as in DE (ISO 3166-1 alpha-2)".to_owned())
}

/// An interval with a length that does not leave its clock hour.
fn clock_hour(from: TimeUs, to: TimeUs) -> Checked {
    interval(from, to)?;
    let end = (from.0 / HOUR_US + 1).saturating_mul(HOUR_US);
    expect(to.0 <= end, "to_us", to.0, || format!("at most {end}, the end of the clock hour of from_us"))
}

fn gpu_share(gpus: i64, gpu_milli_each: i64) -> Checked {
    match gpus {
        0 => between(0, WHOLE_MILLI, "gpu_milli_each", gpu_milli_each),
        1 => between(1, WHOLE_MILLI, "gpu_milli_each", gpu_milli_each),
        _ => expect(gpu_milli_each == WHOLE_MILLI, "gpu_milli_each", gpu_milli_each, || {
            "1000: only a replica with a single GPU may have a share of it".to_owned()
        }),
    }
}

fn gang(gang: &Gang) -> Checked {
    at_least(1, "replicas_min", gang.replicas_min.0)?;
    expect(gang.replicas_max >= gang.replicas_min, "replicas_max", gang.replicas_max.0, || {
        format!("at least replicas_min, which is {}", gang.replicas_min.0)
    })?;
    gpu_share(gang.gpus.0, gang.gpu_milli_each.0)?;
    if gang.mig_profile.is_some() {
        at_least(1, "gpus", gang.gpus.0)?;
        expect(gang.gpu_milli_each.0 == WHOLE_MILLI, "gpu_milli_each", gang.gpu_milli_each.0, || {
            "1000 beside mig_profile: what an instance has of its GPU follows from the profile".to_owned()
        })?;
    }
    let most = gang.memory_max_mib.unwrap_or(gang.memory_mib);
    expect(most >= gang.memory_mib, "memory_max_mib", most.0, || {
        format!("at least memory_mib, which is {}", gang.memory_mib.0)
    })
}

fn nodes(nodes: &[NodeGpus]) -> Checked {
    for (i, node) in nodes.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("nodes[{i}]"));
        node.gpus.iter().try_for_each(|index| between(0, NODE_GPUS_MAX - 1, "gpus", *index)).map_err(within)?;
        unique("gpus", &node.gpus).map_err(within)?;
        // Several GPUs of a replica may each be an instance, which is less than a GPU.
        let least = i64::from(!node.gpus.is_empty());
        between(least, WHOLE_MILLI, "gpu_milli_each", node.gpu_milli_each.0).map_err(within)?;
    }
    expect(!nodes.is_empty(), "nodes", "no node", || "at least one".to_owned())
}
