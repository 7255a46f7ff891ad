//! What goes wrong in the world of a history: it is drawn there, and known here by what is said of it.

use std::collections::BTreeSet;

use solyx_histories::history::{USUAL_CARBON_MG_PER_KWH, USUAL_PRICE_MICROS_PER_MWH, nodes_by_site};
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::ProviderState;
use solyx_schemas::events::facility::ElementState;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::NodeId;

use crate::faults::Fault;

/// What has gone wrong by each of the events that are said together.
pub fn in_events(events: &[Event]) -> Vec<Option<Fault>> {
    let lost: BTreeSet<&NodeId> = events.iter().filter_map(lost_node).collect();
    let sites = nodes_by_site().into_iter().filter(|nodes| nodes.iter().all(|node| lost.contains(node)));
    let with_its_site: BTreeSet<NodeId> = sites.flatten().collect();
    events.iter().map(|event| in_event(event, &with_its_site)).collect()
}

fn in_event(event: &Event, lost_with_its_site: &BTreeSet<NodeId>) -> Option<Fault> {
    if let Some(node) = lost_node(event) {
        return Some(if lost_with_its_site.contains(node) { Fault::SiteLost } else { Fault::NodeLost });
    }
    match event {
        Event::ProviderStateChanged(e) if e.state != ProviderState::Up => Some(Fault::ProviderDown),
        Event::PowerElementStateChanged(e) if e.state == ElementState::Failed => Some(Fault::FeedLost),
        Event::EnergyPriced(e) if !USUAL_PRICE_MICROS_PER_MWH.contains(&e.price_micros_per_mwh.0) => {
            Some(Fault::WrongPrice)
        }
        Event::CarbonReported(e) if !USUAL_CARBON_MG_PER_KWH.contains(&e.mg_per_kwh.0) => Some(Fault::WrongPrice),
        _ => None,
    }
}

/// The node that an event says is lost. One that is drained leaves in good order.
fn lost_node(event: &Event) -> Option<&NodeId> {
    match event {
        Event::NodeRemoved(e) => Some(&e.node),
        Event::NodeStateChanged(e) if matches!(e.state, NodeState::Down | NodeState::Fenced) => Some(&e.node),
        _ => None,
    }
}
