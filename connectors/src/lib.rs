//! Logs, sources and executors: everything that touches the world.

pub mod backtest;
pub mod cores;
pub mod executor;
pub mod fleet;
pub mod generate;
pub mod import;
pub mod log;
pub mod registry;
pub mod rerun;
pub mod seal;
