//! Whether the indexes still say what the state does: each is kept up change by change, and has to be what it would be if it
//! were made anew. Tests ask after every epoch; a restored kernel relies on it.

use std::fmt::Debug;

use solyx_schemas::ids::NodeId;

use super::Index;
use crate::queue::Queue;
use crate::state::State;

impl Index {
    /// Every index that differs from one made anew of the state: which, as it is, as it should be.
    pub fn differences(&self, state: &State) -> Vec<String> {
        let anew = Self::of(state);
        let mut found = Vec::new();
        let mut check = |what: &str, is: &dyn Debug, should: &dyn Debug| {
            let (is, should) = (format!("{is:?}"), format!("{should:?}"));
            if is != should {
                found.push(format!("{what}: is {is}, should be {should}"));
            }
        };
        let in_use = |index: &Self| {
            index
                .uses
                .iter()
                .filter(|(_, used)| used.replicas != 0)
                .map(|(node, used)| (node.clone(), used.clone()))
                .collect::<Vec<_>>()
        };
        check("uses", &in_use(self), &in_use(&anew));
        let filled = |index: &Self| {
            index
                .pool_nodes
                .iter()
                .filter(|(_, nodes)| !nodes.is_empty())
                .map(|(pool, nodes)| (pool.clone(), nodes.clone()))
                .collect::<Vec<_>>()
        };
        check("nodes of pools", &filled(self), &filled(&anew));
        check("failure domains", &self.failure_domains, &anew.failure_domains);
        check("runs that keep others off", &self.keepers, &anew.keepers);
        check("total", &self.total, &anew.total);
        check("homes", &self.homes, &anew.homes);
        let amounts = |of: &std::collections::BTreeMap<solyx_schemas::ids::TenantId, super::Amounts>| {
            of.iter()
                .filter(|(_, used)| **used != super::Amounts::default())
                .map(|(tenant, used)| (tenant.clone(), *used))
                .collect::<Vec<_>>()
        };
        check("tenants", &amounts(&self.tenants), &amounts(&anew.tenants));
        check("families", &amounts(&self.families), &amounts(&anew.families));
        let on_models = |index: &Self| {
            let all =
                index.on_models.iter().flat_map(|(model, of)| of.iter().map(move |(of, milli)| (model, of, *milli)));
            all.filter(|(.., milli)| *milli != 0)
                .map(|(model, of, milli)| (model.clone(), of.clone(), milli))
                .collect::<Vec<_>>()
        };
        check("use of models", &on_models(self), &on_models(&anew));
        let quotas = |index: &Self| {
            index
                .quota_use
                .iter()
                .filter(|(_, milli)| **milli != 0)
                .map(|(key, milli)| (key.clone(), *milli))
                .collect::<Vec<_>>()
        };
        check("use of quotas", &quotas(self), &quotas(&anew));
        let open = |index: &Self| {
            let late = [
                ("redeclared", index.redeclared),
                ("contracts changed", index.contracts_changed),
                ("set aside", index.set_aside.is_touched),
                ("leaving", !index.leaving.is_empty()),
                ("budgets set", !index.budgets_set.is_empty()),
            ];
            index.open_notes().chain(late.into_iter().filter(|(_, is)| *is).map(|(name, _)| name)).collect::<Vec<_>>()
        };
        check("notes that a restored kernel would not know of", &open(self), &open(&anew));
        check("lenders", &self.lenders, &anew.lenders);
        check("ends", &self.ends, &anew.ends);
        let named = |index: &Self| index.handles.keys().cloned().collect::<Vec<_>>();
        check("nodes that take work", &named(self), &named(&anew));
        check("dependents", &self.dependents, &anew.dependents);
        let contracts = |index: &Self| {
            let Queue { namers, drawers, awaiting, .. } = &index.queue;
            (namers.clone(), drawers.clone(), awaiting.clone())
        };
        check("those who name contracts", &contracts(self), &contracts(&anew));
        check("earmarked", &self.earmarked, &anew.earmarked);
        check("stopping", &self.stopping, &anew.stopping);
        check("claimed nodes", &self.claimed, &anew.claimed);
        check("timers", &self.timers, &anew.timers);
        let loads =
            |index: &Self| index.power.iter().map(|(site, power)| (site.clone(), power.loads())).collect::<Vec<_>>();
        check("power", &loads(self), &loads(&anew));
        check("set aside", &self.set_aside.essence(), &anew.set_aside.essence());
        check("shortages", &self.shortages, &anew.shortages);
        let drawn = |index: &Self| {
            index.drawn.iter().filter(|(_, milli)| **milli != 0).map(|(t, m)| (t.clone(), *m)).collect::<Vec<_>>()
        };
        check("drawn", &drawn(self), &drawn(&anew));
        // Groups and tables that follow from a plan are made as nodes come in: they are right when nodes are worth the same.
        let worth = |index: &Self| {
            let of = |id: &NodeId, node| (id.clone(), index.inventory.value(node), index.inventory.fragmentation(node));
            index.handles.iter().map(|(id, node)| of(id, *node)).collect::<Vec<_>>()
        };
        check("worth of nodes", &worth(self), &worth(&anew));
        check("queue", &self.queue.standings(), &anew.queue.standings());
        check("guarantees", &self.queue.guarantees, &anew.queue.guarantees);
        check("groups of lines", &self.queue.groups(), &anew.queue.groups());
        found
    }
}
