//! Billing on small histories.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "../common/mod.rs"]
mod common;
mod invoices;
mod supply;

use common::History;
use common::billing::*;
use solyx_kernel::rating::Month;
use solyx_projections::billing::{Billing, InvoiceView};
use solyx_projections::fold::Fold;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::units::*;

fn folded(history: &History) -> Billing {
    let mut billing = Billing::default();
    history.epochs.iter().for_each(|epoch| billing.apply(epoch).unwrap());
    let mut loaded = Billing::default();
    loaded.load(&mut billing.entries().into_iter()).unwrap();
    assert_eq!(loaded.entries(), billing.entries(), "a saved state is the state");
    assert_eq!(loaded.view(), billing.view(), "and says the same");
    billing
}

fn invoice(billing: &Billing, tenant: &str, month: &str) -> InvoiceView {
    billing.invoice(&tenant.into(), Month::parse(month).unwrap()).unwrap()
}

fn begun(extra: Vec<Event>) -> History {
    let mut history = History::default();
    let pools = [
        pool("metapod-1/h100", "metapod", CapacityClass::Owned),
        pool("lambda/h100", "lambda", CapacityClass::OnDemand),
    ];
    let inputs = [cell(), tenant("team", "USD")].into_iter().chain(pools).chain(extra).collect();
    history.epoch(at("2023-09-01"), inputs, Vec::new());
    history
}

/// A run of eight GPUs from one instant to another, metered by the hour of the clock.
fn run(history: &mut History, job: &str, from: i64, to: i64) {
    history.epoch(from, vec![requested(job, "team")], vec![placed(job, 1, "metapod-1/h100", "node-1", 8)]);
    let mut events = vec![started(job, 1, from)];
    let mut start = from;
    while start < to {
        let end = ((start / HOUR_US + 1) * HOUR_US).min(to);
        events.push(gpu_time(job, 1, 8, start, end));
        start = end;
    }
    events.push(finished(job, 1, to));
    history.epoch(to, events, Vec::new());
}
