//! A sweep of two policies and two seeds, what is left of it after an interruption, and its report.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(args)
        .output()
        .unwrap()
}

fn telic(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap();
    rows.iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect()
}

fn copy_folder(from: &str, to: &str) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (
            entry.path(),
            format!("{to}/{}", entry.file_name().to_str().unwrap()),
        );
        if from.is_dir() {
            copy_folder(from.to_str().unwrap(), &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn a_sweep_runs_what_is_missing_and_becomes_one_table() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let play = format!("{folder}/play.npz");
    telic(&[
        "collect",
        "--env",
        "point-maze-medium",
        "--demonstrator",
        "stitch",
        "--episodes",
        "4",
        "--out",
        &play,
    ]);
    let small = "steps = 4\nbatch_size = 8\nlog_every = 2\nvalidate_every = 0\nevaluate_every = 2\n\
                 evaluation_episodes = 5\n[policy]\n";
    for (id, network) in [("gcbc", "actor.network"), ("gcivl", "value")] {
        let text = format!("{small}id = '{id}'\n[policy.{network}]\nhidden = [16]\n");
        std::fs::write(format!("{folder}/{id}.toml"), text).unwrap();
    }
    let file = format!("{folder}/sweep.toml");
    let text = format!(
        "out = '{folder}/runs'\nseeds = [0, 1]\nset = ['threads=1']\n[evaluation]\nepisodes = 5\n\
         [datasets]\nstitch = '{play}'\n[policies]\ngcbc = '{folder}/gcbc.toml'\ngcivl = '{folder}/gcivl.toml'\n\
         [prompts.gcbc]\nwarm = ['inference.temperature=0.5']\n"
    );
    std::fs::write(&file, text).unwrap();

    let listed = telic(&["sweep", &file, "--list"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("&& telic evaluate"), "{listed}");
    let one = telic(&["sweep", &file, "--list", "--only", "gcivl/seed-1"]);
    assert_eq!(one.lines().count(), 1, "{one}");

    let outcomes: Value =
        serde_json::from_str(&telic(&["sweep", &file, "--jobs", "2", "--json"])).unwrap();
    assert_eq!(outcomes.as_array().unwrap().len(), 4);
    let report = |more: &[&str]| telic(&[&["report", &format!("{folder}/runs")], more].concat());
    let table = report(&["--json"]);
    let rows: Value = serde_json::from_str(&table).unwrap();
    assert_eq!(names(&rows), ["gcbc", "gcbc warm", "gcivl"]);
    for row in rows.as_array().unwrap() {
        assert_eq!(row["episodes"], 10);
        assert_eq!(row["seeds"], serde_json::json!([0, 1]));
        assert_eq!(row["tasks"].as_array().unwrap().len(), 5);
        assert_eq!(row["dataset"], "play");
    }

    // An interruption: one run lost its evaluation, another one its last checkpoint.
    let runs = format!("{folder}/runs/stitch");
    std::fs::remove_file(format!("{runs}/gcbc/seed-1/evaluation-warm.json")).unwrap();
    std::fs::remove_dir_all(format!("{runs}/gcivl/seed-0/checkpoints/step_00000004")).unwrap();
    std::fs::remove_file(format!("{runs}/gcivl/seed-0/evaluation.json")).unwrap();
    telic(&["sweep", &file]);
    assert_eq!(report(&["--json"]), table);

    // So is a run whose last evaluation was interrupted.
    let manifest = format!("{runs}/gcivl/seed-1/checkpoints/step_00000004/manifest.json");
    let evaluated = std::fs::read_to_string(&manifest).unwrap();
    let interrupted = evaluated.replacen('{', "{\n  \"unevaluated\": true,", 1);
    std::fs::write(&manifest, interrupted).unwrap();
    telic(&["sweep", &file]);
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), evaluated);
    assert_eq!(report(&["--json"]), table);

    // Rows of other folders are other rows, and one seed counts once.
    let copy = |to: &str| copy_folder(&format!("{runs}/gcbc/seed-0"), &format!("{folder}/{to}"));
    copy("other/gcbc/seed-0");
    let both = telic(&["report", &runs, &format!("{folder}/other"), "--json"]);
    let both: Value = serde_json::from_str(&both).unwrap();
    assert_eq!(
        names(&both),
        [
            "gcivl",
            "other/gcbc",
            "other/gcbc warm",
            "stitch/gcbc",
            "stitch/gcbc warm"
        ]
    );
    copy("other/gcbc/seed-1");
    let output = run(&["report", &format!("{folder}/other")]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("seed 0"),
        "{errors}"
    );

    // An evaluation of other episodes, or with other settings, is no evaluation of the sweep.
    let of_gcbc = format!("{runs}/gcbc/seed-0");
    telic(&["evaluate", &of_gcbc, "--episodes", "10", "--seed", "3"]);
    telic(&["sweep", &file, "--only", "gcbc/seed-0"]);
    assert_eq!(report(&["--json"]), table);
    let own = format!("{of_gcbc}/evaluation.json");
    let single = ["--task", "task1", "--out", &own];
    telic(&[&["evaluate", &of_gcbc, "--episodes", "5"], &single[..]].concat());
    let output = run(&["report", &format!("{folder}/runs")]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("no seeds of one row"), "{errors}");
    // Nor is one of other tasks, or of another environment, which has a file of its own unless it is given that of the run.
    for other in [&single[..], &["--env", "point-maze-large", "--out", &own]] {
        let same = ["--episodes", "5", "--seed", "1000"];
        telic(&[&["evaluate", &of_gcbc], &same[..], other].concat());
        let output = run(&["report", &format!("{folder}/runs")]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("no seeds of one row"), "{errors}");
        telic(&["sweep", &file, "--only", "gcbc/seed-0"]);
        assert_eq!(report(&["--json"]), table);
    }
    let warm = [
        "--seed",
        "1000",
        "--set",
        "inference.temperature=0.5",
        "--out",
        &own,
    ];
    telic(&[&["evaluate", &of_gcbc, "--episodes", "5"], &warm[..]].concat());
    let output = run(&["report", &format!("{folder}/runs")]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("inference.temperature=0.5"), "{errors}");
    telic(&["sweep", &file, "--only", "gcbc/seed-0"]);
    assert_eq!(report(&["--json"]), table);
    // What is there already is not measured again.
    let written = || {
        std::fs::metadata(format!("{of_gcbc}/evaluation-warm.json"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = written();
    telic(&["sweep", &file]);
    assert_eq!(written(), before);

    let markdown = report(&["--format", "markdown", "--tasks", "--last", "2"]);
    assert!(markdown.starts_with("| dataset | policy |"), "{markdown}");
    assert!(markdown.contains("| 20 |"), "{markdown}");
    let csv = report(&["--format", "csv"]);
    assert_eq!(csv.lines().count(), 1 + 3 * 6, "{csv}");
    let curves = format!("{folder}/curves.rrd");
    report(&["--curves", &curves]);
    let recording = telic_viz::inspect_recording(curves.as_str().into()).unwrap();
    for line in ["gcbc/seed-0", "gcivl/seed-1"] {
        let entity = format!("/metrics/play/{line}");
        assert!(recording.entities.contains_key(&entity), "{recording:?}");
    }

    // A row that is there with other settings stops everything before it starts.
    let changed = std::fs::read_to_string(format!("{folder}/gcbc.toml")).unwrap();
    std::fs::write(
        format!("{folder}/gcbc.toml"),
        changed.replace("batch_size = 8", "batch_size = 9"),
    )
    .unwrap();
    let output = run(&["sweep", &file]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("`batch_size`: 8 and 9"), "{errors}");
}

/// In an open square, where some goals are reached and each after another number of steps: other weights or episodes come to other numbers.
#[test]
fn a_row_that_was_interrupted_comes_to_the_same_numbers() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let play = format!("{folder}/play.npz");
    let arena = ["--env", "point-maze-arena", "--demonstrator", "stitch"];
    telic(&[&["collect", "--episodes", "20", "--out", &play], &arena[..]].concat());
    let config = format!("{folder}/gcbc.toml");
    let text = "steps = 300\nbatch_size = 64\nlog_every = 50\nvalidate_every = 0\ncheckpoint_every = 100\n\
                [policy]\nid = 'gcbc'\noptimizer.lr = 3e-3\ninference.temperature = 0.5\n\
                [policy.actor.network]\nhidden = [32]\n";
    std::fs::write(&config, text).unwrap();
    let file = format!("{folder}/sweep.toml");
    let text = format!(
        "out = '{folder}/runs'\nseeds = [1, 2]\nset = ['threads=1']\n[evaluation]\nepisodes = 10\n\
         [datasets]\narena = '{play}'\n[policies]\ngcbc = '{config}'\n"
    );
    std::fs::write(&file, text).unwrap();
    telic(&["sweep", &file]);
    let runs = format!("{folder}/runs/arena/gcbc");
    let bytes = |name: &str| std::fs::read(format!("{runs}/{name}")).unwrap();
    let steps = |name: &str| {
        let evaluation: Value = serde_json::from_slice(&bytes(name)).unwrap();
        evaluation["mean_steps"].as_f64().unwrap()
    };
    let evaluations = ["seed-1/evaluation.json", "seed-2/evaluation.json"];
    assert_ne!(steps(evaluations[0]), steps(evaluations[1]));
    let elsewhere = format!("{runs}/seed-1/elsewhere.json");
    let other = ["--episodes", "10", "--seed", "1", "--out", &elsewhere];
    telic(&[&["evaluate", &format!("{runs}/seed-1")], &other[..]].concat());
    assert_ne!(steps("seed-1/elsewhere.json"), steps(evaluations[0]));

    let table = telic(&["report", &runs, "--json"]);
    let last = "checkpoints/step_00000300";
    let kept = [
        "seed-1/evaluation.json",
        "seed-1/metrics.csv",
        &format!("seed-1/{last}/model.safetensors"),
        &format!("seed-1/{last}/state.safetensors"),
    ]
    .map(|name| (name.to_owned(), bytes(name)));
    std::fs::remove_dir_all(format!("{runs}/seed-1/{last}")).unwrap();
    std::fs::remove_file(format!("{runs}/seed-1/evaluation.json")).unwrap();
    telic(&["sweep", &file]);
    for (name, before) in &kept {
        assert!(bytes(name) == *before, "{name}");
    }
    assert_eq!(telic(&["report", &runs, "--json"]), table);
}
