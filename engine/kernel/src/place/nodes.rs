//! Nodes and GPUs for a whole gang in one pool now, or the limit that binds there.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::domains::Seeker;
use super::layout::{Layout, level_name, spread_name};
use super::spread::Spread;
use super::{Promise, accepted};
use crate::clearing::{OwnLine, closed_to};
use crate::index::{Index, NodeUse};
use crate::mig::Instances;
use crate::packing::{Area, Ask, Choice, Inventory, NodeHandle, Rule, Scope};
use crate::power::SitePower;
use crate::rows::*;
use crate::state::State;

/// Promises among which the one is looked for that alone is in the way of a gang.
const NAMED_MAX: usize = 4;

/// Nodes and GPUs of a gang, and its MIG instances on them.
pub type Planned = (Vec<NodeGpus>, Option<Instances>);

/// Nodes and GPUs for the whole gang in one pool now, or the limit that binds there.
#[expect(clippy::too_many_arguments, reason = "one pool's answer to one job, called from one place")]
pub fn plan_nodes(
    state: &State,
    index: &mut Index,
    id: &JobId,
    job: &Job,
    spec: &Spec,
    ask: &Ask,
    pool: &PoolDeclared,
    before: &[&Promise],
) -> Result<Planned, Limit> {
    let name = pool.pool.as_str();
    let replicas = spec.gang.replicas_min.0;
    let asked = replicas * ask.gpu_milli();
    let number = index.pools.of(&pool.pool);
    let area = [Area::Pool(number)];
    // Most questions end here: too little is free, whatever node it is on.
    let mut bare = ask.clone();
    (bare.cpu_milli, bare.memory_mib, bare.scratch_gib) = (0, 0, 0);
    let room = index.inventory.feasible_replicas(&bare, Scope::of(&area), replicas);
    if room < replicas {
        let free = index.inventory.free_gpu_milli().filter(|(of, ..)| *of == number).map(|(.., milli)| milli).sum();
        let stopping = index.stopping.contains_key(&pool.pool);
        let kind = if stopping { LimitKind::Draining } else { LimitKind::Gpus };
        return Err(match shared_limit(kind, name, spec, ask, room) {
            Some(limit) => limit,
            // There is enough, where another tenant keeps everybody off.
            None if ask.shares() && index.keepers > 0 && free >= asked => {
                let unit = "GPU/1000 where other tenants let it in";
                limit_of(kind, name, asked, room * ask.gpu_milli(), unit)
            }
            None => limit_of(kind, name, asked, free, "GPU/1000"),
        });
    }
    let rule = Rule::named(state.policy().packing_rule()).unwrap_or(Rule::Solyx);
    let closed = closed_to(state, &index.queue, id, spec, OwnLine::MayEnter);
    let Index { inventory, power, uses, claimed, earmarked, failure_domains, pool_nodes, .. } = index;
    let names = &index.names;
    let site_power = power.get(&pool.site);
    let now = state.now();
    let acceptable = |handle: NodeHandle, before: &[&Promise], margin: Margin| {
        let Some(node) = names.get(&handle) else { return false };
        let Some(row) = state.nodes.get(node) else { return false };
        let attested = !spec.attestation_required || row.attested_until_us.is_some_and(|until| until > now);
        let mine = row.lease.as_ref().is_none_or(|lease| lease.earmarked.as_ref().is_none_or(|own| own == id));
        let promised = before.iter().any(|promise| promise.nodes.contains(node));
        let powered = || {
            let in_use = || uses.get(node).is_some_and(|used| !used.gpu_milli.is_empty());
            match margin {
                Margin::Any => true,
                Margin::Least if ask.gpus == 1 && ask.gpu_milli_each < 1_000 && in_use() => true,
                Margin::Least | Margin::Whole => site_power.is_none_or(|power| {
                    let more = BTreeMap::from([(node.clone(), replica_w(state, ask, node))]);
                    power.overload_with(&more).is_none()
                }),
            }
        };
        let claimed = claimed.get(node).is_some_and(|by| !by.contains(id)) || closed.contains(node);
        attested && mine && !promised && !claimed && !job.past().avoided.contains(node) && powered()
    };
    let layout = Layout::of(spec);
    let ever = |node: &NodeId| {
        let until = state.nodes.get(node).and_then(|row| row.attested_until_us);
        (!spec.attestation_required || until.is_some_and(|until| until > now)) && !job.past().avoided.contains(node)
    };
    let spread = layout.spread.map(|over| Spread {
        state,
        domains: failure_domains,
        pool: &pool.pool,
        nodes: pool_nodes.get(&pool.pool),
        inside: None,
        over,
        ask,
        ever: &ever,
    });
    let seeker = Seeker { state, names, rule, ask, replicas, pool: number, spread };
    let layouts = [layout, layout.without_preference()];
    let tries = if layout.preferred.is_some() { 2 } else { 1 };
    // A share may go to a GPU that is in use, which commits no more power; where it would wake one, room for that is asked.
    let mut refused = None;
    for margin in [Margin::Least, Margin::Whole] {
        if matches!(margin, Margin::Whole) && refused.is_none() {
            break;
        }
        for layout in layouts.into_iter().take(tries) {
            let all = |handle: NodeHandle| acceptable(handle, before, margin);
            let Some(gang) = seeker.choose(inventory, layout, &all) else {
                continue;
            };
            let nodes = name_gang(names, ask, &gang);
            match site_power.and_then(|power| power.overload_with(&added_power(state, uses, &nodes))) {
                Some(overload) => refused = Some(overload.limit(&pool.site)),
                None => match takes_promised_power(state, uses, site_power, pool, before, &nodes) {
                    Some(promise) => refused = Some(promise.limit()),
                    None => return Ok((nodes, instances_of(state, spec, pool, &gang))),
                },
            }
        }
    }
    if let Some(limit) = refused {
        // Where it may lie anywhere it may lie where others feed it.
        let accepts = |handle: NodeHandle| acceptable(handle, before, Margin::Any);
        let gang = site_power
            .filter(|_| layout.without_preference().is_free())
            .and_then(|power| within_power(&seeker, inventory, power, &accepts));
        let Some(gang) = gang else { return Err(limit) };
        let nodes = name_gang(names, ask, &gang);
        let overloads =
            site_power.is_some_and(|power| power.overload_with(&added_power(state, uses, &nodes)).is_some());
        return match overloads || takes_promised_power(state, uses, site_power, pool, before, &nodes).is_some() {
            true => Err(limit),
            false => Ok((nodes, instances_of(state, spec, pool, &gang))),
        };
    }
    // Which limit was it? Lift one after the other until the gang fits.
    let layout = layout.without_preference();
    let mut fits = |ask: &Ask, layout: Layout, accepts: &dyn Fn(NodeHandle) -> bool| {
        Seeker { ask, ..seeker }.choose(inventory, layout, accepts).is_some()
    };
    if !before.is_empty() && fits(ask, layout, &|handle| acceptable(handle, &[], Margin::Least)) {
        // The one that alone is in the way, if it is one, as far as that is looked for.
        let alone = before.iter().take(NAMED_MAX).position(|promise| {
            let others: Vec<&Promise> = before.iter().copied().filter(|other| other.job != promise.job).collect();
            fits(ask, layout, &|handle| acceptable(handle, &others, Margin::Least))
        });
        return Err(before[alone.unwrap_or(0)].limit());
    }
    if fits(ask, layout, &|handle| acceptable(handle, &[], Margin::Any)) {
        let mut nodes = pool_nodes.get(&pool.pool).into_iter().flatten();
        let overload = site_power.and_then(|power| {
            nodes.find_map(|node| power.overload_with(&BTreeMap::from([(node.clone(), replica_w(state, ask, node))])))
        });
        return Err(overload.map_or_else(|| limit(LimitKind::Power), |overload| overload.limit(&pool.site)));
    }
    if spec.attestation_required && fits(ask, layout, &|_| true) {
        return Err(Limit { subject: Some(RefId::from(name)), ..limit(LimitKind::Attestation) });
    }
    let anywhere = Layout::default();
    // Whether some node may be refused whatever is free on it.
    let is_choosy = !(claimed.is_empty() && closed.is_empty() && earmarked.is_empty() && job.past().avoided.is_empty())
        || spec.attestation_required;
    if !layout.is_free() && fits(ask, anywhere, &|_| true) {
        return Err(match (layout.required, layout.spread) {
            (Some(level), _) if !fits(ask, Layout { spread: None, ..layout }, &|_| true) => {
                let name = level_name(level);
                let unit = match layout.segment {
                    Some(segment) => format!("replicas in segments of {segment} within one {name}"),
                    None => format!("replicas in one {name}"),
                };
                limit_of(LimitKind::FabricDomain, pool.pool.as_str(), replicas, seeker.most(inventory, layout), &unit)
            }
            (_, Some((level, skew))) => {
                let unit = format!("replicas over {}s with a skew of {skew}", spread_name(level));
                // Where so many are held, so are fewer.
                let (mut most, mut too_many) = (0, replicas);
                while too_many - most > 1 {
                    let between = most + (too_many - most) / 2;
                    let seeker = Seeker { replicas: between, ..seeker };
                    match seeker.choose(inventory, layout, &|_| true) {
                        Some(_) => most = between,
                        None => too_many = between,
                    }
                }
                limit_of(LimitKind::Spread, pool.pool.as_str(), replicas, most, &unit)
            }
            _ => limit_of(LimitKind::FabricDomain, name, replicas, 0, "replicas in one domain"),
        });
    }
    if (is_choosy || !layout.is_free()) && fits(ask, anywhere, &|_| true) {
        // There is room, where others are to go or where this one does not go again.
        let mine = |handle: NodeHandle| names.get(&handle).is_some_and(&ever);
        return Err(match fits(ask, anywhere, &mine) {
            true => limit_of(LimitKind::Draining, name, asked, 0, "GPU/1000 on nodes that are kept for no other job"),
            false => limit_of(LimitKind::Gpus, name, asked, 0, "GPU/1000 on acceptable nodes"),
        });
    }
    let mut less = ask.clone();
    /// Takes a need away, and says how large it was.
    type Lift = fn(&mut Ask) -> i64;
    let lifts: [(LimitKind, Lift, &str); 3] = [
        (LimitKind::Cpu, |ask| std::mem::take(&mut ask.cpu_milli), "CPU/1000 beside the GPUs"),
        (LimitKind::Memory, |ask| std::mem::take(&mut ask.memory_mib), "MiB beside the GPUs"),
        (LimitKind::Scratch, |ask| std::mem::take(&mut ask.scratch_gib), "GiB of scratch beside the GPUs"),
    ];
    for (kind, lift, unit) in lifts {
        let each = lift(&mut less);
        if fits(&less, anywhere, &|_| true) {
            return Err(limit_of(kind, name, each * replicas, 0, unit));
        }
    }
    let shared = shared_limit(LimitKind::Gpus, name, spec, ask, 0);
    Err(shared.unwrap_or_else(|| limit_of(LimitKind::Gpus, name, asked, 0, "GPU/1000 on acceptable nodes")))
}

/// The limit of a gang that takes MIG instances, or GPUs that no other tenant has a part of, where there is room for so many replicas.
fn shared_limit(kind: LimitKind, pool: &str, spec: &Spec, ask: &Ask, room: i64) -> Option<Limit> {
    let asked = spec.gang.replicas_min.0 * ask.gpus;
    let apart = if ask.apart { " on GPUs of no other tenant" } else { "" };
    let unit = match &spec.gang.mig_profile {
        Some(profile) => format!("instances of {profile}{apart}"),
        None if ask.apart => format!("shares of {}/1000{apart}", ask.gpu_milli_each),
        None => return None,
    };
    Some(limit_of(kind, pool, asked, room * ask.gpus, &unit))
}

/// A gang that may lie anywhere, node by node, those with most room first, on each as many replicas as fit and are carried beside
/// those before.
fn within_power(
    seeker: &Seeker<'_>,
    inventory: &mut Inventory,
    power: &SitePower,
    accepts: &dyn Fn(NodeHandle) -> bool,
) -> Option<Vec<Choice>> {
    let mut rooms = seeker.rooms(inventory, accepts);
    rooms.sort_by_key(|(_, room)| std::cmp::Reverse(*room));
    let mut beside = power.beside();
    let mut gang: Vec<Choice> = Vec::new();
    for (handle, room) in rooms {
        let node = seeker.names.get(&handle)?;
        let missing = seeker.replicas - gang.len() as i64;
        let each_w = replica_w(seeker.state, seeker.ask, node);
        let replicas = beside.times(node, each_w, room.min(missing));
        if replicas == 0 {
            continue;
        }
        let on_it = Seeker { replicas, ..*seeker };
        gang.extend(on_it.choose(inventory, Layout::default(), &|other| other == handle)?);
        if replicas == missing {
            return Some(gang);
        }
        beside.add(node, replicas * each_w);
    }
    None
}

/// The MIG instances of a gang as it was chosen.
fn instances_of(state: &State, spec: &Spec, pool: &PoolDeclared, gang: &[Choice]) -> Option<Instances> {
    let profile = spec.gang.mig_profile.clone()?;
    let (model, _) = accepted(spec, pool)?;
    let slices = crate::mig::profile(state, model, &profile)?.1.slices.0;
    let starts = gang.iter().map(|choice| choice.starts.iter().map(|start| i64::from(*start)).collect());
    Some(Instances { profile, slices, starts: starts.collect() })
}

/// How much power a node must have left for a replica to go there.
#[derive(Clone, Copy)]
enum Margin {
    /// None.
    Any,
    /// What it takes at least: nothing for a share where a GPU is in use.
    Least,
    /// What all of its GPUs draw at most.
    Whole,
}

/// The promise whose power a gang would take that lasts beyond its start: with the GPUs that nothing uses now, and with those
/// that nothing else would use by then.
fn takes_promised_power<'p>(
    state: &State,
    uses: &BTreeMap<NodeId, NodeUse>,
    power: Option<&SitePower>,
    pool: &PoolDeclared,
    before: &[&'p Promise],
    nodes: &[NodeGpus],
) -> Option<&'p Promise> {
    let power = power?;
    let in_use = |node: &NodeId, gpu: i64| uses.get(node).is_some_and(|used| used.gpu_milli.contains_key(&gpu));
    let there = before.iter().copied().filter(|promise| promise.site == pool.site);
    there.into_iter().find(|promise| {
        let wakes = |node: &NodeId, gpu: i64| !in_use(node, gpu) || promise.leaves_idle(node, gpu);
        power.overload_later(&promise.power_w, &power_where(state, nodes, wakes)).is_some()
    })
}

/// The most that a replica draws on a node, W: as many of its GPUs as it takes, at the largest power that any of them reports.
pub(crate) fn replica_w(state: &State, ask: &Ask, node: &NodeId) -> i64 {
    let report = state.nodes.get(node).and_then(|row| row.report.as_ref());
    let widest = report.and_then(|report| report.gpus.iter().map(|gpu| gpu.max_w.0).max());
    ask.gpus.max(0) * widest.unwrap_or(0)
}

/// Power that a gang commits beside what is committed: all of each GPU that nothing uses yet, however small the share.
pub fn added_power(state: &State, uses: &BTreeMap<NodeId, NodeUse>, nodes: &[NodeGpus]) -> BTreeMap<NodeId, i64> {
    // One that only runs use which are to stop would go idle: for a limit that they stop for, it counts as new.
    let wakes = |node: &NodeId, gpu: i64| !uses.get(node).is_some_and(|used| stays_in_use(state, used, node, gpu));
    power_where(state, nodes, wakes)
}

/// Power of a gang's GPUs, each once, by node.
fn power_where(state: &State, nodes: &[NodeGpus], counts: impl Fn(&NodeId, i64) -> bool) -> BTreeMap<NodeId, i64> {
    let mut added: BTreeMap<NodeId, i64> = BTreeMap::new();
    let mut woken: BTreeSet<(&NodeId, i64)> = BTreeSet::new();
    for replica in nodes {
        let report = state.nodes.get(&replica.node).and_then(|node| node.report.as_ref());
        for gpu in report.into_iter().flat_map(|report| &report.gpus).filter(|gpu| replica.gpus.contains(&gpu.index)) {
            if counts(&replica.node, gpu.index) && woken.insert((&replica.node, gpu.index)) {
                *added.entry(replica.node.clone()).or_default() += gpu.max_w.0;
            }
        }
    }
    added
}

/// Whether a run that was not told to stop uses a GPU.
fn stays_in_use(state: &State, used: &NodeUse, node: &NodeId, gpu: i64) -> bool {
    let holds = |run: &Run| run.nodes.iter().any(|replica| replica.node == *node && replica.gpus.contains(&gpu));
    used.gpu_milli.contains_key(&gpu)
        && used.runs.iter().filter_map(|run| state.runs.get(run)).any(|run| run.stop.is_none() && holds(run))
}

fn name_gang(names: &BTreeMap<NodeHandle, NodeId>, ask: &Ask, gang: &[Choice]) -> Vec<NodeGpus> {
    let name = |choice: &Choice| {
        Some(NodeGpus {
            node: names.get(&choice.node)?.clone(),
            gpus: choice.gpus.iter().map(|gpu| i64::from(*gpu)).collect(),
            gpu_milli_each: GpuMilli(if ask.gpus > 0 { ask.gpu_milli_each } else { 0 }),
        })
    };
    gang.iter().filter_map(name).collect()
}
