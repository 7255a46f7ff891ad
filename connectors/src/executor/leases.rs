//! Leased instances: ordered, refused, started, reclaimed, given back and charged; and what pools can give.

use solyx_schemas::events::capacity::{CapacityClass, PoolAvailabilityReported};
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::{CapacityLeaseOrdered, CapacityReleaseOrdered};
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::world::{InstanceLeaseEnded, InstanceLeaseRefused, InstanceLeased, LeaseReason};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::charge::{billed, charge};
use super::reports::{event_id, fitting_id};
use super::{SimulatedExecutor, Subject};

/// An instance ordered or leased.
#[derive(Debug)]
pub(super) struct Instance {
    pool: PoolId,
    order: RefId,
    /// The price expected when it was ordered; charged only where the pool has no price of its own.
    price: (RateMicros, Currency),
    /// Since when it is paid for; absent while it is on its way.
    from: Option<TimeUs>,
    /// When it starts, or ends as ordered.
    ordered_at: Option<TimeUs>,
    /// When the provider takes it back.
    reclaim_at: Option<TimeUs>,
}

impl Instance {
    pub(super) fn is_live(&self) -> bool {
        self.from.is_some()
    }
}

impl SimulatedExecutor {
    /// Instances are ordered: as many come as can be had, the rest is refused at once.
    pub(super) fn lease(&mut self, order: &CapacityLeaseOrdered, now: TimeUs) {
        let asked = order.instances.0;
        let leased = self.leased.get(&order.pool).copied().unwrap_or(0);
        let granted = match (self.facts.pools.get(&order.pool), self.total(&order.pool, now)) {
            (None, _) => 0,
            (Some(_), None) => asked,
            (Some(_), Some(total)) => (total - leased).clamp(0, asked),
        };
        let starts_at = now.after(self.facts.pools.get(&order.pool).map_or(DurationUs::ZERO, |pool| pool.start_delay));
        let order_id: RefId = format!("{}/{}/{}/{}", order.cell, order.epoch, order.term, order.index).into();
        for number in 0..granted {
            let text = format!("{}/{}-{}/{number}", order.pool, order.epoch, order.index);
            let id: InstanceId = fitting_id(text).into();
            let instance = Instance {
                pool: order.pool.clone(),
                order: order_id.clone(),
                price: (order.price_micros_per_gpu_hour, order.currency),
                from: None,
                ordered_at: Some(starts_at),
                reclaim_at: None,
            };
            self.instances.insert(id.clone(), instance);
            self.due.insert((starts_at, Subject::Instance(id)));
            self.leasing += 1;
        }
        *self.leased.entry(order.pool.clone()).or_insert(0) += granted;
        if asked > granted {
            self.refuse(&order.pool, &order_id, asked - granted, &order_id, now);
        }
    }

    /// Instances are given back.
    pub(super) fn release(&mut self, order: &CapacityReleaseOrdered, now: TimeUs) {
        let at = order.at_us.max(now);
        for id in &order.instances {
            let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.is_live()) else { continue };
            match instance.ordered_at {
                Some(before) if before <= at => continue,
                Some(before) => {
                    self.due.remove(&(before, Subject::Instance(id.clone())));
                }
                None => self.leasing += 1,
            }
            instance.ordered_at = Some(at);
            self.due.insert((at, Subject::Instance(id.clone())));
        }
    }

    /// What is due of an instance: its start, its reclaim or its end.
    pub(super) fn advance_instance(&mut self, id: &InstanceId, at: TimeUs) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.is_live() {
            let asked = instance.ordered_at.is_some_and(|end| end <= at);
            self.end_lease(id, if asked { LeaseReason::Asked } else { LeaseReason::Reclaimed }, at);
            return;
        }
        let (price, currency) = self.facts.price(&instance.pool, at).unwrap_or(instance.price);
        instance.price = (price, currency);
        instance.from = Some(at);
        instance.ordered_at = None;
        self.leasing -= 1;
        let minimum = self.facts.pools.get(&instance.pool).map(|pool| pool.minimum_billing);
        let leased = InstanceLeased {
            event_id: event_id(format!("{id}/leased")),
            source: self.name.clone(),
            occurred_us: at,
            pool: instance.pool.clone(),
            instance: id.clone(),
            order: instance.order.clone(),
            price_micros_per_gpu_hour: price,
            currency,
            from_us: at,
            to_us: minimum.map(|minimum| at.after(minimum)),
        };
        // Where availability was recorded, reclaims are what it says; elsewhere they are drawn.
        let habits = self.scripts.habits();
        if self.is_spot(&leased.pool)
            && !self.scripts.is_scripted(&leased.pool)
            && let Some(wait) =
                habits.draws.waiting_time("spot-reclaim", id.as_str(), 0, habits.spot_reclaims_per_1000_h)
        {
            let reclaim_at = at.after(wait);
            if let Some(instance) = self.instances.get_mut(id) {
                instance.reclaim_at = Some(reclaim_at);
            }
            self.due.insert((reclaim_at, Subject::Instance(id.clone())));
        }
        self.report(leased.into());
    }

    /// Begins to follow what was recorded of a pool.
    pub(super) fn follow_script(&mut self, pool: &PoolId) {
        if !self.scripts.is_scripted(pool) || !self.followed.insert(pool.clone()) {
            return;
        }
        match self.scripts.available(pool, self.now) {
            Some(_) => self.await_change(pool, Some(self.now)),
            None => self.await_change(pool, self.scripts.next_change(pool, self.now)),
        }
    }

    fn await_change(&mut self, pool: &PoolId, at: Option<TimeUs>) {
        self.changes.remove(pool);
        if let Some(at) = at {
            self.changes.insert(pool.clone(), at);
            self.due.insert((at, Subject::Pool(pool.clone())));
        }
    }

    /// A pool can give more or fewer instances from now on.
    pub(super) fn change_availability(&mut self, pool: &PoolId, at: TimeUs) {
        self.await_change(pool, self.scripts.next_change(pool, at));
        if let Some(total) = self.scripts.available(pool, at).filter(|_| self.is_spot(pool)) {
            self.reclaim_beyond(pool, total, at);
        }
        self.report_availability(pool, format!("{pool}/available/{}", at.0), at);
    }

    /// Says what a pool can give beside what is leased, where anybody knows. Instances on their way are not leased yet.
    fn report_availability(&mut self, pool: &PoolId, id: String, at: TimeUs) {
        let Some(total) = self.total(pool, at) else { return };
        let available = PoolAvailabilityReported {
            event_id: event_id(id),
            source: self.name.clone(),
            occurred_us: at,
            pool: pool.clone(),
            instances: Some(Count((total - self.live_instances(pool)).max(0))),
        };
        self.report(available.into());
    }

    /// Instances of a pool that are leased now.
    pub(super) fn live_instances(&self, pool: &PoolId) -> i64 {
        self.instances.values().filter(|instance| instance.pool == *pool && instance.is_live()).count() as i64
    }

    /// Takes back what is leased beyond `total`; a draw says which go first.
    fn reclaim_beyond(&mut self, pool: &PoolId, total: i64, at: TimeUs) {
        let excess = self.leased.get(pool).copied().unwrap_or(0) - total;
        if excess <= 0 {
            return;
        }
        let draws = self.scripts.habits().draws;
        let of_pool = self.instances.iter().filter(|(_, instance)| instance.pool == *pool);
        let mut victims: Vec<(u64, InstanceId)> =
            of_pool.map(|(id, _)| (draws.uniform("spot-victim", id.as_str(), 0), id.clone())).collect();
        victims.sort();
        for (_, id) in victims.into_iter().take(excess as usize) {
            self.end_lease(&id, LeaseReason::Reclaimed, at);
        }
    }

    /// An instance ends, and what runs on it. One that has not started yet is refused instead.
    fn end_lease(&mut self, id: &InstanceId, reason: LeaseReason, at: TimeUs) {
        let Some(instance) = self.instances.remove(id) else { return };
        for due in [instance.ordered_at, instance.reclaim_at].into_iter().flatten() {
            self.due.remove(&(due, Subject::Instance(id.clone())));
        }
        if instance.ordered_at.is_some() {
            self.leasing -= 1;
        }
        if let Some(leased) = self.leased.get_mut(&instance.pool) {
            *leased -= 1;
        }
        let Some(from) = instance.from else {
            self.refuse(&instance.pool, &instance.order, 1, id.as_str(), at);
            return;
        };
        let pool = self.facts.pools.get(&instance.pool);
        let (minimum, granularity, gpus) =
            pool.map_or((DurationUs::ZERO, DurationUs::ZERO, 0), |p| (p.minimum_billing, p.granularity, p.gpus));
        let paid = billed(at.since(from), minimum, granularity);
        let (price, currency) = instance.price;
        let ended = InstanceLeaseEnded {
            event_id: event_id(format!("{id}/ended")),
            source: self.name.clone(),
            occurred_us: at,
            pool: instance.pool.clone(),
            instance: id.clone(),
            order: Some(instance.order.clone()),
            from_us: from,
            to_us: from.after(paid),
            charged: Sum { currency, micros: charge(price, gpus, paid) },
            reason,
        };
        self.report(ended.into());
        let (category, detail) = match reason {
            LeaseReason::Reclaimed => (FailureCategory::SpotReclaim, "its instance was reclaimed"),
            _ => (FailureCategory::Provider, "its instance was given back"),
        };
        let node: NodeId = id.as_str().into();
        for run in self.runs_on(&node) {
            self.fail_run(&run, category, &node, detail, at);
        }
        // What is given back can be had again, and nobody would know.
        if reason == LeaseReason::Asked {
            self.report_availability(&instance.pool, format!("{id}/freed"), at);
        }
    }

    fn refuse(&mut self, pool: &PoolId, order: &RefId, instances: i64, of: impl std::fmt::Display, at: TimeUs) {
        let refused = InstanceLeaseRefused {
            event_id: event_id(format!("{of}/refused")),
            source: self.name.clone(),
            occurred_us: at,
            pool: pool.clone(),
            order: order.clone(),
            instances: Count(instances),
            reason: LeaseReason::NoCapacity,
        };
        self.report(refused.into());
    }

    /// Instances of a pool that can be had in all; absent when nobody knows.
    fn total(&self, pool: &PoolId, at: TimeUs) -> Option<i64> {
        self.scripts.available(pool, at).or_else(|| self.reported_total.get(pool).copied())
    }

    fn is_spot(&self, pool: &PoolId) -> bool {
        self.facts.pools.get(pool).is_some_and(|facts| facts.class == CapacityClass::Spot)
    }
}
