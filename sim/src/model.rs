//! The parsed, immutable description of a scene: bodies, joints, geoms, sites, actuators, and where each
//! lies in `qpos` and `qvel`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use rapier3d::math::Pose;
use rapier3d_mjcf::mjcf_rs;

use crate::error::ModelError;
use crate::{lowering, mjcf, urdf};

/// Double-precision pose, as parsed.
pub(crate) type Pose64 = mjcf_rs::Pose;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) usize);

        impl $name {
            /// Position in the model's list.
            pub fn index(self) -> usize {
                self.0
            }
        }
    };
}

id!(
    /// A body of a [`Model`]; 0 is the world.
    BodyId
);
id!(
    /// A joint of a [`Model`], in the order of `qpos`.
    JointId
);
id!(
    /// A geom of a [`Model`].
    GeomId
);
id!(
    /// A site (named frame) of a [`Model`].
    SiteId
);
id!(
    /// An actuator of a [`Model`], in the order of `ctrl`.
    ActuatorId
);

/// A body: a named frame with mass and geometry.
#[derive(Clone, Debug)]
pub struct Body {
    /// Name in the file; the world is `world`.
    pub name: Option<String>,
    /// Parent; `None` for the world.
    pub parent: Option<BodyId>,
    /// Moved by [`World::set_mocap_pose`](crate::World::set_mocap_pose) and by nothing else.
    pub mocap: bool,
    /// Mass in kg of this body alone.
    pub mass_kg: f32,
    /// Pose in the parent at zero joint positions.
    pub(crate) pose: Pose64,
    /// Rigid body of the engine that carries it.
    pub(crate) rigid: usize,
    /// Pose in that rigid body.
    pub(crate) offset: Pose64,
}

/// Kind of a joint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointKind {
    /// Six degrees of freedom: 7 entries of `qpos` (xyz, quaternion wxyz), 6 of `qvel`.
    Free,
    /// Three rotations: 4 entries of `qpos` (quaternion wxyz), 3 of `qvel` (child frame).
    Ball,
    /// One rotation, in radians.
    Hinge,
    /// One translation, in metres.
    Slide,
}

impl JointKind {
    /// Entries of `qpos`.
    pub fn qpos_width(self) -> usize {
        match self {
            Self::Free => 7,
            Self::Ball => 4,
            Self::Hinge | Self::Slide => 1,
        }
    }

    /// Entries of `qvel`.
    pub fn qvel_width(self) -> usize {
        match self {
            Self::Free => 6,
            Self::Ball => 3,
            Self::Hinge | Self::Slide => 1,
        }
    }
}

/// A joint between a body and its parent.
#[derive(Clone, Debug)]
pub struct Joint {
    /// Name in the file.
    pub name: Option<String>,
    /// Kind.
    pub kind: JointKind,
    /// Body that it moves.
    pub body: BodyId,
    /// Limits in radians or metres, where limited.
    pub range: Option<[f32; 2]>,
    /// First entry in `qpos`.
    pub qpos_address: usize,
    /// First entry in `qvel`.
    pub qvel_address: usize,
    /// Rotor inertia added to the joint, in kg m² or kg.
    pub armature: f32,
    /// Viscous damping in N m s/rad or N s/m.
    pub damping: f32,
    /// Spring stiffness in N m/rad or N/m.
    pub stiffness: f32,
    /// Spring rest position in radians or metres.
    pub spring_reference: f32,
    /// Value of `qpos` in the pose drawn in the file.
    pub(crate) reference: f64,
    /// Axis in the body frame, unit length.
    pub(crate) axis: [f64; 3],
    /// Anchor in the body frame.
    pub(crate) anchor: [f64; 3],
}

/// Shape of a geom, in its own frame.
#[derive(Clone, Debug, PartialEq)]
pub enum GeomShape {
    /// Ball.
    Sphere {
        /// Radius in metres.
        radius: f32,
    },
    /// Cylinder with half spheres at both ends, along local z.
    Capsule {
        /// Radius in metres.
        radius: f32,
        /// Half of the distance between the centres of the half spheres.
        half_length: f32,
    },
    /// Cylinder along local z.
    Cylinder {
        /// Radius in metres.
        radius: f32,
        /// Half of the height.
        half_length: f32,
    },
    /// Cuboid.
    Box {
        /// Half of each edge, in metres.
        half_extents: [f32; 3],
    },
    /// Infinite plane through the local origin with normal +z; solid below.
    Plane,
    /// Triangles; collides as its convex hull.
    Mesh {
        /// Corners in metres.
        vertices: Vec<[f32; 3]>,
        /// Corner indices, counter-clockwise from outside.
        triangles: Vec<[u32; 3]>,
    },
}

/// A shape on a body.
#[derive(Clone, Debug)]
pub struct Geom {
    /// Name in the file.
    pub name: Option<String>,
    /// Body that it is part of.
    pub body: BodyId,
    /// Shape.
    pub shape: GeomShape,
    /// Pose in the body frame.
    pub local_pose: Pose,
    /// Colour and opacity, 0 to 1.
    pub rgba: [f32; 4],
    /// Only drawn, never collides.
    pub visual_only: bool,
    /// Group number of the file.
    pub group: i32,
    /// Half width (x, y) in which a plane is drawn; zero is unbounded.
    pub plane_half_extents: [f32; 2],
    pub(crate) friction: f32,
    /// Contact dimension 1: without friction where it touches another such geom.
    pub(crate) is_frictionless: bool,
    pub(crate) priority: i32,
    pub(crate) contype: u32,
    pub(crate) conaffinity: u32,
}

impl Geom {
    /// Friction that the engine combines with that of others, of which it takes the larger one.
    pub(crate) fn engine_friction(&self) -> f32 {
        if self.is_frictionless {
            0.0
        } else {
            self.friction
        }
    }
}

/// A named frame on a body.
#[derive(Clone, Debug)]
pub struct Site {
    /// Name in the file.
    pub name: Option<String>,
    /// Body that it is part of.
    pub body: BodyId,
    /// Pose in the body frame.
    pub local_pose: Pose,
    pub(crate) pose: Pose64,
}

/// An actuator on a hinge or slide joint.
///
/// It applies `gear · clip(gain · ctrl + bias[0] + bias[1] · gear · q + bias[2] · gear · q̇, force_range)`: a torque motor has
/// `gain` 1 and no bias, a position servo `gain` kp and `bias` (0, −kp, −kv), a velocity servo `gain` kv and `bias` (0, 0, −kv).
#[derive(Clone, Debug)]
pub struct Actuator {
    /// Name in the file.
    pub name: Option<String>,
    /// Joint that it drives.
    pub joint: JointId,
    /// Control values outside are clipped.
    pub ctrl_range: Option<[f32; 2]>,
    /// Forces outside are clipped.
    pub force_range: Option<[f32; 2]>,
    /// Transmission ratio.
    pub gear: f32,
    /// Force per unit of control.
    pub gain: f32,
    /// Constant, position and velocity terms of the force.
    pub bias: [f32; 3],
}

/// A stored configuration of the file.
#[derive(Clone, Debug)]
pub struct Keyframe {
    /// Name in the file.
    pub name: Option<String>,
    /// Positions `[nq]`; empty where the file gives none.
    pub qpos: Vec<f32>,
    /// Velocities `[nv]`; empty where the file gives none.
    pub qvel: Vec<f32>,
    /// Controls `[nu]`; empty where the file gives none.
    pub ctrl: Vec<f32>,
}

/// A rigid connection or a shared point between two rigid bodies of the engine, closed at the initial pose.
#[derive(Clone, Debug)]
pub(crate) struct Closure {
    pub(crate) rigid_a: usize,
    pub(crate) rigid_b: usize,
    pub(crate) frame_a: Pose64,
    pub(crate) frame_b: Pose64,
    /// Lock rotations too.
    pub(crate) weld: bool,
}

/// `position(dependent) = offset + ratio · position(independent)`, by joint.
#[derive(Clone, Debug)]
pub(crate) struct Coupling {
    pub(crate) independent: usize,
    pub(crate) dependent: usize,
    pub(crate) ratio: f64,
    pub(crate) offset: f64,
}

/// Friction of one pair of geoms, from `<contact><pair>`.
#[derive(Clone, Debug)]
pub(crate) struct PairFriction {
    pub(crate) geoms: [usize; 2],
    pub(crate) friction: f32,
}

/// A parsed scene. Immutable; share it in an `Arc`.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) name: String,
    pub(crate) gravity: [f32; 3],
    pub(crate) timestep_secs: Option<f32>,
    pub(crate) bodies: Vec<Body>,
    pub(crate) joints: Vec<Joint>,
    pub(crate) geoms: Vec<Geom>,
    pub(crate) sites: Vec<Site>,
    pub(crate) actuators: Vec<Actuator>,
    pub(crate) keyframes: Vec<Keyframe>,
    pub(crate) closures: Vec<Closure>,
    pub(crate) couplings: Vec<Coupling>,
    /// Pairs of rigid bodies of the engine that never touch.
    pub(crate) excluded_rigids: Vec<[usize; 2]>,
    /// Pairs of bodies whose geoms never touch.
    pub(crate) excluded_bodies: Vec<[usize; 2]>,
    pub(crate) pair_frictions: Vec<PairFriction>,
    /// What the engine's loader gets: fixed bodies merged into their parents, one root per mechanism.
    pub(crate) lowered: mjcf_rs::Model,
    /// Geoms of each lowered body, in the loader's order.
    pub(crate) rigid_geoms: Vec<Vec<usize>>,
    pub(crate) nq: usize,
    pub(crate) nv: usize,
    /// What was left out.
    pub(crate) notes: Vec<String>,
    /// Checksum of the file's text.
    pub(crate) fingerprint: u32,
    names: Names,
}

/// Name tables.
#[derive(Clone, Debug, Default)]
struct Names {
    bodies: BTreeMap<String, usize>,
    joints: BTreeMap<String, usize>,
    geoms: BTreeMap<String, usize>,
    sites: BTreeMap<String, usize>,
    actuators: BTreeMap<String, usize>,
}

impl Model {
    /// Reads an MJCF document from a string; `name` stands for the file in error messages.
    ///
    /// # Errors
    /// A [`ModelError`] that names the element and the attribute.
    pub fn from_mjcf_str(name: &str, xml: &str) -> Result<Self, ModelError> {
        lowering::lower(&mjcf::read_str(name, xml)?)
    }

    /// Reads an MJCF file; `<include>` and assets are relative to its folder.
    ///
    /// # Errors
    /// A [`ModelError`] that names the file, the element and the attribute.
    pub fn load_mjcf(path: &Utf8Path) -> Result<Self, ModelError> {
        lowering::lower(&mjcf::read_file(path)?)
    }

    /// Reads a URDF file. The root link is fixed to the world unless a floating joint hangs below it. Every revolute, continuous
    /// and prismatic joint gets a torque motor of the same name with the effort limit as its range, without one where that is 0;
    /// mimicking joints are coupled. Mesh paths are relative to the file's folder, with `package://NAME/` taken off.
    ///
    /// # Errors
    /// A [`ModelError`] that names the file, the element and the attribute.
    pub fn load_urdf(path: &Utf8Path) -> Result<Self, ModelError> {
        lowering::lower(&urdf::read_file(path)?)
    }

    /// Reads a URDF document from a string; `name` stands for the file in error messages.
    ///
    /// # Errors
    /// A [`ModelError`] that names the element and the attribute.
    pub fn from_urdf_str(name: &str, xml: &str) -> Result<Self, ModelError> {
        lowering::lower(&urdf::read_str(name, xml)?)
    }

    /// Fills the name tables.
    pub(crate) fn index_names(&mut self) {
        fn table<'a>(names: impl Iterator<Item = Option<&'a String>>) -> BTreeMap<String, usize> {
            names
                .enumerate()
                .filter_map(|(index, name)| name.map(|name| (name.clone(), index)))
                .collect()
        }
        self.names = Names {
            bodies: table(self.bodies.iter().map(|b| b.name.as_ref())),
            joints: table(self.joints.iter().map(|j| j.name.as_ref())),
            geoms: table(self.geoms.iter().map(|g| g.name.as_ref())),
            sites: table(self.sites.iter().map(|s| s.name.as_ref())),
            actuators: table(self.actuators.iter().map(|a| a.name.as_ref())),
        };
    }

    /// An empty model with the tables still to be filled.
    pub(crate) fn empty(name: String, lowered: mjcf_rs::Model) -> Self {
        Self {
            name,
            gravity: [0.0, 0.0, -9.81],
            timestep_secs: None,
            bodies: Vec::new(),
            joints: Vec::new(),
            geoms: Vec::new(),
            sites: Vec::new(),
            actuators: Vec::new(),
            keyframes: Vec::new(),
            closures: Vec::new(),
            couplings: Vec::new(),
            excluded_rigids: Vec::new(),
            excluded_bodies: Vec::new(),
            pair_frictions: Vec::new(),
            lowered,
            rigid_geoms: Vec::new(),
            nq: 0,
            nv: 0,
            notes: Vec::new(),
            fingerprint: 0,
            names: Names::default(),
        }
    }

    /// File path, or the name given at loading.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length of `qpos`.
    pub fn nq(&self) -> usize {
        self.nq
    }

    /// Length of `qvel`.
    pub fn nv(&self) -> usize {
        self.nv
    }

    /// Length of `ctrl`.
    pub fn nu(&self) -> usize {
        self.actuators.len()
    }

    /// Gravity in m/s², world frame.
    pub fn gravity(&self) -> [f32; 3] {
        self.gravity
    }

    /// `<option timestep>`, where the file gives one. A world takes its step from
    /// [`PhysicsConfig`](crate::PhysicsConfig), since another engine's step says little about this one.
    pub fn timestep_secs(&self) -> Option<f32> {
        self.timestep_secs
    }

    /// Parts of the file that were left out because they only matter for looks, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All bodies; 0 is the world.
    pub fn bodies(&self) -> &[Body] {
        &self.bodies
    }

    /// All joints, in the order of `qpos`.
    pub fn joints(&self) -> &[Joint] {
        &self.joints
    }

    /// All geoms.
    pub fn geoms(&self) -> &[Geom] {
        &self.geoms
    }

    /// All sites.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// All actuators, in the order of `ctrl`.
    pub fn actuators(&self) -> &[Actuator] {
        &self.actuators
    }

    /// Stored configurations.
    pub fn keyframes(&self) -> &[Keyframe] {
        &self.keyframes
    }

    /// The keyframe of that name.
    pub fn keyframe(&self, name: &str) -> Option<&Keyframe> {
        self.keyframes
            .iter()
            .find(|k| k.name.as_deref() == Some(name))
    }

    /// The body of that name.
    pub fn body_id(&self, name: &str) -> Option<BodyId> {
        self.names.bodies.get(name).copied().map(BodyId)
    }

    /// The joint of that name.
    pub fn joint_id(&self, name: &str) -> Option<JointId> {
        self.names.joints.get(name).copied().map(JointId)
    }

    /// The geom of that name.
    pub fn geom_id(&self, name: &str) -> Option<GeomId> {
        self.names.geoms.get(name).copied().map(GeomId)
    }

    /// The site of that name.
    pub fn site_id(&self, name: &str) -> Option<SiteId> {
        self.names.sites.get(name).copied().map(SiteId)
    }

    /// The actuator of that name.
    pub fn actuator_id(&self, name: &str) -> Option<ActuatorId> {
        self.names.actuators.get(name).copied().map(ActuatorId)
    }
}
