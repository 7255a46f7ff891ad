//! What this build decides on the inputs that a log recorded, compared with nothing: two builds, or two sets of features, are
//! compared by what each of them says here.
//!
//! Open loop: ranges, `now`, term and duplicates as recorded, and what executors reported stays what it was. After the first
//! epoch that two decide differently the reports no longer follow from what either of them decided.

use std::path::PathBuf;

use serde_json::Value;
use solyx_kernel::{Closed, Kernel, unknown_feature};
use solyx_schemas::epochs::{EpochReader, Frontier, RawEpoch, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkippedRecord;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::FeatureId;
use solyx_schemas::json::to_json;
use solyx_schemas::log::Log;
use solyx_schemas::units::TimeUs;

use crate::derive::recorded_epoch;
use crate::error::RuntimeError;
use crate::snapshots::Snapshots;

/// How a log is decided again.
#[derive(Clone, Debug, Default)]
pub struct RedecideOptions {
    /// These features, in force from the first epoch on; absent means those that the log switches on.
    pub features: Option<Vec<FeatureId>>,
    /// Begins at the newest good snapshot in this directory that stands at this epoch or before it.
    pub from: Option<(PathBuf, i64)>,
}

/// What this build makes of an epoch.
pub struct Redecided {
    /// Number.
    pub epoch: i64,
    /// Time.
    pub now_us: TimeUs,
    /// Hash of which records do not count and why.
    pub judged: Hash32,
    /// Hash of the decisions. A field that is empty is left out of it: a build that has a field more says the same while it does
    /// not use it.
    pub decided: Hash32,
    /// State digest. Equal among builds that keep the same state in the same form.
    pub state: Hash32,
    /// All of it.
    pub closed: Closed,
}

impl Redecided {
    fn of(closed: Closed) -> Self {
        let record = &closed.record;
        let judged = hashed(record.skipped.iter().map(|skip| {
            let SkippedRecord { topic, partition, ordinal, reason } = skip;
            format!("{topic}/{partition}/{ordinal} {reason}")
        }));
        let decided = hashed(decisions(&closed).map(|event| without_empty(to_json(event)).to_string()));
        let (epoch, now_us, state) = (record.epoch, record.now_us, record.state_digest);
        Self { epoch, now_us, judged, decided, state, closed }
    }

    /// The decisions in order, without copies of records that do not count.
    pub fn decisions(&self) -> impl Iterator<Item = &Event> {
        decisions(&self.closed)
    }
}

fn decisions(closed: &Closed) -> impl Iterator<Item = &Event> {
    closed.outputs.iter().filter(|output| !matches!(output, Event::RecordQuarantined(_)))
}

fn hashed(lines: impl Iterator<Item = String>) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    for line in lines {
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    Hash32(*hasher.finalize().as_bytes())
}

/// A decision as JSON without what is null or an empty list.
pub fn without_empty(value: Value) -> Value {
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !empty(value));
            Value::Object(kept.map(|(name, value)| (name, without_empty(value))).collect())
        }
        Value::Array(values) => values.into_iter().map(without_empty).collect(),
        other => other,
    }
}

/// Decides a log again, epoch by epoch.
pub struct Redecisions<'l> {
    log: &'l dyn Log,
    reader: EpochReader<'l>,
    kernel: Option<Kernel>,
    features: Option<Vec<FeatureId>>,
    ahead: Option<RawEpoch>,
    /// Why the epoch after that cannot be had.
    unread: Option<ReadError>,
    from_epoch: i64,
}

impl<'l> Redecisions<'l> {
    /// Before the first epoch, or at a snapshot.
    pub fn begin(log: &'l dyn Log, options: &RedecideOptions) -> Result<Self, RuntimeError> {
        let mut reader = EpochReader::new(log);
        let mut ahead = reader.next_raw()?;
        let mut kernel = None;
        let mut from_epoch = 0;
        if let (Some((dir, epoch)), Some(first)) = (&options.from, &ahead) {
            let mut snapshots = Snapshots::new(Some(dir.clone()), i64::MAX);
            let (restored, frontier): (Kernel, Frontier) = snapshots.load_before(*epoch, log, &first.record.cell)?;
            if frontier.next_epoch > 0 {
                reader = EpochReader::at(log, &frontier);
                ahead = reader.next_raw()?;
                (kernel, from_epoch) = (Some(restored), frontier.next_epoch);
            }
        }
        let features = options.features.clone();
        Ok(Self { log, reader, kernel, features, ahead, unread: None, from_epoch })
    }

    /// The first epoch that is decided again.
    pub fn from_epoch(&self) -> i64 {
        self.from_epoch
    }

    /// The epoch that comes next, as it was recorded.
    pub fn ahead(&self) -> Option<&RawEpoch> {
        self.ahead.as_ref()
    }

    /// The kernel at the boundary before the epoch that comes next; none while nothing is known of a cell.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    /// Decides the next epoch; none at the end of history. Where history breaks off, the last epoch before comes first.
    pub fn next_epoch(&mut self) -> Result<Option<Redecided>, RuntimeError> {
        let Some(raw) = self.ahead.take() else {
            return match self.unread.take() {
                Some(error) => Err(error.into()),
                None => Ok(self.reader.ended().map(|()| None)?),
            };
        };
        let kernel = self.kernel.get_or_insert_with(|| {
            let cell = raw.record.cell.clone();
            self.features.clone().map_or_else(|| Kernel::new(cell.clone()), |f| Kernel::with_features(cell.clone(), f))
        });
        if self.features.is_none()
            && let Some(feature) = unknown_feature(&raw.record.features)
        {
            return Err(RuntimeError::Feature { epoch: raw.record.epoch, feature: feature.to_string() });
        }
        let derived = recorded_epoch(kernel, self.log, &raw);
        match self.reader.next_raw() {
            Ok(ahead) => self.ahead = ahead,
            Err(error) => self.unread = Some(error),
        }
        Ok(Some(Redecided::of(derived.closed)))
    }
}
