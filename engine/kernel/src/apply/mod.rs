//! Folding: each event into the state, and a note of what it may have changed for `decide`.

use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::topics::Topic;

use crate::epoch::Rejection;
use crate::index::Index;
use crate::state::State;

mod capacity;
mod facility;
mod jobs;
mod leases;
mod nodes;
mod plans;
mod policy;
mod runs;
mod usage;

pub use runs::{close_job, end_run, expected_work_done, held_gpu_milli_s, record_failure};

/// Folds an event, or says what in the state contradicts it.
pub fn apply(state: &mut State, index: &mut Index, position: Position, event: &Event) -> Result<(), Rejection> {
    // An amendment or a meter finds budgets of its own epoch with what they have to hold. Whoever makes the epoch again without what
    // was rejected counts from the same state: policy is applied before all else.
    if position.topic() != Topic::Policy {
        crate::budget::hold_anew(state, index);
    }
    match event {
        Event::CellDeclared(e) => policy::cell_declared(state, index, e),
        Event::FeatureEnabled(e) => policy::feature_enabled(state, e),
        Event::SchedulingPolicySet(e) => policy::scheduling_policy_set(state, index, e),
        Event::CostWeightsSet(e) => policy::cost_weights_set(state, index, e),
        Event::GpuModelDeclared(e) => policy::gpu_model_declared(state, index, e),
        Event::TenantDeclared(e) => policy::tenant_declared(state, index, e),
        Event::ScopeStateChanged(e) => policy::scope_state_changed(state, index, e),
        Event::QuotaSet(e) => policy::quota_set(state, index, e),
        Event::BudgetSet(e) => policy::budget_set(state, index, e),
        Event::PriorityClassSet(e) => policy::priority_class_set(state, index, e),
        Event::RateCardSet(e) => policy::rate_card_set(state, index, e),
        Event::LeaseSold(e) => policy::lease_sold(state, index, e),
        Event::SoldLeaseEnded(e) => policy::sold_lease_ended(state, index, e),
        Event::ReservationSet(e) => policy::reservation_set(state, index, e),
        Event::ReservationCancelled(e) => policy::reservation_cancelled(state, index, e),
        Event::ReserveSet(e) => policy::reserve_set(state, index, e),
        Event::PowerLimitSet(e) => policy::power_limit_set(state, index, e),
        Event::ExchangeRateSet(e) => policy::exchange_rate_set(state, index, e),
        Event::TenantKeyDestroyed(e) => policy::tenant_key_destroyed(state, e),
        Event::SiteDeclared(e) => facility::site_declared(state, index, e),
        Event::PowerElementDeclared(e) => facility::power_element_declared(state, index, e),
        Event::PowerElementStateChanged(e) => facility::power_element_state_changed(state, index, e),
        Event::PoolDeclared(e) => capacity::pool_declared(state, index, e),
        Event::PoolPriced(e) => capacity::pool_priced(state, index, e),
        Event::PoolAvailabilityReported(e) => capacity::availability_reported(state, index, e),
        Event::PoolWithdrawn(e) => capacity::pool_withdrawn(state, index, e),
        Event::ProviderStateChanged(e) => capacity::provider_state_changed(state, index, e),
        Event::NodeReported(e) => nodes::node_reported(state, index, e),
        Event::NodeStateChanged(e) => nodes::node_state_changed(state, index, e),
        Event::NodeRemoved(e) => nodes::node_removed(state, index, e),
        Event::GpuDegraded(e) => nodes::gpu_degraded(state, index, e),
        Event::NodeAttested(e) => nodes::node_attested(state, index, e),
        Event::LinkMeasured(e) => {
            state.links.insert((e.from_region.clone(), e.to_region.clone()), (**e).clone());
            Ok(())
        }
        Event::EgressPriced(e) => {
            let before = state.egress.get(&(e.from_region.clone(), e.to_region.clone()));
            // Whoever was kept out by that has a cost now, it may be.
            index.changed |= before.is_some_and(|before| !index.converts(state, before.currency));
            state.egress.insert((e.from_region.clone(), e.to_region.clone()), (**e).clone());
            Ok(())
        }
        Event::EnergyPriced(e) => {
            crate::energy::insert_price(state, e)?;
            index.changed |= index.set_energy_timer(state, &e.zone);
            Ok(())
        }
        Event::CarbonReported(e) => crate::energy::insert_carbon(state, e),
        Event::DatasetDeclared(e) => {
            state.datasets.insert(e.dataset.clone(), (**e).clone());
            index.redeclared = true;
            Ok(())
        }
        Event::ReplicaReported(e) => {
            state.replicas.insert((e.dataset.clone(), e.site.clone()), (**e).clone());
            index.changed = true;
            Ok(())
        }
        Event::InstanceLeased(e) => leases::instance_leased(state, index, e),
        Event::InstanceLeaseRefused(e) => leases::instance_lease_refused(state, index, e),
        Event::InstanceLeaseEnded(e) => leases::instance_lease_ended(state, index, e),
        Event::PlanPublished(e) => plans::plan_published(state, index, e),
        Event::JobRequested(e) => jobs::job_requested(state, index, position, e),
        Event::JobRequestAmended(e) => jobs::job_request_amended(state, index, e),
        Event::JobHoldSet(e) => jobs::job_hold_set(state, index, e),
        Event::JobCancelRequested(e) => jobs::job_cancel_requested(state, index, e),
        Event::RunStarted(e) => runs::run_started(state, e),
        Event::RunCheckpointed(e) => runs::run_checkpointed(state, index, e),
        Event::RunFinished(e) => runs::run_finished(state, index, e),
        Event::RunFailed(e) => runs::run_failed(state, index, e),
        Event::RunStopped(e) => runs::run_stopped(state, index, e),
        Event::RunLeaseRenewed(e) => runs::run_lease_renewed(state, index, e),
        Event::UsageMetered(e) => usage::usage_metered(state, index, e),
        // What only projections fold, and what belongs to other readers.
        _ => Ok(()),
    }
}
