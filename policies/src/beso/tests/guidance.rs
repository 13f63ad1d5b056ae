//! Guidance against calls of the network with a goal and without one.

use super::*;
use crate::beso::denoise::{Conditions, Denoiser};
use crate::beso::network::{Dims, InputLayout, Outputs, ScoreNetwork};
use crate::module_state::{load_module, tensor_values};
use crate::trained::NETWORK;

#[test]
fn guidance_of_zero_ignores_the_goal() {
    let mut policy = policy();
    let plain = first_action(&mut policy, 2);
    assert_ne!(first_action(&mut policy, 3), plain);
    set(&mut policy, "[sampler]\nguidance = 0.0");
    let play = first_action(&mut policy, 2);
    assert_eq!(first_action(&mut policy, 3), play);
    assert_ne!(play, plain);
    // Just off 1, where both evaluations are made.
    set(&mut policy, "[sampler]\nguidance = 1.0000001");
    let near = first_action(&mut policy, 2);
    assert!(
        (&near - &plain)
            .iter()
            .all(|difference| difference.abs() < 1e-4)
    );
}

const ROWS: usize = 8;

fn trained_denoiser(config: &BesoConfig) -> Denoiser<Flex> {
    let dims = Dims {
        observation_dim: 3,
        action_dim: 2,
        window: config.window,
        goal_length: config.goal_length,
    };
    let network = ScoreNetwork::<Flex>::blank(&config.network, dims, &Default::default());
    let network = load_module(&trained_model(config).weights, NETWORK, network).unwrap();
    let layout = InputLayout::new(config.network.kind, dims);
    Denoiser::new(network, layout, config.sigma_data)
}

/// D of contexts of one state, by one call per row, with its goal or with zeros in its place.
fn denoised(
    denoiser: &Denoiser<Flex>,
    conditions: &Conditions,
    x: &[f64],
    sigma: f64,
    sees_goal: bool,
) -> Vec<f64> {
    let layout = denoiser.layout;
    let dims = layout.dims();
    let scalings = denoiser.preconditioning.scalings(sigma);
    let goals = conditions
        .goals
        .chunks_exact(dims.goal_length * dims.observation_dim);
    let states = conditions.states.chunks_exact(dims.observation_dim);
    let mut found = Vec::new();
    for ((goal, state), x) in goals.zip(states).zip(x.chunks_exact(dims.action_dim)) {
        let mut goal = goal.to_vec();
        if !sees_goal {
            goal.fill(0.0);
        }
        let mut features = vec![0.0; layout.stride(1)];
        layout.write_conditions(&mut features, &goal, state);
        layout.write_noise(&mut features, scalings.noise as f32);
        let scaled = x.iter().map(|x| (scalings.input * x) as f32);
        layout.write_action(&mut features, 0, 1, scaled);
        let raw = denoiser
            .network
            .forward(features, [1, 1], Outputs::Newest, None);
        for (x, raw) in x.iter().zip(tensor_values(raw)) {
            found.push(scalings.skip * x + scalings.out * f64::from(raw));
        }
    }
    found
}

/// Where the steps of DDIM lead.
fn ddim(sigmas: &[f64], mut x: Vec<f64>, denoise: impl Fn(&[f64], f64) -> Vec<f64>) -> Vec<f64> {
    for pair in sigmas.windows(2) {
        let keep = pair[1] / pair[0];
        let denoised = denoise(&x, pair[0]);
        for (x, d) in x.iter_mut().zip(denoised) {
            *x = keep * *x + (1.0 - keep) * d;
        }
    }
    x
}

/// G11: to the last bit of `f64`, which a mixture `D(∅) + 1 (D(g) − D(∅))` is not.
#[test]
fn guidance_of_one_and_of_zero_is_one_call_of_the_network() {
    for config in [small(), small_mlp()] {
        let denoiser = trained_denoiser(&config);
        let numbers = |cols, seed| draw(ROWS, cols, seed).iter().copied().collect();
        let conditions = Conditions {
            rows: ROWS,
            context: 1,
            goals: numbers(3 * config.goal_length, 1),
            states: numbers(3, 2),
            history: vec![],
        };
        let settings = config.sampler;
        let sigmas = settings.schedule().sigmas(settings.steps).unwrap();
        let guided = |guidance: f64| {
            let settings = SamplerConfig {
                guidance,
                ..settings
            };
            let mut streams = streams(ROWS);
            let mut rngs: Vec<&mut Rng> = streams.iter_mut().collect();
            denoiser
                .sample(&settings, &sigmas, &conditions, &mut rngs, None)
                .unwrap()
        };
        let mut start = Vec::new();
        for mut rng in streams(ROWS) {
            for _ in 0..2 {
                let noise: f64 = StandardNormal.sample(&mut rng);
                start.push(sigmas[0] * noise);
            }
        }
        let with_goal = |x: &[f64], sigma: f64| denoised(&denoiser, &conditions, x, sigma, true);
        let without = |x: &[f64], sigma: f64| denoised(&denoiser, &conditions, x, sigma, false);

        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let plain = bits(ddim(&sigmas, start.clone(), with_goal));
        let play = bits(ddim(&sigmas, start.clone(), without));
        assert_ne!(plain, play);
        assert_eq!(bits(guided(1.0)), plain);
        assert_eq!(bits(guided(0.0)), play);
        let mixed = ddim(&sigmas, start, |x, sigma| {
            let pairs = with_goal(x, sigma).into_iter().zip(without(x, sigma));
            pairs.map(|(goal, none)| 1.5 * goal - 0.5 * none).collect()
        });
        for (found, expected) in guided(1.5).into_iter().zip(mixed) {
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
    }
}
