//! The numbers of a run: of one update, and averaged over many.

use crate::{PolicyError, TensorMap};

/// Names and values in the order of insertion. Names have a slash: `actor/loss`, `critic/q_mean`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// No numbers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a number.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<f64>) {
        let name = name.into();
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// [`insert`](Self::insert) by value, for literals of metrics.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<f64>) -> Self {
        self.insert(name, value);
        self
    }

    /// The number with this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// Names and values in the order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first number that is NaN or infinite.
    pub fn first_non_finite(&self) -> Option<(&str, f64)> {
        self.iter().find(|(_, value)| !value.is_finite())
    }
}

/// Averages of metrics over updates; each number over the updates that had it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeanMetrics(Vec<Mean>);

#[derive(Clone, Debug, PartialEq)]
struct Mean {
    name: String,
    sum: f64,
    count: u64,
}

impl MeanMetrics {
    /// Averages over nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one more update into account.
    pub fn add(&mut self, metrics: &Metrics) {
        for (name, value) in metrics.iter() {
            match self.0.iter_mut().find(|mean| mean.name == name) {
                Some(mean) => {
                    mean.sum += value;
                    mean.count += 1;
                }
                None => self.0.push(Mean {
                    name: name.to_owned(),
                    sum: value,
                    count: 1,
                }),
            }
        }
    }

    /// The averages; starts anew.
    pub fn take(&mut self) -> Metrics {
        let means = std::mem::take(&mut self.0);
        Metrics(
            means
                .into_iter()
                .map(|mean| (mean.name, mean.sum / mean.count as f64))
                .collect(),
        )
    }

    /// Sums and counts by name, so that an average goes on after a resumption.
    pub fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        for (order, mean) in self.0.iter().enumerate() {
            // The number in front keeps the order of insertion.
            let prefix = format!("{order:04}.{}", mean.name);
            state.insert_f64(format!("{prefix}.sum"), mean.sum);
            state.insert_u64(format!("{prefix}.count"), mean.count);
        }
        state
    }

    /// Takes over a saved [`state`](Self::state).
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let mut means = vec![];
        for (key, _) in state.iter() {
            let Some(prefix) = key.strip_suffix(".sum") else {
                continue;
            };
            let name = prefix
                .split_once('.')
                .map_or(prefix, |(_, name)| name)
                .to_owned();
            let sum = state.get_f64(key)?;
            let count = state.get_u64(&format!("{prefix}.count"))?;
            means.push(Mean { name, sum, count });
        }
        self.0 = means;
        Ok(())
    }
}
