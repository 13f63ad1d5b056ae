//! All mistakes of a configuration in one report.

use std::fmt;

use serde::Serialize;

use crate::PolicyError;

/// A part of a configuration that can be out of range.
pub trait Validate {
    /// Adds every value out of range.
    fn validate(&self, problems: &mut Problems);
}

/// One mistake: where, what was found, what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path, as `--set` takes it: `policy.optimizer.lr`.
    pub key: String,
    /// What is there, as the file would say it; empty for an unknown key.
    pub value: String,
    /// What should be there.
    pub expectation: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "`{}`: {}", self.key, self.expectation)
        } else {
            write!(
                f,
                "`{}` is {}; expected {}",
                self.key, self.value, self.expectation
            )
        }
    }
}

/// Collects mistakes with the paths of their keys.
///
/// ```
/// use telic_policies::Problems;
///
/// let mut problems = Problems::new();
/// problems.check(3 > 4, "steps", 3, "more than 4");
/// problems.nested("optimizer", |problems| problems.check(false, "lr", -1.0, "a positive number"));
/// assert_eq!(
///     problems.to_string(),
///     "`steps` is 3; expected more than 4\n`optimizer.lr` is -1.0; expected a positive number"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    prefix: Vec<String>,
    problems: Vec<Problem>,
}

impl Problems {
    /// No problems yet, at the root of the configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem unless `holds`. `expectation` completes "expected …".
    pub fn check(
        &mut self,
        holds: bool,
        key: &str,
        value: impl Serialize + fmt::Debug,
        expectation: &str,
    ) {
        if !holds {
            // As the file has it; a number beyond those of TOML as Rust has it.
            let text = toml::Value::try_from(&value)
                .map_or_else(|_| format!("{value:?}"), |value| value.to_string());
            self.add(key, &text, expectation);
        }
    }

    /// Adds a problem. An empty `value` makes `expectation` the whole message.
    pub fn add(&mut self, key: &str, value: &str, expectation: &str) {
        let mut path = self.prefix.clone();
        path.extend(Some(key.to_owned()).filter(|key| !key.is_empty()));
        self.problems.push(Problem {
            key: path.join("."),
            value: value.to_owned(),
            expectation: expectation.to_owned(),
        });
    }

    /// Runs checks on the table `key`.
    pub fn nested(&mut self, key: &str, checks: impl FnOnce(&mut Self)) {
        self.prefix.push(key.to_owned());
        checks(self);
        self.prefix.pop();
    }

    /// Checks parts of a configuration, each under its key.
    pub fn parts(&mut self, parts: &[(&str, &dyn Validate)]) {
        for (key, part) in parts {
            self.nested(key, |problems| part.validate(problems));
        }
    }

    /// What was found so far, in the order of finding.
    pub fn list(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// `Ok` if nothing was found.
    ///
    /// # Errors
    /// The problems.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// One problem per line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The answer of a policy that has no inference settings.
///
/// # Errors
/// [`PolicyError::Settings`] that names every key, unless there is none.
pub fn reject_all(overrides: &toml::Table) -> Result<(), PolicyError> {
    let mut problems = Problems::new();
    for key in overrides.keys() {
        problems.add(
            key,
            "",
            "unknown key; this policy has no inference settings",
        );
    }
    problems.into_result().map_err(PolicyError::Settings)
}
