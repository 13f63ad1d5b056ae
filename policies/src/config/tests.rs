use super::*;

const MINIMAL: &str = "dataset = \"data/points.npz\"\n[policy]\nid = \"test\"\n";

fn parse(text: &str, overrides: &[&str]) -> Result<TrainConfig, String> {
    TrainConfig::parse(text, "run.toml", overrides).map_err(|error| error.to_string())
}

#[test]
fn the_resolved_file_has_every_key_and_reads_back() {
    let config = parse(MINIMAL, &[]).unwrap();
    let text = config.to_toml();
    assert_eq!(
        text,
        r#"batch_size = 256
checkpoint_every = 5000
dataset = "data/points.npz"
device = "cpu"
evaluate_every = 0
evaluation_episodes = 50
keep_checkpoints = 2
log_every = 100
precision = "f32"
prefetch = 2
seed = 0
steps = 100000
threads = 0
train_fraction = 0.95
validate_every = 5000
validation_batches = 8

[policy]
dropout = 0.1
hidden = 16
id = "test"
noise = 0.0
poison = 0

[policy.optimizer]
beta = 0.9
lr = 0.003
"#
    );
    assert_eq!(parse(&text, &[]).unwrap(), config);
}

#[test]
fn a_table_in_part_keeps_the_defaults_of_its_policy() {
    let text = MINIMAL.replace("\"test\"", "\"beso\"");
    let config = parse(
        &text,
        &["policy.optimizer.beta_1=0.8", "policy.inputs.goal=all"],
    )
    .unwrap();
    let settings = toml::Table::from(config.policy.settings);
    let of = |table: &str, key: &str| settings[table][key].clone();
    // Those of BESO, not those of the optimiser and of the inputs on their own.
    assert_eq!(of("optimizer", "beta_1"), 0.8.into());
    assert_eq!(of("optimizer", "lr"), 1e-4.into());
    assert_eq!(of("inputs", "goal"), "all".into());
    assert_eq!(of("inputs", "action_normalizer"), "min_max".into());
}

#[test]
fn optional_keys_read_back() {
    let overrides = [
        "env=points",
        "validation_dataset=data/val.npz",
        "keep_best={ metric = \"evaluation/success_rate\" }",
        "device=cuda",
    ];
    let config = parse(MINIMAL, &overrides).unwrap();
    assert_eq!(config.env.as_deref(), Some("points"));
    assert!(config.keep_best.as_ref().unwrap().maximize);
    assert_eq!(parse(&config.to_toml(), &[]).unwrap(), config);
    // All episodes train where another file validates, unless it is said otherwise.
    assert_eq!(config.train_fraction, 1.0);
    let said = [&overrides[..], &["train_fraction=0.5"]].concat();
    assert_eq!(parse(MINIMAL, &said).unwrap().train_fraction, 0.5);
}

#[test]
fn the_best_is_told_by_a_metric_that_is_measured() {
    for (metric, expected) in [
        ("evaluation/success_rate", "but `evaluate_every` is 0"),
        ("validation/actor/loss", "but `validate_every` is 0"),
        ("success_rate", "a column of `metrics.csv`"),
    ] {
        let best = format!("keep_best={{ metric = {metric:?} }}");
        let config = parse(MINIMAL, &[&best, "validate_every=0"]).unwrap();
        let report = config.check_start().unwrap_err().to_string();
        assert!(report.contains(expected), "{metric}: {report}");
    }
    let best = "keep_best={ metric = \"validation/actor/loss\" }";
    assert!(parse(MINIMAL, &[best]).unwrap().check_start().is_ok());
    let none_left = parse(MINIMAL, &[best, "train_fraction=1.0"]).unwrap();
    let report = none_left.check_start().unwrap_err().to_string();
    assert!(report.contains("all episodes train"), "{report}");
}

#[test]
fn overrides_reach_nested_keys_of_the_policy() {
    let config = parse(
        MINIMAL,
        &["policy.optimizer.lr=1e-4", "steps=7", "policy.hidden=3"],
    )
    .unwrap();
    assert_eq!(config.steps, 7);
    assert_eq!(config.policy.settings["hidden"].as_integer(), Some(3));
    assert_eq!(
        config.policy.settings["optimizer"]["lr"].as_float(),
        Some(1e-4)
    );
    assert_eq!(
        config.policy.settings["optimizer"]["beta"].as_float(),
        Some(0.9)
    );
}

#[test]
fn all_problems_of_file_policy_and_overrides_are_in_one_report() {
    let text = "batch_sise = 3\nlog_every = 0\ntrain_fraction = 1.5\nvalidate_every = \"often\"\n\
                [policy]\nid = \"test\"\nhiden = 3\nhidden = 0\n[policy.optimizer]\nlr = -1.0\nmomentum = 0.9\n";
    let report = parse(text, &["steps=0", "policy.dropout", "policy.noise=loud"]).unwrap_err();
    let mut lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.pop(), Some("in run.toml"));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "`batch_sise`: unknown key; did you mean `batch_size`?",
            "`dataset` is \"\"; expected the path of a dataset",
            "`log_every` is 0; expected at least 1",
            "`policy.dropout`: an override has the form key=value",
            "`policy.hidden` is 0; expected at least 1",
            "`policy.hiden`: unknown key; did you mean `hidden`?",
            "`policy.noise` is \"loud\"; expected a number",
            "`policy.optimizer.lr` is -1.0; expected a positive number",
            "`policy.optimizer.momentum`: unknown key; known here: lr, beta",
            "`steps` is 0; expected at least 1",
            "`train_fraction` is 1.5; expected a number in (0, 1]",
            "`validate_every` is \"often\"; expected a whole number of at least 0",
        ]
    );
}

#[test]
fn an_unknown_policy_is_named_with_the_nearest_one() {
    let report = parse(MINIMAL, &["policy.id=tset"]).unwrap_err();
    assert!(
        report
            .starts_with("`policy.id`: no policy is called `tset`; did you mean `test`? (known: "),
        "{report}"
    );
}

#[test]
fn a_text_that_is_no_toml_is_shown_with_its_place() {
    let report = parse("steps = = 3", &[]).unwrap_err();
    assert!(
        report.contains("line 1, column 9") && report.ends_with("in run.toml"),
        "{report}"
    );
    let missing = TrainConfig::load::<&str>(Utf8Path::new("no/such.toml"), &[])
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("cannot read the configuration: ")
            && missing.ends_with("in no/such.toml"),
        "{missing}"
    );
}

#[test]
fn only_what_fixes_the_bits_conflicts() {
    let config = parse(MINIMAL, &[]).unwrap();
    let longer = parse(
        MINIMAL,
        &["steps=7", "threads=1", "log_every=3", "prefetch=0", "env=a"],
    )
    .unwrap();
    assert_eq!(config.conflicts_with(&longer), [""; 0]);
    let other = parse(
        MINIMAL,
        &[
            "seed=3",
            "policy.optimizer.lr=1.0",
            "precision=bf16",
            "validation_dataset=v.npz",
            "train_fraction=0.95",
        ],
    )
    .unwrap();
    assert_eq!(
        config.conflicts_with(&other),
        [
            "`policy.optimizer.lr`: 0.003 and 1.0",
            "`precision`: \"f32\" and \"bf16\"",
            "`seed`: 0 and 3",
            "`validation_dataset`: \"\" and \"v.npz\""
        ]
    );
}
