//! Nodes of owned and reserved pools from templates: so many equal nodes, divided over leaves, racks and feeds.

use solyx_schemas::events::nodes::*;
use solyx_schemas::ids::{ElementId, Name, NodeId};
use solyx_schemas::units::*;
use solyx_schemas::validity::NODE_GPUS_MAX;

use super::expand::{Builder, Lead, fill, labels};
use super::facility::{declare_rack, install};
use super::format::{self, FleetFile};
use super::{COUNT_MAX, FleetError};

/// The highest number that a first node may have.
const FIRST_MAX: i64 = 1_000_000_000_000;
/// GPUs of all nodes of a file: what is more does not come out of one file.
const GPUS_MAX: i64 = 1_000_000;

pub fn build(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    let mut gpus = 0;
    for nodes in &fleet.nodes {
        let place = format!("nodes {}", nodes.name);
        let Some(pool) = fleet.pool.iter().find(|pool| pool.id == nodes.pool) else {
            let pools: Vec<&str> = fleet.pool.iter().map(|pool| pool.id.as_str()).collect();
            let expected = format!("a pool of this file: {}", pools.join(", "));
            return Err(out.error(&format!("{place}, field pool"), &format!("{:?}", nodes.pool), &expected));
        };
        // A pool is only declared with a model of this file.
        let model = fleet.gpu_model.iter().find(|model| model.id == pool.gpu_model);
        for (field, value, most) in [
            ("count", nodes.count, COUNT_MAX),
            ("per_leaf", nodes.per_leaf, i64::MAX),
            ("per_rack", nodes.per_rack, i64::MAX),
        ] {
            out.within(&format!("{place}, field {field}"), value, 1..=most)?;
        }
        out.within(&format!("{place}, field first"), nodes.first, 0..=FIRST_MAX)?;
        out.within(&format!("pool {}, field gpus", pool.id), pool.gpus, 0..=NODE_GPUS_MAX)?;
        gpus += nodes.count * pool.gpus;
        out.within(&format!("{place}, GPUs of all nodes so far"), gpus, 0..=GPUS_MAX)?;
        if let (Some(limit_w), None) = (nodes.rack_limit_w, &nodes.rack) {
            let expected = format!("the name of a rack, since rack_limit_w is {limit_w}");
            return Err(out.error(&format!("{place}, field rack"), "none", &expected));
        }
        let mut racks_declared = 0;
        for i in 0..nodes.count {
            let template =
                Template { nodes, n: nodes.first + i, leaf: i / nodes.per_leaf + 1, rack: i / nodes.per_rack + 1 };
            if let (Some(limit_w), Some(rack)) = (nodes.rack_limit_w, &nodes.rack)
                && racks_declared < template.rack
            {
                racks_declared = template.rack;
                let parents = nodes.feeds.iter().map(|feed| template.fill(feed)).collect();
                declare_rack(&pool.site, &template.fill(rack), parents, nodes, limit_w, out)?;
            }
            node(&template, &place, pool, model, out)?;
        }
    }
    Ok(())
}

/// One node of a template.
struct Template<'a> {
    nodes: &'a format::Nodes,
    n: i64,
    leaf: i64,
    rack: i64,
}

impl Template<'_> {
    fn fill(&self, template: &str) -> String {
        fill(template, self.n, self.leaf, self.rack)
    }
}

fn node(
    template: &Template<'_>,
    place: &str,
    pool: &format::Pool,
    model: Option<&format::GpuModel>,
    out: &mut Builder,
) -> Result<(), FleetError> {
    let nodes = template.nodes;
    let name = template.fill(&nodes.name);
    let id = NodeId::from(name.as_str());
    let rack = nodes.rack.as_ref().map(|rack| ElementId::from(template.fill(rack)));
    let domain_size = model.map_or(1, |model| model.nvlink.max(1));
    let gpu = |index: i64| GpuReport {
        index,
        uuid: Name::from(format!("GPU-{name}-{index}")),
        model: pool.gpu_model.as_str().into(),
        memory_mib: MemoryMib(pool.gpu_memory_mib.or(model.map(|model| model.memory_mib)).unwrap_or(0)),
        nvlink_domain: (domain_size > 1).then(|| Name::from(format!("{name}/nvlink{}", index / domain_size))),
        max_w: PowerW(model.map_or(0, |model| model.max_w)),
    };
    let lead = out.lead("node", &name);
    out.push(
        place,
        NodeReported {
            event_id: lead.event_id,
            source: lead.source,
            occurred_us: lead.occurred_us,
            node: id.clone(),
            pool: pool.id.as_str().into(),
            gpus: (0..pool.gpus).map(gpu).collect(),
            cpu_milli: CpuMilli(pool.cpus.saturating_mul(1_000)),
            memory_mib: MemoryMib(pool.memory_gib.saturating_mul(1_024)),
            scratch_gib: StorageGib(pool.scratch_gib),
            idle_w: PowerW(nodes.idle_w),
            max_w: PowerW(nodes.max_w),
            feeds: shares(template),
            rack: rack.clone(),
            leaf: nodes.leaf.as_ref().map(|leaf| Name::from(template.fill(leaf))),
            spine: nodes.spine.as_ref().map(|spine| Name::from(template.fill(spine))),
            labels: labels(&nodes.labels),
        },
    )?;
    if let Some(until) = nodes.attested_until {
        let Lead { event_id, source, occurred_us } = out.lead("attested", &name);
        let digest = blake3::hash(name.as_bytes()).to_hex();
        out.push(
            place,
            NodeAttested {
                event_id,
                source,
                occurred_us,
                node: id.clone(),
                method: AttestationMethod::Tpm20,
                verdict: AttestationVerdict::Passed,
                evidence_digest: Name::from(digest.as_str()),
                valid_until_us: until.0,
            },
        )?;
    }
    match &nodes.asset {
        Some(book) => install(place, &format!("sn-{name}"), &pool.site, Some(id), rack, book, out),
        None => Ok(()),
    }
}

/// What a node hangs on: its rack where that is an element of the power tree, which has the feeds as parents; otherwise the feeds
/// themselves in equal shares, and what does not divide falls on the first.
fn shares(template: &Template<'_>) -> Vec<FeedShare> {
    let nodes = template.nodes;
    let feeds: Vec<&String> = match (&nodes.rack, nodes.rack_limit_w) {
        (Some(rack), Some(_)) => vec![rack],
        _ => nodes.feeds.iter().collect(),
    };
    let count = feeds.len().max(1) as i64;
    let share = |(i, feed): (usize, &String)| FeedShare {
        element: ElementId::from(template.fill(feed)),
        share_milli: Milli(1_000 / count + if i == 0 { 1_000 % count } else { 0 }),
    };
    feeds.into_iter().enumerate().map(share).collect()
}
