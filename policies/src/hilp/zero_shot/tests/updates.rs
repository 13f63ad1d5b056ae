//! What an update draws, and what it leaves behind beside the networks.

use nalgebra::{DMatrix, DVector};

use super::*;
use crate::hilp::tests::{change, check_followed};
use crate::test_agents::{A, entries, side_by_side};

/// One whose networks stay as they are.
fn still(mut config: HilpZeroShotConfig) -> HilpZeroShotConfig {
    config.optimizer.lr = 0.0;
    config.embedding_optimizer.lr = 0.0;
    config
}

#[test]
fn slow_copies_start_as_copies_and_follow_in_their_order() {
    let config = HilpZeroShotConfig {
        embedding_target_rate: 0.2,
        target_rate: 0.1,
        ..small()
    };
    let mut agent = walker(&config);
    let parts = |state: &TensorMap| {
        ["embeddings", "successor"].map(|part| {
            let slow = state.sub_map(&format!("slow_{part}"));
            (slow, state.sub_map(&format!("{part}.network")))
        })
    };
    for (slow, module) in parts(&agent.state()) {
        assert_eq!(slow.first_difference(&module), None);
    }
    for k in 0..5 {
        let batch = walk(&agent, 32, k);
        agent.update(&batch, &mut Seed::new(k).rng());
    }
    let before = parts(&agent.state());
    let batch = walk(&agent, 32, 50);
    agent.update(&batch, &mut Seed::new(2).rng());
    let after = parts(&agent.state());
    // φ̄ goes towards φ before its step, ψ̄ towards ψ after its step.
    let [(slow_embeddings, embeddings), (slow_successor, _)] = &before;
    let [(new_embeddings, _), (new_successor, successor)] = &after;
    check_followed([slow_embeddings, embeddings, new_embeddings], 0.2);
    check_followed([slow_successor, successor, new_successor], 0.1);
}

#[test]
fn the_centre_comes_to_the_mean_as_published() {
    let mut agent = walker(&still(HilpZeroShotConfig {
        embedding_dim: 3,
        embedding_width: 16,
        width: 8,
        trunk_width: 8,
        ..small()
    }));
    let batch = walk(&agent, 16, 1);
    let states = side_by_side(batch.size, &[&batch.observations]);
    let latents = agent.embeddings.module()[0].valid().forward(states);
    let mean = entries(latents.mean_dim(0));
    for update in 1..=1000 {
        agent.update(&batch, &mut Seed::new(update).rng());
        let published = match update {
            1 => 0.005,
            100 => 0.394,
            1000 => 0.993,
            _ => continue,
        };
        for (centre, mean) in agent.centre.iter().zip(&mean) {
            let share = f64::from(*centre) / mean;
            assert!((share - published).abs() < 5e-4, "{update}: {share}");
        }
    }
}

#[test]
fn an_update_moves_the_centre_towards_the_latents_before_it() {
    let mut agent = walker(&small());
    for k in 0..5 {
        let batch = walk(&agent, 32, k);
        let states = side_by_side(batch.size, &[&batch.observations]);
        let latents = agent.embeddings.module()[0].valid().forward(states);
        let mean = entries(latents.mean_dim(0));
        let before = agent.centre.clone();
        agent.update(&batch, &mut Seed::new(k).rng());
        for ((after, before), mean) in agent.centre.iter().zip(before).zip(mean) {
            let [after, before] = [*after, before].map(f64::from);
            let expected = 0.995 * before + 0.005 * mean;
            assert!((after - expected).abs() < 1e-6, "{after}, not {expected}");
        }
    }
}

#[test]
fn noise_is_cut_off_as_published() {
    let agent = walker(&HilpZeroShotConfig {
        std: 0.2,
        noise_clip: 0.3,
        ..small()
    });
    // Two entries of an action each.
    let noise = agent.draw_noise(500, &mut Seed::new(4).rng());
    let mut rng = Seed::new(4).rng();
    let normals: Vec<f64> = (0..1000).map(|_| StandardNormal.sample(&mut rng)).collect();
    assert_eq!(noise.len(), normals.len());
    for (noise, normal) in noise.iter().zip(&normals) {
        let expected = if normal.abs() < 1.5 {
            0.2 * normal
        } else {
            0.3_f64.copysign(*normal)
        };
        assert!(
            (f64::from(*noise) - expected).abs() < 1e-7,
            "{noise}, not {expected}"
        );
    }
    let mut pairs = noise.iter().zip(&normals);
    let (strong, _) = pairs.find(|(_, normal)| **normal > 2.0).unwrap();
    let device = Default::default();
    let row = |values: [f32; 2]| Tensor::<Flex, 2>::from_floats([values], &device);
    let acted = tensor_values(with_noise(row([0.9, 0.5]), row([*strong; 2])));
    for (found, expected) in acted.iter().zip([0.999_999, 0.8]) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }
    let (tables, _) = agent.tables(&walk(&agent, 500, 1), &mut Seed::new(4).rng());
    for noise in [tables.noise, tables.next_noise] {
        let noise = tensor_values(noise);
        let most = noise.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        assert_eq!(most, 0.3);
    }
}

#[test]
fn an_action_that_is_cut_off_has_a_gradient() {
    let device = Default::default();
    let row = |values: [f32; 3]| Tensor::<A, 2>::from_floats([values], &device);
    let means = row([0.9, 0.2, -0.95]).require_grad();
    let acted = with_noise(means.clone(), row([0.3, 0.1, -0.3]));
    let gradients = (acted * row([1.0, 2.0, 3.0])).sum().backward();
    let found = tensor_values(means.grad(&gradients).unwrap());
    assert_eq!(found, [1.0, 2.0, 3.0]);
}

#[test]
fn every_update_draws_latents_of_its_own() {
    // Without noise, and with features that know no μ, there is nothing else that could change.
    let mut agent = walker(&still(HilpZeroShotConfig {
        std: 0.0,
        mix: 0.0,
        ..small_differences()
    }));
    let batch = walk(&agent, 64, 3);
    let mut rng = Seed::new(2).rng();
    let updates = [(); 2].map(|()| agent.update(&batch, &mut rng).read());
    assert!(change(&updates, "embedding/loss") < 1e-5, "{updates:?}");
    for loss in ["successor/loss", "actor/q"] {
        assert!(change(&updates, loss) > 1e-4, "{loss}: {updates:?}");
    }
}

#[test]
fn every_update_draws_noise_of_its_own() {
    // Latents of differences that lead to goals are the same.
    let mut agent = walker(&still(HilpZeroShotConfig {
        mix: 1.0,
        ..small_differences()
    }));
    let mut batch = walk(&agent, 64, 3);
    // No row is at its goal.
    batch.value_goals.iter_mut().for_each(|x| *x += 0.5);
    let mut rng = Seed::new(2).rng();
    let updates = [(); 2].map(|()| agent.update(&batch, &mut rng).read());
    for loss in ["successor/loss", "actor/q"] {
        assert!(change(&updates, loss) > 1e-5, "{loss}: {updates:?}");
    }
}

#[test]
fn latents_of_states_are_those_of_the_rows_in_another_order() {
    let (dim, rows) = (3, 64);
    let mut agent = walker(&HilpZeroShotConfig {
        embedding_dim: dim,
        mix: 1.0,
        ..small()
    });
    agent.centre = vec![0.1, -0.2, 0.3];
    let batch = walk(&agent, rows, 3);
    let (tables, _) = agent.tables(&batch, &mut Seed::new(4).rng());
    let features = DMatrix::from_row_slice(rows, dim, &entries(tables.features));
    let moment = features.transpose() * &features / rows as f64;
    // The ridge.
    let ridge = DMatrix::<f64>::identity(dim, dim) * (1e-6 * moment.trace() / dim as f64);
    let inverse = (moment + ridge).try_inverse().unwrap();
    let expected: Vec<DVector<f64>> = features
        .row_iter()
        .map(|row| (&inverse * row.transpose()).normalize() * (dim as f64).sqrt())
        .collect();
    let mut left: Vec<usize> = (0..rows).collect();
    let mut own = 0;
    for (row, latent) in entries(tables.latents).chunks_exact(dim).enumerate() {
        let latent = DVector::from_column_slice(latent);
        let distances = left
            .iter()
            .map(|other| (&latent - &expected[*other]).norm());
        let (nearest, distance) = distances
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        assert!(distance < 1e-3, "{row}: {distance}");
        own += usize::from(left.swap_remove(nearest) == row);
    }
    assert!(own < rows / 4, "{own}");
}

#[test]
fn rewards_of_states_and_of_differences_match_published_values() {
    let device = Default::default();
    let one = |x: f64| Tensor::<Flex, 2>::from_floats([[x as f32]], &device);
    // φ · z along a path that stays at its end.
    let path = [0.0, 1.0, 3.0, 2.0];
    let q = |feature: &dyn Fn(f64, f64) -> f64| {
        let step = |from: f64, to: f64, psi: f64| {
            // The lesser head counts.
            let heads = [one(psi + 1.0), one(psi)];
            let target = successor_target(one(feature(from, to)), heads, &one(1.0), 0.98);
            f64::from(tensor_values(target)[0])
        };
        let stays = feature(2.0, 2.0) / 0.02;
        assert!((step(2.0, 2.0, stays) - stays).abs() < 1e-4);
        let steps = path.windows(2).rev();
        steps.fold(stays, |psi, states| step(states[0], states[1], psi))
    };
    let (of_states, of_differences) = (q(&|_, to| to), q(&|from, to| to - from));
    assert!((of_states - 99.98).abs() < 1e-4, "{of_states}");
    assert!((of_differences - 1.9996).abs() < 1e-6, "{of_differences}");
}

#[test]
fn features_of_states_and_of_differences_ask_for_the_same() {
    let (dim, discount) = (small().embedding_dim, 0.98);
    let centre: Vec<f32> = (0..dim).map(|k| 0.1 * k as f32 - 0.3).collect();
    let of_z = |values: &[f64]| -> f64 {
        let products = values.iter().enumerate();
        products.map(|(k, x)| x * (1.0 + k as f64).cos()).sum()
    };
    // Q of each state of one walk through many states that stays at the last, and φ · z.
    let along = |config: &HilpZeroShotConfig| -> (Vec<f64>, Vec<f64>) {
        let mut agent = walker(config);
        agent.centre.clone_from(&centre);
        let mut batch = walk(&agent, 100, 3);
        let width = batch.observation_dim;
        let last = batch.observations.len() - width;
        batch.next_observations[..last].copy_from_slice(&batch.observations[width..]);
        batch.next_observations[last..].copy_from_slice(&batch.observations[last..]);
        let (tables, _) = agent.tables(&batch, &mut Seed::new(4).rng());
        let mut features = entries(tables.features);
        let mut q = of_z(&features.split_off((batch.size - 1) * dim)) / (1.0 - discount);
        let mut found = vec![q];
        for feature in features.chunks_exact(dim).rev() {
            q = of_z(feature) + discount * q;
            found.push(q);
        }
        found.reverse();
        let latents = entries(agent.embeddings.module()[0].valid().forward(tables.now));
        (found, latents.chunks_exact(dim).map(of_z).collect())
    };
    let (of_states, phi) = along(&small());
    let (of_differences, same) = along(&small_differences());
    assert_eq!(phi, same);
    let centre: Vec<f64> = centre.iter().map(|x| f64::from(*x)).collect();
    for ((of_states, of_differences), phi) in of_states.iter().zip(&of_differences).zip(&phi) {
        let expected = (1.0 - discount) * of_states + of_z(&centre) - phi;
        assert!(
            (of_differences - expected).abs() < 3e-6,
            "{of_differences}, not {expected}"
        );
    }
    let largest = of_differences
        .iter()
        .fold(0.0_f64, |most, q| most.max(q.abs()));
    assert!(largest > 0.1, "{largest}");
}
