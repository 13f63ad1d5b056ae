//! The commands that the pages print: subcommands and flags exist, trainings resolve, rows of sweeps are there.
//! What they make is not looked at here.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use telic::sweep::SweepConfig;
use telic_policies::TrainConfig;
use telic_policies::online::OnlineConfig;

/// One `telic` command of a page, without what a shell does with its output.
struct Printed {
    page: Utf8PathBuf,
    line: usize,
    words: Vec<String>,
}

impl Printed {
    fn place(&self) -> String {
        format!("{}:{}: {}", self.page, self.line, self.words.join(" "))
    }

    /// The values of a flag, in order.
    fn values(&self, flag: &str) -> Vec<&str> {
        self.words
            .windows(2)
            .filter(|pair| pair[0] == flag)
            .map(|pair| pair[1].as_str())
            .collect()
    }
}

fn pages() -> Vec<Utf8PathBuf> {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "docs/envs", "docs/policies", "python"];
    let mut pages: Vec<Utf8PathBuf> = folders
        .iter()
        .flat_map(|folder| root.join(folder).read_dir_utf8().unwrap())
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension() == Some("md"))
        .collect();
    pages.sort();
    pages
}

/// Every line that begins with `telic`, together with the lines that it goes on in.
fn commands() -> Vec<Printed> {
    let mut commands = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut lines = text.lines().enumerate();
        while let Some((index, first)) = lines.next() {
            if !first.starts_with("telic ") {
                continue;
            }
            let mut command = first.to_owned();
            while let Some(start) = command.strip_suffix('\\') {
                command = format!("{start} {}", lines.next().unwrap().1.trim());
            }
            let words = shlex::split(&command)
                .unwrap_or_else(|| panic!("{page}:{}: {command}", index + 1))
                .into_iter()
                .take_while(|word| !["|", ">", "&&", ";", "&"].contains(&word.as_str()))
                .collect();
            commands.push(Printed {
                page: page.clone(),
                line: index + 1,
                words,
            });
        }
    }
    assert!(commands.len() > 100, "{}", commands.len());
    commands
}

#[test]
fn every_flag_of_a_printed_command_exists() {
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for command in commands() {
        let named: Vec<String> = command.words[1..]
            .iter()
            .take(2)
            .take_while(|word| !word.starts_with('-'))
            .cloned()
            .collect();
        let help = helps.entry(named.clone()).or_insert_with(|| {
            let output = Command::new(env!("CARGO_BIN_EXE_telic"))
                .args(&named)
                .arg("--help")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {output:?}", command.place());
            String::from_utf8(output.stdout).unwrap()
        });
        let known = |flag: &str| {
            help.split(|letter: char| !letter.is_alphanumeric() && letter != '-')
                .any(|word| word == flag)
        };
        for word in &command.words[1..] {
            let flag = word.split('=').next().unwrap();
            assert!(
                !flag.starts_with("--") || known(flag),
                "{}: {flag}",
                command.place()
            );
        }
    }
}

#[test]
fn every_printed_training_resolves() {
    let mut trainings = 0;
    for command in commands() {
        let Some([subcommand, file]) = command.words.get(1..3) else {
            continue;
        };
        let file = Utf8Path::new(file);
        // Pages that explain how to write a configuration print its file beside the command.
        if !file.starts_with("configs") {
            continue;
        }
        let set = command.values("--set");
        match subcommand.as_str() {
            "train" => {
                TrainConfig::load(file, &set)
                    .unwrap_or_else(|error| panic!("{}: {error}", command.place()));
            }
            "train-expert" => {
                OnlineConfig::load(file, &set)
                    .unwrap_or_else(|error| panic!("{}: {error}", command.place()));
            }
            "sweep" => {
                let rows = SweepConfig::load(file).unwrap().rows().unwrap();
                for only in command.values("--only") {
                    assert!(
                        rows.iter().any(|row| row.folder.as_str().contains(only)),
                        "{}: no row",
                        command.place()
                    );
                }
            }
            _ => continue,
        }
        trainings += 1;
    }
    assert!(trainings > 40, "{trainings}");
}
