//! `telic collect`, `inspect` and `replay`.

#[cfg(unix)]
use std::process::{Command, Stdio};

use camino::Utf8Path;
use serde_json::Value;
use telic_datasets::{Dataset, DatasetWriter, Layout, Metadata};

use super::{collect_in_maze, flat, telic};

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
    let path = Utf8Path::from_path(&path).unwrap();
    let dataset = Dataset::load(path).unwrap();
    let mut episode = dataset.episode(0).unwrap();
    episode.actions[[10, 0]] += 0.01;
    let changed = Dataset::from_episodes(&[episode], dataset.metadata().clone()).unwrap();
    changed.save(path, Layout::default()).unwrap();
    let report = telic(&["replay", text, "--verify", "--json"]);
    assert_eq!(report.code, 1);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["identical"], false);
    // The commanded effector of the next row is the first state that the action reaches.
    assert_eq!(report["difference"]["step"], 11, "{report}");
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
fn an_unfinished_collection_is_not_cut_short_and_can_be_recovered() {
    let temp = tempfile::tempdir().unwrap();
    let play = format!("{}/play.npz", temp.path().to_str().unwrap());
    collect_in_maze("3", &play);
    let path = Utf8Path::new(&play);
    let dataset = Dataset::load(path).unwrap();
    std::fs::remove_file(path).unwrap();
    // As an interrupted call leaves it.
    let mut journal = DatasetWriter::create(path, dataset.metadata().clone()).unwrap();
    for episode in 0..2 {
        journal
            .append_episode(&dataset.episode(episode).unwrap())
            .unwrap();
    }
    drop(journal);
    let maze = ["collect", "--env", "point-maze-medium", "--out", &play];
    let fewer = telic(&[&maze[..], &["--episodes", "1"]].concat());
    assert_eq!(fewer.code, 1, "{}", fewer.stderr);
    let message = flat(&fewer.stderr);
    assert!(
        message.contains("2 episodes of an unfinished collection")
            && message.contains("play.npz.part"),
        "{message}"
    );
    assert!(!path.exists());

    let recovered = telic(&["recover", &play, "--json"]).json();
    assert_eq!(recovered["episodes"], 2);
    let found = Dataset::load(path).unwrap();
    assert_eq!(found.episode(1).unwrap(), dataset.episode(1).unwrap());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    // Neither over a dataset nor without anything to recover.
    assert_eq!(telic(&["recover", &play]).code, 1);
    std::fs::remove_file(path).unwrap();
    let nothing = telic(&["recover", &play]);
    assert_eq!(nothing.code, 1, "{}", nothing.stderr);
    assert!(
        nothing.stderr.contains("play.npz.part"),
        "{}",
        nothing.stderr
    );
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_collection_that_signals_end_goes_on_with_other_threads_to_the_same_bytes() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Bytes of more than three episodes, which have 1001 rows of 8 numbers.
    const SOME_EPISODES: u64 = 100_000;

    let temp = tempfile::tempdir().unwrap();
    let [parts, whole] =
        ["parts", "whole"].map(|name| format!("{}/{name}.npz", temp.path().to_str().unwrap()));
    // Far more than are collected between two looks at the journal.
    let collect = |out, threads| {
        let maze = ["collect", "--env", "point-maze-medium", "--json"];
        [
            &maze[..],
            &["--episodes", "150", "--out", out, "--threads", threads],
        ]
        .concat()
    };
    let path = Utf8Path::new(&parts);
    let journal = DatasetWriter::journal_path(path);
    let length = || std::fs::metadata(&journal).map_or(0, |journal| journal.len());
    let mut kept = 0;
    for (threads, signal, code) in [
        ("1", Signal::SIGTERM, Some(130)),
        ("3", Signal::SIGKILL, None),
    ] {
        let enough = length() + SOME_EPISODES;
        let mut child = Command::new(env!("CARGO_BIN_EXE_telic"))
            .args(collect(&parts, threads))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while length() < enough {
            assert!(child.try_wait().unwrap().is_none(), "it ended too early");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        assert!(!path.exists(), "{signal}");
        let before = kept;
        kept = DatasetWriter::recover(path).unwrap().num_episodes();
        assert!(
            kept > before && kept < 150,
            "{signal}: {kept} after {before}"
        );
    }
    let finished = telic(&collect(&parts, "2")).json();
    assert_eq!(finished["resumed_episodes"], kept);
    assert_eq!(finished["episodes"], 150);
    assert!(!journal.exists());
    telic(&collect(&whole, "1")).json();
    assert!(std::fs::read(&parts).unwrap() == std::fs::read(&whole).unwrap());
}

#[test]
fn every_layout_replays_and_a_foreign_file_says_why_not() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let play = format!("{folder}/play.npz");
    collect_in_maze("2", &play);
    let dataset = Dataset::load(Utf8Path::new(&play)).unwrap();
    for (name, layout) in [("compact", Layout::Compact), ("regular", Layout::Regular)] {
        let copy = format!("{folder}/{name}.npz");
        dataset.save(Utf8Path::new(&copy), layout).unwrap();
        let verified = telic(&["replay", &copy, "--verify", "--json"]).json();
        assert_eq!(verified["identical"], true, "{name}: {verified}");
    }
    let foreign =
        Dataset::from_episodes(&[dataset.episode(0).unwrap()], Metadata::default()).unwrap();
    let copy = format!("{folder}/foreign.npz");
    foreign.save(Utf8Path::new(&copy), Layout::File).unwrap();
    let failed = telic(&["replay", &copy, "--verify"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(
        flat(&failed.stderr).contains("does not say of which environment"),
        "{}",
        failed.stderr
    );
}

#[test]
fn recordings_and_tensors_are_shown() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (play, recording) = (
        format!("{folder}/play.npz"),
        format!("{folder}/episode.rrd"),
    );
    collect_in_maze("1", &play);
    let replayed = telic(&["replay", &play, "--episode", "0", "--rrd", &recording]);
    assert_eq!(replayed.code, 0, "{}", replayed.stderr);
    let shown = telic(&["inspect", &recording, "--json"]).json();
    assert_eq!(shown["application"], "telic-point-maze-medium");
    assert_eq!(shown["timelines"]["step"]["first"], 0);
    assert_eq!(shown["timelines"]["sim_time"]["kind"], "duration");
    assert!(
        shown["entities"]["/plots/contact_force"]["temporal_rows"].as_u64() > Some(0),
        "{shown}"
    );
    let text = telic(&["inspect", &recording]);
    let (_, entities) = text.stdout.split_once("entity").unwrap();
    assert!(entities.contains("/plots/contact_force"), "{entities}");

    let weights = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/envs/assets/ant_dribble.safetensors"
    );
    let shown = telic(&["inspect", weights, "--json"]).json();
    assert_eq!(shown[0]["name"], "actor.layers.0.bias");
    assert_eq!(shown[0]["shape"], "f32 [256]");
    // A file that ends early is told with its place.
    for (path, name) in [
        (recording.as_str(), "cut.rrd"),
        (weights, "cut.safetensors"),
    ] {
        let cut = format!("{folder}/{name}");
        std::fs::write(&cut, &std::fs::read(path).unwrap()[..100]).unwrap();
        let failed = telic(&["inspect", &cut]);
        assert_eq!(failed.code, 1, "{}", failed.stderr);
        assert!(flat(&failed.stderr).contains(name), "{}", failed.stderr);
    }
}
