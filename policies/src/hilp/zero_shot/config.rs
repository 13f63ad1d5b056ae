//! Settings of HILP for any reward.

use serde::{Deserialize, Serialize};
use telic_datasets::{GoalMix, HindsightConfig};

use crate::gaussian::GaussianInference;
use crate::hilp::check_mix;
use crate::hilp::prompt::{PromptConfig, PromptKind};
use crate::inputs::{InputConfig, check_single_steps};
use crate::losses::{check_alpha, check_rates};
use crate::nn::{AdamConfig, LrSchedule};
use crate::{PolicyConfig, Problems};

/// What ψ sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// φ(s') − μ.
    #[default]
    State,
    /// φ(s') − φ(s); a latent is then a direction, and latents from the data point to the goals of their rows.
    Difference,
}

/// Settings of HILP for any reward. The defaults are those of its reference release, `hilp_zsrl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HilpZeroShotConfig {
    /// What the networks see.
    pub inputs: InputConfig,
    /// Goals of the embedding; γ is that of their distances.
    pub goals: HindsightConfig,
    /// γ of the embedding's value.
    pub embedding_discount: f64,
    /// D.
    pub embedding_dim: usize,
    /// Width of the embedding's layers.
    pub embedding_width: usize,
    /// Width of the hidden layers of ψ and π.
    pub width: usize,
    /// Width of what ψ and π make of each of their inputs.
    pub trunk_width: usize,
    /// What ψ sums up.
    pub features: Features,
    /// γ of ψ.
    pub discount: f64,
    /// τ of the embedding.
    pub expectile: f64,
    /// Share of the new weights in the slow φ per update.
    pub embedding_target_rate: f64,
    /// Share of the new weights in the slow ψ per update.
    pub target_rate: f64,
    /// Share of the latents that come from the data.
    pub mix: f64,
    /// Standard deviation of the noise on actions of π.
    pub std: f64,
    /// Where that noise is cut off.
    pub noise_clip: f64,
    /// Whether ψ learns from its products with z alone.
    pub scalar_loss: bool,
    /// Weight of imitation in L_π; 0 as published.
    pub imitation: f64,
    /// Adam of φ.
    pub embedding_optimizer: AdamConfig,
    /// Adam of ψ and of π.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Where the policy is sent, a setting of inference.
    pub prompt: PromptConfig,
    /// Settings of inference.
    pub inference: GaussianInference,
}

impl Default for HilpZeroShotConfig {
    fn default() -> Self {
        // Park et al. 2024, reference release, state observations.
        Self {
            inputs: InputConfig::default(),
            goals: HindsightConfig {
                value: GoalMix {
                    current: 0.0,
                    trajectory: 0.625,
                    random: 0.375,
                    geometric: true,
                    stitched: 0.0,
                },
                ..HindsightConfig::default()
            },
            embedding_discount: 0.98,
            embedding_dim: 50,
            embedding_width: 512,
            width: 1024,
            trunk_width: 512,
            features: Features::State,
            discount: 0.98,
            expectile: 0.5,
            embedding_target_rate: 0.005,
            target_rate: 0.01,
            mix: 0.5,
            std: 0.2,
            noise_clip: 0.3,
            scalar_loss: false,
            imitation: 0.0,
            embedding_optimizer: AdamConfig {
                lr: 5e-4,
                ..AdamConfig::default()
            },
            optimizer: AdamConfig {
                lr: 1e-4,
                ..AdamConfig::default()
            },
            lr_schedule: LrSchedule::default(),
            prompt: PromptConfig {
                places: 10_000,
                ..PromptConfig::default()
            },
            inference: GaussianInference::default(),
        }
    }
}

impl PolicyConfig for HilpZeroShotConfig {
    fn validate(&self, problems: &mut Problems) {
        self.inputs.validate_for_actor(problems);
        problems.parts(&[
            ("goals", &self.goals),
            ("embedding_optimizer", &self.embedding_optimizer),
            ("optimizer", &self.optimizer),
            ("lr_schedule", &self.lr_schedule),
            ("prompt", &self.prompt),
            ("inference", &self.inference),
        ]);
        check_single_steps(problems, &self.goals);
        let (kinds, others): (&[PromptKind], _) = match self.features {
            Features::State => (
                &[PromptKind::Goal],
                ", plans and searches are of `features = \"difference\"`",
            ),
            Features::Difference => (&PromptKind::OF_DIRECTIONS, ""),
        };
        self.prompt.validate_kind(problems, kinds, others);
        for (key, number) in [
            ("embedding_dim", self.embedding_dim),
            ("embedding_width", self.embedding_width),
            ("width", self.width),
            ("trunk_width", self.trunk_width),
        ] {
            problems.check(number >= 1, key, number, "at least 1");
        }
        for (key, discount) in [
            ("discount", self.discount),
            ("embedding_discount", self.embedding_discount),
        ] {
            let holds = (0.0..1.0).contains(&discount);
            problems.check(holds, key, discount, "a number in 0..1");
        }
        check_rates(problems, self.expectile, self.target_rate);
        let rate = self.embedding_target_rate;
        problems.check(
            rate > 0.0 && rate <= 1.0,
            "embedding_target_rate",
            rate,
            "a number above 0 and at most 1",
        );
        check_mix(problems, self.mix);
        for (key, number) in [
            ("std", self.std),
            ("noise_clip", self.noise_clip),
            ("imitation", self.imitation),
        ] {
            check_alpha(problems, key, number);
        }
    }

    fn unused_goals(&self) -> Option<(&HindsightConfig, &'static [&'static str])> {
        Some((&self.goals, &["actor", "negative_rewards"]))
    }
}
