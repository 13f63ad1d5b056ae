//! Reads archives.

use camino::Utf8Path;
use ndarray::Array2;

use crate::archive::Archive;
use crate::layout::{
    ACTIONS, BUTTON_STATES, METADATA, NEXT_OBSERVATIONS, OBSERVATIONS, QPOS, QVEL, RegularView,
    TERMINALS, VALIDS, episodes_of_compact,
};
use crate::npy::FromStored;
use crate::{Columns, Dataset, DatasetError, EpisodeIndex, InvalidData, Metadata};

impl Dataset {
    /// Reads an `.npz` archive in any [`Layout`](crate::Layout), with stored or deflated members, and checks everything.
    ///
    /// The layout is recognised by its members: `next_observations` is regular, `valids` is compact. Members that a
    /// dataset does not have are left alone. Numbers may be bool, u8, i32, i64, f32 or f64.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::Format`] and [`DatasetError::Invalid`].
    pub fn load(path: &Utf8Path) -> Result<Self, DatasetError> {
        let mut archive = Archive::open(path)?;
        for column in [OBSERVATIONS, ACTIONS, TERMINALS] {
            if !archive.contains(column) {
                let found = match archive.names() {
                    names if names.is_empty() => "nothing".to_owned(),
                    names => names
                        .iter()
                        .map(|name| format!("`{name}`"))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                return Err(archive.invalid(InvalidData::MissingColumn { column, found }));
            }
        }
        if archive.contains(NEXT_OBSERVATIONS) && archive.contains(VALIDS) {
            let reason = "it is there beside `valids`, expected one of the two".to_owned();
            return Err(archive.format(NEXT_OBSERVATIONS, reason));
        }
        let metadata = read_metadata(&mut archive)?;
        let columns = Columns {
            observations: archive.table(OBSERVATIONS)?,
            actions: archive.table(ACTIONS)?,
            qpos: optional(&mut archive, QPOS)?,
            qvel: optional(&mut archive, QVEL)?,
            button_states: optional(&mut archive, BUTTON_STATES)?,
        };
        let terminals = archive.flags(TERMINALS)?;
        let dataset = if archive.contains(NEXT_OBSERVATIONS) {
            let view = RegularView {
                observations: columns.observations,
                actions: columns.actions,
                next_observations: archive.table(NEXT_OBSERVATIONS)?,
                terminals: terminals
                    .iter()
                    .map(|&terminal| f32::from(terminal))
                    .collect(),
                qpos: columns.qpos,
                qvel: columns.qvel,
                button_states: columns.button_states,
            };
            Self::from_regular(view, metadata)
        } else if archive.contains(VALIDS) {
            let valids = archive.flags(VALIDS)?;
            episodes_of_compact(&terminals, &valids)
                .and_then(|episodes| Self::new(columns, episodes, metadata))
        } else {
            EpisodeIndex::from_terminals(&terminals)
                .and_then(|episodes| Self::new(columns, episodes, metadata))
        };
        let mut dataset = dataset.map_err(|problem| archive.invalid(problem))?;
        dataset.file_bytes = Some(archive.bytes());
        Ok(dataset)
    }
}

impl Metadata {
    /// Reads the metadata of an archive and none of its data; empty for the files of other programs.
    ///
    /// # Errors
    /// [`DatasetError::Io`] and [`DatasetError::Format`].
    pub fn load(path: &Utf8Path) -> Result<Self, DatasetError> {
        read_metadata(&mut Archive::open(path)?)
    }
}

fn read_metadata(archive: &mut Archive) -> Result<Metadata, DatasetError> {
    if !archive.contains(METADATA) {
        return Ok(Metadata::default());
    }
    let (_, bytes) = archive.read::<i64>(METADATA)?;
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| byte as u8).collect();
    serde_json::from_slice(&bytes).map_err(|error| archive.format(METADATA, error.to_string()))
}

fn optional<T: FromStored + Clone>(
    archive: &mut Archive,
    name: &'static str,
) -> Result<Option<Array2<T>>, DatasetError> {
    archive
        .contains(name)
        .then(|| archive.table(name))
        .transpose()
}
