//! How long an update and an action take.

use std::sync::Arc;
use std::time::Instant;

use ndarray::Array2;
use rand::RngExt;
use telic_datasets::{Dataset, Episode, InvalidData, Metadata};
use telic_seed::Seed;

use crate::trainer::new_learner_for;
use crate::{DataPart, Device, Policy, PolicyError, Threads, TrainConfig, TrainError};

/// What [`benchmark_updates`] measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateBenchmark {
    /// Median milliseconds of an update, with the wait for its batch.
    pub ms_per_update: f64,
    /// Milliseconds that one update in ten exceeds.
    pub p90_ms: f64,
    /// Updates that were timed.
    pub updates: usize,
    /// Largest memory of this process so far, in MiB; `None` where the system does not tell.
    pub peak_memory_mib: Option<f64>,
}

/// Times updates of the configuration's policy on some data, after `warm_up` updates that are not timed.
///
/// Batch size, threads, device, reading ahead and the policy come from `config`; its paths and periods do not matter.
///
/// # Errors
/// [`TrainError`]; [`TrainError::NonFinite`] if an update diverges, since its time would mean nothing.
///
/// # Panics
/// If `updates` is 0.
pub fn benchmark_updates(
    config: &TrainConfig,
    dataset: Arc<Dataset>,
    warm_up: usize,
    updates: usize,
) -> Result<UpdateBenchmark, TrainError> {
    let threads = Threads::on(config.device, config.threads)?;
    let mut learner = new_learner_for(config, &DataPart::all(dataset), &threads)?;
    learner.start(0, config.prefetch)?;
    let mut times_ms = Vec::with_capacity(updates);
    // A device works behind the host, so its updates are timed in blocks, up to where their numbers are read.
    let block = if config.device == Device::Cpu { 1 } else { 20 };
    let mut index = 0;
    while index < warm_up + updates {
        let begin = Instant::now();
        for _ in 0..block {
            let precision = config.precision;
            threads.run(|| precision.scope(|| learner.update(index as u64)))?;
            index += 1;
        }
        let read = threads.run(|| learner.take_metrics());
        if index > warm_up {
            times_ms.push(begin.elapsed().as_secs_f64() * 1e3 / f64::from(block));
        }
        for metrics in read {
            if let Some((metric, value)) = metrics.first_non_finite() {
                return Err(TrainError::NonFinite {
                    metric: metric.to_owned(),
                    value,
                    step: index as u64,
                    checkpoint: "not part of a benchmark".to_owned(),
                });
            }
        }
    }
    times_ms.sort_by(f64::total_cmp);
    Ok(UpdateBenchmark {
        ms_per_update: quantile(&times_ms, 0.5),
        p90_ms: quantile(&times_ms, 0.9),
        updates: times_ms.len() * block as usize,
        peak_memory_mib: peak_memory_mib(),
    })
}

/// What [`benchmark_act`] measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActBenchmark {
    /// Median microseconds of a call.
    pub p50_us: f64,
    /// Microseconds that one call in a hundred exceeds.
    pub p99_us: f64,
    /// Calls that were timed.
    pub calls: usize,
}

/// Times calls of [`Policy::act`] with `rows` rows of random observations, after `warm_up` calls that are not timed.
///
/// The episode is not reset in between, so contexts are full, which is the slowest case.
///
/// # Errors
/// Those of [`Policy::act`].
///
/// # Panics
/// If `calls` is 0.
pub fn benchmark_act(
    policy: &mut dyn Policy,
    rows: usize,
    warm_up: usize,
    calls: usize,
) -> Result<ActBenchmark, PolicyError> {
    let seed = Seed::new(0).child("benchmark");
    let mut rng = seed.child("observations").rng();
    let dim = policy.observation_dim();
    let mut random = || Array2::from_shape_simple_fn((rows, dim), || rng.random_range(-1.0..1.0));
    let (observations, goals) = (random(), random());
    let mut rngs: Vec<_> = (0..rows)
        .map(|row| seed.child("act").index(row as u64).rng())
        .collect();
    let mut actions = Array2::zeros((rows, policy.action_dim()));
    policy.reset(rows);
    let mut times_us = Vec::with_capacity(calls);
    for call in 0..warm_up + calls {
        let begin = Instant::now();
        policy.act(observations.view(), goals.view(), &mut rngs, &mut actions)?;
        if call >= warm_up {
            times_us.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    times_us.sort_by(f64::total_cmp);
    Ok(ActBenchmark {
        p50_us: quantile(&times_us, 0.5),
        p99_us: quantile(&times_us, 0.99),
        calls,
    })
}

/// Data for benchmarks without data: `episodes` random walks of `transitions` steps each.
///
/// # Errors
/// [`InvalidData`] if there would be no transition, or a width is 0.
///
/// # Panics
/// If an episode would be larger than an allocation can be.
pub fn synthetic_dataset(
    observation_dim: usize,
    action_dim: usize,
    episodes: usize,
    transitions: usize,
) -> Result<Dataset, InvalidData> {
    let seed = Seed::new(0).child("synthetic");
    let walk = |episode: usize| {
        let mut rng = seed.index(episode as u64).rng();
        let mut position = vec![0.0_f32; observation_dim];
        let mut observations = Array2::zeros((transitions + 1, observation_dim));
        for mut row in observations.rows_mut() {
            for (entry, position) in row.iter_mut().zip(&mut position) {
                *position = 0.95 * *position + rng.random_range(-0.3..0.3);
                *entry = *position;
            }
        }
        let shape = (transitions + 1, action_dim);
        let actions = Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0));
        Episode {
            observations,
            actions,
            ..Episode::default()
        }
    };
    let episodes: Vec<Episode> = (0..episodes).map(walk).collect();
    let metadata = Metadata {
        generator: "synthetic benchmark data".to_owned(),
        ..Metadata::default()
    };
    Dataset::from_episodes(&episodes, metadata)
}

/// Largest resident memory of this process so far, in MiB; `None` where the system does not tell.
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The value at a share of the sorted list, the nearest one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_and_actions_are_timed() {
        let config = TrainConfig::parse(
            "",
            "test",
            &["dataset=none", "policy.id=test", "batch_size=32"],
        )
        .unwrap();
        let dataset = Arc::new(synthetic_dataset(5, 2, 3, 50).unwrap());
        assert_eq!(
            (
                dataset.num_transitions(),
                dataset.observation_dim(),
                dataset.action_dim()
            ),
            (150, 5, 2)
        );
        let result = benchmark_updates(&config, dataset.clone(), 2, 11).unwrap();
        assert_eq!(result.updates, 11);
        assert!(result.ms_per_update > 0.0 && result.p90_ms >= result.ms_per_update);
        assert!(result.peak_memory_mib.is_none_or(|mib| mib > 1.0));

        let threads = Threads::new(0).unwrap();
        let learner = new_learner_for(&config, &DataPart::all(dataset), &threads).unwrap();
        let result = benchmark_act(learner.policy().unwrap().as_mut(), 4, 1, 20).unwrap();
        assert!(result.p50_us > 0.0 && result.p99_us >= result.p50_us && result.calls == 20);
        assert_eq!(config.device, Device::Cpu);
    }

    #[test]
    fn quantiles_are_entries_of_the_list() {
        let sorted: Vec<f64> = (0..101).map(f64::from).collect();
        assert_eq!(
            (quantile(&sorted, 0.5), quantile(&sorted, 0.99)),
            (50.0, 99.0)
        );
        assert_eq!(quantile(&[3.0], 0.99), 3.0);
    }
}
