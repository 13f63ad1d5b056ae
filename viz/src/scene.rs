//! Geometry of a world as rerun shapes: entities, colours, extent.

use std::collections::BTreeSet;

use rerun::external::re_sdk_types::components::FillMode;
use rerun::{
    AsComponents, Boxes3D, Capsules3D, Color, Cylinders3D, Ellipsoids3D, EntityPath,
    EntityPathPart, InstancePoses3D, Mesh3D, Quaternion, RecordingStream, SerializedComponentBatch,
};
use telic_envs::Marker;
use telic_sim::{BodyId, Geom, GeomShape, Model, Pose, Vector, World};

use crate::VizError;

/// Largest MuJoCo geom group that is drawn; higher groups hold collision hulls (MuJoCo's viewer hides them too).
const LAST_VISIBLE_GROUP: i32 = 2;

/// A plane is infinite; it is drawn as a sheet this many times as wide as the scene.
const PLANE_MARGIN: f32 = 1.5;

/// How far the sheet goes on around a robot in the open, in metres.
const OPEN_FLOOR_M: f32 = 30.0;

/// Half the thickness of that sheet, in metres: enough to be a solid, too little to be seen.
const PLANE_HALF_THICKNESS_M: f32 = 1e-3;

/// Axis-aligned box around a scene, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) low: Vector,
    pub(crate) high: Vector,
}

impl Bounds {
    const NOTHING: Self = Self {
        low: Vector::splat(f32::INFINITY),
        high: Vector::splat(f32::NEG_INFINITY),
    };

    /// Around everything that is drawn and finite; one metre around the origin for an empty world.
    pub(crate) fn of(world: &World) -> Self {
        let mut bounds = Self::NOTHING;
        for geom in world.geoms().iter().filter(|geom| is_drawn(geom)) {
            bounds.add(&geom.shape, world.body_pose(geom.body) * geom.local_pose);
        }
        bounds.or_unit()
    }

    /// Around what there is to watch: the robot, the objects and the markers where there are
    /// objects to handle, the whole scene where the robot moves through it.
    pub(crate) fn of_action(world: &World, markers: &[Marker]) -> Self {
        let roles = Role::of_bodies(world.model());
        if ![Role::Robot, Role::Object]
            .iter()
            .all(|role| roles.contains(role))
        {
            return Self::of(world);
        }
        let mut bounds = Self::NOTHING;
        for geom in world.geoms().iter().filter(|geom| is_drawn(geom)) {
            if roles[geom.body.index()] != Role::Scene {
                bounds.add(&geom.shape, world.body_pose(geom.body) * geom.local_pose);
            }
        }
        for marker in markers {
            bounds.add(&marker.shape, marker.pose);
        }
        bounds.or_unit()
    }

    /// Around the bodies of mechanisms with actuators, if there are any.
    pub(crate) fn of_robot(world: &World) -> Option<Self> {
        let roles = Role::of_bodies(world.model());
        let mut bounds = Self::NOTHING;
        for geom in world.geoms().iter().filter(|geom| is_drawn(geom)) {
            if roles[geom.body.index()] == Role::Robot {
                bounds.add(&geom.shape, world.body_pose(geom.body) * geom.local_pose);
            }
        }
        (bounds.low.x <= bounds.high.x).then_some(bounds)
    }

    /// As much wider on every side, in metres.
    fn widened(&self, by_m: f32) -> Self {
        Self {
            low: self.low - Vector::splat(by_m),
            high: self.high + Vector::splat(by_m),
        }
    }

    fn add(&mut self, shape: &GeomShape, pose: Pose) {
        if let Some((centre, half)) = half_extents(shape) {
            let centre = pose * centre;
            let rotation = pose.rotation;
            let reach = (rotation * Vector::X).abs() * half.x
                + (rotation * Vector::Y).abs() * half.y
                + (rotation * Vector::Z).abs() * half.z;
            self.low = self.low.min(centre - reach);
            self.high = self.high.max(centre + reach);
        }
    }

    fn or_unit(self) -> Self {
        if self.low.is_finite() && self.high.is_finite() {
            self
        } else {
            Self {
                low: Vector::splat(-1.0),
                high: Vector::splat(1.0),
            }
        }
    }

    /// All eight corners.
    pub(crate) fn corners(&self) -> [Vector; 8] {
        std::array::from_fn(|index| {
            let side =
                |bit: usize, low: f32, high: f32| if index >> bit & 1 == 0 { low } else { high };
            Vector::new(
                side(0, self.low.x, self.high.x),
                side(1, self.low.y, self.high.y),
                side(2, self.low.z, self.high.z),
            )
        })
    }

    pub(crate) fn centre(&self) -> Vector {
        (self.low + self.high) * 0.5
    }

    pub(crate) fn size(&self) -> Vector {
        self.high - self.low
    }
}

/// Centre and half extents of a shape in its own frame; `None` for a plane.
fn half_extents(shape: &GeomShape) -> Option<(Vector, Vector)> {
    match shape {
        GeomShape::Sphere { radius } => Some((Vector::ZERO, Vector::splat(*radius))),
        GeomShape::Capsule {
            radius,
            half_length,
        } => Some((
            Vector::ZERO,
            Vector::new(*radius, *radius, half_length + radius),
        )),
        GeomShape::Cylinder {
            radius,
            half_length,
        } => Some((Vector::ZERO, Vector::new(*radius, *radius, *half_length))),
        GeomShape::Box { half_extents } => Some((Vector::ZERO, Vector::from_array(*half_extents))),
        GeomShape::Plane => None,
        GeomShape::Mesh { vertices, .. } => {
            let mut low = Vector::splat(f32::INFINITY);
            let mut high = Vector::splat(f32::NEG_INFINITY);
            for vertex in vertices {
                let vertex = Vector::from_array(*vertex);
                low = low.min(vertex);
                high = high.max(vertex);
            }
            (!vertices.is_empty()).then(|| ((low + high) * 0.5, (high - low) * 0.5))
        }
    }
}

fn is_drawn(geom: &Geom) -> bool {
    geom.group <= LAST_VISIBLE_GROUP && geom.rgba[3] > 0.0
}

/// The bodies of a world and the entities that show them.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) bodies: Vec<SceneBody>,
    /// A robot in the open: one that can leave the place that it starts at, with nothing around it but floor.
    pub(crate) wanderer: Option<EntityPath>,
}

/// One body with at least one geom that is drawn.
#[derive(Debug)]
pub(crate) struct SceneBody {
    pub(crate) id: BodyId,
    pub(crate) entity: EntityPath,
    /// Pose that was sent last.
    pub(crate) sent: Option<Pose>,
}

impl Scene {
    /// Logs every geom once, in the frame of its body, and remembers the bodies.
    ///
    /// What stands still goes to `world/scene/<body>/<geom>`, what is driven by actuators to
    /// `world/robot/<body>/<geom>`, everything else that moves to `world/objects/<body>/<geom>`.
    pub(crate) fn log(
        recording: &RecordingStream,
        world: &World,
        bounds: &Bounds,
    ) -> Result<Self, VizError> {
        let roles = Role::of_bodies(world.model());
        let mut scene = Self {
            wanderer: wanderer(world, &roles),
            ..Self::default()
        };
        let sheet = match scene.wanderer {
            Some(_) => bounds.widened(OPEN_FLOOR_M),
            None => *bounds,
        };
        let mut taken = BTreeSet::new();
        for (index, geom) in world.geoms().iter().enumerate() {
            if !is_drawn(geom) {
                continue;
            }
            let body = body_entity(world.model(), geom.body, roles[geom.body.index()]);
            if !scene.bodies.iter().any(|known| known.id == geom.body) {
                scene.bodies.push(SceneBody {
                    id: geom.body,
                    entity: body.clone(),
                    sent: None,
                });
            }
            let name = match &geom.name {
                Some(name) if taken.insert((geom.body.index(), name.clone())) => name.clone(),
                Some(name) => format!("{name}_{index}"),
                None => format!("geom_{index}"),
            };
            let batches = shape_batches(&geom.shape, &geom.local_pose, geom.rgba, &sheet);
            recording.log_serialized_batches(join(&body, &name), true, batches)?;
        }
        Ok(scene)
    }
}

/// What a body is in the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Fixed to the world.
    Scene,
    /// Part of a mechanism with actuators.
    Robot,
    /// Any other thing that moves.
    Object,
}

impl Role {
    /// Of every body: all bodies below one child of the world have the same.
    fn of_bodies(model: &Model) -> Vec<Self> {
        let bodies = model.bodies();
        let root = |mut index: usize| {
            while let Some(parent) = bodies[index].parent.filter(|parent| parent.index() != 0) {
                index = parent.index();
            }
            index
        };
        let joint_roots: Vec<_> = model
            .joints()
            .iter()
            .map(|joint| root(joint.body.index()))
            .collect();
        let driven: BTreeSet<_> = model
            .actuators()
            .iter()
            .map(|actuator| joint_roots[actuator.joint.index()])
            .collect();
        let moving: BTreeSet<_> = joint_roots.iter().copied().collect();
        (0..bodies.len())
            .map(|index| match root(index) {
                0 => Self::Scene,
                root if driven.contains(&root) => Self::Robot,
                root if moving.contains(&root) || bodies[index].mocap => Self::Object,
                _ => Self::Scene,
            })
            .collect()
    }
}

/// The first drawn body of a robot that stands on nothing but planes.
fn wanderer(world: &World, roles: &[Role]) -> Option<EntityPath> {
    let drawn = || world.geoms().iter().filter(|geom| is_drawn(geom));
    let role = |geom: &Geom| roles[geom.body.index()];
    let open = drawn().all(|geom| role(geom) == Role::Robot || geom.shape == GeomShape::Plane);
    let body = drawn().find(|geom| role(geom) == Role::Robot)?.body;
    open.then(|| body_entity(world.model(), body, Role::Robot))
}

fn body_entity(model: &Model, body: BodyId, role: Role) -> EntityPath {
    let group = EntityPath::new(vec![
        EntityPathPart::new("world"),
        EntityPathPart::new(match role {
            Role::Scene => "scene",
            Role::Robot => "robot",
            Role::Object => "objects",
        }),
    ]);
    let index = body.index();
    match model
        .bodies()
        .get(index)
        .and_then(|body| body.name.as_deref())
    {
        _ if index == 0 => group,
        Some(name) => join(&group, name),
        None => join(&group, &format!("body_{index}")),
    }
}

fn join(parent: &EntityPath, name: &str) -> EntityPath {
    parent.join(&EntityPath::new(vec![EntityPathPart::new(name.to_owned())]))
}

/// A colour from components in 0..=1.
pub(crate) fn color(rgba: [f32; 4]) -> Color {
    let [r, g, b, a] = rgba.map(|channel| (channel.clamp(0.0, 1.0) * 255.0).round() as u8);
    Color::from_unmultiplied_rgba(r, g, b, a)
}

fn quaternion(pose: &Pose) -> Quaternion {
    Quaternion::from_xyzw(pose.rotation.to_array())
}

/// One shape at a pose relative to its entity; an opacity below 1 makes it a ghost.
pub(crate) fn shape_batches(
    shape: &GeomShape,
    pose: &Pose,
    rgba: [f32; 4],
    bounds: &Bounds,
) -> Vec<SerializedComponentBatch> {
    let fill = FillMode::Solid;
    let color = color(rgba);
    let boxes = |pose: &Pose, half_extents: [f32; 3]| {
        Boxes3D::from_half_sizes([half_extents])
            .with_centers([pose.translation.to_array()])
            .with_quaternions([quaternion(pose)])
            .with_colors([color])
            .with_fill_mode(fill)
            .as_serialized_batches()
    };
    match shape {
        GeomShape::Sphere { radius } => Ellipsoids3D::from_radii([*radius])
            .with_centers([pose.translation.to_array()])
            .with_quaternions([quaternion(pose)])
            .with_colors([color])
            .with_fill_mode(fill)
            .as_serialized_batches(),
        GeomShape::Capsule {
            radius,
            half_length,
        } => {
            // The viewer's capsule starts at its origin, ours is centred on it.
            let start = *pose * Vector::new(0.0, 0.0, -half_length);
            Capsules3D::from_lengths_and_radii([2.0 * half_length], [*radius])
                .with_translations([start.to_array()])
                .with_quaternions([quaternion(pose)])
                .with_colors([color])
                .with_fill_mode(fill)
                .as_serialized_batches()
        }
        GeomShape::Cylinder {
            radius,
            half_length,
        } => Cylinders3D::from_lengths_and_radii([2.0 * half_length], [*radius])
            .with_centers([pose.translation.to_array()])
            .with_quaternions([quaternion(pose)])
            .with_colors([color])
            .with_fill_mode(fill)
            .as_serialized_batches(),
        GeomShape::Box { half_extents } => boxes(pose, *half_extents),
        GeomShape::Plane => {
            let half = bounds.size().truncate().max_element() * 0.5 * PLANE_MARGIN;
            let mut sheet = *pose;
            sheet.translation = *pose * Vector::new(0.0, 0.0, -PLANE_HALF_THICKNESS_M);
            sheet.translation.x += bounds.centre().x - pose.translation.x;
            sheet.translation.y += bounds.centre().y - pose.translation.y;
            boxes(&sheet, [half, half, PLANE_HALF_THICKNESS_M])
        }
        GeomShape::Mesh {
            vertices,
            triangles,
        } => {
            let mut batches = faceted_mesh(vertices, triangles, color).as_serialized_batches();
            batches.extend(
                InstancePoses3D::new()
                    .with_translations([pose.translation.to_array()])
                    .with_quaternions([quaternion(pose)])
                    .as_serialized_batches(),
            );
            batches
        }
    }
}

/// A mesh with one normal per face, since the viewer draws a mesh without normals unlit.
fn faceted_mesh(vertices: &[[f32; 3]], triangles: &[[u32; 3]], color: Color) -> Mesh3D {
    let mut positions = Vec::with_capacity(triangles.len() * 3);
    let mut normals = Vec::with_capacity(triangles.len() * 3);
    for triangle in triangles {
        let corners =
            triangle.map(|index| vertices.get(index as usize).copied().unwrap_or_default());
        let [a, b, c] = corners.map(Vector::from_array);
        let normal = (b - a).cross(c - a).normalize_or_zero();
        positions.extend(corners);
        normals.extend([normal.to_array(); 3]);
    }
    Mesh3D::new(positions)
        .with_vertex_normals(normals)
        .with_albedo_factor(color.0)
}
