//! Signing: heads, and the next key.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use solyx_proofs::{Checkpoint, HeadsReport, History, PublicKey, SecretKey, rotation_text};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{HeadSigned, SigningKeyRotated};
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Count, TimeUs};

use super::{judged, public_key, secret_key};
use crate::failure::{Exit, Failure, Outcome};
use crate::{output, world};

/// Sign the tree of all epochs that the log has.
#[derive(Debug, Args)]
pub struct Sign {
    /// The key whose turn it is: FILE of `solyx proofs keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
}

/// Sign the next key, which signs from then on.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The key whose turn it is. It signs nothing more after this.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// FILE.pub of the next key, which must be declared already.
    #[arg(long, value_name = "FILE")]
    next: PathBuf,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
}

/// Signs the tree.
pub fn sign(command: &Sign, json: bool) -> Outcome {
    let key = secret_key(&command.key)?;
    let log = world::writer(&command.log, true)?;
    let (_, history, report) = judged(&*log, [])?;
    let (checkpoint, time) = to_sign(&key, &history, &report)?;
    let size = checkpoint.size;
    let last = report.last.as_ref().filter(|last| last.checkpoint == checkpoint && last.key == key.public());
    let is_new = last.is_none();
    if is_new {
        let event = HeadSigned {
            event_id: format!("head-{size}-{}", key.public().id).as_str().into(),
            source: "solyx-proofs".into(),
            occurred_us: time,
            cell_id: checkpoint.cell.clone(),
            tree_size: Count(size as i64),
            root: checkpoint.root.to_string().as_str().into(),
            key_id: key.public().id,
            signature: hex(&key.sign(&checkpoint.text())).as_str().into(),
        };
        publish(&*log, event.into())?;
    }
    let key_id = key.public().id;
    if json {
        output::json(&json!({
            "cell": checkpoint.cell, "tree_size": size, "root": checkpoint.root, "key_id": key_id, "new": is_new,
        }));
    } else {
        let said = if is_new { "signed" } else { "signed before" };
        output::line(format!("{said}: {} epochs, root {}, key {key_id}", output::grouped(size), checkpoint.root));
    }
    Ok(Exit::Good)
}

/// Hands over to the next key.
pub fn rotate(command: &Rotate, json: bool) -> Outcome {
    let (key, next) = (secret_key(&command.key)?, public_key(&command.next)?);
    let log = world::writer(&command.log, true)?;
    let (_, history, report) = judged(&*log, [])?;
    let (checkpoint, time) = to_sign(&key, &history, &report)?;
    may_follow(&next, checkpoint.size, time, &history, &report)?;
    let Checkpoint { cell, size, root } = checkpoint;
    let key_id = key.public().id;
    let event = SigningKeyRotated {
        event_id: format!("rotated-{key_id}-{}", next.id).as_str().into(),
        source: "solyx-proofs".into(),
        occurred_us: time,
        cell_id: cell.clone(),
        tree_size: Count(size as i64),
        root: root.to_string().as_str().into(),
        key_id: key_id.clone(),
        next_key_id: next.id.clone(),
        next_algorithm: solyx_proofs::ALGORITHM.into(),
        next_public_key: next.digits().as_str().into(),
        signature: hex(&key.sign(&rotation_text(&cell, (size, root), &key_id, &next))).as_str().into(),
    };
    publish(&*log, event.into())?;
    if json {
        output::json(&json!({"key_id": key_id, "next_key_id": next.id, "tree_size": size, "root": root}));
    } else {
        output::line(format!(
            "key {key_id} has handed over to {} with the tree of {} epochs",
            next.id,
            output::grouped(size)
        ));
        output::line(format!("its secret half in {} is of no more use: destroy it", command.key.display()));
    }
    Ok(Exit::Good)
}

/// The head to sign, and the time of its last epoch; or why this key may not sign it.
fn to_sign(key: &SecretKey, history: &History, report: &HeadsReport) -> Result<(Checkpoint, TimeUs), Failure> {
    let public = key.public();
    let Some(cell) = history.cell.clone() else {
        return Err(Failure::finding(
            "there is nothing to sign",
            "the log has no epoch",
            "run the engine first: solyx run",
        ));
    };
    if let Some(finding) = report.findings.first() {
        return Err(Failure::finding(
            "what was signed before is not good, and nothing is signed on top of it",
            format!("{}: {}", finding.place, finding.detail),
            "solyx proofs show lists all of it; a key that is lost or misused is revoked with solyx proofs revoke",
        ));
    }
    let (size, root) = (history.tree.size(), history.tree.root());
    let refused = |detail: String| {
        Failure::usage(
            format!("key {} may not sign the tree of {size} epochs", public.id),
            detail,
            "solyx proofs show says whose turn it is; a key is declared with solyx proofs declare, and counts when an epoch has taken that",
        )
    };
    let known = report.may_sign(&public.id, size, history).map_err(refused)?;
    if *known != public {
        return Err(refused("the log declares another public key under this id".to_owned()));
    }
    if let Some(current) = report.current().filter(|current| current.key != public) {
        return Err(refused(format!("it is the turn of {}", current.key.id)));
    }
    Ok((Checkpoint { cell, size, root }, history.time_at(size).unwrap_or_default()))
}

fn may_follow(
    next: &PublicKey,
    size: u64,
    time: TimeUs,
    history: &History,
    report: &HeadsReport,
) -> Result<(), Failure> {
    let declared = history.keys.get(&next.id).ok_or_else(|| format!("key {} is not declared", next.id));
    let follows = declared.and_then(|known| {
        if known.key != *next {
            return Err(format!("key {} is declared with another public key", next.id));
        }
        if report.signing.iter().any(|signing| signing.key.id == next.id) {
            return Err(format!("key {} has signed before", next.id));
        }
        known.may_sign(size, time)
    });
    follows.map_err(|detail| {
        Failure::usage(
            format!("key {} cannot follow", next.id),
            detail,
            "declare it with solyx proofs declare, and let an epoch take that before the key is signed",
        )
    })
}

fn publish(log: &dyn Log, event: Event) -> Result<(), Failure> {
    let topic = TopicName::live(Topic::Proofs);
    let record = Codec::global().record(&event, topic, log.partitions(topic));
    let mut producer = log.producer("solyx-proofs")?;
    producer.append(vec![record])?;
    Ok(producer.sync()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
