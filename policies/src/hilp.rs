//! HILP: Hilbert representations and foundation policies (Park et al. 2024), goal-conditioned.
//!
//! Two embeddings φ_k of width D become a temporal distance, by the [implicit value](crate::losses) with slow copies φ̄_k and
//!
//! ```text
//! V_k(s, g) = −√max(|φ_k(s) − φ_k(g)|², 1e−6)
//! ```
//!
//! A policy learns to move in any direction z of the latent space, by implicit Q-learning with z uniform on the unit sphere, new
//! for every transition and update, φ = φ₁ without gradient, and E(w; x) = (τ_s if w ≥ 0 else 1 − τ_s) x²:
//!
//! ```text
//! ρ = (φ(s') − φ(s)) · z
//! L_V = mean E(q̄ − V(s, z); q̄ − V(s, z)),  q̄ = min(Q̄₁, Q̄₂)(s, z, a)
//! L_Q = mean (Q₁ − y)² + (Q₂ − y)² at (s, z, a),  y = ρ + γ V(s', z) without gradient
//! L_π = −mean min(exp(α (q̄ − V(s, z))), 100) log π(a | s, z), the weight without gradient
//! slow ← rate · module + (1 − rate) · slow with the module before the step
//! ```
//!
//! The Gaussian π has a learned standard deviation, the same in all states. To reach a goal, z points from φ(s) to φ(g), or to
//! where a plan or a search says ([`PromptConfig`]); a reward that is regressed on φ is a direction too. With `mix` above 0 that share of the
//! directions of training are such prompts, from the state of a row to its goal. [`zero_shot`] is the variant for rewards.

mod policy;
mod prompt;
mod reward;
mod search;
pub mod zero_shot;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

pub use self::policy::HilpPolicy;
use self::policy::{Reach, Skills};
pub use self::prompt::{PromptConfig, PromptKind};
use self::reward::with_norm;
use crate::gaussian::{GaussianInference, LearnedDeviation};
use crate::inputs::{InputConfig, Inputs};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::{
    Losses, ValueTargets, advantage_weight, check_alpha, check_rates, each, mean_of,
    regression_loss, upper_value_loss,
};
use crate::module_state::{insert_module, load_module, tensor_values};
use crate::nn::{Activation, AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::trained::NETWORK;
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// HILP in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Hilp>(
    "hilp",
    "HILP",
    "an embedding whose distances are steps, and a policy that moves along any direction of it",
    "Park et al. 2024, arXiv:2402.15567",
);

/// Settings of HILP. The defaults are those of its goal-conditioned reference release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HilpConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals of the embedding, and γ.
    pub goals: HindsightConfig,
    /// The network of each φ: three layers of 512 with layer norm.
    pub embedding: MlpConfig,
    /// D.
    pub embedding_dim: usize,
    /// The network of V and of each Q: three layers of 512 with layer norm.
    pub value: MlpConfig,
    /// The network of the mean action: three layers of 512, ReLU, no layer norm.
    pub actor: MlpConfig,
    /// τ of the embedding.
    pub expectile: f64,
    /// τ_s.
    pub skill_expectile: f64,
    /// Share of the new weights in the slow copies per update.
    pub target_rate: f64,
    /// α. Higher is greedier.
    pub alpha: f64,
    /// Share of the directions of training that lead from the state of a row to its goal; 0 as published.
    pub mix: f64,
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Where the policy is sent, a setting of inference.
    pub prompt: PromptConfig,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for HilpConfig {
    fn default() -> Self {
        // Park et al. 2024, reference release, `hilp_gcrl`.
        let with_norm = MlpConfig {
            layer_norm: true,
            ..MlpConfig::default()
        };
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig {
                value: GoalMix {
                    current: 0.0,
                    trajectory: 0.625,
                    random: 0.375,
                    geometric: true,
                    stitched: 0.0,
                },
                ..HindsightConfig::default()
            },
            embedding: with_norm.clone(),
            embedding_dim: 32,
            value: with_norm,
            actor: MlpConfig {
                activation: Activation::Relu,
                ..MlpConfig::default()
            },
            expectile: 0.95,
            skill_expectile: 0.9,
            target_rate: 0.005,
            alpha: 10.0,
            mix: 0.0,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            prompt: PromptConfig::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for HilpConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("embedding", &self.embedding),
            ("value", &self.value),
            ("actor", &self.actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("prompt", &self.prompt),
            ("inference", &self.inference),
        ]);
        self.prompt
            .validate_kind(problems, &PromptKind::OF_DIRECTIONS, "");
        let dim = self.embedding_dim;
        problems.check(dim >= 1, "embedding_dim", dim, "at least 1");
        check_rates(problems, self.expectile, self.target_rate);
        let expectile = self.skill_expectile;
        problems.check(
            expectile > 0.0 && expectile < 1.0,
            "skill_expectile",
            expectile,
            "a number between 0 and 1",
        );
        check_alpha(problems, "alpha", self.alpha);
        check_mix(problems, self.mix);
    }

    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        Some((&self.goals, &["actor", "negative_rewards"]))
    }
}

/// The algorithm, with its configuration fitted to data.
pub struct Hilp {
    config: HilpConfig,
    inputs: Inputs,
    /// States of the data that plans go through, as the networks see them, row-major.
    places: Vec<f32>,
}

impl Algorithm for Hilp {
    type Config = HilpConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &HilpConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<JointAgent<Self, B>, PolicyError> {
        let inputs = Inputs::fit_states(&config.inputs, task)?;
        let objective = Self {
            places: inputs.draw_places(task, config.prompt.places)?,
            inputs,
            config: config.clone(),
        };
        let training = JointTraining {
            optimizer: config.optimizer,
            lr_schedule: config.lr_schedule,
            target_rate: config.target_rate,
        };
        Ok(JointAgent::new(objective, training, task, device))
    }

    fn load<B: Backend>(
        config: &HilpConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let fresh = Actor::<B>::new(config, &inputs, &mut Seed::new(0).rng(), device);
        let actor = load_module(&model.weights, NETWORK, fresh)?;
        let places = prompt::load_places(model, &config.prompt, config.embedding_dim)?;
        let Actor {
            embedding,
            mean,
            log_std,
        } = actor;
        let skills = Skills {
            embed: Arc::new(move |observations| embedding.forward(observations)),
            act: Box::new(move |seen| mean.forward(seen)),
            deviations: log_std.values(),
            norm: 1.0,
            reach: Reach::Direction { places },
        };
        Ok(Box::new(HilpPolicy::new(
            skills,
            config.prompt,
            model,
            device,
        )?))
    }
}

/// What acting needs: φ and the mean of π.
#[derive(Module, Debug)]
struct Actor<B: Backend> {
    embedding: Mlp<B>,
    mean: Mlp<B>,
    log_std: LearnedDeviation<B>,
}

impl<B: Backend> Actor<B> {
    fn new(config: &HilpConfig, inputs: &Inputs, rng: &mut Rng, device: &B::Device) -> Self {
        let (seen, dim, actions) = (
            inputs.observation_dim(),
            config.embedding_dim,
            inputs.action_dim(),
        );
        Self {
            embedding: Mlp::new(&config.embedding, seen, dim, 1.0, rng, device),
            mean: Mlp::new(&config.actor, seen + dim, actions, 0.01, rng, device),
            log_std: LearnedDeviation::new(actions, device),
        }
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    embeddings: Vec<Mlp<B>>,
    value: Mlp<B>,
    critics: Vec<Mlp<B>>,
    mean: Mlp<B>,
    log_std: LearnedDeviation<B>,
}

impl<B: Backend> Networks<B> {
    fn new(config: &HilpConfig, inputs: &Inputs, rng: &mut Rng, device: &B::Device) -> Self {
        let (seen, dim, actions) = (
            inputs.observation_dim(),
            config.embedding_dim,
            inputs.action_dim(),
        );
        Self {
            embeddings: Mlp::two(&config.embedding, seen, dim, rng, device),
            value: Mlp::new(&config.value, seen + dim, 1, 1.0, rng, device),
            critics: Mlp::two(&config.value, seen + dim + actions, 1, rng, device),
            mean: Mlp::new(&config.actor, seen + dim, actions, 0.01, rng, device),
            log_std: LearnedDeviation::new(actions, device),
        }
    }
}

/// `−√max(|a − b|², 1e−6)` per row, `[rows, 1]`.
fn negative_distance<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Tensor<B, 2> {
    let difference = a - b;
    (difference.clone() * difference)
        .sum_dim(1)
        .clamp_min(1e-6)
        .sqrt()
        .neg()
}

/// V_k of latents φ_k(s) and φ_k(g), `[rows, D]`; `[rows, 1]` each.
fn distances<B: Backend>(from: Vec<Tensor<B, 2>>, to: &[Tensor<B, 2>]) -> Vec<Tensor<B, 2>> {
    let both = from.into_iter().zip(to);
    both.map(|(from, to)| negative_distance(from, to.clone()))
        .collect()
}

/// y of steps φ(s') − φ(s) and directions, `[rows, D]`, and of V(s', z), `[rows, 1]`.
fn skill_target<B: Backend>(
    steps: Tensor<B, 2>,
    directions: Tensor<B, 2>,
    next_values: Tensor<B, 2>,
    discount: f64,
) -> Tensor<B, 2> {
    (steps * directions).sum_dim(1) + next_values * discount
}

/// L_π of q̄ − V, `[rows, 1]` and without gradient, and of differences of mean and action.
fn skill_loss<B: Backend>(
    advantage: Tensor<B, 2>,
    error: Tensor<B, 2>,
    deviation: &LearnedDeviation<B>,
    alpha: f64,
) -> Tensor<B, 1> {
    let weight = advantage_weight(advantage, alpha);
    (weight * deviation.negative_log_prob(error)).mean()
}

/// Directions, uniform on the unit sphere, `[rows, dim]`.
fn draw_directions(rows: usize, dim: usize, rng: &mut Rng) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let row: Vec<f64> = (0..dim).map(|_| StandardNormal.sample(rng)).collect();
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
        all.extend(row.iter().map(|x| (x / norm) as f32));
    }
    all
}

/// Adds a share of latents from the data that is out of range.
fn check_mix(problems: &mut Problems, mix: f64) {
    let holds = (0.0..=1.0).contains(&mix);
    problems.check(holds, "mix", mix, "a share in 0..=1");
}

/// Puts ways from the data in place of latents `[rows, dim]`, each with probability `mix` and at the length `norm`.
fn mix_in(
    latents: &mut [f32],
    dim: usize,
    (mix, norm): (f64, f64),
    rng: &mut Rng,
    way: impl Fn(usize) -> Vec<f64>,
) {
    for (row, latent) in latents.chunks_exact_mut(dim).enumerate() {
        if rng.random::<f64>() < mix {
            let way = way(row);
            // There is no way to where the row already is.
            if way.iter().any(|x| *x != 0.0) {
                latent.copy_from_slice(&with_norm(&way, norm));
            }
        }
    }
}

impl Hilp {
    /// Directions of length 1 for a batch, `[rows, D]`: uniform, or, with probability `mix`, from the state of a row to its goal.
    fn directions<B: Backend>(
        &self,
        batch: &TransitionBatch,
        embedding: &Mlp<B>,
        device: &B::Device,
        rng: &mut Rng,
    ) -> Vec<f32> {
        let (dim, mix) = (self.config.embedding_dim, self.config.mix);
        let mut directions = draw_directions(batch.size, dim, rng);
        if mix > 0.0 {
            let [from, to] = [&batch.observations, &batch.value_goals].map(|states| {
                let states = Table::side_by_side(batch.size, &[states]);
                tensor_values(embedding.forward(states.upload(device)))
            });
            mix_in(&mut directions, dim, (mix, 1.0), rng, |row| {
                (row * dim..(row + 1) * dim)
                    .map(|i| f64::from(to[i]) - f64::from(from[i]))
                    .collect()
            });
        }
        directions
    }
}

impl Objective for Hilp {
    type Batch = TransitionBatch;
    type Networks<B: Backend> = Networks<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Networks<B> {
        Networks::new(&self.config, &self.inputs, rng, device)
    }

    fn followed<B: Backend>(networks: &Networks<B>) -> Vec<Mlp<B>> {
        [&networks.embeddings[..], &networks.critics].concat()
    }

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    /// Numbers: `embedding/loss`; `embedding/distance`, the mean distance of states and goals, and `embedding/step`, that of single
    /// steps, which comes close to 1; `value/loss`, `value/v_mean`; `critic/loss`, `critic/q_mean`; `actor/loss`; `actor/mse`, the
    /// mean squared error of the mean per action entry; `actor/advantage`.
    fn losses<I: Backend, C: Backend<Device = I::Device>>(
        &self,
        batch: &TransitionBatch,
        rng: &mut Rng,
        networks: &Networks<C>,
        given: &Given<'_, I, Networks<I>>,
        lift: impl Fn(Tensor<I, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let config = &self.config;
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let (now, next) = (&batch.observations, &batch.next_observations);
        let constant = given.networks;
        let embedding = &constant.embeddings[0];
        let directions = self.directions(batch, embedding, given.device, rng);
        let tables = [
            table(&[now]),
            table(&[next]),
            table(&[batch.bootstrap_observations()]),
            table(&[&batch.value_goals]),
            table(&[now, &directions]),
            table(&[next, &directions]),
            table(&[now, &directions, &batch.actions]),
            table(&[&directions]),
            table(&[&batch.actions]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
        ];
        let [
            now,
            next,
            later,
            goals,
            skill_now,
            skill_next,
            acted,
            directions,
            actions,
            rewards,
            masks,
        ] = upload::<I, 11>(tables, given.device);
        let (slow_embeddings, slow_critics) = given.slow.split_at(2);
        let discount = config.goals.discount;

        let slow_goals = each(slow_embeddings, &goals);
        let targets = ValueTargets {
            rewards,
            masks,
            slow_now: distances(each(slow_embeddings, &now), &slow_goals),
            slow_next: distances(each(slow_embeddings, &later), &slow_goals),
        };
        let from = each(&networks.embeddings, &lift(now));
        let before = from[0].clone().detach();
        let found = distances(from, &each(&networks.embeddings, &lift(goals)));
        let embedding_loss = targets.loss(&found, discount, config.expectile, &lift);

        let slow_q = each(slow_critics, &acted);
        let v = networks.value.forward(lift(skill_now.clone()));
        let (error, value_loss) =
            upper_value_loss(&slow_q, v.clone(), config.skill_expectile, &lift);

        let step = lift(embedding.forward(next)) - before;
        let next_v = lift(constant.value.forward(skill_next));
        let target = skill_target(step.clone(), lift(directions), next_v, discount);
        let q = each(&networks.critics, &lift(acted));
        let critic_loss = regression_loss(&q, &target);

        let advantage = error.detach();
        let error = networks.mean.forward(lift(skill_now)) - lift(actions);
        let mse = (error.clone() * error.clone()).mean();
        let deviation = &networks.log_std;
        let actor_loss = skill_loss(advantage.clone(), error, deviation, config.alpha);
        Losses {
            numbers: Numbers::new()
                .with("embedding/loss", embedding_loss.clone())
                .with("embedding/distance", found[0].clone().mean().neg())
                .with(
                    "embedding/step",
                    (step.clone() * step).sum_dim(1).sqrt().mean(),
                )
                .with("value/loss", value_loss.clone())
                .with("value/v_mean", v.mean())
                .with("critic/loss", critic_loss.clone())
                .with("critic/q_mean", mean_of(&q).mean())
                .with("actor/loss", actor_loss.clone())
                .with("actor/mse", mse)
                .with("actor/advantage", advantage.mean()),
            total: embedding_loss + value_loss + critic_loss + actor_loss,
        }
    }

    fn model<B: Backend>(&self, networks: &Networks<B>) -> Model {
        let actor = Actor {
            embedding: networks.embeddings[0].clone(),
            mean: networks.mean.clone(),
            log_std: networks.log_std.clone(),
        };
        let width = self.inputs.observation_dim();
        let places = Table::side_by_side(self.places.len() / width, &[&self.places]);
        let latents = places.upload::<B>(&actor.mean.device());
        let mut weights = TensorMap::new();
        prompt::insert_places(&mut weights, actor.embedding.forward(latents));
        insert_module(&mut weights, NETWORK, &actor);
        let settings = self.config.prompt.settings(self.config.inference);
        self.inputs.model(None, settings, weights)
    }
}

#[cfg(test)]
mod tests;
