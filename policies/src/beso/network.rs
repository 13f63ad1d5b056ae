//! The raw network F: which one, what it is given, and which of its outputs are read.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use telic_seed::{Rng, Seed};

use super::mlp::{Row, ScoreMlp};
use super::transformer::{ScoreTransformer, Tokens};
use crate::Problems;
use crate::nn::Activation;
use crate::problems::Validate;

/// Which network denoises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// A causal transformer over the window: the published one.
    Transformer,
    /// A perceptron of the whole window, which denoises the newest action only. Learns several times as much per second
    /// of a small machine.
    Mlp,
}

/// Size and regularisation of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which network.
    pub kind: NetworkKind,
    /// `transformer`: width of a token, a multiple of `heads`.
    pub embed_dim: usize,
    /// `transformer`: blocks.
    pub layers: usize,
    /// `transformer`: attention heads.
    pub heads: usize,
    /// `transformer`: dropout after the embedding of goals, states and actions.
    pub embed_dropout: f32,
    /// `transformer`: dropout of attention weights.
    pub attention_dropout: f32,
    /// `transformer`: dropout at the end of both branches of a block.
    pub residual_dropout: f32,
    /// Activation of hidden layers. On the CPU all kinds take the same time to within a few percent.
    pub activation: Activation,
    /// `transformer`: width of a hidden layer with SiLU before the output; 0 for a linear output layer.
    pub head_hidden: usize,
    /// `mlp`: widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// `mlp`: whether a layer norm follows every activation.
    pub layer_norm: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        // Block-Push of the reference release.
        Self {
            kind: NetworkKind::Transformer,
            embed_dim: 240,
            layers: 4,
            heads: 12,
            embed_dropout: 0.0,
            attention_dropout: 0.05,
            residual_dropout: 0.05,
            activation: Activation::Gelu,
            head_hidden: 0,
            hidden: vec![512; 3],
            layer_norm: true,
        }
    }
}

impl Validate for NetworkConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.check(self.layers >= 1, "layers", self.layers, "at least 1");
        problems.check(self.heads >= 1, "heads", self.heads, "at least 1");
        let divides =
            self.heads >= 1 && self.embed_dim >= 1 && self.embed_dim.is_multiple_of(self.heads);
        let expectation = format!("a positive multiple of `heads` ({})", self.heads);
        problems.check(divides, "embed_dim", self.embed_dim, &expectation);
        for (key, value) in [
            ("embed_dropout", self.embed_dropout),
            ("attention_dropout", self.attention_dropout),
            ("residual_dropout", self.residual_dropout),
        ] {
            problems.check((0.0..1.0).contains(&value), key, value, "a number in 0..1");
        }
        let holds = !self.hidden.is_empty() && self.hidden.iter().all(|&width| width >= 1);
        problems.check(holds, "hidden", &self.hidden, "widths of at least 1");
    }
}

/// Sizes of what the network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Entries of a state, and of a goal.
    pub observation_dim: usize,
    /// Entries of an action.
    pub action_dim: usize,
    /// W, most states in a context.
    pub window: usize,
    /// G, goals.
    pub goal_length: usize,
}

/// How goals, states, noise level and noisy actions are laid out for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputLayout {
    /// Of the transformer.
    Tokens(Tokens),
    /// Of the perceptron.
    Row(Row),
}

impl InputLayout {
    /// The layout of a network.
    pub fn new(kind: NetworkKind, dims: Dims) -> Self {
        match kind {
            NetworkKind::Transformer => Self::Tokens(Tokens(dims)),
            NetworkKind::Mlp => Self::Row(Row(dims)),
        }
    }

    /// Sizes of what the network sees.
    pub fn dims(&self) -> Dims {
        match self {
            Self::Tokens(Tokens(dims)) | Self::Row(Row(dims)) => *dims,
        }
    }

    /// Whether the actions of all steps of a context are denoised, or the newest alone.
    pub fn denoises_all(&self) -> bool {
        matches!(self, Self::Tokens(_))
    }

    /// Entries of one sequence with `context` states.
    pub fn stride(&self, context: usize) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.stride(context),
            Self::Row(row) => row.width(),
        }
    }

    /// Writes one sequence, but for noise level and actions, to zeroed `features`, `[stride]`.
    ///
    /// # Shapes
    /// `goals` `[goal_length, observation_dim]`, `states` `[context, observation_dim]`, normalised.
    pub fn write_conditions(&self, features: &mut [f32], goals: &[f32], states: &[f32]) {
        match self {
            Self::Tokens(tokens) => tokens.write_conditions(features, goals, states),
            Self::Row(row) => row.write_conditions(features, goals, states),
        }
    }

    /// Writes the noise level, as `ln(σ)/4`.
    pub fn write_noise(&self, features: &mut [f32], noise: f32) {
        match self {
            Self::Tokens(tokens) => tokens.write_noise(features, noise),
            Self::Row(row) => row.write_noise(features, noise),
        }
    }

    /// Writes action `index` of `context`, already scaled for the network.
    pub fn write_action(
        &self,
        features: &mut [f32],
        index: usize,
        context: usize,
        action: impl Iterator<Item = f32>,
    ) {
        match self {
            Self::Tokens(tokens) => tokens.write_action(features, index, action),
            Self::Row(row) => row.write_action(features, index, context, action),
        }
    }
}

/// Which outputs are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Those of all actions that the network denoises: of every step of a context, `[batch · context, action_dim]`, or, for
    /// the perceptron, of the newest.
    Actions,
    /// Those of the newest action, `[batch, action_dim]`.
    Newest,
}

/// The raw network F.
// There are two of them in a run, and what they hold on the heap is a thousand times larger.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum ScoreNetwork<B: Backend> {
    /// A causal transformer.
    Transformer(ScoreTransformer<B>),
    /// A perceptron.
    Mlp(ScoreMlp<B>),
}

impl<B: Backend> ScoreNetwork<B> {
    /// A network with random weights.
    pub fn new(config: &NetworkConfig, dims: Dims, rng: &mut Rng, device: &B::Device) -> Self {
        match config.kind {
            NetworkKind::Transformer => {
                Self::Transformer(ScoreTransformer::new(config, dims, rng, device))
            }
            NetworkKind::Mlp => Self::Mlp(ScoreMlp::new(config, dims, rng, device)),
        }
    }

    /// A network to load weights into.
    pub fn blank(config: &NetworkConfig, dims: Dims, device: &B::Device) -> Self {
        match config.kind {
            NetworkKind::Transformer => {
                Self::Transformer(ScoreTransformer::zeroed(config, dims, device))
            }
            NetworkKind::Mlp => Self::new(config, dims, &mut Seed::new(0).rng(), device),
        }
    }

    /// F for `batch` sequences of `context` states, laid out as [`InputLayout`] does.
    ///
    /// `dropout` gives the masks of a training step; `None` at inference.
    ///
    /// # Shapes
    /// `features` `[batch, stride]` → as [`Outputs`] says.
    pub fn forward(
        &self,
        features: Vec<f32>,
        [batch, context]: [usize; 2],
        outputs: Outputs,
        dropout: Option<&mut Rng>,
    ) -> Tensor<B, 2> {
        match self {
            Self::Transformer(network) => {
                network.forward(features, [batch, context], outputs, dropout)
            }
            Self::Mlp(network) => network.forward(features, batch),
        }
    }
}
