//! Tests on a real Apache Kafka, which they start and stop themselves (`ops/kafka`).

#![allow(clippy::unwrap_used)]

mod bad_input;
mod cluster;
mod copies;
mod exactly_once;
mod forwarder;
mod worlds;
