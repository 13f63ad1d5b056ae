//! Every policy by id.

use std::fmt;

use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::config_table::{self, nearest_name};
use crate::device::{CpuAutodiff, CpuBackend};
use crate::inputs::check_unused_goals;
use crate::learner::{AlgorithmLearner, Learner};
use crate::{Algorithm, Device, Model, Policy, PolicyConfig, PolicyError, Problems, TrainingTask};

/// Every registered policy, in the order of the documentation.
pub fn specs() -> &'static [PolicySpec] {
    const SPECS: &[PolicySpec] = &[
        crate::beso::SPEC,
        crate::hilp::SPEC,
        crate::hilp::zero_shot::SPEC,
        crate::smore::SPEC,
        crate::gcbc::SPEC,
        crate::gcivl::SPEC,
        crate::gciql::SPEC,
        crate::qrl::SPEC,
        crate::crl::SPEC,
        crate::hiql::SPEC,
        #[cfg(test)]
        crate::test_policy::SPEC,
    ];
    SPECS
}

/// The policy with this id.
///
/// # Errors
/// [`UnknownPolicy`], with the nearest id.
pub fn spec(id: &str) -> Result<&'static PolicySpec, UnknownPolicy> {
    specs().iter().find(|spec| spec.id == id).ok_or_else(|| {
        let known: Vec<_> = specs().iter().map(|spec| spec.id).collect();
        UnknownPolicy {
            id: id.to_owned(),
            nearest: nearest_name(id, known.iter().copied()).map(str::to_owned),
            known: known.join(", "),
        }
    })
}

/// An id that no policy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    /// The id.
    pub id: String,
    /// The id that was probably meant.
    pub nearest: Option<String>,
    /// Every id, separated by commas.
    pub known: String,
}

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no policy is called `{}`", self.id)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        write!(f, " (known: {})", self.known)
    }
}

impl std::error::Error for UnknownPolicy {}

/// Makes a fresh agent for a resolved table.
pub type TrainFn = fn(&toml::Table, TrainingTask, Device) -> Result<Box<dyn Learner>, PolicyError>;

/// Makes the policy in a saved model, for the table it was trained with.
pub type LoadFn = fn(&toml::Table, &Model, Device) -> Result<Box<dyn Policy>, PolicyError>;

/// One policy: what it is, and how to train and load it.
#[derive(Clone, Copy)]
pub struct PolicySpec {
    /// Id in configurations and checkpoints, for example `beso`.
    pub id: &'static str,
    /// Name in full.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Authors, year, and where to find it.
    pub paper: &'static str,
    /// The `[policy]` table with every default, without `id`.
    pub default_config: fn() -> toml::Table,
    /// The table with every default filled in; adds every mistake in it to the problems, with keys relative to it.
    pub resolve_config: fn(&toml::Table, &mut Problems) -> toml::Table,
    /// A fresh agent for a table that [`resolve_config`](Self::resolve_config) accepts.
    pub train: TrainFn,
    /// The policy in a saved model, for the table it was trained with.
    pub load: LoadFn,
}

impl PolicySpec {
    /// The entry of algorithm `A`.
    pub const fn of<A: Algorithm>(
        id: &'static str,
        name: &'static str,
        summary: &'static str,
        paper: &'static str,
    ) -> Self {
        Self {
            id,
            name,
            summary,
            paper,
            default_config: || config_table::to_table(&A::Config::default()),
            resolve_config: |table, problems| {
                let config: A::Config = read_config::<A>(table, problems);
                config.validate(problems);
                config_table::to_table(&config)
            },
            train: train::<A>,
            load: load::<A>,
        }
    }
}

impl fmt::Debug for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySpec")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The configuration in a table. What the table lacks is the algorithm's own default, also inside a table that it has in part:
/// `[optimizer] beta_1 = 0.8` keeps the learning rate of this algorithm.
fn read_config<A: Algorithm>(table: &toml::Table, problems: &mut Problems) -> A::Config {
    let mut whole = config_table::to_table(&A::Config::default());
    config_table::merge(&mut whole, table);
    config_table::from_table(&whole, problems)
}

fn checked_config<A: Algorithm>(table: &toml::Table) -> Result<A::Config, PolicyError> {
    let mut problems = Problems::new();
    let config = read_config::<A>(table, &mut problems);
    config.validate(&mut problems);
    problems.into_result().map_err(PolicyError::Settings)?;
    Ok(config)
}

fn train<A: Algorithm>(
    table: &toml::Table,
    task: TrainingTask,
    device: Device,
) -> Result<Box<dyn Learner>, PolicyError> {
    fn start<A: Algorithm, B: AutodiffBackend>(
        config: A::Config,
        task: TrainingTask,
    ) -> Result<Box<dyn Learner>, PolicyError> {
        Ok(Box::new(AlgorithmLearner::<A, B>::new(
            config,
            task,
            B::Device::default(),
        )?))
    }
    device.check()?;
    let config = checked_config::<A>(table)?;
    let mut problems = Problems::new();
    let default = A::Config::default();
    if let (Some((goals, unused)), Some((default, _))) =
        (config.unused_goals(), default.unused_goals())
    {
        problems.nested("policy", |problems| {
            check_unused_goals(problems, goals, default, unused);
        });
    }
    problems.into_result().map_err(PolicyError::Settings)?;
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda => start::<A, crate::device::CudaAutodiff>(config, task),
        _ => start::<A, CpuAutodiff>(config, task),
    }
}

fn load<A: Algorithm>(
    table: &toml::Table,
    model: &Model,
    device: Device,
) -> Result<Box<dyn Policy>, PolicyError> {
    fn start<A: Algorithm, B: Backend>(
        config: &A::Config,
        model: &Model,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        A::load::<B>(config, model, &B::Device::default())
    }
    device.check()?;
    let config = checked_config::<A>(table)?;
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda => start::<A, crate::device::CudaBackend>(&config, model),
        _ => start::<A, CpuBackend>(&config, model),
    }
}
