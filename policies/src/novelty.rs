//! Rewards for what is new: random network distillation (Burda et al. 2018, arXiv:1810.12894).
//!
//! A network f with random weights stays as it is, and another one, f̂, learns to give the same. Where f̂ is still wrong, little has
//! been seen:
//!
//! ```text
//! r(s') = |f̂(x) − f(x)|² / (D σ),  x = clip((s' − μ) / std, −5, 5)
//! L = mean |f̂(x) − f(x)|² / D
//! ```
//!
//! μ and std are moments of the states of all batches so far, σ is the standard deviation of all |f̂ − f|² / D so far.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};
use telic_seed::Seed;

use crate::module_state::tensor_values;
use crate::nn::{AdamConfig, LrSchedule, Mlp, MlpConfig};
use crate::problems::Validate;
use crate::replay::ReplayBatch;
use crate::tables::{Table, upload};
use crate::trained::Trained;
use crate::{Numbers, PolicyError, Problems, TensorMap};

/// The table `novelty`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoveltyConfig {
    /// Factor on r(s'), which is added to the reward of the task; 0 for none.
    pub weight: f64,
    /// The network of f and of f̂.
    pub network: MlpConfig,
    /// D.
    pub dim: usize,
    /// Adam of f̂.
    pub optimizer: AdamConfig,
}

impl Default for NoveltyConfig {
    fn default() -> Self {
        Self {
            weight: 0.0,
            network: MlpConfig {
                hidden: vec![256; 2],
                ..MlpConfig::default()
            },
            dim: 64,
            optimizer: AdamConfig {
                lr: 1e-4,
                ..AdamConfig::default()
            },
        }
    }
}

impl Validate for NoveltyConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.parts(&[("network", &self.network), ("optimizer", &self.optimizer)]);
        let holds = self.weight >= 0.0 && self.weight.is_finite();
        problems.check(holds, "weight", self.weight, "a number of at least 0");
        problems.check(self.dim >= 1, "dim", self.dim, "at least 1");
    }
}

/// Limit of what the networks see, in standard deviations.
const CLIP: f32 = 5.0;

/// Mean and variance of everything so far (Chan et al. 1983).
#[derive(Clone, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, values: impl Iterator<Item = f32> + Clone) {
        let count = values.clone().count() as f64;
        let mean = values.clone().map(f64::from).sum::<f64>() / count;
        let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
        let (all, shift) = (self.count + count, mean - self.mean);
        self.squares += squares + shift * shift * self.count * count / all;
        self.mean += shift * count / all;
        self.count = all;
    }

    fn insert_into(&self, state: &mut TensorMap, name: &str) {
        for (part, value) in [
            ("count", self.count),
            ("mean", self.mean),
            ("squares", self.squares),
        ] {
            state.insert_f64(format!("{name}.{part}"), value);
        }
    }

    fn loaded(state: &TensorMap, name: &str) -> Result<Self, PolicyError> {
        let part = |part: &str| state.get_f64(&format!("{name}.{part}"));
        Ok(Self {
            count: part("count")?,
            mean: part("mean")?,
            squares: part("squares")?,
        })
    }

    fn std(&self) -> f32 {
        (self.squares / self.count).sqrt().max(1e-8) as f32
    }
}

/// f, f̂, and the moments.
pub struct Novelty<B: AutodiffBackend> {
    target: Mlp<B::InnerBackend>,
    predictor: Trained<B, Mlp<B>>,
    states: Vec<Moments>,
    errors: Moments,
    weight: f32,
}

impl<B: AutodiffBackend> Novelty<B> {
    /// Weights come from the children `target` and `predictor` of the seed.
    pub fn new(
        config: &NoveltyConfig,
        observation_dim: usize,
        seed: Seed,
        device: &B::Device,
    ) -> Self {
        let network = |name: &str| {
            let mut rng = seed.child(name).rng();
            Mlp::<B>::new(
                &config.network,
                observation_dim,
                config.dim,
                1.0,
                &mut rng,
                device,
            )
        };
        let schedule = LrSchedule::default();
        Self {
            target: burn::module::AutodiffModule::valid(&network("target")),
            predictor: Trained::new(network("predictor"), config.optimizer, schedule, 1, device),
            states: vec![Moments::default(); observation_dim],
            errors: Moments::default(),
            weight: config.weight as f32,
        }
    }

    /// Adds r(s') to the rewards of a batch and makes one step down L. Numbers: `novelty/loss`.
    pub fn reward(&mut self, batch: &mut ReplayBatch) -> Numbers<B::InnerBackend> {
        let (rows, dim) = (batch.rewards.len(), self.states.len());
        let next = &batch.next_observations;
        for (entry, moments) in self.states.iter_mut().enumerate() {
            moments.add(next.iter().skip(entry).step_by(dim).copied());
        }
        let seen: Vec<f32> = next
            .chunks_exact(dim)
            .flat_map(|row| row.iter().zip(&self.states))
            .map(|(x, moments)| ((x - moments.mean as f32) / moments.std()).clamp(-CLIP, CLIP))
            .collect();
        let table = Table::side_by_side(rows, &[&seen]);
        let [seen] = upload::<B::InnerBackend, 1>([table], self.predictor.device());
        let target = Tensor::<B, 2>::from_inner(self.target.forward(seen.clone()));
        let error = self.predictor.module().forward(Tensor::from_inner(seen)) - target;
        let errors = error.powi_scalar(2).mean_dim(1);
        let values = tensor_values(errors.clone().inner());
        self.errors.add(values.iter().copied());
        let scale = self.weight / self.errors.std();
        for (reward, error) in batch.rewards.iter_mut().zip(values) {
            *reward += scale * error;
        }
        let loss = errors.mean();
        let mut of_step = Numbers::new();
        self.predictor.step(loss.clone(), &mut of_step);
        Numbers::new().with("novelty/loss", loss.inner())
    }

    /// Everything that the next rewards depend on, but f, which comes from the seed.
    pub fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        state.insert_map("predictor", self.predictor.state());
        self.errors.insert_into(&mut state, "errors");
        for (entry, moments) in self.states.iter().enumerate() {
            moments.insert_into(&mut state, &format!("states.{entry}"));
        }
        state
    }

    /// Takes over a saved [`state`](Self::state).
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        self.predictor.load_state(&state.sub_map("predictor"))?;
        self.errors = Moments::loaded(state, "errors")?;
        for (entry, moments) in self.states.iter_mut().enumerate() {
            *moments = Moments::loaded(state, &format!("states.{entry}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn batch(offset: f32, seed: u64) -> ReplayBatch {
        let mut rng = Seed::new(seed).rng();
        let next_observations = (0..128)
            .map(|k| {
                let noise: f32 = StandardNormal.sample(&mut rng);
                noise + if k % 2 == 0 { offset } else { 0.0 }
            })
            .collect();
        ReplayBatch {
            rewards: vec![0.5; 64],
            next_observations,
            ..ReplayBatch::default()
        }
    }

    #[test]
    fn moments_are_those_of_all_values() {
        let values = [3.0_f32, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0];
        let mut moments = Moments::default();
        for part in [&values[..2], &values[2..3], &values[3..]] {
            moments.add(part.iter().copied());
        }
        let mean = values.iter().sum::<f32>() / 7.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 7.0;
        assert!((moments.mean as f32 - mean).abs() < 1e-5);
        assert!((moments.std() - variance.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn what_was_often_seen_earns_less_than_what_is_new() {
        let config = NoveltyConfig {
            weight: 1.0,
            network: MlpConfig {
                hidden: vec![32, 32],
                ..MlpConfig::default()
            },
            dim: 8,
            optimizer: AdamConfig {
                lr: 1e-3,
                ..AdamConfig::default()
            },
        };
        let device = Default::default();
        let mut novelty = Novelty::<Autodiff<Flex>>::new(&config, 2, Seed::new(0), &device);
        let mut earned = |batch: &ReplayBatch| {
            let mut batch = batch.clone();
            let numbers = novelty.reward(&mut batch);
            let mean = batch.rewards.iter().sum::<f32>() / 64.0 - 0.5;
            (mean, numbers.read().get("novelty/loss").unwrap())
        };
        // A second place is seen once in a hundred updates, so that both lie within the clipped range.
        let (mut first, mut last) = (0.0, 0.0);
        for k in 0..400 {
            let (_, loss) = earned(&batch(if k % 100 == 0 { 4.0 } else { 0.0 }, k));
            if k == 1 {
                first = loss;
            }
            last = loss;
        }
        assert!(last < 0.1 * first, "{first} to {last}");
        let (known, _) = earned(&batch(0.0, 1000));
        let (new, _) = earned(&batch(8.0, 1001));
        assert!(known > 0.0 && new > 3.0 * known, "{known} and {new}");
    }
}
