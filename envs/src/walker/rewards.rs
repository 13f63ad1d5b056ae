//! The rewards of the DeepMind Control Suite (Tassa et al. 2018), and `flip` of URLB (Laskin et al. 2021) and ExORL
//! (Yarats et al. 2022).

use crate::RewardSpec;

/// Torso height from which it counts as standing, in metres.
const STAND_HEIGHT_M: f32 = 1.2;
const STAND_MARGIN_M: f32 = 0.6;
/// What the reward of the height falls to one margin below.
const VALUE_AT_MARGIN: f32 = 0.1;
const WALK_SPEED_M_S: f32 = 1.0;
const RUN_SPEED_M_S: f32 = 8.0;
const SPIN_KG_M2_S: f32 = 5.0;

/// What [`rewards`] gives, in order.
pub(super) fn specs() -> Vec<RewardSpec> {
    let reward = |name, summary| RewardSpec { name, summary };
    vec![
        reward("stand", "Torso at 1.2 m or higher, upright."),
        reward("walk", "Standing, and forwards at 1 m/s or faster."),
        reward("run", "Standing, and forwards at 8 m/s or faster."),
        reward(
            "flip",
            "Standing, and turning forwards with 5 kg m²/s or more.",
        ),
    ]
}

/// What the rewards are functions of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    /// Height of the torso, in metres.
    pub(super) height_m: f32,
    /// Cosine of the angle between the torso and the vertical.
    pub(super) upright: f32,
    /// Horizontal velocity of the centre of mass, in m/s.
    pub(super) speed_m_s: f32,
    /// Angular momentum of the whole body about y through its centre of mass.
    pub(super) spin_kg_m2_s: f32,
}

/// `stand`, `walk`, `run`, `flip`, each in 0..=1.
pub(super) fn rewards(motion: Motion) -> Vec<f32> {
    let short = ((STAND_HEIGHT_M - motion.height_m) / STAND_MARGIN_M).max(0.0);
    // A gaussian through 0.1 at the margin: exp(−½·s·d²) with s = −2·ln 0.1.
    let standing = libm::powf(VALUE_AT_MARGIN, short * short);
    let stand = (3.0 * standing + f32::midpoint(1.0, motion.upright)) / 4.0;
    // Linear, with 0.5 half of the target below it (`walk`, `run`) and 0 the whole target below it (`flip`): the same line.
    let moving = |value: f32, target: f32| {
        let share = (value / target).clamp(0.0, 1.0);
        stand * (5.0 * share + 1.0) / 6.0
    };
    vec![
        stand,
        moving(motion.speed_m_s, WALK_SPEED_M_S),
        moving(motion.speed_m_s, RUN_SPEED_M_S),
        moving(motion.spin_kg_m2_s, SPIN_KG_M2_S),
    ]
}
