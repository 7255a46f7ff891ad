//! Alibaba's GPU trace of 2023 (`cluster-trace-gpu-v2023`): a list of nodes and a list of pods become a whole world.
//!
//! The fleet comes with the trace: one owned pool per GPU model at one site, and the rules of `openb_fleet.toml`. A pod
//! is a job that asks for what the pod asked for, at its creation, and works from its start as long as the trace says it
//! lived, times `stretch`. Its quality of service is its tenant; best effort has a class of its own. A pod that failed
//! fails at the end of its work and is not tried again; one that ran or waited when the trace ended is marked censored.

use std::collections::BTreeMap;
use std::path::Path;

use solyx_schemas::events::capacity::{CapacityClass, FabricKind, InstanceShape, PoolDeclared, PoolPriced};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::plans::{ScriptedEnd, WorkScripted};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::shift;
use super::table::{Column, Row, Table};
use super::{BadRow, ImportError, Options, Sink};
use crate::fleet;

/// Who says it.
pub const SOURCE: &str = "import/openb";
/// The fleet that comes with the trace.
const FLEET: &str = include_str!("openb_fleet.toml");
/// The model of nodes without GPUs.
const NO_MODEL: &str = "none";
/// Tenant of pods without a quality of service.
const DEFAULT_TENANT: &str = "LS";

/// Largest power of one GPU of each model, as in the fleet file.
type MaxPower = BTreeMap<String, (MemoryMib, PowerW, PowerW)>;

/// Writes the fleet, the nodes and the pods.
pub fn import(nodes: &Path, pods: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let start = shift::start(options);
    let mut models = MaxPower::new();
    for event in fleet::parse("openb_fleet.toml", FLEET, Some(start))? {
        if let solyx_schemas::events::Event::GpuModelDeclared(model) = &event {
            models.insert(model.model.to_string(), (model.memory_mib, model.idle_w, model.max_w));
        }
        sink.put(&event)?;
    }
    import_nodes(nodes, start, &models, sink)?;
    import_pods(pods, start, options, sink)
}

fn import_nodes(path: &Path, start: TimeUs, models: &MaxPower, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let [sn, cpu, memory, gpu, model] = columns(&table, ["sn", "cpu_milli", "memory_mib", "gpu", "model"])?;
    let mut pools: BTreeMap<String, ()> = BTreeMap::new();
    sink.table(&mut table, |row, rows| {
        let name = row.required(sn)?;
        let gpus = row.integer(gpu, 0..=1_024)?;
        let cpu_milli = CpuMilli(row.integer(cpu, 0..=1_000_000_000)?);
        let memory_mib = MemoryMib(row.integer(memory, 0..=1_000_000_000)?);
        let model_name = if gpus == 0 { NO_MODEL } else { row.required(model)? };
        let Some(&(gpu_memory, idle, max)) = models.get(model_name) else {
            let known: Vec<&str> = models.keys().map(String::as_str).collect();
            return Err(row.bad(model, format!("one of {}", known.join(", "))));
        };
        let pool = PoolId::from(format!("openb/{model_name}"));
        if pools.insert(model_name.to_owned(), ()).is_none() {
            let shape = InstanceShape {
                instance_type: Name::from(model_name),
                gpus: Count(gpus),
                cpu_milli,
                memory_mib,
                gpu_memory_mib: gpu_memory,
                scratch_gib: StorageGib(0),
            };
            rows.push(declared(&pool, model_name, shape, start));
            rows.push(priced(&pool, start));
        }
        let report = |index| GpuReport {
            index,
            uuid: Name::from(format!("{name}-{index}")),
            model: GpuModelId::from(model_name),
            memory_mib: gpu_memory,
            nvlink_domain: None,
            max_w: max,
        };
        // A server without GPUs is taken to draw a watt and a half per core when idle and four when busy.
        let (idle_cores, busy_cores) = (cpu_milli.0 * 3 / 2_000, cpu_milli.0 * 4 / 1_000);
        rows.push(NodeReported {
            event_id: EventId::from(format!("openb/node/{name}")),
            source: SourceId::from(SOURCE),
            occurred_us: start,
            node: NodeId::from(name),
            pool,
            gpus: (0..gpus).map(report).collect(),
            cpu_milli,
            memory_mib,
            idle_w: PowerW(idle_cores + gpus * idle.0),
            max_w: PowerW(busy_cores + gpus * max.0),
            ..NodeReported::default()
        });
        Ok(true)
    })
}

fn declared(pool: &PoolId, model: &str, shape: InstanceShape, start: TimeUs) -> PoolDeclared {
    PoolDeclared {
        event_id: EventId::from(format!("openb/pool/{model}")),
        source: SourceId::from(SOURCE),
        occurred_us: start,
        pool: pool.clone(),
        provider: ProviderId::from("openb"),
        site: SiteId::from("openb"),
        class: CapacityClass::Owned,
        gpu_model: GpuModelId::from(model),
        shape,
        fabric: FabricKind::Ethernet,
        granularity_us: DurationUs(SECOND_US),
        ..PoolDeclared::default()
    }
}

fn priced(pool: &PoolId, start: TimeUs) -> PoolPriced {
    PoolPriced {
        event_id: EventId::from(format!("openb/price/{pool}")),
        source: SourceId::from(SOURCE),
        occurred_us: start,
        pool: pool.clone(),
        price_micros_per_gpu_hour: RateMicros::ZERO,
        currency: Currency::parse("USD").unwrap_or_default(),
        effective_from_us: start,
    }
}

struct PodColumns {
    name: Column,
    cpu: Column,
    memory: Column,
    gpus: Column,
    gpu_milli: Column,
    created: Column,
    deleted: Column,
    spec: Option<Column>,
    qos: Option<Column>,
    phase: Option<Column>,
}

fn import_pods(path: &Path, start: TimeUs, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    if table.find("creation_time").is_none() && table.find("num_gpu").is_some() {
        return Err(ImportError::Content {
            file: table.file.clone(),
            detail: "its pods have no creation_time and deletion_time".to_owned(),
            hint: "run this workload with `solyx backtest packing`, which needs no times".to_owned(),
        });
    }
    let [name, cpu, memory, gpus, gpu_milli, created, deleted] =
        columns(&table, ["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time"])?;
    let [spec, qos, phase] = ["gpu_spec", "qos", "pod_phase"].map(|name| table.find(name));
    let columns = PodColumns { name, cpu, memory, gpus, gpu_milli, created, deleted, spec, qos, phase };
    let shift = shift::Shift::new(options);
    let mut taken = 0;
    sink.table(&mut table, |row, rows| {
        let pod = pod(row, &columns, start, options)?;
        if !shift.wants(pod.0.occurred_us) {
            rows.skip();
            return Ok(true);
        }
        if options.limit.is_some_and(|limit| taken >= limit) {
            return Ok(false);
        }
        taken += 1;
        rows.push(pod.0);
        rows.push(pod.1);
        Ok(true)
    })
}

fn pod(
    row: &Row<'_>,
    columns: &PodColumns,
    start: TimeUs,
    options: &Options,
) -> Result<(JobRequested, WorkScripted), BadRow> {
    let text = |column: Option<Column>| column.map_or("", |column| row.text(column));
    let created = row.positive(columns.created, SECOND_US)?;
    let deleted = row.positive(columns.deleted, SECOND_US)?;
    if deleted < created {
        return Err(row.bad(columns.deleted, format!("not before creation_time {}", row.text(columns.created))));
    }
    let stretched = (deleted - created).checked_mul(options.stretch.max(1));
    let work = stretched.ok_or_else(|| row.bad(columns.deleted, "a lifetime that can be stretched so far"))?;
    let work = WorkUs(work.max(SECOND_US));
    let gpus = row.integer(columns.gpus, 0..=1_024)?;
    let job = JobId::from(row.required(columns.name)?);
    let tenant = match text(columns.qos) {
        "" => DEFAULT_TENANT,
        qos @ ("LS" | "BE" | "Burstable" | "Guaranteed") => qos,
        _ => {
            let column = columns.qos.unwrap_or(columns.name);
            return Err(row.bad(column, "one of LS, BE, Burstable, Guaranteed or nothing"));
        }
    };
    let choice = |model: &str| ModelChoice { model: GpuModelId::from(model), speed_milli: Milli(1_000) };
    let failed = text(columns.phase) == "Failed";
    let occurred_us = start.after(DurationUs(created));
    let request = JobRequested {
        event_id: EventId::from(format!("openb/{job}/requested")),
        source: SourceId::from(SOURCE),
        occurred_us,
        tenant: TenantId::from(tenant),
        kind: JobKind::Batch,
        gang: Gang {
            replicas_min: Count(1),
            replicas_max: Count(1),
            gpus: Count(gpus),
            gpu_milli_each: GpuMilli(row.integer(columns.gpu_milli, 0..=1_000)?),
            cpu_milli: CpuMilli(row.integer(columns.cpu, 0..=1_000_000_000)?),
            memory_mib: MemoryMib(row.integer(columns.memory, 0..=1_000_000_000)?),
            ..Gang::default()
        },
        models: text(columns.spec).split('|').filter(|model| !model.is_empty()).map(choice).collect(),
        expected_work_us: options.estimates.of(options.seed, job.as_str(), work),
        class: ClassId::from(if tenant == "BE" { "best-effort" } else { "standard" }),
        preemptible: tenant == "BE",
        retry_limits: vec![RetryLimit { category: FailureCategory::UserCode, retries_max: Count(0) }],
        job: job.clone(),
        ..JobRequested::default()
    };
    let script = WorkScripted {
        event_id: EventId::from(format!("openb/{job}/work")),
        source: SourceId::from(SOURCE),
        occurred_us,
        job,
        work_us: work,
        end: if failed { ScriptedEnd::Failed } else { ScriptedEnd::Finished },
        exit_code: i64::from(failed),
        failure: failed.then_some(FailureCategory::UserCode),
        failure_work_us: failed.then_some(work),
        censored: matches!(text(columns.phase), "Running" | "Pending"),
    };
    Ok((request, script))
}

fn columns<const N: usize>(table: &Table, names: [&str; N]) -> Result<[Column; N], ImportError> {
    let mut found = Vec::with_capacity(N);
    for name in names {
        found.push(table.column(name)?);
    }
    Ok(std::array::from_fn(|i| found[i]))
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::Event;

    use super::*;
    use crate::import::testing::{imported, trace, write};

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\n\
        n0,64000,262144,2,P100\nn1,32000,1024,0,\nn2,32000,1024,8,B9\nn3,64000,262144,2,P100\n";
    const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n\
        p0,12000,16384,1,1000,,LS,Running,0,100,0\n\
        p1,6000,12288,1,460,V100M16|V100M32,BE,Failed,50,60,50\n\
        p2,8000,30517,0,0,,Burstable,Succeeded,70,70,\n\
        p3,8000,30517,-1,0,,LS,Succeeded,70,80,\n\
        p4,8000,30517,1,0,,LS,Succeeded,70,60,\n\
        p5,8000,30517,1,500,,XX,Succeeded,70,80,\n";

    #[test]
    fn nodes_and_pods_become_a_whole_world() {
        let (nodes, pods) = (write("nodes.csv", NODES.as_bytes()), write("pods.csv", PODS.as_bytes()));
        let options = Options { stretch: 90, ..Options::default() };
        let (summary, events) = imported(|sink| import(&nodes, &pods, &options, sink));
        let bad: Vec<_> = summary.bad_rows.iter().map(|bad| (bad.line, bad.field.as_str())).collect();
        assert_eq!(bad, [(4, "model"), (5, "num_gpu"), (6, "deletion_time"), (7, "qos")]);
        let count = |name: &str| events.iter().filter(|event| event.name().ends_with(name)).count();
        assert_eq!((count("PoolDeclared"), count("NodeReported"), count("CellDeclared")), (2, 3, 1));
        let scripts: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::WorkScripted(s) => Some((s.work_us.0 / SECOND_US, s.end, s.censored)),
                _ => None,
            })
            .collect();
        let expected = [
            (9_000, ScriptedEnd::Finished, true),
            (900, ScriptedEnd::Failed, false),
            (1, ScriptedEnd::Finished, false),
        ];
        assert_eq!(scripts, expected);
        let models: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::JobRequested(r) => Some((r.models.len(), r.gang.gpu_milli_each.0, rfc3339(r.occurred_us))),
                _ => None,
            })
            .collect();
        assert_eq!(models[1], (2, 460, "2023-09-04T00:00:50Z".to_owned()));
    }

    #[test]
    fn a_workload_without_times_says_what_to_do() {
        let (nodes, pods) = (
            write("nodes.csv", NODES.as_bytes()),
            write("pods.csv", b"name,cpu_milli,memory_mib,num_gpu,gpu_milli\np0,1,1,1,1000\n"),
        );
        imported(|sink| {
            let error = import(&nodes, &pods, &Options::default(), sink).expect_err("no times").to_string();
            assert!(error.contains("solyx backtest packing"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn the_whole_trace_is_read_without_a_bad_row() {
        let (Some(nodes), Some(pods)) =
            (trace("openb/openb_node_list_all_node.csv.gz"), trace("openb/openb_pod_list_default.csv.gz"))
        else {
            return;
        };
        let (summary, events) = imported(|sink| import(&nodes, &pods, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad), (1_523 + 8_152, 0));
        let count = |name: &str| events.iter().filter(|event| event.name().ends_with(name)).count();
        assert_eq!((count("NodeReported"), count("JobRequested"), count("PoolDeclared")), (1_523, 8_152, 8));
    }
}
