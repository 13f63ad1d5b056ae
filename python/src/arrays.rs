//! Arrays that cross the border between the languages.

use std::ops::Deref;

use ndarray::{ArrayView2, ArrayViewD};
use numpy::{AllowTypeChange, Element, PyArray1, PyArray2, PyArrayLikeDyn, PyArrayMethods};
use pyo3::prelude::*;

use crate::error::input;

/// Anything that NumPy makes an array of; numbers of other types are converted.
pub(crate) struct AnyArray<'py>(PyArrayLikeDyn<'py, f32, AllowTypeChange>);

impl<'py> Deref for AnyArray<'py> {
    type Target = PyArrayLikeDyn<'py, f32, AllowTypeChange>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'py> FromPyObject<'_, 'py> for AnyArray<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.extract().map(Self).map_err(|error: PyErr| {
            let reason = error.value(object.py());
            input(format!("expected an array of numbers: {reason}"))
        })
    }
}

/// A NumPy array on memory that `owner` keeps.
///
/// # Safety
/// As long as `owner` lives, the memory stays where it is. Rust code may write to it through `owner`, but only
/// while it holds no reference that came from the array.
#[allow(unsafe_code)]
pub(crate) unsafe fn borrowed_table<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    data: &[T],
    width: usize,
) -> Bound<'py, PyArray2<T>> {
    let view = ArrayView2::from_shape((data.len() / width.max(1), width), data)
        .expect("a table has a whole number of rows");
    // SAFETY: the caller's promise is the one that is asked for.
    unsafe { PyArray2::borrow_from_array(&view, owner.clone()) }
}

/// As [`borrowed_table`], for a column.
///
/// # Safety
/// As [`borrowed_table`].
#[allow(unsafe_code)]
pub(crate) unsafe fn borrowed_column<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    data: &[T],
) -> Bound<'py, PyArray1<T>> {
    // SAFETY: the caller's promise is the one that is asked for.
    unsafe { PyArray1::borrow_from_array(&ndarray::aview1(data), owner.clone()) }
}

/// Takes the right to write from whoever holds the array.
pub(crate) fn read_only<T: Element, D: ndarray::Dimension>(
    array: &Bound<'_, numpy::PyArray<T, D>>,
) {
    array.readwrite().make_nonwriteable();
}

/// The numbers of `array` in row-major order, after a check of its shape. `None` in `expected` is any length.
pub(crate) fn checked(
    name: &str,
    array: ArrayViewD<'_, f32>,
    expected: &[Option<usize>],
) -> PyResult<Vec<f32>> {
    let fits = array.ndim() == expected.len()
        && array
            .shape()
            .iter()
            .zip(expected)
            .all(|(&found, expected)| expected.is_none_or(|length| length == found));
    if !fits {
        let expected: Vec<_> = expected
            .iter()
            .map(|length| length.map_or_else(|| "n".to_owned(), |length| length.to_string()))
            .collect();
        return Err(input(format!(
            "`{name}` has shape {:?}, expected [{}]",
            array.shape(),
            expected.join(", ")
        )));
    }
    Ok(array.iter().copied().collect())
}
