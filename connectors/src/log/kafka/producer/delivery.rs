//! What the broker says of each record of a transaction, as the client passes it on.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientContext, Message};
use solyx_schemas::log::{LogError, LogErrorKind};

use super::super::client::Context;
use super::super::errors::timed_out;

/// What became of the record at a place of its transaction: its offset and the broker's time, ms.
pub(super) struct Delivery {
    pub place: usize,
    pub result: Result<(i64, i64), Code>,
}

/// A context that passes deliveries on.
pub(super) struct Deliveries {
    pub context: Context,
    sender: Sender<Delivery>,
}

impl Deliveries {
    pub fn new(context: Context) -> (Self, Receiver<Delivery>) {
        let (sender, receiver) = channel();
        (Self { context, sender }, receiver)
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let result = match result {
            Ok(message) => Ok((message.offset(), message.timestamp().to_millis().unwrap_or(0))),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        };
        // Nobody listens any more once the producer was given up.
        let _ = self.sender.send(Delivery { place, result });
    }
}

/// The next word of the broker, by a deadline.
pub(super) fn next(deliveries: &Receiver<Delivery>, deadline: Instant) -> Result<Delivery, LogError> {
    deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|error| {
        let detail = match error {
            RecvTimeoutError::Timeout => "no acknowledgement came",
            RecvTimeoutError::Disconnected => "the client ended by itself",
        };
        timed_out(LogErrorKind::Restart, "writing", detail)
    })
}

/// Whether a record failed only because its transaction had failed.
pub(super) fn is_consequence(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::State)
}
