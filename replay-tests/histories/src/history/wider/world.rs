//! The world of a wider history: two countries and two providers, prices of energy and carbon that are corrected, weights of costs,
//! data sets and what it costs to move them, reserves for failover, and sites and providers that are lost as a whole.

use std::ops::Range;

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::world::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::super::Luck;
use super::super::frame::{SITES, TENANTS, report};
use super::CLASSES;
use crate::{site, usd};

/// What is known of prices and carbon at the beginning, and told at a time.
const HOURS: i64 = 24;
const ZONES: [&str; 2] = ["DE-LU", "FR"];
const REGIONS: [&str; 2] = ["aws:eu-central-1", "aws:eu-west-3"];
const COUNTRIES: [&str; 2] = ["DE", "FR"];
const PROVIDERS: [&str; 2] = ["metapod", "lambda"];
const DATASETS: [&str; 3] = ["data-0", "data-1", "data-2"];
/// Each site has half of the nodes.
const NODES_OF_SITE: i64 = 3;
const PRICE_UNIT_MICROS: i64 = 1_000_000;
/// Prices of a MWh as they are most often, also less than nothing. What is beyond is wrong.
pub const USUAL_PRICE_MICROS_PER_MWH: Range<i64> = -30 * PRICE_UNIT_MICROS..270 * PRICE_UNIT_MICROS;
/// The same of carbon.
pub const USUAL_CARBON_MG_PER_KWH: Range<i64> = 0..600_000;

/// What was said of it that is still to be taken back.
#[derive(Default)]
pub(super) struct World {
    /// A price or carbon value that is higher than any before it replaces them.
    revision: i64,
    /// Sites that were lost, with whether their nodes were removed, and providers that are not up.
    lost: Vec<(usize, bool)>,
    down: Vec<&'static str>,
}

/// Whose a pool is: all at the annex are another provider's.
pub(super) fn belongs(e: &mut PoolDeclared) {
    let is_annex = e.pool.as_str().starts_with("annex/");
    e.provider = ProviderId::from(PROVIDERS[usize::from(is_annex)]);
}

/// What a job asks of the world.
pub(super) fn asked_of(luck: &mut Luck, e: &mut JobRequested) {
    if luck.chance(15) {
        e.datasets = vec![DatasetId::from(*luck.of(&DATASETS))];
    }
    if luck.chance(15) {
        e.residency = vec![Name::from(*luck.of(&COUNTRIES))];
    }
    if luck.chance(4) {
        e.certificates = vec![Name::from("ISO-27001")];
    }
    if luck.chance(10) {
        e.client_regions = vec![ClientRegion {
            region: RegionId::from(*luck.of(&REGIONS)),
            weight_milli: Milli(1_000),
            latency_objective_us: luck.chance(70).then(|| DurationUs(luck.below(20_000))),
        }];
    }
    if luck.chance(30) {
        e.checkpoint_mib = Some(MemoryMib(luck.below(1 << 20)));
    }
}

impl World {
    pub fn begins(&mut self, luck: &mut Luck, now: i64, events: &mut Vec<Event>) {
        let annex = SiteDeclared {
            region: RegionId::from(REGIONS[1]),
            grid_zone: ZoneId::from(ZONES[1]),
            country: Name::from(COUNTRIES[1]),
            certificates: vec![Name::from("ISO-27001")],
            design_pue_milli: Milli(1_000 + luck.below(600)),
            ..site(SITES[1])
        };
        events.push(annex.into());
        let hour = now / HOUR_US * HOUR_US;
        for zone in ZONES {
            for i in 0..HOURS {
                let (from, to) = (hour + i * HOUR_US, hour + (i + 1) * HOUR_US);
                if luck.chance(90) {
                    let value = usual_price(luck);
                    events.push(self.price(luck, zone, (from, to), value, now));
                }
                if luck.chance(70) {
                    let value = luck.below(USUAL_CARBON_MG_PER_KWH.end);
                    events.push(self.carbon(luck, zone, (from, to), value, now));
                }
            }
        }
        if luck.chance(70) {
            events.push(exchange(luck, now));
        }
        if luck.chance(70) {
            events.push(weights(luck, now));
        }
        for dataset in DATASETS {
            if luck.chance(80) {
                events.push(data_set(luck, dataset));
                events.push(replica(luck, dataset));
            }
        }
        if luck.chance(60) {
            events.push(egress(luck));
        }
    }

    /// What comes in an epoch.
    pub fn says(&mut self, luck: &mut Luck, now: i64, events: &mut Vec<Event>) {
        self.returns(luck, events);
        if luck.chance(60) {
            return;
        }
        let dataset = *luck.of(&DATASETS);
        match luck.below(12) {
            0 => self.provider_goes(luck, events),
            1 => self.site_is_lost(luck, events),
            2..5 => self.corrects(luck, now, events),
            5 => events.push(weights(luck, now)),
            6 => events.push(exchange(luck, now)),
            7 => events.push(data_set(luck, dataset)),
            8 => events.push(replica(luck, dataset)),
            9 => events.push(egress(luck)),
            10 => events.push(link(luck)),
            _ => events.push(reserve(luck)),
        }
    }

    /// What was lost is there again, most often soon.
    fn returns(&mut self, luck: &mut Luck, events: &mut Vec<Event>) {
        if !self.lost.is_empty() && luck.chance(30) {
            let (at, is_removed) = self.lost.remove(0);
            for i in nodes_of(at) {
                if is_removed {
                    events.push(report(luck, i));
                }
                events.push(node_state(i, NodeState::Ready));
            }
        }
        if !self.down.is_empty() && luck.chance(30) {
            let provider = self.down.remove(0);
            events.push(provider_state(provider, ProviderState::Up));
        }
    }

    fn provider_goes(&mut self, luck: &mut Luck, events: &mut Vec<Event>) {
        let provider = *luck.of(&PROVIDERS);
        let state = *luck.of(&[ProviderState::Degraded, ProviderState::Down]);
        self.down.push(provider);
        events.push(provider_state(provider, state));
    }

    /// All nodes of a site at once.
    fn site_is_lost(&mut self, luck: &mut Luck, events: &mut Vec<Event>) {
        let at = luck.below(SITES.len() as i64) as usize;
        let is_removed = luck.chance(30);
        self.lost.push((at, is_removed));
        let state = *luck.of(&[NodeState::Down, NodeState::Fenced, NodeState::Fenced, NodeState::Draining]);
        events.extend(nodes_of(at).map(|i| match is_removed {
            true => NodeRemoved { node: node(i), ..NodeRemoved::default() }.into(),
            false => node_state(i, state),
        }));
    }

    /// Hours that are priced anew: of some the values are wrong by far, and the next are of a higher revision.
    fn corrects(&mut self, luck: &mut Luck, now: i64, events: &mut Vec<Event>) {
        // One of a revision that is there already is refused.
        self.revision += i64::from(luck.chance(85));
        let zone = *luck.of(&ZONES);
        let from = now / HOUR_US * HOUR_US + (luck.below(HOURS) - HOURS / 4) * HOUR_US;
        let hours = (from, from + (1 + luck.below(12)) * HOUR_US);
        let factor = *luck.of(&[1, 1, 1, 1_000, 0, -5]);
        if luck.chance(60) {
            let value = usual_price(luck) * factor;
            events.push(self.price(luck, zone, hours, value, now));
        } else {
            let value = luck.below(USUAL_CARBON_MG_PER_KWH.end) * factor.max(0);
            events.push(self.carbon(luck, zone, hours, value, now));
        }
    }

    fn price(&self, luck: &mut Luck, zone: &str, (from, to): (i64, i64), micros: i64, now: i64) -> Event {
        let euro = Currency::parse("EUR").unwrap();
        EnergyPriced {
            zone: ZoneId::from(zone),
            from_us: TimeUs(from),
            to_us: TimeUs(to),
            price_micros_per_mwh: RateMicros(micros),
            currency: if luck.chance(80) { usd() } else { euro },
            kind: *luck.of(&[PriceKind::DayAhead, PriceKind::DayAhead, PriceKind::RealTime, PriceKind::Forecast]),
            revision: Count(self.revision),
            published_us: TimeUs(now),
            ..EnergyPriced::default()
        }
        .into()
    }

    fn carbon(&self, luck: &mut Luck, zone: &str, (from, to): (i64, i64), mg_per_kwh: i64, now: i64) -> Event {
        CarbonReported {
            zone: ZoneId::from(zone),
            from_us: TimeUs(from),
            to_us: TimeUs(to),
            mg_per_kwh: CarbonIntensityMgPerKwh(mg_per_kwh),
            status: *luck.of(&[CarbonStatus::Actual, CarbonStatus::Forecast]),
            signal: if luck.chance(90) { CarbonSignal::Average } else { CarbonSignal::Marginal },
            method: CarbonMethod::Location,
            revision: Count(self.revision),
            published_us: TimeUs(now),
            ..CarbonReported::default()
        }
        .into()
    }
}

fn usual_price(luck: &mut Luck) -> i64 {
    let Range { start, end } = USUAL_PRICE_MICROS_PER_MWH;
    luck.below((end - start) / PRICE_UNIT_MICROS) * PRICE_UNIT_MICROS + start
}

/// The nodes that are lost with each site.
pub fn nodes_by_site() -> [Vec<NodeId>; 2] {
    [0, 1].map(|at| nodes_of(at).map(node).collect())
}

fn nodes_of(at: usize) -> Range<i64> {
    let first = at as i64 * NODES_OF_SITE;
    first..first + NODES_OF_SITE
}

fn node(i: i64) -> NodeId {
    NodeId::from(format!("node-{i}"))
}

fn node_state(i: i64, state: NodeState) -> Event {
    NodeStateChanged { node: node(i), state, ..NodeStateChanged::default() }.into()
}

fn provider_state(provider: &str, state: ProviderState) -> Event {
    ProviderStateChanged { provider: ProviderId::from(provider), state, ..ProviderStateChanged::default() }.into()
}

fn exchange(luck: &mut Luck, now: i64) -> Event {
    ExchangeRateSet {
        from_currency: Currency::parse("EUR").unwrap(),
        to_currency: usd(),
        numerator: Count(100 + luck.below(30)),
        denominator: Count(100),
        effective_from_us: TimeUs(now + luck.below(3) * HOUR_US),
        ..ExchangeRateSet::default()
    }
    .into()
}

fn weights(luck: &mut Luck, now: i64) -> Event {
    let from = now + luck.below(3) * HOUR_US;
    let euro = Currency::parse("EUR").unwrap();
    let waiting = |class: &str| {
        let class = ClassId::from(class);
        luck.chance(50).then(|| ClassWeight { class, waiting_micros_per_hour: RateMicros(luck.below(2_000_000)) })
    };
    let waiting = CLASSES.into_iter().filter_map(waiting).collect();
    CostWeightsSet {
        scope: Name::from("cell"),
        from_us: TimeUs(from),
        to_us: luck.chance(30).then(|| TimeUs(from + (1 + luck.below(6)) * HOUR_US)),
        currency: if luck.chance(80) { usd() } else { euro },
        carbon_micros_per_kg: RateMicros(luck.below(500_000)),
        waiting,
        risk_milli: Milli(luck.below(2_000)),
        latency_micros_per_ms_gpu_hour: RateMicros(luck.below(10_000)),
        owned_first: *luck.of(&[OwnedFirst::Forced, OwnedFirst::MarginalCost]),
        spot_reclaims_per_1000_h: Count(luck.below(100)),
        node_failures_per_1000_h: Count(luck.below(20)),
        ..CostWeightsSet::default()
    }
    .into()
}

fn data_set(luck: &mut Luck, dataset: &str) -> Event {
    DatasetDeclared {
        dataset: DatasetId::from(dataset),
        tenant: TenantId::from(*luck.of(&TENANTS)),
        size_gib: StorageGib(luck.below(10_000)),
        residency: luck.chance(25).then(|| Name::from(*luck.of(&COUNTRIES))).into_iter().collect(),
        ..DatasetDeclared::default()
    }
    .into()
}

fn replica(luck: &mut Luck, dataset: &str) -> Event {
    ReplicaReported {
        dataset: DatasetId::from(dataset),
        site: SiteId::from(*luck.of(&SITES)),
        tier: Name::from("nvme"),
        state: *luck.of(&[ReplicaState::Durable, ReplicaState::Durable, ReplicaState::Copying, ReplicaState::Lost]),
        size_gib: StorageGib(luck.below(10_000)),
        ..ReplicaReported::default()
    }
    .into()
}

/// There or back.
fn regions(luck: &mut Luck) -> (RegionId, RegionId) {
    let from = luck.below(2) as usize;
    (RegionId::from(REGIONS[from]), RegionId::from(REGIONS[1 - from]))
}

fn egress(luck: &mut Luck) -> Event {
    let (from_region, to_region) = regions(luck);
    let tiers = vec![EgressTier { up_to_gb: None, price_micros_per_gb: RateMicros(luck.below(100_000)) }];
    EgressPriced { from_region, to_region, currency: usd(), tiers, ..EgressPriced::default() }.into()
}

fn link(luck: &mut Luck) -> Event {
    let (from_region, to_region) = regions(luck);
    let rtt_us = DurationUs(luck.below(40_000));
    LinkMeasured { from_region, to_region, rtt_us, ..LinkMeasured::default() }.into()
}

/// What is held back for the loss of a site or a provider; also nothing any more.
fn reserve(luck: &mut Luck) -> Event {
    ReserveSet {
        domain: RefId::from(*luck.of(&["site:pod", "site:annex", "provider:metapod", "provider:lambda"])),
        gpu_model: GpuModelId::from("H100"),
        held_back_milli: GpuMilli(luck.below(5) * 1_000),
        ..ReserveSet::default()
    }
    .into()
}
