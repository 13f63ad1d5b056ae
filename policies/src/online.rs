//! Learning from one's own steps: tasks in lockstep fill a replay, and [SAC](crate::sac) learns from it.
//!
//! Everything is a function of the seed: each episode, action and batch has a stream of its own, named by its number.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::backend::AutodiffBackend;
use camino::Utf8Path;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::Seed;

use crate::config::{ConfigError, read_table};
use crate::config_table::{apply_overrides, from_table, to_table};
use crate::device::Threads;
use crate::metrics::MeanMetrics;
use crate::novelty::{Novelty, NoveltyConfig};
use crate::problems::Validate;
use crate::replay::{Replay, Transition};
use crate::sac::{Sac, SacConfig};
use crate::{Device, Metrics, Numbers, PolicyError, Problems, TensorMap};

/// A task with a reward.
pub trait OnlineTask: Send {
    /// Length of an observation.
    fn observation_dim(&self) -> usize;

    /// Length of an action.
    fn action_dim(&self) -> usize;

    /// Starts an episode that is a function of the seed.
    fn reset(&mut self, seed: Seed);

    /// `[observation_dim]`.
    fn observation(&self) -> &[f32];

    /// Takes an action `[action_dim]` in −1..=1.
    fn step(&mut self, action: &[f32]) -> OnlineStep;
}

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnlineStep {
    /// What it earned.
    pub reward: f32,
    /// The episode is over for good: nothing more can be earned.
    pub terminated: bool,
    /// The episode ends here, but could have gone on.
    pub truncated: bool,
}

/// An online run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineConfig {
    /// Name of the task.
    pub task: String,
    /// Steps of the task, over all worlds together.
    pub steps: u64,
    /// Worlds that are stepped between updates.
    pub worlds: usize,
    /// The first steps take actions that are uniform in −1..=1, and nothing is learned.
    pub random_steps: u64,
    /// Steps of the task per update.
    pub steps_per_update: u64,
    /// Transitions per update.
    pub batch_size: usize,
    /// Transitions that are kept.
    pub replay: usize,
    /// Root of every draw.
    pub seed: u64,
    /// What networks run on.
    pub device: Device,
    /// Threads of the networks on the CPU; 0 for all cores.
    pub threads: usize,
    /// Steps between two lines of metrics, which are averages over these steps.
    pub log_every: u64,
    /// Steps between two evaluations; 0 for one at the end only.
    pub evaluate_every: u64,
    /// The learner.
    pub sac: SacConfig,
    /// What is paid for what is new.
    pub novelty: NoveltyConfig,
}

impl Default for OnlineConfig {
    fn default() -> Self {
        // The direction-following ant of OGBench (Park et al. 2025), on four worlds.
        Self {
            task: "ant-direction".to_owned(),
            steps: 400_000,
            worlds: 4,
            random_steps: 10_000,
            steps_per_update: 1,
            batch_size: 256,
            replay: 1_000_000,
            seed: 0,
            device: Device::Cpu,
            threads: 0,
            log_every: 2_000,
            evaluate_every: 50_000,
            sac: SacConfig::default(),
            novelty: NoveltyConfig::default(),
        }
    }
}

impl OnlineConfig {
    /// Reads a file, applies overrides of the form `key.of.table=value`, fills in every default and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Invalid`] has every mistake of the file and of the overrides.
    pub fn load<S: AsRef<str>>(path: &Utf8Path, overrides: &[S]) -> Result<Self, ConfigError> {
        let mut table = read_table(path)?;
        let mut problems = Problems::new();
        apply_overrides(&mut table, overrides, &mut problems);
        let config: Self = from_table(&table, &mut problems);
        config.validate(&mut problems);
        match problems.into_result() {
            Ok(()) => Ok(config),
            Err(problems) => Err(ConfigError::Invalid {
                problems,
                place: path.to_string(),
            }),
        }
    }

    /// Every key as TOML, enough to repeat the run.
    pub fn to_toml(&self) -> String {
        to_table(self).to_string()
    }
}

impl Validate for OnlineConfig {
    fn validate(&self, problems: &mut Problems) {
        let exact = i64::MAX as u64;
        for (key, value) in [
            ("steps", self.steps),
            ("steps_per_update", self.steps_per_update),
            ("log_every", self.log_every),
            ("batch_size", self.batch_size as u64),
            ("replay", self.replay as u64),
            ("worlds", self.worlds as u64),
        ] {
            problems.check((1..=exact).contains(&value), key, value, "at least 1");
        }
        let holds = self.worlds <= 4096;
        problems.check(holds, "worlds", self.worlds, "at most 4096");
        let expected = "at most 9223372036854775807";
        problems.check(self.seed <= exact, "seed", self.seed, expected);
        let holds = self.threads <= 1024;
        problems.check(holds, "threads", self.threads, "at most 1024");
        problems.parts(&[("sac", &self.sac), ("novelty", &self.novelty)]);
    }
}

/// What a run tells the one who waits for it.
///
/// A run ends early where a method breaks.
pub trait OnlineObserver: Send {
    /// Averages over the last steps: of the updates, and `episode/return` and `episode/steps` of the episodes that ended.
    fn on_log(&mut self, step: u64, metrics: &Metrics) -> ControlFlow<()>;

    /// The actor on the way, see [`Sac::actor`]; the one at the end is what the run gives.
    fn on_evaluate(&mut self, step: u64, actor: &TensorMap) -> ControlFlow<()>;
}

/// A task in its episode.
struct Episode<'a> {
    task: &'a mut dyn OnlineTask,
    earned: f64,
    steps: u64,
}

/// Trains on `tasks`, as many as the configuration has worlds, until its end or until `stop` is set; gives the actor and the
/// steps taken.
///
/// # Errors
/// [`PolicyError::Device`]; [`PolicyError::Diverged`] where an action or a metric is not finite.
///
/// # Panics
/// If there are no tasks.
pub fn train_online(
    config: &OnlineConfig,
    tasks: &mut [Box<dyn OnlineTask>],
    stop: &Arc<AtomicBool>,
    observer: &mut dyn OnlineObserver,
) -> Result<(TensorMap, u64), PolicyError> {
    config.device.check()?;
    let threads = Threads::on(config.device, config.threads)?;
    threads.run(|| match config.device {
        Device::Cpu => run::<crate::device::CpuAutodiff>(config, tasks, stop, observer),
        #[cfg(feature = "cuda")]
        Device::Cuda => run::<crate::device::CudaAutodiff>(config, tasks, stop, observer),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda => unreachable!("the device has been checked"),
    })
}

fn run<B: AutodiffBackend>(
    config: &OnlineConfig,
    tasks: &mut [Box<dyn OnlineTask>],
    stop: &Arc<AtomicBool>,
    observer: &mut dyn OnlineObserver,
) -> Result<(TensorMap, u64), PolicyError> {
    let seed = Seed::new(config.seed);
    let (observation_dim, action_dim) = (tasks[0].observation_dim(), tasks[0].action_dim());
    let device = B::Device::default();
    let mut sac = Sac::<B>::new(&config.sac, observation_dim, action_dim, seed, &device);
    let mut novelty = (config.novelty.weight > 0.0).then(|| {
        let seed = seed.child("novelty");
        Novelty::<B>::new(&config.novelty, observation_dim, seed, &device)
    });
    let mut replay = Replay::new(observation_dim, action_dim, config.replay);
    let mut episodes = 0;
    let mut next_episode = || {
        episodes += 1;
        seed.child("episode").index(episodes - 1)
    };
    let mut worlds: Vec<Episode<'_>> = Vec::with_capacity(tasks.len());
    for task in tasks {
        task.reset(next_episode());
        worlds.push(Episode {
            task: task.as_mut(),
            earned: 0.0,
            steps: 0,
        });
    }

    let (mut step, mut updates) = (0, 0);
    let mut mean = MeanMetrics::new();
    let mut unread: Vec<Numbers<B::InnerBackend>> = vec![];
    // Whether a multiple of `every` lies in the steps of the last round.
    let passed =
        |every: u64, step: u64, round: u64| every > 0 && step / every > (step - round) / every;
    while step < config.steps && !stop.load(Ordering::Relaxed) {
        let mut rng = seed.child("act").index(step).rng();
        let seen: Vec<f32> = worlds
            .iter()
            .flat_map(|world| world.task.observation().to_vec())
            .collect();
        let actions = if step < config.random_steps {
            let entries = worlds.len() * action_dim;
            (0..entries).map(|_| rng.random_range(-1.0..=1.0)).collect()
        } else {
            sac.act(&seen, worlds.len(), &mut rng)
        };
        if let Some(&value) = actions.iter().find(|action| !action.is_finite()) {
            return Err(diverged("actor/action", value.into(), step));
        }
        for ((world, action), observation) in worlds
            .iter_mut()
            .zip(actions.chunks_exact(action_dim))
            .zip(seen.chunks_exact(observation_dim))
        {
            let outcome = world.task.step(action);
            replay.push(Transition {
                observation,
                action,
                reward: outcome.reward,
                terminated: outcome.terminated,
                next_observation: world.task.observation(),
            });
            world.earned += f64::from(outcome.reward);
            world.steps += 1;
            if outcome.terminated || outcome.truncated {
                mean.add(
                    &Metrics::new()
                        .with("episode/return", world.earned)
                        .with("episode/steps", world.steps as f64),
                );
                (world.earned, world.steps) = (0.0, 0);
                world.task.reset(next_episode());
            }
        }
        let round = worlds.len() as u64;
        step += round;
        let due = step.saturating_sub(config.random_steps) / config.steps_per_update;
        while updates < due {
            let mut batch = replay.sample(
                config.batch_size,
                &mut seed.child("batches").index(updates).rng(),
            );
            if let Some(novelty) = &mut novelty {
                unread.push(novelty.reward(&mut batch));
            }
            unread.push(sac.update(&batch, &mut seed.child("update").index(updates).rng()));
            updates += 1;
        }
        let over = step >= config.steps;
        if over || passed(config.log_every, step, round) {
            for metrics in Numbers::read_all(std::mem::take(&mut unread)) {
                if let Some((name, value)) = metrics.first_non_finite() {
                    return Err(diverged(name, value, step));
                }
                mean.add(&metrics);
            }
            if observer.on_log(step, &mean.take()).is_break() {
                break;
            }
        }
        if !over
            && passed(config.evaluate_every, step, round)
            && observer.on_evaluate(step, &sac.actor()).is_break()
        {
            break;
        }
    }
    Ok((sac.actor(), step))
}

fn diverged(metric: &str, value: f64, step: u64) -> PolicyError {
    PolicyError::Diverged {
        metric: metric.to_owned(),
        value,
        step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::MlpConfig;

    /// A point on a line that earns what it moves towards the drawn side.
    struct Line {
        observation: [f32; 2],
        steps: u32,
    }

    impl OnlineTask for Line {
        fn observation_dim(&self) -> usize {
            2
        }

        fn action_dim(&self) -> usize {
            1
        }

        fn reset(&mut self, seed: Seed) {
            let side = if seed.rng().random_bool(0.5) {
                1.0
            } else {
                -1.0
            };
            (self.observation, self.steps) = ([0.0, side], 0);
        }

        fn observation(&self) -> &[f32] {
            &self.observation
        }

        fn step(&mut self, action: &[f32]) -> OnlineStep {
            let moved = 0.1 * action[0];
            self.observation[0] += moved;
            self.steps += 1;
            OnlineStep {
                reward: moved * self.observation[1],
                terminated: self.observation[0].abs() > 3.0,
                truncated: self.steps >= 20,
            }
        }
    }

    #[derive(Default)]
    struct Log(Vec<(u64, Metrics)>);

    impl OnlineObserver for Log {
        fn on_log(&mut self, step: u64, metrics: &Metrics) -> ControlFlow<()> {
            self.0.push((step, metrics.clone()));
            ControlFlow::Continue(())
        }

        fn on_evaluate(&mut self, _: u64, _: &TensorMap) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }

    fn config(threads: usize, steps: u64) -> OnlineConfig {
        let mut config = OnlineConfig {
            steps,
            worlds: 4,
            random_steps: 200,
            batch_size: 32,
            replay: 1000,
            threads,
            log_every: 200,
            ..OnlineConfig::default()
        };
        config.sac.network = MlpConfig {
            hidden: vec![32, 32],
            ..MlpConfig::default()
        };
        config.sac.initial_temperature = 0.01;
        config.sac.optimizer.lr = 3e-3;
        config
    }

    fn try_run(config: &OnlineConfig, log: &mut Log) -> Result<(TensorMap, u64), PolicyError> {
        let mut tasks: Vec<Box<dyn OnlineTask>> = Vec::new();
        for _ in 0..config.worlds {
            tasks.push(Box::new(Line {
                observation: [0.0; 2],
                steps: 0,
            }));
        }
        let stop = Arc::new(AtomicBool::new(false));
        train_online(config, &mut tasks, &stop, log)
    }

    fn run(threads: usize, steps: u64) -> (TensorMap, Vec<(u64, Metrics)>) {
        let mut log = Log::default();
        let (actor, taken) = try_run(&config(threads, steps), &mut log).unwrap();
        assert_eq!(taken, steps);
        assert_eq!(log.0.last().map(|(step, _)| *step), Some(steps));
        (actor, log.0)
    }

    #[test]
    fn a_run_that_diverges_is_an_error_and_no_panic() {
        let mut config = config(1, 2400);
        config.sac.optimizer.lr = 1e30;
        config.log_every = 100_000;
        let error = try_run(&config, &mut Log::default()).unwrap_err();
        assert!(matches!(error, PolicyError::Diverged { .. }), "{error}");
    }

    #[test]
    fn returns_rise_to_the_best_possible() {
        let (_, log) = run(1, 2400);
        let earned = |entry: &(u64, Metrics)| entry.1.get("episode/return").unwrap();
        // 20 steps of 0.1 m are the best; random actions earn nothing on average.
        assert!(earned(&log[0]) < 0.8, "{}", earned(&log[0]));
        let last = earned(log.last().unwrap());
        assert!(last > 1.5, "{last}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
        let (one, log) = run(1, 600);
        let (two, same) = run(2, 600);
        assert_eq!(one.first_difference(&two), None);
        assert_eq!(log, same);
    }

    #[test]
    fn every_mistake_of_a_configuration_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path())
            .unwrap()
            .join("expert.toml");
        std::fs::write(&path, "steps = 0\nworld = 3\n[sac]\ndiscount = 1.5\n").unwrap();
        let error = OnlineConfig::load(&path, &["batch_size=0"])
            .unwrap_err()
            .to_string();
        for part in [
            "`world`",
            "`steps` is 0; expected at least 1",
            "`batch_size` is 0; expected at least 1",
            "`sac.discount` is 1.5; expected a number between 0 and 1",
        ] {
            assert!(error.contains(part), "{error}");
        }
        std::fs::write(&path, OnlineConfig::default().to_toml()).unwrap();
        let read = OnlineConfig::load::<&str>(&path, &[]).unwrap();
        assert_eq!(read, OnlineConfig::default());
    }
}
