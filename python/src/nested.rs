//! Nested values of Python as TOML tables and JSON documents, and back.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

use crate::error::input;

/// A dictionary as a table of settings; `name` stands for it in errors.
pub(crate) fn table(name: &str, dictionary: &Bound<'_, PyDict>) -> PyResult<toml::Table> {
    dictionary
        .iter()
        .map(|(key, value)| {
            let key: String = key
                .extract()
                .map_err(|_| input(format!("`{name}` has the key {key}, expected a string")))?;
            let value = setting(&format!("{name}.{key}"), &value)?;
            Ok((key, value))
        })
        .collect()
}

fn setting(name: &str, object: &Bound<'_, PyAny>) -> PyResult<toml::Value> {
    if let Ok(dictionary) = object.cast::<PyDict>() {
        return table(name, dictionary).map(toml::Value::Table);
    }
    if object.cast::<PyList>().is_ok() || object.cast::<PyTuple>().is_ok() {
        let items = object
            .try_iter()?
            .map(|item| setting(name, &item?))
            .collect::<PyResult<_>>()?;
        return Ok(toml::Value::Array(items));
    }
    if object.cast::<PyString>().is_ok() {
        return Ok(toml::Value::String(object.extract()?));
    }
    // A flag is also a number in Python, so it comes first. Numbers may be NumPy's.
    if object.cast::<PyBool>().is_ok() {
        return Ok(toml::Value::Boolean(object.extract()?));
    }
    if let Ok(integer) = object.extract() {
        return Ok(toml::Value::Integer(integer));
    }
    if let Ok(float) = object.extract() {
        return Ok(toml::Value::Float(float));
    }
    if let Ok(path) = object.extract::<std::path::PathBuf>()
        && let Some(text) = path.to_str()
    {
        return Ok(toml::Value::String(text.to_owned()));
    }
    Err(input(format!(
        "`{name}` is {}, expected a string, path, number, flag, list or dictionary",
        object.repr()?
    )))
}

/// A table of settings as a dictionary.
pub(crate) fn dictionary<'py>(
    py: Python<'py>,
    table: &toml::Table,
) -> PyResult<Bound<'py, PyDict>> {
    let dictionary = PyDict::new(py);
    for (key, value) in table {
        dictionary.set_item(key, object(py, value)?)?;
    }
    Ok(dictionary)
}

fn object<'py>(py: Python<'py>, value: &toml::Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        toml::Value::String(text) => PyString::new(py, text).into_any(),
        toml::Value::Integer(integer) => integer.into_pyobject(py)?.into_any(),
        toml::Value::Float(float) => float.into_pyobject(py)?.into_any(),
        toml::Value::Boolean(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        toml::Value::Datetime(datetime) => PyString::new(py, &datetime.to_string()).into_any(),
        toml::Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object(py, item)?)?;
            }
            list.into_any()
        }
        toml::Value::Table(table) => dictionary(py, table)?.into_any(),
    })
}

/// Anything that Python's `json` can write, with numbers that may be NumPy's; `name` stands for it in errors.
pub(crate) fn json(name: &str, object: &Bound<'_, PyAny>) -> PyResult<serde_json::Value> {
    let py = object.py();
    let options = PyDict::new(py);
    let as_python = py
        .import("operator")?
        .call_method1("methodcaller", ("tolist",))?;
    options.set_item("default", as_python)?;
    let text: String = py
        .import("json")?
        .call_method("dumps", (object,), Some(&options))
        .map_err(|error| input(format!("`{name}`: {}", error.value(py))))?
        .extract()?;
    serde_json::from_str(&text).map_err(|error| input(format!("`{name}`: {error}")))
}

/// A document as Python's `json` reads it.
pub(crate) fn from_json<'py>(
    py: Python<'py>,
    document: &impl serde::Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(document).map_err(crate::error::failure)?;
    py.import("json")?.call_method1("loads", (text,))
}
