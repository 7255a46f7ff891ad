//! Pure folds of the log into billing, DCIM, failover and jobs views, and their store.

pub mod billing;
pub mod dcim;
pub mod failover;
pub mod fold;
pub mod jobs;
pub mod rows;
pub mod store;
mod timeline;
