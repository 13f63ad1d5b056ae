//! Which elements and attributes a model file may have, and what their values look like.

/// Lowest and highest count of numbers.
type Count = (usize, usize);

/// What an attribute may hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A name that no other element of the namespace has.
    Name(&'static str),
    /// The name of an element of the namespace.
    Ref(&'static str),
    /// `true` or `false`.
    Flag,
    /// `true`, `false` or `auto`.
    Tristate,
    /// One of these words.
    One(&'static [&'static str]),
    /// Finite numbers.
    Numbers(Count),
    /// Finite numbers of at least 0.
    NonNegative(Count),
    /// Finite numbers above 0.
    Positive(Count),
    /// Two finite numbers, the first below the second.
    Range,
    /// Three numbers that are not all 0.
    Direction,
    /// Four numbers that are not all 0.
    Quaternion,
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// Six numbers, two different points.
    Ends,
    /// Known, and without effect on the physics, or only on how MuJoCo solves it.
    Ignored,
    /// Known, and of some effect in MuJoCo, but none here: the model's notes name it.
    Unmodelled,
    /// Known, but it would change the physics and is not implemented; the text says what to do instead.
    Refused(&'static str),
}

/// Attributes of one element.
pub(super) type Attributes = &'static [(&'static str, Kind)];

use Kind::{
    Direction, Ends, Flag, Ignored, Integer, Name, NonNegative, Numbers, One, Positive, Quaternion,
    Range, Ref, Refused, Text, Tristate, Unmodelled,
};

const UNSIGNED: Kind = Integer(0, u32::MAX as i64);
const SIGNED: Kind = Integer(i32::MIN as i64, i32::MAX as i64);

const COMPILER: Attributes = &[
    ("angle", One(&["degree", "radian"])),
    ("eulerseq", Kind::Text),
    ("coordinate", One(&["local"])),
    ("autolimits", Flag),
    ("inertiafromgeom", One(&["true", "false", "auto"])),
    ("meshdir", Text),
    ("texturedir", Text),
    ("assetdir", Text),
    ("strippath", Flag),
    ("discardvisual", Ignored),
    ("convexhull", One(&["true"])),
    ("exactmeshinertia", Ignored),
    ("balanceinertia", Flag),
    ("boundmass", NonNegative((1, 1))),
    ("boundinertia", NonNegative((1, 1))),
    ("settotalmass", Refused("; give the masses of bodies")),
    ("inertiadensity", NonNegative((1, 1))),
    (
        "inertiagrouprange",
        Refused("; give visual geoms mass=\"0\" instead"),
    ),
    ("fusestatic", Ignored),
    ("usethread", Ignored),
    ("alignfree", Ignored),
    ("fitaabb", Ignored),
    ("saveinertial", Ignored),
];

const OPTION: Attributes = &[
    ("timestep", Positive((1, 1))),
    ("gravity", Numbers((3, 3))),
    ("wind", Refused("; the air does not move here")),
    ("density", Refused("; there is no medium here")),
    ("viscosity", Refused("; there is no medium here")),
    ("magnetic", Ignored),
    ("apirate", Ignored),
    ("impratio", Unmodelled),
    ("tolerance", Ignored),
    ("ls_tolerance", Ignored),
    ("noslip_tolerance", Ignored),
    ("ccd_tolerance", Ignored),
    ("mpr_tolerance", Ignored),
    ("o_margin", Unmodelled),
    ("o_solref", Unmodelled),
    ("o_solimp", Unmodelled),
    ("o_friction", Unmodelled),
    ("integrator", Ignored),
    ("cone", Ignored),
    ("jacobian", Ignored),
    ("solver", Ignored),
    ("iterations", Ignored),
    ("ls_iterations", Ignored),
    ("noslip_iterations", Ignored),
    ("ccd_iterations", Ignored),
    ("mpr_iterations", Ignored),
    ("sdf_iterations", Ignored),
    ("sdf_initpoints", Ignored),
    ("actuatorgroupdisable", Refused("; leave the actuators out")),
    ("sleep_tolerance", Ignored),
];

const FLAGS: Attributes = &[
    ("constraint", One(&["enable"])),
    ("equality", One(&["enable"])),
    ("frictionloss", One(&["enable"])),
    ("limit", One(&["enable"])),
    ("contact", One(&["enable"])),
    ("passive", One(&["enable"])),
    ("spring", One(&["enable"])),
    ("damper", One(&["enable"])),
    ("gravity", One(&["enable"])),
    ("clampctrl", One(&["enable"])),
    ("actuation", One(&["enable"])),
    ("filterparent", One(&["enable"])),
    ("warmstart", Ignored),
    ("refsafe", Ignored),
    ("sensor", Ignored),
    ("midphase", Ignored),
    ("nativeccd", Ignored),
    ("eulerdamp", Ignored),
    ("autoreset", Ignored),
    ("override", Ignored),
    ("energy", Ignored),
    ("fwdinv", Ignored),
    ("invdiscrete", Ignored),
    ("multiccd", Ignored),
    ("island", Ignored),
    ("sleep", Ignored),
];

const BODY: Attributes = &[
    ("name", Name("body")),
    ("childclass", Ref("class")),
    ("pos", Numbers((3, 3))),
    ("quat", Quaternion),
    ("axisangle", Numbers((4, 4))),
    ("euler", Numbers((3, 3))),
    ("xyaxes", Numbers((6, 6))),
    ("zaxis", Direction),
    ("mocap", Flag),
    ("gravcomp", Numbers((1, 1))),
    ("user", Ignored),
];

const FRAME: Attributes = &[
    ("name", Ignored),
    ("childclass", Ref("class")),
    ("pos", Numbers((3, 3))),
    ("quat", Quaternion),
    ("axisangle", Numbers((4, 4))),
    ("euler", Numbers((3, 3))),
    ("xyaxes", Numbers((6, 6))),
    ("zaxis", Direction),
];

const INERTIAL: Attributes = &[
    ("pos", Numbers((3, 3))),
    ("quat", Quaternion),
    ("axisangle", Numbers((4, 4))),
    ("euler", Numbers((3, 3))),
    ("xyaxes", Numbers((6, 6))),
    ("zaxis", Direction),
    ("mass", Positive((1, 1))),
    ("diaginertia", Positive((3, 3))),
    ("fullinertia", Numbers((6, 6))),
];

const JOINT: Attributes = &[
    ("name", Name("joint")),
    ("class", Ref("class")),
    ("type", One(&["hinge", "slide", "ball", "free"])),
    ("group", Ignored),
    ("pos", Numbers((3, 3))),
    ("axis", Direction),
    (
        "springdamper",
        Refused("; give stiffness and damping instead"),
    ),
    ("limited", Tristate),
    ("range", Range),
    (
        "actuatorfrclimited",
        Refused("; give the actuator a forcerange instead"),
    ),
    (
        "actuatorfrcrange",
        Refused("; give the actuator a forcerange instead"),
    ),
    ("actuatorgravcomp", Unmodelled),
    ("solreflimit", Unmodelled),
    ("solimplimit", Unmodelled),
    ("solreffriction", Unmodelled),
    ("solimpfriction", Unmodelled),
    ("stiffness", NonNegative((1, 1))),
    ("damping", NonNegative((1, 1))),
    ("armature", NonNegative((1, 1))),
    ("frictionloss", NonNegative((1, 1))),
    ("ref", Numbers((1, 1))),
    ("springref", Numbers((1, 1))),
    ("margin", Unmodelled),
    ("user", Ignored),
];

const FREEJOINT: Attributes = &[
    ("name", Name("joint")),
    ("group", Ignored),
    ("align", Ignored),
];

const GEOM: Attributes = &[
    ("name", Name("geom")),
    ("class", Ref("class")),
    (
        "type",
        One(&["plane", "sphere", "capsule", "cylinder", "box", "mesh"]),
    ),
    ("size", NonNegative((1, 3))),
    ("pos", Numbers((3, 3))),
    ("quat", Quaternion),
    ("axisangle", Numbers((4, 4))),
    ("euler", Numbers((3, 3))),
    ("xyaxes", Numbers((6, 6))),
    ("zaxis", Direction),
    ("fromto", Ends),
    ("friction", NonNegative((1, 3))),
    ("mass", NonNegative((1, 1))),
    ("density", NonNegative((1, 1))),
    ("contype", UNSIGNED),
    ("conaffinity", UNSIGNED),
    ("condim", One(&["1", "3", "4", "6"])),
    ("group", SIGNED),
    ("priority", SIGNED),
    ("margin", Unmodelled),
    ("gap", Unmodelled),
    ("solref", Unmodelled),
    ("solimp", Unmodelled),
    ("solmix", Unmodelled),
    ("shellinertia", One(&["false"])),
    ("rgba", NonNegative((4, 4))),
    ("material", Ref("material")),
    ("mesh", Ref("mesh")),
    ("hfield", Refused("; use boxes or meshes")),
    ("fitscale", Refused("; give the size of the shape")),
    ("fluidshape", Ignored),
    ("fluidcoef", Ignored),
    ("user", Ignored),
];

const SITE: Attributes = &[
    ("name", Name("site")),
    ("class", Ref("class")),
    ("type", Ignored),
    ("group", Ignored),
    ("material", Ignored),
    ("rgba", NonNegative((4, 4))),
    ("size", NonNegative((1, 3))),
    ("fromto", Refused("; give pos and a rotation instead")),
    ("pos", Numbers((3, 3))),
    ("quat", Quaternion),
    ("axisangle", Numbers((4, 4))),
    ("euler", Numbers((3, 3))),
    ("xyaxes", Numbers((6, 6))),
    ("zaxis", Direction),
    ("user", Ignored),
];

const EXCLUDE: Attributes = &[
    ("name", Name("exclude")),
    ("body1", Ref("body")),
    ("body2", Ref("body")),
];

const PAIR: Attributes = &[
    ("name", Name("pair")),
    ("class", Ref("class")),
    ("geom1", Ref("geom")),
    ("geom2", Ref("geom")),
    ("condim", One(&["1", "3", "4", "6"])),
    ("friction", NonNegative((1, 5))),
    ("solref", Unmodelled),
    ("solimp", Unmodelled),
    ("solreffriction", Unmodelled),
    ("margin", Unmodelled),
    ("gap", Unmodelled),
];

const EQUALITY_JOINT: Attributes = &[
    ("name", Name("equality")),
    ("class", Ref("class")),
    ("active", Flag),
    ("solref", Unmodelled),
    ("solimp", Unmodelled),
    ("joint1", Ref("joint")),
    ("joint2", Ref("joint")),
    ("polycoef", Numbers((1, 5))),
];

const CONNECT: Attributes = &[
    ("name", Name("equality")),
    ("class", Ref("class")),
    ("active", Flag),
    ("solref", Unmodelled),
    ("solimp", Unmodelled),
    ("body1", Ref("body")),
    ("body2", Ref("body")),
    ("anchor", Numbers((3, 3))),
    ("site1", Refused("; give bodies and an anchor instead")),
    ("site2", Refused("; give bodies and an anchor instead")),
];

const WELD: Attributes = &[
    ("name", Name("equality")),
    ("class", Ref("class")),
    ("active", Flag),
    ("solref", Unmodelled),
    ("solimp", Unmodelled),
    ("body1", Ref("body")),
    ("body2", Ref("body")),
    ("relpose", Numbers((7, 7))),
    ("anchor", Numbers((3, 3))),
    ("torquescale", Ignored),
    ("site1", Refused("; give bodies instead")),
    ("site2", Refused("; give bodies instead")),
];

const TRANSMISSION: &str = "; only joint transmissions are";

macro_rules! actuator {
    ($($extra:expr),* $(,)?) => {
        &[
            ("name", Name("actuator")),
            ("class", Ref("class")),
            ("group", Ignored),
            ("ctrllimited", Tristate),
            ("forcelimited", Tristate),
            ("ctrlrange", Range),
            ("forcerange", Range),
            ("lengthrange", Ignored),
            ("gear", Numbers((1, 6))),
            ("cranklength", Refused(TRANSMISSION)),
            ("joint", Ref("joint")),
            ("jointinparent", Refused(TRANSMISSION)),
            ("tendon", Refused(TRANSMISSION)),
            ("cranksite", Refused(TRANSMISSION)),
            ("slidersite", Refused(TRANSMISSION)),
            ("site", Refused(TRANSMISSION)),
            ("refsite", Refused(TRANSMISSION)),
            ("body", Refused(TRANSMISSION)),
            ("delay", Refused("; delay the control in the caller")),
            ("user", Ignored),
            $($extra),*
        ]
    };
}

const MOTOR: Attributes = actuator!();
const POSITION: Attributes = actuator!(
    ("kp", NonNegative((1, 1))),
    ("kv", NonNegative((1, 1))),
    ("dampratio", Refused("; give kv instead")),
    ("timeconst", Refused("; filter the control in the caller")),
    ("inheritrange", Refused("; give ctrlrange instead")),
);
const VELOCITY: Attributes = actuator!(("kv", NonNegative((1, 1))));
const GENERAL: Attributes = actuator!(
    ("gaintype", One(&["fixed"])),
    ("biastype", One(&["none", "affine"])),
    ("dyntype", One(&["none"])),
    ("gainprm", Numbers((1, 10))),
    ("biasprm", Numbers((1, 10))),
    ("dynprm", Ignored),
    ("actlimited", Ignored),
    ("actrange", Ignored),
    ("actdim", Ignored),
    ("actearly", Ignored),
);

const MESH: Attributes = &[
    ("name", Name("mesh")),
    ("class", Ref("class")),
    ("file", Text),
    ("content_type", Ignored),
    ("scale", Numbers((3, 3))),
    ("refpos", Numbers((3, 3))),
    ("refquat", Quaternion),
    ("vertex", Numbers((12, usize::MAX))),
    ("face", NonNegative((12, usize::MAX))),
    ("normal", Ignored),
    ("texcoord", Ignored),
    ("inertia", One(&["convex", "exact", "legacy"])),
    ("smoothnormal", Ignored),
    ("maxhullvert", Ignored),
];

const MATERIAL: Attributes = &[
    ("name", Name("material")),
    ("class", Ref("class")),
    ("texture", Ignored),
    ("rgba", NonNegative((4, 4))),
    ("emission", NonNegative((1, 1))),
    ("specular", NonNegative((1, 1))),
    ("shininess", NonNegative((1, 1))),
    ("reflectance", Ignored),
    ("metallic", Numbers((1, 1))),
    ("roughness", Numbers((1, 1))),
    ("texrepeat", Ignored),
    ("texuniform", Ignored),
];

const KEY: Attributes = &[
    ("name", Name("key")),
    ("time", Numbers((1, 1))),
    ("qpos", Numbers((1, usize::MAX))),
    ("qvel", Numbers((1, usize::MAX))),
    ("ctrl", Numbers((1, usize::MAX))),
    ("act", Ignored),
    ("mpos", Ignored),
    ("mquat", Ignored),
];

/// What to do with an element.
#[derive(Clone, Copy, Debug)]
pub(super) enum Element {
    /// Check its attributes and its children.
    Known(Attributes),
    /// Of no effect here, with everything in it.
    Skipped,
    /// Would change the physics; the text says what to do instead.
    Refused(&'static str),
    /// Not part of the format at this place.
    Unknown,
}

use Element::{Known, Skipped, Unknown};

/// The element `tag` inside `parent`; `defaults` says whether it is below a `<default>`.
pub(super) fn element(parent: &str, tag: &str, defaults: bool) -> Element {
    if defaults {
        return match tag {
            "default" => Known(&[("class", Name("class"))]),
            "joint" => Known(JOINT),
            "geom" => Known(GEOM),
            "site" => Known(SITE),
            "mesh" => Known(MESH),
            "material" => Known(MATERIAL),
            "pair" => Known(PAIR),
            "equality" => Known(&[
                ("active", Flag),
                ("solref", Unmodelled),
                ("solimp", Unmodelled),
            ]),
            "motor" => Known(MOTOR),
            "position" => Known(POSITION),
            "velocity" => Known(VELOCITY),
            "general" => Known(GENERAL),
            "camera" | "light" | "tendon" | "muscle" | "damper" | "intvelocity" | "cylinder"
            | "adhesion" => Skipped,
            _ => Unknown,
        };
    }
    match (parent, tag) {
        ("", "mujoco") => Known(&[("model", Text)]),
        ("mujoco", "include") => Known(&[("file", Text)]),
        (_, "include") => Element::Refused("; include whole sections at the top of the file"),
        ("mujoco", "compiler") => Known(COMPILER),
        ("mujoco", "option") => Known(OPTION),
        ("option", "flag") => Known(FLAGS),
        ("mujoco", "default") => Known(&[("class", Name("class"))]),
        ("mujoco", "asset" | "worldbody" | "contact" | "equality" | "actuator" | "keyframe") => {
            Known(&[])
        }
        ("mujoco", "size" | "visual" | "statistic" | "custom" | "sensor")
        | ("compiler", "lengthrange")
        | ("asset", "texture" | "skin")
        | ("worldbody" | "body" | "frame", "camera" | "light") => Skipped,
        ("mujoco", "tendon") => Element::Refused("; couple joints with <equality><joint>"),
        ("mujoco", "deformable" | "extension") => Element::Refused(""),
        ("asset", "mesh") => Known(MESH),
        ("asset", "material") => Known(MATERIAL),
        ("asset", "hfield" | "model") => Element::Refused("; use boxes or meshes"),
        ("worldbody" | "body" | "frame", "body") => Known(BODY),
        ("worldbody" | "body" | "frame", "geom") => Known(GEOM),
        ("worldbody" | "body" | "frame", "site") => Known(SITE),
        ("worldbody" | "body" | "frame", "frame") => Known(FRAME),
        ("body", "inertial") => Known(INERTIAL),
        ("body", "joint") => Known(JOINT),
        ("body", "freejoint") => Known(FREEJOINT),
        ("frame", "joint" | "freejoint" | "inertial") => {
            Element::Refused("; put it directly into the body")
        }
        (
            "worldbody" | "body" | "frame",
            "attach" | "replicate" | "composite" | "flexcomp" | "plugin",
        ) => Element::Refused("; write the bodies out"),
        ("contact", "exclude") => Known(EXCLUDE),
        ("contact", "pair") => Known(PAIR),
        ("equality", "joint") => Known(EQUALITY_JOINT),
        ("equality", "connect") => Known(CONNECT),
        ("equality", "weld") => Known(WELD),
        ("equality", "tendon" | "flex" | "flexvert" | "flexstrain" | "distance") => {
            Element::Refused("")
        }
        ("actuator", "motor") => Known(MOTOR),
        ("actuator", "position") => Known(POSITION),
        ("actuator", "velocity") => Known(VELOCITY),
        ("actuator", "general") => Known(GENERAL),
        ("actuator", "intvelocity" | "damper" | "cylinder" | "muscle" | "adhesion" | "plugin") => {
            Element::Refused(", expected motor, position, velocity or general")
        }
        ("keyframe", "key") => Known(KEY),
        _ => Unknown,
    }
}

/// Attributes that an element must have.
pub(super) fn required(parent: &str, tag: &str) -> &'static [(&'static str, &'static str)] {
    match (parent, tag) {
        ("mujoco", "include") => &[("file", "the path of a file")],
        ("body", "inertial") => &[("mass", "the mass in kg")],
        ("contact", "exclude") => &[
            ("body1", "the name of a body"),
            ("body2", "the name of a body"),
        ],
        ("contact", "pair") => &[
            ("geom1", "the name of a geom"),
            ("geom2", "the name of a geom"),
        ],
        ("equality", "joint") => &[
            ("joint1", "the name of a joint"),
            ("joint2", "the name of a joint"),
        ],
        ("equality", "connect") => &[("body1", "the name of a body"), ("anchor", "three numbers")],
        ("equality", "weld") => &[("body1", "the name of a body")],
        ("actuator", _) => &[("joint", "the name of a joint")],
        _ => &[],
    }
}
