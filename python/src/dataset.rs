//! Play data.

use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::{Array2, ArrayD, Ix2};
use numpy::{AllowTypeChange, Element, IntoPyArray, PyArray1, PyArray2, PyArrayLikeDyn};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PySlice, PyTuple};
use telic_datasets::{
    Columns, Dataset as Data, EpisodeIndex, GoalMix, HindsightConfig, HindsightSampler, Layout,
    Metadata, TransitionBatch,
};
use telic_seed::Seed;

use crate::arrays::{AnyArray, borrowed_table, read_only};
use crate::error::{failure, input, missing_file, of_data, of_dataset, of_sampler};
use crate::nested;
use crate::numbers;

/// Reads a dataset, an `.npz` archive in a layout of OGBench.
#[pyfunction]
pub(crate) fn load_dataset(py: Python<'_>, path: std::path::PathBuf) -> PyResult<Dataset> {
    let path = existing_path(path, "dataset")?;
    let data = py
        .detach(|| Data::load(&path))
        .map_err(|error| of_dataset(&error))?;
    Ok(Dataset::new(data, Some(path)))
}

/// What a pickled dataset becomes.
#[pyfunction]
pub(crate) fn load_pickled(
    py: Python<'_>,
    path: std::path::PathBuf,
    size: (usize, usize),
) -> PyResult<Dataset> {
    let dataset = load_dataset(py, path)?;
    let found = (dataset.data.num_episodes(), dataset.data.num_transitions());
    if found != size {
        let (episodes, transitions) = size;
        return Err(input(format!(
            "the file has {} episodes and {} transitions; it had {episodes} and {transitions} when the dataset was pickled\nin {}",
            found.0,
            found.1,
            dataset.path.as_deref().unwrap_or("".into())
        )));
    }
    Ok(dataset)
}

/// Checks that something is there.
pub(crate) fn existing_path(path: std::path::PathBuf, what: &str) -> PyResult<Utf8PathBuf> {
    let path = Utf8PathBuf::from_path_buf(path).map_err(|path| {
        input(format!(
            "the path of the {what} is not UTF-8: {}",
            path.display()
        ))
    })?;
    if path.exists() {
        Ok(path)
    } else {
        Err(missing_file(format!("there is no {what} here\nin {path}")))
    }
}

/// Episodes as NumPy columns, with hindsight goals.
#[pyclass(frozen, module = "telic._telic")]
pub(crate) struct Dataset {
    data: Arc<Data>,
    path: Option<Utf8PathBuf>,
    sampling: Mutex<Sampling>,
    terminals: PyOnceLock<Py<PyArray1<bool>>>,
}

/// The last sampler, which most calls ask for again, and how many batches were drawn without a seed.
struct Sampling {
    sampler: Option<Arc<HindsightSampler>>,
    batches: u64,
}

impl Dataset {
    /// The last state of each episode.
    pub(crate) fn final_observations(&self) -> Vec<Vec<f32>> {
        self.data.final_observations()
    }

    fn new(data: Data, path: Option<Utf8PathBuf>) -> Self {
        Self {
            data: Arc::new(data),
            path,
            sampling: Mutex::new(Sampling {
                sampler: None,
                batches: 0,
            }),
            terminals: PyOnceLock::new(),
        }
    }

    /// A read-only view on a column.
    fn view<'py, T: Element>(slf: &Bound<'py, Self>, table: &Array2<T>) -> Bound<'py, PyArray2<T>> {
        let data = table.as_slice().expect("columns are row-major");
        // SAFETY: a dataset never changes, and the object keeps it.
        #[allow(unsafe_code)]
        let array = unsafe { borrowed_table(slf.as_any(), data, table.ncols()) };
        read_only(&array);
        array
    }
}

fn goal_mix(
    name: &str,
    argument: Option<&Bound<'_, PyAny>>,
    default: GoalMix,
) -> PyResult<GoalMix> {
    let Some(argument) = argument else {
        return Ok(default);
    };
    let value = nested::json(name, argument)?;
    serde_json::from_value(value).map_err(|error| {
        input(format!(
            "`{name}`: {error}; expected the keys current, trajectory, random, geometric and stitched"
        ))
    })
}

fn integers<'py>(py: Python<'py>, values: &[usize]) -> Bound<'py, PyArray1<i64>> {
    values
        .iter()
        .map(|&value| value as i64)
        .collect::<Vec<_>>()
        .into_pyarray(py)
}

fn table(
    py: Python<'_>,
    name: &str,
    values: Vec<f32>,
    rows: usize,
    width: usize,
) -> PyResult<Py<PyArray2<f32>>> {
    let table = Array2::from_shape_vec((rows, width), values)
        .map_err(|error| failure(format!("`{name}`: {error}")))?;
    Ok(table.into_pyarray(py).unbind())
}

fn column_of<T: Clone>(name: &str, array: ArrayD<T>) -> PyResult<Array2<T>> {
    let shape = array.shape().to_vec();
    let table = array.into_dimensionality::<Ix2>().map_err(|_| {
        input(format!(
            "`{name}` has shape {shape:?}, expected [rows, entries]"
        ))
    })?;
    Ok(if table.is_standard_layout() {
        table
    } else {
        table.as_standard_layout().into_owned()
    })
}

/// Where a dataset comes from, without keys that nothing would come of.
fn metadata_of(object: &Bound<'_, PyAny>) -> PyResult<Metadata> {
    let value = nested::json("metadata", object)?;
    let known = serde_json::to_value(Metadata::default()).map_err(failure)?;
    if let (Some(given), Some(known)) = (value.as_object(), known.as_object())
        && let Some(key) = given.keys().find(|key| !known.contains_key(*key))
    {
        let known: Vec<_> = known.keys().map(String::as_str).collect();
        return Err(input(format!(
            "`metadata` has the key {key}, expected some of {}",
            known.join(", ")
        )));
    }
    serde_json::from_value(value).map_err(|error| input(format!("`metadata`: {error}")))
}

/// Whole numbers; whatever else is refused, since a conversion would cut off what is behind the point.
fn whole_numbers(name: &str, array: ArrayD<f64>) -> PyResult<Array2<i64>> {
    let table = column_of(name, array)?;
    match table.iter().find(|value| value.fract() != 0.0) {
        Some(value) => Err(input(format!(
            "`{name}` has the entry {value}, expected whole numbers"
        ))),
        None => Ok(table.mapv(|value| value as i64)),
    }
}

#[pymethods]
impl Dataset {
    /// A dataset from arrays: one row per state, `terminals` 1 on the last row of each episode.
    #[staticmethod]
    #[pyo3(signature = (
        *, observations, actions, terminals, qpos=None, qvel=None, button_states=None, metadata=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn from_arrays(
        py: Python<'_>,
        observations: AnyArray<'_>,
        actions: AnyArray<'_>,
        terminals: PyArrayLikeDyn<'_, f64, AllowTypeChange>,
        qpos: Option<AnyArray<'_>>,
        qvel: Option<AnyArray<'_>>,
        button_states: Option<PyArrayLikeDyn<'_, f64, AllowTypeChange>>,
        metadata: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let metadata = metadata
            .map(|object| metadata_of(&object))
            .transpose()?
            .unwrap_or_default();
        let terminals = terminals.as_array();
        if terminals.ndim() != 1 {
            return Err(input(format!(
                "`terminals` has shape {:?}, expected [rows]",
                terminals.shape()
            )));
        }
        let terminals: Vec<f64> = terminals.iter().copied().collect();
        let optional = |name: &str, array: Option<AnyArray<'_>>| {
            array
                .map(|array| column_of(name, array.as_array().to_owned()))
                .transpose()
        };
        let columns = Columns {
            observations: column_of("observations", observations.as_array().to_owned())?,
            actions: column_of("actions", actions.as_array().to_owned())?,
            qpos: optional("qpos", qpos)?,
            qvel: optional("qvel", qvel)?,
            button_states: button_states
                .map(|array| whole_numbers("button_states", array.as_array().to_owned()))
                .transpose()?,
        };
        py.detach(|| {
            let episodes = EpisodeIndex::from_numbers(&terminals)?;
            Data::new(columns, episodes, metadata)
        })
        .map(|data| Self::new(data, None))
        .map_err(|error| of_data(&error))
    }

    /// Writes an `.npz` archive.
    #[pyo3(signature = (path, *, layout="file"))]
    fn save(&self, py: Python<'_>, path: std::path::PathBuf, layout: &str) -> PyResult<()> {
        let layout = match layout {
            "file" => Layout::File,
            "compact" => Layout::Compact,
            "regular" => Layout::Regular,
            other => {
                return Err(input(format!(
                    "`layout` is `{other}`, expected file, compact or regular"
                )));
            }
        };
        let path = path
            .to_str()
            .ok_or_else(|| input(format!("the path is not UTF-8: {}", path.display())))?;
        py.detach(|| self.data.save(Utf8Path::new(path), layout))
            .map_err(|error| of_dataset(&error))
    }

    /// State before the action of the same row, `[rows, observation_dim]`.
    #[getter]
    fn observations<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray2<f32>> {
        Self::view(slf, slf.get().data.observations())
    }

    /// Action of each row, `[rows, action_dim]`.
    #[getter]
    fn actions<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray2<f32>> {
        Self::view(slf, slf.get().data.actions())
    }

    /// Generalised coordinates, `[rows, nq]`.
    #[getter]
    fn qpos<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyArray2<f32>>> {
        slf.get().data.qpos().map(|table| Self::view(slf, table))
    }

    /// Generalised velocities, `[rows, nv]`.
    #[getter]
    fn qvel<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyArray2<f32>>> {
        slf.get().data.qvel().map(|table| Self::view(slf, table))
    }

    /// Discrete states, `[rows, buttons]`.
    #[getter]
    fn button_states<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyArray2<i64>>> {
        slf.get()
            .data
            .button_states()
            .map(|table| Self::view(slf, table))
    }

    /// Whether each row is the last one of its episode, `[rows]`.
    #[getter]
    fn terminals<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        self.terminals
            .get_or_init(py, || {
                let index = self.data.episodes();
                let mut terminals = vec![false; index.num_rows()];
                for episode in 0..index.len() {
                    terminals[index.final_row(episode)] = true;
                }
                let terminals = terminals.into_pyarray(py);
                read_only(&terminals);
                terminals.unbind()
            })
            .bind(py)
            .clone()
    }

    /// First row and number of rows of each episode, `[num_episodes, 2]`.
    #[getter]
    fn episodes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<i64>> {
        let index = self.data.episodes();
        Array2::from_shape_fn((index.len(), 2), |(episode, entry)| {
            (if entry == 0 {
                index.start(episode)
            } else {
                index.rows(episode)
            }) as i64
        })
        .into_pyarray(py)
    }

    /// The columns of one episode, views like the columns themselves.
    fn episode<'py>(slf: &Bound<'py, Self>, episode: i64) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let index = slf.get().data.episodes();
        let number = usize::try_from(episode)
            .ok()
            .filter(|&number| number < index.len())
            .ok_or_else(|| {
                input(format!(
                    "there is no episode {episode}; the dataset has {}, numbered from 0",
                    index.len()
                ))
            })?;
        let start = index.start(number) as isize;
        let rows = PySlice::new(py, start, start + index.rows(number) as isize, 1);
        let columns = PyDict::new(py);
        for (name, column) in Self::columns(slf)? {
            columns.set_item(name, column.get_item(&rows)?)?;
        }
        Ok(columns)
    }

    /// Every column that the file has, by name.
    #[getter]
    fn columns<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let columns = PyDict::new(slf.py());
        columns.set_item("observations", Self::observations(slf))?;
        columns.set_item("actions", Self::actions(slf))?;
        columns.set_item("terminals", slf.get().terminals(slf.py()))?;
        if let Some(qpos) = Self::qpos(slf) {
            columns.set_item("qpos", qpos)?;
        }
        if let Some(qvel) = Self::qvel(slf) {
            columns.set_item("qvel", qvel)?;
        }
        if let Some(button_states) = Self::button_states(slf) {
            columns.set_item("button_states", button_states)?;
        }
        Ok(columns)
    }

    /// Where the data comes from.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        nested::from_json(py, self.data.metadata())
    }

    /// The file that this was loaded from.
    #[getter]
    fn path(&self) -> Option<&str> {
        self.path.as_deref().map(Utf8Path::as_str)
    }

    /// Number of episodes.
    #[getter]
    fn num_episodes(&self) -> usize {
        self.data.num_episodes()
    }

    /// Number of transitions.
    #[getter]
    fn num_transitions(&self) -> usize {
        self.data.num_transitions()
    }

    /// Entries of an observation.
    #[getter]
    fn observation_dim(&self) -> usize {
        self.data.observation_dim()
    }

    /// Entries of an action.
    #[getter]
    fn action_dim(&self) -> usize {
        self.data.action_dim()
    }

    /// Transitions with goals chosen in hindsight, as new arrays.
    ///
    /// With `n_step` above 1, `rewards` are discounted sums of up to as many steps, `later_observations` are those that they lead to, and
    /// `masks` are γ to the power of one less than their number.
    ///
    /// A share `stitched` of the trajectory goals of a mixture is taken from any episode that passes a state like one ahead, out of
    /// `clusters` clusters of states.
    ///
    /// A `seed` fixes the batch. Without one, the batches of a dataset are a fixed sequence.
    #[pyo3(signature = (
        batch_size, *, seed=None, value_goals=None, actor_goals=None, discount=0.99, negative_rewards=true, n_step=1,
        clusters=40
    ))]
    #[allow(clippy::too_many_arguments)]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::batch_size)] batch_size: usize,
        #[pyo3(from_py_with = numbers::optional_seed)] seed: Option<u64>,
        value_goals: Option<Bound<'py, PyAny>>,
        actor_goals: Option<Bound<'py, PyAny>>,
        discount: f64,
        negative_rewards: bool,
        #[pyo3(from_py_with = numbers::n_step)] n_step: usize,
        #[pyo3(from_py_with = numbers::clusters)] clusters: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        if batch_size == 0 {
            return Err(input("`batch_size` is 0, expected at least 1"));
        }
        let defaults = HindsightConfig::default();
        let config = HindsightConfig {
            value: goal_mix("value_goals", value_goals.as_ref(), defaults.value)?,
            actor: goal_mix("actor_goals", actor_goals.as_ref(), defaults.actor)?,
            discount,
            negative_rewards,
            n_step,
            clusters,
        };
        let entries = 5 * self.data.observation_dim() + self.data.action_dim() + 8;
        let fits = batch_size
            .checked_mul(entries)
            .is_some_and(|values| Vec::<f64>::new().try_reserve_exact(values).is_ok());
        if !fits {
            return Err(input(format!(
                "`batch_size` is {batch_size}, more rows than there is memory for"
            )));
        }
        let (batch, rows) = py
            .detach(|| {
                let mut sampling = self
                    .sampling
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let sampler = match &sampling.sampler {
                    Some(sampler) if *sampler.config() == config => Arc::clone(sampler),
                    _ => Arc::new(HindsightSampler::new(Arc::clone(&self.data), config)?),
                };
                sampling.sampler = Some(Arc::clone(&sampler));
                let stream = if let Some(seed) = seed {
                    Seed::new(seed).child("batches")
                } else {
                    sampling.batches += 1;
                    Seed::new(0).child("batches").index(sampling.batches)
                };
                drop(sampling);
                let mut batch = TransitionBatch::with_size(batch_size);
                sampler.sample(&mut stream.rng(), &mut batch);
                Ok((batch, batch_size))
            })
            .map_err(|error| of_sampler(&error))?;
        let (observation_dim, action_dim) = (batch.observation_dim, batch.action_dim);
        let sample = PyDict::new(py);
        for (name, values, width) in [
            ("observations", batch.observations, observation_dim),
            ("actions", batch.actions, action_dim),
            (
                "next_observations",
                batch.next_observations,
                observation_dim,
            ),
            ("value_goals", batch.value_goals, observation_dim),
            ("actor_goals", batch.actor_goals, observation_dim),
        ] {
            sample.set_item(name, table(py, name, values, rows, width)?)?;
        }
        if n_step > 1 {
            let (name, values) = ("later_observations", batch.later_observations);
            sample.set_item(name, table(py, name, values, rows, observation_dim)?)?;
        }
        sample.set_item("rewards", batch.rewards.into_pyarray(py))?;
        sample.set_item("masks", batch.masks.into_pyarray(py))?;
        sample.set_item("rows", integers(py, &batch.rows))?;
        sample.set_item("value_goal_rows", integers(py, &batch.value_goal_rows))?;
        sample.set_item("actor_goal_rows", integers(py, &batch.actor_goal_rows))?;
        Ok(sample)
    }

    fn __len__(&self) -> usize {
        self.data.num_transitions()
    }

    fn __repr__(&self) -> String {
        format!(
            "<telic.Dataset {}: {} episodes, {} transitions, observation {}, action {}>",
            if self.data.metadata().env.is_empty() {
                "of an unknown environment"
            } else {
                &self.data.metadata().env
            },
            self.data.num_episodes(),
            self.data.num_transitions(),
            self.data.observation_dim(),
            self.data.action_dim(),
        )
    }

    /// Loads the file again in another process.
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let path = self.path.as_ref().ok_or_else(|| {
            pyo3::exceptions::PyTypeError::new_err(
                "only a dataset that was loaded from a file can be pickled",
            )
        })?;
        // Where another process looks from, it would be another path.
        let path = std::path::absolute(path).map_err(failure)?;
        let load = py.import("telic._telic")?.getattr("load_pickled")?;
        let size = (self.data.num_episodes(), self.data.num_transitions());
        Ok((load, (path, size).into_pyobject(py)?))
    }
}
