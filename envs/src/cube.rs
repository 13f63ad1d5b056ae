//! Cubes on a table: bring every cube to its goal position with a UR5e and a parallel gripper.
//!
//! `cube-single` and `cube-double` have the tasks, observations, actions and start distribution of OGBench's
//! `cube-single-v0` and `cube-double-v0` (Park et al. 2025). Grasping is friction between pads and cube, solved by
//! the engine; nothing is attached or moved by hand.

mod demonstrator;
mod oracle;
mod targets;
#[cfg(test)]
mod tests;
mod variants;

use std::f64::consts::TAU;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::{Rng, Seed};
use telic_sim::{BodyId, GeomShape, JointId, PhysicsConfig, Pose, Rotation, Vector, World};

use self::variants::{COLOURS, DOUBLE, Layout, SINGLE, Variant, model};
use crate::arm::{self, TabletopArm, scaled_position, unscaled_position};
use crate::env::{checked_action, checked_goal, resolve_task};
use crate::snapshot;
use crate::{EnvError, EnvSpec, GoalEnv, Marker, Probe, Probes, ResetOptions, Step};

/// Half of a cube's edge, in metres.
pub(super) const HALF_EXTENT: f64 = 0.02;
/// A cube is at its goal within this distance, in metres.
pub(super) const TOLERANCE: f64 = 0.04;
/// Corners of the rectangle in which cubes start and targets lie (x, y), in metres.
pub(super) const PLACEMENT: [[f64; 2]; 2] = [[0.3, -0.3], [0.55, 0.3]];
/// Box from which the arm's start poses are drawn, in metres.
pub(super) const ARM_START: [[f64; 3]; 2] = [[0.25, -0.35, 0.20], [0.6, 0.35, 0.35]];
/// Least distance between the centres of two cubes that are placed at random, in metres: no two overlap at any yaw.
pub(super) const CLEARANCE: f64 = 0.06;
/// Numbers per cube in an observation.
const CUBE_OBSERVATION: usize = 9;
/// Uniformly random actions that shake the arm before a goal is observed.
const GOAL_ACTIONS: usize = 2;
/// Starts of a task are jittered by up to this much in x and y, in metres.
const START_NOISE: f64 = 0.01;
/// Draws of a start before the next wider distribution is tried.
const START_ATTEMPTS: usize = 20;

/// The environments of this family.
pub(crate) fn specs() -> Vec<EnvSpec> {
    vec![SINGLE.spec(), DOUBLE.spec()]
}

/// First observation entry of a cube.
pub(super) fn cube_offset(cube: usize) -> usize {
    arm::OBSERVATION_DIM + CUBE_OBSERVATION * cube
}

/// Position of a cube in an observation, in metres.
pub(super) fn observed_cube(observation: &[f32], cube: usize) -> [f64; 3] {
    unscaled_position(&observation[cube_offset(cube)..])
}

/// Yaw of a cube in an observation.
pub(super) fn observed_cube_yaw(observation: &[f32], cube: usize) -> f64 {
    let first = cube_offset(cube);
    libm::atan2(
        f64::from(observation[first + 8]),
        f64::from(observation[first + 7]),
    )
}

/// Distance in the plane.
pub(super) fn planar_distance(a: &[f64], b: &[f64]) -> f64 {
    libm::hypot(a[0] - b[0], a[1] - b[1])
}

/// Distance in space.
pub(super) fn distance(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    libm::hypot(planar_distance(a, b), a[2] - b[2])
}

/// A uniformly random place on the table that keeps [`CLEARANCE`] to every point of `taken` if it can.
pub(super) fn free_place(taken: &[[f64; 3]], rng: &mut Rng) -> [f64; 3] {
    let mut place = [0.0; 3];
    for _ in 0..100 {
        place = [
            rng.random_range(PLACEMENT[0][0]..PLACEMENT[1][0]),
            rng.random_range(PLACEMENT[0][1]..PLACEMENT[1][1]),
            HALF_EXTENT,
        ];
        if taken
            .iter()
            .all(|other| planar_distance(other, &place) >= CLEARANCE)
        {
            break;
        }
    }
    place
}

/// Where a cube is put: position in metres and yaw in radians.
type Placement = ([f64; 3], f64);

/// What a snapshot holds besides the world.
#[derive(Clone, Serialize, Deserialize)]
struct Episode {
    goal_observation: Vec<f32>,
    task: Option<usize>,
    collection: bool,
    elapsed: usize,
    /// Last finite generalised positions, to fall back on.
    qpos: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    episode: Option<Episode>,
    observation: Vec<f32>,
    world: Vec<u8>,
}

/// An environment of the cube family.
pub(crate) struct CubeEnv {
    spec: &'static EnvSpec,
    variant: &'static Variant,
    arm: TabletopArm,
    /// The world as it was built: every placement starts from a copy, so that nothing of the past is left.
    initial: World,
    cubes: Vec<(JointId, BodyId)>,
    episode: Option<Episode>,
    /// Stands for the goal while there is no episode.
    no_goal: Vec<f32>,
    observation: Vec<f32>,
    desired_goal: Vec<f32>,
    achieved_goal: Vec<f32>,
    qvel_scratch: Vec<f32>,
}

impl CubeEnv {
    fn new(variant: &'static Variant) -> Result<Self, EnvError> {
        Self::with_physics(variant, &arm::physics())
    }

    fn with_physics(variant: &'static Variant, physics: &PhysicsConfig) -> Result<Self, EnvError> {
        let id = variant.id;
        let spec = crate::spec(id)?;
        let model = model(variant)?;
        let arm = TabletopArm::new(id, &model, physics)?;
        let mut cubes = Vec::new();
        for cube in 0..variant.cubes() {
            let name = format!("cube_{cube}");
            match (arm.world.joint_id(&name), arm.world.body_id(&name)) {
                (Some(joint), Some(body)) => cubes.push((joint, body)),
                _ => {
                    return Err(EnvError::Model {
                        id,
                        reason: format!("no free body `{name}`"),
                    });
                }
            }
        }
        let qvel_scratch = vec![0.0; arm.world.nv()];
        Ok(Self {
            spec,
            variant,
            initial: arm.world.clone(),
            arm,
            cubes,
            episode: None,
            no_goal: vec![0.0; spec.observation_dim()],
            observation: vec![0.0; spec.observation_dim()],
            desired_goal: vec![0.0; spec.goal_dim()],
            achieved_goal: vec![0.0; spec.goal_dim()],
            qvel_scratch,
        })
    }

    /// Puts arm and cubes at rest.
    fn place(&mut self, tool: &arm::ToolPose, cubes: &[Placement]) {
        let mut qpos = vec![0.0; self.arm.world.nq()];
        self.arm.write_start(tool, &mut qpos);
        for (&(joint, _), (position, yaw)) in self.cubes.iter().zip(cubes) {
            let address = self.arm.world.qpos_address(joint);
            for axis in 0..3 {
                qpos[address + axis] = position[axis] as f32;
            }
            // Quaternion wxyz of a rotation about z.
            qpos[address + 3] = libm::cos(yaw / 2.0) as f32;
            qpos[address + 6] = libm::sin(yaw / 2.0) as f32;
        }
        self.set_positions(&qpos);
    }

    fn set_positions(&mut self, qpos: &[f32]) {
        self.qvel_scratch.fill(0.0);
        self.arm.world = self.initial.clone();
        self.arm
            .world
            .set_state(qpos, &self.qvel_scratch)
            .expect("as many numbers as the model has, all finite");
        self.observe();
    }

    fn observe(&mut self) {
        self.arm.observe(&mut self.observation);
        for (cube, &(_, body)) in self.cubes.iter().enumerate() {
            let pose = self.arm.world.body_pose(body);
            let entries = &mut self.observation[cube_offset(cube)..][..CUBE_OBSERVATION];
            entries[..3].copy_from_slice(&scaled_position(pose.translation.to_array()));
            let [x, y, z, w] = pose.rotation.to_array();
            entries[3..7].copy_from_slice(&[w, x, y, z]);
            let yaw = arm::yaw(&pose);
            entries[7] = libm::cos(yaw) as f32;
            entries[8] = libm::sin(yaw) as f32;
        }
        self.spec
            .goal
            .extract(&self.observation, &mut self.achieved_goal);
    }

    fn reached(&self) -> bool {
        self.spec
            .goal
            .reached(&self.achieved_goal, &self.desired_goal)
    }

    /// Cubes at uniformly random places and yaws.
    fn random_placements(&self, rng: &mut Rng) -> Vec<Placement> {
        let mut taken = Vec::new();
        (0..self.cubes.len())
            .map(|_| {
                let place = free_place(&taken, rng);
                taken.push(place);
                (place, rng.random_range(0.0..TAU))
            })
            .collect()
    }

    /// A task's starts with its noise, in the order of the cubes.
    fn task_placements(layout: &Layout, order: &[usize], rng: &mut Rng) -> Vec<Placement> {
        order
            .iter()
            .map(|&slot| {
                let [x, y, z] = layout.start[slot];
                let jitter = |rng: &mut Rng| rng.random_range(-START_NOISE..START_NOISE);
                let place = [x + jitter(rng), y + jitter(rng), z];
                (place, rng.random_range(0.0..TAU))
            })
            .collect()
    }

    /// Observation a few random actions after the goal placement.
    fn observe_goal(&mut self, goal: &[Placement], seed: Seed) -> Vec<f32> {
        let tool = TabletopArm::random_tool_pose(&ARM_START, &mut seed.child("goal arm").rng());
        self.place(&tool, goal);
        let mut rng = seed.child("goal actions").rng();
        for _ in 0..GOAL_ACTIONS {
            let action = std::array::from_fn(|_| rng.random_range(-1.0..=1.0));
            self.arm.step(&action);
        }
        self.observe();
        self.observation.clone()
    }

    /// Checks a goal observation and makes it the goal.
    fn accept_goal(&mut self, goal_observation: &[f32]) -> Result<(), EnvError> {
        checked_goal(self.spec, goal_observation)?;
        self.spec
            .goal
            .extract(goal_observation, &mut self.desired_goal);
        Ok(())
    }

    /// Places the start so that it is not a success: as `options` ask for, and where that cannot be (a goal of the
    /// caller's that is the start), with the cubes anywhere on the table.
    fn place_start(
        &mut self,
        seed: Seed,
        layout: Option<(&Layout, &[usize])>,
    ) -> Result<(), EnvError> {
        let tool = TabletopArm::random_tool_pose(&ARM_START, &mut seed.child("start arm").rng());
        let mut rng = seed.child("start cubes").rng();
        for attempt in 0..2 * START_ATTEMPTS {
            let placements = match layout {
                Some((layout, order)) if attempt < START_ATTEMPTS => {
                    Self::task_placements(layout, order, &mut rng)
                }
                _ => self.random_placements(&mut rng),
            };
            self.place(&tool, &placements);
            if !self.reached() {
                return Ok(());
            }
        }
        let reason = format!(
            "every one of {} starts already reaches it",
            2 * START_ATTEMPTS
        );
        Err(EnvError::BadGoal {
            id: self.spec.id,
            reason,
        })
    }

    fn episode(&self) -> Result<&Episode, EnvError> {
        self.episode
            .as_ref()
            .ok_or(EnvError::NotReset { id: self.spec.id })
    }
}

impl GoalEnv for CubeEnv {
    fn spec(&self) -> &'static EnvSpec {
        self.spec
    }

    fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<(), EnvError> {
        let seed = Seed::new(seed);
        let task = resolve_task(self.spec, options.start, seed)?;
        if let Some(goal) = &options.goal {
            self.accept_goal(goal)?;
        }
        // Which slot of the layout each cube takes.
        let order = permutation(self.cubes.len(), &mut seed.child("order").rng());
        let layout = task.map(|task| &self.variant.layouts[task]);
        let goal_observation = if let Some(goal) = &options.goal {
            goal.clone()
        } else {
            let goal: Vec<Placement> = match layout {
                Some(layout) => order.iter().map(|&slot| (layout.goal[slot], 0.0)).collect(),
                None => self.random_placements(&mut seed.child("goal cubes").rng()),
            };
            let observation = self.observe_goal(&goal, seed);
            self.accept_goal(&observation)?;
            observation
        };
        self.place_start(seed, layout.map(|layout| (layout, order.as_slice())))?;
        let mut qpos = vec![0.0; self.arm.world.nq()];
        self.arm.world.qpos(&mut qpos);
        self.episode = Some(Episode {
            goal_observation,
            task,
            collection: task.is_none(),
            elapsed: 0,
            qpos,
        });
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        self.episode()?;
        let mut clipped = [0.0; arm::ACTION_DIM];
        checked_action(self.spec.id, action, &mut clipped)?;
        self.arm.step(&clipped);
        let Some(mut episode) = self.episode.take() else {
            return Err(EnvError::NotReset { id: self.spec.id });
        };
        if self.arm.world.is_finite() {
            self.arm.world.qpos(&mut episode.qpos);
            self.observe();
        } else {
            // Never seen; the last good configuration, at rest, is better than NaN in a data set.
            self.set_positions(&episode.qpos);
        }
        episode.elapsed += 1;
        let success = self.reached();
        let step = Step {
            reward: if success { 0.0 } else { -1.0 },
            terminated: success && !episode.collection,
            truncated: episode.elapsed >= self.spec.max_episode_steps,
            success,
        };
        self.episode = Some(episode);
        Ok(step)
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }

    fn goal_observation(&self) -> &[f32] {
        self.episode
            .as_ref()
            .map_or(&self.no_goal, |episode| &episode.goal_observation)
    }

    fn desired_goal(&self) -> &[f32] {
        &self.desired_goal
    }

    fn set_goal(&mut self, goal_observation: &[f32]) -> Result<(), EnvError> {
        self.episode()?;
        self.accept_goal(goal_observation)?;
        if let Some(episode) = &mut self.episode {
            episode.goal_observation.copy_from_slice(goal_observation);
        }
        Ok(())
    }

    fn task(&self) -> Option<usize> {
        self.episode.as_ref().and_then(|episode| episode.task)
    }

    fn elapsed_steps(&self) -> usize {
        self.episode.as_ref().map_or(0, |episode| episode.elapsed)
    }

    fn state(&self, qpos: &mut Vec<f32>, qvel: &mut Vec<f32>) {
        let (q, v) = (qpos.len(), qvel.len());
        qpos.resize(q + self.arm.world.nq(), 0.0);
        qvel.resize(v + self.arm.world.nv(), 0.0);
        self.arm.world.qpos(&mut qpos[q..]);
        self.arm.world.qvel(&mut qvel[v..]);
    }

    fn snapshot(&self) -> Vec<u8> {
        let state = Snapshot {
            episode: self.episode.clone(),
            observation: self.observation.clone(),
            world: self.arm.world.snapshot(),
        };
        snapshot::encode(self.spec, &state)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), EnvError> {
        let state: Snapshot = snapshot::decode(self.spec, snapshot)?;
        let bad = |reason: String| EnvError::BadSnapshot {
            id: self.spec.id,
            reason,
        };
        let dims = (self.spec.observation_dim(), self.arm.world.nq());
        let lengths_fit = state.observation.len() == dims.0
            && state.episode.as_ref().is_none_or(|episode| {
                (episode.goal_observation.len(), episode.qpos.len()) == dims
                    && episode.task.is_none_or(|task| task < self.spec.tasks.len())
            });
        if !lengths_fit {
            return Err(bad(
                "its observation, goal, positions or task do not fit".to_owned()
            ));
        }
        let mut world = self.initial.clone();
        world
            .restore(&state.world)
            .map_err(|error| bad(error.to_string()))?;
        self.arm.world = world;
        self.observation = state.observation;
        self.spec
            .goal
            .extract(&self.observation, &mut self.achieved_goal);
        if let Some(episode) = &state.episode {
            self.spec
                .goal
                .extract(&episode.goal_observation, &mut self.desired_goal);
        }
        self.episode = state.episode;
        Ok(())
    }

    fn world(&self) -> &World {
        &self.arm.world
    }

    fn markers(&self) -> Vec<Marker> {
        let Some(episode) = &self.episode else {
            return Vec::new();
        };
        (0..self.cubes.len())
            .map(|cube| {
                let goal = &episode.goal_observation;
                let position = observed_cube(goal, cube).map(|x| x as f32);
                let quat_wxyz = &goal[cube_offset(cube) + 3..][..4];
                let rotation =
                    Rotation::from_xyzw(quat_wxyz[1], quat_wxyz[2], quat_wxyz[3], quat_wxyz[0]);
                let [r, g, b, _] = COLOURS[cube];
                Marker {
                    name: format!("goal/cube_{cube}"),
                    shape: GeomShape::Box {
                        half_extents: [HALF_EXTENT as f32; 3],
                    },
                    pose: Pose::from_parts(Vector::from_array(position), rotation),
                    rgba: [r, g, b, 0.3],
                }
            })
            .collect()
    }

    fn probes(&self, across: usize) -> Probes {
        let [low, high] = PLACEMENT;
        let sides = [0, 1].map(|axis| high[axis] - low[axis]);
        let spacing = sides[0].max(sides[1]) / across.max(1) as f64;
        let count = sides.map(|side| ((side / spacing).round() as usize).max(1));
        let at = |axis: usize, n: usize| (low[axis] + (n as f64 + 0.5) * spacing) as f32;
        let states = (0..count[0] * count[1]).map(|n| {
            let [x, y] = [at(0, n % count[0]), at(1, n / count[0])];
            let mut observation = self.observation.clone();
            let entries = &mut observation[cube_offset(0)..][..3];
            entries.copy_from_slice(&scaled_position([x, y, HALF_EXTENT as f32]));
            Probe {
                position: [x, y, 0.0],
                observation,
            }
        });
        Probes {
            spacing_m: spacing as f32,
            place: observed_cube(&self.observation, 0).map(|x| x as f32),
            states: states.collect(),
        }
    }

    fn end_effector(&self) -> [f32; 3] {
        self.arm.tool_pose().position.map(|x| x as f32)
    }
}

/// A uniformly random order of `0..count` (Fisher and Yates).
fn permutation(count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    order
}
