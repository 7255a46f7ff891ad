//! The part of a fleet file that stands on the ground: sites, power trees, and what belongs to a site as a whole.

use solyx_schemas::events::assets::{AssetInstalled, DepreciationMethod};
use solyx_schemas::events::facility::*;
use solyx_schemas::ids::{ElementId, Name, NodeId, RefId, SiteId};
use solyx_schemas::units::*;

use super::expand::{Builder, Lead, fill, labels, sum, symbols_of};
use super::format::{self, FleetFile};
use super::{COUNT_MAX, FleetError};

pub fn build(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    for site in &fleet.site {
        let Lead { event_id, source, occurred_us } = out.lead("site", &site.id);
        let tier = |storage: &format::Storage| StorageTier {
            tier: Name::from(storage.tier.as_str()),
            price_micros_per_gib_month: RateMicros(storage.price_per_gib_month.0),
            currency: storage.currency.0,
        };
        out.push(
            &format!("site {}", site.id),
            SiteDeclared {
                event_id,
                source,
                occurred_us,
                site: SiteId::from(site.id.as_str()),
                name: if site.name.is_empty() { site.id.clone() } else { site.name.clone() },
                region: site.region.as_str().into(),
                grid_zone: site.grid_zone.as_str().into(),
                country: Name::from(site.country.as_str()),
                certificates: site.certificates.iter().map(|name| Name::from(name.as_str())).collect(),
                latitude_e7: site.latitude.0,
                longitude_e7: site.longitude.0,
                design_pue_milli: Milli(site.pue.0),
                storage_tiers: site.storage.iter().map(tier).collect(),
                labels: labels(&site.labels),
            },
        )?;
        for power in &site.power {
            out.within(&format!("site {}, power {}, field count", site.id, power.element), power.count, 1..=COUNT_MAX)?;
            for n in 1..=power.count {
                let element = fill(&power.element, n, n, n);
                let parents = power.parents.iter().map(|parent| fill(parent, n, n, n)).collect();
                declare_element(&site.id, &element, parents, power, out)?;
            }
        }
    }
    for asset in &fleet.asset {
        let place = format!("asset {}", asset.serial);
        install(&place, &asset.serial, &asset.site, None, None, &asset.book, out)?;
    }
    Ok(())
}

fn declare_element(
    site: &str,
    element: &str,
    parents: Vec<String>,
    power: &format::Power,
    out: &mut Builder,
) -> Result<(), FleetError> {
    let place = format!("site {site}, power {element}");
    let Lead { event_id, source, occurred_us } = out.lead("power", &format!("{site}/{element}"));
    let kind =
        out.symbol(&format!("{place}, field kind"), &power.kind, ElementKind::parse, symbols_of!(ElementKind))?;
    out.push(
        &place,
        PowerElementDeclared {
            event_id,
            source,
            occurred_us,
            site: SiteId::from(site),
            element: ElementId::from(element),
            kind,
            parents: parents.into_iter().map(ElementId::from).collect(),
            limit_w: PowerW(power.limit_w),
            derating_milli: Milli(power.derating.0),
            redundancy_group: power.group.as_deref().map(Name::from),
        },
    )
}

/// A rack that a template of nodes asks for.
pub fn declare_rack(
    site: &str,
    rack: &str,
    parents: Vec<String>,
    nodes: &format::Nodes,
    limit_w: i64,
    out: &mut Builder,
) -> Result<(), FleetError> {
    let power = format::Power {
        element: rack.to_owned(),
        kind: ElementKind::Rack.as_str().to_owned(),
        parents: Vec::new(),
        limit_w,
        derating: nodes.rack_derating,
        group: None,
        count: 1,
    };
    declare_element(site, rack, parents, &power, out)
}

/// An asset in use, with what the books say of it.
pub fn install(
    place: &str,
    serial: &str,
    site: &str,
    node: Option<NodeId>,
    rack: Option<ElementId>,
    book: &format::Book,
    out: &mut Builder,
) -> Result<(), FleetError> {
    let Lead { event_id, source, occurred_us } = out.lead("asset", serial);
    let declining = book.declining_per_year.map(|ratio| Milli(ratio.0));
    out.push(
        place,
        AssetInstalled {
            event_id,
            source,
            occurred_us,
            serial: RefId::from(serial),
            model: Name::from(book.model.as_str()),
            vendor: Name::from(book.vendor.as_str()),
            site: SiteId::from(site),
            node,
            rack,
            cost: sum(book.cost, book.currency),
            installed_us: book.installed.0,
            life_us: book.life.0,
            salvage: sum(book.salvage, book.currency),
            method: match declining {
                Some(_) => DepreciationMethod::DecliningBalance,
                None => DepreciationMethod::StraightLine,
            },
            declining_milli_per_year: declining,
            warranty_end_us: book.warranty_end.map(|moment| moment.0),
        },
    )
}
