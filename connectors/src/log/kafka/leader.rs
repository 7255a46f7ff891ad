//! Who leads, by a topic of one partition that every engine of a cell reads and writes.
//!
//! Its order decides, and its append times are the only clock: an instance leads from the record in which it claims the lead,
//! if nobody led by then: the leader resigned, or said nothing for [`LEASE`]. All that read the topic come to the same
//! answer. It is only an answer to who should write; that nobody else can is up to the producer's fencing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use solyx_runtime::{Election, Standing};
use solyx_schemas::log::{LogError, LogErrorKind};

use super::client::Context;
use super::config::KafkaConfig;
use super::errors::log_error;
use crate::log::heads::locked;

/// Name of the topic, behind the prefix.
pub const LEADER_TOPIC: &str = "leader";
/// A leader that says nothing for so long leads no more.
pub const LEASE: Duration = Duration::from_millis(2_000);
/// Time between two signs of life.
const SIGN_PAUSE: Duration = Duration::from_millis(300);
/// An engine whose loop stands still for so long gives no signs of life.
const STALL_MAX: Duration = Duration::from_secs(10);
/// One that was asked for in vain asks again after this.
const CLAIM_PAUSE: Duration = Duration::from_millis(1_000);
/// Standbys ask one after the other, so far apart.
const RANK_PAUSE: Duration = Duration::from_millis(150);
/// How much of the topic is read at the start.
const HISTORY: i64 = 2_000;
/// An instance that was silent for so long is not shown.
const FORGET: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What an instance says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
enum Saying {
    /// It is there. `claim` is where the claim stands by which it believes to lead.
    Alive { instance: String, next_epoch: i64, claim: Option<i64> },
    /// It takes the lead.
    Claim { instance: String },
    /// It leads no longer; only `to` may claim at once.
    Resign { instance: String, to: Option<String> },
    /// Somebody asks the leader to resign.
    Transfer { to: Option<String> },
}

/// An instance as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its name.
    pub instance: String,
    /// Whether it leads.
    pub leads: bool,
    /// Its next epoch, as last told.
    pub next_epoch: i64,
    /// Append time of its last sign of life, ms UTC.
    pub seen_ms: i64,
}

/// What the topic says, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fold {
    leader: Option<Leader>,
    /// Who alone may claim until the lease of the one that resigned would have ended.
    reserved: Option<(String, i64)>,
    transfer: Option<Option<String>>,
    seen: BTreeMap<String, Seen>,
    now_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Leader {
    instance: String,
    claim: i64,
    seen_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    next_epoch: i64,
    at_ms: i64,
}

impl Fold {
    fn apply(&mut self, offset: i64, at_ms: i64, saying: Saying) {
        self.now_ms = self.now_ms.max(at_ms);
        let at_ms = self.now_ms;
        match saying {
            Saying::Alive { instance, next_epoch, claim } => {
                self.seen.insert(instance.clone(), Seen { next_epoch, at_ms });
                match (&mut self.leader, claim) {
                    (Some(leader), Some(claim)) if leader.instance == instance && leader.claim == claim => {
                        leader.seen_ms = at_ms;
                    }
                    // Whoever began to read after the claim learns of it here; a newer one counts for more.
                    (Some(leader), Some(claim)) if claim > leader.claim => {
                        *leader = Leader { instance, claim, seen_ms: at_ms };
                    }
                    (None, Some(claim)) if self.reserved.is_none() => {
                        self.leader = Some(Leader { instance, claim, seen_ms: at_ms });
                    }
                    _ => {}
                }
            }
            Saying::Claim { instance } => {
                let free = match (&self.leader, &self.reserved) {
                    (Some(leader), _) => at_ms - leader.seen_ms >= LEASE.as_millis() as i64,
                    (None, Some((to, since_ms))) => *to == instance || at_ms - since_ms >= LEASE.as_millis() as i64,
                    (None, None) => true,
                };
                if free {
                    self.leader = Some(Leader { instance, claim: offset, seen_ms: at_ms });
                    (self.reserved, self.transfer) = (None, None);
                }
            }
            Saying::Resign { instance, to } => {
                if self.leader.as_ref().is_some_and(|leader| leader.instance == instance) {
                    self.leader = None;
                    self.transfer = None;
                    self.reserved = to.map(|to| (to, at_ms));
                }
                self.seen.remove(&instance);
            }
            Saying::Transfer { to } => self.transfer = Some(to),
        }
        self.seen.retain(|_, seen| at_ms - seen.at_ms <= FORGET.as_millis() as i64);
    }

    /// The instance that is to lead next: the one asked for, otherwise the standby that has come furthest.
    fn successor(&self, but: &str) -> Option<String> {
        let alive =
            |(name, seen): &(&String, &Seen)| *name != but && self.now_ms - seen.at_ms < LEASE.as_millis() as i64;
        if let Some(Some(to)) = &self.transfer
            && self.seen.iter().filter(alive).any(|(name, _)| name == to)
        {
            return Some(to.clone());
        }
        let standbys = self.seen.iter().filter(alive);
        standbys.max_by_key(|(name, seen)| (seen.next_epoch, std::cmp::Reverse(*name))).map(|(name, _)| name.clone())
    }

    fn instances(&self) -> Vec<Instance> {
        let leader = self.leader.as_ref().map(|leader| &leader.instance);
        let of = |(instance, seen): (&String, &Seen)| Instance {
            instance: instance.clone(),
            leads: leader == Some(instance),
            next_epoch: seen.next_epoch,
            seen_ms: seen.at_ms,
        };
        self.seen.iter().map(of).collect()
    }
}

/// The topic, read and written.
struct Talk {
    topic: String,
    consumer: BaseConsumer<Context>,
    producer: BaseProducer,
    fold: Fold,
    /// When the leader last gave a sign of life, by this process's clock.
    leader_heard: Instant,
}

impl Talk {
    fn begin(config: &KafkaConfig) -> Result<Self, LogError> {
        let topic = format!("{}.{LEADER_TOPIC}", config.prefix);
        let consumer = super::consumer(config, false)?;
        let (low, end) =
            consumer.fetch_watermarks(&topic, 0, ANSWER_MAX).map_err(|e| log_error(&format!("reading {topic}"), &e))?;
        let mut list = TopicPartitionList::new();
        let from = Offset::Offset((end - HISTORY).max(low));
        list.add_partition_offset(&topic, 0, from)
            .and_then(|()| consumer.assign(&list))
            .map_err(|e| log_error(&format!("reading {topic}"), &e))?;
        let producer = config
            .client()?
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "3000")
            .create()
            .map_err(|e| log_error("making a producer", &e))?;
        Ok(Self { topic, consumer, producer, fold: Fold::default(), leader_heard: Instant::now() })
    }

    /// Takes what has been said, for at most so long.
    fn listen(&mut self, time: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                None => break,
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => {
                    let error = log_error(&format!("reading {}", self.topic), &error);
                    if error.kind == LogErrorKind::Stop {
                        return Err(error);
                    }
                }
                Some(Ok(message)) => {
                    let Some(payload) = message.payload() else { continue };
                    let Ok(saying) = serde_json::from_slice(payload) else { continue };
                    let before = self.fold.leader.clone();
                    self.fold.apply(message.offset(), message.timestamp().to_millis().unwrap_or(0), saying);
                    if self.fold.leader != before {
                        self.leader_heard = Instant::now();
                    }
                }
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn say(&self, saying: &Saying) {
        // It has only texts and numbers, which can all be written.
        let Ok(text) = serde_json::to_vec(saying) else { return };
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).partition(0).payload(&text);
        if let Err((error, _)) = self.producer.send(record) {
            tracing::debug!(%error, "a sign of life was not sent");
        }
    }
}

struct State {
    standing: Standing,
    resign: bool,
    abstain_until: Option<Instant>,
    failed: Option<LogError>,
}

struct Shared {
    instance: String,
    state: Mutex<State>,
    next_epoch: AtomicI64,
    /// Whether it has read to the end: before that it could not lead, and keeps those off that could.
    caught_up: AtomicBool,
    /// When the engine's loop last said that it is at work, ms since `began`.
    worked_ms: AtomicI64,
    began: Instant,
    stop: AtomicBool,
}

/// This process's part in the election.
pub struct KafkaElection {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaElection {
    /// Takes part under a name that no other instance has.
    pub fn begin(config: &KafkaConfig, instance: &str) -> Result<Self, LogError> {
        let talk = Talk::begin(config)?;
        let shared = Arc::new(Shared {
            instance: instance.to_owned(),
            state: Mutex::new(State { standing: Standing::Follows, resign: false, abstain_until: None, failed: None }),
            next_epoch: AtomicI64::new(0),
            caught_up: AtomicBool::new(false),
            worked_ms: AtomicI64::new(0),
            began: Instant::now(),
            stop: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("election".to_owned()).spawn(move || take_part(talk, &of_thread));
        let thread = thread.map_err(|e| {
            LogError::new(LogErrorKind::Stop, "no thread for the election", e, "free memory or threads")
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Why it takes part no longer, if it does not.
    pub fn failure(&self) -> Option<LogError> {
        locked(&self.shared.state).failed.clone()
    }
}

impl Drop for KafkaElection {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Election for KafkaElection {
    fn standing(&self) -> Standing {
        locked(&self.shared.state).standing
    }

    fn progressed(&self, next_epoch: i64, caught_up: bool) {
        self.shared.caught_up.store(caught_up, Ordering::Relaxed);
        self.shared.next_epoch.store(next_epoch, Ordering::Relaxed);
        let worked = self.shared.began.elapsed().as_millis() as i64;
        self.shared.worked_ms.store(worked, Ordering::Relaxed);
    }

    fn resign(&self) {
        self.shared.caught_up.store(false, Ordering::Relaxed);
        let mut state = locked(&self.shared.state);
        state.resign = true;
        state.standing = Standing::Follows;
    }

    fn abstain(&self, time: Duration) {
        let mut state = locked(&self.shared.state);
        state.abstain_until = Some(Instant::now() + time);
        state.resign = true;
        state.standing = Standing::Follows;
    }
}

fn take_part(mut talk: Talk, shared: &Shared) {
    let me = &shared.instance;
    let (mut signed, mut claimed): (Option<Instant>, Option<Instant>) = (None, None);
    // Nobody claims before it has heard for a lease's time whether somebody leads.
    let began = Instant::now();
    loop {
        if let Err(error) = talk.listen(STEP) {
            tracing::error!(%error, "this engine takes part in the election no longer");
            locked(&shared.state).failed = Some(error);
            return;
        }
        let stopping = shared.stop.load(Ordering::Relaxed);
        let mut state = locked(&shared.state);
        let leads = talk.fold.leader.as_ref().filter(|leader| leader.instance == *me).map(|leader| leader.claim);
        if (state.resign || stopping) && leads.is_some() {
            let saying = Saying::Resign { instance: me.clone(), to: talk.fold.successor(me) };
            talk.say(&saying);
            // It counts here at once, and changes nothing more when it comes back.
            let now_ms = talk.fold.now_ms;
            talk.fold.apply(0, now_ms, saying);
        }
        state.resign = false;
        if stopping {
            drop(state);
            // An error would only mean that the others wait for the lease to end.
            let _ = talk.producer.flush(Duration::from_millis(500));
            return;
        }
        let leads = leads.filter(|_| talk.fold.leader.is_some());
        state.standing = match (leads, &talk.fold.transfer) {
            (Some(_), Some(to)) if to.as_ref() != Some(me) && talk.fold.successor(me).is_some() => Standing::HandsOver,
            (Some(_), _) => Standing::Leads,
            (None, _) => Standing::Follows,
        };
        let abstains = state.abstain_until.is_some_and(|until| Instant::now() < until);
        drop(state);
        let idle_ms = shared.began.elapsed().as_millis() as i64 - shared.worked_ms.load(Ordering::Relaxed);
        let works = idle_ms < STALL_MAX.as_millis() as i64;
        if works && signed.is_none_or(|signed| signed.elapsed() >= SIGN_PAUSE) {
            signed = Some(Instant::now());
            let next_epoch = shared.next_epoch.load(Ordering::Relaxed);
            talk.say(&Saying::Alive { instance: me.clone(), next_epoch, claim: leads });
        }
        let free = match (&talk.fold.leader, &talk.fold.reserved) {
            (Some(leader), _) if leader.instance == *me => false,
            (None, Some((to, _))) if to == me => true,
            _ => talk.leader_heard.elapsed() >= LEASE + rank(&talk.fold, me) && began.elapsed() >= LEASE,
        };
        let alone = talk.fold.leader.is_none() && talk.fold.reserved.is_none();
        let stands = works && !abstains && shared.caught_up.load(Ordering::Relaxed);
        let waited = claimed.is_none_or(|claimed| claimed.elapsed() >= CLAIM_PAUSE);
        if stands && waited && (free || alone && began.elapsed() >= SIGN_PAUSE + rank(&talk.fold, me)) {
            claimed = Some(Instant::now());
            talk.say(&Saying::Claim { instance: me.clone() });
        }
    }
}

/// How long this instance lets those before it go first: those that have come further, then by name.
fn rank(fold: &Fold, me: &str) -> Duration {
    let of = |name: &str, seen: &Seen| (std::cmp::Reverse(seen.next_epoch), name.to_owned());
    let Some(mine) = fold.seen.get(me).map(|seen| of(me, seen)) else { return RANK_PAUSE * 4 };
    let leader = fold.leader.as_ref().map(|leader| leader.instance.as_str());
    let before = fold.seen.iter().filter(|(name, seen)| Some(name.as_str()) != leader && of(name, seen) < mine).count();
    RANK_PAUSE * u32::try_from(before).unwrap_or(4).min(16)
}

/// Who takes part, as the topic says after listening for a moment.
pub fn instances(config: &KafkaConfig) -> Result<Vec<Instance>, LogError> {
    let mut talk = Talk::begin(config)?;
    talk.listen(LEASE / 2)?;
    Ok(talk.fold.instances())
}

/// Asks the leader to hand over, and waits until another one leads; its name and how long nobody did, ms by the log's clock.
pub fn transfer(config: &KafkaConfig, to: Option<&str>, wait: Duration) -> Result<(String, i64), LogError> {
    let mut talk = Talk::begin(config)?;
    talk.listen(LEASE / 2)?;
    let refused =
        |detail: String, hint: &str| LogError::new(LogErrorKind::Stop, "the lead is not handed over", detail, hint);
    let Some(before) = talk.fold.leader.clone() else {
        return Err(refused("nobody leads".to_owned(), "start an engine, or wait until one has taken the lead"));
    };
    if to == Some(before.instance.as_str()) {
        return Err(refused(format!("{} leads already", before.instance), "name another instance"));
    }
    if let Some(to) = to
        && !talk.fold.seen.contains_key(to)
    {
        let known: Vec<&str> = talk.fold.seen.keys().map(String::as_str).collect();
        return Err(refused(format!("found no instance {to}, expected one of {}", known.join(", ")), "start it first"));
    }
    if talk.fold.successor(&before.instance).is_none() {
        return Err(refused(format!("{} is alone", before.instance), "start a second engine of this cell first"));
    }
    talk.say(&Saying::Transfer { to: to.map(str::to_owned) });
    let deadline = Instant::now() + wait;
    let mut resigned_ms = None;
    while Instant::now() < deadline {
        talk.listen(STEP)?;
        match &talk.fold.leader {
            None => {
                resigned_ms.get_or_insert(talk.fold.now_ms);
            }
            Some(leader) if leader.claim != before.claim => {
                let gap_ms = leader.seen_ms - resigned_ms.unwrap_or(leader.seen_ms);
                return Ok((leader.instance.clone(), gap_ms.max(0)));
            }
            Some(_) => {}
        }
    }
    Err(LogError::new(
        LogErrorKind::Retry,
        "the lead is not handed over yet",
        format!("{} still leads after {} s", before.instance, wait.as_secs()),
        "look at its log; it hands over at the end of an epoch",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(instance: &str, claim: Option<i64>) -> Saying {
        Saying::Alive { instance: instance.to_owned(), next_epoch: 5, claim }
    }

    fn claim(instance: &str) -> Saying {
        Saying::Claim { instance: instance.to_owned() }
    }

    fn leader(fold: &Fold) -> Option<&str> {
        fold.leader.as_ref().map(|leader| leader.instance.as_str())
    }

    #[test]
    fn the_first_claim_counts_and_another_only_after_the_lease() {
        let mut fold = Fold::default();
        fold.apply(0, 1_000, claim("a"));
        fold.apply(1, 1_001, claim("b"));
        assert_eq!(leader(&fold), Some("a"));
        fold.apply(2, 2_500, alive("a", Some(0)));
        fold.apply(3, 4_400, claim("b"));
        assert_eq!(leader(&fold), Some("a"));
        fold.apply(4, 4_500, claim("b"));
        assert_eq!(leader(&fold), Some("b"));
        // One that wakes from a long pause does not lead any more.
        fold.apply(5, 4_600, alive("a", Some(0)));
        assert_eq!(leader(&fold), Some("b"));
    }

    #[test]
    fn whoever_resigns_says_who_is_next() {
        let mut fold = Fold::default();
        fold.apply(0, 0, claim("a"));
        for name in ["a", "b", "c"] {
            fold.apply(1, 10, alive(name, (name == "a").then_some(0)));
        }
        fold.apply(4, 20, Saying::Transfer { to: Some("c".to_owned()) });
        assert_eq!(fold.successor("a").as_deref(), Some("c"));
        fold.apply(5, 30, Saying::Resign { instance: "a".to_owned(), to: fold.successor("a") });
        fold.apply(6, 40, claim("b"));
        assert_eq!(leader(&fold), None);
        fold.apply(7, 50, claim("c"));
        assert_eq!(leader(&fold), Some("c"));
        fold.apply(8, 60, Saying::Resign { instance: "c".to_owned(), to: Some("gone".to_owned()) });
        fold.apply(9, 2_100, claim("b"));
        assert_eq!(leader(&fold), Some("b"));
    }

    #[test]
    fn whoever_begins_to_read_later_learns_who_leads() {
        let mut fold = Fold::default();
        fold.apply(90, 9_000, alive("b", Some(40)));
        fold.apply(91, 9_001, alive("a", Some(10)));
        fold.apply(92, 9_002, claim("a"));
        assert_eq!(leader(&fold), Some("b"));
    }
}
