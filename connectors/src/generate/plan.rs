//! The plan of a world: what there is, drawn once, before anything is said of it.

use solyx_schemas::units::{DAY_US, HOUR_US, SECOND_US, TimeUs};

use super::Size;
use super::luck::Luck;
use super::models::{BOUGHT_PLACES, MODELS, Model, OWN_PLACES, Place};

/// The first midnight: 2023-09-28T00:00:00Z, a Thursday, so that a week has the end of a month and a weekend in it.
pub const START_US: i64 = 1_695_859_200 * SECOND_US;
/// When everything is declared: before noon of the day before, when the first prices come out.
pub const OPENING_US: i64 = START_US - 13 * HOUR_US;
/// How long after the last job prices and availability go on.
pub const END_SLACK_US: i64 = DAY_US;
/// GPUs of a node.
pub(super) const NODE_GPUS: i64 = 8;
/// Nodes of a leaf switch and of a row, and of a rack.
pub(super) const NODES_PER_LEAF: i64 = 8;
pub(super) const NODES_PER_RACK: i64 = 4;

/// A site.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) id: String,
    pub(super) place: &'static Place,
    pub(super) provider: &'static str,
    pub(super) own: bool,
}

/// A pool that lists nodes.
#[derive(Debug)]
pub(super) struct NodePool {
    pub(super) id: String,
    /// Index of its site.
    pub(super) site: usize,
    pub(super) model: &'static Model,
    pub(super) owned: bool,
    pub(super) nodes: i64,
}

/// A pool that is leased by the hour.
#[derive(Debug)]
pub(super) struct LeasedPool {
    pub(super) id: String,
    pub(super) site: usize,
    pub(super) model: &'static Model,
    pub(super) spot: bool,
    /// Instances that can be had at most.
    pub(super) instances: i64,
}

/// A tenant that asks for jobs.
#[derive(Debug)]
pub(super) struct Team {
    pub(super) id: String,
    pub(super) company: usize,
}

/// A tenant that teams belong to.
#[derive(Debug)]
pub(super) struct Company {
    pub(super) id: &'static str,
    pub(super) currency: &'static str,
    pub(super) country: &'static str,
}

const COMPANIES: [Company; 4] = [
    Company { id: "acme", currency: "USD", country: "US" },
    Company { id: "borealis", currency: "EUR", country: "DE" },
    Company { id: "cobalt", currency: "GBP", country: "IE" },
    Company { id: "dynamo", currency: "USD", country: "US" },
];
const TEAMS: [&str; 4] = ["vision", "language", "robotics", "search"];

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: String,
    /// Index of its pool.
    pub(super) pool: usize,
    /// Place in its pool, from 0.
    pub(super) place: i64,
}

/// The plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) size: Size,
    pub(super) luck: Luck,
    pub(super) start: TimeUs,
    pub(super) opening: TimeUs,
    /// After the last job comes.
    pub(super) end: TimeUs,
    /// When prices and availability stop.
    pub(super) close: TimeUs,
    pub(super) sites: Vec<Site>,
    pub(super) node_pools: Vec<NodePool>,
    pub(super) leased_pools: Vec<LeasedPool>,
    pub(super) nodes: Vec<Node>,
    pub(super) companies: Vec<&'static Company>,
    pub(super) teams: Vec<Team>,
}

impl Plan {
    pub(super) fn draw(seed: u64, size: Size) -> Self {
        let luck = Luck::new(seed);
        let size = Size { jobs: size.jobs, nodes: size.nodes.max(4), days: size.days.max(1) };
        let (sites, own) = sites(luck, size.nodes);
        let node_pools = node_pools(luck, size.nodes, &sites, own);
        let nodes = node_pools.iter().enumerate().flat_map(|(pool, of)| {
            (0..of.nodes).map(move |place| Node {
                id: format!("{}-{:03}", of.id.replace('/', "-"), place + 1),
                pool,
                place,
            })
        });
        let nodes = nodes.collect();
        let companies: Vec<&Company> = COMPANIES.iter().take(luck.between("companies", "", 2, 4) as usize).collect();
        let teams = companies.iter().enumerate().flat_map(|(company, of)| {
            let teams = luck.between("teams", of.id, 2, 4) as usize;
            TEAMS.iter().take(teams).map(move |team| Team { id: format!("{}/{team}", of.id), company })
        });
        let teams = teams.collect();
        let end = TimeUs(START_US + i64::from(size.days) * DAY_US);
        Self {
            seed,
            size,
            luck,
            start: TimeUs(START_US),
            opening: TimeUs(OPENING_US),
            end,
            close: TimeUs(end.0 + END_SLACK_US),
            leased_pools: leased_pools(luck, size.nodes, &sites, own),
            sites,
            node_pools,
            nodes,
            companies,
            teams,
        }
    }

    /// Our own sites.
    pub(super) fn own_sites(&self) -> impl Iterator<Item = (usize, &Site)> {
        self.sites.iter().enumerate().filter(|(_, site)| site.own)
    }

    /// GPUs of owned and reserved pools.
    pub(super) fn gpus(&self) -> i64 {
        self.nodes.len() as i64 * NODE_GPUS
    }

    /// The clock hours of [from, to) as numbers and starts.
    pub(super) fn hours(&self, from: TimeUs, to: TimeUs) -> impl Iterator<Item = TimeUs> + use<> {
        let first = from.0.div_euclid(HOUR_US);
        let last = (to.0 - 1).div_euclid(HOUR_US);
        (first..=last).map(|hour| TimeUs(hour * HOUR_US))
    }

    /// A team's company.
    pub(super) fn company_of(&self, team: &Team) -> &'static Company {
        self.companies[team.company]
    }
}

/// Our own sites first; says how many they are.
fn sites(luck: Luck, nodes: u32) -> (Vec<Site>, usize) {
    let own = (1 + nodes as usize / 16).min(OWN_PLACES.len());
    let first = luck.below("first-place", "", OWN_PLACES.len() as i64) as usize;
    let built = (0..own).map(|i| &OWN_PLACES[(first + i) % OWN_PLACES.len()]);
    let mut sites: Vec<Site> = built
        .map(|place| Site { id: format!("metapod-{}", place.name), place, provider: "metapod", own: true })
        .collect();
    for (place, provider) in BOUGHT_PLACES.iter().zip(["colo", "stratus", "nimbus", "cirrus"]) {
        sites.push(Site { id: format!("{provider}-{}", place.name), place, provider, own: false });
    }
    (sites, own)
}

/// One owned pool at each site of ours and one reserved pool; the nodes are divided over them.
fn node_pools(luck: Luck, nodes: u32, sites: &[Site], own: usize) -> Vec<NodePool> {
    let pools = own as i64 + 1;
    let nodes = i64::from(nodes);
    (0..=own)
        .map(|i| {
            let owned = i < own;
            let model = &MODELS[luck.below("pool-model", &i.to_string(), 3) as usize];
            let share = nodes / pools + i64::from((i as i64) < nodes % pools);
            NodePool { id: format!("{}/{}", sites[i].id, model.id), site: i, model, owned, nodes: share }
        })
        .collect()
}

/// On-demand and spot pools of three providers.
fn leased_pools(luck: Luck, nodes: u32, sites: &[Site], own: usize) -> Vec<LeasedPool> {
    let mut pools = Vec::new();
    for (site, of) in sites.iter().enumerate().skip(own + 1) {
        for (n, spot) in [(0, false), (1, true)] {
            let model = luck.pick("leased-model", &format!("{}/{n}", of.id), &MODELS);
            let id = format!("{}/{}{}", of.id, model.id, if spot { "-spot" } else { "" });
            let most = i64::from(nodes / 6).max(2);
            pools.push(LeasedPool { id, site, model, spot, instances: luck.between("instances", &of.id, 2, most) });
        }
    }
    pools
}
