//! Streams episodes to disk.

use std::fs::File;
use std::io::{BufWriter, Write};

use camino::{Utf8Path, Utf8PathBuf};

use crate::archive::{ArchiveWriter, AtomicFile};
use crate::dataset::check_finite;
use crate::journal::{Journal, Table, widths};
use crate::layout::{ACTIONS, BUTTON_STATES, OBSERVATIONS, QPOS, QVEL};
use crate::npy::{Dtype, Header};
use crate::save::{write_metadata, write_terminals};
use crate::{DatasetError, Episode, InvalidData, Metadata};

/// Writes a dataset episode by episode, with no more than one of them in memory.
///
/// Episodes go to a journal, `<path>.part`, and the archive appears under its name in one piece at
/// [`finish`](Self::finish). If the process dies, or the disk is full, the complete episodes stay in the journal:
/// [`resume`](Self::resume) goes on from there, [`recover`](Self::recover) makes a dataset of what there is. The bytes of
/// the archive depend on metadata and episodes alone, not on interruptions.
#[derive(Debug)]
pub struct DatasetWriter {
    path: Utf8PathBuf,
    journal: Journal,
    metadata: Metadata,
}

impl DatasetWriter {
    /// Starts a new dataset. Lists of episodes in `metadata` are replaced by those of the episodes.
    ///
    /// # Errors
    /// [`DatasetError::Unfinished`] if a journal with episodes is there, [`DatasetError::Locked`] if another process is at it,
    /// [`DatasetError::Io`].
    pub fn create(path: &Utf8Path, metadata: Metadata) -> Result<Self, DatasetError> {
        let (mut writer, _) = Self::open(path, metadata)?;
        let episodes = writer.num_episodes();
        if episodes > 0 {
            return Err(DatasetError::Unfinished {
                episodes,
                path: Self::journal_path(path),
            });
        }
        writer.journal.reset(&writer.metadata)?;
        Ok(writer)
    }

    /// Goes on with an unfinished dataset of the same settings, or starts a new one.
    /// [`num_episodes`](Self::num_episodes) says what is there.
    ///
    /// # Errors
    /// [`DatasetError::ResumeMismatch`] if the journal has episodes that were made with other metadata, [`DatasetError::Locked`],
    /// [`DatasetError::Io`].
    pub fn resume(path: &Utf8Path, metadata: Metadata) -> Result<Self, DatasetError> {
        let (mut writer, found) = Self::open(path, metadata)?;
        match found {
            Some(found) if writer.num_episodes() > 0 => writer.check_same(&found)?,
            _ => writer.journal.reset(&writer.metadata)?,
        }
        Ok(writer)
    }

    /// Opens an unfinished dataset with the settings that it has.
    ///
    /// # Errors
    /// [`DatasetError::Io`] if there is no journal, [`DatasetError::Format`] if it does not hold even metadata,
    /// [`DatasetError::Locked`].
    pub fn recover(path: &Utf8Path) -> Result<Self, DatasetError> {
        let journal_path = Self::journal_path(path);
        match Journal::open(&journal_path, false)? {
            (journal, Some(metadata)) => Ok(Self {
                path: path.to_owned(),
                journal,
                metadata,
            }),
            (_, None) => Err(DatasetError::Format {
                member: "the journal".to_owned(),
                reason: "it ends before the first episode".to_owned(),
                path: journal_path,
            }),
        }
    }

    /// Where the unfinished form of the dataset `path` is kept.
    pub fn journal_path(path: &Utf8Path) -> Utf8PathBuf {
        format!("{path}.part").into()
    }

    fn open(path: &Utf8Path, metadata: Metadata) -> Result<(Self, Option<Metadata>), DatasetError> {
        if path.is_dir() {
            let source = std::io::ErrorKind::IsADirectory.into();
            return Err(DatasetError::Io {
                action: "write the dataset",
                source,
                path: path.to_owned(),
            });
        }
        let folder = path.parent().unwrap_or(Utf8Path::new(""));
        std::fs::create_dir_all(folder).map_err(|source| DatasetError::Io {
            action: "make the folder",
            source,
            path: folder.to_owned(),
        })?;
        let (journal, found) = Journal::open(&Self::journal_path(path), true)?;
        let metadata = Metadata {
            episode_seeds: Vec::new(),
            episode_successes: Vec::new(),
            ..metadata
        };
        Ok((
            Self {
                path: path.to_owned(),
                journal,
                metadata,
            },
            found,
        ))
    }

    /// Names the first field in which an unfinished dataset differs from this run.
    fn check_same(&self, found: &Metadata) -> Result<(), DatasetError> {
        match found.first_difference(&self.metadata) {
            None => Ok(()),
            Some((field, found, expected)) => Err(DatasetError::ResumeMismatch {
                field,
                found,
                expected,
                path: Self::journal_path(&self.path),
            }),
        }
    }

    /// Complete episodes so far.
    pub fn num_episodes(&self) -> usize {
        self.journal.records.len()
    }

    /// Transitions of the complete episodes.
    pub fn num_transitions(&self) -> usize {
        self.journal
            .records
            .iter()
            .map(|record| record.rows as usize - 1)
            .sum()
    }

    /// Episodes so far that solved their task.
    pub fn num_successes(&self) -> usize {
        self.journal
            .records
            .iter()
            .filter(|record| record.success)
            .count()
    }

    /// Settings of the dataset, without lists of episodes.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bytes of an incomplete episode that opening the journal cut off.
    pub fn discarded_bytes(&self) -> u64 {
        self.journal.discarded_bytes
    }

    /// Appends an episode. It is safe from the death of this process when this returns.
    ///
    /// # Errors
    /// [`DatasetError::Invalid`] if it does not fit the episodes before it or holds NaN, [`DatasetError::Io`] if the disk is full; the
    /// dataset is then as it was before.
    pub fn append_episode(&mut self, episode: &Episode) -> Result<(), DatasetError> {
        self.check(episode)
            .map_err(|problem| DatasetError::Invalid {
                problem,
                path: self.path.clone(),
            })?;
        self.journal.append(episode)
    }

    fn check(&self, episode: &Episode) -> Result<(), InvalidData> {
        let rows = episode.observations.nrows();
        episode.check(episode)?;
        let start = self
            .journal
            .records
            .iter()
            .map(|record| record.rows as usize)
            .sum();
        if rows < 2 {
            return Err(InvalidData::ShortEpisode {
                episode: self.num_episodes(),
                start,
                rows,
            });
        }
        let found = widths(episode);
        let names = [OBSERVATIONS, ACTIONS, QPOS, QVEL, BUTTON_STATES];
        for ((column, found), expected) in names
            .into_iter()
            .zip(found)
            .zip(self.journal.widths.unwrap_or(found))
        {
            if found != expected {
                return Err(InvalidData::Width {
                    column,
                    found: found as usize,
                    expected: expected as usize,
                });
            }
        }
        for (column, width) in [(OBSERVATIONS, found[0]), (ACTIONS, found[1])] {
            if width == 0 {
                let expected = "at least one entry per row";
                return Err(InvalidData::Shape {
                    column,
                    shape: vec![rows, 0],
                    expected,
                });
            }
        }
        self.metadata
            .check(0, episode.observations.ncols(), episode.actions.ncols())?;
        check_finite(
            OBSERVATIONS,
            &episode.observations,
            &self.metadata.observation_names,
            start,
        )?;
        check_finite(
            ACTIONS,
            &episode.actions,
            &self.metadata.action_names,
            start,
        )?;
        for (column, table) in [(QPOS, &episode.qpos), (QVEL, &episode.qvel)] {
            if let Some(table) = table {
                check_finite(column, table, &[], start)?;
            }
        }
        Ok(())
    }

    /// Writes the archive, in the file layout of OGBench, gives it its name in one step, and removes the journal.
    ///
    /// # Errors
    /// [`DatasetError::Invalid`] without any episode, [`DatasetError::Io`]. The journal then stays, and no half archive.
    pub fn finish(mut self) -> Result<(), DatasetError> {
        if self.num_episodes() == 0 {
            let problem = InvalidData::NoEpisodes { rows: 0 };
            return Err(DatasetError::Invalid {
                problem,
                path: self.path,
            });
        }
        // The lock on the journal keeps other processes from this name.
        let (guard, mut file) =
            AtomicFile::create(format!("{}.tmp", self.path).into(), &self.path)?;
        match self.write_archive(&mut file) {
            Ok(()) => guard.commit(file)?,
            Err(source) => return Err(guard.error(source)),
        }
        self.journal.remove()
    }

    fn write_archive(&mut self, file: &mut BufWriter<File>) -> std::io::Result<()> {
        let Self {
            journal, metadata, ..
        } = self;
        let records = journal.records.clone();
        let widths = journal.widths.unwrap_or_default();
        let rows: u64 = records.iter().map(|record| record.rows).sum();
        let mut archive = ArchiveWriter::new(file);
        let mut table = |archive: &mut ArchiveWriter<_>, name: &str, table: Table| {
            let width = widths[table as usize];
            if width == 0 {
                return Ok(());
            }
            let dtype = if table == Table::ButtonStates {
                Dtype::I64
            } else {
                Dtype::F32
            };
            archive.start(name, &Header::new(dtype, &[rows as usize, width as usize]))?;
            records.iter().try_for_each(|&record| {
                journal.read_table(record, table, |bytes| archive.write(bytes))
            })
        };
        table(&mut archive, OBSERVATIONS, Table::Observations)?;
        table(&mut archive, ACTIONS, Table::Actions)?;
        write_terminals(
            &mut archive,
            records.iter().map(|record| record.rows as usize),
        )?;
        table(&mut archive, QPOS, Table::Qpos)?;
        table(&mut archive, QVEL, Table::Qvel)?;
        table(&mut archive, BUTTON_STATES, Table::ButtonStates)?;
        let metadata = Metadata {
            episode_seeds: records.iter().map(|record| record.seed).collect(),
            episode_successes: records.iter().map(|record| record.success).collect(),
            ..metadata.clone()
        };
        write_metadata(&mut archive, &metadata)?;
        archive.finish()?.flush()
    }

    /// Throws the unfinished dataset away.
    ///
    /// # Errors
    /// [`DatasetError::Io`].
    pub fn discard(self) -> Result<(), DatasetError> {
        self.journal.remove()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_dataset, files, folder, ramp};
    use crate::{Dataset, Layout};

    fn episodes(dataset: &Dataset) -> Vec<Episode> {
        (0..dataset.num_episodes())
            .map(|episode| dataset.episode(episode).unwrap())
            .collect()
    }

    fn append(writer: &mut DatasetWriter, episodes: &[Episode]) {
        for episode in episodes {
            writer.append_episode(episode).unwrap();
        }
    }

    fn settings(env: &str) -> Metadata {
        Metadata {
            env: env.to_owned(),
            ..Metadata::default()
        }
    }

    proptest! {
        // Each case waits for the disk several times.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_streamed_archive_has_the_bytes_of_one_that_is_saved(dataset in any_dataset()) {
            let (folder, path) = folder("data.npz");
            let mut writer = DatasetWriter::create(&path, settings("cube")).unwrap();
            append(&mut writer, &episodes(&dataset));
            prop_assert_eq!(writer.num_transitions(), dataset.num_transitions());
            writer.finish().unwrap();
            prop_assert_eq!(files(&folder), ["data.npz"], "journal and temporary file are gone");
            let streamed = std::fs::read(&path).unwrap();
            let whole = Dataset::from_episodes(&episodes(&dataset), settings("cube")).unwrap();
            prop_assert_eq!(&Dataset::load(&path).unwrap(), &whole);
            whole.save(&path, Layout::File).unwrap();
            prop_assert_eq!(std::fs::read(&path).unwrap(), streamed);
        }

        #[test]
        fn a_run_that_died_anywhere_goes_on_to_the_same_bytes(dataset in any_dataset(), cut in 0.0f64..1.0, flip: bool) {
            let all = episodes(&dataset);
            let (_folder, path) = folder("data.npz");
            let mut writer = DatasetWriter::create(&path, settings("cube")).unwrap();
            append(&mut writer, &all);
            writer.finish().unwrap();
            let expected = std::fs::read(&path).unwrap();

            let mut writer = DatasetWriter::create(&path, settings("cube")).unwrap();
            append(&mut writer, &all);
            drop(writer);
            let journal = DatasetWriter::journal_path(&path);
            let mut bytes = std::fs::read(&journal).unwrap();
            bytes.truncate((cut * bytes.len() as f64) as usize);
            // A power cut may leave the length of a file and lose its content.
            if let (true, Some(last)) = (flip && bytes.len() > 8, bytes.last_mut()) {
                *last ^= 1;
            }
            std::fs::write(&journal, bytes).unwrap();
            let mut writer = DatasetWriter::resume(&path, settings("cube")).unwrap();
            let done = writer.num_episodes();
            prop_assert!(done < all.len());
            append(&mut writer, &all[done..]);
            writer.finish().unwrap();
            prop_assert_eq!(std::fs::read(&path).unwrap(), expected);
        }

        #[test]
        fn a_damaged_journal_is_an_error_or_a_prefix(dataset in any_dataset(), at in 0.0f64..1.0, byte: u8) {
            let (_folder, path) = folder("data.npz");
            let mut writer = DatasetWriter::create(&path, Metadata::default()).unwrap();
            append(&mut writer, &episodes(&dataset));
            drop(writer);
            let journal = DatasetWriter::journal_path(&path);
            let mut bytes = std::fs::read(&journal).unwrap();
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = byte;
            std::fs::write(&journal, bytes).unwrap();
            if let Ok(writer) = DatasetWriter::recover(&path)
                && writer.num_episodes() > 0
            {
                let found = writer.num_episodes();
                writer.finish().unwrap();
                prop_assert_eq!(episodes(&Dataset::load(&path).unwrap()), &episodes(&dataset)[..found]);
            }
        }
    }

    #[test]
    fn complete_episodes_are_recovered() {
        let dataset = ramp(&[3, 2, 4]);
        let (folder, path) = folder("data.npz");
        let mut writer = DatasetWriter::create(&path, settings("cube")).unwrap();
        append(&mut writer, &episodes(&dataset));
        drop(writer);
        let journal = DatasetWriter::journal_path(&path);
        let length = std::fs::metadata(&journal).unwrap().len();
        std::fs::File::options()
            .write(true)
            .open(&journal)
            .unwrap()
            .set_len(length - 1)
            .unwrap();

        let writer = DatasetWriter::recover(&path).unwrap();
        assert_eq!((writer.num_episodes(), writer.num_transitions()), (2, 5));
        // The third episode has 5 rows of 3 numbers after 76 bytes of headers.
        assert_eq!(writer.discarded_bytes(), 76 + 5 * 3 * 4 - 1);
        assert_eq!(writer.metadata(), &settings("cube"));
        writer.finish().unwrap();
        assert_eq!(
            episodes(&Dataset::load(&path).unwrap()),
            episodes(&dataset)[..2]
        );
        assert_eq!(files(&folder), ["data.npz"]);
        assert!(matches!(
            DatasetWriter::recover(&path),
            Err(DatasetError::Io {
                action: "open the journal",
                ..
            })
        ));
    }

    #[test]
    fn an_unfinished_dataset_is_neither_overwritten_nor_mixed() {
        let dataset = ramp(&[3]);
        let (_folder, path) = folder("data.npz");
        let mut writer = DatasetWriter::resume(&path, settings("cube")).unwrap();
        append(&mut writer, &episodes(&dataset));
        let locked = DatasetWriter::resume(&path, settings("cube")).unwrap_err();
        assert!(matches!(locked, DatasetError::Locked { .. }), "{locked}");
        drop(writer);
        let error = DatasetWriter::create(&path, settings("cube")).unwrap_err();
        assert!(
            matches!(error, DatasetError::Unfinished { episodes: 1, .. }),
            "{error}"
        );
        let error = DatasetWriter::resume(&path, settings("scene")).unwrap_err();
        let expected = "the unfinished dataset has `env` \"cube\", this run has \"scene\"; delete it or use another path";
        assert_eq!(error.to_string().lines().next(), Some(expected));
        assert_eq!(
            DatasetWriter::resume(&path, settings("cube"))
                .unwrap()
                .num_episodes(),
            1
        );
        DatasetWriter::recover(&path).unwrap().discard().unwrap();
        assert_eq!(
            DatasetWriter::create(&path, settings("scene"))
                .unwrap()
                .num_episodes(),
            0
        );
    }

    #[test]
    fn episodes_that_do_not_fit_change_nothing() {
        let (_folder, path) = folder("data.npz");
        let mut writer = DatasetWriter::create(&path, Metadata::default()).unwrap();
        let good = ramp(&[3]).episode(0).unwrap();
        let problem =
            |writer: &mut DatasetWriter, episode: &Episode| match writer.append_episode(episode) {
                Err(DatasetError::Invalid { problem, .. }) => problem,
                other => panic!("{other:?}"),
            };
        let short = Episode {
            observations: Array2::zeros((1, 2)),
            actions: Array2::zeros((1, 1)),
            ..good.clone()
        };
        assert_eq!(
            problem(&mut writer, &short),
            InvalidData::ShortEpisode {
                episode: 0,
                start: 0,
                rows: 1
            }
        );
        writer.append_episode(&good).unwrap();
        let wide = Episode {
            actions: Array2::zeros((4, 2)),
            ..good.clone()
        };
        assert_eq!(
            problem(&mut writer, &wide),
            InvalidData::Width {
                column: "actions",
                found: 2,
                expected: 1
            }
        );
        let with_qpos = Episode {
            qpos: Some(Array2::zeros((4, 2))),
            ..good.clone()
        };
        assert_eq!(
            problem(&mut writer, &with_qpos),
            InvalidData::Width {
                column: "qpos",
                found: 2,
                expected: 0
            }
        );
        let mut bad = good.clone();
        bad.actions[[1, 0]] = f32::INFINITY;
        let text = problem(&mut writer, &bad).to_string();
        assert_eq!(
            text,
            "`actions` is inf at row 5, entry 0; expected a finite number"
        );
        let uneven = Episode {
            actions: Array2::zeros((3, 1)),
            ..good.clone()
        };
        assert_eq!(
            problem(&mut writer, &uneven),
            InvalidData::RowCount {
                column: "actions",
                found: 3,
                expected: 4
            }
        );
        writer.append_episode(&good).unwrap();
        writer.finish().unwrap();
        assert_eq!(Dataset::load(&path).unwrap().num_transitions(), 6);
    }

    #[test]
    fn an_empty_dataset_is_not_written() {
        let (folder, path) = folder("data.npz");
        let writer = DatasetWriter::create(&path, Metadata::default()).unwrap();
        let error = writer.finish().unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::Invalid {
                    problem: InvalidData::NoEpisodes { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(files(&folder), ["data.npz.part"]);
    }

    #[test]
    fn other_files_under_the_name_of_the_journal_are_left_alone() {
        let (_folder, path) = folder("data.npz");
        std::fs::write(DatasetWriter::journal_path(&path), "a shopping list").unwrap();
        let error = DatasetWriter::resume(&path, Metadata::default()).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
        let content = std::fs::read_to_string(DatasetWriter::journal_path(&path)).unwrap();
        assert_eq!(content, "a shopping list");
    }
}
