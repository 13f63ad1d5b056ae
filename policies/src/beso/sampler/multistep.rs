//! Samplers that reuse earlier evaluations: DPM-Solver++ 2M, its SDE form, and linear multistep.

use super::{Run, SdeSolver, towards};

impl Run<'_> {
    /// `D_e = (1 + 1/(2r)) D − D_prev / (2r)` with `r = h_prev / h`, then the DDIM step with `D_e`. The first
    /// step has no history and the last none that helps: both are DDIM steps.
    pub(super) fn dpmpp_2m(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let mut previous: Option<(Vec<f64>, f64)> = None;
        let mut blended = vec![0.0; x.len()];
        for pair in sigmas.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            self.evaluate(x, from);
            let h = (from / to).ln();
            match &previous {
                Some((earlier, h_previous)) if to > 0.0 => {
                    let half = 0.5 * h / h_previous;
                    for i in 0..x.len() {
                        blended[i] = (1.0 + half) * self.denoised[i] - half * earlier[i];
                    }
                    towards(x, &blended, from, to);
                }
                _ => towards(x, &self.denoised, from, to),
            }
            remember(&mut previous, &self.denoised, h);
            self.process.observe(to, x);
        }
    }

    /// With `k = (1 + η) h`: `x ← (b/a) e^{−ηh} x + (1 − e^{−k}) D + c (D − D_prev) h / h_prev + b √(1 − e^{−2ηh}) w`,
    /// where `c` is `1 − (1 − e^{−k})/k` (heun) or `(1 − e^{−k})/2` (midpoint).
    pub(super) fn dpmpp_2m_sde(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let mut previous: Option<(Vec<f64>, f64)> = None;
        for pair in sigmas.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            self.evaluate(x, from);
            let h = (from / to).ln();
            if to == 0.0 {
                towards(x, &self.denoised, from, to);
            } else {
                let eta_h = self.options.eta * h;
                let k = h + eta_h;
                let gain = -(-k).exp_m1();
                let keep = to / from * (-eta_h).exp();
                let correction = match (&previous, self.options.sde_solver) {
                    (None, _) => 0.0,
                    (Some((_, h_previous)), SdeSolver::Heun) => (1.0 - gain / k) * h / h_previous,
                    (Some((_, h_previous)), SdeSolver::Midpoint) => 0.5 * gain * h / h_previous,
                };
                for i in 0..x.len() {
                    let change = previous
                        .as_ref()
                        .map_or(0.0, |(earlier, _)| self.denoised[i] - earlier[i]);
                    x[i] = keep * x[i] + gain * self.denoised[i] + correction * change;
                }
                self.add_noise(x, to * (-(-2.0 * eta_h).exp_m1()).sqrt());
            }
            remember(&mut previous, &self.denoised, h);
            self.process.observe(to, x);
        }
    }

    /// Adams–Bashforth in σ: `x ← x + Σ_j c_j d_{i−j}` with the coefficients of [`lms_coefficients`].
    pub(super) fn lms(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let order = self.options.lms_order.clamp(1, 4);
        let mut slopes: Vec<Vec<f64>> = Vec::with_capacity(order);
        for (i, pair) in sigmas.windows(2).enumerate() {
            self.evaluate(x, pair[0]);
            let mut slope = if slopes.len() == order {
                slopes.remove(order - 1)
            } else {
                vec![0.0; x.len()]
            };
            for (s, (x, d)) in slope.iter_mut().zip(x.iter().zip(&self.denoised)) {
                *s = (x - d) / pair[0];
            }
            slopes.insert(0, slope);
            let coefficients = lms_coefficients(sigmas, i, order);
            for (slope, c) in slopes.iter().zip(coefficients) {
                x.iter_mut().zip(slope).for_each(|(x, s)| *x += c * s);
            }
            self.process.observe(pair[1], x);
        }
    }
}

fn remember(previous: &mut Option<(Vec<f64>, f64)>, denoised: &[f64], h: f64) {
    match previous {
        Some((values, step)) => {
            values.copy_from_slice(denoised);
            *step = h;
        }
        None => *previous = Some((denoised.to_vec(), h)),
    }
}

/// Weights of the last `min(i + 1, order)` slopes, newest first: the integrals over `[σ_i, σ_{i+1}]` of the
/// Lagrange basis through their levels. They sum to `σ_{i+1} − σ_i`.
pub(super) fn lms_coefficients(sigmas: &[f64], i: usize, order: usize) -> Vec<f64> {
    // Gauss–Legendre with two nodes is exact for the cubics of order 4.
    let (low, high) = (sigmas[i], sigmas[i + 1]);
    let (centre, half) = (0.5 * (low + high), 0.5 * (high - low));
    let nodes = [
        centre - half / 3.0_f64.sqrt(),
        centre + half / 3.0_f64.sqrt(),
    ];
    let used = order.min(i + 1);
    (0..used)
        .map(|j| {
            let basis = |sigma: f64| {
                (0..used)
                    .filter(|&k| k != j)
                    .map(|k| (sigma - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k]))
                    .product::<f64>()
            };
            half * (basis(nodes[0]) + basis(nodes[1]))
        })
        .collect()
}
