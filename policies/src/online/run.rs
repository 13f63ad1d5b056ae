//! A run: its learner, its replay and its worlds, between two rounds of steps.

use burn::tensor::backend::AutodiffBackend;
use rand::RngExt;
use telic_seed::Seed;

use super::{OnlineConfig, OnlineTask, STEP};
use crate::metrics::MeanMetrics;
use crate::novelty::Novelty;
use crate::replay::{Replay, Transition};
use crate::sac::Sac;
use crate::{Metrics, Numbers, PolicyError, TensorMap};

/// A task in its episode.
struct World<'a> {
    task: &'a mut dyn OnlineTask,
    /// Number of the episode in the run.
    episode: u64,
    /// What was done in it, `[steps, action_dim]`.
    actions: Vec<f32>,
    earned: f64,
}

impl World<'_> {
    /// Steps of the episode.
    fn steps(&self) -> usize {
        self.actions.len() / self.task.action_dim()
    }

    fn begin(&mut self, episode: u64, seed: Seed) {
        (self.episode, self.earned) = (episode, 0.0);
        self.actions.clear();
        self.task.reset(seed.child("episode").index(episode));
    }
}

/// The learner, what it learns from, and what it acts in.
pub(super) struct Run<'a, B: AutodiffBackend> {
    config: &'a OnlineConfig,
    seed: Seed,
    sac: Sac<B>,
    novelty: Option<Novelty<B>>,
    replay: Replay,
    worlds: Vec<World<'a>>,
    /// Steps of the task, over all worlds.
    step: u64,
    updates: u64,
    /// Episodes that have begun.
    episodes: u64,
    mean: MeanMetrics,
    /// Numbers of updates that are still on the device.
    unread: Vec<Numbers<B::InnerBackend>>,
}

impl<'a, B: AutodiffBackend> Run<'a, B> {
    /// At its beginning, on at least one task.
    pub(super) fn new(config: &'a OnlineConfig, tasks: &'a mut [Box<dyn OnlineTask>]) -> Self {
        let seed = Seed::new(config.seed);
        let (observation_dim, action_dim) = (tasks[0].observation_dim(), tasks[0].action_dim());
        let device = B::Device::default();
        let novelty = (config.novelty.weight > 0.0).then(|| {
            let seed = seed.child("novelty");
            Novelty::<B>::new(&config.novelty, observation_dim, seed, &device)
        });
        let mut worlds: Vec<World<'a>> = Vec::with_capacity(tasks.len());
        for (episode, task) in (0..).zip(tasks) {
            let mut world = World {
                task: task.as_mut(),
                episode,
                actions: vec![],
                earned: 0.0,
            };
            world.begin(episode, seed);
            worlds.push(world);
        }
        Self {
            sac: Sac::new(&config.sac, observation_dim, action_dim, seed, &device),
            novelty,
            replay: Replay::new(observation_dim, action_dim, config.replay),
            episodes: worlds.len() as u64,
            worlds,
            step: 0,
            updates: 0,
            mean: MeanMetrics::new(),
            unread: vec![],
            config,
            seed,
        }
    }

    /// Steps of the task so far.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// See [`Sac::actor`].
    pub(super) fn actor(&self) -> TensorMap {
        self.sac.actor()
    }

    /// A step of every world, and the updates that are due after it.
    pub(super) fn round(&mut self) -> Result<(), PolicyError> {
        let (config, seed) = (self.config, self.seed);
        let mut rng = seed.child("act").index(self.step).rng();
        let seen: Vec<f32> = self
            .worlds
            .iter()
            .flat_map(|world| world.task.observation().to_vec())
            .collect();
        let count = self.worlds.len();
        let (observation_dim, action_dim) = (
            self.worlds[0].task.observation_dim(),
            self.worlds[0].task.action_dim(),
        );
        let actions = if self.step < config.random_steps {
            let entries = count * action_dim;
            (0..entries).map(|_| rng.random_range(-1.0..=1.0)).collect()
        } else {
            self.sac.act(&seen, count, &mut rng)
        };
        if let Some(&value) = actions.iter().find(|action| !action.is_finite()) {
            return Err(self.diverged("actor/action", value.into()));
        }
        for ((world, action), observation) in self
            .worlds
            .iter_mut()
            .zip(actions.chunks_exact(action_dim))
            .zip(seen.chunks_exact(observation_dim))
        {
            let outcome = world.task.step(action);
            self.replay.push(Transition {
                observation,
                action,
                reward: outcome.reward,
                terminated: outcome.terminated,
                next_observation: world.task.observation(),
            });
            world.earned += f64::from(outcome.reward);
            world.actions.extend_from_slice(action);
            if outcome.terminated || outcome.truncated {
                self.mean.add(
                    &Metrics::new()
                        .with("episode/return", world.earned)
                        .with("episode/steps", world.steps() as f64),
                );
                world.begin(self.episodes, seed);
                self.episodes += 1;
            }
        }
        self.step += count as u64;
        let due = self.step.saturating_sub(config.random_steps) / config.steps_per_update;
        while self.updates < due {
            let mut rng = seed.child("batches").index(self.updates).rng();
            let mut batch = self.replay.sample(config.batch_size, &mut rng);
            if let Some(novelty) = &mut self.novelty {
                self.unread.push(novelty.reward(&mut batch));
            }
            let mut rng = seed.child("update").index(self.updates).rng();
            self.unread.push(self.sac.update(&batch, &mut rng));
            self.updates += 1;
        }
        Ok(())
    }

    /// Averages since the last call.
    pub(super) fn metrics(&mut self) -> Result<Metrics, PolicyError> {
        self.read()?;
        Ok(self.mean.take())
    }

    /// Takes the numbers of the last updates into the averages.
    fn read(&mut self) -> Result<(), PolicyError> {
        for metrics in Numbers::read_all(std::mem::take(&mut self.unread)) {
            if let Some((name, value)) = metrics.first_non_finite() {
                return Err(self.diverged(name, value));
            }
            self.mean.add(&metrics);
        }
        Ok(())
    }

    fn diverged(&self, metric: &str, value: f64) -> PolicyError {
        PolicyError::Diverged {
            metric: metric.to_owned(),
            value,
            step: self.step,
        }
    }

    /// Everything that the next round depends on.
    pub(super) fn state(&mut self) -> Result<TensorMap, PolicyError> {
        self.read()?;
        let mut state = TensorMap::new();
        state.insert_u64(STEP, self.step);
        state.insert_u64("updates", self.updates);
        state.insert_u64("episodes", self.episodes);
        state.insert_map("sac", self.sac.state());
        if let Some(novelty) = &self.novelty {
            state.insert_map("novelty", novelty.state());
        }
        state.insert_map("replay", self.replay.state());
        state.insert_map("mean", self.mean.state());
        for (index, world) in self.worlds.iter().enumerate() {
            let shape = [world.steps(), world.task.action_dim()];
            let name = format!("worlds.{index}.actions");
            state.insert_f32(name, &shape, world.actions.clone());
            state.insert_u64(format!("worlds.{index}.episode"), world.episode);
        }
        Ok(state)
    }

    /// Takes over a saved [`state`](Self::state).
    pub(super) fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        self.step = state.get_u64(STEP)?;
        self.updates = state.get_u64("updates")?;
        self.episodes = state.get_u64("episodes")?;
        self.sac.load_state(&state.sub_map("sac"))?;
        if let Some(novelty) = &mut self.novelty {
            novelty.load_state(&state.sub_map("novelty"))?;
        }
        self.replay.load_state(&state.sub_map("replay"))?;
        let kept = self.step.min(self.config.replay as u64);
        if self.replay.len() as u64 != kept {
            return Err(PolicyError::Data {
                fact: format!(
                    "a replay has {} transitions after {} steps",
                    self.replay.len(),
                    self.step
                ),
                expected: format!("{kept}"),
            });
        }
        self.mean.load_state(&state.sub_map("mean"))?;
        for (index, world) in self.worlds.iter_mut().enumerate() {
            let action_dim = world.task.action_dim();
            let name = format!("worlds.{index}.actions");
            let actions = state.get_f32_rows(&name, action_dim)?;
            if let Some(entry) = actions.iter().find(|entry| !(-1.0..=1.0).contains(*entry)) {
                return Err(PolicyError::Data {
                    fact: format!("`{name}` has the entry {entry}"),
                    expected: "actions in −1..=1".to_owned(),
                });
            }
            world.begin(
                state.get_u64(&format!("worlds.{index}.episode"))?,
                self.seed,
            );
            for action in actions.chunks_exact(action_dim) {
                world.earned += f64::from(world.task.step(action).reward);
            }
            world.actions.extend_from_slice(actions);
        }
        Ok(())
    }
}
