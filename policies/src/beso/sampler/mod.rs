//! Samplers: from noise at the first level of a schedule to an action at level 0.
//!
//! A denoiser `D(x, σ)` defines the probability-flow equation `dx/dσ = d(x, σ) = (x − D) / σ`. Every
//! sampler is a way to integrate it, some with fresh noise put back between two levels. One step goes
//! from level `a` to `b`; `τ = −ln σ`, `h = ln(a / b)`.
//!
//! The state is a flat slice in `f64`: actions are a few numbers, so the width costs nothing next to one
//! evaluation of the network, and published reference values hold to nine digits.

mod dpm_solver;
mod multistep;
mod single_step;

use serde::{Deserialize, Serialize};

/// Which sampler. The names are those of the reference release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// First order, deterministic; one evaluation per step.
    Ddim,
    /// `ddim` with optional churn (Karras et al. 2022, algorithm 2 without its correction).
    Euler,
    /// First order to a lower level, then noise.
    EulerAncestral,
    /// Second order, trapezoid (Karras et al. 2022, algorithm 2).
    Heun,
    /// Second order, midpoint in ln σ: DPM-2.
    #[serde(alias = "dpm_2")]
    Dpm,
    /// DPM-2 to a lower level, then noise.
    #[serde(alias = "dpm_2_ancestral")]
    Ancestral,
    /// DPM-Solver++ 2S (Lu et al. 2022).
    #[serde(rename = "dpmpp_2s")]
    Dpmpp2s,
    /// DPM-Solver++ 2S to a lower level, then noise.
    #[serde(rename = "dpmpp_2s_ancestral")]
    Dpmpp2sAncestral,
    /// DPM-Solver++ 2M, multistep; one evaluation per step.
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
    /// DPM-Solver++ SDE, midpoint 1/2.
    DpmppSde,
    /// DPM-Solver++ 2M SDE, multistep; one evaluation per step.
    #[serde(rename = "dpmpp_2m_sde")]
    Dpmpp2mSde,
    /// Linear multistep (Adams–Bashforth in σ); one evaluation per step.
    Lms,
    /// DPM-Solver with a fixed budget of evaluations.
    DpmFast,
    /// DPM-Solver 2(3) with step-size control.
    DpmAdaptive,
}

impl SamplerKind {
    /// Every sampler, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::Ddim,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::Dpm,
        Self::Ancestral,
        Self::Dpmpp2s,
        Self::Dpmpp2sAncestral,
        Self::Dpmpp2m,
        Self::DpmppSde,
        Self::Dpmpp2mSde,
        Self::Lms,
        Self::DpmFast,
        Self::DpmAdaptive,
    ];

    /// Whether the step sizes depend on the state, so that rows of a batch must be sampled one by one.
    pub fn adapts_steps(self) -> bool {
        self == Self::DpmAdaptive
    }
}

/// How DPM-Solver++ 2M SDE uses the previous step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SdeSolver {
    /// Weight `1 − (1 − e^{−k})/k`.
    Heun,
    /// Weight `(1 − e^{−k})/2`.
    Midpoint,
}

/// Settings of the samplers; each uses its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerOptions {
    /// Share of the removed noise that the stochastic samplers put back: 0 none, 1 all.
    pub eta: f64,
    /// Churn of `euler`, `heun` and `dpm`: 0 keeps them deterministic.
    pub s_churn: f64,
    /// Churn only at levels of at least this.
    pub s_tmin: f64,
    /// Churn only at levels of at most this.
    pub s_tmax: f64,
    /// Factor on every noise that is put back.
    pub s_noise: f64,
    /// Order of `lms`, 1 to 4.
    pub lms_order: usize,
    /// Solver of `dpmpp_2m_sde`.
    pub sde_solver: SdeSolver,
    /// Relative tolerance of `dpm_adaptive`.
    pub rtol: f64,
    /// Absolute tolerance of `dpm_adaptive`.
    pub atol: f64,
    /// Whether `dpm_fast` and `dpm_adaptive`, which cannot integrate to level 0, end with one
    /// evaluation that removes the last noise. The reference release leaves it in.
    pub denoise_last: bool,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        // The values of the reference release, except `denoise_last`.
        Self {
            eta: 1.0,
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::INFINITY,
            s_noise: 1.0,
            lms_order: 4,
            sde_solver: SdeSolver::Heun,
            rtol: 0.05,
            atol: 0.0078,
            denoise_last: true,
        }
    }
}

/// What a sampler needs from outside.
pub trait Process {
    /// Writes `D(x, sigma)` to `denoised`; both have the length of the state.
    fn denoise(&mut self, x: &[f64], sigma: f64, denoised: &mut [f64]);

    /// Fills `out`, of the length of the state, with standard normal draws.
    fn noise(&mut self, out: &mut [f64]);

    /// Called with the state at the start and after each step.
    fn observe(&mut self, _sigma: f64, _x: &[f64]) {}
}

/// Why sampling failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A schedule must hold at least two levels.
    #[error("a sampler needs a schedule of at least 2 levels, found {0}")]
    ShortSchedule(usize),
    /// The step-size control of `dpm_adaptive` does not reach the end.
    #[error(
        "dpm_adaptive did not reach sigma {target} in {attempts} attempts, it stopped at {reached}; does the network return NaN?"
    )]
    StepControl {
        /// Attempts made.
        attempts: usize,
        /// Level reached.
        reached: f64,
        /// Level to reach.
        target: f64,
    },
}

/// Integrates `x`, noise at level `sigmas[0]`, along `sigmas`, and returns how often `D` was evaluated.
///
/// `sigmas` descends and usually ends with 0. `x` holds the action at the last level afterwards.
pub fn sample(
    kind: SamplerKind,
    options: &SamplerOptions,
    sigmas: &[f64],
    x: &mut [f64],
    process: &mut dyn Process,
) -> Result<usize, SampleError> {
    if sigmas.len() < 2 {
        return Err(SampleError::ShortSchedule(sigmas.len()));
    }
    let mut run = Run {
        denoised: vec![0.0; x.len()],
        fresh: vec![0.0; x.len()],
        evaluations: 0,
        process,
        options: *options,
    };
    run.process.observe(sigmas[0], x);
    let no_churn = SamplerOptions {
        s_churn: 0.0,
        ..*options
    };
    match kind {
        SamplerKind::Ddim => {
            run.options = no_churn;
            run.euler(sigmas, x);
        }
        SamplerKind::Euler => run.euler(sigmas, x),
        SamplerKind::EulerAncestral => run.euler_ancestral(sigmas, x),
        SamplerKind::Heun => run.heun(sigmas, x),
        SamplerKind::Dpm => run.dpm_2(sigmas, x, false),
        SamplerKind::Ancestral => {
            run.options = no_churn;
            run.dpm_2(sigmas, x, true);
        }
        SamplerKind::Dpmpp2s => run.dpmpp_2s(sigmas, x, false),
        SamplerKind::Dpmpp2sAncestral => run.dpmpp_2s(sigmas, x, true),
        SamplerKind::Dpmpp2m => run.dpmpp_2m(sigmas, x),
        SamplerKind::DpmppSde => run.dpmpp_sde(sigmas, x),
        SamplerKind::Dpmpp2mSde => run.dpmpp_2m_sde(sigmas, x),
        SamplerKind::Lms => run.lms(sigmas, x),
        SamplerKind::DpmFast => run.dpm_fast(sigmas, x),
        SamplerKind::DpmAdaptive => run.dpm_adaptive(sigmas, x)?,
    }
    Ok(run.evaluations)
}

/// Splits a step from level `from` to `to` into a deterministic part down to `.0` and fresh noise of
/// standard deviation `.1`, with `.0² + .1² = to²`. For `eta = 1` the first is `to² / from`.
pub fn ancestral_split(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let up = to.min(
        eta * (to * to * (from * from - to * to) / (from * from))
            .max(0.0)
            .sqrt(),
    );
    ((to * to - up * up).max(0.0).sqrt(), up)
}

/// One run of a sampler: its outside and its scratch space.
struct Run<'a> {
    process: &'a mut dyn Process,
    options: SamplerOptions,
    evaluations: usize,
    /// Last value of `D`.
    denoised: Vec<f64>,
    /// Last noise.
    fresh: Vec<f64>,
}

impl Run<'_> {
    /// Evaluates `D(x, sigma)` into `self.denoised`.
    fn evaluate(&mut self, x: &[f64], sigma: f64) {
        self.evaluations += 1;
        self.process.denoise(x, sigma, &mut self.denoised);
    }

    /// `x += scale · noise`, with fresh noise; draws nothing for scale 0.
    fn add_noise(&mut self, x: &mut [f64], scale: f64) {
        if scale > 0.0 {
            self.process.noise(&mut self.fresh);
            let scale = scale * self.options.s_noise;
            x.iter_mut()
                .zip(&self.fresh)
                .for_each(|(x, n)| *x += scale * n);
        }
    }

    /// Raises the noise of `x` from level `sigma` by the churn of one of `steps` steps; returns the new level.
    fn churn(&mut self, x: &mut [f64], sigma: f64, steps: usize) -> f64 {
        let gamma = churn_factor(&self.options, sigma, steps);
        let raised = sigma * (1.0 + gamma);
        self.add_noise(x, (raised * raised - sigma * sigma).max(0.0).sqrt());
        raised
    }
}

/// The relative rise γ of the level by churn: `min(s_churn / steps, √2 − 1)` inside `[s_tmin, s_tmax]`.
fn churn_factor(options: &SamplerOptions, sigma: f64, steps: usize) -> f64 {
    if (options.s_tmin..=options.s_tmax).contains(&sigma) {
        (options.s_churn / steps as f64).min(std::f64::consts::SQRT_2 - 1.0)
    } else {
        0.0
    }
}

/// `x ← (to / from) x + (1 − to / from) D`: the exact solution for a constant `D`, and Euler's step in σ.
fn towards(x: &mut [f64], denoised: &[f64], from: f64, to: f64) {
    let keep = to / from;
    x.iter_mut()
        .zip(denoised)
        .for_each(|(x, d)| *x = keep * *x + (1.0 - keep) * d);
}

#[cfg(test)]
mod tests;
