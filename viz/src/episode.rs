//! What one episode leaves behind until it is sent in columns.

use std::collections::BTreeMap;

use rerun::{
    Arrows3D, EntityPath, LineStrips3D, Radius, RecordingStream, Scale3D, SerializedComponentBatch,
    TextDocument, TimeColumn, Transform3D,
};
use telic_envs::{EnvSpec, GoalEnv, Marker};
use telic_sim::{Pose, World};

use crate::denoising::{self, Decision};
use crate::intent::IntentRows;
use crate::scene::{Bounds, Scene, color, shape_batches};
use crate::timeline::{Clock, SeriesBuffer, send_rows};
use crate::{VizError, palette};

/// Points per block of the trace. A block is one entity that grows point by point and then stays,
/// so that a trace of n points costs n·BLOCK/2 points instead of n²/2.
const TRACE_BLOCK: usize = 48;

/// Contacts weaker than this are not drawn, in newtons.
const FAINTEST_CONTACT_N: f32 = 1e-3;

/// Force at which the arrows of contacts stop growing like the square root of the force, in newtons.
const SATURATION_FORCE_N: f32 = 10.0;

/// Longest contact arrow as a fraction of the width of the scene, and of that of the robot in it.
const CONTACT_ARROW_FRACTION: f32 = 0.15;
const CONTACT_ARROW_FRACTION_OF_ROBOT: f32 = 0.6;

/// Longest contact arrow of a world, in metres.
pub(crate) fn contact_arrow_m(world: &World, bounds: &Bounds) -> f32 {
    let width = |bounds: &Bounds| bounds.size().x.max(bounds.size().y);
    let of_scene = CONTACT_ARROW_FRACTION * width(bounds);
    match Bounds::of_robot(world) {
        Some(robot) => of_scene.min(CONTACT_ARROW_FRACTION_OF_ROBOT * robot.size().max_element()),
        None => of_scene,
    }
}

/// Names of the points of a goal, from the observation entries they are read from.
pub(crate) fn goal_point_names(spec: &EnvSpec) -> Vec<String> {
    let stem = |index: &usize| {
        let name = spec
            .observation
            .get(*index)
            .map_or("", |entry| entry.name.as_str());
        name.rsplit_once(['.', '_'])
            .map_or(name, |(stem, _)| stem)
            .to_owned()
    };
    let mut names: Vec<_> = spec
        .goal
        .indices
        .chunks(spec.goal.point_dim.max(1))
        .map(|point| point.first().map(stem).unwrap_or_default())
        .collect();
    for index in 0..names.len() {
        if names[index].is_empty() || names[..index].contains(&names[index]) {
            names[index] = format!("point_{index}");
        }
    }
    names
}

/// Distance of each point of the achieved goal from the desired one, in metres.
fn goal_distances(spec: &EnvSpec, env: &dyn GoalEnv) -> Vec<f64> {
    let mut achieved = vec![0.0; spec.goal_dim()];
    spec.goal.extract(env.observation(), &mut achieved);
    let point_dim = spec.goal.point_dim.max(1);
    achieved
        .chunks(point_dim)
        .zip(env.desired_goal().chunks(point_dim))
        .map(|(achieved, desired)| {
            let squared: f64 = achieved
                .iter()
                .zip(desired)
                .map(|(a, d)| f64::from(a - d).powi(2))
                .sum();
            squared.sqrt() * f64::from(spec.goal.metres_per_unit)
        })
        .collect()
}

/// What was said about an episode when it began and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) label: String,
    pub(crate) task: Option<String>,
    /// Whether anybody is after the goal of the environment.
    pub(crate) pursues_goal: bool,
    pub(crate) steps: usize,
    pub(crate) reward: f64,
    pub(crate) success_step: Option<usize>,
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
    /// What else is worth a word.
    pub(crate) notes: Vec<String>,
}

/// One episode, the part of it that has not been sent yet.
#[derive(Debug)]
pub(crate) struct EpisodeBuffer {
    pub(crate) clock: Clock,
    /// Step of the reset.
    pub(crate) first_step: i64,
    /// Steps of the states, one row each.
    states: Vec<i64>,
    /// `[states, bodies]`.
    poses: Vec<Pose>,
    /// `[states]`, in metres.
    effector: Vec<[f32; 3]>,
    newest_effector: [f32; 3],
    /// `[bodies]`.
    newest_poses: Vec<Pose>,
    /// Points of the trace block that is growing.
    block: Vec<[f32; 3]>,
    /// Blocks begun in this episode.
    blocks: usize,
    contacts: ContactRows,
    markers: Vec<(i64, String, Option<Marker>)>,
    pub(crate) series: SeriesBuffer,
    /// Steps at which an action was chosen, one row each.
    pub(crate) decisions: Vec<i64>,
    /// `[decisions, action_dim]`.
    pub(crate) actions: Vec<f32>,
    pub(crate) denoising: Vec<Decision>,
    /// First denoising level of this episode.
    pub(crate) first_level: Option<i64>,
    pub(crate) intent: IntentRows,
    pub(crate) outcome: Outcome,
}

/// Rows of one block of the trace.
#[derive(Debug, Default)]
struct TraceRows {
    steps: Vec<i64>,
    strips: Vec<Vec<[f32; 3]>>,
}

#[derive(Debug, Default)]
struct ContactRows {
    origins: Vec<[f32; 3]>,
    vectors: Vec<[f32; 3]>,
    labels: Vec<String>,
    per_row: Vec<usize>,
}

impl EpisodeBuffer {
    pub(crate) fn new(clock: Clock, first_step: i64, outcome: Outcome) -> Self {
        Self {
            clock,
            first_step,
            states: Vec::new(),
            poses: Vec::new(),
            effector: Vec::new(),
            newest_effector: [0.0; 3],
            newest_poses: Vec::new(),
            block: Vec::new(),
            blocks: 0,
            contacts: ContactRows::default(),
            markers: Vec::new(),
            series: SeriesBuffer::default(),
            decisions: Vec::new(),
            actions: Vec::new(),
            denoising: Vec::new(),
            first_level: None,
            intent: IntentRows::default(),
            outcome,
        }
    }

    /// Step of the newest state.
    pub(crate) fn now(&self) -> i64 {
        self.first_step + self.outcome.steps as i64
    }

    /// Where the effector is, in metres.
    pub(crate) fn newest_effector(&self) -> [f32; 3] {
        self.newest_effector
    }

    /// Where the bodies of the scene are.
    pub(crate) fn newest_poses(&self) -> &[Pose] {
        &self.newest_poses
    }

    /// Rows that wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.states.len()
    }

    /// Takes over the state of the environment at [`now`](Self::now).
    pub(crate) fn push_state(
        &mut self,
        spec: &EnvSpec,
        env: &dyn GoalEnv,
        scene: &Scene,
        contact_arrow_m: f32,
        shown: &mut BTreeMap<String, Marker>,
    ) {
        let now = self.now();
        let world = env.world();
        self.states.push(now);
        self.newest_poses.clear();
        self.newest_poses
            .extend(scene.bodies.iter().map(|body| world.body_pose(body.id)));
        self.poses.extend_from_slice(&self.newest_poses);
        self.newest_effector = env.end_effector();
        self.effector.push(self.newest_effector);
        self.push_contacts(env, contact_arrow_m);
        let mut markers = env.markers();
        if self.outcome.pursues_goal {
            self.push_distances(spec, env);
        } else {
            markers.retain(|marker| !marker.name.starts_with("goal/"));
        }
        self.push_markers(markers, shown);
        for (name, value) in env.metrics() {
            self.series
                .push(&format!("plots/metrics/{name}"), now, value);
        }
        for (reward, value) in spec.rewards.iter().zip(env.rewards()) {
            let entity = format!("plots/named_rewards/{}", reward.name);
            self.series.push(&entity, now, f64::from(value));
        }
    }

    fn push_distances(&mut self, spec: &EnvSpec, env: &dyn GoalEnv) {
        let now = self.now();
        let distances = goal_distances(spec, env);
        if distances.len() > 1 {
            for (name, &distance) in goal_point_names(spec).iter().zip(&distances) {
                self.series
                    .push(&format!("plots/distance_to_goal/{name}"), now, distance);
            }
        } else if let Some(&distance) = distances.first() {
            self.series.push("plots/distance_to_goal", now, distance);
        }
        let tolerance = f64::from(spec.goal.tolerance * spec.goal.metres_per_unit);
        self.series
            .push("plots/distance_to_goal/tolerance", now, tolerance);
    }

    fn push_contacts(&mut self, env: &dyn GoalEnv, longest: f32) {
        let world = env.world();
        let before = self.contacts.origins.len();
        let mut total = 0.0;
        for contact in world.contacts() {
            let force = contact.force_newtons;
            let newtons = force.length();
            if newtons < FAINTEST_CONTACT_N {
                continue;
            }
            total += f64::from(newtons);
            // The square root shows the weight of a small block beside the grip of an arm; the
            // bound keeps impacts in view.
            let length = longest * (newtons / (newtons + SATURATION_FORCE_N)).sqrt();
            let arrow = force * (length / newtons);
            let geoms = world.geoms();
            let name = |index: usize| {
                geoms
                    .get(index)
                    .and_then(|geom| geom.name.as_deref())
                    .unwrap_or("geom")
            };
            self.contacts.origins.push(contact.position.to_array());
            self.contacts.vectors.push(arrow.to_array());
            self.contacts.labels.push(format!(
                "{} on {}: {newtons:.2} N",
                name(contact.geom_a.index()),
                name(contact.geom_b.index())
            ));
        }
        self.contacts
            .per_row
            .push(self.contacts.origins.len() - before);
        self.series.push("plots/contact_force", self.now(), total);
    }

    fn push_markers(&mut self, markers: Vec<Marker>, shown: &mut BTreeMap<String, Marker>) {
        let now = self.now();
        let gone: Vec<_> = shown
            .keys()
            .filter(|name| !markers.iter().any(|marker| marker.name == **name))
            .cloned()
            .collect();
        for name in gone {
            shown.remove(&name);
            self.markers.push((now, name, None));
        }
        for marker in markers {
            if shown.get(&marker.name) != Some(&marker) {
                shown.insert(marker.name.clone(), marker.clone());
                self.markers.push((now, marker.name.clone(), Some(marker)));
            }
        }
    }

    /// Takes over an action and what it led to. The action belongs to the state it was chosen in,
    /// the reward to the state it led to.
    pub(crate) fn push_step(&mut self, spec: &EnvSpec, action: &[f32], step: telic_envs::Step) {
        let chosen_at = self.now();
        self.decisions.push(chosen_at);
        self.actions.extend(action);
        for (entry, &value) in spec.action.iter().zip(action) {
            self.series.push(
                &format!("plots/action/{}", entry.name),
                chosen_at,
                f64::from(value),
            );
        }
        self.outcome.steps += 1;
        self.outcome.reward += f64::from(step.reward);
        if step.success && self.outcome.success_step.is_none() {
            self.outcome.success_step = Some(self.outcome.steps);
        }
        self.outcome.terminated |= step.terminated;
        self.outcome.truncated |= step.truncated;
        if self.outcome.pursues_goal {
            self.series
                .push("plots/reward", self.now(), f64::from(step.reward));
        }
    }

    /// Sends what waits, except denoising, and forgets it.
    pub(crate) fn send(
        &mut self,
        recording: &RecordingStream,
        scene: &mut Scene,
        bounds: &Bounds,
    ) -> Result<(), VizError> {
        self.send_poses(recording, scene)?;
        self.send_trace(recording)?;
        self.send_contacts(recording)?;
        self.send_markers(recording, bounds)?;
        self.series.send(recording, self.clock)?;
        self.states.clear();
        Ok(())
    }

    /// Bodies that have not moved since they were last sent are left out.
    fn send_poses(
        &mut self,
        recording: &RecordingStream,
        scene: &mut Scene,
    ) -> Result<(), VizError> {
        let bodies = scene.bodies.len();
        for (index, body) in scene.bodies.iter_mut().enumerate() {
            let poses: Vec<Pose> = self
                .poses
                .iter()
                .skip(index)
                .step_by(bodies)
                .copied()
                .collect();
            let Some(&last) = poses.last() else { continue };
            if poses.iter().all(|pose| Some(*pose) == body.sent) {
                continue;
            }
            let still = poses.iter().all(|pose| *pose == last);
            let rows = if still { 1 } else { poses.len() };
            let times = self.clock.columns(&self.states[..rows]);
            send_poses(recording, &body.entity, times, &poses[..rows])?;
            body.sent = Some(last);
        }
        self.poses.clear();
        Ok(())
    }

    fn send_trace(&mut self, recording: &RecordingStream) -> Result<(), VizError> {
        let mut rows: BTreeMap<usize, TraceRows> = BTreeMap::new();
        for (&step, &point) in self.states.iter().zip(&self.effector) {
            if self.blocks == 0 || self.block.len() > TRACE_BLOCK {
                // A block starts where the one before it ends.
                let joint = self.block.last().copied();
                self.block.clear();
                self.block.extend(joint);
                self.blocks += 1;
            }
            self.block.push(point);
            let TraceRows { steps, strips } = rows.entry(self.blocks - 1).or_default();
            steps.push(step);
            strips.push(self.block.clone());
        }
        self.effector.clear();
        for (block, TraceRows { steps, strips }) in rows {
            let columns = LineStrips3D::update_fields()
                .with_strips(strips)
                .columns_of_unit_batches()?;
            send_rows(
                recording,
                trace_entity(block),
                self.clock.columns(&steps),
                columns,
            )?;
        }
        Ok(())
    }

    /// Blocks of the trace that this episode has begun.
    pub(crate) fn trace_blocks(&self) -> usize {
        self.blocks
    }

    /// Bodies and markers on the timeline of the denoising, where each decision begins.
    pub(crate) fn send_decisions(
        &self,
        recording: &RecordingStream,
        scene: &Scene,
        bounds: &Bounds,
    ) -> Result<(), VizError> {
        let levels = self.denoising.iter().map(|decision| decision.first_level);
        let levels: Vec<i64> = levels.collect();
        for (index, body) in scene.bodies.iter().enumerate() {
            let poses = self.denoising.iter().map(|decision| decision.poses[index]);
            let poses: Vec<Pose> = poses.collect();
            send_poses(recording, &body.entity, denoising::times(&levels), &poses)?;
        }
        for decision in &self.denoising {
            for marker in &decision.markers {
                let times = denoising::times(&[decision.first_level]);
                send_marker(recording, &marker.name, Some(marker), times, bounds)?;
            }
        }
        Ok(())
    }

    fn send_contacts(&mut self, recording: &RecordingStream) -> Result<(), VizError> {
        let rows = std::mem::take(&mut self.contacts);
        let columns = Arrows3D::update_fields()
            .with_vectors(rows.vectors)
            .with_origins(rows.origins)
            .with_labels(rows.labels)
            .columns(rows.per_row)?;
        send_rows(
            recording,
            "world/contacts",
            self.clock.columns(&self.states),
            columns,
        )
    }

    fn send_markers(
        &mut self,
        recording: &RecordingStream,
        bounds: &Bounds,
    ) -> Result<(), VizError> {
        for (step, name, marker) in std::mem::take(&mut self.markers) {
            let times = self.clock.columns(&[step]);
            send_marker(recording, &name, marker.as_ref(), times, bounds)?;
        }
        Ok(())
    }

    /// Sends the text about the episode. It is valid from the first step on.
    pub(crate) fn send_outcome(
        &self,
        recording: &RecordingStream,
        spec: &EnvSpec,
    ) -> Result<(), VizError> {
        let text = TextDocument::from_markdown(self.outcome.markdown(spec, self.clock.episode));
        let from_reset = self.clock.columns(&[self.first_step]);
        let from_level = self.first_level.map(|level| denoising::times(&[level]));
        for times in [Some(from_reset), from_level].into_iter().flatten() {
            let columns = text.clone().columns_of_unit_batches()?;
            send_rows(recording, "info/episode", times, columns)?;
        }
        Ok(())
    }
}

/// Hides the blocks of the trace that an earlier episode has left behind, but for the first one, which begins anew at `step`.
pub(crate) fn hide_trace(
    recording: &RecordingStream,
    clock: Clock,
    step: i64,
    blocks: usize,
) -> Result<(), VizError> {
    for block in 1..blocks {
        let columns = LineStrips3D::update_fields()
            .with_strips(Vec::<Vec<[f32; 3]>>::new())
            .columns([0])?;
        send_rows(
            recording,
            trace_entity(block),
            clock.columns(&[step]),
            columns,
        )?;
    }
    Ok(())
}

fn send_poses(
    recording: &RecordingStream,
    entity: &EntityPath,
    times: Vec<TimeColumn>,
    poses: &[Pose],
) -> Result<(), VizError> {
    let translations = poses.iter().map(|pose| pose.translation.to_array());
    let rotations = poses
        .iter()
        .map(|pose| rerun::Quaternion::from_xyzw(pose.rotation.to_array()));
    let columns = Transform3D::update_fields()
        .with_many_translation(translations)
        .with_many_quaternion(rotations)
        .columns_of_unit_batches()?;
    send_rows(recording, entity.clone(), times, columns)
}

/// Shows a marker from here on, or lets it vanish.
fn send_marker(
    recording: &RecordingStream,
    name: &str,
    marker: Option<&Marker>,
    times: Vec<TimeColumn>,
    bounds: &Bounds,
) -> Result<(), VizError> {
    let batches = match marker {
        Some(marker) => shape_batches(&marker.shape, &marker.pose, marker.rgba, bounds),
        None => vanish(),
    };
    let columns: Result<Vec<_>, _> = batches
        .into_iter()
        .map(|batch| {
            let length = batch.array.len();
            batch.partitioned([length])
        })
        .collect();
    send_rows(recording, format!("world/{name}"), times, columns?)
}

/// A scale of zero: the viewer draws nothing, whatever the shape is.
fn vanish() -> Vec<SerializedComponentBatch> {
    use rerun::AsComponents;
    Transform3D::from_scale(Scale3D::uniform(0.0)).as_serialized_batches()
}

fn trace_entity(block: usize) -> String {
    format!("world/trace/end_effector/{block:03}")
}

/// Styles that hold for the whole recording.
pub(crate) fn log_styles(recording: &RecordingStream) -> Result<(), VizError> {
    recording.log_static(
        "world/contacts",
        &Arrows3D::update_fields()
            .with_colors([color(palette::CONTACT)])
            .with_radii([Radius::new_ui_points(1.5)])
            .with_show_labels(false),
    )?;
    Ok(())
}

/// Colour and width of one block of the trace.
pub(crate) fn log_trace_style(recording: &RecordingStream, block: usize) -> Result<(), VizError> {
    recording.log_static(
        trace_entity(block),
        &LineStrips3D::update_fields()
            .with_colors([color(palette::TRACE)])
            .with_radii([Radius::new_ui_points(1.5)]),
    )?;
    Ok(())
}

impl Outcome {
    fn markdown(&self, spec: &EnvSpec, episode: i64) -> String {
        let mut heading = format!("**{}** · episode {episode}", spec.id);
        if !self.label.is_empty() {
            heading = format!("{heading} · {}", self.label);
        }
        let end = match (self.success_step.is_some(), self.terminated, self.truncated) {
            (true, ..) => "**success**",
            (false, true, _) => "**failed** (terminated)",
            (false, false, true) => "**failed** (step limit)",
            (false, false, false) => "not finished",
        };
        let mut facts = Vec::new();
        if let Some(task) = &self.task {
            facts.push(format!("task **{task}**"));
        }
        if self.pursues_goal {
            facts.push(match self.success_step {
                Some(step) => format!("{end} at step {step}"),
                None => end.to_owned(),
            });
        }
        let seconds = self.steps as f64 / spec.control_hz;
        facts.push(format!(
            "{} steps, {seconds:.1} s at {} Hz",
            self.steps, spec.control_hz
        ));
        if self.pursues_goal {
            facts.push(format!("return {}", self.reward));
        }
        facts.extend(self.notes.iter().cloned());
        format!("{heading}\n\n{}\n\n{}", facts.join(" · "), spec.summary)
    }
}
