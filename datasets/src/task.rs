//! Rewards of one task for data that was collected without any, as the single-task datasets of OGBench.
//!
//! A task is a list of sub-goals on the simulator state *before* the action of a row:
//! reward = (satisfied sub-goals) − (sub-goals), mask = 1 − (all satisfied). With one sub-goal this is the sparse
//! reward 0 or −1 of the mazes.

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use crate::{Dataset, SamplerError};

/// One condition of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubGoal {
    /// The entries of `qpos` from `first` on are within a Euclidean distance of `target`.
    Position {
        /// First entry of `qpos`.
        first: usize,
        /// Where they should be, in the unit of `qpos`.
        target: Vec<f32>,
        /// Greatest distance that counts, in the unit of `qpos`.
        tolerance: f32,
    },
    /// A discrete state has a value.
    Button {
        /// Entry of `button_states`.
        index: usize,
        /// Value that it should have.
        state: i64,
    },
}

/// Reward and mask of every row of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskLabels {
    /// `[rows]`, from −(sub-goals) to 0.
    pub rewards: Vec<f32>,
    /// 0 where all sub-goals are satisfied, else 1, `[rows]`.
    pub masks: Vec<f32>,
    /// Valid rows in which all sub-goals are satisfied. With 0 of them nothing can be learnt from the reward.
    pub successes: usize,
}

impl Dataset {
    /// Labels every row for a task. Needs `qpos`, and `button_states` for buttons.
    ///
    /// # Errors
    /// [`SamplerError::Empty`] if a table is missing or there is no sub-goal; [`SamplerError::Index`] for an entry beyond it.
    pub fn label_task(&self, sub_goals: &[SubGoal]) -> Result<TaskLabels, SamplerError> {
        if sub_goals.is_empty() {
            return Err(SamplerError::Empty {
                what: "sub-goals",
                reason: "a task needs one".to_owned(),
            });
        }
        let rows = self.episodes().num_rows();
        let mut satisfied = vec![0usize; rows];
        for sub_goal in sub_goals {
            match sub_goal {
                SubGoal::Position {
                    first,
                    target,
                    tolerance,
                } => {
                    let qpos = self.qpos().ok_or_else(|| missing("qpos"))?;
                    check(
                        first.saturating_add(target.len().saturating_sub(1)),
                        qpos.ncols(),
                    )?;
                    for (count, row) in satisfied.iter_mut().zip(qpos.rows()) {
                        *count +=
                            usize::from(distance(&row, *first, target) <= f64::from(*tolerance));
                    }
                }
                SubGoal::Button { index, state } => {
                    let buttons = self
                        .button_states()
                        .ok_or_else(|| missing("button_states"))?;
                    check(*index, buttons.ncols())?;
                    for (count, found) in satisfied.iter_mut().zip(buttons.column(*index)) {
                        *count += usize::from(found == state);
                    }
                }
            }
        }
        let all = sub_goals.len();
        let successes = (0..rows)
            .filter(|&row| satisfied[row] == all && self.episodes().is_valid(row))
            .count();
        Ok(TaskLabels {
            rewards: satisfied
                .iter()
                .map(|&count| count as f32 - all as f32)
                .collect(),
            masks: satisfied
                .iter()
                .map(|&count| f32::from(count != all))
                .collect(),
            successes,
        })
    }
}

fn distance(row: &ArrayView1<'_, f32>, first: usize, target: &[f32]) -> f64 {
    let differences = target
        .iter()
        .enumerate()
        .map(|(i, &target)| f64::from(row[first + i]) - f64::from(target));
    differences
        .map(|difference| difference * difference)
        .sum::<f64>()
        .sqrt()
}

fn missing(what: &'static str) -> SamplerError {
    SamplerError::Empty {
        what,
        reason: "the dataset was stored without it".to_owned(),
    }
}

fn check(index: usize, width: usize) -> Result<(), SamplerError> {
    if index < width {
        return Ok(());
    }
    let expected = format!("entries of the state, below {width}");
    Err(SamplerError::Index {
        field: "sub_goals",
        index,
        expected,
    })
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::{Columns, EpisodeIndex, Metadata};

    /// The state of a scene in every row: `qpos` from entry 14 on, and buttons.
    fn scene(cube: [f32; 3], drawer: f32, buttons: [i64; 2]) -> Dataset {
        let mut qpos = Array2::zeros((2, 25));
        for mut row in qpos.rows_mut() {
            (row[14], row[15], row[16]) = (cube[0], cube[1], cube[2]);
            row[23] = drawer;
        }
        let columns = Columns {
            observations: Array2::zeros((2, 1)),
            actions: Array2::zeros((2, 1)),
            qpos: Some(qpos),
            button_states: Some(Array2::from_shape_fn((2, 2), |(_, button)| buttons[button])),
            ..Columns::default()
        };
        Dataset::new(
            columns,
            EpisodeIndex::from_lengths(&[2]).unwrap(),
            Metadata::default(),
        )
        .unwrap()
    }

    fn position(first: usize, target: &[f32]) -> SubGoal {
        SubGoal::Position {
            first,
            target: target.to_vec(),
            tolerance: 0.04,
        }
    }

    #[test]
    fn one_cube() {
        let task = [position(14, &[0.425, -0.1, 0.02])];
        let labels = scene([0.425, -0.1, 0.02], 0.0, [0, 0])
            .label_task(&task)
            .unwrap();
        assert_eq!(
            (labels.rewards[0], labels.masks[0], labels.successes),
            (0.0, 0.0, 1)
        );
        // 41 mm away.
        let labels = scene([0.425, -0.1, 0.061], 0.0, [0, 0])
            .label_task(&task)
            .unwrap();
        assert_eq!(
            (labels.rewards[0], labels.masks[0], labels.successes),
            (-1.0, 1.0, 0)
        );
    }

    #[test]
    fn scene_with_all_but_the_drawer() {
        let button = |index, state| SubGoal::Button { index, state };
        let task = [
            position(14, &[0.4, 0.0, 0.02]),
            button(0, 1),
            button(1, 0),
            position(23, &[0.0]),
            position(24, &[0.0]),
        ];
        let labels = scene([0.4, 0.0, 0.02], 0.05, [1, 0])
            .label_task(&task)
            .unwrap();
        assert_eq!((labels.rewards[0], labels.masks[0]), (-1.0, 1.0));
        let labels = scene([0.4, 0.0, 0.02], 0.04, [0, 0])
            .label_task(&task)
            .unwrap();
        assert_eq!((labels.rewards[0], labels.masks[0]), (-1.0, 1.0));
        let labels = scene([0.4, 0.0, 0.02], 0.04, [1, 0])
            .label_task(&task)
            .unwrap();
        assert_eq!((labels.rewards[0], labels.masks[0]), (0.0, 0.0));
    }

    #[test]
    fn states_that_are_not_there_are_named() {
        let dataset = scene([0.0; 3], 0.0, [0, 0]);
        let index = |task: &[SubGoal]| match dataset.label_task(task) {
            Err(SamplerError::Index { index, .. }) => index,
            other => panic!("{other:?}"),
        };
        assert_eq!(index(&[position(24, &[0.0, 0.0])]), 25);
        assert_eq!(index(&[SubGoal::Button { index: 2, state: 0 }]), 2);
        let bare = crate::testing::ramp(&[2]);
        let problem = bare.label_task(&[position(0, &[0.0])]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "there are no qpos: the dataset was stored without it"
        );
    }
}
