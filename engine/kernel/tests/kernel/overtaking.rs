//! How long others go before a job under the default order rule: whoever came by more than the last surcharge after it only within
//! its tenant's promised share.

use std::collections::BTreeMap;

use solyx_histories::history::Luck;
use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunFinished, StopReason};
use solyx_schemas::ids::{ClassId, JobId, TenantId};
use solyx_schemas::units::*;

use crate::guaranteed_to;

const MINUTE_US: i64 = 60 * SECOND_US;
/// What the steps add, of which the last is the most that anybody is put back by.
const SURCHARGES_US: [i64; 3] = [HOUR_US / 2, HOUR_US, 2 * HOUR_US];
const LAST_US: i64 = SURCHARGES_US[2];
/// Every job asks for half of a node, so that whoever has room has it in place of any other.
const ASKED: i64 = 4;
const TENANTS: [&str; 2] = ["red", "blue"];

const SEEDS: u64 = 12;

/// A job that is not over.
struct Own {
    asked: JobRequested,
    came_us: i64,
    left_us: i64,
    /// Since when it runs, and whether it was told to stop.
    runs: Option<(i64, bool)>,
    /// Room is being made for it.
    has_room: bool,
}

/// What was seen: times that somebody went before who had come later, within the last surcharge or for a share.
#[derive(Default)]
struct Seen {
    within: usize,
    for_share: usize,
    longest_us: i64,
}

struct Line {
    promised: BTreeMap<TenantId, i64>,
    jobs: BTreeMap<JobId, Own>,
    seen: Seen,
}

impl Line {
    /// Whether its tenant's share holds a job, as far as what runs and was not told to stop goes.
    fn is_held(&self, job: &JobId) -> bool {
        let tenant = &self.jobs[job].asked.tenant;
        let stays = |own: &&Own| own.asked.tenant == *tenant && own.runs.is_some_and(|(_, told)| !told);
        let has = self.jobs.values().filter(stays).count() as i64 * ASKED;
        has + ASKED <= self.promised.get(tenant).copied().unwrap_or(0)
    }

    /// A job starts on what is free before those who wait and do not start in the same epoch.
    fn starts(&mut self, job: &JobId, outputs: &[Event]) {
        let is_held = self.is_held(job);
        let starts = |other: &JobId| outputs.iter().any(|e| matches!(e, Event::JobPlaced(e) if e.job == *other));
        let waits = |own: &Own| own.runs.is_none() && !own.has_room;
        let others = self.jobs.iter().filter(|(other, own)| waits(own) && !starts(other)).map(|(other, _)| other);
        for other in others.cloned().collect::<Vec<JobId>>() {
            self.goes_before(job, is_held, &other);
        }
    }

    /// A job goes before another of its class.
    fn goes_before(&mut self, job: &JobId, is_held: bool, other: &JobId) {
        let (own, before) = (&self.jobs[job], &self.jobs[other]);
        let later_us = own.came_us - before.came_us;
        if own.asked.class != before.asked.class || later_us <= 0 {
            return;
        }
        assert!(is_held || later_us <= LAST_US, "{job} came {later_us} µs after {other} and goes before it");
        self.seen.within += usize::from(!is_held);
        self.seen.for_share += usize::from(is_held && later_us > LAST_US);
        self.seen.longest_us = self.seen.longest_us.max(if is_held { 0 } else { later_us });
    }
}

/// Jobs of all lengths that come for three days to two nodes, more than there is room for.
fn lives(seed: u64) -> Seen {
    let mut luck = Luck(seed);
    let mut world = World::with_nodes(2);
    world.quiet = true;
    let has_shares = luck.chance(60);
    let policy = SchedulingPolicySet {
        run_lease_us: Some(DurationUs(10_000 * HOUR_US)),
        surcharge_gpu_hours: [2, 8, 24].map(Count).to_vec(),
        surcharge_us: SURCHARGES_US.map(DurationUs).to_vec(),
        promised_milli: Some(Milli(if has_shares { 900 } else { 0 })),
        preemptions_max: luck.chance(50).then(|| Count(luck.below(8))),
        ..ordered_by("share-surcharge")
    };
    let mut events: Vec<Event> = vec![policy.into()];
    let mut line = Line { promised: BTreeMap::new(), jobs: BTreeMap::new(), seen: Seen::default() };
    for tenant in TENANTS.into_iter().filter(|_| has_shares) {
        let gpus = ASKED * (1 + luck.below(2));
        line.promised.insert(TenantId::from(tenant), gpus);
        events.push(guaranteed_to(tenant, gpus).into());
    }
    world.step(events);
    for turn in 0..400 {
        let mut events = Vec::new();
        if luck.chance(30) {
            let asked = asked(&mut luck, turn);
            let minutes = if luck.chance(60) { 90 } else { 900 };
            let left_us = MINUTE_US * (10 + luck.below(minutes));
            let own = Own { asked: asked.clone(), came_us: world.now, left_us, runs: None, has_room: false };
            line.jobs.insert(asked.job.clone(), own);
            events.push(asked.into());
        }
        for (job, own) in &line.jobs {
            if own.runs.is_some_and(|(since, told)| !told && world.now - since >= own.left_us) {
                let (job, run) = (job.clone(), world.running[job].run.clone());
                events.push(RunFinished { job, run, finished_us: TimeUs(world.now), ..RunFinished::default() }.into());
            }
        }
        line.jobs.retain(|job, _| !events.iter().any(|e| matches!(e, Event::RunFinished(over) if over.job == *job)));
        while !events.is_empty() {
            events = follow(&mut world, &mut line, events);
        }
        world.now += 10 * MINUTE_US;
    }
    line.seen
}

fn asked(luck: &mut Luck, turn: i64) -> JobRequested {
    let tenant = if luck.chance(70) { TENANTS[0] } else { TENANTS[1] };
    // Some say how long they are, and some of those say too little.
    let said_hours = if luck.chance(40) { luck.below(6) } else { 0 };
    let class = ClassId::from(if luck.chance(80) { "standard" } else { "urgent" });
    JobRequested { class, ..job(&format!("job-{turn}"), tenant, 1, ASKED, said_hours) }
}

/// One epoch; what runs say of it.
fn follow(world: &mut World, line: &mut Line, events: Vec<Event>) -> Vec<Event> {
    for event in &events {
        if let Event::RunStopped(stopped) = event {
            line.jobs.get_mut(&stopped.job).unwrap().runs = None;
        }
    }
    let outputs = world.step(events);
    let mut said = Vec::new();
    for output in &outputs {
        match output {
            Event::JobPreempted(told) => {
                // It takes the place of the run, whoever else waits: those may have used too much to take it.
                let winner = told.for_job.clone().unwrap();
                let own = line.jobs.get_mut(&told.job).unwrap();
                let (since, _) = own.runs.unwrap();
                own.left_us -= world.now - since;
                own.runs = Some((since, true));
                let is_held = line.is_held(&winner);
                line.goes_before(&winner, is_held, &told.job);
                line.jobs.get_mut(&winner).unwrap().has_room = true;
                said.push(world.stopped(told.job.as_str(), StopReason::Preempted));
            }
            Event::JobPlaced(e) => {
                if !line.jobs[&e.job].has_room {
                    line.starts(&e.job, &outputs);
                }
                let own = line.jobs.get_mut(&e.job).unwrap();
                (own.runs, own.has_room) = (Some((world.now, false)), false);
                said.push(started(world, e.job.as_str()));
            }
            _ => {}
        }
    }
    said
}

#[test]
fn nobody_goes_before_a_job_that_came_earlier_by_more_than_the_last_surcharge_but_within_its_share() {
    let (mut within, mut for_share, mut longest_us) = (0, 0, 0);
    for seed in 0..SEEDS {
        let seen = lives(seed);
        (within, for_share) = (within + seen.within, for_share + seen.for_share);
        longest_us = longest_us.max(seen.longest_us);
    }
    let told = format!("{within} within the last surcharge, the longest {longest_us} µs, and {for_share} for a share");
    assert!(within > 0 && for_share > 0 && longest_us > LAST_US / 2, "{told}");
}
