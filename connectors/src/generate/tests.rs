//! What a generated world promises.

use std::collections::BTreeSet;

use solyx_schemas::events::EVENT_TYPES;

use super::*;

const SMALL: Size = Size { jobs: 300, nodes: 24, days: 7 };

#[test]
fn every_event_is_valid_whatever_the_seed_and_the_size() {
    for (seed, size) in [
        (0, SMALL),
        (7, Size::default()),
        (SEED_MAX, Size { jobs: 40, nodes: 0, days: 0 }),
        (u64::MAX, Size { jobs: 1, nodes: 130, days: 16 }),
    ] {
        each(seed, size, &mut |event| {
            event.check().unwrap_or_else(|e| panic!("seed {seed}: {} {e}", event.identity().id));
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_seed_another() {
    assert!(generate(7, SMALL) == generate(7, SMALL));
    assert!(generate(7, SMALL) != generate(8, SMALL));
}

#[test]
fn one_id_is_never_two_different_events() {
    let mut seen = std::collections::BTreeMap::new();
    for event in generate(3, SMALL) {
        if let Some(before) = seen.insert(event.identity().id.into_owned(), event.clone()) {
            assert!(before == event, "{} is two events", event.identity().id);
        }
    }
}

#[test]
fn a_world_says_all_that_producers_can_say_beforehand() {
    let said: BTreeSet<&str> = generate(7, Size::default()).iter().map(Event::name).collect();
    let others = ["leases", "plans", "runs", "proofs", "cursors", "decisions", "quarantine"];
    // Corrections name usage that nobody has metered yet; keys belong to signed histories.
    let not_said = ["UsageMetered", "UsageCorrected", "SigningKeyDeclared", "SigningKeyRevoked", "TenantKeyDestroyed"];
    let missing: Vec<&str> = EVENT_TYPES
        .iter()
        .filter(|kind| !others.contains(&kind.topic.name()) && !not_said.contains(&kind.short_name()))
        .map(|kind| kind.name)
        .filter(|name| !said.contains(name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn what_a_job_asks_for_does_not_depend_on_how_many_come_after_it() {
    let request = |jobs| {
        let size = Size { jobs, ..SMALL };
        generate(7, size).into_iter().find_map(|event| match event {
            Event::JobRequested(e) if e.job.as_str() == "job-000017" => {
                Some((e.occurred_us, e.gang, e.models, e.tenant))
            }
            _ => None,
        })
    };
    assert!(request(20).is_some());
    assert_eq!(request(20), request(200));
}
