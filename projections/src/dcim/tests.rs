//! A small site with two feeds, over a few hours.

use solyx_schemas::codec::{Codec, Decoded};
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position};
use solyx_schemas::events::Event;
use solyx_schemas::events::assets::*;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::common::{NodeGpus, Sum};
use solyx_schemas::events::decisions::{EpochCommitted, JobCancelled, JobPlaced};
use solyx_schemas::events::facility::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::runs::{RunFinished, RunLeaseRenewed};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::events::world::*;
use solyx_schemas::hash::Hash32;

use super::*;
use solyx_schemas::units::*;

const T0: i64 = 470_496;

fn hour(offset: i64) -> TimeUs {
    TimeUs((T0 + offset) * HOUR_US)
}

fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

fn epoch(number: i64, now: TimeUs, inputs: Vec<Event>, outputs: Vec<Event>) -> EpochBatch {
    let inputs = inputs.into_iter().enumerate().map(|(ordinal, event)| InputRecord {
        position: Position::new(event.topic(), 0, ordinal as u64),
        decoded: Some(Decoded { schema: Codec::global().schema_of(&event).1, event }),
        skipped: None,
    });
    EpochBatch {
        record: EpochCommitted { epoch: number, now_us: now, ..Default::default() },
        chain_hash: Hash32::default(),
        inputs: inputs.collect(),
        outputs,
    }
}

fn element(name: &str, parents: &[&str], limit_w: i64) -> Event {
    PowerElementDeclared {
        site: "pod".into(),
        element: name.into(),
        kind: if parents.is_empty() { ElementKind::UtilityFeed } else { ElementKind::Panel },
        parents: parents.iter().map(|parent| ElementId::from(*parent)).collect(),
        limit_w: PowerW(limit_w),
        derating_milli: Milli(800),
        ..Default::default()
    }
    .into()
}

fn price(from: i64, to: i64, micros: i64, revision: i64) -> Event {
    EnergyPriced {
        zone: "DE-LU".into(),
        from_us: hour(from),
        to_us: hour(to),
        price_micros_per_mwh: RateMicros(micros),
        currency: usd(),
        kind: PriceKind::DayAhead,
        revision: Count(revision),
        ..Default::default()
    }
    .into()
}

fn carbon(from: i64, mg_per_kwh: i64, status: CarbonStatus) -> Event {
    CarbonReported {
        zone: "DE-LU".into(),
        from_us: hour(from),
        to_us: hour(from + 1),
        mg_per_kwh: CarbonIntensityMgPerKwh(mg_per_kwh),
        status,
        signal: CarbonSignal::Average,
        method: CarbonMethod::Location,
        ..Default::default()
    }
    .into()
}

fn energy(run: &str, from: i64, joules: i64) -> Event {
    UsageMetered {
        job: run.split('/').next().unwrap().into(),
        run: run.into(),
        meter: Meter::Energy,
        quantity: UsageQuantity(joules),
        from_us: hour(from),
        to_us: hour(from + 1),
        ..Default::default()
    }
    .into()
}

fn placed(job: &str, pool: &str, site: &str, node: &str, gpus: &[i64]) -> Event {
    JobPlaced {
        job: job.into(),
        run: format!("{job}/1").into(),
        pool: pool.into(),
        site: site.into(),
        nodes: vec![NodeGpus { node: node.into(), gpus: gpus.to_vec(), gpu_milli_each: GpuMilli(500) }],
        ..Default::default()
    }
    .into()
}

fn pool(name: &str, site: &str, class: CapacityClass) -> Event {
    PoolDeclared { pool: name.into(), site: site.into(), class, ..Default::default() }.into()
}

/// The site, a node with four GPUs of 700 W and 800 W idle on two feeds 600 to 400, and two jobs that share GPU 1.
fn world() -> Vec<EpochBatch> {
    let site = |name: &str| SiteDeclared {
        site: name.into(),
        grid_zone: "DE-LU".into(),
        design_pue_milli: Milli(1_250),
        ..Default::default()
    };
    let gpus = (0..4).map(|index| GpuReport { index, max_w: PowerW(700), ..Default::default() }).collect();
    let feed = |element: &str, share| FeedShare { element: element.into(), share_milli: Milli(share) };
    let node = NodeReported {
        node: "n1".into(),
        pool: "pod/h100".into(),
        gpus,
        idle_w: PowerW(800),
        feeds: vec![feed("panel-a", 600), feed("panel-b", 400)],
        ..Default::default()
    };
    let declared = vec![
        site("pod").into(),
        site("cloud").into(),
        element("feed-a", &[], 3_000),
        element("feed-b", &[], 3_000),
        element("panel-a", &["feed-a"], 2_000),
        element("panel-b", &["feed-b"], 2_000),
        pool("pod/h100", "pod", CapacityClass::Owned),
        pool("cloud/h100", "cloud", CapacityClass::OnDemand),
        node.into(),
        price(0, 1, 100_000_000, 0),
        carbon(0, 400_000, CarbonStatus::Forecast),
    ];
    let placements = vec![
        placed("a", "pod/h100", "pod", "n1", &[0, 1]),
        placed("b", "pod/h100", "pod", "n1", &[1]),
        placed("c", "cloud/h100", "cloud", "i-1", &[0]),
    ];
    let first_hour = vec![energy("a/1", 0, 3_600_000), energy("b/1", 0, 1_800_000), energy("c/1", 0, 7_200_000)];
    vec![epoch(0, hour(0), declared, placements), epoch(1, hour(1), first_hour, vec![])]
}

fn folded(epochs: &[EpochBatch]) -> Dcim {
    let mut dcim = Dcim::default();
    for epoch in epochs {
        dcim.apply(epoch).unwrap();
    }
    dcim
}

fn site<'a>(view: &'a DcimView, name: &str) -> &'a SiteView {
    view.sites.iter().find(|site| site.site.as_str() == name).unwrap()
}

#[test]
fn committed_load_counts_a_shared_gpu_once_and_falls_on_the_other_feed_when_one_is_lost() {
    let view = folded(&world()[..1]).view();
    let pod = site(&view, "pod");
    // 800 W idle and two of four GPUs.
    assert_eq!((pod.committed_w, pod.nodes[0].gpus_allotted), (2_200, 2));
    let loads: Vec<_> = pod
        .elements
        .iter()
        .map(|e| {
            (e.element.as_str(), e.limit_w, e.committed_w, e.without.iter().map(|l| l.headroom_w).collect::<Vec<_>>())
        })
        .collect();
    let expected = [
        ("feed-a", 2_400, 1_320, vec![2_400, 200]),
        ("feed-b", 2_400, 880, vec![200, 2_400]),
        ("panel-a", 1_600, 1_320, vec![1_600, -600]),
        ("panel-b", 1_600, 880, vec![-600, 1_600]),
    ];
    assert_eq!(loads, expected);
}

#[test]
fn what_nobody_says_the_end_of_is_given_up_as_the_engine_does() {
    let allotted = |epochs: &[EpochBatch]| site(&folded(epochs).view(), "pod").nodes[0].gpus_allotted;
    let mut epochs = world();
    let renewed = |hours| RunLeaseRenewed {
        job: "a".into(),
        run: "a/1".into(),
        lease_until_us: hour(hours),
        ..Default::default()
    };
    let cancelled =
        |job: &str, run: Option<&str>| JobCancelled { job: job.into(), run: run.map(Into::into), ..Default::default() };
    let both = vec![cancelled("a", Some("a/1")).into(), cancelled("b", Some("b/1")).into()];
    epochs.push(epoch(2, hour(2), vec![renewed(4).into()], both));
    epochs.push(epoch(3, hour(3), vec![], vec![]));
    assert_eq!(allotted(&epochs), 2, "a may still run, and has what b had, too");
    epochs.push(epoch(4, hour(4), vec![], vec![]));
    assert_eq!(allotted(&epochs), 0);
    let mut lost = world();
    lost.push(epoch(2, hour(2), vec![], vec![cancelled("a", None).into(), cancelled("b", None).into()]));
    assert_eq!(allotted(&lost), 0, "lost runs whose jobs are not tried again");
}

#[test]
fn what_ends_is_committed_no_more_and_readings_go_up_the_tree() {
    let mut epochs = world();
    let ended = RunFinished { job: "a".into(), run: "a/1".into(), ..Default::default() };
    let reading = PowerMeasured {
        site: "pod".into(),
        measured: MeasuredKind::Node,
        subject: "n1".into(),
        power_w: PowerW(1_000),
        from_us: hour(0),
        to_us: hour(2),
        ..Default::default()
    };
    epochs.push(epoch(2, hour(2), vec![reading.into(), ended.into()], vec![]));
    let view = folded(&epochs).view();
    let pod = site(&view, "pod");
    assert_eq!((pod.committed_w, pod.measured_w), (1_500, Some(1_000)));
    assert_eq!(pod.elements[2].measured_nodes_w, Some(600));
    let measured: Vec<_> = pod.hours.iter().map(|hour| (hour.energy_j, hour.energy_measured, hour.metered_j)).collect();
    assert_eq!(measured, [(3_600_000, true, 5_400_000), (3_600_000, true, 0)]);
}

#[test]
fn cost_and_carbon_follow_the_hour_and_bought_energy_has_carbon_alone() {
    let view = folded(&world()).view();
    let job = |name: &str| &view.jobs.iter().find(|job| job.job.as_str() == name).unwrap().totals;
    // 1 kWh × 1.25 at 0.10 per kWh and 400 g per kWh.
    assert_eq!(job("a").cost, [Sum { currency: usd(), micros: MoneyMicros(125_000) }]);
    assert_eq!((job("a").carbon_mg, job("a").facility_energy_j), (500_000, 4_500_000));
    assert_eq!((job("c").cost.len(), job("c").carbon_mg, job("c").bought_energy_j), (0, 1_000_000, 7_200_000));
    let pod = site(&view, "pod");
    assert_eq!(pod.totals.carbon_mg, job("a").carbon_mg + job("b").carbon_mg);
    assert_eq!(pod.totals.cost[0].micros.0, 187_500);
}

#[test]
fn a_later_revision_and_actual_carbon_count_for_the_hour_they_are_of() {
    let mut epochs = world();
    let news = vec![price(0, 1, 200_000_000, 1), carbon(0, 100_000, CarbonStatus::Actual)];
    epochs.push(epoch(2, hour(2), news, vec![]));
    let view = folded(&epochs).view();
    assert_eq!(view.jobs[0].totals.cost[0].micros.0, 250_000);
    assert_eq!(view.jobs[0].totals.carbon_mg, 125_000);
}

#[test]
fn a_hole_is_filled_for_a_day_and_marked_and_then_energy_is_listed_as_unpriced() {
    let mut epochs = world();
    let late = vec![energy("a/1", 24, 1_000), energy("a/1", 25, 2_000)];
    epochs.push(epoch(2, hour(26), late, vec![]));
    let totals = folded(&epochs).view().jobs[0].totals.clone();
    assert_eq!((totals.stale_price_energy_j, totals.unpriced_energy_j), (1_000, 2_000));
    assert_eq!((totals.stale_carbon_energy_j, totals.unknown_carbon_energy_j), (1_000, 2_000));
}

#[test]
fn a_measured_pue_takes_the_place_of_the_designed_one() {
    let mut epochs = world();
    let cooling = CoolingMeasured {
        site: "pod".into(),
        facility_w: PowerW(1_100),
        it_w: PowerW(1_000),
        water_ml: Count(7),
        from_us: hour(0),
        to_us: hour(1),
        ..Default::default()
    };
    epochs.push(epoch(2, hour(1), vec![cooling.into()], vec![]));
    let view = folded(&epochs).view();
    let pod = site(&view, "pod");
    assert_eq!((pod.hours[0].pue_milli, pod.hours[0].pue_measured, pod.totals.water_ml), (1_100, true, 7));
    assert_eq!(view.jobs[0].totals.cost[0].micros.0, 110_000);
}

#[test]
fn assets_are_worth_what_is_left_of_them() {
    let mut epochs = world();
    let installed = AssetInstalled {
        serial: "s-1".into(),
        site: "pod".into(),
        cost: Sum { currency: usd(), micros: MoneyMicros(4_000_000) },
        salvage: Sum { currency: usd(), micros: MoneyMicros(0) },
        installed_us: hour(0),
        life_us: DurationUs(4 * HOUR_US),
        method: DepreciationMethod::StraightLine,
        ..Default::default()
    };
    epochs.push(epoch(2, hour(1), vec![installed.into()], vec![]));
    let view = folded(&epochs).view();
    assert_eq!((view.assets[0].book_value.micros.0, view.assets[0].stage), (3_000_000, AssetStage::Installed));
    assert_eq!(site(&view, "pod").book_value[0].micros.0, 3_000_000);
}

#[test]
fn a_state_saved_whole_or_by_its_changes_loads_as_it_was_and_goes_on_the_same() {
    let epochs = world();
    let mut first = folded(&epochs[..1]);
    let mut stored: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = Default::default();
    let mut keep = |fold: &mut Dcim| {
        for (key, value) in fold.changes().unwrap() {
            match value {
                Some(value) => drop(stored.insert(key, value)),
                None => drop(stored.remove(&key)),
            }
        }
        stored.clone()
    };
    let saved = keep(&mut first);
    assert_eq!(saved.clone().into_iter().collect::<Vec<_>>(), first.entries());
    let mut loaded = Dcim::default();
    loaded.load(&mut saved.into_iter()).unwrap();
    assert_eq!(loaded.view(), first.view());
    loaded.apply(&epochs[1]).unwrap();
    first.apply(&epochs[1]).unwrap();
    assert_eq!(loaded.entries(), first.entries());
    assert_eq!(keep(&mut first).into_iter().collect::<Vec<_>>(), first.entries());
    assert_eq!(serde_json::to_string(&loaded.view()).unwrap(), serde_json::to_string(&folded(&epochs).view()).unwrap());
}
