//! Merkle trees with the hashing of RFC 6962 section 2.1 (SHA-256), and proofs that something is in one or that one goes on from another.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, HashableLeaf, InclusionProof, RootHash};
use sha2::Sha256;
use sha2::digest::Update;
use solyx_schemas::hash::Hash32;

/// A tree over leaves of bytes. It keeps its leaves and every node: 64 bytes and the leaf for each.
#[derive(Clone, Debug)]
pub struct HashTree<L: AsRef<[u8]>>(MemoryBackedTree<Sha256, Leaf<L>>);

/// What an epoch is in the tree of epochs: its chain hash, and the same hash of its record without the overcommitments, which name
/// runs of any tenant. Both are equal where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochLeaf {
    /// blake3 of the epoch record's Avro body as written.
    pub chain_hash: Hash32,
    /// blake3 of the same body with an empty list of overcommitments.
    pub shown_hash: Hash32,
}

/// The tree of epochs: the leaf at place n is that of epoch n.
pub type EpochTree = HashTree<[u8; 64]>;

impl EpochLeaf {
    /// The 64 bytes that are hashed as the leaf.
    pub fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.chain_hash.0);
        bytes[32..].copy_from_slice(&self.shown_hash.0);
        bytes
    }
}

#[derive(Clone, Copy, Debug)]
struct Leaf<L>(L);

impl<L: AsRef<[u8]>> HashableLeaf for Leaf<L> {
    fn hash<H: Update>(&self, hasher: &mut H) {
        hasher.update(self.0.as_ref());
    }
}

impl<L: AsRef<[u8]>> Default for HashTree<L> {
    fn default() -> Self {
        Self(MemoryBackedTree::new())
    }
}

impl<L: AsRef<[u8]>> HashTree<L> {
    /// The tree of these leaves.
    pub fn of(leaves: impl IntoIterator<Item = L>) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: L) {
        self.0.push(Leaf(leaf));
    }

    /// The tree of its first leaves, or of all when it has no more.
    pub fn first(&self, size: u64) -> Self
    where
        L: Copy,
    {
        let leaves = self.0.items().iter().take(usize::try_from(size).unwrap_or(usize::MAX));
        Self::of(leaves.map(|leaf| leaf.0))
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.0.len()
    }

    /// Its root; that of no leaves is the hash of nothing.
    pub fn root(&self) -> Hash32 {
        Hash32((*self.0.root().as_bytes()).into())
    }

    /// The path from a leaf to the root, lowest first (RFC 6962 section 2.1.1). None when there is no such leaf.
    pub fn inclusion(&self, index: u64) -> Option<Vec<Hash32>> {
        let place = usize::try_from(index).ok().filter(|_| index < self.size())?;
        Some(hashes(self.0.prove_inclusion(place).as_bytes()))
    }

    /// What shows that this tree goes on from its first `size` leaves (RFC 6962 section 2.1.2). None when it has fewer; empty when
    /// there is nothing to show, as for no leaves or all of them.
    pub fn consistency(&self, size: u64) -> Option<Vec<Hash32>> {
        let added = self.size().checked_sub(size)?;
        if size == 0 || added == 0 {
            return Some(Vec::new());
        }
        Some(hashes(self.0.prove_consistency(usize::try_from(added).ok()?).as_bytes()))
    }
}

fn hashes(bytes: &[u8]) -> Vec<Hash32> {
    bytes.as_chunks().0.iter().map(|hash| Hash32(*hash)).collect()
}

fn bytes(hashes: &[Hash32]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn root_hash(root: Hash32, size: u64) -> RootHash<Sha256> {
    RootHash::new(root.0.into(), size)
}

/// The largest tree that is looked at: places of its nodes stay within 64 bits.
const SIZE_MAX: u64 = 1 << 62;

/// Whether a leaf stands at a place of the tree of this size and root.
pub fn verify_inclusion(leaf: &[u8], index: u64, (size, root): (u64, Hash32), path: &[Hash32]) -> bool {
    let Ok(proof) = InclusionProof::try_from_bytes(bytes(path)) else { return false };
    size <= SIZE_MAX && root_hash(root, size).verify_inclusion(&Leaf(leaf), index, &proof).is_ok()
}

/// Whether the tree `new` goes on from the tree `old`; each is a size and a root.
pub fn verify_consistency(old: (u64, Hash32), new: (u64, Hash32), proof: &[Hash32]) -> bool {
    if old.0 > new.0 || new.0 > SIZE_MAX {
        return false;
    }
    // Any tree goes on from no leaves, and each from itself.
    if old.0 == 0 || old.0 == new.0 {
        let same = old.0 == 0 && old.1 == EpochTree::default().root() || old == new;
        return same && proof.is_empty();
    }
    let Ok(proof) = ConsistencyProof::try_from_bytes(bytes(proof)) else { return false };
    root_hash(new.1, new.0).verify_consistency(&root_hash(old.1, old.0), &proof).is_ok()
}
