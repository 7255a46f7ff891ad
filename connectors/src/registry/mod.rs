//! A schema registry with Confluent's API, and the map between its schema ids and ours.
//!
//! Values in a log hold the ids of `schemas/registry.lock`; values on Apache Kafka hold those of the registry. [`SchemaIds`] puts one for
//! the other at the edge, so that nothing behind it knows that there is a registry. It decides nothing about a record: an id that the
//! registry does not know stays where it is, and is judged like any other unknown schema. A registry that is away is an error to try
//! again, never a verdict.

mod answer;
mod cache;
mod client;
mod config;
mod ids;
mod normal;

pub use client::{FULL_TRANSITIVE, Registered, Registry, Version};
pub use config::RegistryConfig;
pub use ids::SchemaIds;
