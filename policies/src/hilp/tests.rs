mod fits;
mod goals;
mod losses;
mod prompts;
mod worlds;

use burn::backend::Flex;
use burn::module::AutodiffModule;

use super::*;
use crate::test_agents::{self, agent};
use crate::{Agent, Metrics};

fn small() -> HilpConfig {
    let mut config = HilpConfig {
        embedding_dim: 4,
        target_rate: 0.05,
        ..Default::default()
    };
    config.goals.discount = 0.9;
    config.embedding.hidden = vec![48, 48];
    config.value.hidden = vec![48, 48];
    config.actor.hidden = vec![48, 48];
    config.optimizer.lr = 2e-3;
    config.prompt.places = 200;
    config.prompt.neighbours = 5;
    config
}

#[test]
fn parameter_counts_are_the_published_ones() {
    let found = test_agents::parameters::<Hilp>(&HilpConfig::default(), 29, 8);
    assert_eq!(found, 2 * 560_160 + 560_641 + 2 * 564_737 + 561_168);
}

#[test]
fn initial_weights_are_those_of_the_release() {
    let heads = ["mean.output.weight"];
    test_agents::check_initial_weights::<Hilp>(&HilpConfig::default(), &heads);
}

#[test]
fn distances_match_published_values() {
    let device = Default::default();
    for (difference, value) in [
        ([3.0, 4.0], -5.0),
        ([0.0, 0.0], -0.001),
        ([6e-4, 0.0], -0.001),
    ] {
        let row = |values: [f32; 2]| Tensor::<Flex, 2>::from_floats([values], &device);
        let found = tensor_values(negative_distance(row(difference), row([0.0; 2])))[0];
        assert!((found - value).abs() < 1e-7, "{found}, not {value}");
    }
    let a = Tensor::<test_agents::A, 2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &device);
    let a = a.require_grad();
    let gradients = negative_distance(a.clone(), Tensor::zeros([2, 2], &device))
        .sum()
        .backward();
    let found = tensor_values(a.grad(&gradients).unwrap());
    for (found, expected) in found.into_iter().zip([-0.6, -0.8, 0.0, 0.0]) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }
}

#[test]
fn directions_are_new_and_of_length_one() {
    let mut rng = Seed::new(1).rng();
    let (first, second) = (
        draw_directions(50, 8, &mut rng),
        draw_directions(50, 8, &mut rng),
    );
    assert_ne!(first, second);
    let mut mean = [0.0; 8];
    for row in first.chunks_exact(8) {
        let norm: f32 = row.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5);
        mean.iter_mut()
            .zip(row)
            .for_each(|(mean, x)| *mean += x / 50.0);
    }
    assert!(mean.iter().all(|mean| mean.abs() < 0.3), "{mean:?}");
}

/// Cosines of latents and ways, `[rows, dim]`, but for ways of length 0.
pub(super) fn cosines(latents: &[f32], ways: &[f32], dim: usize) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    latents
        .chunks_exact(dim)
        .zip(ways.chunks_exact(dim))
        .filter(|(_, way)| way.iter().any(|x| *x != 0.0))
        .map(|(latent, way)| dot(latent, way) / (dot(latent, latent) * dot(way, way)).sqrt())
        .collect()
}

#[test]
fn a_share_of_the_directions_leads_to_goals() {
    let dim = small().embedding_dim;
    let share_that_leads_there = |mix: f64| {
        let config = HilpConfig { mix, ..small() };
        let agent = agent::<Hilp>(&config);
        let batch = test_agents::batch(&agent, 3);
        let objective = Hilp {
            inputs: Inputs::fit(&config.inputs, &test_agents::line(1)).unwrap(),
            config,
            places: vec![],
        };
        let device = Default::default();
        let embedding = agent.networks().embeddings[0].valid();
        let mut rng = Seed::new(4).rng();
        let directions = objective.directions(&batch, &embedding, &device, &mut rng);
        let [from, to] = [&batch.observations, &batch.value_goals].map(|states| {
            embedding.forward(Table::side_by_side(batch.size, &[states]).upload(&device))
        });
        let cosines = cosines(&directions, &tensor_values(to - from), dim);
        cosines.iter().filter(|c| **c > 0.9999).count() as f64 / cosines.len() as f64
    };
    assert_eq!(share_that_leads_there(1.0), 1.0);
    assert_eq!(share_that_leads_there(0.0), 0.0);
    let half = share_that_leads_there(0.5);
    assert!((0.35..0.65).contains(&half), "{half}");
}

/// What a number of two updates differs by, as a share of the first.
pub(super) fn change([first, second]: &[Metrics; 2], name: &str) -> f64 {
    let [first, second] = [first, second].map(|metrics| metrics.get(name).unwrap());
    ((second - first) / first).abs()
}

#[test]
fn every_update_draws_directions_of_its_own() {
    let mut config = small();
    // The networks stay as they are.
    config.optimizer.lr = 0.0;
    let mut agent = agent::<Hilp>(&config);
    let batch = test_agents::batch(&agent, 3);
    let mut rng = Seed::new(2).rng();
    let updates = [(); 2].map(|()| agent.update(&batch, &mut rng).read());
    let embedding = change(&updates, "embedding/loss");
    assert!(embedding < 1e-5, "{updates:?}");
    for loss in ["value/loss", "critic/loss", "actor/loss"] {
        assert!(change(&updates, loss) > 1e-4, "{loss}: {updates:?}");
    }
}

/// Slow copies went `rate` of the way to the module that they follow, tensor by tensor.
pub(super) fn check_followed([before, followed, after]: [&TensorMap; 3], rate: f32) {
    assert!(!after.is_empty());
    for (name, tensor) in after.iter() {
        let [before, followed, after] =
            [before, followed, after].map(|map| map.get_f32(name, tensor.shape()).unwrap());
        for ((before, followed), after) in before.iter().zip(followed).zip(after) {
            let expected = (1.0 - rate) * before + rate * followed;
            assert!(
                (after - expected).abs() < 2e-6,
                "{name}: {after}, not {expected}"
            );
        }
    }
}

#[test]
fn slow_copies_follow_the_weights_before_each_step() {
    let config = HilpConfig {
        target_rate: 0.2,
        ..small()
    };
    let copies = ["embeddings.0", "embeddings.1", "critics.0", "critics.1"];
    let parts = |state: &TensorMap| {
        [0, 1, 2, 3].map(|copy| {
            let slow = state.sub_map(&format!("slow.{copy}"));
            (slow, state.sub_map(&format!("network.{}", copies[copy])))
        })
    };
    let fresh = agent::<Hilp>(&config);
    for (slow, module) in parts(&fresh.state()) {
        assert_eq!(slow.first_difference(&module), None);
    }
    let mut agent = test_agents::moved::<Hilp>(&config, 5);
    let batch = test_agents::batch(&agent, 50);
    let before = parts(&agent.state());
    agent.update(&batch, &mut Seed::new(2).rng());
    for ((slow, module), (after, _)) in before.iter().zip(parts(&agent.state())) {
        check_followed([slow, module, &after], 0.2);
    }
}

#[test]
fn each_loss_moves_its_own_networks_only() {
    test_agents::check_gradients::<Hilp>(
        &small(),
        &[
            ("embedding/loss", &["embeddings"]),
            ("value/loss", &["value"]),
            ("critic/loss", &["critics"]),
            ("actor/loss", &["log_std", "mean"]),
        ],
    );
}

#[test]
fn a_line_is_learned() {
    test_agents::check_line::<Hilp>(&small(), 2500);
    let mut planned = small();
    planned.prompt.kind = PromptKind::Plan;
    planned.prompt.recursions = 1;
    test_agents::check_line::<Hilp>(&planned, 2500);
    planned.mix = 0.5;
    test_agents::check_line::<Hilp>(&planned, 2500);
    planned.mix = 0.0;
    planned.prompt.kind = PromptKind::Search;
    planned.prompt.reach = 1.5;
    test_agents::check_line::<Hilp>(&planned, 2500);
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    test_agents::check_resume::<Hilp>(&small());
}

#[test]
fn prompts_are_settings_of_inference() {
    let config = small();
    let model = agent::<Hilp>(&config).model();
    let mut policy = Hilp::load::<Flex>(&config, &model, &Default::default()).unwrap();
    let set = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    policy
        .configure(&set(
            "[prompt]\nkind = 'plan'\n[inference]\ntemperature = 0.5",
        ))
        .unwrap();
    let settings = policy.settings();
    assert_eq!(settings["prompt"]["kind"].as_str(), Some("plan"));
    assert_eq!(settings["inference"]["temperature"].as_float(), Some(0.5));
    test_agents::check_refused(
        policy.as_mut(),
        &[
            ("[prompt]\nneighbours = 0", "prompt.neighbours"),
            ("[prompt]\nplaces = 7", "prompt.places"),
            ("[prompt]\nkind = 'sideways'", "prompt.kind"),
            ("[prompt]\nkind = 'reward'", "prompt.kind"),
            ("[prompt]\nlandmarks = 0", "prompt.landmarks"),
            ("[prompt]\nreach = -1.0", "prompt.reach"),
            ("[inference]\nheat = 1.0", "inference.heat"),
        ],
    );
}
