//! Keys of sealed texts: one file each, readable by its owner alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use solyx_schemas::ids::{TenantId, check_id};
use solyx_schemas::sealed::{KEY_ID_LEN_MAX, is_key_id};

/// Bytes of a key of AES-256.
pub const KEY_LEN: usize = 32;
/// Extension of a file with a key.
pub const KEY_FILE: &str = "key";
/// Who may read a file with a key: its owner.
const MODE: u32 = 0o600;

/// What is wrong with a file of a key.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", file.display())]
pub struct KeyError {
    /// The file.
    pub file: PathBuf,
    /// What was found and what was expected.
    pub detail: String,
}

/// A tenant's key.
#[derive(Clone)]
pub struct TenantKey {
    /// The tenant.
    pub tenant: TenantId,
    /// Id of the key, in every token that it seals.
    pub key_id: String,
    key: [u8; KEY_LEN],
}

impl std::fmt::Debug for TenantKey {
    /// Without the key itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantKey").field("tenant", &self.tenant).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A key as its file says it.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    tenant: String,
    key_id: String,
    key: String,
}

impl TenantKey {
    /// A key of these bytes.
    pub fn new(tenant: TenantId, key_id: &str, key: [u8; KEY_LEN]) -> Result<Self, String> {
        check_id(tenant.as_str()).map_err(|e| e.within("tenant").to_string())?;
        if !is_key_id(key_id) {
            let expected = format!("1 to {KEY_ID_LEN_MAX} characters from A-Z a-z 0-9 . _ / -");
            return Err(format!("field key_id: found {key_id:?}, expected {expected}"));
        }
        Ok(Self { tenant, key_id: key_id.to_owned(), key })
    }

    /// A new key, of the system's randomness.
    pub fn generate(tenant: TenantId, key_id: &str) -> Result<Self, String> {
        let mut key = [0; KEY_LEN];
        getrandom::fill(&mut key).map_err(|e| format!("the system has no randomness: {e}"))?;
        Self::new(tenant, key_id, key)
    }

    /// The key of a file that nobody but its owner may read.
    pub fn load(file: &Path) -> Result<Self, KeyError> {
        let wrong = |detail: String| KeyError { file: file.to_owned(), detail };
        let mode = fs::metadata(file).map_err(|e| wrong(e.to_string()))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(wrong(format!("its mode is {mode:04o}, expected 0600: others could read the key")));
        }
        let text = fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
        let said: KeyFile = toml::from_str(&text).map_err(|e| {
            wrong(format!("{}; expected tenant, key_id and key, as `solyx keys new` writes them", e.message()))
        })?;
        let length = || wrong(format!("field key: expected {} hexadecimal digits", KEY_LEN * 2));
        let key = hex::decode(&said.key).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(length)?;
        Self::new(TenantId::from(said.tenant.as_str()), &said.key_id, key).map_err(wrong)
    }

    /// Writes it to a new file of mode 0600; one that is there is never written over.
    pub fn store(&self, file: &Path) -> Result<(), KeyError> {
        let failed = |e: std::io::Error| KeyError { file: file.to_owned(), detail: e.to_string() };
        let said = KeyFile { tenant: self.tenant.to_string(), key_id: self.key_id.clone(), key: hex::encode(self.key) };
        let text = toml::to_string(&said).map_err(|e| failed(std::io::Error::other(e)))?;
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(file).map_err(failed)?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.key
    }
}
