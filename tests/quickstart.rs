//! The whole loop in seconds: collect, train, evaluate, record, resume.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use serde_json::Value;

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

    // The same evaluation gives the same numbers, for any number of threads.
    let evaluate = |threads| telic(&["evaluate", run, "--episodes", "4", "--threads", threads]);
    assert_eq!(evaluate("1"), evaluate("2"));
    assert_eq!(evaluate("1")["success_rate"], evaluation["success_rate"]);
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
