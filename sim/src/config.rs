//! Settings of the physics engine.

use rapier3d::dynamics::{FrictionModel, IntegrationParameters, SpringCoefficients};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// How friction is solved between two bodies that are both free (contacts with an articulated body are always Coulomb).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Friction {
    /// One Coulomb constraint and one twist constraint per patch of up to four points. A sliding block stops where the
    /// textbook says.
    #[default]
    Patch,
    /// One Coulomb constraint per contact point. The force at a point off the centre of mass leans away from the
    /// direction of sliding, so a sliding block brakes with about nine tenths of the friction coefficient.
    Point,
}

/// What holds a hinge or slide inside its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JointLimits {
    /// The engine's constraint: no overshoot, and a joint that starts outside is put back inside within a step or two.
    #[default]
    Hard,
    /// MuJoCo's: a critically damped spring that pushes and never pulls, scaled to the inertia of the joint, so that a joint
    /// that starts outside comes back gently. A motor leans a twentieth of its
    /// acceleration times the squared time constant into it.
    Soft {
        /// Time constant of the return in seconds, at least two physics steps (`solreflimit`).
        time_constant_secs: f32,
    },
}

/// Settings of the physics engine, fixed for the life of a [`World`](crate::World).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhysicsConfig {
    /// Length of one physics step, in seconds.
    pub timestep_secs: f32,
    /// Sub-steps of one step; the cost of articulated bodies is proportional to it.
    pub solver_iterations: usize,
    /// Sweeps of the constraint solver per sub-step.
    pub internal_iterations: usize,
    /// Sweeps without position bias per sub-step, which take out the velocity that the bias put in.
    pub stabilization_iterations: usize,
    /// Friction between free bodies.
    pub friction: Friction,
    /// Natural frequency of contacts in Hz: higher is stiffer.
    pub contact_natural_frequency_hz: f32,
    /// Damping ratio of contacts; 1 is critical.
    pub contact_damping_ratio: f32,
    /// Distance in metres under which contact points are generated ahead of touching.
    pub contact_prediction_m: f32,
    /// Reuse the contact points of a pair that moved less than this many metres; 0 recomputes them in every step.
    pub contact_recycle_m: f32,
    /// Highest speed in m/s at which penetration is pushed out.
    pub max_corrective_velocity: f32,
    /// Solve friction also in the sweeps that carry position bias.
    pub friction_in_bias_pass: bool,
    /// Sweep fast bodies so that they do not tunnel through static geometry.
    pub continuous_collision: bool,
    /// What holds joints inside their ranges.
    pub joint_limits: JointLimits,
}

impl Default for PhysicsConfig {
    fn default() -> Self {
        Self {
            // A 4 cm cube is held for minutes by position servos at this step (see the grasp test);
            // 0.01 s is enough for locomotion.
            timestep_secs: 0.005,
            // The engine's default.
            solver_iterations: 4,
            internal_iterations: 1,
            stabilization_iterations: 1,
            friction: Friction::Patch,
            // The engine's defaults are 30 Hz (60 Hz on static bodies) and a damping ratio of 10.
            contact_natural_frequency_hz: 60.0,
            contact_damping_ratio: 10.0,
            contact_prediction_m: 0.005,
            contact_recycle_m: 0.0,
            max_corrective_velocity: 3.0,
            friction_in_bias_pass: false,
            continuous_collision: false,
            joint_limits: JointLimits::Hard,
        }
    }
}

impl PhysicsConfig {
    /// The parameters of the engine.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first field that is out of range.
    pub(crate) fn integration_parameters(&self) -> Result<IntegrationParameters, ModelError> {
        let positive = |field: &'static str, value: f32| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(ModelError::Config {
                    field,
                    value: value.to_string(),
                    expected: "a finite number above 0",
                })
            }
        };
        positive("timestep_secs", self.timestep_secs)?;
        positive(
            "contact_natural_frequency_hz",
            self.contact_natural_frequency_hz,
        )?;
        positive("contact_damping_ratio", self.contact_damping_ratio)?;
        positive("contact_prediction_m", self.contact_prediction_m)?;
        positive("max_corrective_velocity", self.max_corrective_velocity)?;
        if !(self.contact_recycle_m.is_finite() && self.contact_recycle_m >= 0.0) {
            return Err(ModelError::Config {
                field: "contact_recycle_m",
                value: self.contact_recycle_m.to_string(),
                expected: "a finite number of at least 0",
            });
        }
        if let JointLimits::Soft { time_constant_secs } = self.joint_limits
            && !(time_constant_secs.is_finite() && time_constant_secs >= 2.0 * self.timestep_secs)
        {
            return Err(ModelError::Config {
                field: "joint_limits.soft.time_constant_secs",
                value: time_constant_secs.to_string(),
                expected: "a finite number of at least two time steps",
            });
        }
        for (field, value) in [
            ("solver_iterations", self.solver_iterations),
            ("internal_iterations", self.internal_iterations),
        ] {
            if value == 0 {
                return Err(ModelError::Config {
                    field,
                    value: value.to_string(),
                    expected: "at least 1",
                });
            }
        }
        let softness = SpringCoefficients {
            natural_frequency: self.contact_natural_frequency_hz,
            damping_ratio: self.contact_damping_ratio,
        };
        Ok(IntegrationParameters {
            dt: self.timestep_secs,
            contact_softness: softness,
            static_contact_softness: softness,
            num_solver_iterations: self.solver_iterations,
            num_internal_pgs_iterations: self.internal_iterations,
            num_internal_stabilization_iterations: self.stabilization_iterations,
            normalized_prediction_distance: self.contact_prediction_m,
            normalized_max_corrective_velocity: self.max_corrective_velocity,
            max_ccd_substeps: usize::from(self.continuous_collision),
            // Clusters only pay for meshes, and hide which point carries which force.
            contact_clustering: false,
            contact_recycling: self.contact_recycle_m > 0.0,
            normalized_contact_recycle_distance: self.contact_recycle_m,
            friction_in_bias_pass: self.friction_in_bias_pass,
            friction_model: match self.friction {
                Friction::Point => FrictionModel::Coulomb,
                Friction::Patch => FrictionModel::Simplified,
            },
            ..IntegrationParameters::default()
        })
    }
}
