//! Goal-conditioned environments on rapier worlds.
//!
//! What belongs here: environments (one file each), what describes them ([`EnvSpec`]), their
//! demonstrators, and stepping many of them at once. Nothing here trains, or knows a format of datasets.
//!
//! - [`env`](mod@env): the contract, [`GoalEnv`] and [`EnvSpec`]
//! - [`demonstrator`]: the contract of a scripted expert that collects data
//! - [`registry`]: every environment by id
//! - [`vector`]: many instances stepped at once, [`VecEnv`]
//! - [`maze`]: grid mazes; `maze_env`: crossing one, for any robot
//! - [`point_maze`], [`block_push`], `walker`: the environments
//! - [`locomotion`]: tasks that teach a robot to walk; [`gait`]: what it learned
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ant;
mod ant_maze;
mod ant_soccer;
mod arm;
mod ball;
pub mod block_push;
mod cube;
pub mod demonstrator;
pub mod dribbling;
pub mod env;
pub mod gait;
mod humanoid;
mod humanoid_maze;
pub mod locomotion;
pub mod maze;
mod maze_env;
pub mod point_maze;
pub mod registry;
mod shared_model;
pub mod skill;
mod snapshot;
pub mod vector;
mod walker;

pub use demonstrator::{Demonstrator, DemonstratorSpec};
pub use env::{
    ActionEntry, Entry, EnvError, EnvSpec, GoalEnv, GoalSpec, Marker, Probe, Probes, ResetOptions,
    RewardSpec, Start, Step, Task,
};
pub use registry::{spec, specs};
pub use vector::{AutoresetMode, RowReset, StepBatch, VecEnv, VecError, VecOptions};
