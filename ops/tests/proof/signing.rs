//! Keys, heads and receipts of a world, and receipts that somebody has changed.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use solyx_proofs::receipt::{Receipt, verify};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::log::{Log, Scan};
use solyx_schemas::topics::Topic;

use crate::world::{SOLYX, Said, World, solyx};

impl World {
    /// A generated world with a declared key, run until idle, and signed.
    pub fn signed() -> Self {
        let world = Self::empty();
        world.solyx(&["generate", "--seed", "7", "--jobs", "60", "--nodes", "8", "--days", "6"]).ends(0);
        world.key("first");
        world.declare("first");
        world.run();
        world.sign("first").ends(0);
        world
    }

    pub fn key(&self, name: &str) {
        let file = self.path(name);
        solyx(&["proofs", "keygen", "--id", name, "--out", file.to_str().unwrap()]).ends(0);
    }

    pub fn declare(&self, name: &str) {
        let file = self.path(&format!("{name}.pub"));
        self.solyx(&["proofs", "declare", "--key", file.to_str().unwrap()]).ends(0);
    }

    pub fn sign(&self, name: &str) -> Said {
        self.solyx(&["proofs", "sign", "--key", self.path(name).to_str().unwrap()])
    }

    pub fn rotate(&self, name: &str, next: &str) -> Said {
        let next = self.path(&format!("{next}.pub"));
        self.solyx(&["proofs", "rotate", "--key", self.path(name).to_str().unwrap(), "--next", next.to_str().unwrap()])
    }

    /// A receipt in a file beside the world.
    pub fn prove(&self, what: &str, id: &str) -> String {
        let file = self.path(&format!("{what}-{}.json", id.replace('/', "-")));
        self.solyx(&["prove", what, id, "-o", file.to_str().unwrap()]).ends(0);
        file.display().to_string()
    }

    pub fn invoices(&self) -> Value {
        self.solyx(&["view", "billing", "--json"]).ends(0).json()["invoices"].take()
    }

    /// Ids of decisions of which this is in the name, in their order.
    pub fn decisions(&self, kind: &str) -> Vec<String> {
        let log = self.read();
        let mut ids = Vec::new();
        each_event(&*log, Topic::Decisions, |event| {
            if event.name().contains(kind) {
                ids.push(event.identity().id);
            }
        });
        ids
    }
}

pub fn each_event(log: &dyn Log, topic: Topic, mut on_event: impl FnMut(Event)) {
    for partition in 0..log.partitions(topic.into()) {
        for stored in Scan::new(log, topic.into(), partition, 0) {
            on_event(Codec::global().decode(&stored.unwrap().record.value).unwrap().event);
        }
    }
}

/// The binary in a directory that has nothing but these files.
pub fn alone(files: &[&Path], args: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let output = Command::new(SOLYX).args(args).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code().unwrap(), said)
}

/// Every way in which one place of a value is changed a little, or taken away, or doubled.
pub fn changes(value: &Value) -> Vec<(String, Value)> {
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
                // Fewer events, epochs or rotations are a smaller receipt, good or not.
                if !item.is_object() {
                    put(&format!("[{i}] taken away"), with(None));
                }
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
pub fn refuses_every_change(file: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let judged = |value: &Value| {
        let receipt = Receipt::parse(&value.to_string())?;
        verify(&receipt, &[]).map(drop).map_err(|e| e.to_string())
    };
    judged(&value).unwrap();
    let changes = changes(&value);
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for part in changes.chunks(changes.len().div_ceil(threads)) {
            scope.spawn(move || {
                for (place, changed) in part {
                    assert!(judged(changed).is_err(), "{file} is taken with {place} changed");
                }
            });
        }
    });
    changes.len()
}
