//! A ball in a maze, moved by displacements: the ids `point-maze-{arena,medium,large,giant,teleport}`.
//!
//! Observation, action, mazes, tasks and tolerance are those of OGBench's pointmaze (Park et al. 2024). One control
//! step writes `position + 0.2 m · action`, puts the ball to rest, and then runs 5 physics steps of 0.02 s, which
//! push it out of walls that it was written into. Where the first of them leaves the ball where it is, the others would
//! do the same and are not run.

mod navigator;

use std::sync::{Arc, OnceLock};

use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::{Rng, Seed};
use telic_sim::{GeomShape, JointId, Model, PhysicsConfig, Pose, Rotation, Vector, World};

use crate::env::{checked_action, checked_goal, resolve_task};
use crate::maze::{CELL_M, Cell, MAZES, Maze, POSITION_NOISE_M};
use crate::{
    ActionEntry, DemonstratorSpec, Entry, EnvError, EnvSpec, GoalEnv, GoalSpec, Marker, Probe,
    Probes, ResetOptions, Step, Task,
};
use crate::{registry, snapshot};

/// Displacement of an action of 1 in one control step, in metres.
pub const STEP_M: f32 = 0.2;
/// Radius of the ball, in metres.
pub const RADIUS_M: f32 = 0.7;
/// Distance from the goal within which it counts as reached, in metres.
pub const TOLERANCE_M: f32 = 1.0;

const PHYSICS_STEP_SECS: f32 = 0.02;
const PHYSICS_STEPS: usize = 5;
/// A ball pushed into a wall with full actions comes to rest 0.657 m from its face, as in the original.
const CONTACT_DAMPING_RATIO: f32 = 6.2;
const MAX_EPISODE_STEPS: usize = 1000;
/// Draws of start and goal before a reset gives up on keeping them apart; each succeeds with at least 1 − π/4.
const RESET_TRIES: usize = 1000;

const IDS: [&str; MAZES.len()] = [
    "point-maze-arena",
    "point-maze-medium",
    "point-maze-large",
    "point-maze-giant",
    "point-maze-teleport",
];
const SUMMARIES: [&str; MAZES.len()] = [
    "A ball crosses an open square.",
    "A ball finds its way through an 8×8 maze.",
    "A ball finds its way through a 9×12 maze.",
    "A ball finds its way through a 12×16 maze.",
    "A ball finds its way through a 9×12 maze with random portals.",
];

/// One spec per maze.
pub fn specs() -> Vec<EnvSpec> {
    vec![
        spec::<0>(),
        spec::<1>(),
        spec::<2>(),
        spec::<3>(),
        spec::<4>(),
    ]
}

fn spec<const M: usize>() -> EnvSpec {
    let maze = &MAZES[M];
    let [low_x, low_y, high_x, high_y] = maze.bounds();
    let entry = |name: &str, low, high| Entry {
        name: name.to_owned(),
        unit: "m",
        low,
        high,
    };
    let action = |name: &str| ActionEntry {
        name: name.to_owned(),
        unit: "m",
        scale: STEP_M,
    };
    EnvSpec {
        id: IDS[M],
        family: "point-maze",
        version: 1,
        summary: SUMMARIES[M],
        observation: vec![
            entry("point.x", low_x, high_x),
            entry("point.y", low_y, high_y),
        ],
        action: vec![action("point.x"), action("point.y")],
        goal: GoalSpec {
            indices: vec![0, 1],
            tolerance: TOLERANCE_M,
            point_dim: 2,
            metres_per_unit: 1.0,
        },
        control_hz: 10.0,
        max_episode_steps: MAX_EPISODE_STEPS,
        tasks: maze
            .tasks
            .iter()
            .enumerate()
            .map(|(index, (start, goal))| Task {
                name: format!("task{}", index + 1),
                summary: format!(
                    "From cell ({}, {}) to cell ({}, {}).",
                    start.row, start.column, goal.row, goal.column
                ),
            })
            .collect(),
        make: || Ok(Box::new(PointMaze::new(M)?)),
        demonstrators: vec![
            DemonstratorSpec {
                name: "navigate",
                summary: "Walks shortest paths from one random goal to the next.",
                episode_steps: navigator::NAVIGATE_STEPS,
                make: |noise| {
                    Ok(Box::new(navigator::Navigator::new(
                        M,
                        navigator::Play::Navigate,
                        noise,
                    )?))
                },
            },
            DemonstratorSpec {
                name: "stitch",
                summary: "Walks to one goal four cells away and stays: longer tasks need stitching.",
                episode_steps: navigator::STITCH_STEPS,
                make: |noise| {
                    Ok(Box::new(navigator::Navigator::new(
                        M,
                        navigator::Play::Stitch,
                        noise,
                    )?))
                },
            },
        ],
    }
}

/// The environment.
pub struct PointMaze {
    spec: &'static EnvSpec,
    maze: &'static Maze,
    world: World,
    joints: [JointId; 2],
    episode: Episode,
    goal: [f32; 2],
    observation: [f32; 2],
}

/// What besides the physics and the goal decides the future.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Episode {
    /// The seed of the reset; `None` before the first.
    seed: Option<Seed>,
    task: Option<usize>,
    elapsed: usize,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    episode: Episode,
    goal: [f32; 2],
    world: Vec<u8>,
}

impl PointMaze {
    fn new(index: usize) -> Result<Self, EnvError> {
        let maze = &MAZES[index];
        let spec = registry::spec(IDS[index])?;
        let bad_model = |reason: String| EnvError::Model {
            id: spec.id,
            reason,
        };
        let model = model(index).map_err(bad_model)?;
        let config = PhysicsConfig {
            timestep_secs: PHYSICS_STEP_SECS,
            // Nothing accelerates the ball but walls.
            solver_iterations: 1,
            contact_damping_ratio: CONTACT_DAMPING_RATIO,
            ..PhysicsConfig::default()
        };
        let world = World::new(&model, &config).map_err(|error| bad_model(error.to_string()))?;
        let joint = |name: &str| {
            world
                .joint_id(name)
                .ok_or_else(|| bad_model(format!("no joint `{name}`")))
        };
        Ok(Self {
            spec,
            maze,
            joints: [joint("point_x")?, joint("point_y")?],
            world,
            episode: Episode::default(),
            goal: [0.0; 2],
            observation: [0.0; 2],
        })
    }

    /// The maze.
    pub fn maze(&self) -> &'static Maze {
        self.maze
    }

    fn position(&self) -> [f32; 2] {
        self.joints.map(|joint| self.world.joint_position(joint))
    }

    fn velocity(&self) -> [f32; 2] {
        self.joints.map(|joint| self.world.joint_velocity(joint))
    }

    /// The physics steps of one control step, up to the first that changes nothing.
    fn settle(&mut self) {
        let written = self.position();
        for _ in 0..PHYSICS_STEPS {
            self.world.step();
            // Without contact no force acts, so a ball at rest stays at the same bits.
            if self.position() == written && self.velocity() == [0.0; 2] {
                break;
            }
        }
    }

    fn reached(&self) -> bool {
        self.spec.goal.reached(&self.observation, &self.goal)
    }
}

/// The model of a maze, parsed once and shared by all of its instances.
fn model(index: usize) -> Result<Arc<Model>, String> {
    static MODELS: [OnceLock<Result<Arc<Model>, String>>; MAZES.len()] =
        [const { OnceLock::new() }; MAZES.len()];
    MODELS[index]
        .get_or_init(|| {
            let xml = mjcf(&MAZES[index]);
            Model::from_mjcf_str(IDS[index], &xml)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        })
        .clone()
}

/// The scene. The ball slides at a fixed height, so it needs no contact with the floor.
fn mjcf(maze: &Maze) -> String {
    let geoms = maze.mjcf_geoms("contype=\"0\" conaffinity=\"0\"", "friction=\"0\"");
    format!(
        "<mujoco model=\"point-maze-{name}\">
<compiler angle=\"radian\" autolimits=\"true\"/>
<option timestep=\"{PHYSICS_STEP_SECS}\" gravity=\"0 0 -9.81\"/>
<worldbody>
{geoms}<body name=\"point\" pos=\"0 0 {RADIUS_M}\">
<joint name=\"point_x\" type=\"slide\" axis=\"1 0 0\"/>
<joint name=\"point_y\" type=\"slide\" axis=\"0 1 0\"/>
<geom name=\"point\" type=\"sphere\" size=\"{RADIUS_M}\" density=\"100\" friction=\"0\" rgba=\"0.85 0.35 0.2 1\"/>
</body>
</worldbody>
</mujoco>
",
        name = maze.name,
    )
}

/// A point near the centre of a cell.
fn near(cell: Cell, rng: &mut Rng) -> [f32; 2] {
    cell.centre()
        .map(|centre| centre + rng.random_range(-POSITION_NOISE_M..POSITION_NOISE_M))
}

fn any_of(cells: &[Cell], rng: &mut Rng) -> Cell {
    cells[rng.random_range(0..cells.len())]
}

impl GoalEnv for PointMaze {
    fn spec(&self) -> &'static EnvSpec {
        self.spec
    }

    fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<(), EnvError> {
        let seed = Seed::new(seed);
        let task = resolve_task(self.spec, options.start, seed)?;
        let given_goal = match &options.goal {
            Some(goal) => {
                checked_goal(self.spec, goal)?;
                Some([goal[0], goal[1]])
            }
            None => None,
        };
        let (mut start_rng, mut goal_rng) = (seed.child("start").rng(), seed.child("goal").rng());
        let (start_cell, goal_cells) = match task {
            Some(task) => {
                let (start, goal) = self.maze.tasks[task];
                (start, vec![goal])
            }
            None => (
                any_of(&self.maze.free_cells(), &mut start_rng),
                self.maze.vertex_cells(),
            ),
        };
        let apart = (0..RESET_TRIES).find_map(|_| {
            let start = near(start_cell, &mut start_rng);
            let goal = given_goal
                .unwrap_or_else(|| near(any_of(&goal_cells, &mut goal_rng), &mut goal_rng));
            (!self.spec.goal.reached(&start, &goal)).then_some((start, goal))
        });
        let Some((start, goal)) = apart else {
            let reason = format!("every start of the episode is within {TOLERANCE_M} m of it");
            return Err(EnvError::BadGoal {
                id: self.spec.id,
                reason,
            });
        };

        self.world
            .set_state(&start, &[0.0; 2])
            .map_err(|error| EnvError::Model {
                id: self.spec.id,
                reason: error.to_string(),
            })?;
        self.episode = Episode {
            seed: Some(seed),
            task,
            elapsed: 0,
        };
        self.goal = goal;
        self.observation = self.position();
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let Some(seed) = self.episode.seed else {
            return Err(EnvError::NotReset { id: self.spec.id });
        };
        let mut displacement = [0.0; 2];
        checked_action(self.spec.id, action, &mut displacement)?;

        let mut position = self.observation;
        if let Some(portals) = &self.maze.portals
            && self.maze.in_portal(position)
        {
            // The stream is named by the step, so the draw needs no state of its own.
            let mut rng = seed
                .child("portal")
                .index(self.episode.elapsed as u64)
                .rng();
            position = any_of(portals.exits, &mut rng).centre();
        }
        for (axis, joint) in self.joints.into_iter().enumerate() {
            self.world
                .set_joint_position(joint, position[axis] + STEP_M * displacement[axis]);
            self.world.set_joint_velocity(joint, 0.0);
        }
        self.settle();

        self.observation = self.position();
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
        &self.goal
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
        qpos.extend(self.position());
        qvel.extend(self.velocity());
    }

    fn snapshot(&self) -> Vec<u8> {
        let state = Snapshot {
            episode: self.episode.clone(),
            goal: self.goal,
            world: self.world.snapshot(),
        };
        snapshot::encode(self.spec, &state)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), EnvError> {
        let state: Snapshot = snapshot::decode(self.spec, snapshot)?;
        if state
            .episode
            .task
            .is_some_and(|task| task >= self.spec.tasks.len())
        {
            let reason = format!("task {:?} of {}", state.episode.task, self.spec.tasks.len());
            return Err(EnvError::BadSnapshot {
                id: self.spec.id,
                reason,
            });
        }
        self.world
            .restore(&state.world)
            .map_err(|error| EnvError::BadSnapshot {
                id: self.spec.id,
                reason: error.to_string(),
            })?;
        self.episode = state.episode;
        self.goal = state.goal;
        self.observation = self.position();
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
            self.goal,
            TOLERANCE_M,
            [0.2, 0.75, 0.35, 0.6],
        )];
        if let Some(portals) = &self.maze.portals {
            for (index, cell) in portals.entrances.iter().enumerate() {
                markers.push(disc(
                    format!("portals/entrance_{index}"),
                    cell.centre(),
                    1.0,
                    [0.2, 0.4, 0.9, 0.8],
                ));
            }
            for (index, cell) in portals.exits.iter().enumerate() {
                markers.push(disc(
                    format!("portals/exit_{index}"),
                    cell.centre(),
                    1.0,
                    [0.95, 0.6, 0.1, 0.8],
                ));
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
                Probe {
                    position: [place[0], place[1], 0.0],
                    observation: place.to_vec(),
                }
            })
        });
        Probes {
            spacing_m: CELL_M / per_cell as f32,
            states: states.collect(),
        }
    }

    fn end_effector(&self) -> [f32; 3] {
        [self.observation[0], self.observation[1], RADIUS_M]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_at(position: [f32; 2]) -> PointMaze {
        let mut env = PointMaze::new(1).unwrap();
        env.reset(0, &ResetOptions::default()).unwrap();
        env.world.set_state(&position, &[0.0; 2]).unwrap();
        env.observation = position;
        env
    }

    #[test]
    fn a_pushed_ball_stops_where_the_original_does() {
        // The faces around cell (1, 1) are at −2 m; measured in the original: −1.343 m.
        for action in [[-1.0, 0.0], [0.0, -1.0]] {
            let mut env = env_at([0.0; 2]);
            for _ in 0..100 {
                env.step(&action).unwrap();
            }
            let stop = env.observation.into_iter().fold(0.0, f32::min);
            assert!((stop + 1.343).abs() < 2e-3, "{stop}");
        }
    }

    #[test]
    fn skipped_physics_steps_would_change_nothing() {
        let mut rng = Seed::new(5).rng();
        let mut env = env_at([0.0; 2]);
        let mut skipped = 0;
        for _ in 0..5000 {
            // Long pushes, so that many steps end in a wall.
            let action = [0; 2].map(|_| rng.random_range(-1.0..=1.0_f32));
            for _ in 0..rng.random_range(1..10) {
                let mut full = env.world.clone();
                for (axis, joint) in env.joints.into_iter().enumerate() {
                    full.set_joint_position(joint, env.observation[axis] + STEP_M * action[axis]);
                    full.set_joint_velocity(joint, 0.0);
                }
                let written = env.joints.map(|joint| full.joint_position(joint));
                for _ in 0..PHYSICS_STEPS {
                    full.step();
                }
                let step = env.step(&action).unwrap();
                let position = env.joints.map(|joint| full.joint_position(joint));
                assert_eq!(env.observation, position, "from {written:?}");
                skipped += usize::from(position == written);
                if step.truncated {
                    env.episode.elapsed = 0;
                }
            }
        }
        assert!(skipped > 1000, "only {skipped} steps were free");
    }
}
