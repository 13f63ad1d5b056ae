//! What a model file means: coordinates, frames, collision rules, mocap bodies, rays.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use telic_sim::{JointKind, Model, ModelError, PhysicsConfig, World};

fn load(xml: &str) -> Result<Model, ModelError> {
    Model::from_mjcf_str("scene.xml", xml)
}

fn world(model: Model) -> World {
    World::new(&Arc::new(model), &PhysicsConfig::default()).unwrap()
}

fn qpos(world: &World) -> Vec<f32> {
    let mut out = vec![0.0; world.nq()];
    world.qpos(&mut out);
    out
}

#[test]
fn order_of_positions_and_velocities_is_that_of_the_tree() {
    let model = load(
        r#"<mujoco><worldbody>
           <body><joint name="a" type="slide"/><joint name="b" axis="1 0 0"/><geom size=".1"/>
             <body pos="1 0 0"><joint name="c" type="ball"/><geom size=".1"/></body>
             <body pos="0 1 0"><joint name="d" ref="90"/><geom size=".1"/></body></body>
           <body name="free" pos="5 0 1"><freejoint name="e"/><geom size=".1"/></body>
           <body pos="9 0 0"><joint name="f"/><geom size=".1"/></body>
           </worldbody></mujoco>"#,
    )
    .unwrap();
    let kinds: Vec<JointKind> = model.joints().iter().map(|j| j.kind).collect();
    assert_eq!(
        kinds,
        [
            JointKind::Slide,
            JointKind::Hinge,
            JointKind::Ball,
            JointKind::Hinge,
            JointKind::Free,
            JointKind::Hinge
        ]
    );
    assert_eq!((model.nq(), model.nv()), (15, 13));
    let mut world = world(model);
    let start = qpos(&world);
    assert_eq!(start[2..6], [1.0, 0.0, 0.0, 0.0]);
    assert!((start[6] - std::f32::consts::FRAC_PI_2).abs() < 1e-6);
    assert_eq!(start[7..14], [5.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    let mut q = start.clone();
    q[0] = 0.3;
    q[1] = -0.4;
    q[2..6].copy_from_slice(&[0.8, 0.0, 0.6, 0.0]);
    q[6] = 0.1;
    q[7..14].copy_from_slice(&[1.0, 2.0, 3.0, 0.0, 0.6, 0.0, 0.8]);
    q[14] = 2.5;
    let v: Vec<f32> = (0..13).map(|i| 0.1 * i as f32 - 0.5).collect();
    world.set_state(&q, &v).unwrap();
    for (i, (a, b)) in qpos(&world).iter().zip(&q).enumerate() {
        assert!((a - b).abs() < 1e-6, "qpos[{i}]: {a} against {b}");
    }
    let mut back = vec![0.0; 13];
    world.qvel(&mut back);
    for (i, (a, b)) in back.iter().zip(&v).enumerate() {
        assert!((a - b).abs() < 1e-6, "qvel[{i}]: {a} against {b}");
    }
    // Linear velocity in the world, angular in the body.
    let (linear, angular) = world.body_velocity(world.body_id("free").unwrap());
    assert!((linear - telic_sim::Vector::new(v[6], v[7], v[8])).length() < 1e-6);
    let turn = telic_sim::Rotation::from_xyzw(0.6, 0.0, 0.8, 0.0);
    assert!((angular - turn * telic_sim::Vector::new(v[9], v[10], v[11])).length() < 1e-6);
}

#[test]
fn free_body_frame_off_its_centre_of_mass_falls_about_the_centre_of_mass() {
    // The frame is at one end of a dumb-bell; with and without a jointed child the end moves alike.
    let free = |child: &str| {
        load(&format!(
            r#"<mujoco><option gravity="0 0 0"/><worldbody><body name="b"><freejoint/>
               <geom size=".05" mass="1" contype="0" conaffinity="0"/><geom size=".05" pos="1 0 0" mass="1" contype="0" conaffinity="0"/>{child}</body></worldbody></mujoco>"#
        ))
        .unwrap()
    };
    let tiny = r#"<body pos=".5 0 0"><joint axis="0 0 1"/><geom size=".001" mass="1e-6" contype="0" conaffinity="0"/></body>"#;
    for (model, extra) in [(free(""), 0), (free(tiny), 1)] {
        let mut world = world(model);
        let mut q = vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        // Spin of 2 rad/s about the centre at x = 0.5: the end moves at -1 m/s in y.
        let mut v = vec![0.0, -1.0, 0.0, 0.0, 0.0, 2.0];
        q.extend(vec![0.0; extra]);
        v.extend(vec![0.0; extra]);
        world.set_state(&q, &v).unwrap();
        let steps = 100;
        for _ in 0..steps {
            world.step();
        }
        let angle = 2.0 * steps as f32 * world.timestep_secs();
        let body = world.body_id("b").unwrap();
        let end = world.body_pose(body).translation;
        let expected = telic_sim::Vector::new(0.5 - 0.5 * angle.cos(), -0.5 * angle.sin(), 0.0);
        assert!((end - expected).length() < 0.01, "{end} against {expected}");
        let (linear, _) = world.body_velocity(body);
        let speed = telic_sim::Vector::new(angle.sin(), -angle.cos(), 0.0);
        assert!((linear - speed).length() < 0.02, "{linear} against {speed}");
    }
}

#[test]
fn fixed_bodies_keep_their_frames_mass_and_geoms() {
    let fixed = load(
        r#"<mujoco><worldbody><body name="arm" pos="0 0 1"><joint name="j" axis="0 1 0"/><geom type="box" size=".1 .1 .1" mass="1"/>
           <body name="flange" pos=".5 0 0" euler="0 0 90"><geom name="plate" type="box" size=".1 .2 .3" mass="2"/>
             <body name="tool" pos="0 .3 0"><site name="tip" pos="0 0 .1"/><geom name="bit" type="sphere" size=".05" mass=".5"/></body></body>
           </body></worldbody></mujoco>"#,
    )
    .unwrap();
    let single = load(
        r#"<mujoco><worldbody><body name="arm" pos="0 0 1"><joint name="j" axis="0 1 0"/><geom type="box" size=".1 .1 .1" mass="1"/>
           <geom type="box" pos=".5 0 0" euler="0 0 90" size=".1 .2 .3" mass="2"/><geom type="sphere" pos=".2 0 0" size=".05" mass=".5"/>
           </body></worldbody></mujoco>"#,
    )
    .unwrap();
    let (mut a, mut b) = (world(fixed), world(single));
    assert_eq!(a.nv(), 1);
    for _ in 0..50 {
        a.step();
        b.step();
        assert!((qpos(&a)[0] - qpos(&b)[0]).abs() < 1e-5);
    }
    let angle = qpos(&a)[0];
    let tip = a.site_pose(a.site_id("tip").unwrap()).translation;
    // (0.2, 0, 0.1) in the arm frame, turned about y.
    let expected = [
        0.2 * angle.cos() + 0.1 * angle.sin(),
        0.0,
        1.0 - 0.2 * angle.sin() + 0.1 * angle.cos(),
    ];
    assert!(
        (tip - telic_sim::Vector::from(expected)).length() < 1e-5,
        "{tip}"
    );
    let plate = a.geom_id("plate").unwrap();
    assert_eq!(a.geoms()[plate.index()].body, a.body_id("flange").unwrap());
    assert_eq!(
        a.model().bodies()[a.body_id("tool").unwrap().index()].mass_kg,
        0.5
    );
}

#[test]
fn contact_types_follow_the_or_rule_and_exclusions() {
    // Drops a ball on a plate: does it rest on it?
    let rests = |plate: &str, ball: &str, contact: &str| {
        let mut world = world(
            load(&format!(
                r#"<mujoco><worldbody><body name="plate" pos="0 0 .1"><geom name="plate" type="box" size=".5 .5 .1" {plate}/></body>
                   <body name="ball" pos="0 0 .31"><freejoint/><geom name="ball" size=".1" {ball}/></body></worldbody><contact>{contact}</contact></mujoco>"#
            ))
            .unwrap(),
        );
        for _ in 0..200 {
            world.step();
        }
        qpos(&world)[2] > 0.25
    };
    assert!(rests("", "", ""));
    assert!(rests(
        r#"contype="1" conaffinity="0""#,
        r#"contype="0" conaffinity="1""#,
        ""
    ));
    assert!(rests(
        r#"contype="0" conaffinity="2""#,
        r#"contype="2" conaffinity="0""#,
        ""
    ));
    assert!(!rests(
        r#"contype="1" conaffinity="0""#,
        r#"contype="1" conaffinity="0""#,
        ""
    ));
    assert!(!rests(
        r#"contype="1" conaffinity="1""#,
        r#"contype="2" conaffinity="2""#,
        ""
    ));
    assert!(!rests("", "", r#"<exclude body1="plate" body2="ball"/>"#));
}

#[test]
fn exclusions_of_a_fixed_body_leave_the_floor() {
    let mut world = world(
        load(
            r#"<mujoco><worldbody><geom type="plane" size="5 5 1"/><body name="base" pos="0 0 .3"><geom type="box" size=".5 .5 .05"/></body>
               <body name="ball" pos="0 0 .6"><freejoint/><geom size=".1"/></body></worldbody>
               <contact><exclude body1="base" body2="ball"/></contact></mujoco>"#,
        )
        .unwrap(),
    );
    for _ in 0..300 {
        world.step();
    }
    assert!((qpos(&world)[2] - 0.1).abs() < 2e-3, "{:?}", qpos(&world));
}

#[test]
fn a_body_that_is_tied_to_the_world_still_touches_it() {
    for tie in [
        r#"<connect body1="ball" anchor="0 0 1.5"/>"#,
        r#"<connect body1="ball" body2="post" anchor="0 0 1.5"/>"#,
    ] {
        let mut world = world(
            load(&format!(
                r#"<mujoco><worldbody><geom type="plane" size="5 5 1"/><body name="post" pos="0 0 3"><geom size=".01"/></body>
                   <body name="ball" pos="1 0 1"><freejoint/><geom size=".1"/></body></worldbody><equality>{tie}</equality></mujoco>"#
            ))
            .unwrap(),
        );
        let mut lowest = f32::MAX;
        for _ in 0..600 {
            world.step();
            lowest = lowest.min(qpos(&world)[2]);
        }
        assert!(lowest > 0.09, "{tie}: it falls to {lowest}");
    }
}

#[test]
fn a_weld_without_a_rotation_keeps_the_pose_of_the_file() {
    let relative = |relpose: &str| {
        let mut world = world(
            load(&format!(
                r#"<mujoco><option gravity="0 0 0"/><worldbody><body name="a"><freejoint/><geom size=".1"/></body>
                   <body name="b" pos="1 0 0"><freejoint/><geom size=".1"/></body></worldbody>
                   <equality><weld body1="a" body2="b" relpose="{relpose}"/></equality></mujoco>"#
            ))
            .unwrap(),
        );
        for _ in 0..200 {
            world.step();
        }
        let (a, b) = (world.body_id("a").unwrap(), world.body_id("b").unwrap());
        world.body_pose(a).inverse() * world.body_pose(b)
    };
    let drawn = relative("0 1 0 0 0 0 0");
    assert!(
        (drawn.translation - telic_sim::Vector::X).length() < 1e-3,
        "{drawn:?}"
    );
    // A quarter turn about z, of any length.
    let turned = relative("1 0 0 2 0 0 2");
    let quarter = telic_sim::Rotation::from_rotation_z(std::f32::consts::FRAC_PI_2);
    assert!(turned.rotation.dot(quarter).abs() > 0.9999, "{turned:?}");
}

#[test]
fn friction_follows_maximum_priority_and_pairs() {
    // Slope of 20 degrees (tan = 0.36): does a box stay?
    let stays = |plate: &str, cube: &str, contact: &str| {
        let mut world = world(
            load(&format!(
                r#"<mujoco><worldbody><body euler="0 20 0"><geom name="plate" type="box" size="2 2 .1" pos="0 0 -.1" {plate}/></body>
                   <body pos="0.0171 0 0.04698" euler="0 20 0"><freejoint/><geom name="cube" type="box" size=".05 .05 .05" {cube}/></body></worldbody><contact>{contact}</contact></mujoco>"#
            ))
            .unwrap(),
        );
        for _ in 0..200 {
            world.step();
        }
        (qpos(&world)[0] - 0.0171).abs() < 0.02
    };
    let (rough, smooth) = (r#"friction="1""#, r#"friction="0.1""#);
    assert!(stays(rough, smooth, ""));
    assert!(!stays(smooth, smooth, ""));
    assert!(!stays(rough, r#"friction="0.1" priority="1""#, ""));
    assert!(!stays(r#"condim="1""#, r#"condim="1""#, ""));
    // One contact dimension above 1 is enough, with the larger friction of both.
    let frictionless = r#"condim="1" friction="1""#;
    assert!(stays(smooth, frictionless, ""));
    assert!(!stays(frictionless, frictionless, ""));
    assert!(!stays(
        rough,
        rough,
        r#"<pair geom1="plate" geom2="cube" condim="1"/>"#
    ));
    assert!(stays(
        frictionless,
        frictionless,
        r#"<pair geom1="plate" geom2="cube" condim="3"/>"#
    ));
    assert!(stays(
        smooth,
        smooth,
        r#"<pair geom1="cube" geom2="plate" friction="1 1"/>"#
    ));
    assert!(!stays(
        rough,
        rough,
        r#"<pair geom1="plate" geom2="cube" friction=".1 .1"/>"#
    ));
}

#[test]
fn mocap_body_carries_what_lies_on_it() {
    let mut world = world(
        load(
            r#"<mujoco><worldbody><body name="tray" mocap="true" pos="0 0 .5"><geom type="box" size=".3 .3 .02"/></body>
               <body name="cube" pos="0 0 .57"><freejoint/><geom type="box" size=".05 .05 .05"/></body></worldbody></mujoco>"#,
        )
        .unwrap(),
    );
    let tray = world.body_id("tray").unwrap();
    for i in 0..400 {
        let x = 0.001 * i as f32;
        world.set_mocap_pose(
            tray,
            telic_sim::Pose::from_translation(telic_sim::Vector::new(x, 0.0, 0.5 + x / 2.0)),
        );
        world.step();
    }
    let (tray_at, cube_at) = (world.body_pose(tray).translation, qpos(&world));
    assert!((tray_at.x - 0.399).abs() < 1e-5);
    assert!(
        (cube_at[0] - tray_at.x).abs() < 0.01,
        "{cube_at:?} on {tray_at}"
    );
    assert!(
        (cube_at[2] - tray_at.z - 0.07).abs() < 0.002,
        "{cube_at:?} on {tray_at}"
    );
    // It stays where it was put when the rest of the state is reset.
    let q = qpos(&world);
    world.set_state(&q, &[0.0; 6]).unwrap();
    assert!((world.body_pose(tray).translation - tray_at).length() < 1e-6);
}

#[test]
fn rays_hit_the_first_colliding_geom() {
    let world = world(
        load(
            r#"<mujoco><worldbody><geom name="floor" type="plane" size="1 1 1"/><geom name="ghost" type="box" size=".2 .2 .2" pos="0 0 2" contype="0" conaffinity="0"/>
               <geom name="ball" size=".25" pos="0 0 1"/></worldbody></mujoco>"#,
        )
        .unwrap(),
    );
    let from = telic_sim::Vector::new(0.0, 0.0, 3.0);
    let down = telic_sim::Vector::new(0.0, 0.0, -2.0);
    let hit = world.ray_cast(from, down, 10.0).unwrap();
    assert_eq!(hit.geom, world.geom_id("ball").unwrap());
    assert!((hit.distance_m - 1.75).abs() < 1e-5 && (hit.normal.z - 1.0).abs() < 1e-5);
    let beside = world
        .ray_cast(from + telic_sim::Vector::X, down, 10.0)
        .unwrap();
    assert_eq!(beside.geom, world.geom_id("floor").unwrap());
    assert!((beside.distance_m - 3.0).abs() < 1e-5);
    assert!(world.ray_cast(from, down, 1.0).is_none());
    assert!(world.ray_cast(from, telic_sim::Vector::ZERO, 1.0).is_none());
}
