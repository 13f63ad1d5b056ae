//! Episodes as rerun recordings: recorded ones, and those that a policy acts out.

use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array2, aview1};
use telic_datasets::Dataset;
use telic_envs::{EnvSpec, ResetOptions, Start};
use telic_policies::Policy;
use telic_seed::Seed;
use telic_viz::{EpisodeRecorder, Recorded, RecordingTarget};

use crate::FlowError;
use crate::evaluate::fits;
use crate::insight::Insight;
use crate::replay::{env_of, replay_episode};

/// Records one episode of a dataset, simulated again from its actions. Returns the steps and what was written.
pub fn record_replay(
    dataset: &Dataset,
    episode: usize,
    target: RecordingTarget,
    stop: &AtomicBool,
) -> Result<(usize, Recorded), FlowError> {
    let spec = env_of(dataset)?;
    let mut env = (spec.make)()?;
    let mut recorder = EpisodeRecorder::new(spec, target)?;
    let mut last_action = Vec::new();
    let steps = replay_episode(dataset, env.as_mut(), episode, |row, env, action, step| {
        if stop.load(Ordering::Relaxed) {
            return Err(FlowError::Stopped(format!("{row} steps were recorded")));
        }
        match step {
            None => recorder.begin_play(env, &format!("recorded episode {episode}"))?,
            Some(step) => recorder.log_step(env, &last_action, &step)?,
        }
        if let Some(action) = action {
            last_action.clear();
            last_action.extend_from_slice(action);
        }
        Ok(true)
    })?;
    Ok((steps, recorder.finish()?))
}

/// What a policy acts out for a recording.
#[derive(Clone, Debug)]
pub struct RolloutConfig {
    /// Episodes; episode `e` runs task `e mod tasks`, as in an evaluation with the same seed.
    pub episodes: usize,
    /// Seed of worlds and policy.
    pub seed: u64,
    /// Candidate actions that are denoised for the eye at every `trace_every` steps; 0 for none.
    pub candidates: usize,
    /// Control steps between two traces of the denoising.
    pub trace_every: usize,
    /// Tasks by index, in turn; all if empty.
    pub tasks: Vec<usize>,
    /// In place of tasks, whole episodes from the starts of play data, as for a policy that was prompted with a reward; what they
    /// are called.
    pub play: Option<String>,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            episodes: 2,
            seed: 0,
            candidates: 32,
            trace_every: 5,
            tasks: Vec::new(),
            play: None,
        }
    }
}

/// Records episodes of `policy` with what it makes of them: its denoising, its values over the floor, its latents, where it heads
/// first. Calls `progress(episodes done)` after each step. Returns how many succeeded and what was written.
pub fn record_rollouts(
    policy: &mut dyn Policy,
    spec: &'static EnvSpec,
    config: &RolloutConfig,
    target: RecordingTarget,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
) -> Result<(usize, Recorded), FlowError> {
    fits(policy, spec)?;
    let mut env = (spec.make)()?;
    let mut recorder = EpisodeRecorder::new(spec, target)?;
    let seed = Seed::new(config.seed).child("evaluate");
    let mut actions = Array2::zeros((1, spec.action_dim()));
    let mut successes = 0;
    for episode in 0..config.episodes {
        let seed = seed.index(episode as u64);
        let (start, name) = match (&config.play, &config.tasks[..]) {
            (Some(name), _) => (Start::Collection, name),
            (None, tasks) => {
                let task = match tasks {
                    [] => episode % spec.tasks.len(),
                    tasks => tasks[episode % tasks.len()],
                };
                (Start::Task(task), &spec.tasks[task].name)
            }
        };
        let options = ResetOptions { start, goal: None };
        env.reset(seed.child("env").value(), &options)?;
        policy.reset(1);
        let mut rngs = [seed.child("policy").rng()];
        let mut trace_rng = seed.child("trace").rng();
        let label = format!("{name}_{episode}");
        let mut insight = None;
        if config.play.is_some() {
            recorder.begin_play(env.as_ref(), &label)?;
        } else {
            recorder.begin_episode(env.as_ref(), &label)?;
            insight = Some(Insight::begin(policy, env.as_ref(), &mut recorder)?);
        }
        let reward = config.play.as_ref().and_then(|reward| {
            let rewards = spec.rewards.iter();
            rewards
                .map(|known| known.name)
                .position(|known| known == reward)
        });
        let mut paid = 0.0;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(FlowError::Stopped(format!(
                    "{episode} of {} episodes were recorded",
                    config.episodes
                )));
            }
            let observation = aview1(env.observation());
            let goal = aview1(env.goal_observation());
            if config.candidates > 0
                && env
                    .elapsed_steps()
                    .is_multiple_of(config.trace_every.max(1))
                && let Some(trace) =
                    policy.trace(0, observation, goal, config.candidates, &mut trace_rng)?
            {
                recorder.log_denoising(&trace)?;
            }
            if let Some(insight) = &mut insight {
                insight.step(policy, env.as_ref(), &mut recorder)?;
            }
            let row =
                |values: ndarray::ArrayView1<f32>| values.to_owned().insert_axis(ndarray::Axis(0));
            policy.act(
                row(observation).view(),
                row(goal).view(),
                &mut rngs,
                &mut actions,
            )?;
            let action = actions.row(0).to_vec();
            let step = env.step(&action)?;
            recorder.log_step(env.as_ref(), &action, &step)?;
            paid += reward.map_or(0.0, |reward| f64::from(env.rewards()[reward]));
            progress(episode);
            let ends = config.play.is_none() && (step.terminated || step.success);
            if ends || step.truncated {
                successes += usize::from(step.success);
                if reward.is_some() {
                    recorder.log_note(format!("return {paid:.1} of its reward"))?;
                }
                break;
            }
        }
    }
    Ok((successes, recorder.finish()?))
}
