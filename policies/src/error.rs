//! What goes wrong in a policy or an agent.

use crate::{Device, Problems};

/// Bad input to a policy, or a model that is not one of its algorithm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// An array has another shape than the policy works with.
    #[error("`{what}` has shape {found:?} but the policy expects {expected:?}")]
    Shape {
        /// Name of the argument.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A saved model or state lacks a tensor.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A saved tensor has another shape or element type than the algorithm has a place for.
    #[error("tensor `{name}` is {found} but {expected} is expected")]
    TensorShape {
        /// Its name.
        name: String,
        /// Element type and shape in the file, for example `f32 [4, 2]`.
        found: String,
        /// What the algorithm expects, in the same form.
        expected: String,
    },
    /// Inference settings that do not exist or are out of range.
    #[error("{0}")]
    Settings(Problems),
    /// A policy that takes goals only was prompted with a reward.
    #[error("this policy takes goals only, it cannot be prompted with a reward")]
    NoRewards,
    /// The data cannot be learned from with this configuration.
    #[error("{fact}; expected {expected}")]
    Data {
        /// What is the case, with the value.
        fact: String,
        /// What has to be the case.
        expected: String,
    },
    /// A device that this build or machine does not have.
    #[error("cannot use device `{device}`: {reason}")]
    Device {
        /// The device that was asked for.
        device: Device,
        /// Why, and what to do.
        reason: String,
    },
    /// A number of an online run is NaN or infinite.
    #[error(
        "`{metric}` is {value} near step {step}; expected a finite number (try a lower learning rate)"
    )]
    Diverged {
        /// Its name.
        metric: String,
        /// Its value.
        value: f64,
        /// Steps of the task so far.
        step: u64,
    },
    /// A thread that reads batches has died.
    #[error("the thread that samples batches stopped before batch {batch}: {reason}")]
    Sampler {
        /// Number of the batch that is missing.
        batch: u64,
        /// Its last words.
        reason: String,
    },
    /// The dataset layer refused.
    #[error(transparent)]
    Dataset(#[from] telic_datasets::DatasetError),
    /// The data cannot be sampled as the configuration asks for.
    #[error(transparent)]
    Sampling(#[from] telic_datasets::SamplerError),
    /// A sampler does not reach its end.
    #[error(transparent)]
    Denoising(#[from] crate::beso::sampler::SampleError),
}
