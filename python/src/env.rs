//! One environment.

use std::sync::Mutex;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use telic_envs::{EnvSpec, GoalEnv, ResetOptions, Start};
use telic_seed::Seed;

use crate::arrays::{AnyArray, checked};
use crate::error::{input, of_env};
use crate::numbers;

/// Start of an episode as Python writes it: a task by number or name, or `"collection"`.
pub(crate) enum StartArgument {
    Number(i64),
    Name(String),
}

impl FromPyObject<'_, '_> for StartArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(number) = object.extract() {
            return Ok(Self::Number(number));
        }
        object.extract().map(Self::Name).map_err(|_| {
            input(format!(
                "a task is {}, expected its number from 0 or its name",
                *object
            ))
        })
    }
}

/// What `start` means; `None` is a task drawn from the seed.
pub(crate) fn start(spec: &EnvSpec, start: Option<&StartArgument>) -> PyResult<Start> {
    let tasks = &spec.tasks;
    match start {
        None => Ok(Start::RandomTask),
        Some(StartArgument::Name(name)) if name == "collection" => Ok(Start::Collection),
        Some(StartArgument::Name(name)) => tasks
            .iter()
            .position(|task| task.name == *name)
            .map(Start::Task)
            .ok_or_else(|| {
                let known: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
                input(format!(
                    "`{}` has no task `{name}`; known: {}",
                    spec.id,
                    known.join(", ")
                ))
            }),
        Some(&StartArgument::Number(number)) => usize::try_from(number)
            .ok()
            .filter(|&task| task < tasks.len())
            .map(Start::Task)
            .ok_or_else(|| {
                let tasks = tasks.len();
                input(format!(
                    "`{}` has {tasks} tasks, numbered from 0; there is no task {number}",
                    spec.id
                ))
            }),
    }
}

/// Observation, achieved goal, desired goal and goal observation of the state that an environment is in.
type View<'py> = (
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
);

/// One environment.
#[pyclass(module = "telic._telic")]
pub(crate) struct Env {
    /// The lock is never waited for: every use has the object to itself.
    inner: Mutex<Box<dyn GoalEnv>>,
    action: Vec<f32>,
    achieved_goal: Vec<f32>,
}

impl Env {
    fn env(&mut self) -> &mut Box<dyn GoalEnv> {
        self.inner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn state(&mut self) -> (Vec<f32>, Vec<f32>) {
        let (mut qpos, mut qvel) = (Vec::new(), Vec::new());
        self.env().state(&mut qpos, &mut qvel);
        (qpos, qvel)
    }
}

#[pymethods]
impl Env {
    #[new]
    fn new(env: &str) -> PyResult<Self> {
        let spec = telic_envs::spec(env).map_err(|error| of_env(&error))?;
        let env = (spec.make)().map_err(|error| of_env(&error))?;
        Ok(Self {
            inner: Mutex::new(env),
            action: Vec::new(),
            achieved_goal: vec![0.0; spec.goal_dim()],
        })
    }

    /// Starts an episode. `goal` replaces the goal observation of the task.
    #[pyo3(signature = (seed, *, start=None, goal=None))]
    fn reset(
        &mut self,
        py: Python<'_>,
        seed: u64,
        start: Option<StartArgument>,
        goal: Option<AnyArray<'_>>,
    ) -> PyResult<()> {
        let spec = self.env().spec();
        let start = self::start(spec, start.as_ref())?;
        let goal = goal
            .map(|goal| checked("goal", goal.as_array(), &[Some(spec.observation_dim())]))
            .transpose()?;
        let env = self.env();
        py.detach(|| env.reset(seed, &ResetOptions { start, goal }))
            .map_err(|error| of_env(&error))
    }

    /// Applies an action; returns reward, terminated, truncated and success.
    fn step(&mut self, py: Python<'_>, action: AnyArray<'_>) -> PyResult<(f32, bool, bool, bool)> {
        let expected = self.env().spec().action_dim();
        self.action = checked("action", action.as_array(), &[Some(expected)])?;
        let env = self
            .inner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let action = &self.action;
        let step = py
            .detach(|| env.step(action))
            .map_err(|error| of_env(&error))?;
        Ok((step.reward, step.terminated, step.truncated, step.success))
    }

    /// Copies of the observation, achieved goal, desired goal and goal observation.
    fn view<'py>(&mut self, py: Python<'py>) -> View<'py> {
        let env = self
            .inner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        env.spec()
            .goal
            .extract(env.observation(), &mut self.achieved_goal);
        (
            PyArray1::from_slice(py, env.observation()),
            PyArray1::from_slice(py, &self.achieved_goal),
            PyArray1::from_slice(py, env.desired_goal()),
            PyArray1::from_slice(py, env.goal_observation()),
        )
    }

    /// Replaces the goal of the running episode by a goal observation.
    fn set_goal(&mut self, goal: AnyArray<'_>) -> PyResult<()> {
        let expected = self.env().spec().observation_dim();
        let goal = checked("goal", goal.as_array(), &[Some(expected)])?;
        self.env().set_goal(&goal).map_err(|error| of_env(&error))
    }

    /// Number of the task of the running episode.
    #[getter]
    fn task(&mut self) -> Option<usize> {
        self.env().task()
    }

    /// Control steps since the reset.
    #[getter]
    fn elapsed_steps(&mut self) -> usize {
        self.env().elapsed_steps()
    }

    /// Scores of the episode so far beyond success.
    fn metrics<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metrics = PyDict::new(py);
        for (name, value) in self.env().metrics() {
            metrics.set_item(name, value)?;
        }
        Ok(metrics)
    }

    /// Named rewards of the current state.
    fn rewards<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rewards = PyDict::new(py);
        let specs = &self.env().spec().rewards;
        for (spec, value) in specs.iter().zip(self.env().rewards()) {
            rewards.set_item(spec.name, value)?;
        }
        Ok(rewards)
    }

    /// Writes coordinates and velocities.
    fn set_physics(&mut self, qpos: AnyArray<'_>, qvel: AnyArray<'_>) -> PyResult<()> {
        let qpos = checked("qpos", qpos.as_array(), &[None])?;
        let qvel = checked("qvel", qvel.as_array(), &[None])?;
        self.env()
            .set_state(&qpos, &qvel)
            .map_err(|error| of_env(&error))
    }

    /// Generalised coordinates in MuJoCo's order.
    #[getter]
    fn qpos<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_vec(py, self.state().0)
    }

    /// Generalised velocities in MuJoCo's order.
    #[getter]
    fn qvel<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_vec(py, self.state().1)
    }

    /// Everything that decides the future.
    fn snapshot<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.env().snapshot())
    }

    /// Puts a snapshot back.
    fn restore(&mut self, snapshot: &[u8]) -> PyResult<()> {
        self.env().restore(snapshot).map_err(|error| of_env(&error))
    }
}

/// Seed of the `index`-th episode that follows an episode with `seed`, counted from 1, where no other seed is given.
/// [`telic_envs::VecEnv`] numbers its automatic resets the same way.
#[pyfunction]
pub(crate) fn episode_seed(seed: u64, index: u64) -> u64 {
    Seed::new(seed).child("episode").index(index).value()
}

/// CRC-32 of the little-endian observations of one fixed rollout, to compare builds and machines.
///
/// Action entry `j` of step `t`, from 0, is `((7 t + 3 j) mod 11) / 5 - 1`; the rollout ends with the episode or after `steps`.
#[pyfunction]
#[pyo3(signature = (env, *, seed=0, steps=100))]
pub(crate) fn rollout_checksum(
    py: Python<'_>,
    env: &str,
    #[pyo3(from_py_with = numbers::seed)] seed: u64,
    #[pyo3(from_py_with = numbers::steps)] steps: usize,
) -> PyResult<u32> {
    let spec = telic_envs::spec(env).map_err(|error| of_env(&error))?;
    py.detach(|| {
        let mut env = (spec.make)()?;
        env.reset(seed, &ResetOptions::default())?;
        let mut checksum = crc32fast::Hasher::new();
        let mut add = |observation: &[f32]| {
            for value in observation {
                checksum.update(&value.to_le_bytes());
            }
        };
        add(env.observation());
        let mut action = vec![0.0; spec.action_dim()];
        for t in 0..steps {
            for (j, entry) in action.iter_mut().enumerate() {
                *entry = ((7 * t + 3 * j) % 11) as f32 / 5.0 - 1.0;
            }
            let step = env.step(&action)?;
            add(env.observation());
            if step.terminated || step.truncated {
                break;
            }
        }
        Ok(checksum.finalize())
    })
    .map_err(|error| of_env(&error))
}
