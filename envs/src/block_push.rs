//! Two cubes are pushed into two target squares: the id `block-push`.
//!
//! Layout, distances, rates and scores follow the multimodal block pushing of C-BeT (Cui et al. 2022) on the
//! environment of Florence et al. 2021, as BESO (Reuss et al. 2023) evaluates it. The effector is a rod on two
//! position servos in place of an arm with inverse kinematics; see `assets/block_push.xml`.

mod demonstrator;
mod oracle;
mod score;
#[cfg(test)]
mod tests;

use std::f32::consts::PI;
use std::ops::Range;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::{Rng, Seed};
use telic_sim::{
    ActuatorId, BodyId, Friction, GeomShape, JointId, PhysicsConfig, Pose, Rotation, Vector, World,
};

use self::score::Score;
use crate::env::{checked_action, checked_goal, resolve_task};
use crate::shared_model::SharedModel;
use crate::{
    ActionEntry, DemonstratorSpec, Entry, EnvError, EnvSpec, GoalEnv, GoalSpec, Marker,
    ResetOptions, Step, Task,
};
use crate::{registry, snapshot};

/// Entries of the observation that the published policies see; the targets reach them through the goal.
pub const POLICY_OBSERVATION: Range<usize> = 0..10;
/// Entries that make up a goal: the positions of both blocks.
pub const GOAL_INDICES: [usize; 4] = [0, 1, 3, 4];
/// Displacement of the commanded effector at an action of 1, in metres.
pub const ACTION_SCALE_M: f32 = 0.05;
/// A block is inside a target where their centres are closer than this in the plane, in metres.
pub const TOLERANCE_M: f32 = 0.05;

const ID: &str = "block-push";
const OBSERVATION_DIM: usize = 16;
const PHYSICS_HZ: f32 = 240.0;
const PHYSICS_STEPS: usize = 24;
const SETTLE_STEPS: usize = 100;
const MAX_EPISODE_STEPS: usize = 300;
/// Bounds of the commanded effector, low and high, x and y.
const WORKSPACE_M: [[f32; 2]; 2] = [[0.15, -0.5], [0.70, 0.5]];
const EFFECTOR_START_M: [f32; 2] = [0.3, -0.4];
/// Height of the pusher's tip frame above the table.
const EFFECTOR_HEIGHT_M: f32 = 0.06;
/// Half of the edge of a block.
const BLOCK_HALF_M: f32 = 0.02;
/// Half of the edge of a target square.
const TARGET_HALF_M: f32 = 0.06;
/// How far outside of the workspace the rim lets the centre of a block come.
const RIM_MARGIN_M: f32 = 0.21;
/// Draws before a reset gives up; each succeeds with probability 1/4.
const RESET_TRIES: usize = 1000;

const BLOCK_RGBA: [[f32; 3]; 2] = [[0.85, 0.25, 0.2], [0.2, 0.4, 0.85]];
const TARGET_RGBA: [[f32; 3]; 2] = [[0.95, 0.75, 0.2], [0.55, 0.3, 0.7]];

/// The spec.
pub fn spec() -> EnvSpec {
    let plane = |name: &str, margin: f32| {
        ["x", "y"].map(|axis| {
            let index = usize::from(axis == "y");
            Entry {
                name: format!("{name}.{axis}"),
                unit: "m",
                low: WORKSPACE_M[0][index] - margin,
                high: WORKSPACE_M[1][index] + margin,
            }
        })
    };
    let yaw = |name: &str| Entry {
        name: format!("{name}.yaw"),
        unit: "rad",
        low: -PI,
        high: PI,
    };
    let mut observation = Vec::with_capacity(OBSERVATION_DIM);
    for block in ["block_0", "block_1"] {
        observation.extend(plane(block, RIM_MARGIN_M));
        observation.push(yaw(block));
    }
    // The servos overshoot a little where the command stops at the border.
    observation.extend(plane("effector", 0.01));
    observation.extend(plane("effector_command", 0.0));
    for target in ["target_0", "target_1"] {
        observation.extend(plane(target, 0.0));
        observation.push(yaw(target));
    }
    let action = |name: &str| ActionEntry {
        name: name.to_owned(),
        unit: "m",
        scale: ACTION_SCALE_M,
    };
    let task = |name: &str, summary: &str| Task {
        name: name.to_owned(),
        summary: summary.to_owned(),
    };
    EnvSpec {
        id: ID,
        family: "block-push",
        version: 0,
        summary: "A rod pushes two blocks into two target squares.",
        observation,
        action: vec![action("effector_command.x"), action("effector_command.y")],
        goal: GoalSpec {
            indices: GOAL_INDICES.to_vec(),
            tolerance: TOLERANCE_M,
            point_dim: 2,
            metres_per_unit: 1.0,
        },
        control_hz: f64::from(PHYSICS_HZ) / PHYSICS_STEPS as f64,
        max_episode_steps: MAX_EPISODE_STEPS,
        tasks: vec![
            task("straight", "Block 0 into target 0, block 1 into target 1."),
            task("crossed", "Block 0 into target 1, block 1 into target 0."),
        ],
        rewards: vec![],
        make: || Ok(Box::new(BlockPush::new()?)),
        demonstrators: vec![
            DemonstratorSpec {
                name: "play",
                summary: "Pushes both blocks into different targets, in any order and assignment; free of noise.",
                episode_steps: MAX_EPISODE_STEPS,
                make: |noise| Ok(Box::new(demonstrator::Pusher::play(noise)?)),
            },
            DemonstratorSpec {
                name: "noisy",
                summary: "The same, knocked off its way by 8 mm (standard deviation) at 15 % of the steps.",
                episode_steps: MAX_EPISODE_STEPS,
                make: |noise| Ok(Box::new(demonstrator::Pusher::noisy(noise)?)),
            },
        ],
    }
}

/// Which target each block belongs into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Assignment {
    #[default]
    Straight,
    Crossed,
}

impl Assignment {
    fn target_of(self, block: usize) -> usize {
        match self {
            Self::Straight => block,
            Self::Crossed => 1 - block,
        }
    }
}

/// A position and a yaw in the plane of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Planar {
    xy: [f32; 2],
    yaw: f32,
}

/// The environment.
pub struct BlockPush {
    spec: &'static EnvSpec,
    world: World,
    blocks: [BodyId; 2],
    pusher: [JointId; 2],
    servos: [ActuatorId; 2],
    episode: Episode,
    observation: [f32; OBSERVATION_DIM],
    goal_observation: [f32; OBSERVATION_DIM],
    desired_goal: [f32; GOAL_INDICES.len()],
}

/// What besides the physics and the goal decides the future.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Episode {
    started: bool,
    task: Option<usize>,
    elapsed: usize,
    assignment: Assignment,
    command: [f32; 2],
    targets: [Planar; 2],
    score: Score,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    episode: Episode,
    goal_observation: [f32; OBSERVATION_DIM],
    world: Vec<u8>,
}

impl BlockPush {
    fn new() -> Result<Self, EnvError> {
        static MODEL: SharedModel = SharedModel::new();
        let spec = registry::spec(ID)?;
        let bad_model = |reason: String| EnvError::Model { id: ID, reason };
        // One friction constraint per contact point: the table then resists the turning of a pushed block as it
        // should. With one per patch, blocks spin away from the rod and the oracle's success falls from 99 to 72 %.
        let config = PhysicsConfig {
            timestep_secs: 1.0 / PHYSICS_HZ,
            friction: Friction::Point,
            ..PhysicsConfig::default()
        };
        let model = MODEL.get(ID, || include_str!("../assets/block_push.xml").to_owned())?;
        let world = World::new(&model, &config).map_err(|error| bad_model(error.to_string()))?;
        let missing = |name: &str| bad_model(format!("nothing is called `{name}`"));
        let body = |name: &str| world.body_id(name).ok_or_else(|| missing(name));
        let joint = |name: &str| world.joint_id(name).ok_or_else(|| missing(name));
        let servo = |name: &str| world.actuator_id(name).ok_or_else(|| missing(name));
        Ok(Self {
            spec,
            blocks: [body("block_0")?, body("block_1")?],
            pusher: [joint("pusher_x")?, joint("pusher_y")?],
            servos: [servo("pusher_x")?, servo("pusher_y")?],
            world,
            episode: Episode::default(),
            observation: [0.0; OBSERVATION_DIM],
            goal_observation: [0.0; OBSERVATION_DIM],
            desired_goal: [0.0; GOAL_INDICES.len()],
        })
    }

    /// Writes the state of the world into the observation.
    fn observe(&mut self) {
        for (block, body) in self.blocks.into_iter().enumerate() {
            let pose = self.world.body_pose(body);
            let at = Planar {
                xy: [pose.translation.x, pose.translation.y],
                yaw: yaw_of(pose.rotation),
            };
            self.write_planar(3 * block, at);
        }
        for axis in 0..2 {
            self.observation[6 + axis] = self.world.joint_position(self.pusher[axis]);
            self.observation[8 + axis] = self.episode.command[axis];
        }
        for target in 0..2 {
            self.write_planar(10 + 3 * target, self.episode.targets[target]);
        }
    }

    fn write_planar(&mut self, at: usize, planar: Planar) {
        self.observation[at..at + 3].copy_from_slice(&[planar.xy[0], planar.xy[1], planar.yaw]);
    }

    fn take_goal(&mut self, goal_observation: [f32; OBSERVATION_DIM]) {
        self.goal_observation = goal_observation;
        self.spec
            .goal
            .extract(&self.goal_observation, &mut self.desired_goal);
        self.episode.assignment = assignment_of(&self.desired_goal, &self.episode.targets);
    }

    fn command(&mut self) {
        for (servo, command) in self.servos.into_iter().zip(self.episode.command) {
            self.world.set_ctrl(servo, command);
        }
    }

    /// Where the blocks are, by block.
    fn block_positions(&self) -> [[f32; 2]; 2] {
        [
            [self.observation[0], self.observation[1]],
            [self.observation[3], self.observation[4]],
        ]
    }
}

/// Rotation about the vertical of a body's x axis, in −π..=π.
fn yaw_of(rotation: Rotation) -> f32 {
    let Rotation { x, y, z, w, .. } = rotation;
    libm::atan2f(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    let (dx, dy) = (a[0] - b[0], a[1] - b[1]);
    (dx * dx + dy * dy).sqrt()
}

/// The assignment whose target centres are closer to the goal positions of the blocks.
fn assignment_of(desired_goal: &[f32; 4], targets: &[Planar; 2]) -> Assignment {
    let total = |assignment: Assignment| {
        (0..2)
            .map(|block| {
                let goal = [desired_goal[2 * block], desired_goal[2 * block + 1]];
                distance(goal, targets[assignment.target_of(block)].xy)
            })
            .sum::<f32>()
    };
    if total(Assignment::Straight) <= total(Assignment::Crossed) {
        Assignment::Straight
    } else {
        Assignment::Crossed
    }
}

fn around(centre: f32, spread: f32, rng: &mut Rng) -> f32 {
    centre + rng.random_range(-spread..spread)
}

/// Both targets: side by side, in random order.
fn draw_targets(rng: &mut Rng) -> [Planar; 2] {
    let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    [side, -side].map(|side| {
        let xy = [
            around(0.4 + 0.12 * side, 0.005, rng),
            around(0.2, 0.0075, rng),
        ];
        let yaw = around(PI, PI / 30.0, rng);
        Planar {
            xy,
            yaw: if yaw > PI { yaw - 2.0 * PI } else { yaw },
        }
    })
}

/// Both blocks, more than 0.1 m apart along x, or `None` where this draw does not keep them apart.
fn draw_blocks(rng: &mut Rng) -> Option<[Planar; 2]> {
    let blocks = [(); 2].map(|()| Planar {
        xy: [around(0.4, 0.1, rng), around(-0.2, 0.15, rng)],
        yaw: rng.random_range(0.0..PI),
    });
    ((blocks[0].xy[0] - blocks[1].xy[0]).abs() > 0.1).then_some(blocks)
}

impl GoalEnv for BlockPush {
    fn spec(&self) -> &'static EnvSpec {
        self.spec
    }

    fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<(), EnvError> {
        let seed = Seed::new(seed);
        let task = resolve_task(self.spec, options.start, seed)?;
        if let Some(goal) = &options.goal {
            checked_goal(self.spec, goal)?;
        }
        let targets = draw_targets(&mut seed.child("targets").rng());
        let crossed = match task {
            Some(task) => task == 1,
            None => seed.child("assignment").rng().random_bool(0.5),
        };
        let assignment = if crossed {
            Assignment::Crossed
        } else {
            Assignment::Straight
        };
        let desired: [[f32; 2]; 2] = match &options.goal {
            Some(goal) => [[goal[0], goal[1]], [goal[3], goal[4]]],
            None => [0, 1].map(|block| targets[assignment.target_of(block)].xy),
        };
        let mut rng = seed.child("blocks").rng();
        // Settling moves a block by far less than a millimetre, so a millimetre more than the tolerance is enough.
        let drawn = (0..RESET_TRIES).find_map(|_| {
            draw_blocks(&mut rng).filter(|blocks| {
                (0..2).any(|block| distance(blocks[block].xy, desired[block]) > TOLERANCE_M + 0.001)
            })
        });
        let Some(blocks) = drawn else {
            let reason = format!("every start of the episode is within {TOLERANCE_M} m of it");
            return Err(EnvError::BadGoal { id: ID, reason });
        };

        let mut qpos = Vec::with_capacity(16);
        for block in blocks {
            let (sin, cos) = libm::sincosf(block.yaw / 2.0);
            qpos.extend([block.xy[0], block.xy[1], BLOCK_HALF_M, cos, 0.0, 0.0, sin]);
        }
        qpos.extend(EFFECTOR_START_M);
        self.world
            .set_state(&qpos, &[0.0; 14])
            .map_err(|error| EnvError::Model {
                id: ID,
                reason: error.to_string(),
            })?;
        self.episode = Episode {
            started: true,
            task,
            elapsed: 0,
            assignment,
            command: EFFECTOR_START_M,
            targets,
            score: Score::default(),
        };
        self.command();
        for _ in 0..SETTLE_STEPS {
            self.world.step();
        }
        self.observe();

        let goal = if let Some(goal) = &options.goal {
            std::array::from_fn(|index| goal[index])
        } else {
            // The scene as it is, with both blocks in their targets.
            let mut goal = self.observation;
            for block in 0..2 {
                let target = targets[assignment.target_of(block)];
                goal[3 * block..3 * block + 3].copy_from_slice(&[
                    target.xy[0],
                    target.xy[1],
                    target.yaw,
                ]);
            }
            goal
        };
        self.take_goal(goal);
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        if !self.episode.started {
            return Err(EnvError::NotReset { id: ID });
        }
        let mut clipped = [0.0; 2];
        checked_action(ID, action, &mut clipped)?;
        for (axis, value) in clipped.into_iter().enumerate() {
            let command = self.episode.command[axis] + ACTION_SCALE_M * value;
            self.episode.command[axis] = command.clamp(WORKSPACE_M[0][axis], WORKSPACE_M[1][axis]);
        }
        self.command();
        for _ in 0..PHYSICS_STEPS {
            self.world.step();
        }
        self.observe();

        self.episode.elapsed += 1;
        let over = self.episode.score.update(
            self.block_positions(),
            self.episode.targets.map(|target| target.xy),
        );
        let mut achieved = [0.0; GOAL_INDICES.len()];
        self.spec.goal.extract(&self.observation, &mut achieved);
        let success = self.spec.goal.reached(&achieved, &self.desired_goal);
        Ok(Step {
            reward: if success { 0.0 } else { -1.0 },
            terminated: over || (success && self.episode.task.is_some()),
            truncated: self.episode.elapsed >= MAX_EPISODE_STEPS,
            success,
        })
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }

    fn goal_observation(&self) -> &[f32] {
        &self.goal_observation
    }

    fn desired_goal(&self) -> &[f32] {
        &self.desired_goal
    }

    fn set_goal(&mut self, goal_observation: &[f32]) -> Result<(), EnvError> {
        checked_goal(self.spec, goal_observation)?;
        self.take_goal(std::array::from_fn(|index| goal_observation[index]));
        Ok(())
    }

    /// Reuss et al. 2023: the blocks change places where that episode had them the other way round.
    fn goal_like(&self, final_observation: &[f32]) -> Option<Vec<f32>> {
        let mut goal = final_observation.to_vec();
        let mut positions = [0.0; GOAL_INDICES.len()];
        self.spec.goal.extract(&goal, &mut positions);
        if assignment_of(&positions, &self.episode.targets) != self.episode.assignment {
            for axis in 0..2 {
                goal.swap(axis, 3 + axis);
            }
        }
        Some(goal)
    }

    fn task(&self) -> Option<usize> {
        self.episode.task
    }

    fn elapsed_steps(&self) -> usize {
        self.episode.elapsed
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        let score = &self.episode.score;
        vec![
            ("reward", score.reward()),
            ("result", score.result(self.episode.assignment)),
        ]
    }

    fn state(&self, qpos: &mut Vec<f32>, qvel: &mut Vec<f32>) {
        let (from, to) = (qpos.len(), qvel.len());
        qpos.resize(from + self.world.nq(), 0.0);
        qvel.resize(to + self.world.nv(), 0.0);
        self.world.qpos(&mut qpos[from..]);
        self.world.qvel(&mut qvel[to..]);
    }

    fn snapshot(&self) -> Vec<u8> {
        let state = Snapshot {
            episode: self.episode.clone(),
            goal_observation: self.goal_observation,
            world: self.world.snapshot(),
        };
        snapshot::encode(self.spec, &state)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), EnvError> {
        let state: Snapshot = snapshot::decode(self.spec, snapshot)?;
        let bad = |reason: String| EnvError::BadSnapshot { id: ID, reason };
        if state
            .episode
            .task
            .is_some_and(|task| task >= self.spec.tasks.len())
        {
            return Err(bad(format!(
                "task {:?} of {}",
                state.episode.task,
                self.spec.tasks.len()
            )));
        }
        self.world
            .restore(&state.world)
            .map_err(|error| bad(error.to_string()))?;
        self.episode = state.episode;
        self.take_goal(state.goal_observation);
        self.observe();
        Ok(())
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn markers(&self) -> Vec<Marker> {
        let opaque = |[r, g, b]: [f32; 3], alpha: f32| [r, g, b, alpha];
        let flat = |at: Planar, height: f32| {
            Pose::from_parts(
                Vector::new(at.xy[0], at.xy[1], height),
                Rotation::from_rotation_z(at.yaw),
            )
        };
        let mut markers = Vec::with_capacity(4);
        for (index, target) in self.episode.targets.iter().enumerate() {
            markers.push(Marker {
                name: format!("targets/target_{index}"),
                shape: GeomShape::Box {
                    half_extents: [TARGET_HALF_M, TARGET_HALF_M, 0.0005],
                },
                pose: flat(*target, 0.0005),
                rgba: opaque(TARGET_RGBA[index], 0.8),
            });
        }
        for (block, rgba) in BLOCK_RGBA.into_iter().enumerate() {
            let goal = &self.goal_observation[3 * block..3 * block + 3];
            markers.push(Marker {
                name: format!("goal/block_{block}"),
                shape: GeomShape::Box {
                    half_extents: [BLOCK_HALF_M; 3],
                },
                pose: flat(
                    Planar {
                        xy: [goal[0], goal[1]],
                        yaw: goal[2],
                    },
                    BLOCK_HALF_M,
                ),
                rgba: opaque(rgba, 0.3),
            });
        }
        markers
    }

    fn end_effector(&self) -> [f32; 3] {
        [self.observation[6], self.observation[7], EFFECTOR_HEIGHT_M]
    }
}
