//! The same inputs give the same log; the same log gives the same views, whichever way they come to be.

use std::path::Path;

use solyx_connectors::generate::{self, Size};
use solyx_connectors::log::archive::ArchiveLog;
use solyx_connectors::log::embedded::{EmbeddedLog, EmbeddedOptions};
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::{Entry, Fold};
use solyx_projections::jobs::Jobs;
use solyx_projections::store::ViewStore;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::units::{DAY_US, rfc3339};

use crate::contents::contents;
use crate::world::{World, solyx};

/// The views.
const VIEWS: [&str; 4] = ["billing", "dcim", "failover", "jobs"];

/// A seeded world, staged.
fn seeded(seed: u64) -> World {
    let world = World::empty();
    let size = Size { jobs: 150, nodes: 12, days: 2 };
    let log = EmbeddedLog::open(&world.log().join("log"), EmbeddedOptions::default()).unwrap();
    generate::publish(seed, size, &*log, &mut |_| {}).unwrap();
    world
}

/// Keys and values of a view's store in their order.
fn dump<F: Fold + Default>(directory: &Path) -> Vec<Entry> {
    let store = ViewStore::<F>::open(directory).unwrap();
    let entries = store.dump().unwrap();
    assert!(!entries.is_empty() && entries == store.fold().entries(), "the store is not what its fold says");
    entries
}

fn dumps(world: &World) -> [Vec<Entry>; 4] {
    let of = |view: &str| world.log().join("views").join(view);
    let [billing, dcim, failover, jobs] = VIEWS.map(of);
    [dump::<Billing>(&billing), dump::<Dcim>(&dcim), dump::<Failover>(&failover), dump::<Jobs>(&jobs)]
}

/// Keys and values of a view built from an archive, in a store of its own.
fn dump_of_archive<F: Fold + Default>(world: &World, archive: &str, name: &str) -> Vec<Entry> {
    let log = ArchiveLog::open(Path::new(archive)).unwrap();
    let directory = world.path("views-of-the-archive").join(name);
    ViewStore::<F>::rebuild(&directory, &mut EpochReader::new(&*log)).unwrap();
    dump::<F>(&directory)
}

fn json_of(world: &World, more: &[&str]) -> Vec<String> {
    VIEWS.iter().map(|view| world.solyx(&[&["view", view, "--json"], more].concat()).ends(0).out).collect()
}

/// Runs one world at a stretch and its twin in two parts, and compares all that can be seen of them.
fn same_log_and_same_views(whole: &World, parts: &World, middle: &str) {
    let undisturbed = whole.run();
    // The first part leaves a snapshot, and views that stand in the middle.
    let first = parts.solyx(&["run", "--virtual", "--until-idle", "--until", middle, "--json"]).ends(0).json();
    assert_eq!(first["ending"], "until", "{first}");
    let (reached, all) = (first["next_epoch"].as_i64().unwrap(), undisturbed["next_epoch"].as_i64().unwrap());
    assert!(reached > all / 10 && reached < all, "{middle} is not in the middle: epoch {reached} of {all}");
    json_of(parts, &[]);
    // A copy goes on without snapshot and index, from the log alone.
    let bare = World::empty();
    copy(&parts.log().join("log"), &bare.log().join("log"));
    let (from_snapshot, from_log) = (parts.run(), bare.run());
    for (way, end) in [("from a snapshot", &from_snapshot), ("from the log alone", &from_log)] {
        assert_eq!(end["chain_head"], undisturbed["chain_head"], "continued {way}");
    }
    assert!(contents(&*whole.read()) == contents(&*parts.read()), "the logs differ");
    assert_eq!(whole.audit()["chain_head"], undisturbed["chain_head"]);

    // Of the log at one stretch, from where they stood in the middle, and all anew.
    let at_once = json_of(whole, &[]);
    assert!(at_once == json_of(parts, &[]), "views that went on from the middle differ");
    let entries = dumps(whole);
    assert!(entries == dumps(parts), "stores that went on from the middle differ");
    assert!(at_once == json_of(parts, &["--rebuild"]) && entries == dumps(parts), "views that were rebuilt differ");
    assert!(at_once == json_of(parts, &["--as-of", &(all - 1).to_string()]), "views as of the last epoch differ");

    // Of an archive, and of the log that it is brought back into.
    let archive = whole.path("archive").display().to_string();
    whole.solyx(&["archive", "export", "--archive", &archive]).ends(0);
    let of_archive = VIEWS.map(|view| solyx(&["view", view, "--json", "--archive", &archive]).ends(0).out);
    assert!(at_once == of_archive, "views of the archive differ");
    assert!(entries[0] == dump_of_archive::<Billing>(whole, &archive, "billing"));
    assert!(entries[1] == dump_of_archive::<Dcim>(whole, &archive, "dcim"));
    assert!(entries[2] == dump_of_archive::<Failover>(whole, &archive, "failover"));
    assert!(entries[3] == dump_of_archive::<Jobs>(whole, &archive, "jobs"));
    let audit = solyx(&["audit", "--archive", &archive, "--json"]).ends(0).json();
    assert_eq!(audit["chain_head"], undisturbed["chain_head"]);
    let back = World::empty();
    back.solyx(&["archive", "import", "--archive", &archive]).ends(0);
    assert!(contents(&*back.read()) == contents(&*whole.read()), "the log that came back differs");
    assert!(at_once == json_of(&back, &[]) && entries == dumps(&back), "views of the log that came back differ");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn real_jobs_give_one_log_and_one_set_of_views_however_they_come_to_be() {
    same_log_and_same_views(&World::hybrid(250), &World::hybrid(250), "2023-09-04T06:00:00Z");
}

#[test]
fn a_seeded_world_gives_one_log_and_one_set_of_views_however_they_come_to_be() {
    let seed = 20_230_904;
    println!("seed {seed}");
    let middle = rfc3339(solyx_schemas::units::TimeUs(generate::START_US + DAY_US));
    same_log_and_same_views(&seeded(seed), &seeded(seed), &middle);
}
