//! Two builds, or two sets of features, are compared epoch by epoch, and the first difference is told with what led there.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::world::{SOLYX, World, solyx};

const ODD_TEXT: &str = "sealed:1:acme/2026:cut-off";

/// A generated world that has run, in which one job's label only begins like a sealed text; and that job.
fn world() -> (World, String) {
    let world = World::empty();
    let all = world.path("world.jsonl").display().to_string();
    solyx(&["generate", "--seed", "5", "--jobs", "30", "--nodes", "4", "--days", "1", "--out", &all]).ends(0);
    let text = std::fs::read_to_string(&all).unwrap();
    let mut events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requested = |event: &&mut Value| event["type"] == "solyx.jobs.JobRequested" && event["hold"] == false;
    let request = events.iter_mut().filter(requested).nth(12).unwrap();
    request["labels"] = json!([{"name": "note", "value": ODD_TEXT}]);
    let job = request["job"].as_str().unwrap().to_owned();
    let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
    let file = world.write("changed.jsonl", lines.join("\n"));
    world.solyx(&["publish", &file, "--staged"]).ends(0);
    world.run();
    (world, job)
}

/// A program that stands where a build is expected.
fn program(world: &World, name: &str, script: &str) -> String {
    let file = world.write(name, script);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn two_sets_of_features_part_at_the_first_epoch_that_they_decide_differently() {
    let (world, job) = world();
    let asked = world.solyx(&["explain", &job, "--json"]).ends(0).json();
    let epoch = &asked["steps"][0]["epoch"];
    assert_eq!(asked["steps"][0]["event"]["type"], "solyx.jobs.JobRequested");
    let said = world.solyx(&["bisect", "--features", "spine", "spine,sealed-fields", "--json"]).ends(1).json();
    let difference = &said["first_difference"];
    assert_eq!((&difference["epoch"], &said["epochs"]), (epoch, epoch), "{said}");
    let judgement = &difference["judgements"][0];
    assert_eq!((&judgement["good"], &judgement["bad"]), (&json!("counts"), &json!("INVALID")), "{said}");
    assert!(judgement["record"].as_str().unwrap().starts_with("jobs/"), "{said}");
    let decisions = difference["good"].as_array().unwrap();
    assert!(decisions.iter().any(|d| d["type"] == "solyx.decisions.JobAdmitted" && d["job"] == *job), "{said}");
    assert!(!difference["bad"].as_array().unwrap().iter().any(|d| d["job"] == *job), "{said}");
    let before = said["before"].as_array().unwrap().iter().find(|state| state["id"] == *job).unwrap();
    assert!(before["good"]["explained"]["pools"].is_array(), "{before}");
    assert!(before["bad"]["refused"].as_str().unwrap().contains("labels[0].value"), "{before}");
    assert_eq!(said["builds"][1]["features"], json!(["spine", "sealed-fields"]));

    let text = world.solyx(&["bisect", "--features", "spine", "spine,sealed-fields"]).ends(1);
    text.says(&[
        &format!("first difference: epoch {epoch}"),
        "features spine says counts, features spine,sealed-fields says INVALID",
        &format!("{job} admitted"),
        "nothing that the other does not",
        &format!("before epoch {epoch}:"),
        "    pool ",
    ]);
    world.solyx(&["bisect", "--features", "spine", "none", "--json"]).ends(0);
    world
        .solyx(&["bisect", "--features", "spine", "spines"])
        .ends(2)
        .says(&["found spines, expected none or some of spine"]);
}

#[test]
fn builds_are_compared_by_what_they_say_and_one_that_cannot_say_it_is_named() {
    let (world, job) = world();
    let said = world.solyx(&["bisect", "--good", SOLYX, "--bad", SOLYX, "--json"]).ends(0).json();
    assert_eq!((&said["alike"], &said["first_difference"]), (&json!(true), &Value::Null));
    assert!(said["state_differs_after"].is_null() && said["epochs"].as_u64().unwrap() > 20, "{said}");

    // A build whose rules are another set's.
    let script = format!("#!/bin/sh\nshift\nexec {SOLYX} derive --features spine,sealed-fields \"$@\"\n");
    let other = program(&world, "other", &script);
    let said = world.solyx(&["bisect", "--good", SOLYX, "--bad", &other, "--json"]).ends(1).json();
    assert!(said["first_difference"]["good"].to_string().contains(&job), "{said}");
    // Features are part of the state: it differs before anything is decided differently.
    assert!(said["state_differs_after"].as_i64() < said["first_difference"]["epoch"].as_i64(), "{said}");
    // From a snapshot on both find the same.
    let late = said["first_difference"]["epoch"].to_string();
    let from = world.solyx(&["bisect", "--good", SOLYX, "--bad", SOLYX, "--from", &late]).ends(0);
    from.says(&["both decide alike"]);

    let old = "#!/bin/sh\n[ \"$1\" = --version ] && { echo solyx 0.0.9; exit 0; }\necho \"error: unrecognized subcommand 'derive'\" >&2\nexit 2\n";
    let old = program(&world, "old", old);
    let said = world.solyx(&["bisect", "--good", &old, "--bad", SOLYX]);
    said.fails(2, &["old cannot be compared", "solyx 0.0.9 has no `solyx derive`"]);
    let said = world.solyx(&["bisect", "--good", "/bin/echo", "--bad", SOLYX]);
    said.fails(3, &["good says what is no line of `solyx derive`"]);
    let said = world.solyx(&["bisect", "--good", "/nowhere/solyx", "--bad", SOLYX]);
    said.fails(2, &["/nowhere/solyx cannot be compared", "it does not start"]);
    world.solyx(&["bisect", "--good", SOLYX]).ends(2);
}

#[test]
fn one_epoch_is_derived_with_all_its_decisions_and_answers_about_the_state_before() {
    let (world, job) = world();
    let log = world.log().display().to_string();
    let lines = solyx(&["derive", "--log", &log]).ends(0);
    let lines: Vec<Value> = lines.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["format"], &lines[1]["epoch"]), (&json!(1), &json!(0)));
    assert_eq!(lines.len() as u64, world.audit()["epochs"].as_u64().unwrap() + 1);
    let last = lines.len() - 2;
    let at =
        crate::world::solyx_reads(&["derive", "--log", &log, "--at", &last.to_string()], &format!("{job}\nnobody\n"))
            .ends(0);
    let said: Vec<Value> = at.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((said.len(), &said[1]["decided"]), (4, &lines[last + 1]["decided"]), "{at}");
    assert_eq!((&said[2]["id"], &said[3]), (&json!(job), &json!({"id": "nobody"})), "{at}");
    assert!(said[2]["job"]["phase"].is_string(), "{at}");
    solyx(&["derive", "--log", &log, "--at", "1000000"]).fails(1, &["there is no epoch 1000000"]);
}
