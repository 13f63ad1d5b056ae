//! Scripted experts that make play data.

use crate::{EnvError, GoalEnv, Step};

/// A scripted expert together with the environment it drives.
///
/// It owns its environment, so that it may read privileged state. One collection step is
/// [`act`](Self::act), then [`step`](Self::step).
pub trait Demonstrator: Send {
    /// The environment being driven.
    fn env(&self) -> &dyn GoalEnv;

    /// Starts an episode; every draw of environment and expert derives from `seed`. With `task`, the expert solves
    /// that evaluation task; without, it makes play data from the collection start distribution
    /// (`Start::Collection` with the same `seed`, so that the environment alone can replay it).
    fn reset(&mut self, seed: u64, task: Option<usize>) -> Result<(), EnvError>;

    /// Writes the next action `[action_dim]`, with this expert's noise, clipped to −1..=1.
    fn act(&mut self, action: &mut [f32]);

    /// Steps the environment and lets the expert choose its next target.
    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError>;

    /// Whether the play episode is over (a fixed length, or the end of the task).
    fn finished(&self) -> bool;
}

/// A demonstrator by name.
#[derive(Clone, Debug)]
pub struct DemonstratorSpec {
    /// Name on the command line, for example `play`, `noisy`, `navigate`, `stitch`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Control steps of one play episode, at most.
    pub episode_steps: usize,
    /// Builds one. `noise` scales every random perturbation of the actions: 1 as published, 0 none.
    pub make: fn(noise: f32) -> Result<Box<dyn Demonstrator>, EnvError>,
}
