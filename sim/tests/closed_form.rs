//! Physics against textbook formulas.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use telic_sim::{JointLimits, Model, PhysicsConfig, World};

const GRAVITY: f32 = 9.81;

fn world(xml: &str, timestep_secs: f32) -> World {
    let model = Arc::new(Model::from_mjcf_str("test", xml).unwrap());
    World::new(
        &model,
        &PhysicsConfig {
            timestep_secs,
            ..PhysicsConfig::default()
        },
    )
    .unwrap()
}

fn qpos(world: &World) -> Vec<f32> {
    let mut out = vec![0.0; world.nq()];
    world.qpos(&mut out);
    out
}

fn qvel(world: &World) -> Vec<f32> {
    let mut out = vec![0.0; world.nv()];
    world.qvel(&mut out);
    out
}

fn run(world: &mut World, secs: f32) {
    let steps = (secs / world.timestep_secs()).round() as usize;
    for _ in 0..steps {
        world.step();
    }
}

#[test]
fn free_fall_is_half_g_t_squared() {
    let mut world = world(
        r#"<mujoco><worldbody><body pos="0 0 10"><freejoint/><geom type="box" size=".1 .2 .3"/></body></worldbody></mujoco>"#,
        0.01,
    );
    run(&mut world, 1.0);
    let fallen = 10.0 - qpos(&world)[2];
    // Semi-implicit Euler with sub-steps h overshoots by g t h / 2.
    let h = 0.01 / 4.0;
    let expected = 0.5 * GRAVITY + 0.5 * GRAVITY * h;
    assert!(
        (fallen - expected).abs() < 1e-3,
        "{fallen} against {expected}"
    );
    assert!((qvel(&world)[2] + GRAVITY).abs() < 1e-3);
}

/// Rotor inertia dwarfs that of the link, so the joint has an inertia of 1 kg m².
const LIMITED_HINGE: &str = r#"<mujoco><compiler angle="radian"/><option gravity="0 0 0"/><worldbody>
    <body><joint name="h" type="hinge" axis="0 0 1" armature="1" range="0 1"/><geom type="sphere" size=".01" mass="1e-3"/></body>
    </worldbody><actuator><motor name="m" joint="h"/></actuator></mujoco>"#;
const LIMIT_SECS: f32 = 0.04;

fn softly_limited(timestep_secs: f32) -> World {
    let model = Arc::new(Model::from_mjcf_str("hinge", LIMITED_HINGE).unwrap());
    let config = PhysicsConfig {
        timestep_secs,
        joint_limits: JointLimits::Soft {
            time_constant_secs: LIMIT_SECS,
        },
        ..PhysicsConfig::default()
    };
    World::new(&model, &config).unwrap()
}

/// A critically damped spring that starts `r` outside pushes until `t = tc`, where the joint moves at `r / (e tc)`; a limit never
/// pulls, so it goes on at that speed.
#[test]
fn a_joint_outside_a_soft_limit_is_pushed_inwards_and_let_go() {
    for (start, inwards) in [(-0.5, 1.0), (1.5, -1.0)] {
        let mut world = softly_limited(0.001);
        world.set_state(&[start], &[0.0]).unwrap();
        run(&mut world, 0.1);
        let speed = 0.5 / (std::f32::consts::E * LIMIT_SECS);
        let travelled = 0.5 * (1.0 - 2.0 / std::f32::consts::E) + speed * (0.1 - LIMIT_SECS);
        let (moved, velocity) = (
            (qpos(&world)[0] - start) * inwards,
            qvel(&world)[0] * inwards,
        );
        assert!(
            (velocity / speed - 1.0).abs() < 0.02,
            "{velocity} against {speed}"
        );
        assert!(
            (moved / travelled - 1.0).abs() < 0.03,
            "{moved} against {travelled}"
        );
    }
}

/// A twentieth of the motor's torque is left to the spring, `I / tc²` stiff.
#[test]
fn a_motor_leans_into_a_soft_limit() {
    for timestep_secs in [0.001, 0.02] {
        let mut world = softly_limited(timestep_secs);
        world.set_state(&[0.9], &[0.0]).unwrap();
        let motor = world.actuator_id("m").unwrap();
        world.set_ctrl(motor, 30.0);
        run(&mut world, 2.0);
        let beyond = qpos(&world)[0] - 1.0;
        let expected = 0.05 * 30.0 * LIMIT_SECS * LIMIT_SECS;
        assert!(
            (beyond / expected - 1.0).abs() < 0.05,
            "{beyond} against {expected}"
        );
        assert!(qvel(&world)[0].abs() < 1e-3);
    }
}

#[test]
fn pendulum_period_is_two_pi_root_l_over_g() {
    // A point mass at 1 m: the ball's own inertia (0.4 m r²) is 4e-6 of m l².
    let mut world = world(
        r#"<mujoco><worldbody><body pos="0 0 2"><joint name="h" type="hinge" axis="0 1 0"/>
           <geom type="sphere" size=".003" pos="0 0 -1" mass="1"/></body></worldbody></mujoco>"#,
        0.002,
    );
    world.set_state(&[0.05], &[0.0]).unwrap();
    let mut crossings = Vec::new();
    let mut last = 0.05;
    while crossings.len() < 6 {
        world.step();
        let angle = qpos(&world)[0];
        if last > 0.0 && angle <= 0.0 {
            crossings.push(world.time_secs());
        }
        last = angle;
        assert!(world.time_secs() < 30.0, "it does not swing");
    }
    let period = (crossings[5] - crossings[0]) / 5.0;
    let expected = 2.0 * std::f64::consts::PI * (1.0 / 9.81_f64).sqrt();
    assert!(
        (period / expected - 1.0).abs() < 0.01,
        "{period} against {expected}"
    );
    // The swing keeps its height: nothing damps a joint that has no damping.
    let mut peak = 0.0_f32;
    for _ in 0..2000 {
        world.step();
        peak = peak.max(qpos(&world)[0].abs());
    }
    assert!((peak / 0.05 - 1.0).abs() < 0.05, "{peak}");
}

#[test]
fn sliding_block_stops_after_v_squared_over_two_mu_g() {
    let mut world = world(
        r#"<mujoco><worldbody><geom type="plane" size="5 5 .1" friction=".3"/>
           <body pos="0 0 .05"><freejoint/><geom type="box" size=".1 .1 .05" friction=".3"/></body></worldbody></mujoco>"#,
        0.005,
    );
    run(&mut world, 0.5);
    let start = qpos(&world);
    let mut velocity = vec![0.0; 6];
    velocity[0] = 2.0;
    world.set_state(&start, &velocity).unwrap();
    run(&mut world, 2.0);
    let slid = qpos(&world)[0] - start[0];
    let expected = 4.0 / (2.0 * 0.3 * GRAVITY);
    assert!(
        (slid / expected - 1.0).abs() < 0.03,
        "{slid} against {expected}"
    );
    assert!(qvel(&world)[0].abs() < 1e-3);
}

#[test]
fn motor_torque_gives_torque_over_inertia() {
    // A rod of 0.2 m about its middle, axis vertical, with armature.
    for armature in [0.0_f32, 0.05] {
        let mut world = world(
            &format!(
                r#"<mujoco><worldbody><body><joint name="h" axis="0 0 1" armature="{armature}"/>
                   <inertial pos="0 0 0" mass="1" diaginertia=".01 .01 .02"/></body></worldbody>
                   <actuator><motor name="m" joint="h" gear="2"/></actuator></mujoco>"#
            ),
            0.01,
        );
        let motor = world.actuator_id("m").unwrap();
        world.set_ctrl(motor, 0.15);
        run(&mut world, 1.0);
        let expected = 0.3 / (0.02 + armature);
        let velocity = qvel(&world)[0];
        assert!(
            (velocity / expected - 1.0).abs() < 0.01,
            "{velocity} against {expected}"
        );
    }
}

#[test]
fn motor_on_a_slide_gives_force_over_mass_and_pushes_back() {
    // A cart (2 kg) carrying a slider (1 kg): the internal force leaves the common momentum at zero.
    let mut world = world(
        r#"<mujoco><option gravity="0 0 0"/><worldbody><body><joint name="a" type="slide" axis="1 0 0"/>
           <inertial pos="0 0 0" mass="2" diaginertia=".1 .1 .1"/>
           <body pos="0 0 .1"><joint name="b" type="slide" axis="1 0 0"/><inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/></body>
           </body></worldbody><actuator><motor name="m" joint="b"/></actuator></mujoco>"#,
        0.01,
    );
    let motor = world.actuator_id("m").unwrap();
    world.set_ctrl(motor, 3.0);
    run(&mut world, 0.5);
    let v = qvel(&world);
    assert!((v[0] + 3.0 * 0.5 / 2.0).abs() < 0.01, "{v:?}");
    assert!((v[0] + v[1] - 3.0 * 0.5).abs() < 0.01, "{v:?}");
}

#[test]
fn resting_cube_stays_for_a_minute() {
    for (size, timestep) in [(0.02, 0.005), (0.02, 0.002), (0.5, 0.01)] {
        let mut world = world(
            &format!(
                r#"<mujoco><worldbody><geom type="plane" size="5 5 .1"/>
                   <body pos="0 0 {size}"><freejoint/><geom type="box" size="{size} {size} {size}"/></body></worldbody></mujoco>"#
            ),
            timestep,
        );
        run(&mut world, 1.0);
        let start = qpos(&world);
        run(&mut world, 60.0);
        let end = qpos(&world);
        let moved = (0..3)
            .map(|i| (end[i] - start[i]).powi(2))
            .sum::<f32>()
            .sqrt();
        let dot = (3..7)
            .map(|i| end[i] * start[i])
            .sum::<f32>()
            .abs()
            .min(1.0);
        let turned = 2.0 * dot.acos().to_degrees();
        assert!(
            moved < 1e-3 && turned < 1.0,
            "size {size}, step {timestep}: moved {moved} m, turned {turned} deg"
        );
        assert!(
            (end[2] - size).abs() < 1e-3,
            "size {size}: sinks to {}",
            end[2]
        );
    }
}

#[test]
fn contact_force_of_a_resting_body_is_its_weight() {
    let mut world = world(
        r#"<mujoco><worldbody><geom name="floor" type="plane" size="5 5 .1"/>
           <body name="cube" pos="0 0 .02"><freejoint/><geom name="cube" type="box" size=".02 .02 .02" mass=".08"/></body></worldbody></mujoco>"#,
        0.005,
    );
    run(&mut world, 2.0);
    let (floor, cube) = (
        world.geom_id("floor").unwrap(),
        world.geom_id("cube").unwrap(),
    );
    let force = world.contact_force(floor, cube);
    let weight = 0.08 * GRAVITY;
    assert!(
        (force.z / weight - 1.0).abs() < 0.05,
        "{force:?} against {weight}"
    );
    assert!(force.x.abs() < 0.01 * weight && force.y.abs() < 0.01 * weight);
    let on_body = world.body_contact_force(world.body_id("cube").unwrap());
    assert_eq!(on_body, force);
    assert_eq!(world.contact_force(cube, floor), -force);
}

#[test]
fn friction_force_on_a_slope_is_the_downhill_weight() {
    // 20 degrees, friction 1: the cube sticks, and the force is vertical.
    let mut world = world(
        r#"<mujoco><worldbody><geom name="floor" type="plane" size="5 5 .1" euler="0 20 0"/>
           <body name="cube" pos="0.0085505 0 0.0234923" euler="0 20 0"><freejoint/><geom name="cube" type="box" size=".025 .025 .025" mass=".1"/></body></worldbody></mujoco>"#,
        0.005,
    );
    run(&mut world, 1.0);
    let v = qvel(&world);
    assert!(v.iter().all(|v| v.abs() < 1e-2), "{v:?}");
    let force = world.body_contact_force(world.body_id("cube").unwrap());
    let weight = 0.1 * GRAVITY;
    assert!((force.z / weight - 1.0).abs() < 0.05, "{force:?}");
    assert!(force.x.abs() < 0.05 * weight, "{force:?}");
}

#[test]
fn double_pendulum_keeps_its_energy() {
    let mut world = world(
        r#"<mujoco><worldbody><body pos="0 0 2"><joint axis="0 1 0"/><geom type="capsule" size=".02" fromto="0 0 0 0 0 -.5" mass="1"/>
           <body name="lower" pos="0 0 -.5"><joint axis="0 1 0"/><geom type="capsule" size=".02" fromto="0 0 0 0 0 -.5" mass="1"
             contype="0" conaffinity="0"/></body></body></worldbody></mujoco>"#,
        0.002,
    );
    world.set_state(&[1.2, 0.4], &[0.0, 0.0]).unwrap();
    // Capsule about its centre, lateral: cylinder and two half balls.
    let (r, h) = (0.02_f64, 0.5_f64);
    let (cylinder, ball) = (r * r * h, 4.0 / 3.0 * r * r * r);
    let (cylinder, ball) = (cylinder / (cylinder + ball), ball / (cylinder + ball));
    let inertia = cylinder * (3.0 * r * r + h * h) / 12.0
        + ball * (0.4 * r * r + h * h / 4.0 + 0.375 * h * r);
    let energy = |world: &World| {
        let (q, v) = (qpos(world), qvel(world));
        let (a, b) = (f64::from(q[0]), f64::from(q[0] + q[1]));
        let (wa, wb) = (f64::from(v[0]), f64::from(v[0] + v[1]));
        let kinetic = 0.5 * inertia * (wa * wa + wb * wb)
            + 0.5 * (0.25 * wa).powi(2)
            + 0.5
                * ((0.5 * wa).powi(2)
                    + (0.25 * wb).powi(2)
                    + 2.0 * 0.125 * wa * wb * (a - b).cos());
        kinetic - 9.81 * (0.25 * a.cos() + 0.5 * a.cos() + 0.25 * b.cos())
    };
    let start = energy(&world);
    // The most that can be exchanged: hanging straight down against the start.
    let scale = start + 9.81;
    // The implicit Coriolis term dissipates, by an amount of first order in the step; it never adds energy.
    for second in 1..=20 {
        run(&mut world, 1.0);
        let drift = (energy(&world) - start) / scale;
        assert!(
            (-0.1..0.01).contains(&drift),
            "after {second} s the energy is off by {:.1} %",
            drift * 100.0
        );
    }
}

#[test]
fn servo_sags_by_load_over_gain() {
    let mut world = world(
        r#"<mujoco><worldbody><body pos="0 0 1"><joint name="h" axis="0 1 0" armature=".1"/>
           <geom type="sphere" size=".01" pos=".5 0 0" mass="2"/></body></worldbody>
           <actuator><position name="s" joint="h" kp="400" kv="40"/></actuator></mujoco>"#,
        0.005,
    );
    run(&mut world, 5.0);
    let sag = qpos(&world)[0];
    let expected = 2.0 * GRAVITY * 0.5 * sag.cos() / 400.0;
    assert!(
        (sag / expected - 1.0).abs() < 0.005,
        "{sag} against {expected}"
    );
}

#[test]
fn servo_force_stays_within_its_range() {
    // The load of 9.81 N m exceeds the limit of 5: the arm falls as if only the rest acted.
    let mut world = world(
        r#"<mujoco><worldbody><body pos="0 0 1"><joint name="h" axis="0 1 0"/>
           <geom type="sphere" size=".01" pos=".5 0 0" mass="2"/></body></worldbody>
           <actuator><position name="s" joint="h" kp="400" kv="40" forcerange="-5 5"/></actuator></mujoco>"#,
        0.002,
    );
    run(&mut world, 0.1);
    let expected = 0.5 * (9.81 - 5.0) / 0.5 * 0.01;
    let fallen = qpos(&world)[0];
    assert!(
        (fallen / expected - 1.0).abs() < 0.1,
        "{fallen} against {expected}"
    );
}

#[test]
fn velocity_servo_reaches_its_speed() {
    let mut world = world(
        r#"<mujoco><option gravity="0 0 0"/><worldbody><body><joint name="h" type="slide" axis="1 0 0"/>
           <inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/></body></worldbody>
           <actuator><velocity name="s" joint="h" kv="50" ctrlrange="-1 1"/></actuator></mujoco>"#,
        0.01,
    );
    let servo = world.actuator_id("s").unwrap();
    world.set_ctrl(servo, 3.0);
    assert_eq!(world.ctrl(servo), 1.0);
    run(&mut world, 1.0);
    assert!((qvel(&world)[0] - 1.0).abs() < 1e-3);
}

#[test]
fn joint_spring_and_damper_follow_the_oscillator() {
    // m = 1, k = 100, d = 2: ω = √(100 − 1), amplitude falls by e^(−t).
    let mut world = world(
        r#"<mujoco><option gravity="0 0 0"/><worldbody><body><joint name="h" type="slide" axis="1 0 0" stiffness="100" damping="2" springref=".2"/>
           <inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/></body></worldbody></mujoco>"#,
        0.001,
    );
    run(&mut world, 1.0);
    let t = 1.0_f32;
    let w = 99.0_f32.sqrt();
    let expected = 0.2 - 0.2 * (-t).exp() * ((w * t).cos() + (w * t).sin() / w);
    let position = qpos(&world)[0];
    assert!(
        (position - expected).abs() < 0.005,
        "{position} against {expected}"
    );
}

#[test]
fn joint_limits_hold() {
    let mut world = world(
        r#"<mujoco><worldbody><body pos="0 0 1"><joint name="h" axis="0 1 0" range="-30 30"/>
           <geom type="sphere" size=".05" pos=".5 0 0" mass="2"/></body></worldbody></mujoco>"#,
        0.005,
    );
    run(&mut world, 3.0);
    let angle = qpos(&world)[0].to_degrees();
    assert!((angle - 30.0).abs() < 0.5, "{angle}");
}

#[test]
fn coupled_joints_move_together() {
    let mut world = world(
        r#"<mujoco><option gravity="0 0 0"/><worldbody>
           <body><joint name="a" type="slide" axis="1 0 0"/><inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/></body>
           <body pos="0 1 0"><joint name="b" type="slide" axis="1 0 0"/><inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/></body>
           </worldbody><equality><joint joint1="b" joint2="a" polycoef="0.1 2"/></equality>
           <actuator><motor name="m" joint="a"/></actuator></mujoco>"#,
        0.005,
    );
    world.set_state(&[0.0, 0.1], &[0.0, 0.0]).unwrap();
    let motor = world.actuator_id("m").unwrap();
    world.set_ctrl(motor, 1.0);
    run(&mut world, 1.0);
    let q = qpos(&world);
    assert!((q[1] - 0.1 - 2.0 * q[0]).abs() < 1e-3, "{q:?}");
    // Effective mass 1 + 2²·1.
    assert!((q[0] / (0.5 / 5.0) - 1.0).abs() < 0.02, "{q:?}");
}

#[test]
fn dry_friction_of_a_joint_holds_and_then_subtracts() {
    for (force, expected) in [(1.5, 0.0), (5.0, 3.0)] {
        let mut world = world(
            r#"<mujoco><option gravity="0 0 0"/><worldbody><body><joint name="h" type="slide" axis="1 0 0" frictionloss="2"/>
               <inertial pos="0 0 0" mass="1" diaginertia=".1 .1 .1"/></body></worldbody><actuator><motor name="m" joint="h"/></actuator></mujoco>"#,
            0.005,
        );
        let motor = world.actuator_id("m").unwrap();
        world.set_ctrl(motor, force);
        run(&mut world, 1.0);
        let velocity = qvel(&world)[0];
        assert!(
            (velocity - expected).abs() < 0.05,
            "{force} N: {velocity} against {expected}"
        );
    }
}

#[test]
fn gravity_compensation_takes_that_part_of_the_weight() {
    for (part, expected) in [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)] {
        let mut world = world(
            &format!(
                r#"<mujoco><worldbody><body gravcomp="{part}"><joint type="slide" axis="0 0 1"/><geom size=".1"/></body></worldbody></mujoco>"#
            ),
            0.005,
        );
        run(&mut world, 0.5);
        let velocity = -qvel(&world)[0];
        assert!(
            (velocity - expected * 0.5 * GRAVITY).abs() < 1e-3,
            "{part}: {velocity}"
        );
    }
}

#[test]
fn tumbling_brick_keeps_its_angular_momentum_and_energy() {
    // Spun about its middle axis, it flips over and over.
    let mut world = world(
        r#"<mujoco><option gravity="0 0 0"/><worldbody><body name="b"><freejoint/><inertial pos="0 0 0" mass="1" diaginertia=".02 .04 .05"/></body></worldbody></mujoco>"#,
        0.005,
    );
    world
        .set_state(
            &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            &[0.0, 0.0, 0.0, 0.1, 5.0, 0.1],
        )
        .unwrap();
    let inertia = [0.02, 0.04, 0.05];
    let body = world.body_id("b").unwrap();
    let momentum = |world: &World| {
        let v = qvel(world);
        let local = telic_sim::Vector::new(inertia[0] * v[3], inertia[1] * v[4], inertia[2] * v[5]);
        world.body_pose(body).rotation * local
    };
    let energy = |world: &World| {
        (0..3)
            .map(|i| 0.5 * inertia[i] * qvel(world)[3 + i].powi(2))
            .sum::<f32>()
    };
    let (l, e) = (momentum(&world), energy(&world));
    let mut flipped = false;
    for _ in 0..10 {
        run(&mut world, 0.5);
        assert!(
            (momentum(&world) - l).length() < 0.03 * l.length(),
            "{} against {l}",
            momentum(&world)
        );
        assert!(
            (energy(&world) / e - 1.0).abs() < 0.05,
            "{} against {e}",
            energy(&world)
        );
        flipped |= qvel(&world)[4] < -4.0;
    }
    assert!(flipped, "the middle axis is unstable");
}

#[test]
fn connected_body_swings_about_the_anchor() {
    // A free rod held at its end by a point: a physical pendulum with period 2π √(2 l / 3 g), plus the hinge's ball.
    let mut world = world(
        r#"<mujoco><worldbody><body name="rod" pos="0 0 2"><freejoint/><geom type="box" size=".01 .01 .5" pos="0 0 -.5" contype="0" conaffinity="0"/></body></worldbody>
           <equality><connect body1="rod" anchor="0 0 0"/></equality></mujoco>"#,
        0.002,
    );
    let angle = 0.1_f32;
    world
        .set_state(
            &[
                0.0,
                0.0,
                2.0,
                (angle / 2.0).cos(),
                0.0,
                (angle / 2.0).sin(),
                0.0,
            ],
            &[0.0; 6],
        )
        .unwrap();
    let mut crossings = Vec::new();
    let mut last = angle;
    while crossings.len() < 5 {
        world.step();
        let q = qpos(&world);
        assert!(
            (q[0].powi(2) + q[1].powi(2) + (q[2] - 2.0).powi(2)).sqrt() < 2e-3,
            "the anchor gives way: {q:?}"
        );
        let now = 2.0 * q[5];
        if last > 0.0 && now <= 0.0 {
            crossings.push(world.time_secs());
        }
        last = now;
        assert!(world.time_secs() < 20.0, "it does not swing");
    }
    let period = (crossings[4] - crossings[0]) / 4.0;
    let expected = 2.0 * std::f64::consts::PI * (2.0 / (3.0 * 9.81_f64)).sqrt();
    assert!(
        (period / expected - 1.0).abs() < 0.01,
        "{period} against {expected}"
    );
}

#[test]
fn welded_bodies_fall_as_one() {
    let mut world = world(
        r#"<mujoco><worldbody><geom type="plane" size="5 5 1"/><body name="a" pos="0 0 1"><freejoint/><geom type="box" size=".1 .1 .1"/></body>
           <body name="b" pos=".3 0 1"><freejoint/><geom type="box" size=".05 .05 .05"/></body></worldbody>
           <equality><weld body1="a" body2="b"/></equality></mujoco>"#,
        0.005,
    );
    run(&mut world, 2.0);
    let (a, b) = (world.body_id("a").unwrap(), world.body_id("b").unwrap());
    let relative = world.body_pose(a).inverse() * world.body_pose(b);
    assert!(
        (relative.translation - telic_sim::Vector::new(0.3, 0.0, 0.0)).length() < 2e-3,
        "{relative:?}"
    );
    assert!(
        (world.body_pose(a).translation.z - 0.1).abs() < 2e-3,
        "it rests on the larger box"
    );
    assert!(
        world.body_pose(b).translation.z > 0.08,
        "the smaller one is held up"
    );
}

/// Two rods of 2 kg and 1 kg, each 1 m long, that hang from a slide along x and turn about y one below the other.
const PENDULUM: &str = r#"<mujoco><compiler angle="radian"/><option gravity="0 0 0"/><worldbody>
  <body name="upper">
    <joint type="slide" axis="1 0 0"/><joint axis="0 1 0"/>
    <inertial pos="0 0 -.5" mass="2" diaginertia=".2 .2 .01"/>
    <body name="lower" pos="0 0 -1">
      <joint axis="0 1 0"/>
      <inertial pos="0 0 -.5" mass="1" diaginertia=".1 .1 .01"/>
    </body>
  </body></worldbody></mujoco>"#;

#[test]
fn momenta_are_those_of_the_parts() {
    let mut world = world(PENDULUM, 0.01);
    // Slide at 3 m/s, upper rod at 0.5 rad/s; the lower one turns by 1 rad/s more. Both hang straight down.
    world.set_state(&[0.2, 0.0, 0.0], &[3.0, 0.5, 1.0]).unwrap();
    let near = |found: [f32; 3], expected: [f32; 3]| {
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
    };
    let lower = world.subtree_momentum(world.body_id("lower").unwrap());
    // A turn about +y moves what hangs below to −x: 3 − 0.5 · 1 − 1.5 · 0.5.
    assert_eq!(lower.mass_kg, 1.0);
    near(lower.centre_m.to_array(), [0.2, 0.0, -1.5]);
    near(lower.velocity_m_s.to_array(), [1.75, 0.0, 0.0]);
    near(lower.angular_kg_m2_s.to_array(), [0.0, 0.15, 0.0]);
    let both = world.subtree_momentum(world.body_id("upper").unwrap());
    // The upper centre is at −0.5 m and moves at 3 − 0.25.
    let velocity = (2.0 * 2.75 + 1.75) / 3.0;
    let centre = -(2.0 * 0.5 + 1.5) / 3.0;
    assert_eq!(both.mass_kg, 3.0);
    near(both.centre_m.to_array(), [0.2, 0.0, centre]);
    near(both.velocity_m_s.to_array(), [velocity, 0.0, 0.0]);
    // L_y = Σ I ω + m (z v_x) about the centre.
    let orbital = 2.0 * (-0.5 - centre) * (2.75 - velocity) + (-1.5 - centre) * (1.75 - velocity);
    near(
        both.angular_kg_m2_s.to_array(),
        [0.0, 0.2 * 0.5 + 0.1 * 1.5 + orbital, 0.0],
    );
    assert_eq!(
        world.subtree_momentum(world.body_id("world").unwrap()),
        both
    );
}
