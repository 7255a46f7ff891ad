//! The client of schema registries and its map of ids, against a small server that answers, fails or keeps silent as it is told.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use solyx_connectors::registry::{Registered, Registry, RegistryConfig, SchemaIds};
use solyx_schemas::codec::{Codec, KnownSchema};
use solyx_schemas::events::event_type;
use solyx_schemas::log::{LogError, LogErrorKind};

/// What the small registry knows, and how it behaves.
#[derive(Default)]
struct Shared {
    /// Text by id, and by subject its ids.
    schemas: Mutex<BTreeMap<u32, String>>,
    subjects: Mutex<BTreeMap<String, Vec<u32>>>,
    configs: Mutex<BTreeMap<String, String>>,
    /// Answers everything with this status and text.
    broken: Mutex<Option<(u16, String)>>,
    silent: AtomicBool,
    asked: AtomicUsize,
    /// The `authorization` headers seen.
    authorizations: Mutex<Vec<String>>,
}

struct SmallRegistry {
    url: String,
    shared: Arc<Shared>,
}

impl SmallRegistry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, shared }
    }

    fn ids(&self, cache: Option<&std::path::Path>) -> SchemaIds {
        let config = RegistryConfig { register: true, ..RegistryConfig::at(&self.url) };
        SchemaIds::new(Registry::open(&config).unwrap(), cache.map(Into::into))
    }

    fn put(&self, id: u32, text: impl Into<String>) {
        self.shared.schemas.lock().unwrap().insert(id, text.into());
    }

    fn breaks(&self, status: u16, text: &str) {
        *self.shared.broken.lock().unwrap() = Some((status, text.to_owned()));
    }

    fn works(&self) {
        *self.shared.broken.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|n| *n > 0)?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => shared.authorizations.lock().unwrap().push(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        shared.asked.fetch_add(1, Ordering::SeqCst);
        while shared.silent.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (status, text) = shared.broken.lock().unwrap().clone().unwrap_or_else(|| {
            let (status, json) = shared.answer(&first, &serde_json::from_slice(&body).unwrap_or_default());
            (status, json.to_string())
        });
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).ok()?;
    }
}

impl Shared {
    fn answer(&self, request: &str, body: &Value) -> (u16, Value) {
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let path = path.split('?').next().unwrap();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let missing = |code: u32| (404, json!({"error_code": code, "message": "not found"}));
        let mut schemas = self.schemas.lock().unwrap();
        let mut subjects = self.subjects.lock().unwrap();
        match (method, parts.as_slice()) {
            ("GET", ["schemas", "ids", id]) => match schemas.get(&id.parse().unwrap()) {
                Some(text) => (200, json!({"schema": text})),
                None => missing(40_403),
            },
            ("POST", ["subjects", subject]) => {
                let Some(ids) = subjects.get(*subject) else { return missing(40_401) };
                match ids.iter().enumerate().find(|(_, id)| schemas[id] == body["schema"].as_str().unwrap()) {
                    Some((i, id)) => {
                        (200, json!({"subject": subject, "version": i + 1, "id": id, "schema": schemas[id]}))
                    }
                    None => missing(40_403),
                }
            }
            ("POST", ["subjects", subject, "versions"]) => {
                if body["schema"].as_str().unwrap().contains("refuse me") {
                    return (409, json!({"error_code": 409, "message": "field x was dropped"}));
                }
                let id = schemas.keys().last().copied().unwrap_or(0) + 1;
                schemas.insert(id, body["schema"].as_str().unwrap().to_owned());
                subjects.entry((*subject).to_owned()).or_default().push(id);
                (200, json!({"id": id}))
            }
            ("PUT", ["config", subject]) => {
                let level = body["compatibility"].as_str().unwrap().to_owned();
                self.configs.lock().unwrap().insert((*subject).to_owned(), level);
                (200, body.clone())
            }
            _ => (404, json!({"error_code": 404, "message": "HTTP 404 Not Found"})),
        }
    }
}

fn schema(name: &str) -> KnownSchema {
    Codec::global().schemas().find(|schema| schema.is_today && schema.name.ends_with(name)).unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T, LogError>) -> LogErrorKind {
    result.unwrap_err().kind
}

/// Longer than an error of a registry that was away stands for its answer.
fn wait_until_asked_again() {
    std::thread::sleep(Duration::from_millis(2_100));
}

#[test]
fn a_value_goes_out_with_the_registrys_id_and_comes_back_with_ours() {
    let registry = SmallRegistry::start();
    registry.put(41, r#"{"type":"string"}"#);
    let ids = registry.ids(None);
    let event = (event_type("JobRequested").unwrap().example)();
    let ours = Codec::global().encode(&event);
    let mut value = ours.clone();
    ids.to_wire(&mut value).unwrap();
    assert_eq!(value[..5], [0, 0, 0, 0, 42]);
    assert_eq!(value[5..], ours[5..]);
    assert_eq!(registry.shared.configs.lock().unwrap()["solyx.jobs.JobRequested"], "FULL_TRANSITIVE");
    ids.to_ours(&mut value).unwrap();
    assert_eq!(value, ours);
    let asked = registry.asked();
    ids.to_wire(&mut value).unwrap();
    ids.to_ours(&mut value).unwrap();
    assert_eq!(registry.asked(), asked, "what is known is not asked again");
}

#[test]
fn what_is_no_frame_of_ours_stays_as_it_is() {
    let registry = SmallRegistry::start();
    registry.put(41, r#"{"type":"string"}"#);
    let ids = registry.ids(None);
    let lock_id = schema("JobRequested").id.to_be_bytes();
    let framed = |id: [u8; 4]| [&[0][..], &id, b"body"].concat();
    for value in
        [vec![], vec![0, 0, 0], vec![1, 0, 0, 0, 41, 7], framed([0, 0, 0, 41]), framed([0, 0, 0, 99]), framed(lock_id)]
    {
        let mut read = value.clone();
        ids.to_ours(&mut read).unwrap();
        assert_eq!(read, value);
    }
    for value in [vec![], vec![1, 2, 3, 4, 5, 6], framed([0, 0, 0, 41])] {
        let mut written = value.clone();
        ids.to_wire(&mut written).unwrap();
        assert_eq!(written, value);
    }
}

#[test]
fn a_schema_that_was_written_otherwise_is_still_ours() {
    let registry = SmallRegistry::start();
    let ours = schema("NodeReported");
    let mut text: Value = serde_json::from_str(ours.avsc).unwrap();
    text["doc"] = "documentation of somebody else".into();
    text["name"] = ours.name.into();
    text.as_object_mut().unwrap().shift_remove("namespace");
    registry.put(5, text.to_string());
    text["fields"][2]["type"]["unit"] = "ms UTC".into();
    registry.put(6, text.to_string());
    let ids = registry.ids(None);
    assert_eq!(ids.from_registry(5).unwrap(), Some(ours.id));
    assert_eq!(ids.from_registry(6).unwrap(), None, "another unit is another schema");
}

#[test]
fn an_id_that_the_registry_does_not_have_is_not_asked_again_at_once() {
    let registry = SmallRegistry::start();
    let ids = registry.ids(None);
    for _ in 0..100 {
        assert_eq!(ids.from_registry(7).unwrap(), None);
    }
    assert_eq!(registry.asked(), 1);
    let ours = schema("JobRequested");
    registry.put(7, ours.avsc);
    std::thread::sleep(Duration::from_millis(5_100));
    assert_eq!(ids.from_registry(7).unwrap(), Some(ours.id), "it was registered meanwhile");
}

#[test]
fn while_the_registry_is_away_what_is_known_goes_on_and_the_rest_waits() {
    let registry = SmallRegistry::start();
    let (known, other) = (schema("JobRequested"), schema("NodeReported"));
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("registry-ids.json");
    let id = registry.ids(Some(&cache)).to_registry(known.id).unwrap();

    registry.breaks(503, "<html>no upstream</html>");
    let ids = registry.ids(Some(&cache));
    assert_eq!(ids.to_registry(known.id).unwrap(), id);
    assert_eq!(ids.from_registry(id).unwrap(), Some(known.id));
    assert_eq!(kind(ids.to_registry(other.id)), LogErrorKind::Retry);
    assert_eq!(kind(ids.from_registry(77)), LogErrorKind::Retry, "never a verdict");
    let asked = registry.asked();
    for _ in 0..100 {
        assert_eq!(kind(ids.from_registry(77)), LogErrorKind::Retry);
    }
    assert_eq!(registry.asked(), asked, "its error stands for a while");

    registry.works();
    wait_until_asked_again();
    assert_eq!(ids.to_registry(other.id).unwrap(), id + 1);
    assert_eq!(ids.from_registry(77).unwrap(), None);
}

#[test]
fn another_registry_at_the_same_address_is_found_out() {
    let registry = SmallRegistry::start();
    let (one, other) = (schema("JobRequested"), schema("NodeReported"));
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("registry-ids.json");
    registry.put(7, one.avsc);
    assert_eq!(registry.ids(Some(&cache)).from_registry(7).unwrap(), Some(one.id));
    assert_eq!(registry.ids(Some(&cache)).from_registry(7).unwrap(), Some(one.id));
    registry.shared.schemas.lock().unwrap().clear();
    let lost = registry.ids(Some(&cache)).from_registry(7).unwrap();
    assert_eq!(lost, Some(one.id), "what was written with it is still ours");
    registry.put(7, other.avsc);
    let error = registry.ids(Some(&cache)).from_registry(7).unwrap_err();
    assert_eq!(error.kind, LogErrorKind::Stop);
    assert!(
        error.detail.contains("schema id 7 was solyx.jobs.JobRequested and is now solyx.nodes.NodeReported"),
        "{error}"
    );
    assert!(error.hint.contains("registry-ids.json"), "{error}");
}

#[test]
fn a_schema_is_written_with_the_id_that_the_registry_gives_today() {
    let registry = SmallRegistry::start();
    let ours = schema("JobRequested");
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("registry-ids.json");
    assert_eq!(registry.ids(Some(&cache)).to_registry(ours.id).unwrap(), 1);
    registry.shared.subjects.lock().unwrap().clear();
    let ids = registry.ids(Some(&cache));
    assert_eq!(ids.to_registry(ours.id).unwrap(), 2);
    assert_eq!(ids.from_registry(1).unwrap(), Some(ours.id));
    assert_eq!(ids.from_registry(2).unwrap(), Some(ours.id));
}

#[test]
fn errors_are_sorted_by_what_can_be_done() {
    let registry = SmallRegistry::start();
    let client = Registry::open(&RegistryConfig::at(&registry.url)).unwrap();
    let cases = [
        (500, r#"{"error_code":50001,"message":"backend"}"#, LogErrorKind::Retry),
        (502, "<html>", LogErrorKind::Retry),
        (429, "", LogErrorKind::Retry),
        (401, "", LogErrorKind::Stop),
        (403, r#"{"error_code":40301,"message":"no"}"#, LogErrorKind::Stop),
        (422, r#"{"error_code":42201,"message":"invalid"}"#, LogErrorKind::Stop),
        // A wrong address must not pass for "no such id".
        (404, "<html>not here</html>", LogErrorKind::Stop),
        (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#, LogErrorKind::Stop),
        (302, "", LogErrorKind::Stop),
        (200, "<html>welcome</html>", LogErrorKind::Stop),
        (200, "{}", LogErrorKind::Stop),
    ];
    for (status, text, expected) in cases {
        registry.breaks(status, text);
        assert_eq!(kind(client.schema(1)), expected, "{status} {text}");
    }
    registry.breaks(404, r#"{"error_code":40403,"message":"not found"}"#);
    assert_eq!(client.schema(1).unwrap(), None);
}

#[test]
fn nobody_at_the_address_is_a_registry_that_is_away() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Registry::open(&RegistryConfig::at(format!("http://127.0.0.1:{port}"))).unwrap();
    assert_eq!(kind(client.schema(1)), LogErrorKind::Retry);
}

#[test]
fn a_registry_that_keeps_silent_is_away_after_ten_seconds() {
    let registry = SmallRegistry::start();
    registry.shared.silent.store(true, Ordering::SeqCst);
    let client = Registry::open(&RegistryConfig::at(&registry.url)).unwrap();
    let began = Instant::now();
    assert_eq!(kind(client.schema(1)), LogErrorKind::Retry);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    registry.shared.silent.store(false, Ordering::SeqCst);
}

#[test]
fn a_schema_is_registered_only_where_that_is_allowed() {
    let registry = SmallRegistry::start();
    let ours = schema("JobRequested");
    let client = Registry::open(&RegistryConfig::at(&registry.url)).unwrap();
    let error = client.id_of(ours.name, ours.avsc).unwrap_err();
    assert_eq!(error.kind, LogErrorKind::Stop);
    assert!(error.hint.contains("solyx schemas register"), "{error}");
    assert!(matches!(client.register(ours.name, ours.avsc).unwrap(), Registered::New(version) if version.version == 1));
    assert!(matches!(client.register(ours.name, ours.avsc).unwrap(), Registered::There(_)));
    assert_eq!(client.id_of(ours.name, ours.avsc).unwrap(), 1);
    let refused = client.register(ours.name, "refuse me").unwrap();
    assert_eq!(refused, Registered::Refused("field x was dropped".to_owned()));
}

#[test]
fn the_registry_is_told_who_asks_and_nobody_else() {
    let registry = SmallRegistry::start();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "geheim-1\n").unwrap();
    let config = RegistryConfig { token_file: Some(token.clone()), ..RegistryConfig::at(&registry.url) };
    let client = Registry::open(&config).unwrap();
    client.schema(1).unwrap();
    std::fs::write(&token, "geheim-2").unwrap();
    registry.breaks(401, "");
    let error = client.schema(1).unwrap_err();
    assert_eq!(*registry.shared.authorizations.lock().unwrap(), ["Bearer geheim-1", "Bearer geheim-2"]);
    assert!(!format!("{error} {error:?} {client:?} {config:?}").contains("geheim"));
    let error = Registry::open(&RegistryConfig::at("http://name:geheim@localhost")).unwrap_err();
    assert!(!error.to_string().contains("geheim"), "{error}");
}

/// The address of a real registry, if there is one.
fn real_registry() -> Option<String> {
    let url = std::env::var("SOLYX_TEST_REGISTRY").ok();
    if url.is_none() {
        eprintln!("not run: SOLYX_TEST_REGISTRY does not name a schema registry");
    }
    url
}

#[test]
fn a_real_registry_takes_every_schema_and_gives_it_back() {
    let Some(url) = real_registry() else { return };
    let config = RegistryConfig { register: true, ..RegistryConfig::at(url) };
    let ids = SchemaIds::new(Registry::open(&config).unwrap(), None);
    let fresh = SchemaIds::new(Registry::open(&config).unwrap(), None);
    for schema in Codec::global().schemas() {
        let id = ids.to_registry(schema.id).unwrap();
        assert_eq!(fresh.from_registry(id).unwrap(), Some(schema.id), "{}", schema.name);
    }
    assert_eq!(fresh.from_registry(4_000_000_000).unwrap(), None);
}

#[test]
fn a_real_registry_refuses_what_does_not_fit() {
    let Some(url) = real_registry() else { return };
    let client = Registry::open(&RegistryConfig::at(url)).unwrap();
    let subject = format!("solyx.test.Refused{}", std::process::id());
    let schema = |kind: &str| {
        let fields = json!([{"name": "k", "type": kind}]);
        json!({"type": "record", "name": "Refused", "namespace": "solyx.test", "fields": fields}).to_string()
    };
    assert_eq!(client.refusal(&subject, &schema("long")).unwrap(), None, "a subject that is not there refuses nothing");
    assert!(matches!(client.register(&subject, &schema("long")).unwrap(), Registered::New(_)));
    assert_eq!(client.compatibility(&subject).unwrap().as_deref(), Some("FULL_TRANSITIVE"));
    assert!(matches!(client.register(&subject, &schema("string")).unwrap(), Registered::Refused(_)));
    assert!(client.refusal(&subject, &schema("string")).unwrap().is_some());
    assert_eq!(client.refusal(&subject, &schema("long")).unwrap(), None);
    assert_eq!(client.lookup(&subject, &schema("string")).unwrap(), None);
}
