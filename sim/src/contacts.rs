//! Who touches whom, where, and how hard.

use std::collections::{BTreeMap, BTreeSet};

use rapier3d::dynamics::{FrictionModel, RigidBodyHandle};
use rapier3d::geometry::{ColliderHandle, ContactData, ContactManifold, SolverFlags};
use rapier3d::math::Vector;
use rapier3d::pipeline::{ContactModificationContext, PairFilterContext, PhysicsHooks};

use crate::model::{BodyId, GeomId};
use crate::world::World;

/// One contact point of the last step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contact {
    /// First geom.
    pub geom_a: GeomId,
    /// Second geom.
    pub geom_b: GeomId,
    /// Middle between the two surfaces, world frame, metres.
    pub position: Vector,
    /// Unit vector from a to b.
    pub normal: Vector,
    /// Distance between the surfaces along the normal; negative in penetration.
    pub distance_m: f32,
    /// Force on b, averaged over the last step, in newtons; a feels the opposite.
    pub force_newtons: Vector,
}

/// How the engine stores friction impulses.
#[derive(Clone, Copy)]
enum FrictionRecord {
    /// Each point has its amount over the step, and its direction at the end of the step.
    PerPoint,
    /// Every point repeats the impulse of the whole patch in the last sub-step.
    PerPatch { substeps: f32, normal_impulse: f32 },
}

impl FrictionRecord {
    /// Friction impulse of a point over the step, on the first body.
    fn at(self, point: &ContactData) -> Vector {
        let world = point.warmstart_tangent_world;
        match self {
            Self::PerPoint => world.normalize_or_zero() * point.tangent_impulse.norm(),
            Self::PerPatch {
                substeps,
                normal_impulse,
            } if normal_impulse > 0.0 => world * (substeps * point.impulse / normal_impulse),
            Self::PerPatch { .. } => Vector::ZERO,
        }
    }
}

type ColliderPair = ((u32, u32), (u32, u32));

fn collider_pair(a: ColliderHandle, b: ColliderHandle) -> ColliderPair {
    let (a, b) = (a.into_raw_parts(), b.into_raw_parts());
    (a.min(b), a.max(b))
}

fn body_pair(a: RigidBodyHandle, b: RigidBodyHandle) -> ColliderPair {
    let (a, b) = (a.into_raw_parts(), b.into_raw_parts());
    (a.min(b), a.max(b))
}

/// Exceptions to the collision groups and to the friction of geoms.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContactRules {
    excluded_bodies: BTreeSet<ColliderPair>,
    excluded_colliders: BTreeSet<ColliderPair>,
    frictions: BTreeMap<ColliderPair, f32>,
}

impl ContactRules {
    pub(crate) fn exclude_bodies(&mut self, a: RigidBodyHandle, b: RigidBodyHandle) {
        self.excluded_bodies.insert(body_pair(a, b));
    }

    pub(crate) fn exclude_colliders(&mut self, a: ColliderHandle, b: ColliderHandle) {
        self.excluded_colliders.insert(collider_pair(a, b));
    }

    pub(crate) fn set_friction(&mut self, a: ColliderHandle, b: ColliderHandle, friction: f32) {
        self.frictions.insert(collider_pair(a, b), friction);
    }
}

impl PhysicsHooks for ContactRules {
    fn filter_contact_pair(&self, context: &PairFilterContext) -> Option<SolverFlags> {
        let excluded = match (context.rigid_body1, context.rigid_body2) {
            (Some(a), Some(b)) => self.excluded_bodies.contains(&body_pair(a, b)),
            _ => false,
        };
        let excluded = excluded
            || self
                .excluded_colliders
                .contains(&collider_pair(context.collider1, context.collider2));
        (!excluded).then_some(SolverFlags::COMPUTE_RIGID_IMPULSES)
    }

    fn modify_solver_contacts(&self, context: &mut ContactModificationContext) {
        let pair = collider_pair(context.collider1, context.collider2);
        if let Some(&friction) = self.frictions.get(&pair)
            && let Some(rigid) = context.rigid_mut()
        {
            *rigid.friction = friction;
        }
    }
}

impl World {
    fn geom_of(&self, collider: ColliderHandle) -> Option<GeomId> {
        self.physics
            .colliders
            .get(collider)
            .map(|c| GeomId(c.user_data as usize))
    }

    /// All contact points that took part in the last step. After [`World::set_state`] the points are those of the new
    /// state and the forces are zero.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + '_ {
        self.physics
            .narrow_phase
            .contact_pairs()
            .flat_map(move |pair| {
                let geoms = self
                    .geom_of(pair.collider1)
                    .zip(self.geom_of(pair.collider2));
                pair.solver_manifolds()
                    .iter()
                    .filter_map(move |manifold| geoms.map(|(a, b)| (manifold, a, b)))
                    .flat_map(move |(manifold, geom_a, geom_b)| {
                        let data = &manifold.data;
                        let friction = self.friction_of(manifold);
                        data.solver_contacts.iter().map(move |contact| {
                            let (on_a, on_b) =
                                data.solver_contact_world_points(contact, &self.physics.bodies);
                            let point =
                                &manifold.points[contact.contact_indices()[0] as usize].data;
                            let tangent = friction.at(point);
                            Contact {
                                geom_a,
                                geom_b,
                                position: (on_a + on_b) * 0.5,
                                normal: data.normal,
                                distance_m: (on_b - on_a).dot(data.normal),
                                force_newtons: (data.normal * point.impulse - tangent)
                                    / self.timestep_secs(),
                            }
                        })
                    })
            })
    }

    /// How the engine stored the friction impulses of a manifold.
    fn friction_of(&self, manifold: &ContactManifold) -> FrictionRecord {
        let articulated = |body: Option<RigidBodyHandle>| {
            body.is_some_and(|body| {
                self.physics
                    .multibody_joints
                    .rigid_body_link(body)
                    .is_some()
            })
        };
        let data = &manifold.data;
        let parameters = &self.layout.parameters;
        if parameters.friction_model == FrictionModel::Coulomb
            || articulated(data.rigid_body1)
            || articulated(data.rigid_body2)
        {
            return FrictionRecord::PerPoint;
        }
        let normal: f32 = data
            .solver_contacts
            .iter()
            .map(|contact| {
                manifold.points[contact.contact_indices()[0] as usize]
                    .data
                    .impulse
            })
            .sum();
        FrictionRecord::PerPatch {
            substeps: parameters.num_solver_iterations as f32,
            normal_impulse: normal,
        }
    }

    /// Force of geom `a` on geom `b` in newtons, world frame, averaged over the last step.
    pub fn contact_force(&self, a: GeomId, b: GeomId) -> Vector {
        let mut total = Vector::ZERO;
        for contact in self.contacts() {
            if contact.geom_a == a && contact.geom_b == b {
                total += contact.force_newtons;
            } else if contact.geom_a == b && contact.geom_b == a {
                total -= contact.force_newtons;
            }
        }
        total
    }

    /// Sum of the contact forces on the geoms of a body in newtons, world frame, averaged over the last step.
    pub fn body_contact_force(&self, body: BodyId) -> Vector {
        let geoms = &self.layout.model.geoms;
        let mut total = Vector::ZERO;
        for contact in self.contacts() {
            if geoms[contact.geom_b.0].body == body {
                total += contact.force_newtons;
            }
            if geoms[contact.geom_a.0].body == body {
                total -= contact.force_newtons;
            }
        }
        total
    }
}
