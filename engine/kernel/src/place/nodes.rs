//! Nodes and GPUs for a whole gang in one pool now, or the limit that binds there.

mod lifting;

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use self::lifting::Lifting;
use super::domains::Seeker;
use super::layout::Layout;
use super::spread::Spread;
use super::{Asking, Promise, accepted};
use crate::clearing::{OwnLine, closed_to};
use crate::index::{Index, NodeUse};
use crate::mig::Instances;
use crate::packing::{Area, Ask, Choice, Inventory, NodeHandle, Rule, Scope};
use crate::power::SitePower;
use crate::rows::*;
use crate::state::State;

/// Nodes and GPUs of a gang, and its MIG instances on them.
pub type Planned = (Vec<NodeGpus>, Option<Instances>);

/// What a job's gang asks of a pool.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The state.
    pub state: &'a State,
    /// The job.
    pub asking: Asking<'a>,
    /// The pool.
    pub pool: &'a PoolDeclared,
    /// Promises that go before it.
    pub before: &'a [&'a Promise],
}

impl Wanted<'_> {
    /// Nodes and GPUs for the whole gang now, or the limit that binds.
    pub fn plan(&self, index: &mut Index) -> Result<Planned, Limit> {
        let Self { state, asking, pool, .. } = *self;
        let Asking { id, spec, ask, .. } = asking;
        let number = index.pools.of(&pool.pool);
        self.enough_is_free(index, number)?;
        let rule = Rule::named(state.policy().packing_rule()).unwrap_or(Rule::Solyx);
        let closed = &closed_to(state, &index.queue, id, spec, OwnLine::MayEnter);
        let Index { inventory, power, uses, names, claimed, earmarked, failure_domains, pool_nodes, .. } = index;
        let power = power.get(&pool.site);
        let ground = Ground { wanted: *self, names, power, uses, claimed, closed };
        let nodes = pool_nodes.get(&pool.pool);
        let ever = |node: &NodeId| ground.may_ever_take(node);
        let layout = Layout::of(spec);
        let spread = layout.spread.map(|over| Spread {
            state,
            domains: failure_domains,
            pool: &pool.pool,
            nodes,
            inside: None,
            over,
            ask,
            ever: &ever,
        });
        let seeker = Seeker { state, names, rule, ask, replicas: asking.replicas(), pool: number, spread };
        if let Some(planned) = ground.gang(&seeker, inventory, layout)? {
            return Ok(planned);
        }
        let is_picky = !earmarked.is_empty() || ground.may_refuse();
        Err(Lifting { ground: &ground, seeker, inventory, layout: layout.without_preference(), nodes, is_picky }
            .limit())
    }

    /// Whether as many GPUs are free in the pool of this number, whatever node each is on. Most questions end here.
    fn enough_is_free(&self, index: &Index, number: u32) -> Result<(), Limit> {
        let Self { asking: Asking { spec, ask, .. }, pool, .. } = *self;
        let (replicas, asked) = (self.asking.replicas(), self.asking.gpu_milli());
        let mut bare = ask.clone();
        (bare.cpu_milli, bare.memory_mib, bare.scratch_gib) = (0, 0, 0);
        let room = index.inventory.feasible_replicas(&bare, Scope::of(&[Area::Pool(number)]), replicas);
        if room >= replicas {
            return Ok(());
        }
        let name = pool.pool.as_str();
        let free = index.inventory.free_gpu_milli().filter(|(of, ..)| *of == number).map(|(.., milli)| milli).sum();
        let stopping = index.stopping.contains_key(&pool.pool);
        let kind = if stopping { LimitKind::Draining } else { LimitKind::Gpus };
        Err(match shared_limit(kind, name, spec, ask, room) {
            Some(limit) => limit,
            // There is enough, where another tenant keeps everybody off.
            None if ask.shares() && index.keepers > 0 && free >= asked => {
                let unit = "GPU/1000 where other tenants let it in";
                limit_of(kind, name, asked, room * ask.gpu_milli(), unit)
            }
            None => limit_of(kind, name, asked, free, "GPU/1000"),
        })
    }
}

/// The nodes of a pool, as a gang finds them.
struct Ground<'a> {
    wanted: Wanted<'a>,
    names: &'a BTreeMap<NodeHandle, NodeId>,
    power: Option<&'a SitePower>,
    uses: &'a BTreeMap<NodeId, NodeUse>,
    /// Nodes that are claimed, and the jobs that claim each.
    claimed: &'a BTreeMap<NodeId, BTreeSet<JobId>>,
    /// Nodes that are closed to it.
    closed: &'a BTreeSet<NodeId>,
}

impl Ground<'_> {
    /// Whether a replica may go to a node now, with these promises before it and so much power left.
    fn accepts(&self, handle: NodeHandle, before: &[&Promise], margin: Margin) -> bool {
        let Wanted { state, asking: Asking { id, job, .. }, .. } = self.wanted;
        let Some(node) = self.names.get(&handle) else { return false };
        let Some(row) = state.nodes.get(node) else { return false };
        let mine = row.lease.as_ref().is_none_or(|lease| lease.earmarked.as_ref().is_none_or(|own| own == id));
        let promised = before.iter().any(|promise| promise.nodes.contains(node));
        let claimed = self.claimed.get(node).is_some_and(|by| !by.contains(id)) || self.closed.contains(node);
        self.is_attested(Some(row))
            && mine
            && !promised
            && !claimed
            && !job.past().avoided.contains(node)
            && self.is_powered(node, margin)
    }

    /// Whether a replica may ever go to a node, whatever is in use there.
    fn may_ever_take(&self, node: &NodeId) -> bool {
        let Wanted { state, asking: Asking { job, .. }, .. } = self.wanted;
        self.is_attested(state.nodes.get(node)) && !job.past().avoided.contains(node)
    }

    /// Whether it may refuse a node that has room, but for those that are leased for others.
    fn may_refuse(&self) -> bool {
        let Asking { job, spec, .. } = self.wanted.asking;
        let avoids = !job.past().avoided.is_empty();
        !self.claimed.is_empty() || !self.closed.is_empty() || avoids || spec.attestation_required
    }

    fn is_attested(&self, node: Option<&Node>) -> bool {
        let Wanted { state, asking: Asking { spec, .. }, .. } = self.wanted;
        let until = || node.and_then(|node| node.attested_until_us);
        !spec.attestation_required || until().is_some_and(|until| until > state.now())
    }

    fn is_powered(&self, node: &NodeId, margin: Margin) -> bool {
        let Wanted { state, asking: Asking { ask, .. }, .. } = self.wanted;
        let in_use = || self.uses.get(node).is_some_and(|used| !used.gpu_milli.is_empty());
        match margin {
            Margin::Any => true,
            Margin::Least if ask.gpus == 1 && ask.gpu_milli_each < 1_000 && in_use() => true,
            Margin::Least | Margin::Whole => self.power.is_none_or(|power| {
                let more = BTreeMap::from([(node.clone(), replica_w(state, ask, node))]);
                power.overload_with(&more).is_none()
            }),
        }
    }

    /// The gang, placed; none when it fits nowhere, and the limit when it does but may not draw the power.
    fn gang(&self, seeker: &Seeker<'_>, inventory: &mut Inventory, layout: Layout) -> Result<Option<Planned>, Limit> {
        let Wanted { state, asking: Asking { spec, ask, .. }, pool, before } = self.wanted;
        let planned = |nodes, gang: &[Choice]| Some((nodes, instances_of(state, spec, pool, gang)));
        let layouts = [layout, layout.without_preference()];
        let tries = if layout.preferred.is_some() { 2 } else { 1 };
        // A share may go to a GPU that is in use, which commits no more power; where it would wake one, room for that is asked.
        let mut refused = None;
        for margin in [Margin::Least, Margin::Whole] {
            if matches!(margin, Margin::Whole) && refused.is_none() {
                break;
            }
            for layout in layouts.into_iter().take(tries) {
                let accepts = |handle: NodeHandle| self.accepts(handle, before, margin);
                let Some(gang) = seeker.choose(inventory, layout, &accepts) else { continue };
                let nodes = name_gang(self.names, ask, &gang);
                match self.power_limit(&nodes) {
                    Some(limit) => refused = Some(limit),
                    None => return Ok(planned(nodes, &gang)),
                }
            }
        }
        let Some(limit) = refused else { return Ok(None) };
        // Where it may lie anywhere it may lie where others feed it.
        let accepts = |handle: NodeHandle| self.accepts(handle, before, Margin::Any);
        let power = self.power.filter(|_| layout.without_preference().is_free());
        let Some(gang) = power.and_then(|power| within_power(seeker, inventory, power, &accepts)) else {
            return Err(limit);
        };
        let nodes = name_gang(self.names, ask, &gang);
        match self.power_limit(&nodes) {
            Some(_) => Err(limit),
            None => Ok(planned(nodes, &gang)),
        }
    }

    /// The limit of the power tree, or of what is promised of it, that a gang would break.
    fn power_limit(&self, nodes: &[NodeGpus]) -> Option<Limit> {
        let Wanted { state, pool, before, .. } = self.wanted;
        let power = self.power?;
        match power.overload_with(&added_power(state, self.uses, nodes)) {
            Some(overload) => Some(overload.limit(&pool.site)),
            None => takes_promised_power(state, self.uses, power, pool, before, nodes).map(Promise::limit),
        }
    }
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
    power: &SitePower,
    pool: &PoolDeclared,
    before: &[&'p Promise],
    nodes: &[NodeGpus],
) -> Option<&'p Promise> {
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
