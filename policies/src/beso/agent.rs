//! Learning.

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use telic_datasets::{ClipBounds, WindowBatch, WindowConfig, WindowSampler};
use telic_seed::Rng;

use super::config::BesoConfig;
use super::denoise::{Conditions, Denoiser};
use super::guidance::GoalMaskConfig;
use super::history::HistoryTraining;
use super::network::{Dims, InputLayout, Outputs, ScoreNetwork};
use super::noise_density::NoiseDensity;
use super::preconditioning::Preconditioning;
use crate::batches::SizedSampler;
use crate::ema::SlowCopy;
use crate::inputs::Inputs;
use crate::module_state::tensor_values;
use crate::trained::{NETWORK, Trained};
use crate::{
    Agent, BatchSampler, DataPart, Metrics, Model, Numbers, PolicyError, TensorMap, TrainingTask,
};

/// Trains the network.
///
/// Metrics of an update: `actor/loss`; `actor/target_square`, the mean of T², which is 1 if `sigma_data` fits the data;
/// `optimizer/gradient_norm`; `optimizer/lr`. Of an evaluation, with averaged weights: `actor/loss` and
/// `actor/action_error`, the mean squared difference of sampled and recorded newest actions, normalised.
pub struct BesoAgent<B: AutodiffBackend> {
    config: BesoConfig,
    inputs: Inputs,
    bounds: ClipBounds,
    layout: InputLayout,
    density: NoiseDensity,
    trained: Trained<B, ScoreNetwork<B>>,
    average: SlowCopy<ScoreNetwork<B::InnerBackend>>,
}

impl<B: AutodiffBackend> BesoAgent<B> {
    pub(super) fn new(
        config: &BesoConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        let inputs = Inputs::fit(&config.inputs, task)?;
        let DataPart { dataset, episodes } = &task.data;
        let factor = config.action_clip_factor;
        let bounds = dataset.action_bounds(&inputs.actions, factor, episodes)?;
        let dims = Dims {
            observation_dim: inputs.observation_dim(),
            action_dim: inputs.action_dim(),
            window: config.window,
            goal_length: config.goal_length,
        };
        let mut rng = task.seed.child("init").rng();
        let network = ScoreNetwork::<B>::new(&config.network, dims, &mut rng, device);
        Ok(Self {
            inputs,
            bounds,
            layout: InputLayout::new(config.network.kind, dims),
            density: NoiseDensity::new(
                &config.noise,
                config.sigma_data,
                config.sigma_min,
                config.sigma_max,
            ),
            average: SlowCopy::new(network.valid()),
            trained: Trained::new(
                network,
                config.optimizer,
                config.lr_schedule,
                task.steps,
                device,
            ),
            config: config.clone(),
        })
    }

    fn draw(&self, batch: &WindowBatch, goal_mask: &GoalMaskConfig, rng: &mut Rng) -> Noised {
        let preconditioning = Preconditioning {
            sigma_data: self.config.sigma_data,
        };
        Noised::draw(
            batch,
            self.layout,
            preconditioning,
            &self.density,
            self.config.history_training,
            goal_mask,
            rng,
        )
    }
}

impl<B: AutodiffBackend> Agent for BesoAgent<B> {
    type Batch = WindowBatch;
    type Backend = B::InnerBackend;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<WindowBatch>>, PolicyError> {
        let config = WindowConfig {
            window: self.config.window,
            goal_length: self.config.goal_length,
            goal_range: self.config.goal_range,
            goal_horizon: self.config.goal_horizon,
            stitched: self.config.stitched,
            clusters: self.config.clusters,
            observation_columns: self.inputs.features.columns.clone(),
            goal_columns: self.inputs.features.goal_columns.clone(),
            // The transformer learns short contexts as the beginnings of long ones.
            short_windows: !self.layout.denoises_all(),
        };
        let sampler = WindowSampler::over(data.dataset.clone(), &data.episodes, config)?
            .with_normalizers(
                self.inputs.features.normalizer.clone(),
                self.inputs.actions.clone(),
            )?;
        Ok(Box::new(SizedSampler {
            sampler,
            batch_size,
        }))
    }

    fn update(&mut self, batch: &WindowBatch, rng: &mut Rng) -> Numbers<B::InnerBackend> {
        let noised = self.draw(batch, &self.config.goal_mask, rng);
        let target_square = noised.target_square();
        let loss = noised.loss(self.trained.module(), self.trained.device(), Some(rng));
        let mut numbers = Numbers::new()
            .with("actor/loss", loss.clone().inner())
            .with("actor/target_square", target_square);
        self.trained.step(loss, &mut numbers);
        let weight = self.config.ema.weight(self.trained.updates());
        self.average.follow(self.trained.module(), weight);
        numbers
    }

    fn evaluate(&mut self, batch: &WindowBatch, rng: &mut Rng) -> Metrics {
        let network = self.average.get();
        let no_mask = GoalMaskConfig {
            probability: 0.0,
            ..self.config.goal_mask
        };
        let noised = self.draw(batch, &no_mask, rng);
        let loss = tensor_values(noised.loss(network, self.trained.device(), None))[0];
        let metrics = Metrics::new().with("actor/loss", loss);

        // Contexts of one length are one batch: the full ones.
        let (window, dim) = (batch.window, batch.action_dim);
        let full: Vec<usize> = (0..batch.size).filter(|&i| batch.missing[i] == 0).collect();
        if full.is_empty() {
            return metrics;
        }
        let rows = |values: &[f32], width: usize, taken: usize| -> Vec<f32> {
            full.iter()
                .flat_map(|i| values[i * width..i * width + taken].iter().copied())
                .collect()
        };
        let states = window * batch.observation_dim;
        let goals = batch.goal_length * batch.observation_dim;
        let past = (window - 1) * dim;
        let conditions = Conditions {
            rows: full.len(),
            context: window,
            goals: rows(&batch.goals, goals, goals),
            states: rows(&batch.observations, states, states),
            history: rows(&batch.actions, window * dim, past)
                .into_iter()
                .map(f64::from)
                .collect(),
        };
        let settings = &self.config.sampler;
        let sigmas = settings
            .schedule()
            .sigmas(settings.steps)
            .expect("the configuration was validated");
        let mut streams: Vec<Rng> = full
            .iter()
            .map(|_| Rng::seed_from_u64(rng.random()))
            .collect();
        let mut rngs: Vec<&mut Rng> = streams.iter_mut().collect();
        let denoiser = Denoiser::new(network.clone(), self.layout, self.config.sigma_data);
        let Ok(sampled) = denoiser.sample(settings, &sigmas, &conditions, &mut rngs, None) else {
            // The sampler gave up: this batch says nothing of its actions.
            return metrics;
        };
        let mut sampled: Vec<f32> = sampled.into_iter().map(|action| action as f32).collect();
        self.bounds.clip(&mut sampled);
        let recorded = full.iter().flat_map(|i| {
            let end = (i + 1) * window * dim;
            &batch.actions[end - dim..end]
        });
        let squares = sampled
            .iter()
            .zip(recorded)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>();
        metrics.with("actor/action_error", squares / sampled.len() as f64)
    }

    fn model(&self) -> Model {
        let mut weights = TensorMap::new();
        self.average.insert_into(&mut weights, NETWORK);
        let mut settings = toml::Table::new();
        settings.insert(
            "sampler".into(),
            crate::config_table::to_table(&self.config.sampler).into(),
        );
        self.inputs
            .model(Some(self.bounds.clone()), settings, weights)
    }

    fn state(&self) -> TensorMap {
        let mut state = self.trained.state();
        self.average.insert_into(&mut state, AVERAGE);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let average = self.average.loaded(state, AVERAGE)?;
        self.trained.load_state(state)?;
        self.average = average;
        Ok(())
    }
}

const AVERAGE: &str = "average";

/// A batch with noise, as the network sees it, and its targets.
struct Noised {
    sequences: [usize; 2],
    /// `[batch, stride]` of the layout.
    features: Vec<f32>,
    /// `[batch · window, action_dim]`, or `[batch, action_dim]` if the newest action alone is denoised.
    targets: Vec<f32>,
    /// Which targets count, 0 or 1; `None` for all.
    counted: Option<Vec<f32>>,
}

impl Noised {
    fn draw(
        batch: &WindowBatch,
        layout: InputLayout,
        preconditioning: Preconditioning,
        density: &NoiseDensity,
        history: HistoryTraining,
        goal_mask: &GoalMaskConfig,
        rng: &mut Rng,
    ) -> Self {
        let dims = layout.dims();
        let (window, dim) = (batch.window, dims.action_dim);
        let stride = layout.stride(window);
        let mut goals = batch.goals.clone();
        goal_mask.apply(&mut goals, dims.goal_length, dims.observation_dim, rng);
        let mut features = vec![0.0; batch.size * stride];
        // Only what the network gives an output for has a target.
        let first_target = if layout.denoises_all() { 0 } else { window - 1 };
        let mut targets = Vec::with_capacity(batch.size * (window - first_target) * dim);
        let mut counted = (layout.denoises_all() && history == HistoryTraining::Clean)
            .then(|| Vec::with_capacity(targets.capacity()));
        for i in 0..batch.size {
            let sigma = density.sample(rng);
            let scalings = preconditioning.scalings(sigma);
            // The actions before this step are clean.
            let noised_from = match history {
                HistoryTraining::Noised => 0,
                HistoryTraining::Clean if layout.denoises_all() => rng.random_range(0..window),
                HistoryTraining::Clean => window - 1,
            };
            let missing = batch.missing[i];
            let context = window - missing;
            let row = &mut features[i * stride..(i + 1) * stride];
            let goal_width = dims.goal_length * dims.observation_dim;
            let end = (i + 1) * window * dims.observation_dim;
            layout.write_conditions(
                row,
                &goals[i * goal_width..(i + 1) * goal_width],
                &batch.observations[end - context * dims.observation_dim..end],
            );
            layout.write_noise(row, scalings.noise as f32);
            for step in missing..window {
                let first = (i * window + step) * dim;
                let mut inputs = Vec::with_capacity(dim);
                for &action in &batch.actions[first..first + dim] {
                    let noise: f64 = if step < noised_from {
                        0.0
                    } else {
                        StandardNormal.sample(rng)
                    };
                    let (noisy, target) = preconditioning.noised(f64::from(action), noise, sigma);
                    inputs.push((scalings.input * noisy) as f32);
                    if step >= first_target {
                        targets.push(target as f32);
                        if let Some(counted) = &mut counted {
                            counted.push(f32::from(u8::from(step == noised_from)));
                        }
                    }
                }
                layout.write_action(row, step - missing, context, inputs.into_iter());
            }
        }
        Self {
            sequences: [batch.size, window],
            features,
            targets,
            counted,
        }
    }

    /// The mean of T² over the targets that count.
    fn target_square(&self) -> f64 {
        let weight = |i: usize| {
            self.counted
                .as_ref()
                .map_or(1.0, |counted| f64::from(counted[i]))
        };
        let sum = |f: &dyn Fn(usize) -> f64| (0..self.targets.len()).map(f).sum::<f64>();
        let squares = sum(&|i| weight(i) * f64::from(self.targets[i]).powi(2));
        squares / sum(&weight)
    }

    /// The mean of `(F − T)²` over the targets that count.
    fn loss<B: Backend>(
        self,
        network: &ScoreNetwork<B>,
        device: &B::Device,
        dropout: Option<&mut Rng>,
    ) -> Tensor<B, 1> {
        let found = network.forward(self.features, self.sequences, Outputs::Actions, dropout);
        let shape = found.dims();
        let table =
            |values: Vec<f32>| Tensor::<B, 2>::from_data(TensorData::new(values, shape), device);
        let difference = found - table(self.targets);
        let squares = difference.clone() * difference;
        match self.counted {
            None => squares.mean(),
            Some(counted) => {
                let count: f32 = counted.iter().sum();
                (squares * table(counted)).sum() / count
            }
        }
    }
}
