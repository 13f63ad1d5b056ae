//! The commands of the binary.

pub(crate) mod bench;
pub(crate) mod collect;
pub(crate) mod envs;
pub(crate) mod evaluate;
pub(crate) mod inspect;
pub(crate) mod quickstart;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod sweep;
pub(crate) mod train;
pub(crate) mod train_expert;
pub(crate) mod view;

use std::process::ExitCode;

/// Outcome of a command: an exit code, or a failure that `main` renders.
pub(crate) type Outcome = Result<ExitCode, telic::FlowError>;
