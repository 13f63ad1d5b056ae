//! Layers and optimisers that algorithms share.
//!
//! What belongs here: parts of networks that more than one algorithm could use. Initial weights, dropout masks and
//! noise come from a host [`Rng`](telic_seed::Rng), so a network is a function of its seed on every backend.
//!
//! - [`fused`]: operations that the CPU backend runs in one pass over memory, each with its plain form for other backends
//! - [`layers`]: linear layer, layer norm, multi-layer perceptron
//! - [`adam`]: Adam and AdamW with state that is saved by parameter name
//! - [`lr_schedule`]: learning rates over the run

pub mod adam;
pub mod fused;
pub mod layers;
pub mod lr_schedule;

pub use adam::{Adam, AdamConfig};
pub(crate) use fused::is_flex;
pub use fused::{Activation, Dropout, tanh};
pub use layers::{Initializer, LayerNorm, Linear, Mlp, MlpConfig};
pub use lr_schedule::{LrSchedule, LrScheduleKind};
