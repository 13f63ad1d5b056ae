//! HIQL: hierarchical implicit Q-learning (Park et al. 2023), as in OGBench (Park et al. 2025).
//!
//! A representation φ of observation and goal, of length √Z in Z entries, is what values and the low actor see of a goal. Two
//! values V_i(s, φ(s, g)) learn the [implicit value](crate::losses) with slow copies V̄_i of what follows φ. With V = mean_i V_i:
//!
//! ```text
//! low:  L = −mean w log π_l(a | s, φ(s, h)),   w = min(exp(α_l (V(s', h) − V(s, h))), 100), h the state k steps on
//! high: L = −mean w log π_h(φ(s, h') | s, g_a), w = min(exp(α_h (V(h', g_a) − V(s, g_a))), 100), h' the state k steps on, or g_a
//! ```
//!
//! Where goals hide entries of a state, φ sees h and h' without them, as it sees every goal; V is asked at the whole h'.
//!
//! Only the loss of the values reaches φ. Acting takes the mean z of π_h, at length √Z, and the mean of π_l(a | s, z).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{HindsightConfig, SubgoalBatch};
use telic_seed::{Rng, Seed};

use crate::gaussian::{GaussianConfig, GaussianInference, GaussianPolicy, Head, halves};
use crate::inputs::{InputConfig, Inputs};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::{ActorLoss, Losses, ValueTargets, check_alpha, check_rates, each, mean_of};
use crate::module_state::{insert_module, load_module};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::trained::NETWORK;
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// HIQL in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Hiql>(
    "hiql",
    "HIQL",
    "a high level proposes where to be some steps on, a low level goes there; one value teaches both",
    "Park et al. 2023, arXiv:2307.11949; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// Settings of HIQL. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HiqlConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals and γ; those of the actor are the high level's.
    pub goals: HindsightConfig,
    /// k, steps to a sub-goal. Published: 25 for mazes, 100 for humanoids, 10 for manipulation.
    pub subgoal_steps: usize,
    /// Z, entries of φ.
    pub representation_dim: usize,
    /// The networks of φ and of each V: three layers of 512 with layer norm.
    pub value: MlpConfig,
    /// The Gaussian of actions.
    pub low_actor: GaussianConfig,
    /// The Gaussian of sub-goals.
    pub high_actor: GaussianConfig,
    /// τ.
    pub expectile: f64,
    /// ρ, share of the new weights in the slow values per update.
    pub target_rate: f64,
    /// α_l. Higher is greedier.
    pub low_alpha: f64,
    /// α_h. Higher is greedier.
    pub high_alpha: f64,
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for HiqlConfig {
    fn default() -> Self {
        // Park et al. 2025, reference release, mazes.
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig::default(),
            subgoal_steps: 25,
            representation_dim: 10,
            value: MlpConfig {
                layer_norm: true,
                ..MlpConfig::default()
            },
            low_actor: GaussianConfig::default(),
            high_actor: GaussianConfig::default(),
            expectile: 0.7,
            target_rate: 0.005,
            low_alpha: 3.0,
            high_alpha: 3.0,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for HiqlConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("value", &self.value),
            ("low_actor", &self.low_actor),
            ("high_actor", &self.high_actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("inference", &self.inference),
        ]);
        for (key, number) in [
            ("subgoal_steps", self.subgoal_steps),
            ("representation_dim", self.representation_dim),
        ] {
            problems.check(number >= 1, key, number, "at least 1");
        }
        check_rates(problems, self.expectile, self.target_rate);
        check_alpha(problems, "low_alpha", self.low_alpha);
        check_alpha(problems, "high_alpha", self.high_alpha);
    }
}

/// The algorithm, with its configuration fitted to data.
pub struct Hiql {
    config: HiqlConfig,
    inputs: Inputs,
}

impl Algorithm for Hiql {
    type Config = HiqlConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &HiqlConfig,
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
        config: &HiqlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let fresh = Networks::<B>::new(config, &inputs, &mut Seed::new(0).rng(), device);
        let networks = load_module(&model.weights, NETWORK, fresh)?;
        let of_value = networks.clone();
        let value: Head<B> = Box::new(move |pairs| mean_of(&of_value.values(&pairs)));
        let of_subgoal = networks.clone();
        let mean: Head<B> = Box::new(move |pairs| networks.act(pairs));
        let policy = GaussianPolicy::new(&config.low_actor, model, mean, Some(value), device)?;
        let policy = policy.with_subgoals(Box::new(move |pairs, candidates| {
            of_subgoal.subgoal_distances(pairs, candidates)
        }));
        Ok(Box::new(policy))
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    /// φ, before its length is set.
    representation: Mlp<B>,
    values: Vec<Mlp<B>>,
    low_actor: Mlp<B>,
    high_actor: Mlp<B>,
}

impl<B: Backend> Networks<B> {
    fn new(config: &HiqlConfig, inputs: &Inputs, rng: &mut Rng, device: &B::Device) -> Self {
        let (seen, dim) = (inputs.observation_dim(), config.representation_dim);
        let (low, high) = (&config.low_actor, &config.high_actor);
        Self {
            representation: Mlp::new(&config.value, 2 * seen, dim, 1.0, rng, device),
            values: Mlp::two(&config.value, seen + dim, 1, rng, device),
            low_actor: Mlp::new(
                &low.network,
                seen + dim,
                inputs.action_dim(),
                low.output_scale,
                rng,
                device,
            ),
            high_actor: Mlp::new(&high.network, 2 * seen, dim, high.output_scale, rng, device),
        }
    }

    /// φ of observation and goal side by side.
    fn represent(&self, pairs: Tensor<B, 2>) -> Tensor<B, 2> {
        with_length(self.representation.forward(pairs))
    }

    /// s and φ(s, g) side by side.
    fn seen(&self, pairs: &Tensor<B, 2>) -> Tensor<B, 2> {
        let [observations, _] = halves(pairs.clone());
        Tensor::cat(vec![observations, self.represent(pairs.clone())], 1)
    }

    /// V_i(s, g).
    fn values(&self, pairs: &Tensor<B, 2>) -> Vec<Tensor<B, 2>> {
        each(&self.values, &self.seen(pairs))
    }

    /// How far φ(s, h) of candidates h is from the sub-goal, `[rows, 1]`.
    fn subgoal_distances(&self, pairs: Tensor<B, 2>, candidates: Tensor<B, 2>) -> Tensor<B, 2> {
        let subgoal = with_length(self.high_actor.forward(pairs.clone()));
        let [observations, _] = halves(pairs);
        let there = self.represent(Tensor::cat(vec![observations, candidates], 1));
        let way = there - subgoal;
        (way.clone() * way).sum_dim(1).sqrt()
    }

    /// The mean action.
    fn act(&self, pairs: Tensor<B, 2>) -> Tensor<B, 2> {
        let subgoal = with_length(self.high_actor.forward(pairs.clone()));
        let [observations, _] = halves(pairs);
        self.low_actor
            .forward(Tensor::cat(vec![observations, subgoal], 1))
    }
}

/// `x / |x| · √Z` per row.
fn with_length<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let length = (x.dims()[1] as f64).sqrt();
    // A row of zeros has a gradient too.
    let norm = ((x.clone() * x.clone()).sum_dim(1) + 1e-8).sqrt();
    x / norm * length
}

impl Objective for Hiql {
    type Batch = SubgoalBatch;
    type Networks<B: Backend> = Networks<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Networks<B> {
        Networks::new(&self.config, &self.inputs, rng, device)
    }

    fn followed<B: Backend>(networks: &Networks<B>) -> Vec<Mlp<B>> {
        networks.values.clone()
    }

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<SubgoalBatch>>, PolicyError> {
        let HiqlConfig {
            goals,
            subgoal_steps,
            ..
        } = self.config;
        self.inputs.subgoals(goals, subgoal_steps, data, batch_size)
    }

    /// Numbers: `value/loss`, `value/v_mean`; of either actor `loss`, `mse` (the mean squared error of the mean per entry) and
    /// `advantage`, under `low_actor/` and `high_actor/`.
    fn losses<I: Backend, C: Backend<Device = I::Device>>(
        &self,
        batch: &SubgoalBatch,
        _rng: &mut Rng,
        networks: &Networks<C>,
        given: &Given<'_, I, Networks<I>>,
        lift: impl Fn(Tensor<I, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let config = &self.config;
        let SubgoalBatch {
            transitions,
            low_goals,
            high_targets,
            high_subgoals,
            ..
        } = batch;
        let (now, next) = (&transitions.observations, &transitions.next_observations);
        let high_goals = &transitions.actor_goals;
        let table = |tables: &[&[f32]]| Table::side_by_side(transitions.size, tables);
        let tables = [
            table(&[now, &transitions.value_goals]),
            table(&[
                transitions.bootstrap_observations(),
                &transitions.value_goals,
            ]),
            table(&[now, low_goals]),
            table(&[next, low_goals]),
            table(&[now, high_goals]),
            table(&[high_targets, high_goals]),
            table(&[now, high_subgoals]),
            table(&[&transitions.actions]),
            table(&[&transitions.rewards]),
            table(&[&transitions.masks]),
        ];
        let [
            value_now,
            value_next,
            low_now,
            low_next,
            high_now,
            high_next,
            high_subgoal,
            actions,
            rewards,
            masks,
        ] = upload::<I, 10>(tables, given.device);
        let constant = given.networks;
        let value_of = |pairs| mean_of(&constant.values(pairs));

        let targets = ValueTargets {
            rewards,
            masks,
            slow_now: each(given.slow, &constant.seen(&value_now)),
            slow_next: each(given.slow, &constant.seen(&value_next)),
        };
        let values = networks.values(&lift(value_now));
        let (discount, expectile) = (config.goals.discount, config.expectile);
        let value_loss = targets.loss(&values, discount, expectile, &lift);

        let low_seen = constant.seen(&low_now);
        let advantage = value_of(&low_next) - mean_of(&each(&constant.values, &low_seen));
        let found = networks.low_actor.forward(lift(low_seen));
        let low = ActorLoss::weighted(
            &config.low_actor,
            found,
            lift(actions),
            lift(advantage),
            config.low_alpha,
        );

        let advantage = value_of(&high_next) - value_of(&high_now);
        let found = networks.high_actor.forward(lift(high_now));
        let high = ActorLoss::weighted(
            &config.high_actor,
            found,
            lift(constant.represent(high_subgoal)),
            lift(advantage),
            config.high_alpha,
        );
        Losses {
            numbers: Numbers::new()
                .with("value/loss", value_loss.clone())
                .with("value/v_mean", mean_of(&values).mean())
                .with("low_actor/loss", low.loss.clone())
                .with("low_actor/mse", low.mse)
                .with("low_actor/advantage", low.guide)
                .with("high_actor/loss", high.loss.clone())
                .with("high_actor/mse", high.mse)
                .with("high_actor/advantage", high.guide),
            total: value_loss + low.loss + high.loss,
        }
    }

    fn model<B: Backend>(&self, networks: &Networks<B>) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, NETWORK, networks);
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::module::AutodiffModule;

    use super::*;
    use crate::module_state::tensor_values;
    use crate::test_agents::{self, awr_loss, entries};

    fn small() -> HiqlConfig {
        let mut config = HiqlConfig {
            subgoal_steps: 3,
            target_rate: 0.05,
            ..Default::default()
        };
        config.goals.discount = 0.9;
        config.value.hidden = vec![48, 48];
        config.low_actor.network.hidden = vec![48, 48];
        config.high_actor.network.hidden = vec![48, 48];
        config.optimizer.lr = 2e-3;
        config
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (observation_dim, action_dim, count) in [
            (2, 2, 2_673_176),
            (29, 8, 2_773_022),
            (69, 21, 2_923_051),
            (42, 8, 2_819_614),
            (28, 5, 2_767_899),
            (37, 5, 2_800_155),
            (40, 5, 2_810_907),
            (55, 5, 2_864_667),
        ] {
            let config = HiqlConfig::default();
            let found = test_agents::parameters::<Hiql>(&config, observation_dim, action_dim);
            assert_eq!(found, count);
        }
    }

    #[test]
    fn lengths_match_published_values() {
        let x = Tensor::<Flex, 2>::from_floats([[3.0, 4.0]], &Default::default());
        let found = tensor_values(with_length(x));
        assert!((found[0] - 0.848_528).abs() < 1e-6 && (found[1] - 1.131_371).abs() < 1e-6);
    }

    #[test]
    fn initial_weights_are_those_of_the_release() {
        let heads = ["high_actor.output.weight", "low_actor.output.weight"];
        test_agents::check_initial_weights::<Hiql>(&HiqlConfig::default(), &heads);
    }

    #[test]
    fn each_loss_asks_the_networks_that_it_should() {
        let mut config = HiqlConfig {
            low_alpha: 2.0,
            high_alpha: 4.0,
            ..small()
        };
        // Otherwise the state that is bootstrapped from is the next one.
        config.goals.n_step = 3;
        let agent = test_agents::moved::<Hiql>(&config, 20);
        let batch = test_agents::batch(&agent, 50);
        let networks = agent.networks().valid();
        let transitions = &batch.transitions;
        let (now, next) = (
            &transitions.observations[..],
            &transitions.next_observations[..],
        );
        let high_goals = &transitions.actor_goals[..];
        let pairs = |states: &[f32], goals: &[f32]| {
            test_agents::side_by_side(transitions.size, &[states, goals])
        };
        let both = |heads: &[Mlp<Flex>], states: &[f32], goals: &[f32]| {
            // φ has no slow copy.
            let seen = networks.seen(&pairs(states, goals));
            [0, 1].map(|k| entries(heads[k].forward(seen.clone())))
        };

        let later = transitions.bootstrap_observations();
        let slow_later = both(agent.slow(), later, &transitions.value_goals);
        let slow_now = both(agent.slow(), now, &transitions.value_goals);
        let values = both(&networks.values, now, &transitions.value_goals);
        let of_rows = [&slow_later, &slow_now, &values];
        let value_loss = test_agents::implicit_value_loss(transitions, of_rows, 0.9, 0.7);

        // V at the first of two states less V at the second.
        let gain = |[after, before]: [&[f32]; 2], goals: &[f32]| -> Vec<f64> {
            let [after, before] =
                [after, before].map(|states| both(&networks.values, states, goals));
            let mean = |values: &[Vec<f64>; 2], i: usize| f64::midpoint(values[0][i], values[1][i]);
            (0..transitions.size)
                .map(|i| mean(&after, i) - mean(&before, i))
                .collect()
        };
        let low_seen = networks.seen(&pairs(now, &batch.low_goals));
        let low_means = entries(networks.low_actor.forward(low_seen));
        let low_gain = gain([next, now], &batch.low_goals);
        let low_loss = awr_loss(&low_means, &transitions.actions, &low_gain, 2.0);

        let high_means = entries(networks.high_actor.forward(pairs(now, high_goals)));
        let subgoals = tensor_values(networks.represent(pairs(now, &batch.high_subgoals)));
        let high_gain = gain([&batch.high_targets[..], now], high_goals);
        let high_loss = awr_loss(&high_means, &subgoals, &high_gain, 4.0);

        test_agents::check_losses(
            agent.losses(&batch, &mut Seed::new(2).rng()),
            &[
                ("value/loss", value_loss),
                ("low_actor/loss", low_loss),
                ("high_actor/loss", high_loss),
            ],
        );
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        test_agents::check_gradients::<Hiql>(
            &small(),
            &[
                ("value/loss", &["representation", "values"]),
                ("low_actor/loss", &["low_actor"]),
                ("high_actor/loss", &["high_actor"]),
            ],
        );
    }

    /// The step goes down, towards less than 1.
    #[test]
    fn slow_values_match_the_published_update() {
        let mut config = small();
        config.target_rate = HiqlConfig::default().target_rate;
        config.optimizer.lr = 1.0;
        let names = ["network.values.1.output.bias", "slow.1.output.bias"];
        test_agents::check_published_follow::<Hiql>(&config, names, &[], 1.0);
    }

    #[test]
    fn a_line_is_learned() {
        test_agents::check_line::<Hiql>(&small(), 2000);
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<Hiql>(&small());
    }
}
