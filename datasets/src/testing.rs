//! Datasets for the tests of this crate.

use camino::Utf8PathBuf;
use ndarray::Array2;
use proptest::prelude::*;

use crate::{Columns, Dataset, EpisodeIndex, Metadata};

/// Episodes of the given numbers of transitions. Entry 0 of an observation is its row and entry 1 its episode; the one
/// entry of an action is its row.
pub(crate) fn ramp(transitions: &[usize]) -> Dataset {
    let lengths: Vec<usize> = transitions.iter().map(|length| length + 1).collect();
    let index = EpisodeIndex::from_lengths(&lengths).unwrap();
    let rows = index.num_rows();
    let columns = Columns {
        observations: Array2::from_shape_fn((rows, 2), |(row, entry)| {
            [row, index.of(row)][entry] as f32
        }),
        actions: Array2::from_shape_fn((rows, 1), |(row, _)| row as f32),
        ..Columns::default()
    };
    Dataset::new(columns, index, Metadata::default()).unwrap()
}

/// A folder that is gone at the end of the test, and a path in it.
pub(crate) fn folder(name: &str) -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join(name)).unwrap();
    (folder, path)
}

/// Names of the files of a folder, sorted.
pub(crate) fn files(folder: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

prop_compose! {
    /// A dataset of random shape and numbers, with and without states and metadata.
    pub(crate) fn any_dataset()(
        lengths in proptest::collection::vec(2usize..12, 1..6),
        widths in (1usize..5, 1usize..4, 0usize..4, 0usize..4),
        seed in any::<u64>(),
        named in any::<bool>()
    )(
        values in proptest::collection::vec(
            prop_oneof![-1e30f32..1e30, Just(0.0), Just(-0.0), -1.0f32..1.0], lengths.iter().sum::<usize>() * 12),
        (lengths, widths, seed, named) in Just((lengths, widths, seed, named))
    ) -> Dataset {
        let index = EpisodeIndex::from_lengths(&lengths).unwrap();
        let rows = index.num_rows();
        let mut values = values.into_iter().cycle();
        let mut table = |width: usize| Array2::from_shape_simple_fn((rows, width), || values.next().unwrap());
        let columns = Columns {
            observations: table(widths.0),
            actions: table(widths.1),
            qpos: (widths.2 > 0).then(|| table(widths.2)),
            qvel: (widths.3 > 0).then(|| table(widths.3)),
            button_states: (seed % 2 == 0).then(|| Array2::from_shape_fn((rows, 2), |(row, i)| (row + i) as i64 - 3)),
        };
        let metadata = if named {
            Metadata {
                env: "cube-single".to_owned(),
                seed: Some(seed),
                observation_names: (0..widths.0).map(|entry| format!("entry {entry} \"μ\"")).collect(),
                episode_seeds: lengths.iter().map(|&length| seed ^ length as u64).collect(),
                episode_successes: lengths.iter().map(|length| length % 2 == 0).collect(),
                ..Metadata::default()
            }
        } else {
            Metadata::default()
        };
        Dataset::new(columns, index, metadata).unwrap()
    }
}
