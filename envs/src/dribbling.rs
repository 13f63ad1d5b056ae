//! Bringing a ball to a place: the task that teaches an ant to dribble.
//!
//! Rewards, starts and length of episodes are those with which OGBench's expert was trained (Park et al. 2025). As with
//! [directions](crate::locomotion), what it teaches drives the demonstrators of the mazes.

use rand::RngExt;
use telic_seed::{Rng, Seed};
use telic_sim::World;

use crate::EnvError;
use crate::ant::{self, Ant};
use crate::ball::{self, Ball};
use crate::shared_model::SharedModel;
use crate::skill::{SkillStep, SkillTask};

/// The task's name.
pub const NAME: &str = "ant-dribble";
/// Control steps of an episode.
pub const EPISODE_STEPS: usize = 200;
/// Half of the range, per axis and in metres, in which ant, ball and goal start.
const START_RANGES_M: [f32; 3] = [1.0, 2.0, 12.0];
/// Least distance between ant and ball at the start, in metres: clear of the legs.
pub(crate) const START_CLEARANCE_M: f32 = 1.0;
/// Reward of a metre that the ball comes closer to the goal, and of one that the ant comes closer to the ball.
const REWARDS_PER_M: [f32; 2] = [25.0, 10.0];

/// Entries of what an ant with a ball observes: coordinates and velocities, the ant's first in both.
pub(crate) const OBSERVATION_DIM: usize = FIRST_VELOCITY + ant::VELOCITIES + ball::VELOCITIES;
/// First of the ball's coordinates in it.
pub(crate) const BALL: usize = ant::COORDINATES;
/// First of the velocities in it.
pub(crate) const FIRST_VELOCITY: usize = ant::COORDINATES + ball::COORDINATES;

/// What one means in the offset from the ball to the goal, in metres; so scaled it is of the size of the other entries.
const GOAL_SCALE_M: f32 = 10.0;

/// What the learner sees: the observation without the places of ant and ball, then from the ant to the ball in metres, and from the
/// ball to where it has to go in units of [`GOAL_SCALE_M`].
pub(crate) const INPUT_DIM: usize = OBSERVATION_DIM;

/// Writes what a dribbling ant sees, `[INPUT_DIM]`, for an observation and a place to bring the ball to.
pub(crate) fn write_input(observation: &[f32], to: [f32; 2], input: &mut [f32]) {
    let [agent, ball] = places(observation);
    let (posture, rest) = input.split_at_mut(ant::COORDINATES - 2);
    posture.copy_from_slice(&observation[2..ant::COORDINATES]);
    let (moving, offsets) = rest.split_at_mut(OBSERVATION_DIM - BALL - 2);
    moving.copy_from_slice(&observation[BALL + 2..]);
    offsets.copy_from_slice(&[
        ball[0] - agent[0],
        ball[1] - agent[1],
        (to[0] - ball[0]) / GOAL_SCALE_M,
        (to[1] - ball[1]) / GOAL_SCALE_M,
    ]);
}

/// Of ant and ball, x and y.
pub(crate) fn places(observation: &[f32]) -> [[f32; 2]; 2] {
    [
        [observation[0], observation[1]],
        [observation[BALL], observation[BALL + 1]],
    ]
}

/// Starts ant and ball at these places, the ball's centre at a height, in metres.
pub(crate) fn start(
    world: &mut World,
    xy: [f32; 2],
    ball_xy: [f32; 2],
    ball_height: f32,
    rng: &mut Rng,
) {
    let (ant, velocities) = Ant::start_state(xy, rng);
    let ball = Ball::coordinates(ball_xy, ball_height);
    let qpos = [&ant[..], &ball[..]].concat();
    let qvel = [&velocities[..], &[0.0; ball::VELOCITIES][..]].concat();
    world
        .set_state(&qpos, &qvel)
        .expect("finite coordinates around unit quaternions");
}

/// Distance of two points.
pub(crate) fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// An ant, a ball and a goal on a plane. An observation is posture and velocities of the ant, height, attitude and velocities of the ball,
/// from the ant to the ball in metres, and from the ball to the goal in tens of metres. A step earns 25 per metre of the ball towards the
/// goal and 10 per metre of the ant towards the ball; the episode is over for good after [`EPISODE_STEPS`].
pub struct Dribble {
    world: World,
    ball: Ball,
    elapsed: usize,
    goal: [f32; 2],
    observation: [f32; OBSERVATION_DIM],
    input: [f32; INPUT_DIM],
}

impl Dribble {
    /// # Errors
    /// [`EnvError::Model`].
    pub fn new() -> Result<Self, EnvError> {
        static MODEL: SharedModel = SharedModel::new();
        let model = MODEL.get(NAME, || Ant::mjcf("", &Ball::mjcf()))?;
        let bad = |reason: String| EnvError::Model { id: NAME, reason };
        let world = World::new(&model, &Ant::physics()).map_err(|error| bad(error.to_string()))?;
        let mut task = Self {
            ball: Ball::new(&world).map_err(bad)?,
            world,
            elapsed: 0,
            goal: [0.0; 2],
            observation: [0.0; OBSERVATION_DIM],
            input: [0.0; INPUT_DIM],
        };
        task.reset(Seed::new(0));
        Ok(task)
    }

    /// From the ball to the goal, in metres.
    pub fn distance_m(&self) -> f32 {
        distance(places(&self.observation)[1], self.goal)
    }

    fn observe(&mut self) {
        Ant::observe(&self.world, &mut self.observation);
        write_input(&self.observation, self.goal, &mut self.input);
    }
}

impl SkillTask for Dribble {
    fn observation_dim(&self) -> usize {
        INPUT_DIM
    }

    fn action_dim(&self) -> usize {
        ant::ACTION_DIM
    }

    fn observation(&self) -> &[f32] {
        &self.input
    }

    fn reset(&mut self, seed: Seed) {
        let mut rng = seed.child("places").rng();
        let mut place = |half: f32| [0, 1].map(|_| rng.random_range(-half..half));
        let [agent_m, ball_m, goal_m] = START_RANGES_M;
        let (agent, ball) = loop {
            let (agent, ball) = (place(agent_m), place(ball_m));
            if distance(agent, ball) >= START_CLEARANCE_M {
                break (agent, ball);
            }
        };
        self.goal = place(goal_m);
        let mut rng = seed.child("posture").rng();
        start(&mut self.world, agent, ball, ball::START_HEIGHT_M, &mut rng);
        self.elapsed = 0;
        self.observe();
    }

    fn step(&mut self, action: &[f32]) -> SkillStep {
        let distances = |task: &Self| {
            let [agent, ball] = places(&task.observation);
            [distance(ball, task.goal), distance(agent, ball)]
        };
        let before = distances(self);
        let ball = self.ball;
        Ant::act_with(&mut self.world, action, |world| ball.brake(world));
        self.elapsed += 1;
        let sound = self.world.is_finite();
        if sound {
            self.observe();
        }
        let after = distances(self);
        let earned = [0, 1].map(|k| REWARDS_PER_M[k] * (before[k] - after[k]));
        SkillStep {
            reward: earned[0] + earned[1],
            terminated: !sound || self.elapsed >= EPISODE_STEPS,
            truncated: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_metres_of_ball_and_ant() {
        let mut task = Dribble::new().unwrap();
        task.reset(Seed::new(4));
        let mut rng = Seed::new(1).rng();
        let tail = INPUT_DIM - 4;
        let distances = |task: &Dribble| {
            let seen = &task.observation()[tail..];
            [10.0 * seen[2].hypot(seen[3]), seen[0].hypot(seen[1])]
        };
        let (first, mut earned) = (distances(&task), 0.0);
        for step in 1..=EPISODE_STEPS {
            let action: Vec<f32> = (0..8).map(|_| rng.random_range(-1.0..1.0)).collect();
            let outcome = task.step(&action);
            earned += outcome.reward;
            assert_eq!(outcome.terminated, step == EPISODE_STEPS);
        }
        let last = distances(&task);
        let expected = 25.0 * (first[0] - last[0]) + 10.0 * (first[1] - last[1]);
        assert!((earned - expected).abs() < 1e-2, "{earned}, not {expected}");
        assert!((task.distance_m() - last[0]).abs() < 1e-6);
    }

    #[test]
    fn an_episode_is_a_function_of_its_seed() {
        let mut task = Dribble::new().unwrap();
        let mut run = |seed: u64| {
            task.reset(Seed::new(seed));
            for _ in 0..30 {
                task.step(&[0.7; 8]);
            }
            task.observation().to_vec()
        };
        let first = run(1);
        assert!(run(2) != first);
        assert_eq!(run(1), first);
    }
}
