//! `telic train`, `evaluate` and `view`, with the prompts of the policies that take some.

use std::process::Command;

use camino::Utf8Path;
use ndarray::Array2;
use serde_json::Value;
use telic_datasets::{DatasetWriter, Episode, Metadata};

use super::{collect_in_maze, flat, telic};

/// The signal comes most likely while it evaluates.
#[cfg(unix)]
#[test]
fn a_signal_ends_a_training_that_then_goes_on_to_the_same_bits() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::io::Read as _;

    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    // A folder that is not there is made.
    let play = format!("{folder}/data/play.npz");
    collect_in_maze("2", &play);
    let config = format!("{folder}/gcbc.toml");
    let text = "dataset = ''\nsteps = 300\nbatch_size = 8\nlog_every = 50\nvalidate_every = 0\ntrain_fraction = 1.0\n\
         evaluate_every = 150\nevaluation_episodes = 200\n[policy]\nid = 'gcbc'\n[policy.actor.network]\nhidden = [16]\n";
    std::fs::write(&config, text).unwrap();
    let (run, whole) = (format!("{folder}/run"), format!("{folder}/whole"));
    let dataset = format!("dataset={play}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(["train", &config, "--set", &dataset, "--out", &run])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The row of update 150 is written when its evaluation is over, which takes longer than the updates before it.
    let logged = || {
        std::fs::read_to_string(format!("{run}/metrics.csv"))
            .is_ok_and(|table| table.lines().any(|line| line.starts_with("100,")))
    };
    while !logged() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let mut said = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    // It says how to go on, whatever it was started with.
    let (_, command) = said.split_once("to go on: telic ").unwrap();
    let resume: Vec<&str> = command.split_whitespace().collect();
    for arguments in [
        &resume[..],
        &["train", &config, "--set", &dataset, "--out", &whole],
    ] {
        let trained = telic(arguments);
        assert_eq!(trained.code, 0, "{}", trained.stderr);
    }
    for file in [
        "metrics.csv",
        "checkpoints/step_00000300/model.safetensors",
        "checkpoints/step_00000300/manifest.json",
    ] {
        let read = |run: &str| std::fs::read(format!("{run}/{file}")).unwrap();
        assert!(read(&run) == read(&whole), "{file}");
    }
}

#[test]
fn a_run_is_measured_in_its_environment() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (play, config) = (format!("{folder}/play.npz"), format!("{folder}/gcbc.toml"));
    collect_in_maze("2", &play);
    let text = "steps = 2\nbatch_size = 8\nvalidate_every = 0\ntrain_fraction = 1.0\n[policy]\nid = 'gcbc'\n\
                [policy.actor.network]\nhidden = [16]\n";
    std::fs::write(&config, text).unwrap();
    let (run, dataset) = (format!("{folder}/run"), format!("dataset={play}"));
    let train = |env: &str| {
        telic(&[
            "train", &config, "--set", &dataset, "--set", env, "--out", &run,
        ])
    };
    for (env, code) in [("env=point-maze-larg", 2), ("env=cube-single", 1)] {
        let failed = train(env);
        assert_eq!(failed.code, code, "{env}: {}", failed.stderr);
        assert!(!std::path::Path::new(&run).exists(), "{env}");
    }
    assert_eq!(train("env=point-maze-large").code, 0);
    let evaluate =
        |more: &[&str]| telic(&[&["evaluate", &run, "--episodes", "1", "--json"], more].concat());
    assert_eq!(evaluate(&[]).json()["env"], "point-maze-large");
    assert_eq!(
        evaluate(&["--env", "point-maze-medium"]).json()["env"],
        "point-maze-medium"
    );
    let written = |file: &str| std::fs::read_to_string(format!("{run}/{file}")).unwrap();
    assert!(written("evaluation.json").contains("point-maze-large"));
    assert!(written("evaluation-point-maze-medium.json").contains("point-maze-medium"));
    let failed = evaluate(&["--prompt", "plan"]);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(
        flat(&failed.stderr).contains("takes goals only"),
        "{}",
        failed.stderr
    );
}

/// Twelve episodes of play data of the medium point maze, and a run of two updates of a policy with these keys on it.
pub(super) fn train_in_maze(folder: &str, policy: &str) -> (String, String) {
    let (play, run) = (format!("{folder}/play.npz"), format!("{folder}/run"));
    collect_in_maze("12", &play);
    let config = format!("{folder}/policy.toml");
    let text = format!(
        "dataset = '{play}'\nsteps = 2\nbatch_size = 8\nvalidate_every = 0\n[policy]\n{policy}"
    );
    std::fs::write(&config, text).unwrap();
    let trained = telic(&["train", &config, "--out", &run]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    (play, run)
}

#[test]
fn qrl_searches_through_its_data() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let policy = "id = 'qrl'\nembedding_dim = 16\n[policy.embedding]\nhidden = [16]\n\
                  [policy.prompt]\nplaces = 100\nlandmarks = 20\n";
    let (_, run) = train_in_maze(folder, policy);
    let evaluate =
        |more: &[&str]| telic(&[&["evaluate", &run, "--episodes", "5", "--json"], more].concat());
    // Labels are for rewards, and each prompt has a file of its own.
    let failed = evaluate(&["--prompt", "goal", "--labelled", "no/such.npz"]);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(
        flat(&failed.stderr).contains("--prompt reward"),
        "{}",
        failed.stderr
    );
    for (prompt, file) in [
        ("goal", "evaluation.json"),
        ("search", "evaluation-search.json"),
    ] {
        let evaluation = evaluate(&["--prompt", prompt]).json();
        assert_eq!(evaluation["episodes"], 5, "{prompt}");
        let written = std::fs::read_to_string(format!("{run}/{file}")).unwrap();
        let written: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, evaluation, "{prompt}");
        assert_eq!(written["settings"]["prompt.kind"], prompt);
        assert_eq!(written["step"], 2);
    }
    let failed = evaluate(&["--prompt", "plan"]);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(
        flat(&failed.stderr).contains("prompt.kind"),
        "{}",
        failed.stderr
    );
    // A rollout shows where it is sent.
    let recording = format!("{folder}/run.rrd");
    let set = ["--set", "prompt.kind=search", "--set", "prompt.reach=1e-6"];
    let view = [
        "view",
        &run,
        "--episodes",
        "1",
        "--task",
        "task2",
        "--out",
        &recording,
    ];
    let viewed = telic(&[&view[..], &set].concat());
    assert_eq!(viewed.code, 0, "{}", viewed.stderr);
    let found = telic_viz::inspect_recording(recording.as_str().into()).unwrap();
    assert!(found.entities.contains_key("/world/subgoal"), "{found:?}");
    // Options that say nothing about what is looked at are refused.
    for (path, option) in [
        (&recording, ["--out", "other.rrd"]),
        (&recording, ["--task", "task2"]),
        (&run, ["--episode", "1"]),
    ] {
        let failed = telic(&["view", path, option[0], option[1]]);
        assert_eq!(failed.code, 2, "{option:?}: {}", failed.stderr);
    }
}

#[test]
fn hilp_takes_goals_plans_and_rewards() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let policy = "id = 'hilp'\n[policy.embedding]\nhidden = [16]\n[policy.prompt]\nplaces = 300\nneighbours = 5\n";
    let (play, run) = train_in_maze(folder, policy);
    let evaluate =
        |more: &[&str]| telic(&[&["evaluate", &run, "--episodes", "5", "--json"], more].concat());
    let result = |more: &[&str]| {
        let mut result = evaluate(more).json();
        let command = result.as_object_mut().unwrap().remove("command");
        assert!(command.is_some());
        result
    };
    let mut evaluations = vec![];
    for prompt in ["goal", "plan", "search", "reward"] {
        let evaluation = result(&["--prompt", prompt]);
        assert_eq!(evaluation["episodes"], 5, "{prompt}");
        assert_eq!(evaluation["settings"]["prompt.kind"], prompt);
        assert_eq!(evaluation["tasks"].as_array().unwrap().len(), 5);
        evaluations.push(evaluation);
    }
    // Goals are what it follows unless it is told otherwise, whatever it was told before.
    assert_eq!(result(&[]), evaluations[0]);
    // Rollouts show what the policy makes of states.
    let recording = format!("{folder}/run.rrd");
    let viewed = telic(&[
        "view",
        &run,
        "--episodes",
        "1",
        "--task",
        "task2",
        "--set",
        "prompt.kind=plan",
        "--out",
        &recording,
    ]);
    assert_eq!(viewed.code, 0, "{}", viewed.stderr);
    let recording = telic_viz::inspect_recording(recording.as_str().into()).unwrap();
    for entity in [
        "/world/value_map",
        "/world/subgoal",
        "/latent/states",
        "/latent/agent",
        "/plots/value",
    ] {
        assert!(
            recording.entities.contains_key(entity),
            "{entity}: {recording:?}"
        );
    }
    assert!(recording.views.contains("Latent space"), "{recording:?}");
    // Observations of another environment cannot be labelled, nor can goals of a dataset and a prompt be followed at once.
    let blocks = format!("{folder}/blocks.npz");
    telic(&[
        "collect",
        "--env",
        "block-push",
        "--episodes",
        "1",
        "--out",
        &blocks,
    ]);
    let failed = evaluate(&["--prompt", "reward", "--labelled", &blocks]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(
        flat(&failed.stderr).contains("the labelled observations have 16"),
        "{}",
        failed.stderr
    );
    assert_eq!(evaluate(&["--prompt", "plan", "--goals", &play]).code, 2);
    // No observation of so few is at a goal: the reward says nothing.
    let failed = evaluate(&["--prompt", "reward", "--labels", "2"]);
    assert_eq!(failed.code, 1);
    assert!(
        flat(&failed.stderr).contains("every labelled observation has the reward 0"),
        "{}",
        failed.stderr
    );
}

#[test]
fn what_is_asked_in_another_way_has_a_file_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (_, run) = train_in_maze(folder, "id = 'gcbc'\n");
    let files = || {
        let mut files: Vec<String> = std::fs::read_dir(&run)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("evaluation"))
            .collect();
        files.sort();
        files
    };
    for more in [
        &[][..],
        &["--task", "task5"],
        &["--set", "inference.temperature=0.5"],
    ] {
        let evaluated =
            telic(&[&["evaluate", &run, "--episodes", "5", "--seed", "7"], more].concat());
        assert_eq!(evaluated.code, 0, "{}", evaluated.stderr);
    }
    assert_eq!(
        files(),
        [
            "evaluation-inference.temperature=0.5.json",
            "evaluation-task5.json",
            "evaluation.json"
        ]
    );
    let text = std::fs::read_to_string(format!("{run}/evaluation-task5.json")).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    let command = format!("telic evaluate {run} --episodes 5 --seed 7 --task task5");
    assert_eq!(written["command"], command.as_str());
    assert_eq!(written["env_version"], 2);
    // Rates on other episodes are told apart.
    let report = |more: &[&str]| telic(&[&["report", &run], more].concat());
    assert!(!report(&[]).stdout.contains("measured on"));
    let other = telic(&[
        "evaluate",
        &run,
        "--episodes",
        "5",
        "--seed",
        "8",
        "--task",
        "task5",
    ]);
    assert_eq!(other.code, 0, "{}", other.stderr);
    assert!(report(&[]).stdout.contains("measured on"));
    let rows = report(&["--json"]).json();
    let of_seed = |seed: &str| {
        rows.as_array().unwrap().iter().any(|row| {
            let text = row["measured_on"].as_str().unwrap();
            text.contains(seed)
        })
    };
    assert!(of_seed("seed 7") && of_seed("seed 8"), "{rows}");
}

#[test]
fn data_that_may_not_be_meant_are_told_and_useless_ones_refused() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (data, config) = (format!("{folder}/own.npz"), format!("{folder}/own.toml"));
    let text = format!(
        "dataset = '{data}'\nsteps = 2\nbatch_size = 4\nvalidate_every = 0\ntrain_fraction = 1.0\n[policy]\nid = 'gcbc'\n\
         [policy.actor.network]\nhidden = [8]\n[policy.inputs]\ngoal = 'task'\n"
    );
    std::fs::write(&config, text).unwrap();
    let save = |scale: f32| {
        std::fs::remove_file(&data).ok();
        let metadata = Metadata {
            env: "point-maze-medium".to_owned(),
            ..Metadata::default()
        };
        let mut writer = DatasetWriter::create(Utf8Path::new(&data), metadata).unwrap();
        let number = |row: usize, column: usize| ((row * 7 + column * 3) % 5) as f32 / 5.0;
        let episode = Episode {
            observations: Array2::from_shape_fn((6, 2), |(row, column)| number(row, column)),
            actions: Array2::from_shape_fn((6, 2), |(row, column)| scale * number(row, column)),
            qpos: None,
            qvel: None,
            button_states: None,
            seed: 0,
            success: false,
        };
        writer.append_episode(&episode).unwrap();
        writer.finish().unwrap();
    };
    let train = |out: &str| {
        let out = format!("{folder}/{out}");
        (telic(&["train", &config, "--out", &out]), out)
    };
    save(30.0);
    let (refused, out) = train("refused");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        flat(&refused.stderr).contains("policies act in"),
        "{}",
        refused.stderr
    );
    assert!(!Utf8Path::new(&out).exists());
    save(1.0);
    let (told, _) = train("told");
    assert_eq!(told.code, 0, "{}", told.stderr);
    for words in [
        "is of version 0 of `point-maze-medium`; this build has version 2",
        "the policy sees all of them",
    ] {
        assert!(flat(&told.stderr).contains(words), "{}", told.stderr);
    }
}
