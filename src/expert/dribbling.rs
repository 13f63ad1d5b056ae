//! Dribbling: episodes that say how well it goes.

use serde::Serialize;
use telic_envs::dribbling::{self, Dribble};
use telic_envs::gait::Gait;
use telic_envs::skill::SkillTask;
use telic_policies::Metrics;
use telic_seed::Seed;

use super::check_gait;
use crate::FlowError;

/// Episodes of dribbling in an evaluation.
const DRIBBLES: u64 = 64;
/// Distance from the ball to the goal within which it has arrived, in metres.
const ARRIVED_M: f32 = 0.5;

/// How well an expert brings a ball to a place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DribbleReport {
    /// Episodes of 20 s.
    pub episodes: u64,
    /// Those in which the ball came within half a metre of the goal.
    pub arrived: u64,
    /// Distance from the ball to the goal at the start, mean.
    pub start_distance_m: f64,
    /// The same at the end.
    pub final_distance_m: f64,
}

impl DribbleReport {
    pub(super) fn summary(&self) -> String {
        format!(
            "the ball arrived in {} of {} episodes; from {:.1} m to {:.1} m from the goal in the mean",
            self.arrived, self.episodes, self.start_distance_m, self.final_distance_m
        )
    }

    pub(super) fn metrics(&self) -> Metrics {
        Metrics::new()
            .with(
                "evaluation/arrived",
                self.arrived as f64 / self.episodes as f64,
            )
            .with("evaluation/final_distance_m", self.final_distance_m)
    }
}

/// Dribbles with a gait.
pub(super) fn evaluate(gait: &Gait, seed: Seed) -> Result<DribbleReport, FlowError> {
    let mut task = Dribble::new()?;
    check_gait(
        gait,
        dribbling::NAME,
        task.observation_dim(),
        task.action_dim(),
    )?;
    let mut report = DribbleReport {
        episodes: DRIBBLES,
        arrived: 0,
        start_distance_m: 0.0,
        final_distance_m: 0.0,
    };
    let mut action = vec![0.0; task.action_dim()];
    for episode in 0..DRIBBLES {
        task.reset(seed.child("evaluation").index(episode));
        report.start_distance_m += f64::from(task.distance_m()) / DRIBBLES as f64;
        let mut arrived = false;
        loop {
            gait.act(task.observation(), &mut action);
            let over = task.step(&action).terminated;
            arrived |= task.distance_m() <= ARRIVED_M;
            if over {
                break;
            }
        }
        report.arrived += u64::from(arrived);
        report.final_distance_m += f64::from(task.distance_m()) / DRIBBLES as f64;
    }
    Ok(report)
}
