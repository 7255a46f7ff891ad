//! A recorded log run again, closed loop: the same demand and world, decided and carried out anew, as it was or otherwise.
//!
//! [`recording`] reads a log and keeps what did not follow from decisions ([`role`]), with the true lengths of jobs ([`truth`]).
//! [`variation`] is what may be otherwise, [`apply`] and `supply` work it in, [`baselines`] are variations with names. [`run`]
//! stages the result in an empty log and runs it in virtual time with the simulated executor, whose draws depend on what they
//! are for alone, so that another policy meets the same luck. Nothing of the recorded log is written.

pub mod apply;
pub mod baselines;
pub mod recording;
pub mod role;
pub mod run;
mod supply;
pub mod truth;
pub mod variation;

pub use apply::{Changes, changes};
pub use recording::{Recording, RecordingError, Taken};
pub use role::Reporter;
pub use run::{RunError, stage, stage_and_run};
pub use variation::Variation;
