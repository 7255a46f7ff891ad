//! The schema of an archive file: a row around a union of the writer schemas of its records.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::{Value, json};
use solyx_schemas::codec::{REGISTRY_LOCK, parse_lock};
use solyx_schemas::events::EVENT_TYPES;
use solyx_schemas::hash::{Hash32, schema_hash};
use solyx_schemas::topics::Topic;

use super::avro::Shape;

/// A schema that records may be written with.
struct WriterSchema {
    topic: Topic,
    /// The schema with every named type written out where it is used.
    expanded: Value,
    /// Whether this is what the record type is written with today.
    current: bool,
}

/// Every schema of the contract by its id in the lock file.
static BY_ID: LazyLock<BTreeMap<u32, WriterSchema>> = LazyLock::new(|| {
    let lock = parse_lock(REGISTRY_LOCK).expect("the lock file is part of this build and its tests read it");
    let mut by_id = BTreeMap::new();
    for event_type in EVENT_TYPES {
        for avsc in solyx_schemas::released::schemas(event_type.name).chain([event_type.avsc]) {
            let schema: Value = serde_json::from_str(avsc).expect("schema files are JSON, which the tests check");
            let hash = schema_hash(&schema);
            let Some(line) = lock.iter().find(|line| line.subject == event_type.name && line.hash == hash) else {
                continue;
            };
            let expanded = expand(&schema, "", &mut HashMap::new());
            let current = avsc == event_type.avsc;
            by_id.insert(line.id, WriterSchema { topic: event_type.topic, expanded, current });
        }
    }
    by_id
});

/// The writer schemas of one archive file, none of which says of a name what another does not.
pub(super) struct SchemaSet {
    /// Framing ids in the order of the union's branches.
    pub(super) ids: Vec<u32>,
    /// The row's schema.
    pub(super) row: Value,
    shape: Shape,
    branches: HashMap<u32, (usize, usize)>,
}

impl SchemaSet {
    /// What records of a topic are written with today.
    pub(super) fn of_topic(topic: Topic) -> Self {
        let ids = BY_ID.iter().filter(|(_, schema)| schema.topic == topic && schema.current).map(|(id, _)| *id);
        // The types of a topic share their inner types by construction; if they ever did not, the set starts empty and grows.
        Self::of(ids.collect()).or_else(|| Self::of(Vec::new())).expect("a union of nothing but bytes has no conflict")
    }

    /// The set of these ids; nothing when two schemas say different things of one name, or an id is unknown.
    fn of(ids: Vec<u32>) -> Option<Self> {
        let mut seen = HashMap::new();
        let mut branches = Vec::new();
        for id in &ids {
            branches.push(contract(&BY_ID.get(id)?.expanded, &mut seen)?);
        }
        let mut shape = Shape::default();
        let nodes: Result<Vec<usize>, String> = branches.iter().map(|branch| shape.add(branch, "")).collect();
        let places = ids.iter().copied().zip(nodes.ok()?.into_iter().enumerate()).collect();
        branches.push(json!("bytes"));
        Some(Self { ids, row: row_schema(branches), shape, branches: places })
    }

    /// This set with one more schema; earlier ones that contradict it are left out.
    pub(super) fn with(&self, id: u32) -> Option<Self> {
        BY_ID.get(&id)?;
        let mut ids = self.ids.clone();
        ids.push(id);
        if let Some(set) = Self::of(ids) {
            return Some(set);
        }
        let mut ids = vec![id];
        for earlier in &self.ids {
            ids.push(*earlier);
            if Self::of(ids.clone()).is_none() {
                ids.pop();
            }
        }
        Self::of(ids)
    }

    /// Whether the contract has a schema of this id and this set has not.
    pub(super) fn lacks(&self, id: u32) -> bool {
        !self.branches.contains_key(&id) && BY_ID.contains_key(&id)
    }

    /// The union's branch for a body; nothing when it has to be kept as bytes.
    pub(super) fn branch(&self, id: u32, body: &[u8]) -> Option<usize> {
        let (branch, node) = self.branches.get(&id)?;
        let mut input = super::avro::Input::new(body, 0);
        self.shape.pass(*node, &mut input)?;
        input.is_empty().then_some(*branch)
    }

    /// The union's branch for bytes.
    pub(super) fn bytes_branch(&self) -> usize {
        self.ids.len()
    }
}

/// The schema of a row whose body is one of these.
pub(super) fn row_schema(body: Vec<Value>) -> Value {
    json!({
        "type": "record", "name": "Row", "namespace": "solyx.archive", "doc": "A record of a topic-partition.",
        "fields": [
            {"name": "ordinal", "type": "long", "doc": "Count of records before it in its topic-partition."},
            {"name": "append_time_us", "type": {"type": "long", "logicalType": "timestamp-micros"},
             "doc": "When the log took it, by the log's clock."},
            {"name": "key", "type": "bytes", "doc": "Key."},
            {"name": "headers", "doc": "Headers in order.", "type": {"type": "array", "items": {
                "type": "record", "name": "Header", "fields": [
                    {"name": "name", "type": "string", "doc": "Name."},
                    {"name": "value", "type": "bytes", "doc": "Value."}]}}},
            {"name": "framing_id", "type": ["null", "long"],
             "doc": "Schema id of the value's frame, as in registry.lock; null for a value without one."},
            {"name": "body", "type": body,
             "doc": "The event; bytes for what does not decode or does not encode again as it was, without its frame if it has one."},
        ],
    })
}

/// The full names and canonical hashes of a union's records, as the contract has them; nothing when the union contradicts itself.
pub(super) fn schema_hashes(body: &[Value]) -> Option<Vec<(String, Hash32)>> {
    let mut defined = HashMap::new();
    let records = body.iter().filter(|branch| branch.is_object());
    records
        .map(|branch| {
            let expanded = expand(branch, "", &mut defined);
            let name = defined_name(branch, "")?;
            Some((name, schema_hash(&contract(&expanded, &mut HashMap::new())?)))
        })
        .collect()
}

/// The full name of a named type (Avro 1.12 specification, "Names").
pub(super) fn full_name(name: &str, namespace: Option<&str>, enclosing: &str) -> String {
    let space = namespace.unwrap_or(enclosing);
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

/// The full name of an object that defines a named type.
fn defined_name(schema: &Value, enclosing: &str) -> Option<String> {
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    matches!(text("type")?, "record" | "enum" | "fixed").then_some(())?;
    Some(full_name(text("name")?, text("namespace"), enclosing))
}

/// A schema with each reference to a type that it defines replaced by the definition. The contract has no recursive types.
fn expand(schema: &Value, enclosing: &str, defined: &mut HashMap<String, Value>) -> Value {
    match schema {
        Value::String(name) => defined.get(&full_name(name, None, enclosing)).unwrap_or(schema).clone(),
        Value::Array(branches) => branches.iter().map(|branch| expand(branch, enclosing, defined)).collect(),
        Value::Object(_) => {
            let name = defined_name(schema, enclosing);
            let inner = name.as_deref().map_or(enclosing, |name| name.rsplit_once('.').map_or("", |(space, _)| space));
            let expanded = map_types(schema, &mut |part| Some(expand(part, inner, defined))).unwrap_or_default();
            if let Some(name) = name {
                defined.insert(name, expanded.clone());
            }
            expanded
        }
        other => other.clone(),
    }
}

/// The opposite, over several schemas: only the first use of a named type defines it. Nothing when two definitions differ.
fn contract(expanded: &Value, seen: &mut HashMap<String, Hash32>) -> Option<Value> {
    contract_in(expanded, "", seen)
}

fn contract_in(expanded: &Value, enclosing: &str, seen: &mut HashMap<String, Hash32>) -> Option<Value> {
    match expanded {
        Value::Array(branches) => branches
            .iter()
            .map(|branch| contract_in(branch, enclosing, seen))
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        Value::Object(_) => {
            let name = defined_name(expanded, enclosing);
            if let Some(name) = &name {
                let hash = schema_hash(expanded);
                match seen.insert(name.clone(), hash) {
                    Some(before) if before == hash => return Some(Value::String(name.clone())),
                    Some(_) => return None,
                    None => {}
                }
            }
            let inner = name.as_deref().map_or(enclosing, |name| name.rsplit_once('.').map_or("", |(space, _)| space));
            map_types(expanded, &mut |part| contract_in(part, inner, seen))
        }
        other => Some(other.clone()),
    }
}

/// A schema object with every schema directly inside it changed.
fn map_types(schema: &Value, change: &mut dyn FnMut(&Value) -> Option<Value>) -> Option<Value> {
    let mut changed = schema.clone();
    for key in ["items", "values"] {
        if let Some(part) = schema.get(key) {
            changed[key] = change(part)?;
        }
    }
    if schema.get("type").is_some_and(|kind| !kind.is_string()) {
        changed["type"] = change(&schema["type"])?;
    }
    for (place, field) in schema.get("fields").and_then(Value::as_array).into_iter().flatten().enumerate() {
        changed["fields"][place]["type"] = change(&field["type"])?;
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_today() -> SchemaSet {
        SchemaSet::of(BY_ID.iter().filter(|(_, schema)| schema.current).map(|(id, _)| *id).collect()).unwrap()
    }

    #[test]
    fn the_row_of_every_topic_and_of_all_types_together_is_a_schema() {
        let every = of_today();
        assert_eq!(every.ids.len(), EVENT_TYPES.len());
        apache_avro::Schema::parse(&every.row).unwrap();
        for topic in Topic::ALL {
            let set = SchemaSet::of_topic(topic);
            assert!(!set.ids.is_empty(), "{}", topic.name());
            apache_avro::Schema::parse(&set.row).unwrap();
        }
    }

    #[test]
    fn schemas_in_an_archive_hash_as_those_of_the_contract() {
        let every = of_today();
        let body = every.row.pointer("/fields/5/type").unwrap().as_array().unwrap();
        let lock = parse_lock(REGISTRY_LOCK).unwrap();
        let hashes = schema_hashes(body).unwrap();
        assert_eq!(hashes.len(), every.ids.len());
        for (id, (name, hash)) in every.ids.iter().zip(hashes) {
            let line = lock.iter().find(|line| line.id == *id).unwrap();
            assert_eq!((&line.subject, line.hash), (&name, hash));
        }
    }

    #[test]
    fn definitions_that_differ_do_not_go_together() {
        let sum = |field: &str| json!({"type": "record", "name": "Sum", "namespace": "a", "fields": [{"name": field, "type": "long"}]});
        let mut seen = HashMap::new();
        assert!(contract(&sum("x"), &mut seen).is_some());
        assert_eq!(contract(&sum("x"), &mut seen), Some(json!("a.Sum")));
        assert_eq!(contract(&sum("y"), &mut seen), None);
    }
}
