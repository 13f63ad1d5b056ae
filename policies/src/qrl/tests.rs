use burn::backend::Flex;
use burn::module::AutodiffModule;
use burn::tensor::TensorData;

use super::*;
use crate::Agent;
use crate::module_state::tensor_values;
use crate::search::SearchKind;
use crate::test_agents::{self, A, answers, entries, mean_over};

#[test]
fn goals_have_to_be_whole_states() {
    let mut config = small();
    let device = Default::default();
    let mut refused = |kept: &[usize]| {
        config.inputs.goal_columns = Some(kept.to_vec());
        Qrl::new_agent::<A>(&config, &test_agents::line(2), &device)
            .err()
            .map(|error| error.to_string())
    };
    let message = refused(&[0]).unwrap();
    assert!(message.contains("without the entries [1]"), "{message}");
    assert_eq!(refused(&[1, 0]), None);
}

fn small() -> QrlConfig {
    let mut config = QrlConfig {
        embedding_dim: 64,
        alpha: 0.1,
        ..Default::default()
    };
    config.embedding.hidden = vec![48, 48];
    config.actor.network.hidden = vec![48, 48];
    config.optimizer.lr = 2e-3;
    config
}

#[test]
fn parameter_counts_are_the_published_ones() {
    for (observation_dim, action_dim, count) in [
        (2, 2, 2_376_196),
        (29, 8, 2_423_818),
        (69, 21, 2_498_583),
        (42, 8, 2_443_786),
        (28, 5, 2_419_207),
        (37, 5, 2_433_031),
        (40, 5, 2_437_639),
        (55, 5, 2_460_679),
    ] {
        let config = QrlConfig::default();
        let found = test_agents::parameters::<Qrl>(&config, observation_dim, action_dim);
        assert_eq!(found, count);
    }
}

#[test]
fn initial_weights_are_those_of_the_release() {
    let heads = ["actor.output.weight"];
    test_agents::check_initial_weights::<Qrl>(&QrlConfig::default(), &heads);
}

fn column(values: &[f32]) -> Tensor<Flex, 2> {
    let data = TensorData::new(values.to_vec(), [values.len(), 1]);
    Tensor::from_data(data, &Default::default())
}

fn near<const D: usize>(found: Tensor<Flex, D>, expected: f64, tolerance: f64) {
    let found = f64::from(tensor_values(found)[0]);
    assert!(
        (found - expected).abs() < tolerance,
        "{found}, not {expected}"
    );
}

#[test]
fn losses_match_published_values() {
    for (distance, expected) in [
        (0.0, 500.671_535),
        (100.0, 401.814_993),
        (500.0, 69.314_718),
        (1000.0, 0.671_535),
    ] {
        near(far_loss(column(&[distance])), expected, 1e-4);
    }
    near(near_loss(column(&[1.3, 0.9])), 0.045, 1e-6);
    let lambda = |value: f32| Tensor::<A, 1>::from_floats([value], &Default::default());
    let losses = |lambda: Tensor<A, 1>| {
        let far = Tensor::<A, 1>::from_inner(far_loss(column(&[100.0, 500.0])));
        let near = Tensor::<A, 1>::from_inner(near_loss(column(&[1.3, 0.9])));
        metric_losses(far, near, lambda)
    };
    for (value, of_metric, of_lambda) in [(1.0, 235.609_855, 0.005), (3.0, 235.699_855, 0.015)] {
        let [metric, lambda] = losses(lambda(value));
        near(metric.clone().inner(), of_metric, 1e-4);
        near(lambda.clone().inner(), of_lambda, 1e-6);
        near((metric + lambda).inner(), of_metric + of_lambda, 1e-4);
    }
    // What moves λ is its own loss alone; it falls as long as there is slack.
    let lambda = lambda(3.0).require_grad();
    let [metric, own] = losses(lambda.clone());
    let gradients = (metric + own).backward();
    near(lambda.grad(&gradients).unwrap(), 0.005, 1e-6);
}

#[test]
fn distances_match_published_values() {
    let device = Default::default();
    let x = [[0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 2.0, -1.0, 0.0]];
    let y = [[2.0, 1.5, 2.0, -1.0, -2.0, -3.0, 3.0, 0.5, 4.0]];
    let [x, y] = [x, y].map(|row| Tensor::<Flex, 2>::from_floats(row, &device));
    let half = Tensor::<Flex, 1>::from_floats([0.5], &device);
    let there = quasimetric(x.clone(), y.clone(), 3, half.clone());
    near(there, 3.666_666_7, 1e-5);
    near(quasimetric(y, x, 3, half), 2.166_666_7, 1e-5);
}

#[test]
fn each_loss_asks_the_networks_that_it_should() {
    let config = small();
    let agent = test_agents::moved::<Qrl>(&config, 300);
    let batch = test_agents::batch(&agent, 50);
    let networks = agent.networks().valid();
    let metric = &networks.metric;
    let [now, next, goals, actor_goals] = [
        &batch.observations,
        &batch.next_observations,
        &batch.value_goals,
        &batch.actor_goals,
    ]
    .map(|states| metric.embed(test_agents::side_by_side(batch.size, &[states])));
    let distances = |from: &Tensor<Flex, 2>, to: &Tensor<Flex, 2>| {
        entries(metric.distance(from.clone(), to.clone()))
    };

    let random = distances(&now, &goals);
    let far = mean_over(batch.size, |i| {
        100.0 * (5.0 - random[i] / 100.0).exp().ln_1p()
    });
    let step = distances(&now, &next);
    let near = mean_over(batch.size, |i| (step[i] - 1.0).max(0.0).powi(2));
    assert!(near > 0.0, "no step is long enough to tell");
    let lambda = entries(networks.log_lambda.val())[0].exp();

    let after = |actions: &[f32]| {
        let actions = test_agents::side_by_side(batch.size, &[actions]);
        networks.after(now.clone(), actions)
    };
    let predicted = after(&batch.actions);
    let (there, back) = (distances(&next, &predicted), distances(&predicted, &next));
    let dynamics = mean_over(batch.size, |i| f64::midpoint(there[i], back[i]));

    let seen: [&[f32]; 2] = [&batch.observations, &batch.actor_goals];
    let means = answers(&networks.actor, batch.size, &seen);
    let mean_actions: Vec<f32> = means.iter().map(|a| a.clamp(-1.0, 1.0) as f32).collect();
    let to_goals = distances(&after(&mean_actions), &actor_goals);
    let q: Vec<f64> = to_goals.into_iter().map(|distance| -distance).collect();

    test_agents::check_losses(
        agent.losses(&batch, &mut Seed::new(2).rng()),
        &[
            ("value/loss", far + lambda * near),
            ("value/lambda_loss", lambda * (0.05 - near)),
            ("dynamics/loss", dynamics),
            (
                "actor/loss",
                test_agents::ddpg_bc_loss(&means, &batch.actions, &q, config.alpha),
            ),
        ],
    );
}

#[test]
fn each_loss_moves_its_own_networks_only() {
    test_agents::check_gradients::<Qrl>(
        &small(),
        &[
            ("value/loss", &["metric"]),
            ("value/lambda_loss", &["log_lambda"]),
            ("dynamics/loss", &["dynamics", "metric"]),
            ("actor/loss", &["actor"]),
        ],
    );
}

#[test]
fn a_line_is_learned() {
    test_agents::check_line::<Qrl>(&small(), 1500);
}

#[test]
fn a_line_is_learned_along_a_search() {
    let mut config = small();
    config.prompt = SearchConfig {
        kind: SearchKind::Search,
        places: 500,
        landmarks: 40,
        reach: 2.5,
    };
    test_agents::check_line::<Qrl>(&config, 1500);
}

#[test]
fn a_search_is_a_setting_of_inference() {
    let config = small();
    let model = test_agents::agent::<Qrl>(&config).model();
    let mut policy = Qrl::load::<Flex>(&config, &model, &Default::default()).unwrap();
    let set = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    policy
        .configure(&set("[prompt]\nkind = 'search'\nlandmarks = 7"))
        .unwrap();
    let settings = policy.settings();
    assert_eq!(settings["prompt"]["kind"].as_str(), Some("search"));
    assert_eq!(settings["prompt"]["landmarks"].as_integer(), Some(7));
    test_agents::check_refused(
        policy.as_mut(),
        &[
            ("[prompt]\nlandmarks = 0", "prompt.landmarks"),
            ("[prompt]\nreach = -1.0", "prompt.reach"),
            ("[prompt]\nplaces = 9", "prompt.places"),
            ("[prompt]\nplaces = 1000000000000000", "prompt.places"),
            ("[prompt]\nkind = 'plan'", "prompt.kind"),
            ("[prompt]\nneighbours = 5", "prompt.neighbours"),
            ("[inference]\ntemperature = -1.0", "inference.temperature"),
        ],
    );
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    test_agents::check_resume::<Qrl>(&small());
}
