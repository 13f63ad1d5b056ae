use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use telic_seed::Seed;
use telic_sim::{GeomId, Model};

use super::*;

fn world_of(physics: &PhysicsConfig, xml: &str) -> (World, Humanoid) {
    let model = Model::from_mjcf_str("humanoid", xml).unwrap();
    let world = World::new(&Arc::new(model), physics).unwrap();
    let humanoid = Humanoid::new(&world).unwrap();
    (world, humanoid)
}

fn world() -> (World, Humanoid) {
    world_of(&Humanoid::physics(), &Humanoid::mjcf(""))
}

fn observed(world: &World, humanoid: &Humanoid) -> [f32; OBSERVATION_DIM] {
    let mut observation = [0.0; OBSERVATION_DIM];
    humanoid.observe(world, &mut observation);
    observation
}

fn random_action(rng: &mut Rng) -> [f32; ACTION_DIM] {
    std::array::from_fn(|_| rng.random_range(-1.0..1.0))
}

/// Zero but for the height and the quaternion.
fn standing_straight() -> [f32; POSITIONS] {
    let mut qpos = [0.0; POSITIONS];
    (qpos[2], qpos[3]) = (START_HEIGHT_M, 1.0);
    qpos
}

/// Entry of a hinge in an observation.
fn angle_of(name: &str) -> usize {
    2 + HINGES.iter().position(|(hinge, _)| *hinge == name).unwrap()
}

/// Entry of a hinge in an action.
fn motor_of(name: &str) -> usize {
    MOTORS.iter().position(|(motor, _)| *motor == name).unwrap()
}

#[test]
fn model_and_tables_agree() {
    let (world, humanoid) = world();
    let model = world.model();
    assert_eq!((model.nq(), model.nv(), model.nu()), (28, 27, ACTION_DIM));
    for (joint, (name, range)) in model.joints()[1..].iter().zip(HINGES) {
        assert_eq!(joint.name.as_deref(), Some(name));
        let [low, high] = joint.range.unwrap();
        assert!((low - range[0].to_radians()).abs() < 1e-6, "{name}");
        assert!((high - range[1].to_radians()).abs() < 1e-6, "{name}");
    }
    for (actuator, (name, torque_nm)) in model.actuators().iter().zip(MOTORS) {
        let joint = &model.joints()[actuator.joint.index()];
        assert_eq!(joint.name.as_deref(), Some(name));
        assert_eq!(actuator.gear, torque_nm, "{name}");
    }
    let mass = world.subtree_momentum(humanoid.torso).mass_kg;
    assert!((mass - 40.844).abs() < 1e-3, "{mass} kg");
    assert_eq!(
        Humanoid::entries([-1.0, -1.0, 1.0, 1.0]).len(),
        OBSERVATION_DIM
    );
}

/// Of the posture with all hinges at 0, in MuJoCo 4.0.
#[test]
fn hands_feet_and_head_are_where_the_original_has_them() {
    let (mut world, humanoid) = world();
    let check = |world: &World, z: f32, vertical: [f32; 3]| {
        let observation = observed(world, &humanoid);
        let expected = [
            [0.36, 0.17, 0.06],
            [-0.0027, 0.09, -1.258],
            [0.36, -0.17, 0.06],
            [-0.0027, -0.09, -1.258],
            vertical,
        ]
        .concat();
        for (index, (found, expected)) in observation[HANDS_AND_FEET..CENTRE_VELOCITY]
            .iter()
            .zip(expected)
            .enumerate()
        {
            assert!((found - expected).abs() < 1e-4, "entry {index}: {found}");
        }
        assert!(
            (observation[HEAD] - z).abs() < 1e-5,
            "{}",
            observation[HEAD]
        );
    };
    let mut qpos = standing_straight();
    (qpos[0], qpos[1]) = (3.0, -2.0);
    world.set_state(&qpos, &[0.0; POSITIONS - 1]).unwrap();
    check(&world, 1.69, [0.0, 0.0, 1.0]);
    // A quarter turn about x: its left side is up, and nothing changes in its own frame.
    let half = std::f32::consts::FRAC_1_SQRT_2;
    (qpos[3], qpos[4]) = (half, half);
    world.set_state(&qpos, &[0.0; POSITIONS - 1]).unwrap();
    check(&world, 1.5, [0.0, 1.0, 0.0]);
}

#[test]
fn velocities_are_those_of_the_state() {
    let (mut world, humanoid) = world();
    let mut qvel = [0.0; POSITIONS - 1];
    qvel[..3].copy_from_slice(&[0.5, -1.0, 2.0]);
    world.set_state(&standing_straight(), &qvel).unwrap();
    let observation = observed(&world, &humanoid);
    for (found, expected) in observation[CENTRE_VELOCITY..VELOCITIES].iter().zip(&qvel) {
        assert!((found - expected).abs() < 1e-4, "{found}");
    }
    for (found, expected) in observation[VELOCITIES..].iter().zip(&qvel) {
        assert!((found - expected).abs() < 1e-4, "{found}");
    }
    // Turning about the torso moves the centre of mass, which is 0.43 m below it and 0.017 m ahead.
    let mut turning = [0.0; POSITIONS - 1];
    turning[4] = 1.0;
    world.set_state(&standing_straight(), &turning).unwrap();
    let velocity = &observed(&world, &humanoid)[CENTRE_VELOCITY..VELOCITIES];
    assert!((velocity[0] + 0.4327).abs() < 1e-3, "{velocity:?}");
    assert!((velocity[2] + 0.0175).abs() < 1e-3, "{velocity:?}");
}

/// Height of the head after so many control steps of a drop without torques, in MuJoCo 4.0.
const DROP: [(usize, f32); 8] = [
    (5, 1.610),
    (10, 1.468),
    (15, 1.464),
    (20, 1.421),
    (25, 1.331),
    (30, 1.181),
    (40, 0.779),
    (60, 0.363),
];

#[test]
fn a_dropped_humanoid_lands_stands_and_falls_as_in_the_original() {
    let (mut world, humanoid) = world();
    let mut step = 0;
    for (steps, height) in DROP {
        while step < steps {
            Humanoid::act(&mut world, &[0.0; ACTION_DIM]);
            step += 1;
        }
        // It lands on its feet, stands for half a second and falls on its face; small differences grow on the way: velocities of
        // 0.01 at the start spread MuJoCo's own heads by 0.01 m after 40 steps and by 0.1 m after 60.
        let slack = match steps {
            ..=30 => 0.015,
            31..=40 => 0.025,
            _ => 0.1,
        };
        let head = observed(&world, &humanoid)[HEAD];
        eprintln!("step {steps}: {head} m, {height} m");
        assert!((head - height).abs() < slack, "step {steps}: {head} m");
    }
    for _ in 0..300 {
        Humanoid::act(&mut world, &[0.0; ACTION_DIM]);
    }
    // At rest the head lies on the floor.
    let observation = observed(&world, &humanoid);
    let head = observation[HEAD];
    assert!((head - 0.09).abs() < 0.01, "{head} m");
    assert!(humanoid.height(&world) < 0.35);
    assert!(!is_standing(&observation));
}

/// Full torque, forwards or backwards, on a hinge from rest and without gravity, in MuJoCo 4.0: radians after one action and after four.
const TURNS: [(&str, f32, f32, f32); 14] = [
    ("abdomen_y", 1.0, 0.0796, 0.4766),
    ("abdomen_z", 1.0, 0.0971, 0.5632),
    ("abdomen_x", -1.0, -0.0512, -0.3401),
    ("right_hip_x", -1.0, -0.0409, -0.2322),
    ("right_hip_z", 1.0, 0.1571, 0.6714),
    ("left_hip_y", -1.0, -0.2078, -1.1907),
    ("left_hip_y", 1.0, 0.1581, 0.3942),
    ("right_knee", -1.0, -0.4130, -2.7731),
    ("right_ankle_x", 1.0, 0.4619, 0.9649),
    ("left_ankle_y", -1.0, -0.3547, -0.9398),
    ("right_shoulder1", 1.0, 0.0771, 0.9071),
    ("left_shoulder2", 1.0, 0.0915, 1.1412),
    ("right_elbow", 1.0, 0.2717, 0.9473),
    ("left_elbow", -1.0, -0.2848, -1.7685),
];

fn without_gravity() -> String {
    Humanoid::mjcf("").replacen("<compiler", "<option gravity=\"0 0 0\"/>\n<compiler", 1)
}

/// Angle of a hinge after each of four actions of a torque.
fn turns(world: &mut World, humanoid: &Humanoid, hinge: &str, torque: f32) -> [f32; 4] {
    world
        .set_state(&standing_straight(), &[0.0; POSITIONS - 1])
        .unwrap();
    let mut action = [0.0; ACTION_DIM];
    action[motor_of(hinge)] = torque;
    std::array::from_fn(|_| {
        Humanoid::act(world, &action);
        observed(world, humanoid)[angle_of(hinge)]
    })
}

#[test]
fn hinges_turn_as_far_as_in_the_original() {
    let (mut world, humanoid) = world_of(&Humanoid::physics(), &without_gravity());
    for (hinge, torque, one, four) in TURNS {
        let turned = turns(&mut world, &humanoid, hinge, torque);
        eprintln!(
            "{hinge} {torque}: {} {one}, {} {four}",
            turned[0], turned[3]
        );
        assert!((turned[0] / one - 1.0).abs() < 0.1, "{hinge}: {turned:?}");
        assert!((turned[3] / four - 1.0).abs() < 0.1, "{hinge}: {turned:?}");
    }
}

/// Geoms within each other in the world's state, by name.
fn overlaps(world: &World) -> BTreeSet<[String; 2]> {
    let name = |geom: GeomId| world.model().geoms()[geom.index()].name.clone().unwrap();
    world
        .contacts()
        .filter(|contact| contact.distance_m < 0.0)
        .map(|contact| {
            let mut pair = [contact.geom_a, contact.geom_b].map(name);
            pair.sort();
            pair
        })
        .collect()
}

/// Neighbours overlap and do not touch, as thighs and pelvis; a hand and the upper arm are neighbours, as the hand is fixed to the
/// forearm.
#[test]
fn parts_touch_that_are_not_neighbours() {
    let (mut world, _) = world();
    let mut at = |hinges: &[(&str, f32)]| {
        let mut qpos = standing_straight();
        for &(hinge, degrees) in hinges {
            qpos[ROOT_POSITIONS - 2 + angle_of(hinge)] = degrees.to_radians();
        }
        world.set_state(&qpos, &[0.0; POSITIONS - 1]).unwrap();
        overlaps(&world)
    };
    assert_eq!(at(&[]), BTreeSet::new());
    // Two legs pulled inwards.
    let legs = at(&[("right_hip_x", 5.0), ("left_hip_x", 5.0)]);
    assert!(!legs.is_empty());
    for [a, b] in &legs {
        assert!(a.starts_with("left") && b.starts_with("right"), "{a} {b}");
    }
    // Far beyond its range, where the hand is inside the upper arm.
    assert_eq!(at(&[("right_elbow", 70.0)]), BTreeSet::new());
}

#[test]
fn a_start_touches_nothing_and_is_within_the_ranges() {
    let (mut world, humanoid) = world();
    let mut rng = Seed::new(2).rng();
    let mut draws = 0;
    for _ in 0..300 {
        draws += Humanoid::drop_at(&mut world, [4.0, -8.0], &mut rng);
        assert!(world.contacts().all(|contact| contact.distance_m > 0.0));
        let observation = observed(&world, &humanoid);
        assert!((observation[0] - 4.0).abs() < 1e-5 && (observation[1] + 8.0).abs() < 1e-5);
        assert!((humanoid.height(&world) - START_HEIGHT_M).abs() < 1e-5);
        for (angle, (name, [low, high])) in observation[2..HEAD].iter().zip(HINGES) {
            let range = low.to_radians() - 1e-4..=high.to_radians() + 1e-4;
            assert!(range.contains(angle), "{name}: {angle}");
        }
    }
    // MuJoCo 4.0 draws 1.35 on average, and never more than 7 in 3000 starts.
    let mean = draws as f32 / 300.0;
    assert!((mean - 1.35).abs() < 0.15, "{mean} draws");
}

/// What random actions do over episodes of 1000, without the fall of the first 100.
#[derive(Debug, Default)]
struct Thrashing {
    head_m: f32,
    torso_m: f32,
    /// Of the torso and of the centre of mass along the floor.
    speed_m_s: f32,
    centre_speed_m_s: f32,
    /// Mean over the hinges of the absolute value.
    hinge_rad_s: f32,
    /// Part of the hinges beyond their range, and how far these are.
    outside: f32,
    outside_rad: f32,
    lowest_head_m: f32,
    fastest_m_s: f32,
    /// In the fastest episode, so that other work on the machine counts less.
    control_steps_per_sec: f64,
}

fn thrash(world: &mut World, humanoid: &Humanoid, steps: usize) -> Thrashing {
    let mut rng = Seed::new(0).rng();
    let mut sums = Thrashing {
        lowest_head_m: f32::MAX,
        ..Thrashing::default()
    };
    let (mut busy_secs, mut counted, mut outside) = (0.0, 0.0, 0.0);
    for step in 0..steps {
        if step % 1000 == 0 {
            Humanoid::drop_at(world, [0.0; 2], &mut rng);
        }
        let action = random_action(&mut rng);
        let start = Instant::now();
        Humanoid::act(world, &action);
        busy_secs += start.elapsed().as_secs_f64();
        if step % 1000 == 999 {
            sums.control_steps_per_sec = sums.control_steps_per_sec.max(1000.0 / busy_secs);
            busy_secs = 0.0;
        }
        assert!(world.is_finite(), "step {step}");
        let observation = observed(world, humanoid);
        let [x, y, z] = [0, 1, 2].map(|axis| observation[VELOCITIES + axis]);
        sums.fastest_m_s = sums.fastest_m_s.max(x.hypot(y).hypot(z));
        sums.lowest_head_m = sums.lowest_head_m.min(observation[HEAD]);
        if step % 1000 < 100 {
            continue;
        }
        counted += 1.0;
        sums.head_m += observation[HEAD];
        sums.torso_m += humanoid.height(world);
        sums.speed_m_s += x.hypot(y);
        sums.centre_speed_m_s +=
            observation[CENTRE_VELOCITY].hypot(observation[CENTRE_VELOCITY + 1]);
        let hinges = &observation[VELOCITIES + 6..];
        sums.hinge_rad_s += hinges.iter().map(|v| v.abs()).sum::<f32>() / ACTION_DIM as f32;
        for (angle, (_, range)) in observation[2..HEAD].iter().zip(HINGES) {
            let [low, high] = range.map(f32::to_radians);
            let beyond = (low - angle).max(angle - high);
            if beyond > 0.0 {
                outside += 1.0;
                sums.outside_rad += beyond;
            }
        }
    }
    Thrashing {
        head_m: sums.head_m / counted,
        torso_m: sums.torso_m / counted,
        speed_m_s: sums.speed_m_s / counted,
        centre_speed_m_s: sums.centre_speed_m_s / counted,
        hinge_rad_s: sums.hinge_rad_s / counted,
        outside: outside / counted / ACTION_DIM as f32,
        outside_rad: sums.outside_rad / outside,
        ..sums
    }
}

#[test]
fn random_torques_move_it_as_much_as_in_the_original_and_never_blow_it_up() {
    let (mut world, humanoid) = world();
    let found = thrash(&mut world, &humanoid, 20_000);
    eprintln!("{found:?}");
    // MuJoCo 4.0 over 200,000 steps; standard deviations between its episodes are 0.035 m, 0.017 m, 0.016 m/s, 0.016 m/s and
    // 0.2 rad/s.
    for (what, found, original, slack) in [
        ("head", found.head_m, 0.136, 0.03),
        ("torso", found.torso_m, 0.125, 0.015),
        ("speed", found.speed_m_s, 0.340, 0.03),
        ("centre of mass", found.centre_speed_m_s, 0.260, 0.03),
        ("hinges", found.hinge_rad_s, 6.26, 0.4),
        ("outside", found.outside, 0.143, 0.03),
        ("outside by", found.outside_rad, 0.063, 0.015),
    ] {
        assert!((found - original).abs() < slack, "{what}: {found}");
    }
    assert!(found.lowest_head_m > 0.05, "{} m", found.lowest_head_m);
    assert!(found.fastest_m_s < 8.0, "{} m/s", found.fastest_m_s);
}

/// Prints the table of `docs/envs/humanoid-maze.md`.
#[test]
#[ignore = "slow: minutes"]
fn accuracy_and_speed_of_physics_settings() {
    let soft = |time_constant_secs| JointLimits::Soft { time_constant_secs };
    let ghost = Humanoid::mjcf("").replacen("conaffinity=\"1\"", "conaffinity=\"0\"", 1);
    for (steps, iterations, limits, touches) in [
        (1, 2, soft(0.05), true),
        (2, 1, soft(0.025), true),
        (2, 2, soft(0.025), true),
        (2, 2, JointLimits::Hard, true),
        (3, 1, soft(0.0167), true),
        (4, 1, soft(0.0125), true),
        (4, 1, soft(0.0125), false),
        (4, 1, soft(0.02), true),
        (4, 1, JointLimits::Hard, true),
        (5, 1, soft(0.01), true),
        (5, 4, soft(0.01), true),
    ] {
        let physics = PhysicsConfig {
            timestep_secs: CONTROL_STEP_SECS / steps as f32,
            solver_iterations: iterations,
            joint_limits: limits,
            ..PhysicsConfig::default()
        };
        let (mut floating, humanoid) = world_of(&physics, &without_gravity());
        let mut errors = [0.0_f32; 2];
        for (hinge, torque, one, four) in TURNS {
            let turned = turns(&mut floating, &humanoid, hinge, torque);
            errors[0] = errors[0].max((turned[0] / one - 1.0).abs());
            errors[1] = errors[1].max((turned[3] / four - 1.0).abs());
        }
        let xml = if touches {
            Humanoid::mjcf("")
        } else {
            ghost.clone()
        };
        let (mut world, humanoid) = world_of(&physics, &xml);
        for _ in 0..40 {
            Humanoid::act(&mut world, &[0.0; ACTION_DIM]);
        }
        let fallen = observed(&world, &humanoid)[HEAD];
        let found = thrash(&mut world, &humanoid, 20_000);
        eprintln!(
            "{steps} x {iterations}, {limits:?}, touches {touches}: turns off by {:.0} % and {:.0} %, head at 1 s {fallen:.2} m, {:.0} steps/s, {found:.3?}",
            100.0 * errors[0],
            100.0 * errors[1],
            found.control_steps_per_sec,
        );
    }
}

#[test]
#[ignore = "slow: minutes"]
fn two_hundred_thousand_random_steps() {
    let (mut world, humanoid) = world();
    let found = thrash(&mut world, &humanoid, 200_000);
    eprintln!("{found:?}");
    assert!(found.lowest_head_m > 0.0 && found.fastest_m_s < 10.0);
}

/// It stands: the feet are on the floor, and it turns where it looks into where it walks.
#[test]
fn a_start_on_its_feet_is_seen_from_its_own_side() {
    let (mut world, humanoid) = world();
    let mut rng = Seed::new(8).rng();
    let (mut feet, mut seen) = (0, BTreeSet::new());
    for yaw_rad in (0..50).map(|index| 0.12 * index as f32 - 3.0) {
        Humanoid::stand(&mut world, [3.0, -2.0], yaw_rad, &mut rng);
        let observation = observed(&world, &humanoid);
        assert!(is_standing(&observation));
        assert!(
            (observation[HEAD] - 1.48).abs() < 0.02,
            "{}",
            observation[HEAD]
        );
        feet += usize::from(world.contacts().any(|contact| contact.distance_m < 0.02));
        // Straight ahead is x, whatever it faces; so is its own velocity.
        let facing = world.body_pose(humanoid.torso).rotation * Vector::X;
        let length = facing.x.hypot(facing.y);
        let ahead = [facing.x / length, facing.y / length];
        assert!((ahead[0] - libm::cosf(yaw_rad)).abs() < 1e-5, "{yaw_rad}");
        assert!((ahead[1] - libm::sinf(yaw_rad)).abs() < 1e-5, "{yaw_rad}");
        let mut moving = observation;
        moving[VELOCITIES..VELOCITIES + 2].copy_from_slice(&ahead);
        moving[CENTRE_VELOCITY..CENTRE_VELOCITY + 2].copy_from_slice(&[-ahead[1], ahead[0]]);
        let mut input = [0.0; GAIT_INPUT_DIM];
        humanoid.write_gait_input(&world, &moving, ahead, &mut input);
        for (first, expected) in [
            (VELOCITIES - 2, [1.0, 0.0]),
            (CENTRE_VELOCITY - 2, [0.0, 1.0]),
            (GAIT_INPUT_DIM - 2, [1.0, 0.0]),
        ] {
            for axis in 0..2 {
                let found = input[first + axis];
                assert!(
                    (found - expected[axis]).abs() < 1e-5,
                    "{first} {axis}: {found}"
                );
            }
        }
        seen.insert((ahead[0].to_bits(), ahead[1].to_bits()));
    }
    assert_eq!((feet, seen.len()), (50, 50));
}
