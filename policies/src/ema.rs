//! Exponential moving average of weights.
//!
//! At update `k = 1, 2, …`: `s ← w_k s + (1 − w_k) θ` with `w_k = min(decay, (1 + k) / (10 + k))`, so that the average
//! forgets the initial weights quickly and only later averages over `1 / (1 − decay)` updates.

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;

use crate::module_state::{insert_module, load_module};
use crate::nn::fused::{for_blocks, from_flex, into_flex};
use crate::problems::Validate;
use crate::{PolicyError, Problems, TensorMap};

/// Settings of an average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Greatest weight of the old average, in 0..1.
    pub decay: f64,
    /// Whether the weight rises from 2/11 to `decay`; otherwise it is `decay` from the start.
    pub warm_up: bool,
}

impl Default for EmaConfig {
    fn default() -> Self {
        // Both published tasks of BESO.
        Self {
            decay: 0.999,
            warm_up: true,
        }
    }
}

impl Validate for EmaConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.check(
            (0.0..1.0).contains(&self.decay),
            "decay",
            self.decay,
            "a number in 0..1",
        );
    }
}

impl EmaConfig {
    /// The weight of the old average at update `update = 1, 2, …`.
    pub fn weight(&self, update: u64) -> f64 {
        if self.warm_up {
            self.decay.min((1 + update) as f64 / (10 + update) as f64)
        } else {
            self.decay
        }
    }
}

/// A copy of a module that follows it slowly.
#[derive(Clone, Debug)]
pub struct SlowCopy<M>(
    /// `None` only during [`follow`](Self::follow).
    Option<M>,
);

const LIVES: &str = "the copy is only away while it follows";

impl<M> SlowCopy<M> {
    /// A copy that is equal for now.
    pub fn new(module: M) -> Self {
        Self(Some(module))
    }

    /// The copy.
    pub fn get(&self) -> &M {
        self.0.as_ref().expect(LIVES)
    }

    /// `copy ← weight · copy + (1 − weight) · module`.
    pub fn follow<A: AutodiffBackend, N>(&mut self, module: &N, weight: f64)
    where
        N: AutodiffModule<A, InnerModule = M>,
    {
        let copy = self.0.take().expect(LIVES);
        self.0 = Some(average_into(copy, module, weight));
    }

    /// Adds it to a state under `prefix.`.
    pub fn insert_into<B: Backend>(&self, state: &mut TensorMap, prefix: &str)
    where
        M: Module<B>,
    {
        insert_module(state, prefix, self.get());
    }

    /// The one that [`insert_into`](Self::insert_into) saved under `prefix.`.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn loaded<B: Backend>(&self, state: &TensorMap, prefix: &str) -> Result<Self, PolicyError>
    where
        M: Module<B>,
    {
        load_module(state, prefix, self.get().clone()).map(Self::new)
    }
}

/// `average ← weight · average + (1 − weight) · module`, parameter by parameter.
pub fn average_into<A: AutodiffBackend, M: AutodiffModule<A>>(
    average: M::InnerModule,
    module: &M,
    weight: f64,
) -> M::InnerModule {
    let mut collector = Collector {
        tensors: BTreeMap::new(),
    };
    module.visit(&mut collector);
    average.map(&mut Averager {
        tensors: collector.tensors,
        weight: weight as f32,
    })
}

/// Parameters by id: `valid()` keeps the ids of a module.
struct Collector {
    tensors: BTreeMap<ParamId, Box<dyn Any>>,
}

impl<A: AutodiffBackend> ModuleVisitor<A> for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        self.tensors.insert(param.id, Box::new(param.val().inner()));
    }
}

struct Averager {
    tensors: BTreeMap<ParamId, Box<dyn Any>>,
    weight: f32,
}

impl<B: Backend> ModuleMapper<B> for Averager {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, average, mapper) = param.consume();
        let current = self
            .tensors
            .remove(&id)
            .and_then(|tensor| tensor.downcast::<Tensor<B, D>>().ok());
        let average = match current {
            Some(current) => average_tensor(average, *current, self.weight),
            None => average,
        };
        Param::from_mapped_value(id, average, mapper)
    }
}

fn average_tensor<B: Backend, const D: usize>(
    average: Tensor<B, D>,
    current: Tensor<B, D>,
    weight: f32,
) -> Tensor<B, D> {
    let rest = 1.0 - weight;
    match (into_flex(average), into_flex(current)) {
        (Ok(mut average), Ok(current)) => {
            let current = current
                .as_slice::<f32>()
                .expect("flex parameters are made contiguous");
            for_blocks(
                average.storage_mut::<f32>(),
                1,
                #[inline(always)]
                |first, block| {
                    let current = &current[first..first + block.len()];
                    block
                        .iter_mut()
                        .zip(current)
                        .for_each(|(s, p)| *s = weight * *s + rest * p);
                },
            );
            from_flex(average)
        }
        (average, current) => {
            let give_back =
                |tensor: Result<_, Tensor<B, D>>| tensor.map_or_else(|tensor| tensor, from_flex);
            give_back(average) * weight + give_back(current) * rest
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::TensorData;
    use telic_seed::Seed;

    use super::*;
    use crate::module_state::tensor_values;
    use crate::nn::{Initializer, Linear};

    /// G13.
    #[test]
    fn weights_warm_up_as_stated() {
        let config = EmaConfig::default();
        for (update, weight) in [
            (1, 0.181_818),
            (2, 0.25),
            (5, 0.4),
            (10, 0.55),
            (100, 0.918_182),
            (1000, 0.991_089),
            (8990, 0.999),
            (50_000, 0.999),
        ] {
            assert!(
                (config.weight(update) - weight).abs() < 5e-7,
                "update {update}: {}",
                config.weight(update)
            );
        }
        assert!(config.weight(8988) < 0.999);
        assert_eq!(
            EmaConfig {
                warm_up: false,
                ..config
            }
            .weight(1),
            0.999
        );
    }

    /// Of the baselines: ρ 0.005 of a weight of 2 on a slow copy of 1.
    #[test]
    fn a_slow_copy_follows_as_published() {
        type A = Autodiff<Flex>;
        let device = Default::default();
        let mut rng = Seed::new(1).rng();
        let layer = Linear::<A>::new(30, 20, Initializer::Zeros, &mut rng, &device);
        let filled = |value: f32| Linear::<A> {
            weight: layer
                .weight
                .clone()
                .map(|_| Tensor::from_data(TensorData::new(vec![value; 600], [30, 20]), &device)),
            bias: layer
                .bias
                .clone()
                .map(|_| Tensor::from_data(TensorData::new(vec![value; 20], [20]), &device)),
        };
        let mut slow = SlowCopy::new(filled(1.0).valid());
        slow.follow(&filled(2.0), 1.0 - 0.005);
        let copy = slow.get();
        let values = [
            tensor_values(copy.weight.val()),
            tensor_values(copy.bias.val()),
        ]
        .concat();
        assert!(
            values.iter().all(|value| (value - 1.005).abs() < 1e-6),
            "{values:?}"
        );
    }

    #[test]
    fn the_average_moves_by_its_weight() {
        let device = Default::default();
        let layer = |seed| {
            let mut rng = Seed::new(seed).rng();
            Linear::<Autodiff<Flex>>::new(
                300,
                200,
                Initializer::Normal { std: 1.0 },
                &mut rng,
                &device,
            )
        };
        let (old, new) = (layer(1), layer(2));
        let values = |layer: &Linear<Flex>| tensor_values(layer.weight.val());
        let (before, current) = (values(&old.valid()), values(&new.valid()));
        // The average of another module has other ids: it is made from the module it averages.
        let average = average_into(new.valid(), &new, 0.25);
        assert_eq!(values(&average), current);
        let moved = Linear {
            weight: old.weight.clone().map(|_| new.weight.val()),
            bias: old.bias.clone(),
        };
        let average = values(&average_into(old.valid(), &moved, 0.25));
        for ((average, before), current) in average.iter().zip(&before).zip(&current) {
            assert!((average - (0.25 * before + 0.75 * current)).abs() < 1e-6);
        }
    }
}
