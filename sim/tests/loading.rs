//! Reading model files: what is understood, and what is said about what is not.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use telic_sim::{GeomShape, JointLimits, Model, ModelError, PhysicsConfig, World};

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
        (
            "<mujoco><compiler settotalmass=\"2\"/></mujoco>",
            "the attribute `settotalmass` is not supported; give the masses of bodies\n<compiler> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><frame pos=\"0 0 1\"><geom type=\"capsule\" size=\".1\" fromto=\"0 0 0 1 0 0\"/></frame></worldbody></mujoco>",
            "`fromto` inside <frame> is not supported; give pos and a rotation instead\n<geom> in scene.xml:1",
        ),
        (
            "<mujoco><default><geom quat=\"1 1 0 0\"/></default>\n<worldbody><geom name=\"g\" size=\"1\" pos=\"1 0 0\"/></worldbody></mujoco>",
            "`quat` of the class with the other half of a pose here is not supported; give both here\n<geom name=\"g\"> in scene.xml:2",
        ),
        (
            "<mujoco><default><site pos=\"1 0 0\"/></default><worldbody><site euler=\"90 0 0\"/></worldbody></mujoco>",
            "`pos` of the class with the other half of a pose here is not supported; give both here\n<site> in scene.xml:1",
        ),
        (
            "<mujoco><default class=\"robot\"/></mujoco>",
            "`class` is \"robot\", expected main, since this default is the outermost; put the class inside it\n<default> in scene.xml:1",
        ),
        (
            "<mujoco><default><motor gear=\"5\"/><general gear=\"3\"/></default></mujoco>",
            "a default class with general and motor is not supported, expected one kind of actuator\n<default> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body><joint name=\"f\" type=\"free\" armature=\"1\"/><geom size=\"1\"/></body></worldbody></mujoco>",
            "`armature` is 1, expected 0 on this free joint; <freejoint> takes no defaults\n<joint name=\"f\"> in scene.xml:1",
        ),
        (
            "<mujoco><worldbody><body><joint name=\"f\" type=\"free\" frictionloss=\".5\"/><geom size=\"1\"/></body></worldbody></mujoco>",
            "`frictionloss` is 0.5, expected 0 on this free joint; <freejoint> takes no defaults\n<joint name=\"f\"> in scene.xml:1",
        ),
        (
            "<robot name=\"r\"/>",
            "the root element <robot> is not supported, expected <mujoco>\n<robot name=\"r\"> in scene.xml:1",
        ),
    ] {
        assert_eq!(message(xml), expected);
    }
}

#[test]
fn what_has_no_effect_is_noted() {
    let model = load(
        "<mujoco><option impratio=\"10\"/><worldbody><geom size=\"1\" margin=\"0\" solref=\".02 1\"/></worldbody></mujoco>",
    )
    .unwrap();
    assert_eq!(
        model.notes(),
        [
            "`solref` of <geom> has no effect",
            "`impratio` of <option> has no effect"
        ]
    );
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
    let error = load("<mujoco><asset><mesh name=\"m\" file=\"nowhere.stl\"/></asset></mujoco>")
        .unwrap_err();
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
    assert_eq!(
        message,
        "physics setting `timestep_secs` is -0.01, expected a finite number above 0"
    );
    let config = PhysicsConfig {
        joint_limits: JointLimits::Soft {
            time_constant_secs: 0.005,
        },
        ..PhysicsConfig::default()
    };
    let message = World::new(&model, &config).unwrap_err().to_string();
    assert_eq!(
        message,
        "physics setting `joint_limits.soft.time_constant_secs` is 0.005, expected a finite number of at least two time steps"
    );
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
    assert_eq!(
        skin.shape,
        GeomShape::Cylinder {
            radius: 0.1,
            half_length: 0.5
        }
    );
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
        writeln!(obj, "v {x} {y} {z}").unwrap();
    }
    for [a, b, c] in faces {
        writeln!(obj, "f {a}//1 {b}//1 {c}//1").unwrap();
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
        assert!(
            (mass - 1000.0 * 0.2_f32.powi(3) / 6.0).abs() < 1e-4,
            "{name}: {mass}"
        );
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
    std::fs::write(
        folder.join("tetra.obj"),
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 9\n",
    )
    .unwrap();
    let error = Model::load_mjcf(&path).unwrap_err().to_string();
    assert!(
        error.contains("corner 8") && error.contains("tetra"),
        "{error}"
    );
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
    std::fs::write(
        folder.join("part.xml"),
        "<mujoco>\n<worldbody><geom size=\"x\"/></worldbody></mujoco>",
    )
    .unwrap();
    let error = Model::load_mjcf(&path).unwrap_err().to_string();
    assert!(error.ends_with("part.xml:2"), "{error}");
    std::fs::write(
        folder.join("part.xml"),
        "<mujoco><include file=\"main.xml\"/></mujoco>",
    )
    .unwrap();
    let error = Model::load_mjcf(&path).unwrap_err().to_string();
    assert!(error.contains("does not include this one"), "{error}");
}

#[test]
fn urdf_gives_limits_motors_and_mimics() {
    let path = Utf8PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/arm.urdf"
    ));
    let model = Model::load_urdf(&path).unwrap();
    let names: Vec<_> = model
        .joints()
        .iter()
        .map(|j| j.name.clone().unwrap())
        .collect();
    assert_eq!(names, ["shoulder", "extension", "mirror"]);
    assert_eq!(model.joints()[0].range, Some([-1.5, 1.5]));
    assert_eq!(model.actuators().len(), 2);
    assert_eq!(model.actuators()[0].force_range, Some([-30.0, 30.0]));
    for left_out in ["upper.dae", "`velocity` limit of joint \"shoulder\""] {
        assert!(
            model.notes().iter().any(|note| note.contains(left_out)),
            "{left_out}: {:?}",
            model.notes()
        );
    }
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
    assert!(
        (q[1] - 0.2).abs() < 2e-3,
        "the extension is at its limit: {q:?}"
    );
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
        (
            "<child link=\"upper\"/>",
            "<child link=\"uper\"/>",
            "`link` is \"uper\", expected the name of a link",
        ),
        (
            "lower=\"-1.5\"",
            "lower=\"2\"",
            "<limit> goes from 2 to 1.5",
        ),
        (
            "radius=\"0.03\"",
            "radius=\"-1\"",
            "`radius` is \"-1\", expected 1 number above 0",
        ),
        (
            "<child link=\"tip\"/>",
            "<child link=\"upper\"/>",
            "already the child",
        ),
        (
            "type=\"revolute\"",
            "type=\"planar\"",
            "`type` is \"planar\"",
        ),
        (
            "<mass value=\"2\"/>",
            "<mass value=\"0\"/>",
            "needs mass and inertia above 0",
        ),
    ] {
        let error = Model::from_urdf_str("arm.urdf", &text.replace(from, to))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && error.contains("arm.urdf"),
            "{error}"
        );
    }
}
