//! Named random streams: every random draw in Telic comes from a [`Seed`].
//!
//! A seed is a node in a tree. [`Seed::child`] and [`Seed::index`] name its children, [`Seed::rng`]
//! opens the ChaCha stream of a node. Two nodes with different paths give unrelated streams, so a
//! draw added to one part of the program moves no other part, and work may be split over any
//! number of threads as long as each piece derives its own node.
//!
//! ```
//! use telic_seed::Seed;
//! use rand::RngExt;
//!
//! let run = Seed::new(7);
//! let mut goals = run.child("goals").index(3).rng();
//! let mut noise = run.child("noise").index(3).rng();
//! assert_ne!(goals.random::<u64>(), noise.random::<u64>());
//! assert_eq!(run.child("goals"), Seed::new(7).child("goals"));
//! ```

use rand::SeedableRng;
use serde::{Deserialize, Serialize};

/// The generator behind every draw: ChaCha with 8 rounds, the same bits on every platform.
pub type Rng = rand_chacha::ChaCha8Rng;

/// A node in the tree of random streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

impl Seed {
    /// The root of a tree, from a number that the user chose.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The number behind this node; `Seed::new(seed.value())` is the same node.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The child with this name.
    #[must_use]
    pub fn child(self, name: &str) -> Self {
        // FNV-1a over the name, then a mix with the parent, so that neither alone fixes the child.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mix(self.0 ^ mix(hash)))
    }

    /// The child with this number, for episodes, workers, rows, steps.
    #[must_use]
    pub fn index(self, index: u64) -> Self {
        Self(mix(
            mix(self.0 ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(mix(index))
        ))
    }

    /// Opens the stream of this node.
    pub fn rng(self) -> Rng {
        Rng::seed_from_u64(self.0)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose output bits each depend on all input bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;

    #[test]
    fn streams_keep_their_bits() {
        // A change here changes every dataset and every run: it is a breaking change.
        let seed = Seed::new(42).child("episode").index(3);
        assert_eq!(seed.value(), 0x7002_73eb_dce3_b4e2);
        let mut rng = seed.rng();
        assert_eq!(
            [rng.random::<u32>(), rng.random::<u32>()],
            [4_197_013_028, 585_309_428]
        );
    }

    #[test]
    fn a_path_is_not_its_permutation() {
        let seed = Seed::new(0);
        let nodes = BTreeSet::from([
            seed.value(),
            seed.child("a").value(),
            seed.child("b").value(),
            seed.child("a").child("b").value(),
            seed.child("b").child("a").value(),
            seed.child("ab").value(),
            seed.index(0).value(),
            seed.index(1).value(),
            seed.index(0).index(1).value(),
            seed.index(1).index(0).value(),
        ]);
        assert_eq!(nodes.len(), 10);
    }

    proptest! {
        #[test]
        fn indices_do_not_collide(seed: u64, start in 0u64..1_000_000) {
            let children: BTreeSet<_> =
                (start..start + 1000).map(|i| Seed::new(seed).index(i).value()).collect();
            prop_assert_eq!(children.len(), 1000);
        }
    }
}
