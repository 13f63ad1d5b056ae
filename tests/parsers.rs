//! Whatever is done to a file that is read, reading it gives what it says or one error with its place, never a panic.
#![allow(clippy::unwrap_used, missing_docs)]

use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;
use proptest::sample::Index;
use telic::report::{find_runs, report};
use telic::sweep::SweepConfig;
use telic_policies::TrainConfig;
use telic_policies::online::OnlineConfig;
use telic_sim::Model;
use telic_viz::read_metrics;

/// What texts are torn apart with.
const PIECES: &[&str] = &[
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "0.5",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    "\n",
    "#",
    "true",
    "[policy]",
    "[policy.network]",
    "id = 'hilp'",
    "steps = 3",
    "seeds = [1, 1]",
    "\u{1f980}",
    "\\",
    "\t",
    "step,",
    ":",
    "null",
    "18446744073709551616",
];

/// Parts of a text that are replaced by pieces: where, how many characters, by what.
fn edits() -> impl Strategy<Value = Vec<(Index, usize, Index)>> {
    prop::collection::vec((any::<Index>(), 0..30_usize, any::<Index>()), 1..4)
}

fn edited(text: &str, edits: &[(Index, usize, Index)]) -> String {
    let mut text = text.to_owned();
    for (at, length, with) in edits {
        let bounds: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        if bounds.is_empty() {
            break;
        }
        let first = at.index(bounds.len());
        let end = bounds.get(first + length).copied().unwrap_or(text.len());
        text.replace_range(bounds[first]..end, PIECES[with.index(PIECES.len())]);
    }
    text
}

fn config(name: &str) -> String {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// A file with this name and content, in a folder that lives as long as the first value.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// A mesh of one tetrahedron as binary STL.
fn tetrahedron() -> Vec<u8> {
    let corners = [
        [0.0_f32, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
    ];
    let faces = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]];
    let mut bytes = vec![b' '; 80];
    bytes.extend(4_u32.to_le_bytes());
    for face in faces {
        bytes.extend([0; 12]);
        for corner in face {
            bytes.extend(corners[corner].iter().flat_map(|x| x.to_le_bytes()));
        }
        bytes.extend([0; 2]);
    }
    bytes
}

/// Loads a model whose only mesh is this file.
fn load_mesh(name: &str, bytes: &[u8]) -> Result<Model, String> {
    let (folder, _) = file(name, bytes);
    let xml = format!(
        "<mujoco><asset><mesh name=\"m\" file=\"{name}\"/></asset><worldbody><geom type=\"mesh\" mesh=\"m\"/></worldbody></mujoco>"
    );
    let path = Utf8Path::from_path(folder.path())
        .unwrap()
        .join("scene.xml");
    std::fs::write(&path, xml).unwrap();
    Model::load_mjcf(&path).map_err(|error| error.to_string())
}

const METRICS: &str = "step,training/actor/loss,validation/actor/loss,evaluation/success_rate\n\
                       100,1.5,,\n200,1.25,1.5,0.25\n300,1,,0.5\n";

const EVALUATION: &str = r#"{"env": "point-maze-medium", "success_rate": 0.5, "ci95": [0.1, 0.9], "episodes": 2, "mean_return": -3.5, "mean_steps": 4.0, "seed": 0,
"step": 3, "settings": {"inference.temperature": "0"}, "score": 1.0,
"tasks": [{"name": "task1", "success_rate": 0.5, "ci95": [0.1, 0.9], "episodes": 2}], "metrics_ci95": {"score": [0.5, 1.5]}}"#;

/// A run folder with this evaluation; where the evaluation is.
fn run_with(evaluation: &str) -> (tempfile::TempDir, Utf8PathBuf) {
    let (folder, path) = file("evaluation.json", evaluation.as_bytes());
    let run = Utf8Path::from_path(folder.path()).unwrap();
    std::fs::create_dir(run.join("checkpoints")).unwrap();
    let config = "dataset = 'play.npz'\n[policy]\nid = 'gcbc'\n";
    std::fs::write(run.join("config.toml"), config).unwrap();
    (folder, path)
}

#[test]
fn files_as_they_are_can_be_read() {
    assert!(TrainConfig::parse::<&str>(&config("hilp.toml"), "hilp.toml", &[]).is_ok());
    let (_folder, path) = file("expert.toml", config("ant_expert.toml").as_bytes());
    assert!(OnlineConfig::load::<&str>(&path, &[]).is_ok());
    let (_folder, path) = file("sweep.toml", config("table.toml").as_bytes());
    assert!(SweepConfig::load(&path).is_ok());
    let (_folder, path) = file("metrics.csv", METRICS.as_bytes());
    assert_eq!(read_metrics(&path).unwrap().len(), 3);
    load_mesh("mesh.stl", &tetrahedron()).unwrap();
    let (folder, _) = run_with(EVALUATION);
    let folder = Utf8Path::from_path(folder.path()).unwrap().to_owned();
    let (rows, missing) = report(&find_runs(&[folder]).unwrap(), None).unwrap();
    assert_eq!((rows.len(), missing.len()), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn configurations_say_what_is_wrong(edits in edits()) {
        for name in ["hilp.toml", "beso_small.toml", "gciql.toml"] {
            let text = edited(&config(name), &edits);
            match TrainConfig::parse::<&str>(&text, name, &[]) {
                // What is understood can be written down and read again.
                Ok(config) => prop_assert_eq!(&TrainConfig::parse::<&str>(&config.to_toml(), name, &[]).unwrap(), &config),
                Err(error) => prop_assert!(error.to_string().contains(name), "{}", error),
            }
        }
        let (_folder, path) = file("expert.toml", edited(&config("ant_expert.toml"), &edits).as_bytes());
        if let Err(error) = OnlineConfig::load::<&str>(&path, &[]) {
            prop_assert!(error.to_string().contains("expert.toml"), "{}", error);
        }
        let (_folder, path) = file("sweep.toml", edited(&config("table.toml"), &edits).as_bytes());
        match SweepConfig::load(&path) {
            Ok(sweep) => drop(sweep.rows()),
            Err(error) => prop_assert!(error.to_string().contains("sweep.toml"), "{}", error),
        }
    }

    #[test]
    fn overrides_say_what_is_wrong(text in "\\PC{0,40}", edits in edits()) {
        for set in [text.clone(), edited("policy.network.hidden=[64, 64]", &edits), format!("policy.{text}")] {
            let parsed = TrainConfig::parse(&config("gcbc.toml"), "gcbc.toml", std::slice::from_ref(&set));
            if let Err(error) = parsed {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn metrics_say_what_is_wrong(edits in edits()) {
        let (_folder, path) = file("metrics.csv", edited(METRICS, &edits).as_bytes());
        match read_metrics(&path) {
            Ok(curves) => prop_assert!(curves.len() <= 30),
            Err(error) => prop_assert!(error.to_string().contains("metrics.csv"), "{}", error),
        }
    }

    #[test]
    fn evaluations_say_what_is_wrong(edits in edits()) {
        let (folder, path) = run_with(&edited(EVALUATION, &edits));
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let runs = find_runs(&[folder.to_owned()]).unwrap();
        if let Err(error) = report(&runs, None) {
            prop_assert!(error.to_string().contains(path.as_str()), "{}", error);
        }
    }

    #[test]
    fn meshes_say_what_is_wrong(at in any::<Index>(), byte in any::<u8>(), cut in any::<Index>(), text in "(v|f|vn|o|#)?( -?[0-9]{1,3}(/[0-9])?){0,4}\n") {
        let mut bytes = tetrahedron();
        let length = bytes.len();
        bytes[at.index(length)] = byte;
        let _ = load_mesh("mesh.stl", &bytes);
        bytes.truncate(cut.index(length));
        let error = load_mesh("mesh.stl", &bytes).unwrap_err();
        prop_assert!(error.contains("mesh"), "{}", error);
        let object = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n";
        let lines: Vec<&str> = object.split_inclusive('\n').collect();
        let before = at.index(lines.len());
        let object = [&lines[..before].concat(), &text, &lines[before..].concat()].map(String::as_str).concat();
        let _ = load_mesh("mesh.obj", object.as_bytes());
    }
}
