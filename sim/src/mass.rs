//! Mass, centre of mass and inertia of bodies, in double precision.

use rapier3d::na::{Matrix3, Vector3};
use rapier3d_mjcf::mjcf_rs::body::{InertiaSpec, Inertial};

use crate::model::{GeomShape, Pose64};

/// Mass, centre of mass and inertia about it, in the axes of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mass {
    pub(crate) kg: f64,
    pub(crate) com: Vector3<f64>,
    pub(crate) inertia: Matrix3<f64>,
}

/// Rotation matrix of a pose.
pub(crate) fn rotation(pose: &Pose64) -> Matrix3<f64> {
    let q = pose.rotation;
    rapier3d::na::UnitQuaternion::from_quaternion(rapier3d::na::Quaternion::new(q.w, q.x, q.y, q.z))
        .to_rotation_matrix()
        .into_inner()
}

/// Translation of a pose.
pub(crate) fn translation(pose: &Pose64) -> Vector3<f64> {
    Vector3::new(pose.translation.x, pose.translation.y, pose.translation.z)
}

impl Mass {
    pub(crate) const ZERO: Self = Self {
        kg: 0.0,
        com: Vector3::new(0.0, 0.0, 0.0),
        inertia: Matrix3::new(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    };

    /// The same matter seen from a frame in which this one sits at `pose`.
    pub(crate) fn transformed(&self, pose: &Pose64) -> Self {
        let r = rotation(pose);
        Self {
            kg: self.kg,
            com: r * self.com + translation(pose),
            inertia: r * self.inertia * r.transpose(),
        }
    }

    /// Both together (parallel axis theorem).
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mass = self.kg + other.kg;
        if mass <= 0.0 {
            return Self::ZERO;
        }
        let com = (self.com * self.kg + other.com * other.kg) / mass;
        let shifted = |part: &Self| {
            let d = part.com - com;
            part.inertia + (Matrix3::identity() * d.norm_squared() - d * d.transpose()) * part.kg
        };
        Self {
            kg: mass,
            com,
            inertia: shifted(self) + shifted(other),
        }
    }

    /// From an `<inertial>` element.
    pub(crate) fn from_inertial(inertial: &Inertial) -> Self {
        let local = match inertial.inertia {
            InertiaSpec::Diagonal([x, y, z]) => Matrix3::from_diagonal(&Vector3::new(x, y, z)),
            InertiaSpec::Full([xx, yy, zz, xy, xz, yz]) => {
                Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz)
            }
        };
        Self {
            kg: inertial.mass,
            com: Vector3::zeros(),
            inertia: local,
        }
        .transformed(&inertial.pose)
    }

    /// Homogeneous solid of that density, in the geom's frame. Planes have none.
    pub(crate) fn of_shape(shape: &GeomShape, density: f64) -> Self {
        use std::f64::consts::PI;
        let diagonal = |mass: f64, x: f64, y: f64, z: f64| Self {
            kg: mass,
            com: Vector3::zeros(),
            inertia: Matrix3::from_diagonal(&Vector3::new(x, y, z)),
        };
        match *shape {
            GeomShape::Sphere { radius } => {
                let r = f64::from(radius);
                let mass = density * 4.0 / 3.0 * PI * r.powi(3);
                let i = 0.4 * mass * r * r;
                diagonal(mass, i, i, i)
            }
            GeomShape::Capsule {
                radius,
                half_length,
            } => {
                let (r, h) = (f64::from(radius), 2.0 * f64::from(half_length));
                let cylinder = density * PI * r * r * h;
                let ball = density * 4.0 / 3.0 * PI * r.powi(3);
                let axial = cylinder * r * r / 2.0 + ball * 0.4 * r * r;
                // Two half balls, each with its centre of mass 3/8 r outside the cylinder's end.
                let lateral = cylinder * (3.0 * r * r + h * h) / 12.0
                    + ball * (0.4 * r * r + h * h / 4.0 + 3.0 / 8.0 * h * r);
                diagonal(cylinder + ball, lateral, lateral, axial)
            }
            GeomShape::Cylinder {
                radius,
                half_length,
            } => {
                let (r, h) = (f64::from(radius), 2.0 * f64::from(half_length));
                let mass = density * PI * r * r * h;
                let lateral = mass * (3.0 * r * r + h * h) / 12.0;
                diagonal(mass, lateral, lateral, mass * r * r / 2.0)
            }
            GeomShape::Box { half_extents } => {
                let [x, y, z] = half_extents.map(f64::from);
                let mass = density * 8.0 * x * y * z;
                diagonal(
                    mass,
                    mass * (y * y + z * z) / 3.0,
                    mass * (x * x + z * z) / 3.0,
                    mass * (x * x + y * y) / 3.0,
                )
            }
            GeomShape::Plane => Self::ZERO,
            GeomShape::Mesh {
                ref vertices,
                ref triangles,
            } => Self::of_mesh(vertices, triangles, density),
        }
    }

    /// Signed sum over the tetrahedra between the origin and each triangle (Mirtich 1996 in its covariance form).
    fn of_mesh(vertices: &[[f32; 3]], triangles: &[[u32; 3]], density: f64) -> Self {
        let corner = |index: u32| {
            let [x, y, z] = vertices[index as usize].map(f64::from);
            Vector3::new(x, y, z)
        };
        // Covariance ∫ x xᵀ of the unit tetrahedron (0, e1, e2, e3).
        let canonical = Matrix3::from_fn(|i, j| if i == j { 1.0 / 60.0 } else { 1.0 / 120.0 });
        let mut volume = 0.0;
        let mut moment = Vector3::zeros();
        let mut covariance = Matrix3::zeros();
        for &[a, b, c] in triangles {
            let edges = Matrix3::from_columns(&[corner(a), corner(b), corner(c)]);
            let det = edges.determinant();
            volume += det / 6.0;
            moment += (edges.column(0) + edges.column(1) + edges.column(2)) * (det / 24.0);
            covariance += edges * canonical * edges.transpose() * det;
        }
        if volume.abs() < 1e-18 {
            return Self::ZERO;
        }
        // An inside-out mesh gives everything with the opposite sign.
        let sign = volume.signum();
        let (volume, moment, covariance) = (volume * sign, moment * sign, covariance * sign);
        let com = moment / volume;
        let centred = covariance - com * com.transpose() * volume;
        Self {
            kg: density * volume,
            com,
            inertia: (Matrix3::identity() * centred.trace() - centred) * density,
        }
    }

    /// Same distribution, scaled to `mass`.
    pub(crate) fn with_mass(&self, mass: f64) -> Self {
        if self.kg <= 0.0 {
            return Self::ZERO;
        }
        Self {
            kg: mass,
            com: self.com,
            inertia: self.inertia * (mass / self.kg),
        }
    }

    /// As an `<inertial>` element.
    pub(crate) fn to_inertial(self) -> Inertial {
        let i = self.inertia;
        Inertial {
            pose: Pose64::from_translation([self.com.x, self.com.y, self.com.z].into()),
            mass: self.kg,
            inertia: InertiaSpec::Full([
                i[(0, 0)],
                i[(1, 1)],
                i[(2, 2)],
                i[(0, 1)],
                i[(0, 2)],
                i[(1, 2)],
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn box_mesh(half: [f32; 3]) -> GeomShape {
        let vertices = (0..8)
            .map(|i| {
                [
                    if i & 1 == 0 { -half[0] } else { half[0] },
                    if i & 2 == 0 { -half[1] } else { half[1] },
                    if i & 4 == 0 { -half[2] } else { half[2] },
                ]
            })
            .collect();
        let triangles = vec![
            [0, 2, 1],
            [1, 2, 3],
            [4, 5, 6],
            [5, 7, 6],
            [0, 1, 4],
            [1, 5, 4],
            [2, 6, 3],
            [3, 6, 7],
            [0, 4, 2],
            [2, 4, 6],
            [1, 3, 5],
            [3, 7, 5],
        ];
        GeomShape::Mesh {
            vertices,
            triangles,
        }
    }

    #[test]
    fn a_box_of_triangles_weighs_as_a_box() {
        let half_extents = [0.1, 0.2, 0.35];
        let solid = Mass::of_shape(&GeomShape::Box { half_extents }, 700.0);
        let mesh = Mass::of_shape(&box_mesh(half_extents), 700.0);
        assert!((solid.kg - mesh.kg).abs() < 1e-5 * solid.kg);
        assert!((solid.inertia - mesh.inertia).norm() < 1e-5 * solid.inertia.norm());
    }

    #[test]
    fn two_halves_make_the_whole() {
        let whole = Mass::of_shape(
            &GeomShape::Box {
                half_extents: [0.2, 0.1, 0.05],
            },
            1000.0,
        );
        let half = Mass::of_shape(
            &GeomShape::Box {
                half_extents: [0.1, 0.1, 0.05],
            },
            1000.0,
        );
        let left = half.transformed(&Pose64::from_translation([-0.1, 0.0, 0.0].into()));
        let right = half.transformed(&Pose64::from_translation([0.1, 0.0, 0.0].into()));
        let sum = left.plus(&right);
        assert!((sum.kg - whole.kg).abs() < 1e-6 * whole.kg);
        assert!(sum.com.norm() < 1e-9);
        assert!((sum.inertia - whole.inertia).norm() < 1e-6 * whole.inertia.norm());
    }
}
