//! Reports: run folders become the rows of one table.
//!
//! Runs in folders `seed-N` side by side are seeds of one row, named after the folder that they lie in; any other run is a row
//! of its own. Rows of a dataset that would have the same name have as much of their path in it as tells them apart. `evaluation.json` of a run counts, and `evaluation-NAME.json` for a row of its own with `NAME` behind it. With
//! `last`, the last evaluations during training count in their place, as OGBench reports.
//!
//! A rate has the Wilson interval of its episodes. Over several seeds it is widened to hold that of a stratified bootstrap: seeds
//! are drawn anew for each task, and 95 % of the means over tasks lie within it. Alone, a bootstrap of two or three seeds that happen to
//! agree has no width, whatever the episodes leave open.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use rand::RngExt;
use serde::Serialize;
use telic_policies::run_folder::{CHECKPOINTS_FOLDER, CONFIG_FILE, METRICS_FILE};
use telic_policies::{Checkpoint, TrainConfig};
use telic_seed::Seed;

use crate::FlowError;
use crate::evaluate::Evaluation;
use crate::interval::{Interval, mean};

/// Draws of a bootstrap.
const DRAWS: usize = 10_000;

/// One row of a report.
#[derive(Clone, Debug, Serialize)]
pub struct ReportRow {
    /// The dataset, by the name of its file.
    pub dataset: String,
    /// The row, by the name of its folder.
    pub name: String,
    /// Id of the policy.
    pub policy: String,
    /// Seeds of its runs.
    pub seeds: Vec<u64>,
    /// Episodes over all seeds.
    pub episodes: usize,
    /// What it was measured on: episodes of which seed, in which environment, with which goals.
    pub measured_on: String,
    /// Updates behind each policy.
    pub updates: u64,
    /// Transitions or windows per update.
    pub batch_size: usize,
    /// Mean over seeds.
    pub success_rate: f64,
    /// 95 % interval.
    pub ci95: Interval,
    /// Standard deviation over seeds; absent for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Per task, over all seeds.
    pub tasks: Vec<ReportTask>,
    /// Means of further scores.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// One task of a row.
#[derive(Clone, Debug, Serialize)]
pub struct ReportTask {
    /// Its name.
    pub name: String,
    /// Mean over episodes.
    pub success_rate: f64,
    /// Wilson 95 % interval.
    pub ci95: Interval,
    /// Episodes over all seeds.
    pub episodes: usize,
}

/// A run folder.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where.
    pub folder: Utf8PathBuf,
    /// Its configuration.
    pub config: TrainConfig,
    /// The name of its row.
    pub row: String,
    /// What all seeds of the row have in common: the folder around them, or the run alone. No two names lead to it.
    place: Utf8PathBuf,
}

impl Run {
    fn open(folder: Utf8PathBuf) -> Result<Self, FlowError> {
        let config = TrainConfig::load::<&str>(&folder.join(CONFIG_FILE), &[])?;
        let whole = folder
            .canonicalize_utf8()
            .map_err(|error| FlowError::File {
                reason: error.to_string(),
                path: folder.clone(),
            })?;
        let seed = whole
            .file_name()
            .and_then(|name| name.strip_prefix("seed-"))
            .is_some_and(|number| number.parse::<u64>().is_ok());
        let place = match whole.parent() {
            Some(parent) if seed => parent.to_owned(),
            _ => whole,
        };
        Ok(Self {
            folder,
            config,
            row: String::new(),
            place,
        })
    }

    /// The name of its dataset.
    pub fn dataset(&self) -> &str {
        self.config.dataset.file_stem().unwrap_or_default()
    }
}

/// Every run folder at or below `paths`, in the order of their paths.
///
/// # Errors
/// A path without any, or one that cannot be read.
pub fn find_runs(paths: &[Utf8PathBuf]) -> Result<Vec<Run>, FlowError> {
    let mut folders = vec![];
    for path in paths {
        let before = folders.len();
        descend(path, &mut folders)?;
        if folders.len() == before {
            return Err(FlowError::File {
                reason: "there is no run folder here".to_owned(),
                path: path.clone(),
            });
        }
    }
    folders.sort();
    folders.dedup();
    let mut runs = folders
        .into_iter()
        .map(Run::open)
        .collect::<Result<Vec<_>, FlowError>>()?;
    // Two paths to one run.
    let mut seen = BTreeSet::new();
    runs.retain(|run| seen.insert((run.place.clone(), run.folder.file_name().map(str::to_owned))));
    let names: Vec<String> = runs.iter().map(|run| row_name(run, &runs)).collect();
    for (run, name) in runs.iter_mut().zip(names) {
        run.row = name;
    }
    Ok(runs)
}

/// The last folder of the row's path, and as many before it as tell it from the other rows of its dataset.
fn row_name(run: &Run, runs: &[Run]) -> String {
    let tail = |place: &Utf8Path, depth: usize| {
        let names: Vec<&str> = place.iter().collect();
        names[names.len().saturating_sub(depth)..].join("/")
    };
    let others: Vec<&Utf8Path> = runs
        .iter()
        .filter(|other| other.dataset() == run.dataset() && other.place != run.place)
        .map(|other| other.place.as_path())
        .collect();
    let depths = run.place.iter().count();
    (1..depths)
        .map(|depth| (depth, tail(&run.place, depth)))
        .find(|(depth, name)| others.iter().all(|other| tail(other, *depth) != *name))
        .map_or_else(|| run.place.to_string(), |(_, name)| name)
}

fn descend(path: &Utf8Path, folders: &mut Vec<Utf8PathBuf>) -> Result<(), FlowError> {
    if path.join(CONFIG_FILE).is_file() && path.join(CHECKPOINTS_FOLDER).is_dir() {
        folders.push(path.to_owned());
        return Ok(());
    }
    let io = |error: std::io::Error| FlowError::File {
        reason: error.to_string(),
        path: path.to_owned(),
    };
    for entry in path.read_dir_utf8().map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_dir() {
            descend(entry.path(), folders)?;
        }
    }
    Ok(())
}

/// Task by name: successes and episodes.
type Tasks = BTreeMap<String, (f64, usize)>;

/// Evaluations of one run that a row counts.
struct Found {
    /// What its row has behind its name.
    suffix: String,
    /// Updates of the policy that was evaluated.
    updates: u64,
    /// On which episodes: they have to be the same for all seeds.
    asked: String,
    /// Inference settings; none where they are not known.
    settings: BTreeMap<String, String>,
    tasks: Tasks,
    metrics: BTreeMap<String, f64>,
}

/// What one run contributes to a row.
struct Contribution<'a> {
    run: &'a Run,
    found: Found,
}

/// The table of `runs`; `last` evaluations during training, or the one behind it. Runs that have not been evaluated are left out
/// and returned.
///
/// # Errors
/// An evaluation that cannot be read; [`FlowError::Mismatch`] for seeds of one row that differ in more than the seed, or do not differ in it.
pub fn report(
    runs: &[Run],
    last: Option<usize>,
) -> Result<(Vec<ReportRow>, Vec<Utf8PathBuf>), FlowError> {
    let mut groups: BTreeMap<(&str, String), Vec<Contribution<'_>>> = BTreeMap::new();
    let mut missing = vec![];
    for run in runs {
        let evaluations = match last {
            Some(count) => during_training(run, count)?,
            None => behind_training(run)?,
        };
        if evaluations.is_empty() {
            missing.push(run.folder.clone());
        }
        for found in evaluations {
            let key = (run.dataset(), format!("{}{}", run.row, found.suffix));
            let row = groups.entry(key).or_default();
            row.push(Contribution { run, found });
        }
    }
    let mut rows = vec![];
    for ((dataset, name), runs) in groups {
        check_alike(&runs)?;
        rows.push(row(dataset.to_owned(), name, &runs));
    }
    Ok((rows, missing))
}

/// An error if runs of one row were not trained as long as each other, measured on other tasks or with other settings, or have the
/// same seed.
fn check_alike(runs: &[Contribution<'_>]) -> Result<(), FlowError> {
    let facts = |Contribution { run, found }: &Contribution<'_>| {
        let tasks: Vec<&str> = found.tasks.keys().map(String::as_str).collect();
        let asked = &found.asked;
        format!(
            "{} updates of {}, {asked}, tasks {}",
            found.updates,
            run.config.batch_size,
            tasks.join(", ")
        )
    };
    let settings = |run: &Contribution<'_>| {
        let all: Vec<String> = run
            .found
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        all.join(", ")
    };
    let differ =
        |left: &Contribution<'_>, right: &Contribution<'_>, left_is: String, right_is: String| {
            Err(FlowError::Mismatch {
                what: "runs side by side are no seeds of one row",
                left: format!("{}: {left_is}", left.run.folder),
                right: format!("{}: {right_is}", right.run.folder),
            })
        };
    let known: Vec<&Contribution<'_>> = runs
        .iter()
        .filter(|run| !run.found.settings.is_empty())
        .collect();
    for (index, run) in runs.iter().enumerate() {
        let first = &runs[0];
        if facts(run) != facts(first) {
            return differ(first, run, facts(first), facts(run));
        }
        let seed = run.run.config.seed;
        if let Some(same) = runs[..index]
            .iter()
            .find(|other| other.run.config.seed == seed)
        {
            return differ(same, run, format!("seed {seed}"), format!("seed {seed}"));
        }
    }
    for run in &known {
        if settings(run) != settings(known[0]) {
            return differ(known[0], run, settings(known[0]), settings(run));
        }
    }
    Ok(())
}

fn behind_training(run: &Run) -> Result<Vec<Found>, FlowError> {
    let bad = |path: &Utf8Path, reason: String| FlowError::File {
        reason,
        path: path.to_owned(),
    };
    let mut names: Vec<String> = run
        .folder
        .read_dir_utf8()
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
                .collect()
        })
        .map_err(|error| bad(&run.folder, error.to_string()))?;
    names.sort();
    let mut found = vec![];
    for name in names {
        let suffix = match name.strip_suffix(".json") {
            Some("evaluation") => String::new(),
            Some(stem) => match stem.strip_prefix("evaluation-") {
                Some(variant) => format!(" {variant}"),
                None => continue,
            },
            None => continue,
        };
        let path = run.folder.join(&name);
        let text = std::fs::read_to_string(&path).map_err(|error| bad(&path, error.to_string()))?;
        let evaluation: Evaluation = serde_json::from_str(&text)
            .map_err(|error| bad(&path, format!("not an evaluation: {error}")))?;
        let tasks = evaluation
            .tasks
            .iter()
            .map(|task| {
                let successes = (task.success_rate * task.episodes as f64).round();
                (task.name.clone(), (successes, task.episodes))
            })
            .collect();
        let Evaluation {
            env,
            episodes,
            seed,
            settings,
            metrics,
            ..
        } = evaluation;
        let goals = evaluation
            .goals
            .map_or(String::new(), |path| format!(" with goals of {path}"));
        found.push(Found {
            suffix,
            updates: evaluation.step.unwrap_or(run.config.steps),
            asked: format!("{episodes} episodes of seed {seed} in `{env}`{goals}"),
            settings,
            tasks,
            metrics,
        });
    }
    Ok(found)
}

/// The tasks of a run's environment in their order; none if it is not known.
fn task_order(run: &Run) -> Vec<&'static str> {
    let of_data = || {
        let newest = Checkpoint::open(&run.folder).ok()?;
        Some(newest.manifest.data.env)
    };
    let env = run.config.env.clone().or_else(of_data);
    let spec = env.and_then(|env| telic_envs::spec(&env).ok());
    spec.map_or(vec![], |spec| {
        spec.tasks.iter().map(|task| task.name.as_str()).collect()
    })
}

fn during_training(run: &Run, last: usize) -> Result<Vec<Found>, FlowError> {
    const PREFIX: &str = "evaluation/";
    let path = run.folder.join(METRICS_FILE);
    let columns = telic_viz::read_metrics(&path)?;
    let points = |name: &str| columns.get(name).map_or(&[][..], Vec::as_slice);
    let tail = |name: &str| {
        let values: Vec<f64> = points(name).iter().map(|point| point.1).collect();
        values[values.len().saturating_sub(last)..].to_vec()
    };
    let rates = points("evaluation/success_rate");
    let Some((updates, _)) = rates.last() else {
        return Ok(vec![]);
    };
    // An evaluation with fewer episodes than tasks has no rate of the last ones.
    let since = rates[rates.len().saturating_sub(last.max(1))].0;
    let mut names: Vec<&str> = columns
        .keys()
        .filter_map(|name| name.strip_prefix(PREFIX)?.strip_suffix("_success_rate"))
        .filter(|name| {
            let of_task = points(&format!("{PREFIX}{name}_success_rate"));
            of_task.last().is_some_and(|(step, _)| *step >= since)
        })
        .collect();
    let order = task_order(run);
    names.sort_by_key(|name| order.iter().position(|task| task == name));
    // Dealt out over the tasks in turn.
    let tasks = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let rates = tail(&format!("{PREFIX}{name}_success_rate"));
            let episodes = run.config.evaluation_episodes;
            let of_task = episodes.saturating_sub(index).div_ceil(names.len());
            let episodes = of_task * rates.len();
            (
                (*name).to_owned(),
                (mean(&rates) * episodes as f64, episodes),
            )
        })
        .collect();
    let metrics = columns
        .keys()
        .filter_map(|name| {
            let metric = name.strip_prefix(PREFIX)?;
            let other = !metric.ends_with("success_rate") && metric != "mean_return";
            other.then(|| (metric.to_owned(), mean(&tail(name))))
        })
        .collect();
    Ok(vec![Found {
        suffix: String::new(),
        updates: *updates as u64,
        asked: format!("{} episodes on the way", run.config.evaluation_episodes),
        settings: BTreeMap::new(),
        tasks,
        metrics,
    }])
}

fn row(dataset: String, name: String, runs: &[Contribution<'_>]) -> ReportRow {
    let mut pooled = Tasks::new();
    let mut metrics: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for Contribution { found, .. } in runs {
        for (task, (successes, episodes)) in &found.tasks {
            let entry = pooled.entry(task.clone()).or_default();
            entry.0 += successes;
            entry.1 += episodes;
        }
        for (metric, value) in &found.metrics {
            metrics.entry(metric.clone()).or_default().push(*value);
        }
    }
    let rate = |(successes, episodes): &(f64, usize)| successes / (*episodes).max(1) as f64;
    let of_runs: Vec<Vec<f64>> = runs
        .iter()
        .map(|run| run.found.tasks.values().map(rate).collect())
        .collect();
    // As `telic evaluate`: of all episodes. The mean over tasks is the same where all tasks have as many.
    let means: Vec<f64> = runs
        .iter()
        .map(|run| {
            let (successes, episodes) = run
                .found
                .tasks
                .values()
                .fold((0.0, 0), |all, task| (all.0 + task.0, all.1 + task.1));
            rate(&(successes, episodes))
        })
        .collect();
    let success_rate = mean(&means);
    let episodes = pooled.values().map(|(_, episodes)| episodes).sum();
    let successes = pooled.values().map(|(successes, _)| successes).sum::<f64>();
    let ci95 = interval(successes.round() as usize, episodes, &of_runs);
    let std = (runs.len() > 1).then(|| {
        let squares = means.iter().map(|value| (value - success_rate).powi(2));
        let variance = squares.sum::<f64>() / (means.len() - 1) as f64;
        variance.sqrt()
    });
    let config = &runs[0].run.config;
    ReportRow {
        dataset,
        name,
        policy: config.policy.id.clone(),
        seeds: runs.iter().map(|run| run.run.config.seed).collect(),
        episodes,
        measured_on: runs[0].found.asked.clone(),
        updates: runs[0].found.updates,
        batch_size: config.batch_size,
        success_rate,
        ci95,
        std,
        tasks: pooled
            .into_iter()
            .map(|(name, counts)| ReportTask {
                name,
                success_rate: rate(&counts),
                ci95: Interval::wilson(counts.0.round() as usize, counts.1),
                episodes: counts.1,
            })
            .collect(),
        metrics: metrics
            .into_iter()
            .map(|(name, values)| (name, mean(&values)))
            .collect(),
    }
}

/// That of all episodes, and of the spread of several runs: `rates[run][task]`.
fn interval(successes: usize, episodes: usize, rates: &[Vec<f64>]) -> Interval {
    let of_episodes = Interval::wilson(successes, episodes);
    if rates.len() < 2 {
        of_episodes
    } else {
        of_episodes.hull(bootstrap(rates))
    }
}

/// 95 % of the means over tasks, with the runs of each task drawn anew: `rates[run][task]`. The same numbers give the same
/// interval.
fn bootstrap(rates: &[Vec<f64>]) -> Interval {
    let tasks = rates.iter().map(Vec::len).min().unwrap_or(0);
    let mut rng = Seed::new(0).child("bootstrap").rng();
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let of_task = |task: usize, rng: &mut _| {
                let drawn: Vec<f64> = (0..rates.len())
                    .map(|_| rates[RngExt::random_range(rng, 0..rates.len())][task])
                    .collect();
                mean(&drawn)
            };
            let of_tasks: Vec<f64> = (0..tasks).map(|task| of_task(task, &mut rng)).collect();
            mean(&of_tasks)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (DRAWS - 1) as f64).round() as usize];
    Interval(at(0.025), at(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_what_episodes_and_what_seeds_leave_open() {
        let of_episodes = Interval::wilson(100, 100);
        assert!(of_episodes.0 < 0.97);
        let agreeing = vec![vec![1.0]; 2];
        for runs in 1..=2 {
            assert_eq!(interval(100, 100, &agreeing[..runs]), of_episodes);
        }
        let Interval(low, high) = interval(100, 200, &[vec![0.0], vec![1.0]]);
        assert_eq!((low, high), (0.0, 1.0));
    }

    #[test]
    fn the_bootstrap_holds_the_spread_of_seeds_and_no_more() {
        let same = vec![vec![0.5, 0.7]; 3];
        let Interval(low, high) = bootstrap(&same);
        assert!((low - 0.6).abs() < 1e-12 && (high - 0.6).abs() < 1e-12);
        // One task, seeds 0 and 1: the mean of two draws is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4.
        assert_eq!(bootstrap(&[vec![0.0], vec![1.0]]), Interval(0.0, 1.0));
        // Eight tasks: binomial of 16 draws, of which 4 to 12 hold at least 95 %.
        let Interval(low, high) = bootstrap(&[vec![0.0; 8], vec![1.0; 8]]);
        assert_eq!((low, high), (0.25, 0.75));
    }
}
