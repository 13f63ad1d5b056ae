//! Updates, evaluations and actions do not use more and more memory.
//!
//! One test in a process of its own, since it counts the bytes that the whole process holds.
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::Utf8Path;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use telic_policies::{
    Policy, TrainConfig, TrainObserver, Trainer, benchmark_act, specs, synthetic_dataset,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is allocated and not given back, in MiB. Resident memory would not do: an allocator keeps pages for later, and how many
/// depends on which threads were at work at the same time.
fn live_mib() -> f64 {
    // The counts of allocated and freed bytes have those of reallocations in them.
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated as f64 - stats.bytes_deallocated as f64) / f64::from(1 << 20)
}

/// Acts at every evaluation, and writes down the memory afterwards.
#[derive(Default)]
struct Watcher(Vec<f64>);

impl TrainObserver for Watcher {
    fn on_evaluate(
        &mut self,
        _step: u64,
        policy: &mut dyn Policy,
    ) -> Result<Option<Vec<(String, f64)>>, Box<dyn std::error::Error + Send + Sync>> {
        benchmark_act(policy, 4, 0, 10)?;
        self.0.push(live_mib());
        Ok(Some(vec![]))
    }
}

#[test]
fn memory_stays_where_it_is_after_the_first_updates() {
    for spec in specs() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("run");
        let id = format!("policy.id={}", spec.id);
        let overrides = [
            "dataset=synthetic",
            &id,
            "steps=60",
            "batch_size=32",
            "validate_every=2",
            "validation_batches=2",
            "evaluate_every=2",
            "checkpoint_every=10",
        ];
        let config = TrainConfig::parse("", "test", &overrides).unwrap();
        let dataset = Arc::new(synthetic_dataset(30, 9, 20, 100).unwrap());
        let mut watcher = Watcher::default();
        Trainer::create_with(config, &path, dataset, None)
            .unwrap()
            .run(&mut watcher, &AtomicBool::new(false))
            .unwrap();
        // The graph of one update of the smallest network is about a MiB.
        let readings = watcher.0;
        let peak = |readings: &[f64]| readings.iter().copied().fold(0.0, f64::max);
        let growth = peak(&readings[20..]) - peak(&readings[5..15]);
        assert!(
            growth < 16.0,
            "{}: {growth} MiB more in 30 updates: {readings:?}",
            spec.id,
        );
        // Ten updates, five evaluations and a checkpoint at a time: what any of them keeps is kept by each of the six. A thread that
        // takes its scratch memory late is one step.
        let peaks: Vec<f64> = readings.chunks(5).map(peak).collect();
        let growth = peaks
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(f64::INFINITY, f64::min);
        assert_eq!(peaks.len(), 6);
        assert!(
            growth < 0.01,
            "{}: at least {growth} MiB more every ten updates: {readings:?}",
            spec.id,
        );
    }
}
