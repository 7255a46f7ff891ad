//! Free room node by node, and which runs would have to stop for a gang.

use std::collections::BTreeMap;

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::{GpuModelId, JobId, NodeId, RunId, TenantId};

use super::Epoch;
use super::laid::lay_out;
use super::preempt::Victim;
use super::quota_room::within_quotas;
use super::share::Given;
use crate::apart::keeps;
use crate::clearing::{OwnLine, closed_to};
use crate::packing::{Ask, Division, GPU_MILLI, Slices, mig_replicas};
use crate::place::{Layout, accepted, ask_of, ask_on, domain_of, fixed_limits, lending_limit, quota_limit};
use crate::rows::{Job, Run, Spec};
use crate::set_aside::{in_force, places_of};

/// Free room of a node.
#[derive(Clone)]
pub(super) struct Room {
    /// The domain it lies in, at the level that the gang has to be together.
    pub group: String,
    gpus: Vec<i64>,
    /// GPUs that take new work.
    usable: Vec<bool>,
    /// Slices that MIG instances have, by GPU; empty where nothing is divided.
    slices: Vec<Slices>,
    /// Where whose a GPU is matters: by GPU, what has a part of it, and for whom it is looked at.
    holders: Option<(TenantId, Vec<Vec<Holder>>)>,
    cpu: i64,
    memory: i64,
    scratch: i64,
    /// Replicas on it.
    replicas: i64,
    /// Runs that have it to themselves.
    exclusive: i64,
}

impl Room {
    /// How many replicas have room.
    pub fn replicas(&self, ask: &Ask) -> i64 {
        if self.exclusive > 0 || ask.exclusive && self.replicas > 0 {
            return 0;
        }
        let by = |have: i64, need: i64| if need > 0 { have.max(0) / need } else { i64::MAX };
        let is_plain = self.slices.is_empty() && self.holders.is_none();
        let gpus = match (ask.gpus, &ask.mig) {
            (0, _) => i64::MAX,
            (count, Some(division)) => {
                let rooms: Vec<i64> = (0..self.gpus.len()).map(|gpu| self.instances(gpu, ask, division)).collect();
                mig_replicas(&rooms, count, 1_000_000)
            }
            (1, _) if is_plain => self.gpus.iter().map(|free| free.max(&0) / ask.gpu_milli_each.max(1)).sum(),
            (count, _) if is_plain => {
                self.gpus.iter().filter(|free| **free >= ask.gpu_milli_each).count() as i64 / count
            }
            (count, _) => {
                let free = (0..self.gpus.len()).map(|gpu| self.free_milli(gpu, ask));
                match count {
                    1 => free.map(|free| free.max(0) / ask.gpu_milli_each.max(1)).sum(),
                    count => free.filter(|free| *free >= ask.gpu_milli_each).count() as i64 / count,
                }
            }
        };
        let fits = gpus.min(by(self.cpu, ask.cpu_milli)).min(by(self.memory, ask.memory_mib));
        let most = if ask.exclusive { 1 } else { 1_000_000 };
        fits.min(by(self.scratch, ask.scratch_gib)).min(most)
    }

    fn slices(&self, gpu: usize) -> Slices {
        self.slices.get(gpu).copied().unwrap_or(0)
    }

    /// Whether those that have a part of a GPU let the job in, and it them.
    fn lets_in(&self, gpu: usize, ask: &Ask) -> bool {
        let Some((tenant, holders)) = &self.holders else { return true };
        holders[gpu].iter().all(|other| other.tenant == *tenant || !other.keeps && !ask.apart)
    }

    /// Free thousandths of a GPU for an ask.
    fn free_milli(&self, gpu: usize, ask: &Ask) -> i64 {
        if self.slices(gpu) == 0 && self.lets_in(gpu, ask) { self.gpus[gpu] } else { 0 }
    }

    /// Room for instances on a GPU.
    fn instances(&self, gpu: usize, ask: &Ask, division: &Division) -> i64 {
        let open = self.usable[gpu] && (self.slices(gpu) != 0 || self.gpus[gpu] >= GPU_MILLI) && self.lets_in(gpu, ask);
        if open { division.room(self.slices(gpu)) } else { 0 }
    }

    /// Takes off what a replica of a run holds.
    pub fn release(&mut self, run: &Run, number: usize) {
        let replica = &run.nodes[number];
        for (at, gpu) in replica.gpus.iter().enumerate() {
            let gpu = *gpu as usize;
            if let Some(free) = self.gpus.get_mut(gpu).filter(|_| self.usable[gpu]) {
                *free += replica.gpu_milli_each.0;
            }
            if let (Some(mig), Some(slices)) = (&run.mig, self.slices.get_mut(gpu)) {
                *slices &= !mig.slices_of(number, at);
            }
            let on_it = self.holders.as_mut().and_then(|(_, holders)| holders.get_mut(gpu));
            if let Some(on_it) = on_it
                && let Some(own) = on_it.iter().position(|holder| holder.job == run.job)
            {
                on_it.swap_remove(own);
            }
        }
        self.cpu += run.cpu_milli.0;
        self.memory += run.memory_mib.0;
        self.scratch += run.scratch_gib.0;
        self.replicas -= 1;
        self.exclusive -= i64::from(run.exclusive_node);
    }
}

/// Free room of the nodes of a pool that a job may be on.
pub(super) fn rooms_of<'e>(
    epoch: &'e Epoch<'_>,
    job: &Job,
    spec: &Spec,
    pool: &PoolDeclared,
    ask: &Ask,
) -> BTreeMap<&'e NodeId, Room> {
    let layout = Layout::of(spec);
    // A gang in segments is in one domain with no more than a segment.
    let level = layout.required.filter(|_| layout.segment.is_none());
    let nodes = epoch.index.pool_nodes.get(&pool.pool).into_iter().flatten();
    let attested = |node: &NodeId| {
        let until = epoch.state.nodes.get(node).and_then(|row| row.attested_until_us);
        !spec.attestation_required || until.is_some_and(|until| until > epoch.now)
    };
    let is_of_model = |node: &NodeId| {
        let report = epoch.state.nodes.get(node).and_then(|row| row.report.as_ref());
        let model = report.and_then(|report| report.gpus.first()).and_then(|gpu| epoch.index.models.get(&gpu.model));
        ask.gpus == 0 || model.is_some_and(|model| ask.accepts(model))
    };
    nodes
        .filter(|node| !job.past().avoided.contains(*node) && attested(node) && is_of_model(node))
        .filter_map(|node| {
            let mut room = room_of(epoch, node, level)?;
            if ask.shares() && (ask.apart || epoch.index.keepers > 0) {
                room.holders = Some((spec.tenant.clone(), holders_of(epoch, node, room.gpus.len())));
            }
            Some((node, room))
        })
        .collect()
}

/// What has a part of a GPU.
#[derive(Clone)]
struct Holder {
    job: JobId,
    tenant: TenantId,
    keeps: bool,
}

fn holders_of(epoch: &Epoch<'_>, node: &NodeId, gpus: usize) -> Vec<Vec<Holder>> {
    let mut holders: Vec<Vec<Holder>> = (0..gpus).map(|_| Vec::new()).collect();
    let runs = epoch.index.uses.get(node).into_iter().flat_map(|used| &used.runs);
    for run in runs.filter_map(|run| epoch.state.runs.get(run)) {
        let holder = Holder { job: run.job.clone(), tenant: run.tenant.clone(), keeps: keeps(epoch.state, run) };
        for gpu in run.nodes.iter().filter(|own| own.node == *node).flat_map(|own| &own.gpus) {
            if let Some(on_it) = holders.get_mut(*gpu as usize) {
                on_it.push(holder.clone());
            }
        }
    }
    holders
}

fn room_of(epoch: &Epoch<'_>, id: &NodeId, level: Option<TopologyLevel>) -> Option<Room> {
    let node = epoch.state.nodes.get(id).filter(|node| node.state == NodeState::Ready && !node.gone)?;
    let report = node.report.as_ref()?;
    let used = epoch.index.uses.get(id);
    let of_gpu = |index: i64| used.and_then(|used| used.gpu_milli.get(&index)).copied().unwrap_or(0);
    let highest = report.gpus.iter().map(|gpu| gpu.index + 1).max().unwrap_or(0);
    let (mut gpus, mut usable) = (vec![0; highest as usize], vec![false; highest as usize]);
    for gpu in report.gpus.iter().filter(|gpu| !node.avoided_gpus.contains(&gpu.index)) {
        gpus[gpu.index as usize] = 1_000 - of_gpu(gpu.index);
        usable[gpu.index as usize] = true;
    }
    let divided = used.filter(|used| !used.slices.is_empty());
    let slices = divided
        .map_or_else(Vec::new, |used| (0..highest).map(|gpu| used.slices.get(&gpu).copied().unwrap_or(0)).collect());
    let group = level.map_or(String::new(), |level| {
        let (named, name) = domain_of(epoch.state, level, id, report);
        format!("{}{name}", if named { "" } else { "node:" })
    });
    Some(Room {
        group,
        gpus,
        usable,
        slices,
        holders: None,
        cpu: report.cpu_milli.0 - used.map_or(0, |used| used.cpu_milli),
        memory: report.memory_mib.0 - used.map_or(0, |used| used.memory_mib),
        scratch: report.scratch_gib.0 - used.map_or(0, |used| used.scratch_gib),
        replicas: used.map_or(0, |used| used.replicas),
        exclusive: used.map_or(0, |used| used.runs.iter().filter(|run| is_exclusive(epoch, run)).count() as i64),
    })
}

fn is_exclusive(epoch: &Epoch<'_>, run: &RunId) -> bool {
    epoch.state.runs.get(run).is_some_and(|run| run.exclusive_node)
}

/// Owned and reserved pools that a job could use if they had room, each with the model it gives.
pub(super) fn standing_pools<'e>(epoch: &'e Epoch<'_>, spec: &'e Spec) -> Vec<(&'e PoolDeclared, &'e GpuModelId)> {
    let pools = epoch.state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref());
    let standing = pools.filter(|pool| matches!(pool.class, CapacityClass::Owned | CapacityClass::Reserved));
    let usable = standing.filter(|pool| fixed_limits(epoch.state, spec, pool).is_none());
    usable.filter_map(|pool| Some((pool, accepted(spec, pool)?.0))).collect()
}

/// Which runs have to stop for a gang, and where it then is.
pub(super) struct Plan {
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// Numbers of the victims.
    pub victims: Vec<usize>,
    /// Work that is lost, thousandths of a GPU × s.
    pub loss: i64,
}

/// Whether a run can be stopped when its tenant has given back so much already.
pub(super) type MayStop<'a> = dyn Fn(&Victim, Given) -> bool + 'a;

/// What becomes of a quota that is full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FullQuota {
    /// It keeps the gang out.
    Stays,
    /// Who is within it may have to stop.
    GivesWay,
}

/// The plan with the least lost work over all pools and domains.
pub(super) fn plan(
    epoch: &mut Epoch<'_>,
    id: &JobId,
    victims: &[Victim],
    may: &MayStop<'_>,
    full: FullQuota,
) -> Option<Plan> {
    let (job, spec) = (epoch.state.jobs.get(id)?, epoch.state.spec(id)?);
    let any_model = ask_of(epoch.state, &spec, job, epoch.index);
    let replicas = spec.gang.replicas_min.0;
    let divided = Layout::of(&spec).is_divided();
    let mut best: Option<Plan> = None;
    let draws = in_force(epoch.state, &spec);
    let closed = closed_to(epoch.state, &epoch.index.queue, id, &spec, OwnLine::StaysApart);
    // The same in every pool.
    let may_stop: Vec<usize> = (0..victims.len()).filter(|number| may(&victims[*number], Given::default())).collect();
    for (pool, model) in standing_pools(epoch, &spec) {
        let on_model = ask_on(epoch.state, &spec, epoch.index, &any_model, model);
        let ask = on_model.unwrap_or_else(|| any_model.clone());
        // What draws on a contract is in its place, and counts against no quota.
        let asked = replicas * ask.gpu_milli();
        let mut within = Vec::new();
        if let Some((_, terms)) = &draws {
            if !places_of(pool).contains(&terms.place) {
                continue;
            }
        } else if quota_limit(epoch.state, epoch.index, &spec, model, asked).is_some() {
            if full == FullQuota::Stays {
                continue;
            }
            let Some(found) = within_quotas(epoch, &spec, model, asked, victims, &may_stop) else { continue };
            within = found;
        }
        let mut domains: BTreeMap<String, Domain<'_>> = BTreeMap::new();
        for (node, room) in rooms_of(epoch, job, &spec, pool, &ask) {
            if !epoch.index.claimed.contains_key(node) && !closed.contains(node) {
                let domain = domains.entry(room.group.clone()).or_insert_with(|| Domain::new(&ask, victims, may));
                domain.rooms.insert(node, room);
            }
        }
        for number in may_stop.iter().copied() {
            let Some(run) = epoch.state.runs.get(&victims[number].run).filter(|run| run.pool == pool.pool) else {
                continue;
            };
            for domain in domains.values_mut() {
                domain.offer(number, run);
            }
        }
        for domain in domains.into_values() {
            let lay = |rooms: &[(&NodeId, i64)]| lay_out(epoch, (job, &spec, &ask), pool, rooms);
            let plan = domain.plan(replicas, &within, divided.then_some(&lay as &Lay<'_>)).filter(|plan| {
                // What others keep has to stay free once the victims are gone.
                let freed: i64 = plan.victims.iter().map(|victim| victims[*victim].gpu_milli).sum();
                let taken = asked - freed;
                draws.is_some() || lending_limit(epoch.state, epoch.index, pool, &spec, model, taken).is_none()
            });
            if let Some(plan) = plan.filter(|plan| best.as_ref().is_none_or(|best| plan.loss < best.loss)) {
                best = Some(plan);
            }
        }
    }
    best
}

/// Lays a gang out over rooms, if they hold it.
type Lay<'a> = dyn Fn(&[(&NodeId, i64)]) -> Option<BTreeMap<NodeId, i64>> + 'a;

/// Nodes that a gang may be on together, and what may be stopped there.
struct Domain<'e> {
    ask: &'e Ask,
    victims: &'e [Victim],
    may: &'e MayStop<'e>,
    rooms: BTreeMap<&'e NodeId, Room>,
    runs: BTreeMap<usize, &'e Run>,
    on_node: BTreeMap<&'e NodeId, Vec<usize>>,
}

impl<'e> Domain<'e> {
    fn new(ask: &'e Ask, victims: &'e [Victim], may: &'e MayStop<'e>) -> Self {
        let (rooms, runs, on_node) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { ask, victims, may, rooms, runs, on_node }
    }

    fn offer(&mut self, victim: usize, run: &'e Run) {
        for replica in run.nodes.iter().filter(|replica| self.rooms.contains_key(&replica.node)) {
            let on_it = self.on_node.entry(&replica.node).or_default();
            if on_it.last() != Some(&victim) {
                on_it.push(victim);
            }
            self.runs.insert(victim, run);
        }
    }

    /// Stops those who have to, wherever they are, and then runs node by node, where a replica more costs least, until the gang fits;
    /// then spares those that need not stop.
    fn plan(mut self, replicas: i64, forced: &[usize], lay: Option<&Lay<'_>>) -> Option<Plan> {
        forced.iter().for_each(|victim| self.release(*victim));
        let before = self.rooms.clone();
        let mut have: i64 = self.rooms.values().map(|room| room.replicas(self.ask).min(replicas)).sum();
        // It is something else than room that it lacks here.
        if have >= replicas && forced.is_empty() {
            return None;
        }
        let mut chosen: Vec<usize> = forced.to_vec();
        while have < replicas {
            let offers = self.on_node.keys().filter_map(|node| self.cheapest(node, &chosen));
            let (_, set) = offers.min()?;
            for victim in set {
                self.release(victim);
                chosen.push(victim);
            }
            have = self.rooms.values().map(|room| room.replicas(self.ask).min(replicas)).sum();
        }
        chosen.retain(|victim| !forced.contains(victim));
        chosen.sort_by_key(|victim| (-self.victims[*victim].loss, *victim));
        for spared in chosen.clone() {
            let others: Vec<usize> = chosen.iter().copied().filter(|victim| *victim != spared).collect();
            self.rooms.clone_from(&before);
            others.iter().for_each(|victim| self.release(*victim));
            let have: i64 = self.rooms.values().map(|room| room.replicas(self.ask).min(replicas)).sum();
            if have >= replicas {
                chosen = others;
            }
        }
        self.rooms.clone_from(&before);
        chosen.iter().for_each(|victim| self.release(*victim));
        let nodes = match lay {
            None => self.nodes(replicas, &before),
            Some(lay) => {
                // Room that the gang cannot lie in is none, and who is not in its way need not stop.
                let rooms: Vec<(&NodeId, i64)> =
                    self.rooms.iter().map(|(node, room)| (*node, room.replicas(self.ask))).collect();
                let nodes = lay(&rooms)?;
                let in_the_way = |victim: &usize| {
                    self.runs.get(victim).is_some_and(|run| run.nodes.iter().any(|own| nodes.contains_key(&own.node)))
                };
                chosen.retain(in_the_way);
                nodes.into_keys().collect()
            }
        };
        chosen.splice(0..0, forced.iter().copied());
        let loss = chosen.iter().map(|victim| self.victims[*victim].loss).sum();
        (!chosen.is_empty()).then_some(Plan { nodes, victims: chosen, loss })
    }

    fn release(&mut self, victim: usize) {
        let Some(run) = self.runs.get(&victim) else { return };
        for (number, replica) in run.nodes.iter().enumerate() {
            if let Some(room) = self.rooms.get_mut(&replica.node) {
                room.release(run, number);
            }
        }
    }

    /// What a node takes for one replica more: the lost work, and the victims.
    fn cheapest(&self, node: &NodeId, chosen: &[usize]) -> Option<(i64, Vec<usize>)> {
        let room = self.rooms.get(node)?;
        let on_it = self.on_node.get(node)?;
        let left: Vec<usize> = on_it.iter().copied().filter(|victim| !chosen.contains(victim)).collect();
        let by_loss = |victim: &usize| (self.victims[*victim].loss, *victim);
        let by_density = |victim: &usize| (self.victims[*victim].loss / self.held_milli(*victim, node), *victim);
        let mut cheap = left.clone();
        cheap.sort_by_key(by_loss);
        let mut dense = left;
        dense.sort_by_key(by_density);
        [cheap, dense].into_iter().filter_map(|order| self.enough(room, node, order, chosen)).min()
    }

    /// Thousandths of GPUs that a victim holds on a node.
    fn held_milli(&self, victim: usize, node: &NodeId) -> i64 {
        let replicas = self.runs.get(&victim).into_iter().flat_map(|run| &run.nodes).filter(|own| own.node == *node);
        replicas.map(|own| own.gpus.len() as i64 * own.gpu_milli_each.0).sum::<i64>().max(1)
    }

    /// Takes victims in this order until there is room for one replica more, and spares those that were not needed.
    fn enough(&self, room: &Room, node: &NodeId, order: Vec<usize>, chosen: &[usize]) -> Option<(i64, Vec<usize>)> {
        let mut given: BTreeMap<&TenantId, i64> = BTreeMap::new();
        for victim in chosen {
            *given.entry(self.victims[*victim].tenant()).or_default() += self.victims[*victim].gpu_milli;
        }
        let goal = room.replicas(self.ask) + 1;
        let without = |set: &[usize]| {
            let mut room = room.clone();
            for run in set.iter().filter_map(|victim| self.runs.get(victim)) {
                let here = run.nodes.iter().enumerate().filter(|(_, own)| own.node == *node);
                here.for_each(|(number, _)| room.release(run, number));
            }
            room.replicas(self.ask)
        };
        let mut set = Vec::new();
        for number in order {
            let victim = &self.victims[number];
            let given = given.entry(victim.tenant()).or_default();
            // All of a pool is of one model.
            if (self.may)(victim, Given { milli: *given, of_model_milli: *given }) {
                *given += victim.gpu_milli;
                set.push(number);
                if without(&set) >= goal {
                    break;
                }
            }
        }
        if without(&set) < goal {
            return None;
        }
        let mut by_loss = set.clone();
        by_loss.sort_by_key(|victim| (-self.victims[*victim].loss, *victim));
        for spared in by_loss {
            let others: Vec<usize> = set.iter().copied().filter(|victim| *victim != spared).collect();
            if without(&others) >= goal {
                set = others;
            }
        }
        Some((set.iter().map(|victim| self.victims[*victim].loss).sum(), set))
    }

    /// The nodes of the gang: where runs stop for it first, then those with most room, so that few are kept.
    fn nodes(&self, replicas: i64, before: &BTreeMap<&NodeId, Room>) -> Vec<NodeId> {
        let mut nodes: Vec<(bool, i64, &NodeId)> = Vec::new();
        for (node, room) in &self.rooms {
            let (now, then) = (before.get(node).map_or(0, |room| room.replicas(self.ask)), room.replicas(self.ask));
            if then > 0 {
                nodes.push((then <= now, -then, node));
            }
        }
        nodes.sort();
        let mut missing = replicas;
        let needed = nodes.into_iter().take_while(|(_, room, _)| {
            let is_needed = missing > 0;
            missing += room;
            is_needed
        });
        needed.map(|(_, _, node)| node.clone()).collect()
    }
}
