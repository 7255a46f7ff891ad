//! What executors say of the runs they carry out.

use crate::events::common::NodeGpus;
use crate::events::jobs::FailureCategory;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.runs";
    /// Why a run stopped without finishing or failing.
    StopReason {
        /// for a job of higher priority
        Preempted = "PREEMPTED",
        /// to go on elsewhere
        Migrated = "MIGRATED",
        /// at somebody's wish, or a limit's
        Cancelled = "CANCELLED",
        /// to go on with more or fewer replicas
        Resized = "RESIZED",
    }
}

inputs! { "solyx.runs", Runs;
    /// A run started.
    RunStarted key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Id of the decision it acts on.
        decision: RefId,
        /// Nodes and GPUs it really has.
        nodes: Vec<NodeGpus>,
        /// When it started.
        started_us: TimeUs,
    }
    /// A checkpoint is durable.
    RunCheckpointed key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Work of the job that it holds, of each replica, from the job's beginning.
        work_us: WorkUs,
        /// Size.
        size_mib: MemoryMib,
        /// Site whose storage has it.
        site: SiteId,
        /// Since when it is durable.
        durable_us: TimeUs,
    }
    /// A run finished its job.
    RunFinished key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Exit code.
        exit_code: i64,
        /// Work of the job done, of each replica, from the job's beginning.
        work_us: WorkUs,
        /// When it finished.
        finished_us: TimeUs,
    }
    /// A run failed.
    RunFailed key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// What failed.
        category: FailureCategory,
        /// The node that failed; absent when it was none.
        node: Option<NodeId>,
        /// Work of the job that is durable, of each replica, from the job's beginning.
        durable_work_us: WorkUs,
        /// When it failed.
        failed_us: TimeUs,
        /// Detail for people.
        detail: String,
    }
    /// A run stopped as it was told to.
    RunStopped key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Why.
        reason: StopReason,
        /// Work of the job that is kept, of each replica, from the job's beginning.
        kept_work_us: WorkUs,
        /// When it stopped.
        stopped_us: TimeUs,
    }
    /// A run is alive, and stops by itself if this is not repeated before the end of its lease.
    RunLeaseRenewed key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Until when the run goes on without another renewal.
        lease_until_us: TimeUs,
    }
}
