//! A model in motion.

use std::sync::Arc;

use rapier3d::dynamics::{CCDSolver, IntegrationParameters};
use rapier3d::math::{Pose, Vector};
use rapier3d::pipeline::PhysicsPipeline;

use crate::assembly::{Layout, LinkSlot, Physics, assemble};
use crate::config::PhysicsConfig;
use crate::error::ModelError;
use crate::model::{ActuatorId, BodyId, GeomId, JointId, Model, SiteId};

/// A simulated scene.
///
/// Cloning copies the whole physics state; the clone continues to the same bits.
pub struct World {
    pub(crate) layout: Arc<Layout>,
    pub(crate) physics: Physics,
    pub(crate) ctrl: Vec<f32>,
    pub(crate) steps: u64,
    pipeline: PhysicsPipeline,
    ccd: CCDSolver,
}

impl Clone for World {
    fn clone(&self) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            physics: self.physics.clone(),
            ctrl: self.ctrl.clone(),
            steps: self.steps,
            // Work buffers, of which no result depends.
            pipeline: PhysicsPipeline::new(),
            ccd: CCDSolver::new(),
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("model", &self.layout.model.name)
            .field("time_secs", &self.time_secs())
            .finish_non_exhaustive()
    }
}

impl World {
    /// Builds the world in the model's initial configuration.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a setting out of range; [`ModelError::Engine`] if the engine rejects the model.
    pub fn new(model: &Arc<Model>, config: &PhysicsConfig) -> Result<Self, ModelError> {
        let layout = Arc::new(assemble(model, config)?);
        let mut world = Self {
            physics: layout.initial.clone(),
            ctrl: vec![0.0; model.nu()],
            steps: 0,
            pipeline: PhysicsPipeline::new(),
            ccd: CCDSolver::new(),
            layout,
        };
        world.refresh();
        Ok(world)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.layout.model
    }

    /// The model, to build another world from.
    pub fn shared_model(&self) -> &Arc<Model> {
        &self.layout.model
    }

    /// Length of a physics step.
    pub fn timestep_secs(&self) -> f32 {
        self.layout.parameters.dt
    }

    /// Simulated time since the last [`World::set_state`] or since construction.
    pub fn time_secs(&self) -> f64 {
        self.steps as f64 * f64::from(self.layout.parameters.dt)
    }

    /// Advances by one physics step under the current controls.
    pub fn step(&mut self) {
        self.apply_actuators();
        let layout = Arc::clone(&self.layout);
        self.run(&layout, &layout.parameters);
        self.steps += 1;
    }

    /// Brings poses, contacts and ray casts up to the current coordinates; no time passes.
    pub(crate) fn refresh(&mut self) {
        let layout = Arc::clone(&self.layout);
        let parameters = IntegrationParameters {
            dt: 0.0,
            ..layout.parameters
        };
        self.run(&layout, &parameters);
    }

    fn run(&mut self, layout: &Layout, parameters: &IntegrationParameters) {
        let physics = &mut self.physics;
        self.pipeline.step(
            layout.gravity,
            parameters,
            &mut physics.islands,
            &mut physics.broad_phase,
            &mut physics.narrow_phase,
            &mut physics.bodies,
            &mut physics.colliders,
            &mut physics.impulse_joints,
            &mut physics.multibody_joints,
            &mut physics.soft_bodies,
            &mut self.ccd,
            &layout.rules,
            &(),
        );
    }

    /// The body of that name.
    pub fn body_id(&self, name: &str) -> Option<BodyId> {
        self.layout.model.body_id(name)
    }

    /// The joint of that name.
    pub fn joint_id(&self, name: &str) -> Option<JointId> {
        self.layout.model.joint_id(name)
    }

    /// The geom of that name.
    pub fn geom_id(&self, name: &str) -> Option<GeomId> {
        self.layout.model.geom_id(name)
    }

    /// The actuator of that name.
    pub fn actuator_id(&self, name: &str) -> Option<ActuatorId> {
        self.layout.model.actuator_id(name)
    }

    /// The site of that name.
    pub fn site_id(&self, name: &str) -> Option<SiteId> {
        self.layout.model.site_id(name)
    }

    /// Pose of a body's frame in the world.
    pub fn body_pose(&self, body: BodyId) -> Pose {
        let slot = &self.layout.bodies[body.0];
        *self.physics.bodies[slot.handle].position() * slot.offset
    }

    /// Velocity of a body: of its frame's origin in m/s, and angular in rad/s; both in the world frame.
    pub fn body_velocity(&self, body: BodyId) -> (Vector, Vector) {
        let slot = &self.layout.bodies[body.0];
        let rigid = &self.physics.bodies[slot.handle];
        let (at_com, angular) = match slot.link {
            Some(link) => self.link_velocity(link),
            None => (rigid.linvel(), rigid.angvel()),
        };
        let origin = rigid.position().transform_point(slot.offset.translation);
        (
            at_com + angular.cross(origin - rigid.center_of_mass()),
            angular,
        )
    }

    /// Velocity of a link's centre of mass and its angular velocity. The engine's own record lags a sub-step behind.
    pub(crate) fn link_velocity(&self, link: LinkSlot) -> (Vector, Vector) {
        let Some(multibody) = self.physics.multibody_joints.get_multibody(link.multibody) else {
            return (Vector::ZERO, Vector::ZERO);
        };
        let velocities = multibody.generalized_velocity();
        let jacobian = multibody.body_jacobian(link.link);
        let mut out = [0.0; 6];
        for (column, &velocity) in velocities.iter().enumerate() {
            for (row, value) in out.iter_mut().enumerate() {
                *value += jacobian[(row, column)] * velocity;
            }
        }
        (
            Vector::new(out[0], out[1], out[2]),
            Vector::new(out[3], out[4], out[5]),
        )
    }

    /// Pose of a site in the world.
    pub fn site_pose(&self, site: SiteId) -> Pose {
        let spec = &self.layout.model.sites[site.0];
        self.body_pose(spec.body) * spec.local_pose
    }

    /// Moves a mocap body to `pose` over the next step; what it touches is pushed with the resulting velocity.
    /// Does nothing for other bodies.
    pub fn set_mocap_pose(&mut self, body: BodyId, pose: Pose) {
        let slot = self.layout.bodies[body.0];
        if self.layout.model.bodies[body.0].mocap
            && let Some(rigid) = self.physics.bodies.get_mut(slot.handle)
        {
            rigid.set_next_kinematic_position(pose * slot.offset.inverse());
        }
    }

    /// Whether every coordinate and velocity is a finite number. The engine freezes a body that is thrown out of the range of
    /// numbers; such a world counts as not finite until its state is set again.
    pub fn is_finite(&self) -> bool {
        let coordinates = self
            .layout
            .joints
            .iter()
            .all(|joint| self.joint_is_finite(joint));
        coordinates
            && self
                .physics
                .bodies
                .iter()
                .all(|(_, body)| body.is_enabled())
    }
}
