//! `y = act(x + b)`.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, relu, silu};
use burn::tensor::backend::Backend;
use burn_flex::FlexTensor;
use serde::{Deserialize, Serialize};

use super::slices::{add, cols, exp, from_values, map_fold_rows, map_rows, values};
use super::{Kernel, primitive, run, tensor};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel 2016), to 1.5e-7. As fast as the next one.
    Gelu,
    /// Its approximation `x / (1 + e^{−2u})`, `u = √(2/π) (x + 0.044715 x³)`, which is what flax calls GELU.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + e^{−x})`.
    Silu,
    /// `tanh x = 2 / (1 + e^{−2x}) − 1`, to 2e-7.
    Tanh,
    /// `x`.
    Identity,
}

impl Activation {
    /// Applies it to a tensor of any shape.
    pub fn forward<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => {
                let u =
                    (x.clone() * x.clone() * x.clone() * 0.044_715 + x.clone()) * SQRT_2_OVER_PI;
                x * (u.tanh() + 1.0) * 0.5
            }
            Self::Relu => relu(x),
            Self::Silu => silu(x),
            Self::Tanh => x.tanh(),
            Self::Identity => x,
        }
    }
}

const SQRT_2_OVER_PI: f32 = 0.797_884_56;

/// An activation; a type per activation, so that loops have no branch on it.
pub(super) trait Function {
    fn value(x: f32) -> f32;

    /// Value and derivative, which share their exponential.
    fn with_slope(x: f32) -> (f32, f32);
}

pub(super) struct GeluFunction;
pub(super) struct GeluTanhFunction;
pub(super) struct ReluFunction;
pub(super) struct SiluFunction;
pub(super) struct TanhFunction;
pub(super) struct IdentityFunction;

/// `Φ(x)` and `e^{−x²/2}`: Abramowitz and Stegun 7.1.26 needs the exponential that the derivative needs too.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4_f32;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let density = exp(-z * z);
    let tail = 0.5 * p * t * density;
    (if x < 0.0 { tail } else { 1.0 - tail }, density)
}

#[inline(always)]
fn logistic(x: f32) -> f32 {
    // By the exponential of a negative number, which becomes 0 where the tail is too small to matter.
    let tail = exp(-x.abs());
    let greater = 1.0 / (1.0 + tail);
    if x < 0.0 { tail * greater } else { greater }
}

impl Function for GeluFunction {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * normal(x).0
    }

    #[inline(always)]
    fn with_slope(x: f32) -> (f32, f32) {
        // 1/√(2π)
        let (cdf, density) = normal(x);
        (x * cdf, cdf + x * density * 0.398_942_3)
    }
}

impl Function for GeluTanhFunction {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * logistic(2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x))
    }

    #[inline(always)]
    fn with_slope(x: f32) -> (f32, f32) {
        let s = logistic(2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x));
        let inner = 2.0 * SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
        (x * s, s + x * s * (1.0 - s) * inner)
    }
}

impl Function for ReluFunction {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x.max(0.0)
    }

    #[inline(always)]
    fn with_slope(x: f32) -> (f32, f32) {
        (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 })
    }
}

impl Function for SiluFunction {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * logistic(x)
    }

    #[inline(always)]
    fn with_slope(x: f32) -> (f32, f32) {
        let s = logistic(x);
        (x * s, s + x * s * (1.0 - s))
    }
}

impl Function for TanhFunction {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        2.0 * logistic(2.0 * x) - 1.0
    }

    #[inline(always)]
    fn with_slope(x: f32) -> (f32, f32) {
        let s = logistic(2.0 * x);
        (2.0 * s - 1.0, 4.0 * s * (1.0 - s))
    }
}

impl Function for IdentityFunction {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn with_slope(x: f32) -> (f32, f32) {
        (x, 1.0)
    }
}

/// Calls `$function::<F>($args)` for the type `F` of an activation.
macro_rules! with_function {
    ($activation:expr, $function:ident ( $($args:expr),* )) => {
        match $activation {
            $crate::nn::fused::Activation::Gelu => $function::<$crate::nn::fused::activation::GeluFunction>($($args),*),
            $crate::nn::fused::Activation::GeluTanh => {
                $function::<$crate::nn::fused::activation::GeluTanhFunction>($($args),*)
            }
            $crate::nn::fused::Activation::Relu => $function::<$crate::nn::fused::activation::ReluFunction>($($args),*),
            $crate::nn::fused::Activation::Silu => $function::<$crate::nn::fused::activation::SiluFunction>($($args),*),
            $crate::nn::fused::Activation::Tanh => $function::<$crate::nn::fused::activation::TanhFunction>($($args),*),
            $crate::nn::fused::Activation::Identity => {
                $function::<$crate::nn::fused::activation::IdentityFunction>($($args),*)
            }
        }
    };
}
pub(super) use with_function;

/// `act(x + bias)`.
///
/// # Shapes
/// `x` `[rows, cols]`, `bias` `[cols]` → `[rows, cols]`.
pub fn bias_activation<B: Backend>(
    x: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    activation: Activation,
) -> Tensor<B, 2> {
    match run::<B, _, 2>(&BiasActivation(activation), [primitive(x), primitive(bias)]) {
        Ok(output) => tensor(output),
        Err([x, bias]) => composed(tensor(x), tensor(bias), activation),
    }
}

/// `tanh x` in one pass; the system's own function takes many times as long and differs between systems.
///
/// # Shapes
/// `x` `[rows, cols]` → `[rows, cols]`.
pub fn tanh<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let zeros = Tensor::zeros([x.dims()[1]], &x.device());
    bias_activation(x, zeros, Activation::Tanh)
}

pub(super) fn composed<B: Backend>(
    x: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    activation: Activation,
) -> Tensor<B, 2> {
    activation.forward(x + bias.unsqueeze())
}

#[derive(Clone, Debug)]
struct BiasActivation(Activation);

impl Kernel<2> for BiasActivation {
    type Saved = [FlexTensor; 2];

    fn save(&self, inputs: &[FlexTensor; 2]) -> Self::Saved {
        inputs.clone()
    }

    fn forward(&self, [x, bias]: [FlexTensor; 2]) -> FlexTensor {
        with_function!(self.0, forward(x, values(&bias)))
    }

    fn backward(
        &self,
        [x, bias]: [FlexTensor; 2],
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let cols = cols(&x);
        let (gradient, sums) =
            with_function!(self.0, backward(values(&x), values(&bias), gradient));
        [gradient, from_values(sums, [cols])].map(Some)
    }
}

fn forward<F: Function>(x: FlexTensor, bias: &[f32]) -> FlexTensor {
    map_rows(
        x,
        #[inline(always)]
        |_, x, out| {
            out.iter_mut()
                .zip(x)
                .zip(bias)
                .for_each(|((y, x), b)| *y = F::value(*x + b));
        },
    )
}

fn backward<F: Function>(x: &[f32], bias: &[f32], gradient: FlexTensor) -> (FlexTensor, Vec<f32>) {
    let cols = bias.len();
    map_fold_rows(
        gradient,
        cols,
        #[inline(always)]
        |row, gradient, out, sums, _| {
            let x = &x[row * cols..(row + 1) * cols];
            for (((out, gradient), x), b) in out.iter_mut().zip(gradient).zip(x).zip(bias) {
                *out = gradient * F::with_slope(*x + b).1;
            }
            add(sums, out);
        },
    )
}
