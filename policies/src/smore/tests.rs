use burn::backend::Flex;
use burn::tensor::TensorData;

use super::*;
use crate::module_state::tensor_values;
use crate::test_agents::{self, agent, batch};

fn small() -> SmoreConfig {
    let mut config = SmoreConfig {
        target_rate: 0.05,
        ..Default::default()
    };
    config.goals.discount = 0.9;
    config.score.hidden = vec![48, 48];
    config.value.hidden = vec![48, 48];
    config.actor.hidden = vec![48, 48];
    config.optimizer.lr = 2e-3;
    // The schedule would end before the line is learned.
    config.lr_schedule = LrSchedule::default();
    config
}

fn column(values: &[f32]) -> Tensor<Flex, 2> {
    let data = TensorData::new(values.to_vec(), [values.len(), 1]);
    Tensor::from_data(data, &Default::default())
}

fn near(found: Tensor<Flex, 1>, expected: f64) {
    let found = f64::from(tensor_values(found)[0]);
    let tolerance = 1e-6 * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() < tolerance,
        "{found}, not {expected}"
    );
}

#[test]
fn losses_match_published_values() {
    let slow = least_of(&[
        column(&[0.9, -1.8, 0.4, 2.9]),
        column(&[0.6, -1.2, 1.1, 2.2]),
    ]);
    let advantage = slow - column(&[0.2, -1.0, 0.8, 2.5]);
    for (expectile, expected) in [(0.8, 0.0765), (0.5, 0.131_25), (0.1, 0.204_25)] {
        near(maximum_loss(advantage.clone(), expectile), expected);
    }
    let weight = advantage_weight(advantage, 3.0);
    let log_prob = column(&[1.0, 2.0, 0.5, 3.0]);
    near((weight * log_prob).mean(), 1.217_964_73);

    let next = column(&[1.5, -0.5, 2.0, 4.0]);
    let scores = [
        ([1.0, -2.0, 0.5, 3.0], [10.0, -5.0, 2.0, 0.0]),
        ([0.5, -1.5, 1.0, 2.0], [9.0, -4.0, 3.0, 1.0]),
    ];
    let expected = [
        (
            ScoreLoss::Plain,
            [
                [-1.75, 6.25e-5, 0.701_531_25],
                [-2.25, 5.0e-5, 0.847_781_25],
            ],
        ),
        (
            ScoreLoss::Stable,
            [
                [39_332.25, 3.5625e-6, 0.486_531_25],
                [39_126.75, 1.875e-6, 0.382_781_25],
            ],
        ),
    ];
    for (loss, expected) in expected {
        let target = bootstrap(loss, 0.99, next.clone(), None);
        for ((hindsight, entering), expected) in scores.iter().zip(expected) {
            let parts = score_loss(
                loss,
                0.99,
                column(entering),
                column(hindsight),
                target.clone(),
            );
            for (part, expected) in parts.into_iter().zip(expected) {
                near(part, expected);
            }
        }
    }
    let entered = Some(column(&[0.0, 1.0, 0.0, 0.0]));
    let target = bootstrap(ScoreLoss::Stable, 0.99, next, entered);
    let found = tensor_values(target);
    for (found, expected) in found.into_iter().zip([-0.515, 200.0, -0.02, 1.96]) {
        assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
    }
}

#[test]
fn parameter_counts_are_the_published_ones() {
    let data = crate::synthetic_dataset(25, 4, 2, 5).unwrap();
    let task = TrainingTask {
        data: DataPart::all(std::sync::Arc::new(data)),
        ..test_agents::line(1)
    };
    let agent =
        Smore::new_agent::<test_agents::A>(&SmoreConfig::default(), &task, &Default::default())
            .unwrap();
    // The published ones have goals of 3 entries in place of 25: 22 · 256 fewer per network.
    let counts = [
        agent.scores.module()[0].num_params(),
        agent.value.module().num_params(),
        agent.actor.module().num_params(),
    ];
    assert_eq!(
        counts.map(|count| count - 22 * 256),
        [140_289, 140_801, 140_040]
    );
}

#[test]
fn entering_transitions_end_at_their_goals() {
    let agent = agent::<Smore>(&small());
    let halves = batch(&agent, 1);
    let task = test_agents::line(1);
    let episodes = task.data.dataset.episodes();
    for (row, goal) in halves
        .entering
        .rows
        .iter()
        .zip(&halves.entering.value_goal_rows)
    {
        assert_eq!(row + 1, *goal);
        assert_eq!(episodes.of(*row), episodes.of(*goal));
    }
    assert_eq!(
        halves.entering.next_observations,
        halves.entering.value_goals
    );
    let random = halves
        .hindsight
        .rows
        .iter()
        .zip(&halves.hindsight.value_goal_rows)
        .filter(|(row, goal)| episodes.of(**row) != episodes.of(**goal));
    let share = random.count() as f64 / halves.hindsight.size as f64;
    assert!((0.05..0.4).contains(&share), "{share}");
}

#[test]
fn a_line_is_learned() {
    for loss in [ScoreLoss::Stable, ScoreLoss::Plain] {
        let mut config = small();
        config.loss = loss;
        test_agents::check_line::<Smore>(&config, 2500);
    }
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    test_agents::check_resume::<Smore>(&small());
}

/// States 0..5 of a chain, actions left and right, walls hold.
fn chain_next(state: usize, action: usize) -> usize {
    [state.saturating_sub(1), (state + 1).min(4)][action]
}

/// Scores `[state][action][goal]` that minimise the loss on exact distributions, and their maxima `[state][goal]`.
#[allow(clippy::needless_range_loop)]
fn solved_chain(loss: ScoreLoss, absorbing: bool) -> ([[[f64; 5]; 2]; 5], [[f64; 5]; 5]) {
    const DISCOUNT: f64 = 0.99;
    let (mut scores, mut maxima) = ([[[0.0; 5]; 2]; 5], [[0.0; 5]; 5]);
    for _ in 0..20_000 {
        for state in 0..5 {
            for goal in 0..5 {
                for action in 0..2 {
                    let next = chain_next(state, action);
                    // Ten rows enter goals, of fifty in all.
                    let ratio = if next == goal { 5.0 } else { 0.0 };
                    let top = 2.0 / (1.0 - DISCOUNT);
                    scores[state][action][goal] = match loss {
                        ScoreLoss::Stable => {
                            let target = if absorbing && next == goal {
                                top
                            } else {
                                -2.0 + DISCOUNT * maxima[next][goal]
                            };
                            let growth = 2e-4 * (1.0 - DISCOUNT);
                            (2.0 * ratio * top + target) / (2.0 * ratio + growth + 1.0)
                        }
                        ScoreLoss::Plain => DISCOUNT * maxima[next][goal] + ratio - 1e-4,
                    };
                }
            }
        }
        for state in 0..5 {
            for goal in 0..5 {
                let [left, right] = [0, 1].map(|action| scores[state][action][goal]);
                maxima[state][goal] = 0.8 * left.max(right) + 0.2 * left.min(right);
            }
        }
    }
    (scores, maxima)
}

#[test]
#[allow(clippy::needless_range_loop)]
fn a_chain_has_the_published_scores() {
    type A = test_agents::A;
    let device = Default::default();
    let published = [
        (
            ScoreLoss::Stable,
            false,
            [
                175.798_524,
                175.798_524,
                180.543_898,
                186.535_545,
                192.914_427,
            ],
            [
                180.543_898,
                186.535_545,
                192.914_427,
                199.470_676,
                199.470_676,
            ],
        ),
        (
            ScoreLoss::Stable,
            true,
            [
                176.296_443,
                176.296_443,
                181.048_106,
                187.047_693,
                193.435_027,
            ],
            [
                181.048_106,
                187.047_693,
                193.435_027,
                199.999_964,
                199.999_964,
            ],
        ),
        (
            ScoreLoss::Plain,
            false,
            [
                355.006_614,
                355.006_614,
                359.489_147,
                365.148_910,
                371.174_444,
            ],
            [
                359.489_147,
                365.148_910,
                371.174_444,
                377.367_499,
                377.367_499,
            ],
        ),
    ];
    for (loss, absorbing, left, right) in published {
        let (scores, maxima) = solved_chain(loss, absorbing);
        for state in 0..5 {
            for (action, expected) in [left[state], right[state]].into_iter().enumerate() {
                let found = scores[state][action][4];
                assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
            }
            for goal in 0..5 {
                let [l, r] = [0, 1].map(|action| scores[state][action][goal]);
                assert!(if state < goal {
                    r > l
                } else {
                    state == goal || l > r
                });
            }
        }
        // The losses have no gradient there: first on the scores, then on the maxima.
        let rows: Vec<(usize, usize, usize)> =
            (0..50).map(|i| (i / 10, i / 5 % 2, i % 5)).collect();
        let place = |&(s, a, g): &(usize, usize, usize)| (10 * s + 5 * a + g) as i32;
        let column = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
            Tensor::<A, 2>::from_data(TensorData::new(values, [50, 1]), &device)
        };
        let table = column(rows.iter().map(|&(s, a, g)| scores[s][a][g]).collect()).require_grad();
        let entering: Vec<i32> = rows
            .iter()
            .filter(|(s, a, g)| chain_next(*s, *a) == *g)
            .map(place)
            .collect();
        assert_eq!(entering.len(), 10);
        let indices =
            burn::tensor::Tensor::<A, 1, burn::tensor::Int>::from_ints(&entering[..], &device);
        let next = column(
            rows.iter()
                .map(|&(s, a, g)| maxima[chain_next(s, a)][g])
                .collect(),
        );
        let entered = absorbing.then(|| {
            column(
                rows.iter()
                    .map(|&(s, a, g)| f64::from(u8::from(chain_next(s, a) == g)))
                    .collect(),
            )
        });
        let target = bootstrap(loss, 0.99, next, entered);
        let parts = score_loss(
            loss,
            0.99,
            table.clone().select(0, indices),
            table.clone(),
            target,
        );
        let total = parts.into_iter().reduce(|a, b| a + b).unwrap();
        let gradients = total.backward();
        let gradient = tensor_values(table.grad(&gradients).unwrap());
        assert!(gradient.iter().all(|g| g.abs() < 2e-5), "{gradient:?}");

        let m = column(rows.iter().map(|&(s, _, g)| maxima[s][g]).collect()).require_grad();
        let all = column(rows.iter().map(|&(s, a, g)| scores[s][a][g]).collect());
        let gradients = maximum_loss(all - m.clone(), 0.8).backward();
        let gradient = tensor_values(m.grad(&gradients).unwrap());
        for (i, &(s, _, g)) in rows.iter().enumerate().filter(|(_, row)| row.1 == 0) {
            let both = gradient[i] + gradient[place(&(s, 1, g)) as usize];
            assert!(both.abs() < 2e-5, "{both}");
        }
    }
}
