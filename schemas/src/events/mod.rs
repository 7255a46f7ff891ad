//! Every event, by area. `Event` is any of them; `EventBody` is what they have in common.

use std::borrow::Cow;

use crate::field::{Field, FieldError, Seen};
use crate::ids::CellId;
use crate::topics::Topic;
use crate::units::TimeUs;

pub mod assets;
pub mod capacity;
pub mod common;
pub mod decisions;
pub mod facility;
pub mod jobs;
pub mod nodes;
pub mod plans;
pub mod policy;
pub mod runs;
pub mod usage;
pub mod world;

/// What makes an event itself: the pair of source and id is unique for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity<'e> {
    /// Id within the source.
    pub id: Cow<'e, str>,
    /// Who says it.
    pub source: &'e str,
    /// When it happened, by the producer's clock; for outputs the epoch's `now`.
    pub occurred_us: TimeUs,
}

/// What the runtime puts into an output: where it stands in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The cell.
    pub cell: CellId,
    /// Epoch.
    pub epoch: i64,
    /// Term of the writer.
    pub term: i64,
    /// Place among the epoch's outputs.
    pub index: i64,
    /// The epoch's time.
    pub now_us: TimeUs,
}

/// A record type that is an event.
pub trait EventBody: Field {
    /// Full name, as in `solyx.jobs.JobRequested`; also the subject in a schema registry.
    const NAME: &'static str;
    /// The topic it belongs to.
    const TOPIC: Topic;
    /// The record's key.
    fn key(&self) -> Cow<'_, str>;
    /// Its id and source.
    fn identity(&self) -> Identity<'_>;
    /// The expression that makes the key, as it is written here.
    const KEY_EXPRESSION: &'static str;
}

/// An event that the engine writes.
pub trait OutputBody: EventBody {
    /// Puts in where it stands.
    fn stamp(&mut self, stamp: &Stamp);
    /// Where it stands.
    fn stamped(&self) -> Stamp;
}

/// What is known of a record type without a value of it.
#[derive(Clone, Copy)]
pub struct EventType {
    /// Full name.
    pub name: &'static str,
    /// Topic.
    pub topic: Topic,
    /// The schema file's text: the contract.
    pub avsc: &'static str,
    /// The schema that the struct says, as JSON.
    pub derived_schema: fn() -> serde_json::Value,
    /// An example.
    pub example: fn() -> Event,
    /// The expression that makes the record's key.
    key_expression: &'static str,
}

impl EventType {
    /// The name without its namespace.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// Place in [`EVENT_TYPES`].
    pub fn index(&self) -> usize {
        EVENT_TYPES.iter().position(|t| t.name == self.name).unwrap_or(EVENT_TYPES.len())
    }

    /// The fields that make the record's key.
    pub fn key_fields(&self) -> Vec<&'static str> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let parts =
            self.key_expression.split(|c: char| !word(c) && c != '.').filter_map(|part| part.strip_prefix("e."));
        parts.filter_map(|part| part.split('.').next()).collect()
    }
}

type BodyReader = fn(&mut &[u8]) -> Result<Event, FieldError>;

macro_rules! events {
    (inputs { $( $imod:ident :: $iname:ident ),* $(,)? } outputs { $( $omod:ident :: $oname:ident ),* $(,)? }) => {
        /// Any event.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $( #[doc = concat!("See [`", stringify!($imod), "::", stringify!($iname), "`].")] $iname(Box<$imod::$iname>), )*
            $( #[doc = concat!("See [`", stringify!($omod), "::", stringify!($oname), "`].")] $oname(Box<$omod::$oname>), )*
        }

        /// Every record type; the order gives schema ids and never changes but by adding at the end.
        pub static EVENT_TYPES: &[EventType] = &[
            $( EventType {
                name: <$imod::$iname as EventBody>::NAME,
                topic: <$imod::$iname as EventBody>::TOPIC,
                avsc: include_str!(concat!("../../avsc/", stringify!($iname), ".avsc")),
                derived_schema: || <$imod::$iname as Field>::schema(&mut Seen::new()),
                example: || crate::examples::polished(Event::$iname(Box::new(Field::example("")))),
                key_expression: <$imod::$iname as EventBody>::KEY_EXPRESSION,
            }, )*
            $( EventType {
                name: <$omod::$oname as EventBody>::NAME,
                topic: <$omod::$oname as EventBody>::TOPIC,
                avsc: include_str!(concat!("../../avsc/", stringify!($oname), ".avsc")),
                derived_schema: || <$omod::$oname as Field>::schema(&mut Seen::new()),
                example: || crate::examples::polished(Event::$oname(Box::new(Field::example("")))),
                key_expression: <$omod::$oname as EventBody>::KEY_EXPRESSION,
            }, )*
        ];

        impl Event {
            /// Full name of the record type.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$iname(_) => <$imod::$iname as EventBody>::NAME, )*
                    $( Self::$oname(_) => <$omod::$oname as EventBody>::NAME, )*
                }
            }

            /// Place of the record type in [`EVENT_TYPES`].
            pub fn type_index(&self) -> usize {
                #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
                enum Place { $( $iname, )* $( $oname, )* }
                match self {
                    $( Self::$iname(_) => Place::$iname as usize, )*
                    $( Self::$oname(_) => Place::$oname as usize, )*
                }
            }

            /// The topic it belongs to.
            pub fn topic(&self) -> Topic {
                match self {
                    $( Self::$iname(_) => <$imod::$iname as EventBody>::TOPIC, )*
                    $( Self::$oname(_) => <$omod::$oname as EventBody>::TOPIC, )*
                }
            }

            /// The record's key.
            pub fn key(&self) -> Cow<'_, str> {
                match self {
                    $( Self::$iname(e) => e.key(), )*
                    $( Self::$oname(e) => e.key(), )*
                }
            }

            /// Its id and source.
            pub fn identity(&self) -> Identity<'_> {
                match self {
                    $( Self::$iname(e) => e.identity(), )*
                    $( Self::$oname(e) => e.identity(), )*
                }
            }

            /// Whether every field is as the contract wants it.
            pub fn check(&self) -> Result<(), FieldError> {
                match self {
                    $( Self::$iname(e) => Field::check(&**e), )*
                    $( Self::$oname(e) => Field::check(&**e), )*
                }?;
                crate::validity::check_relations(self)
            }

            /// Puts into an output where it stands in the history; an input is left alone.
            pub fn stamp(&mut self, stamp: &Stamp) {
                match self {
                    $( Self::$oname(e) => OutputBody::stamp(&mut **e, stamp), )*
                    _ => {}
                }
            }

            /// Where an output stands in the history; absent for an input.
            pub fn stamped(&self) -> Option<Stamp> {
                match self {
                    $( Self::$oname(e) => Some(OutputBody::stamped(&**e)), )*
                    _ => None,
                }
            }

            /// Takes an event's Avro body off the front of `input`.
            pub(crate) fn from_body(type_index: usize, input: &mut &[u8]) -> Result<Self, FieldError> {
                BODY_READERS[type_index](input)
            }

            /// Appends its Avro body.
            pub(crate) fn write_body(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$iname(e) => e.write(out), )*
                    $( Self::$oname(e) => e.write(out), )*
                }
            }
        }

        /// The readers of Avro bodies, by place in [`EVENT_TYPES`].
        static BODY_READERS: &[BodyReader] = &[
            $( |input| Ok(Event::$iname(Box::new(Field::read(input)?))), )*
            $( |input| Ok(Event::$oname(Box::new(Field::read(input)?))), )*
        ];

        $( impl From<$imod::$iname> for Event {
            fn from(event: $imod::$iname) -> Self {
                Self::$iname(Box::new(event))
            }
        } )*
        $( impl From<$omod::$oname> for Event {
            fn from(event: $omod::$oname) -> Self {
                Self::$oname(Box::new(event))
            }
        } )*
    };
}

events! {
    inputs {
        policy::CellDeclared, policy::FeatureEnabled, policy::SchedulingPolicySet, policy::CostWeightsSet,
        policy::GpuModelDeclared, policy::TenantDeclared, policy::ScopeStateChanged, policy::QuotaSet,
        policy::BudgetSet, policy::PriorityClassSet, policy::RateCardSet, policy::LeaseSold, policy::SoldLeaseEnded,
        policy::CommitmentBought, policy::ReservationSet, policy::ReservationCancelled, policy::ReserveSet,
        policy::PowerLimitSet, policy::ExchangeRateSet, policy::PeriodClosed, policy::DrillRequested,
        policy::SigningKeyDeclared, policy::SigningKeyRevoked, policy::TenantKeyDestroyed,
        facility::SiteDeclared, facility::PowerElementDeclared, facility::PowerElementStateChanged,
        facility::PowerMeasured, facility::ThermalMeasured, facility::CoolingMeasured,
        assets::AssetOrdered, assets::AssetReceived, assets::AssetInstalled, assets::AssetMoved, assets::AssetRepaired,
        assets::AssetRetired,
        capacity::PoolDeclared, capacity::PoolPriced, capacity::PoolAvailabilityReported, capacity::PoolWithdrawn,
        capacity::ProviderStateChanged,
        nodes::NodeReported, nodes::NodeStateChanged, nodes::NodeRemoved, nodes::GpuDegraded, nodes::NodeAttested,
        world::LinkMeasured, world::EgressPriced, world::EnergyPriced, world::CarbonReported, world::DatasetDeclared,
        world::ReplicaReported, world::InstanceLeased, world::InstanceLeaseRefused, world::InstanceLeaseEnded,
        plans::PlanPublished,
        jobs::JobRequested, jobs::JobRequestAmended, jobs::JobHoldSet, jobs::JobCancelRequested,
        runs::RunStarted, runs::RunCheckpointed, runs::RunFinished, runs::RunFailed, runs::RunStopped,
        runs::RunLeaseRenewed,
        usage::UsageMetered, usage::UsageCorrected, usage::SupplierInvoiced,
        plans::WorkScripted, plans::AvailabilityScripted, plans::ExecutorScripted, plans::HeadSigned, plans::CursorAdvanced,
        plans::SigningKeyRotated,
    }
    outputs {
        decisions::JobAdmitted, decisions::JobRejected, decisions::JobPlaced, decisions::JobHeld,
        decisions::JobDeferred, decisions::JobPreempted, decisions::JobMigrated, decisions::JobResized,
        decisions::JobCancelled, decisions::JobRequeued, decisions::CapacityLeaseOrdered,
        decisions::CapacityReleaseOrdered, decisions::RouteSet, decisions::ReplicaOrdered, decisions::PowerCapOrdered,
        decisions::MigOrdered, decisions::NodeCordonOrdered, decisions::BudgetExhausted, decisions::EpochCommitted,
        decisions::RecordQuarantined,
    }
}

/// The record type of a full or short name.
pub fn event_type(name: &str) -> Option<&'static EventType> {
    EVENT_TYPES.iter().find(|t| t.name == name || t.short_name() == name)
}
