//! Same state, same bits: through clones, snapshots, and `set_state`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use telic_sim::{Model, PhysicsConfig, StateError, World};

/// The arm, its cube, and more bodies to run into: free ones, two that are welded, one that hangs on a point and one that is moved;
/// `swing` drives the arm through them.
fn scene() -> World {
    let xml = include_str!("fixtures/arm.xml").replace(
        "<body name=\"cube\"",
        r#"<body pos="0.45 0.1 0.03"><freejoint/><geom type="sphere" size="0.03"/></body>
           <body pos="0.35 -0.1 0.05"><freejoint/><geom type="capsule" size="0.02 0.05"/></body>
           <body pos="0.42 0.01 0.061"><freejoint/><geom type="box" size="0.02 0.02 0.02" mass=".05"/></body>
           <body name="left" pos="0.5 0.2 0.02"><freejoint/><geom type="box" size="0.02 0.02 0.02" mass=".05"/></body>
           <body name="right" pos="0.55 0.2 0.02"><freejoint/><geom type="box" size="0.02 0.02 0.02" mass=".05"/></body>
           <body name="bob" pos="0.45 0.2 0.15"><freejoint/><geom size="0.02" mass=".05"/></body>
           <body name="pusher" mocap="true" pos="0.6 0.2 0.02"><geom type="box" size="0.01 0.05 0.02"/></body>
           <body name="cube""#,
    )
    .replace(
        "</mujoco>",
        r#"<equality><weld body1="left" body2="right"/><connect body1="bob" anchor="0 0 0.3"/></equality></mujoco>"#,
    );
    let model = Arc::new(Model::from_mjcf_str("scene", &xml).unwrap());
    let mut world = World::new(&model, &PhysicsConfig::default()).unwrap();
    let mut qpos = vec![0.0; world.nq()];
    world.qpos(&mut qpos);
    qpos[..6].copy_from_slice(&[-1.57, -1.4, 1.9, -2.0, -1.57, 0.0]);
    let qvel = vec![0.0; world.nv()];
    world.set_state(&qpos, &qvel).unwrap();
    world
}

/// Controls of step `i`: reaching down and sweeping sideways, opening and closing.
fn swing(world: &mut World, i: usize) {
    let t = i as f32 * world.timestep_secs();
    let ctrl = [
        -1.57 + 0.4 * (2.0 * t).sin(),
        -1.2 + 0.15 * (3.0 * t).sin(),
        2.0,
        -2.2,
        -1.57,
        0.5 * t.sin(),
        if i % 100 < 50 { 0.04 } else { 0.0 },
        if i % 100 < 50 { 0.04 } else { 0.0 },
    ];
    world.set_ctrls(&ctrl).unwrap();
    push(world, t);
    world.step();
}

/// Where the body that is moved is `t` seconds in.
fn push(world: &mut World, t: f32) {
    let pusher = world.body_id("pusher").unwrap();
    let at = telic_sim::Vector::new(0.6 - 0.05 * t.sin().abs(), 0.2, 0.02);
    world.set_mocap_pose(pusher, telic_sim::Pose::from_translation(at));
}

fn bits(world: &World) -> Vec<u32> {
    let mut q = vec![0.0; world.nq()];
    let mut v = vec![0.0; world.nv()];
    world.qpos(&mut q);
    world.qvel(&mut v);
    q.iter().chain(&v).map(|x| x.to_bits()).collect()
}

fn assert_same_future(a: &mut World, b: &mut World, from: usize, steps: usize) {
    let mut touching = 0;
    for i in from..from + steps {
        swing(a, i);
        swing(b, i);
        assert_eq!(bits(a), bits(b), "they part {} steps on", i - from + 1);
        touching += a.contacts().count();
    }
    assert!(touching > steps, "the scene has no contacts to speak of");
    assert!(
        a.snapshot() == b.snapshot(),
        "the positions agree but what the engine remembers does not"
    );
}

#[test]
fn restored_snapshot_continues_as_if_never_stopped() {
    let mut world = scene();
    for i in 0..300 {
        swing(&mut world, i);
    }
    let bytes = world.snapshot();
    let mut other = scene();
    other.restore(&bytes).unwrap();
    assert_eq!(other.time_secs(), world.time_secs());
    assert_same_future(&mut world, &mut other, 300, 600);
}

#[test]
fn clone_continues_as_the_original() {
    let mut world = scene();
    for i in 0..300 {
        swing(&mut world, i);
    }
    let mut other = world.clone();
    assert_same_future(&mut world, &mut other, 300, 600);
}

#[test]
fn future_after_set_state_does_not_depend_on_the_past() {
    let mut used = scene();
    for i in 0..437 {
        swing(&mut used, i);
    }
    // A state in the middle of contacts, with velocities.
    let mut qpos = vec![0.0; used.nq()];
    let mut qvel = vec![0.0; used.nv()];
    used.qpos(&mut qpos);
    used.qvel(&mut qvel);
    for i in 437..600 {
        swing(&mut used, i);
    }
    let mut fresh = scene();
    // Poses of moved bodies are no part of the state.
    push(&mut used, 0.5);
    push(&mut fresh, 0.5);
    used.set_state(&qpos, &qvel).unwrap();
    fresh.set_state(&qpos, &qvel).unwrap();
    assert_same_future(&mut used, &mut fresh, 0, 500);
}

#[test]
fn set_state_is_read_back() {
    let mut world = scene();
    for i in 0..200 {
        swing(&mut world, i);
    }
    let mut qpos = vec![0.0; world.nq()];
    let mut qvel = vec![0.0; world.nv()];
    world.qpos(&mut qpos);
    world.qvel(&mut qvel);
    world.set_state(&qpos, &qvel).unwrap();
    let (mut q, mut v) = (qpos.clone(), qvel.clone());
    world.qpos(&mut q);
    world.qvel(&mut v);
    for i in 0..qpos.len() {
        assert!((q[i] - qpos[i]).abs() < 1e-6, "qpos[{i}]");
    }
    for i in 0..qvel.len() {
        assert!(
            (v[i] - qvel[i]).abs() < 1e-5 * (1.0 + qvel[i].abs()),
            "qvel[{i}]: {} {}",
            v[i],
            qvel[i]
        );
    }
}

#[test]
fn bad_states_are_refused_and_change_nothing() {
    let mut world = scene();
    let before = world.snapshot();
    let mut qpos = vec![0.0; world.nq()];
    world.qpos(&mut qpos);
    let qvel = vec![0.0; world.nv()];
    assert_eq!(
        world.set_state(&qpos[1..], &qvel),
        Err(StateError::Length {
            vector: "qpos",
            found: qpos.len() - 1,
            expected: qpos.len()
        })
    );
    let mut broken = qpos.clone();
    broken[3] = f32::NAN;
    assert!(matches!(
        world.set_state(&broken, &qvel),
        Err(StateError::NotFinite { index: 3, .. })
    ));
    let address = world.qpos_address(world.joint_id("cube").unwrap());
    let mut broken = qpos.clone();
    broken[address + 3..address + 7].fill(0.0);
    let error = world.set_state(&broken, &qvel).unwrap_err();
    assert_eq!(
        error,
        StateError::Quaternion {
            index: address + 3,
            norm: 0.0
        }
    );
    for bytes in [&[][..], &[1, 2, 3], &before[..before.len() / 2], &[9; 64]] {
        assert!(matches!(world.restore(bytes), Err(StateError::Snapshot(_))));
    }
    assert_eq!(world.snapshot(), before);
}

#[test]
fn snapshot_of_another_model_is_refused() {
    let model = Arc::new(Model::from_mjcf_str("empty", "<mujoco><worldbody/></mujoco>").unwrap());
    let mut empty = World::new(&model, &PhysicsConfig::default()).unwrap();
    let message = empty.restore(&scene().snapshot()).unwrap_err().to_string();
    assert!(message.contains("another model"), "{message}");
}
