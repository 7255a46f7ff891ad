//! What the planner publishes.

use solyx_schemas::events::plans::{PlanKind, PlanPublished};
use solyx_schemas::ids::Name;

use crate::epoch::Rejection;
use crate::index::Index;
use crate::packing::PRICES_SOLVER;
use crate::state::State;

pub fn plan_published(state: &mut State, index: &mut Index, e: &PlanPublished) -> Result<(), Rejection> {
    let key = Name::from(e.kind.as_str());
    if e.kind != PlanKind::PackingPrices {
        state.plans.insert(key, e.clone());
        return Ok(());
    }
    // Anybody can make packing prices again from the state at their frontier: nothing else is leaned on.
    let (frontier, epoch) = (e.frontier_epoch.0, state.meta().next_epoch);
    let refuse = |what: String| Err(Rejection::rejected(what));
    if frontier >= epoch {
        return refuse(format!("field frontier_epoch: found {frontier}, expected one before {epoch}"));
    }
    if let Some(last) = state.plans.get(&key).map(|plan| plan.frontier_epoch.0)
        && frontier <= last
    {
        return refuse(format!(
            "field frontier_epoch: found {frontier}, expected one after {last}, that of the plan in force"
        ));
    }
    if e.solver != PRICES_SOLVER {
        return refuse(format!("field solver: found {:?}, expected {PRICES_SOLVER:?}", e.solver));
    }
    let counted = state.requests.get(&0).map_or(0, |all| all.requests);
    match e.requests {
        Some(requests) if (0..=counted).contains(&requests.0) => {}
        requests => {
            let found = requests.map_or("null".to_owned(), |requests| requests.0.to_string());
            return refuse(format!("field requests: found {found}, expected at most the {counted} that were counted"));
        }
    }
    state.plans.insert(key, e.clone());
    index.set_kinds(state);
    Ok(())
}
