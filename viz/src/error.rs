//! What can go wrong while something is recorded, opened or served.

use std::path::PathBuf;

use camino::Utf8PathBuf;

/// Failure of a recording, a viewer or a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VizError {
    /// The recording cannot be created, written or renamed.
    #[error("cannot write the recording: {source}\nin {path}")]
    Write {
        /// The file that was asked for.
        path: Utf8PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open the recording: {source}\nin {path}")]
    Open {
        /// The file.
        path: Utf8PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is no recording, or a damaged one.
    #[error("not a readable rerun recording (.rrd): {reason}\nin {path}")]
    Decode {
        /// The file.
        path: Utf8PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// A message cannot be encoded.
    #[error("cannot encode the recording: {reason}")]
    Encode {
        /// The encoder's words.
        reason: String,
    },
    /// The recording stream refuses data.
    #[error("cannot log to the recording")]
    Log(#[from] rerun::RecordingStreamError),
    /// A step, a denoising trace or a value outside of an episode.
    #[error("`{call}` needs an episode: call `begin_episode` after the reset of the environment")]
    NoEpisode {
        /// The method that was called.
        call: &'static str,
    },
    /// The environment is not the one that the recording is about.
    #[error("the recording is about `{expected}`, got a `{found}`")]
    OtherEnvironment {
        /// Environment of the recording.
        expected: &'static str,
        /// Environment that was given.
        found: &'static str,
    },
    /// An action or a candidate of the wrong length.
    #[error("`{id}` takes an action of {expected} numbers, got {found}")]
    ActionDim {
        /// The environment.
        id: &'static str,
        /// What was given.
        found: usize,
        /// What it takes.
        expected: usize,
    },
    /// A metrics file without the expected shape.
    #[error("{reason}\nin {path}, line {line}")]
    Metrics {
        /// The file.
        path: Utf8PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A metric that no run has.
    #[error("no run has reported `{metric}`; there is {known}")]
    NoSuchMetric {
        /// The metric.
        metric: String,
        /// What the runs have reported, separated by commas.
        known: String,
    },
    /// A server cannot listen.
    #[error("cannot serve the viewer on {address}: {reason}")]
    Serve {
        /// Address and port.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// There is no native viewer.
    #[error(
        "no rerun viewer on PATH: install version {version} (`pip install rerun-sdk=={version}` or `cargo binstall rerun-cli@{version}`), or use the web viewer (`--web`)"
    )]
    NoViewer {
        /// Version that reads our recordings.
        version: &'static str,
    },
    /// The native viewer does not start.
    #[error("cannot start the rerun viewer: {source}\nin {path}")]
    Viewer {
        /// The program.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

impl From<rerun::SerializationError> for VizError {
    fn from(error: rerun::SerializationError) -> Self {
        Self::Log(error.into())
    }
}
