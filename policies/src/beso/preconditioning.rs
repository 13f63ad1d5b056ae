//! Preconditioning of the denoiser: Karras et al. 2022 (EDM), Table 1, last column.
//!
//! With `q = σ² + σ_data²` the denoiser is `D(x, σ) = c_skip x + c_out F(c_in x, σ)`, where
//!
//! ```text
//! c_skip = σ_data² / q     c_out = σ σ_data / √q     c_in = 1 / √q     c_noise = ln(σ) / 4
//! ```
//!
//! The network `F` is trained on `T = (a − c_skip x) / c_out` with `x = a + σ n`, which is the
//! denoising loss weighted by `1 / c_out²`. If the data has standard deviation `σ_data`,
//! `E[T²] = 1` at every σ: a training run that logs `E[T²]` far from 1 has a badly chosen `σ_data`.

/// The four scalings at one noise level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalings {
    /// Weight of the noisy input in the denoised output.
    pub skip: f64,
    /// Weight of the network in the denoised output.
    pub out: f64,
    /// Factor on the network's input, which gives it unit variance.
    pub input: f64,
    /// What the network is told about the noise level.
    pub noise: f64,
}

/// Preconditioning with one `σ_data` for all action entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preconditioning {
    /// Standard deviation of the (normalised) actions, `> 0`.
    pub sigma_data: f64,
}

impl Preconditioning {
    /// The scalings at noise level `sigma > 0`.
    pub fn scalings(self, sigma: f64) -> Scalings {
        let q = sigma * sigma + self.sigma_data * self.sigma_data;
        Scalings {
            skip: self.sigma_data * self.sigma_data / q,
            out: sigma * self.sigma_data / q.sqrt(),
            input: 1.0 / q.sqrt(),
            noise: sigma.ln() / 4.0,
        }
    }

    /// One training sample of one entry: the noisy action `x` and the target `T` of the network.
    pub fn noised(self, action: f64, noise: f64, sigma: f64) -> (f64, f64) {
        let scalings = self.scalings(sigma);
        let noisy = action + sigma * noise;
        (noisy, (action - scalings.skip * noisy) / scalings.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDM: Preconditioning = Preconditioning { sigma_data: 0.5 };

    fn close(found: f64, expected: f64, relative: f64) {
        assert!(
            (found - expected).abs() <= relative * expected.abs().max(1e-12),
            "found {found}, expected {expected}"
        );
    }

    /// G1.
    #[test]
    fn scalings_match_the_table() {
        for (sigma, skip, out, input, noise) in [
            (
                0.005,
                0.999_900_01,
                0.004_999_75,
                1.999_900_01,
                -1.324_579_34,
            ),
            (
                0.01,
                0.999_600_16,
                0.009_998_00,
                1.999_600_12,
                -1.151_292_55,
            ),
            (
                0.05,
                0.990_099_01,
                0.049_751_86,
                1.990_074_38,
                -0.748_933_07,
            ),
            (0.1, 0.961_538_46, 0.098_058_07, 1.961_161_35, -0.575_646_27),
            (0.5, 0.5, 0.353_553_39, 1.414_213_56, -0.173_286_80),
            (1.0, 0.2, 0.447_213_60, 0.894_427_19, 0.0),
        ] {
            let found = EDM.scalings(sigma);
            close(found.skip, skip, 1e-6);
            close(found.out, out, 1e-6);
            close(found.input, input, 1e-6);
            close(found.noise, noise, 1e-6);
        }
        for (sigma, weight) in [(0.01, 10004.0), (0.1, 104.0), (1.0, 5.0)] {
            close(EDM.scalings(sigma).out.powi(-2), weight, 1e-12);
        }
    }

    /// G1, identities.
    #[test]
    fn scalings_obey_the_variance_identities() {
        for sigma in [1e-3, 0.02, 0.3, 0.5, 1.0, 7.0, 80.0] {
            let s = EDM.scalings(sigma);
            let data = EDM.sigma_data;
            close(
                s.skip.powi(2) * sigma * sigma + (1.0 - s.skip).powi(2) * data * data,
                s.out.powi(2),
                1e-12,
            );
            close(s.input.powi(2) * (data * data + sigma * sigma), 1.0, 1e-12);
        }
    }

    /// G2.
    #[test]
    fn targets_match_hand_computed_samples() {
        for (action, noise, sigma, noisy, input, target, loss) in [
            (
                0.3,
                -0.7,
                0.1,
                0.23,
                0.451_067_11,
                0.804_076_15,
                0.646_538_46,
            ),
            (0.3, -0.7, 1.0, -0.4, -0.357_770_88, 0.849_705_83, 0.722),
            (
                -0.8,
                1.2,
                0.05,
                -0.74,
                -1.472_655_04,
                -1.353_250_58,
                1.831_287_71,
            ),
        ] {
            let (x, t) = EDM.noised(action, noise, sigma);
            close(x, noisy, 1e-9);
            close(EDM.scalings(sigma).input * x, input, 1e-6);
            close(t, target, 1e-6);
            close(t * t, loss, 1e-6);
        }
    }

    /// G2: on data N(0, σ_data²) the zero network has expected loss 1 at every σ.
    #[test]
    fn target_has_unit_variance_when_sigma_data_fits() {
        for sigma in [0.005, 0.1, 0.5, 1.0, 20.0] {
            // T is linear in (a, n): its variance is the sum of the squared responses.
            let unit_action = EDM.noised(EDM.sigma_data, 0.0, sigma).1;
            let unit_noise = EDM.noised(0.0, 1.0, sigma).1;
            close(unit_action.powi(2) + unit_noise.powi(2), 1.0, 1e-12);
        }
    }
}
