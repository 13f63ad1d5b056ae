//! GCIVL: goal-conditioned implicit value learning, as in OGBench (Park et al. 2025).
//!
//! Two values V_i of observation and goal learn the [implicit value](crate::losses) with their slow copies V̄_i, without any
//! action. The [Gaussian actor](crate::gaussian) imitates the steps that gained value towards its own goal g_a:
//!
//! ```text
//! L_π = −mean w log π(a | s, g_a),  w = min(exp(α (V(s', g_a) − V(s, g_a))), 100),  V = mean_i V_i, without gradient
//! V̄ ← ρ V + (1 − ρ) V̄ with the V before the step
//! ```

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
    Losses, ValueTargets, advantage_weight, check_alpha, check_rates, each, mean_of,
};
use crate::module_state::{insert_module, load_module};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{
    Agent, Algorithm, BatchSampler, DataPart, Metrics, Model, Numbers, Policy, PolicyConfig,
    PolicyError, PolicySpec, Problems, TensorMap, TrainingTask,
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

/// Ties configuration, agent and policy together.
pub struct Gcivl;

impl Algorithm for Gcivl {
    type Config = GcivlConfig;
    type Agent<B: AutodiffBackend> = GcivlAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &GcivlConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<GcivlAgent<B>, PolicyError> {
        let inputs = Inputs::fit(&config.inputs, task)?;
        let mut rng = task.seed.child("init").rng();
        let networks = Networks::<B> {
            values: values(config, &inputs, &mut rng, device),
            actor: config.actor.network(&inputs, &mut rng, device),
        };
        Ok(GcivlAgent {
            inputs,
            slow_values: SlowCopy::new(networks.values.valid()),
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
        config: &GcivlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let values = values::<B>(config, &inputs, &mut Seed::new(0).rng(), device);
        let values = load_module(&model.weights, VALUES, values)?;
        let value: Head<B> = Box::new(move |pairs| mean_of(&each(&values, &pairs)));
        let mean = config.actor.load_mean::<B>(model, device)?;
        let policy = GaussianPolicy::new(&config.actor, model, mean, Some(value), device)?;
        Ok(Box::new(policy))
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
struct Networks<B: Backend> {
    values: Vec<Mlp<B>>,
    actor: Mlp<B>,
}

const VALUES: &str = "values";
const SLOW_VALUES: &str = "slow_values";

/// V₁ and V₂: observation and goal side by side → one number.
fn values<B: Backend>(
    config: &GcivlConfig,
    inputs: &Inputs,
    rng: &mut Rng,
    device: &B::Device,
) -> Vec<Mlp<B>> {
    let width = 2 * inputs.observation_dim();
    (0..2)
        .map(|_| Mlp::new(&config.value, width, 1, 1.0, rng, device))
        .collect()
}

/// Trains all networks with one optimiser.
///
/// Metrics of an update and of an evaluation: `value/loss`, `value/v_mean`; `actor/loss`; `actor/mse`, the mean squared error
/// of the mean per action entry; `actor/advantage`. Of an update also `optimizer/gradient_norm` and `optimizer/lr`.
pub struct GcivlAgent<B: AutodiffBackend> {
    config: GcivlConfig,
    inputs: Inputs,
    trained: Trained<B, Networks<B>>,
    /// V̄.
    slow_values: SlowCopy<Vec<Mlp<B::InnerBackend>>>,
}

impl<B: AutodiffBackend> GcivlAgent<B> {
    /// The losses on backend `C`, which is `B` or its inner backend; `lift` makes constants of results of the latter.
    fn losses<C: Backend<Device = B::Device>>(
        &self,
        batch: &TransitionBatch,
        networks: &Networks<C>,
        lift: impl Fn(Tensor<B::InnerBackend, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let config = &self.config;
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let tables = [
            table(&[&batch.observations, &batch.value_goals]),
            table(&[&batch.next_observations, &batch.value_goals]),
            table(&[&batch.observations, &batch.actor_goals]),
            table(&[&batch.next_observations, &batch.actor_goals]),
            table(&[&batch.actions]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
        ];
        let [now, next, actor_now, actor_next, actions, rewards, masks] =
            upload::<B::InnerBackend, 7>(tables, self.trained.device());
        let constant = self.trained.module().valid();

        let slow = self.slow_values.get();
        let targets = ValueTargets {
            rewards,
            masks,
            slow_now: each(slow, &now),
            slow_next: each(slow, &next),
        };
        let values = each(&networks.values, &lift(now));
        let (discount, expectile) = (config.goals.discount, config.expectile);
        let value_loss = targets.loss(&values, discount, expectile, &lift);

        let advantage = mean_of(&each(&constant.values, &actor_next))
            - mean_of(&each(&constant.values, &actor_now));
        let weight = lift(advantage_weight(advantage.clone(), config.alpha));
        let error = networks.actor.forward(lift(actor_now)) - lift(actions);
        let squares = error.clone() * error;
        let action_dim = self.inputs.action_dim();
        let imitation = config
            .actor
            .negative_log_probs(squares.clone().mean_dim(1), action_dim);
        let actor_loss = (weight * imitation).mean();
        Losses {
            numbers: Numbers::new()
                .with("value/loss", value_loss.clone())
                .with("value/v_mean", mean_of(&values).mean())
                .with("actor/loss", actor_loss.clone())
                .with("actor/mse", squares.mean())
                .with("actor/advantage", lift(advantage).mean()),
            total: value_loss + actor_loss,
        }
    }
}

impl<B: AutodiffBackend> Agent for GcivlAgent<B> {
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
        self.slow_values.follow(&self.trained.module().values, keep);
        self.trained.step(losses.total, &mut numbers);
        numbers
    }

    fn evaluate(&mut self, batch: &TransitionBatch, _rng: &mut Rng) -> Metrics {
        let networks = self.trained.module().valid();
        let losses = self.losses(batch, &networks, |constant| constant);
        losses.numbers.read()
    }

    fn model(&self) -> Model {
        let networks = self.trained.module();
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &networks.actor);
        insert_module(&mut weights, VALUES, &networks.values);
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }

    fn state(&self) -> TensorMap {
        let mut state = self.trained.state();
        self.slow_values.insert_into(&mut state, SLOW_VALUES);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let slow = self.slow_values.loaded(state, SLOW_VALUES)?;
        self.trained.load_state(state)?;
        self.slow_values = slow;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_agents::{self, agent, batch};

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
        for (observation_dim, action_dim, count) in
            [(2, 2, 1_591_812), (29, 8, 1_677_834), (28, 5, 1_673_223)]
        {
            let config = GcivlConfig::default();
            let found = test_agents::parameters::<Gcivl>(&config, observation_dim, action_dim);
            assert_eq!(found, count);
        }
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        let agent = agent::<Gcivl>(&small());
        let networks = agent.trained.module();
        for (own, loss) in [("values", "value/loss"), ("actor", "actor/loss")] {
            let losses = agent.losses(&batch(&agent, 1), networks, Tensor::from_inner);
            let loss = losses.numbers.on_device(loss).unwrap();
            assert_eq!(test_agents::moved_parts(networks, &loss), [own]);
        }
    }

    #[test]
    fn a_line_is_learned() {
        test_agents::check_line::<Gcivl>(&small(), 1500);
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<Gcivl>(&small());
    }
}
