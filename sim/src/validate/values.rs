//! Checks of single values, and of values that must fit each other.

use roxmltree::Node;

use super::schema::Kind;
use super::{Checker, Scope};
use crate::error::ModelError;

/// Largest magnitude of a number: single precision keeps sensible products of these finite.
const LARGEST: f64 = 1e9;

fn numbers(value: &str) -> Option<Vec<f64>> {
    value
        .split_ascii_whitespace()
        .map(|word| {
            word.parse::<f64>()
                .ok()
                .filter(|v| v.is_finite() && v.abs() <= LARGEST)
        })
        .collect()
}

fn count_text((low, high): (usize, usize), what: &str) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    if low == high {
        format!("{low} {what}{}", plural(low))
    } else if high == usize::MAX {
        format!("at least {low} {what}s")
    } else {
        format!("{low} to {high} {what}s")
    }
}

impl<'d> Checker<'_, 'd> {
    pub(super) fn value(
        &self,
        text: usize,
        node: Node<'_, 'd>,
        attribute: &str,
        value: &str,
        kind: Kind,
    ) -> Result<(), ModelError> {
        let fail = |expected: String| Err(self.bad(text, node, attribute, value, expected));
        let counted = |count: (usize, usize),
                       what: &str,
                       accept: &dyn Fn(f64) -> bool,
                       rule: &str| match numbers(value) {
            Some(v) if v.len() >= count.0 && v.len() <= count.1 && v.iter().all(|&v| accept(v)) => {
                Ok(())
            }
            _ => fail(format!("{}{rule}", count_text(count, what))),
        };
        match kind {
            Kind::Name(_) if value.is_empty() => fail("a name".to_owned()),
            Kind::Text | Kind::Ignored | Kind::Unmodelled | Kind::Name(_) => Ok(()),
            Kind::Ref(space) => {
                let known = self
                    .names
                    .get(space)
                    .is_some_and(|names| names.contains(value));
                // The world and the outermost class exist without being declared.
                if known
                    || (space == "body" && value == "world")
                    || (space == "class" && value == "main")
                {
                    Ok(())
                } else {
                    fail(format!("the name of a {space}"))
                }
            }
            Kind::Flag if matches!(value, "true" | "false") => Ok(()),
            Kind::Flag => fail("true or false".to_owned()),
            Kind::Tristate if matches!(value, "true" | "false" | "auto") => Ok(()),
            Kind::Tristate => fail("true, false or auto".to_owned()),
            Kind::One(words) if words.contains(&value) => Ok(()),
            Kind::One(words) => fail(words.join(" or ")),
            Kind::Numbers(count) => counted(count, "number", &|_| true, ""),
            Kind::NonNegative(count) => counted(count, "number", &|v| v >= 0.0, " of at least 0"),
            Kind::Positive(count) => counted(count, "number", &|v| v > 0.0, " above 0"),
            Kind::Range => match numbers(value).as_deref() {
                Some([low, high]) if low < high => Ok(()),
                _ => fail("2 numbers, the lower one first".to_owned()),
            },
            Kind::Direction | Kind::Quaternion => {
                let count = if matches!(kind, Kind::Direction) {
                    3
                } else {
                    4
                };
                match numbers(value) {
                    Some(v) if v.len() == count && v.iter().any(|v| v.abs() > 1e-6) => Ok(()),
                    _ => fail(format!("{count} numbers that are not all 0")),
                }
            }
            Kind::Ends => match numbers(value).as_deref() {
                Some([a, b, c, x, y, z])
                    if (a - x).abs() + (b - y).abs() + (c - z).abs() > 1e-9 =>
                {
                    Ok(())
                }
                _ => fail("6 numbers, two different points".to_owned()),
            },
            Kind::Integer(low, high) => match value.trim().parse::<i64>() {
                Ok(v) if (low..=high).contains(&v) => Ok(()),
                _ => fail(format!("a whole number from {low} to {high}")),
            },
            Kind::Refused(hint) => {
                Err(self.unsupported(text, node, &format!("the attribute `{attribute}`"), hint))
            }
        }
    }

    /// Values of one element that must fit each other, class defaults included.
    pub(super) fn semantics(
        &self,
        text: usize,
        parent: &str,
        node: Node<'_, 'd>,
        scope: &Scope,
    ) -> Result<(), ModelError> {
        let tag = node.tag_name().name();
        match (parent, tag) {
            (_, "geom") => {
                self.pose(text, node, scope)?;
                self.geom(text, node, scope)
            }
            (_, "site") => self.pose(text, node, scope),
            (_, "joint" | "freejoint") if parent == "body" => self.joint(text, node, scope),
            ("body", "inertial") => self.inertial(text, node),
            (_, "body") => self.body(text, parent, node),
            ("actuator", _) => self.actuator(text, node, scope),
            ("asset", "mesh")
                if node.attribute("file").is_none() && node.attribute("vertex").is_none() =>
            {
                Err(self.missing(text, node, "file", "the path of a file, or `vertex`"))
            }
            ("mujoco", "compiler") => match node.attribute("eulerseq") {
                Some(sequence)
                    if sequence.len() != 3 || !sequence.chars().all(|c| "xyzXYZ".contains(c)) =>
                {
                    Err(self.bad(
                        text,
                        node,
                        "eulerseq",
                        sequence,
                        "three of the letters x, y, z",
                    ))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The parser replaces position and rotation of a class together, and does not move `fromto` with a frame.
    fn pose(&self, text: usize, node: Node<'_, 'd>, scope: &Scope) -> Result<(), ModelError> {
        const ROTATIONS: [&str; 5] = ["quat", "axisangle", "euler", "xyaxes", "zaxis"];
        let own = |attribute: &&str| node.attribute(*attribute).is_some();
        let of_class =
            |attribute: &&str| !own(attribute) && self.effective(node, scope, attribute).is_some();
        let turned = ROTATIONS.iter().any(own);
        let half = if own(&"pos") && !turned {
            ROTATIONS.iter().find(|a| of_class(a))
        } else if turned {
            Some(&"pos").filter(|a| of_class(a))
        } else {
            None
        };
        if let Some(attribute) = half {
            let what = format!("`{attribute}` of the class with the other half of a pose here");
            return Err(self.unsupported(text, node, &what, "; give both here"));
        }
        let in_frame = node.ancestors().any(|n| n.has_tag_name("frame"));
        if in_frame && self.effective(node, scope, "fromto").is_some() {
            let hint = "; give pos and a rotation instead";
            return Err(self.unsupported(text, node, "`fromto` inside <frame>", hint));
        }
        Ok(())
    }

    fn geom(&self, text: usize, node: Node<'_, 'd>, scope: &Scope) -> Result<(), ModelError> {
        let shape = self
            .effective(node, scope, "type")
            .unwrap_or_else(|| "sphere".to_owned());
        let size = self.effective(node, scope, "size");
        let sizes = size.as_deref().and_then(numbers).unwrap_or_default();
        let ends = self.effective(node, scope, "fromto").is_some();
        let (needed, what) = match (shape.as_str(), ends) {
            ("sphere", _) | ("capsule" | "cylinder", true) => (1, "the radius"),
            ("capsule" | "cylinder", false) => (2, "the radius and half of the length"),
            ("box", false) => (3, "half of each edge"),
            ("box", true) => (1, "half of the width"),
            ("mesh", _) => {
                return match self.effective(node, scope, "mesh") {
                    Some(_) => Ok(()),
                    None => Err(self.missing(text, node, "mesh", "the name of a mesh")),
                };
            }
            _ => return Ok(()),
        };
        if ends && shape == "sphere" {
            return Err(self.bad(
                text,
                node,
                "type",
                &shape,
                "capsule, cylinder or box, since `fromto` is given",
            ));
        }
        if sizes.len() >= needed && sizes[..needed].iter().all(|&s| s > 0.0) {
            return Ok(());
        }
        let expected = format!("{} above 0: {what}", count_text((needed, needed), "number"));
        match size {
            Some(size) => Err(self.bad(text, node, "size", &size, expected)),
            None => Err(self.missing(text, node, "size", &expected)),
        }
    }

    fn joint(&self, text: usize, node: Node<'_, 'd>, scope: &Scope) -> Result<(), ModelError> {
        let free = node.has_tag_name("freejoint")
            || self.effective(node, scope, "type").as_deref() == Some("free");
        let body = node.parent_element();
        if body.and_then(|b| b.attribute("mocap")) == Some("true") {
            return Err(self.unsupported(text, node, "a joint of a mocap body", ""));
        }
        if free {
            let top = body
                .and_then(|b| b.ancestors().skip(1).find(|n| !n.has_tag_name("frame")))
                .is_some_and(|n| n.has_tag_name("worldbody"));
            let alone = body.is_some_and(|b| {
                b.children()
                    .filter(|n| n.has_tag_name("joint") || n.has_tag_name("freejoint"))
                    .count()
                    == 1
            });
            if !top || !alone {
                let hint = ", expected the only joint of a child of the world";
                return Err(self.unsupported(text, node, "a free joint at this place", hint));
            }
        } else if self.effective(node, scope, "limited").as_deref() == Some("true")
            && self.effective(node, scope, "range").is_none()
        {
            return Err(self.missing(text, node, "range", "2 numbers, since `limited` is true"));
        }
        Ok(())
    }

    fn body(&self, text: usize, parent: &str, node: Node<'_, 'd>) -> Result<(), ModelError> {
        if node.attribute("mocap") == Some("true") && parent != "worldbody" {
            return Err(self.bad(
                text,
                node,
                "mocap",
                "true",
                "false, since only a child of the world can be moved",
            ));
        }
        if node
            .children()
            .filter(|n| n.has_tag_name("inertial"))
            .count()
            > 1
        {
            return Err(self.unsupported(text, node, "a second <inertial>", ""));
        }
        Ok(())
    }

    fn inertial(&self, text: usize, node: Node<'_, 'd>) -> Result<(), ModelError> {
        let diagonal = node.attribute("diaginertia");
        let full = node.attribute("fullinertia");
        if let Some(value) = full {
            if diagonal.is_some() {
                return Err(self.bad(
                    text,
                    node,
                    "fullinertia",
                    value,
                    "nothing, since `diaginertia` is given",
                ));
            }
            if ["quat", "axisangle", "euler", "xyaxes", "zaxis"]
                .iter()
                .any(|a| node.attribute(*a).is_some())
            {
                return Err(self.bad(
                    text,
                    node,
                    "fullinertia",
                    value,
                    "`diaginertia`, since a rotation is given",
                ));
            }
            return Ok(());
        }
        let Some(value) = diagonal else {
            return Err(self.missing(text, node, "diaginertia", "3 numbers above 0"));
        };
        if let Some([a, b, c]) = numbers(value).as_deref() {
            // The moments of any solid obey the triangle inequality; files round.
            let (sum, largest) = (a + b + c, a.max(b.max(*c)));
            if 2.0 * largest > sum * 1.001 {
                return Err(self.bad(
                    text,
                    node,
                    "diaginertia",
                    value,
                    "moments of a solid, none larger than the other two together",
                ));
            }
        }
        Ok(())
    }

    fn actuator(&self, text: usize, node: Node<'_, 'd>, scope: &Scope) -> Result<(), ModelError> {
        for (limited, range) in [("ctrllimited", "ctrlrange"), ("forcelimited", "forcerange")] {
            if self.effective(node, scope, limited).as_deref() == Some("true")
                && self.effective(node, scope, range).is_none()
            {
                return Err(self.missing(
                    text,
                    node,
                    range,
                    &format!("2 numbers, since `{limited}` is true"),
                ));
            }
        }
        Ok(())
    }
}
