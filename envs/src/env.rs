//! The contract between an environment and everything that drives it.

use rand::RngExt;
use telic_seed::Seed;
use telic_sim::World;

/// One number of an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it is, for example `block_0.x` or `arm.shoulder_pan.velocity`.
    pub name: String,
    /// SI unit after scaling, for example `m`, `rad`, `m/s`, `1`.
    pub unit: &'static str,
    /// Lowest value that the environment can return.
    pub low: f32,
    /// Highest value that the environment can return.
    pub high: f32,
}

/// One number of an action, in −1..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionEntry {
    /// What it moves, for example `gripper.x`.
    pub name: String,
    /// Unit of the physical quantity.
    pub unit: &'static str,
    /// Physical value of an action of 1.
    pub scale: f32,
}

/// How a goal is read off an observation, and when it is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalSpec {
    /// Indices of the observation entries that make up the achieved goal, in order.
    pub indices: Vec<usize>,
    /// Distance within which a goal counts as reached, in metres.
    pub tolerance: f32,
    /// The achieved goal is split into points of this many entries; each must be within `tolerance`.
    pub point_dim: usize,
    /// Physical length of one unit of a goal entry (observations may be scaled), in metres.
    pub metres_per_unit: f32,
}

impl GoalSpec {
    /// Copies the achieved goal out of an observation.
    pub fn extract(&self, observation: &[f32], goal: &mut [f32]) {
        for (value, &index) in goal.iter_mut().zip(&self.indices) {
            *value = observation[index];
        }
    }

    /// Whether `achieved` is within the tolerance of `desired`, point by point. Both `[indices.len()]`.
    pub fn reached(&self, achieved: &[f32], desired: &[f32]) -> bool {
        let squared_tolerance = self.tolerance * self.tolerance;
        achieved
            .chunks_exact(self.point_dim)
            .zip(desired.chunks_exact(self.point_dim))
            .all(|(a, d)| {
                let squared_distance: f32 = a
                    .iter()
                    .zip(d)
                    .map(|(a, d)| {
                        let difference = (a - d) * self.metres_per_unit;
                        difference * difference
                    })
                    .sum();
                squared_distance <= squared_tolerance
            })
    }

    /// Sparse reward: 0 where the goal is reached, −1 elsewhere. Works on whole batches for relabelling:
    /// `achieved` and `desired` are `[batch * indices.len()]`, row-major; `rewards` `[batch]`.
    pub fn rewards(&self, achieved: &[f32], desired: &[f32], rewards: &mut [f32]) {
        let dim = self.indices.len();
        for ((reward, achieved), desired) in rewards
            .iter_mut()
            .zip(achieved.chunks_exact(dim))
            .zip(desired.chunks_exact(dim))
        {
            *reward = if self.reached(achieved, desired) {
                0.0
            } else {
                -1.0
            };
        }
    }
}

/// One fixed evaluation task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Short name, unique in the environment, for example `task2` or `swap`.
    pub name: String,
    /// One line for people.
    pub summary: String,
}

/// A reward beside that of the goal, for learners that take rewards and for zero-shot prompts: 0 to 1, a function of the physics
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewardSpec {
    /// Short name, unique in the environment, for example `walk`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
}

/// Static description of an environment.
#[derive(Clone, Debug)]
pub struct EnvSpec {
    /// Name on the command line, kebab case, for example `cube-single`.
    pub id: &'static str,
    /// Group of environments that share dynamics, for example `cube`.
    pub family: &'static str,
    /// Raised when dynamics, observation or reward change.
    pub version: u32,
    /// One line for people.
    pub summary: &'static str,
    /// Observation entries, in order.
    pub observation: Vec<Entry>,
    /// Action entries, in order.
    pub action: Vec<ActionEntry>,
    /// The goal inside an observation.
    pub goal: GoalSpec,
    /// Control steps per second of simulated time.
    pub control_hz: f64,
    /// Step after which an episode is truncated.
    pub max_episode_steps: usize,
    /// Evaluation tasks.
    pub tasks: Vec<Task>,
    /// Rewards beside that of the goal; mostly none.
    pub rewards: Vec<RewardSpec>,
    /// Builds one instance.
    pub make: fn() -> Result<Box<dyn GoalEnv>, EnvError>,
    /// Scripted demonstrators; the first one is the default of `telic collect`. May be empty.
    pub demonstrators: Vec<crate::DemonstratorSpec>,
}

impl EnvSpec {
    /// The demonstrator of this name, or the first one.
    ///
    /// # Errors
    /// [`EnvError::NoDemonstrator`] or [`EnvError::UnknownDemonstrator`].
    pub fn demonstrator(&self, name: Option<&str>) -> Result<&crate::DemonstratorSpec, EnvError> {
        let first = self
            .demonstrators
            .first()
            .ok_or(EnvError::NoDemonstrator { id: self.id })?;
        let Some(name) = name else {
            return Ok(first);
        };
        let mut all = self.demonstrators.iter();
        all.find(|demonstrator| demonstrator.name == name)
            .ok_or_else(|| EnvError::UnknownDemonstrator {
                id: self.id,
                name: name.to_owned(),
                known: self
                    .demonstrators
                    .iter()
                    .map(|demonstrator| demonstrator.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Length of an observation.
    pub fn observation_dim(&self) -> usize {
        self.observation.len()
    }

    /// Length of an action.
    pub fn action_dim(&self) -> usize {
        self.action.len()
    }

    /// Length of an achieved or desired goal.
    pub fn goal_dim(&self) -> usize {
        self.goal.indices.len()
    }
}

/// Where an episode starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// One of the evaluation tasks, drawn from the reset seed.
    #[default]
    RandomTask,
    /// This evaluation task (0-based index into [`EnvSpec::tasks`]).
    Task(usize),
    /// The start distribution of play data; the episode ends only where the published data end it too.
    Collection,
}

/// What a reset may be asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResetOptions {
    /// Start and task.
    pub start: Start,
    /// Goal observation to use in place of the task's, `[observation_dim]`.
    pub goal: Option<Vec<f32>>,
}

/// Outcome of one control step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// 0 at the goal, −1 elsewhere.
    pub reward: f32,
    /// The task ended here (success, or a state from which the task is over).
    pub terminated: bool,
    /// The step limit was reached.
    pub truncated: bool,
    /// The desired goal is reached in the state after this step.
    pub success: bool,
}

/// A thing to draw that is not part of the physics: the ghost of a goal, a portal, a target square.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker {
    /// Entity name, for example `goal/block_0`.
    pub name: String,
    /// Shape and size in metres, as a geom of the world has it.
    pub shape: telic_sim::GeomShape,
    /// Pose in the world.
    pub pose: telic_sim::Pose,
    /// Colour, 0..=1 each, alpha last.
    pub rgba: [f32; 4],
}

/// States on a grid of squares, see [`GoalEnv::probes`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes {
    /// Edge of a square, in metres.
    pub spacing_m: f32,
    /// Where that which is elsewhere in each state is now: the agent, or the first object. In the world, in metres.
    pub place: [f32; 3],
    /// One per square, at its centre.
    pub states: Vec<Probe>,
}

/// A state that differs from the running one in one place only: where the agent is, or the first object.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// That place in the world, in metres.
    pub position: [f32; 3],
    /// What would be observed, `[observation_dim]`.
    pub observation: Vec<f32>,
}

/// An environment with a desired goal.
///
/// An instance owns all of its state: same seed and same actions give the same bits, whatever ran
/// before on it, beside it, or on other threads.
pub trait GoalEnv: Send {
    /// What this environment is.
    fn spec(&self) -> &'static EnvSpec;

    /// Starts an episode that is a pure function of `seed` and `options`. Never starts in success.
    fn reset(&mut self, seed: u64, options: &ResetOptions) -> Result<(), EnvError>;

    /// Applies one action `[action_dim]` for one control period. Finite values outside −1..=1 are clipped.
    ///
    /// # Errors
    /// [`EnvError::ActionDim`] and [`EnvError::NonFiniteAction`]; the state is then unchanged.
    fn step(&mut self, action: &[f32]) -> Result<Step, EnvError>;

    /// Observation of the current state, `[observation_dim]`.
    fn observation(&self) -> &[f32];

    /// Goal as a full observation, `[observation_dim]` (OGBench's `info["goal"]`).
    fn goal_observation(&self) -> &[f32];

    /// Goal as [`GoalSpec`] reads it off an observation, `[goal_dim]`.
    fn desired_goal(&self) -> &[f32];

    /// Replaces the goal of the running episode by a goal observation `[observation_dim]`.
    fn set_goal(&mut self, goal_observation: &[f32]) -> Result<(), EnvError>;

    /// The goal of the running episode as another episode reached it: a goal observation for a policy that ends like
    /// `final_observation` `[observation_dim]` and asks for what [`desired_goal`](Self::desired_goal) asks for. `None` where the
    /// episodes of a dataset do not end at goals of the tasks.
    fn goal_like(&self, final_observation: &[f32]) -> Option<Vec<f32>> {
        let _ = final_observation;
        None
    }

    /// The task of the running episode, if it has one.
    fn task(&self) -> Option<usize>;

    /// Control steps taken since the reset.
    fn elapsed_steps(&self) -> usize;

    /// Scores of the episode so far beyond success, by name, in a fixed order (block-push: `reward`, `result`).
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Generalised coordinates and velocities in MuJoCo's order, appended to the vectors.
    fn state(&self, qpos: &mut Vec<f32>, qvel: &mut Vec<f32>);

    /// Rewards of the current state, in the order of [`EnvSpec::rewards`].
    fn rewards(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Writes coordinates and velocities as [`state`](Self::state) reads them, for example those of a dataset's row; goal, task
    /// and step count stay.
    ///
    /// # Errors
    /// [`EnvError::BadState`]; also where coordinates and velocities are not the whole state, which then takes a
    /// [`snapshot`](Self::snapshot).
    fn set_state(&mut self, qpos: &[f32], qvel: &[f32]) -> Result<(), EnvError> {
        let _ = (qpos, qvel);
        Err(EnvError::BadState {
            id: self.spec().id,
            reason: "coordinates and velocities are not all of it; restore a snapshot".to_owned(),
        })
    }

    /// Everything that decides the future of this instance, as bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// Puts a snapshot of the same environment back.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), EnvError>;

    /// The physics, to look at.
    fn world(&self) -> &World;

    /// What to draw besides the world's geoms.
    fn markers(&self) -> Vec<Marker>;

    /// States to ask a value function at: the agent (mazes), or the first object (tables), on a grid of about `across` squares
    /// along the longer side of where it can be. No states where that is more than one place says.
    fn probes(&self, across: usize) -> Probes {
        let _ = across;
        Probes::default()
    }

    /// Point whose trace shows the motion best, in the world, in metres (pinch point, ball, torso).
    fn end_effector(&self) -> [f32; 3];
}

/// What can go wrong when an environment is driven.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// No such id in the registry.
    #[error("unknown environment `{id}`; known: {known}")]
    UnknownId {
        /// What was asked for.
        id: String,
        /// Every id, comma separated.
        known: String,
    },
    /// It has no demonstrators at all.
    #[error("`{id}` has no demonstrator")]
    NoDemonstrator {
        /// The environment.
        id: &'static str,
    },
    /// No such demonstrator.
    #[error("`{id}` has no demonstrator `{name}`; known: {known}")]
    UnknownDemonstrator {
        /// The environment.
        id: &'static str,
        /// What was asked for.
        name: String,
        /// Every name, comma separated.
        known: String,
    },
    /// A demonstrator without noise was asked for more or less of it.
    #[error("the demonstrator `{name}` of `{id}` has no noise to scale by {noise}; expected 1")]
    NoNoise {
        /// The environment.
        id: &'static str,
        /// The demonstrator.
        name: &'static str,
        /// What was asked for.
        noise: f32,
    },
    /// No such task.
    #[error("`{id}` has {tasks} tasks, numbered from 0; there is no task {task}")]
    UnknownTask {
        /// The environment.
        id: &'static str,
        /// What was asked for.
        task: usize,
        /// How many there are.
        tasks: usize,
    },
    /// An action of the wrong length.
    #[error("`{id}` takes an action of {expected} numbers, got {found}")]
    ActionDim {
        /// The environment.
        id: &'static str,
        /// What was given.
        found: usize,
        /// What it takes.
        expected: usize,
    },
    /// An action with NaN or an infinity.
    #[error("action entry {index} of `{id}` is {value}, expected a finite number")]
    NonFiniteAction {
        /// The environment.
        id: &'static str,
        /// Position in the action.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A goal of the wrong length, or one that is not finite.
    #[error("goal of `{id}`: {reason}")]
    BadGoal {
        /// The environment.
        id: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// `step` before the first `reset`.
    #[error("`{id}` was stepped before its first reset")]
    NotReset {
        /// The environment.
        id: &'static str,
    },
    /// A snapshot of something else, or a damaged one.
    #[error("cannot restore `{id}`: {reason}")]
    BadSnapshot {
        /// The environment.
        id: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Coordinates and velocities that cannot be written.
    #[error("state of `{id}`: {reason}")]
    BadState {
        /// The environment.
        id: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The weights of a gait cannot be used.
    #[error("weights of a gait: {reason}")]
    Gait {
        /// What is wrong.
        reason: String,
    },
    /// The model of the environment cannot be built.
    #[error("cannot build the world of `{id}`: {reason}")]
    Model {
        /// The environment.
        id: &'static str,
        /// The loader's words.
        reason: String,
    },
}

/// Checks an action for length and finiteness and writes it, clipped to −1..=1, to `clipped`.
pub fn checked_action(
    id: &'static str,
    action: &[f32],
    clipped: &mut [f32],
) -> Result<(), EnvError> {
    if action.len() != clipped.len() {
        return Err(EnvError::ActionDim {
            id,
            found: action.len(),
            expected: clipped.len(),
        });
    }
    if let Some((index, &value)) = action
        .iter()
        .enumerate()
        .find(|(_, value)| !value.is_finite())
    {
        return Err(EnvError::NonFiniteAction { id, index, value });
    }
    for (out, value) in clipped.iter_mut().zip(action) {
        *out = value.clamp(-1.0, 1.0);
    }
    Ok(())
}

/// Checks a goal observation for length and finiteness.
pub fn checked_goal(spec: &'static EnvSpec, goal_observation: &[f32]) -> Result<(), EnvError> {
    let expected = spec.observation_dim();
    if goal_observation.len() != expected {
        let reason = format!(
            "expected an observation of {expected} numbers, got {}",
            goal_observation.len()
        );
        return Err(EnvError::BadGoal {
            id: spec.id,
            reason,
        });
    }
    if let Some((index, value)) = goal_observation
        .iter()
        .enumerate()
        .find(|(_, value)| !value.is_finite())
    {
        let reason = format!(
            "entry {index} (`{}`) is {value}, expected a finite number",
            spec.observation[index].name
        );
        return Err(EnvError::BadGoal {
            id: spec.id,
            reason,
        });
    }
    Ok(())
}

/// The task that `start` asks for: the given one, one drawn from the child `task` of `seed`, or none for play data.
pub fn resolve_task(
    spec: &'static EnvSpec,
    start: Start,
    seed: Seed,
) -> Result<Option<usize>, EnvError> {
    let tasks = spec.tasks.len();
    match start {
        Start::Collection => Ok(None),
        Start::Task(task) if task < tasks => Ok(Some(task)),
        Start::Task(task) => Err(EnvError::UnknownTask {
            id: spec.id,
            task,
            tasks,
        }),
        Start::RandomTask => Ok(Some(seed.child("task").rng().random_range(0..tasks))),
    }
}
