//! The state's digest: a hash of a set that changes at the cost of what changed.
//!
//! LtHash16: every entry is expanded to 1,024 lanes of 16 bits, and the set's hash is their sum, lane by lane, modulo 2^16. An
//! entry's lanes are the key stream of AES-256 in counter mode under its blake3 hash: every processor of a server has AES, and
//! makes 2,048 bytes of it several times faster than blake3 extends its own output. Adding and taking away an entry are
//! additions, so order does not matter. Collisions are as hard as a short-vector problem in a lattice of this size (Bellare and
//! Micciancio, EUROCRYPT '97; Lewi, Kim, Maykov and Weis, "Securing Update Propagation with Homomorphic Hashing", 2019), which a
//! plain XOR or sum of short hashes is not.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use solyx_schemas::hash::Hash32;

const LANES: usize = 1_024;

/// The hash of a set of entries.
#[derive(Clone, PartialEq, Eq)]
pub struct SetHash(Box<[u16; LANES]>);

impl Default for SetHash {
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl SetHash {
    /// Takes in the entry of a table.
    pub fn add(&mut self, table: u8, key: &[u8], value: &[u8]) {
        let lanes = expand(table, key, value);
        for (sum, lane) in self.0.iter_mut().zip(lanes.chunks_exact(2)) {
            *sum = sum.wrapping_add(u16::from_le_bytes([lane[0], lane[1]]));
        }
    }

    /// Takes out an entry taken in before.
    pub fn remove(&mut self, table: u8, key: &[u8], value: &[u8]) {
        let lanes = expand(table, key, value);
        for (sum, lane) in self.0.iter_mut().zip(lanes.chunks_exact(2)) {
            *sum = sum.wrapping_sub(u16::from_le_bytes([lane[0], lane[1]]));
        }
    }

    /// Takes in all entries of another set.
    pub fn add_all(&mut self, other: &Self) {
        for (sum, lane) in self.0.iter_mut().zip(other.0.iter()) {
            *sum = sum.wrapping_add(*lane);
        }
    }

    /// The digest of 32 bytes.
    pub fn digest(&self) -> Hash32 {
        let mut bytes = [0; LANES * 2];
        for (pair, lane) in bytes.chunks_exact_mut(2).zip(self.0.iter()) {
            pair.copy_from_slice(&lane.to_le_bytes());
        }
        Hash32(*blake3::hash(&bytes).as_bytes())
    }
}

fn expand(table: u8, key: &[u8], value: &[u8]) -> [u8; LANES * 2] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut lanes = [0; LANES * 2];
    // The key is of this entry alone, so that the counter may begin at nought.
    let mut stream = Ctr128BE::<Aes256>::new(hasher.finalize().as_bytes().into(), &[0; 16].into());
    stream.apply_keystream(&mut lanes);
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_set_does_not_depend_on_how_it_came_about() {
        let mut direct = SetHash::default();
        direct.add(1, b"a", b"1");
        direct.add(1, b"b", b"3");
        let mut detour = SetHash::default();
        detour.add(1, b"b", b"2");
        detour.add(1, b"a", b"1");
        detour.remove(1, b"b", b"2");
        detour.add(1, b"b", b"3");
        assert_eq!(direct.digest(), detour.digest());
        detour.remove(1, b"a", b"1");
        assert_ne!(direct.digest(), detour.digest());
    }

    /// The expected digest was made with other implementations: blake3 for Python and `openssl enc -aes-256-ctr`.
    #[test]
    fn the_digest_is_what_other_tools_compute() {
        let mut set = SetHash::default();
        set.add(1, b"a", b"1");
        set.add(2, b"b", b"3");
        assert_eq!(set.digest().to_string(), "4c7f641cb2817427d9a697cd75a18c53385883f575ac4cc34876c63d9d03a4ff");
    }

    #[test]
    fn bytes_cannot_wander_between_key_and_value() {
        let mut one = SetHash::default();
        one.add(1, b"ab", b"c");
        let mut other = SetHash::default();
        other.add(1, b"a", b"bc");
        assert_ne!(one.digest(), other.digest());
    }
}
