//! A small world around the executor: a scheduler of a few lines, and the lockstep driver that a virtual run has.

mod behaviour;
mod restart;

use std::collections::{BTreeMap, VecDeque};

use solyx_runtime::lockstep::Lockstep;
use solyx_schemas::codec::{Codec, Decoded};
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position};
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::*;
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::jobs::{Gang, JobRequested};
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::plans::*;
use solyx_schemas::hash::Hash32;
use solyx_schemas::units::*;

use super::SimulatedExecutor;

pub(super) const EXECUTOR: &str = "simulated";
pub(super) const T0: TimeUs = TimeUs(1_693_785_600 * SECOND_US);

pub(super) fn at(seconds: i64) -> TimeUs {
    TimeUs(T0.0 + seconds * SECOND_US)
}

pub(super) fn seconds(seconds: i64) -> DurationUs {
    DurationUs(seconds * SECOND_US)
}

pub(super) fn work(seconds: i64) -> WorkUs {
    WorkUs(seconds * SECOND_US)
}

/// An epoch with these inputs and outputs.
pub(super) fn epoch(number: i64, now: TimeUs, inputs: &[Event], mut outputs: Vec<Event>) -> EpochBatch {
    for (index, output) in outputs.iter_mut().enumerate() {
        output.stamp(&solyx_schemas::events::Stamp {
            cell: "cell-a".into(),
            epoch: number,
            term: 0,
            index: index as i64,
            now_us: now,
        });
    }
    let inputs = inputs.iter().enumerate().map(|(ordinal, event)| InputRecord {
        position: Position::new(event.topic(), 0, ordinal as u64),
        decoded: Some(Decoded { event: event.clone(), schema: Codec::global().schema_of(event).1 }),
        skipped: None,
    });
    EpochBatch {
        record: EpochCommitted { cell: "cell-a".into(), epoch: number, now_us: now, ..Default::default() },
        chain_hash: Hash32::default(),
        inputs: inputs.collect(),
        outputs,
    }
}

pub(super) fn habits() -> ExecutorScripted {
    ExecutorScripted {
        executor: EXECUTOR.into(),
        seed: Count(42),
        start_delay_us: seconds(10),
        stop_delay_us: seconds(5),
        busy_power_milli: Milli(800),
        ..Default::default()
    }
}

pub(super) fn script(job: &str, seconds: i64) -> WorkScripted {
    WorkScripted { job: job.into(), work_us: work(seconds), end: ScriptedEnd::Finished, ..Default::default() }
}

pub(super) fn pool(name: &str, class: CapacityClass) -> Event {
    PoolDeclared {
        pool: name.into(),
        provider: "p".into(),
        site: "site".into(),
        class,
        gpu_model: "H100".into(),
        shape: InstanceShape { gpus: Count(8), ..Default::default() },
        minimum_billing_us: seconds(3_600),
        granularity_us: seconds(60),
        start_delay_us: seconds(120),
        ..Default::default()
    }
    .into()
}

pub(super) fn node(name: &str) -> Event {
    let gpus = (0..8).map(|index| GpuReport { index, model: "H100".into(), max_w: PowerW(700), ..Default::default() });
    NodeReported {
        node: name.into(),
        pool: "owned".into(),
        gpus: gpus.collect(),
        idle_w: PowerW(800),
        ..Default::default()
    }
    .into()
}

pub(super) fn request(job: &str, checkpoint: Option<i64>) -> Event {
    JobRequested {
        job: job.into(),
        gang: Gang { replicas_min: Count(1), replicas_max: Count(1), gpus: Count(2), ..Default::default() },
        checkpoint_interval_us: checkpoint.map(seconds),
        checkpoint_mib: checkpoint.map(|_| MemoryMib(1_024)),
        restore_us: Some(seconds(30)),
        ..Default::default()
    }
    .into()
}

pub(super) fn placed(job: &str, attempt: i64, node: &str, from_work: WorkUs, now: TimeUs) -> JobPlaced {
    JobPlaced {
        job: job.into(),
        run: format!("{job}/{attempt}").into(),
        attempt: Count(attempt),
        pool: "owned".into(),
        site: "site".into(),
        nodes: vec![NodeGpus { node: node.into(), gpus: vec![0, 1], gpu_milli_each: GpuMilli(1_000) }],
        replicas: Count(1),
        gpu_milli: GpuMilli(2_000),
        gpu_model: "H100".into(),
        speed_milli: Milli(1_000),
        from_work_us: from_work,
        start_us: now,
        lease_until_us: now.after(seconds(7_200)),
        ..Default::default()
    }
}

/// A fleet of one site, one pool of our own with these nodes, and spot.
pub(super) fn fleet(nodes: &[&str]) -> Vec<Event> {
    let site = SiteDeclared { site: "site".into(), ..Default::default() };
    let price = PoolPriced {
        pool: "spot".into(),
        price_micros_per_gpu_hour: RateMicros(2_000_000),
        currency: Currency::parse("USD").unwrap(),
        ..Default::default()
    };
    let mut events =
        vec![site.into(), pool("owned", CapacityClass::Owned), pool("spot", CapacityClass::Spot), price.into()];
    events.extend(nodes.iter().map(|name| node(name)));
    events
}

/// Runs an executor until `end` under the orders given beforehand; returns its reports with the instants they were given.
pub(super) fn drive(
    executor: &mut SimulatedExecutor,
    end: TimeUs,
    mut script: Vec<(TimeUs, Vec<Event>, Vec<Event>)>,
) -> Vec<Event> {
    script.sort_by_key(|(now, ..)| *now);
    let mut script: VecDeque<_> = script.into();
    let mut reports = Vec::new();
    let mut number = 0;
    loop {
        let next_script = script.front().map(|(now, ..)| *now);
        let Some(now) = [next_script, executor.next_report_us()].into_iter().flatten().min().filter(|now| *now <= end)
        else {
            return reports;
        };
        let reported = executor.next_report_us() == Some(now);
        let mut inputs = executor.take_due(now);
        assert!(!reported || !inputs.is_empty(), "what is due gives a report");
        reports.extend(inputs.clone());
        let mut outputs = Vec::new();
        if next_script == Some(now) {
            let (_, more, orders) = script.pop_front().unwrap();
            inputs.extend(more);
            outputs = orders;
        }
        executor.observe(&epoch(number, now, &inputs, outputs));
        number += 1;
    }
}

/// A scheduler of a few lines: each job on the first node that works, again after each failure, with a preemption now and
/// then, and two spot instances at a time.
#[derive(Default)]
pub(super) struct Toy {
    nodes: BTreeMap<String, bool>,
    attempts: BTreeMap<String, i64>,
    kept: BTreeMap<String, WorkUs>,
    waiting: Vec<String>,
    live: BTreeMap<String, String>,
    epochs: i64,
}

impl Toy {
    fn again(&mut self, job: &str, kept: WorkUs) {
        self.live.remove(job);
        self.kept.insert(job.to_owned(), kept);
        self.waiting.push(job.to_owned());
    }

    pub(super) fn decide(&mut self, now: TimeUs, inputs: &[Event]) -> Vec<Event> {
        use solyx_schemas::events::nodes::NodeState;
        self.epochs += 1;
        let mut out: Vec<Event> = Vec::new();
        for event in inputs {
            match event {
                Event::JobRequested(e) => self.waiting.push(e.job.to_string()),
                Event::NodeReported(e) => drop(self.nodes.insert(e.node.to_string(), true)),
                Event::NodeStateChanged(e) => drop(self.nodes.insert(e.node.to_string(), e.state == NodeState::Ready)),
                Event::RunFailed(e) => self.again(e.job.as_str(), e.durable_work_us),
                Event::RunStopped(e) => self.again(e.job.as_str(), e.kept_work_us),
                Event::RunFinished(e) => drop(self.live.remove(e.job.as_str())),
                Event::InstanceLeased(e) if self.epochs % 2 == 0 => out.push(
                    CapacityReleaseOrdered {
                        pool: e.pool.clone(),
                        instances: vec![e.instance.clone()],
                        at_us: now.after(seconds(5_000)),
                        ..Default::default()
                    }
                    .into(),
                ),
                _ => {}
            }
        }
        self.waiting.sort();
        let up = self.nodes.iter().find(|(_, up)| **up).map(|(name, _)| name.clone());
        if let Some(node) = up {
            for job in std::mem::take(&mut self.waiting) {
                let attempt = self.attempts.entry(job.clone()).or_insert(0);
                *attempt += 1;
                let from = self.kept.get(&job).copied().unwrap_or_default();
                let placement = placed(&job, *attempt, &node, from, now);
                self.live.insert(job, placement.run.to_string());
                out.push(placement.into());
            }
        }
        if self.epochs % 17 == 0
            && let Some((job, run)) = self.live.first_key_value()
        {
            let stop_by_us = now.after(seconds(60));
            out.push(
                JobPreempted { job: job.as_str().into(), run: run.as_str().into(), stop_by_us, ..Default::default() }
                    .into(),
            );
        }
        if self.epochs % 23 == 1 && !self.live.is_empty() {
            let order = CapacityLeaseOrdered { pool: "spot".into(), instances: Count(2), ..Default::default() };
            out.push(order.into());
        }
        out
    }
}
