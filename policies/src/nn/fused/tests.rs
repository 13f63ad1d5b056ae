//! Kernels against the compositions that define them, values and gradients.

use burn::tensor::{TensorData, bf16};
use rand::RngExt;
use telic_seed::{Rng, Seed};

use super::*;
use crate::Precision;

type A = Autodiff<Flex>;

fn normal(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-2.0_f32..2.0)).collect()
}

fn leaf<const D: usize>(rng: &mut Rng, shape: [usize; D]) -> Tensor<A, D> {
    let values = normal(rng, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Default::default()).require_grad()
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, place: &str) {
    assert_eq!(found.len(), expected.len(), "{place}");
    let scale = expected.iter().fold(1.0_f32, |a, b| a.max(b.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * scale,
            "{place}[{i}]: found {found}, expected {expected}"
        );
    }
}

/// Runs both forms, weights their outputs at random and compares outputs and gradients of all leaves.
fn compare<const N: usize>(
    place: &str,
    rng: &mut Rng,
    x: &[Tensor<A, 2>],
    parameters: [Tensor<A, 1>; N],
    fused: impl Fn(&[Tensor<A, 2>], &[Tensor<A, 1>]) -> Tensor<A, 2>,
    composed: impl Fn(&[Tensor<A, 2>], &[Tensor<A, 1>]) -> Tensor<A, 2>,
) {
    let outputs = [fused(x, &parameters), composed(x, &parameters)];
    assert_close(
        &values(outputs[0].clone()),
        &values(outputs[1].clone()),
        2e-6,
        place,
    );
    let shape = outputs[0].dims();
    let weights = Tensor::<A, 2>::from_data(
        TensorData::new(normal(rng, shape[0] * shape[1]), shape),
        &Default::default(),
    );
    let [found, expected] = outputs.map(|output| {
        let gradients = (output * weights.clone()).sum().backward();
        let tables: Vec<Vec<f32>> = x
            .iter()
            .map(|x| values(x.grad(&gradients).unwrap()))
            .collect();
        let rows: Vec<Vec<f32>> = parameters
            .iter()
            .map(|p| values(p.grad(&gradients).unwrap()))
            .collect();
        [tables, rows].concat()
    });
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_close(found, expected, 1e-5, &format!("{place}, gradient {i}"));
    }
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Identity,
];

/// More than one block of rows, and a width that is no multiple of the vector length.
const SHAPES: [[usize; 2]; 3] = [[1, 3], [7, 48], [900, 37]];

#[test]
fn bias_activation_is_its_composition() {
    let mut rng = Seed::new(1).rng();
    for activation in ACTIVATIONS {
        for shape in SHAPES {
            let (x, bias) = (leaf(&mut rng, shape), leaf(&mut rng, [shape[1]]));
            compare(
                &format!("{activation:?} {shape:?}"),
                &mut rng,
                &[x],
                [bias],
                |x, p| bias_activation(x[0].clone(), p[0].clone(), activation),
                |x, p| activation::composed(x[0].clone(), p[0].clone(), activation),
            );
        }
    }
}

#[test]
fn layer_norm_is_its_composition() {
    let mut rng = Seed::new(2).rng();
    for shape in SHAPES {
        let x = leaf(&mut rng, shape);
        let parameters = [leaf(&mut rng, [shape[1]]), leaf(&mut rng, [shape[1]])];
        compare(
            &format!("{shape:?}"),
            &mut rng,
            &[x],
            parameters,
            |x, p| layer_norm(x[0].clone(), p[0].clone(), p[1].clone(), 1e-5),
            |x, p| norm::composed(x[0].clone(), p[0].clone(), p[1].clone(), 1e-5),
        );
    }
}

#[test]
fn bias_activation_norm_is_its_composition() {
    let mut rng = Seed::new(3).rng();
    for activation in ACTIVATIONS {
        for shape in [[5, 48], [900, 37]] {
            let x = leaf(&mut rng, shape);
            let parameters = [
                leaf(&mut rng, [shape[1]]),
                leaf(&mut rng, [shape[1]]),
                leaf(&mut rng, [shape[1]]),
            ];
            compare(
                &format!("{activation:?} {shape:?}"),
                &mut rng,
                &[x],
                parameters,
                |x, p| {
                    bias_activation_norm(
                        x[0].clone(),
                        p[0].clone(),
                        activation,
                        p[1].clone(),
                        p[2].clone(),
                        1e-6,
                    )
                },
                |x, p| {
                    let activated = activation::composed(x[0].clone(), p[0].clone(), activation);
                    norm::composed(activated, p[1].clone(), p[2].clone(), 1e-6)
                },
            );
        }
    }
}

#[test]
fn bias_residual_is_its_composition() {
    let mut rng = Seed::new(4).rng();
    for probability in [0.0, 0.3] {
        for shape in SHAPES {
            let x = [leaf(&mut rng, shape), leaf(&mut rng, shape)];
            let bias = leaf(&mut rng, [shape[1]]);
            let dropout = Dropout::draw(probability, &mut rng);
            compare(
                &format!("{probability} {shape:?}"),
                &mut rng,
                &x,
                [bias],
                |x, p| bias_residual(x[0].clone(), x[1].clone(), p[0].clone(), dropout),
                |x, p| residual::composed(x[0].clone(), x[1].clone(), p[0].clone(), dropout),
            );
        }
    }
}

#[test]
fn attention_is_its_composition() {
    let mut rng = Seed::new(5).rng();
    for probability in [0.0, 0.3] {
        for (batch, tokens, heads, width) in [
            (1, 1, 1, 4),
            (3, 12, 2, 40),
            (20, 17, 3, 15),
            (2, 40, 1, 32),
        ] {
            let shape = AttentionShape {
                batch,
                tokens,
                heads,
            };
            let x = leaf(&mut rng, [batch * tokens, 3 * width]);
            let bias = leaf(&mut rng, [3 * width]);
            let dropout = Dropout::draw(probability, &mut rng);
            compare(
                &format!("{probability} {shape:?}"),
                &mut rng,
                &[x],
                [bias],
                |x, p| causal_attention(x[0].clone(), p[0].clone(), shape, dropout),
                |x, p| attention::composed(x[0].clone(), p[0].clone(), shape, dropout),
            );
        }
    }
}

#[test]
fn activations_match_published_values() {
    let device = Default::default();
    let x = Tensor::<Flex, 2>::from_floats([[-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]], &device);
    let zeros = Tensor::<Flex, 1>::zeros([6], &device);
    let approximate = values(bias_activation(
        x.clone(),
        zeros.clone(),
        Activation::GeluTanh,
    ));
    assert_close(
        &approximate,
        &[
            -0.045_402, -0.158_808, -0.154_286, 0.345_714, 0.841_192, 1.954_598,
        ],
        1e-6,
        "tanh form",
    );
    // x Φ(x) to six digits.
    let exact = values(bias_activation(x, zeros, Activation::Gelu));
    assert_close(
        &exact,
        &[
            -0.045_500, -0.158_655, -0.154_269, 0.345_731, 0.841_345, 1.954_500,
        ],
        1e-6,
        "exact form",
    );

    let x = Tensor::<Flex, 2>::from_floats([[-20.0, -1.0, -1e-3, 0.0, 0.25, 100.0]], &device);
    assert_close(
        &values(tanh(x)),
        &[-1.0, -0.761_594_2, -1e-3, 0.0, 0.244_918_67, 1.0],
        2e-7,
        "tanh",
    );

    let x = Tensor::<Flex, 2>::from_floats([[1.0, -1.0, 0.5, 2.0]], &device);
    let (zeros, ones) = (
        Tensor::<Flex, 1>::zeros([4], &device),
        Tensor::<Flex, 1>::ones([4], &device),
    );
    let normed = bias_activation_norm(x, zeros.clone(), Activation::GeluTanh, ones, zeros, 1e-6);
    assert_close(
        &values(normed),
        &[0.122_081, -1.156_016, -0.511_188, 1.545_122],
        2e-6,
        "norm",
    );
}

#[test]
fn rows_do_not_depend_on_their_neighbours() {
    let mut rng = Seed::new(6).rng();
    let device = Default::default();
    let (rows, cols) = (700, 48);
    let x = normal(&mut rng, rows * cols);
    let parameter = |rng: &mut Rng| {
        Tensor::<Flex, 1>::from_data(TensorData::new(normal(rng, cols), [cols]), &device)
    };
    let (bias, gamma, beta) = (
        parameter(&mut rng),
        parameter(&mut rng),
        parameter(&mut rng),
    );
    let run = |values: &[f32]| {
        let x = Tensor::<Flex, 2>::from_data(
            TensorData::new(values.to_vec(), [values.len() / cols, cols]),
            &device,
        );
        self::values(bias_activation_norm(
            x,
            bias.clone(),
            Activation::Gelu,
            gamma.clone(),
            beta.clone(),
            1e-5,
        ))
    };
    let together = run(&x);
    for row in [0, 1, 350, 699] {
        assert_eq!(
            run(&x[row * cols..(row + 1) * cols]),
            together[row * cols..(row + 1) * cols]
        );
    }
}

#[test]
fn inputs_that_are_still_needed_are_not_overwritten() {
    let device = Default::default();
    let x = Tensor::<Flex, 2>::from_floats([[1.0, -2.0]], &device);
    let bias = Tensor::<Flex, 1>::from_floats([0.5, 0.5], &device);
    let kept = x.clone();
    let _ = bias_activation(x, bias, Activation::Relu);
    assert_eq!(values(kept), [1.0, -2.0]);
}

#[test]
fn other_element_types_take_the_composition() {
    let device = Default::default();
    let options = burn::tensor::TensorCreationOptions::<Flex>::new(device).with_dtype(DType::F64);
    let x = Tensor::<Flex, 2>::ones([2, 3], options.clone());
    let bias = Tensor::<Flex, 1>::ones([3], options);
    let output = bias_activation(x, bias, Activation::Relu);
    assert_eq!(output.dtype(), DType::F64);
    assert_eq!(output.into_data().into_vec::<f64>().unwrap(), [2.0; 6]);
}

#[test]
fn a_product_is_that_of_the_backend() {
    let mut rng = Seed::new(7).rng();
    // The second is large enough for several threads.
    for [m, k, n] in [[1, 3, 2], [300, 170, 190], [5, 700, 1], [2, 1, 40]] {
        let x = [leaf(&mut rng, [m, k]), leaf(&mut rng, [k, n])];
        compare(
            &format!("{m} × {k} × {n}"),
            &mut rng,
            &x,
            [],
            |x, _| product(x[0].clone(), x[1].clone()),
            |x, _| x[0].clone().matmul(x[1].clone()),
        );
    }
}

/// The nearest number of `bf16`, by the crate that defines the type.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
}

/// All bits at random: also infinities, numbers too large for `bf16`, subnormal ones and halves between two neighbours.
#[test]
fn rounding_to_bf16_gives_the_nearest_number() {
    let mut rng = Seed::new(11).rng();
    let halves = (0..0x1_0000_u32).map(|high| high << 16 | 0x8000);
    let bits: Vec<u32> = (0..200_000).map(|_| rng.random()).chain(halves).collect();
    let numbers: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
    let data = TensorData::new(numbers.clone(), [numbers.len() / 8, 8]);
    let found = product::round(Tensor::<Flex, 2>::from_data(data, &Default::default()));
    for (found, expected) in values(found).into_iter().zip(rounded(&numbers)) {
        assert!(
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
            "{found} and {expected}"
        );
    }
}

#[test]
fn a_mixed_product_rounds_factors_results_and_gradients() {
    let mut rng = Seed::new(12).rng();
    let device = Default::default();
    for [m, k, n] in [[1, 3, 2], [300, 170, 190], [5, 700, 1]] {
        let [x, w, weights] = [[m, k], [k, n], [m, n]].map(|shape| leaf(&mut rng, shape));
        let round = |tensor: &Tensor<A, 2>| {
            let data = TensorData::new(rounded(&values(tensor.clone())), tensor.dims());
            Tensor::<A, 2>::from_data(data, &device).require_grad()
        };
        let mixed = Precision::Bf16.scope(|| mixed_product(x.clone(), w.clone()));
        let gradients = (mixed.clone() * weights.clone()).sum().backward();
        let found = [
            mixed.clone().inner(),
            x.grad(&gradients).unwrap(),
            w.grad(&gradients).unwrap(),
        ];

        let (near_x, near_w) = (round(&x), round(&w));
        let exact = near_x.clone().matmul(near_w.clone());
        let gradients = (exact.clone() * round(&weights)).sum().backward();
        let expected = [
            exact.inner(),
            near_x.grad(&gradients).unwrap(),
            near_w.grad(&gradients).unwrap(),
        ];
        for (found, expected) in found.into_iter().zip(expected) {
            let (found, expected) = (values(found), values(expected));
            assert_eq!(found, rounded(&found), "{m} × {k} × {n}");
            let size = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                // Half a step of 8 bits, and sums in another order.
                let tolerance = expected.abs() / 256.0 + 1e-5 * size;
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{found} and {expected}"
                );
            }
        }

        let plain = values(product(x.clone(), w.clone()));
        assert_ne!(values(mixed), plain);
        assert_eq!(values(mixed_product(x, w)), plain, "outside of the scope");
    }
}

#[test]
fn rows_of_a_product_do_not_depend_on_their_neighbours_or_on_threads() {
    let mut rng = Seed::new(8).rng();
    let device = Default::default();
    for [k, n] in [
        [58, 512],
        [512, 512],
        [240, 960],
        [960, 240],
        [360, 1080],
        [1440, 360],
        [1100, 317],
    ] {
        let x = normal(&mut rng, 400 * k);
        let w =
            Tensor::<Flex, 2>::from_data(TensorData::new(normal(&mut rng, k * n), [k, n]), &device);
        let run = |rows: usize, threads| {
            let x = TensorData::new(x[..rows * k].to_vec(), [rows, k]);
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| values(product(Tensor::<Flex, 2>::from_data(x, &device), w.clone())))
        };
        let together = run(400, 1);
        assert_eq!(run(400, 3), together);
        for rows in [2, 3, 5, 7, 10, 11, 16, 17, 24, 100] {
            assert_eq!(run(rows, 2), together[..rows * n], "{rows} rows, {k} × {n}");
        }
        if k <= 512 {
            assert_eq!(run(1, 2), together[..n], "one row, {k} × {n}");
        }
    }
}

/// Products of subnormal numbers take a hundred times as long: a network with saturated units became nine times slower.
#[test]
fn saturated_units_leave_nothing_below_the_normal_range() {
    let device = Default::default();
    let n = 4001;
    let x: Vec<f32> = (0..n).map(|i| 0.05 * (i as f32 - 2000.0)).collect();
    let bias = Tensor::<A, 1>::zeros([n], &device).require_grad();
    for activation in ACTIVATIONS {
        let x =
            Tensor::<A, 2>::from_data(TensorData::new(x.clone(), [1, n]), &device).require_grad();
        let output = bias_activation(x.clone(), bias.clone(), activation);
        let gradients = (output.clone() * 1e-12).sum().backward();
        for (what, found) in [
            ("value", values(output)),
            ("gradient", values(x.grad(&gradients).unwrap())),
        ] {
            let below = found.iter().position(|y| y.is_subnormal());
            assert_eq!(
                below.map(|i| (0.05 * (i as f32 - 2000.0), found[i])),
                None,
                "{activation:?}, {what}"
            );
        }
    }
    // The second token prefers the first by e¹⁹²: its own value gets weight 0, not the smallest number there is.
    let rows: Vec<f32> = [[16.0, 6.0, 0.0], [16.0, -6.0, 1.0]].concat();
    let shape = AttentionShape {
        batch: 1,
        tokens: 2,
        heads: 1,
    };
    let projection = Tensor::<Flex, 2>::from_data(TensorData::new(rows, [2, 3]), &device);
    let found = values(causal_attention(
        projection,
        Tensor::zeros([3], &device),
        shape,
        None,
    ));
    assert_eq!(found, [0.0, 0.0]);
}

/// The length of a union by its definition: the parts between neighbouring ends that some interval covers.
fn covered(starts: &[f32], ends: &[f32]) -> f32 {
    let mut all: Vec<f32> = starts.iter().chain(ends).copied().collect();
    all.sort_by(f32::total_cmp);
    let mut length = 0.0;
    for pair in all.windows(2) {
        let mut intervals = starts.iter().zip(ends);
        if intervals.any(|(start, end)| *start <= pair[0] && pair[1] <= *end) {
            length += pair[1] - pair[0];
        }
    }
    length
}

#[test]
fn interval_unions_are_what_intervals_cover() {
    let mut rng = Seed::new(9).rng();
    let device = Default::default();
    let table = |values: &[f32]| TensorData::new(values.to_vec(), [values.len() / 24, 24]);
    // Steps of a quarter make many equal ends.
    let mut draw = || -> Vec<f32> {
        let numbers = (0..600 * 24).map(|i| {
            let x: f32 = rng.random_range(-2.0..2.0);
            if i < 300 * 24 {
                x
            } else {
                (4.0 * x).round() / 4.0
            }
        });
        numbers.collect()
    };
    let (x, y) = (draw(), draw());
    for group in [1, 3, 8, 24] {
        let [tx, ty] = [&x, &y].map(|v| Tensor::<Flex, 2>::from_data(table(v), &device));
        let found = values(interval_union(tx.clone(), ty.clone(), group));
        let expected: Vec<f32> = x
            .chunks_exact(group)
            .zip(y.chunks_exact(group))
            .map(|(x, y)| covered(x, y))
            .collect();
        assert_close(&found, &expected, 1e-5, "lengths");
        let composed = interval_union::composed(tx, ty, group);
        assert_close(&values(composed), &expected, 1e-5, "composed lengths");
    }
    let [x, y] = [&x, &y].map(|v| Tensor::<A, 2>::from_data(table(v), &device).require_grad());
    compare(
        "unions",
        &mut rng,
        &[x, y],
        [],
        |x, _| interval_union(x[0].clone(), x[1].clone(), 8),
        |x, _| interval_union::composed(x[0].clone(), x[1].clone(), 8),
    );
    // The published example: three groups of three, there and back.
    let x =
        Tensor::<Flex, 2>::from_floats([[0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 2.0, -1.0, 0.0]], &device);
    let y =
        Tensor::<Flex, 2>::from_floats([[2.0, 1.5, 2.0, -1.0, -2.0, -3.0, 3.0, 0.5, 4.0]], &device);
    assert_eq!(
        values(interval_union(x.clone(), y.clone(), 3)),
        [2.0, 0.0, 5.0]
    );
    assert_eq!(values(interval_union(y, x, 3)), [1.0, 3.0, 0.0]);
}
