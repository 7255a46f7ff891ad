//! Laws of the inventory, against a naive scan over all nodes.

use std::sync::Arc;

use proptest::prelude::*;
use solyx_kernel::packing::{
    Area, Ask, Choice, Division, GPU_MILLI, GpuSlot, Inventory, Kind, Kinds, NO_DOMAIN, NodeHandle, NodeSpec, Rule,
    Scope,
};

fn node(name: usize, pool: u32, model: u32, domain: u32, gpus: usize, cores: i64) -> NodeSpec {
    NodeSpec {
        name: format!("n{name:03}").into(),
        pool,
        model,
        domain: if domain == 3 { NO_DOMAIN } else { pool * 10 + domain },
        gpus: vec![GpuSlot::FREE; gpus],
        cpu_milli: cores * 1000,
        memory_mib: cores * 4096,
        cpu_free_milli: cores * 1000,
        memory_free_mib: cores * 4096,
        scratch_free_gib: 100,
        replicas: 0,
        closed: false,
    }
}

prop_compose! {
    fn nodes()(parts in prop::collection::vec((0u32..2, 0u32..3, 0u32..4, 0usize..5, 1i64..5), 1..24)) -> Vec<NodeSpec> {
        parts.into_iter().enumerate().map(|(i, (pool, model, domain, gpus, cores))| {
            node(i * 7919 % 1000, pool, model, domain, gpus, cores * 8)
        }).collect()
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    let share = (Just(1i64), prop::sample::select(vec![100i64, 250, 400, 600, 1000]));
    let several = (2i64..4, prop::sample::select(vec![500i64, 1000]));
    let none = Just((0i64, 0i64));
    let models = prop::option::of(Just(vec![0u32, 2]));
    (prop_oneof![4 => share, 2 => several, 1 => none], 0i64..9, 0i64..20, models, prop::bool::weighted(0.1)).prop_map(
        |((gpus, gpu_milli_each), cores, scratch_gib, models, exclusive)| Ask {
            gpus,
            gpu_milli_each,
            cpu_milli: cores * 1000,
            memory_mib: cores * 2048,
            scratch_gib,
            models,
            exclusive,
            ..Ask::default()
        },
    )
}

/// Slices and starts of a GPU model that can be divided.
const TABLE: [(i64, &[i64]); 5] =
    [(1, &[0, 1, 2, 3, 4, 5, 6]), (2, &[0, 2, 4]), (4, &[0, 4]), (8, &[0]), (3, &[0, 1, 4])];

/// Also instances of MIG profiles, and tenants that share with themselves only.
fn any_ask() -> impl Strategy<Value = Ask> {
    let mig = prop::option::weighted(0.4, (0usize..TABLE.len(), 1i64..3));
    let tenant = prop::option::weighted(0.4, (1u32..4, any::<bool>()));
    (ask(), mig, tenant).prop_map(|(mut ask, mig, tenant)| {
        if let Some((profile, gpus)) = mig {
            ask.gpus = gpus;
            ask.gpu_milli_each = TABLE[profile].0 * 125;
            ask.mig = Some(Arc::new(Division::new(TABLE[profile], &TABLE)));
        }
        if let Some((tenant, apart)) = tenant
            && ask.shares()
        {
            (ask.tenant, ask.apart) = (tenant, apart);
        }
        ask
    })
}

fn kinds() -> impl Strategy<Value = Kinds> {
    prop::collection::vec((ask(), 1i64..50), 0..8).prop_map(|asks| {
        Kinds::new(asks.into_iter().map(|(ask, count)| Kind {
            cpu_milli: ask.cpu_milli,
            memory_mib: ask.memory_mib,
            gpus: ask.gpus,
            gpu_milli_each: ask.gpu_milli_each,
            models: ask.models,
            count,
        }))
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    prop::sample::select(vec![Rule::BestFit, Rule::Fgd, Rule::Solyx])
}

/// What the inventory's documentation says of fitting, over one node, without its index.
fn fits(spec: &NodeSpec, ask: &Ask) -> bool {
    let in_use = |gpu: &GpuSlot| gpu.slices != 0 || gpu.free_milli < GPU_MILLI;
    let lets_in = |gpu: &GpuSlot| {
        let own = gpu.owner != 0 && gpu.owner == ask.tenant;
        !in_use(gpu) || own || !gpu.kept && !ask.apart || !ask.shares()
    };
    let holds = |gpu: &GpuSlot| match &ask.mig {
        None => gpu.slices == 0 && gpu.free_milli >= ask.gpu_milli_each,
        Some(division) => {
            let starts = (0..16).filter_map(|start| division.slices_at(start));
            (gpu.slices != 0 || gpu.free_milli == GPU_MILLI)
                && starts.into_iter().any(|slices| slices & gpu.slices == 0)
        }
    };
    let wide = spec.gpus.iter().filter(|gpu| gpu.usable && holds(gpu) && lets_in(gpu)).count() as i64;
    !spec.closed
        && (!ask.exclusive || spec.replicas == 0)
        && spec.cpu_free_milli >= ask.cpu_milli
        && spec.memory_free_mib >= ask.memory_mib
        && spec.scratch_free_gib >= ask.scratch_gib
        && ask.models.as_ref().is_none_or(|models| models.contains(&spec.model))
        && wide >= ask.gpus
}

/// Σ over typical kinds of count × idle GPU it cannot use, as the paper defines it.
fn fragmentation(spec: &NodeSpec, kinds: &Kinds) -> i64 {
    let idle: i64 = spec.gpus.iter().map(|gpu| gpu.free_milli).sum();
    let of = |kind: &Kind| {
        let wide = |gpu: &&GpuSlot| gpu.free_milli >= kind.gpu_milli_each;
        let runs = kind.gpus > 0
            && kind.models.as_ref().is_none_or(|models| models.contains(&spec.model))
            && spec.cpu_free_milli >= kind.cpu_milli
            && spec.gpus.iter().filter(wide).count() as i64 >= kind.gpus;
        let narrow: i64 = spec.gpus.iter().filter(|gpu| !wide(gpu)).map(|gpu| gpu.free_milli).sum();
        kind.count * if runs { narrow } else { idle }
    };
    kinds.typical().iter().map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_choice_fits_and_there_is_none_only_when_nothing_fits(
        nodes in nodes(), asks in prop::collection::vec((any_ask(), rule()), 1..60), kinds in kinds(),
    ) {
        let mut inventory = Inventory::new(&kinds);
        let handles: Vec<NodeHandle> = nodes.into_iter().map(|spec| inventory.add(spec)).collect();
        for (ask, rule) in asks {
            let fitting = handles.iter().filter(|node| fits(inventory.get(**node).unwrap(), &ask)).count();
            match inventory.choose(rule, &ask, Scope::ALL) {
                None => prop_assert_eq!(fitting, 0),
                Some(choice) => {
                    let before = inventory.get(choice.node).unwrap().clone();
                    prop_assert!(fits(&before, &ask));
                    inventory.allocate(&choice, &ask).unwrap();
                    let after = inventory.get(choice.node).unwrap();
                    prop_assert!(after.gpus.iter().all(|gpu| (0..=GPU_MILLI).contains(&gpu.free_milli)));
                    let pairs = || before.gpus.iter().zip(&after.gpus);
                    let taken: i64 = match &ask.mig {
                        None => pairs().map(|(b, a)| b.free_milli - a.free_milli).sum(),
                        Some(_) => pairs().map(|(b, a)| 125 * i64::from((a.slices & !b.slices).count_ones())).sum(),
                    };
                    prop_assert_eq!(taken, ask.gpu_milli());
                    prop_assert!(pairs().all(|(b, a)| a.slices & b.slices == b.slices), "no instance is moved");
                    prop_assert!(after.gpus.iter().all(|gpu| gpu.slices == 0 || gpu.free_milli == 0));
                }
            }
        }
    }

    #[test]
    fn best_fit_and_fgd_choose_as_a_scan_over_all_nodes_does(
        nodes in nodes(), asks in prop::collection::vec(ask(), 1..60), kinds in kinds(), pool in 0u32..2,
    ) {
        let mut inventory = Inventory::new(&kinds);
        let handles: Vec<NodeHandle> = nodes.into_iter().map(|spec| inventory.add(spec)).collect();
        let areas = [Area::Pool(pool)];
        for (i, ask) in asks.iter().enumerate() {
            let rule = if i % 2 == 0 { Rule::BestFit } else { Rule::Fgd };
            let choice = inventory.choose(rule, ask, Scope::of(&areas));
            // Each node alone in an inventory of its own has no class mates and no cached neighbours.
            let alone = |node: &NodeHandle| {
                let spec = inventory.get(*node).unwrap().clone();
                (spec.pool == pool && fits(&spec, ask)).then(|| (spec.name.clone(), *node))
            };
            let fitting: Vec<_> = handles.iter().filter_map(alone).collect();
            prop_assert_eq!(choice.is_some(), !fitting.is_empty());
            if let Some(choice) = choice {
                let chosen = inventory.get(choice.node).unwrap().clone();
                // Nobody of the same state has a smaller name.
                let twin = |spec: &NodeSpec| {
                    let sorted = |spec: &NodeSpec| {
                        let mut free: Vec<i64> = spec.gpus.iter().map(|gpu| gpu.free_milli).collect();
                        free.sort_unstable();
                        free
                    };
                    sorted(spec) == sorted(&chosen)
                        && (spec.model, spec.cpu_milli, spec.cpu_free_milli, spec.memory_free_mib, spec.scratch_free_gib, spec.replicas == 0)
                            == (chosen.model, chosen.cpu_milli, chosen.cpu_free_milli, chosen.memory_free_mib, chosen.scratch_free_gib, chosen.replicas == 0)
                };
                for (name, node) in &fitting {
                    let spec = inventory.get(*node).unwrap();
                    prop_assert!(!twin(spec) || name >= &chosen.name);
                    if rule == Rule::BestFit || kinds.typical().is_empty() {
                        let left = |spec: &NodeSpec| spec.cpu_free_milli + 16 * spec.gpus.iter().map(|gpu| gpu.free_milli).sum::<i64>();
                        prop_assert!(left(&chosen) <= left(spec) + 2 * 2560, "best fit leaves least, up to its rounding");
                    }
                }
                inventory.allocate(&choice, ask).unwrap();
            }
        }
    }

    #[test]
    fn whichever_way_nodes_are_looked_for_the_choice_is_the_same(
        nodes in nodes(), asks in prop::collection::vec((any_ask(), rule(), 0i64..4000), 1..80), kinds in kinds(),
        remainders in prop::collection::vec((0i64..3000, 0i64..2000, 0i64..12), 24), own in any::<bool>(),
        pool in prop::option::of(0u32..2), released in prop::collection::vec(any::<bool>(), 80), refused in 1u32..6,
    ) {
        let mut inventory = Inventory::new(&kinds);
        for (mut spec, (cpu_milli, memory_mib, scratch_gib)) in nodes.into_iter().zip(remainders) {
            if own {
                spec.cpu_free_milli -= cpu_milli;
                spec.memory_free_mib -= memory_mib;
                spec.scratch_free_gib -= scratch_gib;
            }
            inventory.add(spec);
        }
        let areas: Vec<Area> = pool.map(Area::Pool).into_iter().collect();
        let scope = if areas.is_empty() { Scope::ALL } else { Scope::of(&areas) };
        let accepts = |node: NodeHandle| !node.0.is_multiple_of(refused + 1);
        let mut taken: Vec<(Choice, Ask)> = Vec::new();
        for (i, (mut ask, rule, cpu_milli)) in asks.into_iter().enumerate() {
            if own {
                ask.cpu_milli += cpu_milli;
                ask.memory_mib += cpu_milli / 3;
            }
            let scope = if i % 3 == 0 { scope.accepting(&accepts) } else { scope };
            let scanned = inventory.choose_by_scan(rule, &ask, scope);
            prop_assert_eq!(&inventory.choose_by_order(rule, &ask, scope), &scanned);
            prop_assert_eq!(&inventory.choose(rule, &ask, scope), &scanned);
            if let Some(choice) = scanned {
                prop_assert!(inventory.feasible_replicas(&ask, scope, 1) == 1);
                inventory.allocate(&choice, &ask).unwrap();
                taken.push((choice, ask));
            } else {
                prop_assert_eq!(inventory.feasible_replicas(&ask, scope, 1), 0);
            }
            if released[i] && taken.len() > 1 {
                let (choice, ask) = taken.swap_remove(i % taken.len());
                inventory.release(&choice, &ask).unwrap();
            }
        }
    }

    #[test]
    fn what_is_released_leaves_everything_as_it_was(
        nodes in nodes(), asks in prop::collection::vec((any_ask(), rule()), 1..40), kinds in kinds(),
    ) {
        let mut inventory = Inventory::new(&kinds);
        for spec in nodes {
            inventory.add(spec);
        }
        let before: Vec<NodeSpec> = inventory.nodes().map(|(_, spec)| spec.clone()).collect();
        let first: Vec<Option<Choice>> = asks.iter().map(|(ask, rule)| inventory.choose(*rule, ask, Scope::ALL)).collect();
        let mut taken = Vec::new();
        for (ask, rule) in &asks {
            if let Some(choice) = inventory.choose(*rule, ask, Scope::ALL) {
                inventory.allocate(&choice, ask).unwrap();
                taken.push((choice, ask.clone()));
            }
        }
        // Released in the order of taking, not its reverse.
        for (choice, ask) in &taken {
            inventory.release(choice, ask).unwrap();
        }
        let after: Vec<NodeSpec> = inventory.nodes().map(|(_, spec)| spec.clone()).collect();
        prop_assert_eq!(before, after);
        let again: Vec<Option<Choice>> = asks.iter().map(|(ask, rule)| inventory.choose(*rule, ask, Scope::ALL)).collect();
        prop_assert_eq!(first, again);
    }

    #[test]
    fn the_order_in_which_nodes_come_in_decides_nothing(
        nodes in nodes(), asks in prop::collection::vec((any_ask(), rule()), 1..30), kinds in kinds(),
    ) {
        let mut forth = Inventory::new(&kinds);
        let mut back = Inventory::new(&kinds);
        nodes.iter().for_each(|spec| { forth.add(spec.clone()); });
        nodes.iter().rev().for_each(|spec| { back.add(spec.clone()); });
        for (ask, rule) in &asks {
            let name = |inventory: &Inventory, choice: &Option<Choice>| {
                choice.as_ref().map(|choice| (inventory.get(choice.node).unwrap().name.clone(), choice.gpus.clone(), choice.starts.clone()))
            };
            let (a, b) = (forth.choose(*rule, ask, Scope::ALL), back.choose(*rule, ask, Scope::ALL));
            prop_assert_eq!(name(&forth, &a), name(&back, &b));
            if let (Some(a), Some(b)) = (a, b) {
                forth.allocate(&a, ask).unwrap();
                back.allocate(&b, ask).unwrap();
            }
        }
    }

    #[test]
    fn the_table_of_fragmentation_equals_its_definition(
        nodes in nodes(), asks in prop::collection::vec(ask(), 1..40), kinds in kinds(),
    ) {
        // Shares of several GPUs count as one share in the table, as documented.
        prop_assume!(kinds.typical().iter().all(|kind| kind.gpus <= 1 || kind.gpu_milli_each == GPU_MILLI));
        let mut inventory = Inventory::new(&kinds);
        for spec in nodes {
            inventory.add(spec);
        }
        for ask in asks {
            if let Some(choice) = inventory.choose(Rule::BestFit, &ask, Scope::ALL) {
                inventory.allocate(&choice, &ask).unwrap();
            }
        }
        for (node, spec) in inventory.nodes() {
            prop_assert_eq!(inventory.fragmentation(node).unwrap().0, fragmentation(spec, &kinds));
        }
    }

    #[test]
    fn a_gang_is_placed_whole_within_its_area_or_not_at_all_and_takes_nothing(
        nodes in nodes(), ask in any_ask(), replicas in 1i64..12, kinds in kinds(), pool in 0u32..2, rule in rule(),
    ) {
        let mut inventory = Inventory::new(&kinds);
        for spec in nodes {
            inventory.add(spec);
        }
        let before: Vec<NodeSpec> = inventory.nodes().map(|(_, spec)| spec.clone()).collect();
        let areas = [Area::Pool(pool)];
        let gang = inventory.choose_gang(rule, &ask, replicas, Scope::of(&areas));
        let after: Vec<NodeSpec> = inventory.nodes().map(|(_, spec)| spec.clone()).collect();
        prop_assert_eq!(before, after);
        let feasible = inventory.feasible_replicas(&ask, Scope::of(&areas), 1000);
        if ask.gpus <= 1 || ask.gpu_milli_each == GPU_MILLI || ask.mig.is_some() {
            prop_assert_eq!(gang.is_some(), feasible >= replicas);
        }
        for choice in gang.iter().flatten() {
            prop_assert_eq!(inventory.get(choice.node).unwrap().pool, pool);
            inventory.allocate(choice, &ask).unwrap();
        }
        if let Some(domain) = inventory.tightest_domain(&ask, 1, pool, None) {
            let areas = [Area::Domain(domain)];
            prop_assert!(inventory.choose(rule, &ask, Scope::of(&areas)).is_some());
        }
    }
}

#[test]
fn a_filter_excludes_nodes_without_touching_the_inventory() {
    let mut inventory = Inventory::default();
    let first = inventory.add(node(1, 0, 0, 3, 2, 8));
    let second = inventory.add(node(2, 0, 0, 3, 2, 8));
    let ask = Ask { gpus: 1, gpu_milli_each: 1000, ..Ask::default() };
    let chosen = |inventory: &mut Inventory, avoided: &[NodeHandle]| {
        let accepts = |node: NodeHandle| !avoided.contains(&node);
        inventory.choose(Rule::Solyx, &ask, Scope::ALL.accepting(&accepts)).map(|choice| choice.node)
    };
    assert_eq!(chosen(&mut inventory, &[]), Some(first));
    assert_eq!(chosen(&mut inventory, &[first]), Some(second));
    assert_eq!(chosen(&mut inventory, &[first, second]), None);
    assert_eq!(inventory.feasible_replicas(&ask, Scope::ALL.accepting(&|node| node != first), 10), 2);
}

#[test]
fn a_degraded_gpu_takes_nothing_new_and_an_exclusive_replica_keeps_others_out() {
    let mut inventory = Inventory::default();
    let mut spec = node(1, 0, 0, 3, 2, 8);
    spec.gpus[0].usable = false;
    inventory.add(spec);
    let one = Ask { gpus: 1, gpu_milli_each: 500, exclusive: true, ..Ask::default() };
    let choice = inventory.choose(Rule::Fgd, &one, Scope::ALL).unwrap();
    assert_eq!(choice.gpus, [1]);
    inventory.allocate(&choice, &one).unwrap();
    let other = Ask { exclusive: false, ..one.clone() };
    assert_eq!(inventory.choose(Rule::Fgd, &other, Scope::ALL), None);
    inventory.release(&choice, &one).unwrap();
    assert!(inventory.choose(Rule::Fgd, &other, Scope::ALL).is_some());
    assert!(inventory.release(&choice, &one).is_err(), "nothing is left to release");
}
