mod chain;
mod losses;
mod sampling;
mod steps;

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::TensorData;

use super::*;
use crate::test_agents::{self, A, agent, entries};

fn small() -> SmoreConfig {
    let mut config = SmoreConfig {
        target_rate: 0.05,
        ..Default::default()
    };
    config.goals.discount = 0.9;
    config.score.hidden = vec![48, 48];
    config.value.hidden = vec![48, 48];
    config.actor.hidden = vec![48, 48];
    config.optimizer.lr = 2e-3;
    // The schedule would end before the line is learned.
    config.lr_schedule = LrSchedule::default();
    config
}

/// A fresh agent for data of this shape.
fn agent_for(config: &SmoreConfig, observation_dim: usize, action_dim: usize) -> SmoreAgent<A> {
    let data = crate::synthetic_dataset(observation_dim, action_dim, 2, 5).unwrap();
    let task = TrainingTask {
        data: DataPart::all(Arc::new(data)),
        ..test_agents::line(1)
    };
    Smore::new_agent::<A>(config, &task, &Default::default()).unwrap()
}

fn column(values: &[f32]) -> Tensor<Flex, 2> {
    let data = TensorData::new(values.to_vec(), [values.len(), 1]);
    Tensor::from_data(data, &Default::default())
}

/// A column that asks for its gradient.
fn leaf(values: &[f32]) -> Tensor<A, 2> {
    Tensor::<A, 2>::from_inner(column(values)).require_grad()
}

/// Every entry is the expected one up to a share of it, or of 1 where it is smaller.
fn near<const D: usize>(found: Tensor<Flex, D>, expected: &[f64], tolerance: f64) {
    let found = entries(found);
    assert_eq!(found.len(), expected.len());
    for (entry, value) in found.iter().zip(expected) {
        assert!(
            (entry - value).abs() < tolerance * value.abs().max(1.0),
            "{found:?}, not {expected:?}"
        );
    }
}

#[test]
fn parameter_counts_are_the_published_ones() {
    for (observation_dim, goal_dim, action_dim, counts) in [
        (25, 3, 4, [140_289, 140_801, 140_040]),
        (63, 15, 20, [157_185, 153_601, 156_968]),
        (3, 3, 3, [134_401, 135_169, 134_150]),
        (10, 3, 4, [136_449, 136_961, 136_200]),
    ] {
        let agent = agent_for(&SmoreConfig::default(), observation_dim, action_dim);
        let scores = agent.scores.module();
        assert_eq!(scores.len(), 2);
        assert_eq!(scores[0].num_params(), scores[1].num_params());
        let found = [
            scores[0].num_params(),
            agent.value.module().num_params(),
            agent.actor.module().num_params(),
        ];
        // Goals are as wide as observations here: so many rows of 256 weights more.
        let more = (observation_dim - goal_dim) * 256;
        assert_eq!(found.map(|count| count - more), counts);
    }
}

#[test]
fn a_line_is_learned() {
    for loss in [ScoreLoss::Stable, ScoreLoss::Plain] {
        let mut config = small();
        config.loss = loss;
        test_agents::check_line::<Smore>(&config, 2500);
    }
    let mut config = small();
    config.extraction = Extraction::DdpgBc;
    config.alpha = 0.5;
    test_agents::check_line::<Smore>(&config, 2500);
}

#[test]
fn the_line_is_learned_from_several_steps() {
    let mut config = small();
    config.goals.n_step = 3;
    test_agents::check_line::<Smore>(&config, 2000);
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    for extraction in [Extraction::Awr, Extraction::DdpgBc] {
        let config = SmoreConfig {
            extraction,
            ..small()
        };
        test_agents::check_resume::<Smore>(&config);
    }
}

#[test]
fn a_fresh_slow_copy_is_equal() {
    let state = agent::<Smore>(&small()).state();
    let scores = state.sub_map(SCORES).sub_map(crate::trained::NETWORK);
    let slow = state.sub_map(SLOW_SCORES);
    assert_eq!(scores.first_difference(&slow), None);
    // Nor is one of the two scores the other.
    let [first, second] = ["0", "1"].map(|score| scores.sub_map(score));
    assert!(first.first_difference(&second).is_some());
}
