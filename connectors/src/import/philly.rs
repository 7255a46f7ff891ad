//! Jobs of Microsoft's Philly clusters: `timestamp,duration,num_gpus,gpu_time,cluster`.
//!
//! Times are taken as UTC and durations as work on the reference model, which is the V100; newer models are faster by
//! factors on the cautious side, since code of that time gains less than peak ratios say. A job of up to eight GPUs is
//! one replica; a larger one is a gang of replicas of eight or of the largest smaller divisor, in one leaf domain when
//! that costs nothing. The virtual cluster is the tenant.

use std::path::Path;

use solyx_schemas::events::common::Label;
use solyx_schemas::events::jobs::{Gang, JobKind, JobRequested, ModelChoice, Topology, TopologyLevel};
use solyx_schemas::events::plans::{ScriptedEnd, WorkScripted};
use solyx_schemas::ids::{ClassId, EventId, JobId, Name, SourceId, TenantId};
use solyx_schemas::units::*;

use super::shift::Shift;
use super::table::{Column, Row, Table};
use super::{BadRow, ImportError, Options, Sink};

/// Who says it.
pub const SOURCE: &str = "import/philly";
/// GPU models that will do and their speed, thousandths of a V100's.
pub const MODELS: [(&str, i64); 4] = [("V100", 1_000), ("A100", 1_500), ("A100-80GB", 1_600), ("H100", 2_200)];
/// Priority class of every job.
pub const CLASS: &str = "standard";
/// The most GPUs of one replica: those of one node.
const REPLICA_GPUS_MAX: i64 = 8;
/// The trace does not say what a job takes beside GPUs; this fits every offer of eight-GPU nodes.
const CPU_MILLI_PER_GPU: i64 = 4_000;
const MEMORY_MIB_PER_GPU: i64 = 24 * 1_024;
const CHECKPOINT_INTERVAL_US: i64 = 30 * 60 * SECOND_US;
const CHECKPOINT_MIB_PER_GPU: i64 = 2_048;
const RESTORE_US: i64 = 5 * 60 * SECOND_US;

struct Columns {
    timestamp: Column,
    duration: Column,
    gpus: Column,
    cluster: Column,
}

/// Reads the jobs. A job's id is `philly/` and its row in the file, from 1.
pub fn import(path: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let columns = Columns {
        timestamp: table.column("timestamp")?,
        duration: table.column("duration")?,
        gpus: table.column("num_gpus")?,
        cluster: table.column("cluster")?,
    };
    let mut shift = Shift::new(options);
    let mut taken = 0;
    sink.table(&mut table, |row, rows| {
        let submitted = shift.apply(row.time(columns.timestamp)?);
        if !shift.wants(submitted) {
            rows.skip();
            return Ok(true);
        }
        if options.limit.is_some_and(|limit| taken >= limit) {
            return Ok(false);
        }
        let (request, script) = job(row, &columns, submitted, options)?;
        rows.push(request);
        rows.push(script);
        taken += 1;
        Ok(true)
    })
}

fn job(
    row: &Row<'_>,
    columns: &Columns,
    submitted: TimeUs,
    options: &Options,
) -> Result<(JobRequested, WorkScripted), BadRow> {
    let work = WorkUs(row.positive(columns.duration, SECOND_US)?.max(SECOND_US));
    let gpus = row.integer(columns.gpus, 1..=4_096)?;
    let tenant = TenantId::from(row.required(columns.cluster)?);
    let job = JobId::from(format!("philly/{}", row.number));
    let per_replica = gpus_per_replica(gpus);
    let replicas = gpus / per_replica;
    let request = JobRequested {
        event_id: EventId::from(format!("{job}/requested")),
        source: SourceId::from(SOURCE),
        occurred_us: submitted,
        tenant,
        kind: JobKind::Training,
        gang: Gang {
            replicas_min: Count(replicas),
            replicas_max: Count(replicas),
            gpus: Count(per_replica),
            gpu_milli_each: GpuMilli(1_000),
            cpu_milli: CpuMilli(per_replica * CPU_MILLI_PER_GPU),
            memory_mib: MemoryMib(per_replica * MEMORY_MIB_PER_GPU),
            ..Gang::default()
        },
        models: MODELS.map(|(model, speed)| ModelChoice { model: model.into(), speed_milli: Milli(speed) }).to_vec(),
        topology: (replicas > 1).then(|| Topology { preferred: Some(TopologyLevel::Leaf), ..Topology::default() }),
        expected_work_us: options.estimates.of(options.seed, job.as_str(), work),
        class: ClassId::from(CLASS),
        preemptible: true,
        checkpoint_interval_us: Some(DurationUs(CHECKPOINT_INTERVAL_US)),
        checkpoint_mib: Some(MemoryMib(per_replica * CHECKPOINT_MIB_PER_GPU)),
        restore_us: Some(DurationUs(RESTORE_US)),
        labels: vec![Label { name: Name::from("trace"), value: "philly".to_owned() }],
        job: job.clone(),
        ..JobRequested::default()
    };
    let script = WorkScripted {
        event_id: EventId::from(format!("{job}/work")),
        source: SourceId::from(SOURCE),
        occurred_us: submitted,
        job,
        work_us: work,
        end: ScriptedEnd::Finished,
        ..WorkScripted::default()
    };
    Ok((request, script))
}

/// Eight, or the largest number below that divides the GPUs.
fn gpus_per_replica(gpus: i64) -> i64 {
    (1..=REPLICA_GPUS_MAX.min(gpus)).rev().find(|n| gpus % n == 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::testing::{imported, write};

    const SAMPLE: &str = "timestamp,duration,num_gpus,gpu_time,cluster\n\
        2017-09-04 10:30:41,2240194.0,8,17921552.0,7f04ca\n\
        2017-09-07 03:58:57,x,1,3256045.0,6214e9\n\
        2017-09-08 00:00:00,60.5,12,726.0,6214e9\n\
        2017-09-09 00:00:00,60,0,0,6214e9\n\
        2017-13-09 00:00:00,60,1,60,6214e9\n\
        2017-09-09 00:00:00,60,1,60,not an id\n\
        2017-09-09 00:00:00,60\n\
        2017-09-10 00:00:00,60,32,60,6214e9\n";

    #[test]
    fn rows_become_requests_and_scripts_and_bad_rows_stop_nothing() {
        let file = write("philly.csv", SAMPLE.as_bytes());
        let day = chrono::NaiveDate::from_ymd_opt(2023, 9, 4);
        let options = Options { shift_to: day, ..Options::default() };
        let (summary, events) = imported(|sink| import(&file, &options, sink));
        assert_eq!((summary.rows, summary.events, summary.bad), (8, 6, 5));
        let named: Vec<_> = summary.bad_rows.iter().map(|bad| (bad.line, bad.field.as_str())).collect();
        let expected =
            [(3, "duration"), (5, "num_gpus"), (6, "timestamp"), (7, "solyx.jobs.JobRequested.tenant"), (8, "")];
        assert_eq!(named, expected);
        let requests: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                solyx_schemas::events::Event::JobRequested(request) => Some(request),
                _ => None,
            })
            .collect();
        assert_eq!(rfc3339(requests[0].occurred_us), "2023-09-04T10:30:41Z");
        assert_eq!(requests[0].expected_work_us, Some(WorkUs(2_240_194_000_000)));
        let shapes: Vec<_> = requests.iter().map(|r| (r.gang.replicas_min.0, r.gang.gpus.0)).collect();
        assert_eq!(shapes, [(1, 8), (2, 6), (4, 8)]);
    }

    #[test]
    fn window_and_limit_choose_rows_after_the_shift() {
        let file = write("philly.csv", SAMPLE.as_bytes());
        let options = Options {
            shift_to: chrono::NaiveDate::from_ymd_opt(2023, 9, 4),
            from: parse_time("2023-09-08"),
            limit: Some(1),
            ..Options::default()
        };
        let (summary, events) = imported(|sink| import(&file, &options, sink));
        assert_eq!((events.len(), summary.skipped), (2, 2));
        assert_eq!(events[0].key(), "philly/3");
    }

    #[test]
    fn the_whole_trace_is_read_without_a_bad_row() {
        let Some(path) = crate::import::testing::trace("philly/philly_2017-09_10.csv.gz") else { return };
        let (summary, events) = imported(|sink| import(&path, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad, events.len()), (52_849, 0, 105_698));
    }
}
