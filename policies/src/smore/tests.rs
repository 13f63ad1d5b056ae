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
