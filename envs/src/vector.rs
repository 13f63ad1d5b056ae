//! Stepping many environments at once.
//!
//! Every row owns its environment and its seeds, so a row gives the same bits as the same environment stepped
//! alone, for any number of rows and threads. Buffers are allocated once and reused; a step allocates nothing
//! except where a row resets.

use rayon::{ThreadPool, ThreadPoolBuilder};
use telic_seed::Seed;

use crate::env::checked_action;
use crate::{EnvError, EnvSpec, GoalEnv, ResetOptions};

/// What happens to a row whose episode has ended, as Gymnasium 1.x defines it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoresetMode {
    /// The next step resets the row: its action is ignored, its reward is 0, its observation is the first of the
    /// new episode.
    #[default]
    NextStep,
    /// The row is reset within the step that ended the episode: the observation is the first of the new episode,
    /// the last one of the old is in [`StepBatch::final_observations`].
    SameStep,
    /// The caller resets rows; stepping a row whose episode has ended is an error.
    Disabled,
}

/// How a [`VecEnv`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VecOptions {
    /// Threads that step; 1 steps on the calling thread.
    pub threads: usize,
    /// What happens when an episode ends.
    pub autoreset: AutoresetMode,
}

impl Default for VecOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            autoreset: AutoresetMode::default(),
        }
    }
}

/// A failure of a [`VecEnv`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VecError {
    /// No rows or no threads.
    #[error("a batch of environments needs at least one {what}, got 0")]
    Empty {
        /// What is missing: `row` or `thread`.
        what: &'static str,
    },
    /// The flat actions have the wrong length.
    #[error(
        "`{id}` × {rows} takes {expected} action numbers ({rows} rows of {action_dim}), got {found}"
    )]
    ActionLength {
        /// The environment.
        id: &'static str,
        /// Number of rows.
        rows: usize,
        /// Numbers per row.
        action_dim: usize,
        /// Numbers taken.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// There is no such row.
    #[error("row {row} does not exist; there are {rows}, numbered from 0")]
    UnknownRow {
        /// What was asked for.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// A row was stepped after its episode ended, with [`AutoresetMode::Disabled`].
    #[error("the episode of row {row} has ended; reset the row before the next step")]
    Finished {
        /// The row.
        row: usize,
    },
    /// One environment failed.
    #[error("row {row}: {source}")]
    Row {
        /// The row.
        row: usize,
        /// What its environment says.
        source: EnvError,
    },
    /// The threads cannot be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The pool's words.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Everything a step returns, flat and row-major; `n` is the number of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepBatch {
    /// `[n * observation_dim]`.
    pub observations: Vec<f32>,
    /// Achieved goals, `[n * goal_dim]`.
    pub achieved_goals: Vec<f32>,
    /// Desired goals, `[n * goal_dim]`.
    pub desired_goals: Vec<f32>,
    /// Goals as full observations, `[n * observation_dim]`.
    pub goal_observations: Vec<f32>,
    /// `[n]`.
    pub rewards: Vec<f32>,
    /// The task ended in this step, `[n]`.
    pub terminated: Vec<bool>,
    /// The step limit was reached in this step, `[n]`.
    pub truncated: Vec<bool>,
    /// The desired goal is reached in the state after this step (before an automatic reset), `[n]`.
    pub success: Vec<bool>,
    /// The row was reset during this step, `[n]`.
    pub reset: Vec<bool>,
    /// Last observation of the episode that ended in this step, `[n * observation_dim]`; meaningful where
    /// `terminated` or `truncated`.
    pub final_observations: Vec<f32>,
    /// Desired goal of the episode that ended in this step, `[n * goal_dim]`; meaningful where `terminated` or
    /// `truncated`.
    pub final_desired_goals: Vec<f32>,
}

impl StepBatch {
    /// Copies everything, in place: the memory that was lent out stays where it is.
    fn copy_from(&mut self, other: &Self) {
        let Self {
            observations,
            achieved_goals,
            desired_goals,
            goal_observations,
            rewards,
            terminated,
            truncated,
            success,
            reset,
            final_observations,
            final_desired_goals,
        } = self;
        observations.copy_from_slice(&other.observations);
        achieved_goals.copy_from_slice(&other.achieved_goals);
        desired_goals.copy_from_slice(&other.desired_goals);
        goal_observations.copy_from_slice(&other.goal_observations);
        rewards.copy_from_slice(&other.rewards);
        terminated.copy_from_slice(&other.terminated);
        truncated.copy_from_slice(&other.truncated);
        success.copy_from_slice(&other.success);
        reset.copy_from_slice(&other.reset);
        final_observations.copy_from_slice(&other.final_observations);
        final_desired_goals.copy_from_slice(&other.final_desired_goals);
    }
}

/// One environment of a batch.
struct Row {
    env: Box<dyn GoalEnv>,
    seed: Seed,
    options: ResetOptions,
    /// Episodes begun since the row was last given a seed.
    episodes: u64,
    started: bool,
    finished: bool,
    /// Scores of the last finished episode.
    final_metrics: Vec<(&'static str, f64)>,
    error: Option<EnvError>,
}

impl Row {
    fn begin(&mut self, seed: Seed, options: &ResetOptions) -> Result<(), EnvError> {
        self.env.reset(seed.value(), options)?;
        self.seed = seed;
        self.options.clone_from(options);
        self.episodes = 1;
        self.started = true;
        self.finished = false;
        Ok(())
    }

    fn begin_next(&mut self) -> Result<(), EnvError> {
        let seed = self.seed.child("episode").index(self.episodes);
        self.env.reset(seed.value(), &self.options)?;
        self.episodes += 1;
        self.finished = false;
        Ok(())
    }
}

/// A run of rows and the part of the buffers that belongs to them.
struct Shard<'a> {
    first: usize,
    rows: &'a mut [Row],
    observations: &'a mut [f32],
    achieved_goals: &'a mut [f32],
    desired_goals: &'a mut [f32],
    goal_observations: &'a mut [f32],
    rewards: &'a mut [f32],
    terminated: &'a mut [bool],
    truncated: &'a mut [bool],
    success: &'a mut [bool],
    reset: &'a mut [bool],
    final_observations: &'a mut [f32],
    final_desired_goals: &'a mut [f32],
}

impl<'a> Shard<'a> {
    fn of(rows: &'a mut [Row], batch: &'a mut StepBatch) -> Self {
        Self {
            first: 0,
            rows,
            observations: &mut batch.observations,
            achieved_goals: &mut batch.achieved_goals,
            desired_goals: &mut batch.desired_goals,
            goal_observations: &mut batch.goal_observations,
            rewards: &mut batch.rewards,
            terminated: &mut batch.terminated,
            truncated: &mut batch.truncated,
            success: &mut batch.success,
            reset: &mut batch.reset,
            final_observations: &mut batch.final_observations,
            final_desired_goals: &mut batch.final_desired_goals,
        }
    }

    fn split_at(self, rows: usize, spec: &EnvSpec) -> (Self, Self) {
        let (observation, goal) = (rows * spec.observation_dim(), rows * spec.goal_dim());
        let rows_of = self.rows.split_at_mut(rows);
        let observations = self.observations.split_at_mut(observation);
        let achieved_goals = self.achieved_goals.split_at_mut(goal);
        let desired_goals = self.desired_goals.split_at_mut(goal);
        let goal_observations = self.goal_observations.split_at_mut(observation);
        let rewards = self.rewards.split_at_mut(rows);
        let terminated = self.terminated.split_at_mut(rows);
        let truncated = self.truncated.split_at_mut(rows);
        let success = self.success.split_at_mut(rows);
        let reset = self.reset.split_at_mut(rows);
        let final_observations = self.final_observations.split_at_mut(observation);
        let final_desired_goals = self.final_desired_goals.split_at_mut(goal);
        (
            Self {
                first: self.first,
                rows: rows_of.0,
                observations: observations.0,
                achieved_goals: achieved_goals.0,
                desired_goals: desired_goals.0,
                goal_observations: goal_observations.0,
                rewards: rewards.0,
                terminated: terminated.0,
                truncated: truncated.0,
                success: success.0,
                reset: reset.0,
                final_observations: final_observations.0,
                final_desired_goals: final_desired_goals.0,
            },
            Self {
                first: self.first + rows,
                rows: rows_of.1,
                observations: observations.1,
                achieved_goals: achieved_goals.1,
                desired_goals: desired_goals.1,
                goal_observations: goal_observations.1,
                rewards: rewards.1,
                terminated: terminated.1,
                truncated: truncated.1,
                success: success.1,
                reset: reset.1,
                final_observations: final_observations.1,
                final_desired_goals: final_desired_goals.1,
            },
        )
    }

    /// Runs `work` on every row, in parts of at most `grain` rows that any thread of the current pool may take.
    fn for_each<F>(mut self, spec: &EnvSpec, grain: usize, work: &F)
    where
        F: Fn(&mut Self, usize) + Sync,
    {
        let rows = self.rows.len();
        if rows > grain {
            let (left, right) = self.split_at(rows / 2, spec);
            rayon::join(
                || left.for_each(spec, grain, work),
                || right.for_each(spec, grain, work),
            );
        } else {
            for row in 0..rows {
                work(&mut self, row);
            }
        }
    }

    /// Copies what row `row` of this shard shows now into the buffers.
    fn observe(&mut self, row: usize, spec: &EnvSpec) {
        let env = &self.rows[row].env;
        let observation = chunk(row, spec.observation_dim());
        let goal = chunk(row, spec.goal_dim());
        self.observations[observation.clone()].copy_from_slice(env.observation());
        self.goal_observations[observation].copy_from_slice(env.goal_observation());
        self.desired_goals[goal.clone()].copy_from_slice(env.desired_goal());
        spec.goal
            .extract(env.observation(), &mut self.achieved_goals[goal]);
    }

    fn step(&mut self, row: usize, spec: &EnvSpec, autoreset: AutoresetMode, actions: &[f32]) {
        let result = self.try_step(row, spec, autoreset, actions);
        self.rows[row].error = result.err();
        self.observe(row, spec);
    }

    fn try_step(
        &mut self,
        row: usize,
        spec: &EnvSpec,
        autoreset: AutoresetMode,
        actions: &[f32],
    ) -> Result<(), EnvError> {
        let state = &mut self.rows[row];
        self.reset[row] = false;
        if autoreset == AutoresetMode::NextStep && state.finished {
            state.begin_next()?;
            self.rewards[row] = 0.0;
            self.terminated[row] = false;
            self.truncated[row] = false;
            self.success[row] = false;
            self.reset[row] = true;
            return Ok(());
        }
        let step = state
            .env
            .step(&actions[chunk(self.first + row, spec.action_dim())])?;
        self.rewards[row] = step.reward;
        self.terminated[row] = step.terminated;
        self.truncated[row] = step.truncated;
        self.success[row] = step.success;
        if step.terminated || step.truncated {
            state.finished = true;
            state.final_metrics = state.env.metrics();
            self.final_observations[chunk(row, spec.observation_dim())]
                .copy_from_slice(state.env.observation());
            self.final_desired_goals[chunk(row, spec.goal_dim())]
                .copy_from_slice(state.env.desired_goal());
            if autoreset == AutoresetMode::SameStep {
                state.begin_next()?;
                self.reset[row] = true;
            }
        }
        Ok(())
    }
}

fn chunk(row: usize, width: usize) -> std::ops::Range<usize> {
    row * width..(row + 1) * width
}

/// One row to reset, for [`VecEnv::reset_rows`].
#[derive(Clone, Debug, PartialEq)]
pub struct RowReset {
    /// The row.
    pub row: usize,
    /// Seed of its environment, as [`GoalEnv::reset`] takes it.
    pub seed: u64,
    /// Start, task and goal.
    pub options: ResetOptions,
}

/// Many instances of one environment.
///
/// ```no_run
/// use telic_envs::{ResetOptions, VecEnv, VecOptions};
///
/// let spec = telic_envs::spec("point-maze-medium")?;
/// let mut envs = VecEnv::new(spec, 64, VecOptions { threads: 2, ..VecOptions::default() })?;
/// envs.reset(7, &ResetOptions::default())?;
/// let actions = vec![0.5; 64 * spec.action_dim()];
/// let batch = envs.step(&actions)?;
/// assert_eq!(batch.rewards.len(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct VecEnv {
    spec: &'static EnvSpec,
    rows: Vec<Row>,
    batch: StepBatch,
    /// The other set of buffers, if [`VecEnv::swap_buffers`] was ever called.
    spare: Option<StepBatch>,
    options: VecOptions,
    pool: Option<ThreadPool>,
    /// The process that has the threads of the pool; a copy of it made by `fork` has none of them.
    process: u32,
    /// Rows that one thread of the pool takes at a time.
    grain: usize,
    clipped: Vec<f32>,
}

impl VecEnv {
    /// Builds `n` instances.
    pub fn new(spec: &'static EnvSpec, n: usize, options: VecOptions) -> Result<Self, VecError> {
        if n == 0 {
            return Err(VecError::Empty { what: "row" });
        }
        if options.threads == 0 {
            return Err(VecError::Empty { what: "thread" });
        }
        let rows = (0..n)
            .map(|row| {
                Ok(Row {
                    env: (spec.make)().map_err(|source| VecError::Row { row, source })?,
                    seed: Seed::new(0),
                    options: ResetOptions::default(),
                    episodes: 0,
                    started: false,
                    finished: false,
                    final_metrics: Vec::new(),
                    error: None,
                })
            })
            .collect::<Result<Vec<_>, VecError>>()?;
        let threads = options.threads;
        let pool = (threads > 1)
            .then(|| {
                ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("envs-{index}"))
                    .build()
                    .map_err(|source| VecError::Threads { threads, source })
            })
            .transpose()?;
        let (observations, goals) = (n * spec.observation_dim(), n * spec.goal_dim());
        Ok(Self {
            spec,
            rows,
            batch: StepBatch {
                observations: vec![0.0; observations],
                achieved_goals: vec![0.0; goals],
                desired_goals: vec![0.0; goals],
                goal_observations: vec![0.0; observations],
                rewards: vec![0.0; n],
                terminated: vec![false; n],
                truncated: vec![false; n],
                success: vec![false; n],
                reset: vec![false; n],
                final_observations: vec![0.0; observations],
                final_desired_goals: vec![0.0; goals],
            },
            spare: None,
            options,
            pool,
            // A few parts per thread even out rows of different cost.
            grain: n.div_ceil(threads * 4),
            process: std::process::id(),
            clipped: vec![0.0; spec.action_dim()],
        })
    }

    /// What the rows are.
    pub fn spec(&self) -> &'static EnvSpec {
        self.spec
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How it runs.
    pub fn options(&self) -> VecOptions {
        self.options
    }

    /// The environment of a row.
    pub fn env(&self, row: usize) -> Option<&dyn GoalEnv> {
        self.rows.get(row).map(|row| row.env.as_ref())
    }

    /// Scores ([`GoalEnv::metrics`]) of the last finished episode of a row; empty before the first.
    pub fn final_metrics(&self, row: usize) -> &[(&'static str, f64)] {
        self.rows.get(row).map_or(&[], |row| &row.final_metrics)
    }

    /// What the last reset or step returned.
    pub fn batch(&self) -> &StepBatch {
        &self.batch
    }

    /// Starts an episode in every row: row `i` is reset with the seed `Seed::new(seed).index(i)`, and its `k`-th
    /// automatic reset (from 1) with `.child("episode").index(k)` of that.
    ///
    /// # Errors
    /// [`VecError::Row`] of the lowest row that fails; the rows that did not fail are reset.
    pub fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<&StepBatch, VecError> {
        let resets: Vec<_> = (0..self.rows.len())
            .map(|row| RowReset {
                row,
                seed: Seed::new(seed).index(row as u64).value(),
                options: options.clone(),
            })
            .collect();
        self.reset_rows(&resets)
    }

    /// Starts an episode in some rows; the others are left as they are. Of two resets of one row the last counts.
    ///
    /// # Errors
    /// [`VecError::UnknownRow`], before anything is reset; [`VecError::Row`] of the lowest row that fails, when the
    /// rows that did not fail are reset.
    pub fn reset_rows(&mut self, resets: &[RowReset]) -> Result<&StepBatch, VecError> {
        let rows = self.rows.len();
        if let Some(reset) = resets.iter().find(|reset| reset.row >= rows) {
            return Err(VecError::UnknownRow {
                row: reset.row,
                rows,
            });
        }
        let mut by_row: Vec<Option<&RowReset>> = vec![None; rows];
        for reset in resets {
            by_row[reset.row] = Some(reset);
        }
        self.reset_where(&|state, row| {
            let reset = by_row[row]?;
            Some(state.begin(Seed::new(reset.seed), &reset.options))
        })
    }

    /// Applies one action per row, `[n * action_dim]`, row-major.
    ///
    /// # Errors
    /// Wrong lengths, numbers that are not finite, rows that were never reset and, with
    /// [`AutoresetMode::Disabled`], rows whose episode has ended are all found before any row is stepped: nothing
    /// has changed then. [`VecError::Row`] also carries what an environment says while it steps or resets.
    pub fn step(&mut self, actions: &[f32]) -> Result<&StepBatch, VecError> {
        let (id, action_dim, rows) = (self.spec.id, self.spec.action_dim(), self.rows.len());
        if actions.len() != rows * action_dim {
            return Err(VecError::ActionLength {
                id,
                rows,
                action_dim,
                expected: rows * action_dim,
                found: actions.len(),
            });
        }
        for (row, (state, action)) in self
            .rows
            .iter()
            .zip(actions.chunks_exact(action_dim))
            .enumerate()
        {
            if !state.started {
                return Err(VecError::Row {
                    row,
                    source: EnvError::NotReset { id },
                });
            }
            if state.finished && self.options.autoreset == AutoresetMode::Disabled {
                return Err(VecError::Finished { row });
            }
            checked_action(id, action, &mut self.clipped)
                .map_err(|source| VecError::Row { row, source })?;
        }
        let (spec, autoreset) = (self.spec, self.options.autoreset);
        self.run(&|shard, row| shard.step(row, spec, autoreset, actions));
        self.checked()
    }

    /// Starts the next episode in some rows: with the seed that an automatic reset would use, and with other options.
    ///
    /// # Errors
    /// As [`reset_rows`](Self::reset_rows); [`EnvError::NotReset`] for a row that never had a seed.
    pub fn reset_rows_next(
        &mut self,
        resets: &[(usize, ResetOptions)],
    ) -> Result<&StepBatch, VecError> {
        let (id, rows) = (self.spec.id, self.rows.len());
        let mut by_row: Vec<Option<&ResetOptions>> = vec![None; rows];
        for (row, options) in resets {
            match self.rows.get(*row) {
                None => return Err(VecError::UnknownRow { row: *row, rows }),
                Some(state) if !state.started => {
                    return Err(VecError::Row {
                        row: *row,
                        source: EnvError::NotReset { id },
                    });
                }
                Some(_) => by_row[*row] = Some(options),
            }
        }
        self.reset_where(&|state, row| {
            let options = by_row[row]?;
            state.options.clone_from(options);
            Some(state.begin_next())
        })
    }

    /// Exchanges the buffers with a second set, so that what the last step or reset returned stays as it is while the
    /// next step writes. A step fills every row; a reset only the rows that it resets, so this belongs
    /// right before a step. [`StepBatch::final_observations`] and its companion are filled where an episode ended.
    pub fn swap_buffers(&mut self) {
        let spare = self.spare.get_or_insert_with(|| self.batch.clone());
        std::mem::swap(&mut self.batch, spare);
    }

    /// [`swap_buffers`](Self::swap_buffers) with what the batch shows in both sets: this belongs right before a reset of some rows, the others of
    /// which are to show what they did.
    pub fn copy_to_spare(&mut self) {
        self.swap_buffers();
        if let Some(shown) = &self.spare {
            self.batch.copy_from(shown);
        }
    }

    /// Resets the rows for which `begin` returns something, and updates what the batch shows of them.
    fn reset_where<F>(&mut self, begin: &F) -> Result<&StepBatch, VecError>
    where
        F: Fn(&mut Row, usize) -> Option<Result<(), EnvError>> + Sync,
    {
        let spec = self.spec;
        self.run(&|shard, row| {
            shard.reset[row] = false;
            if let Some(result) = begin(&mut shard.rows[row], shard.first + row) {
                shard.rows[row].error = result.err();
                shard.rewards[row] = 0.0;
                shard.terminated[row] = false;
                shard.truncated[row] = false;
                shard.success[row] = false;
                shard.reset[row] = true;
                shard.observe(row, spec);
            }
        });
        self.checked()
    }

    fn run<F>(&mut self, work: &F)
    where
        F: Fn(&mut Shard<'_>, usize) + Sync,
    {
        /// Never divided.
        const ALL: usize = usize::MAX;
        let (spec, grain) = (self.spec, self.grain);
        let shard = Shard::of(&mut self.rows, &mut self.batch);
        match &self.pool {
            Some(pool) if self.process == std::process::id() => {
                pool.install(|| shard.for_each(spec, grain, work));
            }
            _ => shard.for_each(spec, ALL, work),
        }
    }

    fn checked(&mut self) -> Result<&StepBatch, VecError> {
        for (row, state) in self.rows.iter_mut().enumerate() {
            if let Some(source) = state.error.take() {
                return Err(VecError::Row { row, source });
            }
        }
        Ok(&self.batch)
    }
}
