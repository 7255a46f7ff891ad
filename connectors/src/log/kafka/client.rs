//! What every client of ours has in common: its log lines and errors go to ours, tokens are fetched anew.

use std::sync::Mutex;
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use solyx_schemas::log::LogError;

use super::config::Security;
use super::errors::code_error;
use crate::log::heads::{locked, wall_clock_us};

/// How long a bearer token from a file is taken to hold; the file is read again after that.
const TOKEN_LIFETIME_MS: i64 = 60_000;

/// The context of a client.
pub(super) struct Context {
    security: Security,
    /// The last thing that went wrong between the client and the brokers.
    trouble: Mutex<Option<Trouble>>,
}

struct Trouble {
    at: Instant,
    code: Option<Code>,
    reason: String,
}

impl Context {
    pub(super) fn new(security: Security) -> Self {
        Self { security, trouble: Mutex::new(None) }
    }

    /// What went wrong since then, in the client's own words.
    pub(super) fn trouble_since(&self, since: Instant) -> Option<String> {
        locked(&self.trouble).as_ref().filter(|trouble| trouble.at >= since).map(|trouble| trouble.reason.clone())
    }

    /// What will not go away by waiting: a refused identity.
    pub(super) fn refused(&self, doing: &str) -> Option<LogError> {
        let trouble = locked(&self.trouble);
        let trouble = trouble.as_ref()?;
        let code = trouble.code.filter(|code| matches!(code, Code::Authentication | Code::SSL))?;
        let mut error = code_error(doing, code);
        error.detail.clone_from(&trouble.reason);
        Some(error)
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Each of these reaches us as an error as well, where it is handled.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, message, "the Kafka client");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, message, "the Kafka client");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "the Kafka client"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That a topic-partition is read to its end is no trouble.
        if matches!(error.rdkafka_error_code(), Some(Code::PartitionEOF)) {
            return;
        }
        tracing::info!(%error, reason, "the Kafka client");
        let (at, code) = (Instant::now(), error.rdkafka_error_code());
        *locked(&self.trouble) = Some(Trouble { at, code, reason: reason.to_owned() });
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.security.token()?;
        let lifetime_ms = wall_clock_us() / 1_000 + TOKEN_LIFETIME_MS;
        let principal_name = self.security.username.clone().unwrap_or_default();
        Ok(OAuthToken { token, principal_name, lifetime_ms })
    }
}

impl ConsumerContext for Context {}
