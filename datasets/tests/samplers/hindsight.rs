//! Transitions with goals in hindsight.

use super::*;

/// Share of each goal row over many draws.
fn shares(sampler: &HindsightSampler, row: usize, mix: &GoalMix) -> BTreeMap<usize, f64> {
    const DRAWS: u32 = 100_000;
    let mut rng = Seed::new(1).rng();
    let mut counts = BTreeMap::new();
    for _ in 0..DRAWS {
        *counts
            .entry(sampler.draw_goal(row, mix, &mut rng))
            .or_insert(0u32) += 1;
    }
    counts
        .into_iter()
        .map(|(row, count)| (row, f64::from(count) / f64::from(DRAWS)))
        .collect()
}

fn assert_shares(found: &BTreeMap<usize, f64>, expected: &[(usize, f64)]) {
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        expected.iter().map(|(row, _)| *row).collect::<Vec<_>>()
    );
    for (row, share) in expected {
        // Five standard errors of a share over 100,000 draws are below 0.008.
        assert!(
            (found[row] - share).abs() < 0.008,
            "row {row}: {} instead of {share}",
            found[row]
        );
    }
}

#[test]
fn uniform_goals_give_the_ends_half_the_weight() {
    // i = 10, E = 13: an episode of 14 transitions.
    assert_shares(
        &shares(&sampler(&[14], 0.99), 10, &FUTURE),
        &[(11, 0.25), (12, 0.5), (13, 0.25)],
    );
}

#[test]
fn geometric_goals_pile_up_at_the_end() {
    assert_shares(
        &shares(&sampler(&[3], 0.5), 0, &GEOMETRIC_FUTURE),
        &[(1, 0.5), (2, 0.5)],
    );
    let expected = [(1, 0.1), (2, 0.09), (3, 0.081), (4, 0.729)];
    assert_shares(
        &shares(&sampler(&[5], 0.9), 0, &GEOMETRIC_FUTURE),
        &expected,
    );
}

#[test]
fn geometric_distances_have_the_published_mean_and_median() {
    for (discount, mean, median) in [(0.99, 100.0, 69), (0.995, 200.0, 139)] {
        let sampler = sampler(&[100_000], discount);
        let mut rng = Seed::new(3).rng();
        let mut distances: Vec<usize> = (0..100_000)
            .map(|_| sampler.draw_future(0, true, &mut rng))
            .collect();
        distances.sort_unstable();
        let found = distances.iter().sum::<usize>() as f64 / distances.len() as f64;
        assert!((found / mean - 1.0).abs() < 0.02, "mean {found}");
        assert!(
            distances[distances.len() / 2].abs_diff(median) <= 2,
            "median {}",
            distances[distances.len() / 2]
        );
        assert_eq!(distances[0], 1);
    }
}

#[test]
fn the_last_transition_is_its_own_goal_and_a_success() {
    let sampler = sampler(&[4, 6], 0.99);
    let mut rng = Seed::new(0).rng();
    for mix in [FUTURE, GEOMETRIC_FUTURE] {
        assert_eq!(sampler.draw_goal(3, &mix, &mut rng), 3);
    }
    let mut batch = TransitionBatch {
        rows: vec![3, 2],
        value_goal_rows: vec![3, 3],
        actor_goal_rows: vec![3, 8],
        ..TransitionBatch::default()
    };
    sampler.gather(&mut batch);
    assert_eq!(
        (&batch.rewards[..], &batch.masks[..]),
        (&[0.0, -1.0][..], &[0.0, 1.0][..])
    );
    assert_eq!(batch.next_observations, [4.0, 0.0, 7.0, 3.0, 0.0, 7.0]);
    assert_eq!(batch.actor_goals, [3.0, 0.0, 7.0, 8.0, 1.0, 7.0]);
    assert_eq!(batch.actions, [3.0, -3.0, 2.0, -2.0]);

    let config = HindsightConfig {
        negative_rewards: false,
        ..HindsightConfig::default()
    };
    HindsightSampler::new(sampler.dataset().clone(), config)
        .unwrap()
        .gather(&mut batch);
    assert_eq!(
        (&batch.rewards[..], &batch.masks[..]),
        (&[1.0, 0.0][..], &[0.0, 1.0][..])
    );
}

/// Reward, mask and last row of the sum of up to `n_step` rewards from `row` towards `goal`.
fn several_steps(sampler: &HindsightSampler, row: usize, goal: usize) -> (f32, f32, usize) {
    let mut batch = TransitionBatch {
        rows: vec![row],
        value_goal_rows: vec![goal],
        actor_goal_rows: vec![goal],
        ..TransitionBatch::default()
    };
    sampler.gather(&mut batch);
    let later = batch.bootstrap_observations()[0] as usize;
    (batch.rewards[0], batch.masks[0], later)
}

#[test]
fn rewards_of_several_steps_are_added_up() {
    let with = |n_step, negative_rewards| {
        let config = HindsightConfig {
            discount: 0.5,
            n_step,
            negative_rewards,
            ..HindsightConfig::default()
        };
        HindsightSampler::new(ramp(&[14, 3]), config).unwrap()
    };
    let (five, rewarded) = (with(5, true), with(5, false));
    for (row, goal, expected, reward) in [
        // Nothing is paid at the goal, on the way to it γ⁰ + γ¹, past it nothing counts.
        (2, 2, (0.0, 0.0, 7), 1.0),
        (2, 4, (-1.5, 0.0, 7), 0.25),
        // Five steps, at whose end the value takes over; also at the goal itself, as with single steps.
        (2, 7, (-1.9375, 0.0625, 7), 0.0),
        (2, 9, (-1.9375, 0.0625, 7), 0.0),
        (2, 1, (-1.9375, 0.0625, 7), 0.0),
        // Three steps are left of the episode, whose last state is row 14; row 15 is of the next one.
        (11, 2, (-1.75, 0.25, 14), 0.0),
        (11, 15, (-1.75, 0.25, 14), 0.0),
        (13, 13, (0.0, 0.0, 14), 1.0),
    ] {
        assert_eq!(several_steps(&five, row, goal), expected, "{row} to {goal}");
        let (found, mask, later) = several_steps(&rewarded, row, goal);
        assert_eq!((found, mask, later), (reward, expected.1, expected.2));
    }
    let index = five.dataset().episodes();
    let mut batch = TransitionBatch::with_size(100);
    five.sample(&mut Seed::new(0).rng(), &mut batch);
    assert_eq!(batch.later_observations.len(), 300);
    let ends = |i| index.end_row(batch.rows[i]) + 1 - batch.rows[i];
    assert!((0..100).all(|i| batch.steps(i) == ends(i).min(5)));
    with(1, true).sample(&mut Seed::new(0).rng(), &mut batch);
    assert_eq!(batch.bootstrap_observations(), batch.next_observations);
    assert!((0..100).all(|i| batch.steps(i) == 1));
}

proptest! {
    /// A sum of n rewards and the value after them is n single steps, one after another, for any values.
    #[test]
    fn several_steps_are_single_steps_one_after_another(
        transitions in 1_usize..12, row in 0_usize..12, goal in 0_usize..30, n_step in 1_usize..15, negative_rewards: bool,
        values in vec(-50.0_f64..50.0, 13),
    ) {
        prop_assume!(row < transitions);
        let with = |n_step| {
            let config = HindsightConfig { discount: 0.9, n_step, negative_rewards, ..HindsightConfig::default() };
            HindsightSampler::new(ramp(&[transitions, 20]), config).unwrap()
        };
        let goal = goal.min(transitions + 20);
        let target = |sampler: &HindsightSampler, row, value: &dyn Fn(usize) -> f64| {
            let (reward, mask, later) = several_steps(sampler, row, goal);
            f64::from(reward) + 0.9 * f64::from(mask) * value(later)
        };
        let single = with(1);
        let mut expected = values.clone();
        for steps in 1..=n_step.min(transitions - row) {
            let after = expected.clone();
            let from = row..=transitions - steps;
            for (from, expected) in from.clone().zip(&mut expected[from]) {
                *expected = target(&single, from, &|later| after[later]);
            }
        }
        let found = target(&with(n_step), row, &|later| values[later]);
        prop_assert!((found - expected[row]).abs() < 1e-4, "{} instead of {}", found, expected[row]);
    }
}

#[test]
fn goals_come_in_the_shares_of_the_mixture() {
    // With 400 episodes a random goal is in the same episode in 1 of 400 draws.
    let sampler = sampler(&[50; 400], 0.99);
    let mut batch = TransitionBatch::with_size(40_000);
    sampler.sample(&mut Seed::new(5).rng(), &mut batch);
    let index = sampler.dataset().episodes();
    let share = |condition: &dyn Fn(usize, usize) -> bool| {
        let pairs = batch.rows.iter().zip(&batch.value_goal_rows);
        pairs.filter(|(row, goal)| condition(**row, **goal)).count() as f64 / 40_000.0
    };
    let same = share(&|row, goal| index.of(row) == index.of(goal));
    let current = share(&|row, goal| row == goal);
    assert!((same - (0.7 + 0.3 / 400.0)).abs() < 0.012, "{same}");
    // A trajectory goal of the last transition (1 in 50) is the current row too.
    assert!((current - (0.2 + 0.5 / 50.0)).abs() < 0.011, "{current}");
    assert!(
        batch
            .rows
            .iter()
            .zip(&batch.actor_goal_rows)
            .all(|(&row, &goal)| index.of(row) == index.of(goal))
    );
    assert!(batch.value_goal_rows != batch.actor_goal_rows);
}

#[test]
fn rows_and_random_goals_are_uniform_over_valid_rows() {
    let lengths = [3, 1, 7, 2];
    let sampler = sampler(&lengths, 0.99);
    assert_eq!(sampler.num_transitions(), 13);
    let random = GoalMix {
        current: 0.0,
        trajectory: 0.0,
        random: 1.0,
        geometric: false,
        stitched: 0.0,
    };
    let mut rng = Seed::new(11).rng();
    let (mut rows, mut goals) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..130_000 {
        let row = sampler.draw_row(&mut rng);
        *rows.entry(row).or_insert(0.0) += 1.0;
        *goals
            .entry(sampler.draw_goal(row, &random, &mut rng))
            .or_insert(0.0) += 1.0;
    }
    for counts in [rows, goals] {
        assert!(
            counts
                .keys()
                .all(|&row| sampler.dataset().episodes().is_valid(row))
        );
        assert_eq!(counts.len(), 13);
        // Chi-square with 12 degrees of freedom: 32.9 is passed by chance once in 1000.
        let chi_square: f64 = counts
            .values()
            .map(|count: &f64| (count - 10_000.0).powi(2) / 10_000.0)
            .sum();
        assert!(chi_square < 32.9, "{chi_square}");
    }
}

#[test]
fn subgoals_are_those_of_hiql() {
    let dataset = ramp(&[1001, 40]);
    let with = |actor| {
        HindsightSampler::new(
            dataset.clone(),
            HindsightConfig {
                actor,
                ..HindsightConfig::default()
            },
        )
        .unwrap()
    };
    let mut rng = Seed::new(2).rng();
    let random = with(GoalMix {
        current: 0.0,
        trajectory: 0.0,
        random: 1.0,
        geometric: false,
        stitched: 0.0,
    });
    for _ in 0..100 {
        let subgoals = random.draw_subgoals(0, 25, &mut rng);
        assert_eq!((subgoals.low_goal, subgoals.high_target), (25, 25));
    }
    let future = with(FUTURE);
    let mut near = 0;
    for _ in 0..10_000 {
        let subgoals = future.draw_subgoals(0, 25, &mut rng);
        assert_eq!(subgoals.low_goal, 25);
        assert_eq!(subgoals.high_target, subgoals.high_goal.min(25));
        near += usize::from(subgoals.high_goal < 25);
    }
    // 24 of 1000 rows are nearer than the horizon: the golden case of a goal at row 10 has the target 10.
    assert!((150..350).contains(&near), "{near}");

    let mut batch = SubgoalBatch::with_size(64);
    future.sample_subgoals(25, &mut rng, &mut batch);
    for (i, &row) in batch.transitions.rows.iter().enumerate() {
        let end = dataset.episodes().end_row(row);
        assert_eq!(batch.low_goals[3 * i], (row + 25).min(end) as f32);
        assert_eq!(batch.high_targets[3 * i], batch.high_target_rows[i] as f32);
        assert_eq!(
            batch.transitions.actor_goals[3 * i],
            batch.transitions.actor_goal_rows[i] as f32
        );
    }
    // Where goals hide entries, the target of the high level is there whole and as a goal.
    let features = FeatureView {
        goal_columns: Some(vec![0]),
        ..FeatureView::default()
    };
    let hiding = with(FUTURE)
        .with_features(features, Normalizer::default())
        .unwrap();
    hiding.sample_subgoals(25, &mut rng, &mut batch);
    for (i, &row) in batch.high_target_rows.iter().enumerate() {
        let entries = 3 * i..3 * i + 3;
        let episode = dataset.episodes().of(row) as f32;
        assert_eq!(
            batch.high_targets[entries.clone()],
            [row as f32, episode, 7.0]
        );
        assert_eq!(batch.high_subgoals[entries.clone()], [row as f32, 0.0, 0.0]);
        assert_eq!(batch.low_goals[entries][1..], [0.0, 0.0]);
    }
}

#[test]
fn bad_settings_are_named() {
    let build = |config| {
        HindsightSampler::new(ramp(&[3]), config)
            .unwrap_err()
            .to_string()
    };
    let mix = GoalMix {
        current: 0.5,
        trajectory: 0.5,
        random: 0.5,
        geometric: true,
        stitched: 0.0,
    };
    let message = build(HindsightConfig {
        value: mix,
        ..HindsightConfig::default()
    });
    assert_eq!(
        message,
        "`value`: current 0.5 + trajectory 0.5 + random 0.5 = 1.5, expected 1 with each in 0..=1"
    );
    let message = build(HindsightConfig {
        discount: 1.0,
        ..HindsightConfig::default()
    });
    assert_eq!(message, "`discount` is 1, expected a number in 0..1");
    let message = build(HindsightConfig {
        n_step: 0,
        ..HindsightConfig::default()
    });
    assert_eq!(message, "`n_step` is 0, expected at least 1");
    let problem = HindsightSampler::over(ramp(&[3]), &[1], HindsightConfig::default()).unwrap_err();
    assert_eq!(
        problem,
        SamplerError::NoSuchEpisode {
            episode: 1,
            episodes: 1
        }
    );

    let windows = |config| WindowSampler::new(ramp(&[3, 4]), config).unwrap_err();
    let problem = windows(WindowConfig {
        window: 6,
        ..WindowConfig::default()
    });
    assert_eq!(
        problem.to_string(),
        "there are no windows: `window` is 6, the longest episode has 4 transitions"
    );
    let problem = windows(WindowConfig {
        window: 0,
        ..WindowConfig::default()
    });
    assert!(matches!(
        problem,
        SamplerError::Setting {
            field: "window",
            ..
        }
    ));
}

#[test]
fn hindsight_batches_show_what_the_view_shows() {
    let view = FeatureView {
        columns: Some(vec![2, 0]),
        goal_columns: Some(vec![0]),
        normalizer: Normalizer::ZScore {
            mean: vec![1.0, 5.0],
            std: vec![2.0, 0.5],
        },
    };
    let plain = sampler(&[20, 30], 0.99);
    let seen = plain
        .clone()
        .with_features(view.clone(), Normalizer::Identity)
        .unwrap();
    let draw = |sampler: &HindsightSampler| {
        let mut batch = TransitionBatch::with_size(50);
        sampler.sample(&mut Seed::new(2).rng(), &mut batch);
        batch
    };
    let (plain, seen) = (draw(&plain), draw(&seen));
    assert_eq!((plain.observation_dim, seen.observation_dim), (3, 2));
    let mut row = [0.0; 2];
    for i in 0..50 {
        let (full, part) = (3 * i..3 * i + 3, 2 * i..2 * i + 2);
        view.observe(&plain.next_observations[full.clone()], &mut row);
        assert_eq!(seen.next_observations[part.clone()], row);
        view.observe_goal(&plain.value_goals[full.clone()], &mut row);
        assert_eq!(seen.value_goals[part.clone()], row);
        view.observe_goal(&plain.actor_goals[full], &mut row);
        assert_eq!(seen.actor_goals[part], row);
        assert_eq!(row[0], 0.0);
    }
}
