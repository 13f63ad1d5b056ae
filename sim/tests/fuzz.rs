//! Whatever is done to a model file, loading it gives a model or an error, never a panic.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use telic_sim::{Model, PhysicsConfig, World};

const SCENE: &str = r#"<mujoco model="m"><compiler angle="radian" autolimits="true"/><option timestep="0.01" gravity="0 0 -9.81"/>
<default><joint damping="0.1" armature="0.01"/><default class="leg"><geom type="capsule" size="0.05 0.1"/></default></default>
<asset><material name="red" rgba="1 0 0 1"/><mesh name="t" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>
<worldbody><geom name="floor" type="plane" size="5 5 0.1" friction="1 0.1 0.1"/>
<body name="torso" pos="0 0 1" quat="1 0 0 0"><freejoint name="root"/><geom name="ball" type="sphere" size="0.2" material="red"/>
<body name="thigh" pos="0.2 0 0" childclass="leg"><joint name="hip" type="hinge" axis="0 0 1" range="-0.5 0.5"/><geom name="l" fromto="0 0 0 0.2 0 0" size="0.05"/>
<body name="foot" pos="0.2 0 0"><joint name="knee" type="slide" axis="0 1 0" range="0 0.2" stiffness="10" springref="0.1"/><geom type="box" size="0.1 0.1 0.05" mass="0.5"/><site name="toe" pos="0.1 0 0"/></body></body></body>
<body name="rock" pos="1 0 1"><joint type="ball"/><inertial pos="0 0 0" mass="1" diaginertia="0.1 0.1 0.1"/><geom type="mesh" mesh="t"/></body>
<body name="tray" mocap="true" pos="2 0 0.5"><geom type="cylinder" size="0.2 0.05"/></body></worldbody>
<contact><exclude body1="torso" body2="foot"/><pair geom1="floor" geom2="ball" friction="0.5 0.5"/></contact>
<equality><joint joint1="knee" joint2="hip" polycoef="0 0.5"/><weld body1="rock" body2="torso" active="false"/></equality>
<actuator><motor name="a" joint="hip" gear="5" ctrlrange="-1 1"/><position name="b" joint="knee" kp="100" kv="5" forcerange="-10 10"/></actuator>
<keyframe><key name="home" ctrl="0 0"/></keyframe></mujoco>"#;

const PIECES: &[&str] = &[
    "",
    "0",
    "-1",
    "1e30",
    "nan",
    "inf",
    "1e-30",
    "0 0 0",
    "\"",
    "<",
    ">",
    "/>",
    "&",
    "name=\"torso\"",
    "type=\"mesh\"",
    "type=\"free\"",
    "class=\"none\"",
    "<body>",
    "</body>",
    "<joint/>",
    "<freejoint/>",
    "<geom size=\"1\"/>",
    "1 2 3 4 5 6 7",
    "true",
    "\u{1f980}",
    "size=\"0 0 0\"",
    "mass=\"0\"",
    "<include file=\"scene.xml\"/>",
    "mocap=\"true\"",
    "<inertial mass=\"1\" diaginertia=\"1 1 1\"/>",
    "&#0;",
    "0.0001 0.0001 0.0001",
    "100000 100000 100000",
    "joint=\"root\"",
    "axis=\"0 0 0\"",
    "range=\"1 1\"",
];

/// Loads, and where that works builds and steps.
fn exercise(xml: &str) -> bool {
    let Ok(model) = Model::from_mjcf_str("fuzz.xml", xml) else {
        return false;
    };
    if let Ok(mut world) = World::new(&Arc::new(model), &PhysicsConfig::default()) {
        for _ in 0..3 {
            world.step();
        }
        let (mut q, mut v) = (vec![0.0; world.nq()], vec![0.0; world.nv()]);
        world.qpos(&mut q);
        world.qvel(&mut v);
        let _ = world.set_state(&q, &v);
        let _ = world.contacts().count();
    }
    true
}

/// Start and end of every attribute value.
fn values(xml: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(open) = xml[from..].find("=\"").map(|i| from + i + 2) {
        let close = xml[open..].find('"').map_or(xml.len(), |i| open + i);
        spans.push((open, close));
        from = close + 1;
        if from >= xml.len() {
            break;
        }
    }
    spans
}

#[test]
fn unchanged_scene_loads() {
    assert!(exercise(SCENE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn replaced_values_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)) {
        let mut xml = SCENE.to_owned();
        for (at, with) in edits {
            let spans = values(&xml);
            let (open, close) = spans[at.index(spans.len())];
            xml.replace_range(open..close, PIECES[with.index(PIECES.len())]);
        }
        exercise(&xml);
    }

    #[test]
    fn cut_and_pasted_text_never_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, any::<prop::sample::Index>()), 1..5)) {
        let mut xml = SCENE.to_owned();
        for (at, length, with) in edits {
            let bounds: Vec<usize> = xml.char_indices().map(|(i, _)| i).collect();
            let first = at.index(bounds.len());
            let end = bounds.get(first + length).copied().unwrap_or(xml.len());
            xml.replace_range(bounds[first]..end, PIECES[with.index(PIECES.len())]);
        }
        exercise(&xml);
    }

    #[test]
    fn dropped_and_repeated_lines_never_panic(order in prop::collection::vec(any::<prop::sample::Index>(), 1..24)) {
        let lines: Vec<&str> = SCENE.lines().collect();
        let xml: Vec<&str> = order.iter().map(|i| lines[i.index(lines.len())]).collect();
        exercise(&xml.join("\n"));
        let mut all = lines.clone();
        all.remove(order[0].index(all.len()));
        exercise(&all.join("\n"));
    }

    #[test]
    fn mutated_urdf_never_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)) {
        let mut xml = include_str!("fixtures/arm.urdf").to_owned();
        for (at, with) in edits {
            let spans = values(&xml);
            let (open, close) = spans[at.index(spans.len())];
            xml.replace_range(open..close, PIECES[with.index(PIECES.len())]);
        }
        if let Ok(model) = Model::from_urdf_str("fuzz.urdf", &xml)
            && let Ok(mut world) = World::new(&Arc::new(model), &PhysicsConfig::default())
        {
            world.step();
        }
    }
}
