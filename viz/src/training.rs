//! The metrics of a training run as plots.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use rerun::external::re_sdk_types::archetypes::Scalars;
use rerun::{RecordingStreamBuilder, TimeColumn};

use crate::target::Sink;
use crate::timeline::{TRAINING_STEP, send_rows, style_series};
use crate::{Recorded, RecordingTarget, VizError, blueprint, layout, palette};

const APPLICATION: &str = "telic-training";

/// Group of the metrics that have no prefix of their own.
const UNGROUPED: &str = "training";

/// Records a `metrics.csv`: a header with `step` and metric names, then one row per report.
///
/// A metric `critic/loss` goes to `metrics/critic/loss`, and each group gets a plot. `training/actor/loss` and `validation/actor/loss` are lines
/// of one plot of the group `actor`; success rates, and the rate of learning, have a plot of their own. An empty cell means that the metric was not
/// reported at that step.
///
/// # Errors
/// [`VizError::Open`], [`VizError::Metrics`] with the line, and failures of the target.
pub fn record_training(
    metrics_csv: &Utf8Path,
    target: RecordingTarget,
) -> Result<Recorded, VizError> {
    let mut lines_in_group: BTreeMap<String, usize> = BTreeMap::new();
    let lines = read_metrics(metrics_csv)?
        .into_iter()
        .map(|(name, points)| {
            let (group, metric) = grouped(&name);
            let color = lines_in_group.entry(group.clone()).or_default();
            *color += 1;
            Line {
                group,
                path: metric.replace(' ', "/"),
                name: metric,
                color: *color - 1,
                points,
            }
        });
    record_lines(lines.collect(), target)
}

/// The plot of a metric, and the name of its line there.
fn grouped(name: &str) -> (String, String) {
    let parts: Vec<&str> = name.split('/').collect();
    let (group, metric) = match parts[..] {
        [_, "optimizer", "lr"] | ["optimizer", "lr"] => ("learning_rate", "lr".to_owned()),
        ["training", group, ref rest @ ..] if !rest.is_empty() => (group, rest.join("/")),
        ["validation", group, ref rest @ ..] if !rest.is_empty() => {
            (group, format!("validation {}", rest.join("/")))
        }
        ["evaluation", metric] if metric.ends_with("success_rate") => {
            ("success_rate", metric.to_owned())
        }
        [group, ref rest @ ..] if !rest.is_empty() => (group, rest.join("/")),
        _ => (UNGROUPED, name.to_owned()),
    };
    (group.to_owned(), metric)
}

/// The curve of one run among others.
#[derive(Clone, Debug)]
pub struct RunCurve {
    /// Runs of a group share a plot.
    pub group: String,
    /// Runs of a row share a colour.
    pub row: String,
    /// What tells the runs of a row apart.
    pub seed: u64,
    /// The `metrics.csv` of the run.
    pub metrics: Utf8PathBuf,
}

/// Records one metric of many runs: a plot per group, a line per run. Runs that did not report it are left out. The number of
/// lines.
///
/// # Errors
/// As [`record_training`]; [`VizError::NoSuchMetric`] if no run reported it.
pub fn record_curves(
    runs: &[RunCurve],
    metric: &str,
    target: RecordingTarget,
) -> Result<usize, VizError> {
    let mut rows: Vec<&str> = runs.iter().map(|run| run.row.as_str()).collect();
    rows.sort_unstable();
    rows.dedup();
    let (mut lines, mut known) = (vec![], BTreeSet::new());
    for run in runs {
        let mut curves = read_metrics(&run.metrics)?;
        let Some(points) = curves.remove(metric) else {
            known.extend(curves.into_keys());
            continue;
        };
        lines.push(Line {
            group: run.group.clone(),
            path: format!("{}/seed-{}", run.row, run.seed),
            name: format!("{}, seed {}", run.row, run.seed),
            color: rows.binary_search(&run.row.as_str()).unwrap_or(0),
            points,
        });
    }
    if lines.is_empty() {
        return Err(VizError::NoSuchMetric {
            metric: metric.to_owned(),
            known: known.into_iter().collect::<Vec<_>>().join(", "),
        });
    }
    let count = lines.len();
    record_lines(lines, target).map(|_| count)
}

/// One line of one plot.
struct Line {
    group: String,
    /// Below the group.
    path: String,
    name: String,
    color: usize,
    points: Vec<(i64, f64)>,
}

fn record_lines(lines: Vec<Line>, target: RecordingTarget) -> Result<Recorded, VizError> {
    let mut sink = Sink::open(target)?;
    let (recording, storage) = RecordingStreamBuilder::new(APPLICATION)
        .recording_name("training")
        .enabled(true)
        .memory()?;
    let mut groups = BTreeSet::new();
    for line in lines {
        let entity = format!("metrics/{}/{}", line.group, line.path);
        groups.insert(line.group);
        let color = palette::category(line.color);
        style_series(&recording, &entity, &line.name, color, 1.8)?;
        let times = vec![TimeColumn::new_sequence(
            TRAINING_STEP,
            line.points.iter().map(|point| point.0),
        )];
        let values = line.points.iter().map(|point| point.1);
        let columns = Scalars::new(values).columns_of_unit_batches()?;
        send_rows(&recording, entity, times, columns)?;
    }
    layout::send(
        &recording,
        APPLICATION.into(),
        &blueprint::training(&groups),
        &blueprint::training_playback(),
    )?;
    sink.append(storage.take())?;
    sink.finish()
}

/// Steps and values by metric.
pub type Curves = BTreeMap<String, Vec<(i64, f64)>>;

/// Reads a `metrics.csv`; see [`record_training`].
///
/// # Errors
/// [`VizError::Open`], [`VizError::Metrics`] with the line.
pub fn read_metrics(path: &Utf8Path) -> Result<Curves, VizError> {
    let text = std::fs::read_to_string(path).map_err(|source| VizError::Open {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Utf8Path, text: &str) -> Result<Curves, VizError> {
    let error = |line: usize, reason: String| VizError::Metrics {
        path: path.to_owned(),
        line,
        reason,
    };
    // A row that a kill or a full disk has cut is none yet.
    let complete = text.rfind('\n').map_or(text, |end| &text[..end]);
    let mut lines = complete
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines
        .next()
        .ok_or_else(|| error(1, "no header: expected `step` and metric names".to_owned()))?;
    let names: Vec<_> = header.split(',').map(str::trim).collect();
    let step_column = names
        .iter()
        .position(|name| *name == "step")
        .ok_or_else(|| error(1, format!("no column `step` in `{header}`")))?;
    let mut curves = Curves::new();
    for (index, line) in lines {
        let cells: Vec<_> = line.split(',').map(str::trim).collect();
        if cells.len() != names.len() {
            let reason = format!("{} cells, expected {}", cells.len(), names.len());
            return Err(error(index + 1, reason));
        }
        let step = cells[step_column].parse::<i64>().map_err(|_| {
            error(
                index + 1,
                format!("step `{}` is not a whole number", cells[step_column]),
            )
        })?;
        for (column, (name, cell)) in names.iter().zip(&cells).enumerate() {
            if column == step_column || cell.is_empty() {
                continue;
            }
            let value = cell.parse::<f64>().map_err(|_| {
                error(
                    index + 1,
                    format!("`{name}` is `{cell}`, expected a number"),
                )
            })?;
            curves
                .entry((*name).to_owned())
                .or_default()
                .push((step, value));
        }
    }
    Ok(curves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_of_one_part_of_a_policy_share_a_plot() {
        for (name, group, line) in [
            ("training/actor/loss", "actor", "loss"),
            ("validation/actor/loss", "actor", "validation loss"),
            (
                "training/optimizer/gradient_norm",
                "optimizer",
                "gradient_norm",
            ),
            ("training/optimizer/lr", "learning_rate", "lr"),
            ("evaluation/success_rate", "success_rate", "success_rate"),
            (
                "evaluation/task1_success_rate",
                "success_rate",
                "task1_success_rate",
            ),
            ("evaluation/mean_return", "evaluation", "mean_return"),
            ("critic/loss", "critic", "loss"),
            ("loss", "training", "loss"),
        ] {
            assert_eq!(grouped(name), (group.to_owned(), line.to_owned()), "{name}");
        }
    }

    #[test]
    fn empty_cells_are_left_out_and_bad_ones_are_named() {
        let path = Utf8Path::new("run/metrics.csv");
        let curves = parse(path, "step,loss,evaluation/success\n1,2.5,\n2,1.5,0.25\n").unwrap();
        assert_eq!(curves["loss"], [(1, 2.5), (2, 1.5)]);
        assert_eq!(curves["evaluation/success"], [(2, 0.25)]);

        let error = parse(path, "step,loss\n1,x\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "`loss` is `x`, expected a number\nin run/metrics.csv, line 2"
        );
        let error = parse(path, "loss\n1\n").unwrap_err().to_string();
        assert!(error.contains("no column `step`"), "{error}");
        let error = parse(path, "step,loss\n1\n").unwrap_err().to_string();
        assert!(error.contains("1 cells, expected 2"), "{error}");
    }
}
