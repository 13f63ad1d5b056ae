//! TensorBoard event files, written by hand: a TFRecord per event, an `Event` protobuf in each.
//!
//! ```text
//! record  = length u64 | masked crc32c of length u32 | data | masked crc32c of data u32       (little endian)
//! Event   = 1: wall_time double, 2: step int64, 3: file_version string | 5: summary Summary | 7: session_log SessionLog
//! Summary = 1: repeated Value { 1: tag string, 2: simple_value float }
//! SessionLog = 1: status enum, START = 1
//! ```
//!
//! A resumed run writes a new file that begins with `SessionLog::START` at its first step; TensorBoard then
//! forgets what older files say about that step and later ones.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};

use crate::crc32c::masked_crc32c;

/// Appends scalars to one event file.
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<File>,
    path: Utf8PathBuf,
}

impl EventWriter {
    /// Starts a new file in `folder`; `resumed_at` is the first step that this file speaks about, if older files
    /// may speak about it too.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(folder: &Utf8Path, resumed_at: Option<u64>) -> io::Result<Self> {
        let seconds = wall_time().floor() as u64;
        // Two runs within a second, such as a stop and a resumption, must not share a file.
        let mut attempt = 0;
        let (file, path) = loop {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.telic.{attempt}"));
            match File::create_new(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let mut writer = Self {
            file: BufWriter::new(file),
            path,
        };
        let mut version = Message::default();
        version.double(1, wall_time());
        version.bytes(3, b"brain.Event:2");
        writer.record(&version.0)?;
        if let Some(step) = resumed_at {
            let mut log = Message::default();
            log.varint(1, 1);
            let mut event = Message::default();
            event.double(1, wall_time());
            event.varint(2, step);
            event.bytes(7, &log.0);
            writer.record(&event.0)?;
        }
        writer.file.flush()?;
        Ok(writer)
    }

    /// Adds scalars at a step.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.float(2, value as f32);
            summary.bytes(1, &entry.0);
        }
        let mut event = Message::default();
        event.double(1, wall_time());
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.record(&event.0)?;
        self.file.flush()
    }

    /// Where it writes.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_crc32c(&length).to_le_bytes())?;
        self.file.write_all(data)?;
        self.file.write_all(&masked_crc32c(data).to_le_bytes())
    }
}

fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn tag(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.tag(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.tag(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.tag(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.tag(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a message: number, and the payload as bytes (varints as 8 little-endian bytes).
    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut fields = vec![];
        let varint = |message: &mut &[u8]| {
            let mut value = 0;
            for shift in (0..64).step_by(7) {
                let byte = message[0];
                *message = &message[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        };
        while !message.is_empty() {
            let tag = varint(&mut message);
            let length = match tag & 7 {
                0 => {
                    let value = varint(&mut message);
                    fields.push((tag >> 3, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => varint(&mut message) as usize,
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, message[..length].to_vec()));
            message = &message[length..];
        }
        fields
    }

    fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut records = vec![];
        while !file.is_empty() {
            let (header, rest) = file.split_at(12);
            let length = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
            assert_eq!(header[8..], masked_crc32c(&header[..8]).to_le_bytes());
            let (data, rest) = rest.split_at(length);
            assert_eq!(rest[..4], masked_crc32c(data).to_le_bytes());
            records.push(data.to_vec());
            file = &rest[4..];
        }
        records
    }

    #[test]
    fn a_file_decodes_to_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let mut writer = EventWriter::create(folder, Some(301)).unwrap();
        writer
            .scalars(
                400,
                [("training/loss", 0.25), ("evaluation/success_rate", -1.5)],
            )
            .unwrap();
        let file = std::fs::read(writer.path()).unwrap();
        let records = records(&file);
        assert_eq!(records.len(), 3);
        assert_eq!(fields(&records[0])[1], (3, b"brain.Event:2".to_vec()));
        let session = fields(&records[1]);
        assert_eq!(session[1], (2, 301u64.to_le_bytes().to_vec()));
        assert_eq!(fields(&session[2].1), [(1, 1u64.to_le_bytes().to_vec())]);
        let event = fields(&records[2]);
        assert_eq!(event[0].0, 1);
        assert!(f64::from_le_bytes(event[0].1.clone().try_into().unwrap()) > 1e9);
        assert_eq!(event[1], (2, 400u64.to_le_bytes().to_vec()));
        assert_eq!(event[2].0, 5);
        let values: Vec<_> = fields(&event[2].1)
            .into_iter()
            .map(|(_, value)| fields(&value))
            .collect();
        assert_eq!(
            values,
            [
                vec![
                    (1, b"training/loss".to_vec()),
                    (2, 0.25f32.to_le_bytes().to_vec())
                ],
                vec![
                    (1, b"evaluation/success_rate".to_vec()),
                    (2, (-1.5f32).to_le_bytes().to_vec())
                ],
            ]
        );
    }

    #[test]
    fn two_files_in_one_second_are_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let first = EventWriter::create(folder, None).unwrap();
        let second = EventWriter::create(folder, None).unwrap();
        assert_ne!(first.path(), second.path());
    }
}
