//! One episode, and where each episode of a dataset lies.

use ndarray::Array2;

use crate::InvalidData;
use crate::archive::flags;
use crate::layout::TERMINALS;

/// A recorded episode of T transitions: T + 1 states, and the action taken in each.
///
/// The action of the last row has no successor in the data and is never trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Episode {
    /// `[T + 1, observation_dim]`, each before the action of the same row.
    pub observations: Array2<f32>,
    /// `[T + 1, action_dim]`, as executed.
    pub actions: Array2<f32>,
    /// Generalised coordinates before the action, `[T + 1, nq]`.
    pub qpos: Option<Array2<f32>>,
    /// Generalised velocities before the action, `[T + 1, nv]`.
    pub qvel: Option<Array2<f32>>,
    /// Discrete states (buttons, lights) before the action, `[T + 1, buttons]`.
    pub button_states: Option<Array2<i64>>,
    /// Seed that the episode was made from.
    pub seed: u64,
    /// Whether the episode solved its task.
    pub success: bool,
}

impl Episode {
    /// T.
    pub fn num_transitions(&self) -> usize {
        self.observations.nrows().saturating_sub(1)
    }
}

/// Where each episode lies in the rows of a dataset.
///
/// An episode of T transitions has T + 1 rows, s₀ … s_T. The first T rows are *valid*: they start a
/// transition, whose successor is the row below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpisodeIndex {
    /// First row of each episode, then the number of rows.
    offsets: Vec<usize>,
    /// Rows per episode where all are equal: then no search is needed.
    uniform: Option<usize>,
}

impl EpisodeIndex {
    /// From the number of rows (T + 1) of each episode.
    ///
    /// # Errors
    /// [`InvalidData::NoEpisodes`] and [`InvalidData::ShortEpisode`].
    pub fn from_lengths(lengths: &[usize]) -> Result<Self, InvalidData> {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut start = 0;
        for (episode, &rows) in lengths.iter().enumerate() {
            if rows < 2 {
                return Err(InvalidData::ShortEpisode {
                    episode,
                    start,
                    rows,
                });
            }
            offsets.push(start);
            start += rows;
        }
        offsets.push(start);
        let &first = lengths.first().ok_or(InvalidData::NoEpisodes { rows: 0 })?;
        let uniform = lengths.iter().all(|&rows| rows == first).then_some(first);
        Ok(Self { offsets, uniform })
    }

    /// From flags that are set on the last row of each episode.
    ///
    /// # Errors
    /// [`InvalidData::NoEpisodes`], [`InvalidData::ShortEpisode`] and [`InvalidData::Unfinished`].
    pub fn from_terminals(terminals: &[bool]) -> Result<Self, InvalidData> {
        let mut lengths = Vec::new();
        let mut start = 0;
        for (row, _) in terminals
            .iter()
            .enumerate()
            .filter(|(_, terminal)| **terminal)
        {
            lengths.push(row + 1 - start);
            start = row + 1;
        }
        if lengths.is_empty() {
            return Err(InvalidData::NoEpisodes {
                rows: terminals.len(),
            });
        }
        if start != terminals.len() {
            return Err(InvalidData::Unfinished {
                rows: terminals.len() - start,
                start,
            });
        }
        Self::from_lengths(&lengths)
    }

    /// As [`from_terminals`](Self::from_terminals), of numbers.
    ///
    /// # Errors
    /// [`InvalidData::Flag`] for a number that is neither 0 nor 1.
    pub fn from_numbers(terminals: &[f64]) -> Result<Self, InvalidData> {
        Self::from_terminals(&flags(TERMINALS, terminals)?)
    }

    /// Number of episodes.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Always false: an index has at least one episode.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rows of all episodes.
    pub fn num_rows(&self) -> usize {
        self.offsets[self.len()]
    }

    /// Number of transitions of all episodes.
    pub fn num_transitions(&self) -> usize {
        self.num_rows() - self.len()
    }

    /// First row of an episode. Panics if there is no such episode, like all accessors by episode.
    pub fn start(&self, episode: usize) -> usize {
        self.offsets[episode]
    }

    /// Rows of an episode, T + 1.
    pub fn rows(&self, episode: usize) -> usize {
        self.offsets[episode + 1] - self.offsets[episode]
    }

    /// Transitions of an episode, T.
    pub fn transitions(&self, episode: usize) -> usize {
        self.rows(episode) - 1
    }

    /// Row of the final state s_T of an episode.
    pub fn final_row(&self, episode: usize) -> usize {
        self.offsets[episode + 1] - 1
    }

    /// Rows of an episode as a range.
    pub fn range(&self, episode: usize) -> std::ops::Range<usize> {
        self.offsets[episode]..self.offsets[episode + 1]
    }

    /// The episode that a row belongs to. `row` is below [`num_rows`](Self::num_rows).
    pub fn of(&self, row: usize) -> usize {
        debug_assert!(row < self.num_rows(), "row {row} of {}", self.num_rows());
        match self.uniform {
            Some(rows) => row / rows,
            None => self.offsets.partition_point(|&start| start <= row) - 1,
        }
    }

    /// The last valid row of the episode of `row`, s_{T−1}: the latest row that OGBench takes as a goal.
    pub fn end_row(&self, row: usize) -> usize {
        self.final_row(self.of(row)) - 1
    }

    /// Whether a row starts a transition.
    pub fn is_valid(&self, row: usize) -> bool {
        row != self.final_row(self.of(row))
    }

    /// Transitions of each episode, in order.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0] - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_episode_of_four_transitions() {
        let index = EpisodeIndex::from_terminals(&[false, false, false, false, true]).unwrap();
        assert_eq!(
            (index.len(), index.num_rows(), index.num_transitions()),
            (1, 5, 4)
        );
        assert_eq!(
            (index.start(0), index.rows(0), index.transitions(0)),
            (0, 5, 4)
        );
        assert_eq!((index.end_row(0), index.final_row(0)), (3, 4));
        assert!(index.is_valid(3) && !index.is_valid(4));
    }

    #[test]
    fn bad_terminals_are_named() {
        assert_eq!(
            EpisodeIndex::from_terminals(&[false; 3]),
            Err(InvalidData::NoEpisodes { rows: 3 })
        );
        assert_eq!(
            EpisodeIndex::from_terminals(&[]),
            Err(InvalidData::NoEpisodes { rows: 0 })
        );
        assert_eq!(
            EpisodeIndex::from_terminals(&[false, true, true]),
            Err(InvalidData::ShortEpisode {
                episode: 1,
                start: 2,
                rows: 1
            })
        );
        assert_eq!(
            EpisodeIndex::from_terminals(&[false, true, false, false]),
            Err(InvalidData::Unfinished { rows: 2, start: 2 })
        );
        assert_eq!(
            EpisodeIndex::from_lengths(&[]),
            Err(InvalidData::NoEpisodes { rows: 0 })
        );
    }

    proptest! {
        #[test]
        fn every_row_belongs_to_the_episode_that_spans_it(lengths in vec(2usize..30, 1..20)) {
            let index = EpisodeIndex::from_lengths(&lengths).unwrap();
            let mut terminals = vec![false; index.num_rows()];
            for (episode, &rows) in lengths.iter().enumerate() {
                prop_assert_eq!(index.rows(episode), rows);
                for row in index.range(episode) {
                    prop_assert_eq!(index.of(row), episode);
                    prop_assert_eq!(index.end_row(row), index.start(episode) + rows - 2);
                }
                terminals[index.final_row(episode)] = true;
            }
            prop_assert_eq!(EpisodeIndex::from_terminals(&terminals).unwrap(), index);
        }
    }
}
