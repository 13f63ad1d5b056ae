//! From the parsed file to what the engine simulates.
//!
//! - A body without joints is merged into its parent: a fixed link of a mechanism costs time and adds nothing.
//! - A jointed child of the world gets a fixed root of its own. Everything jointed to one body is one mechanism
//!   for the engine, and its mass matrix is dense, so a drawer must not share a matrix with an arm.
//! - A free body that carries joints is re-framed at its centre of mass, since the engine integrates the root of a
//!   mechanism as if its frame were there.
//! - Friction, mass and equality data that the engine's loader approximates are resolved here.

mod drives;
mod rules;
mod shapes;
mod tree;

use std::collections::BTreeMap;

use rapier3d::math::{Pose, Rotation, Vector};
use rapier3d::na::Vector3;
use rapier3d_mjcf::mjcf_rs;
use rapier3d_mjcf::mjcf_rs::body as xml;

use self::shapes::{lowered_size, shape_of};
use self::tree::{mechanisms, rigid_com, subtree_joints};
use crate::error::{ModelError, Place};
use crate::mass::Mass;
use crate::mjcf::Source;
use crate::model::{Body, BodyId, Geom, GeomShape, Joint, JointKind, Model, Pose64, Site};

/// Single-precision copy of a parsed pose.
pub(crate) fn pose32(pose: &Pose64) -> Pose {
    let (t, q) = (pose.translation, pose.rotation);
    Pose::from_parts(
        Vector::new(t.x as f32, t.y as f32, t.z as f32),
        Rotation::from_xyzw(q.x as f32, q.y as f32, q.z as f32, q.w as f32),
    )
}

/// The tag and, where there is one, the name of an element.
struct Element<'a> {
    tag: &'static str,
    name: Option<&'a String>,
}

fn element<'a>(tag: &'static str, name: Option<&'a String>) -> Element<'a> {
    Element { tag, name }
}

fn invalid(source: &Source, element: &Element, message: impl Into<String>) -> ModelError {
    let line = element
        .name
        .and_then(|name| source.lines.get(&(element.tag.to_owned(), name.clone())));
    ModelError::Invalid {
        message: message.into(),
        place: Box::new(Place {
            file: line.map_or_else(|| source.name.clone(), |(file, _)| file.clone()),
            line: line.map_or(0, |(_, line)| *line),
            element: match element.name {
                Some(name) => format!("<{} name=\"{name}\">", element.tag),
                None => format!("<{}>", element.tag),
            },
        }),
    }
}

/// Builds the model.
pub(crate) fn lower(source: &Source) -> Result<Model, ModelError> {
    let mut lowering = Lowering::new(source);
    lowering.bodies()?;
    lowering.equalities()?;
    lowering.contact_rules()?;
    lowering.actuators()?;
    lowering.keyframes()?;
    let mut model = lowering.finish();
    model.index_names();
    Ok(model)
}

struct Lowering<'a> {
    source: &'a Source,
    model: Model,
    /// Bodies for the engine's loader.
    rigids: Vec<mjcf_rs::BodyEntry>,
    /// Mass of each engine body, in its frame.
    masses: Vec<Mass>,
    /// Whether the engine body never moves.
    fixed: Vec<bool>,
    /// Engine bodies between which a joint runs (child, parent), with the intermediate bodies of the loader left out.
    parents: Vec<usize>,
    /// Fixed root by mechanism, see [`mechanisms`].
    roots: BTreeMap<usize, usize>,
}

impl<'a> Lowering<'a> {
    fn new(source: &'a Source) -> Self {
        let parsed = &source.model;
        let mut lowered = mjcf_rs::Model {
            name: parsed.name.clone(),
            compiler: parsed.compiler.clone(),
            option: parsed.option.clone(),
            ..mjcf_rs::Model::default()
        };
        lowered.compiler.inertia_from_geom = mjcf_rs::compiler::InertiaFromGeom::Auto;
        let mut model = Model::empty(source.name.clone(), lowered);
        model.gravity = parsed.option.gravity.map(|g| g as f32);
        model.timestep_secs = source.timestep_secs;
        model.fingerprint = source.fingerprint;
        model.notes.clone_from(&source.notes);
        Self {
            source,
            model,
            rigids: Vec::new(),
            masses: Vec::new(),
            fixed: Vec::new(),
            parents: Vec::new(),
            roots: BTreeMap::new(),
        }
    }

    fn push_rigid(&mut self, parent: Option<usize>, pose: Pose64, fixed: bool) -> usize {
        let index = self.rigids.len();
        self.rigids.push(mjcf_rs::BodyEntry {
            parent,
            body: xml::Body {
                name: Some(format!("#{index}")),
                pose,
                ..xml::Body::default()
            },
        });
        self.masses.push(Mass::ZERO);
        self.fixed.push(fixed);
        self.parents.push(parent.unwrap_or(0));
        self.model.rigid_geoms.push(Vec::new());
        index
    }

    fn bodies(&mut self) -> Result<(), ModelError> {
        let parsed = &self.source.model;
        let mechanisms = mechanisms(parsed);
        let moved = subtree_joints(parsed);
        for (index, entry) in parsed.bodies.iter().enumerate() {
            let xml = &entry.body;
            let (rigid, offset) = match entry.parent {
                None => (
                    self.push_rigid(None, Pose64::IDENTITY, true),
                    Pose64::IDENTITY,
                ),
                Some(parent) => self.place_body(index, parent, mechanisms[index], &moved),
            };
            self.model.bodies.push(Body {
                name: if index == 0 {
                    Some("world".to_owned())
                } else {
                    xml.name.clone()
                },
                parent: entry.parent.map(BodyId),
                mocap: xml.mocap,
                mass_kg: 0.0,
                pose: xml.pose,
                rigid,
                offset,
            });
            if xml.joints.is_empty()
                && !self.fixed[rigid]
                && self.rigids[rigid].body.gravcomp != xml.gravcomp
            {
                let message = format!(
                    "`gravcomp` is {}, expected {} as on the body that it is fixed to",
                    xml.gravcomp, self.rigids[rigid].body.gravcomp
                );
                return Err(invalid(
                    self.source,
                    &element("body", xml.name.as_ref()),
                    message,
                ));
            }
            self.joints(index, xml, rigid, moved[index])?;
            self.geometry(index, xml, rigid, &offset)?;
            for site in &xml.sites {
                self.model.sites.push(Site {
                    name: site.name.clone(),
                    body: BodyId(index),
                    local_pose: pose32(&site.pose),
                    pose: site.pose,
                });
            }
        }
        self.finish_masses(parsed)
    }

    /// Which engine body carries this body, and where in it.
    fn place_body(
        &mut self,
        index: usize,
        parent: usize,
        mechanism: usize,
        moved: &[bool],
    ) -> (usize, Pose64) {
        let parsed = &self.source.model;
        let xml = &parsed.bodies[index].body;
        let (parent_rigid, parent_offset) = (
            self.model.bodies[parent].rigid,
            self.model.bodies[parent].offset,
        );
        let pose = parent_offset * xml.pose;
        if xml.joints.is_empty() && !xml.mocap {
            return (parent_rigid, pose);
        }
        let free = xml.joints.iter().any(|j| j.type_ == xml::JointType::Free);
        if free && moved[index] {
            // The frame moves to the centre of mass of the body and of everything fixed to it.
            let shift = Pose64::from_translation(rigid_com(self.source, index).into());
            let rigid = self.push_rigid(Some(0), pose * shift, false);
            self.rigids[rigid].body.gravcomp = xml.gravcomp;
            return (rigid, shift.inverse());
        }
        let engine_parent = if parent_rigid == 0 && !free && !xml.mocap {
            if let Some(&root) = self.roots.get(&mechanism) {
                root
            } else {
                let root = self.push_rigid(Some(0), Pose64::IDENTITY, true);
                self.roots.insert(mechanism, root);
                root
            }
        } else {
            parent_rigid
        };
        let rigid = self.push_rigid(Some(engine_parent), pose, false);
        let lowered = &mut self.rigids[rigid].body;
        lowered.mocap = xml.mocap;
        lowered.gravcomp = xml.gravcomp;
        (rigid, Pose64::IDENTITY)
    }

    fn joints(
        &mut self,
        body: usize,
        xml: &xml::Body,
        rigid: usize,
        has_moving_children: bool,
    ) -> Result<(), ModelError> {
        for joint in &xml.joints {
            let element = element("joint", joint.name.as_ref());
            let kind = match joint.type_ {
                xml::JointType::Free => JointKind::Free,
                xml::JointType::Ball => JointKind::Ball,
                xml::JointType::Hinge => JointKind::Hinge,
                xml::JointType::Slide => JointKind::Slide,
            };
            if kind == JointKind::Free
                && (xml.joints.len() > 1 || self.model.bodies[body].parent != Some(BodyId(0)))
            {
                return Err(invalid(
                    self.source,
                    &element,
                    "a free joint must be the only joint of a child of the world".to_owned(),
                ));
            }
            if kind == JointKind::Free {
                let unfelt = [
                    ("frictionloss", joint.frictionloss, true),
                    ("armature", joint.armature, !has_moving_children),
                ];
                if let Some((attribute, value, _)) = unfelt
                    .into_iter()
                    .find(|&(_, value, unfelt)| unfelt && value > 0.0)
                {
                    let message = format!(
                        "`{attribute}` is {value}, expected 0 on this free joint; <freejoint> takes no defaults"
                    );
                    return Err(invalid(self.source, &element, message));
                }
            }
            let axis = Vector3::from(joint.axis);
            let axis = if matches!(kind, JointKind::Hinge | JointKind::Slide) {
                axis.try_normalize(1e-10).ok_or_else(|| {
                    invalid(
                        self.source,
                        &element,
                        "`axis` has no direction, expected three numbers that are not all 0"
                            .to_owned(),
                    )
                })?
            } else {
                Vector3::z()
            };
            let limited = joint
                .limited
                .resolve(self.source.model.compiler.autolimits, joint.range.is_some());
            let range = if limited { joint.range } else { None };
            if limited && range.is_none() {
                return Err(invalid(
                    self.source,
                    &element,
                    "`limited` is true but there is no `range`",
                ));
            }
            if matches!(kind, JointKind::Ball | JointKind::Free) && joint.stiffness > 0.0 {
                return Err(invalid(
                    self.source,
                    &element,
                    "`stiffness` on a ball or free joint is not supported",
                ));
            }
            if kind == JointKind::Ball && range.is_some() {
                return Err(invalid(
                    self.source,
                    &element,
                    "`range` on a ball joint is not supported",
                ));
            }
            self.model.joints.push(Joint {
                name: joint.name.clone(),
                kind,
                body: BodyId(body),
                range: range.map(|r| r.map(|v| v as f32)),
                qpos_address: self.model.nq,
                qvel_address: self.model.nv,
                armature: joint.armature as f32,
                damping: joint.damping as f32,
                stiffness: joint.stiffness as f32,
                spring_reference: joint.springref as f32,
                reference: joint.ref_,
                axis: axis.into(),
                anchor: joint.pos,
            });
            self.model.nq += kind.qpos_width();
            self.model.nv += kind.qvel_width();
            let mut lowered = joint.clone();
            // Springs and servos are set by the world, so that they add up.
            lowered.stiffness = 0.0;
            lowered.springdamper = None;
            lowered.damping = 0.0;
            self.rigids[rigid].body.joints.push(lowered);
        }
        Ok(())
    }

    fn geometry(
        &mut self,
        body: usize,
        xml: &xml::Body,
        rigid: usize,
        offset: &Pose64,
    ) -> Result<(), ModelError> {
        let compiler = &self.source.model.compiler;
        let mut of_geoms = Mass::ZERO;
        for geom in &xml.geoms {
            let (shape, pose) = shape_of(self.source, geom)?;
            let density = geom.density.unwrap_or(compiler.inertia_density);
            let solid = match geom.mass {
                Some(mass) => Mass::of_shape(&shape, 1000.0).with_mass(mass),
                None => Mass::of_shape(&shape, density),
            };
            of_geoms = of_geoms.plus(&solid.transformed(&pose));
            let visual_only = geom.contype == 0 && geom.conaffinity == 0;
            self.model.rigid_geoms[rigid].push(self.model.geoms.len());
            let mut lowered = geom.clone();
            lowered.name = None;
            lowered.fromto = None;
            lowered.size = lowered_size(&shape, geom.size);
            lowered.pose = *offset * pose;
            lowered.margin = 0.0;
            if matches!(shape, GeomShape::Mesh { .. }) {
                // Meshes become hulls in the world's own pass.
                (lowered.contype, lowered.conaffinity) = (0, 0);
            }
            self.rigids[rigid].body.geoms.push(lowered);
            let material = geom
                .material
                .as_deref()
                .and_then(|name| self.source.model.assets.material(name))
                .and_then(|material| material.rgba);
            let rgba = geom.rgba.or(material).unwrap_or([0.5, 0.5, 0.5, 1.0]);
            self.model.geoms.push(Geom {
                name: geom.name.clone(),
                body: BodyId(body),
                local_pose: pose32(&pose),
                rgba: rgba.map(|c| c as f32),
                visual_only,
                group: geom.group,
                plane_half_extents: if shape == GeomShape::Plane {
                    [geom.size[0] as f32, geom.size[1] as f32]
                } else {
                    [0.0; 2]
                },
                shape,
                friction: geom.friction[0] as f32,
                is_frictionless: geom.condim == 1,
                priority: geom.priority,
                contype: geom.contype,
                conaffinity: geom.conaffinity,
            });
        }
        let own = match (&xml.inertial, compiler.inertia_from_geom) {
            (
                Some(inertial),
                mjcf_rs::compiler::InertiaFromGeom::Auto
                | mjcf_rs::compiler::InertiaFromGeom::False,
            ) => Mass::from_inertial(inertial),
            (None, mjcf_rs::compiler::InertiaFromGeom::False) => Mass::ZERO,
            _ => of_geoms,
        };
        self.model.bodies[body].mass_kg = own.kg as f32;
        self.masses[rigid] = self.masses[rigid].plus(&own.transformed(offset));
        Ok(())
    }

    fn finish_masses(&mut self, parsed: &mjcf_rs::Model) -> Result<(), ModelError> {
        for (rigid, mass) in self.masses.iter().enumerate() {
            if self.fixed[rigid] {
                continue;
            }
            let body = self
                .model
                .bodies
                .iter()
                .position(|b| b.rigid == rigid)
                .unwrap_or(0);
            let element = element("body", self.model.bodies[body].name.as_ref());
            if parsed.bodies[body].body.mocap {
                self.rigids[rigid].body.inertial = Some(
                    Mass {
                        kg: 1.0,
                        com: Vector3::zeros(),
                        inertia: rapier3d::na::Matrix3::identity(),
                    }
                    .to_inertial(),
                );
                continue;
            }
            let smallest = mass.inertia.symmetric_eigenvalues().min();
            if !(mass.kg > 1e-12 && smallest > 1e-16) {
                return Err(invalid(
                    self.source,
                    &element,
                    format!(
                        "a moving body needs mass and inertia above 0, it has {} kg and {smallest:e} kg m²",
                        mass.kg
                    ),
                ));
            }
            self.rigids[rigid].body.inertial = Some(mass.to_inertial());
        }
        Ok(())
    }

    fn finish(mut self) -> Model {
        self.model.lowered.bodies = self.rigids;
        self.model
    }
}
