//! Transitions with goals chosen in hindsight, as OGBench (Park et al. 2025) samples them.
//!
//! For a valid row i whose episode has its last valid row at E, and u uniform in [0, 1):
//!
//! - trajectory goal, geometric: row min(i + k, E) with P(k) = γ^(k−1) (1 − γ), k ≥ 1;
//! - trajectory goal, uniform: row round(min(i + 1, E) u + E (1 − u)), half to even, so that the two ends
//!   of the range have half the weight of a row inside;
//! - random goal: any valid row of the sampled episodes;
//! - current goal: row i.
//!
//! A share of the trajectory goals may be [stitched](Clusters). The goal of the value and the goal of the actor are drawn
//! independently. With success = (value goal row is i), the reward is success − 1 (or success, where rewards are not negative) and
//! the mask is 1 − success.

use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::Rng;

use crate::clusters::{Clusters, Stitched};
use crate::gather::{gather, prefetch};
use crate::geometric::Geometric;
use crate::row_table::RowTable;
use crate::{Dataset, FeatureView, Normalizer, SamplerError};

/// Where goals come from, as probabilities that add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoalMix {
    /// The row itself.
    pub current: f64,
    /// A later row of the same episode.
    pub trajectory: f64,
    /// Any valid row.
    pub random: f64,
    /// Distance of a trajectory goal: geometric with the discount, or uniform over the rest of the episode.
    pub geometric: bool,
    /// Share of the trajectory goals that are taken from an episode that passes a like state, see [`Clusters`].
    #[serde(default)]
    pub stitched: f64,
}

impl GoalMix {
    /// Goals of the same episode only, uniform over what is left of it: the default of every actor in OGBench.
    pub const UNIFORM_FUTURE: Self = Self {
        current: 0.0,
        trajectory: 1.0,
        random: 0.0,
        geometric: false,
        stitched: 0.0,
    };

    fn check(&self, field: &'static str) -> Result<(), SamplerError> {
        let Self {
            current,
            trajectory,
            random,
            stitched,
            ..
        } = *self;
        if !(0.0..=1.0).contains(&stitched) {
            return Err(SamplerError::Setting {
                field: "stitched",
                value: stitched,
                expected: "a share in 0..=1",
            });
        }
        let sum = current + trajectory + random;
        let each = [current, trajectory, random]
            .iter()
            .all(|p| (0.0..=1.0).contains(p));
        if each && (sum - 1.0).abs() < 1e-6 {
            Ok(())
        } else {
            Err(SamplerError::Mixture {
                field,
                current,
                trajectory,
                random,
                sum,
            })
        }
    }
}

/// How transitions are relabelled with goals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HindsightConfig {
    /// Goals of the value function, which also decide reward and mask.
    pub value: GoalMix,
    /// Goals of the actor.
    pub actor: GoalMix,
    /// γ of geometric distances, in 0..1.
    pub discount: f64,
    /// Rewards −1 and 0 (at the goal) in place of 0 and 1.
    pub negative_rewards: bool,
    /// n, steps of play whose rewards are added up before a value follows them, at least 1 and fewer at the end of an episode:
    /// n-step returns, as for offline goals by Park et al. 2025 (arXiv:2506.04168).
    pub n_step: usize,
    /// Clusters of like states, for stitched goals. Published: 20, 40 and 80 for small, medium and large mazes.
    pub clusters: usize,
}

impl Default for HindsightConfig {
    fn default() -> Self {
        // GCIVL, GCIQL and HIQL of OGBench.
        Self {
            value: GoalMix {
                current: 0.2,
                trajectory: 0.5,
                random: 0.3,
                geometric: true,
                stitched: 0.0,
            },
            actor: GoalMix::UNIFORM_FUTURE,
            discount: 0.99,
            negative_rewards: true,
            n_step: 1,
            clusters: 40,
        }
    }
}

impl HindsightConfig {
    /// Whether some goals are stitched.
    fn is_stitched(&self) -> bool {
        self.value.stitched > 0.0 || self.actor.stitched > 0.0
    }

    /// Checks probabilities and discount.
    pub fn check(&self) -> Result<(), SamplerError> {
        self.value.check("value")?;
        self.actor.check("actor")?;
        if self.clusters == 0 {
            return Err(SamplerError::Setting {
                field: "clusters",
                value: 0.0,
                expected: "at least 1",
            });
        }
        if self.n_step == 0 {
            return Err(SamplerError::Setting {
                field: "n_step",
                value: 0.0,
                expected: "at least 1",
            });
        }
        if (0.0..1.0).contains(&self.discount) {
            Ok(())
        } else {
            let expected = "a number in 0..1";
            Err(SamplerError::Setting {
                field: "discount",
                value: self.discount,
                expected,
            })
        }
    }
}

/// A batch of transitions with goals. All tables are row-major and are reused from batch to batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransitionBatch {
    /// Rows to sample.
    pub size: usize,
    /// Entries that are seen of an observation.
    pub observation_dim: usize,
    /// Entries of an action.
    pub action_dim: usize,
    /// `[size, observation_dim]`.
    pub observations: Vec<f32>,
    /// `[size, action_dim]`.
    pub actions: Vec<f32>,
    /// `[size, observation_dim]`.
    pub next_observations: Vec<f32>,
    /// Goal of the value function as an observation, `[size, observation_dim]`.
    pub value_goals: Vec<f32>,
    /// Goal of the actor as an observation, `[size, observation_dim]`.
    pub actor_goals: Vec<f32>,
    /// Reward towards the value goal, `[size]`; of n steps Σᵢ γⁱ rᵢ, up to where the goal is reached.
    pub rewards: Vec<f32>,
    /// 0 where the value goal is reached and nothing is bootstrapped, else 1, or γᵏ⁻¹ after k steps, `[size]`.
    pub masks: Vec<f32>,
    /// Observations after the steps of the rewards if those are several, `[size, observation_dim]`, else empty.
    pub later_observations: Vec<f32>,
    /// Row of each of these observations, `[size]`, or empty with them.
    pub later_rows: Vec<usize>,
    /// Row of the dataset that each transition starts from, `[size]`.
    pub rows: Vec<usize>,
    /// Row of each value goal, `[size]`.
    pub value_goal_rows: Vec<usize>,
    /// Row of each actor goal, `[size]`.
    pub actor_goal_rows: Vec<usize>,
}

impl TransitionBatch {
    /// An empty batch that asks for `size` rows. Its tables grow at the first use and never again.
    pub fn with_size(size: usize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// Steps of play from transition `i` to the observation whose value follows its reward.
    pub fn steps(&self, i: usize) -> usize {
        self.later_rows
            .get(i)
            .map_or(1, |later| later - self.rows[i])
    }

    /// The observations whose values follow the rewards, `[size, observation_dim]`: the next ones, or those n steps on.
    pub fn bootstrap_observations(&self) -> &[f32] {
        if self.later_observations.is_empty() {
            &self.next_observations
        } else {
            &self.later_observations
        }
    }
}

/// Draws transitions with goals. Cheap to clone; the same generator gives the same batches.
#[derive(Clone, Debug)]
pub struct HindsightSampler {
    dataset: Arc<Dataset>,
    valid_rows: RowTable,
    config: HindsightConfig,
    /// Distances of geometric goals.
    distances: Geometric,
    /// Present where goals are stitched.
    clusters: Option<Arc<Clusters>>,
    features: FeatureView,
    action_normalizer: Normalizer,
}

impl HindsightSampler {
    /// A sampler over every episode.
    pub fn new(dataset: Arc<Dataset>, config: HindsightConfig) -> Result<Self, SamplerError> {
        let episodes: Vec<usize> = (0..dataset.episodes().len()).collect();
        Self::over(dataset, &episodes, config)
    }

    /// A sampler over some episodes: transitions and random goals come from these only.
    pub fn over(
        dataset: Arc<Dataset>,
        episodes: &[usize],
        config: HindsightConfig,
    ) -> Result<Self, SamplerError> {
        config.check()?;
        dataset.check_episodes(episodes)?;
        let index = dataset.episodes();
        let valid_rows = RowTable::new(
            episodes
                .iter()
                .map(|&episode| (index.start(episode), index.transitions(episode))),
        );
        let clusters = config
            .is_stitched()
            .then(|| Arc::new(Clusters::new(&dataset, &valid_rows, config.clusters)));
        Ok(Self {
            valid_rows,
            clusters,
            config,
            distances: Geometric::new(config.discount),
            features: FeatureView::default(),
            action_normalizer: Normalizer::Identity,
            dataset,
        })
    }

    /// Selects and normalises while gathering: observations, next observations and goals as `features` shows them, actions by
    /// `actions`.
    pub fn with_features(
        mut self,
        features: FeatureView,
        actions: Normalizer,
    ) -> Result<Self, SamplerError> {
        features.check(self.dataset.observation_dim())?;
        actions.check_width("action normaliser", self.dataset.action_dim())?;
        self.features = features;
        self.action_normalizer = actions;
        Ok(self)
    }

    /// The data.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The settings.
    pub fn config(&self) -> &HindsightConfig {
        &self.config
    }

    /// Transitions to draw from.
    pub fn num_transitions(&self) -> usize {
        self.valid_rows.len()
    }

    /// The n-th valid row, in the order of the sampled episodes, `n` below [`num_transitions`](Self::num_transitions).
    pub fn valid_row(&self, n: usize) -> usize {
        self.valid_rows.row(n)
    }

    /// A valid row, each as likely as any other.
    pub fn draw_row(&self, rng: &mut Rng) -> usize {
        self.valid_rows
            .row(rng.random_range(0..self.valid_rows.len()))
    }

    /// A goal row for a valid row.
    pub fn draw_goal(&self, row: usize, mix: &GoalMix, rng: &mut Rng) -> usize {
        self.draw_goal_up_to(self.dataset.episodes().end_row(row), row, mix, rng)
    }

    /// A goal row for a valid row whose episode has its last valid row at `end`.
    fn draw_goal_up_to(&self, end: usize, row: usize, mix: &GoalMix, rng: &mut Rng) -> usize {
        let which: f64 = rng.random();
        if which < mix.current {
            row
        } else if which < mix.current + mix.trajectory {
            match self.draw_stitched(row, mix, rng) {
                Some(stitched) => stitched.goal,
                None => self.draw_future_up_to(end, row, mix.geometric, rng),
            }
        } else {
            self.draw_row(rng)
        }
    }

    /// A goal behind a like state of any episode, for the share of trajectory goals that are stitched, see [`Clusters`]. Where
    /// nothing is stitched, nothing is drawn.
    pub fn draw_stitched(&self, row: usize, mix: &GoalMix, rng: &mut Rng) -> Option<Stitched> {
        let clusters = self.clusters.as_ref().filter(|_| mix.stitched > 0.0)?;
        if rng.random::<f64>() >= mix.stitched {
            return None;
        }
        Some(clusters.draw_stitched(self.dataset.episodes(), row, rng))
    }

    /// A row of the rest of the episode of a valid row: never the row itself unless it is the last valid one.
    pub fn draw_future(&self, row: usize, geometric: bool, rng: &mut Rng) -> usize {
        self.draw_future_up_to(self.dataset.episodes().end_row(row), row, geometric, rng)
    }

    fn draw_future_up_to(&self, end: usize, row: usize, geometric: bool, rng: &mut Rng) -> usize {
        let u: f64 = rng.random();
        if geometric {
            row + self.distances.steps(u, end - row)
        } else {
            let first = (row + 1).min(end);
            half_to_even(first as f64 * u + end as f64 * (1.0 - u))
        }
    }

    /// Fills a batch of `batch.size` rows. Allocates nothing once the batch has had this size.
    pub fn sample(&self, rng: &mut Rng, batch: &mut TransitionBatch) {
        batch.rows.clear();
        batch.value_goal_rows.clear();
        batch.actor_goal_rows.clear();
        let (observations, actions) = (self.dataset.observation_rows(), self.dataset.action_rows());
        for _ in 0..batch.size {
            let n = rng.random_range(0..self.valid_rows.len());
            let (row, end) = self.valid_rows.row_and_last(n);
            batch.rows.push(row);
            let value_goal = self.draw_goal_up_to(end, row, &self.config.value, rng);
            batch.value_goal_rows.push(value_goal);
            let actor_goal = self.draw_goal_up_to(end, row, &self.config.actor, rng);
            batch.actor_goal_rows.push(actor_goal);
            for row in [row, row + 1, value_goal, actor_goal] {
                prefetch(observations, row);
            }
            prefetch(actions, row);
        }
        self.gather(batch);
    }

    /// Fills a batch from its `rows`, `value_goal_rows` and `actor_goal_rows`, which the caller has chosen.
    ///
    /// Panics if the three differ in length, or on a row that is not in the dataset or not valid.
    pub fn gather(&self, batch: &mut TransitionBatch) {
        let TransitionBatch {
            rows,
            value_goal_rows,
            actor_goal_rows,
            ..
        } = batch;
        assert!(
            rows.len() == value_goal_rows.len() && rows.len() == actor_goal_rows.len(),
            "{} rows, {} value goals, {} actor goals",
            rows.len(),
            value_goal_rows.len(),
            actor_goal_rows.len()
        );
        batch.size = rows.len();
        batch.observation_dim = self.features.dim(self.dataset.observation_dim());
        batch.action_dim = self.dataset.action_dim();
        self.gather_observations(rows.iter().copied(), &mut batch.observations);
        self.gather_observations(rows.iter().map(|row| row + 1), &mut batch.next_observations);
        self.gather_goals(value_goal_rows.iter().copied(), &mut batch.value_goals);
        self.gather_goals(actor_goal_rows.iter().copied(), &mut batch.actor_goals);
        gather(
            self.dataset.action_rows(),
            rows.iter().copied(),
            &mut batch.actions,
        );
        self.action_normalizer.apply(&mut batch.actions);
        batch.rewards.clear();
        batch.masks.clear();
        batch.later_observations.clear();
        batch.later_rows.clear();
        if self.config.n_step > 1 {
            self.gather_later(batch);
            return;
        }
        for (row, goal_row) in rows.iter().zip(value_goal_rows.iter()) {
            let success = f32::from(row == goal_row);
            batch.masks.push(1.0 - success);
            batch.rewards.push(if self.config.negative_rewards {
                success - 1.0
            } else {
                success
            });
        }
    }

    /// Rewards and masks of several steps, and the observations they lead to. A goal is reached at its row, as with single steps.
    fn gather_later(&self, batch: &mut TransitionBatch) {
        let HindsightConfig {
            discount, n_step, ..
        } = self.config;
        let index = self.dataset.episodes();
        for (&row, &goal_row) in batch.rows.iter().zip(&batch.value_goal_rows) {
            let steps = n_step.min(index.end_row(row) + 1 - row);
            batch.later_rows.push(row + steps);
            let reached = (row..row + steps).contains(&goal_row);
            let paid = if reached { goal_row - row } else { steps };
            let power = libm::pow(discount, paid as f64);
            batch.masks.push(if reached {
                0.0
            } else {
                libm::pow(discount, (paid - 1) as f64) as f32
            });
            batch.rewards.push(if self.config.negative_rewards {
                -((1.0 - power) / (1.0 - discount)) as f32
            } else if reached {
                power as f32
            } else {
                0.0
            });
        }
        self.gather_observations(
            batch.later_rows.iter().copied(),
            &mut batch.later_observations,
        );
    }

    /// Writes what is seen of the observations of `rows` to `out`, `[rows, features]`.
    pub(crate) fn gather_observations(
        &self,
        rows: impl ExactSizeIterator<Item = usize>,
        out: &mut Vec<f32>,
    ) {
        let (table, width) = self.dataset.observation_rows();
        match &self.features.columns {
            None => gather((table, width), rows, out),
            Some(columns) => {
                out.clear();
                out.reserve_exact(rows.len() * columns.len());
                for row in rows {
                    let observation = &table[row * width..(row + 1) * width];
                    out.extend(columns.iter().map(|&column| observation[column]));
                }
            }
        }
        self.features.normalizer.apply(out);
    }

    /// As the observations, with what a goal hides; for goals of one's own making.
    pub(crate) fn gather_goals(
        &self,
        rows: impl ExactSizeIterator<Item = usize>,
        out: &mut Vec<f32>,
    ) {
        self.gather_observations(rows, out);
        let width = self.features.dim(self.dataset.observation_dim());
        if self.features.goal_columns.is_some() {
            out.chunks_exact_mut(width)
                .for_each(|goal| self.features.hide(goal));
        }
    }
}

/// Rounds a number in 0..2⁵¹, half to even: beside 2⁵² it keeps no fraction. Without newer instructions than the oldest machines have,
/// this is faster than a call.
fn half_to_even(x: f64) -> usize {
    const NO_FRACTION: f64 = (1_u64 << 52) as f64;
    ((x + NO_FRACTION) - NO_FRACTION) as usize
}

#[cfg(test)]
mod tests {
    use super::half_to_even;

    #[test]
    fn rounds_half_to_even() {
        let large = (1_u64 << 50) as f64;
        for x in [
            0.0,
            0.49,
            0.5,
            0.51,
            1.5,
            2.5,
            3.5,
            998_000.5,
            998_001.5,
            large + 0.5,
            large + 0.75,
        ] {
            assert_eq!(half_to_even(x), x.round_ties_even() as usize, "{x}");
        }
    }
}
