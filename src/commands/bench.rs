//! `telic bench`: one measurement at a time, for anyone who compares machines.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rand::RngExt;
use serde::Serialize;
use telic::FlowError;
use telic::evaluate::threads;
use telic_datasets::{Dataset, HindsightConfig, HindsightSampler, TransitionBatch};
use telic_envs::{AutoresetMode, ResetOptions, VecEnv, VecOptions};
use telic_policies::{
    DataPart, Threads, TrainConfig, TrainingTask, benchmark_act, benchmark_updates,
    synthetic_dataset,
};
use telic_seed::Seed;

use super::Outcome;
use crate::Context;
use crate::output::print_json;

const MAX_SECS: f64 = 86_400.0;
/// As many as a training may have.
const MAX_THREADS: i64 = Threads::MAX as i64;
/// A world takes up to half a megabyte.
const MAX_WORLDS: i64 = 16_384;
const MAX_BATCH: i64 = 65_536;
/// The synthetic data of the widest observations and actions are one gigabyte.
const MAX_ENTRIES: usize = 10_000;

/// Measure simulation, sampling, training or acting.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic bench sim --env cube-single --worlds 64 --threads 2 --seconds 5\n  \
                        telic bench sample --dataset block-push.npz --batch 1024\n  \
                        telic bench train --policy beso --env block-push --batch 256\n  \
                        telic bench act --policy beso --env block-push\n  \
                        telic bench act --policy beso --dims 30,9 --set window=4"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Environment steps per second with uniformly random actions.
    #[command(
        after_help = "Example:\n  telic bench sim --env cube-single --worlds 64 --threads 2 --seconds 5"
    )]
    Sim(SimArgs),
    /// Hindsight batches per second.
    #[command(after_help = "Example:\n  telic bench sample --dataset block-push.npz --batch 1024")]
    Sample(SampleArgs),
    /// Milliseconds per training update.
    #[command(
        after_help = "Example:\n  telic bench train --policy beso --env block-push --batch 256"
    )]
    Train(TrainArgs),
    /// Microseconds per action at batch 1.
    #[command(
        after_help = "Examples:\n  telic bench act --policy beso --env block-push\n  telic bench act --policy beso --dims 30,9 --set window=4"
    )]
    Act(PolicyArgs),
}

#[derive(clap::Args)]
struct SimArgs {
    /// Environment id.
    #[arg(long)]
    env: String,
    /// Environments stepped side by side.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_WORLDS))]
    worlds: u32,
    /// Threads; all by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS))]
    threads: Option<u32>,
    /// Seconds to measure.
    #[arg(long, default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Duration,
    /// Seed of worlds and actions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(clap::Args)]
struct SampleArgs {
    /// Dataset (.npz).
    #[arg(long)]
    dataset: Utf8PathBuf,
    /// Rows per batch.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=MAX_BATCH))]
    batch: u32,
    /// Seconds to measure.
    #[arg(long, default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Duration,
}

#[derive(clap::Args)]
struct PolicyArgs {
    /// Policy id.
    #[arg(long)]
    policy: String,
    /// Environment whose dims are used.
    #[arg(long, required_unless_present = "dims")]
    env: Option<String>,
    /// Entries of an observation and of an action, in place of an environment's, for example `30,9`.
    #[arg(long, value_name = "OBSERVATION,ACTION", conflicts_with = "env", value_parser = dims)]
    dims: Option<(usize, usize)>,
    /// Seconds to measure.
    #[arg(long, default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Duration,
    /// What it runs on: `cpu` or `cuda`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Setting of the policy, for example `embed_dim=128`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(clap::Args)]
struct TrainArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Rows per batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=MAX_BATCH))]
    batch: u32,
    /// How hidden layers multiply in an update: `f32` or `bf16`.
    #[arg(long, default_value = "f32")]
    precision: String,
}

#[derive(Serialize)]
struct SimReport {
    env: String,
    worlds: usize,
    threads: usize,
    steps_per_second: f64,
    /// Those that were computed: a point maze skips the ones that would change nothing.
    physics_steps_per_second: f64,
}

#[derive(Serialize)]
struct SampleReport {
    batch: usize,
    batches_per_second: f64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    match &args.what {
        What::Sim(args) => {
            let report = sim(args)?;
            if context.json {
                print_json(&report);
            } else {
                println!(
                    "{}: {:.0} steps/s ({:.0} physics steps/s), {} worlds, {} threads",
                    report.env,
                    report.steps_per_second,
                    report.physics_steps_per_second,
                    report.worlds,
                    report.threads
                );
            }
        }
        What::Sample(args) => {
            let report = sample(args)?;
            if context.json {
                print_json(&report);
            } else {
                println!(
                    "{:.0} batches/s of {} rows",
                    report.batches_per_second, report.batch
                );
            }
        }
        What::Train(args) => bench_train(args, context)?,
        What::Act(args) => bench_act(args, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_SECS => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!(
            "expected a number of seconds above 0 and at most {MAX_SECS}"
        )),
    }
}

/// Physics steps of a row since its last reset.
fn physics_steps(envs: &VecEnv, row: usize) -> f64 {
    envs.env(row).map_or(0.0, |env| {
        let world = env.world();
        (world.time_secs() / f64::from(world.timestep_secs())).round()
    })
}

/// Random actions drawn before the clock starts, each of them also turned round, so that repeating them does not press everything
/// into a wall; episodes restarted as they end.
fn sim(args: &SimArgs) -> Result<SimReport, FlowError> {
    let spec = telic_envs::spec(&args.env)?;
    let worlds = args.worlds as usize;
    let threads = args
        .threads
        .map_or_else(threads, |threads| threads as usize);
    let options = VecOptions {
        threads,
        autoreset: AutoresetMode::SameStep,
    };
    let mut envs = VecEnv::new(spec, worlds, options)?;
    envs.reset(args.seed, &ResetOptions::default())?;
    let mut rng = Seed::new(args.seed).child("bench").rng();
    let mut actions: Vec<Vec<f32>> = (0..32)
        .map(|_| {
            (0..worlds * spec.action_dim())
                .map(|_| rng.random_range(-1.0..=1.0))
                .collect()
        })
        .collect();
    let turned = |actions: &Vec<f32>| actions.iter().map(|action| -action).collect();
    actions.extend(actions.iter().map(turned).collect::<Vec<_>>());
    for actions in actions.iter().take(8) {
        envs.step(actions)?;
    }
    let (start, mut calls) = (Instant::now(), 0_usize);
    let (mut counted_calls, mut counted_steps) = (0_usize, 0.0);
    while calls == 0 || start.elapsed() < args.seconds {
        // One row at a time: to look at all of them would take a share of the time that is measured.
        let row = calls % worlds;
        let before = physics_steps(&envs, row);
        let reset = envs.step(&actions[calls % actions.len()])?.reset[row];
        if !reset {
            counted_calls += 1;
            counted_steps += physics_steps(&envs, row) - before;
        }
        calls += 1;
    }
    let steps_per_second = (calls * worlds) as f64 / start.elapsed().as_secs_f64();
    let physics_steps_per_step = counted_steps / counted_calls.max(1) as f64;
    Ok(SimReport {
        env: spec.id.to_owned(),
        worlds,
        threads,
        steps_per_second,
        physics_steps_per_second: steps_per_second * physics_steps_per_step,
    })
}

fn sample(args: &SampleArgs) -> Result<SampleReport, FlowError> {
    let dataset = Arc::new(Dataset::load(&args.dataset)?);
    let sampler = HindsightSampler::new(dataset, HindsightConfig::default())?;
    let mut batch = TransitionBatch::with_size(args.batch as usize);
    let mut rng = Seed::new(0).child("bench").rng();
    sampler.sample(&mut rng, &mut batch);
    let (start, mut batches) = (Instant::now(), 0_u64);
    while batches == 0 || start.elapsed() < args.seconds {
        sampler.sample(&mut rng, &mut batch);
        batches += 1;
    }
    Ok(SampleReport {
        batch: args.batch as usize,
        batches_per_second: batches as f64 / start.elapsed().as_secs_f64(),
    })
}

#[derive(Serialize)]
struct TrainReport {
    policy: String,
    env: String,
    batch: usize,
    ms_per_update: f64,
    p90_ms: f64,
    updates: usize,
    peak_memory_mib: Option<f64>,
}

#[derive(Serialize)]
struct ActReport {
    policy: String,
    env: String,
    p50_us: f64,
    p99_us: f64,
    calls: usize,
}

fn dims(text: &str) -> Result<(usize, usize), String> {
    let (observation, action) = text
        .split_once(',')
        .ok_or("expected two numbers with a comma between them")?;
    let entries = |text: &str| match text.trim().parse::<usize>() {
        Ok(entries @ 1..=MAX_ENTRIES) => Ok(entries),
        _ => Err(format!(
            "`{text}` is not a number of entries from 1 to {MAX_ENTRIES}"
        )),
    };
    Ok((entries(observation)?, entries(action)?))
}

impl PolicyArgs {
    /// What the dims are from, in words.
    fn source(&self) -> String {
        match (&self.env, self.dims) {
            (Some(env), _) => env.clone(),
            (None, Some((observation, action))) => format!("dims {observation},{action}"),
            (None, None) => String::new(),
        }
    }
}

/// The configuration of a benchmark, and random walks with the dims that were asked for.
fn bench_setup(
    args: &PolicyArgs,
    training: &[String],
) -> Result<(TrainConfig, Arc<Dataset>), FlowError> {
    let (observation_dim, action_dim) = match (args.dims, &args.env) {
        (Some(dims), _) => dims,
        (None, Some(env)) => {
            let spec = telic_envs::spec(env)?;
            (spec.observation_dim(), spec.action_dim())
        }
        (None, None) => unreachable!("the command line asks for one of both"),
    };
    let mut overrides = vec![
        "dataset=\"synthetic\"".to_owned(),
        format!("policy.id={:?}", args.policy),
        format!("device={:?}", args.device),
    ];
    overrides.extend_from_slice(training);
    overrides.extend(args.set.iter().map(|setting| format!("policy.{setting}")));
    let config = TrainConfig::parse("", "the command line", &overrides)?;
    let dataset = synthetic_dataset(observation_dim, action_dim, 64, 200)
        .expect("walks of 200 steps with one entry or more are a dataset");
    Ok((config, Arc::new(dataset)))
}

fn bench_train(
    TrainArgs {
        policy: args,
        batch,
        precision,
    }: &TrainArgs,
    context: &Context,
) -> Result<(), FlowError> {
    let training = [
        format!("batch_size={batch}"),
        format!("precision={precision:?}"),
    ];
    let (config, dataset) = bench_setup(args, &training)?;
    let trial = benchmark_updates(&config, Arc::clone(&dataset), 2, 3)?;
    let updates = (args.seconds.as_secs_f64() * 1e3 / trial.ms_per_update)
        .ceil()
        .clamp(5.0, 100_000.0) as usize;
    let figures = benchmark_updates(&config, dataset, 3, updates)?;
    let report = TrainReport {
        policy: args.policy.clone(),
        env: args.source(),
        batch: *batch as usize,
        ms_per_update: figures.ms_per_update,
        p90_ms: figures.p90_ms,
        updates: figures.updates,
        peak_memory_mib: figures.peak_memory_mib,
    };
    if context.json {
        print_json(&report);
    } else {
        println!(
            "{} on {}: {:.2} ms per update of {} (90 % within {:.2} ms, {} updates)",
            report.policy,
            report.env,
            report.ms_per_update,
            report.batch,
            report.p90_ms,
            report.updates
        );
    }
    Ok(())
}

fn bench_act(args: &PolicyArgs, context: &Context) -> Result<(), FlowError> {
    let (config, dataset) = bench_setup(args, &[])?;
    let task = TrainingTask {
        data: DataPart::all(dataset),
        seed: Seed::new(config.seed),
        steps: config.steps,
        batch_size: config.batch_size,
    };
    let spec = telic_policies::spec(&config.policy.id).expect("the configuration was checked");
    let mut policy = (spec.train)(&config.policy.settings, task, config.device)?.policy()?;
    let trial = benchmark_act(policy.as_mut(), 1, 20, 20)?;
    let calls = (args.seconds.as_secs_f64() * 1e6 / trial.p50_us)
        .ceil()
        .clamp(100.0, 1_000_000.0) as usize;
    let figures = benchmark_act(policy.as_mut(), 1, 20, calls)?;
    let report = ActReport {
        policy: args.policy.clone(),
        env: args.source(),
        p50_us: figures.p50_us,
        p99_us: figures.p99_us,
        calls: figures.calls,
    };
    if context.json {
        print_json(&report);
    } else {
        println!(
            "{} on {}: {:.0} µs per action (99 % within {:.0} µs, {} calls)",
            report.policy, report.env, report.p50_us, report.p99_us, report.calls
        );
    }
    Ok(())
}
