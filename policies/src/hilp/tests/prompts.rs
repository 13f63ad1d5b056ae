//! Rewards and plans that a policy is prompted with.

use ndarray::array;

use super::*;
use crate::gaussian::tests::check_asked_for_subgoals;
use crate::hilp::prompt::way_point;
use crate::hilp::reward::regression;

/// A policy that plans, and the latents that its plans go through.
fn planner(config: &HilpConfig) -> (Box<dyn Policy>, Vec<f32>) {
    let model = agent::<Hilp>(config).model();
    let shape = [config.prompt.places, config.embedding_dim];
    let places = model.weights.get_f32("places", &shape).unwrap().to_vec();
    let policy = Hilp::load::<Flex>(config, &model, &Default::default()).unwrap();
    (policy, places)
}

fn small_planner() -> HilpConfig {
    let mut config = small();
    config.prompt.kind = PromptKind::Plan;
    config.prompt.recursions = 2;
    config
}

#[test]
fn sub_goals_are_the_way_points_of_plans() {
    let config = small_planner();
    let (mut policy, places) = planner(&config);
    let (observation, goal) = (array![0.1_f32], array![0.9_f32]);
    let candidates = array![[0.2_f32], [0.4], [0.6]];
    let ask = |policy: &mut dyn Policy| {
        let (observation, goal) = (observation.view(), goal.view());
        let found = policy.subgoal_distances(observation, goal, candidates.view());
        found.unwrap()
    };
    let found = ask(policy.as_mut()).unwrap();
    let all = array![[0.1_f32], [0.9], [0.2], [0.4], [0.6]];
    let latents = policy.latents(all.view()).unwrap().unwrap();
    let [from, to] = [0, 1].map(|row| latents.row(row).to_vec());
    let point = way_point(&from, &to, &places, &config.prompt);
    for (row, found) in found.iter().enumerate() {
        let way = latents.row(2 + row).to_vec();
        let squares = way.iter().zip(&point).map(|(a, b)| (a - b) * (a - b));
        let expected = squares.sum::<f32>().sqrt();
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
    }
    let set = toml::from_str::<toml::Table>("[prompt]\nkind = 'goal'").unwrap();
    policy.configure(&set).unwrap();
    assert_eq!(ask(policy.as_mut()), None);
}

#[test]
fn sub_goals_are_asked_for_with_finite_states() {
    let (mut policy, _) = planner(&small_planner());
    check_asked_for_subgoals(policy.as_mut());
}

fn near(found: &[f64], expected: &[f64], tolerance: f64) {
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < tolerance, "{found:?}, not {expected:?}");
    }
}

#[test]
fn a_reward_is_regressed_and_not_only_correlated() {
    let rows: [[f32; 3]; 6] = [
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [1.0, 1.0, 0.0],
        [0.0, 1.0, 1.0],
        [1.0, 0.0, 1.0],
    ];
    for (rewards, regressed, correlated) in [
        (
            [1.0_f32, -2.0, 2.0, -1.0, 0.0, 3.0],
            [0.577_35, -1.154_701, 1.154_701],
            [0.792_406, -0.792_406, 1.320_676],
        ),
        (
            [1.3, -2.3, 2.3, -1.3, 0.3, 2.7],
            [0.481_486, -1.159_943, 1.192_772],
            [0.687_503, -0.840_282, 1.349_543],
        ),
    ] {
        let latent = |weights: &[f64]| -> Vec<f64> {
            let latent = with_norm(weights, 3.0_f64.sqrt());
            latent.into_iter().map(f64::from).collect()
        };
        let products: [f64; 3] = [0, 1, 2].map(|k| {
            let pairs = rows.iter().zip(rewards);
            pairs.map(|(row, reward)| f64::from(row[k] * reward)).sum()
        });
        near(&latent(&products), &correlated, 1e-5);
        let fit = regression(rows.as_flattened(), &rewards, false).unwrap();
        let found = latent(&fit.weights);
        near(&found, &regressed, 1e-5);
        let differ = found
            .iter()
            .zip(correlated)
            .all(|(a, b)| (a - b).abs() > 0.1);
        assert!(differ, "{found:?}");
    }
}

#[test]
fn a_planted_reward_is_found_but_for_the_ridge() {
    let planted = [1.0, -2.0, 2.0, 0.0];
    let features: Vec<[f64; 4]> = (0..1000_i32)
        .map(|i| {
            let (a, b) = (0.37 * f64::from(i), 0.91 * f64::from(i));
            [a.cos(), a.sin(), b.cos(), b.sin()]
        })
        .collect();
    let reward = |row: &[f64; 4]| -> f64 { row.iter().zip(planted).map(|(f, w)| f * w).sum() };
    let table: Vec<f32> = features.iter().flatten().map(|x| *x as f32).collect();
    let weights = |rewards: Vec<f32>| regression(&table, &rewards, false).unwrap().weights;
    let clean = weights(features.iter().map(|row| reward(row) as f32).collect());
    // It is a millionth of the mean square of a feature, which is the same for all of them.
    near(&clean, &planted.map(|weight| weight / (1.0 + 1e-6)), 1e-7);
    let rewards = (0_i32..).zip(&features).map(|(i, row)| {
        let noise = 0.5 * (12.9898 * f64::from(i * i)).sin();
        (reward(row) + noise) as f32
    });
    let noisy = weights(rewards.collect());
    let product: f64 = noisy.iter().zip(planted).map(|(a, b)| a * b).sum();
    let length = noisy.iter().map(|x| x * x).sum::<f64>().sqrt();
    let cosine = product / (3.0 * length);
    assert!((cosine - 0.999_992).abs() < 1e-6, "{cosine}");
}
