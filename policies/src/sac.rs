//! SAC: soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), for experts that learn online from a reward.
//!
//! With a squashed Gaussian actor, two critics Q₁ and Q₂ and their slow copies Q̄, a temperature α, a reward r and a mask m
//! (0 where the episode is over):
//!
//! ```text
//! π(a | s): a = tanh u, u = μ(s) + σ(s) ε, ε ~ N(0, 1), ln σ cut off at −5 and 2
//! ln π(a | s) = Σ −ε²/2 − ln σ − (ln 2π)/2 − 2 (ln 2 − u − ln(1 + e^{−2u}))
//! L_Q = mean (Q₁ − y)² + (Q₂ − y)² at (s, a),  y = r + γ m (min(Q̄₁, Q̄₂)(s', a') − α ln π(a' | s')), a' ~ π(s')
//! L_π = mean α ln π(a | s) − min(Q₁, Q₂)(s, a),  a ~ π(s)
//! L_α = α mean(−ln π(a | s) − H),  H = A times `target_entropy` for A action entries
//! Q̄ ← ρ Q + (1 − ρ) Q̄ with the Q before the step
//! ```
//!
//! The gradient of each loss reaches its own networks only.

use burn::module::{AutodiffModule, Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_seed::{Rng, Seed};

use crate::ema::SlowCopy;
use crate::losses::{each, least_of, regression_loss, softplus};
use crate::module_state::{insert_module, tensor_values};
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig, tanh};
use crate::problems::Validate;
use crate::replay::ReplayBatch;
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{Numbers, PolicyError, Problems, TensorMap};

/// The table `sac`. The defaults are those of the locomotion experts of OGBench (Park et al. 2025).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacConfig {
    /// The network of the actor, which gives mean and ln σ, and those of the critics.
    pub network: MlpConfig,
    /// Whether the critics have layer norm.
    pub critic_layer_norm: bool,
    /// Factor on the variance of the initial weights of the actor's output layer.
    pub output_scale: f32,
    /// γ.
    pub discount: f64,
    /// ρ, share of the new weights in the slow critics per update.
    pub target_rate: f64,
    /// Entropy per action entry that the temperature aims at.
    pub target_entropy: f64,
    /// α before the first update.
    pub initial_temperature: f64,
    /// Adam, one for all networks and the temperature.
    pub optimizer: AdamConfig,
}

impl Default for SacConfig {
    fn default() -> Self {
        Self {
            network: MlpConfig {
                hidden: vec![256; 2],
                ..MlpConfig::default()
            },
            critic_layer_norm: false,
            output_scale: 0.01,
            discount: 0.99,
            target_rate: 0.005,
            target_entropy: -0.5,
            initial_temperature: 1.0,
            optimizer: AdamConfig {
                lr: 1e-4,
                ..AdamConfig::default()
            },
        }
    }
}

impl Validate for SacConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.parts(&[("network", &self.network), ("optimizer", &self.optimizer)]);
        let unit = |value: f64| value > 0.0 && value < 1.0;
        let expected = "a number between 0 and 1";
        problems.check(unit(self.discount), "discount", self.discount, expected);
        let holds = unit(self.target_rate);
        problems.check(holds, "target_rate", self.target_rate, expected);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        for (key, value) in [
            ("output_scale", f64::from(self.output_scale)),
            ("initial_temperature", self.initial_temperature),
        ] {
            problems.check(positive(value), key, value, "a positive number");
        }
        let holds = self.target_entropy.is_finite();
        let value = self.target_entropy;
        problems.check(holds, "target_entropy", value, "a finite number");
    }
}

/// Everything that learns.
#[derive(Module, Debug)]
pub struct Networks<B: Backend> {
    actor: Mlp<B>,
    critics: Vec<Mlp<B>>,
    /// ln α, `[1]`.
    log_temperature: Param<Tensor<B, 1>>,
}

/// Limits of ln σ.
const LOG_STD: [f64; 2] = [-5.0, 2.0];
/// Where the actor lies in a saved expert.
pub const ACTOR: &str = "actor";
/// Where the slow critics lie in a saved state.
const SLOW: &str = "slow";

/// Mean and ln σ, `[rows, action_dim]` each.
fn heads<B: Backend>(actor: &Mlp<B>, observations: Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
    let out = actor.forward(observations);
    let [rows, width] = out.dims();
    let log_std = out.clone().slice([0..rows, width / 2..width]);
    [
        out.slice([0..rows, 0..width / 2]),
        log_std.clamp(LOG_STD[0], LOG_STD[1]),
    ]
}

/// Actions `[rows, action_dim]` and their ln π `[rows, 1]` for noise ε of the same shape.
fn squashed<B: Backend>(
    [mean, log_std]: [Tensor<B, 2>; 2],
    noise: Tensor<B, 2>,
) -> [Tensor<B, 2>; 2] {
    let raw = mean + log_std.clone().exp() * noise.clone();
    let half_log_tau = 0.5 * std::f64::consts::TAU.ln();
    let squash = (softplus(raw.clone() * -2.0) + raw.clone() - std::f64::consts::LN_2) * 2.0;
    let log_probs = squash - noise.clone() * noise / 2.0 - log_std - half_log_tau;
    [tanh(raw), log_probs.sum_dim(1)]
}

/// Standard normal draws.
fn normals(len: usize, rng: &mut Rng) -> Vec<f32> {
    (0..len).map(|_| StandardNormal.sample(rng)).collect()
}

/// The learner.
pub struct Sac<B: AutodiffBackend> {
    config: SacConfig,
    action_dim: usize,
    trained: Trained<B, Networks<B>>,
    slow: SlowCopy<Vec<Mlp<B::InnerBackend>>>,
}

impl<B: AutodiffBackend> Sac<B> {
    /// A learner that has made no update; initial weights come from `seed.child("init")`.
    pub fn new(
        config: &SacConfig,
        observation_dim: usize,
        action_dim: usize,
        seed: Seed,
        device: &B::Device,
    ) -> Self {
        let mut rng = seed.child("init").rng();
        let critic = MlpConfig {
            layer_norm: config.critic_layer_norm,
            ..config.network.clone()
        };
        let temperature = config.initial_temperature.ln() as f32;
        let networks = Networks {
            actor: Mlp::new(
                &config.network,
                observation_dim,
                2 * action_dim,
                config.output_scale,
                &mut rng,
                device,
            ),
            critics: Mlp::two(&critic, observation_dim + action_dim, 1, &mut rng, device),
            log_temperature: Param::from_tensor(Tensor::from_floats([temperature], device)),
        };
        Self {
            slow: SlowCopy::new(networks.valid().critics),
            // The rate is constant, so the length of the run is of no matter.
            trained: Trained::new(networks, config.optimizer, LrSchedule::default(), 1, device),
            config: config.clone(),
            action_dim,
        }
    }

    /// Draws an action for each of some observations, `[rows, observation_dim]` → `[rows, action_dim]`.
    pub fn act(&self, observations: &[f32], rows: usize, rng: &mut Rng) -> Vec<f32> {
        let actor = self.trained.module().actor.valid();
        let device = self.trained.device();
        let tables = [
            Table::side_by_side(rows, &[observations]),
            Table::side_by_side(rows, &[&normals(rows * self.action_dim, rng)]),
        ];
        let [observations, noise] = upload::<B::InnerBackend, 2>(tables, device);
        let [actions, _] = squashed(heads(&actor, observations), noise);
        tensor_values(actions)
    }

    /// One step down all losses. Numbers: `critic/loss`, `critic/q_mean`, `actor/loss`, `actor/entropy`, `temperature/loss`,
    /// `temperature/alpha`.
    pub fn update(&mut self, batch: &ReplayBatch, rng: &mut Rng) -> Numbers<B::InnerBackend> {
        let (total, numbers) = self.losses(batch, rng);
        let mut numbers = numbers.inner();
        let critics = self.trained.module().critics.clone();
        self.slow.follow(&critics, 1.0 - self.config.target_rate);
        // The step changes weights in place where nothing else holds them.
        drop(critics);
        self.trained.step(total, &mut numbers);
        numbers
    }

    fn losses(&self, batch: &ReplayBatch, rng: &mut Rng) -> (Tensor<B, 1>, Numbers<B>) {
        let rows = batch.rewards.len();
        let entries = rows * self.action_dim;
        let (now_noise, next_noise) = (normals(entries, rng), normals(entries, rng));
        let table = |tables: &[&[f32]]| Table::side_by_side(rows, tables);
        let tables = [
            table(&[&batch.observations]),
            table(&[&batch.observations, &batch.actions]),
            table(&[&batch.next_observations]),
            table(&[&batch.rewards]),
            table(&[&batch.masks]),
            table(&[&now_noise]),
            table(&[&next_noise]),
        ];
        let [now, acted, next, rewards, masks, now_noise, next_noise] =
            upload::<B::InnerBackend, 7>(tables, self.trained.device());
        let lift = Tensor::<B, 2>::from_inner;
        let networks = self.trained.module();
        let given = networks.valid();
        let temperature = given.log_temperature.val().exp();

        let [next_actions, next_log_probs] =
            squashed(heads(&given.actor, next.clone()), next_noise);
        let next_q = least_of(&each(
            self.slow.get(),
            &Tensor::cat(vec![next, next_actions], 1),
        ));
        let soft = next_q - next_log_probs * temperature.clone().unsqueeze::<2>();
        let target = lift(rewards + masks * soft * self.config.discount);
        let q = each(&networks.critics, &lift(acted));
        let critic_loss = regression_loss(&q, &target);

        let now = lift(now);
        let [actions, log_probs] = squashed(heads(&networks.actor, now.clone()), lift(now_noise));
        let critics = networks.critics.clone().no_grad();
        let actor_q = least_of(&each(&critics, &Tensor::cat(vec![now, actions], 1)));
        let weight = Tensor::<B, 1>::from_inner(temperature.clone()).unsqueeze::<2>();
        let actor_loss = (log_probs.clone() * weight - actor_q).mean();

        let entropy = log_probs.detach().mean().neg();
        let aim = self.config.target_entropy * self.action_dim as f64;
        let temperature_loss = networks.log_temperature.val().exp() * (entropy.clone() - aim);

        let numbers = Numbers::new()
            .with("critic/loss", critic_loss.clone())
            .with("critic/q_mean", q[0].clone().mean())
            .with("actor/loss", actor_loss.clone())
            .with("actor/entropy", entropy)
            .with("temperature/loss", temperature_loss.clone())
            .with("temperature/alpha", Tensor::from_inner(temperature));
        (critic_loss + actor_loss + temperature_loss, numbers)
    }

    /// Everything that the next update depends on.
    pub fn state(&self) -> TensorMap {
        let mut state = self.trained.state();
        self.slow.insert_into(&mut state, SLOW);
        state
    }

    /// Takes over a saved [`state`](Self::state).
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let slow = self.slow.loaded(state, SLOW)?;
        self.trained.load_state(state)?;
        self.slow = slow;
        Ok(())
    }

    /// The weights of the actor under [`ACTOR`]: its mean and ln σ are the two halves of the output layer.
    pub fn actor(&self) -> TensorMap {
        let mut weights = TensorMap::new();
        insert_module(&mut weights, ACTOR, &self.trained.module().actor.valid());
        weights
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::optim::GradientsParams;
    use burn::tensor::TensorData;

    use super::*;
    use crate::module_state::parameter_names;

    fn batch(rows: usize) -> ReplayBatch {
        let mut rng = Seed::new(4).rng();
        ReplayBatch {
            observations: normals(rows * 3, &mut rng),
            actions: normals(rows * 2, &mut rng),
            rewards: normals(rows, &mut rng),
            masks: (0..rows).map(|row| (row % 2) as f32).collect(),
            next_observations: normals(rows * 3, &mut rng),
        }
    }

    fn sac() -> Sac<Autodiff<Flex>> {
        let config = SacConfig {
            network: MlpConfig {
                hidden: vec![16, 16],
                ..MlpConfig::default()
            },
            ..SacConfig::default()
        };
        Sac::new(&config, 3, 2, Seed::new(0), &Default::default())
    }

    #[test]
    fn log_probabilities_are_those_of_the_squashed_density() {
        let device = Default::default();
        let row = |values: [f32; 2]| {
            Tensor::<Flex, 2>::from_data(TensorData::new(values.to_vec(), [1, 2]), &device)
        };
        let (mean, log_std, noise) = ([0.3, -1.2], [-0.5, 0.4], [0.7, -1.1]);
        let [actions, log_probs] = squashed([row(mean), row(log_std)], row(noise));
        let mut expected = 0.0;
        for i in 0..2 {
            let (mean, log_std, noise) = (
                f64::from(mean[i]),
                f64::from(log_std[i]),
                f64::from(noise[i]),
            );
            let std = log_std.exp();
            let raw = mean + std * noise;
            let action = raw.tanh();
            let found = f64::from(tensor_values(actions.clone())[i]);
            assert!((found - action).abs() < 1e-6, "{found}, not {action}");
            let density =
                (-0.5 * ((raw - mean) / std).powi(2)).exp() / (std * std::f64::consts::TAU.sqrt());
            expected += (density / (1.0 - action * action)).ln();
        }
        let found = f64::from(tensor_values(log_probs)[0]);
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
    }

    /// Far out, `1 − tanh²` is 0 in `f32` and its logarithm is not finite; the form that is used is.
    #[test]
    fn log_probabilities_are_finite_where_tanh_saturates() {
        let device = Default::default();
        let one = |value: f32| {
            Tensor::<Flex, 2>::from_data(TensorData::new(vec![value], [1, 1]), &device)
        };
        for mean in [-60.0, 60.0] {
            let [_, log_probs] = squashed([one(mean), one(0.0)], one(0.0));
            let found = tensor_values(log_probs)[0];
            let expected = 2.0 * 60.0 - 2.0 * std::f32::consts::LN_2 - 0.918_938_5;
            assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
        }
    }

    #[test]
    fn each_loss_moves_its_own_networks_only() {
        for (loss, owner) in [
            ("critic/loss", "critics"),
            ("actor/loss", "actor"),
            ("temperature/loss", "log_temperature"),
        ] {
            let sac = sac();
            let (_, numbers) = sac.losses(&batch(8), &mut Seed::new(1).rng());
            let loss = numbers.on_device(loss).unwrap();
            let module = sac.trained.module();
            let gradients = GradientsParams::from_grads(loss.backward(), module);
            let mut moved = 0;
            for (id, name) in parameter_names::<Autodiff<Flex>, _>(module) {
                let matrix = gradients.get::<Flex, 2>(id).map(tensor_values);
                let vector = gradients.get::<Flex, 1>(id).map(tensor_values);
                let has = matrix
                    .or(vector)
                    .is_some_and(|g| g.iter().any(|g| *g != 0.0));
                assert!(!has || name.starts_with(owner), "{owner}: {name}");
                moved += usize::from(has);
            }
            assert!(moved > 0, "{owner}");
        }
    }

    /// With γ near 0, one action entry and reward −(a − 0.5)², the most likely action is 0.5.
    #[test]
    fn the_best_action_is_found() {
        let mut config = SacConfig {
            network: MlpConfig {
                hidden: vec![32, 32],
                ..MlpConfig::default()
            },
            discount: 0.01,
            initial_temperature: 0.1,
            target_entropy: -2.0,
            ..SacConfig::default()
        };
        config.optimizer.lr = 3e-3;
        let device = Default::default();
        let mut sac = Sac::<Autodiff<Flex>>::new(&config, 1, 1, Seed::new(0), &device);
        for k in 0..600 {
            let mut rng = Seed::new(2).index(k).rng();
            let actions: Vec<f32> = normals(64, &mut rng).iter().map(|x| x.tanh()).collect();
            let batch = ReplayBatch {
                observations: vec![1.0; 64],
                rewards: actions.iter().map(|a| -(a - 0.5).powi(2)).collect(),
                actions,
                masks: vec![1.0; 64],
                next_observations: vec![1.0; 64],
            };
            sac.update(&batch, &mut rng);
        }
        let actor = sac.trained.module().actor.valid();
        let seen = Tensor::<Flex, 2>::ones([2, 1], &device);
        let [mean, _] = heads(&actor, seen);
        let action = tensor_values(mean)[0].tanh();
        assert!((action - 0.5).abs() < 0.1, "{action}");
    }
}
