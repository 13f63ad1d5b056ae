//! `telic replay`: recorded episodes, simulated again.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use telic::record::record_replay;
use telic::replay::verify;
use telic_datasets::Dataset;
use telic_viz::RecordingTarget;

use super::Outcome;
use crate::Context;
use crate::output::{print_json, progress_bar};

/// Simulate recorded episodes again from their actions; compare every state to the bit, or record them for rerun.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  telic replay block-push.npz --verify\n  \
                        telic replay block-push.npz --episode 3 --rrd episode3.rrd")]
pub(crate) struct Args {
    /// Dataset (.npz) made by `telic collect`.
    path: Utf8PathBuf,
    /// Episode, numbered from 0; all are compared by default, and the first is recorded.
    #[arg(long)]
    episode: Option<usize>,
    /// Compare observations, positions and velocities with the file, to the bit; what is done where no recording is asked for.
    #[arg(long)]
    verify: bool,
    /// Write the episode as a rerun recording.
    #[arg(long, value_name = "FILE")]
    rrd: Option<Utf8PathBuf>,
}

#[derive(serde::Serialize)]
struct Recorded {
    episode: usize,
    steps: usize,
    rrd: Utf8PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let dataset = Dataset::load(&args.path)?;
    let mut identical = true;
    let compare = args.verify || args.rrd.is_none();
    if compare {
        let episodes: Vec<usize> = match args.episode {
            Some(episode) => vec![episode],
            None => (0..dataset.num_episodes()).collect(),
        };
        let bar = progress_bar(episodes.len() as u64, "episodes");
        let report = verify(&dataset, &episodes, &context.stop, |done| {
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let report = report?;
        if context.json {
            print_json(&report);
        } else if let Some(difference) = &report.difference {
            println!(
                "not identical: episode {}, step {}, {}[{}] is {:e} in the file and {:e} in the simulation",
                difference.episode,
                difference.step,
                difference.column,
                difference.entry,
                difference.recorded,
                difference.simulated
            );
        } else {
            println!(
                "identical to the bit: {} episodes, {} steps",
                report.episodes, report.steps
            );
        }
        identical = report.identical;
    }
    if let Some(rrd) = &args.rrd {
        let episode = args.episode.unwrap_or(0);
        let target = RecordingTarget::File(rrd.clone());
        let (steps, _) = record_replay(&dataset, episode, target, &context.stop)?;
        if !context.json {
            println!("episode {episode}, {steps} steps: {rrd}");
        } else if !compare {
            print_json(&Recorded {
                episode,
                steps,
                rrd: rrd.clone(),
            });
        }
    }
    Ok(ExitCode::from(u8::from(!identical)))
}
