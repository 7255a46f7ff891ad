//! Nodes of owned and reserved pools, their attestation, and the hardware in the books.

use solyx_schemas::events::assets::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::units::*;

use super::facility::{node_idle_w, node_max_w};
use super::plan::{NODE_GPUS, NODES_PER_LEAF, NODES_PER_RACK, Node, Plan};
use super::world::{World, say, sum};

pub(super) const CPU_MILLI: i64 = 128_000;
pub(super) const MEMORY_MIB: i64 = 1 << 20;
pub(super) const SCRATCH_GIB: i64 = 8_192;
/// How long a verdict holds; it is renewed each day.
const ATTESTED_US: i64 = 36 * HOUR_US;

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    for node in &plan.nodes {
        report(plan, node, NODE_GPUS, "", plan.opening, world);
        let owned = plan.node_pools[node.pool].owned;
        // Reserved nodes are not ours to attest.
        if owned {
            attest(plan, node, world);
            asset(plan, node, world);
        }
    }
}

/// What a node's agent says of it when it finds so many GPUs.
pub(super) fn report(plan: &Plan, node: &Node, gpus: i64, again: &str, at: TimeUs, world: &mut World<'_>) {
    let pool = &plan.node_pools[node.pool];
    let site = &plan.sites[pool.site];
    let model = pool.model;
    let gpu = |index: i64| GpuReport {
        index,
        uuid: format!("GPU-{}-{index}", node.id).as_str().into(),
        model: model.id.into(),
        memory_mib: MemoryMib(model.memory_mib),
        nvlink_domain: (model.nvlink > 1)
            .then(|| format!("{}/nvlink{}", node.id, index / model.nvlink).as_str().into()),
        max_w: PowerW(model.max_w),
    };
    let row = node.place / NODES_PER_LEAF + 1;
    let feed = |name: &str| FeedShare { element: format!("row{row}-{name}").as_str().into(), share_milli: Milli(500) };
    say!(
        world,
        at,
        "node",
        &format!("{}{again}", node.id),
        NodeReported {
            node: node.id.as_str().into(),
            pool: pool.id.as_str().into(),
            gpus: (0..gpus).map(gpu).collect(),
            cpu_milli: CpuMilli(CPU_MILLI),
            memory_mib: MemoryMib(MEMORY_MIB),
            scratch_gib: StorageGib(SCRATCH_GIB),
            idle_w: PowerW(node_idle_w(pool)),
            max_w: PowerW(node_max_w(pool)),
            feeds: if pool.owned { vec![feed("a"), feed("b")] } else { Vec::new() },
            rack: pool.owned.then(|| format!("rack{}", node.place / NODES_PER_RACK + 1).as_str().into()),
            leaf: Some(format!("{}/leaf{row}", site.id).as_str().into()),
            spine: Some(format!("{}/spine1", site.id).as_str().into()),
            labels: Vec::new(),
        }
    );
}

/// A verdict a day; one in forty fails and is made good four hours later, and one node in twelve is never attested.
fn attest(plan: &Plan, node: &Node, world: &mut World<'_>) {
    if plan.luck.chance("unattested", &node.id, 80) {
        return;
    }
    for day in 0..=i64::from(plan.size.days) {
        let id = format!("{}/{day}", node.id);
        let at = if day == 0 { plan.opening } else { TimeUs(plan.start.0 + day * DAY_US - 12 * HOUR_US) };
        let failed = plan.luck.chance("attestation-failed", &id, 25);
        let mut verdict = |id: &str, at: TimeUs, verdict| {
            let method = if plan.luck.chance("attestation-spdm", &node.id, 300) {
                AttestationMethod::Spdm
            } else {
                AttestationMethod::Tpm20
            };
            say!(
                world,
                at,
                "attested",
                id,
                NodeAttested {
                    node: node.id.as_str().into(),
                    method,
                    verdict,
                    evidence_digest: blake3::hash(id.as_bytes()).to_hex().as_str().into(),
                    valid_until_us: TimeUs(at.0 + ATTESTED_US),
                }
            );
        };
        if failed {
            verdict(&id, at, AttestationVerdict::Failed);
            verdict(&format!("{id}/again"), TimeUs(at.0 + 4 * HOUR_US), AttestationVerdict::Passed);
        } else {
            verdict(&id, at, AttestationVerdict::Passed);
        }
    }
}

/// The life of a node's hardware: most were installed long ago, a few come, move, break or go while we look.
fn asset(plan: &Plan, node: &Node, world: &mut World<'_>) {
    let pool = &plan.node_pools[node.pool];
    let site = plan.sites[pool.site].id.as_str();
    let serial = format!("sn-{}", node.id);
    let cost = sum("USD", pool.model.asset_cost);
    let installed = TimeUs(plan.start.0 - plan.luck.between("installed", &serial, 10, 700) * DAY_US);
    let rack = |place: i64| Some(format!("rack{}", place / NODES_PER_RACK + 1).as_str().into());
    if plan.luck.chance("asset-ordered", &serial, 150) {
        say!(
            world,
            plan.opening,
            "asset-ordered",
            &serial,
            AssetOrdered {
                serial: serial.as_str().into(),
                model: pool.model.id.into(),
                vendor: "nvidia".into(),
                cost: cost.clone(),
                due_us: installed,
            }
        );
        say!(
            world,
            plan.opening,
            "asset-received",
            &serial,
            AssetReceived { serial: serial.as_str().into(), site: site.into(), received_us: installed }
        );
    }
    say!(
        world,
        plan.opening,
        "asset",
        &serial,
        AssetInstalled {
            serial: serial.as_str().into(),
            model: pool.model.id.into(),
            vendor: "nvidia".into(),
            site: site.into(),
            node: Some(node.id.as_str().into()),
            rack: rack(node.place),
            cost,
            installed_us: installed,
            life_us: DurationUs(5 * 365 * DAY_US),
            salvage: sum("USD", pool.model.asset_cost / 10),
            method: DepreciationMethod::StraightLine,
            declining_milli_per_year: None,
            warranty_end_us: Some(TimeUs(installed.0 + 3 * 365 * DAY_US)),
        }
    );
    let later = |kind: &str| {
        let span = (plan.end.0 - plan.start.0) / HOUR_US;
        TimeUs(plan.start.0 + plan.luck.below(kind, &serial, span) * HOUR_US)
    };
    if plan.luck.chance("asset-repaired", &serial, 60) {
        say!(
            world,
            later("asset-repaired-at"),
            "asset-repaired",
            &serial,
            AssetRepaired {
                serial: serial.as_str().into(),
                cost: sum("USD", 900),
                description: "a fan was replaced".to_owned(),
            }
        );
    }
    if plan.luck.chance("asset-moved", &serial, 60) {
        say!(
            world,
            later("asset-moved-at"),
            "asset-moved",
            &serial,
            AssetMoved {
                serial: serial.as_str().into(),
                site: site.into(),
                node: Some(node.id.as_str().into()),
                rack: rack(0),
            }
        );
    }
    if plan.luck.chance("asset-retired", &serial, 20) {
        let at = later("asset-retired-at");
        say!(
            world,
            at,
            "asset-retired",
            &serial,
            AssetRetired {
                serial: serial.as_str().into(),
                retired_us: at,
                proceeds: Some(sum("USD", pool.model.asset_cost / 20)),
                reason: "sold".to_owned(),
            }
        );
    }
}
