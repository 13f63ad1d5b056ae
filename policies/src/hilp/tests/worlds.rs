//! Distances in worlds of few states, where they are known.
//!
//! With an expectile below 1 steps that lead away from the goal count too, so that distances exceed the number of steps; a discount
//! takes from them.

use std::collections::VecDeque;

use burn::tensor::{Int, TensorData};

use super::*;
use crate::nn::LrScheduleKind;
use crate::test_agents::A;

/// The largest entry of the gradient of the embedding's loss at values that are their own slow copies. Transitions are pairs of
/// states, the goal is the first one.
fn steepest(values: &[f64], transitions: &[(usize, usize)], expectile: f64, discount: f64) -> f32 {
    let device = Default::default();
    let column = |values: Vec<f64>| {
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        let rows = values.len();
        Tensor::<Flex, 2>::from_data(TensorData::new(values, [rows, 1]), &device)
    };
    let of = |value: &dyn Fn(usize, usize) -> f64| {
        column(
            transitions
                .iter()
                .map(|&(s, next)| value(s, next))
                .collect(),
        )
    };
    let away = of(&|s, _| f64::from(s != 0));
    let targets = ValueTargets {
        rewards: away.clone().neg(),
        masks: away,
        slow_now: vec![of(&|s, _| values[s]); 2],
        slow_next: vec![of(&|_, next| values[next]); 2],
    };
    let lift = Tensor::<A, 2>::from_inner;
    let tables = [(); 2].map(|()| lift(column(values.to_vec())).require_grad());
    let states: Vec<i32> = transitions.iter().map(|&(s, _)| s as i32).collect();
    let online = tables.clone().map(|table| {
        let states = Tensor::<A, 1, Int>::from_ints(&states[..], &device);
        table.select(0, states)
    });
    let gradients = targets.loss(&online, discount, expectile, lift).backward();
    let slopes = tables.map(|table| tensor_values(table.grad(&gradients).unwrap()));
    let slopes = slopes.into_iter().flatten();
    slopes.fold(0.0_f32, |most, slope| most.max(slope.abs()))
}

/// A chain of 11 states whose ends hold: one move to the left and one to the right from each.
fn chain() -> Vec<(usize, usize)> {
    (0..11_usize)
        .flat_map(|s| [(s, s.saturating_sub(1)), (s, (s + 1).min(10))])
        .collect()
}

#[test]
fn costs_on_a_chain_are_the_published_ones() {
    let published = [
        (0.5, [11.865, 43.399, 57.041]),
        (0.7, [2.420, 11.512, 20.368]),
        (0.9, [1.245, 6.072, 11.640]),
        (0.95, [1.109, 5.424, 10.500]),
        (0.99, [1.020, 4.998, 9.736]),
        (1.0, [1.000, 4.901, 9.562]),
    ];
    for (expectile, costs) in published {
        // Of two numbers that are as likely, an expectile is a mean with weights τ and 1 − τ.
        let mut values = [0.0_f64; 11];
        for _ in 0..5000 {
            for s in 1..11 {
                let left = -1.0 + 0.99 * values[s - 1];
                let right = -1.0 + 0.99 * values[(s + 1).min(10)];
                values[s] = expectile * left.max(right) + (1.0 - expectile) * left.min(right);
            }
        }
        for (s, cost) in [1, 5, 10].into_iter().zip(costs) {
            assert!((values[s] + cost).abs() < 6e-4, "{expectile}: {values:?}");
        }
        for (other, _) in published {
            let slope = steepest(&values, &chain(), other, 0.99);
            let holds = if other == expectile {
                slope < 2e-5
            } else {
                slope > 1e-3
            };
            assert!(holds, "{slope} of {other} at the values of {expectile}");
        }
        let slope = steepest(&values, &chain(), expectile, 0.98);
        assert!(slope > 1e-3, "{slope} of another discount");
    }
}

#[test]
fn costs_of_luck_are_the_published_ones() {
    // An action reaches the goal in one of ten or in five of ten cases, and changes nothing in the others.
    for (lucky, expectile, cost) in [
        (1, 0.5, 9.174_312),
        (1, 0.9, 1.980_198),
        (1, 0.95, 1.466_737),
        (5, 0.5, 1.980_198),
        (5, 0.9, 1.109_878),
    ] {
        let transitions: Vec<_> = (0..10).map(|i| (1, usize::from(i >= lucky))).collect();
        let slope = steepest(&[0.0, -cost], &transitions, expectile, 0.99);
        assert!(slope < 2e-6, "{slope} at {cost}");
        let slope = steepest(&[0.0, -1.01 * cost], &transitions, expectile, 0.99);
        assert!(slope > 1e-3, "{slope} at more than {cost}");
    }
}

#[test]
fn costs_of_a_sure_way_are_the_published_ones() {
    let published: [(f64, &[(usize, f64)]); 3] = [
        (
            0.99,
            &[
                (1, 1.0),
                (2, 1.99),
                (5, 4.901),
                (10, 9.5618),
                (20, 18.2093),
                (50, 39.4994),
                (100, 63.3968),
                (200, 86.602),
            ],
        ),
        (0.98, &[(10, 9.1464), (100, 43.369)]),
        (0.96, &[(10, 8.3792), (100, 24.5782)]),
    ];
    let transitions: Vec<_> = (1..=200).map(|s| (s, s - 1)).collect();
    for (discount, costs) in published {
        let value = |steps: i32| (discount.powi(steps) - 1.0) / (1.0 - discount);
        let values: Vec<f64> = (0..=200).map(value).collect();
        for (steps, cost) in costs {
            let found = -values[*steps];
            assert!((found - cost).abs() < 3e-4, "{found}, not {cost}");
        }
        for expectile in [0.5, 0.95] {
            for (other, _) in published {
                let slope = steepest(&values, &transitions, expectile, other);
                let holds = if other == discount {
                    slope < 2e-6
                } else {
                    slope > 1e-4
                };
                assert!(holds, "{slope} of {other} at the values of {discount}");
            }
        }
    }
}

/// A room without walls.
pub(super) const OPEN: [&str; 5] = ["....."; 5];

/// Two rooms with a door between them.
pub(super) const TWO_ROOMS: [&str; 9] = [
    "....#....",
    ".........",
    "....#....",
    "....#....",
    "....#....",
    "....#....",
    "....#....",
    "....#....",
    "....#....",
];

/// A wall with a gap at one end.
pub(super) const WALL: [&str; 9] = [
    ".........",
    ".........",
    ".........",
    ".........",
    "#######..",
    ".........",
    ".........",
    ".........",
    ".........",
];

/// A spine with teeth.
pub(super) const COMB: [&str; 9] = [
    "###########",
    "#.........#",
    "#.#.#.#.#.#",
    "#.#.#.#.#.#",
    "#.#.#.#.#.#",
    "#.#.#.#.#.#",
    "#.#.#.#.#.#",
    "#.#.#.#.#.#",
    "###########",
];

/// Four rooms with three doors between them.
pub(super) const FOUR_ROOMS: [&str; 9] = [
    "....#....",
    ".........",
    "....#....",
    "....#....",
    "#.#######",
    "....#....",
    "....#....",
    ".........",
    "....#....",
];

/// A corridor that turns twice.
pub(super) const CORRIDOR: [&str; 5] = [".###.", ".###.", ".###.", ".###.", "....."];

/// States, and what actions do.
pub(super) struct World {
    /// Where each action leads from each state.
    next: Vec<Vec<usize>>,
    /// Steps of the shortest way from each state to each.
    pub(super) steps: Vec<Vec<usize>>,
}

impl World {
    fn new(next: Vec<Vec<usize>>) -> Self {
        let steps_from = |start: usize| {
            let mut steps = vec![usize::MAX; next.len()];
            steps[start] = 0;
            let mut reached = VecDeque::from([start]);
            while let Some(state) = reached.pop_front() {
                for &after in &next[state] {
                    if steps[after] == usize::MAX {
                        steps[after] = steps[state] + 1;
                        reached.push_back(after);
                    }
                }
            }
            steps
        };
        let steps = (0..next.len()).map(steps_from).collect();
        Self { next, steps }
    }

    /// The dots of a map, with moves up, down, left and right that walls stop.
    pub(super) fn of_map(map: &[&str]) -> Self {
        let mut places = Vec::new();
        for (row, cells) in (0_i32..).zip(map) {
            for (column, cell) in (0_i32..).zip(cells.chars()) {
                if cell == '.' {
                    places.push((row, column));
                }
            }
        }
        let moves: [(i32, i32); 4] = [(-1, 0), (1, 0), (0, -1), (0, 1)];
        let next = places
            .iter()
            .enumerate()
            .map(|(state, (row, column))| -> Vec<usize> {
                let ends = moves.iter().map(|(down, right)| {
                    let end = (row + down, column + right);
                    let found = places.iter().position(|place| *place == end);
                    found.unwrap_or(state)
                });
                ends.collect()
            });
        Self::new(next.collect())
    }

    /// Transitions, as state, action and goal, with states as rows of the identity.
    fn batch(&self, rows: &[(usize, usize, usize)]) -> TransitionBatch {
        let states = |of: &dyn Fn((usize, usize, usize)) -> usize| {
            let mut table = vec![0.0_f32; rows.len() * self.next.len()];
            for (entries, row) in table.chunks_exact_mut(self.next.len()).zip(rows) {
                entries[of(*row)] = 1.0;
            }
            table
        };
        let away = rows
            .iter()
            .map(|&(state, _, goal)| f32::from(state != goal));
        let masks: Vec<f32> = away.collect();
        let goals = states(&|(_, _, goal)| goal);
        TransitionBatch {
            observation_dim: self.next.len(),
            action_dim: 1,
            observations: states(&|(state, _, _)| state),
            next_observations: states(&|(state, action, _)| self.next[state][action]),
            actions: vec![0.0; rows.len()],
            rewards: masks.iter().map(|mask| -mask).collect(),
            masks,
            actor_goals: goals.clone(),
            value_goals: goals,
            ..TransitionBatch::with_size(rows.len())
        }
    }

    /// φ₁ of every state after some updates. It is a table, since no layer lies between rows of the identity and latents.
    fn learn(
        &self,
        (expectile, lr, updates): (f64, f64, u64),
        mut rows: impl FnMut(&mut Rng) -> Vec<(usize, usize, usize)>,
    ) -> Vec<Vec<f32>> {
        let mut config = HilpConfig {
            embedding_dim: 8,
            expectile,
            target_rate: 0.1,
            ..small()
        };
        config.goals.discount = 0.99;
        config.embedding.hidden = vec![];
        config.value.hidden = vec![8];
        config.actor.hidden = vec![8];
        config.optimizer.lr = lr;
        config.lr_schedule.kind = LrScheduleKind::Cosine;
        let states = self.next.len();
        let data = crate::synthetic_dataset(states, 1, 2, 5).unwrap();
        let task = TrainingTask {
            data: DataPart::all(Arc::new(data)),
            steps: updates,
            ..test_agents::line(1)
        };
        let device = Default::default();
        let mut agent = Hilp::new_agent::<A>(&config, &task, &device).unwrap();
        let mut rng = Seed::new(5).rng();
        for _ in 0..updates {
            let batch = self.batch(&rows(&mut rng));
            agent.update(&batch, &mut rng);
        }
        let embedding = agent.networks().embeddings[0].valid();
        let latents = tensor_values(embedding.forward(Tensor::eye(states, &device)));
        latents.chunks_exact(8).map(<[f32]>::to_vec).collect()
    }

    /// Steps and latent distances of all ways between two states.
    pub(super) fn ways(&self, latents: &[Vec<f32>]) -> (Vec<f64>, Vec<f64>) {
        let states = 0..latents.len();
        states
            .clone()
            .flat_map(|from| states.clone().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .map(|(from, to)| {
                let pairs = latents[from].iter().zip(&latents[to]);
                let square: f32 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
                (self.steps[from][to] as f64, f64::from(square.sqrt()))
            })
            .unzip()
    }

    /// Share of the ways that the move furthest towards a point, which is made of state and goal,
    /// finds within twice their steps and 5.
    pub(super) fn greedy_success(
        &self,
        latents: &[Vec<f32>],
        point: impl Fn(&[f32], &[f32]) -> Vec<f32>,
    ) -> f64 {
        let advance = |state: &[f32], after: &[f32], point: &[f32]| {
            let entries = state.iter().zip(after).zip(point);
            entries
                .map(|((state, after), point)| (after - state) * (point - state))
                .sum::<f32>()
        };
        let arrives = |start: usize, goal: usize| {
            let mut state = start;
            for _ in 0..2 * self.steps[start][goal] + 5 {
                let point = point(&latents[state], &latents[goal]);
                // The first of moves that go as far.
                let mut best = (f32::NEG_INFINITY, state);
                for &after in &self.next[state] {
                    let advance = advance(&latents[state], &latents[after], &point);
                    if advance > best.0 {
                        best = (advance, after);
                    }
                }
                state = best.1;
                if state == goal {
                    return true;
                }
            }
            false
        };
        let states = self.next.len();
        let (mut ways, mut found) = (0_usize, 0_usize);
        for start in 0..states {
            for goal in (0..states).filter(|goal| *goal != start) {
                ways += 1;
                found += usize::from(arrives(start, goal));
            }
        }
        found as f64 / ways as f64
    }

    /// Latents that are learned from so many rows at a time, with random states and goals, tell the
    /// steps between states, and lead from each to each.
    fn check_embedding(&self, training: (f64, f64, u64), rows: usize, least_correlation: f64) {
        let states = self.next.len();
        let latents = self.learn(training, |rng| {
            let draw = |_| {
                let [state, goal] = [(); 2].map(|()| rng.random_range(0..states));
                (state, rng.random_range(0..4_usize), goal)
            };
            (0..rows).map(draw).collect()
        });
        let (steps, distances) = self.ways(&latents);
        let correlation = correlation(&distances, &steps);
        assert!(correlation > least_correlation, "{correlation}");
        let error = relative_error(&distances, &steps);
        assert!(error < 0.15, "{error}");
        let success = self.greedy_success(&latents, straight);
        assert!(success >= 0.99, "{success}");
    }
}

/// To the goal.
pub(super) fn straight(_state: &[f32], goal: &[f32]) -> Vec<f32> {
    goal.to_vec()
}

/// The mean error of distances as a share of the steps.
pub(super) fn relative_error(distances: &[f64], steps: &[f64]) -> f64 {
    let errors = distances.iter().zip(steps).map(|(a, b)| (a - b).abs() / b);
    errors.sum::<f64>() / steps.len() as f64
}

/// Pearson's correlation.
pub(super) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let products = |x: &[f64], mean_x: f64, y: &[f64], mean_y: f64| -> f64 {
        let pairs = x.iter().zip(y);
        pairs.map(|(x, y)| (x - mean_x) * (y - mean_y)).sum()
    };
    let variances = products(a, mean_a, a, mean_a) * products(b, mean_b, b, mean_b);
    products(a, mean_a, b, mean_b) / variances.sqrt()
}

#[test]
fn a_chain_is_embedded_as_published() {
    let pairs: Vec<Vec<usize>> = chain()
        .chunks(2)
        .map(|pair| vec![pair[0].1, pair[1].1])
        .collect();
    let world = World::new(pairs);
    let all: Vec<_> = (0..242).map(|i| (i / 22, i / 11 % 2, i % 11)).collect();
    // Nearly the maximum: with less the ends of the chain are further apart than the published bounds allow.
    let latents = world.learn((0.999, 0.02, 1500), |_| all.clone());
    let (steps, distances) = world.ways(&latents);
    let costs: Vec<f64> = steps
        .iter()
        .map(|steps| (1.0 - 0.99_f64.powf(*steps)) / 0.01)
        .collect();
    let errors = distances.iter().zip(&costs).map(|(a, b)| (a - b).abs());
    let largest = errors.fold(0.0, f64::max);
    assert!(largest < 0.15, "{largest}");
    let correlation = correlation(&distances, &costs);
    assert!(correlation > 0.999, "{correlation}");
}

#[test]
fn two_rooms_are_embedded_as_published() {
    World::of_map(&TWO_ROOMS).check_embedding((0.99, 0.03, 2000), 512, 0.98);
}

#[test]
fn an_open_room_is_embedded_as_published() {
    // With a higher expectile, steps to the side make a room smaller than it is.
    World::of_map(&OPEN).check_embedding((0.98, 0.1, 400), 256, 0.95);
}

#[test]
fn a_wall_is_embedded_as_published() {
    World::of_map(&WALL).check_embedding((0.99, 0.1, 800), 512, 0.98);
}

#[test]
fn a_comb_is_embedded_as_published() {
    World::of_map(&COMB).check_embedding((0.99, 0.1, 1000), 512, 0.98);
}

#[test]
fn four_rooms_are_embedded_as_published() {
    World::of_map(&FOUR_ROOMS).check_embedding((0.99, 0.1, 800), 512, 0.98);
}

#[test]
fn a_corridor_is_embedded_as_published() {
    World::of_map(&CORRIDOR).check_embedding((0.99, 0.05, 400), 128, 0.98);
}
