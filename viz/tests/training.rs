//! Training curves, opened with rerun's own decoder.
#![allow(clippy::unwrap_used)]

use camino::Utf8PathBuf;
use telic_viz::{Recorded, RecordingTarget, inspect_recording, record_training};

#[test]
fn metrics_become_plots_by_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap();
    let csv = "step,critic/loss,critic/value,evaluation/success,loss\n\
               100,1.5,-3,,0.5\n200,1.25,-2.5,0.5,0.25\n300,1,-2,,0.125\n";
    std::fs::write(path("metrics.csv"), csv).unwrap();

    let recorded =
        record_training(&path("metrics.csv"), RecordingTarget::File(path("run.rrd"))).unwrap();
    assert!(matches!(recorded, Recorded::File(_)));
    let summary = inspect_recording(&path("run.rrd")).unwrap();
    assert_eq!(
        summary.timelines.keys().collect::<Vec<_>>(),
        ["training_step"]
    );
    assert_eq!(
        (
            summary.timelines["training_step"].first,
            summary.timelines["training_step"].last
        ),
        (100, 300)
    );
    let rows = |entity: &str| summary.entities[entity].temporal_rows;
    assert_eq!(rows("/metrics/critic/loss"), 3);
    assert_eq!(rows("/metrics/evaluation/success"), 1);
    assert_eq!(rows("/metrics/training/loss"), 3);
    for view in ["Critic", "Evaluation", "Training"] {
        assert!(summary.views.contains(view), "{view}: {:?}", summary.views);
    }
}
