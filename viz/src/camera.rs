//! Where the eye is when a recording opens.

use rerun::EntityPath;
use rerun::external::re_sdk_types::blueprint::archetypes::EyeControls3D;
use rerun::external::re_sdk_types::blueprint::components::Eye3DKind;
use telic_sim::Vector;

use crate::scene::Bounds;

/// Vertical field of view of the viewer's 3-D views, in radians (the viewer's constant of 55°).
const FIELD_OF_VIEW_RAD: f32 = 55.0 * std::f32::consts::PI / 180.0;

/// Width over height that the scene's view has at least, in the layout of an episode.
const ASPECT: f32 = 1.0;

/// Room around what is framed.
const MARGIN: f32 = 1.12;

/// What is lower than this fraction of its width is flat: it is seen from above.
const FLAT_RATIO: f32 = 0.35;

/// How many times as far away the eye is from a robot that it follows: there is ground to be seen around it.
const FOLLOWING_DISTANCE: f32 = 2.2;

/// Eye and target of the first view, in metres.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Camera {
    /// Position of the eye.
    pub(crate) position: [f32; 3],
    /// Point that it looks at and turns around.
    pub(crate) target: [f32; 3],
    /// What it moves along with.
    pub(crate) followed: Option<EntityPath>,
}

impl Camera {
    /// Frames a box. Flat ones (mazes, table tops) are seen steeply from above with their longer
    /// side across, tall ones (arms, whose base looks along +x) from the front left.
    pub(crate) fn framing(bounds: &Bounds) -> Self {
        let size = bounds.size();
        let (azimuth, elevation): (f32, f32) = if size.z >= FLAT_RATIO * size.x.max(size.y) {
            (38.0, 25.0)
        } else if size.x >= size.y {
            (-90.0, 58.0)
        } else {
            (0.0, 58.0)
        };
        let (azimuth, elevation) = (azimuth.to_radians(), elevation.to_radians());
        let backward = Vector::new(
            elevation.cos() * azimuth.cos(),
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
        );
        let right = Vector::Z.cross(backward).normalize();
        let up = backward.cross(right);

        let target = bounds.centre();
        let slope = (0.5 * FIELD_OF_VIEW_RAD).tan();
        // A corner at (x, y) across and z towards the eye is in view if |x|, |y| ≤ slope · (distance − z).
        let distance = bounds
            .corners()
            .map(|corner| {
                let offset = (corner - target) * MARGIN;
                let across = (offset.dot(right) / ASPECT).abs().max(offset.dot(up).abs());
                across / slope + offset.dot(backward)
            })
            .into_iter()
            .fold(0.1, f32::max);
        Self {
            position: (target + backward * distance).to_array(),
            target: target.to_array(),
            followed: None,
        }
    }

    /// From further away, moving along with a robot.
    pub(crate) fn following(mut self, robot: EntityPath) -> Self {
        for (position, target) in self.position.iter_mut().zip(self.target) {
            *position = target + FOLLOWING_DISTANCE * (*position - target);
        }
        self.followed = Some(robot);
        self
    }

    pub(crate) fn controls(&self) -> EyeControls3D {
        let controls = EyeControls3D::new()
            .with_kind(Eye3DKind::Orbital)
            .with_position(self.position)
            .with_look_target(self.target)
            .with_eye_up([0.0, 0.0, 1.0]);
        match &self.followed {
            Some(robot) => controls.with_tracking_entity(robot.to_string()),
            None => controls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every corner must be inside of the view pyramid, and the tightest one close to its side.
    #[test]
    fn the_whole_box_is_in_view_and_fills_it() {
        for high in [[4.0, 3.0, 0.1], [0.3, 0.9, 0.2], [0.6, 0.5, 0.9]] {
            let bounds = Bounds {
                low: Vector::new(-0.2, -1.0, 0.0),
                high: Vector::from_array(high),
            };
            let camera = Camera::framing(&bounds);
            let eye = Vector::from_array(camera.position);
            let forward = (Vector::from_array(camera.target) - eye).normalize();
            let right = forward.cross(Vector::Z).normalize();
            let up = right.cross(forward);
            let slope = (0.5 * FIELD_OF_VIEW_RAD).tan();
            let fullest = bounds
                .corners()
                .map(|corner| {
                    let ray = corner - eye;
                    ray.dot(right).abs().max(ray.dot(up).abs()) / (slope * ray.dot(forward))
                })
                .into_iter()
                .fold(0.0, f32::max);
            assert!((0.75..=1.0).contains(&fullest), "{high:?}: {fullest}");
        }
    }
}
