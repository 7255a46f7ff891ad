//! Golden logs: archives of each released set of features, as the build of their release wrote them. Every later build has to
//! audit them without a difference and to fold the same views. `CONTRIBUTING.md` says when a set is made; one that is there is
//! never written again.
#![allow(clippy::unwrap_used)]

mod another_rule;
mod make;
mod scene;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use solyx_connectors::log::archive::ArchiveLog;
use solyx_kernel::KNOWN_FEATURES;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::{Fold, digest};
use solyx_projections::jobs::Jobs;
use solyx_runtime::{AuditOptions, audit};
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::Log;

/// What a golden log is, as its release saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Epochs.
    pub epochs: u64,
    /// Inputs, outputs and epoch records.
    pub events: u64,
    /// Chain hash of the last epoch.
    pub chain_head: String,
    /// Every feature that was in force in it at one time.
    pub features: BTreeSet<String>,
    /// Each view at the end.
    pub views: BTreeMap<String, ViewHash>,
    /// Total of each invoice in micro-units, by tenant, month and currency.
    pub invoices: BTreeMap<String, Option<i64>>,
    /// Records that counted and outputs, by name.
    pub records: BTreeMap<String, u64>,
    /// Records that did not count, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// A view's entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewHash {
    /// Their format.
    pub format: u32,
    /// Hash of them.
    pub hash: String,
}

impl Expected {
    /// The same, with the hashes left out of views whose entries have had another form then.
    fn comparable_with(mut self, other: &Self) -> Self {
        let format = |view: &str| other.views.get(view).map(|of| of.format);
        self.views.retain(|name, of| format(name) == Some(of.format));
        self
    }
}

/// Where golden logs lie: a directory for each release, in it one for each world.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// All golden logs with what is expected of them.
pub fn all() -> Vec<(PathBuf, Expected)> {
    let releases = directories(&home());
    let worlds = releases.iter().flat_map(|release| directories(release));
    let with_expected = |dir: PathBuf| {
        let text = std::fs::read_to_string(dir.with_extension("json")).unwrap();
        (dir, serde_json::from_str(&text).unwrap())
    };
    worlds.map(with_expected).collect()
}

/// What this build makes of a log: an audit without a difference, and the views.
pub fn derived(log: &dyn Log) -> Expected {
    let report = audit(log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{}", report.first_difference.unwrap());
    let mut billing = Billing::default();
    let mut views: [&mut dyn Fold; 4] =
        [&mut billing, &mut Dcim::default(), &mut Failover::default(), &mut Jobs::default()];
    let mut expected = Expected {
        epochs: report.epochs,
        events: report.events,
        chain_head: report.chain_head.to_string(),
        ..Expected::default()
    };
    for epoch in EpochReader::new(log) {
        let epoch = epoch.unwrap();
        views.iter_mut().for_each(|view| view.apply(&epoch).unwrap());
        expected.features.extend(epoch.record.features.iter().map(ToString::to_string));
        for event in epoch.counted().map(|(_, event)| event).chain(&epoch.outputs) {
            *expected.records.entry(event.name().to_owned()).or_default() += 1;
        }
        for skip in &epoch.record.skipped {
            *expected.skipped.entry(skip.reason.to_string()).or_default() += 1;
        }
    }
    let hashed = |view: &&mut dyn Fold| {
        (view.name().to_owned(), ViewHash { format: view.format(), hash: digest(&view.entries()).to_string() })
    };
    expected.views = views.iter().map(hashed).collect();
    expected.invoices = invoices_of(&billing);
    expected
}

/// Totals of all invoices of a view.
pub fn invoices_of(billing: &Billing) -> BTreeMap<String, Option<i64>> {
    let invoices = billing.view().invoices.into_iter();
    invoices.map(|i| (format!("{} {} {}", i.tenant, i.period, i.currency), i.total_micros)).collect()
}

#[test]
fn todays_build_derives_every_golden_log_and_its_views_as_their_release_did() {
    let logs = all();
    assert!(!logs.is_empty());
    for (dir, expected) in logs {
        let log = ArchiveLog::open(&dir).unwrap();
        let head = Hash32::parse(&expected.chain_head).unwrap();
        let knows = AuditOptions { head: Some(head), ..AuditOptions::default() };
        let report = audit(&*log, &knows, &mut |_| {}).unwrap();
        let hint = "a rule changed without a feature: CONTRIBUTING.md, \"Adding a rule, or changing one\"";
        assert!(report.ok, "{}: {}; {hint}", dir.display(), report.first_difference.unwrap());
        let derived = derived(&*log).comparable_with(&expected);
        assert_eq!(
            derived,
            expected.comparable_with(&derived),
            "{}: a fold changed without a feature, or the archive did",
            dir.display()
        );
    }
}

#[test]
fn golden_logs_have_every_feature_and_nearly_every_kind_of_decision_in_them() {
    let mut features = BTreeSet::new();
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    let mut skipped: BTreeSet<String> = BTreeSet::new();
    for (_, expected) in all() {
        features.extend(expected.features);
        skipped.extend(expected.skipped.into_keys());
        for (name, count) in expected.records {
            *records.entry(name).or_default() += count;
        }
    }
    let missing: Vec<_> = KNOWN_FEATURES.iter().filter(|feature| !features.contains(**feature)).collect();
    assert!(missing.is_empty(), "no golden log has {missing:?} in force: make the next set");
    let decisions = [
        "JobAdmitted",
        "JobRejected",
        "JobPlaced",
        "JobHeld",
        "JobDeferred",
        "JobPreempted",
        "JobMigrated",
        "JobResized",
        "JobCancelled",
        "JobRequeued",
        "CapacityLeaseOrdered",
        "CapacityReleaseOrdered",
        "MigOrdered",
        "NodeCordonOrdered",
        "BudgetExhausted",
        "RecordQuarantined",
    ];
    let never: Vec<_> =
        decisions.iter().filter(|name| !records.keys().any(|full| full.ends_with(&format!(".{name}")))).collect();
    assert!(never.is_empty(), "{never:?} are in no golden log");
    let reasons = [
        "UNDECODABLE",
        "UNKNOWN_SCHEMA",
        "DUPLICATE",
        "CONFLICT",
        "INVALID",
        "REJECTED",
        "MISPLACED",
        "UNKNOWN_FEATURE",
    ];
    let never: Vec<_> = reasons.iter().filter(|reason| !skipped.contains(**reason)).collect();
    assert!(never.is_empty(), "{never:?} are in no golden log");
}

#[test]
fn golden_logs_are_small() {
    for (dir, _) in all() {
        let mut bytes = 0;
        let mut open = vec![dir.clone()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_dir() { open.push(entry.path()) } else { bytes += entry.metadata().unwrap().len() }
            }
        }
        assert!(bytes <= worlds::BYTES_MAX, "{} has {bytes} bytes", dir.display());
    }
}
