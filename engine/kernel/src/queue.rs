//! Who waits, in order: priority class, then what the order rule says, then arrival.
//!
//! Jobs of one tenant that ask for the same are kept together, so that one that does not fit answers for all of them.

mod groups;
mod lines;
mod shapes;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::jobs::DependencyCondition;
use solyx_schemas::events::policy::ScopeState;
use solyx_schemas::ids::{GpuModelId, JobId, RefId, TenantId};
use solyx_schemas::units::TimeUs;

pub use self::groups::{Group, Guarantees};
pub use self::lines::{Head, Lines, Place, Told};
use self::shapes::Shapes;
pub use self::shapes::{Fit, Models, Shape};
pub use self::turn::Turn;
use crate::budget;
use crate::mig;
use crate::order_rule::{gang_milli, rank};
use crate::place::spread_of;
use crate::rows::{Job, Phase, Spec, limit};
use crate::set_aside;
use crate::state::State;

/// What jobs of a shape have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// What capacity has to hold.
    pub fit: Fit,
    /// Models that are accepted.
    pub models: Models,
    /// Thousandths of GPUs that one asks for at least.
    pub gpu_milli: i64,
    /// What a node has to have free for one replica; none where more decides than what is free: a deadline, a contract, what a
    /// model makes of a MIG profile.
    pub least: Option<Least>,
}

/// What a node has to have free at least for one replica, each up to the most that its number holds: there may be as many shapes
/// as jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    /// GPUs.
    pub gpus: u16,
    /// Thousandths of each.
    pub gpu_milli_each: u16,
    /// CPU.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u32,
}

/// A class value and a tenant, as a number.
type Desk = u32;

/// Where a waiting job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// In line.
    Ready { desk: Desk, shape: Shape, turn: Turn },
    /// Kept out of the line by something that is not capacity; with the limit where there is more to say than its kind.
    Parked(LimitKind, Option<Box<Limit>>),
}

/// What a set of jobs is known by: whose it is, its id and its size. Jobs that differ in one are of different sets.
pub type SetKey = (TenantId, RefId, i64);

/// The set that a job starts together with others of, if it is one.
pub fn set_of(spec: &Spec) -> Option<SetKey> {
    let set = spec.job_set.as_ref().filter(|set| set.size.0 > 1)?;
    Some((spec.tenant.clone(), set.set.clone(), set.size.0))
}

/// The queue.
#[derive(Clone, Default)]
pub struct Queue {
    standing: BTreeMap<JobId, Standing>,
    /// By falling class value, then tenant.
    lines: BTreeMap<std::cmp::Reverse<i64>, BTreeMap<TenantId, Lines>>,
    shapes: Shapes,
    /// What tenants are guaranteed of single models.
    pub guarantees: Guarantees,
    /// Class values and tenants of whom somebody has stood in line. Which number they have decides nothing.
    desks: Vec<(i64, TenantId)>,
    desk_numbers: BTreeMap<(i64, TenantId), Desk>,
    /// Living jobs by set.
    sets: BTreeMap<SetKey, BTreeSet<JobId>>,
    /// Parked jobs whose limit has not been told since it was found.
    pub notices: BTreeSet<JobId>,
    /// Jobs in line that have not been told anything yet.
    pub fresh: BTreeSet<JobId>,
    /// Jobs in line that draw on a reservation or sold lease.
    pub drawers: BTreeSet<JobId>,
    /// Those that name a contract, whether it is in force or not.
    pub namers: BTreeSet<JobId>,
    /// Jobs that wait for theirs to come into force, by when it does.
    pub awaiting: BTreeSet<(TimeUs, JobId)>,
    awaited: BTreeMap<JobId, TimeUs>,
}

impl Queue {
    /// Where every waiting job stands: its class value, what it asks for, or what keeps it out of the line.
    pub fn standings(&self) -> Vec<(JobId, String)> {
        let names: BTreeMap<Shape, &[u8]> = self.shapes.iter().collect();
        let said = |standing: &Standing| match standing {
            Standing::Ready { desk, shape, turn } => {
                let (class_value, tenant) = &self.desks[*desk as usize];
                format!("{class_value} {tenant} {turn:?} {:?}", names.get(shape))
            }
            Standing::Parked(kind, said) => format!("{:?}", parked_limit(*kind, said.as_deref())),
        };
        self.standing.iter().map(|(job, standing)| (job.clone(), said(standing))).collect()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.standing.len()
    }

    /// Whether nobody waits in a set.
    pub fn has_no_sets(&self) -> bool {
        self.sets.is_empty()
    }

    /// Living jobs of a set, in the order of their ids.
    pub fn set(&self, key: &SetKey) -> impl Iterator<Item = &JobId> {
        self.sets.get(key).into_iter().flatten()
    }

    /// Counts a job that has come among its set; those that waited for the last one get in line.
    pub fn join_set(&mut self, state: &State, id: &JobId, key: SetKey) {
        let members = self.sets.entry(key.clone()).or_default();
        members.insert(id.clone());
        if members.len() as i64 == key.2 {
            self.place_set(state, &key);
        }
    }

    /// Counts one that is over no more. Those that have not started yet can no longer start together.
    pub fn leave_set(&mut self, state: &State, id: &JobId, key: &SetKey) {
        let Some(members) = self.sets.get_mut(key) else { return };
        let was_whole = members.len() as i64 >= key.2;
        members.remove(id);
        let is_whole = members.len() as i64 >= key.2;
        if members.is_empty() {
            self.sets.remove(key);
        } else if was_whole && !is_whole {
            self.place_set(state, key);
        }
    }

    fn place_set(&mut self, state: &State, key: &SetKey) {
        let waiting: Vec<JobId> = self.set(key).filter(|id| self.standing.contains_key(*id)).cloned().collect();
        waiting.iter().for_each(|id| self.place(state, id));
    }

    /// Puts a job where it belongs, or takes it out if it does not wait.
    pub fn place(&mut self, state: &State, id: &JobId) {
        self.take_out(id);
        let (Some(job), Some(spec)) = (state.jobs.get(id), state.spec(id)) else { return };
        if job.phase == Phase::Waiting {
            self.enter(state, id, job, &spec);
        }
    }

    /// Everybody who waits, with the sets that jobs say they are of.
    pub fn of(state: &State, sets: Vec<(JobId, SetKey)>) -> Self {
        let mut queue = Self { guarantees: Guarantees::of(state), ..Self::default() };
        // Nobody stands in line yet, so that this only counts.
        for (id, key) in sets {
            queue.join_set(state, &id, key);
        }
        // Jobs and what they ask for are both in the order of their ids.
        let mut specs = state.specs.iter().peekable();
        for (id, job) in state.jobs.iter().filter(|(_, job)| job.phase == Phase::Waiting) {
            while specs.next_if(|(of, _)| *of < id).is_some() {}
            if let Some((_, spec)) = specs.next_if(|(of, _)| *of == id) {
                queue.enter(state, id, job, &spec.open());
            }
        }
        queue
    }

    /// Puts a waiting job in that stands nowhere yet.
    pub fn enter(&mut self, state: &State, id: &JobId, job: &Job, spec: &Spec) {
        if spec.reservation.is_some() || spec.sold_lease.is_some() {
            self.namers.insert(id.clone());
        }
        if let Some(limit) = self.parking(state, job, spec) {
            if limit.kind == LimitKind::Reservation
                && let Some((_, Some(at))) = set_aside::parking(state, spec)
            {
                self.awaiting.insert((at, id.clone()));
                self.awaited.insert(id.clone(), at);
            }
            self.notices.insert(id.clone());
            let kind = limit.kind;
            let said = (limit != parked_limit(kind, None)).then(|| Box::new(limit));
            self.standing.insert(id.clone(), Standing::Parked(kind, said));
            return;
        }
        let class_value = state.classes.get(&spec.class).map_or(0, |class| class.value);
        let past = job.past();
        let shape = self.shape_of(state, spec, past.memory_mib.unwrap_or(spec.gang.memory_mib).0, &past.avoided);
        let turn = Turn::new(past.recover_by_us, rank(state, job, spec), job.arrival);
        let line = self.lines.entry(std::cmp::Reverse(class_value)).or_default();
        let group = self.guarantees.group(&spec.tenant, &self.shapes, shape);
        line.entry(spec.tenant.clone()).or_default().insert(group, (shape, turn, id.clone()), job.told);
        let next = self.desks.len() as Desk;
        let desk = *self.desk_numbers.entry((class_value, spec.tenant.clone())).or_insert(next);
        if desk == next {
            self.desks.push((class_value, spec.tenant.clone()));
        }
        self.standing.insert(id.clone(), Standing::Ready { desk, shape, turn });
        if set_aside::in_force(state, spec).is_some() {
            self.drawers.insert(id.clone());
        }
        // What kept it out of the line keeps it no longer.
        if job.told.is_none_or(keeps_out) {
            self.fresh.insert(id.clone());
        }
    }

    /// The class value and tenant, shape and turn of a job that stands in line.
    fn ready(&self, id: &JobId) -> Option<(&(i64, TenantId), Shape, Turn)> {
        match self.standing.get(id)? {
            Standing::Ready { desk, shape, turn } => Some((&self.desks[*desk as usize], *shape, *turn)),
            Standing::Parked(..) => None,
        }
    }

    /// The line a job stands in.
    pub fn line_of(&self, id: &JobId) -> Option<(TenantId, Shape)> {
        let ((_, tenant), shape, _) = self.ready(id)?;
        Some((tenant.clone(), shape))
    }

    /// Whose a job is that stands in line.
    pub fn tenant_of(&self, id: &JobId) -> Option<&TenantId> {
        self.ready(id).map(|((_, tenant), ..)| tenant)
    }

    /// What jobs of a shape have in common.
    pub fn common(&self, shape: Shape) -> Common {
        self.shapes.common(shape)
    }

    /// The place of a job that stands in line, and what it was last told.
    pub fn place_of(&self, id: &JobId) -> Option<(Head, Told)> {
        let ((class_value, tenant), shape, turn) = self.ready(id)?;
        let head = (turn, id.clone(), shape);
        let told = self.lines(*class_value, tenant)?.told(&head)?;
        Some((head, told))
    }

    /// The class value and turn of a job that stands in line.
    pub fn turn_of(&self, id: &JobId) -> Option<(i64, Turn)> {
        self.ready(id).map(|((class_value, _), _, turn)| (*class_value, turn))
    }

    /// Whether a job that stands in line is owed to run again by some instant.
    pub fn is_owed(&self, id: &JobId) -> bool {
        self.ready(id).is_some_and(|(.., turn)| turn.is_owed())
    }

    /// The line of a job, with it, if it stands in one of this class.
    pub fn in_line(&self, id: &JobId, class: i64) -> Option<(TenantId, Shape, JobId)> {
        let ((class_value, tenant), shape, _) = self.ready(id)?;
        (*class_value == class).then(|| (tenant.clone(), shape, id.clone()))
    }

    /// A job that stands in line was told of another limit.
    pub fn note_told(&mut self, id: &JobId, kind: LimitKind) {
        let Some(Standing::Ready { desk, shape, turn }) = self.standing.get(id) else { return };
        let (class_value, tenant) = &self.desks[*desk as usize];
        let lines = self.lines.get_mut(&std::cmp::Reverse(*class_value)).and_then(|tenants| tenants.get_mut(tenant));
        if let Some(lines) = lines {
            let group = self.guarantees.group(tenant, &self.shapes, *shape);
            lines.tell(group, (*shape, *turn, id.clone()), kind);
        }
    }

    /// Models that jobs accept, with their number.
    pub fn models(&self) -> impl Iterator<Item = (&Arc<[GpuModelId]>, Models)> {
        self.shapes.models()
    }

    /// Takes a job out of the queue.
    pub fn take_out(&mut self, id: &JobId) {
        self.notices.remove(id);
        self.fresh.remove(id);
        self.drawers.remove(id);
        self.namers.remove(id);
        if let Some(at) = self.awaited.remove(id) {
            self.awaiting.remove(&(at, id.clone()));
        }
        let Some(Standing::Ready { desk, shape, turn }) = self.standing.remove(id) else { return };
        let (class_value, tenant) = &self.desks[desk as usize];
        let group = self.guarantees.group(tenant, &self.shapes, shape);
        self.shapes.leave(shape);
        let key = std::cmp::Reverse(*class_value);
        let Some(tenants) = self.lines.get_mut(&key) else { return };
        if let Some(lines) = tenants.get_mut(tenant) {
            lines.remove(group, (shape, turn, id.clone()));
            if lines.is_empty() {
                tenants.remove(tenant);
            }
        }
        if tenants.is_empty() {
            self.lines.remove(&key);
        }
    }

    /// The limit that keeps a job out of the line.
    pub fn parked(&self, id: &JobId) -> Option<Limit> {
        match self.standing.get(id) {
            Some(Standing::Parked(kind, said)) => Some(parked_limit(*kind, said.as_deref())),
            _ => None,
        }
    }

    /// The same, with how many of its set have come by now, or how much of which budget is used.
    pub fn parked_now(&self, state: &State, id: &JobId) -> Option<Limit> {
        let limit = self.parked(id)?;
        Some(match limit.kind {
            LimitKind::JobSet => {
                let key = state.spec(id).and_then(|spec| set_of(&spec));
                Limit {
                    available: key.map(|key| self.sets.get(&key).map_or(0, |members| members.len() as i64)),
                    ..limit
                }
            }
            LimitKind::Budget => state.spec(id).and_then(|spec| budget::parking(state, &spec)).unwrap_or(limit),
            _ => limit,
        })
    }

    /// Forgets what nobody asks for any more. Nobody may keep a number of a shape or fit over this.
    pub fn forget_unused(&mut self) {
        self.shapes.forget_unused();
    }

    /// Classes of those who stand in line, highest first.
    pub fn classes(&self) -> impl Iterator<Item = i64> + '_ {
        self.lines.keys().map(|key| key.0)
    }

    /// The tenants of a class with their lines.
    pub fn tenants(&self, class_value: i64) -> impl Iterator<Item = (&TenantId, &Lines)> {
        self.lines.get(&std::cmp::Reverse(class_value)).into_iter().flatten()
    }

    /// When the contract comes into force that a job waits for.
    pub fn awaits(&self, id: &JobId) -> Option<TimeUs> {
        self.awaited.get(id).copied()
    }

    /// The lines of a class and tenant, if anybody stands in one.
    pub fn lines(&self, class_value: i64, tenant: &TenantId) -> Option<&Lines> {
        self.lines.get(&std::cmp::Reverse(class_value))?.get(tenant)
    }

    /// Every waiting job.
    pub fn jobs(&self) -> Vec<JobId> {
        self.standing.keys().cloned().collect()
    }

    /// Jobs that are kept out of the line.
    pub fn parked_jobs(&self) -> Vec<JobId> {
        self.standing.iter().filter(|(_, s)| matches!(s, Standing::Parked(..))).map(|(id, _)| id.clone()).collect()
    }

    /// What keeps a waiting job out of the line, if anything does.
    fn parking(&self, state: &State, job: &Job, spec: &Spec) -> Option<Limit> {
        parking(state, job, spec).or_else(|| {
            // One that has started with the others goes on without them.
            let key = set_of(spec).filter(|_| job.attempts == 0)?;
            let come = self.sets.get(&key).map_or(0, |members| members.len() as i64);
            let unit = Some("jobs of the set".to_owned());
            (come < key.2).then(|| Limit { unit, asked: Some(key.2), subject: Some(key.1), ..limit(LimitKind::JobSet) })
        })
    }

    fn shape_of(
        &mut self,
        state: &State,
        spec: &Spec,
        memory_mib: i64,
        avoided: &[solyx_schemas::ids::NodeId],
    ) -> Shape {
        // What an instance counts as follows from its models' tables, which may be declared anew.
        let gpu_milli = gang_milli(state, spec);
        let of_profile = spec.gang.mig_profile.as_ref().map(|_| gpu_milli);
        // What decides whether a job fits, and nothing that only one job can have.
        let capacity = (
            (&spec.gang, &spec.models, &spec.topology, &spec.datasets, &spec.residency),
            (&spec.certificates, spec.attestation_required, memory_mib, avoided, spread_of(spec)),
            (&spec.reservation, &spec.sold_lease, of_profile),
        );
        let mut key = postcard::to_stdvec(&capacity).expect("plain data");
        let fit_len = key.len();
        let own = (&spec.client_regions, &spec.project, &spec.budget, spec.deadline_us.map(|_| &spec.job), &spec.kind);
        key = postcard::to_extend(&own, key).expect("plain data");
        self.shapes.enter(&key, fit_len, |shapes, fit| {
            let gang = &spec.gang;
            let is_plain = spec.deadline_us.is_none()
                && spec.reservation.is_none()
                && spec.sold_lease.is_none()
                && gang.mig_profile.is_none();
            let accepted = spec.models.iter().filter(|_| gang.gpus.0 > 0).map(|choice| choice.model.clone());
            let least = is_plain.then(|| Least {
                gpus: u16::try_from(gang.gpus.0).unwrap_or(u16::MAX),
                gpu_milli_each: u16::try_from(gang.gpu_milli_each.0).unwrap_or(u16::MAX),
                cpu_milli: u32::try_from(gang.cpu_milli.0).unwrap_or(u32::MAX),
                memory_mib: u32::try_from(memory_mib).unwrap_or(u32::MAX),
            });
            Common { fit, models: shapes.models_of(accepted.collect()), gpu_milli, least }
        })
    }
}

/// Whether a limit keeps a job out of the line and no job in it.
fn keeps_out(kind: LimitKind) -> bool {
    use LimitKind::{Deferral, Dependency, Hold, NotBefore, RetryBackoff};
    matches!(kind, Deferral | Dependency | Hold | NotBefore | RetryBackoff)
}

fn parked_limit(kind: LimitKind, said: Option<&Limit>) -> Limit {
    said.cloned().unwrap_or_else(|| limit(kind))
}

/// What keeps a waiting job out of the line, if anything does.
fn parking(state: &State, job: &Job, spec: &Spec) -> Option<Limit> {
    let undeclared = |subject: &str| Limit { subject: Some(RefId::from(subject)), ..limit(LimitKind::Undeclared) };
    if job.hold {
        return Some(limit(LimitKind::Hold));
    }
    if job.not_before_us > state.now() {
        return Some(limit(job.not_before_limit.unwrap_or(LimitKind::NotBefore)));
    }
    if !state.tenants.contains(&spec.tenant) {
        return Some(undeclared(&format!("tenant:{}", spec.tenant)));
    }
    if !state.classes.contains(&spec.class) {
        return Some(undeclared(&format!("class:{}", spec.class)));
    }
    if let Some(profile) = &spec.gang.mig_profile
        && mig::models(state, spec).next().is_none()
    {
        return Some(undeclared(&format!("mig-profile:{profile}")));
    }
    if let Some(dataset) = spec.datasets.iter().find(|dataset| !state.datasets.contains(*dataset)) {
        return Some(undeclared(&format!("dataset:{dataset}")));
    }
    if !state.scopes.is_empty() {
        let closed = state.scopes_of(&spec.tenant, spec.project.as_ref()).find(|(.., is)| *is != ScopeState::Open);
        if let Some((_, scope, _)) = closed {
            return Some(Limit { subject: Some(scope), ..limit(LimitKind::Cordon) });
        }
    }
    if let Some((limit, _)) = set_aside::parking(state, spec) {
        return Some(limit);
    }
    for dependency in &spec.depends_on {
        let phase = state.jobs.get(&dependency.job).map(|job| job.phase);
        let met = match dependency.condition {
            DependencyCondition::Ok => phase == Some(Phase::Done),
            _ => matches!(phase, Some(Phase::Done | Phase::Ended)),
        };
        if !met {
            return Some(Limit { subject: Some(RefId::from(dependency.job.as_str())), ..limit(LimitKind::Dependency) });
        }
    }
    // How much is used changes while nobody looks.
    budget::parking(state, spec).map(|_| limit(LimitKind::Budget))
}
