//! Learning-rate schedules: the factor on the base rate at update `k = 0, 1, …` of `K`.
//!
//! ```text
//! constant  1
//! step      factor^⌊k / every⌋
//! cosine    floor + (1 − floor) (1 + cos(π k / K)) / 2
//! ```
//!
//! each times `(k + 1) / warm_up` during the first `warm_up` updates.

use serde::{Deserialize, Serialize};

use crate::Problems;
use crate::problems::Validate;

/// Which schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduleKind {
    /// The base rate throughout.
    Constant,
    /// A factor every so many updates.
    Step,
    /// Half a cosine over the whole run (Loshchilov and Hutter 2017).
    Cosine,
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LrSchedule {
    /// Which schedule.
    pub kind: LrScheduleKind,
    /// `step`: factor per stage.
    pub factor: f64,
    /// `step`: updates per stage.
    pub every: u64,
    /// `cosine`: factor at the end of the run.
    pub floor: f64,
    /// Updates of linear warm-up; 0 for none.
    pub warm_up: u64,
}

impl Default for LrSchedule {
    fn default() -> Self {
        Self {
            kind: LrScheduleKind::Constant,
            factor: 0.99,
            every: 100,
            floor: 0.0,
            warm_up: 0,
        }
    }
}

impl Validate for LrSchedule {
    fn validate(&self, problems: &mut Problems) {
        problems.check(
            self.factor > 0.0 && self.factor <= 1.0,
            "factor",
            self.factor,
            "a number above 0 and up to 1",
        );
        problems.check(self.every >= 1, "every", self.every, "at least 1");
        problems.check(
            (0.0..=1.0).contains(&self.floor),
            "floor",
            self.floor,
            "a number in 0..=1",
        );
    }
}

impl LrSchedule {
    /// The factor at update `update`, counted from 0, of a run of `updates`.
    pub fn factor(&self, update: u64, updates: u64) -> f64 {
        let warm_up = ((update + 1) as f64 / self.warm_up.max(1) as f64).min(1.0);
        warm_up
            * match self.kind {
                LrScheduleKind::Constant => 1.0,
                LrScheduleKind::Step => self.factor.powf((update / self.every.max(1)) as f64),
                LrScheduleKind::Cosine => {
                    let progress = (update as f64 / updates.max(1) as f64).min(1.0);
                    self.floor
                        + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G14.
    #[test]
    fn step_rates_match_the_table() {
        let schedule = LrSchedule {
            kind: LrScheduleKind::Step,
            ..Default::default()
        };
        for (update, rate) in [
            (0, 1e-4),
            (99, 1e-4),
            (100, 9.9e-5),
            (1000, 9.043_8e-5),
            (10_000, 3.660_32e-5),
            (40_000, 1.795_06e-6),
            (60_000, 2.405_01e-7),
        ] {
            let found = 1e-4 * schedule.factor(update, 60_000);
            assert!(
                (found / rate - 1.0).abs() < 5e-6,
                "update {update}: {found:e}"
            );
        }
    }

    #[test]
    fn cosine_ends_at_its_floor_and_warm_up_rises_to_one() {
        let schedule = LrSchedule {
            kind: LrScheduleKind::Cosine,
            floor: 0.1,
            warm_up: 10,
            ..Default::default()
        };
        assert!((schedule.factor(0, 1000) - 0.1).abs() < 1e-9);
        assert!((schedule.factor(9, 1000) - 1.0).abs() < 1e-3);
        assert!((schedule.factor(500, 1000) - 0.55).abs() < 1e-9);
        assert!((schedule.factor(1000, 1000) - 0.1).abs() < 1e-9);
        assert_eq!(LrSchedule::default().factor(123, 1000), 1.0);
    }
}
