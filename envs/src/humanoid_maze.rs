//! A humanoid in a maze: the ids `humanoid-maze-{medium,large,giant}`.
//!
//! Robot, mazes, tasks, tolerance, step limits and the order of a reset are those of OGBench's humanoidmaze (Park et al. 2024), but
//! that an episode starts on its feet: there it is dropped in any posture and has to get up.

use std::f32::consts::PI;
use std::sync::OnceLock;

use rand::RngExt;
use telic_seed::Rng;
use telic_sim::{PhysicsConfig, World};

use crate::gait::{self, Gait};
use crate::humanoid::{self, Humanoid};
use crate::maze::{MAZES, Maze};
use crate::maze_env::{self, Play, Robot};
use crate::shared_model::SharedModel;
use crate::{ActionEntry, Entry, EnvSpec};

/// Weights of its expert, made by `telic train-expert configs/humanoid_expert.toml` (`docs/experts.md`).
const GAIT: &[u8] = include_bytes!("../assets/humanoid_gait.safetensors");

/// Distance of the torso from the goal within which it counts as reached, in metres.
const TOLERANCE_M: f32 = 0.5;
/// Random actions before a goal is observed, so that its posture is one that the humanoid can have.
const GOAL_STEPS: usize = 40;

/// One spec per maze.
pub(crate) fn specs() -> Vec<EnvSpec> {
    maze_env::specs::<WalkingHumanoid>()
}

/// The humanoid with its expert.
struct WalkingHumanoid {
    humanoid: Humanoid,
    gait: &'static Gait,
}

/// The gait in the repository.
fn gait() -> Result<&'static Gait, String> {
    static SLOT: OnceLock<Result<Gait, String>> = OnceLock::new();
    gait::shared(&SLOT, GAIT)
}

impl Robot for WalkingHumanoid {
    const FAMILY: &'static str = "humanoid-maze";
    const VERSION: u32 = 1;
    const ENVS: [Option<(&'static str, &'static str)>; MAZES.len()] = [
        None,
        Some(("humanoid-maze-medium", "A humanoid crosses an 8×8 maze.")),
        Some(("humanoid-maze-large", "A humanoid crosses a 9×12 maze.")),
        Some(("humanoid-maze-giant", "A humanoid crosses a 12×16 maze.")),
        None,
    ];
    const TOLERANCE_M: f32 = TOLERANCE_M;
    const CONTROL_HZ: f64 = 40.0;
    const ACTION_NOISE: f32 = 0.2;

    fn max_episode_steps(maze: &Maze) -> usize {
        if maze.name == "giant" { 4000 } else { 2000 }
    }

    fn episode_steps(play: Play, maze: &Maze) -> Option<usize> {
        match play {
            Play::Navigate => Some(Self::max_episode_steps(maze)),
            Play::Stitch => Some(400),
            Play::Explore => None,
        }
    }

    fn observation(bounds: [f32; 4]) -> Vec<Entry> {
        Humanoid::entries(bounds)
    }

    fn action() -> Vec<ActionEntry> {
        Humanoid::action_entries()
    }

    fn models() -> &'static [SharedModel; MAZES.len()] {
        static MODELS: [SharedModel; MAZES.len()] = [const { SharedModel::new() }; MAZES.len()];
        &MODELS
    }

    fn mjcf(maze: &Maze) -> String {
        Humanoid::mjcf(
            &maze.mjcf_walls("condim=\"3\" friction=\"1\" contype=\"0\" conaffinity=\"1\""),
        )
    }

    fn physics() -> PhysicsConfig {
        Humanoid::physics()
    }

    fn new(world: &World) -> Result<Self, String> {
        Ok(Self {
            humanoid: Humanoid::new(world)?,
            gait: gait()?,
        })
    }

    /// On its feet, looking anywhere: its expert cannot get up.
    fn start(&self, world: &mut World, xy: [f32; 2], _: [f32; 2], rng: &mut Rng) {
        Humanoid::stand(world, xy, rng.random_range(-PI..PI), rng);
    }

    fn goal(&self, world: &mut World, xy: [f32; 2], rng: &mut Rng, observation: &mut [f32]) {
        Humanoid::drop_at(world, xy, rng);
        for _ in 0..GOAL_STEPS {
            let action = [0.0; humanoid::ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
            Humanoid::act(world, &action);
        }
        self.humanoid.place(world, xy);
        self.humanoid.observe(world, observation);
    }

    fn place(&self, world: &mut World, xy: [f32; 2]) {
        self.humanoid.place(world, xy);
    }

    fn act(&self, world: &mut World, action: &[f32]) {
        Humanoid::act(world, action);
    }

    fn observe(&self, world: &World, observation: &mut [f32]) {
        self.humanoid.observe(world, observation);
    }

    fn height(&self, world: &World) -> f32 {
        self.humanoid.height(world)
    }

    fn head(&self, world: &World, observation: &[f32], direction: [f32; 2], action: &mut [f32]) {
        let mut input = [0.0; humanoid::GAIT_INPUT_DIM];
        self.humanoid
            .write_gait_input(world, observation, direction, &mut input);
        self.gait.act(&input, action);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use telic_seed::Seed;

    use super::*;
    use crate::{ResetOptions, spec};

    #[test]
    fn specs_have_the_published_limits_and_lengths() {
        for (id, steps) in [
            ("humanoid-maze-medium", 2000),
            ("humanoid-maze-large", 2000),
            ("humanoid-maze-giant", 4000),
        ] {
            let spec = spec(id).unwrap();
            assert_eq!(spec.max_episode_steps, steps);
            assert_eq!(spec.demonstrators.len(), 2, "{id}");
            for demonstrator in &spec.demonstrators {
                let expected = if demonstrator.name == "stitch" {
                    400
                } else {
                    steps
                };
                assert_eq!(demonstrator.episode_steps, expected, "{id}");
            }
        }
    }

    fn world(maze: &Maze) -> (World, WalkingHumanoid) {
        let model = telic_sim::Model::from_mjcf_str("maze", &WalkingHumanoid::mjcf(maze)).unwrap();
        let world = World::new(&std::sync::Arc::new(model), &Humanoid::physics()).unwrap();
        let robot = WalkingHumanoid::new(&world).unwrap();
        (world, robot)
    }

    /// The corner of a cell is a metre from two walls, and a leg is longer.
    #[test]
    fn a_drop_in_a_corner_touches_no_wall() {
        let (mut world, _) = world(&MAZES[1]);
        let mut rng = Seed::new(4).rng();
        for xy in [[-1.0, -1.0], [-0.9, 0.8]] {
            let (mut draws, mut most) = (0, 0);
            for _ in 0..300 {
                let drawn = Humanoid::drop_at(&mut world, xy, &mut rng);
                assert!(world.contacts().all(|contact| contact.distance_m > 0.0));
                draws += drawn;
                most = most.max(drawn);
            }
            eprintln!("{xy:?}: {:.2} draws, at most {most}", draws as f32 / 300.0);
            assert!(most < 50, "{most} draws");
        }
    }

    #[test]
    fn a_gait_sees_the_posture_and_the_direction() {
        let (world, mut robot) = world(&MAZES[1]);
        // One layer from 67 + 2 entries to 21 means and 21 deviations: the last mean is the last entry, the y of the direction.
        let (inputs, outputs) = (69, 42);
        let mut weight = vec![0.0_f32; inputs * outputs];
        weight[(inputs - 1) * outputs + 20] = 1.0;
        weight[21 * outputs] = 1.0;
        let bytes = |values: &[f32]| {
            values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let (weight, bias) = (bytes(&weight), bytes(&[0.0; 42]));
        let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        let file = safetensors::serialize(
            [
                (
                    "actor.output.weight",
                    view(&[inputs, outputs], &weight).unwrap(),
                ),
                ("actor.output.bias", view(&[outputs], &bias).unwrap()),
            ],
            None,
        )
        .unwrap();
        robot.gait = Box::leak(Box::new(Gait::from_safetensors(&file).unwrap()));
        let mut observation = [0.0; humanoid::OBSERVATION_DIM];
        robot.observe(&world, &mut observation);
        let mut action = [1.0; humanoid::ACTION_DIM];
        robot.head(&world, &observation, [0.6, -0.8], &mut action);
        assert!((action[20] - libm::tanhf(-0.8)).abs() < 1e-6);
        // Entry 21 without x and y is the height of the head.
        assert!((action[0] - libm::tanhf(1.69)).abs() < 1e-6);
        assert_eq!(action[1..20], [0.0; 19]);
    }

    /// Prints the speeds of `docs/envs/humanoid-maze.md`.
    #[test]
    #[ignore = "measures time"]
    fn steps_and_resets_per_second() {
        let mut env = (spec("humanoid-maze-medium").unwrap().make)().unwrap();
        let mut rng = Seed::new(0).rng();
        let (mut steps_per_sec, mut resets_per_sec) = (0.0_f64, 0.0_f64);
        for seed in 0..10 {
            let start = Instant::now();
            env.reset(seed, &ResetOptions::default()).unwrap();
            resets_per_sec = resets_per_sec.max(start.elapsed().as_secs_f64().recip());
            let start = Instant::now();
            for _ in 0..1000 {
                let action = [0.0; humanoid::ACTION_DIM].map(|_: f32| rng.random_range(-1.0..=1.0));
                env.step(&action).unwrap();
            }
            steps_per_sec = steps_per_sec.max(1000.0 / start.elapsed().as_secs_f64());
        }
        eprintln!("{steps_per_sec:.0} steps/s, {resets_per_sec:.0} resets/s at best");
    }
}
