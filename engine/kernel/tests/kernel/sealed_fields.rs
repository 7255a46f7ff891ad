//! Sealed texts: judged with the feature, texts like any others without it.

use solyx_histories::*;
use solyx_kernel::Kernel;
use solyx_kernel::follow::Follower;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Label;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::{FeatureEnabled, TenantKeyDestroyed};
use solyx_schemas::ids::{CellId, FeatureId};
use solyx_schemas::units::TimeUs;

const TOKEN: &str = "sealed:1:red/1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn labelled(name: &str, value: &str) -> Event {
    let labels = vec![Label { name: "note".into(), value: value.to_owned() }];
    JobRequested { labels, ..job(name, "red", 1, 1, 5) }.into()
}

fn on(feature: &str) -> Event {
    FeatureEnabled { feature: feature.into(), ..FeatureEnabled::default() }.into()
}

fn destroyed() -> Event {
    TenantKeyDestroyed { tenant: "red".into(), key_id: "red/1".into(), ..TenantKeyDestroyed::default() }.into()
}

fn reasons(world: &mut World, events: Vec<Event>) -> Vec<SkipReason> {
    world.close(events).record.skipped.iter().map(|skip| skip.reason).collect()
}

#[test]
fn with_the_feature_what_is_no_token_or_of_a_destroyed_key_does_not_count() {
    let mut world = World::with_nodes(1);
    // It comes into force with the next epoch.
    assert_eq!(reasons(&mut world, vec![on("sealed-fields"), labelled("before", "sealed:1:cut")]), []);
    let mixed = vec![labelled("sealed", TOKEN), labelled("cut", "sealed:1:cut"), labelled("open", "a text")];
    assert_eq!(reasons(&mut world, mixed), [SkipReason::Invalid]);
    let closed = world.close(vec![destroyed(), labelled("late", TOKEN)]);
    assert_eq!(closed.record.skipped[0].reason, SkipReason::Rejected);
    let told = closed.outputs.iter().find_map(|output| match output {
        Event::RecordQuarantined(quarantined) => Some(quarantined.detail.clone()),
        _ => None,
    });
    let expected = "field labels[0].value: found key red/1, which red has destroyed, expected one in use";
    assert_eq!(told.unwrap(), expected);
    // What was sealed before stays.
    assert!(world.running.contains_key("sealed"));
}

#[test]
fn a_question_is_refused_as_the_kernel_would_refuse_it() {
    let mut world = World::with_nodes(1);
    world.step(vec![on("sealed-fields")]);
    world.step(vec![destroyed()]);
    let rehearsal = Follower::of(world.kernel.clone()).rehearsal();
    let asked = |value: &str| {
        let mut event = labelled("x", value);
        identify(&mut event, 9_999, world.now);
        let told = rehearsal.told(std::slice::from_ref(&event), TimeUs(0)).map(drop).map_err(|(_, detail)| detail);
        let Event::JobRequested(request) = event else { unreachable!() };
        assert_eq!(rehearsal.job(&request).map(drop), told);
        told.err()
    };
    assert_eq!(asked("a text"), None);
    assert!(asked("sealed:1:cut").is_some_and(|detail| detail.contains("labels[0].value")));
    assert!(asked(TOKEN).is_some_and(|detail| detail.contains("which red has destroyed")));
}

#[test]
fn without_it_everything_is_as_it_was() {
    let mut world = World::with_nodes(1);
    let events = vec![destroyed(), labelled("cut", "sealed:1:cut"), labelled("late", TOKEN)];
    assert_eq!(reasons(&mut world, events), []);
    assert!(world.kernel.state().destroyed_keys.get("red/1").is_none());
}

#[test]
fn features_that_are_given_are_in_force_from_the_first_epoch_whatever_the_log_switches_on() {
    let given = |features: &[&str]| {
        let features = features.iter().map(|name| FeatureId::from(*name)).collect();
        let mut world = World::empty();
        world.kernel = Kernel::with_features(CellId::from("test"), features);
        let first = reasons(&mut world, vec![on("spine"), labelled("cut", "sealed:1:cut")]);
        let names: Vec<String> = world.close(vec![]).record.features.iter().map(ToString::to_string).collect();
        (names, first)
    };
    assert_eq!(given(&["sealed-fields"]), (vec!["sealed-fields".to_owned()], vec![SkipReason::Invalid]));
    assert_eq!(given(&[]), (vec![], vec![]));
}
