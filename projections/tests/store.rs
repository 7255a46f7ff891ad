//! The store of views: one batch, rebuild and swap, as of, reading beside the writer.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::History;
use solyx_projections::fold::{Change, Entry, Epochs, Fold, FoldError, ToldRow};
use solyx_projections::rows::Rows;
use solyx_projections::store::{KeptStore, RowDifference, StoreError, View, ViewPosition, ViewStore};
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::capacity::PoolWithdrawn;
use solyx_schemas::hash::Hash32;
use solyx_schemas::units::DAY_US;

/// Counts events by name; the even ones are forgotten again at each tenth epoch, so that rows also go.
#[derive(Default)]
struct Counts<const FOLLOWS: bool> {
    counts: Rows<String, u64>,
}

impl<const FOLLOWS: bool> Fold for Counts<FOLLOWS> {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn format(&self) -> u32 {
        1
    }

    fn apply(&mut self, epoch: &EpochBatch) -> Result<(), FoldError> {
        for (_, event) in epoch.counted() {
            *self.counts.entry(&event.key().into_owned()) += 1;
        }
        if epoch.record.epoch % 10 == 9 {
            let even: Vec<String> = self.counts.iter().filter(|(_, n)| **n % 2 == 0).map(|(k, _)| k.clone()).collect();
            even.iter().for_each(|key| {
                self.counts.remove(key);
            });
        }
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.counts.entries(1, &mut entries);
        entries.sort();
        entries
    }

    fn changes(&mut self) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        self.counts.changes(1, &mut changes);
        FOLLOWS.then_some(changes)
    }

    fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, FoldError> {
        let told = self.counts.told("counts", &key[1..], value);
        told.map_err(|e| FoldError { fold: "counts", detail: e.to_string() })
    }

    fn load(&mut self, entries: &mut dyn Iterator<Item = Entry>) -> Result<(), FoldError> {
        for (key, value) in entries {
            let loaded = self.counts.load(&key[1..], &value);
            loaded.map_err(|e| FoldError { fold: "counts", detail: e.to_string() })?;
        }
        Ok(())
    }
}

fn history(epochs: i64) -> History {
    let mut history = History::default();
    for epoch in 0..epochs {
        let pools = [epoch % 7, epoch % 3]
            .map(|n| PoolWithdrawn { pool: format!("pool-{n}").into(), ..PoolWithdrawn::default() }.into());
        history.epoch(epoch * DAY_US, pools.to_vec(), Vec::new());
    }
    history
}

fn folded<const FOLLOWS: bool>(history: &History, last: i64) -> View<Counts<FOLLOWS>> {
    let mut view = View::empty();
    view.fold_up_to(&mut Epochs(history.source(0)), Some(last)).unwrap();
    view
}

fn a_store_holds_what_the_fold_says<const FOLLOWS: bool>() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(2_345);
    let mut store = ViewStore::<Counts<FOLLOWS>>::open(directory.path()).unwrap();
    let part = History { epochs: history.epochs[..700].to_vec(), ..History::default() };
    assert_eq!(store.catch_up(&mut Epochs(part.source(0))).unwrap(), 700);
    drop(store);

    let mut store = ViewStore::<Counts<FOLLOWS>>::open(directory.path()).unwrap();
    assert_eq!(store.position().next_epoch, 700);
    assert_eq!(store.catch_up(&mut Epochs(history.source(700))).unwrap(), 1_645);
    assert_eq!(store.dump().unwrap(), store.fold().entries());
    assert_eq!(store.dump().unwrap(), folded::<FOLLOWS>(&history, i64::MAX).fold.entries());
    assert_eq!(store.position().chain_head, history.epochs[2_344].chain_hash);
}

#[test]
fn a_store_holds_what_the_fold_says_whether_or_not_it_follows_its_changes() {
    a_store_holds_what_the_fold_says::<true>();
    a_store_holds_what_the_fold_says::<false>();
}

#[test]
fn a_rebuild_gives_the_same_bytes_and_takes_the_old_view_s_place() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(120);
    let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap();
    store.catch_up(&mut Epochs(history.source(0))).unwrap();
    let before = store.dump().unwrap();
    drop(store);
    let rebuilt = ViewStore::<Counts<true>>::rebuild(directory.path(), &mut Epochs(history.source(0))).unwrap();
    assert_eq!(rebuilt.dump().unwrap(), before);
    drop(rebuilt);
    assert!(directory.path().join("gen-2").exists() && !directory.path().join("gen-1").exists());
    assert_eq!(ViewStore::<Counts<true>>::open(directory.path()).unwrap().dump().unwrap(), before);
}

#[test]
fn an_interrupted_rebuild_leaves_the_view_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(50);
    let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap();
    store.catch_up(&mut Epochs(history.source(0))).unwrap();
    drop(store);
    let broken = history.source(0).take(20).chain([Err(std::io::Error::other("the log is away"))]);
    let error = ViewStore::<Counts<true>>::rebuild(directory.path(), &mut Epochs(broken)).err().unwrap();
    assert_eq!(error.to_string(), "cannot read the next epoch: the log is away");
    let store = ViewStore::<Counts<true>>::open(directory.path()).unwrap();
    assert_eq!(store.position().next_epoch, 50);
    assert!(!directory.path().join("gen-2").exists());
}

#[test]
fn a_reader_sees_whole_batches_while_the_writer_has_the_view_open() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(30);
    assert!(matches!(ViewStore::<Counts<true>>::read(directory.path()), Err(StoreError::Absent { .. })));
    let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap();
    let part = History { epochs: history.epochs[..20].to_vec(), ..History::default() };
    store.catch_up(&mut Epochs(part.source(0))).unwrap();
    let seen = ViewStore::<Counts<true>>::read(directory.path()).unwrap();
    assert_eq!(seen.position.next_epoch, 20);
    assert_eq!(seen.fold.entries(), folded::<true>(&history, 19).fold.entries());
    store.catch_up(&mut Epochs(history.source(20))).unwrap();
    assert_eq!(ViewStore::<Counts<true>>::read(directory.path()).unwrap().position.next_epoch, 30);
}

#[test]
fn a_view_as_of_an_epoch_is_the_fold_up_to_it_from_whatever_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(400);
    let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap().keep_checkpoints(100);
    for end in [100, 250, 400] {
        let part = History { epochs: history.epochs[..end].to_vec(), ..History::default() };
        let from = store.position().next_epoch;
        store.catch_up(&mut Epochs(part.source(from))).unwrap();
    }
    for (epoch, begins_at) in [(-1, 0), (5, 0), (99, 100), (180, 100), (249, 250), (399, 400), (900, 400)] {
        let mut began = -1;
        let view = ViewStore::<Counts<true>>::as_of(directory.path(), epoch, |position| {
            began = position.next_epoch;
            Ok(Box::new(Epochs(history.source(position.next_epoch))))
        });
        assert_eq!(view.unwrap().fold.entries(), folded::<true>(&history, epoch).fold.entries(), "as of {epoch}");
        assert_eq!(began, begins_at, "as of {epoch}");
    }
}

#[test]
fn an_epoch_of_another_history_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = history(10);
    let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap();
    let error = store.catch_up(&mut Epochs(history.source(3))).unwrap_err();
    assert!(error.to_string().starts_with("epoch 3 does not follow epoch 0 of the counts view"), "{error}");
    history.epochs[6].record.previous_chain_hash = Default::default();
    let error = store.catch_up(&mut Epochs(history.source(0))).unwrap_err();
    assert!(error.to_string().contains("its previous chain hash is another"), "{error}");
}

#[test]
fn a_feature_that_this_build_lacks_stops_the_view_and_is_named() {
    let mut history = history(5);
    history.epochs[3].record.features.push("from-the-future".into());
    let mut view: View<Counts<true>> = View::empty();
    let error = view.fold_up_to(&mut Epochs(history.source(0)), None).unwrap_err().to_string();
    let expected = "epoch 3 has the feature from-the-future in force, which this build lacks; use the build that wrote it or a newer one";
    assert_eq!((error.as_str(), view.position.next_epoch), (expected, 3));
}

#[test]
fn the_first_row_that_a_kept_store_holds_otherwise_is_named_whatever_is_wrong_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(25);
    assert!(KeptStore::open(directory.path()).unwrap().is_none());
    drop(ViewStore::<Counts<true>>::rebuild(directory.path(), &mut Epochs(history.source(0))).unwrap());
    let kept = KeptStore::open(directory.path()).unwrap().unwrap();
    assert_eq!(kept.position().next_epoch, 25);
    let View { fold, position } = folded::<true>(&history, 24);
    let against = |entries: Vec<Entry>| kept.first_difference(&fold, &position, entries).unwrap();
    let whole = fold.entries();
    assert!(whole.len() > 3 && against(whole.clone()).is_none());
    let names: Vec<String> = fold.counts.iter().map(|(name, _)| format!("counts/{name}")).collect();
    let counts: Vec<u64> = fold.counts.iter().map(|(_, count)| *count).collect();

    let mut gone = whole.clone();
    gone.remove(1);
    gone.remove(2);
    assert_eq!(against(gone), Some(RowDifference::new(&names[1], "row", counts[1], "none")));
    let mut changed = whole.clone();
    changed[2].1 = vec![99];
    assert_eq!(against(changed), Some(RowDifference::new(&names[2], "row", counts[2], 99)));
    let mut more = whole.clone();
    more.push((vec![1, 1, b'z'], vec![5]));
    assert_eq!(against(more), Some(RowDifference::new("counts/z", "row", "none", 5)));
    let other = ViewPosition { chain_head: Hash32::default(), ..position.clone() };
    let difference = kept.first_difference(&fold, &other, whole).unwrap().unwrap();
    assert_eq!((difference.row.as_str(), difference.field.as_str()), ("position", "chain_head"));
}

#[test]
fn checkpoints_of_a_kept_store_are_opened_one_by_one_and_go_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(250);
    let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap().keep_checkpoints(100);
    for end in [100, 200, 250] {
        let part = History { epochs: history.epochs[..end].to_vec(), ..History::default() };
        let from = store.position().next_epoch;
        store.catch_up(&mut Epochs(part.source(from))).unwrap();
    }
    drop(store);
    let kept = KeptStore::open(directory.path()).unwrap().unwrap();
    let checkpoints = kept.checkpoints().unwrap();
    assert_eq!(checkpoints.iter().map(|kept| kept.next_epoch()).collect::<Vec<_>>(), [100, 200]);
    for checkpoint in &checkpoints {
        let opened = checkpoint.open().unwrap().unwrap();
        assert_eq!(opened.position().next_epoch, checkpoint.next_epoch());
        let View { fold, position } = folded::<true>(&history, checkpoint.next_epoch() - 1);
        assert_eq!(opened.first_difference(&fold, &position, fold.entries()).unwrap(), None);
        let earlier = folded::<true>(&history, checkpoint.next_epoch() - 2).fold.entries();
        let difference = opened.first_difference(&fold, &position, earlier).unwrap().unwrap();
        let told = difference.of_checkpoint(checkpoint.next_epoch()).to_string();
        assert!(told.starts_with(&format!("checkpoint before epoch {}, counts/", checkpoint.next_epoch())), "{told}");
    }
    std::fs::write(directory.path().join("gen-1.at/100/CURRENT"), "nothing\n").unwrap();
    assert!(checkpoints[0].open().is_err(), "it is there and cannot be read");
    drop(ViewStore::<Counts<true>>::rebuild(directory.path(), &mut Epochs(history.source(0))).unwrap());
    assert!(checkpoints.iter().all(|kept| kept.open().unwrap().is_none()));
}

#[test]
fn a_kept_store_is_opened_while_its_writer_opens_and_closes_it_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let history = history(400);
    drop(ViewStore::<Counts<true>>::open(directory.path()).unwrap());
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for end in (10..=400).step_by(10) {
                let mut store = ViewStore::<Counts<true>>::open(directory.path()).unwrap();
                let part = History { epochs: history.epochs[..end].to_vec(), ..History::default() };
                let from = store.position().next_epoch;
                store.catch_up(&mut Epochs(part.source(from))).unwrap();
            }
        });
        while !writing.is_finished() {
            let kept = KeptStore::open(directory.path()).unwrap().unwrap();
            assert_eq!(kept.position().next_epoch % 10, 0);
        }
    });
}
