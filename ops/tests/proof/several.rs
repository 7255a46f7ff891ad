//! Several logs are audited at once: one report each, and the worst of them is the exit code.

use serde_json::json;

use crate::world::{World, solyx};

fn world(seed: &str) -> World {
    let world = World::empty();
    world.solyx(&["generate", "--seed", seed, "--jobs", "12", "--nodes", "4", "--days", "1"]).ends(0);
    world.run();
    world
}

#[test]
fn each_log_has_its_report_and_the_exit_code_is_the_highest() {
    let (one, two) = (world("1"), world("2"));
    let (a, b) = (one.log().display().to_string(), two.log().display().to_string());
    let archive = two.path("archive").display().to_string();
    two.solyx(&["archive", "export", "--archive", &archive]).ends(0);
    let all = ["audit", "--log", &a, "--log", &b, "--archive", &archive];
    let said = solyx(&[&all[..], &["--json"]].concat()).ends(0).json();
    let reports = said["reports"].as_array().unwrap();
    let logs: Vec<_> = reports.iter().map(|report| report["log"].as_str().unwrap()).collect();
    assert_eq!((&said["ok"], logs), (&json!(true), vec![a.as_str(), &b, &archive]), "{said}");
    for (report, world) in [(&reports[0], &one), (&reports[1], &two), (&reports[2], &two)] {
        assert_eq!(report["report"]["chain_head"], world.audit()["chain_head"]);
    }
    let said = solyx(&[&all[..], &["--threads", "1"]].concat()).ends(0);
    said.says(&["3 of 3 logs came out as recorded", &format!("{a}:\neverything came out as recorded")]);

    // One that cannot be read hides nothing of the others.
    let nowhere = one.path("nowhere").display().to_string();
    let said = solyx(&["audit", "--log", &a, "--log", &nowhere, "--json"]).ends(2).json();
    assert_eq!((&said["ok"], &said["reports"][0]["report"]["ok"]), (&json!(false), &json!(true)), "{said}");
    assert!(said["reports"][1]["error"]["what"].as_str().unwrap().contains("there is no log in"), "{said}");
    let head = one.audit()["chain_head"].as_str().unwrap().to_owned();
    solyx(&["audit", "--log", &a, "--log", &b, "--head", &head]).fails(2, &["a head is of one log"]);
    solyx(&["audit"]).ends(2);
}
