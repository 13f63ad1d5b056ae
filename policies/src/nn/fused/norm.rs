//! Layer normalisation (Ba et al. 2016) over the last axis, alone and after `act(x + b)`.
//!
//! With `x̂ = (x − mean) / √(var + ε)` and the biased variance: `y = γ x̂ + β`. Backward, per row, with `d = γ ∂y`:
//! `∂x = (d − mean(d) − x̂ mean(d x̂)) / √(var + ε)`, and `∂γ = Σ ∂y x̂`, `∂β = Σ ∂y` over rows. Mean and variance are
//! computed again in the backward pass: the row is in the cache anyway.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_flex::FlexTensor;

use super::activation::{Function, IdentityFunction, with_function};
use super::slices::{add, cols, from_values, map_fold_rows, map_rows, sum, values};
use super::{Activation, Kernel, activation, primitive, run, tensor};

/// `γ x̂ + β`, per row of `x`.
///
/// # Shapes
/// `x` `[rows, cols]`, `gamma`, `beta` `[cols]` → `[rows, cols]`.
pub fn layer_norm<B: Backend>(
    x: Tensor<B, 2>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f32,
) -> Tensor<B, 2> {
    match run::<B, _, 3>(
        &Norm { epsilon },
        [primitive(x), primitive(gamma), primitive(beta)],
    ) {
        Ok(output) => tensor(output),
        Err([x, gamma, beta]) => composed(tensor(x), tensor(gamma), tensor(beta), epsilon),
    }
}

/// `γ x̂ + β` of `act(x + bias)`, per row of `x`.
///
/// # Shapes
/// `x` `[rows, cols]`, the others `[cols]` → `[rows, cols]`.
pub fn bias_activation_norm<B: Backend>(
    x: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    activation: Activation,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f32,
) -> Tensor<B, 2> {
    let kernel = BiasActivationNorm {
        activation,
        epsilon,
    };
    match run::<B, _, 4>(
        &kernel,
        [
            primitive(x),
            primitive(bias),
            primitive(gamma),
            primitive(beta),
        ],
    ) {
        Ok(output) => tensor(output),
        Err([x, bias, gamma, beta]) => {
            let activated = activation::composed(tensor(x), tensor(bias), activation);
            composed(activated, tensor(gamma), tensor(beta), epsilon)
        }
    }
}

pub(super) fn composed<B: Backend>(
    x: Tensor<B, 2>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f32,
) -> Tensor<B, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    centred / (variance + epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}

#[derive(Clone, Debug)]
struct Norm {
    epsilon: f32,
}

impl Kernel<3> for Norm {
    type Saved = [FlexTensor; 2];

    fn save(&self, [x, gamma, _]: &[FlexTensor; 3]) -> Self::Saved {
        [x.clone(), gamma.clone()]
    }

    fn forward(&self, [x, gamma, beta]: [FlexTensor; 3]) -> FlexTensor {
        let zeros = vec![0.0; cols(&x)];
        forward::<IdentityFunction>(x, &zeros, values(&gamma), values(&beta), self.epsilon)
    }

    fn backward(
        &self,
        [x, gamma]: [FlexTensor; 2],
        gradient: FlexTensor,
        _: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let cols = cols(&x);
        let zeros = vec![0.0; cols];
        let (gradient, sums) = backward::<IdentityFunction>(
            values(&x),
            &zeros,
            values(&gamma),
            self.epsilon,
            gradient,
        );
        [
            gradient,
            from_values(sums[..cols].to_vec(), [cols]),
            from_values(sums[cols..2 * cols].to_vec(), [cols]),
        ]
        .map(Some)
    }
}

#[derive(Clone, Debug)]
struct BiasActivationNorm {
    activation: Activation,
    epsilon: f32,
}

impl Kernel<4> for BiasActivationNorm {
    type Saved = [FlexTensor; 3];

    fn save(&self, [x, bias, gamma, _]: &[FlexTensor; 4]) -> Self::Saved {
        [x.clone(), bias.clone(), gamma.clone()]
    }

    fn forward(&self, [x, bias, gamma, beta]: [FlexTensor; 4]) -> FlexTensor {
        with_function!(
            self.activation,
            forward(
                x,
                values(&bias),
                values(&gamma),
                values(&beta),
                self.epsilon
            )
        )
    }

    fn backward(
        &self,
        [x, bias, gamma]: [FlexTensor; 3],
        gradient: FlexTensor,
        _: [bool; 4],
    ) -> [Option<FlexTensor>; 4] {
        let cols = cols(&x);
        let (gradient, sums) = with_function!(
            self.activation,
            backward(
                values(&x),
                values(&bias),
                values(&gamma),
                self.epsilon,
                gradient
            )
        );
        let part = |i: usize| from_values(sums[i * cols..(i + 1) * cols].to_vec(), [cols]);
        [gradient, part(2), part(0), part(1)].map(Some)
    }
}

/// Mean and `1 / √(var + ε)` of a row.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
    let inverse = 1.0 / row.len() as f32;
    let mean = sum(row.len(), |i| row[i]) * inverse;
    let variance = sum(row.len(), |i| (row[i] - mean) * (row[i] - mean)) * inverse;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

fn forward<F: Function>(
    x: FlexTensor,
    bias: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
) -> FlexTensor {
    map_rows(
        x,
        #[inline(always)]
        |_, x, out| {
            out.iter_mut()
                .zip(x)
                .zip(bias)
                .for_each(|((y, x), b)| *y = F::value(*x + b));
            let (mean, scale) = moments(out, epsilon);
            for ((y, gamma), beta) in out.iter_mut().zip(gamma).zip(beta) {
                *y = (*y - mean) * scale * gamma + beta;
            }
        },
    )
}

/// The gradient of `x`, and the sums over rows for γ, β and the bias, one after the other.
fn backward<F: Function>(
    x: &[f32],
    bias: &[f32],
    gamma: &[f32],
    epsilon: f32,
    gradient: FlexTensor,
) -> (FlexTensor, Vec<f32>) {
    let cols = bias.len();
    map_fold_rows(
        gradient,
        3 * cols,
        #[inline(always)]
        |row, gradient, out, sums, slopes| {
            let (gamma_sums, others) = sums.split_at_mut(cols);
            let (beta_sums, bias_sums) = others.split_at_mut(cols);
            let x = &x[row * cols..(row + 1) * cols];
            let (gradient, gamma) = (&gradient[..cols], &gamma[..cols]);
            // First `out` holds x̂, then the gradient. Loops over few slices of one known length become vector instructions.
            for ((out, slope), (x, b)) in out.iter_mut().zip(&mut *slopes).zip(x.iter().zip(bias)) {
                (*out, *slope) = F::with_slope(*x + b);
            }
            let (mean, scale) = moments(out, epsilon);
            for ((normed, gradient), gamma_sum) in out.iter_mut().zip(gradient).zip(gamma_sums) {
                *normed = (*normed - mean) * scale;
                *gamma_sum += gradient * *normed;
            }
            add(beta_sums, gradient);
            let inverse = 1.0 / cols as f32;
            let mean_d = sum(cols, |i| gradient[i] * gamma[i]) * inverse;
            let normed = &out[..cols];
            let mean_dx = sum(cols, |i| gradient[i] * gamma[i] * normed[i]) * inverse;
            for ((out, slope), (gradient, gamma)) in
                out.iter_mut().zip(&*slopes).zip(gradient.iter().zip(gamma))
            {
                *out = (gradient * gamma - mean_d - *out * mean_dx) * scale * slope;
            }
            add(bias_sums, out);
        },
    )
}
