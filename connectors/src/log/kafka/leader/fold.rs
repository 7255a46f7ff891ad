//! What the topic says, folded: all that read it come to the same answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FORGET, Instance, LEASE};

/// What an instance says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub(super) enum Saying {
    /// It is there. `claim` is where the claim stands by which it believes to lead.
    Alive { instance: String, next_epoch: i64, claim: Option<i64> },
    /// It takes the lead.
    Claim { instance: String },
    /// It leads no longer; only `to` may claim at once.
    Resign { instance: String, to: Option<String> },
    /// Somebody asks the leader to resign.
    Transfer { to: Option<String> },
}

/// What the topic says, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fold {
    pub leader: Option<Leader>,
    /// Who alone may claim until the lease of the one that resigned would have ended.
    pub reserved: Option<(String, i64)>,
    pub transfer: Option<Option<String>>,
    pub seen: BTreeMap<String, Seen>,
    pub now_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub instance: String,
    pub claim: i64,
    pub seen_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub next_epoch: i64,
    pub at_ms: i64,
}

impl Fold {
    pub fn apply(&mut self, offset: i64, at_ms: i64, saying: Saying) {
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
    pub fn successor(&self, but: &str) -> Option<String> {
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

    pub fn instances(&self) -> Vec<Instance> {
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
