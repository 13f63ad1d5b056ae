//! QRL: quasimetric reinforcement learning (Wang et al. 2023), as in OGBench (Park et al. 2025).
//!
//! An embedding φ and an interval quasimetric d (Wang and Isola 2022) become the number of steps between states: distances of
//! random pairs are pushed apart while single steps stay at most 1 long. With d of groups of intervals [x_j, y_j], the length u
//! of the union in each, and a learned mixture β:
//!
//! ```text
//! d(s, g) = β mean u + (1 − β) max u
//! L_far = mean 100 softplus(5 − d(s, g) / 100) , g any state
//! L_near = mean relu(d(s, s') − 1)²
//! L_φ = L_far + λ L_near,  L_λ = λ (0.05 − L_near) with a learned λ; each takes the other's factor as a constant
//! L_f = mean (d(φ(s'), ẑ) + d(ẑ, φ(s'))) / 2,  ẑ = φ(s) + f(φ(s), a)
//! L_π = −mean q / (mean |q| + 1e−6) − α mean log π(a | s, g_a),  q = −d(φ(s) + f(φ(s), clip μ(s, g_a)), φ(g_a))
//! ```
//!
//! φ, f and d are constants in L_π.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

use crate::config_table::to_table;
use crate::gaussian::{ACTOR, GaussianConfig, GaussianInference, GaussianPolicy, Head, halves};
use crate::inputs::{InputConfig, Inputs, check_single_steps};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::{ActorLoss, Losses, check_alpha, softplus};
use crate::module_state::{insert_module, load_module};
use crate::nn::fused::interval_union;
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::search::{PROMPT, Search, SearchConfig, Steps, insert_places};
use crate::tables::{Table, upload};
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// QRL in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Qrl>(
    "qrl",
    "QRL",
    "a quasimetric that is as long as steps allow; the actor shortens it close to the data",
    "Wang et al. 2023, arXiv:2304.01203; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// Intervals in one union.
const GROUP: usize = 8;
/// Distance at which the push apart fades, and the softness of that.
const FAR: f64 = 5.0;
const FAR_SCALE: f64 = 100.0;
/// Mean squared excess over 1 that single steps may have.
const SLACK: f64 = 0.05;

/// Settings of QRL. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QrlConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals; γ is not used.
    pub goals: HindsightConfig,
    /// The networks of φ and f: three layers of 512 with layer norm.
    pub embedding: MlpConfig,
    /// Entries of φ, a multiple of 8.
    pub embedding_dim: usize,
    /// The Gaussian.
    pub actor: GaussianConfig,
    /// α. Published: mazes 0.0003 (`point-maze`), cubes 0.3 (play) and 0.03 (noisy). Lower is greedier.
    pub alpha: f64,
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Where the policy is sent, a setting of inference.
    pub prompt: SearchConfig,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for QrlConfig {
    fn default() -> Self {
        // Park et al. 2025, reference release.
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig {
                value: GoalMix {
                    current: 0.0,
                    trajectory: 0.0,
                    random: 1.0,
                    geometric: true,
                    stitched: 0.0,
                },
                ..HindsightConfig::default()
            },
            embedding: MlpConfig {
                layer_norm: true,
                ..MlpConfig::default()
            },
            embedding_dim: 512,
            actor: GaussianConfig::default(),
            alpha: 0.003,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            prompt: SearchConfig::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for QrlConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("embedding", &self.embedding),
            ("actor", &self.actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            (PROMPT, &self.prompt),
            ("inference", &self.inference),
        ]);
        check_single_steps(problems, &self.goals);
        let dim = self.embedding_dim;
        let holds = dim >= GROUP && dim.is_multiple_of(GROUP);
        problems.check(holds, "embedding_dim", dim, "a multiple of 8");
        check_alpha(problems, "alpha", self.alpha);
    }

    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        Some((&self.goals, &["negative_rewards"]))
    }
}

/// The algorithm, with its configuration fitted to data.
pub struct Qrl {
    config: QrlConfig,
    inputs: Inputs,
    /// States of the data that searches go through, as the networks see them, row-major.
    places: Vec<f32>,
}

impl Algorithm for Qrl {
    type Config = QrlConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &QrlConfig,
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
            target_rate: 1.0,
        };
        Ok(JointAgent::new(objective, training, task, device))
    }

    fn load<B: Backend>(
        config: &QrlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let metric = Metric::<B>::new(config, &inputs, &mut Seed::new(0).rng(), device);
        let metric = load_module(&model.weights, METRIC, metric)?;
        let search = Search::of_model(config.prompt, Box::new(metric.clone()), model, device)?;
        let value: Head<B> = Box::new(move |pairs| {
            let [observations, goals] = halves(pairs);
            let distance = metric.distance(metric.embed(observations), metric.embed(goals));
            distance.neg()
        });
        let mean = config.actor.load_mean::<B>(model, device)?;
        let policy = GaussianPolicy::searching(&config.actor, model, mean, value, search, device)?;
        Ok(Box::new(policy))
    }
}

/// φ and d.
#[derive(Module, Debug)]
pub struct Metric<B: Backend> {
    embedding: Mlp<B>,
    /// β before the sigmoid, `[1]`.
    mixture: Param<Tensor<B, 1>>,
}

impl<B: Backend> Metric<B> {
    fn new(config: &QrlConfig, inputs: &Inputs, rng: &mut Rng, device: &B::Device) -> Self {
        let (seen, dim) = (inputs.observation_dim(), config.embedding_dim);
        Self {
            embedding: Mlp::new(&config.embedding, seen, dim, 1.0, rng, device),
            mixture: Param::from_tensor(Tensor::zeros([1], device)),
        }
    }

    fn embed(&self, observations: Tensor<B, 2>) -> Tensor<B, 2> {
        self.embedding.forward(observations)
    }

    /// d of embeddings, `[rows, 1]`.
    fn distance(&self, from: Tensor<B, 2>, to: Tensor<B, 2>) -> Tensor<B, 2> {
        quasimetric(from, to, GROUP, sigmoid(self.mixture.val()))
    }
}

impl<B: Backend> Steps<B> for Metric<B> {
    fn embed(&self, seen: Tensor<B, 2>) -> Tensor<B, 2> {
        Self::embed(self, seen)
    }

    fn steps(&self, from: Tensor<B, 2>, to: Tensor<B, 2>) -> Tensor<B, 2> {
        self.distance(from, to)
    }
}

/// `β mean u + (1 − β) max u` over the groups, `[rows, 1]`; β is `[1]`.
fn quasimetric<B: Backend>(
    from: Tensor<B, 2>,
    to: Tensor<B, 2>,
    group: usize,
    mixture: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let lengths = interval_union(from, to, group);
    let mixture = mixture.unsqueeze::<2>();
    let rest = mixture.clone().neg() + 1.0;
    lengths.clone().mean_dim(1) * mixture + lengths.max_dim(1) * rest
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    metric: Metric<B>,
    /// f: embedding and action side by side → difference of embeddings.
    dynamics: Mlp<B>,
    /// ln λ, `[1]`.
    log_lambda: Param<Tensor<B, 1>>,
    actor: Mlp<B>,
}

const METRIC: &str = "metric";

impl<B: Backend> Networks<B> {
    /// φ(s) + f(φ(s), a).
    fn after(&self, embedded: Tensor<B, 2>, actions: Tensor<B, 2>) -> Tensor<B, 2> {
        let input = Tensor::cat(vec![embedded.clone(), actions], 1);
        embedded + self.dynamics.forward(input)
    }
}

/// `mean 100 softplus(5 − d / 100)`.
fn far_loss<B: Backend>(distances: Tensor<B, 2>) -> Tensor<B, 1> {
    let x = distances / -FAR_SCALE + FAR;
    softplus(x).mean() * FAR_SCALE
}

/// `mean relu(d − 1)²`.
fn near_loss<B: Backend>(distances: Tensor<B, 2>) -> Tensor<B, 1> {
    let excess = relu(distances - 1.0);
    (excess.clone() * excess).mean()
}

/// L_φ and L_λ of L_far, L_near and λ.
fn metric_losses<B: Backend>(
    far: Tensor<B, 1>,
    near: Tensor<B, 1>,
    lambda: Tensor<B, 1>,
) -> [Tensor<B, 1>; 2] {
    let slack = near.clone().detach().neg() + SLACK;
    [far + near * lambda.clone().detach(), lambda * slack]
}

impl Objective for Qrl {
    type Batch = TransitionBatch;
    type Networks<B: Backend> = Networks<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Networks<B> {
        let (dim, actions) = (self.config.embedding_dim, self.inputs.action_dim());
        Networks {
            metric: Metric::new(&self.config, &self.inputs, rng, device),
            dynamics: Mlp::new(&self.config.embedding, dim + actions, dim, 1.0, rng, device),
            log_lambda: Param::from_tensor(Tensor::zeros([1], device)),
            actor: self.config.actor.network(&self.inputs, rng, device),
        }
    }

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    /// Numbers: `value/far`, `value/near`, `value/lambda`; `value/d_random` and `value/d_step`, mean distances of random pairs and of
    /// single steps; `dynamics/loss`; `actor/loss`; `actor/q_loss`; `actor/mse`, the mean squared error of the mean per action
    /// entry.
    fn losses<I: Backend, C: Backend<Device = I::Device>>(
        &self,
        batch: &TransitionBatch,
        _rng: &mut Rng,
        networks: &Networks<C>,
        given: &Given<'_, I, Networks<I>>,
        _lift: impl Fn(Tensor<I, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let config = &self.config;
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let tables = [
            table(&[&batch.observations]),
            table(&[&batch.next_observations]),
            table(&[&batch.value_goals]),
            table(&[&batch.actor_goals]),
            table(&[&batch.observations, &batch.actor_goals]),
            table(&[&batch.actions]),
        ];
        let [now, next, goals, actor_goals, actor, actions] = upload::<C, 6>(tables, given.device);

        let metric = &networks.metric;
        let (embedded, embedded_next) = (metric.embed(now), metric.embed(next));
        let random = metric.distance(embedded.clone(), metric.embed(goals));
        let step = metric.distance(embedded.clone(), embedded_next.clone());
        let (far, near) = (far_loss(random.clone()), near_loss(step.clone()));
        let lambda = networks.log_lambda.val().exp();
        let [metric_loss, lambda_loss] = metric_losses(far.clone(), near.clone(), lambda.clone());

        let predicted = networks.after(embedded.clone(), actions.clone());
        let there = metric.distance(embedded_next.clone(), predicted.clone());
        let back = metric.distance(predicted, embedded_next);
        let dynamics_loss = ((there + back) / 2.0).mean();

        let means = networks.actor.forward(actor);
        let constant = networks.clone().no_grad();
        let values = |means| {
            let reached = constant.after(embedded.detach(), means);
            let goals = constant.metric.embed(actor_goals);
            constant.metric.distance(reached, goals).neg()
        };
        let actor = ActorLoss::climbing(&config.actor, means, actions, config.alpha, values);
        Losses {
            numbers: Numbers::new()
                .with("value/loss", metric_loss.clone())
                .with("value/far", far)
                .with("value/near", near)
                .with("value/lambda", lambda)
                .with("value/lambda_loss", lambda_loss.clone())
                .with("value/d_random", random.mean())
                .with("value/d_step", step.mean())
                .with("dynamics/loss", dynamics_loss.clone())
                .with("actor/loss", actor.loss.clone())
                .with("actor/q_loss", actor.guide)
                .with("actor/mse", actor.mse),
            total: metric_loss + lambda_loss + dynamics_loss + actor.loss,
        }
    }

    fn model<B: Backend>(&self, networks: &Networks<B>) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &networks.actor);
        insert_module(&mut weights, METRIC, &networks.metric);
        insert_places(&mut weights, &self.inputs, &self.places);
        let mut settings = self.config.inference.settings();
        settings.insert(PROMPT.into(), to_table(&self.config.prompt).into());
        self.inputs.model(None, settings, weights)
    }
}

#[cfg(test)]
mod tests;
