//! Places of a gang with more replicas than its least.
//!
//! What a job says of its work is the work of each replica in a gang of `replicas_min`. That is taken to scale linearly: r
//! replicas do it at r / `replicas_min` times the speed, so that GPU time, rent and energy stay what they are, and only the
//! time it takes becomes less.

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::field::ARRAY_LEN_MAX;
use solyx_schemas::ids::{JobId, PoolId};
use solyx_schemas::units::Count;

use super::{Asking, Candidate, Layout, Promises, accepted, ask_of, candidate, duration_of};
use crate::index::Index;
use crate::rows::{Spec, limit};
use crate::state::State;

/// The fastest that a gang is taken to be, thousandths of the reference speed.
const SPEED_MAX_MILLI: i64 = 1_000_000_000;

/// Speed of a gang of so many replicas, thousandths: that of its least number, times as much as there are more.
pub fn scaled(speed_milli: i64, replicas: i64, least: i64) -> i64 {
    let scaled = i128::from(speed_milli) * i128::from(replicas) / i128::from(least.max(1));
    i64::try_from(scaled).unwrap_or(SPEED_MAX_MILLI).min(SPEED_MAX_MILLI)
}

/// Replicas that a gang may have at most; a placement lists each of them.
pub fn most_replicas(spec: &Spec) -> i64 {
    spec.gang.replicas_max.0.min(ARRAY_LEN_MAX as i64).max(spec.gang.replicas_min.0)
}

/// By how many replicas a gang grows and shrinks: a segment where it is in segments.
pub fn step(spec: &Spec) -> i64 {
    let mut largest = spec.clone();
    largest.gang.replicas_min = Count(most_replicas(spec));
    Layout::of(&largest).segment.unwrap_or(1).max(1)
}

/// The place that a job could have in an owned or reserved pool now with so many replicas, or the limit that rules it out.
pub fn place_of(
    state: &State,
    index: &mut Index,
    id: &JobId,
    pool: &PoolId,
    replicas: i64,
) -> Result<Candidate, Limit> {
    place_beside(state, index, id, pool, replicas, &Promises::default())
}

/// The same beside what another has been promised.
fn place_beside(
    state: &State,
    index: &mut Index,
    id: &JobId,
    pool: &PoolId,
    replicas: i64,
    promises: &Promises,
) -> Result<Candidate, Limit> {
    let unknown = || limit(LimitKind::Undeclared);
    let (job, mut spec) = state.jobs.get(id).zip(state.spec(id)).ok_or_else(unknown)?;
    let declared = state.pools.get(pool).and_then(|pool| pool.declared.as_ref()).ok_or_else(unknown)?;
    if !matches!(declared.class, CapacityClass::Owned | CapacityClass::Reserved) {
        return Err(limit(LimitKind::ProviderCapacity));
    }
    let least = std::mem::replace(&mut spec.gang.replicas_min, Count(replicas)).0;
    let ask = ask_of(state, &spec, job, index);
    candidate(state, index, Asking { id, job, spec: &spec, ask: &ask }, least, declared, promises, None)
}

/// The place in an owned or reserved pool with the fewest replicas that keep the job's deadline there, where its least number
/// does not.
pub fn in_time(
    state: &State,
    index: &mut Index,
    id: &JobId,
    pool: &PoolDeclared,
    promises: &Promises,
) -> Option<Candidate> {
    let (job, spec) = state.jobs.get(id).zip(state.spec(id))?;
    let (least, most) = (spec.gang.replicas_min.0, most_replicas(&spec));
    let (_, speed) = accepted(&spec, pool).filter(|_| least < most)?;
    let left = spec.deadline_us?.since(state.now());
    let enough = |replicas: &i64| duration_of(state, &spec, job, scaled(speed, *replicas, least)).0 <= left;
    // The fewest: what keeps it with some number keeps it with every larger one.
    let (mut low, mut high) = (least + 1, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(&middle) { high = middle } else { low = middle + 1 }
    }
    let step = step(&spec);
    let whole = (low + step - 1) / step * step;
    (whole <= most).then(|| place_beside(state, index, id, &pool.pool, whole, promises).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn speed_grows_with_replicas_and_stays_in_its_range() {
        assert_eq!(scaled(1_500, 2, 2), 1_500);
        assert_eq!(scaled(1_000, 3, 2), 1_500);
        assert_eq!(scaled(1_000, 65_536, 1), 65_536_000);
        assert_eq!(scaled(1_000_000_000, 65_536, 1), 1_000_000_000);
    }
}
