//! The view as people and programs read it: one document with stable names, in a fixed order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use solyx_schemas::events::assets::DepreciationMethod;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::facility::{ElementKind, ElementState};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::Dcim;
use super::book_value::book_value_micros;
use super::energy::{HourRates, measured_j};
use super::power::{Loads, Tree, watts};
use super::state::{AssetStage, Hour, Site};

/// The whole view, as of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DcimView {
    /// The last epoch it has read.
    pub epoch: i64,
    /// That epoch's time.
    pub now_us: TimeUs,
    /// Sites by id; among them those where capacity is bought.
    pub sites: Vec<SiteView>,
    /// Jobs by id, with the energy metered for them.
    pub jobs: Vec<JobView>,
    /// Assets by serial number.
    pub assets: Vec<AssetView>,
}

/// A site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SiteView {
    /// The site; empty for energy of runs that nobody placed.
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Its grid zone.
    pub grid_zone: ZoneId,
    /// Design PUE, thousandths.
    pub design_pue_milli: i64,
    /// Least limit in force for the whole site.
    pub limit_w: Option<i64>,
    /// Committed load of its nodes.
    pub committed_w: i64,
    /// Sum of the last readings of its nodes; absent when none was ever read.
    pub measured_w: Option<i64>,
    /// Its power tree.
    pub elements: Vec<ElementView>,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// Energy, cost and carbon in all.
    pub totals: EnergyTotals,
    /// The same by clock hour.
    pub hours: Vec<HourView>,
    /// Last temperatures.
    pub temperatures: Vec<TemperatureView>,
    /// Book value of the assets there, by currency.
    pub book_value: Vec<Sum>,
}

/// An element of a power tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ElementView {
    /// The element.
    pub element: ElementId,
    /// What it is.
    pub kind: ElementKind,
    /// Its state.
    pub state: ElementState,
    /// What feeds it.
    pub parents: Vec<ElementId>,
    /// What it may carry: derated, and within the limits in force.
    pub limit_w: i64,
    /// Committed load, rounded up.
    pub committed_w: i64,
    /// Load by the last readings of the nodes below it, rounded up; absent when none was read.
    pub measured_nodes_w: Option<i64>,
    /// The last reading of the element itself.
    pub measured_w: Option<i64>,
    /// When it was read.
    pub measured_at_us: Option<TimeUs>,
    /// Limit less committed load; negative when overcommitted.
    pub headroom_w: i64,
    /// The same with one feed lost, for each feed of the site.
    pub without: Vec<LossView>,
}

/// An element's load while a feed is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LossView {
    /// The feed.
    pub lost: ElementId,
    /// Committed load then.
    pub committed_w: i64,
    /// Limit less that.
    pub headroom_w: i64,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// Its pool.
    pub pool: PoolId,
    /// Whether it is our own.
    pub owned: bool,
    /// GPUs.
    pub gpus: usize,
    /// GPUs allotted to runs, in whole or in part.
    pub gpus_allotted: usize,
    /// Idle power and the largest power of the allotted GPUs.
    pub committed_w: i64,
    /// The last reading.
    pub measured_w: Option<i64>,
    /// When it was read.
    pub measured_at_us: Option<TimeUs>,
}

/// A temperature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TemperatureView {
    /// Sensor, rack or node.
    pub subject: RefId,
    /// Thousandths of a degree Celsius.
    pub temperature_milli_c: i64,
    /// When.
    pub at_us: TimeUs,
}

/// Energy with its cost and carbon. Energy is that of IT equipment unless it says facility.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EnergyTotals {
    /// On our own hardware: measured at nodes where it is, otherwise metered for runs.
    pub energy_j: i64,
    /// Metered on capacity whose provider pays for energy; it has carbon and no cost here.
    pub bought_energy_j: i64,
    /// Energy of the facility behind both, × PUE.
    pub facility_energy_j: i64,
    /// Cost by currency.
    pub cost: Vec<Sum>,
    /// Carbon, location based.
    pub carbon_mg: i64,
    /// Energy priced with a value that stood in for a missing one.
    pub stale_price_energy_j: i64,
    /// Energy of ours without a price.
    pub unpriced_energy_j: i64,
    /// Energy whose carbon is from a value that stood in.
    pub stale_carbon_energy_j: i64,
    /// Energy of unknown carbon.
    pub unknown_carbon_energy_j: i64,
    /// Water, millilitres.
    pub water_ml: i64,
}

/// One clock hour of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HourView {
    /// Its start.
    pub from_us: TimeUs,
    /// Energy as in the totals.
    pub energy_j: i64,
    /// Whether that was measured at nodes.
    pub energy_measured: bool,
    /// Energy metered for runs on our own hardware.
    pub metered_j: i64,
    /// Energy metered on bought capacity.
    pub bought_energy_j: i64,
    /// Facility energy behind both.
    pub facility_energy_j: i64,
    /// PUE, thousandths.
    pub pue_milli: i64,
    /// Whether it was measured; otherwise it is the design's.
    pub pue_measured: bool,
    /// Cost; absent without a price.
    pub cost: Option<Sum>,
    /// Whether the price stood in for a missing one.
    pub price_stale: bool,
    /// Carbon; absent when its intensity is unknown.
    pub carbon_mg: Option<i64>,
    /// Whether the intensity stood in for a missing one.
    pub carbon_stale: bool,
}

/// A job's energy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobView {
    /// The job.
    pub job: JobId,
    /// Its energy, cost and carbon.
    #[serde(flatten)]
    pub totals: EnergyTotals,
}

/// An asset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AssetView {
    /// Serial number.
    pub serial: RefId,
    /// Where it stands in its life.
    pub stage: AssetStage,
    /// Model.
    pub model: Name,
    /// Vendor.
    pub vendor: Name,
    /// Site.
    pub site: Option<SiteId>,
    /// Node.
    pub node: Option<NodeId>,
    /// Rack.
    pub rack: Option<ElementId>,
    /// What it cost.
    pub cost: Sum,
    /// How it loses value.
    pub method: DepreciationMethod,
    /// When it was put to use.
    pub installed_us: Option<TimeUs>,
    /// Useful life.
    pub life_us: i64,
    /// What it is worth at the view's time, or was when it left the books; the cost before it is put to use.
    pub book_value: Sum,
    /// What repairs cost, in order.
    pub repairs: Vec<Sum>,
    /// End of warranty.
    pub warranty_end_us: Option<TimeUs>,
    /// When it left the books.
    pub retired_us: Option<TimeUs>,
    /// What was got for it.
    pub proceeds: Option<Sum>,
}

impl EnergyTotals {
    fn add(&mut self, own_j: i64, bought_j: i64, rates: &HourRates) {
        self.energy_j += own_j;
        self.bought_energy_j += bought_j;
        self.facility_energy_j += rates.facility_j(own_j + bought_j);
        match rates.cost(own_j) {
            Some((currency, micros)) => add_sum(&mut self.cost, currency, micros),
            None => self.unpriced_energy_j += own_j,
        }
        if rates.price.is_some_and(|price| price.stale) {
            self.stale_price_energy_j += own_j;
        }
        match rates.carbon_mg(own_j + bought_j) {
            Some(carbon_mg) => self.carbon_mg += carbon_mg,
            None => self.unknown_carbon_energy_j += own_j + bought_j,
        }
        if rates.carbon.is_some_and(|carbon| carbon.stale) {
            self.stale_carbon_energy_j += own_j + bought_j;
        }
    }
}

/// Adds to the sum of a currency; amounts of nothing leave no trace, and currencies stay in order.
fn add_sum(sums: &mut Vec<Sum>, currency: Currency, micros: i64) {
    if micros == 0 {
        return;
    }
    match sums.binary_search_by_key(&currency, |sum| sum.currency) {
        Ok(place) => sums[place].micros.0 += micros,
        Err(place) => sums.insert(place, Sum { currency, micros: MoneyMicros(micros) }),
    }
}

/// Rates of hours already looked up.
type Known = BTreeMap<(SiteId, i64), HourRates>;

impl Dcim {
    /// The view as of the last epoch folded.
    pub fn view(&self) -> DcimView {
        let mut known = Known::new();
        let ids: BTreeSet<&SiteId> =
            self.sites.iter().map(|(id, _)| id).chain(self.hours.iter().map(|((id, _), _)| id)).collect();
        let nodes = self.nodes_by_site();
        let sites =
            ids.into_iter().map(|id| self.site_view(id, nodes.get(id).cloned().unwrap_or_default(), &mut known));
        DcimView {
            sites: sites.collect(),
            jobs: self.job_views(&mut known),
            assets: self.asset_views(),
            epoch: self.meta.get(&0).map_or(-1, |meta| meta.epoch),
            now_us: self.now(),
        }
    }

    fn hour_rates(&self, known: &mut Known, site: &SiteId, hour: i64) -> HourRates {
        let key = (site.clone(), hour);
        *known.entry(key).or_insert_with_key(|key| {
            let unknown = Site::default();
            self.rates(self.sites.get(site).unwrap_or(&unknown), self.hours.get(key), hour)
        })
    }

    /// Nodes with their committed load, by site.
    fn nodes_by_site(&self) -> BTreeMap<SiteId, Vec<NodeView>> {
        let mut allotted: BTreeMap<&NodeId, BTreeSet<i64>> = BTreeMap::new();
        for (_, run) in self.runs.iter() {
            for (node, gpus) in &run.gpus {
                allotted.entry(node).or_default().extend(gpus);
            }
        }
        let mut by_site: BTreeMap<SiteId, Vec<NodeView>> = BTreeMap::new();
        for (id, node) in self.nodes.iter() {
            let Some(pool) = self.pools.get(&node.pool) else { continue };
            let busy = allotted.get(id);
            let of_gpu = |(index, max_w): &(i64, i64)| busy.filter(|busy| busy.contains(index)).map(|_| *max_w);
            let busy_w: Vec<i64> = node.gpus.iter().filter_map(of_gpu).collect();
            let reading = self.node_power.get(id);
            by_site.entry(pool.site.clone()).or_default().push(NodeView {
                node: id.clone(),
                pool: node.pool.clone(),
                owned: pool.owned,
                gpus: node.gpus.len(),
                gpus_allotted: busy_w.len(),
                committed_w: node.idle_w + busy_w.iter().sum::<i64>(),
                measured_w: reading.map(|reading| reading.value),
                measured_at_us: reading.map(|reading| reading.at),
            });
        }
        by_site
    }

    fn site_view(&self, id: &SiteId, nodes: Vec<NodeView>, known: &mut Known) -> SiteView {
        let site = self.sites.get(id).cloned().unwrap_or_default();
        let measured: Vec<i64> = nodes.iter().filter_map(|node| node.measured_w).collect();
        let mut totals = EnergyTotals::default();
        let mut hours = Vec::new();
        for ((_, hour), row) in self.hours.from(&(id.clone(), i64::MIN)).take_while(|((site, _), _)| site == id) {
            let rates = self.hour_rates(known, id, *hour);
            let view = hour_view(*hour, row, &rates);
            totals.add(view.energy_j, row.bought_j, &rates);
            totals.water_ml += row.water_ml;
            hours.push(view);
        }
        let mut book_value = Vec::new();
        for (_, asset) in self.assets.iter().filter(|(_, asset)| asset.site.as_ref() == Some(id)) {
            if asset.stage != AssetStage::Retired {
                add_sum(&mut book_value, asset.cost.currency, book_value_micros(asset, self.now()));
            }
        }
        let readings = self.temperatures.from(&(id.clone(), RefId::default())).take_while(|((site, _), _)| site == id);
        let temperatures = readings.map(|((_, subject), reading)| TemperatureView {
            subject: subject.clone(),
            temperature_milli_c: reading.value,
            at_us: reading.at,
        });
        SiteView {
            site: id.clone(),
            limit_w: self.limits_on(id, None).min(),
            committed_w: nodes.iter().map(|node| node.committed_w).sum(),
            measured_w: (!measured.is_empty()).then(|| measured.iter().sum()),
            elements: self.element_views(id, &nodes),
            totals,
            hours,
            temperatures: temperatures.collect(),
            book_value,
            name: site.name,
            grid_zone: site.zone,
            design_pue_milli: site.design_pue_milli,
            nodes,
        }
    }

    /// Limits that operators have set and that are in force now.
    fn limits_on<'a>(&'a self, site: &'a SiteId, element: Option<&'a ElementId>) -> impl Iterator<Item = i64> + 'a {
        let now = self.now();
        let in_force = move |from: TimeUs, to: Option<TimeUs>| from <= now && to.is_none_or(|to| now < to);
        self.limits
            .iter()
            .map(|(_, limit)| limit)
            .filter(move |limit| limit.site == *site && limit.element.as_ref() == element)
            .filter(move |limit| in_force(limit.from, limit.to))
            .map(|limit| limit.limit_w)
    }

    fn element_views(&self, site: &SiteId, nodes: &[NodeView]) -> Vec<ElementView> {
        let rows = self.elements.from(&(site.clone(), ElementId::default())).take_while(|((s, _), _)| s == site);
        let tree = Tree { elements: rows.map(|((_, id), element)| (id, element)).collect() };
        let loads = |of: &dyn Fn(&NodeView) -> Option<i64>, lost: Option<&ElementId>| {
            tree.loads(nodes.iter().filter_map(|node| Some((&self.nodes.get(&node.node)?.feeds[..], of(node)?))), lost)
        };
        let committed = loads(&|node| Some(node.committed_w), None);
        let measured = loads(&|node| node.measured_w, None);
        let losses: Vec<(&ElementId, Loads<'_>)> =
            tree.roots().into_iter().map(|root| (root, loads(&|node| Some(node.committed_w), Some(root)))).collect();
        let load_of = |loads: &Loads<'_>, id: &ElementId| loads.get(id).map_or(0, |load| watts(*load));
        let view = |(id, element): (&&ElementId, &&super::state::Element)| {
            let own = i128::from(element.limit_w) * i128::from(element.derating_milli) / 1_000;
            let limit_w = self.limits_on(site, Some(id)).fold(own as i64, i64::min);
            let reading = self.element_power.get(&(site.clone(), RefId::from(id.as_str())));
            ElementView {
                element: (*id).clone(),
                kind: element.kind,
                state: element.state,
                parents: element.parents.clone(),
                limit_w,
                committed_w: load_of(&committed, id),
                measured_nodes_w: measured.get(*id).map(|load| watts(*load)),
                measured_w: reading.map(|reading| reading.value),
                measured_at_us: reading.map(|reading| reading.at),
                headroom_w: limit_w - load_of(&committed, id),
                without: losses
                    .iter()
                    .map(|(lost, loads)| LossView {
                        lost: (*lost).clone(),
                        committed_w: load_of(loads, id),
                        headroom_w: limit_w - load_of(loads, id),
                    })
                    .collect(),
            }
        };
        tree.elements.iter().map(view).collect()
    }

    fn job_views(&self, known: &mut Known) -> Vec<JobView> {
        let mut views: Vec<JobView> = Vec::new();
        for ((job, site, owned), energy) in self.jobs.iter() {
            if views.last().is_none_or(|view| view.job != *job) {
                views.push(JobView { job: job.clone(), totals: EnergyTotals::default() });
            }
            let Some(view) = views.last_mut() else { continue };
            for (hour, energy_j) in &energy.hours {
                let rates = self.hour_rates(known, site, *hour);
                let (own_j, bought_j) = if *owned { (*energy_j, 0) } else { (0, *energy_j) };
                view.totals.add(own_j, bought_j, &rates);
            }
        }
        views
    }

    fn asset_views(&self) -> Vec<AssetView> {
        let view = |(serial, asset): (&RefId, &super::state::Asset)| AssetView {
            serial: serial.clone(),
            stage: asset.stage,
            model: asset.model.clone(),
            vendor: asset.vendor.clone(),
            site: asset.site.clone(),
            node: asset.node.clone(),
            rack: asset.rack.clone(),
            cost: asset.cost.clone(),
            method: asset.method,
            installed_us: asset.installed,
            life_us: asset.life_us,
            book_value: Sum {
                currency: asset.cost.currency,
                micros: MoneyMicros(book_value_micros(asset, self.now())),
            },
            repairs: asset.repairs.clone(),
            warranty_end_us: asset.warranty_end,
            retired_us: asset.retired,
            proceeds: asset.proceeds.clone(),
        };
        self.assets.iter().map(view).collect()
    }
}

fn hour_view(hour: i64, row: &Hour, rates: &HourRates) -> HourView {
    let energy_measured = row.nodes_w_us > 0;
    let energy_j = if energy_measured { measured_j(row) } else { row.owned_j };
    HourView {
        from_us: TimeUs(hour * HOUR_US),
        energy_j,
        energy_measured,
        metered_j: row.owned_j,
        bought_energy_j: row.bought_j,
        facility_energy_j: rates.facility_j(energy_j + row.bought_j),
        pue_milli: rates.pue_milli,
        pue_measured: rates.pue_measured,
        cost: rates.cost(energy_j).map(|(currency, micros)| Sum { currency, micros: MoneyMicros(micros) }),
        price_stale: rates.price.is_some_and(|price| price.stale),
        carbon_mg: rates.carbon_mg(energy_j + row.bought_j),
        carbon_stale: rates.carbon.is_some_and(|carbon| carbon.stale),
    }
}
