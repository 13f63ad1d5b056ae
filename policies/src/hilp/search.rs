//! The shortest way through landmarks of the data: search on the replay buffer (Eysenbach, Salakhutdinov and Levine 2019,
//! arXiv:1906.05253), in the latent space, where short distances can be trusted and long ones cannot.
//!
//! Landmarks φ_i are means of latents of the data that lie close together, spread over all of it: a mean has no pose of its own, which
//! the policy would be sent into. With c(x) = x up to the `reach` and reach + 100 (x − reach) beyond it, so that a long edge is taken
//! only where nothing else leads on, C_ij are the costs of the shortest ways with edges c(|φ_i − φ_j|). From p = φ(s) to q = φ(g) the
//! policy is sent to q where |q − p| ≤ reach, or else to
//!
//! ```text
//! argmin over landmarks i with |φ_i − p| > 1 of c(|φ_i − p|) + min over landmarks j near q of C_ij + |φ_j − q|
//! ```
//!
//! Near are the landmarks within the reach, or the closest where there is none; to a landmark within 1, a step, p has come already.

use super::prompt::{squared_distance, squared_distances};
use crate::nn::fused::simd;

/// A state within this latent distance of a landmark, one step, has come to it.
const ARRIVED: f32 = 1.0;

/// Landmarks and the shortest ways between them.
pub(super) struct Roadmap {
    /// D.
    dim: usize,
    /// The longest edge that can be trusted, a latent distance.
    reach: f32,
    /// φ_i, `[count, D]`.
    landmarks: Vec<f32>,
    /// C_ij, `[count, count]`.
    costs: Vec<f32>,
}

impl Roadmap {
    /// At most `count` landmarks of `places` `[rows, dim]`, with edges that can be trusted up to a latent distance of `reach`.
    pub(super) fn new(places: &[f32], dim: usize, count: usize, reach: f32) -> Self {
        let landmarks = centres(places, dim, count);
        let costs = landmarks.chunks_exact(dim).flat_map(|from| {
            landmarks
                .chunks_exact(dim)
                .map(move |to| edge_cost(squared_distance(from, to).sqrt(), reach))
        });
        let mut costs: Vec<f32> = costs.collect();
        shorten(&mut costs, landmarks.len() / dim);
        Self {
            dim,
            reach,
            landmarks,
            costs,
        }
    }

    /// The latent to make for on the way from one latent to another, both `[D]`.
    pub(super) fn way_point(&self, from: &[f32], to: &[f32]) -> Vec<f32> {
        if squared_distance(from, to).sqrt() <= self.reach {
            return to.to_vec();
        }
        let count = self.landmarks.len() / self.dim;
        let ends = self.near(to);
        let starts = self.distances(from).into_iter().enumerate();
        let next = starts
            .filter(|(_, distance)| *distance > ARRIVED)
            .map(|(start, distance)| {
                let costs = &self.costs[start * count..][..count];
                let rest = ends.iter().map(|(end, last)| costs[*end] + last);
                let rest = rest.fold(f32::INFINITY, f32::min);
                (start, edge_cost(distance, self.reach) + rest)
            })
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match next {
            Some((next, _)) => self.landmarks[next * self.dim..][..self.dim].to_vec(),
            None => to.to_vec(),
        }
    }

    /// Distances of the landmarks from `point`.
    fn distances(&self, point: &[f32]) -> Vec<f32> {
        let mut distances = vec![0.0; self.landmarks.len() / self.dim];
        squared_distances(&self.landmarks, point, &mut distances);
        distances.iter_mut().for_each(|x| *x = x.sqrt());
        distances
    }

    /// Landmarks within the reach of `point`, or the closest, and their distances.
    fn near(&self, point: &[f32]) -> Vec<(usize, f32)> {
        let distances = self.distances(point);
        let closest = distances.iter().copied().fold(f32::INFINITY, f32::min);
        let limit = closest.max(self.reach);
        (0..).zip(distances).filter(|(_, x)| *x <= limit).collect()
    }
}

/// c(x).
fn edge_cost(distance: f32, reach: f32) -> f32 {
    distance + 99.0 * (distance - reach).max(0.0)
}

/// Up to `count` means of `places` `[rows, dim]`, each of the places that are closest to one of them: to the first, or to one of those
/// that follow, the place farthest from all before it, as long as it differs from them (farthest-point sampling, Gonzalez 1985, and
/// a step of k-means).
fn centres(places: &[f32], dim: usize, count: usize) -> Vec<f32> {
    let rows = places.len() / dim;
    let mut gaps = vec![f32::INFINITY; rows];
    let mut closest = vec![0_usize; rows];
    let mut distances = vec![0.0; rows];
    let mut found = 0;
    let mut next = 0;
    while found < count.min(rows) && gaps[next] > 0.0 {
        squared_distances(places, &places[next * dim..][..dim], &mut distances);
        for ((gap, closest), distance) in gaps.iter_mut().zip(&mut closest).zip(&distances) {
            if distance < gap {
                (*gap, *closest) = (*distance, found);
            }
        }
        found += 1;
        next = (1..rows).fold(
            0,
            |best, row| if gaps[row] > gaps[best] { row } else { best },
        );
    }
    let mut sums = vec![0.0_f64; found * dim];
    let mut members = vec![0_u32; found];
    for (place, closest) in places.chunks_exact(dim).zip(closest) {
        members[closest] += 1;
        let sum = &mut sums[closest * dim..][..dim];
        sum.iter_mut()
            .zip(place)
            .for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let means = sums.chunks_exact(dim).zip(members);
    means
        .flat_map(|(sum, members)| sum.iter().map(move |sum| (sum / f64::from(members)) as f32))
        .collect()
}

/// Turns costs of edges, `[count, count]`, into those of shortest ways (Floyd 1962).
fn shorten(costs: &mut [f32], count: usize) {
    for via in 0..count {
        let rest = costs[via * count..][..count].to_vec();
        simd(
            #[inline(always)]
            || {
                for costs in costs.chunks_exact_mut(count) {
                    let first = costs[via];
                    for (cost, rest) in costs.iter_mut().zip(&rest) {
                        let through = first + rest;
                        *cost = if through < *cost { through } else { *cost };
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latents of a corridor that is folded in two, `[count, 2]`: along y = 0 to x = 20, then back along y = 3, steps of 1.
    fn fold() -> Vec<f32> {
        let there = (0..=20).map(|x| [x as f32, 0.0]);
        let turn = (1..3).map(|y| [20.0, y as f32]);
        let back = (0..=20).map(|x| [(20 - x) as f32, 3.0]);
        there.chain(turn).chain(back).flatten().collect()
    }

    #[test]
    fn landmarks_are_means_of_parts_that_are_spread_out() {
        let line: Vec<f32> = (0..=100).map(|x| x as f32).collect();
        // From 0, 100, 50, 25 and 75, each with what is closest to it, the first of two that are as close.
        let expected = [6.0, 94.0, 50.0, 25.0, 75.0];
        let found = centres(&line, 1, 5);
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() <= 0.5),
            "{found:?}"
        );
        assert_eq!(centres(&[1.0, 1.0, 2.0, 1.0], 1, 4), [1.0, 2.0]);
        assert_eq!(centres(&[0.0, 1.0, 10.0, 11.0], 1, 2), [0.5, 10.5]);
    }

    #[test]
    fn costs_are_those_of_the_shortest_ways() {
        let inf = f32::INFINITY;
        // Dijkstra by hand: 0 → 1 → 2 is 3, shorter than the edge of 5; 3 is reached through 2.
        let mut costs = [
            [0.0, 1.0, 5.0, inf],
            [1.0, 0.0, 2.0, 9.0],
            [5.0, 2.0, 0.0, 1.0],
            [inf, 9.0, 1.0, 0.0],
        ]
        .concat();
        shorten(&mut costs, 4);
        let expected = [
            [0.0, 1.0, 3.0, 4.0],
            [1.0, 0.0, 2.0, 3.0],
            [3.0, 2.0, 0.0, 1.0],
            [4.0, 3.0, 1.0, 0.0],
        ];
        assert_eq!(costs, expected.concat());
    }

    #[test]
    fn a_way_keeps_to_short_edges() {
        // Straight across the fold it is 3, along the corridor 43.
        let map = Roadmap::new(&fold(), 2, 100, 2.5);
        assert_eq!(map.way_point(&[0.0, 0.0], &[0.0, 3.0]), [2.0, 0.0]);
        assert_eq!(map.way_point(&[20.0, 0.0], &[0.0, 3.0]), [20.0, 2.0]);
        assert_eq!(map.way_point(&[3.0, 3.0], &[0.0, 3.0]), [1.0, 3.0]);
        // Within the reach the goal itself, which need not be a landmark.
        assert_eq!(map.way_point(&[2.0, 3.0], &[0.3, 3.1]), [0.3, 3.1]);
        // With a reach of 3 the other side is next door.
        let map = Roadmap::new(&fold(), 2, 100, 3.0);
        assert_eq!(map.way_point(&[0.0, 0.0], &[1.0, 3.0]), [0.0, 3.0]);
    }

    #[test]
    fn a_gap_in_the_data_is_crossed_where_it_is_narrowest() {
        let places: Vec<f32> = (0..=10).chain(16..=30).map(|x| x as f32).collect();
        let map = Roadmap::new(&places, 1, 100, 2.0);
        assert_eq!(map.way_point(&[0.0], &[30.0]), [2.0]);
        assert_eq!(map.way_point(&[10.0], &[30.0]), [16.0]);
    }

    #[test]
    fn there_is_a_way_point_wherever_one_is() {
        // Far from all landmarks: to the closest of them. At the only one: to the goal.
        let map = Roadmap::new(&fold(), 2, 100, 2.5);
        assert_eq!(map.way_point(&[-50.0, 0.0], &[10.0, 0.0]), [0.0, 0.0]);
        let map = Roadmap::new(&[5.0], 1, 3, 1.0);
        assert_eq!(map.way_point(&[5.0], &[9.0]), [9.0]);
        assert_eq!(map.way_point(&[2.0], &[9.0]), [5.0]);
    }
}
