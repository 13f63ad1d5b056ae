//! Success of a policy on the evaluation tasks, over parallel worlds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8Path;
use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use telic_envs::{EnvError, EnvSpec, GoalEnv, ResetOptions, Start, Step};
use telic_policies::config_table::flat;
use telic_policies::run_folder::write_atomically;
use telic_policies::{Policy, Threads};
use telic_seed::{Rng, Seed};

use crate::FlowError;
use crate::error::within;
use crate::interval::{Interval, mean};

/// Episodes that an evaluation may have.
pub const MAX_EPISODES: usize = 1_000_000;
/// Worlds that may be stepped side by side.
pub const MAX_WORLDS: usize = 65_536;

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct EvaluateConfig {
    /// Episodes in all, dealt out over the tasks in turn.
    pub episodes: usize,
    /// Seed of every episode and of the policy's draws.
    pub seed: u64,
    /// Worlds stepped in parallel; does not change the result.
    pub worlds: usize,
    /// Threads that step the worlds; does not change the result.
    pub threads: usize,
    /// Tasks by index; all if empty.
    pub tasks: Vec<usize>,
    /// Final observations of other episodes that the policy is given as goals, `[observation_dim]` each, in turn: see
    /// [`GoalEnv::goal_like`]. If empty, it is given the goals of the tasks. Success is about the tasks either way.
    pub final_observations: Vec<Vec<f32>>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            episodes: 100,
            seed: 0,
            worlds: 50,
            threads: threads(),
            tasks: Vec::new(),
            final_observations: Vec::new(),
        }
    }
}

/// Threads of this machine.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One finished episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeResult {
    /// Position in the evaluation.
    pub episode: usize,
    /// Index of the task.
    pub task: usize,
    /// Whether the goal was reached.
    pub success: bool,
    /// Control steps taken.
    pub steps: usize,
    /// Sum of rewards.
    pub episode_return: f64,
    /// Further scores of the environment.
    pub metrics: BTreeMap<String, f64>,
}

/// Results of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Name of the task.
    pub name: String,
    /// Fraction of episodes that reached the goal.
    pub success_rate: f64,
    /// Wilson 95 % interval.
    pub ci95: Interval,
    /// Episodes of this task.
    pub episodes: usize,
    /// Mean of each further score.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

/// Results over all tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Environment id.
    pub env: String,
    /// Version of the environment; results of different versions are not of the same worlds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_version: Option<u32>,
    /// Fraction of episodes that reached the goal.
    pub success_rate: f64,
    /// Wilson 95 % interval.
    pub ci95: Interval,
    /// Episodes in all.
    pub episodes: usize,
    /// Mean sum of rewards.
    pub mean_return: f64,
    /// Mean control steps.
    pub mean_steps: f64,
    /// Seed.
    pub seed: u64,
    /// Updates behind the policy, if it is from a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Inference settings of the policy, by dotted key ([`flat`]).
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The command that made it, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The dataset whose episodes gave the goals, in place of those of the tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goals: Option<String>,
    /// Per task that had episodes.
    pub tasks: Vec<TaskResult>,
    /// Mean of each further score (block-push: `reward`, `result`).
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// 95 % interval of each further score's mean; none for a single episode.
    pub metrics_ci95: BTreeMap<String, Interval>,
}

/// One world and what runs in it.
struct Slot {
    env: Box<dyn GoalEnv>,
    /// Episode being run; `None` when there is nothing left for this world.
    episode: Option<usize>,
    task: usize,
    /// What the policy is given in place of the goal of the environment.
    goal: Option<Vec<f32>>,
    episode_return: f64,
    last: Step,
}

impl Slot {
    fn start(
        &mut self,
        episode: usize,
        task: usize,
        seed: Seed,
        final_observations: &[Vec<f32>],
    ) -> Result<(), EnvError> {
        self.env.reset(
            seed.child("env").value(),
            &ResetOptions {
                start: Start::Task(task),
                goal: None,
            },
        )?;
        self.goal = final_observations
            .get(episode % final_observations.len().max(1))
            .and_then(|observation| self.env.goal_like(observation));
        (self.episode, self.task) = (Some(episode), task);
        (self.episode_return, self.last) = (0.0, Step::default());
        Ok(())
    }

    fn goal(&self) -> &[f32] {
        self.goal
            .as_deref()
            .unwrap_or_else(|| self.env.goal_observation())
    }

    fn result(&self, episode: usize) -> EpisodeResult {
        EpisodeResult {
            episode,
            task: self.task,
            success: self.last.success,
            steps: self.env.elapsed_steps(),
            episode_return: self.episode_return,
            metrics: self
                .env
                .metrics()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }
}

/// Runs `policy` on the tasks of `spec`. Calls `progress(episodes done, successes)` after each step of the worlds.
///
/// Episode `e` runs task `e mod tasks` from its own stream, so its world does not depend on the others.
///
/// # Errors
/// [`FlowError::Mismatch`] if policy and environment have other dims; [`FlowError::Stopped`] when `stop` was set.
pub fn evaluate(
    policy: &mut dyn Policy,
    spec: &'static EnvSpec,
    config: &EvaluateConfig,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, usize),
) -> Result<(Evaluation, Vec<EpisodeResult>), FlowError> {
    let tasks = resolve_tasks(spec, config)?;
    fits(policy, spec)?;
    let threads = Threads::new(config.threads)?;
    let seed = Seed::new(config.seed).child("evaluate");
    let worlds = config.worlds.min(config.episodes);
    let mut slots = Vec::with_capacity(worlds);
    let mut rngs: Vec<Rng> = Vec::with_capacity(worlds);
    for row in 0..worlds {
        let mut slot = Slot {
            env: (spec.make)()?,
            episode: None,
            task: 0,
            goal: None,
            episode_return: 0.0,
            last: Step::default(),
        };
        let task = tasks[row % tasks.len()];
        slot.start(
            row,
            task,
            seed.index(row as u64),
            &config.final_observations,
        )?;
        if slot.goal.is_none() && !config.final_observations.is_empty() {
            return Err(FlowError::Argument {
                name: "goals",
                value: format!("given for `{}`", spec.id),
                expected:
                    "none, since it has no use for the ends of other episodes; `block-push` has"
                        .to_owned(),
            });
        }
        slots.push(slot);
        rngs.push(seed.index(row as u64).child("policy").rng());
    }
    policy.reset(worlds);
    let mut next = worlds;
    let mut results = Vec::with_capacity(config.episodes);
    let mut observations = Array2::zeros((worlds, spec.observation_dim()));
    let mut goals = Array2::zeros((worlds, spec.observation_dim()));
    let mut actions = Array2::zeros((worlds, spec.action_dim()));
    let mut successes = 0;
    while results.len() < config.episodes {
        if stop.load(Ordering::Relaxed) {
            return Err(FlowError::Stopped(format!(
                "{} of {} episodes were evaluated",
                results.len(),
                config.episodes
            )));
        }
        for (row, slot) in slots.iter().enumerate() {
            observations
                .row_mut(row)
                .assign(&ndarray::aview1(slot.env.observation()));
            goals.row_mut(row).assign(&ndarray::aview1(slot.goal()));
        }
        threads.run(|| -> Result<(), FlowError> {
            policy.act(observations.view(), goals.view(), &mut rngs, &mut actions)?;
            Ok(step_all(&mut slots, actions.view())?)
        })?;
        for row in 0..worlds {
            let slot = &mut slots[row];
            let Some(episode) = slot.episode else {
                continue;
            };
            if !(slot.last.terminated || slot.last.truncated || slot.last.success) {
                continue;
            }
            let result = slot.result(episode);
            successes += usize::from(result.success);
            results.push(result);
            slot.episode = None;
            if next < config.episodes {
                let seed = seed.index(next as u64);
                let task = tasks[next % tasks.len()];
                slot.start(next, task, seed, &config.final_observations)?;
                rngs[row] = seed.child("policy").rng();
                policy.reset_row(row);
                next += 1;
            }
        }
        progress(results.len(), successes);
    }
    results.sort_by_key(|result| result.episode);
    let evaluation = summarise(spec, config, &tasks, &results, policy);
    Ok((evaluation, results))
}

/// Runs `policy` on the tasks of `spec` without telling it their goals: of each task it is told which of some observations
/// `[rows, observation_dim]` have reached the goal of that task's first episode, as a reward of 1 and 0
/// ([`Policy::prompt_reward`]).
///
/// # Errors
/// As [`evaluate`], also for observations of another width; [`FlowError::Policy`] if no observation or every one is at a goal, or the policy takes goals only.
pub fn evaluate_rewards(
    policy: &mut dyn Policy,
    spec: &'static EnvSpec,
    config: &EvaluateConfig,
    observations: ArrayView2<'_, f32>,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, usize),
) -> Result<(Evaluation, Vec<EpisodeResult>), FlowError> {
    let tasks = resolve_tasks(spec, config)?;
    fits(policy, spec)?;
    if observations.ncols() != spec.observation_dim() {
        return Err(FlowError::Mismatch {
            what: "observation entries",
            left: format!("the labelled observations have {}", observations.ncols()),
            right: format!("`{}` has {}", spec.id, spec.observation_dim()),
        });
    }
    let mut results: Vec<EpisodeResult> = Vec::with_capacity(config.episodes);
    for (position, &task) in tasks.iter().enumerate() {
        let episodes = (config.episodes + tasks.len() - 1 - position) / tasks.len();
        if episodes == 0 {
            continue;
        }
        let seed = Seed::new(config.seed).child("task").index(task as u64);
        let of_task = EvaluateConfig {
            episodes,
            seed: seed.value(),
            tasks: vec![task],
            ..config.clone()
        };
        let mut env = (spec.make)()?;
        let options = ResetOptions {
            start: Start::Task(task),
            goal: None,
        };
        let first = Seed::new(of_task.seed).child("evaluate").index(0);
        env.reset(first.child("env").value(), &options)?;
        let mut achieved = vec![0.0; env.desired_goal().len()];
        let rewards: Array1<f32> = observations
            .rows()
            .into_iter()
            .map(|observation| {
                spec.goal.extract(&observation.to_vec(), &mut achieved);
                f32::from(spec.goal.reached(&achieved, env.desired_goal()))
            })
            .collect();
        policy.prompt_reward(observations, rewards.view())?;
        let (done, successes) = (results.len(), results.iter().filter(|r| r.success).count());
        let (_, found) = evaluate(policy, spec, &of_task, stop, |episodes, more| {
            progress(done + episodes, successes + more);
        })?;
        results.extend(found.into_iter().map(|result| EpisodeResult {
            episode: done + result.episode,
            ..result
        }));
    }
    let evaluation = summarise(spec, config, &tasks, &results, policy);
    Ok((evaluation, results))
}

fn step_all(slots: &mut [Slot], actions: ArrayView2<f32>) -> Result<(), EnvError> {
    slots
        .par_iter_mut()
        .enumerate()
        .filter(|(_, slot)| slot.episode.is_some())
        .try_for_each(|(row, slot)| {
            let action = actions.row(row);
            let action = action
                .as_slice()
                .expect("rows of an owned array are contiguous");
            slot.last = slot.env.step(action)?;
            slot.episode_return += f64::from(slot.last.reward);
            Ok(())
        })
}

fn resolve_tasks(spec: &'static EnvSpec, config: &EvaluateConfig) -> Result<Vec<usize>, FlowError> {
    for (name, value, most) in [
        ("episodes", config.episodes, MAX_EPISODES),
        ("worlds", config.worlds, MAX_WORLDS),
        ("threads", config.threads, Threads::MAX),
    ] {
        within(name, value, most)?;
    }
    let width = spec.observation_dim();
    if let Some(found) = config.final_observations.iter().find(|o| o.len() != width) {
        return Err(FlowError::Mismatch {
            what: "observation entries",
            left: format!("the goals have {}", found.len()),
            right: format!("`{}` has {width}", spec.id),
        });
    }
    if let Some(&task) = config.tasks.iter().find(|&&task| task >= spec.tasks.len()) {
        return Err(EnvError::UnknownTask {
            id: spec.id,
            task,
            tasks: spec.tasks.len(),
        }
        .into());
    }
    let twice = |task: &usize| config.tasks.iter().filter(|other| *other == task).count() > 1;
    if let Some(&task) = config.tasks.iter().find(|task| twice(task)) {
        return Err(FlowError::Argument {
            name: "task",
            value: format!("`{}` twice", spec.tasks[task].name),
            expected: "each task once".to_owned(),
        });
    }
    Ok(if config.tasks.is_empty() {
        (0..spec.tasks.len()).collect()
    } else {
        config.tasks.clone()
    })
}

/// Checks that a policy can be run in an environment.
pub fn fits(policy: &dyn Policy, spec: &EnvSpec) -> Result<(), FlowError> {
    let sides = [
        (
            "observation entries",
            policy.observation_dim(),
            spec.observation_dim(),
        ),
        ("action entries", policy.action_dim(), spec.action_dim()),
    ];
    for (what, of_policy, of_env) in sides {
        if of_policy != of_env {
            return Err(FlowError::Mismatch {
                what,
                left: format!("the policy has {of_policy}"),
                right: format!("`{}` has {of_env}", spec.id),
            });
        }
    }
    Ok(())
}

fn summarise(
    spec: &EnvSpec,
    config: &EvaluateConfig,
    tasks: &[usize],
    results: &[EpisodeResult],
    policy: &dyn Policy,
) -> Evaluation {
    let successes =
        |results: &[&EpisodeResult]| results.iter().filter(|result| result.success).count();
    let rate = |results: &[&EpisodeResult]| successes(results) as f64 / results.len().max(1) as f64;
    let all: Vec<_> = results.iter().collect();
    let metrics = columns(&all);
    Evaluation {
        env: spec.id.to_owned(),
        env_version: Some(spec.version),
        success_rate: rate(&all),
        ci95: Interval::wilson(successes(&all), all.len()),
        episodes: all.len(),
        mean_return: mean(
            &all.iter()
                .map(|result| result.episode_return)
                .collect::<Vec<_>>(),
        ),
        mean_steps: mean(
            &all.iter()
                .map(|result| result.steps as f64)
                .collect::<Vec<_>>(),
        ),
        seed: config.seed,
        step: None,
        settings: flat(&policy.settings()),
        command: None,
        goals: None,
        tasks: tasks
            .iter()
            .map(|&task| {
                let of_task: Vec<_> = results
                    .iter()
                    .filter(|result| result.task == task)
                    .collect();
                (task, of_task)
            })
            // Fewer episodes than tasks leave some without any.
            .filter(|(_, of_task)| !of_task.is_empty())
            .map(|(task, of_task)| TaskResult {
                name: spec.tasks[task].name.clone(),
                success_rate: rate(&of_task),
                ci95: Interval::wilson(successes(&of_task), of_task.len()),
                episodes: of_task.len(),
                metrics: columns(&of_task)
                    .into_iter()
                    .map(|(name, values)| (name, mean(&values)))
                    .collect(),
            })
            .collect(),
        metrics_ci95: metrics
            .iter()
            .filter_map(|(name, values)| Some((name.clone(), Interval::of_mean(values)?)))
            .collect(),
        metrics: metrics
            .into_iter()
            .map(|(name, values)| (name, mean(&values)))
            .collect(),
    }
}

/// Every score by name, over the episodes in order.
fn columns(results: &[&EpisodeResult]) -> BTreeMap<String, Vec<f64>> {
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for result in results {
        for (name, value) in &result.metrics {
            columns.entry(name.clone()).or_default().push(*value);
        }
    }
    columns
}

/// The environment that was asked for, or that of a run.
///
/// # Errors
/// [`FlowError::Argument`] if the run has none: its data name no environment, and neither does its configuration.
pub fn environment(asked: Option<&str>, of_run: &str) -> Result<&'static EnvSpec, FlowError> {
    match asked.unwrap_or(of_run) {
        "" => Err(FlowError::Argument {
            name: "env",
            value: "not set".to_owned(),
            expected: "the name of an environment, since the data name none: `env = \"…\"` in the configuration, or `--env`"
                .to_owned(),
        }),
        id => Ok(telic_envs::spec(id)?),
    }
}

/// Index of the task with this name.
pub fn task_index(spec: &EnvSpec, name: &str) -> Result<usize, FlowError> {
    spec.tasks
        .iter()
        .position(|task| task.name == name)
        .ok_or_else(|| FlowError::Argument {
            name: "task",
            value: name.to_owned(),
            expected: spec
                .tasks
                .iter()
                .map(|task| task.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// Checks that a result may be written here: to a new file, or in place of another result.
///
/// # Errors
/// [`FlowError::File`] for a file that is no JSON, or no regular file.
pub fn check_target(path: &Utf8Path) -> Result<(), FlowError> {
    let is_result = || {
        let file = std::fs::File::open(path).ok()?;
        let reader = std::io::BufReader::new(file);
        serde_json::from_reader::<_, serde::de::IgnoredAny>(reader).ok()
    };
    if !path.exists() || path.is_file() && is_result().is_some() {
        return Ok(());
    }
    Err(FlowError::File {
        reason:
            "a result would replace what is here, which is no result (JSON); choose another path"
                .to_owned(),
        path: path.to_owned(),
    })
}

/// Writes an evaluation (an [`Evaluation`], or [returns](crate::returns)) as JSON, in one piece.
///
/// # Errors
/// [`FlowError::File`]; an old file is then still there.
pub fn write<T: Serialize>(evaluation: &T, path: &Utf8Path) -> Result<(), FlowError> {
    let text =
        serde_json::to_string_pretty(evaluation).expect("results are maps of text and numbers");
    write_atomically(path, text.as_bytes()).map_err(|error| FlowError::File {
        reason: error.to_string(),
        path: path.to_owned(),
    })
}
