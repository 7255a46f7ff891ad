//! What becomes of the jobs that a loss hits, read from the kernel's decisions.

use std::collections::BTreeMap;

use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::{JobId, PoolId};

use super::{Fate, Hit};
use crate::index::Index;
use crate::place::{Asking, Promises, accepted, ask_at, duration_of, places, price};
use crate::rows::limit_of;
use crate::state::State;

/// Reads from the decisions what becomes of each job, in the order in which it was decided.
pub(super) fn fates(state: &State, index: &mut Index, mut hits: BTreeMap<JobId, Hit>, outputs: &[Event]) -> Vec<Hit> {
    let mut order: BTreeMap<JobId, (bool, usize)> = BTreeMap::new();
    for (place, output) in outputs.iter().enumerate() {
        let work = match output {
            Event::JobRequeued(e) => Some((&e.job, e.kept_work_us, e.lost_work_us)),
            Event::JobPreempted(e) => Some((&e.job, e.kept_work_us, e.lost_work_us)),
            Event::JobResized(e) => Some((&e.job, e.kept_work_us, e.lost_work_us)),
            _ => None,
        };
        if let Some((job, kept, lost)) = work
            && let Some(hit) = hits.get_mut(job)
        {
            (hit.kept_work, hit.lost_work) = (kept, lost);
        }
        let Some((job, fate)) = said(state, index, output) else { continue };
        let waits = matches!(fate, Fate::Waits { .. });
        let Some(hit) = hits.get_mut(job) else { continue };
        // A job that has a place hears of limits only what it waits for there.
        if waits && order.get(job).is_some_and(|(settled, _)| *settled) {
            continue;
        }
        hit.fate = fate;
        order.insert(job.clone(), (!waits, place));
    }
    for (job, hit) in &mut hits {
        if !order.contains_key(job) {
            hit.fate = unsaid(state, index, job);
        }
    }
    let mut hits: Vec<Hit> = hits.into_values().map(|hit| binding(state, hit)).collect();
    hits.sort_by_cached_key(|hit| {
        order.get(&hit.job).map_or((true, usize::MAX), |(settled, place)| (!settled, *place))
    });
    hits
}

/// What becomes of a job that was not hit.
pub(super) fn of_job(state: &State, index: &mut Index, id: &JobId, outputs: &[Event]) -> Fate {
    let mut found: Option<Fate> = None;
    for output in outputs {
        if let Some((_, fate)) = said(state, index, output).filter(|(job, _)| *job == id)
            && (found.is_none() || !matches!(fate, Fate::Waits { .. }))
        {
            found = Some(fate);
        }
    }
    found.unwrap_or_else(|| unsaid(state, index, id))
}

/// The job that a decision settles, and how.
pub(super) fn said<'e>(state: &State, index: &mut Index, output: &'e Event) -> Option<(&'e JobId, Fate)> {
    Some(match output {
        Event::JobPlaced(e) => {
            let (pool, nodes, terms) = (e.pool.clone(), e.nodes.clone(), e.terms.clone());
            (&e.job, Fate::Placed { pool, nodes, start: e.start_us, terms })
        }
        Event::JobDeferred(e) => {
            let (pool, start, terms) = (e.pool.clone(), e.until_us, e.then_terms.clone());
            (&e.job, Fate::Deferred { pool, start, terms })
        }
        Event::JobCancelled(e) => (&e.job, Fate::Ends { detail: e.detail.clone() }),
        Event::JobRejected(e) => (&e.job, Fate::Ends { detail: e.detail.clone() }),
        Event::CapacityLeaseOrdered(e) => {
            let job = e.job.as_ref()?;
            (job, leases(state, index, job, &e.pool, e.instances.0))
        }
        Event::JobHeld(e) => (&e.job, Fate::Waits { limit: e.limit.clone(), earliest: e.earliest_start_us }),
        _ => return None,
    })
}

/// Instances ordered for a job: when they come, and what it then costs.
fn leases(state: &State, index: &mut Index, id: &JobId, pool: &PoolId, instances: i64) -> Fate {
    let now = state.now();
    let declared = state.pools.get(pool).and_then(|pool| pool.declared.as_ref());
    let start = declared.map_or(now, |declared| now.after(declared.start_delay_us));
    let terms = declared.zip(state.jobs.get(id)).zip(state.spec(id)).and_then(|((declared, job), spec)| {
        let (_, speed) = accepted(&spec, declared)?;
        let (duration, _) = duration_of(state, &spec, job, speed);
        let ask = ask_at(state, &spec, job, index, &declared.gpu_model);
        let asking = Asking { id, job, spec: &spec, ask: &ask };
        price(state, index, asking, declared, (start, duration), instances).ok()
    });
    Fate::Leases { pool: pool.clone(), instances, start, terms }
}

/// What becomes of a job of which nothing was said.
fn unsaid(state: &State, index: &mut Index, id: &JobId) -> Fate {
    if state.jobs.get(id).is_none_or(|job| job.is_over()) {
        return Fate::Ends { detail: "it was told to stop for good before".to_owned() };
    }
    let parked = index.queue.parked_now(state, id);
    let limit = parked.unwrap_or_else(|| places(state, index, id, &Promises::default()).binding());
    Fate::Waits { limit, earliest: None }
}

/// When nothing at all is left, the limit is that, not a lack of declarations.
fn binding(state: &State, mut hit: Hit) -> Hit {
    let nothing_left = state.pools.iter().all(|(_, pool)| pool.declared.is_none());
    if let Fate::Waits { limit, .. } = &mut hit.fate
        && nothing_left
        && limit.kind == LimitKind::Undeclared
    {
        *limit = limit_of(LimitKind::Gpus, "cell", hit.held.gpu_milli.0, 0, "GPU/1000");
    }
    hit
}
