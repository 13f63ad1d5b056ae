//! Chains: Jacobian against differences, inverse against forward kinematics.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use telic_sim::Model;
use telic_sim::kinematics::{Chain, ChainError, IkConfig};

fn arm() -> (Model, Chain) {
    let model = Model::from_mjcf_str("arm.xml", include_str!("fixtures/arm.xml")).unwrap();
    let chain = Chain::new(
        &model,
        model.body_id("base").unwrap(),
        model.site_id("pinch").unwrap(),
    )
    .unwrap();
    (model, chain)
}

/// Hinges and slides with anchors, references and two joints on a body.
fn mixed() -> Chain {
    let model = Model::from_mjcf_str(
        "mixed",
        r#"<mujoco><compiler angle="radian"/><worldbody><body name="base"><body pos=".1 .2 .3" euler=".3 .2 .1">
           <joint type="slide" axis="1 1 0" range="-1 1"/><joint axis="0 1 1" pos=".1 0 .2" range="-2 2"/><geom size=".1"/>
           <body pos="0 .4 0" quat="1 0 1 0"><joint axis="1 0 0" pos="0 -.1 0" ref=".4"/><geom size=".1"/>
           <body pos=".3 0 0"><joint axis="0 0 1"/><geom size=".1"/><body pos="0 0 .2"><joint axis="0 1 0"/><geom size=".1"/>
           <body pos="0 .2 0"><joint type="slide" axis="0 0 1"/><joint axis="1 1 1"/><geom size=".1"/><site name="tip" pos=".1 .1 .1" euler="1 2 3"/></body>
           </body></body></body></body></body></worldbody></mujoco>"#,
    )
    .unwrap();
    Chain::new(
        &model,
        model.body_id("base").unwrap(),
        model.site_id("tip").unwrap(),
    )
    .unwrap()
}

fn assert_jacobian(chain: &Chain, q: &[f64]) {
    let jacobian = chain.jacobian(q);
    let h = 1e-6;
    for column in 0..chain.len() {
        let at = |step: f64| {
            let mut q = q.to_vec();
            q[column] += step;
            chain.forward(&q)
        };
        let (below, above) = (at(-h), at(h));
        let linear = (above.translation.vector - below.translation.vector) / (2.0 * h);
        let angular = (above.rotation * below.rotation.inverse()).scaled_axis() / (2.0 * h);
        for row in 0..3 {
            assert!(
                (jacobian[(row, column)] - linear[row]).abs() < 1e-7,
                "{row} {column}"
            );
            assert!(
                (jacobian[(row + 3, column)] - angular[row]).abs() < 1e-7,
                "{row} {column}"
            );
        }
    }
}

proptest! {
    #[test]
    fn jacobian_is_the_derivative_of_the_pose(q in prop::array::uniform7(-1.5..1.5_f64)) {
        assert_jacobian(&arm().1, &q[..6]);
        assert_jacobian(&mixed(), &q);
    }

    // From farther away the search may end stretched out: it only goes downhill.
    #[test]
    fn inverse_of_forward_reaches_the_same_pose(
        q in prop::array::uniform6(-1.0..1.0_f64),
        offset in prop::array::uniform6(-0.1..0.1_f64),
    ) {
        let (_, chain) = arm();
        let home = [-1.57, -1.57, 1.57, -1.57, -1.57, 0.0];
        let truth: Vec<f64> = home.iter().zip(q).map(|(h, q)| h + 0.6 * q).collect();
        let start: Vec<f64> = truth.iter().zip(offset).map(|(t, o)| t + o).collect();
        let target = chain.forward(&truth);
        let result = chain.inverse_kinematics(&target, &start, &IkConfig::default());
        prop_assert!(result.converged, "{result:?}");
        let error = target.inv_mul(&chain.forward(&result.positions));
        prop_assert!(error.translation.vector.norm() <= 1.1e-5 && error.rotation.angle() <= 1.1e-5);
    }

    #[test]
    fn inverse_kinematics_stays_within_limits_and_finite(
        target in prop::array::uniform3(-3.0..3.0_f64),
        start in prop::array::uniform7(-4.0..4.0_f64),
    ) {
        let chain = mixed();
        let mut pose = chain.forward(&[0.0; 7]);
        pose.translation.vector.copy_from_slice(&target);
        let result = chain.inverse_kinematics(&pose, &start, &IkConfig::default());
        prop_assert!(result.positions.iter().all(|p| p.is_finite()));
        for (p, limits) in result.positions.iter().zip(chain.limits()) {
            if let Some([low, high]) = limits {
                prop_assert!((low..=high).contains(p));
            }
        }
        // What it reports is what its positions give.
        let reached = chain.forward(&result.positions);
        let distance = (reached.translation.vector - pose.translation.vector).norm();
        prop_assert!((distance - result.position_error_m).abs() < 1e-9);
        prop_assert_eq!(result.converged, result.position_error_m <= 1e-5 && result.rotation_error_rad <= 1e-5);
    }
}

#[test]
fn step_cap_and_iteration_limit_are_kept() {
    let (_, chain) = arm();
    let start = [-1.57, -1.57, 1.57, -1.57, -1.57, 0.0];
    let target = chain.forward(&[0.5, -1.0, 1.0, -1.0, -1.0, 1.0]);
    let one = IkConfig {
        max_iterations: 1,
        max_joint_step: 0.1,
        ..IkConfig::default()
    };
    let result = chain.inverse_kinematics(&target, &start, &one);
    assert!(!result.converged && result.iterations <= 1);
    for (a, b) in result.positions.iter().zip(start) {
        assert!((a - b).abs() <= 0.1 + 1e-12);
    }
}

#[test]
fn chain_that_does_not_exist_is_an_error() {
    let (model, _) = arm();
    let error = Chain::new(
        &model,
        model.body_id("cube").unwrap(),
        model.site_id("pinch").unwrap(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "site `pinch` is not on or below body `cube`"
    );
    assert!(matches!(error, ChainError::NotBelow { .. }));
    let model = Model::from_mjcf_str(
        "ball",
        r#"<mujoco><worldbody><body name="b"><joint name="neck" type="ball"/><geom size=".1"/><site name="s"/></body></worldbody></mujoco>"#,
    )
    .unwrap();
    let error = Chain::new(
        &model,
        model.body_id("world").unwrap(),
        model.site_id("s").unwrap(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("`neck`"));
}
