//! Draws of fixed seeds, row by row: another order of draws, or another use of them, moves every run.
//!
//! The transitions are also those of `Dataset.sample(16, seed=1, …)` of the Python package.

use super::*;

const TRANSITIONS: [usize; 3] = [9, 14, 6];

fn stream() -> telic_seed::Rng {
    Seed::new(1).child("batches").rng()
}

fn transitions(config: HindsightConfig) -> [Vec<usize>; 3] {
    let sampler = HindsightSampler::new(ramp(&TRANSITIONS), config).unwrap();
    let mut batch = TransitionBatch::with_size(16);
    sampler.sample(&mut stream(), &mut batch);
    [batch.rows, batch.value_goal_rows, batch.actor_goal_rows]
}

#[test]
fn transitions_keep_their_draws() {
    let config = HindsightConfig {
        discount: 0.9,
        ..HindsightConfig::default()
    };
    let [rows, value_goals, actor_goals] = transitions(config);
    assert_eq!(
        rows,
        [5, 23, 28, 10, 17, 25, 11, 8, 17, 16, 0, 5, 23, 27, 14, 3]
    );
    assert_eq!(
        value_goals,
        [8, 23, 30, 23, 17, 29, 20, 8, 21, 4, 8, 8, 23, 27, 14, 6]
    );
    assert_eq!(
        actor_goals,
        [7, 23, 29, 12, 22, 29, 20, 8, 19, 21, 6, 6, 23, 30, 22, 5]
    );
}

#[test]
fn stitched_goals_keep_their_draws() {
    let mut config = HindsightConfig {
        discount: 0.9,
        clusters: 5,
        ..HindsightConfig::default()
    };
    (config.value.stitched, config.actor.stitched) = (0.5, 1.0);
    let [rows, value_goals, actor_goals] = transitions(config);
    assert_eq!(
        rows,
        [5, 1, 25, 25, 30, 25, 22, 23, 12, 3, 21, 7, 11, 6, 22, 8]
    );
    assert_eq!(
        value_goals,
        [8, 8, 30, 30, 29, 30, 18, 23, 13, 2, 5, 27, 28, 6, 23, 23]
    );
    assert_eq!(
        actor_goals,
        [3, 6, 27, 30, 30, 26, 21, 21, 19, 5, 23, 7, 19, 8, 21, 7]
    );
}

fn windows(goal_range: GoalRange, goal_horizon: usize) -> (Vec<usize>, Vec<Option<usize>>) {
    let config = WindowConfig {
        window: 4,
        goal_length: 2,
        goal_range,
        goal_horizon,
        ..WindowConfig::default()
    };
    let mut batch = WindowBatch::with_size(16);
    window_sampler(&TRANSITIONS, config).sample(&mut stream(), &mut batch);
    (batch.rows, batch.goal_rows)
}

#[test]
fn windows_keep_their_draws() {
    const ROWS: [usize; 16] = [3, 17, 14, 12, 17, 26, 10, 1, 14, 26, 16, 14, 25, 15, 20, 12];
    let goals = |rows: [usize; 16]| rows.map(Some).to_vec();
    assert_eq!(
        windows(GoalRange::ThroughFinalState, 0),
        (
            ROWS.to_vec(),
            goals([8, 21, 23, 19, 23, 30, 15, 8, 21, 30, 22, 22, 29, 20, 24, 22])
        )
    );
    assert_eq!(
        windows(GoalRange::ThroughFinalState, 3),
        (
            ROWS.to_vec(),
            goals([8, 21, 20, 17, 23, 30, 14, 7, 19, 30, 21, 20, 29, 19, 24, 18])
        )
    );
    // Windows without a goal draw none, so the ones behind them are others.
    let (rows, goals) = windows(GoalRange::Reference, 0);
    assert_eq!(
        rows,
        [3, 17, 5, 14, 12, 17, 26, 13, 3, 1, 14, 26, 26, 16, 14, 25]
    );
    let or_zero: Vec<usize> = goals.iter().map(|row| row.unwrap_or(0)).collect();
    assert_eq!(
        or_zero,
        [0, 21, 0, 21, 18, 21, 0, 18, 0, 6, 20, 0, 0, 21, 20, 0]
    );
}
