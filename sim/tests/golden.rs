//! Poses, velocities and accelerations against MuJoCo's, in random states of three mechanisms.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use telic_sim::{Model, PhysicsConfig, Rotation, Vector, World};

#[derive(serde::Deserialize)]
struct Case {
    model: String,
    qpos: Vec<f32>,
    qvel: Vec<f32>,
    ctrl: Vec<f32>,
    bodies: Vec<String>,
    masses: Vec<f32>,
    positions: Vec<[f32; 3]>,
    quaternions: Vec<[f32; 4]>,
    velocities: Vec<[f32; 6]>,
    qacc: Vec<f32>,
}

/// Step over which the acceleration is measured. Servos are implicit, so its error is of first order in the step; the
/// rounding of a velocity of 1 is 3e-3 of it.
const STEP_SECS: f32 = 2e-5;

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("golden/mujoco.json")).unwrap()
}

fn without_contacts(xml: &str) -> String {
    let mut parts = xml.split("<geom ");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (attributes, rest) = part.split_once('>').unwrap();
        out += "<geom contype=\"0\" conaffinity=\"0\" ";
        let kept = attributes
            .split(' ')
            .filter(|a| !a.starts_with("contype=") && !a.starts_with("conaffinity="));
        // The end of an element without children.
        let closed = if attributes.ends_with('/') { "/" } else { "" };
        out += kept.collect::<Vec<_>>().join(" ").trim_end_matches('/');
        out += closed;
        out.push('>');
        out += rest;
    }
    out
}

fn world(name: &str) -> World {
    let xml = match name {
        "arm" => include_str!("fixtures/arm.xml"),
        "ant" => include_str!("../../envs/assets/ant.xml"),
        _ => include_str!("fixtures/limbs.xml"),
    };
    // Couplings and contacts are hard here and soft there; the free dynamics are compared.
    let xml = without_contacts(&xml.replace(
        "<joint joint1=\"left_finger\" joint2=\"right_finger\"/>",
        "",
    ));
    let model = Arc::new(Model::from_mjcf_str(name, &xml).unwrap());
    let config = PhysicsConfig {
        timestep_secs: STEP_SECS,
        solver_iterations: 1,
        ..PhysicsConfig::default()
    };
    World::new(&model, &config).unwrap()
}

#[test]
fn poses_masses_and_velocities_are_those_of_mujoco() {
    for case in cases() {
        let mut world = world(&case.model);
        world.set_state(&case.qpos, &case.qvel).unwrap();
        for (index, name) in case.bodies.iter().enumerate() {
            let body = world.body_id(name).unwrap();
            let mass = world.model().bodies()[body.index()].mass_kg;
            assert!(
                (mass - case.masses[index]).abs() < 1e-5 * (1.0 + mass),
                "{name}: {mass} kg"
            );
            let pose = world.body_pose(body);
            let offset = (pose.translation - Vector::from(case.positions[index])).length();
            let [w, x, y, z] = case.quaternions[index];
            let angle = (pose.rotation * Rotation::from_xyzw(x, y, z, w).inverse())
                .to_scaled_axis()
                .length();
            assert!(
                offset < 3e-6 && angle < 3e-6,
                "{} {name}: off by {offset} m, {angle} rad",
                case.model
            );
            let (linear, angular) = world.body_velocity(body);
            let [a, b, c, d, e, f] = case.velocities[index];
            let (linear, angular) = (
                linear - Vector::new(a, b, c),
                angular - Vector::new(d, e, f),
            );
            assert!(
                linear.length() < 2e-5 && angular.length() < 2e-5,
                "{} {name}: {linear} {angular}",
                case.model
            );
        }
    }
}

#[test]
fn accelerations_are_those_of_mujoco() {
    for case in cases() {
        let mut world = world(&case.model);
        world.set_state(&case.qpos, &case.qvel).unwrap();
        world.set_ctrls(&case.ctrl).unwrap();
        world.step();
        let mut qvel = vec![0.0; world.nv()];
        world.qvel(&mut qvel);
        let largest = case.qacc.iter().fold(0.0_f32, |m, a| m.max(a.abs()));
        for (i, expected) in case.qacc.iter().enumerate() {
            let found = (qvel[i] - case.qvel[i]) / STEP_SECS;
            let tolerance = 0.015 * expected.abs() + 1e-3 * largest + 0.02;
            assert!(
                (found - expected).abs() < tolerance,
                "{} qacc[{i}]: {found} against {expected}",
                case.model
            );
        }
    }
}

/// One action of full torque on one hip from rest, five steps of 0.02 s in the original: 0.1437 rad there, 0.1451 rad from
/// armature and damping alone.
#[test]
fn ant_hip_turns_as_far_as_in_the_original() {
    let xml = include_str!("../../envs/assets/ant.xml").replace(
        "<compiler angle=\"degree\"/>",
        "<compiler angle=\"degree\"/><option gravity=\"0 0 0\"/>",
    );
    let model = Arc::new(Model::from_mjcf_str("ant", &xml).unwrap());
    for (timestep_secs, solver_iterations, tolerance) in [
        (0.02, 1, 0.2),
        (0.02, 2, 0.11),
        (0.02, 4, 0.06),
        (0.005, 4, 0.025),
    ] {
        let config = PhysicsConfig {
            timestep_secs,
            solver_iterations,
            ..PhysicsConfig::default()
        };
        let mut world = World::new(&model, &config).unwrap();
        let mut qpos = vec![0.0; world.nq()];
        world.qpos(&mut qpos);
        let ankles = [1.0, -1.0, -1.0, 1.0];
        for (leg, angle) in ankles.iter().enumerate() {
            qpos[8 + 2 * leg] = *angle;
        }
        let qvel = vec![0.0; world.nv()];
        world.set_state(&qpos, &qvel).unwrap();
        let motor = world.actuator_id("hip1").unwrap();
        world.set_ctrl(motor, 1.0);
        for _ in 0..(0.1 / timestep_secs).round() as usize {
            world.step();
        }
        let turned = world.joint_position(world.joint_id("hip1").unwrap());
        assert!(
            (turned / 0.1437 - 1.0).abs() < tolerance,
            "step {timestep_secs}, {solver_iterations} iterations: {turned}"
        );
    }
}
