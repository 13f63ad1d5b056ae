//! The transitions of a learner that makes its own data.

use rand::RngExt;
use telic_seed::Rng;

use crate::{PolicyError, TensorMap};

/// The last transitions, up to a capacity.
#[derive(Debug)]
pub struct Replay {
    observation_dim: usize,
    action_dim: usize,
    capacity: usize,
    /// Where the next one goes.
    next: usize,
    transitions: ReplayBatch,
}

/// Transitions, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayBatch {
    /// `[rows, observation_dim]`.
    pub observations: Vec<f32>,
    /// `[rows, action_dim]`.
    pub actions: Vec<f32>,
    /// `[rows]`.
    pub rewards: Vec<f32>,
    /// 0 where the episode is over for good, else 1; `[rows]`.
    pub masks: Vec<f32>,
    /// `[rows, observation_dim]`.
    pub next_observations: Vec<f32>,
}

/// One transition.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// `[observation_dim]`.
    pub observation: &'a [f32],
    /// `[action_dim]`.
    pub action: &'a [f32],
    /// r.
    pub reward: f32,
    /// Whether the episode is over for good; reaching a step limit does not count.
    pub terminated: bool,
    /// `[observation_dim]`.
    pub next_observation: &'a [f32],
}

/// Writes a row into a table that may still be growing.
fn put(table: &mut Vec<f32>, row: usize, values: &[f32]) {
    let at = row * values.len();
    if at == table.len() {
        table.extend_from_slice(values);
    } else {
        table[at..at + values.len()].copy_from_slice(values);
    }
}

impl Replay {
    /// An empty one for `capacity` transitions.
    pub fn new(observation_dim: usize, action_dim: usize, capacity: usize) -> Self {
        Self {
            observation_dim,
            action_dim,
            capacity,
            next: 0,
            transitions: ReplayBatch::default(),
        }
    }

    /// Transitions in it.
    pub fn len(&self) -> usize {
        self.transitions.rewards.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a transition, in place of the oldest one where it is full.
    pub fn push(&mut self, transition: Transition<'_>) {
        let (row, all) = (self.next, &mut self.transitions);
        put(&mut all.observations, row, transition.observation);
        put(&mut all.actions, row, transition.action);
        put(&mut all.rewards, row, &[transition.reward]);
        let mask = if transition.terminated { 0.0 } else { 1.0 };
        put(&mut all.masks, row, &[mask]);
        put(&mut all.next_observations, row, transition.next_observation);
        self.next = (row + 1) % self.capacity;
    }

    /// All of it.
    pub fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        let all = &self.transitions;
        let (observations, actions) = (self.observation_dim, self.action_dim);
        for (name, table, width) in [
            ("observations", &all.observations, observations),
            ("actions", &all.actions, actions),
            ("rewards", &all.rewards, 1),
            ("masks", &all.masks, 1),
            ("next_observations", &all.next_observations, observations),
        ] {
            state.insert_f32(name, &[self.len(), width], table.clone());
        }
        state.insert_u64("next", self.next as u64);
        state
    }

    /// Takes over a saved [`state`](Self::state) of a replay with the same capacity.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let rows = state.get_f32_rows("rewards", 1)?.len();
        let table = |name: &str, width: usize| {
            let values = state.get_f32(name, &[rows, width])?;
            Ok::<_, PolicyError>(values.to_vec())
        };
        let (observations, actions) = (self.observation_dim, self.action_dim);
        let next = state.get_u64("next")? as usize;
        let fits = if rows < self.capacity {
            next == rows
        } else {
            rows == self.capacity && next < rows
        };
        if !fits {
            return Err(PolicyError::Data {
                fact: format!("a replay has {rows} transitions, and the next is the {next}th"),
                expected: format!("at most {}, and the next behind the last", self.capacity),
            });
        }
        self.transitions = ReplayBatch {
            observations: table("observations", observations)?,
            actions: table("actions", actions)?,
            rewards: table("rewards", 1)?,
            masks: table("masks", 1)?,
            next_observations: table("next_observations", observations)?,
        };
        self.next = next;
        Ok(())
    }

    /// Draws `rows` transitions, each with the same probability; there must be one.
    pub fn sample(&self, rows: usize, rng: &mut Rng) -> ReplayBatch {
        let mut batch = ReplayBatch::default();
        let all = &self.transitions;
        for _ in 0..rows {
            let row = rng.random_range(0..self.len());
            let (seen, acted) = (row * self.observation_dim, row * self.action_dim);
            let seen = seen..seen + self.observation_dim;
            batch
                .observations
                .extend_from_slice(&all.observations[seen.clone()]);
            batch
                .actions
                .extend_from_slice(&all.actions[acted..acted + self.action_dim]);
            batch.rewards.push(all.rewards[row]);
            batch.masks.push(all.masks[row]);
            batch
                .next_observations
                .extend_from_slice(&all.next_observations[seen]);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use telic_seed::Seed;

    use super::*;

    proptest! {
        #[test]
        fn the_last_transitions_are_kept_and_drawn(capacity in 1usize..20, pushed in 1usize..60) {
            let mut replay = Replay::new(2, 1, capacity);
            for k in 0..pushed {
                let x = k as f32;
                replay.push(Transition {
                    observation: &[x, -x],
                    action: &[x / 2.0],
                    reward: x,
                    terminated: k.is_multiple_of(3),
                    next_observation: &[x + 1.0, -x - 1.0],
                });
            }
            prop_assert_eq!(replay.len(), pushed.min(capacity));
            let batch = replay.sample(400, &mut Seed::new(0).rng());
            let mut seen = vec![false; pushed];
            for (row, &x) in batch.rewards.iter().enumerate() {
                let k = x as usize;
                seen[k] = true;
                prop_assert!(k + capacity >= pushed);
                prop_assert_eq!(&batch.observations[2 * row..2 * row + 2], &[x, -x]);
                prop_assert_eq!(batch.actions[row], x / 2.0);
                prop_assert_eq!(batch.masks[row], if k.is_multiple_of(3) { 0.0 } else { 1.0 });
                prop_assert_eq!(&batch.next_observations[2 * row..2 * row + 2], &[x + 1.0, -x - 1.0]);
            }
            prop_assert_eq!(seen.iter().filter(|seen| **seen).count(), pushed.min(capacity));
        }
    }
}
