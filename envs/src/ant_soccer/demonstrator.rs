//! The scripted expert of ant-soccer: walks to the ball, then dribbles it along the shortest path.

use rand_distr::{Distribution, StandardNormal};
use telic_seed::{Rng, Seed};

use super::SoccerAnt;
use crate::dribbling::{distance, places};
use crate::maze_env::{MazeEnv, Play, Robot, any_of, near, stitch_goal};
use crate::{Demonstrator, EnvError, GoalEnv, ResetOptions, Start, Step};

/// Distance from the ball above which it walks in place of dribbling, in metres.
const DRIBBLING_REACH_M: f32 = 2.0;
/// The farthest goal that the dribbling expert has learned, in metres.
const FARTHEST_DRIBBLE_M: f32 = 10.0;
/// It is stuck if it stayed within [`STUCK_M`] for so many steps; it then walks somewhere else.
const STUCK_STEPS: usize = 150;
const STUCK_M: f32 = 2.0;
/// Distance from that place within which it has arrived, in metres.
const ARRIVED_M: f32 = 0.5;
/// The expert and its environment.
struct Dribbler {
    env: MazeEnv<SoccerAnt>,
    play: Play,
    noise: f32,
    rng: Rng,
    /// Whether it solves an evaluation task, in place of making play data.
    solving: bool,
    /// Whether it takes no notice of the ball, as in `stitch` episodes in which that starts in another cell.
    walks: bool,
    /// Where it goes because it was stuck.
    escape: Option<[f32; 2]>,
    /// Where it was in the last [`STUCK_STEPS`] steps.
    trail: Vec<[f32; 2]>,
    finished: bool,
}

/// An expert in one of [`MAZES`](crate::maze::MAZES).
pub(super) fn make(maze: usize, play: Play, noise: f32) -> Result<Box<dyn Demonstrator>, EnvError> {
    Ok(Box::new(Dribbler {
        env: MazeEnv::new(maze)?,
        play,
        noise,
        rng: Seed::new(0).rng(),
        solving: false,
        walks: false,
        escape: None,
        trail: vec![],
        finished: false,
    }))
}

impl Dribbler {
    /// Where to go next from `from`, to come to `to`: straight to it in the same and the next cell and in the arena, else to the
    /// centre of the next cell of the shortest path.
    fn waypoint(&self, from: [f32; 2], to: [f32; 2]) -> [f32; 2] {
        let maze = self.env.maze();
        let (Some(at), Some(goal)) = (maze.cell_at(from), maze.cell_at(to)) else {
            return to;
        };
        if maze.name == "arena" {
            return to;
        }
        let distances = maze.distances(goal, &[]);
        match distances.from(at) {
            Some(cells) if cells > 1 => distances.next(at).centre(),
            _ => to,
        }
    }

    /// Walks towards a place.
    fn walk(&self, to: [f32; 2], action: &mut [f32]) {
        let observation = self.env.observation();
        let [agent, _] = places(observation);
        let waypoint = self.waypoint(agent, to);
        let length = distance(agent, waypoint) + 1e-6;
        let direction = [0, 1].map(|axis| (waypoint[axis] - agent[axis]) / length);
        self.env.robot().head(observation, direction, action);
    }

    /// Brings the ball towards a place.
    fn dribble(&self, to: [f32; 2], action: &mut [f32]) {
        let observation = self.env.observation();
        let [_, ball] = places(observation);
        let waypoint = self.waypoint(ball, to);
        let pulled_in = (FARTHEST_DRIBBLE_M / distance(ball, waypoint).max(1e-6)).min(1.0);
        let to = [0, 1].map(|axis| ball[axis] + pulled_in * (waypoint[axis] - ball[axis]));
        self.env.robot().dribble(observation, to, action);
    }

    /// Notices that it has been stuck, and when it has come away.
    fn update_escape(&mut self, agent: [f32; 2]) {
        if let Some(to) = self.escape {
            if distance(agent, to) <= ARRIVED_M {
                self.escape = None;
                self.trail.clear();
            }
            return;
        }
        self.trail.push(agent);
        if self.trail.len() > STUCK_STEPS {
            self.trail.remove(0);
            if self.trail.iter().all(|&at| distance(at, agent) <= STUCK_M) {
                let cell = any_of(&self.env.maze().free_cells(), &mut self.rng);
                self.escape = Some(cell.centre());
            }
        }
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
        self.finished = false;
        self.escape = None;
        self.trail.clear();
        self.walks = false;
        if self.solving || self.play != Play::Stitch {
            return Ok(());
        }
        let maze = self.env.maze();
        let [agent, ball] = places(self.env.observation());
        self.walks = maze.cell_at(agent) != maze.cell_at(ball);
        let goal = stitch_goal(maze, agent, &mut self.rng, |goal| {
            distance(goal, ball) > SoccerAnt::TOLERANCE_M
        });
        self.env.move_goal(goal);
        Ok(())
    }

    fn act(&mut self, action: &mut [f32]) {
        let [agent, ball] = places(self.env.observation());
        if self.play == Play::Navigate {
            self.update_escape(agent);
        }
        let goal = self.env.goal_xy();
        if let Some(to) = self.escape {
            self.walk(to, action);
        } else if self.walks {
            self.walk(goal, action);
        } else if distance(agent, ball) > DRIBBLING_REACH_M {
            self.walk(ball, action);
        } else {
            self.dribble(goal, action);
        }
        for action in action {
            let noise: f32 = StandardNormal.sample(&mut self.rng);
            *action = (*action + self.noise * SoccerAnt::ACTION_NOISE * noise).clamp(-1.0, 1.0);
        }
    }

    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError> {
        let step = self.env.step(action)?;
        if self.solving {
            self.finished = step.terminated || step.truncated;
            return Ok(step);
        }
        let steps = SoccerAnt::episode_steps(self.play, self.env.maze());
        self.finished = steps.is_none_or(|steps| self.env.elapsed_steps() >= steps);
        if step.success && self.play == Play::Navigate {
            let goal = any_of(&self.env.maze().free_cells(), &mut self.rng);
            let goal = near(goal, &mut self.rng);
            self.env.move_goal(goal);
        }
        Ok(step)
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
