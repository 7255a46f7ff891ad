//! The first jobs of the lines of one class, as far as a pass has got: each line by the job that is next in it, so that nobody
//! looks at a line again that has nobody left to try; and whose turn it is among them.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::ids::{JobId, TenantId};

use super::Epoch;
use super::fair::Tree;
use super::share::Shares;
use crate::order_rule::OrderRule;
use crate::queue::{Fit, Lines, Place, Queue, Shape, Turn};

/// The job that is next in a line.
type Head = (Turn, JobId, Shape);

/// First jobs by line, and by tenant and the thousandths of GPUs that they ask for.
#[derive(Default)]
pub(super) struct Heads {
    class: i64,
    next: BTreeMap<(TenantId, Shape), (Turn, JobId)>,
    tenants: BTreeMap<TenantId, BTreeMap<i64, BTreeSet<Head>>>,
    fits: BTreeMap<Fit, BTreeSet<(TenantId, Shape)>>,
}

impl Heads {
    /// Of a class, without the jobs that were tried and the lines that are passed over.
    pub fn of(
        queue: &Queue,
        class: i64,
        tried: &BTreeSet<JobId>,
        passes_over: impl Fn(&TenantId, Shape) -> bool,
    ) -> Self {
        let mut heads = Self { class, ..Self::default() };
        for (tenant, lines) in queue.tenants(class) {
            for first in lines.firsts().filter(|(shape, ..)| !passes_over(tenant, *shape)) {
                let untried = match tried.contains(&first.2) {
                    true => lines.behind(first).find(|(.., job)| !tried.contains(job)),
                    false => Some(first),
                };
                heads.put(queue, tenant, first.0, untried.map(next_of));
            }
        }
        heads
    }

    /// Tenants of whom somebody is next.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }

    /// The first of each size of a tenant.
    pub fn firsts(&self, tenant: &TenantId) -> impl Iterator<Item = (i64, &Head)> {
        let sizes = self.tenants.get(tenant).into_iter().flatten();
        sizes.filter_map(|(size, heads)| Some((*size, heads.first()?)))
    }

    /// Goes on in the line of a job that has been tried, if it was the next in it.
    pub fn go_on(&mut self, queue: &Queue, tenant: &TenantId, (turn, job, shape): Head, tried: &BTreeSet<JobId>) {
        let tried_last = (turn, job);
        if self.next.get(&(tenant.clone(), shape)) != Some(&tried_last) {
            return;
        }
        let tried_last = (shape, tried_last.0, tried_last.1);
        let behind = |lines: &Lines| lines.behind(&tried_last).find(|(.., job)| !tried.contains(job)).map(next_of);
        let next = queue.lines(self.class, tenant).and_then(behind);
        self.put(queue, tenant, shape, next);
    }

    /// Nobody of a line is tried any more.
    pub fn drop_line(&mut self, queue: &Queue, tenant: &TenantId, shape: Shape) {
        self.put(queue, tenant, shape, None);
    }

    /// Nobody who asks for this is tried any more. Says whose lines they were.
    pub fn drop_fit(&mut self, queue: &Queue, fit: Fit) -> BTreeSet<TenantId> {
        let lines = self.fits.remove(&fit).unwrap_or_default();
        lines.iter().for_each(|(tenant, shape)| self.put(queue, tenant, *shape, None));
        lines.into_iter().map(|(tenant, _)| tenant).collect()
    }

    fn put(&mut self, queue: &Queue, tenant: &TenantId, shape: Shape, next: Option<(Turn, JobId)>) {
        let (size, fit) = (queue.common(shape).gpu_milli, queue.common(shape).fit);
        let line = (tenant.clone(), shape);
        if let Some((turn, job)) = self.next.remove(&line)
            && let Some(sizes) = self.tenants.get_mut(tenant)
            && let Some(heads) = sizes.get_mut(&size)
        {
            heads.remove(&(turn, job, shape));
            if heads.is_empty() {
                sizes.remove(&size);
            }
            if sizes.is_empty() {
                self.tenants.remove(tenant);
            }
        }
        match next {
            Some((turn, job)) => {
                self.next.insert(line.clone(), (turn, job.clone()));
                let sizes = self.tenants.entry(tenant.clone()).or_default();
                sizes.entry(size).or_default().insert((turn, job, shape));
                self.fits.entry(fit).or_default().insert(line);
            }
            None => {
                self.fits.get_mut(&fit).map(|lines| lines.remove(&line));
            }
        }
    }
}

fn next_of((_, turn, job): &Place) -> (Turn, JobId) {
    (*turn, job.clone())
}

/// Whose turn it is: kept in order, so that a decision compares only those again whom it has changed.
pub(super) enum Order {
    /// Under dominant-resource fairness: by tenant.
    Fair(Tree),
    /// By turn, those before whose promised share still holds them.
    Turns(Turns),
}

/// Firsts of each tenant and size: beyond the promised share or not, turn, job.
#[derive(Default)]
pub(super) struct Turns {
    order: BTreeSet<(bool, Turn, JobId, TenantId, Shape)>,
    of: BTreeMap<TenantId, Vec<(bool, Turn, JobId, Shape)>>,
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
                turns.refresh(heads, tenant, |size| shares.is_some_and(|shares| !shares.holds(tenant, size)));
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
    fn refresh(&mut self, heads: &Heads, tenant: &TenantId, beyond: impl Fn(i64) -> bool) {
        for (beyond, turn, job, shape) in self.of.remove(tenant).into_iter().flatten() {
            self.order.remove(&(beyond, turn, job, tenant.clone(), shape));
        }
        let firsts: Vec<_> =
            heads.firsts(tenant).map(|(size, (turn, job, shape))| (beyond(size), *turn, job.clone(), *shape)).collect();
        for (beyond, turn, job, shape) in &firsts {
            self.order.insert((*beyond, *turn, job.clone(), tenant.clone(), *shape));
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
        let places = queue.tenants(CLASS).flat_map(|(tenant, lines)| lines.iter().map(move |place| (tenant, place)));
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
            let mut heads = Heads::of(&queue, CLASS, &tried, |_, _| false);
            let mut turns = Turns::default();
            let tenants: Vec<TenantId> = heads.tenants().cloned().collect();
            tenants.iter().for_each(|tenant| turns.refresh(&heads, tenant, |_| false));
            for outcome in outcomes {
                let expected = by_scan(&queue, &tried, &passed_over);
                let next = turns.next();
                let turn_of = |job: &JobId| queue.turn_of(job).map(|(_, turn)| turn);
                let found = next.and_then(|(tenant, shape, job)| Some((turn_of(&job)?, job, tenant, shape)));
                prop_assert_eq!(&found, &expected);
                let Some((turn, job, tenant, shape)) = found else { break };
                match outcome {
                    0 => {
                        passed_over.insert((tenant.clone(), shape));
                        heads.drop_line(&queue, &tenant, shape);
                    }
                    1 => {
                        let fit = queue.common(shape).fit;
                        let all = queue.tenants(CLASS).flat_map(|(tenant, lines)| lines.firsts().map(move |first| (tenant, first.0)));
                        let alike = all.filter(|(_, other)| queue.common(*other).fit == fit);
                        passed_over.extend(alike.map(|(tenant, shape)| (tenant.clone(), shape)));
                        heads.drop_fit(&queue, fit);
                        tenants.iter().for_each(|tenant| turns.refresh(&heads, tenant, |_| false));
                    }
                    2 => { tried.insert(job.clone()); }
                    _ => queue.take_out(&job),
                }
                heads.go_on(&queue, &tenant, (turn, job, shape), &tried);
                turns.refresh(&heads, &tenant, |_| false);
            }
        }
    }

    fn arrival(number: usize) -> Arrival {
        Arrival { epoch: (number * 37 % 101) as i64, ..Arrival::default() }
    }
}
