//! Who watches a run.

use std::error::Error;

use camino::Utf8Path;

use crate::{DataSpec, Metrics, Policy, TrainConfig};

/// Watches a run: shows progress, evaluates in an environment, stops early. Every method has a silent default.
pub trait TrainObserver {
    /// Before the first update of this process.
    fn on_start(&mut self, start: &RunStart<'_>) {
        let _ = start;
    }

    /// After every update; `step` counts updates from 1.
    fn on_step(&mut self, step: u64) {
        let _ = step;
    }

    /// After every `log_every` updates, with averages over them.
    fn on_log(&mut self, step: u64, metrics: &Metrics, speed: Speed) {
        let _ = (step, metrics, speed);
    }

    /// After a validation.
    fn on_validate(&mut self, step: u64, metrics: &Metrics) {
        let _ = (step, metrics);
    }

    /// Evaluates a policy every `evaluate_every` updates and at the end; the numbers become columns
    /// `evaluation/…` of `metrics.csv`. They should depend on the policy and the run's seed alone. `None` if it was asked to stop
    /// on the way: the run then ends with a checkpoint, and evaluates first when it is resumed.
    ///
    /// # Errors
    /// Whatever went wrong; the run then stops with [`TrainError::Observer`](crate::TrainError::Observer).
    fn on_evaluate(
        &mut self,
        step: u64,
        policy: &mut dyn Policy,
    ) -> Result<Option<Vec<(String, f64)>>, Box<dyn Error + Send + Sync>> {
        let _ = (step, policy);
        Ok(Some(vec![]))
    }

    /// After a checkpoint was written.
    fn on_checkpoint(&mut self, step: u64, path: &Utf8Path) {
        let _ = (step, path);
    }

    /// Asked after every update; `true` stops the run with a checkpoint.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// An observer that does nothing.
impl TrainObserver for () {}

/// How a run begins.
#[derive(Clone, Copy, Debug)]
pub struct RunStart<'a> {
    /// The configuration.
    pub config: &'a TrainConfig,
    /// What the data looks like.
    pub data: &'a DataSpec,
    /// Updates that are behind it; 0 for a new run.
    pub step: u64,
    /// Transitions that train.
    pub transitions: usize,
}

/// How fast a run is, since the last report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Updates in a second, without validation, evaluation and checkpoints.
    pub updates_per_sec: f64,
}
