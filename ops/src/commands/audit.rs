//! `solyx audit`: derives every decision, digest and view again and names the first difference.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use solyx_runtime::{AuditOptions, AuditReport, Progress, Rates, SealedTexts};

use super::audit_many::{Sources, at_once, name, threads};
use super::audit_signed::{KnownHead, Signed, known_head, signed, witness_head};
use super::audit_untaken::untaken;
use super::audit_views::{AuditedView, KeptViews, audited};
use crate::failure::{Exit, Failure, Outcome};
use crate::world::{self, Source};
use crate::{output, progress, this_build};

/// Derive everything again from a log or an archive and compare.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx audit --log world --json\n  solyx audit --archive world-archive --until-epoch 1000\n  solyx audit --log world --from 100000\n  solyx audit --log world --no-views\n  solyx audit --log world --head 0578373a…\n  solyx audit --log world --head head.txt\n  solyx audit --log cell-a --log cell-b --archive cell-c --json\n\n\
                  After the decisions every view is derived again from the first epoch and held against what the world keeps of it \
                  (`solyx view`, `solyx project`), row by row; its digest is for comparing with another auditor's.\n\n\
                  Several logs are audited at once, one report each: with --json as {\"ok\", \"reports\": [{\"log\", \"report\" or \"error\"}]}. \
                  The exit code is the highest of theirs."
)]
pub struct Audit {
    #[command(flatten)]
    sources: Sources,
    /// The last epoch to look at.
    #[arg(long, value_name = "EPOCH")]
    until_epoch: Option<i64>,
    /// Begin at the newest snapshot of this world's engine that stands at this epoch or before it, instead of at the first epoch.
    #[arg(long, value_name = "EPOCH", conflicts_with = "archive")]
    from: Option<i64>,
    /// Leave out the views: only judgements, decisions, plans and digests are derived again. So it is with --from, too, for a view
    /// begins with the first epoch.
    #[arg(long)]
    no_views: bool,
    /// What history has to contain: a chain hash that an earlier audit said, or a file with a signed head that a witness kept. Only
    /// this finds a tail that was cut off whole.
    #[arg(long, value_name = "HASH|FILE", value_parser = known_head)]
    head: Option<KnownHead>,
    /// Audits at once, of several logs; by default one for each core.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// What was found in one log.
struct Audited {
    report: AuditReport,
    signed: Option<Signed>,
    /// Every view; none where they were left out, or the log they come from is not good.
    views: Option<Vec<AuditedView>>,
    /// Input records that no epoch has taken; absent where only a part was looked at, or the log is not good.
    inputs_not_taken: Option<u64>,
}

/// Who hears how far the audits have come.
struct Heard<'b> {
    bar: &'b ProgressBar,
    audited: AtomicU64,
    folded: AtomicU64,
}

impl Heard<'_> {
    fn audited(&self, epochs: u64) {
        self.bar.set_position(self.audited.fetch_add(epochs, Ordering::Relaxed) + epochs);
    }

    fn folded(&self, epochs: u64) {
        let folded = self.folded.fetch_add(epochs, Ordering::Relaxed) + epochs;
        self.bar.set_message(format!("epochs folded into views: {}, audited:", output::grouped(folded)));
    }
}

impl Audited {
    fn is_good(&self) -> bool {
        let views = self.views.iter().flatten().all(AuditedView::is_good);
        self.report.ok && views && self.signed.as_ref().is_none_or(Signed::is_good)
    }

    fn exit(&self) -> Exit {
        if self.is_good() { Exit::Good } else { Exit::Finding }
    }

    fn json(&self) -> Value {
        let mut said = json!(self.report);
        said["ok"] = self.is_good().into();
        said["build"] = this_build::json();
        said["views"] = json!(self.views);
        said["inputs_not_taken"] = json!(self.inputs_not_taken);
        if let Some(signed) = &self.signed {
            said["proofs"] = signed.json();
        }
        said
    }
}

/// Runs it.
pub fn run(command: &Audit, json: bool) -> Outcome {
    let sources = command.sources.each();
    let bar = progress::spinner("epochs audited:", json);
    let heard = Heard { bar: &bar, audited: AtomicU64::new(0), folded: AtomicU64::new(0) };
    if let [source] = &sources[..] {
        let report = one(command, source, &heard);
        bar.finish_and_clear();
        let audited = report?;
        if json {
            output::json(&audited.json());
        } else {
            tell(command, &audited);
        }
        return Ok(audited.exit());
    }
    if command.head.is_some() {
        let detail = format!("found --head with {} logs", sources.len());
        return Err(Failure::usage("a head is of one log", detail, "audit that log alone"));
    }
    let threads = command.threads.map_or_else(threads, usize::from);
    let reports = at_once(&sources, threads, |source| one(command, source, &heard));
    bar.finish_and_clear();
    let exit = reports.iter().map(|said| said.as_ref().map_or_else(|failure| failure.exit, Audited::exit));
    let exit = exit.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Good);
    if json {
        let reports: Vec<Value> = sources.iter().zip(&reports).map(json_of).collect();
        output::json(&json!({"ok": exit == Exit::Good, "reports": reports}));
        return Ok(exit);
    }
    for (source, said) in sources.iter().zip(&reports) {
        output::line(format!("{}:", name(source)));
        match said {
            Ok(audited) => tell(command, audited),
            Err(failure) => output::line(format!("{}: {}; {}", failure.what, failure.detail, failure.hint)),
        }
    }
    let good = reports.iter().flatten().filter(|audited| audited.is_good()).count();
    output::line(format!("{good} of {} logs came out as recorded", sources.len()));
    Ok(exit)
}

fn json_of((source, said): (&Source, &Result<Audited, Failure>)) -> Value {
    match said {
        Ok(audited) => json!({"log": name(source), "report": audited.json()}),
        Err(Failure { exit, what, detail, hint, .. }) => {
            json!({"log": name(source), "error": {"what": what, "detail": detail, "hint": hint, "exit": *exit as u8}})
        }
    }
}

/// Audits one log.
fn one(command: &Audit, source: &Source, heard: &Heard<'_>) -> Result<Audited, Failure> {
    let witness = match &command.head {
        Some(KnownHead::File(path)) => Some(witness_head(path)?),
        _ => None,
    };
    // Before the log, so that no view stands where the log does not reach yet.
    let kept = KeptViews::of(source.log.as_deref());
    let log = source.open()?;
    // The index of ids of a long history does not fit into memory.
    let scratch = tempfile::Builder::new().prefix("solyx-audit-").tempdir().map_err(|e| {
        Failure::environment("no directory for the audit's index of ids", e, "set TMPDIR to one that can be written")
    })?;
    let options = AuditOptions {
        index_dir: Some(scratch.path().join("index")),
        until_epoch: command.until_epoch,
        from: command.from.and_then(|epoch| Some((source.log.as_ref()?.join("snapshots"), epoch))),
        head: match command.head {
            Some(KnownHead::Chain(hash)) => Some(hash),
            _ => None,
        },
    };
    let mut told = 0;
    let mut progress = |p: &Progress| {
        heard.audited(p.epochs - told);
        told = p.epochs;
    };
    let report = solyx_runtime::audit(&*log, &options, &mut progress).map_err(super::run::failure)?;
    heard.audited(report.epochs.saturating_sub(told));
    let signed = match signed(&*log, witness.as_ref()) {
        // Where history breaks off is said already.
        Err(_) if !report.ok => None,
        signed => signed?,
    };
    let views = if report.ok && !command.no_views && report.from_epoch == 0 {
        let end = report.epochs as i64;
        let in_part = command.until_epoch.is_some_and(|until| until < end);
        Some(audited(&*log, kept, end, in_part, &|epochs| heard.folded(epochs))?)
    } else {
        None
    };
    let cell = if report.ok && command.until_epoch.is_none() { world::cell_of(&*log)? } else { None };
    let inputs_not_taken = cell.map(|cell| untaken(&*log, &cell)).transpose()?;
    Ok(Audited { report, signed, views, inputs_not_taken })
}

/// A report for a person.
fn tell(command: &Audit, Audited { report, signed, views, inputs_not_taken }: &Audited) {
    let same_views = views.iter().flatten().all(AuditedView::is_good);
    let verdict = match (report.ok, same_views, signed.as_ref().is_none_or(Signed::is_good)) {
        (true, true, true) => "everything came out as recorded",
        (true, false, true) => "everything came out as recorded, and a kept view differs",
        (true, true, false) => "everything came out as recorded, and what was signed is not good",
        (true, false, false) => "everything came out as recorded, a kept view differs, and what was signed is not good",
        (false, _, _) => "something differs",
    };
    output::line(format!(
        "{verdict}: {} epochs, {} events, {} events/s",
        output::grouped(report.epochs),
        output::grouped(report.events),
        output::grouped(report.events_per_s)
    ));
    let Rates { read, hashed, applied, duplicates } = report.per_s;
    output::line(format!(
        "events a second of processor time: read {}, hashed {}, applied {}, duplicates found {}",
        output::grouped(read),
        output::grouped(hashed),
        output::grouped(applied),
        output::grouped(duplicates)
    ));
    if report.from_epoch > 0 {
        output::line(format!(
            "epochs before {} are taken from a snapshot whose digest is in the chain, and what was a duplicate of their records as recorded",
            output::grouped(report.from_epoch as u64)
        ));
    } else if command.from.is_some() {
        output::line("no good snapshot stands before that epoch: all of it was looked at");
    }
    output::line(format!("chain head {}", report.chain_head));
    output::line(format!("audited with {}", this_build::text()));
    output::line(
        "taken as recorded, for no log can prove them: ranges, times, terms, engine versions, and schemas and features unknown then",
    );
    if report.plans + report.plans_as_recorded > 0 {
        let (made, recorded) = (output::grouped(report.plans), output::grouped(report.plans_as_recorded));
        output::line(format!("plans of packing prices: {made} made again, {recorded} taken as recorded"));
    }
    if let Some(left) = &report.left_over {
        output::line(format!(
            "outputs of earlier terms that are of no epoch: {}, the first at {}; views leave them out",
            output::grouped(left.records),
            left.first
        ));
    }
    if let Some(records @ 1..) = inputs_not_taken {
        output::line(format!(
            "input records that no epoch has taken yet, and of which nothing is said here: {}",
            output::grouped(*records)
        ));
    }
    for sealed in &report.sealed {
        let SealedTexts { key_id, texts, quoted, destroyed_in_epoch, .. } = sealed;
        let gone = destroyed_in_epoch.map_or(String::new(), |epoch| {
            format!("; the key was destroyed in epoch {epoch}, what they said is erased")
        });
        let (texts, quoted) = (output::grouped(*texts), output::grouped(*quoted));
        output::line(format!(
            "sealed with key {key_id}, and audited as sealed: {texts} texts, quoted by {quoted} decisions{gone}"
        ));
    }
    if let Some(difference) = &report.first_difference {
        output::line(format!("first difference: {difference}"));
    }
    match views {
        Some(views) => views.iter().for_each(|view| output::line(view.text())),
        None if report.ok => output::line("views were left out"),
        None => {}
    }
    if let Some(signed) = signed {
        output::line(signed.text());
    }
}
