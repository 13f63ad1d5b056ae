//! Models that are parsed once per process and shared by all instances.

use std::sync::{Arc, OnceLock};

use telic_sim::Model;

use crate::EnvError;

/// A model, or why it could not be parsed.
pub(crate) struct SharedModel(OnceLock<Result<Arc<Model>, String>>);

impl SharedModel {
    /// One that is not parsed yet.
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The model; only the first call parses `mjcf`.
    pub(crate) fn get(
        &self,
        id: &'static str,
        mjcf: impl FnOnce() -> String,
    ) -> Result<Arc<Model>, EnvError> {
        self.0
            .get_or_init(|| {
                Model::from_mjcf_str(id, &mjcf())
                    .map(Arc::new)
                    .map_err(|error| error.to_string())
            })
            .clone()
            .map_err(|reason| EnvError::Model { id, reason })
    }
}
