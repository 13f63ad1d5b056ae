//! `.npz` archives: ZIP files of `.npy` members.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::{Array2, ShapeBuilder};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::npy::{FromStored, Header};
use crate::{DatasetError, InvalidData};

/// Suffix of members.
const SUFFIX: &str = ".npy";

/// Level of deflate. Floats of neighbouring rows share few bytes: higher levels cost time and save nothing.
const DEFLATE_LEVEL: i64 = 3;

/// Members are compressed in blocks of this size, so that their bytes do not depend on how they were handed over.
const BLOCK_BYTES: usize = 1 << 16;

/// An archive that is open for reading.
pub(crate) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    path: Utf8PathBuf,
    bytes: u64,
}

impl Archive {
    pub(crate) fn open(path: &Utf8Path) -> Result<Self, DatasetError> {
        let io = |source| DatasetError::Io {
            action: "open the dataset",
            source,
            path: path.to_owned(),
        };
        let file = File::open(path).map_err(io)?;
        let status = file.metadata().map_err(io)?;
        if status.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| DatasetError::Format {
            member: "the archive".to_owned(),
            reason: format!("{error}; expected a NumPy `.npz` file"),
            path: path.to_owned(),
        })?;
        Ok(Self {
            zip,
            path: path.to_owned(),
            bytes: status.len(),
        })
    }

    /// Size of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Names of the members without their suffix.
    pub(crate) fn names(&self) -> Vec<String> {
        self.zip
            .file_names()
            .map(|name| name.strip_suffix(SUFFIX).unwrap_or(name).to_owned())
            .collect()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.zip
            .index_for_name(&format!("{name}{SUFFIX}"))
            .is_some()
    }

    /// Reads a member of any shape.
    pub(crate) fn read<T: FromStored>(
        &mut self,
        name: &'static str,
    ) -> Result<(Header, Vec<T>), DatasetError> {
        self.read_shaped(name, "", |_| true)
    }

    /// Reads a member, if its shape is one that fits; nothing is read of another.
    fn read_shaped<T: FromStored>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        fits: impl Fn(&[usize]) -> bool,
    ) -> Result<(Header, Vec<T>), DatasetError> {
        match self.try_read(name, fits) {
            Ok((header, Some(values))) => Ok((header, values)),
            Ok((header, None)) => Err(self.invalid(InvalidData::Shape {
                column: name,
                shape: header.shape,
                expected,
            })),
            Err(reason) => Err(self.format(name, reason)),
        }
    }

    fn try_read<T: FromStored>(
        &mut self,
        name: &str,
        fits: impl Fn(&[usize]) -> bool,
    ) -> Result<(Header, Option<Vec<T>>), String> {
        let mut member = self
            .zip
            .by_name(&format!("{name}{SUFFIX}"))
            .map_err(|error| error.to_string())?;
        let (member_bytes, stored_bytes) =
            (member.size(), member.compressed_size().min(self.bytes));
        let header = Header::read(&mut member)?;
        if !fits(&header.shape) {
            return Ok((header, None));
        }
        let values = header.read_values(&mut member, member_bytes, stored_bytes)?;
        Ok((header, Some(values)))
    }

    /// Reads a table, `[rows, width]`, in C order.
    pub(crate) fn table<T: FromStored + Clone>(
        &mut self,
        name: &'static str,
    ) -> Result<Array2<T>, DatasetError> {
        let expected = "a table of two axes, rows and entries";
        let (header, values) = self.read_shaped::<T>(name, expected, |shape| shape.len() == 2)?;
        let shape = (header.shape[0], header.shape[1]);
        let table = Array2::from_shape_vec(shape.set_f(header.fortran_order), values)
            .expect("`read` returns as many values as the shape has");
        Ok(if header.fortran_order {
            table.as_standard_layout().into_owned()
        } else {
            table
        })
    }

    /// Reads a column of flags, `[rows]`.
    pub(crate) fn flags(&mut self, name: &'static str) -> Result<Vec<bool>, DatasetError> {
        let one_each = |shape: &[usize]| matches!(shape, [_] | [_, 1]);
        let (_, values) = self.read_shaped::<f64>(name, "one flag per row", one_each)?;
        flags(name, &values).map_err(|problem| self.invalid(problem))
    }

    /// An error about the content.
    pub(crate) fn invalid(&self, problem: InvalidData) -> DatasetError {
        DatasetError::Invalid {
            problem,
            path: self.path.clone(),
        }
    }

    /// An error about a member.
    pub(crate) fn format(&self, name: &str, reason: String) -> DatasetError {
        DatasetError::Format {
            member: format!("`{name}`"),
            reason,
            path: self.path.clone(),
        }
    }
}

/// Numbers that are 0 or 1.
pub(crate) fn flags(column: &'static str, values: &[f64]) -> Result<Vec<bool>, InvalidData> {
    let other = |(_, value): &(usize, &f64)| **value != 0.0 && **value != 1.0;
    match values.iter().enumerate().find(other) {
        Some((row, &value)) => Err(InvalidData::Flag { column, row, value }),
        None => Ok(values.iter().map(|&value| value == 1.0).collect()),
    }
}

/// Writes an archive whose bytes follow from its content alone.
pub(crate) struct ArchiveWriter<W: Write + Seek> {
    zip: ZipWriter<Fused<W>>,
    block: Vec<u8>,
}

impl<W: Write + Seek> ArchiveWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        let inner = Fused {
            inner,
            failed: false,
        };
        Self {
            zip: ZipWriter::new(inner),
            block: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    /// Starts a member of this shape; exactly its numbers must follow.
    pub(crate) fn start(&mut self, name: &str, header: &Header) -> std::io::Result<()> {
        self.flush_block()?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(DEFLATE_LEVEL))
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(0o644)
            // Sizes of 8 bytes for every member, as NumPy writes them: one form for small and large.
            .large_file(true);
        self.zip.start_file(format!("{name}{SUFFIX}"), options)?;
        self.write(&header.to_bytes())
    }

    /// Appends bytes to the member.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let take = bytes.len().min(BLOCK_BYTES - self.block.len());
            self.block.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    /// Appends numbers to the member.
    pub(crate) fn write_numbers<const N: usize>(
        &mut self,
        numbers: impl Iterator<Item = [u8; N]>,
    ) -> std::io::Result<()> {
        for number in numbers {
            self.write(&number)?;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> std::io::Result<()> {
        if !self.block.is_empty() {
            self.zip.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> std::io::Result<W> {
        self.flush_block()?;
        Ok(self.zip.finish()?.inner)
    }
}

/// A stream that is silent after its first error: a `ZipWriter` that is dropped tries to go on, and would print
/// the error that the caller already has.
struct Fused<W> {
    inner: W,
    failed: bool,
}

impl<W> Fused<W> {
    fn run<T>(
        &mut self,
        silent: T,
        action: impl FnOnce(&mut W) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        if self.failed {
            return Ok(silent);
        }
        let result = action(&mut self.inner);
        self.failed = result
            .as_ref()
            .is_err_and(|error| error.kind() != std::io::ErrorKind::Interrupted);
        result
    }
}

impl<W: Write> Write for Fused<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.run(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.run((), Write::flush)
    }
}

impl<W: Seek> Seek for Fused<W> {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        self.run(0, |inner| inner.seek(position))
    }
}

/// A file that appears under its name only when it is complete.
pub(crate) struct AtomicFile {
    temporary: Utf8PathBuf,
    target: Utf8PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Opens `temporary`, which must be in the folder of `target`.
    pub(crate) fn create(
        temporary: Utf8PathBuf,
        target: &Utf8Path,
    ) -> Result<(Self, BufWriter<File>), DatasetError> {
        let io = |source| DatasetError::Io {
            action: "write the dataset",
            source,
            path: target.to_owned(),
        };
        if target.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        // A device or a pipe would be replaced by a file.
        if target.exists() && !target.is_file() {
            return Err(io(std::io::Error::other("it is no regular file")));
        }
        // Read access, because the length of a finished member is written into its header.
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(io)?;
        let guard = Self {
            temporary,
            target: target.to_owned(),
            committed: false,
        };
        Ok((guard, BufWriter::with_capacity(1 << 18, file)))
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn commit(mut self, file: BufWriter<File>) -> Result<(), DatasetError> {
        let commit = || {
            let file = file
                .into_inner()
                .map_err(std::io::IntoInnerError::into_error)?;
            file.sync_all()?;
            drop(file);
            std::fs::rename(&self.temporary, &self.target)?;
            sync_folder(&self.target);
            Ok(())
        };
        let result = commit();
        self.committed = result.is_ok();
        result.map_err(|source| self.error(source))
    }

    /// An error while writing.
    pub(crate) fn error(&self, source: std::io::Error) -> DatasetError {
        DatasetError::Io {
            action: "write the dataset",
            source,
            path: self.target.clone(),
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Already failing: a leftover is the lesser problem.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Makes a rename durable. Not every file system can; the content is safe without.
pub(crate) fn sync_folder(path: &Utf8Path) {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
