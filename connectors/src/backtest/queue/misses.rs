//! How long jobs wait that their tenant's promised share holds: counted from outside, by the formula alone.

use std::collections::{BTreeMap, BTreeSet};

/// A miss of this length is one that users notice, s.
const NOTICED_S: i64 = 20 * 60;

/// A tenant's share, what it has, and who waits.
#[derive(Debug, Default)]
struct Account {
    promised: i64,
    taken: i64,
    /// By GPUs asked for.
    waiting: BTreeMap<i64, Waiting>,
}

/// Jobs of a tenant that wait for the same number of GPUs.
#[derive(Debug, Default)]
struct Waiting {
    /// Since when the share holds so many more.
    held_since: Option<i64>,
    /// By when they began to wait.
    jobs: BTreeSet<(i64, u64)>,
}

/// The accounts of all tenants, in GPUs and seconds.
#[derive(Debug, Default)]
pub struct Misses {
    accounts: BTreeMap<String, Account>,
    /// The longest miss.
    pub longest_s: i64,
    /// Misses that were noticed.
    pub noticed: u64,
}

impl Misses {
    /// What a tenant is promised.
    pub fn promise(&mut self, tenant: &str, gpus: i64) {
        self.accounts.entry(tenant.to_owned()).or_default().promised = gpus;
    }

    /// A job begins to wait.
    pub fn waits(&mut self, tenant: &str, gpus: i64, job: u64, now: i64) {
        let Some(account) = self.accounts.get_mut(tenant) else { return };
        let holds = account.taken + gpus <= account.promised;
        let waiting = account.waiting.entry(gpus).or_default();
        if waiting.jobs.is_empty() {
            waiting.held_since = holds.then_some(now);
        }
        waiting.jobs.insert((now, job));
    }

    /// A job starts that has waited since then.
    pub fn starts(&mut self, tenant: &str, gpus: i64, job: u64, waited_since: i64, now: i64) {
        let Some(account) = self.accounts.get_mut(tenant) else { return };
        if let Some(waiting) = account.waiting.get_mut(&gpus) {
            waiting.jobs.remove(&(waited_since, job));
            if let Some(since) = waiting.held_since {
                let missed = now - since.max(waited_since);
                self.longest_s = self.longest_s.max(missed);
                self.noticed += u64::from(missed > NOTICED_S);
            }
        }
        self.takes(tenant, gpus, now);
    }

    /// A tenant has so many GPUs more, or fewer when that is negative.
    pub fn takes(&mut self, tenant: &str, gpus: i64, now: i64) {
        let Some(account) = self.accounts.get_mut(tenant) else { return };
        account.taken += gpus;
        for (asked, waiting) in &mut account.waiting {
            let holds = account.taken + asked <= account.promised;
            match waiting.held_since {
                None if holds => waiting.held_since = Some(now),
                Some(from) if !holds => {
                    for (began, _) in &waiting.jobs {
                        let missed = now - from.max(*began);
                        self.longest_s = self.longest_s.max(missed);
                        self.noticed += u64::from(missed > NOTICED_S);
                    }
                    waiting.held_since = None;
                }
                _ => {}
            }
        }
    }
}
