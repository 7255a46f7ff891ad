//! Which records of a log are demand and world, and which follow from decisions.
//!
//! What follows from decisions is made anew by the executor when the log is run again; all else comes as it was recorded.

use solyx_schemas::events::Event;
use solyx_schemas::ids::SourceId;
use solyx_schemas::topics::Topic;

/// What a record of an input topic is to somebody who runs the log again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Demand or world: it would have come whatever had been decided.
    World,
    /// It follows from decisions.
    Consequence,
}

/// Whose words a log's reports are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// The simulated executor of this name: what it did not say is the world.
    Simulated(SourceId),
    /// Executors and meters of the world.
    Others,
}

/// The role of everything in a topic, where the topic alone decides.
pub fn role_of_topic(topic: Topic) -> Option<Role> {
    match topic {
        Topic::Leases | Topic::Plans | Topic::Runs | Topic::Usage => Some(Role::Consequence),
        Topic::Policy | Topic::Assets | Topic::Attestation | Topic::Network | Topic::Energy | Topic::Jobs => {
            Some(Role::World)
        }
        _ => None,
    }
}

/// The role of an event.
pub fn role_of(event: &Event, reporter: &Reporter) -> Role {
    let follows = match (reporter, event) {
        // A plan follows from what was asked for and decided, whoever makes it.
        (_, Event::PlanPublished(_)) => true,
        // The executor reports runs, usage, leases, failures of nodes, power, and what providers have left; it makes them anew.
        (Reporter::Simulated(executor), event) => event.identity().source == executor.as_str(),
        (Reporter::Others, Event::PowerMeasured(_)) => true,
        (Reporter::Others, Event::ReplicaReported(e)) => e.dataset.as_str().starts_with("checkpoint:"),
        (Reporter::Others, event) => return role_of_topic(event.topic()).unwrap_or(Role::World),
    };
    if follows { Role::Consequence } else { Role::World }
}
