use std::fs;

use proptest::prelude::*;
use telic_seed::Seed;

use super::*;
use crate::{Threads, TrainConfig, test_policy};

fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

/// Saves an agent after a few updates.
fn save_at(folder: &Utf8Path, step: u64, metric: f64) -> (Utf8PathBuf, Box<dyn crate::Learner>) {
    let config = TrainConfig::parse(
        "",
        "test",
        &[
            "dataset=points",
            "policy.id=test",
            "policy.noise=0.1",
            "batch_size=8",
        ],
    )
    .unwrap();
    let train = crate::DataPart::all(test_policy::dataset());
    let mut learner =
        crate::trainer::new_learner_for(&config, &train, &Threads::new(0).unwrap()).unwrap();
    for index in 0..step {
        learner.update(index).unwrap();
    }
    let content = Content {
        policy: &config.policy.id,
        policy_config: &config.policy.settings,
        model: &learner.model(),
        state: &learner.state(),
        step,
        seed: config.seed,
        config_hash: "0123abcd",
        dataset: &DatasetFingerprint::default(),
        metrics: &BTreeMap::from([("evaluation/success_rate".to_owned(), metric)]),
        unevaluated: false,
    };
    (save(folder, content).unwrap(), learner)
}

fn act(policy: &mut dyn Policy) -> Vec<f32> {
    let observations = ndarray::array![[0.1, 0.2, 1.0], [-0.3, 0.5, 1.0]];
    let goals = ndarray::array![[1.0, 0.2, 1.0], [-0.3, 0.9, 1.0]];
    let mut rngs = [Seed::new(1).rng(), Seed::new(2).rng()];
    let mut actions = ndarray::Array2::zeros((2, 2));
    policy.reset(2);
    policy
        .act(observations.view(), goals.view(), &mut rngs, &mut actions)
        .unwrap();
    actions.into_raw_vec_and_offset().0
}

#[test]
fn a_checkpoint_loads_as_the_policy_that_was_saved() {
    let (_keep, folder) = temporary();
    let run = folder.join("run");
    let (path, learner) = save_at(&run.join("checkpoints"), 3, 0.0);
    assert_eq!(path, run.join("checkpoints/step_00000003"));
    let checkpoint = Checkpoint::open(&run).unwrap();
    assert_eq!(checkpoint.path, path);
    let model = learner.model();
    let loaded = checkpoint.model().unwrap();
    assert_eq!(loaded.weights.first_difference(&model.weights), None);
    assert_eq!(loaded, model);
    assert_eq!(
        checkpoint
            .state()
            .unwrap()
            .first_difference(&learner.state()),
        None
    );
    let expected = act(learner.policy().unwrap().as_mut());
    for place in [run.clone(), run.join("checkpoints"), path] {
        assert_eq!(
            act(load_policy(&place, Device::Cpu).unwrap().as_mut()),
            expected
        );
    }
    // It can be moved, and other files do not matter.
    fs::rename(
        run.join("checkpoints/step_00000003"),
        folder.join("best policy"),
    )
    .unwrap();
    assert_eq!(
        act(load_policy(&folder.join("best policy"), Device::Cpu)
            .unwrap()
            .as_mut()),
        expected
    );
}

#[test]
fn equal_agents_give_equal_bytes() {
    let (_keep, folder) = temporary();
    let (a, _) = save_at(&folder.join("a"), 2, 0.5);
    let (b, _) = save_at(&folder.join("b"), 2, 0.5);
    for name in [MANIFEST_FILE, MODEL_FILE, STATE_FILE] {
        assert_eq!(
            fs::read(a.join(name)).unwrap(),
            fs::read(b.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn inspection_tells_what_is_inside() {
    let (_keep, folder) = temporary();
    save_at(&folder, 2, 0.5);
    let summary = inspect_checkpoint(&folder).unwrap();
    let manifest = &summary.checkpoint.manifest;
    assert_eq!(
        (manifest.policy.as_str(), manifest.step, manifest.parameters),
        ("test", 2, 6 * 16 + 16 * 2)
    );
    assert_eq!(manifest.data.env, "points");
    assert_eq!(
        summary.tensors,
        [
            ("net.0".into(), "f32 [6, 16]".into()),
            ("net.1".into(), "f32 [16, 2]".into())
        ]
    );
    assert_eq!(summary.state_values, 4 * 128 + 1);
}

#[test]
fn saving_again_replaces_and_unfinished_folders_are_ignored_and_cleaned() {
    let (_keep, folder) = temporary();
    save_at(&folder, 2, 0.5);
    save_at(&folder, 2, 0.75);
    let torn = folder.join(".tmp-step_00000009");
    fs::create_dir(&torn).unwrap();
    fs::write(torn.join(MANIFEST_FILE), "{").unwrap();
    fs::write(folder.join(".tmp-file"), "").unwrap();
    fs::create_dir(folder.join("step_latest")).unwrap();
    assert_eq!(
        Checkpoint::open(&folder).unwrap().manifest.metrics["evaluation/success_rate"],
        0.75
    );
    clean(&folder).unwrap();
    let mut names: Vec<String> = folder
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["step_00000002", "step_latest"]);
    clean(&folder.join("absent")).unwrap();
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let best = |maximize| KeepBest {
        metric: "evaluation/success_rate".into(),
        maximize,
    };
    let unknown = KeepBest {
        metric: "evaluation/other".into(),
        maximize: true,
    };
    for (keep, best, expected) in [
        (0, None, vec![1, 2, 3, 4]),
        (2, None, vec![3, 4]),
        (1, Some(best(true)), vec![2, 4]),
        (1, Some(best(false)), vec![3, 4]),
        (2, Some(unknown), vec![3, 4]),
        (9, Some(best(true)), vec![1, 2, 3, 4]),
    ] {
        let (_keep, folder) = temporary();
        for (step, value) in [(1, 0.5), (2, 0.75), (3, 0.25), (4, 0.75)] {
            save_at(&folder, step, value);
        }
        prune(&folder, keep, best.as_ref()).unwrap();
        let kept: Vec<u64> = list(&folder)
            .unwrap()
            .into_iter()
            .map(|(step, _)| step)
            .collect();
        assert_eq!(kept, expected, "{keep} {best:?}");
    }
}

#[test]
fn a_checkpoint_that_was_about_to_be_replaced_comes_back() {
    let (_keep, folder) = temporary();
    let (path, _) = save_at(&folder, 3, 0.5);
    let manifest = || Manifest::read(&path).unwrap().metrics;
    let (first, aside) = (manifest(), folder.join(".aside-step_00000003"));
    // Killed between stepping aside and the new one.
    fs::rename(&path, &aside).unwrap();
    clean(&folder).unwrap();
    assert!(manifest() == first && !aside.exists());
    // Killed before the old one was gone.
    fs::create_dir(&aside).unwrap();
    clean(&folder).unwrap();
    assert!(manifest() == first && !aside.exists());
    save_at(&folder, 3, 0.75);
    assert!(manifest() != first && !aside.exists());
}

/// The message of the failure to load after `change` was made to the manifest.
fn failure(change: impl Fn(&mut serde_json::Value)) -> String {
    let (_keep, folder) = temporary();
    let (path, _) = save_at(&folder, 1, 0.5);
    let file = path.join(MANIFEST_FILE);
    let mut manifest = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&file, manifest.to_string()).unwrap();
    let message = load_policy(&path, Device::Cpu).err().unwrap().to_string();
    let (message, place) = message.rsplit_once("\nin ").unwrap();
    assert!(place.starts_with(path.as_str()), "{place}");
    message.to_owned()
}

#[test]
fn every_wrong_checkpoint_has_its_own_message() {
    let (_keep, folder) = temporary();
    let missing = load_policy(&folder, Device::Cpu).err().unwrap().to_string();
    assert!(
        missing.starts_with("no checkpoint here; expected a run folder"),
        "{missing}"
    );
    assert_eq!(
        failure(|manifest| manifest["format_version"] = 7.into()),
        "the checkpoint has format version 7 (telic 0.1.0); this program reads versions 1 to 1"
    );
    assert!(
        failure(|manifest| manifest["policy"] = "tets".into())
            .starts_with("no policy is called `tets`; did you mean `test`?")
    );
    assert_eq!(
        failure(|manifest| manifest["data"]["observation_dim"] = 4.into()),
        "tensor `net.0` is f32 [6, 16] but f32 [8, 16] is expected"
    );
    assert_eq!(
        failure(|manifest| manifest["policy_config"] = "hidden = -3".into()),
        "`hidden` is -3; expected a whole number of at least 0"
    );
    assert_eq!(
        failure(|manifest| manifest["step"] = "one".into())
            .split(" at line")
            .next(),
        Some("cannot read the manifest: invalid type: string \"one\", expected u64")
    );
    assert_eq!(
        failure(|manifest| manifest["files"] = serde_json::json!({})),
        "cannot read the manifest: `files` has no `model.safetensors`"
    );
    assert!(
        failure(|manifest| *manifest = "text".into()).starts_with("cannot read the manifest: ")
    );
}

#[test]
fn a_truncated_file_is_told_by_its_length() {
    let (_keep, folder) = temporary();
    let (path, _) = save_at(&folder, 1, 0.5);
    let file = path.join(MODEL_FILE);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    let message = load_policy(&path, Device::Cpu).err().unwrap().to_string();
    let expected = format!(
        "the file is damaged: it has {} bytes with CRC-32 ",
        bytes.len() - 5
    );
    assert!(
        message.starts_with(&expected) && message.ends_with(&format!("\nin {file}")),
        "{message}"
    );
    fs::remove_file(&file).unwrap();
    let message = load_policy(&path, Device::Cpu).err().unwrap().to_string();
    assert!(
        message.starts_with("cannot read the checkpoint: ")
            && message.ends_with(&format!("\nin {file}")),
        "{message}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_to_a_file_goes_unnoticed(which in 0usize..2, position: prop::sample::Index, flip in 1u8.., cut: bool) {
        let (_keep, folder) = temporary();
        let (path, _) = save_at(&folder, 1, 0.5);
        let file = path.join([MODEL_FILE, STATE_FILE][which]);
        let mut bytes = fs::read(&file).unwrap();
        let at = position.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        fs::write(&file, bytes).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let result = if which == 0 { checkpoint.model().map(drop) } else { checkpoint.state().map(drop) };
        let damaged = matches!(result, Err(CheckpointError::Damaged { .. }));
        prop_assert!(damaged);
    }

    #[test]
    fn a_damaged_manifest_never_panics(position: prop::sample::Index, byte: u8, cut: bool) {
        let (_keep, folder) = temporary();
        let (path, _) = save_at(&folder, 1, 0.5);
        let file = path.join(MANIFEST_FILE);
        let mut bytes = fs::read(&file).unwrap();
        let at = position.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        fs::write(&file, &bytes).unwrap();
        let result = load_policy(&path, Device::Cpu).map(drop);
        // All but the closing brace and line break has to be there.
        prop_assert!(!cut || at + 1 >= bytes.len() || result.is_err());
    }
}
