//! `telic bench`.

use serde_json::Value;

use super::{collect_in_maze, flat, telic};

/// The report of a call, in which these numbers are above 0.
fn measured(arguments: &str, positive: &[&str]) -> Value {
    let mut call = vec!["bench"];
    call.extend(arguments.split_whitespace());
    call.push("--json");
    let report = telic(&call).json();
    for &key in positive {
        assert!(
            report[key].as_f64().is_some_and(|number| number > 0.0),
            "{key} in {report}"
        );
    }
    report
}

#[test]
fn a_simulation_counts_the_physics_steps_that_it_computes() {
    let keys = ["steps_per_second", "physics_steps_per_second"];
    let physics_steps_per_step = |arguments: &str| {
        let report = measured(arguments, &keys);
        let [steps, physics_steps] = keys.map(|key| report[key].as_f64().unwrap());
        physics_steps / steps
    };
    let ant = physics_steps_per_step("sim --env ant-maze-medium --seconds 0.2");
    assert!((ant - 5.0).abs() < 1e-6, "{ant}");
    // A ball that touches no wall is at rest after the first of its five.
    let ball =
        physics_steps_per_step("sim --env point-maze-medium --worlds 3 --threads 2 --seconds 0.2");
    assert!((1.0..5.0).contains(&ball), "{ball}");
}

#[test]
fn a_sampler_draws_batches_of_a_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("play.npz");
    collect_in_maze("1", path.to_str().unwrap());
    let call = ["bench", "sample", "--dataset", path.to_str().unwrap()];
    let options = ["--batch", "64", "--seconds", "0.1", "--json"];
    let report = telic(&[&call[..], &options].concat()).json();
    assert_eq!(report["batch"], 64);
    assert!(
        report["batches_per_second"].as_f64().unwrap() > 0.0,
        "{report}"
    );
}

#[test]
fn updates_are_timed_at_the_dims_of_an_environment() {
    let report = measured(
        "train --policy gcbc --env point-maze-medium --batch 8 --seconds 0.1 --set actor.network.hidden=[8]",
        &["ms_per_update", "p90_ms", "updates"],
    );
    // Other systems do not tell how much memory a process had.
    if cfg!(target_os = "linux") {
        let memory_mib = report["peak_memory_mib"].as_f64();
        assert!(memory_mib.is_some_and(|mib| mib > 1.0), "{report}");
    }
}

#[test]
fn actions_are_timed_at_given_dims_and_at_those_of_an_environment() {
    for of in ["--dims 7,3", "--env point-maze-medium"] {
        let report = measured(
            &format!("act --policy gcbc {of} --seconds 0.1 --set actor.network.hidden=[8]"),
            &["p50_us", "p99_us", "calls"],
        );
        let [median, tail] = ["p50_us", "p99_us"].map(|key| report[key].as_f64().unwrap());
        assert!(median <= tail, "{report}");
    }
}

/// A call that must end as wrong usage, with these words.
fn refuses(arguments: &str, words: [&str; 2]) {
    let mut call = vec!["bench"];
    call.extend(arguments.split_whitespace());
    let refused = telic(&call);
    let message = flat(&refused.stderr);
    assert_eq!(refused.code, 2, "{arguments}: {message}");
    assert_eq!(refused.stdout, "", "{arguments}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn numbers_out_of_range_are_wrong_usage() {
    let dims = "from 1 to 10000";
    for (arguments, value, expected) in [
        ("sim --env walker --threads 5000", "'5000'", "1..=1024"),
        ("sim --env walker --threads 0", "'0'", "1..=1024"),
        ("sim --env walker --worlds 99999", "'99999'", "1..=16384"),
        (
            "sample --dataset no.npz --batch 4000000000",
            "'4000000000'",
            "1..=65536",
        ),
        (
            "train --policy gcbc --dims 4,2 --batch 0",
            "'0'",
            "1..=65536",
        ),
        (
            "train --policy gcbc --dims 99999999999,2",
            "`99999999999`",
            dims,
        ),
        (
            "act --policy gcbc --dims 18446744073709551615,2",
            "`18446744073709551615`",
            dims,
        ),
        ("act --policy gcbc --dims 2,10001", "`10001`", dims),
        ("act --policy gcbc --dims 0,2", "`0`", dims),
        ("act --policy gcbc --dims 4", "'4'", "a comma between them"),
    ] {
        refuses(arguments, [value, expected]);
    }
}

#[test]
fn seconds_that_are_no_time_are_wrong_usage() {
    for what in [
        "sim --env walker",
        "sample --dataset no.npz",
        "train --policy gcbc --dims 4,2",
        "act --policy gcbc --dims 4,2",
    ] {
        for seconds in ["0", "-1", "NaN", "inf", "1e20", "soon"] {
            refuses(
                &format!("{what} --seconds {seconds}"),
                [&format!("'{seconds}'"), "above 0 and at most 86400"],
            );
        }
    }
}

#[test]
fn unknown_names_are_wrong_usage() {
    refuses(
        "sim --env nowhere",
        ["unknown environment `nowhere`", "walker"],
    );
    refuses("act --policy nobody --dims 4,2", ["nobody", "gcbc"]);
}
