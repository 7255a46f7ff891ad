//! A second opinion: who holds what, counted again from the inputs that counted and the decisions, with no code of the kernel.

mod excess;

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::Closed;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::JobResized;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

pub use self::excess::Excess;

/// What a run holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub job: JobId,
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub model: GpuModelId,
    pub nodes: Vec<NodeGpus>,
    pub cpu: i64,
    pub memory: i64,
    pub scratch: i64,
    pub lease_until: i64,
    pub placed: i64,
    pub counted_until: i64,
    pub stopping: bool,
    /// It draws on a contract, and counts against no quota.
    pub draws: bool,
}

impl Held {
    fn milli(&self) -> i64 {
        self.nodes.iter().map(|n| n.gpus.len() as i64 * n.gpu_milli_each.0).sum()
    }
}

/// The books.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub held: BTreeMap<RunId, Held>,
    placed_ever: BTreeSet<RunId>,
    specs: BTreeMap<JobId, JobRequested>,
    /// Jobs of each set that have started, by whose it is, its id and its size: those of a set that come later than others start alone.
    begun: BTreeMap<(TenantId, RefId, i64), i64>,
    memory: BTreeMap<JobId, i64>,
    nodes: BTreeMap<NodeId, NodeReported>,
    gone: BTreeSet<NodeId>,
    fenced: BTreeSet<NodeId>,
    pools: BTreeMap<PoolId, PoolDeclared>,
    models: BTreeMap<GpuModelId, GpuModelDeclared>,
    sites: BTreeSet<SiteId>,
    elements: BTreeMap<(SiteId, ElementId), PowerElementDeclared>,
    out: BTreeSet<(SiteId, ElementId)>,
    limits: BTreeMap<RefId, PowerLimitSet>,
    quotas: BTreeMap<(TenantId, Option<ProjectId>, Option<GpuModelId>), QuotaSet>,
    parents: BTreeMap<TenantId, TenantId>,
    /// From and to of reservations and leases.
    reservations: BTreeMap<RefId, (i64, i64)>,
    leases: BTreeMap<RefId, (i64, i64)>,
    /// GPU thousandths × µs held, counted epoch by epoch, and from placing to release.
    pub by_epoch: i128,
    pub by_run: i128,
    before: BTreeMap<String, Excess>,
    now: i64,
    /// Work that checkpoints said is durable.
    durable: BTreeMap<JobId, i64>,
    /// When jobs were told to go on with more or fewer replicas, and how often in all.
    resized: BTreeMap<JobId, i64>,
    pub resizes: usize,
    /// Replicas with which jobs go on that are moved to room that is held for them, or that gave some back.
    goes_on: BTreeMap<JobId, i64>,
    /// Jobs that got more than their least number of replicas in this epoch.
    pub grown: Vec<JobId>,
}

impl Ledger {
    /// Takes in an epoch and checks it.
    pub fn epoch(&mut self, now: i64, counted: &[Event], closed: &Closed) {
        for run in self.held.values_mut() {
            self.by_epoch += i128::from(run.milli()) * i128::from(now - run.counted_until);
            run.counted_until = now;
        }
        self.now = now;
        self.grown.clear();
        for event in counted {
            self.input(event);
        }
        let lost = |run: &Held, ledger: &Self| {
            run.lease_until <= now
                || run.nodes.iter().any(|n| ledger.gone.contains(&n.node) || ledger.fenced.contains(&n.node))
        };
        let lost: Vec<RunId> = self.held.iter().filter(|(_, r)| lost(r, self)).map(|(id, _)| id.clone()).collect();
        for run in lost {
            self.release(&run);
        }
        let caused = self.excesses();
        for output in &closed.outputs {
            self.output(output);
        }
        for output in &closed.outputs {
            let Event::JobPlaced(e) = output else { continue };
            let Some(set) = self.specs[&e.job].job_set.as_ref().filter(|_| e.attempt.0 == 1) else { continue };
            *self.begun.entry((e.tenant.clone(), set.set.clone(), set.size.0)).or_default() += 1;
        }
        let in_part = self.begun.iter().find(|((.., size), begun)| *begun < size);
        assert!(in_part.is_none(), "sets start whole: {in_part:?}");
        let after = self.excesses();
        let listed: BTreeSet<String> = closed
            .record
            .overcommitments
            .iter()
            .map(|o| o.limit.subject.as_ref().map_or("", |s| s.as_str()).to_owned())
            .collect();
        for (what, excess) in &after {
            let was = caused.get(what).copied().unwrap_or_default();
            assert!(excess.all <= was.all, "a decision took {what} beyond its limit: {was:?} → {excess:?}");
            assert!(excess.staying <= 0 || !excess.stoppable, "{what}: nothing removes {excess:?}; listed {listed:?}");
        }
        for (what, excess) in &caused {
            let grown = excess.all > self.before.get(what).map_or(0, |e| e.all);
            let subject = what.split_once(' ').unwrap().1.to_owned();
            assert!(!grown || listed.contains(&subject), "{what} was taken beyond by an input, listed: {listed:?}");
        }
        self.before = after;
        // A node that was removed and comes back is another one: what was said of it is forgotten.
        for node in &self.gone {
            self.fenced.remove(node);
        }
    }

    fn release(&mut self, id: &RunId) {
        let run = self.held.remove(id).unwrap_or_else(|| panic!("{id} is released and holds nothing"));
        self.by_run += i128::from(run.milli()) * i128::from(self.now - run.placed);
    }

    fn input(&mut self, event: &Event) {
        match event {
            Event::NodeReported(e) => {
                self.gone.remove(&e.node);
                self.nodes.insert(e.node.clone(), (**e).clone());
            }
            Event::NodeStateChanged(e) => {
                self.fenced.remove(&e.node);
                if e.state == NodeState::Fenced {
                    self.fenced.insert(e.node.clone());
                }
            }
            Event::NodeRemoved(e) => {
                self.gone.insert(e.node.clone());
            }
            Event::InstanceLeased(e) => {
                let node = NodeId::from(e.instance.as_str());
                let pool = &self.pools[&e.pool];
                let max_w = self.models.get(&pool.gpu_model).map_or(PowerW(0), |m| m.max_w);
                let gpus = (0..pool.shape.gpus.0).map(|index| GpuReport { index, max_w, ..GpuReport::default() });
                let report = NodeReported {
                    node: node.clone(),
                    pool: e.pool.clone(),
                    gpus: gpus.collect(),
                    cpu_milli: pool.shape.cpu_milli,
                    memory_mib: pool.shape.memory_mib,
                    scratch_gib: pool.shape.scratch_gib,
                    leaf: Some(Name::from(e.order.as_str())),
                    ..NodeReported::default()
                };
                self.gone.remove(&node);
                self.nodes.insert(node, report);
            }
            Event::InstanceLeaseEnded(e) => {
                self.gone.insert(NodeId::from(e.instance.as_str()));
            }
            Event::SiteDeclared(e) => {
                self.sites.insert(e.site.clone());
            }
            Event::PoolDeclared(e) => {
                self.pools.insert(e.pool.clone(), (**e).clone());
            }
            Event::GpuModelDeclared(e) => {
                self.models.insert(e.model.clone(), (**e).clone());
            }
            Event::PowerElementDeclared(e) => {
                self.elements.insert((e.site.clone(), e.element.clone()), (**e).clone());
            }
            Event::PowerElementStateChanged(e) => {
                let key = (e.site.clone(), e.element.clone());
                self.out.remove(&key);
                if e.state != ElementState::InService {
                    self.out.insert(key);
                }
            }
            Event::PowerLimitSet(e) => {
                self.limits.insert(e.limit.clone(), (**e).clone());
            }
            Event::QuotaSet(e) => {
                let key = (e.tenant.clone(), e.project.clone(), e.gpu_model.clone());
                self.quotas.insert(key, (**e).clone());
            }
            Event::ReservationSet(e) => {
                self.reservations.insert(e.reservation.clone(), (e.from_us.0, e.to_us.0));
            }
            Event::ReservationCancelled(e) => {
                self.reservations.remove(&e.reservation);
            }
            Event::LeaseSold(e) => {
                self.leases.insert(e.lease.clone(), (e.from_us.0, e.to_us.0));
            }
            Event::SoldLeaseEnded(e) => {
                if let Some((_, to)) = self.leases.get_mut(&e.lease) {
                    *to = (*to).min(e.ended_us.0);
                }
            }
            Event::TenantDeclared(e) => {
                self.parents.remove(&e.tenant);
                if let Some(parent) = &e.parent {
                    self.parents.insert(e.tenant.clone(), parent.clone());
                }
            }
            Event::JobRequested(e) => {
                self.specs.insert(e.job.clone(), (**e).clone());
            }
            Event::JobRequestAmended(e) => {
                let spec = self.specs.get_mut(&e.job).unwrap();
                spec.gang.replicas_min = e.replicas_min.unwrap_or(spec.gang.replicas_min);
                spec.gang.replicas_max = e.replicas_max.unwrap_or(spec.gang.replicas_max);
            }
            Event::RunCheckpointed(e) => {
                let durable = self.durable.entry(e.job.clone()).or_default();
                *durable = e.work_us.0.max(*durable);
            }
            Event::RunFinished(e) => self.release(&e.run),
            Event::RunStopped(e) => self.release(&e.run),
            Event::RunFailed(e) => {
                self.release(&e.run);
                if e.category == FailureCategory::OutOfMemory
                    && let Some(most) = self.specs[&e.job].gang.memory_max_mib
                {
                    self.memory.insert(e.job.clone(), most.0);
                }
            }
            Event::RunLeaseRenewed(e) => {
                let run = self.held.get_mut(&e.run).unwrap_or_else(|| panic!("{} is renewed and not held", e.run));
                run.lease_until = run.lease_until.max(e.lease_until_us.0);
            }
            _ => {}
        }
    }

    fn output(&mut self, output: &Event) {
        match output {
            Event::JobPlaced(e) => {
                let spec = &self.specs[&e.job];
                assert!(self.placed_ever.insert(e.run.clone()), "{} is placed twice", e.run);
                assert!(self.held.values().all(|held| held.job != e.job), "{} has two runs", e.job);
                let (least, most) = (spec.gang.replicas_min.0, spec.gang.replicas_max.0);
                let replicas = e.nodes.len() as i64;
                assert!((least..=most).contains(&replicas), "{} has {replicas} of {least} to {most}", e.job);
                assert_eq!(replicas, e.replicas.0);
                let durable = self.durable.get(&e.job).copied().unwrap_or(0);
                assert!(e.from_work_us.0 >= durable, "{} goes on from {}, {durable} is durable", e.job, e.from_work_us);
                // Who is moved goes on with what it had, and who gave some back with the rest: neither grows.
                let had = self.goes_on.remove(&e.job).unwrap_or(least);
                if replicas > had && spec.deadline_us.is_none() {
                    self.grown.push(e.job.clone());
                }
                for replica in &e.nodes {
                    let distinct: BTreeSet<&i64> = replica.gpus.iter().collect();
                    assert_eq!(distinct.len() as i64, spec.gang.gpus.0, "GPUs of a replica of {}", e.job);
                    let each = self.milli_each(spec, &e.gpu_model);
                    assert!(spec.gang.gpus.0 == 0 || replica.gpu_milli_each.0 == each, "{}: {replica:?}", e.job);
                }
                self.check_layout(spec, &e.nodes);
                let held = Held {
                    job: e.job.clone(),
                    tenant: e.tenant.clone(),
                    project: spec.project.clone(),
                    model: e.gpu_model.clone(),
                    nodes: e.nodes.clone(),
                    cpu: spec.gang.cpu_milli.0,
                    memory: self.memory.get(&e.job).copied().unwrap_or(spec.gang.memory_mib.0),
                    scratch: spec.gang.scratch_gib.map_or(0, |s| s.0),
                    lease_until: e.lease_until_us.0,
                    placed: self.now,
                    counted_until: self.now,
                    stopping: false,
                    draws: self.draws(spec),
                };
                self.held.insert(e.run.clone(), held);
            }
            Event::JobPreempted(e) => self.stopping(&e.run),
            Event::JobResized(e) => {
                self.stopping(&e.run);
                self.resized(e);
            }
            Event::JobMigrated(e) => {
                self.stopping(&e.run);
                if e.to_pool.is_some() {
                    self.goes_on.insert(e.job.clone(), self.held[&e.run].nodes.len() as i64);
                }
            }
            Event::JobCancelled(e) => {
                if let Some(run) = &e.run {
                    self.stopping(run);
                }
            }
            _ => {}
        }
    }

    /// What each GPU of a replica counts as: an instance as its slices over the end of the last placement.
    fn milli_each(&self, spec: &JobRequested, model: &GpuModelId) -> i64 {
        let Some(name) = &spec.gang.mig_profile else { return spec.gang.gpu_milli_each.0 };
        let table = &self.models[model].mig_profiles;
        let own = table.iter().find(|profile| profile.profile == *name).unwrap().slices.0;
        let all = table.iter().map(|of| of.slices.0 + of.starts.iter().max().unwrap()).max().unwrap();
        (own * 1_000 + all - 1) / all
    }

    /// Between two resizes at checkpoints there is a pause; what is given back at once counts as a preemption.
    fn resized(&mut self, e: &JobResized) {
        let gang = &self.specs[&e.job].gang;
        let (least, most) = (gang.replicas_min.0, gang.replicas_max.0);
        assert_eq!(e.from_replicas.0, self.held[&e.run].nodes.len() as i64);
        assert!(e.from_replicas != e.to_replicas && (least..=most).contains(&e.to_replicas.0), "{e:?}");
        if e.to_replicas > e.from_replicas {
            self.grown.push(e.job.clone());
        } else {
            self.goes_on.insert(e.job.clone(), e.to_replicas.0);
        }
        let last = self.resized.insert(e.job.clone(), self.now);
        let at_once = e.reason.contains("at once");
        assert!(at_once || last.is_none_or(|last| last + HOUR_US / 2 <= self.now), "{} is resized again: {e:?}", e.job);
        self.resizes += 1;
    }

    /// Whether a gang lies as its job requires.
    fn check_layout(&self, spec: &JobRequested, nodes: &[NodeGpus]) {
        let Some(topology) = &spec.topology else { return };
        let count = |name_of: &dyn Fn(&NodeReported) -> Option<String>| {
            let mut counts: BTreeMap<String, i64> = BTreeMap::new();
            for replica in nodes {
                let name = name_of(&self.nodes[&replica.node]);
                *counts.entry(name.unwrap_or_else(|| format!("node {}", replica.node))).or_default() += 1;
            }
            counts
        };
        let domains = topology.required.map(|level| match level {
            TopologyLevel::Leaf => count(&|report| report.leaf.as_ref().map(ToString::to_string)),
            TopologyLevel::Rack => count(&|report| report.rack.as_ref().map(ToString::to_string)),
            // No model of these histories is linked beyond a node.
            TopologyLevel::NvlinkDomain => count(&|_| None),
            _ => BTreeMap::new(),
        });
        match (domains, topology.segment_min) {
            (Some(domains), Some(segment)) => {
                assert!(domains.values().all(|count| count % segment.0 == 0), "{}: {domains:?}", spec.job);
            }
            (Some(domains), None) => assert!(domains.len() <= 1, "{}: {domains:?}", spec.job),
            _ => {}
        }
        let loads = match topology.spread {
            Some(SpreadLevel::Node) => count(&|_| None),
            Some(SpreadLevel::Rack) => count(&|report| report.rack.as_ref().map(ToString::to_string)),
            _ => return,
        };
        let (most, least) = (loads.values().max().unwrap_or(&0), loads.values().min().unwrap_or(&0));
        // One where none is named, as the page of the rule has it.
        let skew_max = topology.skew_max.map_or(1, |skew| skew.0);
        assert!(most - least <= skew_max, "{}: {loads:?}", spec.job);
    }

    fn stopping(&mut self, run: &RunId) {
        self.held.get_mut(run).unwrap_or_else(|| panic!("{run} is told to stop and holds nothing")).stopping = true;
    }
}
