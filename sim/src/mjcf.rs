//! Reading MJCF text.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use rapier3d_mjcf::mjcf_rs;

use crate::error::ModelError;
use crate::meshes::{self, Mesh};
use crate::validate;
use crate::validate::Lines;

/// A parsed file with what its conversion needs beside it.
pub(crate) struct Source {
    /// Path or given name.
    pub(crate) name: String,
    pub(crate) model: mjcf_rs::Model,
    /// Mesh assets by name.
    pub(crate) meshes: BTreeMap<String, Mesh>,
    /// `<option timestep>`, where given.
    pub(crate) timestep_secs: Option<f32>,
    /// Where each named element stands.
    pub(crate) lines: Lines,
    /// Checksum of all texts.
    pub(crate) fingerprint: u32,
    /// What was left out because it has no effect on the physics.
    pub(crate) notes: Vec<String>,
}

/// Parses an MJCF string.
pub(crate) fn read_str(name: &str, xml: &str) -> Result<Source, ModelError> {
    read(name, xml, &PathBuf::from("."))
}

/// Parses an MJCF file.
pub(crate) fn read_file(path: &Utf8Path) -> Result<Source, ModelError> {
    let xml = std::fs::read_to_string(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    let folder = path
        .parent()
        .map_or_else(|| Path::new("."), Utf8Path::as_std_path);
    read(path.as_str(), &xml, folder)
}

fn read(name: &str, xml: &str, folder: &Path) -> Result<Source, ModelError> {
    let texts = validate::collect(name, xml, folder)?;
    let checked = validate::check(&texts, &validate::MJCF)?;
    let engine = |message: String| ModelError::Engine {
        file: name.to_owned(),
        message,
    };
    let model = catch_unwind(AssertUnwindSafe(|| mjcf_rs::Model::from_str(xml, folder)))
        .map_err(|_| engine("the parser panicked".to_owned()))?
        .map_err(|error| engine(error.to_string()))?;
    let meshes = meshes::load(name, &model, folder, &checked.lines)?;
    Ok(Source {
        name: name.to_owned(),
        fingerprint: fingerprint(&texts, &meshes),
        model,
        meshes,
        timestep_secs: checked.timestep_secs,
        lines: checked.lines,
        notes: checked.notes,
    })
}

/// Checksum of all texts and of the corners of all meshes.
pub(crate) fn fingerprint(texts: &[validate::Text], meshes: &BTreeMap<String, Mesh>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for text in texts {
        hasher.update(text.xml.as_bytes());
    }
    for coordinate in meshes.values().flat_map(|mesh| &mesh.vertices).flatten() {
        hasher.update(&coordinate.to_le_bytes());
    }
    hasher.finalize()
}
