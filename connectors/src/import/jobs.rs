//! Small traces of jobs: GAIA's, Sia's, and requests to a language model. Their times count from the beginning of the
//! trace, which lies at `shift_to` or on the Monday that prices and carbon of 2023 are at hand for.

use std::path::Path;

use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::{ClientRegion, Gang, JobKind, JobRequested, ModelChoice};
use solyx_schemas::events::plans::{ScriptedEnd, WorkScripted};
use solyx_schemas::ids::{ClassId, EventId, JobId, SourceId, TenantId};
use solyx_schemas::units::*;

use super::shift::{self, Shift};
use super::sink::Rows;
use super::table::{Row, Table};
use super::{BadRow, ImportError, Options, Sink};

/// Priority class of every job.
pub const CLASS: &str = "standard";

/// What the traces have in common: where they lie, how many are taken.
struct Takes<'a> {
    source: &'static str,
    options: &'a Options,
    shift: Shift,
    taken: u64,
}

impl<'a> Takes<'a> {
    fn new(source: &'static str, options: &'a Options) -> Self {
        Self { source, options, shift: Shift::new(options), taken: 0 }
    }

    /// Takes a job that `work` is the truth of, if it lies in the window; false when no more are wanted.
    fn take(&mut self, request: JobRequested, submitted: TimeUs, work: WorkUs, rows: &mut Rows<'_>) -> bool {
        match self.events(request, submitted, work) {
            Taken::Full => return false,
            Taken::Outside => rows.skip(),
            Taken::Job(events) => events.into_iter().for_each(|event| rows.push(event)),
        }
        true
    }

    fn events(&mut self, mut request: JobRequested, submitted: TimeUs, work: WorkUs) -> Taken {
        if !self.shift.wants(submitted) {
            return Taken::Outside;
        }
        if self.options.limit.is_some_and(|limit| self.taken >= limit) {
            return Taken::Full;
        }
        self.taken += 1;
        let job = request.job.clone();
        request.event_id = EventId::from(format!("{job}/requested"));
        request.source = SourceId::from(self.source);
        request.occurred_us = submitted;
        request.class = ClassId::from(CLASS);
        request.expected_work_us = self.options.estimates.of(self.options.seed, job.as_str(), work);
        let script = WorkScripted {
            event_id: EventId::from(format!("{job}/work")),
            source: SourceId::from(self.source),
            occurred_us: submitted,
            job,
            work_us: work,
            end: ScriptedEnd::Finished,
            ..WorkScripted::default()
        };
        Taken::Job([request.into(), script.into()])
    }
}

/// What becomes of a job.
enum Taken {
    /// It lies outside the window.
    Outside,
    /// There are as many as were wanted.
    Full,
    /// It is taken.
    Job([Event; 2]),
}

/// GAIA's jobs for shifting in time: `arrival_time,length,cpus`, in seconds or hours; they take CPUs and no GPU.
/// The files do not name their unit: the one of a thousand jobs counts seconds, the larger one hours, and only the
/// latter has lengths with a fraction. `hours` says which.
pub fn gaia(path: &Path, hours: bool, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let arrival = table.column("arrival_time")?;
    let length = table.column("length")?;
    let cpus = table.column("cpus")?;
    let unit = if hours { HOUR_US } else { SECOND_US };
    let start = shift::start(options);
    let mut takes = Takes::new("import/gaia", options);
    sink.table(&mut table, |row, rows| {
        let number = row.number;
        let submitted = at(row, start, row.positive(arrival, unit)?)?;
        let work = WorkUs(row.positive(length, unit)?.max(SECOND_US));
        let cpus = row.integer(cpus, 1..=100_000)?;
        let request = JobRequested {
            job: JobId::from(format!("gaia/{number}")),
            tenant: TenantId::from("gaia"),
            kind: JobKind::Batch,
            gang: Gang {
                replicas_min: Count(1),
                replicas_max: Count(1),
                cpu_milli: CpuMilli(cpus * 1_000),
                memory_mib: MemoryMib(cpus * 4_096),
                ..Gang::default()
            },
            preemptible: true,
            checkpoint_interval_us: Some(DurationUs(30 * 60 * SECOND_US)),
            ..JobRequested::default()
        };
        Ok(takes.take(request, submitted, work, rows))
    })
}

/// What the applications of Sia's workloads take: GPU-minutes on the T4, and speed on an RTX 2080 Ti and an A100 in
/// thousandths of a T4's. The files say when a job came and how wide it was meant to be, not how long it ran; the
/// minutes are assumed within the size classes of the Pollux paper (OSDI 2021), the speeds are assumed.
const APPLICATIONS: [(&str, i64, i64, i64); 6] = [
    ("cifar10", 45, 1_900, 3_600),
    ("ncf", 30, 1_700, 3_000),
    ("bert", 240, 1_700, 4_200),
    ("deepspeech2", 300, 1_800, 3_200),
    ("yolov3", 1_500, 1_800, 3_800),
    ("imagenet", 9_000, 1_900, 4_000),
];

/// Sia's workloads for 64 GPUs of three kinds: `name,time,application,num_replicas,batch_size`.
pub fn sia(path: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let name = table.column("name")?;
    let time = table.column("time")?;
    let application = table.column("application")?;
    let replicas = table.column("num_replicas")?;
    let start = shift::start(options);
    let mut takes = Takes::new("import/sia", options);
    sink.table(&mut table, |row, rows| {
        let submitted = at(row, start, row.positive(time, SECOND_US)?)?;
        let Some((_, gpu_minutes, rtx, a100)) =
            APPLICATIONS.into_iter().find(|(known, ..)| *known == row.text(application))
        else {
            let known = APPLICATIONS.map(|(known, ..)| known).join(", ");
            return Err(row.bad(application, format!("one of {known}")));
        };
        let gpus = row.integer(replicas, 1..=64)?;
        let choice = |model: &str, speed: i64| ModelChoice { model: model.into(), speed_milli: Milli(speed) };
        let request = JobRequested {
            job: JobId::from(format!("sia/{}", row.required(name)?)),
            tenant: TenantId::from("sia"),
            kind: JobKind::Training,
            gang: Gang {
                replicas_min: Count(gpus),
                replicas_max: Count(gpus),
                gpus: Count(1),
                gpu_milli_each: GpuMilli(1_000),
                cpu_milli: CpuMilli(2_000),
                memory_mib: MemoryMib(16_384),
                ..Gang::default()
            },
            models: vec![choice("T4", 1_000), choice("RTX2080Ti", rtx), choice("A100", a100)],
            preemptible: true,
            checkpoint_interval_us: Some(DurationUs(30 * 60 * SECOND_US)),
            checkpoint_mib: Some(MemoryMib(1_024)),
            restore_us: Some(DurationUs(2 * 60 * SECOND_US)),
            ..JobRequested::default()
        };
        let work = WorkUs((gpu_minutes * MINUTE_US / gpus).max(SECOND_US));
        Ok(takes.take(request, submitted, work, rows))
    })
}

/// Work of a token that is read and of one that is written, on the reference model: a model of 70 billion parameters on a
/// node of eight GPUs reads some 8,000 and writes some 1,000 tokens a second over all requests in flight.
const CONTEXT_TOKEN_US: i64 = 125;
const GENERATED_TOKEN_US: i64 = 1_000;

/// Requests to a language model: `TIMESTAMP,ContextTokens,GeneratedTokens`. All requests of a minute are one serving job
/// of one GPU that is as long as their tokens take.
pub fn llm(path: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let timestamp = table.column("TIMESTAMP")?;
    let context = table.column("ContextTokens")?;
    let generated = table.column("GeneratedTokens")?;
    let mut takes = Takes::new("import/llm", options);
    let mut minute = Minute::default();
    let mut full = false;
    sink.table(&mut table, |row, rows| {
        let time = takes.shift.apply(row.time(timestamp)?);
        // The job of a minute comes when it is over; that of the last one is written after all rows.
        if !(0..=TIME_MAX_US - MINUTE_US).contains(&time.0) {
            return Err(row.bad(timestamp, "a time from 1970 on, before the year 2200"));
        }
        let tokens = (row.integer(context, 0..=100_000_000)?, row.integer(generated, 0..=100_000_000)?);
        let start = TimeUs(time.0 / MINUTE_US * MINUTE_US);
        if start < minute.start {
            // The job of that minute has gone out already.
            return Err(row.bad(timestamp, "a time not before the minute of the rows above"));
        }
        if start != minute.start {
            let (request, submitted, work) =
                std::mem::replace(&mut minute, Minute { start, ..Minute::default() }).job();
            full = work != WorkUs::ZERO && !takes.take(request, submitted, work, rows);
        }
        minute.work_us += tokens.0 * CONTEXT_TOKEN_US + tokens.1 * GENERATED_TOKEN_US;
        Ok(!full)
    })?;
    let (request, submitted, work) = minute.job();
    if work != WorkUs::ZERO
        && !full
        && let Taken::Job(events) = takes.events(request, submitted, work)
    {
        events.iter().try_for_each(|event| sink.put(event))?;
    }
    Ok(())
}

const MINUTE_US: i64 = 60 * SECOND_US;

/// The requests of one minute.
#[derive(Default)]
struct Minute {
    start: TimeUs,
    work_us: i64,
}

impl Minute {
    /// The job that serves them, when it comes and how long it works; no work when there are none.
    fn job(self) -> (JobRequested, TimeUs, WorkUs) {
        let client = ClientRegion {
            region: "azure:eastus".into(),
            weight_milli: Milli(1_000),
            latency_objective_us: Some(DurationUs(200_000)),
        };
        let request = JobRequested {
            job: JobId::from(format!("llm/{}", self.start.0 / MINUTE_US)),
            tenant: TenantId::from("llm"),
            kind: JobKind::Serving,
            gang: Gang {
                replicas_min: Count(1),
                replicas_max: Count(1),
                gpus: Count(1),
                gpu_milli_each: GpuMilli(1_000),
                cpu_milli: CpuMilli(8_000),
                memory_mib: MemoryMib(65_536),
                ..Gang::default()
            },
            client_regions: vec![client],
            ..JobRequested::default()
        };
        let work = if self.work_us == 0 { 0 } else { self.work_us.max(SECOND_US) };
        (request, TimeUs(self.start.0 + MINUTE_US), WorkUs(work))
    }
}

/// `offset` after the beginning of a trace.
fn at(row: &Row<'_>, start: TimeUs, offset: i64) -> Result<TimeUs, BadRow> {
    let time = start.0.checked_add(offset).filter(|us| *us <= TIME_MAX_US);
    time.map(TimeUs).ok_or_else(|| row.bad_field("time", &offset.to_string(), "a time before the year 2200"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::testing::{imported, trace, write};

    fn work(events: &[Event]) -> Vec<(String, i64)> {
        let script = |event: &Event| match event {
            Event::WorkScripted(script) => {
                Some((format!("{} {}", script.job, rfc3339(script.occurred_us)), script.work_us.0 / SECOND_US))
            }
            _ => None,
        };
        events.iter().filter_map(script).collect()
    }

    #[test]
    fn gaia_counts_in_seconds_or_hours() {
        let file = write("gaia.csv", b"arrival_time,length,cpus\n0.0,25.5,1\n1.5,2,-1\nx,1,1\n");
        let options = Options::default();
        let (summary, events) = imported(|sink| gaia(&file, true, &options, sink));
        assert_eq!((summary.rows, summary.bad), (3, 2));
        assert_eq!(work(&events), [("gaia/1 2023-09-04T00:00:00Z".to_owned(), 91_800)]);
        let (_, events) = imported(|sink| gaia(&file, false, &options, sink));
        assert_eq!(work(&events)[0].1, 25);
    }

    #[test]
    fn sia_jobs_are_as_long_as_their_application_takes() {
        let file = write(
            "sia.csv",
            b"name,time,application,num_replicas,batch_size\na,401.0,cifar10,12,4096\nb,1,chess,1,1\n",
        );
        let (summary, events) = imported(|sink| sia(&file, &Options::default(), sink));
        assert_eq!((summary.bad, summary.bad_rows[0].line), (1, 3));
        assert_eq!(work(&events), [("sia/a 2023-09-04T00:06:41Z".to_owned(), 225)]);
    }

    #[test]
    fn requests_of_a_minute_are_one_serving_job() {
        let file = write(
            "llm.csv",
            b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,8000,1000\n\
            2023-11-16 18:15:50.1,8000,1000\nx,1,1\n2023-11-16 18:17:50.1,0,5000\n2823-11-16 18:17:50.1,0,5000\n",
        );
        let (summary, events) = imported(|sink| llm(&file, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad), (5, 2));
        let found: Vec<_> = work(&events).into_iter().map(|(_, seconds)| seconds).collect();
        assert_eq!(found, [4, 5]);
    }

    #[test]
    fn the_whole_traces_are_read_without_a_bad_row() {
        for (file, hours, rows) in [("gaia/pai_1k.csv.gz", false, 1_000), ("gaia/pai-100k.csv.gz", true, 99_998)] {
            let Some(path) = trace(file) else { return };
            let (summary, _) = imported(|sink| gaia(&path, hours, &Options::default(), sink));
            assert_eq!((summary.rows, summary.bad), (rows, 0), "{file}");
        }
        for file in ["sia/saturn/workload-1.csv", "sia/philly/workload-1.csv", "sia/newtrace/workload-1.csv"] {
            let Some(path) = trace(file) else { return };
            let (summary, _) = imported(|sink| sia(&path, &Options::default(), sink));
            assert!(summary.rows > 0 && summary.bad == 0, "{file}: {:?}", summary.bad_rows);
        }
        let Some(path) = trace("llm/AzureLLMInferenceTrace_conv.csv.gz") else { return };
        let (summary, _) = imported(|sink| llm(&path, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad), (19_366, 0));
    }
}
