//! The three ways in which OGBench lays episodes out, and the names of their members.
//!
//! An episode of 4 transitions, with states s0 … s4:
//!
//! ```text
//! File      observations s0 s1 s2 s3 s4   terminals 0 0 0 0 1
//! Compact   observations s0 s1 s2 s3 s4   terminals 0 0 0 1 1   valids 1 1 1 1 0
//! Regular   observations s0 s1 s2 s3      terminals 0 0 0 1     next_observations s1 s2 s3 s4
//! ```

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use crate::{Columns, Dataset, EpisodeIndex, InvalidData, Metadata};

pub(crate) const OBSERVATIONS: &str = "observations";
pub(crate) const ACTIONS: &str = "actions";
pub(crate) const TERMINALS: &str = "terminals";
pub(crate) const VALIDS: &str = "valids";
pub(crate) const NEXT_OBSERVATIONS: &str = "next_observations";
pub(crate) const QPOS: &str = "qpos";
pub(crate) const QVEL: &str = "qvel";
pub(crate) const BUTTON_STATES: &str = "button_states";
/// Our own member: JSON as bytes, so that NumPy reads it without pickle.
pub(crate) const METADATA: &str = "telic_metadata";

/// How episodes are laid out in an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As OGBench publishes: T + 1 rows per episode, `terminals` (bool) on the last. Every loader of OGBench reads it.
    #[default]
    File,
    /// As OGBench trains: the same rows, with `valids`, and `terminals` (f32) on the last two.
    Compact,
    /// One row per transition, with `next_observations`. Holds neither the last action nor the final `qpos`.
    Regular,
}

/// The compact view of a dataset: tables are those of the dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactView<'a> {
    /// `[rows, observation_dim]`.
    pub observations: &'a Array2<f32>,
    /// `[rows, action_dim]`.
    pub actions: &'a Array2<f32>,
    /// 1 on the last transition of an episode and on its final state, `[rows]`.
    pub terminals: Vec<f32>,
    /// 0 on the final state of an episode, `[rows]`.
    pub valids: Vec<f32>,
}

/// The regular view of a dataset: one row per transition.
#[derive(Clone, Debug, PartialEq)]
pub struct RegularView {
    /// `[transitions, observation_dim]`.
    pub observations: Array2<f32>,
    /// `[transitions, action_dim]`.
    pub actions: Array2<f32>,
    /// `[transitions, observation_dim]`.
    pub next_observations: Array2<f32>,
    /// 1 on the last transition of an episode, `[transitions]`.
    pub terminals: Vec<f32>,
    /// Before the action, `[transitions, nq]`.
    pub qpos: Option<Array2<f32>>,
    /// Before the action, `[transitions, nv]`.
    pub qvel: Option<Array2<f32>>,
    /// Before the action, `[transitions, buttons]`.
    pub button_states: Option<Array2<i64>>,
}

impl Dataset {
    /// The compact view.
    pub fn compact(&self) -> CompactView<'_> {
        let index = self.episodes();
        let mut terminals = vec![0.0; index.num_rows()];
        let mut valids = vec![1.0; index.num_rows()];
        for episode in 0..index.len() {
            let final_row = index.final_row(episode);
            terminals[final_row - 1] = 1.0;
            terminals[final_row] = 1.0;
            valids[final_row] = 0.0;
        }
        CompactView {
            observations: self.observations(),
            actions: self.actions(),
            terminals,
            valids,
        }
    }

    /// The regular view, a copy.
    pub fn regular(&self) -> RegularView {
        let index = self.episodes();
        let (mut rows, mut next_rows) = (Vec::new(), Vec::new());
        let mut terminals = Vec::with_capacity(index.num_transitions());
        for episode in 0..index.len() {
            rows.extend(index.start(episode)..index.final_row(episode));
            next_rows.extend(index.start(episode) + 1..=index.final_row(episode));
            terminals.resize(rows.len(), 0.0);
            terminals[rows.len() - 1] = 1.0;
        }
        let select = |table: &Array2<f32>| table.select(Axis(0), &rows);
        RegularView {
            observations: select(self.observations()),
            actions: select(self.actions()),
            next_observations: self.observations().select(Axis(0), &next_rows),
            terminals,
            qpos: self.qpos().map(select),
            qvel: self.qvel().map(select),
            button_states: self
                .button_states()
                .map(|table| table.select(Axis(0), &rows)),
        }
    }

    /// From the regular view. The final action of each episode becomes 0; final `qpos`, `qvel` and `button_states`, which
    /// the view does not hold, repeat the row above (see [`Metadata::final_states_repeated`]).
    ///
    /// # Errors
    /// [`InvalidData::NextObservation`] if rows do not follow each other, and all of [`Dataset::new`].
    pub fn from_regular(view: RegularView, metadata: Metadata) -> Result<Self, InvalidData> {
        let RegularView {
            observations,
            actions,
            next_observations,
            terminals,
            qpos,
            qvel,
            button_states,
        } = view;
        let rows = observations.nrows();
        if next_observations.dim() != observations.dim() {
            let expected = "the shape of `observations`";
            return Err(InvalidData::Shape {
                column: NEXT_OBSERVATIONS,
                shape: next_observations.shape().to_vec(),
                expected,
            });
        }
        for (column, found) in [
            (ACTIONS, Some(actions.nrows())),
            (TERMINALS, Some(terminals.len())),
            (QPOS, qpos.as_ref().map(Array2::nrows)),
            (QVEL, qvel.as_ref().map(Array2::nrows)),
            (BUTTON_STATES, button_states.as_ref().map(Array2::nrows)),
        ] {
            if let Some(found) = found
                && found != rows
            {
                return Err(InvalidData::RowCount {
                    column,
                    found,
                    expected: rows,
                });
            }
        }
        let ends: Vec<usize> = terminals
            .iter()
            .enumerate()
            .filter(|(_, flag)| **flag != 0.0)
            .map(|(row, _)| row)
            .collect();
        let &last = ends.last().ok_or(InvalidData::NoEpisodes { rows })?;
        if last + 1 != rows {
            return Err(InvalidData::Unfinished {
                rows: rows - last - 1,
                start: last + 1,
            });
        }
        let mut lengths = Vec::with_capacity(ends.len());
        // Source row of each row of the file layout; the final state takes the last transition's.
        let mut sources = Vec::with_capacity(rows + ends.len());
        let mut start = 0;
        for &end in &ends {
            for row in start..end {
                check_successor(row, &next_observations, &observations)?;
            }
            sources.extend(start..=end);
            sources.push(end);
            lengths.push(end + 2 - start);
            start = end + 1;
        }
        let episodes = EpisodeIndex::from_lengths(&lengths)?;
        let final_observations = next_observations.select(Axis(0), &ends);
        drop(next_observations);
        // One table at a time is there twice.
        let select = |table: Array2<f32>| table.select(Axis(0), &sources);
        let mut columns = Columns {
            observations: select(observations),
            actions: select(actions),
            qpos: qpos.map(select),
            qvel: qvel.map(select),
            button_states: button_states.map(|table| table.select(Axis(0), &sources)),
        };
        for (episode, last) in final_observations.outer_iter().enumerate() {
            let final_row = episodes.final_row(episode);
            columns.observations.row_mut(final_row).assign(&last);
            columns.actions.row_mut(final_row).fill(0.0);
        }
        let repeated =
            columns.qpos.is_some() || columns.qvel.is_some() || columns.button_states.is_some();
        let metadata = Metadata {
            final_states_repeated: repeated || metadata.final_states_repeated,
            ..metadata
        };
        Self::new(columns, episodes, metadata)
    }
}

fn check_successor(
    row: usize,
    next_observations: &Array2<f32>,
    observations: &Array2<f32>,
) -> Result<(), InvalidData> {
    let pairs = next_observations
        .row(row)
        .into_iter()
        .zip(observations.row(row + 1));
    // Bits, so that a NaN is reported as what it is and not as a break in the order.
    match pairs
        .enumerate()
        .find(|(_, (next, here))| next.to_bits() != here.to_bits() && next != here)
    {
        Some((entry, (&found, &expected))) => Err(InvalidData::NextObservation {
            row,
            entry,
            found,
            expected,
        }),
        None => Ok(()),
    }
}

/// The episodes behind the flags of the compact view.
pub(crate) fn episodes_of_compact(
    terminals: &[bool],
    valids: &[bool],
) -> Result<EpisodeIndex, InvalidData> {
    if valids.len() != terminals.len() {
        return Err(InvalidData::RowCount {
            column: VALIDS,
            found: valids.len(),
            expected: terminals.len(),
        });
    }
    let final_rows: Vec<bool> = valids.iter().map(|valid| !valid).collect();
    let episodes = EpisodeIndex::from_terminals(&final_rows)?;
    for (row, (&valid, &terminal)) in valids.iter().zip(terminals).enumerate() {
        let expected = !valid || row == episodes.end_row(row);
        // A file that keeps the terminals of the file layout beside its valids is just as clear.
        if terminal != expected && (terminal || !valid) {
            return Err(InvalidData::CompactFlags {
                row,
                valid,
                terminal,
            });
        }
    }
    Ok(episodes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_dataset, ramp};

    #[test]
    fn compact_pattern_of_one_episode_of_four_transitions() {
        let dataset = ramp(&[4]);
        let view = dataset.compact();
        assert_eq!(view.observations.nrows(), 5);
        assert_eq!(view.terminals, [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(view.valids, [1.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn regular_pattern_of_one_episode_of_four_transitions() {
        let dataset = ramp(&[4]);
        let view = dataset.regular();
        assert_eq!(view.terminals, [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(view.observations.column(0).to_vec(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(
            view.next_observations.column(0).to_vec(),
            [1.0, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn rows_out_of_order_are_found() {
        let mut view = ramp(&[4, 2]).regular();
        view.next_observations[[1, 0]] = 9.0;
        assert_eq!(
            Dataset::from_regular(view, Metadata::default()),
            Err(InvalidData::NextObservation {
                row: 1,
                entry: 0,
                found: 9.0,
                expected: 2.0
            })
        );
    }

    #[test]
    fn compact_flags_that_contradict_are_found() {
        let flags = |text: &str| text.bytes().map(|byte| byte == b'1').collect::<Vec<_>>();
        let index = episodes_of_compact(&flags("00011"), &flags("11110")).unwrap();
        assert_eq!(index, EpisodeIndex::from_lengths(&[5]).unwrap());
        assert_eq!(
            episodes_of_compact(&flags("01011"), &flags("11110")),
            Err(InvalidData::CompactFlags {
                row: 1,
                valid: true,
                terminal: true
            })
        );
        assert_eq!(
            episodes_of_compact(&flags("00010"), &flags("11110")),
            Err(InvalidData::CompactFlags {
                row: 4,
                valid: false,
                terminal: false
            })
        );
    }

    proptest! {
        #[test]
        fn regular_view_comes_back(dataset in any_dataset()) {
            let view = dataset.regular();
            let back = Dataset::from_regular(view.clone(), dataset.metadata().clone()).unwrap();
            prop_assert_eq!(back.observations(), dataset.observations());
            prop_assert_eq!(back.episodes(), dataset.episodes());
            prop_assert_eq!(back.regular(), view);
        }

        #[test]
        fn compact_flags_come_back(dataset in any_dataset()) {
            let view = dataset.compact();
            let flags = |values: &[f32]| values.iter().map(|&value| value == 1.0).collect::<Vec<_>>();
            let episodes = episodes_of_compact(&flags(&view.terminals), &flags(&view.valids)).unwrap();
            prop_assert_eq!(&episodes, dataset.episodes());
        }
    }
}
