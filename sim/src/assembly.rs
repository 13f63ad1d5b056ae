//! From a [`Model`] to the engine's bodies, colliders and joints.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rapier3d::dynamics::{
    CoefficientCombineRule, GenericJointBuilder, ImpulseJointSet, IntegrationParameters,
    IslandManager, JointAxesMask, MultibodyDofCoupling, MultibodyIndex, MultibodyJointSet,
    RigidBodyHandle, RigidBodySet, SoftBodySet,
};
use rapier3d::geometry::{
    BroadPhaseBvh, ColliderBuilder, ColliderHandle, ColliderSet, Group, InteractionGroups,
    InteractionTestMode, NarrowPhase, SharedShape,
};
use rapier3d::math::{Pose, Vector};
use rapier3d::pipeline::ActiveHooks;
use rapier3d_mjcf::{ContactFilterMode, MjcfLoaderOptions, MjcfMultibodyOptions, MjcfRobot};
use serde::{Deserialize, Serialize};

use crate::config::{JointLimits, PhysicsConfig};
use crate::contacts::ContactRules;
use crate::error::ModelError;
use crate::lowering::pose32;
use crate::model::{GeomShape, Joint, JointKind, Model};

/// Everything that changes from step to step in the engine.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Physics {
    pub(crate) islands: IslandManager,
    pub(crate) broad_phase: BroadPhaseBvh,
    pub(crate) narrow_phase: NarrowPhase,
    pub(crate) bodies: RigidBodySet,
    pub(crate) colliders: ColliderSet,
    pub(crate) impulse_joints: ImpulseJointSet,
    pub(crate) multibody_joints: MultibodyJointSet,
    pub(crate) soft_bodies: SoftBodySet,
}

/// Where a body of the model lies in the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodySlot {
    pub(crate) handle: RigidBodyHandle,
    /// Pose of the body in the rigid body.
    pub(crate) offset: Pose,
    /// Mechanism and link, where articulated.
    pub(crate) link: Option<LinkSlot>,
}

/// A link of a mechanism.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSlot {
    pub(crate) multibody: MultibodyIndex,
    pub(crate) link: usize,
}

/// Where a joint lies in the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum JointSlot {
    /// A body that moves freely; its frame is shifted from the model's by `offset`.
    Free {
        handle: RigidBodyHandle,
        offset: Pose,
        link: Option<LinkSlot>,
    },
    /// A rotation about a point.
    Ball { link: LinkSlot, dof: usize },
    /// One coordinate.
    Scalar {
        link: LinkSlot,
        /// First entry in the mechanism's generalized vectors.
        dof: usize,
        /// 0 for slides, 3 for hinges.
        axis: usize,
        reference: f32,
    },
}

/// The part of a world that never changes: shared between clones.
pub(crate) struct Layout {
    pub(crate) model: Arc<Model>,
    pub(crate) bodies: Vec<BodySlot>,
    pub(crate) joints: Vec<JointSlot>,
    pub(crate) mechanisms: Vec<MultibodyIndex>,
    pub(crate) rules: ContactRules,
    /// Inverse of the inertia felt by each actuated joint in the initial pose.
    pub(crate) inverse_inertia: Vec<f32>,
    /// Actuators of each joint.
    pub(crate) actuators_of_joint: Vec<Vec<usize>>,
    /// Nothing but gravity and contacts acts on any joint.
    pub(crate) is_passive: bool,
    pub(crate) parameters: IntegrationParameters,
    pub(crate) joint_limits: JointLimits,
    /// Checksum of the model and of the settings.
    pub(crate) fingerprint: u32,
    pub(crate) gravity: Vector,
    /// The initial state, never stepped.
    pub(crate) initial: Physics,
}

fn engine_error(model: &Model, message: &str) -> ModelError {
    ModelError::Engine {
        file: model.name.clone(),
        message: message.to_owned(),
    }
}

/// Builds the engine's state from a model.
pub(crate) fn assemble(model: &Arc<Model>, config: &PhysicsConfig) -> Result<Layout, ModelError> {
    let parameters = config.integration_parameters()?;
    let mut hasher = crc32fast::Hasher::new_with_initial(model.fingerprint);
    hasher.update(&bincode::serialize(config).unwrap_or_default());
    let fingerprint = hasher.finalize();
    // The engine asserts on some degenerate geometry that only it can judge.
    catch_unwind(AssertUnwindSafe(|| {
        assemble_unguarded(model, parameters, config.joint_limits, fingerprint)
    }))
    .unwrap_or_else(|_| Err(engine_error(model, "the physics engine rejected it")))
}

fn assemble_unguarded(
    model: &Arc<Model>,
    parameters: IntegrationParameters,
    joint_limits: JointLimits,
    fingerprint: u32,
) -> Result<Layout, ModelError> {
    let options = MjcfLoaderOptions {
        skip_plane_geoms: false,
        contact_filter_mode: ContactFilterMode::Asymmetric,
        disable_joint_motors: true,
        collider_blueprint: ColliderBuilder::default()
            .density(0.0)
            .friction_combine_rule(CoefficientCombineRule::Max),
        ..MjcfLoaderOptions::default()
    };
    let robot = MjcfRobot::from_model(&model.lowered, options, Path::new("."));
    let dofs = robot.qpos_dofs.clone();
    // Loader's body of each lowered body, spacers of multi-joint bodies left out.
    let mut loader_index = vec![0; model.lowered.bodies.len()];
    for (index, body) in robot.bodies.iter().enumerate() {
        if !body.is_intermediate {
            loader_index[body.mjcf_body_id] = index;
        }
    }
    let mut physics = Physics {
        islands: IslandManager::new(),
        broad_phase: BroadPhaseBvh::new(),
        narrow_phase: NarrowPhase::new(),
        bodies: RigidBodySet::new(),
        colliders: ColliderSet::new(),
        impulse_joints: ImpulseJointSet::new(),
        multibody_joints: MultibodyJointSet::new(),
        soft_bodies: SoftBodySet::new(),
    };
    let handles = robot.insert_using_multibody_joints(
        &mut physics.bodies,
        &mut physics.colliders,
        &mut physics.multibody_joints,
        &mut physics.impulse_joints,
        MjcfMultibodyOptions::empty(),
    );
    // The loader leaves the world out where nothing is attached to it.
    let world = match &handles.bodies[0] {
        Some(world) => world.body,
        None => physics
            .bodies
            .insert(rapier3d::dynamics::RigidBodyBuilder::fixed()),
    };
    let rigids: Vec<RigidBodyHandle> = loader_index
        .iter()
        .map(|&index| handles.bodies[index].as_ref().map_or(world, |b| b.body))
        .collect();
    let mut colliders = vec![None; model.geoms.len()];
    for (rigid, geoms) in model.rigid_geoms.iter().enumerate() {
        let mut loaded = handles.bodies[loader_index[rigid]]
            .iter()
            .flat_map(|body| body.colliders.iter().map(|c| c.handle));
        for &geom in geoms {
            if model.geoms[geom].visual_only {
                continue;
            }
            colliders[geom] = if let GeomShape::Mesh { vertices, .. } = &model.geoms[geom].shape {
                Some(insert_hull(
                    model,
                    &mut physics,
                    rigids[rigid],
                    geom,
                    vertices,
                )?)
            } else {
                let handle = loaded
                    .next()
                    .ok_or_else(|| engine_error(model, "a geom has no collider"))?;
                Some(handle)
            };
        }
    }
    for (geom, handle) in colliders.iter().enumerate() {
        if let Some(collider) = handle.and_then(|handle| physics.colliders.get_mut(handle)) {
            let spec = &model.geoms[geom];
            collider.user_data = geom as u128;
            collider.set_friction(spec.engine_friction());
            collider.set_collision_groups(InteractionGroups::new(
                Group::from(spec.contype),
                Group::from(spec.conaffinity),
                InteractionTestMode::Or,
            ));
            collider.set_active_hooks(ActiveHooks::empty());
        }
    }
    for (_, body) in physics.bodies.iter_mut() {
        // Sleeping would make the result depend on the past.
        let activation = body.activation_mut();
        activation.normalized_linear_threshold = -1.0;
        activation.angular_threshold = -1.0;
        body.recompute_mass_properties_from_colliders(&physics.colliders);
    }
    let rules = contact_rules(model, &mut physics, &rigids, &colliders);
    let bodies: Vec<BodySlot> = model
        .bodies
        .iter()
        .map(|body| {
            let handle = rigids[body.rigid];
            BodySlot {
                handle,
                offset: pose32(&body.offset),
                link: link_of(&physics, handle),
            }
        })
        .collect();
    let child_of_joint: Vec<RigidBodyHandle> = dofs
        .iter()
        .map(|dof| handles.bodies[dof.body].as_ref().map_or(world, |b| b.body))
        .collect();
    if child_of_joint.len() != model.joints.len() {
        return Err(engine_error(model, "a joint was dropped"));
    }
    settle_mechanisms(&mut physics);
    let mut joints = Vec::with_capacity(model.joints.len());
    for (index, joint) in model.joints.iter().enumerate() {
        joints.push(joint_slot(
            model,
            &mut physics,
            index,
            joint.kind,
            child_of_joint[index],
        )?);
    }
    if joint_limits != JointLimits::Hard {
        drop_limits(&mut physics, &joints);
    }
    add_couplings(model, &mut physics, &joints)?;
    add_closures(model, &mut physics, &rigids);
    let inverse_inertia = inverse_inertia(&mut physics, &joints);
    let layout = Layout {
        model: Arc::clone(model),
        bodies,
        joints,
        mechanisms: mechanisms(&physics),
        rules,
        inverse_inertia,
        is_passive: model.actuators.is_empty()
            && model
                .joints
                .iter()
                .all(|joint| is_passive(joint, joint_limits)),
        actuators_of_joint: (0..model.joints.len())
            .map(|joint| {
                let drives = |&actuator: &usize| model.actuators[actuator].joint.0 == joint;
                (0..model.actuators.len()).filter(drives).collect()
            })
            .collect(),
        parameters,
        joint_limits,
        fingerprint,
        gravity: Vector::from(model.gravity),
        initial: physics,
    };
    Ok(layout)
}

/// The mechanism and link that a rigid body is part of.
fn link_of(physics: &Physics, handle: RigidBodyHandle) -> Option<LinkSlot> {
    physics
        .multibody_joints
        .rigid_body_link(handle)
        .map(|link| LinkSlot {
            multibody: link.multibody,
            link: link.id,
        })
}

/// All mechanisms, each once, in a fixed order.
fn mechanisms(physics: &Physics) -> Vec<MultibodyIndex> {
    let mut indices = Vec::new();
    for (handle, _) in physics.bodies.iter() {
        if let Some(link) = physics.multibody_joints.rigid_body_link(handle)
            && !indices.contains(&link.multibody)
        {
            indices.push(link.multibody);
        }
    }
    indices
}

/// Gives every mechanism its final number of coordinates (fixed roots have none) and takes out the damping
/// that the engine adds to rotations by default.
fn settle_mechanisms(physics: &mut Physics) {
    for index in mechanisms(physics) {
        if let Some(multibody) = physics.multibody_joints.get_multibody_mut(index) {
            multibody.forward_kinematics(&physics.bodies, true);
            multibody.damping_mut().fill(0.0);
        }
    }
}

/// Whether no spring, damper or soft limit acts on a joint.
fn is_passive(joint: &Joint, limits: JointLimits) -> bool {
    let is_limited_softly = matches!(limits, JointLimits::Soft { .. }) && joint.range.is_some();
    joint.stiffness == 0.0 && joint.damping == 0.0 && !is_limited_softly
}

fn joint_slot(
    model: &Model,
    physics: &mut Physics,
    index: usize,
    kind: JointKind,
    child: RigidBodyHandle,
) -> Result<JointSlot, ModelError> {
    let joint = &model.joints[index];
    let link = link_of(physics, child);
    if kind == JointKind::Free {
        let body = &model.bodies[joint.body.0];
        if let Some(link) = link {
            if let Some(multibody) = physics.multibody_joints.get_multibody_mut(link.multibody) {
                multibody.damping_mut().rows_mut(0, 6).fill(joint.damping);
                multibody.armature_mut().rows_mut(0, 6).fill(joint.armature);
            }
        } else if joint.damping > 0.0
            && let Some(rigid) = physics.bodies.get_mut(child)
        {
            // The engine damps free bodies by a rate, so the coefficient is divided by the inertia.
            let inertia = rigid.mass_properties().local_mprops.principal_inertia();
            rigid.set_linear_damping(joint.damping / rigid.mass());
            rigid.set_angular_damping(joint.damping * 3.0 / (inertia.x + inertia.y + inertia.z));
        }
        return Ok(JointSlot::Free {
            handle: child,
            offset: pose32(&body.offset),
            link,
        });
    }
    let link = link.ok_or_else(|| engine_error(model, "a joint is not part of a mechanism"))?;
    let dof = physics
        .multibody_joints
        .get_multibody(link.multibody)
        .and_then(|multibody| multibody.link(link.link))
        .map(rapier3d::dynamics::MultibodyLink::assembly_id)
        .ok_or_else(|| engine_error(model, "a joint has no link"))?;
    // Of scalar joints the damping is set in every step, together with that of their servos.
    if kind == JointKind::Ball
        && let Some(multibody) = physics.multibody_joints.get_multibody_mut(link.multibody)
    {
        multibody.damping_mut().rows_mut(dof, 3).fill(joint.damping);
    }
    Ok(match kind {
        JointKind::Ball => JointSlot::Ball { link, dof },
        _ => JointSlot::Scalar {
            link,
            dof,
            axis: if kind == JointKind::Hinge { 3 } else { 0 },
            reference: joint.reference as f32,
        },
    })
}

/// Takes the engine's own limits off all scalar joints.
fn drop_limits(physics: &mut Physics, joints: &[JointSlot]) {
    for joint in joints {
        if let JointSlot::Scalar { link, axis, .. } = *joint
            && let Some(link) = physics
                .multibody_joints
                .get_multibody_mut(link.multibody)
                .and_then(|multibody| multibody.link_mut(link.link))
        {
            let axis = JointAxesMask::from_bits_truncate(1 << axis);
            link.joint.data.limit_axes.remove(axis);
        }
    }
}

/// Couplings become constraints between two coordinates of one mechanism.
fn add_couplings(
    model: &Model,
    physics: &mut Physics,
    joints: &[JointSlot],
) -> Result<(), ModelError> {
    for coupling in &model.couplings {
        let (
            JointSlot::Scalar {
                link: a,
                axis: axis1,
                ..
            },
            JointSlot::Scalar {
                link: b,
                axis: axis2,
                ..
            },
        ) = (joints[coupling.independent], joints[coupling.dependent])
        else {
            return Err(engine_error(
                model,
                "a coupled joint is not a hinge or slide",
            ));
        };
        if a.multibody != b.multibody {
            return Err(engine_error(
                model,
                "two coupled joints belong to different free bodies, expected one mechanism",
            ));
        }
        if let Some(multibody) = physics.multibody_joints.get_multibody_mut(a.multibody) {
            multibody.add_dof_coupling(MultibodyDofCoupling {
                link1: a.link,
                dof1: 0,
                axis1,
                link2: b.link,
                dof2: 0,
                axis2,
                coeff: coupling.ratio as f32,
                offset: coupling.offset as f32,
            });
        }
    }
    Ok(())
}

/// Loop closures become impulse joints.
fn add_closures(model: &Model, physics: &mut Physics, rigids: &[RigidBodyHandle]) {
    for closure in &model.closures {
        let locked = if closure.weld {
            JointAxesMask::LOCKED_FIXED_AXES
        } else {
            JointAxesMask::LIN_AXES
        };
        let joint = GenericJointBuilder::new(locked)
            .local_frame1(pose32(&closure.frame_a))
            .local_frame2(pose32(&closure.frame_b))
            // Who touches whom is said by the contact rules alone.
            .contacts_enabled(true)
            .build();
        physics.impulse_joints.insert(
            rigids[closure.rigid_a],
            rigids[closure.rigid_b],
            joint,
            true,
        );
    }
}

/// A mesh collides as its convex hull.
fn insert_hull(
    model: &Model,
    physics: &mut Physics,
    body: RigidBodyHandle,
    geom: usize,
    vertices: &[[f32; 3]],
) -> Result<ColliderHandle, ModelError> {
    let points: Vec<Vector> = vertices.iter().map(|&v| Vector::from(v)).collect();
    let shape = SharedShape::convex_hull(&points).ok_or_else(|| {
        engine_error(
            model,
            "a mesh has no convex hull, expected corners that span a volume",
        )
    })?;
    let spec = &model.geoms[geom];
    let offset = pose32(&model.bodies[spec.body.0].offset);
    let collider = ColliderBuilder::new(shape)
        .density(0.0)
        .position(offset * spec.local_pose)
        .friction(spec.engine_friction())
        .friction_combine_rule(CoefficientCombineRule::Max)
        .build();
    Ok(physics
        .colliders
        .insert_with_parent(collider, body, &mut physics.bodies))
}

/// Pairs that never touch or that have a friction of their own, and the hooks that look them up.
fn contact_rules(
    model: &Model,
    physics: &mut Physics,
    rigids: &[RigidBodyHandle],
    colliders: &[Option<ColliderHandle>],
) -> ContactRules {
    let mut rules = ContactRules::default();
    for &[a, b] in &model.excluded_rigids {
        let pair = [rigids[a], rigids[b]];
        rules.exclude_bodies(pair[0], pair[1]);
        for body in pair {
            let attached: Vec<ColliderHandle> = physics
                .bodies
                .get(body)
                .map_or_else(Vec::new, |b| b.colliders().to_vec());
            for handle in attached {
                add_hooks(physics, handle, ActiveHooks::FILTER_CONTACT_PAIRS);
            }
        }
    }
    for pair in &model.excluded_bodies {
        let [of_a, of_b] = pair.map(|body| {
            let geoms = model.geoms.iter().zip(colliders);
            geoms
                .filter(|(geom, _)| geom.body.0 == body)
                .filter_map(|(_, collider)| *collider)
                .collect::<Vec<_>>()
        });
        for &a in &of_a {
            for &b in &of_b {
                rules.exclude_colliders(a, b);
            }
        }
        for handle in of_a.into_iter().chain(of_b) {
            add_hooks(physics, handle, ActiveHooks::FILTER_CONTACT_PAIRS);
        }
    }
    let mut frictions = BTreeMap::new();
    for pair in &model.pair_frictions {
        let [Some(a), Some(b)] = pair.geoms.map(|g| colliders[g]) else {
            continue;
        };
        frictions.insert(pair.geoms, pair.friction);
        rules.set_friction(a, b, pair.friction);
        for handle in [a, b] {
            add_hooks(physics, handle, ActiveHooks::MODIFY_SOLVER_CONTACTS);
        }
    }
    rules
}

fn add_hooks(physics: &mut Physics, collider: ColliderHandle, hooks: ActiveHooks) {
    if let Some(collider) = physics.colliders.get_mut(collider) {
        collider.set_active_hooks(collider.active_hooks() | hooks);
    }
}

/// Inverse inertia felt by each scalar joint with all others free, in the initial pose; 0 for other joints.
fn inverse_inertia(physics: &mut Physics, joints: &[JointSlot]) -> Vec<f32> {
    let mut by_mechanism: Vec<(MultibodyIndex, Vec<f32>)> = Vec::new();
    for index in mechanisms(physics) {
        if let Some(multibody) = physics.multibody_joints.get_multibody_mut(index) {
            let values = multibody.dof_inverse_inertia(&physics.bodies);
            by_mechanism.push((index, values.iter().copied().collect()));
        }
    }
    joints
        .iter()
        .map(|joint| match joint {
            JointSlot::Scalar { link, dof, .. } => by_mechanism
                .iter()
                .find(|(index, _)| *index == link.multibody)
                .and_then(|(_, values)| values.get(*dof).copied())
                .unwrap_or(0.0),
            _ => 0.0,
        })
        .collect()
}
