//! A dataset in a few numbers, for people.

use serde::Serialize;

use crate::{ColumnStatistics, Dataset};

/// What a dataset holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Episodes.
    pub episodes: usize,
    /// Transitions of all episodes.
    pub transitions: usize,
    /// Entries of an observation.
    pub observation_dim: usize,
    /// Entries of an action.
    pub action_dim: usize,
    /// Transitions per episode.
    pub lengths: Lengths,
    /// Statistics per entry over all T + 1 observations of every episode.
    pub observations: Vec<ColumnStatistics>,
    /// Statistics per entry over the T actions of every episode that have a successor.
    pub actions: Vec<ColumnStatistics>,
    /// Episodes that solved their task, if the file says.
    pub successes: Option<usize>,
    /// Size of the file that the data was loaded from.
    pub file_bytes: Option<u64>,
}

/// Spread of the transitions per episode.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lengths {
    /// Shortest episode.
    pub min: usize,
    /// Half of the episodes are no longer; the mean of the two in the middle if their number is even.
    pub median: f64,
    /// Longest episode.
    pub max: usize,
}

impl Dataset {
    /// Counts and statistics; two passes over the data.
    pub fn summary(&self) -> Summary {
        let index = self.episodes();
        let mut sorted: Vec<usize> = index.lengths().collect();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) as f64 / 2.0
        } else {
            sorted[middle] as f64
        };
        let (observations, observation_dim) = self.observation_rows();
        let (actions, action_dim) = self.action_rows();
        let successes = &self.metadata().episode_successes;
        Summary {
            episodes: index.len(),
            transitions: index.num_transitions(),
            observation_dim,
            action_dim,
            lengths: Lengths {
                min: sorted[0],
                median,
                max: sorted[sorted.len() - 1],
            },
            observations: ColumnStatistics::of(observation_dim, || observations.iter().copied()),
            actions: ColumnStatistics::of(action_dim, || {
                (0..index.len()).flat_map(|episode| {
                    let rows = index.start(episode)..index.final_row(episode);
                    actions[rows.start * action_dim..rows.end * action_dim]
                        .iter()
                        .copied()
                })
            }),
            successes: (!successes.is_empty())
                .then(|| successes.iter().filter(|success| **success).count()),
            file_bytes: self.file_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::ramp;

    #[test]
    fn counts_and_columns_of_three_episodes() {
        let summary = ramp(&[4, 2, 9]).summary();
        assert_eq!((summary.episodes, summary.transitions), (3, 15));
        assert_eq!(
            (
                summary.lengths.min,
                summary.lengths.median,
                summary.lengths.max
            ),
            (2, 4.0, 9)
        );
        // Column 0 of the observations counts rows: 0 … 17.
        assert_eq!(
            (summary.observations[0].min, summary.observations[0].max),
            (0.0, 17.0)
        );
        assert!((summary.observations[0].mean - 8.5).abs() < 1e-12);
        assert!(
            (summary.observations[0].std - ((18.0f64 * 18.0 - 1.0) / 12.0).sqrt()).abs() < 1e-12
        );
        // Actions of final rows (4, 7, 17) do not count: 153 − 28 over 15 rows.
        assert!((summary.actions[0].mean - 125.0 / 15.0).abs() < 1e-6);
        assert_eq!(summary.actions[0].max, 16.0);
        assert_eq!(ramp(&[4, 2]).summary().lengths.median, 3.0);
    }
}
