mod losses;
mod updates;

use burn::backend::Flex;
use ndarray::{Array1, Array2};

use super::*;
use crate::PolicyConfig;
use crate::hilp::prompt::PromptKind;
use crate::hilp::tests::cosines;
use crate::test_agents::{self, agent};

fn small() -> HilpZeroShotConfig {
    let mut config = HilpZeroShotConfig {
        embedding_dim: 8,
        embedding_width: 48,
        width: 48,
        trunk_width: 32,
        embedding_discount: 0.9,
        discount: 0.9,
        imitation: 0.01,
        embedding_target_rate: 0.05,
        target_rate: 0.05,
        ..Default::default()
    };
    config.goals.discount = 0.9;
    config.optimizer.lr = 2e-3;
    config.embedding_optimizer.lr = 2e-3;
    config.prompt.places = 500;
    config
}

#[test]
fn parameter_counts_are_the_published_ones() {
    let data = crate::synthetic_dataset(24, 6, 2, 5).unwrap();
    let task = TrainingTask {
        data: DataPart::all(std::sync::Arc::new(data)),
        ..test_agents::line(1)
    };
    let mut config = HilpZeroShotConfig::default();
    config.prompt.places = 2;
    let device = Default::default();
    let agent = HilpZeroShot::new_agent::<test_agents::A>(&config, &task, &device).unwrap();
    assert_eq!(agent.embeddings.module()[0].num_params(), 302_130);
    assert_eq!(agent.successor.module().num_params(), 3_363_940);
    assert_eq!(agent.actor.module().num_params(), 2_211_846);
}

#[test]
fn targets_match_published_values() {
    let device = Default::default();
    let row = |values: [f32; 2]| Tensor::<Flex, 2>::from_floats([values], &device);
    let latents = row([1.0, 1.0]);
    let slow = [row([2.0, -1.0]), row([0.5, 0.25])];
    let target = successor_target(row([0.3, -0.1]), slow, &latents, 0.98);
    let found = tensor_values(target.clone());
    assert!((found[0] - 0.79).abs() < 1e-6 && (found[1] - 0.145).abs() < 1e-6);
    for (scalar, expected) in [(false, 0.407_625), (true, 0.193_45)] {
        let heads = [row([1.0, 0.0]), row([0.0, 0.5])];
        let loss = tensor_values(successor_loss(heads, &target, &latents, scalar))[0];
        assert!((loss - expected).abs() < 1e-6, "{loss}, not {expected}");
    }
    let acted = with_noise(row([0.9, -0.9]), row([0.3, 0.1]));
    let found = tensor_values(acted);
    assert!((found[0] - 0.999_999).abs() < 1e-6 && (found[1] + 0.8).abs() < 1e-6);
}

/// Walks in three dimensions with two actions. Of a single number the first norm of φ leaves
/// little more than the sign.
fn walks() -> TrainingTask {
    let data = crate::synthetic_dataset(3, 2, 20, 30).unwrap();
    TrainingTask {
        data: DataPart::all(Arc::new(data)),
        ..test_agents::line(1)
    }
}

/// A fresh agent for them.
fn walker(config: &HilpZeroShotConfig) -> HilpZeroShotAgent<test_agents::A> {
    HilpZeroShot::new_agent::<test_agents::A>(config, &walks(), &Default::default()).unwrap()
}

/// A batch from them.
fn walk(
    agent: &HilpZeroShotAgent<test_agents::A>,
    batch_size: usize,
    seed: u64,
) -> TransitionBatch {
    let mut sampler = agent.sampler(&walks().data, batch_size).unwrap();
    let mut batch = sampler.new_batch();
    sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
    batch
}

/// Goals are directions of differences; as the reward of being at a goal they are not reliable, see the documentation.
fn small_differences() -> HilpZeroShotConfig {
    HilpZeroShotConfig {
        features: Features::Difference,
        ..small()
    }
}

#[test]
fn a_line_is_learned() {
    let mut config = HilpZeroShotConfig {
        scalar_loss: true,
        ..small_differences()
    };
    test_agents::check_line::<HilpZeroShot>(&config, 2000);
    config.prompt.kind = PromptKind::Plan;
    config.prompt.recursions = 1;
    test_agents::check_line::<HilpZeroShot>(&config, 2000);
}

#[test]
fn latents_of_the_data_are_asked_for_as_prompts_are() {
    let dim = small().embedding_dim;
    let drawn = |config: &HilpZeroShotConfig| {
        let agent = agent::<HilpZeroShot>(config);
        let batch = test_agents::batch(&agent, 3);
        let (tables, _) = agent.tables(&batch, &mut Seed::new(4).rng());
        let embedding = agent.embeddings.module()[0].valid();
        let ways = embedding.forward(tables.goals) - embedding.forward(tables.now);
        (tensor_values(tables.latents), tensor_values(ways))
    };
    let cosines_of = |config: &HilpZeroShotConfig| {
        let (latents, ways) = drawn(config);
        for latent in latents.chunks_exact(dim) {
            let square: f32 = latent.iter().map(|x| x * x).sum();
            assert!((square - dim as f32).abs() < 1e-3, "{square}");
        }
        cosines(&latents, &ways, dim)
    };
    let lead_there = |mix: f64| {
        let config = HilpZeroShotConfig {
            mix,
            ..small_differences()
        };
        let cosines = cosines_of(&config);
        cosines.iter().filter(|c| **c > 0.9999).count() as f64 / cosines.len() as f64
    };
    assert_eq!((lead_there(0.0), lead_there(1.0)), (0.0, 1.0));
    let half = lead_there(0.5);
    assert!((0.35..0.65).contains(&half), "{half}");
    // A state feature asks for another row of the batch, whatever its goal.
    let config = HilpZeroShotConfig {
        mix: 1.0,
        ..small()
    };
    assert!(cosines_of(&config).iter().any(|c| *c < 0.0));
}

#[test]
fn plans_need_directions() {
    let set = toml::from_str::<toml::Table>("[prompt]\nkind = 'plan'").unwrap();
    let configured = |config: HilpZeroShotConfig| {
        let model = agent::<HilpZeroShot>(&config).model();
        let device = Default::default();
        let mut policy = HilpZeroShot::load::<Flex>(&config, &model, &device).unwrap();
        policy.configure(&set)
    };
    configured(small_differences()).unwrap();
    let error = configured(small()).unwrap_err().to_string();
    assert!(error.contains("no directions"), "{error}");
    let mut config = small();
    config.prompt.kind = PromptKind::Plan;
    let mut problems = crate::Problems::new();
    config.validate(&mut problems);
    let error = problems.into_result().unwrap_err().to_string();
    assert!(error.contains("prompt.kind"), "{error}");
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    test_agents::check_resume::<HilpZeroShot>(&small());
}

#[test]
fn a_reward_is_enough_of_a_prompt() {
    let config = small();
    let mut agent = agent::<HilpZeroShot>(&config);
    for k in 0..3000 {
        let batch = test_agents::batch(&agent, k);
        agent.update(&batch, &mut Seed::new(k).rng());
    }
    let device = Default::default();
    let mut policy = HilpZeroShot::load::<Flex>(&config, &agent.model(), &device).unwrap();
    let observations = Array2::from_shape_fn((101, 1), |(row, _)| row as f32 / 100.0);
    let starts = ndarray::array![[0.3_f32], [0.5], [0.7]];
    for (peak, sign) in [(1.0, 1.0), (0.0, -1.0)] {
        let rewards = Array1::from_shape_fn(101, |row| {
            f32::from((observations[[row, 0]] - peak).abs() < 0.2)
        });
        policy
            .prompt_reward(observations.view(), rewards.view())
            .unwrap();
        policy.reset(3);
        let mut actions = Array2::zeros((3, 1));
        let mut rngs = vec![Seed::new(1).rng(); 3];
        let goals = Array2::zeros((3, 1));
        policy
            .act(starts.view(), goals.view(), &mut rngs, &mut actions)
            .unwrap();
        assert!(actions.iter().all(|a| sign * a > 0.2), "{peak}: {actions}");
    }
    assert_eq!(policy.settings()["prompt"]["kind"].as_str(), Some("reward"));
    let flat = Array1::zeros(101);
    let error = policy
        .prompt_reward(observations.view(), flat.view())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "every labelled observation has the reward 0; expected rewards that differ"
    );
    let set = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    policy.configure(&set("[prompt]\nkind = 'goal'")).unwrap();
    let error = policy
        .configure(&set("[prompt]\nkind = 'reward'"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no labelled observations"), "{error}");
}
