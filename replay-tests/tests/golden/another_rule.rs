//! A build whose rule is another one is found out. The rules' constants are in events, so that another constant stands in for
//! another rule: the kernel is given a golden log's records as they are (their hashes are the same) with one constant read
//! differently. Up to the first other decision its log is the golden one; that epoch has its own outputs, roots and record, in a chain
//! that is whole. An audit by this build
//! then has to name the first decision that differs. It shows that the golden logs come to where each of these rules decides;
//! rules without a constant are the matter of `ops/mutants`.

use solyx_connectors::log::archive::ArchiveLog;
use solyx_kernel::{Kernel, OpenEpoch, Seen};
use solyx_projections::billing::Billing;
use solyx_projections::fold::Fold;
use solyx_runtime::{AuditOptions, Difference, audit};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochReader, RawEpoch};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Count, DurationUs, GpuMilli, Milli, WorkUs};

use crate::{all, invoices_of};

type Change = fn(&mut Event);

/// The log as a build would have written it that reads one constant differently; up to the first epoch that comes out otherwise.
/// None when all of it comes out the same.
fn written_by_another(log: &dyn Log, change: Change) -> Option<MemoryLog> {
    let written = MemoryLog::new();
    for topic in Topic::ALL.map(TopicName::live) {
        written.set_partitions(topic, log.partitions(topic));
    }
    let mut producer = written.producer("another").unwrap();
    let mut kernel: Option<Kernel> = None;
    let mut reader = EpochReader::new(log);
    while let Some(raw) = reader.next_raw().unwrap() {
        let kernel = kernel.get_or_insert_with(|| Kernel::new(raw.record.cell.clone()));
        let outputs = decided(kernel, log, &raw, change);
        let mut batch: Vec<Record> = raw.inputs.iter().map(|input| input.stored.record.clone()).collect();
        if same_decisions(&raw, &outputs) {
            // A rule is in no state: what decides the same has the same digest.
            batch
                .extend(raw.outputs.iter().map(|output| &output.stored).chain([&raw.stored]).map(|s| s.record.clone()));
            producer.append(batch).unwrap();
            continue;
        }
        let record = |event: &Event| {
            let topic = TopicName::live(event.topic());
            Codec::global().record(event, topic, log.partitions(topic))
        };
        batch.extend(outputs.iter().map(record));
        producer.append(batch).unwrap();
        return Some(written);
    }
    None
}

/// Outputs and epoch record of an epoch.
fn decided(kernel: &mut Kernel, log: &dyn Log, raw: &RawEpoch, change: Change) -> Vec<Event> {
    let mut epoch = OpenEpoch::open(kernel, raw.record.now_us.0, raw.record.term);
    for input in &raw.inputs {
        let mut decoded = Codec::global().decode_record(&input.stored.record);
        if let Ok(decoded) = &mut decoded {
            change(&mut decoded.event);
        }
        let seen = match input.skipped {
            Some(SkipReason::Duplicate) => Seen::Duplicate,
            Some(SkipReason::Conflict) => Seen::Conflict,
            _ => Seen::New,
        };
        let record = &input.stored.record;
        epoch.take(input.position, &record.key, &record.value, decoded.as_ref(), || seen);
    }
    let mut closed = epoch.close(&|topic: Topic| log.partitions(topic.into()));
    closed.record.previous_chain_hash = raw.record.previous_chain_hash;
    closed.outputs.into_iter().chain([Event::from(closed.record)]).collect()
}

fn same_decisions(raw: &RawEpoch, outputs: &[Event]) -> bool {
    let outputs = outputs.iter().filter(|event| !matches!(event, Event::EpochCommitted(_)));
    raw.outputs.iter().map(|output| &output.event).eq(outputs)
}

/// Where an audit of what another wrote finds the first difference, in the golden logs that come to where it decides.
fn found(change: Change) -> Vec<(String, Difference)> {
    let mut found = Vec::new();
    for (dir, _) in all() {
        let log = ArchiveLog::open(&dir).unwrap();
        let Some(written) = written_by_another(&*log, change) else { continue };
        let report = audit(&written, &AuditOptions::default(), &mut |_| {}).unwrap();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        found.push((name, report.first_difference.expect("it differs in an epoch that the audit sees")));
    }
    found
}

macro_rules! changes {
    ($($name:literal $event:ident($e:ident) $change:expr;)*) => {
        [$(($name, (|event: &mut Event| if let Event::$event($e) = event { $change }) as Change)),*]
    };
}

#[test]
fn a_rule_that_changed_without_a_feature_is_named_by_its_first_decision() {
    let changes = changes! {
        "order rule" SchedulingPolicySet(e) e.order_rule = if e.order_rule.as_str() == "fifo" { "sjf".into() } else { "fifo".into() };
        "packing rule" SchedulingPolicySet(e) e.packing_rule = if e.packing_rule.as_str() == "fgd" { "best-fit".into() } else { "fgd".into() };
        "promised part" SchedulingPolicySet(e) e.promised_milli = Some(Milli(500));
        "backfill depth" SchedulingPolicySet(e) e.backfill_depth = Some(Count(0));
        "grace" SchedulingPolicySet(e) e.preemption_grace_us = Some(DurationUs(1));
        "retries" SchedulingPolicySet(e) e.retries_max = Some(Count(0));
        "retry backoff" SchedulingPolicySet(e) e.retry_backoff_us = Some(DurationUs(7_200_000_000));
        "length of a job of unknown length" SchedulingPolicySet(e) e.default_expected_work_us = Some(WorkUs(1));
        "deferral" SchedulingPolicySet(e) e.deferral_max_us = Some(DurationUs(0));
        "idle time of instances" SchedulingPolicySet(e) e.lease_idle_us = Some(DurationUs(1));
        "guaranteed quota" QuotaSet(e) e.guaranteed_milli = GpuMilli(e.guaranteed_milli.0 / 2);
        "borrowing limit" QuotaSet(e) e.borrowing_limit_milli = Some(GpuMilli(0));
        "budget" BudgetSet(e) e.amount.micros.0 /= 100;
        "classes that preempt" PriorityClassSet(e) e.preempts = !e.preempts;
        "value of a class" PriorityClassSet(e) e.value = -e.value;
        "price of carbon" CostWeightsSet(e) e.carbon_micros_per_kg.0 += 1_000_000;
        "price of risk" CostWeightsSet(e) e.risk_milli.0 += 1_000;
        "price of capacity" PoolPriced(e) e.price_micros_per_gpu_hour.0 += 1_000_000;
        "places of MIG instances" GpuModelDeclared(e) e.mig_profiles.clear();
        "a power limit" PowerElementDeclared(e) e.limit_w.0 /= 8;
        "capacity held back" ReserveSet(e) e.held_back_milli.0 += 64_000;
        "a reservation" ReservationSet(e) e.gpus.0 += 64;
    };
    let mut unseen = Vec::new();
    for (name, change) in changes {
        let found = found(change);
        for (world, difference) in &found {
            println!("{name}: {world}: {difference}");
            let places = ["decisions/", "quarantine/", "output "];
            let decision =
                difference.what == "judgement" || places.iter().any(|place| difference.record.starts_with(place));
            let digest =
                ["input_root", "output_root", "state_digest", "chain hash"].contains(&difference.what.as_str());
            assert!(decision && !digest, "{name}: {world}: {difference}");
        }
        if found.is_empty() {
            unseen.push(name);
        }
    }
    assert!(unseen.is_empty(), "no golden log comes to where these decide: {unseen:?}");
}

#[test]
fn a_fold_that_changed_without_a_feature_gives_other_invoices() {
    let differ = |change: Change| {
        all().into_iter().any(|(dir, expected)| {
            let log = ArchiveLog::open(&dir).unwrap();
            let mut billing = Billing::default();
            for epoch in EpochReader::new(&*log) {
                let mut epoch = epoch.unwrap();
                let decoded = epoch.inputs.iter_mut().filter_map(|input| input.decoded.as_mut());
                decoded.for_each(|decoded| change(&mut decoded.event));
                billing.apply(&epoch).unwrap();
            }
            invoices_of(&billing) != expected.invoices
        })
    };
    assert!(!differ(|_| {}));
    let dearer: Change = |event| {
        if let Event::RateCardSet(card) = event {
            card.lines.iter_mut().flat_map(|line| &mut line.tiers).for_each(|tier| tier.price_micros.0 += 1);
        }
    };
    assert!(differ(dearer), "a micro more for a unit is on no invoice");
    let longer: Change = |event| {
        if let Event::UsageMetered(usage) = event {
            usage.to_us.0 += 1_000_000;
            usage.quantity.0 += 1_000_000;
        }
    };
    assert!(differ(longer), "a second more of use is on no invoice");
}
