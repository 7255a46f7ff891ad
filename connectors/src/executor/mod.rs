//! The simulated executor: carries out decisions in a world made of scripts, and reports what real executors, node agents
//! and provider connectors would.
//!
//! It is a pure function of its scripts and of the epochs it observes. What is due at an instant happens before the
//! decisions of an epoch with that `now`, whenever the driver asks for the reports; nothing is drawn from a stream. Hence a
//! restart observes history again and drops as many reports as the log has. What it holds is bounded by the jobs that
//! are not over, the fleet and the leases; it never reads or writes a log itself.

mod charge;
pub(crate) mod draws;
mod facts;
mod hosts;
mod leases;
mod observe;
mod reports;
mod run;
mod runs;
mod scripts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use solyx_runtime::lockstep::Lockstep;
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::ids::*;
use solyx_schemas::log::{Log, LogError, ReadLimit};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

use facts::Facts;
use hosts::Node;
use leases::Instance;
use run::Run;
use scripts::Scripts;

/// Records and bytes of one read of the scripts.
const SCRIPTS_READ: ReadLimit = ReadLimit { records: 4_096, bytes: 4 << 20 };

/// What a due instant is of. The order decides between what is due at the same instant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Power readings of all nodes.
    Power,
    /// The next scripted change of a pool.
    Pool(PoolId),
    /// The next failure, fencing or repair of a node.
    Node(NodeId),
    /// The start, reclaim or end of a lease.
    Instance(InstanceId),
    /// Whatever a run does next.
    Run(RunId),
}

/// The executor.
#[derive(Debug)]
pub struct SimulatedExecutor {
    name: SourceId,
    scripts: Scripts,
    facts: Facts,
    /// The latest instant of an epoch observed, a report given or a due instant dealt with.
    now: TimeUs,
    due: BTreeSet<(TimeUs, Subject)>,
    runs: BTreeMap<RunId, Run>,
    /// Runs by the node or instance they are on.
    runs_on: BTreeMap<NodeId, BTreeSet<RunId>>,
    nodes: BTreeMap<NodeId, Node>,
    /// How often nodes had failed that were removed.
    failures_before: BTreeMap<NodeId, u64>,
    instances: BTreeMap<InstanceId, Instance>,
    /// Instances leased or to be leased, by pool.
    leased: BTreeMap<PoolId, i64>,
    /// What others reported as the most a pool without a script can give, in all.
    reported_total: BTreeMap<PoolId, i64>,
    /// Pools whose script is being followed.
    followed: BTreeSet<PoolId>,
    /// The next scripted change by pool.
    changes: BTreeMap<PoolId, TimeUs>,
    /// When power is read next.
    power_due: Option<TimeUs>,
    /// Instances about to start or to end as ordered.
    leasing: usize,
    /// Nodes to be fenced or repaired.
    recovering: usize,
    /// Reports due and not yet taken.
    ready: VecDeque<Event>,
    /// Reports given or dropped, in all.
    handed_on: u64,
    /// Reports up to this number are dropped.
    drop_until: u64,
}

impl SimulatedExecutor {
    /// An executor of this name, without scripts: no delays, no failures, and jobs last as long as they expect to.
    pub fn new(name: impl Into<SourceId>) -> Self {
        Self {
            name: name.into(),
            scripts: Scripts::default(),
            facts: Facts::default(),
            now: TimeUs::ZERO,
            due: BTreeSet::new(),
            runs: BTreeMap::new(),
            runs_on: BTreeMap::new(),
            nodes: BTreeMap::new(),
            failures_before: BTreeMap::new(),
            instances: BTreeMap::new(),
            leased: BTreeMap::new(),
            reported_total: BTreeMap::new(),
            followed: BTreeSet::new(),
            changes: BTreeMap::new(),
            power_due: None,
            leasing: 0,
            recovering: 0,
            ready: VecDeque::new(),
            handed_on: 0,
            drop_until: 0,
        }
    }

    /// An executor with the scripts of a log's topic `sim`, as far as it is written now. Records that do not decode are
    /// left out: the topic is not judged by anyone.
    pub fn from_log(name: impl Into<SourceId>, log: &dyn Log) -> Result<Self, LogError> {
        let mut executor = Self::new(name);
        let topic = TopicName::live(Topic::Sim);
        for partition in 0..log.partitions(topic) {
            let mut next = 0;
            loop {
                let records = log.read(topic, partition, next, SCRIPTS_READ)?;
                let Some(last) = records.last() else { break };
                next = last.ordinal + 1;
                for stored in &records {
                    match Codec::global().decode_record(&stored.record) {
                        Ok(decoded) => executor.script(&decoded.event),
                        Err(error) => tracing::warn!(ordinal = stored.ordinal, %error, "script left out"),
                    }
                }
            }
        }
        Ok(executor)
    }

    /// Takes in a `WorkScripted`, `AvailabilityScripted` or `ExecutorScripted`; before any epoch is observed. Of two
    /// scripts for the same thing the first holds.
    pub fn script(&mut self, event: &Event) {
        self.scripts.add(&self.name, event);
    }

    /// Deals with all that is due until `to`.
    fn advance(&mut self, to: TimeUs) {
        while self.due.first().is_some_and(|(at, _)| *at <= to) {
            self.step();
        }
        self.now = self.now.max(to);
    }

    /// Deals with what is due first.
    fn step(&mut self) {
        let Some((at, subject)) = self.due.pop_first() else { return };
        self.now = self.now.max(at);
        match subject {
            Subject::Power => self.read_power(at),
            Subject::Pool(pool) => self.change_availability(&pool, at),
            Subject::Node(node) => self.advance_node(&node, at),
            Subject::Instance(instance) => self.advance_instance(&instance, at),
            Subject::Run(run) => self.advance_run(&run, at),
        }
    }

    fn report(&mut self, event: Event) {
        if self.handed_on < self.drop_until {
            self.handed_on += 1;
        } else {
            self.ready.push_back(event);
        }
    }
}

impl Lockstep for SimulatedExecutor {
    fn name(&self) -> SourceId {
        self.name.clone()
    }

    fn observe(&mut self, epoch: &EpochBatch) {
        self.advance(epoch.record.now_us);
        self.learn(epoch);
        self.carry_out(epoch);
    }

    fn next_report_us(&self) -> Option<TimeUs> {
        if !self.ready.is_empty() {
            return Some(self.now);
        }
        self.due.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: TimeUs) -> Vec<Event> {
        self.advance(now);
        self.handed_on += self.ready.len() as u64;
        self.ready.drain(..).collect()
    }

    fn live_runs(&self) -> usize {
        self.runs.len()
    }

    fn next_report_is_background(&self) -> bool {
        let a_job_may_wait_for_it = !self.facts.jobs.is_empty() && (self.recovering > 0 || !self.changes.is_empty());
        self.ready.is_empty() && self.runs.is_empty() && self.leasing == 0 && !a_job_may_wait_for_it
    }

    fn resume_at(&mut self, handed_on: u64) {
        self.drop_until = self.drop_until.max(handed_on);
        while self.handed_on < self.drop_until {
            if self.ready.pop_front().is_some() {
                self.handed_on += 1;
            } else if self.due.is_empty() {
                break;
            } else {
                self.step();
            }
        }
    }
}
