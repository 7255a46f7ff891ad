//! Whether a gang would take what is set aside for others (`set_aside.rs`), and what it takes of its own contract.

use std::collections::BTreeSet;

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::NodeId;
use solyx_schemas::units::TimeUs;

use crate::index::Index;
use crate::rows::{Run, Spec, limit_of};
use crate::set_aside::{Contract, Draw, Place, Terms, in_force, is_reclaimable, is_standing, places_of};
use crate::state::State;

/// On what terms a gang may be where it is planned.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// What it draws on.
    pub draws: Option<Draw>,
    /// When it has to be over, since what it takes is set aside from then on.
    pub yields_at: Option<TimeUs>,
}

/// The terms of a gang that is not to be stopped once it runs, or may be; `end` is known or absent.
///
/// What draws on a contract is held against the places inside the contract's own. What can be stopped at any time may take
/// anything that is not to be left free. What cannot may only take what nobody is owed, now and until it ends.
pub fn set_aside_offer(
    state: &State,
    index: &Index,
    spec: &Spec,
    pool: &PoolDeclared,
    (nodes, is_divided): (&[NodeGpus], bool),
    gpu_milli: i64,
    end: Option<TimeUs>,
) -> Result<Offer, Limit> {
    let sums = &index.set_aside;
    if !sums.is_on() {
        return Ok(Offer::default());
    }
    // Also what asks for no GPU takes them from others, if it has its nodes to itself.
    let gpu_milli = if is_divided { held_milli(state, index, nodes) } else { gpu_milli };
    let gpu_milli = charge(index, spec, nodes, gpu_milli);
    if gpu_milli == 0 {
        return Ok(Offer::default());
    }
    let draws = in_force(state, spec);
    if !is_standing(pool) {
        return draws.map_or(Ok(Offer::default()), |(contract, _)| Err(short(&contract.subject(), gpu_milli, 0)));
    }
    let places = places_of(pool);
    if let Some((contract, terms)) = draws {
        return draw(state, index, contract, &terms, &places, gpu_milli);
    }
    if let Some(place) = places.iter().find(|place| sums.spare(place) < gpu_milli && sums.is_kept(place)) {
        return Err(short(&place.subject(), gpu_milli, sums.spare(place)));
    }
    if spec.preemptible && state.classes.get(&spec.class).is_none_or(|class| class.preemptible) {
        return Ok(Offer::default());
    }
    let now = state.now();
    let first = places.iter().filter_map(|place| Some((sums.first_short(place, gpu_milli, now)?, place)));
    match first.min_by_key(|((at, _), _)| *at) {
        None => Ok(Offer::default()),
        Some(((at, _), _)) if at > now && end.is_some_and(|end| end <= at) => {
            Ok(Offer { yields_at: Some(at), ..Offer::default() })
        }
        Some(((_, left), place)) => Err(short(&place.subject(), gpu_milli, left)),
    }
}

fn draw(
    state: &State,
    index: &Index,
    contract: Contract,
    terms: &Terms,
    places: &[Place],
    gpu_milli: i64,
) -> Result<Offer, Limit> {
    let (sums, now) = (&index.set_aside, state.now());
    let Some(own) = places.iter().position(|place| *place == terms.place) else {
        return Err(short(&contract.subject(), gpu_milli, 0));
    };
    let left = sums.left(&contract);
    if gpu_milli > left {
        return Err(short(&contract.subject(), gpu_milli, left));
    }
    for place in &places[..own] {
        let lasting = sums.first_short(place, gpu_milli, now).filter(|(at, _)| *at < terms.to);
        let kept = Some(sums.spare(place)).filter(|spare| *spare < gpu_milli && sums.is_kept(place));
        if let Some(left) = kept.or(lasting.map(|(_, left)| left)) {
            return Err(short(&place.subject(), gpu_milli, left));
        }
    }
    Ok(Offer { draws: Some(Draw { contract, gpu_milli }), yields_at: None })
}

/// What MIG instances take: all of each GPU, unless somebody on it stays for good as far as one knows.
fn held_milli(state: &State, index: &Index, nodes: &[NodeGpus]) -> i64 {
    let gpus: BTreeSet<(&NodeId, i64)> =
        nodes.iter().flat_map(|own| own.gpus.iter().map(|gpu| (&own.node, *gpu))).collect();
    let stays = |run: &Run| !is_reclaimable(state, run) && run.yields_at_us.is_none();
    let taken = |(node, gpu): &&(&NodeId, i64)| !index.runs_on(state, node, *gpu).any(stays);
    gpus.iter().filter(taken).count() as i64 * 1_000
}

/// What a gang takes from everybody else: with its nodes to itself, all that is usable there.
fn charge(index: &Index, spec: &Spec, nodes: &[NodeGpus], gpu_milli: i64) -> i64 {
    if !spec.gang.exclusive_node {
        return gpu_milli;
    }
    let nodes: BTreeSet<&NodeId> = nodes.iter().map(|replica| &replica.node).collect();
    let all = nodes.iter().filter_map(|node| index.set_aside.nodes.get(*node)).map(|share| share.total);
    all.sum::<i64>().max(gpu_milli)
}

fn short(subject: &str, gpu_milli: i64, left: i64) -> Limit {
    limit_of(LimitKind::Reservation, subject, gpu_milli, left.max(0), "GPU/1000")
}
