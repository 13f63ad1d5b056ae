//! Geometric distances to a goal ahead.

use std::sync::Arc;

/// Equal parts of [0, 1) that a uniform number is looked up in.
const PARTS: usize = 4096;

/// k ≥ 1 with P(k) = γ^(k−1) (1 − γ), by inversion: k is ln(1 − u) / ln γ rounded up, and at least 1, for a uniform u.
///
/// Most parts of [0, 1) have one k only. It is kept for them, so that a logarithm is taken for the others alone; the result is the same.
#[derive(Clone, Debug)]
pub(crate) struct Geometric {
    /// 1 / ln γ.
    inverse_log_discount: f64,
    /// k of each part, 0 where it has several.
    parts: Arc<[u16]>,
}

impl Geometric {
    /// For a discount γ in 0..1.
    pub(crate) fn new(discount: f64) -> Self {
        // Far more than a logarithm may be wrong by, so that no number of a part can be on the other side.
        const MARGIN: f64 = 1e-9;
        let inverse_log_discount = 1.0 / libm::log(discount);
        let steps =
            |part: usize| libm::log(1.0 - part as f64 / PARTS as f64) * inverse_log_discount;
        let parts = (0..PARTS).map(|part| {
            let (least, most) = (steps(part), steps(part + 1));
            let k = least.ceil().max(1.0);
            let one = (k == 1.0 || least > k - 1.0 + MARGIN) && most < k - MARGIN;
            if one && k <= f64::from(u16::MAX) {
                k as u16
            } else {
                0
            }
        });
        Self {
            inverse_log_discount,
            parts: parts.collect(),
        }
    }

    /// k for a `u` in 0..1, cut off at `most`.
    pub(crate) fn steps(&self, u: f64, most: usize) -> usize {
        match self.parts[(u * PARTS as f64) as usize] {
            0 => self.computed(u).min(most as f64) as usize,
            k => usize::from(k).min(most),
        }
    }

    /// 1 − u is uniform in (0, 1], and P(ln(1 − u) / ln γ > k) = γ^k.
    fn computed(&self, u: f64) -> f64 {
        (libm::log(1.0 - u) * self.inverse_log_discount)
            .ceil()
            .max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::RngExt;
    use telic_seed::Seed;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_is_computed(discount in 0.0..1.0_f64, power in 0_i32..5, seed: u64) {
            let discount = 1.0 - (1.0 - discount) * 0.1_f64.powi(power);
            let geometric = Geometric::new(discount.min(0.999_999));
            let mut rng = Seed::new(seed).rng();
            for draw in 0..4000 {
                // Every other one at the edge of a part, where it matters most.
                let mut u: f64 = rng.random();
                if draw % 2 == 0 {
                    u = (u * PARTS as f64).floor() / PARTS as f64;
                }
                let most = rng.random_range(0..2000);
                prop_assert_eq!(geometric.steps(u, most), geometric.computed(u).min(most as f64) as usize);
            }
        }
    }

    #[test]
    fn most_draws_take_no_logarithm() {
        for (discount, share) in [(0.99, 0.85), (0.995, 0.75), (0.9, 0.95)] {
            let geometric = Geometric::new(discount);
            let kept = geometric.parts.iter().filter(|&&k| k > 0).count();
            assert!(kept as f64 > share * PARTS as f64, "{discount}: {kept}");
        }
    }
}
