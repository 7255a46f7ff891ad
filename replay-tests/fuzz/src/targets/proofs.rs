//! Evidence as others hand it over: receipts, signed heads, and files of keys. What a key of ours vouches for is what it signed.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use solyx_connectors::seal::TenantKey;
use solyx_projections::billing::Billing;
use solyx_projections::fold::Fold;
use solyx_proofs::receipt::{Receipt, VerifiedRecord, prove_decision, prove_line, verify};
use solyx_proofs::{PublicKey, SecretKey, SignedCheckpoint};
use solyx_schemas::epochs::EpochReader;

use super::signed::{KEY_FILES, SIGNED};
use super::{file, own_words, path, said, same};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target { name: "receipt", takes: "a receipt", seeds: receipts, words: RECEIPT, run: receipt },
        Target { name: "head", takes: "a signed head", seeds: heads, words: HEAD, run: head },
        Target { name: "keys", takes: "a file of a signing key", seeds: keys, words: KEY, run: key },
        Target {
            name: "tenant-key",
            takes: "a file of a tenant's key",
            seeds: tenant_keys,
            words: TENANT_KEY,
            run: tenant_key,
        },
    ]
}

const RECEIPT: &[&str] = &[
    "\"solyx_receipt\": 1",
    "\"decision\"",
    "\"invoice_line\"",
    "\"event\"",
    "\"value\"",
    "\"ordinal\"",
    "\"path\": []",
    "\"rotations\": []",
    "\"records\": []",
    "null",
    "{}",
    "[]",
];
const HEAD: &[&str] = &["solyx/", "test", "old 1\n", "— ", "— solyx/test ", "\n\n", "==", "18446744073709551615"];
const KEY: &[&str] =
    &["key_id", "algorithm", "secret_key", "public_key", "ed25519", "null", "\\u0000", "0100000000000000"];
const TENANT_KEY: &[&str] = &["tenant", "key_id", "key", " = ", "\"\"", "'''", "\\u0000", "1979-05-27", "nan"];

/// A decision's of each kind and a line's of each kind, with the place and the event of whatever they show.
struct Proven {
    texts: Vec<String>,
    records: Vec<VerifiedRecord>,
}

static PROVEN: LazyLock<Proven> = LazyLock::new(|| {
    let log = &SIGNED.log;
    let mut billing = Billing::default();
    let mut decisions: Vec<(&str, String)> = Vec::new();
    let mut reader = EpochReader::new(log);
    while let Some(epoch) = reader.next_batch().expect("a good log is read") {
        billing.apply(&epoch).expect("a good log is folded");
        for output in &epoch.outputs {
            if !decisions.iter().any(|(name, _)| *name == output.name()) {
                decisions.push((output.name(), output.identity().id.into_owned()));
            }
        }
    }
    let lines = billing.view().invoices.into_iter().flat_map(|invoice| invoice.lines);
    let decided = decisions.iter().map(|(_, id)| prove_decision(log, id));
    let receipts = decided.chain(lines.map(|line| prove_line(log, &line.id)));
    let receipts: Vec<Receipt> = receipts.map(|receipt| receipt.expect("what a good log has is proven")).collect();
    let records = receipts.iter().flat_map(|receipt| verify(receipt, &public_keys()).expect("it is good").records);
    Proven { texts: receipts.iter().map(Receipt::text).collect(), records: records.collect() }
});

fn public_keys() -> Vec<PublicKey> {
    SIGNED.keys.iter().map(SecretKey::public).collect()
}

/// The receipts of a log, as texts.
pub(super) fn texts() -> &'static [String] {
    &PROVEN.texts
}

fn receipts() -> Vec<Vec<u8>> {
    texts().iter().map(|text| text.clone().into_bytes()).collect()
}

/// Read and written again it is the same; what our keys vouch for is in our log.
fn receipt(input: &[u8]) -> Outcome {
    let receipt = match Receipt::parse(&String::from_utf8_lossy(input)) {
        Ok(receipt) => receipt,
        Err(error) => return said(error),
    };
    let again = Receipt::parse(&receipt.text()).map_err(|error| format!("it is not read as it is written: {error}"))?;
    same(&again, &receipt, "a receipt and its text")?;
    let whole = verify(&receipt, &[]);
    match verify(&receipt, &public_keys()) {
        Ok(verified) => {
            holds!(whole.is_ok(), "it is good under a key, and not whole without one");
            let head = (verified.tree_size, verified.root);
            let mut signed = SIGNED.heads.iter().map(|head| (head.checkpoint.size, head.checkpoint.root));
            holds!(signed.any(|signed| signed == head), "{head:?} is vouched for and was never signed");
            let ours = |record: &VerifiedRecord| {
                let is = |own: &VerifiedRecord| {
                    (own.epoch, &own.place, &own.event) == (record.epoch, &record.place, &record.event)
                };
                PROVEN.records.iter().any(is)
            };
            let other = verified.records.iter().find(|record| !ours(record));
            holds!(other.is_none(), "{other:?} is vouched for and not in the log");
            Ok(format!("good, {} records", verified.records.len().min(3)))
        }
        Err(error) => {
            holds!(!error.place.is_empty() && !error.detail.is_empty(), "an error without place or detail: {error:?}");
            said(format!("{} {error}", if whole.is_ok() { "whole" } else { "" }))
        }
    }
}

fn heads() -> Vec<Vec<u8>> {
    let other = "— witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let [first, last] = &SIGNED.heads;
    [first.note(), last.note(), last.note() + other].map(String::into_bytes).to_vec()
}

/// Read and written again it is the same; what our keys signed is of our log, whatever a witness says.
fn head(input: &[u8]) -> Outcome {
    let head = match SignedCheckpoint::parse(&String::from_utf8_lossy(input)) {
        Ok(head) => head,
        Err(error) => {
            holds!(error.line > 0 && !error.found.is_empty(), "an error that does not say where or what: {error:?}");
            return said(error);
        }
    };
    let again = SignedCheckpoint::parse(&head.note());
    let again = again.map_err(|error| format!("it is not read as it is written: {error}"))?;
    same(&again, &head, "a head and its note")?;
    let [first, last] = &SIGNED.heads;
    let is_ours = [first, last].iter().any(|own| own.checkpoint == head.checkpoint);
    let signed = public_keys().iter().any(|key| head.is_signed_by(key));
    holds!(is_ours || !signed, "{:?} has a signature of ours and was never signed", head.checkpoint);
    let differs = SIGNED.report.differs_from_witness(&head, &SIGNED.history);
    holds!(is_ours || differs.is_some(), "{:?} is taken for one that this log may have given", head.checkpoint);
    let goes_on = head.goes_on_from(&first.checkpoint);
    if head.checkpoint.size <= last.checkpoint.size && goes_on == Some(true) {
        holds!(is_ours, "{:?} goes on from ours and is of another tree", head.checkpoint);
    }
    Ok(format!("{signed} {goes_on:?} {}", differs.unwrap_or_default()))
}

fn keys() -> Vec<Vec<u8>> {
    let public = public_keys().into_iter().map(|key| key.file().into_bytes());
    KEY_FILES.iter().map(|file| file.as_bytes().to_vec()).chain(public).collect()
}

/// Read and written again it is the same key; no error shows what is secret.
fn key(input: &[u8]) -> Outcome {
    let text = &*String::from_utf8_lossy(input);
    let public = PublicKey::from_file(text);
    if let Ok(key) = &public {
        let again = PublicKey::from_file(&key.file()).map_err(|error| format!("a key is not read again: {error}"))?;
        same(&again, key, "a public key and its file")?;
        let parsed = PublicKey::parse(&key.id, &key.digits())?;
        same(&parsed, key, "a public key and its digits")?;
    }
    let secret = SecretKey::from_file(text);
    match &secret {
        Ok(key) => {
            let again =
                SecretKey::from_file(&key.file()).map_err(|error| format!("a key is not read again: {error}"))?;
            same(&again.file(), &key.file(), "a secret key and its file")?;
            holds!(public.as_ref() == Ok(&key.public()), "the public half of {} is {public:?}", key.public().id);
            holds!(key.public().verifies(text, &key.sign(text)), "a key does not know its own signature");
        }
        Err(error) => {
            let fields = serde_json::from_str(text).unwrap_or(Value::Null);
            let secret = fields.get("secret_key").and_then(Value::as_str).filter(|secret| is_telling(secret));
            let shown = secret.is_some_and(|secret| shows(error, secret) && !elsewhere(&fields, secret));
            holds!(!shown, "an error shows what is secret: {error}");
        }
    }
    let public = public.map_or_else(own_words, |_| Ok("public".to_owned()))?;
    let secret = secret.map_or_else(own_words, |_| Ok("secret".to_owned()))?;
    Ok(format!("{public} {secret}"))
}

/// Characters of a secret that an error may not hold.
const SECRET_SHOWN: usize = 16;

fn is_telling(secret: &str) -> bool {
    secret.chars().count() >= SECRET_SHOWN
}

fn shows(error: &str, secret: &str) -> bool {
    let letters: Vec<char> = secret.chars().collect();
    letters.windows(SECRET_SHOWN).any(|part| error.contains(&part.iter().collect::<String>()))
}

/// Whether another field holds it, too.
fn elsewhere(fields: &Value, secret: &str) -> bool {
    let mut others = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != "secret_key");
    others.any(|(_, value)| shows(&value.to_string(), secret))
}

fn tenant_keys() -> Vec<Vec<u8>> {
    let key = |tenant: &str, key: u8| {
        format!("tenant = \"{tenant}\"\nkey_id = \"{tenant}/1\"\nkey = \"{}\"\n", super::signed::hex(&[key; 32]))
    };
    [key("red", 7), key("blue", 0xb1)].map(String::into_bytes).to_vec()
}

/// Loaded and stored again it is the same file.
fn tenant_key(input: &[u8]) -> Outcome {
    let load = |file: &PathBuf| {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
        TenantKey::load(file).map_err(|error| error.detail)
    };
    let key = match load(&file("tenant.key", input)) {
        Ok(key) => key,
        Err(error) => {
            let text = String::from_utf8_lossy(input);
            let (own, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("key "));
            let secret = own.iter().filter_map(|line| line.split('"').nth(1)).find(|secret| is_telling(secret));
            let shown = secret.is_some_and(|secret| shows(&error, secret) && !shows(&others.concat(), secret));
            holds!(!shown, "an error shows what is secret: {error}");
            return own_words(error);
        }
    };
    let stored = |key: &TenantKey| {
        let path = path("stored.key");
        let _ = std::fs::remove_file(&path);
        key.store(&path).map_err(|error| format!("a key that was loaded is not stored: {error}"))?;
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let again = load(&path).map_err(|error| format!("a key that was stored is not loaded: {error}"))?;
        Ok::<_, String>((text, again))
    };
    let (text, again) = stored(&key)?;
    same(&(&again.tenant, &again.key_id), &(&key.tenant, &key.key_id), "a key and its file")?;
    same(&stored(&again)?.0, &text, "a key's file and its key's")?;
    Ok("a key".to_owned())
}
