//! Checks a model file before the engine's parser sees it, which takes what it does not understand for a default.

mod schema;
mod urdf;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use camino::Utf8PathBuf;
use roxmltree::{Document, Node, ParsingOptions};

use self::schema::{Element, Kind};
use crate::error::{ModelError, Place};

/// Deepest nesting of elements and of includes.
const MAX_DEPTH: usize = 64;

/// One file's text and name.
pub(crate) struct Text {
    pub(crate) file: String,
    pub(crate) xml: String,
    /// Index of each included file, by its `file` attribute.
    includes: BTreeMap<String, usize>,
}

/// Reads the included files; the first text is the main one.
pub(crate) fn collect(name: &str, xml: &str, folder: &Path) -> Result<Vec<Text>, ModelError> {
    let mut texts = Vec::new();
    collect_into(&mut texts, name, xml.to_owned(), folder, &mut Vec::new())?;
    Ok(texts)
}

fn collect_into(
    texts: &mut Vec<Text>,
    name: &str,
    xml: String,
    folder: &Path,
    open: &mut Vec<PathBuf>,
) -> Result<usize, ModelError> {
    let index = texts.len();
    let mut includes = Vec::new();
    {
        let document = parse(name, &xml)?;
        for node in document
            .root_element()
            .children()
            .filter(|n| n.has_tag_name("include"))
        {
            if let Some(file) = node.attribute("file") {
                includes.push((file.to_owned(), place(&document, name, node)));
            }
        }
    }
    texts.push(Text {
        file: name.to_owned(),
        xml,
        includes: BTreeMap::new(),
    });
    for (file, place) in includes {
        let path = folder.join(&file);
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if open.contains(&real) || open.len() >= MAX_DEPTH {
            return Err(ModelError::Attribute {
                attribute: "file".to_owned(),
                value: file,
                expected: "a file that does not include this one".to_owned(),
                place: Box::new(place),
            });
        }
        let shown = Utf8PathBuf::from(path.to_string_lossy().into_owned());
        let xml = std::fs::read_to_string(&path).map_err(|source| ModelError::Read {
            path: shown.clone(),
            source,
        })?;
        open.push(real);
        let inner = path.parent().unwrap_or(folder).to_owned();
        let included = collect_into(texts, shown.as_str(), xml, &inner, open)?;
        open.pop();
        texts[index].includes.insert(file, included);
    }
    Ok(index)
}

fn parse<'a>(name: &str, xml: &'a str) -> Result<Document<'a>, ModelError> {
    let options = ParsingOptions {
        // A model file is at most a few megabytes of text.
        nodes_limit: 1_000_000,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(xml, options).map_err(|error| ModelError::Xml {
        file: name.to_owned(),
        message: error.to_string(),
    })
}

fn place(document: &Document, file: &str, node: Node) -> Place {
    let tag = node.tag_name().name();
    Place {
        file: file.to_owned(),
        line: document.text_pos_at(node.range().start).row,
        element: match node.attribute("name") {
            Some(name) => format!("<{tag} name=\"{name}\">"),
            None => format!("<{tag}>"),
        },
    }
}

/// Line of each named or unnamed element, to place errors that are found later.
pub(crate) type Lines = BTreeMap<(String, String), (String, u32)>;

/// A file format: its root element, and what may be inside.
pub(crate) struct Format {
    root: &'static str,
    element: fn(&str, &str, bool) -> Element,
    required: fn(&str, &str) -> &'static [(&'static str, &'static str)],
    /// Look at how values fit each other.
    semantics: bool,
}

/// MuJoCo's format.
pub(crate) const MJCF: Format = Format {
    root: "mujoco",
    element: schema::element,
    required: schema::required,
    semantics: true,
};

/// The Unified Robot Description Format.
pub(crate) const URDF: Format = Format {
    root: "robot",
    element: urdf::element,
    required: urdf::required,
    semantics: false,
};

/// What the check learns on the way.
pub(crate) struct Checked {
    pub(crate) lines: Lines,
    /// `<option timestep>`, where given.
    pub(crate) timestep_secs: Option<f32>,
    /// What has no effect here though it has some in MuJoCo.
    pub(crate) notes: Vec<String>,
}

/// Checks all texts.
///
/// # Errors
/// The first problem, in document order.
pub(crate) fn check(texts: &[Text], format: &'static Format) -> Result<Checked, ModelError> {
    let documents = texts
        .iter()
        .map(|text| parse(&text.file, &text.xml))
        .collect::<Result<Vec<_>, _>>()?;
    let mut checker = Checker {
        format,
        texts,
        documents: &documents,
        names: BTreeMap::new(),
        classes: BTreeMap::new(),
        lines: BTreeMap::new(),
        unmodelled: BTreeSet::new(),
    };
    let root = documents[0].root_element();
    checker.root(0, root)?;
    checker.names(0, root, false)?;
    checker.elements(0, "", root, &Scope::default())?;
    let timestep = documents
        .iter()
        .flat_map(|document| document.root_element().children())
        .filter(|node| node.has_tag_name("option"))
        .filter_map(|node| node.attribute("timestep"))
        .next_back();
    Ok(Checked {
        timestep_secs: timestep.and_then(|value| value.trim().parse().ok()),
        lines: checker.lines,
        notes: checker
            .unmodelled
            .iter()
            .map(|(tag, attribute)| format!("`{attribute}` of <{tag}> has no effect"))
            .collect(),
    })
}

/// What an element inherits.
#[derive(Clone, Default)]
struct Scope {
    depth: usize,
    defaults: bool,
    childclass: Option<String>,
}

struct Checker<'a, 'd> {
    format: &'static Format,
    texts: &'a [Text],
    documents: &'a [Document<'d>],
    /// Names by namespace.
    names: BTreeMap<&'static str, BTreeSet<String>>,
    /// Attributes that a class gives to a tag, parents included.
    classes: BTreeMap<String, BTreeMap<(String, String), String>>,
    lines: Lines,
    /// Tag and attribute of what has no effect here.
    unmodelled: BTreeSet<(String, String)>,
}

impl<'d> Checker<'_, 'd> {
    fn root(&self, text: usize, node: Node) -> Result<(), ModelError> {
        let (tag, root) = (node.tag_name().name(), self.format.root);
        if tag == root {
            return Ok(());
        }
        Err(self.unsupported(
            text,
            node,
            &format!("the root element <{tag}>"),
            &format!(", expected <{root}>"),
        ))
    }

    fn place(&self, text: usize, node: Node) -> Place {
        place(&self.documents[text], &self.texts[text].file, node)
    }

    fn unsupported(&self, text: usize, node: Node, what: &str, hint: &str) -> ModelError {
        ModelError::Unsupported {
            what: what.to_owned(),
            hint: hint.to_owned(),
            place: Box::new(self.place(text, node)),
        }
    }

    fn bad(
        &self,
        text: usize,
        node: Node,
        attribute: &str,
        value: &str,
        expected: impl Into<String>,
    ) -> ModelError {
        ModelError::Attribute {
            attribute: attribute.to_owned(),
            value: value.to_owned(),
            expected: expected.into(),
            place: Box::new(self.place(text, node)),
        }
    }

    fn missing(&self, text: usize, node: Node, attribute: &str, expected: &str) -> ModelError {
        ModelError::MissingAttribute {
            attribute: attribute.to_owned(),
            expected: expected.to_owned(),
            place: Box::new(self.place(text, node)),
        }
    }

    /// First pass: names, so that references may point forward, and default classes.
    fn names(&mut self, text: usize, node: Node<'_, 'd>, defaults: bool) -> Result<(), ModelError> {
        for child in node.children().filter(Node::is_element) {
            let tag = child.tag_name().name();
            if tag == "include" {
                if let Some(&index) = child
                    .attribute("file")
                    .and_then(|f| self.texts[text].includes.get(f))
                {
                    let documents = self.documents;
                    self.names(index, documents[index].root_element(), defaults)?;
                }
                continue;
            }
            let parent = node.tag_name().name();
            if let Element::Known(attributes) = (self.format.element)(parent, tag, defaults) {
                for &(attribute, kind) in attributes {
                    if let Kind::Name(space) = kind
                        && let Some(value) = child.attribute(attribute)
                        && !self
                            .names
                            .entry(space)
                            .or_default()
                            .insert(value.to_owned())
                        && !(defaults && space != "class")
                    {
                        return Err(self.bad(
                            text,
                            child,
                            attribute,
                            value,
                            format!("a name that no other {space} has"),
                        ));
                    }
                }
            }
            // A mesh without a name goes by its file.
            if tag == "mesh"
                && child.attribute("name").is_none()
                && let Some(stem) = child
                    .attribute("file")
                    .and_then(|f| Path::new(f).file_stem())
            {
                self.names
                    .entry("mesh")
                    .or_default()
                    .insert(stem.to_string_lossy().into_owned());
            }
            let inner = defaults || tag == "default";
            if tag == "default" && !defaults {
                self.class(text, child, "", 0)?;
            }
            if child.ancestors().count() > MAX_DEPTH {
                return Err(self.unsupported(text, child, "nesting this deep", ""));
            }
            self.names(text, child, inner)?;
        }
        Ok(())
    }

    /// Collects what a `<default>` gives to each tag.
    fn class(
        &mut self,
        text: usize,
        node: Node,
        parent: &str,
        depth: usize,
    ) -> Result<(), ModelError> {
        if depth > MAX_DEPTH {
            return Err(self.unsupported(text, node, "nesting this deep", ""));
        }
        // The outermost default may leave its name out.
        let name = match node.attribute("class") {
            Some(name) if parent.is_empty() && name != "main" => {
                return Err(self.bad(
                    text,
                    node,
                    "class",
                    name,
                    "main, since this default is the outermost; put the class inside it",
                ));
            }
            Some(name) => name.to_owned(),
            None if parent.is_empty() => "main".to_owned(),
            None => {
                return Err(self.missing(
                    text,
                    node,
                    "class",
                    "a name, since only the outermost default may be without",
                ));
            }
        };
        if parent.is_empty() {
            self.names.entry("class").or_default().insert(name.clone());
        }
        let mut given = self.classes.get(parent).cloned().unwrap_or_default();
        if parent.is_empty() {
            // Several outermost defaults add up.
            given.extend(self.classes.get("main").cloned().unwrap_or_default());
        }
        for child in node
            .children()
            .filter(|n| n.is_element() && !n.has_tag_name("default"))
        {
            let tag = child.tag_name().name().to_owned();
            for attribute in child.attributes() {
                given.insert(
                    (tag.clone(), attribute.name().to_owned()),
                    attribute.value().to_owned(),
                );
            }
        }
        if parent.is_empty() {
            self.classes.insert("main".to_owned(), given.clone());
        }
        // The parser would take one of them for all.
        let kinds: BTreeSet<&str> = given
            .keys()
            .map(|(tag, _)| tag.as_str())
            .filter(|tag| ["motor", "position", "velocity", "general"].contains(tag))
            .collect();
        if kinds.len() > 1 {
            let kinds: Vec<_> = kinds.into_iter().collect();
            let what = format!("a default class with {}", kinds.join(" and "));
            return Err(self.unsupported(text, node, &what, ", expected one kind of actuator"));
        }
        self.classes.insert(name.clone(), given);
        for child in node.children().filter(|n| n.has_tag_name("default")) {
            self.class(text, child, &name, depth + 1)?;
        }
        Ok(())
    }

    /// Second pass: elements, attributes and values.
    fn elements(
        &mut self,
        text: usize,
        parent: &str,
        node: Node<'_, 'd>,
        scope: &Scope,
    ) -> Result<(), ModelError> {
        let tag = node.tag_name().name();
        let attributes = match (self.format.element)(parent, tag, scope.defaults) {
            Element::Known(attributes) => attributes,
            Element::Skipped => return Ok(()),
            Element::Refused(hint) => {
                return Err(self.unsupported(text, node, &format!("<{tag}>"), hint));
            }
            Element::Unknown => {
                let hint = if parent.is_empty() {
                    String::new()
                } else {
                    format!(" inside <{parent}>")
                };
                return Err(self.unsupported(text, node, &format!("the element <{tag}>"), &hint));
            }
        };
        if let Some(name) = node.attribute("name") {
            let line = self.documents[text].text_pos_at(node.range().start).row;
            self.lines
                .entry((tag.to_owned(), name.to_owned()))
                .or_insert_with(|| (self.texts[text].file.clone(), line));
        }
        for attribute in node.attributes() {
            let name = attribute.name();
            let Some(&(_, kind)) = attributes.iter().find(|(known, _)| *known == name) else {
                return Err(self.unsupported(text, node, &format!("the attribute `{name}`"), ""));
            };
            self.value(text, node, name, attribute.value(), kind)?;
            if matches!(kind, Kind::Unmodelled) && attribute.value().trim() != "0" {
                self.unmodelled.insert((tag.to_owned(), name.to_owned()));
            }
        }
        if !scope.defaults {
            for &(name, expected) in (self.format.required)(parent, tag) {
                if node.attribute(name).is_none() {
                    return Err(self.missing(text, node, name, expected));
                }
            }
            if self.format.semantics {
                self.semantics(text, parent, node, scope)?;
            }
        }
        let inner = Scope {
            depth: scope.depth + 1,
            defaults: scope.defaults || tag == "default",
            childclass: node
                .attribute("childclass")
                .map(str::to_owned)
                .or_else(|| scope.childclass.clone()),
        };
        for child in node.children().filter(Node::is_element) {
            self.elements(text, tag, child, &inner)?;
        }
        if tag == "include" {
            // The parser reads the included bodies at once, without what follows.
            if let Some(late) = node
                .next_siblings()
                .find(|n| n.has_tag_name("compiler") || n.has_tag_name("default"))
            {
                let what = format!("<{}> after an <include>", late.tag_name().name());
                return Err(self.unsupported(text, late, &what, "; put it before"));
            }
        }
        if tag == "include"
            && let Some(&index) = node
                .attribute("file")
                .and_then(|f| self.texts[text].includes.get(f))
        {
            let documents = self.documents;
            let root = documents[index].root_element();
            self.root(index, root)?;
            self.elements(
                index,
                "",
                root,
                &Scope {
                    depth: inner.depth,
                    ..Scope::default()
                },
            )?;
        }
        Ok(())
    }

    /// The value that holds for an element: its own, or that of its class.
    fn effective(&self, node: Node<'_, 'd>, scope: &Scope, attribute: &str) -> Option<String> {
        if let Some(value) = node.attribute(attribute) {
            return Some(value.to_owned());
        }
        let class = node
            .attribute("class")
            .or(scope.childclass.as_deref())
            .unwrap_or("main");
        let key = (node.tag_name().name().to_owned(), attribute.to_owned());
        self.classes
            .get(class)
            .and_then(|given| given.get(&key))
            .cloned()
    }
}
