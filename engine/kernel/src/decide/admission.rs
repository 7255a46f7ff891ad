//! Admission: whether a job may wait and run at all.

use solyx_schemas::events::decisions::{JobAdmitted, JobRejected, Limit, LimitKind};

use super::Epoch;
use crate::apply::close_job;
use crate::budget;
use crate::order_rule::gang_milli;
use crate::place::{contradiction, quota_most};
use crate::rows::{Phase, Spec, limit_of};
use crate::set_aside;

/// Admits or rejects every job that came in this epoch, in order of arrival.
pub fn admit(epoch: &mut Epoch<'_>) {
    for (_, id) in std::mem::take(&mut epoch.index.requested) {
        if epoch.state.jobs.get(&id).is_none_or(|job| job.phase != Phase::Requested) {
            continue;
        }
        let Some(spec) = epoch.state.spec(&id) else { continue };
        match refusal(epoch, &spec) {
            Some((limit, detail)) => reject(epoch, spec, limit, detail),
            None => accept(epoch, spec),
        }
    }
}

fn accept(epoch: &mut Epoch<'_>, spec: Spec) {
    let id = &spec.job;
    let price = budget::expected_price(epoch.state, epoch.index, &spec);
    let budget_held = price.filter(|_| budget::is_budgeted(epoch.state, &spec));
    if let Some(job) = epoch.state.jobs.edit(id) {
        job.phase = Phase::Waiting;
    }
    if let Some(price) = &budget_held {
        budget::hold(epoch.state, &spec, price);
    }
    // One that it waits for may have ended without finishing before it came.
    if !spec.depends_on.is_empty() {
        epoch.index.suspect_jobs.insert(id.clone());
    }
    if let Some(job) = epoch.state.jobs.get(id) {
        epoch.index.queue.enter(epoch.state, id, job, &spec);
    }
    epoch.say(JobAdmitted { job: spec.job, tenant: spec.tenant, budget_held, ..JobAdmitted::default() });
}

fn reject(epoch: &mut Epoch<'_>, spec: Spec, limit: Limit, detail: String) {
    close_job(epoch.state, epoch.index, &spec.job, Phase::Ended);
    epoch.say(JobRejected { job: spec.job, tenant: spec.tenant, limit, detail, ..JobRejected::default() });
}

/// What can never be, whatever becomes free: more than the quota, more than the budget, a deadline that has passed.
fn refusal(epoch: &Epoch<'_>, spec: &Spec) -> Option<(Limit, String)> {
    if let Some(contradiction) = contradiction(spec) {
        return Some(contradiction);
    }
    if let Some(profile) = spec.gang.mig_profile.as_ref().filter(|_| set_aside::named(spec).is_some()) {
        let field = "gang.mig_profile";
        let limit = limit_of(LimitKind::Reservation, field, spec.gang.gpus.0, 0, "instances of a reservation or lease");
        let detail =
            format!("field {field}: found {profile}, expected none: reservations and leases are of whole gpus");
        return Some((limit, detail));
    }
    let asked = gang_milli(epoch.state, spec);
    if let Some(refused) = set_aside::refusal(epoch.state, spec, asked) {
        return Some(refused);
    }
    let family = epoch.state.lineage(&spec.tenant).map(|tenant| (tenant.clone(), None, None));
    let own = spec.project.clone().map(|project| (spec.tenant.clone(), Some(project), None));
    // What draws on a contract counts against no quota.
    let counts = set_aside::named(spec).is_none();
    for key in family.chain(own).filter(|_| counts) {
        let Some(most) = epoch.state.quotas.get(&key).and_then(quota_most) else { continue };
        if asked > most {
            let limit = limit_of(LimitKind::Quota, key.0.as_str(), asked, most, "GPU/1000");
            let tenant = &key.0;
            let detail =
                format!("the job asks for {asked} thousandths of GPUs, the quota of {tenant} allows {most} at most");
            return Some((limit, detail));
        }
    }
    if let Some(deadline) = spec.deadline_us
        && deadline <= epoch.now
    {
        let limit = limit_of(LimitKind::Deadline, spec.job.as_str(), epoch.now.0, deadline.0, "µs UTC");
        return Some((limit, "the deadline has passed already".to_owned()));
    }
    let price = budget::expected_price(epoch.state, epoch.index, spec)?;
    let (limit, _) = budget::refusal(epoch.state, spec, &price)?;
    let (asked, left) = (limit.asked.unwrap_or(0), limit.available.unwrap_or(0));
    let detail =
        format!("the job is expected to cost {asked} micros of {}, the budget has {left} left", price.currency);
    Some((limit, detail))
}
