//! Clusters of alike observations, where an episode may go on as another one.
//!
//! Temporal augmentation (Ghugare et al. 2024, arXiv:2401.11237): for a row i whose episode has its last valid row at E, a
//! way-point w is drawn uniformly from i + 1 ..= E, a row w' uniformly from the rows of all episodes in the cluster of w, and the
//! goal uniformly from w' on to the last valid row of its episode. So a goal may be one that no episode reached from row i.
//!
//! Clusters are those of k-means on observations with each entry divided by its standard deviation: k-means++ and at most 50
//! iterations of Lloyd on at most 20,000 of the rows, then every row goes to the nearest centre.

use rand::RngExt;
use telic_seed::{Rng, Seed};

use crate::row_table::RowTable;
use crate::statistics::ColumnStatistics;
use crate::{Dataset, EpisodeIndex};

/// Rows that the centres are fitted to.
const FITTED_ROWS: usize = 20_000;
const ITERATIONS: usize = 50;

/// A goal of any episode, and how to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stitched {
    /// A later row of the same episode, from where the goal is known to be reachable.
    pub way_point: usize,
    /// A row of any episode.
    pub goal: usize,
}

/// Rows of a dataset by cluster.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// The cluster of each row; rows that are not sampled are in none.
    of_row: Vec<u32>,
    /// Sampled rows, cluster by cluster.
    rows: Vec<usize>,
    /// Where each cluster begins in `rows`, and the end of the last.
    starts: Vec<usize>,
}

/// In no cluster.
const NONE: u32 = u32::MAX;

impl Clusters {
    /// At most `count` clusters of the rows in a table. The same rows give the same clusters.
    pub(crate) fn new(dataset: &Dataset, valid_rows: &RowTable, count: usize) -> Self {
        let (table, width) = dataset.observation_rows();
        let row_of = |n: usize| {
            let row = valid_rows.row(n);
            &table[row * width..(row + 1) * width]
        };
        let mut rng = Seed::new(0).child("clusters").rng();
        let fitted: Vec<usize> = if valid_rows.len() <= FITTED_ROWS {
            (0..valid_rows.len()).collect()
        } else {
            (0..FITTED_ROWS)
                .map(|_| rng.random_range(0..valid_rows.len()))
                .collect()
        };
        let scales = inverse_deviations(fitted.iter().map(|&n| row_of(n)), width);
        let scaled = |row: &[f32], out: &mut Vec<f32>| {
            out.extend(row.iter().zip(&scales).map(|(x, scale)| x * scale));
        };
        let mut points = Vec::with_capacity(fitted.len() * width);
        fitted.iter().for_each(|&n| scaled(row_of(n), &mut points));
        let centres = fit_centres(&points, width, count, &mut rng);

        let clusters = centres.len() / width;
        let mut of_row = vec![NONE; table.len() / width];
        let mut sizes = vec![0; clusters];
        let mut point = Vec::with_capacity(width);
        for n in 0..valid_rows.len() {
            point.clear();
            scaled(row_of(n), &mut point);
            let cluster = nearest(&point, &centres).0;
            of_row[valid_rows.row(n)] = cluster as u32;
            sizes[cluster] += 1;
        }
        let mut starts = vec![0];
        for size in sizes {
            starts.push(starts[starts.len() - 1] + size);
        }
        let mut next = starts.clone();
        let mut rows = vec![0; valid_rows.len()];
        for n in 0..valid_rows.len() {
            let row = valid_rows.row(n);
            let place = &mut next[of_row[row] as usize];
            rows[*place] = row;
            *place += 1;
        }
        Self {
            of_row,
            rows,
            starts,
        }
    }

    /// The rows in the cluster of a sampled row.
    ///
    /// Panics for a row that is not sampled.
    pub fn rows_like(&self, row: usize) -> &[usize] {
        let cluster = self.of_row[row];
        assert!(cluster != NONE, "row {row} is in no cluster");
        &self.rows[self.starts[cluster as usize]..self.starts[cluster as usize + 1]]
    }

    /// A way-point and a goal for a sampled row.
    pub(crate) fn draw_stitched(
        &self,
        episodes: &EpisodeIndex,
        row: usize,
        rng: &mut Rng,
    ) -> Stitched {
        let end = episodes.end_row(row);
        let way_point = rng.random_range((row + 1).min(end)..=end);
        let rows = self.rows_like(way_point);
        let like = rows[rng.random_range(0..rows.len())];
        let goal = rng.random_range(like..=episodes.end_row(like));
        Stitched { way_point, goal }
    }
}

/// 1 / standard deviation per entry, 0 for an entry that changes by no more than rounding.
fn inverse_deviations<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, width: usize) -> Vec<f32> {
    let columns = ColumnStatistics::of(width, || rows.clone().flatten().copied());
    columns
        .iter()
        .map(|column| {
            if column.is_constant() {
                0.0
            } else {
                (1.0 / column.std) as f32
            }
        })
        .collect()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The nearest centre and its squared distance; the first one of several.
fn nearest(point: &[f32], centres: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::INFINITY);
    for (index, centre) in centres.chunks_exact(point.len()).enumerate() {
        let distance = squared_distance(point, centre);
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best
}

/// k-means++ and Lloyd; fewer centres where there are fewer distinct points.
fn fit_centres(points: &[f32], width: usize, count: usize, rng: &mut Rng) -> Vec<f32> {
    let point = |index: usize| &points[index * width..(index + 1) * width];
    let rows = points.len() / width;
    let mut centres = point(rng.random_range(0..rows)).to_vec();
    let mut distances: Vec<f32> = (0..rows)
        .map(|index| squared_distance(point(index), &centres))
        .collect();
    while centres.len() < count * width {
        let total: f64 = distances.iter().map(|&d| f64::from(d)).sum();
        if total <= 0.0 {
            break;
        }
        let mut left = rng.random::<f64>() * total;
        let far = distances.iter().rposition(|&d| d > 0.0).unwrap_or(0);
        let chosen = distances
            .iter()
            .position(|&d| {
                left -= f64::from(d);
                left < 0.0
            })
            .unwrap_or(far);
        let centre = point(chosen).to_vec();
        for (index, distance) in distances.iter_mut().enumerate() {
            *distance = distance.min(squared_distance(point(index), &centre));
        }
        centres.extend(centre);
    }
    let mut assigned = vec![usize::MAX; rows];
    for _ in 0..ITERATIONS {
        let mut sums = vec![0.0_f64; centres.len()];
        let mut sizes = vec![0_usize; centres.len() / width];
        let mut moved = false;
        for (index, assigned) in assigned.iter_mut().enumerate() {
            let (cluster, _) = nearest(point(index), &centres);
            moved |= *assigned != cluster;
            *assigned = cluster;
            sizes[cluster] += 1;
            for (sum, x) in sums[cluster * width..].iter_mut().zip(point(index)) {
                *sum += f64::from(*x);
            }
        }
        if !moved {
            break;
        }
        for (cluster, &size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0) {
            let range = cluster * width..(cluster + 1) * width;
            for (centre, sum) in centres[range.clone()].iter_mut().zip(&sums[range]) {
                *centre = (sum / size as f64) as f32;
            }
        }
    }
    centres
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array2;

    use super::*;
    use crate::{Episode, Metadata};

    fn dataset(episodes: &[&[f32]]) -> Arc<Dataset> {
        let episodes: Vec<Episode> = episodes
            .iter()
            .map(|positions| Episode {
                observations: Array2::from_shape_fn((positions.len(), 2), |(row, column)| {
                    if column == 0 { positions[row] } else { 7.0 }
                }),
                actions: Array2::zeros((positions.len(), 1)),
                ..Episode::default()
            })
            .collect();
        Arc::new(Dataset::from_episodes(&episodes, Metadata::default()).unwrap())
    }

    #[test]
    fn clusters_are_where_the_data_is() {
        let near = |centre: f32| move |i: usize| centre + 0.01 * (i % 7) as f32;
        let first: Vec<f32> = (0..50)
            .map(near(0.0))
            .chain((0..50).map(near(5.0)))
            .collect();
        let second: Vec<f32> = (0..50)
            .map(near(5.0))
            .chain((0..50).map(near(9.0)))
            .collect();
        let data = dataset(&[&first, &second]);
        let index = data.episodes();
        let rows = RowTable::new((0..2).map(|e| (index.start(e), index.transitions(e))));
        let clusters = Clusters::new(&data, &rows, 3);
        let like = clusters.rows_like(index.start(0) + 70);
        assert_eq!(
            like.len(),
            99,
            "50 of either episode, but for the final state of one"
        );
        assert!(like.iter().any(|row| index.of(*row) == 1));
        assert_eq!(clusters.rows_like(index.start(0)).len(), 50);
        // No more clusters than distinct points.
        let few = dataset(&[&[1.0, 2.0, 1.0, 2.0, 1.0]]);
        let rows = RowTable::new([(0, 4)]);
        let clusters = Clusters::new(&few, &rows, 40);
        assert_eq!(clusters.rows_like(0), [0, 2]);
        assert_eq!(clusters.rows_like(1), [1, 3]);
    }

    #[test]
    fn rounding_of_a_constant_is_no_feature() {
        let constant = 100.0_f32;
        let above = constant.next_up();
        let rows = [[0.0, constant], [2.0, above], [0.0, above], [2.0, constant]];
        let of = |rows: &[[f32; 2]]| inverse_deviations(rows.iter().map(|row| &row[..]), 2);
        assert_eq!(of(&rows), [1.0, 0.0]);
        // Small, but more than rounding.
        let small = rows.map(|[x, y]| [1e-7 * x, y]);
        assert!(of(&small)[0] > 0.9e7);
    }
}
