//! What all importers share: damaged files, bad rows on disk, progress, and the excerpt that comes with the project.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use solyx_schemas::events::Event;

use super::testing::{imported, write};
use super::*;
use solyx_schemas::log::memory::MemoryLog;

fn philly_rows(count: usize) -> String {
    let mut text = "timestamp,duration,num_gpus,gpu_time,cluster\n".to_owned();
    for n in 0..count {
        text.push_str(&format!("2017-09-{:02} 00:00:{:02},{n}.5,{},0,6214e9\n", 4 + n / 1_000, n % 60, 1 + n % 8));
    }
    text
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[test]
fn a_truncated_gzip_is_read_as_far_as_it_goes_and_says_that_its_tail_is_missing() {
    let mut bytes = gzipped(&philly_rows(5_000));
    bytes.truncate(bytes.len() * 2 / 3);
    let file = write("cut.csv.gz", &bytes);
    let (summary, events) = imported(|sink| philly::import(&file, &Options::default(), sink));
    assert!((1_000..5_000).contains(&summary.rows), "{}", summary.rows);
    assert_eq!((events.len() as u64, summary.bad), (2 * summary.rows, 0));
    let said = summary.truncated.join("");
    assert!(said.contains("cut off or damaged after line") && said.contains("the tail is missing"), "{said}");
}

#[test]
fn a_gzip_with_a_flipped_byte_is_noticed() {
    let mut bytes = gzipped(&philly_rows(5_000));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    let file = write("flipped.csv.gz", &bytes);
    let (summary, _) = imported(|sink| philly::import(&file, &Options::default(), sink));
    assert!(summary.truncated.len() == 1 || summary.bad > 0);
}

#[test]
fn a_row_that_never_ends_is_where_a_table_is_cut_off() {
    let text = format!("{}\"{}", philly_rows(3), "x".repeat(70 << 20));
    let bytes = gzipped(&text);
    assert!(bytes.len() < 1 << 20, "some bytes that unpack to many");
    let file = write("endless.csv.gz", &bytes);
    let (summary, events) = imported(|sink| philly::import(&file, &Options::default(), sink));
    assert_eq!((summary.rows, events.len()), (3, 6));
    assert!(summary.truncated.join("").contains("a row has more than 33554432 bytes"), "{:?}", summary.truncated);
}

#[test]
fn gzip_is_known_by_its_first_bytes_and_not_by_its_name() {
    let file = write("jobs.csv", &gzipped(&philly_rows(3)));
    let (summary, _) = imported(|sink| philly::import(&file, &Options::default(), sink));
    assert_eq!((summary.rows, summary.bad), (3, 0));
}

#[test]
fn bad_rows_are_kept_in_a_file_and_progress_is_told() {
    let mut text = philly_rows(20_000);
    for n in 0..30 {
        text.push_str(&format!("never,{n},1,0,6214e9\n"));
    }
    let jobs = write("jobs.csv", text.as_bytes());
    let kept = write("bad_rows.jsonl", b"");
    let log = MemoryLog::new();
    let options = Options { bad_rows: Some(kept.to_path_buf()), ..Options::default() };
    let mut told = Vec::new();
    let source = Source::Philly { jobs: jobs.to_path_buf() };
    let summary = import(&source, &options, &log, &mut |so_far| told.push(so_far.rows)).expect("it goes through");
    assert_eq!((summary.bad, summary.bad_rows.len()), (30, 20));
    assert!(told.len() > 3 && told.is_sorted(), "{told:?}");
    let lines = std::fs::read_to_string(&kept).expect("it was written");
    let bad: Vec<BadRow> = lines.lines().map(|line| serde_json::from_str(line).expect("a bad row")).collect();
    assert_eq!((bad.len(), bad[29].line, bad[29].found.as_str()), (30, 20_031, "never"));
}

#[test]
fn a_file_that_is_not_there_or_is_another_trace_is_named() {
    imported(|sink| {
        let error = philly::import(&PathBuf::from("no/such.csv"), &Options::default(), sink);
        let error = error.expect_err("it is not there").to_string();
        assert!(error.starts_with("cannot read no/such.csv: "), "{error}");
        let file = write("other.csv", b"a,b\n1,2\n");
        let error = philly::import(&file, &Options::default(), sink).expect_err("another trace").to_string();
        assert!(error.ends_with("has no column timestamp: it has a,b; is it another trace's file?"), "{error}");
        Ok(())
    });
}

#[test]
fn the_excerpt_of_the_project_suits_its_fleets() {
    let ops = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ops");
    let data = |name: &str| ops.join("data").join(name);
    let mut zones = std::collections::BTreeSet::new();
    let mut regions = std::collections::BTreeSet::new();
    for fleet in ["software-only", "hybrid", "metapods"] {
        let events = crate::fleet::load(&ops.join(format!("fleets/{fleet}.toml"))).expect("a good fleet");
        for event in &events {
            if let Event::SiteDeclared(site) = event {
                zones.insert(site.grid_zone.to_string());
                regions.insert(site.region.to_string());
            }
        }
    }
    let options = Options { zones: zones.into_iter().collect(), ..Options::default() };
    let (prices, carbon) = (data("price_usd_per_mwh_2023.csv.gz"), data("carbon_g_per_kwh_2023.csv.gz"));
    let (summary, events) = imported(|sink| energy::import(Some(&prices), Some(&carbon), &options, sink));
    assert_eq!((summary.bad, events.len()), (0, 5 * 8_760 * 3));

    let options = Options { regions: regions.iter().cloned().collect(), ..Options::default() };
    let (rtt, egress) = (data("rtt_ms.csv.gz"), data("egress_usd_per_gb.csv.gz"));
    let files = network::Files { rtt: Some(&rtt), egress: Some(&egress), throughput: None };
    let (summary, events) = imported(|sink| network::import(files, &options, sink));
    assert_eq!(summary.bad, 0);
    let pairs = regions.len() * (regions.len() - 1);
    assert!(events.iter().filter(|event| matches!(event, Event::LinkMeasured(_))).count() >= pairs);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::EgressPriced(_))).count(), pairs + regions.len());

    let jobs = data("philly_jobs.csv.gz");
    let (summary, _) = imported(|sink| philly::import(&jobs, &Options::default(), sink));
    assert_eq!((summary.rows, summary.bad), (26_936, 0));
    let size: u64 = std::fs::read_dir(ops.join("data"))
        .expect("it is there")
        .map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |meta| meta.len()))
        .sum();
    assert!(size <= 3 << 20, "{size} bytes");
}
