//! `telic envs`: what there is.

use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use crate::Context;
use crate::output::{print_json, print_table};

/// List the environments, with dims, rates and tasks.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  telic envs\n  telic envs cube-single")]
pub(crate) struct Args {
    /// Show one environment entry by entry.
    id: Option<String>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    unit: &'a str,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    family: &'a str,
    version: u32,
    summary: &'a str,
    observation_dim: usize,
    action_dim: usize,
    goal_dim: usize,
    control_hz: f64,
    max_episode_steps: usize,
    tasks: Vec<&'a str>,
    demonstrators: Vec<&'a str>,
    rewards: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observation: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    action: Vec<Entry<'a>>,
}

fn row(spec: &telic_envs::EnvSpec, entries: bool) -> Row<'_> {
    Row {
        id: spec.id,
        family: spec.family,
        version: spec.version,
        summary: spec.summary,
        observation_dim: spec.observation_dim(),
        action_dim: spec.action_dim(),
        goal_dim: spec.goal_dim(),
        control_hz: spec.control_hz,
        max_episode_steps: spec.max_episode_steps,
        tasks: spec.tasks.iter().map(|task| task.name.as_str()).collect(),
        demonstrators: spec
            .demonstrators
            .iter()
            .map(|demonstrator| demonstrator.name)
            .collect(),
        rewards: spec.rewards.iter().map(|reward| reward.name).collect(),
        observation: if entries {
            spec.observation
                .iter()
                .map(|entry| Entry {
                    name: &entry.name,
                    unit: entry.unit,
                })
                .collect()
        } else {
            Vec::new()
        },
        action: if entries {
            spec.action
                .iter()
                .map(|entry| Entry {
                    name: &entry.name,
                    unit: entry.unit,
                })
                .collect()
        } else {
            Vec::new()
        },
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let specs = match &args.id {
        Some(id) => std::slice::from_ref(telic_envs::spec(id)?),
        None => telic_envs::specs(),
    };
    if context.json {
        let rows: Vec<_> = specs
            .iter()
            .map(|spec| row(spec, args.id.is_some()))
            .collect();
        print_json(&rows);
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(_), [spec]) = (&args.id, specs) {
        describe(spec);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = specs
        .iter()
        .map(|spec| {
            let row = row(spec, false);
            vec![
                row.id.to_owned(),
                row.observation_dim.to_string(),
                row.action_dim.to_string(),
                format!("{} Hz", row.control_hz),
                row.max_episode_steps.to_string(),
                row.tasks.len().to_string(),
                row.demonstrators.join(","),
            ]
        })
        .collect();
    print_table(
        &[
            "id",
            "observation",
            "action",
            "control",
            "max steps",
            "tasks",
            "demonstrators",
        ],
        &rows,
    );
    Ok(ExitCode::SUCCESS)
}

/// A bound without what it lost as a 32-bit number.
fn short(bound: f32) -> String {
    ((f64::from(bound) * 1e6).round() / 1e6).to_string()
}

fn describe(spec: &telic_envs::EnvSpec) {
    println!("{} (version {}): {}", spec.id, spec.version, spec.summary);
    println!(
        "{} Hz, at most {} steps\n",
        spec.control_hz, spec.max_episode_steps
    );
    let rows: Vec<_> = spec
        .observation
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            vec![
                entry.name.clone(),
                index.to_string(),
                entry.unit.to_owned(),
                short(entry.low),
                short(entry.high),
                if spec.goal.indices.contains(&index) {
                    "goal".to_owned()
                } else {
                    String::new()
                },
            ]
        })
        .collect();
    print_table(&["observation", "index", "unit", "low", "high", ""], &rows);
    println!();
    let rows: Vec<_> = spec
        .action
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            vec![
                entry.name.clone(),
                index.to_string(),
                match entry.unit {
                    "1" => entry.scale.to_string(),
                    unit => format!("{} {unit}", entry.scale),
                },
            ]
        })
        .collect();
    print_table(&["action", "index", "at 1"], &rows);
    println!();
    let rows: Vec<_> = spec
        .tasks
        .iter()
        .map(|task| vec![task.name.clone(), task.summary.clone()])
        .collect();
    print_table(&["task", ""], &rows);
    if !spec.rewards.is_empty() {
        println!();
        let rows = spec.rewards.iter();
        let rows: Vec<_> = rows
            .map(|reward| vec![reward.name.to_owned(), reward.summary.to_owned()])
            .collect();
        print_table(&["reward", ""], &rows);
    }
    println!();
    if spec.demonstrators.is_empty() {
        println!("no demonstrator");
        return;
    }
    let rows: Vec<_> = spec
        .demonstrators
        .iter()
        .map(|demonstrator| {
            vec![
                demonstrator.name.to_owned(),
                demonstrator.episode_steps.to_string(),
                demonstrator.summary.to_owned(),
            ]
        })
        .collect();
    print_table(&["demonstrator", "steps", ""], &rows);
}
