//! Records episodes of one environment.

use std::collections::{BTreeMap, BTreeSet};

use rerun::external::re_sdk_types::archetypes::ViewCoordinates;
use rerun::sink::MemorySinkStorage;
use rerun::{ApplicationId, RecordingStream, RecordingStreamBuilder};
use telic_envs::{EnvSpec, GoalEnv, Marker, Probe, Step};
use telic_policies::DenoisingTrace;

use crate::blueprint::{self, Contents};
use crate::camera::Camera;
use crate::denoising::{self, ActionSpace, Decision};
use crate::episode::{self, EpisodeBuffer, Outcome};
use crate::intent;
use crate::scene::{Bounds, Scene};
use crate::target::{Recorded, RecordingTarget, Sink};
use crate::timeline::{Clock, break_series, style_series};
use crate::{VizError, layout, palette};

/// States that are collected before they are sent to a file: long columns, bounded memory.
const ROWS_TO_FILE: usize = 1024;

/// Records episodes of one environment, one after the other on common timelines.
///
/// Per episode: [`begin_episode`](Self::begin_episode) after the reset, then for every control
/// step [`log_denoising`](Self::log_denoising) (if there is something to show) and
/// [`log_step`](Self::log_step). [`finish`](Self::finish) completes the recording; dropped before
/// that, it leaves no file.
///
/// The entities are listed in `docs/viewing.md`.
pub struct EpisodeRecorder {
    spec: &'static EnvSpec,
    recording: RecordingStream,
    storage: MemorySinkStorage,
    sink: Sink,
    stage: Option<Stage>,
    episode: Option<EpisodeBuffer>,
    /// Episodes begun so far.
    episodes: i64,
    /// First step of the next episode.
    next_step: i64,
    /// Denoising levels logged so far.
    denoising_levels: i64,
    /// Blocks of the trace that exist.
    trace_blocks: usize,
    markers: BTreeMap<String, Marker>,
    styled: BTreeSet<String>,
    contents: Contents,
    blueprint_sent: Option<Contents>,
    opening: Opening,
}

/// What a viewer shows when it opens the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It plays in real time, over and over.
    Playing,
    /// It stands at the newest state.
    Newest,
}

/// What the first episode fixes.
struct Stage {
    scene: Scene,
    bounds: Bounds,
    /// Longest arrow of a contact.
    contact_arrow_m: f32,
    camera: Camera,
    space: ActionSpace,
}

impl EpisodeRecorder {
    /// Opens a recording of an environment.
    ///
    /// # Errors
    /// [`VizError::Write`] if the file cannot be created, [`VizError::Serve`] if a port is taken.
    pub fn new(spec: &'static EnvSpec, target: RecordingTarget) -> Result<Self, VizError> {
        let opening = match target {
            RecordingTarget::Web(_) => Opening::Newest,
            RecordingTarget::File(_) | RecordingTarget::Memory => Opening::Playing,
        };
        let sink = Sink::open(target)?;
        let (recording, storage) = RecordingStreamBuilder::new(application(spec))
            .recording_name(spec.id)
            .enabled(true)
            .memory()?;
        recording.log_static("world", &ViewCoordinates::RIGHT_HAND_Z_UP())?;
        episode::log_styles(&recording)?;
        Ok(Self {
            spec,
            recording,
            storage,
            sink,
            stage: None,
            episode: None,
            episodes: 0,
            next_step: 0,
            denoising_levels: 0,
            trace_blocks: 0,
            markers: BTreeMap::new(),
            styled: BTreeSet::new(),
            contents: Contents::default(),
            blueprint_sent: None,
            opening,
        })
    }

    /// Chooses what a viewer shows first: [`Opening::Newest`] for a live web viewer,
    /// [`Opening::Playing`] for everything else unless it is chosen.
    #[must_use]
    pub fn with_opening(mut self, opening: Opening) -> Self {
        self.opening = opening;
        self
    }

    /// Starts an episode at the state of the environment, just after its reset. Ends the one before.
    ///
    /// `label` is shown with the episode, for example `seed 3`. The first episode fixes the
    /// geometry and the camera.
    pub fn begin_episode(&mut self, env: &dyn GoalEnv, label: &str) -> Result<(), VizError> {
        self.begin(env, label, true)
    }

    /// As [`begin_episode`](Self::begin_episode), of play: nobody pursues the goal that the environment drew at its reset, so neither it nor the
    /// distance, the reward and the success that go with it are shown.
    pub fn begin_play(&mut self, env: &dyn GoalEnv, label: &str) -> Result<(), VizError> {
        self.begin(env, label, false)
    }

    fn begin(
        &mut self,
        env: &dyn GoalEnv,
        label: &str,
        pursues_goal: bool,
    ) -> Result<(), VizError> {
        if env.spec().id != self.spec.id {
            return Err(VizError::OtherEnvironment {
                expected: self.spec.id,
                found: env.spec().id,
            });
        }
        self.end_episode()?;
        if self.stage.is_none() {
            let world = env.world();
            let bounds = Bounds::of(world);
            let contact_arrow_m = episode::contact_arrow_m(world, &bounds);
            let scene = Scene::log(&self.recording, world, &bounds)?;
            let size = bounds.size();
            intent::log_styles(&self.recording, size.x.max(size.y))?;
            let space = ActionSpace::new(self.spec, size.x.max(size.y));
            let mut camera = Camera::framing(&Bounds::of_action(world, &env.markers()));
            if let Some(robot) = &scene.wanderer {
                camera = camera.following(robot.clone());
            }
            self.stage = Some(Stage {
                scene,
                bounds,
                contact_arrow_m,
                camera,
                space,
            });
        }
        let task = env.task().and_then(|task| self.spec.tasks.get(task));
        let outcome = Outcome {
            label: label.to_owned(),
            task: task.map(|task| task.name.clone()),
            pursues_goal,
            ..Outcome::default()
        };
        let clock = Clock {
            control_hz: self.spec.control_hz,
            episode: self.episodes,
        };
        self.episodes += 1;
        let series = self.styled.iter().map(String::as_str);
        break_series(&self.recording, clock, self.next_step, series)?;
        episode::hide_trace(&self.recording, clock, self.next_step, self.trace_blocks)?;
        let mut buffer = EpisodeBuffer::new(clock, self.next_step, outcome);
        if let Some(stage) = &self.stage {
            buffer.push_state(
                self.spec,
                env,
                &stage.scene,
                stage.contact_arrow_m,
                &mut self.markers,
            );
        }
        self.episode = Some(buffer);
        Ok(())
    }

    /// Takes over an action `[action_dim]` in −1..=1, what it returned, and the state it led to.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`], [`VizError::ActionDim`], and failures of the target.
    pub fn log_step(
        &mut self,
        env: &dyn GoalEnv,
        action: &[f32],
        step: &Step,
    ) -> Result<(), VizError> {
        self.check_action_dim(action.len())?;
        let (Some(buffer), Some(stage)) = (&mut self.episode, &self.stage) else {
            return Err(VizError::NoEpisode { call: "log_step" });
        };
        buffer.push_step(self.spec, action, *step);
        buffer.push_state(
            self.spec,
            env,
            &stage.scene,
            stage.contact_arrow_m,
            &mut self.markers,
        );
        if buffer.waiting() >= self.rows_per_flush() {
            self.flush()?;
        }
        Ok(())
    }

    /// Takes over how a policy found the next action; call it before the step.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`], [`VizError::ActionDim`].
    pub fn log_denoising(&mut self, trace: &DenoisingTrace) -> Result<(), VizError> {
        for level in &trace.levels {
            self.check_action_dim(level.candidates.ncols())?;
        }
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode {
                call: "log_denoising",
            });
        };
        let now = buffer.now();
        if let Some(spread) = denoising::spread(trace) {
            buffer.series.push(denoising::SPREAD, now, spread);
        }
        buffer.denoising.push(Decision {
            step: now,
            first_level: self.denoising_levels,
            effector: buffer.newest_effector(),
            poses: buffer.newest_poses().to_vec(),
            markers: self.markers.values().cloned().collect(),
            trace: trace.clone(),
        });
        buffer.first_level.get_or_insert(self.denoising_levels);
        self.denoising_levels += trace.levels.len() as i64;
        if !self.contents.denoising {
            self.contents.denoising = true;
            if let Some(stage) = &self.stage {
                stage.space.log_static(&self.recording)?;
            }
        }
        Ok(())
    }

    /// Takes over a number about the current state, for example the value of the goal. `name` may have a group before a slash; it is shown under `plots/<name>`.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`].
    pub fn log_value(&mut self, name: &str, value: f64) -> Result<(), VizError> {
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode { call: "log_value" });
        };
        let now = buffer.now();
        buffer.series.push(&format!("plots/{name}"), now, value);
        Ok(())
    }

    /// Takes over the values of states for the goal of this episode, `[probes]`: a map on the floor from here on. `spacing_m` is
    /// that of the probes.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`], and failures of the target.
    pub fn log_value_map(
        &mut self,
        probes: &[Probe],
        spacing_m: f32,
        values: &[f32],
    ) -> Result<(), VizError> {
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode {
                call: "log_value_map",
            });
        };
        let (clock, now) = (buffer.clock, buffer.now());
        let (low, high) = values
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        let note = format!("value map from {low:.1} to {high:.1}");
        buffer.outcome.notes.push(note);
        intent::send_value_map(&self.recording, clock, now, probes, spacing_m, values)
    }

    /// Takes over a word about this episode, shown with its outcome.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`].
    pub fn log_note(&mut self, note: String) -> Result<(), VizError> {
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode { call: "log_note" });
        };
        buffer.outcome.notes.push(note);
        Ok(())
    }

    /// Takes over latents of states in three dimensions, coloured by their values, and that of the goal, from here on.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`], and failures of the target.
    pub fn log_latents(
        &mut self,
        states: &[[f32; 3]],
        values: &[f32],
        goal: [f32; 3],
    ) -> Result<(), VizError> {
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode {
                call: "log_latents",
            });
        };
        self.contents.latents = true;
        let (clock, now) = (buffer.clock, buffer.now());
        intent::send_latents(&self.recording, clock, now, states, values, goal)
    }

    /// Takes over the latent of the current state.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`].
    pub fn log_latent(&mut self, latent: [f32; 3]) -> Result<(), VizError> {
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode { call: "log_latent" });
        };
        let now = buffer.now();
        buffer.intent.latents.push((now, latent));
        Ok(())
    }

    /// Takes over where the policy heads first, and from where: the agent, or what it moves. In the world, in metres; the way is drawn at the
    /// height of its beginning. Call it before the step.
    ///
    /// # Errors
    /// [`VizError::NoEpisode`].
    pub fn log_subgoal(&mut self, from: [f32; 3], position: [f32; 3]) -> Result<(), VizError> {
        let Some(buffer) = &mut self.episode else {
            return Err(VizError::NoEpisode {
                call: "log_subgoal",
            });
        };
        let now = buffer.now();
        let lifted = [position[0], position[1], from[2]];
        buffer.intent.subgoals.push((now, lifted, from));
        Ok(())
    }

    /// Address of the web viewer, for a recording that goes to one.
    pub fn url(&self) -> Option<&str> {
        match &self.sink {
            Sink::Web(server) => Some(server.url()),
            _ => None,
        }
    }

    /// Completes the recording and hands it out.
    ///
    /// # Errors
    /// [`VizError::Write`] if the file cannot be completed; there is none then.
    pub fn finish(mut self) -> Result<Recorded, VizError> {
        self.end_episode()?;
        self.send_blueprint()?;
        self.sink.append(self.storage.take())?;
        self.sink.finish()
    }

    fn end_episode(&mut self) -> Result<(), VizError> {
        if self.episode.is_none() {
            return Ok(());
        }
        self.flush()?;
        if let Some(buffer) = self.episode.take() {
            buffer.send_outcome(&self.recording, self.spec)?;
            self.next_step = buffer.now() + 1;
        }
        self.sink.append(self.storage.take())
    }

    /// Sends everything that waits.
    fn flush(&mut self) -> Result<(), VizError> {
        let (Some(buffer), Some(stage)) = (&mut self.episode, &mut self.stage) else {
            return Ok(());
        };
        if self.contents.denoising {
            stage
                .space
                .send(&self.recording, buffer.clock, &buffer.denoising)?;
            stage.space.send_executed(
                &self.recording,
                buffer.clock,
                &buffer.denoising,
                &buffer.decisions,
                &buffer.actions,
            )?;
            buffer.send_decisions(&self.recording, &stage.scene, &stage.bounds)?;
        }
        buffer.denoising.clear();
        buffer.decisions.clear();
        buffer.actions.clear();
        buffer.send(&self.recording, &mut stage.scene, &stage.bounds)?;
        buffer.intent.send(&self.recording, buffer.clock)?;
        for block in self.trace_blocks..buffer.trace_blocks() {
            episode::log_trace_style(&self.recording, block)?;
        }
        self.trace_blocks = self.trace_blocks.max(buffer.trace_blocks());
        let entities: Vec<_> = buffer.series.entities().map(str::to_owned).collect();
        for entity in entities {
            self.style(&entity)?;
        }
        if matches!(self.sink, Sink::Web(_)) {
            self.send_blueprint()?;
        }
        self.sink.append(self.storage.take())
    }

    /// Gives a line its name and colour when it first appears.
    fn style(&mut self, entity: &str) -> Result<(), VizError> {
        if !self.styled.insert(entity.to_owned()) {
            return Ok(());
        }
        self.contents.note(entity);
        let name = match entity {
            "plots/distance_to_goal" => "distance",
            _ => entity.rsplit('/').next().unwrap_or(entity),
        };
        let (color, width) = if entity.ends_with("/tolerance") {
            (palette::TOLERANCE, 1.0)
        } else {
            (self.line_color(entity, name), 1.8)
        };
        style_series(&self.recording, entity, name, color, width)
    }

    fn line_color(&self, entity: &str, name: &str) -> [f32; 3] {
        let place = |names: &[String]| names.iter().position(|known| known == name).unwrap_or(0);
        if entity.starts_with("plots/action/") {
            let names: Vec<_> = self
                .spec
                .action
                .iter()
                .map(|entry| entry.name.clone())
                .collect();
            palette::category(place(&names))
        } else if entity.starts_with("plots/distance_to_goal") {
            palette::category(place(&episode::goal_point_names(self.spec)))
        } else if entity == "plots/reward" {
            palette::REWARD
        } else {
            palette::category(self.styled.len())
        }
    }

    fn send_blueprint(&mut self) -> Result<(), VizError> {
        let Some(stage) = &self.stage else {
            return Ok(());
        };
        if self.blueprint_sent.as_ref() != Some(&self.contents) {
            let root = blueprint::episode(&self.contents, &stage.camera, &stage.space);
            let playback = blueprint::episode_playback(self.spec.control_hz, self.opening);
            layout::send(&self.recording, application(self.spec), &root, &playback)?;
            self.blueprint_sent = Some(self.contents.clone());
        }
        Ok(())
    }

    /// A live viewer gets rows every simulated second.
    fn rows_per_flush(&self) -> usize {
        match self.sink {
            Sink::Web(_) => (self.spec.control_hz.round() as usize).max(1),
            _ => ROWS_TO_FILE,
        }
    }

    fn check_action_dim(&self, found: usize) -> Result<(), VizError> {
        let expected = self.spec.action_dim();
        if found == expected {
            Ok(())
        } else {
            Err(VizError::ActionDim {
                id: self.spec.id,
                found,
                expected,
            })
        }
    }
}

/// The viewer keeps one blueprint per application.
fn application(spec: &EnvSpec) -> ApplicationId {
    ApplicationId::new_or_unknown(format!("telic-{}", spec.id))
}
