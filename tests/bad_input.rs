//! Bad input: one clear message, and nothing that was not there before.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::Array2;
use telic_datasets::{Dataset, Episode, Layout, Metadata};

/// Exit code and message of a call.
fn telic(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_telic"))
        .args(arguments)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), message)
}

/// What a folder holds, by path.
fn listing(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found: Vec<Utf8PathBuf> = folder
        .read_dir_utf8()
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path().to_owned();
            let below = if path.is_dir() {
                listing(&path)
            } else {
                vec![]
            };
            [vec![path], below].concat()
        })
        .collect();
    found.sort();
    found
}

fn save(path: &Utf8Path, observation_dim: usize) {
    let episodes: Vec<Episode> = (0..2)
        .map(|episode| Episode {
            observations: Array2::from_shape_fn((21, observation_dim), |(row, column)| {
                (episode + row + column) as f32 * 0.1
            }),
            actions: Array2::from_elem((21, 2), 0.25),
            ..Episode::default()
        })
        .collect();
    let metadata = Metadata {
        env: "point-maze-medium".to_owned(),
        ..Metadata::default()
    };
    let dataset = Dataset::from_episodes(&episodes, metadata).unwrap();
    dataset.save(path, Layout::Regular).unwrap();
}

/// A call that must fail with these words and leave the folder as it was.
fn refuses(folder: &Utf8Path, arguments: &[&str], words: &[&str]) {
    let before = listing(folder);
    let (code, message) = telic(arguments);
    assert_ne!(code, 0, "{arguments:?}");
    assert_eq!(message.matches("error:").count(), 1, "{message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
    assert_eq!(listing(folder), before, "{arguments:?}");
}

#[test]
fn training_refuses_what_it_cannot_learn_from() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(temp.path()).unwrap();
    let (good, wide, cut) = (
        folder.join("good.npz"),
        folder.join("wide.npz"),
        folder.join("cut.npz"),
    );
    save(&good, 2);
    save(&wide, 3);
    let bytes = std::fs::read(&good).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let config = folder.join("gcivl.toml");
    std::fs::write(
        &config,
        "steps = 2\nbatch_size = 8\nvalidate_every = 0\n[policy]\nid = 'gcivl'\n[policy.value]\nhidden = [8]\n",
    )
    .unwrap();
    let run = folder.join("run");
    let train = |set: &[&str], words: &[&str]| {
        let mut arguments = vec!["train", config.as_str(), "--out", run.as_str()];
        for entry in set {
            arguments.extend(["--set", entry]);
        }
        refuses(folder, &arguments, words);
    };
    let of = |path: &Utf8Path| format!("dataset={path}");
    let (of_good, of_wide, of_cut) = (of(&good), of(&wide), of(&cut));
    train(&[&of_cut], &["cannot read the archive", "cut.npz"]);
    train(&["dataset=nothing.npz"], &["nothing.npz"]);
    train(
        &[&of_good, "policy.alhpa=2.0"],
        &["`policy.alhpa`", "did you mean `alpha`?"],
    );
    train(
        &[&of_good, "policy.inputs.observation_columns=[0,5]"],
        &["`observation_columns` holds 5", "below 2"],
    );
    train(
        &[&of_good, "env=nowhere", "evaluate_every=1"],
        &["unknown environment `nowhere`"],
    );
    train(
        &[&of_wide, "evaluate_every=1"],
        &["wide.npz has 3", "`point-maze-medium` has 2"],
    );
    train(
        &[&of_good, "policy={id='hilp', prompt={kind='reward'}}"],
        &["`policy.prompt.kind` is \"reward\"", "goal or plan"],
    );
    train(
        &[
            &of_good,
            "policy={id='hilp_zero_shot', prompt={kind='plan'}}",
        ],
        &["`policy.prompt.kind` is \"plan\"", "expected goal;"],
    );
    train(
        &[&of_good, "policy.goals.actor.stitched=1.5"],
        &["stitched", "1.5"],
    );
    train(
        &[&of_good, "policy.goals.n_step=0"],
        &["`policy.goals.n_step` is 0", "at least 1"],
    );
    train(
        &[&of_good, "policy={id='crl', goals={n_step=3}}"],
        &["`policy.goals.n_step` is 3", "expected 1"],
    );

    // What is there is not touched by another configuration, another dataset or a damaged file.
    let (code, message) = telic(&[
        "train",
        config.as_str(),
        "--set",
        &of_good,
        "--out",
        run.as_str(),
    ]);
    assert_eq!(code, 0, "{message}");
    train(&[&of_good], &["already holds"]);
    refuses(
        folder,
        &[
            "train",
            config.as_str(),
            "--set",
            &of_wide,
            "--out",
            run.as_str(),
            "--resume",
        ],
        &["started with other settings", "wide.npz"],
    );
    refuses(
        folder,
        &["evaluate", run.as_str(), "--env", "cube-single"],
        &["observation entries", "the policy has 2"],
    );
    refuses(
        folder,
        &["evaluate", run.as_str(), "--prompt", "reward"],
        &["cannot be prompted with a reward"],
    );
    refuses(
        folder,
        &["evaluate", run.as_str(), "--prompt", "plan"],
        &["prompt"],
    );
    refuses(
        folder,
        &["evaluate", run.as_str(), "--labelled", good.as_str()],
        &["--prompt"],
    );
    refuses(folder, &["report", good.as_str()], &["good.npz"]);

    let checkpoint = run.join("checkpoints/step_00000002");
    let manifest = std::fs::read_to_string(checkpoint.join("manifest.json")).unwrap();
    let newer = manifest.replace("\"format_version\": 1", "\"format_version\": 99");
    assert_ne!(newer, manifest);
    std::fs::write(checkpoint.join("manifest.json"), newer).unwrap();
    refuses(
        folder,
        &["evaluate", run.as_str()],
        &["format version 99", "reads versions 1 to 1"],
    );
    std::fs::write(checkpoint.join("manifest.json"), &manifest).unwrap();
    let weights = checkpoint.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..300]).unwrap();
    refuses(
        folder,
        &["evaluate", run.as_str()],
        &["the file is damaged", "model.safetensors"],
    );
}
