//! Whole numbers from Python, with the error that the package promises.

use pyo3::prelude::*;

use crate::error::input;

/// A seed, in 0..=2**64 − 1.
pub(crate) fn seed(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract().map_err(|_| {
        input(format!(
            "`seed` is {value}, expected a whole number in 0..=2**64 - 1"
        ))
    })
}

/// A seed, or none.
pub(crate) fn optional_seed(value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    (!value.is_none()).then(|| seed(value)).transpose()
}

fn count(name: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    value.extract().map_err(|_| {
        input(format!(
            "`{name}` is {value}, expected a whole number of at least 0"
        ))
    })
}

pub(crate) fn episodes(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("episodes", value)
}

pub(crate) fn steps(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("steps", value)
}

pub(crate) fn batch_size(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("batch_size", value)
}

pub(crate) fn n_step(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("n_step", value)
}

pub(crate) fn clusters(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("clusters", value)
}

/// A number of threads, or none.
pub(crate) fn threads(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    (!value.is_none())
        .then(|| count("threads", value))
        .transpose()
}
