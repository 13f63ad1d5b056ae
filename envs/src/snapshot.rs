//! Bytes of a snapshot: which environment it is of, then its state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{EnvError, EnvSpec};

/// Packs the state of an environment.
pub(crate) fn encode<T: Serialize>(spec: &EnvSpec, state: &T) -> Vec<u8> {
    bincode::serialize(&(spec.id, spec.version, state)).expect("plain numbers always encode")
}

/// Unpacks what [`encode`] packed for the same environment.
pub(crate) fn decode<T: DeserializeOwned>(spec: &EnvSpec, bytes: &[u8]) -> Result<T, EnvError> {
    let bad = |reason: String| EnvError::BadSnapshot {
        id: spec.id,
        reason,
    };
    // The head is read alone first: the rest of a snapshot of something else has another layout.
    let (id, version): (String, u32) =
        bincode::deserialize(bytes).map_err(|error| bad(format!("it has no head ({error})")))?;
    if (id.as_str(), version) != (spec.id, spec.version) {
        return Err(bad(format!(
            "it is of `{}` version {version}, expected version {}",
            id.escape_debug(),
            spec.version
        )));
    }
    let (_, _, state): (String, u32, T) =
        bincode::deserialize(bytes).map_err(|error| bad(format!("it is damaged ({error})")))?;
    Ok(state)
}
