//! Revenue, cost and margin by job, tenant and provider, and the whole view.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::rating::{Fraction, Month};
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::{JobId, TenantId};
use solyx_schemas::units::rfc3339;

use super::Billing;
use super::costs::Costs;
use super::invoice::{Amounts, fraction_view};
use super::rows::*;
use super::view::*;

/// Revenue in micros of the reference currency.
#[derive(Default)]
struct Revenue {
    total: i64,
    jobs: BTreeMap<String, i64>,
    tenants: BTreeMap<String, i64>,
    providers: BTreeMap<String, i64>,
}

/// Sold leases are earned with the whole fleet.
const ANY_PROVIDER: &str = "sold-leases";

fn margin(subject: impl ToString, revenue_micros: i64, cost_micros: i64) -> MarginView {
    MarginView {
        subject: subject.to_string(),
        revenue_micros,
        cost_micros,
        margin_micros: revenue_micros - cost_micros,
    }
}

/// A margin for each subject that has revenue or cost.
fn margins(revenue: &BTreeMap<String, i64>, cost: &BTreeMap<String, i64>) -> Vec<MarginView> {
    let mut subjects: Vec<&String> = revenue.keys().chain(cost.keys()).collect();
    subjects.sort();
    subjects.dedup();
    let of = |side: &BTreeMap<String, i64>, subject| side.get(subject).copied().unwrap_or(0);
    subjects.into_iter().map(|subject| margin(subject, of(revenue, subject), of(cost, subject))).collect()
}

impl Billing {
    /// The whole view.
    pub fn view(&self) -> BillingView {
        let meta = self.meta();
        let costs = self.costs();
        let amounts = self.amounts();
        let invoices: Vec<InvoiceView> =
            amounts.iter().map(|((tenant, month), amounts)| self.invoice_of(tenant, *month, amounts)).collect();
        let mut problems = self.problems(&amounts, &invoices);
        problems.extend(costs.failed.iter().map(|(subject, detail)| problem(subject, detail)));
        let revenue = self.revenue(&amounts, &mut problems);
        let total_cost = costs.suppliers.values().map(|supplier| supplier.total_micros).sum();
        let gpu_time = self.gpu_time().unwrap_or_else(|error| {
            problems.push(problem("gpu time", error));
            GpuTimeView::unknown()
        });
        BillingView {
            epochs: meta.next_epoch,
            as_of: rfc3339(meta.now_us),
            reference_currency: self.reference().to_string(),
            totals: margin("total", revenue.total, total_cost),
            invoices,
            unpriced: self.unpriced(),
            tenants: margins(&revenue.tenants, &self.tenant_costs(&costs)),
            providers: margins(
                &revenue.providers,
                &costs.suppliers.iter().map(|(id, view)| (id.to_string(), view.total_micros)).collect(),
            ),
            jobs: margins(&revenue.jobs, &costs.jobs.iter().map(|(job, cost)| (job.to_string(), *cost)).collect()),
            suppliers: costs.suppliers.into_values().collect(),
            gpu_time,
            hours: self.supply_hours(),
            problems,
        }
    }

    /// One tenant's invoice for a month, if there is anything on it.
    pub fn invoice(&self, tenant: &TenantId, month: Month) -> Option<InvoiceView> {
        let amounts = self.amounts();
        let own = amounts.get(&(tenant, month))?;
        Some(self.invoice_of(tenant, month, own))
    }

    fn problems(&self, amounts: &Amounts<'_>, invoices: &[InvoiceView]) -> Vec<ProblemView> {
        let mut problems: Vec<ProblemView> =
            self.tables.problems.iter().map(|(_, row)| problem(&row.subject, &row.detail)).collect();
        for ((tenant, month), amounts) in amounts {
            for amount in amounts {
                if let Err(error) = amount.rounded() {
                    problems.push(problem(format!("invoice {tenant} {month}"), error));
                }
            }
        }
        for invoice in invoices.iter().filter(|invoice| invoice.total_micros.is_none()) {
            let detail = format!("a line has no amount in {}: an exchange rate is missing", invoice.currency);
            problems.push(problem(format!("invoice {} {}", invoice.tenant, invoice.period), detail));
        }
        problems
    }

    fn revenue(&self, amounts: &Amounts<'_>, problems: &mut Vec<ProblemView>) -> Revenue {
        let mut revenue = Revenue::default();
        for ((tenant, month), amounts) in amounts {
            for amount in amounts {
                let Ok(rounded) = amount.rounded() else { continue };
                let micros = match self.in_reference(rounded, amount.currency, month.end()) {
                    Ok(micros) => micros,
                    Err(error) => {
                        problems.push(problem(format!("revenue of {tenant} in {month}"), error));
                        continue;
                    }
                };
                revenue.total += micros;
                *revenue.tenants.entry(tenant.to_string()).or_default() += micros;
                let provider = match amount.earned {
                    Some(key) => {
                        *revenue.jobs.entry(key.job.to_string()).or_default() += micros;
                        self.provider_of(&key.pool).to_string()
                    }
                    None => ANY_PROVIDER.to_owned(),
                };
                *revenue.providers.entry(provider).or_default() += micros;
            }
        }
        revenue
    }

    fn tenant_costs(&self, costs: &Costs) -> BTreeMap<String, i64> {
        let mut tenants = BTreeMap::new();
        for (job, cost) in &costs.jobs {
            if let Some(row) = self.tables.jobs.get(job) {
                *tenants.entry(row.tenant.to_string()).or_default() += cost;
            }
        }
        tenants
    }

    fn unpriced(&self) -> Vec<UnpricedView> {
        let mut sums: BTreeMap<(&TenantId, Month, Meter), (BTreeSet<&JobId>, ExactSum)> = BTreeMap::new();
        for (key, row) in self.tables.lines.iter().filter(|(key, _)| key.price == LinePrice::Nothing) {
            let (jobs, sum) = sums.entry((&key.tenant, key.month, key.meter)).or_default();
            jobs.insert(&key.job);
            for (numerator, denominator) in row.quantity.parts() {
                // A sum that leaves 128 bits is left out; the quantities stay on their lines.
                let _ = sum.add(Fraction::new(numerator, denominator));
            }
        }
        sums.into_iter()
            .filter_map(|((tenant, month, meter), (jobs, sum))| {
                Some(UnpricedView {
                    tenant: tenant.to_string(),
                    period: month.to_string(),
                    meter: meter.to_string(),
                    jobs: jobs.len(),
                    quantity: fraction_view(sum.total().ok()?),
                })
            })
            .collect()
    }
}

fn problem(subject: impl ToString, detail: impl ToString) -> ProblemView {
    ProblemView { subject: subject.to_string(), detail: detail.to_string() }
}
