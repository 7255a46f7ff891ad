//! Failure domains, and what lies in each.

use std::collections::BTreeSet;
use std::fmt;

use solyx_schemas::events::facility::ElementKind;
use solyx_schemas::ids::*;

use crate::index::Index;
use crate::state::State;

/// What can be lost as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// A site with all its pools, nodes and storage.
    Site(SiteId),
    /// A provider with all its pools; a site where it alone has pools goes with it.
    Provider(ProviderId),
    /// A utility feed of a site: its load falls on what else feeds the nodes.
    Feed(SiteId, ElementId),
    /// A leaf switch of a pool with the nodes on it.
    Fabric(PoolId, Name),
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => write!(f, "site:{site}"),
            Self::Provider(provider) => write!(f, "provider:{provider}"),
            Self::Feed(site, element) => write!(f, "feed:{site}/{element}"),
            Self::Fabric(pool, leaf) => write!(f, "fabric:{pool}/{leaf}"),
        }
    }
}

/// What lies in a failure domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Sites that are lost as a whole, storage included.
    pub sites: BTreeSet<SiteId>,
    /// Pools that are lost as a whole.
    pub pools: BTreeSet<PoolId>,
    /// Nodes that are lost or, of a feed, hang on it.
    pub nodes: BTreeSet<NodeId>,
}

/// Every failure domain: sites, providers, feeds and fabric domains, each in order of name. Instances leased with one order
/// count as one fabric domain when a gang is placed, but nobody can tell which switch they share: they are no domain here.
pub fn domains(state: &State) -> Vec<Domain> {
    let sites = state.sites.iter().map(|(site, _)| Domain::Site(site.clone()));
    let providers: BTreeSet<&ProviderId> =
        state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref()).map(|pool| &pool.provider).collect();
    let feeds = state
        .elements
        .iter()
        .filter(|(_, element)| element.kind == ElementKind::UtilityFeed)
        .map(|((site, element), _)| Domain::Feed(site.clone(), element.clone()));
    let reports = state.nodes.iter().filter(|(_, node)| node.lease.is_none() && !node.gone);
    let fabrics: BTreeSet<(&PoolId, &Name)> = reports
        .filter_map(|(_, node)| node.report.as_ref())
        .filter_map(|report| Some((&report.pool, report.leaf.as_ref()?)))
        .collect();
    let providers = providers.into_iter().map(|provider| Domain::Provider(provider.clone()));
    let fabrics = fabrics.into_iter().map(|(pool, leaf)| Domain::Fabric(pool.clone(), leaf.clone()));
    sites.chain(providers).chain(feeds).chain(fabrics).collect()
}

/// What lies in a domain.
pub(crate) fn contents(state: &State, index: &Index, domain: &Domain) -> Contents {
    let declared = || state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref());
    let pools_where = |inside: &dyn Fn(&&solyx_schemas::events::capacity::PoolDeclared) -> bool| {
        declared().filter(inside).map(|pool| pool.pool.clone()).collect::<BTreeSet<PoolId>>()
    };
    let nodes_of = |pools: &BTreeSet<PoolId>| {
        pools.iter().filter_map(|pool| index.pool_nodes.get(pool)).flatten().cloned().collect::<BTreeSet<NodeId>>()
    };
    let report = |node: &NodeId| state.nodes.get(node).and_then(|node| node.report.as_ref());
    match domain {
        Domain::Site(site) => {
            let pools = pools_where(&|pool| pool.site == *site);
            Contents { sites: BTreeSet::from([site.clone()]), nodes: nodes_of(&pools), pools }
        }
        Domain::Provider(provider) => {
            let pools = pools_where(&|pool| pool.provider == *provider);
            let own = |site: &SiteId| declared().all(|pool| pool.site != *site || pool.provider == *provider);
            let sites = declared().filter(|pool| pool.provider == *provider).map(|pool| pool.site.clone());
            Contents { sites: sites.filter(own).collect(), nodes: nodes_of(&pools), pools }
        }
        Domain::Feed(site, element) => {
            let hangs = |node: &NodeId| {
                let feeds = report(node).into_iter().flat_map(|report| &report.feeds);
                feeds.into_iter().any(|feed| is_under(state, site, &feed.element, element))
            };
            let nodes = nodes_of(&pools_where(&|pool| pool.site == *site));
            Contents { nodes: nodes.into_iter().filter(hangs).collect(), ..Contents::default() }
        }
        Domain::Fabric(pool, leaf) => {
            let on_leaf = |node: &NodeId| report(node).is_some_and(|report| report.leaf.as_ref() == Some(leaf));
            let nodes = nodes_of(&BTreeSet::from([pool.clone()]));
            Contents { nodes: nodes.into_iter().filter(on_leaf).collect(), ..Contents::default() }
        }
    }
}

/// Whether an element of a site's power tree is fed by another, over whatever lies between.
fn is_under(state: &State, site: &SiteId, element: &ElementId, above: &ElementId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![element.clone()];
    while let Some(id) = open.pop() {
        if id == *above {
            return true;
        }
        if let Some(found) = state.elements.get(&(site.clone(), id.clone()))
            && seen.insert(id)
        {
            open.extend(found.parents.iter().cloned());
        }
    }
    false
}
