//! What is asked of a living state, events that a producer makes up, and what a registry answers.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use solyx_connectors::registry::{Registry, RegistryConfig, SchemaIds};
use solyx_histories::history::{Luck, Mood, beginning};
use solyx_histories::{START, World, job};
use solyx_kernel::follow::Follower;
use solyx_kernel::whatif::{Rehearsal, TOLD_MAX};
use solyx_projections::failover::domain_lost;
use solyx_runtime::recall;
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::events::{EVENT_TYPES, Event};
use solyx_schemas::ids::CellId;
use solyx_schemas::json;
use solyx_schemas::units::{DurationUs, HOUR_US};
use solyx_schemas::wire;

use super::said;
use super::states::HISTORY;
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target {
            name: "question",
            takes: "a job request that is asked for as a question",
            seeds: requests,
            words: WORDS,
            run: ask,
        },
        Target {
            name: "told",
            takes: "events that are asked about, said together",
            seeds: told_events,
            words: WORDS,
            run: tell,
        },
        Target { name: "loss", takes: "the name of a failure domain", seeds: domains, words: DOMAINS, run: lose },
        Target {
            name: "events",
            takes: "events of a producer, in an epoch of a living cell",
            seeds: events,
            words: &[],
            run: epoch,
        },
        Target { name: "registry", takes: "an answer of a schema registry", seeds: answers, words: HTTP, run: answer },
    ]
}

const WORDS: &[&str] = &[
    "null",
    "[]",
    "TRAINING",
    "SERVING",
    "H100",
    "red",
    "blue",
    "standard",
    "pod",
    "SITE",
    "RACK",
    "NVLINK_DOMAIN",
    "true",
];
const DOMAINS: &[&str] = &["site:", "provider:", "feed:", "fabric:", "pod", "annex", "metapod", "leaf-0", "/", ":"];
const HTTP: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 404 Not Found\r\n",
    "HTTP/1.1 409 Conflict\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "\r\n\r\n",
    "\"error_code\":40403",
    "\"schema\":",
    "\"id\":",
    "\"version\":",
    "Location: http://localhost/\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
];

static FOLLOWER: LazyLock<Follower> =
    LazyLock::new(|| recall(&*HISTORY, &CellId::from("test"), None).expect("a good log is followed"));

thread_local! {
    static REHEARSAL: Rehearsal = FOLLOWER.rehearsal();
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn requests() -> Vec<Vec<u8>> {
    let asked = [job("asked", "red", 1, 1, 2), job("gang", "blue", 2, 8, 30)].map(Event::from);
    let mut all: Vec<Vec<u8>> = asked.iter().map(|event| json::to_json(event).to_string().into_bytes()).collect();
    let example = EVENT_TYPES.iter().find(|kind| kind.short_name() == "JobRequested");
    all.extend(example.map(|kind| json::to_json(&(kind.example)()).to_string().into_bytes()));
    all
}

/// The first event of the text, if it is a job request, is asked for.
fn ask(input: &[u8]) -> Outcome {
    let mut words = "nothing".to_owned();
    let read = json::read_lines(input, |line| {
        words = match line.event {
            Ok(Event::JobRequested(request)) => REHEARSAL.with(|rehearsal| match rehearsal.job(&request) {
                Ok(answer) => format!("{answer:?}").split(['(', '{', ',']).take(3).collect(),
                Err(refused) => refused,
            }),
            Ok(other) => other.name().to_owned(),
            Err(errors) => errors.first().map(ToString::to_string).unwrap_or_default(),
        }
    });
    read.map_err(|error| error.to_string())?;
    Ok(words)
}

/// How far ahead is looked, if nothing is refused.
const AHEAD: DurationUs = DurationUs(6 * HOUR_US);

/// Each event of an input topic alone, and some together.
fn told_events() -> Vec<Vec<u8>> {
    let lines = |events: &[Event]| {
        let lines: Vec<String> = events.iter().map(|event| json::to_json(event).to_string()).collect();
        lines.join("\n").into_bytes()
    };
    let inputs = EVENT_TYPES.iter().filter(|kind| kind.topic.is_input());
    let mut all: Vec<Vec<u8>> = inputs.map(|kind| lines(&[(kind.example)()])).collect();
    let mut luck = Luck(11);
    let (_, mut said) = beginning(&mut luck, Mood::Wild);
    said.iter_mut().zip(1..).for_each(|(event, number)| solyx_histories::identify(event, number, START));
    all.extend(said.chunks(4).map(lines));
    all
}

/// The events of the text are asked about together, for the next epoch and for some hours.
fn tell(input: &[u8]) -> Outcome {
    let mut events = Vec::new();
    let read = json::read_lines(input, |line| events.extend(line.event.ok()));
    read.map_err(|error| error.to_string())?;
    events.truncate(TOLD_MAX);
    REHEARSAL.with(|rehearsal| {
        let mut words = String::new();
        for until in [rehearsal.now(), rehearsal.now().after(AHEAD)] {
            let found = match rehearsal.told(&events, until) {
                Ok(found) => found,
                Err((number, detail)) => {
                    holds!((1..=events.len()).contains(&number), "event {number} of {} is refused", events.len());
                    return said(detail);
                }
            };
            holds!(
                found.now == rehearsal.now() && (found.now..=until).contains(&found.reached),
                "asked from {:?} until {until:?}, answered from {:?} until {:?}",
                rehearsal.now(),
                found.now,
                found.reached
            );
            let same = found.jobs.iter().find(|job| job.without == job.with);
            holds!(same.is_none(), "the same comes of a job that is told as another: {same:?}");
            words.extend(found.decisions.keys().copied());
            words.push_str(if found.jobs.is_empty() { " " } else { " jobs " });
            words.push_str(if found.overcommitments.is_empty() { " " } else { " overcommitted " });
            words.push_str(if found.rest.0 == found.rest.1 { " " } else { " rest " });
        }
        Ok(words)
    })
}

fn domains() -> Vec<Vec<u8>> {
    REHEARSAL.with(|rehearsal| rehearsal.domains().iter().map(|domain| domain.to_string().into_bytes()).collect())
}

/// A domain is known by its whole name, and its loss is told; another name is none.
fn lose(input: &[u8]) -> Outcome {
    let name = &*String::from_utf8_lossy(input);
    let known = REHEARSAL.with(|rehearsal| rehearsal.domains().iter().any(|domain| domain.to_string() == name));
    let lost = domain_lost(&FOLLOWER, name);
    holds!(lost.is_some() == known, "{name:?} is a domain: {known}, and its loss is told: {}", lost.is_some());
    let Some(view) = lost else { return Ok("no domain".to_owned()) };
    let told: Vec<&str> = view.domains.iter().map(|domain| domain.domain.as_str()).collect();
    holds!(told == [name], "asked about {name:?}, told of {told:?}");
    Ok("a domain".to_owned())
}

/// Bodies with their type and length before them: each event of an input topic alone.
fn events() -> Vec<Vec<u8>> {
    let inputs = EVENT_TYPES.iter().filter(|kind| kind.topic.is_input());
    let mut all: Vec<Vec<u8>> = inputs.map(|kind| packed(&[(kind.example)()])).collect();
    let mut luck = Luck(11);
    let (_, said) = beginning(&mut luck, Mood::Wild);
    all.extend(said.chunks(4).map(packed));
    all.push(packed(&[job("more", "red", 1, 4, 3).into(), job("large", "blue", 3, 8, 300).into()]));
    all
}

fn packed(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        let value = Codec::global().encode(event);
        wire::write_long(event.type_index() as i64, &mut bytes);
        wire::write_long((value.len() - FRAME_LEN) as i64, &mut bytes);
        bytes.extend_from_slice(&value[FRAME_LEN..]);
    }
    bytes
}

/// Whatever decodes is offered to a kernel that is at work, two epochs of it, and time goes on. It may refuse; what it decides is read as
/// it was written, and what always holds does.
fn epoch(input: &[u8]) -> Outcome {
    let mut world = WORLD.with_borrow_mut(|world| world.get_or_insert_with(|| super::states::world(11, 8)).clone());
    let mut rest = input;
    let mut offered = Vec::new();
    while offered.len() < 16
        && let Some(event) = unpacked(&mut rest)
    {
        offered.extend(event.filter(|event| event.topic().is_input()));
    }
    let second = offered.split_off(offered.len() / 2);
    let mut words = String::new();
    for events in [offered, second, Vec::new()] {
        let (closed, _) = world.close_as_said(events);
        for output in &closed.outputs {
            super::is_whole(output)?;
            words.push_str(output.name());
        }
        closed.record.skipped.iter().for_each(|skipped| words.push_str(skipped.reason.as_str()));
        world.now += 3_600_000_000;
    }
    solyx_histories::check_invariants(&world.kernel);
    Ok(words)
}

/// The frame of each record type.
static FRAMES: LazyLock<Vec<[u8; FRAME_LEN]>> = LazyLock::new(|| {
    let frame = |value: Vec<u8>| value.first_chunk().copied().unwrap_or_default();
    EVENT_TYPES.iter().map(|kind| frame(Codec::global().encode(&(kind.example)()))).collect()
});

/// The next event; `Some(None)` when its bytes are none.
fn unpacked(rest: &mut &[u8]) -> Option<Option<Event>> {
    let kind = usize::try_from(wire::read_long(rest).ok()?).ok()? % EVENT_TYPES.len();
    let len = usize::try_from(wire::read_long(rest).ok()?).ok()?.min(rest.len());
    let (body, after) = rest.split_at(len);
    *rest = after;
    let value = [FRAMES[kind].as_slice(), body].concat();
    Some(Codec::global().decode(&value).ok().map(|decoded| decoded.event))
}

/// What the server below answers next.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A server on this machine that says whatever it is told to, and its address.
static SERVER: LazyLock<String> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
    let address = listener.local_addr().expect("it was bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4_096];
            let _ = stream.read(&mut asked);
            let answer = ANSWER.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let _ = stream.write_all(&answer);
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    format!("http://{address}")
});

fn answers() -> Vec<Vec<u8>> {
    let schema = serde_json::Value::from(EVENT_TYPES[0].avsc).to_string();
    let bodies = [
        format!("{{\"schema\":{schema}}}"),
        format!("{{\"subject\":\"x\",\"id\":7,\"version\":2,\"schema\":{schema}}}"),
        "{\"compatibilityLevel\":\"FULL_TRANSITIVE\"}".to_owned(),
        "{\"error_code\":40403,\"message\":\"Schema not found\"}".to_owned(),
    ];
    let status = ["200 OK", "200 OK", "200 OK", "404 Not Found"];
    let answer = |(body, status): (String, &str)| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    bodies.into_iter().zip(status).map(answer).collect()
}

/// Each question that a registry is asked, with this answer.
fn answer(input: &[u8]) -> Outcome {
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = input.to_vec();
    let open = || Registry::open(&RegistryConfig::at(SERVER.as_str())).map_err(|error| error.to_string());
    let registry = open()?;
    let port = SERVER.rsplit(':').next().unwrap_or_default();
    let of = |error: solyx_schemas::log::LogError| said(error).map(|said| said.replace(port, "PORT"));
    let schema = registry.schema(7).map_or_else(of, |text| Ok(format!("{}", text.is_some())))?;
    let lookup = registry.lookup("x", "\"long\"").map_or_else(of, |version| Ok(format!("{}", version.is_some())))?;
    let level = registry.compatibility("x").map_or_else(of, |level| Ok(format!("{}", level.is_some())))?;
    let id = SchemaIds::new(open()?, None).from_registry(9).map_or_else(of, |id| Ok(format!("{}", id.is_some())))?;
    Ok(format!("{schema} {lookup} {level} {id}"))
}
