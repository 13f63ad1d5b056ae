//! The shortest way through landmarks of the data: search on the replay buffer (Eysenbach, Salakhutdinov and Levine 2019,
//! arXiv:1906.05253), for estimates d of steps that can be trusted where they are short and not where they are long.
//!
//! With c(x) = x up to the `reach` and reach + 100 (x − reach) beyond it, so that a long edge is taken only where nothing else leads
//! on, C_ij are the costs of the shortest ways between landmarks l with edges c(d(l_i, l_j)). From s to g the policy is sent to g
//! where d(s, g) ≤ reach, or else to
//!
//! ```text
//! argmin over landmarks i with d(s, l_i) > 1 of c(d(s, l_i)) + min over landmarks j near g of C_ij + d(l_j, g)
//! ```
//!
//! Near are the landmarks within the reach, or the closest where there is none; to a landmark within 1, a step, it has come already.

use crate::Problems;
use crate::nn::fused::simd;

/// Where a landmark is this close, one step, it has been come to.
const ARRIVED: f32 = 1.0;

/// The shortest ways between landmarks.
pub(crate) struct Roadmap {
    /// The longest edge that can be trusted, in steps.
    reach: f32,
    /// C_ij, `[count, count]`.
    costs: Vec<f32>,
    count: usize,
}

impl Roadmap {
    /// From the distance from each landmark to each other one, `[count, count]`, in steps, and that up to which they can be trusted.
    pub(crate) fn new(distances: Vec<f32>, count: usize, reach: f32) -> Self {
        let mut costs = distances;
        for cost in &mut costs {
            *cost = edge_cost(*cost, reach);
        }
        shorten(&mut costs, count);
        Self {
            reach,
            costs,
            count,
        }
    }

    /// Whether a distance is short enough to be trusted.
    pub(crate) fn trusts(&self, distance: f32) -> bool {
        distance <= self.reach
    }

    /// Costs of the shortest ways from the landmarks to a goal, `[count]`, by the distances from the landmarks to it, `[count]`.
    pub(crate) fn costs_to(&self, goal: &[f32]) -> Vec<f32> {
        let ends = self.near(goal);
        let ways = self.costs.chunks_exact(self.count).map(|costs| {
            let ways = ends.iter().map(|(end, last)| costs[*end] + last);
            ways.fold(f32::INFINITY, f32::min)
        });
        ways.collect()
    }

    /// The landmark to make for, or `None` where it has come to the only one: by the distances from the state to the landmarks and the
    /// [costs](Self::costs_to) of going on from them, `[count]` each.
    pub(crate) fn next(&self, from: &[f32], rest: &[f32]) -> Option<usize> {
        let starts = from.iter().copied().zip(rest).enumerate();
        let next = starts
            .filter(|(_, (distance, _))| *distance > ARRIVED)
            .map(|(start, (distance, rest))| (start, edge_cost(distance, self.reach) + rest))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        next.map(|(next, _)| next)
    }

    /// Landmarks within the reach, or the closest, and their distances.
    fn near(&self, distances: &[f32]) -> Vec<(usize, f32)> {
        let closest = distances.iter().copied().fold(f32::INFINITY, f32::min);
        let limit = closest.max(self.reach);
        let all = (0..).zip(distances.iter().copied());
        all.filter(|(_, x)| *x <= limit).collect()
    }
}

/// Adds numbers of places and of landmarks, or a reach, that are out of range.
pub(crate) fn check_roadmap(problems: &mut Problems, places: usize, landmarks: usize, reach: f64) {
    // Every checkpoint has the places.
    let holds = (1..=1_000_000).contains(&places);
    problems.check(holds, "places", places, "1 to 1000000");
    // The costs of all ways are kept, 64 MB of them at the limit.
    let holds = (1..=4096).contains(&landmarks);
    problems.check(holds, "landmarks", landmarks, "1 to 4096");
    problems.check(reach > 0.0 && reach.is_finite(), "reach", reach, "above 0");
}

/// c(x).
fn edge_cost(distance: f32, reach: f32) -> f32 {
    distance + 99.0 * (distance - reach).max(0.0)
}

/// Rows that are far from each other, and which of them each row is closest to.
pub(crate) struct SpreadOut {
    /// The rows, in the order in which they were found.
    pub(crate) chosen: Vec<usize>,
    /// For every row, the place among those chosen of the closest, the first of several.
    pub(crate) closest: Vec<usize>,
}

impl SpreadOut {
    /// Up to `count` of some rows: the first, then each time the one farthest from all before it, as long as it differs from them
    /// (farthest-point sampling, Gonzalez 1985). `distances_to` gives how far every row is from one of them, in any measure that grows
    /// with the distance.
    pub(crate) fn among(
        rows: usize,
        count: usize,
        mut distances_to: impl FnMut(usize) -> Vec<f32>,
    ) -> Self {
        let mut gaps = vec![f32::INFINITY; rows];
        let mut closest = vec![0_usize; rows];
        let mut chosen = vec![];
        let mut next = 0;
        while chosen.len() < count.min(rows) && gaps[next] > 0.0 {
            for ((gap, closest), distance) in
                gaps.iter_mut().zip(&mut closest).zip(distances_to(next))
            {
                if distance < *gap {
                    (*gap, *closest) = (distance, chosen.len());
                }
            }
            // An estimate need not find a row at itself, but it is not chosen twice.
            gaps[next] = 0.0;
            chosen.push(next);
            next = (1..rows).fold(
                0,
                |best, row| if gaps[row] > gaps[best] { row } else { best },
            );
        }
        Self { chosen, closest }
    }
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

    /// Places on a line at 0, 4, … 20, which can be walked to the right only.
    fn one_way() -> (Vec<f32>, Roadmap) {
        let places: Vec<f32> = (0..6).map(|i| 4.0 * i as f32).collect();
        let distances = places
            .iter()
            .flat_map(|from| places.iter().map(move |to| ahead(*from, *to)))
            .collect();
        let map = Roadmap::new(distances, places.len(), 5.0);
        (places, map)
    }

    /// From one place to another: ahead their distance, back a detour of 100.
    fn ahead(from: f32, to: f32) -> f32 {
        if to >= from { to - from } else { 100.0 }
    }

    #[test]
    fn ways_are_taken_along_their_direction() {
        let (places, map) = one_way();
        let next = |from: f32, to: f32| {
            let starts: Vec<f32> = places.iter().map(|place| ahead(from, *place)).collect();
            let ends: Vec<f32> = places.iter().map(|place| ahead(*place, to)).collect();
            if map.trusts(ahead(from, to)) {
                return None;
            }
            map.next(&starts, &map.costs_to(&ends))
                .map(|next| places[next])
        };
        assert_eq!(next(0.0, 20.0), Some(4.0));
        assert_eq!(next(7.5, 20.0), Some(12.0));
        assert_eq!(next(16.0, 20.5), None);
        // Behind a goal that lies back there is one edge that cannot be trusted, whichever is taken.
        assert!(next(20.0, 0.0).is_some());
    }

    #[test]
    fn rows_are_spread_out_and_none_is_chosen_twice() {
        let line: Vec<f32> = (0..=8).map(|x| x as f32).collect();
        let found = SpreadOut::among(9, 4, |to| {
            line.iter().map(|x| (x - line[to]).abs()).collect()
        });
        assert_eq!(found.chosen, [0, 8, 4, 2]);
        assert_eq!(found.closest, [0, 0, 3, 2, 2, 2, 1, 1, 1]);
        // An estimate that puts everything at 3, a row itself too.
        let found = SpreadOut::among(3, 9, |_| vec![3.0; 3]);
        assert_eq!(found.chosen, [0, 1, 2]);
    }
}
