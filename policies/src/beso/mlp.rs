//! The score perceptron: the whole window side by side in one row, the newest action out.
//!
//! ```text
//! [ ln(σ)/4 | g_1 … g_G | s_1 … s_W | a_1 … a_{W−1} | which steps are missing | a_W ]
//! ```
//!
//! Where a context is shorter than the window, as at the beginning of an episode, the newest step stands last, the steps
//! that are missing in front repeat the first state, their actions are 0 and their flags 1. Training sees such windows too
//! ([`telic_datasets::WindowConfig::short_windows`]).
//!
//! Source: the perceptron variant of Reuss et al. 2023, with the layers of [`Mlp`].

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, s};
use telic_seed::Rng;

use super::network::{Dims, NetworkConfig};
use crate::nn::{Mlp, MlpConfig};

/// Where everything stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(pub Dims);

impl Row {
    fn states_column(&self) -> usize {
        1 + self.0.goal_length * self.0.observation_dim
    }

    fn actions_column(&self) -> usize {
        self.states_column() + self.0.window * self.0.observation_dim
    }

    fn missing_column(&self) -> usize {
        self.actions_column() + (self.0.window - 1) * self.0.action_dim
    }

    fn newest_column(&self) -> usize {
        self.missing_column() + self.0.window - 1
    }

    /// Entries of a row.
    pub fn width(&self) -> usize {
        self.newest_column() + self.0.action_dim
    }

    /// Writes goals and states to a zeroed row.
    ///
    /// # Shapes
    /// `goals` `[goal_length, observation_dim]`, `states` `[context, observation_dim]`, normalised.
    pub fn write_conditions(&self, row: &mut [f32], goals: &[f32], states: &[f32]) {
        let dim = self.0.observation_dim;
        row[1..self.states_column()].copy_from_slice(goals);
        let missing = self.0.window - states.len() / dim;
        let slots = row[self.states_column()..self.actions_column()].chunks_exact_mut(dim);
        for (step, slot) in slots.enumerate() {
            let state = step.saturating_sub(missing) * dim;
            slot.copy_from_slice(&states[state..state + dim]);
        }
        row[self.missing_column()..self.missing_column() + missing].fill(1.0);
    }

    /// Writes the noise level, as `ln(σ)/4`.
    pub fn write_noise(&self, row: &mut [f32], noise: f32) {
        row[0] = noise;
    }

    /// Writes action `index` of `context`, already scaled for the network.
    pub fn write_action(
        &self,
        row: &mut [f32],
        index: usize,
        context: usize,
        action: impl Iterator<Item = f32>,
    ) {
        let step = index + self.0.window - context;
        let first = if step + 1 == self.0.window {
            self.newest_column()
        } else {
            self.actions_column() + step * self.0.action_dim
        };
        row[first..first + self.0.action_dim]
            .iter_mut()
            .zip(action)
            .for_each(|(entry, value)| *entry = value);
    }
}

/// The raw network F as a perceptron.
#[derive(Module, Debug)]
pub struct ScoreMlp<B: Backend> {
    mlp: Mlp<B>,
    #[module(skip)]
    row: Row,
}

impl<B: Backend> ScoreMlp<B> {
    /// Glorot-uniform weights; those of the output layer have a hundredth of the variance, so that F starts near 0.
    pub fn new(config: &NetworkConfig, dims: Dims, rng: &mut Rng, device: &B::Device) -> Self {
        const OUTPUT_SCALE: f32 = 0.01;
        let row = Row(dims);
        let layers = MlpConfig {
            hidden: config.hidden.clone(),
            activation: config.activation,
            layer_norm: config.layer_norm,
        };
        Self {
            mlp: Mlp::new(
                &layers,
                row.width(),
                dims.action_dim,
                OUTPUT_SCALE,
                rng,
                device,
            ),
            row,
        }
    }

    /// F of the newest action, `[batch, action_dim]`.
    pub fn forward(&self, features: Vec<f32>, batch: usize) -> Tensor<B, 2> {
        let width = self.row.width();
        let device = self.mlp.device();
        // A product of one row takes another path through the matrix kernels, with other bits than the same row among
        // others: then it is computed twice.
        if batch == 1 {
            let rows = TensorData::new([&features[..], &features].concat(), [2, width]);
            return self
                .mlp
                .forward(Tensor::from_data(rows, &device))
                .slice(s![0..1, ..]);
        }
        let rows = TensorData::new(features, [batch, width]);
        self.mlp.forward(Tensor::from_data(rows, &device))
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use rand::RngExt;
    use telic_seed::Seed;

    use super::*;
    use crate::module_state::tensor_values;

    const DIMS: Dims = Dims {
        observation_dim: 2,
        action_dim: 1,
        window: 3,
        goal_length: 1,
    };

    #[test]
    fn a_short_context_ends_where_a_long_one_does() {
        let row = Row(DIMS);
        let write = |states: &[f32], actions: &[f32]| {
            let mut features = vec![0.0; row.width()];
            row.write_conditions(&mut features, &[8.0, 9.0], states);
            row.write_noise(&mut features, -0.5);
            for (i, &action) in actions.iter().enumerate() {
                row.write_action(&mut features, i, actions.len(), [action].into_iter());
            }
            features
        };
        assert_eq!(
            write(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[0.1, 0.2, 0.3]),
            [
                -0.5, 8.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.1, 0.2, 0.0, 0.0, 0.3
            ]
        );
        assert_eq!(
            write(&[3.0, 4.0, 5.0, 6.0], &[0.2, 0.3]),
            [
                -0.5, 8.0, 9.0, 3.0, 4.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.2, 1.0, 0.0, 0.3
            ]
        );
        assert_eq!(
            write(&[5.0, 6.0], &[0.3]),
            [
                -0.5, 8.0, 9.0, 5.0, 6.0, 5.0, 6.0, 5.0, 6.0, 0.0, 0.0, 1.0, 1.0, 0.3
            ]
        );
    }

    /// G12: to the bit.
    #[test]
    fn a_row_is_the_same_alone_and_among_others() {
        let config = NetworkConfig::default();
        let mut rng = Seed::new(5).rng();
        let network = ScoreMlp::<Flex>::new(&config, DIMS, &mut rng, &Default::default());
        let width = network.row.width();
        let rows: Vec<f32> = (0..9 * width)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let together = tensor_values(network.forward(rows.clone(), 9));
        for (row, output) in rows.chunks_exact(width).zip(&together) {
            let alone = tensor_values(network.forward(row.to_vec(), 1));
            assert_eq!(alone[0].to_bits(), output.to_bits());
        }
    }
}
