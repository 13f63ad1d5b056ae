//! Windows with goals of their future.

use super::*;

/// Every goal row that was drawn for each of the windows of one episode, which are numbered by their first row.
fn goal_rows(sampler: &WindowSampler) -> Vec<Vec<Option<usize>>> {
    let mut batch = WindowBatch::default();
    let all: Vec<usize> = (0..sampler.num_windows()).collect();
    sampler.sample_windows(&all, &mut Seed::new(9).rng(), &mut batch);
    assert_eq!(batch.rows, all);
    goal_rows_of(sampler)
}

/// Every goal row that was drawn for each window.
fn goal_rows_of(sampler: &WindowSampler) -> Vec<Vec<Option<usize>>> {
    let mut rng = Seed::new(9).rng();
    let mut seen = vec![std::collections::BTreeSet::new(); sampler.num_windows()];
    let all: Vec<usize> = (0..sampler.num_windows()).collect();
    let mut batch = WindowBatch::default();
    for _ in 0..500 {
        sampler.sample_windows(&all, &mut rng, &mut batch);
        for (seen, goal) in seen.iter_mut().zip(&batch.goal_rows) {
            seen.insert(*goal);
        }
    }
    seen.into_iter()
        .map(|rows| rows.into_iter().collect())
        .collect()
}

#[test]
fn reference_windows_are_those_of_beso() {
    // T = 10, W = 4, G = 2.
    let config = WindowConfig {
        window: 4,
        goal_length: 2,
        goal_range: GoalRange::Reference,
        ..WindowConfig::default()
    };
    let sampler = window_sampler(&[10], config);
    assert_eq!(sampler.num_windows(), 7);
    let some = |range: std::ops::RangeInclusive<usize>| range.map(Some).collect::<Vec<_>>();
    let expected = vec![
        some(4..=7),
        some(5..=7),
        some(6..=7),
        some(7..=7),
        vec![None],
        vec![None],
        vec![None],
    ];
    assert_eq!(goal_rows(&sampler), expected);
}

#[test]
fn a_horizon_keeps_goals_near() {
    let sampler = window_sampler(
        &[10],
        WindowConfig {
            window: 4,
            goal_horizon: 3,
            ..WindowConfig::default()
        },
    );
    let expected: Vec<Vec<Option<usize>>> = (4..=10)
        .map(|first| (first..=10.min(first + 2)).map(Some).collect())
        .collect();
    assert_eq!(goal_rows(&sampler), expected);
}

#[test]
fn default_windows_reach_the_final_state() {
    let sampler = window_sampler(
        &[10],
        WindowConfig {
            window: 4,
            goal_length: 2,
            ..WindowConfig::default()
        },
    );
    let some = |range: std::ops::RangeInclusive<usize>| range.map(Some).collect::<Vec<_>>();
    let expected = vec![
        some(4..=9),
        some(5..=9),
        some(6..=9),
        some(7..=9),
        some(8..=9),
        some(9..=9),
        // One frame is left: the final state, twice.
        some(10..=10),
    ];
    assert_eq!(goal_rows(&sampler), expected);
    let mut batch = WindowBatch::default();
    sampler.sample_windows(&[6], &mut Seed::new(0).rng(), &mut batch);
    assert_eq!(batch.goals, [10.0, 0.0, 7.0, 10.0, 0.0, 7.0]);
    assert_eq!(
        batch
            .observations
            .iter()
            .step_by(3)
            .copied()
            .collect::<Vec<_>>(),
        [6.0, 7.0, 8.0, 9.0]
    );
    assert_eq!(
        batch.actions.iter().step_by(2).copied().collect::<Vec<_>>(),
        [6.0, 7.0, 8.0, 9.0]
    );
}

#[test]
fn short_episodes_are_dropped_and_reported() {
    let sampler = window_sampler(&[3, 5, 4, 9], WindowConfig::default());
    assert_eq!(sampler.dropped_episodes(), [0, 2]);
    assert_eq!(sampler.num_windows(), 1 + 5);
}

#[test]
fn short_windows_begin_with_the_episode() {
    let config = WindowConfig {
        window: 3,
        short_windows: true,
        ..WindowConfig::default()
    };
    let sampler = window_sampler(&[2, 4], config);
    assert_eq!(sampler.num_windows(), 2 + 4);
    assert_eq!(sampler.dropped_episodes(), [0_usize; 0]);
    let mut batch = WindowBatch::default();
    sampler.sample_windows(&[0, 1, 2, 3, 4, 5], &mut Seed::new(0).rng(), &mut batch);
    assert_eq!(batch.missing, [2, 1, 2, 1, 0, 0]);
    // The first episode has rows 0 to 2, the second one 3 to 7; the last row of each is its final state.
    assert_eq!(batch.rows, [0, 0, 3, 3, 3, 4]);
    let firsts =
        |values: &[f32], dim: usize| -> Vec<f32> { values.iter().step_by(dim).copied().collect() };
    assert_eq!(
        firsts(&batch.observations, 3),
        [
            [0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0],
            [3.0, 3.0, 3.0],
            [3.0, 3.0, 4.0],
            [3.0, 4.0, 5.0],
            [4.0, 5.0, 6.0]
        ]
        .concat()
    );
    assert_eq!(
        firsts(&batch.actions, 2),
        [
            [0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, 3.0],
            [0.0, 3.0, 4.0],
            [3.0, 4.0, 5.0],
            [4.0, 5.0, 6.0]
        ]
        .concat()
    );
    let goals = goal_rows_of(&sampler);
    assert_eq!(goals[0], [Some(1), Some(2)]);
    assert_eq!(goals[5], [Some(7)]);
}

#[test]
fn block_push_view_hides_goal_entries_after_scaling() {
    let config = WindowConfig {
        window: 2,
        observation_columns: Some(vec![0, 2]),
        goal_columns: Some(vec![0]),
        goal_range: GoalRange::Reference,
        ..WindowConfig::default()
    };
    let scaler = Normalizer::ZScore {
        mean: vec![1.0, 5.0],
        std: vec![2.0, 1.0],
    };
    let actions = Normalizer::MinMax {
        low: vec![0.0, -8.0],
        high: vec![8.0, 0.0],
    };
    let sampler = window_sampler(&[5], config)
        .with_normalizers(scaler.clone(), actions)
        .unwrap();
    let mut batch = WindowBatch::default();
    sampler.sample_windows(&[1, 3], &mut Seed::new(0).rng(), &mut batch);
    // T = 5, W = 2, G = 1: window 1 has e = 3 and the goal row 3; window 3 has e = 5 > T − G and a goal of zeros, which
    // scaling moves to −mean / std as in the release.
    assert_eq!(batch.goal_rows, [Some(3), None]);
    assert_eq!(batch.goals, [1.0, 0.0, -0.5, 0.0]);
    assert_eq!(batch.observations, [0.0, 2.0, 0.5, 2.0, 1.0, 2.0, 1.5, 2.0]);
    assert_eq!(batch.actions[..4], [-0.75, 0.75, -0.5, 0.5]);

    // Inference sees the same numbers.
    let view: &FeatureView = sampler.view();
    let mut seen = [0.0; 2];
    view.observe_goal(&[3.0, 9.0, 7.0], &mut seen);
    assert_eq!(seen, [1.0, 0.0]);
    view.observe(&[1.0, 9.0, 7.0], &mut seen);
    assert_eq!(seen, [0.0, 2.0]);

    let problem = window_sampler(&[5], WindowConfig::default())
        .with_normalizers(scaler, Normalizer::Identity)
        .unwrap_err();
    assert_eq!(
        problem.to_string(),
        "the observation normaliser has 2 entries, expected 3"
    );
}
