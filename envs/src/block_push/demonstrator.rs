//! The demonstrators of block pushing.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use telic_seed::{Rng, Seed};

use super::oracle::{Oracle, Scene};
use super::{ACTION_SCALE_M, BlockPush, ID};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// Share of the steps of `noisy` that are disturbed.
const DISTURBED_SHARE: f64 = 0.15;
/// Standard deviation of a disturbance along each axis, in metres. Most of a contact face (4 cm) is within two of them.
const DISTURBANCE_STD_M: f64 = 0.008;

/// The oracle and its environment.
///
/// The published data are free of noise: pushed along a line, the effector is never beside it, so the data do not say what to
/// do there. `noisy` knocks the effector off its way at some steps, and the oracle shows how to get back. It does so at single
/// steps because waypoints count as reached within a millimetre, which noise at every step would prevent.
pub(super) struct Pusher {
    env: BlockPush,
    oracle: Oracle,
    finished: bool,
    disturbance_std_m: f64,
    rng: Rng,
}

impl Pusher {
    /// The published demonstrator, which has no noise.
    ///
    /// # Errors
    /// [`EnvError::NoNoise`] for noise that is neither as published nor none.
    pub(super) fn play(noise: f32) -> Result<Self, EnvError> {
        if noise != 0.0 && noise != 1.0 {
            return Err(EnvError::NoNoise {
                id: ID,
                name: "play",
                noise,
            });
        }
        Self::new(0.0)
    }

    /// With disturbances of `noise` times the usual size.
    pub(super) fn noisy(noise: f32) -> Result<Self, EnvError> {
        Self::new(DISTURBANCE_STD_M * f64::from(noise))
    }

    fn new(disturbance_std_m: f64) -> Result<Self, EnvError> {
        Ok(Self {
            env: BlockPush::new()?,
            oracle: Oracle::new([(0, 0), (1, 1)], [0.0; 2]),
            finished: false,
            disturbance_std_m,
            rng: Seed::new(0).rng(),
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
        self.rng = Seed::new(seed).child("disturbance").rng();
        self.finished = false;
        Ok(())
    }

    fn act(&mut self, action: &mut [f32]) {
        let scene = self.scene();
        let mut displacement = self.oracle.act(&scene);
        if self.disturbance_std_m > 0.0 && self.rng.random_bool(DISTURBED_SHARE) {
            for axis in &mut displacement {
                let normal: f64 = StandardNormal.sample(&mut self.rng);
                *axis += self.disturbance_std_m * normal;
            }
        }
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
