//! The ant of OGBench (Park et al. 2024): four legs of two hinges each around a ball, 0.91 kg, 10 actions per second.
//!
//! Observation, 29 entries: torso position (3) and quaternion wxyz (4), hip and ankle of legs 1 to 4 (8), the torso's linear
//! velocity in the world and angular velocity in its own frame (6), velocities of the hinges (8). An action is the torque of
//! each hinge, 1 for 30 N m; legs come in the order 4, 1, 2, 3.

use telic_seed::Rng;
use telic_sim::{BodyId, JointId, JointLimits, PhysicsConfig, World};

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::{ActionEntry, Entry};

/// Positions, the first entries of an observation.
pub(crate) const COORDINATES: usize = 15;
/// Velocities, the last ones.
pub(crate) const VELOCITIES: usize = 14;
/// Length of an observation.
pub(crate) const OBSERVATION_DIM: usize = COORDINATES + VELOCITIES;
/// Length of an action.
pub(crate) const ACTION_DIM: usize = 8;
/// Observation entries that say nothing about where it is.
pub(crate) const POSTURE: std::ops::Range<usize> = 2..OBSERVATION_DIM;

const PHYSICS_STEP_SECS: f32 = 0.02;
const PHYSICS_STEPS: usize = 5;
/// Height of the torso at the start of an episode, in metres.
const START_HEIGHT_M: f32 = 0.75;
/// Half of the range of the noise on every start coordinate, and the standard deviation of that on velocities.
const START_NOISE: f32 = 0.1;
const TORQUE_NM: f32 = 30.0;
const LEGS: [&str; 4] = ["leg_1", "leg_2", "leg_3", "leg_4"];

/// Whether the torso's z axis points up, read off an observation. On its back the ant cannot turn over.
pub(crate) fn is_upright(observation: &[f32]) -> bool {
    let [x, y] = [observation[4], observation[5]];
    1.0 - 2.0 * (x * x + y * y) > 0.0
}

/// Handles of its parts in a world.
pub(crate) struct Ant {
    root: JointId,
    torso: BodyId,
}

impl Ant {
    /// The ant on a floor, as MJCF, with more geoms of the world body and more bodies after its own.
    pub(crate) fn mjcf(geoms: &str, bodies: &str) -> String {
        let xml = include_str!("../assets/ant.xml");
        xml.replacen("<worldbody>", &format!("<worldbody>\n{geoms}"), 1)
            .replacen("</worldbody>", &format!("{bodies}\n</worldbody>"), 1)
    }

    pub(crate) fn physics() -> PhysicsConfig {
        PhysicsConfig {
            timestep_secs: PHYSICS_STEP_SECS,
            solver_iterations: 2,
            // What MuJoCo makes of its default of 0.02 s at this step.
            joint_limits: JointLimits::Soft {
                time_constant_secs: 2.0 * PHYSICS_STEP_SECS,
            },
            ..PhysicsConfig::default()
        }
    }

    pub(crate) fn new(world: &World) -> Result<Self, String> {
        let missing = |name: &str| format!("no `{name}`");
        Ok(Self {
            root: world.joint_id("root").ok_or_else(|| missing("root"))?,
            torso: world.body_id("torso").ok_or_else(|| missing("torso"))?,
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
        let (turn, speed, spin) = ((-7.0, 7.0), (-100.0, 100.0), (-300.0, 300.0));
        let mut entries = vec![
            entry("torso.x".into(), "m", low_x, high_x),
            entry("torso.y".into(), "m", low_y, high_y),
            entry("torso.z".into(), "m", -1.0, 10.0),
        ];
        for part in ["w", "x", "y", "z"] {
            entries.push(entry(format!("torso.quaternion.{part}"), "1", -1.01, 1.01));
        }
        for leg in LEGS {
            for hinge in ["hip", "ankle"] {
                let name = format!("{leg}.{hinge}.position");
                entries.push(entry(name, "rad", turn.0, turn.1));
            }
        }
        for axis in ["x", "y", "z"] {
            let name = format!("torso.velocity.{axis}");
            entries.push(entry(name, "m/s", speed.0, speed.1));
        }
        for axis in ["x", "y", "z"] {
            let name = format!("torso.angular_velocity.{axis}");
            entries.push(entry(name, "rad/s", spin.0, spin.1));
        }
        for leg in LEGS {
            for hinge in ["hip", "ankle"] {
                let name = format!("{leg}.{hinge}.velocity");
                entries.push(entry(name, "rad/s", spin.0, spin.1));
            }
        }
        entries
    }

    pub(crate) fn action_entries() -> Vec<ActionEntry> {
        [3, 0, 1, 2]
            .into_iter()
            .flat_map(|leg| ["hip", "ankle"].map(|hinge| format!("{}.{hinge}", LEGS[leg])))
            .map(|name| ActionEntry {
                name,
                unit: "N m",
                scale: TORQUE_NM,
            })
            .collect()
    }

    /// Coordinates and velocities of a drop at `xy`, in metres, in a random posture.
    pub(crate) fn start_state(
        xy: [f32; 2],
        rng: &mut Rng,
    ) -> ([f32; COORDINATES], [f32; VELOCITIES]) {
        let mut qpos = [0.0; COORDINATES];
        qpos[2] = START_HEIGHT_M;
        qpos[3] = 1.0;
        for coordinate in &mut qpos {
            *coordinate += rng.random_range(-START_NOISE..START_NOISE);
        }
        qpos[..2].copy_from_slice(&xy);
        let qvel = std::array::from_fn(|_| {
            START_NOISE * Distribution::<f32>::sample(&StandardNormal, rng)
        });
        (qpos, qvel)
    }

    /// Drops it at `xy`, in metres, in a random posture.
    pub(crate) fn start(world: &mut World, xy: [f32; 2], rng: &mut Rng) {
        let (qpos, qvel) = Self::start_state(xy, rng);
        world
            .set_state(&qpos, &qvel)
            .expect("finite coordinates around a unit quaternion");
    }

    /// Moves it to `xy`; posture and velocities stay.
    pub(crate) fn place(&self, world: &mut World, xy: [f32; 2]) {
        let mut pose = world.body_pose(self.torso);
        (pose.translation.x, pose.translation.y) = (xy[0], xy[1]);
        world.set_free_pose(self.root, pose);
    }

    /// Torques for one control period.
    pub(crate) fn act(world: &mut World, action: &[f32]) {
        Self::act_with(world, action, |_| {});
    }

    /// As [`act`](Self::act), with something done before each physics step.
    pub(crate) fn act_with(world: &mut World, action: &[f32], before_step: impl Fn(&mut World)) {
        world
            .set_ctrls(action)
            .expect("eight finite numbers for eight motors");
        for _ in 0..PHYSICS_STEPS {
            before_step(world);
            world.step();
        }
    }

    pub(crate) fn observe(world: &World, observation: &mut [f32]) {
        let (positions, velocities) = observation.split_at_mut(world.nq());
        world.qpos(positions);
        world.qvel(velocities);
    }

    /// Of the torso above the floor, in metres.
    pub(crate) fn height(&self, world: &World) -> f32 {
        world.body_pose(self.torso).translation.z
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use telic_seed::Seed;
    use telic_sim::Model;

    use super::*;

    fn world() -> World {
        let model = Model::from_mjcf_str("ant", &Ant::mjcf("", "")).unwrap();
        World::new(&Arc::new(model), &Ant::physics()).unwrap()
    }

    /// Heights of the torso and angles of ankle 1 after so many control steps of a drop without torques, in MuJoCo 3.3.2.
    const DROP: [(usize, f32, f32); 6] = [
        (1, 0.735, 0.42),
        (2, 0.617, 0.852),
        (3, 0.648, 1.199),
        (4, 0.771, 1.243),
        (10, 0.608, 1.125),
        (20, 0.597, 1.083),
    ];

    #[test]
    fn a_dropped_ant_lands_as_in_the_original() {
        let mut world = world();
        let mut observation = [0.0; OBSERVATION_DIM];
        let mut step = 0;
        for (steps, height, ankle) in DROP {
            while step < steps {
                Ant::act(&mut world, &[0.0; ACTION_DIM]);
                step += 1;
            }
            Ant::observe(&world, &mut observation);
            // It bounces by 16 cm there and by 5 cm here, and comes to rest at the same height.
            let slack = if steps == 4 { 0.12 } else { 0.06 };
            let (z, angle) = (observation[2], observation[8]);
            assert!((z - height).abs() < slack, "step {steps}: {z} m");
            assert!((angle - ankle).abs() < 0.15, "step {steps}: {angle} rad");
        }
    }

    #[test]
    fn a_hip_turns_as_far_as_in_the_original() {
        let mut world = world();
        for _ in 0..50 {
            Ant::act(&mut world, &[0.0; ACTION_DIM]);
        }
        let mut before = [0.0; OBSERVATION_DIM];
        Ant::observe(&world, &mut before);
        let mut full = [0.0; ACTION_DIM];
        // Hip 1 is third in an action and first among the joints of an observation.
        full[2] = 1.0;
        Ant::act(&mut world, &full);
        let mut after = [0.0; OBSERVATION_DIM];
        Ant::observe(&world, &mut after);
        let turned = after[7] - before[7];
        assert!((turned / 0.1437 - 1.0).abs() < 0.05, "{turned} rad");
    }

    /// Hinges in the order of an observation, and in that of an action.
    const OBSERVED: [&str; ACTION_DIM] = [
        "hip1", "ankle1", "hip2", "ankle2", "hip3", "ankle3", "hip4", "ankle4",
    ];
    const ACTED: [&str; ACTION_DIM] = [
        "hip4", "ankle4", "hip1", "ankle1", "hip2", "ankle2", "hip3", "ankle3",
    ];

    #[test]
    fn legs_are_numbered_from_ahead_on_the_left_and_named_in_the_published_order() {
        let mut world = world();
        let mut qpos = [0.0; COORDINATES];
        (qpos[2], qpos[3]) = (START_HEIGHT_M, 1.0);
        world.set_state(&qpos, &[0.0; VELOCITIES]).unwrap();
        for (name, x, y) in [
            ("hip1", 0.2, 0.2),
            ("hip2", -0.2, 0.2),
            ("hip3", -0.2, -0.2),
            ("hip4", 0.2, -0.2),
        ] {
            let at = world.body_pose(world.body_id(name).unwrap()).translation;
            assert!(
                (at.x - x).abs() < 1e-5 && (at.y - y).abs() < 1e-5,
                "{name} is at {at:?}"
            );
        }
        let described = |hinge: &str| {
            let (kind, leg) = hinge.split_at(hinge.len() - 1);
            format!("leg_{leg}.{kind}")
        };
        let actions: Vec<_> = Ant::action_entries()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(actions, ACTED.map(described));
        let entries: Vec<_> = Ant::entries([0.0; 4])
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let of = |what: &str| OBSERVED.map(|hinge| format!("{}.{what}", described(hinge)));
        assert_eq!(entries[7..15], of("position"));
        assert_eq!(entries[21..], of("velocity"));
    }

    #[test]
    fn each_motor_turns_its_own_hinge_as_far_as_in_the_original() {
        let mut at_rest = world();
        for _ in 0..50 {
            Ant::act(&mut at_rest, &[0.0; ACTION_DIM]);
        }
        for (motor, name) in ACTED.into_iter().enumerate() {
            let mut world = at_rest.clone();
            // Ankles rest near one end of their range and have room on the other side.
            let turned_now = at_rest.joint_position(at_rest.joint_id(name).unwrap());
            let torque = if turned_now > 0.0 { -1.0 } else { 1.0 };
            let mut action = [0.0; ACTION_DIM];
            action[motor] = torque;
            Ant::act(&mut world, &action);
            let mut observation = [0.0; OBSERVATION_DIM];
            Ant::observe(&world, &mut observation);
            for (index, other) in OBSERVED.into_iter().enumerate() {
                let hinge = world.joint_id(other).unwrap();
                assert_eq!(observation[7 + index], world.joint_position(hinge));
                assert_eq!(observation[21 + index], world.joint_velocity(hinge));
                let turned = world.joint_position(hinge) - at_rest.joint_position(hinge);
                if other == name {
                    // There hips turn by 0.1437 rad and ankles by 0.1442 rad; here both turn 4 to 9 % further.
                    assert!(
                        (turned / torque / 0.144 - 1.0).abs() < 0.12,
                        "motor {motor} turns {name} by {turned} rad"
                    );
                } else {
                    assert!(
                        turned.abs() < 0.02,
                        "motor {motor} of {name} turns {other} by {turned} rad"
                    );
                }
            }
        }
    }

    #[test]
    fn random_torques_move_it_as_much_as_in_the_original() {
        let mut world = world();
        let mut rng = Seed::new(0).rng();
        let (steps, mut height, mut speed) = (10_000, 0.0, 0.0);
        let mut observation = [0.0; OBSERVATION_DIM];
        for step in 0..steps {
            if step % 1000 == 0 {
                Ant::start(&mut world, [0.0; 2], &mut rng);
            }
            let action: [f32; ACTION_DIM] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            Ant::act(&mut world, &action);
            assert!(world.is_finite(), "step {step}");
            Ant::observe(&world, &mut observation);
            height += observation[2] / steps as f32;
            speed += observation[15].hypot(observation[16]) / steps as f32;
        }
        // MuJoCo: 0.549 m and 0.55 m/s over 1000 steps.
        assert!((height - 0.549).abs() < 0.05, "{height} m");
        assert!((speed - 0.55).abs() < 0.08, "{speed} m/s");
    }
}
