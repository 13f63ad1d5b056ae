//! `telic sweep`: seeds × policies × datasets.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use camino::Utf8PathBuf;
use telic::FlowError;
use telic::sweep::{RowOutcome, SweepConfig, Todo, run as run_rows};

use super::{Outcome, exit_code};
use crate::Context;
use crate::output::print_json;

/// Train and evaluate every combination of the seeds, policies and datasets in a file. What is there already is not run again,
/// and what was interrupted goes on.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic sweep configs/table.toml --jobs 2\n  \
                        telic sweep configs/table.toml --list          # the commands, for a job scheduler\n  \
                        telic report runs/table"
)]
pub(crate) struct Args {
    /// Sweep (.toml).
    file: Utf8PathBuf,
    /// Rows that run at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Only rows whose run folder has this in its path, for example `maze/qrl`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the commands of every row in place of running them.
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let mut rows = SweepConfig::load(&args.file)?.rows()?;
    if let Some(only) = &args.only {
        rows.retain(|row| row.folder.as_str().contains(only.as_str()));
        if rows.is_empty() {
            return Err(FlowError::Argument {
                name: "only",
                value: only.clone(),
                expected: "part of the path of a run folder, see `--list`".to_owned(),
            });
        }
    }
    if args.list {
        let commands: Vec<Vec<String>> = rows.iter().map(telic::sweep::Row::commands).collect();
        if context.json {
            print_json(&commands);
        } else {
            for row in commands {
                println!("{}", row.join(" && "));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| Utf8PathBuf::from_path_buf(path).ok())
        .ok_or_else(|| FlowError::File {
            reason: "cannot tell where this program lies".to_owned(),
            path: "telic".into(),
        })?;
    let mut left = 0;
    for row in &rows {
        left += usize::from(row.todo()? != Todo::Nothing);
    }
    eprintln!("{} rows, {left} to run", rows.len());
    let count = rows.len();
    let outcomes = run_rows(
        &rows,
        &program,
        args.jobs as usize,
        &context.stop,
        |through, outcome| eprintln!("[{through}/{count}] {}", line(outcome)),
    )?;
    let done = outcomes.iter().filter(|outcome| outcome.done).count();
    if context.json {
        print_json(&outcomes);
    } else {
        println!("{done} of {count} rows are trained and evaluated");
        if done < count {
            println!("\nto go on: {}", super::this_command());
        }
    }
    let stopped = context.stop.load(Ordering::Relaxed);
    Ok(if done < count && !stopped {
        ExitCode::FAILURE
    } else {
        exit_code(done == count)
    })
}

fn line(outcome: &RowOutcome) -> String {
    match &outcome.error {
        None => format!("{}: {:.0} s", outcome.run, outcome.seconds),
        Some(error) => format!("{}: {error}", outcome.run),
    }
}
