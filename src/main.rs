//! The `telic` binary: one file per command under `commands/`.
#![allow(clippy::print_stdout)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use telic::STOPPED_EXIT_CODE;

mod commands;
mod output;

use commands::{
    bench, collect, envs, evaluate, inspect, policies, quickstart, recover, replay, report, sweep,
    train, train_expert, view,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Goal-conditioned robotics control: simulate, collect, relabel, train, watch.
#[derive(Parser)]
#[command(
    name = "telic",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Print one JSON document on stdout instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quickstart(quickstart::Args),
    Envs(envs::Args),
    Policies(policies::Args),
    Collect(collect::Args),
    Inspect(inspect::Args),
    Train(train::Args),
    TrainExpert(train_expert::Args),
    Evaluate(evaluate::Args),
    Sweep(sweep::Args),
    Report(report::Args),
    Replay(replay::Args),
    Recover(recover::Args),
    View(view::Args),
    Bench(bench::Args),
}

impl Command {
    /// Whether it looks at [`Context::stop`]. The others have nothing to leave in order, and a signal ends them.
    fn stops_cleanly(&self) -> bool {
        !matches!(
            self,
            Self::Envs(_)
                | Self::Policies(_)
                | Self::Inspect(_)
                | Self::Recover(_)
                | Self::Report(_)
                | Self::Bench(_)
        )
    }
}

/// What every command gets.
struct Context {
    /// Results go to stdout as JSON.
    json: bool,
    /// Set by SIGINT and SIGTERM.
    stop: Arc<AtomicBool>,
}

/// Sets `stop` at the first signal; the second one does not wait for the clean stop.
fn stop_at_signals(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    if let Err(error) = ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(STOPPED_EXIT_CODE));
        }
    }) {
        tracing::warn!("signals will not stop this run cleanly: {error}");
    }
}

fn main() -> ExitCode {
    telic::allocator::keep_freed_memory();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("TELIC_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,re_sdk=error")),
        )
        .init();
    output::leave_when_nobody_reads();
    let context = Context {
        json: cli.json,
        stop: Arc::new(AtomicBool::new(false)),
    };
    if cli.command.stops_cleanly() {
        stop_at_signals(&context.stop);
    }
    let outcome = match cli.command {
        Command::Quickstart(args) => quickstart::run(&args, &context),
        Command::Envs(args) => envs::run(&args, &context),
        Command::Policies(args) => policies::run(&args, &context),
        Command::Collect(args) => collect::run(&args, &context),
        Command::Inspect(args) => inspect::run(&args, &context),
        Command::Train(args) => train::run(&args, &context),
        Command::TrainExpert(args) => train_expert::run(&args, &context),
        Command::Evaluate(args) => evaluate::run(&args, &context),
        Command::Sweep(args) => sweep::run(&args, &context),
        Command::Report(args) => report::run(&args, &context),
        Command::Replay(args) => replay::run(&args, &context),
        Command::Recover(args) => recover::run(&args, &context),
        Command::View(args) => view::run(&args, &context),
        Command::Bench(args) => bench::run(&args, &context),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", output::failure(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
