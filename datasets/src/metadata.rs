//! Where a dataset comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::InvalidData;

/// What is needed to understand a dataset and to make it again. Stored as JSON inside the archive.
///
/// Files of other programs have none of it: every field is then empty. Keys that a newer version adds are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Id of the environment, for example `cube-single`; empty if unknown.
    pub env: String,
    /// Version of the environment's dynamics.
    pub env_version: u32,
    /// Root seed of the collection.
    pub seed: Option<u64>,
    /// Program and settings that made the data, for example `telic 0.1.0 collect play noise=1`.
    pub generator: String,
    /// Name of the scripted expert.
    pub demonstrator: String,
    /// Further settings of the environment and the expert that are needed to repeat the data.
    pub options: BTreeMap<String, String>,
    /// Control steps per second of simulated time; 0 if unknown.
    pub control_hz: f64,
    /// Name of each entry of an observation, `[observation_dim]`.
    pub observation_names: Vec<String>,
    /// Name of each entry of an action, `[action_dim]`.
    pub action_names: Vec<String>,
    /// Entries of an observation that make up the achieved goal, in order.
    pub goal_indices: Vec<usize>,
    /// Distance within which a goal counts as reached, in metres; 0 if unknown.
    pub goal_tolerance: f32,
    /// Entries of the achieved goal that make up one point, each of which must be within the tolerance; 0 if unknown.
    pub goal_point_dim: usize,
    /// Length in metres of one unit of a goal entry; 0 if unknown.
    pub goal_metres_per_unit: f32,
    /// The last row of `qpos`, `qvel` and `button_states` of each episode repeats the row above: the data
    /// came in the regular layout, which does not hold the final state.
    pub final_states_repeated: bool,
    /// Seed of each episode.
    pub episode_seeds: Vec<u64>,
    /// Whether each episode solved its task.
    pub episode_successes: Vec<bool>,
}

impl Metadata {
    /// The first field that differs from another collection's, with both values; what each episode came to is not compared.
    pub fn first_difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let texts = |metadata: &Self| {
            let Self {
                env,
                env_version,
                seed,
                generator,
                demonstrator,
                options,
                control_hz,
                observation_names,
                action_names,
                goal_indices,
                goal_tolerance,
                goal_point_dim,
                goal_metres_per_unit,
                final_states_repeated,
                episode_seeds: _,
                episode_successes: _,
            } = metadata;
            [
                ("env", format!("{env:?}")),
                ("env_version", env_version.to_string()),
                (
                    "seed",
                    seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string()),
                ),
                ("generator", format!("{generator:?}")),
                ("demonstrator", format!("{demonstrator:?}")),
                ("options", format!("{options:?}")),
                ("control_hz", control_hz.to_string()),
                ("observation_names", format!("{observation_names:?}")),
                ("action_names", format!("{action_names:?}")),
                ("goal_indices", format!("{goal_indices:?}")),
                ("goal_tolerance", goal_tolerance.to_string()),
                ("goal_point_dim", goal_point_dim.to_string()),
                ("goal_metres_per_unit", goal_metres_per_unit.to_string()),
                ("final_states_repeated", final_states_repeated.to_string()),
            ]
        };
        texts(self)
            .into_iter()
            .zip(texts(other))
            .find(|(ours, theirs)| ours != theirs)
            .map(|((field, ours), (_, theirs))| (field, ours, theirs))
    }

    /// Whether nothing is known, as for the files of other programs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the lengths of all lists against the data.
    pub(crate) fn check(
        &self,
        episodes: usize,
        observation_dim: usize,
        action_dim: usize,
    ) -> Result<(), InvalidData> {
        for (field, found, expected) in [
            ("episode_seeds", self.episode_seeds.len(), episodes),
            ("episode_successes", self.episode_successes.len(), episodes),
            (
                "observation_names",
                self.observation_names.len(),
                observation_dim,
            ),
            ("action_names", self.action_names.len(), action_dim),
        ] {
            if found != 0 && found != expected {
                return Err(InvalidData::MetadataLength {
                    field,
                    found,
                    expected,
                });
            }
        }
        match self
            .goal_indices
            .iter()
            .find(|&&index| index >= observation_dim)
        {
            Some(&index) => Err(InvalidData::GoalIndex {
                index,
                width: observation_dim,
            }),
            None => Ok(()),
        }
    }
}
