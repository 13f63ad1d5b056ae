//! `telic quickstart`: the whole loop on one environment.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::{Utf8Path, Utf8PathBuf};
use telic::FlowError;
use telic::collect::{CollectConfig, collect};
use telic::evaluate::{EvaluateConfig, Evaluation, evaluate, threads, write};
use telic::record::{RolloutConfig, record_rollouts};
use telic::train::train;
use telic_datasets::Dataset;
use telic_policies::{Checkpoint, Device, TrainConfig};
use telic_viz::RecordingTarget;

use super::Outcome;
use super::evaluate::print_evaluation;
use super::train::Bar;
use crate::Context;
use crate::output::{print_json, progress_bar};

/// What the loop runs on; also a file for `telic train`.
const CONFIG: &str = include_str!("../../configs/quickstart.toml");

/// Collect play data, train a BESO small enough for two cores, evaluate it, record it: the whole loop in minutes.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  telic quickstart --out runs/quickstart")]
pub(crate) struct Args {
    /// Folder of data and run; a call that was interrupted goes on in it.
    #[arg(long, default_value = "runs/quickstart")]
    out: Utf8PathBuf,
    /// Seed of data, training and evaluation.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Play episodes to collect.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    play_episodes: u32,
    /// Episodes to evaluate.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Override of a training key, for example `steps=500`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(serde::Serialize)]
struct Report {
    dataset: Utf8PathBuf,
    run: Utf8PathBuf,
    rrd: Utf8PathBuf,
    collect_seconds: f64,
    train_seconds: f64,
    evaluate_seconds: f64,
    seconds: f64,
    evaluation: Evaluation,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let dataset = args.out.join("block-push.npz");
    let run = args.out.join("beso");
    let rrd = run.join("run.rrd");
    let mut overrides = vec![
        format!("dataset={:?}", dataset.as_str()),
        format!("seed={}", args.seed),
    ];
    overrides.extend(args.set.iter().cloned());
    let config = TrainConfig::parse(CONFIG, "configs/quickstart.toml", &overrides)?;
    std::fs::create_dir_all(&args.out).map_err(|error| FlowError::File {
        reason: error.to_string(),
        path: args.out.clone(),
    })?;

    heading(
        1,
        "collecting play data: block-push, a scripted pusher with disturbances, four modes",
    );
    let collect_seconds = collect_data(args, &dataset, &context.stop)?;
    heading(2, "training BESO, a score-based diffusion policy");
    let clock = std::time::Instant::now();
    let mut bar = Bar::new();
    let outcome = train(
        config,
        &run,
        run.join("config.toml").exists(),
        &context.stop,
        &mut bar,
    );
    bar.bar.finish_and_clear();
    if !outcome?.finished {
        return Err(FlowError::Stopped(
            "the same command goes on from here".to_owned(),
        ));
    }
    let train_seconds = clock.elapsed().as_secs_f64();
    heading(3, "evaluating with 3 denoising steps");
    let clock = std::time::Instant::now();
    let evaluation = evaluate_and_record(args, &run, &rrd, &context.stop)?;
    let evaluate_seconds = clock.elapsed().as_secs_f64();

    let report = Report {
        dataset,
        run,
        rrd,
        collect_seconds,
        train_seconds,
        evaluate_seconds,
        seconds: started.elapsed().as_secs_f64(),
        evaluation,
    };
    if context.json {
        print_json(&report);
    } else {
        print_report(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn heading(number: usize, text: &str) {
    eprintln!("{number}/3 {text}");
}

fn collect_data(args: &Args, dataset: &Utf8Path, stop: &AtomicBool) -> Result<f64, FlowError> {
    if dataset.exists() {
        let found = Dataset::load(dataset)?;
        let episodes = found.num_episodes() as u64;
        let seed = found.metadata().seed.unwrap_or(args.seed);
        for (name, asked, there) in [
            ("play-episodes", u64::from(args.play_episodes), episodes),
            ("seed", args.seed, seed),
        ] {
            if asked != there {
                return Err(FlowError::Argument {
                    name,
                    value: asked.to_string(),
                    expected: format!(
                        "{there}, which {dataset} has from an earlier call, or another `--out`"
                    ),
                });
            }
        }
        return Ok(0.0);
    }
    let bar = progress_bar(u64::from(args.play_episodes), "episodes");
    let config = CollectConfig {
        env: "block-push".to_owned(),
        demonstrator: Some("noisy".to_owned()),
        out: dataset.to_owned(),
        episodes: args.play_episodes as usize,
        seed: args.seed,
        threads: threads(),
        noise: 1.0,
    };
    let collected = collect(&config, stop, |episodes, _| {
        bar.set_position(episodes as u64);
    });
    bar.finish_and_clear();
    Ok(collected?.seconds)
}

fn evaluate_and_record(
    args: &Args,
    run: &Utf8Path,
    rrd: &Utf8Path,
    stop: &Arc<AtomicBool>,
) -> Result<Evaluation, FlowError> {
    let checkpoint = Checkpoint::open(run)?;
    let mut policy = checkpoint.policy(Device::Cpu)?;
    let spec = telic_envs::spec("block-push")?;
    let config = EvaluateConfig {
        episodes: args.episodes as usize,
        seed: args.seed,
        ..EvaluateConfig::default()
    };
    let bar = progress_bar(u64::from(args.episodes), "episodes");
    let outcome = evaluate(policy.as_mut(), spec, &config, stop, |episodes, _| {
        bar.set_position(episodes as u64);
    });
    bar.finish_and_clear();
    let (mut evaluation, _) = outcome?;
    evaluation.step = Some(checkpoint.manifest.step);
    evaluation.command = Some(super::this_command());
    write(&evaluation, &run.join("evaluation.json"))?;
    let rollouts = RolloutConfig {
        seed: args.seed,
        ..RolloutConfig::default()
    };
    record_rollouts(
        policy.as_mut(),
        spec,
        &rollouts,
        RecordingTarget::File(rrd.to_owned()),
        stop,
        |_| {},
    )?;
    Ok(evaluation)
}

fn print_report(report: &Report) {
    println!();
    print_evaluation(&report.evaluation);
    println!(
        "\ncollect {:.0} s, train {:.0} s, evaluate and record {:.0} s",
        report.collect_seconds, report.train_seconds, report.evaluate_seconds
    );
    println!("\nWhat to do next:");
    println!(
        "  telic view {} --web   the policy acting, its denoising, the training curves",
        report.run
    );
    println!("  telic evaluate {} --set sampler.steps=10", report.run);
    println!("  telic replay {} --verify", report.dataset);
    println!(
        "  telic train configs/beso_block_push.toml --set dataset={} --out runs/beso",
        report.dataset
    );
}
