//! `solyx bisect`: the first epoch that two builds, or one with two sets of features, decide differently. Both derive the same
//! recorded inputs at the same boundaries of epochs, side by side, until they part; what follows says nothing about either.

mod build;
mod difference;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use solyx_schemas::events::decisions::Limit;
use solyx_schemas::units::{TimeUs, rfc3339};

use self::build::{Asked, Build};
use self::difference::{Difference, before, in_words, pair};
use super::{derive, explain};
use crate::failure::{Exit, Failure, Outcome, one_line};
use crate::world::Source;
use crate::{output, progress};

/// Decisions of one side that are told to a person.
const TOLD_MAX: usize = 20;
/// Characters of a row of the state that are told to a person.
const ROW_LEN_MAX: usize = 600;

/// Find the first epoch that two builds, or two sets of features, decide differently.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx bisect --good solyx-0.1.0 --bad target/debug/solyx --log world\n  \
                  solyx bisect --features spine spine,sealed-fields --archive world-archive --json\n\n\
                  Exit code 0: both decide all of it alike; 1: the first difference is told.")]
pub struct Bisect {
    /// The binary whose decisions are taken as the good ones.
    #[arg(long, value_name = "BUILD", requires = "bad", required_unless_present = "features")]
    good: Option<PathBuf>,
    /// The binary that is compared with it.
    #[arg(long, value_name = "BUILD", requires = "good")]
    bad: Option<PathBuf>,
    /// Two sets of features of this build, each in force from the first epoch on; names apart by commas, `none` for none.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["good", "bad"], value_parser = known)]
    features: Option<Vec<String>>,
    #[command(flatten)]
    source: Source,
    /// Begin at the newest snapshot of this world's engine that stands at this epoch or before it; what differs before is not found.
    #[arg(long, value_name = "EPOCH", conflicts_with_all = ["archive", "features"])]
    from: Option<i64>,
    /// The last epoch to look at.
    #[arg(long, value_name = "EPOCH")]
    until_epoch: Option<i64>,
}

fn known(text: &str) -> Result<String, String> {
    derive::features(text).map(|_| text.to_owned())
}

impl Bisect {
    fn builds(&self) -> Result<[Build; 2], Failure> {
        let mut args = Vec::new();
        let path = |path: &PathBuf| path.display().to_string();
        match (&self.source.log, &self.source.archive) {
            (Some(dir), _) => args.extend(["--log".to_owned(), path(dir)]),
            (None, archive) => args.extend(archive.iter().flat_map(|dir| ["--archive".to_owned(), path(dir)])),
        }
        args.extend(self.from.iter().flat_map(|epoch| ["--from".to_owned(), epoch.to_string()]));
        if let Some(sets) = &self.features {
            let own = std::env::current_exe()
                .map_err(|e| Failure::environment("this binary cannot be found", e, "call it by its path"))?;
            let build = |set: &String| Build {
                name: format!("features {set}"),
                binary: own.clone(),
                args: [&args[..], &["--features".to_owned(), set.clone()]].concat(),
            };
            return Ok([build(&sets[0]), build(&sets[1])]);
        }
        let build = |name: &str, binary: &Option<PathBuf>| Build {
            name: name.to_owned(),
            binary: binary.clone().unwrap_or_default(),
            args: args.clone(),
        };
        Ok([build("good", &self.good), build("bad", &self.bad)])
    }
}

/// Where two part.
struct Parting {
    /// Epochs that both decide alike.
    alike: u64,
    /// The first epoch after which their states differ, where that is before they decide differently.
    state: Option<i64>,
    /// The epoch that they decide differently.
    epoch: Option<i64>,
    /// The one that ends before the other.
    short: Option<usize>,
}

/// Runs it.
pub fn run(command: &Bisect, json: bool) -> Outcome {
    // What is wrong with the log is said once, and not by two others.
    drop(command.source.open()?);
    let builds = command.builds()?;
    let until = command.until_epoch.map(|until| until.to_string());
    let more: Vec<&str> = until.iter().flat_map(|until| ["--until-epoch", until.as_str()]).collect();
    let (mut good, mut bad) = (builds[0].ask(&more)?, builds[1].ask(&more)?);
    let heads = [good.head.clone(), bad.head.clone()];
    if heads[0]["from_epoch"] != heads[1]["from_epoch"] {
        let detail = format!("one begins at epoch {}, the other at {}", heads[0]["from_epoch"], heads[1]["from_epoch"]);
        return Err(Failure::environment("one of the builds cannot use the snapshot", detail, "leave --from out"));
    }
    let parting = part(&mut good, &mut bad, json)?;
    drop((good, bad));
    let Some(epoch) = parting.epoch else {
        // A log that is being written may give one of them more epochs than the other.
        if let Some(short) = parting.short.filter(|_| command.source.archive.is_some()) {
            return Err(Failure::finding(
                format!(
                    "{} ends after {} epochs, and {} goes on",
                    builds[short].name,
                    parting.alike,
                    builds[1 - short].name
                ),
                "both read the same archive",
                "ask that build alone: solyx derive --archive DIR",
            ));
        }
        tell_alike(&builds, &parting, &heads, json);
        return Ok(Exit::Good);
    };
    let at = epoch.to_string();
    let (mut good, mut bad) = (builds[0].ask(&["--at", &at])?, builds[1].ask(&["--at", &at])?);
    let (of_good, of_bad) = (good.line()?.unwrap_or_default(), bad.line()?.unwrap_or_default());
    let difference = Difference::of(&of_good, &of_bad);
    let mut states = Vec::new();
    for id in difference.about() {
        states.push(before(&id, good.about(&id)?, bad.about(&id)?));
    }
    if json {
        output::json(&json!({
            "alike": false, "epochs": parting.alike, "builds": named(&builds, &heads), "state_differs_after": parting.state,
            "first_difference": difference, "before": states,
        }));
    } else {
        tell(&builds, &heads, &parting, &difference, &states);
    }
    Ok(Exit::Finding)
}

/// Hears both until they say something else.
fn part(good: &mut Asked, bad: &mut Asked, json: bool) -> Result<Parting, Failure> {
    let bar = progress::spinner("epochs decided alike:", json);
    let mut parting = Parting { alike: 0, state: None, epoch: None, short: None };
    loop {
        let (a, b) = match (good.line()?, bad.line()?) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => {
                parting.short = (a.is_some() != b.is_some()).then_some(usize::from(b.is_none()));
                break;
            }
        };
        let same = |name: &str| a[name] == b[name];
        if !same("epoch") || !same("judged") || !same("decided") {
            parting.epoch = a["epoch"].as_i64();
            break;
        }
        if !same("state") && parting.state.is_none() {
            parting.state = a["epoch"].as_i64();
        }
        parting.alike += 1;
        bar.set_position(parting.alike);
    }
    bar.finish_and_clear();
    Ok(parting)
}

fn named(builds: &[Build; 2], heads: &[Value; 2]) -> Value {
    let one = |at: usize| json!({"name": builds[at].name, "binary": builds[at].binary, "version": heads[at]["version"], "features": heads[at]["features"]});
    json!([one(0), one(1)])
}

fn tell_alike(builds: &[Build; 2], parting: &Parting, heads: &[Value; 2], json: bool) {
    if json {
        output::json(&json!({
            "alike": true, "epochs": parting.alike, "builds": named(builds, heads), "state_differs_after": parting.state,
            "first_difference": null,
        }));
        return;
    }
    output::line(format!("both decide alike: {} epochs", output::grouped(parting.alike)));
    tell_state(parting, heads);
}

/// Features are part of the state, so that two sets of them differ in it from the beginning.
fn tell_state(parting: &Parting, heads: &[Value; 2]) {
    if let Some(epoch) = parting.state.filter(|_| heads[0]["features"] == heads[1]["features"]) {
        output::line(format!("their states differ after epoch {epoch} already, in content or in form"));
    }
}

fn tell(builds: &[Build; 2], heads: &[Value; 2], parting: &Parting, difference: &Difference, states: &[Value]) {
    let now = difference.now_us.as_i64().map_or(String::new(), |now| format!(", {}", rfc3339(TimeUs(now))));
    output::line(format!(
        "first difference: epoch {}{now}, after {} epochs that both decide alike",
        difference.epoch,
        output::grouped(parting.alike)
    ));
    tell_state(parting, heads);
    for judgement in &difference.judgements {
        output::line(format!(
            "{}: {} says {}, {} says {}",
            judgement.record, builds[0].name, judgement.good, builds[1].name, judgement.bad
        ));
    }
    for (build, decisions) in builds.iter().zip([&difference.good, &difference.bad]) {
        output::line(format!("{} decides:", build.name));
        if decisions.is_empty() {
            output::line("  nothing that the other does not");
        }
        for decision in decisions.iter().take(TOLD_MAX) {
            output::line(format!("  {}", in_words(decision)));
        }
        if decisions.len() > TOLD_MAX {
            output::line(format!("  and {} more, with --json", output::grouped((decisions.len() - TOLD_MAX) as u64)));
        }
    }
    if let Some((first, _)) = pair(&difference.good, &difference.bad) {
        let job = first["job"].as_str().unwrap_or("the first");
        let text = |value: &Value| if value.is_null() { "-".to_owned() } else { value.to_string() };
        output::line(format!("fields that differ, of {job}:"));
        let rows = difference.fields.iter().map(|f| [f.field.clone(), text(&f.good), text(&f.bad)]);
        output::line(output::table(["field", builds[0].name.as_str(), builds[1].name.as_str()], &[], rows));
    }
    output::line(format!("before epoch {}:", difference.epoch));
    for state in states {
        output::line(format!("  {}", state["id"].as_str().unwrap_or_default()));
        let of = |name: &str| lines_of(state.get("both").unwrap_or(&state[name]));
        let (good, bad) = (of("good"), of("bad"));
        good.iter().filter(|line| bad.contains(line)).for_each(|line| output::line(format!("    {line}")));
        for (build, own, other) in [(&builds[0], &good, &bad), (&builds[1], &bad, &good)] {
            let only = own.iter().filter(|line| !other.contains(line));
            only.for_each(|line| output::line(format!("    {}: {line}", build.name)));
        }
    }
}

/// What a state has of an id, in lines: its rows, and what the kernel says of a job that waits.
fn lines_of(known: &Value) -> Vec<String> {
    let rows = ["job", "run", "asks", "quotas", "pool"].into_iter();
    let mut lines: Vec<String> = rows.filter_map(|row| Some(format!("{row:<6} {}", cut(known.get(row)?)))).collect();
    lines.extend(known["refused"].as_str().map(|detail| format!("refused: {}", one_line(detail))));
    let Some(explained) = known.get("explained") else { return lines };
    let at = explained["expected"]["at_us"].as_i64().map_or(String::new(), |at| format!(" {}", rfc3339(TimeUs(at))));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines.push(format!(
        "outcome {}, expected {}{at}",
        text(&explained["outcome"]),
        text(&explained["expected"]["what"])
    ));
    for pool in explained["pools"].as_array().into_iter().flatten() {
        let limit = serde_json::from_value::<Limit>(pool["limit"].clone()).map(|limit| explain::limit(&limit));
        let cost = || match serde_json::from_value(pool["terms"].clone()) {
            Ok(terms) => format!("costs {}", explain::terms(&terms)),
            Err(_) => format!("costs {}", pool["terms"]),
        };
        lines.push(format!("pool {}: {}", text(&pool["pool"]), limit.unwrap_or_else(|_| cost())));
    }
    lines
}

/// A row as JSON; a long one is whole with --json.
fn cut(row: &Value) -> String {
    let text = row.to_string();
    match text.char_indices().nth(ROW_LEN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
