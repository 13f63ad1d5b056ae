//! Fits of the steps between states: what latents can tell of them at all, and how far one gets
//! by such latents.

use burn::tensor::{Int, TensorData};
use nalgebra::DMatrix;

use super::worlds::{
    COMB, CORRIDOR, FOUR_ROOMS, OPEN, TWO_ROOMS, WALL, World, correlation, relative_error, straight,
};
use super::*;
use crate::hilp::prompt::way_point;
use crate::test_agents::A;

/// Points whose distances are close to some distances: classical scaling.
fn scaled(distances: &DMatrix<f64>, dim: usize) -> DMatrix<f64> {
    let points = distances.nrows();
    let centring = DMatrix::from_fn(points, points, |i, j| {
        f64::from(i == j) - 1.0 / points as f64
    });
    let squares = distances.component_mul(distances);
    let eigen = (&centring * squares * &centring * -0.5).symmetric_eigen();
    let mut axes: Vec<usize> = (0..points).collect();
    axes.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    DMatrix::from_fn(points, dim, |i, k| {
        eigen.eigenvectors[(i, axes[k])] * eigen.eigenvalues[axes[k]].max(0.0).sqrt()
    })
}

fn distance(points: &DMatrix<f64>, i: usize, j: usize) -> f64 {
    let squares = (0..points.ncols()).map(|k| (points[(i, k)] - points[(j, k)]).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Latents whose distances are closest to the steps of a world: stress majorisation.
fn fit(world: &World, dim: usize) -> Vec<Vec<f32>> {
    let states = world.steps.len();
    let steps = DMatrix::from_fn(states, states, |i, j| world.steps[i][j] as f64);
    let mut points = scaled(&steps, dim);
    for _ in 0..300 {
        let mut pull = DMatrix::<f64>::zeros(states, states);
        for i in 0..states {
            for j in 0..i {
                // Points on top of each other pull in no direction.
                let ratio = steps[(i, j)] / distance(&points, i, j).max(1e-9);
                pull[(i, j)] -= ratio;
                pull[(j, i)] -= ratio;
                pull[(i, i)] += ratio;
                pull[(j, j)] += ratio;
            }
        }
        points = pull * points / states as f64;
    }
    let rows = points.row_iter();
    rows.map(|row| row.iter().map(|x| *x as f32).collect())
        .collect()
}

#[test]
fn discounted_chains_need_the_published_dimensions() {
    // Width of the latents; root of the mean square error, and largest error.
    type Fit = (usize, [f64; 2]);
    let published: [(usize, &[Fit]); 2] = [
        (
            11,
            &[
                (1, [0.071, 0.154]),
                (2, [0.0147, 0.0377]),
                (4, [0.0025, 0.0068]),
                (10, [0.0, 0.0]),
            ],
        ),
        (
            101,
            &[
                (1, [4.20, 10.99]),
                (4, [0.229, 1.118]),
                (8, [0.0415, 0.271]),
            ],
        ),
    ];
    for (states, fits) in published {
        let costs = DMatrix::from_fn(states, states, |i, j| {
            (1.0 - 0.99_f64.powi(i.abs_diff(j) as i32)) / 0.01
        });
        for (dim, expected) in fits {
            let points = scaled(&costs, *dim);
            let (mut squares, mut largest) = (0.0_f64, 0.0_f64);
            for i in 0..states {
                for j in 0..i {
                    let error = (distance(&points, i, j) - costs[(i, j)]).abs();
                    squares += error * error;
                    largest = largest.max(error);
                }
            }
            let pairs = states * (states - 1) / 2;
            let found = [(squares / pairs as f64).sqrt(), largest];
            for (a, b) in found.iter().zip(expected) {
                let tolerance = 1e-4 + 2e-3 * b;
                assert!((a - b).abs() < tolerance, "{states}, {dim}: {found:?}");
            }
        }
    }
}

#[test]
fn worlds_and_their_fits_are_the_published_ones() {
    // Width of the latents; root of the mean square error, mean relative error, correlation, and
    // success.
    type Fit = (usize, [f64; 4]);
    let published: [(&[&str], [usize; 2], &[Fit]); 6] = [
        (&OPEN, [25, 8], &[(2, [0.429, 0.133, 0.965, 1.0])]),
        (
            &TWO_ROOMS,
            [73, 22],
            &[
                (2, [0.521, 0.083, 0.994, 0.950]),
                (4, [0.398, 0.073, 0.997, 1.0]),
            ],
        ),
        (
            &WALL,
            [74, 22],
            &[
                (2, [0.510, 0.082, 0.994, 1.0]),
                (4, [0.404, 0.074, 0.997, 1.0]),
            ],
        ),
        (
            &COMB,
            [39, 20],
            &[
                (2, [1.223, 0.121, 0.957, 0.919]),
                (4, [0.501, 0.073, 0.995, 1.0]),
            ],
        ),
        (
            &FOUR_ROOMS,
            [67, 24],
            &[
                // Too few for four rooms: this is what failure looks like.
                (2, [0.519, 0.079, 0.996, 0.731]),
                (4, [0.313, 0.064, 0.999, 1.0]),
                (8, [0.294, 0.064, 0.999, 1.0]),
            ],
        ),
        (&CORRIDOR, [13, 12], &[(2, [0.0, 0.0, 1.0, 1.0])]),
    ];
    for (map, size, fits) in published {
        let world = World::of_map(map);
        let longest = world.steps.iter().flatten().max().unwrap();
        assert_eq!([world.steps.len(), *longest], size, "{map:?}");
        for (dim, expected) in fits {
            let latents = fit(&world, *dim);
            let (steps, distances) = world.ways(&latents);
            let squares = steps.iter().zip(&distances).map(|(a, b)| (a - b).powi(2));
            let found = [
                (squares.sum::<f64>() / steps.len() as f64).sqrt(),
                relative_error(&distances, &steps),
                correlation(&distances, &steps),
                world.greedy_success(&latents, straight),
            ];
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-3, "{map:?}, {dim}: {found:?}");
            }
        }
    }
}

#[test]
fn plans_through_fits_succeed_as_published() {
    for (map, dim, published) in [
        (&COMB, 2, [0.919, 1.0, 1.0, 1.0]),
        (&FOUR_ROOMS, 2, [0.731, 0.615, 0.642, 0.619]),
        (&FOUR_ROOMS, 8, [1.0, 1.0, 0.984, 0.898]),
    ] {
        let world = World::of_map(map);
        let latents = fit(&world, dim);
        let places = latents.concat();
        for (recursions, expected) in published.into_iter().enumerate() {
            let prompt = PromptConfig {
                kind: PromptKind::Plan,
                recursions,
                neighbours: 1,
                ..PromptConfig::default()
            };
            let success = world.greedy_success(&latents, |state, goal| {
                let point = way_point(state, goal, &places, &prompt);
                // A plan that ends where it starts has no direction.
                if point == state { goal.to_vec() } else { point }
            });
            assert!(
                (success - expected).abs() < 2e-3,
                "{map:?}, {dim}, {recursions}: {success}, not {expected}"
            );
        }
    }
}

/// Distances between four points in the plane, where the loss of an embedding settles whose targets
/// are these distances.
fn settled(mut points: [[f32; 2]; 4], targets: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    let device = Default::default();
    let pairs = (0..4_usize).flat_map(|i| (0..4_usize).map(move |j| (i, j)));
    let pairs: Vec<_> = pairs.filter(|(i, j)| i != j).collect();
    let column = |values: Vec<f32>| {
        Tensor::<Flex, 2>::from_data(TensorData::new(values, [pairs.len(), 1]), &device)
    };
    let zeros = column(vec![0.0; pairs.len()]);
    // Nothing is bootstrapped, so that the reward is the target.
    let targets = ValueTargets {
        rewards: column(pairs.iter().map(|&(i, j)| -targets[i][j]).collect()),
        masks: zeros.clone(),
        slow_now: vec![zeros.clone()],
        slow_next: vec![zeros],
    };
    let ends = |end: &dyn Fn(&(usize, usize)) -> usize| {
        let ends: Vec<i32> = pairs.iter().map(|pair| end(pair) as i32).collect();
        Tensor::<A, 1, Int>::from_ints(&ends[..], &device)
    };
    let (from, to) = (ends(&|pair| pair.0), ends(&|pair| pair.1));
    for _ in 0..100 {
        let table = Tensor::<A, 2>::from_floats(points, &device).require_grad();
        let latents = |ends: &Tensor<A, 1, Int>| vec![table.clone().select(0, ends.clone())];
        let found = distances(latents(&from), &latents(&to));
        let loss = targets.loss(&found, 0.99, 0.5, Tensor::<A, 2>::from_inner);
        let slopes = tensor_values(table.grad(&loss.backward()).unwrap());
        for (x, slope) in points.iter_mut().flatten().zip(slopes) {
            *x -= 1.5 * slope;
        }
    }
    points.map(|a| points.map(|b| (a[0] - b[0]).hypot(a[1] - b[1])))
}

#[test]
fn small_graphs_settle_at_their_closed_forms() {
    let near = |found: f32, expected: f32| {
        assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
    };
    let cycle = settled(
        [[0.0, 0.0], [1.0, 0.2], [1.1, 1.0], [-0.2, 0.9]],
        [
            [0.0, 1.0, 2.0, 1.0],
            [1.0, 0.0, 1.0, 2.0],
            [2.0, 1.0, 0.0, 1.0],
            [1.0, 2.0, 1.0, 0.0],
        ],
    );
    for (i, row) in cycle.iter().enumerate() {
        near(row[(i + 1) % 4], 1.2071);
        near(row[(i + 2) % 4], 1.7071);
    }
    let star = settled(
        [[0.0, 0.0], [1.0, 0.1], [-0.4, 0.9], [-0.6, -0.7]],
        [
            [0.0, 1.0, 1.0, 1.0],
            [1.0, 0.0, 2.0, 2.0],
            [1.0, 2.0, 0.0, 2.0],
            [1.0, 2.0, 2.0, 0.0],
        ],
    );
    for (leaf, other) in [(1, 2), (2, 3), (3, 1)] {
        near(star[0][leaf], 1.1160);
        near(star[leaf][other], 1.9330);
    }
}
