//! Losses of the skills, and which networks each loss asks.

use super::*;
use crate::test_agents::{A, answers, check_losses, expectile, mean_over};

fn near(found: Tensor<Flex, 1>, expected: f64) {
    let found = f64::from(tensor_values(found)[0]);
    let tolerance = 3e-6 * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() < tolerance,
        "{found}, not {expected}"
    );
}

#[test]
fn a_skill_is_paid_for_its_way_along_the_direction() {
    let device = Default::default();
    let row = |values: [f32; 2]| Tensor::<Flex, 2>::from_floats([values], &device);
    let next = Tensor::<Flex, 2>::from_floats([[-9.0]], &device);
    // 1 · 0.6 + 2 · 0.8 = 2.2, and 0.99 · −9.
    let target = skill_target(row([1.0, 2.0]), row([0.6, 0.8]), next, 0.99);
    near(target.reshape([1]), -6.71);
}

#[test]
fn gradients_of_distances_match_published_values() {
    let device = Default::default();
    let column = |value: f32| Tensor::<Flex, 2>::from_floats([[value]], &device);
    let targets = ValueTargets {
        rewards: column(-1.0),
        masks: column(1.0),
        slow_now: vec![column(-5.5), column(-6.1)],
        slow_next: vec![column(-4.0), column(-5.0)],
    };
    let lift = Tensor::<A, 2>::from_inner;
    let online = [-5.2, -6.4].map(|value| lift(column(value)).require_grad());
    let loss = targets.loss(&online, 0.99, 0.95, lift);
    near(loss.clone().inner(), 0.013_005);
    let gradients = loss.backward();
    // Each has a target of its own, −4.96 and −5.95, and both the weight 0.05 of the lesser one.
    for (online, slope) in online.iter().zip([-0.024, -0.045]) {
        near(online.grad(&gradients).unwrap().reshape([1]), slope);
    }
}

#[test]
fn imitation_of_skills_matches_published_values() {
    let device = Default::default();
    let residual = [[0.3_f32, -0.4]];
    for (log_std, advantage, weight, negative_log_prob) in [
        (0.0, -0.5, 0.006_737_95, 1.962_877_07),
        (0.0, -0.1, 0.367_879_44, 1.962_877_07),
        (0.0, 0.0, 1.0, 1.962_877_07),
        (0.0, 0.1, 1.0_f64.exp(), 1.962_877_07),
        (0.0, 0.46, 99.484_316, 1.962_877_07),
        (0.0, 0.460_517, 99.999_98, 1.962_877_07),
        (0.0, 0.5, 100.0, 1.962_877_07),
        (-1.0, 0.3, 20.085_537, 0.761_509_08),
    ] {
        let mut tensors = TensorMap::new();
        tensors.insert_f32("deviation.log", &[2], vec![log_std; 2]);
        let deviation = LearnedDeviation::<A>::new(2, &device);
        let deviation = load_module(&tensors, "deviation", deviation).unwrap();
        let advantage = Tensor::<A, 2>::from_floats([[advantage]], &device);
        let error = Tensor::<A, 2>::from_floats(residual, &device).require_grad();
        let loss = skill_loss(advantage, error.clone(), &deviation, 10.0);
        near(loss.clone().inner(), weight * negative_log_prob);
        // The mean goes to the action: down w · error / std².
        let gradient = tensor_values(error.grad(&loss.backward()).unwrap());
        for (found, residual) in gradient.into_iter().zip(residual[0]) {
            let expected = weight as f32 * residual * (-2.0 * log_std).exp();
            let tolerance = 2e-5 * expected.abs().max(0.01);
            assert!(
                (found - expected).abs() < tolerance,
                "{found}, not {expected}"
            );
        }
    }
}

#[test]
fn each_loss_asks_the_networks_that_it_should() {
    let mut config = small();
    // Otherwise the state that is bootstrapped from is the next one.
    config.goals.n_step = 3;
    let agent = test_agents::moved::<Hilp>(&config, 20);
    let batch = test_agents::batch(&agent, 50);
    let losses = agent.losses(&batch, &mut Seed::new(2).rng());
    let dim = config.embedding_dim;
    let directions = draw_directions(batch.size, dim, &mut Seed::new(2).rng());
    let networks = agent.networks().valid();
    let (slow_embeddings, slow_critics) = agent.slow().split_at(2);
    let (now, next) = (&batch.observations[..], &batch.next_observations[..]);
    let of = |network: &Mlp<Flex>, tables: &[&[f32]]| answers(network, batch.size, tables);

    let to_goals = |embeddings: &[Mlp<Flex>], states: &[f32]| {
        [0, 1].map(|k| -> Vec<f64> {
            let [from, to] =
                [states, &batch.value_goals[..]].map(|table| of(&embeddings[k], &[table]));
            let ways = from.chunks_exact(dim).zip(to.chunks_exact(dim));
            ways.map(|(from, to)| {
                let squares = from.iter().zip(to).map(|(a, b)| (a - b).powi(2));
                -squares.sum::<f64>().max(1e-6).sqrt()
            })
            .collect()
        })
    };
    let slow_later = to_goals(slow_embeddings, batch.bootstrap_observations());
    let slow_now = to_goals(slow_embeddings, now);
    let values = to_goals(&networks.embeddings, now);
    let of_rows = [&slow_later, &slow_now, &values];
    let embedding_loss = test_agents::implicit_value_loss(&batch, of_rows, 0.9, 0.95);

    let slow_q = [0, 1].map(|k| of(&slow_critics[k], &[now, &directions, &batch.actions]));
    let v = of(&networks.value, &[now, &directions]);
    let advantage = |i: usize| slow_q[0][i].min(slow_q[1][i]) - v[i];
    let value_loss = mean_over(batch.size, |i| expectile(advantage(i), advantage(i), 0.9));

    let [before, after] = [now, next].map(|states| of(&networks.embeddings[0], &[states]));
    let next_v = of(&networks.value, &[next, &directions]);
    let q = [0, 1].map(|k| of(&networks.critics[k], &[now, &directions, &batch.actions]));
    let critic_loss = mean_over(batch.size, |i| {
        let entries = i * dim..(i + 1) * dim;
        let reward = entries
            .map(|j| (after[j] - before[j]) * f64::from(directions[j]))
            .sum::<f64>();
        let target = reward + 0.9 * next_v[i];
        q.iter().map(|q| (q[i] - target).powi(2)).sum()
    });

    let means = of(&networks.mean, &[now, &directions]);
    let std = networks.log_std.values()[0];
    let actor_loss = mean_over(batch.size, |i| {
        let error = (means[i] - f64::from(batch.actions[i])) / std;
        let imitation = 0.5 * error.powi(2) + std.ln() + 0.5 * std::f64::consts::TAU.ln();
        (10.0 * advantage(i)).exp().min(100.0) * imitation
    });
    check_losses(
        losses,
        &[
            ("embedding/loss", embedding_loss),
            ("value/loss", value_loss),
            ("critic/loss", critic_loss),
            ("actor/loss", actor_loss),
        ],
    );
}
