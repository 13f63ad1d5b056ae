//! `telic._telic`: the Rust part of the Python package.
//!
//! What belongs here: turning arrays and options of Python into calls of the other crates, and their results and errors
//! into what Python users expect. Nothing is computed here. The classes that users see in place of these,
//! and the Gymnasium interface, are Python code in `package/telic`.
//!
//! - [`env`](mod@env): one environment; [`vector`]: many; [`specs`]: what environments there are
//! - [`demonstrator`]: scripted experts; [`dataset`]: play data
//! - [`train`]: training runs; [`policy`]: what comes out of them; [`rollouts`]: it acts, is measured and recorded
//! - [`arrays`]: views on Rust memory; [`numbers`] and [`nested`]: whole numbers, settings and documents; [`error`]: exceptions

// Python hands over its arguments by value, and `pyo3` asks for them so.
#![allow(clippy::needless_pass_by_value)]

mod arrays;
mod dataset;
mod demonstrator;
mod env;
mod error;
mod nested;
mod numbers;
mod policy;
mod rollouts;
mod signals;
mod specs;
mod train;
mod vector;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Rust part of the package `telic`.
#[pyo3::pymodule]
mod _telic {
    #[pymodule_export]
    use super::dataset::{Dataset, load_dataset, load_pickled};
    #[pymodule_export]
    use super::demonstrator::{Demonstrator, collection_seed};
    #[pymodule_export]
    use super::env::{Env, episode_seed, rollout_checksum};
    #[pymodule_export]
    use super::policy::{Policy, load_policy};
    #[pymodule_export]
    use super::rollouts::{evaluate, record};
    #[pymodule_export]
    use super::specs::{env_specs, rewards};
    #[pymodule_export]
    use super::train::{policies, train};
    #[pymodule_export]
    use super::vector::VecEnv;

    // The macro asks for a result.
    #[allow(clippy::unnecessary_wraps)]
    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        ::telic::allocator::keep_freed_memory();
        // This process is the one whose copies are to know that they are copies.
        telic_policies::device::with_present_threads(|| ());
        Ok(())
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
