//! What an index has certainly not seen: a filter of fixed size in memory, so that most new ids need no look-up on disk.
//!
//! A Bloom filter in blocks of one cache line (Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom filters",
//! 2007). Keys are hashes already, so that their own bytes choose block and bits. Beyond some thirty million keys it says
//! "perhaps" more and more often, which costs time and is never wrong.

/// Words of a block: one cache line.
const BLOCK_WORDS: usize = 8;
/// Blocks; all of them together take 32 MiB.
const BLOCKS: usize = 1 << 19;
/// Bits set by each key.
const BITS: usize = 6;

/// A filter of keys.
pub(crate) struct Filter(Vec<[u64; BLOCK_WORDS]>);

impl Filter {
    /// A filter without keys.
    pub(crate) fn new() -> Self {
        Self(vec![[0; BLOCK_WORDS]; BLOCKS])
    }

    /// Takes a key in.
    pub(crate) fn add(&mut self, key: &[u8; 32]) {
        let (block, bits) = places(key);
        for bit in bits {
            self.0[block][bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether a key may have been taken in; false is certain.
    pub(crate) fn may_have(&self, key: &[u8; 32]) -> bool {
        let (block, bits) = places(key);
        bits.into_iter().all(|bit| self.0[block][bit / 64] >> (bit % 64) & 1 == 1)
    }
}

fn places(key: &[u8; 32]) -> (usize, [usize; BITS]) {
    let part = |at: usize| usize::from(u16::from_le_bytes([key[at], key[at + 1]]));
    let block = (part(0) | part(2) << 16) % BLOCKS;
    let bit = |i: usize| part(4 + 2 * i) % (BLOCK_WORDS * 64);
    (block, std::array::from_fn(bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 32] {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    #[test]
    fn it_has_every_key_it_took_in_and_few_others() {
        let mut filter = Filter::new();
        (0..200_000).for_each(|n| filter.add(&key(n)));
        assert!((0..200_000).all(|n| filter.may_have(&key(n))));
        let wrong = (200_000..400_000).filter(|n| filter.may_have(&key(*n))).count();
        assert!(wrong < 200, "{wrong} of 200,000");
    }
}
