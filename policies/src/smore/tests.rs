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

/// T of single steps.
fn target(loss: ScoreLoss, next: &[f32; 4], entered: [Option<usize>; 4]) -> Tensor<Flex, 2> {
    let ahead = entered.map(|entered| loss.ahead(0.99, 1, entered).map(|x| x as f32));
    column(next) * column(&ahead.map(|[_, share]| share)) + column(&ahead.map(|[paid, _]| paid))
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

    let next = [1.5, -0.5, 2.0, 4.0];
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
        let target = target(loss, &next, [None; 4]);
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
    let target = target(ScoreLoss::Stable, &next, [None, Some(1), None, None]);
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
fn an_episode_of_one_transition_enters_its_end() {
    let episode = |rows: usize| telic_datasets::Episode {
        observations: ndarray::Array2::zeros((rows, 1)),
        actions: ndarray::Array2::zeros((rows, 1)),
        ..Default::default()
    };
    let episodes = [episode(2), episode(2), episode(6)];
    let dataset = telic_datasets::Dataset::from_episodes(&episodes, Default::default()).unwrap();
    let data = crate::DataPart::all(std::sync::Arc::new(dataset));
    let agent = agent::<Smore>(&small());
    let mut sampler = agent.sampler(&data, 64).unwrap();
    let mut halves = sampler.new_batch();
    sampler.sample(&mut Seed::new(1).rng(), &mut halves);
    let entering = &halves.entering;
    assert!(entering.rows.contains(&0) && entering.rows.contains(&2));
    for (row, goal) in entering.rows.iter().zip(&entering.value_goal_rows) {
        assert_eq!(row + 1, *goal);
    }
}

#[test]
fn a_line_is_learned() {
    for loss in [ScoreLoss::Stable, ScoreLoss::Plain] {
        let mut config = small();
        config.loss = loss;
        test_agents::check_line::<Smore>(&config, 2500);
    }
    let mut config = small();
    config.extraction = Extraction::DdpgBc;
    config.alpha = 0.5;
    test_agents::check_line::<Smore>(&config, 2500);
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    for extraction in [Extraction::Awr, Extraction::DdpgBc] {
        let config = SmoreConfig {
            extraction,
            ..small()
        };
        test_agents::check_resume::<Smore>(&config);
    }
}

/// State, action (0 left, 1 right) and goal of a transition on a chain of five states whose walls hold.
type ChainRow = (usize, usize, usize);

fn chain_next((state, action, _): ChainRow) -> usize {
    [state.saturating_sub(1), (state + 1).min(4)][action]
}

/// Both halves of a batch that holds each transition as often as its distribution says.
struct ChainBatch {
    hindsight: Vec<ChainRow>,
    entering: Vec<ChainRow>,
}

/// What minimises the losses on a [`ChainBatch`]; 0 where it has no row.
#[derive(Default)]
struct ChainSolution {
    /// S by state, action and goal.
    scores: [[[f64; 5]; 2]; 5],
    /// M by state and goal.
    maxima: [[f64; 5]; 5],
}

impl ChainSolution {
    fn score(&self, (state, action, goal): ChainRow) -> f64 {
        self.scores[state][action][goal]
    }

    /// M(s', g).
    fn next(&self, row: ChainRow) -> f64 {
        self.maxima[chain_next(row)][row.2]
    }
}

impl ChainBatch {
    /// Every state, action and goal once.
    fn exact() -> Self {
        let hindsight: Vec<ChainRow> = (0..50).map(|i| (i / 10, i / 5 % 2, i % 5)).collect();
        let entering = hindsight.clone().into_iter();
        Self {
            entering: entering.filter(|row| chain_next(*row) == row.2).collect(),
            hindsight,
        }
    }

    /// Trajectories 0-1-2, 2-3-4 and 2-1-0 with a later state of theirs as the goal in 8 of 10 rows, 4 in the others. Of the entering
    /// ones 2 of 10 are the only transition that enters 4.
    fn of_trajectories() -> Self {
        let (mut hindsight, mut entering) = (Vec::new(), Vec::new());
        for (states, action) in [([0, 1, 2], 1), ([2, 3, 4], 1), ([2, 1, 0], 0)] {
            let rows = [
                (0, states[1], 2),
                (0, states[2], 2),
                (0, 4, 1),
                (1, states[2], 4),
                (1, 4, 1),
            ];
            for (step, goal, count) in rows {
                hindsight.extend([(states[step], action, goal)].repeat(count));
            }
            entering.extend([(states[0], action, states[1])].repeat(2));
            entering.extend([(states[1], action, states[2])].repeat(6));
        }
        entering.extend([(3, 1, 4)].repeat(6));
        Self {
            hindsight,
            entering,
        }
    }

    fn solve(&self, loss: ScoreLoss, absorbing: bool) -> ChainSolution {
        const DISCOUNT: f64 = 0.99;
        const TOP: f64 = 2.0 / (1.0 - DISCOUNT);
        let share = |rows: &[ChainRow], row| {
            rows.iter().filter(|other| **other == row).count() as f64 / rows.len() as f64
        };
        let shares: Vec<(ChainRow, f64, f64)> = Self::exact()
            .hindsight
            .into_iter()
            .map(|row| (row, share(&self.hindsight, row), share(&self.entering, row)))
            .filter(|(_, hindsight, _)| *hindsight > 0.0)
            .collect();
        let mut found = ChainSolution::default();
        for _ in 0..20_000 {
            for &(row, hindsight, entering) in &shares {
                let ratio = entering / hindsight;
                found.scores[row.0][row.1][row.2] = match loss {
                    ScoreLoss::Stable => {
                        let target = if absorbing && chain_next(row) == row.2 {
                            TOP
                        } else {
                            -2.0 + DISCOUNT * found.next(row)
                        };
                        let growth = 2e-4 * (1.0 - DISCOUNT);
                        (2.0 * ratio * TOP + target) / (2.0 * ratio + growth + 1.0)
                    }
                    ScoreLoss::Plain => DISCOUNT * found.next(row) + ratio - 1e-4,
                };
            }
            let mut maxima = [[(0.0, 0.0); 5]; 5];
            for &(row, hindsight, _) in &shares {
                let (state, action, goal) = row;
                let (score, other) = (found.score(row), found.score((state, 1 - action, goal)));
                let side = if score >= other { 0.8 } else { 0.2 };
                let (sum, weight) = &mut maxima[state][goal];
                *sum += side * hindsight * score;
                *weight += side * hindsight;
            }
            found.maxima = maxima
                .map(|row| row.map(|(sum, weight)| if weight > 0.0 { sum / weight } else { 0.0 }));
        }
        found
    }

    /// The losses of this module have no gradient at `solution`.
    fn check_stationary(&self, solution: &ChainSolution, loss: ScoreLoss, absorbing: bool) {
        type A = test_agents::A;
        let device = Default::default();
        let column = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
            let rows = values.len();
            Tensor::<A, 2>::from_data(TensorData::new(values, [rows, 1]), &device)
        };
        let of_hindsight = |value: &dyn Fn(ChainRow) -> f64| {
            column(self.hindsight.iter().map(|row| value(*row)).collect())
        };
        let all = ChainBatch::exact().hindsight;
        let places = |rows: &[ChainRow]| {
            let places: Vec<i32> = rows
                .iter()
                .map(|&(state, action, goal)| (10 * state + 5 * action + goal) as i32)
                .collect();
            Tensor::<A, 1, burn::tensor::Int>::from_ints(&places[..], &device)
        };
        let flat = |gradient: Tensor<Flex, 2>| {
            let values = tensor_values(gradient);
            assert!(values.iter().all(|g| g.abs() < 2e-5), "{values:?}");
        };

        let scores = column(all.iter().map(|row| solution.score(*row)).collect()).require_grad();
        let target = of_hindsight(&|row| {
            let entered = (absorbing && chain_next(row) == row.2).then_some(1);
            let [paid, share] = loss.ahead(0.99, 1, entered);
            paid + share * solution.next(row)
        });
        let parts = score_loss(
            loss,
            0.99,
            scores.clone().select(0, places(&self.entering)),
            scores.clone().select(0, places(&self.hindsight)),
            target,
        );
        let total = parts.into_iter().reduce(|a, b| a + b).unwrap();
        flat(scores.grad(&total.backward()).unwrap());

        let pairs: Vec<ChainRow> = self.hindsight.iter().map(|&(s, _, g)| (s, 0, g)).collect();
        let maxima =
            column(all.iter().map(|&(s, _, g)| solution.maxima[s][g]).collect()).require_grad();
        let m = maxima.clone().select(0, places(&pairs));
        let slow = of_hindsight(&|row| solution.score(row));
        let total = maximum_loss(slow - m, 0.8);
        flat(maxima.grad(&total.backward()).unwrap());
    }
}

#[test]
fn the_line_is_learned_from_several_steps() {
    let mut config = small();
    config.goals.n_step = 3;
    test_agents::check_line::<Smore>(&config, 2000);
}

#[test]
fn a_chain_has_the_published_scores() {
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
    let batch = ChainBatch::exact();
    assert_eq!((batch.hindsight.len(), batch.entering.len()), (50, 10));
    for (loss, absorbing, left, right) in published {
        let solution = batch.solve(loss, absorbing);
        for state in 0..5 {
            for (action, expected) in [left[state], right[state]].into_iter().enumerate() {
                let found = solution.score((state, action, 4));
                assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
            }
            for goal in 0..5 {
                let [left, right] = [0, 1].map(|action| solution.score((state, action, goal)));
                assert!(state >= goal || right > left);
                assert!(state <= goal || left > right);
            }
        }
        batch.check_stationary(&solution, loss, absorbing);
    }
}

#[test]
fn trajectories_of_a_chain_have_the_published_scores() {
    let rows = [
        (0, 1, 1),
        (0, 1, 2),
        (0, 1, 4),
        (1, 1, 4),
        (1, 0, 4),
        (2, 1, 4),
        (2, 0, 4),
        (3, 1, 4),
    ];
    let published = [
        (
            ScoreLoss::Stable,
            false,
            [
                132.6666, 146.0046, 151.8455, 157.1680, 148.3267, 161.5203, 151.8455, 165.1724,
            ],
        ),
        (
            ScoreLoss::Plain,
            false,
            [
                0.9999, 1.4848, 2.3120, 2.3471, 2.2887, 2.3758, 2.3120, 2.3999,
            ],
        ),
        (
            ScoreLoss::Stable,
            true,
            [
                199.9999, 195.9995, 185.4019, 191.2321, 181.5475, 195.9995, 185.4019, 199.9999,
            ],
        ),
    ];
    let batch = ChainBatch::of_trajectories();
    assert_eq!((batch.hindsight.len(), batch.entering.len()), (30, 30));
    for (loss, absorbing, expected) in published {
        let solution = batch.solve(loss, absorbing);
        for (row, expected) in rows.into_iter().zip(expected) {
            let found = solution.score(row);
            assert!(
                (found - expected).abs() < 1e-3,
                "{row:?}: {found}, not {expected}"
            );
        }
        batch.check_stationary(&solution, loss, absorbing);
        // Where goals do not absorb, one a step away scores less than one two steps away.
        let [one, two] = [1, 2].map(|goal| solution.score((0, 1, goal)));
        assert_eq!(one > two, absorbing);
    }
}
