//! Timelines and the columns that many rows travel in.

use std::collections::BTreeMap;

use rerun::external::re_sdk_types::archetypes::{Scalars, SeriesLines};
use rerun::{RecordingStream, SerializedComponentColumn, TimeColumn};

use crate::VizError;

/// Control steps since the start of the recording; it goes on counting from episode to episode.
pub const STEP: &str = "step";
/// Simulated time since the start of the recording, at the control rate.
pub const SIM_TIME: &str = "sim_time";
/// Number of the episode, from 0. Its last row is the end of the episode.
pub const EPISODE: &str = "episode";
/// Denoising steps since the start of the recording.
pub const DENOISING_STEP: &str = "denoising_step";
/// Gradient steps of a training run.
pub const TRAINING_STEP: &str = "training_step";

/// Makes the time columns of one episode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) control_hz: f64,
    pub(crate) episode: i64,
}

impl Clock {
    /// One column per timeline for rows at these steps.
    pub(crate) fn columns(&self, steps: &[i64]) -> Vec<TimeColumn> {
        let seconds = steps.iter().map(|&step| step as f64 / self.control_hz);
        vec![
            TimeColumn::new_sequence(STEP, steps.iter().copied()),
            TimeColumn::new_duration_secs(SIM_TIME, seconds),
            TimeColumn::new_sequence(EPISODE, steps.iter().map(|_| self.episode)),
        ]
    }
}

/// Sends rows of one entity as columns. Does nothing without rows.
pub(crate) fn send_rows<C>(
    recording: &RecordingStream,
    entity: impl Into<rerun::EntityPath>,
    times: Vec<TimeColumn>,
    columns: C,
) -> Result<(), VizError>
where
    C: IntoIterator<Item = SerializedComponentColumn>,
{
    if times.first().is_some_and(|times| times.num_rows() > 0) {
        recording.send_columns(entity, times, columns)?;
    }
    Ok(())
}

/// Numbers over time by entity, collected until they are sent.
#[derive(Debug, Default)]
pub(crate) struct SeriesBuffer {
    series: BTreeMap<String, (Vec<i64>, Vec<f64>)>,
}

impl SeriesBuffer {
    pub(crate) fn push(&mut self, entity: &str, step: i64, value: f64) {
        match self.series.get_mut(entity) {
            Some((steps, values)) => {
                steps.push(step);
                values.push(value);
            }
            None => {
                self.series
                    .insert(entity.to_owned(), (vec![step], vec![value]));
            }
        }
    }

    /// Sends and forgets the numbers; keeps the entities.
    pub(crate) fn send(
        &mut self,
        recording: &RecordingStream,
        clock: Clock,
    ) -> Result<(), VizError> {
        for (entity, (steps, values)) in &mut self.series {
            let columns = Scalars::new(values.drain(..)).columns_of_unit_batches()?;
            send_rows(recording, entity.as_str(), clock.columns(steps), columns)?;
            steps.clear();
        }
        Ok(())
    }

    pub(crate) fn entities(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }
}

/// Ends the lines of an earlier episode, so that they do not run on into this one.
pub(crate) fn break_series<'a>(
    recording: &RecordingStream,
    clock: Clock,
    step: i64,
    entities: impl IntoIterator<Item = &'a str>,
) -> Result<(), VizError> {
    for entity in entities {
        let columns = Scalars::new(Vec::<f64>::new()).columns([0])?;
        send_rows(recording, entity, clock.columns(&[step]), columns)?;
    }
    Ok(())
}

/// Names a series and gives it a colour and a width, once.
pub(crate) fn style_series(
    recording: &RecordingStream,
    entity: &str,
    name: &str,
    color: [f32; 3],
    width: f32,
) -> Result<(), VizError> {
    let [r, g, b] = color;
    let style = SeriesLines::new()
        .with_names([name])
        .with_colors([crate::scene::color([r, g, b, 1.0])])
        .with_widths([width]);
    recording.log_static(entity, &style)?;
    Ok(())
}
