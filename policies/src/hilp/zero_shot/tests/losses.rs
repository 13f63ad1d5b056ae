//! The losses of φ, ψ and π, from one forward pass after the other and plain arithmetic.

use telic_datasets::GoalMix;

use super::*;
use crate::test_agents::{A, entries, implicit_value_loss, mean_over, side_by_side};

/// What an agent is made of, at one time.
#[derive(Clone)]
struct Networks {
    embeddings: Vec<Embedding<Flex>>,
    slow_embeddings: Vec<Embedding<Flex>>,
    successor: Successor<Flex>,
    slow_successor: Successor<Flex>,
    actor: Actor<Flex>,
    /// μ.
    centre: Vec<f32>,
}

impl Networks {
    fn of(agent: &HilpZeroShotAgent<A>) -> Self {
        Self {
            embeddings: agent.embeddings.module().valid(),
            slow_embeddings: agent.slow_embeddings.get().clone(),
            successor: agent.successor.module().valid(),
            slow_successor: agent.slow_successor.get().clone(),
            actor: agent.actor.module().valid(),
            centre: agent.centre.clone(),
        }
    }
}

/// What an update draws.
struct Draws {
    latents: Vec<f32>,
    noise: Vec<f32>,
    next_noise: Vec<f32>,
}

impl Draws {
    fn of(agent: &HilpZeroShotAgent<A>, batch: &TransitionBatch, seed: u64) -> Self {
        let (tables, _) = agent.tables(batch, &mut Seed::new(seed).rng());
        Self {
            latents: tensor_values(tables.latents),
            noise: tensor_values(tables.noise),
            next_noise: tensor_values(tables.next_noise),
        }
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The numbers of a batch for these networks. π climbs `climbed`.
fn expected(
    config: &HilpZeroShotConfig,
    batch: &TransitionBatch,
    draws: &Draws,
    networks: &Networks,
    climbed: &Successor<Flex>,
) -> Metrics {
    let (rows, dim) = (batch.size, config.embedding_dim);
    let (now, next) = (&batch.observations[..], &batch.next_observations[..]);
    let of_row = |i: usize| i * dim..(i + 1) * dim;

    let embed = |embedding: &Embedding<Flex>, states: &[f32]| {
        entries(embedding.forward(side_by_side(rows, &[states])))
    };
    let to_goals = |embeddings: &[Embedding<Flex>], states: &[f32]| {
        [0, 1].map(|k| -> Vec<f64> {
            let [from, to] =
                [states, &batch.value_goals[..]].map(|states| embed(&embeddings[k], states));
            (0..rows)
                .map(|i| -distance(&from[of_row(i)], &to[of_row(i)]).max(1e-3))
                .collect()
        })
    };
    let values = to_goals(&networks.embeddings, now);
    let of_rows = [
        &to_goals(&networks.slow_embeddings, next),
        &to_goals(&networks.slow_embeddings, now),
        &values,
    ];
    let (discount, tau) = (config.embedding_discount, config.expectile);
    let embedding_loss = implicit_value_loss(batch, of_rows, discount, tau);

    let [before, after] = [now, next].map(|states| embed(&networks.embeddings[0], states));
    let subtracted: Vec<f64> = match config.features {
        Features::Difference => before.clone(),
        Features::State => {
            let centre = networks.centre.iter().map(|x| f64::from(*x));
            centre.cycle().take(rows * dim).collect()
        }
    };
    let act = |states: &[f32], noise: &[f32]| -> (Vec<f64>, Vec<f32>) {
        let [seen, asked] = [states, &draws.latents[..]].map(|table| side_by_side(rows, &[table]));
        let means = entries(networks.actor.forward(seen, asked));
        let noisy = means.iter().zip(noise).map(|(mean, noise)| {
            let acted = mean + f64::from(*noise);
            acted.clamp(-0.999_999, 0.999_999) as f32
        });
        let noisy = noisy.collect();
        (means, noisy)
    };
    let sums = |successor: &Successor<Flex>, states: &[f32], actions: &[f32]| {
        let [seen, asked, acted] =
            [states, &draws.latents[..], actions].map(|table| side_by_side(rows, &[table]));
        successor.forward(seen, asked, acted).map(entries)
    };
    let q = |sums: &[f64], i: usize| -> f64 {
        let pairs = sums[of_row(i)].iter().zip(&draws.latents[of_row(i)]);
        pairs.map(|(psi, z)| psi * f64::from(*z)).sum()
    };
    // Each head is the lesser one of some rows.
    let check_both = |[first, second]: &[Vec<f64>; 2]| {
        let of_first = (0..rows).filter(|&i| q(first, i) < q(second, i)).count();
        assert!(of_first > 0 && of_first < rows, "{of_first} of {rows}");
    };

    let (_, next_actions) = act(next, &draws.next_noise);
    let slow = sums(&networks.slow_successor, next, &next_actions);
    check_both(&slow);
    let mut targets = Vec::new();
    for i in 0..rows {
        let lesser = usize::from(q(&slow[1], i) <= q(&slow[0], i));
        targets.extend(
            of_row(i).map(|j| after[j] - subtracted[j] + config.discount * slow[lesser][j]),
        );
    }
    let heads = sums(&networks.successor, now, &batch.actions);
    let of_head = |head: &Vec<f64>| {
        if config.scalar_loss {
            mean_over(rows, |i| (q(head, i) - q(&targets, i)).powi(2))
        } else {
            mean_over(rows * dim, |j| (head[j] - targets[j]).powi(2))
        }
    };
    let successor_loss: f64 = heads.iter().map(of_head).sum();

    let (means, actions) = act(now, &draws.noise);
    let heads = sums(climbed, now, &actions);
    check_both(&heads);
    let least = |i: usize| q(&heads[0], i).min(q(&heads[1], i));
    let mean_q = mean_over(rows, least);
    let mse = mean_over(means.len(), |j| {
        (means[j] - f64::from(batch.actions[j])).powi(2)
    });
    let actor_loss = if config.imitation > 0.0 {
        let scale = mean_over(rows, |i| least(i).abs()) + 1e-6;
        config.imitation * mse - mean_q / scale
    } else {
        -mean_q
    };
    Metrics::new()
        .with("embedding/loss", embedding_loss)
        .with("embedding/distance", -mean_over(rows, |i| values[0][i]))
        .with(
            "embedding/step",
            mean_over(rows, |i| distance(&before[of_row(i)], &after[of_row(i)])),
        )
        .with("successor/loss", successor_loss)
        .with("actor/loss", actor_loss)
        .with("actor/q", mean_q)
        .with("actor/mse", mse)
}

fn is_near(found: &Metrics, expected: &Metrics, name: &str) -> bool {
    let [found, expected] = [found, expected].map(|metrics| metrics.get(name).unwrap());
    (found - expected).abs() < 5e-5 * expected.abs().max(0.1)
}

fn check(found: &Metrics, expected: &Metrics) {
    for (name, _) in expected.iter() {
        let holds = is_near(found, expected, name);
        assert!(holds, "{name}: {found:?}, not {expected:?}");
    }
}

/// Either kind of features, with either form of L_ψ and of L_π. Actions are cut off, and no two of
/// the rates and discounts are the same.
fn configs() -> [HilpZeroShotConfig; 2] {
    let mut of_states = HilpZeroShotConfig {
        embedding_discount: 0.8,
        discount: 0.95,
        expectile: 0.8,
        embedding_target_rate: 0.05,
        target_rate: 0.1,
        std: 0.8,
        noise_clip: 1.2,
        imitation: 0.0,
        ..small()
    };
    of_states.goals.value = GoalMix {
        current: 0.2,
        trajectory: 0.5,
        random: 0.3,
        ..of_states.goals.value
    };
    of_states.optimizer.lr = 5e-3;
    of_states.embedding_optimizer.lr = 5e-3;
    let of_differences = HilpZeroShotConfig {
        features: Features::Difference,
        scalar_loss: true,
        imitation: 0.5,
        ..of_states.clone()
    };
    [of_states, of_differences]
}

/// An agent whose networks and slow copies have gone apart, and a batch that it has not seen.
fn moved(config: &HilpZeroShotConfig) -> (HilpZeroShotAgent<A>, TransitionBatch) {
    let mut agent = walker(config);
    for k in 0..20 {
        let batch = walk(&agent, 64, k);
        agent.update(&batch, &mut Seed::new(k).rng());
    }
    let batch = walk(&agent, 64, 50);
    (agent, batch)
}

#[test]
fn an_evaluation_asks_the_networks_that_it_should() {
    for config in configs() {
        let (mut agent, batch) = moved(&config);
        let draws = Draws::of(&agent, &batch, 2);
        let networks = Networks::of(&agent);
        let expected = expected(&config, &batch, &draws, &networks, &networks.successor);
        check(&agent.evaluate(&batch, &mut Seed::new(2).rng()), &expected);
    }
}

#[test]
fn an_update_asks_the_networks_that_it_should_in_their_order() {
    for config in configs() {
        let (mut agent, batch) = moved(&config);
        let draws = Draws::of(&agent, &batch, 2);
        let before = Networks::of(&agent);
        let found = agent.update(&batch, &mut Seed::new(2).rng()).read();
        let after = Networks::of(&agent);
        // π climbs ψ after its step; everything else is from before.
        let of = |draws: &Draws, networks: &Networks, climbed: &Successor<Flex>| {
            expected(&config, &batch, draws, networks, climbed)
        };
        check(&found, &of(&draws, &before, &after.successor));

        // The numbers would tell if it were otherwise.
        let swapped = Draws {
            latents: draws.latents.clone(),
            noise: draws.next_noise.clone(),
            next_noise: draws.noise.clone(),
        };
        let of_networks = |networks: Networks| of(&draws, &networks, &after.successor);
        let mut others = vec![
            ("actor/loss", of(&draws, &before, &before.successor)),
            ("actor/loss", of(&swapped, &before, &after.successor)),
            ("successor/loss", of(&swapped, &before, &after.successor)),
            (
                "embedding/loss",
                of_networks(Networks {
                    slow_embeddings: before.embeddings.clone(),
                    ..before.clone()
                }),
            ),
            (
                "successor/loss",
                of_networks(Networks {
                    slow_successor: before.successor.clone(),
                    ..before.clone()
                }),
            ),
            (
                "successor/loss",
                of_networks(Networks {
                    actor: after.actor.clone(),
                    ..before.clone()
                }),
            ),
        ];
        if config.features == Features::State {
            let uncentred = Networks {
                centre: vec![0.0; config.embedding_dim],
                ..before.clone()
            };
            others.push(("successor/loss", of_networks(uncentred)));
        }
        for (index, (name, other)) in others.iter().enumerate() {
            let differs = !is_near(&found, other, name);
            assert!(differs, "{index}, {name}: {found:?} and {other:?}");
        }
    }
}
