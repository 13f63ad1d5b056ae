//! What the tests of agents share: a task that is solved in seconds, and checks that every agent has to pass.

use std::sync::Arc;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ndarray::{Array2, array};
use rand::RngExt;
use telic_datasets::{Dataset, Episode, Metadata};
use telic_seed::Seed;

use crate::joint::{JointAgent, Objective};
use crate::module_state::{parameter_names, tensor_values};
use crate::trained::NETWORK;
use crate::{Agent, Algorithm, DataPart, TrainingTask};

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

/// Parameters that learn, for data of this shape.
pub(crate) fn parameters<T: Algorithm>(
    config: &T::Config,
    observation_dim: usize,
    action_dim: usize,
) -> usize {
    let data = crate::synthetic_dataset(observation_dim, action_dim, 2, 5).unwrap();
    let task = TrainingTask {
        data: DataPart::all(Arc::new(data)),
        ..line(1)
    };
    let agent = T::new_agent::<A>(config, &task, &Default::default()).unwrap();
    let state = agent.state().sub_map(NETWORK);
    state.iter().map(|(_, tensor)| tensor.values().len()).sum()
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
