//! Examples that a reader can take as they are: where a plain value for each field would not make sense together.

use crate::events::Event;
use crate::events::assets::DepreciationMethod;
use crate::events::plans::ScriptedEnd;
use crate::units::{Count, GpuMilli, Milli, MoneyMicros, PowerW, WorkUs};

/// An example whose fields fit together.
pub(crate) fn polished(mut event: Event) -> Event {
    match &mut event {
        Event::JobRequested(e) => {
            e.gang.replicas_min = Count(2);
            e.gang.replicas_max = Count(4);
            e.gang.mig_profile = None;
            e.project = Some("detector".into());
            if let Some(array) = &mut e.array {
                array.index = Count(0);
            }
            if let Some(topology) = &mut e.topology {
                topology.segment_min = Some(Count(2));
            }
            for dependency in &mut e.depends_on {
                dependency.job = "job-0000".into();
            }
            e.labels.truncate(1);
        }
        Event::JobRequestAmended(e) => {
            e.replicas_min = Some(Count(2));
            e.replicas_max = Some(Count(4));
        }
        Event::SchedulingPolicySet(e) => {
            e.backfill_reservations = Some(Count(2));
            e.prior_kinds.iter_mut().for_each(|kind| kind.gpu_milli_each = GpuMilli(1_000));
        }
        Event::TenantDeclared(e) => e.invoice_day = Count(1),
        Event::GpuModelDeclared(e) => e.idle_w = PowerW(70),
        Event::NodeReported(e) => {
            e.gpus.iter_mut().for_each(|gpu| gpu.index = 0);
            e.idle_w = PowerW(800);
            e.max_w = PowerW(10_200);
        }
        Event::AssetInstalled(e) => {
            e.method = DepreciationMethod::StraightLine;
            e.declining_milli_per_year = None;
            e.cost.micros = MoneyMicros(250_000_000_000);
            e.salvage.micros = MoneyMicros(25_000_000_000);
        }
        Event::RateCardSet(e) => {
            for tier in e.lines.iter_mut().flat_map(|line| &mut line.tiers) {
                tier.up_to = None;
            }
        }
        Event::EgressPriced(e) => e.tiers.iter_mut().for_each(|tier| tier.up_to_gb = None),
        Event::UsageMetered(e) => {
            // Eight GPUs for one hour.
            e.quantity = crate::units::UsageQuantity(8 * 1_000 * crate::units::HOUR_US);
            e.to_us = e.from_us.after(crate::units::DurationUs(crate::units::HOUR_US));
        }
        Event::WorkScripted(e) => {
            e.end = ScriptedEnd::Finished;
            e.exit_code = 0;
            e.failure = None;
            e.failure_work_us = None;
            e.work_us = WorkUs(4 * crate::units::HOUR_US);
        }
        Event::RecordQuarantined(e) => {
            e.original_key = hex::encode("job-0001");
            e.original_value = hex::encode("not an event");
            e.original_bytes = Count(12);
        }
        Event::RouteSet(e) => e.weight_milli = Milli(1_000),
        _ => {}
    }
    event
}
