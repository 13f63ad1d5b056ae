//! The configuration of a training run: one TOML file, overrides by dotted keys, every mistake reported.
//!
//! ```toml
//! dataset = "data/pointmaze-medium.npz"
//! steps = 100_000
//!
//! [policy]
//! id = "gcbc"
//! ```
//!
//! Everything else has a default; [`TrainConfig::to_toml`] writes them all out.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::config_table::{apply_overrides, differences, from_table, to_table};
use crate::{Device, PolicySpec, Precision, Problems, Threads, registry};

/// Rows that a batch may have.
const MAX_BATCH: usize = 1 << 20;

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Dataset to learn from; relative paths start at the working directory.
    pub dataset: Utf8PathBuf,
    /// Dataset to validate on. Without it, the episodes that `train_fraction` leaves over validate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_dataset: Option<Utf8PathBuf>,
    /// Share of the episodes that train, in (0, 1]; the split is drawn from `seed`. All by default if another file validates.
    pub train_fraction: f64,
    /// Environment for evaluation during training; without it, the one that the dataset names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,

    /// Updates.
    pub steps: u64,
    /// Transitions or windows per update.
    pub batch_size: usize,
    /// Root of every draw.
    pub seed: u64,

    /// What networks run on.
    pub device: Device,
    /// How hidden layers multiply in updates.
    pub precision: Precision,
    /// Threads of the networks on the CPU; 0 for all cores.
    pub threads: usize,
    /// Batches that are read ahead on another thread; 0 for none.
    pub prefetch: usize,

    /// Updates between two lines of training metrics, which are averages over these updates.
    pub log_every: u64,
    /// Updates between two validations; 0 for none.
    pub validate_every: u64,
    /// Batches of one validation.
    pub validation_batches: usize,
    /// Updates between two evaluations in the environment; 0 for none.
    pub evaluate_every: u64,
    /// Episodes of one evaluation, over all tasks together.
    pub evaluation_episodes: usize,
    /// Updates between two checkpoints; 0 for one at the end only.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, the newest ones; 0 for all.
    pub keep_checkpoints: usize,
    /// The checkpoint that is best in this metric is kept too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<KeepBest>,

    /// The algorithm and its settings.
    pub policy: PolicyTable,
}

/// What makes a checkpoint the best one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepBest {
    /// A column of `metrics.csv`, for example `evaluation/success_rate`.
    pub metric: String,
    /// Whether more is better.
    #[serde(default = "more_is_better")]
    pub maximize: bool,
}

const fn more_is_better() -> bool {
    true
}

/// The `[policy]` table: `id`, and the keys of that policy's own configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyTable {
    /// Id in the registry.
    #[serde(default)]
    pub id: String,
    /// The other keys.
    #[serde(flatten)]
    pub settings: Table,
}

impl Default for PolicyTable {
    fn default() -> Self {
        Self {
            id: "gcbc".to_owned(),
            settings: Table::new(),
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            dataset: Utf8PathBuf::new(),
            validation_dataset: None,
            // As the reference releases of BESO split their play data.
            train_fraction: 0.95,
            env: None,
            steps: 100_000,
            batch_size: 256,
            seed: 0,
            device: Device::Cpu,
            precision: Precision::F32,
            threads: 0,
            prefetch: 2,
            log_every: 100,
            validate_every: 5_000,
            validation_batches: 8,
            evaluate_every: 0,
            evaluation_episodes: 50,
            checkpoint_every: 5_000,
            keep_checkpoints: 2,
            keep_best: None,
            policy: PolicyTable::default(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration: {source}\nin {path}")]
    Read {
        /// Where.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no TOML.
    #[error("{message}\nin {place}")]
    Syntax {
        /// Place and cause, over several lines.
        message: String,
        /// The file.
        place: String,
    },
    /// Keys or values are wrong.
    #[error("{problems}\nin {place}")]
    Invalid {
        /// All of them.
        problems: Problems,
        /// The file, or what else the configuration came from.
        place: String,
    },
}

/// The table in a file.
pub(crate) fn read_table(path: &Utf8Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_table(&text, path.as_str())
}

fn parse_table(text: &str, place: &str) -> Result<Table, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| ConfigError::Syntax {
        message: error.to_string().trim_end().to_owned(),
        place: place.to_owned(),
    })
}

impl TrainConfig {
    /// Reads a file, applies overrides of the form `key.of.table=value`, fills in every default and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Invalid`] has every mistake of the file and of the overrides.
    pub fn load<S: AsRef<str>>(path: &Utf8Path, overrides: &[S]) -> Result<Self, ConfigError> {
        Self::from_table(read_table(path)?, path.as_str(), overrides)
    }

    /// [`load`](Self::load) for a text; `place` is named in errors.
    pub fn parse<S: AsRef<str>>(
        text: &str,
        place: &str,
        overrides: &[S],
    ) -> Result<Self, ConfigError> {
        Self::from_table(parse_table(text, place)?, place, overrides)
    }

    /// [`load`](Self::load) for a table.
    pub fn from_table<S: AsRef<str>>(
        mut table: Table,
        place: &str,
        overrides: &[S],
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::new();
        apply_overrides(&mut table, overrides, &mut problems);
        // Where another file validates, nothing has to be left over for it.
        if table.contains_key("validation_dataset") && !table.contains_key("train_fraction") {
            table.insert("train_fraction".to_owned(), 1.0.into());
        }
        let mut config: Self = from_table(&table, &mut problems);
        config.resolve(&mut problems);
        match problems.into_result() {
            Ok(()) => Ok(config),
            Err(problems) => Err(ConfigError::Invalid {
                problems,
                place: place.to_owned(),
            }),
        }
    }

    /// Fills in the defaults of the policy; adds every value out of range.
    fn resolve(&mut self, problems: &mut Problems) {
        let exact = i64::MAX as u64;
        problems.check(
            !self.dataset.as_str().is_empty(),
            "dataset",
            &self.dataset,
            "the path of a dataset",
        );
        problems.check(
            self.train_fraction > 0.0 && self.train_fraction <= 1.0,
            "train_fraction",
            self.train_fraction,
            "a number in (0, 1]",
        );
        problems.check(
            (1..=exact).contains(&self.steps),
            "steps",
            self.steps,
            "at least 1",
        );
        problems.check(
            (1..=MAX_BATCH).contains(&self.batch_size),
            "batch_size",
            self.batch_size,
            "1 to 1048576",
        );
        problems.check(
            self.seed <= exact,
            "seed",
            self.seed,
            "at most 9223372036854775807",
        );
        problems.check(
            self.threads <= Threads::MAX,
            "threads",
            self.threads,
            "at most 1024",
        );
        problems.check(self.prefetch <= 64, "prefetch", self.prefetch, "at most 64");
        problems.check(
            self.log_every >= 1,
            "log_every",
            self.log_every,
            "at least 1",
        );
        problems.check(
            self.validation_batches >= 1,
            "validation_batches",
            self.validation_batches,
            "at least 1; `validate_every = 0` turns validation off",
        );
        problems.check(
            self.evaluation_episodes >= 1,
            "evaluation_episodes",
            self.evaluation_episodes,
            "at least 1; `evaluate_every = 0` turns evaluation off",
        );
        if let Some(best) = &self.keep_best {
            problems.check(
                !best.metric.is_empty(),
                "keep_best.metric",
                &best.metric,
                "the name of a metric, such as \"evaluation/success_rate\"",
            );
        }
        problems.nested("policy", |problems| match registry::spec(&self.policy.id) {
            Ok(spec) => {
                self.policy.settings = (spec.resolve_config)(&self.policy.settings, problems);
            }
            Err(unknown) => problems.add("id", "", &unknown.to_string()),
        });
    }

    /// What a run should not start with, though one that is there may go on with it: a best checkpoint by a metric that is never measured.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn check_start(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::new();
        if let Some(best) = &self.keep_best {
            let validates = self.validation_dataset.is_some() || self.train_fraction < 1.0;
            for (prefix, measured, expected) in [
                (
                    "evaluation/",
                    self.evaluate_every > 0,
                    "a metric that is measured, but `evaluate_every` is 0",
                ),
                (
                    "validation/",
                    self.validate_every > 0,
                    "a metric that is measured, but `validate_every` is 0",
                ),
                (
                    "validation/",
                    validates,
                    "a metric that is measured, but all episodes train",
                ),
            ] {
                problems.check(
                    !best.metric.starts_with(prefix) || measured,
                    "keep_best.metric",
                    &best.metric,
                    expected,
                );
            }
            let known = ["training/", "validation/", "evaluation/"];
            problems.check(
                known.iter().any(|prefix| best.metric.starts_with(prefix)),
                "keep_best.metric",
                &best.metric,
                "a column of `metrics.csv`, which begins with training/, validation/ or evaluation/",
            );
        }
        problems
            .into_result()
            .map_err(|problems| ConfigError::Invalid {
                problems,
                place: "the configuration of the run".to_owned(),
            })
    }

    /// The policy's registry entry.
    ///
    /// # Errors
    /// [`registry::UnknownPolicy`], which a configuration from [`load`](Self::load) never has.
    pub fn policy_spec(&self) -> Result<&'static PolicySpec, registry::UnknownPolicy> {
        registry::spec(&self.policy.id)
    }

    /// Every key as TOML, enough to repeat the run.
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }

    /// Every key as a table.
    pub fn to_table(&self) -> Table {
        to_table(self)
    }

    /// The keys in which two configurations differ that fix the bits of a run: a run resumes only if there are none.
    ///
    /// How long a run goes on, what it measures and keeps on the way, and with how many threads, may change.
    pub fn conflicts_with(&self, other: &Self) -> Vec<String> {
        let pick = |config: &Self| {
            let Self {
                dataset,
                validation_dataset,
                train_fraction,
                batch_size,
                seed,
                precision,
                policy,
                ..
            } = config;
            let mut table = Table::new();
            table.insert("dataset".into(), dataset.as_str().into());
            table.insert(
                "validation_dataset".into(),
                validation_dataset
                    .as_ref()
                    .map_or("", |path| path.as_str())
                    .into(),
            );
            table.insert("train_fraction".into(), (*train_fraction).into());
            table.insert("batch_size".into(), (*batch_size as i64).into());
            table.insert("seed".into(), (*seed as i64).into());
            table.insert("precision".into(), precision.to_string().into());
            table.insert("policy".into(), to_table(policy).into());
            table
        };
        differences(&pick(self), &pick(other))
    }
}

#[cfg(test)]
mod tests;
