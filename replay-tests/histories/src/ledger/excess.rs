//! What is beyond its limit: quotas, and power at every level with either feed lost.

use std::collections::BTreeMap;

use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::ids::*;

use super::{Held, Ledger};

/// One part of a node's load, finely: 1e15 is all of it.
const WHOLE: i128 = 1_000_000_000_000_000;

/// How far something is beyond its limit: in all, and without runs that were told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    pub all: i128,
    pub staying: i128,
    /// Whether runs that were not told to stop have a part in it.
    pub stoppable: bool,
}

impl Ledger {
    /// Everything that is beyond its limit now.
    pub(super) fn excesses(&self) -> BTreeMap<String, Excess> {
        let all = self.beyond(false);
        let staying = self.beyond(true);
        all.into_iter()
            .filter(|(_, (excess, _))| *excess > 0)
            .map(|(what, (excess, _))| {
                let (left, runs) = staying.get(&what).copied().unwrap_or_default();
                (what, Excess { all: excess, staying: left, stoppable: runs })
            })
            .collect()
    }

    /// By what: use less limit, and whether runs have a part in it.
    fn beyond(&self, staying_only: bool) -> BTreeMap<String, (i128, bool)> {
        let runs: Vec<&Held> = self.held.values().filter(|run| !staying_only || !run.stopping).collect();
        let mut beyond = BTreeMap::new();
        let mut gpu: BTreeMap<(&NodeId, i64), i64> = BTreeMap::new();
        // Each instance counts as its slices rounded up: of those on one GPU all but the last may have counted a part too much.
        let mut instances: BTreeMap<(&NodeId, i64), i64> = BTreeMap::new();
        let mut rest: BTreeMap<&NodeId, [i64; 3]> = BTreeMap::new();
        for run in &runs {
            for replica in &run.nodes {
                for index in &replica.gpus {
                    *gpu.entry((&replica.node, *index)).or_default() += replica.gpu_milli_each.0;
                    if self.specs[&run.job].gang.mig_profile.is_some() {
                        *instances.entry((&replica.node, *index)).or_default() += 1;
                    }
                }
                let sums = rest.entry(&replica.node).or_default();
                for (sum, more) in sums.iter_mut().zip([run.cpu, run.memory, run.scratch]) {
                    *sum += more;
                }
            }
        }
        for ((node, index), milli) in &gpu {
            let there = self.nodes[*node].gpus.iter().any(|g| g.index == *index);
            let rounded = instances.get(&(*node, *index)).map_or(0, |count| count - 1);
            let excess = milli - if there { 1_000 + rounded } else { 0 };
            let entry: &mut (i128, bool) = beyond.entry(format!("gpus {node}")).or_default();
            entry.0 += i128::from(excess.max(0));
            entry.1 |= excess > 0;
        }
        for (node, used) in rest {
            let report = &self.nodes[node];
            let have = [report.cpu_milli.0, report.memory_mib.0, report.scratch_gib.0];
            for ((name, used), have) in ["cpu", "memory", "scratch"].iter().zip(used).zip(have) {
                beyond.insert(format!("{name} {node}"), (i128::from(used - have), used > 0));
            }
        }
        self.power(&gpu, &mut beyond);
        self.quota(&runs, &mut beyond);
        beyond
    }

    /// Whether what a job names is in force.
    pub(super) fn draws(&self, spec: &JobRequested) -> bool {
        let term = match (&spec.reservation, &spec.sold_lease) {
            (Some(reservation), _) => self.reservations.get(reservation),
            (None, Some(lease)) => self.leases.get(lease),
            (None, None) => None,
        };
        spec.gang.gpus.0 > 0 && term.is_some_and(|(from, to)| *from <= self.now && self.now < *to)
    }

    fn quota(&self, runs: &[&Held], beyond: &mut BTreeMap<String, (i128, bool)>) {
        for ((tenant, project, model), quota) in &self.quotas {
            let Some(borrow) = quota.borrowing_limit_milli else { continue };
            let used: i64 = runs
                .iter()
                .filter(|run| !run.draws && self.is_below(&run.tenant, tenant))
                .filter(|run| project.is_none() || (run.tenant == *tenant && run.project == *project))
                .filter(|run| model.as_ref().is_none_or(|model| *model == run.model))
                .map(|run| run.milli())
                .sum();
            let subject = model.as_ref().map_or(tenant.to_string(), |model| format!("{tenant}/{model}"));
            let what = format!("quota-{} {subject}", project.as_ref().map_or("", |p| p.as_str()));
            beyond.insert(what, (i128::from(used - quota.guaranteed_milli.0 - borrow.0), used > 0));
        }
    }

    fn is_below(&self, tenant: &TenantId, above: &TenantId) -> bool {
        let mut at = Some(tenant);
        for _ in 0..100 {
            match at {
                Some(tenant) if tenant == above => return true,
                Some(tenant) => at = self.parents.get(tenant),
                None => return false,
            }
        }
        false
    }

    fn power(&self, gpu: &BTreeMap<(&NodeId, i64), i64>, beyond: &mut BTreeMap<String, (i128, bool)>) {
        // Nothing is known of the power of a site that nobody has declared, and nothing runs there.
        for site in &self.sites {
            let roots: Vec<&ElementId> = self
                .elements
                .iter()
                .filter(|((s, _), e)| s == site && e.parents.is_empty())
                .map(|((_, id), _)| id)
                .collect();
            let mut cases = vec![None];
            if roots.len() > 1 {
                cases.extend(roots.into_iter().map(Some));
            }
            for lost in cases {
                let mut load: BTreeMap<Option<&ElementId>, (i128, bool)> = BTreeMap::new();
                for (node, report) in self.nodes.iter().filter(|(id, _)| !self.gone.contains(*id)) {
                    if self.pools.get(&report.pool).is_none_or(|pool| pool.site != *site) {
                        continue;
                    }
                    let busy = |g: &&GpuReport| gpu.get(&(node, g.index)).is_some_and(|milli| *milli > 0);
                    let gpus_w: i64 = report.gpus.iter().filter(busy).map(|g| g.max_w.0).sum();
                    let w = i128::from(report.idle_w.0 + gpus_w);
                    let mut shares = BTreeMap::from([(None, WHOLE)]);
                    let live: Vec<_> = report.feeds.iter().filter(|f| self.live(site, &f.element, lost)).collect();
                    let sum: i128 = live.iter().map(|f| i128::from(f.share_milli.0)).sum();
                    for feed in live {
                        let share = WHOLE * i128::from(feed.share_milli.0) / sum.max(1);
                        self.up(site, &feed.element, lost, share, &mut shares);
                    }
                    for (element, share) in shares {
                        let entry = load.entry(element).or_default();
                        entry.0 += w * share;
                        entry.1 |= gpus_w > 0 && share > 0;
                    }
                }
                for (element, (load, runs)) in load {
                    let Some(limit) = self.limit_w_1000(site, element) else { continue };
                    let over = load - limit * WHOLE / 1_000;
                    let name = element.map_or("site", |e| e.as_str());
                    let what = match lost {
                        Some(root) => format!("power {site}/{name}:without:{root}"),
                        None => format!("power {site}/{name}"),
                    };
                    // Below a milliwatt is rounding.
                    beyond.insert(what, ((over / (WHOLE / 1_000)), runs));
                }
            }
        }
    }

    fn live(&self, site: &SiteId, id: &ElementId, lost: Option<&ElementId>) -> bool {
        let key = (site.clone(), id.clone());
        if lost == Some(id) || self.out.contains(&key) {
            return false;
        }
        self.elements
            .get(&key)
            .is_none_or(|e| e.parents.is_empty() || e.parents.iter().any(|p| self.live(site, p, lost)))
    }

    fn up<'a>(
        &'a self,
        site: &SiteId,
        id: &ElementId,
        lost: Option<&ElementId>,
        share: i128,
        shares: &mut BTreeMap<Option<&'a ElementId>, i128>,
    ) {
        let Some(((_, own), element)) = self.elements.get_key_value(&(site.clone(), id.clone())) else { return };
        *shares.entry(Some(own)).or_default() += share;
        let live: Vec<_> = element.parents.iter().filter(|p| self.live(site, p, lost)).collect();
        for parent in &live {
            self.up(site, parent, lost, share / live.len() as i128, shares);
        }
    }

    fn limit_w_1000(&self, site: &SiteId, element: Option<&ElementId>) -> Option<i128> {
        let own = element.and_then(|e| self.elements.get(&(site.clone(), e.clone())));
        let own = own.map(|e| i128::from(e.limit_w.0) * i128::from(e.derating_milli.0));
        let set = self
            .limits
            .values()
            .filter(|l| l.site == *site && l.element.as_ref() == element)
            .filter(|l| l.from_us.0 <= self.now && l.to_us.is_none_or(|to| self.now < to.0))
            .map(|l| i128::from(l.limit_w.0) * 1_000);
        set.chain(own).min()
    }
}
