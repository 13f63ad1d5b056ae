//! Goal-conditioned environments on rapier worlds.
//!
//! What belongs here: environments (one file each), what describes them ([`EnvSpec`]), their
//! scripted demonstrators, and stepping many of them at once. Nothing here knows a network or a
//! file format.
//!
//! - [`env`](mod@env): the contract, [`GoalEnv`] and [`EnvSpec`]
//! - [`demonstrator`]: the contract of a scripted expert that collects data
//! - [`registry`]: every environment by id
//! - [`vector`]: many instances stepped at once, [`VecEnv`]
//! - [`maze`]: grid mazes, shared by everything that moves in one
//! - [`point_maze`], [`block_push`]: the environments
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arm;
pub mod block_push;
mod cube;
pub mod demonstrator;
pub mod env;
pub mod maze;
pub mod point_maze;
pub mod registry;
mod snapshot;
pub mod vector;

pub use demonstrator::{Demonstrator, DemonstratorSpec};
pub use env::{
    ActionEntry, Entry, EnvError, EnvSpec, GoalEnv, GoalSpec, Marker, Probe, Probes, ResetOptions,
    Start, Step, Task,
};
pub use registry::{spec, specs};
pub use vector::{AutoresetMode, RowReset, StepBatch, VecEnv, VecError, VecOptions};
