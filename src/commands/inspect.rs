//! `telic inspect`: what a dataset, a checkpoint, an expert or a recording holds.

use std::collections::BTreeMap;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use telic::FlowError;
use telic::expert::{EVALUATION_FILE, WEIGHTS_FILE};
use telic_datasets::{ColumnStatistics, Dataset, Summary};
use telic_policies::online::OnlineConfig;
use telic_policies::run_folder::CONFIG_FILE;
use telic_policies::{TensorMap, tensor_file};
use telic_viz::{TimelineSummary, inspect_recording};

use super::Outcome;
use crate::Context;
use crate::output::{print_json, print_table};

/// Show what a dataset (.npz), a run folder, a checkpoint, an expert or a recording (.rrd) holds.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic inspect block-push.npz\n  telic inspect runs/beso\n  telic inspect runs/beso/run.rrd"
)]
pub(crate) struct Args {
    /// Dataset (.npz), folder of a run, a checkpoint or an expert, tensors (.safetensors), or recording (.rrd).
    path: Utf8PathBuf,
}

#[derive(Serialize)]
struct DatasetReport<'a> {
    env: &'a str,
    seed: Option<u64>,
    demonstrator: &'a str,
    generator: &'a str,
    #[serde(flatten)]
    summary: Summary,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let path = &args.path;
    if path.is_dir() {
        if path.join(WEIGHTS_FILE).is_file() {
            inspect_expert(path, context)?;
        } else {
            inspect_run(path, context)?;
        }
    } else {
        match path.extension() {
            Some("rrd") => show_recording(path, context)?,
            Some("safetensors") => {
                let tensors = load_tensors(path)?;
                let tensors = tensor_rows(&tensors);
                if context.json {
                    print_json(&tensors);
                } else {
                    println!("{path}");
                    print_tensors(&tensors);
                }
            }
            _ => inspect_dataset(path, context)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect_dataset(path: &Utf8Path, context: &Context) -> Result<(), FlowError> {
    let dataset = Dataset::load(path)?;
    let metadata = dataset.metadata();
    let report = DatasetReport {
        env: &metadata.env,
        seed: metadata.seed,
        demonstrator: &metadata.demonstrator,
        generator: &metadata.generator,
        summary: dataset.summary(),
    };
    if context.json {
        print_json(&report);
        return Ok(());
    }
    let summary = &report.summary;
    let unknown = |text: &str| {
        if text.is_empty() {
            "unknown".to_owned()
        } else {
            text.to_owned()
        }
    };
    println!("{path}");
    println!("environment   {}", unknown(report.env));
    println!("made by       {}", unknown(report.generator));
    println!("demonstrator  {}", unknown(report.demonstrator));
    println!(
        "seed          {}",
        report
            .seed
            .map_or("unknown".to_owned(), |seed| seed.to_string())
    );
    println!("episodes      {}", summary.episodes);
    println!("transitions   {}", summary.transitions);
    println!(
        "lengths       {} to {}, median {}",
        summary.lengths.min, summary.lengths.max, summary.lengths.median
    );
    if let Some(successes) = summary.successes {
        println!("successes     {successes}");
    }
    println!();
    print_columns(
        "observation",
        &metadata.observation_names,
        &summary.observations,
    );
    println!();
    print_columns("action", &metadata.action_names, &summary.actions);
    Ok(())
}

#[derive(Serialize)]
struct CheckpointReport<'a> {
    checkpoint: &'a Utf8Path,
    env: &'a str,
    policy: &'a str,
    step: u64,
    seed: u64,
    parameters: usize,
    observation_dim: usize,
    action_dim: usize,
    episodes: usize,
    transitions: usize,
    dataset: &'a str,
    telic_version: &'a str,
    settings: &'a toml::Table,
    metrics: &'a BTreeMap<String, f64>,
    tensors: Vec<Tensor>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: String,
}

fn inspect_run(path: &Utf8Path, context: &Context) -> Result<(), FlowError> {
    let summary = telic_policies::inspect_checkpoint(path)?;
    let manifest = &summary.checkpoint.manifest;
    let report = CheckpointReport {
        checkpoint: &summary.checkpoint.path,
        env: &manifest.data.env,
        policy: &manifest.policy,
        step: manifest.step,
        seed: manifest.seed,
        parameters: manifest.parameters,
        observation_dim: manifest.data.observation_dim,
        action_dim: manifest.data.action_dim,
        episodes: manifest.dataset.episodes,
        transitions: manifest.dataset.transitions,
        dataset: &manifest.dataset.path,
        telic_version: &manifest.telic_version,
        settings: &manifest.settings,
        metrics: &manifest.metrics,
        tensors: summary
            .tensors
            .iter()
            .map(|(name, shape)| Tensor {
                name: name.clone(),
                shape: shape.clone(),
            })
            .collect(),
    };
    if context.json {
        print_json(&report);
        return Ok(());
    }
    println!("{}", report.checkpoint);
    println!(
        "policy        {}, {} parameters, {} updates",
        report.policy, report.parameters, report.step
    );
    println!("seed          {}", report.seed);
    println!("environment   {}", report.env);
    println!("observation   {} entries", report.observation_dim);
    println!("action        {} entries", report.action_dim);
    println!(
        "trained on    {} ({} episodes, {} transitions)",
        report.dataset, report.episodes, report.transitions
    );
    println!("made by       telic {}", report.telic_version);
    if !report.settings.is_empty() {
        println!(
            "\ninference settings, for `telic evaluate --set`:\n{}",
            report.settings
        );
    }
    let rows: Vec<_> = report
        .metrics
        .iter()
        .map(|(name, value)| vec![name.clone(), format!("{value:.5}")])
        .collect();
    print_table(&["metric", "value"], &rows);
    println!();
    print_tensors(&report.tensors);
    Ok(())
}

#[derive(Serialize)]
struct ExpertSummary<'a> {
    expert: &'a Utf8Path,
    task: &'a str,
    seed: u64,
    steps: u64,
    evaluation: serde_json::Value,
    tensors: Vec<Tensor>,
}

fn inspect_expert(path: &Utf8Path, context: &Context) -> Result<(), FlowError> {
    let config = OnlineConfig::load::<&str>(&path.join(CONFIG_FILE), &[])?;
    let evaluation = path.join(EVALUATION_FILE);
    let evaluation = read(&evaluation).and_then(|bytes| {
        serde_json::from_slice(&bytes).map_err(|error| FlowError::File {
            path: evaluation,
            reason: error.to_string(),
        })
    })?;
    let report = ExpertSummary {
        expert: path,
        task: &config.task,
        seed: config.seed,
        steps: config.steps,
        evaluation,
        tensors: tensor_rows(&load_tensors(&path.join(WEIGHTS_FILE))?),
    };
    if context.json {
        print_json(&report);
        return Ok(());
    }
    println!("{path}");
    println!("expert for    {}", report.task);
    println!("seed          {}", report.seed);
    println!("steps         {} of the whole training", report.steps);
    println!("\nlast evaluation:\n{:#}\n", report.evaluation);
    print_tensors(&report.tensors);
    Ok(())
}

#[derive(Serialize)]
struct RecordingReport<'a> {
    application: &'a str,
    timelines: BTreeMap<&'a str, Timeline>,
    entities: BTreeMap<&'a str, Entity<'a>>,
    views: Vec<&'a str>,
}

/// Of a sequence numbers, of a duration or timestamp nanoseconds.
#[derive(Serialize)]
struct Timeline {
    kind: &'static str,
    first: i64,
    last: i64,
}

#[derive(Serialize)]
struct Entity<'a> {
    components: Vec<&'a str>,
    static_rows: usize,
    temporal_rows: usize,
}

fn show_recording(path: &Utf8Path, context: &Context) -> Result<(), FlowError> {
    let summary = inspect_recording(path)?;
    let report = RecordingReport {
        application: &summary.application,
        timelines: summary
            .timelines
            .iter()
            .map(|(name, &TimelineSummary { kind, first, last })| {
                (name.as_str(), Timeline { kind, first, last })
            })
            .collect(),
        entities: summary
            .entities
            .iter()
            .map(|(name, entity)| {
                let entity = Entity {
                    components: entity.components.iter().map(String::as_str).collect(),
                    static_rows: entity.static_rows,
                    temporal_rows: entity.temporal_rows,
                };
                (name.as_str(), entity)
            })
            .collect(),
        views: summary.views.iter().map(String::as_str).collect(),
    };
    if context.json {
        print_json(&report);
        return Ok(());
    }
    println!("{path}");
    println!("application   {}", report.application);
    println!("views         {}\n", report.views.join(", "));
    let rows: Vec<_> = report
        .timelines
        .iter()
        .map(|(name, timeline)| {
            let value = |of: i64| match timeline.kind {
                "duration" => format!("{} s", of as f64 * 1e-9),
                _ => of.to_string(),
            };
            vec![
                (*name).to_owned(),
                value(timeline.first),
                value(timeline.last),
            ]
        })
        .collect();
    print_table(&["timeline", "first", "last"], &rows);
    println!();
    let rows: Vec<_> = report
        .entities
        .iter()
        .map(|(name, entity)| {
            vec![
                (*name).to_owned(),
                entity.static_rows.to_string(),
                entity.temporal_rows.to_string(),
            ]
        })
        .collect();
    print_table(&["entity", "rows without a time", "with one"], &rows);
    Ok(())
}

fn read(path: &Utf8Path) -> Result<Vec<u8>, FlowError> {
    std::fs::read(path).map_err(|error| FlowError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn load_tensors(path: &Utf8Path) -> Result<TensorMap, FlowError> {
    tensor_file::from_bytes(&read(path)?).map_err(|error| FlowError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn tensor_rows(tensors: &TensorMap) -> Vec<Tensor> {
    tensors
        .iter()
        .map(|(name, tensor)| Tensor {
            name: name.to_owned(),
            shape: tensor.describe(),
        })
        .collect()
}

fn print_tensors(tensors: &[Tensor]) {
    let rows: Vec<_> = tensors
        .iter()
        .map(|tensor| vec![tensor.name.clone(), tensor.shape.clone()])
        .collect();
    print_table(&["tensor", ""], &rows);
}

fn print_columns(title: &str, names: &[String], columns: &[ColumnStatistics]) {
    let rows: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            vec![
                names.get(index).cloned().unwrap_or_default(),
                index.to_string(),
                format!("{:.4}", column.mean),
                format!("{:.4}", column.std),
                format!("{:.4}", column.min),
                format!("{:.4}", column.max),
            ]
        })
        .collect();
    print_table(&[title, "index", "mean", "std", "min", "max"], &rows);
}
