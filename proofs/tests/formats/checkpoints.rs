//! Signed heads as text.

use proptest::prelude::*;
use solyx_proofs::{Checkpoint, HashTree, SecretKey, SignedCheckpoint};

fn tree(size: u64) -> HashTree<[u8; 8]> {
    HashTree::of((0..size).map(u64::to_le_bytes))
}

fn signed(key: &SecretKey, cell: &str, size: u64) -> SignedCheckpoint {
    let checkpoint = Checkpoint { cell: cell.into(), size, root: tree(size).root() };
    let signature = key.sign(&checkpoint.text());
    SignedCheckpoint::new(checkpoint, &key.public(), signature)
}

#[test]
fn a_head_comes_back_from_its_note() {
    let key = SecretKey::generate(None).unwrap();
    let mut head = signed(&key, "cell-1", 9);
    assert_eq!(SignedCheckpoint::parse(&head.note()), Ok(head.clone()));
    head.since = Some((5, tree(9).consistency(5).unwrap()));
    let again = SignedCheckpoint::parse(&head.note()).unwrap();
    assert_eq!(again, head);
    assert!(again.is_signed_by(&key.public()));
    assert!(!again.is_signed_by(&SecretKey::generate(None).unwrap().public()));
}

#[test]
fn signatures_of_others_are_passed_over() {
    let key = SecretKey::generate(None).unwrap();
    let head = signed(&key, "cell-1", 9);
    let cosigned = head.note()
        + "— witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    assert_eq!(SignedCheckpoint::parse(&cosigned), Ok(head));
}

#[test]
fn a_head_goes_on_from_an_older_one_of_the_same_history() {
    let key = SecretKey::generate(None).unwrap();
    let old = signed(&key, "cell-1", 5).checkpoint;
    let mut head = signed(&key, "cell-1", 9);
    assert_eq!(head.goes_on_from(&old), None, "it carries no proof");
    head.since = Some((5, tree(9).consistency(5).unwrap()));
    assert_eq!(head.goes_on_from(&old), Some(true));
    assert_eq!(head.goes_on_from(&Checkpoint { root: tree(6).root(), ..old.clone() }), Some(false));
    assert_eq!(head.goes_on_from(&Checkpoint { cell: "cell-2".into(), ..old.clone() }), Some(false));
    assert_eq!(head.goes_on_from(&Checkpoint { size: 6, ..old }), None);
    assert_eq!(head.goes_on_from(&head.checkpoint.clone()), Some(true));
}

#[test]
fn what_is_no_head_is_refused_by_line() {
    let key = SecretKey::generate(None).unwrap();
    let note = signed(&key, "cell-1", 9).note();
    let lines = [
        ("solyx/", "log/", 1),
        ("\n9\n", "\n09\n", 2),
        ("=\n\n", "\n\n", 3),
        ("\n\n", "\nmore\n\n", 4),
        ("— ", "- ", 5),
    ];
    for (from, to, line) in lines {
        let error = SignedCheckpoint::parse(&note.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.line, line, "{error}");
    }
    assert!(SignedCheckpoint::parse("").is_err());
}

proptest! {
    #[test]
    fn no_text_stops_the_reader(at in 0_usize..300, byte in 0_u8..128, cut in 0_usize..300) {
        let mut note = signed(&SecretKey::generate(None).unwrap(), "cell-1", 9).note().into_bytes();
        let place = at % note.len();
        note[place] = byte;
        note.truncate(cut.max(1));
        if let Ok(text) = std::str::from_utf8(&note) {
            let _ = SignedCheckpoint::parse(text);
        }
    }
}
