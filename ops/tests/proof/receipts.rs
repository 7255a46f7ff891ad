//! Receipts and signed heads as customers, operators and witnesses use them: made from a world, checked without it, and refused
//! when anything in them was changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use solyx_proofs::receipt::{Receipt, verify};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::HeadSigned;
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};

use crate::world::{Said, SOLYX, World, solyx};

impl World {
    /// A generated world with a declared key, run until idle, and signed.
    fn signed() -> Self {
        let world = Self::empty();
        world.solyx(&["generate", "--seed", "7", "--jobs", "150", "--nodes", "12", "--days", "40"]).ends(0);
        world.key("first");
        world.declare("first");
        world.run();
        world.sign("first").ends(0);
        world
    }

    fn key(&self, name: &str) {
        let file = self.path(name);
        solyx(&["proofs", "keygen", "--id", name, "--out", file.to_str().unwrap()]).ends(0);
    }

    fn declare(&self, name: &str) {
        let file = self.path(&format!("{name}.pub"));
        self.solyx(&["proofs", "declare", "--key", file.to_str().unwrap()]).ends(0);
    }

    fn sign(&self, name: &str) -> Said {
        self.solyx(&["proofs", "sign", "--json", "--key", self.path(name).to_str().unwrap()])
    }

    fn rotate(&self, name: &str, next: &str) -> Said {
        let next = self.path(&format!("{next}.pub"));
        self.solyx(&["proofs", "rotate", "--key", self.path(name).to_str().unwrap(), "--next", next.to_str().unwrap()])
    }

    /// A receipt in a file beside the world.
    fn prove(&self, what: &str, id: &str) -> String {
        let file = self.path(&format!("{what}-{}.json", id.replace('/', "-")));
        self.solyx(&["prove", what, id, "-o", file.to_str().unwrap()]).ends(0);
        file.display().to_string()
    }

    fn invoices(&self) -> Value {
        self.solyx(&["view", "billing", "--json"]).ends(0).json()["invoices"].take()
    }

    /// Ids of decisions of a kind, in their order.
    fn decisions(&self, kind: &str) -> Vec<String> {
        let log = self.read();
        let mut ids = Vec::new();
        solyx_each(&*log, Topic::Decisions, |event| {
            if event.name().ends_with(kind) {
                ids.push(event.identity().id);
            }
        });
        ids
    }
}

fn solyx_each(log: &dyn Log, topic: Topic, mut on_event: impl FnMut(Event)) {
    for partition in 0..log.partitions(topic.into()) {
        for stored in solyx_schemas::log::Scan::new(log, topic.into(), partition, 0) {
            on_event(Codec::global().decode(&stored.unwrap().record.value).unwrap().event);
        }
    }
}

/// The binary in a directory that has nothing but these files.
fn alone(files: &[&Path], args: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let output = Command::new(SOLYX).args(args).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code().unwrap(), said)
}

/// Every way in which one place of a value is changed a little, or taken away, or doubled.
fn changes(value: &Value) -> Vec<(String, Value)> {
    let mut changed = Vec::new();
    let mut put = |what: &str, new: Value| changed.push((what.to_owned(), new));
    match value {
        Value::Null => put("", Value::from(1)),
        Value::Bool(yes) => put("", Value::from(!yes)),
        Value::Number(number) => put("", Value::from(number.as_i64().map_or(0, |n| n.wrapping_add(1)))),
        Value::String(text) => {
            let last = text.chars().last().unwrap_or(' ');
            let other = if last == '1' { '2' } else { '1' };
            let kept: String = text.chars().take(text.chars().count().saturating_sub(1)).collect();
            put("", Value::from(format!("{kept}{other}")));
            put(" longer", Value::from(format!("{text}0")));
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let with = |new: Option<Value>| {
                    let mut items = items.clone();
                    match new {
                        Some(new) => items[i] = new,
                        None => drop(items.remove(i)),
                    }
                    Value::from(items)
                };
                put(&format!("[{i}] taken away"), with(None));
                changes(item).into_iter().for_each(|(what, new)| put(&format!("[{i}]{what}"), with(Some(new))));
            }
            if let Some(last) = items.last() {
                put(" doubled", Value::from([&items[..], std::slice::from_ref(last)].concat()));
            }
        }
        Value::Object(map) => {
            for (name, item) in map {
                let mut without = map.clone();
                without.remove(name);
                put(&format!(".{name} taken away"), Value::Object(without));
                for (what, new) in changes(item) {
                    let mut map = map.clone();
                    map.insert(name.clone(), new);
                    put(&format!(".{name}{what}"), Value::Object(map));
                }
            }
            let mut more = map.clone();
            more.insert("more".to_owned(), Value::from(1));
            put(" with a field more", Value::Object(more));
        }
    }
    changed
}

/// A receipt is refused after each change, also by somebody who knows no key.
fn refuses_every_change(file: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let judged = |value: &Value| {
        let receipt = Receipt::parse(&value.to_string())?;
        verify(&receipt, &[]).map(drop).map_err(|e| e.to_string())
    };
    judged(&value).unwrap();
    let changes = changes(&value);
    for (place, changed) in &changes {
        assert!(judged(changed).is_err(), "{file} is taken with {place} changed");
    }
    changes.len()
}

#[test]
fn a_receipt_is_good_without_the_log_and_refused_after_any_change() {
    let world = World::signed();
    let invoices = world.invoices();
    // A line with some usage behind it, but not so much that its changes take long to try.
    let lines = invoices.as_array().unwrap().iter().flat_map(|invoice| invoice["lines"].as_array().unwrap());
    let usage: Vec<&Value> = lines.filter(|line| line["kind"] == "usage").collect();
    let line = usage.iter().find(|line| line["events"].as_array().unwrap().len() == 2).unwrap_or(&usage[0]);
    let line_file = world.prove("invoice-line", line["id"].as_str().unwrap());
    let decision = world.decisions("JobPlaced")[0].clone();
    let decision_file = world.prove("decision", &decision);
    let key = world.path("first.pub");
    std::fs::rename(world.log(), world.path("away")).unwrap();

    for (file, says) in [(&line_file, "micros of"), (&decision_file, decision.as_str())] {
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        let (code, said) = alone(&[Path::new(file), &key], &["verify", name, "--keys", "first.pub"]);
        assert_eq!(code, 0, "{said}");
        for text in ["good: ", "this proves inclusion", "it does not prove", "JobPlaced", "JobRequested", says] {
            assert!(said.contains(text), "{text}: {said}");
        }
        assert!(!said.contains("no key was given"), "{said}");
        let (code, said) = alone(&[Path::new(file)], &["verify", name]);
        assert!(code == 0 && said.contains("no key was given"), "{said}");
        assert!(refuses_every_change(file) > 300);
    }

    // The commands say so too, and another key does not do.
    let text = std::fs::read_to_string(&line_file).unwrap();
    let amount = line["amount_micros"].to_string();
    let dearer = world.write("dearer.json", text.replace(&format!("\"amount_micros\": {amount}"), "\"amount_micros\": 7"));
    solyx(&["verify", &dearer]).fails(1, &["proves nothing", "amount_micros", &amount]);
    world.key("other");
    let other = world.path("other.pub");
    solyx(&["verify", &line_file, "--keys", other.to_str().unwrap()]).fails(1, &["not one of those given"]);
    solyx(&["verify", &world.write("none.json", "{}")]).fails(1, &["solyx_receipt"]);
    solyx(&["verify", &world.write("later.json", "{\"solyx_receipt\": 2}")]).fails(1, &["expected 1"]);
}

#[test]
fn every_kind_of_line_has_a_receipt_with_nothing_of_other_tenants_in_it() {
    let world = World::signed();
    let invoices = world.invoices();
    let tenants: BTreeSet<&str> = invoices.as_array().unwrap().iter().map(|i| i["tenant"].as_str().unwrap()).collect();
    let mut tried: BTreeMap<(String, bool), u32> = BTreeMap::new();
    for invoice in invoices.as_array().unwrap() {
        let tenant = invoice["tenant"].as_str().unwrap();
        for line in invoice["lines"].as_array().unwrap() {
            let converted = line["rate_currency"] != invoice["currency"];
            let count = tried.entry((line["kind"].as_str().unwrap().to_owned(), converted)).or_default();
            *count += 1;
            if *count > 3 {
                continue;
            }
            let file = world.prove("invoice-line", line["id"].as_str().unwrap());
            let report = solyx(&["verify", &file, "--json", "--keys", world.path("first.pub").to_str().unwrap()]).ends(0).json();
            assert_eq!(report["line"], *line);
            assert_eq!(report["currency"], invoice["currency"]);
            assert_eq!(report["key_trusted"], true);
            let text = std::fs::read_to_string(&file).unwrap();
            for other in tenants.iter().filter(|other| **other != tenant) {
                assert!(!text.contains(&format!("\"{other}\"")), "{other} is named in a receipt of {tenant}: {file}");
            }
        }
    }
    let kinds: BTreeSet<&str> = tried.keys().map(|(kind, _)| kind.as_str()).collect();
    assert!(kinds.len() >= 3, "the world has too few kinds of lines: {tried:?}");
}

#[test]
fn a_key_hands_over_to_the_next_and_signs_nothing_more() {
    let world = World::signed();
    let head = |name: &str| {
        let file = world.path(name).display().to_string();
        world.solyx(&["proofs", "export", "-o", &file]).ends(0);
        file
    };
    let old = head("old.txt");
    world.key("second");
    world.rotate("first", "second").fails(2, &["key second is not declared"]);
    world.declare("second");
    world.rotate("first", "second").fails(2, &["key second is not declared"]);
    world.run();
    world.sign("second").fails(2, &["the key before it has not signed it"]);
    world.rotate("first", "second").ends(0).says(&["first has handed over to second"]);
    world.sign("first").fails(2, &["it is the turn of second"]);
    world.rotate("first", "second").fails(2, &["it is the turn of second"]);
    assert_eq!(world.sign("second").ends(0).json()["new"], true);
    assert_eq!(world.sign("second").ends(0).json()["new"], false, "the same tree is not signed twice");
    assert_eq!(world.audit()["proofs"]["keys"].as_array().unwrap().len(), 2);

    // Who knows the first key takes what the second has signed; who knows another does not.
    let decision = world.decisions("JobAdmitted")[0].clone();
    let file = world.prove("decision", &decision);
    for name in ["first", "second"] {
        let report = solyx(&["verify", &file, "--json", "--keys", world.path(&format!("{name}.pub")).to_str().unwrap()]);
        assert_eq!(report.ends(0).json()["key_trusted"], true);
    }
    assert!(refuses_every_change(&file) > 100);

    // A witness that has the old head takes the new one with the proof that it goes on from it.
    let later = world.path("later.txt").display().to_string();
    world.solyx(&["proofs", "export", "--since", &old, "-o", &later]).ends(0);
    let second = world.path("second.pub").display().to_string();
    solyx(&["verify", &later, "--since", &old, "--keys", &second]).ends(0).says(&["goes on from"]);
    solyx(&["verify", &later, "--keys", world.path("first.pub").to_str().unwrap()]).fails(1, &["none of the keys"]);
    let alone = head("alone.txt");
    solyx(&["verify", &alone, "--since", &old, "--keys", &second]).fails(1, &["no proof from the older head"]);
    world.solyx(&["audit", "--head", &old]).ends(0).says(&["is one of this log's"]);
    world.solyx(&["audit", "--head", &later]).ends(0).says(&["is one of this log's"]);

    // After a revocation a key begins anew, and who looks is told.
    world.solyx(&["proofs", "revoke", "second", "--reason", "lost"]).ends(0);
    world.key("third");
    world.declare("third");
    world.run();
    world.sign("second").fails(2, &["second"]);
    world.sign("third").ends(0);
    world.solyx(&["audit"]).ends(0).says(&["began anew"]);
}

#[test]
fn an_audit_finds_forged_heads_and_a_tail_that_a_witness_knows() {
    let world = World::signed();
    let signed = world.sign("first").ends(0).json();
    let head = world.path("head.txt").display().to_string();
    world.solyx(&["proofs", "export", "-o", &head]).ends(0);
    let good = last_head(&world);

    // A witness of another history, of more epochs, and one whose signature is somebody else's.
    let text = std::fs::read_to_string(&head).unwrap();
    let size = signed["tree_size"].to_string();
    let longer = world.write("longer.txt", text.replacen(&size, "99999999", 1));
    world.solyx(&["audit", "--head", &longer]).ends(1).says(&["it is of 99999999 epochs, and the log has"]);
    let root = text.lines().nth(2).unwrap();
    let another = world.write("another.txt", text.replacen(root, "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", 1));
    world.solyx(&["audit", "--head", &another]).ends(1).says(&["epochs have the root"]);
    let signature = text.trim_end().rsplit(' ').next().unwrap();
    let swapped = signature.replace(&signature[20..22], if &signature[20..22] == "AA" { "BB" } else { "AA" });
    let unsigned = world.write("unsigned.txt", text.replace(signature, &swapped));
    world.solyx(&["audit", "--head", &unsigned]).ends(1).says(&["no signature of a key that signs for this log"]);
    world.solyx(&["audit", "--head", "nowhere.txt"]).ends(2);

    // Heads in the log that nobody may have signed.
    let forged = |change: &dyn Fn(&mut HeadSigned)| {
        let mut head = good.clone();
        change(&mut head);
        head
    };
    let other_root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
    let of_fewer = solyx_schemas::units::Count(good.tree_size.0 - 1);
    let heads = [
        (forged(&|head| head.root = other_root.into()), "epochs have the root"),
        (forged(&|head| head.tree_size = of_fewer), "epochs have the root"),
        (forged(&|head| head.key_id = "stranger".into()), "key stranger is not declared"),
        (forged(&|head| head.signature = "00".repeat(64).as_str().into()), "the signature is not that of key first"),
        (forged(&|head| head.cell_id = "elsewhere".into()), "it is of the cell elsewhere"),
    ];
    let found = heads.iter().map(|(head, says)| {
        append(&world, head);
        *says
    });
    let says: Vec<&str> = found.collect();
    let report = world.solyx(&["audit", "--json"]).ends(1).json();
    let findings = report["proofs"]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), says.len(), "{report}");
    for (finding, says) in findings.iter().zip(says) {
        assert!(finding["detail"].as_str().unwrap().contains(says), "{finding}");
    }
    assert!(report["first_difference"].is_null(), "the history itself is good: {report}");
    world.sign("first").fails(1, &["nothing is signed on top of it"]);
}

#[test]
fn without_a_signed_head_there_is_no_receipt_and_the_way_to_one_is_named() {
    let world = World::empty();
    world.solyx(&["generate", "--seed", "3", "--jobs", "10", "--nodes", "4", "--days", "2"]).ends(0);
    world.key("first");
    let key = world.path("first");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    world.sign("first").fails(1, &["the log has no epoch", "run the engine"]);
    world.run();
    let decision = world.decisions("JobAdmitted")[0].clone();
    world.solyx(&["prove", "decision", &decision]).fails(1, &["no signed head", "solyx proofs sign"]);
    world.sign("first").fails(2, &["key first is not declared", "solyx proofs declare"]);
    world.declare("first");
    world.sign("first").fails(2, &["key first is not declared"]);
    world.run();
    world.sign("first").ends(0);
    world.solyx(&["prove", "decision", &decision]).ends(0).says(&["\"solyx_receipt\": 1"]);
    world.solyx(&["prove", "decision", "nothing"]).fails(2, &["expected the id of a decision"]);
    world.solyx(&["prove", "invoice-line", "0000000000000000"]).fails(1, &["there is none in the first"]);
    // What comes after the head is not under it.
    world.solyx(&["publish", &crate::world::ops("fleets/first-job.jsonl")]).ends(0);
    world.run();
    let newest = world.decisions("Job").into_iter().max_by_key(|id| epoch_of(id)).unwrap();
    world.solyx(&["prove", "decision", &newest]).fails(1, &["the last signed head is of the first"]);
    let said = world.solyx(&["proofs", "keygen", "--out", key.to_str().unwrap()]).fails(2, &["is there already"]);
    let secret = std::fs::read_to_string(&key).unwrap();
    let secret: Value = serde_json::from_str(&secret).unwrap();
    assert!(!said.to_string().contains(secret["secret_key"].as_str().unwrap()));
}

fn epoch_of(id: &str) -> i64 {
    id.rsplit('/').nth(2).unwrap().parse().unwrap()
}

fn last_head(world: &World) -> HeadSigned {
    let mut last = None;
    solyx_each(&*world.read(), Topic::Proofs, |event| {
        if let Event::HeadSigned(head) = event {
            last = Some(*head);
        }
    });
    last.unwrap()
}

fn append(world: &World, head: &HeadSigned) {
    let options = solyx_connectors::log::embedded::EmbeddedOptions::default();
    let log = solyx_connectors::log::embedded::EmbeddedLog::open(&world.log().join("log"), options).unwrap();
    let topic = TopicName::live(Topic::Proofs);
    let record = Codec::global().record(&Event::from(head.clone()), topic, log.partitions(topic));
    log.producer("forger").unwrap().append(vec![record]).unwrap();
}
