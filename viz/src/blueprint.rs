//! Which views a recording opens with.

use std::collections::BTreeSet;

use rerun::external::re_sdk_types::blueprint::archetypes::{
    Background, LineGrid3D, PlotLegend, ScalarAxis, TimeAxis, VisualBounds2D,
};
use rerun::external::re_sdk_types::blueprint::components::{
    BackgroundKind, Corner2D, LoopMode, PlayState,
};
use rerun::external::re_sdk_types::datatypes::{Range1D, TimeRange, TimeRangeBoundary};

use crate::camera::Camera;
use crate::denoising::{self, ActionSpace};
use crate::intent;
use crate::layout::{Node, Playback, View};
use crate::palette;
use crate::recorder::Opening;
use crate::timeline::{SIM_TIME, TRAINING_STEP};

/// What an episode recording holds beyond its geometry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Names right below `plots/`.
    pub(crate) plots: BTreeSet<String>,
    /// Whether a policy was watched while it denoised.
    pub(crate) denoising: bool,
    /// Whether latents of the policy are there.
    pub(crate) latents: bool,
}

impl Contents {
    /// Notes an entity; tells whether it brings a new panel.
    pub(crate) fn note(&mut self, entity: &str) -> bool {
        match entity.strip_prefix("plots/") {
            Some(rest) => {
                let group = rest.split('/').next().unwrap_or(rest);
                !self.plots.contains(group) && self.plots.insert(group.to_owned())
            }
            None => false,
        }
    }
}

/// Plots that are always in sight, from top to bottom: group and title.
const MAIN_PLOTS: [(&str, &str); 2] = [
    ("distance_to_goal", "Distance to goal [m]"),
    ("action", "Action"),
];

/// Plots that share a place, in this order before all others.
const SIDE_PLOTS: [(&str, &str); 3] = [
    ("named_rewards", "Named rewards"),
    ("reward", "Reward"),
    ("contact_force", "Contact force [N]"),
];

/// Episodes: the scene at the left, candidates and plots at the right.
pub(crate) fn episode(contents: &Contents, camera: &Camera, space: &ActionSpace) -> Node {
    let scene = View::scene("Scene", &["/world/**"])
        .with("EyeControls3D", &camera.controls())
        .with("LineGrid3D", &LineGrid3D::new().with_visible(false))
        .with("Background", &background());

    // The text keeps its height beside a large view.
    let share = if contents.latents || contents.denoising {
        0.8
    } else {
        0.55
    };
    let mut rows = vec![(share, Node::View(View::text("Episode", &["/info/**"])))];
    if contents.denoising {
        let (x_range, y_range) = space.view_range();
        let bounds = VisualBounds2D::new(rerun::external::re_sdk_types::datatypes::Range2D {
            x_range: Range1D(x_range),
            y_range: Range1D(y_range),
        });
        let view = View::plane("Action candidates", &[&format!("/{}/**", denoising::PLANE)])
            .with("VisualBounds2D", &bounds)
            .with("Background", &background());
        rows.push((2.6, Node::View(view)));
    }
    if contents.latents {
        let view = View::scene("Latent space", &[&format!("/{}/**", intent::LATENT)])
            .with("LineGrid3D", &LineGrid3D::new().with_visible(false))
            .with("Background", &background());
        rows.push((2.6, Node::View(view)));
    }
    for (group, title) in MAIN_PLOTS {
        if contents.plots.contains(group) {
            let mut view = plot(title, &format!("/plots/{group}"));
            if group == "action" {
                view = view.with("ScalarAxis", &ScalarAxis::new().with_range([-1.05, 1.05]));
            }
            rows.push((1.2, Node::View(view)));
        }
    }
    let known = |group: &str| {
        MAIN_PLOTS
            .iter()
            .chain(&SIDE_PLOTS)
            .any(|(known, _)| *known == group)
    };
    let side = SIDE_PLOTS
        .iter()
        .filter(|(group, _)| contents.plots.contains(*group))
        .map(|(group, title)| plot(title, &format!("/plots/{group}")));
    let others = contents
        .plots
        .iter()
        .filter(|group| !known(group))
        .map(|group| plot(&title(group), &format!("/plots/{group}")));
    let side: Vec<_> = side.chain(others).map(Node::View).collect();
    if !side.is_empty() {
        rows.push((0.9, Node::Tabs(side)));
    }
    Node::Columns(vec![(1.75, Node::View(scene)), (1.0, Node::Rows(rows))])
}

/// A training run: one plot per group of metrics.
pub(crate) fn training(groups: &BTreeSet<String>) -> Node {
    let views = groups
        .iter()
        .map(|group| {
            let plot = plot(&title(group), &format!("/metrics/{group}"));
            Node::View(plot.with("TimeAxis", &TimeAxis::new().with_view_range(WHOLE_RUN)))
        })
        .collect();
    Node::Grid(if groups.len() > 4 { 3 } else { 2 }, views)
}

/// Plots over a sequence show a second of playback around the cursor by default, here a thousand updates.
const WHOLE_RUN: TimeRange = TimeRange {
    start: TimeRangeBoundary::Infinite,
    end: TimeRangeBoundary::Infinite,
};

/// Episodes run on simulated time.
pub(crate) fn episode_playback(control_hz: f64, opening: Opening) -> Playback {
    let (state, looping) = match opening {
        Opening::Playing => (PlayState::Playing, LoopMode::All),
        Opening::Newest => (PlayState::Following, LoopMode::Off),
    };
    Playback {
        timeline: SIM_TIME,
        fps: control_hz,
        state,
        looping,
    }
}

/// A training run is looked at as a whole.
pub(crate) fn training_playback() -> Playback {
    Playback {
        timeline: TRAINING_STEP,
        fps: 1000.0,
        state: PlayState::Paused,
        looping: LoopMode::Off,
    }
}

fn plot(title: &str, entity: &str) -> View {
    View::plot(title, &[entity, &format!("{entity}/**")]).with(
        "PlotLegend",
        &PlotLegend::new().with_corner(Corner2D::RightTop),
    )
}

fn background() -> Background {
    Background::new(BackgroundKind::SolidColor).with_color(crate::scene::color(palette::BACKDROP))
}

/// `success_rate` as `Success rate`.
fn title(group: &str) -> String {
    let mut words = group.replace('_', " ");
    if let Some(first) = words.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    words
}
