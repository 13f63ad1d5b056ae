//! A ball in a maze, moved by displacements: the ids `point-maze-{arena,medium,large,giant,teleport}`.
//!
//! Observation, action, mazes, tasks and tolerance are those of OGBench's pointmaze (Park et al. 2024). One control
//! step writes `position + 0.2 m · action`, puts the ball to rest, and then runs 5 physics steps of 0.02 s, which
//! push it out of walls that it was written into. Where the first of them leaves the ball where it is, the others would
//! do the same and are not run.

use telic_seed::Rng;
use telic_sim::{JointId, PhysicsConfig, World};

use crate::maze::{MAZES, Maze};
use crate::maze_env::{self, Play, Robot};
use crate::shared_model::SharedModel;
use crate::{ActionEntry, Entry, EnvSpec};

/// Displacement of an action of 1 in one control step, in metres.
pub const STEP_M: f32 = 0.2;
/// Radius of the ball, in metres.
pub const RADIUS_M: f32 = 0.7;
/// Distance from the goal within which it counts as reached, in metres.
pub const TOLERANCE_M: f32 = 1.0;

const PHYSICS_STEP_SECS: f32 = 0.02;
const PHYSICS_STEPS: usize = 5;
/// A ball pushed into a wall with full actions comes to rest 0.657 m from its face, as in the original.
const CONTACT_DAMPING_RATIO: f32 = 6.2;

/// One spec per maze.
pub(crate) fn specs() -> Vec<EnvSpec> {
    maze_env::specs::<Point>()
}

/// The ball.
struct Point {
    joints: [JointId; 2],
}

impl Point {
    fn position(&self, world: &World) -> [f32; 2] {
        self.joints.map(|joint| world.joint_position(joint))
    }

    fn velocity(&self, world: &World) -> [f32; 2] {
        self.joints.map(|joint| world.joint_velocity(joint))
    }
}

impl Robot for Point {
    const FAMILY: &'static str = "point-maze";
    const VERSION: u32 = 2;
    const ENVS: [Option<(&'static str, &'static str)>; MAZES.len()] = [
        Some(("point-maze-arena", "A ball crosses an open square.")),
        Some((
            "point-maze-medium",
            "A ball finds its way through an 8×8 maze.",
        )),
        Some((
            "point-maze-large",
            "A ball finds its way through a 9×12 maze.",
        )),
        Some((
            "point-maze-giant",
            "A ball finds its way through a 12×16 maze.",
        )),
        Some((
            "point-maze-teleport",
            "A ball finds its way through a 9×12 maze with random portals.",
        )),
    ];
    const TOLERANCE_M: f32 = TOLERANCE_M;
    const CONTROL_HZ: f64 = 10.0;
    const ACTION_NOISE: f32 = 0.5;

    fn max_episode_steps(_: &Maze) -> usize {
        1000
    }

    fn episode_steps(play: Play, _: &Maze) -> Option<usize> {
        match play {
            Play::Navigate => Some(1000),
            Play::Stitch => Some(200),
            Play::Explore => None,
        }
    }

    fn observation([low_x, low_y, high_x, high_y]: [f32; 4]) -> Vec<Entry> {
        let entry = |name: &str, low, high| Entry {
            name: name.to_owned(),
            unit: "m",
            low,
            high,
        };
        vec![
            entry("point.x", low_x, high_x),
            entry("point.y", low_y, high_y),
        ]
    }

    fn action() -> Vec<ActionEntry> {
        let action = |name: &str| ActionEntry {
            name: name.to_owned(),
            unit: "m",
            scale: STEP_M,
        };
        vec![action("point.x"), action("point.y")]
    }

    fn models() -> &'static [SharedModel; MAZES.len()] {
        static MODELS: [SharedModel; MAZES.len()] = [const { SharedModel::new() }; MAZES.len()];
        &MODELS
    }

    /// The ball slides at a fixed height, so it needs no contact with the floor.
    fn mjcf(maze: &Maze) -> String {
        let walls = maze.mjcf_walls("friction=\"0\"");
        format!(
            "<mujoco model=\"point-maze-{name}\">
<compiler angle=\"radian\" autolimits=\"true\"/>
<option timestep=\"{PHYSICS_STEP_SECS}\" gravity=\"0 0 -9.81\"/>
<worldbody>
<geom name=\"floor\" type=\"plane\" size=\"100 100 1\" rgba=\"0.75 0.78 0.8 1\" contype=\"0\" conaffinity=\"0\"/>
{walls}<body name=\"point\" pos=\"0 0 {RADIUS_M}\">
<joint name=\"point_x\" type=\"slide\" axis=\"1 0 0\"/>
<joint name=\"point_y\" type=\"slide\" axis=\"0 1 0\"/>
<geom name=\"point\" type=\"sphere\" size=\"{RADIUS_M}\" density=\"100\" friction=\"0\" rgba=\"0.85 0.35 0.2 1\"/>
</body>
</worldbody>
</mujoco>
",
            name = maze.name,
        )
    }

    fn physics() -> PhysicsConfig {
        PhysicsConfig {
            timestep_secs: PHYSICS_STEP_SECS,
            // Nothing accelerates the ball but walls.
            solver_iterations: 1,
            contact_damping_ratio: CONTACT_DAMPING_RATIO,
            ..PhysicsConfig::default()
        }
    }

    fn new(world: &World) -> Result<Self, String> {
        let joint = |name: &str| {
            world
                .joint_id(name)
                .ok_or_else(|| format!("no joint `{name}`"))
        };
        Ok(Self {
            joints: [joint("point_x")?, joint("point_y")?],
        })
    }

    fn start(&self, world: &mut World, xy: [f32; 2], _: [f32; 2], _: &mut Rng) {
        world
            .set_state(&xy, &[0.0; 2])
            .expect("two finite numbers for two slides");
    }

    fn goal(&self, _: &mut World, xy: [f32; 2], _: &mut Rng, observation: &mut [f32]) {
        observation.copy_from_slice(&xy);
    }

    fn place(&self, world: &mut World, xy: [f32; 2]) {
        for (joint, position) in self.joints.into_iter().zip(xy) {
            world.set_joint_position(joint, position);
        }
    }

    fn act(&self, world: &mut World, action: &[f32]) {
        let position = self.position(world);
        for (axis, joint) in self.joints.into_iter().enumerate() {
            world.set_joint_position(joint, position[axis] + STEP_M * action[axis]);
            world.set_joint_velocity(joint, 0.0);
        }
        let written = self.position(world);
        let mut still = 0;
        for _ in 0..PHYSICS_STEPS {
            world.step();
            // Without contact no force acts, so a ball at rest stays at the same bits. The engine may feel a new contact one step late.
            still += u32::from(self.position(world) == written && self.velocity(world) == [0.0; 2]);
            if still == 2 {
                break;
            }
        }
    }

    fn observe(&self, world: &World, observation: &mut [f32]) {
        observation.copy_from_slice(&self.position(world));
    }

    fn height(&self, _: &World) -> f32 {
        RADIUS_M
    }

    fn head(&self, _: &World, _: &[f32], direction: [f32; 2], action: &mut [f32]) {
        action.copy_from_slice(&direction);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::RngExt;
    use telic_seed::Seed;
    use telic_sim::Model;

    use super::*;

    fn medium() -> (World, Point) {
        let model = Model::from_mjcf_str("medium", &Point::mjcf(&MAZES[1])).unwrap();
        let world = World::new(&Arc::new(model), &Point::physics()).unwrap();
        let point = Point::new(&world).unwrap();
        (world, point)
    }

    #[test]
    fn a_pushed_ball_stops_where_the_original_does() {
        // The faces around cell (1, 1) are at −2 m; measured in the original: −1.343 m.
        for action in [[-1.0, 0.0], [0.0, -1.0]] {
            let (mut world, point) = medium();
            for _ in 0..100 {
                point.act(&mut world, &action);
            }
            let stop = point.position(&world).into_iter().fold(0.0, f32::min);
            assert!((stop + 1.343).abs() < 2e-3, "{stop}");
        }
    }

    #[test]
    fn skipped_physics_steps_would_change_nothing() {
        let mut rng = Seed::new(5).rng();
        let (mut world, point) = medium();
        let mut skipped = 0;
        for _ in 0..5000 {
            // Long pushes, so that many steps end in a wall.
            let action = [0; 2].map(|_| rng.random_range(-1.0..=1.0_f32));
            for _ in 0..rng.random_range(1..10) {
                let mut full = world.clone();
                let at = point.position(&full);
                point.place(
                    &mut full,
                    [0, 1].map(|axis| at[axis] + STEP_M * action[axis]),
                );
                for joint in point.joints {
                    full.set_joint_velocity(joint, 0.0);
                }
                let written = point.position(&full);
                for _ in 0..PHYSICS_STEPS {
                    full.step();
                }
                let begin_secs = world.time_secs();
                point.act(&mut world, &action);
                let position = point.position(&full);
                assert_eq!(point.position(&world), position, "from {written:?}");
                let secs = world.time_secs() - begin_secs;
                let is_whole =
                    secs > (PHYSICS_STEPS as f64 - 0.5) * f64::from(world.timestep_secs());
                skipped += usize::from(!is_whole);
            }
        }
        assert!(skipped > 1000, "only {skipped} were cut short");
    }
}
