//! The commands of the binary.

pub(crate) mod bench;
pub(crate) mod collect;
pub(crate) mod envs;
pub(crate) mod evaluate;
pub(crate) mod inspect;
pub(crate) mod policies;
pub(crate) mod quickstart;
pub(crate) mod recover;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod sweep;
pub(crate) mod train;
pub(crate) mod train_expert;
pub(crate) mod view;

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use telic::sweep::command_line;
use telic_policies::run_folder::CONFIG_FILE;

/// What every training takes.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Configuration (.toml).
    pub(crate) config: Utf8PathBuf,
    /// Override of one key, for example `seed=1`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run folder; `runs/<name of the configuration>` by default.
    #[arg(long)]
    out: Option<Utf8PathBuf>,
    /// Where networks run: `cpu` or `cuda`.
    #[arg(long)]
    device: Option<String>,
}

impl RunArgs {
    /// All overrides of the configuration.
    pub(crate) fn overrides(&self) -> Vec<String> {
        let device = self
            .device
            .iter()
            .map(|device| format!("device={device:?}"));
        self.set.iter().cloned().chain(device).collect()
    }

    pub(crate) fn folder(&self) -> Utf8PathBuf {
        let name = self.config.file_stem().unwrap_or("run");
        let default = || Utf8PathBuf::from("runs").join(name);
        self.out.clone().unwrap_or_else(default)
    }
}

/// The command that goes on with a run, whatever it was started with: its folder has the whole configuration.
pub(crate) fn resumption(command: &str, folder: &Utf8Path) -> String {
    let config = folder.join(CONFIG_FILE);
    command_line(&[
        command,
        config.as_str(),
        "--out",
        folder.as_str(),
        "--resume",
    ])
}

/// The command line of this process.
fn this_command() -> String {
    let arguments = std::env::args_os().skip(1);
    command_line(
        &arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect::<Vec<_>>(),
    )
}

/// Outcome of a command: an exit code, or a failure that `main` renders.
pub(crate) type Outcome = Result<ExitCode, telic::FlowError>;

/// The exit code of a command that was not stopped by a failure, but perhaps by a signal.
pub(crate) fn exit_code(finished: bool) -> ExitCode {
    if finished {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(telic::STOPPED_EXIT_CODE)
    }
}
