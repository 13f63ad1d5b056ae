//! `telic recover`: a dataset of what an interrupted command left.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use serde::Serialize;
use telic::FlowError;
use telic_datasets::DatasetWriter;

use super::Outcome;
use crate::Context;
use crate::output::print_json;

/// Make a dataset of the complete episodes of one that was not finished, for commands that cannot go on. `telic collect` can.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  telic recover walker.npz    # left by `telic train-expert --data walker.npz` as walker.npz.part"
)]
pub(crate) struct Args {
    /// The dataset (.npz) that was to be written; its episodes are in `PATH.part`.
    path: Utf8PathBuf,
}

#[derive(Serialize)]
struct Report {
    path: Utf8PathBuf,
    episodes: usize,
    transitions: usize,
    discarded_bytes: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let path = args.path.clone();
    if path.exists() {
        let reason = "there is a dataset already".to_owned();
        return Err(FlowError::File { reason, path });
    }
    let writer = DatasetWriter::recover(&path)?;
    let report = Report {
        path,
        episodes: writer.num_episodes(),
        transitions: writer.num_transitions(),
        discarded_bytes: writer.discarded_bytes(),
    };
    writer.finish()?;
    if context.json {
        print_json(&report);
    } else {
        println!(
            "{}: {} episodes, {} transitions",
            report.path, report.episodes, report.transitions
        );
        if report.discarded_bytes > 0 {
            println!(
                "{} bytes of an incomplete episode are left out",
                report.discarded_bytes
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
