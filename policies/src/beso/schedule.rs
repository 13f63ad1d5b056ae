//! Noise schedules: the levels that the sampler visits.
//!
//! Each schedule gives `n` levels from `sigma_max` down to `sigma_min`, then 0. With `i = 0..n−1`
//! and `r = i / (n − 1)`:
//!
//! ```text
//! karras           (S^{1/ρ} + r (s^{1/ρ} − S^{1/ρ}))^ρ                    Karras et al. 2022, eq. 5
//! exponential      exp(ln S + r (ln s − ln S))
//! linear           S + r (s − S)
//! polyexponential  exp((1 − r)^ρ (ln S − ln s) + ln s)
//! ve               S (s / S)^r, equal to exponential
//! vp               √(exp(β_d t²/2 + β_0 t) − 1), β_d = 19.9, β_0 = 0.1, t spaced evenly between the t of S and of s
//! iddpm            every K-th level of a 1000-level improved-DDPM chain that lies in [s, S]
//! cosine_beta      √(1/ᾱ(t) − 1) of the cosine ᾱ (offset 0.008), t spaced evenly between the t of S and of s
//! ```
//!
//! The reference release differs in three of them: its `ve` overshoots `sigma_min`, its `vp` ignores
//! the range and starts near 152, and its `cosine_beta` returns the β of the chain in place of noise
//! levels. Those are kept as `ve_reference`, `vp_reference` and `cosine_beta_reference`.

use serde::{Deserialize, Serialize};

/// Which schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Karras et al. 2022, eq. 5.
    Karras,
    /// Even in ln σ; what in-training validation of the reference release uses.
    Exponential,
    /// Even in σ; the published evaluation setting of both tasks.
    Linear,
    /// A power of an even grid in ln σ.
    Polyexponential,
    /// Variance exploding.
    Ve,
    /// Variance preserving.
    Vp,
    /// Improved DDPM.
    Iddpm,
    /// Cosine ᾱ.
    CosineBeta,
    /// `ve` as the reference release codes it.
    VeReference,
    /// `vp` as the reference release codes it.
    VpReference,
    /// `cosine_beta` as the reference release codes it.
    CosineBetaReference,
}

/// A schedule on a range of noise levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Which schedule.
    pub kind: ScheduleKind,
    /// Exponent of `karras` and `polyexponential`.
    pub rho: f64,
    /// Last level before 0, `> 0`.
    pub sigma_min: f64,
    /// First level, `>= sigma_min`.
    pub sigma_max: f64,
}

/// Why a schedule cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Zero levels were asked for.
    #[error("a schedule needs at least 1 step, found 0")]
    NoSteps,
    /// The range is empty or not positive.
    #[error(
        "the noise range must satisfy 0 < sigma_min <= sigma_max < inf, found [{sigma_min}, {sigma_max}]"
    )]
    Range {
        /// Lower end.
        sigma_min: f64,
        /// Upper end.
        sigma_max: f64,
    },
    /// The exponent is not positive.
    #[error("`rho` must be positive, found {0}")]
    Rho(f64),
    /// Two levels are the same, or one is no number: samplers divide by their differences.
    #[error(
        "the noise levels have to fall, but level {index} is {level} behind {before}; expected fewer steps or a wider range"
    )]
    Repeats {
        /// Position of the level, from 0.
        index: usize,
        /// The level.
        level: f64,
        /// The one before.
        before: f64,
    },
    /// No level of the improved-DDPM chain lies in the range.
    #[error("no level of the iddpm chain lies in [{sigma_min}, {sigma_max}]")]
    EmptyChain {
        /// Lower end.
        sigma_min: f64,
        /// Upper end.
        sigma_max: f64,
    },
}

const VP_BETA_D: f64 = 19.9;
const VP_BETA_MIN: f64 = 0.1;
const COSINE_OFFSET: f64 = 0.008;

impl Schedule {
    /// [`sigmas`](Self::sigmas) for a sampler, which divides by differences of levels.
    ///
    /// # Errors
    /// Also [`ScheduleError::Repeats`].
    pub fn falling_sigmas(&self, steps: usize) -> Result<Vec<f64>, ScheduleError> {
        let sigmas = self.sigmas(steps)?;
        let mut before = f64::INFINITY;
        for (index, &level) in sigmas[..steps.min(sigmas.len())].iter().enumerate() {
            if !(level > 0.0 && level < before) {
                return Err(ScheduleError::Repeats {
                    index,
                    level,
                    before,
                });
            }
            before = level;
        }
        Ok(sigmas)
    }

    /// `steps` levels, first the largest, then 0.
    pub fn sigmas(&self, steps: usize) -> Result<Vec<f64>, ScheduleError> {
        let (low, high) = (self.sigma_min, self.sigma_max);
        if steps == 0 {
            return Err(ScheduleError::NoSteps);
        }
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return Err(ScheduleError::Range {
                sigma_min: low,
                sigma_max: high,
            });
        }
        if self.rho.is_nan() || self.rho <= 0.0 {
            return Err(ScheduleError::Rho(self.rho));
        }
        // With one step the only level is the first.
        let grid = || {
            (0..steps).map(move |i| {
                if steps == 1 {
                    0.0
                } else {
                    i as f64 / (steps - 1) as f64
                }
            })
        };
        let between = |a: f64, b: f64| grid().map(move |r| a + r * (b - a));
        let mut sigmas: Vec<f64> = match self.kind {
            ScheduleKind::Karras => between(high.powf(1.0 / self.rho), low.powf(1.0 / self.rho))
                .map(|root| root.powf(self.rho))
                .collect(),
            ScheduleKind::Exponential | ScheduleKind::Ve => {
                between(high.ln(), low.ln()).map(f64::exp).collect()
            }
            ScheduleKind::Linear => between(high, low).collect(),
            ScheduleKind::Polyexponential => grid()
                .map(|r| ((1.0 - r).powf(self.rho) * (high.ln() - low.ln()) + low.ln()).exp())
                .collect(),
            ScheduleKind::VeReference => (0..steps)
                .map(|i| {
                    // The grid ends at n + 1 where the exponent expects n − 1.
                    let power = if steps == 1 {
                        0.0
                    } else {
                        let t = i as f64 * (steps + 1) as f64 / (steps - 1) as f64;
                        t / (steps - 1) as f64
                    };
                    high * (low / high).powf(power)
                })
                .collect(),
            ScheduleKind::Vp => between(vp_time(high), vp_time(low)).map(vp_sigma).collect(),
            ScheduleKind::VpReference => between(1.0, 1e-3).map(vp_sigma).collect(),
            ScheduleKind::Iddpm => {
                let chain = iddpm_chain(low, high);
                if chain.is_empty() {
                    return Err(ScheduleError::EmptyChain {
                        sigma_min: low,
                        sigma_max: high,
                    });
                }
                // Halves to the even index, as torch rounds them.
                grid()
                    .map(|r| chain[(r * (chain.len() - 1) as f64).round_ties_even() as usize])
                    .collect()
            }
            ScheduleKind::CosineBeta => between(cosine_time(high), cosine_time(low))
                .map(cosine_sigma)
                .collect(),
            ScheduleKind::CosineBetaReference => cosine_betas(steps),
        };
        sigmas.push(0.0);
        Ok(sigmas)
    }
}

fn vp_sigma(t: f64) -> f64 {
    (0.5 * VP_BETA_D * t * t + VP_BETA_MIN * t).exp_m1().sqrt()
}

/// Inverse of [`vp_sigma`]: the positive root of `β_d t²/2 + β_0 t = ln(1 + σ²)`.
fn vp_time(sigma: f64) -> f64 {
    let exponent = (sigma * sigma).ln_1p();
    ((VP_BETA_MIN * VP_BETA_MIN + 2.0 * VP_BETA_D * exponent).sqrt() - VP_BETA_MIN) / VP_BETA_D
}

/// `ᾱ(t) = cos²((t + o)/(1 + o) π/2) / cos²(o/(1 + o) π/2)` and `σ² = 1/ᾱ − 1`.
fn cosine_sigma(t: f64) -> f64 {
    let angle = |t: f64| (t + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * std::f64::consts::FRAC_PI_2;
    let alpha_bar = (angle(t).cos() / angle(0.0).cos()).powi(2);
    (1.0 / alpha_bar - 1.0).max(0.0).sqrt()
}

fn cosine_time(sigma: f64) -> f64 {
    let half_pi = std::f64::consts::FRAC_PI_2;
    let first = (COSINE_OFFSET / (1.0 + COSINE_OFFSET) * half_pi).cos();
    let angle = (first / (1.0 + sigma * sigma).sqrt()).acos();
    angle / half_pi * (1.0 + COSINE_OFFSET) - COSINE_OFFSET
}

/// β of a cosine chain with one step per level, largest first.
fn cosine_betas(steps: usize) -> Vec<f64> {
    let alpha_bar = |k: usize| {
        let x = k as f64 / steps as f64;
        ((x + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * std::f64::consts::FRAC_PI_2)
            .cos()
            .powi(2)
    };
    (1..=steps)
        .rev()
        .map(|k| (1.0 - alpha_bar(k) / alpha_bar(k - 1)).clamp(0.0, 0.999))
        .collect()
}

/// Levels of the improved-DDPM chain inside the range, largest first (Karras et al. 2022, Table 1).
fn iddpm_chain(low: f64, high: f64) -> Vec<f64> {
    const LEVELS: usize = 1000;
    const C1: f64 = 0.001;
    const C2: f64 = 0.008;
    let alpha_bar = |j: usize| {
        (std::f64::consts::FRAC_PI_2 * j as f64 / (LEVELS as f64 * (C2 + 1.0)))
            .sin()
            .powi(2)
    };
    let mut level = 0.0_f64;
    let mut chain = Vec::new();
    for j in (1..=LEVELS).rev() {
        level = ((level * level + 1.0) / (alpha_bar(j - 1) / alpha_bar(j)).max(C1) - 1.0).sqrt();
        if (low..=high).contains(&level) {
            chain.push(level);
        }
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmas(kind: ScheduleKind, rho: f64, steps: usize) -> Vec<f64> {
        Schedule {
            kind,
            rho,
            sigma_min: 0.005,
            sigma_max: 1.0,
        }
        .sigmas(steps)
        .unwrap()
    }

    fn close(found: f64, expected: f64, place: &str) {
        assert!(
            (found - expected).abs() <= 4e-6 * expected.abs(),
            "{place}: found {found}, expected {expected}"
        );
    }

    /// G3.
    #[test]
    fn levels_match_the_table() {
        let table: &[(ScheduleKind, f64, [f64; 3], [f64; 5], [f64; 6])] = &[
            (
                ScheduleKind::Exponential,
                5.0,
                [1.0, 0.070_710_7, 0.005],
                [1.0, 0.265_915, 0.070_710_7, 0.018_803, 0.005],
                [1.0, 0.555_047, 0.308_078, 0.170_998, 0.094_911_8, 0.005],
            ),
            (
                ScheduleKind::Linear,
                5.0,
                [1.0, 0.5025, 0.005],
                [1.0, 0.751_25, 0.5025, 0.253_75, 0.005],
                [1.0, 0.889_444, 0.778_889, 0.668_333, 0.557_778, 0.005],
            ),
            (
                ScheduleKind::Karras,
                5.0,
                [1.0, 0.138_356, 0.005],
                [1.0, 0.409_922, 0.138_356, 0.034_478_6, 0.005],
                [1.0, 0.686_007, 0.456_359, 0.292_795, 0.179_900, 0.005],
            ),
            (
                ScheduleKind::Karras,
                7.0,
                [1.0, 0.115_395, 0.005],
                [1.0, 0.369_074, 0.115_395, 0.028_599_4, 0.005],
                [1.0, 0.653_385, 0.415_308, 0.255_825, 0.152_006, 0.005],
            ),
            (
                ScheduleKind::VeReference,
                5.0,
                [1.0, 0.005, 2.5e-5],
                [1.0, 0.137_124, 0.018_803, 0.002_578_35, 0.000_353_553],
                [
                    1.0,
                    0.486_984,
                    0.237_153,
                    0.115_490,
                    0.056_241_6,
                    0.001_540_39,
                ],
            ),
            (
                ScheduleKind::Iddpm,
                5.0,
                [0.999_845, 0.421_318, 0.006_425_41],
                [0.999_845, 0.672_528, 0.421_318, 0.209_891, 0.006_425_41],
                [
                    0.999_845,
                    0.841_601,
                    0.704_697,
                    0.583_422,
                    0.473_718,
                    0.006_425_41,
                ],
            ),
            (
                ScheduleKind::VpReference,
                5.0,
                [152.167, 3.422_24, 0.010_486],
                [152.167, 17.0491, 3.422_24, 0.957_526, 0.010_486],
                [152.167, 53.3098, 21.0956, 9.403_20, 4.680_64, 0.010_486],
            ),
            (
                ScheduleKind::CosineBetaReference,
                5.0,
                [0.999, 0.668_255, 0.257_116],
                [0.999, 0.724_052, 0.473_635, 0.279_544, 0.101_294],
                [
                    0.999,
                    0.743_829,
                    0.536_998,
                    0.404_003,
                    0.309_883,
                    0.027_907_3,
                ],
            ),
        ];
        for (kind, rho, three, five, ten) in table {
            for (steps, expected) in [(3, &three[..]), (5, &five[..])] {
                let found = sigmas(*kind, *rho, steps);
                assert_eq!((found.len(), found[steps]), (steps + 1, 0.0));
                for (i, &value) in expected.iter().enumerate() {
                    close(found[i], value, &format!("{kind:?} n={steps} i={i}"));
                }
            }
            let found = sigmas(*kind, *rho, 10);
            for i in 0..5 {
                close(found[i], ten[i], &format!("{kind:?} n=10 i={i}"));
            }
            close(found[9], ten[5], &format!("{kind:?} n=10 last"));
        }
        assert_eq!(iddpm_chain(0.005, 1.0).len(), 496);
        let block_push = |kind, sigma_min| {
            Schedule {
                kind,
                rho: 5.0,
                sigma_min,
                sigma_max: 1.0,
            }
            .sigmas(3)
            .unwrap()
        };
        close(
            block_push(ScheduleKind::Exponential, 0.05)[1],
            0.223_607,
            "block-push exponential",
        );
        close(
            block_push(ScheduleKind::Linear, 0.1)[1],
            0.55,
            "block-push linear",
        );
    }

    /// The release rounds with torch: to the even index where the place in the chain is a half.
    #[test]
    fn iddpm_takes_the_even_one_of_two_equally_near_levels() {
        let chain = iddpm_chain(0.005, 1.0);
        let found = sigmas(ScheduleKind::Iddpm, 5.0, 7);
        // Place 82.5 and place 412.5 of 0 to 495.
        assert_eq!([found[1], found[5]], [chain[82], chain[412]]);
        close(found[1], 0.772_129_951, "place 82.5");
        close(found[5], 0.143_806_173, "place 412.5");
    }

    const RANGED: [ScheduleKind; 8] = [
        ScheduleKind::Karras,
        ScheduleKind::Exponential,
        ScheduleKind::Linear,
        ScheduleKind::Polyexponential,
        ScheduleKind::Ve,
        ScheduleKind::Vp,
        ScheduleKind::Iddpm,
        ScheduleKind::CosineBeta,
    ];

    #[test]
    fn corrected_schedules_descend_through_exactly_their_range() {
        for kind in RANGED {
            for steps in [2, 3, 7, 50] {
                let found = sigmas(kind, 5.0, steps);
                assert!(
                    found.windows(2).all(|pair| pair[0] > pair[1]),
                    "{kind:?} {found:?}"
                );
                if kind != ScheduleKind::Iddpm {
                    close(found[0], 1.0, "first");
                    close(found[steps - 1], 0.005, "last");
                }
            }
            assert_eq!(sigmas(kind, 5.0, 1).len(), 2, "{kind:?} with one step");
            assert!((sigmas(kind, 5.0, 1)[0] - 1.0).abs() < 1e-3);
        }
        for (a, b) in
            sigmas(ScheduleKind::Ve, 5.0, 6)
                .iter()
                .zip(sigmas(ScheduleKind::Exponential, 5.0, 6))
        {
            assert_eq!(*a, b);
        }
    }

    #[test]
    fn bad_requests_are_errors() {
        let schedule = Schedule {
            kind: ScheduleKind::Linear,
            rho: 5.0,
            sigma_min: 0.005,
            sigma_max: 1.0,
        };
        assert_eq!(schedule.sigmas(0), Err(ScheduleError::NoSteps));
        assert!(matches!(
            Schedule {
                sigma_min: 0.0,
                ..schedule
            }
            .sigmas(3),
            Err(ScheduleError::Range { .. })
        ));
        assert!(matches!(
            Schedule {
                sigma_min: 2.0,
                ..schedule
            }
            .sigmas(3),
            Err(ScheduleError::Range { .. })
        ));
        assert_eq!(
            Schedule {
                rho: 0.0,
                ..schedule
            }
            .sigmas(3),
            Err(ScheduleError::Rho(0.0))
        );
        let narrow = Schedule {
            kind: ScheduleKind::Iddpm,
            sigma_min: 1e-9,
            sigma_max: 2e-9,
            rho: 5.0,
        };
        assert!(matches!(
            narrow.sigmas(3),
            Err(ScheduleError::EmptyChain { .. })
        ));
        let one = Schedule {
            sigma_min: 1.0,
            ..schedule
        };
        assert_eq!(one.falling_sigmas(1), Ok(vec![1.0, 0.0]));
        assert_eq!(one.sigmas(2), Ok(vec![1.0, 1.0, 0.0]));
        assert_eq!(
            one.falling_sigmas(3),
            Err(ScheduleError::Repeats {
                index: 1,
                level: 1.0,
                before: 1.0
            })
        );
    }
}
