//! What goes wrong: nodes that are cordoned, drained, lost and fenced, bad GPUs, power that drops and comes back, sites that
//! are closed for an hour, providers that are down, and pools that are no longer offered.

use solyx_schemas::events::capacity::{PoolWithdrawn, ProviderState, ProviderStateChanged};
use solyx_schemas::events::facility::{ElementState, PowerElementStateChanged};
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::{PowerLimitSet, ScopeKind, ScopeState, ScopeStateChanged};
use solyx_schemas::units::*;

use super::facility::{node_idle_w, node_max_w};
use super::nodes::report;
use super::plan::{NODE_GPUS, Node, Plan};
use super::world::{World, say};

const MINUTE_US: i64 = 60 * SECOND_US;

/// What may happen to a node.
#[derive(Clone, Copy)]
enum Fate {
    Nothing,
    Cordoned,
    Drained,
    /// Down, then certainly off, then back.
    Fenced,
    /// Down and back before anybody fenced it.
    Blinked,
    /// It comes back with two GPUs fewer.
    Shrunk,
    Removed,
}

/// How often, in thousandths of nodes and per week.
const FATES: [(i64, Fate); 7] = [
    (640, Fate::Nothing),
    (90, Fate::Cordoned),
    (90, Fate::Drained),
    (80, Fate::Fenced),
    (40, Fate::Blinked),
    (40, Fate::Shrunk),
    (20, Fate::Removed),
];

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    for node in &plan.nodes {
        for week in 0..i64::from(plan.size.days.div_ceil(7)) {
            fate(plan, node, week, world);
        }
        gpu(plan, node, world);
    }
    power(plan, world);
    scopes(plan, world);
    providers(plan, world);
}

/// An instant between the start and the end of a world, in whole minutes.
fn sometime(plan: &Plan, kind: &str, id: &str) -> TimeUs {
    let minutes = (plan.end.0 - plan.start.0) / MINUTE_US;
    TimeUs(plan.start.0 + plan.luck.below(kind, id, minutes) * MINUTE_US)
}

fn fate(plan: &Plan, node: &Node, week: i64, world: &mut World<'_>) {
    let id = format!("{}/{week}", node.id);
    let days = (i64::from(plan.size.days) - 7 * week).min(7);
    let minutes = days * DAY_US / MINUTE_US;
    let from = TimeUs(plan.start.0 + week * 7 * DAY_US + plan.luck.below("fate-at", &id, minutes) * MINUTE_US);
    let back = TimeUs(from.0 + plan.luck.between("fate-hours", &id, 1, 12) * HOUR_US);
    let mut steps: Vec<(TimeUs, NodeState, &str)> = Vec::new();
    match plan.luck.weighted("fate", &id, &FATES) {
        Fate::Nothing => {}
        Fate::Cordoned => {
            steps = vec![(from, NodeState::Cordoned, "firmware is out of date"), (back, NodeState::Ready, "")]
        }
        Fate::Drained => steps = vec![(from, NodeState::Draining, "a cable is replaced"), (back, NodeState::Ready, "")],
        Fate::Fenced => {
            let fenced = TimeUs(from.0 + 5 * MINUTE_US);
            steps = vec![
                (from, NodeState::Down, "it does not answer"),
                (fenced, NodeState::Fenced, "it was switched off"),
                (back, NodeState::Ready, ""),
            ];
        }
        Fate::Blinked => {
            let again = TimeUs(from.0 + 3 * MINUTE_US);
            steps = vec![(from, NodeState::Down, "it does not answer"), (again, NodeState::Ready, "")];
        }
        Fate::Shrunk => {
            report(plan, node, NODE_GPUS - 2, &format!("/{week}/shrunk"), from, world);
            report(plan, node, NODE_GPUS, &format!("/{week}/whole"), back, world);
        }
        Fate::Removed if week == 0 => {
            say!(
                world,
                from,
                "node-removed",
                &node.id,
                NodeRemoved { node: node.id.as_str().into(), reason: "it was sold".to_owned() }
            );
        }
        Fate::Removed => {}
    }
    for (n, (at, state, reason)) in steps.into_iter().enumerate() {
        let reason = if reason.is_empty() { "it is well again" } else { reason };
        say!(
            world,
            at,
            "node-state",
            &format!("{id}/{n}"),
            NodeStateChanged { node: node.id.as_str().into(), state, reason: reason.to_owned() }
        );
    }
}

/// One node in ten has a GPU that is not what it was, and most of those are well again within the day.
fn gpu(plan: &Plan, node: &Node, world: &mut World<'_>) {
    if !plan.luck.chance("gpu-degraded", &node.id, 100) {
        return;
    }
    let at = sometime(plan, "gpu-degraded-at", &node.id);
    let gpu_index = plan.luck.below("gpu-degraded-index", &node.id, NODE_GPUS);
    let fault = *plan.luck.pick("gpu-fault", &node.id, GpuFault::ALL);
    let action = *plan.luck.pick("gpu-action", &node.id, &[GpuAction::Avoid, GpuAction::Reset, GpuAction::Replace]);
    let mut say_gpu = |what: &str, at: TimeUs, action, detail: &str| {
        say!(
            world,
            at,
            "gpu",
            &format!("{}/{what}", node.id),
            GpuDegraded { node: node.id.as_str().into(), gpu_index, fault, action, detail: detail.to_owned() }
        );
    };
    say_gpu("degraded", at, action, "as the driver says");
    if plan.luck.chance("gpu-restored", &node.id, 700) {
        let well = TimeUs(at.0 + plan.luck.between("gpu-restored-at", &node.id, 1, 20) * HOUR_US);
        say_gpu("restored", well, GpuAction::Restore, "it passed its test");
    }
}

/// A limit on each site of ours for some hours, announced or at once; a row in maintenance; a feed that fails.
fn power(plan: &Plan, world: &mut World<'_>) {
    for pool in plan.node_pools.iter().filter(|pool| pool.owned) {
        let site = plan.sites[pool.site].id.as_str();
        let from = sometime(plan, "limit-at", site);
        let to = TimeUs(from.0 + plan.luck.between("limit-hours", site, 2, 8) * HOUR_US);
        // Idle nodes are always within it.
        let idle = pool.nodes * node_idle_w(pool);
        let limit_w =
            idle + (pool.nodes * node_max_w(pool) - idle) * plan.luck.between("limit", site, 350, 800) / 1_000;
        let announced = plan.luck.chance("limit-announced", site, 500);
        let said = if announced { TimeUs(from.0 - HOUR_US) } else { from };
        say!(
            world,
            said,
            "limit",
            site,
            PowerLimitSet {
                limit: format!("limit/{site}").as_str().into(),
                site: site.into(),
                element: None,
                limit_w: PowerW(limit_w),
                from_us: from,
                to_us: Some(to),
                reason: "the grid asks for less".to_owned(),
            }
        );
        let feed_limit = sometime(plan, "feed-limit-at", site);
        say!(
            world,
            feed_limit,
            "limit",
            &format!("{site}/ups-a"),
            PowerLimitSet {
                limit: format!("limit/{site}/ups-a").as_str().into(),
                site: site.into(),
                element: Some("ups-a".into()),
                limit_w: PowerW(pool.nodes * node_max_w(pool) * 7 / 10),
                from_us: feed_limit,
                to_us: Some(TimeUs(feed_limit.0 + 90 * MINUTE_US)),
                reason: "a battery string is tested".to_owned(),
            }
        );
        for (element, kind, minutes) in
            [("row1-b", ElementState::Maintenance, 120), ("utility-a", ElementState::Failed, 25)]
        {
            let id = format!("{site}/{element}");
            if !plan.luck.chance("element-out", &id, 500) {
                continue;
            }
            let from = sometime(plan, "element-out-at", &id);
            let back = TimeUs(from.0 + minutes * MINUTE_US);
            for (n, at, state) in [(0, from, kind), (1, back, ElementState::InService)] {
                say!(
                    world,
                    at,
                    "element",
                    &format!("{id}/{n}"),
                    PowerElementStateChanged {
                        site: site.into(),
                        element: element.into(),
                        state,
                        reason: if n == 0 { "out".to_owned() } else { "back".to_owned() },
                    }
                );
            }
        }
    }
}

/// Somebody cordons a tenant's queue, a pool and a site, and opens each again.
fn scopes(plan: &Plan, world: &mut World<'_>) {
    let team = &plan.teams[plan.teams.len() - 1].id;
    let pool = &plan.node_pools[plan.node_pools.len() - 1].id;
    let site = &plan.sites[0].id;
    let leased = &plan.leased_pools[0].id;
    for (kind, scope, state, minutes) in [
        (ScopeKind::Tenant, team, ScopeState::Cordoned, 180),
        (ScopeKind::Pool, pool, ScopeState::Drained, 120),
        (ScopeKind::Pool, leased, ScopeState::Cordoned, 300),
        (ScopeKind::Site, site, ScopeState::Cordoned, 60),
    ] {
        let id = format!("{kind}/{scope}");
        let from = sometime(plan, "scope-at", &id);
        let back = TimeUs(from.0 + minutes * MINUTE_US);
        for (n, at, state) in [(0, from, state), (1, back, ScopeState::Open)] {
            say!(
                world,
                at,
                "scope",
                &format!("{id}/{n}"),
                ScopeStateChanged {
                    scope_kind: kind,
                    scope: scope.as_str().into(),
                    state,
                    actor: "operator".into(),
                    reason: "planned work".to_owned(),
                }
            );
        }
    }
}

/// Each provider works badly once and is down once; one pool is withdrawn near the end.
fn providers(plan: &Plan, world: &mut World<'_>) {
    for site in plan.sites.iter().filter(|site| !site.own) {
        for (n, state, minutes) in [(0, ProviderState::Degraded, 90), (2, ProviderState::Down, 150)] {
            let id = format!("{}/{n}", site.provider);
            let from = sometime(plan, "provider-at", &id);
            let back = TimeUs(from.0 + minutes * MINUTE_US);
            for (n, at, state) in [(n, from, state), (n + 1, back, ProviderState::Up)] {
                say!(
                    world,
                    at,
                    "provider",
                    &format!("{}/{n}", site.provider),
                    ProviderStateChanged {
                        provider: site.provider.into(),
                        state,
                        reason: "as its status page says".to_owned(),
                    }
                );
            }
        }
    }
    let pool = &plan.leased_pools[plan.leased_pools.len() - 1].id;
    say!(
        world,
        TimeUs(plan.end.0 - 6 * HOUR_US),
        "withdrawn",
        pool,
        PoolWithdrawn { pool: pool.as_str().into(), reason: "the offer ended".to_owned() }
    );
}
