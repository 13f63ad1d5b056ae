//! `telic train-expert`: a gait from scratch.

use camino::Utf8PathBuf;
use indicatif::ProgressBar;
use telic::expert::{Begin, ExpertProgress, ExpertReport, TURNS_DEGREES, train_expert};
use telic_policies::Metrics;
use telic_policies::online::OnlineConfig;

use super::{Outcome, RunArgs, exit_code};
use crate::Context;
use crate::output::{print_json, print_returns, print_table, progress_bar};

/// Teach a robot to follow directions, to dribble or to earn a reward of its environment, or let it explore, online with soft actor-critic. The
/// folder gets its weights, its curve and an evaluation.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic train-expert configs/ant_expert.toml --out runs/ant-expert\n  \
                        telic train-expert configs/ant_expert.toml --set steps=1000000 --out runs/ant-expert --resume\n  \
                        telic train-expert configs/walker_explore.toml --data walker-explore.npz"
)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Dataset (.npz) for every complete episode on the way; for tasks that are environments. Such a run cannot be resumed.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    data: Option<Utf8PathBuf>,
    /// Go on with the run in the folder, from its last evaluation; the weights are the same as without the interruption.
    #[arg(long)]
    resume: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let config = OnlineConfig::load(&args.run.config, &args.run.overrides())?;
    let folder = args.run.folder();
    let mut progress = Bar(progress_bar(config.steps, "steps"));
    let begin = match &args.data {
        Some(path) => Begin::Recording(path),
        None if args.resume => Begin::Resuming,
        None => Begin::New,
    };
    let outcome = train_expert(&config, &folder, begin, &context.stop, &mut progress);
    progress.0.finish_and_clear();
    let outcome = outcome?;
    if context.json {
        print_json(&outcome);
    } else {
        print_report(&outcome.evaluation);
        println!("\n{} steps\n{}", outcome.steps, outcome.weights);
        match &args.data {
            Some(data) if data.is_file() => println!("{data}"),
            Some(data) => println!("no episode was complete: there is no {data}"),
            None => {}
        }
        if !outcome.finished && args.data.is_none() {
            println!("\nto go on: {}", super::resumption("train-expert", &folder));
        }
    }
    Ok(exit_code(outcome.finished))
}

fn print_report(report: &ExpertReport) {
    let report = match report {
        ExpertReport::Directions(report) => report,
        ExpertReport::Dribbling(_) => return println!("{}", report.summary()),
        ExpertReport::Rewards(report) => return print_returns(&report.returns, report.episodes),
    };
    let rows: Vec<Vec<String>> = TURNS_DEGREES
        .iter()
        .map(|&turn| {
            let (speed, error) = report.mean(turn);
            vec![
                format!("{turn}°"),
                format!("{speed:.2} m/s"),
                format!("{error:.1}°"),
            ]
        })
        .collect();
    print_table(
        &["after a turn of", "along the direction", "heading error"],
        &rows,
    );
    println!("falls: {} of {} walks", report.falls, report.legs.len());
}

/// Shows a run on a terminal; elsewhere, a line per evaluation.
struct Bar(ProgressBar);

impl ExpertProgress for Bar {
    fn log(&mut self, step: u64, metrics: &Metrics) {
        self.0.set_position(step);
        if let Some(earned) = metrics.get("episode/return") {
            self.0.set_message(format!("return {earned:.1}"));
        }
    }

    fn evaluated(&mut self, step: u64, report: &ExpertReport) {
        let line = format!("step {step}: {}", report.summary());
        self.0.suspend(|| eprintln!("{line}"));
    }
}
