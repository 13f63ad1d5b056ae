//! A six-axis arm with a gripper: kinematics against the world, grasping, and what a second of it costs.
#![allow(clippy::unwrap_used)]

use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use telic_sim::kinematics::na::{
    Isometry3, Matrix3, Rotation3, Translation3, UnitQuaternion, Vector3,
};
use telic_sim::kinematics::{Chain, IkConfig, isometry_from_pose};
use telic_sim::{Model, PhysicsConfig, World};

const HOME: [f64; 6] = [
    -FRAC_PI_2, -FRAC_PI_2, FRAC_PI_2, -FRAC_PI_2, -FRAC_PI_2, 0.0,
];

fn model() -> Arc<Model> {
    Arc::new(Model::from_mjcf_str("arm.xml", include_str!("fixtures/arm.xml")).unwrap())
}

fn pinch_chain(model: &Model) -> Chain {
    let world = model.body_id("world").unwrap();
    Chain::new(model, world, model.site_id("pinch").unwrap()).unwrap()
}

/// Tool down at this position, with this yaw.
fn tool_down(position: [f64; 3], yaw: f64) -> Isometry3<f64> {
    let down = Rotation3::from_matrix_unchecked(Matrix3::new(
        1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0,
    ));
    let turn = Rotation3::from_axis_angle(&Vector3::z_axis(), yaw);
    Isometry3::from_parts(
        Translation3::from(Vector3::from(position)),
        UnitQuaternion::from_rotation_matrix(&(turn * down)),
    )
}

fn set_arm(world: &mut World, q: &[f64], cube: [f32; 3]) {
    let mut qpos = vec![0.0; world.nq()];
    for (out, q) in qpos.iter_mut().zip(q) {
        *out = *q as f32;
    }
    let address = world.qpos_address(world.joint_id("cube").unwrap());
    qpos[address..address + 7].copy_from_slice(&[cube[0], cube[1], cube[2], 1.0, 0.0, 0.0, 0.0]);
    let qvel = vec![0.0; world.nv()];
    world.set_state(&qpos, &qvel).unwrap();
}

#[test]
fn forward_kinematics_gives_the_published_poses() {
    let model = model();
    let flange = Chain::new(
        &model,
        model.body_id("world").unwrap(),
        model.site_id("flange").unwrap(),
    )
    .unwrap();
    let pinch = pinch_chain(&model);
    for (q, flange_xyz, pinch_xyz) in [
        (HOME, [0.492, 0.134, 0.488], [0.492, 0.134, 0.3322]),
        ([0.0; 6], [-0.234, 0.817, 0.063], [-0.3898, 0.817, 0.063]),
        (
            [0.1, -1.2, 1.5, -0.7, -1.4, 0.3],
            [-0.19783, 0.45921, 0.31279],
            [-0.21006, 0.31586, 0.2530],
        ),
        (
            [-1.0, -1.8, 1.2, -1.0, -1.57, 0.5],
            [0.20511, 0.29104, 0.70119],
            [0.20888, 0.2936, 0.54545],
        ),
    ] {
        let at = |chain: &Chain| chain.forward(&q).translation.vector;
        assert!(
            (at(&flange) - Vector3::from(flange_xyz)).norm() < 2e-5,
            "{q:?}: {:?}",
            at(&flange)
        );
        assert!(
            (at(&pinch) - Vector3::from(pinch_xyz)).norm() < 6e-5,
            "{q:?}: {:?}",
            at(&pinch)
        );
    }
    let down = pinch
        .forward(&HOME)
        .rotation
        .to_rotation_matrix()
        .into_inner();
    assert!(
        (down - Matrix3::from_diagonal(&Vector3::new(1.0, -1.0, -1.0))).norm() < 1e-9,
        "{down}"
    );
}

#[test]
fn chain_and_world_agree_on_the_site() {
    let model = model();
    let chain = pinch_chain(&model);
    let mut world = World::new(&model, &PhysicsConfig::default()).unwrap();
    for q in [
        HOME,
        [0.1, -1.2, 1.5, -0.7, -1.4, 0.3],
        [-1.0, -1.8, 1.2, -1.0, -1.57, 0.5],
    ] {
        set_arm(&mut world, &q, [0.4, 0.0, 0.02]);
        let simulated = isometry_from_pose(&world.site_pose(world.site_id("pinch").unwrap()));
        let error = chain.forward(&q).inv_mul(&simulated);
        assert!(error.translation.vector.norm() < 2e-6, "{error}");
        assert!(error.rotation.angle() < 2e-6, "{error}");
    }
}

#[test]
fn chain_jacobian_times_velocity_is_the_body_velocity() {
    let model = model();
    let chain = pinch_chain(&model);
    let mut world = World::new(&model, &PhysicsConfig::default()).unwrap();
    let q = [0.1, -1.2, 1.5, -0.7, -1.4, 0.3];
    let v = [0.3, -0.2, 0.5, 0.7, -0.4, 1.0];
    let mut qpos = vec![0.0; world.nq()];
    world.qpos(&mut qpos);
    let mut qvel = vec![0.0; world.nv()];
    for i in 0..6 {
        qpos[i] = q[i] as f32;
        qvel[i] = v[i] as f32;
    }
    world.set_state(&qpos, &qvel).unwrap();
    let hand = world.body_id("hand").unwrap();
    let (linear, angular) = world.body_velocity(hand);
    let lever = world.site_pose(world.site_id("pinch").unwrap()).translation
        - world.body_pose(hand).translation;
    let linear = linear + angular.cross(lever);
    let expected = chain.jacobian(&q) * telic_sim::kinematics::na::DVector::from_row_slice(&v);
    for (i, value) in linear
        .to_array()
        .into_iter()
        .chain(angular.to_array())
        .enumerate()
    {
        assert!(
            (f64::from(value) - expected[i]).abs() < 1e-5,
            "{i}: {value} against {}",
            expected[i]
        );
    }
}

/// Closes on the cube, lifts it, waves the arm about for ten seconds: returns the largest slip of the cube in the hand.
fn grasp_and_wave(config: &PhysicsConfig) -> (f32, World) {
    let model = model();
    let chain = pinch_chain(&model);
    let mut world = World::new(&model, config).unwrap();
    let ik = IkConfig::default();
    let solve = |position: [f64; 3], yaw: f64, from: &[f64]| {
        let result = chain.inverse_kinematics(&tool_down(position, yaw), from, &ik);
        assert!(result.converged, "{result:?}");
        result.positions
    };
    let mut q = solve([0.425, 0.0, 0.022], 0.0, &HOME);
    set_arm(&mut world, &q, [0.425, 0.0, 0.02]);
    let arm: Vec<_> = chain
        .joints()
        .iter()
        .map(|&j| model.joints()[j.index()].name.clone().unwrap())
        .collect();
    let arm: Vec<_> = arm
        .iter()
        .map(|name| world.actuator_id(name).unwrap())
        .collect();
    let fingers = ["right_finger", "left_finger"].map(|name| world.actuator_id(name).unwrap());
    let (hand, cube) = (
        world.body_id("hand").unwrap(),
        world.body_id("cube").unwrap(),
    );
    let control_steps = (0.05 / config.timestep_secs).round() as usize;
    let drive = |world: &mut World, q: &[f64], opening: f32| {
        for (&actuator, &q) in arm.iter().zip(q) {
            world.set_ctrl(actuator, q as f32);
        }
        for finger in fingers {
            world.set_ctrl(finger, opening);
        }
        for _ in 0..control_steps {
            world.step();
        }
    };
    for _ in 0..20 {
        drive(&mut world, &q, 0.043);
    }
    let grip = |world: &World| world.body_pose(hand).inverse() * world.body_pose(cube);
    let start = grip(&world);
    let mut slip = 0.0_f32;
    for i in 0..200 {
        let t = f64::from(i) * 0.05;
        let lift = (t / 2.0).min(1.0);
        let phase = (t - 2.0).max(0.0);
        let position = [
            0.425 + 0.08 * libm::sin(phase * 1.5),
            0.15 * libm::sin(phase * 2.0),
            0.022 + 0.2 * lift + 0.05 * libm::sin(phase * 3.0),
        ];
        q = solve(position, 0.5 * libm::sin(phase), &q);
        drive(&mut world, &q, 0.043);
        slip = slip.max((grip(&world).translation - start.translation).length());
    }
    assert!(world.is_finite());
    (slip, world)
}

#[test]
fn gripper_holds_a_cube_while_the_arm_moves() {
    let (slip, world) = grasp_and_wave(&PhysicsConfig::default());
    let cube = world.body_pose(world.body_id("cube").unwrap()).translation;
    assert!(cube.z > 0.1, "the cube was dropped: {cube}");
    assert!(slip < 0.005, "it slipped {slip} m");
    let pad = world.geom_id("right_pad").unwrap();
    let force = world
        .contact_force(pad, world.geom_id("cube").unwrap())
        .length();
    assert!(
        (10.0..30.0).contains(&force),
        "the pad presses with {force} N, its servo with 20 N"
    );
}
