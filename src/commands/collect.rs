//! `telic collect`: play data from a scripted demonstrator.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use telic::collect::{CollectConfig, collect};
use telic::evaluate::threads;

use super::Outcome;
use crate::Context;
use crate::output::{print_json, progress_bar};

/// Collect play data with a scripted demonstrator. The file does not depend on the number of threads; an interrupted
/// call goes on where it stopped.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  telic collect --env block-push --out block-push.npz --episodes 1000 --seed 0"
)]
pub(crate) struct Args {
    /// Environment id, see `telic envs`.
    #[arg(long)]
    env: String,
    /// File to write (.npz, OGBench's format).
    #[arg(long)]
    out: Utf8PathBuf,
    /// Number of episodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of the whole file.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Demonstrator; the first one of the environment by default.
    #[arg(long)]
    demonstrator: Option<String>,
    /// Scale of the demonstrator's action noise: 1 as published, 0 none.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    noise: f32,
    /// Worker threads; all by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let config = CollectConfig {
        env: args.env.clone(),
        demonstrator: args.demonstrator.clone(),
        out: args.out.clone(),
        episodes: args.episodes as usize,
        seed: args.seed,
        threads: args
            .threads
            .map_or_else(threads, |threads| threads as usize),
        noise: args.noise,
    };
    let spec = telic_envs::spec(&config.env)?;
    spec.demonstrator(config.demonstrator.as_deref())?;
    let bar = progress_bar(u64::from(args.episodes), "episodes");
    let collected = collect(&config, &context.stop, |episodes, transitions| {
        bar.set_position(episodes as u64);
        bar.set_message(format!("{transitions} transitions"));
    });
    bar.finish_and_clear();
    let collected = collected?;
    if context.json {
        print_json(&collected);
    } else {
        print!(
            "{}: {} episodes, {} transitions, {} with success",
            collected.path, collected.episodes, collected.transitions, collected.successes,
        );
        let new = collected.transitions - collected.resumed_transitions;
        if new == 0 {
            println!(", there already");
        } else {
            let rate = new as f64 / collected.seconds;
            println!(", in {:.1} s ({rate:.0} transitions/s)", collected.seconds);
        }
    }
    Ok(ExitCode::SUCCESS)
}
