//! GCBC: goal-conditioned behavioural cloning with hindsight goals, as in OGBench (Park et al. 2025).
//!
//! The policy is a diagonal Gaussian with a fixed standard deviation around a perceptron of observation and goal,
//! `π(a | s, g) = N(μ(s, g), std²)`, and goals come from the future of the same episode, uniformly:
//!
//! ```text
//! L = −mean log π(a | s, g)
//! −log π(a | s, g) = |a − μ|² / (2 std²) + A ln std + (A / 2) ln 2π
//! ```
//!
//! Acting takes the mean, plus `temperature · std` times noise, cut off at −1 and 1.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, ArrayView2};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_datasets::{
    FeatureView, GoalMix, HindsightConfig, HindsightSampler, Normalizer, NormalizerKind,
    TransitionBatch,
};
use telic_seed::{Rng, Seed};

use crate::batches::SizedSampler;
use crate::config_table;
use crate::module_state::{insert_module, load_module, tensor_values};
use crate::nn::{Adam, AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, DataSpec, Metrics, Model, Policy, PolicyConfig,
    PolicyError, PolicySpec, Problems, TensorMap, TrainingTask,
};

/// GCBC in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Gcbc>(
    "gcbc",
    "GCBC",
    "behavioural cloning of the action, conditioned on a future observation of the same episode",
    "Lynch et al. 2019, Ghosh et al. 2021; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// Settings of GCBC. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcbcConfig {
    /// The network of the mean. OGBench: three layers of 512, tanh form of GELU, no layer norm.
    pub network: MlpConfig,
    /// Factor on the variance of the initial weights of the output layer.
    pub output_scale: f32,
    /// Standard deviation of the Gaussian, in normalised action units.
    pub std: f64,
    /// Goals of the actor.
    pub goals: GoalMix,
    /// γ of geometric goals.
    pub discount: f64,
    /// Map of observations and goals before the network. OGBench has none.
    pub observation_normalizer: NormalizerKind,
    /// Map of actions. OGBench has none: actions are in −1..=1 already.
    pub action_normalizer: NormalizerKind,
    /// Adam.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GcbcInference,
}

/// Settings of inference, saved with the policy and changed by `--set inference.…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcbcInference {
    /// Factor on the standard deviation; 0 acts with the mean, as OGBench evaluates.
    pub temperature: f64,
}

impl Default for GcbcConfig {
    fn default() -> Self {
        // Park et al. 2025, reference release.
        Self {
            network: MlpConfig::default(),
            output_scale: 0.01,
            std: 1.0,
            goals: GoalMix::UNIFORM_FUTURE,
            discount: 0.99,
            observation_normalizer: NormalizerKind::Identity,
            action_normalizer: NormalizerKind::Identity,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            inference: GcbcInference::default(),
        }
    }
}

impl PolicyConfig for GcbcConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.nested("network", |problems| self.network.validate(problems));
        problems.check(
            self.output_scale > 0.0,
            "output_scale",
            self.output_scale,
            "a positive number",
        );
        problems.check(
            self.std > 0.0 && self.std.is_finite(),
            "std",
            self.std,
            "a positive number",
        );
        let GoalMix {
            current,
            trajectory,
            random,
            ..
        } = self.goals;
        let mix = [current, trajectory, random];
        let holds = mix.iter().all(|p| (0.0..=1.0).contains(p))
            && (mix.iter().sum::<f64>() - 1.0).abs() < 1e-6;
        problems.check(
            holds,
            "goals",
            mix,
            "probabilities `current`, `trajectory`, `random` that add up to 1",
        );
        problems.check(
            (0.0..1.0).contains(&self.discount),
            "discount",
            self.discount,
            "a number in 0..1",
        );
        problems.nested("optimizer", |problems| self.optimizer.validate(problems));
        problems.nested("lr_schedule", |problems| {
            self.lr_schedule.validate(problems);
        });
        problems.nested("inference", |problems| self.inference.validate(problems));
    }
}

impl GcbcInference {
    fn validate(&self, problems: &mut Problems) {
        let holds = self.temperature >= 0.0 && self.temperature.is_finite();
        problems.check(
            holds,
            "temperature",
            self.temperature,
            "0 or a positive number",
        );
    }
}

/// Ties configuration, agent and policy together.
pub struct Gcbc;

impl Algorithm for Gcbc {
    type Config = GcbcConfig;
    type Agent<B: AutodiffBackend> = GcbcAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &GcbcConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<GcbcAgent<B>, PolicyError> {
        GcbcAgent::new(config, task, device)
    }

    fn load<B: Backend>(
        config: &GcbcConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        Ok(Box::new(GcbcPolicy::<B>::load(config, model, device)?))
    }
}

fn network<B: Backend>(
    config: &GcbcConfig,
    data: &DataSpec,
    rng: &mut Rng,
    device: &B::Device,
) -> Mlp<B> {
    let (inputs, outputs) = (2 * data.observation_dim, data.action_dim);
    Mlp::new(
        &config.network,
        inputs,
        outputs,
        config.output_scale,
        rng,
        device,
    )
}

/// Rows of `left` and `right` side by side, `[rows, 2 · width]`.
fn side_by_side<B: Backend>(
    left: &[f32],
    right: &[f32],
    width: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let rows = left.chunks_exact(width).zip(right.chunks_exact(width));
    let values: Vec<f32> = rows
        .flat_map(|(left, right)| [left, right].concat())
        .collect();
    Tensor::from_data(
        TensorData::new(values, [left.len() / width, 2 * width]),
        device,
    )
}

/// Trains the mean.
///
/// Metrics of an update and of an evaluation: `actor/loss`; `actor/bc_log_prob`, its negative; `actor/mse`, the mean squared
/// error per action entry. Of an update also `optimizer/gradient_norm` and `optimizer/lr`.
pub struct GcbcAgent<B: AutodiffBackend> {
    config: GcbcConfig,
    data: DataSpec,
    features: FeatureView,
    actions: Normalizer,
    total_updates: u64,
    updates: u64,
    /// `None` only inside an update.
    network: Option<Mlp<B>>,
    adam: Adam<B::InnerBackend>,
    device: B::Device,
}

const LIVES: &str = "the network is only away during an update";

impl<B: AutodiffBackend> GcbcAgent<B> {
    fn new(
        config: &GcbcConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        let DataPart { dataset, episodes } = &task.data;
        let data = DataSpec::of(dataset);
        let normalizer = dataset.fit_observations(config.observation_normalizer, episodes, None)?;
        let network = network::<B>(config, &data, &mut task.seed.child("init").rng(), device);
        Ok(Self {
            data,
            features: FeatureView {
                normalizer,
                ..FeatureView::default()
            },
            actions: dataset.fit_actions(config.action_normalizer, episodes)?,
            total_updates: task.steps,
            updates: 0,
            network: Some(network),
            adam: Adam::new(config.optimizer),
            device: device.clone(),
            config: config.clone(),
        })
    }

    /// The mean squared error per action entry.
    fn error<C: Backend>(
        network: &Mlp<C>,
        batch: &TransitionBatch,
        device: &C::Device,
    ) -> Tensor<C, 1> {
        let input = side_by_side(
            &batch.observations,
            &batch.actor_goals,
            batch.observation_dim,
            device,
        );
        let actions = TensorData::new(batch.actions.clone(), [batch.size, batch.action_dim]);
        let difference = network.forward(input) - Tensor::from_data(actions, device);
        (difference.clone() * difference).mean()
    }

    fn metrics(&self, error: f64) -> Metrics {
        let loss = negative_log_prob(error, self.config.std, self.data.action_dim);
        Metrics::new()
            .with("actor/loss", loss)
            .with("actor/bc_log_prob", -loss)
            .with("actor/mse", error)
    }
}

/// Mean of `−log π` for a mean squared error per action entry.
fn negative_log_prob(error: f64, std: f64, action_dim: usize) -> f64 {
    action_dim as f64 * (error / (2.0 * std * std) + std.ln() + 0.5 * std::f64::consts::TAU.ln())
}

impl<B: AutodiffBackend> Agent for GcbcAgent<B> {
    type Batch = TransitionBatch;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        let GcbcConfig {
            goals, discount, ..
        } = self.config;
        // Only the goals of the actor are read.
        let config = HindsightConfig {
            value: goals,
            actor: goals,
            discount,
            negative_rewards: true,
        };
        let sampler = HindsightSampler::over(data.dataset.clone(), &data.episodes, config)?
            .with_normalizers(self.features.normalizer.clone(), self.actions.clone())?;
        Ok(Box::new(SizedSampler {
            sampler,
            batch_size,
        }))
    }

    fn update(&mut self, batch: &TransitionBatch, _rng: &mut Rng) -> Metrics {
        let network = self.network.take().expect(LIVES);
        let error = Self::error(&network, batch, &self.device);
        let value = tensor_values(error.clone().inner())[0];
        // The part of −log π that has a gradient.
        let std = self.config.std;
        let loss = error * (self.data.action_dim as f64 / (2.0 * std * std));
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let lr = self.config.optimizer.lr
            * self
                .config
                .lr_schedule
                .factor(self.updates, self.total_updates);
        let (network, gradient_norm) = self.adam.step(lr, network, gradients);
        self.network = Some(network);
        self.updates += 1;
        self.metrics(f64::from(value))
            .with("optimizer/gradient_norm", gradient_norm)
            .with("optimizer/lr", lr)
    }

    fn evaluate(&mut self, batch: &TransitionBatch, _rng: &mut Rng) -> Metrics {
        let network = self.network.as_ref().expect(LIVES).valid();
        let error = tensor_values(Self::error(&network, batch, &self.device))[0];
        self.metrics(f64::from(error))
    }

    fn model(&self) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, NETWORK, self.network.as_ref().expect(LIVES));
        let mut settings = toml::Table::new();
        settings.insert(
            INFERENCE.into(),
            config_table::to_table(&self.config.inference).into(),
        );
        Model {
            data: self.data.clone(),
            features: self.features.clone(),
            actions: self.actions.clone(),
            action_bounds: None,
            settings,
            weights,
        }
    }

    fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        insert_module(&mut state, NETWORK, self.network.as_ref().expect(LIVES));
        state.insert_map("adam", self.adam.state());
        state.insert_u64("updates", self.updates);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let network = load_module(state, NETWORK, self.network.clone().expect(LIVES))?;
        let updates = state.get_u64("updates")?;
        self.adam
            .load_state(&state.sub_map("adam"), &network, &self.device)?;
        self.network = Some(network);
        self.updates = updates;
        Ok(())
    }
}

const NETWORK: &str = "network";
const INFERENCE: &str = "inference";

/// Acts with the mean of the Gaussian, or near it.
pub struct GcbcPolicy<B: Backend> {
    data: DataSpec,
    features: FeatureView,
    actions: Normalizer,
    network: Mlp<B>,
    std: f64,
    inference: GcbcInference,
    rows: usize,
    device: B::Device,
}

impl<B: Backend> GcbcPolicy<B> {
    fn load(config: &GcbcConfig, model: &Model, device: &B::Device) -> Result<Self, PolicyError> {
        let network = network::<B>(config, &model.data, &mut Seed::new(0).rng(), device);
        let mut policy = Self {
            data: model.data.clone(),
            features: model.features.clone(),
            actions: model.actions.clone(),
            network: load_module(&model.weights, NETWORK, network)?,
            std: config.std,
            inference: config.inference,
            rows: 1,
            device: device.clone(),
        };
        policy.configure(&model.settings)?;
        Ok(policy)
    }
}

impl<B: Backend> Policy for GcbcPolicy<B> {
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
        let (rows, width) = (self.rows, self.data.observation_dim);
        let (inputs, outputs) = (vec![rows, width], vec![rows, self.data.action_dim]);
        for (what, found, expected) in [
            ("observations", observations.shape(), inputs.clone()),
            ("goals", goals.shape(), inputs),
            ("rngs", &[rngs.len()][..], vec![rows]),
            ("actions", actions.shape(), outputs),
        ] {
            if found != expected {
                return Err(PolicyError::Shape {
                    what,
                    found: found.to_vec(),
                    expected,
                });
            }
        }
        // A product of one row has another order of summation than the same row among others.
        let copies = if rows == 1 { 2 } else { 1 };
        let see = |table: ArrayView2<'_, f32>| {
            let mut seen = vec![0.0; copies * rows * width];
            for (row, seen) in seen.chunks_exact_mut(width).enumerate() {
                self.features.observe(&table.row(row % rows).to_vec(), seen);
            }
            seen
        };
        let input = side_by_side::<B>(&see(observations), &see(goals), width, &self.device);
        let means = tensor_values(self.network.forward(input));
        let spread = self.inference.temperature * self.std;
        for ((mut row, mean), rng) in actions
            .rows_mut()
            .into_iter()
            .zip(means.chunks_exact(self.data.action_dim))
            .zip(rngs)
        {
            let mut action = mean.to_vec();
            if spread > 0.0 {
                action.iter_mut().for_each(|a| {
                    *a += (spread * Distribution::<f64>::sample(&StandardNormal, rng)) as f32;
                });
            }
            self.actions.invert(&mut action);
            row.iter_mut()
                .zip(action)
                .for_each(|(out, action)| *out = action.clamp(-1.0, 1.0));
        }
        Ok(())
    }

    fn settings(&self) -> toml::Table {
        let mut table = toml::Table::new();
        table.insert(
            INFERENCE.into(),
            config_table::to_table(&self.inference).into(),
        );
        table
    }

    fn configure(&mut self, overrides: &toml::Table) -> Result<(), PolicyError> {
        #[derive(Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Settings {
            inference: GcbcInference,
        }

        let mut table = self.settings();
        config_table::merge(&mut table, overrides);
        let mut problems = Problems::new();
        let settings: Settings = config_table::from_table(&table, &mut problems);
        problems.nested(INFERENCE, |problems| settings.inference.validate(problems));
        problems.into_result().map_err(PolicyError::Settings)?;
        self.inference = settings.inference;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::backend::{Autodiff, Flex};
    use burn::module::Module;
    use ndarray::s;
    use rand::RngExt;
    use telic_datasets::{Dataset, Episode, Metadata};

    use super::*;

    type A = Autodiff<Flex>;

    fn task(observation_dim: usize, action_dim: usize) -> TrainingTask {
        let episodes: Vec<Episode> = (0..8)
            .map(|episode| {
                let mut rng = Seed::new(7).index(episode).rng();
                let mut draw = |cols| {
                    Array2::from_shape_simple_fn((12, cols), || rng.random_range(-1.0_f32..1.0))
                };
                Episode {
                    observations: draw(observation_dim),
                    actions: draw(action_dim),
                    ..Episode::default()
                }
            })
            .collect();
        let dataset = Arc::new(Dataset::from_episodes(&episodes, Metadata::default()).unwrap());
        let data = DataPart {
            dataset,
            episodes: (0..8).collect(),
        };
        TrainingTask {
            data,
            seed: Seed::new(3),
            steps: 500,
            batch_size: 64,
        }
    }

    fn small() -> GcbcConfig {
        let mut config = GcbcConfig {
            action_normalizer: NormalizerKind::MinMax,
            ..Default::default()
        };
        config.network.hidden = vec![64, 64];
        config.observation_normalizer = NormalizerKind::ZScore;
        config
    }

    fn agent(config: &GcbcConfig) -> GcbcAgent<A> {
        Gcbc::new_agent::<A>(config, &task(5, 2), &Default::default()).unwrap()
    }

    fn batch(agent: &GcbcAgent<A>, seed: u64) -> TransitionBatch {
        let mut sampler = agent.sampler(&task(5, 2).data, 64).unwrap();
        let mut batch = sampler.new_batch();
        sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
        batch
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (observation_dim, action_dim, count) in [
            (2, 2, 528_898),
            (29, 8, 559_624),
            (69, 21, 607_253),
            (28, 5, 557_061),
        ] {
            let agent = Gcbc::new_agent::<A>(
                &GcbcConfig::default(),
                &task(observation_dim, action_dim),
                &Default::default(),
            );
            let network = agent.unwrap().network.unwrap();
            assert_eq!(network.num_params(), count);
        }
    }

    #[test]
    fn log_probabilities_match_published_values() {
        // μ = (0.1, −0.2), a = (0.3, 0.4), std 1.
        let error = f64::midpoint(0.2_f64.powi(2), 0.6_f64.powi(2));
        assert!((negative_log_prob(error, 1.0, 2) - 2.037_877_1).abs() < 1e-7);
        for (action_dim, constant) in [
            (2, 1.837_877),
            (5, 4.594_693),
            (8, 7.351_508),
            (21, 19.297_709),
        ] {
            assert!((negative_log_prob(0.0, 1.0, action_dim) - constant).abs() < 1e-6);
        }
        // At half the standard deviation the density at the mean is twice as high per entry.
        let gain = negative_log_prob(0.0, 1.0, 3) - negative_log_prob(0.0, 0.5, 3);
        assert!((gain - 3.0 * 2.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn sixty_four_transitions_are_learned_by_heart() {
        let mut agent = agent(&GcbcConfig {
            optimizer: AdamConfig {
                lr: 3e-3,
                ..Default::default()
            },
            ..small()
        });
        let transitions = batch(&agent, 1);
        let mse = |metrics: &Metrics| metrics.get("actor/mse").unwrap();
        let mut rng = Seed::new(1).rng();
        let before = mse(&agent.evaluate(&transitions, &mut rng));
        let first = agent.update(&transitions, &mut rng);
        assert!(
            (mse(&first) - before).abs() < 1e-6,
            "an update reports the error before its step"
        );
        for _ in 0..400 {
            agent.update(&transitions, &mut rng);
        }
        let after = mse(&agent.evaluate(&transitions, &mut rng));
        assert!(after < 0.02 * before, "{before} to {after}");
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        let run = |restart: Option<u64>| {
            let mut agent = agent(&small());
            for k in 0..6 {
                if restart == Some(k) {
                    let state = agent.state();
                    agent = self::agent(&small());
                    agent.load_state(&state).unwrap();
                }
                let transitions = batch(&agent, k);
                agent.update(&transitions, &mut Seed::new(k).rng());
            }
            agent.state()
        };
        assert_eq!(run(None).first_difference(&run(Some(2))), None);
    }

    fn policy() -> GcbcPolicy<Flex> {
        // Wider than what the matrix product sums up in one go.
        let mut config = small();
        config.network.hidden = vec![700, 600];
        config.output_scale = 1.0;
        GcbcPolicy::load(&config, &agent(&config).model(), &Default::default()).unwrap()
    }

    fn draw(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
        let mut rng = Seed::new(seed).rng();
        Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
    }

    #[test]
    fn a_row_acts_the_same_alone_and_among_others() {
        let mut policy = policy();
        for temperature in ["0.0", "0.3"] {
            let text = format!("[inference]\ntemperature = {temperature}");
            policy.configure(&toml::from_str(&text).unwrap()).unwrap();
            let (observations, goals) = (draw(5, 5, 1), draw(5, 5, 2));
            let streams = || {
                (0..5)
                    .map(|row| Seed::new(4).index(row).rng())
                    .collect::<Vec<_>>()
            };
            let mut together = Array2::zeros((5, 2));
            policy.reset(5);
            policy
                .act(
                    observations.view(),
                    goals.view(),
                    &mut streams(),
                    &mut together,
                )
                .unwrap();
            policy.reset(1);
            for row in 0..5 {
                let part = s![row..=row, ..];
                let mut alone = Array2::zeros((1, 2));
                let mut rngs = vec![streams().swap_remove(row)];
                policy
                    .act(
                        observations.slice(part),
                        goals.slice(part),
                        &mut rngs,
                        &mut alone,
                    )
                    .unwrap();
                assert_eq!(alone.row(0), together.row(row));
            }
        }
    }

    #[test]
    fn temperature_spreads_actions_around_the_mean() {
        let mut policy = policy();
        let act = |policy: &mut GcbcPolicy<Flex>, seed| {
            let mut action = Array2::zeros((1, 2));
            let mut rngs = vec![Seed::new(seed).rng()];
            policy
                .act(
                    draw(1, 5, 1).view(),
                    draw(1, 5, 2).view(),
                    &mut rngs,
                    &mut action,
                )
                .unwrap();
            action
        };
        let mean = act(&mut policy, 1);
        assert_eq!(act(&mut policy, 2), mean);
        policy
            .configure(&toml::from_str("[inference]\ntemperature = 0.01").unwrap())
            .unwrap();
        let near = act(&mut policy, 1);
        assert_ne!(near, mean);
        assert!(
            (&near - &mean)
                .iter()
                .all(|difference| difference.abs() < 0.1)
        );
        let error = policy
            .configure(&toml::from_str("[inference]\ntemperature = -1.0").unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`inference.temperature` is -1.0; expected 0 or a positive number"
        );
        assert!(
            policy
                .act(
                    draw(1, 4, 1).view(),
                    draw(1, 5, 2).view(),
                    &mut [Seed::new(1).rng()],
                    &mut mean.clone()
                )
                .is_err()
        );
    }

    #[test]
    fn defaults_are_valid_and_survive_toml() {
        let config = GcbcConfig::default();
        let mut problems = Problems::new();
        config.validate(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(
            toml::from_str::<GcbcConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
    }
}
