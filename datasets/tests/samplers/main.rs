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

fn window_sampler(transitions: &[usize], config: WindowConfig) -> WindowSampler {
    WindowSampler::new(ramp(transitions), config).unwrap()
}

mod golden;
mod hindsight;
mod windows;

#[test]
fn same_seed_same_batches() {
    let sampler = sampler(&[20, 30], 0.99);
    let windows = window_sampler(&[20, 30], WindowConfig::default());
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
    let several = HindsightConfig {
        n_step: 3,
        ..HindsightConfig::default()
    };
    let several = HindsightSampler::new(ramp(&[20, 31]), several).unwrap();
    let [hindsight, several] = [sampler(&[20, 31], 0.99), several].map(|sampler| {
        sampler
            .with_features(features.clone(), Normalizer::Identity)
            .unwrap()
    });
    let config = WindowConfig {
        goal_columns: Some(vec![0]),
        ..WindowConfig::default()
    };
    let windows = window_sampler(&[20, 31], config)
        .with_normalizers(scaler, Normalizer::Identity)
        .unwrap();
    let mut rng = Seed::new(0).rng();
    let mut batch = TransitionBatch::with_size(100);
    let mut window = WindowBatch::with_size(100);
    let mut subgoals = SubgoalBatch::with_size(100);
    let mut round = |hindsight: &HindsightSampler, windows: &WindowSampler| {
        several.sample(&mut rng, &mut batch);
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
        lengths in vec(1usize..20, 1..6), window in 1usize..8, goal_length in 1usize..4, horizon in 0usize..6,
        seed: u64, reference: bool,
    ) {
        let goal_range = if reference { GoalRange::Reference } else { GoalRange::ThroughFinalState };
        let config = WindowConfig { window, goal_length, goal_range, goal_horizon: horizon, ..WindowConfig::default() };
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
                prop_assert!(horizon == 0 || goal < row + window + horizon);
                prop_assert!(!reference || goal + goal_length < final_row);
                prop_assert!((0..goal_length).all(|t| goals[3 * t] == (goal + t).min(final_row) as f32));
            } else {
                prop_assert!(reference && row + window + goal_length >= final_row);
                prop_assert!(goals.iter().all(|value| *value == 0.0));
            }
        }
    }
}
