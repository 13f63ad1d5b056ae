//! Training with evaluation in the environment on the way.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::Utf8Path;
use telic_envs::EnvSpec;
use telic_policies::{
    DataSpec, Metrics, Policy, RunStart, Speed, TrainConfig, TrainObserver, TrainOutcome, Trainer,
    load_datasets,
};
use telic_seed::Seed;

use crate::FlowError;
use crate::evaluate::{EvaluateConfig, Evaluation, environment, evaluate, threads};

/// What a run tells the one who waits for it. Every method has a silent default.
pub trait Progress {
    /// The run starts, or goes on, behind `start.step` updates.
    fn start(&mut self, start: &RunStart<'_>) {
        let _ = start;
    }

    /// Something about the data that may not be meant, before the run starts.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// An update is done; counted from 1.
    fn step(&mut self, step: u64) {
        let _ = step;
    }

    /// Averages over the last updates.
    fn log(&mut self, step: u64, metrics: &Metrics, speed: Speed) {
        let _ = (step, metrics, speed);
    }

    /// Losses on the validation episodes.
    fn validated(&mut self, step: u64, metrics: &Metrics) {
        let _ = (step, metrics);
    }

    /// On the way through an evaluation: how many episodes have ended, and how many of them with success.
    fn evaluating(&mut self, episodes: usize, successes: usize) {
        let _ = (episodes, successes);
    }

    /// Success in the environment.
    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        let _ = (step, evaluation);
    }
}

/// Says nothing.
impl Progress for () {}

/// Starts or resumes a run in `folder` and trains it to its end, or until `stop` is set.
///
/// # Errors
/// [`FlowError::Train`]; an environment that does not fit the data, before the folder is made.
pub fn train(
    config: TrainConfig,
    folder: &Utf8Path,
    resume: bool,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn Progress,
) -> Result<TrainOutcome, FlowError> {
    let (mut trainer, spec) = if resume {
        let trainer = Trainer::resume(config, folder)?;
        let spec = evaluated(trainer.config(), trainer.data())?;
        (trainer, spec)
    } else {
        let (dataset, validation) = load_datasets(&config)?;
        let spec = evaluated(&config, &DataSpec::of(&dataset))?;
        let trainer = Trainer::create_with(config, folder, dataset, validation)?;
        (trainer, spec)
    };
    for note in notes(trainer.config(), trainer.data()) {
        progress.note(&note);
    }
    let config = trainer.config().clone();
    let mut observer = Observer {
        config,
        spec,
        stop: Arc::clone(stop),
        progress,
    };
    Ok(trainer.run(&mut observer, stop)?)
}

/// What may not be meant, but is no mistake.
fn notes(config: &TrainConfig, data: &DataSpec) -> Vec<String> {
    let mut notes = vec![];
    if let Ok(spec) = telic_envs::spec(&data.env)
        && spec.version != data.env_version
    {
        notes.push(format!(
            "{} is of version {} of `{}`; this build has version {}",
            config.dataset, data.env_version, spec.id, spec.version
        ));
    }
    let of_goal = |key: &str| config.policy.settings.get("inputs")?.get(key);
    let task = of_goal("goal").and_then(toml::Value::as_str) == Some("task");
    if task && of_goal("goal_columns").is_none() && data.goal_indices.is_empty() {
        notes.push(format!(
            "`policy.inputs.goal` is `task`, but {} does not say which entries are the goal: the policy sees all of them",
            config.dataset
        ));
    }
    notes
}

/// The environment of evaluations on the way, if there are any; an error if it does not fit the data.
fn evaluated(config: &TrainConfig, data: &DataSpec) -> Result<Option<&'static EnvSpec>, FlowError> {
    // One that is named has to fit, also where only later evaluations ask for it.
    if config.evaluate_every == 0 && config.env.is_none() {
        return Ok(None);
    }
    let spec = environment(config.env.as_deref(), &data.env)?;
    for (what, of_data, of_env) in [
        (
            "observation entries",
            data.observation_dim,
            spec.observation_dim(),
        ),
        ("action entries", data.action_dim, spec.action_dim()),
    ] {
        if of_data != of_env {
            return Err(FlowError::Mismatch {
                what,
                left: format!("{} has {of_data}", config.dataset),
                right: format!("`{}` has {of_env}", spec.id),
            });
        }
    }
    Ok((config.evaluate_every > 0).then_some(spec))
}

/// Evaluates in the environment, and passes everything else on.
struct Observer<'a> {
    config: TrainConfig,
    spec: Option<&'static EnvSpec>,
    stop: Arc<AtomicBool>,
    progress: &'a mut dyn Progress,
}

impl TrainObserver for Observer<'_> {
    fn on_start(&mut self, start: &RunStart<'_>) {
        self.progress.start(start);
    }

    fn on_step(&mut self, step: u64) {
        self.progress.step(step);
    }

    fn on_log(&mut self, step: u64, metrics: &Metrics, speed: Speed) {
        self.progress.log(step, metrics, speed);
    }

    fn on_validate(&mut self, step: u64, metrics: &Metrics) {
        self.progress.validated(step, metrics);
    }

    fn on_evaluate(
        &mut self,
        step: u64,
        policy: &mut dyn Policy,
    ) -> Result<Option<Vec<(String, f64)>>, Box<dyn Error + Send + Sync>> {
        let Some(spec) = self.spec else {
            return Ok(Some(Vec::new()));
        };
        let config = EvaluateConfig {
            episodes: self.config.evaluation_episodes,
            seed: Seed::new(self.config.seed).child("evaluation").value(),
            threads: if self.config.threads == 0 {
                threads()
            } else {
                self.config.threads
            },
            ..EvaluateConfig::default()
        };
        let progress = &mut *self.progress;
        let tell = |episodes, successes| progress.evaluating(episodes, successes);
        let evaluation = match evaluate(policy, spec, &config, &self.stop, tell) {
            Ok((evaluation, _)) => Evaluation {
                step: Some(step),
                ..evaluation
            },
            Err(FlowError::Stopped(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.progress.evaluated(step, &evaluation);
        let mut numbers = vec![
            ("success_rate".to_owned(), evaluation.success_rate),
            ("mean_return".to_owned(), evaluation.mean_return),
        ];
        numbers.extend(
            evaluation
                .metrics
                .iter()
                .map(|(name, value)| (name.clone(), *value)),
        );
        numbers.extend(
            evaluation
                .tasks
                .iter()
                .map(|task| (format!("{}_success_rate", task.name), task.success_rate)),
        );
        Ok(Some(numbers))
    }
}
