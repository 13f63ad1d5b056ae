//! Bytes of a snapshot: a checksum of all that follows, which environment it is of, then its state.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use telic_seed::Seed;
use telic_sim::World;

use crate::env::checked_goal;
use crate::{EnvError, EnvSpec};

/// Length of the checksum, a little-endian CRC-32.
const CHECKSUM: usize = 4;

/// What besides the physics and the goal decides the future of an environment that has nothing else.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Episode {
    /// The seed of the reset; `None` before the first.
    pub(crate) seed: Option<Seed>,
    pub(crate) task: Option<usize>,
    pub(crate) elapsed: usize,
}

impl Episode {
    /// The first step of an episode.
    pub(crate) fn start(seed: Seed, task: Option<usize>) -> Self {
        Self {
            seed: Some(seed),
            task,
            elapsed: 0,
        }
    }

    /// The seed, which there is after a reset.
    pub(crate) fn seed(&self, spec: &'static EnvSpec) -> Result<Seed, EnvError> {
        self.seed.ok_or(EnvError::NotReset { id: spec.id })
    }

    /// Packs it with goal observation and world.
    pub(crate) fn pack(&self, spec: &EnvSpec, goal: &[f32], world: &World) -> Vec<u8> {
        encode(spec, &(self, goal, world.snapshot()))
    }

    /// Unpacks episode and goal observation, and puts the world back; nothing has changed after an error.
    pub(crate) fn unpack(
        spec: &'static EnvSpec,
        bytes: &[u8],
        world: &mut World,
    ) -> Result<(Self, Vec<f32>), EnvError> {
        let bad = |reason: String| EnvError::BadSnapshot {
            id: spec.id,
            reason,
        };
        let (episode, goal, physics): (Self, Vec<f32>, Vec<u8>) = decode(spec, bytes)?;
        let tasks = spec.tasks.len();
        if episode.task.is_some_and(|task| task >= tasks) {
            return Err(bad(format!("task {:?} of {tasks}", episode.task)));
        }
        if checked_goal(spec, &goal).is_err() {
            return Err(bad(format!("its goal is {goal:?}")));
        }
        world
            .restore(&physics)
            .map_err(|error| bad(error.to_string()))?;
        Ok((episode, goal))
    }
}

/// Packs the state of an environment.
pub(crate) fn encode<T: Serialize>(spec: &EnvSpec, state: &T) -> Vec<u8> {
    let mut bytes = vec![0; CHECKSUM];
    bincode::serialize_into(&mut bytes, &(spec.id, spec.version, state))
        .expect("plain numbers always encode");
    let checksum = crc32fast::hash(&bytes[CHECKSUM..]);
    bytes[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Unpacks what [`encode`] packed for the same environment.
pub(crate) fn decode<T: DeserializeOwned>(spec: &EnvSpec, bytes: &[u8]) -> Result<T, EnvError> {
    let bad = |reason: String| EnvError::BadSnapshot {
        id: spec.id,
        reason,
    };
    let Some((checksum, body)) = bytes.split_first_chunk::<CHECKSUM>() else {
        return Err(bad(format!(
            "it has {} bytes, expected at least {CHECKSUM}",
            bytes.len()
        )));
    };
    // Most changed numbers would be as good a state as the ones that were saved.
    if u32::from_le_bytes(*checksum) != crc32fast::hash(body) {
        return Err(bad(
            "its checksum is wrong; it is cut off, damaged, or no snapshot of this version"
                .to_owned(),
        ));
    }
    // The head is read alone first: the rest of a snapshot of something else has another layout.
    let (id, version): (String, u32) =
        bincode::deserialize(body).map_err(|error| bad(format!("it has no head ({error})")))?;
    if (id.as_str(), version) != (spec.id, spec.version) {
        return Err(bad(format!(
            "it is of `{}` version {version}, expected version {}",
            id.escape_debug(),
            spec.version
        )));
    }
    let (_, _, state): (String, u32, T) =
        bincode::deserialize(body).map_err(|error| bad(format!("it is damaged ({error})")))?;
    Ok(state)
}
