//! What a registry answered, sorted by what can be done about it.

use serde_json::Value;
use solyx_schemas::log::{LogError, LogErrorKind};

/// The codes of Confluent's API for a subject, a version and a schema that are not there. Any other 404 is no registry's.
const NOT_THERE: [u64; 3] = [40_401, 40_402, 40_403];
/// Compatibility of a subject or of the registry was never set (Confluent 7).
const NO_COMPATIBILITY: u64 = 40_408;
/// Characters of a foreign answer that an error shows.
const SHOWN_MAX: usize = 400;

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// What was asked, for errors.
    pub(super) asked: String,
}

/// What an answer comes to when nothing went wrong.
pub(super) enum Found {
    Here(Value),
    NotThere,
    /// The registry refuses what it was given, with its reason.
    Refused(String),
}

impl Answer {
    pub(super) fn sorted(self) -> Result<Found, LogError> {
        let json: Option<Value> = serde_json::from_str(&self.body).ok();
        let code = json.as_ref().and_then(|json| json["error_code"].as_u64()).unwrap_or(0);
        let says = || {
            let message = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or(&self.body);
            message.chars().take(SHOWN_MAX).collect::<String>()
        };
        let error = |kind, what: &str, hint: &str| {
            let detail = format!("{} gave status {}: {}", self.asked, self.status, says());
            Err(LogError::new(kind, what, detail, hint))
        };
        match (self.status, code) {
            (200..=299, _) => match json {
                Some(json) => Ok(Found::Here(json)),
                None => error(LogErrorKind::Stop, "the answer is not a schema registry's", ADDRESS),
            },
            (404, code) if NOT_THERE.contains(&code) || code == NO_COMPATIBILITY => Ok(Found::NotThere),
            (409, _) => Ok(Found::Refused(says())),
            (401 | 403, _) => {
                let hint = "check username, password or token of the [registry] table, and what they may do there";
                error(LogErrorKind::Stop, "the schema registry does not let us", hint)
            }
            (422, _) => error(LogErrorKind::Stop, "the schema registry takes this for invalid", "see its own log"),
            (300..=499, _) if !LATER.contains(&self.status) => {
                error(LogErrorKind::Stop, "the answer is not a schema registry's", ADDRESS)
            }
            _ => error(
                LogErrorKind::Retry,
                "the schema registry cannot answer now",
                "what goes on running asks it again, a single command has to be repeated; see the registry's own log",
            ),
        }
    }
}

/// Status codes by which a server asks for patience.
const LATER: [u16; 3] = [408, 425, 429];

const ADDRESS: &str =
    "check the url of the [registry] table: its API may be under a path, as in http://HOST:PORT/apis/ccompat/v7";

/// No answer at all.
pub(super) fn unanswered(asked: &str, error: &ureq::Error) -> LogError {
    let detail = format!("{asked}: {error}");
    let stop = |what: &str, hint: &str| LogError::new(LogErrorKind::Stop, what, &detail, hint);
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => stop("the schema registry's address is wrong", ADDRESS),
        ureq::Error::BodyExceedsLimit(_) => stop("the answer is longer than a schema registry's can be", ADDRESS),
        // A handshake that breaks off is a registry that goes away; one about certificates stays as it is.
        ureq::Error::NativeTls(e) if e.to_string().contains("certificate") => stop(
            "the schema registry's certificate is not trusted",
            "name its authority's file as ca_file in the [registry] table",
        ),
        _ => LogError::new(
            LogErrorKind::Retry,
            "the schema registry is away",
            detail,
            "start it, or check the url of the [registry] table; what goes on running asks it again",
        ),
    }
}
