//! Plans of packing prices, made where they are due and published as inputs like any other.
//!
//! In virtual time a plan is made after the epoch that makes it due and appended before the next one closes. In real time it is
//! made on a thread of its own, from a copy of what it follows from, and appended when it is done.

use std::thread::JoinHandle;

use solyx_kernel::plan::PLANNER;
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{PlanKind, PlanPublished};
use solyx_schemas::log::{Log, LogError, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};

use crate::engine::Engine;
use crate::error::RuntimeError;

/// Whether the planner's last plan lies unread.
pub struct Planner {
    unread: bool,
    thread: Option<JoinHandle<Option<PlanPublished>>>,
}

impl Planner {
    /// As the log has it.
    pub fn begin(engine: &Engine<'_>) -> Result<Self, LogError> {
        let positions = engine.intake.positions();
        let mut unread = false;
        for partition in 0..engine.log.partitions(Topic::Plans.into()) {
            let from = positions.get(Topic::Plans, partition);
            for stored in Scan::new(engine.log, Topic::Plans.into(), partition, from) {
                let decoded = Codec::global().decode_record(&stored?.record);
                unread |= decoded.is_ok_and(|decoded| is_from_planner(&decoded.event));
            }
        }
        Ok(Self { unread, thread: None })
    }

    /// Sees what an epoch has read.
    pub fn observe(&mut self, epoch: &EpochBatch) {
        let plans = epoch.inputs.iter().filter(|input| input.position.topic() == Topic::Plans);
        let mut events = plans.filter_map(|input| input.decoded.as_ref());
        self.unread &= !events.any(|decoded| is_from_planner(&decoded.event));
    }

    /// Makes and appends a plan when one is due, before anything else happens.
    pub fn publish(&mut self, engine: &mut Engine<'_>) -> Result<(), RuntimeError> {
        if self.unread || !engine.kernel().plan_is_due() {
            return Ok(());
        }
        let Some(plan) = engine.kernel().packing_plan() else { return Ok(()) };
        self.append(engine, plan)
    }

    /// Has a plan made when one is due, and appends one that is done. It never waits.
    pub fn go_on(&mut self, engine: &mut Engine<'_>) -> Result<(), RuntimeError> {
        if let Some(done) = self.thread.take_if(|thread| thread.is_finished()) {
            return match done.join() {
                Ok(Some(plan)) => self.append(engine, plan),
                Ok(None) => Ok(()),
                Err(_) => {
                    tracing::error!("the planner's thread died; no more plans are made before this engine leads again");
                    self.unread = true;
                    Ok(())
                }
            };
        }
        if self.thread.is_none()
            && !self.unread
            && engine.kernel().plan_is_due()
            && let Some(question) = engine.kernel().plan_question()
        {
            self.thread = Some(std::thread::spawn(move || question.answer()));
        }
        Ok(())
    }

    fn append(&mut self, engine: &mut Engine<'_>, plan: PlanPublished) -> Result<(), RuntimeError> {
        let record = record_of(engine.log, plan);
        engine.append_inputs(vec![record])?;
        self.unread = true;
        Ok(())
    }
}

fn is_from_planner(event: &Event) -> bool {
    matches!(event, Event::PlanPublished(plan) if plan.kind == PlanKind::PackingPrices && plan.source.as_str() == PLANNER)
}

fn record_of(log: &dyn Log, plan: PlanPublished) -> Record {
    let topic = TopicName::live(Topic::Plans);
    Codec::global().record(&Event::from(plan), topic, log.partitions(topic))
}
