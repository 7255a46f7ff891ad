//! Capacity set aside: advance reservations and sold leases, as ordered sums by place.
//!
//! Places form a tree: the fleet, a GPU model, a model at a site, a pool. Every contract is of one of them, so that all contracts
//! can be served at once exactly if no place owes more than it has (Hall's condition, which for a tree is one comparison per
//! place). Two laws hold at each place:
//! - what is free, or held by runs that can be told to stop, is at least what is sold and reserved and not in use by its owners;
//! - what is free or becoming free is at least what is reserved now, and what lessees' jobs in line ask for.
//!
//! Only owned and reserved pools count. All of it is derived; without a living contract nothing is kept and nothing is looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::*;
use solyx_schemas::units::TimeUs;

use crate::rows::{Run, Spec, limit, limit_of};
use crate::state::State;

/// What a job draws on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contract {
    /// A sold lease.
    Lease(RefId),
    /// An advance reservation.
    Reservation(RefId),
}

impl Contract {
    /// How it is named in limits.
    pub fn subject(&self) -> String {
        match self {
            Self::Lease(id) => format!("lease:{id}"),
            Self::Reservation(id) => format!("reservation:{id}"),
        }
    }
}

/// What a run takes of a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// The contract.
    pub contract: Contract,
    /// Thousandths of GPUs; those of whole nodes for a run that has its nodes to itself.
    pub gpu_milli: i64,
}

/// A place that GPUs can be set aside in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All owned and reserved pools.
    Fleet,
    /// A model, at whatever site.
    Model(GpuModelId),
    /// A model at a site.
    Site(GpuModelId, SiteId),
    /// A pool.
    Pool(PoolId),
}

impl Place {
    /// How it is named in limits.
    pub fn subject(&self) -> String {
        match self {
            Self::Fleet => "fleet".to_owned(),
            Self::Model(model) => format!("model:{model}"),
            Self::Site(model, site) => format!("site:{site}/{model}"),
            Self::Pool(pool) => format!("pool:{pool}"),
        }
    }
}

/// What a contract says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whose it is; tenants below may draw on it.
    pub tenant: TenantId,
    /// Thousandths of GPUs.
    pub gpu_milli: i64,
    /// Where.
    pub place: Place,
    /// From.
    pub from: TimeUs,
    /// To.
    pub to: TimeUs,
}

impl Terms {
    /// Whether it is in force.
    pub fn holds_at(&self, at: TimeUs) -> bool {
        self.from <= at && at < self.to
    }
}

/// The contract that a job names: a reservation before a lease.
pub fn named(spec: &Spec) -> Option<Contract> {
    let reservation = spec.reservation.clone().map(Contract::Reservation);
    reservation.or_else(|| spec.sold_lease.clone().map(Contract::Lease))
}

/// What a contract says now.
pub fn terms(state: &State, contract: &Contract) -> Option<Terms> {
    match contract {
        Contract::Lease(id) => state.sold_leases.get(id).map(|sold| Terms {
            tenant: sold.tenant.clone(),
            gpu_milli: sold.gpus.0.saturating_mul(1_000),
            place: match &sold.site {
                Some(site) => Place::Site(sold.gpu_model.clone(), site.clone()),
                None => Place::Model(sold.gpu_model.clone()),
            },
            from: sold.from_us,
            to: sold.to_us,
        }),
        Contract::Reservation(id) => state.reservations.get(id).map(|set| Terms {
            tenant: set.tenant.clone(),
            gpu_milli: set.gpus.0.saturating_mul(1_000),
            place: match (&set.pool, &set.gpu_model) {
                (Some(pool), _) => Place::Pool(pool.clone()),
                (None, Some(model)) => Place::Model(model.clone()),
                (None, None) => Place::Fleet,
            },
            from: set.from_us,
            to: set.to_us,
        }),
    }
}

/// The contract that a job draws on now; none for one whose contract is over, which waits like any other.
pub fn in_force(state: &State, spec: &Spec) -> Option<(Contract, Terms)> {
    let contract = named(spec)?;
    let terms = terms(state, &contract).filter(|terms| terms.holds_at(state.now()))?;
    Some((contract, terms))
}

/// What keeps a job out of the line: a contract that is unknown, another's, or not yet in force, with the instant from which
/// it is.
pub fn parking(state: &State, spec: &Spec) -> Option<(Limit, Option<TimeUs>)> {
    let contract = named(spec)?;
    let about = |kind| Limit { subject: Some(RefId::from(contract.subject())), ..limit(kind) };
    let Some(terms) = terms(state, &contract) else { return Some((about(LimitKind::Undeclared), None)) };
    if !may_draw(state, spec, &terms) {
        return Some((about(LimitKind::Reservation), None));
    }
    (terms.from > state.now() && terms.from < terms.to).then(|| (about(LimitKind::Reservation), Some(terms.from)))
}

/// Whether a job's tenant may draw: it is the contract's, or one below it.
pub fn may_draw(state: &State, spec: &Spec, terms: &Terms) -> bool {
    state.lineage(&spec.tenant).any(|tenant| *tenant == terms.tenant)
}

/// What can never be: another's contract, or more than all of it.
pub fn refusal(state: &State, spec: &Spec, asked: i64) -> Option<(Limit, String)> {
    let contract = named(spec)?;
    let terms = terms(state, &contract)?;
    let subject = contract.subject();
    if !may_draw(state, spec, &terms) {
        let detail = format!("{subject} is of tenant {}, the job of {}", terms.tenant, spec.tenant);
        return Some((limit_of(LimitKind::Reservation, &subject, asked, 0, "GPU/1000"), detail));
    }
    (asked > terms.gpu_milli && terms.to > state.now()).then(|| {
        let detail = format!("the job asks for {asked} thousandths of GPUs, {subject} has {} in all", terms.gpu_milli);
        (limit_of(LimitKind::Reservation, &subject, asked, terms.gpu_milli, "GPU/1000"), detail)
    })
}

/// Whether a pool is one that contracts are held from.
pub fn is_standing(pool: &PoolDeclared) -> bool {
    matches!(pool.class, CapacityClass::Owned | CapacityClass::Reserved)
}

/// The places that a pool lies in, the narrowest first.
pub fn places_of(pool: &PoolDeclared) -> [Place; 4] {
    let (model, site) = (pool.gpu_model.clone(), pool.site.clone());
    [Place::Pool(pool.pool.clone()), Place::Site(model.clone(), site), Place::Model(model), Place::Fleet]
}

/// A place and those around it, the narrowest first.
pub fn around(state: &State, place: &Place) -> Vec<Place> {
    match place {
        Place::Fleet => vec![Place::Fleet],
        Place::Model(_) => vec![place.clone(), Place::Fleet],
        Place::Site(model, _) => vec![place.clone(), Place::Model(model.clone()), Place::Fleet],
        Place::Pool(pool) => match state.pools.get(pool).and_then(|pool| pool.declared.as_ref()) {
            Some(declared) if is_standing(declared) => places_of(declared).into(),
            // There is nothing that it could be held from.
            _ => vec![place.clone()],
        },
    }
}

/// Whether a run can be told to stop for who is owed the room: it was told to already, its contract is over, its job lets
/// itself be stopped, or it was let start because it said it would be over by now.
pub fn is_reclaimable(state: &State, run: &Run) -> bool {
    if run.stop.is_some() {
        return true;
    }
    if let Some(draw) = &run.draws {
        return !terms(state, &draw.contract).is_some_and(|terms| terms.holds_at(state.now()));
    }
    let lets = run.preemptible && state.classes.get(&run.class).is_none_or(|class| class.preemptible);
    lets || run.yields_at_us.is_some_and(|at| at <= state.now())
}

/// A contract that is not over, and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub terms: Terms,
    around: Vec<Place>,
    in_force: bool,
    /// A reservation that is in force or begins within the time that a run has to stop: it is kept free.
    kept: bool,
}

/// What a node has for contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeShare {
    pub places: [Place; 4],
    /// Thousandths of GPUs that are free or becoming free.
    pub free: i64,
    /// The same, and what runs hold that can be told to stop.
    pub lendable: i64,
    /// All of its usable GPUs.
    pub total: i64,
    /// What runs hold that are to be over by an instant.
    pub yields: BTreeMap<TimeUs, i64>,
}

/// What a shortage is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// What is owed now and could not be had.
    Now,
    /// More set aside for an instant than there are GPUs.
    Ever,
}

/// What is missing by place: thousandths of GPUs asked and had.
pub type Shortages = BTreeMap<(Place, When), (i64, i64)>;

type Sums = BTreeMap<Place, i64>;

fn add<K: Ord + Clone>(sums: &mut BTreeMap<K, i64>, key: &K, milli: i64) {
    if milli == 0 {
        return;
    }
    let sum = sums.entry(key.clone()).or_default();
    *sum += milli;
    if *sum == 0 {
        sums.remove(key);
    }
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAside {
    pub(crate) contracts: BTreeMap<Contract, Standing>,
    pub(crate) nodes: BTreeMap<NodeId, NodeShare>,
    free: Sums,
    lendable: Sums,
    total: Sums,
    /// In use by those who draw, runs that are stopping not among them.
    used: BTreeMap<Contract, i64>,
    /// Set aside now and not in use.
    owed: Sums,
    /// By how much what is set aside changes later.
    changes: BTreeMap<Place, BTreeMap<TimeUs, i64>>,
    /// What is held by runs that are to be over by an instant.
    yields: BTreeMap<Place, BTreeMap<TimeUs, i64>>,
    /// Instants at which something changes by itself.
    instants: BTreeSet<TimeUs>,
    /// To be left free now.
    kept: Sums,
    /// What jobs in line ask of their contracts; set at the beginning of each pass.
    asked: BTreeMap<Contract, i64>,
    /// Something has changed since shortages were last looked at.
    pub(crate) is_touched: bool,
}

impl SetAside {
    /// The contracts that are not over, and nothing of what is held yet.
    pub(crate) fn of(state: &State) -> Self {
        let mut sums = Self::default();
        let (now, grace) = (state.now(), state.policy().grace());
        let leases = state.sold_leases.iter().map(|(id, _)| Contract::Lease(id.clone()));
        let all = leases.chain(state.reservations.iter().map(|(id, _)| Contract::Reservation(id.clone())));
        for contract in all {
            let Some(terms) = terms(state, &contract).filter(|terms| terms.to > now && terms.from < terms.to) else {
                continue;
            };
            let keep_from = TimeUs(terms.from.0.saturating_sub(grace.0));
            let is_kept = matches!(contract, Contract::Reservation(_));
            let around = around(state, &terms.place);
            for place in &around {
                let changes = sums.changes.entry(place.clone()).or_default();
                if terms.from > now {
                    add(changes, &terms.from, terms.gpu_milli);
                }
                add(changes, &terms.to, -terms.gpu_milli);
            }
            let keeps = [keep_from].into_iter().filter(|_| is_kept);
            sums.instants.extend(keeps.chain([terms.from, terms.to]).filter(|at| *at > now));
            let (in_force, kept) = (terms.holds_at(now), is_kept && keep_from <= now);
            sums.contracts.insert(contract, Standing { terms, around, in_force, kept });
        }
        let contracts: Vec<Contract> = sums.contracts.keys().cloned().collect();
        contracts.iter().for_each(|contract| sums.owe(contract, 1));
        sums.is_touched = true;
        sums
    }

    /// Whether there is any living contract.
    pub fn is_on(&self) -> bool {
        !self.contracts.is_empty()
    }

    /// The next instant at which something changes by itself.
    pub(crate) fn next_instant(&self, now: TimeUs) -> Option<TimeUs> {
        let yields = self.yields.get(&Place::Fleet).and_then(|yields| yields.keys().find(|at| **at > now));
        let bound = self.instants.iter().find(|at| **at > now);
        yields.into_iter().chain(bound).min().copied()
    }

    /// Counts what is owed and kept of a contract, or takes it away with a sign of −1.
    fn owe(&mut self, contract: &Contract, sign: i64) {
        let Some(standing) = self.contracts.get(contract) else { return };
        let left = self.left(contract);
        let asked = self.asked.get(contract).copied().unwrap_or(0);
        let kept = match (standing.kept, standing.in_force) {
            (true, _) => left,
            (false, true) => left.min(asked),
            (false, false) => 0,
        };
        for place in &standing.around {
            add(&mut self.owed, place, if standing.in_force { sign * left } else { 0 });
            add(&mut self.kept, place, sign * kept);
        }
    }

    /// What a contract has beside what is in use of it.
    pub fn left(&self, contract: &Contract) -> i64 {
        let all = self.contracts.get(contract).map_or(0, |standing| standing.terms.gpu_milli);
        (all - self.used.get(contract).copied().unwrap_or(0)).max(0)
    }

    /// Takes in a run, or takes it out with a sign of −1. One that was told to stop counts as gone.
    pub(crate) fn count(&mut self, run: &Run, sign: i64) {
        let Some(draw) = run.draws.as_ref().filter(|_| run.stop.is_none()) else { return };
        self.is_touched = true;
        self.owe(&draw.contract, -1);
        add(&mut self.used, &draw.contract, sign * draw.gpu_milli);
        self.owe(&draw.contract, 1);
    }

    /// Has a node have so much.
    pub(crate) fn set_node(&mut self, id: &NodeId, share: Option<NodeShare>) {
        let before = match &share {
            Some(share) => self.nodes.insert(id.clone(), share.clone()),
            None => self.nodes.remove(id),
        };
        for (share, sign) in before.iter().map(|before| (before, -1)).chain(share.iter().map(|share| (share, 1))) {
            for place in &share.places {
                add(&mut self.free, place, sign * share.free);
                add(&mut self.lendable, place, sign * share.lendable);
                add(&mut self.total, place, sign * share.total);
                if share.yields.is_empty() {
                    continue;
                }
                let yields = self.yields.entry(place.clone()).or_default();
                share.yields.iter().for_each(|(at, milli)| add(yields, at, sign * milli));
                if yields.is_empty() {
                    self.yields.remove(place);
                }
            }
        }
        self.is_touched = true;
    }

    /// What jobs in line ask of their contracts.
    pub(crate) fn set_asked(&mut self, asked: BTreeMap<Contract, i64>) {
        let both: BTreeSet<Contract> = self.asked.keys().chain(asked.keys()).cloned().collect();
        both.iter().for_each(|contract| self.owe(contract, -1));
        self.asked = asked;
        both.iter().for_each(|contract| self.owe(contract, 1));
    }

    /// A job that asked has been given.
    pub(crate) fn answered(&mut self, draw: &Draw) {
        if let Some(asked) = self.asked.get(&draw.contract).copied() {
            self.owe(&draw.contract, -1);
            self.asked.insert(draw.contract.clone(), (asked - draw.gpu_milli).max(0));
            self.owe(&draw.contract, 1);
        }
    }

    /// What is free or becoming free beside what is to be left free; less than nothing where that is short.
    pub fn spare(&self, place: &Place) -> i64 {
        let of = |sums: &Sums| sums.get(place).copied().unwrap_or(0);
        of(&self.free) - of(&self.kept)
    }

    /// Whether anything is to be left free there now.
    pub fn is_kept(&self, place: &Place) -> bool {
        self.kept.contains_key(place)
    }

    /// What could be lent for good beside what is owed now; less than nothing where that is short.
    pub fn slack(&self, place: &Place) -> i64 {
        let of = |sums: &Sums| sums.get(place).copied().unwrap_or(0);
        of(&self.lendable) - of(&self.owed)
    }

    /// The first instant from now on at which so much more that is never given back would be missing, and what there is then.
    /// Runs that did not say that they end by then are taken to last.
    pub fn first_short(&self, place: &Place, gpu_milli: i64, now: TimeUs) -> Option<(TimeUs, i64)> {
        let mut slack = self.slack(place);
        if slack < gpu_milli {
            return Some((now, slack));
        }
        let mut yields = self.yields.get(place).into_iter().flatten().filter(|(at, _)| **at > now).peekable();
        for (at, change) in self.changes.get(place).into_iter().flatten() {
            while let Some((_, milli)) = yields.next_if(|(yields_at, _)| *yields_at <= at) {
                slack += milli;
            }
            slack -= change;
            if slack < gpu_milli {
                return Some((*at, slack));
            }
        }
        None
    }

    /// Places to be left free of which too little is, the narrowest first.
    pub(crate) fn short_of_free(&self) -> Vec<(Place, i64)> {
        let short = self.kept.keys().map(|place| (place.clone(), -self.spare(place)));
        let mut short: Vec<(Place, i64)> = short.filter(|(_, missing)| *missing > 0).collect();
        short.reverse();
        short
    }

    /// What is missing by place: what is owed now and could not be had, or more set aside for an instant than there is.
    pub(crate) fn shortages(&self) -> Shortages {
        let mut found = BTreeMap::new();
        for (place, changes) in &self.changes {
            let of = |sums: &Sums| sums.get(place).copied().unwrap_or(0);
            let (owed, lendable, total) = (of(&self.owed), of(&self.lendable), of(&self.total));
            let in_force =
                self.contracts.values().filter(|standing| standing.in_force && standing.around.contains(place));
            let mut sold: i64 = in_force.map(|standing| standing.terms.gpu_milli).sum();
            let mut most = sold;
            for change in changes.values() {
                sold += change;
                most = most.max(sold);
            }
            for (when, asked, have) in [(When::Now, owed, lendable), (When::Ever, most, total)] {
                if asked > have {
                    found.insert((place.clone(), when), (asked, have));
                }
            }
        }
        found
    }

    /// What follows from the state alone.
    pub(crate) fn essence(&self) -> String {
        format!(
            "{:?}",
            (
                &self.contracts,
                &self.nodes,
                &self.free,
                &self.lendable,
                &self.total,
                &self.used,
                &self.owed,
                &self.yields
            )
        )
    }
}
