//! GCIVL: goal-conditioned implicit value learning, as in OGBench (Park et al. 2025).
//!
//! Two values V_i of observation and goal learn the [implicit value](crate::losses) with their slow copies V̄_i, without any
//! action. The [Gaussian actor](crate::gaussian) imitates the steps that gained value towards its own goal g_a:
//!
//! ```text
//! L_π = −mean w log π(a | s, g_a),  w = min(exp(α (V(s', g_a) − V(s, g_a))), 100),  V = mean_i V_i, without gradient
//! V̄ ← ρ V + (1 − ρ) V̄ with the V before the step
//! ```

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

use crate::gaussian::{ACTOR, GaussianConfig, GaussianInference, GaussianPolicy, Head};
use crate::inputs::{InputConfig, Inputs};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::{ActorLoss, Losses, ValueTargets, check_alpha, check_rates, each, mean_of};
use crate::module_state::{insert_module, load_module};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// GCIVL in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Gcivl>(
    "gcivl",
    "GCIVL",
    "implicit learning of goal-reaching values without actions; the actor imitates what gains value",
    "Kostrikov et al. 2022, arXiv:2110.06169; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// Settings of GCIVL. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcivlConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals and γ.
    pub goals: HindsightConfig,
    /// The network of each V: three layers of 512 with layer norm.
    pub value: MlpConfig,
    /// The Gaussian.
    pub actor: GaussianConfig,
    /// τ.
    pub expectile: f64,
    /// ρ, share of the new weights in the slow values per update.
    pub target_rate: f64,
    /// α. Higher is greedier.
    pub alpha: f64,
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for GcivlConfig {
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
            alpha: 10.0,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for GcivlConfig {
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
pub struct Gcivl {
    config: GcivlConfig,
    inputs: Inputs,
}

impl Algorithm for Gcivl {
    type Config = GcivlConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &GcivlConfig,
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
        config: &GcivlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let objective = Self {
            inputs: Inputs::of_model(model),
            config: config.clone(),
        };
        let values = objective.values::<B>(&mut Seed::new(0).rng(), device);
        let values = load_module(&model.weights, VALUES, values)?;
        let value: Head<B> = Box::new(move |pairs| mean_of(&each(&values, &pairs)));
        let mean = config.actor.load_mean::<B>(model, device)?;
        let policy = GaussianPolicy::new(&config.actor, model, mean, Some(value), device)?;
        Ok(Box::new(policy))
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    values: Vec<Mlp<B>>,
    actor: Mlp<B>,
}

const VALUES: &str = "values";

impl Gcivl {
    /// V₁ and V₂: observation and goal side by side → one number.
    fn values<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Vec<Mlp<B>> {
        let width = 2 * self.inputs.observation_dim();
        Mlp::two(&self.config.value, width, 1, rng, device)
    }
}

impl Objective for Gcivl {
    type Batch = TransitionBatch;
    type Networks<B: Backend> = Networks<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Networks<B> {
        Networks {
            values: self.values(rng, device),
            actor: self.config.actor.network(&self.inputs, rng, device),
        }
    }

    fn followed<B: Backend>(networks: &Networks<B>) -> Vec<Mlp<B>> {
        networks.values.clone()
    }

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    /// Numbers: `value/loss`, `value/v_mean`; `actor/loss`; `actor/mse`, the mean squared error of the mean per action entry;
    /// `actor/advantage`.
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
        let tables = [
            table(&[&batch.observations, &batch.value_goals]),
            table(&[batch.bootstrap_observations(), &batch.value_goals]),
            table(&[&batch.observations, &batch.actor_goals]),
            table(&[&batch.next_observations, &batch.actor_goals]),
            table(&[&batch.actions]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
        ];
        let [now, next, actor_now, actor_next, actions, rewards, masks] =
            upload::<I, 7>(tables, given.device);

        let targets = ValueTargets {
            rewards,
            masks,
            slow_now: each(given.slow, &now),
            slow_next: each(given.slow, &next),
        };
        let values = each(&networks.values, &lift(now));
        let (discount, expectile) = (config.goals.discount, config.expectile);
        let value_loss = targets.loss(&values, discount, expectile, &lift);

        let value_of = |pairs| mean_of(&each(&given.networks.values, pairs));
        let advantage = value_of(&actor_next) - value_of(&actor_now);
        let actor = ActorLoss::weighted(
            &config.actor,
            networks.actor.forward(lift(actor_now)),
            lift(actions),
            lift(advantage),
            config.alpha,
        );
        Losses {
            numbers: Numbers::new()
                .with("value/loss", value_loss.clone())
                .with("value/v_mean", mean_of(&values).mean())
                .with("actor/loss", actor.loss.clone())
                .with("actor/mse", actor.mse)
                .with("actor/advantage", actor.guide),
            total: value_loss + actor.loss,
        }
    }

    fn model<B: Backend>(&self, networks: &Networks<B>) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &networks.actor);
        insert_module(&mut weights, VALUES, &networks.values);
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::module::AutodiffModule;

    use super::*;
    use crate::test_agents::{self, answers};

    fn small() -> GcivlConfig {
        let mut config = GcivlConfig {
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
            (2, 2, 1_591_812),
            (29, 8, 1_677_834),
            (69, 21, 1_807_383),
            (42, 8, 1_717_770),
            (28, 5, 1_673_223),
            (37, 5, 1_700_871),
            (40, 5, 1_710_087),
            (55, 5, 1_756_167),
        ] {
            let config = GcivlConfig::default();
            let found = test_agents::parameters::<Gcivl>(&config, observation_dim, action_dim);
            assert_eq!(found, count);
        }
    }

    #[test]
    fn initial_weights_are_those_of_the_release() {
        let heads = ["actor.output.weight"];
        test_agents::check_initial_weights::<Gcivl>(&GcivlConfig::default(), &heads);
    }

    #[test]
    fn each_loss_asks_the_networks_that_it_should() {
        let mut config = small();
        // Otherwise the state that is bootstrapped from is the next one.
        config.goals.n_step = 3;
        let agent = test_agents::moved::<Gcivl>(&config, 20);
        let batch = test_agents::batch(&agent, 50);
        let networks = agent.networks().valid();
        let (now, later) = (&batch.observations[..], batch.bootstrap_observations());
        let (goals, actor_goals) = (&batch.value_goals[..], &batch.actor_goals[..]);
        let both = |values: &[Mlp<Flex>], states: &[f32], goals: &[f32]| {
            [0, 1].map(|k| answers(&values[k], batch.size, &[states, goals]))
        };

        let slow_later = both(agent.slow(), later, goals);
        let slow_now = both(agent.slow(), now, goals);
        let values = both(&networks.values, now, goals);
        let of_rows = [&slow_later, &slow_now, &values];
        let value_loss = test_agents::implicit_value_loss(&batch, of_rows, 0.9, 0.9);

        let after = both(&networks.values, &batch.next_observations, actor_goals);
        let before = both(&networks.values, now, actor_goals);
        let mean = |values: &[Vec<f64>; 2], i: usize| f64::midpoint(values[0][i], values[1][i]);
        let advantages: Vec<f64> = (0..batch.size)
            .map(|i| mean(&after, i) - mean(&before, i))
            .collect();
        let means = answers(&networks.actor, batch.size, &[now, actor_goals]);
        let actor_loss = test_agents::awr_loss(&means, &batch.actions, &advantages, 10.0);

        test_agents::check_losses(
            agent.losses(&batch, &mut Seed::new(2).rng()),
            &[("value/loss", value_loss), ("actor/loss", actor_loss)],
        );
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        test_agents::check_gradients::<Gcivl>(
            &small(),
            &[("value/loss", &["values"]), ("actor/loss", &["actor"])],
        );
    }

    /// The step goes down, towards less than 1.
    #[test]
    fn slow_values_match_the_published_update() {
        let mut config = small();
        config.target_rate = GcivlConfig::default().target_rate;
        config.optimizer.lr = 1.0;
        let names = ["network.values.1.output.bias", "slow.1.output.bias"];
        test_agents::check_published_follow::<Gcivl>(&config, names, &[], 1.0);
    }

    #[test]
    fn a_line_is_learned() {
        test_agents::check_line::<Gcivl>(&small(), 1500);
    }

    #[test]
    fn a_line_is_learned_from_rewards_of_several_steps() {
        let mut config = small();
        config.goals.n_step = 4;
        test_agents::check_line::<Gcivl>(&config, 1500);
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<Gcivl>(&small());
    }
}
