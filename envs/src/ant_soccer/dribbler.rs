//! The scripted expert of the soccer mazes: walks to the ball and dribbles it along shortest paths, with noise.
//!
//! Switching distance, way-points, the way out of a jam and both kinds of play are those of OGBench's oracle (Park et al. 2024). Three
//! things differ, for an expert that has seen far goals above all and at times stops over the ball: it is shown every goal as far
//! away; the way to the ball ends behind it; and where the ball rests it walks there again for a new attempt. A task is
//! solved without detours.

use std::collections::VecDeque;
use std::f32::consts::PI;

use telic_seed::{Rng, Seed};

use super::SoccerAnt;
use crate::dribbling::{self, distance};
use crate::maze::Cell;
use crate::maze_env::{MazeEnv, Play, Robot, add_noise, any_of, near};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// Distance from the ball beyond which the ant walks to it, in metres.
const DRIBBLING_M: f32 = 2.0;
/// Distance from the ball at which every goal is shown to the expert that dribbles, in metres.
const SHOWN_GOAL_M: f32 = 10.0;
/// A ball that moved less than so many metres in as many steps, with the ant at it, rests.
const RESTING_M: f32 = 0.3;
const RESTING_STEPS: usize = 40;
/// Where a new attempt starts, in metres behind the ball.
const BEHIND_M: f32 = 2.0;
/// Distance from there within which it starts, in metres, and the steps after which it starts anyway.
const BEHIND_TOLERANCE_M: f32 = 0.6;
const BEHIND_STEPS: usize = 50;
/// An ant that stayed within [`STUCK_M`] metres for as many steps is stuck.
const STUCK_STEPS: usize = 150;
const STUCK_M: f32 = 2.0;
/// Distance from the end of a detour within which it is over, in metres.
const DETOUR_TOLERANCE_M: f32 = 0.5;

/// The expert and its environment.
struct Dribbler {
    env: MazeEnv<SoccerAnt>,
    play: Play,
    noise: f32,
    rng: Rng,
    /// Whether it solves an evaluation task, in place of making play data.
    solving: bool,
    /// The last places of the ant, at most [`STUCK_STEPS`].
    trail: VecDeque<[f32; 2]>,
    /// A cell to walk to before it goes on, for an ant that was stuck.
    detour: Option<Cell>,
    /// Where the ball was when it last moved, and the steps since then.
    resting: ([f32; 2], usize),
    /// A place behind the ball to walk to for a new attempt, and the steps that are left for it.
    behind: Option<([f32; 2], usize)>,
    /// Whether this episode is a walk to the goal.
    ignores_ball: bool,
    finished: bool,
}

/// A dribbler in one of [`MAZES`](crate::maze::MAZES).
pub(super) fn make(maze: usize, play: Play, noise: f32) -> Result<Box<dyn Demonstrator>, EnvError> {
    Ok(Box::new(Dribbler {
        env: MazeEnv::new(maze)?,
        play,
        noise,
        rng: Seed::new(0).rng(),
        solving: false,
        trail: VecDeque::with_capacity(STUCK_STEPS),
        detour: None,
        resting: ([0.0; 2], 0),
        behind: None,
        ignores_ball: false,
        finished: false,
    }))
}

impl Dribbler {
    /// Where to go next on the way between two places: straight ahead where there are no walls, else from cell centre to cell centre.
    fn waypoint(&self, from: [f32; 2], to: [f32; 2]) -> [f32; 2] {
        let maze = self.env.maze;
        match (maze.cell_at(from), maze.cell_at(to)) {
            (Some(at), Some(end)) if at != end && !maze.is_open() => {
                maze.distances(end, &[]).next(at).centre()
            }
            _ => to,
        }
    }

    /// Whether the ant has been around the same place for long.
    fn is_stuck(&self) -> bool {
        let at = self.env.xy();
        self.trail.len() == STUCK_STEPS
            && self.trail.iter().all(|&past| distance(past, at) <= STUCK_M)
    }

    /// Where to start again: straight behind the ball, or as near to it as there is no wall.
    fn place_behind(&self) -> Option<[f32; 2]> {
        let ball = self.env.target_xy();
        let next = self.waypoint(ball, self.env.goal_xy());
        let ahead = libm::atan2f(next[1] - ball[1], next[0] - ball[0]);
        [0.0, 0.25, -0.25, 0.5, -0.5, 0.75, -0.75, 1.0]
            .into_iter()
            .map(|turn| {
                let angle = ahead + (1.0 + turn) * PI;
                let offset = [libm::cosf(angle), libm::sinf(angle)];
                [0, 1].map(|axis| ball[axis] + BEHIND_M * offset[axis])
            })
            .find(|&place| {
                let cell = self.env.maze.cell_at(place);
                cell.is_some_and(|cell| self.env.maze.is_free(cell))
            })
    }

    fn plan_attempt(&mut self) {
        let [ant, ball] = dribbling::places(&self.env.observation);
        if let Some((place, left)) = self.behind {
            let over = left == 0 || distance(ant, place) <= BEHIND_TOLERANCE_M;
            self.behind = (!over).then(|| (place, left - 1));
            self.resting = (ball, 0);
        } else if distance(ant, ball) > DRIBBLING_M || distance(ball, self.resting.0) > RESTING_M {
            self.resting = (ball, 0);
        } else {
            self.resting.1 += 1;
            if self.resting.1 >= RESTING_STEPS {
                self.behind = self.place_behind().map(|place| (place, BEHIND_STEPS));
                self.resting.1 = 0;
            }
        }
    }

    fn plan_detour(&mut self) {
        if let Some(cell) = self.detour {
            if distance(self.env.xy(), cell.centre()) <= DETOUR_TOLERANCE_M {
                self.detour = None;
                self.trail.clear();
            }
        } else if !self.solving && self.play == Play::Navigate && self.is_stuck() {
            self.detour = Some(any_of(&self.env.maze.free_cells(), &mut self.rng));
        }
    }

    fn walk(&self, to: [f32; 2], action: &mut [f32]) {
        let at = self.env.xy();
        let next = self.waypoint(at, to);
        let length = distance(at, next) + 1e-6;
        let direction = [0, 1].map(|axis| (next[axis] - at[axis]) / length);
        let env = &self.env;
        env.robot
            .head(&env.world, &env.observation, direction, action);
    }

    fn dribble(&self, to: [f32; 2], action: &mut [f32]) {
        let ball = self.env.target_xy();
        let next = self.waypoint(ball, to);
        let part = SHOWN_GOAL_M / distance(ball, next).max(1e-3);
        let shown = [0, 1].map(|axis| ball[axis] + part * (next[axis] - ball[axis]));
        self.env.robot.dribble(&self.env.observation, shown, action);
    }
}

impl Demonstrator for Dribbler {
    fn env(&self) -> &dyn GoalEnv {
        &self.env
    }

    fn reset(&mut self, seed: u64, task: Option<usize>) -> Result<(), EnvError> {
        let start = task.map_or(Start::Collection, Start::Task);
        self.env.reset(seed, &ResetOptions { start, goal: None })?;
        self.rng = Seed::new(seed).child("demonstrator").rng();
        self.solving = task.is_some();
        self.trail.clear();
        self.detour = None;
        self.behind = None;
        self.resting = (self.env.target_xy(), 0);
        // A ball that starts in the ant's cell, as half of them do, is dribbled.
        let maze = self.env.maze;
        let [ant, ball] = [self.env.xy(), self.env.target_xy()].map(|xy| maze.cell_at(xy));
        self.ignores_ball = !self.solving && self.play == Play::Stitch && ant != ball;
        self.finished = false;
        Ok(())
    }

    fn act(&mut self, action: &mut [f32]) {
        self.plan_detour();
        let [ant, ball] = dribbling::places(&self.env.observation);
        if let Some(cell) = self.detour {
            self.walk(cell.centre(), action);
        } else if self.ignores_ball {
            self.walk(self.env.goal_xy(), action);
        } else {
            self.plan_attempt();
            if let Some((place, _)) = self.behind {
                self.walk(place, action);
            } else if distance(ant, ball) > DRIBBLING_M {
                self.walk(self.place_behind().unwrap_or(ball), action);
            } else {
                self.dribble(self.env.goal_xy(), action);
            }
        }
        add_noise(action, self.noise * SoccerAnt::ACTION_NOISE, &mut self.rng);
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let step = self.env.step(action)?;
        if self.trail.len() == STUCK_STEPS {
            self.trail.pop_front();
        }
        self.trail.push_back(self.env.xy());
        let play = (!self.solving).then_some(self.play);
        self.finished = self.env.is_over(&step, play);
        if step.success && play == Some(Play::Navigate) {
            let cell = any_of(&self.env.maze.free_cells(), &mut self.rng);
            let goal = near(cell, &mut self.rng);
            self.env.move_goal(goal);
        }
        Ok(step)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
