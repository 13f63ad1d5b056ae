//! A chain of five states, where the scores that minimise the losses are known.

use burn::tensor::Int;

use super::*;

/// State, action (0 left, 1 right) and goal of a transition on a chain of five states whose walls
/// hold.
type Row = (usize, usize, usize);

fn after((state, action, _): Row) -> usize {
    [state.saturating_sub(1), (state + 1).min(4)][action]
}

/// Both halves of a batch that holds each transition as often as its distribution says.
struct Halves {
    hindsight: Vec<Row>,
    entering: Vec<Row>,
}

/// What minimises the losses on [`Halves`]; 0 where they have no row.
#[derive(Default)]
struct Solution {
    /// S by state, action and goal.
    scores: [[[f64; 5]; 2]; 5],
    /// M by state and goal.
    maxima: [[f64; 5]; 5],
}

impl Solution {
    fn score(&self, (state, action, goal): Row) -> f64 {
        self.scores[state][action][goal]
    }

    /// M(s', g).
    fn next(&self, row: Row) -> f64 {
        self.maxima[after(row)][row.2]
    }

    /// To the right S is higher below the goal, to the left above it.
    fn check_order(&self) {
        for (state, goal) in (0..25).map(|pair| (pair / 5, pair % 5)) {
            let [left, right] = [0, 1].map(|action| self.score((state, action, goal)));
            assert!(state >= goal || right > left, "{state} to {goal}");
            assert!(state <= goal || left > right, "{state} to {goal}");
        }
    }
}

impl Halves {
    /// Every state, action and goal once.
    fn exact() -> Self {
        let hindsight: Vec<Row> = (0..50).map(|i| (i / 10, i / 5 % 2, i % 5)).collect();
        let entering = hindsight.clone().into_iter();
        Self {
            entering: entering.filter(|row| after(*row) == row.2).collect(),
            hindsight,
        }
    }

    /// Trajectories 0-1-2, 2-3-4 and 2-1-0 with a later state of theirs as the goal in 8 of 10
    /// rows, 4 in the others. Of the entering ones 2 of 10 are the only transition that enters 4.
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

    fn solve(&self, loss: ScoreLoss, absorbing: bool, expectile: f64) -> Solution {
        const DISCOUNT: f64 = 0.99;
        const TOP: f64 = 2.0 / (1.0 - DISCOUNT);
        let share = |rows: &[Row], row| {
            rows.iter().filter(|other| **other == row).count() as f64 / rows.len() as f64
        };
        let shares: Vec<(Row, f64, f64)> = Self::exact()
            .hindsight
            .into_iter()
            .map(|row| (row, share(&self.hindsight, row), share(&self.entering, row)))
            .filter(|(_, hindsight, _)| *hindsight > 0.0)
            .collect();
        let mut found = Solution::default();
        for _ in 0..4000 {
            for &(row, hindsight, entering) in &shares {
                let ratio = entering / hindsight;
                found.scores[row.0][row.1][row.2] = match loss {
                    ScoreLoss::Stable => {
                        let target = if absorbing && after(row) == row.2 {
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
                let side = if score >= other {
                    expectile
                } else {
                    1.0 - expectile
                };
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
    fn check_stationary(
        &self,
        solution: &Solution,
        loss: ScoreLoss,
        absorbing: bool,
        expectile: f64,
    ) {
        let device = Default::default();
        let table = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
            Tensor::<A, 2>::from_inner(column(&values))
        };
        let of_hindsight = |value: &dyn Fn(Row) -> f64| {
            table(self.hindsight.iter().map(|row| value(*row)).collect())
        };
        let all = Self::exact().hindsight;
        let places = |rows: &[Row]| {
            let places: Vec<i32> = rows
                .iter()
                .map(|&(state, action, goal)| (10 * state + 5 * action + goal) as i32)
                .collect();
            Tensor::<A, 1, Int>::from_ints(&places[..], &device)
        };
        let flat = |gradient: Tensor<Flex, 2>| {
            let values = entries(gradient);
            assert!(values.iter().all(|g| g.abs() < 2e-5), "{values:?}");
        };

        let scores = table(all.iter().map(|row| solution.score(*row)).collect()).require_grad();
        let target = of_hindsight(&|row| {
            let entered = (absorbing && after(row) == row.2).then_some(1);
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

        let pairs: Vec<Row> = self.hindsight.iter().map(|&(s, _, g)| (s, 0, g)).collect();
        let maxima = all.iter().map(|&(s, _, g)| solution.maxima[s][g]);
        let maxima = table(maxima.collect()).require_grad();
        let m = maxima.clone().select(0, places(&pairs));
        let slow = of_hindsight(&|row| solution.score(row));
        let total = maximum_loss(slow - m, expectile);
        flat(maxima.grad(&total.backward()).unwrap());
    }
}

fn check_all(found: [f64; 5], expected: [f64; 5], tolerance: f64) {
    let mut pairs = found.iter().zip(&expected);
    let holds = pairs.all(|(a, b)| (a - b).abs() < tolerance);
    assert!(holds, "{found:?}, not {expected:?}");
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
            [
                179.594_823,
                184.388_141,
                190.440_322,
                196.883_650,
                198.159_426,
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
            [
                180.097_774,
                184.897_443,
                190.957_643,
                197.409_509,
                198.686_976,
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
            [
                358.592_640,
                363.120_451,
                368.837_384,
                374.923_782,
                376.128_888,
            ],
        ),
    ];
    let halves = Halves::exact();
    assert_eq!((halves.hindsight.len(), halves.entering.len()), (50, 10));
    for (loss, absorbing, left, right, maxima) in published {
        let solution = halves.solve(loss, absorbing, 0.8);
        check_all(solution.scores.map(|of_state| of_state[0][4]), left, 1e-6);
        check_all(solution.scores.map(|of_state| of_state[1][4]), right, 1e-6);
        check_all(solution.maxima.map(|of_state| of_state[4]), maxima, 1e-6);
        solution.check_order();
        halves.check_stationary(&solution, loss, absorbing, 0.8);
    }
}

#[test]
fn scores_of_a_goal_amid_the_chain_are_mirrored() {
    let solution = Halves::exact().solve(ScoreLoss::Stable, false, 0.8);
    let left = [
        187.905_711,
        187.905_711,
        192.803_984,
        198.988_686,
        192.803_984,
    ];
    let mut right = left;
    right.reverse();
    check_all(solution.scores.map(|of_state| of_state[0][2]), left, 1e-6);
    check_all(solution.scores.map(|of_state| of_state[1][2]), right, 1e-6);
}

#[test]
fn the_way_is_known_at_any_expectile() {
    let halves = Halves::exact();
    for (loss, absorbing) in [
        (ScoreLoss::Stable, false),
        (ScoreLoss::Stable, true),
        (ScoreLoss::Plain, false),
    ] {
        for expectile in [0.5, 0.99] {
            let solution = halves.solve(loss, absorbing, expectile);
            solution.check_order();
            halves.check_stationary(&solution, loss, absorbing, expectile);
        }
    }
}

#[test]
fn imitation_on_the_chain_follows_the_way_alone() {
    let solution = Halves::exact().solve(ScoreLoss::Stable, false, 0.8);
    let [left, right] = [0, 1].map(|action| {
        let advantages: Vec<f32> = (0..5)
            .map(|state| (solution.score((state, action, 4)) - solution.maxima[state][4]) as f32)
            .collect();
        entries(advantage_weight(column(&advantages), 3.0))
    });
    assert!(left.iter().all(|weight| *weight < 1.2e-5), "{left:?}");
    let right: [f64; 5] = right.try_into().unwrap();
    check_all(right, [17.24, 100.0, 100.0, 100.0, 51.10], 0.005);
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
        (1, 1, 2),
        (2, 1, 3),
    ];
    let published = [
        (
            ScoreLoss::Stable,
            false,
            &[
                132.6666, 146.0046, 151.8455, 157.1680, 148.3267, 161.5203, 151.8455, 165.1724,
                149.4999, 132.6666,
            ][..],
        ),
        (
            ScoreLoss::Plain,
            false,
            &[
                0.9999, 1.4848, 2.3120, 2.3471, 2.2887, 2.3758, 2.3120, 2.3999,
            ][..],
        ),
        (
            ScoreLoss::Stable,
            true,
            &[
                199.9999, 195.9995, 185.4019, 191.2321, 181.5475, 195.9995, 185.4019, 199.9999,
            ][..],
        ),
    ];
    let halves = Halves::of_trajectories();
    assert_eq!((halves.hindsight.len(), halves.entering.len()), (30, 30));
    for (loss, absorbing, expected) in published {
        let solution = halves.solve(loss, absorbing, 0.8);
        for (row, expected) in rows.into_iter().zip(expected) {
            let found = solution.score(row);
            assert!(
                (found - expected).abs() < 1e-3,
                "{row:?}: {found}, not {expected}"
            );
        }
        halves.check_stationary(&solution, loss, absorbing, 0.8);
        for state in [1, 2] {
            let [left, right] = [0, 1].map(|action| solution.score((state, action, 4)));
            assert!(right > left, "{state}: {left}, {right}");
        }
        // Where goals do not absorb, one a step away scores less than one two steps away.
        let [one, two] = [1, 2].map(|goal| solution.score((0, 1, goal)));
        assert_eq!(one > two, absorbing);
    }
}
