//! Listings, help, wrong usage and failures of every command.

use std::process::Command;

use super::runs::train_in_maze;
use super::{collect_in_maze, flat, telic};

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
        "policies",
        "collect",
        "inspect",
        "train",
        "train-expert",
        "evaluate",
        "sweep",
        "report",
        "replay",
        "recover",
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

/// What a command writes goes to a new place or replaces what it wrote before, nothing else.
#[test]
fn nothing_else_is_replaced_by_an_output() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (play, run) = train_in_maze(folder, "id = 'gcbc'\n");
    let config = format!("{run}/config.toml");
    let recording = format!("{folder}/episode.rrd");
    for (command, file, words) in [
        (
            &["replay", &play, "--rrd", &play][..],
            &play,
            "no recording",
        ),
        (&["view", &play, "--out", &config], &config, "no recording"),
        (
            &["evaluate", &run, "--episodes", "5", "--out", &config],
            &config,
            "no result",
        ),
        (
            &["collect", "--env", "point-maze-medium", "--out", &config],
            &config,
            "a file already",
        ),
    ] {
        let before = std::fs::read(file).unwrap();
        let refused = telic(command);
        assert_eq!(refused.code, 1, "{command:?}: {}", refused.stderr);
        assert!(flat(&refused.stderr).contains(words), "{}", refused.stderr);
        assert!(std::fs::read(file).unwrap() == before, "{command:?}");
    }
    // A recording and a result take the places of older ones.
    for _ in 0..2 {
        let recorded = telic(&["replay", &play, "--rrd", &recording]);
        assert_eq!(recorded.code, 0, "{}", recorded.stderr);
        let evaluated = telic(&["evaluate", &run, "--episodes", "1"]);
        assert_eq!(evaluated.code, 0, "{}", evaluated.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_device_or_a_pipe_is_not_replaced_by_a_file() {
    use std::os::unix::fs::FileTypeExt;

    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (play, pipe) = (format!("{folder}/play.npz"), format!("{folder}/pipe"));
    collect_in_maze("1", &play);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for command in [
        &["collect", "--env", "point-maze-medium", "--out", &pipe][..],
        &["replay", &play, "--rrd", &pipe],
    ] {
        let refused = telic(command);
        assert_eq!(refused.code, 1, "{command:?}: {}", refused.stderr);
        let kind = std::fs::metadata(&pipe).unwrap().file_type();
        assert!(kind.is_fifo(), "{command:?}");
    }
}

#[test]
fn numbers_beyond_any_machine_are_wrong_usage() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().to_str().unwrap();
    let (play, run) = train_in_maze(folder, "id = 'gcbc'\n");
    let (other, new) = (format!("{folder}/other.npz"), format!("{folder}/new"));
    let config = format!("{run}/config.toml");
    let maze = ["collect", "--env", "point-maze-medium", "--out", &other];
    let task = ["--task", "task1"];
    for (command, words) in [
        (
            [&maze[..], &["--threads", "100000"]].concat(),
            "`threads` is 100000, expected at most 1024",
        ),
        (
            [&maze[..], &["--noise", "-1"]].concat(),
            "`noise` is -1, expected a finite number of at least 0",
        ),
        (
            vec![
                "train",
                &config,
                "--set",
                "batch_size=100000000000",
                "--out",
                &new,
            ],
            "`batch_size` is 100000000000; expected 1 to 1048576",
        ),
        (
            vec!["evaluate", &run, "--episodes", "4294967295"],
            "`episodes` is 4294967295, expected at most 1000000",
        ),
        (
            [&["evaluate", &run][..], &task, &task].concat(),
            "`task` is `task1` twice, expected each task once",
        ),
    ] {
        let refused = telic(&command);
        assert_eq!(refused.code, 2, "{command:?}: {}", refused.stderr);
        assert!(flat(&refused.stderr).contains(words), "{}", refused.stderr);
    }
    let mut left: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["play.npz", "policy.toml", "run"]);
    assert!(telic(&["replay", &play]).stdout.contains("identical"));
}
