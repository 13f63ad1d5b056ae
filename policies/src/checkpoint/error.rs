//! What is wrong with a checkpoint.

use camino::Utf8PathBuf;

use super::FORMAT_VERSION;
use crate::tensor_file::TensorFileError;
use crate::{PolicyError, UnknownPolicy};

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refuses.
    #[error("cannot {action}: {source}\nin {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's words.
        source: std::io::Error,
        /// Where.
        path: Utf8PathBuf,
    },
    /// There is no checkpoint.
    #[error(
        "no checkpoint here; expected a run folder with `checkpoints/step_…`, or a folder with `manifest.json`\nin {path}"
    )]
    NotFound {
        /// Where it was looked for.
        path: Utf8PathBuf,
    },
    /// There is nothing at all.
    #[error("there is no such run or checkpoint\nin {path}")]
    Missing {
        /// Where it was looked for.
        path: Utf8PathBuf,
    },
    /// The manifest is not what a manifest is.
    #[error("cannot read the manifest: {reason}\nin {path}")]
    Manifest {
        /// What is wrong with it.
        reason: String,
        /// The manifest.
        path: Utf8PathBuf,
    },
    /// A newer program wrote the checkpoint.
    #[error(
        "the checkpoint has format version {found} (telic {telic_version}); this program reads versions 1 to {FORMAT_VERSION}\nin {path}"
    )]
    Version {
        /// Its version.
        found: u32,
        /// What wrote it.
        telic_version: String,
        /// The manifest.
        path: Utf8PathBuf,
    },
    /// The checkpoint is of a policy that this program does not have.
    #[error("{unknown}\nin {path}")]
    UnknownPolicy {
        /// Its id.
        unknown: UnknownPolicy,
        /// The manifest.
        path: Utf8PathBuf,
    },
    /// A file has other bytes than were written.
    #[error(
        "the file is damaged: it has {found} bytes with CRC-32 {found_crc32}, the manifest says {expected} with {expected_crc32}\nin {path}"
    )]
    Damaged {
        /// Its length.
        found: u64,
        /// Its checksum.
        found_crc32: String,
        /// Length when written.
        expected: u64,
        /// Checksum when written.
        expected_crc32: String,
        /// The file.
        path: Utf8PathBuf,
    },
    /// A file is no tensor file.
    #[error("{source}\nin {path}")]
    Tensors {
        /// Why not.
        source: TensorFileError,
        /// The file.
        path: Utf8PathBuf,
    },
    /// The tensors are not those of the policy that the manifest describes.
    #[error("{source}\nin {path}")]
    Model {
        /// Which tensor, or which setting.
        source: PolicyError,
        /// The file.
        path: Utf8PathBuf,
    },
}
