//! The whole loop in seconds: collect, train, evaluate, record, resume; and what an evaluation depends on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use ndarray::{Array2, ArrayView2};
use rand::RngExt;
use serde_json::Value;
use telic::evaluate::{EvaluateConfig, evaluate};
use telic_policies::{Policy, PolicyError};
use telic_seed::Rng;

fn telic(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(args)
        .arg("--json")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_loop_runs_and_what_it_leaves_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("quick");
    let out = out.to_str().unwrap();
    let small = [
        "--play-episodes",
        "8",
        "--episodes",
        "4",
        "--set",
        "steps=6",
        "--set",
        "batch_size=16",
        "--set",
        "log_every=2",
        "--set",
        "checkpoint_every=3",
    ];
    let mut args = vec!["quickstart", "--out", out];
    args.extend(small);
    let report = telic(&args);
    let evaluation = &report["evaluation"];
    assert_eq!(evaluation["episodes"], 4);
    for key in ["success_rate", "mean_return", "reward", "result"] {
        assert!(evaluation[key].is_number(), "{key}: {evaluation}");
    }
    assert_eq!(evaluation["ci95"].as_array().unwrap().len(), 2);
    for task in evaluation["tasks"].as_array().unwrap() {
        assert!(
            task["name"].is_string() && task["ci95"].is_array() && task["episodes"].is_number()
        );
    }
    let run = report["run"].as_str().unwrap();
    for file in [
        "config.toml",
        "metrics.csv",
        "evaluation.json",
        "run.rrd",
        "checkpoints",
    ] {
        assert!(std::path::Path::new(run).join(file).exists(), "{file}");
    }
    let recording = camino::Utf8PathBuf::from(report["rrd"].as_str().unwrap());
    let summary = telic_viz::inspect_recording(&recording).unwrap();
    let paths: Vec<_> = summary.entities.keys().map(String::as_str).collect();
    for wanted in ["goal", "reward", "trace", "denoising"] {
        assert!(
            paths.iter().any(|path| path.contains(wanted)),
            "{wanted} in {paths:?}"
        );
    }

    // Data of another size are not taken for those that were asked for.
    let other = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(["quickstart", "--out", out, "--play-episodes", "9"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(2), "{other:?}");

    // The command measures what the loop did.
    let mut measured = telic(&["evaluate", run, "--episodes", "4"]);
    let mut evaluation = evaluation.clone();
    for (result, command) in [(&mut measured, "evaluate"), (&mut evaluation, "quickstart")] {
        let by = result.as_object_mut().unwrap().remove("command").unwrap();
        assert!(
            by.as_str()
                .unwrap()
                .starts_with(&format!("telic {command}"))
        );
    }
    assert_eq!(measured, evaluation);
    // Inference settings of a checkpoint.
    let more = telic(&[
        "evaluate",
        run,
        "--episodes",
        "2",
        "--set",
        "sampler.steps=5",
    ]);
    assert_eq!(more["episodes"], 2);
    // Final states of the play data as goals.
    let data = report["dataset"].as_str().unwrap();
    let borrowed = telic(&["evaluate", run, "--episodes", "2", "--goals", data]);
    assert_eq!(borrowed["episodes"], 2);
    // A second call does nothing again but evaluate.
    assert_eq!(telic(&args)["collect_seconds"], 0.0);
    let inspected = telic(&["inspect", run]);
    assert_eq!(inspected["env"], "block-push");
}

/// An open square, where some goals are reached and each after another number of steps: other worlds or draws come to other numbers.
#[test]
fn an_evaluation_depends_on_its_seed_and_not_on_threads_or_worlds() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (play, run) = (format!("{folder}/play.npz"), format!("{folder}/run"));
    let arena = ["--env", "point-maze-arena", "--demonstrator", "stitch"];
    telic(&[&["collect", "--episodes", "20", "--out", &play], &arena[..]].concat());
    let config = format!("{folder}/gcbc.toml");
    let text = format!(
        "dataset = '{play}'\nsteps = 300\nbatch_size = 64\nvalidate_every = 0\ntrain_fraction = 1.0\n\
         [policy]\nid = 'gcbc'\noptimizer.lr = 3e-3\ninference.temperature = 0.5\n\
         [policy.actor.network]\nhidden = [32]\n"
    );
    std::fs::write(&config, text).unwrap();
    telic(&["train", &config, "--out", &run]);
    let evaluate = |seed, worlds, threads| {
        let mut evaluation = telic(&[
            "evaluate",
            &run,
            "--episodes",
            "20",
            "--seed",
            seed,
            "--worlds",
            worlds,
            "--threads",
            threads,
        ]);
        let found = evaluation.as_object_mut().unwrap();
        found.remove("command");
        let asked = found.remove("seed").unwrap();
        assert_eq!(asked.to_string(), seed);
        evaluation
    };
    let first = evaluate("0", "4", "1");
    assert!(first["success_rate"].as_f64() > Some(0.0), "{first}");
    assert_ne!(evaluate("1", "4", "1")["mean_steps"], first["mean_steps"]);
    for (worlds, threads) in [("4", "2"), ("3", "2"), ("20", "1")] {
        assert_eq!(
            evaluate("0", worlds, threads),
            first,
            "{worlds} worlds, {threads} threads"
        );
    }
}

/// Begins every episode with a rest, as long as its stream says, and then walks straight to the goal.
struct Resting {
    /// Steps of rest that are left in each row; `None` before the first one.
    left: Vec<Option<u32>>,
}

impl Policy for Resting {
    fn observation_dim(&self) -> usize {
        2
    }

    fn action_dim(&self) -> usize {
        2
    }

    fn reset(&mut self, rows: usize) {
        self.left = vec![None; rows];
    }

    fn reset_row(&mut self, row: usize) {
        self.left[row] = None;
    }

    fn act(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
        rngs: &mut [Rng],
        actions: &mut Array2<f32>,
    ) -> Result<(), PolicyError> {
        for (row, (left, rng)) in self.left.iter_mut().zip(rngs).enumerate() {
            let left = left.get_or_insert_with(|| rng.random_range(0..100));
            for entry in 0..2 {
                let ahead = goals[[row, entry]] - observations[[row, entry]];
                actions[[row, entry]] = if *left > 0 {
                    0.0
                } else {
                    ahead.clamp(-1.0, 1.0)
                };
            }
            *left = left.saturating_sub(1);
        }
        Ok(())
    }
}

#[test]
fn a_world_that_takes_another_episode_begins_it_anew() {
    let spec = telic_envs::spec("point-maze-arena").unwrap();
    let run = |seed, worlds, threads| {
        let config = EvaluateConfig {
            episodes: 12,
            seed,
            worlds,
            threads,
            ..EvaluateConfig::default()
        };
        let mut policy = Resting { left: vec![] };
        evaluate(
            &mut policy,
            spec,
            &config,
            &AtomicBool::new(false),
            |_, _| {},
        )
        .unwrap()
    };
    let expected = run(0, 12, 1);
    let lengths: BTreeSet<usize> = expected.1.iter().map(|result| result.steps).collect();
    assert!(lengths.len() > 6, "{lengths:?}");
    assert!(expected.1.iter().all(|result| result.success));
    assert_ne!(run(1, 12, 1).1, expected.1);
    for (worlds, threads) in [(1, 1), (5, 1), (5, 2)] {
        assert_eq!(
            run(0, worlds, threads),
            expected,
            "{worlds} worlds, {threads} threads"
        );
    }
}
