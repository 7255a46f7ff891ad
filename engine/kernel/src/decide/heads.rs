//! The first jobs of the lines of one class, as far as a pass has got: each line by the job that is next in it, so that nobody
//! looks at a line again that has nobody left to try.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use solyx_schemas::ids::{JobId, TenantId};

use super::order::First;
use crate::queue::{Line, Queue, Shape, Turn};

/// The job that is next in a line.
type Head = (Turn, JobId, Shape);

/// First jobs by tenant, and by the thousandths of GPUs that they ask for.
#[derive(Default)]
pub(super) struct Heads {
    class: i64,
    tenants: BTreeMap<TenantId, BTreeMap<i64, BTreeSet<Head>>>,
}

impl Heads {
    /// Of a class, without the jobs that were tried.
    pub fn of(queue: &Queue, class: i64, tried: &BTreeSet<JobId>) -> Self {
        let mut heads = Self { class, tenants: BTreeMap::new() };
        for (tenant, lines) in queue.tenants(class) {
            let mut by_size: BTreeMap<i64, BTreeSet<Head>> = BTreeMap::new();
            for (shape, line) in lines {
                if let Some((turn, job)) = line.iter().find(|(_, job)| !tried.contains(job)) {
                    let size = queue.common(*shape).gpu_milli;
                    by_size.entry(size).or_default().insert((*turn, job.clone(), *shape));
                }
            }
            heads.tenants.insert(tenant.clone(), by_size);
        }
        heads
    }

    /// Goes on in the line of a job that was the next in it and has been tried.
    pub fn go_on(&mut self, queue: &Queue, tenant: &TenantId, head: Head, tried: &BTreeSet<JobId>) {
        let size = queue.common(head.2).gpu_milli;
        let Some(heads) = self.tenants.get_mut(tenant).and_then(|sizes| sizes.get_mut(&size)) else { return };
        if !heads.remove(&head) {
            return;
        }
        let (turn, job, shape) = head;
        let Some(line) = queue.line(self.class, tenant, shape) else { return };
        let behind = |line: &Line| {
            let rest = line.range((Bound::Excluded((turn, job.clone())), Bound::Unbounded));
            rest.into_iter().find(|(_, job)| !tried.contains(job)).cloned()
        };
        if let Some((turn, job)) = behind(line) {
            heads.insert((turn, job, shape));
        }
    }

    /// The first of each tenant, or when `by_size` is asked the first of each tenant and size. Lines that are passed over are
    /// left out, for good.
    pub fn firsts(&mut self, by_size: bool, passes_over: impl Fn(&TenantId, Shape) -> bool) -> Vec<First<'_>> {
        self.tenants.retain(|tenant, sizes| {
            sizes.retain(|_, heads| {
                while heads.first().is_some_and(|(.., shape)| passes_over(tenant, *shape)) {
                    heads.pop_first();
                }
                !heads.is_empty()
            });
            !sizes.is_empty()
        });
        let mut firsts = Vec::new();
        for (tenant, sizes) in &self.tenants {
            let heads = sizes.values().filter_map(BTreeSet::first);
            let mut found = heads.map(|(turn, job, shape)| First { tenant, turn: *turn, shape: *shape, job });
            if by_size {
                firsts.extend(found);
            } else {
                firsts.extend(found.by_ref().min_by(|a, b| (a.turn, a.job).cmp(&(b.turn, b.job))));
            }
        }
        firsts
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
        let lines = queue.tenants(CLASS).flat_map(|(tenant, lines)| lines.iter().map(move |line| (tenant, line)));
        let open = lines.filter(|(tenant, (shape, _))| !passed_over.contains(&((*tenant).clone(), **shape)));
        let firsts = open.filter_map(|(tenant, (shape, line))| {
            let (turn, job) = line.iter().find(|(_, job)| !tried.contains(job))?;
            Some((*turn, job.clone(), tenant.clone(), *shape))
        });
        firsts.min()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn heads_name_whom_a_look_at_every_line_names(
            jobs in prop::collection::vec((0u8..3, 1i64..4), 1..60), outcomes in prop::collection::vec(0u8..4, 120),
            tried_before in prop::collection::vec(0usize..60, 0..4), by_size in any::<bool>(),
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
            let mut heads = Heads::of(&queue, CLASS, &tried);
            for outcome in outcomes {
                let expected = by_scan(&queue, &tried, &passed_over);
                let firsts = heads.firsts(by_size, |tenant, shape| passed_over.contains(&(tenant.clone(), shape)));
                let first = firsts.into_iter().min_by_key(|first| (first.turn, first.job));
                let found = first.map(|first| (first.turn, first.job.clone(), first.tenant.clone(), first.shape));
                prop_assert_eq!(&found, &expected);
                let Some((turn, job, tenant, shape)) = found else { break };
                match outcome {
                    0 => { passed_over.insert((tenant.clone(), shape)); }
                    1 => { tried.insert(job.clone()); }
                    _ => queue.take_out(&job),
                }
                heads.go_on(&queue, &tenant, (turn, job, shape), &tried);
            }
        }
    }

    fn arrival(number: usize) -> Arrival {
        Arrival { epoch: (number * 37 % 101) as i64, ..Arrival::default() }
    }
}
