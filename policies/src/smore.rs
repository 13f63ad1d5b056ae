//! SMORe: score models for offline goal-conditioned reinforcement learning (Sikchi et al. 2024).
//!
//! Two scores S_i(s, a, g) are high where a transition enters the goal, and consistent along the data; M(s, g) is their maximum in
//! the data. A batch has two halves of the same size: h, transitions with goals in hindsight, and e, transitions that enter
//! theirs. With S̄ = min of the slow copies, E(w; x) = (τ if w > 0 else 1 − τ) x² and T from M(s', g) without gradient:
//!
//! ```text
//! L_M = mean_h E(S̄ − M; S̄ − M)
//! awr:     L_π = −mean_h min(exp(α (S̄ − M)), 100) log π(a | s, g), the weight without gradient
//! ddpg_bc: L_π = −mean_h q / (mean_h |q| + 1e−6) − α mean_h log π(a | s, g),  q = min(S₁, S₂)(s, μ(s, g), g)
//! stable: L_S = mean_e (S − 2 / (1 − γ))² + 1e−4 (1 − γ) mean_h S² + ½ mean_h (S − T)²,  T = −2 + γ M(s', g)
//! plain:  L_S = −mean_e S + 1e−4 mean_h S + ½ mean_h (S − T)²,  T = γ M(s', g)
//! S̄ ← ρ S + (1 − ρ) S̄ with the S after the step
//! ```
//!
//! M takes its step first, then π with the new M, then S with the new M. The Gaussian π has a mean in −1..1 and a learned
//! standard deviation, which is 1 for `ddpg_bc`.
//!
//! `ddpg_bc` is not of the paper: it is the extraction that GCIQL and CRL use in OGBench (Park et al. 2025), on SMORe's scores.
//!
//! The reference release bootstraps where s' is the goal from M(g, g), which its data may not have; a goal one step ahead then
//! scores less than one two steps ahead. With `absorbing_goal`, the default here, T is 2 / (1 − γ) there for
//! `stable`, the score of the goal itself, and 0 for `plain`, since nothing is to come.
//!
//! With `goals.n_step` = n, s' is the state k ≤ n steps on, T = −2 (1 − γᵏ) / (1 − γ) + γᵏ M(s', g) for `stable` and γᵏ M(s', g) for `plain`;
//! with `absorbing_goal` the steps end where the goal is entered. That is not of the paper.

use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig, HindsightSampler, TransitionBatch};
use telic_seed::{Rng, Seed};

use crate::ema::SlowCopy;
use crate::gaussian::{
    ACTOR, GaussianConfig, GaussianInference, GaussianPolicy, Head, LearnedDeviation,
};
use crate::inputs::{InputConfig, Inputs};
use crate::losses::{
    ActorLoss, Extraction, advantage_weight, check_alpha, check_rates, each, least_of, mean_of,
};
use crate::module_state::{insert_module, load_module};
use crate::nn::{Activation, AdamConfig, LrSchedule, LrScheduleKind, Mlp, MlpConfig, tanh};
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, Metrics, Model, Numbers, Policy, PolicyConfig,
    PolicyError, PolicySpec, Problems, TensorMap, TrainingTask,
};

/// SMORe in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Smore>(
    "smore",
    "SMORe",
    "scores of transitions, matched to those that enter goals; the actor imitates what scores high",
    "Sikchi et al. 2024, arXiv:2311.02013",
);

/// Loss of the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreLoss {
    /// Regression to the largest score there can be where a goal is entered.
    #[default]
    Stable,
    /// A push upwards there.
    Plain,
}

/// Settings of SMORe. The defaults are those of the commands of its reference release, but for `absorbing_goal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoreConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals of both halves as `goals.value`, and γ.
    pub goals: HindsightConfig,
    /// The network of each S: three layers of 256, ReLU.
    pub score: MlpConfig,
    /// The network of M: three layers of 256, ReLU, with layer norm.
    pub value: MlpConfig,
    /// The network of the mean action: three layers of 256, ReLU.
    pub actor: MlpConfig,
    /// Loss of S.
    pub loss: ScoreLoss,
    /// Whether nothing is bootstrapped where the goal is entered.
    pub absorbing_goal: bool,
    /// τ.
    pub expectile: f64,
    /// ρ, share of the new weights in the slow scores per update.
    pub target_rate: f64,
    /// Loss of the actor; `awr` is the paper's.
    pub extraction: Extraction,
    /// α. Higher is greedier with `awr`, lower with `ddpg_bc`.
    pub alpha: f64,
    /// Adam of each network.
    pub optimizer: AdamConfig,
    /// Learning rate of the actor over the run; that of S and M is constant.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for SmoreConfig {
    fn default() -> Self {
        let network = MlpConfig {
            hidden: vec![256; 3],
            activation: Activation::Relu,
            layer_norm: false,
        };
        let goals = GoalMix {
            current: 0.0,
            trajectory: 0.8,
            random: 0.2,
            geometric: false,
            stitched: 0.0,
        };
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig {
                value: goals,
                ..HindsightConfig::default()
            },
            value: MlpConfig {
                layer_norm: true,
                ..network.clone()
            },
            score: network.clone(),
            actor: network,
            loss: ScoreLoss::Stable,
            absorbing_goal: true,
            expectile: 0.8,
            target_rate: 0.005,
            extraction: Extraction::Awr,
            alpha: 3.0,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule {
                kind: LrScheduleKind::Cosine,
                ..LrSchedule::default()
            },
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for SmoreConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("score", &self.score),
            ("value", &self.value),
            ("actor", &self.actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("inference", &self.inference),
        ]);
        check_rates(problems, self.expectile, self.target_rate);
        check_alpha(problems, "alpha", self.alpha);
    }

    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        Some((&self.goals, &["actor", "negative_rewards"]))
    }
}

/// Ties configuration, agent and policy together.
pub struct Smore;

impl Algorithm for Smore {
    type Config = SmoreConfig;
    type Agent<B: AutodiffBackend> = SmoreAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &SmoreConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<SmoreAgent<B>, PolicyError> {
        let inputs = Inputs::fit(&config.inputs, task)?;
        let mut rng = task.seed.child("init").rng();
        let (seen, actions) = (inputs.observation_dim(), inputs.action_dim());
        let scores: Vec<Mlp<B>> = (0..2)
            .map(|_| Mlp::new(&config.score, 2 * seen + actions, 1, 1.0, &mut rng, device))
            .collect();
        let value = value(config, &inputs, &mut rng, device);
        let actor = Actor::new(config, &inputs, &mut rng, device);
        let (optimizer, steps) = (config.optimizer, task.steps);
        let constant = LrSchedule::default();
        Ok(SmoreAgent {
            slow_scores: SlowCopy::new(scores.valid()),
            scores: Trained::new(scores, optimizer, constant, steps, device),
            value: Trained::new(value, optimizer, constant, steps, device),
            actor: Trained::new(actor, optimizer, config.lr_schedule, steps, device),
            inputs,
            config: config.clone(),
        })
    }

    fn load<B: Backend>(
        config: &SmoreConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let mut rng = Seed::new(0).rng();
        let fresh = value::<B>(config, &inputs, &mut rng, device);
        let value = load_module(&model.weights, VALUE, fresh)?;
        let fresh = Actor::<B>::new(config, &inputs, &mut rng, device);
        let actor = load_module(&model.weights, ACTOR, fresh)?;
        let (gaussian, deviations) = (GaussianConfig::default(), actor.deviation.values());
        let value: Head<B> = Box::new(move |pairs| value.forward(pairs));
        let mean: Head<B> = Box::new(move |pairs| actor.mean(pairs));
        let policy = GaussianPolicy::new(&gaussian, model, mean, Some(value), device)?;
        Ok(Box::new(policy.with_deviations(deviations)))
    }
}

/// M: observation and goal side by side → one number.
fn value<B: Backend>(
    config: &SmoreConfig,
    inputs: &Inputs,
    rng: &mut Rng,
    device: &B::Device,
) -> Mlp<B> {
    Mlp::new(
        &config.value,
        2 * inputs.observation_dim(),
        1,
        1.0,
        rng,
        device,
    )
}

/// π.
#[derive(Module, Debug)]
struct Actor<B: Backend> {
    head: Mlp<B>,
    deviation: LearnedDeviation<B>,
}

impl<B: Backend> Actor<B> {
    fn new(config: &SmoreConfig, inputs: &Inputs, rng: &mut Rng, device: &B::Device) -> Self {
        let (seen, actions) = (inputs.observation_dim(), inputs.action_dim());
        Self {
            head: Mlp::new(&config.actor, 2 * seen, actions, 1.0, rng, device),
            deviation: LearnedDeviation::new(actions, device),
        }
    }

    fn mean(&self, pairs: Tensor<B, 2>) -> Tensor<B, 2> {
        tanh(self.head.forward(pairs))
    }
}

const VALUE: &str = "value";
const SCORES: &str = "scores";
const SLOW_SCORES: &str = "slow_scores";

/// Both halves of a batch.
pub struct SmoreBatch {
    /// Transitions with goals in hindsight.
    hindsight: TransitionBatch,
    /// Transitions that enter their goals.
    entering: TransitionBatch,
}

/// Draws both halves.
struct SmoreSampler {
    sampler: HindsightSampler,
    batch_size: usize,
}

impl BatchSampler<SmoreBatch> for SmoreSampler {
    fn new_batch(&self) -> SmoreBatch {
        SmoreBatch {
            hindsight: TransitionBatch::with_size(self.batch_size),
            entering: TransitionBatch::with_size(self.batch_size),
        }
    }

    fn sample(&mut self, rng: &mut Rng, batch: &mut SmoreBatch) {
        self.sampler.sample(rng, &mut batch.hindsight);
        // Only goals in hindsight may be stitched: these rows have to be true entries.
        let mix = GoalMix {
            stitched: 0.0,
            ..self.sampler.config().value
        };
        let entering = &mut batch.entering;
        entering.rows.clear();
        entering.value_goal_rows.clear();
        for _ in 0..self.batch_size {
            let row = self.sampler.draw_row(rng);
            let goal = self.sampler.draw_goal(row, &mix, rng);
            // The first row of an episode is entered by nothing: its own transition enters the row after it.
            let episodes = self.sampler.dataset().episodes();
            let first = episodes.start(episodes.of(goal));
            let goal = goal.max(first + 1);
            entering.value_goal_rows.push(goal);
            entering.rows.push(goal - 1);
        }
        entering
            .actor_goal_rows
            .clone_from(&entering.value_goal_rows);
        self.sampler.gather(entering);
    }
}

/// A batch as tensors; pairs are observation and goal side by side.
struct Tables<B: Backend> {
    /// (s, g) of h.
    now: Tensor<B, 2>,
    /// (s', g) of h, s' one step on or several.
    next: Tensor<B, 2>,
    /// (s, g, a) of h.
    acted: Tensor<B, 2>,
    /// (s, g, a) of e.
    entering: Tensor<B, 2>,
    /// a of h.
    actions: Tensor<B, 2>,
    /// [What stands for the steps](ScoreLoss::ahead) of h up to s', `[rows, 1]` each.
    paid: Tensor<B, 2>,
    share: Tensor<B, 2>,
}

impl<B: Backend> Tables<B> {
    fn new(batch: &SmoreBatch, config: &SmoreConfig, device: &B::Device) -> Self {
        let h = &batch.hindsight;
        let e = &batch.entering;
        let table = |tables: &[&[f32]]| Table::side_by_side(h.size, tables);
        let (mut paid, mut shares) = (Vec::new(), Vec::new());
        for (i, (&row, &goal)) in h.rows.iter().zip(&h.value_goal_rows).enumerate() {
            let steps = h.steps(i);
            let enters = config.absorbing_goal && (row + 1..=row + steps).contains(&goal);
            let entered = enters.then(|| goal - row);
            let [added, share] = config.loss.ahead(config.goals.discount, steps, entered);
            paid.push(added as f32);
            shares.push(share as f32);
        }
        let tables = [
            table(&[&h.observations, &h.value_goals]),
            table(&[h.bootstrap_observations(), &h.value_goals]),
            table(&[&h.observations, &h.value_goals, &h.actions]),
            table(&[&e.observations, &e.value_goals, &e.actions]),
            table(&[&h.actions]),
            table(&[&paid]),
            table(&[&shares]),
        ];
        let [now, next, acted, entering, actions, paid, share] = upload(tables, device);
        Self {
            now,
            next,
            acted,
            entering,
            actions,
            paid,
            share,
        }
    }
}

/// `mean E(d; d)`, with τ where d > 0.
fn maximum_loss<B: Backend>(difference: Tensor<B, 2>, expectile: f64) -> Tensor<B, 1> {
    let above = difference.clone().detach().greater_elem(0.0).float();
    let weight = above * (2.0 * expectile - 1.0) + (1.0 - expectile);
    (weight * difference.clone() * difference).mean()
}

impl ScoreLoss {
    /// What the steps pay, and the share of M, of T = paid + share · M(s', g), where s' is `steps` steps on; `entered` is the
    /// number of steps to a goal at which nothing is bootstrapped, at least 1.
    fn ahead(self, discount: f64, steps: usize, entered: Option<usize>) -> [f64; 2] {
        let (step, top) = match self {
            Self::Stable => (-2.0, 2.0 / (1.0 - discount)),
            Self::Plain => (0.0, 0.0),
        };
        let power = |steps: usize| libm::pow(discount, steps as f64);
        let paid = |steps| step * (1.0 - power(steps)) / (1.0 - discount);
        match entered {
            None => [paid(steps), power(steps)],
            Some(entered) => [paid(entered - 1) + power(entered - 1) * top, 0.0],
        }
    }
}

/// The parts of the loss of one S: at goals, against growth, along the data.
fn score_loss<B: Backend>(
    loss: ScoreLoss,
    discount: f64,
    entering: Tensor<B, 2>,
    hindsight: Tensor<B, 2>,
    target: Tensor<B, 2>,
) -> [Tensor<B, 1>; 3] {
    let error = hindsight.clone() - target;
    let along = (error.clone() * error).mean() * 0.5;
    match loss {
        ScoreLoss::Stable => {
            let short = entering - 2.0 / (1.0 - discount);
            let growth = (hindsight.clone() * hindsight).mean() * (1e-4 * (1.0 - discount));
            [(short.clone() * short).mean(), growth, along]
        }
        ScoreLoss::Plain => [entering.mean().neg(), hindsight.mean() * 1e-4, along],
    }
}

/// Trains the networks, each with an optimiser of its own.
///
/// Metrics of an update and of an evaluation: `value/loss`, `value/m_mean`; `actor/loss`; `actor/mse`, the mean squared error of
/// the mean per action entry; `actor/advantage` and `actor/weight`, the mean weight, at most 100 (`awr`), or `actor/q_loss`
/// (`ddpg_bc`); `score/goal` and `score/along`, the parts of L_S at goals and along the data; `score/s_mean` and `score/s_goal`,
/// mean scores of both halves. Of an update also `optimizer/gradient_norm` and `optimizer/lr` of the scores.
pub struct SmoreAgent<B: AutodiffBackend> {
    config: SmoreConfig,
    inputs: Inputs,
    scores: Trained<B, Vec<Mlp<B>>>,
    value: Trained<B, Mlp<B>>,
    actor: Trained<B, Actor<B>>,
    /// S̄.
    slow_scores: SlowCopy<Vec<Mlp<B::InnerBackend>>>,
}

impl<B: AutodiffBackend> SmoreAgent<B> {
    fn value_loss<C: Backend>(
        &self,
        value: &Mlp<C>,
        slow: Tensor<C, 2>,
        now: Tensor<C, 2>,
        numbers: &mut Numbers<C>,
    ) -> Tensor<C, 1> {
        let m = value.forward(now);
        let loss = maximum_loss(slow - m.clone(), self.config.expectile);
        numbers.insert("value/loss", loss.clone());
        numbers.insert("value/m_mean", m.mean());
        loss
    }

    /// `advantage` makes S̄ − M at h, `[rows, 1]`, and `scores` S₁ and S₂ as constants; only what the extraction needs is made.
    fn actor_loss<C: Backend>(
        &self,
        actor: &Actor<C>,
        advantage: impl FnOnce() -> Tensor<C, 2>,
        scores: impl FnOnce() -> Vec<Mlp<C>>,
        now: Tensor<C, 2>,
        actions: Tensor<C, 2>,
        numbers: &mut Numbers<C>,
    ) -> Tensor<C, 1> {
        let means = actor.mean(now.clone());
        let (loss, mse) = match self.config.extraction {
            Extraction::Awr => {
                let advantage = advantage();
                numbers.insert("actor/advantage", advantage.clone().mean());
                let weight = advantage_weight(advantage, self.config.alpha);
                numbers.insert("actor/weight", weight.clone().mean());
                let error = means - actions;
                let mse = (error.clone() * error.clone()).mean();
                let loss = (weight * actor.deviation.negative_log_prob(error)).mean();
                (loss, mse)
            }
            Extraction::DdpgBc => {
                let values = |means| {
                    let acted = Tensor::cat(vec![now, means], 1);
                    least_of(&each(&scores(), &acted))
                };
                let unit = GaussianConfig::default();
                let actor = ActorLoss::climbing(&unit, means, actions, self.config.alpha, values);
                numbers.insert("actor/q_loss", actor.guide);
                (actor.loss, actor.mse)
            }
        };
        numbers.insert("actor/loss", loss.clone());
        numbers.insert("actor/mse", mse);
        loss
    }

    fn scores_loss<C: Backend>(
        &self,
        scores: &[Mlp<C>],
        entering: &Tensor<C, 2>,
        acted: &Tensor<C, 2>,
        target: &Tensor<C, 2>,
        numbers: &mut Numbers<C>,
    ) -> Tensor<C, 1> {
        let (at_goals, along) = (each(scores, entering), each(scores, acted));
        let discount = self.config.goals.discount;
        let parts: Vec<[Tensor<C, 1>; 3]> = at_goals
            .iter()
            .zip(&along)
            .map(|(e, h)| {
                score_loss(
                    self.config.loss,
                    discount,
                    e.clone(),
                    h.clone(),
                    target.clone(),
                )
            })
            .collect();
        let sum = |part: usize| {
            let losses = parts.iter().map(|parts| parts[part].clone());
            losses.reduce(|a, b| a + b).expect("there are two scores")
        };
        numbers.insert("score/goal", sum(0));
        numbers.insert("score/along", sum(2));
        numbers.insert("score/s_mean", mean_of(&along).mean());
        numbers.insert("score/s_goal", mean_of(&at_goals).mean());
        sum(0) + sum(1) + sum(2)
    }

    /// T of a batch, with M as it is.
    fn target(&self, tables: &Tables<B::InnerBackend>) -> Tensor<B::InnerBackend, 2> {
        let next = self.value.module().valid().forward(tables.next.clone());
        next * tables.share.clone() + tables.paid.clone()
    }
}

impl<B: AutodiffBackend> Agent for SmoreAgent<B> {
    type Batch = SmoreBatch;
    type Backend = B::InnerBackend;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<SmoreBatch>>, PolicyError> {
        Ok(Box::new(SmoreSampler {
            sampler: self.inputs.hindsight(self.config.goals, data)?,
            batch_size,
        }))
    }

    fn update(&mut self, batch: &SmoreBatch, _rng: &mut Rng) -> Numbers<B::InnerBackend> {
        let tables = Tables::<B::InnerBackend>::new(batch, &self.config, self.value.device());
        let slow = least_of(&each(self.slow_scores.get(), &tables.acted));
        let mut numbers = Numbers::new();
        // Learning rate and gradient norm that are reported are those of the scores.
        let mut unreported = Numbers::new();
        let lift = Tensor::<B, 2>::from_inner;

        let now = lift(tables.now.clone());
        let loss = self.value_loss(self.value.module(), lift(slow.clone()), now, &mut numbers);
        self.value.step(loss, &mut unreported);

        let advantage = || lift(slow - self.value.module().valid().forward(tables.now.clone()));
        let loss = self.actor_loss(
            self.actor.module(),
            advantage,
            || self.scores.module().clone().no_grad(),
            lift(tables.now.clone()),
            lift(tables.actions.clone()),
            &mut numbers,
        );
        self.actor.step(loss, &mut unreported);

        let target = lift(self.target(&tables));
        let (entering, acted) = (lift(tables.entering), lift(tables.acted));
        let scores = self.scores.module();
        let loss = self.scores_loss(scores, &entering, &acted, &target, &mut numbers);
        let mut numbers = numbers.inner();
        self.scores.step(loss, &mut numbers);
        self.slow_scores
            .follow(self.scores.module(), 1.0 - self.config.target_rate);
        numbers
    }

    fn evaluate(&mut self, batch: &SmoreBatch, _rng: &mut Rng) -> Metrics {
        let tables = Tables::<B::InnerBackend>::new(batch, &self.config, self.value.device());
        let slow = least_of(&each(self.slow_scores.get(), &tables.acted));
        let mut numbers = Numbers::new();
        let value = self.value.module().valid();
        self.value_loss(&value, slow.clone(), tables.now.clone(), &mut numbers);
        let advantage = || slow - value.forward(tables.now.clone());
        let actor = self.actor.module().valid();
        let (now, actions) = (tables.now.clone(), tables.actions.clone());
        let scores = self.scores.module().valid();
        self.actor_loss(
            &actor,
            advantage,
            || scores.clone(),
            now,
            actions,
            &mut numbers,
        );
        let target = self.target(&tables);
        self.scores_loss(
            &scores,
            &tables.entering,
            &tables.acted,
            &target,
            &mut numbers,
        );
        numbers.read()
    }

    fn model(&self) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, self.actor.module());
        insert_module(&mut weights, VALUE, self.value.module());
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }

    fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        state.insert_map(SCORES, self.scores.state());
        state.insert_map(VALUE, self.value.state());
        state.insert_map(ACTOR, self.actor.state());
        self.slow_scores.insert_into(&mut state, SLOW_SCORES);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let slow = self.slow_scores.loaded(state, SLOW_SCORES)?;
        self.scores.load_state(&state.sub_map(SCORES))?;
        self.value.load_state(&state.sub_map(VALUE))?;
        self.actor.load_state(&state.sub_map(ACTOR))?;
        self.slow_scores = slow;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
