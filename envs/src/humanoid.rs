//! The humanoid of OGBench's mazes (Park et al. 2024), which is that of the DeepMind Control Suite (Tassa et al. 2018): 21
//! hinges, 40.8 kg, 40 actions per second.
//!
//! Observation, 69 entries: torso x and y (2), hinges (21), height of the head (1), hands and feet in the torso's frame (12), the
//! world's vertical in the torso's frame (3), velocity of the centre of mass in the world (3), the torso's linear velocity in the
//! world and angular velocity in its own frame (6), velocities of the hinges (21). An action is the torque of each hinge; its
//! order differs from that of an observation.

use telic_seed::Rng;
use telic_sim::{BodyId, JointId, JointLimits, PhysicsConfig, Vector, World};

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::{ActionEntry, Entry};

/// Length of an observation.
pub(crate) const OBSERVATION_DIM: usize = 69;
/// Length of an action.
pub(crate) const ACTION_DIM: usize = 21;
/// Length of what its gait sees: an observation without x and y, and a direction.
pub(crate) const GAIT_INPUT_DIM: usize = OBSERVATION_DIM;
/// Height of the head in an observation.
pub(crate) const HEAD: usize = 23;
/// How upright the torso is in an observation: 1 where it stands, −1 on its head.
pub(crate) const UPRIGHT: usize = 38;

/// Whether it is on its feet, read off an observation: its head is above 1.05 m, three quarters of a stand, and above its torso.
pub(crate) fn is_standing(observation: &[f32]) -> bool {
    observation[HEAD] > 1.05 && observation[UPRIGHT] > 0.0
}

const HANDS_AND_FEET: usize = 24;
const VERTICAL: usize = 36;
const CENTRE_VELOCITY: usize = 39;
const VELOCITIES: usize = 42;

/// Coordinates of the root ahead of those of the hinges.
const ROOT_POSITIONS: usize = 7;
const POSITIONS: usize = ROOT_POSITIONS + HINGES.len();

/// Hinges in the order of an observation, with their ranges in degrees.
const HINGES: [(&str, [f32; 2]); 21] = [
    ("abdomen_z", [-45.0, 45.0]),
    ("abdomen_y", [-75.0, 30.0]),
    ("abdomen_x", [-35.0, 35.0]),
    ("right_hip_x", [-25.0, 5.0]),
    ("right_hip_z", [-60.0, 35.0]),
    ("right_hip_y", [-110.0, 20.0]),
    ("right_knee", [-160.0, 2.0]),
    ("right_ankle_y", [-50.0, 50.0]),
    ("right_ankle_x", [-50.0, 50.0]),
    ("left_hip_x", [-25.0, 5.0]),
    ("left_hip_z", [-60.0, 35.0]),
    ("left_hip_y", [-120.0, 20.0]),
    ("left_knee", [-160.0, 2.0]),
    ("left_ankle_y", [-50.0, 50.0]),
    ("left_ankle_x", [-50.0, 50.0]),
    ("right_shoulder1", [-85.0, 60.0]),
    ("right_shoulder2", [-85.0, 60.0]),
    ("right_elbow", [-90.0, 50.0]),
    ("left_shoulder1", [-60.0, 85.0]),
    ("left_shoulder2", [-60.0, 85.0]),
    ("left_elbow", [-90.0, 50.0]),
];

/// Hinges in the order of an action, with the torque of an action of 1 in N m.
const MOTORS: [(&str, f32); ACTION_DIM] = [
    ("abdomen_y", 40.0),
    ("abdomen_z", 40.0),
    ("abdomen_x", 40.0),
    ("right_hip_x", 40.0),
    ("right_hip_z", 40.0),
    ("right_hip_y", 120.0),
    ("right_knee", 80.0),
    ("right_ankle_x", 20.0),
    ("right_ankle_y", 20.0),
    ("left_hip_x", 40.0),
    ("left_hip_z", 40.0),
    ("left_hip_y", 120.0),
    ("left_knee", 80.0),
    ("left_ankle_x", 20.0),
    ("left_ankle_y", 20.0),
    ("right_shoulder1", 20.0),
    ("right_shoulder2", 20.0),
    ("right_elbow", 40.0),
    ("left_shoulder1", 20.0),
    ("left_shoulder2", 20.0),
    ("left_elbow", 40.0),
];

/// What an observation locates in the torso's frame, in its order.
const EXTREMITIES: [&str; 4] = ["left_hand", "left_foot", "right_hand", "right_foot"];

/// Length of a control period.
pub(crate) const CONTROL_STEP_SECS: f32 = 0.025;
/// A quarter of a control period.
const PHYSICS_STEP_SECS: f32 = 0.00625;
/// Height of the torso at the start of an episode, in metres.
const START_HEIGHT_M: f32 = 1.5;
/// Standard deviation of the velocities at the start.
const START_VELOCITY: f32 = 0.1;
/// Height of the torso of one that stands straight, in metres, a little above the floor.
const STANDING_HEIGHT_M: f32 = 1.29;
/// Half of the range around 0 of each hinge of one that stands, in radians.
const STANDING_NOISE_RAD: f32 = 0.05;
/// Draws of a start posture; should all of them touch something, the last is taken.
const START_TRIES: usize = 100;

/// Handles of its parts in a world.
pub(crate) struct Humanoid {
    root: JointId,
    torso: BodyId,
    head: BodyId,
    extremities: [BodyId; EXTREMITIES.len()],
}

impl Humanoid {
    /// The humanoid on a floor, as MJCF, with more geoms of the world body.
    pub(crate) fn mjcf(geoms: &str) -> String {
        let xml = include_str!("../assets/humanoid.xml");
        xml.replacen("<worldbody>", &format!("<worldbody>\n{geoms}"), 1)
    }

    pub(crate) fn physics() -> PhysicsConfig {
        PhysicsConfig {
            timestep_secs: PHYSICS_STEP_SECS,
            solver_iterations: 1,
            // Hinges pass their limits as often and as far as in MuJoCo (see `docs/envs/humanoid-maze.md`).
            joint_limits: JointLimits::Soft {
                time_constant_secs: 2.0 * PHYSICS_STEP_SECS,
            },
            ..PhysicsConfig::default()
        }
    }

    pub(crate) fn new(world: &World) -> Result<Self, String> {
        let body = |name: &str| world.body_id(name).ok_or_else(|| format!("no `{name}`"));
        let [left_hand, left_foot, right_hand, right_foot] = EXTREMITIES.map(body);
        Ok(Self {
            root: world.joint_id("root").ok_or("no `root`")?,
            torso: body("torso")?,
            head: body("head")?,
            extremities: [left_hand?, left_foot?, right_hand?, right_foot?],
        })
    }

    pub(crate) fn entries([low_x, low_y, high_x, high_y]: [f32; 4]) -> Vec<Entry> {
        let entry = |name: String, unit, low, high| Entry {
            name,
            unit,
            low,
            high,
        };
        // Ranges that no motion reaches: a jump of ten metres, two turns, ten times the fastest fall or turn.
        let (turn, reach, speed, spin) = (7.0, 3.0, 100.0, 1000.0);
        let axes = ["x", "y", "z"];
        let mut entries = vec![
            entry("torso.x".into(), "m", low_x, high_x),
            entry("torso.y".into(), "m", low_y, high_y),
        ];
        for (hinge, _) in HINGES {
            entries.push(entry(format!("{hinge}.position"), "rad", -turn, turn));
        }
        entries.push(entry("head.z".into(), "m", -1.0, 10.0));
        for part in EXTREMITIES {
            for axis in axes {
                entries.push(entry(format!("{part}.in_torso.{axis}"), "m", -reach, reach));
            }
        }
        for axis in axes {
            let name = format!("vertical.in_torso.{axis}");
            entries.push(entry(name, "1", -1.01, 1.01));
        }
        for axis in axes {
            let name = format!("centre_of_mass.velocity.{axis}");
            entries.push(entry(name, "m/s", -speed, speed));
        }
        for axis in axes {
            let name = format!("torso.velocity.{axis}");
            entries.push(entry(name, "m/s", -speed, speed));
        }
        for axis in axes {
            let name = format!("torso.angular_velocity.{axis}");
            entries.push(entry(name, "rad/s", -spin, spin));
        }
        for (hinge, _) in HINGES {
            entries.push(entry(format!("{hinge}.velocity"), "rad/s", -spin, spin));
        }
        entries
    }

    pub(crate) fn action_entries() -> Vec<ActionEntry> {
        MOTORS
            .into_iter()
            .map(|(hinge, torque_nm)| ActionEntry {
                name: hinge.to_owned(),
                unit: "N m",
                scale: torque_nm,
            })
            .collect()
    }

    /// Drops it at `xy`, in metres, in a random posture that touches nothing, itself included. Returns how many it drew, at most
    /// [`START_TRIES`]; should none be free, the last stays and the engine pushes it apart.
    pub(crate) fn drop_at(world: &mut World, xy: [f32; 2], rng: &mut Rng) -> usize {
        for tries in 1..=START_TRIES {
            let mut qpos = [0.0; POSITIONS];
            qpos[..2].copy_from_slice(&xy);
            qpos[2] = START_HEIGHT_M;
            // As in the original: of the rotations only those whose quaternion has no negative part.
            let quaternion: [f32; 4] = std::array::from_fn(|_| rng.random_range(0.0..1.0));
            let length = quaternion.iter().map(|q| q * q).sum::<f32>().sqrt();
            if length < 0.01 {
                continue;
            }
            qpos[3..ROOT_POSITIONS].copy_from_slice(&quaternion.map(|q| q / length));
            for (angle, (_, [low, high])) in qpos[ROOT_POSITIONS..].iter_mut().zip(HINGES) {
                *angle = rng.random_range(low..high).to_radians();
            }
            let qvel: [f32; POSITIONS - 1] = std::array::from_fn(|_| {
                START_VELOCITY * Distribution::<f32>::sample(&StandardNormal, rng)
            });
            world
                .set_state(&qpos, &qvel)
                .expect("finite coordinates around a unit quaternion");
            if world.contacts().all(|contact| contact.distance_m > 0.0) {
                return tries;
            }
        }
        START_TRIES
    }

    /// Stands it at `xy`, in metres, about straight and at rest, looking along `yaw_rad`, 0 along the world's x axis.
    pub(crate) fn stand(world: &mut World, xy: [f32; 2], yaw_rad: f32, rng: &mut Rng) {
        let mut qpos = [0.0; POSITIONS];
        qpos[..2].copy_from_slice(&xy);
        qpos[2] = STANDING_HEIGHT_M;
        (qpos[3], qpos[6]) = (libm::cosf(0.5 * yaw_rad), libm::sinf(0.5 * yaw_rad));
        for angle in &mut qpos[ROOT_POSITIONS..] {
            *angle = rng.random_range(-STANDING_NOISE_RAD..STANDING_NOISE_RAD);
        }
        world
            .set_state(&qpos, &[0.0; POSITIONS - 1])
            .expect("finite coordinates around a unit quaternion");
    }

    /// Writes what its gait sees, `[GAIT_INPUT_DIM]`, where it heads along the unit vector `direction` of the world: its observation
    /// without x and y, then the direction. Velocities of torso and centre of mass and the direction are in the frame that is turned
    /// about the vertical as the torso is, since an observation does not tell where the torso faces.
    pub(crate) fn write_gait_input(
        &self,
        world: &World,
        observation: &[f32],
        direction: [f32; 2],
        input: &mut [f32],
    ) {
        let facing = world.body_pose(self.torso).rotation * Vector::X;
        let length = facing.x.hypot(facing.y).max(1e-6);
        let (cos, sin) = (facing.x / length, facing.y / length);
        let turned = |x: f32, y: f32| [cos * x + sin * y, cos * y - sin * x];
        let (own, tail) = input.split_at_mut(OBSERVATION_DIM - 2);
        own.copy_from_slice(&observation[2..OBSERVATION_DIM]);
        for first in [CENTRE_VELOCITY, VELOCITIES] {
            let velocity = turned(observation[first], observation[first + 1]);
            own[first - 2..first].copy_from_slice(&velocity);
        }
        tail.copy_from_slice(&turned(direction[0], direction[1]));
    }

    /// Moves it to `xy`; posture and velocities stay.
    pub(crate) fn place(&self, world: &mut World, xy: [f32; 2]) {
        let mut pose = world.body_pose(self.torso);
        (pose.translation.x, pose.translation.y) = (xy[0], xy[1]);
        world.set_free_pose(self.root, pose);
    }

    /// Torques for one control period.
    pub(crate) fn act(world: &mut World, action: &[f32]) {
        world
            .set_ctrls(action)
            .expect("21 finite numbers for 21 motors");
        for _ in 0..(CONTROL_STEP_SECS / world.timestep_secs()).round() as usize {
            world.step();
        }
    }

    pub(crate) fn observe(&self, world: &World, observation: &mut [f32]) {
        let mut qpos = [0.0; POSITIONS];
        world.qpos(&mut qpos);
        observation[..2].copy_from_slice(&qpos[..2]);
        observation[2..HEAD].copy_from_slice(&qpos[ROOT_POSITIONS..]);
        observation[HEAD] = world.body_pose(self.head).translation.z;
        let torso = world.body_pose(self.torso);
        let to_torso = torso.rotation.inverse();
        for (index, &body) in self.extremities.iter().enumerate() {
            let offset = to_torso * (world.body_pose(body).translation - torso.translation);
            let at = HANDS_AND_FEET + 3 * index;
            observation[at..at + 3].copy_from_slice(&offset.to_array());
        }
        let vertical = to_torso * Vector::Z;
        observation[VERTICAL..CENTRE_VELOCITY].copy_from_slice(&vertical.to_array());
        let velocity = world.subtree_momentum(self.torso).velocity_m_s;
        observation[CENTRE_VELOCITY..VELOCITIES].copy_from_slice(&velocity.to_array());
        world.qvel(&mut observation[VELOCITIES..]);
    }

    /// Of the torso above the floor, in metres.
    pub(crate) fn height(&self, world: &World) -> f32 {
        world.body_pose(self.torso).translation.z
    }
}

#[cfg(test)]
mod tests;
