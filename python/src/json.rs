//! Nested settings: dictionaries of Python as JSON, and back.

use pyo3::prelude::*;
use serde_json::Value;

use crate::error::input;

/// A dictionary, list, string, number or flag of Python.
pub(crate) fn from_python(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let json = object.py().import("json")?;
    let text: String = json
        .call_method1("dumps", (object,))
        .map_err(|error| input(format!("`{name}`: {}", error.value(object.py()))))?
        .extract()?;
    serde_json::from_str(&text).map_err(|error| input(format!("`{name}`: {error}")))
}

/// The same in Python.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).expect("settings and metadata are maps with text keys");
    py.import("json")?.call_method1("loads", (text,))
}
