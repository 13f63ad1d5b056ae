//! Reading and writing positions and velocities in MuJoCo's order.

use rapier3d::dynamics::{MultibodyIndex, MultibodyJoint};
use rapier3d::math::{Pose, Rotation, Vector};

use crate::assembly::{JointSlot, LinkSlot, Physics};
use crate::error::StateError;
use crate::model::{JointId, JointKind};
use crate::world::World;

/// Checks the length of a vector and that all its entries are finite.
pub(crate) fn check(
    vector: &'static str,
    values: &[f32],
    expected: usize,
) -> Result<(), StateError> {
    if values.len() != expected {
        return Err(StateError::Length {
            vector,
            found: values.len(),
            expected,
        });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(StateError::NotFinite {
            vector,
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}

fn quat_wxyz(rotation: Rotation) -> [f32; 4] {
    [rotation.w, rotation.x, rotation.y, rotation.z]
}

fn rotation_from_wxyz(q: &[f32]) -> Rotation {
    Rotation::from_xyzw(q[1], q[2], q[3], q[0]).normalize()
}

/// Rotation vector of a unit quaternion, of length at most π.
fn scaled_axis(rotation: Rotation) -> Vector {
    let q = if rotation.w < 0.0 {
        -rotation
    } else {
        rotation
    };
    let vector = Vector::new(q.x, q.y, q.z);
    let sine = vector.length();
    if sine < 1e-12 {
        return vector * 2.0;
    }
    vector * (2.0 * libm::atan2f(sine, q.w) / sine)
}

impl Physics {
    fn coordinate(&self, link: LinkSlot, axis: usize) -> f32 {
        self.multibody_joints
            .get_multibody(link.multibody)
            .and_then(|multibody| multibody.link(link.link))
            .map_or(0.0, |link| link.joint().coords()[axis])
    }

    fn velocity(&self, link: LinkSlot, dof: usize) -> f32 {
        self.multibody_joints
            .get_multibody(link.multibody)
            .map_or(0.0, |multibody| multibody.generalized_velocity()[dof])
    }

    fn set_velocity(&mut self, link: LinkSlot, dof: usize, value: f32) {
        if let Some(multibody) = self
            .multibody_joints
            .get_multibody_mut_internal(link.multibody)
        {
            multibody.generalized_velocity_mut()[dof] = value;
        }
    }

    /// Sets the coordinates of a joint to exactly `displacement` away from zero.
    fn set_joint(&mut self, link: LinkSlot, displacement: &[f32]) {
        if let Some(link) = self
            .multibody_joints
            .get_multibody_mut_internal(link.multibody)
            .and_then(|multibody| multibody.link_mut(link.link))
        {
            let mut joint = MultibodyJoint::new(link.joint.data, link.joint.kinematic);
            for axis in 0..6 {
                let (stiffness, rest) = link.joint.spring(axis);
                joint.set_spring(axis, stiffness, rest);
            }
            joint.apply_displacement(displacement);
            link.joint = joint;
        }
    }

    /// Moves the rigid bodies of a mechanism to where its coordinates say.
    fn forward(&mut self, mechanism: MultibodyIndex) {
        if let Some(multibody) = self.multibody_joints.get_multibody_mut(mechanism) {
            multibody.forward_kinematics(&self.bodies, true);
            multibody.update_rigid_bodies(&mut self.bodies, true);
        }
    }
}

impl World {
    /// Length of `qpos`.
    pub fn nq(&self) -> usize {
        self.layout.model.nq
    }

    /// Length of `qvel`.
    pub fn nv(&self) -> usize {
        self.layout.model.nv
    }

    /// First entry of a joint in `qpos`.
    pub fn qpos_address(&self, joint: JointId) -> usize {
        self.layout.model.joints[joint.0].qpos_address
    }

    /// First entry of a joint in `qvel`.
    pub fn qvel_address(&self, joint: JointId) -> usize {
        self.layout.model.joints[joint.0].qvel_address
    }

    /// Positions in MuJoCo's order, `[nq]`: hinges in radians, slides in metres, free joints as xyz and quaternion wxyz.
    ///
    /// # Panics
    /// If `out` is shorter than [`World::nq`].
    pub fn qpos(&self, out: &mut [f32]) {
        for (spec, slot) in self.layout.model.joints.iter().zip(&self.layout.joints) {
            let out = &mut out[spec.qpos_address..];
            match *slot {
                JointSlot::Scalar {
                    link,
                    axis,
                    reference,
                    ..
                } => out[0] = self.physics.coordinate(link, axis) + reference,
                JointSlot::Ball { link, .. } => {
                    let rotation = self
                        .physics
                        .multibody_joints
                        .get_multibody(link.multibody)
                        .and_then(|multibody| multibody.link(link.link))
                        .map_or(Rotation::IDENTITY, |link| link.joint().joint_rot());
                    out[..4].copy_from_slice(&quat_wxyz(rotation));
                }
                JointSlot::Free { handle, offset, .. } => {
                    let pose = *self.physics.bodies[handle].position() * offset;
                    out[..3].copy_from_slice(&pose.translation.to_array());
                    out[3..7].copy_from_slice(&quat_wxyz(pose.rotation));
                }
            }
        }
    }

    /// Velocities in MuJoCo's order, `[nv]`: free joints as linear (world frame) and angular (body frame).
    ///
    /// # Panics
    /// If `out` is shorter than [`World::nv`].
    pub fn qvel(&self, out: &mut [f32]) {
        for (spec, slot) in self.layout.model.joints.iter().zip(&self.layout.joints) {
            let out = &mut out[spec.qvel_address..];
            match *slot {
                JointSlot::Scalar { link, dof, .. } => out[0] = self.physics.velocity(link, dof),
                JointSlot::Ball { link, dof } => {
                    // The engine's is in the parent's joint frame.
                    let rotation = self
                        .physics
                        .multibody_joints
                        .get_multibody(link.multibody)
                        .and_then(|multibody| multibody.link(link.link))
                        .map_or(Rotation::IDENTITY, |link| link.joint().joint_rot());
                    let world = Vector::new(
                        self.physics.velocity(link, dof),
                        self.physics.velocity(link, dof + 1),
                        self.physics.velocity(link, dof + 2),
                    );
                    out[..3].copy_from_slice(&(rotation.inverse() * world).to_array());
                }
                JointSlot::Free { .. } => {
                    let (linear, angular) = self.body_velocity(spec.body);
                    let rotation = self.body_pose(spec.body).rotation;
                    out[..3].copy_from_slice(&linear.to_array());
                    out[3..6].copy_from_slice(&(rotation.inverse() * angular).to_array());
                }
            }
        }
    }

    /// Writes a whole state. Everything the engine remembers from before (contacts, warm starts) is dropped, so what
    /// follows is a function of `qpos`, `qvel`, the controls and the mocap poses alone. Time restarts at zero.
    ///
    /// # Errors
    /// A [`StateError`] that names the entry; the state is then unchanged.
    pub fn set_state(&mut self, qpos: &[f32], qvel: &[f32]) -> Result<(), StateError> {
        check("qpos", qpos, self.nq())?;
        check("qvel", qvel, self.nv())?;
        for joint in &self.layout.model.joints {
            let index = match joint.kind {
                JointKind::Free => joint.qpos_address + 3,
                JointKind::Ball => joint.qpos_address,
                JointKind::Hinge | JointKind::Slide => continue,
            };
            let norm = qpos[index..index + 4]
                .iter()
                .map(|v| v * v)
                .sum::<f32>()
                .sqrt();
            if !(norm > 1e-6 && norm.is_finite()) {
                return Err(StateError::Quaternion { index, norm });
            }
        }
        let mocap: Vec<(rapier3d::dynamics::RigidBodyHandle, Pose)> = self
            .layout
            .model
            .bodies
            .iter()
            .zip(&self.layout.bodies)
            .filter(|(spec, _)| spec.mocap)
            .map(|(_, slot)| {
                (
                    slot.handle,
                    *self.physics.bodies[slot.handle].next_position(),
                )
            })
            .collect();
        self.physics.clone_from(&self.layout.initial);
        for (handle, pose) in mocap {
            self.physics.bodies[handle].set_position(pose, true);
        }
        let layout = std::sync::Arc::clone(&self.layout);
        for (spec, slot) in layout.model.joints.iter().zip(&layout.joints) {
            let q = &qpos[spec.qpos_address..];
            match *slot {
                JointSlot::Scalar {
                    link, reference, ..
                } => self.physics.set_joint(link, &[q[0] - reference]),
                JointSlot::Ball { link, .. } => {
                    let turn = scaled_axis(rotation_from_wxyz(&q[..4]));
                    self.physics.set_joint(link, &turn.to_array());
                }
                JointSlot::Free { handle, offset, .. } => {
                    let pose = Pose::from_parts(
                        Vector::new(q[0], q[1], q[2]),
                        rotation_from_wxyz(&q[3..7]),
                    );
                    self.physics.bodies[handle].set_position(pose * offset.inverse(), true);
                }
            }
        }
        for &mechanism in &layout.mechanisms {
            self.physics.forward(mechanism);
        }
        for (spec, slot) in layout.model.joints.iter().zip(&layout.joints) {
            let v = &qvel[spec.qvel_address..];
            match *slot {
                JointSlot::Scalar { link, dof, .. } => self.physics.set_velocity(link, dof, v[0]),
                JointSlot::Ball { link, dof } => {
                    let q = &qpos[spec.qpos_address..];
                    let world = rotation_from_wxyz(&q[..4]) * Vector::new(v[0], v[1], v[2]);
                    for axis in 0..3 {
                        self.physics.set_velocity(link, dof + axis, world[axis]);
                    }
                }
                JointSlot::Free { .. } => {
                    let rotation = self.body_pose(spec.body).rotation;
                    self.write_free_velocity(
                        slot,
                        Vector::new(v[0], v[1], v[2]),
                        rotation * Vector::new(v[3], v[4], v[5]),
                    );
                }
            }
        }
        self.steps = 0;
        self.refresh();
        Ok(())
    }

    /// Velocity of the body frame's origin and angular velocity, both in the world frame.
    fn write_free_velocity(&mut self, slot: &JointSlot, linear: Vector, angular: Vector) {
        let JointSlot::Free {
            handle,
            offset,
            link,
        } = *slot
        else {
            return;
        };
        let rigid = &mut self.physics.bodies[handle];
        let origin = rigid.position().transform_point(offset.translation);
        let at_com = linear + angular.cross(rigid.center_of_mass() - origin);
        rigid.set_linvel(at_com, true);
        rigid.set_angvel(angular, true);
        if let Some(link) = link {
            for axis in 0..3 {
                self.physics.set_velocity(link, axis, at_com[axis]);
                self.physics.set_velocity(link, 3 + axis, angular[axis]);
            }
        }
    }

    /// Position of a hinge (radians) or slide (metres); 0 for other joints.
    pub fn joint_position(&self, joint: JointId) -> f32 {
        match self.layout.joints[joint.0] {
            JointSlot::Scalar {
                link,
                axis,
                reference,
                ..
            } => self.physics.coordinate(link, axis) + reference,
            _ => 0.0,
        }
    }

    /// Velocity of a hinge (rad/s) or slide (m/s); 0 for other joints.
    pub fn joint_velocity(&self, joint: JointId) -> f32 {
        match self.layout.joints[joint.0] {
            JointSlot::Scalar { link, dof, .. } => self.physics.velocity(link, dof),
            _ => 0.0,
        }
    }

    /// Moves one hinge or slide; velocities and contact memory stay. Other joints are left alone.
    pub fn set_joint_position(&mut self, joint: JointId, position: f32) {
        if let JointSlot::Scalar {
            link, reference, ..
        } = self.layout.joints[joint.0]
        {
            self.physics.set_joint(link, &[position - reference]);
            self.physics.forward(link.multibody);
        }
    }

    /// Sets the velocity of one hinge or slide. Other joints are left alone.
    pub fn set_joint_velocity(&mut self, joint: JointId, velocity: f32) {
        if let JointSlot::Scalar { link, dof, .. } = self.layout.joints[joint.0] {
            self.physics.set_velocity(link, dof, velocity);
        }
    }

    /// Moves a free body; velocities and contact memory stay. Other joints are left alone.
    pub fn set_free_pose(&mut self, joint: JointId, pose: Pose) {
        if let JointSlot::Free {
            handle,
            offset,
            link,
        } = self.layout.joints[joint.0]
        {
            self.physics.bodies[handle].set_position(pose * offset.inverse(), true);
            if let Some(link) = link {
                self.physics.forward(link.multibody);
            }
        }
    }

    /// Sets the velocity of a free body: of its frame's origin in m/s, and angular in rad/s; both in the world frame.
    /// Other joints are left alone.
    pub fn set_free_velocity(&mut self, joint: JointId, linear: Vector, angular: Vector) {
        let slot = self.layout.joints[joint.0];
        self.write_free_velocity(&slot, linear, angular);
    }

    pub(crate) fn joint_is_finite(&self, slot: &JointSlot) -> bool {
        match *slot {
            JointSlot::Scalar {
                link, dof, axis, ..
            } => {
                self.physics.coordinate(link, axis).is_finite()
                    && self.physics.velocity(link, dof).is_finite()
            }
            JointSlot::Ball { link, dof } => {
                (0..3).all(|axis| self.physics.velocity(link, dof + axis).is_finite())
            }
            JointSlot::Free { handle, link, .. } => {
                let rigid = &self.physics.bodies[handle];
                rigid.position().is_finite()
                    && rigid.linvel().is_finite()
                    && rigid.angvel().is_finite()
                    && link.is_none_or(|link| {
                        (0..6).all(|axis| self.physics.velocity(link, axis).is_finite())
                    })
            }
        }
    }
}
