//! What environments there are, and how they reward.

use numpy::{IntoPyArray, PyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use telic_envs::EnvSpec;

use crate::arrays::{AnyArray, checked};
use crate::error::{input, of_env};

/// Id in Gymnasium's registry: `cube-single`, version 0 → `telic/CubeSingle-v0`.
fn gymnasium_id(spec: &EnvSpec) -> String {
    let name: String = spec
        .id
        .split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_uppercase().chain(letters).collect()
            })
        })
        .collect();
    format!("telic/{name}-v{}", spec.version)
}

fn describe<'py>(py: Python<'py>, spec: &EnvSpec) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("id", spec.id)?;
    row.set_item("gymnasium_id", gymnasium_id(spec))?;
    row.set_item("family", spec.family)?;
    row.set_item("version", spec.version)?;
    row.set_item("summary", spec.summary)?;
    row.set_item("observation_dim", spec.observation_dim())?;
    row.set_item("action_dim", spec.action_dim())?;
    row.set_item("goal_dim", spec.goal_dim())?;
    row.set_item("control_hz", spec.control_hz)?;
    row.set_item("max_episode_steps", spec.max_episode_steps)?;
    row.set_item(
        "tasks",
        spec.tasks
            .iter()
            .map(|task| task.name.as_str())
            .collect::<Vec<_>>(),
    )?;
    row.set_item(
        "demonstrators",
        spec.demonstrators
            .iter()
            .map(|expert| expert.name)
            .collect::<Vec<_>>(),
    )?;
    row.set_item(
        "rewards",
        spec.rewards
            .iter()
            .map(|reward| reward.name)
            .collect::<Vec<_>>(),
    )?;
    let observation = PyList::empty(py);
    for entry in &spec.observation {
        let item = PyDict::new(py);
        item.set_item("name", &entry.name)?;
        item.set_item("unit", entry.unit)?;
        item.set_item("low", entry.low)?;
        item.set_item("high", entry.high)?;
        observation.append(item)?;
    }
    row.set_item("observation", observation)?;
    let action = PyList::empty(py);
    for entry in &spec.action {
        let item = PyDict::new(py);
        item.set_item("name", &entry.name)?;
        item.set_item("unit", entry.unit)?;
        item.set_item("scale", entry.scale)?;
        action.append(item)?;
    }
    row.set_item("action", action)?;
    let goal = PyDict::new(py);
    goal.set_item("indices", spec.goal.indices.clone())?;
    goal.set_item("tolerance", spec.goal.tolerance)?;
    goal.set_item("point_dim", spec.goal.point_dim)?;
    goal.set_item("metres_per_unit", spec.goal.metres_per_unit)?;
    row.set_item("goal", goal)?;
    Ok(row)
}

/// Every environment, with a name and a unit for each number.
#[pyfunction]
pub(crate) fn env_specs(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    telic_envs::specs()
        .iter()
        .map(|spec| describe(py, spec))
        .collect()
}

/// Sparse rewards of the environment `env`: 0 where a goal is reached, -1 elsewhere.
///
/// `achieved_goals` and `desired_goals` are `[n, goal_dim]`; the result is `[n]`.
#[pyfunction]
pub(crate) fn rewards<'py>(
    py: Python<'py>,
    env: &str,
    achieved_goals: AnyArray<'py>,
    desired_goals: AnyArray<'py>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let spec = telic_envs::spec(env).map_err(|error| of_env(&error))?;
    let shape = [None, Some(spec.goal_dim())];
    let achieved = checked("achieved_goals", achieved_goals.as_array(), &shape)?;
    let desired = checked("desired_goals", desired_goals.as_array(), &shape)?;
    if achieved.len() != desired.len() {
        let (achieved, desired) = (achieved_goals.shape(), desired_goals.shape());
        return Err(input(format!(
            "`achieved_goals` has shape {achieved:?}, `desired_goals` {desired:?}"
        )));
    }
    let rewards = py.detach(|| {
        let mut rewards = vec![0.0; achieved.len() / spec.goal_dim()];
        spec.goal.rewards(&achieved, &desired, &mut rewards);
        rewards
    });
    Ok(rewards.into_pyarray(py))
}
