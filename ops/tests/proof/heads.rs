//! Keys that hand over, heads that nobody may have signed, and what witnesses know.

use serde_json::Value;
use solyx_connectors::log::embedded::{EmbeddedLog, EmbeddedOptions};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{HeadSigned, SigningKeyRotated};
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::Count;

use crate::signing::{each_event, refuses_every_change};
use crate::world::{World, ops, solyx};

/// The public key of test 1 of RFC 8032 section 7.1.
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

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
    // Said twice it is written once: the clock has gone on, and it would be another event under the same id.
    world.declare("second");
    world.rotate("first", "second").fails(2, &["key second is not declared"]);
    world.run();
    assert!(!world.solyx(&["doctor"]).out.contains("CONFLICT"));
    world.sign("second").fails(2, &["the key before it has not signed it"]);
    world.rotate("first", "second").ends(0).says(&["first has handed over to second"]);
    world.sign("first").fails(2, &["it is the turn of second"]);
    world.rotate("first", "second").fails(2, &["it is the turn of second"]);
    world.sign("second").ends(0).says(&["signed: "]);
    world.sign("second").ends(0).says(&["signed before: "]);
    assert_eq!(world.audit()["proofs"]["keys"].as_array().unwrap().len(), 2);

    // Who knows the first key takes what the second has signed; who knows another does not.
    let decision = world.decisions("JobAdmitted")[0].clone();
    let file = world.prove("decision", &decision);
    for name in ["first", "second"] {
        let report =
            solyx(&["verify", &file, "--json", "--public-keys", world.path(&format!("{name}.pub")).to_str().unwrap()]);
        assert_eq!(report.ends(0).json()["key_trusted"], true);
    }
    assert!(refuses_every_change(&file) > 100);

    // A witness that has the old head takes the new one with the proof that it goes on from it.
    let later = world.path("later.txt").display().to_string();
    world.solyx(&["proofs", "export", "--since", &old, "-o", &later]).ends(0);
    let second = world.path("second.pub").display().to_string();
    solyx(&["verify", &later, "--since", &old, "--public-keys", &second]).ends(0).says(&["goes on from"]);
    solyx(&["verify", &later, "--public-keys", world.path("first.pub").to_str().unwrap()])
        .fails(1, &["none of the keys"]);
    let alone = head("alone.txt");
    solyx(&["verify", &alone, "--since", &old, "--public-keys", &second]).fails(1, &["no proof from the older head"]);
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
    let head = world.path("head.txt").display().to_string();
    world.solyx(&["proofs", "export", "-o", &head]).ends(0);
    let good = last_head(&world);

    // A witness of another history, of more epochs, and one whose signature is somebody else's.
    let text = std::fs::read_to_string(&head).unwrap();
    let size = text.lines().nth(1).unwrap();
    let longer = world.write("longer.txt", text.replacen(size, "99999999", 1));
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
    let of_fewer = Count(good.tree_size.0 - 1);
    let heads = [
        (forged(&|head| head.root = other_root.into()), "epochs have the root"),
        (forged(&|head| head.tree_size = of_fewer), "epochs have the root"),
        (forged(&|head| head.key_id = "stranger".into()), "key stranger is not declared"),
        (forged(&|head| head.signature = "00".repeat(64).as_str().into()), "the signature is not that of key first"),
        (forged(&|head| head.cell_id = "elsewhere".into()), "it is of the cell elsewhere"),
    ];
    let mut says = Vec::new();
    for (head, said) in heads {
        append(&world, head);
        says.push(said);
    }
    // A key that nobody declared takes over, by the first key's signature of something else.
    let HeadSigned { event_id, source, occurred_us, cell_id, tree_size, root, key_id, signature } = good;
    let (next_key_id, next_algorithm, next_public_key) = ("stranger".into(), "ed25519".into(), PUBLIC.into());
    append(
        &world,
        SigningKeyRotated {
            event_id,
            source,
            occurred_us,
            cell_id,
            tree_size,
            root,
            key_id,
            next_key_id,
            next_algorithm,
            next_public_key,
            signature,
        },
    );
    says.push("the next key stranger is not declared");
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
    let decision = world.decisions("Job")[0].clone();
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
    world.solyx(&["publish", &ops("fleets/first-job.jsonl")]).ends(0);
    world.run();
    let newest = world.decisions("Job").into_iter().max_by_key(|id| epoch_of(id)).unwrap();
    world.solyx(&["prove", "decision", &newest]).fails(1, &["the last signed head is of the first"]);
    let said = solyx(&["proofs", "keygen", "--out", key.to_str().unwrap()]).fails(2, &["is there already"]);
    let secret = std::fs::read_to_string(&key).unwrap();
    let secret: Value = serde_json::from_str(&secret).unwrap();
    assert!(!said.to_string().contains(secret["secret_key"].as_str().unwrap()));
}

#[test]
fn what_a_key_signed_after_it_was_lost_is_not_trusted() {
    let world = World::empty();
    world.solyx(&["generate", "--seed", "3", "--jobs", "10", "--nodes", "4", "--days", "2"]).ends(0);
    world.key("first");
    world.declare("first");
    world.run();
    world.sign("first").ends(0);
    world.solyx(&["proofs", "revoke", "first", "--reason", "stolen", "--from", "2000-01-01T00:00:00Z"]).ends(0);
    world.run();
    world.solyx(&["audit"]).ends(0).says(&["1 records were signed before their key was revoked", "no signed head"]);
    let decision = world.decisions("Job")[0].clone();
    world.solyx(&["prove", "decision", &decision]).fails(1, &["its key is no longer trusted"]);
    world.sign("first").fails(2, &["key first is revoked by epoch"]);
    // The same log from files alone, with what was signed in it.
    let archive = world.path("archive").display().to_string();
    world.solyx(&["archive", "export", "--archive", &archive]).ends(0);
    solyx(&["audit", "--archive", &archive]).ends(0).says(&["1 records were signed"]);
    // What the key did not sign is nothing of its time before.
    let good = last_head(&world);
    append(&world, HeadSigned { signature: "00".repeat(64).as_str().into(), ..good });
    world.solyx(&["audit"]).ends(1).says(&["1 records were signed", "key first is revoked from"]);
}

fn epoch_of(id: &str) -> i64 {
    id.rsplit('/').nth(2).unwrap().parse().unwrap()
}

fn last_head(world: &World) -> HeadSigned {
    let mut last = None;
    each_event(&*world.read(), Topic::Proofs, |event| {
        if let Event::HeadSigned(head) = event {
            last = Some(*head);
        }
    });
    last.unwrap()
}

fn append(world: &World, event: impl Into<Event>) {
    let options = EmbeddedOptions::default();
    let log = EmbeddedLog::open(&world.log().join("log"), options).unwrap();
    let topic = TopicName::live(Topic::Proofs);
    let record = Codec::global().record(&event.into(), topic, log.partitions(topic));
    log.producer("forger").unwrap().append(vec![record]).unwrap();
}
