//! Recorded episodes, run again from their actions.

use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array2, ArrayView1};
use serde::Serialize;
use telic_datasets::Dataset;
use telic_envs::{EnvSpec, GoalEnv, ResetOptions, Start, Step};

use crate::FlowError;

/// First place where a replay left the recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Episode in the file.
    pub episode: usize,
    /// Row in the episode.
    pub step: usize,
    /// `observations`, `qpos` or `qvel`.
    pub column: &'static str,
    /// Entry of the row.
    pub entry: usize,
    /// What the file holds.
    pub recorded: f32,
    /// What the simulation gives.
    pub simulated: f32,
}

/// Outcome of a verification.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Environment id.
    pub env: String,
    /// Episodes that were run.
    pub episodes: usize,
    /// Control steps that were run.
    pub steps: usize,
    /// Whether every state was the same to the bit.
    pub identical: bool,
    /// The first difference, if any.
    pub difference: Option<Difference>,
}

/// The environment of a dataset.
///
/// # Errors
/// [`FlowError::Mismatch`] when the file does not say of which environment it is, was made by another version of it, or has other dims.
pub fn env_of(dataset: &Dataset) -> Result<&'static EnvSpec, FlowError> {
    let metadata = dataset.metadata();
    if metadata.env.is_empty() {
        return Err(FlowError::Mismatch {
            what: "no environment to replay in",
            left: "the file does not say of which environment it is".to_owned(),
            right: "files of `telic collect` do".to_owned(),
        });
    }
    let spec = telic_envs::spec(&metadata.env)?;
    if metadata.env_version != spec.version {
        return Err(FlowError::Mismatch {
            what: "environment version",
            left: format!(
                "the file was made with `{}` version {}",
                spec.id, metadata.env_version
            ),
            right: format!("this build has version {}", spec.version),
        });
    }
    if dataset.observation_dim() != spec.observation_dim()
        || dataset.action_dim() != spec.action_dim()
    {
        return Err(FlowError::Mismatch {
            what: "dims",
            left: format!(
                "the file has {} observation and {} action entries",
                dataset.observation_dim(),
                dataset.action_dim()
            ),
            right: format!(
                "`{}` has {} and {}",
                spec.id,
                spec.observation_dim(),
                spec.action_dim()
            ),
        });
    }
    Ok(spec)
}

/// Runs one episode again from its seed and actions. `visit(row, env, action, step)` sees the state of every row;
/// row 0 has no step behind it, and the last row no action.
///
/// # Errors
/// [`FlowError::Mismatch`] when the file has no episode seeds; whatever `visit` returns.
pub fn replay_episode(
    dataset: &Dataset,
    env: &mut dyn GoalEnv,
    episode: usize,
    mut visit: impl FnMut(usize, &dyn GoalEnv, Option<&[f32]>, Option<Step>) -> Result<bool, FlowError>,
) -> Result<usize, FlowError> {
    let count = dataset.num_episodes();
    if episode >= count {
        return Err(FlowError::Argument {
            name: "episode",
            value: episode.to_string(),
            expected: format!("one of the {count} episodes, numbered from 0"),
        });
    }
    let Some(&seed) = dataset.metadata().episode_seeds.get(episode) else {
        return Err(FlowError::Mismatch {
            what: "no seed to replay from",
            left: format!(
                "the file has {} episode seeds",
                dataset.metadata().episode_seeds.len()
            ),
            right: format!("episode {episode} was asked for"),
        });
    };
    env.reset(
        seed,
        &ResetOptions {
            start: Start::Collection,
            goal: None,
        },
    )?;
    let (start, rows) = (
        dataset.episodes().start(episode),
        dataset.episodes().rows(episode),
    );
    let mut step = None;
    for row in 0..rows {
        let action = dataset.actions().row(start + row);
        let action = action.as_slice().filter(|_| row + 1 < rows);
        if !visit(row, env, action, step)? {
            return Ok(row);
        }
        if let Some(action) = action {
            step = Some(env.step(action)?);
        }
    }
    Ok(rows - 1)
}

/// Runs `episodes` again and compares every observation, position and velocity that the recording holds to the bit.
pub fn verify<'a>(
    dataset: &'a Dataset,
    episodes: &[usize],
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
) -> Result<Verification, FlowError> {
    let spec = env_of(dataset)?;
    let mut env = (spec.make)()?;
    let mut report = Verification {
        env: spec.id.to_owned(),
        episodes: 0,
        steps: 0,
        identical: true,
        difference: None,
    };
    for (done, &episode) in episodes.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(FlowError::Stopped(format!(
                "{done} of {} episodes were verified",
                episodes.len()
            )));
        }
        // One that is not there is refused when it is run.
        let known = episode.min(dataset.num_episodes().saturating_sub(1));
        let start = dataset.episodes().start(known);
        let last = dataset.episodes().rows(known) - 1;
        let (mut qpos, mut qvel) = (Vec::new(), Vec::new());
        let mut difference = None;
        report.steps += replay_episode(dataset, env.as_mut(), episode, |row, env, _, _| {
            qpos.clear();
            qvel.clear();
            env.state(&mut qpos, &mut qvel);
            // Data that came in the regular layout does not hold this state.
            let is_known = row < last || !dataset.metadata().final_states_repeated;
            let state = |table: Option<&'a Array2<f32>>| {
                table
                    .filter(|_| is_known)
                    .map(|table| table.row(start + row))
            };
            let columns = [
                (
                    "observations",
                    Some(dataset.observations().row(start + row)),
                    env.observation(),
                ),
                ("qpos", state(dataset.qpos()), qpos.as_slice()),
                ("qvel", state(dataset.qvel()), qvel.as_slice()),
            ];
            difference = columns
                .into_iter()
                .find_map(|(column, recorded, simulated)| {
                    first_difference(&recorded?, simulated).map(|(entry, recorded, simulated)| {
                        Difference {
                            episode,
                            step: row,
                            column,
                            entry,
                            recorded,
                            simulated,
                        }
                    })
                });
            Ok(difference.is_none())
        })?;
        report.episodes += 1;
        progress(report.episodes);
        if difference.is_some() {
            (report.identical, report.difference) = (false, difference);
            break;
        }
    }
    Ok(report)
}

/// First entry whose bits differ; a missing entry counts as NaN.
fn first_difference(recorded: &ArrayView1<f32>, simulated: &[f32]) -> Option<(usize, f32, f32)> {
    (0..recorded.len().max(simulated.len())).find_map(|entry| {
        let left = recorded.get(entry).copied().unwrap_or(f32::NAN);
        let right = simulated.get(entry).copied().unwrap_or(f32::NAN);
        (left.to_bits() != right.to_bits()).then_some((entry, left, right))
    })
}
