//! An audit derives the views again and finds what a kept one has otherwise.

use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};
use serde_json::{Value, json};
use solyx_connectors::generate;
use solyx_projections::fold::Epochs;
use solyx_projections::jobs::Jobs;
use solyx_projections::store::ViewStore;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::units::{DAY_US, TimeUs, rfc3339};

use crate::world::{World, solyx};

/// The views.
const VIEWS: [&str; 4] = ["billing", "dcim", "failover", "jobs"];

fn staged() -> World {
    let world = World::empty();
    world.solyx(&["generate", "--seed", "7", "--jobs", "12", "--nodes", "4", "--days", "1"]).ends(0);
    world
}

fn look_at_all(world: &World) {
    VIEWS.iter().for_each(|view| drop(world.solyx(&["view", view]).ends(0)));
}

/// The store of a view.
fn store(world: &World, view: &str) -> PathBuf {
    let dir = world.log().join("views").join(view);
    let generation = std::fs::read_to_string(dir.join("CURRENT")).unwrap();
    dir.join(generation.trim())
}

/// Changes the first row whose key begins so: another byte at a place of its value, or no row any more.
fn change(world: &World, view: &str, key: &[u8], at: Option<usize>) {
    change_in(&store(world, view), key, at);
}

fn change_in(store: &Path, key: &[u8], at: Option<usize>) {
    let db = DB::open(&Options::default(), store).unwrap();
    let mode = rocksdb::IteratorMode::From(key, rocksdb::Direction::Forward);
    let (found, value) = db.iterator(mode).next().unwrap().unwrap();
    assert!(found.starts_with(key), "{} has no row {key:?}", store.display());
    let mut value = value.into_vec();
    match at {
        Some(at) => {
            value[at] ^= 1;
            db.put(found, value).unwrap();
        }
        None => db.delete(found).unwrap(),
    }
}

fn of<'v>(report: &'v Value, view: &str) -> &'v Value {
    report["views"].as_array().unwrap().iter().find(|of| of["view"] == view).unwrap()
}

#[test]
fn views_are_derived_again_from_any_log_and_agree_with_what_is_kept_of_them() {
    let world = staged();
    let noon = rfc3339(TimeUs(generate::START_US + DAY_US / 2));
    let half = world.solyx(&["run", "--virtual", "--until-idle", "--until", &noon, "--json"]).ends(0).json();
    look_at_all(&world);
    world.run();
    let report = world.audit();
    assert_eq!(report["build"]["version"], env!("CARGO_PKG_VERSION"), "{report}");
    assert!(report["build"]["features_known"].as_array().is_some_and(|known| !known.is_empty()));
    for view in VIEWS {
        let of = of(&report, view);
        let kept = json!({"next_epoch": half["next_epoch"], "not_compared": null, "checkpoints": 0});
        assert_eq!(of["kept"], kept, "{of}");
        assert_eq!((&of["next_epoch"], &of["first_difference"]), (&report["epochs"], &Value::Null), "{of}");
        assert!(of["rows"].as_u64() > Some(0) && of["events_per_s"].as_u64() > Some(0), "{of}");
    }

    // As they are at the end, of an archive, and of a part.
    look_at_all(&world);
    let at_end = world.audit();
    let archive = world.path("archive").display().to_string();
    world.solyx(&["archive", "export", "--archive", &archive]).ends(0);
    let of_archive = solyx(&["audit", "--archive", &archive, "--json"]).ends(0).json();
    let in_part = world.solyx(&["audit", "--until-epoch", "9", "--json"]).ends(0).json();
    for view in VIEWS {
        assert_eq!(of(&at_end, view)["kept"]["next_epoch"], report["epochs"]);
        assert_eq!(of(&at_end, view)["digest"], of(&report, view)["digest"]);
        assert_eq!(of(&of_archive, view)["digest"], of(&report, view)["digest"]);
        assert_eq!(of(&of_archive, view)["kept"], Value::Null);
        assert_eq!(of(&in_part, view)["next_epoch"], 10);
        assert_eq!(of(&in_part, view)["kept"]["not_compared"], "it goes beyond the last epoch looked at");
    }
    world.solyx(&["audit"]).ends(0).says(&[
        concat!("audited with solyx ", env!("CARGO_PKG_VERSION")),
        "view failover: ",
        "is the same",
    ]);
}

#[test]
fn one_changed_row_of_a_kept_view_is_found_and_named() {
    let world = staged();
    world.run();
    look_at_all(&world);
    // Rows stand behind a byte, then their table's: of billing jobs with their tenant first; of the failover view what the kernel
    // knows of a job's request, with the id of the event first; of the DCIM view its nodes.
    change(&world, "billing", &[1, 2], Some(1));
    change(&world, "failover", &[1, 255, 28], Some(1));
    change(&world, "dcim", &[1, 5], None);
    let said = world.solyx(&["audit", "--json"]).ends(1);
    let report = said.json();
    assert_eq!((&report["ok"], &report["first_difference"]), (&json!(false), &Value::Null), "{report}");
    let billing = &of(&report, "billing")["first_difference"];
    assert!(billing["row"].as_str().unwrap().starts_with("jobs/"), "{billing}");
    assert_eq!(billing["field"], "tenant");
    let [kept, derived] = ["kept", "derived"].map(|of| billing[of].as_str().unwrap());
    assert!(kept != derived && kept[1..] == derived[1..], "{billing}");
    let failover = &of(&report, "failover")["first_difference"];
    assert!(failover["row"].as_str().unwrap().starts_with("specs/"), "{failover}");
    let dcim = &of(&report, "dcim")["first_difference"];
    assert!(dcim["row"].as_str().unwrap().starts_with("nodes/"), "{dcim}");
    assert_eq!((&dcim["field"], &dcim["kept"]), (&json!("row"), &json!("none")), "{dcim}");
    assert_eq!(of(&report, "jobs")["first_difference"], Value::Null);
    world.solyx(&["audit"]).ends(1).says(&[
        "everything came out as recorded, and a kept view differs",
        "view billing: ",
        "tenant: kept ",
    ]);

    // The log itself is good, and a view that is folded again is so, too.
    let without = world.solyx(&["audit", "--no-views", "--json"]).ends(0).json();
    assert_eq!(without["views"], Value::Null);
    ["billing", "dcim", "failover"].iter().for_each(|view| drop(world.solyx(&["view", view, "--rebuild"]).ends(0)));
    world.audit();
}

#[test]
fn a_kept_view_of_another_history_or_that_cannot_be_read_is_a_finding() {
    let (world, other) = (staged(), World::empty());
    other.solyx(&["generate", "--seed", "8", "--jobs", "12", "--nodes", "4", "--days", "1"]).ends(0);
    [&world, &other].iter().for_each(|world| drop(world.run()));
    look_at_all(&world);
    let lost = world.log().join("views/jobs");
    std::fs::remove_dir_all(&lost).unwrap();
    other.solyx(&["view", "jobs"]).ends(0);
    std::fs::rename(other.log().join("views/jobs"), &lost).unwrap();
    std::fs::write(world.log().join("views/dcim/CURRENT"), "gen-x\n").unwrap();
    let report = world.solyx(&["audit", "--json"]).ends(1).json();
    let jobs = &of(&report, "jobs")["first_difference"];
    assert_eq!(jobs["row"], "position", "{jobs}");
    let dcim = &of(&report, "dcim")["first_difference"];
    assert_eq!((&dcim["row"], &dcim["field"]), (&json!("the store"), &json!("readability")), "{dcim}");
}

/// Has the jobs view kept with checkpoints after so many epochs each; gives their first epochs.
fn keep_with_checkpoints(world: &World, every: usize) -> Vec<i64> {
    let log = world.read();
    let mut store = ViewStore::<Jobs>::open(&world.log().join("views/jobs")).unwrap().keep_checkpoints(every as i64);
    loop {
        let ahead = EpochReader::new(&*log).skip(store.position().next_epoch as usize).take(every);
        if store.catch_up(&mut Epochs(ahead)).unwrap() < every as u64 {
            break;
        }
    }
    let whole = store.position().next_epoch / every as i64;
    (1..=whole).map(|n| n * every as i64).collect()
}

#[test]
fn a_checkpoint_that_a_view_of_the_past_begins_with_is_held_against_the_view_of_its_epoch() {
    let world = staged();
    world.run();
    let checkpoints = keep_with_checkpoints(&world, 40);
    assert!(checkpoints.len() > 2, "{checkpoints:?}");
    let report = world.audit();
    assert_eq!(of(&report, "jobs")["kept"]["checkpoints"], checkpoints.len(), "{report}");
    world.solyx(&["audit"]).ends(0).says(&["is the same; checkpoints that are the same: "]);
    // Of those that lie behind the last epoch looked at nothing is said.
    let in_part = world.solyx(&["audit", "--until-epoch", "85", "--json"]).ends(0).json();
    assert_eq!(of(&in_part, "jobs")["kept"]["checkpoints"], 2, "{in_part}");

    let at = world.log().join(format!("views/jobs/gen-1.at/{}", checkpoints[1]));
    change_in(&at, &[1], None);
    let report = world.solyx(&["audit", "--json"]).ends(1).json();
    let jobs = &of(&report, "jobs")["first_difference"];
    assert_eq!((&jobs["checkpoint"], &jobs["kept"]), (&json!(checkpoints[1]), &json!("none")), "{jobs}");
    let said = format!("first difference: checkpoint before epoch {}, ", checkpoints[1]);
    world.solyx(&["audit"]).ends(1).says(&[&said]);

    // One under another name, and one that was written by nobody.
    let odd = world.log().join("views/jobs/gen-1.at/41");
    std::fs::rename(&at, &odd).unwrap();
    let report = world.solyx(&["audit", "--json"]).ends(1).json();
    let jobs = &of(&report, "jobs")["first_difference"];
    assert_eq!((&jobs["checkpoint"], &jobs["field"]), (&json!(41), &json!("next_epoch")), "{jobs}");
    std::fs::rename(&odd, world.log().join("views/jobs/gen-1.at/-3")).unwrap();
    let report = world.solyx(&["audit", "--json"]).ends(1).json();
    let jobs = &of(&report, "jobs")["first_difference"];
    assert_eq!((&jobs["checkpoint"], &jobs["row"]), (&json!(-3), &json!("position")), "{jobs}");
}

#[test]
fn a_kept_view_that_stands_where_no_view_ever_stood_is_a_finding() {
    let world = staged();
    world.run();
    world.solyx(&["view", "jobs"]).ends(0);
    let db = DB::open(&Options::default(), store(&world, "jobs")).unwrap();
    let position = db.get(b"\0position").unwrap().unwrap();
    // The format, the first epoch that it does not hold as a varint with the sign last, and the rest.
    let format = position.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let epoch = position[format..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let minus_seven = [&position[..format], &[13], &position[format + epoch..]].concat();
    db.put(b"\0position", minus_seven).unwrap();
    drop(db);
    let report = world.solyx(&["audit", "--json"]).ends(1).json();
    let jobs = &of(&report, "jobs")["first_difference"];
    assert_eq!((&jobs["row"], &jobs["field"], &jobs["kept"]), (&json!("position"), &json!("next_epoch"), &json!("-7")));
}
