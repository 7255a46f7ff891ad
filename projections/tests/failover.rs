//! The failover view on histories that a kernel decided.
#![allow(clippy::unwrap_used)]

mod common;

use common::failover::*;
use proptest::prelude::*;
use solyx_projections::failover::{DomainView, Failover, FailoverView, HitCause, HitView, Outcome};
use solyx_projections::fold::{Epochs, Fold};
use solyx_projections::store::ViewStore;
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::JobCancelRequested;
use solyx_schemas::events::nodes::{FeedShare, NodeState, NodeStateChanged};
use solyx_schemas::events::policy::{DrillRequested, ReserveSet};
use solyx_schemas::events::runs::RunFinished;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

fn folded(epochs: &[EpochBatch]) -> Failover {
    let mut fold = Failover::default();
    epochs.iter().for_each(|epoch| fold.apply(epoch).unwrap());
    fold
}

/// The view of a cell; a saved and loaded state says the same.
fn view(cell: &Cell) -> FailoverView {
    let fold = folded(&cell.epochs);
    let mut loaded = Failover::default();
    loaded.load(&mut fold.entries().into_iter()).unwrap();
    assert_eq!(loaded.entries(), fold.entries(), "a saved state is the state");
    assert_eq!(loaded.view(), fold.view(), "and says the same");
    fold.view()
}

fn domain<'v>(view: &'v FailoverView, name: &str) -> &'v DomainView {
    view.domains.iter().find(|domain| domain.domain == name).unwrap()
}

fn hit<'v>(domain: &'v DomainView, job: &str) -> &'v HitView {
    domain.jobs.iter().find(|hit| hit.job.as_str() == job).unwrap()
}

/// Two jobs at `pod`, four hours after they started, with a checkpoint after three; one node is free at `north`.
fn two_at_work(instances: i64) -> Cell {
    let mut cell = cell(2, 0, instances);
    cell.epoch(vec![job("a", 1).into(), job("b", 1).into()]);
    cell.now += 4 * HOUR_US;
    let mut events = cell.at_work("a", Some((3 * HOUR_US, "pod")));
    events.extend(cell.at_work("b", Some((3 * HOUR_US, "north"))));
    events.push(node("zz-north-0", "north/h100", "leaf").into());
    cell.epoch(events);
    cell
}

#[test]
fn a_lost_site_s_jobs_take_one_room_after_the_other_and_the_rest_is_named_with_its_limit() {
    let view = view(&two_at_work(0));
    let pod = domain(&view, "site:pod");
    assert_eq!((pod.jobs_hit, pod.protected, pod.unprotected, pod.gpu_milli_hit), (2, 1, 1, 16_000));
    let moves: Vec<&str> = pod.moves.iter().map(JobId::as_str).collect();
    assert_eq!(moves, ["a"]);
    let a = hit(pod, "a");
    assert_eq!((a.outcome, a.to_site.as_ref().map(SiteId::as_str), a.order), (Outcome::Placed, Some("north"), Some(1)));
    assert_eq!(a.to_nodes[0].node.as_str(), "zz-north-0");
    let b = hit(pod, "b");
    let limit = b.limit.as_ref().unwrap();
    assert_eq!(
        (b.outcome, limit.kind.as_str(), limit.asked, limit.available),
        (Outcome::Waits, "GPUS", Some(8_000), Some(0))
    );
    assert_eq!((pod.limits[0].limit.as_str(), pod.limits[0].jobs, pod.limits[0].gpu_milli), ("GPUS", 1, 8_000));
    assert_eq!(domain(&view, "site:north").jobs_hit, 0);
}

#[test]
fn what_a_loss_costs_in_time_and_work_stands_against_the_job_s_class() {
    let view = view(&two_at_work(5));
    let pod = domain(&view, "site:pod");
    // The checkpoint of one lies at the lost site: it begins anew. That of the other is safe.
    let (a, b) = (hit(pod, "a"), hit(pod, "b"));
    assert!(a.checkpoint_lost && !b.checkpoint_lost);
    assert_eq!((a.work_kept_us.0, a.work_lost_us.0), (0, 4 * HOUR_US));
    assert_eq!((b.work_kept_us.0, b.work_lost_us.0), (3 * HOUR_US, HOUR_US));
    assert_eq!((a.rpo_us.0, a.rpo_met), (4 * HOUR_US, Some(false)));
    assert_eq!((b.rpo_us.0, b.rpo_met), (HOUR_US, Some(true)));
    // Nothing to restore for the one; four minutes for the instance and five for the restore of the other.
    assert_eq!((a.rto_fenced_us.unwrap().0, a.rto_fenced_met), (0, Some(true)));
    assert_eq!((b.rto_fenced_us.unwrap().0, b.rto_fenced_met), (540 * SECOND_US, Some(true)));
    // Unless somebody fences the nodes, the runs' leases of an hour have to pass first.
    assert_eq!((b.rto_us.unwrap().0, b.rto_met), (HOUR_US + 540 * SECOND_US, Some(false)));
    assert_eq!((pod.rto_missed, pod.rpo_missed), (2, 1));
    assert_eq!((pod.worst_rto_us, pod.worst_rpo_us), (b.rto_us, Some(a.rpo_us)));
    assert_eq!(pod.lost_gpu_milli_us, 5 * i128::from(HOUR_US) * 8_000);
    assert_eq!((b.spread_met, b.outcome, b.instances), (Some(false), Outcome::Leased, 1));
}

#[test]
fn moving_costs_the_rent_there_and_the_egress_of_the_checkpoint() {
    let mut cell = cell(1, 0, 5);
    cell.epoch(vec![job("a", 1).into()]);
    cell.now += 4 * HOUR_US;
    let events = cell.at_work("a", Some((4 * HOUR_US, "pod")));
    cell.epoch(events);
    let view = view(&cell);
    // A lost leaf leaves the site's storage: 100 GiB go to Virginia, and the six hours that are left are paid for there.
    let leaf = domain(&view, "fabric:pod/h100/leaf-0");
    let cost = hit(leaf, "a").cost.unwrap();
    assert_eq!(cost.egress_micros, 100 * 1_073_741_824 * 50_000_i64 / 1_000_000_000 + 1);
    // Six hours and the restore, eight GPUs, at 3 an hour; billed by the minute with the four minutes of the start.
    assert_eq!(cost.rent_difference_micros, 8 * 3_000_000 * (6 * 60 + 5 + 4) / 60);
    assert!(cost.total_difference_micros >= cost.rent_difference_micros + cost.egress_micros);
    assert_eq!(leaf.cost, cost);
}

#[test]
fn a_lost_provider_hits_all_its_sites_and_only_what_is_leased_elsewhere_is_left() {
    let view = view(&two_at_work(1));
    let metapod = domain(&view, "provider:metapod");
    assert_eq!((metapod.jobs_hit, metapod.protected, metapod.unprotected), (2, 1, 1));
    assert_eq!(hit(metapod, "a").outcome, Outcome::Leased);
    assert_eq!(hit(metapod, "b").limit.as_ref().unwrap().kind.as_str(), "PROVIDER_CAPACITY");
    assert_eq!(domain(&view, "provider:lambda").jobs_hit, 0);
}

#[test]
fn a_lost_leaf_moves_a_whole_gang_and_what_is_held_back_is_shown_beside_it() {
    let mut cell = cell(8, 0, 0);
    let reserve = ReserveSet {
        domain: "site:pod".into(),
        gpu_model: "H100".into(),
        held_back_milli: GpuMilli(0),
        ..ReserveSet::default()
    };
    cell.epoch(vec![reserve.into(), job("gang", 4).into()]);
    let view = view(&cell);
    let leaves: Vec<&DomainView> =
        view.domains.iter().filter(|domain| domain.domain.starts_with("fabric") && domain.jobs_hit > 0).collect();
    assert_eq!(leaves.len(), 1);
    let gang = hit(leaves[0], "gang");
    assert_eq!((gang.outcome, gang.to_nodes.len(), gang.spread_met), (Outcome::Placed, 4, Some(true)));
    let pod = domain(&view, "site:pod");
    assert_eq!((pod.reserves[0].held_back_milli, pod.reserves[0].gpu_milli_hit), (0, 32_000));
}

/// Two feeds that come from one switchboard, so that the kernel lets both be filled.
fn fed(limit_w: i64) -> Cell {
    let element = |name: &str, kind, parents: &[&str], limit_w| PowerElementDeclared {
        site: "pod".into(),
        element: name.into(),
        kind,
        parents: parents.iter().map(|parent| ElementId::from(*parent)).collect(),
        limit_w: PowerW(limit_w),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    let mut events: Vec<Event> = vec![
        element("grid", ElementKind::Switchboard, &[], 1_000_000).into(),
        element("utility-a", ElementKind::UtilityFeed, &["grid"], limit_w).into(),
        element("utility-b", ElementKind::UtilityFeed, &["grid"], limit_w).into(),
    ];
    for i in 0..2 {
        let feeds = ["utility-a", "utility-b"].map(|feed| FeedShare { element: feed.into(), share_milli: Milli(500) });
        let mut node = node(&format!("pod-{i}"), "pod/h100", "leaf-0");
        node.feeds = feeds.to_vec();
        events.push(node.into());
    }
    let mut cell = cell(0, 0, 0);
    cell.epoch(events);
    let mut urgent = job("a", 1);
    urgent.class = "urgent".into();
    cell.epoch(vec![urgent.into(), job("b", 1).into()]);
    cell
}

#[test]
fn a_lost_feed_overloads_the_other_and_the_least_important_job_gives_way() {
    let view = view(&fed(10_000));
    let feed = domain(&view, "feed:pod/utility-a");
    let over = &feed.overloads[0];
    assert_eq!(over.element.as_ref().unwrap().as_str(), "utility-b");
    assert_eq!((over.load_w, over.limit_w, over.over_w, &over.also_lost), (13_200, 10_000, 3_200, &None));
    assert_eq!((feed.nodes, feed.jobs_hit, feed.unprotected), (2, 1, 1));
    let b = hit(feed, "b");
    assert_eq!((b.cause, b.release_us.0), (HitCause::Overload, 60 * SECOND_US));
    assert_eq!(b.limit.as_ref().unwrap().kind.as_str(), "POWER");
    let enough = view_of_feed(20_000);
    assert_eq!((enough.jobs_hit, enough.overloads.len()), (0, 0));
}

fn view_of_feed(limit_w: i64) -> DomainView {
    domain(&view(&fed(limit_w)), "feed:pod/utility-b").clone()
}

#[test]
fn a_drill_is_answered_once_and_keeps_its_answer() {
    let mut cell = two_at_work(0);
    let drill = |id: &str, domain: &str| -> Event {
        DrillRequested {
            drill: id.into(),
            domain: domain.into(),
            duration_us: DurationUs(2 * HOUR_US),
            ..DrillRequested::default()
        }
        .into()
    };
    cell.epoch(vec![drill("autumn", "site:pod"), drill("typo", "site:pot")]);
    let then = view(&cell);
    cell.now += SECOND_US;
    for job in ["a", "b"] {
        cell.epoch(vec![finished(&cell, job)]);
    }
    let view = view(&cell);
    assert_eq!(domain(&view, "site:pod").jobs_hit, 0);
    assert_eq!(view.drills, then.drills);
    let answer = view.drills[0].answer.as_ref().unwrap();
    assert_eq!((answer.jobs_hit, answer.protected), (2, 1));
    // Who has no place waits until the site is back, and restores then.
    let b = hit(answer, "b");
    assert_eq!(b.rto_fenced_us.unwrap().0, 2 * HOUR_US + 300 * SECOND_US);
    assert!(view.drills[1].answer.is_none());
}

fn finished(cell: &Cell, job: &str) -> Event {
    let placed = &cell.placed[&JobId::from(job)];
    RunFinished {
        job: placed.job.clone(),
        run: placed.run.clone(),
        work_us: WorkUs(10 * HOUR_US),
        finished_us: TimeUs(cell.now),
        ..RunFinished::default()
    }
    .into()
}

#[test]
fn information_is_as_old_as_its_oldest_part_and_stale_after_a_day() {
    let mut cell = cell(1, 1, 3);
    cell.now += 25 * HOUR_US;
    cell.epoch(vec![node("zz-north-0", "north/h100", "leaf").into()]);
    let view = view(&cell);
    let age = |name: &str| domain(&view, name).information.clone();
    assert_eq!((age("site:pod").node_age_us.unwrap().0, age("site:pod").stale), (25 * HOUR_US, true));
    assert_eq!((age("site:north").node_age_us.unwrap().0, age("site:north").stale), (0, false));
    assert_eq!(age("provider:metapod").node_age_us.unwrap().0, 25 * HOUR_US);
    let lambda = age("provider:lambda");
    assert_eq!((lambda.node_age_us, lambda.capacity_age_us.unwrap().0, lambda.stale), (None, 25 * HOUR_US, true));
    assert_eq!(lambda.price_age_us.unwrap().0, 25 * HOUR_US);
}

#[test]
fn a_history_that_was_decided_otherwise_is_refused() {
    let mut cell = two_at_work(0);
    cell.epochs[1].outputs.pop();
    let mut fold = Failover::default();
    fold.apply(&cell.epochs[0]).unwrap();
    let error = fold.apply(&cell.epochs[1]).unwrap_err();
    assert!(error.to_string().starts_with("the failover view cannot go on: decision 3 of epoch 1 is none"), "{error}");
}

/// What may happen next in a cell.
#[derive(Clone, Debug)]
enum Step {
    Ask(i64),
    Finish(usize),
    Cancel(usize),
    Node(usize, bool),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..3_i64).prop_map(Step::Ask),
        1 => (0..8_usize).prop_map(Step::Finish),
        1 => (0..8_usize).prop_map(Step::Cancel),
        1 => (0..4_usize, any::<bool>()).prop_map(|(node, up)| Step::Node(node, up)),
        1 => (1..20_i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..25)
}

fn history(steps: &[Step]) -> Cell {
    let mut cell = cell(4, 2, 2);
    for (number, step) in steps.iter().enumerate() {
        let name = |n: &usize| format!("job-{n}");
        let events: Vec<Event> = match step {
            Step::Ask(replicas) => vec![job(&format!("job-{number}"), *replicas).into()],
            // Whatever does not fit the state is left out: these histories hold only what counts.
            Step::Finish(n) if runs(&cell, &name(n)) => vec![finished(&cell, &name(n))],
            Step::Cancel(n) if runs(&cell, &name(n)) => {
                let cancel = JobCancelRequested { job: name(n).into(), actor: "x".into(), ..Default::default() };
                vec![cancel.into()]
            }
            Step::Node(n, up) => {
                let state = if *up { NodeState::Ready } else { NodeState::Fenced };
                vec![NodeStateChanged { node: format!("pod-{n}").into(), state, ..Default::default() }.into()]
            }
            Step::Wait(minutes) => {
                cell.now += minutes * 60 * SECOND_US;
                Vec::new()
            }
            _ => Vec::new(),
        };
        cell.epoch(events);
    }
    cell
}

/// Whether a job has a run, as the decisions say.
fn runs(cell: &Cell, job: &str) -> bool {
    cell.live_run(job).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn however_a_view_came_about_it_is_the_same(steps in steps(), cut in 0..26_usize) {
        let cell = history(&steps);
        let cut = cut.min(cell.epochs.len());
        let whole = folded(&cell.epochs);
        // From a saved state and the rest.
        let mut resumed = Failover::default();
        resumed.load(&mut folded(&cell.epochs[..cut]).entries().into_iter()).unwrap();
        cell.epochs[cut..].iter().for_each(|epoch| resumed.apply(epoch).unwrap());
        prop_assert_eq!(resumed.entries(), whole.entries());
        prop_assert_eq!(resumed.view(), whole.view());
        // What is hit is dealt with, and no GPU is given twice.
        for domain in &whole.view().domains {
            prop_assert_eq!(domain.jobs_hit, domain.protected + domain.unprotected + domain.ending);
            let mut taken = std::collections::BTreeSet::new();
            for gpu in domain.jobs.iter().flat_map(|hit| &hit.to_nodes).flat_map(|replica| {
                replica.gpus.iter().map(move |gpu| (replica.node.clone(), *gpu))
            }) {
                prop_assert!(taken.insert(gpu.clone()), "{gpu:?} is given twice when {} is lost", domain.domain);
            }
        }
    }
}

#[test]
fn a_store_brought_up_to_date_piece_by_piece_holds_what_a_rebuild_holds() {
    let directory = tempfile::tempdir().unwrap();
    let cell = two_at_work(3);
    let source = |from: i64, to: usize| {
        Epochs(
            cell.epochs[from as usize..to].iter().cloned().map(Ok::<_, std::io::Error>).collect::<Vec<_>>().into_iter(),
        )
    };
    for end in 1..=cell.epochs.len() {
        let mut store = ViewStore::<Failover>::open(directory.path()).unwrap();
        let from = store.position().next_epoch;
        store.catch_up(&mut source(from, end)).unwrap();
        assert_eq!(store.dump().unwrap(), folded(&cell.epochs[..end]).entries());
    }
    let before = ViewStore::<Failover>::read(directory.path()).unwrap().fold.view();
    let rebuilt = ViewStore::<Failover>::rebuild(directory.path(), &mut source(0, cell.epochs.len())).unwrap();
    assert_eq!(rebuilt.fold().view(), before);
}
