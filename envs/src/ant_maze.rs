//! An ant in a maze: the ids `ant-maze-{medium,large,giant,teleport}`.
//!
//! Robot, mazes, tasks, tolerance and the order of a reset are those of OGBench's antmaze (Park et al. 2024). The expert that
//! makes play data was trained by `telic train-expert configs/ant_expert.toml`.

use std::sync::OnceLock;

use rand::RngExt;
use telic_seed::Rng;
use telic_sim::{PhysicsConfig, World};

use crate::ant::{self, Ant};
use crate::gait::{self, Gait};
use crate::maze::{MAZES, Maze};
use crate::maze_env::{self, Play, Robot};
use crate::shared_model::SharedModel;
use crate::{ActionEntry, Entry, EnvSpec};

/// Distance of the torso from the goal within which it counts as reached, in metres.
const TOLERANCE_M: f32 = 0.5;
/// Random actions before a goal is observed, so that its posture is one that the ant can have.
const GOAL_STEPS: usize = 5;

/// One spec per maze.
pub(crate) fn specs() -> Vec<EnvSpec> {
    maze_env::specs::<WalkingAnt>()
}

/// The ant with its expert.
struct WalkingAnt {
    ant: Ant,
    gait: &'static Gait,
}

/// The gait in the repository.
pub(crate) fn gait() -> Result<&'static Gait, String> {
    static GAIT: OnceLock<Result<Gait, String>> = OnceLock::new();
    gait::shared(&GAIT, include_bytes!("../assets/ant_gait.safetensors"))
}

/// Walks with [`gait`] along the unit vector `direction`, given posture and velocities without x and y, in the order of an ant's
/// observation.
pub(crate) fn walk(gait: &Gait, posture: [&[f32]; 2], direction: [f32; 2], action: &mut [f32]) {
    let mut input = [0.0; ant::POSTURE.end - ant::POSTURE.start + 2];
    let (positions, rest) = input.split_at_mut(posture[0].len());
    let (velocities, tail) = rest.split_at_mut(posture[1].len());
    positions.copy_from_slice(posture[0]);
    velocities.copy_from_slice(posture[1]);
    tail.copy_from_slice(&direction);
    gait.act(&input, action);
}

impl Robot for WalkingAnt {
    const FAMILY: &'static str = "ant-maze";
    const VERSION: u32 = 1;
    const ENVS: [Option<(&'static str, &'static str)>; MAZES.len()] = [
        None,
        Some(("ant-maze-medium", "An ant walks through an 8×8 maze.")),
        Some(("ant-maze-large", "An ant walks through a 9×12 maze.")),
        Some(("ant-maze-giant", "An ant walks through a 12×16 maze.")),
        Some((
            "ant-maze-teleport",
            "An ant walks through a 9×12 maze with random portals.",
        )),
    ];
    const TOLERANCE_M: f32 = TOLERANCE_M;
    const CONTROL_HZ: f64 = 10.0;
    const ACTION_NOISE: f32 = 0.2;

    fn max_episode_steps(_: &Maze) -> usize {
        1000
    }

    fn episode_steps(play: Play, maze: &Maze) -> Option<usize> {
        let giant = maze.name == "giant";
        match play {
            Play::Navigate => Some(if giant { 2000 } else { 1000 }),
            Play::Stitch => Some(200),
            Play::Explore => (!giant).then_some(500),
        }
    }

    fn observation(bounds: [f32; 4]) -> Vec<Entry> {
        Ant::entries(bounds)
    }

    fn action() -> Vec<ActionEntry> {
        Ant::action_entries()
    }

    fn models() -> &'static [SharedModel; MAZES.len()] {
        static MODELS: [SharedModel; MAZES.len()] = [const { SharedModel::new() }; MAZES.len()];
        &MODELS
    }

    fn mjcf(maze: &Maze) -> String {
        Ant::mjcf(&maze.mjcf_walls("conaffinity=\"1\""), "")
    }

    fn physics() -> PhysicsConfig {
        Ant::physics()
    }

    fn new(world: &World) -> Result<Self, String> {
        Ok(Self {
            ant: Ant::new(world)?,
            gait: gait()?,
        })
    }

    fn start(&self, world: &mut World, xy: [f32; 2], _: [f32; 2], rng: &mut Rng) {
        Ant::start(world, xy, rng);
    }

    fn goal(&self, world: &mut World, xy: [f32; 2], rng: &mut Rng, observation: &mut [f32]) {
        Ant::start(world, xy, rng);
        for _ in 0..GOAL_STEPS {
            let action = [0.0; ant::ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
            Ant::act(world, &action);
        }
        self.ant.place(world, xy);
        Ant::observe(world, observation);
    }

    fn place(&self, world: &mut World, xy: [f32; 2]) {
        self.ant.place(world, xy);
    }

    fn act(&self, world: &mut World, action: &[f32]) {
        Ant::act(world, action);
    }

    fn observe(&self, world: &World, observation: &mut [f32]) {
        Ant::observe(world, observation);
    }

    fn height(&self, world: &World) -> f32 {
        self.ant.height(world)
    }

    fn head(&self, _: &World, observation: &[f32], direction: [f32; 2], action: &mut [f32]) {
        let (positions, velocities) = observation.split_at(ant::COORDINATES);
        walk(self.gait, [&positions[2..], velocities], direction, action);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use telic_seed::Seed;
    use telic_sim::{JointLimits, Model};

    use super::*;

    fn empty_world(physics: &PhysicsConfig) -> World {
        let model = Model::from_mjcf_str("ant", &Ant::mjcf("", "")).unwrap();
        World::new(&Arc::new(model), physics).unwrap()
    }

    /// Runs one control period of 0.1 s at any physics step.
    fn act(world: &mut World, action: &[f32]) {
        world.set_ctrls(action).unwrap();
        for _ in 0..(0.1 / world.timestep_secs()).round() as usize {
            world.step();
        }
    }

    fn observed(world: &World) -> [f32; ant::OBSERVATION_DIM] {
        let mut observation = [0.0; ant::OBSERVATION_DIM];
        Ant::observe(world, &mut observation);
        observation
    }

    /// Walks along 16 directions of 20 s each: metres per second along them, and how many walks end on the back.
    fn gait_speed_and_falls(physics: &PhysicsConfig) -> (f32, usize) {
        const WALKS: usize = 16;
        const STEPS: usize = 200;
        let mut world = empty_world(physics);
        let walker = WalkingAnt::new(&world).unwrap();
        let (mut moved, mut falls) = (0.0, 0);
        for walk in 0..WALKS {
            let mut rng = Seed::new(walk as u64).rng();
            Ant::start(&mut world, [0.0; 2], &mut rng);
            let angle = walk as f32 / WALKS as f32 * std::f32::consts::TAU;
            let direction = [libm::cosf(angle), libm::sinf(angle)];
            for _ in 0..STEPS {
                let mut action = [0.0; ant::ACTION_DIM];
                walker.head(&world, &observed(&world), direction, &mut action);
                act(&mut world, &action);
            }
            let end = observed(&world);
            moved += end[0] * direction[0] + end[1] * direction[1];
            falls += usize::from(!ant::is_upright(&end));
        }
        (moved / (WALKS * STEPS) as f32 * 10.0, falls)
    }

    #[test]
    fn the_gait_follows_directions() {
        let (speed, falls) = gait_speed_and_falls(&Ant::physics());
        assert!(speed > 0.8, "{speed} m/s");
        assert!(falls <= 2, "{falls} falls");
    }

    /// Prints the table of `docs/envs/ant-maze.md`.
    #[test]
    #[ignore = "slow: a minute"]
    fn accuracy_and_speed_of_physics_settings() {
        let setting = |timestep_secs: f32, solver_iterations, joint_limits| PhysicsConfig {
            timestep_secs,
            solver_iterations,
            joint_limits,
            ..PhysicsConfig::default()
        };
        let soft = Ant::physics().joint_limits;
        for physics in [
            setting(0.02, 1, soft),
            setting(0.02, 2, soft),
            setting(0.02, 4, soft),
            setting(0.02, 8, soft),
            setting(0.01, 1, soft),
            setting(0.01, 2, soft),
            setting(0.005, 4, soft),
            setting(0.02, 2, JointLimits::Hard),
            setting(0.02, 4, JointLimits::Hard),
        ] {
            let mut world = empty_world(&physics);
            for _ in 0..50 {
                act(&mut world, &[0.0; ant::ACTION_DIM]);
            }
            let at_rest = observed(&world);
            let mut full = [0.0; ant::ACTION_DIM];
            full[2] = 1.0;
            act(&mut world, &full);
            let turned = observed(&world)[7] - at_rest[7];
            let steps = 10_000;
            let mut rng = Seed::new(0).rng();
            let (mut height, mut speed) = (0.0, 0.0);
            let start = Instant::now();
            for step in 0..steps {
                if step % 1000 == 0 {
                    Ant::start(&mut world, [0.0; 2], &mut rng);
                }
                let action = [0.0; ant::ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
                act(&mut world, &action);
                let observation = observed(&world);
                height += observation[2] / steps as f32;
                speed += observation[15].hypot(observation[16]) / steps as f32;
            }
            let rate = steps as f64 / start.elapsed().as_secs_f64();
            let (gait, falls) = gait_speed_and_falls(&physics);
            eprintln!(
                "{} s x {} iterations, {:?}: hip {turned:.4} rad, rests at {:.3} m, random {height:.3} m and {speed:.3} m/s; \
                 gait {gait:.2} m/s, {falls}/16 fall; {rate:.0} steps/s",
                physics.timestep_secs, physics.solver_iterations, physics.joint_limits, at_rest[2],
            );
        }
    }

    /// A million random steps are too many for every run of the tests; a twentieth of them is not.
    #[test]
    fn random_torques_neither_blow_it_up_nor_push_it_through_the_floor() {
        let mut world = empty_world(&Ant::physics());
        check_random_steps(&mut world, 50_000);
    }

    #[test]
    #[ignore = "slow: minutes"]
    fn a_million_random_steps() {
        let mut world = empty_world(&Ant::physics());
        check_random_steps(&mut world, 1_000_000);
    }

    fn check_random_steps(world: &mut World, steps: usize) {
        let mut rng = Seed::new(7).rng();
        Ant::start(world, [0.0; 2], &mut rng);
        let (mut lowest, mut highest, mut fastest) = (f32::MAX, f32::MIN, 0.0_f32);
        for step in 0..steps {
            let action = [0.0; ant::ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
            act(world, &action);
            assert!(world.is_finite(), "step {step}");
            let observation = observed(world);
            lowest = lowest.min(observation[2]);
            highest = highest.max(observation[2]);
            let speed = observation[15..18]
                .iter()
                .map(|v| v * v)
                .sum::<f32>()
                .sqrt();
            fastest = fastest.max(speed);
        }
        eprintln!("{steps} random steps: {lowest:.3} to {highest:.3} m, up to {fastest:.2} m/s");
        assert!(lowest > 0.15 && highest < 2.0, "{lowest} to {highest} m");
        assert!(fastest < 10.0, "{fastest} m/s");
    }
}
