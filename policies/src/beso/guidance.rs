//! Classifier-free guidance (Ho and Salimans 2022), and the goal masks of training that make it possible.
//!
//! `D_λ = D(∅) + λ (D(g) − D(∅))` on denoised actions, where the goal `∅` is all zero. λ = 1 is plain conditioning and λ = 0
//! ignores the goal; both need one evaluation, every other λ two, which run as one batch.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use telic_seed::Rng;

use crate::Problems;
use crate::problems::Validate;

/// Which evaluations a guidance strength needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guidance {
    /// λ = 1.
    Conditional,
    /// λ = 0.
    Unconditional,
    /// Any other λ.
    Both(f64),
}

impl Guidance {
    /// The evaluations for strength `lambda`.
    pub fn new(lambda: f64) -> Self {
        if lambda == 1.0 {
            Self::Conditional
        } else if lambda == 0.0 {
            Self::Unconditional
        } else {
            Self::Both(lambda)
        }
    }

    /// Sequences per row: 2 if both evaluations are needed.
    pub fn copies(self) -> usize {
        if matches!(self, Self::Both(_)) { 2 } else { 1 }
    }

    /// Whether copy 0 or 1 of a row has its goal.
    pub fn sees_goal(self, copy: usize) -> bool {
        match self {
            Self::Conditional => true,
            Self::Unconditional => false,
            Self::Both(_) => copy == 0,
        }
    }

    /// `D_λ` in place of `denoised`, which holds `D(g)` unless this is [`Self::Unconditional`]; `unconditional` is `D(∅)`.
    pub fn combine(self, denoised: &mut [f64], unconditional: &[f64]) {
        if let Self::Both(lambda) = self {
            denoised
                .iter_mut()
                .zip(unconditional)
                .for_each(|(d, zero)| *d = zero + lambda * (*d - zero));
        }
    }
}

/// What is masked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalMaskKind {
    /// Every entry on its own. The reference release does this: the goal is then almost never absent altogether, so what
    /// guidance compares with is an extrapolation.
    Element,
    /// Every frame of a goal.
    Token,
    /// The whole goal: the textbook form.
    Sample,
}

/// Goal masks of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GoalMaskConfig {
    /// What is masked together.
    pub kind: GoalMaskKind,
    /// Probability of a mask, in 0..=1. 0 is the variant C-BESO; CFG-BESO has 0.1.
    pub probability: f64,
}

impl Default for GoalMaskConfig {
    fn default() -> Self {
        // C-BESO is the better variant for reaching goals on both published tasks.
        Self {
            kind: GoalMaskKind::Element,
            probability: 0.0,
        }
    }
}

impl Validate for GoalMaskConfig {
    fn validate(&self, problems: &mut Problems) {
        let holds = (0.0..=1.0).contains(&self.probability);
        problems.check(holds, "probability", self.probability, "a number in 0..=1");
    }
}

impl GoalMaskConfig {
    /// Masks the goals of a batch in place, `[batch, goal_length, observation_dim]`. Draws nothing for probability 0.
    pub fn apply(
        &self,
        goals: &mut [f32],
        goal_length: usize,
        observation_dim: usize,
        rng: &mut Rng,
    ) {
        if self.probability == 0.0 {
            return;
        }
        let together = match self.kind {
            GoalMaskKind::Element => 1,
            GoalMaskKind::Token => observation_dim,
            GoalMaskKind::Sample => goal_length * observation_dim,
        };
        for part in goals.chunks_mut(together.max(1)) {
            if rng.random::<f64>() < self.probability {
                part.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use telic_seed::Seed;

    use super::*;

    /// G11.
    #[test]
    fn guidance_extrapolates_between_two_denoisers() {
        for (lambda, expected, evaluations) in
            [(0.0, 1.0, 1), (1.0, 2.0, 1), (1.5, 2.5, 2), (2.0, 3.0, 2)]
        {
            let guidance = Guidance::new(lambda);
            let x = 0.37;
            let stub = |copy: usize| {
                if guidance.sees_goal(copy) {
                    x + 2.0
                } else {
                    x + 1.0
                }
            };
            let copies: Vec<f64> = (0..guidance.copies()).map(stub).collect();
            assert_eq!(copies.len(), evaluations);
            let mut denoised = [copies[0]];
            guidance.combine(&mut denoised, &copies[copies.len() - 1..]);
            assert!((denoised[0] - (x + expected)).abs() < 1e-12, "λ = {lambda}");
            if lambda == 1.0 {
                assert_eq!(denoised[0].to_bits(), (x + 2.0).to_bits());
            }
        }
    }

    #[test]
    fn masks_hide_elements_frames_or_whole_goals() {
        let (batch, length, dim) = (2000, 2, 5);
        for (kind, together) in [
            (GoalMaskKind::Element, 1),
            (GoalMaskKind::Token, 5),
            (GoalMaskKind::Sample, 10),
        ] {
            let mut goals = vec![1.0_f32; batch * length * dim];
            let mask = GoalMaskConfig {
                kind,
                probability: 0.3,
            };
            mask.apply(&mut goals, length, dim, &mut Seed::new(4).rng());
            for part in goals.chunks(together) {
                assert!(part.iter().all(|x| *x == part[0]), "{kind:?}");
            }
            let hidden = goals.iter().filter(|x| **x == 0.0).count() as f64 / goals.len() as f64;
            assert!((hidden - 0.3).abs() < 0.04, "{kind:?}: {hidden}");
        }
        let mut goals = vec![1.0_f32; 10];
        let mut rng = Seed::new(1).rng();
        GoalMaskConfig::default().apply(&mut goals, 2, 5, &mut rng);
        assert_eq!(goals, [1.0; 10]);
        assert_eq!(
            rng,
            Seed::new(1).rng(),
            "nothing is drawn for probability 0"
        );
    }
}
