//! How a cluster is reached: the file `kafka.toml`, and what it means to the client.
//!
//! Secrets are named by file or environment variable and read when a client is made; they are never part of the
//! configuration as it is printed.

use std::fmt;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use serde::Deserialize;
use solyx_schemas::log::{LogError, LogErrorKind};

use crate::registry::RegistryConfig;

/// A question whose answer is lost is not asked again before this.
pub(super) const SOCKET_TIMEOUT_MS: u32 = 6_000;

/// A cluster and what is ours on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers, comma separated.
    pub bootstrap: String,
    /// What every topic of this cell begins with.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Replicas of a topic that is created.
    #[serde(default = "one")]
    pub replication: i32,
    /// Replicas that must have a record before it counts as written.
    #[serde(default = "one")]
    pub min_insync_replicas: i32,
    /// Time after which the broker ends a transaction whose writer is silent, ms. Readers may wait for that long.
    #[serde(default = "default_transaction_timeout_ms")]
    pub transaction_timeout_ms: u32,
    /// What the names of producers and groups begin with behind the prefix, where rights go by name; by default the user.
    #[serde(default)]
    pub principal: Option<String>,
    /// Transport and identity.
    #[serde(default)]
    pub security: Security,
    /// Where schema ids come from; without it from the lock file.
    #[serde(default)]
    pub registry: Option<RegistryConfig>,
}

/// Transport and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: Protocol,
    /// Certificates that sign the brokers', PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (mTLS), PEM.
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// File with the key's password.
    pub key_password_file: Option<PathBuf>,
    /// SASL mechanism.
    pub mechanism: Option<Mechanism>,
    /// SASL user.
    pub username: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// Environment variable with the user's password.
    pub password_env: Option<String>,
    /// File with a bearer token (OAUTHBEARER), read again each time one is needed.
    pub token_file: Option<PathBuf>,
    /// Environment variable with a bearer token.
    pub token_env: Option<String>,
}

/// How bytes travel and who asks for a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS; with a certificate of ours, mTLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// Password in the clear; over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response, RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// Bearer tokens, RFC 7628.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

fn default_prefix() -> String {
    "solyx".to_owned()
}

fn one() -> i32 {
    1
}

fn default_transaction_timeout_ms() -> u32 {
    10_000
}

impl KafkaConfig {
    /// A cluster without security, by its brokers.
    pub fn plain(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            prefix: default_prefix(),
            replication: one(),
            min_insync_replicas: one(),
            transaction_timeout_ms: default_transaction_timeout_ms(),
            principal: None,
            security: Security::default(),
            registry: None,
        }
    }

    /// As a file has it.
    pub fn load(path: &Path) -> Result<Self, LogError> {
        let refused = |detail: String| {
            LogError::new(
                LogErrorKind::Stop,
                format!("{} does not say how the cluster is reached", path.display()),
                detail,
                "the page of deployment lists every setting",
            )
        };
        let text = std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?;
        let config: Self = toml::from_str(&text).map_err(|e| refused(e.to_string().trim().to_owned()))?;
        config.check().map_err(refused)?;
        let dir = path.parent().unwrap_or(Path::new(""));
        Ok(Self { registry: config.registry.map(|registry| registry.relative_to(dir)), ..config })
    }

    fn check(&self) -> Result<(), String> {
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(name) {
            return Err(format!("prefix: found {:?}, expected 1 to 64 of A–Z a–z 0–9 . _ -", self.prefix));
        }
        if !(1..=self.replication).contains(&self.min_insync_replicas) {
            let found = self.min_insync_replicas;
            return Err(format!(
                "min_insync_replicas: found {found}, expected 1 to replication ({})",
                self.replication
            ));
        }
        if !(1_000..=900_000).contains(&self.transaction_timeout_ms) {
            return Err(format!(
                "transaction_timeout_ms: found {}, expected 1000 to 900000",
                self.transaction_timeout_ms
            ));
        }
        Ok(())
    }

    /// The name of a producer or group behind the prefix: it begins with who asks for it.
    pub(super) fn writer(&self, name: &str) -> String {
        match self.principal.as_ref().or(self.security.username.as_ref()) {
            Some(principal) if !name.starts_with(principal.as_str()) => format!("{principal}-{name}"),
            _ => name.to_owned(),
        }
    }

    /// What every client of ours is made with.
    pub(super) fn client(&self) -> Result<ClientConfig, LogError> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", "solyx")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string())
            .set("topic.metadata.refresh.interval.ms", "10000");
        self.security.apply(&mut client)?;
        Ok(client)
    }
}

impl Security {
    fn apply(&self, client: &mut ClientConfig) -> Result<(), LogError> {
        client.set("security.protocol", self.protocol.to_string());
        for (setting, path) in [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ] {
            if let Some(path) = path {
                client.set(setting, path.display().to_string());
            }
        }
        if let Some(path) = &self.key_password_file {
            client.set("ssl.key.password", secret("key_password", Some(path), None)?);
        }
        if !matches!(self.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl) {
            return Ok(());
        }
        let mechanism = self.mechanism.ok_or_else(|| lacking("security.mechanism", "SCRAM-SHA-512"))?;
        client.set("sasl.mechanism", mechanism.to_string());
        if mechanism != Mechanism::OauthBearer {
            let username = self.username.as_ref().ok_or_else(|| lacking("security.username", "a user"))?;
            client.set("sasl.username", username);
            let password = secret("password", self.password_file.as_deref(), self.password_env.as_deref())?;
            client.set("sasl.password", password);
        }
        Ok(())
    }

    /// The bearer token as it is now.
    pub(super) fn token(&self) -> Result<String, LogError> {
        secret("token", self.token_file.as_deref(), self.token_env.as_deref())
    }
}

/// A secret from where the configuration says it is, without the line's end.
fn secret(name: &str, file: Option<&Path>, variable: Option<&str>) -> Result<String, LogError> {
    let refused = |detail: String| {
        LogError::new(
            LogErrorKind::Stop,
            format!("the {name} for the cluster cannot be had"),
            detail,
            "name a file or an environment variable that holds it",
        )
    };
    match (file, variable) {
        (Some(path), _) => std::fs::read_to_string(path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|e| refused(format!("{}: {e}", path.display()))),
        (None, Some(variable)) => std::env::var(variable).map_err(|e| refused(format!("{variable}: {e}"))),
        (None, None) => Err(refused(format!("neither security.{name}_file nor security.{name}_env is set"))),
    }
}

fn lacking(setting: &str, expected: &str) -> LogError {
    LogError::new(
        LogErrorKind::Stop,
        "the cluster's security is not fully described",
        format!("{setting} is missing, expected something like {expected}"),
        "the page of deployment lists every setting",
    )
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_known_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kafka.toml");
        std::fs::write(&path, "bootstrap = \"a:1\"\nprefx = \"x\"\n").unwrap();
        let error = KafkaConfig::load(&path).unwrap_err();
        assert!(error.detail.contains("prefx"), "{error}");
        std::fs::write(&path, "bootstrap = \"a:1\"\nmin_insync_replicas = 2\n").unwrap();
        let error = KafkaConfig::load(&path).unwrap_err();
        assert!(error.detail.contains("min_insync_replicas: found 2, expected 1 to replication (1)"), "{error}");
    }

    #[test]
    fn a_password_is_read_from_its_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "hush\n").unwrap();
        let mut config = KafkaConfig::plain("a:1");
        config.security = Security {
            protocol: Protocol::SaslSsl,
            mechanism: Some(Mechanism::ScramSha512),
            username: Some("engine".to_owned()),
            password_file: Some(file),
            ..Security::default()
        };
        assert_eq!(config.client().unwrap().get("sasl.password"), Some("hush"));
        assert!(!format!("{config:?}").contains("hush"));
        config.security.password_file = None;
        let error = config.client().unwrap_err();
        assert!(error.detail.contains("security.password_file"), "{error}");
    }
}
