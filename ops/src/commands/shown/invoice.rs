//! An invoice as a person reads it: positions by what was used at which rate, the jobs that made most of it, the total.
//!
//! The exact lines, one for each job and meter with the events it comes from, are in the view's JSON; positions are sums of
//! their amounts, which are rounded already, so that they add up to the total.

use std::collections::BTreeMap;

use solyx_projections::billing::{InvoiceView, LineKind, LineView};

use crate::output::{grouped, money, table};

/// Jobs that are named; the others are one line.
const JOBS_MAX: usize = 8;

/// An invoice, summed up.
pub struct Invoice<'v> {
    /// The view it is from.
    pub view: &'v InvoiceView,
    /// What was used, by kind, model, meter and rate.
    pub positions: Vec<Position>,
    /// Jobs by what they cost, the dearest first.
    pub jobs: Vec<JobSum>,
}

/// A position.
pub struct Position {
    /// What it is for.
    pub what: String,
    /// Rate card, version and line.
    pub rate: String,
    /// Quantity in millionths of the unit.
    pub quantity_millionths: i128,
    /// The unit.
    pub unit: String,
    /// The sum of its lines, micros of the invoice's currency.
    pub amount_micros: i128,
    /// Lines.
    pub lines: usize,
}

/// What a job makes of the invoice.
pub struct JobSum {
    /// The job.
    pub job: String,
    /// Micros of the invoice's currency.
    pub amount_micros: i128,
}

impl<'v> Invoice<'v> {
    /// Sums up a view.
    pub fn of(view: &'v InvoiceView) -> Self {
        let mut positions: BTreeMap<(String, String), Position> = BTreeMap::new();
        let mut jobs: BTreeMap<&str, i128> = BTreeMap::new();
        for line in &view.lines {
            let amount = i128::from(line.amount_micros.unwrap_or(0));
            let rate = line.rate.clone().or_else(|| line.lease.clone()).unwrap_or_default();
            let position = positions.entry((what(line), rate.clone())).or_insert_with(|| Position {
                what: what(line),
                rate,
                quantity_millionths: 0,
                unit: line.unit.clone().unwrap_or_default(),
                amount_micros: 0,
                lines: 0,
            });
            position.quantity_millionths += line.priced_quantity.as_deref().map_or(0, millionths);
            position.amount_micros += amount;
            position.lines += 1;
            if let Some(job) = &line.job {
                *jobs.entry(job).or_default() += amount;
            }
        }
        let mut jobs: Vec<JobSum> =
            jobs.into_iter().map(|(job, amount_micros)| JobSum { job: job.to_owned(), amount_micros }).collect();
        jobs.sort_by(|a, b| b.amount_micros.cmp(&a.amount_micros).then_with(|| a.job.cmp(&b.job)));
        Self { view, positions: positions.into_values().collect(), jobs }
    }

    /// The jobs that are named, and the sum of the others with their number.
    pub fn dearest(&self) -> (&[JobSum], Option<(usize, i128)>) {
        let (named, others) = self.jobs.split_at(self.jobs.len().min(JOBS_MAX));
        let sum = others.iter().map(|job| job.amount_micros).sum();
        (named, (!others.is_empty()).then_some((others.len(), sum)))
    }

    /// Whether it can still change.
    pub fn state(&self) -> String {
        match self.view.closed_at_epoch {
            Some(epoch) => format!("closed at the end of epoch {}", grouped(epoch)),
            None => "open: usage still comes in".to_owned(),
        }
    }

    /// What rounding did, in micros to six digits.
    pub fn rounding(&self) -> String {
        let said = self.view.rounding.iter().map(|row| {
            let difference = quotient(&row.difference.numerator, &row.difference.denominator);
            format!("{difference} micros of {}", row.currency)
        });
        said.collect::<Vec<_>>().join(", ")
    }

    /// The invoice as text.
    pub fn text(&self) -> String {
        let view = self.view;
        let mut parts = vec![
            format!("INVOICE  {}  {}", view.tenant, view.period),
            format!(
                "{} lines of {} jobs, {}",
                grouped(view.lines.len() as u64),
                grouped(self.jobs.len() as u64),
                self.state()
            ),
            String::new(),
        ];
        let total =
            view.total_micros.map_or_else(|| "not known: an exchange rate is missing".to_owned(), |t| money(t.into()));
        let rows = self.positions.iter().map(Position::cells);
        let last = ["Total".to_owned(), String::new(), String::new(), String::new(), String::new(), total];
        let amount = format!("amount, {}", view.currency);
        let head = ["position", "rate", "quantity", "unit", "price", amount.as_str()];
        parts.push(table(head, &[2, 4, 5], rows.chain([last])));
        let (named, others) = self.dearest();
        if !named.is_empty() {
            let rows = named.iter().map(|job| [job.job.clone(), money(job.amount_micros)]);
            let rest = others.map(|(jobs, sum)| [format!("{} other jobs", grouped(jobs as u64)), money(sum)]);
            parts.push(String::new());
            parts.push(table(["job", amount.as_str()], &[1], rows.chain(rest)));
        }
        if !view.rounding.is_empty() {
            parts.push(format!("\nEach line is rounded once; together that is {}.", self.rounding()));
        }
        parts.join("\n")
    }
}

impl Position {
    /// Its price per unit: its amount over its quantity, rounded to four decimals.
    pub fn price(&self) -> String {
        let micros = (self.amount_micros * 1_000_000).checked_div(self.quantity_millionths);
        micros.map_or_else(String::new, |micros| {
            let half = if micros < 0 { -50 } else { 50 };
            crate::output::decimal((micros + half) / 100, 10_000, 4)
        })
    }

    /// Its quantity with two decimals.
    pub fn quantity(&self) -> String {
        money(self.quantity_millionths)
    }

    fn cells(&self) -> [String; 6] {
        [
            self.what.clone(),
            self.rate.clone(),
            self.quantity(),
            self.unit.clone(),
            self.price(),
            money(self.amount_micros),
        ]
    }
}

fn what(line: &LineView) -> String {
    let model = line.gpu_model.as_deref().unwrap_or_default();
    let meter = line.meter.as_deref().unwrap_or_default().to_lowercase().replace('_', " ");
    let subject = format!("{} {meter}", model).trim().to_owned();
    match (line.kind, &line.corrects_period) {
        (LineKind::Usage, _) => subject,
        (LineKind::CoveredByLease, _) => format!("{subject}, in a lease"),
        (LineKind::SoldLease, _) => format!("lease of {model}"),
        (LineKind::Correction, Some(period)) => format!("{subject}, correction of {period}"),
        (LineKind::Correction, None) => format!("{subject}, correction"),
    }
}

/// Decimal text with six digits after the point as millionths.
fn millionths(text: &str) -> i128 {
    text.replace('.', "").parse().unwrap_or(0)
}

/// A fraction in decimal text, as far as 128 bits show it; otherwise as it is.
fn quotient(numerator: &str, denominator: &str) -> String {
    match (numerator.parse::<i128>(), denominator.parse::<i128>()) {
        (Ok(n), Ok(d)) if d > 0 => match n.checked_mul(1_000_000) {
            Some(millionths) => crate::output::decimal(millionths / d, 1_000_000, 6),
            None => format!("{numerator}/{denominator}"),
        },
        _ => format!("{numerator}/{denominator}"),
    }
}
