//! What every client of ours has in common: its log lines and errors go to ours, tokens are fetched anew.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use solyx_schemas::log::LogError;

use super::config::Security;
use super::errors::code_error;
use crate::log::heads::{locked, wall_clock_us};

/// How long a bearer token from a file is taken to hold; the file is read again after that.
const TOKEN_LIFETIME_MS: i64 = 60_000;

/// How long what was said of one broker stands before what is said of all.
const WORDS_HOLD: Duration = Duration::from_secs(5);

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
        self.trouble_of(doing, |code| matches!(code, Code::Authentication | Code::SSL))
    }

    /// The same of what an identity that was accepted may not do.
    pub(super) fn forbidden(&self, doing: &str) -> Option<LogError> {
        self.trouble_of(doing, |code| matches!(code, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))
    }

    fn trouble_of(&self, doing: &str, is_such: impl Fn(Code) -> bool) -> Option<LogError> {
        let trouble = locked(&self.trouble);
        let trouble = trouble.as_ref()?;
        let code = trouble.code.filter(|code| is_such(*code))?;
        let mut error = code_error(doing, code);
        error.detail.clone_from(&trouble.reason);
        Some(error)
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Whatever matters here reaches us as an error as well, and is told where it is handled.
        match level {
            RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka says"),
            _ => tracing::info!(facility, message, "librdkafka says"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That a topic-partition is read to its end is no trouble.
        if matches!(error.rdkafka_error_code(), Some(Code::PartitionEOF)) {
            return;
        }
        tracing::info!(%error, reason, "librdkafka reports an error");
        let (at, mut code) = (Instant::now(), error.rdkafka_error_code());
        // A side that does not trust the other's certificate hangs up, which looks like a broken connection but for the words.
        if reason.contains("SSL alert") || reason.contains("certificate verify failed") {
            code = Some(Code::SSL);
        }
        let mut trouble = locked(&self.trouble);
        // That all brokers are down says less than what was said of one of them just before.
        let says_less = matches!(code, Some(Code::AllBrokersDown));
        if says_less && trouble.as_ref().is_some_and(|before| before.at.elapsed() < WORDS_HOLD) {
            return;
        }
        *trouble = Some(Trouble { at, code, reason: reason.to_owned() });
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.security.token()?;
        let lifetime_ms = wall_clock_us() / 1_000 + TOKEN_LIFETIME_MS;
        let principal_name = self.security.username.clone().unwrap_or_default();
        Ok(OAuthToken { token, principal_name, lifetime_ms })
    }
}

impl ConsumerContext for Context {}

/// Of a producer whose records are sent without waiting for an answer.
impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            // It is told again and again until it is mended: nothing else shows it.
            tracing::warn!(%error, "what this process said to the others did not reach the brokers");
            let (at, code) = (Instant::now(), error.rdkafka_error_code());
            *locked(&self.trouble) = Some(Trouble { at, code, reason: error.to_string() });
        }
    }
}
