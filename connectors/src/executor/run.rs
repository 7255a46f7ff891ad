//! One run: when it starts, checkpoints, is metered, renews its lease and ends, and how much work it has done by then.

use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::facts::JobFacts;
use super::scripts::JobScript;

/// The shortest time between two renewals of a lease.
const RENEWAL_INTERVAL_MIN_US: i64 = SECOND_US;
/// Microwatt × µs in a joule.
const UW_US_PER_J: i128 = 1_000_000_000_000;

/// How a run will end if nobody interferes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finish { exit_code: i64 },
    Fail { category: FailureCategory },
}

/// A run that has been placed and has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) job: JobId,
    pub(crate) run: RunId,
    pub(crate) decision: RefId,
    pub(crate) site: SiteId,
    pub(crate) nodes: Vec<NodeGpus>,
    /// Power each entry of `nodes` makes its GPUs draw, µW.
    pub(crate) busy_uw: Vec<i64>,
    /// Power metered for the run: its GPUs and its part of the idle power, µW.
    pub(crate) draw_uw: i128,
    gpu_milli: i64,
    cpu_milli: i64,
    speed_milli: i64,
    from_work: WorkUs,
    restore: DurationUs,
    checkpoint_interval: Option<DurationUs>,
    pub(crate) checkpoint_mib: MemoryMib,
    lease: DurationUs,
    /// Work that a failure leaves.
    pub(crate) durable_work: WorkUs,
    /// Until when it runs without another renewal.
    pub(crate) starts_at: TimeUs,
    pub(crate) started: bool,
    ends_at: TimeUs,
    target_work: WorkUs,
    pub(crate) end: End,
    pub(crate) stop: Option<(TimeUs, StopReason)>,
    next_checkpoint: Option<TimeUs>,
    next_renewal: Option<TimeUs>,
    metered_until: TimeUs,
    /// Where it stands in the queue of what is due.
    pub(crate) due_at: Option<TimeUs>,
}

/// What a run used between two instants within one clock hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metered {
    pub(crate) from: TimeUs,
    pub(crate) to: TimeUs,
    pub(crate) gpu_time: i64,
    pub(crate) cpu_time: i64,
    pub(crate) energy_j: i64,
}

impl Run {
    /// The run of a placement, starting at `starts_at`.
    pub(crate) fn placed(placed: &JobPlaced, job: JobFacts, script: JobScript, starts_at: TimeUs) -> Self {
        let lease = placed.lease_until_us.since(placed.start_us);
        let from_work = placed.from_work_us;
        let (target, end) = match script.failure {
            Some((at, category)) if category == FailureCategory::UserCode || !job.failed => {
                (at, End::Fail { category })
            }
            _ => (script.work, End::Finish { exit_code: if job.failed { 0 } else { script.exit_code } }),
        };
        Self {
            job: placed.job.clone(),
            run: placed.run.clone(),
            decision: format!("{}/{}/{}/{}", placed.cell, placed.epoch, placed.term, placed.index).into(),
            site: placed.site.clone(),
            nodes: placed.nodes.clone(),
            busy_uw: Vec::new(),
            draw_uw: 0,
            gpu_milli: placed.gpu_milli.0,
            cpu_milli: job.cpu_milli.0.saturating_mul(placed.replicas.0.max(1)),
            speed_milli: if placed.speed_milli.0 > 0 { placed.speed_milli.0 } else { 1_000 },
            from_work,
            restore: if from_work.0 > 0 { job.restore } else { DurationUs::ZERO },
            checkpoint_interval: job.checkpoint_interval,
            checkpoint_mib: job.checkpoint_mib,
            lease,
            durable_work: from_work,
            starts_at,
            started: false,
            ends_at: TimeUs(i64::MAX),
            target_work: WorkUs(target.0.max(from_work.0)),
            end,
            stop: None,
            next_checkpoint: None,
            next_renewal: (lease.0 > 0).then(|| next_multiple(placed.now_us, renewal_interval(lease))),
            metered_until: starts_at,
            due_at: None,
        }
    }

    /// Fixes the instants that depend on the start.
    pub(crate) fn start(&mut self) {
        self.started = true;
        self.metered_until = self.starts_at;
        let left = i128::from(self.target_work.0 - self.from_work.0) * 1_000;
        let speed = i128::from(self.speed_milli);
        let wall = ((left + speed - 1) / speed).min(i128::from(TIME_MAX_US)) as i64;
        let working_from = self.starts_at.after(self.restore);
        self.ends_at = working_from.after(DurationUs(wall));
        self.next_checkpoint = self.checkpoint_interval.map(|interval| working_from.after(interval));
    }

    /// Work of each replica done at an instant, from the job's beginning.
    pub(crate) fn work_at(&self, at: TimeUs) -> WorkUs {
        if !self.started {
            return self.from_work;
        }
        let wall = at.since(self.starts_at.after(self.restore));
        let done = i128::from(wall.0) * i128::from(self.speed_milli) / 1_000;
        let work = i128::from(self.from_work.0) + done;
        WorkUs(work.min(i128::from(self.target_work.0)) as i64)
    }

    /// When something of it is due next.
    pub(crate) fn next_due(&self) -> TimeUs {
        let stop = self.stop.map_or(TimeUs(i64::MAX), |(at, _)| at);
        let renewal = self.next_renewal.unwrap_or(TimeUs(i64::MAX));
        if !self.started {
            return self.starts_at.min(stop).min(renewal);
        }
        let checkpoint = self.next_checkpoint.unwrap_or(TimeUs(i64::MAX));
        let meters = self.gpu_milli > 0 || self.cpu_milli > 0;
        let hour = if meters { next_multiple(self.metered_until, DurationUs(HOUR_US)) } else { TimeUs(i64::MAX) };
        self.ends_at.min(stop).min(renewal).min(checkpoint).min(hour)
    }

    /// Whether it ends by itself at this instant.
    pub(crate) fn is_over(&self, at: TimeUs) -> bool {
        self.started && self.ends_at <= at
    }

    /// Why it stops at this instant, if it was told to.
    pub(crate) fn stops(&self, at: TimeUs) -> Option<StopReason> {
        self.stop.filter(|(stop, _)| *stop <= at).map(|(_, reason)| reason)
    }

    /// The work of a checkpoint that becomes durable at this instant, if one does.
    pub(crate) fn checkpoint(&mut self, at: TimeUs) -> Option<WorkUs> {
        let interval = self.checkpoint_interval?;
        let due = self.next_checkpoint.filter(|due| *due <= at)?;
        self.next_checkpoint = Some(due.after(interval));
        if self.is_over(at) {
            return None;
        }
        self.keep_work(at)
    }

    /// Makes the work done by now durable; a run that takes no checkpoints keeps nothing. Absent when nothing was gained.
    pub(crate) fn keep_work(&mut self, at: TimeUs) -> Option<WorkUs> {
        self.checkpoint_interval?;
        let work = self.work_at(at);
        let gained = work > self.durable_work;
        self.durable_work = self.durable_work.max(work);
        gained.then_some(work)
    }

    /// Until when the lease holds that is renewed at this instant, if it is time to.
    ///
    /// Renewals fall on multiples of half the lease, so that runs of equal leases renew at the same instants: fewer epochs,
    /// and no run ever uses up more than half of its lease.
    pub(crate) fn renewal(&mut self, at: TimeUs) -> Option<TimeUs> {
        self.next_renewal.filter(|due| *due <= at)?;
        self.next_renewal = Some(next_multiple(at, renewal_interval(self.lease)));
        Some(at.after(self.lease))
    }

    /// What was used since it was metered last, if a clock hour is full or `ending`.
    pub(crate) fn meter(&mut self, at: TimeUs, ending: bool) -> Option<Metered> {
        let from = self.metered_until;
        if !self.started || at <= from || !(ending || at.0 % HOUR_US == 0) {
            return None;
        }
        self.metered_until = at;
        let wall = at.0 - from.0;
        // From the start, so that the hours of a run add up to its energy without a loss at each.
        let energy = |until: TimeUs| self.draw_uw * i128::from(until.0 - self.starts_at.0) / UW_US_PER_J;
        Some(Metered {
            from,
            to: at,
            gpu_time: self.gpu_milli.saturating_mul(wall),
            cpu_time: if self.gpu_milli == 0 { self.cpu_milli.saturating_mul(wall) } else { 0 },
            energy_j: (energy(at) - energy(from)) as i64,
        })
    }
}

fn renewal_interval(lease: DurationUs) -> DurationUs {
    DurationUs((lease.0 / 2).max(RENEWAL_INTERVAL_MIN_US))
}

/// The first multiple of `step` after an instant.
pub(crate) fn next_multiple(after: TimeUs, step: DurationUs) -> TimeUs {
    TimeUs((after.0 / step.0 + 1).saturating_mul(step.0))
}
