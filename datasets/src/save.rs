//! Writes archives.

use std::io::{Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use camino::Utf8Path;
use ndarray::Array2;

use crate::archive::{ArchiveWriter, AtomicFile};
use crate::layout::{
    ACTIONS, BUTTON_STATES, METADATA, NEXT_OBSERVATIONS, OBSERVATIONS, QPOS, QVEL, TERMINALS,
    VALIDS,
};
use crate::npy::{Dtype, Header};
use crate::{Dataset, DatasetError, Layout, Metadata};

impl Dataset {
    /// Writes an `.npz` archive. The same dataset gives the same bytes; an existing file is replaced only by a complete one.
    ///
    /// # Errors
    /// [`DatasetError::Io`]; then nothing is left behind.
    pub fn save(&self, path: &Utf8Path, layout: Layout) -> Result<(), DatasetError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{path}.{}-{unique}.tmp", std::process::id()).into();
        let (guard, mut file) = AtomicFile::create(temporary, path)?;
        match self.write(&mut file, layout) {
            Ok(()) => guard.commit(file),
            Err(source) => Err(guard.error(source)),
        }
    }

    /// Writes the archive to a stream.
    fn write(&self, file: impl Write + Seek, layout: Layout) -> std::io::Result<()> {
        let mut archive = ArchiveWriter::new(file);
        let columns = self.columns();
        match layout {
            Layout::File => {
                let index = self.episodes();
                write_floats(&mut archive, OBSERVATIONS, &columns.observations)?;
                write_floats(&mut archive, ACTIONS, &columns.actions)?;
                write_terminals(
                    &mut archive,
                    (0..index.len()).map(|episode| index.rows(episode)),
                )?;
                write_states(
                    &mut archive,
                    columns.qpos.as_ref(),
                    columns.qvel.as_ref(),
                    columns.button_states.as_ref(),
                )?;
            }
            Layout::Compact => {
                let view = self.compact();
                write_floats(&mut archive, OBSERVATIONS, view.observations)?;
                write_floats(&mut archive, ACTIONS, view.actions)?;
                write_flags(&mut archive, TERMINALS, &view.terminals)?;
                write_flags(&mut archive, VALIDS, &view.valids)?;
                write_states(
                    &mut archive,
                    columns.qpos.as_ref(),
                    columns.qvel.as_ref(),
                    columns.button_states.as_ref(),
                )?;
            }
            Layout::Regular => {
                let view = self.regular();
                write_floats(&mut archive, OBSERVATIONS, &view.observations)?;
                write_floats(&mut archive, ACTIONS, &view.actions)?;
                write_flags(&mut archive, TERMINALS, &view.terminals)?;
                write_floats(&mut archive, NEXT_OBSERVATIONS, &view.next_observations)?;
                write_states(
                    &mut archive,
                    view.qpos.as_ref(),
                    view.qvel.as_ref(),
                    view.button_states.as_ref(),
                )?;
            }
        }
        if !self.metadata().is_empty() {
            write_metadata(&mut archive, self.metadata())?;
        }
        archive.finish()?.flush()
    }
}

fn write_floats<W: Write + Seek>(
    archive: &mut ArchiveWriter<W>,
    name: &str,
    table: &Array2<f32>,
) -> std::io::Result<()> {
    archive.start(name, &Header::new(Dtype::F32, table.shape()))?;
    archive.write_numbers(table.iter().map(|value| value.to_le_bytes()))
}

fn write_flags<W: Write + Seek>(
    archive: &mut ArchiveWriter<W>,
    name: &str,
    flags: &[f32],
) -> std::io::Result<()> {
    archive.start(name, &Header::new(Dtype::F32, &[flags.len()]))?;
    archive.write_numbers(flags.iter().map(|value| value.to_le_bytes()))
}

fn write_states<W: Write + Seek>(
    archive: &mut ArchiveWriter<W>,
    qpos: Option<&Array2<f32>>,
    qvel: Option<&Array2<f32>>,
    button_states: Option<&Array2<i64>>,
) -> std::io::Result<()> {
    for (name, table) in [(QPOS, qpos), (QVEL, qvel)] {
        if let Some(table) = table {
            write_floats(archive, name, table)?;
        }
    }
    if let Some(table) = button_states {
        archive.start(BUTTON_STATES, &Header::new(Dtype::I64, table.shape()))?;
        archive.write_numbers(table.iter().map(|value| value.to_le_bytes()))?;
    }
    Ok(())
}

/// Writes the terminals of the file layout from the number of rows of each episode.
pub(crate) fn write_terminals<W: Write + Seek>(
    archive: &mut ArchiveWriter<W>,
    rows: impl Iterator<Item = usize> + Clone,
) -> std::io::Result<()> {
    archive.start(TERMINALS, &Header::new(Dtype::Bool, &[rows.clone().sum()]))?;
    for rows in rows {
        archive.write_numbers((1..=rows).map(|row| [u8::from(row == rows)]))?;
    }
    Ok(())
}

/// Writes our own member.
pub(crate) fn write_metadata<W: Write + Seek>(
    archive: &mut ArchiveWriter<W>,
    metadata: &Metadata,
) -> std::io::Result<()> {
    let json = serde_json::to_vec(metadata)?;
    archive.start(METADATA, &Header::new(Dtype::U8, &[json.len()]))?;
    archive.write(&json)
}

#[cfg(test)]
mod tests {
    use std::io::SeekFrom;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_dataset, files, folder, ramp};

    /// Bits, so that −0 is not taken for 0.
    fn bits(table: &Array2<f32>) -> Vec<u32> {
        table.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        // Each case waits for the disk several times.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn datasets_survive_the_disk(dataset in any_dataset()) {
            let (_folder, path) = folder("data.npz");
            for layout in [Layout::File, Layout::Compact, Layout::Regular] {
                dataset.save(&path, layout).unwrap();
                let bytes = std::fs::read(&path).unwrap();
                let back = Dataset::load(&path).unwrap();
                prop_assert_eq!(Metadata::load(&path).unwrap().env, dataset.metadata().env.clone());
                prop_assert_eq!(back.summary().file_bytes, Some(bytes.len() as u64));
                if layout == Layout::Regular {
                    prop_assert_eq!(back.regular(), dataset.regular());
                } else {
                    prop_assert_eq!(&back, &dataset);
                    prop_assert_eq!(bits(back.observations()), bits(dataset.observations()));
                    prop_assert_eq!(bits(back.actions()), bits(dataset.actions()));
                }
                dataset.save(&path, layout).unwrap();
                prop_assert_eq!(&std::fs::read(&path).unwrap(), &bytes, "the same bytes again");
            }
        }
    }

    #[test]
    fn the_last_state_of_regular_files_is_marked_as_repeated() {
        let mut columns = ramp(&[2]).columns().clone();
        columns.qpos = Some(Array2::from_shape_fn((3, 1), |(row, _)| row as f32));
        let dataset =
            Dataset::new(columns, ramp(&[2]).episodes().clone(), Metadata::default()).unwrap();
        let (_folder, path) = folder("data.npz");
        dataset.save(&path, Layout::Regular).unwrap();
        let back = Dataset::load(&path).unwrap();
        assert_eq!(back.qpos().unwrap().column(0).to_vec(), [0.0, 1.0, 1.0]);
        assert_eq!(back.actions().column(0).to_vec(), [0.0, 1.0, 0.0]);
        back.save(&path, Layout::File).unwrap();
        assert!(Metadata::load(&path).unwrap().final_states_repeated);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_cannot_be_written() {
        let (folder, path) = folder("data.npz");
        std::fs::create_dir(&path).unwrap();
        let error = ramp(&[2]).save(&path, Layout::File).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::Io {
                    action: "write the dataset",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(files(&folder), ["data.npz"]);
        let error = ramp(&[2])
            .save(&path.join("no/folder.npz"), Layout::File)
            .unwrap_err();
        assert!(error.to_string().ends_with("no/folder.npz"), "{error}");
    }

    /// A disk with room for some bytes.
    struct SmallDisk {
        content: std::io::Cursor<Vec<u8>>,
        room: u64,
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.content.position() + bytes.len() as u64 > self.room {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.content.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Seek for SmallDisk {
        fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
            self.content.seek(position)
        }
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_strikes() {
        let dataset = ramp(&[30, 20]);
        let disk = |room| SmallDisk {
            content: std::io::Cursor::default(),
            room,
        };
        let mut whole = disk(u64::MAX);
        dataset.write(&mut whole, Layout::Compact).unwrap();
        let bytes = whole.content.get_ref().len() as u64;
        for room in (0..bytes).step_by(7) {
            let error = dataset.write(&mut disk(room), Layout::Compact).unwrap_err();
            assert!(error.to_string().contains("no storage space"), "{error}");
        }
        dataset.write(&mut disk(bytes), Layout::Compact).unwrap();
    }
}
