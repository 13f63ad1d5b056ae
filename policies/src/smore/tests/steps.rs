//! Whole updates against plain arithmetic: which copies each loss asks, and in which order.
//!
//! Networks are linear, so that all of it can be written down in double precision. Their weights
//! are such that one copy in place of another moves weights or numbers by 1e-3 or more, a hundred
//! times what is let through.

use super::*;
use crate::test_agents::mean_over;
use crate::trained::NETWORK;
use crate::{NamedTensor, TensorValues};

/// Rows of h.
const STATES: [f64; 4] = [0.1, 0.4, 0.7, 0.9];
const NEXT: [f64; 4] = [0.2, 0.35, 0.8, 1.0];
const LATER: [f64; 4] = [0.45, 0.25, 0.95, 0.6];
const GOALS: [f64; 4] = [0.2, 0.6, 0.1, 1.0];
const ACTIONS: [f64; 4] = [0.5, -0.3, 0.1, -0.9];
/// The first row enters its goal, and the last one does in two steps.
const ROWS: [usize; 4] = [0, 10, 20, 30];
const GOAL_ROWS: [usize; 4] = [1, 15, 3, 32];
const LATER_ROWS: [usize; 4] = [3, 13, 22, 33];
/// State, goal and action of the rows of e.
const ENTERING: [[f64; 3]; 4] = [
    [0.3, 0.45, 0.9],
    [0.55, 0.5, -0.4],
    [0.15, 0.3, 0.6],
    [0.75, 0.65, -0.7],
];

/// Of what does not depend on the state.
const NO_INPUTS: [[f64; 0]; 4] = [[]; 4];

const DISCOUNT: f64 = 0.9;
/// 2 / (1 − γ).
const TOP: f64 = 20.0;
const LR: f64 = 0.5;
/// So large that the length of a step tells that of its gradient.
const EPSILON: f64 = 10.0;

/// s' is one step on, or several.
fn halves(several: bool) -> SmoreBatch {
    let table = |values: [f64; 4]| values.map(|x| x as f32).to_vec();
    let mut hindsight = TransitionBatch {
        observations: table(STATES),
        actions: table(ACTIONS),
        next_observations: table(NEXT),
        value_goals: table(GOALS),
        rows: ROWS.to_vec(),
        value_goal_rows: GOAL_ROWS.to_vec(),
        ..TransitionBatch::with_size(4)
    };
    if several {
        hindsight.later_observations = table(LATER);
        hindsight.later_rows = LATER_ROWS.to_vec();
    }
    let entering = TransitionBatch {
        observations: table(ENTERING.map(|[state, ..]| state)),
        value_goals: table(ENTERING.map(|[_, goal, _]| goal)),
        actions: table(ENTERING.map(|[.., action]| action)),
        ..TransitionBatch::with_size(4)
    };
    SmoreBatch {
        hindsight,
        entering,
    }
}

/// Weights and, last, a bias.
fn linear(weights: &[f64], input: &[f64]) -> f64 {
    let (bias, weights) = weights.split_last().unwrap();
    let products = input.iter().zip(weights).map(|(x, weight)| x * weight);
    products.sum::<f64>() + bias
}

/// A linear network with Adam.
#[derive(Clone)]
struct Plain {
    weights: Vec<f64>,
    moments: Vec<(f64, f64)>,
    steps: i32,
}

impl Plain {
    fn new(weights: &[f64]) -> Self {
        Self {
            weights: weights.to_vec(),
            moments: vec![(0.0, 0.0); weights.len()],
            steps: 0,
        }
    }

    fn of(&self, input: &[f64]) -> f64 {
        linear(&self.weights, input)
    }

    /// For the gradient of a loss by each output.
    fn step<const N: usize>(&mut self, lr: f64, inputs: &[[f64; N]], slopes: &[f64]) {
        self.steps += 1;
        let [first, second] = [0.9_f64, 0.999].map(|decay| 1.0 - decay.powi(self.steps));
        let weights = self.weights.iter_mut().zip(&mut self.moments);
        for (j, (weight, (m, v))) in weights.enumerate() {
            let rows = inputs.iter().zip(slopes);
            let gradient: f64 = rows
                .map(|(input, slope)| input.get(j).unwrap_or(&1.0) * slope)
                .sum();
            *m = 0.9 * *m + 0.1 * gradient;
            *v = 0.999 * *v + 0.001 * gradient.powi(2);
            *weight -= lr * (*m / first) / ((*v / second).sqrt() + EPSILON);
        }
    }
}

fn mean(of_row: impl Fn(usize) -> f64) -> f64 {
    mean_over(4, of_row)
}

#[derive(Clone)]
struct Reference {
    config: SmoreConfig,
    scores: [Plain; 2],
    slow: [Vec<f64>; 2],
    value: Plain,
    actor: Plain,
    log_std: Plain,
}

impl Reference {
    fn new(config: SmoreConfig) -> Self {
        Self {
            config,
            scores: [
                Plain::new(&[0.8, -0.5, 0.3, 0.2]),
                Plain::new(&[0.2, 0.4, -0.6, 0.35]),
            ],
            slow: [vec![0.9, 0.1, 1.2, 1.5], vec![-0.3, 0.9, 2.4, 1.1]],
            value: Plain::new(&[0.4, 0.3, 0.1]),
            actor: Plain::new(&[0.6, -0.4, 0.1]),
            log_std: Plain::new(&[-0.3]),
        }
    }

    /// Names in a state, and entries.
    fn tensors(&self) -> Vec<(String, Vec<f64>)> {
        let mut tensors = vec![(
            "actor.network.deviation.log".to_owned(),
            self.log_std.weights.clone(),
        )];
        for (name, weights) in [
            ("scores.network.0", &self.scores[0].weights),
            ("scores.network.1", &self.scores[1].weights),
            ("slow_scores.0", &self.slow[0]),
            ("slow_scores.1", &self.slow[1]),
            ("value.network", &self.value.weights),
            ("actor.network.head", &self.actor.weights),
        ] {
            let (bias, weights) = weights.split_last().unwrap();
            tensors.push((format!("{name}.output.weight"), weights.to_vec()));
            tensors.push((format!("{name}.output.bias"), vec![*bias]));
        }
        tensors
    }

    /// T of row `i` with M as it is, step by step.
    fn target(&self, i: usize, several: bool) -> f64 {
        let (state, steps) = if several {
            (LATER[i], LATER_ROWS[i] - ROWS[i])
        } else {
            (NEXT[i], 1)
        };
        let (step, top) = match self.config.loss {
            ScoreLoss::Stable => (-2.0, TOP),
            ScoreLoss::Plain => (0.0, 0.0),
        };
        let entered = GOAL_ROWS[i]
            .checked_sub(ROWS[i])
            .filter(|ahead| self.config.absorbing_goal && (1..=steps).contains(ahead));
        let (end, left) = match entered {
            Some(ahead) => (top, ahead - 1),
            None => (self.value.of(&[state, GOALS[i]]), steps),
        };
        (0..left).fold(end, |after, _| step + DISCOUNT * after)
    }

    /// One update, and the numbers that it reports.
    fn update(&mut self, lr: f64, several: bool) -> Vec<(&'static str, f64)> {
        let acted: [[f64; 3]; 4] = std::array::from_fn(|i| [STATES[i], GOALS[i], ACTIONS[i]]);
        let seen = acted.map(|[state, goal, _]| [state, goal]);
        // Before anything follows anything.
        let slow = acted.map(|row| linear(&self.slow[0], &row).min(linear(&self.slow[1], &row)));

        let m = seen.map(|row| self.value.of(&row));
        let errors: [f64; 4] = std::array::from_fn(|i| slow[i] - m[i]);
        let weights = errors.map(|error| if error > 0.0 { 0.8 } else { 0.2 });
        let mut numbers = vec![
            ("value/loss", mean(|i| weights[i] * errors[i].powi(2))),
            ("value/m_mean", mean(|i| m[i])),
        ];
        let slopes: [f64; 4] = std::array::from_fn(|i| -weights[i] * errors[i] / 2.0);
        self.value.step(lr, &seen, &slopes);

        // With M after its step and the scores before theirs.
        let means = seen.map(|row| self.actor.of(&row).tanh());
        let errors: [f64; 4] = std::array::from_fn(|i| means[i] - ACTIONS[i]);
        let mse = mean(|i| errors[i].powi(2));
        numbers.push(("actor/mse", mse));
        let half_ln_tau = 0.5 * std::f64::consts::TAU.ln();
        let alpha = self.config.alpha;
        let slopes: [f64; 4] = match self.config.extraction {
            Extraction::Awr => {
                let advantages: [f64; 4] =
                    std::array::from_fn(|i| slow[i] - self.value.of(&seen[i]));
                let weights = advantages.map(|advantage| (alpha * advantage).exp().min(100.0));
                let log_std = self.log_std.weights[0];
                let squares = errors.map(|error| error.powi(2) / (2.0 * log_std).exp());
                numbers.push(("actor/advantage", mean(|i| advantages[i])));
                numbers.push(("actor/weight", mean(|i| weights[i])));
                numbers.push((
                    "actor/loss",
                    mean(|i| weights[i] * (squares[i] / 2.0 + log_std + half_ln_tau)),
                ));
                let slopes: [f64; 4] =
                    std::array::from_fn(|i| weights[i] * (1.0 - squares[i]) / 4.0);
                self.log_std.step(lr, &NO_INPUTS, &slopes);
                std::array::from_fn(|i| weights[i] * errors[i] / (2.0 * log_std).exp() / 4.0)
            }
            Extraction::DdpgBc => {
                // The least score, and its slope by the action.
                let least: [(f64, f64); 4] = std::array::from_fn(|i| {
                    let input = [seen[i][0], seen[i][1], means[i]];
                    let [first, second] = [0, 1].map(|k| {
                        let score = &self.scores[k];
                        (score.of(&input), score.weights[2])
                    });
                    if first.0 < second.0 { first } else { second }
                });
                let scale = mean(|i| least[i].0.abs()) + 1e-6;
                let q_loss = -mean(|i| least[i].0) / scale;
                numbers.push(("actor/q_loss", q_loss));
                numbers.push(("actor/loss", q_loss + alpha * (mse / 2.0 + half_ln_tau)));
                std::array::from_fn(|i| (alpha * errors[i] - least[i].1 / scale) / 4.0)
            }
        };
        let slopes: [f64; 4] = std::array::from_fn(|i| slopes[i] * (1.0 - means[i].powi(2)));
        self.actor.step(lr, &seen, &slopes);

        let targets: [f64; 4] = std::array::from_fn(|i| self.target(i, several));
        let stable = self.config.loss == ScoreLoss::Stable;
        let (mut goal, mut along, mut s_mean, mut s_goal) = (0.0, 0.0, 0.0, 0.0);
        for (score, slow) in self.scores.iter_mut().zip(&mut self.slow) {
            let at_goals = ENTERING.map(|row| score.of(&row));
            let in_data = acted.map(|row| score.of(&row));
            let errors: [f64; 4] = std::array::from_fn(|i| in_data[i] - targets[i]);
            goal += mean(|i| {
                if stable {
                    (at_goals[i] - TOP).powi(2)
                } else {
                    -at_goals[i]
                }
            });
            along += mean(|i| errors[i].powi(2)) / 2.0;
            s_mean += mean(|i| in_data[i]) / 2.0;
            s_goal += mean(|i| at_goals[i]) / 2.0;
            let slopes_at_goals = at_goals.map(|s| if stable { (s - TOP) / 2.0 } else { -0.25 });
            let slopes_in_data: [f64; 4] = std::array::from_fn(|i| {
                let growth = if stable { 5e-6 * in_data[i] } else { 2.5e-5 };
                errors[i] / 4.0 + growth
            });
            let rows = [ENTERING, acted].concat();
            score.step(lr, &rows, &[slopes_at_goals, slopes_in_data].concat());
            // At last, and towards the weights after the step.
            for (slow, weight) in slow.iter_mut().zip(&score.weights) {
                *slow = 0.75 * *slow + 0.25 * weight;
            }
        }
        numbers.extend([
            ("score/goal", goal),
            ("score/along", along),
            ("score/s_mean", s_mean),
            ("score/s_goal", s_goal),
        ]);
        numbers
    }
}

fn floats(tensor: &NamedTensor) -> Vec<f64> {
    let TensorValues::F32(values) = tensor.values() else {
        panic!("{}", tensor.describe());
    };
    values.iter().map(|x| f64::from(*x)).collect()
}

fn check_numbers(found: &Metrics, expected: &[(&str, f64)]) {
    for (name, expected) in expected {
        let found = found.get(name).unwrap();
        let tolerance = 1e-5 * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() < tolerance,
            "{name}: {found}, not {expected}"
        );
    }
}

#[test]
fn updates_are_those_of_plain_arithmetic() {
    for (loss, absorbing_goal, extraction, several) in [
        (ScoreLoss::Stable, true, Extraction::Awr, true),
        (ScoreLoss::Stable, false, Extraction::Awr, false),
        (ScoreLoss::Plain, true, Extraction::DdpgBc, true),
        (ScoreLoss::Plain, false, Extraction::DdpgBc, false),
    ] {
        let mut config = SmoreConfig {
            loss,
            absorbing_goal,
            extraction,
            alpha: match extraction {
                Extraction::Awr => 3.0,
                Extraction::DdpgBc => 0.5,
            },
            target_rate: 0.25,
            ..small()
        };
        config.goals.discount = DISCOUNT;
        config.optimizer.lr = LR;
        config.optimizer.epsilon = EPSILON;
        for network in [&mut config.score, &mut config.value, &mut config.actor] {
            network.hidden.clear();
        }
        let mut agent = agent::<Smore>(&config);
        let mut reference = Reference::new(config);
        let mut state = agent.state();
        for (name, values) in reference.tensors() {
            let shape = state.get(&name).unwrap().shape().to_vec();
            let values = values.into_iter().map(|x| x as f32).collect();
            state.insert_f32(name, &shape, values);
        }
        agent.load_state(&state).unwrap();

        let (halves, mut rng) = (halves(several), Seed::new(0).rng());
        for update in 0..3 {
            // An evaluation is an update without steps.
            let expected = reference.clone().update(0.0, several);
            let before = agent.state();
            check_numbers(&agent.evaluate(&halves, &mut rng), &expected);
            assert_eq!(before.first_difference(&agent.state()), None);

            let expected = reference.update(LR, several);
            check_numbers(&agent.update(&halves, &mut rng).read(), &expected);
            let state = agent.state();
            for (name, expected) in reference.tensors() {
                let found = floats(state.get(&name).unwrap());
                assert_eq!(found.len(), expected.len());
                for (entry, value) in found.iter().zip(&expected) {
                    assert!(
                        (entry - value).abs() < 1e-5,
                        "{name} after update {update}: {found:?}, not {expected:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_rate_of_the_actor_alone_falls() {
    let published = SmoreConfig::default();
    let config = SmoreConfig {
        optimizer: published.optimizer,
        lr_schedule: published.lr_schedule,
        ..small()
    };
    let task = TrainingTask {
        steps: 3_000_000,
        ..test_agents::line(1)
    };
    for (updates, of_actor) in [
        (0, 3e-4),
        (750_000, 2.560_660_2e-4),
        (1_500_000, 1.5e-4),
        (3_000_000, 0.0),
    ] {
        let mut agent = Smore::new_agent::<A>(&config, &task, &Default::default()).unwrap();
        let mut state = agent.state();
        for network in [SCORES, VALUE, ACTOR] {
            state.insert_u64(format!("{network}.updates"), updates);
        }
        agent.load_state(&state).unwrap();
        let batch = test_agents::batch(&agent, 1);
        let numbers = agent.update(&batch, &mut Seed::new(1).rng());
        assert_eq!(numbers.read().get("optimizer/lr"), Some(3e-4));
        let state = agent.state();
        for (network, rate) in [(SCORES, 3e-4), (VALUE, 3e-4), (ACTOR, of_actor)] {
            // Biases start at 0, and the first step of Adam is as long as the rate.
            let networks = state.sub_map(network).sub_map(NETWORK);
            let longest = networks
                .iter()
                .filter(|(name, _)| name.ends_with("output.bias"))
                .flat_map(|(_, tensor)| floats(tensor))
                .fold(0.0_f64, |longest, step| longest.max(step.abs()));
            assert!(
                (longest - rate).abs() <= 1e-4 * rate,
                "{network} after {updates} updates: {longest}, not {rate}"
            );
        }
    }
}
