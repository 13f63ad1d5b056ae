//! The length that intervals cover together, the component of an interval quasimetric embedding (Wang and Isola 2022).

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::slices::{block_rows, cols, from_values, values};
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
    let mut bounds = vec![0.0; 2 * starts.len()];
    let (left, right) = bounds.split_at_mut(starts.len());
    for first in (0..starts.len()).step_by(group) {
        let part = first..first + group;
        mark_bounds(
            &starts[part.clone()],
            &ends[part.clone()],
            |j| left[first + j] = 1.0,
            |j| right[first + j] = 1.0,
        );
    }
    let table = |values: &[f32]| {
        Tensor::<B, 2>::from_data(TensorData::new(values.to_vec(), [rows, cols]), &x.device())
    };
    let ends = y * table(right) - x.clone() * table(left);
    ends.reshape([rows, cols / group, group])
        .sum_dim(2)
        .reshape([rows, cols / group])
}

/// Calls `left` for each start and `right` for each end that bounds the union of the intervals `[starts[j], ends[j]]`.
#[inline(always)]
fn mark_bounds(
    starts: &[f32],
    ends: &[f32],
    mut left: impl FnMut(usize),
    mut right: impl FnMut(usize),
) {
    for j in 0..starts.len() {
        let (start, end) = (starts[j], ends[j]);
        if start >= end {
            continue;
        }
        let (mut is_left, mut is_right) = (true, true);
        for i in 0..starts.len() {
            if i == j || starts[i] >= ends[i] {
                continue;
            }
            // Of equal bounds the first one counts.
            is_left &= !(starts[i] < start && start <= ends[i]) && !(i < j && starts[i] == start);
            is_right &= !(starts[i] <= end && end < ends[i]) && !(i < j && ends[i] == end);
        }
        if is_left {
            left(j);
        }
        if is_right {
            right(j);
        }
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
        let groups = cols / group;
        let mut output = vec![0.0; x.len() / group];
        let rows = block_rows(cols);
        output
            .par_chunks_mut(rows * groups)
            .zip(x.par_chunks(rows * cols).zip(y.par_chunks(rows * cols)))
            .for_each(|(output, (x, y))| {
                for ((length, x), y) in output
                    .iter_mut()
                    .zip(x.chunks_exact(group))
                    .zip(y.chunks_exact(group))
                {
                    let (mut left, mut right) = (0.0, 0.0);
                    mark_bounds(x, y, |j| left += x[j], |j| right += y[j]);
                    *length = right - left;
                }
            });
        let rows = output.len() / groups;
        from_values(output, [rows, groups])
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
                for (i, gradient) in gradient.iter().enumerate() {
                    let part = i * group..(i + 1) * group;
                    let (dx, dy) = (&mut dx[part.clone()], &mut dy[part.clone()]);
                    mark_bounds(
                        &x[part.clone()],
                        &y[part],
                        |j| dx[j] = -gradient,
                        |j| dy[j] = *gradient,
                    );
                }
            });
        let shape = [x.len() / cols, cols];
        [dx, dy].map(|values| Some(from_values(values, shape)))
    }
}
