//! Chains of hinges and slides in double precision: forward kinematics, Jacobian and inverse kinematics.
//!
//! Trigonometry goes through `libm`, so results are the same on every platform.

use rapier3d::na::{
    DVector, Isometry3, Matrix6, Matrix6xX, Quaternion, Translation3, UnitQuaternion, Vector3,
    Vector6,
};

pub use rapier3d::na;

use crate::mass::translation;
use crate::model::{BodyId, JointId, JointKind, Model, Pose64, SiteId};

/// Why a chain cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The site does not hang below the base.
    #[error("site `{site}` is not on or below body `{base}`")]
    NotBelow {
        /// Name of the site.
        site: String,
        /// Name of the base body.
        base: String,
    },
    /// A joint on the way is neither a hinge nor a slide.
    #[error(
        "joint `{joint}` between body `{base}` and site `{site}` is neither a hinge nor a slide"
    )]
    Joint {
        /// Name of the joint.
        joint: String,
        /// Name of the site.
        site: String,
        /// Name of the base body.
        base: String,
    },
}

/// One joint of a chain and the fixed transform before it.
#[derive(Clone, Debug)]
struct Link {
    /// From the previous joint's moved frame to this joint's frame at its anchor.
    before: Isometry3<f64>,
    /// Unit axis in that frame.
    axis: Vector3<f64>,
    hinge: bool,
    reference: f64,
    limits: Option<[f64; 2]>,
}

/// The joints between a base body and a site.
#[derive(Clone, Debug)]
pub struct Chain {
    joints: Vec<JointId>,
    links: Vec<Link>,
    after: Isometry3<f64>,
}

/// Settings of [`Chain::inverse_kinematics`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IkConfig {
    /// λ² of damped least squares, `dq = Jᵀ (J Jᵀ + λ² I)⁻¹ e`; the least that is used.
    pub damping: f64,
    /// Most steps tried.
    pub max_iterations: usize,
    /// Position error at which the search stops, in metres.
    pub position_tolerance_m: f64,
    /// Rotation error at which the search stops, in radians.
    pub rotation_tolerance_rad: f64,
    /// Most that any joint moves per step (rad or m); the whole step is scaled down to it.
    pub max_joint_step: f64,
    /// Keep joints within their ranges.
    pub joint_limits: bool,
}

impl Default for IkConfig {
    fn default() -> Self {
        Self {
            // Large enough to pass singular postures without spinning, too small to slow convergence near a target.
            damping: 1e-8,
            max_iterations: 100,
            position_tolerance_m: 1e-5,
            rotation_tolerance_rad: 1e-5,
            max_joint_step: std::f64::consts::FRAC_PI_4,
            joint_limits: true,
        }
    }
}

impl IkConfig {
    fn satisfied_by(&self, error: &Vector6<f64>) -> bool {
        error.fixed_rows::<3>(0).norm() <= self.position_tolerance_m
            && error.fixed_rows::<3>(3).norm() <= self.rotation_tolerance_rad
    }
}

/// Damping of the first retry, where the configured one is smaller.
const LEAST_RETRY_DAMPING: f64 = 1e-6;

/// Damping at which no step can be expected to help: the search is at a local minimum.
const LARGEST_DAMPING: f64 = 1e6;

/// What [`Chain::inverse_kinematics`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct IkResult {
    /// Joint positions, in the order of [`Chain::joints`].
    pub positions: Vec<f64>,
    /// Distance of the site from the target.
    pub position_error_m: f64,
    /// Angle between the site and the target.
    pub rotation_error_rad: f64,
    /// Steps tried.
    pub iterations: usize,
    /// Both errors are within their tolerances.
    pub converged: bool,
}

/// Double-precision isometry of a pose.
pub fn isometry_from_pose(pose: &crate::Pose) -> Isometry3<f64> {
    let (t, q) = (pose.translation, pose.rotation);
    Isometry3::from_parts(
        Translation3::new(f64::from(t.x), f64::from(t.y), f64::from(t.z)),
        UnitQuaternion::new_normalize(Quaternion::new(
            f64::from(q.w),
            f64::from(q.x),
            f64::from(q.y),
            f64::from(q.z),
        )),
    )
}

/// Single-precision pose of an isometry.
pub fn pose_from_isometry(isometry: &Isometry3<f64>) -> crate::Pose {
    let (t, q) = (isometry.translation.vector, isometry.rotation.quaternion());
    crate::Pose::from_parts(
        crate::Vector::new(t.x as f32, t.y as f32, t.z as f32),
        crate::Rotation::from_xyzw(q.i as f32, q.j as f32, q.k as f32, q.w as f32),
    )
}

fn isometry(pose: &Pose64) -> Isometry3<f64> {
    let q = pose.rotation;
    Isometry3::from_parts(
        Translation3::from(translation(pose)),
        UnitQuaternion::new_normalize(Quaternion::new(q.w, q.x, q.y, q.z)),
    )
}

/// Rotation by `angle` about a unit axis.
fn rotation_about(axis: &Vector3<f64>, angle: f64) -> UnitQuaternion<f64> {
    let (sin, cos) = libm::sincos(angle / 2.0);
    let v = axis * sin;
    UnitQuaternion::new_unchecked(Quaternion::new(cos, v.x, v.y, v.z))
}

/// Rotation vector of a rotation, of length at most π.
fn rotation_log(rotation: &UnitQuaternion<f64>) -> Vector3<f64> {
    let sign = if rotation.w < 0.0 { -1.0 } else { 1.0 };
    let vector = rotation.imag() * sign;
    let sine = vector.norm();
    if sine < 1e-12 {
        return vector * 2.0;
    }
    vector * (2.0 * libm::atan2(sine, rotation.w * sign) / sine)
}

impl Chain {
    /// The chain from `base` to `site`.
    ///
    /// # Errors
    /// [`ChainError`] if the site is not below the base or a joint between them is a ball or free joint.
    pub fn new(model: &Model, base: BodyId, site: SiteId) -> Result<Self, ChainError> {
        let name = |name: &Option<String>, kind: &str, index: usize| {
            name.clone().unwrap_or_else(|| format!("{kind} {index}"))
        };
        let base_name = || name(&model.bodies[base.0].name, "body", base.0);
        let tip = &model.sites[site.0];
        let site_name = || name(&tip.name, "site", site.0);
        let mut path = Vec::new();
        let mut body = tip.body;
        while body != base {
            path.push(body);
            body = model.bodies[body.0]
                .parent
                .ok_or_else(|| ChainError::NotBelow {
                    site: site_name(),
                    base: base_name(),
                })?;
        }
        let mut chain = Self {
            joints: Vec::new(),
            links: Vec::new(),
            after: Isometry3::identity(),
        };
        let mut fixed = Isometry3::identity();
        for &body in path.iter().rev() {
            fixed *= isometry(&model.bodies[body.0].pose);
            for (index, joint) in model
                .joints
                .iter()
                .enumerate()
                .filter(|(_, j)| j.body == body)
            {
                if !matches!(joint.kind, JointKind::Hinge | JointKind::Slide) {
                    return Err(ChainError::Joint {
                        joint: name(&joint.name, "joint", index),
                        site: site_name(),
                        base: base_name(),
                    });
                }
                let anchor = Translation3::from(Vector3::from(joint.anchor));
                chain.joints.push(JointId(index));
                chain.links.push(Link {
                    before: fixed * anchor,
                    axis: Vector3::from(joint.axis),
                    hinge: joint.kind == JointKind::Hinge,
                    reference: joint.reference,
                    limits: joint.range.map(|r| r.map(f64::from)),
                });
                fixed = Isometry3::from(anchor.inverse());
            }
        }
        chain.after = fixed * isometry(&tip.pose);
        Ok(chain)
    }

    /// The joints, base first.
    pub fn joints(&self) -> &[JointId] {
        &self.joints
    }

    /// Limits of each joint, where limited.
    pub fn limits(&self) -> impl Iterator<Item = Option<[f64; 2]>> + '_ {
        self.links.iter().map(|link| link.limits)
    }

    /// Number of joints.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether base and site are fixed to each other.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Pose of the site in the base frame.
    ///
    /// # Panics
    /// If `positions` is shorter than the chain.
    pub fn forward(&self, positions: &[f64]) -> Isometry3<f64> {
        let mut pose = Isometry3::identity();
        for (link, &position) in self.links.iter().zip(&positions[..self.links.len()]) {
            pose *= link.before * link.motion(position);
        }
        pose * self.after
    }

    /// Velocity of the site per joint velocity, `[6, n]`, base frame: rows 0 to 2 linear, 3 to 5 angular.
    ///
    /// # Panics
    /// If `positions` is shorter than the chain.
    pub fn jacobian(&self, positions: &[f64]) -> Matrix6xX<f64> {
        let mut out = Matrix6xX::zeros(self.links.len());
        self.forward_and_jacobian(positions, &mut out);
        out
    }

    fn forward_and_jacobian(&self, positions: &[f64], out: &mut Matrix6xX<f64>) -> Isometry3<f64> {
        let mut pose = Isometry3::identity();
        // First the axis and anchor of each joint, then the lever arm once the tip is known.
        for (column, (link, &position)) in self
            .links
            .iter()
            .zip(&positions[..self.links.len()])
            .enumerate()
        {
            pose *= link.before;
            let axis = pose.rotation * link.axis;
            let anchor = pose.translation.vector;
            out.fixed_view_mut::<3, 1>(0, column).copy_from(&anchor);
            out.fixed_view_mut::<3, 1>(3, column).copy_from(&axis);
            pose *= link.motion(position);
        }
        pose *= self.after;
        for (column, link) in self.links.iter().enumerate() {
            let anchor = out.fixed_view::<3, 1>(0, column).into_owned();
            let axis = out.fixed_view::<3, 1>(3, column).into_owned();
            let (linear, angular) = if link.hinge {
                (axis.cross(&(pose.translation.vector - anchor)), axis)
            } else {
                (axis, Vector3::zeros())
            };
            out.fixed_view_mut::<3, 1>(0, column).copy_from(&linear);
            out.fixed_view_mut::<3, 1>(3, column).copy_from(&angular);
        }
        pose
    }

    /// Joint positions that bring the site to `target` (base frame), by damped least squares from `start`.
    ///
    /// A step that would not bring the site closer is taken back and tried with ten times the damping (Levenberg 1944), which
    /// gets past singular postures; away from them the damping stays at that of `config`. A joint at its limit that the step
    /// would push further is left out of that step, so the others take over. Every trial counts as an iteration.
    ///
    /// # Panics
    /// If `start` is shorter than the chain.
    pub fn inverse_kinematics(
        &self,
        target: &Isometry3<f64>,
        start: &[f64],
        config: &IkConfig,
    ) -> IkResult {
        let count = self.links.len();
        let mut positions: Vec<f64> = start[..count].to_vec();
        if config.joint_limits {
            self.clamp(&mut positions);
        }
        let mut jacobian = Matrix6xX::zeros(count);
        let mut trial_jacobian = Matrix6xX::zeros(count);
        let mut step = DVector::zeros(count);
        let mut trial = positions.clone();
        let mut error = self.error_at(&positions, target, &mut jacobian);
        let mut damping = config.damping;
        let mut iterations = 0;
        while iterations < config.max_iterations && !config.satisfied_by(&error) {
            iterations += 1;
            trial_jacobian.copy_from(&jacobian);
            if !self.solve_step(
                &mut trial_jacobian,
                &error,
                &positions,
                damping,
                config,
                &mut step,
            ) {
                break;
            }
            let largest = step.amax();
            if largest > config.max_joint_step {
                step *= config.max_joint_step / largest;
            }
            for ((trial, position), step) in trial.iter_mut().zip(&positions).zip(step.iter()) {
                *trial = position + step;
            }
            if config.joint_limits {
                self.clamp(&mut trial);
            }
            let trial_error = self.error_at(&trial, target, &mut trial_jacobian);
            if trial_error.norm_squared() < error.norm_squared() {
                error = trial_error;
                positions.copy_from_slice(&trial);
                jacobian.copy_from(&trial_jacobian);
                damping = (damping / 10.0).max(config.damping);
            } else {
                damping = (damping * 10.0).max(LEAST_RETRY_DAMPING);
                if damping > LARGEST_DAMPING {
                    break;
                }
            }
        }
        IkResult {
            position_error_m: error.fixed_rows::<3>(0).norm(),
            rotation_error_rad: error.fixed_rows::<3>(3).norm(),
            converged: config.satisfied_by(&error),
            positions,
            iterations,
        }
    }

    /// Translation and rotation vector from the site to the target, base frame; fills the Jacobian at `positions`.
    fn error_at(
        &self,
        positions: &[f64],
        target: &Isometry3<f64>,
        jacobian: &mut Matrix6xX<f64>,
    ) -> Vector6<f64> {
        let pose = self.forward_and_jacobian(positions, jacobian);
        let linear = target.translation.vector - pose.translation.vector;
        let angular = rotation_log(&(target.rotation * pose.rotation.inverse()));
        Vector6::new(
            linear.x, linear.y, linear.z, angular.x, angular.y, angular.z,
        )
    }

    /// One damped least-squares step; columns of joints held by their limits are zeroed in `jacobian`.
    fn solve_step(
        &self,
        jacobian: &mut Matrix6xX<f64>,
        error: &Vector6<f64>,
        q: &[f64],
        damping: f64,
        config: &IkConfig,
        step: &mut DVector<f64>,
    ) -> bool {
        for _ in 0..=self.links.len() {
            let gram: Matrix6<f64> =
                &*jacobian * jacobian.transpose() + Matrix6::identity() * damping;
            let Some(cholesky) = gram.cholesky() else {
                return false;
            };
            jacobian.tr_mul_to(&cholesky.solve(error), step);
            if !step.iter().all(|s| s.is_finite()) {
                return false;
            }
            if !config.joint_limits {
                return true;
            }
            let mut held = false;
            for (column, link) in self.links.iter().enumerate() {
                let Some([low, high]) = link.limits else {
                    continue;
                };
                let outward = (q[column] <= low && step[column] < 0.0)
                    || (q[column] >= high && step[column] > 0.0);
                if outward {
                    jacobian.column_mut(column).fill(0.0);
                    held = true;
                }
            }
            if !held {
                return true;
            }
        }
        true
    }

    fn clamp(&self, q: &mut [f64]) {
        for (q, link) in q.iter_mut().zip(&self.links) {
            if let Some([low, high]) = link.limits {
                *q = q.clamp(low, high);
            }
        }
    }
}

impl Link {
    fn motion(&self, position: f64) -> Isometry3<f64> {
        let displacement = position - self.reference;
        if self.hinge {
            Isometry3::from_parts(
                Translation3::identity(),
                rotation_about(&self.axis, displacement),
            )
        } else {
            Isometry3::from_parts(
                Translation3::from(self.axis * displacement),
                UnitQuaternion::identity(),
            )
        }
    }
}
