//! The tabletop arm that a family of manipulation environments shares: a position-controlled UR5e with a parallel
//! gripper, driven by relative tool-down commands.
//!
//! An action `[dx, dy, dz, dyaw, dgrip]` forms a target from the pose that is measured when it arrives,
//! `clip(pinch + 0.05 a[0..3])` inside the workspace, `yaw + 0.3 a[3]`, `clip(opening + a[4], 0, 1)`. Inverse kinematics turns it
//! into joint targets, which the servos hold for one control period. The servos are slow on purpose (the time
//! constant `kv / kp` of the large joints is 89 ms), so that one step covers about 40 % of what it commands.
//!
//! Source: OGBench's manipspace (Park et al. 2025), sections 5.1 to 5.7 of its behaviour.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI, TAU};
use std::sync::Arc;

use rand::RngExt;
use telic_seed::Rng;
use telic_sim::kinematics::{Chain, IkConfig, isometry_from_pose};
use telic_sim::{
    ActuatorId, BodyId, JointId, Model, PhysicsConfig, Pose, Rotation, SiteId, Vector, World,
};

use crate::{ActionEntry, Entry, EnvError};

/// Control steps per second.
pub(crate) const CONTROL_HZ: f64 = 20.0;
/// Numbers in an action.
pub(crate) const ACTION_DIM: usize = 5;
/// Numbers in the arm's part of an observation.
pub(crate) const OBSERVATION_DIM: usize = 19;
/// Index of the pinch position in the observation.
pub(crate) const OBSERVED_PINCH: usize = 12;
/// Index of the gripper contact in the observation.
pub(crate) const OBSERVED_CONTACT: usize = 18;
/// Positions are observed as `(position - CENTRE) * POSITION_SCALE`.
pub(crate) const CENTRE: [f32; 3] = [0.425, 0.0, 0.0];
/// Observation units per metre.
pub(crate) const POSITION_SCALE: f32 = 10.0;
/// Observation units per opening.
const OPENING_SCALE: f32 = 3.0;
/// Newtons on the right finger that read as a contact of 1.
const CONTACT_NEWTONS: f32 = 50.0;
/// Physical value of an action of 1: metres, metres, metres, radians, openings.
pub(crate) const ACTION_SCALE: [f64; ACTION_DIM] = [0.05, 0.05, 0.05, 0.3, 1.0];
/// Corners of the box that targets of the pinch point are clipped to, in metres.
pub(crate) const WORKSPACE: [[f64; 3]; 2] = [[0.25, -0.35, 0.02], [0.6, 0.35, 0.35]];
/// Joint angles from which start poses are solved.
pub(crate) const HOME: [f64; 6] = [
    -FRAC_PI_2, -FRAC_PI_2, FRAC_PI_2, -FRAC_PI_2, -FRAC_PI_2, 0.0,
];
/// Travel of a finger from opening 0 (open) to 1 (closed), in metres.
const FINGER_TRAVEL: f64 = 0.0435;

const JOINTS: [&str; 6] = [
    "shoulder_pan",
    "shoulder_lift",
    "elbow",
    "wrist_1",
    "wrist_2",
    "wrist_3",
];
const FINGERS: [&str; 2] = ["right_finger", "left_finger"];

/// Physics under which the fingers hold what they grip by friction. A grasp is a light object between two heavy fingers,
/// which takes many sweeps of the constraint solver; sweeps are cheap beside the dynamics of the arm, which a second
/// sub-step would repeat. `docs/envs/cube.md` has accuracy and speed of the alternatives.
pub(crate) fn physics() -> PhysicsConfig {
    PhysicsConfig {
        timestep_secs: 0.005,
        solver_iterations: 1,
        internal_iterations: 8,
        stabilization_iterations: 2,
        // At 60 Hz the pads sink 2 mm into what they hold.
        contact_natural_frequency_hz: 120.0,
        ..PhysicsConfig::default()
    }
}

/// Tool-down pose of the pinch point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ToolPose {
    /// Position in the world, in metres.
    pub(crate) position: [f64; 3],
    /// Rotation about the world's z axis, in radians; 0 has the fingers along y.
    pub(crate) yaw: f64,
}

impl ToolPose {
    /// Pose of the pinch frame: z down, then turned by the yaw.
    fn pose(&self) -> Pose {
        // Rotation of yaw about z after half a turn about x.
        let (sin, cos) = libm::sincos(self.yaw / 2.0);
        Pose::from_parts(
            Vector::from_array(self.position.map(|x| x as f32)),
            Rotation::from_xyzw(cos as f32, sin as f32, 0.0, 0.0),
        )
    }
}

/// The arm in its world.
pub(crate) struct TabletopArm {
    /// The physics, arm and objects.
    pub(crate) world: World,
    chain: Chain,
    ik: IkConfig,
    joints: [JointId; 6],
    joint_actuators: [ActuatorId; 6],
    fingers: [JointId; 2],
    finger_actuators: [ActuatorId; 2],
    right_finger: BodyId,
    pinch: SiteId,
    substeps: usize,
}

impl TabletopArm {
    /// Finds the arm's parts in a model by name.
    pub(crate) fn new(
        id: &'static str,
        model: &Arc<Model>,
        physics: &PhysicsConfig,
    ) -> Result<Self, EnvError> {
        let model_error = |reason: String| EnvError::Model { id, reason };
        let world = World::new(model, physics).map_err(|error| model_error(error.to_string()))?;
        let missing =
            |kind: &str, name: &str| model_error(format!("the model has no {kind} `{name}`"));
        let joint = |name: &str| world.joint_id(name).ok_or_else(|| missing("joint", name));
        let actuator = |name: &str| {
            world
                .actuator_id(name)
                .ok_or_else(|| missing("actuator", name))
        };
        let mut joints = Vec::new();
        let mut joint_actuators = Vec::new();
        for name in JOINTS {
            joints.push(joint(name)?);
            joint_actuators.push(actuator(name)?);
        }
        let fingers = [joint(FINGERS[0])?, joint(FINGERS[1])?];
        let finger_actuators = [actuator(FINGERS[0])?, actuator(FINGERS[1])?];
        let right_finger = world
            .body_id(FINGERS[0])
            .ok_or_else(|| missing("body", FINGERS[0]))?;
        let pinch = world
            .site_id("pinch")
            .ok_or_else(|| missing("site", "pinch"))?;
        let base = world
            .body_id("world")
            .ok_or_else(|| missing("body", "world"))?;
        let chain =
            Chain::new(model, base, pinch).map_err(|error| model_error(error.to_string()))?;
        if chain.joints() != joints {
            return Err(model_error(
                "the joints from base to pinch are not the arm's six, in order".to_owned(),
            ));
        }
        let substeps = (1.0 / (CONTROL_HZ * f64::from(world.timestep_secs()))).round() as usize;
        Ok(Self {
            chain,
            ik: IkConfig {
                max_iterations: 20,
                position_tolerance_m: 1e-4,
                rotation_tolerance_rad: 1e-4,
                max_joint_step: FRAC_PI_4,
                ..IkConfig::default()
            },
            joints: joints.try_into().expect("one id per name"),
            joint_actuators: joint_actuators.try_into().expect("one id per name"),
            fingers,
            finger_actuators,
            right_finger,
            pinch,
            substeps,
            world,
        })
    }

    /// Names and bounds of the arm's part of an observation.
    pub(crate) fn entries() -> Vec<Entry> {
        let entry = |name: String, unit, low, high| Entry {
            name,
            unit,
            low,
            high,
        };
        // Ranges that no motion of the arm reaches: two turns and a margin, the speed of a servo at its force limit,
        // three metres, an opening beyond both stops.
        let (turn, speed, reach, opening) =
            ((-7.0, 7.0), (-200.0, 200.0), (-30.0, 30.0), (-3.0, 6.0));
        let mut entries = Vec::with_capacity(OBSERVATION_DIM);
        for name in JOINTS {
            entries.push(entry(format!("arm.{name}.position"), "rad", turn.0, turn.1));
        }
        for name in JOINTS {
            entries.push(entry(
                format!("arm.{name}.velocity"),
                "rad/s",
                speed.0,
                speed.1,
            ));
        }
        for axis in ["x", "y", "z"] {
            entries.push(entry(format!("gripper.{axis}"), "0.1 m", reach.0, reach.1));
        }
        entries.push(entry("gripper.yaw.cos".into(), "1", -1.0, 1.0));
        entries.push(entry("gripper.yaw.sin".into(), "1", -1.0, 1.0));
        entries.push(entry("gripper.opening".into(), "1/3", opening.0, opening.1));
        entries.push(entry("gripper.contact".into(), "50 N", 0.0, 1.0));
        entries
    }

    /// Names and scales of an action.
    pub(crate) fn action_entries() -> Vec<ActionEntry> {
        ["x", "y", "z", "yaw", "closing"]
            .iter()
            .zip(["m", "m", "m", "rad", "1"])
            .zip(ACTION_SCALE)
            .map(|((name, unit), scale)| ActionEntry {
                name: format!("gripper.{name}"),
                unit,
                scale: scale as f32,
            })
            .collect()
    }

    /// Joint angles as measured.
    pub(crate) fn joint_angles(&self) -> [f64; 6] {
        self.joints
            .map(|joint| f64::from(self.world.joint_position(joint)))
    }

    /// Measured pinch position and yaw.
    pub(crate) fn tool_pose(&self) -> ToolPose {
        let pose = self.world.site_pose(self.pinch);
        ToolPose {
            position: pose.translation.to_array().map(f64::from),
            yaw: yaw(&pose),
        }
    }

    /// 0 fully open, 1 fully closed.
    pub(crate) fn opening(&self) -> f64 {
        let travel: f64 = self
            .fingers
            .iter()
            .map(|&finger| f64::from(self.world.joint_position(finger)))
            .sum();
        travel / (2.0 * FINGER_TRAVEL)
    }

    /// Force on the right finger from outside the arm over 50 N, in 0..=1.
    pub(crate) fn contact(&self) -> f32 {
        (self.world.body_contact_force(self.right_finger).length() / CONTACT_NEWTONS)
            .clamp(0.0, 1.0)
    }

    /// Joint angles that bring the pinch point to `target`, searched from `start`.
    pub(crate) fn solve(&self, target: &ToolPose, start: &[f64; 6]) -> [f64; 6] {
        let target = isometry_from_pose(&target.pose());
        let result = self.chain.inverse_kinematics(&target, start, &self.ik);
        result.positions.try_into().unwrap_or(*start)
    }

    /// A uniformly random tool pose in a box (corners in metres).
    pub(crate) fn random_tool_pose(bounds: &[[f64; 3]; 2], rng: &mut Rng) -> ToolPose {
        let position =
            std::array::from_fn(|axis| rng.random_range(bounds[0][axis]..bounds[1][axis]));
        ToolPose {
            position,
            yaw: rng.random_range(-PI..PI),
        }
    }

    /// Writes a resting arm with open fingers at `pose` into `qpos`.
    pub(crate) fn write_start(&self, pose: &ToolPose, qpos: &mut [f32]) {
        let angles = self.solve(pose, &HOME);
        for (&joint, angle) in self.joints.iter().zip(angles) {
            qpos[self.world.qpos_address(joint)] = angle as f32;
        }
        for &finger in &self.fingers {
            qpos[self.world.qpos_address(finger)] = 0.0;
        }
    }

    /// Applies a clipped action for one control period.
    pub(crate) fn step(&mut self, action: &[f32; ACTION_DIM]) {
        let mut target = self.tool_pose();
        for axis in 0..3 {
            target.position[axis] = (target.position[axis]
                + ACTION_SCALE[axis] * f64::from(action[axis]))
            .clamp(WORKSPACE[0][axis], WORKSPACE[1][axis]);
        }
        target.yaw += ACTION_SCALE[3] * f64::from(action[3]);
        let opening = (self.opening() + ACTION_SCALE[4] * f64::from(action[4])).clamp(0.0, 1.0);
        let angles = self.solve(&target, &self.joint_angles());
        for (actuator, angle) in self.joint_actuators.into_iter().zip(angles) {
            self.world.set_ctrl(actuator, angle as f32);
        }
        for actuator in self.finger_actuators {
            self.world
                .set_ctrl(actuator, (opening * FINGER_TRAVEL) as f32);
        }
        for _ in 0..self.substeps {
            self.world.step();
        }
    }

    /// Writes the arm's part of an observation, `[OBSERVATION_DIM]`.
    pub(crate) fn observe(&self, observation: &mut [f32]) {
        for (index, &joint) in self.joints.iter().enumerate() {
            observation[index] = self.world.joint_position(joint);
            observation[6 + index] = self.world.joint_velocity(joint);
        }
        let tool = self.tool_pose();
        let pinch = tool.position.map(|x| x as f32);
        observation[OBSERVED_PINCH..OBSERVED_PINCH + 3].copy_from_slice(&scaled_position(pinch));
        observation[15] = libm::cos(tool.yaw) as f32;
        observation[16] = libm::sin(tool.yaw) as f32;
        observation[17] = self.opening() as f32 * OPENING_SCALE;
        observation[OBSERVED_CONTACT] = self.contact();
    }
}

/// A position as it is observed.
pub(crate) fn scaled_position(position: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| (position[axis] - CENTRE[axis]) * POSITION_SCALE)
}

/// The position behind an observed one, in metres.
pub(crate) fn unscaled_position(observed: &[f32]) -> [f64; 3] {
    std::array::from_fn(|axis| {
        f64::from(observed[axis]) / f64::from(POSITION_SCALE) + f64::from(CENTRE[axis])
    })
}

/// Angle of the local x axis about the world's z axis.
pub(crate) fn yaw(pose: &Pose) -> f64 {
    let [x, y, z, w] = pose.rotation.to_array().map(f64::from);
    libm::atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
}

/// An angle in −π..π that differs from `angle` by whole turns.
pub(crate) fn wrapped(angle: f64) -> f64 {
    angle - TAU * libm::round(angle / TAU)
}

#[cfg(test)]
mod tests {
    use telic_sim::GeomShape;

    use super::*;

    fn arm() -> TabletopArm {
        let model = Model::from_mjcf_str("ur5e", include_str!("../assets/ur5e_cubes.xml")).unwrap();
        TabletopArm::new("test", &Arc::new(model), &physics()).unwrap()
    }

    fn place(arm: &mut TabletopArm, position: [f64; 3], yaw: f64) {
        let mut qpos = vec![0.0; arm.world.nq()];
        arm.write_start(&ToolPose { position, yaw }, &mut qpos);
        let qvel = vec![0.0; arm.world.nv()];
        arm.world.set_state(&qpos, &qvel).unwrap();
    }

    /// Positions and rotations of the UR5e of MuJoCo Menagerie, of its flange and of the pinch point of a Robotiq 2F-85, printed with
    /// five decimals: the published lengths of the real arm, which are up to 0.7 mm off these, would not pass.
    #[test]
    fn the_chain_has_the_published_poses() {
        const ROUNDING: f64 = 1e-5;
        let arm = arm();
        let base = arm.world.body_id("world").unwrap();
        let flange = arm.world.site_id("flange").unwrap();
        let to_flange = Chain::new(arm.world.model(), base, flange).unwrap();
        let down = [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]];
        let zero = [[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]];
        let turned = [
            [0.25724, 0.96315, -0.0785],
            [0.35321, -0.16933, -0.92009],
            [-0.89948, 0.20896, -0.38375],
        ];
        let tilted = [
            [0.99719, 0.07093, 0.02414],
            [0.07054, -0.99737, 0.01645],
            [0.02524, -0.0147, -0.99957],
        ];
        for (angles, flange, pinch, rows) in [
            (HOME, [0.492, 0.134, 0.488], [0.492, 0.134, 0.3322], down),
            (
                [0.0; 6],
                [-0.234, 0.817, 0.063],
                [-0.3898, 0.817, 0.063],
                zero,
            ),
            (
                [0.1, -1.2, 1.5, -0.7, -1.4, 0.3],
                [-0.19783, 0.45921, 0.31279],
                [-0.21006, 0.31586, 0.2530],
                turned,
            ),
            (
                [-1.0, -1.8, 1.2, -1.0, -1.57, 0.5],
                [0.20511, 0.29104, 0.70119],
                [0.20888, 0.2936, 0.54545],
                tilted,
            ),
        ] {
            let pose = arm.chain.forward(&angles);
            let rotation = pose.rotation.to_rotation_matrix();
            let flange_pose = to_flange.forward(&angles);
            for row in 0..3 {
                assert!(
                    (pose.translation.vector[row] - pinch[row]).abs() < ROUNDING,
                    "{angles:?}: {pose}"
                );
                assert!(
                    (flange_pose.translation.vector[row] - flange[row]).abs() < ROUNDING,
                    "{angles:?}: {flange_pose}"
                );
                for column in 0..3 {
                    assert!(
                        (rotation[(row, column)] - rows[row][column]).abs() < ROUNDING,
                        "{angles:?}: {pose}"
                    );
                }
            }
        }
    }

    /// Centre of a pad in the world and half of its thickness, in metres.
    fn pad(arm: &TabletopArm, name: &str) -> (Vector, f32) {
        let geom = &arm.world.model().geoms()[arm.world.geom_id(name).unwrap().index()];
        let GeomShape::Box { half_extents } = &geom.shape else {
            panic!("`{name}` is no box");
        };
        let pose = arm.world.body_pose(geom.body) * geom.local_pose;
        (pose.translation, half_extents[1])
    }

    /// Gaps of the Robotiq 2F-85 in millimetres, by opening. Fingers on slides meet its linkage at both ends of the way, and
    /// are up to 2.3 mm closer in between.
    #[test]
    fn pads_are_as_far_apart_as_those_of_the_original() {
        let mut arm = arm();
        for (opening, published_mm, slack_mm) in [
            (0.004, 85.1, 0.1),
            (0.254, 65.6, 2.4),
            (0.505, 43.8, 2.4),
            (0.752, 21.0, 1.1),
            (0.978, 0.4, 0.1),
        ] {
            for finger in arm.fingers {
                let position = (opening * FINGER_TRAVEL) as f32;
                arm.world.set_joint_position(finger, position);
            }
            assert!((arm.opening() - opening).abs() < 1e-6);
            let (right, left) = (pad(&arm, "right_pad"), pad(&arm, "left_pad"));
            let gap_mm = 1e3 * ((right.0 - left.0).length() - right.1 - left.1);
            assert!(
                (gap_mm - published_mm).abs() < slack_mm,
                "opening {opening}: {gap_mm} mm for {published_mm} mm"
            );
        }
    }

    #[test]
    fn the_simulated_pinch_point_is_that_of_the_chain() {
        let mut arm = arm();
        for (position, yaw) in [([0.3, -0.3, 0.05], 2.0), ([0.55, 0.2, 0.3], -1.0)] {
            place(&mut arm, position, yaw);
            let tool = arm.tool_pose();
            let error: f64 = (0..3)
                .map(|axis| (tool.position[axis] - position[axis]).abs())
                .sum();
            assert!(
                error < 3e-4 && wrapped(tool.yaw - yaw).abs() < 2e-4,
                "{tool:?}"
            );
        }
    }

    /// Displacement of the third of three equal steps: x, y, z in millimetres, and the yaw in milliradians.
    fn third_step(action: [f32; 5]) -> [f64; 4] {
        let mut arm = arm();
        place(&mut arm, [0.425, 0.0, 0.25], 0.0);
        let mut before = arm.tool_pose();
        for _ in 0..3 {
            before = arm.tool_pose();
            arm.step(&action);
        }
        let after = arm.tool_pose();
        let moved = |axis: usize| 1e3 * (after.position[axis] - before.position[axis]);
        [moved(0), moved(1), moved(2), 1e3 * (after.yaw - before.yaw)]
    }

    /// The slow servos are part of the environment: data and oracles depend on how far a step goes. The table is our
    /// own; OGBench's was measured as 20.8 mm for +x, 21 for -z, 18 for +z, 66 mrad, and a sag of 1.36 mm.
    #[test]
    fn a_full_action_moves_as_far_as_documented() {
        for (name, action, expected) in [
            ("none", [0.0, 0.0, 0.0, 0.0, 0.0], [-0.40, 0.13, -1.32, 0.0]),
            ("+x", [1.0, 0.0, 0.0, 0.0, 0.0], [20.68, -0.27, -0.91, 5.8]),
            (
                "-x",
                [-1.0, 0.0, 0.0, 0.0, 0.0],
                [-24.21, 0.51, -0.75, -11.8],
            ),
            ("+y", [0.0, 1.0, 0.0, 0.0, 0.0], [0.44, 21.10, -1.24, 24.6]),
            ("+z", [0.0, 0.0, 1.0, 0.0, 0.0], [-3.84, 1.28, 18.24, 0.1]),
            ("-z", [0.0, 0.0, -1.0, 0.0, 0.0], [4.88, -1.62, -20.57, 0.1]),
            ("yaw", [0.0, 0.0, 0.0, 1.0, 0.0], [-0.40, 0.13, -1.32, 65.7]),
        ] {
            let moved = third_step(action);
            for (moved, expected) in moved.iter().zip(expected) {
                assert!(
                    (moved - expected).abs() < 0.3,
                    "{name}: {moved} for {expected}"
                );
            }
        }
    }

    #[test]
    fn the_gripper_closes_as_the_original() {
        let mut arm = arm();
        place(&mut arm, [0.425, 0.0, 0.25], 0.0);
        let published = [
            0.288, 0.567, 0.737, 0.841, 0.905, 0.943, 0.966, 0.975, 0.978,
        ];
        for expected in published {
            arm.step(&[0.0, 0.0, 0.0, 0.0, 1.0]);
            assert!(
                (arm.opening() - expected).abs() < 0.006,
                "{} for {expected}",
                arm.opening()
            );
        }
        for _ in 0..12 {
            arm.step(&[0.0, 0.0, 0.0, 0.0, -1.0]);
        }
        assert!(arm.opening().abs() < 0.01, "{}", arm.opening());
    }

    #[test]
    fn targets_stay_in_the_workspace() {
        let mut arm = arm();
        place(&mut arm, [0.3, 0.0, 0.05], 0.0);
        for _ in 0..60 {
            arm.step(&[-1.0, 1.0, -1.0, 0.0, 0.0]);
        }
        let tool = arm.tool_pose();
        // The sag and the compliance of the servos leave a few millimetres.
        for (axis, wall) in [
            (0, WORKSPACE[0][0]),
            (1, WORKSPACE[1][1]),
            (2, WORKSPACE[0][2]),
        ] {
            assert!((tool.position[axis] - wall).abs() < 0.01, "{tool:?}");
        }
    }

    #[test]
    fn fingers_do_not_touch_each_other_or_the_arm() {
        let mut arm = arm();
        place(&mut arm, [0.425, 0.0, 0.25], 0.0);
        for _ in 0..15 {
            arm.step(&[0.0, 0.0, 0.0, 0.0, 1.0]);
        }
        assert_eq!(arm.world.contacts().count(), 0);
    }
}
