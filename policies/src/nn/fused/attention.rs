//! Causal self-attention of short sequences, from the joint projection to queries, keys and values.
//!
//! Per sequence and head, with `[q | k | v] = x + b` and head width `w`: `S = q kᵀ / √w` for keys up to the query,
//! `P = dropout(softmax(S))`, output `P v`. Queries are at most a few dozen, so one head of one sequence fits into the
//! first-level cache, and nothing but the projection itself is kept for the backward pass:
//!
//! ```text
//! ∂v = Pᵀ ∂o     ∂P = dropout(∂o vᵀ)     ∂S = P ∘ (∂P − Σ_j P ∂P)     ∂q = ∂S k / √w     ∂k = ∂Sᵀ q / √w
//! ```

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::residual::column_sums;
use super::slices::{exp, from_values, simd, values};
use super::{Dropout, Kernel, primitive, run, tensor};

/// How the rows of a projection are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens per sequence.
    pub tokens: usize,
    /// Heads; they divide the width of the model.
    pub heads: usize,
}

/// Causal multi-head self-attention without its output projection.
///
/// # Shapes
/// `projection` `[batch · tokens, 3 · width]` with queries, keys, values side by side, `bias` `[3 · width]` →
/// `[batch · tokens, width]`.
pub fn causal_attention<B: Backend>(
    projection: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    shape: AttentionShape,
    dropout: Option<Dropout>,
) -> Tensor<B, 2> {
    match run::<B, _, 2>(
        &Attention { shape, dropout },
        [primitive(projection), primitive(bias)],
    ) {
        Ok(output) => tensor(output),
        Err([projection, bias]) => composed(tensor(projection), tensor(bias), shape, dropout),
    }
}

pub(super) fn composed<B: Backend>(
    projection: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    shape: AttentionShape,
    dropout: Option<Dropout>,
) -> Tensor<B, 2> {
    let AttentionShape {
        batch,
        tokens,
        heads,
    } = shape;
    let device = projection.device();
    let joint = projection + bias.unsqueeze();
    let width = joint.dims()[1] / 3;
    let part = |i: usize| {
        joint
            .clone()
            .slice([0..batch * tokens, i * width..(i + 1) * width])
            .reshape([batch, tokens, heads, width / heads])
            .swap_dims(1, 2)
    };
    let future: Vec<f32> = (0..tokens * tokens)
        .map(|i| {
            if i % tokens > i / tokens {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
        .collect();
    let future = Tensor::from_data(TensorData::new(future, [1, 1, tokens, tokens]), &device);
    let scale = ((width / heads) as f32).sqrt();
    let mut weights = softmax(part(0).matmul(part(1).swap_dims(2, 3)) / scale + future, 3);
    if let Some(dropout) = dropout {
        weights = weights * dropout.mask([batch, heads, tokens, tokens], &device);
    }
    weights
        .matmul(part(2))
        .swap_dims(1, 2)
        .reshape([batch * tokens, width])
}

#[derive(Clone, Debug)]
struct Attention {
    shape: AttentionShape,
    dropout: Option<Dropout>,
}

impl Kernel<2> for Attention {
    type Saved = [FlexTensor; 2];

    fn save(&self, inputs: &[FlexTensor; 2]) -> Self::Saved {
        inputs.clone()
    }

    fn forward(&self, [projection, bias]: [FlexTensor; 2]) -> FlexTensor {
        let (projection, bias) = (values(&projection), values(&bias));
        let AttentionShape {
            batch,
            tokens,
            heads,
        } = self.shape;
        let width = bias.len() / 3;
        let mut output = vec![0.0; batch * tokens * width];
        self.for_sequences(
            &mut output,
            tokens * width,
            width / heads,
            #[inline(always)]
            |sequence, output, head| {
                let rows = &projection[sequence * tokens * 3 * width..][..tokens * 3 * width];
                for index in 0..heads {
                    head.load(rows, bias, index);
                    head.weigh(self.dropout, sequence * heads + index);
                    head.attend();
                    store(
                        &head.output,
                        head.padded_width,
                        head.width,
                        output,
                        width,
                        index * head.width,
                    );
                }
            },
        );
        from_values(output, [batch * tokens, width])
    }

    fn backward(
        &self,
        [projection, bias]: [FlexTensor; 2],
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let (projection, bias) = (values(&projection), values(&bias));
        let gradient = values(&gradient);
        let AttentionShape {
            batch,
            tokens,
            heads,
        } = self.shape;
        let width = bias.len() / 3;
        let mut output = vec![0.0; batch * tokens * 3 * width];
        self.for_sequences(
            &mut output,
            tokens * 3 * width,
            width / heads,
            #[inline(always)]
            |sequence, output, head| {
                let rows = &projection[sequence * tokens * 3 * width..][..tokens * 3 * width];
                let gradient = &gradient[sequence * tokens * width..][..tokens * width];
                for index in 0..heads {
                    head.load(rows, bias, index);
                    head.weigh(self.dropout, sequence * heads + index);
                    head.load_gradient(gradient, width, index);
                    head.differentiate(self.dropout, sequence * heads + index);
                    let column = index * head.width;
                    store(
                        &head.query_gradient,
                        head.padded_width,
                        head.width,
                        output,
                        3 * width,
                        column,
                    );
                    store(
                        &head.key_gradient,
                        head.padded_width,
                        head.width,
                        output,
                        3 * width,
                        width + column,
                    );
                    store(
                        &head.value_gradient,
                        head.padded_width,
                        head.width,
                        output,
                        3 * width,
                        2 * width + column,
                    );
                }
            },
        );
        let output = from_values(output, [batch * tokens, 3 * width]);
        let sums = column_sums(&output);
        [output, from_values(sums, [3 * width])].map(Some)
    }
}

impl Attention {
    /// Runs `body(sequence, its part of output, scratch)` for every sequence.
    fn for_sequences(
        &self,
        output: &mut [f32],
        stride: usize,
        head_width: usize,
        body: impl Fn(usize, &mut [f32], &mut Head) + Sync,
    ) {
        const PER_TASK: usize = 8;
        let task = |task: usize, output: &mut [f32]| {
            let mut head = Head::new(self.shape.tokens, head_width);
            simd(
                #[inline(always)]
                || {
                    for (i, output) in output.chunks_exact_mut(stride).enumerate() {
                        body(task * PER_TASK + i, output, &mut head);
                    }
                },
            );
        };
        if self.shape.batch <= PER_TASK {
            task(0, output);
        } else {
            output
                .par_chunks_mut(stride * PER_TASK)
                .enumerate()
                .for_each(|(i, output)| task(i, output));
        }
    }
}

/// Numbers that the inner loops work on at a time.
const LANES: usize = 16;

/// One head of one sequence. Tables have rows of a multiple of [`LANES`] numbers, zero beyond the used ones.
struct Head {
    tokens: usize,
    /// w.
    width: usize,
    padded_tokens: usize,
    padded_width: usize,
    /// `q / √w`, `[tokens, padded_width]`, as the next three.
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    output: Vec<f32>,
    /// `[width, padded_tokens]`, as the next.
    key_transposed: Vec<f32>,
    value_transposed: Vec<f32>,
    /// P before dropout, `[tokens, padded_tokens]`, as the next two.
    softmax: Vec<f32>,
    /// P after dropout.
    weights: Vec<f32>,
    /// S, then ∂P, then ∂S.
    scores: Vec<f32>,
    /// `[tokens, padded_width]`, as the next three.
    output_gradient: Vec<f32>,
    query_gradient: Vec<f32>,
    key_gradient: Vec<f32>,
    value_gradient: Vec<f32>,
}

impl Head {
    fn new(tokens: usize, width: usize) -> Self {
        let (padded_tokens, padded_width) = (
            tokens.next_multiple_of(LANES),
            width.next_multiple_of(LANES),
        );
        let rows = || vec![0.0; tokens * padded_width];
        let square = || vec![0.0; tokens * padded_tokens];
        let transposed = || vec![0.0; width * padded_tokens];
        Self {
            tokens,
            width,
            padded_tokens,
            padded_width,
            query: rows(),
            key: rows(),
            value: rows(),
            output: rows(),
            key_transposed: transposed(),
            value_transposed: transposed(),
            softmax: square(),
            weights: square(),
            scores: square(),
            output_gradient: rows(),
            query_gradient: rows(),
            key_gradient: rows(),
            value_gradient: rows(),
        }
    }

    /// Takes q, k, v of head `index` from the rows of one sequence.
    #[inline(always)]
    fn load(&mut self, rows: &[f32], bias: &[f32], index: usize) {
        let (w, padded) = (self.width, self.padded_width);
        let model = bias.len() / 3;
        let scale = 1.0 / (w as f32).sqrt();
        let parts = [&mut self.query, &mut self.key, &mut self.value];
        for (part, table) in parts.into_iter().enumerate() {
            let factor = if part == 0 { scale } else { 1.0 };
            let column = part * model + index * w;
            let bias = &bias[column..column + w];
            for (row, table) in rows
                .chunks_exact(3 * model)
                .zip(table.chunks_exact_mut(padded))
            {
                let row = &row[column..column + w];
                table[..w]
                    .iter_mut()
                    .zip(row)
                    .zip(bias)
                    .for_each(|((out, x), b)| *out = (x + b) * factor);
            }
        }
        transpose(
            &self.key,
            padded,
            w,
            &mut self.key_transposed,
            self.padded_tokens,
        );
    }

    /// Takes the gradient of the output of head `index`.
    #[inline(always)]
    fn load_gradient(&mut self, rows: &[f32], model: usize, index: usize) {
        for (row, table) in rows
            .chunks_exact(model)
            .zip(self.output_gradient.chunks_exact_mut(self.padded_width))
        {
            table[..self.width].copy_from_slice(&row[index * self.width..][..self.width]);
        }
        transpose(
            &self.value,
            self.padded_width,
            self.width,
            &mut self.value_transposed,
            self.padded_tokens,
        );
    }

    /// Softmax of the scores up to the query's own position, and dropout.
    #[inline(always)]
    fn weigh(&mut self, dropout: Option<Dropout>, sequence_and_head: usize) {
        let (tokens, padded, stride) = (self.tokens, self.padded_tokens, self.padded_width);
        let query = &self.query;
        product(
            &mut self.scores,
            padded,
            tokens,
            |i, c| query[i * stride + c],
            &self.key_transposed,
            |_, _| 0..self.width,
        );
        for i in 0..tokens {
            let scores = &mut self.scores[i * padded..(i + 1) * padded];
            let greatest = scores[..=i]
                .iter()
                .fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            scores.iter_mut().for_each(|s| *s = exp(*s - greatest));
            scores[i + 1..].fill(0.0);
            let inverse = 1.0 / scores[..=i].iter().sum::<f32>();
            let softmax = &mut self.softmax[i * padded..(i + 1) * padded];
            softmax
                .iter_mut()
                .zip(&*scores)
                .for_each(|(p, s)| *p = s * inverse);
            let weights = &mut self.weights[i * padded..(i + 1) * padded];
            weights.copy_from_slice(softmax);
            if let Some(dropout) = dropout {
                let first = (sequence_and_head * tokens + i) * tokens;
                weights[..=i]
                    .iter_mut()
                    .enumerate()
                    .for_each(|(j, p)| *p *= dropout.factor(first + j));
            }
        }
    }

    /// `P v`.
    #[inline(always)]
    fn attend(&mut self) {
        let (weights, padded) = (&self.weights, self.padded_tokens);
        product(
            &mut self.output,
            self.padded_width,
            self.tokens,
            |i, j| weights[i * padded + j],
            &self.value,
            |_, last| 0..last + 1,
        );
    }

    /// The gradients of q, k, v for the loaded gradient of the output.
    #[inline(always)]
    fn differentiate(&mut self, dropout: Option<Dropout>, sequence_and_head: usize) {
        let (tokens, padded, stride) = (self.tokens, self.padded_tokens, self.padded_width);
        let gradient = &self.output_gradient;
        product(
            &mut self.scores,
            padded,
            tokens,
            |i, c| gradient[i * stride + c],
            &self.value_transposed,
            |_, _| 0..self.width,
        );
        for i in 0..tokens {
            let scores = &mut self.scores[i * padded..(i + 1) * padded];
            let softmax = &self.softmax[i * padded..(i + 1) * padded];
            if let Some(dropout) = dropout {
                let first = (sequence_and_head * tokens + i) * tokens;
                scores[..=i]
                    .iter_mut()
                    .enumerate()
                    .for_each(|(j, d)| *d *= dropout.factor(first + j));
            }
            let mean: f32 = scores[..=i].iter().zip(softmax).map(|(d, p)| d * p).sum();
            // Zero beyond the query's position, where the softmax is.
            scores
                .iter_mut()
                .zip(softmax)
                .for_each(|(d, p)| *d = p * (*d - mean));
        }
        let (scores, weights) = (&self.scores, &self.weights);
        let scale = 1.0 / (self.width as f32).sqrt();
        product(
            &mut self.query_gradient,
            stride,
            tokens,
            |i, j| scores[i * padded + j] * scale,
            &self.key,
            |_, last| 0..last + 1,
        );
        product(
            &mut self.key_gradient,
            stride,
            tokens,
            |j, i| scores[i * padded + j],
            &self.query,
            |first, _| first..tokens,
        );
        product(
            &mut self.value_gradient,
            stride,
            tokens,
            |j, i| weights[i * padded + j],
            gradient,
            |first, _| first..tokens,
        );
    }
}

/// `out[i] = Σ_k a(i, k) b[k]` over a range of k, for rows of `stride` numbers, a multiple of [`LANES`].
///
/// Four rows at a time share the loads of b and keep four sums in flight. `range(first, last)` covers all of them: outside a
/// row's own range, `a` is 0.
#[inline(always)]
fn product(
    out: &mut [f32],
    stride: usize,
    rows: usize,
    a: impl Fn(usize, usize) -> f32,
    b: &[f32],
    range: impl Fn(usize, usize) -> std::ops::Range<usize>,
) {
    const ROWS: usize = 4;
    let mut first = 0;
    while first + ROWS <= rows {
        for block in (0..stride).step_by(LANES) {
            let mut totals = [[0.0_f32; LANES]; ROWS];
            for k in range(first, first + ROWS - 1) {
                let b = &b[k * stride + block..][..LANES];
                for (row, total) in totals.iter_mut().enumerate() {
                    let factor = a(first + row, k);
                    for lane in 0..LANES {
                        total[lane] += factor * b[lane];
                    }
                }
            }
            for (row, total) in totals.iter().enumerate() {
                out[(first + row) * stride + block..][..LANES].copy_from_slice(total);
            }
        }
        first += ROWS;
    }
    for i in first..rows {
        for block in (0..stride).step_by(LANES) {
            let mut total = [0.0_f32; LANES];
            for k in range(i, i) {
                let factor = a(i, k);
                let b = &b[k * stride + block..][..LANES];
                for lane in 0..LANES {
                    total[lane] += factor * b[lane];
                }
            }
            out[i * stride + block..][..LANES].copy_from_slice(&total);
        }
    }
}

/// `out[c][i] = table[i][c]` for `c < width`; rows of `table` have `stride` numbers, those of `out` `out_stride`.
#[inline(always)]
fn transpose(table: &[f32], stride: usize, width: usize, out: &mut [f32], out_stride: usize) {
    for (i, row) in table.chunks_exact(stride).enumerate() {
        for (value, out) in row[..width].iter().zip(out.chunks_exact_mut(out_stride)) {
            out[i] = *value;
        }
    }
}

/// Copies the `width` used columns of a table into columns of the rows of `output`.
#[inline(always)]
fn store(
    table: &[f32],
    stride: usize,
    width: usize,
    output: &mut [f32],
    cols: usize,
    column: usize,
) {
    for (row, output) in table
        .chunks_exact(stride)
        .zip(output.chunks_exact_mut(cols))
    {
        output[column..column + width].copy_from_slice(&row[..width]);
    }
}
