//! Acting by a latent that a prompt sets.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::Deserialize;
use telic_seed::Rng;

use super::negative_distance;
use super::prompt::{PromptConfig, PromptKind, way_point};
use super::reward::{regression, with_norm};
use super::search::Landmarks;
use crate::config_table;
use crate::gaussian::{
    GaussianConfig, GaussianPolicy, Head, check_finite, check_shape, check_subgoals, halves,
};
use crate::inputs::Inputs;
use crate::module_state::tensor_values;
use crate::tables::Table;
use crate::{Model, Policy, PolicyError, Problems};

/// What is behind a policy that acts by latents.
pub(super) struct Skills<B: Backend> {
    /// φ, `[rows, observation_dim]` → `[rows, D]`.
    pub(super) embed: Arc<dyn Fn(Tensor<B, 2>) -> Tensor<B, 2> + Send + Sync>,
    /// Mean actions for observations and latents side by side.
    pub(super) act: Head<B>,
    /// Standard deviations of each entry of an action, `[action_dim]`.
    pub(super) deviations: Vec<f64>,
    /// Length of a latent.
    pub(super) norm: f64,
    /// How a goal becomes a latent.
    pub(super) reach: Reach,
}

/// How a goal becomes a latent.
pub(super) enum Reach {
    /// Along φ(g) − φ(s), or to a way-point among these latents, `[count, D]`.
    Direction {
        /// Latents of states of the data.
        places: Arc<[f32]>,
    },
    /// Up the indicator of the goal: along C⁻¹ (φ(g) − μ), whatever the state.
    Indicator {
        /// μ.
        centre: Vec<f32>,
        /// C⁻¹, `[D, D]`.
        inverse: Vec<f32>,
    },
}

impl Reach {
    /// The latent that leads from one latent to another, before its length is set.
    fn latent(&self, from: &[f32], to: &[f32], prompt: &Prompt) -> Vec<f64> {
        let difference = |a: &[f32], b: &[f32]| -> Vec<f64> {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) - f64::from(*b))
                .collect()
        };
        match self {
            Self::Direction { places } => match prompt.way_point(from, to, places) {
                Some(point) => difference(&point, from),
                None => difference(to, from),
            },
            Self::Indicator { centre, inverse } => {
                let feature = difference(to, centre);
                inverse
                    .chunks_exact(feature.len())
                    .map(|row| {
                        row.iter()
                            .zip(&feature)
                            .map(|(m, x)| f64::from(*m) * x)
                            .sum()
                    })
                    .collect()
            }
        }
    }
}

/// What the last prompt asked for.
#[derive(Clone)]
struct Prompt {
    config: PromptConfig,
    /// The latent of a reward.
    reward: Option<Vec<f32>>,
    /// What a search looks at.
    landmarks: Option<Arc<Landmarks>>,
}

impl Prompt {
    /// The latent to make for on the way from one latent to another; `None` if it is the other one.
    fn way_point(&self, from: &[f32], to: &[f32], places: &[f32]) -> Option<Vec<f32>> {
        match self.config.kind {
            PromptKind::Plan => Some(way_point(from, to, places, &self.config)),
            PromptKind::Search => {
                let landmarks = self.landmarks.as_ref();
                landmarks.map(|landmarks| landmarks.way_point(from, to))
            }
            PromptKind::Goal | PromptKind::Reward => None,
        }
    }
}

/// Acts by a latent that a prompt sets: towards the goal, along a plan or a search, or up a reward.
pub struct HilpPolicy<B: Backend> {
    inner: GaussianPolicy<B>,
    inputs: Inputs,
    embed: Arc<dyn Fn(Tensor<B, 2>) -> Tensor<B, 2> + Send + Sync>,
    norm: f64,
    /// Latents that plans and searches go through; `None` for a policy that does not plan.
    places: Option<Arc<[f32]>>,
    device: B::Device,
    /// Shared with what `inner` computes.
    prompt: Arc<Mutex<Prompt>>,
}

impl<B: Backend> HilpPolicy<B> {
    pub(super) fn new(
        skills: Skills<B>,
        config: PromptConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        let Skills {
            embed,
            act,
            deviations,
            norm,
            reach,
        } = skills;
        let prompt = Arc::new(Mutex::new(Prompt {
            config: PromptConfig {
                kind: PromptKind::Goal,
                ..config
            },
            reward: None,
            landmarks: None,
        }));
        let of_value = Arc::clone(&embed);
        let value: Head<B> = Box::new(move |pairs| {
            let [observations, goals] = halves(pairs);
            negative_distance(of_value(observations), of_value(goals))
        });
        let places = match &reach {
            Reach::Direction { places } => Some(Arc::clone(places)),
            Reach::Indicator { .. } => None,
        };
        let (shared, of_mean) = (Arc::clone(&prompt), Arc::clone(&embed));
        let mean: Head<B> = Box::new(move |pairs| {
            let prompt = lock(&shared).clone();
            let [observations, goals] = halves(pairs);
            let from = of_mean(observations.clone());
            let [rows, dim] = from.dims();
            let latents: Vec<f32> = if let Some(latent) = &prompt.reward {
                (0..rows).flat_map(|_| latent.iter().copied()).collect()
            } else {
                let (from, to) = (tensor_values(from), tensor_values(of_mean(goals)));
                from.chunks_exact(dim)
                    .zip(to.chunks_exact(dim))
                    .flat_map(|(from, to)| with_norm(&reach.latent(from, to, &prompt), norm))
                    .collect()
            };
            let latents = TensorData::new(latents, [rows, dim]);
            let latents = Tensor::from_data(latents, &observations.device());
            act(Tensor::cat(vec![observations, latents], 1))
        });
        let mut settings = model.settings.clone();
        let of_prompt = settings.remove("prompt");
        let inner_model = Model {
            settings,
            ..model.clone()
        };
        let gaussian = GaussianConfig::default();
        let inner = GaussianPolicy::new(&gaussian, &inner_model, mean, Some(value), device)?
            .with_deviations(deviations);
        let mut policy = Self {
            inner,
            inputs: Inputs::of_model(model),
            embed,
            norm,
            places,
            device: device.clone(),
            prompt,
        };
        let mut overrides = toml::Table::new();
        let of_prompt = of_prompt.unwrap_or_else(|| config_table::to_table(&config).into());
        overrides.insert("prompt".into(), of_prompt);
        policy.configure(&overrides)?;
        Ok(policy)
    }
}

fn lock(prompt: &Mutex<Prompt>) -> std::sync::MutexGuard<'_, Prompt> {
    prompt.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Backend> Policy for HilpPolicy<B> {
    fn observation_dim(&self) -> usize {
        self.inner.observation_dim()
    }

    fn action_dim(&self) -> usize {
        self.inner.action_dim()
    }

    fn reset(&mut self, rows: usize) {
        self.inner.reset(rows);
    }

    fn reset_row(&mut self, row: usize) {
        self.inner.reset_row(row);
    }

    fn act(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
        rngs: &mut [Rng],
        actions: &mut Array2<f32>,
    ) -> Result<(), PolicyError> {
        self.inner.act(observations, goals, rngs, actions)
    }

    fn settings(&self) -> toml::Table {
        let mut settings = self.inner.settings();
        settings.insert(
            "prompt".into(),
            config_table::to_table(&lock(&self.prompt).config).into(),
        );
        settings
    }

    fn configure(&mut self, overrides: &toml::Table) -> Result<(), PolicyError> {
        #[derive(Clone, Default, Deserialize)]
        #[serde(default)]
        struct Settings {
            prompt: PromptConfig,
        }

        let mut rest = overrides.clone();
        let of_prompt = rest.remove("prompt");
        let Prompt {
            config: old,
            mut reward,
            mut landmarks,
        } = lock(&self.prompt).clone();
        let mut table = toml::Table::new();
        table.insert("prompt".into(), config_table::to_table(&old).into());
        if let Some(of_prompt) = of_prompt {
            let mut changes = toml::Table::new();
            changes.insert("prompt".into(), of_prompt);
            config_table::merge(&mut table, &changes);
        }
        let mut problems = Problems::new();
        let settings: Settings = config_table::from_table(&table, &mut problems);
        let config = settings.prompt;
        problems.parts(&[("prompt", &config)]);
        let places = config.places;
        let message = "as many places as the policy was saved with";
        problems.check(places == old.places, "prompt.places", places, message);
        let through_places = matches!(config.kind, PromptKind::Plan | PromptKind::Search);
        problems.check(
            !through_places || self.places.is_some(),
            "prompt.kind",
            config.kind.to_string(),
            "goal or reward: latents of this policy are no directions",
        );
        problems.check(
            config.kind != PromptKind::Reward || reward.is_some(),
            "prompt.kind",
            "reward",
            "goal, plan or search: no labelled observations have been given yet",
        );
        problems.into_result().map_err(PolicyError::Settings)?;
        self.inner.configure(&rest)?;
        if config.kind != PromptKind::Reward {
            reward = None;
        }
        if (config.landmarks, config.reach) != (old.landmarks, old.reach) {
            landmarks = None;
        }
        if let (PromptKind::Search, None, Some(places)) = (config.kind, &landmarks, &self.places) {
            let dim = places.len() / config.places;
            let reach = config.reach as f32;
            let found = Landmarks::new(places, dim, config.landmarks, reach);
            landmarks = Some(Arc::new(found));
        }
        *lock(&self.prompt) = Prompt {
            config,
            reward,
            landmarks,
        };
        Ok(())
    }

    fn values(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
    ) -> Result<Option<Array1<f32>>, PolicyError> {
        self.inner.values(observations, goals)
    }

    fn latents(
        &mut self,
        observations: ArrayView2<'_, f32>,
    ) -> Result<Option<Array2<f32>>, PolicyError> {
        let expected = vec![observations.nrows(), self.observation_dim()];
        check_shape("observations", observations.shape(), &expected)?;
        check_finite("observations", observations)?;
        if observations.nrows() == 0 {
            return Ok(Some(Array2::zeros((0, 0))));
        }
        let width = self.inputs.observation_dim();
        let mut seen = vec![0.0; observations.nrows() * width];
        for (row, out) in observations
            .rows()
            .into_iter()
            .zip(seen.chunks_exact_mut(width))
        {
            self.inputs.features.observe(&row.to_vec(), out);
        }
        let seen = Table::side_by_side(observations.nrows(), &[&seen]).upload(&self.device);
        let latents = (self.embed)(seen);
        let shape = latents.dims();
        let table = Array2::from_shape_vec(shape, tensor_values(latents));
        Ok(Some(
            table.expect("a tensor has as many values as its shape says"),
        ))
    }

    fn subgoal_distances(
        &mut self,
        observation: ArrayView1<'_, f32>,
        goal: ArrayView1<'_, f32>,
        candidates: ArrayView2<'_, f32>,
    ) -> Result<Option<Array1<f32>>, PolicyError> {
        let prompt = lock(&self.prompt).clone();
        let Some(places) = self.places.clone() else {
            return Ok(None);
        };
        check_subgoals(observation, goal, candidates, self.observation_dim())?;
        let ends = ndarray::stack![ndarray::Axis(0), observation, goal];
        let Some(ends) = self.latents(ends.view())? else {
            return Ok(None);
        };
        let [from, to] = [0, 1].map(|end| ends.row(end).to_vec());
        let (Some(point), Some(latents)) = (
            prompt.way_point(&from, &to, &places),
            self.latents(candidates)?,
        ) else {
            return Ok(None);
        };
        let point = ndarray::Array1::from_vec(point);
        let distance = |latent: ArrayView1<'_, f32>| {
            let way = &latent - &point;
            way.dot(&way).sqrt()
        };
        Ok(Some(latents.rows().into_iter().map(distance).collect()))
    }

    fn prompt_reward(
        &mut self,
        observations: ArrayView2<'_, f32>,
        rewards: ArrayView1<'_, f32>,
    ) -> Result<f64, PolicyError> {
        let expected = vec![observations.nrows()];
        check_shape("rewards", rewards.shape(), &expected)?;
        let finite = observations.iter().chain(rewards).all(|x| x.is_finite());
        if !finite || rewards.len() < 2 {
            return Err(PolicyError::Data {
                fact: if finite {
                    format!("{} labelled observations are a reward", rewards.len())
                } else {
                    "a labelled observation is not finite".to_owned()
                },
                expected: "at least 2 finite ones".to_owned(),
            });
        }
        if rewards.iter().all(|reward| *reward == rewards[0]) {
            return Err(PolicyError::Data {
                fact: format!("every labelled observation has the reward {}", rewards[0]),
                expected: "rewards that differ".to_owned(),
            });
        }
        let latents = self
            .latents(observations)?
            .expect("this policy has latents");
        let features: Vec<f32> = latents.iter().copied().collect();
        let fit =
            regression(&features, &rewards.to_vec(), true).ok_or_else(|| PolicyError::Data {
                fact: "the latent of a labelled observation is not finite".to_owned(),
                expected: "observations like those of the training data".to_owned(),
            })?;
        let mut prompt = lock(&self.prompt);
        prompt.reward = Some(with_norm(&fit.weights, self.norm));
        prompt.config.kind = PromptKind::Reward;
        Ok(fit.r_squared)
    }
}
