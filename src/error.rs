//! What a flow can fail with.

use camino::Utf8PathBuf;

/// Exit code of a command that a signal stopped before it was done, as shells have it for Ctrl-C: what follows behind `&&` does not run.
pub const STOPPED_EXIT_CODE: u8 = 130;

/// A failure of one of the flows, with its cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// The environment refused.
    #[error(transparent)]
    Env(#[from] telic_envs::EnvError),
    /// A batch of environments refused.
    #[error(transparent)]
    VecEnv(#[from] telic_envs::VecError),
    /// A dataset cannot be read or written.
    #[error(transparent)]
    Dataset(#[from] telic_datasets::DatasetError),
    /// Batches cannot be drawn from a dataset.
    #[error(transparent)]
    Sampler(#[from] telic_datasets::SamplerError),
    /// A policy cannot be trained, loaded or run.
    #[error(transparent)]
    Policy(#[from] telic_policies::PolicyError),
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] telic_policies::CheckpointError),
    /// A configuration is wrong.
    #[error(transparent)]
    Config(#[from] telic_policies::ConfigError),
    /// A run cannot start or go on.
    #[error(transparent)]
    Train(#[from] telic_policies::TrainError),
    /// A recording cannot be made.
    #[error(transparent)]
    Viz(#[from] telic_viz::VizError),
    /// A number that makes no sense.
    #[error("`{name}` is {value}, expected {expected}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Two things that do not fit each other.
    #[error("{what}: {left} against {right}")]
    Mismatch {
        /// What does not fit.
        what: &'static str,
        /// One side.
        left: String,
        /// The other side.
        right: String,
    },
    /// A file that cannot be used.
    #[error("{reason}\nin {path}")]
    File {
        /// What is wrong.
        reason: String,
        /// Where.
        path: Utf8PathBuf,
    },
    /// The user asked to stop.
    #[error("stopped: {0}")]
    Stopped(String),
}

/// Checks a number of things of which there are some, but not more than a machine can hold.
pub(crate) fn within(name: &'static str, value: usize, most: usize) -> Result<(), FlowError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(FlowError::Argument {
        name,
        value: value.to_string(),
        expected: if value == 0 {
            "at least 1".to_owned()
        } else {
            format!("at most {most}")
        },
    })
}

impl FlowError {
    /// The exit code of a command that fails with it: 2 if the call itself was wrong, [`STOPPED_EXIT_CODE`] if it was asked to stop, 1 for what
    /// went wrong on the way.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped(_) => STOPPED_EXIT_CODE,
            _ if self.is_usage() => 2,
            _ => 1,
        }
    }

    fn is_usage(&self) -> bool {
        use telic_envs::EnvError;
        use telic_policies::TrainError;
        matches!(
            self,
            Self::Argument { .. }
                | Self::Config(_)
                | Self::Policy(telic_policies::PolicyError::Settings(_))
                | Self::Train(
                    TrainError::Config(_)
                        | TrainError::KeepBest { .. }
                        | TrainError::Policy(telic_policies::PolicyError::Settings(_))
                )
                | Self::Env(
                    EnvError::UnknownId { .. }
                        | EnvError::NoDemonstrator { .. }
                        | EnvError::UnknownDemonstrator { .. }
                        | EnvError::NoNoise { .. }
                        | EnvError::UnknownTask { .. }
                )
        )
    }
}
