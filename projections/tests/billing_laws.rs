//! Laws of billing on random histories: GPU time and money are conserved.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;

use common::History;
use common::billing::*;
use proptest::prelude::*;
use solyx_kernel::rating::Fraction;
use solyx_projections::billing::{Billing, FractionView, InvoiceView};
use solyx_projections::fold::Fold;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::{JobCancelled, JobPreempted, JobRequeued};
use solyx_schemas::events::policy::TierMode;
use solyx_schemas::events::runs::RunFailed;
use solyx_schemas::units::*;

/// How a run goes; times are seconds.
#[derive(Clone, Debug)]
struct Story {
    placed: i64,
    gpus: i64,
    start_delay: i64,
    length: i64,
    report_delay: i64,
    /// One in four intervals goes unmetered where the bit is set.
    unmetered: u8,
    skew: i64,
    stopped_after: Option<i64>,
    ending: u8,
    priced: bool,
}

fn story() -> impl Strategy<Value = Story> {
    let times = (0_i64..100_000, 1_i64..9, 0_i64..500, 1_i64..20_000, 0_i64..100);
    let rest = (any::<u8>(), -50_i64..50, proptest::option::of(0_i64..20_000), 0_u8..5, any::<bool>());
    (times, rest).prop_map(|((placed, gpus, start_delay, length, report_delay), rest)| {
        let (unmetered, skew, stopped_after, ending, priced) = rest;
        Story { placed, gpus, start_delay, length, report_delay, unmetered, skew, stopped_after, ending, priced }
    })
}

/// What happens when: inputs and outputs by second.
type Agenda = BTreeMap<i64, (Vec<Event>, Vec<Event>)>;

fn tell(agenda: &mut Agenda, base: i64, number: usize, story: &Story) {
    let job = format!("job-{number}");
    let us = |second: i64| base + second * SECOND_US;
    let tenant = if story.priced { "team" } else { "house" };
    let at_placing = agenda.entry(story.placed).or_default();
    at_placing.0.push(requested(&job, tenant));
    at_placing.1.push(placed(&job, 1, "metapod-1/h100", "node-1", story.gpus));
    let start = story.placed + story.start_delay;
    let end = start + story.length;
    let told = end + story.report_delay;
    if story.ending != 4 {
        agenda.entry(start).or_default().0.push(started(&job, 1, us(start)));
    }
    if let Some(after) = story.stopped_after {
        let run = format!("{job}/1");
        let order: Event = match story.ending {
            2 => JobCancelled { job: job.as_str().into(), run: Some(run.into()), ..JobCancelled::default() }.into(),
            _ => JobPreempted { job: job.as_str().into(), run: run.into(), ..JobPreempted::default() }.into(),
        };
        agenda.entry((start + after).min(told)).or_default().1.push(order);
    }
    let quarter = (story.length / 4).max(1);
    for part in (0..4).filter(|part| story.unmetered & (1 << part) == 0) {
        let (from, to) = (start + part * quarter, (start + (part + 1) * quarter).min(end));
        if from < to {
            let quantity = (story.gpus * 1_000 * (us(to) - us(from)) + story.skew).max(0);
            let event = used(&job, 1, solyx_schemas::events::usage::Meter::GpuTime, quantity, us(from), us(to));
            agenda.entry(to + i64::from(story.unmetered)).or_default().0.push(event);
        }
    }
    let run = || solyx_schemas::ids::RunId::from(format!("{job}/1"));
    let at_end = agenda.entry(told).or_default();
    match story.ending {
        0 => at_end.0.push(finished(&job, 1, us(end))),
        1 | 2 => at_end.0.push(
            RunFailed { job: job.as_str().into(), run: run(), failed_us: TimeUs(us(end)), ..RunFailed::default() }
                .into(),
        ),
        3 => at_end.1.push(JobRequeued { job: job.as_str().into(), run: run(), ..JobRequeued::default() }.into()),
        // The run is still live when the history ends.
        _ => {}
    }
}

fn fraction(view: &FractionView) -> Fraction {
    Fraction::new(view.numerator.parse().unwrap(), view.denominator.parse().unwrap())
}

/// Sum of rounded lines less the rounding shown is the exact sum, by currency of the rate.
fn ties(invoice: &InvoiceView) -> bool {
    let mut left: BTreeMap<&str, Fraction> = BTreeMap::new();
    for line in &invoice.lines {
        let rounded = Fraction::whole(line.rounded_micros.unwrap().into());
        let difference = rounded.minus(fraction(line.exact_micros.as_ref().unwrap()), "line").unwrap();
        let sum = left.entry(line.rate_currency.as_str()).or_insert(Fraction::ZERO);
        *sum = sum.plus(difference, "sum").unwrap();
    }
    let shown: BTreeMap<&str, Fraction> =
        invoice.rounding.iter().map(|line| (line.currency.as_str(), fraction(&line.difference))).collect();
    let total: i64 = invoice.lines.iter().map(|line| line.amount_micros.unwrap()).sum();
    left == shown && invoice.total_micros == Some(total)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn gpu_time_and_money_are_conserved(
        stories in proptest::collection::vec(story(), 1..12), price in 1_i64..9_999_999, graduated: bool, close_at in 0_i64..150_000,
    ) {
        let base = at("2023-09-30");
        let mode = if graduated { TierMode::Graduated } else { TierMode::Volume };
        let mut team = card("team", "USD", 0, None, mode, &[(Some(3), price), (Some(7), price / 2), (None, price / 3)]);
        if let Event::RateCardSet(card) = &mut team {
            card.tenant = Some("team".into());
        }
        let mut agenda = Agenda::new();
        let beginning = vec![
            cell(), tenant("team", "EUR"), tenant("house", "USD"), team, exchange("USD", "EUR", 0, 937, 1_000),
            pool("metapod-1/h100", "metapod", CapacityClass::Owned),
        ];
        agenda.entry(-1).or_default().0 = beginning;
        agenda.entry(close_at).or_default().0.push(closed("team", "2023-09"));
        stories.iter().enumerate().for_each(|(number, story)| tell(&mut agenda, base, number, story));
        let mut history = History::default();
        for (second, (inputs, outputs)) in agenda {
            history.epoch(base + second * SECOND_US, inputs, outputs);
        }
        let mut billing = Billing::default();
        let mut closed_invoice: Option<Option<i64>> = None;
        for epoch in &history.epochs {
            billing.apply(epoch).unwrap();
            let is_closing = epoch.record.now_us.0 == base + close_at * SECOND_US;
            if is_closing {
                closed_invoice = Some(september(&billing));
            }
        }
        let view = billing.view();
        prop_assert!(view.gpu_time.conserved, "{:?}", view.gpu_time);
        prop_assert!(view.invoices.iter().all(ties));
        prop_assert!(view.problems.is_empty(), "{:?}", view.problems);
        prop_assert_eq!(closed_invoice, Some(september(&billing)), "a closed invoice stays");
        let margin: i64 = view.jobs.iter().map(|job| job.margin_micros).sum();
        prop_assert_eq!(view.totals.revenue_micros, margin, "nothing costs anything here");
    }
}

fn september(billing: &Billing) -> Option<i64> {
    let month = solyx_kernel::rating::Month::parse("2023-09").unwrap();
    billing.invoice(&"team".into(), month).map(|invoice| invoice.total_micros.unwrap())
}
