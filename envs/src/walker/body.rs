//! The walker's body in a world: coordinates, observation, torques.

use std::f32::consts::PI;

use rand::RngExt;
use telic_seed::Rng;
use telic_sim::{BodyId, JointLimits, PhysicsConfig, Rotation, StateError, World};

use super::rewards::Motion;
use crate::{ActionEntry, Entry};

/// Length of an observation.
pub(super) const OBSERVATION_DIM: usize = 24;
/// Length of an action.
pub(super) const ACTION_DIM: usize = 6;
/// Coordinates: height above 1.3 m and x of the torso, its pitch, and six hinges.
pub(super) const COORDINATES: usize = 9;
/// Coordinates of the world that come before: `rail`, always 0.
const HIDDEN: usize = 1;
/// Observation entry of the torso's height.
pub(super) const HEIGHT: usize = 14;
/// Observation entry of the torso's horizontal velocity.
pub(super) const SPEED: usize = 16;
/// Control steps per second.
pub(super) const CONTROL_HZ: f64 = 40.0;

const PHYSICS_STEPS: usize = 4;
const PHYSICS_STEP_SECS: f32 = 0.00625;

const BODIES: [&str; 7] = [
    "torso",
    "right_thigh",
    "right_leg",
    "right_foot",
    "left_thigh",
    "left_leg",
    "left_foot",
];
const ROOT: [&str; 3] = ["rootz", "rootx", "rooty"];
/// Hinges in the order of coordinates and actions: name, range in degrees, torque of an action of 1 in N m.
const HINGES: [(&str, [f32; 2], f32); ACTION_DIM] = [
    ("right_hip", [-20.0, 100.0], 100.0),
    ("right_knee", [-150.0, 0.0], 50.0),
    ("right_ankle", [-45.0, 45.0], 20.0),
    ("left_hip", [-20.0, 100.0], 100.0),
    ("left_knee", [-150.0, 0.0], 50.0),
    ("left_ankle", [-45.0, 45.0], 20.0),
];
/// Torso at 1.25 m over level feet.
const STANCE: [f32; COORDINATES] = [-0.05, 0.0, 0.0, 0.344, -0.652, 0.308, 0.344, -0.652, 0.308];

/// Entries of an observation.
pub(super) fn entries() -> Vec<Entry> {
    let entry = |name: String, unit, bound: f32| Entry {
        name,
        unit,
        low: -bound,
        high: bound,
    };
    let mut entries = vec![];
    for body in BODIES {
        for part in ["xx", "xz"] {
            entries.push(entry(format!("{body}.rotation.{part}"), "1", 1.01));
        }
    }
    // Ranges that no motion reaches.
    entries.push(Entry {
        low: -1.0,
        ..entry("torso.height".to_owned(), "m", 10.0)
    });
    for (joint, unit, bound) in [
        (ROOT[0], "m/s", 100.0),
        (ROOT[1], "m/s", 100.0),
        (ROOT[2], "rad/s", 300.0),
    ] {
        entries.push(entry(format!("{joint}.velocity"), unit, bound));
    }
    for (hinge, _, _) in HINGES {
        entries.push(entry(format!("{hinge}.velocity"), "rad/s", 300.0));
    }
    entries
}

/// Entries of an action.
pub(super) fn action_entries() -> Vec<ActionEntry> {
    HINGES
        .map(|(name, _, scale)| ActionEntry {
            name: name.to_owned(),
            unit: "N m",
            scale,
        })
        .to_vec()
}

/// How its physics is solved.
pub(super) fn physics() -> PhysicsConfig {
    PhysicsConfig {
        timestep_secs: PHYSICS_STEP_SECS,
        solver_iterations: 1,
        // With MuJoCo's 0.02 s, joints go twice as far beyond their ranges as there: its solver stiffens limits under load.
        joint_limits: JointLimits::Soft {
            time_constant_secs: 2.0 * PHYSICS_STEP_SECS,
        },
        ..PhysicsConfig::default()
    }
}

/// Handles of its parts in a world.
pub(super) struct Walker {
    /// In the order of an observation.
    bodies: Vec<BodyId>,
}

impl Walker {
    pub(super) fn new(world: &World) -> Result<Self, String> {
        let body = |name| world.body_id(name).ok_or_else(|| format!("no `{name}`"));
        Ok(Self {
            bodies: BODIES.into_iter().map(body).collect::<Result<_, _>>()?,
        })
    }

    /// A start as in the original: joints uniform in their ranges, any pitch, the torso at 1.3 m, at rest.
    pub(super) fn start(world: &mut World, rng: &mut Rng) {
        let mut qpos = [0.0; COORDINATES];
        qpos[2] = rng.random_range(-PI..PI);
        for (angle, (_, [low, high], _)) in qpos[3..].iter_mut().zip(HINGES) {
            *angle = rng.random_range(low..high).to_radians();
        }
        Self::place(world, &qpos);
    }

    /// An upright stance.
    pub(super) fn stand(world: &mut World) {
        Self::place(world, &STANCE);
    }

    fn place(world: &mut World, qpos: &[f32; COORDINATES]) {
        Self::set_state(world, qpos, &[0.0; COORDINATES]).expect("nine finite coordinates");
        world
            .set_ctrls(&[0.0; ACTION_DIM])
            .expect("six finite numbers for six motors");
    }

    /// Writes coordinates and velocities, `[9]` each.
    pub(super) fn set_state(
        world: &mut World,
        qpos: &[f32],
        qvel: &[f32],
    ) -> Result<(), StateError> {
        world.set_state(
            &[&[0.0; HIDDEN], qpos].concat(),
            &[&[0.0; HIDDEN], qvel].concat(),
        )
    }

    /// Coordinates and velocities.
    pub(super) fn state(world: &World) -> ([f32; COORDINATES], [f32; COORDINATES]) {
        let (mut qpos, mut qvel) = ([0.0; HIDDEN + COORDINATES], [0.0; HIDDEN + COORDINATES]);
        world.qpos(&mut qpos);
        world.qvel(&mut qvel);
        let visible = |all: [f32; HIDDEN + COORDINATES]| std::array::from_fn(|n| all[HIDDEN + n]);
        (visible(qpos), visible(qvel))
    }

    /// Torques for one control period.
    pub(super) fn act(world: &mut World, action: &[f32]) {
        world
            .set_ctrls(action)
            .expect("six finite numbers for six motors");
        for _ in 0..PHYSICS_STEPS {
            world.step();
        }
    }

    /// Writes the observation.
    pub(super) fn observe(&self, world: &World, observation: &mut [f32]) {
        for (entries, body) in observation.chunks_exact_mut(2).zip(&self.bodies) {
            let Rotation { x, y, z, w, .. } = world.body_pose(*body).rotation;
            entries[0] = 1.0 - 2.0 * (y * y + z * z);
            entries[1] = 2.0 * (x * z + w * y);
        }
        observation[HEIGHT] = self.position(world)[2];
        observation[HEIGHT + 1..].copy_from_slice(&Self::state(world).1);
    }

    /// Of the torso, in metres.
    pub(super) fn position(&self, world: &World) -> [f32; 3] {
        world.body_pose(self.bodies[0]).translation.to_array()
    }

    /// What the rewards are functions of.
    pub(super) fn motion(&self, world: &World) -> Motion {
        let momentum = world.subtree_momentum(self.bodies[0]);
        let pose = world.body_pose(self.bodies[0]);
        let Rotation { x, y, .. } = pose.rotation;
        Motion {
            height_m: pose.translation.z,
            upright: 1.0 - 2.0 * (x * x + y * y),
            speed_m_s: momentum.velocity_m_s.x,
            spin_kg_m2_s: momentum.angular_kg_m2_s.y,
        }
    }
}
