//! Play data and task solutions by the scripted oracles.

use rand::RngExt;
use telic_seed::{Rng, Seed};

use super::oracle::{Markov, Oracle, Plan, Target, View};
use super::targets::{play_target, task_target};
use super::variants::Variant;
use super::{CubeEnv, TOLERANCE, cube_offset, distance, observed_cube, observed_cube_yaw};
use crate::arm::{ACTION_DIM, scaled_position};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// Control steps of an episode of play.
pub(super) const PLAY_STEPS: usize = 1000;

/// How an expert acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Smoothly perturbed plans.
    Plan,
    /// The reactive oracle with noise on every action.
    Markov {
        /// Percentage of actions that are uniformly random.
        random_percent: u8,
    },
}

/// An oracle, its environment and its targets.
pub(super) struct Expert {
    env: CubeEnv,
    kind: Kind,
    noise: f64,
    rng: Rng,
    /// Noise level of the reactive oracle in this episode.
    sigma: f64,
    /// Probability of stacking in this episode.
    p_stack: f64,
    oracle: Oracle,
    target: Target,
    solving: bool,
    finished: bool,
    pub(super) tally: Tally,
}

/// How the sub-episodes of an episode went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Targets that were finished, well or badly.
    pub(super) targets: usize,
    /// Of these, how many had their cube within the tolerance at the end.
    pub(super) placed: usize,
}

impl Expert {
    pub(super) fn new(variant: &'static Variant, kind: Kind, noise: f32) -> Result<Self, EnvError> {
        Ok(Self::with_env(CubeEnv::new(variant)?, kind, noise))
    }

    pub(super) fn with_env(env: CubeEnv, kind: Kind, noise: f32) -> Self {
        let mut rng = Seed::new(0).rng();
        Self {
            env,
            kind,
            noise: f64::from(noise),
            sigma: 0.0,
            p_stack: 0.0,
            oracle: Oracle::Markov(Markov::new(0.0, &mut rng)),
            target: Target {
                cube: 0,
                position: [0.0; 3],
                yaw: 0.0,
            },
            rng,
            solving: false,
            finished: true,
            tally: Tally::default(),
        }
    }

    fn cubes(&self) -> Vec<[f64; 3]> {
        (0..self.env.cubes.len())
            .map(|cube| observed_cube(self.env.observation(), cube))
            .collect()
    }

    fn view(&self) -> View {
        let observation = self.env.observation();
        View {
            tool: self.env.arm.tool_pose(),
            wrist: f64::from(observation[5]),
            opening: self.env.arm.opening(),
            contact: f64::from(self.env.arm.contact()),
            cube: observed_cube(observation, self.target.cube),
            cube_yaw: observed_cube_yaw(observation, self.target.cube),
        }
    }

    /// Draws the next target, shows it as the goal of play, and lays the oracle out for it.
    fn retarget(&mut self) -> Result<(), EnvError> {
        let cubes = self.cubes();
        if self.solving {
            let goals: Vec<[f64; 3]> = (0..cubes.len())
                .map(|cube| observed_cube(self.env.goal_observation(), cube))
                .collect();
            if let Some(target) = task_target(&cubes, &goals, &mut self.rng) {
                self.target = target;
            }
        } else {
            self.target = play_target(&cubes, self.p_stack, &mut self.rng);
            let mut goal = self.env.observation().to_vec();
            write_target(&mut goal, &self.target);
            self.env.set_goal(&goal)?;
        }
        self.oracle = match self.kind {
            Kind::Plan => {
                let view = self.view();
                Oracle::Plan(Plan::new(&view, &self.target, self.noise, &mut self.rng))
            }
            Kind::Markov { .. } => Oracle::Markov(Markov::new(self.sigma, &mut self.rng)),
        };
        Ok(())
    }
}

/// Puts a target in the place of its cube in an observation.
fn write_target(observation: &mut [f32], target: &Target) {
    let entries = &mut observation[cube_offset(target.cube)..];
    entries[..3].copy_from_slice(&scaled_position(target.position.map(|x| x as f32)));
    let (half_sin, half_cos) = libm::sincos(target.yaw / 2.0);
    let (sin, cos) = libm::sincos(target.yaw);
    let rotation = [half_cos, 0.0, 0.0, half_sin, cos, sin];
    for (entry, value) in entries[3..9].iter_mut().zip(rotation) {
        *entry = value as f32;
    }
}

impl Demonstrator for Expert {
    fn env(&self) -> &dyn GoalEnv {
        &self.env
    }

    fn reset(&mut self, seed: u64, task: Option<usize>) -> Result<(), EnvError> {
        let start = task.map_or(Start::Collection, Start::Task);
        self.env.reset(seed, &ResetOptions { start, goal: None })?;
        self.rng = Seed::new(seed).child("demonstrator").rng();
        self.sigma = Markov::noise_level(self.noise, &mut self.rng);
        let [low, high] = self.env.variant.p_stack;
        self.p_stack = low + (high - low) * self.rng.random::<f64>();
        self.solving = task.is_some();
        self.finished = false;
        self.tally = Tally::default();
        self.retarget()
    }

    fn act(&mut self, action: &mut [f32]) {
        let random = match self.kind {
            Kind::Plan => 0.0,
            Kind::Markov { random_percent } => self.noise * f64::from(random_percent) / 100.0,
        };
        let chosen: [f64; ACTION_DIM] = if self.rng.random::<f64>() < random {
            std::array::from_fn(|_| self.rng.random_range(-1.0..=1.0))
        } else {
            let view = self.view();
            self.oracle.act(&view, &self.target, &mut self.rng)
        };
        for (action, chosen) in action.iter_mut().zip(chosen) {
            *action = (chosen as f32).clamp(-1.0, 1.0);
        }
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let mut step = self.env.step(action)?;
        if self.solving {
            self.finished = step.terminated || step.truncated;
        } else {
            self.finished = self.env.elapsed_steps() >= PLAY_STEPS;
            // The length of play is the demonstrator's, not that of an evaluation.
            step.truncated = self.finished;
        }
        if !self.finished && self.oracle.done(&self.view(), &self.target) {
            let placed = observed_cube(self.env.observation(), self.target.cube);
            self.tally.targets += 1;
            self.tally.placed += usize::from(distance(&placed, &self.target.position) <= TOLERANCE);
            self.retarget()?;
        }
        Ok(step)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
