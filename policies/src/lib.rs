//! Goal-conditioned policies on burn: networks, agents, and what trains, saves and loads them.
//!
//! What belongs here: everything that turns a [`telic_datasets::Dataset`] into a [`Policy`]. Nothing
//! here knows an environment, prints, or asks which policy it is talking to: one algorithm is one
//! file that implements [`Algorithm`], plus one line in [`registry`].
//!
//! Contracts and what an algorithm file needs:
//! - [`agent`]: [`Policy`] (acting), [`Agent`] (learning), [`Algorithm`] (both, for any backend)
//! - [`tensor_map`]: named tensors, the form in which every state is saved
//! - [`batches`]: the samplers of the datasets as samplers of an agent
//! - [`module_state`]: burn modules to named tensors and back
//! - [`problems`]: all mistakes of a configuration in one report
//! - [`inputs`]: what networks see of the data; [`gaussian`]: the actor of the baselines; [`losses`]: losses of more than one
//! - [`joint`]: agents that step down the sum of their losses; [`trained`]: a network with its optimiser; [`numbers`]: what an update reports
//! - [`nn`], [`ema`]: layers, optimisers and averages that algorithms share
//!
//! The algorithms: [`beso`], [`gcbc`], [`gcivl`], [`gciql`], [`qrl`], [`crl`], [`hiql`], [`hilp`] and [`hilp::zero_shot`], [`smore`].
//!
//! Experts learn from a reward in place of data: [`online`] steps their tasks, [`replay`] keeps what was seen, [`sac`] learns,
//! [`novelty`] pays for what has not been seen.
//!
//! What runs an algorithm:
//! - [`config`]: the training configuration; [`config_table`] reads and overrides tables
//! - [`registry`]: every policy by id; [`learner`] hides which one it is
//! - [`trainer`]: the training loop; [`prefetch`] reads batches ahead of it
//! - [`run_folder`]: the files of a run; [`metrics`], [`metrics_file`], [`tensorboard`]: its numbers
//! - [`checkpoint`]: saved policies and training states; [`tensor_file`] is the format of their tensors
//! - [`benchmark`]: milliseconds per update, microseconds per action
//! - [`device`]: CPU or CUDA, and how many threads
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::AtomicBool;
//!
//! use camino::Utf8Path;
//! use telic_policies::{Device, TrainConfig, Trainer, load_policy, synthetic_dataset};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = Utf8Path::from_path(folder.path()).expect("a temporary folder has a UTF-8 name");
//! let run = folder.join("run");
//! let text = "dataset = 'random walks'\nsteps = 2\nbatch_size = 8\n[policy]\nid = 'beso'";
//! let config = TrainConfig::parse(text, "example", &["seed=3"])?;
//! let dataset = Arc::new(synthetic_dataset(4, 2, 10, 30)?);
//! let outcome = Trainer::create_with(config, &run, dataset, None)?.run(&mut (), &AtomicBool::new(false))?;
//! assert!(outcome.finished);
//! let policy = load_policy(&run, Device::Cpu)?;
//! assert_eq!((policy.observation_dim(), policy.action_dim()), (4, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::default_trait_access))]

pub mod agent;
pub mod batches;
pub mod benchmark;
pub mod beso;
pub mod checkpoint;
pub mod config;
pub mod config_table;
mod crc32c;
pub mod crl;
pub mod device;
pub mod ema;
pub mod error;
pub mod gaussian;
pub mod gcbc;
pub mod gciql;
pub mod gcivl;
pub mod hilp;
pub mod hiql;
pub mod inputs;
pub mod joint;
pub mod learner;
pub mod losses;
pub mod metrics;
pub mod metrics_file;
pub mod module_state;
pub mod nn;
pub mod novelty;
pub mod numbers;
pub mod online;
pub mod precision;
pub mod prefetch;
pub mod problems;
pub mod qrl;
pub mod registry;
pub mod replay;
mod roadmap;
pub mod run_folder;
pub mod sac;
pub mod search;
pub mod smore;
mod tables;
pub mod tensor_file;
pub mod tensor_map;
pub mod tensorboard;
#[cfg(test)]
mod test_agents;
#[cfg(test)]
mod test_policy;
pub mod trained;
pub mod trainer;

pub use agent::{
    Agent, Algorithm, BatchSampler, DataPart, DataSpec, DenoisingLevel, DenoisingTrace, Model,
    Policy, PolicyConfig, TrainingTask,
};
pub use benchmark::{
    ActBenchmark, UpdateBenchmark, benchmark_act, benchmark_updates, synthetic_dataset,
};
pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointSummary, Manifest, inspect_checkpoint, load_policy,
};
pub use config::{ConfigError, TrainConfig};
pub use device::{Device, Threads};
pub use error::PolicyError;
pub use learner::Learner;
pub use metrics::{MeanMetrics, Metrics};
pub use numbers::Numbers;
pub use precision::Precision;
pub use problems::{Problem, Problems};
pub use registry::{PolicySpec, UnknownPolicy, spec, specs};
pub use tensor_map::{NamedTensor, TensorMap, TensorValues};
pub use trainer::{
    RunStart, Speed, TrainError, TrainObserver, TrainOutcome, Trainer, load_datasets,
};
