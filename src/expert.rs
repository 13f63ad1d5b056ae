//! Experts: robots learn online to follow directions or to dribble, and what they learned drives demonstrators.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use telic_envs::dribbling::{self, Dribble};
use telic_envs::gait::Gait;
use telic_envs::locomotion::{DirectionTask, DirectionTaskSpec, direction_tasks};
use telic_policies::metrics_file::MetricsFile;
use telic_policies::online::{OnlineConfig, OnlineObserver, OnlineStep, OnlineTask, train_online};
use telic_policies::run_folder::{RunFolder, write_atomically};
use telic_policies::{Metrics, TensorMap, TrainError, tensor_file};
use telic_seed::Seed;

use crate::FlowError;

/// File with the weights of the expert in the folder of its run.
pub const WEIGHTS_FILE: &str = "expert.safetensors";
/// File with the last evaluation.
pub const EVALUATION_FILE: &str = "evaluation.json";

/// Directions that are walked in an evaluation, evenly around the circle.
const DIRECTIONS: usize = 8;
/// What is walked before a turn and after it, in seconds.
const LEG_SECS: f64 = 10.0;
/// How much the direction changes between the two.
pub const TURNS_DEGREES: [f64; 3] = [0.0, 90.0, 180.0];

/// Episodes of dribbling in an evaluation.
const DRIBBLES: u64 = 64;
/// Distance from the ball to the goal within which it has arrived, in metres.
const ARRIVED_M: f32 = 0.5;

/// What an expert can learn.
#[derive(Clone, Debug)]
pub enum Skill {
    /// To follow directions.
    Directions(&'static DirectionTaskSpec),
    /// To bring a ball to a place ([`Dribble`]).
    Dribbling,
}

impl Skill {
    /// Everything that can be learned.
    pub fn all() -> Vec<Self> {
        let directions = direction_tasks().iter().map(Self::Directions);
        directions.chain([Self::Dribbling]).collect()
    }

    /// Name of its task.
    pub fn task(&self) -> &'static str {
        match self {
            Self::Directions(spec) => spec.name,
            Self::Dribbling => dribbling::NAME,
        }
    }

    fn make(&self) -> Result<Box<dyn OnlineTask>, FlowError> {
        Ok(match self {
            Self::Directions(spec) => Box::new(Directions((spec.make)()?)),
            Self::Dribbling => Box::new(Dribbling(Dribble::new()?)),
        })
    }

    /// How well a gait does it.
    ///
    /// # Errors
    /// [`FlowError::Env`]; [`FlowError::Mismatch`] if the gait is not one for this task.
    pub fn evaluate(&self, gait: &Gait, seed: Seed) -> Result<ExpertReport, FlowError> {
        Ok(match self {
            Self::Directions(spec) => ExpertReport::Directions(walk_around(spec, gait, seed)?),
            Self::Dribbling => ExpertReport::Dribbling(dribble(gait, seed)?),
        })
    }
}

/// How well an expert does what it learned.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ExpertReport {
    /// Follows directions.
    Directions(DirectionReport),
    /// Dribbles.
    Dribbling(DribbleReport),
}

impl ExpertReport {
    fn metrics(&self) -> Metrics {
        match self {
            Self::Directions(report) => report.metrics(),
            Self::Dribbling(report) => Metrics::new()
                .with(
                    "evaluation/arrived",
                    report.arrived as f64 / report.episodes as f64,
                )
                .with("evaluation/final_distance_m", report.final_distance_m),
        }
    }

    /// It in a line.
    pub fn summary(&self) -> String {
        match self {
            Self::Directions(report) => {
                let (speed, error) = report.mean(0.0);
                format!(
                    "{speed:.2} m/s along the direction, heading error {error:.1}°, {} falls",
                    report.falls
                )
            }
            Self::Dribbling(report) => format!(
                "the ball arrived in {} of {} episodes; from {:.1} m to {:.1} m from the goal in the mean",
                report.arrived, report.episodes, report.start_distance_m, report.final_distance_m
            ),
        }
    }
}

/// How well an expert brings a ball to a place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DribbleReport {
    /// Episodes of 20 s.
    pub episodes: u64,
    /// Those in which the ball came within half a metre of the goal.
    pub arrived: u64,
    /// Distance from the ball to the goal at the start, mean.
    pub start_distance_m: f64,
    /// The same at the end.
    pub final_distance_m: f64,
}

/// Dribbles with a gait.
fn dribble(gait: &Gait, seed: Seed) -> Result<DribbleReport, FlowError> {
    let mut task = Dribble::new()?;
    check_gait(
        gait,
        dribbling::NAME,
        task.observation_dim(),
        task.action_dim(),
    )?;
    let mut report = DribbleReport {
        episodes: DRIBBLES,
        arrived: 0,
        start_distance_m: 0.0,
        final_distance_m: 0.0,
    };
    let mut action = vec![0.0; task.action_dim()];
    for episode in 0..DRIBBLES {
        task.reset(seed.child("evaluation").index(episode));
        report.start_distance_m += f64::from(task.distance_m()) / DRIBBLES as f64;
        let mut arrived = false;
        loop {
            gait.act(task.observation(), &mut action);
            let over = task.step(&action).terminated;
            arrived |= task.distance_m() <= ARRIVED_M;
            if over {
                break;
            }
        }
        report.arrived += u64::from(arrived);
        report.final_distance_m += f64::from(task.distance_m()) / DRIBBLES as f64;
    }
    Ok(report)
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

/// How well an expert follows directions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DirectionReport {
    /// One per turn and direction.
    pub legs: Vec<Leg>,
    /// Walks in which the robot left the heights of walking, or that ended on its back.
    pub falls: usize,
}

/// Ten seconds along one direction, after ten seconds along another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leg {
    /// The direction in the world, counter-clockwise from x, in degrees.
    pub direction_degrees: f64,
    /// How much it differs from the one before, in degrees; 0 for none.
    pub turn_degrees: f64,
    /// Metres per second along the direction.
    pub speed_m_per_s: f64,
    /// Angle between the direction and the way that was made, 0 to 180 degrees.
    pub heading_error_degrees: f64,
}

impl DirectionReport {
    /// Means over all directions of one of [`TURNS_DEGREES`]: speed along the direction in m/s, heading error in degrees.
    pub fn mean(&self, turn_degrees: f64) -> (f64, f64) {
        let legs = self
            .legs
            .iter()
            .filter(|leg| leg.turn_degrees == turn_degrees);
        let (mut count, mut speed, mut error) = (0.0, 0.0, 0.0);
        for leg in legs {
            count += 1.0;
            speed += leg.speed_m_per_s;
            error += leg.heading_error_degrees;
        }
        (speed / count, error / count)
    }

    fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for turn in TURNS_DEGREES {
            let (speed, error) = self.mean(turn);
            metrics.insert(format!("evaluation/speed_turn_{turn}"), speed);
            metrics.insert(format!("evaluation/heading_error_turn_{turn}"), error);
        }
        metrics.insert("evaluation/falls", self.falls as f64);
        metrics
    }
}

/// Walks with a gait along directions around the circle, straight on and after turns.
fn walk_around(
    spec: &DirectionTaskSpec,
    gait: &Gait,
    seed: Seed,
) -> Result<DirectionReport, FlowError> {
    let mut task = (spec.make)()?;
    check_gait(gait, spec.name, task.observation_dim(), task.action_dim())?;
    let mut report = DirectionReport {
        legs: vec![],
        falls: 0,
    };
    for turn in TURNS_DEGREES {
        for index in 0..DIRECTIONS {
            let direction = 360.0 * index as f64 / DIRECTIONS as f64;
            task.reset(seed.child("evaluation").index(index as u64));
            let before = walk(task.as_mut(), gait, direction - turn, spec.control_hz);
            let after = walk(task.as_mut(), gait, direction, spec.control_hz);
            report.falls += usize::from(before.fell || after.fell || !task.is_upright());
            let [x, y] = after.moved;
            let angle = direction.to_radians();
            let along = x * libm::cos(angle) + y * libm::sin(angle);
            let across = y * libm::cos(angle) - x * libm::sin(angle);
            report.legs.push(Leg {
                direction_degrees: direction,
                turn_degrees: turn,
                speed_m_per_s: along / LEG_SECS,
                heading_error_degrees: libm::atan2(across, along).abs().to_degrees(),
            });
        }
    }
    Ok(report)
}

struct Walk {
    /// x and y in metres.
    moved: [f64; 2],
    fell: bool,
}

fn walk(task: &mut dyn DirectionTask, gait: &Gait, degrees: f64, control_hz: f64) -> Walk {
    let angle = degrees.to_radians();
    task.command([libm::cos(angle) as f32, libm::sin(angle) as f32]);
    let from = task.position();
    let mut action = vec![0.0; task.action_dim()];
    let mut fell = false;
    for _ in 0..(LEG_SECS * control_hz).round() as usize {
        gait.act(task.observation(), &mut action);
        fell |= task.step(&action).terminated;
    }
    let to = task.position();
    Walk {
        moved: [0, 1].map(|axis| f64::from(to[axis] - from[axis])),
        fell,
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

/// Trains an expert in a new `folder` to the end of the run, or until `stop` is set.
///
/// # Errors
/// [`FlowError::Argument`] for an unknown task, before the folder is made; [`FlowError::Train`], [`FlowError::Policy`],
/// [`FlowError::File`].
pub fn train_expert(
    config: &OnlineConfig,
    folder: &Utf8Path,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn ExpertProgress,
) -> Result<ExpertOutcome, FlowError> {
    let known = Skill::all();
    let Some(skill) = known.iter().find(|skill| skill.task() == config.task) else {
        let names: Vec<&str> = known.iter().map(Skill::task).collect();
        return Err(FlowError::Argument {
            name: "task",
            value: config.task.clone(),
            expected: format!("one of: {}", names.join(", ")),
        });
    };
    let mut tasks = Vec::with_capacity(config.worlds);
    for _ in 0..config.worlds {
        tasks.push(skill.make()?);
    }
    let run = RunFolder::create(folder, &config.to_toml())
        .map_err(|error| FlowError::Train(TrainError::from(error)))?;
    let metrics_path = run.metrics();
    let metrics = MetricsFile::create(&metrics_path).map_err(file_error(&metrics_path))?;
    let mut observer = Observer {
        skill,
        folder,
        seed: Seed::new(config.seed),
        metrics,
        metrics_path,
        progress,
        failure: None,
    };
    let (actor, steps) = train_online(config, &mut tasks, stop, &mut observer)?;
    if let Some(failure) = observer.failure.take() {
        return Err(failure);
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
        let outcome = self.append(step, metrics);
        self.go_on(outcome)
    }

    fn on_evaluate(&mut self, step: u64, actor: &TensorMap) -> ControlFlow<()> {
        let outcome = self.evaluate(step, actor);
        self.go_on(outcome)
    }
}

/// A direction task as the learner sees it.
struct Directions(Box<dyn DirectionTask>);

impl OnlineTask for Directions {
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

/// Dribbling as the learner sees it.
struct Dribbling(Dribble);

impl OnlineTask for Dribbling {
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
            truncated: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last row of the table in `docs/experts.md`.
    #[test]
    fn the_expert_in_the_repository_walks_as_its_page_says() {
        let bytes = include_bytes!("../envs/assets/ant_gait.safetensors");
        let gait = Gait::from_safetensors(bytes).unwrap();
        let report = walk_around(&direction_tasks()[0], &gait, Seed::new(0)).unwrap();
        for (turn, speed) in TURNS_DEGREES.into_iter().zip([1.83, 1.70, 1.67]) {
            let (found, heading_error) = report.mean(turn);
            eprintln!("after {turn}°: {found:.3} m/s, {heading_error:.1}°");
            assert!((found - speed).abs() < 0.006, "after {turn}°: {found} m/s");
            assert!(heading_error < 10.0, "after {turn}°: {heading_error}°");
        }
        assert_eq!(report.falls, 0);
    }
}
