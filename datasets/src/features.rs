//! What a policy sees of an observation and of a goal.

use serde::{Deserialize, Serialize};

use crate::{Normalizer, SamplerError};

/// Selects entries of an observation, normalises them, and hides entries of a goal.
///
/// One value serves training (inside [`WindowSampler`](crate::WindowSampler)) and inference (inside a policy), so that both see the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureView {
    /// Entries of a full observation that are seen, in order; `None` for all.
    pub columns: Option<Vec<usize>>,
    /// Entries of a full observation that survive in a goal, a subset of `columns`; `None` for all of them.
    /// The others are 0 *after* normalisation, that is at the mean of the data under a z-score.
    pub goal_columns: Option<Vec<usize>>,
    /// Map of the selected entries, `[columns.len()]`.
    pub normalizer: Normalizer,
}

impl FeatureView {
    /// A view of observations of `observation_dim` entries.
    ///
    /// # Errors
    /// [`SamplerError::Index`] for an entry that is not there, is listed twice, or is hidden; [`SamplerError::Width`]
    /// if the normaliser is for another number of entries.
    pub fn check(&self, observation_dim: usize) -> Result<(), SamplerError> {
        if let Some(columns) = &self.columns {
            check_indices("observation_columns", columns, observation_dim)?;
        }
        if let Some(goal_columns) = &self.goal_columns {
            check_indices("goal_columns", goal_columns, observation_dim)?;
            if let Some(columns) = &self.columns
                && let Some(&index) = goal_columns.iter().find(|index| !columns.contains(index))
            {
                let expected = format!("one of `observation_columns` {columns:?}");
                return Err(SamplerError::Index {
                    field: "goal_columns",
                    index,
                    expected,
                });
            }
        }
        self.normalizer
            .check_width("observation normaliser", self.dim(observation_dim))
    }

    /// Entries that are seen of an observation of `observation_dim` entries.
    pub fn dim(&self, observation_dim: usize) -> usize {
        self.columns.as_ref().map_or(observation_dim, Vec::len)
    }

    /// Writes what is seen of a full observation to `out`, `[dim]`.
    pub fn observe(&self, observation: &[f32], out: &mut [f32]) {
        self.select(observation, out);
        self.normalizer.apply(out);
    }

    /// Writes what is seen of a full goal observation to `out`, `[dim]`.
    pub fn observe_goal(&self, goal: &[f32], out: &mut [f32]) {
        self.observe(goal, out);
        self.hide(out);
    }

    /// Copies the selected entries, raw.
    pub(crate) fn select(&self, observation: &[f32], out: &mut [f32]) {
        match &self.columns {
            None => out.copy_from_slice(observation),
            Some(columns) => {
                for (out, &column) in out.iter_mut().zip(columns) {
                    *out = observation[column];
                }
            }
        }
    }

    /// Sets the hidden entries of a normalised goal, `[dim]`, to 0, in place.
    pub fn hide(&self, goals: &mut [f32]) {
        let Some(kept) = &self.goal_columns else {
            return;
        };
        match &self.columns {
            None => hide_unless(goals, |entry| kept.contains(&entry)),
            Some(columns) => hide_unless(goals, |entry| kept.contains(&columns[entry])),
        }
    }
}

fn hide_unless(goal: &mut [f32], keep: impl Fn(usize) -> bool) {
    for (entry, value) in goal.iter_mut().enumerate() {
        if !keep(entry) {
            *value = 0.0;
        }
    }
}

fn check_indices(
    field: &'static str,
    indices: &[usize],
    observation_dim: usize,
) -> Result<(), SamplerError> {
    for (position, &index) in indices.iter().enumerate() {
        if index >= observation_dim {
            let expected = format!("entries of an observation, below {observation_dim}");
            return Err(SamplerError::Index {
                field,
                index,
                expected,
            });
        }
        if indices[..position].contains(&index) {
            return Err(SamplerError::Index {
                field,
                index,
                expected: "each entry once".to_owned(),
            });
        }
    }
    if indices.is_empty() && field == "observation_columns" {
        return Err(SamplerError::Empty {
            what: "observation entries",
            reason: "`observation_columns` is empty".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_goal_entries_are_zero_after_normalisation() {
        let view = FeatureView {
            columns: Some(vec![0, 1, 3]),
            goal_columns: Some(vec![3]),
            normalizer: Normalizer::ZScore {
                mean: vec![1.0, 2.0, 3.0],
                std: vec![1.0, 1.0, 2.0],
            },
        };
        view.check(4).unwrap();
        let mut out = [0.0; 3];
        view.observe(&[5.0, 5.0, 5.0, 5.0], &mut out);
        assert_eq!(out, [4.0, 3.0, 1.0]);
        view.observe_goal(&[5.0, 5.0, 5.0, 5.0], &mut out);
        assert_eq!(out, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn bad_entries_are_named() {
        let view = |columns: &[usize], goal: &[usize]| FeatureView {
            columns: Some(columns.to_vec()),
            goal_columns: Some(goal.to_vec()),
            ..FeatureView::default()
        };
        let index = |problem| match problem {
            Err(SamplerError::Index { field, index, .. }) => (field, index),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            index(view(&[0, 4], &[]).check(4)),
            ("observation_columns", 4)
        );
        assert_eq!(
            index(view(&[0, 0], &[]).check(4)),
            ("observation_columns", 0)
        );
        assert_eq!(index(view(&[0, 1], &[2]).check(4)), ("goal_columns", 2));
        assert!(matches!(
            view(&[], &[]).check(4),
            Err(SamplerError::Empty { .. })
        ));
    }
}
