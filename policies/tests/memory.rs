//! Updates, evaluations and actions do not use more and more memory.
//!
//! One test in a process of its own, since it looks at the memory of the process.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::Utf8Path;
use telic_policies::{
    Policy, TrainConfig, TrainObserver, Trainer, benchmark::memory_mib, benchmark_act, specs,
    synthetic_dataset,
};

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
        self.0.extend(memory_mib());
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
        if watcher.0.is_empty() {
            return; // not told on this system
        }
        // The allocator gives pages back and takes them again, so single readings dip: the peaks of ten evaluations are compared.
        // The first comes after 10 updates and a checkpoint. The graph of one update of the smallest network is about a MiB, so a
        // leak of one graph in the 30 updates and 15 evaluations between the two is far above the bound.
        let peak = |readings: &[f64]| readings.iter().copied().fold(0.0, f64::max);
        let growth = peak(&watcher.0[20..]) - peak(&watcher.0[5..15]);
        assert!(
            growth < 16.0,
            "{}: {growth} MiB more in 30 updates: {:?}",
            spec.id,
            watcher.0
        );
    }
}
