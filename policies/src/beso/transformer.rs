//! The score transformer: a small GPT over one sequence of noise level, goals, states and noisy actions.
//!
//! Order of the tokens, with `t` states in the context:
//!
//! ```text
//! σ, g_1 … g_G, s_1, a_1, s_2, a_2, …, s_t, a_t            N = 1 + G + 2t tokens
//! ```
//!
//! Attention is causal over this order: everything sees σ and the goals, `a_i` sees `s_1 … s_i` and `a_1 … a_i`, nothing sees
//! the future. So tokens after a position change nothing at it, and a short context gives the same outputs as the beginning
//! of a long one. Goals and states share one embedding; state `i` and action `i` share one position, after those of the goals.
//!
//! All embeddings are one matrix product. A token becomes a row of features
//!
//! ```text
//! [ ln(σ)/4 | state or goal | action | which of the three | which position ]
//! ```
//!
//! most of them zero, and the weights, biases and positions of the embeddings are stacked to the matrix that it is multiplied
//! with. The last block computes only the rows that are read.
//!
//! Source: Reuss et al. 2023; block structure of GPT-2 (Radford et al. 2019).

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, s};
use telic_seed::{Rng, Seed};

use super::network::{Dims, NetworkConfig, Outputs};
use crate::nn::fused::{self, AttentionShape, Dropout};
use crate::nn::{Activation, Initializer, LayerNorm, Linear};

/// Where everything stands in the rows of features that become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens(pub Dims);

impl Tokens {
    /// Tokens of a sequence with `context` states.
    pub fn tokens(&self, context: usize) -> usize {
        1 + self.0.goal_length + 2 * context
    }

    /// Entries of all rows of a sequence with `context` states.
    pub fn stride(&self, context: usize) -> usize {
        self.tokens(context) * self.features()
    }

    /// Entries of a row of features.
    pub fn features(&self) -> usize {
        self.action_column() + self.0.action_dim + 3 + self.positions()
    }

    /// Rows of the position table. The last one is never used; the published model has it, and parameter counts compare.
    fn positions(&self) -> usize {
        self.0.goal_length + self.0.window + 1
    }

    fn action_column(&self) -> usize {
        1 + self.0.observation_dim
    }

    fn kind_column(&self, kind: usize) -> usize {
        self.action_column() + self.0.action_dim + kind
    }

    fn position_column(&self, position: usize) -> usize {
        self.kind_column(3) + position
    }

    /// Writes the tokens of one sequence, but for noise level and actions, to zeroed `rows`, `[tokens, features]`.
    ///
    /// # Shapes
    /// `goals` `[goal_length, observation_dim]`, `states` `[context, observation_dim]`, normalised.
    pub fn write_conditions(&self, rows: &mut [f32], goals: &[f32], states: &[f32]) {
        let width = self.features();
        let dim = self.0.observation_dim;
        rows[self.kind_column(0)] = 1.0;
        let mut write = |token: usize, position: usize, kind: usize, state: Option<&[f32]>| {
            let row = &mut rows[token * width..(token + 1) * width];
            if let Some(state) = state {
                row[1..=dim].copy_from_slice(state);
            }
            row[self.kind_column(kind)] = 1.0;
            row[self.position_column(position)] = 1.0;
        };
        for (i, goal) in goals.chunks_exact(dim).enumerate() {
            write(1 + i, i, 1, Some(goal));
        }
        for (i, state) in states.chunks_exact(dim).enumerate() {
            let token = 1 + self.0.goal_length + 2 * i;
            write(token, self.0.goal_length + i, 1, Some(state));
            write(token + 1, self.0.goal_length + i, 2, None);
        }
    }

    /// Writes the noise level, as `ln(σ)/4`.
    pub fn write_noise(&self, rows: &mut [f32], noise: f32) {
        rows[0] = noise;
    }

    /// Writes action `index` of the context, already scaled for the network.
    pub fn write_action(&self, rows: &mut [f32], index: usize, action: impl Iterator<Item = f32>) {
        let token = 2 + self.0.goal_length + 2 * index;
        let first = token * self.features() + self.action_column();
        rows[first..first + self.0.action_dim]
            .iter_mut()
            .zip(action)
            .for_each(|(entry, value)| *entry = value);
    }
}

/// One pre-norm transformer block.
#[derive(Module, Debug)]
struct Block<B: Backend> {
    attention_norm: LayerNorm<B>,
    /// Queries, keys and values side by side.
    projection: Linear<B>,
    attention_output: Linear<B>,
    feed_forward_norm: LayerNorm<B>,
    feed_forward_in: Linear<B>,
    feed_forward_out: Linear<B>,
}

/// The raw network F.
#[derive(Module, Debug)]
pub struct ScoreTransformer<B: Backend> {
    noise_embedding: Linear<B>,
    /// Of states and goals.
    state_embedding: Linear<B>,
    action_embedding: Linear<B>,
    positions: Param<Tensor<B, 2>>,
    blocks: Vec<Block<B>>,
    norm: LayerNorm<B>,
    head: Vec<Linear<B>>,
    #[module(skip)]
    config: NetworkConfig,
    #[module(skip)]
    tokens: Tokens,
}

/// Standard deviation of every initial weight.
const INITIAL_STD: f32 = 0.02;
/// Default of PyTorch, which the reference release keeps.
const NORM_EPSILON: f32 = 1e-5;

impl<B: Backend> ScoreTransformer<B> {
    /// A network with weights `N(0, 0.02²)`, biases 0.
    pub fn new(config: &NetworkConfig, dims: Dims, rng: &mut Rng, device: &B::Device) -> Self {
        Self::build(
            config,
            dims,
            Initializer::Normal { std: INITIAL_STD },
            rng,
            device,
        )
    }

    /// A network of zeros, to load weights into.
    pub fn zeroed(config: &NetworkConfig, dims: Dims, device: &B::Device) -> Self {
        Self::build(
            config,
            dims,
            Initializer::Zeros,
            &mut Seed::new(0).rng(),
            device,
        )
    }

    fn build(
        config: &NetworkConfig,
        dims: Dims,
        initializer: Initializer,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Self {
        let width = config.embed_dim;
        let mut linear = |inputs, outputs| Linear::new(inputs, outputs, initializer, rng, device);
        let norm = || LayerNorm::new(width, NORM_EPSILON, device);
        let noise_embedding = linear(1, width);
        let state_embedding = linear(dims.observation_dim, width);
        let action_embedding = linear(dims.action_dim, width);
        let positions = linear(Tokens(dims).positions(), width).weight;
        let blocks = (0..config.layers)
            .map(|_| Block {
                attention_norm: norm(),
                projection: linear(width, 3 * width),
                attention_output: linear(width, width),
                feed_forward_norm: norm(),
                feed_forward_in: linear(width, 4 * width),
                feed_forward_out: linear(4 * width, width),
            })
            .collect();
        let head = match config.head_hidden {
            0 => vec![linear(width, dims.action_dim)],
            hidden => vec![linear(width, hidden), linear(hidden, dims.action_dim)],
        };
        Self {
            noise_embedding,
            state_embedding,
            action_embedding,
            positions,
            blocks,
            norm: norm(),
            head,
            config: config.clone(),
            tokens: Tokens(dims),
        }
    }

    /// The matrix of all embeddings, `[features, embed_dim]`.
    fn embedding(&self) -> Tensor<B, 2> {
        let parts = [
            &self.noise_embedding,
            &self.state_embedding,
            &self.action_embedding,
        ];
        let weights = parts.iter().map(|part| part.weight.val());
        let biases = parts.iter().map(|part| part.bias.val().unsqueeze());
        Tensor::cat(
            weights
                .chain(biases)
                .chain([self.positions.val()])
                .collect(),
            0,
        )
    }

    /// F for `batch` sequences of `context` states.
    ///
    /// `dropout` gives the masks of a training step; `None` at inference.
    ///
    /// # Shapes
    /// `features` `[batch · tokens, features]` → as [`Outputs`] says.
    pub fn forward(
        &self,
        features: Vec<f32>,
        [batch, context]: [usize; 2],
        outputs: Outputs,
        mut dropout: Option<&mut Rng>,
    ) -> Tensor<B, 2> {
        let embedding = self.embedding();
        let device = embedding.device();
        let tokens = self.tokens.tokens(context);
        let mut draw = |probability: f32| {
            dropout
                .as_deref_mut()
                .and_then(|rng| Dropout::draw(probability, rng))
        };
        let config = &self.config;

        let features = TensorData::new(features, [batch * tokens, self.tokens.features()]);
        let mut x = fused::product(Tensor::<B, 2>::from_data(features, &device), embedding);
        if let Some(dropout) = draw(config.embed_dropout) {
            x = x * embedding_mask(dropout, tokens, [batch * tokens, config.embed_dim], &device);
        }

        // A product of one row takes another path through the matrix kernels, with other bits than the same row among
        // others: then the token before is computed too.
        let (count, step) = match outputs {
            Outputs::Actions => (context, 2),
            Outputs::Newest => (1, 2),
        };
        let alone = batch * count == 1;
        let (first, step) = if alone {
            (tokens - 2, 1)
        } else {
            (tokens + 1 - 2 * count, step)
        };
        let select = |x: Tensor<B, 2>| {
            let width = x.dims()[1];
            let rows = x
                .reshape([batch, tokens, width])
                .slice(s![.., first..tokens;step, ..]);
            let [batch, selected, width] = rows.dims();
            rows.reshape([batch * selected, width])
        };

        let shape = AttentionShape {
            batch,
            tokens,
            heads: config.heads,
        };
        for (i, block) in self.blocks.iter().enumerate() {
            let projection = block
                .projection
                .hidden_product(block.attention_norm.forward(x.clone()));
            let mut attended = fused::causal_attention(
                projection,
                block.projection.bias.val(),
                shape,
                draw(config.attention_dropout),
            );
            if i + 1 == self.blocks.len() {
                x = select(x);
                attended = select(attended);
            }
            let branch = &block.attention_output;
            x = fused::bias_residual(
                x,
                branch.hidden_product(attended),
                branch.bias.val(),
                draw(config.residual_dropout),
            );
            let hidden = block.feed_forward_in.forward_hidden(
                block.feed_forward_norm.forward(x.clone()),
                config.activation,
            );
            let branch = &block.feed_forward_out;
            x = fused::bias_residual(
                x,
                branch.hidden_product(hidden),
                branch.bias.val(),
                draw(config.residual_dropout),
            );
        }
        let mut x = self.norm.forward(x);
        for (i, layer) in self.head.iter().enumerate() {
            x = if i + 1 < self.head.len() {
                layer.forward_hidden(x, Activation::Silu)
            } else {
                layer.forward(x)
            };
        }
        if alone { x.slice(s![1..2, ..]) } else { x }
    }
}

/// The mask of the embedding: σ keeps its token.
fn embedding_mask<B: Backend>(
    dropout: Dropout,
    tokens: usize,
    [rows, width]: [usize; 2],
    device: &B::Device,
) -> Tensor<B, 2> {
    let factor = |i: usize| {
        if (i / width).is_multiple_of(tokens) {
            1.0
        } else {
            dropout.factor(i)
        }
    };
    Tensor::from_data(
        TensorData::new(
            (0..rows * width).map(factor).collect::<Vec<f32>>(),
            [rows, width],
        ),
        device,
    )
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use rand::RngExt;
    use telic_seed::Seed;

    use super::*;
    use crate::module_state::tensor_values;

    const BLOCK_PUSH: Dims = Dims {
        observation_dim: 10,
        action_dim: 2,
        window: 5,
        goal_length: 1,
    };
    const KITCHEN: Dims = Dims {
        observation_dim: 30,
        action_dim: 9,
        window: 4,
        goal_length: 2,
    };

    fn network(layout: Dims) -> ScoreTransformer<Flex> {
        let config = NetworkConfig {
            embed_dim: 48,
            layers: 3,
            heads: 4,
            ..Default::default()
        };
        let mut rng = Seed::new(2).rng();
        let mut network = ScoreTransformer::new(&config, layout, &mut rng, &Default::default());
        // Weights of a trained size, so that every path shows in the output.
        for block in &mut network.blocks {
            for layer in [
                &mut block.projection,
                &mut block.feed_forward_in,
                &mut block.feed_forward_out,
            ] {
                layer.weight = layer.weight.clone().map(|weight| weight * 10.0);
            }
        }
        network
    }

    /// Random tokens of `batch` sequences, as `[goals, states, actions]` per sequence.
    fn tokens(layout: Dims, batch: usize, context: usize, seed: u64) -> Vec<[Vec<f32>; 3]> {
        let mut rng = Seed::new(seed).rng();
        let mut draw = |len: usize| (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
        let (dim, actions) = (layout.observation_dim, layout.action_dim);
        (0..batch)
            .map(|_| {
                [
                    draw(layout.goal_length * dim),
                    draw(context * dim),
                    draw(context * actions),
                ]
            })
            .collect()
    }

    fn run(
        network: &ScoreTransformer<Flex>,
        rows: &[[Vec<f32>; 3]],
        sigma: f32,
        outputs: Outputs,
    ) -> Vec<f32> {
        let tokens = network.tokens;
        let layout = tokens.0;
        let context = rows[0][1].len() / layout.observation_dim;
        let stride = tokens.stride(context);
        let mut features = vec![0.0; rows.len() * stride];
        for ([goals, states, actions], features) in
            rows.iter().zip(features.chunks_exact_mut(stride))
        {
            tokens.write_conditions(features, goals, states);
            tokens.write_noise(features, sigma.ln() / 4.0);
            for (i, action) in actions.chunks_exact(layout.action_dim).enumerate() {
                tokens.write_action(features, i, action.iter().copied());
            }
        }
        tensor_values(network.forward(features, [rows.len(), context], outputs, None))
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let device = Default::default();
        let mut rng = Seed::new(1).rng();
        let block_push =
            ScoreTransformer::<Flex>::new(&NetworkConfig::default(), BLOCK_PUSH, &mut rng, &device);
        assert_eq!(block_push.num_params(), 2_783_762);
        let config = NetworkConfig {
            embed_dim: 360,
            layers: 6,
            heads: 6,
            ..Default::default()
        };
        let kitchen = ScoreTransformer::<Flex>::new(&config, KITCHEN, &mut rng, &device);
        assert_eq!(kitchen.num_params(), 9_381_249);
    }

    /// G12.
    #[test]
    fn no_position_sees_the_future() {
        for layout in [BLOCK_PUSH, KITCHEN] {
            let network = network(layout);
            let (w, a, o) = (layout.window, layout.action_dim, layout.observation_dim);
            let rows = tokens(layout, 1, w, 3);
            let outputs = run(&network, &rows, 0.4, Outputs::Actions);
            for position in 0..w - 1 {
                let mut changed = rows.clone();
                changed[0][1][(position + 1) * o..].fill(0.7);
                changed[0][2][(position + 1) * a..].fill(-0.7);
                let found = run(&network, &changed, 0.4, Outputs::Actions);
                assert_eq!(
                    found[..(position + 1) * a],
                    outputs[..(position + 1) * a],
                    "position {position}"
                );
                assert_ne!(
                    found[(position + 1) * a..],
                    outputs[(position + 1) * a..],
                    "position {position}"
                );
            }
            // The newest state and action, the goal and the noise level are seen.
            for part in 0..3 {
                let mut changed = rows.clone();
                *changed[0][part].last_mut().unwrap() += 0.3;
                assert_ne!(
                    run(&network, &changed, 0.4, Outputs::Newest),
                    outputs[(w - 1) * a..],
                    "part {part}"
                );
            }
            let noisier = run(&network, &rows, 0.5, Outputs::Actions);
            assert!(
                (0..w).all(|i| noisier[i * a] != outputs[i * a]),
                "every position sees the noise level"
            );
        }
    }

    /// G12.
    #[test]
    fn a_short_context_gives_the_beginning_of_a_long_one() {
        for layout in [BLOCK_PUSH, KITCHEN] {
            let network = network(layout);
            let rows = tokens(layout, 2, layout.window, 4);
            let outputs = run(&network, &rows, 0.2, Outputs::Actions);
            for context in 1..=layout.window {
                let (o, a) = (
                    context * layout.observation_dim,
                    context * layout.action_dim,
                );
                let short: Vec<_> = rows
                    .iter()
                    .map(|[g, s, x]| [g.clone(), s[..o].to_vec(), x[..a].to_vec()])
                    .collect();
                let found = run(&network, &short, 0.2, Outputs::Actions);
                for row in 0..2 {
                    let stride = layout.window * layout.action_dim;
                    assert_eq!(
                        found[row * a..(row + 1) * a],
                        outputs[row * stride..row * stride + a]
                    );
                }
            }
        }
    }

    /// G12: to the bit, for every context length and both kinds of output.
    #[test]
    fn a_row_is_the_same_alone_and_among_others() {
        for (layout, config) in [
            (BLOCK_PUSH, NetworkConfig::default()),
            (
                KITCHEN,
                NetworkConfig {
                    embed_dim: 360,
                    heads: 6,
                    layers: 2,
                    ..Default::default()
                },
            ),
        ] {
            let network = ScoreTransformer::<Flex>::new(
                &config,
                layout,
                &mut Seed::new(1).rng(),
                &Default::default(),
            );
            for context in 1..=layout.window {
                let rows = tokens(layout, 9, context, 5);
                let together = run(&network, &rows, 0.3, Outputs::Actions);
                let newest = run(&network, &rows, 0.3, Outputs::Newest);
                let (stride, a) = (context * layout.action_dim, layout.action_dim);
                for (i, row) in rows.iter().enumerate() {
                    let alone = run(&network, std::slice::from_ref(row), 0.3, Outputs::Actions);
                    assert_eq!(
                        alone,
                        together[i * stride..(i + 1) * stride],
                        "context {context} row {i}"
                    );
                    let alone = run(&network, std::slice::from_ref(row), 0.3, Outputs::Newest);
                    assert_eq!(
                        alone,
                        newest[i * a..(i + 1) * a],
                        "context {context} row {i}"
                    );
                    assert_eq!(
                        alone,
                        together[(i + 1) * stride - a..(i + 1) * stride],
                        "context {context} row {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn dropout_masks_come_from_the_stream() {
        let layout = BLOCK_PUSH;
        let config = NetworkConfig {
            embed_dropout: 0.2,
            ..NetworkConfig::default()
        };
        let network = ScoreTransformer::<Flex>::new(
            &config,
            layout,
            &mut Seed::new(1).rng(),
            &Default::default(),
        );
        let run = |seed: Option<u64>| {
            let mut features = vec![0.1; 3 * Tokens(layout).stride(5)];
            features[0] = -0.3;
            let mut rng = seed.map(|seed| Seed::new(seed).rng());
            tensor_values(network.forward(features, [3, 5], Outputs::Actions, rng.as_mut()))
        };
        assert_eq!(run(Some(1)), run(Some(1)));
        assert_ne!(run(Some(1)), run(Some(2)));
        assert_ne!(run(Some(1)), run(None));
    }

    #[test]
    fn the_output_layer_may_have_a_hidden_one() {
        let config = NetworkConfig {
            embed_dim: 16,
            heads: 2,
            layers: 1,
            head_hidden: 100,
            ..Default::default()
        };
        let network = ScoreTransformer::<Flex>::new(
            &config,
            BLOCK_PUSH,
            &mut Seed::new(1).rng(),
            &Default::default(),
        );
        assert_eq!(
            run(
                &network,
                &tokens(BLOCK_PUSH, 2, 3, 1),
                0.5,
                Outputs::Actions
            )
            .len(),
            2 * 3 * 2
        );
        assert_eq!(network.head.len(), 2);
    }
}
