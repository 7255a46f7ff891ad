//! Drives the kernel against a log: epochs in real and in virtual time, restarts, snapshots, audits.
//!
//! Architecture invariant: nothing here decides. What an epoch takes and when it closes is written down in its record; all
//! else follows from the log. Nothing here knows which log it is.

pub mod audit;
pub mod backoff;
pub mod compare;
pub mod cursors;
pub mod election;
pub mod engine;
pub mod error;
pub mod execute;
pub mod follow;
pub mod ids;
pub mod live;
pub mod lockstep;
pub mod progress;
pub mod recall;
pub mod redecide;
pub mod virtual_time;

mod audit_features;
mod audit_hash;
mod audit_ids;
mod audit_places;
mod audit_plans;
mod audit_read;
mod audit_sealed;
mod derive;
mod filter;
mod intake;
mod planner;
mod processor_time;
mod snapshots;
mod staged;

pub use crate::audit::{AuditOptions, AuditReport, Rates, audit};
pub use crate::audit_places::LeftOver;
pub use crate::audit_sealed::SealedTexts;
pub use crate::backoff::Backoff;
pub use crate::compare::Difference;
pub use crate::derive::records_of;
pub use crate::election::{Election, Standing};
pub use crate::engine::{Engine, EngineOptions};
pub use crate::error::RuntimeError;
pub use crate::follow::Follower;
pub use crate::live::{RunOptions, run, run_elected};
pub use crate::lockstep::Lockstep;
pub use crate::processor_time::processor_time;
pub use crate::progress::{Ending, Progress, RunEnd};
pub use crate::recall::{RecallError, recall};
pub use crate::redecide::{RedecideOptions, Redecided, Redecisions};
pub use crate::staged::INSTANT;
pub use crate::virtual_time::{VirtualOptions, run_virtual};
