//! The named rewards of an environment: what a policy earns of them, and prompts from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8Path;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::Serialize;
use telic_datasets::{Dataset, HindsightConfig, HindsightSampler};
use telic_envs::{EnvSpec, GoalEnv, ResetOptions, Start};
use telic_policies::{Policy, PolicyError};
use telic_seed::{Rng, Seed};

use crate::FlowError;
use crate::error::within;
use crate::interval::{Interval, mean};
use crate::replay::env_of;

/// Episodes that may run side by side, each in its own world.
pub const MAX_EPISODES: usize = 10_000;

/// What was earned of a reward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RewardReturn {
    /// Its name.
    pub reward: String,
    /// Sum over an episode, mean over the episodes.
    pub mean: f64,
    /// 95 % interval of the mean over episodes; none for a single episode.
    pub ci95: Option<Interval>,
}

/// Runs whole episodes side by side from the starts of play data; a row per named reward of the environment, in its order.
///
/// `act` writes actions `[episodes, action_dim]` for observations `[episodes, observation_dim]`.
///
/// # Errors
/// [`FlowError::Argument`] for no episode or more than [`MAX_EPISODES`]; [`FlowError::Env`], and those of `act`.
pub fn reward_returns(
    spec: &'static EnvSpec,
    episodes: usize,
    seed: Seed,
    mut act: impl FnMut(ArrayView2<'_, f32>, &mut Array2<f32>) -> Result<(), FlowError>,
) -> Result<Vec<RewardReturn>, FlowError> {
    within("episodes", episodes, MAX_EPISODES)?;
    let options = ResetOptions {
        start: Start::Collection,
        goal: None,
    };
    let mut envs: Vec<Box<dyn GoalEnv>> = Vec::with_capacity(episodes);
    for episode in 0..episodes {
        let mut env = (spec.make)()?;
        env.reset(seed.index(episode as u64).value(), &options)?;
        envs.push(env);
    }
    let mut earned = Array2::<f64>::zeros((spec.rewards.len(), episodes));
    let mut observations = Array2::zeros((episodes, spec.observation_dim()));
    let mut actions = Array2::zeros((episodes, spec.action_dim()));
    for _ in 0..spec.max_episode_steps {
        for (env, mut row) in envs.iter().zip(observations.rows_mut()) {
            row.assign(&ndarray::aview1(env.observation()));
        }
        act(observations.view(), &mut actions)?;
        for (episode, env) in envs.iter_mut().enumerate() {
            env.step(&actions.row(episode).to_vec())?;
            for (reward, value) in env.rewards().into_iter().enumerate() {
                earned[(reward, episode)] += f64::from(value);
            }
        }
    }
    let rows = spec.rewards.iter().zip(earned.rows());
    Ok(rows
        .map(|(reward, values)| RewardReturn {
            reward: reward.name.to_owned(),
            mean: mean(&values.to_vec()),
            ci95: Interval::of_mean(&values.to_vec()),
        })
        .collect())
}

/// States of a dataset with what each named reward says of them.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledStates {
    /// `[rows, observation_dim]`.
    pub observations: Array2<f32>,
    /// `[rewards, rows]`, in the order of the environment.
    pub rewards: Array2<f32>,
}

impl LabelledStates {
    /// Draws `count` states that start a transition, each as likely as any other, and asks the environment for their rewards.
    ///
    /// # Errors
    /// [`FlowError::Argument`] for an environment without named rewards; [`FlowError::Mismatch`] for a dataset of another
    /// environment or without coordinates and velocities; [`FlowError::Env`].
    pub fn draw(
        dataset: &Arc<Dataset>,
        spec: &'static EnvSpec,
        count: usize,
        seed: Seed,
    ) -> Result<Self, FlowError> {
        if spec.rewards.is_empty() {
            return Err(FlowError::Argument {
                name: "env",
                value: spec.id.to_owned(),
                expected: "an environment with named rewards".to_owned(),
            });
        }
        let mismatch = |what, left: String| FlowError::Mismatch {
            what,
            left,
            right: format!("the rewards are those of `{}`", spec.id),
        };
        let of_data = env_of(dataset)?;
        if of_data.id != spec.id {
            let left = format!("the labelled data are of `{}`", of_data.id);
            return Err(mismatch("environment", left));
        }
        let (Some(qpos), Some(qvel)) = (dataset.qpos(), dataset.qvel()) else {
            let left = "the labelled data have no qpos and qvel".to_owned();
            return Err(mismatch("columns", left));
        };
        let rows = draw_states(dataset, count, seed)?;
        let mut env = (spec.make)()?;
        env.reset(0, &ResetOptions::default())?;
        let mut rewards = Array2::zeros((spec.rewards.len(), count));
        for (column, &row) in rows.iter().enumerate() {
            env.set_state(&qpos.row(row).to_vec(), &qvel.row(row).to_vec())?;
            rewards
                .column_mut(column)
                .assign(&Array1::from(env.rewards()));
        }
        Ok(Self {
            observations: dataset.observations().select(Axis(0), &rows),
            rewards,
        })
    }
}

/// Rows of states that start a transition, each as likely as any other; the same ones for the same seed.
///
/// # Errors
/// [`FlowError::Sampler`] for a dataset that cannot be sampled.
pub fn draw_states(
    dataset: &Arc<Dataset>,
    count: usize,
    seed: Seed,
) -> Result<Vec<usize>, FlowError> {
    let sampler = HindsightSampler::new(Arc::clone(dataset), HindsightConfig::default())?;
    let mut rng = seed.child("labels").rng();
    Ok((0..count).map(|_| sampler.draw_row(&mut rng)).collect())
}

/// States that are labelled by default.
pub const LABELS: usize = 10_000;

/// Prompts a policy with one named reward, from [`LABELS`] states of a dataset.
///
/// # Errors
/// [`FlowError::Argument`] for an unknown reward; those of [`LabelledStates::draw`] and of [`Policy::prompt_reward`].
pub fn prompt(
    policy: &mut dyn Policy,
    spec: &'static EnvSpec,
    reward: &str,
    data: &Utf8Path,
) -> Result<(), FlowError> {
    let names: Vec<&str> = spec.rewards.iter().map(|reward| reward.name).collect();
    let Some(index) = names.iter().position(|name| *name == reward) else {
        return Err(FlowError::Argument {
            name: "reward",
            value: reward.to_owned(),
            expected: match &names[..] {
                [] => format!("none, since `{}` has no named rewards", spec.id),
                names => format!("one of: {}", names.join(", ")),
            },
        });
    };
    let dataset = Arc::new(Dataset::load(data)?);
    let labelled = LabelledStates::draw(&dataset, spec, LABELS, Seed::new(0))?;
    policy.prompt_reward(labelled.observations.view(), labelled.rewards.row(index))?;
    Ok(())
}

/// What a prompted policy earned of a reward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptedReturn {
    /// The return.
    #[serde(flatten)]
    pub earned: RewardReturn,
    /// Share of the variance of the labels that the policy's features can express.
    pub r_squared: f64,
}

/// Everything that a policy earned, and of what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptedReturns {
    /// Environment id.
    pub env: String,
    /// Its version.
    pub env_version: u32,
    /// Episodes of each reward.
    pub episodes: usize,
    /// Seed of worlds, policy and labels.
    pub seed: u64,
    /// Updates behind the policy, if it is from a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Labelled states behind each prompt.
    pub labels: usize,
    /// The dataset that they are from.
    pub labelled: String,
    /// Inference settings of the policy, by dotted key ([`flat`](telic_policies::config_table::flat)).
    pub settings: BTreeMap<String, String>,
    /// The command that made it, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// One for each named reward.
    pub rewards: Vec<PromptedReturn>,
}

/// Prompts a policy with each named reward in turn ([`Policy::prompt_reward`]) and lets it earn: one entry per reward.
///
/// # Errors
/// [`FlowError::Policy`] for one that takes goals only, or labels that say nothing; [`FlowError::Stopped`]; [`FlowError::Env`].
pub fn prompted_returns(
    policy: &mut dyn Policy,
    spec: &'static EnvSpec,
    labelled: &LabelledStates,
    episodes: usize,
    seed: Seed,
    stop: &AtomicBool,
    mut progress: impl FnMut(&PromptedReturn),
) -> Result<Vec<PromptedReturn>, FlowError> {
    let mut found = vec![];
    for (index, labels) in labelled.rewards.rows().into_iter().enumerate() {
        let r_squared = policy.prompt_reward(labelled.observations.view(), labels)?;
        policy.reset(episodes);
        let mut rngs: Vec<Rng> = (0..episodes as u64)
            .map(|episode| seed.index(episode).child("policy").rng())
            .collect();
        let returns = reward_returns(spec, episodes, seed, |observations, actions| {
            if stop.load(Ordering::Relaxed) {
                return Err(FlowError::Stopped(format!(
                    "{index} of {} rewards were evaluated",
                    spec.rewards.len()
                )));
            }
            // A prompted policy takes no notice of goals.
            let acted: Result<(), PolicyError> =
                policy.act(observations, observations, &mut rngs, actions);
            Ok(acted?)
        })?;
        let earned = returns[index].clone();
        found.push(PromptedReturn { earned, r_squared });
        progress(&found[index]);
    }
    Ok(found)
}
