//! Where the policy is sent: to the goal, along a plan or a [search](super::search) through states of the data, or up a reward.
//!
//! A plan halves the way to the goal as often as asked, in the latent space (Park et al. 2024, test-time midpoint planning). With
//! p = φ(s), q = φ(g) and the latents φ_j of states of the data:
//!
//! ```text
//! q ← mean of the K latents with the smallest max(|φ_j − p|, |φ_j − q|), R times
//! z = (q − p) / |q − p|
//! ```

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::config_table;
use crate::gaussian::GaussianInference;
use crate::module_state::tensor_values;
use crate::nn::fused::simd;
use crate::problems::Validate;
use crate::roadmap::check_roadmap;
use crate::{Model, PolicyError, Problems, TensorMap};

/// What a prompt asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// Straight to the goal.
    #[default]
    Goal,
    /// Along a plan.
    Plan,
    /// Along the shortest way through landmarks of the data.
    Search,
    /// Up the reward of labelled observations, whatever the goal; see [`Policy::prompt_reward`](crate::Policy::prompt_reward).
    Reward,
}

impl PromptKind {
    /// What a policy whose latents are directions can be set to before it has been given a reward.
    pub(super) const OF_DIRECTIONS: [Self; 3] = [Self::Goal, Self::Plan, Self::Search];
}

impl fmt::Display for PromptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goal => "goal",
            Self::Plan => "plan",
            Self::Search => "search",
            Self::Reward => "reward",
        })
    }
}

/// The table `prompt`, a setting of inference but for `places`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// Straight, along a plan, or along the shortest way through landmarks.
    pub kind: PromptKind,
    /// R, how often the way is halved.
    pub recursions: usize,
    /// K, latents whose mean is a way-point.
    pub neighbours: usize,
    /// States of the data whose latents are saved with the policy.
    pub places: usize,
    /// How many landmarks, means of places that lie close together, a search has at most.
    pub landmarks: usize,
    /// The latent distance, about that many steps, up to which a search trusts the embedding.
    pub reach: f64,
}

impl Default for PromptConfig {
    fn default() -> Self {
        // Reference release.
        Self {
            kind: PromptKind::Goal,
            recursions: 3,
            neighbours: 50,
            places: 50_000,
            landmarks: 1000,
            reach: 10.0,
        }
    }
}

impl Validate for PromptConfig {
    fn validate(&self, problems: &mut Problems) {
        let neighbours = self.neighbours;
        problems.check(neighbours >= 1, "neighbours", neighbours, "at least 1");
        check_roadmap(problems, self.places, self.landmarks, self.reach);
        problems.check(
            self.recursions <= 32,
            "recursions",
            self.recursions,
            "at most 32",
        );
    }
}

impl PromptConfig {
    /// Adds a kind that a policy cannot have before anybody has prompted it; `others` says when it could.
    pub(super) fn validate_kind(
        &self,
        problems: &mut Problems,
        kinds: &[PromptKind],
        others: &str,
    ) {
        let known: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        problems.check(
            kinds.contains(&self.kind),
            "prompt.kind",
            self.kind.to_string(),
            &format!(
                "{}; a reward comes after the training{others}",
                known.join(" or ")
            ),
        );
    }

    /// The settings of a model.
    pub(super) fn settings(&self, inference: GaussianInference) -> toml::Table {
        let mut settings = inference.settings();
        settings.insert("prompt".into(), config_table::to_table(self).into());
        settings
    }
}

/// Where the latents of plans lie in a model.
const PLACES: &str = "places";

/// Saves the latents of plans, `[count, D]`.
pub(super) fn insert_places<B: Backend>(weights: &mut TensorMap, latents: Tensor<B, 2>) {
    weights.insert_f32(PLACES, &latents.dims(), tensor_values(latents));
}

/// The latents of plans that a model was saved with, `[count, dim]`.
pub(super) fn load_places(
    model: &Model,
    prompt: &PromptConfig,
    dim: usize,
) -> Result<Arc<[f32]>, PolicyError> {
    Ok(model.weights.get_f32(PLACES, &[prompt.places, dim])?.into())
}

/// `|a − b|²`, summed in eight lanes.
#[inline(always)]
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += (a - b) * (a - b);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b));
    lanes.into_iter().chain(rest).sum()
}

/// `|place − point|²` of each place, with the widest vector instructions there are.
pub(super) fn squared_distances(places: &[f32], point: &[f32], out: &mut [f32]) {
    simd(
        #[inline(always)]
        || {
            for (place, out) in places.chunks_exact(point.len()).zip(out.iter_mut()) {
                *out = squared_distance(place, point);
            }
        },
    );
}

/// The way-point on a plan from latent `from` to latent `to` through `places` `[count, to.len()]`.
pub(super) fn way_point(
    from: &[f32],
    to: &[f32],
    places: &[f32],
    prompt: &PromptConfig,
) -> Vec<f32> {
    let dim = from.len();
    let mut to_start = vec![0.0; places.len() / dim];
    squared_distances(places, from, &mut to_start);
    let mut to_point = to_start.clone();
    let mut point = to.to_vec();
    let mut costs: Vec<(f32, u32)> = Vec::with_capacity(to_start.len());
    for _ in 0..prompt.recursions {
        squared_distances(places, &point, &mut to_point);
        costs.clear();
        let both = to_start.iter().zip(&to_point);
        costs.extend((0..).zip(both).map(|(index, (a, b))| (a.max(*b), index)));
        let count = prompt.neighbours.min(costs.len());
        let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        costs.select_nth_unstable_by(count - 1, order);
        // The order of summation is that of the places.
        let mut nearest: Vec<usize> = costs[..count].iter().map(|cost| cost.1 as usize).collect();
        nearest.sort_unstable();
        let mut sum = vec![0.0_f64; dim];
        for index in nearest {
            let place = &places[index * dim..(index + 1) * dim];
            sum.iter_mut()
                .zip(place)
                .for_each(|(sum, x)| *sum += f64::from(*x));
        }
        point = sum.iter().map(|sum| (sum / count as f64) as f32).collect();
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(recursions: usize, neighbours: usize) -> PromptConfig {
        PromptConfig {
            kind: PromptKind::Plan,
            recursions,
            neighbours,
            ..PromptConfig::default()
        }
    }

    #[test]
    fn way_points_match_published_values() {
        let line: Vec<f32> = (0..=100).map(|x| x as f32).collect();
        for neighbours in [1, 5] {
            for (recursions, expected) in [(0, 100.0), (1, 50.0), (2, 25.0), (3, 12.0)] {
                let found = way_point(&[0.0], &[100.0], &line, &prompt(recursions, neighbours));
                assert_eq!(found, [expected], "{neighbours} neighbours");
            }
        }
        // Half a circle of radius 10: the heading turns from straight across to the tangent.
        let circle: Vec<f32> = (0..=60)
            .flat_map(|i| {
                let angle = std::f32::consts::PI * i as f32 / 60.0;
                [10.0 * angle.cos(), 10.0 * angle.sin()]
            })
            .collect();
        for (recursions, expected) in [(0, 180.0), (1, 135.0), (2, 112.5), (3, 100.5), (4, 94.5)] {
            let found = way_point(&[10.0, 0.0], &[-10.0, 0.0], &circle, &prompt(recursions, 1));
            let heading = found[1].atan2(found[0] - 10.0).to_degrees();
            assert!(
                (heading - expected).abs() < 0.01,
                "{heading}, not {expected}"
            );
        }
    }
}
