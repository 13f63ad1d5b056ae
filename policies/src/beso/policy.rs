//! Acting.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rand::{RngExt, SeedableRng};
use telic_datasets::{ClipBounds, FeatureView, Normalizer};
use telic_seed::Rng;

use super::config::{BesoConfig, SamplerConfig};
use super::denoise::{Conditions, Denoiser, Level};
use super::history::{Context, HistoryTraining};
use super::network::{Dims, InputLayout, NetworkKind, ScoreNetwork};
use crate::config_table;
use crate::device::with_awake_threads;
use crate::gaussian::check_finite;
use crate::module_state::load_module;
use crate::nn::is_flex;
use crate::trained::NETWORK;
use crate::{DenoisingLevel, DenoisingTrace, Model, Policy, PolicyError, Problems};

/// Denoises one action per step from the last observations and actions of a row.
///
/// Goals are one observation per row, which is repeated `goal_length` times, or `goal_length` observations side by side.
/// Inference settings are the table `sampler` of the configuration: `sampler.steps = 5`.
pub struct BesoPolicy<B: Backend> {
    observation_dim: usize,
    action_dim: usize,
    features: FeatureView,
    actions: Normalizer,
    bounds: Option<ClipBounds>,
    dims: Dims,
    network: NetworkKind,
    /// How past actions looked in training, if there were any.
    past_actions: Option<HistoryTraining>,
    denoiser: Denoiser<B>,
    settings: SamplerConfig,
    /// The schedule of the settings.
    sigmas: Vec<f64>,
    /// One per row.
    contexts: Vec<Context>,
}

impl<B: Backend> BesoPolicy<B> {
    /// The policy in a saved model.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`], [`PolicyError::Settings`].
    pub fn load(
        config: &BesoConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        let dims = Dims {
            observation_dim: model.features.dim(model.data.observation_dim),
            action_dim: model.data.action_dim,
            window: config.window,
            goal_length: config.goal_length,
        };
        let network = ScoreNetwork::<B>::blank(&config.network, dims, device);
        let network = load_module(&model.weights, NETWORK, network)?;
        let mut policy = Self {
            observation_dim: model.data.observation_dim,
            action_dim: model.data.action_dim,
            features: model.features.clone(),
            actions: model.actions.clone(),
            bounds: model.action_bounds.clone(),
            dims,
            network: config.network.kind,
            past_actions: config.past_actions(),
            denoiser: Denoiser::new(
                network,
                InputLayout::new(config.network.kind, dims),
                config.sigma_data,
            ),
            settings: config.sampler,
            sigmas: Vec::new(),
            contexts: vec![Context::default()],
        };
        policy.configure(&model.settings)?;
        Ok(policy)
    }

    fn shape_error(what: &'static str, found: &[usize], expected: [usize; 2]) -> PolicyError {
        PolicyError::Shape {
            what,
            found: found.to_vec(),
            expected: expected.to_vec(),
        }
    }

    /// What the network sees of a row's goal, appended to `goals`.
    fn push_goal(&self, goal: ArrayView1<'_, f32>, goals: &mut Vec<f32>) {
        let goal = goal.to_vec();
        let mut seen = vec![0.0; self.dims.observation_dim];
        for i in 0..self.dims.goal_length {
            let frame = i * self.observation_dim % goal.len();
            self.features
                .observe_goal(&goal[frame..frame + self.observation_dim], &mut seen);
            goals.extend_from_slice(&seen);
        }
    }

    /// What the network sees of an observation.
    fn observe(&self, observation: ArrayView1<'_, f32>) -> Vec<f32> {
        let mut seen = vec![0.0; self.dims.observation_dim];
        self.features.observe(&observation.to_vec(), &mut seen);
        seen
    }

    /// Normalised actions to actions of the dataset, in −1..=1, in place.
    fn finish(&self, rows: &mut [f32]) {
        if let Some(bounds) = &self.bounds {
            bounds.clip(rows);
        }
        self.actions.invert(rows);
        rows.iter_mut()
            .for_each(|action| *action = action.clamp(-1.0, 1.0));
    }

    fn conditions_of<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Context, &'a [f32], ArrayView1<'a, f32>)>,
    ) -> Conditions {
        let mut conditions = Conditions::default();
        for (context, observation, goal) in rows {
            conditions.rows += 1;
            conditions.context = context.len(self.action_dim) + 1;
            context.extend(&mut conditions.states, &mut conditions.history);
            conditions.states.extend_from_slice(observation);
            self.push_goal(goal, &mut conditions.goals);
        }
        conditions
    }

    fn check_goal_width(
        &self,
        what: &'static str,
        rows: usize,
        found: &[usize],
    ) -> Result<(), PolicyError> {
        let widths = [
            self.observation_dim,
            self.dims.goal_length * self.observation_dim,
        ];
        if found.len() == 2 && found[0] == rows && widths.contains(&found[1]) {
            Ok(())
        } else {
            Err(Self::shape_error(what, found, [rows, self.observation_dim]))
        }
    }
}

impl<B: Backend> Policy for BesoPolicy<B> {
    fn observation_dim(&self) -> usize {
        self.observation_dim
    }

    fn action_dim(&self) -> usize {
        self.action_dim
    }

    fn reset(&mut self, rows: usize) {
        self.contexts.clear();
        self.contexts.resize(rows, Context::default());
    }

    fn reset_row(&mut self, row: usize) {
        if let Some(context) = self.contexts.get_mut(row) {
            context.clear();
        }
    }

    fn act(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
        rngs: &mut [Rng],
        actions: &mut Array2<f32>,
    ) -> Result<(), PolicyError> {
        let rows = self.contexts.len();
        let expected = [rows, self.observation_dim];
        if observations.shape() != expected {
            return Err(Self::shape_error(
                "observations",
                observations.shape(),
                expected,
            ));
        }
        self.check_goal_width("goals", rows, goals.shape())?;
        check_finite("observations", observations)?;
        check_finite("goals", goals)?;
        if rngs.len() != rows {
            return Err(PolicyError::Shape {
                what: "rngs",
                found: vec![rngs.len()],
                expected: vec![rows],
            });
        }
        if actions.shape() != [rows, self.action_dim] {
            return Err(Self::shape_error(
                "actions",
                actions.shape(),
                [rows, self.action_dim],
            ));
        }

        let seen: Vec<Vec<f32>> = observations
            .rows()
            .into_iter()
            .map(|row| self.observe(row))
            .collect();
        // Rows whose contexts have one length are one batch. Step-size control looks at the whole batch: then each row is one.
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (row, context) in self.contexts.iter().enumerate() {
            let alone = if self.settings.kind.adapts_steps() {
                row
            } else {
                0
            };
            groups
                .entry((context.len(self.action_dim), alone))
                .or_default()
                .push(row);
        }
        let mut sampled = vec![0.0_f32; rows * self.action_dim];
        for members in groups.values() {
            let conditions = self.conditions_of(
                members
                    .iter()
                    .map(|&row| (&self.contexts[row], &seen[row][..], goals.row(row))),
            );
            let mut wanted = members.iter().peekable();
            let mut rngs: Vec<&mut Rng> = rngs
                .iter_mut()
                .enumerate()
                .filter(|(row, _)| wanted.next_if(|&member| member == row).is_some())
                .map(|(_, rng)| rng)
                .collect();
            let (settings, sigmas, denoiser) = (&self.settings, &self.sigmas, &mut self.denoiser);
            let mut sample = || denoiser.sample(settings, sigmas, &conditions, &mut rngs, None);
            // Three passes of the perceptron take less time than to wake a thread.
            let drawn = if self.network == NetworkKind::Transformer && is_flex::<B>() {
                with_awake_threads(sample)
            } else {
                sample()
            }?;
            for (&row, drawn) in members.iter().zip(drawn.chunks_exact(self.action_dim)) {
                let out = &mut sampled[row * self.action_dim..(row + 1) * self.action_dim];
                out.iter_mut()
                    .zip(drawn)
                    .for_each(|(out, &drawn)| *out = drawn as f32);
            }
        }
        self.finish(&mut sampled);
        for ((mut out, action), (context, observation)) in actions
            .rows_mut()
            .into_iter()
            .zip(sampled.chunks_exact_mut(self.action_dim))
            .zip(self.contexts.iter_mut().zip(&seen))
        {
            out.iter_mut()
                .zip(&*action)
                .for_each(|(out, action)| *out = *action);
            // The history holds what is executed.
            self.actions.apply(action);
            context.push(observation, action, self.dims.window);
        }
        Ok(())
    }

    fn settings(&self) -> toml::Table {
        let mut table = toml::Table::new();
        table.insert(
            "sampler".into(),
            config_table::to_table(&self.settings).into(),
        );
        table
    }

    fn configure(&mut self, overrides: &toml::Table) -> Result<(), PolicyError> {
        #[derive(Clone, Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Settings {
            sampler: SamplerConfig,
        }

        let mut table = self.settings();
        config_table::merge(&mut table, overrides);
        let mut problems = Problems::new();
        let settings: Settings = config_table::from_table(&table, &mut problems);
        problems.nested("sampler", |problems| {
            let sampler = &settings.sampler;
            sampler.validate(self.network, self.past_actions, problems);
        });
        problems.into_result().map_err(PolicyError::Settings)?;
        let sigmas = settings.sampler.schedule().sigmas(settings.sampler.steps);
        self.sigmas = sigmas.expect("validate makes the schedule too");
        self.settings = settings.sampler;
        Ok(())
    }

    fn trace(
        &mut self,
        row: usize,
        observation: ArrayView1<'_, f32>,
        goal: ArrayView1<'_, f32>,
        candidates: usize,
        rng: &mut Rng,
    ) -> Result<Option<DenoisingTrace>, PolicyError> {
        if observation.len() != self.observation_dim {
            let (found, expected) = (vec![observation.len()], vec![self.observation_dim]);
            return Err(PolicyError::Shape {
                what: "observation",
                found,
                expected,
            });
        }
        self.check_goal_width("goal", 1, &[1, goal.len()])?;
        check_finite("observation", observation.insert_axis(Axis(0)))?;
        check_finite("goal", goal.insert_axis(Axis(0)))?;
        if candidates == 0 {
            return Ok(Some(DenoisingTrace { levels: Vec::new() }));
        }
        let empty = Context::default();
        let context = self.contexts.get(row).unwrap_or(&empty);
        let seen = self.observe(observation);
        let conditions = self.conditions_of((0..candidates).map(|_| (context, &seen[..], goal)));
        let mut streams: Vec<Rng> = (0..candidates)
            .map(|_| Rng::seed_from_u64(rng.random()))
            .collect();
        let mut rngs: Vec<&mut Rng> = streams.iter_mut().collect();
        let mut levels = Vec::new();
        self.denoiser.sample(
            &self.settings,
            &self.sigmas,
            &conditions,
            &mut rngs,
            Some(&mut levels),
        )?;
        let level = |(sigma, x): &Level| {
            let mut values: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            if *sigma == 0.0 {
                self.finish(&mut values);
            } else {
                self.actions.invert(&mut values);
            }
            let candidates = Array2::from_shape_vec((candidates, self.action_dim), values)
                .expect("a level holds one action per candidate");
            DenoisingLevel {
                sigma: *sigma as f32,
                candidates,
            }
        };
        Ok(Some(DenoisingTrace {
            levels: levels.iter().map(level).collect(),
        }))
    }
}
