//! The runtime on a log in memory: virtual and real time, restarts, torn state, audits.

#![allow(clippy::unwrap_used)]

mod auditing;
mod instants;
mod limits;
mod planning;
mod real_time;
mod restarts;
mod snapshots;
mod world;
