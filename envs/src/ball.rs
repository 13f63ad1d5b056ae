//! The ball of OGBench's antsoccer (Park et al. 2024): 25 cm of radius, 0.327 kg, and a floor that brakes it hard.

use crate::Entry;
use telic_sim::{BodyId, JointId, Pose, Rotation, Vector, World};

/// In metres.
pub(crate) const RADIUS_M: f32 = 0.25;
/// Height of its centre at the start of an episode, in metres.
pub(crate) const START_HEIGHT_M: f32 = 0.5;
/// What the rolling friction of the original amounts to: there, a ball that rolls at 2 m/s (1 m/s) comes to rest after 0.526 m
/// (0.126 m). The engine has no rolling friction.
const ROLLING_DECELERATION_M_S2: f32 = 3.65;
/// Clearance below which the floor brakes it, in metres.
const CONTACT_CLEARANCE_M: f32 = 0.02;
/// Coordinates: position and quaternion wxyz.
pub(crate) const COORDINATES: usize = 7;
/// Velocities: linear in the world and angular in its own frame.
pub(crate) const VELOCITIES: usize = 6;

/// Handles of its parts in a world.
#[derive(Clone, Copy)]
pub(crate) struct Ball {
    root: JointId,
    body: BodyId,
}

impl Ball {
    /// It, as a body of an MJCF file. Legs and walls touch it.
    pub(crate) fn mjcf() -> String {
        format!(
            "<body name=\"ball\" pos=\"0 0 {START_HEIGHT_M}\"><freejoint name=\"ball\"/>\
             <geom name=\"ball\" size=\"{RADIUS_M}\" density=\"5\" contype=\"1\" conaffinity=\"1\" priority=\"1\" \
             friction=\"1 0.5 0.5\" rgba=\"0.95 0.95 0.95 1\"/></body>"
        )
    }

    pub(crate) fn new(world: &World) -> Result<Self, String> {
        let missing = || "no `ball`".to_owned();
        Ok(Self {
            root: world.joint_id("ball").ok_or_else(missing)?,
            body: world.body_id("ball").ok_or_else(missing)?,
        })
    }

    /// Its entries among the coordinates and among the velocities of an observation, where the walls leave these bounds free.
    pub(crate) fn entries([low_x, low_y, high_x, high_y]: [f32; 4]) -> [Vec<Entry>; 2] {
        let entry = |name: &str, unit, low, high| Entry {
            name: format!("ball.{name}"),
            unit,
            low,
            high,
        };
        let mut coordinates = vec![
            entry("x", "m", low_x, high_x),
            entry("y", "m", low_y, high_y),
            entry("z", "m", -1.0, 10.0),
        ];
        let mut velocities = vec![];
        for part in ["w", "x", "y", "z"] {
            coordinates.push(entry(&format!("quaternion.{part}"), "1", -1.01, 1.01));
        }
        for axis in ["x", "y", "z"] {
            velocities.push(entry(&format!("velocity.{axis}"), "m/s", -100.0, 100.0));
        }
        for axis in ["x", "y", "z"] {
            let name = format!("angular_velocity.{axis}");
            velocities.push(entry(&name, "rad/s", -400.0, 400.0));
        }
        [coordinates, velocities]
    }

    /// Coordinates of a ball at `xy`, in metres, whose centre is at `height`.
    pub(crate) fn coordinates([x, y]: [f32; 2], height: f32) -> [f32; COORDINATES] {
        [x, y, height, 1.0, 0.0, 0.0, 0.0]
    }

    /// Puts it to rest on the floor at `xy`.
    pub(crate) fn place(self, world: &mut World, xy: [f32; 2]) {
        let at = Vector::new(xy[0], xy[1], RADIUS_M);
        world.set_free_pose(self.root, Pose::from_parts(at, Rotation::IDENTITY));
        world.set_free_velocity(self.root, Vector::ZERO, Vector::ZERO);
    }

    /// Rolling friction over the next physics step.
    pub(crate) fn brake(self, world: &mut World) {
        if world.body_pose(self.body).translation.z > RADIUS_M + CONTACT_CLEARANCE_M {
            return;
        }
        let (linear, angular) = world.body_velocity(self.body);
        let speed = linear.x.hypot(linear.y);
        let lost = ROLLING_DECELERATION_M_S2 * world.timestep_secs();
        let kept = if speed > lost {
            1.0 - lost / speed
        } else {
            0.0
        };
        let braked = Vector::new(kept * linear.x, kept * linear.y, linear.z);
        world.set_free_velocity(self.root, braked, kept * angular);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use telic_sim::Model;

    use super::*;
    use crate::ant::Ant;

    #[test]
    fn it_rolls_as_far_as_in_the_original() {
        let model = Model::from_mjcf_str("ball", &Ant::mjcf("", &Ball::mjcf())).unwrap();
        let mut world = World::new(&Arc::new(model), &Ant::physics()).unwrap();
        let ball = Ball::new(&world).unwrap();
        for (speed, expected) in [(2.0, 0.526), (1.0, 0.126)] {
            ball.place(&mut world, [5.0, 5.0]);
            let linear = Vector::new(speed, 0.0, 0.0);
            let angular = Vector::new(0.0, speed / RADIUS_M, 0.0);
            world.set_free_velocity(ball.root, linear, angular);
            for _ in 0..20 {
                Ant::act_with(&mut world, &[0.0; 8], |world| ball.brake(world));
            }
            let rolled = world.body_pose(ball.body).translation.x - 5.0;
            assert!((rolled / expected - 1.0).abs() < 0.06, "{rolled} m");
            let (linear, angular) = world.body_velocity(ball.body);
            assert!(linear.length() < 0.01 && angular.length() < 0.05);
        }
    }
}
