//! `telic evaluate`: success of a trained policy.

use std::process::ExitCode;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::{Array2, Axis};
use telic::FlowError;
use telic::evaluate::{
    EvaluateConfig, Evaluation, check_target, environment, evaluate, evaluate_rewards, threads,
};
use telic::returns::{LABELS, LabelledStates, PromptedReturns, draw_states, prompted_returns};
use telic_datasets::Dataset;
use telic_envs::EnvSpec;
use telic_policies::config_table::{apply_overrides, flat};
use telic_policies::{Checkpoint, Device, Manifest, Policy, PolicyError, Problems, Threads};
use telic_seed::Seed;

use super::Outcome;
use crate::Context;
use crate::output::{percent, print_json, print_prompted_returns, print_table, progress_bar};

/// Measure the newest checkpoint of a run, or a given one, on the tasks of its environment. Writes `evaluation.json` into the folder.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic evaluate runs/beso --episodes 100\n  \
                        telic evaluate runs/beso --set sampler.steps=5\n  \
                        telic evaluate runs/beso --goals block-push.npz\n  \
                        telic evaluate runs/hilp --prompt plan\n  \
                        telic evaluate runs/hilp-walker --rewards --episodes 20"
)]
pub(crate) struct Args {
    /// Run folder or checkpoint folder.
    path: Utf8PathBuf,
    /// Environment; the one of the run by default.
    #[arg(long)]
    env: Option<String>,
    /// Episodes in all, dealt out over the tasks.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of worlds and policy.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only these tasks, by name.
    #[arg(long = "task")]
    tasks: Vec<String>,
    /// Dataset whose episodes end where the policy is asked to go, in turn, in place of the goals of the tasks; block-push only.
    #[arg(long, value_name = "DATASET")]
    goals: Option<Utf8PathBuf>,
    /// Worlds stepped side by side; with `--rewards` there is one for each episode.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "rewards")]
    worlds: u32,
    /// Threads of worlds and networks; all by default. Does not change the result.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Where the networks run: `cpu` or `cuda`.
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// What the policy is given: `goal`, the goal of each task (every policy); `search`, way-points on the shortest path to it through the
    /// data (HILP, QRL); `plan`, way-points of a plan in latent space (HILP); `reward`, 1 for observations at the goal and 0 for others (HILP).
    #[arg(long, value_enum, conflicts_with = "goals", group = "prompted")]
    prompt: Option<Prompt>,
    /// Tell the policy each named reward of the environment in turn, and report what it earns of it; for HILP.
    #[arg(long, conflicts_with_all = ["goals", "tasks"], group = "prompted")]
    rewards: bool,
    /// Dataset whose observations are labelled for `--prompt reward` and `--rewards`; that of the training by default.
    #[arg(long, value_name = "DATASET", requires = "prompted")]
    labelled: Option<Utf8PathBuf>,
    /// How many of its observations are labelled.
    #[arg(long, default_value_t = LABELS as u32, requires = "prompted", value_parser = clap::value_parser!(u32).range(2..))]
    labels: u32,
    /// Inference setting of the policy, for example `sampler.steps=5`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to write the result; by default `evaluation.json` in the run folder, and for what is asked in another way (a prompt, another
    /// environment, goals of a dataset, single tasks, settings) `evaluation-….json` with that in its name; with `--rewards` `rewards.json`.
    #[arg(long)]
    out: Option<Utf8PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Prompt {
    Goal,
    Plan,
    Search,
    Reward,
}

impl Args {
    /// The file of a result: what is asked in another way does not replace what the run as it is came to.
    fn result_file(&self, now: &toml::Table, run: &Manifest) -> String {
        let kind = |settings: &toml::Table| {
            let kind = settings.get("prompt")?.get("kind")?.as_str()?;
            Some(kind.to_owned())
        };
        let prompt = match (self.prompt, kind(now)) {
            (Some(Prompt::Reward), _) => Some("reward".to_owned()),
            (_, now) => now.filter(|now| Some(now) != kind(&run.settings).as_ref()),
        };
        let env = self.env.clone().filter(|env| *env != run.data.env);
        let goals = self.goals.as_ref().map(|_| "goals".to_owned());
        let of_run = flat(&run.settings);
        let changed = flat(now)
            .into_iter()
            .filter(|(key, value)| key != "prompt.kind" && of_run.get(key) != Some(value))
            .map(|(key, value)| format!("{key}={value}").replace(['/', '\\'], "_"));
        let parts = ["evaluation".to_owned()]
            .into_iter()
            .chain(prompt)
            .chain(env)
            .chain(goals)
            .chain(self.tasks.iter().cloned())
            .chain(changed);
        parts.collect::<Vec<_>>().join("-") + ".json"
    }
}

impl Args {
    fn threads(&self) -> usize {
        self.threads
            .map_or_else(threads, |threads| threads as usize)
    }

    /// Where the result goes; its folder is made if it is not there, before anything is measured.
    fn prepare_out(&self, default: &str) -> Result<Utf8PathBuf, FlowError> {
        let out = self.out.clone().unwrap_or_else(|| self.path.join(default));
        check_target(&out)?;
        let folder = out.parent().unwrap_or(Utf8Path::new(""));
        std::fs::create_dir_all(folder).map_err(|error| FlowError::File {
            reason: error.to_string(),
            path: folder.to_owned(),
        })?;
        Ok(out)
    }

    /// Nothing is labelled where no reward is prompted.
    fn check_labels(&self) -> Result<(), FlowError> {
        if self.rewards || self.prompt == Some(Prompt::Reward) {
            return Ok(());
        }
        match &self.labelled {
            None => Ok(()),
            Some(path) => Err(FlowError::Argument {
                name: "labelled",
                value: path.to_string(),
                expected: "`--prompt reward` or `--rewards` with it".to_owned(),
            }),
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    args.check_labels()?;
    let checkpoint = Checkpoint::open(&args.path)?;
    let mut policy = checkpoint.policy(args.device)?;
    let mut set = args.set.clone();
    match args.prompt {
        // Every policy takes goals; only one with prompts has to be told.
        Some(Prompt::Goal) if policy.settings().contains_key("prompt") => {
            set.push("prompt.kind=goal".to_owned());
        }
        Some(Prompt::Plan | Prompt::Search) if !policy.settings().contains_key("prompt") => {
            return Err(FlowError::Argument {
                name: "prompt",
                value: "`plan` or `search`".to_owned(),
                expected: format!(
                    "`goal`, since `{}` takes goals only",
                    checkpoint.manifest.policy
                ),
            });
        }
        Some(Prompt::Plan) => set.push("prompt.kind=plan".to_owned()),
        Some(Prompt::Search) => set.push("prompt.kind=search".to_owned()),
        Some(Prompt::Goal | Prompt::Reward) | None => {}
    }
    policy.configure(&overrides_table(&set)?)?;
    let of_run = &checkpoint.manifest.data.env;
    let spec = environment(args.env.as_deref(), of_run)?;
    let tasks = args
        .tasks
        .iter()
        .map(|name| telic::evaluate::task_index(spec, name))
        .collect::<Result<Vec<_>, FlowError>>()?;
    tell_other_version(&checkpoint.manifest, spec);
    if args.rewards {
        return earn(args, context, policy.as_mut(), spec, &checkpoint.manifest);
    }
    let out = args.prepare_out(&args.result_file(&policy.settings(), &checkpoint.manifest))?;
    let final_observations = match &args.goals {
        Some(path) => Dataset::load(path)?.final_observations(),
        None => Vec::new(),
    };
    let config = EvaluateConfig {
        episodes: args.episodes as usize,
        seed: args.seed,
        worlds: args.worlds as usize,
        threads: args.threads(),
        tasks,
        final_observations,
    };
    let bar = progress_bar(u64::from(args.episodes), "episodes");
    let show = |episodes: usize, successes: usize| {
        bar.set_position(episodes as u64);
        bar.set_message(format!("{successes} with success"));
    };
    let (policy, stop) = (policy.as_mut(), &context.stop);
    let outcome = if args.prompt == Some(Prompt::Reward) {
        let labelled = args
            .labelled
            .as_deref()
            .unwrap_or(Utf8Path::new(&checkpoint.manifest.dataset.path));
        let observations = draw_observations(labelled, args.labels as usize)?;
        evaluate_rewards(policy, spec, &config, observations.view(), stop, show)
    } else {
        evaluate(policy, spec, &config, stop, show)
    };
    bar.finish_and_clear();
    let (mut evaluation, _) = outcome?;
    evaluation.step = Some(checkpoint.manifest.step);
    evaluation.goals = args.goals.as_ref().map(Utf8PathBuf::to_string);
    evaluation.command = Some(super::this_command());
    // First for the eyes: a disk that is full takes nothing away.
    if context.json {
        print_json(&evaluation);
    } else {
        print_evaluation(&evaluation);
    }
    telic::evaluate::write(&evaluation, &out)?;
    if !context.json {
        println!("\nwritten to {out}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The named rewards, one after the other.
fn earn(
    args: &Args,
    context: &Context,
    policy: &mut dyn Policy,
    spec: &'static EnvSpec,
    run: &Manifest,
) -> Outcome {
    let path = args
        .labelled
        .as_deref()
        .unwrap_or(Utf8Path::new(&run.dataset.path));
    let out = args.prepare_out("rewards.json")?;
    let dataset = Arc::new(Dataset::load(path)?);
    let (seed, labels) = (Seed::new(args.seed), args.labels as usize);
    let labelled = LabelledStates::draw(&dataset, spec, labels, seed)?;
    let bar = progress_bar(spec.rewards.len() as u64, "rewards");
    let episodes = args.episodes as usize;
    let seed = seed.child("evaluate");
    let stop = &context.stop;
    let returns = Threads::new(args.threads())?.run(|| {
        prompted_returns(policy, spec, &labelled, episodes, seed, stop, |_| {
            bar.inc(1);
        })
    });
    bar.finish_and_clear();
    let returns = PromptedReturns {
        env: spec.id.to_owned(),
        env_version: spec.version,
        episodes,
        seed: args.seed,
        step: Some(run.step),
        labels,
        labelled: path.to_string(),
        settings: flat(&policy.settings()),
        command: Some(super::this_command()),
        rewards: returns?,
    };
    if context.json {
        print_json(&returns);
    } else {
        print_prompted_returns(&returns.rewards, episodes);
    }
    telic::evaluate::write(&returns, &out)?;
    if !context.json {
        println!("\nwritten to {out}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A policy of another version of the environment is run all the same: what it learned may hold.
fn tell_other_version(run: &Manifest, spec: &EnvSpec) {
    let (of_run, now) = (run.data.env_version, spec.version);
    if run.data.env == spec.id && of_run != now {
        eprintln!(
            "note: the data of the run are of version {of_run} of `{}`, the evaluation is of version {now}",
            spec.id
        );
    }
}

/// Observations of a dataset that start a transition, each as likely as any other; the same ones at every call.
fn draw_observations(path: &Utf8Path, count: usize) -> Result<Array2<f32>, FlowError> {
    let dataset = Arc::new(Dataset::load(path)?);
    let rows = draw_states(&dataset, count, Seed::new(0))?;
    Ok(dataset.observations().select(Axis(0), &rows))
}

/// A row per task, and one over all.
pub(crate) fn print_evaluation(evaluation: &Evaluation) {
    let mut header = vec!["task", "success [95 %]", "episodes"];
    header.extend(evaluation.metrics.keys().map(String::as_str));
    let mut rows: Vec<Vec<String>> = evaluation
        .tasks
        .iter()
        .map(|task| {
            let mut row = vec![
                task.name.clone(),
                percent(task.success_rate, task.ci95),
                task.episodes.to_string(),
            ];
            row.extend(evaluation.metrics.keys().map(|name| {
                task.metrics
                    .get(name)
                    .map_or(String::new(), |value| format!("{value:.3}"))
            }));
            row
        })
        .collect();
    let mut all = vec![
        "all".to_owned(),
        percent(evaluation.success_rate, evaluation.ci95),
        evaluation.episodes.to_string(),
    ];
    all.extend(
        evaluation
            .metrics
            .values()
            .map(|value| format!("{value:.3}")),
    );
    rows.push(all);
    println!("{}, seed {}", evaluation.env, evaluation.seed);
    print_table(&header, &rows);
}

/// Reads `key.of.table=value` overrides of inference settings.
pub(crate) fn overrides_table(overrides: &[String]) -> Result<toml::Table, FlowError> {
    let (mut table, mut problems) = (toml::Table::new(), Problems::new());
    apply_overrides(&mut table, overrides, &mut problems);
    problems
        .into_result()
        .map_err(|problems| PolicyError::Settings(problems).into())
        .map(|()| table)
}
