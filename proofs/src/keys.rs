//! Keys that sign heads: secret and public halves, and what the log says of them.
//!
//! A key is declared on `solyx.policy`, which is an input, so that the history which a head signs says whose head it is. The first
//! one declared signs first. Each later one is signed by the one before it, which signs no larger tree from then on. Only after a
//! revocation may a key begin without that: whoever trusted the old one has to learn of the new one by other means.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use solyx_schemas::events::Event;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, RefId};
use solyx_schemas::units::TimeUs;

/// The only algorithm: Ed25519 (RFC 8032), with the strict verification that refuses keys of small order.
pub const ALGORITHM: &str = "ed25519";

/// A public key with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its id.
    pub id: RefId,
    key: VerifyingKey,
}

/// A secret key with its id. It is shown nowhere and written only where its owner asks for it.
pub struct SecretKey {
    id: RefId,
    key: SigningKey,
}

/// A key as a file holds it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    key_id: String,
    algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
    public_key: String,
}

impl PublicKey {
    /// A public key of 64 hexadecimal digits in lower case.
    pub fn parse(id: &RefId, digits: &str) -> Result<Self, String> {
        let wrong =
            || format!("found {digits:?}, expected the 64 hexadecimal digits of an Ed25519 public key in lower case");
        let bytes = Hash32::parse(digits).ok_or_else(wrong)?;
        let key = VerifyingKey::from_bytes(&bytes.0).map_err(|_| wrong())?;
        if key.is_weak() {
            return Err(format!(
                "the public key {digits} is of small order, expected one that `solyx proofs keygen` makes"
            ));
        }
        Ok(Self { id: id.clone(), key })
    }

    /// The key of a file: the object that `solyx proofs keygen` writes, with or without its secret half.
    pub fn from_file(text: &str) -> Result<Self, String> {
        let file: KeyFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
        file.public()
    }

    /// Its 32 bytes as hexadecimal digits.
    pub fn digits(&self) -> String {
        hex::encode(self.key.as_bytes())
    }

    /// The line that a file of public keys holds.
    pub fn file(&self) -> String {
        let file = KeyFile {
            key_id: self.id.to_string(),
            algorithm: ALGORITHM.to_owned(),
            secret_key: None,
            public_key: self.digits(),
        };
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Whether a text has this signature of the key.
    pub fn verifies(&self, text: &str, signature: &[u8; 64]) -> bool {
        self.key.verify_strict(text.as_bytes(), &Signature::from_bytes(signature)).is_ok()
    }

    /// Whether it is the same key, whatever it is called.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// What a signature's line says of the key (c2sp.org/signed-note): the first bytes of SHA-256 of name, newline, 1, key.
    pub fn hint(&self, name: &str) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(name.as_bytes());
        hasher.update(b"\n\x01");
        hasher.update(self.key.as_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl KeyFile {
    fn public(&self) -> Result<PublicKey, String> {
        if self.algorithm != ALGORITHM {
            return Err(format!("field algorithm: found {:?}, expected {ALGORITHM}", self.algorithm));
        }
        let id = RefId::from(self.key_id.as_str());
        solyx_schemas::field::Field::check(&id).map_err(|e| format!("field key_id: {e}"))?;
        PublicKey::parse(&id, &self.public_key).map_err(|e| format!("field public_key: {e}"))
    }
}

impl SecretKey {
    /// A new key from the system's randomness. Without an id it is named after its public half.
    pub fn generate(id: Option<RefId>) -> Result<Self, String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
        let key = SigningKey::from_bytes(&bytes);
        let digits = hex::encode(Sha256::digest(key.verifying_key().as_bytes()));
        let id = id.unwrap_or_else(|| RefId::from(format!("{ALGORITHM}-{}", &digits[..16])));
        Ok(Self { id, key })
    }

    /// The key of a file that [`SecretKey::file`] wrote. The error never shows what is secret.
    pub fn from_file(text: &str) -> Result<Self, String> {
        // What serde says of a file that is no such object may show what stands in it.
        let shape =
            "expected an object with key_id, algorithm, secret_key and public_key, as `solyx proofs keygen` writes it";
        let file: KeyFile = serde_json::from_str(text).map_err(|_| shape.to_owned())?;
        let secret = file.secret_key.as_deref().ok_or("it has no secret_key: it is the public half")?;
        let bytes = Hash32::parse(secret).ok_or("field secret_key: expected 64 hexadecimal digits in lower case")?;
        let key = SigningKey::from_bytes(&bytes.0);
        let public = file.public()?;
        if key.verifying_key() != public.key {
            return Err("field public_key: it is not the public half of secret_key".to_owned());
        }
        Ok(Self { id: public.id, key })
    }

    /// The text of its file, which only its owner may read.
    pub fn file(&self) -> String {
        let file = KeyFile {
            key_id: self.id.to_string(),
            algorithm: ALGORITHM.to_owned(),
            secret_key: Some(hex::encode(self.key.to_bytes())),
            public_key: self.public().digits(),
        };
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { id: self.id.clone(), key: self.key.verifying_key() }
    }

    /// Signs a text.
    pub fn sign(&self, text: &str) -> [u8; 64] {
        self.key.sign(text.as_bytes()).to_bytes()
    }
}

/// What a key signs to hand over to the next. No head of any cell begins like that, for no cell's id has a space.
pub fn rotation_text(cell: &CellId, (size, root): (u64, Hash32), key: &RefId, next: &PublicKey) -> String {
    let (next_id, digits) = (&next.id, next.digits());
    format!("solyx signing key rotation\n{cell}\n{size}\n{root}\n{key}\n{next_id}\n{ALGORITHM}\n{digits}\n")
}

/// A key as the log declares it.
#[derive(Clone, Debug)]
pub struct DeclaredKey {
    /// The key.
    pub key: PublicKey,
    /// Epoch that took its first declaration.
    pub epoch: i64,
    /// Each declaration: epoch that took it, in use from, in use until.
    terms: Vec<(i64, TimeUs, Option<TimeUs>)>,
    /// From when on it is not trusted, and the epoch that took that.
    pub revoked: Option<(i64, TimeUs)>,
}

/// What the log says of keys.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    keys: Vec<DeclaredKey>,
    /// Declarations that cannot be followed: the epoch, and why.
    pub odd: Vec<(i64, String)>,
}

impl KeyHistory {
    /// Takes in an event that counts.
    pub fn apply(&mut self, epoch: i64, event: &Event) {
        match event {
            Event::SigningKeyDeclared(e) if e.algorithm.as_str() != ALGORITHM => {
                let odd =
                    format!("key {} is declared for the algorithm {}, expected {ALGORITHM}", e.key_id, e.algorithm);
                self.odd.push((epoch, odd));
            }
            Event::SigningKeyDeclared(e) => match PublicKey::parse(&e.key_id, e.public_key.as_str()) {
                Err(detail) => self.odd.push((epoch, format!("key {}: {detail}", e.key_id))),
                Ok(key) => self.declare(epoch, key, e.from_us, e.to_us),
            },
            Event::SigningKeyRevoked(e) => match self.keys.iter_mut().find(|known| known.key.id == e.key_id) {
                // The earliest instant that was ever named stays.
                Some(known) => {
                    let earliest = known.revoked.map_or(e.revoked_us, |(_, at)| at.min(e.revoked_us));
                    known.revoked = Some((known.revoked.map_or(epoch, |(first, _)| first), earliest));
                }
                None => self.odd.push((epoch, format!("key {} is revoked and was never declared", e.key_id))),
            },
            _ => {}
        }
    }

    fn declare(&mut self, epoch: i64, key: PublicKey, from: TimeUs, to: Option<TimeUs>) {
        match self.keys.iter_mut().find(|known| known.key.id == key.id) {
            Some(known) if known.key == key => known.terms.push((epoch, from, to)),
            Some(_) => self.odd.push((epoch, format!("key {} is declared again with another public key", key.id))),
            None => self.keys.push(DeclaredKey { key, epoch, terms: vec![(epoch, from, to)], revoked: None }),
        }
    }

    /// Every key, in the order in which they were declared.
    pub fn keys(&self) -> &[DeclaredKey] {
        &self.keys
    }

    /// A key by its id.
    pub fn get(&self, id: &RefId) -> Option<&DeclaredKey> {
        self.keys.iter().find(|known| known.key.id == *id)
    }
}

impl DeclaredKey {
    /// Whether it may sign the tree of the first `size` epochs, the last of which was at `now`; otherwise why not.
    pub fn may_sign(&self, size: u64, now: TimeUs) -> Result<(), String> {
        let id = &self.key.id;
        let Some((_, from, to)) = self.terms.iter().rfind(|(epoch, ..)| (*epoch as u64) < size) else {
            return Err(format!("key {id} is declared by epoch {}, which is not in the tree", self.epoch));
        };
        if now < *from {
            return Err(format!("key {id} is in use from {} on, and the tree ends at {}", from.0, now.0));
        }
        if let Some(to) = to.filter(|to| *to <= now) {
            return Err(format!("key {id} was in use until {}, and the tree ends at {}", to.0, now.0));
        }
        match self.revoked {
            Some((epoch, _)) if (epoch as u64) < size => {
                Err(format!("key {id} is revoked by epoch {epoch}, which is in the tree"))
            }
            Some((_, at)) if at <= now => {
                Err(format!("key {id} is revoked from {} on, and the tree ends at {}", at.0, now.0))
            }
            _ => Ok(()),
        }
    }

    /// Whether a tree that it signed before it was revoked ends when it was no longer to be trusted.
    pub fn is_distrusted(&self, size: u64, now: TimeUs) -> bool {
        self.revoked.is_some_and(|(epoch, at)| size <= epoch as u64 && at <= now)
    }
}
