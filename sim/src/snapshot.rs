//! A world as bytes, to continue later to the same bits.

use serde::{Deserialize, Serialize};

use crate::assembly::Physics;
use crate::error::StateError;
use crate::world::World;

/// Raised when the layout of the bytes changes.
const VERSION: u32 = 1;

/// Bytes before the body: version, checksum of model and settings, checksum of the body.
const HEADER: usize = 12;

#[derive(Serialize)]
struct SnapshotRef<'a> {
    steps: u64,
    ctrl: &'a [f32],
    physics: &'a Physics,
}

#[derive(Deserialize)]
struct Snapshot {
    steps: u64,
    ctrl: Vec<f32>,
    physics: Physics,
}

impl World {
    /// The whole physics state, controls and time included.
    pub fn snapshot(&self) -> Vec<u8> {
        let snapshot = SnapshotRef {
            steps: self.steps,
            ctrl: &self.ctrl,
            physics: &self.physics,
        };
        let mut bytes = vec![0; HEADER];
        bincode::serialize_into(&mut bytes, &snapshot).expect("a vector takes any number of bytes");
        let body = crc32fast::hash(&bytes[HEADER..]);
        for (slot, value) in bytes
            .chunks_exact_mut(4)
            .zip([VERSION, self.layout.fingerprint, body])
        {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Restores a snapshot of a world of the same model and settings; it continues as the original would have, to the bit.
    ///
    /// # Errors
    /// [`StateError::Snapshot`] if the bytes are damaged or belong to another model, other settings or another version; the
    /// world is then unchanged.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let fail = |message: String| Err(StateError::Snapshot(message));
        let Some((header, body)) = bytes.split_at_checked(HEADER) else {
            return fail(format!(
                "it has {} bytes, expected at least {HEADER}",
                bytes.len()
            ));
        };
        let word = |index: usize| {
            let b = &header[4 * index..4 * index + 4];
            u32::from_le_bytes([b[0], b[1], b[2], b[3]])
        };
        if word(0) != VERSION {
            return fail(format!("its version is {}, expected {VERSION}", word(0)));
        }
        if word(1) != self.layout.fingerprint {
            return fail(format!(
                "it is of another model or of other physics settings than this world of {}",
                self.layout.model.name
            ));
        }
        if word(2) != crc32fast::hash(body) {
            return fail("its checksum is wrong; it is cut off or damaged".to_owned());
        }
        let snapshot: Snapshot =
            bincode::deserialize(body).map_err(|e| StateError::Snapshot(e.to_string()))?;
        self.physics = snapshot.physics;
        self.ctrl = snapshot.ctrl;
        self.steps = snapshot.steps;
        Ok(())
    }
}
