//! Sealing texts before they are published, and opening them where a key is at hand. The log, the kernel and every audit see
//! tokens only (`solyx_schemas::sealed`).
//!
//! The nonce is a hash of event and field, so that the same event is sealed to the same bytes: publishing it again is a
//! duplicate, as without sealing. AES-GCM-SIV stays safe where a nonce comes twice: equal texts of the same field of the same
//! event are seen to be equal, and nothing else.

mod keys;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use solyx_schemas::events::{Event, Identity};
use solyx_schemas::field::FieldError;
use solyx_schemas::sealed::{self, NONCE_LEN, PREFIX, Token};

pub use self::keys::{KEY_FILE, KEY_LEN, KeyError, TenantKey};

/// What the nonce is derived for.
const NONCE_CONTEXT: &str = "solyx sealed text, version 1, nonce";

/// Keys at hand, by id.
#[derive(Clone, Debug, Default)]
pub struct Keyring(BTreeMap<String, TenantKey>);

impl Keyring {
    /// These keys.
    pub fn of(keys: impl IntoIterator<Item = TenantKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.key_id.clone(), key)).collect())
    }

    /// The keys of these files, no two of which may have one id.
    pub fn load(files: &[impl AsRef<Path>]) -> Result<Self, KeyError> {
        let mut keys: BTreeMap<String, TenantKey> = BTreeMap::new();
        for file in files.iter().map(AsRef::as_ref) {
            let key = TenantKey::load(file)?;
            if keys.contains_key(&key.key_id) {
                let detail = format!("field key_id: found {}, which another file has, too", key.key_id);
                return Err(KeyError { file: file.to_owned(), detail });
            }
            keys.insert(key.key_id.clone(), key);
        }
        Ok(Self(keys))
    }

    /// The keys of all files `*.key` in a directory.
    pub fn load_dir(dir: &Path) -> Result<Self, KeyError> {
        let failed = |e: std::io::Error| KeyError { file: dir.to_owned(), detail: e.to_string() };
        let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        let files = entries.into_iter().map(|entry| entry.path());
        let keys: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == KEY_FILE)).collect();
        Self::load(&keys)
    }

    /// The key of an id.
    pub fn get(&self, key_id: &str) -> Option<&TenantKey> {
        self.0.get(key_id)
    }

    /// The key that seals an event's texts, or why none does. Events that do not say whose they are are sealed by the only key.
    fn key_for(&self, event: &Event) -> Result<&TenantKey, FieldError> {
        let ids = || self.0.keys().cloned().collect::<Vec<_>>().join(", ");
        match sealed::tenant_of(event) {
            Some(tenant) => match self.0.values().filter(|key| key.tenant == *tenant).collect::<Vec<_>>()[..] {
                [key] => Ok(key),
                [] => Err(FieldError::at("tenant", tenant, format!("a tenant of a key that is given: {}", ids()))),
                // Which of them is to be lost one day nobody can tell.
                _ => Err(FieldError::at(
                    "tenant",
                    tenant,
                    format!("a tenant of whom one key is given, not two: {}", ids()),
                )),
            },
            None => match self.0.values().collect::<Vec<_>>()[..] {
                [key] => Ok(key),
                _ => {
                    let expected = format!("one key, since the event does not say whose it is; given: {}", ids());
                    Err(FieldError::here(event.name(), expected))
                }
            },
        }
    }

    /// Seals the texts of an event that may be sealed; those that are tokens already stay. How many were sealed.
    pub fn seal(&self, event: &mut Event) -> Result<usize, FieldError> {
        if sealed::texts_of(event).iter().all(|(_, text)| is_token(text)) {
            return Ok(0);
        }
        let key = self.key_for(event)?;
        let said = event.clone();
        let identity = said.identity();
        let mut count = 0;
        for (path, text) in sealed::texts_of_mut(event) {
            if !is_token(text) {
                *text = seal_text(key, &identity, &path, text);
                count += 1;
            }
        }
        // A token is longer than its text.
        event.check()?;
        Ok(count)
    }

    /// A text with its tokens opened; what no key at hand opens is shown as erased.
    pub fn reveal<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.revealed(text, |plain| plain)
    }

    /// The same of a text that is JSON, which it stays.
    pub fn reveal_json<'t>(&self, json: &'t str) -> Cow<'t, str> {
        self.revealed(json, |plain| {
            let quoted = serde_json::Value::from(plain).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        })
    }

    fn revealed<'t>(&self, text: &'t str, written: impl Fn(String) -> String) -> Cow<'t, str> {
        let mut opened = Vec::new();
        let between = sealed::replace(text, |token| opened.push(written(self.open(token))));
        let Some((first, rest)) = between.split_first().filter(|_| !opened.is_empty()) else {
            return Cow::Borrowed(text);
        };
        let mut shown = (*first).to_owned();
        for (opened, after) in opened.iter().zip(rest) {
            shown += opened;
            shown += after;
        }
        Cow::Owned(shown)
    }

    fn open(&self, token: Token<'_>) -> String {
        let key_id = token.key_id;
        let Some(key) = self.get(key_id) else { return format!("[erased: key {key_id} is not at hand]") };
        open_text(key, token).unwrap_or_else(|| format!("[unreadable: key {key_id} does not open it]"))
    }
}

fn is_token(text: &str) -> bool {
    matches!(sealed::parse(text), Ok(Some(_)))
}

fn cipher(key: &TenantKey) -> Aes256GcmSiv {
    Aes256GcmSiv::new(key.bytes().into())
}

fn associated(key_id: &str) -> String {
    format!("{PREFIX}{key_id}")
}

fn seal_text(key: &TenantKey, identity: &Identity<'_>, path: &str, text: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(NONCE_CONTEXT);
    for part in [identity.source, &identity.id, path] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&hasher.finalize().as_bytes()[..NONCE_LEN]);
    let associated = associated(&key.key_id);
    let payload = Payload { msg: text.as_bytes(), aad: associated.as_bytes() };
    let sealed = cipher(key)
        .encrypt(&Nonce::from(nonce), payload)
        .expect("a text of an event is shorter than the 64 GiB that the cipher takes");
    let bytes = [&nonce[..], &sealed].concat();
    format!("{associated}:{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn open_text(key: &TenantKey, token: Token<'_>) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token.sealed).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let associated = associated(token.key_id);
    let payload = Payload { msg: sealed, aad: associated.as_bytes() };
    let plain = cipher(key).decrypt(&Nonce::from(*nonce), payload).ok()?;
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests;
