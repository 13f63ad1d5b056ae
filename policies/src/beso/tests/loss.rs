//! The loss of a batch against a second calculation.

use super::*;
use crate::TensorMap;
use crate::beso::network::{Dims, InputLayout, Outputs, ScoreNetwork};
use crate::module_state::{load_module, tensor_values};
use crate::trained::NETWORK;

/// L and the mean of T², by the formulas. What the network says of an action is what it says of the
/// newest one of the context that ends there: one pass for each.
///
/// σ and noise come from the stream that the agent draws from. For each window first σ, then the
/// position if past actions are clean, then the noise.
fn loss_and_target_square(
    config: &BesoConfig,
    weights: &TensorMap,
    windows: &WindowBatch,
    rng: &mut Rng,
) -> [f64; 2] {
    let dims = Dims {
        observation_dim: windows.observation_dim,
        action_dim: windows.action_dim,
        window: config.window,
        goal_length: config.goal_length,
    };
    let network = ScoreNetwork::<Flex>::blank(&config.network, dims, &Default::default());
    let network = load_module(weights, NETWORK, network).unwrap();
    let layout = InputLayout::new(config.network.kind, dims);
    let clean = config.history_training == HistoryTraining::Clean;
    let (seen, dim, newest) = (dims.observation_dim, dims.action_dim, dims.window - 1);
    let goal_width = dims.goal_length * seen;
    let data = config.sigma_data.powi(2);
    let share = |sigma: f64| sigma * sigma / (sigma * sigma + data);
    let (low, high) = (share(config.sigma_min), share(config.sigma_max));
    let (mut loss, mut square, mut count) = (0.0, 0.0, 0.0);
    for i in 0..windows.size {
        // With the log-logistic density the share of noise in the variance is uniform.
        let share = low + rng.random::<f64>() * (high - low);
        let sigma = config.sigma_data * (share / (1.0 - share)).sqrt();
        let root = (sigma * sigma + data).sqrt();
        let (skip, out) = (data / (root * root), sigma * config.sigma_data / root);
        let (noisy_from, counted) = match (layout.denoises_all(), clean) {
            (true, false) => (0, 0..=newest),
            (true, true) => {
                let position = rng.random_range(0..dims.window);
                (position, position..=position)
            }
            (false, _) => (if clean { newest } else { 0 }, newest..=newest),
        };
        let missing = windows.missing[i];
        let states = &windows.observations[i * dims.window * seen..][..dims.window * seen];
        let actions = &windows.actions[i * dims.window * dim..][..dims.window * dim];
        let goal = &windows.goals[i * goal_width..][..goal_width];
        let mut noisy = vec![0.0; missing * dim];
        for (entry, &action) in actions.iter().enumerate().skip(missing * dim) {
            let noise: f64 = if entry / dim < noisy_from {
                0.0
            } else {
                StandardNormal.sample(rng)
            };
            noisy.push(f64::from(action) + sigma * noise);
        }
        for step in counted {
            let context = step + 1 - missing;
            let mut features = vec![0.0; layout.stride(context)];
            let states = &states[missing * seen..(step + 1) * seen];
            layout.write_conditions(&mut features, goal, states);
            layout.write_noise(&mut features, (sigma.ln() / 4.0) as f32);
            for (index, x) in noisy
                .chunks_exact(dim)
                .skip(missing)
                .take(context)
                .enumerate()
            {
                let scaled = x.iter().map(|x| (x / root) as f32);
                layout.write_action(&mut features, index, context, scaled);
            }
            let found = network.forward(features, [1, context], Outputs::Newest, None);
            for (k, found) in tensor_values(found).into_iter().enumerate() {
                let entry = step * dim + k;
                let target = (f64::from(actions[entry]) - skip * noisy[entry]) / out;
                loss += (f64::from(found) - target).powi(2);
                square += target * target;
                count += 1.0;
            }
        }
    }
    [loss / count, square / count]
}

/// G2, on whole batches.
#[test]
fn a_loss_has_one_noise_level_per_window_and_a_target_per_position() {
    let near = |found: Option<f64>, expected: f64, place: &str| {
        let found = found.unwrap();
        let holds = (found - expected).abs() < 2e-5 * expected;
        assert!(holds, "{place}: {found}, not {expected}");
    };
    for mut config in [small(), clean(small()), small_mlp(), clean(small_mlp())] {
        config.network.attention_dropout = 0.0;
        config.network.residual_dropout = 0.0;
        let place = format!("{:?} {:?}", config.network.kind, config.history_training);
        let mut agent = agent(&config);
        // An average that is behind the weights.
        let learned = batch(&agent, 1);
        train(&mut agent, 0..30, |_| learned.clone());
        let windows = batch(&agent, 2);
        let rng = || Seed::new(5).rng();

        let averages = agent.model().weights;
        let [loss, _] = loss_and_target_square(&config, &averages, &windows, &mut rng());
        let found = agent.evaluate(&windows, &mut rng());
        near(found.get("actor/loss"), loss, &place);

        let weights = agent.state();
        let [loss, square] = loss_and_target_square(&config, &weights, &windows, &mut rng());
        let found = agent.update(&windows, &mut rng()).read();
        near(found.get("actor/loss"), loss, &place);
        near(found.get("actor/target_square"), square, &place);
    }
}
