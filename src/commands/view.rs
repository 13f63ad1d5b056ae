//! `telic view`: a run, a dataset or a recording in rerun.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use telic::FlowError;
use telic::record::{RolloutConfig, record_replay, record_rollouts};
use telic_datasets::Dataset;
use telic_policies::{Checkpoint, Device};
use telic_viz::{RecordingTarget, WebOptions, WebServer, open_viewer};

use super::Outcome;
use crate::Context;
use crate::output::print_json;

/// Open a run (rollouts of its policy, with the denoising), a dataset (one episode) or a recording in rerun.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic view runs/beso --web\n  telic view block-push.npz --episode 3\n  \
                        telic view runs/quickstart/run.rrd"
)]
pub(crate) struct Args {
    /// Run folder, dataset (.npz) or recording (.rrd).
    path: Utf8PathBuf,
    /// Serve the web viewer in place of opening the native one (`rerun`).
    #[arg(long)]
    web: bool,
    /// Port of the web page; 0 takes a free one.
    #[arg(long, default_value_t = 9090)]
    port: u16,
    /// Episode of a dataset, numbered from 0.
    #[arg(long, default_value_t = 0)]
    episode: usize,
    /// Episodes of a run.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of a run's episodes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Make the recording and open nothing; by default it lies beside what it shows.
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    rrd: &'a Utf8Path,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let made = args.path.extension() != Some("rrd");
    let rrd = if made {
        make(args, context)?
    } else {
        args.path.clone()
    };
    if args.out.is_some() {
        if context.json {
            print_json(&Report { rrd: &rrd });
        } else {
            println!("{rrd}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.web {
        return serve(&rrd, args.port, context);
    }
    let mut viewer = open_viewer(&rrd)?;
    let status = viewer.wait().map_err(|error| FlowError::File {
        reason: format!("the viewer: {error}"),
        path: rrd.clone(),
    })?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Records what the path is about.
fn make(args: &Args, context: &Context) -> Result<Utf8PathBuf, FlowError> {
    if args.path.is_dir() {
        let checkpoint = Checkpoint::open(&args.path)?;
        let mut policy = checkpoint.policy(Device::Cpu)?;
        let spec = telic_envs::spec(&checkpoint.manifest.data.env)?;
        let rrd = args
            .out
            .clone()
            .unwrap_or_else(|| args.path.join("run.rrd"));
        let config = RolloutConfig {
            episodes: args.episodes as usize,
            seed: args.seed,
            ..RolloutConfig::default()
        };
        record_rollouts(
            policy.as_mut(),
            spec,
            &config,
            RecordingTarget::File(rrd.clone()),
            &context.stop,
        )?;
        return Ok(rrd);
    }
    let dataset = Dataset::load(&args.path)?;
    let rrd = args.out.clone().unwrap_or_else(|| {
        args.path
            .with_extension(format!("episode{}.rrd", args.episode))
    });
    record_replay(&dataset, args.episode, RecordingTarget::File(rrd.clone()))?;
    Ok(rrd)
}

/// Serves a recording until the user stops it.
fn serve(rrd: &Utf8Path, port: u16, context: &Context) -> Outcome {
    let grpc_port = if port == 0 {
        0
    } else {
        WebOptions::default().grpc_port
    };
    let options = WebOptions {
        web_port: port,
        grpc_port,
        ..WebOptions::default()
    };
    let server = WebServer::serve_file(rrd, &options)?;
    if context.json {
        print_json(&serde_json::json!({ "rrd": rrd, "url": server.url() }));
    } else {
        println!("{}\nCtrl-C stops the server", server.url());
    }
    while !context.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(ExitCode::SUCCESS)
}
