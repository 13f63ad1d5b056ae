//! TOML tables as configurations: every mistake reported, overrides by dotted keys.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::Problems;

/// The configuration as a table, with floats as short as they read back to the same `f32`.
///
/// # Panics
/// If `T` is not a struct, or has a number above `i64::MAX`: configurations are validated against that.
pub fn to_table<T: Serialize>(config: &T) -> Table {
    let mut table = Table::try_from(config).expect("a configuration is a struct of TOML values");
    table
        .iter_mut()
        .for_each(|(_, value)| shorten_floats(value));
    table
}

/// An `f32` widened to `f64` prints as 0.00009999999747378752; the short form 0.0001 is the same `f32`.
fn shorten_floats(value: &mut Value) {
    match value {
        Value::Float(wide) => {
            let narrow = *wide as f32;
            let short: f64 = narrow.to_string().parse().unwrap_or(*wide);
            if f64::from(narrow) == *wide && short as f32 == narrow {
                *wide = short;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten_floats),
        Value::Table(table) => table
            .iter_mut()
            .for_each(|(_, value)| shorten_floats(value)),
        _ => {}
    }
}

/// Reads a configuration; what is wrong is added to the problems and keeps its default.
///
/// Serde stops at the first mistake, so the offending key is taken out and the rest is read again.
///
/// # Panics
/// If `T` cannot be read from an empty table: configurations have a default for every key.
pub fn from_table<T: DeserializeOwned + Default>(table: &Table, problems: &mut Problems) -> T {
    let mut rest = table.clone();
    loop {
        let error = match rest.clone().try_into::<T>() {
            Ok(config) => return config,
            Err(error) => error,
        };
        let mistake = Mistake::of(&error);
        let Some(value) = remove(&mut rest, &mistake.path) else {
            // Serde lost the place (inside a tagged enum): nothing can be taken out, so the rest stays unread.
            problems.add(&mistake.path.join("."), "", error.message());
            return T::default();
        };
        problems.add(
            &mistake.path.join("."),
            &mistake.found(&value),
            &mistake.expectation,
        );
    }
}

/// Where a serde error is, and what would have been right.
struct Mistake {
    path: Vec<String>,
    expectation: String,
    unknown: bool,
}

impl Mistake {
    fn of(error: &toml::de::Error) -> Self {
        // The error keeps its path private; its text ends in "in `a.b`".
        let text = error.to_string();
        let mut path: Vec<String> = text
            .trim_end()
            .rsplit_once("\nin `")
            .and_then(|(_, path)| path.strip_suffix('`'))
            .map_or_else(Vec::new, |path| {
                path.split('.').map(str::to_owned).collect()
            });
        let message = error.message().trim();
        let Some(rest) = message.strip_prefix("unknown field `") else {
            let expectation = message
                .split_once("expected ")
                .map_or(message, |(_, expected)| expected);
            return Self {
                path,
                expectation: in_words(expectation).to_owned(),
                unknown: false,
            };
        };
        let (name, known) = rest.split_once('`').unwrap_or((rest, ""));
        path.push(name.to_owned());
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let mut expectation = "unknown key".to_owned();
        if let Some(nearest) = nearest_name(name, known.iter().copied()) {
            expectation = format!("unknown key; did you mean `{nearest}`?");
        } else if !known.is_empty() {
            expectation = format!("unknown key; known here: {}", known.join(", "));
        }
        Self {
            path,
            expectation,
            unknown: true,
        }
    }

    fn found(&self, value: &Value) -> String {
        if self.unknown {
            String::new()
        } else {
            value.to_string()
        }
    }
}

/// What serde calls by the names of Rust.
fn in_words(expectation: &str) -> &str {
    match expectation {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn remove(table: &mut Table, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut table = table;
    for key in parents {
        table = table.get_mut(key)?.as_table_mut()?;
    }
    table.remove(last)
}

/// Applies overrides of the form `key.of.table=value` in order; mistakes are added to the problems.
///
/// The value is read as TOML; what is not TOML is a string, so `policy.id=beso` needs no quotes.
pub fn apply_overrides<S: AsRef<str>>(table: &mut Table, overrides: &[S], problems: &mut Problems) {
    for text in overrides {
        let text = text.as_ref();
        let Some((key, value)) = text.split_once('=') else {
            problems.add(text, "", "an override has the form key=value");
            continue;
        };
        let key = key.trim();
        if key.split('.').any(str::is_empty) {
            problems.add(key, "", &format!("not a key in the override `{text}`"));
            continue;
        }
        set(table, key, parse_value(value.trim()), problems);
    }
}

fn parse_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    // A line break in the text could smuggle in further keys: then it is a string.
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, dotted: &str, value: Value, problems: &mut Problems) {
    let path: Vec<&str> = dotted.split('.').collect();
    let (last, parents) = path.split_last().expect("split gives at least one part");
    let mut table = table;
    for (depth, key) in parents.iter().enumerate() {
        let entry = table
            .entry((*key).to_owned())
            .or_insert_with(|| Value::Table(Table::new()));
        match entry {
            Value::Table(inner) => table = inner,
            other => {
                let place = path[..=depth].join(".");
                problems.add(
                    &place,
                    &other.to_string(),
                    &format!("a table, to set `{dotted}`"),
                );
                return;
            }
        }
    }
    table.insert((*last).to_owned(), value);
}

/// Every value by its dotted key, as text: strings as they are, and 1 for 1.0, so that tables that mean the same look the same.
pub fn flat(table: &Table) -> BTreeMap<String, String> {
    fn collect(table: &Table, prefix: &str, found: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            let text = match value {
                Value::Table(inner) => {
                    collect(inner, &format!("{path}."), found);
                    continue;
                }
                Value::String(text) => text.clone(),
                Value::Float(number) => number.to_string(),
                other => other.to_string(),
            };
            found.insert(path, text);
        }
    }
    let mut found = BTreeMap::new();
    collect(table, "", &mut found);
    found
}

/// `base` with the entries of `over`, table by table.
pub fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The known name that was probably meant: the one with the fewest edits, if those are few.
pub fn nearest_name<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = name.chars().count().div_ceil(3).max(1);
    known
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and substitutions from `a` to `b` (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The keys in which two tables differ, with both values.
pub(crate) fn differences(a: &Table, b: &Table) -> Vec<String> {
    let mut differences = vec![];
    collect_differences(a, b, "", &mut differences);
    differences
}

fn collect_differences(a: &Table, b: &Table, prefix: &str, differences: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let path = format!("{prefix}{key}");
        match (a.get(key), b.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => {
                collect_differences(a, b, &format!("{path}."), differences);
            }
            (a, b) if a != b => {
                let show = |value: Option<&Value>| {
                    value.map_or_else(|| "absent".into(), ToString::to_string)
                };
                differences.push(format!("`{path}`: {} and {}", show(a), show(b)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        rate: f32,
        exact: f64,
        count: usize,
        name: String,
        inner: Inner,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        rates: Vec<f32>,
        kind: Kind,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        Linear,
        Karras,
    }

    #[test]
    fn floats_are_written_as_short_as_they_were_typed() {
        let inner = Inner {
            rates: vec![1e-4, 0.3, 1.0],
            kind: Kind::Karras,
        };
        let config = Config {
            rate: 3e-4,
            exact: 0.1,
            count: 7,
            name: "a".into(),
            inner,
        };
        let text = to_table(&config).to_string();
        assert_eq!(
            text,
            "count = 7\nexact = 0.1\nname = \"a\"\nrate = 0.0003\n\n[inner]\nkind = \"karras\"\nrates = [0.0001, 0.3, 1.0]\n"
        );
        let mut problems = Problems::new();
        assert_eq!(
            from_table::<Config>(&toml::from_str(&text).unwrap(), &mut problems),
            config
        );
        assert!(problems.is_empty());
    }

    #[test]
    fn every_mistake_is_reported_and_the_rest_is_read() {
        let table = "rates = 1\ncount = -1\nname = 3\nrate = 0.5\n[inner]\nknd = \"linear\"\nkind = \"lin\"\nzzzzzzzz = 1\nrates = [1, \"a\"]";
        let mut problems = Problems::new();
        let config: Config = from_table(&toml::from_str(table).unwrap(), &mut problems);
        assert_eq!(
            config,
            Config {
                rate: 0.5,
                ..Config::default()
            }
        );
        let mut lines: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "`count` is -1; expected a whole number of at least 0",
                "`inner.kind` is \"lin\"; expected `linear` or `karras`",
                "`inner.knd`: unknown key; did you mean `kind`?",
                "`inner.rates` is [1, \"a\"]; expected a number",
                "`inner.zzzzzzzz`: unknown key; known here: rates, kind",
                "`name` is 3; expected a string",
                "`rates`: unknown key; did you mean `rate`?",
            ]
        );
    }

    #[test]
    fn overrides_are_toml_or_strings() {
        let mut table: Table = toml::from_str("name = 3\n[inner]\nkind = \"linear\"").unwrap();
        let overrides = [
            "rate=1e-4",
            "name=beso",
            "inner.kind=\"karras\"",
            "inner.rates=[1.0, 2.0]",
            "exact = 2",
            "name=a=b c",
        ];
        let mut problems = Problems::new();
        apply_overrides(&mut table, &overrides, &mut problems);
        let config: Config = from_table(&table, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        let inner = Inner {
            rates: vec![1.0, 2.0],
            kind: Kind::Karras,
        };
        assert_eq!(
            config,
            Config {
                rate: 1e-4,
                exact: 2.0,
                count: 0,
                name: "a=b c".into(),
                inner
            }
        );
    }

    #[test]
    fn bad_overrides_change_nothing() {
        let mut table: Table = toml::from_str("name = \"a\"").unwrap();
        let before = table.clone();
        let mut problems = Problems::new();
        apply_overrides(
            &mut table,
            &["name", "=1", "a..b=1", "name.first=1"],
            &mut problems,
        );
        assert_eq!(table, before);
        assert_eq!(
            problems.to_string(),
            "`name`: an override has the form key=value\n\
             ``: not a key in the override `=1`\n\
             `a..b`: not a key in the override `a..b=1`\n\
             `name` is \"a\"; expected a table, to set `name.first`"
        );
    }

    #[test]
    fn an_override_cannot_bring_a_second_key() {
        assert_eq!(
            parse_value("1\nseed = 2"),
            Value::String("1\nseed = 2".into())
        );
        assert_eq!(parse_value("1"), Value::Integer(1));
    }

    #[test]
    fn the_nearest_name_needs_few_edits() {
        let known = ["learning_rate", "batch_size", "steps"];
        let nearest = |name| nearest_name(name, known.into_iter());
        assert_eq!(nearest("learnin_rate"), Some("learning_rate"));
        assert_eq!(nearest("step"), Some("steps"));
        assert_eq!(nearest("seed"), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
