//! Which transitions and goals both halves of a batch have.

use std::collections::BTreeSet;

use ndarray::Array2;
use telic_datasets::{Dataset, Episode, Metadata};

use super::*;
use crate::test_agents::batch;

/// Rows of an episode; all but the last start a transition.
const ROWS: usize = 50;
/// What is counted is as frequent as expected up to so many standard errors.
const ERRORS: f64 = 5.0;

/// Row and goal of the draws of both halves, from so many episodes.
fn draws(config: &SmoreConfig, episodes: usize) -> [Vec<(usize, usize)>; 2] {
    let data = crate::synthetic_dataset(1, 1, episodes, ROWS - 1).unwrap();
    let data = DataPart::all(Arc::new(data));
    let mut sampler = agent::<Smore>(config).sampler(&data, 4096).unwrap();
    let (mut halves, mut rng) = (sampler.new_batch(), Seed::new(5).rng());
    let mut draws = [vec![], vec![]];
    for _ in 0..50 {
        sampler.sample(&mut rng, &mut halves);
        for (draws, half) in draws.iter_mut().zip([&halves.hindsight, &halves.entering]) {
            let goals = half.value_goal_rows.iter().copied();
            draws.extend(half.rows.iter().copied().zip(goals));
        }
    }
    draws
}

/// So many of the draws are such.
fn check_share(draws: &[(usize, usize)], expected: f64, holds: impl Fn(usize, usize) -> bool) {
    let count = draws.iter().filter(|(row, goal)| holds(*row, *goal));
    let share = count.count() as f64 / draws.len() as f64;
    let error = (expected * (1.0 - expected) / draws.len() as f64).sqrt();
    assert!(
        (share - expected).abs() <= ERRORS * error,
        "{share}, not {expected}"
    );
}

/// From step t of 0..=48 the step of a later goal is uniform over a line from t + 1 to 48, rounded;
/// that from 48 is 48. What is published is of the release, whose goals cross the ends of episodes.
#[test]
fn later_goals_have_the_law_of_the_line() {
    let mut config = small();
    (config.goals.value.trajectory, config.goals.value.random) = (1.0, 0.0);
    let [hindsight, entering] = draws(&config, 4);
    let one_episode = |row: usize, goal: usize| row / ROWS == goal / ROWS;
    check_share(&hindsight, 1.0, |row, goal| {
        one_episode(row, goal) && row <= goal
    });
    check_share(&entering, 1.0, |row, goal| {
        one_episode(row, goal) && row + 1 == goal
    });

    // How far goals are.
    check_share(&hindsight, 1.0 / 49.0, |row, goal| goal == row);
    check_share(&hindsight, 0.065_693_51, |row, goal| goal == row + 1);
    check_share(&hindsight, 0.502_467_49, |row, goal| goal <= row + 9);
    let sum: usize = hindsight.iter().map(|(row, goal)| goal - row).sum();
    let (mean, deviation) = (sum as f64 / hindsight.len() as f64, 10.543_152);
    let error = deviation / (hindsight.len() as f64).sqrt();
    assert!((mean - 12.489_796).abs() < ERRORS * error, "{mean}");

    // Which states they are, the same in both halves.
    for (step, share) in [
        (0, 0.0),
        (1, 0.000_217_108),
        (24, 0.013_935_49),
        (40, 0.036_379_73),
        (47, 0.080_366_61),
        (48, 0.086_101_67),
        (49, 0.0),
    ] {
        for half in [&hindsight, &entering] {
            check_share(half, share, |_, goal| goal % ROWS == step);
        }
    }
    // So entries of step 31, 47 and 48 are 34.9, 7.9 and 4.2 times as frequent in e as in h.
    for (step, share) in [
        (31, 1.0 / (2.0 * 17.0 * 49.0)),
        (47, 1.0 / 98.0),
        (48, 1.0 / 49.0),
    ] {
        check_share(&hindsight, share, |row, goal| {
            goal == row + 1 && goal % ROWS == step
        });
    }
}

#[test]
fn a_fifth_of_the_goals_is_any_state_in_both_halves() {
    let [hindsight, entering] = draws(&small(), 50);
    check_share(&hindsight, 0.2 * 49.0 / 50.0, |row, goal| {
        row / ROWS != goal / ROWS
    });
    check_share(&entering, 1.0, |row, goal| {
        row / ROWS == goal / ROWS && row + 1 == goal
    });
    // The first state of an episode is entered by nothing; the second one stands in for it in e.
    for (step, of_h, of_e) in [
        (0, 0.2 / 49.0, 0.0),
        (1, 0.004_255_32, 0.008_336_95),
        (24, 0.015_230_02, 0.015_230_02),
        (49, 0.0, 0.0),
    ] {
        check_share(&hindsight, of_h, |_, goal| goal % ROWS == step);
        check_share(&entering, of_e, |_, goal| goal % ROWS == step);
    }
}

#[test]
fn entering_transitions_end_at_their_goals() {
    let agent = agent::<Smore>(&small());
    let halves = batch(&agent, 1);
    let task = test_agents::line(1);
    let episodes = task.data.dataset.episodes();
    let entering = &halves.entering;
    for (row, goal) in entering.rows.iter().zip(&entering.value_goal_rows) {
        assert_eq!(row + 1, *goal);
        assert_eq!(episodes.of(*row), episodes.of(*goal));
    }
    assert_eq!(entering.next_observations, entering.value_goals);
}

#[test]
fn an_episode_of_one_transition_enters_its_end() {
    let episode = |rows: usize| Episode {
        observations: Array2::zeros((rows, 1)),
        actions: Array2::zeros((rows, 1)),
        ..Default::default()
    };
    let episodes = [episode(2), episode(2), episode(6)];
    let dataset = Dataset::from_episodes(&episodes, Metadata::default()).unwrap();
    let data = DataPart::all(Arc::new(dataset));
    let agent = agent::<Smore>(&small());
    let mut sampler = agent.sampler(&data, 64).unwrap();
    let mut halves = sampler.new_batch();
    sampler.sample(&mut Seed::new(1).rng(), &mut halves);
    let entering = &halves.entering;
    assert!(entering.rows.contains(&0) && entering.rows.contains(&2));
    for (row, goal) in entering.rows.iter().zip(&entering.value_goal_rows) {
        assert_eq!(row + 1, *goal);
    }
}

/// Trajectories 0-1-2, 2-3-4 and 2-1-0; each stays where it ends, so that its end can be a goal.
fn trajectories() -> DataPart {
    let episodes = [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [2.0, 1.0, 0.0]].map(|states: [f32; 3]| {
        let actions = [states[1] - states[0], states[2] - states[1], 0.0, 0.0];
        Episode {
            observations: Array2::from_shape_fn((4, 1), |(row, _)| states[row.min(2)]),
            actions: Array2::from_shape_fn((4, 1), |(row, _)| actions[row]),
            ..Episode::default()
        }
    });
    let dataset = Dataset::from_episodes(&episodes, Metadata::default()).unwrap();
    DataPart::all(Arc::new(dataset))
}

/// State, action (1 right, −1 left, 0 none) and goal of everything that is drawn for both halves.
fn supports(value: GoalMix) -> [BTreeSet<[i32; 3]>; 2] {
    let mut config = small();
    config.goals.value = value;
    config.goals.clusters = 5;
    let mut sampler = agent::<Smore>(&config)
        .sampler(&trajectories(), 20_000)
        .unwrap();
    let mut halves = sampler.new_batch();
    sampler.sample(&mut Seed::new(2).rng(), &mut halves);
    [&halves.hindsight, &halves.entering].map(|half| {
        (0..half.size)
            .map(|i| [half.observations[i], half.actions[i], half.value_goals[i]].map(|x| x as i32))
            .collect()
    })
}

#[test]
fn only_random_and_stitched_goals_are_of_other_trajectories() {
    let entries = BTreeSet::from([
        [0, 1, 1],
        [1, 1, 2],
        [2, 1, 3],
        [3, 1, 4],
        [2, -1, 1],
        [1, -1, 0],
    ]);
    let mut own = entries.clone();
    own.extend([[0, 1, 2], [2, 1, 4], [2, -1, 0]]);
    // Where they end.
    own.extend([[2, 0, 2], [4, 0, 4], [0, 0, 0]]);

    let later = GoalMix::UNIFORM_FUTURE;
    let [hindsight, entering] = supports(later);
    assert_eq!(hindsight, own);
    assert_eq!(entering, entries);

    // Nothing in the data goes from here to 4.
    let ways = [[0, 1, 4], [1, 1, 4], [1, -1, 4], [2, -1, 4]];
    assert!(ways.iter().all(|way| !own.contains(way)));
    let random = GoalMix {
        trajectory: 0.8,
        random: 0.2,
        ..later
    };
    let [hindsight, entering] = supports(random);
    assert!(ways.iter().all(|way| hindsight.contains(way)));
    assert!(hindsight.is_superset(&own));
    assert_eq!(entering, entries);

    // Those that lead through 2, where another one goes on to 4.
    let stitched = GoalMix {
        stitched: 1.0,
        ..later
    };
    let [hindsight, entering] = supports(stitched);
    assert!(ways[..2].iter().all(|way| hindsight.contains(way)));
    assert_eq!(entering, entries);
}
