//! What becomes of a request while its job waits or runs: it is amended, held, let go, or cancelled.

use solyx_schemas::events::jobs::*;
use solyx_schemas::units::*;

use super::plan::Plan;
use super::requests::Draft;
use super::world::{World, say};

const MINUTE_US: i64 = 60 * SECOND_US;

pub(super) fn build(plan: &Plan, draft: &Draft, world: &mut World<'_>) {
    let luck = plan.luck;
    let job = draft.request.job.as_str();
    let after =
        |kind: &str, least: i64, most: i64| TimeUs(draft.at.0 + luck.between(kind, job, least, most) * MINUTE_US);
    let mut hold = |what: &str, at: TimeUs, action, reason: &str| {
        say!(
            world,
            at,
            "hold",
            &format!("{job}/{what}"),
            JobHoldSet { job: job.into(), action, actor: "operator".into(), reason: reason.to_owned() }
        );
    };
    if draft.request.hold {
        hold("released", after("released", 30, 480), HoldAction::Release, "it was looked at");
    } else if luck.chance("held", job, 20) {
        let from = after("held-at", 1, 60);
        hold("held", from, HoldAction::Hold, "to be looked at");
        let to = TimeUs(from.0 + luck.between("held-for", job, 10, 240) * MINUTE_US);
        hold("let-go", to, HoldAction::Release, "it was looked at");
    }
    if luck.chance("amended", job, 50) {
        amend(plan, draft, after("amended-at", 1, 180), world);
    }
    // What no domain can ever hold is given up after half a day.
    let cancelled = match draft.impossible {
        true => Some((TimeUs(draft.at.0 + 12 * HOUR_US), "it can never start")),
        false => luck.chance("cancelled", job, 40).then(|| (after("cancelled-at", 1, 600), "no longer needed")),
    };
    if let Some((at, reason)) = cancelled {
        say!(
            world,
            at,
            "cancel",
            job,
            JobCancelRequested {
                job: job.into(),
                actor: draft.request.tenant.as_str().into(),
                reason: reason.to_owned(),
            }
        );
    }
}

/// A new class, a later deadline or other replicas, each where it makes sense.
fn amend(plan: &Plan, draft: &Draft, at: TimeUs, world: &mut World<'_>) {
    let job = draft.request.job.as_str();
    let what = plan.luck.below("amended-what", job, 3);
    let gang = &draft.request.gang;
    let deadline = draft.request.deadline_us.map(|deadline| deadline.after(DurationUs(4 * HOUR_US)));
    let class = match draft.request.class.as_str() {
        "scavenger" => "standard",
        _ => "production",
    };
    say!(
        world,
        at,
        "amend",
        job,
        JobRequestAmended {
            job: job.into(),
            class: (what == 0).then(|| class.into()),
            deadline_us: deadline.filter(|_| what == 1),
            budget: None,
            replicas_min: (what == 2 && gang.replicas_min.0 > 1).then_some(Count(gang.replicas_min.0 - 1)),
            replicas_max: (what == 2).then_some(gang.replicas_max),
        }
    );
}
