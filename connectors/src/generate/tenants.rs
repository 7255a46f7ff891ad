//! Tenants in a tree, what they may hold and spend, what they have bought, and when their months are closed.

use solyx_schemas::events::policy::*;
use solyx_schemas::events::usage::{SupplierInvoiced, SupplierLine};
use solyx_schemas::units::*;

use super::plan::{NODE_GPUS, Plan};
use super::world::{World, money, say, sum};

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    let at = plan.opening;
    for company in &plan.companies {
        say!(
            world,
            at,
            "tenant",
            company.id,
            TenantDeclared {
                tenant: company.id.into(),
                parent: None,
                weight_milli: Milli(1_000 * plan.luck.between("weight", company.id, 1, 3)),
                billing_currency: money(company.currency),
                invoice_day: Count(1),
                gpu_of_one_tenant: None,
            }
        );
    }
    for (n, team) in plan.teams.iter().enumerate() {
        let company = plan.company_of(team);
        // The last team is declared when its first jobs wait already.
        let said = if n + 1 == plan.teams.len() { TimeUs(plan.start.0 + 6 * HOUR_US) } else { at };
        say!(
            world,
            said,
            "tenant",
            &team.id,
            TenantDeclared {
                tenant: team.id.as_str().into(),
                parent: Some(company.id.into()),
                weight_milli: Milli(500 * plan.luck.between("weight", &team.id, 1, 4)),
                billing_currency: money(company.currency),
                invoice_day: Count(plan.luck.between("invoice-day", &team.id, 1, 10)),
                gpu_of_one_tenant: None,
            }
        );
        quotas(plan, n, world);
        budgets(plan, n, world);
    }
    contracts(plan, world);
    closes(plan, world);
}

fn quotas(plan: &Plan, n: usize, world: &mut World<'_>) {
    let team = &plan.teams[n];
    let fair_milli = plan.gpus() * 1_000 / plan.teams.len() as i64;
    // Every third team may borrow only so much, the others whatever is free.
    let borrowing = (n % 3 == 1).then_some(GpuMilli(fair_milli * 2));
    say!(
        world,
        plan.opening,
        "quota",
        &team.id,
        QuotaSet {
            tenant: team.id.as_str().into(),
            project: None,
            gpu_model: None,
            guaranteed_milli: GpuMilli(fair_milli),
            borrowing_limit_milli: borrowing,
            lending_limit_milli: None,
            over_quota_weight_milli: Some(Milli(1_000)),
        }
    );
    if n == 0 {
        for (model, project) in [(Some("H100"), None), (None, Some("alpha"))] {
            let id = format!("{}/{}", team.id, model.or(project).unwrap_or("-"));
            say!(
                world,
                plan.opening,
                "quota",
                &id,
                QuotaSet {
                    tenant: team.id.as_str().into(),
                    project: project.map(Into::into),
                    gpu_model: model.map(Into::into),
                    guaranteed_milli: GpuMilli(fair_milli / 2),
                    borrowing_limit_milli: Some(GpuMilli(fair_milli)),
                    lending_limit_milli: Some(GpuMilli(fair_milli / 4)),
                    over_quota_weight_milli: None,
                }
            );
        }
    }
}

fn budgets(plan: &Plan, n: usize, world: &mut World<'_>) {
    let team = &plan.teams[n];
    let currency = plan.company_of(team).currency;
    let kind = if n.is_multiple_of(2) { BudgetKind::Soft } else { BudgetKind::Hard };
    // What a fair share of the fleet costs in these days, more or less.
    let fair = plan.gpus() * 24 * i64::from(plan.size.days) * 3 / plan.teams.len() as i64;
    let amount = fair * plan.luck.between("budget", &team.id, 400, 2_000) / 1_000;
    if n % 4 != 3 {
        let id = format!("{}/monthly", team.id);
        say!(
            world,
            plan.opening,
            "budget",
            &id,
            BudgetSet {
                budget: id.as_str().into(),
                tenant: team.id.as_str().into(),
                project: None,
                job: None,
                amount: sum(currency, amount.max(100)),
                period_from_us: None,
                period_to_us: None,
                kind,
            }
        );
        // It is raised half-way.
        let raised = format!("{id}/raised");
        let middle = TimeUs(plan.start.0 + (plan.end.0 - plan.start.0) / 2);
        say!(
            world,
            middle,
            "budget",
            &raised,
            BudgetSet {
                budget: id.as_str().into(),
                tenant: team.id.as_str().into(),
                project: None,
                job: None,
                amount: sum(currency, amount.max(100) * 3 / 2),
                period_from_us: None,
                period_to_us: None,
                kind,
            }
        );
    }
    if n == 1 {
        let id = format!("{}/alpha", team.id);
        say!(
            world,
            plan.opening,
            "budget",
            &id,
            BudgetSet {
                budget: id.as_str().into(),
                tenant: team.id.as_str().into(),
                project: Some("alpha".into()),
                job: None,
                amount: sum(currency, (fair / 4).max(50)),
                period_from_us: Some(plan.opening),
                period_to_us: Some(plan.close),
                kind: BudgetKind::Hard,
            }
        );
    }
}

/// Leases sold, commitments bought and their invoice, reservations, and capacity held back for failover.
fn contracts(plan: &Plan, world: &mut World<'_>) {
    let at = plan.opening;
    for (n, payment) in [PaymentOption::None, PaymentOption::Partial, PaymentOption::AllUpfront].into_iter().enumerate()
    {
        let team = &plan.teams[n % plan.teams.len()];
        let pool = &plan.node_pools[n % plan.node_pools.len()];
        let id = format!("sold-{n}");
        say!(
            world,
            at,
            "sold",
            &id,
            LeaseSold {
                lease: id.as_str().into(),
                tenant: team.id.as_str().into(),
                gpus: Count(NODE_GPUS),
                gpu_model: pool.model.id.into(),
                site: (n == 0).then(|| plan.sites[pool.site].id.as_str().into()),
                from_us: plan.start,
                to_us: plan.end,
                price: sum(plan.company_of(team).currency, 150 * i64::from(plan.size.days) * (n as i64 + 1)),
                payment,
            }
        );
    }
    let ended = TimeUs(plan.start.0 + (plan.end.0 - plan.start.0) * 2 / 3);
    say!(
        world,
        ended,
        "sold-ended",
        "sold-2",
        SoldLeaseEnded {
            lease: "sold-2".into(),
            tenant: plan.teams[2 % plan.teams.len()].id.as_str().into(),
            ended_us: ended,
            reason: "given back by agreement".to_owned(),
        }
    );
    for pool in plan.node_pools.iter().filter(|pool| !pool.owned) {
        let id = format!("commitment/{}", pool.id);
        let provider = plan.sites[pool.site].provider;
        let price = sum("USD", pool.nodes * NODE_GPUS * 24 * 365 * pool.model.cost_milli * 6 / 10_000);
        say!(
            world,
            at,
            "commitment",
            &pool.id,
            CommitmentBought {
                commitment: id.as_str().into(),
                provider: provider.into(),
                pool: pool.id.as_str().into(),
                quantity: Count(pool.nodes * NODE_GPUS),
                from_us: plan.opening,
                to_us: TimeUs(plan.opening.0 + 365 * DAY_US),
                price: price.clone(),
            }
        );
        say!(
            world,
            plan.close,
            "supplier-invoice",
            provider,
            SupplierInvoiced {
                provider: provider.into(),
                invoice: format!("{provider}-2023-10").as_str().into(),
                period: "2023-10".into(),
                lines: vec![SupplierLine {
                    subject: id.as_str().into(),
                    description: "a twelfth of the commitment".to_owned(),
                    amount: sum("USD", price.micros.0 / 12_000_000),
                }],
            }
        );
    }
    for n in 0..2 {
        let team = &plan.teams[plan.teams.len() - 1 - n];
        let id = format!("reservation-{n}");
        let from = TimeUs(plan.start.0 + plan.luck.between("reservation", &id, 2, 20) * HOUR_US);
        say!(
            world,
            at,
            "reservation",
            &id,
            ReservationSet {
                reservation: id.as_str().into(),
                tenant: team.id.as_str().into(),
                gpus: Count(4),
                gpu_model: None,
                pool: None,
                from_us: from,
                to_us: TimeUs(from.0 + 6 * HOUR_US),
            }
        );
        if n == 1 {
            let said = TimeUs(from.0 - HOUR_US);
            say!(
                world,
                said,
                "reservation-cancelled",
                &id,
                ReservationCancelled { reservation: id.as_str().into(), reason: "no longer needed".to_owned() }
            );
        }
    }
    if plan.nodes.len() >= 16 {
        let pool = &plan.node_pools[0];
        let domain = format!("site:{}", plan.sites[plan.node_pools[1].site].id);
        say!(
            world,
            at,
            "reserve",
            &domain,
            ReserveSet {
                domain: domain.as_str().into(),
                gpu_model: pool.model.id.into(),
                held_back_milli: GpuMilli(NODE_GPUS / 2 * 1_000),
            }
        );
    }
    let domain = format!("site:{}", plan.sites[0].id);
    say!(
        world,
        TimeUs(plan.start.0 + 5 * HOUR_US),
        "drill",
        "drill-1",
        DrillRequested {
            drill: "drill-1".into(),
            domain: domain.as_str().into(),
            duration_us: DurationUs(4 * HOUR_US),
        }
    );
}

/// September is closed in the morning of October 2nd, while its last usage may still come.
fn closes(plan: &Plan, world: &mut World<'_>) {
    let closed = TimeUs(plan.start.0 + 4 * DAY_US + 6 * HOUR_US);
    for team in &plan.teams {
        say!(
            world,
            closed,
            "period-closed",
            &format!("{}/2023-09", team.id),
            PeriodClosed { tenant: team.id.as_str().into(), period: "2023-09".into() }
        );
    }
}
