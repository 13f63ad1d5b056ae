//! Earning a named reward of an environment, or exploring it, and what was done on the way as a dataset.

use std::sync::{Arc, Mutex, PoisonError};

use camino::Utf8Path;
use ndarray::{Array2, ArrayView2};
use serde::Serialize;
use telic_datasets::{DatasetWriter, Episode};
use telic_envs::gait::Gait;
use telic_envs::{EnvError, EnvSpec, GoalEnv, ResetOptions, Start};
use telic_policies::Metrics;
use telic_policies::online::{OnlineConfig, OnlineStep, OnlineTask};
use telic_seed::Seed;

use super::check_gait;
use crate::FlowError;
use crate::collect::{EpisodeRows, metadata};
use crate::returns::{RewardReturn, reward_returns};

/// Episodes of an evaluation.
const EPISODES: usize = 16;

/// How much an expert earns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RewardReport {
    /// Episodes without noise.
    pub episodes: usize,
    /// Of every reward of the environment, not only of the one that was learned.
    pub returns: Vec<RewardReturn>,
}

impl RewardReport {
    pub(super) fn summary(&self) -> String {
        let returns = self.returns.iter();
        let returns: Vec<String> = returns
            .map(|found| format!("{} {:.0}", found.reward, found.mean))
            .collect();
        format!("returns: {}", returns.join(", "))
    }

    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for found in &self.returns {
            metrics.insert(format!("evaluation/return_{}", found.reward), found.mean);
        }
        metrics
    }
}

/// Runs episodes from the starts of play data with the most likely actions of a gait.
pub(super) fn evaluate(
    spec: &'static EnvSpec,
    gait: &Gait,
    seed: Seed,
) -> Result<RewardReport, FlowError> {
    check_gait(gait, spec.id, spec.observation_dim(), spec.action_dim())?;
    let seed = seed.child("evaluation");
    let act = |observations: ArrayView2<'_, f32>, actions: &mut Array2<f32>| {
        let mut action = vec![0.0; spec.action_dim()];
        for (observation, mut row) in observations.rows().into_iter().zip(actions.rows_mut()) {
            gait.act(&observation.to_vec(), &mut action);
            row.assign(&ndarray::aview1(&action));
        }
        Ok(())
    };
    Ok(RewardReport {
        episodes: EPISODES,
        returns: reward_returns(spec, EPISODES, seed, act)?,
    })
}

/// The file that takes every complete episode.
pub(super) struct Recorder {
    /// The first failure ends the recording; the writer goes with [`finish`](Self::finish).
    writer: Mutex<Result<Option<DatasetWriter>, FlowError>>,
}

impl Recorder {
    /// A new file for the episodes of a run.
    pub(super) fn create(
        path: &Utf8Path,
        spec: &EnvSpec,
        config: &OnlineConfig,
    ) -> Result<Self, FlowError> {
        if path.exists() {
            return Err(FlowError::File {
                reason: "there is a file already; delete it or choose another path".to_owned(),
                path: path.to_owned(),
            });
        }
        let options = [
            ("steps".to_owned(), config.steps.to_string()),
            ("novelty".to_owned(), config.novelty.weight.to_string()),
        ];
        let metadata = metadata(
            spec,
            "train-expert",
            &config.task,
            config.seed,
            options.into(),
        );
        let writer = DatasetWriter::create(path, metadata)?;
        Ok(Self {
            writer: Mutex::new(Ok(Some(writer))),
        })
    }

    fn append(&self, episode: &Episode) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Some(open)) = &mut *writer
            && let Err(error) = open.append_episode(episode)
        {
            *writer = Err(error.into());
        }
    }

    /// The first failure so far.
    pub(super) fn check(&self) -> Result<(), FlowError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *writer, Ok(None)) {
            Ok(open) => *writer = Ok(open),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Closes the file; without an episode there is none.
    pub(super) fn finish(&self) -> Result<(), FlowError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *writer, Ok(None))? {
            Some(writer) if writer.num_episodes() > 0 => Ok(writer.finish()?),
            Some(writer) => Ok(writer.discard()?),
            None => Ok(()),
        }
    }
}

/// The environment as the learner sees it.
pub(super) fn task(
    spec: &'static EnvSpec,
    reward: Option<usize>,
    recorder: Option<&Arc<Recorder>>,
) -> Result<Box<dyn OnlineTask>, FlowError> {
    let mut task = RewardTask {
        env: (spec.make)()?,
        reward,
        recorder: recorder.cloned(),
        seed: 0,
        rows: EpisodeRows::default(),
    };
    task.start(Seed::new(0))?;
    Ok(Box::new(task))
}

struct RewardTask {
    env: Box<dyn GoalEnv>,
    reward: Option<usize>,
    recorder: Option<Arc<Recorder>>,
    seed: u64,
    rows: EpisodeRows,
}

impl RewardTask {
    fn start(&mut self, seed: Seed) -> Result<(), EnvError> {
        self.seed = seed.value();
        self.rows = EpisodeRows::default();
        let options = ResetOptions {
            start: Start::Collection,
            goal: None,
        };
        self.env.reset(self.seed, &options)
    }
}

impl OnlineTask for RewardTask {
    fn observation_dim(&self) -> usize {
        self.env.spec().observation_dim()
    }

    fn action_dim(&self) -> usize {
        self.env.spec().action_dim()
    }

    fn reset(&mut self, seed: Seed) {
        self.start(seed)
            .expect("a start of play data, which has been made before, takes every seed");
    }

    fn observation(&self) -> &[f32] {
        self.env.observation()
    }

    fn step(&mut self, action: &[f32]) -> OnlineStep {
        if self.recorder.is_some() {
            self.rows.push(self.env.as_ref(), action);
        }
        let step = self
            .env
            .step(action)
            .expect("finite actions of the right length");
        if step.truncated
            && let Some(recorder) = &self.recorder
        {
            self.rows.push(self.env.as_ref(), action);
            let rows = std::mem::take(&mut self.rows);
            recorder.append(&rows.into_episode(self.seed, false));
        }
        let reward = self.reward.map_or(0.0, |reward| self.env.rewards()[reward]);
        OnlineStep {
            reward,
            terminated: false,
            truncated: step.truncated,
        }
    }
}
