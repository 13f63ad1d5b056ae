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

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

use crate::gaussian::{ACTOR, GaussianConfig, GaussianInference, GaussianPolicy, Head};
use crate::inputs::{InputConfig, Inputs};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::{
    ActorLoss, Extraction, Losses, check_alpha, check_rates, each, least_of, regression_loss,
    upper_value_loss,
};
use crate::module_state::{insert_module, load_module};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// GCIQL in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Gciql>(
    "gciql",
    "GCIQL",
    "implicit Q-learning of goal-reaching values; the actor climbs them close to the data",
    "Kostrikov et al. 2022, arXiv:2110.06169; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

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

/// The algorithm, with its configuration fitted to data.
pub struct Gciql {
    config: GciqlConfig,
    inputs: Inputs,
}

impl Algorithm for Gciql {
    type Config = GciqlConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &GciqlConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<JointAgent<Self, B>, PolicyError> {
        let objective = Self {
            inputs: Inputs::fit(&config.inputs, task)?,
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
        config: &GciqlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let objective = Self {
            inputs: Inputs::of_model(model),
            config: config.clone(),
        };
        let value = objective.value::<B>(&mut Seed::new(0).rng(), device);
        let value = load_module(&model.weights, VALUE, value)?;
        let value: Head<B> = Box::new(move |pairs| value.forward(pairs));
        let mean = config.actor.load_mean::<B>(model, device)?;
        let policy = GaussianPolicy::new(&config.actor, model, mean, Some(value), device)?;
        Ok(Box::new(policy))
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    value: Mlp<B>,
    critics: Vec<Mlp<B>>,
    actor: Mlp<B>,
}

const VALUE: &str = "value";

impl Gciql {
    /// V: observation and goal side by side → one number.
    fn value<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Mlp<B> {
        let width = 2 * self.inputs.observation_dim();
        Mlp::new(&self.config.value, width, 1, 1.0, rng, device)
    }
}

/// The smaller of the critics, `[rows, 1]`.
fn least<B: Backend>(critics: &[Mlp<B>], input: &Tensor<B, 2>) -> Tensor<B, 2> {
    least_of(&each(critics, input))
}

/// y of rewards, masks and V(s', g), `[rows, 1]` each.
fn critic_target<B: Backend>(
    rewards: Tensor<B, 2>,
    masks: Tensor<B, 2>,
    next_values: Tensor<B, 2>,
    discount: f64,
) -> Tensor<B, 2> {
    rewards + masks * next_values * discount
}

impl Objective for Gciql {
    type Batch = TransitionBatch;
    type Networks<B: Backend> = Networks<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Networks<B> {
        let (seen, actions) = (self.inputs.observation_dim(), self.inputs.action_dim());
        Networks {
            value: self.value(rng, device),
            critics: Mlp::two(&self.config.value, 2 * seen + actions, 1, rng, device),
            actor: self.config.actor.network(&self.inputs, rng, device),
        }
    }

    fn followed<B: Backend>(networks: &Networks<B>) -> Vec<Mlp<B>> {
        networks.critics.clone()
    }

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    /// Numbers: `value/loss`, `value/v_mean`; `critic/loss`, `critic/q_mean`; `actor/loss`; `actor/mse`, the mean squared error of the
    /// mean per action entry; `actor/q_loss` (`ddpg_bc`) or `actor/advantage` (`awr`).
    fn losses<I: Backend, C: Backend<Device = I::Device>>(
        &self,
        batch: &TransitionBatch,
        _rng: &mut Rng,
        networks: &Networks<C>,
        given: &Given<'_, I, Networks<I>>,
        lift: impl Fn(Tensor<I, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let config = &self.config;
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let (observations, goals) = (&batch.observations, &batch.value_goals);
        let tables = [
            table(&[observations, goals]),
            table(&[batch.bootstrap_observations(), goals]),
            table(&[observations, goals, &batch.actions]),
            table(&[observations, &batch.actor_goals]),
            table(&[&batch.actions]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
        ];
        let [now, next, acted, actor_now, actions, rewards, masks] =
            upload::<I, 7>(tables, given.device);

        let slow_q = each(given.slow, &acted);
        let v = networks.value.forward(lift(now));
        let (_, value_loss) = upper_value_loss(&slow_q, v.clone(), config.expectile, &lift);

        let next_v = given.networks.value.forward(next);
        let target = lift(critic_target(rewards, masks, next_v, config.goals.discount));
        let q = each(&networks.critics, &lift(acted));
        let critic_loss = regression_loss(&q, &target);

        let means = networks.actor.forward(lift(actor_now.clone()));
        let (actor, guide) = match config.extraction {
            Extraction::DdpgBc => {
                let critics = networks.critics.clone().no_grad();
                let values = |means| {
                    let acted = Tensor::cat(vec![lift(actor_now), means], 1);
                    least(&critics, &acted)
                };
                let targets = lift(actions);
                let loss = ActorLoss::climbing(&config.actor, means, targets, config.alpha, values);
                (loss, "actor/q_loss")
            }
            Extraction::Awr => {
                let acted = Tensor::cat(vec![actor_now.clone(), actions.clone()], 1);
                let advantage = least(&given.networks.critics, &acted)
                    - given.networks.value.forward(actor_now);
                let (targets, advantage) = (lift(actions), lift(advantage));
                let loss =
                    ActorLoss::weighted(&config.actor, means, targets, advantage, config.alpha);
                (loss, "actor/advantage")
            }
        };
        Losses {
            numbers: Numbers::new()
                .with("value/loss", value_loss.clone())
                .with("value/v_mean", v.mean())
                .with("critic/loss", critic_loss.clone())
                .with("critic/q_mean", q[0].clone().mean())
                .with("actor/loss", actor.loss.clone())
                .with("actor/mse", actor.mse)
                .with(guide, actor.guide),
            total: value_loss + critic_loss + actor.loss,
        }
    }

    fn model<B: Backend>(&self, networks: &Networks<B>) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &networks.actor);
        insert_module(&mut weights, VALUE, &networks.value);
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::module::AutodiffModule;

    use super::*;
    use crate::Agent;
    use crate::module_state::tensor_values;
    use crate::test_agents::{
        self, agent, answers, awr_loss, batch, check_losses, ddpg_bc_loss, expectile, mean_over,
    };

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

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (observation_dim, action_dim, count) in [
            (2, 2, 2_125_317),
            (29, 8, 2_245_131),
            (69, 21, 2_428_952),
            (42, 8, 2_298_379),
            (28, 5, 2_236_424),
            (37, 5, 2_273_288),
            (40, 5, 2_285_576),
            (55, 5, 2_347_016),
        ] {
            let config = GciqlConfig::default();
            let found = test_agents::parameters::<Gciql>(&config, observation_dim, action_dim);
            assert_eq!(found, count);
        }
    }

    #[test]
    fn initial_weights_are_those_of_the_release() {
        let heads = ["actor.output.weight"];
        test_agents::check_initial_weights::<Gciql>(&GciqlConfig::default(), &heads);
    }

    #[test]
    fn the_loss_of_the_critics_matches_published_values() {
        let row = |value: f32| Tensor::<Flex, 2>::from_floats([[value]], &Default::default());
        for (reward, mask, next, expected) in [(-1.0, 1.0, -9.0, -9.91), (-1.0, 0.0, -9.0, -1.0)] {
            let target = critic_target(row(reward), row(mask), row(next), 0.99);
            let found = tensor_values(target)[0];
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
        let target = critic_target(row(-1.0), row(1.0), row(-9.0), 0.99);
        let loss = tensor_values(regression_loss(&[row(-9.0), row(-9.5)], &target))[0];
        assert!((loss - 0.9962).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn each_loss_asks_the_networks_that_it_should() {
        for extraction in [Extraction::DdpgBc, Extraction::Awr] {
            let mut config = GciqlConfig {
                extraction,
                ..small()
            };
            // Otherwise the state that is bootstrapped from is the next one.
            config.goals.n_step = 3;
            let agent = test_agents::moved::<Gciql>(&config, 20);
            let batch = batch(&agent, 50);
            let networks = agent.networks().valid();
            let (now, later) = (&batch.observations[..], batch.bootstrap_observations());
            let (goals, actor_goals) = (&batch.value_goals[..], &batch.actor_goals[..]);
            let of = |network: &Mlp<Flex>, tables: &[&[f32]]| answers(network, batch.size, tables);
            let least = |critics: &[Mlp<Flex>], tables: &[&[f32]]| -> Vec<f64> {
                let pairs = of(&critics[0], tables).into_iter();
                let pairs = pairs.zip(of(&critics[1], tables));
                pairs.map(|(a, b)| a.min(b)).collect()
            };

            let slow_q = least(agent.slow(), &[now, goals, &batch.actions]);
            let v = of(&networks.value, &[now, goals]);
            let value_loss = mean_over(batch.size, |i| {
                let advantage = slow_q[i] - v[i];
                expectile(advantage, advantage, 0.9)
            });

            let later_v = of(&networks.value, &[later, goals]);
            let q = [0, 1].map(|k| of(&networks.critics[k], &[now, goals, &batch.actions]));
            let critic_loss = mean_over(batch.size, |i| {
                let [reward, mask] = [batch.rewards[i], batch.masks[i]].map(f64::from);
                let target = reward + 0.9 * mask * later_v[i];
                q.iter().map(|q| (q[i] - target).powi(2)).sum()
            });

            let means = of(&networks.actor, &[now, actor_goals]);
            let actor_loss = match extraction {
                Extraction::DdpgBc => {
                    let acted: Vec<f32> = means.iter().map(|a| a.clamp(-1.0, 1.0) as f32).collect();
                    let q = least(&networks.critics, &[now, actor_goals, &acted]);
                    ddpg_bc_loss(&means, &batch.actions, &q, config.alpha)
                }
                Extraction::Awr => {
                    let q = least(&networks.critics, &[now, actor_goals, &batch.actions]);
                    let v = of(&networks.value, &[now, actor_goals]);
                    let advantages: Vec<f64> = q.iter().zip(v).map(|(q, v)| q - v).collect();
                    awr_loss(&means, &batch.actions, &advantages, config.alpha)
                }
            };
            check_losses(
                agent.losses(&batch, &mut Seed::new(2).rng()),
                &[
                    ("value/loss", value_loss),
                    ("critic/loss", critic_loss),
                    ("actor/loss", actor_loss),
                ],
            );
        }
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        for extraction in [Extraction::DdpgBc, Extraction::Awr] {
            let config = GciqlConfig {
                extraction,
                ..small()
            };
            test_agents::check_gradients::<Gciql>(
                &config,
                &[
                    ("value/loss", &["value"]),
                    ("critic/loss", &["critics"]),
                    ("actor/loss", &["actor"]),
                ],
            );
        }
    }

    #[test]
    fn slow_critics_follow_the_weights_before_the_step() {
        let mut agent = agent::<Gciql>(&small());
        let first = |critics: &[Mlp<Flex>]| {
            let mut weights = TensorMap::new();
            insert_module(&mut weights, "c", &critics[0]);
            weights.get_f32("c.output.weight", &[48, 1]).unwrap()[0]
        };
        for k in 0..3 {
            let slow = first(agent.slow());
            let current = first(&agent.networks().valid().critics);
            agent.update(&batch(&agent, k), &mut Seed::new(0).rng());
            let expected = 0.95 * slow + 0.05 * current;
            let found = first(agent.slow());
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }

    /// Published: 2 before the step, 3 after it and 1 in the slow copy make 1.005 with ρ 0.005.
    #[test]
    fn slow_critics_match_the_published_update() {
        let mut config = small();
        config.target_rate = GciqlConfig::default().target_rate;
        // The step goes up, towards the next value.
        config.optimizer.lr = 1.0;
        let names = ["network.critics.1.output.bias", "slow.1.output.bias"];
        let before = [("network.value.output.bias", 1000.0)];
        test_agents::check_published_follow::<Gciql>(&config, names, &before, 3.0);
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
