//! What people and scripts read: tables that align, JSON with stable names, numbers with thousands apart.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use solyx_connectors::seal::Keyring;
use solyx_schemas::sealed::PREFIX;

use crate::failure::{Exit, Failure, harmless};

/// What a shell says of a program whose reader has gone away: what it would have found is not known.
const PIPE_CLOSED: i32 = 141;

/// The keys with which sealed texts are opened, where some were named.
static KEYS: OnceLock<Keyring> = OnceLock::new();

/// Has everything that is written from now on show sealed texts opened with the keys in a directory.
pub fn reveal_with(keys: Option<&Path>) -> Result<(), Failure> {
    if let Some(dir) = keys {
        let ring = Keyring::load_dir(dir).map_err(|e| {
            Failure::usage(
                "a key cannot be used",
                e,
                "`solyx keys new` makes one; its file is for its owner alone: chmod 600",
            )
        })?;
        KEYS.get_or_init(|| ring);
    }
    Ok(())
}

/// A text as it is shown to a person.
pub fn revealed(text: &str) -> Cow<'_, str> {
    static NONE: LazyLock<Keyring> = LazyLock::new(Keyring::default);
    if text.contains(PREFIX) { KEYS.get().unwrap_or(&NONE).reveal(text) } else { Cow::Borrowed(text) }
}

/// Writes a line to stdout, for a person: sealed texts are opened, or shown as erased where no key is at hand, and nothing in it
/// is obeyed by a terminal.
pub fn line(text: impl AsRef<str>) {
    write(&harmless(&revealed(text.as_ref())));
}

/// Writes a text as it is, with a line end.
pub fn bytes(text: &str) {
    write(text);
}

/// A reader who has seen enough (`| head`) ends the program quietly. An output that is cut off otherwise is an error.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}") {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(PIPE_CLOSED),
        Err(e) => {
            eprintln!("error: cannot write the output");
            eprintln!("  detail: {e}");
            eprintln!("  hint: free space where it goes, and run this again");
            std::process::exit(i32::from(Exit::Environment as u8));
        }
        Ok(()) => {}
    }
}

/// Writes a value as one line of JSON. Sealed texts stay what they are unless keys were named.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => json_text(&text),
        Err(e) => eprintln!("error: cannot write JSON: {e}"),
    }
}

/// The same of what is JSON already.
pub fn json_text(text: &str) {
    match KEYS.get() {
        Some(keys) => write(&keys.reveal_json(text)),
        None => write(text),
    }
}

/// Width of the terminal that reads stdout; wide where there is none.
fn width() -> u16 {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(200, |(width, _)| width.0)
}

/// A table with a head and no lines. The columns in `right` stand at the right.
pub fn table<'h, Row>(
    head: impl IntoIterator<Item = &'h str>,
    right: &[usize],
    rows: impl IntoIterator<Item = Row>,
) -> String
where
    Row: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width());
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.trim_fmt();
    text.lines().map(|l| l.strip_prefix(' ').unwrap_or(l).trim_end()).collect::<Vec<_>>().join("\n")
}

/// A whole number with its thousands apart.
pub fn grouped(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// An amount of micro-units with two decimals, cut and not rounded: exact amounts are in the JSON.
pub fn money(micros: i128) -> String {
    let cents = micros / 10_000;
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", grouped((cents / 100).abs()), cents.unsigned_abs() % 100)
}

/// A quantity in a larger unit with so many decimals (at most three), cut and not rounded.
pub fn decimal(value: i128, per_unit: i128, decimals: usize) -> String {
    let tenths = value * 10_i128.pow(decimals as u32) / per_unit;
    let one = 10_u128.pow(decimals as u32);
    let magnitude = tenths.unsigned_abs();
    let sign = if tenths < 0 { "-" } else { "" };
    let whole = grouped((magnitude / one) as i128);
    if decimals == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{:0decimals$}", magnitude % one) }
}

/// Thousandths as per cent with one decimal.
pub fn percent(milli: i64) -> String {
    format!("{} %", decimal(milli.into(), 10, 1))
}

/// A length of time in the unit that suits it.
pub fn duration(us: i64) -> String {
    const SECOND: i64 = 1_000_000;
    let (value, unit) = match us {
        us if us < 100 * SECOND => (decimal(us.into(), SECOND.into(), 0), "s"),
        us if us < 100 * 60 * SECOND => (decimal(us.into(), (60 * SECOND).into(), 1), "min"),
        us if us < 100 * 3_600 * SECOND => (decimal(us.into(), (3_600 * SECOND).into(), 1), "h"),
        us => (decimal(us.into(), (86_400 * SECOND).into(), 1), "d"),
    };
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(-1_234_567), "-1,234,567");
        assert_eq!(money(1_999_999), "1.99");
        assert_eq!(money(-12_340_000_000), "-12,340.00");
    }

    #[test]
    fn quantities_are_shown_in_the_unit_that_suits_them() {
        assert_eq!(decimal(1_234_567, 1_000, 1), "1,234.5");
        assert_eq!(decimal(-1_999, 1_000, 2), "-1.99");
        assert_eq!(decimal(1_999, 1_000, 0), "1");
        assert_eq!(percent(345), "34.5 %");
        assert_eq!(duration(45_900_000), "45 s");
        assert_eq!(duration(754_000_000), "12.5 min");
        assert_eq!(duration(3 * 3_600_000_000), "3.0 h");
        assert_eq!(duration(5 * 86_400_000_000), "5.0 d");
    }

    #[test]
    fn tables_align() {
        let text =
            table(["name", "count"], &[1], [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "100".to_owned()]]);
        assert_eq!(text, "name  count\na         1\nlong    100");
    }
}
