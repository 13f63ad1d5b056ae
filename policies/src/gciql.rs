//! GCIQL: goal-conditioned implicit Q-learning (Kostrikov et al. 2022), as in OGBench (Park et al. 2025).
//!
//! With a value V, two critics Q₁ and Q₂ and their slow copies Q̄, a reward r and a mask m towards a goal g chosen in hindsight
//! (r = −1 and m = 1, or 0 and 0 where g is reached), and E(w; x) = (τ if w ≥ 0 else 1 − τ) x²:
//!
//! ```text
//! L_V = mean E(q̄ − V(s, g); q̄ − V(s, g)),  q̄ = min(Q̄₁, Q̄₂)(s, g, a)
//! L_Q = mean (Q₁ − y)² + (Q₂ − y)² at (s, g, a),  y = r + γ m V(s', g) without gradient
//! Q̄ ← ρ Q + (1 − ρ) Q̄ with the Q before the step
//! ```
//!
//! and one of two losses for the [Gaussian actor](crate::gaussian), with a goal g_a of its own:
//!
//! ```text
//! ddpg_bc: L_π = −mean q / (mean |q| + 1e−6) − α mean log π(a | s, g_a),  q = min(Q₁, Q₂)(s, g_a, clip μ(s, g_a))
//! awr:     L_π = −mean w log π(a | s, g_a),  w = min(exp(α (min(Q₁, Q₂)(s, g_a, a) − V(s, g_a))), 100)
//! ```
//!
//! The gradient of each loss reaches its own networks only: q depends on the action alone, and the scale of q is a constant.

use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

use crate::ema::SlowCopy;
use crate::gaussian::{ACTOR, GaussianConfig, GaussianInference, GaussianPolicy, Head};
use crate::inputs::{InputConfig, Inputs};
use crate::losses::{
    Losses, advantage_weight, check_alpha, check_rates, climbing_loss, each, expectile_loss,
    least_of,
};
use crate::module_state::{insert_module, load_module};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, Metrics, Model, Numbers, Policy, PolicyConfig,
    PolicyError, PolicySpec, Problems, TensorMap, TrainingTask,
};

/// GCIQL in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Gciql>(
    "gciql",
    "GCIQL",
    "implicit Q-learning of goal-reaching values; the actor climbs them close to the data",
    "Kostrikov et al. 2022, arXiv:2110.06169; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// How the actor learns from the critics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// Gradient of the critics through the action, with imitation as an anchor. A lower `alpha` is greedier.
    #[default]
    DdpgBc,
    /// Imitation weighted by the advantage. A higher `alpha` is greedier.
    Awr,
}

/// Settings of GCIQL. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GciqlConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals and γ.
    pub goals: HindsightConfig,
    /// The networks of V and of each Q: three layers of 512 with layer norm.
    pub value: MlpConfig,
    /// The Gaussian.
    pub actor: GaussianConfig,
    /// τ.
    pub expectile: f64,
    /// ρ, share of the new weights in the slow critics per update.
    pub target_rate: f64,
    /// Loss of the actor.
    pub extraction: Extraction,
    /// α. Published: mazes 0.003 (`point-maze`), cubes 1.0 (play) and 0.03 (noisy).
    pub alpha: f64,
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for GciqlConfig {
    fn default() -> Self {
        // Park et al. 2025, reference release.
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig::default(),
            value: MlpConfig {
                layer_norm: true,
                ..MlpConfig::default()
            },
            actor: GaussianConfig::default(),
            expectile: 0.9,
            target_rate: 0.005,
            extraction: Extraction::DdpgBc,
            alpha: 0.3,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for GciqlConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("value", &self.value),
            ("actor", &self.actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("inference", &self.inference),
        ]);
        check_rates(problems, self.expectile, self.target_rate);
        check_alpha(problems, "alpha", self.alpha);
    }
}

/// Ties configuration, agent and policy together.
pub struct Gciql;

impl Algorithm for Gciql {
    type Config = GciqlConfig;
    type Agent<B: AutodiffBackend> = GciqlAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &GciqlConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<GciqlAgent<B>, PolicyError> {
        let inputs = Inputs::fit(&config.inputs, task)?;
        let networks =
            Networks::<B>::new(config, &inputs, &mut task.seed.child("init").rng(), device);
        Ok(GciqlAgent {
            inputs,
            slow_critics: SlowCopy::new(networks.critics.valid()),
            trained: Trained::new(
                networks,
                config.optimizer,
                config.lr_schedule,
                task.steps,
                device,
            ),
            config: config.clone(),
        })
    }

    fn load<B: Backend>(
        config: &GciqlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let value = value_network::<B>(config, &inputs, 0, &mut Seed::new(0).rng(), device);
        let value = load_module(&model.weights, VALUE, value)?;
        let value: Head<B> = Box::new(move |pairs| value.forward(pairs));
        let mean = config.actor.load_mean::<B>(model, device)?;
        let policy = GaussianPolicy::new(&config.actor, model, mean, Some(value), device)?;
        Ok(Box::new(policy))
    }
}

/// A network of observation and goal and `more` entries → one number.
fn value_network<B: Backend>(
    config: &GciqlConfig,
    inputs: &Inputs,
    more: usize,
    rng: &mut Rng,
    device: &B::Device,
) -> Mlp<B> {
    let width = 2 * inputs.observation_dim() + more;
    Mlp::new(&config.value, width, 1, 1.0, rng, device)
}

/// Everything that learns.
#[derive(Module, Debug)]
struct Networks<B: Backend> {
    value: Mlp<B>,
    critics: Vec<Mlp<B>>,
    actor: Mlp<B>,
}

const VALUE: &str = "value";
const SLOW_CRITICS: &str = "slow_critics";

impl<B: Backend> Networks<B> {
    fn new(config: &GciqlConfig, inputs: &Inputs, rng: &mut Rng, device: &B::Device) -> Self {
        let action_dim = inputs.action_dim();
        Self {
            value: value_network(config, inputs, 0, rng, device),
            critics: (0..2)
                .map(|_| value_network(config, inputs, action_dim, rng, device))
                .collect(),
            actor: config.actor.network(inputs, rng, device),
        }
    }
}

/// The smaller of the critics, `[rows, 1]`.
fn least<B: Backend>(critics: &[Mlp<B>], input: &Tensor<B, 2>) -> Tensor<B, 2> {
    least_of(&each(critics, input))
}

/// A batch as tensors. Rows are observation and goal side by side.
struct Tables<B: Backend> {
    /// (s, g).
    at: Tensor<B, 2>,
    /// (s', g).
    next: Tensor<B, 2>,
    /// (s, g, a).
    acted: Tensor<B, 2>,
    /// (s, g_a).
    actor: Tensor<B, 2>,
    /// a.
    actions: Tensor<B, 2>,
    /// r, `[rows, 1]`.
    rewards: Tensor<B, 2>,
    /// m, `[rows, 1]`.
    masks: Tensor<B, 2>,
}

impl<B: Backend> Tables<B> {
    fn new(batch: &TransitionBatch, device: &B::Device) -> Self {
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let TransitionBatch {
            observations,
            actions,
            next_observations,
            value_goals,
            actor_goals,
            rewards,
            masks,
            ..
        } = batch;
        let tables = [
            table(&[observations, value_goals]),
            table(&[next_observations, value_goals]),
            table(&[observations, value_goals, actions]),
            table(&[observations, actor_goals]),
            table(&[actions]),
            table(&[rewards]),
            table(&[masks]),
        ];
        let [at, next, acted, actor, actions, rewards, masks] = upload(tables, device);
        Self {
            at,
            next,
            acted,
            actor,
            actions,
            rewards,
            masks,
        }
    }
}

/// Trains all networks with one optimiser.
///
/// Metrics of an update and of an evaluation: `value/loss`, `value/v_mean`; `critic/loss`, `critic/q_mean`; `actor/loss`;
/// `actor/mse`, the mean squared error of the mean per action entry; `actor/q_loss` (`ddpg_bc`) or `actor/advantage` (`awr`).
/// Of an update also `optimizer/gradient_norm` and `optimizer/lr`.
pub struct GciqlAgent<B: AutodiffBackend> {
    config: GciqlConfig,
    inputs: Inputs,
    trained: Trained<B, Networks<B>>,
    /// Q̄.
    slow_critics: SlowCopy<Vec<Mlp<B::InnerBackend>>>,
}

impl<B: AutodiffBackend> GciqlAgent<B> {
    /// The losses on backend `C`, which is `B` or its inner backend; `lift` makes constants of results of the latter.
    fn losses<C: Backend<Device = B::Device>>(
        &self,
        batch: &TransitionBatch,
        networks: &Networks<C>,
        lift: impl Fn(Tensor<B::InnerBackend, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let config = &self.config;
        let (actor, action_dim) = (&config.actor, self.inputs.action_dim());
        let device = self.trained.device();
        let tables = Tables::<B::InnerBackend>::new(batch, device);
        let constant = self.trained.module().valid();

        let slow_q = least(self.slow_critics.get(), &tables.acted);
        let v = networks.value.forward(lift(tables.at));
        let error = lift(slow_q) - v.clone();
        let value_loss = expectile_loss(error.clone(), error, config.expectile);

        let next_v = constant.value.forward(tables.next);
        let target = lift(tables.rewards + tables.masks * next_v * config.goals.discount);
        let acted = lift(tables.acted);
        let mut q_mean = None;
        let critic_loss = networks
            .critics
            .iter()
            .map(|critic| {
                let q = critic.forward(acted.clone());
                q_mean.get_or_insert_with(|| q.clone().mean());
                let error = q - target.clone();
                (error.clone() * error).mean()
            })
            .reduce(|a, b| a + b)
            .expect("there are two critics");

        let means = networks.actor.forward(lift(tables.actor.clone()));
        let error = means.clone() - lift(tables.actions.clone());
        let squares = error.clone() * error;
        let mse = squares.clone().mean();
        let (actor_loss, extraction) = match config.extraction {
            Extraction::DdpgBc => {
                let acted = Tensor::cat(vec![lift(tables.actor), means.clamp(-1.0, 1.0)], 1);
                let critics = networks.critics.clone().no_grad();
                let q_loss = climbing_loss(least(&critics, &acted));
                let imitation = actor.negative_log_probs(mse.clone(), action_dim) * config.alpha;
                (q_loss.clone() + imitation, ("actor/q_loss", q_loss))
            }
            Extraction::Awr => {
                let acted = Tensor::cat(vec![tables.actor.clone(), tables.actions], 1);
                let advantage =
                    least(&constant.critics, &acted) - constant.value.forward(tables.actor);
                let weight = lift(advantage_weight(advantage.clone(), config.alpha));
                let log_prob = actor.negative_log_probs(squares.mean_dim(1), action_dim);
                let advantage = lift(advantage).mean();
                ((weight * log_prob).mean(), ("actor/advantage", advantage))
            }
        };
        Losses {
            numbers: Numbers::new()
                .with("value/loss", value_loss.clone())
                .with("value/v_mean", v.mean())
                .with("critic/loss", critic_loss.clone())
                .with("critic/q_mean", q_mean.expect("there are two critics"))
                .with("actor/loss", actor_loss.clone())
                .with("actor/mse", mse)
                .with(extraction.0, extraction.1),
            total: value_loss + critic_loss + actor_loss,
        }
    }
}

impl<B: AutodiffBackend> Agent for GciqlAgent<B> {
    type Batch = TransitionBatch;
    type Backend = B::InnerBackend;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    fn update(&mut self, batch: &TransitionBatch, _rng: &mut Rng) -> Numbers<B::InnerBackend> {
        let losses = self.losses(batch, self.trained.module(), Tensor::from_inner);
        let mut numbers = losses.numbers.inner();
        let keep = 1.0 - self.config.target_rate;
        self.slow_critics
            .follow(&self.trained.module().critics, keep);
        self.trained.step(losses.total, &mut numbers);
        numbers
    }

    fn evaluate(&mut self, batch: &TransitionBatch, _rng: &mut Rng) -> Metrics {
        let networks = self.trained.module().valid();
        let losses = self.losses(batch, &networks, |constant| constant);
        losses.numbers.read()
    }

    fn model(&self) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &self.trained.module().actor);
        insert_module(&mut weights, VALUE, &self.trained.module().value);
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }

    fn state(&self) -> TensorMap {
        let mut state = self.trained.state();
        self.slow_critics.insert_into(&mut state, SLOW_CRITICS);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let slow = self.slow_critics.loaded(state, SLOW_CRITICS)?;
        self.trained.load_state(state)?;
        self.slow_critics = slow;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::test_agents::{self, A};

    fn small() -> GciqlConfig {
        let mut config = GciqlConfig {
            target_rate: 0.05,
            ..Default::default()
        };
        config.goals.discount = 0.9;
        config.value.hidden = vec![48, 48];
        config.actor.network.hidden = vec![48, 48];
        config.optimizer.lr = 2e-3;
        config
    }

    fn agent(config: &GciqlConfig) -> GciqlAgent<A> {
        Gciql::new_agent::<A>(config, &test_agents::line(1), &Default::default()).unwrap()
    }

    fn batch(agent: &GciqlAgent<A>, seed: u64) -> TransitionBatch {
        let mut sampler = agent.sampler(&test_agents::line(1).data, 128).unwrap();
        let mut batch = sampler.new_batch();
        sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
        batch
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (observation_dim, action_dim, count) in
            [(2, 2, 2_125_317), (29, 8, 2_245_131), (28, 5, 2_236_424)]
        {
            let config = GciqlConfig::default();
            let found = test_agents::parameters::<Gciql>(&config, observation_dim, action_dim);
            assert_eq!(found, count);
        }
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        for extraction in [Extraction::DdpgBc, Extraction::Awr] {
            let agent = agent(&GciqlConfig {
                extraction,
                ..small()
            });
            let networks = agent.trained.module();
            for (own, loss) in [
                ("value", "value/loss"),
                ("critics", "critic/loss"),
                ("actor", "actor/loss"),
            ] {
                let losses = agent.losses(&batch(&agent, 1), networks, Tensor::from_inner);
                let loss = losses.numbers.on_device(loss).unwrap();
                assert_eq!(test_agents::moved_parts(networks, &loss), [own]);
            }
        }
    }

    #[test]
    fn slow_critics_follow_the_weights_before_the_step() {
        let mut agent = agent(&small());
        let first = |critics: &[Mlp<Flex>]| {
            let mut weights = TensorMap::new();
            insert_module(&mut weights, "c", &critics[0]);
            weights.get_f32("c.output.weight", &[48, 1]).unwrap()[0]
        };
        for k in 0..3 {
            let slow = first(agent.slow_critics.get());
            let current = first(&agent.trained.module().valid().critics);
            agent.update(&batch(&agent, k), &mut Seed::new(0).rng());
            let expected = 0.95 * slow + 0.05 * current;
            let found = first(agent.slow_critics.get());
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }

    #[test]
    fn a_line_is_learned() {
        for (extraction, alpha) in [(Extraction::DdpgBc, 0.1), (Extraction::Awr, 5.0)] {
            let config = GciqlConfig {
                extraction,
                alpha,
                ..small()
            };
            test_agents::check_line::<Gciql>(&config, 1500);
        }
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<Gciql>(&small());
    }

    #[test]
    fn bad_settings_are_named() {
        let mut config = GciqlConfig {
            expectile: 1.0,
            ..small()
        };
        config.goals.actor.random = 0.5;
        let mut problems = Problems::new();
        config.validate(&mut problems);
        let text = problems.to_string();
        assert!(
            text.contains("`expectile` is 1.0; expected a number between 0 and 1")
                && text.contains("`goals.actor`"),
            "{text}"
        );
        let mut problems = Problems::new();
        GciqlConfig::default().validate(&mut problems);
        assert!(problems.is_empty(), "{problems}");
    }
}
