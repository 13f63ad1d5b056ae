//! Poses of geoms and ray casts against them.

use rapier3d::geometry::Ray;
use rapier3d::math::{Pose, Vector};
use rapier3d::pipeline::QueryFilter;

use crate::model::{Geom, GeomId};
use crate::world::World;

/// Where a ray meets a geom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RayHit {
    /// Geom that is hit first.
    pub geom: GeomId,
    /// Distance from the origin in metres.
    pub distance_m: f32,
    /// Outward unit normal of the surface; zero if the ray starts inside.
    pub normal: Vector,
}

impl World {
    /// All geoms of the model, visual ones included.
    pub fn geoms(&self) -> &[Geom] {
        &self.layout.model.geoms
    }

    /// Pose of a geom in the world.
    pub fn geom_pose(&self, geom: GeomId) -> Pose {
        let spec = &self.layout.model.geoms[geom.0];
        self.body_pose(spec.body) * spec.local_pose
    }

    /// The first colliding geom along a ray. `direction` need not be a unit vector; visual geoms are passed through.
    pub fn ray_cast(&self, origin: Vector, direction: Vector, max_m: f32) -> Option<RayHit> {
        let direction = direction.try_normalize()?;
        let queries = self.physics.broad_phase.as_query_pipeline(
            self.physics.narrow_phase.query_dispatcher(),
            &self.physics.bodies,
            &self.physics.colliders,
            QueryFilter::default(),
        );
        let ray = Ray::new(origin, direction);
        let (collider, hit) = queries.cast_ray_and_get_normal(&ray, max_m, true)?;
        Some(RayHit {
            geom: GeomId(self.physics.colliders.get(collider)?.user_data as usize),
            distance_m: hit.time_of_impact,
            normal: hit.normal,
        })
    }
}
