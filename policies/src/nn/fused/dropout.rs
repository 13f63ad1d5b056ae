//! Dropout whose mask is a function of a seed and a position, so that it needs no memory and no generator of the backend.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use telic_seed::Rng;

/// Zeroes entries with some probability and scales the others, so that the expectation stays (Srivastava et al. 2014).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    seed: u64,
    /// Entries whose hash is below this are dropped: `probability · 2³²`.
    threshold: u32,
    /// `1 / (1 − probability)`.
    scale: f32,
}

impl Dropout {
    /// A mask drawn from `rng`; `None`, and nothing drawn, for probability 0. `probability` is below 1.
    pub fn draw(probability: f32, rng: &mut Rng) -> Option<Self> {
        (probability > 0.0).then(|| Self {
            seed: rng.random(),
            threshold: (f64::from(probability) * 4_294_967_296.0) as u32,
            scale: 1.0 / (1.0 - probability),
        })
    }

    /// Factor of the entry at `index`: 0 or `1 / (1 − probability)`.
    #[inline(always)]
    pub fn factor(self, index: usize) -> f32 {
        // Two rounds of the 32-bit finaliser `lowbias32` of C. Wellons, one per half of the seed.
        let hash = mix(mix(index as u32 ^ self.seed as u32) ^ (self.seed >> 32) as u32);
        if hash < self.threshold {
            0.0
        } else {
            self.scale
        }
    }

    /// The mask of a tensor of this shape, for backends without a kernel.
    pub fn mask<B: Backend, const D: usize>(
        self,
        shape: [usize; D],
        device: &B::Device,
    ) -> Tensor<B, D> {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|i| self.factor(i))
            .collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = x ^ (x >> 16);
    let x = x.wrapping_mul(0x7feb_352d);
    let x = x ^ (x >> 15);
    let x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use telic_seed::Seed;

    use super::*;

    #[test]
    fn the_mask_keeps_the_expectation_and_changes_with_the_seed() {
        let mut rng = Seed::new(5).rng();
        let (first, second) = (
            Dropout::draw(0.3, &mut rng).unwrap(),
            Dropout::draw(0.3, &mut rng).unwrap(),
        );
        let n = 200_000;
        let mean = (0..n).map(|i| f64::from(first.factor(i))).sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let both = (0..n)
            .filter(|&i| first.factor(i) == 0.0 && second.factor(i) == 0.0)
            .count() as f64
            / n as f64;
        assert!((both - 0.09).abs() < 0.005, "dropped by both: {both}");
        let neighbours = (1..n)
            .filter(|&i| first.factor(i) == 0.0 && first.factor(i - 1) == 0.0)
            .count() as f64
            / n as f64;
        assert!(
            (neighbours - 0.09).abs() < 0.005,
            "dropped in a row: {neighbours}"
        );
        assert_eq!(Dropout::draw(0.0, &mut rng), None);
    }
}
