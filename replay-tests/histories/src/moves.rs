//! A second opinion on runs that are moved: what consolidation loses, and that everybody gets the room that was held.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::Closed;
use solyx_kernel::rows::Phase;
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::ids::*;
use solyx_schemas::units::HOUR_US;

/// A run as far as moving it goes.
struct Seen {
    gpu_milli: i64,
    /// Since when its work is durable.
    durable: i64,
}

/// What has been moved so far.
#[derive(Default)]
pub struct MovesBook {
    /// What the policy lets it lose, and what is left of it at an instant.
    budget_now_us: i128,
    bucket: Option<(i64, i128)>,
    /// The most that any policy so far let consolidation lose in an hour, µs of one GPU.
    budget_us: i128,
    /// When what was lost.
    lost: Vec<(i64, i128)>,
    restore: BTreeMap<JobId, i64>,
    runs: BTreeMap<RunId, Seen>,
    /// Runs on their way, with where to.
    moving: BTreeMap<RunId, (JobId, PoolId)>,
    gangs: BTreeMap<JobId, BTreeSet<RunId>>,
    preemptions_max: Option<i64>,
    times: BTreeMap<JobId, i64>,
    /// Runs that were moved for gangs, off drained nodes, those that went on at once, and gangs that got their room.
    pub consolidated: usize,
    pub drained: usize,
    pub went_on: usize,
    pub helped: usize,
}

impl MovesBook {
    /// Takes in an epoch and checks it. In a calm history nothing that is held is ever lost.
    pub fn epoch(&mut self, now: i64, counted: &[Event], closed: &Closed, state: &State, calm: bool) {
        let mut stopped = Vec::new();
        for event in counted {
            match event {
                Event::SchedulingPolicySet(e) => {
                    let budget = e.consolidation_budget_us.map_or(0, |budget| budget.0);
                    self.budget_now_us = i128::from(budget);
                    self.budget_us = self.budget_us.max(i128::from(budget));
                    let most = e.preemptions_max.map_or(10, |most| most.0);
                    self.preemptions_max = Some(self.preemptions_max.map_or(most.max(10), |before| before.max(most)));
                }
                Event::JobRequested(e) => {
                    self.restore.insert(e.job.clone(), e.restore_us.map_or(0, |restore| restore.0));
                }
                Event::RunCheckpointed(e) => {
                    if let Some(seen) = self.runs.get_mut(&e.run) {
                        seen.durable = seen.durable.max(e.durable_us.0);
                    }
                }
                Event::RunStopped(e) => stopped.extend(self.moving.remove(&e.run)),
                Event::RunFinished(e) => {
                    self.moving.remove(&e.run);
                }
                Event::RunFailed(e) => {
                    self.moving.remove(&e.run);
                }
                _ => {}
            }
        }
        let mut placed: BTreeMap<&JobId, &PoolId> = BTreeMap::new();
        for output in &closed.outputs {
            match output {
                Event::JobPlaced(e) => {
                    placed.insert(&e.job, &e.pool);
                    self.runs.insert(e.run.clone(), Seen { gpu_milli: e.gpu_milli.0, durable: now });
                }
                Event::JobMigrated(e) if e.cause == StopCause::Priority => {
                    self.consolidated += 1;
                    let seen = &self.runs[&e.run];
                    let time = i128::from(now - seen.durable + self.restore[&e.job]);
                    let lost = (time * i128::from(seen.gpu_milli) + 999) / 1_000;
                    self.lost.push((now, lost));
                    let full = self.budget_now_us;
                    let come =
                        |(at, left): (i64, i128)| full.min(left + i128::from(now - at) * full / i128::from(HOUR_US));
                    let left = self.bucket.map_or(full, come);
                    assert!(lost <= left, "{} loses {lost} µs, {left} are left of {full}", e.run);
                    self.bucket = Some((now, left - lost));
                    let times = self.times.entry(e.job.clone()).or_default();
                    *times += 1;
                    assert!(self.preemptions_max.is_none_or(|most| *times <= most), "{} moves {times} times", e.job);
                    assert!(self.budget_us > 0, "{} is moved without a budget", e.run);
                    let to = e.to_pool.clone().unwrap();
                    self.moving.insert(e.run.clone(), (e.job.clone(), to));
                }
                Event::JobMigrated(e) => {
                    self.drained += usize::from(e.cause == StopCause::Drain);
                    if let Some(to) = &e.to_pool {
                        self.moving.insert(e.run.clone(), (e.job.clone(), to.clone()));
                    }
                }
                _ => {}
            }
        }
        let recent: i128 = self.lost.iter().filter(|(at, _)| *at > now - HOUR_US).map(|(_, lost)| lost).sum();
        assert!(recent <= 2 * self.budget_us, "{recent} µs lost in an hour, {} may be", self.budget_us);
        for (job, to) in stopped {
            let again = placed.get(&job).is_some_and(|pool| **pool == to);
            self.went_on += usize::from(again);
            assert!(again || !calm, "{job} has stopped to move to {to} and is placed in {:?}", placed.get(&job));
        }
        for (gang, claim) in state.claims.iter().filter(|(_, claim)| claim.berth.is_none()) {
            let own: Vec<&RunId> = claim.victims.iter().filter(|run| self.moving.contains_key(*run)).collect();
            if !own.is_empty() {
                self.gangs.entry(gang.clone()).or_default().extend(own.into_iter().cloned());
            }
        }
        // A gang may also start elsewhere, before what is moved for it has gone; then it has its room, whatever becomes of it.
        let waits = |gang: &JobId| state.jobs.get(gang).is_some_and(|job| job.phase == Phase::Waiting);
        let over = |(gang, runs): &(&JobId, &BTreeSet<RunId>)| {
            !waits(gang) || !runs.iter().any(|run| state.runs.contains(run))
        };
        let done: Vec<JobId> = self.gangs.iter().filter(over).map(|(gang, _)| gang.clone()).collect();
        for gang in done {
            self.gangs.remove(&gang);
            let waits = waits(&gang);
            self.helped += usize::from(!waits);
            assert!(!waits || !calm, "{gang} waits though what was moved for it is gone");
        }
    }
}
