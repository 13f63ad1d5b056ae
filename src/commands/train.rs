//! `telic train`: a policy from a dataset.

use camino::Utf8PathBuf;
use indicatif::ProgressBar;
use telic::evaluate::Evaluation;
use telic::train::{Progress, train};
use telic_policies::{Metrics, RunStart, Speed, TrainConfig};

use super::{Outcome, RunArgs, exit_code};
use crate::Context;
use crate::output::{percent, print_json, progress_bar};

/// Train a policy. The run folder holds everything to repeat, resume and evaluate it.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic train configs/beso_block_push.toml --out runs/beso\n  \
                        telic train configs/gcbc.toml --set dataset=block-push.npz --set seed=1 --out runs/gcbc-1\n  \
                        telic train configs/beso_block_push.toml --out runs/beso --resume"
)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Go on with the run in the folder; the result is the same as without the interruption.
    #[arg(long)]
    resume: bool,
}

#[derive(serde::Serialize)]
struct Report {
    run: Utf8PathBuf,
    step: u64,
    finished: bool,
    checkpoint: Utf8PathBuf,
    seconds: f64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let config = TrainConfig::load(&args.run.config, &args.run.overrides())?;
    let folder = args.run.folder();
    let started = std::time::Instant::now();
    let mut progress = Bar::new();
    let outcome = train(config, &folder, args.resume, &context.stop, &mut progress);
    progress.bar.finish_and_clear();
    let outcome = outcome?;
    let report = Report {
        run: folder,
        step: outcome.step,
        finished: outcome.finished,
        checkpoint: outcome.checkpoint,
        seconds: started.elapsed().as_secs_f64(),
    };
    if context.json {
        print_json(&report);
    } else if report.finished {
        println!(
            "{} updates in {:.0} s\n{}",
            report.step, report.seconds, report.checkpoint
        );
        println!("\nnext: telic evaluate {}", report.run);
    } else {
        println!(
            "stopped after {} updates\n{}",
            report.step, report.checkpoint
        );
        println!("\nto go on: {}", super::resumption("train", &report.run));
    }
    Ok(exit_code(report.finished))
}

/// Shows a run on a terminal; also elsewhere, a line per validation and evaluation.
pub(crate) struct Bar {
    pub(crate) bar: ProgressBar,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self {
            bar: progress_bar(0, "updates"),
        }
    }
}

impl Progress for Bar {
    fn start(&mut self, start: &RunStart<'_>) {
        self.bar.set_length(start.config.steps);
        self.bar.set_position(start.step);
        self.bar.reset_eta();
    }

    fn note(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("note: {text}"));
    }

    fn step(&mut self, step: u64) {
        self.bar.set_position(step);
    }

    fn log(&mut self, _: u64, metrics: &Metrics, speed: Speed) {
        let loss = metrics.iter().find(|(name, _)| name.ends_with("loss"));
        let loss = loss.map_or(String::new(), |(name, value)| {
            format!("{name} {value:.4}, ")
        });
        self.bar
            .set_message(format!("{loss}{:.1}/s", speed.updates_per_sec));
    }

    fn validated(&mut self, step: u64, metrics: &Metrics) {
        let metrics: Vec<String> = metrics
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        let line = format!("step {step}: validation {}", metrics.join(", "));
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        let scores: String = evaluation
            .metrics
            .iter()
            .map(|(name, value)| format!(", {name} {value:.3}"))
            .collect();
        let line = format!(
            "step {step}: success {}{scores}",
            percent(evaluation.success_rate, evaluation.ci95)
        );
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
