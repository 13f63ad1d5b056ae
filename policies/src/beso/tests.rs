//! Learning and acting as a whole, on a small made-up dataset.

use std::sync::Arc;

use burn::backend::{Autodiff, Flex};
use ndarray::{Array1, Array2, s};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use telic_datasets::{Dataset, Episode, Metadata, WindowBatch};
use telic_seed::{Rng, Seed};

use super::history::{HistoryMode, HistoryTraining};
use super::network::NetworkKind;
use super::sampler::SamplerKind;
use super::schedule::ScheduleKind;
use super::*;
use crate::{Agent, DataPart, Metrics};

type A = Autodiff<Flex>;

/// A point that moves straight to a goal, whose place is what its first two entries end at. The third entry is noise.
fn dataset() -> Arc<Dataset> {
    let episodes: Vec<Episode> = (0..12)
        .map(|episode| {
            let mut rng = Seed::new(7).index(episode).rng();
            let angle = rng.random_range(0.0..std::f32::consts::TAU);
            let direction = [0.1 * angle.cos(), 0.1 * angle.sin()];
            let observations = Array2::from_shape_fn((15, 3), |(t, i)| match i {
                2 => rng.random_range(-1.0..1.0),
                i => direction[i] * t as f32,
            });
            let actions = Array2::from_shape_fn((15, 2), |(_, i)| direction[i]);
            Episode {
                observations,
                actions,
                ..Episode::default()
            }
        })
        .collect();
    let metadata = Metadata {
        env: "points".into(),
        goal_indices: vec![0, 1],
        ..Metadata::default()
    };
    Arc::new(Dataset::from_episodes(&episodes, metadata).unwrap())
}

fn small() -> BesoConfig {
    let mut config = BesoConfig {
        window: 3,
        goal_length: 2,
        ..Default::default()
    };
    config.network.embed_dim = 32;
    config.network.heads = 4;
    config.network.layers = 2;
    config.optimizer.lr = 1e-3;
    config
}

/// The same with the other network.
fn small_mlp() -> BesoConfig {
    let mut config = small();
    config.network.kind = NetworkKind::Mlp;
    config.network.hidden = vec![64, 64];
    config
}

/// The same for past actions that are clean, in training and in acting.
fn clean(mut config: BesoConfig) -> BesoConfig {
    config.history_training = HistoryTraining::Clean;
    config.sampler.history = HistoryMode::Clamp;
    config
}

fn task() -> TrainingTask {
    let dataset = dataset();
    let episodes = (0..dataset.num_episodes()).collect();
    TrainingTask {
        data: DataPart { dataset, episodes },
        seed: Seed::new(3),
        steps: 1000,
        batch_size: 64,
    }
}

fn agent(config: &BesoConfig) -> BesoAgent<A> {
    Beso::new_agent::<A>(config, &task(), &Default::default()).unwrap()
}

fn batch(agent: &BesoAgent<A>, seed: u64) -> WindowBatch {
    let mut sampler = agent.sampler(&task().data, 64).unwrap();
    let mut batch = sampler.new_batch();
    sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
    batch
}

fn train(
    agent: &mut BesoAgent<A>,
    updates: std::ops::Range<u64>,
    batch_of: impl Fn(u64) -> WindowBatch,
) -> Vec<Metrics> {
    updates
        .map(|k| {
            agent
                .update(&batch_of(k), &mut Seed::new(11).index(k).rng())
                .read()
        })
        .collect()
}

fn mean(metrics: &[Metrics], name: &str) -> f64 {
    metrics
        .iter()
        .map(|metrics| metrics.get(name).unwrap())
        .sum::<f64>()
        / metrics.len() as f64
}

/// A policy with trained weights.
fn policy() -> BesoPolicy<Flex> {
    policy_of(&small())
}

fn policy_of(config: &BesoConfig) -> BesoPolicy<Flex> {
    BesoPolicy::load(config, &trained_model(config), &Default::default()).unwrap()
}

fn trained_model(config: &BesoConfig) -> Model {
    let mut agent = agent(config);
    let windows = batch(&agent, 1);
    train(&mut agent, 0..100, |_| windows.clone());
    agent.model()
}

fn set(policy: &mut BesoPolicy<Flex>, text: &str) {
    policy.configure(&toml::from_str(text).unwrap()).unwrap();
}

fn draw(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    let mut rng = Seed::new(seed).rng();
    Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

fn streams(rows: usize) -> Vec<Rng> {
    (0..rows as u64)
        .map(|row| Seed::new(9).index(row).rng())
        .collect()
}

fn first_action(policy: &mut BesoPolicy<Flex>, goal: u64) -> Array2<f32> {
    policy.reset(1);
    let mut actions = Array2::zeros((1, 2));
    policy
        .act(
            draw(1, 3, 1).view(),
            draw(1, 3, goal).view(),
            &mut streams(1),
            &mut actions,
        )
        .unwrap();
    actions
}

mod acting;
mod guidance;
mod learning;
mod loss;
