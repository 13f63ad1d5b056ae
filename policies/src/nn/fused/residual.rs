//! `h + dropout(y + b)`: the end of a residual branch.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_flex::FlexTensor;

use super::slices::{add, cols, from_values, map_fold_rows, map_rows, values};
use super::{Dropout, Kernel, primitive, run, tensor};

/// `h + dropout(y + bias)`.
///
/// # Shapes
/// `h`, `y` `[rows, cols]`, `bias` `[cols]` → `[rows, cols]`.
pub fn bias_residual<B: Backend>(
    h: Tensor<B, 2>,
    y: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    dropout: Option<Dropout>,
) -> Tensor<B, 2> {
    match run::<B, _, 3>(
        &BiasResidual { dropout },
        [primitive(h), primitive(y), primitive(bias)],
    ) {
        Ok(output) => tensor(output),
        Err([h, y, bias]) => composed(tensor(h), tensor(y), tensor(bias), dropout),
    }
}

pub(super) fn composed<B: Backend>(
    h: Tensor<B, 2>,
    y: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    dropout: Option<Dropout>,
) -> Tensor<B, 2> {
    let branch = y + bias.unsqueeze();
    match dropout {
        Some(dropout) => {
            let mask = dropout.mask(branch.dims(), &branch.device());
            h + branch * mask
        }
        None => h + branch,
    }
}

#[derive(Clone, Debug)]
struct BiasResidual {
    dropout: Option<Dropout>,
}

impl Kernel<3> for BiasResidual {
    type Saved = ();

    fn save(&self, _: &[FlexTensor; 3]) -> Self::Saved {}

    fn forward(&self, [h, y, bias]: [FlexTensor; 3]) -> FlexTensor {
        let (h, bias) = (values(&h), values(&bias));
        let cols = bias.len();
        match self.dropout {
            None => map_rows(
                y,
                #[inline(always)]
                |row, y, out| {
                    let h = &h[row * cols..(row + 1) * cols];
                    for (((out, y), h), b) in out.iter_mut().zip(y).zip(h).zip(bias) {
                        *out = h + (y + b);
                    }
                },
            ),
            Some(dropout) => map_rows(
                y,
                #[inline(always)]
                |row, y, out| {
                    let h = &h[row * cols..(row + 1) * cols];
                    for (i, (((out, y), h), b)) in
                        out.iter_mut().zip(y).zip(h).zip(bias).enumerate()
                    {
                        *out = h + (y + b) * dropout.factor(row * cols + i);
                    }
                },
            ),
        }
    }

    fn backward(&self, (): (), gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let cols = cols(&gradient);
        let direct = gradient.clone();
        let Some(dropout) = self.dropout else {
            let sums = column_sums(&gradient);
            return [direct, gradient, from_values(sums, [cols])].map(Some);
        };
        let (branch, sums) = map_fold_rows(
            gradient,
            cols,
            #[inline(always)]
            |row, gradient, out, sums, _| {
                for (i, (out, gradient)) in out.iter_mut().zip(gradient).enumerate() {
                    *out = gradient * dropout.factor(row * cols + i);
                }
                add(sums, out);
            },
        );
        [direct, branch, from_values(sums, [cols])].map(Some)
    }
}

/// Sums over rows, in blocks of fixed size.
pub(super) fn column_sums(tensor: &FlexTensor) -> Vec<f32> {
    use rayon::prelude::*;

    let (data, cols) = (values(tensor), cols(tensor));
    let rows = super::slices::block_rows(cols);
    let partial: Vec<Vec<f32>> = data
        .par_chunks(rows * cols)
        .map(|rows| {
            super::simd(
                #[inline(always)]
                || {
                    let mut sums = vec![0.0; cols];
                    rows.chunks_exact(cols).for_each(|row| add(&mut sums, row));
                    sums
                },
            )
        })
        .collect();
    let mut total = vec![0.0; cols];
    for sums in &partial {
        add(&mut total, sums);
    }
    total
}
