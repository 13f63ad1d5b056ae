//! The training loop.
//!
//! Update k takes batch k, drawn from the stream `batches.index(k)`, and draws from `update.index(k)`. Nothing
//! else reaches the weights, so a run is a function of its configuration and data: reading ahead, the places
//! where it stops and resumes, what it measures on the way, none of them changes a bit.

mod data;
mod error;
mod observer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use telic_datasets::Dataset;
use telic_seed::Seed;

use crate::checkpoint::{self, Checkpoint, Content, hex_crc32};
use crate::device::with_present_threads;
use crate::metrics_file::MetricsFile;
use crate::run_folder::RunFolder;
use crate::tensorboard::EventWriter;
use crate::{
    CheckpointError, DataPart, DataSpec, Device, Learner, MeanMetrics, Policy, PolicyError,
    TensorMap, Threads, TrainConfig, TrainingTask,
};

use data::Data;
pub use data::load_datasets;
pub use error::TrainError;
pub use observer::{RunStart, Speed, TrainObserver};

/// How [`Trainer::run`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOutcome {
    /// Updates behind it.
    pub step: u64,
    /// Whether all updates are done and evaluated; `false` if it was asked to stop.
    pub finished: bool,
    /// The checkpoint at this step.
    pub checkpoint: Utf8PathBuf,
}

/// A run that holds its folder: an agent, its data, and the files that its numbers go to.
pub struct Trainer {
    config: TrainConfig,
    folder: RunFolder,
    data: Data,
    learner: Box<dyn Learner>,
    threads: Threads,
    step: u64,
    mean: MeanMetrics,
    newest: BTreeMap<String, f64>,
    table: MetricsFile,
    events: EventWriter,
    last_checkpoint: Option<(u64, Utf8PathBuf)>,
    /// Whether the last update is still to be measured: its evaluation was interrupted.
    unmeasured: bool,
}

impl Trainer {
    /// Starts a run in a folder that does not exist or is empty.
    ///
    /// # Errors
    /// [`TrainError`]; the folder is made after the data and the agent are known to be good.
    pub fn create(config: TrainConfig, folder: &Utf8Path) -> Result<Self, TrainError> {
        let (dataset, validation) = load_datasets(&config)?;
        Self::create_with(config, folder, dataset, validation)
    }

    /// [`create`](Self::create) with data in memory; the paths in the configuration are only names then.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn create_with(
        config: TrainConfig,
        folder: &Utf8Path,
        dataset: Arc<Dataset>,
        validation: Option<Arc<Dataset>>,
    ) -> Result<Self, TrainError> {
        config.check_start()?;
        let data = Data::new(&config, dataset, validation)?;
        let threads = Threads::on(config.device, config.threads)?;
        let learner = new_learner(&config, &data, &threads)?;
        let folder = RunFolder::create(folder, &config.to_toml())?;
        let table = MetricsFile::create(&folder.metrics())
            .map_err(io("create the metrics", folder.metrics()))?;
        let events = new_events(&folder, None)?;
        Ok(Self {
            config,
            folder,
            data,
            learner,
            threads,
            step: 0,
            mean: MeanMetrics::new(),
            newest: BTreeMap::new(),
            table,
            events,
            last_checkpoint: None,
            unmeasured: false,
        })
    }

    /// Goes on with a run from its newest checkpoint, or from its beginning if it has none yet.
    ///
    /// `config` is what [`TrainConfig::load`] gives for the run's own `config.toml` or for the file that it was
    /// started with; it may differ in what does not fix the bits (see [`TrainConfig::conflicts_with`]).
    ///
    /// # Errors
    /// [`TrainError::ConfigChanged`], [`TrainError::DatasetChanged`], and all others.
    pub fn resume(config: TrainConfig, folder: &Utf8Path) -> Result<Self, TrainError> {
        // The lock comes first: another process that trains here must be told from any other trouble.
        let folder = RunFolder::open(folder)?;
        let (dataset, validation) = load_datasets(&config)?;
        Self::resume_in(config, folder, dataset, validation)
    }

    /// [`resume`](Self::resume) with data in memory.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_with(
        config: TrainConfig,
        folder: &Utf8Path,
        dataset: Arc<Dataset>,
        validation: Option<Arc<Dataset>>,
    ) -> Result<Self, TrainError> {
        Self::resume_in(config, RunFolder::open(folder)?, dataset, validation)
    }

    fn resume_in(
        config: TrainConfig,
        folder: RunFolder,
        dataset: Arc<Dataset>,
        validation: Option<Arc<Dataset>>,
    ) -> Result<Self, TrainError> {
        let old =
            TrainConfig::load::<&str>(&folder.path().join(crate::run_folder::CONFIG_FILE), &[])?;
        let differences = old.conflicts_with(&config);
        if !differences.is_empty() {
            return Err(TrainError::ConfigChanged {
                differences,
                path: folder.path().to_owned(),
            });
        }
        let data = Data::new(&config, dataset, validation)?;
        let threads = Threads::on(config.device, config.threads)?;
        let mut learner = new_learner(&config, &data, &threads)?;
        let checkpoints = folder.checkpoints();
        checkpoint::clean(folder.path())?;
        checkpoint::clean(&checkpoints)?;
        let last_checkpoint = checkpoint::list(&checkpoints)?.pop();
        let (mut step, mut unmeasured) = (0, false);
        let mut mean = MeanMetrics::new();
        let mut newest = BTreeMap::new();
        if let Some((_, path)) = &last_checkpoint {
            let saved = Checkpoint::open(path)?;
            let expected = &saved.manifest.dataset;
            if !expected.is_of(&data.fingerprint) {
                return Err(TrainError::DatasetChanged {
                    expected: Box::new(expected.clone()),
                    found: Box::new(data.fingerprint),
                    path: config.dataset,
                });
            }
            let state = saved.state()?;
            let wrong = |source| CheckpointError::Model {
                source,
                path: path.join(checkpoint::STATE_FILE),
            };
            threads
                .run(|| learner.load_state(&state.sub_map(AGENT)))
                .map_err(wrong)?;
            mean.load_state(&state.sub_map(MEAN)).map_err(wrong)?;
            // Not from the manifest: its numbers are for people, and may be off in the last place.
            let saved_metrics = state.sub_map(NEWEST);
            for (name, _) in saved_metrics.iter() {
                newest.insert(name.to_owned(), saved_metrics.get_f64(name).map_err(wrong)?);
            }
            (step, unmeasured) = (saved.manifest.step, saved.manifest.unevaluated);
        }
        folder.write_config(&config.to_toml())?;
        let measured = step - u64::from(unmeasured);
        let table = MetricsFile::resume(&folder.metrics(), measured)
            .map_err(io("go on with the metrics", folder.metrics()))?;
        let events = new_events(&folder, Some(measured + 1))?;
        Ok(Self {
            config,
            folder,
            data,
            learner,
            threads,
            step,
            mean,
            newest,
            table,
            events,
            last_checkpoint,
            unmeasured,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The run folder.
    pub fn folder(&self) -> &Utf8Path {
        self.folder.path()
    }

    /// What the data looks like.
    pub fn data(&self) -> &DataSpec {
        &self.data.spec
    }

    /// Updates behind it.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The policy as it is now, the one that a checkpoint would hold.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn policy(&mut self) -> Result<Box<dyn Policy>, PolicyError> {
        let learner = &mut self.learner;
        with_present_threads(move || learner.policy())
    }

    /// Trains until all steps are done, or until `stop` is set or the observer says so, and saves a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] keeps the checkpoints before it; every other [`TrainError`].
    pub fn run(
        &mut self,
        observer: &mut dyn TrainObserver,
        stop: &AtomicBool,
    ) -> Result<TrainOutcome, TrainError> {
        observer.on_start(&RunStart {
            config: &self.config,
            data: &self.data.spec,
            step: self.step,
            transitions: self.data.train.transitions(),
        });
        if self.step < self.config.steps {
            self.learner.start(self.step, self.config.prefetch)?;
        }
        let mut stopwatch = Stopwatch::default();
        let mut stopped = stop.load(Ordering::Relaxed);
        if self.unmeasured && !stopped {
            self.measure_and_save(observer, &mut stopwatch)?;
            stopped = self.unmeasured;
        }
        while self.step < self.config.steps && !stopped {
            let begin = Instant::now();
            let (precision, step) = (self.config.precision, self.step);
            self.threads
                .run(|| precision.scope(|| self.learner.update(step)))?;
            self.step += 1;
            if self.reads_metrics() {
                self.read_metrics()?;
            }
            stopwatch.add(begin);
            observer.on_step(self.step);
            self.measure_and_save(observer, &mut stopwatch)?;
            stopped = self.unmeasured || stop.load(Ordering::Relaxed) || observer.should_stop();
        }
        let checkpoint = match &self.last_checkpoint {
            Some((step, path)) if *step == self.step => path.clone(),
            _ => self.save(observer)?,
        };
        Ok(TrainOutcome {
            step: self.step,
            finished: self.step >= self.config.steps && !self.unmeasured,
            checkpoint,
        })
    }

    /// Whether something that happens every so many updates happens now; 0 is never. At the end, everything does.
    fn is_due(&self, every: u64) -> bool {
        every > 0 && (self.step.is_multiple_of(every) || self.step == self.config.steps)
    }

    /// Whether the metrics of the last updates are read now. On the CPU that is free; elsewhere it waits for the device.
    fn reads_metrics(&self) -> bool {
        /// Updates that may be on their way to a device without a look at their numbers.
        const UNREAD: u64 = 100;
        self.config.device == Device::Cpu
            || self.step.is_multiple_of(UNREAD)
            || self.is_due(self.config.log_every)
            || self.is_due(self.config.checkpoint_every)
    }

    /// Takes the metrics of the last updates into account.
    fn read_metrics(&mut self) -> Result<(), TrainError> {
        let updates = self.threads.run(|| self.learner.take_metrics());
        let first = self.step + 1 - updates.len() as u64;
        for (step, metrics) in (first..).zip(updates) {
            if let Some((metric, value)) = metrics.first_non_finite() {
                return Err(self.non_finite(metric, value, step));
            }
            self.mean.add(&metrics);
        }
        Ok(())
    }

    /// What follows an update.
    fn measure_and_save(
        &mut self,
        observer: &mut dyn TrainObserver,
        stopwatch: &mut Stopwatch,
    ) -> Result<(), TrainError> {
        let was_unmeasured = self.unmeasured;
        self.unmeasured = !self.measure(observer, stopwatch)?;
        // A checkpoint that says that it has not been evaluated is replaced.
        if self.unmeasured || was_unmeasured || self.is_due(self.config.checkpoint_every) {
            self.save(observer)?;
        }
        Ok(())
    }

    /// Measures what is due and writes it down; all or nothing, so `false` if the evaluation was interrupted.
    fn measure(
        &mut self,
        observer: &mut dyn TrainObserver,
        stopwatch: &mut Stopwatch,
    ) -> Result<bool, TrainError> {
        let step = self.step;
        let mut evaluation = vec![];
        if self.is_due(self.config.evaluate_every) {
            let mut policy = self.policy()?;
            let numbers = observer
                .on_evaluate(step, policy.as_mut())
                .map_err(|source| TrainError::Observer { step, source })?;
            match numbers {
                Some(numbers) => evaluation = numbers,
                None => return Ok(false),
            }
        }
        let mut row: Vec<(String, f64)> = vec![];
        let mut speed = None;
        if self.is_due(self.config.log_every) {
            let metrics = self.mean.take();
            let lap = stopwatch.take();
            observer.on_log(step, &metrics, lap);
            speed = Some(lap);
            row.extend(named("training", metrics.iter()));
        }
        if self.is_due(self.config.validate_every)
            && let Some(validation) = &self.data.validation
        {
            let batches = self.config.validation_batches;
            let metrics = self
                .threads
                .run(|| self.learner.evaluate(validation, batches))?;
            observer.on_validate(step, &metrics);
            row.extend(named("validation", metrics.iter()));
        }
        row.extend(named(
            "evaluation",
            evaluation
                .iter()
                .map(|(name, value)| (name.as_str(), *value)),
        ));
        if row.is_empty() {
            return Ok(true);
        }
        if let Some((name, value)) = row.iter().find(|(_, value)| !value.is_finite()) {
            return Err(self.non_finite(name, *value, step));
        }
        let cells = || row.iter().map(|(name, value)| (name.as_str(), *value));
        self.newest.extend(row.iter().cloned());
        self.table
            .append(step, cells())
            .map_err(io("write the metrics", self.folder.metrics()))?;
        let speed = speed.map(|speed| ("speed/updates_per_sec", speed.updates_per_sec));
        self.events.scalars(step, cells().chain(speed)).map_err(io(
            "write the TensorBoard events",
            self.events.path().to_owned(),
        ))?;
        Ok(true)
    }

    fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<Utf8PathBuf, TrainError> {
        self.read_metrics()?;
        let learner = &mut self.learner;
        let (mut model, of_agent) =
            with_present_threads(move || (learner.model(), learner.state()));
        // What evaluates the run later on asks the checkpoint where.
        if let Some(env) = &self.config.env {
            model.data.env.clone_from(env);
        }
        let mut state = TensorMap::new();
        state.insert_map(AGENT, of_agent);
        state.insert_map(MEAN, self.mean.state());
        for (name, value) in &self.newest {
            state.insert_f64(format!("{NEWEST}.{name}"), *value);
        }
        let checkpoints = self.folder.checkpoints();
        let path = checkpoint::save(
            &checkpoints,
            Content {
                policy: &self.config.policy.id,
                policy_config: &self.config.policy.settings,
                model: &model,
                state: &state,
                step: self.step,
                seed: self.config.seed,
                config_hash: &hex_crc32(self.config.to_toml().as_bytes()),
                dataset: &self.data.fingerprint,
                metrics: &self.newest,
                unevaluated: self.unmeasured,
            },
        )?;
        self.last_checkpoint = Some((self.step, path.clone()));
        observer.on_checkpoint(self.step, &path);
        self.check_best(&path)?;
        checkpoint::prune(
            &checkpoints,
            self.config.keep_checkpoints,
            self.config.keep_best.as_ref(),
        )?;
        Ok(path)
    }

    /// Whether the metric of the best checkpoint is measured, once anything with its prefix is.
    fn check_best(&self, checkpoint: &Utf8Path) -> Result<(), TrainError> {
        let Some(metric) = self.config.keep_best.as_ref().map(|best| &best.metric) else {
            return Ok(());
        };
        let prefix = metric.split_inclusive('/').next().unwrap_or(metric);
        let measured: Vec<&str> = self
            .newest
            .keys()
            .filter(|name| name.starts_with(prefix))
            .map(String::as_str)
            .collect();
        if measured.is_empty() || measured.contains(&metric.as_str()) {
            return Ok(());
        }
        Err(TrainError::KeepBest {
            metric: metric.clone(),
            measured: measured.join(", "),
            checkpoint: checkpoint.to_owned(),
        })
    }

    fn non_finite(&self, metric: &str, value: f64, step: u64) -> TrainError {
        let checkpoint = self
            .last_checkpoint
            .as_ref()
            .map_or("not there yet".into(), |(_, path)| path.to_string());
        TrainError::NonFinite {
            metric: metric.to_owned(),
            value,
            step,
            checkpoint,
        }
    }
}

/// Names of the parts of a training state.
const AGENT: &str = "agent";
const MEAN: &str = "trainer.mean";
const NEWEST: &str = "trainer.newest";

fn named<'a>(
    prefix: &'a str,
    metrics: impl Iterator<Item = (&'a str, f64)> + 'a,
) -> impl Iterator<Item = (String, f64)> + 'a {
    metrics.map(move |(name, value)| (format!("{prefix}/{name}"), value))
}

fn io(action: &'static str, path: Utf8PathBuf) -> impl FnOnce(std::io::Error) -> TrainError {
    move |source| TrainError::Io {
        action,
        source,
        path,
    }
}

fn new_events(folder: &RunFolder, resumed_at: Option<u64>) -> Result<EventWriter, TrainError> {
    EventWriter::create(folder.path(), resumed_at).map_err(io(
        "create the TensorBoard events",
        folder.path().to_owned(),
    ))
}

/// A fresh agent that can draw training and validation batches: what cannot be sampled is an error now, not at the
/// first validation.
pub(crate) fn new_learner_for(
    config: &TrainConfig,
    train: &DataPart,
    threads: &Threads,
) -> Result<Box<dyn Learner>, TrainError> {
    let spec = config.policy_spec()?;
    let task = TrainingTask {
        data: train.clone(),
        seed: Seed::new(config.seed),
        steps: config.steps,
        batch_size: config.batch_size,
    };
    let (settings, device) = (&config.policy.settings, config.device);
    Ok(threads.run(|| (spec.train)(settings, task, device))?)
}

fn new_learner(
    config: &TrainConfig,
    data: &Data,
    threads: &Threads,
) -> Result<Box<dyn Learner>, TrainError> {
    let mut learner = new_learner_for(config, &data.train, threads)?;
    for part in std::iter::once(&data.train).chain(&data.validation) {
        learner.evaluate(part, 0)?;
    }
    Ok(learner)
}

/// Seconds of updates since the last report.
#[derive(Default)]
struct Stopwatch {
    secs: f64,
    updates: u64,
}

impl Stopwatch {
    fn add(&mut self, begin: Instant) {
        self.secs += begin.elapsed().as_secs_f64();
        self.updates += 1;
    }

    fn take(&mut self) -> Speed {
        let Self { secs, updates } = std::mem::take(self);
        Speed {
            updates_per_sec: updates as f64 / secs.max(1e-9),
        }
    }
}
