//! Policies in their environments: success rates, and recordings for the rerun viewer.

use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8PathBuf;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use telic::FlowError;
use telic::evaluate::EvaluateConfig;
use telic::record::{RolloutConfig, record_rollouts};
use telic_envs::EnvSpec;
use telic_viz::RecordingTarget;

use crate::error::{input, of_env, of_flow};
use crate::nested;
use crate::policy::{Policy, compute};

/// Success of a policy on the tasks of its environment, as `telic evaluate` measures it.
#[pyfunction]
#[pyo3(signature = (policy, *, env=None, episodes=100, seed=0, threads=None))]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    policy: &mut Policy,
    env: Option<&str>,
    episodes: usize,
    seed: u64,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyDict>> {
    let spec = spec_for(policy, env)?;
    let defaults = EvaluateConfig::default();
    let config = EvaluateConfig {
        episodes,
        seed,
        threads: threads.unwrap_or(defaults.threads),
        ..defaults
    };
    let stop = AtomicBool::new(false);
    let mut interrupt = None;
    let outcome = policy.borrow_for_rollouts(|policy| {
        py.detach(|| {
            telic::evaluate::evaluate(policy, spec, &config, &stop, |_, _| {
                if interrupt.is_none() {
                    interrupt = Python::attach(|py| py.check_signals().err());
                    stop.store(interrupt.is_some(), Ordering::Relaxed);
                }
            })
        })
    });
    if let Some(interrupt) = interrupt {
        return Err(interrupt);
    }
    let (evaluation, _) = outcome.map_err(|error| of_flow(&error))?;
    let table = toml::Table::try_from(&evaluation).map_err(crate::error::failure)?;
    nested::dictionary(py, &table)
}

/// Writes episodes of a policy as a recording of the rerun viewer; returns how many succeeded.
#[pyfunction]
#[pyo3(signature = (policy, path, *, env=None, episodes=2, seed=0))]
pub(crate) fn record(
    py: Python<'_>,
    policy: &mut Policy,
    path: std::path::PathBuf,
    env: Option<&str>,
    episodes: usize,
    seed: u64,
) -> PyResult<usize> {
    let spec = spec_for(policy, env)?;
    let path = Utf8PathBuf::from_path_buf(path).map_err(|path| {
        input(format!(
            "the path of the recording is not UTF-8: {}",
            path.display()
        ))
    })?;
    if episodes == 0 {
        return Err(input("`episodes` is 0, expected at least 1"));
    }
    let config = RolloutConfig {
        episodes,
        seed,
        ..RolloutConfig::default()
    };
    policy
        .borrow_for_rollouts(|policy| {
            compute(py, || {
                let target = RecordingTarget::File(path);
                record_rollouts(policy, spec, &config, target, &AtomicBool::new(false))
            })
        })
        .map(|(successes, _)| successes)
        .map_err(|error: FlowError| of_flow(&error))
}

/// The environment that was asked for, or that the policy was trained for.
fn spec_for(policy: &Policy, env: Option<&str>) -> PyResult<&'static EnvSpec> {
    telic_envs::spec(env.unwrap_or(policy.trained_for())).map_err(|error| of_env(&error))
}
