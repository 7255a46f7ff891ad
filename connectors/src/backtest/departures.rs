//! Packing while pods come and go: the pods of the trace arrive when they arrived and leave when they have run for as long as they
//! ran, on a fleet that is cut until some have to wait.
//!
//! The protocol, so that a run is the same work whoever does it. The fleet is each so-many-th node in the order of `sn`, and the
//! first of every GPU model that this leaves out. The first fiftieth of the pods is left out: on openb it comes in 116 days, and the
//! rest in 33, with a third of the GPU time. Lengths are stretched by one factor, so that the GPU time that would be in use up
//! to the last arrival if nobody waited comes to the offered load. Pods that would not fit the empty fleet are left out. Who does
//! not fit waits; whenever a pod has left, all who wait are tried in the order in which they came, and nobody blocks those behind.
//! Everything is counted up to the last arrival. Floating point is for the report only.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use solyx_kernel::packing::{Ask, Choice, GPU_MILLI, Inventory, Kind, Kinds, Rule, Scope};

use super::BacktestError;
use super::openb::{Stay, TraceNode};
use super::packing::{Frequencies, Models, PLAN_INTERVAL, Planner, kind_of};

/// One pod in so many, the first ones, is left out.
const EARLY: usize = 50;

/// Lengths are stretched by this at most.
const STRETCH_MAX: f64 = 1e6;
/// How often that is halved to find the factor.
const HALVINGS: u32 = 60;

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The rule.
    pub policy: Rule,
    /// What the kernel's own rule knows of the kinds of pods.
    pub frequencies: Frequencies,
    /// One node in so many stays.
    pub each: usize,
    /// GPU time asked for over GPU time there is.
    pub load: f64,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeparturesReport {
    /// The rule.
    pub policy: String,
    /// GPU time asked for over GPU time there is.
    pub load: f64,
    /// Nodes.
    pub nodes: usize,
    /// Their GPUs.
    pub gpus: i64,
    /// By what lengths were multiplied.
    pub stretch: f64,
    /// Pods that arrived.
    pub pods: usize,
    /// Pods that no node of the empty fleet would have held.
    pub left_out: usize,
    /// GPU time in use, per cent of what there was.
    pub allocated_pct: f64,
    /// GPUs that were waited for, over time, h.
    pub waiting_gpu_h: f64,
    /// GPU time of pods that still waited at the end, h.
    pub unplaced_gpu_h: f64,
    /// Mean wait of the pods that were placed, h.
    pub mean_wait_h: f64,
    /// Pods that still waited at the end.
    pub unplaced: usize,
}

/// One node in so many in the order of `sn`, and the first of each model that is not among them.
fn cut(nodes: &[TraceNode], each: usize) -> Vec<&TraceNode> {
    let mut kept: Vec<&TraceNode> = nodes.iter().step_by(each.max(1)).collect();
    let mut models: BTreeSet<&str> = kept.iter().map(|node| node.model.as_str()).collect();
    for node in nodes {
        if models.insert(&node.model) {
            kept.push(node);
        }
    }
    kept
}

/// A pod that is there or still to come.
struct Pod {
    ask: Ask,
    /// The number of its kind: those of one fit where one of them does.
    kind: usize,
    arrives_s: i64,
    runs_s: i64,
}

/// Runs it.
pub fn run(nodes: &[TraceNode], stays: &[Stay], setting: Setting) -> Result<DeparturesReport, BacktestError> {
    let kept = cut(nodes, setting.each);
    let models = Models::of(kept.iter().copied(), stays.iter().map(|stay| &stay.pod));
    let mut empty = Inventory::new(&Kinds::default());
    for (number, node) in kept.iter().enumerate() {
        empty.add(models.spec(node, number));
    }
    let gpu_milli: i64 = kept.iter().map(|node| node.gpus * GPU_MILLI).sum();
    let mut numbers: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut pods: Vec<Pod> = Vec::new();
    let mut stays: Vec<&Stay> = stays.iter().collect();
    stays.sort_by_key(|stay| stay.created_s);
    let stays = &stays[stays.len() / EARLY..];
    for stay in stays {
        let ask = models.ask(&stay.pod);
        if empty.choose(Rule::BestFit, &ask, Scope::ALL).is_some() {
            let next = numbers.len();
            let kind = *numbers.entry(kind_of(&ask)).or_insert(next);
            pods.push(Pod { ask, kind, arrives_s: stay.created_s, runs_s: stay.ran_s() });
        }
    }
    let left_out = stays.len() - pods.len();
    let (Some(first), Some(last)) = (pods.first(), pods.last()) else { return Err(BacktestError::NoJobs) };
    let (first_s, last_s) = (first.arrives_s, last.arrives_s);
    let there_is = gpu_milli as f64 * (last_s - first_s).max(1) as f64;
    let stretch = stretch_for(&pods, last_s, setting.load * there_is);
    for pod in &mut pods {
        pod.runs_s = stretched(pod.runs_s, stretch);
    }
    let kinds = Kinds::new(pods.iter().map(|pod| kind_of(&pod.ask)));
    let mut scene = Scene::new(&pods, setting, empty, &kinds, numbers.len());
    for (number, pod) in pods.iter().enumerate() {
        scene.until(pod.arrives_s);
        scene.arrive(number);
    }
    let Scene { waiting, waited_s, placed, used_milli_s, waiting_milli_s, .. } = scene;
    let gpu_h = |milli_s: f64| milli_s / GPU_MILLI as f64 / 3_600.0;
    let unplaced = waiting.iter().map(|number| &pods[*number]);
    Ok(DeparturesReport {
        policy: setting.policy.name().to_owned(),
        load: setting.load,
        nodes: kept.len(),
        gpus: gpu_milli / GPU_MILLI,
        stretch,
        pods: pods.len(),
        left_out,
        allocated_pct: 100.0 * used_milli_s / there_is,
        waiting_gpu_h: gpu_h(waiting_milli_s),
        unplaced_gpu_h: gpu_h(unplaced.map(|pod| pod.ask.gpu_milli() as f64 * pod.runs_s as f64).sum()),
        mean_wait_h: waited_s as f64 / f64::from(placed.max(1)) / 3_600.0,
        unplaced: waiting.len(),
    })
}

fn stretched(runs_s: i64, stretch: f64) -> i64 {
    ((runs_s as f64 * stretch) as i64).max(1)
}

/// The factor by which lengths come to so much GPU time until an instant, thousandths of a GPU × s, if nobody waits.
fn stretch_for(pods: &[Pod], until_s: i64, milli_s: f64) -> f64 {
    let asked = |stretch: f64| {
        let of =
            |pod: &Pod| pod.ask.gpu_milli() as f64 * stretched(pod.runs_s, stretch).min(until_s - pod.arrives_s) as f64;
        pods.iter().map(of).sum::<f64>()
    };
    let (mut low, mut high) = (0.0, STRETCH_MAX);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if asked(middle) < milli_s { low = middle } else { high = middle }
    }
    high
}

/// The fleet, who is on it and who waits.
struct Scene<'a> {
    pods: &'a [Pod],
    setting: Setting,
    inventory: Inventory,
    planner: Planner,
    arrived: usize,
    now_s: i64,
    /// By their ends.
    running: BTreeMap<(i64, usize), Choice>,
    /// In the order in which they came.
    waiting: Vec<usize>,
    /// By kind, whether one has been found not to fit since a pod left.
    full: Vec<bool>,
    used_milli: i64,
    waiting_milli: i64,
    used_milli_s: f64,
    waiting_milli_s: f64,
    waited_s: i64,
    placed: u32,
}

impl<'a> Scene<'a> {
    fn new(pods: &'a [Pod], setting: Setting, mut inventory: Inventory, kinds: &Kinds, count: usize) -> Self {
        if setting.policy != Rule::Solyx || setting.frequencies == Frequencies::Prior {
            inventory.set_kinds(kinds);
        }
        Self {
            pods,
            setting,
            inventory,
            planner: Planner::new(setting.frequencies, kinds),
            arrived: 0,
            now_s: pods.first().map_or(0, |pod| pod.arrives_s),
            running: BTreeMap::new(),
            waiting: Vec::new(),
            full: vec![false; count],
            used_milli: 0,
            waiting_milli: 0,
            used_milli_s: 0.0,
            waiting_milli_s: 0.0,
            waited_s: 0,
            placed: 0,
        }
    }

    /// Lets time go on, and pods leave whose end has come.
    fn until(&mut self, at_s: i64) {
        while let Some(end) = self.running.first_key_value().map(|((end, _), _)| *end).filter(|end| *end <= at_s) {
            self.pass(end);
            while let Some(slot) = self.running.first_entry().filter(|slot| slot.key().0 <= end) {
                let ((_, number), choice) = slot.remove_entry();
                let ask = &self.pods[number].ask;
                // It gives back what it was given.
                if self.inventory.release(&choice, ask).is_ok() {
                    self.used_milli -= ask.gpu_milli();
                }
            }
            self.full.fill(false);
            for number in std::mem::take(&mut self.waiting) {
                if self.start(number) {
                    self.waiting_milli -= self.pods[number].ask.gpu_milli();
                } else {
                    self.waiting.push(number);
                }
            }
        }
        self.pass(at_s);
    }

    fn pass(&mut self, to_s: i64) {
        let took = (to_s - self.now_s).max(0) as f64;
        self.used_milli_s += self.used_milli as f64 * took;
        self.waiting_milli_s += self.waiting_milli as f64 * took;
        self.now_s = self.now_s.max(to_s);
    }

    fn arrive(&mut self, number: usize) {
        let count = self.arrived;
        self.arrived += 1;
        let due = count.is_multiple_of(PLAN_INTERVAL) || count < PLAN_INTERVAL && count.is_power_of_two();
        if self.setting.policy == Rule::Solyx && due && self.planner.may_plan(count) {
            self.planner.plan(&mut self.inventory);
        }
        let ask = &self.pods[number].ask;
        self.planner.arrived(ask);
        if !self.start(number) {
            self.waiting_milli += ask.gpu_milli();
            self.waiting.push(number);
        }
    }

    fn start(&mut self, number: usize) -> bool {
        let pod = &self.pods[number];
        if self.full[pod.kind] {
            return false;
        }
        let choice = self.inventory.choose(self.setting.policy, &pod.ask, Scope::ALL);
        // A choice always fits the inventory it was made from.
        let taken = choice.filter(|choice| self.inventory.allocate(choice, &pod.ask).is_ok());
        let Some(choice) = taken else {
            self.full[pod.kind] = true;
            return false;
        };
        self.used_milli += pod.ask.gpu_milli();
        self.waited_s += self.now_s - pod.arrives_s;
        self.placed += 1;
        self.running.insert((self.now_s + pod.runs_s, number), choice);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::backtest::openb::TracePod;

    fn node(sn: &str, model: &str) -> TraceNode {
        TraceNode { sn: sn.to_owned(), cpu_milli: 64_000, memory_mib: 262_144, gpus: 2, model: model.to_owned() }
    }

    fn stay(name: &str, gpus: i64, created_s: i64, ran_s: i64) -> Stay {
        let pod = TracePod {
            name: name.to_owned(),
            cpu_milli: 1_000,
            memory_mib: 1_024,
            gpus,
            gpu_milli: 1_000,
            models: Vec::new(),
        };
        Stay { pod, created_s, deleted_s: created_s + ran_s }
    }

    #[test]
    fn who_waits_starts_when_another_has_left_and_what_waited_is_counted() {
        let nodes = [node("a", "T4")];
        // 2 GPUs for 100 s of a span of 200 s, and 1 for 200 s from 50 s on: it waits until 100 s.
        let stays = [stay("1", 2, 0, 100), stay("2", 1, 50, 200), stay("3", 8, 60, 1), stay("4", 0, 200, 1)];
        let load = 350.0 / 400.0;
        let setting = Setting { policy: Rule::BestFit, frequencies: Frequencies::Prior, each: 1, load };
        let report = run(&nodes, &stays, setting).unwrap();
        assert_eq!((report.pods, report.left_out, report.unplaced), (3, 1, 0));
        assert!((report.stretch - 1.0).abs() < 1e-6, "{report:?}");
        assert!((report.waiting_gpu_h - 50.0 / 3_600.0).abs() < 1e-9, "{report:?}");
        // 200 and 100 of 400 GPU-seconds.
        assert!((report.allocated_pct - 75.0).abs() < 1e-9, "{report:?}");
        assert_eq!(report.unplaced_gpu_h, 0.0);
    }

    #[test]
    fn a_cut_fleet_keeps_every_model() {
        let nodes: Vec<TraceNode> = (0..10).map(|i| node(&format!("{i}"), if i == 7 { "A10" } else { "T4" })).collect();
        let kept: Vec<&str> = cut(&nodes, 5).iter().map(|node| node.sn.as_str()).collect();
        assert_eq!(kept, ["0", "5", "7"]);
        assert!(matches!(
            run(&nodes, &[], Setting { policy: Rule::Fgd, frequencies: Frequencies::Prior, each: 1, load: 1.0 }),
            Err(BacktestError::NoJobs)
        ));
    }
}
