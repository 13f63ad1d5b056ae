//! The kinematic tree: which bodies form one mechanism, and which are rigidly one.

use std::collections::BTreeMap;

use rapier3d_mjcf::mjcf_rs;
use rapier3d_mjcf::mjcf_rs::equality::Equality;

use super::shapes::shape_of;
use crate::mass::Mass;
use crate::mjcf::Source;
use crate::model::Pose64;

/// Mechanism of each body: the child of the world above it, or the first such child that a coupling ties it to.
pub(super) fn mechanisms(parsed: &mjcf_rs::Model) -> Vec<usize> {
    let mut top = vec![0; parsed.bodies.len()];
    for (index, entry) in parsed.bodies.iter().enumerate().skip(1) {
        top[index] = match entry.parent {
            Some(0) | None => index,
            // A body below a fixed one may be jointed to the world on its own.
            Some(parent) if is_static(parsed, parent) => index,
            Some(parent) => top[parent],
        };
    }
    let of_joint = |name: &str| parsed.joint_by_name(name).map(|(body, _)| top[body]);
    let mut merged = top.clone();
    for equality in &parsed.equality {
        if let Equality::Joint(joint) = equality
            && let (Some(a), Some(b)) = (
                of_joint(&joint.joint1),
                joint.joint2.as_deref().and_then(of_joint),
            )
        {
            let (a, b) = (merged[a], merged[b]);
            let (keep, drop) = (a.min(b), a.max(b));
            for mechanism in &mut merged {
                if *mechanism == drop {
                    *mechanism = keep;
                }
            }
        }
    }
    top.iter().map(|&t| merged[t]).collect()
}

/// Whether a body is fixed to the world.
fn is_static(parsed: &mjcf_rs::Model, index: usize) -> bool {
    let entry = &parsed.bodies[index];
    if !entry.body.joints.is_empty() || entry.body.mocap {
        return false;
    }
    entry.parent.is_none_or(|parent| is_static(parsed, parent))
}

/// Whether some body below each body has joints.
pub(super) fn subtree_joints(parsed: &mjcf_rs::Model) -> Vec<bool> {
    let mut below = vec![false; parsed.bodies.len()];
    for (index, entry) in parsed.bodies.iter().enumerate().rev() {
        if let Some(parent) = entry.parent
            && (below[index] || !entry.body.joints.is_empty())
        {
            below[parent] = true;
        }
    }
    below
}

/// Centre of mass of a body together with everything fixed to it, in its frame.
pub(super) fn rigid_com(source: &Source, root: usize) -> [f64; 3] {
    let parsed = &source.model;
    let mut offsets: BTreeMap<usize, Pose64> = BTreeMap::from([(root, Pose64::IDENTITY)]);
    let mut total = Mass::ZERO;
    for (index, entry) in parsed.bodies.iter().enumerate().skip(root) {
        if index != root {
            let Some(parent) = entry.parent.and_then(|p| offsets.get(&p).copied()) else {
                continue;
            };
            if !entry.body.joints.is_empty() || entry.body.mocap {
                continue;
            }
            offsets.insert(index, parent * entry.body.pose);
        }
        let own = match &entry.body.inertial {
            Some(inertial)
                if parsed.compiler.inertia_from_geom
                    != mjcf_rs::compiler::InertiaFromGeom::True =>
            {
                Mass::from_inertial(inertial)
            }
            _ => entry.body.geoms.iter().fold(Mass::ZERO, |sum, geom| {
                let Ok((shape, pose)) = shape_of(source, geom) else {
                    return sum;
                };
                let density = geom.density.unwrap_or(parsed.compiler.inertia_density);
                let solid = match geom.mass {
                    Some(mass) => Mass::of_shape(&shape, 1000.0).with_mass(mass),
                    None => Mass::of_shape(&shape, density),
                };
                sum.plus(&solid.transformed(&pose))
            }),
        };
        total = total.plus(&own.transformed(&offsets[&index]));
    }
    total.com.into()
}
