//! Many episodes as columns in memory.

use ndarray::{Array2, s};
use rand::RngExt;
use telic_seed::Seed;

use crate::{
    ClipBounds, Episode, EpisodeIndex, InvalidData, Metadata, Normalizer, NormalizerKind,
    SamplerError,
};

/// The tables of a dataset, all with the same number of rows: T + 1 for each episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// State before the action of the same row, `[rows, observation_dim]`.
    pub observations: Array2<f32>,
    /// Action as executed, `[rows, action_dim]`. The last one of each episode has no successor.
    pub actions: Array2<f32>,
    /// Generalised coordinates before the action, `[rows, nq]`.
    pub qpos: Option<Array2<f32>>,
    /// Generalised velocities before the action, `[rows, nv]`.
    pub qvel: Option<Array2<f32>>,
    /// Discrete states before the action, `[rows, buttons]`.
    pub button_states: Option<Array2<i64>>,
}

/// Episodes in the compact layout of OGBench: one below the other, T + 1 rows each, nothing stored twice.
#[derive(Clone, Debug)]
pub struct Dataset {
    columns: Columns,
    episodes: EpisodeIndex,
    metadata: Metadata,
    /// Size of the archive that this was loaded from.
    pub(crate) file_bytes: Option<u64>,
}

/// Equality of content, wherever it was loaded from.
impl PartialEq for Dataset {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
            && self.episodes == other.episodes
            && self.metadata == other.metadata
    }
}

impl Dataset {
    /// Checks the parts against each other and for NaN and infinities.
    pub fn new(
        columns: Columns,
        episodes: EpisodeIndex,
        metadata: Metadata,
    ) -> Result<Self, InvalidData> {
        let mut columns = columns;
        let rows = columns.observations.nrows();
        let Columns {
            observations,
            actions,
            qpos,
            qvel,
            button_states,
        } = &columns;
        for (column, shape) in [
            ("observations", Some(observations.dim())),
            ("actions", Some(actions.dim())),
            ("qpos", qpos.as_ref().map(Array2::dim)),
            ("qvel", qvel.as_ref().map(Array2::dim)),
            ("button_states", button_states.as_ref().map(Array2::dim)),
        ] {
            let Some((found, width)) = shape else {
                continue;
            };
            if found != rows {
                return Err(InvalidData::RowCount {
                    column,
                    found,
                    expected: rows,
                });
            }
            if width == 0 {
                let expected = "at least one entry per row";
                return Err(InvalidData::Shape {
                    column,
                    shape: vec![found, 0],
                    expected,
                });
            }
        }
        if episodes.num_rows() != rows {
            return Err(InvalidData::RowCount {
                column: "terminals",
                found: episodes.num_rows(),
                expected: rows,
            });
        }
        metadata.check(episodes.len(), observations.ncols(), actions.ncols())?;
        check_finite("observations", observations, &metadata.observation_names, 0)?;
        check_finite("actions", actions, &metadata.action_names, 0)?;
        for (column, table) in [("qpos", qpos), ("qvel", qvel)] {
            if let Some(table) = table {
                check_finite(column, table, &[], 0)?;
            }
        }
        for table in [&mut columns.observations, &mut columns.actions] {
            if !table.is_standard_layout() {
                *table = table.as_standard_layout().into_owned();
            }
        }
        Ok(Self {
            columns,
            episodes,
            metadata,
            file_bytes: None,
        })
    }

    /// Puts episodes one below the other. Seeds and successes of the episodes replace those of the metadata.
    pub fn from_episodes(episodes: &[Episode], metadata: Metadata) -> Result<Self, InvalidData> {
        let lengths: Vec<usize> = episodes
            .iter()
            .map(|episode| episode.observations.nrows())
            .collect();
        let index = EpisodeIndex::from_lengths(&lengths)?;
        for episode in episodes {
            episode.check(&episodes[0])?;
        }
        let columns = Columns {
            observations: stack(episodes.iter().map(|episode| &episode.observations)),
            actions: stack(episodes.iter().map(|episode| &episode.actions)),
            qpos: stack_optional(episodes, |episode| episode.qpos.as_ref()),
            qvel: stack_optional(episodes, |episode| episode.qvel.as_ref()),
            button_states: stack_optional(episodes, |episode| episode.button_states.as_ref()),
        };
        let metadata = Metadata {
            episode_seeds: episodes.iter().map(|episode| episode.seed).collect(),
            episode_successes: episodes.iter().map(|episode| episode.success).collect(),
            ..metadata
        };
        Self::new(columns, index, metadata)
    }

    /// `[rows, observation_dim]`.
    pub fn observations(&self) -> &Array2<f32> {
        &self.columns.observations
    }

    /// `[rows, action_dim]`; the last row of each episode has no successor.
    pub fn actions(&self) -> &Array2<f32> {
        &self.columns.actions
    }

    /// Generalised coordinates, `[rows, nq]`.
    pub fn qpos(&self) -> Option<&Array2<f32>> {
        self.columns.qpos.as_ref()
    }

    /// Generalised velocities, `[rows, nv]`.
    pub fn qvel(&self) -> Option<&Array2<f32>> {
        self.columns.qvel.as_ref()
    }

    /// Discrete states, `[rows, buttons]`.
    pub fn button_states(&self) -> Option<&Array2<i64>> {
        self.columns.button_states.as_ref()
    }

    /// All tables.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Where each episode lies.
    pub fn episodes(&self) -> &EpisodeIndex {
        &self.episodes
    }

    /// Where the data comes from.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Number of episodes.
    pub fn num_episodes(&self) -> usize {
        self.episodes.len()
    }

    /// Number of transitions.
    pub fn num_transitions(&self) -> usize {
        self.episodes.num_transitions()
    }

    /// Entries of an observation.
    pub fn observation_dim(&self) -> usize {
        self.columns.observations.ncols()
    }

    /// Entries of an action.
    pub fn action_dim(&self) -> usize {
        self.columns.actions.ncols()
    }

    /// Copies one episode out.
    ///
    /// # Errors
    /// [`InvalidData::NoSuchEpisode`].
    pub fn episode(&self, episode: usize) -> Result<Episode, InvalidData> {
        let episodes = self.num_episodes();
        if episode >= episodes {
            return Err(InvalidData::NoSuchEpisode { episode, episodes });
        }
        let rows = self.episodes.range(episode);
        let cut = |table: &Array2<f32>| table.slice(s![rows.clone(), ..]).to_owned();
        Ok(Episode {
            observations: cut(&self.columns.observations),
            actions: cut(&self.columns.actions),
            qpos: self.columns.qpos.as_ref().map(cut),
            qvel: self.columns.qvel.as_ref().map(cut),
            button_states: self
                .columns
                .button_states
                .as_ref()
                .map(|table| table.slice(s![rows.clone(), ..]).to_owned()),
            seed: self
                .metadata
                .episode_seeds
                .get(episode)
                .copied()
                .unwrap_or_default(),
            success: self
                .metadata
                .episode_successes
                .get(episode)
                .copied()
                .unwrap_or_default(),
        })
    }

    /// Copies some episodes into a dataset of their own, in the given order.
    ///
    /// # Errors
    /// [`InvalidData::NoSuchEpisode`] and, for an empty list, [`InvalidData::NoEpisodes`].
    pub fn subset(&self, episodes: &[usize]) -> Result<Self, InvalidData> {
        let parts: Vec<Episode> = episodes
            .iter()
            .map(|&episode| self.episode(episode))
            .collect::<Result<_, _>>()?;
        let mut subset = Self::from_episodes(&parts, self.metadata.clone())?;
        if self.metadata.episode_seeds.is_empty() {
            subset.metadata.episode_seeds.clear();
        }
        if self.metadata.episode_successes.is_empty() {
            subset.metadata.episode_successes.clear();
        }
        Ok(subset)
    }

    /// Splits the episodes into training and validation: the first ⌊fraction · N⌋ of a seeded permutation train, the
    /// others validate, both in the order of the permutation.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] if the fraction is not in 0..=1.
    pub fn split(
        &self,
        train_fraction: f64,
        seed: Seed,
    ) -> Result<(Vec<usize>, Vec<usize>), SamplerError> {
        split_episodes(self.num_episodes(), train_fraction, seed)
    }

    /// Fits a normaliser to the observations of some episodes at their valid rows.
    ///
    /// `columns` selects entries, in order; `None` takes all.
    ///
    /// # Errors
    /// [`SamplerError::NoSuchEpisode`], [`SamplerError::Empty`], [`SamplerError::Index`].
    pub fn fit_observations(
        &self,
        kind: NormalizerKind,
        episodes: &[usize],
        columns: Option<&[usize]>,
    ) -> Result<Normalizer, SamplerError> {
        self.check_episodes(episodes)?;
        let dim = self.observation_dim();
        let all: Vec<usize>;
        let columns = if let Some(columns) = columns {
            columns
        } else {
            all = (0..dim).collect();
            &all
        };
        if let Some(&index) = columns.iter().find(|&&column| column >= dim) {
            let expected = format!("entries of an observation, below {dim}");
            return Err(SamplerError::Index {
                field: "columns",
                index,
                expected,
            });
        }
        let table = self.observations();
        Ok(Normalizer::fit_rows(kind, columns.len(), || {
            self.valid_rows(episodes)
                .flat_map(move |row| columns.iter().map(move |&column| table[[row, column]]))
        }))
    }

    /// Fits a normaliser to the actions of some episodes at their valid rows.
    ///
    /// # Errors
    /// [`SamplerError::NoSuchEpisode`], [`SamplerError::Empty`].
    pub fn fit_actions(
        &self,
        kind: NormalizerKind,
        episodes: &[usize],
    ) -> Result<Normalizer, SamplerError> {
        self.check_episodes(episodes)?;
        let (table, width) = self.action_rows();
        Ok(Normalizer::fit_rows(kind, width, || {
            self.valid_rows(episodes)
                .flat_map(move |row| table[row * width..(row + 1) * width].iter().copied())
        }))
    }

    /// Bounds of the normalised actions of some episodes at their valid rows, as [`ClipBounds::fit`].
    ///
    /// # Errors
    /// [`SamplerError::NoSuchEpisode`], [`SamplerError::Empty`], [`SamplerError::Width`].
    pub fn action_bounds(
        &self,
        normalizer: &Normalizer,
        factor: f32,
        episodes: &[usize],
    ) -> Result<ClipBounds, SamplerError> {
        self.check_episodes(episodes)?;
        normalizer.check_width("action normaliser", self.action_dim())?;
        let (table, width) = self.action_rows();
        let rows = || {
            self.valid_rows(episodes)
                .flat_map(move |row| table[row * width..(row + 1) * width].iter().copied())
        };
        Ok(ClipBounds::fit_rows(width, rows, normalizer, factor))
    }

    /// Valid rows of some episodes, in order.
    fn valid_rows<'a>(&'a self, episodes: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        episodes.iter().flat_map(|&episode| {
            let start = self.episodes.start(episode);
            start..start + self.episodes.transitions(episode)
        })
    }

    /// Checks a list of episodes that something is to be drawn from.
    pub(crate) fn check_episodes(&self, selected: &[usize]) -> Result<(), SamplerError> {
        let episodes = self.num_episodes();
        if selected.is_empty() {
            let reason = format!("0 of {episodes} episodes are selected");
            return Err(SamplerError::Empty {
                what: "episodes",
                reason,
            });
        }
        match selected.iter().find(|&&episode| episode >= episodes) {
            Some(&episode) => Err(SamplerError::NoSuchEpisode { episode, episodes }),
            None => Ok(()),
        }
    }

    /// Where an episode ends, `[observation_dim]`.
    ///
    /// # Panics
    /// If there is no such episode.
    pub fn final_observation(&self, episode: usize) -> &[f32] {
        let (table, width) = self.observation_rows();
        let last = self.episodes.start(episode) + self.episodes.transitions(episode);
        &table[last * width..(last + 1) * width]
    }

    /// Where each episode ends, in order, `[observation_dim]` each.
    pub fn final_observations(&self) -> Vec<Vec<f32>> {
        (0..self.num_episodes())
            .map(|episode| self.final_observation(episode).to_vec())
            .collect()
    }

    /// The observations as a flat row-major slice, and its width.
    pub(crate) fn observation_rows(&self) -> (&[f32], usize) {
        flat(&self.columns.observations)
    }

    /// The actions as a flat row-major slice, and its width.
    pub(crate) fn action_rows(&self) -> (&[f32], usize) {
        flat(&self.columns.actions)
    }
}

impl Episode {
    /// Checks the tables against each other, and their widths against the first episode.
    pub(crate) fn check(&self, first: &Self) -> Result<(), InvalidData> {
        let rows = self.observations.nrows();
        let dim = |table: &Option<Array2<f32>>| table.as_ref().map(Array2::dim);
        let buttons = |episode: &Self| episode.button_states.as_ref().map(Array2::dim);
        for (column, shape, first) in [
            (
                "observations",
                Some(self.observations.dim()),
                Some(first.observations.dim()),
            ),
            (
                "actions",
                Some(self.actions.dim()),
                Some(first.actions.dim()),
            ),
            ("qpos", dim(&self.qpos), dim(&first.qpos)),
            ("qvel", dim(&self.qvel), dim(&first.qvel)),
            ("button_states", buttons(self), buttons(first)),
        ] {
            let width = |shape: Option<(usize, usize)>| shape.map_or(0, |(_, width)| width);
            if width(shape) != width(first) || shape.is_some() != first.is_some() {
                return Err(InvalidData::Width {
                    column,
                    found: width(shape),
                    expected: width(first),
                });
            }
            if let Some((found, _)) = shape
                && found != rows
            {
                return Err(InvalidData::RowCount {
                    column,
                    found,
                    expected: rows,
                });
            }
        }
        Ok(())
    }
}

/// The permutation behind [`Dataset::split`].
fn split_episodes(
    episodes: usize,
    train_fraction: f64,
    seed: Seed,
) -> Result<(Vec<usize>, Vec<usize>), SamplerError> {
    if !(0.0..=1.0).contains(&train_fraction) {
        let expected = "a number in 0..=1";
        return Err(SamplerError::Setting {
            field: "train_fraction",
            value: train_fraction,
            expected,
        });
    }
    let mut order: Vec<usize> = (0..episodes).collect();
    let mut rng = seed.child("split").rng();
    for last in (1..episodes).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    // The allowance keeps products like 0.29 × 100 = 28.999999999999996 from losing an episode.
    let train = ((train_fraction * episodes as f64 + 1e-9).floor() as usize).min(episodes);
    let validation = order.split_off(train);
    Ok((order, validation))
}

fn flat(table: &Array2<f32>) -> (&[f32], usize) {
    (
        table
            .as_slice()
            .expect("`Dataset::new` makes tables row-major"),
        table.ncols(),
    )
}

fn stack<'a, T: Clone + 'a>(tables: impl Iterator<Item = &'a Array2<T>> + Clone) -> Array2<T> {
    let rows = tables.clone().map(Array2::nrows).sum();
    let width = tables.clone().next().map_or(0, Array2::ncols);
    let values: Vec<T> = tables.flat_map(|table| table.iter().cloned()).collect();
    Array2::from_shape_vec((rows, width), values).expect("tables have checked shapes")
}

fn stack_optional<T: Clone>(
    episodes: &[Episode],
    table: impl Fn(&Episode) -> Option<&Array2<T>> + Copy,
) -> Option<Array2<T>> {
    table(&episodes[0])?;
    Some(stack(episodes.iter().filter_map(table)))
}

/// Finds the first value that is not finite. The table starts at `first_row` of the dataset.
pub(crate) fn check_finite(
    column: &'static str,
    table: &Array2<f32>,
    names: &[String],
    first_row: usize,
) -> Result<(), InvalidData> {
    let Some(((row, entry), &value)) = table.indexed_iter().find(|(_, value)| !value.is_finite())
    else {
        return Ok(());
    };
    let name = names
        .get(entry)
        .map_or_else(String::new, |name| format!(" (`{name}`)"));
    let row = first_row + row;
    Err(InvalidData::NonFinite {
        column,
        row,
        entry,
        name,
        value,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_dataset, ramp};

    #[test]
    fn split_sizes_are_those_of_beso() {
        for (episodes, train, validation) in [(1000, 950, 50), (566, 537, 29)] {
            let (left, right) = split_episodes(episodes, 0.95, Seed::new(42)).unwrap();
            assert_eq!((left.len(), right.len()), (train, validation));
        }
        // 0.29 × 100 is 28.999… in binary.
        assert_eq!(split_episodes(100, 0.29, Seed::new(0)).unwrap().0.len(), 29);
        assert_eq!(split_episodes(3, 1.0, Seed::new(0)).unwrap().1, [0usize; 0]);
        assert!(split_episodes(3, f64::NAN, Seed::new(0)).is_err());
        assert!(split_episodes(3, 1.5, Seed::new(0)).is_err());
    }

    #[test]
    fn first_bad_number_is_named() {
        let mut columns = ramp(&[3]).columns().clone();
        columns.observations[[2, 1]] = f32::NAN;
        let index = EpisodeIndex::from_lengths(&[4]).unwrap();
        let names = vec!["x".to_owned(), "y".to_owned()];
        let metadata = Metadata {
            observation_names: names,
            ..Metadata::default()
        };
        let problem = Dataset::new(columns.clone(), index.clone(), metadata).unwrap_err();
        let expected = "`observations` is NaN at row 2, entry 1 (`y`); expected a finite number";
        assert_eq!(problem.to_string(), expected);

        columns.observations[[2, 1]] = 0.0;
        columns.actions = Array2::zeros((3, 1));
        let problem = Dataset::new(columns, index, Metadata::default()).unwrap_err();
        assert_eq!(
            problem,
            InvalidData::RowCount {
                column: "actions",
                found: 3,
                expected: 4
            }
        );
    }

    #[test]
    fn metadata_must_fit() {
        let dataset = ramp(&[3]);
        let with = |metadata| {
            Dataset::new(
                dataset.columns().clone(),
                dataset.episodes().clone(),
                metadata,
            )
        };
        let problem = with(Metadata {
            episode_seeds: vec![1, 2],
            ..Metadata::default()
        })
        .unwrap_err();
        let field = "episode_seeds";
        assert_eq!(
            problem,
            InvalidData::MetadataLength {
                field,
                found: 2,
                expected: 1
            }
        );
        let problem = with(Metadata {
            goal_indices: vec![2],
            ..Metadata::default()
        })
        .unwrap_err();
        assert_eq!(problem, InvalidData::GoalIndex { index: 2, width: 2 });
    }

    #[test]
    fn normalisers_see_valid_rows_of_chosen_episodes() {
        let dataset = ramp(&[2, 4]);
        let fit = |episodes: &[usize], columns| {
            dataset.fit_observations(NormalizerKind::MinMax, episodes, columns)
        };
        // Episode 1 has rows 3 … 7, of which 7 has no successor.
        let expected = Normalizer::MinMax {
            low: vec![3.0, 0.0],
            high: vec![6.0, 2.0],
        };
        assert_eq!(fit(&[1], None), Ok(expected));
        let expected = Normalizer::MinMax {
            low: vec![0.0, 0.0],
            high: vec![1.0, 6.0],
        };
        assert_eq!(fit(&[0, 1], Some(&[1, 0])), Ok(expected));
        let actions = dataset.fit_actions(NormalizerKind::MinMax, &[1]).unwrap();
        assert_eq!(
            actions,
            Normalizer::MinMax {
                low: vec![3.0],
                high: vec![6.0]
            }
        );
        let bounds = dataset.action_bounds(&actions, 1.1, &[1]).unwrap();
        assert_eq!((bounds.low[0], bounds.high[0]), (-1.1, 1.1));
        assert!(matches!(fit(&[], None), Err(SamplerError::Empty { .. })));
        assert_eq!(
            fit(&[2], None),
            Err(SamplerError::NoSuchEpisode {
                episode: 2,
                episodes: 2
            })
        );
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition(episodes in 1usize..300, fraction in 0.0f64..=1.0, seed: u64) {
            let (train, validation) = split_episodes(episodes, fraction, Seed::new(seed)).unwrap();
            let all: BTreeSet<usize> = train.iter().chain(&validation).copied().collect();
            prop_assert_eq!(all.len(), episodes);
            prop_assert_eq!(train.len() + validation.len(), episodes);
            prop_assert_eq!(split_episodes(episodes, fraction, Seed::new(seed)).unwrap(), (train, validation));
        }

        #[test]
        fn episodes_come_apart_and_together(dataset in any_dataset()) {
            let all: Vec<usize> = (0..dataset.num_episodes()).collect();
            let together = dataset.subset(&all).unwrap();
            prop_assert_eq!(&together, &dataset);
            let last = dataset.num_episodes() - 1;
            let subset = dataset.subset(&[last]).unwrap();
            prop_assert_eq!(subset.episode(0).unwrap(), dataset.episode(last).unwrap());
        }
    }
}
