//! Whether the signed heads of a log are good: root, key, signature, and that each key took over as it has to.

use std::collections::BTreeSet;

use serde::Serialize;
use solyx_schemas::events::plans::{HeadSigned, SigningKeyRotated};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, RefId};

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::history::{History, Signed, SignedEvent};
use crate::keys::{ALGORITHM, DeclaredKey, PublicKey, rotation_text};

/// Something of the proofs that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The record, or the file of a witness.
    pub place: String,
    /// What is wrong.
    pub detail: String,
}

/// A head that is good.
#[derive(Clone, Debug)]
pub struct Head {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// By whom.
    pub key: PublicKey,
    /// With what.
    pub signature: [u8; 64],
}

/// A rotation that is good.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The last tree that the key before signs.
    pub tree: (u64, Hash32),
    /// The key before.
    pub key: PublicKey,
    /// The next.
    pub next: PublicKey,
    /// Signature of the key before.
    pub signature: [u8; 64],
}

/// A key with the trees that it may sign.
#[derive(Clone, Debug)]
pub struct Signing {
    /// The key.
    pub key: PublicKey,
    /// The smallest tree it may sign.
    pub from_size: u64,
    /// The largest one; absent while it has not handed over.
    pub until_size: Option<u64>,
    /// Whether it began without a signature of the one before, which was revoked.
    pub anew: bool,
}

/// What became of all heads and keys.
#[derive(Clone, Debug, Default)]
pub struct HeadsReport {
    /// Keys that sign or signed, in their order.
    pub signing: Vec<Signing>,
    /// Good rotations, in their order.
    pub rotations: Vec<Rotation>,
    /// Good heads.
    pub heads: u64,
    /// The good head of the largest tree; of equal ones the last.
    pub last: Option<Head>,
    /// Records that were signed before their key was revoked, of trees that end when it was no longer to be trusted: nobody's fault,
    /// and worth nothing.
    pub distrusted: Vec<String>,
    /// Events of keys that mean nothing: nobody signs by them, and they keep nobody from signing.
    pub odd: Vec<Finding>,
    /// What is not as it has to be.
    pub findings: Vec<Finding>,
}

/// Judges all that was signed. `history` must know the roots of the trees that are named.
pub fn judge(signed: &[Signed], history: &History) -> HeadsReport {
    let mut report = HeadsReport::default();
    for (epoch, detail) in &history.keys.odd {
        report.odd.push(Finding { place: format!("epoch {epoch}"), detail: detail.clone() });
    }
    let used = report.follow_keys(signed, history);
    for Signed { place, event } in signed {
        let verdict = match event {
            Err(detail) => Err(detail.clone()),
            Ok(SignedEvent::Rotation(_)) if used.contains(place.as_str()) => Ok(()),
            Ok(SignedEvent::Rotation(rotation)) => Err(report.why_not_taken(rotation, history)),
            Ok(SignedEvent::Head(head)) => report.head(head, history),
        };
        let distrusted = event.as_ref().is_ok_and(|event| is_distrusted(event, history));
        match verdict {
            Ok(()) => {}
            Err(_) if distrusted => report.distrusted.push(place.clone()),
            Err(detail) => report.findings.push(Finding { place: place.clone(), detail }),
        }
    }
    report
}

impl HeadsReport {
    /// The key whose turn it is to sign.
    pub fn current(&self) -> Option<&Signing> {
        self.signing.last()
    }

    /// Whether a witness's copy of a head is one that this log may have given; nothing when it is.
    pub fn differs_from_witness(&self, witness: &SignedCheckpoint, history: &History) -> Option<String> {
        let Checkpoint { cell, size, root } = &witness.checkpoint;
        if let Err(detail) = tree_is(history, cell, (*size, *root)) {
            return Some(detail);
        }
        let signer = self.signing.iter().find(|signing| witness.is_signed_by(&signing.key));
        match signer {
            Some(signer) => self.may_sign(&signer.key.id, *size, history).err(),
            None => Some("it has no signature of a key that signs for this log".to_owned()),
        }
    }

    /// Goes from key to key; says which rotations were followed.
    fn follow_keys<'s>(&mut self, signed: &'s [Signed], history: &History) -> BTreeSet<&'s str> {
        let mut used = BTreeSet::new();
        let first = history.keys.keys().first();
        let mut next = first.map(|known| (known.key.clone(), known.epoch as u64 + 1, false));
        while let Some((key, from_size, anew)) = next {
            let rotation = signed.iter().find_map(|Signed { place, event }| match event {
                Ok(SignedEvent::Rotation(rotation)) if rotation.key_id == key.id => {
                    let rotation = self.rotation(rotation, &key, from_size, history).ok()?;
                    Some((place, rotation))
                }
                _ => None,
            });
            let until_size = rotation.as_ref().map(|(_, rotation)| rotation.tree.0);
            self.signing.push(Signing { key: key.clone(), from_size, until_size, anew });
            next = match rotation {
                Some((place, rotation)) => {
                    used.insert(place.as_str());
                    let next = (rotation.next.clone(), rotation.tree.0, false);
                    self.rotations.push(rotation);
                    Some(next)
                }
                None => self.begins_anew(history, &key),
            };
        }
        used
    }

    /// The key that takes over without a signature, since the one before was revoked: the first one declared in that epoch or
    /// after it that has not signed yet.
    fn begins_anew(&self, history: &History, revoked: &PublicKey) -> Option<(PublicKey, u64, bool)> {
        let (since, _) = history.keys.get(&revoked.id)?.revoked?;
        let fresh = |known: &&DeclaredKey| known.epoch >= since && !self.has(&known.key.id);
        let known = history.keys.keys().iter().find(fresh)?;
        Some((known.key.clone(), known.epoch as u64 + 1, true))
    }

    fn has(&self, key: &RefId) -> bool {
        self.signing.iter().any(|signing| signing.key.id == *key)
    }

    fn rotation(
        &self,
        event: &SigningKeyRotated,
        key: &PublicKey,
        from_size: u64,
        history: &History,
    ) -> Result<Rotation, String> {
        let size = u64::try_from(event.tree_size.0).unwrap_or_default();
        let root = parsed_root(event.root.as_str())?;
        tree_is(history, &event.cell_id, (size, root))?;
        if size < from_size {
            return Err(format!("key {} signs trees of {from_size} epochs and more, found {size}", key.id));
        }
        let time = history.time_at(size).unwrap_or_default();
        history.keys.get(&key.id).map_or(Ok(()), |known| known.may_sign(size, time))?;
        if event.next_algorithm.as_str() != ALGORITHM {
            return Err(format!("the next key is of the algorithm {}, expected {ALGORITHM}", event.next_algorithm));
        }
        let next = PublicKey::parse(&event.next_key_id, event.next_public_key.as_str())?;
        if self.has(&next.id) || next.id == key.id {
            return Err(format!("key {} has signed before and cannot follow itself", next.id));
        }
        match history.keys.get(&next.id) {
            Some(known) if known.key == next && known.epoch as u64 >= size => {
                return Err(format!(
                    "the next key {} is declared by epoch {}, which is not in the tree",
                    next.id, known.epoch
                ));
            }
            Some(known) if known.key == next => {}
            Some(_) => return Err(format!("key {} is declared with another public key", next.id)),
            None => return Err(format!("the next key {} is not declared", next.id)),
        }
        let signature = parsed_signature(event.signature.as_str())?;
        if !key.verifies(&rotation_text(&event.cell_id, (size, root), &key.id, &next), &signature) {
            return Err(format!("the signature is not that of key {}", key.id));
        }
        Ok(Rotation { tree: (size, root), key: key.clone(), next, signature })
    }

    /// Why a rotation was not followed.
    fn why_not_taken(&self, event: &SigningKeyRotated, history: &History) -> String {
        let signing = self.signing.iter().find(|signing| signing.key.id == event.key_id);
        let Some(signing) = signing else {
            return format!("key {} does not sign for this log and can hand over nothing", event.key_id);
        };
        if signing.until_size.is_some() {
            return format!("key {} has handed over already", event.key_id);
        }
        let judged = self.rotation(event, &signing.key, signing.from_size, history);
        judged.err().unwrap_or_else(|| "another rotation of the key was followed".to_owned())
    }

    /// Whether a key may sign a tree: it is its turn, and it is declared, in use and not revoked then.
    pub fn may_sign(&self, key: &RefId, size: u64, history: &History) -> Result<&PublicKey, String> {
        let Some(known) = history.keys.get(key) else { return Err(format!("key {key} is not declared")) };
        let Some(signing) = self.signing.iter().find(|signing| signing.key.id == *key) else {
            return Err(format!("key {key} is declared, but the key before it has not signed it"));
        };
        if let Some(until) = signing.until_size.filter(|until| *until < size) {
            return Err(format!("key {key} handed over with the tree of {until} epochs, and this one has {size}"));
        }
        if size < signing.from_size {
            return Err(format!(
                "key {key} signs trees of {} epochs and more, and this one has {size}",
                signing.from_size
            ));
        }
        known.may_sign(size, history.time_at(size).unwrap_or_default())?;
        Ok(&signing.key)
    }

    fn head(&mut self, event: &HeadSigned, history: &History) -> Result<(), String> {
        let size = u64::try_from(event.tree_size.0).unwrap_or_default();
        let root = parsed_root(event.root.as_str())?;
        tree_is(history, &event.cell_id, (size, root))?;
        let key = self.may_sign(&event.key_id, size, history)?.clone();
        let signature = parsed_signature(event.signature.as_str())?;
        let checkpoint = Checkpoint { cell: event.cell_id.clone(), size, root };
        if !key.verifies(&checkpoint.text(), &signature) {
            return Err(format!("the signature is not that of key {}", key.id));
        }
        self.heads += 1;
        if self.last.as_ref().is_none_or(|last| last.checkpoint.size <= size) {
            self.last = Some(Head { checkpoint, key, signature });
        }
        Ok(())
    }
}

/// Whether something of this log's tree was signed before its key was revoked, and when that was no longer to be trusted. What the
/// key did not sign is no such thing. One whose turn never came, as who handed over to it is distrusted, is revoked like any other.
fn is_distrusted(event: &SignedEvent, history: &History) -> bool {
    let (cell, root, key, signature) = match event {
        SignedEvent::Head(e) => (&e.cell_id, &e.root, &e.key_id, &e.signature),
        SignedEvent::Rotation(e) => (&e.cell_id, &e.root, &e.key_id, &e.signature),
    };
    let size = event.size();
    let (Ok(root), Ok(signature)) = (parsed_root(root.as_str()), parsed_signature(signature.as_str())) else {
        return false;
    };
    let Some((known, time)) = history.keys.get(key).zip(history.time_at(size)) else { return false };
    let text = match event {
        SignedEvent::Head(_) => Checkpoint { cell: cell.clone(), size, root }.text(),
        SignedEvent::Rotation(e) => {
            let next = PublicKey::parse(&e.next_key_id, e.next_public_key.as_str());
            let Ok(next) = next else { return false };
            rotation_text(cell, (size, root), key, &next)
        }
    };
    tree_is(history, cell, (size, root)).is_ok()
        && known.is_distrusted(size, time)
        && known.key.verifies(&text, &signature)
}

/// Whether the log has this tree.
fn tree_is(history: &History, cell: &CellId, (size, root): (u64, Hash32)) -> Result<(), String> {
    if let Some(own) = history.cell.as_ref().filter(|own| *own != cell) {
        return Err(format!("it is of the cell {cell}, and this log is of {own}"));
    }
    if size == 0 {
        return Err("it is of an empty tree, expected one epoch at least".to_owned());
    }
    match history.roots.get(&size) {
        None => Err(format!("it is of {size} epochs, and the log has {}", history.tree.size())),
        Some(own) if *own != root => Err(format!("the first {size} epochs have the root {own}, and it says {root}")),
        Some(_) => Ok(()),
    }
}

fn parsed_root(digits: &str) -> Result<Hash32, String> {
    Hash32::parse(digits)
        .ok_or_else(|| format!("field root: found {digits:?}, expected 64 hexadecimal digits in lower case"))
}

fn parsed_signature(digits: &str) -> Result<[u8; 64], String> {
    let bytes = hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("field signature: found {digits:?}, expected 128 hexadecimal digits"))
}
