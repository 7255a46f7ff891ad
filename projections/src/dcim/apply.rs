//! What each event leaves in the view's state.

use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::facility::{ElementState, MeasuredKind, PowerMeasured};
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::events::world::{CarbonMethod, CarbonSignal, CarbonStatus};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::Dcim;
use super::state::*;
use crate::timeline::{self, Interval};

impl Dcim {
    pub(super) fn fold(&mut self, epoch: &EpochBatch) {
        *self.meta.entry(&0) = Meta { epoch: epoch.record.epoch, now: epoch.record.now_us };
        for (_, event) in epoch.counted() {
            self.fold_facility(event);
            self.fold_fleet(event);
            self.fold_asset(event);
            self.fold_run(event);
            if let Event::UsageMetered(e) = event
                && e.meter == Meter::Energy
            {
                self.meter(e);
            }
        }
        for output in &epoch.outputs {
            self.fold_decision(output);
        }
        self.leases_passed(epoch.record.now_us);
    }

    fn fold_facility(&mut self, event: &Event) {
        match event {
            Event::SiteDeclared(e) => {
                let site =
                    Site { name: e.name.clone(), zone: e.grid_zone.clone(), design_pue_milli: e.design_pue_milli.0 };
                self.sites.insert(e.site.clone(), site);
            }
            Event::PowerElementDeclared(e) => {
                let row = self.elements.entry(&(e.site.clone(), e.element.clone()));
                let state = if row.state == ElementState::Unknown { ElementState::InService } else { row.state };
                *row = Element {
                    kind: e.kind,
                    parents: e.parents.clone(),
                    limit_w: e.limit_w.0,
                    derating_milli: e.derating_milli.0,
                    state,
                };
            }
            Event::PowerElementStateChanged(e) => {
                self.elements.entry(&(e.site.clone(), e.element.clone())).state = e.state;
            }
            Event::PowerLimitSet(e) => {
                let limit = PowerLimit {
                    site: e.site.clone(),
                    element: e.element.clone(),
                    from: e.from_us,
                    limit_w: e.limit_w.0,
                    to: e.to_us,
                };
                self.limits.insert(e.limit.clone(), limit);
            }
            Event::PowerMeasured(e) => self.measure(e),
            Event::ThermalMeasured(e) => {
                let reading = Reading { value: e.temperature_milli_c, at: e.occurred_us };
                newest(self.temperatures.entry(&(e.site.clone(), e.subject.clone())), reading);
            }
            Event::CoolingMeasured(e) => {
                let (facility, it) = (i128::from(e.facility_w.0), i128::from(e.it_w.0));
                for (hour, part) in hours(e.from_us, e.to_us) {
                    let row = self.hours.entry(&(e.site.clone(), hour));
                    row.facility_w_us += facility * i128::from(part);
                    row.it_w_us += it * i128::from(part);
                }
                let first = self.hours.entry(&(e.site.clone(), e.from_us.0.div_euclid(HOUR_US)));
                first.water_ml += e.water_ml.0;
            }
            Event::EnergyPriced(e) => {
                let kind = timeline::price_rank(e.kind);
                let value = e.price_micros_per_mwh.0;
                let new = Interval { to: e.to_us, value, revision: e.revision.0, currency: Some(e.currency) };
                timeline::insert(&mut self.prices, &e.zone, kind, e.from_us, new);
            }
            // Carbon is accounted by location, from the average of the mix.
            Event::CarbonReported(e) if e.signal == CarbonSignal::Average && e.method == CarbonMethod::Location => {
                let kind = u8::from(e.status != CarbonStatus::Actual);
                let new = Interval { to: e.to_us, value: e.mg_per_kwh.0, revision: e.revision.0, currency: None };
                timeline::insert(&mut self.carbon, &e.zone, kind, e.from_us, new);
            }
            _ => {}
        }
    }

    fn fold_fleet(&mut self, event: &Event) {
        match event {
            Event::GpuModelDeclared(e) => self.gpu_max_w.insert(e.model.clone(), e.max_w.0),
            Event::PoolDeclared(e) => {
                let pool = Pool { site: e.site.clone(), owned: e.class == CapacityClass::Owned };
                self.pools.insert(e.pool.clone(), pool);
            }
            Event::NodeReported(e) => {
                let model_w = |model: &GpuModelId| self.gpu_max_w.get(model).copied().unwrap_or(0);
                let max_w = |gpu: &solyx_schemas::events::nodes::GpuReport| match gpu.max_w.0 {
                    0 => model_w(&gpu.model),
                    watts => watts,
                };
                let node = Node {
                    pool: e.pool.clone(),
                    idle_w: e.idle_w.0,
                    feeds: e.feeds.clone(),
                    gpus: e.gpus.iter().map(|gpu| (gpu.index, max_w(gpu))).collect(),
                };
                self.nodes.insert(e.node.clone(), node);
            }
            Event::NodeStateChanged(e) if e.state == NodeState::Fenced => self.clear(&e.node),
            Event::InstanceLeaseEnded(e) => self.clear(&e.instance.as_str().into()),
            Event::NodeRemoved(e) => {
                self.clear(&e.node);
                self.nodes.remove(&e.node);
                self.node_power.remove(&e.node);
            }
            _ => {}
        }
    }

    fn fold_asset(&mut self, event: &Event) {
        match event {
            Event::AssetOrdered(e) => {
                let asset = self.assets.entry(&e.serial);
                asset.model = e.model.clone();
                asset.vendor = e.vendor.clone();
                asset.cost = e.cost.clone();
            }
            Event::AssetReceived(e) => {
                let asset = self.assets.entry(&e.serial);
                asset.stage = asset.stage.max(AssetStage::Received);
                asset.site = Some(e.site.clone());
            }
            Event::AssetInstalled(e) => {
                let asset = self.assets.entry(&e.serial);
                asset.stage = asset.stage.max(AssetStage::Installed);
                asset.model = e.model.clone();
                asset.vendor = e.vendor.clone();
                asset.site = Some(e.site.clone());
                asset.node = e.node.clone();
                asset.rack = e.rack.clone();
                asset.cost = e.cost.clone();
                asset.salvage_micros = e.salvage.micros.0;
                asset.installed = Some(e.installed_us);
                asset.life_us = e.life_us.0;
                asset.method = e.method;
                asset.declining_milli_per_year = e.declining_milli_per_year.map_or(0, |milli| milli.0);
                asset.warranty_end = e.warranty_end_us;
            }
            Event::AssetMoved(e) => {
                let asset = self.assets.entry(&e.serial);
                asset.site = Some(e.site.clone());
                asset.node = e.node.clone();
                asset.rack = e.rack.clone();
            }
            Event::AssetRepaired(e) => self.assets.entry(&e.serial).repairs.push(e.cost.clone()),
            Event::AssetRetired(e) => {
                let asset = self.assets.entry(&e.serial);
                asset.stage = AssetStage::Retired;
                asset.retired = Some(e.retired_us);
                asset.proceeds = e.proceeds.clone();
            }
            _ => {}
        }
    }

    fn measure(&mut self, measured: &PowerMeasured) {
        let reading = Reading { value: measured.power_w.0, at: measured.to_us };
        match measured.measured {
            MeasuredKind::Element | MeasuredKind::Unknown => {
                newest(self.element_power.entry(&(measured.site.clone(), measured.subject.clone())), reading);
            }
            MeasuredKind::Node => {
                let node = NodeId::from(measured.subject.as_str());
                let pool = self.nodes.get(&node).and_then(|node| self.pools.get(&node.pool));
                let is_bought = pool.is_some_and(|pool| !pool.owned);
                newest(self.node_power.entry(&node), reading);
                // Whose energy is on somebody else's bill is known by its meters alone.
                if is_bought {
                    return;
                }
                for (hour, part) in hours(measured.from_us, measured.to_us) {
                    let energy = i128::from(measured.power_w.0) * i128::from(part);
                    self.hours.entry(&(measured.site.clone(), hour)).nodes_w_us += energy;
                }
            }
        }
    }

    /// Energy of a run goes to its job and its site, hour by hour; what spans hours is divided in proportion to time.
    fn meter(&mut self, usage: &UsageMetered) {
        let (site, owned) = self.runs.get(&usage.run).map(|run| (run.site.clone(), run.owned)).unwrap_or_default();
        let whole = i128::from(usage.to_us.since(usage.from_us).0.max(1));
        let (mut time, mut given) = (0, 0);
        for (hour, part) in hours(usage.from_us, usage.to_us) {
            time += part;
            // From the start, so that the parts add up to the whole.
            let until = (i128::from(usage.quantity.0) * i128::from(time) / whole) as i64;
            let energy_j = until - given;
            given = until;
            self.jobs.entry(&(usage.job.clone(), site.clone(), owned)).add(hour, energy_j);
            let row = self.hours.entry(&(site.clone(), hour));
            if owned {
                row.owned_j += energy_j;
            } else {
                row.bought_j += energy_j;
            }
        }
    }
}

/// Keeps the later of two readings.
fn newest(kept: &mut Reading, reading: Reading) {
    if reading.at >= kept.at {
        *kept = reading;
    }
}

/// The clock hours of an interval, since 1970, with the µs that lie in each.
fn hours(from: TimeUs, to: TimeUs) -> impl Iterator<Item = (i64, i64)> {
    let (first, end) = (from.0.div_euclid(HOUR_US), to.0);
    (first..).take_while(move |hour| hour * HOUR_US < end).map(move |hour| {
        let part = ((hour + 1) * HOUR_US).min(end) - (hour * HOUR_US).max(from.0);
        (hour, part)
    })
}
