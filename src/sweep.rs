//! Sweeps: a file names seeds, policies and datasets, and each combination becomes a run folder.
//!
//! ```toml
//! out = "runs/table"
//! seeds = [0, 1, 2]
//! set = ["threads=1"]                       # for every training
//!
//! [evaluation]
//! episodes = 250
//! seed = 1000
//!
//! [datasets]
//! cube-single-play = "cube-single.npz"
//!
//! [policies]
//! gciql = "configs/gciql.toml"
//! hilp = "configs/hilp.toml"
//!
//! [[overrides]]                             # in this order; an absent list means all
//! policies = ["gciql"]
//! datasets = ["cube-single-play"]
//! set = ["policy.alpha=1.0"]
//! seeds = [0, 1, 2, 3]                      # in place of those above
//!
//! [prompts.hilp]                            # further evaluations of the same run
//! plan = ["prompt.kind=plan"]
//! ```
//!
//! The run of a row is `out/dataset/policy/seed-N`, and nothing but what two plain commands make: `telic train` and
//! `telic evaluate`. So rows can as well be run by anything that runs commands ([`Row::commands`]).

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use telic_policies::checkpoint::{self, Checkpoint};
use telic_policies::config_table::{apply_overrides, flat, from_table, nearest_name};
use telic_policies::run_folder::{CHECKPOINTS_FOLDER, CONFIG_FILE};
use telic_policies::{ConfigError, Problems, TrainConfig};
use toml::Table;

use crate::evaluate::Evaluation;
use crate::{FlowError, STOPPED_EXIT_CODE};

/// A sweep file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepConfig {
    /// Folder of the run folders.
    pub out: Utf8PathBuf,
    /// Seeds of the trainings.
    pub seeds: Vec<u64>,
    /// Overrides of every training.
    pub set: Vec<String>,
    /// How each run is evaluated.
    pub evaluation: SweepEvaluation,
    /// Datasets by name; relative paths start at the working directory.
    pub datasets: BTreeMap<String, Utf8PathBuf>,
    /// Training configurations by name.
    pub policies: BTreeMap<String, Utf8PathBuf>,
    /// Overrides of some trainings.
    pub overrides: Vec<SweepOverride>,
    /// By policy and by name, inference settings of a further evaluation.
    pub prompts: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// How each run of a sweep is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepEvaluation {
    /// Episodes, dealt out over the tasks.
    pub episodes: u32,
    /// Seed of worlds and policy.
    pub seed: u64,
}

impl Default for SweepEvaluation {
    fn default() -> Self {
        // OGBench: 50 episodes of each of the 5 tasks.
        Self {
            episodes: 250,
            seed: 1000,
        }
    }
}

/// Overrides of some trainings of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepOverride {
    /// Of these policies; absent for all.
    pub policies: Option<Vec<String>>,
    /// On these datasets; absent for all.
    pub datasets: Option<Vec<String>>,
    /// `KEY=VALUE` each.
    pub set: Vec<String>,
    /// Seeds of these trainings in place of the sweep's.
    pub seeds: Option<Vec<u64>>,
}

impl SweepOverride {
    fn is_for(&self, policy: &str, dataset: &str) -> bool {
        let names = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|known| known == name))
        };
        names(&self.policies, policy) && names(&self.datasets, dataset)
    }
}

impl SweepConfig {
    /// Reads a sweep file.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake in it.
    pub fn load(path: &Utf8Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let table =
            toml::from_str(&text).map_err(|error: toml::de::Error| ConfigError::Syntax {
                message: error.to_string().trim_end().to_owned(),
                place: path.to_string(),
            })?;
        let mut problems = Problems::new();
        let config: Self = from_table(&table, &mut problems);
        config.validate(&mut problems);
        problems
            .into_result()
            .map(|()| config)
            .map_err(|problems| ConfigError::Invalid {
                problems,
                place: path.to_string(),
            })
    }

    fn validate(&self, problems: &mut Problems) {
        let named = !self.out.as_str().is_empty();
        problems.check(named, "out", &self.out, "a folder");
        for (key, count) in [
            ("seeds", self.seeds.len()),
            ("datasets", self.datasets.len()),
            ("policies", self.policies.len()),
        ] {
            problems.check(count >= 1, key, count, "at least one");
        }
        let episodes = self.evaluation.episodes;
        problems.check(episodes >= 1, "evaluation.episodes", episodes, "at least 1");
        let mut known = |key: String, name: &str, names: Vec<&str>| {
            if !names.contains(&name) {
                let nearest = nearest_name(name, names.iter().copied())
                    .map_or(String::new(), |nearest| {
                        format!("; did you mean `{nearest}`?")
                    });
                let expected = format!("one of {}{nearest}", names.join(", "));
                problems.add(&key, name, &expected);
            }
        };
        let policies = || self.policies.keys().map(String::as_str).collect::<Vec<_>>();
        let datasets = || self.datasets.keys().map(String::as_str).collect::<Vec<_>>();
        for (index, entry) in self.overrides.iter().enumerate() {
            for name in entry.policies.iter().flatten() {
                known(format!("overrides.{index}.policies"), name, policies());
            }
            for name in entry.datasets.iter().flatten() {
                known(format!("overrides.{index}.datasets"), name, datasets());
            }
        }
        for name in self.prompts.keys() {
            known("prompts".to_owned(), name, policies());
        }
        for (index, entry) in self.overrides.iter().enumerate() {
            if let Some(seeds) = &entry.seeds {
                let key = format!("overrides.{index}.seeds");
                problems.check(!seeds.is_empty(), &key, seeds.len(), "at least one");
            }
        }
        for name in self.datasets.keys().chain(self.policies.keys()) {
            let plain = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !name.starts_with('.');
            problems.check(
                plain,
                "datasets and policies",
                name,
                "a name of letters, digits, `-`, `_` and `.`: it becomes a folder",
            );
        }
    }

    /// Every combination, the first seed of all of them first. Nothing is written.
    ///
    /// # Errors
    /// [`ConfigError`] of the first training whose configuration is wrong, or whose policy does not take a prompt.
    pub fn rows(&self) -> Result<Vec<Row>, FlowError> {
        let mut rows = vec![];
        for (dataset, path) in &self.datasets {
            for (policy, config) in &self.policies {
                let mut set = self.set.clone();
                let mut seeds = &self.seeds;
                for entry in self
                    .overrides
                    .iter()
                    .filter(|entry| entry.is_for(policy, dataset))
                {
                    set.extend(entry.set.iter().cloned());
                    seeds = entry.seeds.as_ref().unwrap_or(seeds);
                }
                set.push(format!("dataset={path}"));
                let mut evaluations = vec![("evaluation.json".to_owned(), vec![])];
                for (name, set) in self.prompts.get(policy).into_iter().flatten() {
                    evaluations.push((format!("evaluation-{name}.json"), set.clone()));
                }
                // A prompt that the policy does not take would be told after its training otherwise.
                for (_, of_prompt) in &evaluations {
                    let mut set = set.clone();
                    set.extend(of_prompt.iter().map(|set| format!("policy.{set}")));
                    TrainConfig::load(config, &set)?;
                }
                for (turn, seed) in seeds.iter().enumerate() {
                    let mut set = set.clone();
                    set.push(format!("seed={seed}"));
                    let folder = self.out.join(dataset).join(policy);
                    let row = Row {
                        folder: folder.join(format!("seed-{seed}")),
                        resolved: TrainConfig::load(config, &set)?,
                        config: config.clone(),
                        set,
                        evaluations: evaluations.clone(),
                        evaluation: self.evaluation,
                    };
                    rows.push((turn, row));
                }
            }
        }
        rows.sort_by_key(|(turn, _)| *turn);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// One training of a sweep and its evaluations.
#[derive(Clone, Debug)]
pub struct Row {
    /// The run folder.
    pub folder: Utf8PathBuf,
    config: Utf8PathBuf,
    set: Vec<String>,
    resolved: TrainConfig,
    /// File name in the run folder, and inference settings.
    evaluations: Vec<(String, Vec<String>)>,
    evaluation: SweepEvaluation,
}

/// What is left to do for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Train from the start.
    Train,
    /// Go on with a training that was interrupted.
    Resume,
    /// Only evaluate.
    Evaluate,
    /// Nothing.
    Nothing,
}

impl Row {
    /// What is left to do.
    ///
    /// # Errors
    /// [`FlowError::Mismatch`] if the run in the folder has another configuration; [`FlowError::File`] if it has to train and
    /// there is no dataset.
    pub fn todo(&self) -> Result<Todo, FlowError> {
        let todo = self.unfinished()?;
        let dataset = &self.resolved.dataset;
        if matches!(todo, Todo::Train | Todo::Resume) && !dataset.is_file() {
            return Err(FlowError::File {
                reason: "there is no such dataset".to_owned(),
                path: dataset.clone(),
            });
        }
        Ok(todo)
    }

    fn unfinished(&self) -> Result<Todo, FlowError> {
        let config = self.folder.join(CONFIG_FILE);
        if !config.is_file() {
            return Ok(Todo::Train);
        }
        let old = TrainConfig::load::<&str>(&config, &[])?;
        let mut differences = old.conflicts_with(&self.resolved);
        if old.steps > self.resolved.steps {
            differences.push(format!(
                "`steps`: {} and {}",
                old.steps, self.resolved.steps
            ));
        }
        if !differences.is_empty() {
            return Err(FlowError::Mismatch {
                what: "a run that is there already has another configuration",
                left: self.folder.to_string(),
                right: differences.join(", "),
            });
        }
        let newest = checkpoint::list(&self.folder.join(CHECKPOINTS_FOLDER))?.pop();
        let trained = match newest {
            // What is wrong with a manifest, the training tells that goes on from it.
            Some((step, path)) => {
                step >= self.resolved.steps
                    && Checkpoint::open(&path).is_ok_and(|newest| !newest.manifest.unevaluated)
            }
            None => false,
        };
        Ok(if !trained {
            Todo::Resume
        } else if self.missing_evaluations().next().is_some() {
            Todo::Evaluate
        } else {
            Todo::Nothing
        })
    }

    /// The evaluations that are not there, or were made of other episodes or tasks, of another checkpoint or with other settings.
    fn missing_evaluations(&self) -> impl Iterator<Item = &(String, Vec<String>)> {
        let SweepEvaluation { episodes, seed } = self.evaluation;
        let manifest = Checkpoint::open(&self.folder).map(|newest| newest.manifest);
        let (saved, env) =
            manifest.map_or((Table::new(), None), |m| (m.settings, Some(m.data.env)));
        let spec = env.and_then(|env| telic_envs::spec(&env).ok());
        let asked = spec.map(|spec| {
            let tasks = &spec.tasks[..spec.tasks.len().min(episodes as usize)];
            (spec.id, tasks)
        });
        self.evaluations.iter().filter(move |(file, set)| {
            let found = std::fs::read_to_string(self.folder.join(file))
                .ok()
                .and_then(|text| serde_json::from_str::<Evaluation>(&text).ok());
            let mut settings = saved.clone();
            apply_overrides(&mut settings, set, &mut Problems::new());
            let settings = flat(&settings);
            found.is_none_or(|found| {
                found.episodes != episodes as usize
                    || found.seed != seed
                    || found.goals.is_some()
                    // Files of an older version say neither.
                    || found.step.is_some_and(|step| step != self.resolved.steps)
                    || asked.is_some_and(|(env, tasks)| {
                        let names = tasks.iter().map(|task| &task.name);
                        env != found.env || !names.eq(found.tasks.iter().map(|task| &task.name))
                    })
                    // A checkpoint may be older than a setting.
                    || (!found.settings.is_empty()
                        && settings
                            .iter()
                            .any(|(key, value)| found.settings.get(key) != Some(value)))
            })
        })
    }

    /// Takes evaluations away that a longer training makes untrue.
    fn forget_evaluations(&self) -> std::io::Result<()> {
        for (file, _) in &self.evaluations {
            let path = self.folder.join(file);
            if path.is_file() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn train_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["train".to_owned(), self.config.to_string()];
        for set in &self.set {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        arguments.extend(["--out".to_owned(), self.folder.to_string()]);
        arguments
    }

    fn evaluate_arguments(&self, file: &str, set: &[String]) -> Vec<String> {
        let SweepEvaluation { episodes, seed } = self.evaluation;
        let threads = self.resolved.threads;
        let mut arguments = vec![
            "evaluate".to_owned(),
            self.folder.to_string(),
            "--episodes".to_owned(),
            episodes.to_string(),
            "--seed".to_owned(),
            seed.to_string(),
        ];
        if threads > 0 {
            arguments.extend(["--threads".to_owned(), threads.to_string()]);
        }
        for set in set {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        arguments.extend(["--out".to_owned(), self.folder.join(file).to_string()]);
        arguments
    }

    /// The commands that make this row, one per line.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = vec![command_line(&self.train_arguments())];
        commands.extend(
            self.evaluations
                .iter()
                .map(|(file, set)| command_line(&self.evaluate_arguments(file, set))),
        );
        commands
    }
}

/// `telic` with these arguments, as a shell takes it.
pub fn command_line<S: AsRef<str>>(arguments: &[S]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    let mut line = "telic".to_owned();
    for argument in arguments {
        let argument = argument.as_ref();
        line.push(' ');
        if argument.chars().all(plain) {
            line.push_str(argument);
        } else {
            line.push('\'');
            line.push_str(&argument.replace('\'', "'\\''"));
            line.push('\'');
        }
    }
    line
}

/// What happened to a row.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RowOutcome {
    /// The run folder.
    pub run: Utf8PathBuf,
    /// Whether it is trained and evaluated.
    pub done: bool,
    /// Seconds that it took now.
    pub seconds: f64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Runs what is missing of `rows`, `jobs` at a time, with `telic` as the program. A row that fails does not stop the others.
/// Calls `progress` after each row, with the number of rows that are through.
///
/// # Errors
/// [`FlowError::Mismatch`] if a run in the way has another configuration: nothing has run then.
pub fn run(
    rows: &[Row],
    telic: &Utf8Path,
    jobs: usize,
    stop: &AtomicBool,
    progress: impl Fn(usize, &RowOutcome) + Sync,
) -> Result<Vec<RowOutcome>, FlowError> {
    for row in rows {
        row.todo()?;
    }
    let (next, through) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let outcomes: Vec<Mutex<Option<RowOutcome>>> = rows.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, rows.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(row) = rows.get(index).filter(|_| !stop.load(Ordering::SeqCst)) else {
                        return;
                    };
                    let started = Instant::now();
                    let result = run_row(row, telic, stop);
                    let outcome = RowOutcome {
                        run: row.folder.clone(),
                        done: result.is_ok(),
                        seconds: started.elapsed().as_secs_f64(),
                        error: result.err(),
                    };
                    progress(through.fetch_add(1, Ordering::SeqCst) + 1, &outcome);
                    *outcomes[index]
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    Ok(outcomes
        .into_iter()
        .filter_map(|outcome| {
            outcome
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        })
        .collect())
}

fn run_row(row: &Row, telic: &Utf8Path, stop: &AtomicBool) -> Result<(), String> {
    let todo = row.todo().map_err(|error| error.to_string())?;
    let mut train = row.train_arguments();
    match todo {
        Todo::Nothing => return Ok(()),
        Todo::Evaluate => {}
        Todo::Train => run_child(telic, &train, stop)?,
        Todo::Resume => {
            row.forget_evaluations()
                .map_err(|error| format!("cannot remove an old evaluation: {error}"))?;
            train.push("--resume".to_owned());
            run_child(telic, &train, stop)?;
        }
    }
    for (file, set) in row.missing_evaluations() {
        run_child(telic, &row.evaluate_arguments(file, set), stop)?;
    }
    Ok(())
}

/// Waits for a command; asks it to stop when `stop` is set.
fn run_child(telic: &Utf8Path, arguments: &[String], stop: &AtomicBool) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("cannot run {telic}: {error}");
    let mut messages = tempfile::tempfile().map_err(fail)?;
    let mut child = Command::new(telic)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(messages.try_clone().map_err(fail)?)
        .spawn()
        .map_err(fail)?;
    let mut asked = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(fail)? {
            break status;
        }
        if stop.load(Ordering::SeqCst) && !asked {
            asked = true;
            ask_to_stop(&mut child);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(());
    }
    if status.code() == Some(i32::from(STOPPED_EXIT_CODE)) {
        return Err("stopped".to_owned());
    }
    let mut text = String::new();
    let read = std::io::Seek::rewind(&mut messages)
        .and_then(|()| std::io::Read::read_to_string(&mut messages, &mut text));
    let text = text.trim();
    Err(if read.is_err() || text.is_empty() {
        format!("{} ended with {status}", command_line(arguments))
    } else {
        text.to_owned()
    })
}

#[cfg(unix)]
fn ask_to_stop(child: &mut Child) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    // It may be gone already.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
}

#[cfg(not(unix))]
fn ask_to_stop(child: &mut Child) {
    let _ = child.kill();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        (temp, path)
    }

    fn write(path: &Utf8Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_row_is_two_plain_commands() {
        let (_temp, folder) = folder();
        let (data, config, file) = (
            folder.join("maze play.npz"),
            folder.join("gcivl.toml"),
            folder.join("sweep.toml"),
        );
        write(&config, "steps = 10\n[policy]\nid = 'gcivl'\n");
        write(
            &file,
            &format!(
                "out = 'runs/table'\nseeds = [3]\nset = ['threads=1']\n[evaluation]\nepisodes = 10\n\
                 [datasets]\nmaze = '{data}'\n[policies]\ngcivl = '{config}'\n\
                 [[overrides]]\npolicies = ['gcivl']\nset = ['policy.alpha=3.0']\nseeds = [3, 4]\n\
                 [[overrides]]\ndatasets = []\nset = ['steps=99']\nseeds = [8]\n\
                 [prompts.gcivl]\nwarm = ['inference.temperature=0.5']\n"
            ),
        );
        let rows = SweepConfig::load(&file).unwrap().rows().unwrap();
        let folders: Vec<&str> = rows.iter().map(|row| row.folder.as_str()).collect();
        assert_eq!(
            folders,
            [
                "runs/table/maze/gcivl/seed-3",
                "runs/table/maze/gcivl/seed-4"
            ]
        );
        assert_eq!(rows[0].resolved.steps, 10);
        assert_eq!(rows[1].resolved.seed, 4);
        assert_eq!(
            rows[0].commands(),
            [
                format!(
                    "telic train {config} --set threads=1 --set policy.alpha=3.0 --set 'dataset={data}' --set seed=3 \
                     --out runs/table/maze/gcivl/seed-3"
                ),
                "telic evaluate runs/table/maze/gcivl/seed-3 --episodes 10 --seed 1000 --threads 1 \
                 --out runs/table/maze/gcivl/seed-3/evaluation.json"
                    .to_owned(),
                "telic evaluate runs/table/maze/gcivl/seed-3 --episodes 10 --seed 1000 --threads 1 \
                 --set inference.temperature=0.5 --out runs/table/maze/gcivl/seed-3/evaluation-warm.json"
                    .to_owned(),
            ]
        );
        let error = rows[0].todo().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("there is no such dataset\nin {data}"),
            "only what has to train needs its data"
        );
        write(&data, "");
        assert_eq!(rows[0].todo().unwrap(), Todo::Train);
    }

    #[test]
    fn every_mistake_of_a_file_is_named() {
        let (_temp, folder) = folder();
        let file = folder.join("sweep.toml");
        write(
            &file,
            "outt = 'x'\nseeds = []\n[datasets]\nmaze = 'a.npz'\n[policies]\n'../qrl' = 'qrl.toml'\n\
             [[overrides]]\ndatasets = ['mazes']\nseeds = []\n[evaluation]\nepisodes = 0\n",
        );
        let text = SweepConfig::load(&file).unwrap_err().to_string();
        for part in [
            "outt",
            "`out`",
            "`seeds` is 0; expected at least one",
            "did you mean `maze`?",
            "`overrides.0.seeds` is 0; expected at least one",
            "../qrl",
            "`evaluation.episodes` is 0",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_run_with_another_configuration_is_not_taken_for_a_row() {
        let (_temp, folder) = folder();
        let (data, config) = (folder.join("d.npz"), folder.join("gcbc.toml"));
        write(&data, "");
        write(&config, "steps = 10\n");
        let sweep = SweepConfig {
            out: folder.join("out"),
            seeds: vec![0],
            datasets: BTreeMap::from([("d".to_owned(), data)]),
            policies: BTreeMap::from([("gcbc".to_owned(), config)]),
            ..SweepConfig::default()
        };
        let rows = sweep.rows().unwrap();
        std::fs::create_dir_all(&rows[0].folder).unwrap();
        let mut other = rows[0].resolved.clone();
        other.batch_size = 7;
        write(&rows[0].folder.join(CONFIG_FILE), &other.to_toml());
        let error = run(
            &rows,
            Utf8Path::new("telic"),
            1,
            &AtomicBool::new(false),
            |_, _| panic!("nothing may run"),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("`batch_size`: 7 and 256"), "{error}");
    }
}
