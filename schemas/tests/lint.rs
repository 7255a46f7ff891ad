//! The lint finds nothing in today's schemas, and everything that it is there to find.

#![allow(clippy::unwrap_used)] // helpers of tests

use serde_json::{Value, json};
use solyx_schemas::events::{EVENT_TYPES, event_type};
use solyx_schemas::lint;
use solyx_schemas::shape::{Reading, RecordShape, resolve};

/// A change of a schema.
type Edit = fn(&mut Value);

fn shape(schema: &Value) -> RecordShape {
    RecordShape::parse(&schema.to_string()).unwrap()
}

/// The schema of a small record with one field of each kind.
fn small() -> Value {
    json!({
        "type": "record", "name": "Thing", "namespace": "solyx.things", "doc": "A thing.",
        "fields": [
            {"name": "size_mib", "type": {"type": "long", "unit": "MiB"}, "doc": "Its size."},
            {"name": "seen_us", "type": {"type": "long", "logicalType": "timestamp-micros", "unit": "µs UTC"}, "doc": "When."},
            {"name": "colour", "doc": "Its colour.", "type": {
                "type": "enum", "name": "Colour", "namespace": "solyx.things", "doc": "A colour.",
                "symbols": ["UNKNOWN", "RED", "BLUE"], "default": "UNKNOWN",
            }},
            {"name": "label", "type": ["null", "string"], "doc": "Its label.", "default": null},
        ],
    })
}

#[test]
fn todays_schemas_are_clean() {
    let found: Vec<String> =
        EVENT_TYPES.iter().flat_map(|t| lint::schema(&RecordShape::parse(t.avsc).unwrap())).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn every_forbidden_shape_is_found() {
    let set = |path: &str, value: Value| {
        let mut schema = small();
        *schema.pointer_mut(path).unwrap() = value;
        schema
    };
    let bad = [
        ("a unit that the name does not say", set("/fields/0/name", json!("size"))),
        ("a name whose unit is another", set("/fields/0/name", json!("size_gib"))),
        ("a unit that is missing", set("/fields/0/type", json!("long"))),
        ("a field without documentation", set("/fields/0/doc", json!(""))),
        ("a record without documentation", set("/doc", json!(" "))),
        ("another namespace", set("/namespace", json!("acme.things"))),
        ("an enum whose default is a real symbol", set("/fields/2/type/default", json!("RED"))),
        ("an enum without UNKNOWN first", set("/fields/2/type/symbols", json!(["RED", "UNKNOWN"]))),
        (
            "an optional field without default",
            set("/fields/3", json!({"name": "label", "type": ["null", "string"], "doc": "L."})),
        ),
        ("a time that is not an instant", set("/fields/1/type", json!({"type": "long", "unit": "MiB"}))),
        ("a field named type", set("/fields/3/name", json!("type"))),
    ];
    assert_eq!(lint::schema(&shape(&small())), Vec::<String>::new());
    for (what, schema) in bad {
        assert!(!lint::schema(&shape(&schema)).is_empty(), "not found: {what}");
    }
}

#[test]
fn shapes_outside_the_contract_do_not_parse() {
    for (pointer, other) in [
        ("/fields/0/type", json!("double")),
        ("/fields/0/type", json!({"type": "long", "logicalType": "timestamp-millis"})),
        ("/fields/3/type", json!(["string", "null"])),
        ("/fields/3/type", json!("solyx.things.Missing")),
    ] {
        let mut schema = small();
        *schema.pointer_mut(pointer).unwrap() = other.clone();
        assert!(RecordShape::parse(&schema.to_string()).is_err(), "{other}");
    }
}

#[test]
fn every_forbidden_change_is_found() {
    let change = |edit: fn(&mut Value)| {
        let mut later = small();
        edit(&mut later);
        lint::change(&shape(&small()), &shape(&later))
    };
    assert_eq!(change(|_| ()), Vec::<String>::new());
    let allowed: [fn(&mut Value); 3] = [
        |s| s["doc"] = json!("Said better."),
        |s| {
            s["fields"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "more", "type": ["null", "string"], "doc": "M.", "default": null}))
        },
        |s| s["fields"][2]["type"]["symbols"].as_array_mut().unwrap().push(json!("GREEN")),
    ];
    for edit in allowed {
        assert_eq!(change(edit), Vec::<String>::new());
    }
    let forbidden: [(&str, Edit); 11] = [
        ("another unit", |s| s["fields"][0]["type"]["unit"] = json!("GiB")),
        ("no unit", |s| s["fields"][0]["type"] = json!("long")),
        ("another logical type", |s| s["fields"][1]["type"] = json!({"type": "long", "unit": "µs UTC"})),
        ("another type", |s| s["fields"][0]["type"] = json!("string")),
        ("another namespace", |s| s["namespace"] = json!("solyx.others")),
        ("an enum's other namespace", |s| s["fields"][2]["type"]["namespace"] = json!("solyx.others")),
        ("a dropped symbol", |s| s["fields"][2]["type"]["symbols"] = json!(["UNKNOWN", "RED"])),
        ("symbols in another order", |s| s["fields"][2]["type"]["symbols"] = json!(["UNKNOWN", "BLUE", "RED"])),
        ("a dropped field", |s| drop(s["fields"].as_array_mut().unwrap().remove(3))),
        ("a new field without default", |s| {
            s["fields"].as_array_mut().unwrap().push(json!({"name": "more", "type": "string", "doc": "M."}));
        }),
        ("fields in another order", |s| s["fields"].as_array_mut().unwrap().swap(0, 1)),
    ];
    for (what, edit) in forbidden {
        assert!(!change(edit).is_empty(), "not found: {what}");
    }
}

#[test]
fn bytes_of_an_older_schema_become_todays() {
    let old = shape(&small());
    let mut later = small();
    later["fields"].as_array_mut().unwrap().insert(
        1,
        json!({
            "name": "more", "type": {"type": "array", "items": "string"}, "doc": "M.", "default": [],
        }),
    );
    later["fields"][3]["type"]["symbols"] = json!(["UNKNOWN", "RED"]);
    let new = shape(&later);
    let value = json!({"size_mib": 5, "seen_us": 7, "colour": "BLUE", "label": "x"});
    let mut bytes = Vec::new();
    let mut errors = Vec::new();
    old.write(value.as_object().unwrap(), Reading::Resolving, &mut bytes, &mut errors);
    assert!(errors.is_empty());
    let today = resolve(&old, &new, &mut bytes.as_slice()).unwrap();
    let read = new.read(&mut today.as_slice()).unwrap();
    // The field that is new has its default, the symbol that a reader does not know becomes the enum's default.
    assert_eq!(Value::from(read), json!({"size_mib": 5, "more": [], "seen_us": 7, "colour": "UNKNOWN", "label": "x"}));
}

#[test]
fn every_event_resolves_from_its_own_schema() {
    for t in EVENT_TYPES {
        let shape = RecordShape::parse(event_type(t.name).unwrap().avsc).unwrap();
        let json = solyx_schemas::json::to_json(&(t.example)());
        let mut fields = json.as_object().unwrap().clone();
        fields.shift_remove("type");
        let (mut bytes, mut errors) = (Vec::new(), Vec::new());
        shape.write(&fields, Reading::Resolving, &mut bytes, &mut errors);
        assert!(errors.is_empty(), "{}: {errors:?}", t.name);
        assert_eq!(resolve(&shape, &shape, &mut bytes.as_slice()).unwrap(), bytes);
    }
}
