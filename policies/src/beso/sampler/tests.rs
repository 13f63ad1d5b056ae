//! Golden checks on denoisers with known solutions.

use super::multistep::lms_coefficients;
use super::*;
use crate::beso::preconditioning::Preconditioning;
use crate::beso::schedule::{Schedule, ScheduleKind};

/// A denoiser from a function, with scripted noise: draw `impulse` is 1, every other 0.
struct Toy<F> {
    denoiser: F,
    impulse: Option<usize>,
    draws: usize,
    trace: Vec<(f64, f64)>,
}

impl<F: Fn(f64, f64) -> f64> Process for Toy<F> {
    fn denoise(&mut self, x: &[f64], sigma: f64, denoised: &mut [f64]) {
        for (d, x) in denoised.iter_mut().zip(x) {
            *d = (self.denoiser)(*x, sigma);
        }
    }

    fn noise(&mut self, out: &mut [f64]) {
        out.fill(f64::from(u8::from(self.impulse == Some(self.draws))));
        self.draws += 1;
    }

    fn observe(&mut self, sigma: f64, x: &[f64]) {
        self.trace.push((sigma, x[0]));
    }
}

fn toy<F: Fn(f64, f64) -> f64>(denoiser: F) -> Toy<F> {
    Toy {
        denoiser,
        impulse: None,
        draws: 0,
        trace: Vec::new(),
    }
}

/// Data N(0.2, 0.3²).
fn gaussian(x: f64, sigma: f64) -> f64 {
    (0.09 * x + 0.2 * sigma * sigma) / (0.09 + sigma * sigma)
}

/// The zero network with `σ_data = 0.5`.
fn zero_network(x: f64, sigma: f64) -> f64 {
    Preconditioning { sigma_data: 0.5 }.scalings(sigma).skip * x
}

fn levels(kind: ScheduleKind, sigma_min: f64, steps: usize) -> Vec<f64> {
    Schedule {
        kind,
        rho: 5.0,
        sigma_min,
        sigma_max: 1.0,
    }
    .sigmas(steps)
    .unwrap()
}

fn run(
    kind: SamplerKind,
    sigmas: &[f64],
    start: f64,
    denoiser: fn(f64, f64) -> f64,
) -> (f64, usize) {
    let mut x = [start];
    let evaluations = sample(
        kind,
        &SamplerOptions::default(),
        sigmas,
        &mut x,
        &mut toy(denoiser),
    )
    .unwrap();
    (x[0], evaluations)
}

fn close(found: f64, expected: f64, tolerance: f64, place: &str) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{place}: found {found:.10}, expected {expected:.10}"
    );
}

/// G5.
#[test]
fn ancestral_split_matches_the_table() {
    for (from, to, up, down) in [
        (1.0, 0.5, 0.433_012_70, 0.25),
        (1.0, 0.5025, 0.434_450_05, 0.252_506_25),
        (0.5025, 0.005, 0.004_999_75, 4.975_124e-5),
    ] {
        let (found_down, found_up) = ancestral_split(from, to, 1.0);
        close(found_up, up, 1e-8, "up");
        close(found_down, down, 1e-6 * down + 1e-12, "down");
        close(
            found_up.powi(2) + found_down.powi(2),
            to * to,
            1e-14,
            "sum of squares",
        );
    }
    assert_eq!(ancestral_split(1.0, 0.5, 0.0), (0.5, 0.0));
    assert_eq!(ancestral_split(1.0, 0.0, 1.0), (0.0, 0.0));
}

/// G6.
#[test]
fn gaussian_toy_matches_the_table() {
    use SamplerKind::*;
    for (kind, exp3, exp10, linear3, karras3, evaluations) in [
        (
            Ddim,
            0.312_152_57,
            0.400_770_06,
            0.317_425_70,
            0.339_229_08,
            3,
        ),
        (
            Euler,
            0.312_152_57,
            0.400_770_06,
            0.317_425_70,
            0.339_229_08,
            3,
        ),
        (
            Heun,
            0.607_117_42,
            0.439_343_20,
            0.489_524_75,
            0.557_804_05,
            5,
        ),
        (
            Dpm,
            0.592_994_42,
            0.434_906_61,
            0.610_010_10,
            0.513_291_88,
            5,
        ),
        (
            Dpmpp2s,
            0.384_875_68,
            0.425_805_81,
            0.348_967_48,
            0.393_428_47,
            5,
        ),
        (
            Dpmpp2m,
            0.333_376_15,
            0.432_089_71,
            0.477_270_91,
            0.397_584_70,
            3,
        ),
        (
            Lms,
            0.313_669_28,
            0.417_229_74,
            0.341_308_43,
            0.344_629_91,
            3,
        ),
    ] {
        for (schedule, steps, expected) in [
            (ScheduleKind::Exponential, 3, exp3),
            (ScheduleKind::Exponential, 10, exp10),
            (ScheduleKind::Linear, 3, linear3),
            (ScheduleKind::Karras, 3, karras3),
        ] {
            let (x, found) = run(kind, &levels(schedule, 0.005, steps), 1.0, gaussian);
            close(
                x,
                expected,
                1e-8,
                &format!("{kind:?} {schedule:?} n={steps}"),
            );
            if steps == 3 {
                assert_eq!(found, evaluations, "{kind:?}");
            }
        }
    }
}

/// G6, trace of DDIM.
#[test]
fn ddim_visits_the_stated_points() {
    let mut process = toy(gaussian);
    let sigmas = levels(ScheduleKind::Exponential, 0.005, 3);
    sample(
        SamplerKind::Ddim,
        &SamplerOptions::default(),
        &sigmas,
        &mut [1.0],
        &mut process,
    )
    .unwrap();
    let expected = [1.0, 0.317_952_79, 0.312_183_72, 0.312_152_57];
    assert_eq!(process.trace.len(), 4);
    for ((sigma, x), (level, expected)) in process.trace.iter().zip(sigmas.iter().zip(expected)) {
        assert_eq!(sigma, level);
        close(*x, expected, 1e-8, "trace");
    }
}

/// G6, dpm_fast without the last denoising.
#[test]
fn dpm_fast_matches_the_table_per_budget() {
    for (budget, expected) in [
        (3, 0.578_857_50),
        (4, 0.444_922_08),
        (5, 0.454_131_82),
        (6, 0.444_958_67),
        (11, 0.431_167_26),
    ] {
        let mut process = toy(gaussian);
        let mut run = Run {
            process: &mut process,
            options: SamplerOptions::default(),
            evaluations: 0,
            denoised: vec![0.0],
            fresh: vec![0.0],
        };
        let mut x = [1.0];
        run.dpm_fast_budget(1.0, 0.005, budget, &mut x);
        assert_eq!(run.evaluations, budget);
        close(x[0], expected, 1e-7, &format!("nfe {budget}"));
    }
    // The reference release spends n + 1 evaluations and stops at sigma_min.
    let reference = SamplerOptions {
        denoise_last: false,
        ..Default::default()
    };
    let sigmas = levels(ScheduleKind::Exponential, 0.005, 3);
    let mut x = [1.0];
    let evaluations = sample(
        SamplerKind::DpmFast,
        &reference,
        &sigmas,
        &mut x,
        &mut toy(gaussian),
    )
    .unwrap();
    assert_eq!(evaluations, 4);
    close(x[0], 0.444_922_08, 1e-8, "n = 3");
}

#[test]
fn dpm_adaptive_follows_the_exact_solution() {
    let sigmas = levels(ScheduleKind::Exponential, 0.005, 3);
    let (x, evaluations) = run(SamplerKind::DpmAdaptive, &sigmas, 1.0, gaussian);
    close(x, 0.429_878_31, 5e-3, "default tolerance");
    assert_eq!(evaluations % 3, 1, "three per attempt and one at the end");
    let tight = SamplerOptions {
        rtol: 1e-6,
        atol: 1e-7,
        denoise_last: false,
        ..Default::default()
    };
    let mut x = [1.0];
    sample(
        SamplerKind::DpmAdaptive,
        &tight,
        &sigmas,
        &mut x,
        &mut toy(gaussian),
    )
    .unwrap();
    close(x[0], 0.429_910_23, 1e-5, "tight tolerance");

    let mut nan = toy(|_: f64, _: f64| f64::NAN);
    let found = sample(
        SamplerKind::DpmAdaptive,
        &tight,
        &sigmas,
        &mut [1.0],
        &mut nan,
    );
    assert!(
        matches!(found, Err(SampleError::StepControl { .. })),
        "{found:?}"
    );
}

/// G6, coefficients of the linear multistep method.
#[test]
fn lms_coefficients_match_the_table() {
    let sigmas = levels(ScheduleKind::Exponential, 0.005, 5);
    let expected: [&[f64]; 3] = [
        &[-0.734_085_21],
        &[-0.221_157_95, 0.025_953_83],
        &[-0.060_515_88, 0.009_062_06, -0.000_453_84],
    ];
    for (i, row) in expected.iter().enumerate() {
        let found = lms_coefficients(&sigmas, i, 4);
        assert_eq!(found.len(), row.len());
        for (found, expected) in found.iter().zip(*row) {
            close(*found, *expected, 1e-8, &format!("step {i}"));
        }
    }
    for i in 0..5 {
        let sum: f64 = lms_coefficients(&sigmas, i, 4).iter().sum();
        close(sum, sigmas[i + 1] - sigmas[i], 1e-14, "row sum");
    }
}

/// G7: order of convergence, on 1 → 0.1 in equal steps of ln σ and no final level 0.
#[test]
fn errors_fall_with_the_order_of_the_method() {
    use SamplerKind::*;
    let exact = 0.442_313_01;
    let error = |kind, intervals: usize| {
        let mut sigmas = levels(ScheduleKind::Exponential, 0.1, intervals + 1);
        sigmas.pop();
        (run(kind, &sigmas, 1.0, gaussian).0 - exact).abs()
    };
    for (kind, errors) in [
        (Ddim, [1.115e-2, 5.636e-3, 2.834e-3, 1.421e-3]),
        (Heun, [1.404e-3, 3.423e-4, 8.451e-5, 2.100e-5]),
        (Dpm, [6.863e-4, 1.678e-4, 4.148e-5, 1.031e-5]),
        (Dpmpp2s, [6.261e-4, 1.604e-4, 4.056e-5, 1.020e-5]),
    ] {
        for (intervals, expected) in [10, 20, 40, 80].into_iter().zip(errors) {
            let found = error(kind, intervals);
            assert!(
                (found / expected - 1.0).abs() < 2e-3,
                "{kind:?} N={intervals}: {found:e} vs {expected:e}"
            );
        }
    }
    assert!(error(Dpmpp2m, 80) < 1e-3 && error(Lms, 80) < 1e-3);
    assert!(error(Dpmpp2m, 80) < error(Dpmpp2m, 10) && error(Lms, 80) < error(Lms, 10));
}

/// Mean and standard deviation of the output for `x_T ~ N(0, 1)`. Every map is affine in the start and in each
/// noise draw, so unit impulses give its coefficients.
fn moments(kind: SamplerKind, sigmas: &[f64]) -> (f64, f64, f64) {
    let options = SamplerOptions::default();
    let run = |start: f64, impulse: Option<usize>| {
        let mut process = Toy {
            impulse,
            ..toy(gaussian)
        };
        let mut x = [start];
        sample(kind, &options, sigmas, &mut x, &mut process).unwrap();
        (x[0], process.draws)
    };
    let (offset, draws) = run(0.0, None);
    let gain = run(1.0, None).0 - offset;
    let variance: f64 = (0..draws)
        .map(|i| (run(0.0, Some(i)).0 - offset).powi(2))
        .sum();
    (offset, (gain * gain + variance).sqrt(), gain)
}

/// G8.
#[test]
fn moments_match_the_table() {
    use SamplerKind::*;
    type Row = (SamplerKind, [(f64, f64); 4]);
    let table: [Row; 8] = [
        (
            Ddim,
            [
                (0.171_962, 0.140_191),
                (0.149_807, 0.250_963),
                (0.143_946, 0.280_272),
                (0.170_644, 0.146_782),
            ],
        ),
        (
            Heun,
            [
                (0.098_221, 0.508_897),
                (0.140_164, 0.299_179),
                (0.142_466, 0.287_670),
                (0.127_619, 0.361_906),
            ],
        ),
        (
            Dpmpp2m,
            [
                (0.166_656, 0.166_720),
                (0.141_978, 0.290_112),
                (0.142_510, 0.287_449),
                (0.130_682, 0.346_589),
            ],
        ),
        (
            EulerAncestral,
            [
                (0.183_486, 0.106_337),
                (0.183_486, 0.229_324),
                (0.183_486, 0.283_488),
                (0.183_486, 0.140_979),
            ],
        ),
        (
            Ancestral,
            [
                (0.022_550, 0.890_039),
                (0.167_564, 0.328_013),
                (0.181_681, 0.299_603),
                (0.119_856, 0.588_566),
            ],
        ),
        (
            Dpmpp2sAncestral,
            [
                (0.172_620, 0.152_525),
                (0.175_649, 0.278_339),
                (0.181_874, 0.297_885),
                (0.180_597, 0.152_312),
            ],
        ),
        (
            DpmppSde,
            [
                (0.183_486, 0.214_880),
                (0.183_486, 0.288_825),
                (0.183_486, 0.298_654),
                (0.183_486, 0.159_743),
            ],
        ),
        (
            Dpmpp2mSde,
            [
                (0.183_486, 0.146_638),
                (0.183_486, 0.335_604),
                (0.183_486, 0.300_119),
                (0.183_486, 0.800_107),
            ],
        ),
    ];
    let settings = [
        (ScheduleKind::Exponential, 3),
        (ScheduleKind::Exponential, 10),
        (ScheduleKind::Exponential, 50),
        (ScheduleKind::Linear, 3),
    ];
    for (kind, row) in table {
        for ((schedule, steps), (mean, std)) in settings.into_iter().zip(row) {
            let (found_mean, found_std, gain) = moments(kind, &levels(schedule, 0.005, steps));
            let place = format!("{kind:?} {schedule:?} n={steps}");
            close(found_mean, mean, 1e-6, &place);
            close(found_std, std, 1e-6, &place);
            if matches!(kind, EulerAncestral | DpmppSde | Dpmpp2mSde) {
                close(gain, 0.082_568_81, 1e-8, &place);
            }
        }
    }
}

/// G9.
#[test]
fn zero_network_gives_the_stated_action() {
    for (schedule, sigma_min, steps, expected) in [
        (ScheduleKind::Exponential, 0.005, 3, 0.251_868_33),
        (ScheduleKind::Exponential, 0.005, 10, 0.397_358_60),
        (ScheduleKind::Exponential, 0.005, 100, 0.442_430_63),
        (ScheduleKind::Linear, 0.005, 3, 0.302_478_48),
        (ScheduleKind::Linear, 0.1, 3, 0.339_714_58),
        (ScheduleKind::Exponential, 0.05, 3, 0.326_592_17),
    ] {
        let (x, _) = run(
            SamplerKind::Ddim,
            &levels(schedule, sigma_min, steps),
            1.0,
            zero_network,
        );
        close(
            x,
            expected,
            1e-8,
            &format!("{schedule:?} {sigma_min} n={steps}"),
        );
    }
}

/// G10: a point mass is returned exactly from any start.
#[test]
fn point_mass_is_returned_exactly() {
    for kind in SamplerKind::ALL {
        for schedule in [
            ScheduleKind::Exponential,
            ScheduleKind::Linear,
            ScheduleKind::Karras,
        ] {
            for start in [-3.0, 0.1, 2.5] {
                let (x, _) = run(kind, &levels(schedule, 0.005, 4), start, |_, _| 0.37);
                close(
                    x,
                    0.37,
                    1e-12,
                    &format!("{kind:?} {schedule:?} from {start}"),
                );
            }
        }
    }
}

/// G10: two points at ±1.
#[test]
fn two_points_are_separated() {
    use SamplerKind::*;
    let two_points = |x: f64, sigma: f64| (x / (sigma * sigma)).tanh();
    let sigmas = levels(ScheduleKind::Exponential, 0.005, 3);
    for kind in [Ddim, Heun, Dpm, Dpmpp2s, Dpmpp2m] {
        for start in [0.05, 0.3, 1.0] {
            close(
                run(kind, &sigmas, start, two_points).0,
                1.0,
                1e-6,
                &format!("{kind:?} from {start}"),
            );
            close(
                run(kind, &sigmas, -start, two_points).0,
                -1.0,
                1e-6,
                &format!("{kind:?} from -{start}"),
            );
        }
    }
    for (start, expected) in [(0.05, 0.998_718), (0.3, 0.999_043), (1.0, 0.999_678)] {
        close(
            run(Lms, &sigmas, start, two_points).0,
            expected,
            1e-6,
            "lms",
        );
    }
}

#[test]
fn one_step_is_one_denoising_for_every_sampler() {
    for kind in SamplerKind::ALL {
        let (x, evaluations) = run(kind, &levels(ScheduleKind::Karras, 0.005, 1), 1.0, gaussian);
        close(x, gaussian(1.0, 1.0), 1e-12, &format!("{kind:?}"));
        assert_eq!(evaluations, 1, "{kind:?}");
    }
}

#[test]
fn ancestral_samplers_without_noise_are_their_deterministic_forms() {
    use SamplerKind::*;
    let options = SamplerOptions {
        eta: 0.0,
        ..Default::default()
    };
    let sigmas = levels(ScheduleKind::Karras, 0.005, 5);
    for (stochastic, deterministic) in [
        (EulerAncestral, Ddim),
        (Ancestral, Dpm),
        (Dpmpp2sAncestral, Dpmpp2s),
    ] {
        let mut process = toy(gaussian);
        let mut x = [1.0];
        sample(stochastic, &options, &sigmas, &mut x, &mut process).unwrap();
        assert_eq!(process.draws, 0);
        close(
            x[0],
            run(deterministic, &sigmas, 1.0, gaussian).0,
            1e-12,
            &format!("{stochastic:?}"),
        );
    }
}

/// G15, churn.
#[test]
fn churn_raises_the_level_up_to_its_cap() {
    let churn = |s_churn| SamplerOptions {
        s_churn,
        ..Default::default()
    };
    close(churn_factor(&churn(1.0), 1.0, 3), 0.333_333, 1e-6, "1 / 3");
    close(churn_factor(&churn(2.0), 1.0, 3), 0.414_214, 1e-6, "capped");
    let ranged = SamplerOptions {
        s_tmin: 0.1,
        s_tmax: 0.5,
        ..churn(1.0)
    };
    assert_eq!(churn_factor(&ranged, 1.0, 3), 0.0);
    assert!(churn_factor(&ranged, 0.3, 3) > 0.0);
    for kind in [SamplerKind::Euler, SamplerKind::Heun, SamplerKind::Dpm] {
        let mut process = toy(gaussian);
        let sigmas = levels(ScheduleKind::Exponential, 0.005, 3);
        sample(kind, &churn(1.0), &sigmas, &mut [1.0], &mut process).unwrap();
        assert_eq!(process.draws, 3, "{kind:?}");
    }
}

#[test]
fn names_are_those_of_the_reference_release() {
    let names = [
        "ddim",
        "euler",
        "euler_ancestral",
        "heun",
        "dpm",
        "ancestral",
        "dpmpp_2s",
        "dpmpp_2s_ancestral",
        "dpmpp_2m",
        "dpmpp_sde",
        "dpmpp_2m_sde",
        "lms",
        "dpm_fast",
        "dpm_adaptive",
    ];
    for (kind, name) in SamplerKind::ALL.into_iter().zip(names) {
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
        assert_eq!(
            serde_json::from_value::<SamplerKind>(name.into()).unwrap(),
            kind
        );
    }
}

#[test]
fn a_schedule_of_one_level_is_an_error() {
    let found = sample(
        SamplerKind::Ddim,
        &SamplerOptions::default(),
        &[1.0],
        &mut [1.0],
        &mut toy(gaussian),
    );
    assert_eq!(found, Err(SampleError::ShortSchedule(1)));
}
