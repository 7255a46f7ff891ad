//! The contract: every event with its schema, units, ids, codec and topics, and the trait that every log has. No I/O.

#[macro_use]
mod define;

pub mod codec;
pub mod describe;
pub mod epochs;
pub mod events;
mod examples;
pub mod field;
pub mod hash;
pub mod ids;
pub mod json;
pub mod lint;
pub mod log;
pub mod released;
pub mod sealed;
pub mod shape;
pub mod told;
pub mod topics;
pub mod units;
pub mod validity;
pub mod wire;
