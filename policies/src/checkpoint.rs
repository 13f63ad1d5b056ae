//! Checkpoints: a model that acts, and the state from which training goes on to the same bits.
//!
//! ```text
//! checkpoints/step_00001000/
//!   model.safetensors    inference weights
//!   state.safetensors    weights, moments, counters, averages of the trainer
//!   manifest.json        what they are, with the length and CRC-32 of both files
//! ```
//!
//! A checkpoint is written to a temporary folder, synced and renamed, so a folder called `step_…` is
//! complete. The manifest alone describes the policy: a checkpoint can be moved anywhere.

mod error;
mod manifest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use toml::Table;

use crate::config::KeepBest;
use crate::run_folder::{CHECKPOINTS_FOLDER, TEMPORARY_PREFIX, sync_folder};
use crate::{Device, Model, Policy, TensorMap, registry, tensor_file};

pub use error::CheckpointError;
pub(crate) use manifest::hex_crc32;
pub use manifest::{DatasetFingerprint, FORMAT_VERSION, FileFingerprint, Manifest};

/// Of a checkpoint that is about to be replaced.
const ASIDE_PREFIX: &str = ".aside-";

/// Name of the description.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the inference weights.
pub const MODEL_FILE: &str = "model.safetensors";
/// Name of the training state.
pub const STATE_FILE: &str = "state.safetensors";

/// What to save.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Id of the policy.
    pub policy: &'a str,
    /// Its configuration, resolved.
    pub policy_config: &'a Table,
    /// What acts.
    pub model: &'a Model,
    /// From where training goes on.
    pub state: &'a TensorMap,
    /// Updates so far.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// CRC-32 of the run's configuration.
    pub config_hash: &'a str,
    /// What it was trained on.
    pub dataset: &'a DatasetFingerprint,
    /// The newest value of each metric.
    pub metrics: &'a BTreeMap<String, f64>,
    /// Whether the evaluation after this update was interrupted.
    pub unevaluated: bool,
}

/// Writes the checkpoint `step_<eight digits>` into `folder`, replacing one of the same step.
///
/// # Errors
/// [`CheckpointError::Io`]; there is then no folder of that name, or the old one.
pub fn save(folder: &Utf8Path, content: Content<'_>) -> Result<Utf8PathBuf, CheckpointError> {
    let path = folder.join(format!("step_{:08}", content.step));
    let io = |action: &'static str, path: &Utf8Path| {
        let path = path.to_owned();
        move |source| CheckpointError::Io {
            action,
            source,
            path,
        }
    };
    std::fs::create_dir_all(folder).map_err(io("create the folder of the checkpoints", folder))?;
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempdir_in(folder)
        .map_err(io("create a temporary folder", folder))?;
    let inside = Utf8Path::from_path(temporary.path())
        .expect("its name is ASCII in a UTF-8 path")
        .to_owned();

    let mut files = BTreeMap::new();
    for (name, tensors) in [
        (MODEL_FILE, &content.model.weights),
        (STATE_FILE, content.state),
    ] {
        let bytes = tensor_file::to_bytes(tensors);
        files.insert(name.to_owned(), FileFingerprint::of(&bytes));
        write_synced(&inside.join(name), &bytes).map_err(io("write the checkpoint", &path))?;
    }
    let Model {
        data,
        features,
        actions,
        action_bounds,
        settings,
        weights,
    } = content.model;
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        telic_version: env!("CARGO_PKG_VERSION").to_owned(),
        policy: content.policy.to_owned(),
        step: content.step,
        seed: content.seed,
        parameters: weights.num_values(),
        data: data.clone(),
        features: features.clone(),
        actions: actions.clone(),
        action_bounds: action_bounds.clone(),
        policy_config: content.policy_config.clone(),
        settings: settings.clone(),
        config_hash: content.config_hash.to_owned(),
        dataset: content.dataset.clone(),
        metrics: content.metrics.clone(),
        unevaluated: content.unevaluated,
        files,
    };
    write_synced(&inside.join(MANIFEST_FILE), manifest.to_json().as_bytes())
        .map_err(io("write the checkpoint", &path))?;
    sync_folder(&inside).map_err(io("write the checkpoint", &path))?;
    // An old one steps aside until the new one is there; `clean` takes it back if the process dies in between.
    let aside = folder.join(format!("{ASIDE_PREFIX}step_{:08}", content.step));
    let replaces = path.exists();
    if replaces {
        std::fs::rename(&path, &aside).map_err(io("replace the checkpoint", &path))?;
    }
    if let Err(error) = std::fs::rename(&inside, &path) {
        if replaces {
            // The first error is the one to tell.
            let _ = std::fs::rename(&aside, &path);
        }
        return Err(io("write the checkpoint", &path)(error));
    }
    if replaces {
        std::fs::remove_dir_all(&aside).map_err(io("replace the checkpoint", &path))?;
    }
    make_public(&path).map_err(io("write the checkpoint", &path))?;
    // It is not there any more.
    let _ = temporary.keep();
    sync_folder(folder).map_err(io("write the checkpoint", &path))?;
    Ok(path)
}

fn write_synced(path: &Utf8Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Temporary folders are private; results are not.
fn make_public(path: &Utf8Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let _ = path;
    Ok(())
}

/// A checkpoint on disk whose manifest has been read.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: Utf8PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

impl Checkpoint {
    /// Opens a checkpoint folder, or the newest checkpoint of a run folder.
    ///
    /// # Errors
    /// [`CheckpointError::NotFound`], [`CheckpointError::Manifest`], [`CheckpointError::Version`].
    pub fn open(path: &Utf8Path) -> Result<Self, CheckpointError> {
        let path = find(path)?;
        let manifest = Manifest::read(&path)?;
        Ok(Self { path, manifest })
    }

    /// Reads the model.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`], [`CheckpointError::Io`], [`CheckpointError::Tensors`].
    pub fn model(&self) -> Result<Model, CheckpointError> {
        let Manifest {
            data,
            features,
            actions,
            action_bounds,
            settings,
            ..
        } = &self.manifest;
        Ok(Model {
            data: data.clone(),
            features: features.clone(),
            actions: actions.clone(),
            action_bounds: action_bounds.clone(),
            settings: settings.clone(),
            weights: self.tensors(MODEL_FILE)?,
        })
    }

    /// Reads the training state.
    ///
    /// # Errors
    /// As [`model`](Self::model).
    pub fn state(&self) -> Result<TensorMap, CheckpointError> {
        self.tensors(STATE_FILE)
    }

    /// Loads the policy onto a device, with the inference settings it was saved with.
    ///
    /// # Errors
    /// As [`model`](Self::model); [`CheckpointError::UnknownPolicy`], [`CheckpointError::Model`].
    pub fn policy(&self, device: Device) -> Result<Box<dyn Policy>, CheckpointError> {
        let spec = registry::spec(&self.manifest.policy).map_err(|unknown| {
            CheckpointError::UnknownPolicy {
                unknown,
                path: self.path.join(MANIFEST_FILE),
            }
        })?;
        let model = self.model()?;
        (spec.load)(&self.manifest.policy_config, &model, device).map_err(|source| {
            CheckpointError::Model {
                source,
                path: self.path.join(MODEL_FILE),
            }
        })
    }

    fn tensors(&self, name: &str) -> Result<TensorMap, CheckpointError> {
        let path = self.path.join(name);
        let expected = self
            .manifest
            .files
            .get(name)
            .ok_or_else(|| CheckpointError::Manifest {
                reason: format!("`files` has no `{name}`"),
                path: self.path.join(MANIFEST_FILE),
            })?;
        let bytes = std::fs::read(&path).map_err(|source| CheckpointError::Io {
            action: "read the checkpoint",
            source,
            path: path.clone(),
        })?;
        let found = FileFingerprint::of(&bytes);
        if found != *expected {
            return Err(CheckpointError::Damaged {
                found: found.bytes,
                found_crc32: found.crc32,
                expected: expected.bytes,
                expected_crc32: expected.crc32.clone(),
                path,
            });
        }
        tensor_file::from_bytes(&bytes).map_err(|source| CheckpointError::Tensors { source, path })
    }
}

/// Loads the policy of a checkpoint folder, or of the newest checkpoint of a run folder.
///
/// # Errors
/// [`CheckpointError`].
pub fn load_policy(path: &Utf8Path, device: Device) -> Result<Box<dyn Policy>, CheckpointError> {
    Checkpoint::open(path)?.policy(device)
}

/// What a checkpoint holds, without loading weights into a policy; both files are read and checked.
///
/// # Errors
/// [`CheckpointError`].
pub fn inspect_checkpoint(path: &Utf8Path) -> Result<CheckpointSummary, CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    let state = checkpoint.state()?;
    let model = checkpoint.model()?;
    let tensors = model
        .weights
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.describe()))
        .collect();
    Ok(CheckpointSummary {
        checkpoint,
        tensors,
        state_values: state.num_values(),
    })
}

/// A checkpoint for people.
#[derive(Clone, Debug)]
pub struct CheckpointSummary {
    /// Where it is and what it is.
    pub checkpoint: Checkpoint,
    /// Name, and element type with shape, of each inference tensor.
    pub tensors: Vec<(String, String)>,
    /// Numbers in the training state.
    pub state_values: usize,
}

fn find(path: &Utf8Path) -> Result<Utf8PathBuf, CheckpointError> {
    if !path.exists() {
        return Err(CheckpointError::Missing {
            path: path.to_owned(),
        });
    }
    if path.join(MANIFEST_FILE).is_file() {
        return Ok(path.to_owned());
    }
    for folder in [path.join(CHECKPOINTS_FOLDER), path.to_owned()] {
        if let Some((_, newest)) = list(&folder)?.pop() {
            return Ok(newest);
        }
    }
    Err(CheckpointError::NotFound {
        path: path.to_owned(),
    })
}

/// Steps and folders of the checkpoints in `folder`, oldest first; empty if there is no such folder.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn list(folder: &Utf8Path) -> Result<Vec<(u64, Utf8PathBuf)>, CheckpointError> {
    let mut found = vec![];
    if folder.is_dir() {
        let io = |source| CheckpointError::Io {
            action: "list the checkpoints",
            source,
            path: folder.to_owned(),
        };
        for entry in folder.read_dir_utf8().map_err(io)? {
            let entry = entry.map_err(io)?;
            let step = entry
                .file_name()
                .strip_prefix("step_")
                .and_then(|step| step.parse().ok());
            if let Some(step) = step.filter(|_| entry.path().is_dir()) {
                found.push((step, entry.into_path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what killed processes have left half-written in `folder`, a run folder or one of checkpoints, and puts back a checkpoint that was
/// about to be replaced.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn clean(folder: &Utf8Path) -> Result<(), CheckpointError> {
    if !folder.is_dir() {
        return Ok(());
    }
    let io = |source| CheckpointError::Io {
        action: "remove unfinished files",
        source,
        path: folder.to_owned(),
    };
    for entry in folder.read_dir_utf8().map_err(io)? {
        let entry = entry.map_err(io)?;
        if let Some(name) = entry.file_name().strip_prefix(ASIDE_PREFIX) {
            let place = folder.join(name);
            if place.exists() {
                std::fs::remove_dir_all(entry.path()).map_err(io)?;
            } else {
                std::fs::rename(entry.path(), &place).map_err(io)?;
            }
        } else if entry.file_name().starts_with(TEMPORARY_PREFIX) {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).map_err(io)?;
            } else {
                std::fs::remove_file(entry.path()).map_err(io)?;
            }
        }
    }
    Ok(())
}

/// Removes all but the newest `keep` checkpoints (0 keeps all) and the best one in `best`.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::Manifest`].
pub fn prune(
    folder: &Utf8Path,
    keep: usize,
    best: Option<&KeepBest>,
) -> Result<(), CheckpointError> {
    let mut old = list(folder)?;
    if keep == 0 || old.len() <= keep {
        return Ok(());
    }
    let best_step = match best {
        Some(best) => best_of(&old, best)?,
        None => None,
    };
    old.truncate(old.len() - keep);
    for (step, path) in old {
        if Some(step) != best_step {
            // First out of sight: half a checkpoint must not look like one.
            let doomed = folder.join(format!("{TEMPORARY_PREFIX}step_{step:08}"));
            std::fs::rename(&path, &doomed)
                .and_then(|()| std::fs::remove_dir_all(&doomed))
                .map_err(|source| CheckpointError::Io {
                    action: "remove an old checkpoint",
                    source,
                    path,
                })?;
        }
    }
    Ok(())
}

/// The step of the best checkpoint, the first one among equals; `None` if none has the metric.
fn best_of(
    checkpoints: &[(u64, Utf8PathBuf)],
    best: &KeepBest,
) -> Result<Option<u64>, CheckpointError> {
    let mut found: Option<(f64, u64)> = None;
    for (step, path) in checkpoints {
        let Some(value) = Manifest::read(path)?.metrics.get(&best.metric).copied() else {
            continue;
        };
        let value = if best.maximize { value } else { -value };
        if found.is_none_or(|(known, _)| value > known) {
            found = Some((value, *step));
        }
    }
    Ok(found.map(|(_, step)| step))
}
