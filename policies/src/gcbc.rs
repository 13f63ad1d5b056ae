//! GCBC: goal-conditioned behavioural cloning with hindsight goals, as in OGBench (Park et al. 2025).
//!
//! A [Gaussian actor](crate::gaussian) imitates the recorded action; goals come from the future of the same episode, uniformly:
//!
//! ```text
//! L = −mean log π(a | s, g)
//! ```

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig, TransitionBatch};
use telic_seed::Rng;

use crate::gaussian::{ACTOR, GaussianConfig, GaussianInference, GaussianPolicy};
use crate::inputs::{InputConfig, Inputs, check_single_steps};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::Losses;
use crate::module_state::insert_module;
use crate::nn::{AdamConfig, LrSchedule, Mlp};
use crate::tables::{Table, upload};
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// GCBC in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Gcbc>(
    "gcbc",
    "GCBC",
    "behavioural cloning of the action, conditioned on a future observation of the same episode",
    "Lynch et al. 2019, Ghosh et al. 2021; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// Settings of GCBC. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcbcConfig {
    /// What the network sees.
    pub inputs: InputConfig,
    /// The Gaussian.
    pub actor: GaussianConfig,
    /// Goals; those of the value are not read.
    pub goals: HindsightConfig,
    /// Adam.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for GcbcConfig {
    fn default() -> Self {
        // Park et al. 2025, reference release.
        Self {
            inputs: InputConfig::default(),
            actor: GaussianConfig::default(),
            goals: HindsightConfig {
                value: GoalMix::UNIFORM_FUTURE,
                ..HindsightConfig::default()
            },
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for GcbcConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.parts(&[
            ("goals", &self.goals),
            ("actor", &self.actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("inference", &self.inference),
        ]);
        check_single_steps(problems, &self.goals);
    }

    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        Some((&self.goals, &["value", "negative_rewards"]))
    }
}

/// The algorithm, with its configuration fitted to data.
pub struct Gcbc {
    config: GcbcConfig,
    inputs: Inputs,
}

impl Algorithm for Gcbc {
    type Config = GcbcConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &GcbcConfig,
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
            target_rate: 1.0,
        };
        Ok(JointAgent::new(objective, training, task, device))
    }

    fn load<B: Backend>(
        config: &GcbcConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let mean = config.actor.load_mean::<B>(model, device)?;
        let policy = GaussianPolicy::new(&config.actor, model, mean, None, device)?;
        Ok(Box::new(policy))
    }
}

impl Objective for Gcbc {
    type Batch = TransitionBatch;
    type Networks<B: Backend> = Mlp<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Mlp<B> {
        self.config.actor.network(&self.inputs, rng, device)
    }

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        self.inputs.transitions(self.config.goals, data, batch_size)
    }

    /// Numbers: `actor/loss`; `actor/bc_log_prob`, its negative; `actor/mse`, the mean squared error per action entry.
    fn losses<I: Backend, C: Backend<Device = I::Device>>(
        &self,
        batch: &TransitionBatch,
        _rng: &mut Rng,
        networks: &Mlp<C>,
        given: &Given<'_, I, Mlp<I>>,
        _lift: impl Fn(Tensor<I, 2>) -> Tensor<C, 2>,
    ) -> Losses<C> {
        let table = |tables: &[&[f32]]| Table::side_by_side(batch.size, tables);
        let tables = [
            table(&[&batch.observations, &batch.actor_goals]),
            table(&[&batch.actions]),
        ];
        let [seen, actions] = upload(tables, given.device);
        let difference = networks.forward(seen) - actions;
        let mse = (difference.clone() * difference).mean();
        let (actor, dim) = (&self.config.actor, self.inputs.action_dim());
        let loss = actor.negative_log_probs(mse.clone(), dim);
        Losses {
            numbers: Numbers::new()
                .with("actor/loss", loss.clone())
                .with("actor/bc_log_prob", loss.neg())
                .with("actor/mse", mse.clone()),
            total: actor.imitation_loss(mse, dim),
        }
    }

    fn model<B: Backend>(&self, networks: &Mlp<B>) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, networks);
        self.inputs
            .model(None, self.config.inference.settings(), weights)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::backend::{Autodiff, Flex};
    use burn::module::Module;
    use ndarray::{Array2, s};
    use rand::RngExt;
    use telic_datasets::{Dataset, Episode, Metadata, NormalizerKind};
    use telic_seed::Seed;

    use super::*;
    use crate::{Agent, Metrics, test_agents};

    type A = Autodiff<Flex>;

    fn task(observation_dim: usize, action_dim: usize) -> TrainingTask {
        let episodes: Vec<Episode> = (0..8)
            .map(|episode| {
                let mut rng = Seed::new(7).index(episode).rng();
                let mut draw = |cols| {
                    Array2::from_shape_simple_fn((12, cols), || rng.random_range(-1.0_f32..1.0))
                };
                Episode {
                    observations: draw(observation_dim),
                    actions: draw(action_dim),
                    ..Episode::default()
                }
            })
            .collect();
        let dataset = Arc::new(Dataset::from_episodes(&episodes, Metadata::default()).unwrap());
        let data = DataPart {
            dataset,
            episodes: (0..8).collect(),
        };
        TrainingTask {
            data,
            seed: Seed::new(3),
            steps: 500,
            batch_size: 64,
        }
    }

    fn small() -> GcbcConfig {
        let mut config = GcbcConfig::default();
        config.inputs.action_normalizer = NormalizerKind::MinMax;
        config.inputs.observation_normalizer = NormalizerKind::ZScore;
        config.actor.network.hidden = vec![64, 64];
        config
    }

    fn agent(config: &GcbcConfig) -> JointAgent<Gcbc, A> {
        Gcbc::new_agent::<A>(config, &task(5, 2), &Default::default()).unwrap()
    }

    fn batch(agent: &JointAgent<Gcbc, A>, seed: u64) -> TransitionBatch {
        let mut sampler = agent.sampler(&task(5, 2).data, 64).unwrap();
        let mut batch = sampler.new_batch();
        sampler.sample(&mut Seed::new(seed).rng(), &mut batch);
        batch
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (observation_dim, action_dim, count) in [
            (2, 2, 528_898),
            (29, 8, 559_624),
            (69, 21, 607_253),
            (42, 8, 572_936),
            (28, 5, 557_061),
            (37, 5, 566_277),
            (40, 5, 569_349),
            (55, 5, 584_709),
        ] {
            let agent = Gcbc::new_agent::<A>(
                &GcbcConfig::default(),
                &task(observation_dim, action_dim),
                &Default::default(),
            );
            assert_eq!(agent.unwrap().networks().num_params(), count);
        }
    }

    #[test]
    fn initial_weights_are_those_of_the_release() {
        let heads = ["output.weight"];
        test_agents::check_initial_weights::<Gcbc>(&GcbcConfig::default(), &heads);
    }

    #[test]
    fn sixty_four_transitions_are_learned_by_heart() {
        let mut agent = agent(&GcbcConfig {
            optimizer: AdamConfig {
                lr: 3e-3,
                ..Default::default()
            },
            ..small()
        });
        let transitions = batch(&agent, 1);
        let mse = |metrics: &Metrics| metrics.get("actor/mse").unwrap();
        let mut rng = Seed::new(1).rng();
        let before = mse(&agent.evaluate(&transitions, &mut rng));
        let first = agent.update(&transitions, &mut rng).read();
        assert!(
            (mse(&first) - before).abs() < 1e-6,
            "an update reports the error before its step"
        );
        for _ in 0..400 {
            agent.update(&transitions, &mut rng);
        }
        let after = mse(&agent.evaluate(&transitions, &mut rng));
        assert!(after < 0.02 * before, "{before} to {after}");
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<Gcbc>(&small());
    }

    fn policy() -> GaussianPolicy<Flex> {
        // Wider than what the matrix product sums up in one go.
        let mut config = small();
        config.actor.network.hidden = vec![700, 600];
        config.actor.output_scale = 1.0;
        let (model, device) = (agent(&config).model(), Default::default());
        let mean = config.actor.load_mean(&model, &device).unwrap();
        GaussianPolicy::new(&config.actor, &model, mean, None, &device).unwrap()
    }

    fn draw(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
        let mut rng = Seed::new(seed).rng();
        Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
    }

    #[test]
    fn a_row_acts_the_same_alone_and_among_others() {
        let mut policy = policy();
        for temperature in ["0.0", "0.3"] {
            let text = format!("[inference]\ntemperature = {temperature}");
            policy.configure(&toml::from_str(&text).unwrap()).unwrap();
            let (observations, goals) = (draw(5, 5, 1), draw(5, 5, 2));
            let streams = || {
                (0..5)
                    .map(|row| Seed::new(4).index(row).rng())
                    .collect::<Vec<_>>()
            };
            let mut together = Array2::zeros((5, 2));
            policy.reset(5);
            policy
                .act(
                    observations.view(),
                    goals.view(),
                    &mut streams(),
                    &mut together,
                )
                .unwrap();
            policy.reset(1);
            for row in 0..5 {
                let part = s![row..=row, ..];
                let mut alone = Array2::zeros((1, 2));
                let mut rngs = vec![streams().swap_remove(row)];
                policy
                    .act(
                        observations.slice(part),
                        goals.slice(part),
                        &mut rngs,
                        &mut alone,
                    )
                    .unwrap();
                assert_eq!(alone.row(0), together.row(row));
            }
        }
    }

    #[test]
    fn temperature_spreads_actions_around_the_mean() {
        let mut policy = policy();
        let act = |policy: &mut GaussianPolicy<Flex>, seed| {
            let mut action = Array2::zeros((1, 2));
            let mut rngs = vec![Seed::new(seed).rng()];
            policy
                .act(
                    draw(1, 5, 1).view(),
                    draw(1, 5, 2).view(),
                    &mut rngs,
                    &mut action,
                )
                .unwrap();
            action
        };
        let mean = act(&mut policy, 1);
        assert_eq!(act(&mut policy, 2), mean);
        policy
            .configure(&toml::from_str("[inference]\ntemperature = 0.01").unwrap())
            .unwrap();
        let near = act(&mut policy, 1);
        assert_ne!(near, mean);
        assert!(
            (&near - &mean)
                .iter()
                .all(|difference| difference.abs() < 0.1)
        );
        let error = policy
            .configure(&toml::from_str("[inference]\ntemperature = -1.0").unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`inference.temperature` is -1.0; expected 0 or a positive number"
        );
        assert!(
            policy
                .act(
                    draw(1, 4, 1).view(),
                    draw(1, 5, 2).view(),
                    &mut [Seed::new(1).rng()],
                    &mut mean.clone()
                )
                .is_err()
        );
    }

    #[test]
    fn defaults_are_valid_and_survive_toml() {
        let config = GcbcConfig::default();
        let mut problems = Problems::new();
        config.validate(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(
            toml::from_str::<GcbcConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
    }
}
