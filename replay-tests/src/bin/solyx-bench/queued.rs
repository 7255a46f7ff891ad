//! Memory of a job that waits: how much the process grows while a kernel takes in jobs that cannot start.
//!
//! A process of its own, so that nothing measured before is in it. What counts is the growth between two sizes of the
//! queue, at epoch boundaries: code, fleet and the buffers of one epoch are in both and fall out.

use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use solyx_connectors::generate::{Size, each};
use solyx_kernel::{Kernel, OpenEpoch, Seen};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::ids::CellId;
use solyx_schemas::topics::{Topic, TopicName};

use crate::measure::Measure;

/// Jobs of one epoch.
const EPOCH_JOBS: usize = 5_000;
/// Jobs that come before the growth is measured, so that buffers have their size.
const WARM_JOBS: u32 = 10_000;
/// Bytes of a page of memory, as `/proc/self/statm` counts.
const PAGE_BYTES: u64 = 4_096;

/// What the process of its own prints.
#[derive(Debug, Serialize, Deserialize)]
struct Growth {
    waiting: usize,
    jobs: usize,
    resident_bytes: u64,
    resident_bytes_at_end: u64,
    request_bytes: u64,
    elapsed_ms: u64,
}

/// Bytes per waiting job.
pub fn measure(seed: u64, queued: u32) -> anyhow::Result<Vec<Measure>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let arguments = ["--only-queued", "--queued", &queued.to_string(), "--seed", &seed.to_string()];
    let output = std::process::Command::new(program).args(arguments).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let growth: Growth = serde_json::from_slice(&output.stdout).context("what the measuring process printed")?;
    let jobs = growth.waiting.max(1) as f64;
    let what = format!(
        "growth of resident memory by {} waiting jobs of {} that came (generated, seed {seed}); {} MiB resident in the end; goal: under 1024",
        growth.waiting,
        growth.jobs,
        growth.resident_bytes_at_end >> 20
    );
    let request = growth.request_bytes as f64 / growth.jobs.max(1) as f64;
    let size = [(growth.resident_bytes as f64 / jobs, request)];
    let taken = growth.jobs as f64 / (growth.elapsed_ms.max(1) as f64 / 1_000.0);
    let taken_what = format!("jobs judged, admitted and queued in epochs of {EPOCH_JOBS}, none of which can start");
    Ok(vec![
        Measure::beside("queued_job", "bytes", what, &size, "its request as Avro"),
        Measure::alone("queued_jobs_taken", "jobs/s", taken_what, &[taken]),
    ])
}

/// Measures and prints.
pub fn in_this_process(seed: u64, queued: u32) -> anyhow::Result<()> {
    let size = Size { jobs: queued + WARM_JOBS, nodes: 4, days: 7 };
    let mut intake = Intake::new();
    let mut opening = Vec::new();
    // A fleet with nothing about money or shares, so that capacity is what all wait for.
    each(seed, Size { jobs: 0, ..size }, &mut |event| {
        let declared = matches!(
            event,
            Event::CellDeclared(_)
                | Event::FeatureEnabled(_)
                | Event::SchedulingPolicySet(_)
                | Event::PriorityClassSet(_)
                | Event::GpuModelDeclared(_)
                | Event::TenantDeclared(_)
                | Event::SiteDeclared(_)
                | Event::NodeReported(_)
        );
        let owned = matches!(&event, Event::PoolDeclared(pool) if pool.commitment.is_some() || pool.provider.as_str() == "metapod");
        if declared || owned {
            opening.push(event);
        }
    });
    opening.sort_by_key(Event::topic);
    intake.epoch(&opening);
    let mut jobs = Vec::new();
    let (mut came, mut request_bytes) = (0, 0);
    let mut warm = None;
    each(seed, size, &mut |event| {
        if !matches!(&event, Event::JobRequested(_)) {
            return;
        }
        jobs.push(event);
        if jobs.len() == EPOCH_JOBS {
            let bytes = intake.epoch(&jobs);
            came += jobs.len();
            jobs.clear();
            match &warm {
                None if came >= WARM_JOBS as usize => {
                    warm = Some((resident_bytes(), intake.kernel.waiting_jobs(), came, Instant::now()));
                }
                Some(_) => request_bytes += bytes,
                None => {}
            }
        }
    });
    let (before, waiting, first, begun) = warm.context("too few jobs to measure: take at least 5,000")?;
    let after = resident_bytes();
    let growth = Growth {
        waiting: intake.kernel.waiting_jobs() - waiting,
        jobs: came - first,
        resident_bytes: after.saturating_sub(before),
        resident_bytes_at_end: after,
        request_bytes: request_bytes as u64,
        elapsed_ms: begun.elapsed().as_millis() as u64,
    };
    println!("{}", serde_json::to_string(&growth)?);
    Ok(())
}

/// A kernel that takes records without a log.
struct Intake {
    kernel: Kernel,
    ordinals: [u64; Topic::ALL.len()],
    clock_us: i64,
}

impl Intake {
    fn new() -> Self {
        let clock_us = solyx_connectors::generate::START_US;
        Self { kernel: Kernel::new(CellId::from("generated")), ordinals: [0; Topic::ALL.len()], clock_us }
    }

    /// One epoch of events in the order of topics; says how many bytes they were.
    fn epoch(&mut self, events: &[Event]) -> usize {
        self.clock_us += 1_000_000;
        let mut epoch = OpenEpoch::open(&mut self.kernel, self.clock_us, 0);
        let mut bytes = 0;
        for event in events {
            let topic = event.topic();
            let record = Codec::global().record(event, TopicName::live(topic), 1);
            let ordinal = &mut self.ordinals[topic as usize];
            let position = Position::new(topic, 0, *ordinal);
            *ordinal += 1;
            bytes += record.value.len();
            let decoded = Codec::global().decode_record(&record);
            epoch.take(position, &record.key, &record.value, decoded.as_ref(), || Seen::New);
        }
        drop(epoch.close(&|_| 1));
        bytes
    }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}
