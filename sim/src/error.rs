//! What can go wrong when a model is read or a state is written.

use std::fmt;

use camino::Utf8PathBuf;

/// A place in a model file: the file, the element and, where one is to blame, the attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File path, or the name given to [`Model::from_mjcf_str`](crate::Model::from_mjcf_str).
    pub file: String,
    /// 1-based line in the file; 0 where the element has no source text.
    pub line: u32,
    /// Tag and name, for example `<joint name="elbow">`.
    pub element: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{} in {}", self.element, self.file)
        } else {
            write!(f, "{} in {}:{}", self.element, self.file, self.line)
        }
    }
}

/// Why a model could not be loaded or instantiated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read the model file: {source}\nin {path}")]
    Read {
        /// Path as given or as resolved from an `<include>`.
        path: Utf8PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The text is not well-formed XML.
    #[error("not well-formed XML: {message}\nin {file}")]
    Xml {
        /// File or model name.
        file: String,
        /// Message of the XML parser, with its line and column.
        message: String,
    },
    /// An attribute has a value that is not accepted.
    #[error("`{attribute}` is \"{value}\", expected {expected}\n{place}")]
    Attribute {
        /// Attribute name.
        attribute: String,
        /// Value as written.
        value: String,
        /// What would be accepted.
        expected: String,
        /// Where.
        place: Box<Place>,
    },
    /// A required attribute is absent.
    #[error("`{attribute}` is missing, expected {expected}\n{place}")]
    MissingAttribute {
        /// Attribute name.
        attribute: String,
        /// What would be accepted.
        expected: String,
        /// Where.
        place: Box<Place>,
    },
    /// An element or an attribute is not part of the supported format.
    #[error("{what} is not supported{hint}\n{place}")]
    Unsupported {
        /// The element or attribute.
        what: String,
        /// What to do instead, starting with a separator; may be empty.
        hint: String,
        /// Where.
        place: Box<Place>,
    },
    /// The model is well-formed but cannot be simulated.
    #[error("{message}\n{place}")]
    Invalid {
        /// What is wrong, with the value and the expectation.
        message: String,
        /// Where.
        place: Box<Place>,
    },
    /// A value of [`PhysicsConfig`](crate::PhysicsConfig) is out of range.
    #[error("physics setting `{field}` is {value}, expected {expected}")]
    Config {
        /// Field name.
        field: &'static str,
        /// Value given.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The engine refused the model although the checks passed.
    #[error("the model cannot be built: {message}\nin {file}")]
    Engine {
        /// File or model name.
        file: String,
        /// Message of the engine.
        message: String,
    },
}

/// Why a state could not be written into a world.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A vector has the wrong length.
    #[error("`{vector}` has {found} entries, the model has {expected}")]
    Length {
        /// `qpos`, `qvel` or `ctrl`.
        vector: &'static str,
        /// Length given.
        found: usize,
        /// Length of the model.
        expected: usize,
    },
    /// An entry is NaN or infinite.
    #[error("`{vector}[{index}]` is {value}, expected a finite number")]
    NotFinite {
        /// `qpos`, `qvel` or `ctrl`.
        vector: &'static str,
        /// Position in the vector.
        index: usize,
        /// Value given.
        value: f32,
    },
    /// A quaternion of `qpos` has (almost) no length.
    #[error(
        "the quaternion at `qpos[{index}]` has norm {norm}, expected a unit quaternion (w, x, y, z)"
    )]
    Quaternion {
        /// Position of its first entry in `qpos`.
        index: usize,
        /// Norm given.
        norm: f32,
    },
    /// Snapshot bytes do not decode or belong to another model or version.
    #[error("the snapshot cannot be restored: {0}")]
    Snapshot(String),
}
