//! An ant that brings a ball to a place: the ids `ant-soccer-{arena,medium}`.
//!
//! Robot, ball, tasks, tolerance and the order of a reset are those of OGBench's antsoccer (Park et al. 2024). An observation has 42
//! entries: position (3) and quaternion wxyz (4) of the torso, hinges (8), position (3) and quaternion (4) of the ball, then
//! velocities: torso (6), hinges (8), ball (6).

mod demonstrator;

use std::sync::OnceLock;

use rand::RngExt;
use telic_seed::Rng;
use telic_sim::{PhysicsConfig, World};

use crate::ant::{self, Ant};
use crate::ant_maze::{self, gait};
use crate::ball::{self, Ball};
use crate::dribbling::{self, BALL, FIRST_VELOCITY};
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

/// Ant and ball with the experts that walk and dribble.
struct SoccerAnt {
    ant: Ant,
    ball: Ball,
    walking: &'static Gait,
    dribbling: &'static Gait,
}

/// The weights in the repository.
fn dribbling_gait() -> Result<&'static Gait, String> {
    static GAIT: OnceLock<Result<Gait, String>> = OnceLock::new();
    gait::shared(&GAIT, include_bytes!("../assets/ant_dribble.safetensors"))
}

impl SoccerAnt {
    /// An action without noise that brings the ball towards `to`.
    fn dribble(&self, observation: &[f32], to: [f32; 2], action: &mut [f32]) {
        let mut input = [0.0; dribbling::INPUT_DIM];
        dribbling::write_input(observation, to, &mut input);
        self.dribbling.act(&input, action);
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
    const MAX_EPISODE_STEPS: usize = 1000;
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

    fn episode_steps(play: Play, maze: &Maze) -> Option<usize> {
        match play {
            Play::Navigate => Some(1000),
            Play::Stitch => Some(if maze.name == "arena" { 200 } else { 500 }),
            Play::Explore => None,
        }
    }

    fn demonstrator(
        maze: usize,
        play: Play,
        noise: f32,
    ) -> Result<Box<dyn Demonstrator>, EnvError> {
        demonstrator::make(maze, play, noise)
    }

    fn describe(play: Play) -> &'static str {
        match play {
            Play::Navigate => "Walks to the ball and dribbles it from one random goal to the next.",
            _ => {
                "To one goal four cells away; dribbles where the ball is in its cell, else walks: longer tasks need stitching."
            }
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
            walking: gait()?,
            dribbling: dribbling_gait()?,
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

    fn head(&self, observation: &[f32], direction: [f32; 2], action: &mut [f32]) {
        let positions = &observation[2..ant::COORDINATES];
        let velocities = &observation[FIRST_VELOCITY..FIRST_VELOCITY + ant::VELOCITIES];
        ant_maze::walk(self.walking, [positions, velocities], direction, action);
    }
}
