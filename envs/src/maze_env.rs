//! Crossing a maze, for any robot that can: starts, goals, portals and play data are the same for all of them.
//!
//! Mazes, tasks, and the order in which a step moves, observes and teleports are those of OGBench (Park et al. 2024).

mod navigator;

use rand::RngExt;
use telic_seed::{Rng, Seed};
use telic_sim::{GeomShape, PhysicsConfig, Pose, Rotation, Vector, World};

use crate::env::{checked_action, checked_goal, resolve_task};
use crate::maze::{CELL_M, Cell, MAZES, Maze, POSITION_NOISE_M};
use crate::registry;
use crate::shared_model::SharedModel;
use crate::snapshot::Episode;
use crate::{
    ActionEntry, Demonstrator, DemonstratorSpec, Entry, EnvError, EnvSpec, GoalEnv, GoalSpec,
    Marker, Probe, Probes, ResetOptions, Step, Task,
};

pub(crate) use self::navigator::{Play, add_noise};

/// Draws of start and goal before a reset gives up on keeping them apart; each succeeds with at least 1 − π/4.
const RESET_TRIES: usize = 1000;

/// Cells of an evaluation task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Of the robot at the start.
    pub(crate) start: Cell,
    /// At the start, of what the robot has to bring to the goal; `None` where that is the robot itself.
    pub(crate) object: Option<Cell>,
    pub(crate) goal: Cell,
}

/// What crosses a maze. The first two entries of an observation are its x and y in the world, in metres.
pub(crate) trait Robot: Send + Sized + 'static {
    /// Group of its environments.
    const FAMILY: &'static str;
    /// Of all of its environments.
    const VERSION: u32;
    /// Id and summary of the environment in each of [`MAZES`]; `None` where it does not go.
    const ENVS: [Option<(&'static str, &'static str)>; MAZES.len()];
    /// First of the two observation entries, x and y, that have to come to the goal: those of the robot or of an object.
    const TARGET: usize = 0;
    /// Least distance between robot and object at the start, in metres.
    const OBJECT_CLEARANCE_M: f32 = 0.0;
    /// Distance from a goal within which it counts as reached, in metres.
    const TOLERANCE_M: f32;
    /// Control steps per second.
    const CONTROL_HZ: f64;
    /// Standard deviation of the noise on every action entry in play data.
    const ACTION_NOISE: f32;

    /// Control steps of an episode in a maze.
    fn max_episode_steps(maze: &Maze) -> usize;

    /// The evaluation tasks in a maze.
    fn routes(maze: &Maze) -> Vec<Route> {
        let route = |&(start, goal): &(Cell, Cell)| Route {
            start,
            object: None,
            goal,
        };
        maze.tasks.iter().map(route).collect()
    }

    /// Control steps of an episode of such play data in a maze; `None` where there are none, as for a robot that has no expert.
    fn episode_steps(play: Play, maze: &Maze) -> Option<usize>;

    /// Entries of an observation; `bounds` are those that the walls leave free.
    fn observation(bounds: [f32; 4]) -> Vec<Entry>;

    /// Entries of an action.
    fn action() -> Vec<ActionEntry>;

    /// Where the model of each maze is kept.
    fn models() -> &'static [SharedModel; MAZES.len()];

    /// Robot and maze as MJCF.
    fn mjcf(maze: &Maze) -> String;

    /// How its physics is solved.
    fn physics() -> PhysicsConfig;

    /// The robot in a world of its model.
    fn new(world: &World) -> Result<Self, String>;

    /// Puts it into a start posture at `xy` and its object, if there is one, at `object_xy`, in metres; everything the engine
    /// remembers is dropped.
    fn start(&self, world: &mut World, xy: [f32; 2], object_xy: [f32; 2], rng: &mut Rng);

    /// Writes what is observed at a goal at `xy`, in a posture that the robot can have there.
    fn goal(&self, world: &mut World, xy: [f32; 2], rng: &mut Rng, observation: &mut [f32]);

    /// Moves it to `xy`; posture and velocities stay.
    fn place(&self, world: &mut World, xy: [f32; 2]);

    /// Applies an action in −1..=1 for one control period.
    fn act(&self, world: &mut World, action: &[f32]);

    /// Writes the observation.
    fn observe(&self, world: &World, observation: &mut [f32]);

    /// Height of its middle above the floor, in metres.
    fn height(&self, world: &World) -> f32;

    /// An action without noise that heads along the unit vector `direction`, in a world that looks like `observation`.
    fn head(&self, world: &World, observation: &[f32], direction: [f32; 2], action: &mut [f32]);

    /// What makes such play data in a maze: one that walks shortest paths, unless there is an object to bring along.
    fn demonstrator(
        maze: usize,
        play: Play,
        noise: f32,
    ) -> Result<Box<dyn Demonstrator>, EnvError> {
        navigator::make::<Self>(maze, play, noise)
    }
}

/// The environments of a robot, one per maze that it enters.
pub(crate) fn specs<R: Robot>() -> Vec<EnvSpec> {
    [
        spec::<R, 0>(),
        spec::<R, 1>(),
        spec::<R, 2>(),
        spec::<R, 3>(),
        spec::<R, 4>(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn spec<R: Robot, const M: usize>() -> Option<EnvSpec> {
    let (id, summary) = R::ENVS[M]?;
    let maze = &MAZES[M];
    let named = |cell: Cell| format!("cell ({}, {})", cell.row, cell.column);
    let tasks = R::routes(maze)
        .into_iter()
        .enumerate()
        .map(|(index, route)| {
            let (start, goal) = (named(route.start), named(route.goal));
            Task {
                name: format!("task{}", index + 1),
                summary: match route.object {
                    None => format!("From {start} to {goal}."),
                    Some(object) => {
                        format!("From {start}; the object from {} to {goal}.", named(object))
                    }
                },
            }
        });
    Some(EnvSpec {
        id,
        family: R::FAMILY,
        version: R::VERSION,
        summary,
        observation: R::observation(maze.bounds()),
        action: R::action(),
        goal: GoalSpec {
            indices: vec![R::TARGET, R::TARGET + 1],
            tolerance: R::TOLERANCE_M,
            point_dim: 2,
            metres_per_unit: 1.0,
        },
        control_hz: R::CONTROL_HZ,
        max_episode_steps: R::max_episode_steps(maze),
        tasks: tasks.collect(),
        rewards: vec![],
        make: || Ok(Box::new(MazeEnv::<R>::new(M)?)),
        demonstrators: [
            demonstrator::<R>(M, Play::Navigate, |noise| {
                R::demonstrator(M, Play::Navigate, noise)
            }),
            demonstrator::<R>(M, Play::Stitch, |noise| {
                R::demonstrator(M, Play::Stitch, noise)
            }),
            demonstrator::<R>(M, Play::Explore, |noise| {
                R::demonstrator(M, Play::Explore, noise)
            }),
        ]
        .into_iter()
        .flatten()
        .collect(),
    })
}

fn demonstrator<R: Robot>(
    maze: usize,
    play: Play,
    make: fn(f32) -> Result<Box<dyn Demonstrator>, EnvError>,
) -> Option<DemonstratorSpec> {
    let of_object = R::TARGET != 0;
    let (name, summary) = match play {
        Play::Navigate if of_object => (
            "navigate",
            "Brings the ball along shortest paths from one random goal to the next.",
        ),
        Play::Navigate => (
            "navigate",
            "Walks shortest paths from one random goal to the next.",
        ),
        Play::Stitch if of_object => (
            "stitch",
            "Brings the ball to one goal, or in half of the episodes walks there without it.",
        ),
        Play::Stitch => (
            "stitch",
            "Walks to one goal four cells away and stays: longer tasks need stitching.",
        ),
        Play::Explore => (
            "explore",
            "Heads along random directions with much noise: wide coverage, little purpose.",
        ),
    };
    Some(DemonstratorSpec {
        name,
        summary,
        episode_steps: R::episode_steps(play, &MAZES[maze])?,
        make,
    })
}

/// The environment.
pub(crate) struct MazeEnv<R> {
    spec: &'static EnvSpec,
    pub(crate) maze: &'static Maze,
    pub(crate) world: World,
    pub(crate) robot: R,
    episode: Episode,
    /// Goal observation.
    goal: Vec<f32>,
    pub(crate) observation: Vec<f32>,
}

impl<R: Robot> MazeEnv<R> {
    /// In one of [`MAZES`], before the first reset.
    pub(crate) fn new(index: usize) -> Result<Self, EnvError> {
        let maze = &MAZES[index];
        let id = R::ENVS[index].map_or("", |(id, _)| id);
        let spec = registry::spec(id)?;
        let bad_model = |reason: String| EnvError::Model {
            id: spec.id,
            reason,
        };
        let model = R::models()[index].get(id, || R::mjcf(maze))?;
        let world =
            World::new(&model, &R::physics()).map_err(|error| bad_model(error.to_string()))?;
        Ok(Self {
            spec,
            maze,
            robot: R::new(&world).map_err(bad_model)?,
            world,
            episode: Episode::default(),
            goal: vec![0.0; spec.observation_dim()],
            observation: vec![0.0; spec.observation_dim()],
        })
    }

    /// Where the robot is.
    pub(crate) fn xy(&self) -> [f32; 2] {
        [self.observation[0], self.observation[1]]
    }

    /// Where that is which has to come to the goal.
    pub(crate) fn target_xy(&self) -> [f32; 2] {
        xy_at::<R>(&self.observation)
    }

    pub(crate) fn goal_xy(&self) -> [f32; 2] {
        xy_at::<R>(&self.goal)
    }

    /// Whether an episode of a demonstrator is over with this step: one of play data after its length, one that solves a task, with no
    /// `play`, with the task.
    pub(crate) fn is_over(&self, step: &Step, play: Option<Play>) -> bool {
        match play {
            None => step.terminated || step.truncated,
            Some(play) => {
                R::episode_steps(play, self.maze).is_none_or(|steps| self.episode.elapsed >= steps)
            }
        }
    }

    /// Moves the goal; its posture stays.
    pub(crate) fn move_goal(&mut self, xy: [f32; 2]) {
        self.goal[..2].copy_from_slice(&xy);
        self.goal[R::TARGET..R::TARGET + 2].copy_from_slice(&xy);
    }

    fn reached(&self) -> bool {
        self.spec.goal.reached(&self.target_xy(), &self.goal_xy())
    }
}

fn xy_at<R: Robot>(observation: &[f32]) -> [f32; 2] {
    [observation[R::TARGET], observation[R::TARGET + 1]]
}

/// A point near the centre of a cell.
pub(crate) fn near(cell: Cell, rng: &mut Rng) -> [f32; 2] {
    cell.centre()
        .map(|centre| centre + rng.random_range(-POSITION_NOISE_M..POSITION_NOISE_M))
}

pub(crate) fn any_of(cells: &[Cell], rng: &mut Rng) -> Cell {
    cells[rng.random_range(0..cells.len())]
}

impl<R: Robot> GoalEnv for MazeEnv<R> {
    fn spec(&self) -> &'static EnvSpec {
        self.spec
    }

    fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<(), EnvError> {
        let seed = Seed::new(seed);
        let task = resolve_task(self.spec, options.start, seed)?;
        if let Some(goal) = &options.goal {
            checked_goal(self.spec, goal)?;
        }
        let given_goal = options.goal.as_ref().map(|goal| xy_at::<R>(goal));
        let (mut start_rng, mut goal_rng) = (seed.child("start").rng(), seed.child("goal").rng());
        let mut object_rng = seed.child("object").rng();
        let (start_cell, object_cell, goal_cells) = if let Some(task) = task {
            let route = R::routes(self.maze)[task];
            (route.start, route.object, vec![route.goal])
        } else {
            let start = any_of(&self.maze.free_cells(), &mut start_rng);
            if R::TARGET == 0 {
                (start, None, self.maze.vertex_cells())
            } else {
                // The object is in the same cell or in another one, each for half of the seeds.
                let mut cells = self.maze.free_cells();
                cells.retain(|&cell| cell != start);
                let object = if object_rng.random_bool(0.5) {
                    start
                } else {
                    any_of(&cells, &mut object_rng)
                };
                cells.retain(|&cell| cell != object);
                (start, Some(object), cells)
            }
        };
        let apart = (0..RESET_TRIES).find_map(|_| {
            let start = near(start_cell, &mut start_rng);
            let object = object_cell.map_or(start, |cell| near(cell, &mut object_rng));
            let goal = given_goal
                .unwrap_or_else(|| near(any_of(&goal_cells, &mut goal_rng), &mut goal_rng));
            let clear = object_cell.is_none()
                || (start[0] - object[0]).hypot(start[1] - object[1]) >= R::OBJECT_CLEARANCE_M;
            (clear && !self.spec.goal.reached(&object, &goal)).then_some((start, object, goal))
        });
        let Some((start, object, goal)) = apart else {
            let reason = format!(
                "every start of the episode is within {} m of it",
                R::TOLERANCE_M
            );
            return Err(EnvError::BadGoal {
                id: self.spec.id,
                reason,
            });
        };

        if let Some(given) = &options.goal {
            self.goal.copy_from_slice(given);
        } else {
            let mut rng = seed.child("goal posture").rng();
            self.robot
                .goal(&mut self.world, goal, &mut rng, &mut self.goal);
        }
        let mut rng = seed.child("posture").rng();
        self.robot.start(&mut self.world, start, object, &mut rng);
        self.robot.observe(&self.world, &mut self.observation);
        self.episode = Episode::start(seed, task);
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let seed = self.episode.seed(self.spec)?;
        let mut clipped = vec![0.0; self.spec.action_dim()];
        checked_action(self.spec.id, action, &mut clipped)?;

        // What the step before entered is left now: its observation is the one from before the jump.
        if let Some(portals) = &self.maze.portals
            && self.maze.in_portal(self.xy())
        {
            // The stream is named by the step, so the draw needs no state of its own.
            let mut rng = seed
                .child("portal")
                .index(self.episode.elapsed as u64)
                .rng();
            let exit = any_of(portals.exits, &mut rng).centre();
            self.robot.place(&mut self.world, exit);
        }
        self.robot.act(&mut self.world, &clipped);
        if self.world.is_finite() {
            self.robot.observe(&self.world, &mut self.observation);
        } else {
            // Never seen; a new start where it was is better than NaN in a dataset.
            let mut rng = seed
                .child("restart")
                .index(self.episode.elapsed as u64)
                .rng();
            let (xy, object_xy) = (self.xy(), self.target_xy());
            self.robot.start(&mut self.world, xy, object_xy, &mut rng);
            self.robot.observe(&self.world, &mut self.observation);
        }
        self.episode.elapsed += 1;
        let success = self.reached();
        Ok(Step {
            reward: if success { 0.0 } else { -1.0 },
            terminated: success && self.episode.task.is_some(),
            truncated: self.episode.elapsed >= self.spec.max_episode_steps,
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
        &self.goal[R::TARGET..R::TARGET + 2]
    }

    fn set_goal(&mut self, goal_observation: &[f32]) -> Result<(), EnvError> {
        checked_goal(self.spec, goal_observation)?;
        self.goal.copy_from_slice(goal_observation);
        Ok(())
    }

    fn task(&self) -> Option<usize> {
        self.episode.task
    }

    fn elapsed_steps(&self) -> usize {
        self.episode.elapsed
    }

    fn state(&self, qpos: &mut Vec<f32>, qvel: &mut Vec<f32>) {
        let (q, v) = (qpos.len(), qvel.len());
        qpos.resize(q + self.world.nq(), 0.0);
        qvel.resize(v + self.world.nv(), 0.0);
        self.world.qpos(&mut qpos[q..]);
        self.world.qvel(&mut qvel[v..]);
    }

    fn set_state(&mut self, qpos: &[f32], qvel: &[f32]) -> Result<(), EnvError> {
        self.world
            .set_state(qpos, qvel)
            .map_err(|error| EnvError::BadState {
                id: self.spec.id,
                reason: error.to_string(),
            })?;
        self.robot.observe(&self.world, &mut self.observation);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        self.episode.pack(self.spec, &self.goal, &self.world)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), EnvError> {
        let (episode, goal) = Episode::unpack(self.spec, snapshot, &mut self.world)?;
        (self.episode, self.goal) = (episode, goal);
        self.robot.observe(&self.world, &mut self.observation);
        Ok(())
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn markers(&self) -> Vec<Marker> {
        let disc = |name: String, xy: [f32; 2], radius: f32, rgba: [f32; 4]| Marker {
            name,
            shape: GeomShape::Cylinder {
                radius,
                half_length: 0.02,
            },
            pose: Pose::from_parts(Vector::new(xy[0], xy[1], 0.02), Rotation::IDENTITY),
            rgba,
        };
        let mut markers = vec![disc(
            "goal/disc".to_owned(),
            self.goal_xy(),
            R::TOLERANCE_M,
            [0.2, 0.75, 0.35, 0.6],
        )];
        if let Some(portals) = &self.maze.portals {
            let colours = [[0.2, 0.4, 0.9, 0.8], [0.95, 0.6, 0.1, 0.8]];
            let ends = [("entrance", portals.entrances), ("exit", portals.exits)];
            for ((name, cells), rgba) in ends.into_iter().zip(colours) {
                for (index, cell) in cells.iter().enumerate() {
                    let name = format!("portals/{name}_{index}");
                    markers.push(disc(name, cell.centre(), 1.0, rgba));
                }
            }
        }
        markers
    }

    fn probes(&self, across: usize) -> Probes {
        let (rows, columns) = self.maze.size();
        let per_cell = (across / rows.max(columns)).max(1);
        let offset = |n: usize| ((n as f32 + 0.5) / per_cell as f32 - 0.5) * CELL_M;
        let states = self.maze.free_cells().into_iter().flat_map(|cell| {
            let [x, y] = cell.centre();
            (0..per_cell * per_cell).map(move |n| {
                let place = [x + offset(n % per_cell), y + offset(n / per_cell)];
                let mut observation = self.observation.clone();
                observation[R::TARGET..R::TARGET + 2].copy_from_slice(&place);
                Probe {
                    position: [place[0], place[1], 0.0],
                    observation,
                }
            })
        });
        Probes {
            spacing_m: CELL_M / per_cell as f32,
            place: match self.target_xy() {
                _ if R::TARGET == 0 => self.end_effector(),
                [x, y] => [x, y, self.observation[R::TARGET + 2]],
            },
            states: states.collect(),
        }
    }

    fn end_effector(&self) -> [f32; 3] {
        let [x, y] = self.xy();
        [x, y, self.robot.height(&self.world)]
    }
}
