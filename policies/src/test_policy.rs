//! A tiny algorithm for the tests of what runs algorithms: behaviour cloning with a two-layer network, dropout,
//! Adam and an average of the weights, so that every kind of state is there.

use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, ArrayView2};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_datasets::{
    Dataset, Episode, FeatureView, HindsightConfig, HindsightSampler, Metadata, Normalizer,
    TransitionBatch,
};
use telic_seed::{Rng, Seed};

use crate::batches::SizedSampler;
use crate::module_state::tensor_values;
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, DataSpec, Metrics, Model, Numbers, Policy,
    PolicyConfig, PolicyError, PolicySpec, Problems, TensorMap, TrainingTask,
};

pub(crate) const SPEC: PolicySpec =
    PolicySpec::of::<TestPolicy>("test", "Test policy", "behaviour cloning for tests", "none");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TestConfig {
    pub(crate) hidden: usize,
    pub(crate) dropout: f32,
    pub(crate) noise: f32,
    /// The update after which the loss is NaN; 0 for never.
    pub(crate) poison: u64,
    pub(crate) optimizer: TestOptimizer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TestOptimizer {
    pub(crate) lr: f32,
    pub(crate) beta: f32,
}

impl Default for TestConfig {
    fn default() -> Self {
        let optimizer = TestOptimizer::default();
        Self {
            hidden: 16,
            dropout: 0.1,
            noise: 0.0,
            poison: 0,
            optimizer,
        }
    }
}

impl Default for TestOptimizer {
    fn default() -> Self {
        Self {
            lr: 3e-3,
            beta: 0.9,
        }
    }
}

impl PolicyConfig for TestConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.check(self.hidden >= 1, "hidden", self.hidden, "at least 1");
        problems.nested("optimizer", |problems| {
            let lr = self.optimizer.lr;
            problems.check(lr > 0.0, "lr", lr, "a positive number");
        });
    }
}

pub(crate) struct TestPolicy;

impl Algorithm for TestPolicy {
    type Config = TestConfig;
    type Agent<B: AutodiffBackend> = TestAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &TestConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<TestAgent<B>, PolicyError> {
        let data = DataSpec::of(&task.data.dataset);
        let mut rng = task.seed.child("init").rng();
        let weights: Vec<Vec<f32>> = shapes(&data, config)
            .iter()
            .map(|[rows, columns]| {
                let scale = (3.0 / *rows as f32).sqrt();
                (0..rows * columns)
                    .map(|_| rng.random_range(-scale..scale))
                    .collect()
            })
            .collect();
        let zeros: Vec<Vec<f32>> = weights
            .iter()
            .map(|weights| vec![0.0; weights.len()])
            .collect();
        Ok(TestAgent {
            data,
            average: weights.clone(),
            first: zeros.clone(),
            second: zeros,
            weights,
            updates: 0,
            config: config.clone(),
            device: device.clone(),
        })
    }

    fn load<B: Backend>(
        config: &TestConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let shapes = shapes(&model.data, config);
        let weights = load_all(&model.weights, "net", &shapes)?;
        Ok(Box::new(TestActor::<B> {
            data: model.data.clone(),
            weights: tensors(&weights, &shapes, device),
            noise: config.noise,
            rows: 0,
            device: device.clone(),
        }))
    }
}

fn shapes(data: &DataSpec, config: &TestConfig) -> [[usize; 2]; 2] {
    [
        [2 * data.observation_dim, config.hidden],
        [config.hidden, data.action_dim],
    ]
}

fn tensors<B: Backend>(
    weights: &[Vec<f32>],
    shapes: &[[usize; 2]; 2],
    device: &B::Device,
) -> [Tensor<B, 2>; 2] {
    [0, 1].map(|i| Tensor::from_data(TensorData::new(weights[i].clone(), shapes[i]), device))
}

fn forward<B: Backend>(
    weights: &[Tensor<B, 2>; 2],
    input: Tensor<B, 2>,
    mask: Option<Tensor<B, 2>>,
) -> Tensor<B, 2> {
    let hidden = relu(input.matmul(weights[0].clone()));
    let hidden = mask.map_or(hidden.clone(), |mask| hidden * mask);
    hidden.matmul(weights[1].clone())
}

fn save_all(tensors: &mut TensorMap, prefix: &str, values: &[Vec<f32>], shapes: &[[usize; 2]; 2]) {
    for (layer, (values, shape)) in values.iter().zip(shapes).enumerate() {
        tensors.insert_f32(format!("{prefix}.{layer}"), shape, values.clone());
    }
}

fn load_all(
    tensors: &TensorMap,
    prefix: &str,
    shapes: &[[usize; 2]; 2],
) -> Result<Vec<Vec<f32>>, PolicyError> {
    let load = |(layer, shape): (usize, &[usize; 2])| {
        Ok(tensors
            .get_f32(&format!("{prefix}.{layer}"), shape)?
            .to_vec())
    };
    shapes.iter().enumerate().map(load).collect()
}

pub(crate) struct TestAgent<B: AutodiffBackend> {
    config: TestConfig,
    data: DataSpec,
    device: B::Device,
    weights: Vec<Vec<f32>>,
    average: Vec<Vec<f32>>,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
    updates: u64,
}

fn input<B: Backend>(batch: &TransitionBatch, device: &B::Device) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let table = |values: &[f32], width: usize| {
        Tensor::<B, 2>::from_data(
            TensorData::new(values.to_vec(), [batch.size, width]),
            device,
        )
    };
    let observations = table(&batch.observations, batch.observation_dim);
    let goals = table(&batch.actor_goals, batch.observation_dim);
    (
        Tensor::cat(vec![observations, goals], 1),
        table(&batch.actions, batch.action_dim),
    )
}

impl<B: AutodiffBackend> Agent for TestAgent<B> {
    type Batch = TransitionBatch;
    type Backend = B::InnerBackend;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        let config = HindsightConfig::default();
        let sampler = HindsightSampler::over(data.dataset.clone(), &data.episodes, config)?;
        Ok(Box::new(SizedSampler {
            sampler,
            batch_size,
        }))
    }

    fn update(&mut self, batch: &TransitionBatch, rng: &mut Rng) -> Numbers<B::InnerBackend> {
        self.updates += 1;
        let shapes = shapes(&self.data, &self.config);
        let (input, actions) = input::<B>(batch, &self.device);
        let keep = 1.0 - self.config.dropout;
        let mask: Vec<f32> = (0..batch.size * self.config.hidden)
            .map(|_| f32::from(u8::from(rng.random::<f32>() < keep)) / keep)
            .collect();
        let mask = TensorData::new(mask, [batch.size, self.config.hidden]);
        let weights = tensors::<B>(&self.weights, &shapes, &self.device).map(Tensor::require_grad);
        let predicted = forward(&weights, input, Some(Tensor::from_data(mask, &self.device)));
        let loss = (predicted - actions).square().mean();
        let mut value = tensor_values(loss.clone())[0];
        let gradients = loss.backward();
        let TestOptimizer { lr, beta } = self.config.optimizer;
        for (layer, weight) in weights.iter().enumerate() {
            let gradient = tensor_values(weight.grad(&gradients).unwrap());
            for (i, g) in gradient.into_iter().enumerate() {
                let (m, v) = (&mut self.first[layer][i], &mut self.second[layer][i]);
                *m = beta * *m + (1.0 - beta) * g;
                *v = 0.999 * *v + 0.001 * g * g;
                let step = self.updates as i32;
                let (m, v) = (
                    *m / (1.0 - beta.powi(step)),
                    *v / (1.0 - 0.999f32.powi(step)),
                );
                self.weights[layer][i] -= lr * m / (v.sqrt() + 1e-8);
                let average = &mut self.average[layer][i];
                *average += 0.1 * (self.weights[layer][i] - *average);
            }
        }
        if self.updates == self.config.poison {
            value = f32::NAN;
        }
        Numbers::new().with("actor/loss", f64::from(value))
    }

    fn evaluate(&mut self, batch: &TransitionBatch, _rng: &mut Rng) -> Metrics {
        let shapes = shapes(&self.data, &self.config);
        let (input, actions) = input::<B::InnerBackend>(batch, &self.device);
        let weights = tensors::<B::InnerBackend>(&self.average, &shapes, &self.device);
        let loss = (forward(&weights, input, None) - actions).square().mean();
        Metrics::new().with("actor/loss", tensor_values(loss)[0])
    }

    fn model(&self) -> Model {
        let mut weights = TensorMap::new();
        save_all(
            &mut weights,
            "net",
            &self.average,
            &shapes(&self.data, &self.config),
        );
        Model {
            data: self.data.clone(),
            features: FeatureView::default(),
            actions: Normalizer::MinMax {
                low: vec![-0.1; 2],
                high: vec![f32::MIN_POSITIVE; 2],
            },
            action_bounds: None,
            settings: toml::Table::new(),
            weights,
        }
    }

    fn state(&self) -> TensorMap {
        let shapes = shapes(&self.data, &self.config);
        let mut state = TensorMap::new();
        save_all(&mut state, "net", &self.weights, &shapes);
        save_all(&mut state, "average", &self.average, &shapes);
        save_all(&mut state, "adam.first", &self.first, &shapes);
        save_all(&mut state, "adam.second", &self.second, &shapes);
        state.insert_u64("updates", self.updates);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let shapes = shapes(&self.data, &self.config);
        self.weights = load_all(state, "net", &shapes)?;
        self.average = load_all(state, "average", &shapes)?;
        self.first = load_all(state, "adam.first", &shapes)?;
        self.second = load_all(state, "adam.second", &shapes)?;
        self.updates = state.get_u64("updates")?;
        Ok(())
    }
}

struct TestActor<B: Backend> {
    data: DataSpec,
    weights: [Tensor<B, 2>; 2],
    noise: f32,
    rows: usize,
    device: B::Device,
}

impl<B: Backend> Policy for TestActor<B> {
    fn observation_dim(&self) -> usize {
        self.data.observation_dim
    }

    fn action_dim(&self) -> usize {
        self.data.action_dim
    }

    fn reset(&mut self, rows: usize) {
        self.rows = rows;
    }

    fn reset_row(&mut self, _row: usize) {}

    fn act(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
        rngs: &mut [Rng],
        actions: &mut Array2<f32>,
    ) -> Result<(), PolicyError> {
        let expected = vec![self.rows, self.observation_dim()];
        if observations.shape() != expected {
            let found = observations.shape().to_vec();
            return Err(PolicyError::Shape {
                what: "observations",
                found,
                expected,
            });
        }
        let table = |values: ArrayView2<'_, f32>| {
            let data = TensorData::new(
                values.iter().copied().collect::<Vec<_>>(),
                [values.nrows(), values.ncols()],
            );
            Tensor::<B, 2>::from_data(data, &self.device)
        };
        let input = Tensor::cat(vec![table(observations), table(goals)], 1);
        let predicted = tensor_values(forward(&self.weights, input, None));
        for (row, rng) in rngs.iter_mut().enumerate() {
            for (column, action) in actions.row_mut(row).iter_mut().enumerate() {
                let noise = self.noise * rng.random_range(-1.0..1.0);
                *action = (predicted[row * self.data.action_dim + column] + noise).clamp(-1.0, 1.0);
            }
        }
        Ok(())
    }
}

/// Points that walk towards random places: 12 episodes, observations of 3 entries, actions of 2.
pub(crate) fn dataset() -> Arc<Dataset> {
    let seed = Seed::new(5);
    let episodes: Vec<Episode> = (0..12)
        .map(|episode| {
            let mut rng = seed.index(episode).rng();
            let rows = rng.random_range(6..20);
            let target: [f32; 2] = [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)];
            let observations = Array2::from_shape_fn((rows, 3), |(t, i)| match i {
                2 => 1.0,
                i => target[i] * t as f32 / rows as f32,
            });
            let actions = Array2::from_shape_fn((rows, 2), |(_, i)| target[i]);
            Episode {
                observations,
                actions,
                ..Episode::default()
            }
        })
        .collect();
    let metadata = Metadata {
        env: "points".into(),
        ..Metadata::default()
    };
    Arc::new(Dataset::from_episodes(&episodes, metadata).unwrap())
}
