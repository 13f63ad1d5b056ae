//! Colours with a meaning, one place for all views.

/// Path of the end effector.
pub(crate) const TRACE: [f32; 4] = [0.16, 0.78, 0.95, 1.0];
/// Contact forces.
pub(crate) const CONTACT: [f32; 4] = [0.98, 0.35, 0.30, 1.0];
/// The action that was taken.
pub(crate) const EXECUTED: [f32; 4] = [1.0, 1.0, 1.0, 1.0];
/// Frames and axes.
pub(crate) const FRAME: [f32; 4] = [0.55, 0.58, 0.62, 1.0];
/// Where a policy heads first.
pub(crate) const SUBGOAL: [f32; 4] = [1.0, 0.35, 0.75, 1.0];
/// Reward.
pub(crate) const REWARD: [f32; 3] = [0.36, 0.78, 0.48];
/// The tolerance of a goal.
pub(crate) const TOLERANCE: [f32; 3] = [0.55, 0.58, 0.62];

/// Well separated hues for lines in one plot.
const CATEGORIES: [[f32; 3]; 10] = [
    [0.31, 0.62, 0.95],
    [0.98, 0.62, 0.24],
    [0.40, 0.80, 0.52],
    [0.93, 0.40, 0.45],
    [0.69, 0.53, 0.93],
    [0.35, 0.80, 0.82],
    [0.95, 0.80, 0.33],
    [0.93, 0.52, 0.77],
    [0.66, 0.72, 0.40],
    [0.62, 0.64, 0.70],
];

/// Colour of line `index` of a plot. The hues come again in darker shades.
pub(crate) fn category(index: usize) -> [f32; 3] {
    let shade = 0.62_f32.powi((index / CATEGORIES.len()) as i32);
    CATEGORIES[index % CATEGORIES.len()].map(|channel| channel * shade)
}

/// Anchors of the ramp from noise (dim violet) to action (bright yellow); after the `plasma` colour map.
const RAMP: [[f32; 3]; 5] = [
    [0.33, 0.16, 0.62],
    [0.61, 0.20, 0.65],
    [0.85, 0.34, 0.46],
    [0.97, 0.58, 0.25],
    [0.98, 0.93, 0.25],
];

/// Colour on the ramp: of a denoising level, 0 is pure noise and 1 the action; of a value, 0 is the lowest and 1 the highest.
pub(crate) fn ramp(progress: f32) -> [f32; 4] {
    let position = progress.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let index = (position as usize).min(RAMP.len() - 2);
    let weight = position - index as f32;
    let mut rgba = [0.0, 0.0, 0.0, 1.0];
    for (channel, out) in rgba.iter_mut().take(3).enumerate() {
        *out = RAMP[index][channel] * (1.0 - weight) + RAMP[index + 1][channel] * weight;
    }
    rgba
}

/// Behind the scene and the action space.
pub(crate) const BACKDROP: [f32; 4] = [0.11, 0.12, 0.14, 1.0];
