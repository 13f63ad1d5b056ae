//! Play data from a scripted demonstrator, in parallel, with the same file for any number of threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use camino::Utf8PathBuf;
use ndarray::Array2;
use serde::Serialize;
use telic_datasets::{Dataset, DatasetWriter, Episode, Metadata};
use telic_envs::{DemonstratorSpec, EnvError, EnvSpec, GoalEnv};
use telic_policies::Threads;
use telic_seed::Seed;

use crate::FlowError;
use crate::error::within;

/// Episodes that a worker may be ahead of the writer, per worker: bounds the memory of a slow disk.
const EPISODES_AHEAD: usize = 4;

/// What to collect.
#[derive(Clone, Debug)]
pub struct CollectConfig {
    /// Environment id.
    pub env: String,
    /// Demonstrator name; the first of the environment if not given.
    pub demonstrator: Option<String>,
    /// File to write, `.npz`.
    pub out: Utf8PathBuf,
    /// Number of episodes.
    pub episodes: usize,
    /// Seed of the whole file.
    pub seed: u64,
    /// Worker threads; does not change the file.
    pub threads: usize,
    /// Scale of the demonstrator's action noise, 1 as published.
    pub noise: f32,
}

/// What was collected.
#[derive(Clone, Debug, Serialize)]
pub struct Collected {
    /// Environment id.
    pub env: String,
    /// Demonstrator name.
    pub demonstrator: String,
    /// The file.
    pub path: Utf8PathBuf,
    /// Episodes in the file.
    pub episodes: usize,
    /// Transitions in the file.
    pub transitions: usize,
    /// Episodes that were in success at any step.
    pub successes: usize,
    /// Episodes that an interrupted call had left, and that were kept.
    pub resumed_episodes: usize,
    /// Transitions of those episodes.
    pub resumed_transitions: usize,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// What an earlier call of the same kind came to.
fn finished(config: &CollectConfig, metadata: &Metadata) -> Result<Option<Collected>, FlowError> {
    if !config.out.exists() {
        return Ok(None);
    }
    let other = || FlowError::File {
        reason: "there is a file already, not of this collection; delete it or choose another path"
            .to_owned(),
        path: config.out.clone(),
    };
    // To read from a pipe would take forever.
    if !config.out.is_file() {
        return Err(other());
    }
    let dataset = Dataset::load(&config.out).map_err(|_| other())?;
    let found = dataset.metadata();
    let episodes = (dataset.num_episodes(), config.episodes);
    let difference = found.first_difference(metadata).or_else(|| {
        (episodes.0 != episodes.1)
            .then(|| ("episodes", episodes.0.to_string(), episodes.1.to_string()))
    });
    if let Some((field, found, asked)) = difference {
        return Err(FlowError::File {
            reason: format!(
                "there is a file already, of another collection: `{field}` is {found}, {asked} is asked for; delete it or choose another path"
            ),
            path: config.out.clone(),
        });
    }
    Ok(Some(Collected {
        env: found.env.clone(),
        demonstrator: found.demonstrator.clone(),
        path: config.out.clone(),
        episodes: config.episodes,
        resumed_episodes: config.episodes,
        resumed_transitions: dataset.num_transitions(),
        transitions: dataset.num_transitions(),
        successes: found
            .episode_successes
            .iter()
            .filter(|success| **success)
            .count(),
        seconds: 0.0,
    }))
}

/// Collects `config.episodes` episodes. Calls `progress(episodes, transitions)` after each one that is written.
///
/// An interrupted collection (`stop`, a kill, a power cut) keeps the episodes that were complete; the same call
/// goes on from there and ends with the same file.
///
/// # Errors
/// [`FlowError::Argument`], and [`FlowError::File`] if there is another file, before anything is written; [`FlowError::Stopped`] when `stop`
/// was set.
pub fn collect(
    config: &CollectConfig,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, usize),
) -> Result<Collected, FlowError> {
    let started = std::time::Instant::now();
    let spec = telic_envs::spec(&config.env)?;
    let demonstrator = spec.demonstrator(config.demonstrator.as_deref())?;
    within("episodes", config.episodes, usize::MAX)?;
    within("threads", config.threads, Threads::MAX)?;
    if !(config.noise.is_finite() && config.noise >= 0.0) {
        return Err(FlowError::Argument {
            name: "noise",
            value: config.noise.to_string(),
            expected: "a finite number of at least 0".to_owned(),
        });
    }
    // A demonstrator that does not take this noise says so before there is a file.
    drop((demonstrator.make)(config.noise)?);
    let seed = Seed::new(config.seed).child("collect");
    let collected_metadata = metadata(
        spec,
        "collect",
        demonstrator.name,
        config.seed,
        [("noise".to_owned(), config.noise.to_string())].into(),
    );
    if let Some(finished) = finished(config, &collected_metadata)? {
        return Ok(finished);
    }
    let mut writer = DatasetWriter::resume(&config.out, collected_metadata)?;
    let (first, resumed_transitions) = (writer.num_episodes(), writer.num_transitions());
    if first > config.episodes {
        return Err(FlowError::File {
            reason: format!(
                "{first} episodes of an unfinished collection are here, {} are asked for; ask for as many or more, or delete it",
                config.episodes
            ),
            path: DatasetWriter::journal_path(&config.out),
        });
    }
    let mut successes = writer.num_successes();
    let next = AtomicUsize::new(first);
    let written = AtomicUsize::new(first);
    let failed = AtomicBool::new(false);
    let halted = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let (sender, receiver) = mpsc::channel::<(usize, Result<Episode, EnvError>)>();

    std::thread::scope(|scope| -> Result<(), FlowError> {
        for _ in 0..config.threads {
            let sender = sender.clone();
            let (next, written, halted, failed) = (&next, &written, &halted, &failed);
            scope.spawn(move || {
                // The episode of a worker that panics never comes: the others must not wait for it.
                let _guard = FailsOnUnwind(failed);
                let mut expert = match (demonstrator.make)(config.noise) {
                    Ok(expert) => expert,
                    Err(error) => {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let _ = sender.send((index, Err(error)));
                        return;
                    }
                };
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    while index > written.load(Ordering::Relaxed) + config.threads * EPISODES_AHEAD
                    {
                        if halted() {
                            return;
                        }
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    if index >= config.episodes || halted() {
                        return;
                    }
                    let episode = run_episode(
                        expert.as_mut(),
                        spec,
                        demonstrator,
                        seed.index(index as u64).value(),
                    );
                    if sender.send((index, episode)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // The writer takes episodes in index order, whatever order they finish in.
        let write_all = |failed: &AtomicBool| -> Result<(), FlowError> {
            let mut waiting = BTreeMap::new();
            for (index, episode) in &receiver {
                waiting.insert(index, episode);
                while let Some(episode) = waiting.remove(&writer.num_episodes()) {
                    let episode = episode?;
                    successes += usize::from(episode.success);
                    writer.append_episode(&episode)?;
                    written.store(writer.num_episodes(), Ordering::Relaxed);
                    progress(writer.num_episodes(), writer.num_transitions());
                }
                if failed.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok(())
        };
        let mut write_all = write_all;
        let outcome = write_all(&failed);
        failed.store(outcome.is_err(), Ordering::Relaxed);
        outcome
    })?;

    if writer.num_episodes() < config.episodes {
        let kept = writer.num_episodes();
        return Err(FlowError::Stopped(format!(
            "{kept} of {} episodes are kept; the same command goes on from there",
            config.episodes
        )));
    }
    let (episodes, transitions) = (writer.num_episodes(), writer.num_transitions());
    writer.finish()?;
    Ok(Collected {
        env: spec.id.to_owned(),
        demonstrator: demonstrator.name.to_owned(),
        path: config.out.clone(),
        episodes,
        transitions,
        successes,
        resumed_episodes: first,
        resumed_transitions,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Says that a thread panicked.
struct FailsOnUnwind<'a>(&'a AtomicBool);

impl Drop for FailsOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// What a file says about data of an environment that `telic COMMAND` made.
pub(crate) fn metadata(
    spec: &EnvSpec,
    command: &str,
    demonstrator: &str,
    seed: u64,
    options: BTreeMap<String, String>,
) -> Metadata {
    Metadata {
        env: spec.id.to_owned(),
        env_version: spec.version,
        seed: Some(seed),
        generator: format!("telic {} {command}", env!("CARGO_PKG_VERSION")),
        demonstrator: demonstrator.to_owned(),
        options,
        control_hz: spec.control_hz,
        observation_names: spec
            .observation
            .iter()
            .map(|entry| entry.name.clone())
            .collect(),
        action_names: spec.action.iter().map(|entry| entry.name.clone()).collect(),
        goal_indices: spec.goal.indices.clone(),
        goal_tolerance: spec.goal.tolerance,
        goal_point_dim: spec.goal.point_dim,
        goal_metres_per_unit: spec.goal.metres_per_unit,
        ..Metadata::default()
    }
}

/// Runs one play episode: T+1 rows, the last one holding the final state and the last action again.
fn run_episode(
    expert: &mut dyn telic_envs::Demonstrator,
    spec: &EnvSpec,
    demonstrator: &DemonstratorSpec,
    seed: u64,
) -> Result<Episode, EnvError> {
    expert.reset(seed, None)?;
    let mut rows = EpisodeRows::default();
    let mut action = vec![0.0; spec.action_dim()];
    let mut success = false;
    let mut finished = false;
    while !finished {
        expert.act(&mut action);
        rows.push(expert.env(), &action);
        let step = expert.step(&action)?;
        success |= step.success;
        finished = expert.finished() || step.terminated || rows.count >= demonstrator.episode_steps;
    }
    rows.push(expert.env(), &action);
    Ok(rows.into_episode(seed, success))
}

/// An episode that is being recorded.
#[derive(Default)]
pub(crate) struct EpisodeRows {
    count: usize,
    observations: Vec<f32>,
    actions: Vec<f32>,
    qpos: Vec<f32>,
    qvel: Vec<f32>,
}

impl EpisodeRows {
    /// The state, and the action that will be taken in it.
    pub(crate) fn push(&mut self, env: &dyn GoalEnv, action: &[f32]) {
        self.count += 1;
        self.observations.extend_from_slice(env.observation());
        env.state(&mut self.qpos, &mut self.qvel);
        self.actions.extend_from_slice(action);
    }

    /// The episode, with at least one row.
    pub(crate) fn into_episode(self, seed: u64, success: bool) -> Episode {
        let table = |values: Vec<f32>| {
            let columns = values.len() / self.count;
            Array2::from_shape_vec((self.count, columns), values)
                .expect("every row has the same columns")
        };
        Episode {
            observations: table(self.observations),
            actions: table(self.actions),
            qpos: Some(table(self.qpos)),
            qvel: Some(table(self.qvel)),
            button_states: None,
            seed,
            success,
        }
    }
}
