//! Who watches a cell: a follower that derives every epoch again, the books, and the views, each from the log alone.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use solyx_histories::books::Books;
use solyx_histories::history::{Luck, Mood};
use solyx_histories::reasons::who_was_told_of_a_lack_lacks_it;
use solyx_kernel::rows::Phase;
use solyx_kernel::{Closed, Kernel};
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::Fold;
use solyx_projections::jobs::Jobs;
use solyx_runtime::{AuditOptions, EngineOptions, Follower, audit};
use solyx_schemas::epochs::{EpochBatch, EpochReader};
use solyx_schemas::events::Event;
use solyx_schemas::ids::CellId;
use solyx_schemas::json::to_json;
use solyx_schemas::log::Log;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::Topic;

use crate::bills;
use crate::tamper::{Epochs, is_found, of_outputs};

/// Copies of the log that are changed.
const TAMPERINGS: usize = 3;

/// A view with what a store would hold of it, change by change.
struct Watched {
    fold: Box<dyn Fold>,
    fresh: fn() -> Box<dyn Fold>,
    stored: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// The witness of a cell.
pub struct Witness<'l> {
    log: &'l MemoryLog,
    follower: Follower<'l>,
    books: Books,
    views: Vec<Watched>,
    now: i64,
    is_traced: bool,
    taken: Epochs,
    /// Epochs seen.
    pub epochs: u64,
    /// Inputs seen, those that do not count among them.
    pub inputs: u64,
}

fn trace(batch: &EpochBatch, counted: &[Event]) {
    eprintln!("epoch {} at {}", batch.record.epoch, batch.record.now_us.0);
    for (kind, events) in [("in ", counted), ("out", &batch.outputs[..])] {
        events.iter().for_each(|event| eprintln!("  {kind} {}", to_json(event)));
    }
}

fn fresh<F: Fold + Default + 'static>() -> Box<dyn Fold> {
    Box::new(F::default())
}

impl<'l> Witness<'l> {
    /// Before the first epoch; of one that is traced each epoch is told on stderr.
    pub fn of(log: &'l MemoryLog, mood: Mood, is_traced: bool) -> anyhow::Result<Self> {
        let options = EngineOptions::new(CellId::from("test"), None);
        let follower = Follower::begin(log, &options, true)?;
        let kinds: [fn() -> Box<dyn Fold>; 4] = [fresh::<Billing>, fresh::<Dcim>, fresh::<Failover>, fresh::<Jobs>];
        let views = kinds.map(|fresh| Watched { fold: fresh(), fresh, stored: Some(BTreeMap::new()) });
        let books = Books::of(mood);
        Ok(Self {
            log,
            follower,
            books,
            views: views.into_iter().collect(),
            now: i64::MIN,
            is_traced,
            taken: Epochs::new(),
            epochs: 0,
            inputs: 0,
        })
    }

    /// The state after the last epoch that it has seen.
    pub fn kernel(&self) -> &Kernel {
        self.follower.kernel()
    }

    /// Looks at every epoch that has come; what was decided in them.
    pub fn look(&mut self) -> anyhow::Result<Vec<Event>> {
        let mut decided = Vec::new();
        loop {
            let mut seen: Option<EpochBatch> = None;
            let taken = self.follower.follow(1, Some(&mut |batch: &EpochBatch| seen = Some(batch.clone())));
            taken.context("a follower")?;
            let Some(batch) = seen else { return Ok(decided) };
            self.epoch(&batch)?;
            decided.extend(batch.outputs);
        }
    }

    fn epoch(&mut self, batch: &EpochBatch) -> anyhow::Result<()> {
        let epoch = batch.record.epoch;
        ensure!(batch.record.now_us.0 >= self.now, "time goes back in epoch {epoch}");
        self.now = batch.record.now_us.0;
        let counted: Vec<Event> = batch.counted().map(|(_, event)| event.clone()).collect();
        if self.is_traced {
            trace(batch, &counted);
        }
        let EpochBatch { record, chain_hash, outputs, .. } = batch.clone();
        self.books.epoch(&counted, &Closed { outputs, record, chain_hash }, self.follower.kernel());
        for view in &mut self.views {
            view.fold.apply(batch)?;
            match (view.fold.changes(), &mut view.stored) {
                (Some(changes), Some(stored)) => {
                    for (key, value) in changes {
                        match value {
                            Some(value) => stored.insert(key, value),
                            None => stored.remove(&key),
                        };
                    }
                }
                _ => view.stored = None,
            }
        }
        for input in &batch.inputs {
            let position = input.position;
            self.taken.insert((position.topic(), position.partition, position.ordinal), epoch);
        }
        self.epochs += 1;
        self.inputs += batch.inputs.len() as u64;
        Ok(())
    }

    /// Whoever changes the log is found out, and the first epoch that is touched is named.
    pub fn tampering_is_found(&self, luck: &mut Luck) -> anyhow::Result<()> {
        let mut epochs = self.taken.clone();
        of_outputs(self.log, &mut epochs)?;
        (0..TAMPERINGS).try_for_each(|_| is_found(self.log, &epochs, self.kernel().chain_head(), luck))
    }

    /// What has to hold once nothing is on its way any more. By luck one of those who wait is asked whether it has to.
    pub fn at_rest(&mut self, luck: &mut Luck) -> anyhow::Result<()> {
        self.books.gpu_time_is_held_once();
        who_was_told_of_a_lack_lacks_it(self.kernel(), luck);
        let state = self.kernel().state();
        for (id, job) in state.jobs.iter().filter(|(_, job)| job.phase == Phase::Waiting) {
            ensure!(job.told.is_some(), "{id} waits and was not told why");
        }
        // Every record that is in the log was taken by one epoch.
        let report = audit(self.log, &AuditOptions::default(), &mut |_| {})?;
        if let Some(difference) = report.first_difference {
            anyhow::bail!("the audit finds a difference: {difference}");
        }
        ensure!(report.epochs == self.epochs, "the audit saw {} epochs, the witness {}", report.epochs, self.epochs);
        let kernel_head = self.kernel().chain_head();
        ensure!(
            report.chain_head == kernel_head,
            "the audit ends at {}, the witness at {kernel_head}",
            report.chain_head
        );
        let all = Topic::INPUTS
            .iter()
            .flat_map(|topic| (0..self.log.partitions((*topic).into())).map(move |partition| (*topic, partition)));
        let mut written = 0;
        for (topic, partition) in all {
            written += self.log.end(topic.into(), partition)?;
        }
        ensure!(written == self.inputs, "{written} records were written, epochs took {}", self.inputs);
        bills::add_up(&self.billing()?.view())?;
        self.views_are_as_rebuilt()
    }

    /// The billing view as its entries make it.
    fn billing(&self) -> anyhow::Result<Billing> {
        let mut billing = Billing::default();
        let name = billing.name();
        let watched = self.views.iter().find(|view| view.fold.name() == name).context("the billing view")?;
        billing.load(&mut watched.fold.entries().into_iter())?;
        Ok(billing)
    }

    /// A view is what its changes made of its store, and what a fresh one makes of the same log, with a pause in the middle.
    fn views_are_as_rebuilt(&self) -> anyhow::Result<()> {
        for view in &self.views {
            let name = view.fold.name();
            let entries = view.fold.entries();
            if let Some(stored) = &view.stored {
                let stored: Vec<_> = stored.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                ensure!(stored == entries, "the store of the {name} view is not what the view is");
            }
            let mut again = (view.fresh)();
            let mut reader = EpochReader::new(self.log);
            let mut seen = 0;
            while let Some(batch) = reader.next_batch()? {
                again.apply(&batch)?;
                seen += 1;
                if seen == self.epochs / 2 {
                    let saved = again.entries();
                    again = (view.fresh)();
                    again.load(&mut saved.into_iter())?;
                }
            }
            ensure!(again.entries() == entries, "the {name} view is not what it is when it is built again");
        }
        Ok(())
    }
}
