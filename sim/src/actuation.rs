//! Forces of actuators, springs, dampers and soft limits.
//!
//! A joint feels `τ = c − k·q − d·q̇`: `k` and `d` sum what springs, dampers and servos contribute, `c` the rest. The engine
//! integrates the `k` and `d` terms implicitly, so stiff servos are stable. It has no input for a generalized force, but a
//! spring of negligible stiffness `ε` whose rest position lies at `c/ε` is one, exact to rounding.

use crate::assembly::JointSlot;
use crate::config::JointLimits;
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

/// How much of a joint's acceleration a soft limit takes over; the rest is left to the other forces (`solimplimit`).
const IMPEDANCE: f32 = 0.95;

/// What a soft limit contributes at a joint outside its range `[low, high]` on which `torque` acts otherwise.
///
/// MuJoCo solves `A·f + R·f = a_ref − A·torque` for `f ≥ 0`, with `A` the inverse inertia, `R = A·(1 − d)/d`, `d` the impedance
/// and `a_ref = depth/(d·tc²) − 2·velocity/(d·tc)`; hence `f = (depth/tc² − 2·velocity/tc)/A − d·torque`.
fn limit_contribution(
    [low, high]: [f32; 2],
    position: f32,
    velocity: f32,
    torque: f32,
    inverse_inertia: f32,
    time_constant_secs: f32,
) -> Contribution {
    let edge = if position < low {
        low
    } else if position > high {
        high
    } else {
        return Contribution::default();
    };
    let inertia = inverse_inertia.recip();
    let stiffness = inertia / time_constant_secs.powi(2);
    let damping = 2.0 * inertia / time_constant_secs;
    let force = stiffness * (edge - position) - damping * velocity - IMPEDANCE * torque;
    let pushes_inwards = if position < low {
        force > 0.0
    } else {
        force < 0.0
    };
    if !pushes_inwards {
        return Contribution::default();
    }
    Contribution {
        constant: stiffness * edge - IMPEDANCE * torque,
        stiffness,
        damping,
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
        // Without the spring that stands for a force, what is at rest stays at rest to the bit.
        if layout.is_passive {
            return;
        }
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
            if let (JointLimits::Soft { time_constant_secs }, Some(range)) =
                (layout.joint_limits, spec.range)
            {
                let part = limit_contribution(
                    range,
                    position,
                    velocity,
                    constant - stiffness * position - damping * velocity,
                    layout.inverse_inertia[index],
                    time_constant_secs,
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
