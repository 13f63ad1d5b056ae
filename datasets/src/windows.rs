//! Windows of observations and actions with a segment of their future as the goal, as BESO
//! (Reuss et al. 2023) trains on.
//!
//! Of an episode with T transitions, every slice [k, k + W) of valid rows is a window, k = 0 … T − W. With
//! e = k + W, the goal is G consecutive observations from row r, drawn uniformly:
//!
//! - [`GoalRange::ThroughFinalState`]: r in e … max(e, T + 1 − G). Rows beyond the final state s_T repeat it, as
//!   evaluation does with its one goal frame. Every window has a goal, and s_T, which evaluation asks for, is trained on.
//! - [`GoalRange::Reference`]: r in e … T − G − 1; if e ≥ T − G the goal is G rows of zeros, written before
//!   normalisation. This is what the release does: its last frame is never a goal, and G + 1 windows of each
//!   episode have none.
//!
//! With [`WindowConfig::goal_horizon`] h > 0 r is at most e + h − 1: in long episodes most later rows say little about the next action, since what the
//! demonstrator was after has changed by then.
//!
//! With [`WindowConfig::short_windows`] the first W − 1 steps of an episode end a window too, of fewer steps.

use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::Rng;

use crate::clusters::Clusters;
use crate::row_table::RowTable;
use crate::{Dataset, FeatureView, Normalizer, SamplerError};

/// Rows that goal segments are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalRange {
    /// Up to and including the final state; see the docs of the module.
    #[default]
    ThroughFinalState,
    /// As the release of BESO; see the docs of the module.
    Reference,
}

/// Shape and content of windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowConfig {
    /// W, rows of a window.
    pub window: usize,
    /// G, observations of a goal.
    pub goal_length: usize,
    /// Where goals come from.
    pub goal_range: GoalRange,
    /// h, steps by which a goal may begin behind its window at most; 0 for the whole rest of the episode.
    pub goal_horizon: usize,
    /// Entries of an observation that are seen, in order; absent for all.
    pub observation_columns: Option<Vec<usize>>,
    /// Entries of an observation that survive in a goal, a subset of `observation_columns`; absent for all of them. The
    /// others are 0 after normalisation.
    pub goal_columns: Option<Vec<usize>>,
    /// Whether windows may begin before their episode. The steps that are missing in front repeat the first observation, with
    /// actions of 0, and are counted in [`WindowBatch::missing`].
    pub short_windows: bool,
    /// Share of the goals that are taken from an episode that passes a like state, see [`Clusters`]; they end with its last
    /// valid row.
    pub stitched: f64,
    /// Clusters of like states, for stitched goals.
    pub clusters: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        // Block-Push of BESO.
        Self {
            window: 5,
            goal_length: 1,
            goal_range: GoalRange::default(),
            goal_horizon: 0,
            observation_columns: None,
            goal_columns: None,
            short_windows: false,
            stitched: 0.0,
            clusters: 40,
        }
    }
}

/// A batch of windows. All tables are row-major and are reused from batch to batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowBatch {
    /// B, windows to sample.
    pub size: usize,
    /// W.
    pub window: usize,
    /// G.
    pub goal_length: usize,
    /// Entries that are seen of an observation.
    pub observation_dim: usize,
    /// Entries of an action.
    pub action_dim: usize,
    /// `[B, W, observation_dim]`.
    pub observations: Vec<f32>,
    /// `[B, W, action_dim]`.
    pub actions: Vec<f32>,
    /// `[B, G, observation_dim]`.
    pub goals: Vec<f32>,
    /// First row of each window in the dataset, `[B]`.
    pub rows: Vec<usize>,
    /// Steps in front of each window's first row that are missing, `[B]`; 0 but for short windows.
    pub missing: Vec<usize>,
    /// First row of each goal in the dataset, `None` for a goal of zeros, `[B]`.
    pub goal_rows: Vec<Option<usize>>,
}

impl WindowBatch {
    fn clear(&mut self) {
        self.rows.clear();
        self.missing.clear();
        self.goal_rows.clear();
    }

    /// An empty batch that asks for `size` windows. Its tables grow at the first use and never again.
    pub fn with_size(size: usize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }
}

/// Draws windows. Cheap to clone; the same generator gives the same batches.
#[derive(Clone, Debug)]
pub struct WindowSampler {
    dataset: Arc<Dataset>,
    slices: RowTable,
    dropped_episodes: Vec<usize>,
    /// Present where goals are stitched.
    clusters: Option<Arc<Clusters>>,
    config: WindowConfig,
    view: FeatureView,
    action_normalizer: Normalizer,
}

impl WindowSampler {
    /// A sampler over every episode.
    pub fn new(dataset: Arc<Dataset>, config: WindowConfig) -> Result<Self, SamplerError> {
        let episodes: Vec<usize> = (0..dataset.episodes().len()).collect();
        Self::over(dataset, &episodes, config)
    }

    /// A sampler over some episodes. Those with fewer than W transitions have no window unless windows may be short; they are
    /// listed by [`dropped_episodes`](Self::dropped_episodes).
    ///
    /// # Errors
    /// [`SamplerError::Setting`], [`SamplerError::Index`], [`SamplerError::NoSuchEpisode`], and
    /// [`SamplerError::Empty`] if no episode is long enough.
    pub fn over(
        dataset: Arc<Dataset>,
        episodes: &[usize],
        config: WindowConfig,
    ) -> Result<Self, SamplerError> {
        for (field, value) in [
            ("window", config.window),
            ("goal_length", config.goal_length),
        ] {
            if value == 0 {
                return Err(SamplerError::Setting {
                    field,
                    value: 0.0,
                    expected: "at least 1",
                });
            }
        }
        if !(0.0..=1.0).contains(&config.stitched) || config.clusters == 0 {
            return Err(SamplerError::Setting {
                field: "stitched",
                value: config.stitched,
                expected: "a share in 0..=1, of at least one cluster",
            });
        }
        dataset.check_episodes(episodes)?;
        let view = FeatureView {
            columns: config.observation_columns.clone(),
            goal_columns: config.goal_columns.clone(),
            normalizer: Normalizer::Identity,
        };
        view.check(dataset.observation_dim())?;
        let index = dataset.episodes();
        // A window is numbered by its first row; a short one has no first row of its own, so then all go by their last.
        let shortest = if config.short_windows {
            1
        } else {
            config.window
        };
        let (kept, dropped_episodes): (Vec<usize>, Vec<usize>) = episodes
            .iter()
            .partition(|&&episode| index.transitions(episode) >= shortest);
        if kept.is_empty() {
            let longest = episodes
                .iter()
                .map(|&episode| index.transitions(episode))
                .max()
                .unwrap_or(0);
            let reason = format!(
                "`window` is {}, the longest episode has {longest} transitions",
                config.window
            );
            return Err(SamplerError::Empty {
                what: "windows",
                reason,
            });
        }
        let slices = RowTable::new(kept.iter().map(|&episode| {
            (
                index.start(episode),
                index.transitions(episode) + 1 - shortest,
            )
        }));
        let clusters = (config.stitched > 0.0).then(|| {
            let ranges = kept
                .iter()
                .map(|&episode| (index.start(episode), index.transitions(episode)));
            Arc::new(Clusters::new(
                &dataset,
                &RowTable::new(ranges),
                config.clusters,
            ))
        });
        Ok(Self {
            clusters,
            slices,
            dropped_episodes,
            config,
            view,
            action_normalizer: Normalizer::Identity,
            dataset,
        })
    }

    /// Normalises while gathering. `observations` is for the selected entries and serves goals too.
    pub fn with_normalizers(
        mut self,
        observations: Normalizer,
        actions: Normalizer,
    ) -> Result<Self, SamplerError> {
        actions.check_width("action normaliser", self.dataset.action_dim())?;
        self.view.normalizer = observations;
        self.view.check(self.dataset.observation_dim())?;
        self.action_normalizer = actions;
        Ok(self)
    }

    /// The data.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The settings.
    pub fn config(&self) -> &WindowConfig {
        &self.config
    }

    /// What is seen of an observation and of a goal; a policy keeps it for inference.
    pub fn view(&self) -> &FeatureView {
        &self.view
    }

    /// The map of actions.
    pub fn action_normalizer(&self) -> &Normalizer {
        &self.action_normalizer
    }

    /// Entries that are seen of an observation.
    pub fn observation_dim(&self) -> usize {
        self.view.dim(self.dataset.observation_dim())
    }

    /// Windows to draw from.
    pub fn num_windows(&self) -> usize {
        self.slices.len()
    }

    /// Episodes that are too short for a window.
    pub fn dropped_episodes(&self) -> &[usize] {
        &self.dropped_episodes
    }

    /// First row of the goal of the window whose last row is `row`, `None` for a goal of zeros.
    fn draw_goal(&self, row: usize, rng: &mut Rng) -> Option<usize> {
        let index = self.dataset.episodes();
        if let Some(clusters) = &self.clusters
            && rng.random::<f64>() < self.config.stitched
        {
            return Some(clusters.draw_stitched(index, row, rng).goal);
        }
        let final_row = index.final_row(index.of(row));
        let goal_length = self.config.goal_length;
        let first = row + 1;
        let farthest = match self.config.goal_horizon {
            0 => usize::MAX,
            horizon => row.saturating_add(horizon),
        };
        match self.config.goal_range {
            GoalRange::ThroughFinalState => {
                let last = (final_row + 1).saturating_sub(goal_length).max(first);
                Some(rng.random_range(first..=last.min(farthest)))
            }
            // With the episode's rows 0 … T − 1 as the trajectory: s_T is no part of it.
            GoalRange::Reference => (first + goal_length < final_row).then(|| {
                let last = final_row - goal_length - 1;
                rng.random_range(first..=last.min(farthest))
            }),
        }
    }

    /// Fills a batch of `batch.size` windows. Allocates nothing once the batch has had this size.
    pub fn sample(&self, rng: &mut Rng, batch: &mut WindowBatch) {
        batch.clear();
        for _ in 0..batch.size {
            let window = rng.random_range(0..self.slices.len());
            self.push(window, rng, batch);
        }
        self.gather(batch);
    }

    /// Fills a batch with the given windows, each below [`num_windows`](Self::num_windows), in order; goals are drawn. For a
    /// pass over a validation set.
    pub fn sample_windows(&self, windows: &[usize], rng: &mut Rng, batch: &mut WindowBatch) {
        batch.size = windows.len();
        batch.clear();
        for &window in windows {
            self.push(window, rng, batch);
        }
        self.gather(batch);
    }

    /// Adds the place of a window, and draws its goal.
    fn push(&self, window: usize, rng: &mut Rng, batch: &mut WindowBatch) {
        let row = self.slices.row(window);
        let length = self.config.window;
        let (first, last) = if self.config.short_windows {
            let index = self.dataset.episodes();
            let start = index.start(index.of(row));
            ((row + 1).saturating_sub(length).max(start), row)
        } else {
            (row, row + length - 1)
        };
        batch.rows.push(first);
        batch.missing.push(length - (last + 1 - first));
        batch.goal_rows.push(self.draw_goal(last, rng));
    }

    /// Fills the tables of a batch from its `rows` and `goal_rows`.
    fn gather(&self, batch: &mut WindowBatch) {
        let index = self.dataset.episodes();
        let (observations, full_dim) = self.dataset.observation_rows();
        let (actions, action_dim) = self.dataset.action_rows();
        let dim = self.observation_dim();
        let WindowConfig {
            window,
            goal_length,
            ..
        } = self.config;
        batch.window = window;
        batch.goal_length = goal_length;
        batch.observation_dim = dim;
        batch.action_dim = action_dim;
        batch.observations.resize(batch.size * window * dim, 0.0);
        batch.goals.resize(batch.size * goal_length * dim, 0.0);
        batch.actions.clear();
        batch
            .actions
            .reserve_exact(batch.size * window * action_dim);

        let observation = |row: usize| &observations[row * full_dim..(row + 1) * full_dim];
        for ((&start, &missing), out) in batch
            .rows
            .iter()
            .zip(&batch.missing)
            .zip(batch.observations.chunks_exact_mut(window * dim))
        {
            for (step, out) in out.chunks_exact_mut(dim).enumerate() {
                self.view
                    .select(observation(start + step.saturating_sub(missing)), out);
            }
            let end = start + window - missing;
            batch
                .actions
                .resize(batch.actions.len() + missing * action_dim, 0.0);
            batch
                .actions
                .extend_from_slice(&actions[start * action_dim..end * action_dim]);
        }
        let goals = batch.goals.chunks_exact_mut(goal_length * dim);
        for (&goal_row, out) in batch.goal_rows.iter().zip(goals) {
            let Some(goal_row) = goal_row else {
                out.fill(0.0);
                continue;
            };
            let final_row = index.final_row(index.of(goal_row));
            for (row, out) in (goal_row..).zip(out.chunks_exact_mut(dim)) {
                self.view.select(observation(row.min(final_row)), out);
            }
        }
        self.view.normalizer.apply(&mut batch.observations);
        self.view.normalizer.apply(&mut batch.goals);
        for goal in batch.goals.chunks_exact_mut(dim) {
            self.view.hide(goal);
        }
        self.action_normalizer.apply(&mut batch.actions);
    }
}
