//! The numbers of an update, which may still be on the device.
//!
//! To read a number waits until the device has computed it, and the device is idle until the next work reaches it. So updates
//! hand out their numbers unread, and those of many updates are read at once.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::Metrics;
use crate::module_state::tensor_values;

/// One number.
#[derive(Clone, Debug)]
pub enum Number<B: Backend> {
    /// Known on the host.
    Known(f64),
    /// On the device, `[1]`.
    OnDevice(Tensor<B, 1>),
}

impl<B: Backend> From<f64> for Number<B> {
    fn from(value: f64) -> Self {
        Self::Known(value)
    }
}

impl<B: Backend> From<Tensor<B, 1>> for Number<B> {
    fn from(value: Tensor<B, 1>) -> Self {
        Self::OnDevice(value)
    }
}

/// Names and numbers of one update, in the order of insertion. Names have a slash, as in [`Metrics`].
#[derive(Clone, Debug)]
pub struct Numbers<B: Backend>(Vec<(&'static str, Number<B>)>);

impl<B: Backend> Numbers<B> {
    /// No numbers.
    pub fn new() -> Self {
        Self(vec![])
    }

    /// Adds a number.
    pub fn insert(&mut self, name: &'static str, number: impl Into<Number<B>>) {
        self.0.push((name, number.into()));
    }

    /// [`insert`](Self::insert) by value, for literals.
    #[must_use]
    pub fn with(mut self, name: &'static str, number: impl Into<Number<B>>) -> Self {
        self.insert(name, number);
        self
    }

    /// Adds all of another update's part.
    pub fn extend(&mut self, numbers: Self) {
        self.0.extend(numbers.0);
    }

    /// The tensor with this name.
    pub fn on_device(&self, name: &str) -> Option<Tensor<B, 1>> {
        self.0
            .iter()
            .find_map(|(known, number)| match (*known == name, number) {
                (true, Number::OnDevice(value)) => Some(value.clone()),
                _ => None,
            })
    }

    /// Waits for the device and reads.
    pub fn read(self) -> Metrics {
        Self::read_all(vec![self])
            .pop()
            .expect("one update has metrics")
    }

    /// Waits for the device once and reads the numbers of many updates.
    pub fn read_all(updates: Vec<Self>) -> Vec<Metrics> {
        let on_device: Vec<Tensor<B, 1>> = updates
            .iter()
            .flat_map(|Self(numbers)| numbers)
            .filter_map(|(_, number)| match number {
                Number::Known(_) => None,
                Number::OnDevice(value) => Some(value.clone()),
            })
            .collect();
        let mut read = if on_device.is_empty() {
            vec![]
        } else {
            tensor_values(Tensor::cat(on_device, 0))
        }
        .into_iter();
        updates
            .into_iter()
            .map(|Self(numbers)| {
                let mut metrics = Metrics::new();
                for (name, number) in numbers {
                    match number {
                        Number::Known(value) => metrics.insert(name, value),
                        Number::OnDevice(_) => {
                            metrics.insert(name, read.next().expect("each number has been read"));
                        }
                    }
                }
                metrics
            })
            .collect()
    }
}

impl<B: AutodiffBackend> Numbers<B> {
    /// The numbers without their graph.
    pub fn inner(self) -> Numbers<B::InnerBackend> {
        let inner = |number| match number {
            Number::Known(value) => Number::Known(value),
            Number::OnDevice(value) => Number::OnDevice(value.inner()),
        };
        let numbers = self.0.into_iter();
        Numbers(
            numbers
                .map(|(name, number)| (name, inner(number)))
                .collect(),
        )
    }
}

impl<B: Backend> Default for Numbers<B> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn each_update_gets_its_own_numbers_back() {
        let number = |value: f32| Tensor::<Flex, 1>::from_floats([value], &Default::default());
        let updates = vec![
            Numbers::new()
                .with("a/x", number(1.5))
                .with("a/lr", 0.1)
                .with("a/y", number(-2.0)),
            Numbers::new(),
            Numbers::new()
                .with("a/lr", 0.2)
                .with("a/x", number(f32::NAN)),
        ];
        let read = Numbers::read_all(updates);
        let first: Vec<_> = read[0].iter().collect();
        assert_eq!(first, [("a/x", 1.5), ("a/lr", 0.1), ("a/y", -2.0)]);
        assert!(read[1].is_empty());
        assert_eq!(read[2].get("a/lr"), Some(0.2));
        assert_eq!(
            read[2].first_non_finite().map(|(name, _)| name),
            Some("a/x")
        );
    }
}
