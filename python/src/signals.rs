//! Long calls that Python's signals, and exceptions of its callbacks, stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often a call looks whether Python wants it to stop.
const INTERVAL: Duration = Duration::from_millis(200);

/// What wants a call to stop.
pub(crate) struct Signals {
    exception: Option<PyErr>,
    last_look: Instant,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            exception: None,
            last_look: Instant::now(),
        }
    }

    /// Sets `stop` if a signal has come. Costs next to nothing between two looks.
    pub(crate) fn look(&mut self, stop: &AtomicBool) {
        if self.last_look.elapsed() >= INTERVAL {
            self.last_look = Instant::now();
            self.stop_at(Python::attach(|py| py.check_signals().err()), stop);
        }
    }

    /// Sets `stop` if there is an exception; the first one is kept.
    pub(crate) fn stop_at(&mut self, exception: Option<PyErr>, stop: &AtomicBool) {
        if let Some(exception) = exception {
            self.exception.get_or_insert(exception);
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Raises what stopped the call.
    pub(crate) fn raise(self) -> PyResult<()> {
        self.exception.map_or(Ok(()), Err)
    }
}
