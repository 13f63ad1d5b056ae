//! Reads recordings back: what is in a file, without a viewer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;

use camino::Utf8Path;
use rerun::external::re_log_encoding::Decoder;
use rerun::external::re_log_types::TimeType;
use rerun::log::{Chunk, LogMsg};

use crate::VizError;

/// What a recording holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordingSummary {
    /// Application id, `telic-<environment>` for an episode.
    pub application: String,
    /// Timelines by name.
    pub timelines: BTreeMap<String, TimelineSummary>,
    /// Entities by path.
    pub entities: BTreeMap<String, EntitySummary>,
    /// Names of the views of the blueprint, in no particular order.
    pub views: BTreeSet<String>,
}

/// One timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineSummary {
    /// `sequence`, `duration` or `timestamp`.
    pub kind: &'static str,
    /// First value: a number of a sequence, or nanoseconds.
    pub first: i64,
    /// Last value.
    pub last: i64,
}

/// One entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntitySummary {
    /// Components, for example `Boxes3D:half_sizes`.
    pub components: BTreeSet<String>,
    /// Rows without a time.
    pub static_rows: usize,
    /// Rows with a time.
    pub temporal_rows: usize,
}

/// Reads what a recording holds.
///
/// # Errors
/// [`VizError::Open`], [`VizError::Decode`].
pub fn inspect_recording(path: &Utf8Path) -> Result<RecordingSummary, VizError> {
    let mut summary = RecordingSummary::default();
    for message in read_messages(path)? {
        match message {
            LogMsg::SetStoreInfo(info) if info.info.store_id.is_recording() => {
                summary.application = info.info.application_id().to_string();
            }
            LogMsg::ArrowMsg(store, message) => {
                let chunk =
                    Chunk::from_arrow_msg(&message).map_err(|error| decode_error(path, &error))?;
                if store.is_recording() {
                    summary.add(&chunk);
                } else {
                    summary.views.extend(view_names(&chunk));
                }
            }
            _ => {}
        }
    }
    Ok(summary)
}

impl RecordingSummary {
    fn add(&mut self, chunk: &Chunk) {
        let entity = self
            .entities
            .entry(chunk.entity_path().to_string())
            .or_default();
        entity.components.extend(
            chunk
                .components_identifiers()
                .map(|component| component.to_string()),
        );
        if chunk.is_static() {
            entity.static_rows += chunk.num_rows();
        } else {
            entity.temporal_rows += chunk.num_rows();
        }
        let timelines: BTreeMap<String, _> = chunk
            .timelines()
            .iter()
            .map(|(name, column)| (name.to_string(), column))
            .collect();
        for (name, column) in timelines {
            let range = column.time_range();
            let (first, last) = (range.min().as_i64(), range.max().as_i64());
            self.timelines
                .entry(name)
                .and_modify(|timeline| {
                    timeline.first = timeline.first.min(first);
                    timeline.last = timeline.last.max(last);
                })
                .or_insert(TimelineSummary {
                    kind: match column.timeline().typ() {
                        TimeType::Sequence => "sequence",
                        TimeType::DurationNs => "duration",
                        TimeType::TimestampNs => "timestamp",
                    },
                    first,
                    last,
                });
        }
    }
}

/// Display names in a chunk of a blueprint.
fn view_names(chunk: &Chunk) -> Vec<String> {
    use rerun::external::re_sdk_types::blueprint::archetypes::ViewBlueprint;
    let component = ViewBlueprint::descriptor_display_name().component;
    chunk
        .iter_slices::<String>(component)
        .flat_map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
        .collect()
}

/// Every message of an `.rrd` file, in order.
pub(crate) fn read_messages(path: &Utf8Path) -> Result<Vec<LogMsg>, VizError> {
    let file = File::open(path).map_err(|source| VizError::Open {
        path: path.to_owned(),
        source,
    })?;
    let mut decoder = Decoder::<LogMsg>::decode_eager(BufReader::new(file))
        .map_err(|error| decode_error(path, &error))?;
    let messages: Vec<LogMsg> = decoder
        .by_ref()
        .map(|message| message.map_err(|error| decode_error(path, &error)))
        .collect::<Result<_, _>>()?;
    let footers = decoder
        .rrd_manifests()
        .map_err(|error| decode_error(path, &error))?;
    if footers.is_empty() {
        return Err(decode_error(path, &"it ends early, without its footer"));
    }
    // The decoder ends quietly at a message that it cannot read.
    let recording = |message: &LogMsg| matches!(message, LogMsg::SetStoreInfo(info) if info.info.store_id.is_recording());
    if !messages.iter().any(recording) {
        return Err(decode_error(path, &"there is no recording in it"));
    }
    Ok(messages)
}

fn decode_error(path: &Utf8Path, error: &dyn std::fmt::Display) -> VizError {
    VizError::Decode {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
