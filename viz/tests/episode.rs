//! Recordings of real environments, opened with rerun's own decoder.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::Array2;
use telic_envs::{EnvSpec, ResetOptions, Start};
use telic_policies::{DenoisingLevel, DenoisingTrace};
use telic_viz::{
    EpisodeRecorder, Recorded, RecordingSummary, RecordingTarget, VizError, WebOptions,
    inspect_recording,
};

const STEPS: usize = 20;

fn file(directory: &tempfile::TempDir, name: &str) -> Utf8PathBuf {
    Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap()
}

fn action(spec: &EnvSpec, step: usize) -> Vec<f32> {
    (0..spec.action_dim())
        .map(|entry| 0.5 * ((step + 3 * entry) as f32).sin())
        .collect()
}

fn trace(spec: &EnvSpec, step: usize) -> DenoisingTrace {
    let levels = [1.0, 0.4, 0.1, 0.0].map(|sigma| DenoisingLevel {
        sigma,
        candidates: Array2::from_shape_fn((6, spec.action_dim()), |(candidate, entry)| {
            let mode = if candidate < 3 { -0.5 } else { 0.5 };
            mode + sigma * ((step + 7 * candidate + entry) as f32).cos()
        }),
    });
    DenoisingTrace {
        levels: levels.to_vec(),
    }
}

/// Records `episodes` episodes of `STEPS` steps.
fn record(id: &str, target: RecordingTarget, episodes: u64, denoising: bool) -> Recorded {
    let spec = telic_envs::spec(id).unwrap();
    let mut env = (spec.make)().unwrap();
    let mut recorder = EpisodeRecorder::new(spec, target).unwrap();
    for episode in 0..episodes {
        let options = ResetOptions {
            start: Start::Task(0),
            ..ResetOptions::default()
        };
        env.reset(episode, &options).unwrap();
        recorder
            .begin_episode(&*env, &format!("seed {episode}"))
            .unwrap();
        for step in 0..STEPS {
            if denoising {
                recorder.log_denoising(&trace(spec, step)).unwrap();
            }
            recorder.log_value("value", -(step as f64)).unwrap();
            let action = action(spec, step);
            let outcome = env.step(&action).unwrap();
            recorder.log_step(&*env, &action, &outcome).unwrap();
        }
    }
    recorder.finish().unwrap()
}

fn rows(summary: &RecordingSummary, entity: &str) -> (usize, usize) {
    let entity = summary.entities.get(entity).unwrap_or_else(|| {
        panic!(
            "no `{entity}` among {:#?}",
            summary.entities.keys().collect::<Vec<_>>()
        )
    });
    (entity.static_rows, entity.temporal_rows)
}

#[test]
fn a_block_push_episode_has_its_entities_and_timelines() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "episode.rrd");
    record("block-push", RecordingTarget::File(path.clone()), 1, false);

    let summary = inspect_recording(&path).unwrap();
    assert_eq!(summary.application, "telic-block-push");
    let timelines: Vec<_> = summary.timelines.keys().map(String::as_str).collect();
    assert_eq!(timelines, ["episode", "sim_time", "step"]);
    assert_eq!(summary.timelines["step"].kind, "sequence");
    assert_eq!(
        (
            summary.timelines["step"].first,
            summary.timelines["step"].last
        ),
        (0, 20)
    );
    // 20 steps at 10 Hz.
    assert_eq!(summary.timelines["sim_time"].kind, "duration");
    assert_eq!(summary.timelines["sim_time"].last, 2_000_000_000);

    // Geometry once, the effector at every state, actions and rewards at every step.
    assert_eq!(rows(&summary, "/world/scene/table"), (1, 0));
    assert_eq!(rows(&summary, "/world/objects/block_0/block_0"), (1, 0));
    assert!(
        summary.entities["/world/objects/block_0/block_0"]
            .components
            .contains("Boxes3D:half_sizes")
    );
    assert_eq!(rows(&summary, "/world/robot/pusher/pusher"), (1, 0));
    assert_eq!(rows(&summary, "/world/robot/pusher"), (0, STEPS + 1));
    assert_eq!(rows(&summary, "/world/goal/block_0"), (0, 1));
    assert_eq!(
        rows(&summary, "/world/trace/end_effector/000"),
        (1, STEPS + 1)
    );
    assert_eq!(rows(&summary, "/world/contacts"), (1, STEPS + 1));
    assert_eq!(
        rows(&summary, "/plots/action/effector_command.x"),
        (1, STEPS)
    );
    assert_eq!(rows(&summary, "/plots/reward"), (1, STEPS));
    assert_eq!(
        rows(&summary, "/plots/distance_to_goal/block_1"),
        (1, STEPS + 1)
    );
    assert_eq!(rows(&summary, "/plots/metrics/result"), (1, STEPS + 1));
    assert_eq!(rows(&summary, "/plots/value"), (1, STEPS));
    assert_eq!(rows(&summary, "/info/episode"), (0, 1));
    for view in [
        "Scene",
        "Episode",
        "Action",
        "Distance to goal [m]",
        "Reward",
        "Value",
    ] {
        assert!(summary.views.contains(view), "{view}: {:?}", summary.views);
    }
}

#[test]
fn a_maze_is_recorded_with_every_wall() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "maze.rrd");
    record(
        "point-maze-medium",
        RecordingTarget::File(path.clone()),
        1,
        false,
    );
    let summary = inspect_recording(&path).unwrap();

    let spec = telic_envs::spec("point-maze-medium").unwrap();
    let env = (spec.make)().unwrap();
    let drawn = env
        .world()
        .geoms()
        .iter()
        .filter(|geom| geom.rgba[3] > 0.0 && geom.group <= 2)
        .count();
    let geoms = summary
        .entities
        .iter()
        .filter(|(entity, content)| {
            ["/world/scene/", "/world/robot/", "/world/objects/"]
                .iter()
                .any(|group| entity.starts_with(group))
                && content.static_rows == 1
        })
        .count();
    assert_eq!(geoms, drawn);
    assert_eq!(rows(&summary, "/plots/distance_to_goal"), (1, STEPS + 1));
}

#[test]
fn episodes_follow_each_other_on_the_timelines() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "episodes.rrd");
    record("block-push", RecordingTarget::File(path.clone()), 3, false);
    let summary = inspect_recording(&path).unwrap();
    assert_eq!(summary.timelines["episode"].last, 2);
    // Three times the reset and 20 steps.
    assert_eq!(summary.timelines["step"].last, 3 * 21 - 1);
    assert_eq!(rows(&summary, "/info/episode"), (0, 3));
    // Geometry stays as it was; each episode after the first starts its lines anew with an empty row.
    assert_eq!(rows(&summary, "/world/scene/table"), (1, 0));
    assert_eq!(rows(&summary, "/plots/reward"), (1, 3 * STEPS + 2));
}

#[test]
fn denoising_is_shown_level_by_level() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "denoising.rrd");
    record("block-push", RecordingTarget::File(path.clone()), 1, true);
    let summary = inspect_recording(&path).unwrap();
    let levels = 4 * STEPS;
    assert_eq!(
        rows(&summary, "/denoising/action_space/candidates"),
        (0, levels)
    );
    assert_eq!(rows(&summary, "/world/denoising/candidates"), (0, levels));
    assert_eq!(rows(&summary, "/denoising/action_space/ways"), (0, STEPS));
    assert_eq!(
        rows(&summary, "/denoising/action_space/executed"),
        (1, STEPS)
    );
    assert_eq!(rows(&summary, "/plots/denoising/spread"), (1, STEPS));
    assert_eq!(summary.timelines["denoising_step"].last, levels as i64 - 1);
    assert!(summary.views.contains("Action candidates"));
}

/// On the timeline of the levels, the scene is that of the decision, from its first level on.
#[test]
fn the_scene_of_a_decision_is_there_with_its_levels() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "denoising.rrd");
    record("block-push", RecordingTarget::File(path.clone()), 2, true);
    let summary = inspect_recording(&path).unwrap();
    let decisions = 2 * STEPS;
    // At every state, and at every decision.
    assert_eq!(
        rows(&summary, "/world/robot/pusher"),
        (0, 2 * (STEPS + 1) + decisions)
    );
    let goals = rows(&summary, "/world/goal/block_0").1;
    assert!((decisions + 1..=decisions + 2).contains(&goals), "{goals}");
    assert_eq!(rows(&summary, "/info/episode"), (0, 4));
}

#[test]
fn play_is_shown_without_a_goal() {
    let spec = telic_envs::spec("block-push").unwrap();
    let mut env = (spec.make)().unwrap();
    env.reset(0, &ResetOptions::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "play.rrd");
    let mut recorder = EpisodeRecorder::new(spec, RecordingTarget::File(path.clone())).unwrap();
    recorder.begin_play(&*env, "recorded episode 3").unwrap();
    for step in 0..STEPS {
        let action = action(spec, step);
        let outcome = env.step(&action).unwrap();
        recorder.log_step(&*env, &action, &outcome).unwrap();
    }
    recorder.finish().unwrap();
    let summary = inspect_recording(&path).unwrap();
    assert_eq!(
        rows(&summary, "/plots/action/effector_command.x"),
        (1, STEPS)
    );
    // The targets of block-push are in the world, whoever is after them.
    assert_eq!(rows(&summary, "/world/targets/target_0"), (0, 1));
    for goal in ["/world/goal/", "/plots/distance_to_goal", "/plots/reward"] {
        let shown: Vec<_> = summary
            .entities
            .keys()
            .filter(|entity| entity.starts_with(goal))
            .collect();
        assert!(shown.is_empty(), "{shown:?}");
    }
}

/// An episode begins with its own trace: what is left of that before is hidden at its first step.
#[test]
fn traces_end_with_their_episode() {
    let spec = telic_envs::spec("point-maze-medium").unwrap();
    let mut env = (spec.make)().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut blocks = |lengths: &[usize]| {
        let path = file(&directory, "traces.rrd");
        let mut recorder = EpisodeRecorder::new(spec, RecordingTarget::File(path.clone())).unwrap();
        for (episode, length) in lengths.iter().enumerate() {
            env.reset(episode as u64, &ResetOptions::default()).unwrap();
            recorder.begin_episode(&*env, "").unwrap();
            for step in 0..*length {
                let action = action(spec, step);
                let outcome = env.step(&action).unwrap();
                recorder.log_step(&*env, &action, &outcome).unwrap();
            }
        }
        recorder.finish().unwrap();
        let summary = inspect_recording(&path).unwrap();
        ["000", "001", "002"].map(|block| {
            let entity = format!("/world/trace/end_effector/{block}");
            summary.entities.get(&entity).map_or(0, |e| e.temporal_rows)
        })
    };
    let [first, second, third] = blocks(&[120]);
    assert!(first + second + third == 121 && third > 0);
    // Both later blocks are hidden once, and the second one is drawn again by the longer episode.
    assert_eq!(blocks(&[120, 10]), [first + 11, second + 1, third + 1]);
    assert_eq!(
        blocks(&[120, 120]),
        [2 * first, 2 * second + 1, 2 * third + 1]
    );
}

/// The effector's trace and long episodes are sent in several parts.
#[test]
fn long_episodes_stay_small() {
    let spec = telic_envs::spec("point-maze-medium").unwrap();
    let mut env = (spec.make)().unwrap();
    env.reset(0, &ResetOptions::default()).unwrap();
    let mut recorder = EpisodeRecorder::new(spec, RecordingTarget::Memory).unwrap();
    recorder.begin_episode(&*env, "").unwrap();
    for step in 0..3000 {
        let action = action(spec, step);
        let outcome = env.step(&action).unwrap();
        recorder.log_step(&*env, &action, &outcome).unwrap();
    }
    let Recorded::Memory(bytes) = recorder.finish().unwrap() else {
        unreachable!()
    };
    assert!(bytes.len() < 3_000_000, "{} bytes", bytes.len());

    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "long.rrd");
    std::fs::write(&path, bytes).unwrap();
    let summary = inspect_recording(&path).unwrap();
    assert_eq!(rows(&summary, "/plots/reward").1, 3000);
    let trace: usize = summary
        .entities
        .iter()
        .filter(|(entity, _)| entity.starts_with("/world/trace/"))
        .map(|(_, content)| content.temporal_rows)
        .sum();
    assert_eq!(trace, 3001);
}

#[test]
fn an_unwritable_path_is_an_error_with_the_path() {
    let spec = telic_envs::spec("block-push").unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(file(&directory, "occupied"), "no folder").unwrap();
    let path = file(&directory, "occupied/a.rrd");
    let error = EpisodeRecorder::new(spec, RecordingTarget::File(path.clone()))
        .err()
        .unwrap();
    assert!(matches!(error, VizError::Write { .. }), "{error}");
    assert!(error.to_string().contains(path.as_str()), "{error}");

    let folder = file(&directory, "");
    let error = EpisodeRecorder::new(spec, RecordingTarget::File(folder))
        .err()
        .unwrap();
    assert!(matches!(error, VizError::Write { .. }), "{error}");
}

#[test]
fn a_recording_that_is_given_up_leaves_nothing_behind() {
    let spec = telic_envs::spec("block-push").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "a.rrd");
    let older = EpisodeRecorder::new(spec, RecordingTarget::File(path.clone())).unwrap();
    older.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let recorder = EpisodeRecorder::new(spec, RecordingTarget::File(path.clone())).unwrap();
    drop(recorder);
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn wrong_calls_are_errors() {
    let spec = telic_envs::spec("block-push").unwrap();
    let mut env = (spec.make)().unwrap();
    env.reset(0, &ResetOptions::default()).unwrap();
    let mut recorder = EpisodeRecorder::new(spec, RecordingTarget::Memory).unwrap();
    let outcome = telic_envs::Step::default();
    let error = recorder.log_step(&*env, &[0.0, 0.0], &outcome).unwrap_err();
    assert!(
        matches!(error, VizError::NoEpisode { call: "log_step" }),
        "{error}"
    );
    recorder.begin_episode(&*env, "").unwrap();
    let error = recorder.log_step(&*env, &[0.0; 3], &outcome).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`block-push` takes an action of 2 numbers, got 3"
    );

    let other = telic_envs::spec("point-maze-medium").unwrap();
    let mut maze = (other.make)().unwrap();
    maze.reset(0, &ResetOptions::default()).unwrap();
    let error = recorder.begin_episode(&*maze, "").unwrap_err();
    assert!(
        matches!(error, VizError::OtherEnvironment { .. }),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_recording_is_an_error_with_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "text.rrd");
    std::fs::write(&path, "this is no recording").unwrap();
    let error = inspect_recording(&path).unwrap_err();
    assert!(matches!(error, VizError::Decode { .. }), "{error}");
    assert!(error.to_string().contains("text.rrd"), "{error}");

    let whole = file(&directory, "whole.rrd");
    record("block-push", RecordingTarget::File(whole.clone()), 1, false);
    let mut bytes = std::fs::read(&whole).unwrap();
    // The head of the first message; the decoder reaches nothing behind it.
    bytes[16..256].fill(0xA5);
    std::fs::write(&path, &bytes).unwrap();
    let error = inspect_recording(&path).unwrap_err();
    assert!(matches!(error, VizError::Decode { .. }), "{error}");

    // A recording that ends early, after whole messages.
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let error = inspect_recording(&path).unwrap_err();
    assert!(matches!(error, VizError::Decode { .. }), "{error}");

    let error = inspect_recording(Utf8Path::new("/no/such.rrd")).unwrap_err();
    assert!(matches!(error, VizError::Open { .. }), "{error}");
}

/// Runs the viewer's own checker where it is installed, as it is in `make test`.
#[test]
fn the_viewers_checker_accepts_the_file() {
    let version = Command::new("rerun").arg("--version").output();
    let installed = version.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).contains(telic_viz::VIEWER_VERSION)
    });
    if !installed {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "checked.rrd");
    record("block-push", RecordingTarget::File(path.clone()), 2, true);
    let checked = Command::new("rerun")
        .args(["rrd", "verify", path.as_str()])
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn the_web_viewer_answers() {
    let options = WebOptions {
        web_port: 0,
        grpc_port: 0,
        ..WebOptions::default()
    };
    let Recorded::Web(server) = record("block-push", RecordingTarget::Web(options), 1, false)
    else {
        unreachable!()
    };
    assert_page(server.url());
}

#[test]
fn a_recorded_file_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "served.rrd");
    record("block-push", RecordingTarget::File(path.clone()), 1, false);
    let options = WebOptions {
        web_port: 0,
        grpc_port: 0,
        ..WebOptions::default()
    };
    let server = telic_viz::WebServer::serve_files(&[path], &options).unwrap();
    assert_page(server.url());

    let (_, grpc) = server.url().split_once("%2Bhttp://").unwrap();
    let grpc_port = grpc
        .trim_end_matches("/proxy")
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let taken = WebOptions {
        web_port: 0,
        grpc_port,
        ..WebOptions::default()
    };
    // The server binds on its own thread.
    let mut error = None;
    for _ in 0..100 {
        error = telic_viz::WebServer::start(&taken).err();
        if error.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let error = error.expect("the port is taken");
    assert!(matches!(error, VizError::Serve { .. }), "{error}");
}

/// Fetches the page at the start of `url` over plain HTTP.
fn assert_page(url: &str) {
    use std::io::{Read, Write};
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(
        page.starts_with("HTTP/1.") && page[..15].contains(" 200"),
        "{}",
        &page[..40]
    );
    assert!(page.contains("<html"), "{}", &page[..200]);
}
