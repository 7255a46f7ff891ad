//! `solyx verify`: a receipt or a signed head, with nothing but the file and a public key.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use solyx_projections::billing::LineView;
use solyx_proofs::receipt::{RECEIPT_BYTES_MAX, Receipt, Verified, VerifiedRecord, verify};
use solyx_proofs::{PublicKey, SignedCheckpoint};
use solyx_schemas::events::Event;
use solyx_schemas::json::to_json;

use super::audit_signed::witness_head;
use super::proofs::{given_key, public_keys, read_text};
use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Check a receipt or a signed head, without any log.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx verify line.json --public-keys signing.key.pub\n  \
                  solyx verify line.json --key d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n  \
                  solyx verify later.txt --since head.txt --public-keys signing.key.pub\n\n\
                  Exit code 0: whole, and signed by a key that you gave. 1: anything else.")]
pub struct Verify {
    /// The receipt, or the signed head.
    file: PathBuf,
    /// The operator's public key, 64 hexadecimal digits, from where you trust it; may be given again.
    #[arg(long, value_name = "PUBLIC", value_parser = given_key)]
    key: Vec<PublicKey>,
    /// A file of public keys, as `solyx proofs keygen` writes FILE.pub, one a line.
    #[arg(long, value_name = "FILE")]
    public_keys: Option<PathBuf>,
    /// A head that you kept: the one in the file has to go on from it.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

/// What is proven, and what is not.
const PROVES: &str = "this proves inclusion: these events are in the log and counted, in these epochs, under the head that the key signed";
const PROVES_LINE: &str = "the line was rated again from them: which price, split at months and rates, tier, exact amount, rounding, conversion";
const NOT_PROVEN: &str = "it does not prove that nothing else in the log changes it (a correction, a rate, a cancellation), that meters told the truth, \
     or that the engine decided by its rules: `solyx audit` over the log does the first and the last";
const UNTRUSTED: &str =
    "no key was given: compare the public key with the one that the operator published, or give it with --key";

/// Runs it.
pub fn run(command: &Verify, json: bool) -> Outcome {
    let mut keys = command.key.clone();
    if let Some(path) = &command.public_keys {
        keys.extend(public_keys(path)?);
    }
    let text = read_text(&command.file, RECEIPT_BYTES_MAX)?;
    if !text.trim_start().starts_with('{') {
        return head(command, &keys, json);
    }
    if command.since.is_some() {
        return Err(Failure::usage(
            "only a signed head goes on from another",
            "found --since beside a receipt",
            "solyx verify HEAD --since OLDER",
        ));
    }
    let receipt = Receipt::parse(&text).map_err(|detail| refused(&command.file, detail))?;
    let verified = verify(&receipt, &keys).map_err(|e| refused(&command.file, e))?;
    if json {
        output::json(&as_json(&verified));
    } else {
        output::line(as_text(&verified));
    }
    // Whoever made the receipt may have made the key.
    Ok(if verified.key_trusted { Exit::Good } else { Exit::Finding })
}

fn refused(file: &Path, detail: impl ToString) -> Failure {
    Failure::finding(
        format!("{} is refused: it proves nothing", file.display()),
        detail,
        "ask for a new receipt; the operator makes it with `solyx prove`",
    )
}

fn as_json(verified: &Verified) -> serde_json::Value {
    let records = verified
        .records
        .iter()
        .map(|VerifiedRecord { epoch, place, event }| json!({"epoch": epoch, "place": place, "event": to_json(event)}));
    let line = verified.line.as_ref();
    let proves: Vec<&str> = [PROVES].into_iter().chain(line.map(|_| PROVES_LINE)).collect();
    json!({
        "ok": verified.key_trusted, "whole": true, "cell": verified.cell, "subject": verified.subject, "tree_size": verified.tree_size, "root": verified.root,
        "public_key": verified.public_key, "key_trusted": verified.key_trusted,
        "proves": proves, "does_not_prove": NOT_PROVEN, "line": line, "currency": verified.currency,
        "as_of_us": verified.as_of_us, "records": records.collect::<Vec<_>>(),
    })
}

fn as_text(verified: &Verified) -> String {
    let size = output::grouped(verified.tree_size);
    // Anybody can make a receipt that is whole under a key of his own.
    let good = if verified.key_trusted { "good" } else { "whole, but by a key that nobody has vouched for" };
    let mut lines =
        vec![format!("{good}: {} of cell {}, under the signed head of {size} epochs", verified.subject, verified.cell)];
    lines.push(format!("signed by the key {}", verified.public_key));
    if !verified.key_trusted {
        lines.push(UNTRUSTED.to_owned());
    }
    if let Some(line) = &verified.line {
        lines.push(String::new());
        lines.push(line_text(line, verified));
    }
    lines.push(String::new());
    let rows = verified.records.iter().map(|VerifiedRecord { epoch, place, event }| {
        let name = event.name().rsplit('.').next().unwrap_or_default();
        [output::grouped(*epoch), place.clone(), name.to_owned(), told(&to_json(event))]
    });
    lines.push(output::table(["epoch", "record", "event", "says"], &[0], rows));
    lines.push(String::new());
    lines.push(PROVES.to_owned());
    if verified.line.is_some() {
        lines.push(PROVES_LINE.to_owned());
    }
    lines.push(NOT_PROVEN.to_owned());
    lines.join("\n")
}

fn line_text(line: &LineView, verified: &Verified) -> String {
    let job = line.job.as_deref().or(line.lease.as_deref()).unwrap_or_default();
    let quantity = line.priced_quantity.as_deref().unwrap_or_default();
    let unit = line.unit.as_deref().unwrap_or_default();
    let rate = line.rate.as_deref().or(line.lease.as_deref()).unwrap_or_default();
    let amount = line.amount_micros.map_or_else(|| "no amount".to_owned(), |micros| micros.to_string());
    let currency = verified.currency.as_deref().unwrap_or_default();
    let exact = line
        .exact_micros
        .as_ref()
        .map_or_else(String::new, |exact| format!("{}/{}", exact.numerator, exact.denominator));
    let rate_currency = &line.rate_currency;
    let prices = prices(line, verified).unwrap_or_default();
    format!(
        "{job}: {quantity} {unit} at {rate}{prices}\n  exactly {exact} micros of {rate_currency}, {amount} micros of {currency} on the invoice"
    )
}

/// The prices of the line of the card that the rate names, as the receipt's event says them.
fn prices(line: &LineView, verified: &Verified) -> Option<String> {
    // A card's id may have slashes.
    let mut parts = line.rate.as_deref()?.rsplitn(3, '/');
    let (index, version, id) = (parts.next()?, parts.next()?, parts.next()?);
    let mut cards = verified.records.iter().filter_map(|record| match &record.event {
        Event::RateCardSet(card) if card.rate_card.as_str() == id => Some(card),
        _ => None,
    });
    let card = cards.nth(version.parse().ok()?)?;
    let unit = line.unit.as_deref().unwrap_or_default();
    let tiers = card.lines.get(index.parse::<usize>().ok()?)?.tiers.iter().map(|tier| {
        let price = format!("{} micros of {} per {unit}", tier.price_micros.0, card.currency);
        tier.up_to.map_or_else(|| price.clone(), |up_to| format!("{price} up to {}", up_to.0))
    });
    Some(format!(": {}", tiers.collect::<Vec<_>>().join(", then ")))
}

/// The fields of an event that a person looks for first.
fn told(event: &serde_json::Value) -> String {
    const FIELDS: [&str; 12] = [
        "job",
        "run",
        "meter",
        "quantity",
        "difference",
        "from_us",
        "to_us",
        "rate_card",
        "currency",
        "tenant",
        "period",
        "pool",
    ];
    let said = FIELDS.iter().filter_map(|name| match event.get(*name)? {
        serde_json::Value::String(text) => Some(format!("{name} {text}")),
        serde_json::Value::Number(number) => Some(format!("{name} {number}")),
        _ => None,
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Checks a signed head, and that it goes on from an older one.
fn head(command: &Verify, keys: &[PublicKey], json: bool) -> Outcome {
    let head: SignedCheckpoint = witness_head(&command.file)?;
    if keys.is_empty() {
        return Err(Failure::usage(
            "a signed head is checked with a key",
            "found neither --key nor --public-keys",
            "solyx verify HEAD --public-keys FILE.pub",
        ));
    }
    let refused = |detail: &str| {
        Failure::finding(
            format!("{} is refused", command.file.display()),
            detail,
            "ask for the head again; the operator writes it with `solyx proofs export`",
        )
    };
    if !keys.iter().any(|key| head.is_signed_by(key)) {
        return Err(refused("none of the keys has signed it"));
    }
    let since = command.since.as_deref().map(witness_head).transpose()?;
    if let Some(since) = &since {
        match head.goes_on_from(&since.checkpoint) {
            Some(true) => {}
            Some(false) => {
                return Err(refused("the older head is not a beginning of it: they are of different histories"));
            }
            None => {
                return Err(refused(
                    "it carries no proof from the older head on; it is written with `solyx proofs export --since OLDER`",
                ));
            }
        }
    }
    let checkpoint = &head.checkpoint;
    let old = since.map(|since| since.checkpoint.size);
    if json {
        output::json(
            &json!({"ok": true, "cell": checkpoint.cell, "tree_size": checkpoint.size, "root": checkpoint.root, "goes_on_from": old}),
        );
    } else {
        let old =
            old.map_or_else(String::new, |size| format!(", and goes on from the one of {}", output::grouped(size)));
        let size = output::grouped(checkpoint.size);
        output::line(format!("good: the head of {size} epochs of cell {} is signed{old}", checkpoint.cell));
    }
    Ok(Exit::Good)
}
