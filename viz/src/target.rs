//! Where a recording goes: a file, a live web viewer, or memory.

use std::fs::File;
use std::io::{BufWriter, Read, Write};

use camino::{Utf8Path, Utf8PathBuf};
use rerun::external::re_build_info::CrateVersion;
use rerun::external::re_log_encoding::{EncodeError, Encoder, EncodingOptions};
use rerun::log::LogMsg;

use crate::{VizError, WebOptions, WebServer};

/// Where a recording goes.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordingTarget {
    /// An `.rrd` file. It appears under its name when the recording is finished, complete or not at all.
    File(Utf8PathBuf),
    /// A web viewer that shows the recording while it grows.
    Web(WebOptions),
    /// The bytes of an `.rrd` file.
    Memory,
}

/// A finished recording.
#[derive(Debug)]
pub enum Recorded {
    /// The file that was written.
    File(Utf8PathBuf),
    /// The server that goes on serving until it is dropped.
    Web(WebServer),
    /// The bytes of an `.rrd` file.
    Memory(Vec<u8>),
}

/// An open target.
pub(crate) enum Sink {
    File(FileSink),
    Web(WebServer),
    Memory(Encoder<Vec<u8>>),
}

impl Sink {
    pub(crate) fn open(target: RecordingTarget) -> Result<Self, VizError> {
        Ok(match target {
            RecordingTarget::File(path) => Self::File(FileSink::create(path)?),
            RecordingTarget::Web(options) => Self::Web(WebServer::start(&options)?),
            RecordingTarget::Memory => {
                Self::Memory(encoder(Vec::new()).map_err(|error| encode_error(&error))?)
            }
        })
    }

    pub(crate) fn append(&mut self, messages: Vec<LogMsg>) -> Result<(), VizError> {
        match self {
            Self::File(file) => file.append(&messages),
            Self::Web(server) => {
                for message in messages {
                    server.send(message);
                }
                Ok(())
            }
            Self::Memory(encoder) => {
                for message in &messages {
                    encoder
                        .append(message)
                        .map_err(|error| encode_error(&error))?;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn finish(self) -> Result<Recorded, VizError> {
        Ok(match self {
            Self::File(file) => Recorded::File(file.finish()?),
            Self::Web(server) => Recorded::Web(server),
            Self::Memory(mut encoder) => {
                encoder.finish().map_err(|error| encode_error(&error))?;
                Recorded::Memory(encoder.into_inner().map_err(|error| encode_error(&error))?)
            }
        })
    }
}

/// Writes to a temporary name next to the file and renames at the end.
pub(crate) struct FileSink {
    path: Utf8PathBuf,
    temporary: Utf8PathBuf,
    /// `None` once the file is closed.
    encoder: Option<Encoder<BufWriter<File>>>,
}

impl FileSink {
    fn create(path: Utf8PathBuf) -> Result<Self, VizError> {
        let name = path.file_name().unwrap_or("recording.rrd");
        let temporary = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let file = if path.is_dir() {
            Err(std::io::Error::from(std::io::ErrorKind::IsADirectory))
        } else if !replaceable(&path) {
            Err(std::io::Error::other(
                "what is here is no recording (.rrd), and stays; choose another path",
            ))
        } else {
            std::fs::create_dir_all(path.parent().unwrap_or(Utf8Path::new("")))
                .and_then(|()| File::create(&temporary))
        };
        let file = file.map_err(|source| VizError::Write {
            path: path.clone(),
            source,
        })?;
        let encoder = encoder(BufWriter::new(file)).map_err(|error| write_error(&path, error))?;
        Ok(Self {
            path,
            temporary,
            encoder: Some(encoder),
        })
    }

    fn append(&mut self, messages: &[LogMsg]) -> Result<(), VizError> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        for message in messages {
            encoder
                .append(message)
                .map_err(|error| write_error(&self.path, error))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Utf8PathBuf, VizError> {
        if let Some(mut encoder) = self.encoder.take() {
            let written = encoder.finish().and_then(|()| encoder.into_inner());
            let mut buffer = written.map_err(|error| write_error(&self.path, error))?;
            buffer
                .flush()
                .and_then(|()| buffer.get_ref().sync_all())
                .and_then(|()| std::fs::rename(&self.temporary, &self.path))
                .map_err(|source| VizError::Write {
                    path: self.path.clone(),
                    source,
                })?;
        }
        Ok(self.path.clone())
    }
}

/// Whether nothing is lost if a recording takes this place: there is nothing, an empty file or a recording, whole or not.
fn replaceable(path: &Utf8Path) -> bool {
    if !path.is_file() {
        return !path.exists();
    }
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(3).read_to_end(&mut begin));
    read.is_ok() && (begin.is_empty() || begin == b"RRF")
}

impl Drop for FileSink {
    fn drop(&mut self) {
        // Still there only if the recording was given up or could not be finished.
        self.encoder = None;
        std::fs::remove_file(&self.temporary).ok();
    }
}

fn encoder<W: Write>(write: W) -> Result<Encoder<W>, EncodeError> {
    Encoder::new_eager(
        CrateVersion::LOCAL,
        EncodingOptions::PROTOBUF_COMPRESSED,
        write,
    )
}

fn encode_error(error: &EncodeError) -> VizError {
    VizError::Encode {
        reason: error.to_string(),
    }
}

fn write_error(path: &Utf8Path, error: EncodeError) -> VizError {
    let source = match error {
        EncodeError::Write(source) => source,
        other => std::io::Error::other(other.to_string()),
    };
    VizError::Write {
        path: path.to_owned(),
        source,
    }
}
