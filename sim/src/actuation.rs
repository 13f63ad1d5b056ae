//! Forces of actuators, springs and dampers.
//!
//! A joint feels `τ = c − k·q − d·q̇`: `k` and `d` sum what springs, dampers and servos contribute, `c` the rest. The engine
//! integrates the `k` and `d` terms implicitly, so stiff servos are stable. It has no input for a generalized force, but a
//! spring of negligible stiffness `ε` whose rest position lies at `c/ε` is one, exact to rounding.

use crate::assembly::JointSlot;
use crate::error::StateError;
use crate::model::{Actuator, ActuatorId};
use crate::world::World;

/// Stiffness `ε` of a joint that has no other; its contribution `dt²·ε` to the inertia is below 1e-9 of any real one.
const FORCE_SPRING: f32 = 1e-6;

/// What one actuator contributes to `τ = c − k·q − d·q̇` at its joint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Contribution {
    constant: f32,
    stiffness: f32,
    damping: f32,
}

/// Splits an actuator's force. Within the force range, the position and velocity terms are handed to the implicit
/// integrator; a saturated actuator is a constant force. Saturation is judged by the mean force that the implicit step
/// would apply over `dt` (inverse inertia `m`): `f / (1 + dt·(d + dt·k)·m)`, since the force at the start of the step
/// alone would make stiff dampers chatter between the limits.
fn contribution(
    actuator: &Actuator,
    ctrl: f32,
    position: f32,
    velocity: f32,
    inverse_inertia: f32,
    dt: f32,
) -> Contribution {
    let gear = actuator.gear;
    let [b0, b1, b2] = actuator.bias;
    let drive = actuator.gain * ctrl + b0;
    // A positive position or velocity term is destabilising and cannot be implicit.
    let (stiffness, damping) = ((-b1).max(0.0), (-b2).max(0.0));
    let explicit = drive + b1.max(0.0) * gear * position + b2.max(0.0) * gear * velocity;
    if let Some([low, high]) = actuator.force_range {
        let gear2 = gear * gear;
        let start =
            explicit - stiffness * gear * (position + dt * velocity) - damping * gear * velocity;
        let mean = start / (1.0 + dt * (damping + dt * stiffness) * gear2 * inverse_inertia);
        if mean <= low || mean >= high {
            return Contribution {
                constant: gear * mean.clamp(low, high),
                ..Contribution::default()
            };
        }
    }
    Contribution {
        constant: gear * explicit,
        stiffness: gear * gear * stiffness,
        damping: gear * gear * damping,
    }
}

impl World {
    /// Number of actuators.
    pub fn nu(&self) -> usize {
        self.layout.model.nu()
    }

    /// Sets one control: a position, velocity or torque by the actuator's kind, clipped to its control range.
    /// A value that is not a number leaves the control as it is.
    pub fn set_ctrl(&mut self, actuator: ActuatorId, value: f32) {
        if value.is_nan() {
            return;
        }
        self.ctrl[actuator.0] = match self.layout.model.actuators[actuator.0].ctrl_range {
            Some([low, high]) => value.clamp(low, high),
            None => value,
        };
    }

    /// Sets all controls, `[nu]`, each clipped to its range.
    ///
    /// # Errors
    /// [`StateError::Length`] or [`StateError::NotFinite`]; the controls are then unchanged.
    pub fn set_ctrls(&mut self, ctrl: &[f32]) -> Result<(), StateError> {
        crate::state::check("ctrl", ctrl, self.nu())?;
        for (index, &value) in ctrl.iter().enumerate() {
            self.set_ctrl(ActuatorId(index), value);
        }
        Ok(())
    }

    /// The control in effect, after clipping.
    pub fn ctrl(&self, actuator: ActuatorId) -> f32 {
        self.ctrl[actuator.0]
    }

    /// Hands the forces of this step to the engine.
    pub(crate) fn apply_actuators(&mut self) {
        let layout = &self.layout;
        let dt = layout.parameters.dt;
        for (index, (spec, slot)) in layout.model.joints.iter().zip(&layout.joints).enumerate() {
            let JointSlot::Scalar {
                link,
                dof,
                axis,
                reference,
            } = *slot
            else {
                continue;
            };
            let Some(multibody) = self
                .physics
                .multibody_joints
                .get_multibody_mut_internal(link.multibody)
            else {
                continue;
            };
            let Some(coordinate) = multibody.link(link.link).map(|l| l.joint().coords()[axis])
            else {
                continue;
            };
            let velocity = multibody.generalized_velocity()[dof];
            let position = coordinate + reference;
            let mut constant = spec.stiffness * spec.spring_reference;
            let mut stiffness = spec.stiffness;
            let mut damping = spec.damping;
            for &actuator in &layout.actuators_of_joint[index] {
                let part = contribution(
                    &layout.model.actuators[actuator],
                    self.ctrl[actuator],
                    position,
                    velocity,
                    layout.inverse_inertia[index],
                    dt,
                );
                constant += part.constant;
                stiffness += part.stiffness;
                damping += part.damping;
            }
            // The engine's coordinate is zero where `position` is `reference`.
            let constant = constant - stiffness * reference;
            let stiffness = stiffness.max(FORCE_SPRING);
            multibody.damping_mut()[dof] = damping;
            if let Some(link) = multibody.link_mut(link.link) {
                link.joint.set_spring(axis, stiffness, constant / stiffness);
            }
        }
    }
}
