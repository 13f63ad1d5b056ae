//! 95 % intervals of what an evaluation reports.

use serde::{Deserialize, Serialize};

/// Two-sided normal quantile of a 95 % interval.
const Z95: f64 = 1.959_963_984_540_054;

/// Lower and upper end of a 95 % interval; `[lo, hi]` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval(pub f64, pub f64);

impl Interval {
    /// Wilson score interval of a proportion (Wilson 1927); `[0, 1]` without episodes.
    pub fn wilson(successes: usize, episodes: usize) -> Self {
        if episodes == 0 {
            return Self(0.0, 1.0);
        }
        let n = episodes as f64;
        let p = successes as f64 / n;
        let z2 = Z95 * Z95;
        let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        // At the ends one limit is exact, which the difference is only up to its rounding.
        let low = if successes == 0 { 0.0 } else { centre - half };
        let high = if successes == episodes {
            1.0
        } else {
            centre + half
        };
        Self(low, high)
    }

    /// The least interval that holds both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self(self.0.min(other.0), self.1.max(other.1))
    }

    /// Normal interval of a mean, from the sample standard deviation; a single value has none.
    pub fn of_mean(values: &[f64]) -> Option<Self> {
        if values.len() < 2 {
            return None;
        }
        let mean = mean(values);
        let n = values.len() as f64;
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / (n - 1.0);
        let half = Z95 * (variance / n).sqrt();
        Some(Self(mean - half, mean + half))
    }
}

/// Arithmetic mean, summed in order; 0 for nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    #[test]
    fn wilson_matches_published_values() {
        // Agresti and Coull 1998, example values for 0, 8 and 10 successes in 10 trials.
        let Interval(lo, hi) = Interval::wilson(0, 10);
        close(lo, 0.0);
        close(hi, 0.2775);
        let Interval(lo, hi) = Interval::wilson(8, 10);
        close(lo, 0.4902);
        close(hi, 0.9433);
        let Interval(lo, hi) = Interval::wilson(10, 10);
        close(lo, 0.7225);
        close(hi, 1.0);
        for episodes in 1..300 {
            assert_eq!(Interval::wilson(0, episodes).0, 0.0);
            assert_eq!(Interval::wilson(episodes, episodes).1, 1.0);
        }
    }

    #[test]
    fn a_mean_has_the_interval_of_its_spread() {
        let Interval(lo, hi) = Interval::of_mean(&[0.0, 1.0, 0.0, 1.0]).unwrap();
        // Standard deviation 0.57735, standard error 0.288675.
        close(lo, 0.5 - 1.96 * 0.288_675);
        close(hi, 0.5 + 1.96 * 0.288_675);
        assert_eq!(Interval::of_mean(&[0.25]), None);
    }
}
