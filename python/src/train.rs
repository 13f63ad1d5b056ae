//! Training runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::Utf8PathBuf;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use telic::evaluate::Evaluation;
use telic::train::Progress;
use telic_policies::{Metrics, Speed, TrainConfig};

use crate::error::{input, of_flow};
use crate::nested;
use crate::signals::Signals;

/// Trains a policy into the run folder `out`, as `telic train` does.
///
/// `config` is a TOML file or the same as a dictionary; `overrides` are like `"policy.optimizer.lr=1e-4"`. With `resume` the run
/// goes on where it stopped. `on_log(step, metrics)` is called every `log_every` updates, `on_evaluate(step, result)` after each evaluation
/// in the environment (`evaluate_every`), with what `telic.evaluate` returns. An exception in one of them, or Ctrl-C, stops the run with a
/// checkpoint.
///
/// Returns the number of updates and whether all of them are done.
#[pyfunction]
#[pyo3(signature = (config, *, out, overrides=None, resume=false, on_log=None, on_evaluate=None))]
pub(crate) fn train(
    py: Python<'_>,
    config: Bound<'_, PyAny>,
    out: std::path::PathBuf,
    overrides: Option<Vec<String>>,
    resume: bool,
    on_log: Option<Py<PyAny>>,
    on_evaluate: Option<Py<PyAny>>,
) -> PyResult<(u64, bool)> {
    let out = Utf8PathBuf::from_path_buf(out).map_err(|path| {
        input(format!(
            "the path of the run is not UTF-8: {}",
            path.display()
        ))
    })?;
    let config = read_config(&config, &overrides.unwrap_or_default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut watcher = Watcher {
        on_log,
        on_evaluate,
        stop: Arc::clone(&stop),
        signals: Signals::new(),
    };
    let outcome = py.detach(|| telic::train::train(config, &out, resume, &stop, &mut watcher));
    watcher.signals.raise()?;
    let outcome = outcome.map_err(|error| of_flow(&error))?;
    Ok((outcome.step, outcome.finished))
}

/// A path of a TOML file, or a nested dictionary.
fn read_config(config: &Bound<'_, PyAny>, overrides: &[String]) -> PyResult<TrainConfig> {
    let result = if let Ok(config) = config.cast::<PyDict>() {
        TrainConfig::from_table(
            nested::table("config", config)?,
            "the configuration",
            overrides,
        )
    } else {
        let path: std::path::PathBuf = config.extract().map_err(|_| {
            input(format!(
                "`config` is {config}, expected a path or a dictionary"
            ))
        })?;
        let path = crate::dataset::existing_path(path, "configuration")?;
        TrainConfig::load(&path, overrides)
    };
    result.map_err(input)
}

/// Tells Python how the run goes, and stops it when the user interrupts it.
struct Watcher {
    on_log: Option<Py<PyAny>>,
    on_evaluate: Option<Py<PyAny>>,
    stop: Arc<AtomicBool>,
    signals: Signals,
}

impl Progress for Watcher {
    fn step(&mut self, _: u64) {
        self.signals.look(&self.stop);
    }

    fn log(&mut self, step: u64, metrics: &Metrics, speed: Speed) {
        let Some(on_log) = &self.on_log else { return };
        let called = Python::attach(|py| {
            let values = PyDict::new(py);
            for (name, value) in metrics.iter() {
                values.set_item(name, value)?;
            }
            values.set_item("updates_per_sec", speed.updates_per_sec)?;
            on_log.call1(py, (step, values))
        });
        self.signals.stop_at(called.err(), &self.stop);
    }

    fn note(&mut self, text: &str) {
        let warned = Python::attach(|py| {
            py.import("warnings")?.call_method1("warn", (text,))?;
            Ok(())
        });
        self.signals.stop_at(warned.err(), &self.stop);
    }

    fn evaluating(&mut self, _: usize, _: usize) {
        self.signals.look(&self.stop);
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        let Some(on_evaluate) = &self.on_evaluate else {
            return;
        };
        let called = Python::attach(|py| {
            let result = nested::from_json(py, evaluation)?;
            on_evaluate.call1(py, (step, result))
        });
        self.signals.stop_at(called.err(), &self.stop);
    }
}

/// Every policy that can be trained, with its defaults.
#[pyfunction]
pub(crate) fn policies(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    telic_policies::specs()
        .iter()
        .map(|spec| {
            let row = PyDict::new(py);
            row.set_item("id", spec.id)?;
            row.set_item("name", spec.name)?;
            row.set_item("summary", spec.summary)?;
            row.set_item("paper", spec.paper)?;
            row.set_item(
                "default_config",
                nested::dictionary(py, &(spec.default_config)())?,
            )?;
            Ok(row)
        })
        .collect()
}
