//! The first jobs of the lines of one class, as far as a pass has got; and whose turn it is among them.
//!
//! The queue keeps the first of every line in order. A pass only remembers how far it has gone in that order, and whom it has
//! come to in lines whose first stays where it is: what it does not look at costs it nothing.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::ids::{JobId, TenantId};
use solyx_schemas::units::TimeUs;

use super::Epoch;
use super::fair::Tree;
use super::share::Shares;
use crate::order_rule::OrderRule;
use crate::queue::{Group, Head, Lines, Queue, Shape, Told, Turn};

/// What is to be done about the job that is next in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be tried.
    Open,
    /// It was tried, and whoever is behind it may be.
    Tried,
    /// Nobody of its line need be.
    Passed,
}

/// First jobs by tenant and what its promised share looks at.
pub(super) struct Heads {
    class: i64,
    tenants: BTreeMap<TenantId, BTreeMap<Group, Cursor>>,
}

/// How far a pass has got among the lines of a tenant and group.
#[derive(Default)]
struct Cursor {
    /// The first jobs up to here are done with.
    after: Option<Head>,
    /// Jobs that are next in lines whose first was tried and stays.
    behind: BTreeSet<Head>,
    /// Who is next.
    next: Option<Head>,
}

impl Heads {
    /// Of a class.
    pub fn of(queue: &Queue, class: i64, verdict: &dyn Fn(&TenantId, &Head, Told) -> Verdict) -> Self {
        let mut heads = Self { class, tenants: BTreeMap::new() };
        for (tenant, _) in queue.tenants(class) {
            heads.settle(queue, tenant, verdict);
        }
        heads
    }

    /// Tenants that have stood in line.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }

    /// The first of each group of a tenant.
    pub fn firsts(&self, tenant: &TenantId) -> impl Iterator<Item = (Group, &Head)> {
        let groups = self.tenants.get(tenant).into_iter().flatten();
        groups.filter_map(|(group, cursor)| Some((*group, cursor.next.as_ref()?)))
    }

    /// Goes on to those of a tenant who may be tried. Whoever was tried since is gone or tried, by now.
    pub fn settle(&mut self, queue: &Queue, tenant: &TenantId, verdict: &dyn Fn(&TenantId, &Head, Told) -> Verdict) {
        let Some(lines) = queue.lines(self.class, tenant) else {
            self.tenants.remove(tenant);
            return;
        };
        let verdict = |head: &Head, told: Told| verdict(tenant, head, told);
        let groups = self.tenants.entry(tenant.clone()).or_default();
        lines.groups().for_each(|group| _ = groups.entry(group).or_default());
        groups.iter_mut().for_each(|(group, cursor)| cursor.settle(lines, *group, &verdict));
    }
}

impl Cursor {
    fn settle(&mut self, lines: &Lines, group: Group, verdict: &dyn Fn(&Head, Told) -> Verdict) {
        let mut first = None;
        let after = self.after.clone();
        for (head, told) in lines.firsts_behind(group, after.as_ref()) {
            match verdict(head, *told) {
                Verdict::Open => {
                    first = Some(head.clone());
                    break;
                }
                Verdict::Tried => self.behind.extend(next_behind(lines, head)),
                Verdict::Passed => {}
            }
            self.after = Some(head.clone());
        }
        while let Some(head) = self.behind.first() {
            let told = lines.told(head);
            match told.map_or(Verdict::Tried, |told| verdict(head, told)) {
                Verdict::Open => break,
                Verdict::Tried => {
                    let next = next_behind(lines, head);
                    self.behind.pop_first();
                    self.behind.extend(next);
                }
                Verdict::Passed => {
                    self.behind.pop_first();
                }
            }
        }
        self.next = first.into_iter().chain(self.behind.first().cloned()).min();
    }
}

/// Who stands behind a job in its line, wherever that is now.
fn next_behind(lines: &Lines, (turn, job, shape): &Head) -> Option<Head> {
    let ((_, turn, job), _) = lines.behind(&(*shape, *turn, job.clone())).next()?;
    Some((*turn, job.clone(), *shape))
}

/// Whose turn it is: kept in order, so that a decision compares only those again whom it has changed.
pub(super) enum Order {
    /// Under dominant-resource fairness: by tenant.
    Fair(Tree),
    /// By turn, those before whom a promise of their tenants still holds wherever they are placed, and of either those who are
    /// owed recovery.
    Turns(Turns),
}

/// Whether somebody is beyond what its tenant is promised, and by when it is owed to run again.
type Rank = (bool, TimeUs);

/// Firsts of each tenant and group: rank, turn, job.
#[derive(Default)]
pub(super) struct Turns {
    order: BTreeSet<(Rank, Turn, JobId, TenantId, Shape)>,
    of: BTreeMap<TenantId, Vec<(Rank, Turn, JobId, Shape)>>,
}

impl Order {
    /// Of all who are next.
    pub fn of(epoch: &Epoch<'_>, rule: OrderRule, heads: &Heads, shares: Option<&Shares>) -> Self {
        let mut order = match rule {
            OrderRule::Classic => Self::Fair(Tree::default()),
            _ => Self::Turns(Turns::default()),
        };
        heads.tenants().for_each(|tenant| order.refresh(epoch, heads, shares, tenant));
        order
    }

    /// Who is next of a tenant, or what counts for it, has changed.
    pub fn refresh(&mut self, epoch: &Epoch<'_>, heads: &Heads, shares: Option<&Shares>, tenant: &TenantId) {
        match self {
            Self::Fair(tree) => {
                tree.refresh(epoch, tenant, heads.firsts(tenant).map(|(_, (turn, ..))| *turn).min());
            }
            Self::Turns(turns) => {
                let is_beyond = |group: Group, shares: &Shares| {
                    let accepted = epoch.index.queue.accepted(group.models);
                    !shares.held(tenant, group.gpu_milli, accepted).everywhere
                };
                turns.refresh(heads, tenant, |group| shares.is_some_and(|shares| is_beyond(group, shares)));
            }
        }
    }

    /// Whose turn it is.
    pub fn next(&self, heads: &Heads) -> Option<(TenantId, Shape, JobId)> {
        match self {
            Self::Fair(tree) => {
                let tenant = tree.least_served()?;
                let (_, (_, job, shape)) = heads.firsts(tenant).min_by_key(|(_, head)| *head)?;
                Some((tenant.clone(), *shape, job.clone()))
            }
            Self::Turns(turns) => turns.next(),
        }
    }
}

impl Turns {
    fn refresh(&mut self, heads: &Heads, tenant: &TenantId, beyond: impl Fn(Group) -> bool) {
        for (rank, turn, job, shape) in self.of.remove(tenant).into_iter().flatten() {
            self.order.remove(&(rank, turn, job, tenant.clone(), shape));
        }
        let ranked = |(group, (turn, job, shape)): (Group, &Head)| {
            ((beyond(group), turn.recover_by()), *turn, job.clone(), *shape)
        };
        let firsts: Vec<_> = heads.firsts(tenant).map(ranked).collect();
        for (rank, turn, job, shape) in &firsts {
            self.order.insert((*rank, *turn, job.clone(), tenant.clone(), *shape));
        }
        if !firsts.is_empty() {
            self.of.insert(tenant.clone(), firsts);
        }
    }

    fn next(&self) -> Option<(TenantId, Shape, JobId)> {
        self.order.first().map(|(_, _, job, tenant, shape)| (tenant.clone(), *shape, job.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use solyx_schemas::events::jobs::{Gang, JobRequested};
    use solyx_schemas::events::policy::{PriorityClassSet, TenantDeclared};
    use solyx_schemas::ids::ClassId;
    use solyx_schemas::units::{Count, GpuMilli};

    use super::*;
    use crate::rows::{Arrival, Job};
    use crate::state::State;

    const CLASS: i64 = 100;

    /// What heads are to say, by looking at every line from its beginning.
    fn by_scan(
        queue: &Queue,
        tried: &BTreeSet<JobId>,
        passed_over: &BTreeSet<(TenantId, Shape)>,
    ) -> Option<(Turn, JobId, TenantId, Shape)> {
        let places =
            queue.tenants(CLASS).flat_map(|(tenant, lines)| lines.iter().map(move |(place, _)| (tenant, place)));
        let open = places.filter(|(tenant, (shape, ..))| !passed_over.contains(&((*tenant).clone(), *shape)));
        let untried = open.filter(|(_, (.., job))| !tried.contains(job));
        untried.map(|(tenant, (shape, turn, job))| (*turn, job.clone(), tenant.clone(), *shape)).min()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn heads_name_whom_a_look_at_every_line_names(
            jobs in prop::collection::vec((0u8..3, 1i64..4), 1..60), outcomes in prop::collection::vec(0u8..5, 120),
            tried_before in prop::collection::vec(0usize..60, 0..4),
        ) {
            let mut state = State::default();
            state.meta_mut();
            let class = ClassId::from("standard");
            state.classes.insert(class.clone(), PriorityClassSet { value: CLASS, ..PriorityClassSet::default() });
            let mut queue = Queue::default();
            for (i, (tenant, gpus)) in jobs.iter().enumerate() {
                let tenant = TenantId::from(format!("t{tenant}"));
                state.tenants.insert(tenant.clone(), TenantDeclared { tenant: tenant.clone(), ..TenantDeclared::default() });
                let id = JobId::from(format!("job-{i}"));
                let gang = Gang {
                    replicas_min: Count(1), replicas_max: Count(1), gpus: Count(*gpus), gpu_milli_each: GpuMilli(1_000),
                    ..Gang::default()
                };
                let spec = JobRequested { job: id.clone(), tenant, class: class.clone(), gang, ..JobRequested::default() };
                let job = Job { arrival: arrival(i), ..Job::default() };
                queue.enter(&state, &id, &job, &spec);
            }
            let mut tried: BTreeSet<JobId> = tried_before.iter().map(|i| JobId::from(format!("job-{i}"))).collect();
            let mut passed_over = BTreeSet::new();
            let mut heads: Option<Heads> = None;
            let mut turns = Turns::default();
            let tenants: Vec<TenantId> = queue.tenants(CLASS).map(|(tenant, _)| tenant.clone()).collect();
            for outcome in outcomes {
                let verdict = |tenant: &TenantId, (_, job, shape): &Head, _: Told| match tried.contains(job) {
                    _ if passed_over.contains(&(tenant.clone(), *shape)) => Verdict::Passed,
                    true => Verdict::Tried,
                    false => Verdict::Open,
                };
                let heads = heads.get_or_insert_with(|| Heads::of(&queue, CLASS, &verdict));
                for tenant in &tenants {
                    heads.settle(&queue, tenant, &verdict);
                    turns.refresh(heads, tenant, |_| false);
                }
                let expected = by_scan(&queue, &tried, &passed_over);
                let next = turns.next();
                let turn_of = |job: &JobId| queue.turn_of(job).map(|(_, turn)| turn);
                let found = next.and_then(|(tenant, shape, job)| Some((turn_of(&job)?, job, tenant, shape)));
                prop_assert_eq!(&found, &expected);
                let Some((_, job, tenant, shape)) = found else { break };
                match outcome {
                    0 => {
                        passed_over.insert((tenant.clone(), shape));
                    }
                    1 => {
                        let fit = queue.common(shape).fit;
                        let all = queue.tenants(CLASS).flat_map(|(tenant, lines)| lines.firsts().map(move |(first, _)| (tenant, first.2)));
                        let alike = all.filter(|(_, other)| queue.common(*other).fit == fit);
                        passed_over.extend(alike.map(|(tenant, shape)| (tenant.clone(), shape)));
                    }
                    2 => { tried.insert(job.clone()); }
                    _ => queue.take_out(&job),
                }
            }
        }
    }

    fn arrival(number: usize) -> Arrival {
        Arrival { epoch: (number * 37 % 101) as i64, ..Arrival::default() }
    }
}
