//! Stands between clients and the broker, knows Kafka's requests by their number, and breaks connections at a step.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Requests by their number in Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Api {
    Produce = 0,
    AddPartitionsToTxn = 24,
    EndTxn = 26,
}

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The broker never sees the request.
    Before,
    /// The broker does what it is asked to, and its answer is lost.
    After,
}

#[derive(Default)]
struct Rules {
    /// The next request of this kind breaks its connection; for so long nobody connects after that.
    armed: Option<(i16, Break, Duration)>,
    closed_until: Option<Instant>,
    broken: u32,
}

/// A forwarder.
#[derive(Clone)]
pub struct Forwarder {
    rules: Arc<Mutex<Rules>>,
}

impl Forwarder {
    /// Forwards this port of loopback to that one, until the process ends.
    pub fn start(port: u16, broker: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let forwarder = Self { rules: Arc::default() };
        let own = forwarder.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rules = Arc::clone(&own.rules);
                thread::spawn(move || connect(client, broker, &rules));
            }
        });
        forwarder
    }

    /// Breaks the connection of the next request of this kind, and lets nobody connect for a while.
    pub fn break_at(&self, api: Api, place: Break, closed: Duration) {
        self.rules.lock().unwrap().armed = Some((api as i16, place, closed));
    }

    /// Forwards everything again.
    pub fn heal(&self) {
        *self.rules.lock().unwrap() = Rules::default();
    }

    /// How many connections were broken since it was healed.
    pub fn broken(&self) -> u32 {
        self.rules.lock().unwrap().broken
    }
}

fn is_closed(rules: &Mutex<Rules>) -> bool {
    rules.lock().unwrap().closed_until.is_some_and(|until| Instant::now() < until)
}

fn connect(client: TcpStream, port: u16, rules: &Arc<Mutex<Rules>>) {
    if is_closed(rules) {
        return;
    }
    let Ok(broker) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let back = (broker.try_clone().unwrap(), client.try_clone().unwrap());
    // Correlation of the request whose answer is lost.
    let lost: Arc<Mutex<Option<[u8; 4]>>> = Arc::default();
    let (of_answers, rules_of_answers) = (Arc::clone(&lost), Arc::clone(rules));
    thread::spawn(move || {
        let (mut broker, mut client) = back;
        while let Some(frame) = frame(&mut broker) {
            let is_lost = of_answers.lock().unwrap().is_some_and(|id| frame[4..8] == id);
            if is_lost || is_closed(&rules_of_answers) || client.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
    });
    let (mut client, mut broker) = (client, broker);
    while let Some(frame) = frame(&mut client) {
        let api = i16::from_be_bytes([frame[4], frame[5]]);
        let fired = {
            let mut rules = rules.lock().unwrap();
            let fired = rules.armed.take_if(|(armed, ..)| *armed == api);
            if let Some((_, _, closed)) = fired {
                rules.closed_until = Some(Instant::now() + closed);
                rules.broken += 1;
            }
            fired
        };
        match fired {
            Some((_, Break::Before, _)) => break,
            Some((_, Break::After, _)) => *lost.lock().unwrap() = frame[8..12].try_into().ok(),
            None if is_closed(rules) => break,
            None => {}
        }
        if broker.write_all(&frame).is_err() {
            break;
        }
    }
    if lost.lock().unwrap().is_none() {
        let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
    }
}

/// A request or an answer with its length before it.
fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}
