//! `telic train-expert`.

use telic_policies::tensor_file;

use super::{flat, telic};

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

    let shown = telic(&["inspect", &first, "--json"]).json();
    assert_eq!(shown["task"], "ant-direction");
    assert_eq!(shown["steps"], 400);
    assert_eq!(shown["evaluation"], report["evaluation"]);
    assert_eq!(shown["tensors"].as_array().unwrap().len(), 6);

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
