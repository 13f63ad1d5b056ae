//! What a policy makes of the states of an episode: values over the floor, latents, where it heads first.

use rerun::{
    AsComponents, LineStrips3D, Mesh3D, Points3D, Radius, RecordingStream,
    SerializedComponentColumn,
};
use telic_envs::Probe;

use crate::scene::color;
use crate::timeline::{Clock, send_rows};
use crate::{VizError, palette};

/// Values over the floor.
const VALUE_MAP: &str = "world/value_map";
/// Where the policy heads first, and the way there.
const SUBGOAL: &str = "world/subgoal";
const SUBGOAL_WAY: &str = "world/subgoal/way";
/// What the latent view shows.
pub(crate) const LATENT: &str = "latent";
const LATENT_STATES: &str = "latent/states";
const LATENT_GOAL: &str = "latent/goal";
const LATENT_AGENT: &str = "latent/agent";

/// The map lies this far above the floor, in metres: over it, under everything that stands on it.
const MAP_HEIGHT_M: f32 = 0.004;

/// Rows of one episode that have not been sent.
#[derive(Debug, Default)]
pub(crate) struct IntentRows {
    /// Step, sub-goal, and where the agent was.
    pub(crate) subgoals: Vec<(i64, [f32; 3], [f32; 3])>,
    pub(crate) latents: Vec<(i64, [f32; 3])>,
}

impl IntentRows {
    /// Sends and forgets the rows.
    pub(crate) fn send(
        &mut self,
        recording: &RecordingStream,
        clock: Clock,
    ) -> Result<(), VizError> {
        let subgoals = std::mem::take(&mut self.subgoals);
        let steps: Vec<i64> = subgoals.iter().map(|row| row.0).collect();
        let points = Points3D::update_fields()
            .with_positions(subgoals.iter().map(|row| row.1))
            .columns_of_unit_batches()?;
        send_rows(recording, SUBGOAL, clock.columns(&steps), points)?;
        let ways = LineStrips3D::update_fields()
            .with_strips(subgoals.iter().map(|row| [row.2, row.1]))
            .columns_of_unit_batches()?;
        send_rows(recording, SUBGOAL_WAY, clock.columns(&steps), ways)?;
        let latents = std::mem::take(&mut self.latents);
        let steps: Vec<i64> = latents.iter().map(|row| row.0).collect();
        let points = Points3D::update_fields()
            .with_positions(latents.iter().map(|row| row.1))
            .columns_of_unit_batches()?;
        send_rows(recording, LATENT_AGENT, clock.columns(&steps), points)
    }
}

/// Styles that hold for the whole recording; `size` is the width of the scene in metres.
pub(crate) fn log_styles(recording: &RecordingStream, size: f32) -> Result<(), VizError> {
    let subgoal = Points3D::update_fields()
        .with_colors([color(palette::SUBGOAL)])
        .with_radii([0.012 * size]);
    recording.log_static(SUBGOAL, &subgoal)?;
    let way = LineStrips3D::update_fields()
        .with_colors([color(palette::SUBGOAL)])
        .with_radii([Radius::new_ui_points(1.5)]);
    recording.log_static(SUBGOAL_WAY, &way)?;
    for (entity, rgba, points) in [
        (LATENT_GOAL, [0.2, 0.85, 0.4, 1.0], 8.0),
        (LATENT_AGENT, palette::TRACE, 7.0),
    ] {
        let style = Points3D::update_fields()
            .with_colors([color(rgba)])
            .with_radii([Radius::new_ui_points(points)]);
        recording.log_static(entity, &style)?;
    }
    Ok(())
}

/// Values as colours from the lowest to the highest.
fn shades(values: &[f32]) -> impl Iterator<Item = rerun::Color> + '_ {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let low = finite().fold(f32::INFINITY, f32::min);
    let high = finite().fold(f32::NEG_INFINITY, f32::max);
    let span = (high - low).max(f32::MIN_POSITIVE);
    values.iter().map(move |value| {
        let progress = if value.is_finite() {
            (value - low) / span
        } else {
            0.0
        };
        color(palette::ramp(progress))
    })
}

/// A square of the floor per probe, coloured by its value; valid from `step` on.
pub(crate) fn send_value_map(
    recording: &RecordingStream,
    clock: Clock,
    step: i64,
    probes: &[Probe],
    spacing_m: f32,
    values: &[f32],
) -> Result<(), VizError> {
    let half = spacing_m / 2.0;
    let corners = [[-half, -half], [half, -half], [half, half], [-half, half]];
    let positions = probes.iter().flat_map(|probe| {
        corners.map(|[x, y]| {
            let [px, py, pz] = probe.position;
            [px + x, py + y, pz + MAP_HEIGHT_M]
        })
    });
    let triangles = (0..probes.len() as u32).flat_map(|probe| {
        let first = 4 * probe;
        [[first, first + 1, first + 2], [first, first + 2, first + 3]]
    });
    let colors = shades(values).flat_map(|shade| [shade; 4]);
    let mesh = Mesh3D::new(positions)
        .with_triangle_indices(triangles)
        .with_vertex_colors(colors);
    let times = clock.columns(&[step]);
    send_rows(recording, VALUE_MAP, times, one_row(&mesh)?)
}

/// Latents of states and of the goal; valid from `step` on.
pub(crate) fn send_latents(
    recording: &RecordingStream,
    clock: Clock,
    step: i64,
    states: &[[f32; 3]],
    values: &[f32],
    goal: [f32; 3],
) -> Result<(), VizError> {
    let points = Points3D::update_fields()
        .with_positions(states.iter().copied())
        .with_colors(shades(values))
        .with_radii([Radius::new_ui_points(2.5)]);
    let times = || clock.columns(&[step]);
    send_rows(recording, LATENT_STATES, times(), one_row(&points)?)?;
    let goal = Points3D::update_fields().with_positions([goal]);
    send_rows(recording, LATENT_GOAL, times(), one_row(&goal)?)
}

/// All components of an archetype as one row.
fn one_row(archetype: &dyn AsComponents) -> Result<Vec<SerializedComponentColumn>, VizError> {
    archetype
        .as_serialized_batches()
        .into_iter()
        .map(|batch| {
            let length = batch.array.len();
            Ok(batch.partitioned([length])?)
        })
        .collect()
}
