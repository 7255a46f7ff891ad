//! What provider connectors say of pools.

use solyx_schemas::events::capacity::*;
use solyx_schemas::ids::{NodeId, PoolId};

use crate::epoch::Rejection;
use crate::index::{Index, Timer};
use crate::rows::{PriceFrom, Provider};
use crate::state::State;

type Folded = Result<(), Rejection>;

/// Prices that came into force longer ago than the one in force are forgotten beyond this many.
const PRICES_KEPT_MAX: usize = 64;

pub fn pool_declared(state: &mut State, index: &mut Index, e: &PoolDeclared) -> Folded {
    let pool = state.pools.edit_or_default(&e.pool);
    pool.declared = Some(e.clone());
    pool.withdrawn = false;
    refresh_nodes_of(state, index, &e.pool);
    index.rebuild_set_aside_if_on(state);
    index.set_price_timers(state, &e.pool);
    // What is paid for anyway may have changed with it.
    index.idle_instances.extend(state.nodes.iter().filter(|(_, n)| n.lease.is_some()).map(|(id, _)| id.clone()));
    index.redeclared = true;
    Ok(())
}

pub fn pool_priced(state: &mut State, index: &mut Index, e: &PoolPriced) -> Folded {
    let now = state.now();
    let prices = &mut state.pools.edit_or_default(&e.pool).prices;
    prices.retain(|price| price.from_us != e.effective_from_us);
    prices.push(PriceFrom { from_us: e.effective_from_us, price: e.price_micros_per_gpu_hour, currency: e.currency });
    prices.sort();
    let past = prices.iter().filter(|price| price.from_us <= now).count();
    let forget = past.saturating_sub(PRICES_KEPT_MAX);
    prices.drain(..forget);
    index.set_price_timers(state, &e.pool);
    index.changed = true;
    Ok(())
}

pub fn availability_reported(state: &mut State, index: &mut Index, e: &PoolAvailabilityReported) -> Folded {
    let available = e.instances.map(|instances| instances.0);
    let pool = state.pools.edit_or_default(&e.pool);
    let more = available.unwrap_or(i64::MAX) > pool.available.unwrap_or(i64::MAX);
    pool.available = available;
    if more {
        pool.refused_until_us = solyx_schemas::units::TimeUs(0);
        index.clear_timer(&Timer::Pool(e.pool.clone()));
    }
    index.changed = true;
    Ok(())
}

pub fn pool_withdrawn(state: &mut State, index: &mut Index, e: &PoolWithdrawn) -> Folded {
    state.pools.edit_or_default(&e.pool).withdrawn = true;
    index.changed = true;
    Ok(())
}

pub fn provider_state_changed(state: &mut State, index: &mut Index, e: &ProviderStateChanged) -> Folded {
    state.providers.insert(e.provider.clone(), Provider { state: e.state });
    index.changed = true;
    Ok(())
}

fn refresh_nodes_of(state: &State, index: &mut Index, pool: &PoolId) {
    let nodes: Vec<NodeId> = state
        .nodes
        .iter()
        .filter(|(_, node)| node.report.as_ref().is_some_and(|report| report.pool == *pool))
        .map(|(id, _)| id.clone())
        .collect();
    for node in nodes {
        index.refresh_node(state, &node);
        index.suspect_power_of(&node);
        index.suspects.insert(node);
    }
}
