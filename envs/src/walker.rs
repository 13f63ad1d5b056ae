//! A planar biped that stands, walks, runs and flips: the id `walker`.
//!
//! Body, observation, actions, starts and the rewards `stand`, `walk` and `run` are those of the walker of the DeepMind Control
//! Suite (Tassa et al. 2018); `flip` is that of URLB and ExORL. A goal is a height of the torso and a horizontal velocity, after
//! the target velocities of SMORe (Sikchi et al. 2024).

mod body;
mod rewards;
#[cfg(test)]
mod tests;

use rand::RngExt;
use telic_seed::{Rng, Seed};
use telic_sim::{GeomShape, Pose, Rotation, Vector, World};

use self::body::{ACTION_DIM, CONTROL_HZ, HEIGHT, OBSERVATION_DIM, SPEED, Walker};
use crate::env::{checked_action, checked_goal, resolve_task};
use crate::shared_model::SharedModel;
use crate::snapshot::Episode;
use crate::{EnvError, EnvSpec, GoalEnv, GoalSpec, Marker, ResetOptions, Step, Task, registry};

const ID: &str = "walker";
const MAX_EPISODE_STEPS: usize = 1000;
/// Distance in the plane of metres of height and metres per second of velocity within which a goal counts as reached.
const TOLERANCE: f32 = 0.2;
/// Horizontal velocity of the goal of each task, in m/s.
const TASK_SPEEDS_M_S: [f32; 3] = [0.0, 1.0, 4.0];
/// Where the line of the goal's height is drawn, behind the walker as it is seen from the side.
const GOAL_LINE_Y_M: f32 = 0.3;
/// Control steps for which a start that is at its goal falls, at most.
const FALL_STEPS: usize = 120;

/// The spec.
pub(crate) fn spec() -> EnvSpec {
    let task = |name: &str, summary: &str| Task {
        name: name.to_owned(),
        summary: summary.to_owned(),
    };
    EnvSpec {
        id: ID,
        family: "walker",
        version: 0,
        summary: "A planar biped stands, walks, runs and flips.",
        observation: body::entries(),
        action: body::action_entries(),
        goal: GoalSpec {
            indices: vec![HEIGHT, SPEED],
            tolerance: TOLERANCE,
            point_dim: 2,
            metres_per_unit: 1.0,
        },
        control_hz: CONTROL_HZ,
        max_episode_steps: MAX_EPISODE_STEPS,
        tasks: vec![
            task("stand", "Torso at 1.25 m, without horizontal velocity."),
            task("walk", "Torso at 1.25 m, forwards at 1 m/s."),
            task("run", "Torso at 1.25 m, forwards at 4 m/s."),
        ],
        rewards: rewards::specs(),
        make: || Ok(Box::new(WalkerEnv::new()?)),
        demonstrators: vec![],
    }
}

/// The environment.
struct WalkerEnv {
    spec: &'static EnvSpec,
    world: World,
    walker: Walker,
    episode: Episode,
    /// An upright stance, without velocities.
    stance: [f32; OBSERVATION_DIM],
    /// Goal observation.
    goal: [f32; OBSERVATION_DIM],
    desired_goal: [f32; 2],
    observation: [f32; OBSERVATION_DIM],
}

impl WalkerEnv {
    fn new() -> Result<Self, EnvError> {
        static MODEL: SharedModel = SharedModel::new();
        let spec = registry::spec(ID)?;
        let bad_model = |reason: String| EnvError::Model { id: ID, reason };
        let model = MODEL.get(ID, || include_str!("../assets/walker.xml").to_owned())?;
        let mut world =
            World::new(&model, &body::physics()).map_err(|error| bad_model(error.to_string()))?;
        let walker = Walker::new(&world).map_err(bad_model)?;
        let mut stance = [0.0; OBSERVATION_DIM];
        Walker::stand(&mut world);
        walker.observe(&world, &mut stance);
        Ok(Self {
            spec,
            world,
            walker,
            episode: Episode::default(),
            stance,
            goal: stance,
            desired_goal: [stance[HEIGHT], stance[SPEED]],
            observation: stance,
        })
    }

    fn observe(&mut self) {
        self.walker.observe(&self.world, &mut self.observation);
    }

    fn achieved(&self) -> [f32; 2] {
        [self.observation[HEIGHT], self.observation[SPEED]]
    }

    fn reached(&self) -> bool {
        let achieved = self.achieved();
        self.spec.goal.reached(&achieved, &self.desired_goal)
    }

    fn take_goal(&mut self, goal: &[f32]) {
        self.goal.copy_from_slice(goal);
        self.desired_goal = [goal[HEIGHT], goal[SPEED]];
    }

    /// The goal of a task.
    fn task_goal(&self, task: usize) -> [f32; OBSERVATION_DIM] {
        let mut goal = self.stance;
        goal[SPEED] = TASK_SPEEDS_M_S[task];
        goal
    }

    /// The goal of an episode of play data: that of a task, but not of one that starts reached.
    fn play_goal(&self, rng: &mut Rng) -> [f32; OBSERVATION_DIM] {
        let start = self.achieved();
        let goals: Vec<_> = (0..TASK_SPEEDS_M_S.len())
            .map(|task| self.task_goal(task))
            .filter(|goal| {
                let desired = [goal[HEIGHT], goal[SPEED]];
                !self.spec.goal.reached(&start, &desired)
            })
            .collect();
        goals[rng.random_range(0..goals.len())]
    }

    /// Falls without torques until the goal is not reached; whether that came about.
    fn fall_off_the_goal(&mut self) -> bool {
        for _ in 0..FALL_STEPS {
            if !self.reached() {
                return true;
            }
            Walker::act(&mut self.world, &[0.0; ACTION_DIM]);
            self.observe();
        }
        !self.reached()
    }
}

impl GoalEnv for WalkerEnv {
    fn spec(&self) -> &'static EnvSpec {
        self.spec
    }

    fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<(), EnvError> {
        let seed = Seed::new(seed);
        let task = resolve_task(self.spec, options.start, seed)?;
        if let Some(goal) = &options.goal {
            checked_goal(self.spec, goal)?;
        }
        let before = (self.world.snapshot(), self.goal, self.observation);
        Walker::start(&mut self.world, &mut seed.child("posture").rng());
        self.observe();
        match (&options.goal, task) {
            (Some(goal), _) => self.take_goal(goal),
            (None, Some(task)) => self.take_goal(&self.task_goal(task)),
            (None, None) => {
                let goal = self.play_goal(&mut seed.child("goal").rng());
                self.take_goal(&goal);
            }
        }
        if !self.fall_off_the_goal() {
            let (world, goal, observation) = before;
            self.world
                .restore(&world)
                .expect("a snapshot of this very world");
            self.take_goal(&goal);
            self.observation = observation;
            let reason = format!(
                "the start of the episode falls for {FALL_STEPS} steps and is within {TOLERANCE} of it"
            );
            return Err(EnvError::BadGoal { id: ID, reason });
        }
        self.episode = Episode::start(seed, task);
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let seed = self.episode.seed(self.spec)?;
        let mut clipped = [0.0; ACTION_DIM];
        checked_action(ID, action, &mut clipped)?;
        Walker::act(&mut self.world, &clipped);
        if !self.world.is_finite() {
            // Never seen; a new start is better than NaN in a dataset.
            let step = self.episode.elapsed as u64;
            let mut rng = seed.child("restart").index(step).rng();
            Walker::start(&mut self.world, &mut rng);
        }
        self.observe();
        self.episode.elapsed += 1;
        let success = self.reached();
        Ok(Step {
            reward: if success { 0.0 } else { -1.0 },
            terminated: success && self.episode.task.is_some(),
            truncated: self.episode.elapsed >= MAX_EPISODE_STEPS,
            success,
        })
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }

    fn goal_observation(&self) -> &[f32] {
        &self.goal
    }

    fn desired_goal(&self) -> &[f32] {
        &self.desired_goal
    }

    fn set_goal(&mut self, goal_observation: &[f32]) -> Result<(), EnvError> {
        checked_goal(self.spec, goal_observation)?;
        self.take_goal(goal_observation);
        Ok(())
    }

    fn task(&self) -> Option<usize> {
        self.episode.task
    }

    fn elapsed_steps(&self) -> usize {
        self.episode.elapsed
    }

    fn state(&self, qpos: &mut Vec<f32>, qvel: &mut Vec<f32>) {
        let (positions, velocities) = Walker::state(&self.world);
        qpos.extend(positions);
        qvel.extend(velocities);
    }

    fn rewards(&self) -> Vec<f32> {
        rewards::rewards(self.walker.motion(&self.world))
    }

    fn set_state(&mut self, qpos: &[f32], qvel: &[f32]) -> Result<(), EnvError> {
        Walker::set_state(&mut self.world, qpos, qvel).map_err(|error| EnvError::BadState {
            id: ID,
            reason: error.to_string(),
        })?;
        self.observe();
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        self.episode.pack(self.spec, &self.goal, &self.world)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), EnvError> {
        let (episode, goal) = Episode::unpack(self.spec, snapshot, &mut self.world)?;
        self.episode = episode;
        self.take_goal(&goal);
        self.observe();
        Ok(())
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn markers(&self) -> Vec<Marker> {
        // The height of the goal, as a line along the way; one that went along would be drawn anew in every step.
        let at = Vector::new(0.0, GOAL_LINE_Y_M, self.desired_goal[0]);
        vec![Marker {
            name: "goal/height".to_owned(),
            shape: GeomShape::Box {
                half_extents: [50.0, 0.01, 0.01],
            },
            pose: Pose::from_parts(at, Rotation::IDENTITY),
            rgba: [0.2, 0.75, 0.35, 0.4],
        }]
    }

    fn end_effector(&self) -> [f32; 3] {
        self.walker.position(&self.world)
    }
}
