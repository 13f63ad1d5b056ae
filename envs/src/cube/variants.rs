//! The members of the family: their scenes, tasks and specs.

use std::sync::Arc;

use telic_sim::Model;

use super::demonstrator::{Expert, Kind, PLAY_STEPS};
use super::{CubeEnv, TOLERANCE};
use crate::arm::{self, TabletopArm};
use crate::shared_model::SharedModel;
use crate::{Demonstrator, DemonstratorSpec, Entry, EnvError, EnvSpec, GoalEnv, GoalSpec, Task};

/// The scene; `<!-- CUBES -->` stands for the cubes.
const SCENE: &str = include_str!("../../assets/ur5e_cubes.xml");

/// Colour of each cube.
pub(super) const COLOURS: [[f32; 4]; 4] = [
    [0.85, 0.23, 0.2, 1.0],
    [0.18, 0.42, 0.82, 1.0],
    [0.95, 0.7, 0.15, 1.0],
    [0.25, 0.65, 0.35, 1.0],
];

/// One evaluation task: where each cube starts and where it must go.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) start: &'static [[f64; 3]],
    pub(super) goal: &'static [[f64; 3]],
}

const fn layout(
    name: &'static str,
    summary: &'static str,
    start: &'static [[f64; 3]],
    goal: &'static [[f64; 3]],
) -> Layout {
    Layout {
        name,
        summary,
        start,
        goal,
    }
}

const PLAY: Kind = Kind::Plan;
const NOISY: Kind = Kind::Markov { random_percent: 10 };

/// What differs between the members of the family.
pub(super) struct Variant {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) max_episode_steps: usize,
    /// Range from which an episode's probability of stacking is drawn.
    pub(super) p_stack: [f64; 2],
    pub(super) layouts: &'static [Layout],
    pub(super) model: SharedModel,
    pub(super) make: fn() -> Result<Box<dyn GoalEnv>, EnvError>,
    pub(super) play: fn(noise: f32) -> Result<Box<dyn Demonstrator>, EnvError>,
    pub(super) noisy: fn(noise: f32) -> Result<Box<dyn Demonstrator>, EnvError>,
}

/// One cube.
pub(super) static SINGLE: Variant = Variant {
    id: "cube-single",
    summary: "Move one cube to a goal position with a UR5e and a parallel gripper.",
    max_episode_steps: 200,
    p_stack: [0.0, 0.0],
    layouts: &[
        layout(
            "task1-horizontal",
            "across the table",
            &[[0.425, 0.1, 0.02]],
            &[[0.425, -0.1, 0.02]],
        ),
        layout(
            "task2-vertical1",
            "away from the base",
            &[[0.35, 0.0, 0.02]],
            &[[0.5, 0.0, 0.02]],
        ),
        layout(
            "task3-vertical2",
            "towards the base",
            &[[0.5, 0.0, 0.02]],
            &[[0.35, 0.0, 0.02]],
        ),
        layout(
            "task4-diagonal1",
            "from near right to far left",
            &[[0.35, -0.2, 0.02]],
            &[[0.5, 0.2, 0.02]],
        ),
        layout(
            "task5-diagonal2",
            "from near left to far right",
            &[[0.35, 0.2, 0.02]],
            &[[0.5, -0.2, 0.02]],
        ),
    ],
    model: SharedModel::new(),
    make: || Ok(Box::new(CubeEnv::new(&SINGLE)?)),
    play: |noise| Ok(Box::new(Expert::new(&SINGLE, PLAY, noise)?)),
    noisy: |noise| Ok(Box::new(Expert::new(&SINGLE, NOISY, noise)?)),
};

/// Two cubes.
pub(super) static DOUBLE: Variant = Variant {
    id: "cube-double",
    summary: "Move two cubes to goal positions, among them a swap and a stack.",
    max_episode_steps: 500,
    p_stack: [0.0, 0.25],
    layouts: &[
        layout(
            "task1-single-pnp",
            "one cube moves, the other stays",
            &[[0.425, 0.0, 0.02], [0.425, -0.1, 0.02]],
            &[[0.425, 0.0, 0.02], [0.425, 0.1, 0.02]],
        ),
        layout(
            "task2-double-pnp1",
            "both cubes move to the other side",
            &[[0.35, -0.1, 0.02], [0.5, -0.1, 0.02]],
            &[[0.35, 0.1, 0.02], [0.5, 0.1, 0.02]],
        ),
        layout(
            "task3-double-pnp2",
            "both cubes move apart",
            &[[0.35, 0.0, 0.02], [0.5, 0.0, 0.02]],
            &[[0.425, -0.2, 0.02], [0.425, 0.2, 0.02]],
        ),
        layout(
            "task4-swap",
            "the cubes change places",
            &[[0.425, -0.1, 0.02], [0.425, 0.1, 0.02]],
            &[[0.425, 0.1, 0.02], [0.425, -0.1, 0.02]],
        ),
        layout(
            "task5-stack",
            "both cubes move, one onto the other",
            &[[0.425, -0.2, 0.02], [0.425, 0.2, 0.02]],
            &[[0.425, 0.0, 0.02], [0.425, 0.0, 0.06]],
        ),
    ],
    model: SharedModel::new(),
    make: || Ok(Box::new(CubeEnv::new(&DOUBLE)?)),
    play: |noise| Ok(Box::new(Expert::new(&DOUBLE, PLAY, noise)?)),
    noisy: |noise| Ok(Box::new(Expert::new(&DOUBLE, NOISY, noise)?)),
};

impl Variant {
    pub(super) fn cubes(&self) -> usize {
        self.layouts[0].start.len()
    }

    pub(super) fn spec(&self) -> EnvSpec {
        let mut observation = TabletopArm::entries();
        let mut indices = Vec::new();
        for cube in 0..self.cubes() {
            let first = observation.len();
            indices.extend(first..first + 3);
            // Ten metres: farther than a cube flies that was squeezed out of the workspace.
            let free = (-100.0, 100.0);
            for (part, unit, (low, high)) in [
                ("x", "0.1 m", free),
                ("y", "0.1 m", free),
                ("z", "0.1 m", free),
                ("quat.w", "1", (-1.0, 1.0)),
                ("quat.x", "1", (-1.0, 1.0)),
                ("quat.y", "1", (-1.0, 1.0)),
                ("quat.z", "1", (-1.0, 1.0)),
                ("yaw.cos", "1", (-1.0, 1.0)),
                ("yaw.sin", "1", (-1.0, 1.0)),
            ] {
                observation.push(Entry {
                    name: format!("cube_{cube}.{part}"),
                    unit,
                    low,
                    high,
                });
            }
        }
        EnvSpec {
            id: self.id,
            family: "cube",
            version: 0,
            summary: self.summary,
            observation,
            action: TabletopArm::action_entries(),
            goal: GoalSpec {
                indices,
                tolerance: TOLERANCE as f32,
                point_dim: 3,
                metres_per_unit: 1.0 / arm::POSITION_SCALE,
            },
            control_hz: arm::CONTROL_HZ,
            max_episode_steps: self.max_episode_steps,
            tasks: self
                .layouts
                .iter()
                .map(|layout| Task {
                    name: layout.name.to_owned(),
                    summary: layout.summary.to_owned(),
                })
                .collect(),
            rewards: vec![],
            make: self.make,
            demonstrators: vec![
                DemonstratorSpec {
                    name: "play",
                    summary: "pick and place between random places along smoothly perturbed plans",
                    episode_steps: PLAY_STEPS,
                    make: self.play,
                },
                DemonstratorSpec {
                    name: "noisy",
                    summary: "reactive pick and place with noise, every tenth action random",
                    episode_steps: PLAY_STEPS,
                    make: self.noisy,
                },
            ],
        }
    }
}

/// The scene with its cubes, parsed once and shared by all instances.
pub(super) fn model(variant: &'static Variant) -> Result<Arc<Model>, EnvError> {
    variant.model.get(variant.id, || mjcf(variant.cubes()))
}

fn mjcf(cubes: usize) -> String {
    // Density 1240 kg/m³; inertia m (2a)² / 6.
    let body = |(cube, [r, g, b, a]): (usize, &[f32; 4])| {
        format!(
            r#"<body name="cube_{cube}" pos="0.425 {y} 0.02"><freejoint name="cube_{cube}"/>
      <inertial pos="0 0 0" mass="0.07936" diaginertia="2.1163e-05 2.1163e-05 2.1163e-05"/>
      <geom name="cube_{cube}" type="box" size="0.02 0.02 0.02" contype="4" conaffinity="15"
            friction="1 0.005 0.0001" rgba="{r} {g} {b} {a}"/></body>
    "#,
            y = 0.1 * cube as f32,
        )
    };
    let bodies: Vec<String> = COLOURS.iter().take(cubes).enumerate().map(body).collect();
    SCENE.replace("<!-- CUBES -->", &bodies.concat())
}
