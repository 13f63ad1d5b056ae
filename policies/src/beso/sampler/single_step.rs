//! Samplers that use one step at a time: Euler, Heun, DPM-2, DPM-Solver++ 2S and SDE.

use super::{Run, ancestral_split, towards};

impl Run<'_> {
    /// `x ← x + (b − a) d(x, a)`, which is the DDIM step; `a` is raised by churn first.
    pub(super) fn euler(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let steps = sigmas.len() - 1;
        for pair in sigmas.windows(2) {
            let from = self.churn(x, pair[0], steps);
            self.evaluate(x, from);
            towards(x, &self.denoised, from, pair[1]);
            self.process.observe(pair[1], x);
        }
    }

    /// Euler down to the deterministic level of the split, then its noise.
    pub(super) fn euler_ancestral(&mut self, sigmas: &[f64], x: &mut [f64]) {
        for pair in sigmas.windows(2) {
            let (down, up) = ancestral_split(pair[0], pair[1], self.options.eta);
            self.evaluate(x, pair[0]);
            towards(x, &self.denoised, pair[0], down);
            self.add_noise(x, up);
            self.process.observe(pair[1], x);
        }
    }

    /// Trapezoid: `x ← x + (b − a) (d(x, a) + d(x₂, b)) / 2` with Euler's `x₂`.
    pub(super) fn heun(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let steps = sigmas.len() - 1;
        let mut slope = vec![0.0; x.len()];
        let mut predicted = vec![0.0; x.len()];
        for pair in sigmas.windows(2) {
            let from = self.churn(x, pair[0], steps);
            let to = pair[1];
            self.evaluate(x, from);
            if to == 0.0 {
                towards(x, &self.denoised, from, to);
            } else {
                for i in 0..x.len() {
                    slope[i] = (x[i] - self.denoised[i]) / from;
                    predicted[i] = x[i] + (to - from) * slope[i];
                }
                self.evaluate(&predicted, to);
                for i in 0..x.len() {
                    let end = (predicted[i] - self.denoised[i]) / to;
                    x[i] += (to - from) * 0.5 * (slope[i] + end);
                }
            }
            self.process.observe(to, x);
        }
    }

    /// Midpoint in ln σ: `m = √(a b)`, `x₂ = x + (m − a) d(x, a)`, `x ← x + (b − a) d(x₂, m)`.
    /// The ancestral form goes to the deterministic level of the split and adds its noise.
    pub(super) fn dpm_2(&mut self, sigmas: &[f64], x: &mut [f64], ancestral: bool) {
        let steps = sigmas.len() - 1;
        let mut middle = vec![0.0; x.len()];
        for pair in sigmas.windows(2) {
            let from = self.churn(x, pair[0], steps);
            let (to, up) = self.target(from, pair[1], ancestral);
            self.evaluate(x, from);
            if to == 0.0 {
                towards(x, &self.denoised, from, to);
            } else {
                let sigma = (from * to).sqrt();
                middle.copy_from_slice(x);
                towards(&mut middle, &self.denoised, from, sigma);
                self.evaluate(&middle, sigma);
                for i in 0..x.len() {
                    x[i] += (to - from) * (middle[i] - self.denoised[i]) / sigma;
                }
            }
            self.add_noise(x, up);
            self.process.observe(pair[1], x);
        }
    }

    /// `m = √(a b)`, `x₂ = (m/a) x + (1 − m/a) D(x, a)`, `x ← (b/a) x + (1 − b/a) D(x₂, m)`.
    pub(super) fn dpmpp_2s(&mut self, sigmas: &[f64], x: &mut [f64], ancestral: bool) {
        let mut middle = vec![0.0; x.len()];
        for pair in sigmas.windows(2) {
            let (to, up) = self.target(pair[0], pair[1], ancestral);
            self.evaluate(x, pair[0]);
            if to > 0.0 {
                let sigma = (pair[0] * to).sqrt();
                middle.copy_from_slice(x);
                towards(&mut middle, &self.denoised, pair[0], sigma);
                self.evaluate(&middle, sigma);
            }
            towards(x, &self.denoised, pair[0], to);
            self.add_noise(x, up);
            self.process.observe(pair[1], x);
        }
    }

    /// As `dpmpp_2s_ancestral`, with noise at the midpoint too. The noises of midpoint and end come from one
    /// Brownian path in σ: `w₁ = z₁`, `w₂ = (√(a − m) z₁ + √(m − b) z₂) / √(a − b)`.
    pub(super) fn dpmpp_sde(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let mut middle = vec![0.0; x.len()];
        let mut path = vec![0.0; x.len()];
        for pair in sigmas.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            self.evaluate(x, from);
            if to == 0.0 {
                towards(x, &self.denoised, from, to);
            } else {
                let eta = self.options.eta;
                let s_noise = self.options.s_noise;
                let sigma = (from * to).sqrt();
                let (down, up) = ancestral_split(from, sigma, eta);
                middle.copy_from_slice(x);
                towards(&mut middle, &self.denoised, from, down);
                self.process.noise(&mut self.fresh);
                for i in 0..x.len() {
                    middle[i] += up * s_noise * self.fresh[i];
                    path[i] = (from - sigma).sqrt() * self.fresh[i];
                }
                self.evaluate(&middle, sigma);
                let (down, up) = ancestral_split(from, to, eta);
                towards(x, &self.denoised, from, down);
                self.process.noise(&mut self.fresh);
                for i in 0..x.len() {
                    path[i] += (sigma - to).sqrt() * self.fresh[i];
                    x[i] += up * s_noise * path[i] / (from - to).sqrt();
                }
            }
            self.process.observe(to, x);
        }
    }

    /// Where a step from `from` to `to` goes without noise, and the noise that follows.
    fn target(&self, from: f64, to: f64, ancestral: bool) -> (f64, f64) {
        if ancestral {
            ancestral_split(from, to, self.options.eta)
        } else {
            (to, 0.0)
        }
    }
}
