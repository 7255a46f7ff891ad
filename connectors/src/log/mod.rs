//! The logs: embedded on RocksDB, and an archive of files. Both are the trait of `solyx_schemas::log`, which has one in memory
//! beside it; nothing outside this module knows which one it has.

pub mod archive;
pub mod embedded;
mod heads;
pub mod kafka;
pub mod mirror;
