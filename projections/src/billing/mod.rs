//! Money: what customers owe, what supply costs, what is left, and where each GPU-microsecond went.
//!
//! The fold keeps quantities, never rounded amounts: an invoice is computed from them when it is asked for, with the cards,
//! rates and closings that the log had said by then. Nothing is judged again; usage that no card prices is listed, not
//! dropped.

mod costs;
mod depreciation;
mod energy;
mod gpu_time;
mod hours;
mod invoice;
mod lines;
mod margin;
mod rows;
mod runs;
mod sold_leases;
mod sources;
mod supply;
mod usage;
mod view;

use solyx_kernel::rating::{ExchangeBook, Month, RateBook, RateCard};
use solyx_schemas::epochs::{EpochBatch, Position};
use solyx_schemas::events::Event;
use solyx_schemas::ids::*;
use solyx_schemas::units::{Currency, TimeUs};

use crate::fold::{Change, Entry, Fold, FoldError, ToldRow};
use crate::rows::Rows;
use crate::timeline;
use rows::*;

pub use rows::{EventAt, ExactSum};
pub use sources::LineSources;
pub use view::*;

/// The billing fold.
#[derive(Default)]
pub struct Billing {
    tables: Tables,
    /// Cards as they stand, derived from the table of all their versions.
    cards: RateBook,
    /// Derived from the table of rates.
    exchange: ExchangeBook,
    /// Closings of the open epoch.
    closing: Vec<(TenantId, Month)>,
}

macro_rules! tables {
    ($( $(#[doc = $doc:literal])* $number:literal $name:ident : $key:ty => $row:ty; )*) => {
        #[derive(Default)]
        pub(super) struct Tables {
            $( $(#[doc = $doc])* pub $name: Rows<$key, $row>, )*
        }

        impl Tables {
            fn entries(&self) -> Vec<Entry> {
                let mut entries = Vec::new();
                $( self.$name.entries($number, &mut entries); )*
                entries.sort();
                entries
            }

            fn changes(&mut self) -> Vec<Change> {
                let mut changes = Vec::new();
                $( self.$name.changes($number, &mut changes); )*
                changes
            }

            fn forget_changes(&mut self) {
                $( self.$name.forget_changes(); )*
            }

            fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, String> {
                let Some((table, key)) = key.split_first() else { return Err("an entry has no table".to_owned()) };
                match table {
                    $( $number => {
                        let told = self.$name.told(stringify!($name), key, value);
                        told.map_err(|e| format!("table {}: {e}", stringify!($name)))
                    } )*
                    other => Err(format!("table {other} does not exist")),
                }
            }

            fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
                let Some((table, key)) = key.split_first() else { return Err("an entry has no table".to_owned()) };
                match table {
                    $( $number => self.$name.load(key, value).map_err(|e| format!("table {}: {e}", stringify!($name))), )*
                    other => Err(format!("table {other} does not exist")),
                }
            }
        }
    };
}

tables! {
    /// What stands once.
    0 meta: u8 => Meta;
    /// Tenants.
    1 tenants: TenantId => TenantRow;
    /// Jobs.
    2 jobs: JobId => JobRow;
    /// Runs.
    3 runs: RunId => RunRow;
    /// Every version of every rate card.
    4 cards: (RefId, u32) => RateCard;
    /// Exchange rates by pair and start: numerator and denominator.
    5 exchange: (Currency3, Currency3, TimeUs) => (i64, i64);
    /// Lines of invoices.
    6 lines: LineKey => LineRow;
    /// Closed months.
    7 closed: (TenantId, Month) => ClosedRow;
    /// Usage by a hash of its source and id.
    8 usage: UsageKey => UsageRow;
    /// Pools.
    9 pools: PoolId => PoolRow;
    /// Sites.
    10 sites: SiteId => SiteRow;
    /// Nodes of ours.
    11 nodes: NodeId => NodeRow;
    /// Shares of nodes that runs hold or held.
    12 node_uses: (NodeId, RunId) => NodeUse;
    /// Leased instances by id and start.
    13 leases: (InstanceId, TimeUs) => LeaseRow;
    /// Suppliers' invoices.
    14 supplier_invoices: (ProviderId, RefId) => SupplierRow;
    /// Commitments.
    15 commitments: RefId => CommitmentRow;
    /// Leases sold.
    16 sold_leases: RefId => SoldLeaseRow;
    /// Assets.
    17 assets: RefId => AssetRow;
    /// Prices of energy by zone, kind and start.
    18 energy_prices: timeline::Key => timeline::Interval;
    /// Cost of our own energy by job, pool, month and currency, exact in micros.
    19 energy_costs: (JobId, PoolId, Month, Currency3) => ExactSum;
    /// Energy of ours that had no price, J, by pool and month.
    20 energy_unpriced: (PoolId, Month) => ExactSum;
    /// What could not be rated.
    21 problems: EventAt => ProblemRow;
    /// The run of a job that holds resources.
    22 live: JobId => RunId;
    /// Until when a live run goes on without another renewal.
    23 run_leases: RunId => TimeUs;
    /// Live runs that were told to stop for good: nobody says so when they are given up.
    24 stopping: RunId => ();
    /// Cost of what nodes of ours were measured to draw, by pool, month and currency, exact in micros.
    25 energy_measured: (PoolId, Month, Currency3) => ExactSum;
}

/// A currency's code as text that sorts and is saved as itself.
pub(super) type Currency3 = String;

impl Billing {
    pub(super) fn meta(&self) -> Meta {
        self.tables.meta.get(&0).cloned().unwrap_or_default()
    }

    fn input(&mut self, at: EventAt, event: &Event, now: TimeUs) {
        match event {
            Event::CellDeclared(e) => self.tables.meta.entry(&0).reference = Some(e.reference_currency),
            Event::TenantDeclared(e) => {
                self.tables.tenants.insert(e.tenant.clone(), TenantRow { currency: e.billing_currency });
            }
            Event::JobRequested(e) => self.job_requested(e),
            Event::JobRequestAmended(e) => {
                if let (Some(class), Some(job)) = (&e.class, self.tables.jobs.get_mut(&e.job)) {
                    job.class = class.clone();
                }
            }
            Event::RateCardSet(e) => self.card_set(e),
            Event::ExchangeRateSet(e) => {
                let key = (e.from_currency.to_string(), e.to_currency.to_string(), e.effective_from_us);
                self.tables.exchange.insert(key, (e.numerator.0, e.denominator.0));
                self.exchange.insert(e);
            }
            Event::PeriodClosed(e) => match Month::parse(e.period.as_str()) {
                Some(month) => self.closing.push((e.tenant.clone(), month)),
                None => self.problem(
                    at,
                    e.tenant.to_string(),
                    format!("found period {}, expected a month such as 2023-09", e.period),
                ),
            },
            Event::LeaseSold(e) => self.lease_sold(at, e),
            Event::SoldLeaseEnded(e) => {
                if let Some(lease) = self.tables.sold_leases.get_mut(&e.lease) {
                    // As the kernel has it: a later word does not make it longer.
                    lease.ended_us = Some(lease.ended_us.map_or(e.ended_us, |ended| ended.min(e.ended_us)));
                }
            }
            Event::RunStarted(e) => self.run_started(&e.run, e.started_us),
            Event::RunFinished(e) => self.run_ended(&e.run, e.finished_us, now),
            Event::RunFailed(e) => self.run_ended(&e.run, e.failed_us, now),
            Event::RunStopped(e) => self.run_ended(&e.run, e.stopped_us, now),
            Event::RunLeaseRenewed(e) => self.run_lease_renewed(&e.run, e.lease_until_us),
            Event::UsageMetered(e) => self.usage_metered(at, e),
            Event::UsageCorrected(e) => self.usage_corrected(at, e),
            _ => self.supply_event(at, event, now),
        }
    }

    fn output(&mut self, event: &Event, now: TimeUs) {
        match event {
            Event::JobPlaced(e) => self.job_placed(e, now),
            Event::JobPreempted(e) => self.stop_ordered(&e.run, now, false),
            Event::JobMigrated(e) => self.stop_ordered(&e.run, now, false),
            Event::JobResized(e) => self.stop_ordered(&e.run, now, false),
            Event::JobCancelled(e) => match &e.run {
                Some(run) => self.stop_ordered(run, now, true),
                // A run that was lost, and whose job may not be tried again, ends with its job.
                None => self.job_over(&e.job, now),
            },
            Event::JobRequeued(e) => self.run_lost(&e.run, now),
            _ => {}
        }
    }

    fn card_set(&mut self, set: &solyx_schemas::events::policy::RateCardSet) {
        self.cards.insert(set);
        let card = self.cards.cards().find(|(id, _)| **id == set.rate_card).map(|(_, card)| card.clone());
        if let Some(card) = card {
            self.tables.cards.insert((set.rate_card.clone(), card.version), card);
        }
    }

    pub(super) fn problem(&mut self, at: EventAt, subject: String, detail: String) {
        self.tables.problems.insert(at, ProblemRow { subject, detail });
    }
}

impl Fold for Billing {
    fn name(&self) -> &'static str {
        "billing"
    }

    fn format(&self) -> u32 {
        4
    }

    fn apply(&mut self, epoch: &EpochBatch) -> Result<(), FoldError> {
        let (number, now) = (epoch.record.epoch, epoch.record.now_us);
        let meta = self.tables.meta.entry(&0);
        meta.held_by_clock += meta.held_milli * i128::from(now.0 - meta.now_us.0);
        meta.now_us = now;
        meta.began_us.get_or_insert(now);
        meta.next_epoch = number + 1;
        for (Position { partition, ordinal, .. }, event) in epoch.counted() {
            self.input(EventAt { epoch: number, partition, ordinal }, event, now);
        }
        for event in &epoch.outputs {
            self.output(event, now);
        }
        self.leases_passed(now);
        for (tenant, month) in std::mem::take(&mut self.closing) {
            self.close(tenant, month, number);
        }
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        self.tables.entries()
    }

    fn changes(&mut self) -> Option<Vec<Change>> {
        Some(self.tables.changes())
    }

    fn forget_changes(&mut self) {
        self.tables.forget_changes();
    }

    fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, FoldError> {
        self.tables.told(key, value).map_err(|detail| FoldError { fold: "billing", detail })
    }

    fn load(&mut self, entries: &mut dyn Iterator<Item = Entry>) -> Result<(), FoldError> {
        for (key, value) in entries {
            self.tables.load(&key, &value).map_err(|detail| FoldError { fold: "billing", detail })?;
        }
        for ((id, _), card) in self.tables.cards.iter() {
            // Versions come in order, so the last one stays.
            self.cards.restore(id.clone(), card.clone());
        }
        for ((from, to, at), rate) in self.tables.exchange.iter() {
            if let (Some(from), Some(to)) = (Currency::parse(from), Currency::parse(to)) {
                self.exchange.restore(from, to, *at, *rate);
            }
        }
        Ok(())
    }
}
