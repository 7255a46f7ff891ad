//! What happens by itself, and when. Each timer has one instant that follows from the state, so that a restored kernel wakes
//! at the same instants as one that was never stopped.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::policy::PowerLimitSet;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::Index;
use crate::budget::period_at;
use crate::energy::{next_change_of_unconverted, priced_zones};
use crate::rows::Job;
use crate::state::State;

/// Something that happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A job may start, be retried or has waited for its better hour.
    Job(JobId),
    /// A job forgets the nodes that it avoids.
    Avoided(JobId),
    /// A run's lease passes.
    Run(RunId),
    /// A run that waits for its checkpoint is told to stop for a drain.
    Drain(RunId),
    /// An instance's paid time ends, or it has been idle long enough.
    Instance(NodeId),
    /// A pool may be asked again.
    Pool(PoolId),
    /// A power limit begins or ends.
    PowerLimit(RefId),
    /// Weights come into force, or go out of it.
    Weights(Name, TimeUs),
    /// A price of a pool comes into force.
    Price(PoolId, TimeUs),
    /// An exchange rate comes into force.
    Exchange(Currency, Currency, TimeUs),
    /// A zone's energy is priced otherwise, where some of its prices do not convert.
    Energy(ZoneId),
    /// An attestation ends.
    Attestation(NodeId),
    /// A budget's period ends.
    Budget(RefId),
    /// A reservation or sold lease comes into force or is over, or a run has to be.
    SetAside,
}

impl Timer {
    /// Whether somebody waits for it: such a wake-up keeps a virtual run from being idle.
    fn counts(&self) -> bool {
        matches!(
            self,
            Self::Job(_) | Self::Avoided(_) | Self::Run(_) | Self::Drain(_) | Self::Instance(_) | Self::Pool(_)
        )
    }
}

/// Timers by instant, those that count apart from the others, and by what they are of.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    counting: BTreeSet<(TimeUs, Timer)>,
    others: BTreeSet<(TimeUs, Timer)>,
    at: BTreeMap<Timer, TimeUs>,
}

impl Timers {
    fn set(&mut self, at: TimeUs, timer: Timer) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.of(&timer).remove(&(before, timer.clone()));
        }
        self.of(&timer).insert((at, timer));
    }

    fn of(&mut self, timer: &Timer) -> &mut BTreeSet<(TimeUs, Timer)> {
        if timer.counts() { &mut self.counting } else { &mut self.others }
    }

    fn first(&self) -> Option<&(TimeUs, Timer)> {
        self.counting.first().into_iter().chain(self.others.first()).min()
    }

    fn clear(&mut self, timer: &Timer) {
        let Some(at) = self.at.remove(timer) else { return };
        self.of(timer).remove(&(at, timer.clone()));
    }

    fn pop_due(&mut self, now: TimeUs) -> Option<Timer> {
        let (_, timer) = self.first().filter(|(at, _)| *at <= now)?;
        let timer = timer.clone();
        self.clear(&timer);
        Some(timer)
    }
}

impl Index {
    /// Sets a timer, in place of an earlier instant of the same.
    pub fn set_timer(&mut self, at: TimeUs, timer: Timer) {
        self.timers.set(at, timer);
    }

    /// Takes a timer back.
    pub fn clear_timer(&mut self, timer: &Timer) {
        self.timers.clear(timer);
    }

    /// Sets the timer of a power limit to the next instant at which it begins or ends.
    pub fn set_limit_timer(&mut self, set: &PowerLimitSet, now: TimeUs) {
        let timer = Timer::PowerLimit(set.limit.clone());
        match [Some(set.from_us), set.to_us].into_iter().flatten().filter(|at| *at > now).min() {
            Some(at) => self.set_timer(at, timer),
            None => self.clear_timer(&timer),
        }
    }

    /// Sets the timer of a budget to the end of its period.
    pub fn set_budget_timer(&mut self, state: &State, id: &RefId) {
        let now = state.now();
        // A period of its own may be still to come.
        let next = |(from, to): (TimeUs, TimeUs)| if from > now { from } else { to };
        let end = state.budgets.get(id).map(|budget| next(period_at(&budget.set, now)));
        let timer = Timer::Budget(id.clone());
        match end.filter(|end| *end > now && *end < TimeUs(i64::MAX)) {
            Some(end) => self.set_timer(end, timer),
            None => self.clear_timer(&timer),
        }
    }

    /// Sets the timers of a pool's prices to come: when they come into force, and when an instance that is ordered would start at them.
    pub fn set_price_timers(&mut self, state: &State, id: &PoolId) {
        let (first, last) = (Timer::Price(id.clone(), TimeUs(i64::MIN)), Timer::Price(id.clone(), TimeUs(i64::MAX)));
        let before: Vec<Timer> = self.timers.at.range(first..=last).map(|(timer, _)| timer.clone()).collect();
        before.iter().for_each(|timer| self.clear_timer(timer));
        let Some(pool) = state.pools.get(id) else { return };
        let delay_us = pool.declared.as_ref().map_or(0, |declared| declared.start_delay_us.0);
        let instants =
            pool.prices.iter().flat_map(|price| [price.from_us, TimeUs(price.from_us.0.saturating_sub(delay_us))]);
        for at in instants.filter(|at| *at > state.now()) {
            self.set_timer(at, Timer::Price(id.clone(), at));
        }
    }

    /// Whether amounts in a currency count in the cell's: by the rate in force, or as there is no other yet.
    pub fn converts(&self, state: &State, from: Currency) -> bool {
        let to = state.meta().currency.unwrap_or(from);
        self.exchange.rate(from, to, state.now()).is_some()
    }

    /// Sets the timer of a zone, of whose prices some do not convert, to when they change. Whether it waited for that before.
    pub fn set_energy_timer(&mut self, state: &State, zone: &ZoneId) -> bool {
        let timer = Timer::Energy(zone.clone());
        let has_waited = self.timers.at.contains_key(&timer);
        match next_change_of_unconverted(state, zone, |currency| self.converts(state, currency)) {
            Some(change) => self.set_timer(change, timer),
            None => self.clear_timer(&timer),
        }
        has_waited
    }

    /// The same of all zones, after what converts has changed.
    pub fn set_energy_timers(&mut self, state: &State) {
        for zone in priced_zones(state) {
            self.set_energy_timer(state, &zone);
        }
    }

    pub(super) fn set_all_timers(&mut self, state: &State) {
        let now = state.now();
        for (id, job) in state.jobs.iter().filter(|(_, job)| !job.is_over() && job.not_before_us > now) {
            self.set_timer(job.not_before_us, Timer::Job(id.clone()));
        }
        // Who is told to end when its time has come forgets nothing any more.
        let avoids = |job: &Job| !job.past().avoided.is_empty() && job.past().avoided_until_us > now;
        for (id, job) in state.jobs.iter().filter(|(_, job)| avoids(job)) {
            self.set_timer(job.past().avoided_until_us, Timer::Avoided(id.clone()));
        }
        for (id, run) in state.runs.iter() {
            self.set_timer(run.lease_until_us, Timer::Run(id.clone()));
            if let Some(by) = run.drain_by_us {
                self.set_timer(by, Timer::Drain(id.clone()));
            }
        }
        for (id, node) in state.nodes.iter() {
            if let Some(until) = node.attested_until_us.filter(|until| *until > now) {
                self.set_timer(until, Timer::Attestation(id.clone()));
            }
            if let Some(at) = crate::lease::look_at(state, id) {
                self.set_timer(at.max(TimeUs(now.0 + 1)), Timer::Instance(id.clone()));
            }
        }
        for (id, pool) in state.pools.iter() {
            if pool.refused_until_us > now {
                self.set_timer(pool.refused_until_us, Timer::Pool(id.clone()));
            }
            self.set_price_timers(state, id);
        }
        for (_, set) in state.power_limits.iter() {
            self.set_limit_timer(set, now);
        }
        for ((scope, from), set) in state.weights.iter() {
            for at in [Some(*from), set.to_us].into_iter().flatten().filter(|at| *at > now) {
                self.set_timer(at, Timer::Weights(scope.clone(), at));
            }
        }
        for ((from, to, at), _) in state.exchange.iter().filter(|((.., at), _)| *at > now) {
            self.set_timer(*at, Timer::Exchange(*from, *to, *at));
        }
        self.set_energy_timers(state);
        for (id, _) in state.budgets.iter() {
            self.set_budget_timer(state, id);
        }
    }

    /// Notes what is due at the epoch's time.
    pub fn due(&mut self, state: &State) {
        let now = state.now();
        while let Some(timer) = self.timers.pop_due(now) {
            self.changed = true;
            match timer {
                Timer::Job(job) | Timer::Avoided(job) => {
                    self.suspect_jobs.insert(job);
                }
                Timer::Run(run) => {
                    self.suspect_runs.insert(run);
                }
                Timer::Drain(run) => {
                    self.leaving.insert(run);
                }
                Timer::Instance(node) => {
                    self.idle_instances.insert(node);
                }
                Timer::Attestation(node) => {
                    self.suspects.insert(node);
                }
                Timer::PowerLimit(id) => {
                    if let Some(set) = state.power_limits.get(&id) {
                        self.set_limit_timer(set, now);
                        self.refresh_limits(state, &set.site);
                    }
                }
                Timer::Budget(id) => {
                    self.set_budget_timer(state, &id);
                    self.budgets_touched.insert(id);
                }
                Timer::SetAside => self.rebuild_set_aside(state),
                Timer::Energy(zone) => {
                    self.set_energy_timer(state, &zone);
                }
                Timer::Exchange(..) => self.set_energy_timers(state),
                Timer::Pool(_) | Timer::Weights(..) | Timer::Price(..) => {}
            }
        }
    }

    /// Takes in the power limits of a site that are in force now; whether they hold is looked at in this epoch.
    pub fn refresh_limits(&mut self, state: &State, site: &SiteId) {
        if let Some(power) = self.power.get_mut(site) {
            power.refresh_limits(state, site);
        }
        self.suspect_sites.insert(site.clone());
    }

    /// The next instant at which something happens by itself.
    pub fn next_timer(&self) -> Option<TimeUs> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next instant for which somebody waits.
    pub fn next_counting_timer(&self) -> Option<TimeUs> {
        self.timers.counting.first().map(|(at, _)| *at).into_iter().chain(self.next_contract()).min()
    }

    /// The next tick, while something waits.
    pub fn next_tick(&self, state: &State) -> Option<TimeUs> {
        let tick = state.tick()?;
        let next = state.meta().last_tick_us.after(tick).max(TimeUs(state.now().0 + 1));
        (!self.queue.is_empty()).then_some(next)
    }
}
