//! Data sets of the teams and where copies of them lie.

use solyx_schemas::events::world::*;
use solyx_schemas::units::*;

use super::plan::{Plan, Team};
use super::world::{World, say};

/// Data sets of each team.
pub(super) const DATASETS: i64 = 3;

/// The name of a team's data set.
pub(super) fn name(team: &Team, n: i64) -> String {
    format!("{}/data-{n}", team.id)
}

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    let own: Vec<&str> = plan.own_sites().map(|(_, site)| site.id.as_str()).collect();
    for team in &plan.teams {
        for n in 0..DATASETS {
            let id = name(team, n);
            let size = StorageGib(plan.luck.around("size", &id, 400, (5, 4_000)));
            // The last one of every team in Europe has to stay there.
            let confined = n + 1 == DATASETS && plan.company_of(team).country == "DE";
            let residency = if confined { ["DE", "SE", "FR", "IE"].map(Into::into).to_vec() } else { Vec::new() };
            say!(
                world,
                plan.opening,
                "dataset",
                &id,
                DatasetDeclared {
                    dataset: id.as_str().into(),
                    tenant: team.id.as_str().into(),
                    size_gib: size,
                    residency,
                    rpo_us: (n == 0).then_some(DurationUs(DAY_US)),
                }
            );
            let mut replica = |what: &str, at: TimeUs, site: &str, state, size| {
                say!(
                    world,
                    at,
                    "replica",
                    &format!("{id}/{what}"),
                    ReplicaReported {
                        dataset: id.as_str().into(),
                        site: site.into(),
                        tier: "object".into(),
                        state,
                        size_gib: size,
                    }
                );
            };
            let home = *plan.luck.pick("home", &id, &own);
            replica("home", plan.opening, home, ReplicaState::Durable, size);
            let copied = TimeUs(plan.start.0 + plan.luck.between("copied", &id, 1, 20) * HOUR_US);
            let other = *plan.luck.pick("copy", &id, &own);
            if other != home {
                replica("copying", copied, other, ReplicaState::Copying, StorageGib(size.0 / 3));
                let done = TimeUs(copied.0 + 2 * HOUR_US);
                replica("copied", done, other, ReplicaState::Durable, size);
                if plan.luck.chance("replica-lost", &id, 150) {
                    replica("lost", TimeUs(done.0 + 6 * HOUR_US), home, ReplicaState::Lost, StorageGib(0));
                }
            }
        }
    }
}
