//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).
//!
//! With the gradient `g` and the number of the step `k = 1, 2, …`:
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
//! θ ← (1 − lr λ) θ − lr (m / (1 − β₁ᵏ)) / (√(v / (1 − β₂ᵏ)) + ε)
//! ```
//!
//! which is what PyTorch computes, where ε is added outside the root. On flex a step is one pass over memory. Moments are
//! kept by the path of their parameter, so that they can be saved and loaded; burn's optimisers key them by an id that is
//! random per process.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::fused::{from_flex, into_flex, simd, sum_squares};
use crate::module_state::tensor_values;
use crate::numbers::Number;
use crate::problems::Validate;
use crate::{PolicyError, Problems, TensorMap};

/// Settings of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamConfig {
    /// Learning rate before any schedule.
    pub lr: f64,
    /// Decay of the first moment, in 0..1.
    pub beta_1: f64,
    /// Decay of the second moment, in 0..1.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// λ, decoupled from the gradient; on every parameter. 0 is Adam.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        // Adam of OGBench; betas and epsilon are the defaults of PyTorch and optax.
        Self {
            lr: 3e-4,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Validate for AdamConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.check(
            self.lr > 0.0 && self.lr.is_finite(),
            "lr",
            self.lr,
            "a positive number",
        );
        for (key, beta) in [("beta_1", self.beta_1), ("beta_2", self.beta_2)] {
            problems.check((0.0..1.0).contains(&beta), key, beta, "a number in 0..1");
        }
        problems.check(
            self.epsilon > 0.0,
            "epsilon",
            self.epsilon,
            "a positive number",
        );
        problems.check(
            self.weight_decay >= 0.0,
            "weight_decay",
            self.weight_decay,
            "0 or a positive number",
        );
    }
}

/// Adam with its moments, on the inner backend `B`.
#[derive(Clone, Debug)]
pub struct Adam<B: Backend> {
    config: AdamConfig,
    steps: u64,
    moments: BTreeMap<String, Moments<B>>,
}

/// m and v of one parameter, flattened.
#[derive(Clone, Debug)]
struct Moments<B: Backend> {
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
}

impl<B: Backend> Adam<B> {
    /// An optimiser that has made no step.
    pub fn new(config: AdamConfig) -> Self {
        Self {
            config,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The settings.
    pub fn config(&self) -> &AdamConfig {
        &self.config
    }

    /// One step with learning rate `lr`. A parameter without gradient stays as it is. Gives the module and the norm of the
    /// whole gradient.
    pub fn step<A, M>(&mut self, lr: f64, module: M, gradients: GradientsParams) -> (M, Number<B>)
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        self.steps += 1;
        let power = self.steps.min(i32::MAX as u64) as i32;
        let correction = Correction {
            rate: lr / (1.0 - self.config.beta_1.powi(power)),
            root: 1.0 / (1.0 - self.config.beta_2.powi(power)).sqrt(),
            keep: 1.0 - lr * self.config.weight_decay,
        };
        let mut stepper = Stepper {
            adam: self,
            correction,
            gradients,
            path: Vec::new(),
            squares: Squares::default(),
        };
        let module = module.map(&mut stepper);
        let norm = stepper.squares.root();
        (module, norm)
    }

    /// Moments and step count.
    pub fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        state.insert_u64("steps", self.steps);
        for (name, moments) in &self.moments {
            for (part, tensor) in [("first", &moments.first), ("second", &moments.second)] {
                state.insert_f32(
                    format!("{part}.{name}"),
                    &tensor.dims(),
                    tensor_values(tensor.clone()),
                );
            }
        }
        state
    }

    /// Takes over a saved [`state`](Self::state) for the parameters of `module`.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_state<A, M>(
        &mut self,
        state: &TensorMap,
        module: &M,
        device: &B::Device,
    ) -> Result<(), PolicyError>
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        let mut parameters = TensorMap::new();
        crate::module_state::insert_module(&mut parameters, "module", module);
        let steps = state.get_u64("steps")?;
        let mut moments = BTreeMap::new();
        for (name, parameter) in parameters.sub_map("module").iter() {
            // A parameter that never had a gradient has no moments.
            if !state.contains(&format!("first.{name}"))
                && !state.contains(&format!("second.{name}"))
            {
                continue;
            }
            let shape = [parameter.values().len()];
            let part = |part: &str| {
                let values = state.get_f32(&format!("{part}.{name}"), &shape)?;
                Ok::<_, PolicyError>(Tensor::from_data(
                    TensorData::new(values.to_vec(), shape),
                    device,
                ))
            };
            moments.insert(
                name.to_owned(),
                Moments {
                    first: part("first")?,
                    second: part("second")?,
                },
            );
        }
        self.steps = steps;
        self.moments = moments;
        Ok(())
    }
}

/// The factors of one step: `θ ← keep θ − rate m / (root √v + ε)`.
#[derive(Clone, Copy)]
struct Correction {
    rate: f64,
    root: f64,
    keep: f64,
}

struct Stepper<'a, B: Backend> {
    adam: &'a mut Adam<B>,
    correction: Correction,
    gradients: GradientsParams,
    path: Vec<String>,
    squares: Squares<B>,
}

/// Sums of squares, one per parameter.
struct Squares<B: Backend> {
    known: f64,
    on_device: Vec<Tensor<B, 1>>,
}

impl<B: Backend> Default for Squares<B> {
    fn default() -> Self {
        Self {
            known: 0.0,
            on_device: vec![],
        }
    }
}

impl<B: Backend> Squares<B> {
    fn add(&mut self, squares: Number<B>) {
        match squares {
            Number::Known(squares) => self.known += squares,
            Number::OnDevice(squares) => self.on_device.push(squares),
        }
    }

    fn root(self) -> Number<B> {
        if self.on_device.is_empty() {
            Number::Known(self.known.sqrt())
        } else {
            let on_device = Tensor::cat(self.on_device, 0).sum() + self.known;
            Number::OnDevice(on_device.sqrt())
        }
    }
}

impl<A: AutodiffBackend> ModuleMapper<A> for Stepper<'_, A::InnerBackend> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<A::InnerBackend, D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let require_grad = tensor.is_require_grad();
        let name = self.path.join(".");
        let moments = self.adam.moments.remove(&name).unwrap_or_else(|| {
            let zeros = || Tensor::zeros([gradient.shape().num_elements()], &gradient.device());
            Moments {
                first: zeros(),
                second: zeros(),
            }
        });
        let (tensor, moments, squares) = update(
            &self.adam.config,
            self.correction,
            tensor.inner(),
            gradient,
            moments,
        );
        self.squares.add(squares);
        self.adam.moments.insert(name, moments);
        Param::from_mapped_value(
            id,
            Tensor::from_inner(tensor).set_require_grad(require_grad),
            mapper,
        )
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

/// The update of one parameter, and the sum of its squared gradient.
fn update<B: Backend, const D: usize>(
    config: &AdamConfig,
    correction: Correction,
    parameter: Tensor<B, D>,
    gradient: Tensor<B, D>,
    moments: Moments<B>,
) -> (Tensor<B, D>, Moments<B>, Number<B>) {
    let Moments { first, second } = moments;
    let (parameter, gradient) = match (into_flex(parameter), into_flex(gradient)) {
        (Ok(mut parameter), Ok(gradient)) => {
            let parts = into_flex(first).ok().zip(into_flex(second).ok());
            let (mut first, mut second) =
                parts.expect("moments are on the backend of their parameter");
            let squares = update_flex(
                config,
                correction,
                &mut parameter,
                &gradient,
                &mut first,
                &mut second,
            );
            let moments = Moments {
                first: from_flex(first),
                second: from_flex(second),
            };
            return (from_flex(parameter), moments, squares.into());
        }
        (parameter, gradient) => {
            let give_back = |tensor: Result<FlexTensor, Tensor<B, D>>| {
                tensor.map_or_else(|tensor| tensor, from_flex)
            };
            (give_back(parameter), give_back(gradient))
        }
    };
    let shape = parameter.shape();
    let flat: Tensor<B, 1> = gradient.flatten(0, D - 1);
    let first = first * config.beta_1 + flat.clone() * (1.0 - config.beta_1);
    let squared = flat.clone() * flat;
    let squares = squared.clone().sum();
    let second = second * config.beta_2 + squared * (1.0 - config.beta_2);
    let step = first.clone() * correction.rate
        / (second.clone().sqrt() * correction.root + config.epsilon);
    let parameter = parameter * correction.keep - step.reshape(shape);
    (parameter, Moments { first, second }, squares.into())
}

/// 0 in place of a number below the normal range. The moments of a weight that has lost its gradient decay to there and would
/// stay, at a hundred times the cost per operation.
#[inline(always)]
fn normal(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

fn update_flex(
    config: &AdamConfig,
    correction: Correction,
    parameter: &mut FlexTensor,
    gradient: &FlexTensor,
    first: &mut FlexTensor,
    second: &mut FlexTensor,
) -> f64 {
    /// Fixed, so that the sum of squares has a fixed order.
    const BLOCK: usize = 16 * 1024;
    let (beta_1, beta_2) = (config.beta_1 as f32, config.beta_2 as f32);
    let (rest_1, rest_2) = ((1.0 - config.beta_1) as f32, (1.0 - config.beta_2) as f32);
    let (rate, root, keep) = (
        correction.rate as f32,
        correction.root as f32,
        correction.keep as f32,
    );
    let epsilon = config.epsilon as f32;
    let gradient = gradient
        .as_slice::<f32>()
        .expect("flex gradients are made contiguous");
    let parameter = parameter.storage_mut::<f32>();
    let first = first.storage_mut::<f32>();
    let second = second.storage_mut::<f32>();
    let block = |((parameter, gradient), (first, second)): (
        (&mut [f32], &[f32]),
        (&mut [f32], &mut [f32]),
    )| {
        simd(
            #[inline(always)]
            || {
                for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
                    *m = normal(beta_1 * *m + rest_1 * g);
                    *v = normal(beta_2 * *v + rest_2 * (g * g));
                    *p = keep * *p - rate * *m / (root * v.sqrt() + epsilon);
                }
                f64::from(sum_squares(gradient))
            },
        )
    };
    if parameter.len() <= BLOCK {
        return block(((parameter, gradient), (first, second)));
    }
    let sums: Vec<f64> = parameter
        .par_chunks_mut(BLOCK)
        .zip(gradient.par_chunks(BLOCK))
        .zip(
            first
                .par_chunks_mut(BLOCK)
                .zip(second.par_chunks_mut(BLOCK)),
        )
        .map(block)
        .collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use telic_seed::Seed;

    use super::*;
    use crate::nn::{Initializer, Linear};

    type A = Autodiff<Flex>;

    fn layer() -> Linear<A> {
        Linear::new(
            2,
            1,
            Initializer::Normal { std: 1.0 },
            &mut Seed::new(1).rng(),
            &Default::default(),
        )
    }

    fn gradients(layer: &Linear<A>, x: [f32; 2]) -> GradientsParams {
        let output = layer.forward(Tensor::from_floats([x], &Default::default()));
        GradientsParams::from_grads(output.sum().backward(), layer)
    }

    fn known(number: Number<Flex>) -> f64 {
        let Number::Known(value) = number else {
            panic!("sums of squares on flex are on the host")
        };
        value
    }

    fn weights(layer: &Linear<A>) -> Vec<f64> {
        tensor_values(layer.weight.val())
            .into_iter()
            .map(f64::from)
            .collect()
    }

    /// Three steps by hand, in double precision.
    #[test]
    fn steps_match_the_equations() {
        let config = AdamConfig {
            lr: 0.1,
            weight_decay: 0.01,
            epsilon: 1e-3,
            ..Default::default()
        };
        let mut adam = Adam::<Flex>::new(config);
        let mut layer = layer();
        let mut expected = weights(&layer);
        let (mut m, mut v) = ([0.0_f64; 2], [0.0_f64; 2]);
        for (k, x) in [[0.5_f32, -2.0], [0.1, 0.3], [-1.0, 0.0]]
            .into_iter()
            .enumerate()
        {
            let gradients = gradients(&layer, x);
            let (stepped, norm) = adam.step(0.1, layer, gradients);
            layer = stepped;
            for i in 0..2 {
                let g = f64::from(x[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let power = k as i32 + 1;
                let m_hat = m[i] / (1.0 - 0.9_f64.powi(power));
                let v_hat = v[i] / (1.0 - 0.999_f64.powi(power));
                expected[i] =
                    (1.0 - 0.1 * 0.01) * expected[i] - 0.1 * m_hat / (v_hat.sqrt() + 1e-3);
                assert!(
                    (weights(&layer)[i] - expected[i]).abs() < 1e-5,
                    "step {k}, weight {i}"
                );
            }
            // The bias has gradient 1.
            let squares = 1.0 + x.iter().map(|x| f64::from(x * x)).sum::<f64>();
            assert!((known(norm) - squares.sqrt()).abs() < 1e-6);
        }
        assert_eq!(adam.steps(), 3);
        assert!(layer.weight.is_require_grad());
    }

    #[test]
    fn a_loaded_state_goes_on_to_the_same_bits() {
        let config = AdamConfig {
            lr: 0.1,
            ..Default::default()
        };
        let inputs = [[0.5_f32, -2.0], [0.1, 0.3], [-1.0, 0.0], [0.7, 0.2]];
        let run = |restart: Option<usize>| {
            let (mut adam, mut layer) = (Adam::<Flex>::new(config), layer());
            for (k, x) in inputs.into_iter().enumerate() {
                if restart == Some(k) {
                    let state = adam.state();
                    adam = Adam::new(config);
                    adam.load_state(&state, &layer, &Default::default())
                        .unwrap();
                }
                let gradients = gradients(&layer, x);
                layer = adam.step(0.1, layer, gradients).0;
            }
            (weights(&layer), adam.state())
        };
        let (uninterrupted, resumed) = (run(None), run(Some(2)));
        assert_eq!(uninterrupted.0, resumed.0);
        assert_eq!(uninterrupted.1.first_difference(&resumed.1), None);
    }

    /// The first moment of a weight that has lost its gradient ends at 0, not at the smallest subnormal number.
    #[test]
    fn moments_without_gradient_decay_to_zero() {
        let (mut adam, mut layer) = (Adam::<Flex>::new(AdamConfig::default()), layer());
        for step in 0..1000 {
            let x = if step == 0 { [0.5, -2.0] } else { [0.0; 2] };
            let gradients = gradients(&layer, x);
            layer = adam.step(1e-3, layer, gradients).0;
        }
        let state = adam.state();
        assert_eq!(state.get_f32("first.weight", &[2]).unwrap(), [0.0, 0.0]);
        assert!(
            state
                .get_f32("second.weight", &[2])
                .unwrap()
                .iter()
                .all(|v| *v > 0.0)
        );
    }

    #[test]
    fn the_kernel_agrees_with_the_composition() {
        let mut rng = Seed::new(9).rng();
        let device = Default::default();
        let n = 40_000;
        let draw = |rng: &mut telic_seed::Rng| {
            Linear::<Flex>::new(n, 1, Initializer::Normal { std: 1.0 }, rng, &device)
        };
        let [p, g, m, v] = std::array::from_fn(|_| tensor_values(draw(&mut rng).weight.val()));
        let v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
        let config = AdamConfig {
            weight_decay: 0.1,
            ..Default::default()
        };
        let correction = Correction {
            rate: 0.01,
            root: 1.7,
            keep: 0.999,
        };
        let tensor = |values: &[f32]| {
            Tensor::<Flex, 1>::from_data(TensorData::new(values.to_vec(), [n]), &device)
        };
        let moments = Moments {
            first: tensor(&m),
            second: tensor(&v),
        };
        let (found, moments, squares) =
            update(&config, correction, tensor(&p), tensor(&g), moments);
        let expected: Vec<f32> = (0..n)
            .map(|i| {
                let (m, v) = (0.9 * m[i] + 0.1 * g[i], 0.999 * v[i] + 0.001 * g[i] * g[i]);
                0.999 * p[i] - 0.01 * m / (1.7 * v.sqrt() + 1e-8)
            })
            .collect();
        for (found, expected) in tensor_values(found).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0));
        }
        let exact: f64 = g.iter().map(|g| f64::from(*g).powi(2)).sum();
        assert!((known(squares) / exact - 1.0).abs() < 1e-5);
        assert_eq!(moments.first.dims(), [n]);
    }
}
