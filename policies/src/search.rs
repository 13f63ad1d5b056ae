//! Searches of policies that estimate steps and take goals as observations: the policy is sent from landmark to landmark, states of the
//! data, along the shortest way to the goal (search on the replay buffer, Eysenbach, Salakhutdinov and Levine 2019, arXiv:1906.05253).

use std::fmt;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::gaussian::halves;
use crate::inputs::Inputs;
use crate::module_state::tensor_values;
use crate::problems::Validate;
use crate::roadmap::{Roadmap, SpreadOut, check_roadmap};
use crate::{Model, PolicyError, Problems, TensorMap};

/// Where the policy is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchKind {
    /// Straight to the goal.
    #[default]
    Goal,
    /// Along the shortest way through landmarks of the data.
    Search,
}

impl fmt::Display for SearchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goal => "goal",
            Self::Search => "search",
        })
    }
}

/// The table `prompt`, a setting of inference but for `places`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Straight or along a search.
    pub kind: SearchKind,
    /// States of the data that are saved with the policy.
    pub places: usize,
    /// How many of them, spread out, are landmarks at most.
    pub landmarks: usize,
    /// The steps up to which the estimate of steps is trusted.
    pub reach: f64,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            kind: SearchKind::Goal,
            places: 4000,
            landmarks: 400,
            reach: 10.0,
        }
    }
}

impl Validate for SearchConfig {
    fn validate(&self, problems: &mut Problems) {
        check_roadmap(problems, self.places, self.landmarks, self.reach);
    }
}

/// Where these settings lie among those of a model.
pub const PROMPT: &str = "prompt";
/// Where the states lie in a model.
const PLACES: &str = "places";

/// Saves states of the data as the networks see them, `[count, observation_dim]` of `inputs`, row-major.
pub fn insert_places(weights: &mut TensorMap, inputs: &Inputs, places: &[f32]) {
    let width = inputs.observation_dim();
    weights.insert_f32(PLACES, &[places.len() / width, width], places.to_vec());
}

/// An estimate of steps.
pub trait Steps<B: Backend>: Send {
    /// φ, `[rows, observation_dim]` → `[rows, D]`.
    fn embed(&self, seen: Tensor<B, 2>) -> Tensor<B, 2>;

    /// Steps from one embedding to another, `[rows, D]` → `[rows, 1]`.
    fn steps(&self, from: Tensor<B, 2>, to: Tensor<B, 2>) -> Tensor<B, 2>;
}

/// What a policy searches with.
pub struct Search<B: Backend> {
    config: SearchConfig,
    estimate: Box<dyn Steps<B>>,
    /// States as the networks see them, as observations and as goals, `[places, observation_dim]`.
    places: [Tensor<B, 2>; 2],
    /// Present while the policy searches.
    landmarks: Option<Landmarks<B>>,
    /// What each row asked for last: a goal stays for many steps.
    asked: Vec<Asked>,
}

/// A goal and the ways to it.
#[derive(Default)]
struct Asked {
    /// As the networks see it, `[observation_dim]`.
    goal: Vec<f32>,
    /// Of the ways from the landmarks to it, `[count]`.
    costs: Vec<f32>,
}

struct Landmarks<B: Backend> {
    /// As goals, `[count, observation_dim]`.
    goals: Tensor<B, 2>,
    /// Embeddings as observations and as goals, `[count, D]`.
    embedded: [Tensor<B, 2>; 2],
    roadmap: Roadmap,
}

impl<B: Backend> Search<B> {
    /// With the places of a saved model.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn of_model(
        config: SearchConfig,
        estimate: Box<dyn Steps<B>>,
        model: &Model,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        let width = Inputs::of_model(model).observation_dim();
        let seen = model
            .weights
            .get_f32(PLACES, &[config.places, width])?
            .to_vec();
        let mut goals = seen.clone();
        for goal in goals.chunks_exact_mut(width) {
            model.features.hide(goal);
        }
        let places = [seen, goals].map(|rows| {
            let data = TensorData::new(rows, [config.places, width]);
            Tensor::from_data(data, device)
        });
        Ok(Self {
            config,
            estimate,
            places,
            landmarks: None,
            asked: vec![],
        })
    }

    /// The settings in force.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// Adds what keeps these settings from being taken over.
    pub fn check(&self, config: &SearchConfig, problems: &mut Problems) {
        problems.parts(&[(PROMPT, config)]);
        let holds = config.places == self.config.places;
        let message = "as many places as the policy was saved with";
        problems.check(holds, "prompt.places", config.places, message);
    }

    /// Takes over settings that are [sound](Self::check); a search looks for its landmarks now.
    pub fn configure(&mut self, config: SearchConfig) {
        let same = config == self.config;
        self.config = config;
        if config.kind == SearchKind::Goal {
            self.landmarks = None;
        } else if !same || self.landmarks.is_none() {
            self.landmarks = Some(self.find_landmarks());
            self.asked.clear();
        }
    }

    fn find_landmarks(&self) -> Landmarks<B> {
        let [observed, aimed] = self.places.clone().map(|rows| self.estimate.embed(rows));
        let rows = self.config.places;
        let chosen = SpreadOut::among(rows, self.config.landmarks, |to| {
            self.steps_to_one(observed.clone(), row(&aimed, to))
        })
        .chosen;
        let count = chosen.len();
        let pick = |rows: &Tensor<B, 2>| {
            Tensor::cat(chosen.iter().map(|&index| row(rows, index)).collect(), 0)
        };
        let embedded = [pick(&observed), pick(&aimed)];
        let mut distances = vec![0.0; count * count];
        for to in 0..count {
            let steps = self.steps_to_one(embedded[0].clone(), row(&embedded[1], to));
            for (from, steps) in steps.into_iter().enumerate() {
                distances[from * count + to] = if from == to { 0.0 } else { steps };
            }
        }
        Landmarks {
            goals: pick(&self.places[1]),
            embedded,
            roadmap: Roadmap::new(distances, count, self.config.reach as f32),
        }
    }

    /// Steps from each of some embeddings to one, `[rows]`.
    fn steps_to_one(&self, from: Tensor<B, 2>, to: Tensor<B, 2>) -> Vec<f32> {
        let rows = from.dims()[0];
        tensor_values(self.estimate.steps(from, to.repeat_dim(0, rows)))
    }

    /// Observations and goals side by side, `[rows, 2 · observation_dim]`, with the landmarks that come next in place of the goals. Fastest
    /// where the goal of a row is that of the last call.
    pub fn redirect(&mut self, pairs: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut asked = std::mem::take(&mut self.asked);
        let redirected = self.redirected(pairs, &mut asked);
        self.asked = asked;
        redirected
    }

    fn redirected(&self, pairs: Tensor<B, 2>, asked: &mut Vec<Asked>) -> Tensor<B, 2> {
        let Some(landmarks) = &self.landmarks else {
            return pairs;
        };
        let [observations, goals] = halves(pairs);
        let from = self.estimate.embed(observations.clone());
        let to = self.estimate.embed(goals.clone());
        let straight = tensor_values(self.estimate.steps(from.clone(), to.clone()));
        asked.resize_with(straight.len(), Asked::default);
        let targets = straight.into_iter().zip(asked).enumerate();
        let targets = targets.map(|(index, (straight, asked))| {
            let goal = row(&goals, index);
            if landmarks.roadmap.trusts(straight) {
                return goal;
            }
            let [observed, aimed] = landmarks.embedded.clone();
            let wanted = tensor_values(goal.clone());
            if asked.goal != wanted {
                let distances = self.steps_to_one(observed, row(&to, index));
                asked.costs = landmarks.roadmap.costs_to(&distances);
                asked.goal = wanted;
            }
            let rows = aimed.dims()[0];
            let starts = row(&from, index).repeat_dim(0, rows);
            let starts = tensor_values(self.estimate.steps(starts, aimed));
            match landmarks.roadmap.next(&starts, &asked.costs) {
                Some(next) => row(&landmarks.goals, next),
                None => goal,
            }
        });
        let targets = Tensor::cat(targets.collect(), 0);
        Tensor::cat(vec![observations, targets], 1)
    }

    /// Steps from each of some candidates, as the networks see them, to where the policy is sent first on the way between observation
    /// and goal side by side, `[rows, 2 · observation_dim]`, of which the first row counts; `[candidates]`, or `None` where it does not search.
    pub fn steps_to_target(
        &self,
        pairs: Tensor<B, 2>,
        candidates: Tensor<B, 2>,
    ) -> Option<Vec<f32>> {
        self.landmarks.as_ref()?;
        let width = pairs.dims()[1];
        let pairs = pairs.slice([0..1, 0..width]);
        let [_, targets] = halves(self.redirected(pairs, &mut vec![]));
        let to = row(&self.estimate.embed(targets), 0);
        Some(self.steps_to_one(self.estimate.embed(candidates), to))
    }
}

/// A row of a table, `[1, width]`.
fn row<B: Backend>(table: &Tensor<B, 2>, index: usize) -> Tensor<B, 2> {
    let width = table.dims()[1];
    table.clone().slice([index..index + 1, 0..width])
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    /// Embeds a place on a line as itself; a step is 1 long, to the left 3.
    struct Line;

    impl Steps<Flex> for Line {
        fn embed(&self, seen: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
            seen
        }

        fn steps(&self, from: Tensor<Flex, 2>, to: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
            let way = to - from;
            way.clone().clamp_min(0.0) - way.clamp_max(0.0) * 3.0
        }
    }

    fn column(values: impl Iterator<Item = f32>) -> Tensor<Flex, 2> {
        let values: Vec<f32> = values.collect();
        let shape = [values.len(), 1];
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    /// Over the places 0 to 20.
    fn search() -> Search<Flex> {
        let places = || (0..=20).map(|x| x as f32);
        Search {
            config: SearchConfig {
                places: 21,
                ..SearchConfig::default()
            },
            estimate: Box::new(Line),
            places: [column(places()), column(places())],
            landmarks: None,
            asked: vec![],
        }
    }

    #[test]
    fn it_is_sent_from_landmark_to_landmark() {
        let mut search = search();
        let pairs = Tensor::from_floats(
            [[0.0, 20.0], [0.0, 2.5], [20.0, 0.0], [7.2, 16.0]],
            &Default::default(),
        );
        // Straight to the goals as long as nothing is searched.
        assert_eq!(
            tensor_values(search.redirect(pairs.clone())),
            tensor_values(pairs.clone())
        );
        search.configure(SearchConfig {
            kind: SearchKind::Search,
            reach: 3.0,
            ..*search.config()
        });
        // Up to three steps to the right and one to the left are trusted.
        let found = tensor_values(search.redirect(pairs.clone()));
        let targets: Vec<f32> = found.chunks_exact(2).map(|pair| pair[1]).collect();
        assert_eq!(targets[1..3], [2.5, 19.0]);
        assert!((2.0..=3.0).contains(&targets[0]), "{targets:?}");
        assert!((9.0..=10.0).contains(&targets[3]), "{targets:?}");
        let steps = search.steps_to_target(pairs.clone(), column([0.0, 20.0].into_iter()));
        let there = targets[0];
        assert_eq!(steps.unwrap(), [there, 3.0 * (20.0 - there)]);
        // Other goals in the same rows.
        let turned = Tensor::from_floats(
            [[20.0, 0.0], [0.0, 20.0], [0.0, 20.0], [7.2, 16.0]],
            &Default::default(),
        );
        let again = tensor_values(search.redirect(turned));
        let again: Vec<f32> = again.chunks_exact(2).map(|pair| pair[1]).collect();
        assert_eq!(again, [targets[2], targets[0], targets[0], targets[3]]);
        search.configure(SearchConfig {
            kind: SearchKind::Goal,
            ..*search.config()
        });
        assert!(
            search
                .steps_to_target(pairs, column([0.0].into_iter()))
                .is_none()
        );
    }
}
