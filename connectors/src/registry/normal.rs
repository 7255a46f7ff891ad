//! One form for schemas that say the same. A registry may write a schema anew: keys in another order, full names instead of a name and a
//! namespace, `{"type": "string"}` as `"string"`, other documentation. What stays in the form is all that has a meaning here: names,
//! order, types, defaults, symbols, logical types, units.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use solyx_schemas::codec::{Codec, KnownSchema};
use solyx_schemas::hash::{Hash32, schema_hash};

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

const KINDS: [&str; 6] = ["record", "error", "enum", "fixed", "array", "map"];

/// A text nested deeper is no schema of ours; looking into it stops here.
const DEPTH_MAX: usize = 64;

/// Our schemas by the hash of their form.
static OURS: LazyLock<BTreeMap<Hash32, KnownSchema>> = LazyLock::new(|| {
    let form = |schema: &KnownSchema| {
        form_hash(schema.avsc).expect("schema files are part of this build and its tests parse them")
    };
    Codec::global().schemas().map(|schema| (form(&schema), schema)).collect()
});

/// Which of our schemas this text says, if any.
pub(super) fn known(text: &str) -> Option<KnownSchema> {
    OURS.get(&form_hash(text)?).copied()
}

/// Whether two texts say the same schema.
pub(super) fn same(one: &str, other: &str) -> bool {
    form_hash(one).is_some_and(|hash| form_hash(other) == Some(hash))
}

fn form_hash(text: &str) -> Option<Hash32> {
    Some(schema_hash(&form(&serde_json::from_str(text).ok()?, "", 0)?))
}

/// The form of a schema inside a namespace.
fn form(schema: &Value, namespace: &str, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    match schema {
        Value::String(name) if PRIMITIVES.contains(&name.as_str()) => Some(schema.clone()),
        Value::String(name) => Some(full(name, namespace).into()),
        Value::Array(branches) => branches.iter().map(|branch| form(branch, namespace, depth + 1)).collect(),
        Value::Object(map) => object(map, namespace, depth),
        _ => None,
    }
}

fn object(map: &Map<String, Value>, outside: &str, depth: usize) -> Option<Value> {
    let mut out = Map::new();
    let mut inside = outside.to_owned();
    if let Some(name) = map.get("name").and_then(Value::as_str) {
        let name = match map.get("namespace").and_then(Value::as_str) {
            Some(namespace) => full(name, namespace),
            None => full(name, outside),
        };
        inside = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        out.insert("name".to_owned(), name.into());
    }
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            // The last is what Java's code generator writes beside "string"; it says nothing about the bytes.
            ("doc" | "name" | "namespace" | "avro.java.string", _) => continue,
            ("aliases", Value::Array(aliases)) if aliases.is_empty() => continue,
            ("type", Value::String(kind)) if KINDS.contains(&kind.as_str()) => value.clone(),
            ("type" | "items" | "values", inner) => form(inner, &inside, depth + 1)?,
            ("fields", Value::Array(fields)) => {
                fields.iter().map(|f| field(f, &inside, depth + 1)).collect::<Option<_>>()?
            }
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    match out.get("type") {
        Some(inner) if out.len() == 1 && !inner.as_str().is_some_and(|kind| KINDS.contains(&kind)) => {
            Some(inner.clone())
        }
        Some(_) => Some(Value::Object(out)),
        None => None,
    }
}

fn field(field: &Value, namespace: &str, depth: usize) -> Option<Value> {
    let mut out = Map::new();
    for (key, value) in field.as_object()? {
        let value = match (key.as_str(), value) {
            ("doc", _) => continue,
            ("order", Value::String(order)) if order == "ascending" => continue,
            ("aliases", Value::Array(aliases)) if aliases.is_empty() => continue,
            ("type", inner) => form(inner, namespace, depth)?,
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Some(Value::Object(out))
}

fn full(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_our_schemas_has_a_form_of_its_own() {
        assert_eq!(OURS.len(), Codec::global().schemas().count());
        for schema in Codec::global().schemas() {
            assert_eq!(known(schema.avsc).unwrap().id, schema.id);
        }
    }

    #[test]
    fn another_way_to_write_a_schema_has_the_same_form() {
        let one = r#"{"type":"record","name":"R","namespace":"a.b","doc":"x","fields":[
            {"name":"k","type":{"type":"enum","name":"K","namespace":"a.b","symbols":["S"]},"doc":"y"},
            {"name":"l","type":["null",{"type":"array","items":"K"}],"default":null},
            {"name":"m","type":{"type":"string","avro.java.string":"String"}}]}"#;
        let other = r#"{"fields":[
            {"name":"k","type":{"name":"a.b.K","type":"enum","symbols":["S"]},"order":"ascending"},
            {"name":"l","default":null,"type":["null",{"items":"a.b.K","type":"array"}]},
            {"name":"m","type":"string","aliases":[]}],"name":"a.b.R","type":"record"}"#;
        assert!(same(one, other));
    }

    #[test]
    fn what_has_a_meaning_makes_another_form() {
        let schema =
            |kind: &str| format!(r#"{{"type":"record","name":"a.R","fields":[{{"name":"k","type":{kind}}}]}}"#);
        let kinds = [
            r#""long""#,
            r#""int""#,
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            r#"{"type":"long","unit":"W"}"#,
            r#"["null","long"]"#,
            r#"["long","null"]"#,
        ];
        for (i, one) in kinds.iter().enumerate() {
            for (j, other) in kinds.iter().enumerate() {
                assert_eq!(same(&schema(one), &schema(other)), i == j, "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_schema_is_none_of_ours() {
        let deep = format!("{}\"long\"{}", "[".repeat(100), "]".repeat(100));
        for text in ["", "7", "{", "{}", "null", r#"{"type":"record"}"#, "\"string\"", deep.as_str()] {
            assert!(known(text).is_none(), "{text}");
        }
    }
}
