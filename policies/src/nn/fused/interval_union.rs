//! The length that intervals cover together, the component of an interval quasimetric embedding (Wang and Isola 2022).

use std::cmp::Ordering;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::slices::{block_rows, cols, from_values, simd, values};
use super::{Kernel, primitive, run, tensor};
use crate::module_state::tensor_values;

/// Length of the union of the intervals `[x_j, y_j]` with `x_j < y_j`, over every `group` neighbouring columns.
///
/// The gradient is 1 at a `y_j` and −1 at an `x_j` that bounds the union, and 0 at all others.
///
/// # Shapes
/// `x`, `y` `[rows, groups · group]` → `[rows, groups]`.
pub fn interval_union<B: Backend>(x: Tensor<B, 2>, y: Tensor<B, 2>, group: usize) -> Tensor<B, 2> {
    let [_, cols] = x.dims();
    assert!(
        group > 0 && cols.is_multiple_of(group),
        "{cols} columns are not groups of {group}"
    );
    match run::<B, _, 2>(&IntervalUnion { group }, [primitive(x), primitive(y)]) {
        Ok(output) => tensor(output),
        Err([x, y]) => composed(tensor(x), tensor(y), group),
    }
}

/// `Σ right bounds − Σ left bounds` of the union; which ends are bounds is decided on the host.
pub(super) fn composed<B: Backend>(x: Tensor<B, 2>, y: Tensor<B, 2>, group: usize) -> Tensor<B, 2> {
    let [rows, cols] = x.dims();
    let (starts, ends) = (tensor_values(x.clone()), tensor_values(y.clone()));
    let (mut left, mut right) = (vec![0.0; starts.len()], vec![0.0; ends.len()]);
    Lanes::new(group).run(&starts, &ends, |first, lanes| {
        for (entry, [is_left, is_right]) in lanes.bounds() {
            left[first * group + entry] = is_left;
            right[first * group + entry] = is_right;
        }
    });
    let table = |values: Vec<f32>| {
        Tensor::<B, 2>::from_data(TensorData::new(values, [rows, cols]), &x.device())
    };
    let ends = y * table(right) - x.clone() * table(left);
    ends.reshape([rows, cols / group, group])
        .sum_dim(2)
        .reshape([rows, cols / group])
}

/// Groups that are worked on side by side.
const LANES: usize = 16;

/// Some groups of intervals, one per lane; a table of each quantity has a line per interval of a group.
struct Lanes {
    group: usize,
    /// Groups that are there; the lanes after them are empty.
    count: usize,
    starts: Vec<[f32; LANES]>,
    ends: Vec<[f32; LANES]>,
    /// 1 where a start bounds the union, else 0.
    left: Vec<[f32; LANES]>,
    /// 1 where an end bounds the union, else 0.
    right: Vec<[f32; LANES]>,
}

impl Lanes {
    fn new(group: usize) -> Self {
        let table = || vec![[0.0; LANES]; group];
        Self {
            group,
            count: 0,
            starts: table(),
            ends: table(),
            left: table(),
            right: table(),
        }
    }

    /// Calls `visit(first group, lanes)` for all groups in turn.
    #[inline(always)]
    fn run(&mut self, x: &[f32], y: &[f32], mut visit: impl FnMut(usize, &Self)) {
        let chunk = LANES * self.group;
        for (index, (x, y)) in x.chunks(chunk).zip(y.chunks(chunk)).enumerate() {
            self.load(x, y);
            self.mark();
            visit(index * LANES, self);
        }
    }

    #[inline(always)]
    fn load(&mut self, x: &[f32], y: &[f32]) {
        self.count = x.len() / self.group;
        for j in 0..self.group {
            // An empty interval has nothing to cover.
            let (starts, ends) = (&mut self.starts[j], &mut self.ends[j]);
            (*starts, *ends) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
            for lane in 0..self.count {
                let (start, end) = (x[lane * self.group + j], y[lane * self.group + j]);
                if start < end {
                    (starts[lane], ends[lane]) = (start, end);
                }
            }
        }
    }

    // Without branches, so that lanes become vectors.
    #[allow(clippy::needless_bitwise_bool)]
    #[inline(always)]
    fn mark(&mut self) {
        for j in 0..self.group {
            let (start, end) = (self.starts[j], self.ends[j]);
            let (mut left, mut right) = ([0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                let there = if start[lane] < end[lane] { 1.0 } else { 0.0 };
                (left[lane], right[lane]) = (there, there);
            }
            for i in 0..self.group {
                let (from, to) = (&self.starts[i], &self.ends[i]);
                // Of equal bounds the first one counts.
                match i.cmp(&j) {
                    Ordering::Less => {
                        for lane in 0..LANES {
                            let (start, end) = (start[lane], end[lane]);
                            let inside = (from[lane] <= start) & (start <= to[lane]);
                            left[lane] = if inside { 0.0 } else { left[lane] };
                            let inside = (from[lane] <= end) & (end <= to[lane]);
                            right[lane] = if inside { 0.0 } else { right[lane] };
                        }
                    }
                    Ordering::Equal => {}
                    Ordering::Greater => {
                        for lane in 0..LANES {
                            let (start, end) = (start[lane], end[lane]);
                            let inside = (from[lane] < start) & (start <= to[lane]);
                            left[lane] = if inside { 0.0 } else { left[lane] };
                            let inside = (from[lane] <= end) & (end < to[lane]);
                            right[lane] = if inside { 0.0 } else { right[lane] };
                        }
                    }
                }
            }
            (self.left[j], self.right[j]) = (left, right);
        }
    }

    /// The length of the union in each lane.
    #[inline(always)]
    fn lengths(&self) -> [f32; LANES] {
        let mut lengths = [0.0; LANES];
        for j in 0..self.group {
            for (lane, length) in lengths.iter_mut().enumerate() {
                // Not a product: empty intervals are infinite.
                let end = if self.right[j][lane] > 0.0 {
                    self.ends[j][lane]
                } else {
                    0.0
                };
                let start = if self.left[j][lane] > 0.0 {
                    self.starts[j][lane]
                } else {
                    0.0
                };
                *length += end - start;
            }
        }
        lengths
    }

    /// Every interval, numbered in the order of the groups, and whether its start and its end are bounds, as 1 or 0.
    #[inline(always)]
    fn bounds(&self) -> impl Iterator<Item = (usize, [f32; 2])> {
        (0..self.count).flat_map(move |lane| {
            (0..self.group).map(move |j| {
                let bounds = [self.left[j][lane], self.right[j][lane]];
                (lane * self.group + j, bounds)
            })
        })
    }
}

#[derive(Clone, Debug)]
struct IntervalUnion {
    group: usize,
}

impl Kernel<2> for IntervalUnion {
    type Saved = [FlexTensor; 2];

    fn save(&self, inputs: &[FlexTensor; 2]) -> Self::Saved {
        inputs.clone()
    }

    fn forward(&self, [x, y]: [FlexTensor; 2]) -> FlexTensor {
        let (cols, group) = (cols(&x), self.group);
        let (x, y) = (values(&x), values(&y));
        let mut output = vec![0.0; x.len() / group];
        let block = block_rows(cols) * cols;
        output
            .par_chunks_mut(block / group)
            .zip(x.par_chunks(block).zip(y.par_chunks(block)))
            .for_each(|(output, (x, y))| {
                simd(
                    #[inline(always)]
                    || {
                        Lanes::new(group).run(x, y, |first, lanes| {
                            let output = &mut output[first..first + lanes.count];
                            output.copy_from_slice(&lanes.lengths()[..lanes.count]);
                        });
                    },
                );
            });
        let rows = x.len() / cols;
        from_values(output, [rows, cols / group])
    }

    fn backward(
        &self,
        [x, y]: [FlexTensor; 2],
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let (cols, group) = (cols(&x), self.group);
        let (x, y, gradient) = (values(&x), values(&y), values(&gradient));
        let (mut dx, mut dy) = (vec![0.0; x.len()], vec![0.0; y.len()]);
        let block = block_rows(cols) * cols;
        dx.par_chunks_mut(block)
            .zip(dy.par_chunks_mut(block))
            .zip(x.par_chunks(block).zip(y.par_chunks(block)))
            .zip(gradient.par_chunks(block / group))
            .for_each(|(((dx, dy), (x, y)), gradient)| {
                simd(
                    #[inline(always)]
                    || {
                        Lanes::new(group).run(x, y, |first, lanes| {
                            for (entry, [left, right]) in lanes.bounds() {
                                let gradient = gradient[first + entry / group];
                                dx[first * group + entry] = -left * gradient;
                                dy[first * group + entry] = right * gradient;
                            }
                        });
                    },
                );
            });
        let shape = [x.len() / cols, cols];
        [dx, dy].map(|values| Some(from_values(values, shape)))
    }
}
