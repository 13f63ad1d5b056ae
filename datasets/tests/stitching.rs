//! Goals of other episodes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::Array2;
use telic_datasets::{
    Dataset, Episode, GoalMix, HindsightConfig, HindsightSampler, Metadata, TransitionBatch,
    WindowBatch, WindowConfig, WindowSampler,
};
use telic_seed::Seed;

/// Episodes through these states; what follows the last one is not a valid row.
fn chains(episodes: &[&[f32]]) -> Arc<Dataset> {
    let episodes: Vec<Episode> = episodes
        .iter()
        .map(|states| Episode {
            observations: Array2::from_shape_fn((states.len() + 1, 1), |(row, _)| {
                states.get(row).copied().unwrap_or(-9.0)
            }),
            actions: Array2::zeros((states.len() + 1, 1)),
            ..Episode::default()
        })
        .collect();
    Arc::new(Dataset::from_episodes(&episodes, Metadata::default()).unwrap())
}

fn stitched(share: f64, clusters: usize) -> HindsightConfig {
    HindsightConfig {
        actor: GoalMix {
            stitched: share,
            ..GoalMix::UNIFORM_FUTURE
        },
        clusters,
        ..HindsightConfig::default()
    }
}

/// How often each state is the goal of the first row.
fn goals(
    dataset: &Arc<Dataset>,
    draws: usize,
    mut draw: impl FnMut() -> usize,
) -> BTreeMap<i32, f64> {
    let mut shares = BTreeMap::new();
    for _ in 0..draws {
        let state = dataset.observations()[[draw(), 0]] as i32;
        *shares.entry(state).or_insert(0.0) += 1.0 / draws as f64;
    }
    shares
}

#[test]
fn goals_follow_the_law_of_the_paper() {
    let dataset = chains(&[&[0.0, 1.0, 2.0], &[2.0, 3.0, 4.0]]);
    let law = [
        (1, 1.0 / 4.0),
        (2, 7.0 / 12.0),
        (3, 1.0 / 12.0),
        (4, 1.0 / 12.0),
    ];
    let mut rng = Seed::new(1).rng();

    let config = stitched(1.0, 5);
    let sampler = HindsightSampler::new(dataset.clone(), config).unwrap();
    let found = goals(&dataset, 100_000, || {
        sampler.draw_goal(0, &config.actor, &mut rng)
    });
    let windows = WindowSampler::new(
        dataset.clone(),
        WindowConfig {
            window: 1,
            stitched: 1.0,
            clusters: 5,
            ..WindowConfig::default()
        },
    )
    .unwrap();
    let mut batch = WindowBatch::default();
    let of_windows = goals(&dataset, 100_000, || {
        windows.sample_windows(&[0], &mut rng, &mut batch);
        batch.goal_rows[0].unwrap()
    });
    for found in [found, of_windows] {
        assert_eq!(found.len(), 4, "{found:?}");
        for (state, share) in law {
            assert!((found[&state] - share).abs() < 0.006, "{state}: {found:?}");
        }
    }

    for _ in 0..1000 {
        let subgoals = sampler.draw_subgoals(0, 1, &mut rng);
        assert_eq!(
            subgoals.high_target, 1,
            "at most one step on, whatever the goal"
        );
    }
}

#[test]
fn a_share_of_zero_changes_no_bit() {
    let dataset = chains(&[&[0.0, 1.0, 2.0], &[2.0, 3.0, 4.0]]);
    let draw = |config| {
        let sampler = HindsightSampler::new(dataset.clone(), config).unwrap();
        let mut batch = TransitionBatch::with_size(100);
        sampler.sample(&mut Seed::new(3).rng(), &mut batch);
        batch
    };
    assert_eq!(draw(stitched(0.0, 2)), draw(HindsightConfig::default()));
    assert_ne!(draw(stitched(1.0, 2)), draw(HindsightConfig::default()));
}

#[test]
fn bad_shares_are_named() {
    let dataset = chains(&[&[0.0, 1.0]]);
    let error = |config| {
        HindsightSampler::new(dataset.clone(), config)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(stitched(1.5, 2)),
        "`stitched` is 1.5, expected a share in 0..=1"
    );
    assert_eq!(
        error(stitched(0.5, 0)),
        "`clusters` is 0, expected at least 1"
    );
}
