//! Snapshots that are not what was written.

use solyx_histories::*;
use solyx_kernel::{Kernel, RestoreError, Snapshot};

/// A snapshot of a cell in which jobs run and wait.
fn snapshot() -> Snapshot {
    let mut world = World::with_nodes(2);
    world.step(vec![job("a", "red", 1, 8, 2).into(), job("b", "blue", 2, 8, 30).into()]);
    world.kernel.snapshot()
}

fn is_refused(torn: Snapshot, what: &str) {
    let refused = Kernel::restore(torn).err();
    assert!(matches!(refused, Some(RestoreError::Digest { .. } | RestoreError::Entry(_))), "{what}: {refused:?}");
}

#[test]
fn a_snapshot_that_lacks_an_entry_or_has_another_is_not_restored() {
    let good = snapshot();
    assert!(Kernel::restore(good.clone()).is_ok());
    for place in 0..good.entries.len() {
        let without = |torn: &mut Snapshot| drop(torn.entries.remove(place));
        let cut = |torn: &mut Snapshot| torn.entries.truncate(place);
        let turned = |torn: &mut Snapshot| {
            if let Some(last) = torn.entries[place].value.last_mut() {
                *last ^= 1;
            } else {
                torn.entries[place].key.push(0);
            }
        };
        let tear = |what: &str, change: &dyn Fn(&mut Snapshot)| {
            let mut torn = good.clone();
            change(&mut torn);
            is_refused(torn, &format!("{what} entry {place}"));
        };
        tear("without", &without);
        tear("cut at", &cut);
        tear("turned", &turned);
    }
}

#[test]
fn a_snapshot_of_a_newer_format_or_with_an_unknown_feature_says_what_to_do() {
    let mut newer = snapshot();
    newer.head.format += 1;
    let said = Kernel::restore(newer).err().unwrap().to_string();
    assert!(said.contains("this build reads") && said.contains("delete it"), "{said}");
    let mut unknown = snapshot();
    unknown.head.features.push("of-tomorrow".into());
    let said = Kernel::restore(unknown).err().unwrap().to_string();
    assert!(said.contains("of-tomorrow") && said.contains("newer"), "{said}");
}
