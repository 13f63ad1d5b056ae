//! Distribution, determinism and memory of the samplers.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::Array2;
use proptest::collection::vec;
use proptest::prelude::*;
use telic_datasets::{
    Columns, Dataset, EpisodeIndex, FeatureView, GoalMix, GoalRange, HindsightConfig,
    HindsightSampler, Metadata, Normalizer, SamplerError, SubgoalBatch, TransitionBatch,
    WindowBatch, WindowConfig, WindowSampler,
};
use telic_seed::Seed;

/// Counts the allocations of the thread that runs a test.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: MemoryLayout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(action: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    action();
    ALLOCATIONS.with(Cell::get) - before
}

/// Episodes of the given numbers of transitions; entry 0 of an observation is its row, entry 1 its episode, entry 2 is constant.
fn ramp(transitions: &[usize]) -> Arc<Dataset> {
    let lengths: Vec<usize> = transitions.iter().map(|length| length + 1).collect();
    let index = EpisodeIndex::from_lengths(&lengths).unwrap();
    let rows = index.num_rows();
    let observations = Array2::from_shape_fn((rows, 3), |(row, entry)| {
        [row as f32, index.of(row) as f32, 7.0][entry]
    });
    let actions =
        Array2::from_shape_fn((rows, 2), |(row, entry)| [row as f32, -(row as f32)][entry]);
    let columns = Columns {
        observations,
        actions,
        ..Columns::default()
    };
    Arc::new(Dataset::new(columns, index, Metadata::default()).unwrap())
}

const FUTURE: GoalMix = GoalMix::UNIFORM_FUTURE;
const GEOMETRIC_FUTURE: GoalMix = GoalMix {
    geometric: true,
    stitched: 0.0,
    ..FUTURE
};

fn sampler(transitions: &[usize], discount: f64) -> HindsightSampler {
    HindsightSampler::new(
        ramp(transitions),
        HindsightConfig {
            discount,
            ..HindsightConfig::default()
        },
    )
    .unwrap()
}

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

fn windows(transitions: &[usize], config: WindowConfig) -> WindowSampler {
    WindowSampler::new(ramp(transitions), config).unwrap()
}

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
    let sampler = windows(&[10], config);
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
fn default_windows_reach_the_final_state() {
    let sampler = windows(
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
    let sampler = windows(&[3, 5, 4, 9], WindowConfig::default());
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
    let sampler = windows(&[2, 4], config);
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
    let sampler = windows(&[5], config)
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

    let problem = windows(&[5], WindowConfig::default())
        .with_normalizers(scaler, Normalizer::Identity)
        .unwrap_err();
    assert_eq!(
        problem.to_string(),
        "the observation normaliser has 2 entries, expected 3"
    );
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

#[test]
fn same_seed_same_batches() {
    let sampler = sampler(&[20, 30], 0.99);
    let windows = windows(&[20, 30], WindowConfig::default());
    let run = |seed| {
        let mut rng = Seed::new(seed).rng();
        let (mut batch, mut window) = (TransitionBatch::with_size(32), WindowBatch::with_size(32));
        for _ in 0..3 {
            sampler.sample(&mut rng, &mut batch);
            windows.sample(&mut rng, &mut window);
        }
        (batch, window)
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

#[test]
fn nothing_is_allocated_after_the_first_batch() {
    let scaler = Normalizer::ZScore {
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    };
    let features = FeatureView {
        columns: Some(vec![0, 1, 2]),
        goal_columns: Some(vec![1]),
        normalizer: scaler.clone(),
    };
    let hindsight = sampler(&[20, 31], 0.99)
        .with_features(features, Normalizer::Identity)
        .unwrap();
    let config = WindowConfig {
        goal_columns: Some(vec![0]),
        ..WindowConfig::default()
    };
    let windows = windows(&[20, 31], config)
        .with_normalizers(scaler, Normalizer::Identity)
        .unwrap();
    let mut rng = Seed::new(0).rng();
    let mut batch = TransitionBatch::with_size(100);
    let mut window = WindowBatch::with_size(100);
    let mut subgoals = SubgoalBatch::with_size(100);
    let mut round = |hindsight: &HindsightSampler, windows: &WindowSampler| {
        hindsight.sample(&mut rng, &mut batch);
        hindsight.sample_subgoals(5, &mut rng, &mut subgoals);
        windows.sample(&mut rng, &mut window);
    };
    assert!(allocations(|| round(&hindsight, &windows)) > 0);
    assert_eq!(
        allocations(|| (0..10).for_each(|_| round(&hindsight, &windows))),
        0
    );
}

proptest! {
    #[test]
    fn goals_of_the_episode_are_not_behind(
        lengths in vec(1usize..30, 1..8), seed: u64, discount in 0.0f64..0.999, geometric: bool,
    ) {
        let sampler = sampler(&lengths, discount);
        let index = sampler.dataset().episodes();
        let mut rng = Seed::new(seed).rng();
        for n in 0..sampler.num_transitions() {
            let row = sampler.valid_row(n);
            let goal = sampler.draw_future(row, geometric, &mut rng);
            prop_assert_eq!(index.of(goal), index.of(row));
            prop_assert!(goal <= index.end_row(row));
            prop_assert!(goal > row || row == index.end_row(row));
        }
    }

    #[test]
    fn a_batch_holds_the_rows_that_it_names(
        lengths in vec(1usize..30, 2..8), seed: u64, size in 1usize..50, keep in 1usize..7,
    ) {
        let dataset = ramp(&lengths);
        let episodes: Vec<usize> = (0..lengths.len()).filter(|episode| episode % keep == 0).collect();
        let sampler = HindsightSampler::over(dataset.clone(), &episodes, HindsightConfig::default()).unwrap();
        let mut batch = TransitionBatch::with_size(size);
        sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
        let index = dataset.episodes();
        for i in 0..size {
            let (row, goal) = (batch.rows[i], batch.value_goal_rows[i]);
            prop_assert!(index.is_valid(row) && index.is_valid(goal));
            prop_assert!(episodes.contains(&index.of(row)) && episodes.contains(&index.of(goal)));
            prop_assert_eq!(batch.observations[3 * i], row as f32);
            prop_assert_eq!(batch.next_observations[3 * i], row as f32 + 1.0);
            prop_assert_eq!(batch.value_goals[3 * i], goal as f32);
            prop_assert_eq!(batch.actions[2 * i + 1], -(row as f32));
            prop_assert_eq!(batch.masks[i], if row == goal { 0.0 } else { 1.0 });
            prop_assert_eq!(batch.rewards[i], -batch.masks[i]);
        }
    }

    #[test]
    fn windows_and_goals_stay_in_their_episode(
        lengths in vec(1usize..20, 1..6), window in 1usize..8, goal_length in 1usize..4, seed: u64, reference: bool,
    ) {
        let goal_range = if reference { GoalRange::Reference } else { GoalRange::ThroughFinalState };
        let config = WindowConfig { window, goal_length, goal_range, ..WindowConfig::default() };
        let Ok(sampler) = WindowSampler::new(ramp(&lengths), config) else {
            prop_assert!(lengths.iter().all(|&length| length < window));
            return Ok(());
        };
        let expected: usize = lengths.iter().map(|length| (length + 1).saturating_sub(window)).sum();
        prop_assert_eq!(sampler.num_windows(), expected);
        let index = sampler.dataset().episodes().clone();
        let mut batch = WindowBatch::with_size(40);
        sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
        for (i, (&row, &goal)) in batch.rows.iter().zip(&batch.goal_rows).enumerate() {
            let final_row = index.final_row(index.of(row));
            prop_assert!(row + window <= final_row);
            let observations = &batch.observations[i * window * 3..(i + 1) * window * 3];
            prop_assert!((0..window).all(|t| observations[3 * t] == (row + t) as f32));
            let goals = &batch.goals[i * goal_length * 3..(i + 1) * goal_length * 3];
            if let Some(goal) = goal {
                prop_assert!(goal >= row + window && goal <= final_row);
                prop_assert!(!reference || goal + goal_length < final_row);
                prop_assert!((0..goal_length).all(|t| goals[3 * t] == (goal + t).min(final_row) as f32));
            } else {
                prop_assert!(reference && row + window + goal_length >= final_row);
                prop_assert!(goals.iter().all(|value| *value == 0.0));
            }
        }
    }
}
