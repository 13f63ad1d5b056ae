//! Exploration, zero-shot prompts and returns, as a user runs them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use telic::returns::{LabelledStates, reward_returns};
use telic_datasets::Dataset;
use telic_envs::{ResetOptions, Start, spec};
use telic_seed::Seed;

fn telic(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn json(args: &[&str]) -> Value {
    let (code, stdout, stderr) = telic(args);
    assert_eq!(code, 0, "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn explore(config: &str, run: &str, data: &str) -> (i32, String, String) {
    let config = format!("{}/configs/{config}.toml", env!("CARGO_MANIFEST_DIR"));
    let mut args = vec![
        "train-expert",
        &config,
        "--out",
        run,
        "--data",
        data,
        "--json",
    ];
    for set in [
        "steps=2600",
        "worlds=2",
        "random_steps=2400",
        "batch_size=16",
        "log_every=100",
    ] {
        args.extend(["--set", set]);
    }
    telic(&args)
}

#[test]
fn what_an_explorer_does_is_data_for_zero_shot_prompts() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (run, data) = (path("explore"), path("walker.npz"));
    let (code, stdout, stderr) = explore("walker_explore", &run, &data);
    assert_eq!(code, 0, "{stderr}");
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    let names: Vec<&str> = outcome["evaluation"]["returns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["reward"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["stand", "walk", "run", "flip"]);
    let metrics = std::fs::read_to_string(format!("{run}/metrics.csv")).unwrap();
    assert!(metrics.contains("novelty/loss") && metrics.contains("evaluation/return_flip"));

    // Two worlds of 1300 steps each: an episode of each is complete.
    let inspected = json(&["inspect", &data, "--json"]);
    assert_eq!(inspected["env"], "walker");
    assert_eq!(inspected["episodes"], 2);
    assert_eq!(inspected["transitions"], 2000);
    let verified = json(&["replay", &data, "--verify", "--json"]);
    assert_eq!(verified["identical"], true, "{verified}");

    // A run folder that is there already is left alone, and so is the place of the data.
    let more = path("more.npz");
    assert_eq!(explore("walker_explore", &run, &more).0, 1);
    let left = std::fs::read_dir(temp.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("more")
    });
    assert_eq!(left.count(), 0);

    let config = path("hilp.toml");
    let text = format!(
        "dataset = '{data}'\nsteps = 3\nbatch_size = 8\nvalidate_every = 0\ntrain_fraction = 1.0\n[policy]\n\
         id = 'hilp_zero_shot'\nembedding_dim = 4\nembedding_width = 8\nwidth = 8\ntrunk_width = 8\n\
         [policy.prompt]\nplaces = 50\n"
    );
    std::fs::write(&config, text).unwrap();
    let trained = path("hilp");
    let (code, _, stderr) = telic(&["train", &config, "--out", &trained]);
    assert_eq!(code, 0, "{stderr}");
    let evaluate = [
        "evaluate",
        &trained,
        "--rewards",
        "--episodes",
        "2",
        "--labels",
        "500",
        "--json",
    ];
    let returns = json(&evaluate);
    assert_eq!(
        returns,
        json(&evaluate),
        "the same seed gives the same returns"
    );
    for (found, name) in returns["rewards"].as_array().unwrap().iter().zip(names) {
        assert_eq!(found["reward"], name);
        let mean = found["mean"].as_f64().unwrap();
        assert!((0.0..=1000.0).contains(&mean), "{found}");
        let r_squared = found["r_squared"].as_f64().unwrap();
        assert!(r_squared > 0.0 && r_squared < 1.0, "{found}");
    }
    let written = std::fs::read_to_string(format!("{trained}/rewards.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), returns);

    // A rollout for a reward is a whole episode, with all named rewards in its plots.
    let recording = path("run.rrd");
    let view = |reward: &str| {
        telic(&[
            "view",
            &trained,
            "--reward",
            reward,
            "--episodes",
            "1",
            "--out",
            &recording,
        ])
    };
    let (code, _, stderr) = view("run");
    assert_eq!(code, 0, "{stderr}");
    let seen = telic_viz::inspect_recording(recording.as_str().into()).unwrap();
    for name in ["stand", "walk", "run", "flip"] {
        let entity = format!("/plots/named_rewards/{name}");
        assert_eq!(seen.entities[&entity].temporal_rows, 1001, "{entity}");
    }
    let (code, _, stderr) = view("jump");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("stand, walk, run, flip"), "{stderr}");

    // Goals and rewards exclude each other; a run on an environment without named rewards says so.
    assert_eq!(
        telic(&["evaluate", &trained, "--rewards", "--goals", &data]).0,
        2
    );
    let (code, _, stderr) = telic(&[
        "evaluate",
        &trained,
        "--rewards",
        "--env",
        "point-maze-medium",
    ]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("named rewards"), "{stderr}");
}

#[test]
fn only_environments_record() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (run, data) = (path("run"), path("data.npz"));
    let (code, _, stderr) = explore("ant_expert", &run, &data);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("is no environment"), "{stderr}");
    assert!(!std::path::Path::new(&run).exists() && !std::path::Path::new(&data).exists());
}

#[test]
fn returns_are_sums_and_labels_are_the_rewards_of_the_states() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (run, data) = (path("explore"), path("walker.npz"));
    let (code, _, stderr) = explore("walker_explore", &run, &data);
    assert_eq!(code, 0, "{stderr}");
    let spec = spec("walker").unwrap();

    // With the recorded actions of one episode, the return is the sum of the rewards on the way.
    let dataset = Arc::new(Dataset::load(data.as_str().into()).unwrap());
    let (episode, seed) = (dataset.episode(0).unwrap(), Seed::new(7));
    let mut step = 0;
    let returns = reward_returns(spec, 1, seed, |_, actions| {
        actions.row_mut(0).assign(&episode.actions.row(step));
        step += 1;
        Ok(())
    })
    .unwrap();
    let mut env = (spec.make)().unwrap();
    let options = ResetOptions {
        start: Start::Collection,
        goal: None,
    };
    env.reset(seed.index(0).value(), &options).unwrap();
    let mut sums = [0.0; 4];
    for row in 0..1000 {
        env.step(&episode.actions.row(row).to_vec()).unwrap();
        sums.iter_mut()
            .zip(env.rewards())
            .for_each(|(sum, reward)| *sum += f64::from(reward));
    }
    for (found, sum) in returns.iter().zip(sums) {
        assert!((found.mean - sum).abs() < 1e-9, "{found:?}, not {sum}");
        assert!(found.ci95.is_none());
    }

    // Labels are those of running into the state.
    let labelled = LabelledStates::draw(&dataset, spec, 300, Seed::new(1)).unwrap();
    let options = ResetOptions {
        start: Start::Collection,
        goal: None,
    };
    env.reset(episode.seed, &options).unwrap();
    let mut compared = 0;
    for row in 0..1000 {
        let observation = episode.observations.row(row);
        let same = labelled
            .observations
            .rows()
            .into_iter()
            .position(|state| state == observation);
        if let Some(column) = same {
            compared += 1;
            for (label, reward) in labelled.rewards.column(column).iter().zip(env.rewards()) {
                assert!(
                    (label - reward).abs() < 1e-4,
                    "row {row}: {label}, not {reward}"
                );
            }
        }
        env.step(&episode.actions.row(row).to_vec()).unwrap();
    }
    assert!(
        compared > 50,
        "{compared} of the labelled states are of the first episode"
    );
}
