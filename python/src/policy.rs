//! Trained policies.

use std::sync::Mutex;

use ndarray::{Array1, Array2, ArrayD, ArrayViewD};
use numpy::{
    AllowTypeChange, IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayLikeDyn,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use telic_policies::{Checkpoint, Device, device::with_present_threads};
use telic_seed::{Rng, Seed};

use crate::arrays::AnyArray;
use crate::dataset::existing_path;
use crate::error::{input, of_checkpoint, of_policy};
use crate::nested;
use crate::numbers;

/// Loads the policy of a run folder, or of one checkpoint in it.
#[pyfunction]
#[pyo3(signature = (path, *, device="cpu"))]
pub(crate) fn load_policy(
    py: Python<'_>,
    path: std::path::PathBuf,
    device: &str,
) -> PyResult<Policy> {
    let path = existing_path(path, "run")?;
    let device = device
        .parse::<Device>()
        .map_err(|expected| input(format!("`device` is `{device}`, {expected}")))?;
    let (checkpoint, policy) = compute(py, || {
        let checkpoint = Checkpoint::open(&path)?;
        let policy = checkpoint.policy(device)?;
        Ok((checkpoint, policy))
    })
    .map_err(|error| of_checkpoint(&error))?;
    Ok(Policy {
        inner: Mutex::new(policy),
        checkpoint,
        device,
        seed: 0,
        rngs: Vec::new(),
    })
}

/// Runs a network while other threads of Python go on, also in a process made by `fork`.
pub(crate) fn compute<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> R {
    py.detach(|| with_present_threads(work))
}

/// A trained policy, which acts towards goals.
#[pyclass(module = "telic._telic")]
pub(crate) struct Policy {
    /// The lock is never waited for: every use has the object to itself.
    inner: Mutex<Box<dyn telic_policies::Policy>>,
    checkpoint: Checkpoint,
    device: Device,
    /// Root of the streams of all rows.
    seed: u64,
    /// One stream per row that acts in parallel; empty between a reset and the first action.
    rngs: Vec<Rng>,
}

impl Policy {
    fn policy(&mut self) -> &mut Box<dyn telic_policies::Policy> {
        self.inner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Updates behind it.
    pub(crate) fn updates(&self) -> u64 {
        self.checkpoint.manifest.step
    }

    /// The environment of its data.
    pub(crate) fn trained_for(&self) -> &str {
        &self.checkpoint.manifest.data.env
    }

    /// Lends the policy for episodes of its own; those that it was acting in are forgotten.
    pub(crate) fn borrow_for_rollouts<T>(
        &mut self,
        run: impl FnOnce(&mut dyn telic_policies::Policy) -> T,
    ) -> T {
        self.rngs.clear();
        run(self.policy().as_mut())
    }

    /// Starts `rows` episodes. Each row has a stream of its own, so that it does not depend on the others.
    fn begin(&mut self, rows: usize) {
        self.rngs = row_streams(self.seed, rows);
        self.policy().reset(rows);
    }
}

fn row_streams(seed: u64, rows: usize) -> Vec<Rng> {
    let seed = Seed::new(seed).child("policy");
    (0..rows).map(|row| seed.index(row as u64).rng()).collect()
}

/// `[rows, width]` from one row `[width]` or from many.
fn rows_of(name: &str, array: ArrayViewD<'_, f32>, width: usize) -> PyResult<Array2<f32>> {
    let shape = array.shape().to_vec();
    let rows = match *shape {
        [found] if found == width => 1,
        [rows, found] if found == width && rows > 0 => rows,
        _ => {
            return Err(input(format!(
                "`{name}` has shape {shape:?}, expected [{width}] or [rows, {width}]"
            )));
        }
    };
    let values = array.iter().copied().collect();
    Ok(Array2::from_shape_vec((rows, width), values).expect("the shape was checked"))
}

/// Observations and goals, with the same number of rows.
fn pairs(
    observations: &AnyArray<'_>,
    goals: &AnyArray<'_>,
    width: usize,
) -> PyResult<(Array2<f32>, Array2<f32>)> {
    let rows = rows_of("observation", observations.as_array(), width)?;
    let goal_rows = rows_of("goal", goals.as_array(), width)?;
    if goal_rows.nrows() == rows.nrows() {
        return Ok((rows, goal_rows));
    }
    if goals.ndim() == 1 {
        let goal_rows = goal_rows
            .broadcast(rows.dim())
            .expect("one row fits any number of rows")
            .to_owned();
        return Ok((rows, goal_rows));
    }
    Err(input(format!(
        "`goal` has {} rows, `observation` {}",
        goal_rows.nrows(),
        rows.nrows()
    )))
}

/// Dotted keys as tables: `{"sampler.steps": 3}` is `{"sampler": {"steps": 3}}`.
fn undotted(settings: toml::Table) -> toml::Table {
    let mut tables = toml::Table::new();
    for (key, value) in settings {
        let mut path: Vec<&str> = key.split('.').collect();
        let last = path.pop().expect("a split has at least one part");
        let mut table = &mut tables;
        for part in path {
            let entry = table
                .entry(part)
                .or_insert_with(|| toml::Table::new().into());
            if !entry.is_table() {
                *entry = toml::Table::new().into();
            }
            table = entry.as_table_mut().expect("it was made one");
        }
        table.insert(last.to_owned(), value);
    }
    tables
}

#[pymethods]
impl Policy {
    /// The checkpoint folder.
    #[getter]
    fn path(&self) -> &str {
        self.checkpoint.path.as_str()
    }

    /// Id of the algorithm.
    #[getter]
    fn id(&self) -> &str {
        &self.checkpoint.manifest.policy
    }

    /// Environment that it was trained for; empty if unknown.
    #[getter]
    fn env(&self) -> &str {
        &self.checkpoint.manifest.data.env
    }

    /// Updates behind it.
    #[getter]
    fn step(&self) -> u64 {
        self.updates()
    }

    /// Entries of an observation, and of a goal.
    #[getter]
    fn observation_dim(&mut self) -> usize {
        self.policy().observation_dim()
    }

    /// Entries of an action.
    #[getter]
    fn action_dim(&mut self) -> usize {
        self.policy().action_dim()
    }

    /// Forgets everything; the next action begins as many episodes as it has rows.
    #[pyo3(signature = (*, seed=None))]
    fn reset(&mut self, #[pyo3(from_py_with = numbers::optional_seed)] seed: Option<u64>) {
        if let Some(seed) = seed {
            self.seed = seed;
        }
        self.rngs.clear();
    }

    /// Begins a new episode in the rows where `mask` is true.
    fn reset_rows(&mut self, mask: PyArrayLikeDyn<'_, bool, AllowTypeChange>) -> PyResult<()> {
        let mask = mask.as_array();
        if mask.shape() != [self.rngs.len()] {
            let (shape, rows) = (mask.shape(), self.rngs.len());
            return Err(input(format!(
                "`mask` has shape {shape:?}, the policy acts for [{rows}] rows"
            )));
        }
        for (row, _) in mask.iter().enumerate().filter(|(_, reset)| **reset) {
            self.policy().reset_row(row);
        }
        Ok(())
    }

    /// The action towards a goal observation.
    #[pyo3(signature = (observation, goal, *, seed=None))]
    fn act<'py>(
        &mut self,
        py: Python<'py>,
        observation: AnyArray<'py>,
        goal: AnyArray<'py>,
        #[pyo3(from_py_with = numbers::optional_seed)] seed: Option<u64>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let (observation_dim, action_dim) =
            (self.policy().observation_dim(), self.policy().action_dim());
        let (observations, goals) = pairs(&observation, &goal, observation_dim)?;
        let rows = observations.nrows();
        let begins = self.rngs.is_empty();
        if begins {
            self.begin(rows);
        } else if self.rngs.len() != rows {
            return Err(input(format!(
                "`observation` has {rows} rows, but the policy is acting for {}; call `reset()` before another number",
                self.rngs.len()
            )));
        }
        let mut own_streams = seed.map(|seed| row_streams(seed, rows));
        let rngs = own_streams.as_mut().unwrap_or(&mut self.rngs);
        let policy = self
            .inner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut actions = Array2::zeros((rows, action_dim));
        let (seen, wanted) = (observations.view(), goals.view());
        let acted = compute(py, || policy.act(seen, wanted, rngs, &mut actions));
        if acted.is_err() && begins {
            self.rngs.clear();
        }
        acted.map_err(|error| of_policy(&error))?;
        let actions: ArrayD<f32> = if observation.ndim() == 1 {
            actions.row(0).to_owned().into_dyn()
        } else {
            actions.into_dyn()
        };
        Ok(actions.into_pyarray(py))
    }

    /// The value of being at each observation with each goal, `[rows]`.
    fn values<'py>(
        &mut self,
        py: Python<'py>,
        observation: AnyArray<'py>,
        goal: AnyArray<'py>,
    ) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let policy = self.policy();
        let (observations, goals) = pairs(&observation, &goal, policy.observation_dim())?;
        let values = compute(py, || policy.values(observations.view(), goals.view()))
            .map_err(|error| of_policy(&error))?;
        Ok(values.map(|values| values.into_pyarray(py)))
    }

    /// The embedding of observations, `[rows, width]`.
    fn latents<'py>(
        &mut self,
        py: Python<'py>,
        observation: AnyArray<'py>,
    ) -> PyResult<Option<Bound<'py, PyArray2<f32>>>> {
        let policy = self.policy();
        let width = policy.observation_dim();
        let observations = rows_of("observation", observation.as_array(), width)?;
        let latents = compute(py, || policy.latents(observations.view()))
            .map_err(|error| of_policy(&error))?;
        Ok(latents.map(|latents| latents.into_pyarray(py)))
    }

    /// Makes it the task to be where labelled observations have high rewards; returns R², the share of their variance that the
    /// policy's features can express.
    fn prompt_reward(
        &mut self,
        py: Python<'_>,
        observations: AnyArray<'_>,
        rewards: AnyArray<'_>,
    ) -> PyResult<f64> {
        let policy = self.policy();
        let width = policy.observation_dim();
        let observations = rows_of("observations", observations.as_array(), width)?;
        let rewards: Array1<f32> = rewards.as_array().iter().copied().collect();
        compute(py, || {
            policy.prompt_reward(observations.view(), rewards.view())
        })
        .map_err(|error| of_policy(&error))
    }

    /// Inference settings in force.
    #[getter]
    fn settings<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        nested::dictionary(py, &self.policy().settings())
    }

    /// Changes inference settings.
    #[pyo3(signature = (**settings))]
    fn configure(&mut self, py: Python<'_>, settings: Option<Bound<'_, PyDict>>) -> PyResult<()> {
        let Some(settings) = settings else {
            return Ok(());
        };
        let table = undotted(nested::table("settings", &settings)?);
        let policy = self.policy();
        // A search looks at the embeddings of its data.
        compute(py, || policy.configure(&table)).map_err(|error| of_policy(&error))
    }

    fn __repr__(&mut self) -> String {
        let (observation_dim, action_dim) =
            (self.policy().observation_dim(), self.policy().action_dim());
        format!(
            "<telic.Policy {} of {}: observation {observation_dim}, action {action_dim}>",
            self.checkpoint.manifest.policy, self.checkpoint.path
        )
    }

    /// Loads the run again in another process, with the settings in force and without the running episodes. A policy that was prompted
    /// with a reward is refused: its prompt is no setting.
    fn __reduce__<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let settings = self.settings(py)?;
        let kind = settings
            .get_item("prompt")?
            .and_then(|prompt| prompt.get_item("kind").ok())
            .and_then(|kind| kind.extract::<String>().ok());
        if kind.as_deref() == Some("reward") {
            return Err(input(
                "a policy that is prompted with a reward cannot be pickled; pickle it before `prompt_reward`, and prompt the copy",
            ));
        }
        let load = py.import("telic")?.getattr("_configured_policy")?;
        Ok((
            load,
            (
                self.checkpoint.path.as_str(),
                self.device.to_string(),
                settings,
            )
                .into_pyobject(py)?,
        ))
    }
}
