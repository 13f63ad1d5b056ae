//! Against numbers of dm_control 1.0.50's model in MuJoCo 4.0, from `benches/peers/dm_control/walker.py`.

use std::time::Instant;

use telic_sim::{JointLimits, Model, PhysicsConfig};

use super::body::{COORDINATES, physics};
use super::*;

const REST: [f32; COORDINATES] = [0.0; COORDINATES];
const BENT: [f32; COORDINATES] = [0.0, 0.0, 0.3, 0.5, -1.0, 0.2, 0.2, -0.6, 0.1];
const IN_THE_AIR: [f32; COORDINATES] = [3.0, 0.0, 0.0, 0.7, -1.3, 0.0, 0.7, -1.3, 0.0];
const ON_THE_BELLY: [f32; COORDINATES] = [-1.23, 0.0, 1.5708, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];

fn world(physics: &PhysicsConfig) -> World {
    let model = Model::from_mjcf_str(ID, include_str!("../../assets/walker.xml")).unwrap();
    World::new(&std::sync::Arc::new(model), physics).unwrap()
}

/// One control period, for any physics step.
fn act(world: &mut World, physics: &PhysicsConfig, action: &[f32]) {
    world.set_ctrls(action).unwrap();
    let steps = (1.0 / CONTROL_HZ as f32 / physics.timestep_secs).round() as usize;
    for _ in 0..steps {
        world.step();
    }
}

fn coordinates(world: &World) -> [f32; COORDINATES] {
    Walker::state(world).0
}

fn close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{name} {index}: {found}, expected {expected}"
        );
    }
}

struct Golden {
    qpos: [f32; COORDINATES],
    qvel: [f32; COORDINATES],
    /// The first 15 entries of an observation; velocities follow.
    posture: [f32; 15],
    /// Horizontal velocity of the centre of mass, and angular momentum about y.
    speed_and_spin: [f32; 2],
    rewards: [f32; 4],
}

const GOLDEN: [Golden; 5] = [
    Golden {
        qpos: REST,
        qvel: REST,
        posture: [
            1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.3,
        ],
        speed_and_spin: [0.0, 0.0],
        rewards: [1.0, 0.16667, 0.16667, 0.16667],
    },
    Golden {
        qpos: [-0.3, 0.5, 0.4, 0.2, -0.5, 0.1, 1.0, -1.2, 0.3],
        qvel: [0.1, 1.5, -0.7, 2.0, -1.0, 0.5, -3.0, 1.0, 2.0],
        posture: [
            0.92106, 0.38942, 0.98007, 0.19867, 0.76484, 0.64422, 0.82534, 0.56464, 0.82534,
            -0.56464, 0.82534, 0.56464, 0.95534, 0.29552, 1.0,
        ],
        speed_and_spin: [1.72277, -3.82370],
        rewards: [0.82083, 0.82083, 0.28411, 0.13681],
    },
    Golden {
        qpos: [-0.05, 2.0, -0.2, 0.9, -1.5, -0.4, 0.1, -0.2, 0.6],
        qvel: [-0.5, 6.0, 1.2, -4.0, 3.0, 1.0, 5.0, -6.0, -2.0],
        posture: [
            0.98007, -0.19867, 0.45360, -0.89121, 0.92106, 0.38942, 0.69671, 0.71736, 0.95534,
            -0.29552, 0.99500, -0.09983, 0.76484, -0.64422, 1.25,
        ],
        speed_and_spin: [5.66831, 5.54228],
        rewards: [0.99751, 0.99751, 0.75523, 0.99751],
    },
    Golden {
        qpos: [-0.9, -1.0, 2.5, -0.3, -2.5, 0.7, 1.7, -0.1, -0.7],
        qvel: [1.0, -0.8, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        posture: [
            -0.80114, 0.59847, -0.94222, 0.33499, 0.55437, -0.83227, -0.11215, -0.99369, 0.69671,
            0.71736, 0.62161, 0.78333, -0.02920, 0.99957, 0.4,
        ],
        speed_and_spin: [-0.16780, 32.85412],
        rewards: [0.03737, 0.00623, 0.00623, 0.03737],
    },
    Golden {
        qpos: [0.1, 0.0, 0.1, 0.4, -0.3, 0.2, -0.1, -0.9, -0.2],
        qvel: [0.2, 3.0, 3.0, 1.0, 1.0, -1.0, -1.0, 2.0, 0.0],
        posture: [
            0.99500, 0.09983, 0.95534, -0.29552, 1.0, 0.0, 0.98007, -0.19867, 0.98007, 0.19867,
            0.45360, 0.89121, 0.26750, 0.96356, 1.4,
        ],
        speed_and_spin: [1.68140, 17.45642],
        rewards: [0.99938, 0.99938, 0.34160, 0.99938],
    },
];

#[test]
fn observation_momentum_and_rewards_are_those_of_the_original() {
    let mut env = WalkerEnv::new().unwrap();
    for golden in GOLDEN {
        env.set_state(&golden.qpos, &golden.qvel).unwrap();
        close("posture", &env.observation()[..15], &golden.posture, 1e-4);
        close("velocity", &env.observation()[15..], &golden.qvel, 1e-5);
        let motion = env.walker.motion(&env.world);
        let found = [motion.speed_m_s, motion.spin_kg_m2_s];
        close("speed and spin", &found, &golden.speed_and_spin, 1e-3);
        close("rewards", &env.rewards(), &golden.rewards, 1e-3);
        let (mut qpos, mut qvel) = (vec![], vec![]);
        env.state(&mut qpos, &mut qvel);
        close("qpos", &qpos, &golden.qpos, 1e-5);
        close("qvel", &qvel, &golden.qvel, 1e-5);
    }
}

#[test]
fn mass_is_that_of_the_original() {
    let env = WalkerEnv::new().unwrap();
    let torso = env.world.body_id("torso").unwrap();
    let mass_kg = env.world.subtree_momentum(torso).mass_kg;
    assert!((mass_kg - 28.54034).abs() < 1e-3, "{mass_kg} kg");
}

#[test]
fn the_goal_posture_stands_on_level_feet() {
    let env = WalkerEnv::new().unwrap();
    assert!((env.stance[HEIGHT] - 1.25).abs() < 1e-3);
    for foot in ["right_foot", "left_foot"] {
        let pose = env.world.body_pose(env.world.body_id(foot).unwrap());
        let height = pose.translation.z;
        // The radius of a foot.
        assert!((height - 0.05).abs() < 2e-3, "{height} m");
    }
    close("foot", &env.stance[6..8], &[1.0, 0.0], 1e-3);
}

/// Heights of the torso after so many control steps of a drop from [`BENT`] without torques.
const DROP: [(usize, f32); 6] = [
    (1, 1.2966),
    (5, 1.2221),
    (10, 1.0326),
    (15, 0.7528),
    (20, 0.5628),
    (30, 0.5421),
];

#[test]
fn a_bent_walker_falls_as_in_the_original() {
    let mut world = world(&physics());
    Walker::set_state(&mut world, &BENT, &REST).unwrap();
    let mut step = 0;
    for (steps, height) in DROP {
        while step < steps {
            Walker::act(&mut world, &[0.0; ACTION_DIM]);
            step += 1;
        }
        let found = 1.3 + coordinates(&world)[0];
        assert!((found - height).abs() < 0.05, "step {step}: {found} m");
    }
}

/// Balanced on its feet it topples between step 30 and 40, as in the original: 1.2950 m after 30 and 1.0463 m after 40.
#[test]
fn an_upright_walker_without_torques_topples_when_it_does_in_the_original() {
    let mut world = world(&physics());
    Walker::set_state(&mut world, &REST, &REST).unwrap();
    let heights: Vec<f32> = (0..40)
        .map(|_| {
            Walker::act(&mut world, &[0.0; ACTION_DIM]);
            1.3 + coordinates(&world)[0]
        })
        .collect();
    assert!((heights[29] - 1.2950).abs() < 0.01, "{}", heights[29]);
    assert!((heights[39] - 1.0463).abs() < 0.1, "{}", heights[39]);
}

/// Joint angles that one action of full torque adds in the air, hip, knee and ankle, both ways.
const TURNS: [[f32; 2]; 3] = [
    [0.12198, -0.12674],
    [0.06006, -0.05814],
    [0.22892, -0.23219],
];

fn turn(world: &mut World, physics: &PhysicsConfig, joint: usize, torque: f32) -> f32 {
    Walker::set_state(world, &IN_THE_AIR, &REST).unwrap();
    let mut action = [0.0; ACTION_DIM];
    action[joint] = torque;
    act(world, physics, &action);
    coordinates(world)[3 + joint] - IN_THE_AIR[3 + joint]
}

#[test]
fn torques_turn_joints_as_far_as_in_the_original() {
    let mut world = world(&physics());
    for (joint, expected) in TURNS.into_iter().enumerate() {
        for (torque, expected) in [1.0, -1.0].into_iter().zip(expected) {
            let turned = turn(&mut world, &physics(), joint, torque);
            // Steps are longer here, and each moves by the velocity at its end.
            let ratio = turned / expected;
            assert!((1.0..1.16).contains(&ratio), "{joint} {torque}: {turned}");
        }
    }
}

/// Speeds after 5, 10, 15 and 20 control steps of a slide that starts with 3 m/s: 2.16, 1.34, 0.56, 0.09 in the original.
///
/// Without the joint `rail`, friction was a thirtieth of that.
#[test]
fn friction_stops_a_slide() {
    let mut world = world(&physics());
    let walker = Walker::new(&world).unwrap();
    let mut qvel = REST;
    qvel[1] = 3.0;
    Walker::set_state(&mut world, &ON_THE_BELLY, &qvel).unwrap();
    let speeds: Vec<f32> = (0..20)
        .map(|_| {
            Walker::act(&mut world, &[0.0; ACTION_DIM]);
            walker.motion(&world).speed_m_s
        })
        .collect();
    let found = [speeds[4], speeds[9], speeds[14], speeds[19]];
    eprintln!("slide: {found:.2?} m/s");
    close("speed", &found, &[2.16, 1.34, 0.56, 0.09], 0.2);
}

/// Torques between its parts cannot move or turn the whole. MuJoCo's worst of ten such flights: 0.030 m/s, 0.25 kg m²/s.
#[test]
fn momentum_in_the_air_drifts_little() {
    let mut world = world(&physics());
    let walker = Walker::new(&world).unwrap();
    let mut rng = Seed::new(1).rng();
    let (mut speed, mut spin) = (0.0_f32, 0.0_f32);
    for _ in 0..10 {
        let mut qpos = IN_THE_AIR;
        qpos[0] = 100.0;
        Walker::set_state(&mut world, &qpos, &REST).unwrap();
        for _ in 0..20 {
            let action = [0.0; ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
            Walker::act(&mut world, &action);
        }
        let motion = walker.motion(&world);
        speed = speed.max(motion.speed_m_s.abs());
        spin = spin.max(motion.spin_kg_m2_s.abs());
    }
    eprintln!("after half a second in the air: {speed:.4} m/s, {spin:.3} kg m²/s");
    assert!(speed < 0.2, "{speed} m/s");
    assert!(spin < 1.5, "{spin} kg m²/s");
}

/// Of random actions.
struct Statistics {
    height_m: f32,
    speed_m_s: f32,
    lowest_m: f32,
    highest_m: f32,
    /// Of all velocities, in m/s or rad/s.
    fastest: f32,
    /// Farthest from the plane y = 0, in metres.
    off_plane_m: f32,
    /// Farthest that a joint is beyond its range, in rad: at all, and all but 1 % of the time.
    beyond: [f32; 2],
    steps_per_second: f64,
}

fn random_steps(physics: &PhysicsConfig, steps: usize) -> Statistics {
    let mut world = world(physics);
    let walker = Walker::new(&world).unwrap();
    let mut rng = Seed::new(0).rng();
    let (mut lowest_m, mut highest_m, mut fastest) = (f32::MAX, f32::MIN, 0.0_f32);
    let (mut height, mut speed, mut off_plane_m, mut seconds) = (0.0, 0.0, 0.0_f32, 0.0);
    let mut beyond = vec![];
    let mut observation = [0.0; OBSERVATION_DIM];
    let ranges = [[-20.0_f32, 100.0], [-150.0, 0.0], [-45.0, 45.0]];
    for step in 0..steps {
        if step % 1000 == 0 {
            Walker::start(&mut world, &mut rng);
        }
        let action = [0.0; ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
        let started = Instant::now();
        act(&mut world, physics, &action);
        walker.observe(&world, &mut observation);
        seconds += started.elapsed().as_secs_f64();
        assert!(world.is_finite(), "step {step}");
        let motion = walker.motion(&world);
        height += f64::from(motion.height_m);
        speed += f64::from(motion.speed_m_s.abs());
        lowest_m = lowest_m.min(motion.height_m);
        highest_m = highest_m.max(motion.height_m);
        off_plane_m = off_plane_m.max(walker.position(&world)[1].abs());
        fastest = observation[HEIGHT + 1..]
            .iter()
            .fold(fastest, |fastest, velocity| fastest.max(velocity.abs()));
        let farthest = coordinates(&world)[3..]
            .iter()
            .zip(ranges.into_iter().cycle())
            .map(|(q, [low, high])| (low.to_radians() - q).max(q - high.to_radians()))
            .fold(0.0, f32::max);
        beyond.push(farthest);
    }
    beyond.sort_by(f32::total_cmp);
    Statistics {
        height_m: (height / steps as f64) as f32,
        speed_m_s: (speed / steps as f64) as f32,
        lowest_m,
        highest_m,
        fastest,
        off_plane_m,
        beyond: [beyond[steps - 1], beyond[steps * 99 / 100]],
        steps_per_second: steps as f64 / seconds,
    }
}

fn check(statistics: &Statistics) {
    // MuJoCo, 20,000 steps: 0.184 m, 0.227 m/s, up to 45 rad/s.
    let [height, speed] = [statistics.height_m, statistics.speed_m_s];
    assert!((height - 0.184).abs() < 0.02, "{height} m");
    assert!((speed - 0.227).abs() < 0.04, "{speed} m/s");
    assert!(statistics.fastest < 80.0, "{}", statistics.fastest);
    let (lowest, highest) = (statistics.lowest_m, statistics.highest_m);
    assert!(lowest > 0.0 && highest < 1.6, "{lowest} to {highest} m");
    assert!(statistics.off_plane_m < 1e-3, "{}", statistics.off_plane_m);
}

#[test]
fn random_torques_move_it_as_much_as_in_the_original() {
    check(&random_steps(&physics(), 20_000));
}

#[test]
#[ignore = "slow: half a minute"]
fn two_hundred_thousand_random_steps() {
    let statistics = random_steps(&physics(), 200_000);
    eprintln!(
        "{:.3} to {:.3} m, velocities up to {:.1}, {:.1e} m off the plane, {:.0} steps/s",
        statistics.lowest_m,
        statistics.highest_m,
        statistics.fastest,
        statistics.off_plane_m,
        statistics.steps_per_second
    );
    check(&statistics);
}

/// How often random actions solve the tasks by accident.
#[test]
#[ignore = "slow: half a minute"]
fn random_actions_rarely_reach_a_goal() {
    let mut env = WalkerEnv::new().unwrap();
    let mut rng = Seed::new(0).rng();
    for task in 0..TASK_SPEEDS_M_S.len() {
        let mut solved = 0;
        for seed in 0..50 {
            let start = crate::Start::Task(task);
            env.reset(seed, &ResetOptions { start, goal: None })
                .unwrap();
            for _ in 0..MAX_EPISODE_STEPS {
                let action = [0.0; ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
                if env.step(&action).unwrap().success {
                    solved += 1;
                    break;
                }
            }
        }
        eprintln!("task {task}: {solved} of 50 by random actions");
        assert!(solved <= 10, "task {task}: {solved}");
    }
}

/// Prints the table of `docs/envs/walker.md`.
#[test]
#[ignore = "slow: a minute"]
fn accuracy_and_speed_of_physics_settings() {
    let setting = |milliseconds: f32, solver_iterations, joint_limits| PhysicsConfig {
        timestep_secs: milliseconds / 1000.0,
        solver_iterations,
        joint_limits,
        ..physics()
    };
    let soft = |milliseconds: f32| JointLimits::Soft {
        time_constant_secs: milliseconds / 1000.0,
    };
    for physics in [
        setting(25.0, 1, soft(50.0)),
        setting(25.0, 2, soft(50.0)),
        setting(12.5, 1, soft(25.0)),
        setting(12.5, 2, soft(25.0)),
        setting(12.5, 4, soft(25.0)),
        setting(25.0 / 3.0, 1, soft(20.0)),
        setting(25.0 / 3.0, 2, soft(17.0)),
        setting(6.25, 1, soft(12.5)),
        setting(6.25, 2, soft(12.5)),
        setting(5.0, 1, soft(10.0)),
        setting(2.5, 1, soft(20.0)),
        setting(2.5, 1, soft(5.0)),
        setting(12.5, 1, JointLimits::Hard),
        setting(12.5, 2, JointLimits::Hard),
        setting(6.25, 1, JointLimits::Hard),
    ] {
        let mut world = world(&physics);
        let turns: Vec<String> = (0..3)
            .map(|joint| {
                let ratio = turn(&mut world, &physics, joint, 1.0) / TURNS[joint][0];
                format!("{ratio:.2}")
            })
            .collect();
        let mut drops = vec![];
        for start in [BENT, REST] {
            Walker::set_state(&mut world, &start, &REST).unwrap();
            for step in 1..=40 {
                act(&mut world, &physics, &[0.0; ACTION_DIM]);
                let q = coordinates(&world);
                if [10, 15, 20, 30, 40].contains(&step) {
                    drops.push(format!("{:.3}", 1.3 + q[0]));
                }
            }
        }
        let random = random_steps(&physics, 20_000);
        let [most, usual] = random.beyond;
        eprintln!(
            "{:.2} ms x {}, {:?}: turns {}; drops {}; random {:.3} m, {:.3} m/s, {most:.2} {usual:.2} rad beyond, fastest {:.0}; \
             {:.0} steps/s",
            physics.timestep_secs * 1e3,
            physics.solver_iterations,
            physics.joint_limits,
            turns.join(" "),
            drops.join(" "),
            random.height_m,
            random.speed_m_s,
            random.fastest,
            random.steps_per_second,
        );
    }
}
