//! Physics of grasping, tasks and data collection.

use rand::RngExt;
use telic_seed::Seed;
use telic_sim::PhysicsConfig;

use super::demonstrator::{Expert, Kind, PLAY_STEPS};
use super::variants::{DOUBLE, SINGLE, Variant};
use super::*;
use crate::arm::ToolPose;
use crate::{Demonstrator, Start};

const NO_NOISE: Kind = Kind::Markov { random_percent: 0 };

fn env(variant: &'static Variant) -> CubeEnv {
    CubeEnv::new(variant).unwrap()
}

fn above(position: [f64; 3], height: f64, yaw: f64) -> ToolPose {
    ToolPose {
        position: [position[0], position[1], position[2] + height],
        yaw,
    }
}

/// Steps the arm alone and observes.
fn act(env: &mut CubeEnv, action: [f32; 5], steps: usize) {
    for _ in 0..steps {
        env.arm.step(&action);
    }
    env.observe();
}

fn cube(env: &CubeEnv, index: usize) -> [f64; 3] {
    observed_cube(&env.observation, index)
}

#[test]
fn a_cube_is_observed_in_decimetres_around_the_centre() {
    let mut env = env(&SINGLE);
    env.place(
        &above([0.4, -0.2, 0.02], 0.25, 0.3),
        &[([0.425, 0.1, 0.02], 0.5)],
    );
    let observation = &env.observation;
    assert_eq!(observation.len(), 28);
    let entries = &observation[19..28];
    let (half_sin, half_cos) = libm::sincos(0.25);
    let (sin, cos) = libm::sincos(0.5);
    let expected = [0.0, 1.0, 0.2, half_cos, 0.0, 0.0, half_sin, cos, sin];
    for (entry, expected) in entries.iter().zip(expected) {
        assert!((f64::from(*entry) - expected).abs() < 1e-5, "{entries:?}");
    }
    let tool = &observation[12..19];
    let expected = [-0.25, -2.0, 2.7, libm::cos(0.3), libm::sin(0.3), 0.0, 0.0];
    for (entry, expected) in tool.iter().zip(expected) {
        assert!((f64::from(*entry) - expected).abs() < 2e-3, "{tool:?}");
    }
    assert_eq!(DOUBLE.spec().observation_dim(), 37);
}

#[test]
fn a_resting_cube_stays_put() {
    let mut env = env(&DOUBLE);
    let places = [([0.35, 0.1, 0.02], 0.4), ([0.35, 0.1, 0.06], 0.9)];
    env.place(&above([0.5, -0.2, 0.02], 0.2, 0.0), &places);
    act(&mut env, [0.0, 0.0, 0.2, 0.0, 0.0], 200);
    for (index, (place, _)) in places.iter().enumerate() {
        let drift = distance(&cube(&env, index), place);
        assert!(drift < 5e-4, "cube {index} moved {drift} m in 10 s");
    }
}

#[test]
fn a_gripper_closed_on_itself_feels_nothing_held() {
    let mut env = env(&SINGLE);
    env.place(
        &above([0.425, 0.0, 0.02], 0.2, 0.0),
        &[([0.3, 0.2, 0.02], 0.0)],
    );
    act(&mut env, [0.0, 0.0, 0.0, 0.0, 1.0], 20);
    assert!(env.arm.opening() > 0.97);
    assert!(env.arm.contact() < 0.1, "{}", env.arm.contact());
}

/// How a grasp, a lift, a walk and a pause of 2 s went.
struct Grasp {
    held: bool,
    /// Motion of the cube in the gripper.
    slip_m: f64,
    /// Depth of each pad in the cube.
    penetration_m: f64,
    contact: f32,
}

fn grasp(env: &mut CubeEnv, seed: Seed) -> Grasp {
    let mut rng = seed.rng();
    let at = [
        rng.random_range(0.35..0.5),
        rng.random_range(-0.2..0.2),
        HALF_EXTENT,
    ];
    let yaw = rng.random_range(-0.7..0.7);
    let offset: [f64; 3] = std::array::from_fn(|_| rng.random_range(-0.008..0.008));
    let tool = ToolPose {
        position: [
            at[0] + offset[0],
            at[1] + offset[1],
            at[2] + 0.004 + offset[2].abs(),
        ],
        yaw,
    };
    env.place(&tool, &[(at, yaw + rng.random_range(-0.2..0.2))]);
    let in_gripper = |env: &CubeEnv| {
        let tool = env.arm.tool_pose().position;
        let cube = cube(env, 0);
        std::array::from_fn(|axis| cube[axis] - tool[axis])
    };
    act(env, [0.0, 0.0, 0.0, 0.0, 1.0], 8);
    act(env, [0.0, 0.0, 1.0, 0.0, 1.0], 8);
    let before: [f64; 3] = in_gripper(env);
    let [x, y, turn]: [f32; 3] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
    act(env, [x, y, 0.1, turn, 1.0], 8);
    act(env, [-x, -y, 0.1, -turn, 1.0], 8);
    act(env, [0.0, 0.0, 0.06, 0.0, 1.0], 40);
    let slip_m = distance(&in_gripper(env), &before);
    // The pads are 42.73 mm from the middle when open, and travel 43.5 mm per opening.
    let penetration_m = env.arm.opening() * 0.0435 - 0.04273 + HALF_EXTENT;
    Grasp {
        held: slip_m < 0.02 && cube(env, 0)[2] > 0.1,
        slip_m,
        penetration_m,
        contact: env.arm.contact(),
    }
}

#[test]
fn a_gripper_holds_what_it_grips_by_friction_and_lets_it_fall() {
    let mut env = env(&SINGLE);
    for index in 0..12 {
        let grasp = grasp(&mut env, Seed::new(index));
        assert!(grasp.held, "{index}: dropped");
        assert!(grasp.slip_m < 0.005, "{index}: slipped {} m", grasp.slip_m);
        assert!(
            grasp.penetration_m < 0.001,
            "{index}: {} m deep",
            grasp.penetration_m
        );
        assert!(grasp.contact > 0.8, "{index}: contact {}", grasp.contact);
        act(&mut env, [0.0, 0.0, 0.06, 0.0, -1.0], 20);
        assert!(
            (cube(&env, 0)[2] - HALF_EXTENT).abs() < 1e-3,
            "{index}: {:?}",
            cube(&env, 0)
        );
        assert_eq!(env.arm.contact(), 0.0);
    }
}

#[test]
fn a_task_places_and_aims_at_what_the_table_says() {
    for (variant, seeds) in [(&SINGLE, 3), (&DOUBLE, 12)] {
        let mut env = env(variant);
        for (task, layout) in variant.layouts.iter().enumerate() {
            let mut orders = std::collections::BTreeSet::new();
            for seed in 0..seeds {
                env.reset(
                    seed,
                    &ResetOptions {
                        start: Start::Task(task),
                        goal: None,
                    },
                )
                .unwrap();
                let slots: Vec<usize> = (0..variant.cubes())
                    .map(|index| {
                        let slot = layout
                            .start
                            .iter()
                            .position(|start| distance(&cube(&env, index), start) < 0.0145)
                            .expect("near a start of the table");
                        let goal = observed_cube(env.goal_observation(), index);
                        assert!(distance(&goal, &layout.goal[slot]) < 5e-4, "{goal:?}");
                        slot
                    })
                    .collect();
                orders.insert(slots);
                assert!(!env.reached());
            }
            assert_eq!(orders.len(), variant.cubes(), "every order occurs");
        }
    }
}

#[test]
fn a_goal_posture_is_two_random_actions_from_a_start_posture() {
    let mut env = env(&SINGLE);
    env.reset(
        3,
        &ResetOptions {
            start: Start::Task(0),
            goal: None,
        },
    )
    .unwrap();
    let goal = env.goal_observation().to_vec();
    // Joint velocities show that the arm was moving.
    assert!(goal[6..12].iter().any(|velocity| velocity.abs() > 0.01));
    assert!(
        env.observation()[6..12]
            .iter()
            .all(|velocity| *velocity == 0.0)
    );
    let pinch = unscaled_position(&goal[12..15]);
    for axis in 0..3 {
        assert!(pinch[axis] > ARM_START[0][axis] - 0.06 && pinch[axis] < ARM_START[1][axis] + 0.06);
    }
}

#[test]
fn success_is_the_distance_of_every_cube() {
    let mut env = env(&DOUBLE);
    env.reset(
        0,
        &ResetOptions {
            start: Start::Task(0),
            goal: None,
        },
    )
    .unwrap();
    let at_goal: Vec<Placement> = (0..2)
        .map(|c| (observed_cube(env.goal_observation(), c), 1.0))
        .collect();
    let tool = above([0.3, 0.3, 0.02], 0.25, 0.0);
    for (offset, reached) in [(0.039, true), (0.041, false)] {
        for moved in 0..2 {
            let mut places = at_goal.clone();
            places[moved].0[0] += offset;
            env.place(&tool, &places);
            assert_eq!(env.reached(), reached, "{offset}");
        }
    }
}

fn solved(variant: &'static Variant, kind: Kind, task: usize, seed: u64) -> bool {
    let mut expert = Expert::new(variant, kind, 0.0).unwrap();
    expert.reset(seed, Some(task)).unwrap();
    let mut action = [0.0; arm::ACTION_DIM];
    let mut success = false;
    while !expert.finished() {
        expert.act(&mut action);
        success = expert.step(&action).unwrap().success;
    }
    success
}

#[test]
fn oracles_swap_and_stack() {
    for kind in [Kind::Plan, NO_NOISE] {
        for task in [3, 4] {
            for seed in 0..2 {
                assert!(
                    solved(&DOUBLE, kind, task, seed),
                    "{kind:?} task {task} seed {seed}"
                );
            }
        }
    }
}

/// Targets finished, and placed, in one episode of play.
fn play(expert: &mut Expert, seed: u64) -> (usize, usize) {
    expert.reset(seed, None).unwrap();
    let mut action = [0.0; arm::ACTION_DIM];
    let mut steps = 0;
    while !expert.finished() {
        expert.act(&mut action);
        let step = expert.step(&action).unwrap();
        steps += 1;
        assert!(!step.terminated);
    }
    assert_eq!(steps, PLAY_STEPS);
    (expert.tally.targets, expert.tally.placed)
}

#[test]
fn play_goes_from_target_to_target() {
    let mut expert = Expert::new(&SINGLE, Kind::Plan, 1.0).unwrap();
    let (targets, placed) = play(&mut expert, 5);
    assert_eq!(targets, 11);
    assert!(placed >= 10, "{placed}");
    // Much noise drops cubes, so single episodes differ widely.
    let mut expert = Expert::new(&DOUBLE, Kind::Markov { random_percent: 10 }, 1.0).unwrap();
    let tallies: Vec<_> = (0..8).map(|seed| play(&mut expert, seed)).collect();
    let targets: usize = tallies.iter().map(|tally| tally.0).sum();
    let placed: usize = tallies.iter().map(|tally| tally.1).sum();
    assert!(
        targets >= 40 && 3 * placed >= 2 * targets,
        "{placed} of {targets}"
    );
}

/// How far a cube that lies on the table moves in a minute in which the arm stays where it is, in metres.
fn drift_in_a_minute(env: &mut CubeEnv, seed: u64) -> f64 {
    env.reset(seed, &ResetOptions::default()).unwrap();
    let cube = |env: &CubeEnv| observed_cube(env.observation(), 0);
    let before = cube(env);
    for _ in 0..(60.0 * arm::CONTROL_HZ) as usize {
        env.step(&[0.0; arm::ACTION_DIM]).unwrap();
    }
    distance(&before, &cube(env))
}

/// Prints the tables of `docs/envs/cube.md`.
#[test]
#[ignore = "slow: minutes"]
fn accuracy_and_speed_of_physics_settings() {
    let setting =
        |timestep_secs, solver_iterations, internal_iterations, stabilization_iterations, hz| {
            PhysicsConfig {
                timestep_secs,
                solver_iterations,
                internal_iterations,
                stabilization_iterations,
                contact_natural_frequency_hz: hz,
                ..PhysicsConfig::default()
            }
        };
    for physics in [
        setting(0.01, 4, 1, 1, 60.0),
        setting(0.01, 2, 8, 2, 60.0),
        setting(0.01, 2, 8, 8, 120.0),
        setting(0.005, 4, 1, 1, 60.0),
        setting(0.005, 2, 4, 2, 120.0),
        setting(0.005, 1, 4, 2, 120.0),
        setting(0.005, 1, 8, 2, 120.0),
        setting(0.005, 1, 8, 2, 200.0),
        setting(0.0025, 1, 8, 2, 120.0),
    ] {
        const GRASPS: u64 = 100;
        let mut env = CubeEnv::with_physics(&SINGLE, &physics).unwrap();
        let grasps: Vec<Grasp> = (0..GRASPS)
            .map(|index| grasp(&mut env, Seed::new(index)))
            .collect();
        let held = grasps.iter().filter(|grasp| grasp.held).count();
        let mean = |value: fn(&Grasp) -> f64| {
            grasps
                .iter()
                .filter(|grasp| grasp.held)
                .map(value)
                .sum::<f64>()
                / held.max(1) as f64
        };
        let drift = (0..10)
            .map(|seed| drift_in_a_minute(&mut env, seed))
            .fold(0.0, f64::max);
        let (mut targets, mut placed) = (0, 0);
        let env = CubeEnv::with_physics(&DOUBLE, &physics).unwrap();
        let mut expert = Expert::with_env(env, Kind::Plan, 1.0);
        for seed in 0..20 {
            let (some, well) = play(&mut expert, seed);
            targets += some;
            placed += well;
        }
        let env = CubeEnv::with_physics(&SINGLE, &physics).unwrap();
        let mut expert = Expert::with_env(env, Kind::Plan, 1.0);
        let best = (0..5)
            .map(|seed| {
                let start = std::time::Instant::now();
                play(&mut expert, seed);
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        eprintln!(
            "{} s x {} substeps, {} + {} sweeps, {} Hz: held {held}/{GRASPS}, {:.2} mm deep, slip {:.2} mm; drifts {:.3} mm; play {placed}/{targets}; {:.0} steps/s",
            physics.timestep_secs,
            physics.solver_iterations,
            physics.internal_iterations,
            physics.stabilization_iterations,
            physics.contact_natural_frequency_hz,
            1e3 * mean(|grasp| grasp.penetration_m),
            1e3 * mean(|grasp| grasp.slip_m),
            1e3 * drift,
            PLAY_STEPS as f64 / best,
        );
    }
}
