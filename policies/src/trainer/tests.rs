use std::error::Error;
use std::fs;

use super::*;
use crate::{Metrics, test_policy};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join(name)
    }
}

fn config(overrides: &[&str]) -> TrainConfig {
    let mut all = vec![
        "dataset=points",
        "policy.id=test",
        "steps=40",
        "batch_size=16",
        "seed=3",
        "train_fraction=0.7",
        "log_every=7",
        "validate_every=12",
        "validation_batches=3",
        "evaluate_every=10",
        "checkpoint_every=9",
    ];
    all.extend(overrides);
    TrainConfig::parse("", "test", &all).unwrap()
}

fn create(overrides: &[&str], path: &Utf8Path) -> Result<Trainer, TrainError> {
    Trainer::create_with(config(overrides), path, test_policy::dataset(), None)
}

fn resume(overrides: &[&str], path: &Utf8Path) -> Result<Trainer, TrainError> {
    Trainer::resume_with(config(overrides), path, test_policy::dataset(), None)
}

/// Evaluates by acting, stops after a step, and writes down what it was told.
#[derive(Default)]
struct Watcher {
    stop_after: Option<u64>,
    gives_up_evaluation: Option<u64>,
    step: u64,
    events: Vec<String>,
}

impl TrainObserver for Watcher {
    fn on_start(&mut self, start: &RunStart<'_>) {
        self.events.push(format!("start {}", start.step));
    }

    fn on_step(&mut self, step: u64) {
        self.step = step;
    }

    fn on_log(&mut self, step: u64, metrics: &Metrics, speed: Speed) {
        assert!(metrics.get("actor/loss").unwrap() > 0.0 && speed.updates_per_sec.is_finite());
        self.events.push(format!("log {step}"));
    }

    fn on_validate(&mut self, step: u64, _metrics: &Metrics) {
        self.events.push(format!("validate {step}"));
    }

    fn on_evaluate(
        &mut self,
        step: u64,
        policy: &mut dyn Policy,
    ) -> Result<Option<Vec<(String, f64)>>, Box<dyn Error + Send + Sync>> {
        if self.gives_up_evaluation == Some(step) {
            return Ok(None);
        }
        self.events.push(format!("evaluate {step}"));
        policy.reset(1);
        let observations = ndarray::array![[0.1, 0.2, 1.0]];
        let mut actions = ndarray::Array2::zeros((1, 2));
        policy.act(
            observations.view(),
            observations.view(),
            &mut [Seed::new(1).rng()],
            &mut actions,
        )?;
        Ok(Some(vec![("action".into(), f64::from(actions[[0, 0]]))]))
    }

    fn on_checkpoint(&mut self, step: u64, _path: &Utf8Path) {
        self.events.push(format!("checkpoint {step}"));
    }

    fn should_stop(&mut self) -> bool {
        self.stop_after.is_some_and(|stop| self.step >= stop)
    }
}

fn train(trainer: &mut Trainer, stop_after: Option<u64>) -> (TrainOutcome, Vec<String>) {
    let mut watcher = Watcher {
        stop_after,
        ..Watcher::default()
    };
    let outcome = trainer.run(&mut watcher, &AtomicBool::new(false)).unwrap();
    (outcome, watcher.events)
}

/// The bytes of everything that a run leaves behind, apart from the TensorBoard events with their wall-clock times.
fn results(run: &Utf8Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in ["config.toml", "metrics.csv"] {
        files.insert(name.to_owned(), fs::read(run.join(name)).unwrap());
    }
    for (step, path) in checkpoint::list(&run.join("checkpoints")).unwrap() {
        for entry in path.read_dir_utf8().unwrap() {
            let entry = entry.unwrap();
            files.insert(
                format!("{step}/{}", entry.file_name()),
                fs::read(entry.path()).unwrap(),
            );
        }
    }
    files
}

fn assert_same(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in a {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_default();
        assert!(
            *bytes == b[name],
            "{name} differs:\n{}\n{}",
            text(bytes),
            text(&b[name])
        );
    }
}

#[test]
fn a_run_tells_and_leaves_what_it_should() {
    let folder = Folder::new();
    let path = folder.run("a");
    let mut trainer = create(&[], &path).unwrap();
    let (outcome, events) = train(&mut trainer, None);
    assert_eq!(
        outcome,
        TrainOutcome {
            step: 40,
            finished: true,
            checkpoint: path.join("checkpoints/step_00000040")
        }
    );
    assert_eq!(
        events,
        [
            "start 0",
            "log 7",
            "checkpoint 9",
            "evaluate 10",
            "validate 12",
            "log 14",
            "checkpoint 18",
            "evaluate 20",
            "log 21",
            "validate 24",
            "checkpoint 27",
            "log 28",
            "evaluate 30",
            "log 35",
            "validate 36",
            "checkpoint 36",
            "evaluate 40",
            "log 40",
            "validate 40",
            "checkpoint 40"
        ]
    );
    let table = fs::read_to_string(path.join("metrics.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "step,training/actor/loss,evaluation/action,validation/actor/loss"
    );
    let steps: Vec<&str> = lines[1..]
        .iter()
        .map(|line| line.split(',').next().unwrap())
        .collect();
    assert_eq!(
        steps,
        [
            "7", "10", "12", "14", "20", "21", "24", "28", "30", "35", "36", "40"
        ]
    );
    let kept: Vec<u64> = checkpoint::list(&path.join("checkpoints"))
        .unwrap()
        .iter()
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(kept, [36, 40]);
    let names: Vec<String> = path
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("events.out.tfevents."))
    );
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    // The loss goes down, so the agent was really trained.
    let loss = |line: &str| line.split(',').nth(1).unwrap().parse::<f64>().unwrap();
    assert!(loss(lines[lines.len() - 1]) < 0.7 * loss(lines[1]));
}

#[test]
fn the_same_seed_gives_the_same_bits_however_batches_are_read_and_on_however_many_threads() {
    let folder = Folder::new();
    train(&mut create(&[], &folder.run("a")).unwrap(), None);
    let expected = results(&folder.run("a"));
    for (name, overrides) in [
        ("again", &[][..]),
        ("inline", &["prefetch=0"]),
        ("ahead", &["prefetch=5"]),
        ("one thread", &["threads=1"]),
        ("three threads", &["threads=3"]),
    ] {
        train(&mut create(overrides, &folder.run(name)).unwrap(), None);
        let mut found = results(&folder.run(name));
        // The keys themselves are in the configuration, and in the manifest as its hash.
        for step in [36, 40] {
            found.insert(
                format!("{step}/manifest.json"),
                expected[&format!("{step}/manifest.json")].clone(),
            );
        }
        found.insert("config.toml".into(), expected["config.toml"].clone());
        assert_same(&expected, &found);
    }
    train(
        &mut create(&["seed=4"], &folder.run("other")).unwrap(),
        None,
    );
    assert!(
        results(&folder.run("other"))["40/model.safetensors"] != expected["40/model.safetensors"]
    );
}

#[test]
fn measuring_and_saving_do_not_change_the_weights() {
    let folder = Folder::new();
    train(&mut create(&[], &folder.run("a")).unwrap(), None);
    let quiet = [
        "log_every=40",
        "validate_every=0",
        "evaluate_every=0",
        "checkpoint_every=0",
    ];
    train(&mut create(&quiet, &folder.run("b")).unwrap(), None);
    let agent = |name| {
        Checkpoint::open(&folder.run(name))
            .unwrap()
            .state()
            .unwrap()
            .sub_map(AGENT)
    };
    assert_eq!(agent("a").first_difference(&agent("b")), None);
}

#[test]
fn a_stopped_and_resumed_run_equals_an_uninterrupted_one() {
    let folder = Folder::new();
    train(&mut create(&[], &folder.run("whole")).unwrap(), None);
    let expected = results(&folder.run("whole"));
    for stops in [&[5][..], &[9], &[12, 13, 33], &[1, 2, 39]] {
        let path = folder.run(&format!("stopped at {stops:?}"));
        let (outcome, _) = train(&mut create(&[], &path).unwrap(), Some(stops[0]));
        assert!(!outcome.finished && outcome.step == stops[0]);
        for stop in stops[1..].iter().copied().map(Some).chain([None]) {
            train(&mut resume(&[], &path).unwrap(), stop);
        }
        let mut found = results(&path);
        // The checkpoint of a stop outlives the next one, if it is among the newest.
        found.retain(|name, _| expected.contains_key(name));
        let mut expected = expected.clone();
        expected.retain(|name, _| found.contains_key(name));
        assert!(found.contains_key("40/state.safetensors"));
        assert_same(&expected, &found);
    }
}

#[test]
fn an_evaluation_that_is_given_up_is_done_first_when_the_run_goes_on() {
    let folder = Folder::new();
    // 10 and 20 have no checkpoint of their own, 18 has one, 35 has a row of averages, and 40 is the last.
    for (every, at) in [(10, 10), (10, 20), (9, 18), (7, 35), (10, 40)] {
        let every = format!("evaluate_every={every}");
        let whole = folder.run(&format!("{every}, {at}"));
        train(&mut create(&[&every], &whole).unwrap(), None);
        let path = folder.run(&format!("{every}, {at}, given up"));
        let give_up = |mut trainer: Trainer| {
            let mut watcher = Watcher {
                gives_up_evaluation: Some(at),
                ..Watcher::default()
            };
            let outcome = trainer.run(&mut watcher, &AtomicBool::new(false)).unwrap();
            assert!(!outcome.finished && outcome.step == at);
            let saved = Checkpoint::open(&outcome.checkpoint).unwrap();
            assert!(saved.manifest.unevaluated && saved.manifest.step == at);
            watcher.events
        };
        give_up(create(&[&every], &path).unwrap());
        let again = give_up(resume(&[&every], &path).unwrap());
        assert_eq!(again, [format!("start {at}"), format!("checkpoint {at}")]);
        let (outcome, events) = train(&mut resume(&[&every], &path).unwrap(), None);
        assert!(outcome.finished);
        assert_eq!(events[1], format!("evaluate {at}"));
        let (mut expected, mut found) = (results(&whole), results(&path));
        found.retain(|name, _| expected.contains_key(name));
        expected.retain(|name, _| found.contains_key(name));
        assert!(found.contains_key("40/state.safetensors") && found.contains_key("metrics.csv"));
        assert_same(&expected, &found);
    }
}

#[test]
fn a_run_killed_anywhere_resumes_to_the_same_bits() {
    let folder = Folder::new();
    train(&mut create(&[], &folder.run("whole")).unwrap(), None);
    let expected = results(&folder.run("whole"));
    for killed_at in [1, 8, 9, 20, 38] {
        let path = folder.run(&format!("killed at {killed_at}"));
        // What a killed process leaves: no checkpoint at its last step, a torn line, a torn temporary checkpoint.
        let mut trainer = create(&[], &path).unwrap();
        let mut watcher = Watcher::default();
        trainer.learner.start(0, 2).unwrap();
        let mut watch = Stopwatch::default();
        while trainer.step < killed_at {
            trainer.learner.update(trainer.step).unwrap();
            trainer.step += 1;
            trainer.read_metrics().unwrap();
            trainer.measure(&mut watcher, &mut watch).unwrap();
            if trainer.is_due(9) {
                trainer.save(&mut watcher).unwrap();
            }
        }
        drop(trainer);
        let table = path.join("metrics.csv");
        let torn = fs::read_to_string(&table).unwrap() + "39,0.1";
        fs::write(&table, torn).unwrap();
        let temporary = path.join("checkpoints/.tmp-Ab3dE9");
        fs::create_dir_all(&temporary).unwrap();
        fs::write(temporary.join("model.safetensors"), [1, 2, 3]).unwrap();
        fs::write(path.join(".tmp-config"), "st").unwrap();

        let mut resumed = resume(&[], &path).unwrap();
        assert_eq!(resumed.step(), killed_at / 9 * 9);
        assert!(!temporary.exists() && !path.join(".tmp-config").exists());
        train(&mut resumed, None);
        assert_same(&expected, &results(&path));
    }
}

#[test]
fn the_stop_flag_ends_a_run_with_a_checkpoint() {
    let folder = Folder::new();
    let mut trainer = create(&[], &folder.run("a")).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(true)).unwrap();
    assert_eq!(
        outcome,
        TrainOutcome {
            step: 0,
            finished: false,
            checkpoint: folder.run("a/checkpoints/step_00000000")
        }
    );
    let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    assert!(outcome.finished);
    // A finished run has nothing to do, and says so.
    assert_eq!(
        trainer.run(&mut (), &AtomicBool::new(false)).unwrap(),
        outcome
    );
    drop(trainer);
    let before = results(&folder.run("a"));
    assert_eq!(
        train(&mut resume(&[], &folder.run("a")).unwrap(), None).0,
        outcome
    );
    assert_same(&before, &results(&folder.run("a")));
}

#[test]
fn a_loss_that_is_not_a_number_keeps_the_last_good_checkpoint() {
    let folder = Folder::new();
    let path = folder.run("a");
    let mut trainer = create(&["policy.poison=20"], &path).unwrap();
    let error = trainer.run(&mut (), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`actor/loss` is NaN after update 20; the last good checkpoint is {path}/checkpoints/step_00000018"
        )
    );
    assert_eq!(Checkpoint::open(&path).unwrap().manifest.step, 18);
    let mut trainer = create(&["policy.poison=2"], &folder.run("b")).unwrap();
    let error = trainer.run(&mut (), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`actor/loss` is NaN after update 2; the last good checkpoint is not there yet"
    );
}

#[test]
fn a_run_is_never_overwritten_nor_resumed_as_another() {
    let folder = Folder::new();
    let path = folder.run("a");
    drop(create(&[], &path).unwrap());
    let message = |result: Result<Trainer, TrainError>| result.err().unwrap().to_string();
    let occupied = message(create(&[], &path));
    assert!(
        occupied.starts_with("the run folder already holds `"),
        "{occupied}"
    );
    assert_eq!(
        message(resume(&["seed=9", "policy.hidden=5"], &path)),
        format!(
            "the run was started with other settings; start a new run, or resume with the old ones (run, now):\n\
             `policy.hidden`: 16 and 5\n`seed`: 3 and 9\nin {path}"
        )
    );
    assert!(message(resume(&[], &folder.run("b"))).starts_with("there is no run to resume"));
    let held = resume(&[], &path).unwrap();
    assert_eq!(
        message(resume(&[], &path)),
        format!("another process is training in this run folder\nin {path}")
    );
    drop(held);

    train(&mut resume(&[], &path).unwrap(), None);
    let mut other = test_policy::dataset().columns().clone();
    other.actions[[3, 1]] += 0.5;
    let original = test_policy::dataset();
    let other = Dataset::new(
        other,
        original.episodes().clone(),
        original.metadata().clone(),
    )
    .unwrap();
    let changed = message(Trainer::resume_with(
        config(&[]),
        &path,
        Arc::new(other),
        None,
    ));
    assert!(
        changed.starts_with("the dataset has changed: the run began with "),
        "{changed}"
    );
    // Neither may what its goals are, or what it validates on.
    let mut metadata = original.metadata().clone();
    metadata.goal_indices = vec![1];
    let (columns, episodes) = (original.columns().clone(), original.episodes().clone());
    let regoaled = Dataset::new(columns, episodes, metadata).unwrap();
    for (dataset, validation) in [
        (Arc::new(regoaled), None),
        (original.clone(), Some(original)),
    ] {
        let changed = message(Trainer::resume_with(
            config(&[]),
            &path,
            dataset,
            validation,
        ));
        assert!(changed.starts_with("the dataset has changed"), "{changed}");
    }
}

#[test]
fn a_longer_run_goes_on_from_a_finished_one() {
    let folder = Folder::new();
    let path = folder.run("a");
    train(&mut create(&["steps=18"], &path).unwrap(), None);
    let (outcome, _) = train(&mut resume(&[], &path).unwrap(), None);
    assert!(outcome.finished && outcome.step == 40);
    train(&mut create(&[], &folder.run("b")).unwrap(), None);
    let (a, b) = (results(&path), results(&folder.run("b")));
    assert!(
        a["40/model.safetensors"] == b["40/model.safetensors"]
            && a["config.toml"] == b["config.toml"]
    );
}

#[test]
fn data_that_cannot_train_is_refused_before_the_folder_is_made() {
    let folder = Folder::new();
    let path = folder.run("a");
    let error = create(&["train_fraction=0.01"], &path)
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "`train_fraction` 0.01 leaves none of 12 episode(s) to train on; use 1 to train on all"
    );
    let narrow = Dataset::from_episodes(
        &[telic_datasets::Episode {
            observations: ndarray::Array2::zeros((4, 2)),
            actions: ndarray::Array2::zeros((4, 2)),
            ..Default::default()
        }],
        Default::default(),
    );
    let narrow = Some(Arc::new(narrow.unwrap()));
    let error = Trainer::create_with(
        config(&["validation_dataset=v.npz"]),
        &path,
        test_policy::dataset(),
        narrow,
    );
    assert_eq!(
        error.err().unwrap().to_string(),
        "the validation dataset has observation_dim 2, the training dataset 3\nin v.npz"
    );
    assert!(!path.exists());
}

#[test]
fn an_evaluation_that_fails_stops_the_run() {
    struct Failing;
    impl TrainObserver for Failing {
        fn on_evaluate(
            &mut self,
            _step: u64,
            _policy: &mut dyn Policy,
        ) -> Result<Option<Vec<(String, f64)>>, Box<dyn Error + Send + Sync>> {
            Err("no such environment".into())
        }
    }
    let folder = Folder::new();
    let mut trainer = create(&[], &folder.run("a")).unwrap();
    let error = trainer
        .run(&mut Failing, &AtomicBool::new(false))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "evaluation after update 10 failed: no such environment"
    );
    assert_eq!(error.source().unwrap().to_string(), "no such environment");
}

#[test]
fn an_evaluation_that_is_no_number_stops_the_run_and_leaves_a_checkpoint_that_can_be_read() {
    struct Odd;
    impl TrainObserver for Odd {
        fn on_evaluate(
            &mut self,
            step: u64,
            _policy: &mut dyn Policy,
        ) -> Result<Option<Vec<(String, f64)>>, Box<dyn Error + Send + Sync>> {
            let score = if step == 20 { f64::INFINITY } else { 1.0 };
            Ok(Some(vec![("score".to_owned(), score)]))
        }
    }
    let folder = Folder::new();
    let path = folder.run("a");
    let mut trainer = create(&[], &path).unwrap();
    let error = trainer.run(&mut Odd, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`evaluation/score` is inf after update 20; the last good checkpoint is {path}/checkpoints/step_00000018"
        )
    );
    assert_eq!(Checkpoint::open(&path).unwrap().manifest.step, 18);
}

#[test]
fn the_best_checkpoint_is_kept_beside_the_newest() {
    let folder = Folder::new();
    let path = folder.run("a");
    let overrides = [
        "keep_checkpoints=1",
        "checkpoint_every=10",
        "log_every=10",
        // The loss falls: the worst checkpoint is the first.
        "keep_best={ metric = \"training/actor/loss\" }",
    ];
    train(&mut create(&overrides, &path).unwrap(), None);
    let kept: Vec<u64> = checkpoint::list(&path.join("checkpoints"))
        .unwrap()
        .iter()
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(kept, [10, 40]);
}

#[test]
fn a_best_metric_that_is_not_measured_is_told_at_the_first_checkpoint() {
    let folder = Folder::new();
    let path = folder.run("a");
    let overrides = |metric: &str| {
        [
            "checkpoint_every=10".to_owned(),
            "log_every=10".to_owned(),
            format!("keep_best={{ metric = {metric:?} }}"),
        ]
    };
    let misspelt = overrides("training/actor/los");
    let misspelt = misspelt.each_ref().map(String::as_str);
    let error = create(&misspelt, &path)
        .unwrap()
        .run(&mut Watcher::default(), &AtomicBool::new(false))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "`keep_best.metric` is training/actor/los, expected one of: training/actor/loss"
        ),
        "{error}"
    );
    assert_eq!(Checkpoint::open(&path).unwrap().manifest.step, 10);
}
