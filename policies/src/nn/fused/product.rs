//! `x w`: the matrix product of burn's flex backend without what surrounds it there, where every result is allocated twice,
//! zeroed and copied before the product is written.

use std::mem::MaybeUninit;
use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{FloatDType, Tensor};
use burn_flex::FlexTensor;

use super::few_rows;
use super::slices::{cols, from_values, map_rows, values};
use super::{Kernel, is_flex, primitive, run, tensor};
use crate::Precision;

/// `x w`.
///
/// A row of the result gives the same bits alone and among others, but for a single row where `w` has more than 512
/// rows: then another order of summation applies.
///
/// # Shapes
/// `x` `[rows, inputs]`, `w` `[inputs, outputs]` → `[rows, outputs]`.
pub fn product<B: Backend>(x: Tensor<B, 2>, w: Tensor<B, 2>) -> Tensor<B, 2> {
    match run::<B, _, 2>(&Product, [primitive(x), primitive(w)]) {
        Ok(output) => tensor(output),
        Err([x, w]) => tensor::<B, 2>(x).matmul(tensor(w)),
    }
}

/// `x w` in the [precision](Precision) that the thread works in: what hidden layers are made of.
///
/// # Shapes
/// As [`product`].
pub fn mixed_product<B: Backend>(x: Tensor<B, 2>, w: Tensor<B, 2>) -> Tensor<B, 2> {
    match Precision::current() {
        Precision::F32 => product(x, w),
        Precision::Bf16 if is_flex::<B>() => round(product(round(x), round(w))),
        Precision::Bf16 => {
            let product = x.cast(FloatDType::BF16).matmul(w.cast(FloatDType::BF16));
            product.cast(FloatDType::F32)
        }
    }
}

/// The nearest numbers of `bf16`, of the same shape, and gradients to the nearest as well.
pub(super) fn round<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    match run::<B, _, 1>(&Round, [primitive(x)]) {
        Ok(output) => tensor(output),
        Err([x]) => tensor::<B, 2>(x)
            .cast(FloatDType::BF16)
            .cast(FloatDType::F32),
    }
}

#[derive(Clone, Debug)]
struct Round;

impl Kernel<1> for Round {
    type Saved = ();

    fn save(&self, _: &[FlexTensor; 1]) -> Self::Saved {}

    fn forward(&self, [x]: [FlexTensor; 1]) -> FlexTensor {
        map_rows(
            x,
            #[inline(always)]
            |_, x, rounded| {
                for (x, rounded) in x.iter().zip(rounded) {
                    *rounded = round_to_bf16(*x);
                }
            },
        )
    }

    fn backward(
        &self,
        (): Self::Saved,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        [Some(self.forward([gradient]))]
    }
}

/// The nearest `bf16`, of two equally near ones the even one. Without branches, so that loops become vector code.
#[inline(always)]
fn round_to_bf16(x: f32) -> f32 {
    /// Bits that `bf16` does not have.
    const LOST: u32 = 0xffff;
    let bits = x.to_bits();
    let up = (LOST >> 1) + ((bits >> 16) & 1);
    let rounded = f32::from_bits(bits.wrapping_add(up) & !LOST);
    // The sum would turn some that are no numbers into infinities.
    if x.is_nan() { x } else { rounded }
}

#[derive(Clone, Debug)]
struct Product;

impl Kernel<2> for Product {
    type Saved = [FlexTensor; 2];

    fn save(&self, inputs: &[FlexTensor; 2]) -> Self::Saved {
        inputs.clone()
    }

    fn forward(&self, [x, w]: [FlexTensor; 2]) -> FlexTensor {
        multiply(Matrix::of(&x), Matrix::of(&w))
    }

    fn backward(
        &self,
        [x, w]: [FlexTensor; 2],
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let gradient = Matrix::of(&gradient);
        [
            wanted[0].then(|| multiply(gradient, Matrix::of(&w).transposed())),
            wanted[1].then(|| multiply(Matrix::of(&x).transposed(), gradient)),
        ]
    }
}

/// A matrix in memory: entry (i, j) is `values[i · row_stride + j · col_stride]`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    fn of(tensor: &'a FlexTensor) -> Self {
        let (values, cols) = (values(tensor), cols(tensor));
        Self {
            values,
            rows: tensor.layout().shape()[0],
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Whether the rows stand one after another.
    fn is_contiguous(&self) -> bool {
        self.col_stride == 1 && self.row_stride == self.cols
    }

    /// Whether every entry lies in `values`.
    fn is_inside(&self) -> bool {
        self.rows > 0
            && self.cols > 0
            && (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride
                < self.values.len()
    }
}

/// `left right`, on all cores if that is worth it. The result does not depend on their number.
#[allow(unsafe_code)]
fn multiply(left: Matrix<'_>, right: Matrix<'_>) -> FlexTensor {
    /// Up to this many rows it takes longer to rearrange `right` than to read it in place.
    const FEW_ROWS: usize = 64;
    /// Columns that the library reads in place come in multiples of its widest vector.
    const LANES: usize = 16;
    /// With more columns than this the library always adds up in parts of the same length.
    const ALIKE: usize = 64;
    let (m, k, n) = (left.rows, left.cols, right.cols);
    assert_eq!(
        k, right.rows,
        "a product of {m} × {k} and {} × {n}",
        right.rows
    );
    assert!(
        left.is_inside() && right.is_inside(),
        "a product of empty matrices"
    );
    if left.is_contiguous() && right.is_contiguous() && few_rows::is_faster([m, k, n]) {
        return from_values(
            few_rows::multiply(left.values, right.values, [m, k, n]),
            [m, n],
        );
    }
    let mut output: Vec<f32> = Vec::with_capacity(m * n);
    let entries = &mut output.spare_capacity_mut()[..m * n];
    let rest = n % LANES + ALIKE;
    if rest > ALIKE && n > rest + ALIKE && (2..=FEW_ROWS).contains(&m) && right.col_stride == 1 {
        multiply_columns(left, right, 0..n - rest, entries);
        multiply_columns(left, right, n - rest..n, entries);
    } else {
        multiply_columns(left, right, 0..n, entries);
    }
    // SAFETY: all m · n numbers, every column of every row, have been written.
    unsafe { output.set_len(m * n) };
    from_values(output, [m, n])
}

/// Writes some columns of `left right` to `output`, `[left.rows, right.cols]` row by row.
#[allow(unsafe_code)]
fn multiply_columns(
    left: Matrix<'_>,
    right: Matrix<'_>,
    columns: Range<usize>,
    output: &mut [MaybeUninit<f32>],
) {
    /// Multiplications from which on it is worth to wake threads.
    const PARALLEL: usize = 192 * 192 * 192;
    let (m, k, n) = (left.rows, left.cols, columns.len());
    assert!(columns.end <= right.cols && output.len() == m * right.cols);
    // On a thread of a pool the others are awake, and the library's own limit holds.
    let parallelism = if rayon::current_thread_index().is_some() || m * k * n >= PARALLEL {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: `multiply` has checked that every entry that the strides reach lies in its slice, and the slices are borrowed
    // during the call. The columns are some of `right`, and of `output`, whose rows are `right.cols` apart (column stride 1).
    // With `read_dst` false the product writes every entry of them and reads none.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr().add(columns.start).cast(),
            1,
            right.cols as isize,
            false,
            left.values.as_ptr(),
            left.col_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr().add(columns.start * right.col_stride),
            right.col_stride as isize,
            right.row_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
