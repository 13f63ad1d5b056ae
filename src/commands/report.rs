//! `telic report`: runs as one table.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use telic::FlowError;
use telic::report::{ReportRow, Run, find_runs, report};
use telic_viz::{RecordingTarget, RunCurve, record_curves};

use super::Outcome;
use crate::Context;
use crate::output::{percent, print_json, print_table};

/// Put runs into one table, pooled over seeds: those in folders `seed-N` side by side are one row.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  telic report runs/table\n  telic report runs/table --tasks --format markdown\n  \
                        telic report runs/beso-0 runs/beso-1 --last 3\n  \
                        telic report runs/table --curves curves.rrd"
)]
pub(crate) struct Args {
    /// Run folders, or folders that hold some.
    #[arg(required = true)]
    paths: Vec<Utf8PathBuf>,
    /// Average the last N evaluations during training, in place of the one behind it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// A column per task.
    #[arg(long)]
    tasks: bool,
    /// What the table is written as; `--json` prints everything as JSON.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Record the curves of a metric over training for rerun.
    #[arg(long, value_name = "FILE")]
    curves: Option<Utf8PathBuf>,
    /// The metric of the curves.
    #[arg(long, default_value = "evaluation/success_rate")]
    metric: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Columns for people.
    Text,
    /// A Markdown table.
    Markdown,
    /// Comma-separated values, rates from 0 to 1.
    Csv,
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let runs = find_runs(&args.paths)?;
    if let Some(path) = &args.curves {
        curves(&runs, &args.metric, path)?;
    }
    let (rows, missing) = report(&runs, args.last.map(|last| last as usize))?;
    if context.json {
        print_json(&rows);
    } else if rows.is_empty() && args.curves.is_none() {
        return Err(FlowError::Argument {
            name: "paths",
            value: format!("{} runs without an evaluation", runs.len()),
            expected: "runs that `telic evaluate` has measured, or with `--last` ones that were evaluated during training"
                .to_owned(),
        });
    } else {
        match args.format {
            Format::Text => text(&rows, args.tasks),
            Format::Markdown => markdown(&rows, args.tasks),
            Format::Csv => csv(&rows),
        }
    }
    for folder in missing {
        eprintln!("not evaluated: {folder}");
    }
    Ok(ExitCode::SUCCESS)
}

fn curves(runs: &[Run], metric: &str, path: &Utf8PathBuf) -> Result<(), FlowError> {
    let curves: Vec<RunCurve> = runs
        .iter()
        .map(|run| RunCurve {
            group: run.dataset().to_owned(),
            row: run.row.clone(),
            seed: run.config.seed,
            metrics: run.folder.join(telic_policies::run_folder::METRICS_FILE),
        })
        .collect();
    let recorded = record_curves(&curves, metric, RecordingTarget::File(path.clone()))?;
    eprintln!("{recorded} curves in {path}");
    Ok(())
}

/// Header and cells of the table.
fn cells(rows: &[ReportRow], tasks: bool) -> (Vec<String>, Vec<Vec<String>>) {
    let mut header: Vec<String> = [
        "dataset",
        "policy",
        "success [95 %]",
        "seeds",
        "episodes",
        "updates",
    ]
    .map(str::to_owned)
    .to_vec();
    let several = rows.iter().any(|row| row.seeds.len() > 1);
    if several {
        header.insert(3, "± seeds".to_owned());
    }
    let mut names: Vec<&str> = vec![];
    for name in rows
        .iter()
        .flat_map(|row| row.tasks.iter().map(|task| task.name.as_str()))
    {
        if tasks && !names.contains(&name) {
            names.push(name);
        }
    }
    let mut metrics: Vec<&str> = vec![];
    for name in rows.iter().flat_map(|row| row.metrics.keys()) {
        if !metrics.contains(&name.as_str()) {
            metrics.push(name);
        }
    }
    header.extend(names.iter().chain(&metrics).map(|name| (*name).to_owned()));
    // Rates on other episodes are not to be compared without a word.
    let alike = rows.iter().all(|row| {
        let mut of_dataset = rows.iter().filter(|other| other.dataset == row.dataset);
        of_dataset.all(|other| other.measured_on == row.measured_on)
    });
    if !alike {
        header.push("measured on".to_owned());
    }
    let body = rows
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.dataset.clone(),
                row.name.clone(),
                percent(row.success_rate, row.ci95),
            ];
            if several {
                cells.push(
                    row.std
                        .map_or(String::new(), |std| format!("{:.1}", 100.0 * std)),
                );
            }
            cells.extend([
                row.seeds.len().to_string(),
                row.episodes.to_string(),
                format!("{} × {}", row.updates, row.batch_size),
            ]);
            cells.extend(names.iter().map(|name| {
                let task = row.tasks.iter().find(|task| task.name == *name);
                task.map_or(String::new(), |task| {
                    format!("{:.0}", 100.0 * task.success_rate)
                })
            }));
            cells.extend(metrics.iter().map(|name| {
                let value = row.metrics.get(*name);
                value.map_or(String::new(), |value| format!("{value:.3}"))
            }));
            if !alike {
                cells.push(row.measured_on.clone());
            }
            cells
        })
        .collect();
    (header, body)
}

fn text(rows: &[ReportRow], tasks: bool) {
    let (header, body) = cells(rows, tasks);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    print_table(&header, &body);
}

fn markdown(rows: &[ReportRow], tasks: bool) {
    let (header, body) = cells(rows, tasks);
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |", cells.join(" | "))
    };
    println!("{}", line(&header));
    println!("|---|---|{}", "---:|".repeat(header.len() - 2));
    for row in &body {
        println!("{}", line(row));
    }
}

/// One line per task, and one over all.
fn csv(rows: &[ReportRow]) {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        dataset: &'a str,
        policy: &'a str,
        task: &'a str,
        success_rate: f64,
        ci95_low: f64,
        ci95_high: f64,
        episodes: usize,
        seeds: usize,
        updates: u64,
        batch_size: usize,
        measured_on: &'a str,
    }

    let mut writer = csv::Writer::from_writer(vec![]);
    for row in rows {
        let of_tasks = row.tasks.iter().map(|task| {
            (
                task.name.as_str(),
                task.success_rate,
                task.ci95,
                task.episodes,
            )
        });
        let of_all = ("all", row.success_rate, row.ci95, row.episodes);
        for (task, success_rate, ci95, episodes) in of_tasks.chain([of_all]) {
            let line = Line {
                dataset: &row.dataset,
                policy: &row.name,
                task,
                success_rate,
                ci95_low: ci95.0,
                ci95_high: ci95.1,
                episodes,
                seeds: row.seeds.len(),
                updates: row.updates,
                batch_size: row.batch_size,
                measured_on: &row.measured_on,
            };
            writer.serialize(line).expect("a line is text and numbers");
        }
    }
    let bytes = writer.into_inner().expect("memory takes everything");
    print!("{}", String::from_utf8_lossy(&bytes));
}
