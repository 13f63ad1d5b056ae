//! φ, ψ and π: perceptrons whose first layer has a norm and a tanh, and a trunk per input.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use telic_seed::Rng;

use super::HilpZeroShotConfig;
use crate::inputs::Inputs;
use crate::nn::{Activation, Initializer, LayerNorm, Linear, tanh};

/// Weights as torch's layers start, but for orthogonal matrices: uniform with the variance of Glorot.
fn linear<B: Backend>(
    inputs: usize,
    outputs: usize,
    rng: &mut Rng,
    device: &B::Device,
) -> Linear<B> {
    let initializer = Initializer::Glorot { scale: 1.0 };
    Linear::new(inputs, outputs, initializer, rng, device)
}

/// Linear, layer norm, tanh, linear, ReLU.
#[derive(Module, Debug)]
struct Trunk<B: Backend> {
    first: Linear<B>,
    norm: LayerNorm<B>,
    second: Linear<B>,
}

impl<B: Backend> Trunk<B> {
    fn new([inputs, hidden, outputs]: [usize; 3], rng: &mut Rng, device: &B::Device) -> Self {
        Self {
            first: linear(inputs, hidden, rng, device),
            norm: LayerNorm::new(hidden, 1e-5, device),
            second: linear(hidden, outputs, rng, device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let first = self.first.forward_hidden(x, Activation::Identity);
        let hidden = tanh(self.norm.forward(first));
        self.second.forward_hidden(hidden, Activation::Relu)
    }
}

/// Linear, ReLU, linear.
#[derive(Module, Debug)]
struct Head<B: Backend> {
    hidden: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> Head<B> {
    fn new([inputs, hidden, outputs]: [usize; 3], rng: &mut Rng, device: &B::Device) -> Self {
        Self {
            hidden: linear(inputs, hidden, rng, device),
            output: linear(hidden, outputs, rng, device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output
            .forward(self.hidden.forward_hidden(x, Activation::Relu))
    }
}

/// φ.
#[derive(Module, Debug)]
pub(super) struct Embedding<B: Backend> {
    trunk: Trunk<B>,
    output: Linear<B>,
}

impl<B: Backend> Embedding<B> {
    pub(super) fn new(
        config: &HilpZeroShotConfig,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let width = config.embedding_width;
        Self {
            trunk: Trunk::new([inputs.observation_dim(), width, width], rng, device),
            output: linear(width, config.embedding_dim, rng, device),
        }
    }

    pub(super) fn forward(&self, observations: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output.forward(self.trunk.forward(observations))
    }
}

/// Latents `[rows, D]` that each φ_k gives the same states.
pub(super) fn embed_each<B: Backend>(
    embeddings: &[Embedding<B>],
    states: &Tensor<B, 2>,
) -> Vec<Tensor<B, 2>> {
    embeddings
        .iter()
        .map(|embedding| embedding.forward(states.clone()))
        .collect()
}

/// ψ₁ and ψ₂.
#[derive(Module, Debug)]
pub(super) struct Successor<B: Backend> {
    acted: Trunk<B>,
    asked: Trunk<B>,
    heads: Vec<Head<B>>,
}

impl<B: Backend> Successor<B> {
    pub(super) fn new(
        config: &HilpZeroShotConfig,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let (seen, actions) = (inputs.observation_dim(), inputs.action_dim());
        let (dim, width, trunk) = (config.embedding_dim, config.width, config.trunk_width);
        Self {
            acted: Trunk::new([seen + actions, width, trunk], rng, device),
            asked: Trunk::new([seen + dim, width, trunk], rng, device),
            heads: (0..2)
                .map(|_| Head::new([2 * trunk, width, dim], rng, device))
                .collect(),
        }
    }

    /// `[rows, D]` of either head.
    pub(super) fn forward(
        &self,
        observations: Tensor<B, 2>,
        latents: Tensor<B, 2>,
        actions: Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 2] {
        let acted = Tensor::cat(vec![observations.clone(), actions], 1);
        let asked = Tensor::cat(vec![observations, latents], 1);
        let both = Tensor::cat(
            vec![self.acted.forward(acted), self.asked.forward(asked)],
            1,
        );
        [0, 1].map(|head| self.heads[head].forward(both.clone()))
    }
}

/// π.
#[derive(Module, Debug)]
pub(super) struct Actor<B: Backend> {
    seen: Trunk<B>,
    asked: Trunk<B>,
    head: Head<B>,
}

impl<B: Backend> Actor<B> {
    pub(super) fn new(
        config: &HilpZeroShotConfig,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let (seen, actions) = (inputs.observation_dim(), inputs.action_dim());
        let (width, trunk) = (config.width, config.trunk_width);
        Self {
            seen: Trunk::new([seen, width, trunk], rng, device),
            asked: Trunk::new([seen + config.embedding_dim, width, trunk], rng, device),
            head: Head::new([2 * trunk, width, actions], rng, device),
        }
    }

    pub(super) fn forward(
        &self,
        observations: Tensor<B, 2>,
        latents: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let asked = Tensor::cat(vec![observations.clone(), latents], 1);
        let both = Tensor::cat(
            vec![self.seen.forward(observations), self.asked.forward(asked)],
            1,
        );
        tanh(self.head.forward(both))
    }
}
