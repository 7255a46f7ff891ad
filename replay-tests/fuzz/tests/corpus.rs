//! What once was found stays found out: every input of the corpus, every seed, and some hundreds of changed ones, for each target.
#![allow(clippy::unwrap_used)]

use solyx_fuzz::hunt::{earlier, give};
use solyx_fuzz::mutate::mutate;
use solyx_fuzz::targets;
use solyx_histories::history::Luck;

/// Changed inputs for each target: a look, not a hunt, which is `ops/fuzz`.
const CHANGED: u64 = 100;
/// All files of a target's corpus together, and their number.
const CORPUS_BYTES_MAX: usize = 256 << 10;
const CORPUS_FILES_MAX: usize = 64;

#[test]
fn inputs_that_once_were_findings_are_taken_or_refused_as_they_have_to_be() {
    for target in targets::all() {
        for (file, input) in earlier(target.name) {
            give(&target, &input).unwrap_or_else(|what| panic!("{} of {}: {what}", file.display(), target.name));
        }
    }
}

#[test]
fn seeds_and_some_changes_of_them_are_no_findings() {
    for target in targets::all() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has nothing to begin with", target.name);
        for seed in &seeds {
            give(&target, seed).unwrap_or_else(|what| panic!("a seed of {}: {what}", target.name));
        }
        let mut luck = Luck(1);
        for number in 0..CHANGED {
            let input = mutate(&mut luck, luck_of(&seeds, number), luck_of(&seeds, number * 7 + 3), target.words);
            give(&target, &input).unwrap_or_else(|what| panic!("{}, change {number}: {what}", target.name));
        }
    }
}

fn luck_of(seeds: &[Vec<u8>], number: u64) -> &[u8] {
    &seeds[number as usize % seeds.len()]
}

#[test]
fn the_corpus_is_small_and_of_targets_that_there_are() {
    let names: Vec<&str> = targets::all().iter().map(|target| target.name).collect();
    let root = solyx_fuzz::corpus("");
    for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(names.contains(&name.as_str()), "{name} is no target");
        let files = earlier(&name);
        assert!(files.len() <= CORPUS_FILES_MAX, "{name} has {} files", files.len());
        let bytes: usize = files.iter().map(|(_, input)| input.len()).sum();
        assert!(bytes <= CORPUS_BYTES_MAX, "{name} has {bytes} bytes");
    }
}
