//! The billing view as text: what is left, who pays, who is paid, where GPU time went.

use solyx_projections::billing::{BillingView, GpuTimeView, MarginView};

use crate::output::{decimal, grouped, money, percent, table};

/// Tenants, invoices and problems that are shown; the rest is counted.
const ROWS_MAX: usize = 20;
/// Thousandths of a GPU × µs in a GPU-hour.
const GPU_HOUR: i128 = 3_600_000_000_000;

/// The view as text.
pub fn text(view: &BillingView) -> String {
    let currency = &view.reference_currency;
    let mut parts =
        vec![format!("billing as of {}, {} epochs; amounts in {currency}", view.as_of, grouped(view.epochs))];
    parts.push(String::new());
    parts.push(margins("", std::slice::from_ref(&view.totals)));
    parts.push(String::new());
    parts.push(suppliers(view));
    parts.push(String::new());
    parts.push(margins("tenant", &view.tenants));
    parts.push(String::new());
    parts.push(margins("provider", &view.providers));
    parts.push(String::new());
    parts.push(invoices(view));
    parts.push(String::new());
    parts.push(gpu_time(&view.gpu_time));
    for unpriced in view.unpriced.iter().take(ROWS_MAX) {
        let meter = unpriced.meter.to_lowercase().replace('_', " ");
        let of = format!("{} in {}: {} jobs", unpriced.tenant, unpriced.period, grouped(unpriced.jobs as u64));
        parts.push(format!("no price for {meter} of {of}"));
    }
    for problem in view.problems.iter().take(ROWS_MAX) {
        parts.push(format!("problem: {}: {}", problem.subject, problem.detail));
    }
    let hidden = view.problems.len().saturating_sub(ROWS_MAX);
    if hidden > 0 {
        parts.push(format!("… {} more problems; --json shows all", grouped(hidden as u64)));
    }
    parts.join("\n")
}

fn margins(of: &str, rows: &[MarginView]) -> String {
    let mut sorted: Vec<&MarginView> = rows.iter().collect();
    sorted.sort_by(|a, b| b.revenue_micros.cmp(&a.revenue_micros).then_with(|| a.subject.cmp(&b.subject)));
    let part = |row: &MarginView| {
        let milli = (i128::from(row.margin_micros) * 1_000).checked_div(row.revenue_micros.into());
        milli.map_or_else(|| "–".to_owned(), |milli| percent(milli as i64))
    };
    let rows = sorted.into_iter().take(ROWS_MAX).map(|row| {
        [
            row.subject.clone(),
            money(row.revenue_micros.into()),
            money(row.cost_micros.into()),
            money(row.margin_micros.into()),
            part(row),
        ]
    });
    table([of, "revenue", "cost", "margin", "of revenue"], &[1, 2, 3, 4], rows)
}

fn suppliers(view: &BillingView) -> String {
    let rows = view.suppliers.iter().map(|row| {
        [
            row.provider.clone(),
            money(row.leases_micros.into()),
            money(row.commitments_micros.into()),
            money(row.depreciation_micros.into()),
            money(row.energy_micros.into()),
            money(row.total_micros.into()),
            money(row.idle_micros.into()),
            grouped(row.differences.len() as u64),
        ]
    });
    let head =
        ["supply of", "leases", "commitments", "depreciation", "energy", "total", "of it idle", "disputed lines"];
    table(head, &[1, 2, 3, 4, 5, 6, 7], rows)
}

fn invoices(view: &BillingView) -> String {
    let rows = view.invoices.iter().take(ROWS_MAX).map(|invoice| {
        [
            invoice.tenant.clone(),
            invoice.period.clone(),
            invoice.closed_at_epoch.map_or_else(|| "open".to_owned(), |epoch| format!("closed, epoch {epoch}")),
            grouped(invoice.lines.len() as u64),
            invoice.total_micros.map_or_else(|| "no rate".to_owned(), |total| money(total.into())),
            invoice.currency.clone(),
        ]
    });
    let mut text = table(["invoice to", "month", "state", "lines", "total", "currency"], &[3, 4], rows);
    if view.invoices.len() > ROWS_MAX {
        text += &format!("\n… {} more; --json shows all", grouped((view.invoices.len() - ROWS_MAX) as u64));
    }
    text + "\n(one of them: --invoice TENANT, with --month for an earlier one)"
}

fn gpu_time(view: &GpuTimeView) -> String {
    let hours = |exact: &str| exact.parse::<i128>().map_or_else(|_| exact.to_owned(), |t| decimal(t, GPU_HOUR, 2));
    let unbilled = &view.unbilled;
    let rows = [
        ("allocated", hours(&view.allocated)),
        ("  billed", money_of(&view.billed_gpu_hours)),
        ("  start delay", hours(&unbilled.start_delay)),
        ("  draining", hours(&unbilled.draining)),
        ("  report delay", hours(&unbilled.report_delay)),
        ("  executor skew", hours(&unbilled.executor_skew)),
        ("  lost runs", hours(&unbilled.lost_run)),
        ("  not metered yet", hours(&unbilled.not_metered)),
        ("  house use", hours(&unbilled.house_use)),
    ];
    let text = table(["GPU time", "GPU-hours"], &[1], rows.map(|(what, hours)| [what.to_owned(), hours]));
    let verdict = if view.conserved {
        "billed and unbilled are what was allocated, to the microsecond"
    } else {
        "GPU time is NOT conserved: report this"
    };
    format!("{text}\n{verdict}")
}

/// Decimal text with six digits, cut to two and with its thousands apart.
fn money_of(text: &str) -> String {
    text.replace('.', "").parse::<i128>().map_or_else(|_| text.to_owned(), money)
}
