//! Equalities and contact rules.

use std::cmp::Ordering;

use rapier3d_mjcf::mjcf_rs::equality::Equality;

use super::{Element, Lowering, element, invalid};
use crate::error::ModelError;
use crate::model::{Closure, Coupling, Geom, JointKind, PairFriction, Pose64};

impl Lowering<'_> {
    pub(super) fn joint_index(&self, name: &str) -> Option<usize> {
        self.model
            .joints
            .iter()
            .position(|j| j.name.as_deref() == Some(name))
    }

    fn body_index(&self, name: &str) -> Option<usize> {
        self.model
            .bodies
            .iter()
            .position(|b| b.name.as_deref() == Some(name))
    }

    fn named_body(
        &self,
        element: &Element,
        attribute: &str,
        name: &str,
    ) -> Result<usize, ModelError> {
        self.body_index(name).ok_or_else(|| {
            invalid(
                self.source,
                element,
                format!("`{attribute}` is \"{name}\", expected the name of a body"),
            )
        })
    }

    pub(super) fn equalities(&mut self) -> Result<(), ModelError> {
        for equality in &self.source.model.equality {
            match equality {
                Equality::Joint(joint) if joint.common.active => {
                    let element = element("equality", joint.common.name.as_ref());
                    let index = |name: &str| {
                        self.joint_index(name).ok_or_else(|| {
                            invalid(
                                self.source,
                                &element,
                                format!("there is no joint named \"{name}\""),
                            )
                        })
                    };
                    let Some(dependent) = &joint.joint2 else {
                        return Err(invalid(
                            self.source,
                            &element,
                            "`joint2` is missing; only couplings of two joints are supported",
                        ));
                    };
                    // MuJoCo writes joint1 as the polynomial of joint2.
                    let (dependent, independent) = (index(&joint.joint1)?, index(dependent)?);
                    if joint.polycoef[2..].iter().any(|&c| c != 0.0) {
                        return Err(invalid(
                            self.source,
                            &element,
                            "`polycoef` has terms above the first order, expected a line",
                        ));
                    }
                    for index in [dependent, independent] {
                        if !matches!(
                            self.model.joints[index].kind,
                            JointKind::Hinge | JointKind::Slide
                        ) {
                            return Err(invalid(
                                self.source,
                                &element,
                                "only hinge and slide joints can be coupled",
                            ));
                        }
                    }
                    self.model.couplings.push(Coupling {
                        independent,
                        dependent,
                        ratio: joint.polycoef[1],
                        offset: joint.polycoef[0],
                    });
                }
                Equality::Connect(connect) if connect.common.active => {
                    let element = element("connect", connect.common.name.as_ref());
                    let a = self.named_body(&element, "body1", &connect.body1)?;
                    let b = match &connect.body2 {
                        Some(name) => self.named_body(&element, "body2", name)?,
                        None => 0,
                    };
                    let anchor = Pose64::from_translation(connect.anchor.into());
                    self.push_closure(a, b, anchor, None, false);
                }
                Equality::Weld(weld) if weld.common.active => {
                    let element = element("weld", weld.common.name.as_ref());
                    let a = self.named_body(&element, "body1", &weld.body1)?;
                    let b = match &weld.body2 {
                        Some(name) => self.named_body(&element, "body2", name)?,
                        None => 0,
                    };
                    self.push_closure(a, b, Pose64::IDENTITY, weld.relpose.and_then(rigid), true);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `anchor` is in body a; the frame in body b is where the anchor lies in the pose drawn in the file, or at
    /// `relative` (pose of b in a) if given.
    fn push_closure(
        &mut self,
        a: usize,
        b: usize,
        anchor: Pose64,
        relative: Option<Pose64>,
        weld: bool,
    ) {
        let b_in_a = relative.unwrap_or_else(|| self.world_pose(a).inverse() * self.world_pose(b));
        let (body_a, body_b) = (&self.model.bodies[a], &self.model.bodies[b]);
        self.model.closures.push(Closure {
            rigid_a: body_a.rigid,
            rigid_b: body_b.rigid,
            frame_a: body_a.offset * anchor,
            frame_b: body_b.offset * (b_in_a.inverse() * anchor),
            weld,
        });
    }

    fn world_pose(&self, body: usize) -> Pose64 {
        let body = &self.model.bodies[body];
        match body.parent {
            Some(parent) => self.world_pose(parent.0) * body.pose,
            None => Pose64::IDENTITY,
        }
    }

    pub(super) fn contact_rules(&mut self) -> Result<(), ModelError> {
        // Bodies joined by several joints have spacers between them in the engine, which hide the parent.
        for rigid in 0..self.rigids.len() {
            let parent = self.parents[rigid];
            if self.rigids[rigid].body.joints.len() > 1 && !self.fixed[parent] {
                self.model.excluded_rigids.push([parent, rigid]);
            }
        }
        for exclude in &self.source.model.contact.excludes {
            let element = element("exclude", exclude.name.as_ref());
            let a = self.named_body(&element, "body1", &exclude.body1)?;
            let b = self.named_body(&element, "body2", &exclude.body2)?;
            self.model.excluded_bodies.push([a, b]);
        }
        for pair in &self.source.model.contact.pairs {
            let element = element("pair", pair.name.as_ref());
            let geom = |attribute: &str, name: &str| {
                self.model
                    .geoms
                    .iter()
                    .position(|g| g.name.as_deref() == Some(name))
                    .ok_or_else(|| {
                        invalid(
                            self.source,
                            &element,
                            format!("`{attribute}` is \"{name}\", expected the name of a geom"),
                        )
                    })
            };
            let geoms = [geom("geom1", &pair.geom1)?, geom("geom2", &pair.geom2)?];
            let [a, b] = geoms.map(|g| &self.model.geoms[g]);
            if a.contype & b.conaffinity == 0 && b.contype & a.conaffinity == 0 {
                return Err(invalid(
                    self.source,
                    &element,
                    "the geoms do not touch by their `contype` and `conaffinity`; a pair can only change the friction of geoms that do".to_owned(),
                ));
            }
            if pair.friction.is_some() || pair.condim.is_some() {
                let (friction, is_frictionless) = combined(a, b);
                let is_frictionless = pair.condim.map_or(is_frictionless, |dim| dim == 1);
                let friction = pair.friction.map_or(friction, |own| own[0] as f32);
                self.model.pair_frictions.push(PairFriction {
                    geoms,
                    friction: if is_frictionless { 0.0 } else { friction },
                });
            }
        }
        self.frictions();
        Ok(())
    }

    /// Pairs whose friction is not the larger one of what the engine has for each geom.
    fn frictions(&mut self) {
        let geoms = &self.model.geoms;
        let mut overrides = Vec::new();
        for (i, a) in geoms.iter().enumerate() {
            for (j, b) in geoms.iter().enumerate().skip(i + 1) {
                let explicit = self
                    .model
                    .pair_frictions
                    .iter()
                    .any(|p| p.geoms == [i, j] || p.geoms == [j, i]);
                let (friction, is_frictionless) = combined(a, b);
                let friction = if is_frictionless { 0.0 } else { friction };
                if friction != a.engine_friction().max(b.engine_friction()) && !explicit {
                    overrides.push(PairFriction {
                        geoms: [i, j],
                        friction,
                    });
                }
            }
        }
        self.model.pair_frictions.extend(overrides);
    }
}

/// Friction of two geoms, and whether they touch without any: what the one with the higher priority says, or else the larger
/// friction and the larger contact dimension.
fn combined(a: &Geom, b: &Geom) -> (f32, bool) {
    match a.priority.cmp(&b.priority) {
        Ordering::Greater => (a.friction, a.is_frictionless),
        Ordering::Less => (b.friction, b.is_frictionless),
        Ordering::Equal => (
            a.friction.max(b.friction),
            a.is_frictionless && b.is_frictionless,
        ),
    }
}

/// The pose with a rotation of length 1; without any rotation, as MuJoCo writes it for the pose drawn in the file, none.
fn rigid(mut pose: Pose64) -> Option<Pose64> {
    let length = pose.rotation.length();
    (length > 1e-6).then(|| {
        pose.rotation /= length;
        pose
    })
}
