//! `telic view`: a run, a dataset or a recording in rerun.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use telic::record::{RolloutConfig, record_replay, record_rollouts};
use telic::{FlowError, STOPPED_EXIT_CODE};
use telic_datasets::Dataset;
use telic_policies::{Checkpoint, Device};
use telic_viz::{
    RecordingTarget, VIEWER_VERSION, WebOptions, WebServer, installed_viewer, open_viewer,
    record_training,
};

use super::Outcome;
use crate::Context;
use crate::output::{print_json, progress_bar};

/// Open a run (rollouts of its policy with what it makes of them, and its training curves), a dataset (one episode) or a recording in
/// rerun.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic view runs/beso --web\n  telic view block-push.npz --episode 3\n  \
                        telic view runs/hilp --task task5 --set prompt.kind=plan\n  \
                        telic view runs/hilp-walker --reward run\n  \
                        telic view runs/quickstart/beso/run.rrd"
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
    /// Port that the web page gets its data from; a free one by default.
    #[arg(long, default_value_t = 0)]
    data_port: u16,
    /// Episode of a dataset, numbered from 0, which is the default.
    #[arg(long)]
    episode: Option<usize>,
    /// Episodes of a run; by default 2, or as many as tasks are given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: Option<u32>,
    /// Seed of a run's episodes; 0 by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Environment of a run's episodes; the one of the run by default.
    #[arg(long)]
    env: Option<String>,
    /// Only this task of a run, by name; may be given several times.
    #[arg(long = "task")]
    tasks: Vec<String>,
    /// Where a run's networks run: `cpu` or `cuda`.
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// In place of tasks, prompt a run's policy with this named reward of its environment, from 10,000 labelled states of its data;
    /// for HILP.
    #[arg(long, value_name = "NAME", conflicts_with = "tasks")]
    reward: Option<String>,
    /// Inference setting of a run's policy, for example `prompt.kind=plan`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Make the recording and open nothing; by default it lies beside what it shows. The training curves of a run go to a file
    /// beside it, `NAME.training.rrd`.
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    rrd: &'a Utf8Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    training_rrd: Option<&'a Utf8Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

impl<'a> Report<'a> {
    fn new(recordings: &'a [Utf8PathBuf], url: Option<&'a str>) -> Self {
        Self {
            rrd: &recordings[0],
            training_rrd: recordings.get(1).map(Utf8PathBuf::as_path),
            url,
        }
    }
}

/// What there is to look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Run,
    Dataset,
    Recording,
}

impl Args {
    fn kind(&self) -> Kind {
        if self.path.is_dir() {
            Kind::Run
        } else if self.path.extension() == Some("rrd") {
            Kind::Recording
        } else {
            Kind::Dataset
        }
    }

    /// An error for an option that says nothing about what the path is.
    fn check(&self) -> Result<(), FlowError> {
        if !self.path.exists() {
            return Err(FlowError::File {
                reason: "there is no run, dataset or recording here".to_owned(),
                path: self.path.clone(),
            });
        }
        let run = &[Kind::Run][..];
        for (name, given, kinds, expected) in [
            (
                "episode",
                self.episode.is_some(),
                &[Kind::Dataset][..],
                "a dataset",
            ),
            ("episodes", self.episodes.is_some(), run, "a run folder"),
            ("seed", self.seed.is_some(), run, "a run folder"),
            ("env", self.env.is_some(), run, "a run folder"),
            ("task", !self.tasks.is_empty(), run, "a run folder"),
            ("reward", self.reward.is_some(), run, "a run folder"),
            ("set", !self.set.is_empty(), run, "a run folder"),
            (
                "out",
                self.out.is_some(),
                &[Kind::Run, Kind::Dataset],
                "a run folder or a dataset",
            ),
        ] {
            if given && !kinds.contains(&self.kind()) {
                return Err(FlowError::Argument {
                    name,
                    value: format!("given for {}", self.path),
                    expected: format!("{expected} with it"),
                });
            }
        }
        Ok(())
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    args.check()?;
    let made = args.kind() != Kind::Recording;
    let recordings = if made {
        make(args, context)?
    } else {
        vec![args.path.clone()]
    };
    if args.out.is_some() {
        if context.json {
            print_json(&Report::new(&recordings, None));
        } else {
            recordings.iter().for_each(|path| println!("{path}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.web {
        return serve(&recordings, args, context);
    }
    if let Some(installed) = installed_viewer()
        && !installed.contains(VIEWER_VERSION)
    {
        eprintln!(
            "the viewer is `{installed}`, recordings are made for {VIEWER_VERSION} (`pip install rerun-sdk=={VIEWER_VERSION}`)"
        );
    }
    let mut viewer = open_viewer(&last_in_front(&recordings)).inspect_err(|_| {
        if made {
            eprintln!("recorded: {}", recordings[0]);
        }
    })?;
    if context.json {
        print_json(&Report::new(&recordings, None));
    }
    let failed = |error: std::io::Error| FlowError::File {
        reason: format!("the viewer: {error}"),
        path: recordings[0].clone(),
    };
    loop {
        if let Some(status) = viewer.try_wait().map_err(failed)? {
            return Ok(ExitCode::from(u8::from(!status.success())));
        }
        if context.stop.load(Ordering::Relaxed) {
            viewer.kill().map_err(failed)?;
            viewer.wait().map_err(failed)?;
            return Ok(ExitCode::from(STOPPED_EXIT_CODE));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Records what the path is about; of a run, first its rollouts, then its training curves.
fn make(args: &Args, context: &Context) -> Result<Vec<Utf8PathBuf>, FlowError> {
    if args.kind() == Kind::Run {
        let checkpoint = Checkpoint::open(&args.path)?;
        let mut policy = checkpoint.policy(args.device)?;
        policy.configure(&super::evaluate::overrides_table(&args.set)?)?;
        let of_run = &checkpoint.manifest.data.env;
        let spec = telic::evaluate::environment(args.env.as_deref(), of_run)?;
        let tasks = args
            .tasks
            .iter()
            .map(|name| telic::evaluate::task_index(spec, name))
            .collect::<Result<Vec<_>, FlowError>>()?;
        let rrd = args
            .out
            .clone()
            .unwrap_or_else(|| args.path.join("run.rrd"));
        if let Some(name) = &args.reward {
            let data = Utf8Path::new(&checkpoint.manifest.dataset.path);
            telic::returns::prompt(policy.as_mut(), spec, name, data)?;
        }
        let config = RolloutConfig {
            episodes: args
                .episodes
                .map_or(tasks.len().max(2), |episodes| episodes as usize),
            seed: args.seed.unwrap_or(0),
            tasks,
            play: args.reward.clone(),
            ..RolloutConfig::default()
        };
        let steps = spec.max_episode_steps * config.episodes;
        let bar = progress_bar(steps as u64, "steps, at most");
        let recorded = record_rollouts(
            policy.as_mut(),
            spec,
            &config,
            RecordingTarget::File(rrd.clone()),
            &context.stop,
            |_| bar.inc(1),
        );
        bar.finish_and_clear();
        recorded?;
        let mut recordings = vec![rrd];
        // A checkpoint that was copied out of its run has none.
        let metrics = args.path.join("metrics.csv");
        if metrics.exists() {
            let curves = recordings[0].with_extension("training.rrd");
            record_training(&metrics, RecordingTarget::File(curves.clone()))?;
            recordings.push(curves);
        }
        return Ok(recordings);
    }
    let dataset = Dataset::load(&args.path)?;
    let episode = args.episode.unwrap_or(0);
    let rrd = args
        .out
        .clone()
        .unwrap_or_else(|| args.path.with_extension(format!("episode{episode}.rrd")));
    let target = RecordingTarget::File(rrd.clone());
    record_replay(&dataset, episode, target, &context.stop)?;
    Ok(vec![rrd])
}

/// In the order in which a viewer takes them: it shows the one that comes last, which is to be the first.
fn last_in_front(recordings: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    recordings.iter().rev().cloned().collect()
}

/// Serves recordings until the user stops it.
fn serve(recordings: &[Utf8PathBuf], args: &Args, context: &Context) -> Outcome {
    let options = WebOptions {
        web_port: args.port,
        grpc_port: args.data_port,
        ..WebOptions::default()
    };
    let server = WebServer::serve_files(&last_in_front(recordings), &options)?;
    if context.json {
        print_json(&Report::new(recordings, Some(server.url())));
    } else {
        println!("{}\nCtrl-C stops the server", server.url());
    }
    while !context.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(ExitCode::SUCCESS)
}
