//! A queue over time: jobs of a trace through the kernel itself, epoch by epoch, on a fleet that is sized by load.
//!
//! The protocol, so that a run is the same work whoever does it: nodes of equal size; their number is all GPU time of the trace over
//! its span, the load and the GPUs of a node. A job of up to a node's GPUs is one replica, a larger one takes whole nodes. Tenants
//! are the trace's own, with shares by their GPU time or equal ones; what is idle may be borrowed. A checkpoint every 30 minutes of
//! running, 5 minutes to restore, a run is left alone for 15 minutes. What is told to stop stops at once. Floating point is for
//! the report only.

mod fleet;
mod kept;
mod misses;
mod running;
mod world;

use std::collections::BTreeMap;

use serde::Serialize;
use solyx_schemas::log::Log;

pub use self::fleet::Fleet;
use self::world::World;
use super::BacktestError;
use super::philly::TraceJob;
use crate::import::estimates::Estimates;

/// Order rules to compare, by the name they have in a backtest: order rule and backfill depth of policy.
pub const POLICIES: [(&str, &str, i64); 8] = [
    ("solyx", "share-surcharge", 0),
    ("easy", "fifo", 1_000),
    ("fifo", "fifo", 0),
    ("sjf", "sjf", 1_000),
    ("drf", "classic", 1_000),
    ("las", "las", 0),
    ("srpt", "srpt", 0),
    ("srpt-shares", "srpt", 0),
];

const SOURCE: &str = "backtest";

/// How it is run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// One of [`POLICIES`].
    pub policy: String,
    /// What jobs say of their length. A rule that needs lengths and gets none takes the running median of what has ended, by
    /// tenant and size.
    pub durations: Estimates,
    /// Seed of estimates.
    pub seed: u64,
    /// Whether all tenants have the same share, or shares by their GPU time.
    pub equal_shares: bool,
    /// Days of one step of the surcharge; the policy's default when absent.
    pub step_days: Option<i64>,
}

/// Mean and quantiles, s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// At most half are above; the nearest rank, as the others.
    pub p50: f64,
    /// At most one in twenty is above.
    pub p95: f64,
    /// At most one in a hundred is above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(mut values: Vec<i64>) -> Self {
        values.sort_unstable();
        let at = |of_100: usize| {
            let rank = (values.len() * of_100).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0) as f64
        };
        let mean = values.iter().map(|value| *value as f64).sum::<f64>() / values.len().max(1) as f64;
        Self { mean, p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueReport {
    /// The policy.
    pub policy: String,
    /// What jobs said of their length.
    pub durations: String,
    /// GPU time asked for over GPU time there is.
    pub load: f64,
    /// Jobs that ran to their end.
    pub jobs: usize,
    /// Nodes.
    pub nodes: i64,
    /// Time in which a job did not run, between its request and its end.
    pub wait_s: Spread,
    /// From request to end.
    pub completion_s: Spread,
    /// GPU time that did work, per cent of what there was until the last end.
    pub utilisation_pct: f64,
    /// GPU time lost to preemption, restoring among it, h.
    pub lost_gpu_h: f64,
    /// The same, per cent of the trace's GPU time.
    pub lost_pct: f64,
    /// How often a run was stopped for another.
    pub preemptions: u64,
    /// Longest that a job waited while its tenant's promised share held it.
    pub longest_miss_s: i64,
    /// Jobs that so waited for more than 20 minutes.
    pub misses_over_20_min: u64,
    /// Decisions in a second of the kernel's time.
    pub decisions_per_s: f64,
    /// Epochs.
    pub epochs: u64,
    /// Chain hash of the last epoch.
    pub chain_head: String,
}

/// Nodes of a fleet for a load.
pub fn nodes_for(jobs: &[TraceJob], load: f64, gpus_per_node: i64) -> i64 {
    (busy_gpus(jobs) / load / gpus_per_node as f64).round().max(1.0) as i64
}

/// The load of a trace on so many GPUs, to three digits.
pub fn load_of(jobs: &[TraceJob], gpus: i64) -> f64 {
    (busy_gpus(jobs) / gpus.max(1) as f64 * 1_000.0).round() / 1_000.0
}

/// GPUs that a trace would keep busy: its GPU time over its span.
fn busy_gpus(jobs: &[TraceJob]) -> f64 {
    let gpu_s: i64 = jobs.iter().map(|job| job.gpus * job.work_s).sum();
    let first = jobs.first().map_or(0, |job| job.submitted_s);
    let span = jobs.iter().map(|job| job.submitted_s - first).max().unwrap_or(0).max(1);
    gpu_s as f64 / span as f64
}

/// GPUs that a job holds while it runs: what it asks for, or whole nodes.
fn held(job: &TraceJob, per_node: i64) -> i64 {
    if job.gpus <= per_node { job.gpus } else { (job.gpus + per_node - 1) / per_node * per_node }
}

/// Runs a trace; into an empty log of one partition a topic, where one is given.
pub fn run(
    jobs: &[TraceJob],
    fleet: &Fleet,
    setting: &Setting,
    log: Option<&dyn Log>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<QueueReport, BacktestError> {
    let per_node = fleet.gpus_per_node;
    let largest = jobs.iter().max_by_key(|job| held(job, per_node)).ok_or(BacktestError::NoJobs)?;
    if held(largest, per_node) > fleet.largest_gang {
        let gpus = held(largest, per_node);
        return Err(BacktestError::TooLarge { number: largest.number, gpus, fleet: fleet.largest_gang });
    }
    let mut shares: BTreeMap<&str, i64> = BTreeMap::new();
    for job in jobs {
        *shares.entry(&job.tenant).or_default() += if setting.equal_shares { 0 } else { job.gpus * job.work_s };
    }
    let mut world = World::new(setting, fleet, &shares, log)?;
    world.run(jobs, progress)?;
    Ok(world.report(jobs))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_without_jobs_and_a_job_beyond_the_fleet_are_errors() {
        let setting = setting("solyx", Estimates::Exact);
        let one = Fleet::equal(1, 8);
        assert!(matches!(run(&[], &one, &setting, None, &mut |_, _| {}), Err(BacktestError::NoJobs)));
        let large = TraceJob { number: 1, submitted_s: 0, work_s: 60, gpus: 64, tenant: "a".to_owned() };
        let found = run(&[large], &one, &setting, None, &mut |_, _| {});
        assert!(matches!(found, Err(BacktestError::TooLarge { number: 1, gpus: 64, fleet: 8 })), "{found:?}");
    }

    #[test]
    fn a_gang_that_no_pool_can_hold_is_an_error_and_so_is_one_that_never_starts() {
        let text = include_str!("../../../../ops/fleets/metapods.toml");
        let fleet = Fleet::of_events(crate::fleet::parse("metapods.toml", text, None).unwrap()).unwrap();
        assert!(fleet.largest_gang < fleet.gpus);
        let large =
            TraceJob { number: 7, submitted_s: 0, work_s: 60, gpus: fleet.largest_gang + 8, tenant: "a".to_owned() };
        let found =
            run(std::slice::from_ref(&large), &fleet, &setting("solyx", Estimates::Exact), None, &mut |_, _| {});
        assert!(matches!(found, Err(BacktestError::TooLarge { number: 7, .. })), "{found:?}");
        for policy in ["solyx", "easy", "fifo"] {
            // As if the check before were wrong.
            let fleet = Fleet { largest_gang: i64::MAX, ..Fleet::equal(1, 8) };
            let jobs = [TraceJob { gpus: 16, ..large.clone() }];
            let found = run(&jobs, &fleet, &setting(policy, Estimates::Exact), None, &mut |_, _| {});
            assert!(matches!(found, Err(BacktestError::Stuck { jobs: 1, number: 7 })), "{policy}: {found:?}");
        }
    }

    /// Jobs of three tenants for two days: many short ones, some that take whole nodes for long.
    fn trace() -> Vec<TraceJob> {
        let draw = |number: u64, what: u8, below: u64| {
            let hash = blake3::hash(&[&number.to_le_bytes()[..], &[what]].concat());
            u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes")) % below
        };
        let mut jobs: Vec<TraceJob> = (1..=400)
            .map(|number| {
                let is_long = draw(number, 0, 10) == 0;
                TraceJob {
                    number,
                    submitted_s: 1_500_000_000 + draw(number, 1, 2 * 86_400) as i64,
                    work_s: (60 + draw(number, 2, if is_long { 200_000 } else { 7_200 })) as i64,
                    gpus: if is_long {
                        [8, 12, 16][draw(number, 3, 3) as usize]
                    } else {
                        1 + draw(number, 4, 4) as i64
                    },
                    tenant: ["a", "b", "c"][draw(number, 5, 3) as usize].to_owned(),
                }
            })
            .collect();
        jobs.sort_by_key(|job| (job.submitted_s, job.number));
        jobs
    }

    fn fleet(jobs: &[TraceJob]) -> Fleet {
        Fleet::equal(nodes_for(jobs, 1.1, 8), 8)
    }

    fn setting(policy: &str, durations: Estimates) -> Setting {
        Setting { policy: policy.to_owned(), durations, seed: 1, equal_shares: false, step_days: None }
    }

    #[test]
    fn every_job_runs_to_its_end_under_every_rule_and_knowledge() {
        let jobs = trace();
        for (policy, ..) in POLICIES {
            for durations in [Estimates::Exact, Estimates::Noisy(1_000), Estimates::None] {
                let report = run(&jobs, &fleet(&jobs), &setting(policy, durations), None, &mut |_, _| {}).unwrap();
                assert_eq!(report.jobs, jobs.len(), "{policy} {durations:?}");
                assert!(report.wait_s.mean > 0.0, "a load of 1.1 makes jobs wait");
            }
        }
    }

    #[test]
    fn a_run_is_the_same_again_and_a_promised_share_is_given_back_in_time() {
        let jobs = trace();
        let first = run(&jobs, &fleet(&jobs), &setting("solyx", Estimates::None), None, &mut |_, _| {}).unwrap();
        let again = run(&jobs, &fleet(&jobs), &setting("solyx", Estimates::None), None, &mut |_, _| {}).unwrap();
        assert_eq!(first.chain_head, again.chain_head);
        assert!(first.preemptions > 0);
        assert_eq!(first.misses_over_20_min, 0, "the longest miss is {} s", first.longest_miss_s);
        let drf = run(&jobs, &fleet(&jobs), &setting("drf", Estimates::None), None, &mut |_, _| {}).unwrap();
        assert!(drf.longest_miss_s > first.longest_miss_s);
    }

    #[test]
    fn a_fleet_file_gives_its_own_nodes_and_jobs_are_divided_by_the_smallest() {
        let text = include_str!("../../../../ops/fleets/metapods.toml");
        let fleet = Fleet::of_events(crate::fleet::parse("metapods.toml", text, None).unwrap()).unwrap();
        assert!(fleet.nodes > 0 && fleet.gpus >= fleet.nodes * fleet.gpus_per_node);
        let jobs = trace();
        let report = run(&jobs, &fleet, &setting("solyx", Estimates::Exact), None, &mut |_, _| {}).unwrap();
        assert_eq!((report.jobs, report.nodes), (jobs.len(), fleet.nodes));
        assert!(report.load > 0.0);
        let leased =
            crate::fleet::parse("software-only.toml", include_str!("../../../../ops/fleets/software-only.toml"), None);
        assert!(matches!(Fleet::of_events(leased.unwrap()), Err(BacktestError::NoNodes)));
    }
}
