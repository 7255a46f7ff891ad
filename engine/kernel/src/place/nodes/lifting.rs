//! Which limit keeps a gang out of a pool where it fits nowhere: one after the other is lifted until it fits.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{NodeId, RefId};

use super::super::Asking;
use super::super::domains::Seeker;
use super::super::layout::{Layout, level_name, spread_name};
use super::{Ground, Margin, Promise, Wanted, replica_w, shared_limit};
use crate::packing::{Ask, Inventory, NodeHandle};
use crate::rows::{limit, limit_of};

/// Promises among which the one is looked for that alone is in the way of a gang.
const NAMED_MAX: usize = 4;

/// A gang that fits nowhere in a pool.
pub(super) struct Lifting<'a, 'g> {
    pub ground: &'g Ground<'a>,
    pub seeker: Seeker<'g>,
    pub inventory: &'g mut Inventory,
    /// Its layout, without what it only prefers.
    pub layout: Layout,
    /// Nodes of the pool.
    pub nodes: Option<&'g BTreeSet<NodeId>>,
    /// Whether it may be refused a node that has room.
    pub is_picky: bool,
}

impl Lifting<'_, '_> {
    /// The limit that binds.
    pub fn limit(mut self) -> Limit {
        let found = self
            .promise()
            .or_else(|| self.power())
            .or_else(|| self.attestation())
            .or_else(|| self.layout())
            .or_else(|| self.others())
            .or_else(|| self.beside_gpus());
        let Wanted { asking: Asking { spec, ask, .. }, pool, .. } = self.ground.wanted;
        found
            .or_else(|| shared_limit(LimitKind::Gpus, pool.pool.as_str(), spec, ask, 0))
            .unwrap_or_else(|| self.gpus(LimitKind::Gpus, "GPU/1000 on acceptable nodes"))
    }

    /// Whether it would fit if it asked for this, lay like this and might go there.
    fn fits(&mut self, ask: &Ask, layout: Layout, accepts: &dyn Fn(NodeHandle) -> bool) -> bool {
        Seeker { ask, ..self.seeker }.choose(self.inventory, layout, accepts).is_some()
    }

    /// The same of what it asks for on all nodes with room.
    fn fits_laid(&mut self, layout: Layout) -> bool {
        self.fits(self.seeker.ask, layout, &|_| true)
    }

    fn fits_beside(&mut self, before: &[&Promise], margin: Margin) -> bool {
        let ground = self.ground;
        self.fits(self.seeker.ask, self.layout, &|handle| ground.accepts(handle, before, margin))
    }

    fn gpus(&self, kind: LimitKind, unit: &str) -> Limit {
        let wanted = self.ground.wanted;
        limit_of(kind, wanted.pool.pool.as_str(), wanted.asking.gpu_milli(), 0, unit)
    }

    /// Promises that go before it: the one that alone is in the way, if it is one, as far as that is looked for.
    fn promise(&mut self) -> Option<Limit> {
        let before = self.ground.wanted.before;
        if before.is_empty() || !self.fits_beside(&[], Margin::Least) {
            return None;
        }
        let alone = before.iter().take(NAMED_MAX).position(|promise| {
            let others: Vec<&Promise> = before.iter().copied().filter(|other| other.job != promise.job).collect();
            self.fits_beside(&others, Margin::Least)
        });
        Some(before[alone.unwrap_or(0)].limit())
    }

    fn power(&mut self) -> Option<Limit> {
        if !self.fits_beside(&[], Margin::Any) {
            return None;
        }
        let Wanted { state, asking: Asking { ask, .. }, pool, .. } = self.ground.wanted;
        let overload = self.ground.power.and_then(|power| {
            self.nodes
                .into_iter()
                .flatten()
                .find_map(|node| power.overload_with(&BTreeMap::from([(node.clone(), replica_w(state, ask, node))])))
        });
        Some(overload.map_or_else(|| limit(LimitKind::Power), |overload| overload.limit(&pool.site)))
    }

    fn attestation(&mut self) -> Option<Limit> {
        let Wanted { asking: Asking { spec, .. }, pool, .. } = self.ground.wanted;
        let binds = spec.attestation_required && self.fits_laid(self.layout);
        let subject = || RefId::from(pool.pool.as_str());
        binds.then(|| Limit { subject: Some(subject()), ..limit(LimitKind::Attestation) })
    }

    fn layout(&mut self) -> Option<Limit> {
        let layout = self.layout;
        if layout.is_free() || !self.fits_laid(Layout::default()) {
            return None;
        }
        let name = self.ground.wanted.pool.pool.as_str();
        let replicas = self.seeker.replicas;
        Some(match (layout.required, layout.spread) {
            (Some(level), _) if !self.fits_laid(Layout { spread: None, ..layout }) => {
                let domain = level_name(level);
                let unit = match layout.segment {
                    Some(segment) => format!("replicas in segments of {segment} within one {domain}"),
                    None => format!("replicas in one {domain}"),
                };
                limit_of(LimitKind::FabricDomain, name, replicas, self.seeker.most(self.inventory, layout), &unit)
            }
            (_, Some((level, skew))) => {
                let unit = format!("replicas over {}s with a skew of {skew}", spread_name(level));
                limit_of(LimitKind::Spread, name, replicas, self.most_spread(), &unit)
            }
            _ => limit_of(LimitKind::FabricDomain, name, replicas, 0, "replicas in one domain"),
        })
    }

    /// The most replicas that lie as they are to. Where so many are held, so are fewer.
    fn most_spread(&mut self) -> i64 {
        let (mut most, mut too_many) = (0, self.seeker.replicas);
        while too_many - most > 1 {
            let between = most + (too_many - most) / 2;
            let seeker = Seeker { replicas: between, ..self.seeker };
            match seeker.choose(self.inventory, self.layout, &|_| true) {
                Some(_) => most = between,
                None => too_many = between,
            }
        }
        most
    }

    /// There is room, where others are to go or where this one does not go again.
    fn others(&mut self) -> Option<Limit> {
        let anywhere = Layout::default();
        let may_be_refused = self.is_picky || !self.layout.is_free();
        if !may_be_refused || !self.fits_laid(anywhere) {
            return None;
        }
        let ground = self.ground;
        let mine = |handle: NodeHandle| ground.names.get(&handle).is_some_and(|node| ground.may_ever_take(node));
        Some(match self.fits(self.seeker.ask, anywhere, &mine) {
            true => self.gpus(LimitKind::Draining, "GPU/1000 on nodes that are kept for no other job"),
            false => self.gpus(LimitKind::Gpus, "GPU/1000 on acceptable nodes"),
        })
    }

    /// What it asks for beside GPUs, one after the other taken away.
    fn beside_gpus(&mut self) -> Option<Limit> {
        /// Takes a need away, and says how large it was.
        type Lift = fn(&mut Ask) -> i64;
        let lifts: [(LimitKind, Lift, &str); 3] = [
            (LimitKind::Cpu, |ask| std::mem::take(&mut ask.cpu_milli), "CPU/1000 beside the GPUs"),
            (LimitKind::Memory, |ask| std::mem::take(&mut ask.memory_mib), "MiB beside the GPUs"),
            (LimitKind::Scratch, |ask| std::mem::take(&mut ask.scratch_gib), "GiB of scratch beside the GPUs"),
        ];
        let mut less = self.seeker.ask.clone();
        lifts.into_iter().find_map(|(kind, lift, unit)| {
            let each = lift(&mut less);
            let pool = self.ground.wanted.pool.pool.as_str();
            self.fits(&less, Layout::default(), &|_| true)
                .then(|| limit_of(kind, pool, each * self.seeker.replicas, 0, unit))
        })
    }
}
