//! The scripted expert of the mazes: follows shortest paths from cell centre to cell centre, with noise.

use rand_distr::{Distribution, StandardNormal};
use telic_seed::{Rng, Seed};

use super::{PointMaze, any_of, near};
use crate::maze::{Cell, Distances};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// Length of a `navigate` episode.
pub(super) const NAVIGATE_STEPS: usize = 1000;
/// Length of a `stitch` episode.
pub(super) const STITCH_STEPS: usize = 200;

/// Standard deviation of the noise on every action entry (OGBench, pointmaze).
const ACTION_NOISE: f32 = 0.5;
/// Length of the path of a `stitch` episode, in cells.
const STITCH_CELLS: u16 = 4;

/// Where goals of play data come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Play {
    /// A random vertex cell; a new one each time it is reached.
    Navigate,
    /// A random cell exactly [`STITCH_CELLS`] away; it stays.
    Stitch,
}

/// The expert and its environment.
pub(super) struct Navigator {
    env: PointMaze,
    play: Play,
    noise: f32,
    rng: Rng,
    /// Whether it solves an evaluation task, in place of making play data.
    solving: bool,
    distances: Distances,
    finished: bool,
}

impl Navigator {
    pub(super) fn new(index: usize, play: Play, noise: f32) -> Result<Self, EnvError> {
        let env = PointMaze::new(index)?;
        let distances = env.maze.distances(Cell { row: 1, column: 1 }, &[]);
        Ok(Self {
            env,
            play,
            noise,
            rng: Seed::new(0).rng(),
            solving: false,
            distances,
            finished: false,
        })
    }

    /// Plans towards the goal of the environment. Play data takes no notice of portals; solving a task goes around
    /// them where it can.
    fn plan(&mut self) {
        let maze = self.env.maze;
        let goal = [self.env.goal[0], self.env.goal[1]];
        // A goal outside of the grid has no path; the expert then stays where it is.
        let cell = maze.cell_at(goal).unwrap_or(Cell { row: 0, column: 0 });
        self.distances = maze.distances(cell, &[]);
        if let (true, Some(portals)) = (self.solving, &maze.portals) {
            let around = maze.distances(cell, portals.entrances);
            if maze
                .cell_at(self.env.observation)
                .is_some_and(|cell| around.from(cell).is_some())
            {
                self.distances = around;
            }
        }
    }

    /// A goal at [`STITCH_CELLS`] from the start, or in the start cell where there is none.
    fn draw_stitch_goal(&mut self) -> [f32; 2] {
        let maze = self.env.maze;
        let start_xy = self.env.observation;
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
}

impl Demonstrator for Navigator {
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
            self.env.set_goal(&goal)?;
        }
        self.plan();
        Ok(())
    }

    fn act(&mut self, action: &mut [f32]) {
        let at = self.env.observation;
        let cell = self
            .env
            .maze
            .cell_at(at)
            .unwrap_or(Cell { row: 1, column: 1 });
        // Play data heads for cell centres, in the goal cell too. The centre can be outside of the tolerance, so
        // solving a task ends on the goal itself.
        let target = if self.solving && self.distances.from(cell) == Some(0) {
            self.env.goal
        } else {
            self.distances.next(cell).centre()
        };
        let offset = [target[0] - at[0], target[1] - at[1]];
        let length = (offset[0] * offset[0] + offset[1] * offset[1]).sqrt() + 1e-6;
        for (action, offset) in action.iter_mut().zip(offset) {
            let noise: f32 = StandardNormal.sample(&mut self.rng);
            *action = (offset / length + self.noise * ACTION_NOISE * noise).clamp(-1.0, 1.0);
        }
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let step = self.env.step(action)?;
        if self.solving {
            self.finished = step.terminated || step.truncated;
            return Ok(step);
        }
        let steps = match self.play {
            Play::Navigate => NAVIGATE_STEPS,
            Play::Stitch => STITCH_STEPS,
        };
        self.finished = self.env.elapsed_steps() >= steps;
        if step.success && self.play == Play::Navigate {
            let cell = any_of(&self.env.maze.vertex_cells(), &mut self.rng);
            let goal = near(cell, &mut self.rng);
            self.env.set_goal(&goal)?;
            self.plan();
        }
        Ok(step)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
