//! Mass, motion and angular momentum of a body with everything below it.

use std::collections::BTreeSet;

use rapier3d::dynamics::RigidBodyHandle;
use rapier3d::math::Vector;

use crate::model::BodyId;
use crate::world::World;

/// Of the bodies of a subtree taken together, in the world frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// Mass in kg.
    pub mass_kg: f32,
    /// Centre of mass in metres.
    pub centre_m: Vector,
    /// Velocity of the centre of mass in m/s.
    pub velocity_m_s: Vector,
    /// Angular momentum about the centre of mass in kg m²/s.
    pub angular_kg_m2_s: Vector,
}

impl World {
    /// Momentum of `body` and of all bodies below it. A body without joints counts with the one that it is fixed to. A subtree
    /// without mass has zeros.
    pub fn subtree_momentum(&self, body: BodyId) -> Momentum {
        let model = self.model();
        let mut inside = vec![false; model.bodies.len()];
        let mut seen = BTreeSet::new();
        let mut parts: Vec<(f32, Vector, Vector, Vector)> = vec![];
        for (index, spec) in model.bodies.iter().enumerate() {
            inside[index] = index == body.0 || spec.parent.is_some_and(|parent| inside[parent.0]);
            if inside[index] && seen.insert(self.layout.bodies[index].handle.into_raw_parts()) {
                parts.push(self.rigid_momentum(index));
            }
        }
        let mass_kg: f32 = parts.iter().map(|part| part.0).sum();
        let over = |sum: Vector| if mass_kg > 0.0 { sum / mass_kg } else { sum };
        let sum = |of: fn(&(f32, Vector, Vector, Vector)) -> Vector| {
            parts
                .iter()
                .map(of)
                .fold(Vector::ZERO, |sum, part| sum + part)
        };
        let centre_m = over(sum(|&(mass, centre, _, _)| mass * centre));
        let velocity_m_s = over(sum(|&(mass, _, velocity, _)| mass * velocity));
        let angular_kg_m2_s =
            parts
                .iter()
                .fold(Vector::ZERO, |sum, &(mass, centre, velocity, spin)| {
                    sum + spin + mass * (centre - centre_m).cross(velocity - velocity_m_s)
                });
        Momentum {
            mass_kg,
            centre_m,
            velocity_m_s,
            angular_kg_m2_s,
        }
    }

    /// Mass, centre of mass, its velocity, and the angular momentum about it, of the rigid body that carries a body.
    fn rigid_momentum(&self, body: usize) -> (f32, Vector, Vector, Vector) {
        let slot = &self.layout.bodies[body];
        let handle: RigidBodyHandle = slot.handle;
        let rigid = &self.physics.bodies[handle];
        let (velocity, angular) = match slot.link {
            Some(link) => self.link_velocity(link),
            None => (rigid.linvel(), rigid.angvel()),
        };
        let properties = &rigid.mass_properties().local_mprops;
        let axes = rigid.position().rotation * properties.principal_inertia_local_frame;
        let spin = axes * (properties.principal_inertia() * (axes.inverse() * angular));
        (rigid.mass(), rigid.center_of_mass(), velocity, spin)
    }
}
