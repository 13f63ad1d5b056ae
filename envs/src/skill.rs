//! Tasks that teach a robot a skill online: [following directions](crate::locomotion) and [dribbling](crate::dribbling).
//!
//! A task is no goal environment: it has a reward of its own, and what it teaches drives the demonstrators of environments.

use telic_seed::Seed;

/// A task with a reward.
pub trait SkillTask: Send {
    /// Length of an observation.
    fn observation_dim(&self) -> usize;

    /// Length of an action.
    fn action_dim(&self) -> usize;

    /// Starts an episode that is a function of the seed.
    fn reset(&mut self, seed: Seed);

    /// `[observation_dim]`.
    fn observation(&self) -> &[f32];

    /// Applies an action `[action_dim]` in −1..=1 for one control period.
    ///
    /// # Panics
    /// If the action has another length, or a number that is not finite.
    fn step(&mut self, action: &[f32]) -> SkillStep;
}

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkillStep {
    /// What it earned, see the task.
    pub reward: f32,
    /// The episode is over for good: nothing more can be earned.
    pub terminated: bool,
    /// The step limit was reached, but the episode could have gone on.
    pub truncated: bool,
}
