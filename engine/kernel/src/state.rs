//! Everything the kernel knows, as tables of rows. Indexes for speed are kept beside it and derived from it.

use solyx_schemas::events::facility::{PowerElementDeclared, PowerElementStateChanged, SiteDeclared};
use solyx_schemas::events::plans::{PlanKind, PlanPublished};
use solyx_schemas::events::policy::{
    CostWeightsSet, ExchangeRateSet, GpuModelDeclared, LeaseSold, PowerLimitSet, PriorityClassSet, QuotaSet,
    RateCardSet, ReservationSet, ReserveSet, SchedulingPolicySet, ScopeKind, ScopeState, TenantDeclared,
};
use solyx_schemas::events::world::{DatasetDeclared, EgressPriced, LinkMeasured, ReplicaReported};
use solyx_schemas::ids::*;
use solyx_schemas::told::Told;
use solyx_schemas::units::*;

use crate::decay::Served;
use crate::decide::by_class::any_preempts;
use crate::digest::SetHash;
use crate::order_rule::OrderRule;
use crate::rows::*;
use crate::table::{Changed, Entry, Packed, Table};

macro_rules! state {
    ($( $(#[doc = $doc:literal])* $number:literal $name:ident : $key:ty => $value:ty; )*) => {
        /// The tables.
        #[derive(Clone, Default)]
        pub struct State {
            $( $(#[doc = $doc])* pub $name: Table<$key, $value>, )*
        }

        // Entries are written and read in order of tables.
        const _: () = {
            let numbers: &[u8] = &[$( $number ),*];
            let mut at = 1;
            while at < numbers.len() {
                assert!(numbers[at - 1] < numbers[at], "tables stand in order of their numbers");
                at += 1;
            }
        };

        impl State {
            /// Brings a digest up to date with what changed since the last call.
            pub fn digest_changes(&mut self, digest: &mut SetHash) {
                $( self.$name.digest_changes($number, digest); )*
            }

            /// All canonical entries, in order of table and key.
            pub fn entries(&self) -> Vec<Entry> {
                let mut entries = Vec::new();
                $( self.$name.entries($number, &mut entries); )*
                entries
            }

            /// Keeps everything as it is now for [`State::advance_cut`]; how many entries that are.
            pub fn begin_cut(&mut self) -> usize {
                let mut entries = 0;
                $(
                    self.$name.begin_cut();
                    entries += self.$name.len();
                )*
                entries
            }

            /// The next entries of the cut, in order of table and key, of about so many bytes; none when it is done.
            pub fn advance_cut(&mut self, mut bytes_max: usize) -> Vec<Entry> {
                let mut entries = Vec::new();
                $(
                    if !self.$name.advance_cut($number, &mut bytes_max, &mut entries) {
                        return entries;
                    }
                )*
                entries
            }

            /// Gives up the cut.
            pub fn end_cut(&mut self) {
                $( self.$name.end_cut(); )*
            }

            /// What changed since the last call, in order of table and key; for those who keep no digest.
            pub fn take_changes(&mut self) -> Vec<Changed> {
                let mut changes = Vec::new();
                $( self.$name.take_changes($number, &mut changes); )*
                changes
            }

            /// No longer remembers what changed.
            pub fn forget_changes(&mut self) {
                $( self.$name.forget_changes(); )*
            }

            /// The name of a canonical entry's table with its key and row as they are told to a person; an error names the table.
            pub fn told(entry: &Entry) -> Result<(&'static str, Told, Told), String> {
                match entry.table {
                    $( $number => {
                        let told = Table::<$key, $value>::told(entry);
                        let (key, row) = told.map_err(|e| format!("table {}: {e}", stringify!($name)))?;
                        Ok((stringify!($name), key, row))
                    } )*
                    other => Err(format!("table {other} does not exist")),
                }
            }

            /// Puts whole tables back, from entries in order of table and key; an error names the table.
            pub fn load_tables<B: AsRef<[u8]>>(&mut self, mut entries: &[Entry<B>]) -> Result<(), String> {
                $(
                    let (own, rest) = entries.split_at(entries.partition_point(|entry| entry.table <= $number));
                    if !own.is_empty() {
                        self.$name.load_all(own).map_err(|e| format!("table {}: {e}", stringify!($name)))?;
                    }
                    entries = rest;
                )*
                entries.first().map_or(Ok(()), |entry| Err(format!("table {} does not exist", entry.table)))
            }

            /// Puts a canonical entry back; an error names the table.
            pub fn load<B: AsRef<[u8]>>(&mut self, entry: &Entry<B>) -> Result<(), String> {
                match entry.table {
                    $( $number => self.$name.load(entry).map_err(|e| format!("table {}: {e}", stringify!($name))), )*
                    other => Err(format!("table {other} does not exist")),
                }
            }
        }
    };
}

/// Requests between two plans of packing prices, unless policy says otherwise.
const PLAN_INTERVAL: i64 = 250;

/// Number of the table of what jobs ask for.
pub const SPECS: u8 = 28;

/// Key of an energy or carbon series: zone and kind, as text that sorts.
pub type SeriesKey = (ZoneId, Name);

state! {
    /// The cell itself; one row.
    0 meta: u8 => Meta;
    /// GPU models.
    1 models: GpuModelId => GpuModelDeclared;
    /// Tenants.
    2 tenants: TenantId => TenantDeclared;
    /// Tenants, queues, pools and sites that are not open.
    3 scopes: (ScopeKind, RefId) => ScopeState;
    /// Quotas by tenant, project and model.
    4 quotas: (TenantId, Option<ProjectId>, Option<GpuModelId>) => QuotaSet;
    /// Budgets.
    5 budgets: RefId => Budget;
    /// Priority classes.
    6 classes: ClassId => PriorityClassSet;
    /// Rate cards.
    7 rate_cards: RefId => RateCardSet;
    /// Exchange rates by pair and start.
    8 exchange: (Currency3, Currency3, TimeUs) => ExchangeRateSet;
    /// Scheduling policies by scope.
    9 policies: Name => SchedulingPolicySet;
    /// Cost weights by scope and start.
    10 weights: (Name, TimeUs) => CostWeightsSet;
    /// Sold leases.
    11 sold_leases: RefId => LeaseSold;
    /// Reservations.
    12 reservations: RefId => ReservationSet;
    /// Capacity held back for failover.
    13 reserves: (RefId, GpuModelId) => ReserveSet;
    /// Power limits.
    14 power_limits: RefId => PowerLimitSet;
    /// Sites.
    15 sites: SiteId => SiteDeclared;
    /// Elements of power trees.
    16 elements: (SiteId, ElementId) => PowerElementDeclared;
    /// Elements that are not in service.
    17 element_states: (SiteId, ElementId) => PowerElementStateChanged;
    /// Pools.
    18 pools: PoolId => Pool;
    /// Providers.
    19 providers: ProviderId => Provider;
    /// Nodes and leased instances.
    20 nodes: NodeId => Node;
    /// Round-trip times between regions.
    21 links: (RegionId, RegionId) => LinkMeasured;
    /// Prices of traffic between regions.
    22 egress: (RegionId, RegionId) => EgressPriced;
    /// Energy prices by zone, kind and start.
    23 prices: (ZoneId, Name, TimeUs) => Interval;
    /// Carbon by zone, kind and start.
    24 carbon: (ZoneId, Name, TimeUs) => Interval;
    /// Data sets.
    25 datasets: DatasetId => DatasetDeclared;
    /// Replicas by data set and site.
    26 replicas: (DatasetId, SiteId) => ReplicaReported;
    /// Orders for instances not answered in full.
    27 orders: RefId => Order;
    /// What jobs that are not over ask for.
    28 specs: JobId => Packed<Spec>;
    /// Jobs.
    29 jobs: JobId => Box<Job>;
    /// Runs that hold resources.
    30 runs: RunId => Run;
    /// The last plan of each kind.
    31 plans: Name => PlanPublished;
    /// Who pays for a run, kept while budgets are in force.
    32 owners: RunId => Owner;
    /// Room that is made for jobs.
    33 claims: JobId => Claim;
    /// Since when a job waits that its tenant's promised share has room for.
    34 entitled: JobId => TimeUs;
    /// Jobs that may have more replicas than their least.
    38 elastic: JobId => Elastic;
    /// How often which kind of job was asked for.
    40 kinds: KindKey => Frequency;
    /// How many jobs were asked for; one row, once one was.
    41 requests: u8 => Requests;
    /// What tenants have been served, while policy has a half-life.
    42 served: TenantId => Served;
    /// What consolidation may still lose; one row, once it has lost anything.
    45 tokens: u8 => Tokens;
    /// Keys of sealed texts that are gone, with their tenants.
    46 destroyed_keys: RefId => TenantId;
    /// Nodes that are closed to newcomers until room can be made there for a job that is owed it.
    47 clearing: JobId => Closed;
}

/// A currency as a key.
pub type Currency3 = Currency;

impl State {
    /// The cell's row.
    pub fn meta(&self) -> &Meta {
        // The row is made with the state and never taken out.
        self.meta.get(&0).expect("the cell's row is always there")
    }

    /// The cell's row, to be changed.
    pub fn meta_mut(&mut self) -> &mut Meta {
        self.meta.edit_or_default(&0)
    }

    /// Time of the present epoch.
    pub fn now(&self) -> TimeUs {
        self.meta().now_us
    }

    /// A tenant and those above it, nearest first. A parent that is not declared yet stands at the root.
    pub fn lineage<'s>(&'s self, tenant: &'s TenantId) -> impl Iterator<Item = &'s TenantId> {
        // What would close a ring is not let in, so that every line has an end.
        std::iter::successors(Some(tenant), |tenant| self.tenants.get(*tenant)?.parent.as_ref())
    }

    /// What a job asks for.
    pub fn spec(&self, id: &JobId) -> Option<Spec> {
        self.specs.get(id).map(|spec| spec.open())
    }

    /// The packing prices in force.
    pub fn packing_plan(&self) -> Option<&PlanPublished> {
        self.policy().plan_interval()?;
        self.plans.get(PlanKind::PackingPrices.as_str())
    }

    /// Constants of scheduling, with their defaults.
    pub fn policy(&self) -> Policy<'_> {
        Policy(self.policies.get("cell"))
    }

    /// Time between ticks while something waits; none means no ticks. Whoever makes room needs them.
    pub fn tick(&self) -> Option<DurationUs> {
        let consolidates = self.policy().consolidation_budget().is_some();
        let makes_room = !self.policy().order_rule().promises_starts() || any_preempts(self) || consolidates;
        let default = makes_room.then_some(DurationUs(60 * SECOND_US));
        self.policy().as_set().and_then(|set| set.tick_us).or(default).filter(|tick| tick.0 > 0)
    }

    /// What is said of a tenant, of those above it and of its queue, where anything is but that they are open.
    pub fn scopes_of<'s>(
        &'s self,
        tenant: &'s TenantId,
        project: Option<&ProjectId>,
    ) -> impl Iterator<Item = (ScopeKind, RefId, ScopeState)> + use<'s> {
        let queue = project.map(|project| (ScopeKind::Queue, RefId::from(format!("{tenant}/{project}"))));
        let tenants = self.lineage(tenant).map(|tenant| (ScopeKind::Tenant, RefId::from(tenant.as_str())));
        tenants.chain(queue).filter_map(|(kind, id)| {
            let state = self.scopes.get(&(kind, id.clone()))?;
            Some((kind, id, *state))
        })
    }

    /// The state of a scope; open unless said otherwise.
    pub fn scope(&self, kind: ScopeKind, id: &str) -> ScopeState {
        if self.scopes.is_empty() {
            return ScopeState::Open;
        }
        self.scopes.get(&(kind, RefId::from(id))).copied().unwrap_or(ScopeState::Open)
    }
}

/// The cell's scheduling policy; a constant that is not set has its default.
#[derive(Clone, Copy)]
pub struct Policy<'s>(Option<&'s SchedulingPolicySet>);

impl Policy<'_> {
    /// How jobs of one class are ordered.
    pub fn order_rule(&self) -> OrderRule {
        self.0.and_then(|p| OrderRule::named(p.order_rule.as_str())).unwrap_or(OrderRule::ShareSurcharge)
    }

    /// Part of the fleet that is promised to tenants, thousandths; 0 under rules that look at no shares unless it is set.
    pub fn promised_milli(&self) -> i64 {
        let default = if self.order_rule() == OrderRule::ShareSurcharge { 900 } else { 0 };
        self.0.and_then(|p| p.promised_milli).map_or(default, |part| part.0)
    }

    /// Whether tenants' promised shares go first, and are given back.
    pub fn promises_shares(&self) -> bool {
        !self.order_rule().promises_starts() && self.promised_milli() > 0
    }

    /// Time in which past use loses half its weight in shares; none means that only present use counts.
    pub fn half_life(&self) -> Option<DurationUs> {
        self.0.and_then(|p| p.half_life_us).filter(|half_life| half_life.0 > 0)
    }

    /// How often one job may be stopped for others.
    pub fn preemptions_max(&self) -> i64 {
        self.0.and_then(|p| p.preemptions_max).map_or(10, |most| most.0)
    }

    /// GPU time that consolidation may lose per hour, µs of one GPU; none means that it never does.
    pub fn consolidation_budget(&self) -> Option<DurationUs> {
        self.0.and_then(|p| p.consolidation_budget_us).filter(|budget| budget.0 > 0)
    }

    /// Packing rule by name.
    pub fn packing_rule(&self) -> &str {
        self.0.map_or("solyx", |p| p.packing_rule.as_str())
    }

    /// Requests between two plans of packing prices; none when no plans are made: without a policy, under another rule, or when
    /// policy says 0.
    pub fn plan_interval(&self) -> Option<i64> {
        let set = self.0.filter(|p| p.packing_rule.as_str() == "solyx")?;
        Some(set.plan_interval.map_or(PLAN_INTERVAL, |n| n.0)).filter(|n| *n > 0)
    }

    /// Gangs that are promised their earliest starts at a time, under rules that promise any.
    pub fn backfill_reservations(&self) -> usize {
        let most = self.0.and_then(|p| p.backfill_reservations).map_or(1, |most| most.0);
        usize::try_from(most).unwrap_or(0).max(1)
    }

    /// Jobs behind the first promise that one pass tries for backfill.
    pub fn backfill_depth(&self) -> i64 {
        self.0.and_then(|p| p.backfill_depth).map_or(100, |c| c.0)
    }

    /// Time a run that is told to stop has to do so.
    pub fn grace(&self) -> DurationUs {
        self.0.and_then(|p| p.preemption_grace_us).unwrap_or(DurationUs(60 * SECOND_US))
    }

    /// Time a run goes on without renewing its lease.
    pub fn run_lease(&self) -> DurationUs {
        self.0.and_then(|p| p.run_lease_us).unwrap_or(DurationUs(10 * 60 * SECOND_US))
    }

    /// Retries of a failure that the job says nothing about.
    pub fn retries_max(&self) -> i64 {
        self.0.and_then(|p| p.retries_max).map_or(3, |c| c.0)
    }

    /// Wait before a first retry.
    pub fn retry_backoff(&self) -> DurationUs {
        self.0.and_then(|p| p.retry_backoff_us).unwrap_or(DurationUs(30 * SECOND_US))
    }

    /// Work assumed for a job of unknown length.
    pub fn default_work(&self) -> WorkUs {
        self.0.and_then(|p| p.default_expected_work_us).unwrap_or(WorkUs(4 * HOUR_US))
    }

    /// Longest deferral of a job without a deadline.
    pub fn deferral_max(&self) -> DurationUs {
        self.0.and_then(|p| p.deferral_max_us).unwrap_or(DurationUs(0))
    }

    /// Least saving for which a job is deferred, thousandths of its cost.
    pub fn deferral_saving_min_milli(&self) -> i64 {
        self.0.and_then(|p| p.deferral_saving_min_milli).map_or(50, |m| m.0)
    }

    /// Most instances on order for one pool.
    pub fn lease_orders_max(&self) -> i64 {
        self.0.and_then(|p| p.lease_orders_max).map_or(64, |c| c.0)
    }

    /// Idle time after which an instance is given back.
    pub fn lease_idle(&self) -> DurationUs {
        self.0.and_then(|p| p.lease_idle_us).unwrap_or(DurationUs(300 * SECOND_US))
    }

    /// Time for which a failure counts against a node, and for which the job that it failed avoids that node.
    pub fn lemon_window(&self) -> DurationUs {
        self.0.and_then(|p| p.lemon_window_us).unwrap_or(DurationUs(DAY_US))
    }

    /// The policy as it was set.
    pub fn as_set(&self) -> Option<&SchedulingPolicySet> {
        self.0
    }
}
