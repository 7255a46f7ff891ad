//! Budgets, and who pays for what.

use serde::{Deserialize, Serialize};
use solyx_schemas::events::policy::{BudgetKind, BudgetSet};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::Run;

/// Who pays for a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The job.
    pub job: JobId,
    /// The tenant.
    pub tenant: TenantId,
    /// The project.
    pub project: Option<ProjectId>,
    /// Priority class.
    pub class: ClassId,
    /// GPU model.
    pub model: GpuModelId,
    /// The sold lease that pays for it while that is in force.
    pub lease: Option<RefId>,
}

impl Owner {
    /// Whose a run is, and the lease that pays for it.
    pub fn of(run: &Run, lease: Option<&RefId>) -> Self {
        Self {
            job: run.job.clone(),
            tenant: run.tenant.clone(),
            project: run.project.clone(),
            class: run.class.clone(),
            model: run.model.clone(),
            lease: lease.cloned(),
        }
    }
}

/// A budget and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its declaration.
    pub set: BudgetSet,
    /// Held for admitted work.
    pub held_micros: i128,
    /// Used in the period, exact: micros × 3.6e12 plus a rest, as numerator over that divisor.
    pub used: i128,
    /// Start of the period that `used` is of.
    pub period_from_us: TimeUs,
    /// Said to be exhausted in this period.
    pub exhausted: bool,
}

impl Budget {
    /// Used so far, rounded up.
    pub fn used_micros(&self) -> i64 {
        let up = self.used.saturating_add(GPU_MILLI_US_PER_GPU_HOUR - 1);
        i64::try_from(up.div_euclid(GPU_MILLI_US_PER_GPU_HOUR)).unwrap_or(i64::MAX)
    }

    /// Whether it stops work.
    pub fn is_hard(&self) -> bool {
        self.set.kind == BudgetKind::Hard
    }
}
