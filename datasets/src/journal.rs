//! The unfinished form of a dataset: episodes one after the other in a file that may end anywhere.
//!
//! ```text
//! magic   8 bytes
//! record  payload length u64, CRC-32 of the payload u32, payload       (all little endian)
//! ```
//!
//! The payload of the first record is the [`Metadata`] as JSON. Each further record is an episode: eight u64 (seed, success, rows,
//! and the widths of observations, actions, qpos, qvel and button states, 0 where there are none), then these tables,
//! row-major. A record counts when all of it is there and its checksum fits, so that a process may die at any time.

use std::fs::{File, TryLockError};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::Array2;

use crate::{DatasetError, Episode, Metadata};

const MAGIC: &[u8; 8] = b"TELICEP1";
const PREFIX_BYTES: u64 = 12;
const EPISODE_HEADER_BYTES: u64 = 64;
/// Longest metadata that is read back.
const MAX_METADATA_BYTES: u64 = 1 << 26;

/// The tables of an episode, in the order of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Observations,
    Actions,
    Qpos,
    Qvel,
    ButtonStates,
}

impl Table {
    pub(crate) const ALL: [Self; 5] = [
        Self::Observations,
        Self::Actions,
        Self::Qpos,
        Self::Qvel,
        Self::ButtonStates,
    ];

    pub(crate) fn number_bytes(self) -> u64 {
        if self == Self::ButtonStates { 8 } else { 4 }
    }
}

/// Entries per row of each of [`Table::ALL`], 0 where a table is absent.
pub(crate) type Widths = [u64; 5];

/// One complete episode in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Position of the first table.
    start: u64,
    pub(crate) rows: u64,
    pub(crate) seed: u64,
    pub(crate) success: bool,
}

/// An open journal, locked against other processes.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: Utf8PathBuf,
    /// End of the last complete record.
    end: u64,
    pub(crate) records: Vec<Record>,
    /// Widths of the first episode.
    pub(crate) widths: Option<Widths>,
    /// Bytes after the last complete record that were cut off.
    pub(crate) discarded_bytes: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens and locks a journal and reads what is complete. The metadata is `None` if the file is new, or if a
    /// process died before it had written them.
    pub(crate) fn open(
        path: &Utf8Path,
        create: bool,
    ) -> Result<(Self, Option<Metadata>), DatasetError> {
        let file = open_locked(path, create)?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            end: 0,
            records: Vec::new(),
            widths: None,
            discarded_bytes: 0,
            buffer: Vec::new(),
        };
        let metadata = journal.scan()?;
        Ok((journal, metadata))
    }

    /// Starts from nothing.
    pub(crate) fn reset(&mut self, metadata: &Metadata) -> Result<(), DatasetError> {
        let json = serde_json::to_vec(metadata)
            .map_err(|error| self.io("write the journal")(error.into()))?;
        self.records.clear();
        self.widths = None;
        self.end = 0;
        self.buffer.clear();
        self.buffer.extend(MAGIC);
        self.buffer.extend((json.len() as u64).to_le_bytes());
        self.buffer.extend(crc32fast::hash(&json).to_le_bytes());
        self.buffer.extend(json);
        self.file.set_len(0).map_err(self.io("write the journal"))?;
        self.write_buffer()
    }

    /// Appends an episode, whose tables have checked shapes. After an error the journal is as before.
    pub(crate) fn append(&mut self, episode: &Episode) -> Result<(), DatasetError> {
        let widths = widths(episode);
        let rows = episode.observations.nrows() as u64;
        self.buffer.clear();
        self.buffer.resize(PREFIX_BYTES as usize, 0);
        for number in [episode.seed, u64::from(episode.success), rows]
            .into_iter()
            .chain(widths)
        {
            self.buffer.extend(number.to_le_bytes());
        }
        let mut floats = |table: &Array2<f32>| {
            self.buffer
                .extend(table.iter().flat_map(|value| value.to_le_bytes()));
        };
        floats(&episode.observations);
        floats(&episode.actions);
        episode.qpos.iter().for_each(&mut floats);
        episode.qvel.iter().for_each(&mut floats);
        if let Some(table) = &episode.button_states {
            self.buffer
                .extend(table.iter().flat_map(|value| value.to_le_bytes()));
        }
        let payload = &self.buffer[PREFIX_BYTES as usize..];
        let (length, checksum) = (payload.len() as u64, crc32fast::hash(payload));
        self.buffer[..8].copy_from_slice(&length.to_le_bytes());
        self.buffer[8..PREFIX_BYTES as usize].copy_from_slice(&checksum.to_le_bytes());
        let start = self.end + PREFIX_BYTES + EPISODE_HEADER_BYTES;
        self.write_buffer()?;
        self.widths.get_or_insert(widths);
        self.records.push(Record {
            start,
            rows,
            seed: episode.seed,
            success: episode.success,
        });
        Ok(())
    }

    /// Reads one table of one episode and hands it over in blocks.
    pub(crate) fn read_table(
        &mut self,
        record: Record,
        table: Table,
        mut visit: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let widths = self.widths.unwrap_or_default();
        let bytes = |table: Table| record.rows * widths[table as usize] * table.number_bytes();
        let before: u64 = Table::ALL[..table as usize]
            .iter()
            .map(|&table| bytes(table))
            .sum();
        self.file.seek(SeekFrom::Start(record.start + before))?;
        self.buffer.resize(1 << 16, 0);
        let mut left = bytes(table);
        while left > 0 {
            let take = left.min(self.buffer.len() as u64) as usize;
            self.file.read_exact(&mut self.buffer[..take])?;
            visit(&self.buffer[..take])?;
            left -= take as u64;
        }
        Ok(())
    }

    /// Removes the journal.
    pub(crate) fn remove(self) -> Result<(), DatasetError> {
        std::fs::remove_file(&self.path).map_err(self.io("remove the journal"))
    }

    /// Writes the buffer as one piece, or nothing of it.
    fn write_buffer(&mut self) -> Result<(), DatasetError> {
        let written = self
            .file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&self.buffer));
        match written {
            Ok(()) => {
                self.end += self.buffer.len() as u64;
                Ok(())
            }
            Err(source) => {
                // If this fails too, the checksum still marks the record as incomplete.
                let _ = self.file.set_len(self.end);
                Err(self.io("write the journal")(source))
            }
        }
    }

    /// Reads records until one is incomplete, and cuts the file there.
    fn scan(&mut self) -> Result<Option<Metadata>, DatasetError> {
        let length = self
            .file
            .metadata()
            .map_err(self.io("read the journal"))?
            .len();
        let mut magic = [0; 8];
        let magic = &mut magic[..length.min(8) as usize];
        self.file
            .read_exact(magic)
            .map_err(self.io("read the journal"))?;
        if magic != &MAGIC[..magic.len()] {
            return Err(
                self.damaged("its first bytes are not TELICEP1, it was made by another program")
            );
        }
        if length < 8 {
            return Ok(None);
        }
        let mut reader = BufReader::with_capacity(1 << 16, &self.file);
        let mut position = 8;
        let mut metadata = None;
        let (mut records, mut widths) = (Vec::new(), None);
        while let Some(payload) =
            complete_record(&mut reader, position, length).map_err(self.io("read the journal"))?
        {
            let start = position + PREFIX_BYTES;
            if metadata.is_none() {
                if payload > MAX_METADATA_BYTES {
                    return Err(self.damaged("its metadata are too long"));
                }
                let mut json = vec![0; payload as usize];
                read_at(&mut reader, start, &mut json).map_err(self.io("read the journal"))?;
                metadata = Some(
                    serde_json::from_slice(&json)
                        .map_err(|error| self.damaged(&format!("metadata: {error}")))?,
                );
            } else {
                let mut header = [0; EPISODE_HEADER_BYTES as usize];
                if payload < EPISODE_HEADER_BYTES {
                    return Err(self.damaged("a record is too short for an episode"));
                }
                read_at(&mut reader, start, &mut header).map_err(self.io("read the journal"))?;
                let (numbers, _) = header.as_chunks::<8>();
                let number = |index: usize| u64::from_le_bytes(numbers[index]);
                let found: Widths = std::array::from_fn(|table| number(3 + table));
                let rows = number(2);
                if table_bytes(rows, &found) != Some(payload - EPISODE_HEADER_BYTES)
                    || rows < 2
                    || *widths.get_or_insert(found) != found
                {
                    return Err(self.damaged("a record has the size of no episode"));
                }
                records.push(Record {
                    start: start + EPISODE_HEADER_BYTES,
                    rows,
                    seed: number(0),
                    success: number(1) != 0,
                });
            }
            position = start + payload;
            reader
                .seek(SeekFrom::Start(position))
                .map_err(self.io("read the journal"))?;
        }
        if metadata.is_some() {
            self.discarded_bytes = length - position;
            self.file
                .set_len(position)
                .map_err(self.io("write the journal"))?;
        }
        self.end = position;
        self.records = records;
        self.widths = widths;
        Ok(metadata)
    }

    fn damaged(&self, reason: &str) -> DatasetError {
        DatasetError::Format {
            member: "the journal".to_owned(),
            reason: reason.to_owned(),
            path: self.path.clone(),
        }
    }

    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> DatasetError + use<> {
        let path = self.path.clone();
        move |source| DatasetError::Io {
            action,
            source,
            path,
        }
    }
}

/// Entries per row of each table of an episode.
pub(crate) fn widths(episode: &Episode) -> Widths {
    let width =
        |table: &Option<Array2<f32>>| table.as_ref().map_or(0, |table| table.ncols() as u64);
    [
        episode.observations.ncols() as u64,
        episode.actions.ncols() as u64,
        width(&episode.qpos),
        width(&episode.qvel),
        episode
            .button_states
            .as_ref()
            .map_or(0, |table| table.ncols() as u64),
    ]
}

/// Bytes of all tables; `None` if the numbers are absurd.
fn table_bytes(rows: u64, widths: &Widths) -> Option<u64> {
    Table::ALL
        .iter()
        .zip(widths)
        .try_fold(0u64, |total, (table, &width)| {
            total.checked_add(rows.checked_mul(width)?.checked_mul(table.number_bytes())?)
        })
}

/// Payload length of the record at `position`, if all of it is there and its checksum fits.
fn complete_record(
    reader: &mut BufReader<&File>,
    position: u64,
    length: u64,
) -> std::io::Result<Option<u64>> {
    if length - position < PREFIX_BYTES {
        return Ok(None);
    }
    let mut prefix = [0; PREFIX_BYTES as usize];
    reader.read_exact(&mut prefix)?;
    let (numbers, _) = prefix.as_chunks::<4>();
    let payload =
        u64::from(u32::from_le_bytes(numbers[0])) | u64::from(u32::from_le_bytes(numbers[1])) << 32;
    if payload > length - position - PREFIX_BYTES {
        return Ok(None);
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut block = vec![0; 1 << 16];
    let mut left = payload;
    while left > 0 {
        let take = left.min(block.len() as u64) as usize;
        reader.read_exact(&mut block[..take])?;
        hasher.update(&block[..take]);
        left -= take as u64;
    }
    Ok((hasher.finalize() == u32::from_le_bytes(numbers[2])).then_some(payload))
}

fn read_at(reader: &mut BufReader<&File>, position: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    reader.seek(SeekFrom::Start(position))?;
    reader.read_exact(bytes)
}

/// Opens a file that no other process has locked.
fn open_locked(path: &Utf8Path, create: bool) -> Result<File, DatasetError> {
    let io = |source| DatasetError::Io {
        action: "open the journal",
        source,
        path: path.to_owned(),
    };
    loop {
        let file = File::options()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DatasetError::Locked {
                    path: path.to_owned(),
                });
            }
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // The process that held the lock may have finished and removed the file between the two calls.
        if is_at(&file, path).map_err(io)? {
            return Ok(file);
        }
    }
}

/// Whether the open file is the one that has this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Utf8Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the open file is the one that has this name.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Utf8Path) -> std::io::Result<bool> {
    std::fs::exists(path)
}
