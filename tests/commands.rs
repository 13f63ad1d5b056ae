//! The commands of the binary, run as a user runs them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use serde_json::Value;
use telic_policies::tensor_file;

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

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(["envs", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn envs_have_the_promised_keys() {
    let listing = telic(&["envs", "--json"]).json();
    let rows = listing.as_array().unwrap();
    assert!(rows.len() >= 8, "{} environments", rows.len());
    for row in rows {
        for key in ["id", "family"] {
            assert!(row[key].is_string(), "{key} in {row}");
        }
        for key in [
            "observation_dim",
            "action_dim",
            "control_hz",
            "max_episode_steps",
        ] {
            assert!(row[key].is_number(), "{key} in {row}");
        }
        assert!(!row["tasks"].as_array().unwrap().is_empty(), "{row}");
    }
    let one = telic(&["envs", "block-push"]);
    assert!(one.stdout.contains("goal"), "{}", one.stdout);
}

#[test]
fn a_full_disk_behind_stdout_is_told() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        return;
    };
    let output = Command::new(env!("CARGO_BIN_EXE_telic"))
        .arg("envs")
        .stdout(full)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("failed printing to stdout"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn wrong_usage_exits_with_2_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("play.npz");
    let out = out.to_str().unwrap();
    let unknown = telic(&["collect", "--env", "block-pull", "--out", out]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    let message = flat(&unknown.stderr);
    assert!(
        message.contains("unknown environment `block-pull`") && message.contains("block-push"),
        "{message}"
    );
    let demonstrator = telic(&[
        "collect",
        "--env",
        "block-push",
        "--out",
        out,
        "--demonstrator",
        "nobody",
    ]);
    assert_eq!(demonstrator.code, 2);
    assert!(
        flat(&demonstrator.stderr).contains("no demonstrator `nobody`"),
        "{}",
        demonstrator.stderr
    );
    let episodes = telic(&[
        "collect",
        "--env",
        "block-push",
        "--out",
        out,
        "--episodes",
        "0",
    ]);
    assert_eq!(episodes.code, 2);
    let noise = telic(&[
        "collect",
        "--env",
        "block-push",
        "--out",
        out,
        "--noise",
        "NaN",
    ]);
    assert_eq!(noise.code, 2);
    assert!(
        flat(&noise.stderr).contains("`noise` is NaN"),
        "{}",
        noise.stderr
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn failures_exit_with_1_and_name_the_file() {
    let missing = telic(&["inspect", "no-such-file.npz"]);
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr.contains("no-such-file.npz"),
        "{}",
        missing.stderr
    );
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.npz");
    std::fs::write(&broken, b"PK\x03\x04 but not really an archive").unwrap();
    let broken = telic(&["inspect", broken.to_str().unwrap()]);
    assert_eq!(broken.code, 1);
    assert!(broken.stderr.contains("broken.npz"), "{}", broken.stderr);
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "quickstart",
        "envs",
        "collect",
        "inspect",
        "train",
        "train-expert",
        "evaluate",
        "sweep",
        "report",
        "replay",
        "view",
        "bench",
    ] {
        let help = telic(&[command, "--help"]);
        assert_eq!(help.code, 0);
        for word in help.stdout.split_whitespace() {
            if word.starts_with("configs/") {
                assert!(std::path::Path::new(word).is_file(), "{command}: {word}");
            }
        }
        assert!(
            help.stdout.contains("Example"),
            "{command}: {}",
            help.stdout
        );
        assert!(
            help.stdout.contains(&format!("telic {command}")),
            "{command}: {}",
            help.stdout
        );
    }
}

#[test]
fn an_expert_is_the_same_for_the_same_seed_and_leaves_its_curve() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let train = |out: &str, threads: &str| {
        let threads = format!("threads={threads}");
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/ant_expert.toml");
        let mut args = vec!["train-expert", config, "--out", out, "--json"];
        for set in [
            "steps=400",
            "random_steps=300",
            "log_every=200",
            "evaluate_every=400",
            "batch_size=16",
            &threads,
        ] {
            args.extend(["--set", set]);
        }
        telic(&args)
    };
    let (first, second) = (path("first"), path("second"));
    let report = train(&first, "1").json();
    assert_eq!(report["steps"], 400);
    assert_eq!(report["evaluation"]["legs"].as_array().unwrap().len(), 24);
    train(&second, "2").json();
    for file in ["expert.safetensors", "evaluation.json", "metrics.csv"] {
        let bytes = |run: &str| std::fs::read(format!("{run}/{file}")).unwrap();
        assert_eq!(bytes(&first), bytes(&second), "{file}");
    }
    let metrics = std::fs::read_to_string(format!("{first}/metrics.csv")).unwrap();
    assert!(metrics.starts_with("step,") && metrics.contains("critic/loss"));
    // Nothing is learned in the first 200; then a row of metrics, and one evaluation at the end.
    let steps: Vec<_> = metrics
        .lines()
        .filter_map(|row| row.split(',').next())
        .collect();
    assert_eq!(steps, ["step", "400", "400"]);

    let again = train(&first, "1");
    assert_eq!(again.code, 1, "{}", again.stderr);

    // Longer, in one go and in two.
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/ant_expert.toml");
    let short = ["random_steps=300", "evaluate_every=0", "batch_size=16"];
    let go_on = |out: &str, set: &[&str], resume: bool| {
        let mut args = vec!["train-expert", config, "--out", out, "--json"];
        for set in short.iter().chain(set) {
            args.extend(["--set", set]);
        }
        args.extend(resume.then_some("--resume"));
        telic(&args)
    };
    let (whole, parts) = (path("whole"), path("parts"));
    go_on(&whole, &["steps=520"], false).json();
    go_on(&parts, &["steps=400"], false).json();
    let other = go_on(&parts, &["steps=520", "sac.discount=0.9"], true);
    assert_eq!(other.code, 1, "{}", other.stderr);
    assert!(other.stderr.contains("`sac.discount`"), "{}", other.stderr);
    assert_eq!(go_on(&parts, &["steps=520"], true).json()["steps"], 520);
    // Once more has nothing to do, and changes nothing.
    go_on(&parts, &["steps=520"], true).json();
    for file in ["expert.safetensors", "evaluation.json", "state.safetensors"] {
        let bytes = |run: &str| std::fs::read(format!("{run}/{file}")).unwrap();
        assert!(bytes(&whole) == bytes(&parts), "{file}");
    }
    let rows = std::fs::read_to_string(format!("{parts}/metrics.csv")).unwrap();
    let steps: Vec<_> = rows
        .lines()
        .filter_map(|row| row.split(',').next())
        .collect();
    assert_eq!(steps, ["step", "400", "400", "520", "520"]);
    let state = format!("{parts}/state.safetensors");
    std::fs::write(&state, b"no state").unwrap();
    let broken = go_on(&parts, &["steps=600"], true);
    assert_eq!(broken.code, 1, "{}", broken.stderr);
    assert!(flat(&broken.stderr).contains(&state), "{}", broken.stderr);
    // A state that contradicts itself: nothing is cut off, and the configuration stays.
    let kept = std::fs::read(format!("{whole}/state.safetensors")).unwrap();
    let mut wrong = tensor_file::from_bytes(&kept).unwrap();
    wrong.insert_u64("step", 401);
    std::fs::write(&state, tensor_file::to_bytes(&wrong)).unwrap();
    let refused = go_on(&parts, &["steps=600"], true);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(flat(&refused.stderr).contains(&state), "{}", refused.stderr);
    let text = |run: &str, file: &str| std::fs::read_to_string(format!("{run}/{file}")).unwrap();
    assert_eq!(text(&parts, "metrics.csv"), rows);
    assert_eq!(text(&parts, "config.toml"), text(&whole, "config.toml"));
    // Tensors, but not those of a state.
    std::fs::copy(format!("{parts}/expert.safetensors"), &state).unwrap();
    let foreign = go_on(&parts, &["steps=600"], true);
    assert_eq!(foreign.code, 1, "{}", foreign.stderr);
    assert!(flat(&foreign.stderr).contains(&state), "{}", foreign.stderr);
    std::fs::remove_file(&state).unwrap();
    let weights = std::fs::read(format!("{parts}/expert.safetensors")).unwrap();
    let stateless = go_on(&parts, &["steps=600"], true);
    assert_eq!(stateless.code, 1, "{}", stateless.stderr);
    assert!(
        flat(&stateless.stderr).contains("no state to go on from"),
        "{}",
        stateless.stderr
    );
    assert!(std::fs::read(format!("{parts}/expert.safetensors")).unwrap() == weights);
    let none = go_on(&path("none"), &["steps=600"], true);
    assert!(
        none.stderr.contains("there is no run to resume"),
        "{}",
        none.stderr
    );

    let unknown = path("unknown.toml");
    std::fs::write(&unknown, "task = 'swim'").unwrap();
    let swim = telic(&["train-expert", &unknown, "--out", &path("swim")]);
    assert_eq!(swim.code, 2, "{}", swim.stderr);
    assert!(
        flat(&swim.stderr).contains("`task` is swim, expected one of: ant-direction"),
        "{}",
        swim.stderr
    );
    assert!(!std::path::Path::new(&path("swim")).exists());
    // Where the device is not there, it leaves no folder behind.
    let device = [
        "train-expert",
        config,
        "--set",
        "device=cuda",
        "--set",
        "steps=400",
    ];
    let out = path("cuda");
    let report = telic(
        &[
            device.as_slice(),
            &["--set", "random_steps=300", "--out", &out],
        ]
        .concat(),
    );
    assert!(
        report.code != 0 || cfg!(feature = "cuda"),
        "{}",
        report.stdout
    );
    if report.code != 0 {
        assert!(
            flat(&report.stderr).contains("cannot use device `cuda`"),
            "{}",
            report.stderr
        );
        assert!(!std::path::Path::new(&out).exists());
    }
}

#[test]
fn an_environment_without_demonstrator_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("none.npz");
    let path = out.to_str().unwrap();
    let report = telic(&["collect", "--env", "walker", "--out", path]);
    assert_eq!(report.code, 2, "{}", report.stderr);
    assert!(
        flat(&report.stderr).contains("`walker` has no demonstrator"),
        "{}",
        report.stderr
    );
    assert!(!out.exists());
}

#[test]
fn a_collected_file_is_the_same_for_any_number_of_threads_and_replays_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for env in [
        "point-maze-medium",
        "ant-maze-medium",
        "ant-soccer-arena",
        "humanoid-maze-medium",
        "block-push",
        "cube-single",
    ] {
        let files: Vec<_> = ["1", "2"]
            .map(|threads| {
                let out = folder.path().join(format!("{env}-{threads}.npz"));
                let path = out.to_str().unwrap();
                let report = telic(&[
                    "collect",
                    "--env",
                    env,
                    "--out",
                    path,
                    "--episodes",
                    "3",
                    "--seed",
                    "5",
                    "--threads",
                    threads,
                    "--json",
                ])
                .json();
                assert_eq!(report["episodes"], 3);
                out
            })
            .into();
        assert_eq!(
            std::fs::read(&files[0]).unwrap(),
            std::fs::read(&files[1]).unwrap(),
            "{env}"
        );

        let path = files[0].to_str().unwrap();
        let inspected = telic(&["inspect", path, "--json"]).json();
        assert_eq!(inspected["env"], env);
        assert_eq!(inspected["seed"], 5);
        assert_eq!(inspected["episodes"], 3);
        assert!(inspected["transitions"].as_u64().unwrap() > 50);
        let verified = telic(&["replay", path, "--verify", "--json"]).json();
        assert_eq!(verified["identical"], true, "{verified}");
        assert_eq!(verified["episodes"], 3);
    }
}

#[test]
fn a_changed_file_does_not_verify() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("play.npz");
    let text = path.to_str().unwrap();
    let _ = telic(&[
        "collect",
        "--env",
        "block-push",
        "--out",
        text,
        "--episodes",
        "1",
        "--json",
    ])
    .json();
    let path = camino::Utf8Path::from_path(&path).unwrap();
    let dataset = telic_datasets::Dataset::load(path).unwrap();
    let mut episode = dataset.episode(0).unwrap();
    episode.actions[[10, 0]] += 0.01;
    let changed =
        telic_datasets::Dataset::from_episodes(&[episode], dataset.metadata().clone()).unwrap();
    changed
        .save(path, telic_datasets::Layout::default())
        .unwrap();
    let report = telic(&["replay", text, "--verify", "--json"]);
    assert_eq!(report.code, 1);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["identical"], false);
    // The commanded effector of the next row is the first state that the action reaches.
    assert_eq!(report["difference"]["step"], 11, "{report}");
}

/// Play data of the medium point maze.
fn collect_in_maze(episodes: &str, out: &str) {
    let maze = ["collect", "--env", "point-maze-medium"];
    let collected = telic(&[&maze[..], &["--episodes", episodes, "--out", out]].concat());
    assert_eq!(collected.code, 0, "{}", collected.stderr);
}

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
fn a_dataset_that_is_there_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let play = format!("{}/play.npz", temp.path().to_str().unwrap());
    collect_in_maze("2", &play);
    let bytes = std::fs::read(&play).unwrap();
    // The same call has nothing to do.
    collect_in_maze("2", &play);
    for other in [
        &["--episodes", "3"][..],
        &["--episodes", "2", "--seed", "1"],
    ] {
        let maze = ["collect", "--env", "point-maze-medium", "--out", &play];
        let failed = telic(&[&maze[..], other].concat());
        assert_eq!(failed.code, 1, "{}", failed.stderr);
        assert!(
            flat(&failed.stderr).contains("a file already"),
            "{}",
            failed.stderr
        );
    }
    assert_eq!(std::fs::read(&play).unwrap(), bytes);
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
fn train_in_maze(folder: &str, policy: &str) -> (String, String) {
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
    let mut returns = vec![];
    for prompt in ["goal", "plan", "search", "reward"] {
        let evaluation = evaluate(&["--prompt", prompt]).json();
        assert_eq!(evaluation["episodes"], 5, "{prompt}");
        assert_eq!(evaluation["tasks"].as_array().unwrap().len(), 5);
        returns.push(evaluation["mean_return"].as_f64().unwrap());
    }
    assert_eq!(evaluate(&[]).json()["mean_return"], returns[0]);
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
