//! Denoising the newest action of many rows at once: the network as the [`Process`] of a sampler.

use burn::tensor::backend::Backend;
use rand_distr::{Distribution, StandardNormal};
use telic_seed::Rng;

use super::config::SamplerConfig;
use super::guidance::Guidance;
use super::history::HistoryMode;
use super::network::{InputLayout, Outputs, ScoreNetwork};
use super::preconditioning::Preconditioning;
use super::sampler::{Process, SampleError, sample};
use crate::module_state::tensor_values;

/// Weights in the form that inference reads them.
#[derive(Clone, Debug)]
pub(super) struct Denoiser<B: Backend> {
    pub(super) network: ScoreNetwork<B>,
    pub(super) layout: InputLayout,
    pub(super) preconditioning: Preconditioning,
}

/// What rows with contexts of one length are conditioned on, normalised.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) rows: usize,
    /// States of each row, the newest included.
    pub(super) context: usize,
    /// `[rows, goal_length, observation_dim]`.
    pub(super) goals: Vec<f32>,
    /// `[rows, context, observation_dim]`.
    pub(super) states: Vec<f32>,
    /// Past actions, `[rows, context − 1, action_dim]`.
    pub(super) history: Vec<f64>,
}

/// The newest actions at one noise level, `[rows, action_dim]`, normalised.
pub(super) type Level = (f64, Vec<f64>);

impl<B: Backend> Denoiser<B> {
    pub(super) fn new(network: ScoreNetwork<B>, layout: InputLayout, sigma_data: f64) -> Self {
        Self {
            network,
            layout,
            preconditioning: Preconditioning { sigma_data },
        }
    }

    /// Draws the newest action of every row, `[rows, action_dim]`, from noise of the row's own stream. `levels` collects the
    /// actions at the start and after each step.
    pub(super) fn sample(
        &self,
        settings: &SamplerConfig,
        sigmas: &[f64],
        conditions: &Conditions,
        rngs: &mut [&mut Rng],
        levels: Option<&mut Vec<Level>>,
    ) -> Result<Vec<f64>, SampleError> {
        let layout = self.layout;
        let dims = layout.dims();
        let (rows, context, dim) = (conditions.rows, conditions.context, dims.action_dim);
        let guidance = Guidance::new(settings.guidance);
        let stride = layout.stride(context);
        let mut features = vec![0.0; guidance.copies() * rows * stride];
        let no_goal = vec![0.0; dims.goal_length * dims.observation_dim];
        for (i, features) in features.chunks_exact_mut(stride).enumerate() {
            let (copy, row) = (i / rows, i % rows);
            let goal = if guidance.sees_goal(copy) {
                &conditions.goals[row * no_goal.len()..(row + 1) * no_goal.len()]
            } else {
                &no_goal
            };
            let states = context * dims.observation_dim;
            layout.write_conditions(
                features,
                goal,
                &conditions.states[row * states..(row + 1) * states],
            );
        }

        // Every row first draws the noise of its own state, then that of its past actions.
        let past = (context - 1) * dim;
        let mut x = Vec::new();
        let mut history_noise = Vec::new();
        for (row, rng) in rngs.iter_mut().enumerate() {
            if settings.history == HistoryMode::Reference {
                x.extend_from_slice(&conditions.history[row * past..(row + 1) * past]);
            }
            let mut normal = || Distribution::<f64>::sample(&StandardNormal, &mut **rng);
            x.extend((0..dim).map(|_| sigmas[0] * normal()));
            if settings.history == HistoryMode::Renoise {
                history_noise.extend((0..past).map(|_| normal()));
            }
        }
        let width = x.len() / rows;
        let mut run = Run {
            denoiser: self,
            mode: settings.history,
            guidance,
            conditions,
            features,
            history_noise,
            rngs,
            unconditional: Vec::new(),
            width,
            levels,
        };
        sample(settings.kind, &settings.options, sigmas, &mut x, &mut run)?;
        Ok(newest(&x, width, dim))
    }
}

/// The last `dim` entries of every row of `width`.
fn newest(x: &[f64], width: usize, dim: usize) -> Vec<f64> {
    x.chunks_exact(width)
        .flat_map(|row| row[width - dim..].iter().copied())
        .collect()
}

/// One run of a sampler over the rows.
struct Run<'a, 'r, B: Backend> {
    denoiser: &'a Denoiser<B>,
    mode: HistoryMode,
    guidance: Guidance,
    conditions: &'a Conditions,
    /// `[copies, rows, tokens, features]`; noise level and actions change from call to call.
    features: Vec<f32>,
    /// `[rows, context − 1, action_dim]` if past actions are noised.
    history_noise: Vec<f64>,
    rngs: &'a mut [&'r mut Rng],
    unconditional: Vec<f64>,
    /// Entries of the state per row.
    width: usize,
    levels: Option<&'a mut Vec<Level>>,
}

impl<B: Backend> Process for Run<'_, '_, B> {
    fn denoise(&mut self, x: &[f64], sigma: f64, denoised: &mut [f64]) {
        let layout = self.denoiser.layout;
        let scalings = self.denoiser.preconditioning.scalings(sigma);
        let (rows, context, dim) = (
            self.conditions.rows,
            self.conditions.context,
            layout.dims().action_dim,
        );
        let stride = layout.stride(context);
        let past = (context - 1) * dim;
        for (i, features) in self.features.chunks_exact_mut(stride).enumerate() {
            let row = i % rows;
            layout.write_noise(features, scalings.noise as f32);
            let state = &x[row * self.width..(row + 1) * self.width];
            let history = &self.conditions.history[row * past..(row + 1) * past];
            for step in 0..context {
                let entries = step * dim..(step + 1) * dim;
                let action = |entry: usize| {
                    let value = match self.mode {
                        HistoryMode::Reference => state[entry],
                        _ if entry >= past => state[entry - past],
                        HistoryMode::Renoise => {
                            history[entry] + sigma * self.history_noise[row * past + entry]
                        }
                        HistoryMode::Clamp => history[entry],
                    };
                    (scalings.input * value) as f32
                };
                layout.write_action(features, step, context, entries.map(action));
            }
        }
        let outputs = if self.mode == HistoryMode::Reference {
            Outputs::Actions
        } else {
            Outputs::Newest
        };
        let sequences = [self.guidance.copies() * rows, context];
        let raw = tensor_values(self.denoiser.network.forward(
            self.features.clone(),
            sequences,
            outputs,
            None,
        ));
        let precondition = |raw: &[f32], out: &mut [f64]| {
            for ((out, x), raw) in out.iter_mut().zip(x).zip(raw) {
                *out = scalings.skip * x + scalings.out * f64::from(*raw);
            }
        };
        precondition(&raw[..x.len()], denoised);
        if self.guidance.copies() == 2 {
            self.unconditional.resize(x.len(), 0.0);
            precondition(&raw[x.len()..], &mut self.unconditional);
            self.guidance.combine(denoised, &self.unconditional);
        }
    }

    fn noise(&mut self, out: &mut [f64]) {
        for (row, rng) in out.chunks_exact_mut(self.width).zip(self.rngs.iter_mut()) {
            row.iter_mut()
                .for_each(|entry| *entry = StandardNormal.sample(&mut **rng));
        }
    }

    fn observe(&mut self, sigma: f64, x: &[f64]) {
        if let Some(levels) = &mut self.levels {
            levels.push((
                sigma,
                newest(x, self.width, self.denoiser.layout.dims().action_dim),
            ));
        }
    }
}
