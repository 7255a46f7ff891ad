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
                ids.push(event.identity().id.into_owned());
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

/// How one place of a receipt is changed.
#[derive(Clone, Debug)]
enum Change {
    /// Another value.
    To(Value),
    /// Its item or field is taken away.
    Less(String),
    /// Its last item stands twice.
    Doubled,
    /// It has a field more.
    More,
}

/// Every way in which one place of a value is changed a little: where, and how.
fn changes(value: &Value, at: &str, into: &mut Vec<(String, Change)>) {
    let mut put = |change| into.push((at.to_owned(), change));
    match value {
        Value::Null => put(Change::To(Value::from(1))),
        Value::Bool(yes) => put(Change::To(Value::from(!yes))),
        Value::Number(number) => put(Change::To(Value::from(number.as_i64().map_or(0, |n| n.wrapping_add(1))))),
        Value::String(text) => {
            let other = if text.ends_with('1') { '2' } else { '1' };
            let mut changed = text.clone();
            changed.pop();
            changed.push(other);
            put(Change::To(Value::from(changed)));
            // Hashes are many, and all read alike.
            if text.len() != 64 {
                put(Change::To(Value::from(format!("{text}0"))));
            }
        }
        Value::Array(items) => {
            if let Some(last) = items.last() {
                put(Change::Doubled);
                // Fewer events, epochs or rotations are a smaller receipt, good or not.
                if !last.is_object() {
                    put(Change::Less((items.len() - 1).to_string()));
                }
            }
            items.iter().enumerate().for_each(|(i, item)| changes(item, &format!("{at}/{i}"), into));
        }
        Value::Object(map) => {
            put(Change::More);
            map.keys().for_each(|name| put(Change::Less(name.clone())));
            map.iter().for_each(|(name, item)| changes(item, &format!("{at}/{name}"), into));
        }
    }
}

fn changed(value: &Value, at: &str, change: &Change) -> Value {
    let mut value = value.clone();
    match (value.pointer_mut(at).unwrap(), change) {
        (place, Change::To(other)) => *place = other.clone(),
        (Value::Array(items), Change::Less(_)) => drop(items.pop()),
        (Value::Array(items), Change::Doubled) => items.extend(items.last().cloned()),
        (Value::Object(map), Change::Less(name)) => drop(map.remove(name)),
        (Value::Object(map), Change::More) => drop(map.insert("more".to_owned(), Value::from(1))),
        (place, change) => panic!("{change:?} of {place}"),
    }
    value
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
    let mut all = Vec::new();
    changes(&value, "", &mut all);
    let value = &value;
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for part in all.chunks(all.len().div_ceil(threads)) {
            scope.spawn(move || {
                for (at, change) in part {
                    let taken = judged(&changed(value, at, change)).is_ok();
                    assert!(!taken, "{file} is taken with {change:?} at {at}");
                }
            });
        }
    });
    all.len()
}
