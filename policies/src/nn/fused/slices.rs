//! Passes over rows: blocks of a fixed size, on all cores, in vector instructions.

use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

/// Numbers in one block: it stays in the second-level cache, and is worth a task of its own.
const BLOCK: usize = 16 * 1024;

/// Runs `body` compiled for the widest vector instructions of this machine. Only what is inlined into `body` profits.
#[inline(always)]
pub(crate) fn simd<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Rows of `cols` numbers per block. Depends on nothing else, which fixes the order of every sum over rows.
pub(super) fn block_rows(cols: usize) -> usize {
    (BLOCK / cols.max(1)).max(1)
}

/// Calls `body(first_row, rows)` on blocks of rows of `data`.
pub(crate) fn for_blocks(data: &mut [f32], cols: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = block_rows(cols);
    if data.len() <= rows * cols {
        simd(
            #[inline(always)]
            || body(0, data),
        );
    } else {
        data.par_chunks_mut(rows * cols)
            .enumerate()
            .for_each(|(block, data)| {
                simd(
                    #[inline(always)]
                    || body(block * rows, data),
                );
            });
    }
}

/// As [`for_blocks`], with a sum over rows: `body` adds its rows into a zeroed slice of `width` numbers. The sums of the
/// blocks are added in order.
pub(super) fn fold_blocks(
    data: &mut [f32],
    cols: usize,
    width: usize,
    body: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let rows = block_rows(cols);
    let blocks = data.len().div_ceil(rows * cols).max(1);
    let mut partial = vec![0.0; blocks * width];
    if blocks == 1 {
        simd(
            #[inline(always)]
            || body(0, data, &mut partial),
        );
        return partial;
    }
    if width == 0 {
        let body = |(block, data): (usize, &mut [f32])| {
            simd(
                #[inline(always)]
                || body(block * rows, data, &mut []),
            );
        };
        data.par_chunks_mut(rows * cols).enumerate().for_each(body);
        return partial;
    }
    data.par_chunks_mut(rows * cols)
        .zip(partial.par_chunks_mut(width))
        .enumerate()
        .for_each(|(block, (data, partial))| {
            simd(
                #[inline(always)]
                || body(block * rows, data, partial),
            );
        });
    simd(
        #[inline(always)]
        || {
            let (total, others) = partial.split_at_mut(width);
            for other in others.chunks_exact(width) {
                add(total, other);
            }
        },
    );
    partial.truncate(width);
    partial
}

/// The values of a contiguous tensor.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice()
        .expect("kernels are given contiguous f32 tensors")
}

/// Length of the last axis.
pub(super) fn cols(tensor: &FlexTensor) -> usize {
    tensor.layout().shape()[1]
}

/// A tensor from its values.
pub(super) fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(Shape::from(shape)),
        DType::F32,
    )
}

/// A tensor of the shape of `input`, with `body(row, source, destination)` for every row. In the memory of `input` if nobody
/// else holds it; a row is then copied to scratch first.
pub(super) fn map_rows(
    input: FlexTensor,
    body: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) -> FlexTensor {
    map_fold_rows(
        input,
        0,
        #[inline(always)]
        |row, source, destination, _, _| body(row, source, destination),
    )
    .0
}

/// As [`map_rows`], with a sum over rows as in [`fold_blocks`], and a row of memory for what `body` likes:
/// `body(row, source, destination, sums, scratch)`.
pub(super) fn map_fold_rows(
    mut input: FlexTensor,
    width: usize,
    body: impl Fn(usize, &[f32], &mut [f32], &mut [f32], &mut [f32]) + Sync,
) -> (FlexTensor, Vec<f32>) {
    let (cols, shape) = (cols(&input), input.layout().shape().clone());
    if let Some(data) = input.try_storage_mut::<f32>() {
        let sums = fold_blocks(
            data,
            cols,
            width,
            #[inline(always)]
            |first_row, rows, partial| {
                let mut memory = vec![0.0_f32; 2 * cols];
                let (source, scratch) = memory.split_at_mut(cols);
                for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
                    source.copy_from_slice(row);
                    body(first_row + i, source, row, partial, scratch);
                }
            },
        );
        return (input, sums);
    }
    let source = values(&input);
    let mut output = vec![0.0_f32; source.len()];
    let sums = fold_blocks(
        &mut output,
        cols,
        width,
        #[inline(always)]
        |first_row, rows, partial| {
            let source = &source[first_row * cols..];
            let mut scratch = vec![0.0_f32; cols];
            for (i, (row, source)) in rows
                .chunks_exact_mut(cols)
                .zip(source.chunks_exact(cols))
                .enumerate()
            {
                body(first_row + i, source, row, partial, &mut scratch);
            }
        },
    );
    (
        FlexTensor::new(
            Bytes::from_elems(output),
            Layout::contiguous(shape),
            DType::F32,
        ),
        sums,
    )
}

/// `total += other`.
#[inline(always)]
pub(super) fn add(total: &mut [f32], other: &[f32]) {
    total
        .iter_mut()
        .zip(other)
        .for_each(|(total, other)| *total += other);
}

const LANES: usize = 16;

/// Sum of `f(i)` over `0..len`, in 16 interleaved partial sums.
#[inline(always)]
pub(super) fn sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let whole = len / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += f(i + lane);
        }
        i += LANES;
    }
    for (lane, i) in (whole..len).enumerate() {
        lanes[lane] += f(i);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of squares.
#[inline(always)]
pub(crate) fn sum_squares(values: &[f32]) -> f32 {
    sum(values.len(), |i| values[i] * values[i])
}

/// `e^x` to 2 units in the last place, without branches, so that loops over it vectorise.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`, a polynomial for `e^r`, and `2^n` by its bits. Clamped to the finite range; 0 below
/// [`EXP_CUTOFF`].
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ leaves round(·) in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Coefficients of Cephes `expf`.
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_1e-1;
    let e = p * r * r + r + 1.0;
    let value = e * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < EXP_CUTOFF { 0.0 } else { value }
}

/// Where [`exp`] becomes 0. Far tails of activations and of softmax (4e-18 and less) change no result, but products of two
/// of them lie below the normal range of `f32`, where a core takes a hundred times as long: matrix products of a network
/// with saturated units were nine times slower.
const EXP_CUTOFF: f32 = -40.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        let worst = (-4000..8800)
            .map(|i| {
                let x = i as f32 * 0.01 + 0.003;
                let exact = f64::from(x).exp();
                ((f64::from(exp(x)) - exact) / exact).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 2.5e-7, "relative error {worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-40.001) == 0.0 && exp(-1e30) == 0.0 && exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_threads() {
        let (rows, cols) = (5000, 37);
        let source: Vec<f32> = (0..rows * cols)
            .map(|i| ((i * 2_654_435_761_usize) % 1000) as f32 * 1e-3)
            .collect();
        let columns = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut data = source.clone();
            pool.install(|| {
                fold_blocks(&mut data, cols, cols, |_, rows, partial| {
                    rows.chunks_exact(cols).for_each(|row| add(partial, row));
                })
            })
        };
        let one = columns(1);
        assert_eq!(one, columns(2));
        assert_eq!(one, columns(5));
        let exact: f64 = source.iter().step_by(cols).map(|&x| f64::from(x)).sum();
        assert!((f64::from(one[0]) / exact - 1.0).abs() < 1e-5);
    }
}
