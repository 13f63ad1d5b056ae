//! Densities of the noise level σ during training: one σ per sequence.
//!
//! With `u ~ U(0, 1)` and `z ~ N(0, 1)`, `[s, S] = [sigma_min, sigma_max]`, `d = sigma_data`:
//!
//! ```text
//! loglogistic      exp(loc + scale logit(p)), p = F(s) + u (F(S) − F(s)), F(σ) = logistic((ln σ − loc) / scale)
//! lognormal        exp(mean + std z), not truncated
//! loguniform       exp(ln s + u (ln S − ln s))
//! uniform          s + u (S − s)
//! v_diffusion      d tan(π p / 2), p = c(s) + u (c(S) − c(s)), c(σ) = 2/π atan(σ / d)
//! split_lognormal  exp(loc − s₁ |z|) with probability s₁ / (s₁ + s₂), else exp(loc + s₂ |z|)
//! discrete         one of the levels of an exponential schedule, all equally likely
//! ```
//!
//! `loc` is `ln sigma_data` unless given. With `scale = 0.5` the log-logistic distribution
//! function is `σ² / (σ² + d²)`, the share of noise in the variance of `x`.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_seed::Rng;

use super::schedule::{Schedule, ScheduleKind};

/// Which density.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseDensityKind {
    /// Truncated log-logistic, the published choice.
    Loglogistic,
    /// Log-normal, not truncated.
    Lognormal,
    /// Uniform in ln σ.
    Loguniform,
    /// Uniform in σ.
    Uniform,
    /// Uniform in the angle of v-prediction.
    VDiffusion,
    /// Two half log-normals with their own widths.
    SplitLognormal,
    /// Uniform over the levels of an exponential schedule.
    Discrete,
}

/// A density with its parameters; those of other kinds are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseDensityConfig {
    /// Which density.
    pub kind: NoiseDensityKind,
    /// `loglogistic`: scale of the logistic distribution of ln σ.
    pub scale: f64,
    /// `loglogistic`, `split_lognormal`: centre of ln σ; `ln sigma_data` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loc: Option<f64>,
    /// `lognormal`: mean of ln σ.
    pub mean: f64,
    /// `lognormal`: standard deviation of ln σ.
    pub std: f64,
    /// `split_lognormal`: width below the centre.
    pub scale_below: f64,
    /// `split_lognormal`: width above the centre.
    pub scale_above: f64,
    /// `discrete`: how many levels, at least 1.
    pub levels: usize,
}

impl Default for NoiseDensityConfig {
    fn default() -> Self {
        Self {
            // Both published tasks train on the log-logistic density with scale 0.5.
            kind: NoiseDensityKind::Loglogistic,
            scale: 0.5,
            loc: None,
            // Defaults of the reference release for the kinds it never uses in a published run.
            mean: -0.6,
            std: 1.6,
            scale_below: 1.0,
            scale_above: 1.0,
            levels: 100,
        }
    }
}

/// A density on a range of σ, ready to be drawn from.
#[derive(Clone, Debug)]
pub struct NoiseDensity {
    config: NoiseDensityConfig,
    loc: f64,
    sigma_data: f64,
    sigma_min: f64,
    sigma_max: f64,
    /// Levels of the discrete density.
    levels: Vec<f64>,
}

impl NoiseDensity {
    /// The density on `[sigma_min, sigma_max]`; `0 < sigma_min <= sigma_max`.
    pub fn new(
        config: &NoiseDensityConfig,
        sigma_data: f64,
        sigma_min: f64,
        sigma_max: f64,
    ) -> Self {
        let levels = if config.kind == NoiseDensityKind::Discrete {
            let schedule = Schedule {
                kind: ScheduleKind::Exponential,
                rho: 1.0,
                sigma_min,
                sigma_max,
            };
            let mut sigmas = schedule.sigmas(config.levels.max(1)).unwrap_or_default();
            // The schedule ends at 0, where ln σ has no value.
            sigmas.pop();
            sigmas
        } else {
            Vec::new()
        };
        Self {
            config: config.clone(),
            loc: config.loc.unwrap_or_else(|| sigma_data.ln()),
            sigma_data,
            sigma_min,
            sigma_max,
            levels,
        }
    }

    /// One noise level.
    pub fn sample(&self, rng: &mut Rng) -> f64 {
        match self.config.kind {
            NoiseDensityKind::Lognormal => self.from_normal(StandardNormal.sample(rng), 0.0),
            NoiseDensityKind::SplitLognormal => {
                let side = rng.random::<f64>();
                self.from_normal(StandardNormal.sample(rng), side)
            }
            _ => self.quantile(rng.random::<f64>()),
        }
    }

    /// The level below which a share `u` in `[0, 1)` of the draws lies, for the densities drawn
    /// through their inverse distribution function; for the two log-normal ones use
    /// [`Self::from_normal`].
    pub fn quantile(&self, u: f64) -> f64 {
        let (low, high) = (self.sigma_min, self.sigma_max);
        match self.config.kind {
            NoiseDensityKind::Loglogistic => {
                let (p_low, p_high) = (self.logistic_cdf(low), self.logistic_cdf(high));
                let p = p_low + u * (p_high - p_low);
                // ln p − ln(1 − p) loses nothing near either end.
                (self.loc + self.config.scale * (p.ln() - (-p).ln_1p())).exp()
            }
            NoiseDensityKind::Loguniform => (low.ln() + u * (high.ln() - low.ln())).exp(),
            NoiseDensityKind::Uniform => low + u * (high - low),
            NoiseDensityKind::VDiffusion => {
                let angle = |sigma: f64| (sigma / self.sigma_data).atan();
                self.sigma_data * (angle(low) + u * (angle(high) - angle(low))).tan()
            }
            NoiseDensityKind::Discrete => {
                let index = (u * self.levels.len() as f64) as usize;
                // Ascending, like every other quantile function.
                self.levels[self.levels.len() - 1 - index.min(self.levels.len() - 1)]
            }
            NoiseDensityKind::Lognormal | NoiseDensityKind::SplitLognormal => {
                unreachable!("log-normal densities are drawn from a normal variate")
            }
        }
    }

    /// The level of the log-normal densities for a normal variate `z`; `side` in `[0, 1)` picks
    /// the half of the split one.
    pub fn from_normal(&self, z: f64, side: f64) -> f64 {
        if self.config.kind == NoiseDensityKind::SplitLognormal {
            let (below, above) = (self.config.scale_below, self.config.scale_above);
            if side < below / (below + above) {
                (self.loc - below * z.abs()).exp()
            } else {
                (self.loc + above * z.abs()).exp()
            }
        } else {
            (self.config.mean + self.config.std * z).exp()
        }
    }

    fn logistic_cdf(&self, sigma: f64) -> f64 {
        1.0 / (1.0 + (-(sigma.ln() - self.loc) / self.config.scale).exp())
    }
}

#[cfg(test)]
mod tests {
    use telic_seed::Seed;

    use super::*;

    fn density(kind: NoiseDensityKind, sigma_min: f64) -> NoiseDensity {
        let config = NoiseDensityConfig {
            kind,
            ..Default::default()
        };
        NoiseDensity::new(&config, 0.5, sigma_min, 1.0)
    }

    fn close(found: f64, expected: f64) {
        assert!(
            (found / expected - 1.0).abs() < 1e-6,
            "found {found}, expected {expected}"
        );
    }

    /// G4.
    #[test]
    fn quantiles_match_the_table() {
        let loglogistic = density(NoiseDensityKind::Loglogistic, 0.005);
        close(loglogistic.logistic_cdf(0.005), 9.999_000_1e-5);
        close(loglogistic.logistic_cdf(1.0), 0.8);
        for (u, sigma) in [
            (0.1, 0.147_532_08),
            (0.25, 0.250_058_59),
            (0.5, 0.408_290_81),
            (0.75, 0.612_404_33),
            (0.9, 0.801_803_61),
        ] {
            close(loglogistic.quantile(u), sigma);
        }
        let narrow = density(NoiseDensityKind::Loglogistic, 0.05);
        close(narrow.logistic_cdf(0.05), 0.009_900_99);
        close(narrow.quantile(0.5), 0.412_471_95);

        let v_diffusion = density(NoiseDensityKind::VDiffusion, 0.005);
        for (u, sigma) in [
            (0.25, 0.146_100_74),
            (0.5, 0.312_482_53),
            (0.75, 0.549_867_63),
        ] {
            close(v_diffusion.quantile(u), sigma);
        }
        close(
            density(NoiseDensityKind::Loguniform, 0.005).quantile(0.5),
            0.070_710_68,
        );
        close(
            density(NoiseDensityKind::Uniform, 0.005).quantile(0.5),
            0.5025,
        );
        let lognormal = density(NoiseDensityKind::Lognormal, 0.005);
        for (z, sigma) in [(-1.0, 0.110_803), (0.0, 0.548_812), (1.0, 2.718_282)] {
            assert!((lognormal.from_normal(z, 0.0) - sigma).abs() < 1e-6);
        }
    }

    /// G4: mean and upper tail of the published density, by the midpoint rule over u.
    #[test]
    fn loglogistic_has_the_stated_mean_and_tail() {
        let density = density(NoiseDensityKind::Loglogistic, 0.005);
        let n = 200_000;
        let draws = (0..n).map(|i| density.quantile((f64::from(i) + 0.5) / f64::from(n)));
        let (mut mean, mut tail) = (0.0, 0.0);
        for sigma in draws {
            mean += sigma / f64::from(n);
            tail += f64::from(u8::from(sigma > 0.5)) / f64::from(n);
        }
        assert!((mean - 0.442_023).abs() < 1e-5, "{mean}");
        assert!((tail - 0.3750).abs() < 1e-4, "{tail}");
    }

    #[test]
    fn every_density_draws_positive_levels_in_its_range() {
        for kind in [
            NoiseDensityKind::Loglogistic,
            NoiseDensityKind::Lognormal,
            NoiseDensityKind::Loguniform,
            NoiseDensityKind::Uniform,
            NoiseDensityKind::VDiffusion,
            NoiseDensityKind::SplitLognormal,
            NoiseDensityKind::Discrete,
        ] {
            let density = density(kind, 0.005);
            let mut rng = Seed::new(1).rng();
            let truncated = !matches!(
                kind,
                NoiseDensityKind::Lognormal | NoiseDensityKind::SplitLognormal
            );
            for _ in 0..2000 {
                let sigma = density.sample(&mut rng);
                assert!(sigma > 0.0 && sigma.is_finite(), "{kind:?} gave {sigma}");
                assert!(
                    !truncated || (0.005 - 1e-12..=1.0 + 1e-12).contains(&sigma),
                    "{kind:?} gave {sigma}"
                );
            }
        }
    }

    #[test]
    fn split_lognormal_draws_both_halves_around_its_centre() {
        let config = NoiseDensityConfig {
            kind: NoiseDensityKind::SplitLognormal,
            scale_below: 3.0,
            scale_above: 1.0,
            ..Default::default()
        };
        let density = NoiseDensity::new(&config, 0.5, 0.005, 1.0);
        let mut rng = Seed::new(3).rng();
        let below = (0..4000).filter(|_| density.sample(&mut rng) < 0.5).count();
        assert!(
            (2850..3150).contains(&below),
            "{below} of 4000 below the centre"
        );
        assert!((density.from_normal(-1.0, 0.0) - 0.5 * (-3.0f64).exp()).abs() < 1e-12);
        assert!((density.from_normal(-1.0, 0.99) - 0.5 * 1.0f64.exp()).abs() < 1e-12);
    }
}
