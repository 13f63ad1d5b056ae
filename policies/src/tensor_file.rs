//! Named tensors as safetensors files.

use std::borrow::Cow;

use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::{NamedTensor, TensorMap, TensorValues};

/// Why bytes are not a tensor file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// The bytes are truncated or no safetensors at all.
    #[error("not a complete safetensors file: {0}")]
    Damaged(String),
    /// A tensor has an element type that is not read.
    #[error("tensor `{name}` has elements of type {found}; expected F32, I64 or U64")]
    ElementType {
        /// Its name.
        name: String,
        /// Its element type.
        found: String,
    },
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The safetensors file of these tensors; equal tensors give equal bytes.
pub fn to_bytes(tensors: &TensorMap) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        let (dtype, bytes) = match tensor.values() {
            TensorValues::F32(values) => (Dtype::F32, little_endian(values, f32::to_le_bytes)),
            TensorValues::I64(values) => (Dtype::I64, little_endian(values, i64::to_le_bytes)),
            TensorValues::U64(values) => (Dtype::U64, little_endian(values, u64::to_le_bytes)),
        };
        (
            name,
            Stored {
                dtype,
                shape: tensor.shape().to_vec(),
                bytes,
            },
        )
    });
    safetensors::serialize(views, None).expect("shapes and lengths of a NamedTensor agree")
}

/// The tensors of a safetensors file.
///
/// # Errors
/// [`TensorFileError`]; never panics, whatever the bytes.
pub fn from_bytes(bytes: &[u8]) -> Result<TensorMap, TensorFileError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| TensorFileError::Damaged(error.to_string()))?;
    let mut tensors = TensorMap::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => TensorValues::F32(from_little_endian(data, f32::from_le_bytes)),
            Dtype::I64 => TensorValues::I64(from_little_endian(data, i64::from_le_bytes)),
            Dtype::U64 => TensorValues::U64(from_little_endian(data, u64::from_le_bytes)),
            other => {
                let name = name.to_owned();
                return Err(TensorFileError::ElementType {
                    name,
                    found: other.to_string(),
                });
            }
        };
        tensors.insert(name, NamedTensor::new(view.shape().to_vec(), values));
    }
    Ok(tensors)
}

fn little_endian<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

fn from_little_endian<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| value(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> TensorMap {
        let mut tensors = TensorMap::new();
        tensors.insert_f32(
            "actor.weight",
            &[2, 3],
            vec![0.0, -0.0, f32::NAN, 1e-40, f32::MAX, -1.5],
        );
        tensors.insert_f32("empty", &[0, 3], vec![]);
        tensors.insert_u64("step", u64::MAX);
        tensors.insert(
            "rows",
            NamedTensor::new(vec![2], TensorValues::I64(vec![-1, i64::MIN])),
        );
        tensors
    }

    #[test]
    fn tensors_keep_their_bits() {
        let bytes = to_bytes(&sample());
        assert_eq!(
            from_bytes(&bytes).unwrap().first_difference(&sample()),
            None
        );
        assert_eq!(to_bytes(&from_bytes(&bytes).unwrap()), bytes);
    }

    #[test]
    fn other_element_types_are_named() {
        let view = Stored {
            dtype: Dtype::BF16,
            shape: vec![1],
            bytes: vec![0; 2],
        };
        let bytes = safetensors::serialize([("actor.weight", view)], None).unwrap();
        assert_eq!(
            from_bytes(&bytes).unwrap_err().to_string(),
            "tensor `actor.weight` has elements of type BF16; expected F32, I64 or U64"
        );
    }

    proptest! {
        #[test]
        fn truncation_is_an_error(keep in 0usize..1000) {
            let bytes = to_bytes(&sample());
            prop_assume!(keep < bytes.len());
            prop_assert!(from_bytes(&bytes[..keep]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at in 0usize..400, value: u8) {
            let _ = from_bytes(&bytes);
            let mut file = to_bytes(&sample());
            let at = at % file.len();
            file[at] = value;
            let _ = from_bytes(&file);
        }
    }
}
