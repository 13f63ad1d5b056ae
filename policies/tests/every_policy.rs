//! What every registered policy keeps, whatever its algorithm.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::{Array2, Axis, s};
use rand::RngExt;
use telic_datasets::Dataset;
use telic_policies::{
    Checkpoint, Device, Policy, PolicyError, PolicySpec, Problems, TrainConfig, TrainObserver,
    Trainer, load_policy, specs, synthetic_dataset,
};
use telic_seed::{Rng, Seed};

const OBSERVATION_DIM: usize = 5;
const ACTION_DIM: usize = 2;

fn data() -> Arc<Dataset> {
    Arc::new(synthetic_dataset(OBSERVATION_DIM, ACTION_DIM, 6, 40).unwrap())
}

fn config(spec: &PolicySpec, overrides: &[&str]) -> TrainConfig {
    let id = format!("policy.id={}", spec.id);
    let mut all = vec![
        "dataset=synthetic",
        &id,
        "steps=6",
        "batch_size=4",
        "seed=11",
        "train_fraction=0.7",
        "log_every=2",
        "validate_every=3",
        "validation_batches=1",
        "checkpoint_every=2",
        "keep_checkpoints=0",
    ];
    all.extend(overrides);
    TrainConfig::parse("", "test", &all).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join(name)
    }
}

struct StopAfter(u64, u64);

impl TrainObserver for StopAfter {
    fn on_step(&mut self, step: u64) {
        self.1 = step;
    }

    fn should_stop(&mut self) -> bool {
        self.1 >= self.0
    }
}

fn train(mut trainer: Trainer, stop_after: u64) {
    trainer
        .run(&mut StopAfter(stop_after, 0), &AtomicBool::new(false))
        .unwrap();
}

fn create(spec: &PolicySpec, overrides: &[&str], path: &Utf8Path) -> Trainer {
    Trainer::create_with(config(spec, overrides), path, data(), None).unwrap()
}

fn resume(spec: &PolicySpec, path: &Utf8Path) -> Trainer {
    Trainer::resume_with(config(spec, &[]), path, data(), None).unwrap()
}

/// Asserts that two runs ended with the same training state, inference weights and metrics.
fn assert_same_end(spec: &PolicySpec, a: &Utf8Path, b: &Utf8Path) {
    let [left, right] = [a, b].map(|path| Checkpoint::open(path).unwrap());
    assert_eq!(left.manifest.step, right.manifest.step, "{}", spec.id);
    assert_eq!(
        left.state()
            .unwrap()
            .first_difference(&right.state().unwrap()),
        None,
        "{}",
        spec.id
    );
    assert_eq!(
        left.model()
            .unwrap()
            .weights
            .first_difference(&right.model().unwrap().weights),
        None,
        "{}",
        spec.id
    );
    let [left, right] = [a, b].map(|path| fs::read_to_string(path.join("metrics.csv")).unwrap());
    assert_eq!(left, right, "{}", spec.id);
}

#[test]
fn ids_are_unique_and_defaults_are_valid() {
    let mut ids: Vec<_> = specs().iter().map(|spec| spec.id).collect();
    assert!(!ids.is_empty());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), specs().len());
    for spec in specs() {
        assert!(
            !spec.name.is_empty() && !spec.summary.is_empty() && !spec.paper.is_empty(),
            "{}",
            spec.id
        );
        let defaults = (spec.default_config)();
        let mut problems = Problems::new();
        assert_eq!(
            (spec.resolve_config)(&toml::Table::new(), &mut problems),
            defaults,
            "{}",
            spec.id
        );
        assert_eq!(
            (spec.resolve_config)(&defaults, &mut problems),
            defaults,
            "{}",
            spec.id
        );
        assert!(problems.is_empty(), "{}: {problems}", spec.id);
        assert!(
            !defaults.contains_key("id"),
            "{}: `id` names the policy",
            spec.id
        );
    }
}

/// Options with which an update takes another way than with the defaults.
const VARIANTS: &[(&str, &[&str])] = &[
    ("beso", &["policy.network.kind=mlp"]),
    ("beso", &["policy.stitched=0.5", "policy.clusters=4"]),
    ("hilp", &["policy.mix=0.5", "policy.goals.n_step=3"]),
    ("smore", &["policy.loss=plain", "policy.goals.n_step=3"]),
    ("smore", &["policy.extraction=ddpg_bc"]),
    ("gcbc", &["policy.goals.actor.stitched=0.5"]),
    ("gcivl", &["policy.goals.value.stitched=0.5"]),
    ("gcivl", &["policy.goals.n_step=3"]),
    ("gciql", &["policy.extraction=awr"]),
];

/// As many rows and as wide layers as passes over them are divided among threads for, and no more of them than that takes.
fn divided(spec: &PolicySpec) -> Vec<String> {
    const ROWS: usize = 128;
    const WIDTH: usize = 160;
    // The numbers of a block, the least that a thread is given.
    const _: () = assert!(ROWS * WIDTH > 16 * 1024);
    fn visit(place: &str, table: &toml::Table, overrides: &mut Vec<String>) {
        for (key, value) in table {
            let place = format!("{place}.{key}");
            let value = match (key.as_str(), value) {
                (_, toml::Value::Table(table)) => {
                    visit(&place, table, overrides);
                    continue;
                }
                ("hidden", _) => format!("[{WIDTH}, {WIDTH}]"),
                ("width" | "trunk_width" | "embedding_width", _) => WIDTH.to_string(),
                // A batch of the transformer has twelve times as many rows.
                ("embed_dim", _) => "60".to_owned(),
                ("layers", _) => "1".to_owned(),
                _ => continue,
            };
            overrides.push(format!("{place}={value}"));
        }
    }
    let mut overrides = vec![
        format!("batch_size={ROWS}"),
        "checkpoint_every=0".to_owned(),
    ];
    visit("policy", &(spec.default_config)(), &mut overrides);
    overrides
}

#[test]
fn threads_and_reading_ahead_change_no_bit() {
    let folder = Folder::new();
    let no_options: &[&str] = &[];
    let defaults = specs().iter().map(|spec| (spec.id, no_options));
    for (number, (id, options)) in defaults.chain(VARIANTS.iter().copied()).enumerate() {
        let spec = telic_policies::spec(id).unwrap();
        let run = |name: &str| folder.run(&format!("{id}-{number}-{name}"));
        let divided = divided(spec);
        let train = |name: &str, more: &[&str]| {
            let divided = divided.iter().map(String::as_str);
            let overrides: Vec<&str> = divided.chain(options.iter().chain(more).copied()).collect();
            train(create(spec, &overrides, &run(name)), 6);
        };
        train("one", &["threads=1"]);
        for (name, more) in [
            ("two", &["threads=2"][..]),
            ("three", &["threads=3", "prefetch=0"]),
        ] {
            train(name, more);
            assert_same_end(spec, &run("one"), &run(name));
        }
        train("other", &["threads=1", "seed=12"]);
        let [a, b] =
            ["one", "other"].map(|name| Checkpoint::open(&run(name)).unwrap().model().unwrap());
        assert!(
            a.weights.first_difference(&b.weights).is_some(),
            "{id}: the seed does not matter"
        );
    }
}

/// Mean losses of the last two updates.
fn last_losses(path: &Utf8Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(path.join("metrics.csv")).unwrap();
    let mut rows = text.lines();
    let names = rows.next().unwrap().split(',');
    let last = rows.last().unwrap().split(',');
    names
        .zip(last)
        .filter(|(name, _)| name.starts_with("training/") && name.ends_with("/loss"))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[test]
fn mixed_precision_rounds_and_resumes_to_the_same_bits() {
    const BF16: &[&str] = &["precision=bf16"];
    let folder = Folder::new();
    for spec in specs() {
        let run = |name: &str| folder.run(&format!("{}-{name}", spec.id));
        train(create(spec, &[], &run("f32")), 6);
        train(create(spec, BF16, &run("bf16")), 6);
        train(create(spec, BF16, &run("parts")), 3);
        let parts = Trainer::resume_with(config(spec, BF16), &run("parts"), data(), None).unwrap();
        train(parts, 6);
        assert_same_end(spec, &run("bf16"), &run("parts"));
        let [exact, mixed] = ["f32", "bf16"].map(|name| last_losses(&run(name)));
        assert_ne!(exact, mixed, "{}: nothing is rounded", spec.id);
        assert!(!exact.is_empty(), "{}", spec.id);
        for ((name, exact), (_, mixed)) in exact.iter().zip(&mixed) {
            assert!(
                // Weights exp(α A) of imitation move most.
                (exact - mixed).abs() < 0.15 * exact.abs().max(0.1),
                "{}: {name} is {exact} in f32 and {mixed} in bf16",
                spec.id
            );
        }
    }
}

#[test]
fn an_interrupted_run_equals_an_uninterrupted_one() {
    let folder = Folder::new();
    for spec in specs() {
        let (whole, parts) = (
            folder.run(&format!("{}-whole", spec.id)),
            folder.run(&format!("{}-parts", spec.id)),
        );
        train(create(spec, &[], &whole), 6);
        train(create(spec, &[], &parts), 1);
        train(resume(spec, &parts), 4);
        train(resume(spec, &parts), 6);
        assert_same_end(spec, &whole, &parts);
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let folder = Folder::new();
    for spec in specs() {
        let path = folder.run(spec.id);
        train(create(spec, &[], &path), 6);
        let mut policy = load_policy(&path, Device::Cpu).unwrap();
        policy.reset(2);
        let good = Array2::<f32>::zeros((2, OBSERVATION_DIM));
        let mut bad = good.clone();
        bad[[1, 3]] = f32::NAN;
        let mut actions = Array2::from_elem((2, ACTION_DIM), 0.5);
        for (observations, goals, expected) in [
            (&bad, &good, "`observations` has NaN in row 1, entry 3"),
            (&good, &bad, "`goals` has NaN in row 1, entry 3"),
        ] {
            let mut rngs: Vec<Rng> = vec![Seed::new(1).rng(), Seed::new(2).rng()];
            let error = policy
                .act(observations.view(), goals.view(), &mut rngs, &mut actions)
                .unwrap_err();
            assert!(
                error.to_string().starts_with(expected),
                "{}: {error}",
                spec.id
            );
            assert!(actions.iter().all(|action| *action == 0.5), "{}", spec.id);
        }
    }
}

#[test]
fn goals_without_effect_are_refused_where_a_training_starts() {
    let folder = Folder::new();
    let (negative, actor) = (
        "policy.goals.negative_rewards=false",
        "policy.goals.actor={trajectory=0.5, random=0.5}",
    );
    for spec in specs() {
        for (change, effect) in [
            (negative, ["gcivl", "gciql", "hiql"]),
            (actor, ["smore", "hilp", "hilp_zero_shot"]),
        ] {
            // The first list has what heeds it, the second what does not.
            let refused = (change == actor) == effect.contains(&spec.id);
            if spec.id == "beso" {
                continue; // it has no such table
            }
            let path = folder.run(&format!("{}-{}", spec.id, change.len()));
            let outcome = Trainer::create_with(config(spec, &[change]), &path, data(), None);
            let message = outcome.err().map(|error| error.to_string());
            assert_eq!(
                message.is_some(),
                refused,
                "{} {change}: {message:?}",
                spec.id
            );
            if let Some(message) = message {
                assert!(message.contains("takes no notice"), "{message}");
                assert!(!path.exists(), "{}", spec.id);
            }
        }
    }
}

#[test]
fn stitched_goals_need_goals_of_trajectories() {
    for (id, change) in [
        ("qrl", "policy.goals.value.stitched=0.5"),
        (
            "gcbc",
            "policy.goals.actor={random=1.0, current=0.0, trajectory=0.0, geometric=false, stitched=0.5}",
        ),
    ] {
        let set = [
            format!("policy.id={id}"),
            "dataset=data.npz".to_owned(),
            change.to_owned(),
        ];
        let error = TrainConfig::parse("", "stitched", &set).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("a share of the trajectory goals"),
            "{id}: {message}"
        );
    }
}

/// The process that [`a_killed_process_leaves_a_folder_that_resumes_to_the_same_bits`] kills.
#[test]
#[ignore = "runs only as a child process"]
fn child_that_trains() {
    let Ok(path) = std::env::var("TELIC_TEST_RUN") else {
        return;
    };
    let id = std::env::var("TELIC_TEST_POLICY").unwrap();
    let spec = telic_policies::spec(&id).unwrap();
    train(
        create(spec, &["steps=100000"], Utf8Path::new(&path)),
        u64::MAX,
    );
}

#[test]
fn a_killed_process_leaves_a_folder_that_resumes_to_the_same_bits() {
    let folder = Folder::new();
    // One policy is enough: what is killed is the trainer.
    let spec = &specs()[0];
    for attempt in 0..3 {
        let path = folder.run(&format!("killed-{attempt}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_trains", "--exact", "--ignored", "--nocapture"])
            .env("TELIC_TEST_RUN", path.as_str())
            .env("TELIC_TEST_POLICY", spec.id)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Checkpoints come every other update, so the kill falls into writing one about as often as not.
        let begin = Instant::now();
        while Checkpoint::open(&path).map_or(0, |checkpoint| checkpoint.manifest.step)
            < 4 + 2 * attempt
        {
            assert!(
                begin.elapsed() < Duration::from_mins(2),
                "the child does not train"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let newest = Checkpoint::open(&path).unwrap().manifest.step;
        let end = newest + 5;
        let killed =
            Trainer::resume_with(config(spec, &["steps=100000"]), &path, data(), None).unwrap();
        assert_eq!(killed.step(), newest);
        train(killed, end);
        let whole = folder.run(&format!("whole-{attempt}"));
        train(create(spec, &["steps=100000"], &whole), end);
        assert_same_end(spec, &whole, &path);
        assert!(
            path.join("checkpoints")
                .read_dir_utf8()
                .unwrap()
                .all(|entry| entry.unwrap().file_name().starts_with("step_")),
            "something half-written is left"
        );
    }
}

/// A trained policy of each kind.
fn with_policies(test: impl Fn(&PolicySpec, &Utf8Path)) {
    let folder = Folder::new();
    for spec in specs() {
        let path = folder.run(spec.id);
        train(create(spec, &[], &path), 6);
        test(spec, &path);
    }
}

fn random_rows(rows: usize, name: &str) -> Array2<f32> {
    let mut rng = Seed::new(2).child(name).rng();
    Array2::from_shape_simple_fn((rows, OBSERVATION_DIM), || rng.random_range(-1.0..1.0))
}

fn rngs(rows: std::ops::Range<u64>) -> Vec<Rng> {
    rows.map(|row| Seed::new(3).index(row).rng()).collect()
}

/// Acts for `steps` steps in rows `rows` of 3; `[steps, rows, action_dim]` flat.
fn act(policy: &mut dyn Policy, rows: std::ops::Range<usize>, steps: usize) -> Vec<Vec<f32>> {
    policy.reset(rows.len());
    let mut rngs = rngs(rows.start as u64..rows.end as u64);
    let goals = random_rows(3, "goals")
        .slice(s![rows.clone(), ..])
        .to_owned();
    let mut actions = Array2::zeros((rows.len(), ACTION_DIM));
    let mut all = vec![vec![]; rows.len()];
    for step in 0..steps {
        let observations = random_rows(3, &format!("observations {step}"))
            .slice(s![rows.clone(), ..])
            .to_owned();
        policy
            .act(observations.view(), goals.view(), &mut rngs, &mut actions)
            .unwrap();
        assert!(
            actions.iter().all(|action| (-1.0..=1.0).contains(action)),
            "{actions}"
        );
        for (row, action) in actions.axis_iter(Axis(0)).enumerate() {
            all[row].extend(action);
        }
    }
    all
}

#[test]
fn a_checkpoint_acts_like_the_agent_and_rows_do_not_see_each_other() {
    let folder = Folder::new();
    for spec in specs() {
        let path = folder.run(spec.id);
        let mut trainer = create(spec, &[], &path);
        trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
        let together = act(trainer.policy().unwrap().as_mut(), 0..3, 8);
        let mut loaded = load_policy(&path, Device::Cpu).unwrap();
        assert_eq!(
            (loaded.observation_dim(), loaded.action_dim()),
            (OBSERVATION_DIM, ACTION_DIM),
            "{}",
            spec.id
        );
        assert_eq!(act(loaded.as_mut(), 0..3, 8), together, "{}", spec.id);
        // Again, after a reset, and each row alone.
        assert_eq!(act(loaded.as_mut(), 0..3, 8), together, "{}", spec.id);
        for (row, expected) in together.iter().enumerate() {
            let alone = act(loaded.as_mut(), row..row + 1, 8);
            assert_eq!(alone[0], *expected, "{}, row {row}", spec.id);
        }
    }
}

#[test]
fn a_reset_row_starts_anew_and_leaves_the_others() {
    with_policies(|spec, path| {
        let mut policy = load_policy(path, Device::Cpu).unwrap();
        let fresh = act(policy.as_mut(), 0..2, 1);
        policy.reset(2);
        let goals = random_rows(2, "goals");
        let mut actions = Array2::zeros((2, ACTION_DIM));
        for step in 0..4 {
            let observations = random_rows(2, &format!("before {step}"));
            policy
                .act(
                    observations.view(),
                    goals.view(),
                    &mut rngs(5..7),
                    &mut actions,
                )
                .unwrap();
        }
        policy.reset_row(1);
        policy.reset_row(17);
        let observations = random_rows(3, "observations 0")
            .slice(s![..2, ..])
            .to_owned();
        let goals = random_rows(3, "goals").slice(s![..2, ..]).to_owned();
        policy
            .act(
                observations.view(),
                goals.view(),
                &mut rngs(0..2),
                &mut actions,
            )
            .unwrap();
        assert_eq!(actions.row(1).to_vec(), fresh[1], "{}", spec.id);
    });
}

#[test]
fn wrong_shapes_are_errors_and_change_nothing() {
    with_policies(|spec, path| {
        let mut policy = load_policy(path, Device::Cpu).unwrap();
        let expected = act(policy.as_mut(), 0..1, 4);
        policy.reset(1);
        let goals = random_rows(3, "goals").slice(s![..1, ..]).to_owned();
        let mut rngs = rngs(0..1);
        let mut actions = Array2::zeros((1, ACTION_DIM));
        let mut found = vec![];
        let wide = Array2::zeros((1, OBSERVATION_DIM + 1));
        let tall = Array2::zeros((2, OBSERVATION_DIM));
        for step in 0..4 {
            let good = random_rows(3, &format!("observations {step}"))
                .slice(s![..1, ..])
                .to_owned();
            let before = rngs.clone();
            let mut wrong_actions = Array2::zeros((1, ACTION_DIM + 1));
            let mut two: Vec<Rng> = vec![rngs[0].clone(), rngs[0].clone()];
            let results = [
                policy.act(wide.view(), goals.view(), &mut rngs, &mut actions),
                policy.act(tall.view(), goals.view(), &mut rngs, &mut actions),
                policy.act(good.view(), wide.view(), &mut rngs, &mut actions),
                policy.act(good.view(), tall.view(), &mut rngs, &mut actions),
                policy.act(good.view(), goals.view(), &mut two, &mut actions),
                policy.act(good.view(), goals.view(), &mut rngs, &mut wrong_actions),
            ];
            for (case, result) in results.into_iter().enumerate() {
                assert!(
                    matches!(result, Err(PolicyError::Shape { .. })),
                    "{}, case {case}: {result:?}",
                    spec.id
                );
            }
            assert!(rngs == before, "{}", spec.id);
            policy
                .act(good.view(), goals.view(), &mut rngs, &mut actions)
                .unwrap();
            found.extend(actions.iter().copied());
        }
        assert_eq!(found, expected[0], "{}", spec.id);
    });
}

#[test]
fn settings_round_trip_and_unknown_ones_are_refused() {
    with_policies(|spec, path| {
        let mut policy = load_policy(path, Device::Cpu).unwrap();
        let settings = policy.settings();
        policy.configure(&settings).unwrap();
        assert_eq!(policy.settings(), settings, "{}", spec.id);
        let unknown: toml::Table = toml::from_str("no_such_setting = 1").unwrap();
        let error = policy.configure(&unknown).unwrap_err();
        assert!(
            error.to_string().contains("`no_such_setting`: unknown key"),
            "{}: {error}",
            spec.id
        );
        assert_eq!(policy.settings(), settings, "{}", spec.id);
    });
}

#[test]
fn a_state_of_another_size_is_refused_with_the_tensor_and_the_path() {
    with_policies(|spec, path| {
        let wider = Arc::new(synthetic_dataset(OBSERVATION_DIM + 1, ACTION_DIM, 6, 40).unwrap());
        let newest = Checkpoint::open(path).unwrap();
        // The data of the run has changed its width: the fingerprint tells before any tensor does.
        let error = Trainer::resume_with(config(spec, &[]), path, wider, None)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("the dataset has changed"),
            "{}: {error}",
            spec.id
        );
        let manifest = newest.path.join("manifest.json");
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        json["data"]["action_dim"] = (ACTION_DIM + 1).into();
        fs::write(&manifest, json.to_string()).unwrap();
        let error = load_policy(path, Device::Cpu).err().unwrap().to_string();
        assert!(
            error.ends_with(&format!("in {}/model.safetensors", newest.path)),
            "{}: {error}",
            spec.id
        );
    });
}
