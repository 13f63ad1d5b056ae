//! Reading model files: what is understood, and what is said about what is not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use telic_sim::{GeomShape, JointKind, Model, ModelError, PhysicsConfig, World};

fn load(xml: &str) -> Result<Model, ModelError> {
    Model::from_mjcf_str("scene.xml", xml)
}

fn message(xml: &str) -> String {
    load(xml).unwrap_err().to_string()
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
fn errors_name_file_element_attribute_value_and_expectation() {
    for (xml, expected) in [
        (
            "<mujoco>\n<worldbody>\n<geom name=\"g\" type=\"box\" size=\"1 2 x\"/></worldbody></mujoco>",
            "`size` is \"1 2 x\", expected 1 to 3 numbers of at least 0\n<geom name=\"g\"> in scene.xml:3",
        ),
        (
            "<mujoco><worldbody><geom name=\"g\" type=\"box\" size=\"1 2\"/></worldbody></mujoco>",
            "`size` is \"1 2\", expected 3 numbers above 0: half of each edge\n<geom name=\"g\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><geom name=\"ball\" size=\"0\"/></worldbody></mujoco>",
            "`size` is \"0\", expected 1 number above 0: the radius\n<geom name=\"ball\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><geom type=\"capsule\"/></worldbody></mujoco>",
            "`size` is missing, expected 2 numbers above 0: the radius and half of the length\n<geom> in scene.xml:1",
        ),
        (
            "<mujoco><option timestep=\"0\"/></mujoco>",
            "`timestep` is \"0\", expected 1 number above 0\n<option> in scene.xml:1",
        ),
        (
            "<mujoco><option gravity=\"0 0\"/></mujoco>",
            "`gravity` is \"0 0\", expected 3 numbers\n<option> in scene.xml:1",
        ),
        (
            "<mujoco><option gravity=\"0 0 nan\"/></mujoco>",
            "`gravity` is \"0 0 nan\", expected 3 numbers\n<option> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body name=\"b\"><freejoint/><geom size=\".1\" mass=\"-1\"/></body></worldbody></mujoco>",
            "`mass` is \"-1\", expected 1 number of at least 0\n<geom> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body name=\"b\"><freejoint/></body></worldbody></mujoco>",
            "a moving body needs mass and inertia above 0, it has 0 kg and 0e0 kg m²\n<body name=\"b\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body name=\"b\"><inertial mass=\"0\" diaginertia=\"1 1 1\"/></body></worldbody></mujoco>",
            "`mass` is \"0\", expected 1 number above 0\n<inertial> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body><inertial mass=\"1\" diaginertia=\"1 1 3\"/></body></worldbody></mujoco>",
            "`diaginertia` is \"1 1 3\", expected moments of a solid, none larger than the other two together\n<inertial> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body><joint name=\"a\"/><geom size=\".1\"/></body></worldbody>\n<actuator><motor name=\"m\" joint=\"b\"/></actuator></mujoco>",
            "`joint` is \"b\", expected the name of a joint\n<motor name=\"m\"> in scene.xml:2",
        ),
        (
            "<mujoco><worldbody><body><joint name=\"a\"/><geom size=\".1\"/></body></worldbody><actuator><motor name=\"m\"/></actuator></mujoco>",
            "`joint` is missing, expected the name of a joint\n<motor name=\"m\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body><joint name=\"a\" range=\"1 -1\"/><geom size=\".1\"/></body></worldbody></mujoco>",
            "`range` is \"1 -1\", expected 2 numbers, the lower one first\n<joint name=\"a\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body name=\"a\"/><body name=\"a\"/></worldbody></mujoco>",
            "`name` is \"a\", expected a name that no other body has\n<body name=\"a\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><geom tipe=\"box\" size=\"1 1 1\"/></worldbody></mujoco>",
            "the attribute `tipe` is not supported\n<geom> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><geon size=\"1\"/></worldbody></mujoco>",
            "the element <geon> is not supported inside <worldbody>\n<geon> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><geom type=\"ellipsoid\" size=\"1 1 1\"/></worldbody></mujoco>",
            "`type` is \"ellipsoid\", expected plane or sphere or capsule or cylinder or box or mesh\n<geom> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><geom class=\"pads\" size=\"1\"/></worldbody></mujoco>",
            "`class` is \"pads\", expected the name of a class\n<geom> in scene.xml:1",
        ),
        (
            "<mujoco><option><flag gravity=\"disable\"/></option></mujoco>",
            "`gravity` is \"disable\", expected enable\n<flag> in scene.xml:1",
        ),
        (
            "<mujoco><tendon/></mujoco>",
            "<tendon> is not supported; couple joints with <equality><joint>\n<tendon> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body><body><freejoint name=\"f\"/><geom size=\"1\"/></body></body></worldbody></mujoco>",
            "a free joint at this place is not supported, expected the only joint of a child of the world\n<freejoint name=\"f\"> in scene.xml:1",
        ),
        ("<robot name=\"r\"/>", "the root element <robot> is not supported, expected <mujoco>\n<robot name=\"r\"> in scene.xml:1"),
    ] {
        assert_eq!(message(xml), expected);
    }
}

#[test]
fn malformed_text_and_missing_files_are_errors() {
    assert!(matches!(load("<mujoco>"), Err(ModelError::Xml { .. })));
    assert!(matches!(load(""), Err(ModelError::Xml { .. })));
    let error = Model::load_mjcf(Utf8Path::new("/nowhere/arm.xml")).unwrap_err();
    assert!(matches!(error, ModelError::Read { .. }));
    assert!(error.to_string().contains("/nowhere/arm.xml"));
    let error = load("<mujoco><include file=\"nowhere.xml\"/></mujoco>").unwrap_err();
    assert!(error.to_string().contains("nowhere.xml"), "{error}");
    let error = load("<mujoco><asset><mesh name=\"m\" file=\"nowhere.stl\"/></asset></mujoco>").unwrap_err();
    assert!(error.to_string().contains("nowhere.stl"), "{error}");
}

#[test]
fn settings_out_of_range_are_errors() {
    let model = Arc::new(load("<mujoco/>").unwrap());
    let config = PhysicsConfig {
        timestep_secs: -0.01,
        ..PhysicsConfig::default()
    };
    let message = World::new(&model, &config).unwrap_err().to_string();
    assert_eq!(message, "physics setting `timestep_secs` is -0.01, expected a finite number above 0");
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
    use JointKind::{Ball, Free, Hinge, Slide};
    assert_eq!(kinds, [Slide, Hinge, Ball, Hinge, Free, Hinge]);
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
    let expected = [0.2 * angle.cos() + 0.1 * angle.sin(), 0.0, 1.0 - 0.2 * angle.sin() + 0.1 * angle.cos()];
    assert!((tip - telic_sim::Vector::from(expected)).length() < 1e-5, "{tip}");
    let plate = a.geom_id("plate").unwrap();
    assert_eq!(a.geoms()[plate.index()].body, a.body_id("flange").unwrap());
    assert_eq!(a.model().bodies()[a.body_id("tool").unwrap().index()].mass_kg, 0.5);
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
    assert!(rests(r#"contype="1" conaffinity="0""#, r#"contype="0" conaffinity="1""#, ""));
    assert!(rests(r#"contype="0" conaffinity="2""#, r#"contype="2" conaffinity="0""#, ""));
    assert!(!rests(r#"contype="1" conaffinity="0""#, r#"contype="1" conaffinity="0""#, ""));
    assert!(!rests(r#"contype="1" conaffinity="1""#, r#"contype="2" conaffinity="2""#, ""));
    assert!(!rests("", "", r#"<exclude body1="plate" body2="ball"/>"#));
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
    assert!(stays(smooth, smooth, r#"<pair geom1="cube" geom2="plate" friction="1 1"/>"#));
    assert!(!stays(rough, rough, r#"<pair geom1="plate" geom2="cube" friction=".1 .1"/>"#));
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
        world.set_mocap_pose(tray, telic_sim::Pose::from_translation(telic_sim::Vector::new(x, 0.0, 0.5 + x / 2.0)));
        world.step();
    }
    let (tray_at, cube_at) = (world.body_pose(tray).translation, qpos(&world));
    assert!((tray_at.x - 0.399).abs() < 1e-5);
    assert!((cube_at[0] - tray_at.x).abs() < 0.01, "{cube_at:?} on {tray_at}");
    assert!((cube_at[2] - tray_at.z - 0.07).abs() < 0.002, "{cube_at:?} on {tray_at}");
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
    let beside = world.ray_cast(from + telic_sim::Vector::X, down, 10.0).unwrap();
    assert_eq!(beside.geom, world.geom_id("floor").unwrap());
    assert!((beside.distance_m - 3.0).abs() < 1e-5);
    assert!(world.ray_cast(from, down, 1.0).is_none());
    assert!(world.ray_cast(from, telic_sim::Vector::ZERO, 1.0).is_none());
}

#[test]
fn visual_geoms_are_listed_and_not_felt() {
    let model = load(
        r#"<mujoco><asset><material name="red" rgba="1 0 0 1"/></asset><worldbody>
           <geom name="skin" type="cylinder" fromto="0 0 0 0 0 1" size=".1" contype="0" conaffinity="0" material="red" group="2"/>
           <geom type="capsule" size=".1 .2" rgba="0 1 0 .5"/></worldbody></mujoco>"#,
    )
    .unwrap();
    let skin = &model.geoms()[0];
    assert!(skin.visual_only && skin.group == 2);
    assert_eq!(skin.rgba, [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(skin.shape, GeomShape::Cylinder { radius: 0.1, half_length: 0.5 });
    assert!((skin.local_pose.translation.z - 0.5).abs() < 1e-6);
    assert!(!model.geoms()[1].visual_only);
    assert_eq!(model.geoms()[1].rgba, [0.0, 1.0, 0.0, 0.5]);
}

#[test]
fn meshes_come_inline_from_obj_and_from_stl() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let corners = [[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]];
    let faces = [[1, 3, 2], [1, 2, 4], [1, 4, 3], [2, 3, 4]];
    let mut obj = String::new();
    for [x, y, z] in corners {
        obj += &format!("v {x} {y} {z}\n");
    }
    for [a, b, c] in faces {
        obj += &format!("f {a}//1 {b}//1 {c}//1\n");
    }
    std::fs::write(folder.join("tetra.obj"), &obj).unwrap();
    let mut stl = vec![0_u8; 80];
    stl.extend(4_u32.to_le_bytes());
    for face in faces {
        stl.extend([0_u8; 12]);
        for corner in face {
            for value in corners[corner - 1_usize] {
                stl.extend((value as f32).to_le_bytes());
            }
        }
        stl.extend([0_u8; 2]);
    }
    std::fs::write(folder.join("tetra.stl"), &stl).unwrap();
    let path = folder.join("scene.xml");
    std::fs::write(
        &path,
        r#"<mujoco><asset><mesh file="tetra.obj" scale=".1 .1 .1"/><mesh name="s" file="tetra.stl" scale=".1 .1 .1"/>
           <mesh name="i" vertex="0 0 0 .2 0 0 0 .2 0 0 0 .2"/></asset><worldbody><geom type="plane" size="1 1 1"/>
           <body name="a" pos="0 0 .1"><freejoint/><geom type="mesh" mesh="tetra"/></body>
           <body name="b" pos="1 0 .1"><freejoint/><geom type="mesh" mesh="s"/></body>
           <body name="c" pos="2 0 .1"><freejoint/><geom type="mesh" mesh="i"/></body></worldbody></mujoco>"#,
    )
    .unwrap();
    let model = Model::load_mjcf(&path).unwrap();
    for name in ["a", "b", "c"] {
        let mass = model.bodies()[model.body_id(name).unwrap().index()].mass_kg;
        assert!((mass - 1000.0 * 0.2_f32.powi(3) / 6.0).abs() < 1e-4, "{name}: {mass}");
    }
    let mut world = world(model);
    for _ in 0..400 {
        world.step();
    }
    // They lie on their flat faces.
    for i in 0..3 {
        let z = qpos(&world)[7 * i + 2];
        assert!(z.abs() < 0.002, "{z}");
    }
    std::fs::write(folder.join("tetra.obj"), "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 9\n").unwrap();
    let error = Model::load_mjcf(&path).unwrap_err().to_string();
    assert!(error.contains("corner 8") && error.contains("tetra"), "{error}");
}

#[test]
fn included_files_are_read_and_blamed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let path = folder.join("main.xml");
    std::fs::write(&path, "<mujoco><include file=\"part.xml\"/></mujoco>").unwrap();
    std::fs::write(
        folder.join("part.xml"),
        "<mujoco><worldbody><body name=\"p\"><freejoint/><geom size=\".1\"/></body></worldbody></mujoco>",
    )
    .unwrap();
    assert!(Model::load_mjcf(&path).unwrap().body_id("p").is_some());
    std::fs::write(folder.join("part.xml"), "<mujoco>\n<worldbody><geom size=\"x\"/></worldbody></mujoco>").unwrap();
    let error = Model::load_mjcf(&path).unwrap_err().to_string();
    assert!(error.ends_with("part.xml:2"), "{error}");
    std::fs::write(folder.join("part.xml"), "<mujoco><include file=\"main.xml\"/></mujoco>").unwrap();
    let error = Model::load_mjcf(&path).unwrap_err().to_string();
    assert!(error.contains("does not include this one"), "{error}");
}

#[test]
fn urdf_gives_limits_motors_and_mimics() {
    let path = Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/arm.urdf"));
    let model = Model::load_urdf(&path).unwrap();
    let names: Vec<_> = model.joints().iter().map(|j| j.name.clone().unwrap()).collect();
    assert_eq!(names, ["shoulder", "extension", "mirror"]);
    assert_eq!(model.joints()[0].range, Some([-1.5, 1.5]));
    assert_eq!(model.actuators().len(), 2);
    assert_eq!(model.actuators()[0].force_range, Some([-30.0, 30.0]));
    assert_eq!(model.notes().len(), 1, "the visual mesh is in a format that is not read");
    assert!(model.notes()[0].contains("upper.dae"), "{:?}", model.notes());
    let mut world = world(model);
    // Gravity in the plane of the arm: torque on the shoulder falls short by the friction.
    let shoulder = world.joint_id("shoulder").unwrap();
    world.set_joint_position(shoulder, 0.3);
    let motor = world.actuator_id("extension").unwrap();
    world.set_ctrl(motor, 200.0);
    assert_eq!(world.ctrl(motor), 50.0);
    for _ in 0..100 {
        world.step();
    }
    let q = qpos(&world);
    assert!((q[1] - 0.2).abs() < 2e-3, "the extension is at its limit: {q:?}");
    assert!((q[2] + 2.0 * q[1]).abs() < 2e-3, "{q:?}");
    assert!(q[0] > 0.35, "{q:?}");
    let tip = world.body_pose(world.body_id("tip").unwrap()).translation;
    let reach = 0.5 + q[1] + 0.1;
    let expected = telic_sim::Vector::new(0.0, reach * q[0].sin(), 0.1 + reach * q[0].cos());
    assert!((tip - expected).length() < 1e-4, "{tip} against {expected}");
}

#[test]
fn urdf_errors_name_the_place() {
    let text = include_str!("fixtures/arm.urdf");
    for (from, to, expected) in [
        ("<child link=\"upper\"/>", "<child link=\"uper\"/>", "`link` is \"uper\", expected the name of a link"),
        ("lower=\"-1.5\"", "lower=\"2\"", "<limit> goes from 2 to 1.5"),
        ("radius=\"0.03\"", "radius=\"-1\"", "`radius` is \"-1\", expected 1 number above 0"),
        ("<child link=\"tip\"/>", "<child link=\"upper\"/>", "already the child"),
        ("type=\"revolute\"", "type=\"planar\"", "`type` is \"planar\""),
        ("<mass value=\"2\"/>", "<mass value=\"0\"/>", "needs mass and inertia above 0"),
    ] {
        let error = Model::from_urdf_str("arm.urdf", &text.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("arm.urdf"), "{error}");
    }
}
