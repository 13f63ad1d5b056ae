//! From labelled observations to a latent: the direction in which a reward grows.
//!
//! With features F `[rows, D]` and rewards r, both without their mean (an intercept), and a little ridge:
//!
//! ```text
//! w = argmin |F w − r|² + ε tr(FᵀF) / D |w|²
//! ```
//!
//! The reference release has neither intercept nor ridge; a constant reward then leaks into w, and equal states make the problem
//! singular.

use nalgebra::{DMatrix, DVector};

/// ε.
const RIDGE: f64 = 1e-6;

/// A symmetric positive matrix, to solve with.
pub(super) struct SecondMoment {
    factor: nalgebra::Cholesky<f64, nalgebra::Dyn>,
}

impl SecondMoment {
    /// `FᵀF / rows` of features `[rows, dim]`, row-major; `None` if they are not finite.
    pub(super) fn of(features: &[f32], dim: usize) -> Option<Self> {
        let rows = features.len() / dim;
        let mut matrix = DMatrix::<f64>::zeros(dim, dim);
        for row in features.chunks_exact(dim) {
            for i in 0..dim {
                let x = f64::from(row[i]);
                for j in 0..=i {
                    matrix[(i, j)] += x * f64::from(row[j]);
                }
            }
        }
        for i in 0..dim {
            for j in 0..=i {
                let mean = matrix[(i, j)] / rows as f64;
                (matrix[(i, j)], matrix[(j, i)]) = (mean, mean);
            }
        }
        // Features that are all zero have the direction zero.
        let ridge = (RIDGE * matrix.trace() / dim as f64).max(f64::MIN_POSITIVE.sqrt());
        for i in 0..dim {
            matrix[(i, i)] += ridge;
        }
        // With the ridge it is positive, unless an entry is not a number.
        let factor = matrix.cholesky()?;
        Some(Self { factor })
    }

    /// The solution `x` of `C x = vector`.
    pub(super) fn solve(&self, vector: &[f64]) -> Vec<f64> {
        let solution = self.factor.solve(&DVector::from_column_slice(vector));
        solution.as_slice().to_vec()
    }

    /// The inverse, row-major.
    pub(super) fn inverse(&self) -> Vec<f32> {
        let inverse = self.factor.inverse();
        inverse.iter().map(|x| *x as f32).collect()
    }
}

/// A regression.
pub(super) struct Fit {
    /// w.
    pub(super) weights: Vec<f64>,
    /// Share of what the rewards vary by that `F w` explains.
    pub(super) r_squared: f64,
}

/// The fit of features `[rows, dim]`, row-major, and rewards `[rows]`; `None` if they are not finite.
pub(super) fn regression(features: &[f32], rewards: &[f32], intercept: bool) -> Option<Fit> {
    let rows = rewards.len();
    let dim = features.len() / rows;
    let (mut means, mut mean_reward) = (vec![0.0_f64; dim], 0.0);
    if intercept {
        for (row, reward) in features.chunks_exact(dim).zip(rewards) {
            means
                .iter_mut()
                .zip(row)
                .for_each(|(mean, x)| *mean += f64::from(*x) / rows as f64);
            mean_reward += f64::from(*reward) / rows as f64;
        }
    }
    let centred: Vec<f32> = features
        .chunks_exact(dim)
        .flat_map(|row| {
            row.iter()
                .zip(&means)
                .map(|(x, mean)| (f64::from(*x) - mean) as f32)
        })
        .collect();
    let mut products = vec![0.0_f64; dim];
    for (row, reward) in centred.chunks_exact(dim).zip(rewards) {
        let reward = f64::from(*reward) - mean_reward;
        for (product, x) in products.iter_mut().zip(row) {
            *product += f64::from(*x) * reward / rows as f64;
        }
    }
    let weights = SecondMoment::of(&centred, dim)?.solve(&products);
    let (mut unexplained, mut all) = (0.0, 0.0);
    for (row, reward) in centred.chunks_exact(dim).zip(rewards) {
        let reward = f64::from(*reward) - mean_reward;
        let found: f64 = row
            .iter()
            .zip(&weights)
            .map(|(x, w)| f64::from(*x) * w)
            .sum();
        unexplained += (reward - found).powi(2);
        all += reward * reward;
    }
    Some(Fit {
        weights,
        r_squared: 1.0 - unexplained / all,
    })
}

/// `vector` with this length; zero stays zero.
pub(super) fn with_norm(vector: &[f64], norm: f64) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = norm / length.max(1e-12);
    vector.iter().map(|x| (x * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], expected: &[f64], tolerance: f64) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < tolerance,
                "{found}, not {expected}"
            );
        }
    }

    #[test]
    fn prompts_match_published_values() {
        let rows: [f32; 18] = [
            1., 0., 0., 0., 1., 0., 0., 0., 1., 1., 1., 0., 0., 1., 1., 1., 0., 1.,
        ];
        let rewards = [1.0, -2.0, 2.0, -1.0, 0.0, 3.0];
        for intercept in [false, true] {
            let fit = regression(&rows, &rewards, intercept).unwrap();
            assert!((fit.r_squared - 1.0).abs() < 1e-6);
            let w = fit.weights;
            near(&w, &[1.0, -2.0, 2.0], 1e-4);
            let z: Vec<f64> = with_norm(&w, 3.0_f64.sqrt())
                .into_iter()
                .map(f64::from)
                .collect();
            near(&z, &[0.577_35, -1.154_701, 1.154_701], 1e-4);
        }
        let shifts = [0.3, -0.3, 0.3, -0.3, 0.3, -0.3];
        let noisy: Vec<f32> = rewards.iter().zip(shifts).map(|(r, s)| r + s).collect();
        let fit = regression(&rows, &noisy, false).unwrap();
        // What is left of the shifts.
        assert!(
            (fit.r_squared - 0.980_600).abs() < 1e-4,
            "{}",
            fit.r_squared
        );
        let w = fit.weights;
        near(&w, &[0.88, -2.12, 2.18], 1e-4);
        let z: Vec<f64> = with_norm(&w, 3.0_f64.sqrt())
            .into_iter()
            .map(f64::from)
            .collect();
        near(&z, &[0.481_486, -1.159_943, 1.192_772], 1e-4);
    }

    #[test]
    fn a_planted_reward_is_found_again() {
        let planted = [1.0, -2.0, 2.0, 0.0];
        let feature = |i: usize| {
            let (a, b) = (0.37 * i as f64, 0.91 * i as f64);
            [a.cos(), a.sin(), b.cos(), b.sin()]
        };
        let reward = |i: usize| {
            feature(i)
                .iter()
                .zip(planted)
                .map(|(f, w)| f * w)
                .sum::<f64>()
        };
        let cosine = |w: &[f64]| {
            let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            w.iter().zip(planted).map(|(a, b)| a * b).sum::<f64>() / (norm(w) * norm(&planted))
        };
        let table = |shift: [f64; 4]| -> Vec<f32> {
            (0..1000)
                .flat_map(|i| {
                    let row = feature(i);
                    (0..4).map(move |k| (row[k] + shift[k]) as f32)
                })
                .collect()
        };
        let plain = table([0.0; 4]);
        let clean: Vec<f32> = (0..1000).map(|i| reward(i) as f32).collect();
        near(
            &regression(&plain, &clean, false).unwrap().weights,
            &planted,
            1e-5,
        );
        let noisy: Vec<f32> = (0..1000)
            .map(|i| (reward(i) + 0.5 * (12.9898 * (i * i) as f64).sin()) as f32)
            .collect();
        assert!(cosine(&regression(&plain, &noisy, false).unwrap().weights) > 0.999);
        // A constant reward leaks into w where there is no intercept.
        let shift = [3.0, 1.0, -2.0, 0.5];
        let shifted = table(shift);
        let of_shift: f64 = shift.iter().zip(planted).map(|(s, w)| s * w).sum();
        let offset: Vec<f32> = clean.iter().map(|r| r + (of_shift + 5.0) as f32).collect();
        let leaked = regression(&shifted, &offset, false).unwrap().weights;
        near(&leaked, &[2.017, -1.661, 1.322, 0.169], 2e-3);
        assert!((cosine(&leaked) - 0.9072).abs() < 1e-3);
        assert!(cosine(&regression(&shifted, &offset, true).unwrap().weights) > 1.0 - 1e-6);
    }

    #[test]
    fn what_is_not_finite_has_no_direction() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(SecondMoment::of(&[1.0, bad, 0.5, 2.0], 2).is_none());
            assert!(regression(&[1.0, bad, 0.5, 2.0], &[0.0, 1.0], true).is_none());
        }
    }

    #[test]
    fn rows_of_a_batch_become_latents() {
        let features: [f32; 8] = [2., 0., 0., 1., 1., 1., -1., 0.];
        let moment = SecondMoment::of(&features, 2).unwrap();
        let expected = [
            [1.264_911, -0.632_456],
            [-0.232_495, 1.394_972],
            [0.277_35, 1.386_75],
            [-1.264_911, 0.632_456],
        ];
        for (row, expected) in features.chunks_exact(2).zip(expected) {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let z: Vec<f64> = with_norm(&moment.solve(&row), 2.0_f64.sqrt())
                .into_iter()
                .map(f64::from)
                .collect();
            near(&z, &expected, 1e-4);
        }
        near(
            &moment
                .inverse()
                .iter()
                .map(|x| f64::from(*x))
                .collect::<Vec<_>>(),
            &[0.727_273, -0.363_636, -0.363_636, 2.181_818],
            1e-4,
        );
    }
}
