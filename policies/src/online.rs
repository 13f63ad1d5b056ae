//! Learning from one's own steps: tasks in lockstep fill a replay, and [SAC](crate::sac) learns from it.
//!
//! Everything is a function of the seed: each episode, action and batch has a stream of its own, named by its number. So a run goes on
//! from a saved state to the same bits; the worlds of its tasks are not saved, but take the actions of their episodes again.

mod run;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::backend::AutodiffBackend;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use telic_seed::Seed;

use self::run::Run;
use crate::config::{ConfigError, read_table};
use crate::config_table::{apply_overrides, differences, from_table, to_table};
use crate::device::Threads;
use crate::novelty::NoveltyConfig;
use crate::problems::Validate;
use crate::sac::SacConfig;
use crate::{Device, Metrics, PolicyError, Problems, TensorMap};

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

    /// The keys in which two configurations differ that fix the bits of a run: a run resumes only if there are none.
    ///
    /// How long a run goes on, what it reports on the way, and with how many threads, may change.
    pub fn conflicts_with(&self, other: &Self) -> Vec<String> {
        let pick = |config: &Self| {
            let mut table = to_table(config);
            for free in ["steps", "threads", "log_every", "evaluate_every"] {
                table.remove(free);
            }
            table
        };
        differences(&pick(self), &pick(other))
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
        let holds = self.threads <= Threads::MAX;
        problems.check(holds, "threads", self.threads, "at most 1024");
        problems.parts(&[("sac", &self.sac), ("novelty", &self.novelty)]);
    }
}

/// What a run tells the one who waits for it.
///
/// A run ends early where a method breaks.
pub trait OnlineObserver: Send {
    /// Before the first step, once a saved state has been taken over whole.
    fn on_start(&mut self) -> ControlFlow<()>;

    /// Averages over the last steps: of the updates, and `episode/return` and `episode/steps` of the episodes that ended.
    fn on_log(&mut self, step: u64, metrics: &Metrics) -> ControlFlow<()>;

    /// The actor on the way, see [`Sac::actor`](crate::sac::Sac::actor), and a copy of all that the run goes on from for those who keep
    /// it; those at the end are what the run gives.
    fn on_evaluate(
        &mut self,
        step: u64,
        actor: &TensorMap,
        state: StateCopy<'_>,
    ) -> ControlFlow<()>;
}

/// Copies the state of a run, replay and all.
pub type StateCopy<'a> = &'a mut dyn FnMut() -> Result<TensorMap, PolicyError>;

/// Where the number of steps lies in a saved state.
pub const STEP: &str = "step";

/// What a run came to.
#[derive(Clone, Debug)]
pub struct OnlineOutcome {
    /// Steps of the task.
    pub step: u64,
    /// The actor, see [`Sac::actor`](crate::sac::Sac::actor).
    pub actor: TensorMap,
    /// What [`train_online`] goes on from.
    pub state: TensorMap,
}

/// Trains on `tasks`, as many as the configuration has worlds, until its end or until `stop` is set; from the beginning, or from a
/// saved state of a run with the same configuration but for [what may change](OnlineConfig::conflicts_with), to the same bits as
/// without the interruption.
///
/// # Errors
/// [`PolicyError::Device`]; [`PolicyError::MissingTensor`] and [`PolicyError::TensorShape`] for the state of another run;
/// [`PolicyError::Diverged`] where an action or a metric is not finite.
///
/// # Panics
/// If there are no tasks.
pub fn train_online(
    config: &OnlineConfig,
    tasks: &mut [Box<dyn OnlineTask>],
    saved: Option<&TensorMap>,
    stop: &AtomicBool,
    observer: &mut dyn OnlineObserver,
) -> Result<OnlineOutcome, PolicyError> {
    config.device.check()?;
    let threads = Threads::on(config.device, config.threads)?;
    threads.run(|| match config.device {
        Device::Cpu => run::<crate::device::CpuAutodiff>(config, tasks, saved, stop, observer),
        #[cfg(feature = "cuda")]
        Device::Cuda => run::<crate::device::CudaAutodiff>(config, tasks, saved, stop, observer),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda => unreachable!("the device has been checked"),
    })
}

fn run<B: AutodiffBackend>(
    config: &OnlineConfig,
    tasks: &mut [Box<dyn OnlineTask>],
    saved: Option<&TensorMap>,
    stop: &AtomicBool,
    observer: &mut dyn OnlineObserver,
) -> Result<OnlineOutcome, PolicyError> {
    let mut run = Run::<B>::new(config, tasks);
    if let Some(state) = saved {
        run.load_state(state)?;
    }
    let mut goes_on = observer.on_start().is_continue();
    while goes_on && run.step() < config.steps && !stop.load(Ordering::Relaxed) {
        let before = run.step();
        run.round()?;
        let step = run.step();
        // Whether a multiple of `every` lies in the steps of this round.
        let passed = |every: u64| every > 0 && step / every > before / every;
        let over = step >= config.steps;
        if over || passed(config.log_every) {
            goes_on = observer.on_log(step, &run.metrics()?).is_continue();
        }
        if goes_on && !over && passed(config.evaluate_every) {
            let actor = run.actor();
            goes_on = observer
                .on_evaluate(step, &actor, &mut || run.state())
                .is_continue();
        }
    }
    Ok(OnlineOutcome {
        step: run.step(),
        actor: run.actor(),
        state: run.state()?,
    })
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::nn::MlpConfig;
    use crate::tensor_file;

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
    struct Log {
        starts: usize,
        rows: Vec<(u64, Metrics)>,
        states: Vec<(u64, TensorMap)>,
    }

    impl OnlineObserver for Log {
        fn on_start(&mut self) -> ControlFlow<()> {
            self.starts += 1;
            ControlFlow::Continue(())
        }

        fn on_log(&mut self, step: u64, metrics: &Metrics) -> ControlFlow<()> {
            self.rows.push((step, metrics.clone()));
            ControlFlow::Continue(())
        }

        fn on_evaluate(
            &mut self,
            step: u64,
            _: &TensorMap,
            state: StateCopy<'_>,
        ) -> ControlFlow<()> {
            self.states.push((step, state().unwrap()));
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

    fn go_on(
        config: &OnlineConfig,
        saved: Option<&TensorMap>,
        log: &mut Log,
    ) -> Result<OnlineOutcome, PolicyError> {
        let mut tasks: Vec<Box<dyn OnlineTask>> = Vec::new();
        for _ in 0..config.worlds {
            tasks.push(Box::new(Line {
                observation: [0.0; 2],
                steps: 0,
            }));
        }
        train_online(config, &mut tasks, saved, &AtomicBool::new(false), log)
    }

    fn run(threads: usize, steps: u64) -> (TensorMap, Vec<(u64, Metrics)>) {
        let mut log = Log::default();
        let outcome = go_on(&config(threads, steps), None, &mut log).unwrap();
        assert_eq!(outcome.step, steps);
        assert_eq!(log.rows.last().map(|(step, _)| *step), Some(steps));
        (outcome.actor, log.rows)
    }

    /// Before the first update and after it, with a replay that is not full and one that is, within episodes and between log lines.
    #[test]
    fn a_run_goes_on_from_a_saved_state_to_the_same_bits() {
        for novelty in [0.0, 0.5] {
            let mut config = config(1, 1480);
            (config.evaluate_every, config.novelty.weight) = (132, novelty);
            let mut log = Log::default();
            let outcome = go_on(&config, None, &mut log).unwrap();
            assert_eq!(log.states.len(), 11);
            for (step, state) in &log.states {
                let bytes = tensor_file::to_bytes(state);
                let state = tensor_file::from_bytes(&bytes).unwrap();
                let mut rest = Log::default();
                let resumed = go_on(&config, Some(&state), &mut rest).unwrap();
                let from = format!("from step {step}");
                assert_eq!(
                    resumed.actor.first_difference(&outcome.actor),
                    None,
                    "{from}"
                );
                assert_eq!(
                    resumed.state.first_difference(&outcome.state),
                    None,
                    "{from}"
                );
                let after = log.rows.iter().filter(|(row, _)| row > step);
                assert!(rest.rows.iter().eq(after), "{from}");
            }
            // A longer run of the same beginning.
            config.steps += 400;
            let longer = go_on(&config, None, &mut Log::default()).unwrap();
            let resumed = go_on(&config, Some(&outcome.state), &mut Log::default()).unwrap();
            assert_eq!(resumed.actor.first_difference(&longer.actor), None);
        }
    }

    #[test]
    fn the_state_of_another_run_is_an_error() {
        let mut log = Log::default();
        let mut config = config(1, 400);
        let state = go_on(&config, None, &mut log).unwrap().state;
        config.sac.network.hidden = vec![32, 16];
        let error = go_on(&config, Some(&state), &mut log).unwrap_err();
        assert!(matches!(error, PolicyError::TensorShape { .. }), "{error}");
        config = self::config(1, 400);
        config.replay = 100;
        let error = go_on(&config, Some(&state), &mut log).unwrap_err();
        assert!(matches!(error, PolicyError::Data { .. }), "{error}");
        config = self::config(1, 400);
        config.worlds = 5;
        let error = go_on(&config, Some(&state), &mut log).unwrap_err();
        assert!(
            matches!(error, PolicyError::MissingTensor { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_state_is_an_error_and_no_panic() {
        let config = config(1, 400);
        let state = go_on(&config, None, &mut Log::default()).unwrap().state;
        let damaged = |damage: &dyn Fn(&mut TensorMap)| {
            let mut state = state.clone();
            damage(&mut state);
            let mut log = Log::default();
            let error = go_on(&config, Some(&state), &mut log).unwrap_err();
            assert_eq!(log.starts, 0, "{error}");
            error
        };
        let actions = damaged(&|state| {
            let rows = state.get_f32_rows("worlds.1.actions", 1).unwrap().len();
            let mut actions = vec![0.5; rows.max(1)];
            actions[0] = f32::NAN;
            state.insert_f32("worlds.1.actions", &[actions.len(), 1], actions);
        });
        let step = damaged(&|state| state.insert_u64("step", 900));
        let empty = damaged(&|state| {
            for (name, width) in [
                ("observations", 2),
                ("actions", 1),
                ("rewards", 1),
                ("masks", 1),
                ("next_observations", 2),
            ] {
                state.insert_f32(format!("replay.{name}"), &[0, width], vec![]);
            }
            state.insert_u64("replay.next", 0);
        });
        for (error, part) in [
            (actions, "`worlds.1.actions` has the entry NaN"),
            (step, "a replay has 400 transitions after 900 steps"),
            (empty, "a replay has 0 transitions after 400 steps"),
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn what_fixes_the_bits_of_a_run_may_not_change() {
        let old = config(1, 400);
        let mut new = config(2, 800);
        (new.log_every, new.evaluate_every) = (7, 9);
        assert_eq!(old.conflicts_with(&new), [] as [&str; 0]);
        (new.seed, new.sac.discount) = (3, 0.9);
        assert_eq!(
            old.conflicts_with(&new),
            ["`sac.discount`: 0.99 and 0.9", "`seed`: 0 and 3"]
        );
    }

    #[test]
    fn a_run_that_diverges_is_an_error_and_no_panic() {
        let mut config = config(1, 2400);
        config.sac.optimizer.lr = 1e30;
        config.log_every = 100_000;
        let error = go_on(&config, None, &mut Log::default()).unwrap_err();
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
