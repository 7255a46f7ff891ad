//! Money in a history: prices in two currencies, budgets that come and change while jobs run, and what meters say of runs.

use solyx_histories::budgets::card;
use solyx_histories::history::Luck;
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::policy::{BudgetKind, BudgetSet};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::{ProjectId, RefId, TenantId};
use solyx_schemas::units::{Currency, HOUR_US, MoneyMicros, TimeUs, UsageQuantity};

/// One history in so many has money in it: the one that leaves this rest.
const WITH_MONEY: (u64, u64) = (3, 0);
const TENANTS: [&str; 3] = ["red", "blue", "red/a"];
const PRICE_MICROS_PER_GPU_HOUR: i64 = 3_000_000;

/// Who sets prices and budgets and reads meters. It draws of its own, so that histories without money stay as they are.
pub struct Money {
    luck: Option<Luck>,
}

impl Money {
    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        Self { luck: Self::is_in(seed).then_some(Luck(seed ^ 0x006d_6f6e_6579)) }
    }

    /// Whether there is any in the history of a seed.
    pub fn is_in(seed: u64) -> bool {
        let (of, rest) = WITH_MONEY;
        seed % of == rest
    }

    /// What is said before the first turn.
    pub fn begins(&mut self) -> Vec<Event> {
        let Some(luck) = &mut self.luck else { return Vec::new() };
        let mut cards = vec![card(None, "USD", PRICE_MICROS_PER_GPU_HOUR)];
        if luck.chance(30) {
            cards.push(card(Some("blue"), "EUR", PRICE_MICROS_PER_GPU_HOUR));
        }
        cards
    }

    /// What is said after a turn.
    pub fn says(&mut self, state: &State, now: i64) -> Vec<Event> {
        let Some(luck) = &mut self.luck else { return Vec::new() };
        let mut events = Vec::new();
        if luck.chance(15) {
            events.push(budget(luck, now));
        }
        let runs: Vec<_> = state.runs.iter().collect();
        if !runs.is_empty() && luck.chance(60) {
            let (id, run) = *luck.of(&runs);
            let hour = now / HOUR_US * HOUR_US;
            let usage = UsageMetered {
                job: run.job.clone(),
                run: id.clone(),
                meter: Meter::GpuTime,
                quantity: UsageQuantity(luck.below(4) * run.gpu_milli.0 * HOUR_US),
                from_us: TimeUs(hour - HOUR_US),
                to_us: TimeUs(hour),
                ..UsageMetered::default()
            };
            events.push(usage.into());
        }
        events
    }
}

fn budget(luck: &mut Luck, now: i64) -> Event {
    // One of its own may lie before, around and after now.
    let from = now + (luck.below(7) - 4) * 12 * HOUR_US;
    let period = luck.chance(40).then(|| (TimeUs(from), TimeUs(from + (1 + luck.below(4)) * 12 * HOUR_US)));
    let currency = Currency::parse(luck.of::<&str>(&["USD", "USD", "EUR"])).unwrap_or_default();
    BudgetSet {
        budget: RefId::from(format!("budget-{}", luck.below(3))),
        tenant: TenantId::from(*luck.of(&TENANTS)),
        project: luck.chance(20).then(|| ProjectId::from("lab")),
        amount: Sum { currency, micros: MoneyMicros(luck.below(100) * PRICE_MICROS_PER_GPU_HOUR) },
        kind: *luck.of(&[BudgetKind::Hard, BudgetKind::Soft]),
        period_from_us: period.map(|(from, _)| from),
        period_to_us: period.map(|(_, to)| to),
        ..BudgetSet::default()
    }
    .into()
}
