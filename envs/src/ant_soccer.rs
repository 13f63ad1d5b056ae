//! An ant that brings a ball to a place: the ids `ant-soccer-{arena,medium}`.
//!
//! Robot, ball, tasks, tolerance and the order of a reset are those of OGBench's antsoccer (Park et al. 2024). An observation has 42
//! entries: position (3) and quaternion wxyz (4) of the torso, hinges (8), position (3) and quaternion (4) of the ball, then
//! velocities: torso (6), hinges (8), ball (6).

mod dribbler;

use std::sync::OnceLock;

use rand::RngExt;
use telic_seed::Rng;
use telic_sim::{PhysicsConfig, World};

use crate::ant::{self, Ant};
use crate::ant_maze::gait;
use crate::ball::{self, Ball};
use crate::dribbling::{self, BALL};
use crate::gait::{self, Gait};
use crate::maze::{Cell, MAZES, Maze};
use crate::maze_env::{self, Play, Robot, Route};
use crate::shared_model::SharedModel;
use crate::{ActionEntry, Demonstrator, Entry, EnvError, EnvSpec};

/// Distance of the ball from the goal within which it counts as reached, in metres.
const TOLERANCE_M: f32 = 0.5;
/// Random actions before a goal is observed, so that its posture is one that the ant can have.
const GOAL_STEPS: usize = 10;
/// Where the ball is while the ant takes a posture for a goal: out of its way.
const ASIDE_HEIGHT_M: f32 = 100.0;

/// Cells (row, column) of ant, ball and goal of the tasks.
type Cells = [(usize, usize); 3];
const ARENA: [Cells; 5] = [
    [(1, 6), (2, 3), (5, 2)],
    [(2, 2), (5, 5), (2, 2)],
    [(6, 1), (2, 3), (6, 6)],
    [(6, 6), (1, 1), (6, 1)],
    [(4, 6), (6, 2), (1, 6)],
];
const MEDIUM: [Cells; 5] = [
    [(1, 1), (3, 4), (6, 6)],
    [(6, 1), (6, 5), (1, 1)],
    [(5, 3), (4, 2), (6, 5)],
    [(6, 5), (1, 1), (5, 3)],
    [(1, 6), (6, 1), (1, 6)],
];

/// One spec per maze.
pub(crate) fn specs() -> Vec<EnvSpec> {
    maze_env::specs::<SoccerAnt>()
}

/// The expert that dribbles; how it was trained stands in `docs/experts.md`.
fn dribbling_expert() -> Result<&'static Gait, String> {
    static EXPERT: OnceLock<Result<Gait, String>> = OnceLock::new();
    gait::shared(&EXPERT, include_bytes!("../assets/ant_dribble.safetensors"))
}

/// Ant and ball, with the experts that walk and dribble.
struct SoccerAnt {
    ant: Ant,
    ball: Ball,
    gait: &'static Gait,
    dribbling: &'static Gait,
}

impl SoccerAnt {
    /// An action without noise that brings the ball to a place on a straight line.
    fn dribble(&self, observation: &[f32], to: [f32; 2], action: &mut [f32]) {
        let mut input = [0.0; dribbling::INPUT_DIM];
        dribbling::write_input(observation, to, &mut input);
        let mut decision = [0.0; dribbling::DECISION_DIM];
        self.dribbling.act(&input, &mut decision);
        dribbling::torques(self.gait, observation, to, &decision, action);
    }
}

impl Robot for SoccerAnt {
    const FAMILY: &'static str = "ant-soccer";
    const VERSION: u32 = 0;
    const ENVS: [Option<(&'static str, &'static str)>; MAZES.len()] = [
        Some((
            "ant-soccer-arena",
            "An ant brings a ball to a place in an open square.",
        )),
        Some((
            "ant-soccer-medium",
            "An ant brings a ball through an 8×8 maze.",
        )),
        None,
        None,
        None,
    ];
    const TARGET: usize = BALL;
    const OBJECT_CLEARANCE_M: f32 = dribbling::START_CLEARANCE_M;
    const TOLERANCE_M: f32 = TOLERANCE_M;
    const CONTROL_HZ: f64 = 10.0;
    const ACTION_NOISE: f32 = 0.2;

    fn routes(maze: &Maze) -> Vec<Route> {
        let cells = if maze.name == "arena" { ARENA } else { MEDIUM };
        let routes = cells.map(|cells| {
            let [start, object, goal] = cells.map(|(row, column)| Cell { row, column });
            Route {
                start,
                object: Some(object),
                goal,
            }
        });
        routes.to_vec()
    }

    fn max_episode_steps(_: &Maze) -> usize {
        1000
    }

    fn episode_steps(play: Play, maze: &Maze) -> Option<usize> {
        match play {
            Play::Navigate => Some(1000),
            Play::Stitch if maze.is_open() => Some(200),
            Play::Stitch => Some(500),
            Play::Explore => None,
        }
    }

    fn observation(bounds: [f32; 4]) -> Vec<Entry> {
        let mut entries = Ant::entries(bounds);
        let velocities = entries.split_off(ant::COORDINATES);
        let [positions, speeds] = Ball::entries(bounds);
        entries
            .into_iter()
            .chain(positions)
            .chain(velocities)
            .chain(speeds)
            .collect()
    }

    fn action() -> Vec<ActionEntry> {
        Ant::action_entries()
    }

    fn models() -> &'static [SharedModel; MAZES.len()] {
        static MODELS: [SharedModel; MAZES.len()] = [const { SharedModel::new() }; MAZES.len()];
        &MODELS
    }

    fn mjcf(maze: &Maze) -> String {
        Ant::mjcf(&maze.mjcf_walls("conaffinity=\"1\""), &Ball::mjcf())
    }

    fn physics() -> PhysicsConfig {
        Ant::physics()
    }

    fn new(world: &World) -> Result<Self, String> {
        Ok(Self {
            ant: Ant::new(world)?,
            ball: Ball::new(world)?,
            gait: gait()?,
            dribbling: dribbling_expert()?,
        })
    }

    fn start(&self, world: &mut World, xy: [f32; 2], object_xy: [f32; 2], rng: &mut Rng) {
        dribbling::start(world, xy, object_xy, ball::START_HEIGHT_M, rng);
    }

    fn goal(&self, world: &mut World, xy: [f32; 2], rng: &mut Rng, observation: &mut [f32]) {
        dribbling::start(world, xy, xy, ASIDE_HEIGHT_M, rng);
        for _ in 0..GOAL_STEPS {
            let action = [0.0; ant::ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
            self.act(world, &action);
        }
        self.ant.place(world, xy);
        self.ball.place(world, xy);
        Ant::observe(world, observation);
    }

    fn place(&self, world: &mut World, xy: [f32; 2]) {
        self.ant.place(world, xy);
    }

    fn act(&self, world: &mut World, action: &[f32]) {
        Ant::act_with(world, action, |world| self.ball.brake(world));
    }

    fn observe(&self, world: &World, observation: &mut [f32]) {
        Ant::observe(world, observation);
    }

    fn height(&self, world: &World) -> f32 {
        self.ant.height(world)
    }

    fn head(&self, _: &World, observation: &[f32], direction: [f32; 2], action: &mut [f32]) {
        dribbling::walk(self.gait, observation, direction, action);
    }

    fn demonstrator(
        maze: usize,
        play: Play,
        noise: f32,
    ) -> Result<Box<dyn Demonstrator>, EnvError> {
        dribbler::make(maze, play, noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GoalEnv, ResetOptions, Start, specs};

    fn env(id: &str) -> Box<dyn GoalEnv> {
        let spec = specs().iter().find(|spec| spec.id == id).unwrap();
        (spec.make)().unwrap()
    }

    #[test]
    fn tasks_start_and_end_in_the_published_cells() {
        for (id, maze, tasks) in [
            ("ant-soccer-arena", 0, ARENA),
            ("ant-soccer-medium", 1, MEDIUM),
        ] {
            let mut env = env(id);
            for (task, cells) in tasks.into_iter().enumerate() {
                let options = ResetOptions {
                    start: Start::Task(task),
                    goal: None,
                };
                env.reset(task as u64, &options).unwrap();
                let seen = env.observation();
                let goal = env.desired_goal();
                // Ant and ball of the goal observation are both at the goal.
                assert_eq!(env.goal_observation()[..2], goal[..2]);
                let [agent, ball] = dribbling::places(seen);
                for (xy, (row, column)) in [agent, ball, [goal[0], goal[1]]].into_iter().zip(cells)
                {
                    assert_eq!(
                        MAZES[maze].cell_at(xy),
                        Some(Cell { row, column }),
                        "{id} {task}"
                    );
                }
                assert_eq!(env.observation()[BALL + 2], ball::START_HEIGHT_M);
            }
        }
    }

    #[test]
    fn play_starts_with_the_ball_in_the_same_cell_or_in_another_one_clear_of_the_legs() {
        let mut env = env("ant-soccer-medium");
        let mut same = 0;
        for seed in 0..40 {
            let options = ResetOptions {
                start: Start::Collection,
                goal: None,
            };
            env.reset(seed, &options).unwrap();
            let [agent, ball] = dribbling::places(env.observation());
            assert!(dribbling::distance(agent, ball) >= dribbling::START_CLEARANCE_M);
            same += usize::from(MAZES[1].cell_at(agent) == MAZES[1].cell_at(ball));
        }
        assert!((10..=30).contains(&same), "{same} of 40 in the same cell");
    }

    #[test]
    fn play_is_as_long_as_published() {
        for (id, lengths) in [
            ("ant-soccer-arena", [("navigate", 1000), ("stitch", 200)]),
            ("ant-soccer-medium", [("navigate", 1000), ("stitch", 500)]),
        ] {
            let spec = specs().iter().find(|spec| spec.id == id).unwrap();
            let found: Vec<_> = spec
                .demonstrators
                .iter()
                .map(|demonstrator| (demonstrator.name, demonstrator.episode_steps))
                .collect();
            assert_eq!(found, lengths, "{id}");
        }
    }

    /// A ball that starts in another cell than the ant is left alone, and the ant walks to the goal itself; one in the same cell is
    /// what the ant stays with.
    #[test]
    fn stitch_is_walks_to_the_goal_and_dribbles() {
        let spec = specs()
            .iter()
            .find(|spec| spec.id == "ant-soccer-arena")
            .unwrap();
        let stitch = spec.demonstrator(Some("stitch")).unwrap();
        let mut expert = (stitch.make)(0.0).unwrap();
        let mut action = [0.0; ant::ACTION_DIM];
        let (mut walks, mut dribbles) = (0, 0);
        for seed in 0..8 {
            expert.reset(seed, None).unwrap();
            let goal = [
                expert.env().desired_goal()[0],
                expert.env().desired_goal()[1],
            ];
            let [agent, ball] = dribbling::places(expert.env().observation());
            let is_walk = MAZES[0].cell_at(agent) != MAZES[0].cell_at(ball);
            let (mut from_goal, mut from_ball) = (f32::MAX, vec![]);
            while !expert.finished() {
                expert.act(&mut action);
                expert.step(&action).unwrap();
                let [agent, ball] = dribbling::places(expert.env().observation());
                from_goal = from_goal.min(dribbling::distance(agent, goal));
                from_ball.push(dribbling::distance(agent, ball));
            }
            if is_walk {
                walks += 1;
                assert!(from_goal < 1.0, "seed {seed}: {from_goal} m");
            } else {
                dribbles += 1;
                let near = from_ball[100..].iter().filter(|d| **d < 3.0).count();
                assert!(near > 50, "seed {seed}: {near} of 100 steps near the ball");
            }
        }
        assert!(
            walks > 1 && dribbles > 1,
            "{walks} walks, {dribbles} dribbles"
        );
    }

    /// Walking along the line through the ball moves the ball, and success is where the ball is, not the ant.
    #[test]
    fn an_ant_that_walks_into_the_ball_moves_it() {
        let mut env = env("ant-soccer-arena");
        let options = ResetOptions {
            start: Start::Task(0),
            goal: None,
        };
        env.reset(0, &options).unwrap();
        let gait = gait().unwrap();
        let mut action = [0.0; ant::ACTION_DIM];
        let before = dribbling::places(env.observation())[1];
        let mut moved = 0.0_f32;
        for _ in 0..200 {
            let seen = env.observation().to_vec();
            let [agent, ball] = dribbling::places(&seen);
            moved = moved.max(dribbling::distance(ball, before));
            let length = dribbling::distance(agent, ball) + 1e-6;
            let direction = [0, 1].map(|axis| (ball[axis] - agent[axis]) / length);
            dribbling::walk(gait, &seen, direction, &mut action);
            env.step(&action).unwrap();
        }
        assert!(moved > 0.3, "{moved} m");
        let mut goal = env.goal_observation().to_vec();
        let ball = dribbling::places(env.observation())[1];
        goal[BALL..BALL + 2].copy_from_slice(&ball);
        env.set_goal(&goal).unwrap();
        assert!(env.step(&[0.0; ant::ACTION_DIM]).unwrap().success);
    }
}
