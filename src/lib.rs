//! Telic: the flows that join environments, data, policies and recordings.
//!
//! The crates below this one know little of each other: `telic-envs` knows no network, `telic-policies` no
//! environment. What needs both lives here, and the `telic` binary and the Python module are thin layers over it.
//!
//! - [`collect`](mod@collect): a demonstrator fills a dataset
//! - [`train`]: a dataset and a config become a run folder
//! - [`expert`]: a robot learns online to follow directions
//! - [`evaluate`](mod@evaluate): a policy is measured on the tasks of an environment
//! - [`replay`]: a recorded episode is simulated again
//! - [`record`]: an episode becomes a rerun recording
//! - [`sweep`]: seeds × policies × datasets become run folders
//! - [`report`]: run folders become one table
//! - [`interval`]: the intervals behind every rate
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use telic::collect::{CollectConfig, collect};
//!
//! let folder = tempfile::tempdir()?;
//! let out = camino::Utf8PathBuf::from_path_buf(folder.path().join("play.npz")).expect("UTF-8 path");
//! let config = CollectConfig {
//!     env: "point-maze-medium".into(),
//!     demonstrator: Some("stitch".into()),
//!     out: out.clone(),
//!     episodes: 2,
//!     seed: 0,
//!     threads: 2,
//!     noise: 1.0,
//! };
//! let collected = collect(&config, &AtomicBool::new(false), |_, _| {})?;
//! assert_eq!(collected.transitions, 400);
//! let dataset = telic_datasets::Dataset::load(&out)?;
//! let report = telic::replay::verify(&dataset, &[0, 1], &AtomicBool::new(false), |_| {})?;
//! assert!(report.identical);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod allocator;
pub mod collect;
mod error;
pub mod evaluate;
pub mod expert;
mod insight;
pub mod interval;
pub mod record;
pub mod replay;
pub mod report;
pub mod returns;
pub mod sweep;
pub mod train;

pub use error::{FlowError, STOPPED_EXIT_CODE};

/// The code of the tutorial.
#[cfg(doctest)]
#[doc = include_str!("../docs/tutorial.md")]
pub struct Tutorial;
