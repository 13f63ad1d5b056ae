//! What the tests of agents share: a task that is solved in seconds, and checks that every agent has to pass.

use std::sync::Arc;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ndarray::{Array2, array};
use rand::RngExt;
use telic_datasets::{Dataset, Episode, Metadata, TransitionBatch};
use telic_seed::Seed;

use crate::joint::{JointAgent, Objective};
use crate::losses::Losses;
use crate::module_state::{parameter_names, tensor_values};
use crate::nn::Mlp;
use crate::tables::Table;
use crate::trained::NETWORK;
use crate::{Agent, Algorithm, DataPart, TensorMap, TensorValues, TrainingTask};

pub(crate) type A = Autodiff<Flex>;

/// Rows of a batch.
const BATCH: usize = 128;

/// Walks along the line 0..=1 by up to 0.1 a step; the action, in −1..=1, says how far. Three of four steps repeat the one
/// before, so that an action tells where its walk goes.
pub(crate) fn line(observation_dim: usize) -> TrainingTask {
    let episodes: Vec<Episode> = (0..100)
        .map(|episode| {
            let mut rng = Seed::new(11).index(episode).rng();
            let mut position = rng.random_range(0.0..1.0_f32);
            let mut observations = Array2::zeros((31, observation_dim));
            let mut actions = Array2::zeros((31, 1));
            let mut step = 0.0;
            for row in 0..31 {
                observations[[row, 0]] = position;
                if row == 0 || rng.random_bool(0.25) {
                    step = rng.random_range(-1.0..=1.0_f32);
                }
                actions[[row, 0]] = step;
                position = (position + 0.1 * step).clamp(0.0, 1.0);
            }
            Episode {
                observations,
                actions,
                ..Episode::default()
            }
        })
        .collect();
    let dataset = Arc::new(Dataset::from_episodes(&episodes, Metadata::default()).unwrap());
    TrainingTask {
        data: DataPart::all(dataset),
        seed: Seed::new(3),
        steps: 500,
        batch_size: BATCH,
    }
}

/// A fresh agent for the line.
pub(crate) fn agent<T: Algorithm>(config: &T::Config) -> T::Agent<A> {
    T::new_agent::<A>(config, &line(1), &Default::default()).unwrap()
}

/// A batch from the line.
pub(crate) fn batch<G: Agent>(agent: &G, seed: u64) -> G::Batch {
    let mut sampler = agent.sampler(&line(1).data, BATCH).unwrap();
    let mut batch = sampler.new_batch();
    sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
    batch
}

/// An agent whose networks and slow copies have gone apart, so that none can stand in for another.
pub(crate) fn moved<T: Algorithm>(config: &T::Config, updates: u64) -> T::Agent<A> {
    let mut agent = agent::<T>(config);
    for k in 0..updates {
        agent.update(&batch(&agent, k), &mut Seed::new(k).rng());
    }
    agent
}

/// Published: a slow copy at 1 follows a number that was 2 before the step and is `after` after it. It comes to 1.005 with a rate of 0.005,
/// whatever the step made of the 2: slow copies follow before the step. The rate of Adam has to be 1, which is the length of its first step.
pub(crate) fn check_published_follow<T: Algorithm>(
    config: &T::Config,
    [online, slow]: [&str; 2],
    before: &[(&str, f32)],
    after: f32,
) {
    let mut agent = agent::<T>(config);
    let mut state = agent.state();
    for &(name, value) in before.iter().chain(&[(online, 2.0), (slow, 1.0)]) {
        state.insert_f32(name, &[1], vec![value]);
    }
    agent.load_state(&state).unwrap();
    let batch = batch(&agent, 1);
    agent.update(&batch, &mut Seed::new(0).rng());
    let state = agent.state();
    let [new, slow] = [online, slow].map(|name| state.get_f32(name, &[1]).unwrap()[0]);
    assert!((new - after).abs() < 1e-4, "{new}");
    assert!((slow - 1.005).abs() < 1e-6, "{slow}");
}

/// The networks of a fresh agent for data of this shape.
fn fresh_networks<T: Algorithm>(
    config: &T::Config,
    observation_dim: usize,
    action_dim: usize,
) -> TensorMap {
    let data = crate::synthetic_dataset(observation_dim, action_dim, 2, 5).unwrap();
    let task = TrainingTask {
        data: DataPart::all(Arc::new(data)),
        ..line(1)
    };
    let agent = T::new_agent::<A>(config, &task, &Default::default()).unwrap();
    agent.state().sub_map(NETWORK)
}

/// Parameters that learn, for data of this shape.
pub(crate) fn parameters<T: Algorithm>(
    config: &T::Config,
    observation_dim: usize,
    action_dim: usize,
) -> usize {
    let networks = fresh_networks::<T>(config, observation_dim, action_dim);
    let parameters = networks.iter().map(|(_, tensor)| tensor.values().len());
    parameters.sum()
}

/// Weights fill the range of Glorot, those of the `heads` with a hundredth of the variance; norms scale by 1 and all else is 0.
pub(crate) fn check_initial_weights<T: Algorithm>(config: &T::Config, heads: &[&str]) {
    let networks = fresh_networks::<T>(config, 29, 8);
    for head in heads {
        assert!(networks.contains(head), "{head} is none of the weights");
    }
    for (name, tensor) in networks.iter() {
        let TensorValues::F32(values) = tensor.values() else {
            panic!("{name} is {}", tensor.describe());
        };
        if let [inputs, outputs] = *tensor.shape() {
            let scale = if heads.contains(&name) { 0.01 } else { 1.0 };
            let limit = (6.0 * scale / (inputs + outputs) as f32).sqrt();
            let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let fills = largest <= limit && largest > 0.95 * limit;
            assert!(fills, "{name}: {largest}, and a limit of {limit}");
        } else {
            let expected = f32::from(name.rsplit('.').next() == Some("gamma"));
            assert!(values.iter().all(|x| *x == expected), "{name}: {values:?}");
        }
    }
}

/// The parts of a module that a loss has a gradient for, in alphabetical order.
fn moved_parts<M: AutodiffModule<A>>(module: &M, loss: &Tensor<A, 1>) -> Vec<String> {
    let gradients = GradientsParams::from_grads(loss.backward(), module);
    let mut parts: Vec<String> = parameter_names(module)
        .into_iter()
        .filter(|&(id, _)| {
            [
                gradients.get::<Flex, 2>(id).map(tensor_values),
                gradients.get::<Flex, 1>(id).map(tensor_values),
            ]
            .into_iter()
            .flatten()
            .any(|values| values.iter().any(|g| *g != 0.0))
        })
        .map(|(_, name)| name.split('.').next().unwrap().to_owned())
        .collect();
    parts.sort();
    parts.dedup();
    parts
}

/// Each loss has a gradient for its own networks only; `expected` has their names in alphabetical order.
pub(crate) fn check_gradients<O>(config: &O::Config, expected: &[(&str, &[&str])])
where
    O: Objective + Algorithm<Agent<A> = JointAgent<O, A>>,
    O::Networks<A>: AutodiffModule<A, InnerModule = O::Networks<Flex>>,
{
    let agent = agent::<O>(config);
    for (loss, own) in expected {
        let losses = agent.losses(&batch(&agent, 1), &mut Seed::new(2).rng());
        let loss = losses.numbers.on_device(loss).unwrap();
        assert_eq!(moved_parts(agent.networks(), &loss), *own, "{config:?}");
    }
}

/// Tables of a batch side by side.
pub(crate) fn side_by_side(rows: usize, tables: &[&[f32]]) -> Tensor<Flex, 2> {
    Table::side_by_side(rows, tables).upload(&Default::default())
}

/// The entries of a tensor, row-major.
pub(crate) fn entries<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f64> {
    tensor_values(tensor).into_iter().map(f64::from).collect()
}

/// What a network makes of tables of a batch side by side, row-major.
pub(crate) fn answers(network: &Mlp<Flex>, rows: usize, tables: &[&[f32]]) -> Vec<f64> {
    entries(network.forward(side_by_side(rows, tables)))
}

/// The mean over the rows of a batch.
pub(crate) fn mean_over(rows: usize, of_row: impl Fn(usize) -> f64) -> f64 {
    (0..rows).map(of_row).sum::<f64>() / rows as f64
}

/// `E(weigher; error)`.
pub(crate) fn expectile(weigher: f64, error: f64, expectile: f64) -> f64 {
    let weight = if weigher >= 0.0 {
        expectile
    } else {
        1.0 - expectile
    };
    weight * error * error
}

/// The loss of two implicit values, from V̄_k(s', g), V̄_k(s, g) and V_k(s, g) of each row.
pub(crate) fn implicit_value_loss(
    batch: &TransitionBatch,
    [slow_later, slow_now, values]: [&[Vec<f64>; 2]; 3],
    discount: f64,
    tau: f64,
) -> f64 {
    mean_over(batch.size, |i| {
        let [reward, mask] = [batch.rewards[i], batch.masks[i]].map(f64::from);
        let target = |next: f64| reward + discount * mask * next;
        let least = slow_later[0][i].min(slow_later[1][i]);
        let advantage = target(least) - f64::midpoint(slow_now[0][i], slow_now[1][i]);
        let of = |k: usize| expectile(advantage, target(slow_later[k][i]) - values[k][i], tau);
        of(0) + of(1)
    })
}

/// `−log π` of each row for a deviation of 1.
fn negative_log_probs(means: &[f64], targets: &[f32], rows: usize) -> Vec<f64> {
    let dim = means.len() / rows;
    let pairs = means.chunks_exact(dim).zip(targets.chunks_exact(dim));
    pairs
        .map(|(means, targets)| {
            let errors = means.iter().zip(targets);
            let squares = errors.map(|(mean, target)| (mean - f64::from(*target)).powi(2));
            0.5 * squares.sum::<f64>() + 0.5 * dim as f64 * std::f64::consts::TAU.ln()
        })
        .collect()
}

/// The loss of AWR for advantages of each row and a deviation of 1.
pub(crate) fn awr_loss(means: &[f64], targets: &[f32], advantages: &[f64], alpha: f64) -> f64 {
    let rows = advantages.len();
    let imitation = negative_log_probs(means, targets, rows);
    mean_over(rows, |i| {
        (alpha * advantages[i]).exp().min(100.0) * imitation[i]
    })
}

/// The loss of DDPG+BC for values `q` of the mean action of each row and a deviation of 1.
pub(crate) fn ddpg_bc_loss(means: &[f64], actions: &[f32], q: &[f64], alpha: f64) -> f64 {
    let imitation = negative_log_probs(means, actions, q.len());
    let scale = mean_over(q.len(), |i| q[i].abs()) + 1e-6;
    mean_over(q.len(), |i| alpha * imitation[i] - q[i] / scale)
}

/// These losses, and their sum as what is minimised.
pub(crate) fn check_losses(losses: Losses<A>, expected: &[(&str, f64)]) {
    let total = f64::from(tensor_values(losses.total)[0]);
    let found = losses.numbers.read();
    let near = |name: &str, found: f64, expected: f64| {
        let tolerance = 1e-4 * expected.abs().max(0.1);
        let holds = (found - expected).abs() < tolerance;
        assert!(holds, "{name}: {found}, not {expected}");
    };
    for (name, expected) in expected {
        near(name, found.get(name).unwrap(), *expected);
    }
    near("total", total, expected.iter().map(|(_, loss)| loss).sum());
}

/// A saved state goes on to the same bits.
pub(crate) fn check_resume<T: Algorithm>(config: &T::Config) {
    let run = |restart: Option<u64>| {
        let mut agent = self::agent::<T>(config);
        for k in 0..6 {
            if restart == Some(k) {
                let state = agent.state();
                agent = self::agent::<T>(config);
                agent.load_state(&state).unwrap();
            }
            agent.update(&batch(&agent, k), &mut Seed::new(k).rng());
        }
        agent.state()
    };
    assert_eq!(run(None).first_difference(&run(Some(2))), None);
}

/// Each of these settings is refused with an error that names a place in it, and changes nothing.
pub(crate) fn check_refused(policy: &mut dyn crate::Policy, settings: &[(&str, &str)]) {
    let before = policy.settings();
    for (bad, place) in settings {
        let table = toml::from_str::<toml::Table>(bad).unwrap();
        let error = policy.configure(&table).unwrap_err().to_string();
        assert!(error.contains(place), "{bad}: {error}");
        assert_eq!(policy.settings(), before, "{bad}");
    }
}

/// After some updates the way to a goal on the line is known, and values fall with the distance from it.
pub(crate) fn check_line<T: Algorithm>(config: &T::Config, updates: u64) {
    let mut agent = agent::<T>(config);
    for k in 0..updates {
        let numbers = agent.update(&batch(&agent, k), &mut Seed::new(k).rng());
        let metrics = numbers.read();
        assert_eq!(metrics.first_non_finite(), None, "update {k}: {metrics:?}");
    }
    let mut policy = T::load::<Flex>(config, &agent.model(), &Default::default()).unwrap();
    let observations = array![[0.2_f32], [0.8], [0.5], [0.5], [0.5]];
    let goals = array![[0.8_f32], [0.2], [0.6], [0.1], [0.5]];
    policy.reset(5);
    let mut actions = Array2::zeros((5, 1));
    let mut rngs = vec![Seed::new(1).rng(); 5];
    policy
        .act(observations.view(), goals.view(), &mut rngs, &mut actions)
        .unwrap();
    for (right, left) in [(0, 1), (2, 3)] {
        let lead = actions[[right, 0]] - actions[[left, 0]];
        assert!(lead > 0.4, "{config:?}: {actions}");
    }
    let values = policy
        .values(observations.view(), goals.view())
        .unwrap()
        .unwrap();
    assert!(
        values[2] > values[3] && values[3] > values[0] && values[4] > values[3],
        "{config:?}: {values}"
    );
}
