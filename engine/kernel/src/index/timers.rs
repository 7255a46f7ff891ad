//! What happens by itself, and when. Every timer follows from the state, so that a restored kernel wakes at the same instants.

use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::Index;
use crate::state::State;

/// Something that happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A job may start, be retried or has waited for its better hour.
    Job(JobId),
    /// A run's lease passes.
    Run(RunId),
    /// An instance's paid time ends, or it has been idle long enough.
    Instance(NodeId),
    /// A pool may be asked again.
    Pool(PoolId),
    /// A limit, weight, price or rate begins or ends.
    Limits,
    /// An attestation ends.
    Attestation(NodeId),
    /// A budget's period ends.
    Budgets,
}

impl Timer {
    /// Whether somebody waits for it: such a wake-up keeps a virtual run from being idle.
    fn counts(&self) -> bool {
        matches!(self, Self::Job(_) | Self::Run(_) | Self::Instance(_) | Self::Pool(_))
    }
}

impl Index {
    /// Sets a timer.
    pub fn set_timer(&mut self, at: TimeUs, timer: Timer) {
        if timer.counts() {
            self.counting.insert((at, timer.clone()));
        }
        self.timers.insert((at, timer));
    }

    /// Takes a timer back.
    pub fn clear_timer(&mut self, at: TimeUs, timer: Timer) {
        let entry = (at, timer);
        self.timers.remove(&entry);
        self.counting.remove(&entry);
    }

    pub(super) fn set_all_timers(&mut self, state: &State) {
        let now = state.now();
        for (id, job) in state.jobs.iter().filter(|(_, job)| !job.is_over() && job.not_before_us > now) {
            self.set_timer(job.not_before_us, Timer::Job(id.clone()));
        }
        for (id, run) in state.runs.iter() {
            self.set_timer(run.lease_until_us, Timer::Run(id.clone()));
        }
        for (id, node) in state.nodes.iter() {
            if let Some(until) = node.attested_until_us.filter(|until| *until > now) {
                self.set_timer(until, Timer::Attestation(id.clone()));
            }
            if let Some(at) = crate::lease::release_at(state, id) {
                self.set_timer(at.max(TimeUs(now.0 + 1)), Timer::Instance(id.clone()));
            }
        }
        for (id, pool) in state.pools.iter().filter(|(_, pool)| pool.refused_until_us > now) {
            self.set_timer(pool.refused_until_us, Timer::Pool(id.clone()));
        }
        for (_, set) in state.power_limits.iter() {
            for at in [Some(set.from_us), set.to_us].into_iter().flatten().filter(|at| *at > now) {
                self.set_timer(at, Timer::Limits);
            }
        }
        for ((_, from), _) in state.weights.iter().filter(|((_, from), _)| *from > now) {
            self.set_timer(*from, Timer::Limits);
        }
        for (_, pool) in state.pools.iter() {
            for price in pool.prices.iter().filter(|price| price.from_us > now) {
                self.set_timer(price.from_us, Timer::Limits);
            }
        }
        for (_, budget) in state.budgets.iter() {
            let (_, end) = crate::budget::period_at(&budget.set, now);
            if end > now {
                self.set_timer(end, Timer::Budgets);
            }
        }
    }

    /// Notes what is due at the epoch's time.
    pub fn due(&mut self, state: &State) {
        let now = state.now();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((at, timer)) = self.timers.pop_first() else { break };
            self.counting.remove(&(at, timer.clone()));
            self.changed = true;
            match timer {
                Timer::Job(job) => {
                    self.suspect_jobs.insert(job);
                }
                Timer::Run(run) => {
                    self.suspect_runs.insert(run);
                }
                Timer::Instance(node) => {
                    self.idle_instances.insert(node);
                }
                Timer::Attestation(node) => {
                    self.suspects.insert(node);
                }
                Timer::Limits => {
                    let sites: Vec<SiteId> = self.power.keys().cloned().collect();
                    for site in sites {
                        if let Some(power) = self.power.get_mut(&site) {
                            power.refresh_limits(state, &site);
                        }
                        self.suspect_sites.insert(site);
                    }
                }
                Timer::Budgets => {
                    self.budgets_touched.extend(state.budgets.iter().map(|(id, _)| id.clone()));
                }
                Timer::Pool(_) => {}
            }
        }
    }

    /// The next instant at which something happens by itself.
    pub fn next_timer(&self) -> Option<TimeUs> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next instant for which somebody waits.
    pub fn next_counting_timer(&self) -> Option<TimeUs> {
        self.counting.first().map(|(at, _)| *at)
    }

    /// The next tick, while something waits.
    pub fn next_tick(&self, state: &State) -> Option<TimeUs> {
        let tick = state.policy().tick()?;
        (!self.queue.is_empty()).then(|| state.now().after(tick))
    }
}
