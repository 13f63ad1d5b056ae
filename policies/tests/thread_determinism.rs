//! The CPU backend gives the same bits on any number of threads, for what agents do with it.
#![allow(clippy::unwrap_used)]

use burn::backend::flex::FlexDevice;
use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::{gelu, relu, softmax};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use telic_policies::Threads;
use telic_policies::module_state::tensor_values;
use telic_seed::Seed;

type B = Autodiff<Flex>;

fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<B, D> {
    let mut rng = Seed::new(1).child(name).rng();
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice)
}

/// Bits of what `work` gives on 1, 2, 3 and 4 threads, the last ones twice: stealing differs from run to run.
fn assert_same_bits(name: &str, work: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let bits = |threads: usize| -> Vec<Vec<u32>> {
        let values = Threads::new(threads).unwrap().run(&work);
        values
            .into_iter()
            .map(|values| values.into_iter().map(f32::to_bits).collect())
            .collect()
    };
    let expected = bits(1);
    for threads in [2, 3, 4, 4, 2] {
        let found = bits(threads);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let different = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert_eq!(
                different,
                0,
                "{name}: result {index} on {threads} threads, of {} numbers",
                expected.len()
            );
        }
    }
}

#[test]
fn a_network_and_its_gradients() {
    for batch in [1, 7, 256, 1024] {
        assert_same_bits(&format!("batch {batch}"), || {
            let weights = [
                random("first", [58, 512]).require_grad(),
                random("second", [512, 512]).require_grad(),
                random("third", [512, 3]).require_grad(),
            ];
            let bias = random("bias", [1, 512]).require_grad();
            let hidden =
                relu(random("input", [batch, 58]).matmul(weights[0].clone()) + bias.clone());
            let output = gelu(hidden.matmul(weights[1].clone())).matmul(weights[2].clone());
            let loss = output.clone().square().mean();
            let gradients = loss.backward();
            let mut results: Vec<Vec<f32>> = weights
                .iter()
                .map(|weight| tensor_values(weight.grad(&gradients).unwrap()))
                .collect();
            results.extend([
                tensor_values(output),
                tensor_values(loss),
                tensor_values(bias.grad(&gradients).unwrap()),
            ]);
            results
        });
    }
}

#[test]
fn attention_and_its_gradients() {
    assert_same_bits("attention", || {
        let [query, key, value] =
            ["query", "key", "value"].map(|name| random(name, [64, 6, 11, 60]).require_grad());
        let weights = softmax(query.clone().matmul(key.clone().swap_dims(2, 3)) / 8.0, 3);
        let output = weights.matmul(value.clone());
        let gradients = output.clone().square().mean().backward();
        let mut results = vec![tensor_values(output)];
        results.extend(
            [query, key, value].map(|tensor| tensor_values(tensor.grad(&gradients).unwrap())),
        );
        results
    });
}

#[test]
fn reductions_along_one_axis_of_large_tensors() {
    assert_same_bits("reductions", || {
        let large = random("large", [4096, 2048]);
        vec![
            tensor_values(large.clone().sum_dim(0)),
            tensor_values(large.clone().sum_dim(1)),
            tensor_values(large.clone().mean_dim(1).mean()),
            tensor_values(large.max_dim(1)),
        ]
    });
}

#[test]
fn matrix_products_of_odd_sizes() {
    for (rows, inner, columns) in [
        (193, 257, 331),
        (1001, 30, 361),
        (5, 5000, 77),
        (1, 3000, 3000),
        (3000, 3000, 1),
    ] {
        assert_same_bits(&format!("{rows} × {inner} × {columns}"), || {
            let product = random("left", [rows, inner]).matmul(random("right", [inner, columns]));
            vec![tensor_values(product)]
        });
    }
}

/// Below four Mi entries only: from there on, the backend adds up the parts of a full sum or mean in an order that
/// depends on how the threads split the work, and gives other bits from run to run. Agents reduce one axis first.
#[test]
fn full_sums_below_four_mebi_entries() {
    assert_same_bits("sums", || {
        let large = random("large", [2000, 2000]);
        vec![
            tensor_values(large.clone().sum()),
            tensor_values(large.mean()),
        ]
    });
}
