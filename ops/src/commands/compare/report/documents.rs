//! What the page shows of single things: an invoice, what became of a job, the audits.

use solyx_projections::billing::InvoiceView;
use solyx_schemas::units::rfc3339;

use super::{section, section_of};
use crate::commands::compare::focus::Focus;
use crate::commands::compare::stage::Stage;
use crate::commands::explain;
use crate::commands::shown::invoice::{Invoice, Position};
use crate::failure::Failure;
use crate::output::{grouped, money};
use crate::svg::escaped;

/// The invoice that is looked into.
pub fn invoice(focus: &Focus<'_>) -> String {
    focus.invoice.map_or_else(String::new, |view| section("One invoice", &paper(focus.stage, view)))
}

fn paper(stage: &Stage, view: &InvoiceView) -> String {
    let invoice = Invoice::of(view);
    let row = |position: &Position| {
        let cells = [position.quantity(), position.unit.clone(), position.price(), money(position.amount_micros)];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        format!("<tr><th>{}<small>{}</small></th>{cells}</tr>", escaped(&position.what), escaped(&position.rate))
    };
    let positions: String = invoice.positions.iter().map(row).collect();
    let (named, others) = invoice.dearest();
    let job = |what: &str, micros: i128| format!("<tr><th>{}</th><td>{}</td></tr>", escaped(what), money(micros));
    let mut jobs: String = named.iter().map(|sum| job(&sum.job, sum.amount_micros)).collect();
    if let Some((count, micros)) = others {
        jobs += &job(&format!("{} other jobs", grouped(count as u64)), micros);
    }
    let total =
        view.total_micros.map_or_else(|| "not known: a rate is missing".to_owned(), |total| money(total.into()));
    let lines = format!("{} lines of {} jobs", grouped(view.lines.len() as u64), grouped(invoice.jobs.len() as u64));
    format!(
        "<div class=\"paper\"><div class=\"top\"><div><b>{seller}</b><br>GPU compute</div>\
         <div class=\"right\"><b>Invoice {tenant}-{period}</b><br>to tenant {tenant}<br>usage of {period}<br>{state}</div></div>\
         <table><thead><tr><th>Position and rate</th><td>Quantity</td><td>Unit</td><td>Price</td><td>Amount, {currency}</td></tr></thead>\
         <tbody>{positions}</tbody><tfoot><tr><th>Total</th><td></td><td></td><td></td><td>{total}</td></tr></tfoot></table>\
         <h4>The jobs behind it</h4><table class=\"jobs\"><tbody>{jobs}</tbody></table>\
         <p class=\"fine\">{lines}; each line leads to its usage events in the log and is rounded once. Together rounding made {rounding}.</p></div>",
        seller = escaped(&stage.figures.name),
        tenant = escaped(&view.tenant),
        period = escaped(&view.period),
        state = escaped(&invoice.state()),
        currency = escaped(&view.currency),
        rounding = escaped(&invoice.rounding()),
    )
}

/// Why a job ran where and when it did.
pub fn explanation(focus: &Focus<'_>) -> Result<String, Failure> {
    let Some(job) = focus.job else { return Ok(String::new()) };
    let steps = explain::steps(&*focus.stage.log, job)?;
    let row = |step: &explain::Step| {
        let time: String = rfc3339(step.now).chars().take(19).collect();
        format!("<li><time>{}</time><span>{}</span></li>", time.replace('T', " "), escaped(&step.said()))
    };
    let rows: String = explain::told(&steps).map(row).collect();
    let note = format!(
        "Job {job} on {}: every event and decision about it, as the log has them. Amounts are what the decision weighed.",
        focus.world
    );
    Ok(section_of("One explanation", &format!("<ol class=\"story\">{rows}</ol>"), &note))
}

/// What the audits found, and the heads that somebody else can compare.
pub fn audits(stages: &[Stage]) -> String {
    let row = |stage: &Stage| {
        let f = &stage.figures;
        let (verdict, events, rate) = match &f.audit {
            None => ("not asked for".to_owned(), "–".to_owned(), "–".to_owned()),
            Some(audit) => {
                let verdict = match &audit.first_difference {
                    None if audit.ok => "passes".to_owned(),
                    Some(difference) => format!("FAILS: {difference}"),
                    None => "FAILS".to_owned(),
                };
                (verdict, grouped(audit.events), grouped(audit.events_per_s))
            }
        };
        format!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{events}</td><td>{rate}</td><td><code>{}</code></td></tr>",
            escaped(&f.name),
            escaped(&verdict),
            grouped(f.epochs),
            f.chain_head
        )
    };
    let rows: String = stages.iter().map(row).collect();
    section_of(
        "Audit",
        &format!(
            "<table class=\"audit\"><thead><tr><th></th><td>audit</td><td>epochs</td><td>events</td><td>events/s</td>\
             <td>chain head</td></tr></thead><tbody>{rows}</tbody></table>"
        ),
        "Every judgement, decision and digest derived again from the log by a fresh kernel. Two logs with one head hold the same history.",
    )
}
