//! What a policy makes of the states of an episode: its values on a grid, its latents in three dimensions, its sub-goals.

use nalgebra::DMatrix;
use ndarray::{Array1, Array2, ArrayView2, Axis, aview1};
use telic_envs::{GoalEnv, Probe};
use telic_policies::Policy;
use telic_viz::EpisodeRecorder;

use crate::FlowError;

/// States along the longer side of the scene.
const ACROSS: usize = 64;

/// What is asked at every step of one episode.
pub(crate) struct Insight {
    has_values: bool,
    has_subgoals: bool,
    projection: Option<Projection>,
}

impl Insight {
    /// Asks at the beginning of an episode, and records the answers.
    pub(crate) fn begin(
        policy: &mut dyn Policy,
        env: &dyn GoalEnv,
        recorder: &mut EpisodeRecorder,
    ) -> Result<Self, FlowError> {
        let probes = env.probes(ACROSS);
        let states = observations(&probes.states, env);
        let goal = Array1::from(env.goal_observation().to_vec());
        let goals = repeated(&goal, probes.states.len());
        let values = policy.values(states.view(), goals.view())?;
        let has_values = values.is_some();
        let mut insight = Self {
            has_values,
            has_subgoals: !probes.states.is_empty(),
            projection: None,
        };
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            return Ok(insight);
        };
        recorder.log_value_map(&probes.states, probes.spacing_m, &values.to_vec())?;
        // What has diverged has no principal directions.
        let latents = policy.latents(states.view())?;
        if let Some(latents) = latents.filter(|latents| latents.iter().all(|x| x.is_finite())) {
            let projection = Projection::fit(&latents);
            let goal = policy.latents(goal.insert_axis(Axis(0)).view())?;
            if let Some(goal) = goal {
                let points: Vec<[f32; 3]> = latents
                    .rows()
                    .into_iter()
                    .map(|latent| projection.apply(&latent.to_vec()))
                    .collect();
                let goal = projection.apply(&goal.row(0).to_vec());
                recorder.log_latents(&points, &values.to_vec(), goal)?;
                insight.projection = Some(projection);
            }
        }
        Ok(insight)
    }

    /// Asks before a step, and records the answers.
    pub(crate) fn step(
        &mut self,
        policy: &mut dyn Policy,
        env: &dyn GoalEnv,
        recorder: &mut EpisodeRecorder,
    ) -> Result<(), FlowError> {
        let (observation, goal) = (env.observation(), env.goal_observation());
        let row = |values: &[f32]| Array1::from(values.to_vec()).insert_axis(Axis(0));
        if self.has_values
            && let Some(values) = policy.values(row(observation).view(), row(goal).view())?
        {
            recorder.log_value("value", f64::from(values[0]))?;
        }
        if let Some(projection) = &self.projection
            && let Some(latents) = policy.latents(row(observation).view())?
        {
            recorder.log_latent(projection.apply(&latents.row(0).to_vec()))?;
        }
        if !self.has_subgoals {
            return Ok(());
        }
        // States with everything else as it is now.
        let probes = env.probes(ACROSS);
        let states = observations(&probes.states, env);
        let distances =
            policy.subgoal_distances(aview1(observation), aview1(goal), states.view())?;
        self.has_subgoals = distances.is_some();
        let nearest = distances.as_ref().and_then(|distances| {
            let numbered = distances.iter().enumerate();
            numbered.min_by(|a, b| a.1.total_cmp(b.1))
        });
        if let Some((nearest, _)) = nearest {
            recorder.log_subgoal(probes.place, probes.states[nearest].position)?;
        }
        Ok(())
    }
}

/// `[probes, observation_dim]`.
fn observations(probes: &[Probe], env: &dyn GoalEnv) -> Array2<f32> {
    let table: Vec<f32> = probes
        .iter()
        .flat_map(|probe| probe.observation.iter().copied())
        .collect();
    Array2::from_shape_vec((probes.len(), env.observation().len()), table)
        .expect("a probe is an observation")
}

fn repeated(row: &Array1<f32>, rows: usize) -> Array2<f32> {
    row.broadcast((rows, row.len()))
        .expect("one row fits any number of rows")
        .to_owned()
}

/// The three directions in which latents spread most: principal components.
struct Projection {
    mean: Vec<f64>,
    /// `[3, width]`.
    directions: Vec<Vec<f64>>,
}

impl Projection {
    fn fit(latents: &Array2<f32>) -> Self {
        let (rows, width) = latents.dim();
        let mean: Vec<f64> = latents
            .columns()
            .into_iter()
            .map(|column| column.iter().map(|x| f64::from(*x)).sum::<f64>() / rows.max(1) as f64)
            .collect();
        let covariance = covariance(latents.view(), &mean);
        let eigen = covariance.symmetric_eigen();
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        let directions = order
            .into_iter()
            .take(3)
            .map(|index| {
                let direction: Vec<f64> =
                    eigen.eigenvectors.column(index).iter().copied().collect();
                // Of the two signs, the one whose largest entry is positive.
                let largest = direction
                    .iter()
                    .copied()
                    .max_by(|a, b| a.abs().total_cmp(&b.abs()))
                    .unwrap_or(1.0);
                direction.iter().map(|x| x * largest.signum()).collect()
            })
            .collect();
        Self { mean, directions }
    }

    fn apply(&self, latent: &[f32]) -> [f32; 3] {
        std::array::from_fn(|axis| {
            self.directions.get(axis).map_or(0.0, |direction| {
                latent
                    .iter()
                    .zip(&self.mean)
                    .zip(direction)
                    .map(|((x, mean), d)| (f64::from(*x) - mean) * d)
                    .sum::<f64>() as f32
            })
        })
    }
}

fn covariance(latents: ArrayView2<'_, f32>, mean: &[f64]) -> DMatrix<f64> {
    let width = mean.len();
    let mut matrix = DMatrix::<f64>::zeros(width, width);
    for row in latents.rows() {
        for i in 0..width {
            let x = f64::from(row[i]) - mean[i];
            for j in 0..width {
                matrix[(i, j)] += x * (f64::from(row[j]) - mean[j]);
            }
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_shown_from_where_they_spread_most() {
        // A flat disc in the plane of (1, 1, 0, 0) and (0, 0, 1, 0), longer along the first.
        let points = Array2::from_shape_fn((100, 4), |(row, column)| {
            let angle = row as f32 * 0.3;
            let (long, short) = (5.0 * angle.cos(), 2.0 * angle.sin());
            [long, long, short, 3.0][column]
        });
        let projection = Projection::fit(&points);
        let shown = projection.apply(&[1.0, 1.0, 0.0, 3.0]);
        let centre = projection.apply(&[0.0, 0.0, 0.0, 3.0]);
        let way: Vec<f32> = shown.iter().zip(centre).map(|(a, b)| a - b).collect();
        assert!(
            (way[0] - 2.0_f32.sqrt()).abs() < 0.02 && way[1].abs() < 0.05,
            "{way:?}"
        );
        let across = projection.apply(&[0.0, 0.0, 1.0, 3.0]);
        assert!((across[1] - centre[1] - 1.0).abs() < 0.02, "{across:?}");
    }
}
