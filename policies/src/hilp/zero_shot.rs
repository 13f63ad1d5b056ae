//! HILP for any reward: successor features of the Hilbert representation (Park et al. 2024, zero-shot variant).
//!
//! The embeddings φ_k learn temporal distances as those of [HILP](super). With μ, the moving average of φ(s), features are
//! f = φ(s') − μ, or φ(s') − φ(s). A latent z has length √D. It is drawn uniformly; with probability `mix` a row of a batch takes one
//! from the data in place: with state features √D · normalise(C⁻¹ f) of the feature f of another row and C = mean f fᵀ, the latent
//! of the indicator of that row; with differences √D · normalise(φ(g) − φ(s)), the latent that leads to the goal g of the row.
//! Successor features ψ_k and a deterministic π learn by
//!
//! ```text
//! a' = clip(π(s', z) + ε),  ε ~ clip(N(0, std²), ±clip)
//! T = f + γ ψ̄(s', z, a') without gradient, of the slow head with the smaller ψ̄ · z
//! L_ψ = Σ_k mean (ψ_k(s, z, a) − T)²       (`scalar_loss`: of the products with z)
//! L_π = −mean min_k ψ_k(s, z, clip(π(s, z) + ε)) · z
//! ```
//!
//! With `imitation` above 0, L_π is −mean q / (mean |q| + 1e−6) + imitation · mean |π(s, z) − a|² for that minimum q: play data
//! does not cover what π might try. The steps are taken in this order: φ and ψ, then π with the new ψ, then the slow copies of ψ;
//! those of φ follow before its step.
//!
//! A reward becomes z by regression on features, a goal by the indicator of its own feature.

mod config;
mod networks;

use std::sync::Arc;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};
use telic_datasets::TransitionBatch;
use telic_seed::{Rng, Seed};

pub use self::config::{Features, HilpZeroShotConfig};
use self::networks::{Actor, Embedding, Successor, embed_each};
use super::policy::{HilpPolicy, Reach, Skills};
use super::reward::SecondMoment;
use super::{distances, draw_directions, mix_in, prompt};
use crate::ema::SlowCopy;
use crate::inputs::Inputs;
use crate::losses::{ValueTargets, climbing_loss};
use crate::module_state::{insert_module, load_module, tensor_values};
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, Metrics, Model, Numbers, Policy, PolicyError,
    PolicySpec, TensorMap, TrainingTask,
};

/// HILP for any reward in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<HilpZeroShot>(
    "hilp_zero_shot",
    "HILP, zero-shot",
    "successor features of HILP's embedding: a policy for any reward that is given after training",
    "Park et al. 2024, arXiv:2402.15567",
);

/// The algorithm.
pub struct HilpZeroShot;

impl Algorithm for HilpZeroShot {
    type Config = HilpZeroShotConfig;
    type Agent<B: AutodiffBackend> = HilpZeroShotAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &HilpZeroShotConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<HilpZeroShotAgent<B>, PolicyError> {
        let inputs = Inputs::fit_states(&config.inputs, task)?;
        let mut rng = task.seed.child("init").rng();
        let embeddings: Vec<Embedding<B>> = (0..2)
            .map(|_| Embedding::new(config, &inputs, &mut rng, device))
            .collect();
        let successor = Successor::new(config, &inputs, &mut rng, device);
        let actor = Actor::new(config, &inputs, &mut rng, device);
        let (schedule, steps) = (config.lr_schedule, task.steps);
        Ok(HilpZeroShotAgent {
            places: inputs.draw_places(task, config.prompt.places)?,
            slow_embeddings: SlowCopy::new(embeddings.valid()),
            slow_successor: SlowCopy::new(successor.valid()),
            centre: vec![0.0; config.embedding_dim],
            embeddings: Trained::new(
                embeddings,
                config.embedding_optimizer,
                schedule,
                steps,
                device,
            ),
            successor: Trained::new(successor, config.optimizer, schedule, steps, device),
            actor: Trained::new(actor, config.optimizer, schedule, steps, device),
            inputs,
            config: config.clone(),
        })
    }

    fn load<B: Backend>(
        config: &HilpZeroShotConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let mut rng = Seed::new(0).rng();
        let fresh = Embedding::<B>::new(config, &inputs, &mut rng, device);
        let embedding = load_module(&model.weights, EMBEDDING, fresh)?;
        let fresh = Actor::<B>::new(config, &inputs, &mut rng, device);
        let actor = load_module(&model.weights, ACTOR, fresh)?;
        let dim = config.embedding_dim;
        let reach = match config.features {
            Features::Difference => Reach::Direction {
                places: prompt::load_places(model, &config.prompt, dim)?,
            },
            Features::State => Reach::Indicator {
                centre: model.weights.get_f32(CENTRE, &[dim])?.to_vec(),
                inverse: model.weights.get_f32(INVERSE_MOMENT, &[dim, dim])?.to_vec(),
            },
        };
        let seen = inputs.observation_dim();
        let skills = Skills {
            embed: Arc::new(move |observations| embedding.forward(observations)),
            act: Box::new(move |both| {
                let [rows, width] = both.dims();
                let observations = both.clone().slice([0..rows, 0..seen]);
                let latents = both.slice([0..rows, seen..width]);
                actor.forward(observations, latents)
            }),
            deviations: vec![config.std; model.data.action_dim],
            norm: (dim as f64).sqrt(),
            reach,
        };
        Ok(Box::new(HilpPolicy::new(
            skills,
            config.prompt,
            model,
            device,
        )?))
    }
}

const EMBEDDING: &str = "embedding";
const ACTOR: &str = "actor";
const CENTRE: &str = "centre";
const INVERSE_MOMENT: &str = "inverse_moment";

/// Share of the new mean in μ per update.
const CENTRE_RATE: f32 = 0.005;
/// Actions of π with noise end this short of −1 and 1.
const MARGIN: f64 = 1e-6;

/// `ψ · z` per row, `[rows, 1]`.
fn value<B: Backend>(successor: &Tensor<B, 2>, latents: &Tensor<B, 2>) -> Tensor<B, 2> {
    (successor.clone() * latents.clone()).sum_dim(1)
}

/// T of features, heads of the slow ψ at the next state, and latents.
fn successor_target<B: Backend>(
    features: Tensor<B, 2>,
    [first, second]: [Tensor<B, 2>; 2],
    latents: &Tensor<B, 2>,
    discount: f64,
) -> Tensor<B, 2> {
    let takes_first = value(&first, latents)
        .lower(value(&second, latents))
        .float();
    let takes_second = takes_first.clone().neg() + 1.0;
    features + (first * takes_first + second * takes_second) * discount
}

/// L_ψ.
fn successor_loss<B: Backend>(
    heads: [Tensor<B, 2>; 2],
    target: &Tensor<B, 2>,
    latents: &Tensor<B, 2>,
    scalar: bool,
) -> Tensor<B, 1> {
    let [first, second] = heads.map(|head| {
        let error = if scalar {
            value(&head, latents) - value(target, latents)
        } else {
            head - target.clone()
        };
        (error.clone() * error).mean()
    });
    first + second
}

/// A batch as tensors.
struct Tables<B: Backend> {
    now: Tensor<B, 2>,
    next: Tensor<B, 2>,
    goals: Tensor<B, 2>,
    actions: Tensor<B, 2>,
    rewards: Tensor<B, 2>,
    masks: Tensor<B, 2>,
    /// Latents that were drawn, `[rows, D]`.
    latents: Tensor<B, 2>,
    /// Noise on actions at the next state, and at this one.
    next_noise: Tensor<B, 2>,
    noise: Tensor<B, 2>,
    /// f.
    features: Tensor<B, 2>,
    /// φ₁(s') − φ₁(s).
    steps: Tensor<B, 2>,
}

/// Trains φ, ψ and π, each with an optimiser of its own.
///
/// Metrics of an update and of an evaluation: `embedding/loss`; `embedding/distance`, the mean distance of states and goals, and
/// `embedding/step`, that of single steps; `successor/loss`; `actor/loss`; `actor/q`, the mean of min_k ψ_k · z; `actor/mse`, the
/// mean squared error of π per action entry. Of an update also `optimizer/gradient_norm` and `optimizer/lr` of ψ.
pub struct HilpZeroShotAgent<B: AutodiffBackend> {
    config: HilpZeroShotConfig,
    inputs: Inputs,
    embeddings: Trained<B, Vec<Embedding<B>>>,
    successor: Trained<B, Successor<B>>,
    actor: Trained<B, Actor<B>>,
    slow_embeddings: SlowCopy<Vec<Embedding<B::InnerBackend>>>,
    slow_successor: SlowCopy<Successor<B::InnerBackend>>,
    /// μ.
    centre: Vec<f32>,
    /// States of the data, as the networks see them, row-major.
    places: Vec<f32>,
}

impl<B: AutodiffBackend> HilpZeroShotAgent<B> {
    fn device(&self) -> &B::Device {
        self.actor.device()
    }

    /// `clip(N(0, std²))`, `[rows, action_dim]`.
    fn draw_noise(&self, rows: usize, rng: &mut Rng) -> Vec<f32> {
        let (std, clip) = (self.config.std, self.config.noise_clip);
        (0..rows * self.inputs.action_dim())
            .map(|_| {
                let noise: f64 = StandardNormal.sample(rng);
                (std * noise).clamp(-clip, clip) as f32
            })
            .collect()
    }

    /// Latents of length √D, for what those of the data are made of: features or ways to goals, `[rows, D]`.
    fn draw_latents(&self, of_data: &[f32], rng: &mut Rng) -> Vec<f32> {
        let (dim, mix) = (self.config.embedding_dim, self.config.mix);
        let (rows, norm) = (of_data.len() / dim, (dim as f64).sqrt());
        let mut latents = draw_directions(rows, dim, rng);
        latents.iter_mut().for_each(|x| *x *= norm as f32);
        if mix == 0.0 {
            return latents;
        }
        let entries = |row: usize| -> Vec<f64> {
            let entries = of_data[row * dim..(row + 1) * dim].iter();
            entries.map(|x| f64::from(*x)).collect()
        };
        match self.config.features {
            Features::Difference => mix_in(&mut latents, dim, (mix, norm), rng, entries),
            Features::State => {
                let mut order: Vec<usize> = (0..rows).collect();
                order.shuffle(rng);
                // Without one, the training has diverged, and the losses will say so.
                if let Some(moment) = SecondMoment::of(of_data, dim) {
                    let way = |row: usize| moment.solve(&entries(order[row]));
                    mix_in(&mut latents, dim, (mix, norm), rng, way);
                }
            }
        }
        latents
    }

    /// The batch, with latents and noise; and the mean of φ(s).
    fn tables(
        &self,
        batch: &TransitionBatch,
        rng: &mut Rng,
    ) -> (Tables<B::InnerBackend>, Vec<f32>) {
        let device = self.device();
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let (noise, next_noise) = (
            self.draw_noise(batch.size, rng),
            self.draw_noise(batch.size, rng),
        );
        let tables = [
            table(&[&batch.observations]),
            table(&[&batch.next_observations]),
            table(&[&batch.value_goals]),
            table(&[&batch.actions]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
            table(&[&next_noise]),
            table(&[&noise]),
        ];
        let [now, next, goals, actions, rewards, masks, next_noise, noise] =
            upload::<B::InnerBackend, 8>(tables, device);
        let embedding = &self.embeddings.module()[0].valid();
        let (before, after) = (
            embedding.forward(now.clone()),
            embedding.forward(next.clone()),
        );
        let mean = tensor_values(before.clone().mean_dim(0));
        let steps = after.clone() - before.clone();
        let (features, of_data) = match self.config.features {
            Features::Difference => (steps.clone(), embedding.forward(goals.clone()) - before),
            Features::State => {
                let features = after - self.centre(device);
                (features.clone(), features)
            }
        };
        let latents = self.draw_latents(&tensor_values(of_data), rng);
        let latents = table(&[&latents]).upload(device);
        let tables = Tables {
            now,
            next,
            goals,
            actions,
            rewards,
            masks,
            latents,
            next_noise,
            noise,
            features,
            steps,
        };
        (tables, mean)
    }

    /// μ, `[1, D]`.
    fn centre(&self, device: &B::Device) -> Tensor<B::InnerBackend, 2> {
        let data = TensorData::new(self.centre.clone(), [1, self.centre.len()]);
        Tensor::from_data(data, device)
    }

    fn embedding_loss<C: Backend>(
        &self,
        embeddings: &[Embedding<C>],
        tables: &Tables<B::InnerBackend>,
        lift: impl Fn(Tensor<B::InnerBackend, 2>) -> Tensor<C, 2>,
        numbers: &mut Numbers<C>,
    ) -> Tensor<C, 1> {
        let slow = self.slow_embeddings.get();
        let slow_goals = embed_each(slow, &tables.goals);
        let targets = ValueTargets {
            rewards: tables.rewards.clone(),
            masks: tables.masks.clone(),
            slow_now: distances(embed_each(slow, &tables.now), &slow_goals),
            slow_next: distances(embed_each(slow, &tables.next), &slow_goals),
        };
        let from = embed_each(embeddings, &lift(tables.now.clone()));
        let to = embed_each(embeddings, &lift(tables.goals.clone()));
        let found = distances(from, &to);
        let config = &self.config;
        let loss = targets.loss(&found, config.embedding_discount, config.expectile, &lift);
        let steps = tables.steps.clone();
        let step = lift((steps.clone() * steps).sum_dim(1).sqrt());
        numbers.insert("embedding/loss", loss.clone());
        numbers.insert("embedding/distance", found[0].clone().mean().neg());
        numbers.insert("embedding/step", step.mean());
        loss
    }

    fn successor_loss<C: Backend>(
        &self,
        successor: &Successor<C>,
        tables: &Tables<B::InnerBackend>,
        lift: impl Fn(Tensor<B::InnerBackend, 2>) -> Tensor<C, 2>,
        numbers: &mut Numbers<C>,
    ) -> Tensor<C, 1> {
        let Tables { latents, .. } = tables;
        let actor = self.actor.module().valid();
        let next_actions = actor.forward(tables.next.clone(), latents.clone());
        let next_actions = with_noise(next_actions, tables.next_noise.clone());
        let slow = self.slow_successor.get();
        let next = slow.forward(tables.next.clone(), latents.clone(), next_actions);
        let target = successor_target(tables.features.clone(), next, latents, self.config.discount);
        let (now, latents) = (lift(tables.now.clone()), lift(latents.clone()));
        let heads = successor.forward(now, latents.clone(), lift(tables.actions.clone()));
        let loss = successor_loss(heads, &lift(target), &latents, self.config.scalar_loss);
        numbers.insert("successor/loss", loss.clone());
        loss
    }

    /// `successor` has no gradient of its own.
    fn actor_loss<C: Backend>(
        &self,
        actor: &Actor<C>,
        successor: &Successor<C>,
        tables: &Tables<B::InnerBackend>,
        lift: impl Fn(Tensor<B::InnerBackend, 2>) -> Tensor<C, 2>,
        numbers: &mut Numbers<C>,
    ) -> Tensor<C, 1> {
        let (now, latents) = (lift(tables.now.clone()), lift(tables.latents.clone()));
        let means = actor.forward(now.clone(), latents.clone());
        let error = means.clone() - lift(tables.actions.clone());
        let mse = (error.clone() * error).mean();
        let acted = with_noise(means, lift(tables.noise.clone()));
        let [first, second] = successor.forward(now, latents.clone(), acted);
        let q = value(&first, &latents).min_pair(value(&second, &latents));
        let mean_q = q.clone().mean();
        let loss = if self.config.imitation > 0.0 {
            climbing_loss(q) + mse.clone() * self.config.imitation
        } else {
            mean_q.clone().neg()
        };
        numbers.insert("actor/loss", loss.clone());
        numbers.insert("actor/q", mean_q);
        numbers.insert("actor/mse", mse);
        loss
    }
}

/// Actions with noise, cut off; the cut has the gradient of the identity.
fn with_noise<B: Backend>(actions: Tensor<B, 2>, noise: Tensor<B, 2>) -> Tensor<B, 2> {
    let noisy = actions + noise;
    let cut = noisy.clone().detach().clamp(-1.0 + MARGIN, 1.0 - MARGIN);
    let correction = cut - noisy.clone().detach();
    noisy + correction
}

impl<B: AutodiffBackend> Agent for HilpZeroShotAgent<B> {
    type Batch = TransitionBatch;
    type Backend = B::InnerBackend;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    fn update(&mut self, batch: &TransitionBatch, rng: &mut Rng) -> Numbers<B::InnerBackend> {
        let (tables, mean) = self.tables(batch, rng);
        for (centre, mean) in self.centre.iter_mut().zip(mean) {
            *centre += CENTRE_RATE * (mean - *centre);
        }
        let mut numbers = Numbers::new();
        // Learning rate and gradient norm that are reported are those of ψ.
        let mut unreported = Numbers::new();
        let lift = Tensor::<B, 2>::from_inner;
        let embeddings = self.embeddings.module();
        let embedding_loss = self.embedding_loss(embeddings, &tables, lift, &mut numbers);
        let successor = self.successor.module();
        let successor_loss = self.successor_loss(successor, &tables, lift, &mut numbers);
        let keep = 1.0 - self.config.embedding_target_rate;
        self.slow_embeddings.follow(self.embeddings.module(), keep);
        self.embeddings.step(embedding_loss, &mut unreported);
        let mut of_step = Numbers::new();
        self.successor.step(successor_loss, &mut of_step);

        let successor = self.successor.module().clone().no_grad();
        let actor = self.actor.module();
        let actor_loss = self.actor_loss(actor, &successor, &tables, lift, &mut numbers);
        drop(successor);
        let mut numbers = numbers.inner();
        numbers.extend(of_step);
        self.actor.step(actor_loss, &mut unreported);
        self.slow_successor
            .follow(self.successor.module(), 1.0 - self.config.target_rate);
        numbers
    }

    fn evaluate(&mut self, batch: &TransitionBatch, rng: &mut Rng) -> Metrics {
        let (tables, _) = self.tables(batch, rng);
        let mut numbers = Numbers::new();
        let same = |constant: Tensor<B::InnerBackend, 2>| constant;
        let embeddings = self.embeddings.module().valid();
        self.embedding_loss(&embeddings, &tables, same, &mut numbers);
        let successor = self.successor.module().valid();
        self.successor_loss(&successor, &tables, same, &mut numbers);
        let actor = self.actor.module().valid();
        self.actor_loss(&actor, &successor, &tables, same, &mut numbers);
        numbers.read()
    }

    fn model(&self) -> Model {
        let embedding = self.embeddings.module()[0].valid();
        let width = self.inputs.observation_dim();
        let places = Table::side_by_side(self.places.len() / width, &[&self.places]);
        let device = self.device();
        let latents = embedding.forward(places.upload::<B::InnerBackend>(device));
        let mut weights = TensorMap::new();
        insert_module(&mut weights, EMBEDDING, &embedding);
        insert_module(&mut weights, ACTOR, self.actor.module());
        match self.config.features {
            Features::Difference => prompt::insert_places(&mut weights, latents),
            Features::State => {
                let dim = self.config.embedding_dim;
                let features = tensor_values(latents - self.centre(device));
                let inverse = SecondMoment::of(&features, dim)
                    .map_or(vec![f32::NAN; dim * dim], |moment| moment.inverse());
                weights.insert_f32(CENTRE, &[dim], self.centre.clone());
                weights.insert_f32(INVERSE_MOMENT, &[dim, dim], inverse);
            }
        }
        let settings = self.config.prompt.settings(self.config.inference);
        self.inputs.model(None, settings, weights)
    }

    fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        state.insert_map("embeddings", self.embeddings.state());
        state.insert_map("successor", self.successor.state());
        state.insert_map(ACTOR, self.actor.state());
        self.slow_embeddings
            .insert_into(&mut state, "slow_embeddings");
        self.slow_successor
            .insert_into(&mut state, "slow_successor");
        state.insert_f32(CENTRE, &[self.centre.len()], self.centre.clone());
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let slow_embeddings = self.slow_embeddings.loaded(state, "slow_embeddings")?;
        let slow_successor = self.slow_successor.loaded(state, "slow_successor")?;
        let centre = state.get_f32(CENTRE, &[self.centre.len()])?.to_vec();
        self.embeddings.load_state(&state.sub_map("embeddings"))?;
        self.successor.load_state(&state.sub_map("successor"))?;
        self.actor.load_state(&state.sub_map(ACTOR))?;
        (self.slow_embeddings, self.slow_successor) = (slow_embeddings, slow_successor);
        self.centre = centre;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
