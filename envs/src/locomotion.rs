//! Following directions: the tasks that teach a robot to walk.
//!
//! Rewards and ends of episodes are those with which OGBench's experts were trained (Park et al. 2025), but that the ant's directions
//! change four times as often, and that the humanoid starts on its feet, looking about where it shall walk, and a fall
//! ends its episode. What they teach drives the demonstrators of the mazes.

use rand::RngExt;
use telic_seed::{Rng, Seed};
use telic_sim::{PhysicsConfig, World};

use crate::EnvError;
use crate::ant::{self, Ant};
use crate::humanoid::{self, Humanoid};
use crate::shared_model::SharedModel;
use crate::skill::{SkillStep, SkillTask};

/// Walking along a direction that changes now and then. An observation is posture and velocities, then the unit vector of the direction: an
/// ant's in the world, a humanoid's in the frame that turns with its torso, as are its velocities. A step earns an ant its metres along the direction, a humanoid how well it stands times 1 plus a hundred of these.
/// An episode is over for good where the robot can no longer walk.
pub trait DirectionTask: SkillTask {
    /// Sets the direction, a unit vector in the world, and keeps it to the end of the episode.
    fn command(&mut self, direction: [f32; 2]);

    /// The direction, a unit vector in the world.
    fn direction(&self) -> [f32; 2];

    /// Where the robot is, x and y in metres.
    fn position(&self) -> [f32; 2];

    /// Whether it stands the right way up; one that does not cannot go on.
    fn is_upright(&self) -> bool;
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
    &[
        DirectionTaskSpec {
            name: Ant::NAME,
            summary: "An ant walks along a direction that changes every 2.5 s.",
            control_hz: 10.0,
            make: || Ok(Box::new(Walk::<Ant>::new()?)),
        },
        DirectionTaskSpec {
            name: Humanoid::NAME,
            summary: "A humanoid walks upright along a direction that changes every 5 s.",
            control_hz: 40.0,
            make: || Ok(Box::new(Walk::<Humanoid>::new()?)),
        },
    ]
}

const EPISODE_STEPS: usize = 1000;

/// What learns to walk. Its observation starts with x and y in metres; the task shows as many entries.
trait Walker: Sized + Send {
    /// Name of its task.
    const NAME: &'static str;
    /// Length of its own observation.
    const OBSERVATION_DIM: usize;
    /// Length of an action.
    const ACTION_DIM: usize;
    /// Steps along one direction.
    const STEPS_PER_DIRECTION: usize;

    /// Its world, on a floor without walls.
    fn world() -> Result<World, EnvError>;

    /// The walker in its world.
    fn of(world: &World) -> Result<Self, String>;

    /// Writes what the task shows, `[OBSERVATION_DIM]`.
    fn write_input(
        &self,
        world: &World,
        observation: &[f32],
        direction: [f32; 2],
        input: &mut [f32],
    );

    /// Puts it into a start posture at the origin, from where it shall walk along a direction.
    fn start(&self, world: &mut World, direction: [f32; 2], rng: &mut Rng);

    /// Applies an action for one control period.
    fn act(&self, world: &mut World, action: &[f32]);

    /// Writes its own observation.
    fn observe(&self, world: &World, observation: &mut [f32]);

    /// Whether it is the right way up.
    fn is_upright(observation: &[f32]) -> bool;

    /// Whether an episode goes on.
    fn goes_on(observation: &[f32]) -> bool;

    /// What a step earns that ended in an observation, `along_m` metres further along the direction.
    fn reward(observation: &[f32], along_m: f32) -> f32;
}

/// A world with a floor.
fn empty_world(
    id: &'static str,
    model: &SharedModel,
    mjcf: impl FnOnce() -> String,
    physics: &PhysicsConfig,
) -> Result<World, EnvError> {
    World::new(&model.get(id, mjcf)?, physics).map_err(|error| EnvError::Model {
        id,
        reason: error.to_string(),
    })
}

/// Heights of the torso between which an ant's episode goes on, in metres; on its back the ant is at 0.25.
const ANT_WALKING_M: std::ops::RangeInclusive<f32> = 0.2..=1.0;

impl Walker for Ant {
    const NAME: &'static str = "ant-direction";
    const OBSERVATION_DIM: usize = ant::OBSERVATION_DIM;
    const ACTION_DIM: usize = ant::ACTION_DIM;
    /// A path through a maze turns at every cell; the original draws every 100 steps.
    const STEPS_PER_DIRECTION: usize = 25;

    fn world() -> Result<World, EnvError> {
        static MODEL: SharedModel = SharedModel::new();
        empty_world(Self::NAME, &MODEL, || Self::mjcf("", ""), &Self::physics())
    }

    fn of(world: &World) -> Result<Self, String> {
        Self::new(world)
    }

    fn write_input(&self, _: &World, observation: &[f32], direction: [f32; 2], input: &mut [f32]) {
        let (own, tail) = input.split_at_mut(ant::OBSERVATION_DIM - 2);
        own.copy_from_slice(&observation[2..]);
        tail.copy_from_slice(&direction);
    }

    fn start(&self, world: &mut World, _: [f32; 2], rng: &mut Rng) {
        Self::start(world, [0.0; 2], rng);
    }

    fn act(&self, world: &mut World, action: &[f32]) {
        Self::act(world, action);
    }

    fn observe(&self, world: &World, observation: &mut [f32]) {
        Self::observe(world, observation);
    }

    fn is_upright(observation: &[f32]) -> bool {
        ant::is_upright(observation)
    }

    fn goes_on(observation: &[f32]) -> bool {
        ANT_WALKING_M.contains(&observation[2])
    }

    fn reward(_: &[f32], along_m: f32) -> f32 {
        along_m
    }
}

/// Height of the head of a humanoid that stands, in metres; a quarter less counts as a tenth of it.
const STANDING_M: f32 = 1.4;
/// `UPRIGHT` of a torso that counts as vertical.
const VERTICAL: f32 = 0.9;

/// Height of the head below which a humanoid's episode ends, in metres. In the original it is dropped in any posture and a fall ends
/// nothing, so that it learns to get up too, from 40 million steps; next to nothing is earned on the floor, and with few steps that
/// time would be lost.
const HUMANOID_FALLEN_M: f32 = 1.0;

/// How far a humanoid looks away at most, at the start, from where it shall walk, in radians.
const HUMANOID_FACING_RAD: f32 = std::f32::consts::FRAC_PI_4;

/// How well a humanoid stands, 0 to 1, as in the DeepMind Control Suite: a Gaussian of how low the head is times a line from the
/// torso on its head to the torso upright.
fn standing(head_m: f32, upright: f32) -> f32 {
    // √(−2 ln 0.1): where the Gaussian is a tenth.
    const TENTH: f32 = 2.145_966;
    let low = (STANDING_M - head_m).max(0.0) / (STANDING_M / 4.0);
    let leaning = (VERTICAL - upright).max(0.0) / (1.0 + VERTICAL);
    libm::expf(-0.5 * (low * TENTH).powi(2)) * (1.0 - leaning).max(0.0)
}

impl Walker for Humanoid {
    const NAME: &'static str = "humanoid-direction";
    const OBSERVATION_DIM: usize = humanoid::OBSERVATION_DIM;
    const ACTION_DIM: usize = humanoid::ACTION_DIM;
    const STEPS_PER_DIRECTION: usize = 200;

    fn world() -> Result<World, EnvError> {
        static MODEL: SharedModel = SharedModel::new();
        empty_world(Self::NAME, &MODEL, || Self::mjcf(""), &Self::physics())
    }

    fn of(world: &World) -> Result<Self, String> {
        Self::new(world)
    }

    fn write_input(
        &self,
        world: &World,
        observation: &[f32],
        direction: [f32; 2],
        input: &mut [f32],
    ) {
        self.write_gait_input(world, observation, direction, input);
    }

    /// It looks about where it shall walk, so that it first learns to walk forwards, and to turn where the direction changes.
    fn start(&self, world: &mut World, direction: [f32; 2], rng: &mut Rng) {
        let away_rad: f32 = rng.random_range(-HUMANOID_FACING_RAD..HUMANOID_FACING_RAD);
        let yaw_rad = libm::atan2f(direction[1], direction[0]) + away_rad;
        Self::stand(world, [0.0; 2], yaw_rad, rng);
    }

    fn act(&self, world: &mut World, action: &[f32]) {
        Self::act(world, action);
    }

    fn observe(&self, world: &World, observation: &mut [f32]) {
        Self::observe(self, world, observation);
    }

    fn is_upright(observation: &[f32]) -> bool {
        humanoid::is_standing(observation)
    }

    fn goes_on(observation: &[f32]) -> bool {
        observation[humanoid::HEAD] >= HUMANOID_FALLEN_M
    }

    fn reward(observation: &[f32], along_m: f32) -> f32 {
        let [head_m, upright] = [humanoid::HEAD, humanoid::UPRIGHT].map(|index| observation[index]);
        standing(head_m, upright) * (1.0 + 100.0 * along_m)
    }
}

/// A walker and its episode.
struct Walk<W> {
    world: World,
    walker: W,
    seed: Seed,
    elapsed: usize,
    /// Whether the direction stays.
    commanded: bool,
    /// Where to walk, a unit vector in the world.
    direction: [f32; 2],
    /// The walker's own observation.
    own: Vec<f32>,
    /// What is shown of it, with the direction.
    input: Vec<f32>,
}

impl<W: Walker> Walk<W> {
    fn new() -> Result<Self, EnvError> {
        let world = W::world()?;
        let walker = W::of(&world).map_err(|reason| EnvError::Model {
            id: W::NAME,
            reason,
        })?;
        let mut task = Self {
            world,
            walker,
            seed: Seed::new(0),
            elapsed: 0,
            commanded: false,
            direction: [1.0, 0.0],
            own: vec![0.0; W::OBSERVATION_DIM],
            input: vec![0.0; W::OBSERVATION_DIM],
        };
        task.reset(Seed::new(0));
        Ok(task)
    }

    /// Updates what is shown.
    fn show(&mut self) {
        self.walker
            .write_input(&self.world, &self.own, self.direction, &mut self.input);
    }

    /// The direction of the steps that come.
    fn drawn_direction(&self) -> [f32; 2] {
        let mut rng = self
            .seed
            .child("direction")
            .index(self.elapsed as u64)
            .rng();
        let angle = rng.random_range(-std::f32::consts::PI..std::f32::consts::PI);
        [libm::cosf(angle), libm::sinf(angle)]
    }
}

impl<W: Walker> DirectionTask for Walk<W> {
    fn command(&mut self, direction: [f32; 2]) {
        self.commanded = true;
        self.direction = direction;
        self.show();
    }

    fn direction(&self) -> [f32; 2] {
        self.direction
    }

    fn position(&self) -> [f32; 2] {
        [self.own[0], self.own[1]]
    }

    fn is_upright(&self) -> bool {
        W::is_upright(&self.own)
    }
}

impl<W: Walker> SkillTask for Walk<W> {
    fn observation_dim(&self) -> usize {
        self.input.len()
    }

    fn action_dim(&self) -> usize {
        W::ACTION_DIM
    }

    fn reset(&mut self, seed: Seed) {
        (self.seed, self.elapsed, self.commanded) = (seed, 0, false);
        self.direction = self.drawn_direction();
        let mut rng = seed.child("posture").rng();
        self.walker.start(&mut self.world, self.direction, &mut rng);
        self.walker.observe(&self.world, &mut self.own);
        self.show();
    }

    fn observation(&self) -> &[f32] {
        &self.input
    }

    fn step(&mut self, action: &[f32]) -> SkillStep {
        let (before, direction) = (self.position(), self.direction);
        self.walker.act(&mut self.world, action);
        self.elapsed += 1;
        let sound = self.world.is_finite();
        if sound {
            self.walker.observe(&self.world, &mut self.own);
        }
        let after = self.position();
        let along_m = (after[0] - before[0]) * direction[0] + (after[1] - before[1]) * direction[1];
        let step = SkillStep {
            reward: W::reward(&self.own, along_m),
            terminated: !sound || !W::goes_on(&self.own),
            truncated: self.elapsed >= EPISODE_STEPS,
        };
        if !self.commanded && self.elapsed.is_multiple_of(W::STEPS_PER_DIRECTION) {
            self.direction = self.drawn_direction();
        }
        self.show();
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_those_of_the_walkers_and_directions_change_on_time() {
        for (spec, steps_per_direction) in direction_tasks().iter().zip([25, 200]) {
            let mut task = (spec.make)().unwrap();
            task.reset(Seed::new(3));
            let mut rng = Seed::new(1).rng();
            let mut directions = vec![];
            for step in 1..=EPISODE_STEPS {
                let direction = task.direction();
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
                let expected = if spec.name == "ant-direction" {
                    along
                } else {
                    // Without x and y the head is entry 21, the torso's uprightness 36.
                    let seen = task.observation();
                    standing(seen[21], seen[36]) * (1.0 + 100.0 * along)
                };
                assert!(
                    (outcome.reward - expected).abs() < 1e-5,
                    "{} {step}",
                    spec.name
                );
                assert_eq!(outcome.truncated, step == EPISODE_STEPS);
                let heights = if spec.name == "ant-direction" {
                    (0.2..=1.0).contains(&task.observation()[0])
                } else {
                    task.observation()[21] >= 1.0
                };
                assert_eq!(outcome.terminated, !heights, "{} {step}", spec.name);
            }
            assert_eq!(directions.len(), EPISODE_STEPS / steps_per_direction);
        }
    }

    #[test]
    fn a_command_stays_and_an_episode_is_a_function_of_its_seed() {
        for spec in direction_tasks() {
            let mut task = (spec.make)().unwrap();
            let action = vec![0.5; task.action_dim()];
            let mut run = || {
                task.reset(Seed::new(5));
                task.command([0.0, 1.0]);
                let mut seen = vec![];
                for _ in 0..205 {
                    task.step(&action);
                    seen.extend(task.observation().iter().map(|value| value.to_bits()));
                    assert_eq!(task.direction(), [0.0, 1.0]);
                }
                seen
            };
            let first = run();
            assert!(run() == first, "{}", spec.name);
        }
    }

    /// `tolerance` of the DeepMind Control Suite at heads of 1.3, 1.225 and 1.05 m, and its line over how upright the torso is.
    #[test]
    fn standing_is_graded_as_in_the_original() {
        for (head, expected) in [
            (1.69, 1.0),
            (1.4, 1.0),
            (1.3, 0.8286),
            (1.225, 0.5623),
            (1.05, 0.1),
        ] {
            let found = standing(head, 1.0);
            assert!((found - expected).abs() < 1e-4, "{head} m: {found}");
        }
        for (upright, expected) in [(1.0, 1.0), (0.9, 1.0), (-0.05, 0.5), (-1.0, 0.0)] {
            let found = standing(1.5, upright);
            assert!((found - expected).abs() < 1e-6, "{upright}: {found}");
        }
    }
}
