//! Linear layers, layer norm, and the multi-layer perceptron of the baselines.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_seed::Rng;

use super::fused::{self, Activation};
use crate::Problems;
use crate::problems::Validate;

/// How the weights of a linear layer are drawn; biases start at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// `N(0, std²)`.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform with variance `scale · 2 / (inputs + outputs)`: Glorot for scale 1.
    Glorot {
        /// Factor on the variance.
        scale: f32,
    },
    /// All zero.
    Zeros,
}

impl Initializer {
    fn draw(self, inputs: usize, outputs: usize, rng: &mut Rng) -> Vec<f32> {
        let len = inputs * outputs;
        match self {
            Self::Normal { std } => (0..len)
                .map(|_| std * Distribution::<f32>::sample(&StandardNormal, rng))
                .collect(),
            Self::Glorot { scale } => {
                let limit = glorot_limit(scale, inputs, outputs);
                (0..len).map(|_| rng.random_range(-limit..limit)).collect()
            }
            Self::Zeros => vec![0.0; len],
        }
    }
}

fn glorot_limit(scale: f32, inputs: usize, outputs: usize) -> f32 {
    (6.0 * scale / (inputs + outputs) as f32).sqrt()
}

/// A parameter with these values.
pub fn parameter<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

/// `x W + b`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[inputs, outputs]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// A layer with weights from `rng`.
    pub fn new(
        inputs: usize,
        outputs: usize,
        initializer: Initializer,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        Self {
            weight: parameter(
                initializer.draw(inputs, outputs, rng),
                [inputs, outputs],
                device,
            ),
            bias: parameter(vec![0.0; outputs], [outputs], device),
        }
    }

    /// `[rows, inputs]` → `[rows, outputs]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let product = fused::product(x, self.weight.val());
        fused::bias_activation(product, self.bias.val(), Activation::Identity)
    }

    /// `act(x W + b)` as a hidden layer, `[rows, inputs]` → `[rows, outputs]`.
    pub fn forward_hidden(&self, x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
        fused::bias_activation(self.hidden_product(x), self.bias.val(), activation)
    }

    /// `x W` as a part of a hidden layer, in the [precision](crate::Precision) of the update, `[rows, inputs]` → `[rows, outputs]`.
    pub fn hidden_product(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        fused::mixed_product(x, self.weight.val())
    }
}

/// Layer normalisation over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale, `[width]`.
    pub gamma: Param<Tensor<B, 1>>,
    /// Shift, `[width]`.
    pub beta: Param<Tensor<B, 1>>,
    epsilon: f32,
}

impl<B: Backend> LayerNorm<B> {
    /// Scale 1, shift 0. `epsilon` is 1e-5 in PyTorch and 1e-6 in flax.
    pub fn new(width: usize, epsilon: f32, device: &B::Device) -> Self {
        Self {
            gamma: parameter(vec![1.0; width], [width], device),
            beta: parameter(vec![0.0; width], [width], device),
            epsilon,
        }
    }

    /// `[rows, width]` → `[rows, width]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        fused::layer_norm(x, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}

/// Shape of a multi-layer perceptron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// After every hidden layer.
    pub activation: Activation,
    /// Whether a layer norm follows every activation.
    pub layer_norm: bool,
}

impl Default for MlpConfig {
    fn default() -> Self {
        // Networks of OGBench: three layers of 512, the tanh form of GELU.
        Self {
            hidden: vec![512; 3],
            activation: Activation::GeluTanh,
            layer_norm: false,
        }
    }
}

impl Validate for MlpConfig {
    fn validate(&self, problems: &mut Problems) {
        let holds = self.hidden.iter().all(|&width| width >= 1);
        problems.check(holds, "hidden", &self.hidden, "widths of at least 1");
    }
}

/// Epsilon of the layer norms of [`Mlp`]: the default of flax, which the reference releases use.
const MLP_NORM_EPSILON: f32 = 1e-6;

/// Linear, activation, optional layer norm, as often as there are hidden widths; then a linear layer.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    layers: Vec<Linear<B>>,
    norms: Vec<LayerNorm<B>>,
    output: Linear<B>,
    #[module(skip)]
    activation: Activation,
}

impl<B: Backend> Mlp<B> {
    /// Glorot-uniform weights, those of the output layer with variance scaled by `output_scale`.
    pub fn new(
        config: &MlpConfig,
        inputs: usize,
        outputs: usize,
        output_scale: f32,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let mut layers = Vec::new();
        let mut norms = Vec::new();
        let mut width = inputs;
        for &hidden in &config.hidden {
            layers.push(Linear::new(
                width,
                hidden,
                Initializer::Glorot { scale: 1.0 },
                rng,
                device,
            ));
            if config.layer_norm {
                norms.push(LayerNorm::new(hidden, MLP_NORM_EPSILON, device));
            }
            width = hidden;
        }
        let output = Linear::new(
            width,
            outputs,
            Initializer::Glorot {
                scale: output_scale,
            },
            rng,
            device,
        );
        Self {
            layers,
            norms,
            output,
            activation: config.activation,
        }
    }

    /// Two networks that differ in nothing but their weights.
    pub fn two(
        config: &MlpConfig,
        inputs: usize,
        outputs: usize,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Vec<Self> {
        (0..2)
            .map(|_| Self::new(config, inputs, outputs, 1.0, rng, device))
            .collect()
    }

    /// `[rows, inputs]` → `[rows, outputs]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output.forward(self.features(x))
    }

    /// Where the weights are.
    pub fn device(&self) -> B::Device {
        self.output.bias.val().device()
    }

    /// What the output layer sees, `[rows, inputs]` → `[rows, last hidden width]`.
    pub fn features(&self, mut x: Tensor<B, 2>) -> Tensor<B, 2> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = match self.norms.get(i) {
                Some(norm) => fused::bias_activation_norm(
                    layer.hidden_product(x),
                    layer.bias.val(),
                    self.activation,
                    norm.gamma.val(),
                    norm.beta.val(),
                    norm.epsilon,
                ),
                None => layer.forward_hidden(x, self.activation),
            };
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use telic_seed::Seed;

    use super::*;

    #[test]
    fn glorot_limits_match_published_values() {
        assert!((glorot_limit(1.0, 58, 512) - 0.102_598).abs() < 1e-6);
        assert!((glorot_limit(0.01, 512, 8) - 0.010_741_7).abs() < 1e-7);
    }

    fn entries<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
        tensor.into_data().into_vec().unwrap()
    }

    #[test]
    fn weights_are_uniform_up_to_their_limit() {
        let device = Default::default();
        let config = MlpConfig {
            hidden: vec![64, 48],
            layer_norm: true,
            ..MlpConfig::default()
        };
        let mlp = Mlp::<Flex>::new(&config, 58, 40, 0.01, &mut Seed::new(5).rng(), &device);
        for (layer, inputs, outputs, scale) in [
            (&mlp.layers[0], 58, 64, 1.0),
            (&mlp.layers[1], 64, 48, 1.0),
            (&mlp.output, 48, 40, 0.01),
        ] {
            assert_eq!(layer.weight.val().dims(), [inputs, outputs]);
            let weights = entries(layer.weight.val());
            let limit = (6.0 * scale / (inputs + outputs) as f32).sqrt();
            let [least, most] = [f32::min, f32::max]
                .map(|pick| weights.iter().copied().fold(0.0_f32, pick) / limit);
            assert!((-1.0..=-0.95).contains(&least), "{least} of {limit}");
            assert!((0.95..=1.0).contains(&most), "{most} of {limit}");
            let square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
            let share = square / (limit * limit);
            assert!((share - 1.0 / 3.0).abs() < 0.03, "{share}, not a third");
            assert_eq!(entries(layer.bias.val()), vec![0.0; outputs]);
        }
    }

    #[test]
    fn norms_of_a_perceptron_have_the_epsilon_of_flax() {
        let device = Default::default();
        let config = MlpConfig {
            hidden: vec![2],
            activation: Activation::Identity,
            layer_norm: true,
        };
        let mut mlp = Mlp::<Flex>::new(&config, 1, 1, 1.0, &mut Seed::new(1).rng(), &device);
        mlp.layers[0].weight = parameter(vec![1e-3, -1e-3], [1, 2], &device);
        // The variance is 1e-6 too: 1e-3 / √(1e-6 + 1e-6). With the epsilon of PyTorch it would be 0.3015.
        let found = entries(mlp.features(Tensor::from_floats([[1.0]], &device)));
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert!((found[0] - half).abs() < 1e-4, "{found:?}");
        assert!((found[1] + half).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn weights_are_a_function_of_the_seed() {
        let device = Default::default();
        let weights = |seed| {
            let mut rng = Seed::new(seed).rng();
            let layer =
                Linear::<Flex>::new(20, 30, Initializer::Normal { std: 0.02 }, &mut rng, &device);
            entries(layer.weight.val())
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
        let std = (weights(1).iter().map(|w| w * w).sum::<f32>() / 600.0).sqrt();
        assert!((std - 0.02).abs() < 0.002, "{std}");
    }

    #[test]
    fn hidden_layers_are_linear_activation_norm() {
        let device = Default::default();
        let config = MlpConfig {
            hidden: vec![4, 3],
            activation: Activation::Relu,
            layer_norm: true,
        };
        let mlp = Mlp::<Flex>::new(&config, 2, 1, 1.0, &mut Seed::new(3).rng(), &device);
        assert_eq!(
            mlp.num_params(),
            (2 * 4 + 4 + 8) + (4 * 3 + 3 + 6) + (3 + 1)
        );
        let x = Tensor::from_floats([[0.3, -0.2]], &device);
        let mut hidden: Tensor<Flex, 2> = x.clone();
        for (layer, norm) in mlp.layers.iter().zip(&mlp.norms) {
            hidden = norm.forward(Activation::Relu.forward(layer.forward(hidden)));
        }
        let expected: f32 = mlp.output.forward(hidden).into_scalar();
        let found: f32 = mlp.forward(x).into_scalar();
        assert!((found - expected).abs() < 1e-6);
    }
}
