//! Files and disks that fail: a gzip that is cut off, an archive with one byte flipped, a second writer, a full disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use solyx_connectors::log::embedded::{EmbeddedLog, EmbeddedOptions};

use crate::contents::{assert_beginning, contents, count};
use crate::world::{World, ops, shell, solyx};

#[test]
fn a_truncated_gzip_is_read_as_far_as_it_goes_and_the_missing_tail_is_said() {
    let world = World::hybrid(0);
    let whole = std::fs::read(ops("data/philly_jobs.csv.gz")).unwrap();
    let file = world.write("cut.csv.gz", &whole[..2_500]);
    let said = world.solyx(&["import", "philly", "--jobs", &file, "--shift-to", "2023-09-04"]).ends(1);
    let said =
        said.says(&["cut off or damaged: ", "cut.csv.gz: cut off or damaged after line", "what came before was read"]);
    let rows: u64 = said.out.split(' ').next().unwrap().parse().unwrap();
    assert!(rows > 100, "{said}");
    let end = world.run();
    assert_eq!((&end["waiting_jobs"], &end["live_runs"]), (&0.into(), &0.into()), "{end}");
    let jobs = world.solyx(&["view", "jobs", "--json"]).ends(0);
    assert!(jobs.out.contains("philly/"), "{jobs}");
    // The whole file after that: what came twice does not count twice.
    let whole = ops("data/philly_jobs.csv.gz");
    let limit = (rows + 50).to_string();
    world.solyx(&["import", "philly", "--jobs", &whole, "--shift-to", "2023-09-04", "--limit", &limit]).ends(0);
    world.run();
    world.audit();
}

#[test]
fn an_archive_with_one_byte_flipped_is_refused_by_file_and_brings_nothing_wrong_into_a_log() {
    let world = World::hybrid(30);
    let head = world.run()["chain_head"].clone();
    let archive = world.path("archive");
    let name = archive.display().to_string();
    world.solyx(&["archive", "export", "--archive", &name]).ends(0);
    solyx(&["archive", "verify", "--archive", &name]).ends(0).says(&["good: "]);
    for topic in ["jobs", "decisions", "usage"] {
        let file = largest_file(&archive.join(topic));
        let good = std::fs::read(&file).unwrap();
        let mut bad = good.clone();
        let place = bad.len() / 2;
        bad[place] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let said = format!("{topic}/");
        solyx(&["archive", "verify", "--archive", &name]).ends(1).says(&["damaged: ", &said, "sha-256"]);
        let other = World::empty();
        other.solyx(&["archive", "import", "--archive", &name]).fails(3, &["damaged", &said]);
        if let Ok(log) = EmbeddedLog::open_read_only(&other.log().join("log")) {
            assert_beginning(&contents(&*log), &contents(&*world.read()), "brought in before the damage was met");
        }
        solyx(&["audit", "--archive", &name]).ends(1).says(&["first difference: epoch ", "damaged", &said]);
        std::fs::write(&file, &good).unwrap();
    }
    solyx(&["archive", "verify", "--archive", &name]).ends(0);
    assert_eq!(solyx(&["audit", "--archive", &name, "--json"]).ends(0).json()["chain_head"], head);
}

fn largest_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|file| file.metadata().unwrap().len()).unwrap()
}

#[test]
fn a_second_writer_is_told_who_writes_and_changes_nothing_while_readers_go_on() {
    let world = World::hybrid(20);
    let before = {
        let _first = EmbeddedLog::open(&world.log().join("log"), EmbeddedOptions::default()).unwrap();
        let held = format!("process {}", std::process::id());
        let fleet = ops("fleets/hybrid.toml");
        for command in [&["run", "--virtual", "--until-idle"][..], &["publish", &fleet], &["run"]] {
            world.solyx(command).fails(3, &["another writer has this log open", &held]);
        }
        world.solyx(&["doctor"]).says(&["0 epochs"]);
        contents(&*world.read())
    };
    assert!(before == contents(&*world.read()));
    world.run();
    world.audit();
}

/// A disk that is full: a small file system of its own where the user may mount one, otherwise a limit on the size of files.
enum Disk {
    Mounted(PathBuf),
    Limited,
}

impl Disk {
    fn small(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=9m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(dir).stderr(Stdio::null()).status();
        match mounted {
            Ok(status) if status.success() => Self::Mounted(dir.to_owned()),
            _ => Self::Limited,
        }
    }

    /// What has to be said before a command so that it meets the limit.
    fn limit(&self) -> &'static str {
        match self {
            Self::Mounted(_) => "",
            Self::Limited => "trap '' XFSZ; ulimit -f 2048; ",
        }
    }

    fn grow(&self) {
        if let Self::Mounted(dir) = self {
            let grown = Command::new("mount").args(["-o", "remount,size=400m"]).arg(dir).status().unwrap();
            assert!(grown.success());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Mounted(dir) = self {
            let _ = Command::new("umount").arg("-l").arg(dir).status();
        }
    }
}

#[test]
fn a_full_disk_ends_the_run_with_what_to_do_and_room_lets_it_go_on_to_the_same_hash() {
    const JOBS: u64 = 1_500;
    let world = World::hybrid(JOBS);
    let head = world.run()["chain_head"].clone();
    let dir = world.path("small-disk");
    let disk = Disk::small(&dir);
    println!("a {} stands in for the disk", if disk.limit().is_empty() { "mounted tmpfs" } else { "limit on files" });
    let log = dir.join("world");
    world.stage_hybrid(&log, JOBS);
    let log = log.display().to_string();
    let full = shell(&format!("{} exec \"$SOLYX\" run --virtual --until-idle --log {log}", disk.limit()));
    full.fails(3, &["disk full", "make room", "what was acknowledged is there"]);
    let undisturbed = contents(&*world.read());
    let kept = contents(&*EmbeddedLog::open_read_only(&Path::new(&log).join("log")).unwrap());
    assert_beginning(&kept, &undisturbed, "after the disk was full");
    assert!(count(&kept) < count(&undisturbed), "the disk was large enough");
    disk.grow();
    let end = solyx(&["run", "--virtual", "--until-idle", "--json", "--log", &log]).ends(0).json();
    assert_eq!(end["chain_head"], head);
    let after = contents(&*EmbeddedLog::open_read_only(&Path::new(&log).join("log")).unwrap());
    assert!(after == undisturbed, "a record is lost, doubled or another");
}

#[test]
fn an_archive_of_a_later_format_is_refused_by_its_version_and_not_called_damaged() {
    let world = World::hybrid(0);
    let archive = world.path("archive");
    let name = archive.display().to_string();
    world.solyx(&["archive", "export", "--archive", &name]).ends(0);
    let manifest = archive.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap().replacen("\"version\": 1", "\"version\": 2", 1);
    std::fs::write(&manifest, &text).unwrap();
    solyx(&["audit", "--archive", &name]).fails(3, &["the archive is damaged", "manifest.json"]);
    let hashed = shell(&format!("cd {name} && sha256sum manifest.json > manifest.json.sha256"));
    hashed.ends(0);
    for command in [&["audit", "--archive", &name][..], &["view", "jobs", "--archive", &name]] {
        let said =
            ["the archive is of another format", "solyx-archive version 2, this build reads version 1", "a later one"];
        solyx(command).fails(3, &said);
    }
}
