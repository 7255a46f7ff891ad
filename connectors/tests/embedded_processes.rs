//! The embedded log against what happens to processes: a second writer, a kill at any moment, a disk that is full.
//!
//! Each test runs itself again as a child process, told apart by an environment variable that names the log's directory.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, Record};
use solyx_schemas::topics::{Topic, TopicName};

const CHILD: &str = "SOLYX_TEST_CHILD_LOG";
const LIMIT: ReadLimit = ReadLimit { records: 1000, bytes: 1 << 20 };

/// The log's directory, in a child process.
fn child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// This test again, in a child process; `shell` runs before it and sets its limits.
fn spawn(test: &str, dir: &Path, shell: &str) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{shell} exec \"$0\" \"$@\"")).arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, dir);
    command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

/// Says something to the parent, past the test harness.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nsays {text}").unwrap();
    out.flush().unwrap();
}

/// What a child said.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("says ").map(str::to_owned))
}

/// A batch over several topics and partitions; each of its records says the batch's number and how many they are.
fn batch(number: u64) -> Vec<Record> {
    let topics: [TopicName; 4] =
        [Topic::Jobs.into(), Topic::Decisions.into(), TopicName::staged(Topic::Runs), Topic::Cursors.into()];
    let size = 1 + number * 7 % 13;
    let one = |i: u64| {
        let topic = topics[((number + i) % 4) as usize];
        let partition = if topic.topic == Topic::Cursors { 0 } else { (i % 4) as u32 };
        let filler = "f".repeat((number * 31 + i * 17) as usize % 900);
        let value = format!("{number} {size} {filler}").into_bytes();
        Record { topic, partition, key: i.to_be_bytes().to_vec(), value, headers: Vec::new() }
    };
    (0..size).map(one).collect()
}

/// Reads everything, checks that each batch is whole or absent and none is missing; the number of batches.
fn whole_batches(log: &dyn Log) -> u64 {
    let mut batches: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
    for topic in Topic::ALL.into_iter().flat_map(|t| [TopicName::live(t), TopicName::staged(t)]) {
        for partition in 0..log.partitions(topic) {
            let mut from = 0;
            loop {
                let read = log.read(topic, partition, from, LIMIT).unwrap();
                let Some(last) = read.last() else { break };
                assert_eq!(read[0].ordinal, from);
                from = last.ordinal + 1;
                for stored in read {
                    let text = String::from_utf8(stored.record.value.clone()).unwrap();
                    let number = text.split(' ').next().unwrap().parse().unwrap();
                    batches.entry(number).or_default().push(stored.record);
                }
            }
            assert_eq!(log.end(topic, partition).unwrap(), from);
        }
    }
    let count = batches.len() as u64;
    for (expected, (number, mut records)) in batches.into_iter().enumerate() {
        assert_eq!(number, expected as u64, "a batch is missing");
        records.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(records, batch(number), "batch {number} is not whole");
    }
    count
}

/// Appends batches from the log's end on until an append fails, saying each one's number after it is acknowledged.
fn append_until_it_fails(producer: &mut dyn Producer, mut number: u64) -> LogError {
    loop {
        match producer.append(batch(number)) {
            Ok(_) => say(&number.to_string()),
            Err(error) => return error,
        }
        number += 1;
    }
}

#[test]
fn a_second_writing_process_is_told_who_writes() {
    if let Some(dir) = child() {
        let error = EmbeddedLog::open(&dir, EmbeddedOptions::default()).err().map(|e| (e.kind, e.to_string()));
        say(&format!("{error:?}"));
        let reader = EmbeddedLog::open_read_only(&dir).unwrap();
        say(&format!("read {}", whole_batches(&*reader)));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
    log.producer("test").unwrap().append(batch(0)).unwrap();
    let mut process = spawn("a_second_writing_process_is_told_who_writes", dir.path(), "");
    let lines: Vec<String> = said(&mut process).collect();
    assert!(process.wait().unwrap().success());
    assert!(lines[0].contains("Stop") && lines[0].contains("another writer has this log open"), "{}", lines[0]);
    assert!(lines[0].contains(&format!("process {}", std::process::id())), "{}", lines[0]);
    assert_eq!(lines[1], "read 1");
    let again = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).err().unwrap();
    assert_eq!(again.what, "another writer has this log open", "{again}");
}

#[test]
fn a_log_killed_at_any_moment_opens_with_every_batch_whole_or_absent() {
    if let Some(dir) = child() {
        let durability = Durability::EveryN(8);
        let log = EmbeddedLog::open(&dir, EmbeddedOptions { durability, partitions: None }).unwrap();
        let number = whole_batches(&*log);
        append_until_it_fails(&mut *log.producer("test").unwrap(), number);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut batches = 0;
    for round in 0..12 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut process = spawn("a_log_killed_at_any_moment_opens_with_every_batch_whole_or_absent", dir.path(), "");
        let mut lines = said(&mut process);
        // The first rounds die in opening, the later ones at work.
        let mut acknowledged = if round < 3 { None } else { lines.next() };
        std::thread::sleep(Duration::from_micros(u64::from(seed % 60_000)));
        process.kill().unwrap();
        process.wait().unwrap();
        acknowledged = lines.last().or(acknowledged);
        let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
        let found = whole_batches(&*log);
        let promised = acknowledged.map_or(batches, |number| number.parse::<u64>().unwrap() + 1);
        assert!(found >= promised, "{promised} batches were acknowledged, {found} are there");
        batches = found;
    }
    assert!(batches > 12, "the children did hardly anything: {batches} batches");
}

#[test]
fn a_full_disk_stops_the_writer_with_nothing_half_written() {
    if let Some(dir) = child() {
        let log = EmbeddedLog::open(&dir, EmbeddedOptions::default()).unwrap();
        let mut producer = log.producer("test").unwrap();
        let error = append_until_it_fails(&mut *producer, 0);
        assert_eq!(error.kind, LogErrorKind::Stop, "{error}");
        assert!(error.what.starts_with("disk full"), "{error}");
        let later = producer.append(batch(0)).unwrap_err();
        assert!(later.kind == LogErrorKind::Stop && later.what.contains("disk full"), "{later}");
        say("full");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // No file may grow past half a megabyte or one, by the shell's unit; the signal that goes with it is ignored.
    let limits = "trap '' XFSZ; ulimit -f 1024;";
    let mut process = spawn("a_full_disk_stops_the_writer_with_nothing_half_written", dir.path(), limits);
    let mut lines: Vec<String> = said(&mut process).collect();
    assert!(process.wait().unwrap().success());
    assert_eq!(lines.pop().as_deref(), Some("full"));
    let acknowledged: u64 = lines.last().unwrap().parse().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
    let found = whole_batches(&*log);
    assert!(found == acknowledged + 1 || found == acknowledged + 2, "{found} batches after {acknowledged}");
    log.producer("test").unwrap().append(batch(found)).unwrap();
    assert_eq!(whole_batches(&*log), found + 1);
}
