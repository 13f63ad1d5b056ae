//! Damaged snapshots are refused, and errors say what is wrong.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Seed, task and goal are among the first bytes; the physics, with a checksum of its own, is most of the rest.
const AHEAD_OF_THE_PHYSICS: std::ops::Range<usize> = 0..256;

proptest! {
    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing(
        env in any::<Index>(),
        ahead in AHEAD_OF_THE_PHYSICS,
        anywhere in any::<Index>(),
        mask in 1..=u8::MAX,
        kept in any::<Index>(),
    ) {
        let all = specs();
        let spec = &all[env.index(all.len())];
        let mut env = make(spec);
        env.reset(1, &ResetOptions::default()).unwrap();
        let whole = env.snapshot();
        // The running episode is another one, so that a part of the snapshot would show in it.
        env.reset(2, &ResetOptions::default()).unwrap();
        let before = env.snapshot();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            bytes
        };
        let damaged = [
            flipped(ahead.min(whole.len() - 1)),
            flipped(anywhere.index(whole.len())),
            whole[..kept.index(whole.len())].to_vec(),
            [&whole[..], &[mask][..]].concat(),
        ];
        for (damage, bytes) in damaged.iter().enumerate() {
            let refused = matches!(env.restore(bytes), Err(EnvError::BadSnapshot { .. }));
            prop_assert!(refused, "{} accepts damage {damage}", spec.id);
            prop_assert!(env.snapshot() == before, "{} after damage {damage}", spec.id);
        }
        env.restore(&whole).unwrap();
        prop_assert!(env.snapshot() == whole, "{}", spec.id);
    }
}

#[test]
fn an_error_says_what_is_wrong_with_a_snapshot() {
    let mut env = make(telic_envs::spec("point-maze-medium").unwrap());
    env.reset(0, &ResetOptions::default()).unwrap();
    let good = env.snapshot();
    let mut of_blocks = make(telic_envs::spec("block-push").unwrap());
    of_blocks.reset(0, &ResetOptions::default()).unwrap();
    let mut error = |bytes: &[u8]| env.restore(bytes).unwrap_err().to_string();
    assert_eq!(
        error(&good[..3]),
        "cannot restore `point-maze-medium`: it has 3 bytes, expected at least 4"
    );
    assert_eq!(
        error(&good[..good.len() - 1]),
        "cannot restore `point-maze-medium`: its checksum is wrong; it is cut off, damaged, or no snapshot of this version"
    );
    assert_eq!(
        error(&of_blocks.snapshot()),
        "cannot restore `point-maze-medium`: it is of `block-push` version 0, expected version 2"
    );
}
