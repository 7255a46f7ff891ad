//! Node choice: for one replica, and for gangs all or nothing.

use solyx_schemas::ids::NodeId;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::inventory::Inventory;
use super::mig::instances;
use super::node::{Ask, Choice, NodeHandle, Rule};
use super::score::best_fit_step;
use super::shelf::{Area, Class, Shelf};
use super::state::StateId;

/// Classes per bin from which on the order of a bin is faster than a scan: under best fit, which looks at one step of a bin,
/// and under rules whose score goes up and down from step to step.
const CLASSES_PER_BIN_FALLING: usize = 8;
const CLASSES_PER_BIN_AT_SIZES: usize = 256;

/// How a score depends on free CPU, all else of the state alike.
#[derive(Clone, Copy)]
enum Steps {
    /// It falls, by steps.
    Falling,
    /// It changes where a size of an expected kind of job begins to fit, either way.
    AtSizes,
}

/// Which nodes are looked at.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    areas: Option<&'a [Area]>,
    accepts: Option<&'a dyn Fn(NodeHandle) -> bool>,
}

impl<'a> Scope<'a> {
    /// Every node.
    pub const ALL: Scope<'static> = Scope { areas: None, accepts: None };

    /// Nodes of these areas. Those that overlap give the same nodes, twice looked at.
    pub fn of(areas: &'a [Area]) -> Self {
        Self { areas: Some(areas), accepts: None }
    }

    /// Only nodes for which this is true. It is asked of few nodes: of those that would be chosen.
    pub fn accepting(self, accepts: &'a dyn Fn(NodeHandle) -> bool) -> Self {
        Self { accepts: Some(accepts), ..self }
    }

    /// Whether a node may be chosen, as far as that is asked.
    pub(super) fn takes(&self, node: NodeHandle) -> bool {
        self.accepts.is_none_or(|accepts| accepts(node))
    }

    pub(super) fn shelves<'i>(&self, all: &'i BTreeMap<Area, Shelf>) -> impl Iterator<Item = &'i Shelf> + use<'i, 'a> {
        let named = self.areas.into_iter().flatten().filter_map(|area| all.get(area));
        let pools = self.areas.is_none().then(|| all.range(..Area::Domain(0)).map(|(_, shelf)| shelf));
        named.chain(pools.into_iter().flatten())
    }

    fn first<'c>(&self, class: &'c Class) -> Option<(&'c NodeId, NodeHandle)> {
        let accepts = |node| self.accepts.is_none_or(|accepts| accepts(node));
        class.nodes.iter().find(|(_, node)| accepts(*node)).map(|(name, node)| (name, *node))
    }
}

/// The best found so far.
struct Best {
    score: i64,
    prefix: u64,
    name: NodeId,
    node: NodeHandle,
}

impl Inventory {
    /// The node and GPUs for one replica, or none when it fits nowhere in the scope.
    pub fn choose(&mut self, rule: Rule, ask: &Ask, scope: Scope<'_>) -> Option<Choice> {
        let node = match self.steps(rule) {
            Some(steps) if self.is_worth_ordering(steps, scope) => self.by_order(steps, ask, scope),
            _ => self.by_scan(rule, ask, scope),
        }?;
        self.with_gpus(rule, ask, node)
    }

    /// The same by a scan over all classes, to compare with: in tests, and as a yardstick.
    pub fn choose_by_scan(&mut self, rule: Rule, ask: &Ask, scope: Scope<'_>) -> Option<Choice> {
        let node = self.by_scan(rule, ask, scope)?;
        self.with_gpus(rule, ask, node)
    }

    /// The same by the order of free CPU wherever the rule has steps, also where a scan would be as fast; to compare with.
    pub fn choose_by_order(&mut self, rule: Rule, ask: &Ask, scope: Scope<'_>) -> Option<Choice> {
        let node = match self.steps(rule) {
            Some(steps) => self.by_order(steps, ask, scope),
            None => self.by_scan(rule, ask, scope),
        }?;
        self.with_gpus(rule, ask, node)
    }

    /// How a rule's score depends on free CPU, when it does so by steps.
    fn steps(&self, rule: Rule) -> Option<Steps> {
        match self.scorer.effective(rule) {
            Rule::BestFit => Some(Steps::Falling),
            Rule::Solyx if self.scorer.market.is_some() => None,
            Rule::Fgd | Rule::Solyx => Some(Steps::AtSizes),
        }
    }

    /// Looking into every bin costs more than looking at a class does.
    fn is_worth_ordering(&self, steps: Steps, scope: Scope<'_>) -> bool {
        let (mut classes, mut bins) = (0, 0);
        for shelf in scope.shelves(&self.shelves) {
            classes += shelf.classes.len();
            bins += shelf.bins.len();
        }
        let as_many = match steps {
            Steps::Falling => CLASSES_PER_BIN_FALLING,
            Steps::AtSizes => CLASSES_PER_BIN_AT_SIZES,
        };
        classes > bins * as_many
    }

    fn with_gpus(&self, rule: Rule, ask: &Ask, node: NodeHandle) -> Option<Choice> {
        if ask.gpus <= 0 {
            return Some(Choice { node, gpus: Vec::new(), starts: Vec::new() });
        }
        let state = self.states.get(self.state_of(node)?);
        let slots = &self.get(node)?.gpus;
        if let Some(division) = &ask.mig {
            let (gpus, starts) = instances(ask, division, slots);
            return Some(Choice { node, gpus, starts });
        }
        let gpus = self.scorer.gpus(rule, ask, &state.seen_by(ask), slots);
        Some(Choice { node, gpus, starts: Vec::new() })
    }

    /// Bin by bin: where free CPU is ordered, the first that fits says what the score is up to the next step, and the least
    /// name within a step is found without looking at all of it.
    fn by_order(&self, steps: Steps, ask: &Ask, scope: Scope<'_>) -> Option<NodeHandle> {
        let mut best: Option<Best> = None;
        for shelf in scope.shelves(&self.shelves) {
            for bin in shelf.bins.values().filter(|bin| bin.like.suits(ask)) {
                let accepted = |id: StateId| scope.first(shelf.classes.get(&id)?);
                let mut from = ask.cpu_milli;
                let seen = bin.like.seen_by(ask);
                let free_gpu_milli = match &seen {
                    Cow::Borrowed(_) => bin.free_gpu_milli,
                    Cow::Owned(seen) => seen.free_gpu_milli(),
                };
                let mut like = None;
                while let Some((cpu_milli, ..)) = bin.tree.first_fit(from, ask, &mut |id| accepted(id).is_some()) {
                    let (score, end) = match steps {
                        _ if ask.mig.is_some() => match super::score::of_instances(ask, &seen) {
                            // Nothing of it depends on free CPU.
                            Some(score) => (score, i64::MAX),
                            None => break,
                        },
                        Steps::Falling => best_fit_step(ask, cpu_milli, free_gpu_milli),
                        Steps::AtSizes => {
                            let like = like.get_or_insert_with(|| seen.clone().into_owned());
                            like.cpu_free_milli = cpu_milli;
                            match self.scorer.coarse_step(ask, like) {
                                Some(step) => step,
                                None => break,
                            }
                        }
                    };
                    if best.as_ref().is_none_or(|best| score >= best.score) {
                        let limit = best.as_ref().filter(|best| best.score == score).map(|best| best.name.clone());
                        let mut least = limit.clone();
                        bin.tree.least_names(cpu_milli..end, ask, limit, &mut |id| {
                            let (name, node) = accepted(id)?;
                            if least.as_ref().is_some_and(|least| name >= least) {
                                return None;
                            }
                            least = Some(name.clone());
                            best = Some(Best { score, prefix: 0, name: name.clone(), node });
                            least.clone()
                        });
                    }
                    if matches!(steps, Steps::Falling) || end == i64::MAX {
                        break;
                    }
                    from = end;
                }
            }
        }
        best.map(|best| best.node)
    }

    fn by_scan(&mut self, rule: Rule, ask: &Ask, scope: Scope<'_>) -> Option<NodeHandle> {
        let Self { states, shelves, scorer, memory, .. } = self;
        let scores = memory.scores(rule, ask, states.capacity());
        let mut best: Option<Best> = None;
        for (id, class) in scope.shelves(shelves).flat_map(|shelf| &shelf.classes) {
            let Some(score) = scores.get(*id, class.generation, || scorer.score(rule, ask, states.get(*id))) else {
                continue;
            };
            if let Some(best) = &best
                && (score < best.score
                    || score == best.score && (class.prefix, class.first_name()) >= (best.prefix, &best.name))
            {
                continue;
            }
            let Some((name, node)) = scope.first(class) else { continue };
            if best.as_ref().is_none_or(|best| (Reverse(score), name) < (Reverse(best.score), &best.name)) {
                best = Some(Best { score, prefix: super::shelf::prefix(name), name: name.clone(), node });
            }
        }
        best.map(|best| best.node)
    }

    /// How many replicas fit in the scope, counted up to `limit`.
    pub fn feasible_replicas(&self, ask: &Ask, scope: Scope<'_>, limit: i64) -> i64 {
        let mut fitting = 0;
        for shelf in scope.shelves(&self.shelves) {
            for bin in shelf.bins.values().filter(|bin| bin.like.suits(ask)) {
                bin.tree.each_fit(ask, &mut |id| {
                    let Some(class) = shelf.classes.get(&id) else { return true };
                    let each = self.states.get(id).replicas(ask, limit);
                    let nodes = match scope.accepts {
                        None => class.nodes.len() as i64,
                        Some(accepts) => class.nodes.iter().filter(|(_, node)| accepts(*node)).count() as i64,
                    };
                    fitting = i64::saturating_add(fitting, each.saturating_mul(nodes));
                    fitting < limit
                });
                if fitting >= limit {
                    return limit;
                }
            }
        }
        fitting
    }

    /// Nodes and GPUs for all replicas of a gang within the scope, or none; nothing is taken.
    pub fn choose_gang(&mut self, rule: Rule, ask: &Ask, replicas: i64, scope: Scope<'_>) -> Option<Vec<Choice>> {
        if self.feasible_replicas(ask, scope, replicas) < replicas {
            return None;
        }
        let mut gang = Vec::new();
        for _ in 0..replicas {
            let Some(choice) = self.choose(rule, ask, scope) else { break };
            if self.allocate(&choice, ask).is_err() {
                break;
            }
            gang.push(choice);
        }
        for choice in gang.iter().rev() {
            let released = self.release(choice, ask);
            assert!(released.is_ok(), "what was just taken can be given back");
        }
        (gang.len() as i64 == replicas).then_some(gang)
    }

    /// The fabric domain of a pool in which a whole gang fits and the least room is left, ties by its first node's name.
    pub fn tightest_domain(
        &self,
        ask: &Ask,
        replicas: i64,
        pool: u32,
        accepts: Option<&dyn Fn(NodeHandle) -> bool>,
    ) -> Option<u32> {
        let mut best: Option<(i64, &NodeId, u32)> = None;
        for (_, domain) in self.domains.range((pool, 0)..=(pool, u32::MAX)) {
            let areas = [Area::Domain(*domain)];
            let scope = Scope { areas: Some(&areas), accepts };
            // Room is counted beyond the gang only as far as it can matter.
            let room = self.feasible_replicas(ask, scope, i64::from(u32::MAX));
            let name =
                self.shelves.get(&areas[0]).and_then(|shelf| shelf.classes.values().map(Class::first_name).min());
            if room >= replicas
                && let Some(name) = name
                && best.is_none_or(|(best_room, best_name, _)| (room, name) < (best_room, best_name))
            {
                best = Some((room, name, *domain));
            }
        }
        best.map(|(_, _, domain)| domain)
    }
}
