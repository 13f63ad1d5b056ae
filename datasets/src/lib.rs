//! Offline play data: episodes in memory and on disk, hindsight goals, windows, normalisers.
//!
//! What belongs here is everything between recorded episodes and a training batch. The crate knows
//! no environment and no network.
//!
//! - [`Dataset`]: the columns of many episodes, one below the other, with an [`EpisodeIndex`] and [`Metadata`].
//! - [`Dataset::load`], [`Dataset::save`]: NumPy `.npz` archives in the layouts of OGBench.
//! - [`DatasetWriter`]: streams episodes to disk; what was complete survives a kill.
//! - [`HindsightSampler`]: transitions with goals from the future, from anywhere, from here, or across episodes ([`Clusters`]).
//! - [`WindowSampler`]: windows of observations and actions with a segment of their future as the goal.
//! - [`Normalizer`], [`ClipBounds`], [`FeatureView`]: what a network sees in place of raw numbers.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ndarray::Array2;
//! use telic_datasets::{Dataset, Episode, HindsightConfig, HindsightSampler, Metadata, TransitionBatch};
//! use telic_seed::Seed;
//!
//! // One episode of 4 transitions: 5 observations, and the action taken at each of them.
//! let episode = Episode {
//!     observations: Array2::from_shape_fn((5, 2), |(t, i)| (t + i) as f32),
//!     actions: Array2::zeros((5, 1)),
//!     ..Episode::default()
//! };
//! let dataset = Arc::new(Dataset::from_episodes(&[episode], Metadata::default())?);
//! let sampler = HindsightSampler::new(dataset, HindsightConfig::default())?;
//! let mut batch = TransitionBatch::with_size(256);
//! sampler.sample(&mut Seed::new(0).child("batches").rng(), &mut batch);
//! assert_eq!(batch.observations.len(), 256 * 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod clusters;
mod dataset;
mod episodes;
mod error;
mod features;
mod gather;
mod geometric;
mod hindsight;
mod journal;
mod layout;
mod load;
mod metadata;
mod normalise;
mod npy;
mod row_table;
mod save;
mod statistics;
mod subgoals;
mod summary;
mod task;
#[cfg(test)]
mod testing;
mod windows;
mod writer;

pub use clusters::{Clusters, Stitched};
pub use dataset::{Columns, Dataset};
pub use episodes::{Episode, EpisodeIndex};
pub use error::{DatasetError, InvalidData, SamplerError};
pub use features::FeatureView;
pub use hindsight::{GoalMix, HindsightConfig, HindsightSampler, TransitionBatch};
pub use layout::{CompactView, Layout, RegularView};
pub use metadata::Metadata;
pub use normalise::{ClipBounds, Normalizer, NormalizerKind};
pub use statistics::ColumnStatistics;
pub use subgoals::{SubgoalBatch, Subgoals};
pub use summary::{Lengths, Summary};
pub use task::{SubGoal, TaskLabels};
pub use windows::{GoalRange, WindowBatch, WindowConfig, WindowSampler};
pub use writer::DatasetWriter;
