//! What a broker's or the client's error means: try again, begin anew, give way, or let somebody act.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use solyx_schemas::log::{LogError, LogErrorKind};

/// An error of the client, sorted.
pub(super) fn log_error(doing: &str, error: &KafkaError) -> LogError {
    if let KafkaError::Transaction(inner) = error {
        // After an error inside a transaction a producer of this client is never used again: whether the transaction
        // came through is found out from the log.
        let kind = match kind_of(inner.code()) {
            LogErrorKind::Retry => LogErrorKind::Restart,
            kind => kind,
        };
        return sorted(kind, doing, inner.code(), error);
    }
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        // Where to read from is settled within the client; what it says is only that it did not come to it.
        KafkaError::Seek(_) | KafkaError::Canceled => Some(Code::OperationTimedOut),
        other => other.rdkafka_error_code(),
    };
    match code {
        Some(code) => sorted(kind_of(code), doing, code, error),
        None => LogError::new(
            LogErrorKind::Stop,
            format!("{doing} failed"),
            error,
            "check the cluster's configuration file",
        ),
    }
}

/// The same of an error code alone.
pub(super) fn code_error(doing: &str, code: Code) -> LogError {
    sorted(kind_of(code), doing, code, &code)
}

/// A step that did not end in time: whether it came through is not known.
pub(super) fn timed_out(kind: LogErrorKind, doing: &str, detail: impl ToString) -> LogError {
    LogError::new(kind, format!("{doing} takes too long"), detail, hint_of(Code::OperationTimedOut))
}

fn sorted(kind: LogErrorKind, doing: &str, code: Code, detail: &dyn ToString) -> LogError {
    LogError::new(kind, format!("{doing} failed"), detail.to_string(), hint_of(code))
}

fn kind_of(code: Code) -> LogErrorKind {
    match code {
        Code::Fenced
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId => LogErrorKind::Fenced,
        // The client and the brokers no longer agree on what was written: a new producer does.
        Code::Fatal
        | Code::Fail
        | Code::InvalidTransactionalState
        | Code::ConcurrentTransactions
        | Code::TransactionCoordinatorFenced
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::GaplessGuarantee
        | Code::Inconsistent
        | Code::State => LogErrorKind::Restart,
        // A broker that is being killed says so of what it was doing.
        Code::Unknown => LogErrorKind::Retry,
        // A broker that has just come back does not know its topics yet. One that was deleted stays unknown, and is waited
        // for and shown; at the start it is named.
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => LogErrorKind::Retry,
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::Retry
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::OffsetNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::StaleBrokerEpoch
        | Code::NotController
        | Code::KafkaStorageError
        | Code::ThrottlingQuotaExceeded
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::InProgress => LogErrorKind::Retry,
        _ => LogErrorKind::Stop,
    }
}

fn hint_of(code: Code) -> &'static str {
    match code {
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue => {
            "see that the brokers run and can be reached at the addresses they advertise; one with TLS or passwords hangs up on a client without ([security])"
        }
        Code::Resolve => "check the names in `bootstrap` and those that the brokers advertise",
        Code::Authentication => "check user, mechanism and password, and the validity of the certificates",
        Code::SSL => {
            "check ca_file and the validity of both sides' certificates; a listener without TLS needs protocol = \"PLAINTEXT\""
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            "this user may not do that; the page of deployment lists what each kind of writer needs"
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "`solyx topics diff` says what is missing; a topic that was deleted comes back from an archive"
        }
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "start the brokers that are down; min.insync.replicas asks for more than there are"
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            "`solyx topics diff` compares max.message.bytes; a broker's own limit may be smaller"
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset => {
            "records were deleted from the topic; bring them back from an archive"
        }
        Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced => {
            "another one writes under this name and goes on, or a transaction took longer than transaction_timeout_ms: then start this one again"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the brokers must be Apache Kafka 3.0 or later",
        Code::BadMessage => "a record's checksum is wrong: replace the disk, and restore from a replica or an archive",
        _ => "the broker's own log says more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_ends_no_engine_whichever_call_met_it() {
        let away = [Code::OperationTimedOut, Code::BrokerTransportFailure, Code::NotCoordinator, Code::Unknown];
        for code in away {
            let met = [
                KafkaError::AdminOp(code),
                KafkaError::Global(code),
                KafkaError::MetadataFetch(code),
                KafkaError::MessageConsumption(code),
                KafkaError::MessageProduction(code),
            ];
            for error in met {
                assert_eq!(log_error("asking", &error).kind, LogErrorKind::Retry, "{error:?}");
            }
        }
        assert_eq!(log_error("seeking", &KafkaError::Seek("timed out".to_owned())).kind, LogErrorKind::Retry);
        let wrong = KafkaError::AdminOp(Code::ClusterAuthorizationFailed);
        assert_eq!(log_error("asking", &wrong).kind, LogErrorKind::Stop);
    }
}
