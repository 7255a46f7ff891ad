use std::path::PathBuf;

use solyx_schemas::events::Event;
use solyx_schemas::events::nodes::NodeReported;
use solyx_schemas::units::{GpuMilli, PowerW};

use super::*;

const SMALL: &str = r#"
fleet = "small"
at = "2023-09-03T00:00:00Z"
features = ["spine"]
[cell]
id = "c"
currency = "USD"
[[gpu_model]]
id = "H100"
memory_mib = 81920
idle_w = 70
max_w = 700
nvlink = 4
[[site]]
id = "s"
region = "aws:eu-central-1"
grid_zone = "DE-LU"
country = "DE"
pue = "1.15"
latitude = "-37.81"
[[site.power]]
element = "row{n}-a"
kind = "pdu"
limit_w = 100000
derating = "0.8"
count = 2
[[pool]]
id = "s/h100"
provider = "metapod"
site = "s"
class = "owned"
gpu_model = "H100"
instance_type = "dgx"
gpus = 8
cpus = 224
memory_gib = 2048
fabric = "infiniband"
price_per_gpu_hour = "0"
[[nodes]]
pool = "s/h100"
name = "n{nnn}"
count = 10
idle_w = 2300
max_w = 10200
feeds = ["row{leaf}-a", "row{leaf}-b"]
leaf = "leaf{leaf}"
rack = "rack{rack}"
per_rack = 4
rack_limit_w = 50000
"#;

fn small(from: &str, to: &str) -> Result<Vec<Event>, FleetError> {
    assert!(SMALL.contains(from), "{from}");
    parse("small.toml", &SMALL.replacen(from, to, 1), None)
}

#[test]
fn templates_of_nodes_are_written_out() {
    let events = small("", "").expect("a good fleet");
    let nodes: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::NodeReported(node) => Some(node),
            _ => None,
        })
        .collect();
    assert_eq!(nodes.len(), 10);
    let last = nodes[9];
    assert_eq!((last.node.as_str(), last.leaf.as_ref().map(|leaf| leaf.as_str())), ("n010", Some("leaf2")));
    assert_eq!(last.rack.as_ref().map(|rack| rack.as_str()), Some("rack3"));
    let shares = |node: &NodeReported| -> Vec<(String, i64)> {
        node.feeds.iter().map(|feed| (feed.element.to_string(), feed.share_milli.0)).collect()
    };
    assert_eq!(shares(last), [("rack3".to_owned(), 1_000)], "its rack carries all of its load, and is fed by the rows");
    let without = small("rack_limit_w = 50000", "").expect("a good fleet");
    let plain = without.iter().rev().find_map(|event| match event {
        Event::NodeReported(node) => Some(shares(node)),
        _ => None,
    });
    assert_eq!(plain.unwrap(), [("row2-a".to_owned(), 500), ("row2-b".to_owned(), 500)]);
    assert_eq!(last.gpus[7].nvlink_domain.as_ref().map(|name| name.as_str()), Some("n010/nvlink1"));
    let elements = events.iter().filter(|event| matches!(event, Event::PowerElementDeclared(_))).count();
    assert_eq!(elements, 2 + 3);
    assert_eq!(events[0].identity().id, "fleet/small/cell/c");
}

#[test]
fn errors_name_file_table_field_value_and_what_was_expected() {
    for (from, to, expected) in [
        (
            "price_per_gpu_hour = \"0\"",
            "price_per_gpu_hour = 0.5",
            "small.toml: line 38 in [[pool]]: found price_per_gpu_hour = 0.5, expected an amount in quotes such as \"1.99\", or a whole number",
        ),
        (
            "class = \"owned\"",
            "class = \"rented\"",
            "small.toml: pool s/h100, field class: found \"rented\", expected one of OWNED, ",
        ),
        (
            "pool = \"s/h100\"",
            "pool = \"s/x\"",
            "small.toml: nodes n{nnn}, field pool: found \"s/x\", expected a pool of this file: s/h100",
        ),
        (
            "name = \"n{nnn}\"",
            "name = \"n\"",
            "small.toml: nodes n: found fleet/small/node/n a second time, expected each thing once",
        ),
        ("count = 10", "count = 1000000000000", "nodes n{nnn}, field count: found 1000000000000, expected 1 to 100000"),
        ("count = 2", "count = 0", "field count: found 0, expected 1 to 100000"),
        ("gpus = 8", "gpus = 4000000000", "pool s/h100, field shape.gpus: found 4000000000, expected 0 to 256"),
        (
            "count = 10",
            "count = 10\nfirst = 9223372036854775807",
            "nodes n{nnn}, field first: found 9223372036854775807, expected 0 to 1",
        ),
        ("name = \"n{nnn}\"", "name = \"n {n}\"", "small.toml: nodes n {n}, field "),
        ("fabric = ", "fabrik = ", "line 37 in [[pool]]: found fabrik = \"infiniband\", expected one of `id`, "),
        ("pue = \"1.15\"", "pue = \"-1\"", "small.toml: site s, field design_pue_milli: found -1000, expected 0 to "),
        (
            "gpu_model = \"H100\"",
            "gpu_model = \"H9\"",
            "small.toml: pool s/h100, field gpu_model: found \"H9\", expected a gpu_model",
        ),
    ] {
        let error = small(from, to).expect_err(to).to_string();
        assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
    }
}

#[test]
fn a_raised_revision_gives_new_ids() {
    let events = small("fleet = \"small\"", "fleet = \"small\"\nrevision = 2").expect("a good fleet");
    assert_eq!(events[0].identity().id, "fleet/small.2/cell/c");
}

fn fleets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ops/fleets")
}

/// The virtual clusters of the Philly trace.
const TENANTS: [&str; 12] = [
    "0e4a51", "103959", "11cb48", "23dbec", "2869ce", "6214e9", "6c71a0", "7f04ca", "b436b2", "e13805", "ed69ec",
    "ee9e8c",
];

#[test]
fn the_three_stages_load_and_know_every_tenant_of_philly() {
    for (name, owned) in [("software-only", 0), ("hybrid", 240), ("metapods", 496)] {
        let events = load(&fleets().join(format!("{name}.toml"))).unwrap_or_else(|e| panic!("{e}"));
        let tenants: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::TenantDeclared(tenant) => Some(tenant.tenant.as_str()),
                _ => None,
            })
            .collect();
        assert!(TENANTS.iter().all(|tenant| tenants.contains(tenant)), "{name}");
        let gpus: usize = events
            .iter()
            .map(|event| match event {
                Event::NodeReported(node) => node.gpus.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(gpus, owned, "{name}");
        let largest = 32_000;
        for event in &events {
            if let Event::QuotaSet(quota) = event {
                let most =
                    quota.borrowing_limit_milli.map_or(i64::MAX, |GpuMilli(more)| quota.guaranteed_milli.0 + more);
                assert!(most >= largest, "{name}: the largest job of {} would never fit", quota.tenant);
            }
        }
    }
}

#[test]
fn either_feed_of_every_node_carries_the_whole_load_when_the_other_is_lost() {
    for name in ["hybrid", "metapods"] {
        let events = load(&fleets().join(format!("{name}.toml"))).unwrap_or_else(|e| panic!("{e}"));
        let mut limits = std::collections::BTreeMap::new();
        let mut parents = std::collections::BTreeMap::new();
        for event in &events {
            if let Event::PowerElementDeclared(e) = event {
                limits.insert((e.site.clone(), e.element.clone()), e.limit_w.0 * e.derating_milli.0 / 1_000);
                parents.insert((e.site.clone(), e.element.clone()), e.parents.clone());
            }
        }
        let site_of = |pool: &solyx_schemas::ids::PoolId| {
            events.iter().find_map(|event| match event {
                Event::PoolDeclared(p) if p.pool == *pool => Some(p.site.clone()),
                _ => None,
            })
        };
        let mut load_w: std::collections::BTreeMap<_, i64> = std::collections::BTreeMap::new();
        for event in &events {
            let Event::NodeReported(node) = event else { continue };
            let site = site_of(&node.pool).expect("its pool is declared");
            let PowerW(max_w) = node.max_w;
            let mut add = |element: &solyx_schemas::ids::ElementId| {
                *load_w.entry((site.clone(), element.clone())).or_default() += max_w;
            };
            assert_eq!(node.feeds.iter().map(|feed| &feed.element).collect::<Vec<_>>(), [node.rack.as_ref().unwrap()]);
            for feed in &node.feeds {
                let mut path = vec![feed.element.clone()];
                while let Some(element) = path.pop() {
                    add(&element);
                    path.extend(parents[&(site.clone(), element)].iter().cloned());
                }
            }
        }
        for (element, load) in load_w {
            assert!(load <= limits[&element], "{name}: {element:?} carries {load} W of {} W", limits[&element]);
        }
    }
}
