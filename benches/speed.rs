//! What takes time, one group each: environment steps, hindsight batches, updates, actions.
//!
//! ```sh
//! cargo bench --bench speed                # everything
//! cargo bench --bench speed -- update/     # one group
//! ```
//!
//! For comparisons with other projects there are scripts in `benches/peers`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;
use telic_datasets::{HindsightConfig, HindsightSampler, TransitionBatch};
use telic_envs::{AutoresetMode, ResetOptions, VecEnv, VecOptions};
use telic_policies::{DataPart, Learner, Threads, TrainConfig, TrainingTask, synthetic_dataset};
use telic_seed::Seed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Entries of an observation and of an action of `cube-single`.
const DIMS: (usize, usize) = (28, 5);

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for (env, worlds, threads) in [
        ("point-maze-medium", 1, 1),
        ("block-push", 1, 1),
        ("cube-single", 1, 1),
        ("cube-single", 64, 1),
        ("cube-single", 64, 2),
    ] {
        let spec = telic_envs::spec(env).unwrap();
        let options = VecOptions {
            threads,
            autoreset: AutoresetMode::SameStep,
        };
        let mut envs = VecEnv::new(spec, worlds, options).unwrap();
        envs.reset(0, &ResetOptions::default()).unwrap();
        let mut rng = Seed::new(0).child("actions").rng();
        let actions: Vec<Vec<f32>> = (0..64)
            .map(|_| {
                let numbers = worlds * spec.action_dim();
                (0..numbers)
                    .map(|_| rand::RngExt::random_range(&mut rng, -1.0..=1.0))
                    .collect()
            })
            .collect();
        let mut call = 0;
        group.throughput(Throughput::Elements(worlds as u64));
        group.bench_function(
            BenchmarkId::new(env, format!("{worlds} worlds, {threads} threads")),
            |bencher| {
                bencher.iter(|| {
                    call += 1;
                    envs.step(&actions[call % actions.len()]).unwrap();
                });
            },
        );
    }
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    let dataset = Arc::new(synthetic_dataset(DIMS.0, DIMS.1, 300, 1000).unwrap());
    let sampler = HindsightSampler::new(dataset, HindsightConfig::default()).unwrap();
    let mut rng = Seed::new(0).rng();
    for size in [256, 1024] {
        let mut batch = TransitionBatch::with_size(size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("hindsight", size), |bencher| {
            bencher.iter(|| sampler.sample(&mut rng, &mut batch));
        });
    }
}

/// A fresh agent, and the configuration that it has.
fn learner(policy: &str, batch: usize, settings: &[&str]) -> (Box<dyn Learner>, TrainConfig) {
    let mut overrides = vec![
        "dataset=synthetic".to_owned(),
        format!("policy.id={policy}"),
        format!("batch_size={batch}"),
    ];
    overrides.extend(settings.iter().map(|setting| format!("policy.{setting}")));
    let config = TrainConfig::parse("", "benchmark", &overrides).unwrap();
    let dataset = Arc::new(synthetic_dataset(DIMS.0, DIMS.1, 64, 200).unwrap());
    let task = TrainingTask {
        data: DataPart::all(dataset),
        seed: Seed::new(0),
        steps: config.steps,
        batch_size: batch,
    };
    let spec = telic_policies::spec(policy).unwrap();
    let learner = (spec.train)(&config.policy.settings, task, config.device).unwrap();
    (learner, config)
}

/// Policies with networks of one size: name, settings.
const POLICIES: [(&str, &[&str]); 3] = [
    ("gcbc", &["actor.network.hidden=[256,256,256]"]),
    (
        "gciql",
        &[
            "actor.network.hidden=[256,256,256]",
            "value.hidden=[256,256,256]",
        ],
    ),
    (
        "beso",
        &[
            "network.embed_dim=64",
            "network.heads=4",
            "network.layers=2",
        ],
    ),
];

fn updates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update");
    for (policy, settings) in POLICIES {
        let (mut learner, config) = learner(policy, 256, settings);
        let threads = Threads::on(config.device, config.threads).unwrap();
        learner.start(0, config.prefetch).unwrap();
        let mut index = 0;
        group.bench_function(BenchmarkId::new(policy, "batch 256"), |bencher| {
            bencher.iter(|| {
                threads.run(|| learner.update(index)).unwrap();
                index += 1;
                learner.take_metrics()
            });
        });
    }
}

fn actions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("act");
    for (name, settings) in POLICIES {
        let mut policy = learner(name, 256, settings).0.policy().unwrap();
        let observations = Array2::zeros((1, DIMS.0));
        let goals = Array2::ones((1, DIMS.0));
        let mut rngs = [Seed::new(0).rng()];
        let mut actions = Array2::zeros((1, DIMS.1));
        policy.reset(1);
        group.bench_function(BenchmarkId::new(name, "1 row"), |bencher| {
            bencher.iter(|| {
                policy
                    .act(observations.view(), goals.view(), &mut rngs, &mut actions)
                    .unwrap();
            });
        });
    }
}

criterion_group!(speed, steps, batches, updates, actions);
criterion_main!(speed);
