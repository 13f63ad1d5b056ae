//! Experts: robots learn online to follow directions, whose gaits drive demonstrators, to dribble, or to earn the named rewards of an
//! environment; what they did on the way is exploration data.

mod directions;
mod dribbling;
mod rewards;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use telic_envs::EnvSpec;
use telic_envs::dribbling::Dribble;
use telic_envs::gait::Gait;
use telic_envs::locomotion::{DirectionTaskSpec, direction_tasks};
use telic_envs::skill::SkillTask;
use telic_policies::metrics_file::MetricsFile;
use telic_policies::online::{OnlineConfig, OnlineObserver, OnlineStep, OnlineTask, train_online};
use telic_policies::run_folder::{RunFolder, write_atomically};
use telic_policies::{Metrics, TensorMap, TrainError, tensor_file};
use telic_seed::Seed;

pub use self::directions::{DirectionReport, Leg, TURNS_DEGREES};
pub use self::dribbling::DribbleReport;
use self::rewards::Recorder;
pub use self::rewards::RewardReport;
use crate::FlowError;

/// File with the weights of the expert in the folder of its run.
pub const WEIGHTS_FILE: &str = "expert.safetensors";
/// File with the last evaluation.
pub const EVALUATION_FILE: &str = "evaluation.json";

/// What an expert can learn.
#[derive(Clone, Debug)]
pub enum Skill {
    /// To follow directions.
    Directions(&'static DirectionTaskSpec),
    /// To bring a ball to a place ([`Dribble`]).
    Dribbling,
    /// To earn a named reward of an environment, or, without one, nothing but what is paid for novelty.
    Rewards(&'static EnvSpec, Option<usize>),
}

impl Skill {
    /// Everything that can be learned.
    pub fn all() -> Vec<Self> {
        let directions = direction_tasks().iter().map(Self::Directions);
        let rewards = telic_envs::specs()
            .iter()
            .filter(|spec| !spec.rewards.is_empty())
            .flat_map(|spec| {
                let named = (0..spec.rewards.len()).map(Some);
                named
                    .chain([None])
                    .map(|reward| Self::Rewards(spec, reward))
            });
        directions.chain([Self::Dribbling]).chain(rewards).collect()
    }

    /// Name of its task: that of the direction task, `walker/run` for a reward, `walker` for an environment without one.
    pub fn task(&self) -> String {
        match self {
            Self::Directions(spec) => spec.name.to_owned(),
            Self::Dribbling => telic_envs::dribbling::NAME.to_owned(),
            Self::Rewards(spec, None) => spec.id.to_owned(),
            Self::Rewards(spec, Some(reward)) => {
                format!("{}/{}", spec.id, spec.rewards[*reward].name)
            }
        }
    }

    fn make(&self, recorder: Option<&Arc<Recorder>>) -> Result<Box<dyn OnlineTask>, FlowError> {
        Ok(match self {
            Self::Directions(spec) => Box::new(Learned((spec.make)()?)),
            Self::Dribbling => Box::new(Learned(Box::new(Dribble::new()?))),
            Self::Rewards(spec, reward) => rewards::task(spec, *reward, recorder)?,
        })
    }

    /// How well a gait does it.
    ///
    /// # Errors
    /// [`FlowError::Env`]; [`FlowError::Mismatch`] if the gait is not one for this task.
    pub fn evaluate(&self, gait: &Gait, seed: Seed) -> Result<ExpertReport, FlowError> {
        Ok(match self {
            Self::Directions(spec) => {
                ExpertReport::Directions(directions::evaluate(spec, gait, seed)?)
            }
            Self::Dribbling => ExpertReport::Dribbling(dribbling::evaluate(gait, seed)?),
            Self::Rewards(spec, _) => ExpertReport::Rewards(rewards::evaluate(spec, gait, seed)?),
        })
    }
}

fn check_gait(
    gait: &Gait,
    task: &str,
    observation_dim: usize,
    action_dim: usize,
) -> Result<(), FlowError> {
    for (what, of_gait, of_task) in [
        (
            "entries of an observation",
            gait.input_dim(),
            observation_dim,
        ),
        ("entries of an action", gait.action_dim(), action_dim),
    ] {
        if of_gait != of_task {
            return Err(FlowError::Mismatch {
                what,
                left: format!("the gait has {of_gait}"),
                right: format!("`{task}` has {of_task}"),
            });
        }
    }
    Ok(())
}

/// How well an expert does what it learned.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ExpertReport {
    /// Follows directions.
    Directions(DirectionReport),
    /// Dribbles.
    Dribbling(DribbleReport),
    /// Earns rewards.
    Rewards(RewardReport),
}

impl ExpertReport {
    fn metrics(&self) -> Metrics {
        match self {
            Self::Directions(report) => report.metrics(),
            Self::Dribbling(report) => report.metrics(),
            Self::Rewards(report) => report.metrics(),
        }
    }

    /// It in a line.
    pub fn summary(&self) -> String {
        match self {
            Self::Directions(report) => report.summary(),
            Self::Dribbling(report) => report.summary(),
            Self::Rewards(report) => report.summary(),
        }
    }
}

/// What an online run tells the one who waits for it.
pub trait ExpertProgress: Send {
    /// Averages over the last steps.
    fn log(&mut self, step: u64, metrics: &Metrics);

    /// How well it walks by now.
    fn evaluated(&mut self, step: u64, report: &ExpertReport);
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpertOutcome {
    /// Steps of the task.
    pub steps: u64,
    /// The weights.
    pub weights: Utf8PathBuf,
    /// How well it walks.
    pub evaluation: ExpertReport,
}

/// Trains an expert in a new `folder` to the end of the run, or until `stop` is set. With `data`, every complete episode on the way
/// goes to that file, a dataset that replays as any other.
///
/// # Errors
/// [`FlowError::Argument`] for an unknown task, or `data` of a task that is no environment, before the folder is made; [`FlowError::Train`], [`FlowError::Policy`],
/// [`FlowError::File`].
pub fn train_expert(
    config: &OnlineConfig,
    folder: &Utf8Path,
    data: Option<&Utf8Path>,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn ExpertProgress,
) -> Result<ExpertOutcome, FlowError> {
    let known = Skill::all();
    let Some(skill) = known.iter().find(|skill| skill.task() == config.task) else {
        let names: Vec<String> = known.iter().map(Skill::task).collect();
        return Err(FlowError::Argument {
            name: "task",
            value: config.task.clone(),
            expected: format!("one of: {}", names.join(", ")),
        });
    };
    let recorder = match (data, skill) {
        (None, _) => None,
        (Some(path), Skill::Rewards(spec, _)) => {
            Some(Arc::new(Recorder::create(path, spec, config)?))
        }
        (Some(path), Skill::Directions(_) | Skill::Dribbling) => {
            return Err(FlowError::Argument {
                name: "data",
                value: path.to_string(),
                expected: format!("none, since `{}` is no environment", config.task),
            });
        }
    };
    let mut tasks = Vec::with_capacity(config.worlds);
    for _ in 0..config.worlds {
        tasks.push(skill.make(recorder.as_ref())?);
    }
    let run = match RunFolder::create(folder, &config.to_toml()) {
        Ok(run) => run,
        Err(error) => {
            // Without an episode, nothing of the file stays.
            if let Some(recorder) = &recorder {
                recorder.finish()?;
            }
            return Err(FlowError::Train(TrainError::from(error)));
        }
    };
    let metrics_path = run.metrics();
    let metrics = MetricsFile::create(&metrics_path).map_err(file_error(&metrics_path))?;
    let mut observer = Observer {
        skill,
        folder,
        seed: Seed::new(config.seed),
        metrics,
        metrics_path,
        progress,
        recorder: recorder.clone(),
        failure: None,
    };
    let (actor, steps) = train_online(config, &mut tasks, stop, &mut observer)?;
    if let Some(failure) = observer.failure.take() {
        return Err(failure);
    }
    if let Some(recorder) = recorder {
        recorder.finish()?;
    }
    let evaluation = observer.evaluate(steps, &actor)?;
    Ok(ExpertOutcome {
        steps,
        weights: folder.join(WEIGHTS_FILE),
        evaluation,
    })
}

fn file_error(path: &Utf8Path) -> impl Fn(std::io::Error) -> FlowError {
    let path = path.to_owned();
    move |error| FlowError::File {
        reason: error.to_string(),
        path: path.clone(),
    }
}

/// Writes what an online run tells.
struct Observer<'a> {
    skill: &'a Skill,
    folder: &'a Utf8Path,
    seed: Seed,
    metrics: MetricsFile,
    metrics_path: Utf8PathBuf,
    progress: &'a mut dyn ExpertProgress,
    recorder: Option<Arc<Recorder>>,
    /// What ended the run early.
    failure: Option<FlowError>,
}

impl Observer<'_> {
    /// Saves the weights, walks with them, and writes how it went.
    fn evaluate(&mut self, step: u64, actor: &TensorMap) -> Result<ExpertReport, FlowError> {
        let bytes = tensor_file::to_bytes(actor);
        let path = self.folder.join(WEIGHTS_FILE);
        write_atomically(&path, &bytes).map_err(file_error(&path))?;
        let gait = Gait::from_safetensors(&bytes)?;
        let report = self.skill.evaluate(&gait, self.seed)?;
        self.append(step, &report.metrics())?;
        let path = self.folder.join(EVALUATION_FILE);
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        write_atomically(&path, text.as_bytes()).map_err(file_error(&path))?;
        self.progress.evaluated(step, &report);
        Ok(report)
    }

    fn append(&mut self, step: u64, metrics: &Metrics) -> Result<(), FlowError> {
        self.metrics
            .append(step, metrics.iter())
            .map_err(file_error(&self.metrics_path))
    }

    /// Ends the run at the first failure.
    fn go_on<T>(&mut self, outcome: Result<T, FlowError>) -> ControlFlow<()> {
        match outcome {
            Ok(_) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }
}

impl OnlineObserver for Observer<'_> {
    fn on_log(&mut self, step: u64, metrics: &Metrics) -> ControlFlow<()> {
        self.progress.log(step, metrics);
        let recorded = self.recorder.as_ref().map_or(Ok(()), |all| all.check());
        let outcome = recorded.and_then(|()| self.append(step, metrics));
        self.go_on(outcome)
    }

    fn on_evaluate(&mut self, step: u64, actor: &TensorMap) -> ControlFlow<()> {
        let outcome = self.evaluate(step, actor);
        self.go_on(outcome)
    }
}

/// A skill as the learner sees it.
struct Learned(Box<dyn SkillTask>);

impl OnlineTask for Learned {
    fn observation_dim(&self) -> usize {
        self.0.observation_dim()
    }

    fn action_dim(&self) -> usize {
        self.0.action_dim()
    }

    fn reset(&mut self, seed: Seed) {
        self.0.reset(seed);
    }

    fn observation(&self) -> &[f32] {
        self.0.observation()
    }

    fn step(&mut self, action: &[f32]) -> OnlineStep {
        let step = self.0.step(action);
        OnlineStep {
            reward: step.reward,
            terminated: step.terminated,
            truncated: step.truncated,
        }
    }
}
