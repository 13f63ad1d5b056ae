//! A diffusion policy at work: how candidate actions move from noise to action.
//!
//! Several candidates of one decision are shown together, so that several modes of the action
//! distribution are seen as several clusters. A colour ramp stands for the noise level: violet is
//! noise, yellow the finished action.

use ndarray::ArrayView1;
use rerun::{
    Arrows3D, Color, EntityPath, LineStrips2D, LineStrips3D, Points2D, Radius, RecordingStream,
    TimeColumn,
};
use telic_envs::{EnvSpec, Marker};
use telic_policies::DenoisingTrace;
use telic_sim::Pose;

use crate::scene::color;
use crate::timeline::{Clock, DENOISING_STEP, send_rows};
use crate::{VizError, palette};

/// Root of the action-space view.
pub(crate) const PLANE: &str = "denoising/action_space";
/// Root of what is drawn in the 3-D scene.
pub(crate) const SCENE: &str = "world/denoising";
/// Spread of the finished candidates over time.
pub(crate) const SPREAD: &str = "plots/denoising/spread";

/// Distance between two columns of the plane when each action entry has its own, in action units.
const COLUMN_SPACING: f32 = 0.5;

/// Length of the arrow of an action of 1, as a fraction of the width of the scene.
const ARROW_FRACTION: f32 = 0.16;

/// How actions of an environment are laid out.
#[derive(Clone, Debug)]
pub(crate) struct ActionSpace {
    names: Vec<String>,
    /// Action entry that moves along each world axis, if any.
    world_axes: [Option<usize>; 3],
    /// Length of the arrow of an action of 1, in metres.
    arrow_m: f32,
}

/// One decision, kept until it is sent.
#[derive(Debug)]
pub(crate) struct Decision {
    /// Control step of the decision.
    pub(crate) step: i64,
    /// Index of its first denoising level in the recording.
    pub(crate) first_level: i64,
    /// Where the effector was, in metres.
    pub(crate) effector: [f32; 3],
    /// Where the bodies of the scene were, `[bodies]`.
    pub(crate) poses: Vec<Pose>,
    /// What was marked in the scene.
    pub(crate) markers: Vec<Marker>,
    /// The candidates.
    pub(crate) trace: DenoisingTrace,
}

impl ActionSpace {
    /// `scene_width_m` is the larger horizontal extent of the scene.
    pub(crate) fn new(spec: &EnvSpec, scene_width_m: f32) -> Self {
        let names: Vec<_> = spec.action.iter().map(|entry| entry.name.clone()).collect();
        let axis = |axis: &str| {
            names
                .iter()
                .position(|name| name.rsplit(['.', '_']).next() == Some(axis))
        };
        let mut world_axes = [axis("x"), axis("y"), axis("z")];
        if world_axes.iter().flatten().count() < 2 {
            // Torques and the like have no direction in the world.
            world_axes = [None; 3];
        }
        let names = without_common_stem(names);
        Self {
            names,
            world_axes,
            arrow_m: ARROW_FRACTION * scene_width_m,
        }
    }

    /// Whether an action is a motion in the world that can be drawn there.
    fn is_spatial(&self) -> bool {
        self.world_axes.iter().any(Option::is_some)
    }

    fn is_plane(&self) -> bool {
        self.names.len() == 2
    }

    /// Limits of the plane that hold every action in −1..=1: `[left, right]`, `[top, bottom]`.
    pub(crate) fn view_range(&self) -> ([f64; 2], [f64; 2]) {
        if self.is_plane() {
            ([-1.6, 1.6], [-1.35, 1.35])
        } else {
            let right = f64::from(COLUMN_SPACING) * (self.names.len().max(1) - 1) as f64;
            ([-0.4, right + 0.4], [-1.45, 1.45])
        }
    }

    /// Points of an action in the plane; the viewer's second axis points down.
    fn points(&self, action: &ArrayView1<'_, f32>) -> Vec<[f32; 2]> {
        if self.is_plane() {
            vec![[action[0], -action[1]]]
        } else {
            let columns = action.iter().enumerate();
            columns
                .map(|(index, value)| [index as f32 * COLUMN_SPACING, -value])
                .collect()
        }
    }

    /// Displacement that stands for an action in the scene, in metres.
    fn displacement(&self, action: &ArrayView1<'_, f32>) -> [f32; 3] {
        self.world_axes
            .map(|entry| entry.map_or(0.0, |entry| action[entry] * self.arrow_m))
    }

    /// Logs the axes of the plane and the styles, once.
    pub(crate) fn log_static(&self, recording: &RecordingStream) -> Result<(), VizError> {
        let frame = color(palette::FRAME);
        let mut strips = Vec::new();
        let mut labels = Vec::new();
        if self.is_plane() {
            strips.push(vec![
                [-1.0, -1.0],
                [1.0, -1.0],
                [1.0, 1.0],
                [-1.0, 1.0],
                [-1.0, -1.0],
            ]);
            strips.push(vec![[-1.0, 0.0], [1.0, 0.0]]);
            strips.push(vec![[0.0, -1.0], [0.0, 1.0]]);
            labels.push(([1.0, 0.0], self.names[0].clone()));
            labels.push(([0.0, -1.0], self.names[1].clone()));
        } else {
            for (index, name) in self.names.iter().enumerate() {
                let x = index as f32 * COLUMN_SPACING;
                strips.push(vec![[x, -1.0], [x, 1.0]]);
                labels.push(([x, 1.15], name.clone()));
            }
        }
        let count = strips.len();
        recording.log_static(
            format!("{PLANE}/axes"),
            &LineStrips2D::new(strips)
                .with_colors(vec![frame; count])
                .with_radii([Radius::new_ui_points(0.6)]),
        )?;
        let (positions, texts): (Vec<[f32; 2]>, Vec<String>) = labels.into_iter().unzip();
        recording.log_static(
            format!("{PLANE}/labels"),
            &Points2D::new(positions)
                .with_labels(texts)
                .with_show_labels(true)
                .with_colors([frame])
                .with_radii([Radius::new_ui_points(1.0)]),
        )?;
        recording.log_static(
            format!("{PLANE}/executed"),
            &Points2D::update_fields()
                .with_colors([color(palette::EXECUTED)])
                .with_radii([Radius::new_ui_points(6.0)])
                .with_draw_order(40.0),
        )?;
        Ok(())
    }

    /// Sends the actions, `[rows * action_dim]`, that were taken at these steps, of those steps that have candidates to be seen among.
    pub(crate) fn send_executed(
        &self,
        recording: &RecordingStream,
        clock: Clock,
        decisions: &[Decision],
        steps: &[i64],
        actions: &[f32],
    ) -> Result<(), VizError> {
        let per_row = if self.is_plane() { 1 } else { self.names.len() };
        let (steps, points): (Vec<i64>, Vec<_>) = steps
            .iter()
            .zip(actions.chunks_exact(self.names.len().max(1)))
            .filter(|(step, _)| decisions.iter().any(|decision| decision.step == **step))
            .map(|(step, action)| (*step, self.points(&ArrayView1::from(action))))
            .unzip();
        let columns = Points2D::update_fields()
            .with_positions(points.concat())
            .columns(std::iter::repeat_n(per_row, steps.len()))?;
        send_rows(
            recording,
            format!("{PLANE}/executed"),
            clock.columns(&steps),
            columns,
        )
    }

    /// Sends decisions: the candidates of every level, and their way through all levels.
    pub(crate) fn send(
        &self,
        recording: &RecordingStream,
        clock: Clock,
        decisions: &[Decision],
    ) -> Result<(), VizError> {
        let mut levels = LevelRows::default();
        let mut ways = WayRows::default();
        for decision in decisions {
            levels.push(self, decision);
            ways.push(self, decision);
        }
        levels.send(recording, clock, self)?;
        ways.send(recording, clock, self)
    }
}

/// `command.x`, `command.y` as `x`, `y`; names with different stems stay.
fn without_common_stem(names: Vec<String>) -> Vec<String> {
    let stem = |name: &str| name.rfind('.').map(|dot| name[..=dot].to_owned());
    match names.first().and_then(|name| stem(name)) {
        Some(common)
            if names
                .iter()
                .all(|name| stem(name).as_deref() == Some(&common)) =>
        {
            names
                .iter()
                .map(|name| name[common.len()..].to_owned())
                .collect()
        }
        _ => names,
    }
}

/// The denoising timeline alone.
pub(crate) fn times(levels: &[i64]) -> Vec<TimeColumn> {
    vec![TimeColumn::new_sequence(
        DENOISING_STEP,
        levels.iter().copied(),
    )]
}

/// The denoising timeline beside the usual ones.
fn all_times(clock: Clock, steps: &[i64], levels: &[i64]) -> Vec<TimeColumn> {
    [clock.columns(steps), times(levels)].concat()
}

/// One row per denoising level.
#[derive(Default)]
struct LevelRows {
    steps: Vec<i64>,
    levels: Vec<i64>,
    points: Vec<[f32; 2]>,
    point_colors: Vec<Color>,
    points_per_row: Vec<usize>,
    origins: Vec<[f32; 3]>,
    vectors: Vec<[f32; 3]>,
    arrow_colors: Vec<Color>,
    arrows_per_row: Vec<usize>,
}

impl LevelRows {
    fn push(&mut self, space: &ActionSpace, decision: &Decision) {
        let last = decision.trace.levels.len().saturating_sub(1).max(1) as f32;
        for (index, level) in decision.trace.levels.iter().enumerate() {
            let shade = color(palette::ramp(index as f32 / last));
            let (points, arrows) = (self.points.len(), self.vectors.len());
            for candidate in level.candidates.rows() {
                self.points.extend(space.points(&candidate));
                if space.is_spatial() {
                    self.origins.push(decision.effector);
                    self.vectors.push(space.displacement(&candidate));
                }
            }
            self.steps.push(decision.step);
            self.levels.push(decision.first_level + index as i64);
            self.points_per_row.push(self.points.len() - points);
            self.arrows_per_row.push(self.vectors.len() - arrows);
            self.point_colors.resize(self.points.len(), shade);
            self.arrow_colors.resize(self.vectors.len(), shade);
        }
    }

    fn send(
        self,
        recording: &RecordingStream,
        clock: Clock,
        space: &ActionSpace,
    ) -> Result<(), VizError> {
        let radii = vec![Radius::new_ui_points(4.0); self.points.len()];
        let columns = Points2D::new(self.points)
            .with_colors(self.point_colors)
            .with_radii(radii)
            .columns(self.points_per_row)?;
        let rows = all_times(clock, &self.steps, &self.levels);
        send_rows(recording, format!("{PLANE}/candidates"), rows, columns)?;
        if space.is_spatial() {
            let radii = vec![Radius::new_ui_points(1.5); self.vectors.len()];
            let columns = Arrows3D::from_vectors(self.vectors)
                .with_origins(self.origins)
                .with_colors(self.arrow_colors)
                .with_radii(radii)
                .columns(self.arrows_per_row)?;
            let rows = all_times(clock, &self.steps, &self.levels);
            send_rows(recording, format!("{SCENE}/candidates"), rows, columns)?;
        }
        Ok(())
    }
}

/// One row per decision: segments between neighbouring levels, coloured by the level they lead to. Not on the denoising timeline, where they
/// would show the end from the beginning.
#[derive(Default)]
struct WayRows {
    steps: Vec<i64>,
    flat: Vec<Vec<[f32; 2]>>,
    flat_colors: Vec<Color>,
    flat_per_row: Vec<usize>,
    tips: Vec<Vec<[f32; 3]>>,
    tip_colors: Vec<Color>,
    tips_per_row: Vec<usize>,
}

impl WayRows {
    fn push(&mut self, space: &ActionSpace, decision: &Decision) {
        let trace = &decision.trace;
        let last = trace.levels.len().saturating_sub(1).max(1) as f32;
        let (flat, tips) = (self.flat.len(), self.tips.len());
        for (index, pair) in trace.levels.windows(2).enumerate() {
            let shade = color(palette::ramp((index + 1) as f32 / last));
            for (from, to) in pair[0]
                .candidates
                .rows()
                .into_iter()
                .zip(pair[1].candidates.rows())
            {
                if space.is_plane() {
                    self.flat
                        .push([space.points(&from), space.points(&to)].concat());
                }
                if space.is_spatial() {
                    let tip = |action: &ArrayView1<'_, f32>| {
                        let [x, y, z] = space.displacement(action);
                        let [ex, ey, ez] = decision.effector;
                        [ex + x, ey + y, ez + z]
                    };
                    self.tips.push(vec![tip(&from), tip(&to)]);
                }
            }
            self.flat_colors.resize(self.flat.len(), shade);
            self.tip_colors.resize(self.tips.len(), shade);
        }
        if !space.is_plane()
            && let Some(level) = trace.levels.last()
        {
            // With a column per entry, a line joins the entries of one finished candidate.
            self.flat.extend(
                level
                    .candidates
                    .rows()
                    .into_iter()
                    .map(|action| space.points(&action)),
            );
            self.flat_colors
                .resize(self.flat.len(), color(palette::ramp(1.0)));
        }
        self.steps.push(decision.step);
        self.flat_per_row.push(self.flat.len() - flat);
        self.tips_per_row.push(self.tips.len() - tips);
    }

    fn send(
        self,
        recording: &RecordingStream,
        clock: Clock,
        space: &ActionSpace,
    ) -> Result<(), VizError> {
        let radii = vec![Radius::new_ui_points(0.7); self.flat.len()];
        let columns = LineStrips2D::new(self.flat)
            .with_colors(self.flat_colors)
            .with_radii(radii)
            .columns(self.flat_per_row)?;
        let rows = clock.columns(&self.steps);
        send_rows(recording, format!("{PLANE}/ways"), rows, columns)?;
        if space.is_spatial() {
            let radii = vec![Radius::new_ui_points(0.8); self.tips.len()];
            let columns = LineStrips3D::new(self.tips)
                .with_colors(self.tip_colors)
                .with_radii(radii)
                .columns(self.tips_per_row)?;
            let rows = clock.columns(&self.steps);
            send_rows(
                recording,
                EntityPath::from(format!("{SCENE}/ways")),
                rows,
                columns,
            )?;
        }
        Ok(())
    }
}

/// Root mean square distance of the finished candidates from their mean, in action units.
///
/// Far above the noise of one mode it says that the candidates fall into several.
pub(crate) fn spread(trace: &DenoisingTrace) -> Option<f64> {
    let candidates = &trace.levels.last()?.candidates;
    let mean = candidates.mean_axis(ndarray::Axis(0))?;
    let squared: f64 = candidates
        .rows()
        .into_iter()
        .map(|row| {
            row.iter()
                .zip(&mean)
                .map(|(a, m)| f64::from(a - m).powi(2))
                .sum::<f64>()
        })
        .sum();
    Some((squared / candidates.nrows() as f64).sqrt())
}
