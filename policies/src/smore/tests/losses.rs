//! Losses, their gradients and what they are made of, against published values.

use super::*;

/// Slow scores and M, four rows of h and four of e.
const SLOW: [[f32; 8]; 2] = [
    [0.9, -1.8, 0.4, 2.9, 9.5, -4.5, 2.5, 0.2],
    [0.6, -1.2, 1.1, 2.2, 9.0, -4.0, 2.0, 0.8],
];
const MAXIMA: [f32; 8] = [0.2, -1.0, 0.8, 2.5, 7.0, -3.0, 2.0, 0.5];

/// S̄ − M.
fn advantages() -> Tensor<Flex, 2> {
    least_of(&SLOW.map(|scores| column(&scores))) - column(&MAXIMA)
}

#[test]
fn the_loss_of_m_matches_published_values() {
    let all = [0.4, -0.8, -0.4, -0.3, 2.0, -1.5, 0.0, -0.3];
    near(advantages(), &all, 1e-6);
    let published = [
        (
            0.8,
            0.0765,
            [0.128, 0.128, 0.032, 0.018],
            [-0.16, 0.08, 0.04, 0.03],
        ),
        (
            0.5,
            0.131_25,
            [0.08, 0.32, 0.08, 0.045],
            [-0.1, 0.2, 0.1, 0.075],
        ),
        (
            0.1,
            0.204_25,
            [0.016, 0.576, 0.144, 0.081],
            [-0.02, 0.36, 0.18, 0.135],
        ),
    ];
    for (expectile, expected, of_rows, slopes) in published {
        for (advantage, of_row) in all.into_iter().zip(of_rows) {
            let found = maximum_loss(column(&[advantage as f32]), expectile);
            near(found, &[of_row], 1e-6);
        }
        let slow = least_of(&SLOW.map(|scores| column(&scores[..4])));
        let m = leaf(&MAXIMA[..4]);
        let loss = maximum_loss(Tensor::<A, 2>::from_inner(slow) - m.clone(), expectile);
        near(loss.clone().inner(), &[expected], 1e-6);
        near(m.grad(&loss.backward()).unwrap(), &slopes, 1e-6);
    }
}

#[test]
fn the_loss_of_m_is_least_at_the_expectile() {
    let slope = |values: &[f32], m: f64, expectile: f64| {
        let m = leaf(&vec![m as f32; values.len()]);
        let difference = Tensor::<A, 2>::from_inner(column(values)) - m.clone();
        let gradients = maximum_loss(difference, expectile).backward();
        entries(m.grad(&gradients).unwrap()).iter().sum::<f64>()
    };
    let four = &[0.0, 1.0, 2.0, 10.0][..];
    for (values, expectile, least) in [
        (four, 0.5, 3.25),
        (four, 0.7, 4.9375),
        (four, 0.8, 6.142_857_14),
        (four, 0.9, 7.75),
        (four, 0.1, 1.05),
        (&[-3.0, 5.0][..], 0.8, 3.4),
    ] {
        let [below, above] = [-1e-4, 1e-4].map(|by| slope(values, least + by, expectile));
        assert!(
            below < 0.0 && above > 0.0,
            "{expectile} of {values:?}: {below}, {above}"
        );
    }
}

#[test]
fn weights_of_imitation_match_published_values() {
    let weights = advantage_weight(advantages(), 3.0);
    let expected = [
        3.320_116_92,
        0.090_717_95,
        0.301_194_21,
        0.406_569_66,
        100.0,
        0.011_109,
        1.0,
        0.406_569_66,
    ];
    near(weights.clone(), &expected, 1e-6);
    // For −log π of 1, 2, 0.5 and 3, at h alone.
    let imitation = column(&[1.0, 2.0, 0.5, 3.0]);
    let loss = (weights.slice([0..4, 0..1]) * imitation).mean();
    near(loss, &[1.217_964_73], 1e-6);

    let weights = advantage_weight(column(&[-1.0, 0.0, 0.5, 1.0, 1.5, 1.6]), 3.0);
    let expected = [
        0.049_787_07,
        1.0,
        4.481_689_07,
        20.085_536_92,
        90.017_131_3,
        100.0,
    ];
    near(weights, &expected, 1e-6);
}

/// T of single steps.
fn target(loss: ScoreLoss, next: &[f32; 4], entered: [Option<usize>; 4]) -> Tensor<Flex, 2> {
    let ahead = entered.map(|entered| loss.ahead(0.99, 1, entered).map(|x| x as f32));
    column(next) * column(&ahead.map(|[_, share]| share)) + column(&ahead.map(|[paid, _]| paid))
}

/// What is known of the loss of one score: its parts, and the gradients by S at h and at e.
type Published = ([f64; 3], [f64; 4], [f64; 4]);

#[test]
fn losses_of_scores_match_published_values() {
    let next = [1.5, -0.5, 2.0, 4.0];
    let scores = [
        ([1.0, -2.0, 0.5, 3.0], [10.0, -5.0, 2.0, 0.0]),
        ([0.5, -1.5, 1.0, 2.0], [9.0, -4.0, 3.0, 1.0]),
    ];
    let published: [(ScoreLoss, [Published; 2], f64); 2] = [
        (
            ScoreLoss::Plain,
            [
                (
                    [-1.75, 6.25e-5, 0.701_531_25],
                    [-0.121_225, -0.376_225, -0.369_975, -0.239_975],
                    [-0.25; 4],
                ),
                (
                    [-2.25, 5.0e-5, 0.847_781_25],
                    [-0.246_225, -0.251_225, -0.244_975, -0.489_975],
                    [-0.25; 4],
                ),
            ],
            -2.450_575,
        ),
        (
            ScoreLoss::Stable,
            [
                (
                    [39_332.25, 3.5625e-6, 0.486_531_25],
                    [0.378_750_5, 0.123_749, 0.130_000_25, 0.260_001_5],
                    [-95.0, -102.5, -99.0, -100.0],
                ),
                (
                    [39_126.75, 1.875e-6, 0.382_781_25],
                    [0.253_750_25, 0.248_749_25, 0.255_000_5, 0.010_001],
                    [-95.5, -102.0, -98.5, -99.5],
                ),
            ],
            78_459.869_317_94,
        ),
    ];
    for (loss, of_scores, total) in published {
        let target = target(loss, &next, [None; 4]);
        let mut found_total = 0.0;
        for ((of_h, of_e), (parts, slopes_h, slopes_e)) in scores.iter().zip(of_scores) {
            let (h, e) = (leaf(of_h), leaf(of_e));
            let constant = Tensor::<A, 2>::from_inner(target.clone());
            let [goal, growth, along] = score_loss(loss, 0.99, e.clone(), h.clone(), constant);
            near(goal.clone().inner(), &parts[..1], 1e-6);
            near(along.clone().inner(), &parts[2..], 1e-6);
            // It is far below 1, so that only its own size can say how near is near.
            let share = entries(growth.clone().inner())[0] / parts[1];
            assert!((share - 1.0).abs() < 1e-4, "{share} of the growth term");

            let sum = goal + growth + along;
            found_total += entries(sum.clone().inner())[0];
            let gradients = sum.backward();
            near(h.grad(&gradients).unwrap(), &slopes_h, 1e-6);
            near(e.grad(&gradients).unwrap(), &slopes_e, 1e-6);
        }
        let found = found_total / total;
        assert!((found - 1.0).abs() < 1e-6, "{found_total}, not {total}");
    }
    let entered = target(ScoreLoss::Stable, &next, [None, Some(1), None, None]);
    near(entered, &[-0.515, 200.0, -0.02, 1.96], 1e-6);
    let entered = target(ScoreLoss::Plain, &next, [None, Some(1), None, None]);
    near(entered, &[1.485, 0.0, 1.98, 3.96], 1e-6);
}

#[test]
fn several_steps_are_single_steps_one_after_another() {
    for loss in [ScoreLoss::Stable, ScoreLoss::Plain] {
        let [step, discount] = loss.ahead(0.9, 1, None);
        let [top, nothing] = loss.ahead(0.9, 1, Some(1));
        assert_eq!(nothing, 0.0);
        let (mut expected, mut entered) = (5.0, top);
        for steps in 1..=12 {
            expected = step + discount * expected;
            let [paid, share] = loss.ahead(0.9, steps, None);
            assert!((paid + share * 5.0 - expected).abs() < 1e-12);
            // The goal is entered before the last step.
            let [paid, share] = loss.ahead(0.9, 12, Some(steps));
            assert!((paid - entered).abs() < 1e-12 && share == 0.0);
            entered = step + discount * entered;
        }
    }
}

/// `400 γᵏ − 200`, k transitions before the one that enters a goal with the score 200.
#[test]
fn scores_before_an_entry_have_the_closed_form() {
    let loss = ScoreLoss::Stable;
    let one_by_one = |left: usize| {
        let [paid, share] = loss.ahead(0.99, 1, None);
        (0..left).fold(200.0, |score, _| paid + share * score)
    };
    for (left, expected) in [
        (0, 200.0),
        (1, 196.0),
        (2, 192.04),
        (3, 188.1196),
        (5, 180.396_019_96),
        (10, 161.752_830),
        (20, 127.162_775),
        (49, 44.446_896),
        (100, -53.587_063),
    ] {
        let [paid, share] = loss.ahead(0.99, left, None);
        let [entering, _] = loss.ahead(0.99, 200, Some(left + 1));
        for found in [one_by_one(left), paid + share * 200.0, entering] {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }
    let [last, first] = [68, 69].map(one_by_one);
    let zero = 68.0 + last / (last - first);
    assert!(last > 0.0 && first < 0.0, "{last}, {first}");
    assert!((zero - 68.97).abs() < 0.005, "{zero}");
}

#[test]
fn the_gaussian_matches_published_values() {
    let mut config = small();
    config.actor.hidden.clear();
    let device = Default::default();
    // What the head adds to nothing are the means before tanh.
    let actor = |log_std: [f32; 3]| {
        let mut tensors = TensorMap::new();
        tensors.insert_f32("actor.head.output.weight", &[2, 3], vec![0.0; 6]);
        tensors.insert_f32("actor.head.output.bias", &[3], vec![0.3, -0.7, 1.2]);
        tensors.insert_f32("actor.deviation.log", &[3], log_std.to_vec());
        let fresh = agent_for(&config, 1, 3).actor.module().valid();
        load_module(&tensors, ACTOR, fresh).unwrap()
    };
    for (log_std, of_entries, expected) in [
        (
            [0.0, -0.5, -5.5],
            // The third is cut off at −5.
            [0.937_238_79, 0.475_704_67, 44.396_008_8],
            45.808_952_26,
        ),
        (
            [0.0; 3],
            [0.937_238_79, 0.939_821_63, 0.921_139_39],
            2.798_199_81,
        ),
    ] {
        let actor = actor(log_std);
        let means = actor.mean(Tensor::<Flex, 2>::zeros([1, 2], &device));
        let published = [0.291_312_61, -0.604_367_78, 0.833_654_61];
        near(means.clone(), &published, 1e-6);
        let actions = Tensor::<Flex, 2>::from_floats([[0.1, -0.4, 0.9]], &device);
        let error = means - actions;
        let found = actor.deviation.negative_log_prob(error.clone());
        near(found, &[expected], 3e-5);
        let alone = entries(error).into_iter().zip(log_std).zip(of_entries);
        for ((error, log_std), expected) in alone {
            let mut tensors = TensorMap::new();
            tensors.insert_f32("deviation.log", &[1], vec![log_std]);
            let one = LearnedDeviation::<Flex>::new(1, &device);
            let one = load_module(&tensors, "deviation", one).unwrap();
            let error = column(&[error as f32]);
            near(one.negative_log_prob(error), &[expected], 3e-5);
        }
    }
}

/// The release has its norms before the activation: there the first two would be 0.
#[test]
fn norms_of_m_follow_the_activation() {
    let mut config = small();
    config.value.hidden = vec![4];
    let value = agent_for(&config, 1, 1).value.module().valid();
    let mut tensors = TensorMap::new();
    insert_module(&mut tensors, VALUE, &value);
    tensors.insert_f32("value.layers.0.weight", &[2, 4], vec![0.0; 8]);
    tensors.insert_f32("value.layers.0.bias", &[4], vec![1.0, 2.0, 3.0, 4.0]);
    let value = load_module(&tensors, VALUE, value).unwrap();
    let found = value.features(Tensor::<Flex, 2>::zeros([1, 2], &Default::default()));
    let published = [-1.341_640_25, -0.447_213_42, 0.447_213_42, 1.341_640_25];
    near(found, &published, 2e-6);
}
