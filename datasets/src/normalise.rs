//! Affine maps between raw numbers and what a network sees.

use serde::{Deserialize, Serialize};

use crate::SamplerError;

/// Which normaliser to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalizerKind {
    /// Leave numbers as they are.
    #[default]
    Identity,
    /// Mean 0, standard deviation 1.
    ZScore,
    /// Least value −1, greatest value 1.
    MinMax,
}

/// An affine map per entry, y = (x − centre) / scale.
///
/// Columns that are constant in the data are shifted to 0 and not scaled, so that a later value away from
/// the constant stays finite and the inverse stays exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "UncheckedNormalizer")]
pub enum Normalizer {
    /// y = x, for rows of any width.
    #[default]
    Identity,
    /// y = (x − mean) / std.
    ZScore {
        /// Mean per entry.
        mean: Vec<f32>,
        /// Population standard deviation per entry, 1 for constant columns; greater than 0.
        std: Vec<f32>,
    },
    /// y = 2 (x − low) / (high − low) − 1.
    MinMax {
        /// Value per entry that becomes −1; one below a constant.
        low: Vec<f32>,
        /// Value per entry that becomes 1; one above a constant. Greater than `low`.
        high: Vec<f32>,
    },
}

/// The wire form of [`Normalizer`], before its numbers are checked.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum UncheckedNormalizer {
    Identity,
    ZScore { mean: Vec<f32>, std: Vec<f32> },
    MinMax { low: Vec<f32>, high: Vec<f32> },
}

impl TryFrom<UncheckedNormalizer> for Normalizer {
    type Error = SamplerError;

    fn try_from(unchecked: UncheckedNormalizer) -> Result<Self, SamplerError> {
        let normalizer = match unchecked {
            UncheckedNormalizer::Identity => Self::Identity,
            UncheckedNormalizer::ZScore { mean, std } => Self::ZScore { mean, std },
            UncheckedNormalizer::MinMax { low, high } => Self::MinMax { low, high },
        };
        normalizer.check()?;
        Ok(normalizer)
    }
}

impl Normalizer {
    /// Fits to row-major `rows` of `width` entries each, in `f64` and in order of the rows.
    ///
    /// Without any rows nothing is shifted or scaled.
    pub fn fit(kind: NormalizerKind, rows: &[f32], width: usize) -> Self {
        Self::fit_rows(kind, width, || rows.iter().copied())
    }

    /// Fits to a stream of rows of `width` entries, which is read twice.
    pub(crate) fn fit_rows<I: Iterator<Item = f32>>(
        kind: NormalizerKind,
        width: usize,
        rows: impl Fn() -> I,
    ) -> Self {
        if kind == NormalizerKind::Identity {
            return Self::Identity;
        }
        let statistics = crate::statistics::ColumnStatistics::of(width, rows);
        match kind {
            NormalizerKind::Identity => Self::Identity,
            NormalizerKind::ZScore => Self::ZScore {
                mean: statistics.iter().map(|column| column.mean as f32).collect(),
                std: statistics
                    .iter()
                    .map(|column| {
                        if column.is_constant() {
                            1.0
                        } else {
                            column.std as f32
                        }
                    })
                    .collect(),
            },
            NormalizerKind::MinMax => {
                let (low, high) = statistics
                    .iter()
                    .map(|column| {
                        if column.is_constant() {
                            (column.mean as f32 - 1.0, column.mean as f32 + 1.0)
                        } else {
                            (column.min, column.max)
                        }
                    })
                    .unzip();
                Self::MinMax { low, high }
            }
        }
    }

    /// Entries per row that this map is for; `None` for the identity, which takes any.
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Identity => None,
            Self::ZScore { mean, .. } => Some(mean.len()),
            Self::MinMax { low, .. } => Some(low.len()),
        }
    }

    /// Which kind this is.
    pub fn kind(&self) -> NormalizerKind {
        match self {
            Self::Identity => NormalizerKind::Identity,
            Self::ZScore { .. } => NormalizerKind::ZScore,
            Self::MinMax { .. } => NormalizerKind::MinMax,
        }
    }

    /// Checks that every number is finite and every scale is greater than 0.
    pub fn check(&self) -> Result<(), SamplerError> {
        let (left, right) = match self {
            Self::Identity => return Ok(()),
            Self::ZScore { mean, std } => (mean, std),
            Self::MinMax { low, high } => (low, high),
        };
        if left.len() != right.len() {
            let (found, expected) = (right.len(), left.len());
            return Err(SamplerError::Width {
                what: "second list of the normaliser",
                found,
                expected,
            });
        }
        for (entry, &value) in left.iter().chain(right).enumerate() {
            if !value.is_finite() {
                let entry = entry % left.len();
                return Err(SamplerError::Normalizer {
                    entry,
                    value,
                    expected: "a finite number",
                });
            }
        }
        for (entry, (&low, &value)) in left.iter().zip(right).enumerate() {
            let (least, expected) = match self {
                Self::MinMax { .. } => (low, "`high` above `low`"),
                _ => (0.0, "`std` above 0"),
            };
            if value <= least {
                return Err(SamplerError::Normalizer {
                    entry,
                    value,
                    expected,
                });
            }
        }
        Ok(())
    }

    /// Checks that rows of `width` entries can be mapped.
    pub fn check_width(&self, what: &'static str, width: usize) -> Result<(), SamplerError> {
        match self.width() {
            Some(found) if found != width => Err(SamplerError::Width {
                what,
                found,
                expected: width,
            }),
            _ => Ok(()),
        }
    }

    /// Normalises rows in place. `rows` is row-major, a multiple of [`width`](Self::width) long.
    pub fn apply(&self, rows: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::ZScore { mean, std } => {
                for_each(rows, mean, std, |x, mean, std| (x - mean) / std);
            }
            Self::MinMax { low, high } => {
                for_each(rows, low, high, |x, low, high| {
                    (x - low) * (2.0 / (high - low)) - 1.0
                });
            }
        }
    }

    /// Takes normalised rows back to raw numbers, in place.
    pub fn invert(&self, rows: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::ZScore { mean, std } => for_each(rows, mean, std, |y, mean, std| y * std + mean),
            Self::MinMax { low, high } => {
                for_each(rows, low, high, |y, low, high| {
                    (y + 1.0) * (0.5 * (high - low)) + low
                });
            }
        }
    }
}

/// Replaces each entry by a function of itself and the two numbers of its column.
fn for_each(rows: &mut [f32], left: &[f32], right: &[f32], map: impl Fn(f32, f32, f32) -> f32) {
    debug_assert!(left.is_empty() || rows.len().is_multiple_of(left.len()));
    for row in rows.chunks_exact_mut(left.len().max(1)) {
        for ((value, &left), &right) in row.iter_mut().zip(left).zip(right) {
            *value = map(*value, left, right);
        }
    }
}

/// Interval per entry, in normalised units, that sampled rows are clipped to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipBounds {
    /// Least value per entry.
    pub low: Vec<f32>,
    /// Greatest value per entry.
    pub high: Vec<f32>,
}

impl ClipBounds {
    /// Centre ± `factor` × half-range of the normalised data, per entry; `rows` are raw, row-major, of `width` entries.
    ///
    /// BESO clips actions with a factor of 1.1. Its release multiplies minimum and maximum by 1.1 instead, which
    /// shrinks the interval where the minimum is positive or the maximum negative.
    pub fn fit(rows: &[f32], width: usize, normalizer: &Normalizer, factor: f32) -> Self {
        Self::fit_rows(width, || rows.iter().copied(), normalizer, factor)
    }

    /// Fits to a stream of rows, which is read twice.
    pub(crate) fn fit_rows<I: Iterator<Item = f32>>(
        width: usize,
        rows: impl Fn() -> I,
        normalizer: &Normalizer,
        factor: f32,
    ) -> Self {
        let statistics = crate::statistics::ColumnStatistics::of(width, rows);
        let (mut low, mut high): (Vec<f32>, Vec<f32>) = statistics
            .iter()
            .map(|column| (column.min, column.max))
            .unzip();
        normalizer.apply(&mut low);
        normalizer.apply(&mut high);
        for (low, high) in low.iter_mut().zip(&mut high) {
            let centre = 0.5 * (*low + *high);
            let half_range = 0.5 * (*high - *low) * factor;
            (*low, *high) = (centre - half_range, centre + half_range);
        }
        Self { low, high }
    }

    /// Clips normalised rows in place.
    pub fn clip(&self, rows: &mut [f32]) {
        // min and max rather than clamp, which panics on an interval that a user's file has reversed.
        for_each(rows, &self.low, &self.high, |value, low, high| {
            value.max(low).min(high)
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn z_score_has_mean_0_and_std_1() {
        let mut rows = [1.0, 10.0, 3.0, 10.0, 5.0, 10.0];
        let normalizer = Normalizer::fit(NormalizerKind::ZScore, &rows, 2);
        let std = (8.0f32 / 3.0).sqrt();
        assert_eq!(
            normalizer,
            Normalizer::ZScore {
                mean: vec![3.0, 10.0],
                std: vec![std, 1.0]
            }
        );
        normalizer.apply(&mut rows);
        assert_eq!(rows, [-2.0 / std, 0.0, 0.0, 0.0, 2.0 / std, 0.0]);
    }

    #[test]
    fn min_max_spans_minus_1_to_1_and_keeps_constants_finite() {
        let mut rows = [2.0, 0.5, 6.0, 0.5];
        let normalizer = Normalizer::fit(NormalizerKind::MinMax, &rows, 2);
        normalizer.apply(&mut rows);
        assert_eq!(rows, [-1.0, 0.0, 1.0, 0.0]);
        // A later value away from the constant is moved, not blown up.
        let mut later = [4.0, 0.75];
        normalizer.apply(&mut later);
        assert_eq!(later, [0.0, 0.25]);
        normalizer.invert(&mut later);
        assert_eq!(later, [4.0, 0.75]);
    }

    #[test]
    fn columns_far_from_zero_keep_their_spread() {
        let rows: Vec<f32> = (0..1000).map(|i| 10_000.0 + (i % 2) as f32).collect();
        let Normalizer::ZScore { mean, std } = Normalizer::fit(NormalizerKind::ZScore, &rows, 1)
        else {
            panic!("asked for a z-score")
        };
        assert_eq!((mean[0], std[0]), (10_000.5, 0.5));
    }

    #[test]
    fn clip_bounds_grow_about_the_centre() {
        // Minimum and maximum times 1.1 would give 1.1 … 3.3, which loses the lowest actions.
        let bounds = ClipBounds::fit(&[1.0, 3.0], 1, &Normalizer::Identity, 1.1);
        assert!((bounds.low[0] - 0.9).abs() < 1e-6 && (bounds.high[0] - 3.1).abs() < 1e-6);
        let normalizer = Normalizer::fit(NormalizerKind::MinMax, &[1.0, 3.0], 1);
        let bounds = ClipBounds::fit(&[1.0, 3.0], 1, &normalizer, 1.1);
        assert_eq!((bounds.low[0], bounds.high[0]), (-1.1, 1.1));
        let mut rows = [-2.0, 0.25, 2.0];
        bounds.clip(&mut rows);
        assert_eq!(rows, [-1.1, 0.25, 1.1]);
    }

    #[test]
    fn numbers_that_cannot_scale_are_refused_when_read() {
        let read = |json: &str| {
            serde_json::from_str::<Normalizer>(json).map_err(|error| error.to_string())
        };
        let good = Normalizer::ZScore {
            mean: vec![0.5],
            std: vec![2.0],
        };
        assert_eq!(read(&serde_json::to_string(&good).unwrap()), Ok(good));
        assert_eq!(read("\"identity\""), Ok(Normalizer::Identity));
        assert!(
            read(r#"{"z_score":{"mean":[0.0],"std":[0.0]}}"#)
                .unwrap_err()
                .contains("`std` above 0")
        );
        assert!(
            read(r#"{"z_score":{"mean":[0.0],"std":[1.0,1.0]}}"#)
                .unwrap_err()
                .contains("2 entries")
        );
        assert!(
            read(r#"{"min_max":{"low":[1.0],"high":[1.0]}}"#)
                .unwrap_err()
                .contains("above `low`")
        );
    }

    proptest! {
        #[test]
        fn invert_undoes_apply(
            rows in proptest::collection::vec(-1e3f32..1e3, 3..60),
            min_max: bool,
        ) {
            let rows = &rows[..rows.len() / 3 * 3];
            let kind = if min_max { NormalizerKind::MinMax } else { NormalizerKind::ZScore };
            let normalizer = Normalizer::fit(kind, rows, 3);
            normalizer.check().unwrap();
            let mut mapped = rows.to_vec();
            normalizer.apply(&mut mapped);
            if min_max {
                prop_assert!(mapped.iter().all(|y| y.abs() <= 1.0 + 1e-5));
            }
            normalizer.invert(&mut mapped);
            for (back, &value) in mapped.iter().zip(rows) {
                prop_assert!((back - value).abs() <= 1e-3, "{} came back as {}", value, back);
            }
        }
    }
}
