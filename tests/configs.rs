//! The files in `configs/`, and the published defaults that they build on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use telic::expert::Skill;
use telic::sweep::SweepConfig;
use telic_policies::online::OnlineConfig;
use telic_policies::{TrainConfig, specs};
use toml::Table;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Train,
    TrainExpert,
    Sweep,
}

impl Kind {
    /// Every file that is for this, by the keys that it has: each kind has some that the others do not know.
    fn files(self) -> Vec<Utf8PathBuf> {
        let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let entries = folder.read_dir_utf8().unwrap();
        let mut files: Vec<Utf8PathBuf> = entries
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.extension() == Some("toml"))
            .filter(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                let table: Table = toml::from_str(&text).unwrap();
                let kind = if table.contains_key("task") {
                    Self::TrainExpert
                } else if table.contains_key("policies") {
                    Self::Sweep
                } else {
                    Self::Train
                };
                kind == self
            })
            .collect();
        files.sort();
        assert!(files.len() > 1, "{self:?}: {files:?}");
        files
    }
}

#[test]
fn every_training_can_be_repeated_from_what_it_resolves_to() {
    let mut policies = BTreeSet::new();
    for file in Kind::Train.files() {
        let config =
            TrainConfig::load::<&str>(&file, &[]).unwrap_or_else(|error| panic!("{file}: {error}"));
        let resolved = TrainConfig::parse::<&str>(&config.to_toml(), "resolved", &[]).unwrap();
        assert_eq!(resolved, config, "{file}");
        policies.insert(config.policy.id);
    }
    let all: BTreeSet<String> = specs().iter().map(|spec| spec.id.to_owned()).collect();
    assert_eq!(policies, all);
}

#[test]
fn every_expert_learns_what_there_is_to_learn() {
    let tasks: Vec<String> = Skill::all().iter().map(Skill::task).collect();
    for file in Kind::TrainExpert.files() {
        let config = OnlineConfig::load::<&str>(&file, &[])
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(tasks.contains(&config.task), "{file}: {}", config.task);
    }
}

#[test]
fn every_sweep_lists_its_rows() {
    for file in Kind::Sweep.files() {
        let sweep = SweepConfig::load(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let rows = sweep
            .rows()
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let folders: BTreeSet<_> = rows.iter().map(|row| &row.folder).collect();
        assert_eq!(folders.len(), rows.len(), "{file}");
        for dataset in sweep.datasets.keys() {
            for policy in sweep.policies.keys() {
                let of_pair = sweep.out.join(dataset).join(policy);
                assert!(
                    folders.iter().any(|folder| folder.starts_with(&of_pair)),
                    "{file}: no row in {of_pair}"
                );
            }
        }
        let listed = Command::new(env!("CARGO_BIN_EXE_telic"))
            .args(["sweep", file.as_str(), "--list"])
            .output()
            .unwrap();
        assert!(listed.status.success(), "{file}: {listed:?}");
        let lines = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(lines.lines().count(), rows.len(), "{file}");
    }
}

/// Settings of inference are keys of the policy too, and nothing else looks at them before hours of training are over.
#[test]
fn every_prompt_of_a_sweep_is_a_setting_of_its_policy() {
    let named = |list: &Option<Vec<String>>, name: &String| {
        list.as_ref().is_none_or(|list| list.contains(name))
    };
    for file in Kind::Sweep.files() {
        let sweep = SweepConfig::load(&file).unwrap();
        for dataset in sweep.datasets.keys() {
            for (policy, prompts) in &sweep.prompts {
                let of_row = sweep.overrides.iter().filter(|entry| {
                    named(&entry.policies, policy) && named(&entry.datasets, dataset)
                });
                let set: Vec<&String> = of_row.flat_map(|entry| &entry.set).collect();
                for (name, settings) in prompts {
                    let settings = settings.iter().map(|setting| format!("policy.{setting}"));
                    let set: Vec<String> = set.iter().copied().cloned().chain(settings).collect();
                    TrainConfig::load(&sweep.policies[policy], &set).unwrap_or_else(|error| {
                        panic!("{file}, `{name}` of {policy} on {dataset}: {error}")
                    });
                }
            }
        }
    }
}

/// A default that moves is another result for everyone who did not ask for the old one: it belongs into the changelog.
#[test]
fn published_defaults_stay() {
    for spec in specs() {
        insta::assert_snapshot!(
            format!("{}_defaults", spec.id),
            (spec.default_config)().to_string()
        );
    }
    insta::assert_snapshot!("training_defaults", TrainConfig::default().to_toml());
    insta::assert_snapshot!("expert_defaults", OnlineConfig::default().to_toml());
}

#[test]
fn environments_stay() {
    let output = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(["envs", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let listing = String::from_utf8(output.stdout).unwrap();
    insta::assert_snapshot!("envs", listing);
}

#[test]
fn a_printed_configuration_is_that_of_all_defaults() {
    for spec in specs() {
        let output = Command::new(env!("CARGO_BIN_EXE_telic"))
            .args(["policies", spec.id])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let set = [format!("policy.id={}", spec.id)];
        let defaults = TrainConfig::parse("dataset = 'data.npz'", "defaults", &set).unwrap();
        let config = TrainConfig::parse::<&str>(&printed, spec.id, &[]).unwrap();
        assert_eq!(config, defaults, "{}", spec.id);
    }
}
