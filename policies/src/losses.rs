//! Losses that value-based agents share.
//!
//! With E(w; x) = (τ if w ≥ 0 else 1 − τ) x², values V_i and their slow copies V̄_i, a reward r and a mask m towards a goal g:
//!
//! ```text
//! implicit value: Σ_i mean E(q − v̄; q_i − V_i(s, g)),  q = r + γ m min_i V̄_i(s', g),  v̄ = mean_i V̄_i(s, g),
//!                                                       q_i = r + γ m V̄_i(s', g)
//! upper value:    mean E(q̄ − V(s, g); q̄ − V(s, g)),  q̄ = min_k Q̄_k(s, g, a) of slow copies of critics
//! climbing:       −mean q / (mean |q| + 1e−6), the scale without gradient
//! weighting:      min(exp(α A), 100) for an advantage A
//! ```
//!
//! With n-step rewards (`goals.n_step`) s' is the state k ≤ n steps on, r the discounted sum of the rewards up to it and m = γᵏ⁻¹,
//! or 0 where the goal is reached on the way.
//!
//! [`ActorLoss`] turns the last two into losses of an actor. The first is that of HILP, HIQL and GCIVL, the second of GCIQL and of
//! HILP's skills, the third of DDPG+BC as in OGBench (Park et al. 2025), the fourth of AWR.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::gaussian::GaussianConfig;
use crate::nn::Mlp;
use crate::{Numbers, Problems};

/// Adds an expectile or a rate of slow copies that is out of range.
pub fn check_rates(problems: &mut Problems, expectile: f64, target_rate: f64) {
    let holds = expectile > 0.0 && expectile < 1.0;
    problems.check(holds, "expectile", expectile, "a number between 0 and 1");
    let holds = target_rate > 0.0 && target_rate <= 1.0;
    let expected = "a number above 0 and at most 1";
    problems.check(holds, "target_rate", target_rate, expected);
}

/// Adds a factor of an actor's loss that is out of range.
pub fn check_alpha(problems: &mut Problems, key: &str, alpha: f64) {
    let holds = alpha >= 0.0 && alpha.is_finite();
    problems.check(holds, key, alpha, "0 or a positive number");
}

/// The loss of a batch, and the numbers worth a look.
pub struct Losses<B: Backend> {
    /// What is minimised.
    pub total: Tensor<B, 1>,
    /// Its parts among them.
    pub numbers: Numbers<B>,
}

/// What each network of an ensemble makes of the same input.
pub fn each<B: Backend>(networks: &[Mlp<B>], input: &Tensor<B, 2>) -> Vec<Tensor<B, 2>> {
    networks
        .iter()
        .map(|network| network.forward(input.clone()))
        .collect()
}

/// The mean over some tensors of one shape.
pub fn mean_of<B: Backend, const D: usize>(tensors: &[Tensor<B, D>]) -> Tensor<B, D> {
    let sum = tensors.iter().cloned().reduce(|a, b| a + b);
    sum.expect("there is one at least") / tensors.len() as f64
}

/// The smallest of some tensors of one shape.
pub fn least_of<B: Backend, const D: usize>(tensors: &[Tensor<B, D>]) -> Tensor<B, D> {
    let least = tensors.iter().cloned().reduce(Tensor::min_pair);
    least.expect("there is one at least")
}

/// `mean E(weigher; error)`; the weigher has no gradient.
pub fn expectile_loss<B: Backend>(
    weigher: Tensor<B, 2>,
    error: Tensor<B, 2>,
    expectile: f64,
) -> Tensor<B, 1> {
    let above = weigher
        .detach()
        .greater_equal_elem(0.0)
        .float()
        .mul_scalar(2.0 * expectile - 1.0);
    ((above + (1.0 - expectile)) * error.clone() * error).mean()
}

/// `q̄ − V` and `mean E(q̄ − V; q̄ − V)` for q̄, the smallest of slow critics, and V, `[rows, 1]` each; `lift` makes a constant of q̄.
pub fn upper_value_loss<B: Backend, C: Backend>(
    slow_critics: &[Tensor<B, 2>],
    value: Tensor<C, 2>,
    expectile: f64,
    lift: impl Fn(Tensor<B, 2>) -> Tensor<C, 2>,
) -> (Tensor<C, 2>, Tensor<C, 1>) {
    let advantage = lift(least_of(slow_critics)) - value;
    let loss = expectile_loss(advantage.clone(), advantage.clone(), expectile);
    (advantage, loss)
}

/// `Σ_k mean (q_k − y)²` of an ensemble.
pub fn regression_loss<B: Backend>(values: &[Tensor<B, 2>], target: &Tensor<B, 2>) -> Tensor<B, 1> {
    let losses = values.iter().map(|value| {
        let error = value.clone() - target.clone();
        (error.clone() * error).mean()
    });
    losses
        .reduce(|a, b| a + b)
        .expect("there is one value at least")
}

/// What an implicit value learns from, `[rows, 1]` each; constants.
pub struct ValueTargets<B: Backend> {
    /// r, of one step or several.
    pub rewards: Tensor<B, 2>,
    /// m.
    pub masks: Tensor<B, 2>,
    /// V̄_i(s, g).
    pub slow_now: Vec<Tensor<B, 2>>,
    /// V̄_i(s', g).
    pub slow_next: Vec<Tensor<B, 2>>,
}

impl<B: Backend> ValueTargets<B> {
    /// q − v̄, and every q_i.
    fn advantage_and_targets(&self, discount: f64) -> (Tensor<B, 2>, Vec<Tensor<B, 2>>) {
        let target =
            |next: Tensor<B, 2>| self.rewards.clone() + self.masks.clone() * next * discount;
        let targets = self.slow_next.iter().cloned().map(target).collect();
        let advantage = target(least_of(&self.slow_next)) - mean_of(&self.slow_now);
        (advantage, targets)
    }

    /// The loss of the values `[rows, 1]`, of which there are as many as slow copies; `lift` makes constants of theirs.
    pub fn loss<C: Backend>(
        &self,
        values: &[Tensor<C, 2>],
        discount: f64,
        expectile: f64,
        lift: impl Fn(Tensor<B, 2>) -> Tensor<C, 2>,
    ) -> Tensor<C, 1> {
        let (advantage, targets) = self.advantage_and_targets(discount);
        let losses = values.iter().zip(targets).map(|(value, target)| {
            expectile_loss(
                lift(advantage.clone()),
                lift(target) - value.clone(),
                expectile,
            )
        });
        losses
            .reduce(|a, b| a + b)
            .expect("there is one value at least")
    }
}

/// `ln(1 + eˣ)`, entry by entry, without overflow.
pub fn softplus<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    relu(x.clone()) + (x.abs().neg().exp() + 1.0).log()
}

/// `−mean q / (mean |q| + 1e−6)`, the scale without gradient.
pub fn climbing_loss<B: Backend>(q: Tensor<B, 2>) -> Tensor<B, 1> {
    let scale = q.clone().detach().abs().mean() + 1e-6;
    q.mean().neg() / scale
}

/// `min(exp(α · advantage), 100)`.
pub fn advantage_weight<B: Backend>(advantage: Tensor<B, 2>, alpha: f64) -> Tensor<B, 2> {
    (advantage * alpha).clamp_max(100.0_f64.ln()).exp()
}

/// How an actor learns from values of actions, with a factor `alpha`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// [`ActorLoss::climbing`]: the gradient of the values through the action, with imitation as an anchor, as in OGBench (Park et al.
    /// 2025). A lower `alpha` is greedier.
    DdpgBc,
    /// Imitation weighted by [`advantage_weight`] (AWR, Peng et al. 2019, arXiv:1910.00177). A higher `alpha` is greedier.
    Awr,
}

/// The loss of a [Gaussian actor](crate::gaussian) with a fixed standard deviation.
pub struct ActorLoss<B: Backend> {
    /// What is minimised.
    pub loss: Tensor<B, 1>,
    /// The mean squared error of the mean per entry.
    pub mse: Tensor<B, 1>,
    /// What leads it beyond imitation: the mean advantage, or the climbing loss.
    pub guide: Tensor<B, 1>,
}

impl<B: Backend> ActorLoss<B> {
    /// AWR: imitation of `targets` weighted by the advantage, `[rows, 1]` and without gradient.
    pub fn weighted(
        actor: &GaussianConfig,
        means: Tensor<B, 2>,
        targets: Tensor<B, 2>,
        advantage: Tensor<B, 2>,
        alpha: f64,
    ) -> Self {
        let error = means - targets;
        let dim = error.dims()[1];
        let squares = error.clone() * error;
        let imitation = actor.negative_log_probs(squares.clone().mean_dim(1), dim);
        let weight = advantage_weight(advantage.clone(), alpha);
        Self {
            loss: (weight * imitation).mean(),
            mse: squares.mean(),
            guide: advantage.mean(),
        }
    }

    /// DDPG+BC: up the values `[rows, 1]` of the mean actions, with imitation of `targets` as an anchor. The values depend on
    /// nothing that learns but the actions.
    pub fn climbing(
        actor: &GaussianConfig,
        means: Tensor<B, 2>,
        targets: Tensor<B, 2>,
        alpha: f64,
        values: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Self {
        let error = means.clone() - targets;
        let dim = error.dims()[1];
        let mse = (error.clone() * error).mean();
        let guide = climbing_loss(values(means.clamp(-1.0, 1.0)));
        let imitation = actor.negative_log_probs(mse.clone(), dim);
        Self {
            loss: guide.clone() + imitation * alpha,
            mse,
            guide,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use super::*;
    use crate::module_state::tensor_values;
    use crate::test_agents::A;

    fn column(values: &[f32]) -> Tensor<Flex, 2> {
        let data = TensorData::new(values.to_vec(), [values.len(), 1]);
        Tensor::from_data(data, &Default::default())
    }

    fn near(found: Tensor<Flex, 1>, expected: f64) {
        let found = f64::from(tensor_values(found)[0]);
        assert!(
            (found - expected).abs() < 2e-5 * expected.abs().max(1.0),
            "{found}, not {expected}"
        );
    }

    #[test]
    fn expectiles_match_published_values() {
        for (expectile, expected) in [
            (0.5, [2.0, 2.0, 1.125, 0.045]),
            (0.7, [2.8, 1.2, 1.575, 0.027]),
            (0.9, [3.6, 0.4, 2.025, 0.009]),
            (0.95, [3.8, 0.2, 2.1375, 0.0045]),
        ] {
            let pairs = [(1.0, 2.0), (-1.0, 2.0), (0.0, -1.5), (-0.1, 0.3)];
            for ((weigher, error), expected) in pairs.into_iter().zip(expected) {
                near(
                    expectile_loss(column(&[weigher]), column(&[error]), expectile),
                    expected,
                );
            }
        }
    }

    #[test]
    fn implicit_values_match_published_values() {
        let loss = |[reward, mask]: [f32; 2],
                    next: [f32; 2],
                    now: [f32; 2],
                    online: [f32; 2],
                    expectile| {
            let two = |values: [f32; 2]| values.map(|value| column(&[value])).to_vec();
            let targets = ValueTargets {
                rewards: column(&[reward]),
                masks: column(&[mask]),
                slow_now: two(now),
                slow_next: two(next),
            };
            targets.loss(&two(online), 0.99, expectile, |constant| constant)
        };
        let step = [-1.0, 1.0];
        // GCIVL of the reference release.
        near(
            loss(step, [-10.0, -12.0], [-13.0, -12.5], [-12.8, -12.2], 0.9),
            0.407_24,
        );
        near(
            loss(step, [-10.5, -11.0], [-13.0, -12.5], [-12.8, -12.2], 0.9),
            1.863_112_5,
        );
        // HILP.
        for (expectile, expected) in [(0.5, 0.130_05), (0.95, 0.013_005)] {
            near(
                loss(step, [-4.0, -5.0], [-5.5, -6.1], [-5.2, -6.4], expectile),
                expected,
            );
        }
        for (expectile, expected) in [(0.5, 2.684_25), (0.95, 0.268_425)] {
            near(
                loss(step, [-6.0, -7.0], [-5.5, -6.1], [-5.2, -6.4], expectile),
                expected,
            );
        }
        for (expectile, expected) in [(0.5, 0.17), (0.95, 0.323)] {
            near(
                loss(
                    [0.0, 0.0],
                    [-4.0, -5.0],
                    [-0.4, -0.6],
                    [-0.3, -0.5],
                    expectile,
                ),
                expected,
            );
        }
    }

    #[test]
    fn upper_values_match_published_values() {
        let slow_critics = [column(&[-9.0]), column(&[-9.5])];
        for (value, expected, slope) in [(-10.0, 0.225, -0.9), (-9.0, 0.025, 0.1)] {
            let value = Tensor::<A, 2>::from_inner(column(&[value])).require_grad();
            let lift = Tensor::<A, 2>::from_inner;
            let (advantage, loss) = upper_value_loss(&slow_critics, value.clone(), 0.9, lift);
            near((advantage + value.clone()).inner().reshape([1]), -9.5);
            near(loss.clone().inner(), expected);
            let gradient = value.grad(&loss.backward()).unwrap();
            near(gradient.reshape([1]), slope);
        }
    }

    #[test]
    fn extraction_matches_published_values() {
        let q = column(&[-20.0, -30.0, -10.0]);
        near(climbing_loss(q.clone()), 0.999_999_95);
        // With a gradient through the scale there would be none at all.
        let q = Tensor::<A, 2>::from_inner(q).require_grad();
        let gradients = climbing_loss(q.clone()).backward();
        near(q.grad(&gradients).unwrap().sum(), -1.0 / 20.0);
        near(climbing_loss(column(&[1e-6])), -0.5);
        for (alpha, pairs) in [
            (
                10.0,
                [
                    (-0.5, 0.006_737_9),
                    (0.0, 1.0),
                    (0.2, 7.389_056),
                    (0.4606, 100.0),
                ],
            ),
            (
                3.0,
                [
                    (-1.0, 0.049_787),
                    (0.0, 1.0),
                    (1.0, 20.085_537),
                    (2.0, 100.0),
                ],
            ),
        ] {
            for (advantage, expected) in pairs {
                let weight = advantage_weight(column(&[advantage]), alpha);
                near(weight.reshape([1]), expected);
            }
        }
    }

    fn rows<const N: usize>(values: [[f32; 2]; N]) -> Tensor<A, 2> {
        Tensor::from_floats(values, &Default::default())
    }

    #[test]
    fn weighted_imitation_matches_published_values() {
        // −log π is 2.0378771 and 1.962877, the weights are 20.085537 and 0.049787.
        let means = rows([[0.1, -0.2], [0.3, -0.4]]).require_grad();
        let targets = rows([[0.3, 0.4], [0.0, 0.0]]);
        let advantage = Tensor::<A, 2>::from_inner(column(&[1.0, -1.0]));
        let actor = GaussianConfig::default();
        let found = ActorLoss::weighted(&actor, means.clone(), targets, advantage, 3.0);
        near(found.loss.clone().inner(), 20.514_79);
        near(found.mse.inner(), 0.1625);
        near(found.guide.inner(), 0.0);
        // Towards the targets: w (μ − a) / 2.
        let gradient = means.grad(&found.loss.backward()).unwrap();
        let expected = [-2.008_553_7, -6.025_661_1, 0.007_468_1, -0.009_957_4];
        for (found, expected) in tensor_values(gradient).into_iter().zip(expected) {
            assert!((found - expected).abs() < 2e-5, "{found}, not {expected}");
        }
    }

    #[test]
    fn climbing_with_an_anchor_matches_published_values() {
        // log π = (−1.9, −2.1, −2.4).
        let means = rows([[0.352_485_27, 0.0], [0.724_048_25, 0.0], [1.060_304_6, 0.0]]);
        let values = |actions: Tensor<A, 2>| {
            let actions = tensor_values(actions);
            assert_eq!(actions[4], 1.0, "values are asked at actions, cut off at 1");
            Tensor::<A, 2>::from_inner(column(&[-20.0, -30.0, -10.0]))
        };
        let targets = Tensor::<A, 2>::zeros([3, 2], &Default::default());
        let actor = GaussianConfig::default();
        let found = ActorLoss::climbing(&actor, means, targets, 0.3, values);
        near(found.guide.inner(), 0.999_999_95);
        near(found.loss.inner(), 1.639_999_95);
        near(found.mse.inner(), 0.295_456);
    }
}
