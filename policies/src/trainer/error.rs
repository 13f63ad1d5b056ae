//! What stops a run.

use std::error::Error;

use camino::Utf8PathBuf;
use telic_datasets::DatasetError;

use crate::checkpoint::DatasetFingerprint;
use crate::run_folder::RunFolderError;
use crate::{CheckpointError, ConfigError, PolicyError, UnknownPolicy};

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy of the configuration does not exist.
    #[error(transparent)]
    UnknownPolicy(#[from] UnknownPolicy),
    /// The folder is in use, occupied, or not a run.
    #[error(transparent)]
    RunFolder(#[from] RunFolderError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The data cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The policy cannot learn from this data with this configuration.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The training split has no episode.
    #[error(
        "`train_fraction` {fraction} leaves none of {episodes} episode(s) to train on; use 1 to train on all"
    )]
    NoTrainingEpisodes {
        /// The fraction.
        fraction: f64,
        /// Episodes of the dataset.
        episodes: usize,
    },
    /// Recorded actions beyond what policies give.
    #[error(
        "action entry {entry} reaches {value} in the data; policies act in −1..1: scale the recorded actions"
    )]
    ActionRange {
        /// Entry of an action.
        entry: usize,
        /// The value farthest from 0.
        value: f32,
    },
    /// Training and validation data do not fit together.
    #[error(
        "the validation dataset has {field} {found}, the training dataset {expected}\nin {path}"
    )]
    ValidationData {
        /// What differs.
        field: &'static str,
        /// Its value in the validation data.
        found: String,
        /// Its value in the training data.
        expected: String,
        /// The validation data.
        path: Utf8PathBuf,
    },
    /// The run to resume has another configuration.
    #[error("the run was started with other settings; start a new run, or resume with the old ones (run, now):\n{}\nin {path}", differences.join("\n"))]
    ConfigChanged {
        /// Key, value in the run folder and value now.
        differences: Vec<String>,
        /// The run folder.
        path: Utf8PathBuf,
    },
    /// The data is not what the run began with.
    #[error("the dataset has changed: the run began with {expected}; now {found}\nin {path}")]
    DatasetChanged {
        /// What the checkpoint says.
        expected: Box<DatasetFingerprint>,
        /// What is there now.
        found: Box<DatasetFingerprint>,
        /// The dataset.
        path: Utf8PathBuf,
    },
    /// A loss or another metric of an update is NaN or infinite.
    #[error("`{metric}` is {value} after update {step}; the last good checkpoint is {checkpoint}")]
    NonFinite {
        /// The metric.
        metric: String,
        /// Its value.
        value: f64,
        /// The update, from 1.
        step: u64,
        /// The newest checkpoint, or that there is none.
        checkpoint: String,
    },
    /// The best checkpoint is to be kept by a metric that is not among the ones that are measured.
    #[error(
        "`keep_best.metric` is {metric}, expected one of: {measured}\nthe run goes on with another one from {checkpoint}"
    )]
    KeepBest {
        /// What the configuration names.
        metric: String,
        /// What is measured under the same prefix.
        measured: String,
        /// The checkpoint that was written before this was noticed.
        checkpoint: Utf8PathBuf,
    },
    /// A file of the run cannot be written or read.
    #[error("cannot {action}: {source}\nin {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's words.
        source: std::io::Error,
        /// Where.
        path: Utf8PathBuf,
    },
    /// The observer could not evaluate.
    #[error("evaluation after update {step} failed: {source}")]
    Observer {
        /// The update, from 1.
        step: u64,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}
