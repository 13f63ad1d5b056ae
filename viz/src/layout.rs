//! Blueprints: how the viewer arranges a recording when it opens.
//!
//! The blueprint builder of the Rust SDK cannot set the camera, the axes or the background of a
//! view, so this module writes the archetypes of the blueprint store itself: one entity per
//! container, per view and per view property, as the viewer reads them.

use rerun::external::re_log_types::BlueprintActivationCommand;
use rerun::external::re_sdk_types::blueprint::archetypes::{
    ContainerBlueprint, PanelBlueprint, TimePanelBlueprint, ViewBlueprint, ViewContents,
    ViewportBlueprint,
};
use rerun::external::re_sdk_types::blueprint::components::{
    ActiveTab, AutoLayout, AutoViews, ColumnShare, ContainerKind, Fps, GridColumns,
    IncludedContent, LoopMode, PanelState, PlayState, PlaybackSpeed, QueryExpression,
    RootContainer, RowShare, TimelineName, ViewClass,
};
use rerun::external::uuid::Uuid;
use rerun::{
    ApplicationId, AsComponents, RecordingStream, RecordingStreamBuilder, SerializedComponentBatch,
};

use crate::VizError;

/// A container or a view of a layout.
pub(crate) enum Node {
    /// Side by side, with the share of the width of each.
    Columns(Vec<(f32, Node)>),
    /// One above the other, with the share of the height of each.
    Rows(Vec<(f32, Node)>),
    /// One behind the other; the first one is in front.
    Tabs(Vec<Node>),
    /// In a grid of this many columns.
    Grid(u32, Vec<Node>),
    /// A view.
    View(View),
}

/// One view and its properties.
pub(crate) struct View {
    class: &'static str,
    name: String,
    contents: Vec<String>,
    properties: Vec<(&'static str, Vec<SerializedComponentBatch>)>,
}

impl View {
    /// A 3-D scene.
    pub(crate) fn scene(name: &str, contents: &[&str]) -> Self {
        Self::new("3D", name, contents)
    }

    /// A plane.
    pub(crate) fn plane(name: &str, contents: &[&str]) -> Self {
        Self::new("2D", name, contents)
    }

    /// Scalars over time.
    pub(crate) fn plot(name: &str, contents: &[&str]) -> Self {
        Self::new("TimeSeries", name, contents)
    }

    /// A Markdown text.
    pub(crate) fn text(name: &str, contents: &[&str]) -> Self {
        Self::new("TextDocument", name, contents)
    }

    fn new(class: &'static str, name: &str, contents: &[&str]) -> Self {
        let contents = contents.iter().map(|&query| query.to_owned()).collect();
        Self {
            class,
            name: name.to_owned(),
            contents,
            properties: Vec::new(),
        }
    }

    /// Sets a property of the view; `name` is the short name of the archetype.
    pub(crate) fn with(mut self, name: &'static str, property: &dyn AsComponents) -> Self {
        self.properties
            .push((name, property.as_serialized_batches()));
        self
    }
}

/// What the time panel shows first.
pub(crate) struct Playback {
    /// Timeline that is active when the recording opens.
    pub(crate) timeline: &'static str,
    /// Rows per second on sequence timelines.
    pub(crate) fps: f64,
    /// Whether time runs, stands, or follows the newest data.
    pub(crate) state: PlayState,
    /// Where playback goes on after its end.
    pub(crate) looping: LoopMode,
}

/// Sends a layout to a recording and makes it both the active and the default one of its application.
pub(crate) fn send(
    recording: &RecordingStream,
    application: ApplicationId,
    root: &Node,
    playback: &Playback,
) -> Result<(), VizError> {
    let (stream, storage) = RecordingStreamBuilder::new(application)
        .enabled(true)
        .blueprint()
        .memory()?;
    stream.set_time_sequence("blueprint", 0);

    let root_id = match root {
        Node::View(_) => {
            let child = log_node(&stream, root)?;
            log_container(&stream, ContainerKind::Tabs, &[child], |container| {
                container
            })?
            .id
        }
        _ => log_node(&stream, root)?.id,
    };
    stream.log(
        "viewport",
        &ViewportBlueprint::new()
            .with_root_container(RootContainer(root_id.into()))
            .with_auto_layout(AutoLayout(false.into()))
            .with_auto_views(AutoViews(false.into())),
    )?;
    stream.log(
        "blueprint_panel",
        &PanelBlueprint::new().with_state(PanelState::Collapsed),
    )?;
    stream.log(
        "selection_panel",
        &PanelBlueprint::new().with_state(PanelState::Collapsed),
    )?;
    stream.log(
        "time_panel",
        &TimePanelBlueprint::new()
            .with_state(PanelState::Collapsed)
            .with_timeline(TimelineName(playback.timeline.into()))
            .with_playback_speed(PlaybackSpeed(1.0.into()))
            .with_fps(Fps(playback.fps.into()))
            .with_play_state(playback.state)
            .with_loop_mode(playback.looping),
    )?;

    let messages = storage.take();
    if let Some(first) = messages.first() {
        let activation = BlueprintActivationCommand {
            blueprint_id: first.store_id().clone(),
            make_active: true,
            make_default: true,
        };
        recording.send_blueprint(messages, activation);
    }
    Ok(())
}

/// A logged node: its id and the entity that describes it.
struct Logged {
    id: Uuid,
    entity: String,
}

fn log_node(stream: &RecordingStream, node: &Node) -> Result<Logged, VizError> {
    match node {
        Node::Columns(children) => {
            let logged = log_nodes(stream, children.iter().map(|(_, child)| child))?;
            log_container(stream, ContainerKind::Horizontal, &logged, |container| {
                container.with_col_shares(
                    children
                        .iter()
                        .map(|(share, _)| ColumnShare((*share).into())),
                )
            })
        }
        Node::Rows(children) => {
            let logged = log_nodes(stream, children.iter().map(|(_, child)| child))?;
            log_container(stream, ContainerKind::Vertical, &logged, |container| {
                container
                    .with_row_shares(children.iter().map(|(share, _)| RowShare((*share).into())))
            })
        }
        Node::Tabs(children) => {
            let logged = log_nodes(stream, children)?;
            log_container(
                stream,
                ContainerKind::Tabs,
                &logged,
                |container| match logged.first() {
                    Some(first) => {
                        container.with_active_tab(ActiveTab(first.entity.as_str().into()))
                    }
                    None => container,
                },
            )
        }
        Node::Grid(columns, children) => {
            let logged = log_nodes(stream, children)?;
            log_container(stream, ContainerKind::Grid, &logged, |container| {
                container.with_grid_columns(GridColumns((*columns).into()))
            })
        }
        Node::View(view) => log_view(stream, view),
    }
}

fn log_nodes<'a>(
    stream: &RecordingStream,
    nodes: impl IntoIterator<Item = &'a Node>,
) -> Result<Vec<Logged>, VizError> {
    nodes
        .into_iter()
        .map(|node| log_node(stream, node))
        .collect()
}

fn log_container(
    stream: &RecordingStream,
    kind: ContainerKind,
    children: &[Logged],
    arrange: impl FnOnce(ContainerBlueprint) -> ContainerBlueprint,
) -> Result<Logged, VizError> {
    let id = Uuid::new_v4();
    let entity = format!("container/{id}");
    let contents = children
        .iter()
        .map(|child| IncludedContent(child.entity.as_str().into()));
    stream.log(
        entity.as_str(),
        &arrange(ContainerBlueprint::new(kind).with_contents(contents)),
    )?;
    Ok(Logged { id, entity })
}

fn log_view(stream: &RecordingStream, view: &View) -> Result<Logged, VizError> {
    let id = Uuid::new_v4();
    let entity = format!("view/{id}");
    let queries = view
        .contents
        .iter()
        .map(|query| QueryExpression(query.as_str().into()));
    stream.log(
        format!("{entity}/ViewContents"),
        &ViewContents::new(queries),
    )?;
    stream.log(
        entity.as_str(),
        &ViewBlueprint::new(ViewClass(view.class.into()))
            .with_display_name(view.name.as_str())
            .with_space_origin("/"),
    )?;
    for (name, batches) in &view.properties {
        stream.log_serialized_batches(
            format!("{entity}/{name}"),
            false,
            batches.iter().cloned(),
        )?;
    }
    Ok(Logged { id, entity })
}
