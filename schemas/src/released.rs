//! The schemas of released versions, kept for ever: what any of them wrote is decoded with its own schema.
//!
//! `schemas/released/<version>/` holds every schema file as it was released, and golden bytes of each record. Those that
//! today's files no longer say stand in [`EARLIER`]; a test names the ones that are missing.

/// Schemas that differ from today's: full name of the record type and the schema file's text, oldest first.
static EARLIER: &[(&str, &str)] = &[
    ("solyx.plans.PlanPublished", include_str!("../released/0.1.0/PlanPublished.avsc")),
    ("solyx.policy.TenantDeclared", include_str!("../released/0.1.0/TenantDeclared.avsc")),
    ("solyx.policy.SchedulingPolicySet", include_str!("../released/0.1.0/SchedulingPolicySet.avsc")),
    ("solyx.jobs.JobRequested", include_str!("../released/0.1.0/JobRequested.avsc")),
];

/// The earlier schemas of a record type, oldest first.
pub fn schemas(name: &str) -> impl Iterator<Item = &'static str> {
    EARLIER.iter().filter(move |(n, _)| *n == name).map(|(_, avsc)| *avsc)
}
