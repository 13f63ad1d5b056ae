//! HILP for any reward: successor features of the Hilbert representation (Park et al. 2024, zero-shot variant).
//!
//! The embeddings φ_k learn temporal distances as those of [HILP](super). With μ, the moving average of φ(s), features are
//! f = φ(s') − μ, or φ(s') − φ(s). A latent z has length √D. It is drawn uniformly; with probability `mix` a row of a batch takes
//! √D · normalise(C⁻¹ f) in place, of the feature f of another row and C = mean f fᵀ: the latent of the indicator of that row.
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

use std::sync::Arc;

use burn::module::{AutodiffModule, Module};
use burn::tensor::activation::relu;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

use super::policy::{HilpPolicy, Reach, Skills};
use super::prompt::{self, PromptConfig};
use super::reward::{SecondMoment, with_norm};
use super::{draw_directions, negative_distance};
use crate::ema::SlowCopy;
use crate::gaussian::{GaussianInference, halves};
use crate::inputs::{InputConfig, Inputs};
use crate::losses::{ValueTargets, check_alpha, check_rates, climbing_loss};
use crate::module_state::{insert_module, load_module, tensor_values};
use crate::nn::{AdamConfig, Initializer, LayerNorm, Linear, LrSchedule};
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, Metrics, Model, Numbers, Policy, PolicyConfig,
    PolicyError, PolicySpec, Problems, TensorMap, TrainingTask,
};

/// HILP for any reward in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<HilpZeroShot>(
    "hilp_zero_shot",
    "HILP, zero-shot",
    "successor features of HILP's embedding: a policy for any reward that is given after training",
    "Park et al. 2024, arXiv:2402.15567",
);

/// What ψ sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// φ(s') − μ.
    #[default]
    State,
    /// φ(s') − φ(s); a latent is then a direction.
    Difference,
}

/// Settings of HILP for any reward. The defaults are those of its reference release, `hilp_zsrl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HilpZeroShotConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals of the embedding; γ is that of their distances.
    pub goals: HindsightConfig,
    /// γ of the embedding's value.
    pub embedding_discount: f64,
    /// D.
    pub embedding_dim: usize,
    /// Width of the embedding's layers.
    pub embedding_width: usize,
    /// Width of the hidden layers of ψ and π.
    pub width: usize,
    /// Width of what ψ and π make of each of their inputs.
    pub trunk_width: usize,
    /// What ψ sums up.
    pub features: Features,
    /// γ of ψ.
    pub discount: f64,
    /// τ of the embedding.
    pub expectile: f64,
    /// Share of the new weights in the slow φ per update.
    pub embedding_target_rate: f64,
    /// Share of the new weights in the slow ψ per update.
    pub target_rate: f64,
    /// Share of the latents that come from the data.
    pub mix: f64,
    /// Standard deviation of the noise on actions of π.
    pub std: f64,
    /// Where that noise is cut off.
    pub noise_clip: f64,
    /// Whether ψ learns from its products with z alone.
    pub scalar_loss: bool,
    /// Weight of imitation in L_π; 0 as published.
    pub imitation: f64,
    /// Adam of φ.
    pub embedding_optimizer: AdamConfig,
    /// Adam of ψ and of π.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Where the policy is sent, a setting of inference.
    pub prompt: PromptConfig,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for HilpZeroShotConfig {
    fn default() -> Self {
        // Park et al. 2024, reference release, state observations.
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
            embedding_discount: 0.98,
            embedding_dim: 50,
            embedding_width: 512,
            width: 1024,
            trunk_width: 512,
            features: Features::State,
            discount: 0.98,
            expectile: 0.5,
            embedding_target_rate: 0.005,
            target_rate: 0.01,
            mix: 0.5,
            std: 0.2,
            noise_clip: 0.3,
            scalar_loss: false,
            imitation: 0.0,
            embedding_optimizer: AdamConfig {
                lr: 5e-4,
                ..AdamConfig::default()
            },
            optimizer: AdamConfig {
                lr: 1e-4,
                ..AdamConfig::default()
            },
            lr_schedule: LrSchedule::default(),
            prompt: PromptConfig {
                places: 10_000,
                ..PromptConfig::default()
            },
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for HilpZeroShotConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("embedding_optimizer", &self.embedding_optimizer),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("prompt", &self.prompt),
            ("inference", &self.inference),
        ]);
        for (key, number) in [
            ("embedding_dim", self.embedding_dim),
            ("embedding_width", self.embedding_width),
            ("width", self.width),
            ("trunk_width", self.trunk_width),
        ] {
            problems.check(number >= 1, key, number, "at least 1");
        }
        for (key, discount) in [
            ("discount", self.discount),
            ("embedding_discount", self.embedding_discount),
        ] {
            let holds = (0.0..1.0).contains(&discount);
            problems.check(holds, key, discount, "a number in 0..1");
        }
        check_rates(problems, self.expectile, self.target_rate);
        let rate = self.embedding_target_rate;
        problems.check(
            rate > 0.0 && rate <= 1.0,
            "embedding_target_rate",
            rate,
            "a number above 0 and at most 1",
        );
        problems.check(
            (0.0..=1.0).contains(&self.mix),
            "mix",
            self.mix,
            "a share in 0..=1",
        );
        for (key, number) in [
            ("std", self.std),
            ("noise_clip", self.noise_clip),
            ("imitation", self.imitation),
        ] {
            check_alpha(problems, key, number);
        }
    }
}

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
        let inputs = Inputs::fit(&config.inputs, task)?;
        let mut rng = task.seed.child("init").rng();
        let embeddings: Vec<Embedding<B>> = (0..2)
            .map(|_| Embedding::new(config, &inputs, &mut rng, device))
            .collect();
        let successor = Successor::new(config, &inputs, &mut rng, device);
        let actor = Actor::new(config, &inputs, &mut rng, device);
        let (schedule, steps) = (config.lr_schedule, task.steps);
        Ok(HilpZeroShotAgent {
            places: prompt::draw_places(&inputs, task, config.prompt.places)?,
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
                places: Arc::default(),
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
            std: config.std,
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

/// Weights as torch's layers start, but for orthogonal matrices: uniform with the variance of Glorot.
fn linear<B: Backend>(
    inputs: usize,
    outputs: usize,
    rng: &mut Rng,
    device: &B::Device,
) -> Linear<B> {
    let initializer = Initializer::Glorot { scale: 1.0 };
    Linear::new(inputs, outputs, initializer, rng, device)
}

/// Linear, layer norm, tanh, linear, ReLU.
#[derive(Module, Debug)]
struct Trunk<B: Backend> {
    first: Linear<B>,
    norm: LayerNorm<B>,
    second: Linear<B>,
}

impl<B: Backend> Trunk<B> {
    fn new([inputs, hidden, outputs]: [usize; 3], rng: &mut Rng, device: &B::Device) -> Self {
        Self {
            first: linear(inputs, hidden, rng, device),
            norm: LayerNorm::new(hidden, 1e-5, device),
            second: linear(hidden, outputs, rng, device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = self.norm.forward(self.first.forward(x)).tanh();
        relu(self.second.forward(hidden))
    }
}

/// Linear, ReLU, linear.
#[derive(Module, Debug)]
struct Head<B: Backend> {
    hidden: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> Head<B> {
    fn new([inputs, hidden, outputs]: [usize; 3], rng: &mut Rng, device: &B::Device) -> Self {
        Self {
            hidden: linear(inputs, hidden, rng, device),
            output: linear(hidden, outputs, rng, device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output.forward(relu(self.hidden.forward(x)))
    }
}

/// φ.
#[derive(Module, Debug)]
struct Embedding<B: Backend> {
    trunk: Trunk<B>,
    output: Linear<B>,
}

impl<B: Backend> Embedding<B> {
    fn new(
        config: &HilpZeroShotConfig,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let width = config.embedding_width;
        Self {
            trunk: Trunk::new([inputs.observation_dim(), width, width], rng, device),
            output: linear(width, config.embedding_dim, rng, device),
        }
    }

    fn forward(&self, observations: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output.forward(self.trunk.forward(observations))
    }
}

/// ψ₁ and ψ₂.
#[derive(Module, Debug)]
struct Successor<B: Backend> {
    acted: Trunk<B>,
    asked: Trunk<B>,
    heads: Vec<Head<B>>,
}

impl<B: Backend> Successor<B> {
    fn new(
        config: &HilpZeroShotConfig,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let (seen, actions) = (inputs.observation_dim(), inputs.action_dim());
        let (dim, width, trunk) = (config.embedding_dim, config.width, config.trunk_width);
        Self {
            acted: Trunk::new([seen + actions, width, trunk], rng, device),
            asked: Trunk::new([seen + dim, width, trunk], rng, device),
            heads: (0..2)
                .map(|_| Head::new([2 * trunk, width, dim], rng, device))
                .collect(),
        }
    }

    /// `[rows, D]` of either head.
    fn forward(
        &self,
        observations: Tensor<B, 2>,
        latents: Tensor<B, 2>,
        actions: Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 2] {
        let acted = Tensor::cat(vec![observations.clone(), actions], 1);
        let asked = Tensor::cat(vec![observations, latents], 1);
        let both = Tensor::cat(
            vec![self.acted.forward(acted), self.asked.forward(asked)],
            1,
        );
        [0, 1].map(|head| self.heads[head].forward(both.clone()))
    }
}

/// π.
#[derive(Module, Debug)]
struct Actor<B: Backend> {
    seen: Trunk<B>,
    asked: Trunk<B>,
    head: Head<B>,
}

impl<B: Backend> Actor<B> {
    fn new(
        config: &HilpZeroShotConfig,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let (seen, actions) = (inputs.observation_dim(), inputs.action_dim());
        let (width, trunk) = (config.width, config.trunk_width);
        Self {
            seen: Trunk::new([seen, width, trunk], rng, device),
            asked: Trunk::new([seen + config.embedding_dim, width, trunk], rng, device),
            head: Head::new([2 * trunk, width, actions], rng, device),
        }
    }

    fn forward(&self, observations: Tensor<B, 2>, latents: Tensor<B, 2>) -> Tensor<B, 2> {
        let asked = Tensor::cat(vec![observations.clone(), latents], 1);
        let both = Tensor::cat(
            vec![self.seen.forward(observations), self.asked.forward(asked)],
            1,
        );
        self.head.forward(both).tanh()
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
    /// (s, g).
    goal_now: Tensor<B, 2>,
    /// (s', g).
    goal_next: Tensor<B, 2>,
    now: Tensor<B, 2>,
    next: Tensor<B, 2>,
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

/// V_k of observation and goal side by side.
fn distances<B: Backend>(embeddings: &[Embedding<B>], pairs: &Tensor<B, 2>) -> Vec<Tensor<B, 2>> {
    let [observations, goals] = halves(pairs.clone());
    embeddings
        .iter()
        .map(|embedding| {
            let to = embedding.forward(goals.clone());
            negative_distance(embedding.forward(observations.clone()), to)
        })
        .collect()
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

    /// Latents of length √D for features `[rows, D]`.
    fn draw_latents(&self, features: &[f32], rng: &mut Rng) -> Vec<f32> {
        let dim = self.config.embedding_dim;
        let (rows, norm) = (features.len() / dim, (dim as f64).sqrt());
        let mut latents = draw_directions(rows, dim, rng);
        latents.iter_mut().for_each(|x| *x *= norm as f32);
        if self.config.mix > 0.0 {
            let moment = SecondMoment::of(features, dim);
            let mut order: Vec<usize> = (0..rows).collect();
            order.shuffle(rng);
            for (latent, row) in latents.chunks_exact_mut(dim).zip(order) {
                if rng.random::<f64>() < self.config.mix {
                    let feature: Vec<f64> = features[row * dim..(row + 1) * dim]
                        .iter()
                        .map(|x| f64::from(*x))
                        .collect();
                    latent.copy_from_slice(&with_norm(&moment.solve(&feature), norm));
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
            table(&[&batch.observations, &batch.value_goals]),
            table(&[&batch.next_observations, &batch.value_goals]),
            table(&[&batch.observations]),
            table(&[&batch.next_observations]),
            table(&[&batch.actions]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
            table(&[&next_noise]),
            table(&[&noise]),
        ];
        let [
            goal_now,
            goal_next,
            now,
            next,
            actions,
            rewards,
            masks,
            next_noise,
            noise,
        ] = upload::<B::InnerBackend, 9>(tables, device);
        let embedding = &self.embeddings.module()[0].valid();
        let (before, after) = (
            embedding.forward(now.clone()),
            embedding.forward(next.clone()),
        );
        let mean = tensor_values(before.clone().mean_dim(0));
        let features = match self.config.features {
            Features::Difference => after - before,
            Features::State => after - self.centre(device),
        };
        let latents = self.draw_latents(&tensor_values(features.clone()), rng);
        let latents = table(&[&latents]).upload(device);
        let tables = Tables {
            goal_now,
            goal_next,
            now,
            next,
            actions,
            rewards,
            masks,
            latents,
            next_noise,
            noise,
            features,
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
        let targets = ValueTargets {
            rewards: tables.rewards.clone(),
            masks: tables.masks.clone(),
            slow_now: distances(slow, &tables.goal_now),
            slow_next: distances(slow, &tables.goal_next),
        };
        let found = distances(embeddings, &lift(tables.goal_now.clone()));
        let config = &self.config;
        let loss = targets.loss(&found, config.embedding_discount, config.expectile, &lift);
        let constant = self.embeddings.module()[0].valid();
        let step = constant.forward(tables.next.clone()) - constant.forward(tables.now.clone());
        let step = lift((step.clone() * step).sum_dim(1).sqrt());
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
        let features =
            embedding.forward(places.upload::<B::InnerBackend>(device)) - self.centre(device);
        let dim = self.config.embedding_dim;
        let moment = SecondMoment::of(&tensor_values(features), dim);
        let mut weights = TensorMap::new();
        insert_module(&mut weights, EMBEDDING, &embedding);
        insert_module(&mut weights, ACTOR, self.actor.module());
        weights.insert_f32(CENTRE, &[dim], self.centre.clone());
        weights.insert_f32(INVERSE_MOMENT, &[dim, dim], moment.inverse());
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
mod tests {
    use burn::backend::Flex;
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::test_agents::{self, agent};

    fn small() -> HilpZeroShotConfig {
        let mut config = HilpZeroShotConfig {
            embedding_dim: 8,
            embedding_width: 48,
            width: 48,
            trunk_width: 32,
            embedding_discount: 0.9,
            discount: 0.9,
            imitation: 0.01,
            embedding_target_rate: 0.05,
            target_rate: 0.05,
            ..Default::default()
        };
        config.goals.discount = 0.9;
        config.optimizer.lr = 2e-3;
        config.embedding_optimizer.lr = 2e-3;
        config.prompt.places = 500;
        config
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let data = crate::synthetic_dataset(24, 6, 2, 5).unwrap();
        let task = TrainingTask {
            data: DataPart::all(std::sync::Arc::new(data)),
            ..test_agents::line(1)
        };
        let mut config = HilpZeroShotConfig::default();
        config.prompt.places = 2;
        let device = Default::default();
        let agent = HilpZeroShot::new_agent::<test_agents::A>(&config, &task, &device).unwrap();
        assert_eq!(agent.embeddings.module()[0].num_params(), 302_130);
        assert_eq!(agent.successor.module().num_params(), 3_363_940);
        assert_eq!(agent.actor.module().num_params(), 2_211_846);
    }

    #[test]
    fn targets_match_published_values() {
        let device = Default::default();
        let row = |values: [f32; 2]| Tensor::<Flex, 2>::from_floats([values], &device);
        let latents = row([1.0, 1.0]);
        let slow = [row([2.0, -1.0]), row([0.5, 0.25])];
        let target = successor_target(row([0.3, -0.1]), slow, &latents, 0.98);
        let found = tensor_values(target.clone());
        assert!((found[0] - 0.79).abs() < 1e-6 && (found[1] - 0.145).abs() < 1e-6);
        for (scalar, expected) in [(false, 0.407_625), (true, 0.193_45)] {
            let heads = [row([1.0, 0.0]), row([0.0, 0.5])];
            let loss = tensor_values(successor_loss(heads, &target, &latents, scalar))[0];
            assert!((loss - expected).abs() < 1e-6, "{loss}, not {expected}");
        }
        let acted = with_noise(row([0.9, -0.9]), row([0.3, 0.1]));
        let found = tensor_values(acted);
        assert!((found[0] - 0.999_999).abs() < 1e-6 && (found[1] + 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_line_is_learned() {
        test_agents::check_line::<HilpZeroShot>(&small(), 2000);
        let config = HilpZeroShotConfig {
            features: Features::Difference,
            scalar_loss: true,
            ..small()
        };
        test_agents::check_line::<HilpZeroShot>(&config, 2000);
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<HilpZeroShot>(&small());
    }

    #[test]
    fn a_reward_is_enough_of_a_prompt() {
        let config = small();
        let mut agent = agent::<HilpZeroShot>(&config);
        for k in 0..3000 {
            let batch = test_agents::batch(&agent, k);
            agent.update(&batch, &mut Seed::new(k).rng());
        }
        let device = Default::default();
        let mut policy = HilpZeroShot::load::<Flex>(&config, &agent.model(), &device).unwrap();
        let observations = Array2::from_shape_fn((101, 1), |(row, _)| row as f32 / 100.0);
        let starts = ndarray::array![[0.3_f32], [0.5], [0.7]];
        for (peak, sign) in [(1.0, 1.0), (0.0, -1.0)] {
            let rewards = Array1::from_shape_fn(101, |row| {
                f32::from((observations[[row, 0]] - peak).abs() < 0.2)
            });
            policy
                .prompt_reward(observations.view(), rewards.view())
                .unwrap();
            policy.reset(3);
            let mut actions = Array2::zeros((3, 1));
            let mut rngs = vec![Seed::new(1).rng(); 3];
            let goals = Array2::zeros((3, 1));
            policy
                .act(starts.view(), goals.view(), &mut rngs, &mut actions)
                .unwrap();
            assert!(actions.iter().all(|a| sign * a > 0.2), "{peak}: {actions}");
        }
        assert_eq!(policy.settings()["prompt"]["kind"].as_str(), Some("reward"));
        let flat = Array1::zeros(101);
        let error = policy
            .prompt_reward(observations.view(), flat.view())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "every labelled observation has the reward 0; expected rewards that differ"
        );
        let set = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
        policy.configure(&set("[prompt]\nkind = 'goal'")).unwrap();
        let error = policy
            .configure(&set("[prompt]\nkind = 'reward'"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no labelled observations"), "{error}");
    }
}
