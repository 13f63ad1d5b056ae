//! Named tensors: the form in which models and training states are saved and compared.

use std::collections::BTreeMap;

use crate::PolicyError;

/// A dense row-major tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    shape: Vec<usize>,
    data: TensorValues,
}

/// The entries of a [`NamedTensor`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TensorValues {
    /// Weights, moments.
    F32(Vec<f32>),
    /// Signed counters and indices.
    I64(Vec<i64>),
    /// Counters, seeds, and the bits of `f64`.
    U64(Vec<u64>),
}

impl TensorValues {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::U64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of the element type: `f32`, `i64` or `u64`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::I64(_) => "i64",
            Self::U64(_) => "u64",
        }
    }
}

impl NamedTensor {
    /// A tensor of this shape.
    ///
    /// # Panics
    /// If the shape does not have as many entries as `data`.
    pub fn new(shape: Vec<usize>, data: TensorValues) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "{shape:?} is not the shape of the values"
        );
        Self { shape, data }
    }

    /// Lengths of the axes; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The entries, row-major.
    pub fn values(&self) -> &TensorValues {
        &self.data
    }

    /// Element type and shape for messages, for example `f32 [4, 2]`.
    pub fn describe(&self) -> String {
        describe(self.data.type_name(), &self.shape)
    }
}

fn describe(type_name: &str, shape: &[usize]) -> String {
    format!("{type_name} {shape:?}")
}

/// Tensors by name, in the order of their names. Names are paths with dots: `actor.layers.0.weight`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorMap(BTreeMap<String, NamedTensor>);

impl TensorMap {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: NamedTensor) {
        self.0.insert(name.into(), tensor);
    }

    /// Adds floats of this shape.
    pub fn insert_f32(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        self.insert(
            name,
            NamedTensor::new(shape.to_vec(), TensorValues::F32(values)),
        );
    }

    /// Adds a counter.
    pub fn insert_u64(&mut self, name: impl Into<String>, value: u64) {
        self.insert(
            name,
            NamedTensor::new(vec![], TensorValues::U64(vec![value])),
        );
    }

    /// Adds a double by its bits.
    pub fn insert_f64(&mut self, name: impl Into<String>, value: f64) {
        self.insert_u64(name, value.to_bits());
    }

    /// Adds every tensor of `other` under `prefix.`.
    pub fn insert_map(&mut self, prefix: &str, other: Self) {
        for (name, tensor) in other.0 {
            self.0.insert(format!("{prefix}.{name}"), tensor);
        }
    }

    /// The tensors whose names start with `prefix.`, without that prefix.
    #[must_use]
    pub fn sub_map(&self, prefix: &str) -> Self {
        let prefix = format!("{prefix}.");
        self.0
            .range(prefix.clone()..)
            .map_while(|(name, tensor)| {
                Some((name.strip_prefix(&prefix)?.to_owned(), tensor.clone()))
            })
            .collect()
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`].
    pub fn get(&self, name: &str) -> Result<&NamedTensor, PolicyError> {
        self.0.get(name).ok_or_else(|| PolicyError::MissingTensor {
            name: name.to_owned(),
        })
    }

    /// The floats of a tensor that must have this shape.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn get_f32(&self, name: &str, shape: &[usize]) -> Result<&[f32], PolicyError> {
        let tensor = self.get(name)?;
        match &tensor.data {
            TensorValues::F32(values) if tensor.shape == shape => Ok(values),
            _ => Err(PolicyError::TensorShape {
                name: name.to_owned(),
                found: tensor.describe(),
                expected: describe("f32", shape),
            }),
        }
    }

    /// The floats of a table with any number of rows of this width.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn get_f32_rows(&self, name: &str, width: usize) -> Result<&[f32], PolicyError> {
        let rows = self.get(name)?.shape.first().copied().unwrap_or(0);
        self.get_f32(name, &[rows, width])
    }

    /// A counter.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn get_u64(&self, name: &str) -> Result<u64, PolicyError> {
        let tensor = self.get(name)?;
        match &tensor.data {
            TensorValues::U64(values) if tensor.shape.is_empty() => Ok(values[0]),
            _ => Err(PolicyError::TensorShape {
                name: name.to_owned(),
                found: tensor.describe(),
                expected: describe("u64", &[]),
            }),
        }
    }

    /// A double that [`insert_f64`](Self::insert_f64) saved.
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn get_f64(&self, name: &str) -> Result<f64, PolicyError> {
        self.get_u64(name).map(f64::from_bits)
    }

    /// Whether there is a tensor with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names and tensors in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &NamedTensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Entries of all tensors together.
    pub fn num_values(&self) -> usize {
        self.0.values().map(|tensor| tensor.data.len()).sum()
    }

    /// The first tensor whose bits differ, in the order of the names; `None` if there is none.
    /// Unlike `==`, NaN equals itself and zero is not minus zero.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let same_bits = |a: &NamedTensor, b: &NamedTensor| {
            a.shape == b.shape
                && match (&a.data, &b.data) {
                    (TensorValues::F32(a), TensorValues::F32(b)) => {
                        a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
                    }
                    (a, b) => a == b,
                }
        };
        let names = self.0.keys().chain(other.0.keys());
        names
            .filter(|name| match (self.0.get(*name), other.0.get(*name)) {
                (Some(a), Some(b)) => !same_bits(a, b),
                _ => true,
            })
            .min()
            .cloned()
    }
}

impl FromIterator<(String, NamedTensor)> for TensorMap {
    fn from_iter<I: IntoIterator<Item = (String, NamedTensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        let mut map = TensorMap::new();
        map.insert_f32("actor.weight", &[2, 1], vec![1.0, f32::NAN]);
        map.insert_f32("actor_target.weight", &[1], vec![0.0]);
        map.insert_f64("actor.rate", 0.1);
        map
    }

    #[test]
    fn a_sub_map_is_what_was_inserted_under_the_prefix() {
        let actor = map().sub_map("actor");
        let names: Vec<_> = actor.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["rate", "weight"]);
        let mut again = TensorMap::new();
        again.insert_map("actor", actor);
        assert_eq!(again.len(), 2);
        assert!(again.contains("actor.rate"));
    }

    #[test]
    fn errors_name_the_tensor_and_both_shapes() {
        let map = map();
        assert_eq!(
            map.get_f32("critic.weight", &[1]).unwrap_err().to_string(),
            "tensor `critic.weight` is missing"
        );
        assert_eq!(
            map.get_f32("actor.weight", &[2]).unwrap_err().to_string(),
            "tensor `actor.weight` is f32 [2, 1] but f32 [2] is expected"
        );
        assert_eq!(
            map.get_u64("actor.weight").unwrap_err().to_string(),
            "tensor `actor.weight` is f32 [2, 1] but u64 [] is expected"
        );
    }

    #[test]
    fn differences_are_of_bits() {
        let map = map();
        assert_eq!(map.first_difference(&map.clone()), None);
        let mut other = map.clone();
        other.insert_f32("actor_target.weight", &[1], vec![-0.0]);
        assert_eq!(
            map.first_difference(&other).as_deref(),
            Some("actor_target.weight")
        );
        other.insert_u64("actor.count", 1);
        assert_eq!(map.first_difference(&other).as_deref(), Some("actor.count"));
    }

    #[test]
    fn doubles_keep_their_bits() {
        assert_eq!(map().get_f64("actor.rate").unwrap(), 0.1);
    }
}
