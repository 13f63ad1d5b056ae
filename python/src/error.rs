//! Errors of the other crates as exceptions of the package.

use pyo3::PyErr;
use telic::FlowError;
use telic_datasets::{DatasetError, InvalidData, SamplerError};
use telic_envs::{EnvError, VecError};
use telic_policies::{CheckpointError, PolicyError, TrainError};

mod exceptions {
    pyo3::import_exception!(telic.errors, TelicError);
    pyo3::import_exception!(telic.errors, InputError);
    pyo3::import_exception!(telic.errors, MissingFileError);
    pyo3::import_exception!(telic.errors, NotResetError);
}

use exceptions::{InputError, MissingFileError, NotResetError, TelicError};

/// An argument that cannot be used: `InputError`, which is also a `ValueError`.
pub(crate) fn input(message: impl std::fmt::Display) -> PyErr {
    InputError::new_err(message.to_string())
}

/// A failure that is not the caller's: `TelicError`.
pub(crate) fn failure(message: impl std::fmt::Display) -> PyErr {
    TelicError::new_err(message.to_string())
}

/// A file that is not there: `MissingFileError`, which is also a `FileNotFoundError`.
pub(crate) fn missing_file(message: impl std::fmt::Display) -> PyErr {
    MissingFileError::new_err(message.to_string())
}

fn env_exception(error: &EnvError, message: String) -> PyErr {
    match error {
        EnvError::NotReset { .. } => NotResetError::new_err(message),
        EnvError::Model { .. } => TelicError::new_err(message),
        _ => InputError::new_err(message),
    }
}

pub(crate) fn of_env(error: &EnvError) -> PyErr {
    env_exception(error, error.to_string())
}

pub(crate) fn of_vec_env(error: &VecError) -> PyErr {
    let message = error.to_string();
    match error {
        VecError::Row { source, .. } => env_exception(source, message),
        VecError::Finished { .. } => NotResetError::new_err(message),
        VecError::Threads { .. } => TelicError::new_err(message),
        _ => InputError::new_err(message),
    }
}

pub(crate) fn of_dataset(error: &DatasetError) -> PyErr {
    match error {
        DatasetError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            missing_file(error)
        }
        _ => failure(error),
    }
}

pub(crate) fn of_data(error: &InvalidData) -> PyErr {
    input(error)
}

pub(crate) fn of_sampler(error: &SamplerError) -> PyErr {
    input(error)
}

pub(crate) fn of_policy(error: &PolicyError) -> PyErr {
    match error {
        PolicyError::Shape { .. }
        | PolicyError::Settings(_)
        | PolicyError::Data { .. }
        | PolicyError::NoRewards => input(error),
        _ => failure(error),
    }
}

pub(crate) fn of_checkpoint(error: &CheckpointError) -> PyErr {
    match error {
        CheckpointError::NotFound { .. } | CheckpointError::Missing { .. } => missing_file(error),
        CheckpointError::Model {
            source: PolicyError::Device { .. },
            ..
        } => input(error),
        _ => failure(error),
    }
}

pub(crate) fn of_flow(error: &FlowError) -> PyErr {
    match error {
        FlowError::Env(source) => of_env(source),
        FlowError::Policy(source) => of_policy(source),
        FlowError::Train(source) => of_train(source),
        FlowError::Argument { .. } | FlowError::Mismatch { .. } => input(error),
        _ => failure(error),
    }
}

fn of_train(error: &TrainError) -> PyErr {
    match error {
        TrainError::Dataset(source) => of_dataset(source),
        TrainError::Config(_) | TrainError::KeepBest { .. } => input(error),
        TrainError::Policy(source) => of_policy(source),
        _ => failure(error),
    }
}
