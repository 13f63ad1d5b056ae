//! Goals on two levels, as HIQL (Park et al. 2023) trains on.
//!
//! For a valid row i whose episode has its last valid row at E, with a horizon of k steps:
//!
//! - the low level is given the goal min(i + k, E);
//! - the high level is given a goal h of the actor's mixture: a later row of the episode, or any valid row;
//! - the high level's target is min(i + k, h) for a goal of the episode, min(i + k, w) for one that is stitched at the way-point
//!   w, and min(i + k, E) for a random one.

use telic_seed::Rng;

use crate::{HindsightSampler, TransitionBatch};

/// Rows of the goals of one transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subgoals {
    /// What the low level is asked for.
    pub low_goal: usize,
    /// What the high level is asked for.
    pub high_goal: usize,
    /// What the high level should answer.
    pub high_target: usize,
}

/// Transitions with goals of the value function and of both levels. Tables are row-major and are reused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubgoalBatch {
    /// Transitions; the actor goals are those of the high level.
    pub transitions: TransitionBatch,
    /// Sub-goals of the low actor, as goals: without what a goal hides, `[size, observation_dim]`.
    pub low_goals: Vec<f32>,
    /// Targets of the high actor, as observations: a value is asked at them, `[size, observation_dim]`.
    pub high_targets: Vec<f32>,
    /// The same targets as goals: without what a goal hides, `[size, observation_dim]`.
    pub high_subgoals: Vec<f32>,
    /// Row of each low goal, `[size]`.
    pub low_goal_rows: Vec<usize>,
    /// Row of each high target, `[size]`.
    pub high_target_rows: Vec<usize>,
}

impl SubgoalBatch {
    /// An empty batch that asks for `size` rows.
    pub fn with_size(size: usize) -> Self {
        Self {
            transitions: TransitionBatch::with_size(size),
            ..Self::default()
        }
    }
}

impl HindsightSampler {
    /// Goals of both levels for a valid row. The actor's mixture decides between a random goal and one of the episode; a
    /// share of current goals counts to the latter.
    pub fn draw_subgoals(&self, row: usize, horizon: usize, rng: &mut Rng) -> Subgoals {
        use rand::RngExt;
        let end = self.dataset().episodes().end_row(row);
        let low_goal = (row + horizon).min(end);
        let mix = &self.config().actor;
        if rng.random::<f64>() < mix.random {
            Subgoals {
                low_goal,
                high_goal: self.draw_row(rng),
                high_target: low_goal,
            }
        } else {
            // On the way to a goal of another episode, up to where the episodes meet.
            let (high_goal, before) = if let Some(stitched) = self.draw_stitched(row, mix, rng) {
                (stitched.goal, stitched.way_point)
            } else {
                let goal = self.draw_future(row, mix.geometric, rng);
                (goal, goal)
            };
            Subgoals {
                low_goal,
                high_goal,
                high_target: (row + horizon).min(before),
            }
        }
    }

    /// Fills a batch of `batch.transitions.size` rows with subgoals at most `horizon` steps ahead. Allocates nothing
    /// once the batch has had this size.
    pub fn sample_subgoals(&self, horizon: usize, rng: &mut Rng, batch: &mut SubgoalBatch) {
        let SubgoalBatch {
            transitions,
            low_goals,
            high_targets,
            high_subgoals,
            low_goal_rows,
            high_target_rows,
        } = batch;
        transitions.rows.clear();
        transitions.value_goal_rows.clear();
        transitions.actor_goal_rows.clear();
        low_goal_rows.clear();
        high_target_rows.clear();
        for _ in 0..transitions.size {
            let row = self.draw_row(rng);
            transitions.rows.push(row);
            transitions
                .value_goal_rows
                .push(self.draw_goal(row, &self.config().value, rng));
            let subgoals = self.draw_subgoals(row, horizon, rng);
            transitions.actor_goal_rows.push(subgoals.high_goal);
            low_goal_rows.push(subgoals.low_goal);
            high_target_rows.push(subgoals.high_target);
        }
        self.gather(transitions);
        self.gather_goals(low_goal_rows.iter().copied(), low_goals);
        self.gather_observations(high_target_rows.iter().copied(), high_targets);
        self.gather_goals(high_target_rows.iter().copied(), high_subgoals);
    }
}
