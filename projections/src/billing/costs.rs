//! What supply cost, by provider and by the jobs that used it, in the cell's reference currency.
//!
//! A leased instance costs what the provider really charged, or what has accrued while it runs. It is shared out by GPU share
//! × time over what the instance could have given; the rest is idle. An asset's loss of value since the log began is shared
//! out the same way over its node. Energy is a job's as it was metered; what nodes draw beyond that is idle. Each cost is rounded once and shared out so that the shares and the idle rest add up to it.

use std::collections::BTreeMap;

use solyx_kernel::rating::{Fraction, Month, RatingError};
use solyx_schemas::events::common::Sum;
use solyx_schemas::ids::{InstanceId, JobId, NodeId, PoolId, ProviderId, RefId, RunId};
use solyx_schemas::units::{Currency, HOUR_US, TimeUs};

use super::Billing;
use super::depreciation::loss;
use super::energy::rounded;
use super::rows::*;
use super::view::{ReconciliationView, SupplierView};

/// Costs in micros of the reference currency.
#[derive(Default)]
pub(super) struct Costs {
    pub suppliers: BTreeMap<ProviderId, SupplierView>,
    pub jobs: BTreeMap<JobId, i64>,
    /// What could not be told in the reference currency, and why.
    pub failed: Vec<(String, String)>,
}

/// A provider for hardware that stands in no pool.
const NO_PROVIDER: &str = "owned";

fn micros(value: i128) -> Result<i64, RatingError> {
    value.try_into().map_err(|_| RatingError::Overflow { what: "a cost" })
}

impl Billing {
    pub(super) fn costs(&self) -> Costs {
        let mut costs = Costs::default();
        for ((instance, from), lease) in self.tables.leases.iter() {
            let booked = self.lease_cost(&mut costs, instance, *from, lease);
            costs.note(instance.as_str(), booked);
        }
        for (id, commitment) in self.tables.commitments.iter() {
            let booked = self.commitment_cost(&mut costs, commitment);
            costs.note(id.as_str(), booked);
        }
        for (serial, asset) in self.tables.assets.iter() {
            let booked = self.asset_cost(&mut costs, asset);
            costs.note(serial.as_str(), booked);
        }
        for ((job, pool, month, currency), sum) in self.tables.energy_costs.iter() {
            let booked = self.energy_cost(&mut costs, job, pool, *month, currency, sum);
            costs.note(job.as_str(), booked);
        }
        for ((pool, month, currency), sum) in self.tables.energy_measured.iter() {
            let booked = self.idle_energy_cost(&mut costs, pool, *month, currency, sum);
            costs.note(pool.as_str(), booked);
        }
        for ((pool, _), sum) in self.tables.energy_unpriced.iter() {
            let joules = rounded(sum).unwrap_or_default() as i64;
            costs.supplier(&self.provider_of(pool)).energy_unpriced_j += joules;
        }
        for ((provider, invoice), row) in self.tables.supplier_invoices.iter() {
            let differences = self.differences(invoice, row);
            costs.supplier(provider).differences.extend(differences);
        }
        for supplier in costs.suppliers.values_mut() {
            supplier.total_micros = supplier.leases_micros
                + supplier.commitments_micros
                + supplier.depreciation_micros
                + supplier.energy_micros;
        }
        costs
    }

    pub(super) fn provider_of(&self, pool: &PoolId) -> ProviderId {
        self.tables.pools.get(pool).map_or_else(|| NO_PROVIDER.into(), |pool| pool.provider.clone())
    }

    fn lease_cost(
        &self,
        costs: &mut Costs,
        instance: &InstanceId,
        from: TimeUs,
        lease: &LeaseRow,
    ) -> Result<(), RatingError> {
        let now = self.meta().now_us;
        let (to, charged, currency) = match &lease.ended {
            Some((to, charged)) => (*to, i128::from(charged.micros.0), charged.currency),
            None => (now, accrued(lease, from, now)?.round_half_even(), lease.currency),
        };
        let cost = self.in_reference(micros(charged)?, currency, to)?;
        let capacity = i128::from(lease.gpus) * 1_000 * i128::from((to.0 - from.0).max(0));
        let shared = self.share_out(costs, instance.as_str(), from, to, |part| match capacity {
            0 => Ok(0),
            _ => Ok(Fraction::whole(cost.into()).scaled(part, capacity, "a share of a lease")?.round_half_even()),
        })?;
        let supplier = costs.supplier(&lease.provider);
        supplier.leases_micros += cost;
        supplier.idle_micros += cost - shared;
        Ok(())
    }

    /// Books on the jobs that held the node within [from, to) what `share` says of their thousandths × µs. Returns the sum.
    fn share_out(
        &self,
        costs: &mut Costs,
        node: &str,
        from: TimeUs,
        to: TimeUs,
        share: impl Fn(i128) -> Result<i128, RatingError>,
    ) -> Result<i64, RatingError> {
        let node = NodeId::from(node);
        let mut sum = 0;
        let uses = self.tables.node_uses.from(&(node.clone(), RunId::default()));
        for (_, held) in uses.take_while(|((on, _), _)| *on == node) {
            let start = held.from_us.max(from);
            let end = held.to_us.unwrap_or(to).min(to);
            let part = i128::from(held.gpu_milli) * i128::from((end.0 - start.0).max(0));
            if part > 0 {
                let micros = micros(share(part)?)?;
                *costs.jobs.entry(held.job.clone()).or_default() += micros;
                sum += micros;
            }
        }
        Ok(sum)
    }

    /// The part of a commitment's term that has passed. What it pays for is not leased again at a price, so jobs on it carry
    /// none of it: it is idle cost until it is shared out by use.
    fn commitment_cost(&self, costs: &mut Costs, row: &CommitmentRow) -> Result<(), RatingError> {
        let now = self.meta().now_us;
        let term = (row.to_us.0 - row.from_us.0).max(1);
        let passed = (now.0 - row.from_us.0).clamp(0, term);
        let price = Fraction::whole(row.price.micros.0.into());
        let used = price.scaled(passed.into(), term.into(), "the used part of a commitment")?.round_half_even();
        let cost = self.in_reference(micros(used)?, row.price.currency, now.min(row.to_us))?;
        let supplier = costs.supplier(&row.provider);
        supplier.commitments_micros += cost;
        supplier.idle_micros += cost;
        Ok(())
    }

    /// What an asset has lost, by the nodes that it was in: whoever used one then carries its part of what was lost there then.
    fn asset_cost(&self, costs: &mut Costs, asset: &AssetRow) -> Result<(), RatingError> {
        let began = asset.installed_us.max(self.meta().began_us.unwrap_or_default());
        let life_ends = asset.installed_us.0.saturating_add(asset.life_us.max(0));
        let ends = self.meta().now_us.min(TimeUs(life_ends));
        let ends = asset.retired_us.map_or(ends, |retired| ends.min(retired));
        for (place, (node, since)) in asset.nodes.iter().enumerate() {
            let left = asset.nodes.get(place + 1).map_or(ends, |(_, left)| (*left).min(ends));
            let since = if place == 0 { began } else { (*since).max(began) };
            if since < left {
                self.asset_cost_in(costs, asset, node.as_ref(), (since, left))?;
            }
        }
        Ok(())
    }

    fn asset_cost_in(
        &self,
        costs: &mut Costs,
        asset: &AssetRow,
        node: Option<&NodeId>,
        (since, until): (TimeUs, TimeUs),
    ) -> Result<(), RatingError> {
        let lost = micros(loss(asset, since, until)?)?;
        let cost = self.in_reference(lost, asset.cost.currency, self.meta().now_us)?;
        let node = node.and_then(|node| Some((node, self.tables.nodes.get(node)?)));
        let provider = node.map_or_else(|| NO_PROVIDER.into(), |(_, row)| self.provider_of(&row.pool));
        let shared = match node {
            Some((id, row)) if row.gpu_milli > 0 => {
                let capacity = i128::from(row.gpu_milli) * i128::from(until.0 - since.0);
                self.share_out(costs, id.as_str(), since, until, |part| {
                    let share = Fraction::whole(cost.into()).scaled(part, capacity, "a share of depreciation")?;
                    Ok(share.round_half_even())
                })?
            }
            _ => 0,
        };
        let supplier = costs.supplier(&provider);
        supplier.depreciation_micros += cost;
        supplier.idle_micros += cost - shared;
        Ok(())
    }

    fn energy_cost(
        &self,
        costs: &mut Costs,
        job: &JobId,
        pool: &PoolId,
        month: Month,
        currency: &str,
        sum: &ExactSum,
    ) -> Result<(), RatingError> {
        let currency = Currency::parse(currency).unwrap_or_default();
        let cost = self.in_reference(micros(rounded(sum)?)?, currency, month.end())?;
        costs.supplier(&self.provider_of(pool)).energy_micros += cost;
        *costs.jobs.entry(job.clone()).or_default() += cost;
        Ok(())
    }

    /// What measured nodes of a pool drew beyond what was metered for jobs.
    fn idle_energy_cost(
        &self,
        costs: &mut Costs,
        pool: &PoolId,
        month: Month,
        currency: &str,
        measured: &ExactSum,
    ) -> Result<(), RatingError> {
        let of_jobs =
            self.tables.energy_costs.iter().filter(|((_, p, m, c), _)| p == pool && *m == month && c == currency);
        let metered = of_jobs.map(|(_, sum)| rounded(sum)).sum::<Result<i128, RatingError>>()?;
        let idle = micros((rounded(measured)? - metered).max(0))?;
        let cost = self.in_reference(idle, Currency::parse(currency).unwrap_or_default(), month.end())?;
        let supplier = costs.supplier(&self.provider_of(pool));
        supplier.energy_micros += cost;
        supplier.idle_micros += cost;
        Ok(())
    }

    /// An amount in the reference currency, rounded once. An amount without a rate is an error that says so.
    pub(super) fn in_reference(&self, amount: i64, from: Currency, at: TimeUs) -> Result<i64, RatingError> {
        let converted = self.exchange.convert_half_even(amount, from, self.reference(), at)?;
        converted.ok_or(RatingError::NoExchangeRate)
    }

    /// The cell's currency; before it is declared, that of no country.
    pub(super) fn reference(&self) -> Currency {
        self.meta().reference.unwrap_or_default()
    }

    /// Lines of a supplier's invoice that do not say what the log says was charged in its month.
    fn differences(&self, invoice: &RefId, row: &SupplierRow) -> Vec<ReconciliationView> {
        let month = Month::parse(row.period.as_str());
        let of_line = |(subject, amount): &(RefId, Sum)| {
            let charged = self.charged(subject, amount.currency, month);
            // What is a part is rounded by whoever writes it.
            let rounding = u64::from(charged != self.charged(subject, amount.currency, None));
            if charged.is_some_and(|charged| charged.abs_diff(amount.micros.0) <= rounding) {
                return None;
            }
            Some(ReconciliationView {
                invoice: invoice.to_string(),
                subject: subject.to_string(),
                currency: amount.currency.to_string(),
                invoiced_micros: amount.micros.0,
                charged_micros: charged,
            })
        };
        row.lines.iter().filter_map(of_line).collect()
    }

    /// What an instance or a commitment cost in a month, or in all where none is said; absent for what nobody knows.
    fn charged(&self, subject: &RefId, currency: Currency, month: Option<Month>) -> Option<i64> {
        let now = self.meta().now_us;
        let leases = self.tables.leases.from(&(InstanceId::from(subject.as_str()), TimeUs::ZERO));
        let of_subject = leases.take_while(|((instance, _), _)| instance.as_str() == subject.as_str());
        let of_leases = of_subject.filter_map(|((_, from), lease)| {
            let (to, micros, own) = match &lease.ended {
                Some((to, charged)) => (*to, charged.micros.0, charged.currency),
                None => (now, micros(accrued(lease, *from, now).ok()?.round_half_even()).ok()?, lease.currency),
            };
            (own == currency).then(|| month.map_or(micros, |month| part_of(micros, (*from, to), month)))
        });
        let bought = self.tables.commitments.get(subject).filter(|row| row.price.currency == currency);
        let bought = bought.map(|row| match month {
            Some(month) => monthly(row.price.micros.0, (row.from_us, row.to_us), month),
            None => row.price.micros.0,
        });
        of_leases.chain(bought).reduce(|a, b| a.saturating_add(b))
    }
}

/// The part of an amount that lies in a month, by time.
fn part_of(micros: i64, (from, to): (TimeUs, TimeUs), month: Month) -> i64 {
    let within = to.min(month.end()).0 - from.max(month.start()).0;
    match to.0 - from.0 {
        // What has no length lies where it begins.
        ..=0 => micros * i64::from(Month::of(from) == month),
        whole => Fraction::new(i128::from(micros) * i128::from(within.max(0)), whole.into()).round_half_even() as i64,
    }
}

/// What is due of a term in a month: equal parts for a term of whole months, each in the month in which it begins; by time otherwise.
fn monthly(micros: i64, (from, to): (TimeUs, TimeUs), month: Month) -> i64 {
    let into = |at: TimeUs| at.0 - Month::of(at).start().0;
    if into(from) != into(to) || to <= from {
        return part_of(micros, (from, to), month);
    }
    let months = std::iter::successors(Some(Month::of(from)), |month| Some(month.next()));
    let months: Vec<Month> = months.take_while(|month| *month < Month::of(to)).collect();
    match months.contains(&month) {
        true => Fraction::new(micros.into(), months.len() as i128).round_half_even() as i64,
        false => 0,
    }
}

/// What a running lease costs by now: its time in the provider's steps, at least the shortest billed.
fn accrued(lease: &LeaseRow, from: TimeUs, now: TimeUs) -> Result<Fraction, RatingError> {
    let used = (now.0 - from.0).max(0);
    let step = lease.granularity_us.max(1);
    let billed = (((used + step - 1) / step).saturating_mul(step)).max(lease.minimum_us);
    let gpu_us = i128::from(lease.gpus) * i128::from(billed);
    Fraction::whole(gpu_us).scaled(lease.price.0.into(), HOUR_US.into(), "what a lease has accrued")
}

impl Costs {
    fn supplier(&mut self, provider: &ProviderId) -> &mut SupplierView {
        let view = self.suppliers.entry(provider.clone()).or_default();
        view.provider = provider.to_string();
        view
    }

    fn note(&mut self, subject: &str, booked: Result<(), RatingError>) {
        if let Err(error) = booked {
            self.failed.push((subject.to_owned(), error.to_string()));
        }
    }
}
