//! Searches in the latent space: a [roadmap](crate::roadmap) with distances |φ_i − φ_j|.
//!
//! Landmarks are means of latents of the data that lie close together, spread over all of it: a mean has no pose of its own, which
//! the policy would be sent into.

use super::prompt::{squared_distance, squared_distances};
use crate::roadmap::{Roadmap, SpreadOut};

/// Latents of landmarks and the ways between them.
pub(super) struct Landmarks {
    /// D.
    dim: usize,
    /// φ_i, `[count, D]`.
    latents: Vec<f32>,
    roadmap: Roadmap,
}

impl Landmarks {
    /// At most `count` landmarks of `places` `[rows, dim]`, with edges that can be trusted up to a latent distance of `reach`.
    pub(super) fn new(places: &[f32], dim: usize, count: usize, reach: f32) -> Self {
        let latents = centres(places, dim, count);
        let distances = latents
            .chunks_exact(dim)
            .flat_map(|from| distances(&latents, from));
        Self {
            roadmap: Roadmap::new(distances.collect(), latents.len() / dim, reach),
            dim,
            latents,
        }
    }

    /// The latent to make for on the way from one latent to another, both `[D]`.
    pub(super) fn way_point(&self, from: &[f32], to: &[f32]) -> Vec<f32> {
        if self.roadmap.trusts(squared_distance(from, to).sqrt()) {
            return to.to_vec();
        }
        let [starts, ends] = [from, to].map(|point| distances(&self.latents, point));
        match self.roadmap.next(&starts, &self.roadmap.costs_to(&ends)) {
            Some(next) => self.latents[next * self.dim..][..self.dim].to_vec(),
            None => to.to_vec(),
        }
    }
}

/// Distances of latents `[count, D]` from `point` `[D]`.
fn distances(latents: &[f32], point: &[f32]) -> Vec<f32> {
    let mut distances = vec![0.0; latents.len() / point.len()];
    squared_distances(latents, point, &mut distances);
    distances.iter_mut().for_each(|x| *x = x.sqrt());
    distances
}

/// Up to `count` means of `places` `[rows, dim]`, each of the places that are closest to one of those that are spread out (a step of
/// k-means).
fn centres(places: &[f32], dim: usize, count: usize) -> Vec<f32> {
    let rows = places.len() / dim;
    let SpreadOut { chosen, closest } = SpreadOut::among(rows, count, |to| {
        let mut distances = vec![0.0; rows];
        squared_distances(places, &places[to * dim..][..dim], &mut distances);
        distances
    });
    let mut sums = vec![0.0_f64; chosen.len() * dim];
    let mut members = vec![0_u32; chosen.len()];
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
    fn a_way_keeps_to_short_edges() {
        // Straight across the fold it is 3, along the corridor 43.
        let map = Landmarks::new(&fold(), 2, 100, 2.5);
        assert_eq!(map.way_point(&[0.0, 0.0], &[0.0, 3.0]), [2.0, 0.0]);
        assert_eq!(map.way_point(&[20.0, 0.0], &[0.0, 3.0]), [20.0, 2.0]);
        assert_eq!(map.way_point(&[3.0, 3.0], &[0.0, 3.0]), [1.0, 3.0]);
        // Within the reach the goal itself, which need not be a landmark.
        assert_eq!(map.way_point(&[2.0, 3.0], &[0.3, 3.1]), [0.3, 3.1]);
        // With a reach of 3 the other side is next door.
        let map = Landmarks::new(&fold(), 2, 100, 3.0);
        assert_eq!(map.way_point(&[0.0, 0.0], &[1.0, 3.0]), [0.0, 3.0]);
    }

    #[test]
    fn a_gap_in_the_data_is_crossed_where_it_is_narrowest() {
        let places: Vec<f32> = (0..=10).chain(16..=30).map(|x| x as f32).collect();
        let map = Landmarks::new(&places, 1, 100, 2.0);
        assert_eq!(map.way_point(&[0.0], &[30.0]), [2.0]);
        assert_eq!(map.way_point(&[10.0], &[30.0]), [16.0]);
    }

    #[test]
    fn there_is_a_way_point_wherever_one_is() {
        // Far from all landmarks: to the closest of them. At the only one: to the goal.
        let map = Landmarks::new(&fold(), 2, 100, 2.5);
        assert_eq!(map.way_point(&[-50.0, 0.0], &[10.0, 0.0]), [0.0, 0.0]);
        let map = Landmarks::new(&[5.0], 1, 3, 1.0);
        assert_eq!(map.way_point(&[5.0], &[9.0]), [9.0]);
        assert_eq!(map.way_point(&[2.0], &[9.0]), [5.0]);
    }
}
