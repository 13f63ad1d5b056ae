//! Following directions: the tasks that teach a robot to walk.
//!
//! Rewards and ends of episodes are those with which OGBench's experts were trained (Park et al. 2025); directions change four times
//! as often. A task is no goal environment: it has a reward of its own, and what it teaches drives the demonstrators of the mazes.

use rand::RngExt;
use telic_seed::Seed;
use telic_sim::World;

use crate::EnvError;
use crate::ant::{self, Ant};
use crate::shared_model::SharedModel;

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DirectionStep {
    /// Metres along the direction in this step.
    pub reward: f32,
    /// The episode is over for good: the torso left the heights of walking.
    pub terminated: bool,
    /// The step limit was reached.
    pub truncated: bool,
}

/// Walking along a direction that changes now and then.
pub trait DirectionTask: Send {
    /// Length of an observation: posture and velocities, then the unit vector of the direction in the world.
    fn observation_dim(&self) -> usize;

    /// Length of an action.
    fn action_dim(&self) -> usize;

    /// Starts an episode that is a function of the seed.
    fn reset(&mut self, seed: Seed);

    /// Sets the direction, a unit vector in the world, and keeps it to the end of the episode.
    fn command(&mut self, direction: [f32; 2]);

    /// `[observation_dim]`.
    fn observation(&self) -> &[f32];

    /// Where the robot is, x and y in metres.
    fn position(&self) -> [f32; 2];

    /// Whether it stands the right way up; one that does not cannot go on.
    fn is_upright(&self) -> bool;

    /// Applies an action `[action_dim]` in −1..=1 for one control period.
    ///
    /// # Panics
    /// If the action has another length, or a number that is not finite.
    fn step(&mut self, action: &[f32]) -> DirectionStep;
}

/// A task that is learned online.
#[derive(Clone, Debug)]
pub struct DirectionTaskSpec {
    /// Name, for example `ant-direction`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Control steps per second of simulated time.
    pub control_hz: f64,
    /// Builds one instance.
    pub make: fn() -> Result<Box<dyn DirectionTask>, EnvError>,
}

/// Every task.
pub fn direction_tasks() -> &'static [DirectionTaskSpec] {
    &[DirectionTaskSpec {
        name: ANT_DIRECTION,
        summary: "An ant walks along a direction that changes every 2.5 s.",
        control_hz: 10.0,
        make: || Ok(Box::new(AntDirection::new()?)),
    }]
}

const ANT_DIRECTION: &str = "ant-direction";
const EPISODE_STEPS: usize = 1000;
/// A path through a maze turns at every cell; the original draws every 100 steps.
const STEPS_PER_DIRECTION: usize = 25;
/// Heights of the torso between which an episode goes on, in metres; on its back the ant is at 0.25.
const WALKING_M: std::ops::RangeInclusive<f32> = 0.2..=1.0;

struct AntDirection {
    world: World,
    seed: Seed,
    elapsed: usize,
    /// Whether the direction stays.
    commanded: bool,
    position: [f32; 2],
    upright: bool,
    observation: Vec<f32>,
}

impl AntDirection {
    fn new() -> Result<Self, EnvError> {
        static MODEL: SharedModel = SharedModel::new();
        let model = MODEL.get(ANT_DIRECTION, || Ant::mjcf("", ""))?;
        let world = World::new(&model, &Ant::physics()).map_err(|error| EnvError::Model {
            id: ANT_DIRECTION,
            reason: error.to_string(),
        })?;
        let mut task = Self {
            world,
            seed: Seed::new(0),
            elapsed: 0,
            commanded: false,
            position: [0.0; 2],
            upright: true,
            observation: vec![0.0; ant::POSTURE.len() + 2],
        };
        task.reset(Seed::new(0));
        Ok(task)
    }

    fn observe(&mut self) {
        let mut all = [0.0; ant::OBSERVATION_DIM];
        Ant::observe(&self.world, &mut all);
        self.position = [all[0], all[1]];
        self.upright = ant::is_upright(&all);
        self.observation[..ant::POSTURE.len()].copy_from_slice(&all[ant::POSTURE]);
    }

    fn set_direction(&mut self, direction: [f32; 2]) {
        self.observation[ant::POSTURE.len()..].copy_from_slice(&direction);
    }

    fn direction(&self) -> [f32; 2] {
        let tail = &self.observation[ant::POSTURE.len()..];
        [tail[0], tail[1]]
    }

    fn draw_direction(&mut self) {
        let mut rng = self
            .seed
            .child("direction")
            .index(self.elapsed as u64)
            .rng();
        let angle = rng.random_range(-std::f32::consts::PI..std::f32::consts::PI);
        self.set_direction([libm::cosf(angle), libm::sinf(angle)]);
    }
}

impl DirectionTask for AntDirection {
    fn observation_dim(&self) -> usize {
        self.observation.len()
    }

    fn action_dim(&self) -> usize {
        ant::ACTION_DIM
    }

    fn reset(&mut self, seed: Seed) {
        (self.seed, self.elapsed, self.commanded) = (seed, 0, false);
        let mut rng = seed.child("posture").rng();
        Ant::start(&mut self.world, [0.0; 2], &mut rng);
        self.observe();
        self.draw_direction();
    }

    fn command(&mut self, direction: [f32; 2]) {
        self.commanded = true;
        self.set_direction(direction);
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }

    fn position(&self) -> [f32; 2] {
        self.position
    }

    fn is_upright(&self) -> bool {
        self.upright
    }

    fn step(&mut self, action: &[f32]) -> DirectionStep {
        let (before, direction) = (self.position, self.direction());
        Ant::act(&mut self.world, action);
        self.elapsed += 1;
        let sound = self.world.is_finite();
        if sound {
            self.observe();
        }
        let moved = [0, 1].map(|axis| self.position[axis] - before[axis]);
        if !self.commanded && self.elapsed.is_multiple_of(STEPS_PER_DIRECTION) {
            self.draw_direction();
        }
        DirectionStep {
            reward: moved[0] * direction[0] + moved[1] * direction[1],
            terminated: !sound || !WALKING_M.contains(&self.observation[0]),
            truncated: self.elapsed >= EPISODE_STEPS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_metres_along_the_direction() {
        let mut task = (direction_tasks()[0].make)().unwrap();
        task.reset(Seed::new(3));
        let mut rng = Seed::new(1).rng();
        let mut directions = vec![];
        for step in 1..=EPISODE_STEPS {
            let tail = task.observation_dim() - 2;
            let direction = [task.observation()[tail], task.observation()[tail + 1]];
            assert!((direction[0].hypot(direction[1]) - 1.0).abs() < 1e-5);
            if directions.last() != Some(&direction) {
                directions.push(direction);
            }
            let before = task.position();
            let action: Vec<f32> = (0..task.action_dim())
                .map(|_| rng.random_range(-1.0..1.0))
                .collect();
            let outcome = task.step(&action);
            let after = task.position();
            let along =
                (after[0] - before[0]) * direction[0] + (after[1] - before[1]) * direction[1];
            assert!((outcome.reward - along).abs() < 1e-5, "step {step}");
            assert_eq!(outcome.truncated, step == EPISODE_STEPS);
        }
        assert_eq!(directions.len(), EPISODE_STEPS / STEPS_PER_DIRECTION);
    }

    #[test]
    fn a_command_stays_and_an_episode_is_a_function_of_its_seed() {
        let mut task = (direction_tasks()[0].make)().unwrap();
        let mut run = || {
            task.reset(Seed::new(5));
            task.command([0.0, 1.0]);
            let mut seen = vec![];
            for _ in 0..2 * STEPS_PER_DIRECTION + 5 {
                task.step(&[0.5; 8]);
                seen.extend(task.observation().iter().map(|value| value.to_bits()));
                let tail = task.observation_dim() - 2;
                assert_eq!(task.observation()[tail..], [0.0, 1.0]);
            }
            seen
        };
        let first = run();
        assert!(run() == first);
    }
}
