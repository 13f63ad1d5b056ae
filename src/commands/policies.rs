//! `telic policies`: what can be trained, and a configuration to begin with.

use std::process::ExitCode;

use serde::Serialize;
use telic_policies::config::PolicyTable;
use telic_policies::{PolicySpec, TrainConfig};

use super::Outcome;
use crate::Context;
use crate::output::{print_json, print_table};

/// List the policies, or print the configuration of one with every key at its default.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  telic policies\n  telic policies hilp > hilp.toml")]
pub(crate) struct Args {
    /// Policy whose configuration is printed.
    id: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    summary: &'a str,
    paper: &'a str,
    default_config: toml::Table,
}

fn row(spec: &PolicySpec) -> Row<'_> {
    Row {
        id: spec.id,
        name: spec.name,
        summary: spec.summary,
        paper: spec.paper,
        default_config: (spec.default_config)(),
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let Some(id) = &args.id else {
        let rows: Vec<_> = telic_policies::specs().iter().map(row).collect();
        if context.json {
            print_json(&rows);
        } else {
            let cells = |row: &Row<'_>| [row.id, row.summary, row.paper].map(str::to_owned).into();
            let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
            print_table(&["policy", "", ""], &rows);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let spec = telic_policies::spec(id).map_err(|unknown| telic::FlowError::Argument {
        name: "policy",
        value: id.clone(),
        expected: format!("one of: {}", unknown.known),
    })?;
    if context.json {
        print_json(&row(spec));
        return Ok(ExitCode::SUCCESS);
    }
    let config = TrainConfig {
        dataset: "data.npz".into(),
        policy: PolicyTable {
            id: spec.id.to_owned(),
            settings: (spec.default_config)(),
        },
        ..TrainConfig::default()
    };
    println!("# {}: {}\n# {}", spec.name, spec.summary, spec.paper);
    print!("{}", config.to_toml());
    Ok(ExitCode::SUCCESS)
}
