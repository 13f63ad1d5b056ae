//! DPM-Solver (Lu et al. 2022): exponential integrators of order 1 to 3 in `τ = −ln σ`.
//!
//! With `ε(x, τ) = (x − D) / σ`, a step from `t` to `t + h`, `s' = σ(t + h)`, `φ(z) = e^z − 1`:
//!
//! ```text
//! order 1   x − s' φ(h) ε₀
//! order 2   u₁ = x − σ(t + r h) φ(r h) ε₀;  x − s' φ(h) ε₀ − s'/(2r) φ(h) (ε₁ − ε₀)
//! order 3   u₁ with r₁ = 1/3;  u₂ = x − s₂ φ(r₂h) ε₀ − s₂ (r₂/r₁) (φ(r₂h)/(r₂h) − 1) (ε₁ − ε₀), r₂ = 2/3
//!           x − s' φ(h) ε₀ − s'/r₂ (φ(h)/h − 1) (ε₂ − ε₀)
//! ```

use super::{Run, SampleError, towards};

const R1: f64 = 1.0 / 3.0;
const R2: f64 = 2.0 / 3.0;

impl Run<'_> {
    /// Spends a budget of evaluations on steps of order 3, with lower orders at the end.
    pub(super) fn dpm_fast(&mut self, sigmas: &[f64], x: &mut [f64]) {
        let steps = sigmas.len() - 1;
        let (first, last) = (sigmas[0], sigmas[steps - 1]);
        // `steps + 1` evaluations in all, one of them the last denoising.
        let budget = if self.options.denoise_last {
            steps
        } else {
            steps + 1
        };
        if last < first {
            self.dpm_fast_budget(first, last, budget, x);
        }
        self.denoise_last(last, x);
    }

    /// `budget` evaluations from level `first` down to `last`.
    pub(super) fn dpm_fast_budget(&mut self, first: f64, last: f64, budget: usize, x: &mut [f64]) {
        let segments = budget / 3 + 1;
        let mut orders =
            vec![3; segments.saturating_sub(if budget.is_multiple_of(3) { 2 } else { 1 })];
        if budget.is_multiple_of(3) {
            orders.extend([2, 1]);
        } else {
            orders.push(budget % 3);
        }
        let (start, end) = (-first.ln(), -last.ln());
        let time = |i: usize| start + (end - start) * i as f64 / segments as f64;
        for (i, order) in orders.into_iter().enumerate() {
            let (t, h) = (time(i), time(i + 1) - time(i));
            let e0 = self.slope(x, t);
            match order {
                1 => order_1(x, &e0, t, h),
                2 => {
                    let e1 = self.slope_at_fraction(x, &e0, t, h, 0.5);
                    order_2(x, &e0, &e1, t, h, 0.5);
                }
                _ => {
                    let e1 = self.slope_at_fraction(x, &e0, t, h, R1);
                    self.order_3(x, &e0, &e1, t, h);
                }
            }
            self.process.observe((-(t + h)).exp(), x);
        }
    }

    /// Order 3 with the embedded order 2 as error estimate, and a PID control of the step (Söderlind 2003).
    pub(super) fn dpm_adaptive(
        &mut self,
        sigmas: &[f64],
        x: &mut [f64],
    ) -> Result<(), SampleError> {
        // Coefficients P = 0, I = 1, D = 0 and first step 0.05 of the reference release.
        const ORDER: f64 = 3.0;
        const ACCEPT: f64 = 0.81;
        const MAX_ATTEMPTS: usize = 1000;
        let last = sigmas[sigmas.len() - 2];
        let (mut t, end) = (-sigmas[0].ln(), -last.ln());
        let mut h_next = 0.05_f64;
        let mut previous = x.to_vec();
        let mut attempts = 0;
        while t < end - 1e-5 {
            if attempts == MAX_ATTEMPTS {
                return Err(SampleError::StepControl {
                    attempts,
                    reached: (-t).exp(),
                    target: last,
                });
            }
            attempts += 1;
            let h = h_next.min(end - t);
            let e0 = self.slope(x, t);
            let e1 = self.slope_at_fraction(x, &e0, t, h, R1);
            let mut low = x.to_vec();
            order_2(&mut low, &e0, &e1, t, h, R1);
            let mut high = x.to_vec();
            self.order_3(&mut high, &e0, &e1, t, h);
            let mean_square = low
                .iter()
                .zip(&high)
                .zip(&previous)
                .map(|((low, high), previous)| {
                    let scale = self
                        .options
                        .atol
                        .max(self.options.rtol * low.abs().max(previous.abs()));
                    ((low - high) / scale).powi(2)
                })
                .sum::<f64>()
                / x.len().max(1) as f64;
            // Only the integral term: the factor is e^(1/order), limited by 1 + atan(· − 1).
            let inverse_error = 1.0 / (mean_square.sqrt() + 1e-8);
            let factor = 1.0 + (inverse_error.powf(1.0 / ORDER) - 1.0).atan();
            if factor >= ACCEPT {
                previous = low;
                x.copy_from_slice(&high);
                t += h;
                self.process.observe((-t).exp(), x);
            }
            h_next *= factor;
        }
        self.denoise_last(last, x);
        Ok(())
    }

    fn denoise_last(&mut self, last: f64, x: &mut [f64]) {
        if self.options.denoise_last {
            self.evaluate(x, last);
            towards(x, &self.denoised, last, 0.0);
            self.process.observe(0.0, x);
        }
    }

    /// `ε(x, t)`.
    fn slope(&mut self, x: &[f64], t: f64) -> Vec<f64> {
        let sigma = (-t).exp();
        self.evaluate(x, sigma);
        x.iter()
            .zip(&self.denoised)
            .map(|(x, d)| (x - d) / sigma)
            .collect()
    }

    /// `ε₁`, at the first-order prediction for the fraction `r` of the step.
    fn slope_at_fraction(&mut self, x: &[f64], e0: &[f64], t: f64, h: f64, r: f64) -> Vec<f64> {
        let mut u = x.to_vec();
        order_1(&mut u, e0, t, r * h);
        self.slope(&u, t + r * h)
    }

    fn order_3(&mut self, x: &mut [f64], e0: &[f64], e1: &[f64], t: f64, h: f64) {
        let (s2, z2) = ((-(t + R2 * h)).exp(), R2 * h);
        let bend = R2 / R1 * (z2.exp_m1() / z2 - 1.0);
        let u: Vec<f64> = x
            .iter()
            .zip(e0.iter().zip(e1))
            .map(|(x, (e0, e1))| x - s2 * z2.exp_m1() * e0 - s2 * bend * (e1 - e0))
            .collect();
        let e2 = self.slope(&u, t + z2);
        let s = (-(t + h)).exp();
        let bend = (h.exp_m1() / h - 1.0) / R2;
        for (x, (e0, e2)) in x.iter_mut().zip(e0.iter().zip(&e2)) {
            *x -= s * h.exp_m1() * e0 + s * bend * (e2 - e0);
        }
    }
}

fn order_1(x: &mut [f64], e0: &[f64], t: f64, h: f64) {
    let scale = (-(t + h)).exp() * h.exp_m1();
    x.iter_mut().zip(e0).for_each(|(x, e)| *x -= scale * e);
}

fn order_2(x: &mut [f64], e0: &[f64], e1: &[f64], t: f64, h: f64, r: f64) {
    let scale = (-(t + h)).exp() * h.exp_m1();
    for (x, (e0, e1)) in x.iter_mut().zip(e0.iter().zip(e1)) {
        *x -= scale * e0 + scale / (2.0 * r) * (e1 - e0);
    }
}
