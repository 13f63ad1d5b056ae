//! The commands of the binary, run as a user runs them.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod data;
mod experts;
mod runs;
mod usage;

use std::process::Command;

use serde_json::Value;

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Output {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

fn telic(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(args)
        .output()
        .unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The message as one line, without the decoration of the terminal report.
fn flat(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || "−≥≤".contains(c) {
                c
            } else {
                ' '
            }
        })
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Play data of the medium point maze.
fn collect_in_maze(episodes: &str, out: &str) {
    let maze = ["collect", "--env", "point-maze-medium"];
    let collected = telic(&[&maze[..], &["--episodes", episodes, "--out", out]].concat());
    assert_eq!(collected.code, 0, "{}", collected.stderr);
}
