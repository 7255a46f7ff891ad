//! Laws over random histories, checked after every epoch by books that count again with code of their own.

use std::collections::BTreeMap;

use proptest::prelude::*;
use solyx_histories::books::Books;
use solyx_histories::history::{Luck, Mood, Wider, beginning};
use solyx_histories::ledger::Ledger;
use solyx_histories::moves::MovesBook;
use solyx_histories::reasons::who_was_told_of_a_lack_lacks_it;
use solyx_histories::shared_gpus::SharedBook;
use solyx_histories::*;
use solyx_kernel::{Entry, Kernel};
use solyx_schemas::events::Event;
use solyx_schemas::units::*;

const EPOCHS: i64 = 45;

fn world() -> World {
    let mut world = World::empty();
    world.quiet = true;
    world
}

/// Lets some time pass: to the next wake-up, or a bit.
fn pass_time(world: &mut World, luck: &mut Luck) {
    world.now = match (luck.below(3), world.kernel.next_wakeup()) {
        (0, Some(at)) => at.0.clamp(world.now, world.now + 12 * HOUR_US),
        (1, _) => world.now,
        _ => world.now + luck.below(HOUR_US),
    };
}

/// The plan of packing prices, where one is due.
fn plan(world: &World) -> Option<Event> {
    Some(world.kernel.plan_is_due().then(|| world.kernel.packing_plan())??.into())
}

fn live_by_epoch(seed: u64, mood: Mood) {
    live_with(seed, mood, Wider::default());
}

/// The same with what is drawn beside the rest; how often runs were stopped for a higher class, and jobs were told something.
fn live_with(seed: u64, mood: Mood, mut wider: Wider) -> BTreeMap<String, usize> {
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let mut luck = Luck(seed);
    let (mut world, mut books) = (world(), Books::of(wider.promises(mood)));
    let (mut executor, mut events) = beginning(&mut luck, mood);
    wider.begins(world.now, &mut events);
    for _ in 0..EPOCHS {
        let (closed, counted) = world.close_counting(events);
        books.epoch(&counted, &closed, &world.kernel);
        for what in closed.outputs.iter().filter_map(what_was_told) {
            *told.entry(what).or_default() += 1;
        }
        if closed.record.epoch % 9 == 0 {
            who_was_told_of_a_lack_lacks_it(&world.kernel, &mut luck);
        }
        executor.sees(&mut luck, world.now, &closed.outputs);
        pass_time(&mut world, &mut luck);
        events = executor.says(&mut luck, world.now);
        wider.widens(&executor, world.now, &mut events);
        events.extend(plan(&world));
    }
    books.gpu_time_is_held_once();
    told.insert("stopped for a higher class".to_owned(), books.stops.by_class);
    told.insert("placed beside what is not lent".to_owned(), books.kept_back.beside_kept);
    told.insert("placed beside what is held back".to_owned(), books.kept_back.beside_reserve);
    told
}

/// The limit that a job was told, or that it was put off to a better hour or waits again.
fn what_was_told(output: &Event) -> Option<String> {
    match output {
        Event::JobHeld(held) => {
            let is_kept = held.limit.subject.as_ref().is_some_and(|subject| subject.as_str().ends_with(":kept"));
            Some(format!("{:?}{}", held.limit.kind, if is_kept { " that is not lent" } else { "" }))
        }
        Event::JobDeferred(_) => Some("deferred".to_owned()),
        Event::JobRequeued(_) => Some("requeued".to_owned()),
        _ => None,
    }
}

/// How often jobs were lent room and gave it back in a history: at the start, at a checkpoint, back at a checkpoint, back at once.
fn resizes(seed: u64) -> [usize; 4] {
    let mut luck = Luck(seed);
    let (mut world, mut ledger) = (world(), Ledger::default());
    let (mut executor, mut events) = beginning(&mut luck, Mood::Calm);
    let mut counts = [0; 4];
    for _ in 0..EPOCHS {
        let (closed, counted) = world.close_counting(events);
        ledger.epoch(world.now, &counted, &closed);
        counts[0] += ledger.grown.len();
        for output in &closed.outputs {
            let Event::JobResized(told) = output else { continue };
            let kind = match (told.to_replicas > told.from_replicas, told.reason.contains("at once")) {
                (true, _) => 1,
                (false, false) => 2,
                (false, true) => 3,
            };
            counts[kind] += 1;
        }
        executor.sees(&mut luck, world.now, &closed.outputs);
        pass_time(&mut world, &mut luck);
        events = executor.says(&mut luck, world.now);
    }
    counts
}

#[test]
fn random_histories_lend_room_at_the_start_and_at_checkpoints() {
    let counts = (0..120).map(resizes).fold([0; 4], |sum, more| std::array::from_fn(|i| sum[i] + more[i]));
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}

/// What was moved in a history: for gangs, off drained nodes, what went on at once, and gangs that got their room.
fn moves(seed: u64, mood: Mood) -> [usize; 4] {
    let mut luck = Luck(seed);
    let (mut world, mut moves) = (world(), MovesBook::default());
    let (mut executor, mut events) = beginning(&mut luck, mood);
    for _ in 0..EPOCHS {
        let (closed, counted) = world.close_counting(events);
        moves.epoch(world.now, &counted, &closed, world.kernel.state(), matches!(mood, Mood::Calm | Mood::Crowded));
        executor.sees(&mut luck, world.now, &closed.outputs);
        pass_time(&mut world, &mut luck);
        events = executor.says(&mut luck, world.now);
    }
    [moves.consolidated, moves.drained, moves.went_on, moves.helped]
}

#[test]
fn random_histories_move_runs_for_gangs_and_off_drained_nodes() {
    let all = |mood| (0..120).map(move |seed| moves(seed, mood));
    let sum = |mood| all(mood).fold([0; 4], |sum, more| std::array::from_fn(|i| sum[i] + more[i]));
    let (crowded, shaken) = (sum(Mood::Crowded), sum(Mood::Shaken));
    println!("{crowded:?} {shaken:?}");
    assert!(crowded[0] > 0 && crowded[2] > 0 && crowded[3] > 0, "{crowded:?}");
    assert!(shaken[0] > 0 && shaken[1] > 0 && shaken[2] > 0, "{shaken:?}");
}

/// Instances placed, GPUs with several of them, GPUs shared by several tenants, and jobs that were kept apart.
fn sharing(seed: u64) -> [usize; 4] {
    let mut luck = Luck(seed);
    let (mut world, mut shared) = (world(), SharedBook::default());
    let (mut executor, mut events) = beginning(&mut luck, Mood::Wild);
    for _ in 0..EPOCHS {
        let (closed, counted) = world.close_counting(events);
        shared.epoch(world.kernel.state(), &counted, &closed);
        executor.sees(&mut luck, world.now, &closed.outputs);
        pass_time(&mut world, &mut luck);
        events = executor.says(&mut luck, world.now);
    }
    [shared.instances, shared.beside, shared.mixed, shared.apart]
}

#[test]
fn random_histories_divide_gpus_and_keep_tenants_apart() {
    let counts = (0..40).map(sharing).fold([0; 4], |sum, more| std::array::from_fn(|i| sum[i] + more[i]));
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}

/// The mood of a wider history.
fn mood_of(seed: u64) -> Mood {
    *Luck(seed).of(&[Mood::Wild, Mood::Crowded, Mood::Shaken, Mood::Shaken, Mood::Calm])
}

#[test]
fn wider_histories_preempt_by_class_defer_and_keep_what_is_not_lent_or_held_back() {
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..30 {
        for (what, times) in live_with(seed, mood_of(seed), Wider::always(seed)) {
            *told.entry(what).or_default() += times;
        }
    }
    let all = [
        "stopped for a higher class",
        "placed beside what is not lent",
        "placed beside what is held back",
        "deferred",
        "requeued",
        "Quota that is not lent",
        "FailoverReserve",
        "ProviderCapacity",
        "Residency",
        "RetryBackoff",
    ];
    let never: Vec<&str> = all.into_iter().filter(|what| told.get(*what).is_none_or(|times| *times == 0)).collect();
    assert_eq!(never, Vec::<&str>::new(), "{told:?}");
}

fn restored_goes_on(seed: u64, mood: Mood) {
    restored_goes_on_with(seed, mood, Wider::default());
}

fn restored_goes_on_with(seed: u64, mood: Mood, mut wider: Wider) {
    let mut luck = Luck(seed);
    let mut world = world();
    let mut twin: Option<World> = None;
    let (mut executor, mut events) = beginning(&mut luck, mood);
    wider.begins(world.now, &mut events);
    for epoch in 0..EPOCHS {
        let closed = world.close(events.clone());
        if let Some(twin) = &mut twin {
            let again = twin.close(events);
            for (one, other) in closed.outputs.iter().zip(&again.outputs) {
                assert_eq!(one, other, "epoch {epoch}");
            }
            assert_eq!(closed.record, again.record, "epoch {epoch}");
            assert_eq!(closed.chain_hash, again.chain_hash);
        }
        assert_eq!(world.kernel.index_differences(), Vec::<String>::new(), "after epoch {epoch}");
        if luck.chance(40) || twin.is_none() {
            let mut other = world.clone();
            other.kernel = Kernel::restore(world.kernel.snapshot()).unwrap();
            twin = Some(other);
        }
        let other = &twin.as_ref().unwrap().kernel;
        assert_eq!(other.next_wakeup(), world.kernel.next_wakeup(), "next wake-up after epoch {epoch}");
        assert_eq!(other.next_counting_wakeup(), world.kernel.next_counting_wakeup(), "after epoch {epoch}");
        assert_eq!(other.plan_is_due(), world.kernel.plan_is_due());
        if other.plan_is_due() {
            assert_eq!(other.packing_plan(), world.kernel.packing_plan(), "the plan after epoch {epoch}");
        }
        executor.sees(&mut luck, world.now, &closed.outputs);
        pass_time(&mut world, &mut luck);
        twin.as_mut().unwrap().now = world.now;
        events = executor.says(&mut luck, world.now);
        wider.widens(&executor, world.now, &mut events);
        events.extend(plan(&world));
    }
}

/// A snapshot that is handed out in pieces of random size while epochs go on is that of its instant.
fn pieces_are_of_one_instant(seed: u64) {
    let mut luck = Luck(seed);
    let mut world = world();
    let mut at_once = world.kernel.snapshot();
    let mut pieces: Option<Vec<Entry>> = None;
    let mut whole = 0;
    let (mut executor, mut events) = beginning(&mut luck, Mood::Wild);
    for epoch in 0..EPOCHS {
        let closed = world.close(events);
        if pieces.is_none() || luck.chance(5) {
            at_once = world.kernel.snapshot();
            assert_eq!(world.kernel.begin_snapshot(), (at_once.head.clone(), at_once.entries.len()));
            pieces = Some(Vec::new());
        }
        if luck.chance(2) {
            world.kernel.give_up_snapshot();
            pieces = None;
        }
        let piece = world.kernel.next_entries(luck.below(12_000) as usize);
        if let Some(taken) = &mut pieces {
            taken.extend(piece.iter().cloned());
            if piece.is_empty() {
                assert_eq!(*taken, at_once.entries, "after epoch {epoch}");
                pieces = None;
                whole += 1;
            }
        }
        executor.sees(&mut luck, world.now, &closed.outputs);
        pass_time(&mut world, &mut luck);
        events = executor.says(&mut luck, world.now);
        events.extend(plan(&world));
    }
    assert!(whole > 0, "no snapshot was handed out in whole");
}

fn cases(default: u32) -> ProptestConfig {
    ProptestConfig { cases: default, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn no_decision_creates_or_increases_an_overcommitment_in_any_order_of_events(seed: u64) {
        live_by_epoch(seed, Mood::Wild);
    }

    #[test]
    fn a_snapshot_in_pieces_is_that_of_its_instant(seed: u64) {
        pieces_are_of_one_instant(seed);
    }

    #[test]
    fn a_kernel_restored_from_a_snapshot_goes_on_to_the_same_bits(seed: u64) {
        restored_goes_on(seed, Mood::Wild);
    }

    #[test]
    fn where_room_is_lent_the_laws_hold_and_jobs_have_between_their_least_and_largest_number(seed: u64) {
        live_by_epoch(seed, Mood::Calm);
    }

    #[test]
    fn where_gangs_wait_the_laws_hold_and_who_is_moved_goes_on_at_once_and_the_gang_has_its_room(seed: u64) {
        live_by_epoch(seed, Mood::Crowded);
    }

    #[test]
    fn where_nodes_come_and_go_while_runs_are_moved_the_laws_hold_and_a_restored_kernel_goes_on(seed: u64) {
        live_by_epoch(seed, Mood::Shaken);
        restored_goes_on(seed, Mood::Shaken);
    }

    #[test]
    fn where_classes_preempt_prices_are_corrected_and_sites_are_lost_the_laws_hold_and_a_restored_kernel_goes_on(seed: u64) {
        let mood = mood_of(seed);
        live_with(seed, mood, Wider::always(seed));
        restored_goes_on_with(seed, mood, Wider::always(seed));
    }

    #[test]
    fn a_kernel_restored_while_runs_are_moved_goes_on_to_the_same_bits(seed: u64) {
        restored_goes_on(seed, Mood::Crowded);
    }

    #[test]
    fn a_kernel_restored_while_jobs_are_resized_goes_on_to_the_same_bits(seed: u64) {
        restored_goes_on(seed, Mood::Calm);
    }
}

#[test]
fn histories_that_once_went_wrong_hold_the_laws() {
    for seed in [
        14443299732265348654,
        11338386629152624230,
        4457570221842912420,
        15781444793087965422,
        13677675781761228490,
        7983704747454962948,
        14843584305932842642,
    ] {
        live_by_epoch(seed, Mood::Wild);
        restored_goes_on(seed, Mood::Wild);
    }
    live_by_epoch(12_394_497_531_989_416_782, Mood::Calm);
    live_by_epoch(14_749_026_559_598_511_825, Mood::Shaken);
    live_by_epoch(12_764_917_701_053_314_090, Mood::Crowded);
}

/// A history in which room that was held for a job was given up for want of power, and the job came back to the same node in turn.
#[test]
fn who_comes_back_where_power_ran_short_does_so_in_turn() {
    live_by_epoch(780_982_391_698_488_128, Mood::Shaken);
}

/// Wider histories: a job with a share of a GPU that fits beside one placed later in the pass, where GPUs are kept; and one that once
/// went wrong.
#[test]
fn wider_histories_that_once_went_wrong_hold_the_laws() {
    for seed in [3_038_470_966_098_341_854, 15_495_019_468_652_600_872] {
        live_with(seed, mood_of(seed), Wider::always(seed));
    }
}
