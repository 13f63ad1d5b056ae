//! Shapes of geoms.

use rapier3d::na::Vector3;
use rapier3d_mjcf::mjcf_rs::body as xml;

use super::{element, invalid};
use crate::error::ModelError;
use crate::mjcf::Source;
use crate::model::{GeomShape, Pose64};

/// Shape of a geom in its own frame, and its pose in the body.
pub(super) fn shape_of(
    source: &Source,
    geom: &xml::Geom,
) -> Result<(GeomShape, Pose64), ModelError> {
    let element = element("geom", geom.name.as_ref());
    let (size, pose) = match geom.fromto {
        Some(ends) => from_to(ends, geom),
        None => (geom.size, geom.pose),
    };
    let size32 = size.map(|s| s as f32);
    let sizes = |count: usize| {
        if size[..count].iter().all(|&s| s.is_finite() && s > 0.0) {
            Ok(())
        } else {
            Err(invalid(
                source,
                &element,
                format!("`size` is {size:?}, expected {count} numbers above 0"),
            ))
        }
    };
    let shape = match geom.type_ {
        xml::GeomType::Plane => GeomShape::Plane,
        xml::GeomType::Sphere => {
            sizes(1)?;
            GeomShape::Sphere { radius: size32[0] }
        }
        xml::GeomType::Capsule => {
            sizes(2)?;
            GeomShape::Capsule {
                radius: size32[0],
                half_length: size32[1],
            }
        }
        xml::GeomType::Cylinder => {
            sizes(2)?;
            GeomShape::Cylinder {
                radius: size32[0],
                half_length: size32[1],
            }
        }
        xml::GeomType::Box => {
            sizes(3)?;
            GeomShape::Box {
                half_extents: size32,
            }
        }
        xml::GeomType::Mesh => {
            let name = geom.mesh.as_deref().unwrap_or_default();
            let mesh = source.meshes.get(name).ok_or_else(|| {
                invalid(
                    source,
                    &element,
                    format!("`mesh` is \"{name}\", expected the name of a mesh asset"),
                )
            })?;
            GeomShape::Mesh {
                vertices: mesh.vertices.clone(),
                triangles: mesh.triangles.clone(),
            }
        }
        xml::GeomType::Ellipsoid | xml::GeomType::Hfield | xml::GeomType::Sdf => {
            return Err(invalid(
                source,
                &element,
                "`type` is ellipsoid, hfield or sdf, expected plane, sphere, capsule, cylinder, box or mesh".to_owned(),
            ));
        }
    };
    Ok((shape, pose))
}

fn from_to(ends: [f64; 6], geom: &xml::Geom) -> ([f64; 3], Pose64) {
    let start = Vector3::new(ends[0], ends[1], ends[2]);
    let end = Vector3::new(ends[3], ends[4], ends[5]);
    let (middle, along) = ((start + end) / 2.0, end - start);
    let half = along.norm() / 2.0;
    let mut size = geom.size;
    match geom.type_ {
        xml::GeomType::Box | xml::GeomType::Ellipsoid => {
            size[2] = half;
            if size[1] == 0.0 {
                size[1] = size[0];
            }
        }
        _ => size[1] = half,
    }
    let turn = rapier3d::na::UnitQuaternion::rotation_between(&Vector3::z(), &along)
        // Opposite directions: any half turn about a horizontal axis.
        .unwrap_or_else(|| {
            rapier3d::na::UnitQuaternion::from_axis_angle(&Vector3::x_axis(), std::f64::consts::PI)
        });
    let q = turn.quaternion();
    let mut pose = Pose64::from_translation([middle.x, middle.y, middle.z].into());
    pose.rotation.x = q.i;
    pose.rotation.y = q.j;
    pose.rotation.z = q.k;
    pose.rotation.w = q.w;
    (size, pose)
}

/// Size attribute of a shape whose ends are no longer given.
pub(super) fn lowered_size(shape: &GeomShape, given: [f64; 3]) -> [f64; 3] {
    match *shape {
        GeomShape::Capsule {
            radius,
            half_length,
        }
        | GeomShape::Cylinder {
            radius,
            half_length,
        } => [f64::from(radius), f64::from(half_length), 0.0],
        GeomShape::Box { half_extents } => half_extents.map(f64::from),
        _ => given,
    }
}
