//! Reading URDF text, into the same form as MJCF.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use rapier3d::na::UnitQuaternion;
use rapier3d_mjcf::mjcf_rs;
use rapier3d_mjcf::mjcf_rs::body as xml;
use rapier3d_mjcf::mjcf_rs::equality::{Equality, EqualityCommon, EqualityJoint};
use rapier3d_mjcf::mjcf_rs::extras::{Actuator, ActuatorKind};
use rapier3d_urdf::urdf_rs;

use crate::error::{ModelError, Place};
use crate::meshes::{self, Mesh};
use crate::mjcf::{Source, fingerprint};
use crate::model::Pose64;
use crate::validate::{self, Lines};

/// Parses a URDF file.
pub(crate) fn read_file(path: &Utf8Path) -> Result<Source, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    let folder = path
        .parent()
        .map_or_else(|| Path::new("."), Utf8Path::as_std_path);
    read(path.as_str(), &text, folder)
}

/// Parses a URDF string.
pub(crate) fn read_str(name: &str, text: &str) -> Result<Source, ModelError> {
    read(name, text, Path::new("."))
}

fn read(name: &str, text: &str, folder: &Path) -> Result<Source, ModelError> {
    let texts = validate::collect(name, text, folder)?;
    let checked = validate::check(&texts, &validate::URDF)?;
    let engine = |message: String| ModelError::Engine {
        file: name.to_owned(),
        message,
    };
    let robot = catch_unwind(AssertUnwindSafe(|| urdf_rs::read_from_string(text)))
        .map_err(|_| engine("the parser panicked".to_owned()))?
        .map_err(|error| engine(error.to_string()))?;
    let mut conversion = Conversion {
        file: name,
        folder,
        lines: &checked.lines,
        robot: &robot,
        model: mjcf_rs::Model {
            name: Some(robot.name.clone()),
            bodies: vec![mjcf_rs::BodyEntry {
                parent: None,
                body: xml::Body::default(),
            }],
            ..mjcf_rs::Model::default()
        },
        meshes: BTreeMap::new(),
        notes: Vec::new(),
    };
    // Only `<inertial>` says what a link weighs.
    conversion.model.compiler.inertia_from_geom = mjcf_rs::compiler::InertiaFromGeom::False;
    conversion.run()?;
    let Conversion {
        model,
        meshes,
        notes,
        ..
    } = conversion;
    Ok(Source {
        name: name.to_owned(),
        fingerprint: fingerprint(&texts, &meshes),
        model,
        meshes,
        timestep_secs: None,
        lines: checked.lines,
        notes,
    })
}

struct Conversion<'a> {
    file: &'a str,
    folder: &'a Path,
    lines: &'a Lines,
    robot: &'a urdf_rs::Robot,
    model: mjcf_rs::Model,
    meshes: BTreeMap<String, Mesh>,
    notes: Vec<String>,
}

fn pose(origin: &urdf_rs::Pose) -> Pose64 {
    let [roll, pitch, yaw] = origin.rpy.0;
    let q = UnitQuaternion::from_euler_angles(roll, pitch, yaw);
    let mut pose = Pose64::from_translation(origin.xyz.0.into());
    pose.rotation.x = q.i;
    pose.rotation.y = q.j;
    pose.rotation.z = q.k;
    pose.rotation.w = q.w;
    pose
}

impl Conversion<'_> {
    fn invalid(&self, tag: &str, name: &str, message: String) -> ModelError {
        let line = self.lines.get(&(tag.to_owned(), name.to_owned()));
        ModelError::Invalid {
            message,
            place: Box::new(Place {
                file: self.file.to_owned(),
                line: line.map_or(0, |(_, line)| *line),
                element: format!("<{tag} name=\"{name}\">"),
            }),
        }
    }

    fn run(&mut self) -> Result<(), ModelError> {
        let robot = self.robot;
        let mut joint_of_child: BTreeMap<&str, &urdf_rs::Joint> = BTreeMap::new();
        for joint in &robot.joints {
            if let Some(other) = joint_of_child.insert(&joint.child.link, joint) {
                return Err(self.invalid(
                    "joint",
                    &joint.name,
                    format!(
                        "link \"{}\" is already the child of joint \"{}\", expected a tree",
                        joint.child.link, other.name
                    ),
                ));
            }
        }
        let roots: Vec<&urdf_rs::Link> = robot
            .links
            .iter()
            .filter(|link| !joint_of_child.contains_key(link.name.as_str()))
            .collect();
        let [root] = roots[..] else {
            let message = format!("{} links have no parent, expected one", roots.len());
            return Err(self.invalid("robot", &robot.name, message));
        };
        // Depth first, in the order of the joints in the file.
        let mut open = vec![(root, None, 0, true)];
        while let Some((link, joint, parent, parent_is_fixed)) = open.pop() {
            let body = self.link(link, joint, parent)?;
            let fixed =
                parent_is_fixed && joint.is_none_or(|j| j.joint_type == urdf_rs::JointType::Fixed);
            if let Some(joint) = joint
                && parent_is_fixed
                && !fixed
            {
                // Neighbours overlap at their joint; below a moving link they are passed over anyway.
                self.model
                    .contact
                    .excludes
                    .push(mjcf_rs::contact::ContactExclude {
                        body1: joint.parent.link.clone(),
                        body2: link.name.clone(),
                        ..mjcf_rs::contact::ContactExclude::default()
                    });
            }
            for joint in robot
                .joints
                .iter()
                .rev()
                .filter(|j| j.parent.link == link.name)
            {
                if let Some(child) = robot.links.iter().find(|l| l.name == joint.child.link) {
                    // A floating link belongs to the world; its parent must be fixed to it.
                    let floating = joint.joint_type == urdf_rs::JointType::Floating;
                    if floating && link.name != root.name {
                        return Err(self.invalid(
                            "joint",
                            &joint.name,
                            "a floating joint must hang below the root link".to_owned(),
                        ));
                    }
                    open.push((child, Some(joint), if floating { 0 } else { body }, fixed));
                }
            }
        }
        if self.model.bodies.len() != robot.links.len() + 1 {
            let message = "some links hang in a ring of joints, expected a tree".to_owned();
            return Err(self.invalid("robot", &robot.name, message));
        }
        Ok(())
    }

    fn link(
        &mut self,
        link: &urdf_rs::Link,
        joint: Option<&urdf_rs::Joint>,
        parent: usize,
    ) -> Result<usize, ModelError> {
        let mut body = xml::Body {
            name: Some(link.name.clone()),
            pose: joint.map_or(Pose64::IDENTITY, |joint| pose(&joint.origin)),
            ..xml::Body::default()
        };
        let inertia = &link.inertial.inertia;
        if link.inertial.mass.value > 0.0 {
            body.inertial = Some(xml::Inertial {
                pose: pose(&link.inertial.origin),
                mass: link.inertial.mass.value,
                inertia: xml::InertiaSpec::Full([
                    inertia.ixx,
                    inertia.iyy,
                    inertia.izz,
                    inertia.ixy,
                    inertia.ixz,
                    inertia.iyz,
                ]),
            });
        }
        if let Some(joint) = joint
            && let Some(joint) = self.joint(joint)?
        {
            body.joints.push(joint);
        }
        for collision in &link.collision {
            if let Some(mut geom) = self.geom(&link.name, &collision.geometry, true)? {
                geom.name.clone_from(&collision.name);
                geom.pose = pose(&collision.origin) * geom.pose;
                (geom.contype, geom.conaffinity, geom.group) = (1, 1, 3);
                body.geoms.push(geom);
            }
        }
        for visual in &link.visual {
            if let Some(mut geom) = self.geom(&link.name, &visual.geometry, false)? {
                geom.pose = pose(&visual.origin) * geom.pose;
                geom.rgba = self.color(visual.material.as_ref());
                body.geoms.push(geom);
            }
        }
        self.model.bodies.push(mjcf_rs::BodyEntry {
            parent: Some(parent),
            body,
        });
        Ok(self.model.bodies.len() - 1)
    }

    fn color(&self, material: Option<&urdf_rs::Material>) -> Option<[f64; 4]> {
        let material = material?;
        let shared = || {
            self.robot
                .materials
                .iter()
                .find(|m| m.name == material.name)?
                .color
                .as_ref()
        };
        material
            .color
            .as_ref()
            .or_else(shared)
            .map(|color| color.rgba.0)
    }

    fn joint(&mut self, joint: &urdf_rs::Joint) -> Result<Option<xml::Joint>, ModelError> {
        use urdf_rs::JointType::{
            Continuous, Fixed, Floating, Planar, Prismatic, Revolute, Spherical,
        };
        let kind = match joint.joint_type {
            Fixed => return Ok(None),
            Floating => xml::JointType::Free,
            Revolute | Continuous => xml::JointType::Hinge,
            Prismatic => xml::JointType::Slide,
            Planar | Spherical => {
                return Err(self.invalid(
                    "joint",
                    &joint.name,
                    "`type` is not supported".to_owned(),
                ));
            }
        };
        let (lower, upper, effort) = (joint.limit.lower, joint.limit.upper, joint.limit.effort);
        if joint.limit.velocity > 0.0 {
            self.notes.push(format!(
                "`velocity` limit of joint \"{}\" has no effect",
                joint.name
            ));
        }
        let limited = matches!(joint.joint_type, Revolute | Prismatic);
        if limited && lower >= upper {
            return Err(self.invalid(
                "joint",
                &joint.name,
                format!("<limit> goes from {lower} to {upper}, expected `lower` below `upper`"),
            ));
        }
        let dynamics = joint.dynamics.as_ref();
        let mut out = xml::Joint {
            name: Some(joint.name.clone()),
            type_: kind,
            axis: joint.axis.xyz.0,
            range: limited.then_some([lower, upper]),
            ..xml::Joint::default()
        };
        if kind == xml::JointType::Free {
            return Ok(Some(out));
        }
        out.damping = dynamics.map_or(0.0, |d| d.damping);
        out.frictionloss = dynamics.map_or(0.0, |d| d.friction);
        if let Some(mimic) = &joint.mimic {
            self.model.equality.push(Equality::Joint(EqualityJoint {
                common: EqualityCommon {
                    name: Some(joint.name.clone()),
                    active: true,
                    ..EqualityCommon::default()
                },
                // The first joint is the polynomial of the second.
                joint1: joint.name.clone(),
                joint2: Some(mimic.joint.clone()),
                polycoef: [
                    mimic.offset.unwrap_or(0.0),
                    mimic.multiplier.unwrap_or(1.0),
                    0.0,
                    0.0,
                    0.0,
                ],
            }));
        } else {
            let range = (effort > 0.0).then_some([-effort, effort]);
            if range.is_none() {
                self.notes.push(format!(
                    "`effort` of joint \"{}\" is 0: its motor has no limit",
                    joint.name
                ));
            }
            self.model.actuators.push(Actuator {
                name: Some(joint.name.clone()),
                kind: ActuatorKind::Motor,
                joint: Some(joint.name.clone()),
                gear: [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                ctrl_range: range,
                force_range: range,
                ..Actuator::default()
            });
        }
        Ok(Some(out))
    }

    /// `None` for what is only looked at and cannot be read.
    fn geom(
        &mut self,
        link: &str,
        geometry: &urdf_rs::Geometry,
        collides: bool,
    ) -> Result<Option<xml::Geom>, ModelError> {
        let mut geom = xml::Geom {
            friction: [1.0, 0.005, 0.0001],
            condim: 3,
            mass: Some(0.0),
            ..xml::Geom::default()
        };
        match geometry {
            urdf_rs::Geometry::Box { size } => {
                geom.type_ = xml::GeomType::Box;
                geom.size = size.0.map(|s| s / 2.0);
            }
            urdf_rs::Geometry::Sphere { radius } => {
                geom.type_ = xml::GeomType::Sphere;
                geom.size[0] = *radius;
            }
            urdf_rs::Geometry::Cylinder { radius, length } => {
                geom.type_ = xml::GeomType::Cylinder;
                geom.size = [*radius, length / 2.0, 0.0];
            }
            urdf_rs::Geometry::Capsule { radius, length } => {
                geom.type_ = xml::GeomType::Capsule;
                geom.size = [*radius, length / 2.0, 0.0];
            }
            urdf_rs::Geometry::Mesh { filename, scale } => {
                let scale = scale.map_or([1.0; 3], |s| s.0);
                let name = format!("{filename} {scale:?}");
                if !self.meshes.contains_key(&name) {
                    match self.mesh(link, filename, scale) {
                        Ok(mesh) => {
                            self.meshes.insert(name.clone(), mesh);
                        }
                        Err(error) if collides => return Err(error),
                        Err(error) => {
                            let reason = error.to_string().replace('\n', " ");
                            self.notes.push(format!(
                                "a visual mesh of link \"{link}\" is left out: {reason}"
                            ));
                            return Ok(None);
                        }
                    }
                }
                geom.type_ = xml::GeomType::Mesh;
                geom.mesh = Some(name);
            }
        }
        Ok(Some(geom))
    }

    fn mesh(&self, link: &str, filename: &str, scale: [f64; 3]) -> Result<Mesh, ModelError> {
        let path = self.mesh_path(filename);
        let mut mesh =
            meshes::from_path(&path)?.map_err(|message| self.invalid("link", link, message))?;
        for vertex in &mut mesh.vertices {
            for (value, scale) in vertex.iter_mut().zip(scale) {
                *value *= scale as f32;
            }
        }
        Ok(mesh)
    }

    /// `package://NAME/rest` is `rest` beside the file or in the folder above, as packages put it.
    fn mesh_path(&self, filename: &str) -> PathBuf {
        if let Some(rest) = filename.strip_prefix("package://") {
            let inside = rest.split_once('/').map_or(rest, |(_, inside)| inside);
            let candidates = [
                self.folder.join(inside),
                self.folder.join("..").join(inside),
                self.folder.join(rest),
                self.folder.join("..").join(rest),
                self.folder.join("../..").join(rest),
            ];
            let found = candidates.iter().find(|path| path.exists());
            return found.unwrap_or(&candidates[0]).clone();
        }
        self.folder
            .join(filename.strip_prefix("file://").unwrap_or(filename))
    }
}
