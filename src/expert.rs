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
use telic_policies::online::{
    OnlineConfig, OnlineObserver, OnlineStep, OnlineTask, STEP, StateCopy, train_online,
};
use telic_policies::run_folder::{CONFIG_FILE, RunFolder, write_atomically};
use telic_policies::{Metrics, PolicyError, TensorMap, TrainError, tensor_file};
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
/// File with all that a run goes on from: learner, replay, and what was done in the episodes that had begun.
pub const STATE_FILE: &str = "state.safetensors";

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
    /// Whether all steps are done; `false` if it was asked to stop.
    pub finished: bool,
    /// The weights.
    pub weights: Utf8PathBuf,
    /// How well it walks.
    pub evaluation: ExpertReport,
}

/// What a run makes, and where it begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    /// In a new folder.
    New,
    /// In a new folder, and every complete episode goes to this file, a dataset that replays as any other. Such a run keeps no state.
    Recording(&'a Utf8Path),
    /// Where the run in the folder was at its last evaluation or its end, or at its beginning if it came to neither.
    Resuming,
}

/// Trains an expert in `folder` to the end of the run, or until `stop` is set.
///
/// # Errors
/// [`FlowError::Argument`] for an unknown task, or a dataset of a task that is no environment, and [`PolicyError::Device`], before the
/// folder is made;
/// [`FlowError::Train`], with [`TrainError::ConfigChanged`] for a run that resumes with other settings; [`FlowError::Policy`];
/// [`FlowError::File`].
pub fn train_expert(
    config: &OnlineConfig,
    folder: &Utf8Path,
    begin: Begin<'_>,
    stop: &AtomicBool,
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
    config.device.check()?;
    let recorder = match (begin, skill) {
        (Begin::New | Begin::Resuming, _) => None,
        (Begin::Recording(path), Skill::Rewards(spec, _)) => {
            Some(Arc::new(Recorder::create(path, spec, config)?))
        }
        (Begin::Recording(path), Skill::Directions(_) | Skill::Dribbling) => {
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
    let opened = if matches!(begin, Begin::Resuming) {
        resume(config, folder)
    } else {
        RunFolder::create(folder, &config.to_toml())
            .map(|run| (run, None))
            .map_err(|error| FlowError::Train(TrainError::from(error)))
    };
    let (run, saved) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Without an episode, nothing of the file stays.
            if let Some(recorder) = &recorder {
                recorder.finish()?;
            }
            return Err(error);
        }
    };
    // What is wrong with a saved state is told with its place.
    let of_state = |error: PolicyError| match error {
        PolicyError::MissingTensor { .. }
        | PolicyError::TensorShape { .. }
        | PolicyError::Data { .. } => FlowError::File {
            reason: error.to_string(),
            path: folder.join(STATE_FILE),
        },
        other => other.into(),
    };
    let saved_step = saved
        .as_ref()
        .map(|state| state.get_u64(STEP))
        .transpose()
        .map_err(of_state)?;
    let mut observer = Observer {
        skill,
        folder,
        seed: Seed::new(config.seed),
        metrics_path: run.metrics(),
        metrics: None,
        saved_step,
        changed_config: matches!(begin, Begin::Resuming).then(|| (run, config.to_toml())),
        progress,
        recorder: recorder.clone(),
        failure: None,
    };
    let mut outcome =
        train_online(config, &mut tasks, saved.as_ref(), stop, &mut observer).map_err(of_state)?;
    if let Some(failure) = observer.failure.take() {
        return Err(failure);
    }
    if let Some(recorder) = recorder {
        recorder.finish()?;
    }
    let steps = outcome.step;
    let evaluation = if saved_step == Some(steps) {
        // Nothing is left to do, and its line is in the table.
        let gait = Gait::from_safetensors(&tensor_file::to_bytes(&outcome.actor))?;
        skill.evaluate(&gait, observer.seed)?
    } else {
        observer.evaluate(steps, &outcome.actor, &mut || {
            Ok(std::mem::take(&mut outcome.state))
        })?
    };
    Ok(ExpertOutcome {
        steps,
        finished: steps >= config.steps,
        weights: folder.join(WEIGHTS_FILE),
        evaluation,
    })
}

/// The folder of a run to go on with, and its state if it has one.
fn resume(
    config: &OnlineConfig,
    folder: &Utf8Path,
) -> Result<(RunFolder, Option<TensorMap>), FlowError> {
    let run = RunFolder::open(folder).map_err(TrainError::from)?;
    let old = OnlineConfig::load::<&str>(&folder.join(CONFIG_FILE), &[])?;
    let differences = old.conflicts_with(config);
    if !differences.is_empty() {
        let path = folder.to_owned();
        return Err(TrainError::ConfigChanged { differences, path }.into());
    }
    let path = folder.join(STATE_FILE);
    let state = match std::fs::read(&path) {
        Ok(bytes) => {
            let state = tensor_file::from_bytes(&bytes).map_err(|error| FlowError::File {
                reason: error.to_string(),
                path,
            })?;
            Some(state)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Weights are written with a state, unless episodes are recorded: beginning anew would lose them.
            if folder.join(WEIGHTS_FILE).exists() {
                return Err(FlowError::File {
                    reason: "the run has weights, but no state to go on from: it recorded its episodes, or is older than states"
                        .to_owned(),
                    path,
                });
            }
            None
        }
        Err(error) => return Err(file_error(&path)(error)),
    };
    Ok((run, state))
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
    /// Open from the first step on.
    metrics: Option<MetricsFile>,
    metrics_path: Utf8PathBuf,
    /// Where the run goes on from.
    saved_step: Option<u64>,
    /// What a run that goes on writes for its configuration.
    changed_config: Option<(RunFolder, String)>,
    progress: &'a mut dyn ExpertProgress,
    recorder: Option<Arc<Recorder>>,
    /// What ended the run early.
    failure: Option<FlowError>,
}

impl Observer<'_> {
    /// Saves the weights, walks with them, and writes how it went; then saves the state, unless episodes are recorded.
    fn evaluate(
        &mut self,
        step: u64,
        actor: &TensorMap,
        state: StateCopy<'_>,
    ) -> Result<ExpertReport, FlowError> {
        let write = |name: &str, bytes: &[u8]| {
            let path = self.folder.join(name);
            write_atomically(&path, bytes).map_err(file_error(&path))
        };
        let bytes = tensor_file::to_bytes(actor);
        write(WEIGHTS_FILE, &bytes)?;
        let gait = Gait::from_safetensors(&bytes)?;
        let report = self.skill.evaluate(&gait, self.seed)?;
        self.append(step, &report.metrics())?;
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        write(EVALUATION_FILE, text.as_bytes())?;
        if self.recorder.is_none() {
            write(STATE_FILE, &tensor_file::to_bytes(&state()?))?;
        }
        self.progress.evaluated(step, &report);
        Ok(report)
    }

    fn append(&mut self, step: u64, metrics: &Metrics) -> Result<(), FlowError> {
        match &mut self.metrics {
            Some(file) => file
                .append(step, metrics.iter())
                .map_err(file_error(&self.metrics_path)),
            None => Ok(()),
        }
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
    fn on_start(&mut self) -> ControlFlow<()> {
        let opened = match self.saved_step {
            None => MetricsFile::create(&self.metrics_path),
            Some(step) => MetricsFile::resume(&self.metrics_path, step),
        };
        let outcome = opened
            .map(|file| self.metrics = Some(file))
            .map_err(file_error(&self.metrics_path))
            .and_then(|()| match &self.changed_config {
                Some((run, config)) => Ok(run.write_config(config).map_err(TrainError::from)?),
                None => Ok(()),
            });
        self.go_on(outcome)
    }

    fn on_log(&mut self, step: u64, metrics: &Metrics) -> ControlFlow<()> {
        self.progress.log(step, metrics);
        let recorded = self.recorder.as_ref().map_or(Ok(()), |all| all.check());
        let outcome = recorded.and_then(|()| self.append(step, metrics));
        self.go_on(outcome)
    }

    fn on_evaluate(
        &mut self,
        step: u64,
        actor: &TensorMap,
        state: StateCopy<'_>,
    ) -> ControlFlow<()> {
        let outcome = self.evaluate(step, actor, state);
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
