//! Telic in the rerun viewer: episodes, denoising, training curves.
//!
//! What belongs here: everything that knows rerun. Nothing that trains or simulates needs it.
//!
//! - [`EpisodeRecorder`]: episodes of an environment, with the denoising of a diffusion policy
//! - [`record_training`]: the metrics of a training run
//! - [`WebServer`], [`open_viewer`]: look at a recording
//! - [`inspect_recording`]: what a file holds, without a viewer
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blueprint;
mod camera;
mod denoising;
mod episode;
mod error;
mod inspect;
mod intent;
mod layout;
mod palette;
mod recorder;
mod scene;
mod target;
mod timeline;
mod training;
mod viewer;
mod web;

pub use error::VizError;
pub use inspect::{EntitySummary, RecordingSummary, TimelineSummary, inspect_recording};
pub use recorder::{EpisodeRecorder, Opening};
pub use target::{Recorded, RecordingTarget};
pub use timeline::{DENOISING_STEP, EPISODE, SIM_TIME, STEP, TRAINING_STEP};
pub use training::{Curves, RunCurve, read_metrics, record_curves, record_training};
pub use viewer::{VIEWER_VERSION, installed_viewer, open_viewer};
pub use web::{WebOptions, WebServer};
