//! CRL: contrastive reinforcement learning (Eysenbach et al. 2022), as in OGBench (Park et al. 2025).
//!
//! Two pairs of embeddings φ_k(s, a), ψ_k(g) of width K tell which goal of a batch belongs to which transition; goals are later
//! observations of the same episode, with geometric distances:
//!
//! ```text
//! l_ij = φ_k(s_i, a_i) · ψ_k(g_j) / √K
//! L_Q = mean_ijk of the binary cross-entropy of l_ij against i = j
//! L_π = −mean q / (mean |q| + 1e−6) − α mean log π(a | s, g_a),  q = min_k φ_k(s, clip μ(s, g_a)) · ψ_k(g_a) / √K
//! ```
//!
//! A logit is the log of how much likelier the goal is after the action than at any time. The embeddings are constants in L_π.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig, TransitionBatch};
use telic_seed::{Rng, Seed};

use crate::gaussian::{ACTOR, GaussianConfig, GaussianInference, GaussianPolicy, Head, halves};
use crate::inputs::{InputConfig, Inputs, check_single_steps};
use crate::joint::{Given, JointAgent, JointTraining, Objective};
use crate::losses::{ActorLoss, Losses, check_alpha, least_of, mean_of, softplus};
use crate::module_state::{insert_module, load_module};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::tables::{Table, upload};
use crate::{
    Algorithm, BatchSampler, DataPart, Model, Numbers, Policy, PolicyConfig, PolicyError,
    PolicySpec, Problems, TensorMap, TrainingTask,
};

/// CRL in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Crl>(
    "crl",
    "CRL",
    "contrastive learning of which goals follow an action; the actor climbs it close to the data",
    "Eysenbach et al. 2022, arXiv:2206.07568; settings of OGBench, Park et al. 2025, arXiv:2410.20092",
);

/// Settings of CRL. The defaults are those of OGBench for states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrlConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals, and γ of their distances.
    pub goals: HindsightConfig,
    /// The network of each embedding: three layers of 512 with layer norm.
    pub embedding: MlpConfig,
    /// K.
    pub embedding_dim: usize,
    /// The Gaussian.
    pub actor: GaussianConfig,
    /// α. Published: mazes 0.03 (`point-maze`), cubes 3.0 (play) and 0.1 (noisy). Lower is greedier.
    pub alpha: f64,
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for CrlConfig {
    fn default() -> Self {
        // Park et al. 2025, reference release.
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig {
                value: GoalMix {
                    current: 0.0,
                    trajectory: 1.0,
                    random: 0.0,
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
            alpha: 0.1,
            optimizer: AdamConfig::default(),
            lr_schedule: LrSchedule::default(),
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for CrlConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("embedding", &self.embedding),
            ("actor", &self.actor),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("inference", &self.inference),
        ]);
        check_single_steps(problems, &self.goals);
        let dim = self.embedding_dim;
        problems.check(dim >= 1, "embedding_dim", dim, "at least 1");
        check_alpha(problems, "alpha", self.alpha);
    }

    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        Some((&self.goals, &["negative_rewards"]))
    }
}

/// The algorithm, with its configuration fitted to data.
pub struct Crl {
    config: CrlConfig,
    inputs: Inputs,
}

impl Algorithm for Crl {
    type Config = CrlConfig;
    type Agent<B: AutodiffBackend> = JointAgent<Self, B>;

    fn new_agent<B: AutodiffBackend>(
        config: &CrlConfig,
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
        config: &CrlConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let critics = critics::<B>(config, &inputs, &mut Seed::new(0).rng(), device);
        let critics = load_module(&model.weights, CRITICS, critics)?;
        let mean = config.actor.load_mean::<B>(model, device)?;
        let actor = config.actor.load_mean::<B>(model, device)?;
        // The value of what the policy would do.
        let value: Head<B> = Box::new(move |pairs| {
            let actions = actor(pairs.clone()).clamp(-1.0, 1.0);
            let [observations, goals] = halves(pairs);
            let acted = Tensor::cat(vec![observations, actions], 1);
            least_of(&logits_of_pairs(&critics, &acted, &goals))
        });
        let policy = GaussianPolicy::new(&config.actor, model, mean, Some(value), device)?;
        Ok(Box::new(policy))
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    critics: Vec<Critic<B>>,
    actor: Mlp<B>,
}

/// One pair of embeddings.
#[derive(Module, Debug)]
pub struct Critic<B: Backend> {
    /// φ: observation and action side by side.
    acted: Mlp<B>,
    /// ψ.
    goal: Mlp<B>,
}

const CRITICS: &str = "critics";

fn critics<B: Backend>(
    config: &CrlConfig,
    inputs: &Inputs,
    rng: &mut Rng,
    device: &B::Device,
) -> Vec<Critic<B>> {
    let (seen, dim) = (inputs.observation_dim(), config.embedding_dim);
    (0..2)
        .map(|_| Critic {
            acted: Mlp::new(
                &config.embedding,
                seen + inputs.action_dim(),
                dim,
                1.0,
                rng,
                device,
            ),
            goal: Mlp::new(&config.embedding, seen, dim, 1.0, rng, device),
        })
        .collect()
}

/// `φ_i · ψ_j / √K` of embeddings `[rows, K]` → `[rows, rows]`.
fn logits<B: Backend>(acted: Tensor<B, 2>, goals: Tensor<B, 2>) -> Tensor<B, 2> {
    let scale = (acted.dims()[1] as f64).sqrt();
    crate::nn::fused::product(acted, goals.transpose()) / scale
}

/// `φ_i · ψ_i / √K`, `[rows, 1]`, of each critic.
fn logits_of_pairs<B: Backend>(
    critics: &[Critic<B>],
    acted: &Tensor<B, 2>,
    goals: &Tensor<B, 2>,
) -> Vec<Tensor<B, 2>> {
    critics
        .iter()
        .map(|critic| {
            let product = critic.acted.forward(acted.clone()) * critic.goal.forward(goals.clone());
            let scale = (product.dims()[1] as f64).sqrt();
            product.sum_dim(1) / scale
        })
        .collect()
}

/// Mean binary cross-entropy of logits `[rows, rows]` against the identity.
fn contrastive_loss<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 1> {
    let [rows, _] = logits.dims();
    let identity = Tensor::<B, 2>::eye(rows, &logits.device());
    mean_of_table(softplus(logits.clone()) - logits * identity)
}

/// Mean of a table, row by row first: a sum of so many numbers at once would be split by threads.
fn mean_of_table<B: Backend>(table: Tensor<B, 2>) -> Tensor<B, 1> {
    table.mean_dim(1).mean()
}

impl Objective for Crl {
    type Batch = TransitionBatch;
    type Networks<B: Backend> = Networks<B>;

    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Networks<B> {
        Networks {
            critics: critics(&self.config, &self.inputs, rng, device),
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

    /// Numbers: `critic/loss`; `critic/positive` and `critic/mean`, the mean logit of a transition with its own goal and with any;
    /// `actor/loss`; `actor/q_loss`; `actor/mse`, the mean squared error of the mean per action entry.
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
            table(&[&batch.observations, &batch.actions]),
            table(&[&batch.value_goals]),
            table(&[&batch.observations, &batch.actor_goals]),
            table(&[&batch.actions]),
        ];
        let [acted, goals, actor, actions] = upload::<C, 4>(tables, given.device);

        let of_critics: Vec<_> = networks
            .critics
            .iter()
            .map(|critic| {
                let embedded = critic.acted.forward(acted.clone());
                logits(embedded, critic.goal.forward(goals.clone()))
            })
            .collect();
        let losses: Vec<_> = of_critics.iter().cloned().map(contrastive_loss).collect();
        let critic_loss = mean_of(&losses);
        let identity = Tensor::<C, 2>::eye(batch.size, given.device);
        let own = of_critics[0].clone().detach() * identity;
        let positive = own.sum_dim(1).mean();

        let means = networks.actor.forward(actor.clone());
        let critics = networks.critics.clone().no_grad();
        let values = |means| {
            let [observations, goals] = halves(actor);
            let acted = Tensor::cat(vec![observations, means], 1);
            least_of(&logits_of_pairs(&critics, &acted, &goals))
        };
        let actor = ActorLoss::climbing(&config.actor, means, actions, config.alpha, values);
        Losses {
            numbers: Numbers::new()
                .with("critic/loss", critic_loss.clone())
                .with("critic/positive", positive)
                .with("critic/mean", mean_of_table(of_critics[0].clone()))
                .with("actor/loss", actor.loss.clone())
                .with("actor/q_loss", actor.guide)
                .with("actor/mse", actor.mse),
            total: critic_loss + actor.loss,
        }
    }

    fn model<B: Backend>(&self, networks: &Networks<B>) -> Model {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &networks.actor);
        insert_module(&mut weights, CRITICS, &networks.critics);
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
    use crate::test_agents::{self, answers, mean_over};

    fn small() -> CrlConfig {
        let mut config = CrlConfig {
            embedding_dim: 16,
            alpha: 0.03,
            ..Default::default()
        };
        config.goals.discount = 0.9;
        config.embedding.hidden = vec![48, 48];
        config.actor.network.hidden = vec![48, 48];
        config.optimizer.lr = 2e-3;
        config
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (observation_dim, action_dim, count) in [
            (2, 2, 3_701_250),
            (29, 8, 3_793_416),
            (69, 21, 3_936_277),
            (42, 8, 3_833_352),
            (28, 5, 3_785_733),
            (37, 5, 3_813_381),
            (40, 5, 3_822_597),
            (55, 5, 3_868_677),
        ] {
            let config = CrlConfig::default();
            let found = test_agents::parameters::<Crl>(&config, observation_dim, action_dim);
            assert_eq!(found, count);
        }
    }

    #[test]
    fn the_loss_matches_published_values() {
        let device = Default::default();
        let acted =
            Tensor::<Flex, 2>::from_floats([[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 1.0]], &device);
        let goals =
            Tensor::<Flex, 2>::from_floats([[1.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 0.0]], &device);
        let logits = logits(acted, goals);
        assert_eq!(tensor_values(logits.clone()), [1.5, 0.0, 0.0, 1.0]);
        let loss = tensor_values(contrastive_loss(logits))[0];
        assert!((loss - 0.475_242).abs() < 1e-6, "{loss}");
        let far = Tensor::<Flex, 2>::from_floats([[200.0, -200.0], [-300.0, 500.0]], &device);
        assert_eq!(tensor_values(contrastive_loss(far)), [0.0]);
    }

    #[test]
    fn initial_weights_are_those_of_the_release() {
        let heads = ["actor.output.weight"];
        test_agents::check_initial_weights::<Crl>(&CrlConfig::default(), &heads);
    }

    #[test]
    fn each_loss_asks_the_networks_that_it_should() {
        let config = small();
        let agent = test_agents::moved::<Crl>(&config, 20);
        let batch = test_agents::batch(&agent, 50);
        let networks = agent.networks().valid();
        let (now, actor_goals) = (&batch.observations[..], &batch.actor_goals[..]);
        let of = |network: &Mlp<Flex>, tables: &[&[f32]]| answers(network, batch.size, tables);
        let width = config.embedding_dim;
        let logit = |acted: &[f64], i: usize, goals: &[f64], j: usize| {
            let entries = acted[i * width..][..width].iter();
            let products = entries
                .zip(&goals[j * width..][..width])
                .map(|(a, b)| a * b);
            products.sum::<f64>() / (width as f64).sqrt()
        };
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();

        let means = of(&networks.actor, &[now, actor_goals]);
        let mean_actions: Vec<f32> = means.iter().map(|a| a.clamp(-1.0, 1.0) as f32).collect();
        let (mut critic_loss, mut q) = (0.0, vec![f64::INFINITY; batch.size]);
        for critic in &networks.critics {
            let acted = of(&critic.acted, &[now, &batch.actions]);
            let goals = of(&critic.goal, &[&batch.value_goals]);
            let cross_entropy = |i: usize, j: usize| {
                let sign = if i == j { -1.0 } else { 1.0 };
                softplus(sign * logit(&acted, i, &goals, j))
            };
            let of_row = |i| mean_over(batch.size, |j| cross_entropy(i, j));
            critic_loss += mean_over(batch.size, of_row) / 2.0;

            let acted = of(&critic.acted, &[now, &mean_actions]);
            let goals = of(&critic.goal, &[actor_goals]);
            for (i, q) in q.iter_mut().enumerate() {
                *q = q.min(logit(&acted, i, &goals, i));
            }
        }
        let actor_loss = test_agents::ddpg_bc_loss(&means, &batch.actions, &q, config.alpha);

        test_agents::check_losses(
            agent.losses(&batch, &mut Seed::new(2).rng()),
            &[("critic/loss", critic_loss), ("actor/loss", actor_loss)],
        );
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        test_agents::check_gradients::<Crl>(
            &small(),
            &[("critic/loss", &["critics"]), ("actor/loss", &["actor"])],
        );
    }

    #[test]
    fn a_line_is_learned() {
        test_agents::check_line::<Crl>(&small(), 2000);
    }

    #[test]
    fn a_resumed_run_goes_on_to_the_same_bits() {
        test_agents::check_resume::<Crl>(&small());
    }
}
