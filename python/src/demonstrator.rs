//! Scripted experts.

use std::sync::Mutex;

use ndarray::Array2;
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use telic_envs::{EnvError, EnvSpec};
use telic_seed::Seed;

use crate::arrays::{AnyArray, checked};
use crate::env::{StartArgument, start};
use crate::error::{input, of_env};
use crate::numbers;

/// A scripted expert and the environment it drives.
#[pyclass(module = "telic._telic")]
pub(crate) struct Demonstrator {
    /// The lock is never waited for: every use has the object to itself.
    expert: Mutex<Box<dyn telic_envs::Demonstrator>>,
    spec: &'static EnvSpec,
    name: &'static str,
    episode_steps: usize,
}

/// One episode, row by row; the last row has the final state, and the last action again.
#[derive(Default)]
struct Rows {
    count: usize,
    observations: Vec<f32>,
    actions: Vec<f32>,
    qpos: Vec<f32>,
    qvel: Vec<f32>,
    success: bool,
}

impl Rows {
    fn push(&mut self, expert: &dyn telic_envs::Demonstrator, action: &[f32]) {
        self.count += 1;
        self.observations
            .extend_from_slice(expert.env().observation());
        self.actions.extend_from_slice(action);
        expert.env().state(&mut self.qpos, &mut self.qvel);
    }
}

impl Demonstrator {
    fn expert(&mut self) -> &mut Box<dyn telic_envs::Demonstrator> {
        self.expert
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn task(&self, task: Option<&StartArgument>) -> PyResult<Option<usize>> {
        match start(self.spec, task)? {
            telic_envs::Start::Task(task) => Ok(Some(task)),
            _ => Ok(None),
        }
    }
}

#[pymethods]
impl Demonstrator {
    #[new]
    #[pyo3(signature = (env, *, name=None, noise=1.0))]
    fn new(env: &str, name: Option<&str>, noise: f32) -> PyResult<Self> {
        let spec = telic_envs::spec(env).map_err(|error| of_env(&error))?;
        let found = spec.demonstrator(name).map_err(|error| of_env(&error))?;
        if !(noise.is_finite() && noise >= 0.0) {
            return Err(input(format!(
                "`noise` is {noise}, expected a finite number of at least 0"
            )));
        }
        let expert = (found.make)(noise).map_err(|error| of_env(&error))?;
        Ok(Self {
            expert: Mutex::new(expert),
            spec,
            name: found.name,
            episode_steps: found.episode_steps,
        })
    }

    /// Name of the expert.
    #[getter]
    fn name(&self) -> &str {
        self.name
    }

    /// Control steps of a play episode, at most.
    #[getter]
    fn episode_steps(&self) -> usize {
        self.episode_steps
    }

    /// Starts an episode: play, or an evaluation task by number or name.
    #[pyo3(signature = (seed, *, task=None))]
    fn reset(
        &mut self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers::seed)] seed: u64,
        task: Option<StartArgument>,
    ) -> PyResult<()> {
        let task = self.task(task.as_ref())?;
        let expert = self.expert();
        py.detach(|| expert.reset(seed, task))
            .map_err(|error| of_env(&error))
    }

    /// The next action.
    fn act<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        let mut action = vec![0.0; self.spec.action_dim()];
        let expert = self.expert();
        py.detach(|| expert.act(&mut action));
        action.into_pyarray(py)
    }

    /// Applies an action; returns reward, terminated, truncated and success.
    fn step(&mut self, py: Python<'_>, action: AnyArray<'_>) -> PyResult<(f32, bool, bool, bool)> {
        let action = checked("action", action.as_array(), &[Some(self.spec.action_dim())])?;
        let expert = self.expert();
        let step = py
            .detach(|| expert.step(&action))
            .map_err(|error| of_env(&error))?;
        Ok((step.reward, step.terminated, step.truncated, step.success))
    }

    /// Whether the episode is over for the expert.
    #[getter]
    fn finished(&mut self) -> bool {
        self.expert().finished()
    }

    /// A copy of the observation.
    #[getter]
    fn observation<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.expert().env().observation())
    }

    /// A copy of the goal observation.
    #[getter]
    fn goal<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.expert().env().goal_observation())
    }

    /// A whole episode as columns, one row per state.
    #[pyo3(signature = (seed, *, task=None))]
    fn episode<'py>(
        &mut self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::seed)] seed: u64,
        task: Option<StartArgument>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let task = self.task(task.as_ref())?;
        let (action_dim, episode_steps) = (self.spec.action_dim(), self.episode_steps);
        let expert = self.expert();
        let rows = py
            .detach(|| {
                expert.reset(seed, task)?;
                let mut rows = Rows::default();
                let mut action = vec![0.0; action_dim];
                let mut finished = false;
                while !finished {
                    expert.act(&mut action);
                    rows.push(expert.as_ref(), &action);
                    let step = expert.step(&action)?;
                    rows.success |= step.success;
                    finished = expert.finished() || step.terminated || rows.count >= episode_steps;
                }
                rows.push(expert.as_ref(), &action);
                Ok(rows)
            })
            .map_err(|error: EnvError| of_env(&error))?;
        let episode = PyDict::new(py);
        let count = rows.count;
        for (name, values) in [
            ("observations", rows.observations),
            ("actions", rows.actions),
            ("qpos", rows.qpos),
            ("qvel", rows.qvel),
        ] {
            let width = values.len() / count;
            let table = Array2::from_shape_vec((count, width), values)
                .expect("every row has the same entries");
            episode.set_item(name, table.into_pyarray(py))?;
        }
        let mut terminals = vec![false; count];
        terminals[count - 1] = true;
        episode.set_item("terminals", terminals.into_pyarray(py))?;
        episode.set_item("success", rows.success)?;
        Ok(episode)
    }
}

/// Seed of an episode of a collection with `seed`.
#[pyfunction]
pub(crate) fn collection_seed(seed: u64, episode: u64) -> u64 {
    Seed::new(seed).child("collect").index(episode).value()
}
