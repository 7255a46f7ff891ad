//! What can go wrong in a simulated cell, how often it does, and what did.

use std::collections::{BTreeMap, BTreeSet};

use solyx_histories::history::Luck;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $fault:ident = $name:literal,)*) => {
        /// Something that goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// Its name on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)*
                }
            }
        }
    };
}

faults! {
    /// An engine dies between two epochs.
    Crash = "crash",
    /// An engine's append fails and is nowhere.
    AppendLost = "append-lost",
    /// An engine's append fails, and its records are there all the same.
    AppendCommitted = "append-committed",
    /// An engine's append fails, and its records are there once the next producer of its name has begun.
    AppendUndecided = "append-undecided",
    /// An engine's append fails and may be tried again.
    AppendRetried = "append-retried",
    /// The log's disk is full.
    DiskFull = "disk-full",
    /// A second engine takes the lead while the first still believes that it has it.
    SecondLeader = "second-leader",
    /// The leader's clock is ahead.
    ClockAhead = "clock-ahead",
    /// The leader's clock is behind.
    ClockBehind = "clock-behind",
    /// A snapshot is torn when its engine dies: cut, or with a bit turned.
    TornSnapshot = "torn-snapshot",
    /// The index of ids is gone when its engine comes back.
    LostIndex = "lost-index",
    /// A producer's append fails, and it cannot know whether its records are there: it sends them again.
    ProducerUncertain = "producer-uncertain",
    /// A producer sends a record twice.
    Repeated = "repeated",
    /// A producer sends another body under an id that it has used.
    Conflicting = "conflicting",
    /// Somebody writes bytes that are no record.
    Garbage = "garbage",
    /// A record is cut short.
    Cut = "cut",
    /// A record has a schema id that nobody knows.
    UnknownSchema = "unknown-schema",
    /// A record has a bit turned.
    BitFlip = "bit-flip",
    /// A record has the key of another.
    WrongKey = "wrong-key",
    /// A record is in a topic where it does not belong.
    WrongTopic = "wrong-topic",
    /// A record comes long after those that were said with it.
    Late = "late",
    /// Records of several partitions come in another order than they were said in.
    Reordered = "reordered",
    /// A producer's clock is off by up to a day.
    ProducerClock = "producer-clock",
    /// A node is down, fenced or gone.
    NodeLost = "node-lost",
    /// All nodes of a site are down, fenced or gone at once.
    SiteLost = "site-lost",
    /// A provider is down, or works badly.
    ProviderDown = "provider-down",
    /// A power feed, or a panel below one, fails.
    FeedLost = "feed-lost",
    /// A price of energy, or its carbon, is wrong by far.
    WrongPrice = "wrong-price",
}

impl Fault {
    /// What makes records of producers come late, in another order or not at all, or lets an engine take another time for now.
    pub const OF_INPUTS: &[Self] = &[
        Self::ClockAhead,
        Self::ClockBehind,
        Self::Conflicting,
        Self::Cut,
        Self::UnknownSchema,
        Self::BitFlip,
        Self::WrongKey,
        Self::WrongTopic,
        Self::Late,
        Self::Reordered,
        Self::ProducerClock,
    ];

    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

/// How often what goes wrong in one history. Each kind has luck of its own, so that a history without one of them has the others
/// as before. What goes wrong in the world is drawn by the history itself, and counted or left out here.
pub struct Weather {
    chances: BTreeMap<Fault, (i64, Luck)>,
    without: BTreeSet<Fault>,
    /// How often each struck.
    pub struck: BTreeMap<Fault, u64>,
}

impl Weather {
    /// That of a seed, without these.
    pub fn of(seed: u64, without: &BTreeSet<Fault>) -> Self {
        let drawn = Fault::ALL.iter().map(|fault| {
            let mut luck = Luck(seed ^ (*fault as u64 + 1).wrapping_mul(0xA076_1D64_78BD_642F));
            // Most histories have some of them and not others, so that they are also seen alone.
            let percent = if luck.chance(40) { 0 } else { 1 + luck.below(12) };
            (*fault, (if without.contains(fault) { 0 } else { percent }, luck))
        });
        Self { chances: drawn.collect(), without: without.clone(), struck: BTreeMap::new() }
    }

    /// Whether it goes wrong now.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.chances.get_mut(&fault).is_some_and(|(percent, luck)| luck.chance(*percent));
        if strikes {
            *self.struck.entry(fault).or_default() += 1;
        }
        strikes
    }

    /// Whether what has gone wrong in the world is said; it is not where it is left out.
    pub fn lets_through(&mut self, fault: Fault) -> bool {
        let comes = !self.without.contains(&fault);
        if comes {
            *self.struck.entry(fault).or_default() += 1;
        }
        comes
    }

    /// The luck of a kind, for how it goes wrong.
    pub fn luck(&mut self, fault: Fault) -> &mut Luck {
        &mut self.chances.entry(fault).or_insert((0, Luck(0))).1
    }

    /// Nothing goes wrong any more.
    pub fn clears(&mut self) {
        self.chances.values_mut().for_each(|(percent, _)| *percent = 0);
    }
}
