//! What the networks of a policy see of observations and goals, and how actions look to them.

use serde::{Deserialize, Serialize};
use telic_datasets::{
    ClipBounds, FeatureView, HindsightConfig, HindsightSampler, Normalizer, NormalizerKind,
    TransitionBatch,
};

use crate::batches::SizedSampler;
use crate::{
    BatchSampler, DataPart, DataSpec, Model, PolicyError, Problems, TensorMap, TrainingTask,
};

/// The table `inputs` of every policy. The defaults are those of OGBench: everything, as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputConfig {
    /// Entries of an observation that the networks see, in order; absent for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observation_columns: Option<Vec<usize>>,
    /// What of an observation makes a goal; the rest is 0 after normalisation.
    pub goal: GoalEntries,
    /// Entries that make a goal, in place of what `goal` says; absent for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal_columns: Option<Vec<usize>>,
    /// Map of observations and goals before the networks.
    pub observation_normalizer: NormalizerKind,
    /// Map of actions.
    pub action_normalizer: NormalizerKind,
}

/// What of an observation makes a goal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalEntries {
    /// Every entry that is seen.
    #[default]
    All,
    /// The entries that the dataset names as its goal, or every one if it names none.
    Task,
}

/// An [`InputConfig`] fitted to training data.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// What the data looks like.
    pub data: DataSpec,
    /// What is seen of an observation and of a goal.
    pub features: FeatureView,
    /// From actions of the dataset to actions of the networks.
    pub actions: Normalizer,
}

impl Inputs {
    /// Fits the normalisers to the training part.
    ///
    /// # Errors
    /// [`PolicyError::Sampling`] for columns that are not there.
    pub fn fit(config: &InputConfig, task: &TrainingTask) -> Result<Self, PolicyError> {
        let DataPart { dataset, episodes } = &task.data;
        let data = DataSpec::of(dataset);
        let of_task = (config.goal == GoalEntries::Task && !data.goal_indices.is_empty())
            .then(|| data.goal_indices.clone());
        let columns = config.observation_columns.as_deref();
        let features = FeatureView {
            normalizer: dataset.fit_observations(
                config.observation_normalizer,
                episodes,
                columns,
            )?,
            columns: config.observation_columns.clone(),
            goal_columns: config.goal_columns.clone().or(of_task),
        };
        features.check(data.observation_dim)?;
        let actions = dataset.fit_actions(config.action_normalizer, episodes)?;
        Ok(Self {
            data,
            features,
            actions,
        })
    }

    /// Those of a saved model.
    pub fn of_model(model: &Model) -> Self {
        Self {
            data: model.data.clone(),
            features: model.features.clone(),
            actions: model.actions.clone(),
        }
    }

    /// Entries that are seen of an observation.
    pub fn observation_dim(&self) -> usize {
        self.features.dim(self.data.observation_dim)
    }

    /// Entries of an action.
    pub fn action_dim(&self) -> usize {
        self.data.action_dim
    }

    /// A model with these inputs.
    pub fn model(
        &self,
        action_bounds: Option<ClipBounds>,
        settings: toml::Table,
        weights: TensorMap,
    ) -> Model {
        Model {
            data: self.data.clone(),
            features: self.features.clone(),
            actions: self.actions.clone(),
            action_bounds,
            settings,
            weights,
        }
    }

    /// Batches of transitions with goals chosen in hindsight, as the networks see them.
    pub fn transitions(
        &self,
        goals: HindsightConfig,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<TransitionBatch>>, PolicyError> {
        let sampler = HindsightSampler::over(data.dataset.clone(), &data.episodes, goals)?
            .with_features(self.features.clone(), self.actions.clone())?;
        Ok(Box::new(SizedSampler {
            sampler,
            batch_size,
        }))
    }
}

/// Adds what is wrong with the goals of a configuration.
pub fn validate_goals(goals: &HindsightConfig, problems: &mut Problems) {
    for (key, mix) in [("value", goals.value), ("actor", goals.actor)] {
        let mix = [mix.current, mix.trajectory, mix.random];
        let holds = mix.iter().all(|p| (0.0..=1.0).contains(p))
            && (mix.iter().sum::<f64>() - 1.0).abs() < 1e-6;
        problems.check(
            holds,
            key,
            mix,
            "probabilities `current`, `trajectory`, `random` that add up to 1",
        );
    }
    problems.check(
        (0.0..1.0).contains(&goals.discount),
        "discount",
        goals.discount,
        "a number in 0..1",
    );
}
