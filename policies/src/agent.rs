//! The contracts of this crate: what acts, what learns, and how one algorithm provides both.
//!
//! An algorithm is one file with
//! 1. a config: plain serde struct, [`PolicyConfig`];
//! 2. an agent, generic over the backend: [`Agent`] (sampler, update, evaluation, state);
//! 3. a policy, generic over the backend: [`Policy`] (acting);
//! 4. a unit struct that ties them together: [`Algorithm`];
//! 5. `pub const SPEC: PolicySpec = PolicySpec::of::<TheAlgorithm>(…)`, listed in [`registry`](crate::registry).
//!
//! Everything random is drawn on the host from the [`Rng`] that is handed in: initial weights,
//! dropout masks, noise. Backend generators are process-wide, so their draws would not repeat.
//!
//! On the CPU backend everything gives the same bits on any number of threads but one thing: a `sum` or `mean`
//! over all of 4 Mi entries or more. Reduce one axis first, and the rest after it.

use std::sync::Arc;

use burn::tensor::backend::{AutodiffBackend, Backend};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use telic_datasets::{ClipBounds, Dataset, FeatureView, HindsightConfig, Normalizer};
use telic_seed::{Rng, Seed};

use crate::{Metrics, Numbers, PolicyError, Problems, TensorMap};

/// Acts towards goals: inference only, no autodiff graph.
///
/// It acts for `rows` episodes in parallel and keeps one context per row (past observations and
/// actions, where the algorithm has any). Observations, goals and actions are in the units of the
/// dataset; a policy applies its own normalisers.
pub trait Policy: Send {
    /// Width of an observation, and of a goal.
    fn observation_dim(&self) -> usize;

    /// Width of an action.
    fn action_dim(&self) -> usize;

    /// Starts `rows` episodes with empty contexts.
    fn reset(&mut self, rows: usize);

    /// Starts a new episode in one row. A `row` beyond the rows of [`reset`](Self::reset) is ignored.
    fn reset_row(&mut self, row: usize);

    /// Writes one action per row.
    ///
    /// Row i depends on nothing but its own context, observation, goal and `rngs[i]`, so a row
    /// gives the same bits alone and among others.
    ///
    /// # Shapes
    /// `observations` and `goals` (goal observations) `[rows, observation_dim]`, `rngs` `[rows]`
    /// → `actions` `[rows, action_dim]`, each entry in −1..=1.
    ///
    /// # Errors
    /// [`PolicyError::Shape`] where a shape is another one than this, or `rows` another number than
    /// [`reset`](Self::reset) had; the contexts are then unchanged.
    fn act(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
        rngs: &mut [Rng],
        actions: &mut Array2<f32>,
    ) -> Result<(), PolicyError>;

    /// The inference settings in force, for example `sampler.steps`; empty if there are none.
    fn settings(&self) -> toml::Table {
        toml::Table::new()
    }

    /// Changes inference settings; keys that `overrides` lacks keep their values.
    ///
    /// # Errors
    /// [`PolicyError::Settings`] with every unknown key and every bad value; nothing has changed then.
    fn configure(&mut self, overrides: &toml::Table) -> Result<(), PolicyError> {
        crate::problems::reject_all(overrides)
    }

    /// What the next [`act`](Self::act) of a row would denoise: `candidates` actions from independent
    /// noise, at every noise level. Contexts stay as they are. `None` if this policy does not denoise.
    ///
    /// # Shapes
    /// `observation` and `goal` `[observation_dim]`.
    fn trace(
        &mut self,
        row: usize,
        observation: ArrayView1<'_, f32>,
        goal: ArrayView1<'_, f32>,
        candidates: usize,
        rng: &mut Rng,
    ) -> Result<Option<DenoisingTrace>, PolicyError> {
        let _ = (row, observation, goal, candidates, rng);
        Ok(None)
    }

    /// The value of being at each observation with each goal, `[rows]`; `None` if this policy has no value function.
    fn values(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
    ) -> Result<Option<Array1<f32>>, PolicyError> {
        let _ = (observations, goals);
        Ok(None)
    }

    /// The embedding of observations, in which distances are numbers of steps; `None` if this policy has none.
    ///
    /// # Shapes
    /// `observations` `[rows, observation_dim]` → `[rows, width]`.
    fn latents(
        &mut self,
        observations: ArrayView2<'_, f32>,
    ) -> Result<Option<Array2<f32>>, PolicyError> {
        let _ = observations;
        Ok(None)
    }

    /// How far each of some candidate observations is from where the policy heads first on its way to the goal, in a measure of
    /// its own, `[candidates]`; `None` if it heads for the goal itself.
    ///
    /// # Shapes
    /// `observation` and `goal` `[observation_dim]`, `candidates` `[candidates, observation_dim]`.
    fn subgoal_distances(
        &mut self,
        observation: ArrayView1<'_, f32>,
        goal: ArrayView1<'_, f32>,
        candidates: ArrayView2<'_, f32>,
    ) -> Result<Option<Array1<f32>>, PolicyError> {
        let _ = (observation, goal, candidates);
        Ok(None)
    }

    /// Makes it the task to be where labelled observations have high rewards, whatever the goals, until
    /// [`configure`](Self::configure) asks for goals again. Returns R², the share of the variance of these rewards that the policy's
    /// features can express: it cannot pursue what they do not.
    ///
    /// # Shapes
    /// `observations` `[rows, observation_dim]`, `rewards` `[rows]`.
    ///
    /// # Errors
    /// [`PolicyError::NoRewards`] if this policy takes goals only; [`PolicyError::Shape`]; [`PolicyError::Data`] for labels that
    /// say nothing.
    fn prompt_reward(
        &mut self,
        observations: ArrayView2<'_, f32>,
        rewards: ArrayView1<'_, f32>,
    ) -> Result<f64, PolicyError> {
        let _ = (observations, rewards);
        Err(PolicyError::NoRewards)
    }
}

/// How candidate actions move from noise to actions.
#[derive(Clone, Debug, PartialEq)]
pub struct DenoisingTrace {
    /// From the highest noise level to σ = 0.
    pub levels: Vec<DenoisingLevel>,
}

/// The candidates at one noise level.
#[derive(Clone, Debug, PartialEq)]
pub struct DenoisingLevel {
    /// Standard deviation of the noise that is still in the candidates, in normalised action units.
    pub sigma: f32,
    /// `[candidates, action_dim]` in the units of the dataset.
    pub candidates: Array2<f32>,
}

/// Learns from batches.
///
/// An agent is a function of its construction and of its updates: the same batches and streams give
/// the same bits, on one machine with one backend. It neither prints nor reads a clock.
pub trait Agent: Send + 'static {
    /// What one update learns from; made by the sampler on another thread and reused.
    type Batch: Send + 'static;

    /// Where the numbers of an update are.
    type Backend: Backend;

    /// What draws batches of `batch_size` from the training or the validation part of the data.
    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<Self::Batch>>, PolicyError>;

    /// One gradient step. The trainer stops where a number is not finite.
    fn update(&mut self, batch: &Self::Batch, rng: &mut Rng) -> Numbers<Self::Backend>;

    /// The losses on a batch with the inference weights; changes nothing that an update depends on. Runs on the
    /// inner backend: a forward pass with autodiff and without `backward` leaks its graph.
    fn evaluate(&mut self, batch: &Self::Batch, rng: &mut Rng) -> Metrics;

    /// What acting needs, as it would be loaded from a checkpoint (averaged weights, where there are any).
    fn model(&self) -> Model;

    /// Everything that the next update depends on: weights, averages, optimiser moments, counters.
    fn state(&self) -> TensorMap;

    /// Takes over a saved [`state`](Self::state); updates go on to the same bits.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`] if it is not the state of such an agent.
    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError>;
}

/// Draws batches on the reading thread.
pub trait BatchSampler<Batch>: Send {
    /// A batch with allocated buffers, to be filled by [`sample`](Self::sample).
    fn new_batch(&self) -> Batch;

    /// Overwrites `batch` with a draw that depends on `rng` alone, not on earlier calls or on what `batch` held.
    fn sample(&mut self, rng: &mut Rng, batch: &mut Batch);
}

/// One algorithm for any backend.
pub trait Algorithm: 'static {
    /// The keys of the `[policy]` table, besides `id`.
    type Config: PolicyConfig;

    /// What learns.
    type Agent<B: AutodiffBackend>: Agent;

    /// A fresh agent; initial weights come from `task.seed.child("init")`.
    fn new_agent<B: AutodiffBackend>(
        config: &Self::Config,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<Self::Agent<B>, PolicyError>;

    /// The policy in a saved [`Agent::model`], with `model.settings` in force.
    fn load<B: Backend>(
        config: &Self::Config,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError>;
}

/// The user-chosen values of an algorithm.
///
/// `#[serde(default, deny_unknown_fields)]` on every struct; [`Default`] has the published values with their source.
pub trait PolicyConfig:
    Clone + std::fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Adds every value out of range.
    fn validate(&self, problems: &mut Problems);

    /// The table `goals`, and which of `value`, `actor` and `negative_rewards` in it have no effect: a training does not start where they were
    /// changed. A policy that was trained with them can be loaded.
    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        None
    }
}

/// What an algorithm is told when it makes an agent.
#[derive(Clone, Debug)]
pub struct TrainingTask {
    /// The training part of the data.
    pub data: DataPart,
    /// Root of every draw of the run.
    pub seed: Seed,
    /// Updates of the whole run, for schedules.
    pub steps: u64,
    /// Transitions or windows in one batch.
    pub batch_size: usize,
}

/// Some episodes of a dataset.
#[derive(Clone, Debug)]
pub struct DataPart {
    /// All the data.
    pub dataset: Arc<Dataset>,
    /// The episodes that belong to this part, each once.
    pub episodes: Vec<usize>,
}

impl DataPart {
    /// Every episode of a dataset.
    pub fn all(dataset: Arc<Dataset>) -> Self {
        let episodes = (0..dataset.num_episodes()).collect();
        Self { dataset, episodes }
    }

    /// Transitions in these episodes.
    pub fn transitions(&self) -> usize {
        self.episodes
            .iter()
            .map(|&episode| self.dataset.episodes().transitions(episode))
            .sum()
    }
}

/// What the data of a policy looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Environment that the data comes from.
    pub env: String,
    /// Its version.
    pub env_version: u32,
    /// Width of an observation, and of a goal.
    pub observation_dim: usize,
    /// Width of an action.
    pub action_dim: usize,
    /// One name per observation entry.
    pub observation_names: Vec<String>,
    /// One name per action entry.
    pub action_names: Vec<String>,
    /// Actions per second.
    pub control_hz: f64,
    /// The observation entries that a goal is about.
    pub goal_indices: Vec<usize>,
}

impl DataSpec {
    /// Reads it off a dataset.
    pub fn of(dataset: &Dataset) -> Self {
        let metadata = dataset.metadata();
        Self {
            env: metadata.env.clone(),
            env_version: metadata.env_version,
            observation_dim: dataset.observation_dim(),
            action_dim: dataset.action_dim(),
            observation_names: metadata.observation_names.clone(),
            action_names: metadata.action_names.clone(),
            control_hz: metadata.control_hz,
            goal_indices: metadata.goal_indices.clone(),
        }
    }
}

/// What acting needs: the content of `model.safetensors` and of the model part of `manifest.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it was trained on.
    pub data: DataSpec,
    /// What the networks see of an observation and of a goal.
    pub features: FeatureView,
    /// From actions of the dataset to actions of the networks.
    pub actions: Normalizer,
    /// Where normalised actions are cut off, if they are.
    pub action_bounds: Option<ClipBounds>,
    /// Inference settings at the time of saving, as [`Policy::settings`] gives them.
    pub settings: toml::Table,
    /// Inference weights, and whatever else the algorithm needs to act.
    pub weights: TensorMap,
}
