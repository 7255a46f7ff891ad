//! Keys: made, declared, revoked. A secret half is written to its file and shown nowhere.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use solyx_proofs::{ALGORITHM, PublicKey, SecretKey};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::policy::{SigningKeyDeclared, SigningKeyRevoked};
use solyx_schemas::field::Field;
use solyx_schemas::ids::RefId;
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{TimeUs, parse_time};

use super::{public_file, public_key, write_new};
use crate::failure::{Exit, Failure, Outcome};
use crate::{output, world};

/// Make a key: FILE, which only its owner may read, and FILE.pub.
#[derive(Debug, Args)]
pub struct Keygen {
    /// Where its secret half goes; the public one goes to FILE.pub.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Its id in the log; by default made of the public key.
    #[arg(long, value_name = "ID", value_parser = id)]
    id: Option<RefId>,
}

/// Declare a public key on the policy topic.
#[derive(Debug, Args)]
pub struct Declare {
    /// FILE.pub of `solyx proofs keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// In use from this instant on (RFC 3339); by default for all trees that have its declaration.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<TimeUs>,
    /// In use until this instant; by default without end.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<TimeUs>,
}

/// Say that a key is no longer trusted.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Id of the key.
    #[arg(value_parser = id)]
    key_id: RefId,
    /// Why.
    #[arg(long)]
    reason: String,
    /// From this instant on (RFC 3339); by default from now on. Trees that have this are not signed by it in any case.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<TimeUs>,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
}

/// The longest id of a key: those of its events are made of it and must be ids too.
const KEY_ID_LEN_MAX: usize = 48;

fn id(text: &str) -> Result<RefId, String> {
    let id = RefId::from(text);
    id.check().map_err(|e| e.to_string())?;
    if text.len() > KEY_ID_LEN_MAX { Err(format!("expected at most {KEY_ID_LEN_MAX} characters")) } else { Ok(id) }
}

fn instant(text: &str) -> Result<TimeUs, String> {
    parse_time(text).ok_or_else(|| "expected an instant as in 2023-09-04T00:00:00Z".to_owned())
}

/// Makes a key.
pub fn keygen(command: &Keygen, json: bool) -> Outcome {
    let key = SecretKey::generate(command.id.clone())
        .map_err(|e| Failure::environment("the system gives no randomness", e, "check getrandom(2) on this machine"))?;
    let (public, public_file) = (key.public(), public_file(&command.out));
    // A public half without its secret one does no harm, and is taken away again.
    write_new(&public_file, &(public.file() + "\n"), false)?;
    if let Err(failure) = write_new(&command.out, &(key.file() + "\n"), true) {
        let _ = std::fs::remove_file(&public_file);
        return Err(failure);
    }
    if json {
        let (id, key) = (public.id.as_str(), public.digits());
        output::json(
            &json!({"key_id": id, "algorithm": ALGORITHM, "public_key": key, "file": command.out, "public_file": public_file}),
        );
    } else {
        output::line(format!("key {}", public.id));
        output::line(format!("public key {} in {}", public.digits(), public_file.display()));
        output::line(format!("its secret half is in {}, which only its owner may read", command.out.display()));
    }
    Ok(Exit::Good)
}

/// Declares a key.
pub fn declare(command: &Declare, json: bool) -> Outcome {
    let key = public_key(&command.key)?;
    let log = world::writer(&command.log, true)?;
    let from = command.from.unwrap_or(TimeUs::ZERO);
    let before = declared(&*log, &key.id)?;
    let is_same = |e: &SigningKeyDeclared| e.from_us == from && e.to_us == command.until;
    let of_key = |e: &&SigningKeyDeclared| e.public_key.as_str() == key.digits();
    if before.iter().filter(of_key).any(is_same) {
        // Said twice it would be another event under the same id.
        told_declared(&key, "was declared so before; nothing is written", json);
        return Ok(Exit::Good);
    }
    if let Some(known) = before.first().map(|e| e.public_key.to_string()).filter(|known| *known != key.digits()) {
        return Err(Failure::usage(
            format!("another key is called {}", key.id),
            format!("it is declared with the public key {known}"),
            "make the key with another --id",
        ));
    }
    let bounds = format!("{}-{}", from.0, command.until.map_or_else(String::new, |until| until.0.to_string()));
    let event = SigningKeyDeclared {
        event_id: format!("declared-{}-{bounds}", key.id).as_str().into(),
        source: "solyx-proofs".into(),
        occurred_us: clock(),
        key_id: key.id.clone(),
        algorithm: ALGORITHM.into(),
        public_key: key.digits().as_str().into(),
        from_us: from,
        to_us: command.until,
    };
    published(&*log, event.into())?;
    told_declared(&key, "is declared; it signs trees that have the epoch which takes this", json);
    Ok(Exit::Good)
}

fn told_declared(key: &PublicKey, what: &str, json: bool) {
    if json {
        output::json(&json!({"declared": key.id.as_str(), "public_key": key.digits()}));
    } else {
        output::line(format!("key {} {what}", key.id));
    }
}

/// Revokes a key.
pub fn revoke(command: &Revoke, json: bool) -> Outcome {
    let log = world::writer(&command.log, true)?;
    let key_id = &command.key_id;
    if declared(&*log, key_id)?.is_empty() {
        return Err(Failure::usage(
            format!("no key is called {key_id}"),
            "it is not declared on the policy topic",
            "solyx proofs show lists the keys",
        ));
    }
    let now = clock();
    let revoked_us = command.from.unwrap_or(now);
    if is_revoked(&*log, key_id, revoked_us)? {
        // Said twice it would be another event under the same id.
        told_revoked(key_id, revoked_us, "was revoked so before; nothing is written", json);
        return Ok(Exit::Good);
    }
    let event = SigningKeyRevoked {
        event_id: format!("revoked-{key_id}-{}", revoked_us.0).as_str().into(),
        source: "solyx-proofs".into(),
        occurred_us: now,
        key_id: key_id.clone(),
        revoked_us,
        reason: command.reason.clone(),
    };
    published(&*log, event.into())?;
    let what = "is revoked once an epoch has taken this; the next key that is declared then begins anew";
    told_revoked(key_id, revoked_us, what, json);
    Ok(Exit::Good)
}

fn told_revoked(id: &RefId, revoked_us: TimeUs, what: &str, json: bool) {
    if json {
        output::json(&json!({"revoked": id.as_str(), "revoked_us": revoked_us}));
    } else {
        output::line(format!("key {id} {what}"));
    }
}

fn is_revoked(log: &dyn Log, id: &RefId, at: TimeUs) -> Result<bool, Failure> {
    let mut found = false;
    world::events_of(log, TopicName::live(Topic::Policy), |event| {
        found |= matches!(event, Event::SigningKeyRevoked(e) if e.key_id == *id && e.revoked_us == at);
    })?;
    Ok(found)
}

/// What the policy topic declares under an id, in order. Only that topic is read: an operator may read no tenant's.
fn declared(log: &dyn Log, id: &RefId) -> Result<Vec<SigningKeyDeclared>, Failure> {
    let mut found = Vec::new();
    world::events_of(log, TopicName::live(Topic::Policy), |event| match event {
        Event::SigningKeyDeclared(e) if e.key_id == *id => found.push(*e),
        _ => {}
    })?;
    Ok(found)
}

fn clock() -> TimeUs {
    TimeUs(chrono::Utc::now().timestamp_micros())
}

fn published(log: &dyn Log, event: Event) -> Result<(), Failure> {
    event.check().map_err(|e| Failure::usage("that cannot be said", e, "see --help"))?;
    let topic = TopicName::live(event.topic());
    let record = Codec::global().record(&event, topic, log.partitions(topic));
    let mut producer = log.producer("solyx-publish")?;
    producer.append(vec![record])?;
    Ok(producer.sync()?)
}
