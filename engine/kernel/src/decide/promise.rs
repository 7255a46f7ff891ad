//! The earliest start of a gang that does not fit now: which nodes will have room, and when, if runs end as expected; and
//! what else it needs by then, power and quotas.

use std::collections::BTreeMap;

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::ids::{JobId, NodeId};
use solyx_schemas::units::{DurationUs, SECOND_US, TimeUs};

use super::Epoch;
use super::laid::lay_out;
use super::room::{Room, rooms_of, standing_pools};
use crate::index::{QuotaKey, quota_keys};
use crate::packing::Ask;
use crate::place::{Layout, Promise, Promises, accepted, ask_of, ask_on, duration_of, on_order, quota_most, replica_w};
use crate::power::SitePower;
use crate::rows::{Job, Run, Spec};

/// Time by which a run that has outlived its expected end is taken to end from now.
const OVERDUE_US: i64 = 60 * SECOND_US;

/// What a gang asks for.
struct Gang<'a> {
    job: &'a JobId,
    ask: Ask,
    replicas: i64,
    /// Quotas that it counts against, each with what they leave once all that is on order has come; none where they have no bound.
    keys: Vec<(QuotaKey, Option<i64>)>,
    row: &'a Job,
    spec: &'a Spec,
    /// How long it takes.
    duration: DurationUs,
}

/// The promises that are made to jobs that still wait in line, each beside those before it.
pub fn promised_starts(epoch: &mut Epoch<'_>) -> Promises {
    let mut promises = Promises::default();
    for job in epoch.state.meta().promised.clone() {
        if epoch.index.queue.line_of(&job).is_none() {
            continue;
        }
        let promise = earliest_start(epoch, &job, &promises);
        promise.into_iter().for_each(|promise| promises.make(promise));
    }
    promises
}

/// The promise for a job beside those that others have: over all owned and reserved pools it could use, the one in which it starts
/// first.
pub fn earliest_start(epoch: &mut Epoch<'_>, id: &JobId, promises: &Promises) -> Option<Promise> {
    let (job, spec) = (epoch.state.jobs.get(id)?, epoch.state.spec(id)?);
    let ask = ask_of(epoch.state, &spec, job, epoch.index);
    let mut best: Option<Promise> = None;
    for (declared, model) in standing_pools(epoch, &spec) {
        let on_model = ask_on(epoch.state, &spec, epoch.index, &ask, model);
        let speed = accepted(&spec, declared).map_or(1_000, |(_, speed)| speed);
        let gang = Gang {
            job: id,
            ask: on_model.unwrap_or_else(|| ask.clone()),
            replicas: spec.gang.replicas_min.0,
            keys: quota_keys(epoch.state, &spec.tenant, spec.project.as_ref(), model)
                .into_iter()
                .map(|key| {
                    let left = left_of(epoch, id, &key);
                    (key, left)
                })
                .collect(),
            row: job,
            spec: &spec,
            duration: duration_of(epoch.state, &spec, job, speed).0,
        };
        let rooms = rooms_of(epoch, job, &spec, declared, &gang.ask);
        let mut future = Future::of(&gang.ask, rooms, promises.iter().filter(|promise| promise.job != *id));
        if let Some(promise) = first_fit(epoch, &gang, declared, &mut future)
            && best.as_ref().is_none_or(|best| promise.start < best.start)
        {
            best = Some(promise);
        }
    }
    best
}

/// What a quota leaves for a job once all has come that is on order for others; none when it has no bound.
fn left_of(epoch: &Epoch<'_>, id: &JobId, key: &QuotaKey) -> Option<i64> {
    let most = epoch.state.quotas.get(key).and_then(quota_most)?;
    Some(most - epoch.index.quota_use.get(key).copied().unwrap_or(0) - on_order(epoch.state, key, id))
}

/// What there will be: rooms as runs end, and what others were promised that they have until they are over.
struct Future<'a> {
    /// Nodes with room.
    rooms: BTreeMap<&'a NodeId, Room>,
    /// Replicas that have room, by domain.
    fitting: BTreeMap<String, i64>,
    /// Nodes that are promised to others, with the room there will be once those are over.
    held: BTreeMap<&'a NodeId, Room>,
    /// Others' promises that are not over, the last to end first.
    before: Vec<&'a Promise>,
    /// What has ended.
    ended: Ended,
}

/// What runs that have ended by then no longer take.
#[derive(Default)]
struct Ended {
    /// What is still used of a GPU on which one has ended, thousandths.
    gpu_milli: BTreeMap<(NodeId, i64), i64>,
    /// Power of GPUs that nothing uses any more, by node and GPU.
    idle_w: BTreeMap<NodeId, BTreeMap<i64, i64>>,
    quota: BTreeMap<QuotaKey, i64>,
}

impl<'a> Future<'a> {
    fn of(ask: &Ask, mut rooms: BTreeMap<&'a NodeId, Room>, before: impl Iterator<Item = &'a Promise>) -> Self {
        let mut before: Vec<&Promise> = before.collect();
        before.sort_by(|a, b| (b.end, &b.job).cmp(&(a.end, &a.job)));
        let taken = before.iter().flat_map(|promise| &promise.nodes);
        let held = taken.filter_map(|node| rooms.remove_entry(node)).collect();
        let mut fitting: BTreeMap<String, i64> = BTreeMap::new();
        for room in rooms.values() {
            *fitting.entry(room.group.clone()).or_default() += room.replicas(ask);
        }
        Self { rooms, fitting, held, before, ended: Ended::default() }
    }

    /// When the next of those promised before is over.
    fn next_over(&self) -> Option<TimeUs> {
        self.before.last().map(|promise| promise.end)
    }

    /// The next of those promised before is over: what it had is free, but where another has it after it.
    fn end_promise(&mut self, ask: &Ask) {
        let Some(over) = self.before.pop() else { return };
        for node in over.nodes.iter().filter(|node| !self.before.iter().any(|other| other.nodes.contains(*node))) {
            if let Some((node, room)) = self.held.remove_entry(node) {
                *self.fitting.entry(room.group.clone()).or_default() += room.replicas(ask);
                self.rooms.insert(node, room);
            }
        }
    }

    /// Takes a run off the rooms; whether it was on any of them.
    fn release(&mut self, run: &Run, ask: &Ask) -> bool {
        let mut touched = false;
        for (number, replica) in run.nodes.iter().enumerate() {
            if let Some(room) = self.held.get_mut(&replica.node) {
                room.release(run, number);
            }
            let Some(room) = self.rooms.get_mut(&replica.node) else { continue };
            let before = room.replicas(ask);
            room.release(run, number);
            *self.fitting.entry(room.group.clone()).or_default() += room.replicas(ask) - before;
            touched = true;
        }
        touched
    }

    /// What those promised before have of a quota, thousandths of GPUs.
    fn promised_of(&self, key: &QuotaKey) -> i64 {
        let of_key = self.before.iter().filter(|promise| promise.quota.contains_key(key));
        of_key.map(|promise| promise.gpu_milli).sum()
    }

    /// By how much power changes: by what has ended, and by those promised before.
    fn power_w(&self) -> BTreeMap<NodeId, i64> {
        let idle = self.ended.idle_w.iter();
        let mut power_w: BTreeMap<NodeId, i64> =
            idle.map(|(node, gpus)| (node.clone(), -gpus.values().sum::<i64>())).collect();
        for (node, w) in self.before.iter().flat_map(|promise| &promise.own_w) {
            *power_w.entry(node.clone()).or_default() += w;
        }
        power_w
    }
}

impl Ended {
    /// Takes in a run; says whether the gang has something of it.
    fn take(&mut self, epoch: &Epoch<'_>, run: &Run, gang: &Gang<'_>, pool: &PoolDeclared) -> bool {
        let mut helps = false;
        for key in quota_keys(epoch.state, &run.tenant, run.project.as_ref(), &run.model) {
            if run.draws.is_none() && gang.keys.iter().any(|(own, _)| *own == key) {
                *self.quota.entry(key).or_default() += run.gpu_milli.0;
                helps |= run.gpu_milli.0 > 0;
            }
        }
        if run.site != pool.site {
            return helps;
        }
        for replica in &run.nodes {
            let report = epoch.state.nodes.get(&replica.node).and_then(|node| node.report.as_ref());
            let used = epoch.index.uses.get(&replica.node);
            for gpu in report.into_iter().flat_map(|r| &r.gpus).filter(|gpu| replica.gpus.contains(&gpu.index)) {
                let now = used.and_then(|used| used.gpu_milli.get(&gpu.index)).copied().unwrap_or(0);
                let left = self.gpu_milli.entry((replica.node.clone(), gpu.index)).or_insert(now);
                *left -= replica.gpu_milli_each.0;
                if *left == 0 {
                    self.idle_w.entry(replica.node.clone()).or_default().insert(gpu.index, gpu.max_w.0);
                }
            }
        }
        true
    }
}

/// Lets runs and those promised before end in their expected order until the gang fits, with its power and within its quotas.
fn first_fit(epoch: &Epoch<'_>, gang: &Gang<'_>, pool: &PoolDeclared, future: &mut Future<'_>) -> Option<Promise> {
    let mut start = TimeUs(epoch.now.0 + 1);
    if let Some(promise) = fits(epoch, gang, pool, future, start) {
        return Some(promise);
    }
    let ends = epoch.index.ends.iter().filter_map(|(end, id)| {
        let run = epoch.state.runs.get(id)?;
        let end = run.stop.as_ref().map_or(*end, |stop| stop.by_us.min(*end));
        Some((if end > epoch.now { end } else { TimeUs(epoch.now.0 + OVERDUE_US) }, run))
    });
    let mut ends = ends.peekable();
    loop {
        let next_run = ends.peek().map(|(end, _)| start.max(*end));
        let next_over = future.next_over().filter(|over| next_run.is_none_or(|run| *over < run));
        if let Some(over) = next_over {
            start = start.max(over);
            future.end_promise(&gang.ask);
        } else {
            let (end, run) = ends.next()?;
            // What was let end before has to have ended too: one that was told to stop stands here by its expected end.
            start = start.max(end);
            let released = future.release(run, &gang.ask);
            if !future.ended.take(epoch, run, gang, pool) && !released {
                continue;
            }
        }
        if let Some(promise) = fits(epoch, gang, pool, future, start) {
            return Some(promise);
        }
    }
}

/// The promise of an instant, if the gang fits then.
fn fits(
    epoch: &Epoch<'_>,
    gang: &Gang<'_>,
    pool: &PoolDeclared,
    future: &Future<'_>,
    start: TimeUs,
) -> Option<Promise> {
    let asked = gang.replicas * gang.ask.gpu_milli();
    let change = |key: &QuotaKey| asked + future.promised_of(key) - future.ended.quota.get(key).copied().unwrap_or(0);
    if gang.keys.iter().any(|(key, left)| left.is_some_and(|left| change(key) > left)) {
        return None;
    }
    let mut nodes = nodes_of_gang(epoch, pool, future, gang)?;
    let replica_w = |node: &NodeId| replica_w(epoch.state, &gang.ask, node);
    let before_w = future.power_w();
    let with = |nodes: &BTreeMap<NodeId, i64>| {
        let mut power_w = before_w.clone();
        for (node, replicas) in nodes {
            *power_w.entry(node.clone()).or_default() += replicas * replica_w(node);
        }
        power_w
    };
    let mut power_w = with(&nodes);
    if let Some(power) = epoch.index.power.get(&pool.site)
        && power.overload_later(&power_w, &BTreeMap::new()).is_some()
    {
        // Where it may lie anywhere it may lie where others feed it.
        nodes = nodes_within(power, &before_w, &future.rooms, gang, &replica_w)?;
        power_w = with(&nodes);
        if power.overload_later(&power_w, &BTreeMap::new()).is_some() {
            return None;
        }
    }
    Some(Promise {
        job: gang.job.clone(),
        start,
        end: start.after(gang.duration),
        site: pool.site.clone(),
        gpu_milli: asked,
        own_w: nodes.iter().map(|(node, replicas)| (node.clone(), replicas * replica_w(node))).collect(),
        nodes: nodes.into_keys().collect(),
        power_w,
        idle_w: future.ended.idle_w.clone(),
        quota: gang.keys.iter().map(|(key, _)| (key.clone(), change(key))).collect(),
    })
}

/// The nodes of the first domain that has room for the whole gang, with the replicas on each: those with most room first, so
/// that few are kept.
fn nodes_of_gang(
    epoch: &Epoch<'_>,
    pool: &PoolDeclared,
    future: &Future<'_>,
    gang: &Gang<'_>,
) -> Option<BTreeMap<NodeId, i64>> {
    let rooms = &future.rooms;
    let (group, _) = future.fitting.iter().find(|(_, room)| **room >= gang.replicas)?;
    if Layout::of(gang.spec).is_divided() {
        let rooms: Vec<(&NodeId, i64)> = rooms.iter().map(|(node, room)| (*node, room.replicas(&gang.ask))).collect();
        return lay_out(epoch, (gang.row, gang.spec, &gang.ask), pool, &rooms);
    }
    let mut chosen = BTreeMap::new();
    let mut missing = gang.replicas;
    for (room, node) in by_room(rooms, gang, |room| room.group == *group) {
        if missing <= 0 {
            break;
        }
        chosen.insert(node.clone(), missing.min(room));
        missing -= room;
    }
    Some(chosen)
}

/// The same of a gang that may lie anywhere, on each node as many replicas as are carried beside those before.
fn nodes_within(
    power: &SitePower,
    before_w: &BTreeMap<NodeId, i64>,
    rooms: &BTreeMap<&NodeId, Room>,
    gang: &Gang<'_>,
    replica_w: &dyn Fn(&NodeId) -> i64,
) -> Option<BTreeMap<NodeId, i64>> {
    if !Layout::of(gang.spec).without_preference().is_free() {
        return None;
    }
    let mut beside = power.beside();
    before_w.iter().for_each(|(node, w)| beside.add(node, *w));
    let mut chosen = BTreeMap::new();
    let mut missing = gang.replicas;
    for (room, node) in by_room(rooms, gang, |_| true) {
        let replicas = beside.times(node, replica_w(node), room.min(missing));
        if replicas > 0 {
            beside.add(node, replicas * replica_w(node));
            chosen.insert(node.clone(), replicas);
            missing -= replicas;
        }
        if missing == 0 {
            return Some(chosen);
        }
    }
    None
}

/// Nodes with room for replicas of a gang, with how many, most first.
fn by_room<'r>(
    rooms: &BTreeMap<&'r NodeId, Room>,
    gang: &Gang<'_>,
    may: impl Fn(&Room) -> bool,
) -> Vec<(i64, &'r NodeId)> {
    let open = rooms.iter().filter(|(_, room)| may(room));
    let mut nodes: Vec<(i64, &NodeId)> = open.map(|(node, room)| (room.replicas(&gang.ask), *node)).collect();
    nodes.retain(|(room, _)| *room > 0);
    nodes.sort_by_key(|(room, node)| (-room, *node));
    nodes
}
