//! What the executor has to know of the fleet and of jobs, as counted inputs say it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// What a job or a script asks to be said more often than this is said this often: a second is nobody's checkpoint.
pub(super) const INTERVAL_MIN: DurationUs = DurationUs(SECOND_US);

/// A pool, as far as an executor cares.
#[derive(Clone, Debug)]
pub(crate) struct PoolFacts {
    pub(crate) site: SiteId,
    pub(crate) class: CapacityClass,
    pub(crate) gpus: i64,
    pub(crate) start_delay: DurationUs,
    pub(crate) minimum_billing: DurationUs,
    pub(crate) granularity: DurationUs,
}

/// A job that is not over, as far as an executor cares.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JobFacts {
    pub(crate) expected_work: Option<WorkUs>,
    pub(crate) checkpoint_interval: Option<DurationUs>,
    pub(crate) checkpoint_mib: MemoryMib,
    pub(crate) restore: DurationUs,
    pub(crate) cpu_milli: CpuMilli,
    /// Whether its scripted failure has happened.
    pub(crate) failed: bool,
}

/// The facts.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) pools: BTreeMap<PoolId, PoolFacts>,
    prices: BTreeMap<PoolId, BTreeMap<TimeUs, (RateMicros, Currency)>>,
    gpu_max_w: BTreeMap<GpuModelId, PowerW>,
    pub(crate) sites: BTreeSet<SiteId>,
    /// Jobs that were asked for and are not over. Looked up and counted only, never walked.
    pub(crate) jobs: HashMap<JobId, JobFacts>,
}

impl Facts {
    /// Takes note of a counted input.
    pub(crate) fn learn(&mut self, event: &Event) {
        match event {
            Event::PoolDeclared(e) => {
                let facts = PoolFacts {
                    site: e.site.clone(),
                    class: e.class,
                    gpus: e.shape.gpus.0,
                    start_delay: e.start_delay_us,
                    minimum_billing: e.minimum_billing_us,
                    granularity: e.granularity_us,
                };
                self.pools.insert(e.pool.clone(), facts);
            }
            Event::PoolPriced(e) => {
                let prices = self.prices.entry(e.pool.clone()).or_default();
                prices.insert(e.effective_from_us, (e.price_micros_per_gpu_hour, e.currency));
            }
            Event::GpuModelDeclared(e) => {
                self.gpu_max_w.insert(e.model.clone(), e.max_w);
            }
            Event::SiteDeclared(e) => {
                self.sites.insert(e.site.clone());
            }
            Event::JobRequested(e) => {
                self.jobs.entry(e.job.clone()).or_insert(JobFacts {
                    expected_work: e.expected_work_us,
                    checkpoint_interval: e
                        .checkpoint_interval_us
                        .filter(|interval| interval.0 > 0)
                        .map(|interval| interval.max(INTERVAL_MIN)),
                    checkpoint_mib: e.checkpoint_mib.unwrap_or_default(),
                    restore: e.restore_us.unwrap_or_default(),
                    cpu_milli: e.gang.cpu_milli,
                    failed: false,
                });
            }
            _ => {}
        }
    }

    /// The price of a pool in force at an instant.
    pub(crate) fn price(&self, pool: &PoolId, at: TimeUs) -> Option<(RateMicros, Currency)> {
        self.prices.get(pool)?.range(..=at).next_back().map(|(_, price)| *price)
    }

    /// Largest power of a GPU of a model; 0 when the model is not declared.
    pub(crate) fn gpu_max_w(&self, model: &GpuModelId) -> i64 {
        self.gpu_max_w.get(model).map_or(0, |power| power.0)
    }

    /// Whether a pool is our own hardware at a site that is declared: only there is power measured.
    pub(crate) fn metered_site(&self, pool: &PoolId) -> Option<&SiteId> {
        let facts = self.pools.get(pool)?;
        (facts.class == CapacityClass::Owned).then(|| self.sites.get(&facts.site)).flatten()
    }

    /// Whether instances of a pool are leased by the hour.
    pub(crate) fn is_leased(&self, pool: &PoolId) -> bool {
        let class = self.pools.get(pool).map(|facts| facts.class);
        matches!(class, Some(CapacityClass::OnDemand | CapacityClass::Spot))
    }
}
