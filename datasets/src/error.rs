//! What can be wrong with a dataset or with a request for batches.

use camino::Utf8PathBuf;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The operating system refuses.
    #[error("cannot {action}: {source}\nin {path}")]
    Io {
        /// What was tried, for example `open the dataset`.
        action: &'static str,
        /// The system's words.
        source: std::io::Error,
        /// Where.
        path: Utf8PathBuf,
    },
    /// The archive or a member of it is damaged or of a kind that is not read.
    #[error("cannot read {member}: {reason}\nin {path}")]
    Format {
        /// The part that is wrong, for example `` `actions` `` or `the archive`.
        member: String,
        /// What is wrong with it, and what is expected.
        reason: String,
        /// Where.
        path: Utf8PathBuf,
    },
    /// The file can be read, but is no dataset.
    #[error("{problem}\nin {path}")]
    Invalid {
        /// What is wrong with the data.
        problem: InvalidData,
        /// Where.
        path: Utf8PathBuf,
    },
    /// Another process holds the journal.
    #[error("another process is writing this dataset\nin {path}")]
    Locked {
        /// The journal.
        path: Utf8PathBuf,
    },
    /// An unfinished journal is in the way of a new dataset.
    #[error(
        "{episodes} episodes of an unfinished dataset are here; resume them, make a dataset of them (`telic recover`) or delete them first\nin {path}"
    )]
    Unfinished {
        /// Complete episodes in the journal.
        episodes: usize,
        /// The journal.
        path: Utf8PathBuf,
    },
    /// An unfinished journal was made with other settings.
    #[error(
        "the unfinished dataset has `{field}` {found}, this run has {expected}; delete it or use another path\nin {path}"
    )]
    ResumeMismatch {
        /// Field of the metadata.
        field: &'static str,
        /// Value in the journal.
        found: String,
        /// Value of this run.
        expected: String,
        /// The journal.
        path: Utf8PathBuf,
    },
}

/// What is wrong with data.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidData {
    /// A required column is missing.
    #[error(
        "there is no `{column}`; found {found}, expected at least `observations`, `actions` and `terminals`"
    )]
    MissingColumn {
        /// The column.
        column: &'static str,
        /// Names of what is there.
        found: String,
    },
    /// A column is not a table.
    #[error("`{column}` has shape {shape:?}, expected {expected}")]
    Shape {
        /// The column.
        column: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What it should be.
        expected: &'static str,
    },
    /// Columns differ in length.
    #[error("`{column}` has {found} rows but `observations` has {expected}")]
    RowCount {
        /// The column.
        column: &'static str,
        /// Its rows.
        found: usize,
        /// Rows of `observations`.
        expected: usize,
    },
    /// An episode differs in width from those before it.
    #[error(
        "`{column}` has {found} entries per row, expected {expected} as in the episodes before"
    )]
    Width {
        /// The column.
        column: &'static str,
        /// Its width, 0 if it is absent.
        found: usize,
        /// Width of the episodes before, 0 if it is absent there.
        expected: usize,
    },
    /// NaN or an infinity.
    #[error("`{column}` is {value} at row {row}, entry {entry}{name}; expected a finite number")]
    NonFinite {
        /// The column.
        column: &'static str,
        /// Row, from 0.
        row: usize,
        /// Entry in the row, from 0.
        entry: usize,
        /// Name of the entry in parentheses, empty if it has none.
        name: String,
        /// The value.
        value: f32,
    },
    /// A flag that is neither 0 nor 1.
    #[error("`{column}` is {value} at row {row}; expected 0 or 1")]
    Flag {
        /// The column.
        column: &'static str,
        /// Row, from 0.
        row: usize,
        /// The value.
        value: f64,
    },
    /// No row ends an episode.
    #[error("no episode ends in {rows} rows; is `terminals` all zero?")]
    NoEpisodes {
        /// Rows of the data.
        rows: usize,
    },
    /// An episode without a transition.
    #[error(
        "episode {episode} (from row {start}) has {rows} row(s); expected at least 2, one transition and its successor"
    )]
    ShortEpisode {
        /// Episode, from 0.
        episode: usize,
        /// Its first row.
        start: usize,
        /// Its rows.
        rows: usize,
    },
    /// Rows after the last end of an episode.
    #[error(
        "the last {rows} row(s), from row {start}, belong to no episode; expected `terminals` 1 on the last row"
    )]
    Unfinished {
        /// Rows left over.
        rows: usize,
        /// The first of them.
        start: usize,
    },
    /// The regular layout with rows that do not follow each other.
    #[error(
        "`next_observations` is {found} at row {row}, entry {entry}, but the next row of the episode has {expected}; expected rows in order of time"
    )]
    NextObservation {
        /// Row, from 0.
        row: usize,
        /// Entry, from 0.
        entry: usize,
        /// Value in `next_observations`.
        found: f32,
        /// Value in `observations` one row below.
        expected: f32,
    },
    /// The compact layout with flags that contradict each other.
    #[error(
        "row {row} has `valids` {valid} and `terminals` {terminal}; expected valids 1 1 1 0 with terminals 0 0 1 1 for an episode of 3 transitions"
    )]
    CompactFlags {
        /// Row, from 0.
        row: usize,
        /// The flag `valids`.
        valid: bool,
        /// The flag `terminals`.
        terminal: bool,
    },
    /// A list in the metadata that does not fit the data.
    #[error("`metadata.{field}` has {found} entries, expected {expected} or none")]
    MetadataLength {
        /// Field of the metadata.
        field: &'static str,
        /// Its length.
        found: usize,
        /// Length that the data asks for.
        expected: usize,
    },
    /// An index in the metadata beyond the observation.
    #[error("`metadata.goal_indices` holds {index}, but an observation has {width} entries")]
    GoalIndex {
        /// The index.
        index: usize,
        /// Length of an observation.
        width: usize,
    },
    /// A request for an episode that is not there.
    #[error("there is no episode {episode}; the dataset has {episodes}, numbered from 0")]
    NoSuchEpisode {
        /// What was asked for.
        episode: usize,
        /// Episodes of the dataset.
        episodes: usize,
    },
}

/// Why a sampler, a normaliser or a split cannot be made from these settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// A number outside its range.
    #[error("`{field}` is {value}, expected {expected}")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// The value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// The probabilities of a goal mixture do not add up.
    #[error(
        "`{field}`: current {current} + trajectory {trajectory} + random {random} = {sum}, expected 1 with each in 0..=1"
    )]
    Mixture {
        /// Name of the mixture.
        field: &'static str,
        /// Probability of the current row.
        current: f64,
        /// Probability of a future row of the episode.
        trajectory: f64,
        /// Probability of any row.
        random: f64,
        /// Their sum.
        sum: f64,
    },
    /// There is nothing to draw from.
    #[error("there are no {what}: {reason}")]
    Empty {
        /// What is missing.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A normaliser or a view made for another width.
    #[error("the {what} has {found} entries, expected {expected}")]
    Width {
        /// What was given.
        what: &'static str,
        /// Its width.
        found: usize,
        /// The width of the data.
        expected: usize,
    },
    /// An index of an entry beyond the row, or one that is not selected.
    #[error("`{field}` holds {index}, expected {expected}")]
    Index {
        /// Name of the setting.
        field: &'static str,
        /// The index.
        index: usize,
        /// What is allowed.
        expected: String,
    },
    /// An episode that is not there.
    #[error("there is no episode {episode}; the dataset has {episodes}, numbered from 0")]
    NoSuchEpisode {
        /// What was asked for.
        episode: usize,
        /// Episodes of the dataset.
        episodes: usize,
    },
    /// A number of a normaliser that cannot be divided by.
    #[error("entry {entry} of the normaliser is {value}; expected {expected}")]
    Normalizer {
        /// Entry, from 0.
        entry: usize,
        /// The value.
        value: f32,
        /// What is allowed.
        expected: &'static str,
    },
}
