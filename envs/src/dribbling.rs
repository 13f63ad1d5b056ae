//! Bringing a ball to a place: the task that teaches an ant to dribble.
//!
//! Rewards, starts and length of episodes are those with which OGBench's expert was trained (Park et al. 2025). That expert learned
//! torques from nothing; this one is a residual on the gait that walks already (Johannink et al. 2019): a decision is where to walk and what
//! to add to the gait's torques. Everything is seen and decided in the frame of the goal, whose x axis points from the ball to the
//! goal, since a plane looks the same from all sides. As with [directions](crate::locomotion), what it teaches drives the
//! demonstrators of the mazes.

use rand::RngExt;
use telic_seed::{Rng, Seed};
use telic_sim::{Rotation, Vector, World};

use crate::EnvError;
use crate::ant::{self, Ant};
use crate::ant_maze::{self, gait};
use crate::ball::{self, Ball};
use crate::gait::Gait;
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

/// What one means in the distance from the ball to the goal, in metres; so scaled it is of the size of the other entries.
const GOAL_SCALE_M: f32 = 10.0;

/// Entries of what a dribbling ant sees: see [`write_input`].
pub(crate) const INPUT_DIM: usize = 36;
/// Entries of a decision: where to walk, in the frame of the goal, then what to add to each torque.
pub(crate) const DECISION_DIM: usize = 2 + ant::ACTION_DIM;
/// Torque that a decision of one adds, in units of the largest torque.
const RESIDUAL: f32 = 0.5;

/// The frame whose x axis points from the ball to the goal, turned about the vertical.
struct GoalFrame {
    /// Cosine and sine of the x axis in the world.
    axis: [f32; 2],
    distance_m: f32,
}

impl GoalFrame {
    fn new(ball: [f32; 2], goal: [f32; 2]) -> Self {
        let distance_m = distance(ball, goal);
        let axis = if distance_m > 1e-6 {
            [0, 1].map(|k| (goal[k] - ball[k]) / distance_m)
        } else {
            [1.0, 0.0]
        };
        Self { axis, distance_m }
    }

    /// A vector of the world, in this frame.
    fn seen(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [cos, sin] = self.axis;
        [cos * x + sin * y, cos * y - sin * x]
    }

    /// A vector of this frame, in the world.
    fn in_world(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [cos, sin] = self.axis;
        [cos * x - sin * y, sin * x + cos * y]
    }
}

/// Writes what a dribbling ant sees, `[INPUT_DIM]`, for an observation and a place to bring the ball to, in the frame of the goal: height
/// of the torso, its x and z axes, hinges, velocities of the torso and of the hinges, height and velocity of the ball, the
/// offset from ant to ball in metres, and the distance from ball to goal in units of [`GOAL_SCALE_M`].
pub(crate) fn write_input(observation: &[f32], to: [f32; 2], input: &mut [f32]) {
    let [agent, ball] = places(observation);
    let frame = GoalFrame::new(ball, to);
    let [w, x, y, z] = [3, 4, 5, 6].map(|index| observation[index]);
    let torso = Rotation::from_xyzw(x, y, z, w);
    let velocities = &observation[FIRST_VELOCITY..];
    let (of_ant, of_ball) = velocities.split_at(ant::VELOCITIES);
    let mut rest = input;
    let mut put = |values: &[f32]| {
        let (place, others) = std::mem::take(&mut rest).split_at_mut(values.len());
        place.copy_from_slice(values);
        rest = others;
    };
    put(&[observation[2]]);
    for axis in [torso * Vector::X, torso * Vector::Z] {
        put(&frame.seen([axis.x, axis.y]));
        put(&[axis.z]);
    }
    put(&observation[7..ant::COORDINATES]);
    put(&frame.seen([of_ant[0], of_ant[1]]));
    put(&of_ant[2..]);
    put(&[observation[BALL + 2]]);
    put(&frame.seen([of_ball[0], of_ball[1]]));
    put(&of_ball[2..3]);
    put(&frame.seen([ball[0] - agent[0], ball[1] - agent[1]]));
    put(&[frame.distance_m / GOAL_SCALE_M]);
}

/// Writes the torques `[ant::ACTION_DIM]`, each in −1..=1, of a decision `[DECISION_DIM]` at an observation, with a place to bring the
/// ball to.
pub(crate) fn torques(
    gait: &Gait,
    observation: &[f32],
    to: [f32; 2],
    decision: &[f32],
    action: &mut [f32],
) {
    let [_, ball] = places(observation);
    let heading = [decision[0], decision[1]];
    let length = heading[0].hypot(heading[1]);
    let heading = if length > 1e-6 {
        heading.map(|entry| entry / length)
    } else {
        [1.0, 0.0]
    };
    let direction = GoalFrame::new(ball, to).in_world(heading);
    walk(gait, observation, direction, action);
    for (torque, added) in action.iter_mut().zip(&decision[2..]) {
        *torque = (*torque + RESIDUAL * added).clamp(-1.0, 1.0);
    }
}

/// Walks with a gait along the unit vector `direction` of the world, with no regard to the ball.
pub(crate) fn walk(gait: &Gait, observation: &[f32], direction: [f32; 2], action: &mut [f32]) {
    let positions = &observation[2..ant::COORDINATES];
    let velocities = &observation[FIRST_VELOCITY..FIRST_VELOCITY + ant::VELOCITIES];
    ant_maze::walk(gait, [positions, velocities], direction, action);
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

/// An ant that walks, a ball and a goal on a plane. An observation has 36 entries: posture and velocities of the ant, height and velocity of
/// the ball, the offset from ant to ball in metres and the distance from ball to goal in tens of metres, all in the frame whose x
/// axis points from the ball to the goal. An action has 10: where to walk in that frame, and what is added to each torque of the
/// gait, in halves of the largest torque. A step earns 25 per metre of the ball towards the goal and 10 per metre of the ant towards
/// the ball; the episode is over for good after [`EPISODE_STEPS`].
pub struct Dribble {
    gait: &'static Gait,
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
            gait: gait().map_err(bad)?,
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
        DECISION_DIM
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
        let mut torque = [0.0; ant::ACTION_DIM];
        torques(self.gait, &self.observation, self.goal, action, &mut torque);
        Ant::act_with(&mut self.world, &torque, |world| ball.brake(world));
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
        let distances = |task: &Dribble| {
            let seen = &task.observation()[INPUT_DIM - 3..];
            [10.0 * seen[2], seen[0].hypot(seen[1])]
        };
        let (first, mut earned) = (distances(&task), 0.0);
        for step in 1..=EPISODE_STEPS {
            let action: Vec<f32> = (0..DECISION_DIM)
                .map(|_| rng.random_range(-1.0..1.0))
                .collect();
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
    fn what_is_seen_does_not_turn_with_the_scene() {
        let mut rng = Seed::new(2).rng();
        let mut task = Dribble::new().unwrap();
        for _ in 0..20 {
            task.step(&[0.3; DECISION_DIM]);
        }
        let (seen, goal) = (task.observation, task.goal);
        let mut straight = [0.0; INPUT_DIM];
        write_input(&seen, goal, &mut straight);
        for _ in 0..20 {
            let angle: f32 = rng.random_range(-3.0..3.0);
            let turn = Rotation::from_rotation_z(angle);
            let turned = |[x, y]: [f32; 2]| {
                let turned = turn * Vector::new(x, y, 0.0);
                [turned.x, turned.y]
            };
            let mut other = seen;
            for first in [0, BALL, FIRST_VELOCITY, FIRST_VELOCITY + ant::VELOCITIES] {
                other[first..first + 2].copy_from_slice(&turned([seen[first], seen[first + 1]]));
            }
            let torso = turn * Rotation::from_xyzw(seen[4], seen[5], seen[6], seen[3]);
            other[3..7].copy_from_slice(&[torso.w, torso.x, torso.y, torso.z]);
            let mut input = [0.0; INPUT_DIM];
            write_input(&other, turned(goal), &mut input);
            for (index, (a, b)) in straight.iter().zip(input).enumerate() {
                assert!((a - b).abs() < 1e-4, "entry {index}: {a}, turned {b}");
            }
        }
    }

    /// A decision of no torque walks with the gait along the heading, whatever its length; the rest is added in halves.
    #[test]
    fn a_decision_walks_along_its_heading_and_adds_torques() {
        let task = Dribble::new().unwrap();
        let gait = gait().unwrap();
        let [_, ball] = places(&task.observation);
        let to = [ball[0], ball[1] + 3.0];
        let (mut plain, mut found) = ([0.0; ant::ACTION_DIM], [0.0; ant::ACTION_DIM]);
        // Ahead in the frame of the goal is y in the world, and left is −x.
        for (heading, direction) in [([0.7, 0.0], [0.0, 1.0]), ([0.0, 0.2], [-1.0, 0.0])] {
            walk(gait, &task.observation, direction, &mut plain);
            let mut decision = [0.0; DECISION_DIM];
            decision[..2].copy_from_slice(&heading);
            decision[4] = 0.8;
            torques(gait, &task.observation, to, &decision, &mut found);
            for (index, (plain, found)) in plain.iter().zip(found).enumerate() {
                let added = if index == 2 { 0.4 } else { 0.0 };
                let expected = (plain + added).clamp(-1.0, 1.0);
                assert!((found - expected).abs() < 1e-5, "torque {index}");
            }
        }
    }

    #[test]
    fn an_episode_is_a_function_of_its_seed() {
        let mut task = Dribble::new().unwrap();
        let mut run = |seed: u64| {
            task.reset(Seed::new(seed));
            for _ in 0..30 {
                task.step(&[0.7; DECISION_DIM]);
            }
            task.observation().to_vec()
        };
        let first = run(1);
        assert!(run(2) != first);
        assert_eq!(run(1), first);
    }
}
