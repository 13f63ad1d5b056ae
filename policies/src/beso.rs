//! BESO: behaviour generation with score-based diffusion policies (Reuss, Li, Jia, Lioutikov, RSS 2023, arXiv 2304.02532).
//!
//! A conditional denoiser over the actions of a short context, given the observations of the context and one or a few future
//! observations of the same episode as the goal. With a window of W observations `s`, actions `a`, and a goal `g`:
//!
//! ```text
//! σ ~ density, one per window        x = a + σ n, n ~ N(0, 1)
//! D(x) = c_skip x + c_out F(c_in x, s, g, ln(σ)/4)
//! L = mean (F − (a − c_skip x) / c_out)²
//! ```
//!
//! Acting integrates `dx/dσ = (x − D(x)) / σ` for the newest action from noise at `sigma_max` to 0 in a few steps, executes
//! it, and moves the window on. Number of steps, sampler, schedule and guidance are chosen at inference.
//!
//! - [`preconditioning`], [`noise_density`], [`schedule`], [`sampler`], [`guidance`]: the equations, on plain numbers
//! - [`network`]: the network F, a [`transformer`] or a perceptron ([`mlp`])
//! - [`config`], [`agent`], [`policy`], [`history`]: training and acting

pub mod agent;
pub mod config;
mod denoise;
pub mod guidance;
pub mod history;
pub mod mlp;
pub mod network;
pub mod noise_density;
pub mod policy;
pub mod preconditioning;
pub mod sampler;
pub mod schedule;
pub mod transformer;

use burn::tensor::backend::{AutodiffBackend, Backend};

pub use agent::BesoAgent;
pub use config::{BesoConfig, SamplerConfig};
pub use policy::BesoPolicy;

use crate::{Algorithm, Model, Policy, PolicyError, PolicySpec, TrainingTask};

/// BESO in the registry.
pub const SPEC: PolicySpec = PolicySpec::of::<Beso>(
    "beso",
    "BESO",
    "a transformer denoises the next action, conditioned on a short history and a goal observation",
    "Reuss, Li, Jia, Lioutikov: Goal-Conditioned Imitation Learning using Score-based Diffusion Policies, RSS 2023, arXiv:2304.02532",
);

/// Ties configuration, agent and policy together.
pub struct Beso;

impl Algorithm for Beso {
    type Config = BesoConfig;
    type Agent<B: AutodiffBackend> = BesoAgent<B>;

    fn new_agent<B: AutodiffBackend>(
        config: &BesoConfig,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Result<BesoAgent<B>, PolicyError> {
        BesoAgent::new(config, task, device)
    }

    fn load<B: Backend>(
        config: &BesoConfig,
        model: &Model,
        device: &B::Device,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        Ok(Box::new(BesoPolicy::<B>::load(config, model, device)?))
    }
}

#[cfg(test)]
mod tests;
