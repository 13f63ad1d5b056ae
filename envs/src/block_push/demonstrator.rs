//! The demonstrator of block pushing.

use rand::RngExt;
use telic_seed::Seed;

use super::oracle::{Oracle, Scene};
use super::{ACTION_SCALE_M, BlockPush};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// The oracle and its environment.
///
/// The published data are free of noise, so that there is none to scale.
pub(super) struct Pusher {
    env: BlockPush,
    oracle: Oracle,
    finished: bool,
}

impl Pusher {
    pub(super) fn new(_noise: f32) -> Result<Self, EnvError> {
        let oracle = Oracle::new([(0, 0), (1, 1)], [0.0; 2]);
        Ok(Self {
            env: BlockPush::new()?,
            oracle,
            finished: false,
        })
    }

    fn scene(&self) -> Scene {
        let entries = &self.env.observation;
        let point = |index: usize| [f64::from(entries[index]), f64::from(entries[index + 1])];
        Scene {
            blocks: [point(0), point(3)],
            yaws: [f64::from(entries[2]), f64::from(entries[5])],
            targets: [point(10), point(13)],
            command: point(8),
        }
    }
}

impl Demonstrator for Pusher {
    fn env(&self) -> &dyn GoalEnv {
        &self.env
    }

    fn reset(&mut self, seed: u64, task: Option<usize>) -> Result<(), EnvError> {
        let start = task.map_or(Start::Collection, Start::Task);
        self.env.reset(seed, &ResetOptions { start, goal: None })?;
        // The environment draws the assignment, the oracle the order: four modes, each as likely as the others.
        let first = usize::from(Seed::new(seed).child("demonstrator").rng().random_bool(0.5));
        let pairs =
            [first, 1 - first].map(|block| (block, self.env.episode.assignment.target_of(block)));
        self.oracle = Oracle::new(pairs, self.scene().command);
        self.finished = false;
        Ok(())
    }

    fn act(&mut self, action: &mut [f32]) {
        let scene = self.scene();
        let displacement = self.oracle.act(&scene);
        for (action, displacement) in action.iter_mut().zip(displacement) {
            *action = ((displacement / f64::from(ACTION_SCALE_M)) as f32).clamp(-1.0, 1.0);
        }
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let step = self.env.step(action)?;
        self.finished = step.terminated || step.truncated;
        Ok(step)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
