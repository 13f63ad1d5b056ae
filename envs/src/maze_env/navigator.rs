//! The scripted expert of the mazes: follows shortest paths from cell centre to cell centre, with noise.

use std::f32::consts::PI;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use telic_seed::{Rng, Seed};

use super::{MazeEnv, Robot, any_of, near};
use crate::maze::{Cell, Distances};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// Length of the path of a `stitch` episode, in cells.
const STITCH_CELLS: u16 = 4;
/// Steps of an `explore` episode along one direction.
const EXPLORE_STEPS: usize = 10;
/// Standard deviation of the noise on every action entry of an `explore` episode.
const EXPLORE_NOISE: f32 = 1.0;

/// Where goals of play data come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Play {
    /// A random vertex cell; a new one each time it is reached.
    Navigate,
    /// A random cell exactly [`STITCH_CELLS`] away; it stays.
    Stitch,
    /// None: a random direction every [`EXPLORE_STEPS`] steps.
    Explore,
}

/// The expert and its environment.
struct Navigator<R> {
    env: MazeEnv<R>,
    play: Play,
    noise: f32,
    rng: Rng,
    /// Where an `explore` episode heads.
    direction: [f32; 2],
    /// Whether it solves an evaluation task, in place of making play data.
    solving: bool,
    distances: Distances,
    finished: bool,
}

/// A navigator of a robot in one of [`MAZES`](crate::maze::MAZES).
pub(super) fn make<R: Robot>(
    maze: usize,
    play: Play,
    noise: f32,
) -> Result<Box<dyn Demonstrator>, EnvError> {
    let env = MazeEnv::<R>::new(maze)?;
    let distances = env.maze.distances(Cell { row: 1, column: 1 }, &[]);
    Ok(Box::new(Navigator {
        env,
        play,
        noise,
        rng: Seed::new(0).rng(),
        direction: [1.0, 0.0],
        solving: false,
        distances,
        finished: false,
    }))
}

/// Adds Gaussian noise of this standard deviation to every entry, and clips to −1..=1.
pub(crate) fn add_noise(action: &mut [f32], std: f32, rng: &mut Rng) {
    for action in action {
        let noise: f32 = StandardNormal.sample(rng);
        *action = (*action + std * noise).clamp(-1.0, 1.0);
    }
}

impl<R: Robot> Navigator<R> {
    /// Plans towards the goal of the environment. Play data takes no notice of portals; solving a task goes around
    /// them where it can.
    fn plan(&mut self) {
        let maze = self.env.maze;
        // A goal outside of the grid has no path; the expert then stays where it is.
        let cell = maze
            .cell_at(self.env.goal_xy())
            .unwrap_or(Cell { row: 0, column: 0 });
        self.distances = maze.distances(cell, &[]);
        if let (true, Some(portals)) = (self.solving, &maze.portals) {
            let around = maze.distances(cell, portals.entrances);
            if maze
                .cell_at(self.env.xy())
                .is_some_and(|cell| around.from(cell).is_some())
            {
                self.distances = around;
            }
        }
    }

    /// A goal at [`STITCH_CELLS`] from the start, or in the start cell where there is none.
    fn draw_stitch_goal(&mut self) -> [f32; 2] {
        let maze = self.env.maze;
        let start_xy = self.env.xy();
        let start = maze.cell_at(start_xy).unwrap_or(Cell { row: 1, column: 1 });
        let distances = maze.distances(start, &[]);
        let mut cells = maze.free_cells();
        cells.retain(|&cell| distances.from(cell) == Some(STITCH_CELLS));
        if cells.is_empty() {
            cells.push(start);
        }
        let cell = any_of(&cells, &mut self.rng);
        // A goal in the start cell must not be reached from the start; a corner of the cell always is far enough.
        loop {
            let goal = near(cell, &mut self.rng);
            if !self.env.spec.goal.reached(&start_xy, &goal) {
                return goal;
            }
        }
    }

    /// The unit vector along the shortest path.
    fn towards_goal(&self) -> [f32; 2] {
        let at = self.env.xy();
        let cell = self
            .env
            .maze
            .cell_at(at)
            .unwrap_or(Cell { row: 1, column: 1 });
        // Play data heads for cell centres, in the goal cell too. The centre can be outside of the tolerance, so
        // solving a task ends on the goal itself.
        let target = if self.solving && self.distances.from(cell) == Some(0) {
            self.env.goal_xy()
        } else {
            self.distances.next(cell).centre()
        };
        let offset = [target[0] - at[0], target[1] - at[1]];
        let length = (offset[0] * offset[0] + offset[1] * offset[1]).sqrt() + 1e-6;
        offset.map(|offset| offset / length)
    }
}

impl<R: Robot> Demonstrator for Navigator<R> {
    fn env(&self) -> &dyn GoalEnv {
        &self.env
    }

    fn reset(&mut self, seed: u64, task: Option<usize>) -> Result<(), EnvError> {
        let start = task.map_or(Start::Collection, Start::Task);
        self.env.reset(seed, &ResetOptions { start, goal: None })?;
        self.rng = Seed::new(seed).child("demonstrator").rng();
        self.solving = task.is_some();
        self.finished = false;
        if !self.solving && self.play == Play::Stitch {
            let goal = self.draw_stitch_goal();
            self.env.move_goal(goal);
        }
        self.plan();
        Ok(())
    }

    fn act(&mut self, action: &mut [f32]) {
        let explores = self.play == Play::Explore && !self.solving;
        let direction = if explores {
            if self.env.elapsed_steps().is_multiple_of(EXPLORE_STEPS) {
                let angle = self.rng.random_range(-PI..PI);
                self.direction = [libm::cosf(angle), libm::sinf(angle)];
            }
            self.direction
        } else {
            self.towards_goal()
        };
        let env = &self.env;
        env.robot
            .head(&env.world, &env.observation, direction, action);
        let std = if explores {
            EXPLORE_NOISE
        } else {
            R::ACTION_NOISE
        };
        add_noise(action, self.noise * std, &mut self.rng);
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let step = self.env.step(action)?;
        let play = (!self.solving).then_some(self.play);
        self.finished = self.env.is_over(&step, play);
        if step.success && play == Some(Play::Navigate) {
            let cell = any_of(&self.env.maze.vertex_cells(), &mut self.rng);
            let goal = near(cell, &mut self.rng);
            self.env.move_goal(goal);
            self.plan();
        }
        Ok(step)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
