//! What a user can choose.

use serde::{Deserialize, Serialize};
use telic_datasets::{GoalRange, NormalizerKind};

use super::guidance::GoalMaskConfig;
use super::history::{HistoryMode, HistoryTraining};
use super::network::{NetworkConfig, NetworkKind};
use super::noise_density::NoiseDensityConfig;
use super::sampler::{SamplerKind, SamplerOptions};
use super::schedule::{Schedule, ScheduleKind};
use crate::ema::EmaConfig;
use crate::inputs::{GoalEntries, InputConfig};
use crate::nn::{AdamConfig, LrSchedule, LrScheduleKind};
use crate::{PolicyConfig, Problems};

/// Settings of BESO. The defaults are those of the published Block-Push runs, variant C-BESO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BesoConfig {
    /// W, states in a context, the newest included.
    pub window: usize,
    /// G, frames of a goal. Acting repeats its one goal observation.
    pub goal_length: usize,
    /// Which frames of an episode are goals in training.
    pub goal_range: GoalRange,
    /// Steps by which a goal may lie behind the context at most; 0, as published, for the whole rest of the episode.
    pub goal_horizon: usize,
    /// Share of the goals that are taken from an episode that passes a like state.
    pub stitched: f64,
    /// Clusters of like states, for stitched goals.
    pub clusters: usize,
    /// What the network sees.
    pub inputs: InputConfig,
    /// Sampled actions are cut off at centre ± this × half-range of the normalised data.
    pub action_clip_factor: f32,
    /// Standard deviation of normalised actions that the preconditioning assumes. Check `actor/target_square` against 1.
    pub sigma_data: f64,
    /// Lowest noise level of training.
    pub sigma_min: f64,
    /// Highest noise level of training.
    pub sigma_max: f64,
    /// How past actions look in training; `sampler.history` has to go with it.
    pub history_training: HistoryTraining,
    /// Density of the noise level in training.
    pub noise: NoiseDensityConfig,
    /// The network.
    pub network: NetworkConfig,
    /// Goal masks of training, for guidance.
    pub goal_mask: GoalMaskConfig,
    /// Adam.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Average of the weights, which acts.
    pub ema: EmaConfig,
    /// Settings of inference, saved with the policy and changed by `--set sampler.…`.
    pub sampler: SamplerConfig,
}

impl Default for BesoConfig {
    fn default() -> Self {
        // Reuss et al. 2023, Block-Push configuration of the reference release, unless noted.
        Self {
            window: 5,
            goal_length: 1,
            // The release leaves the last frame out, which is the frame that evaluation asks for.
            goal_range: GoalRange::ThroughFinalState,
            goal_horizon: 0,
            stitched: 0.0,
            clusters: 40,
            inputs: InputConfig {
                goal: GoalEntries::Task,
                observation_normalizer: NormalizerKind::ZScore,
                action_normalizer: NormalizerKind::MinMax,
                ..InputConfig::default()
            },
            action_clip_factor: 1.1,
            sigma_data: 0.5,
            sigma_min: 0.05,
            sigma_max: 1.0,
            history_training: HistoryTraining::Noised,
            noise: NoiseDensityConfig::default(),
            network: NetworkConfig::default(),
            goal_mask: GoalMaskConfig::default(),
            optimizer: AdamConfig {
                lr: 1e-4,
                ..AdamConfig::default()
            },
            lr_schedule: LrSchedule {
                kind: LrScheduleKind::Step,
                factor: 0.99,
                every: 100,
                ..LrSchedule::default()
            },
            ema: EmaConfig {
                decay: 0.999,
                warm_up: true,
            },
            sampler: SamplerConfig::default(),
        }
    }
}

impl BesoConfig {
    /// How past actions look in training; `None` if a window has none.
    pub fn past_actions(&self) -> Option<HistoryTraining> {
        (self.window > 1).then_some(self.history_training)
    }
}

impl PolicyConfig for BesoConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.check(self.window >= 1, "window", self.window, "at least 1");
        problems.check(
            self.goal_length >= 1,
            "goal_length",
            self.goal_length,
            "at least 1",
        );
        let stitched = self.stitched;
        let holds = (0.0..=1.0).contains(&stitched);
        problems.check(holds, "stitched", stitched, "a share in 0..=1");
        problems.check(self.clusters >= 1, "clusters", self.clusters, "at least 1");
        let clip = self.action_clip_factor;
        problems.check(clip > 0.0, "action_clip_factor", clip, "a positive number");
        let data = self.sigma_data;
        problems.check(
            data > 0.0 && data.is_finite(),
            "sigma_data",
            data,
            "a positive number",
        );
        check_range(problems, self.sigma_min, self.sigma_max);
        problems.nested("noise", |problems| {
            let noise = &self.noise;
            for (key, value) in [
                ("scale", noise.scale),
                ("std", noise.std),
                ("scale_below", noise.scale_below),
                ("scale_above", noise.scale_above),
            ] {
                problems.check(
                    value > 0.0 && value.is_finite(),
                    key,
                    value,
                    "a positive number",
                );
            }
            problems.check(noise.levels >= 1, "levels", noise.levels, "at least 1");
        });
        problems.parts(&[
            ("network", &self.network),
            ("goal_mask", &self.goal_mask),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("ema", &self.ema),
        ]);
        problems.nested("sampler", |problems| {
            let kind = self.network.kind;
            self.sampler.validate(kind, self.past_actions(), problems);
        });
    }
}

fn check_range(problems: &mut Problems, sigma_min: f64, sigma_max: f64) {
    problems.check(sigma_min > 0.0, "sigma_min", sigma_min, "a positive number");
    let holds = sigma_max >= sigma_min && sigma_max.is_finite();
    problems.check(
        holds,
        "sigma_max",
        sigma_max,
        &format!("at least `sigma_min` ({sigma_min})"),
    );
}

/// Settings of inference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Which sampler.
    pub kind: SamplerKind,
    /// Which schedule of noise levels.
    pub schedule: ScheduleKind,
    /// Levels of the schedule; most samplers evaluate the network once or twice for each.
    pub steps: usize,
    /// Lowest level before 0.
    pub sigma_min: f64,
    /// Highest level.
    pub sigma_max: f64,
    /// Exponent of `karras` and `polyexponential`.
    pub rho: f64,
    /// Guidance strength λ: 1 is plain conditioning, 0 ignores the goal. Others double the evaluations.
    pub guidance: f64,
    /// How past actions enter.
    pub history: HistoryMode,
    /// Settings of single samplers.
    pub options: SamplerOptions,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        // Evaluation of Block-Push in the reference release, but for `history`; see the documentation of the mode.
        Self {
            kind: SamplerKind::Ddim,
            schedule: ScheduleKind::Linear,
            steps: 3,
            sigma_min: 0.1,
            sigma_max: 1.0,
            rho: 5.0,
            guidance: 1.0,
            history: HistoryMode::Renoise,
            options: SamplerOptions::default(),
        }
    }
}

impl SamplerConfig {
    /// The schedule of noise levels.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            kind: self.schedule,
            rho: self.rho,
            sigma_min: self.sigma_min,
            sigma_max: self.sigma_max,
        }
    }

    /// Adds every value out of range, or that a network of this kind, which learned from past
    /// actions that look so, has no use for.
    pub fn validate(
        &self,
        network: NetworkKind,
        past_actions: Option<HistoryTraining>,
        problems: &mut Problems,
    ) {
        const MOST_STEPS: usize = 1000;
        let before = problems.list().len();
        problems.check(
            (1..=MOST_STEPS).contains(&self.steps),
            "steps",
            self.steps,
            "a number in 1..=1000",
        );
        check_range(problems, self.sigma_min, self.sigma_max);
        problems.check(self.rho > 0.0, "rho", self.rho, "a positive number");
        problems.check(
            self.guidance.is_finite(),
            "guidance",
            self.guidance,
            "a finite number",
        );
        if let Some(expected) = self.history.expected_instead(network, past_actions) {
            problems.check(false, "history", self.history, expected);
        }
        if problems.list().len() == before
            && let Err(error) = self.schedule().falling_sigmas(self.steps)
        {
            problems.add("schedule", "", &error.to_string());
        }
        problems.nested("options", |problems| {
            let options = &self.options;
            for (key, value) in [
                ("eta", options.eta),
                ("s_churn", options.s_churn),
                ("s_tmin", options.s_tmin),
                ("s_tmax", options.s_tmax),
                ("s_noise", options.s_noise),
            ] {
                problems.check(value >= 0.0, key, value, "0 or a positive number");
            }
            problems.check(
                (1..=4).contains(&options.lms_order),
                "lms_order",
                options.lms_order,
                "a number in 1..=4",
            );
            for (key, value) in [("rtol", options.rtol), ("atol", options.atol)] {
                problems.check(
                    value > 0.0 && value.is_finite(),
                    key,
                    value,
                    "a positive number",
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &BesoConfig) -> Vec<String> {
        let mut problems = Problems::new();
        config.validate(&mut problems);
        problems
            .list()
            .iter()
            .map(|problem| problem.key.clone())
            .collect()
    }

    #[test]
    fn defaults_are_valid_and_survive_toml() {
        let config = BesoConfig::default();
        assert_eq!(problems(&config), [""; 0]);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<BesoConfig>(&text).unwrap(), config);
        assert!(toml::from_str::<BesoConfig>("windows = 3").is_err());
        assert!(toml::from_str::<BesoConfig>("[sampler]\nstep = 3").is_err());
    }

    #[test]
    fn every_mistake_is_reported() {
        let mut config = BesoConfig {
            window: 0,
            sigma_min: 2.0,
            ..Default::default()
        };
        config.network.embed_dim = 50;
        config.sampler.steps = 0;
        config.sampler.options.rtol = -1.0;
        config.optimizer.beta_1 = 1.0;
        assert_eq!(
            problems(&config),
            [
                "window",
                "sigma_max",
                "network.embed_dim",
                "optimizer.beta_1",
                "sampler.steps",
                "sampler.options.rtol"
            ]
        );
        let mut config = BesoConfig::default();
        config.sampler.schedule = ScheduleKind::Iddpm;
        (config.sampler.sigma_min, config.sampler.sigma_max) = (1e-9, 2e-9);
        assert_eq!(problems(&config), ["sampler.schedule"]);
    }

    #[test]
    fn past_actions_have_to_look_as_in_training() {
        use HistoryMode::{Clamp, Reference, Renoise};
        use HistoryTraining::{Clean, Noised};
        use NetworkKind::{Mlp, Transformer};

        let to_clamp = "`clamp`: past actions are clean in training (`history_training`)";
        let to_renoise = "`renoise`: past actions have noise in training (`history_training`)";
        let of_mlp = "`renoise`: the network `mlp` does not denoise past actions";
        for (window, kind, training, history, expected) in [
            (2, Transformer, Noised, Renoise, None),
            (2, Transformer, Noised, Reference, None),
            (2, Transformer, Noised, Clamp, Some(to_renoise)),
            (2, Transformer, Clean, Clamp, None),
            (2, Transformer, Clean, Renoise, Some(to_clamp)),
            (2, Transformer, Clean, Reference, Some(to_clamp)),
            (2, Mlp, Noised, Renoise, None),
            (2, Mlp, Noised, Reference, Some(of_mlp)),
            (2, Mlp, Noised, Clamp, Some(to_renoise)),
            (2, Mlp, Clean, Clamp, None),
            // A window of one state has no past actions.
            (1, Transformer, Noised, Clamp, None),
            (1, Transformer, Clean, Renoise, None),
            (1, Mlp, Clean, Renoise, None),
        ] {
            let mut config = BesoConfig {
                window,
                history_training: training,
                ..Default::default()
            };
            config.network.kind = kind;
            config.sampler.history = history;
            let mut problems = Problems::new();
            config.validate(&mut problems);
            let found: Vec<(&str, &str)> = problems
                .list()
                .iter()
                .map(|problem| (problem.key.as_str(), problem.expectation.as_str()))
                .collect();
            let expected: Vec<(&str, &str)> = expected
                .into_iter()
                .map(|expected| ("sampler.history", expected))
                .collect();
            assert_eq!(found, expected);
        }
    }
}
