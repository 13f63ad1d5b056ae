//! Policies in their environments: success rates, and recordings for the rerun viewer.

use std::sync::atomic::AtomicBool;

use camino::Utf8PathBuf;
use pyo3::prelude::*;
use telic::evaluate::EvaluateConfig;
use telic::record::{RolloutConfig, record_rollouts};
use telic_envs::EnvSpec;
use telic_viz::RecordingTarget;

use crate::dataset::Dataset;
use crate::error::{input, of_flow};
use crate::nested;
use crate::numbers;
use crate::policy::{Policy, compute};
use crate::signals::Signals;

/// How often a policy reaches the goals of the evaluation tasks, as `telic evaluate --json` tells it.
///
/// `env` is the environment that the policy was trained for, unless another one is named; `tasks` are the names of some of its
/// tasks, all by default. With `goals`, a dataset of block-push, the policy is given the final states of its episodes in turn in place of
/// the goals of the tasks. Episodes that the policy was acting in are forgotten. `threads` does not change the result.
#[pyfunction]
#[pyo3(signature = (policy, *, env=None, episodes=100, seed=0, tasks=None, goals=None, threads=None))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    policy: &mut Policy,
    env: Option<&str>,
    #[pyo3(from_py_with = numbers::episodes)] episodes: usize,
    #[pyo3(from_py_with = numbers::seed)] seed: u64,
    tasks: Option<Vec<String>>,
    goals: Option<PyRef<'py, Dataset>>,
    #[pyo3(from_py_with = numbers::threads)] threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let spec = spec_for(policy, env)?;
    let defaults = EvaluateConfig::default();
    let config = EvaluateConfig {
        episodes,
        seed,
        tasks: task_indices(spec, tasks)?,
        final_observations: goals.map_or_else(Vec::new, |dataset| dataset.final_observations()),
        threads: threads.unwrap_or(defaults.threads),
        ..defaults
    };
    let stop = AtomicBool::new(false);
    let mut signals = Signals::new();
    let step = policy.updates();
    let outcome = policy.borrow_for_rollouts(|policy| {
        py.detach(|| {
            telic::evaluate::evaluate(policy, spec, &config, &stop, |_, _| signals.look(&stop))
        })
    });
    signals.raise()?;
    let (mut evaluation, _) = outcome.map_err(|error| of_flow(&error))?;
    evaluation.step = Some(step);
    nested::from_json(py, &evaluation)
}

/// Writes episodes of a policy, with its denoising, as a recording of the rerun viewer (`.rrd`).
///
/// They are the first ones of `evaluate` with the same seed, or of `tasks` in turn, by name. `play` is for a policy that was prompted with
/// a reward: whole episodes from the starts of play data; if it is the name of a reward of the environment, its return is shown.
/// Returns how many of them succeeded.
#[pyfunction]
#[pyo3(signature = (policy, path, *, env=None, episodes=2, seed=0, tasks=None, play=None))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn record(
    py: Python<'_>,
    policy: &mut Policy,
    path: std::path::PathBuf,
    env: Option<&str>,
    #[pyo3(from_py_with = numbers::episodes)] episodes: usize,
    #[pyo3(from_py_with = numbers::seed)] seed: u64,
    tasks: Option<Vec<String>>,
    play: Option<String>,
) -> PyResult<usize> {
    let spec = spec_for(policy, env)?;
    if tasks.is_some() && play.is_some() {
        return Err(input("`tasks` and `play` are given, expected one of them"));
    }
    let tasks = task_indices(spec, tasks)?;
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
        tasks,
        play,
        ..RolloutConfig::default()
    };
    let (stop, mut signals) = (AtomicBool::new(false), Signals::new());
    let target = RecordingTarget::File(path);
    let outcome = policy.borrow_for_rollouts(|policy| {
        compute(py, || {
            record_rollouts(policy, spec, &config, target, &stop, |_| {
                signals.look(&stop);
            })
        })
    });
    signals.raise()?;
    let (successes, _) = outcome.map_err(|error| of_flow(&error))?;
    Ok(successes)
}

/// Tasks by name; none for all.
fn task_indices(spec: &EnvSpec, names: Option<Vec<String>>) -> PyResult<Vec<usize>> {
    names
        .unwrap_or_default()
        .iter()
        .map(|name| telic::evaluate::task_index(spec, name))
        .collect::<Result<_, _>>()
        .map_err(|error| of_flow(&error))
}

/// The environment that was asked for, or that the policy was trained for.
fn spec_for(policy: &Policy, env: Option<&str>) -> PyResult<&'static EnvSpec> {
    telic::evaluate::environment(env, policy.trained_for()).map_err(|error| of_flow(&error))
}
