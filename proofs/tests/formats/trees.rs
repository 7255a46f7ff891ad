//! Trees against the vectors of Certificate Transparency, and laws of paths and proofs.

use proptest::prelude::*;
use solyx_proofs::{EpochTree, HashTree, verify_consistency, verify_inclusion};
use solyx_schemas::hash::{Hash32, merkle_root};

/// Leaves, roots, paths and proofs of the tests of Certificate Transparency's own implementation of RFC 6962.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const A: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const B: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const C: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const D: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const E: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const F: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
/// Place of the leaf, size of the tree, path.
const PATHS: [(u64, u64, &[&str]); 5] =
    [(0, 1, &[]), (0, 8, &[A, B, C]), (5, 8, &[D, E, ROOTS[3]]), (2, 3, &[ROOTS[1]]), (1, 5, &[ROOTS[0], B, D])];
/// Sizes of both trees, proof.
const PROOFS: [(u64, u64, &[&str]); 4] = [(1, 1, &[]), (1, 8, &[A, B, C]), (6, 8, &[F, E, ROOTS[3]]), (2, 5, &[B, D])];

fn hash(digits: &str) -> Hash32 {
    Hash32::parse(digits).unwrap()
}

fn known(size: u64) -> HashTree<Vec<u8>> {
    HashTree::of(LEAVES.iter().take(size as usize).map(|leaf| hex::decode(leaf).unwrap()))
}

fn root(size: u64) -> (u64, Hash32) {
    (size, hash(ROOTS[size as usize - 1]))
}

#[test]
fn roots_paths_and_proofs_are_those_of_certificate_transparency() {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(known(0).root(), hash(nothing));
    for size in 1..=8 {
        assert_eq!((size, known(size).root()), root(size));
    }
    for (place, size, path) in PATHS {
        let path: Vec<Hash32> = path.iter().map(|digits| hash(digits)).collect();
        assert_eq!(known(size).inclusion(place), Some(path.clone()), "leaf {place} of {size}");
        let leaf = hex::decode(LEAVES[place as usize]).unwrap();
        assert!(verify_inclusion(&leaf, place, root(size), &path));
    }
    for (old, new, proof) in PROOFS {
        let proof: Vec<Hash32> = proof.iter().map(|digits| hash(digits)).collect();
        assert_eq!(known(new).consistency(old), Some(proof.clone()), "{old} to {new}");
        assert!(verify_consistency(root(old), root(new), &proof));
    }
}

#[test]
fn a_tree_goes_on_only_from_its_own_beginning() {
    let proof = known(8).consistency(6).unwrap();
    assert!(!verify_consistency((6, root(5).1), root(8), &proof));
    assert!(!verify_consistency(root(6), (8, root(7).1), &proof));
    assert!(!verify_consistency(root(6), root(8), &proof[1..]));
    assert!(!verify_consistency(root(8), root(6), &proof));
    let empty = (0, EpochTree::default().root());
    assert!(verify_consistency(empty, root(8), &[]));
    assert!(!verify_consistency((0, root(8).1), root(8), &[]));
    assert!(!verify_consistency(root(8), (8, root(7).1), &[]));
    assert!(!verify_inclusion(b"", u64::MAX - 1, (u64::MAX, root(8).1), &[]));
    assert!(!verify_consistency(root(8), (u64::MAX, root(8).1), &[]));
    assert_eq!(known(3).consistency(4), None);
    assert_eq!(known(3).inclusion(3), None);
}

proptest! {
    #[test]
    fn every_leaf_has_its_path_and_no_other(size in 1_u64..70, place in 0_u64..70, bit in 0_usize..256, old in 0_u64..70) {
        let place = place % size;
        let old = old % (size + 1);
        let leaf = |i: u64| chain(i).0;
        let tree = HashTree::of((0..size).map(leaf));
        let of = (size, tree.root());
        let own = merkle_root(&(0..size).map(chain).collect::<Vec<_>>());
        prop_assert_eq!(of.1, own, "the roots of epoch records are hashed alike");
        let mut path = tree.inclusion(place).unwrap();
        prop_assert!(verify_inclusion(&leaf(place), place, of, &path));
        prop_assert!(!verify_inclusion(&leaf(size), place, of, &path));
        let before = HashTree::of((0..old).map(leaf));
        let proof = tree.consistency(old).unwrap();
        prop_assert!(verify_consistency((old, before.root()), of, &proof));
        if let Some(hash) = path.get_mut(bit % 7) {
            hash.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_inclusion(&leaf(place), place, of, &path));
        }
    }
}

fn chain(i: u64) -> Hash32 {
    solyx_schemas::hash::sha256(&i.to_le_bytes())
}
