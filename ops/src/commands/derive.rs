//! `solyx derive`: what this build decides on the inputs that a log recorded, a line of JSON for each epoch. It compares nothing:
//! `solyx bisect` compares what two builds say here, so that the form of these lines is kept by every later version.

use std::io::BufRead;

use clap::Args;
use serde_json::{Value, json};
use solyx_kernel::follow::Follower;
use solyx_kernel::{ENGINE_VERSION, KNOWN_FEATURES, Kernel};
use solyx_runtime::redecide::without_empty;
use solyx_runtime::{RedecideOptions, Redecided, Redecisions};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::RawEpoch;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::ids::{FeatureId, JobId, PoolId, TenantId};
use solyx_schemas::json::to_json;

use super::answer;
use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::world::Source;

/// Version of the form of what is written.
pub const FORMAT: u64 = 1;
/// What names no feature at all.
const NONE: &str = "none";

/// Say what this build decides on a log's recorded inputs, as JSON lines for comparing builds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx derive --log world\n  solyx derive --log world --features spine,sealed-fields\n  \
                  echo job-0001 | solyx derive --log world --at 17\n\n\
                  The first line says format, version and features. Then a line for each epoch: its number and time, hashes of what was judged and \
                  decided, and the state digest. With --at: that epoch's judgements and decisions, then for each id that stdin names what the state before \
                  it had of it."
)]
pub struct Derive {
    #[command(flatten)]
    source: Source,
    /// Features in force from the first epoch on instead of those that the log switches on, apart by commas; `none` for none.
    #[arg(long, value_name = "FEATURES", value_parser = features)]
    features: Option<Features>,
    /// Begin at the newest snapshot of this world's engine that stands at this epoch or before it.
    #[arg(long, value_name = "EPOCH", conflicts_with_all = ["archive", "features"])]
    from: Option<i64>,
    /// The last epoch.
    #[arg(long, value_name = "EPOCH", conflicts_with = "at")]
    until_epoch: Option<i64>,
    /// Only this epoch, with all that is decided in it.
    #[arg(long, value_name = "EPOCH")]
    at: Option<i64>,
}

/// A set of features.
#[derive(Clone, Debug)]
pub struct Features(pub Vec<FeatureId>);

/// The features that a text names, apart by commas, all known to this build.
pub fn features(text: &str) -> Result<Features, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != NONE);
    let known = |name: &str| {
        let expected = || format!("found {name}, expected {NONE} or some of {}", KNOWN_FEATURES.join(","));
        KNOWN_FEATURES.contains(&name).then(|| FeatureId::from(name)).ok_or_else(expected)
    };
    names.map(known).collect::<Result<Vec<_>, _>>().map(Features)
}

/// Runs it.
pub fn run(command: &Derive) -> Outcome {
    let log = command.source.open()?;
    let options = RedecideOptions {
        features: command.features.clone().map(|features| features.0),
        from: command.from.and_then(|epoch| Some((command.source.log.as_ref()?.join("snapshots"), epoch))),
    };
    let mut redecisions = Redecisions::begin(&*log, &options).map_err(super::run::failure)?;
    output::json(&json!({
        "format": FORMAT, "version": ENGINE_VERSION, "features_known": KNOWN_FEATURES, "features": options.features,
        "from_epoch": redecisions.from_epoch(),
    }));
    if let Some(at) = command.at {
        return one(&mut redecisions, at);
    }
    while redecisions.ahead().is_some_and(|next| command.until_epoch.is_none_or(|until| next.record.epoch <= until)) {
        if let Some(epoch) = redecisions.next_epoch().map_err(super::run::failure)? {
            output::json(&line(&epoch));
        }
    }
    Ok(Exit::Good)
}

fn line(epoch: &Redecided) -> Value {
    let Redecided { epoch, now_us, judged, decided, state, .. } = epoch;
    json!({"epoch": epoch, "now_us": now_us, "judged": judged, "decided": decided, "state": state})
}

/// One epoch whole, and what the state before it had of whatever stdin asks for.
fn one(redecisions: &mut Redecisions<'_>, at: i64) -> Outcome {
    while redecisions.ahead().is_some_and(|next| next.record.epoch < at) {
        redecisions.next_epoch().map_err(super::run::failure)?;
    }
    let recorded = redecisions.ahead().filter(|next| next.record.epoch == at).cloned();
    let before = redecisions.kernel().cloned();
    let derived = redecisions.next_epoch().map_err(super::run::failure)?;
    let (Some(recorded), Some(derived)) = (recorded, derived) else {
        let hint = "`solyx derive` without --at names all of them";
        return Err(Failure::finding(
            format!("there is no epoch {at} to derive"),
            "the log or the snapshot is not there",
            hint,
        ));
    };
    let mut said = line(&derived);
    said["skipped"] = json!(derived.closed.record.skipped);
    said["decisions"] = derived.decisions().map(|event| without_empty(to_json(event))).collect();
    output::json(&said);
    let before = before.unwrap_or_else(|| Kernel::new(recorded.record.cell.clone()));
    for id in std::io::stdin().lock().lines() {
        let id = id.map_err(|e| Failure::environment("stdin cannot be read", e, "give it ids, one a line"))?;
        output::json(&known_of(&before, &recorded, id.trim()));
    }
    Ok(Exit::Good)
}

/// What a state has of a job or a pool, and what the kernel says of a job that waits or is asked for in the epoch that follows.
fn known_of(before: &Kernel, next: &RawEpoch, id: &str) -> Value {
    let state = before.state();
    let job = JobId::from(id);
    let rehearsal = || Follower::of(before.clone()).rehearsal();
    let request = requested(next, &job);
    let tenant = state.spec(&job).map(|spec| spec.tenant).or_else(|| Some(request.as_ref()?.tenant.clone()));
    let lineage: Vec<&TenantId> = tenant.iter().flat_map(|tenant| state.lineage(tenant)).collect();
    let quotas = state.quotas.iter().filter(|((tenant, ..), _)| lineage.contains(&tenant)).map(|(_, quota)| quota);
    let (explained, refused) = match &request {
        Some(request) if state.jobs.get(&job).is_none() => match rehearsal().job(request) {
            Ok(answer) => (Some(answer), None),
            Err(refused) => (None, Some(refused)),
        },
        _ => (state.jobs.get(&job).and_then(|_| rehearsal().waiting(&job)), None),
    };
    let run = state.jobs.get(&job).and_then(|row| state.runs.get(row.run.as_ref()?));
    without_empty(json!({
        "id": id,
        "job": state.jobs.get(&job),
        "run": run,
        "asks": state.spec(&job),
        "quotas": quotas.collect::<Vec<_>>(),
        "pool": state.pools.get(&PoolId::from(id)),
        "refused": refused,
        "explained": explained.map(|answer| answer::json_of(&job, &answer)),
    }))
}

fn requested(epoch: &RawEpoch, job: &JobId) -> Option<JobRequested> {
    epoch.inputs.iter().find_map(|input| match Codec::global().decode_record(&input.stored.record).ok()?.event {
        Event::JobRequested(request) if request.job == *job => Some(*request),
        _ => None,
    })
}
