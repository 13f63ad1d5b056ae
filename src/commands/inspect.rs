//! `telic inspect`: what a dataset or a checkpoint holds.

use std::collections::BTreeMap;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use telic::FlowError;
use telic_datasets::{ColumnStatistics, Dataset, Summary};

use super::Outcome;
use crate::Context;
use crate::output::{print_json, print_table};

/// Show what a dataset (.npz), a run folder or a checkpoint holds.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  telic inspect block-push.npz\n  telic inspect runs/beso")]
pub(crate) struct Args {
    /// Dataset, run folder or checkpoint folder.
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
    if args.path.is_dir() {
        inspect_run(&args.path, context)?;
        return Ok(ExitCode::SUCCESS);
    }
    let dataset = Dataset::load(&args.path)?;
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
        return Ok(ExitCode::SUCCESS);
    }
    let summary = &report.summary;
    let unknown = |text: &str| {
        if text.is_empty() {
            "unknown".to_owned()
        } else {
            text.to_owned()
        }
    };
    println!("{}", args.path);
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
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct CheckpointReport<'a> {
    checkpoint: &'a Utf8Path,
    env: &'a str,
    policy: &'a str,
    step: u64,
    parameters: usize,
    observation_dim: usize,
    action_dim: usize,
    episodes: usize,
    transitions: usize,
    dataset: &'a str,
    telic_version: &'a str,
    settings: &'a toml::Table,
    metrics: &'a BTreeMap<String, f64>,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    shape: &'a str,
}

fn inspect_run(path: &Utf8Path, context: &Context) -> Result<(), FlowError> {
    let summary = telic_policies::inspect_checkpoint(path)?;
    let manifest = &summary.checkpoint.manifest;
    let report = CheckpointReport {
        checkpoint: &summary.checkpoint.path,
        env: &manifest.data.env,
        policy: &manifest.policy,
        step: manifest.step,
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
            .map(|(name, shape)| Tensor { name, shape })
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
    let rows: Vec<_> = summary
        .tensors
        .iter()
        .map(|(name, shape)| vec![name.clone(), shape.clone()])
        .collect();
    print_table(&["tensor", ""], &rows);
    Ok(())
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
