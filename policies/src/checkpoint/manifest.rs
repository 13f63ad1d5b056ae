//! `manifest.json`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use telic_datasets::{ClipBounds, FeatureView, Normalizer};
use toml::Table;

use super::{CheckpointError, MANIFEST_FILE};
use crate::DataSpec;

/// Version of the layout of a checkpoint; a reader takes this one and older ones.
pub const FORMAT_VERSION: u32 = 1;
/// What a checkpoint is: the content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of its writer.
    pub format_version: u32,
    /// Version of the program that wrote it.
    pub telic_version: String,
    /// Id of the policy in the registry.
    pub policy: String,
    /// Updates so far.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Trainable and other numbers in the inference weights.
    pub parameters: usize,
    /// What the data looks like.
    pub data: DataSpec,
    /// What the networks see of an observation and of a goal.
    pub features: FeatureView,
    /// From actions of the dataset to actions of the networks.
    pub actions: Normalizer,
    /// Where normalised actions are cut off, if they are.
    pub action_bounds: Option<ClipBounds>,
    /// The policy's configuration.
    #[serde(with = "toml_text")]
    pub policy_config: Table,
    /// Inference settings.
    #[serde(with = "toml_text")]
    pub settings: Table,
    /// CRC-32 of the run's `config.toml`, in hexadecimal.
    pub config_hash: String,
    /// The data that it was trained on.
    pub dataset: DatasetFingerprint,
    /// The newest value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// Whether the evaluation after this update was interrupted: a run that goes on from here does it first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unevaluated: bool,
    /// The files beside the manifest.
    pub files: BTreeMap<String, FileFingerprint>,
}

/// Tells datasets apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetFingerprint {
    /// Where it was.
    pub path: String,
    /// Episodes in it.
    pub episodes: usize,
    /// Transitions in it.
    pub transitions: usize,
    /// CRC-32 of observations and actions, in hexadecimal.
    pub crc32: String,
    /// CRC-32 of the lengths of the episodes, the goal entries and the data that validate, in hexadecimal; absent in manifests of an older
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_crc32: Option<String>,
}

impl std::fmt::Display for DatasetFingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} transitions, CRC-32 {}", self.transitions, self.crc32)?;
        match &self.rest_crc32 {
            Some(rest) => write!(f, " (of episodes, goal entries and validation data {rest})"),
            None => Ok(()),
        }
    }
}

impl DatasetFingerprint {
    /// Whether the data are the same, wherever they lie.
    pub(crate) fn is_of(&self, found: &Self) -> bool {
        let Self {
            path: _,
            episodes,
            transitions,
            crc32,
            rest_crc32,
        } = self;
        (*episodes, *transitions, crc32) == (found.episodes, found.transitions, &found.crc32)
            && (rest_crc32.is_none() || *rest_crc32 == found.rest_crc32)
    }
}

/// Tells a whole file from a damaged one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFingerprint {
    /// Length.
    pub bytes: u64,
    /// CRC-32, in hexadecimal.
    pub crc32: String,
}

impl FileFingerprint {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            crc32: hex_crc32(bytes),
        }
    }
}

/// CRC-32 of the bytes as the manifest writes it.
pub(crate) fn hex_crc32(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

impl Manifest {
    pub(super) fn to_json(&self) -> String {
        // By way of a `Value`, which widens `f32` to `f64`: its 17 digits read back to the same `f32` even where
        // the reader of serde_json is one unit off in the last place of the `f64`.
        let value = serde_json::to_value(self).expect("a manifest has string keys");
        let mut text = serde_json::to_string_pretty(&value).expect("a value is JSON");
        text.push('\n');
        text
    }

    pub(super) fn read(folder: &Utf8Path) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
            #[serde(default)]
            telic_version: String,
        }
        let path = folder.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| CheckpointError::Io {
            action: "read the manifest",
            source,
            path: path.clone(),
        })?;
        let bad = |error: serde_json::Error| CheckpointError::Manifest {
            reason: error.to_string(),
            path: path.clone(),
        };
        // The version first: the rest of a newer manifest may look different.
        let Version {
            format_version,
            telic_version,
        } = serde_json::from_str(&text).map_err(bad)?;
        if !(1..=FORMAT_VERSION).contains(&format_version) {
            return Err(CheckpointError::Version {
                found: format_version,
                telic_version,
                path,
            });
        }
        serde_json::from_str(&text).map_err(bad)
    }
}

/// Tables as TOML text: JSON would not keep the difference between 1 and 1.0, nor every bit of a number.
mod toml_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use toml::Table;

    pub(super) fn serialize<S: Serializer>(
        table: &Table,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&table.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Table, D::Error> {
        let text = String::deserialize(deserializer)?;
        toml::from_str(&text).map_err(|error| D::Error::custom(error.message()))
    }
}
