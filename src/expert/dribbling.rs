//! Dribbling: what the learner sees of it, and episodes that say how well it goes.

use serde::Serialize;
use telic_envs::dribbling::{self, Dribble};
use telic_envs::gait::Gait;
use telic_policies::Metrics;
use telic_policies::online::{OnlineStep, OnlineTask};
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

/// The task as the learner sees it.
pub(super) fn task() -> Result<Box<dyn OnlineTask>, FlowError> {
    Ok(Box::new(Dribbling(Dribble::new()?)))
}

struct Dribbling(Dribble);

impl OnlineTask for Dribbling {
    fn observation_dim(&self) -> usize {
        self.0.observation_dim()
    }

    fn action_dim(&self) -> usize {
        self.0.action_dim()
    }

    fn reset(&mut self, seed: Seed) {
        self.0.reset(seed);
    }

    fn observation(&self) -> &[f32] {
        self.0.observation()
    }

    fn step(&mut self, action: &[f32]) -> OnlineStep {
        let step = self.0.step(action);
        OnlineStep {
            reward: step.reward,
            terminated: step.terminated,
            truncated: false,
        }
    }
}
