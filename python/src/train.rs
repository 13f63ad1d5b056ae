//! Training runs.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use telic_policies::{Metrics, Speed, TrainConfig, TrainObserver, Trainer};

use crate::error::{input, of_train};
use crate::nested;

/// How often a run looks whether Python wants it to stop.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(200);

/// Trains a policy; returns the step and whether all steps are done.
#[pyfunction]
#[pyo3(signature = (config, *, out, overrides=None, resume=false, on_log=None))]
pub(crate) fn train(
    py: Python<'_>,
    config: Bound<'_, PyAny>,
    out: std::path::PathBuf,
    overrides: Option<Vec<String>>,
    resume: bool,
    on_log: Option<Py<PyAny>>,
) -> PyResult<(u64, bool)> {
    let out = Utf8PathBuf::from_path_buf(out).map_err(|path| {
        input(format!(
            "the path of the run is not UTF-8: {}",
            path.display()
        ))
    })?;
    let config = read_config(&config, &overrides.unwrap_or_default())?;
    let mut observer = Observer {
        on_log,
        interrupt: None,
        last_look: Instant::now(),
    };
    let outcome = py.detach(|| {
        let mut trainer = if resume {
            Trainer::resume(config, &out)
        } else {
            Trainer::create(config, &out)
        }?;
        trainer.run(&mut observer, &AtomicBool::new(false))
    });
    if let Some(interrupt) = observer.interrupt {
        return Err(interrupt);
    }
    let outcome = outcome.map_err(|error| of_train(&error))?;
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

/// Tells Python how the run goes, and hears when the user interrupts it.
struct Observer {
    on_log: Option<Py<PyAny>>,
    interrupt: Option<PyErr>,
    last_look: Instant,
}

impl TrainObserver for Observer {
    fn on_log(&mut self, step: u64, metrics: &Metrics, speed: Speed) {
        let Some(on_log) = &self.on_log else { return };
        let called = Python::attach(|py| {
            let values = PyDict::new(py);
            for (name, value) in metrics.iter() {
                values.set_item(name, value)?;
            }
            values.set_item("updates_per_sec", speed.updates_per_sec)?;
            on_log.call1(py, (step, values)).map(|_| ())
        });
        if let Err(error) = called {
            self.interrupt = Some(error);
        }
    }

    fn should_stop(&mut self) -> bool {
        if self.interrupt.is_none() && self.last_look.elapsed() >= SIGNAL_INTERVAL {
            self.last_look = Instant::now();
            self.interrupt = Python::attach(|py| py.check_signals().err());
        }
        self.interrupt.is_some()
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
