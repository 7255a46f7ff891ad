//! This process's part in the election, on a thread of its own.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;
use solyx_runtime::{Election, Standing};
use solyx_schemas::log::{LogError, LogErrorKind};

use super::super::config::KafkaConfig;
use super::fold::{Fold, Saying, Seen};
use super::{LEASE, STEP, Talk};
use crate::log::heads::locked;

/// Time between two signs of life.
const SIGN_PAUSE: Duration = Duration::from_millis(300);
/// An engine whose loop stands still for so long gives no signs of life.
const STALL_MAX: Duration = Duration::from_secs(10);
/// One that was asked for in vain asks again after this.
const CLAIM_PAUSE: Duration = Duration::from_millis(1_000);
/// Who can take part no longer tries again after this.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);
/// Standbys ask one after the other, so far apart.
const RANK_PAUSE: Duration = Duration::from_millis(150);

struct State {
    standing: Standing,
    resign: bool,
    abstain_until: Option<Instant>,
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
            state: Mutex::new(State { standing: Standing::Follows, resign: false, abstain_until: None }),
            next_epoch: AtomicI64::new(0),
            caught_up: AtomicBool::new(false),
            worked_ms: AtomicI64::new(0),
            began: Instant::now(),
            stop: AtomicBool::new(false),
        });
        let (of_thread, config) = (Arc::clone(&shared), config.clone());
        let thread =
            std::thread::Builder::new().name("election".to_owned()).spawn(move || stay(&config, talk, &of_thread));
        let thread = thread.map_err(|e| {
            LogError::new(LogErrorKind::Stop, "no thread for the election", e, "free memory or threads")
        })?;
        Ok(Self { shared, thread: Some(thread) })
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

/// Takes part until it is told to stop. Where that is not possible any more it begins anew, and does not lead meanwhile.
fn stay(config: &KafkaConfig, mut talk: Talk, shared: &Shared) {
    while let Err(error) = take_part(&mut talk, shared) {
        tracing::error!(%error, "this engine does not take part in the election until it can begin anew");
        locked(&shared.state).standing = Standing::Follows;
        talk = loop {
            std::thread::sleep(AGAIN_PAUSE);
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            // Who leads is known only once all that was said meanwhile is read.
            let begun = Talk::begin(config).and_then(|mut talk| talk.listen(LEASE).map(|()| talk));
            match begun {
                Ok(talk) => break talk,
                Err(error) => tracing::warn!(%error, "still no part in the election"),
            }
        };
    }
}

fn take_part(talk: &mut Talk, shared: &Shared) -> Result<(), LogError> {
    let me = &shared.instance;
    let (mut signed, mut claimed): (Option<Instant>, Option<Instant>) = (None, None);
    // Nobody claims before it has heard for a lease's time whether somebody leads.
    let began = Instant::now();
    loop {
        talk.listen(STEP)?;
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
            return Ok(());
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
