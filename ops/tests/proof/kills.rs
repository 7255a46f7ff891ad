//! `kill -9` at any moment of a virtual run: it goes on as if nothing had happened.
//!
//! `replay-tests/kill.sh` runs this alone, with as many kills as wanted.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use solyx_connectors::log::embedded::EmbeddedLog;
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};

use crate::contents::{Contents, assert_beginning, contents, count};
use crate::world::{SOLYX, World};

/// The longest that a run may take to reach the moment at which it is killed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Draws from a seed (splitmix64).
struct Luck(u64);

impl Luck {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after it was started: while it opens the log and reads what there is.
    Opening(Duration),
    /// So long after the log has this many decisions and epoch records.
    AtWork(u64, Duration),
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Decisions and epoch records that the log has.
fn decided(log: &dyn Log) -> u64 {
    let topic = TopicName::live(Topic::Decisions);
    (0..log.partitions(topic)).map(|partition| log.end(topic, partition).unwrap()).sum()
}

fn start(world: &World) -> Child {
    let log = world.log();
    let run = ["run", "--virtual", "--until-idle", "--json", "--snapshot-every", "150", "--log", log.to_str().unwrap()];
    Command::new(SOLYX).args(run).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills it at its moment, unless it has ended before.
fn kill_at(process: &mut Child, moment: Moment, reader: &dyn Log) -> bool {
    let begun = Instant::now();
    let pause = match moment {
        Moment::Opening(pause) => pause,
        Moment::AtWork(records, pause) => {
            while decided(reader) < records {
                if process.try_wait().unwrap().is_some() {
                    return false;
                }
                assert!(begun.elapsed() < PATIENCE, "no decision {records} after {PATIENCE:?}");
                std::thread::sleep(Duration::from_micros(300));
            }
            pause
        }
    };
    std::thread::sleep(pause);
    if process.try_wait().unwrap().is_some() {
        return false;
    }
    process.kill().unwrap();
    true
}

/// Moments over the whole of a run, in the order in which they come.
fn moments(luck: &mut Luck, kills: u64, records: u64) -> Vec<Moment> {
    let share = |i: u64, luck: &mut Luck| (records * i + luck.below(records)) / kills;
    let one = |i: u64| match luck.below(6) {
        0 => Moment::Opening(Duration::from_micros(luck.below(60_000))),
        // With everything decided what is left is to write the index, the snapshot and the last sync.
        1 if i + 1 == kills => Moment::AtWork(records, Duration::from_micros(luck.below(10_000))),
        _ => Moment::AtWork(share(i, luck), Duration::from_micros(luck.below(4_000))),
    };
    (0..kills).map(one).collect()
}

struct Undisturbed {
    chain_head: String,
    contents: Contents,
    records: u64,
}

/// A world that is killed at these moments and then ends; how many of them met a run that still went.
fn round(jobs: u64, moments: &[Moment], undisturbed: &Undisturbed) -> (u64, u64) {
    let world = World::hybrid(jobs);
    let reader = EmbeddedLog::open_read_only(&world.log().join("log")).unwrap();
    let (mut kills, mut at_work) = (0, 0);
    for moment in moments {
        let mut process = start(&world);
        let killed = kill_at(&mut process, *moment, &*reader);
        let output = process.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.is_empty(), "killed at {moment:?}, the run before had said: {err}");
        if !killed {
            assert!(output.status.success(), "it ended by itself at {moment:?}: {output:?}");
        }
        let log = world.read();
        let found = contents(&*log);
        assert_beginning(&found, &undisturbed.contents, &format!("killed at {moment:?}"));
        let decided = decided(&*log);
        println!(
            "killed {killed}, {moment:?}: {decided} of {} decided, {} records whole",
            undisturbed.records,
            count(&found)
        );
        kills += u64::from(killed);
        at_work += u64::from(killed && decided > 0 && decided < undisturbed.records);
    }
    let end = world.run();
    assert_eq!(end["chain_head"].as_str(), Some(undisturbed.chain_head.as_str()));
    assert!(contents(&*world.read()) == undisturbed.contents, "a record is lost, doubled or another");
    assert_eq!(world.audit()["chain_head"].as_str(), Some(undisturbed.chain_head.as_str()));
    (kills, at_work)
}

#[test]
fn killed_at_random_moments_a_run_goes_on_to_the_log_of_an_undisturbed_one() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("SOLYX_KILL_SEED", u64::from(clock.subsec_nanos()));
    let (wanted, jobs) = (setting("SOLYX_KILLS", 10), setting("SOLYX_KILL_JOBS", 300));
    println!("repeat with: replay-tests/kill.sh --kills {wanted} --jobs {jobs} --seed {seed}");
    let mut luck = Luck(seed);
    let world = World::hybrid(jobs);
    let chain_head = world.run()["chain_head"].as_str().unwrap().to_owned();
    let log = world.read();
    let undisturbed = Undisturbed { chain_head, contents: contents(&*log), records: decided(&*log) };
    let (mut kills, mut at_work, mut rounds) = (0, 0, 0);
    // When a kill comes is up to the machine: a few more where too many came before or after the work.
    while (kills < wanted || 2 * at_work < wanted) && rounds < 10 + wanted {
        let moments = moments(&mut luck, wanted.saturating_sub(kills).clamp(1, 25), undisturbed.records);
        let (killed, between) = round(jobs, &moments, &undisturbed);
        (kills, at_work, rounds) = (kills + killed, at_work + between, rounds + 1);
    }
    println!(
        "{kills} kills in {rounds} worlds, {at_work} of them between the first decision and the last: {}",
        undisturbed.chain_head
    );
    assert!(kills >= wanted, "runs ended before they could be killed: {kills} kills in {rounds} worlds");
    assert!(at_work > 0, "all {kills} kills came before or after the work");
}
