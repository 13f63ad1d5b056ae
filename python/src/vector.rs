//! Many environments.

use std::sync::Mutex;

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use telic_envs::{AutoresetMode, EnvSpec, ResetOptions, RowReset, VecOptions};

use crate::arrays::{AnyArray, borrowed_column, borrowed_table, checked};
use crate::env::{StartArgument, start};
use crate::error::{input, of_env, of_vec_env};

/// Flags of the last reset or step, `[num_envs]` each: terminated, truncated, success, reset.
type Flags<'py> = (
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
);

/// Many instances of one environment, stepped on a fixed number of threads.
#[pyclass(module = "telic._telic")]
pub(crate) struct VecEnv {
    /// The lock is never waited for: every use has the object to itself.
    envs: Mutex<telic_envs::VecEnv>,
    /// Which of the two sets of buffers holds the last batch.
    front: usize,
}

impl VecEnv {
    fn envs(&mut self) -> &mut telic_envs::VecEnv {
        self.envs
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One [`ResetOptions`] per row, from lists that have one entry per row.
fn row_options(
    spec: &EnvSpec,
    rows: usize,
    starts: &[Option<StartArgument>],
    goals: Option<&AnyArray<'_>>,
) -> PyResult<Vec<ResetOptions>> {
    if starts.len() != rows {
        return Err(input(format!(
            "there are {} starts for {rows} rows",
            starts.len()
        )));
    }
    let dim = spec.observation_dim();
    let goals = goals
        .map(|goals| checked("goal", goals.as_array(), &[Some(rows), Some(dim)]))
        .transpose()?;
    starts
        .iter()
        .enumerate()
        .map(|(row, argument)| {
            let goal = goals
                .as_ref()
                .map(|goals| goals[row * dim..(row + 1) * dim].to_vec());
            Ok(ResetOptions {
                start: start(spec, argument.as_ref())?,
                goal,
            })
        })
        .collect()
}

#[pymethods]
impl VecEnv {
    #[new]
    #[pyo3(signature = (env, *, num_envs, threads, autoreset))]
    fn new(
        py: Python<'_>,
        env: &str,
        num_envs: usize,
        threads: usize,
        autoreset: &str,
    ) -> PyResult<Self> {
        let spec = telic_envs::spec(env).map_err(|error| of_env(&error))?;
        let autoreset = match autoreset {
            "NextStep" => AutoresetMode::NextStep,
            "SameStep" => AutoresetMode::SameStep,
            "Disabled" => AutoresetMode::Disabled,
            other => {
                return Err(input(format!(
                    "`autoreset` is `{other}`, expected NextStep, SameStep or Disabled"
                )));
            }
        };
        let envs = py
            .detach(|| telic_envs::VecEnv::new(spec, num_envs, VecOptions { threads, autoreset }))
            .map_err(|error| of_vec_env(&error))?;
        Ok(Self {
            envs: Mutex::new(envs),
            front: 0,
        })
    }

    /// Starts an episode in each of `rows`, from the seed, start and goal at the same place of the other lists; where the seed is `None`, the next
    /// one, with the seed that an automatic reset would use. Returns which of the two sets of buffers holds the result, as
    /// [`step`](Self::step).
    #[pyo3(signature = (rows, *, seeds, starts, goals=None))]
    fn reset(
        &mut self,
        py: Python<'_>,
        rows: Vec<usize>,
        seeds: Vec<Option<u64>>,
        starts: Vec<Option<StartArgument>>,
        goals: Option<AnyArray<'_>>,
    ) -> PyResult<usize> {
        let envs = self
            .envs
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let options = row_options(envs.spec(), rows.len(), &starts, goals.as_ref())?;
        if seeds.len() != rows.len() {
            return Err(input(format!(
                "there are {} seeds for {} rows",
                seeds.len(),
                rows.len()
            )));
        }
        let (mut seeded, mut continuing) = (vec![], vec![]);
        for ((row, seed), options) in rows.into_iter().zip(seeds).zip(options) {
            match seed {
                Some(seed) => seeded.push(RowReset { row, seed, options }),
                None => continuing.push((row, options)),
            }
        }
        envs.copy_to_spare();
        let result = py.detach(|| {
            if !seeded.is_empty() {
                envs.reset_rows(&seeded)?;
            }
            if !continuing.is_empty() {
                envs.reset_rows_next(&continuing)?;
            }
            Ok(())
        });
        if let Err(error) = result {
            envs.swap_buffers();
            return Err(of_vec_env(&error));
        }
        self.front = 1 - self.front;
        Ok(self.front)
    }

    /// Applies one action per row, `[num_envs, action_dim]`. Returns which of the two sets of buffers, 0 or 1, holds
    /// the result; the other one keeps the batch before it.
    fn step(&mut self, py: Python<'_>, actions: AnyArray<'_>) -> PyResult<usize> {
        let envs = self
            .envs
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let shape = [Some(envs.len()), Some(envs.spec().action_dim())];
        let actions = checked("actions", actions.as_array(), &shape)?;
        envs.swap_buffers();
        let result = py.detach(|| envs.step(&actions).map(|_| ()));
        if let Err(error) = result {
            envs.swap_buffers();
            return Err(of_vec_env(&error));
        }
        self.front = 1 - self.front;
        Ok(self.front)
    }

    /// The buffers of the last batch, without a copy. They stay where they are for the life of this object, and the
    /// second step from now writes to them.
    fn buffers<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let buffers = PyDict::new(py);
        let owner = slf.as_any();
        let mut this = slf.borrow_mut();
        let envs = this.envs();
        let spec = envs.spec();
        let batch = envs.batch();
        let tables = [
            ("observation", &batch.observations, spec.observation_dim()),
            ("achieved_goal", &batch.achieved_goals, spec.goal_dim()),
            ("desired_goal", &batch.desired_goals, spec.goal_dim()),
            ("goal", &batch.goal_observations, spec.observation_dim()),
            (
                "final_observation",
                &batch.final_observations,
                spec.observation_dim(),
            ),
            (
                "final_desired_goal",
                &batch.final_desired_goals,
                spec.goal_dim(),
            ),
        ];
        for (name, data, width) in tables {
            // SAFETY: buffers are allocated with the environments and neither grow nor shrink; exchanging two sets
            // leaves their memory in place. Environments only write to them, in calls that lend out no reference.
            #[allow(unsafe_code)]
            let array = unsafe { borrowed_table(owner, data, width) };
            buffers.set_item(name, array)?;
        }
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let rewards = unsafe { borrowed_column(owner, &batch.rewards) };
        buffers.set_item("reward", rewards)?;
        Ok(buffers)
    }

    /// Copies of the flags of the last reset or step.
    fn flags<'py>(&mut self, py: Python<'py>) -> Flags<'py> {
        let batch = self.envs().batch();
        (
            PyArray1::from_slice(py, &batch.terminated),
            PyArray1::from_slice(py, &batch.truncated),
            PyArray1::from_slice(py, &batch.success),
            PyArray1::from_slice(py, &batch.reset),
        )
    }

    /// Number of the task of each row, -1 where there is none.
    fn tasks<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let envs = self.envs();
        (0..envs.len())
            .map(|row| {
                envs.env(row)
                    .and_then(telic_envs::GoalEnv::task)
                    .map_or(-1, |task| task as i64)
            })
            .collect::<Vec<_>>()
            .into_pyarray(py)
    }

    /// Scores of the running episodes beyond success, `[num_envs]` each.
    fn metrics<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let envs = self.envs();
        let rows: Vec<_> = (0..envs.len())
            .map(|row| {
                envs.env(row)
                    .map_or_else(Vec::new, telic_envs::GoalEnv::metrics)
            })
            .collect();
        columns(py, &rows)
    }

    /// Scores of the last finished episode of each row, `[num_envs]` each, 0 where there is none.
    fn final_metrics<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let envs = self.envs();
        let rows: Vec<_> = (0..envs.len())
            .map(|row| envs.final_metrics(row).to_vec())
            .collect();
        columns(py, &rows)
    }
}

fn columns<'py>(
    py: Python<'py>,
    rows: &[Vec<(&'static str, f64)>],
) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    let names = rows
        .iter()
        .find(|row| !row.is_empty())
        .map_or(&[][..], Vec::as_slice);
    for (index, (name, _)) in names.iter().enumerate() {
        let column: Vec<f64> = rows
            .iter()
            .map(|row| row.get(index).map_or(0.0, |(_, value)| *value))
            .collect();
        columns.set_item(*name, column.into_pyarray(py))?;
    }
    Ok(columns)
}
