//! Usage as it comes: split at months and rates, put on lines, corrected, and months closed.

use std::collections::BTreeMap;

use solyx_kernel::rating::{Fraction, Month, RatingError};
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::usage::{Meter, UsageCorrected, UsageMetered};
use solyx_schemas::ids::{GpuModelId, NodeId, PoolId, RefId, RunId, TenantId};
use solyx_schemas::units::{Currency, TimeUs};

use super::Billing;
use super::rows::*;

/// The pool of usage whose run was never placed.
pub(super) const NO_POOL: &str = "none";

/// What is rated: a metered interval, or a difference to one.
struct Rated<'a> {
    run: &'a RunId,
    meter: Meter,
    quantity: i64,
    from: TimeUs,
    to: TimeUs,
}

impl Billing {
    pub(super) fn job_requested(&mut self, e: &JobRequested) {
        let row = JobRow {
            tenant: e.tenant.clone(),
            project: e.project.clone(),
            class: e.class.clone(),
            sold_lease: e.sold_lease.clone().filter(|_| e.reservation.is_none()),
        };
        self.tables.jobs.insert(e.job.clone(), row);
    }

    pub(super) fn usage_metered(&mut self, at: EventAt, e: &UsageMetered) {
        let job = self.tables.jobs.get(&e.job);
        let row = UsageRow {
            job: e.job.clone(),
            run: e.run.clone(),
            meter: e.meter,
            from_us: e.from_us,
            to_us: e.to_us,
            class: job.map(|job| job.class.clone()),
            covered_by: job.filter(|_| e.meter == Meter::GpuTime).and_then(|job| self.lease_of(job, e.from_us)),
        };
        if e.meter == Meter::GpuTime {
            self.gpu_time_covered(&e.run, e.node.as_ref(), e.from_us, e.to_us);
        }
        let quantity = e.quantity.0;
        self.take(at, &row, quantity);
        self.tables.usage.insert(UsageKey::of(&e.source, &e.event_id), row);
    }

    pub(super) fn usage_corrected(&mut self, at: EventAt, e: &UsageCorrected) {
        let key = UsageKey::of(&e.corrects_source, &e.corrects_event);
        match self.tables.usage.get(&key).cloned() {
            Some(row) => self.take(at, &row, e.difference),
            None => {
                let detail = format!(
                    "it corrects {} of {}, which is no usage that was counted; nothing is changed by it",
                    e.corrects_event, e.corrects_source
                );
                self.problem(at, e.job.to_string(), detail);
            }
        }
    }

    /// Rates a quantity of the usage in `row`, which a correction may take away.
    fn take(&mut self, at: EventAt, row: &UsageRow, quantity: i64) {
        let UsageRow { job, run, meter, from_us, to_us, .. } = row;
        if *meter == Meter::GpuTime
            && let Some(run) = self.tables.runs.get_mut(run)
        {
            run.metered += i128::from(quantity);
        }
        let rated = Rated { run, meter: *meter, quantity, from: *from_us, to: *to_us };
        let taken = self.put_on_lines(at, row, &rated).and_then(|()| {
            if *meter == Meter::Energy { self.energy_used(job, run, quantity, *from_us, *to_us) } else { Ok(()) }
        });
        if let Err(error) = taken {
            self.problem(at, job.to_string(), error.to_string());
        }
    }

    fn put_on_lines(&mut self, at: EventAt, row: &UsageRow, rated: &Rated<'_>) -> Result<(), RatingError> {
        let job_id = &row.job;
        let Some((job, class)) = self.tables.jobs.get(job_id).cloned().zip(row.class.as_ref()) else {
            self.problem(at, job_id.to_string(), "its job was never requested; its usage is on no line".to_owned());
            return Ok(());
        };
        let (pool, model) = self.place_of(rated.run);
        let Rated { meter, from, to, .. } = *rated;
        let quantity = i128::from(rated.quantity);
        let parts = self.cards.rate(&job.tenant, meter, model.as_ref(), Some(class), from, to, quantity)?;
        // The kernel's parts borrow the cards, which stay as they are while lines change.
        let parts: Vec<(Month, Fraction, LinePrice)> = parts
            .into_iter()
            .map(|part| {
                let price = match (&row.covered_by, part.price) {
                    (Some(lease), _) => LinePrice::Lease(lease.clone()),
                    (_, Some(p)) => {
                        LinePrice::Card { card: p.card.clone(), version: p.version, line: p.line_index as u32 }
                    }
                    (_, None) => LinePrice::Nothing,
                };
                (part.month, part.part.quantity, price)
            })
            .collect();
        for (usage_month, quantity, price) in parts {
            if meter == Meter::GpuTime
                && price != LinePrice::Nothing
                && let Some(run) = self.tables.runs.get_mut(rated.run)
            {
                run.billed.add(quantity)?;
            }
            let month = self.first_open(&job.tenant, usage_month);
            let key = LineKey {
                tenant: job.tenant.clone(),
                month,
                usage_month,
                job: job_id.clone(),
                meter,
                pool: pool.clone(),
                price,
            };
            let line = self.tables.lines.entry(&key);
            line.project.clone_from(&job.project);
            line.model.clone_from(&model);
            line.quantity.add(quantity)?;
            line.events.push(at);
        }
        Ok(())
    }

    /// The sold lease that covers what a job uses from an instant on: the one it names, if that is in force then. A meter's record
    /// is covered as a whole; it is of one clock hour at most.
    fn lease_of(&self, job: &JobRow, from: TimeUs) -> Option<RefId> {
        let id = job.sold_lease.as_ref()?;
        let lease = self.tables.sold_leases.get(id)?;
        let until = lease.ended_us.map_or(lease.to_us, |ended| ended.min(lease.to_us));
        (lease.from_us <= from && from < until).then(|| id.clone())
    }

    fn place_of(&self, run: &RunId) -> (PoolId, Option<GpuModelId>) {
        match self.tables.runs.get(run) {
            Some(run) => (run.pool.clone(), Some(run.model.clone())),
            None => (PoolId::from(NO_POOL), None),
        }
    }

    /// The month itself, or the first one after it that is not closed.
    pub(super) fn first_open(&self, tenant: &TenantId, month: Month) -> Month {
        let mut open = month;
        while self.tables.closed.get(&(tenant.clone(), open)).is_some() {
            open = open.next();
        }
        open
    }

    /// Closes a month: from the next epoch on, what belongs to it becomes a correction of the first open one.
    pub(super) fn close(&mut self, tenant: TenantId, month: Month, epoch: i64) {
        let key = (tenant.clone(), month);
        if self.tables.closed.get(&key).is_some() {
            return;
        }
        let currency = self.billing_currency(&tenant);
        let mut currencies: Vec<Currency> = self.tables.cards.iter().map(|(_, card)| card.currency).collect();
        currencies.extend(self.tables.sold_leases.iter().map(|(_, lease)| lease.price.currency));
        let rate = |from: Currency| Some((from, self.exchange.rate(from, currency, month.end())?));
        let rates: BTreeMap<Currency, Fraction> = currencies.into_iter().filter_map(rate).collect();
        let leases = self.leases_due(&tenant, month);
        let lease_corrections = self.lease_corrections_on(&tenant, month);
        self.tables.closed.insert(key, ClosedRow { epoch, currency, rates, leases, lease_corrections });
    }

    pub(super) fn billing_currency(&self, tenant: &TenantId) -> Currency {
        let own = self.tables.tenants.get(tenant).map(|row| row.currency);
        own.or(self.meta().reference).unwrap_or_default()
    }

    fn gpu_time_covered(&mut self, run: &RunId, node: Option<&NodeId>, from: TimeUs, to: TimeUs) {
        let Some(run) = self.tables.runs.get_mut(run) else { return };
        let milli = match node.and_then(|node| run.nodes.get(node)) {
            Some(milli) => *milli,
            None => run.gpu_milli,
        };
        run.covered += i128::from(milli) * i128::from((to.0 - from.0).max(0));
        run.metered_to_us = run.metered_to_us.max(to);
    }
}
