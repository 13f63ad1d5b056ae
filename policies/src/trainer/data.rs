//! The data of a run.

use std::sync::Arc;

use telic_datasets::Dataset;
use telic_seed::Seed;

use super::TrainError;
use crate::checkpoint::DatasetFingerprint;
use crate::{DataPart, DataSpec, PolicyError, TrainConfig};

/// Recorded actions may be beyond 1 by what rounding does.
const MAX_ACTION: f32 = 1.001;

/// Training and validation data.
pub(super) struct Data {
    pub(super) spec: DataSpec,
    pub(super) train: DataPart,
    pub(super) validation: Option<DataPart>,
    pub(super) fingerprint: DatasetFingerprint,
}

/// What a configuration trains on, and what it validates on if that is another file.
///
/// # Errors
/// [`TrainError::Dataset`].
pub fn load_datasets(
    config: &TrainConfig,
) -> Result<(Arc<Dataset>, Option<Arc<Dataset>>), TrainError> {
    let dataset = Arc::new(Dataset::load(&config.dataset)?);
    let validation = match &config.validation_dataset {
        Some(path) => Some(Arc::new(Dataset::load(path)?)),
        None => None,
    };
    Ok((dataset, validation))
}

impl Data {
    pub(super) fn new(
        config: &TrainConfig,
        dataset: Arc<Dataset>,
        validation: Option<Arc<Dataset>>,
    ) -> Result<Self, TrainError> {
        check_actions(&dataset)?;
        let spec = DataSpec::of(&dataset);
        let path = config.dataset.as_str();
        let fingerprint = fingerprint(&dataset, validation.as_deref(), path);
        let fraction = config.train_fraction;
        let seed = Seed::new(config.seed).child("split");
        let (train, rest) = dataset.split(fraction, seed).map_err(PolicyError::from)?;
        if train.is_empty() {
            return Err(TrainError::NoTrainingEpisodes {
                fraction,
                episodes: dataset.num_episodes(),
            });
        }
        let validation = match validation {
            Some(validation) => {
                check_validation(&dataset, &validation, config)?;
                Some(DataPart::all(validation))
            }
            None if rest.is_empty() => None,
            None => Some(DataPart {
                dataset: dataset.clone(),
                episodes: rest,
            }),
        };
        let validation = validation.filter(|_| config.validate_every > 0);
        let train = DataPart {
            dataset,
            episodes: train,
        };
        Ok(Self {
            spec,
            train,
            validation,
            fingerprint,
        })
    }
}

/// Actions are executed in −1..1 whatever was recorded; a policy that imitates others would stay at the limits.
fn check_actions(dataset: &Dataset) -> Result<(), TrainError> {
    for (entry, column) in dataset.actions().columns().into_iter().enumerate() {
        let farthest = column
            .iter()
            .copied()
            .max_by(|a, b| a.abs().total_cmp(&b.abs()));
        if let Some(value) = farthest.filter(|value| value.abs() > MAX_ACTION) {
            return Err(TrainError::ActionRange { entry, value });
        }
    }
    Ok(())
}

fn check_validation(
    train: &Dataset,
    validation: &Dataset,
    config: &TrainConfig,
) -> Result<(), TrainError> {
    for (field, found, expected) in [
        (
            "observation_dim",
            validation.observation_dim(),
            train.observation_dim(),
        ),
        ("action_dim", validation.action_dim(), train.action_dim()),
    ] {
        if found != expected {
            return Err(TrainError::ValidationData {
                field,
                found: found.to_string(),
                expected: expected.to_string(),
                path: config.validation_dataset.clone().unwrap_or_default(),
            });
        }
    }
    Ok(())
}

fn fingerprint(dataset: &Dataset, validation: Option<&Dataset>, path: &str) -> DatasetFingerprint {
    let mut data = crc32fast::Hasher::new();
    hash_tables(dataset, &mut data);
    let mut rest = crc32fast::Hasher::new();
    for dataset in [Some(dataset), validation].into_iter().flatten() {
        let episodes = dataset.episodes();
        let lengths = (0..episodes.len()).map(|episode| episodes.rows(episode));
        let goal = dataset.metadata().goal_indices.iter().copied();
        for number in lengths.chain([usize::MAX]).chain(goal) {
            rest.update(&(number as u64).to_le_bytes());
        }
    }
    if let Some(validation) = validation {
        hash_tables(validation, &mut rest);
    }
    let text = |hasher: crc32fast::Hasher| format!("{:08x}", hasher.finalize());
    DatasetFingerprint {
        path: path.to_owned(),
        episodes: dataset.num_episodes(),
        transitions: dataset.num_transitions(),
        crc32: text(data),
        rest_crc32: Some(text(rest)),
    }
}

fn hash_tables(dataset: &Dataset, hasher: &mut crc32fast::Hasher) {
    let mut bytes = vec![];
    for table in [dataset.observations(), dataset.actions()] {
        for row in table.rows() {
            bytes.clear();
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&bytes);
        }
    }
}
