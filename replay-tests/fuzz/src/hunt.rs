//! The hunt for one target: inputs changed, given, and kept when something new happened.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use solyx_histories::history::Luck;

use crate::coverage::Reached;
use crate::mutate::{INPUT_MAX, mutate};
use crate::shrink::shrink;
use crate::{Outcome, Target, corpus, watch};

/// Inputs kept at most.
const KEPT_MAX: usize = 8_192;

/// What came of a hunt.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The target.
    pub target: String,
    /// Inputs given.
    pub executions: u64,
    /// How long it took.
    pub seconds: u64,
    /// Inputs kept because something new happened, the first ones among them.
    pub corpus: usize,
    /// Branches reached; 0 where the build does not count them.
    pub branches: usize,
    /// What was found, if anything was.
    pub finding: Option<Finding>,
}

/// An input that does what must not happen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// What happened.
    pub what: String,
    /// The file with the input.
    pub file: PathBuf,
}

thread_local! {
    static PANICKED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says instead of printing it.
pub fn hush() {
    std::panic::set_hook(Box::new(|panic| PANICKED.with(|said| *said.borrow_mut() = panic.to_string())));
}

/// Gives an input; a panic is a finding.
pub fn give(target: &Target, input: &[u8]) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input)))
        .unwrap_or_else(|_| Err(PANICKED.with(|said| said.borrow().clone())))
}

/// The inputs of a target that once were findings, by file.
pub fn earlier(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(corpus(target)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect();
    files.sort();
    files
}

/// Hunts for so long. A finding ends it, made smaller and written below `dir`.
pub fn hunt(target: &Target, time: Duration, seed: u64, dir: &Path, last: fn(&str)) -> Report {
    let begun = Instant::now();
    let file = dir.join(format!("{}.input", target.name));
    let mut report = Report { target: target.name.to_owned(), ..Report::default() };
    let mut reached = Reached::default();
    let mut luck = Luck(seed);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut first: Vec<Vec<u8>> = earlier(target.name).into_iter().map(|(_, input)| input).collect();
    first.extend((target.seeds)());
    first.iter_mut().for_each(|input| input.truncate(INPUT_MAX));
    first.reverse();
    // What the seeds are made with is not what the first input reached.
    reached.note("");
    let found = loop {
        let is_first = !first.is_empty();
        let input = first.pop().unwrap_or_else(|| next(&mut luck, &kept, target));
        let came = watch::watched(&input, &file, last, || give(target, &input));
        report.executions += 1;
        match came {
            Err(what) => break Some((input, what)),
            Ok(said) => {
                if reached.note(&said) | is_first && kept.len() < KEPT_MAX {
                    kept.push(input);
                }
            }
        }
        if first.is_empty() && begun.elapsed() >= time {
            break None;
        }
    };
    report.finding = found.map(|(input, what)| smaller(target, &input, what, file, last));
    report.corpus = kept.len();
    report.branches = reached.branches();
    report.seconds = begun.elapsed().as_secs();
    report
}

/// One of the last kept more often than others: what is new there has not been tried yet.
fn next(luck: &mut Luck, kept: &[Vec<u8>], target: &Target) -> Vec<u8> {
    let all = kept.len() as i64;
    let place = if luck.chance(40) { (all - 1 - luck.below(all.min(32))) as usize } else { luck.below(all) as usize };
    let other = luck.of(kept);
    mutate(luck, &kept[place], other, target.words)
}

fn smaller(target: &Target, input: &[u8], what: String, file: PathBuf, last: fn(&str)) -> Finding {
    let place = |what: &str| {
        what.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
    };
    let same = place(&what);
    let input = shrink(input, &mut |smaller| {
        watch::watched(smaller, &file, last, || give(target, smaller)).is_err_and(|found| place(&found) == same)
    });
    let what = give(target, &input).err().unwrap_or(what);
    let what = match std::fs::write(&file, &input) {
        Ok(()) => what,
        Err(error) => format!("{what} (the input could not be written: {error})"),
    };
    Finding { what, file }
}
