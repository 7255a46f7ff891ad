//! What suppliers and our own hardware are, as the log says it.

use solyx_schemas::events::Event;
use solyx_schemas::events::assets::AssetInstalled;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::events::world::{InstanceLeaseEnded, InstanceLeased};
use solyx_schemas::ids::NodeId;
use solyx_schemas::units::TimeUs;

use super::Billing;
use super::rows::*;

impl Billing {
    pub(super) fn supply_event(&mut self, at: EventAt, event: &Event, now: TimeUs) {
        match event {
            Event::PoolDeclared(e) => {
                let row = PoolRow {
                    provider: e.provider.clone(),
                    site: e.site.clone(),
                    class: e.class,
                    gpus: e.shape.gpus.0,
                    minimum_us: e.minimum_billing_us.0,
                    granularity_us: e.granularity_us.0,
                };
                self.tables.pools.insert(e.pool.clone(), row);
            }
            Event::SiteDeclared(e) => {
                let row = SiteRow { zone: e.grid_zone.clone(), pue_milli: e.design_pue_milli.0 };
                self.tables.sites.insert(e.site.clone(), row);
            }
            Event::NodeReported(e) => {
                // As large as it ever was: what a smaller report leaves out stands idle and is no more to those who use the rest.
                let before = self.tables.nodes.get(&e.node).map_or(0, |node| node.gpu_milli);
                let gpu_milli = before.max(e.gpus.len() as i64 * 1_000);
                self.tables.nodes.insert(e.node.clone(), NodeRow { pool: e.pool.clone(), gpu_milli });
            }
            Event::NodeStateChanged(e) if e.state == NodeState::Fenced => self.node_gone(&e.node, now),
            Event::NodeRemoved(e) => self.node_gone(&e.node, now),
            Event::EnergyPriced(e) => self.energy_priced(e),
            Event::PowerMeasured(e) => {
                if let Err(error) = self.power_measured(e) {
                    self.problem(at, e.subject.to_string(), error.to_string());
                }
            }
            Event::InstanceLeased(e) => self.instance_leased(e),
            Event::InstanceLeaseEnded(e) => self.lease_ended(e, now),
            Event::SupplierInvoiced(e) => {
                let lines = e.lines.iter().map(|line| (line.subject.clone(), line.amount.clone())).collect();
                let row = SupplierRow { period: e.period.clone(), lines };
                self.tables.supplier_invoices.insert((e.provider.clone(), e.invoice.clone()), row);
            }
            Event::CommitmentBought(e) => {
                let row = CommitmentRow {
                    provider: e.provider.clone(),
                    from_us: e.from_us,
                    to_us: e.to_us,
                    price: e.price.clone(),
                };
                self.tables.commitments.insert(e.commitment.clone(), row);
            }
            Event::AssetInstalled(e) => self.asset_installed(e),
            Event::AssetMoved(e) => {
                if let Some(asset) = self.tables.assets.get_mut(&e.serial) {
                    asset.site = e.site.clone();
                    asset.nodes.push((e.node.clone(), e.occurred_us));
                }
            }
            Event::AssetRetired(e) => {
                if let Some(asset) = self.tables.assets.get_mut(&e.serial) {
                    asset.retired_us = Some(e.retired_us);
                }
            }
            _ => {}
        }
    }

    fn instance_leased(&mut self, e: &InstanceLeased) {
        let Some(pool) = self.tables.pools.get(&e.pool) else { return };
        let row = LeaseRow {
            pool: e.pool.clone(),
            provider: pool.provider.clone(),
            gpus: pool.gpus,
            minimum_us: pool.minimum_us,
            granularity_us: pool.granularity_us,
            price: e.price_micros_per_gpu_hour,
            currency: e.currency,
            ended: None,
        };
        self.tables.leases.insert((e.instance.clone(), e.from_us), row);
    }

    fn lease_ended(&mut self, e: &InstanceLeaseEnded, now: TimeUs) {
        // The lease is found by its instance: a provider may correct the start when it sends the bill.
        let open = self.tables.leases.from(&(e.instance.clone(), TimeUs::ZERO));
        let key = open
            .take_while(|((instance, _), _)| *instance == e.instance)
            .find(|(_, lease)| lease.ended.is_none())
            .map(|(key, _)| key.clone());
        if let Some(lease) = key.and_then(|key| self.tables.leases.get_mut(&key)) {
            lease.ended = Some((e.to_us, e.charged.clone()));
        }
        self.node_gone(&NodeId::from(e.instance.as_str()), now);
    }

    fn asset_installed(&mut self, e: &AssetInstalled) {
        let row = AssetRow {
            site: e.site.clone(),
            nodes: vec![(e.node.clone(), e.installed_us)],
            cost: e.cost.clone(),
            installed_us: e.installed_us,
            life_us: e.life_us.0,
            salvage_micros: if e.salvage.currency == e.cost.currency { e.salvage.micros.0 } else { 0 },
            method: e.method,
            declining_milli: e.declining_milli_per_year.map_or(0, |milli| milli.0),
            retired_us: None,
        };
        self.tables.assets.insert(e.serial.clone(), row);
    }
}
