//! The numbers as CSV: a row for all jobs of a run, and one for each tenant's.

use super::numbers::{MEASURES, Numbers};
use super::sweep::Report;

/// Columns before the numbers.
pub const LEADING: [&str; 6] = ["log", "variation", "seed", "tenant", "currency", "chain_head"];

/// A row: what leads, and the numbers.
pub struct Row<'r> {
    pub log: &'r str,
    pub variation: &'r str,
    pub seed: Option<i64>,
    /// Absent for all jobs.
    pub tenant: Option<&'r str>,
    pub currency: &'r str,
    pub chain_head: &'r str,
    pub numbers: &'r Numbers,
}

/// All rows: the bases as they came out again, then the variations.
pub fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let bases = report.bases.iter().map(|base| (base, super::sweep::BASE, base.seed, &base.said));
    let cases = report.cases.iter().map(|case| (&report.bases[case.base], case.name.as_str(), case.seed, &case.said));
    for (base, variation, seed, said) in bases.chain(cases) {
        let row = |tenant, numbers| Row {
            log: &base.log,
            variation,
            seed,
            tenant,
            currency: &said.currency,
            chain_head: &said.chain_head,
            numbers,
        };
        rows.push(row(None, &said.all));
        rows.extend(said.tenants.iter().map(|(tenant, numbers)| row(Some(tenant.as_str()), numbers)));
    }
    rows
}

/// As text with a head.
pub fn text(report: &Report) -> String {
    let names = LEADING.into_iter().chain(MEASURES.iter().map(|measure| measure.name));
    let mut text = names.collect::<Vec<_>>().join(",");
    text.push('\n');
    for row in rows(report) {
        let number = |value: Option<i64>| value.map_or_else(String::new, |value| value.to_string());
        let leading = [
            quoted(row.log),
            quoted(row.variation),
            number(row.seed),
            quoted(row.tenant.unwrap_or_default()),
            quoted(row.currency),
            quoted(row.chain_head),
        ];
        let numbers = MEASURES.iter().map(|measure| number((measure.of)(row.numbers)));
        text.push_str(&leading.into_iter().chain(numbers).collect::<Vec<_>>().join(","));
        text.push('\n');
    }
    text
}

/// A field by RFC 4180.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
