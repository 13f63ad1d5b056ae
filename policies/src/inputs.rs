//! What the networks of a policy see of observations and goals, and how actions look to them.

use serde::{Deserialize, Serialize};
use telic_datasets::{
    ClipBounds, FeatureView, HindsightConfig, HindsightSampler, Normalizer, NormalizerKind,
    SubgoalBatch, TransitionBatch,
};

use crate::batches::{SizedSampler, SubgoalSampler};
use crate::problems::Validate;
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

impl InputConfig {
    /// Adds a map of actions that does not end in −1..=1, where an actor cuts them off.
    pub fn validate_for_actor(&self, problems: &mut Problems) {
        problems.nested("inputs", |problems| {
            let normalizer = self.action_normalizer;
            problems.check(
                normalizer != NormalizerKind::ZScore,
                "action_normalizer",
                normalizer,
                "a map to −1..=1, where actions of the actor are cut off",
            );
        });
    }
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
        let unfitted = FeatureView {
            columns: config.observation_columns.clone(),
            ..FeatureView::default()
        };
        unfitted.check(data.observation_dim)?;
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

    /// [`fit`](Self::fit) for a policy that embeds states and goals alike: a goal has to be a whole state, since nothing would tie the
    /// embedding of a part of one to those of the states that it stands for.
    ///
    /// # Errors
    /// Also [`PolicyError::Settings`] if goals hide something.
    pub fn fit_states(config: &InputConfig, task: &TrainingTask) -> Result<Self, PolicyError> {
        let inputs = Self::fit(config, task)?;
        let seen: Vec<usize> = match &inputs.features.columns {
            Some(columns) => columns.clone(),
            None => (0..inputs.data.observation_dim).collect(),
        };
        let hidden: Vec<usize> = match &inputs.features.goal_columns {
            Some(kept) => seen
                .into_iter()
                .filter(|entry| !kept.contains(entry))
                .collect(),
            None => vec![],
        };
        if hidden.is_empty() {
            return Ok(inputs);
        }
        let mut problems = Problems::new();
        problems.nested("policy.inputs", |problems| {
            let value = format!("goals without the entries {hidden:?} of a state");
            let expected = "whole states as goals (`goal = \"all\"`, no `goal_columns`): this policy measures distances between states";
            problems.add("goal", &value, expected);
        });
        Err(PolicyError::Settings(problems))
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
        Ok(Box::new(SizedSampler {
            sampler: self.hindsight(goals, data)?,
            batch_size,
        }))
    }

    /// Batches of transitions with goals of two levels, `horizon` steps apart.
    pub fn subgoals(
        &self,
        goals: HindsightConfig,
        horizon: usize,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<SubgoalBatch>>, PolicyError> {
        Ok(Box::new(SubgoalSampler {
            sampler: self.hindsight(goals, data)?,
            horizon,
            batch_size,
        }))
    }

    /// States of the training data, each as likely as any other, as the networks see them: `[count, observation_dim]`, row-major.
    pub fn draw_places(&self, task: &TrainingTask, count: usize) -> Result<Vec<f32>, PolicyError> {
        let data = &task.data;
        let sampler = self.hindsight(HindsightConfig::default(), data)?;
        let mut rng = task.seed.child("places").rng();
        let width = self.observation_dim();
        let observations = data.dataset.observations();
        let mut places = vec![0.0; count * width];
        for place in places.chunks_exact_mut(width) {
            let row = sampler.draw_row(&mut rng);
            let observation = observations.row(row);
            self.features.observe(&observation.to_vec(), place);
        }
        Ok(places)
    }

    /// What draws transitions and goals.
    pub(crate) fn hindsight(
        &self,
        goals: HindsightConfig,
        data: &DataPart,
    ) -> Result<HindsightSampler, PolicyError> {
        let sampler = HindsightSampler::over(data.dataset.clone(), &data.episodes, goals)?;
        Ok(sampler.with_features(self.features.clone(), self.actions.clone())?)
    }
}

/// Adds rewards of several steps, which not every policy learns from.
pub fn check_single_steps(problems: &mut Problems, goals: &HindsightConfig) {
    problems.nested("goals", |problems| {
        let expected = "1: only gcivl, gciql, hilp, hiql and smore add up rewards of several steps";
        problems.check(goals.n_step <= 1, "n_step", goals.n_step, expected);
    });
}

/// Adds parts of `goals` that a policy takes no notice of, where they were changed.
pub fn check_unused_goals(
    problems: &mut Problems,
    goals: &HindsightConfig,
    default: &HindsightConfig,
    unused: &[&str],
) {
    problems.nested("goals", |problems| {
        let expected = "its default: this policy takes no notice of it";
        if unused.contains(&"value") {
            problems.check(goals.value == default.value, "value", goals.value, expected);
        }
        if unused.contains(&"actor") {
            problems.check(goals.actor == default.actor, "actor", goals.actor, expected);
        }
        if unused.contains(&"negative_rewards") {
            let negative = goals.negative_rewards;
            problems.check(
                negative == default.negative_rewards,
                "negative_rewards",
                negative,
                expected,
            );
        }
    });
}

impl Validate for HindsightConfig {
    fn validate(&self, problems: &mut Problems) {
        for (key, mix) in [("value", self.value), ("actor", self.actor)] {
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
        for (key, mix) in [
            ("value.stitched", self.value),
            ("actor.stitched", self.actor),
        ] {
            let share = mix.stitched;
            problems.check((0.0..=1.0).contains(&share), key, share, "a share in 0..=1");
            problems.check(
                share == 0.0 || mix.trajectory > 0.0,
                key,
                share,
                "0: it is a share of the trajectory goals, of which there are none",
            );
        }
        problems.check(self.clusters >= 1, "clusters", self.clusters, "at least 1");
        problems.check(self.n_step >= 1, "n_step", self.n_step, "at least 1");
        problems.check(
            (0.0..1.0).contains(&self.discount),
            "discount",
            self.discount,
            "a number in 0..1",
        );
    }
}
