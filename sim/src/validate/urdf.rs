//! Elements and attributes of URDF. What it does not name is for other tools and passed over.

use super::schema::{Attributes, Element, Kind};

use Kind::{Direction, Ignored, Name, NonNegative, Numbers, One, Positive, Ref, Text};

const ORIGIN: Attributes = &[
    ("xyz", Numbers((3, 3))),
    ("rpy", Numbers((3, 3))),
    ("quat_xyzw", Kind::Refused("; give rpy instead")),
];
const INERTIA: Attributes = &[
    ("ixx", NonNegative((1, 1))),
    ("iyy", NonNegative((1, 1))),
    ("izz", NonNegative((1, 1))),
    ("ixy", Numbers((1, 1))),
    ("ixz", Numbers((1, 1))),
    ("iyz", Numbers((1, 1))),
];
const JOINT: Attributes = &[
    ("name", Name("joint")),
    (
        "type",
        One(&["revolute", "continuous", "prismatic", "fixed", "floating"]),
    ),
];
const LIMIT: Attributes = &[
    ("lower", Numbers((1, 1))),
    ("upper", Numbers((1, 1))),
    ("effort", NonNegative((1, 1))),
    ("velocity", NonNegative((1, 1))),
];
const MIMIC: Attributes = &[
    ("joint", Ref("joint")),
    ("multiplier", Numbers((1, 1))),
    ("offset", Numbers((1, 1))),
];

pub(super) fn element(parent: &str, tag: &str, _defaults: bool) -> Element {
    use Element::{Known, Skipped};
    match (parent, tag) {
        ("", "robot") => Known(&[("name", Text), ("version", Ignored)]),
        ("robot", "link") => Known(&[("name", Name("link"))]),
        ("robot", "joint") => Known(JOINT),
        ("robot" | "visual", "material") => Known(&[("name", Text)]),
        ("material", "color") => Known(&[("rgba", NonNegative((4, 4)))]),
        ("link", "inertial" | "visual" | "collision") => {
            Known(&[("name", Text), ("group", Ignored)])
        }
        ("inertial" | "visual" | "collision" | "joint", "origin") => Known(ORIGIN),
        ("inertial", "mass") => Known(&[("value", NonNegative((1, 1)))]),
        ("inertial", "inertia") => Known(INERTIA),
        ("visual" | "collision", "geometry") => Known(&[]),
        ("geometry", "box") => Known(&[("size", Positive((3, 3)))]),
        ("geometry", "sphere") => Known(&[("radius", Positive((1, 1)))]),
        ("geometry", "cylinder" | "capsule") => {
            Known(&[("radius", Positive((1, 1))), ("length", Positive((1, 1)))])
        }
        ("geometry", "mesh") => Known(&[("filename", Text), ("scale", Numbers((3, 3)))]),
        ("geometry", _) => Element::Refused(", expected box, sphere, cylinder, capsule or mesh"),
        ("joint", "parent" | "child") => Known(&[("link", Ref("link"))]),
        ("joint", "axis") => Known(&[("xyz", Direction)]),
        ("joint", "limit") => Known(LIMIT),
        ("joint", "dynamics") => Known(&[
            ("damping", NonNegative((1, 1))),
            ("friction", NonNegative((1, 1))),
        ]),
        ("joint", "mimic") => Known(MIMIC),
        _ => Skipped,
    }
}

pub(super) fn required(parent: &str, tag: &str) -> &'static [(&'static str, &'static str)] {
    const LENGTH: &str = "a number above 0";
    match (parent, tag) {
        ("robot", "link") => &[("name", "a name")],
        ("robot", "joint") => &[
            ("name", "a name"),
            ("type", "revolute, continuous, prismatic, fixed or floating"),
        ],
        ("inertial", "mass") => &[("value", "the mass in kg")],
        ("inertial", "inertia") => &[
            ("ixx", "a number of at least 0"),
            ("iyy", "a number of at least 0"),
            ("izz", "a number of at least 0"),
        ],
        ("geometry", "box") => &[("size", "three numbers above 0")],
        ("geometry", "sphere") => &[("radius", LENGTH)],
        ("geometry", "cylinder" | "capsule") => &[("radius", LENGTH), ("length", LENGTH)],
        ("geometry", "mesh") => &[("filename", "the path of a file")],
        ("joint", "parent" | "child") => &[("link", "the name of a link")],
        ("joint", "axis") => &[("xyz", "three numbers")],
        ("joint", "mimic") => &[("joint", "the name of a joint")],
        _ => &[],
    }
}
