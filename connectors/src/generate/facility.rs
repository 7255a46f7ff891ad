//! Sites and their power: two feeds, each able to carry almost all of it, rows and racks; and what sensors say.

use solyx_schemas::events::assets::{AssetInstalled, DepreciationMethod};
use solyx_schemas::events::common::Label;
use solyx_schemas::events::facility::*;
use solyx_schemas::units::*;

use super::plan::{NODE_GPUS, NODES_PER_LEAF, NODES_PER_RACK, NodePool, Plan, Site};
use super::world::{World, money, say, sum};

/// Part of a rated limit that may be used.
const DERATING_MILLI: i64 = 800;
/// Hours between two temperatures of a rack.
const THERMAL_HOURS: usize = 6;

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    for (index, site) in plan.sites.iter().enumerate() {
        declare(plan, site, world);
        let pool = plan.node_pools.iter().find(|pool| pool.site == index && pool.owned);
        if let Some(pool) = pool {
            power(plan, site, pool, world);
            sensors(plan, site, pool, world);
            hall(plan, site, pool, world);
        }
    }
}

/// Largest power of one node as the kernel counts it: idle power and the largest of its GPUs.
pub(super) fn node_max_w(pool: &NodePool) -> i64 {
    node_idle_w(pool) + NODE_GPUS * pool.model.max_w
}

/// Power of an idle node.
pub(super) fn node_idle_w(pool: &NodePool) -> i64 {
    pool.model.node_idle_w + NODE_GPUS * pool.model.idle_w
}

/// Racks of a pool.
pub(super) fn racks(pool: &NodePool) -> i64 {
    (pool.nodes + NODES_PER_RACK - 1) / NODES_PER_RACK
}

/// Rows of a pool; each has a leaf switch of its own.
pub(super) fn rows(pool: &NodePool) -> i64 {
    (pool.nodes + NODES_PER_LEAF - 1) / NODES_PER_LEAF
}

fn declare(plan: &Plan, site: &Site, world: &mut World<'_>) {
    let place = site.place;
    let tier = |tier: &str, micros| StorageTier {
        tier: tier.into(),
        price_micros_per_gib_month: RateMicros(micros),
        currency: money("USD"),
    };
    say!(
        world,
        plan.opening,
        "site",
        &site.id,
        SiteDeclared {
            site: site.id.as_str().into(),
            name: format!("{} {}", site.provider, place.name),
            region: place.region.into(),
            grid_zone: place.zone.into(),
            country: place.country.into(),
            certificates: if site.own { vec!["iso27001".into()] } else { Vec::new() },
            latitude_e7: place.latitude_e7,
            longitude_e7: place.longitude_e7,
            design_pue_milli: Milli(place.pue_milli),
            storage_tiers: vec![tier("nvme", 60_000), tier("object", 15_000)],
            labels: vec![Label { name: "operator".into(), value: site.provider.to_owned() }],
        }
    );
}

fn power(plan: &Plan, site: &Site, pool: &NodePool, world: &mut World<'_>) {
    // Some sites are built a little too small, so that power is what binds.
    let built_milli = plan.luck.between("power", &site.id, 850, 1_150);
    let rated = |nodes: i64, built: i64| nodes * node_max_w(pool) * built / DERATING_MILLI + 1;
    let mut element = |id: &str, kind, parents: &[String], limit_w, group: Option<&str>| {
        say!(
            world,
            plan.opening,
            "power",
            &format!("{}/{id}", site.id),
            PowerElementDeclared {
                site: site.id.as_str().into(),
                element: id.into(),
                kind,
                parents: parents.iter().map(|parent| parent.as_str().into()).collect(),
                limit_w: PowerW(limit_w),
                derating_milli: Milli(DERATING_MILLI),
                redundancy_group: group.map(Into::into),
            }
        );
    };
    for feed in ["a", "b"] {
        let (utility, ups) = (format!("utility-{feed}"), format!("ups-{feed}"));
        element(&utility, ElementKind::UtilityFeed, &[], rated(pool.nodes, 1_200), Some("utility"));
        element(&ups, ElementKind::Ups, &[utility], rated(pool.nodes, built_milli), Some("ups"));
        for row in 1..=rows(pool) {
            let nodes = (pool.nodes - (row - 1) * NODES_PER_LEAF).min(NODES_PER_LEAF);
            element(
                &format!("row{row}-{feed}"),
                ElementKind::Pdu,
                std::slice::from_ref(&ups),
                rated(nodes, 1_050),
                None,
            );
        }
    }
    element("generator", ElementKind::Generator, &[], rated(pool.nodes, 1_000), Some("utility"));
    for rack in 1..=racks(pool) {
        let row = (rack - 1) * NODES_PER_RACK / NODES_PER_LEAF + 1;
        let parents = [format!("row{row}-a"), format!("row{row}-b")];
        element(&format!("rack{rack}"), ElementKind::Rack, &parents, rated(NODES_PER_RACK, 1_000), None);
    }
}

/// Hourly power of the feeds and the cooling, and temperatures of racks.
fn sensors(plan: &Plan, site: &Site, pool: &NodePool, world: &mut World<'_>) {
    let site_id = site.id.as_str();
    for (n, from) in plan.hours(plan.start, plan.end).enumerate() {
        let to = TimeUs(from.0 + HOUR_US);
        let id = format!("{}/{n}", site.id);
        let it_w = pool.nodes * node_max_w(pool) * plan.luck.between("load", &id, 350, 800) / 1_000;
        let facility_w = it_w * (site.place.pue_milli + plan.luck.between("pue", &id, -30, 60)) / 1_000;
        for feed in ["a", "b"] {
            say!(
                world,
                to,
                "measured",
                &format!("{id}/{feed}"),
                PowerMeasured {
                    site: site_id.into(),
                    measured: MeasuredKind::Element,
                    subject: format!("utility-{feed}").as_str().into(),
                    power_w: PowerW(facility_w / 2),
                    from_us: from,
                    to_us: to,
                }
            );
        }
        say!(
            world,
            to,
            "cooling",
            &id,
            CoolingMeasured {
                site: site_id.into(),
                facility_w: PowerW(facility_w),
                it_w: PowerW(it_w),
                water_ml: Count(facility_w * plan.luck.between("water", &id, 500, 1_800) / 1_000),
                from_us: from,
                to_us: to,
            }
        );
        if n % THERMAL_HOURS == 0 {
            for rack in 1..=racks(pool) {
                let id = format!("{}/rack{rack}/{n}", site.id);
                say!(
                    world,
                    to,
                    "thermal",
                    &id,
                    ThermalMeasured {
                        site: site_id.into(),
                        subject: format!("rack{rack}").as_str().into(),
                        temperature_milli_c: plan.luck.between("temperature", &id, 21_000, 38_000),
                    }
                );
            }
        }
    }
}

/// The hall itself, which loses value on a declining balance.
fn hall(plan: &Plan, site: &Site, pool: &NodePool, world: &mut World<'_>) {
    let serial = format!("hall-{}", site.id);
    say!(
        world,
        plan.opening,
        "asset",
        &serial,
        AssetInstalled {
            serial: serial.as_str().into(),
            model: "modular-hall".into(),
            vendor: "metapod".into(),
            site: site.id.as_str().into(),
            node: None,
            rack: None,
            cost: sum("USD", 50_000 * pool.nodes),
            installed_us: TimeUs(plan.start.0 - 200 * DAY_US),
            life_us: DurationUs(12 * 365 * DAY_US),
            salvage: sum("USD", 3_000 * pool.nodes),
            method: DepreciationMethod::DecliningBalance,
            declining_milli_per_year: Some(Milli(150)),
            warranty_end_us: None,
        }
    );
}
