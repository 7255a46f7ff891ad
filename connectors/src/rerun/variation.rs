//! A variation: what is otherwise than it was recorded, as a small TOML file or by the name of a baseline.
//!
//! Quantities are written as in a fleet file. What is not named stays as it was recorded; a field that is not known is an error.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fleet::FleetError;
use crate::fleet::format::Policy;
use crate::fleet::values::{Amount, Ratio, Span};

/// The longest name of a variation.
pub const NAME_LEN_MAX: usize = 64;

/// A variation as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// A baseline whose changes come first.
    pub baseline: Option<String>,
    /// A fleet file that takes the place of the recorded supply; a relative path begins at the file's directory.
    pub fleet: Option<PathBuf>,
    /// What plans: `packing-prices` or `none`.
    pub planner: Option<String>,
    /// Constants of scheduling.
    pub policy: Option<Policy>,
    /// Weights of costs.
    pub weights: Option<Weights>,
    /// How the executor behaves, its seed first of all.
    pub executor: Option<Executor>,
    /// Pools that are otherwise.
    #[serde(default)]
    pub pools: Vec<Pools>,
    /// Nodes of ours that are not there.
    #[serde(default)]
    pub nodes: Vec<Nodes>,
    /// What customers pay.
    #[serde(default)]
    pub rates: Vec<Rates>,
    /// What energy costs and emits.
    #[serde(default)]
    pub energy: Vec<Energy>,
}

/// Weights of costs, as in a fleet file; reclaims and failures are those that costs expect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Price of carbon.
    pub carbon_per_kg: Option<Amount>,
    /// Weight of the expected loss.
    pub risk: Option<Ratio>,
    /// Price of a GPU-hour at one millisecond beyond the objective.
    pub latency_per_ms_gpu_hour: Option<Amount>,
    /// Every price of waiting is multiplied.
    pub waiting_factor: Option<Ratio>,
    /// `forced` or `marginal-cost`.
    pub owned_first: Option<String>,
    /// Reclaims of one spot instance in a thousand hours.
    pub spot_reclaims_per_1000_h: Option<i64>,
    /// Failures of one node in a thousand hours.
    pub node_failures_per_1000_h: Option<i64>,
}

/// The simulated executor, as in a fleet file; reclaims and failures are those that happen.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    /// Seed of every draw: another luck.
    pub seed: Option<i64>,
    /// Time from decision to start.
    pub start_delay: Option<Span>,
    /// Time in which a run stops once told.
    pub stop_delay: Option<Span>,
    /// Failures of one node in a thousand hours.
    pub node_failures_per_1000_h: Option<i64>,
    /// Reclaims of one spot instance in a thousand hours.
    pub spot_reclaims_per_1000_h: Option<i64>,
    /// Time until a failed node is ready again.
    pub repair: Option<Span>,
    /// Interval of power measurements.
    pub power_interval: Option<Span>,
    /// Part of its largest power that a busy GPU draws.
    pub busy_power: Option<Ratio>,
}

/// Pools that are otherwise: all that match.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    /// Id of the pool; a `*` at its end stands for anything.
    #[serde(default = "any")]
    pub pool: String,
    /// Only those held so: `owned`, `reserved`, `on-demand` or `spot`.
    pub class: Option<String>,
    /// They are not there.
    #[serde(default)]
    pub remove: bool,
    /// They are there, and nothing starts in them.
    #[serde(default)]
    pub cordon: bool,
    /// Every price of theirs is multiplied.
    pub price_factor: Option<Ratio>,
    /// Every price of theirs is this.
    pub price_per_gpu_hour: Option<Amount>,
    /// So many instances can be had at any time.
    pub instances: Option<i64>,
    /// A baseline says it, of pools that the log may be without.
    #[serde(skip)]
    pub of_baseline: bool,
}

/// Nodes of ours that are not there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Id of their pool; a `*` at its end stands for anything.
    #[serde(default = "any")]
    pub pool: String,
    /// Only the first so many, by name, are kept in each pool.
    pub keep: i64,
}

/// What customers pay.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Id of the rate card; a `*` at its end stands for anything.
    #[serde(default = "any")]
    pub rate_card: String,
    /// Only lines for this model.
    pub gpu_model: Option<String>,
    /// Every price is multiplied.
    pub factor: Ratio,
}

/// What energy costs and emits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Energy {
    /// The grid zone; a `*` at its end stands for anything.
    #[serde(default = "any")]
    pub zone: String,
    /// Every price is multiplied.
    pub price_factor: Option<Ratio>,
    /// Every carbon intensity is multiplied.
    pub carbon_factor: Option<Ratio>,
}

fn any() -> String {
    "*".to_owned()
}

/// Whether a pattern with a `*` at its end, or without, is of this name.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Where something is wrong in a variation, what was found and what was expected.
pub fn wrong(file: &str, place: &str, found: impl ToString, expected: impl Into<String>) -> FleetError {
    FleetError { file: file.to_owned(), place: place.to_owned(), found: found.to_string(), expected: expected.into() }
}

impl Variation {
    /// One that changes nothing.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, FleetError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| wrong(&file, "the file", e, "a variation in TOML; solyx backtest --help shows one"))?;
        let mut variation = Self::parse(&file, &text)?;
        if let (Some(fleet), Some(directory)) = (&mut variation.fleet, path.parent()) {
            *fleet = directory.join(&*fleet);
        }
        Ok(variation)
    }

    /// Reads a file's text.
    pub fn parse(file: &str, text: &str) -> Result<Self, FleetError> {
        let variation: Self = toml::from_str(text).map_err(|e| crate::fleet::syntax_error(file, text, &e))?;
        variation.check(file)?;
        Ok(variation)
    }

    /// What a reader of TOML cannot see.
    pub fn check(&self, file: &str) -> Result<(), FleetError> {
        check_name(file, &self.name)?;
        match self.planner.as_deref() {
            None | Some("packing-prices" | "none") => {}
            Some(found @ ("horizon" | "mathematical")) => {
                return Err(wrong(
                    file,
                    "field planner",
                    format!("{found:?}, which this build does not have yet"),
                    "packing-prices or none",
                ));
            }
            Some(found) => return Err(wrong(file, "field planner", format!("{found:?}"), "packing-prices or none")),
        }
        for pools in &self.pools {
            let changes = [
                pools.remove,
                pools.cordon,
                pools.price_factor.is_some(),
                pools.price_per_gpu_hour.is_some(),
                pools.instances.is_some(),
            ];
            if !changes.contains(&true) {
                let expected = "remove, cordon, price_factor, price_per_gpu_hour or instances";
                return Err(wrong(file, &format!("pools {:?}", pools.pool), "nothing that is changed", expected));
            }
            if pools.price_factor.is_some() && pools.price_per_gpu_hour.is_some() {
                let found = "price_factor and price_per_gpu_hour";
                return Err(wrong(file, &format!("pools {:?}", pools.pool), found, "one of the two"));
            }
        }
        for energy in &self.energy {
            if energy.price_factor.is_none() && energy.carbon_factor.is_none() {
                let expected = "price_factor or carbon_factor";
                return Err(wrong(file, &format!("energy {:?}", energy.zone), "nothing that is changed", expected));
            }
        }
        Ok(())
    }
}

/// A name is part of ids and of names of directories.
fn check_name(file: &str, name: &str) -> Result<(), FleetError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(valid) && !name.starts_with('.') {
        return Ok(());
    }
    let expected = format!("1 to {NAME_LEN_MAX} of A-Z a-z 0-9 . _ -, and no point first");
    Err(wrong(file, "field name", format!("{name:?}"), expected))
}
