//! Scripted pick and place: a reactive oracle and one that follows a plan.
//!
//! Both are OGBench's (Park et al. 2025), with two repairs: yaw differences take the short way, and turns are chosen
//! so that the last wrist joint stays away from its limits.

use std::f64::consts::{FRAC_PI_2, PI};

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use telic_seed::Rng;

use super::{ARM_START, distance, planar_distance};
use crate::arm::{ACTION_DIM, ACTION_SCALE, TabletopArm, ToolPose, wrapped};

/// What an oracle sees, in metres and radians.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The pinch point.
    pub(super) tool: ToolPose,
    /// Angle of the last wrist joint; it falls by as much as the yaw rises.
    pub(super) wrist: f64,
    /// 0 open, 1 closed.
    pub(super) opening: f64,
    /// Contact of the right finger, 0..=1.
    pub(super) contact: f64,
    /// The cube to move.
    pub(super) cube: [f64; 3],
    /// Its yaw.
    pub(super) cube_yaw: f64,
}

/// Where a cube is to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    /// Which one.
    pub(super) cube: usize,
    /// Position in metres.
    pub(super) position: [f64; 3],
    /// Yaw in radians.
    pub(super) yaw: f64,
}

/// The wrist joint stops at two turns of π either way; grasps keep it within this angle.
const WRIST_REACH: f64 = 1.5 * PI;

/// Least turn from `yaw` to a yaw at which a square looks as it does at `square_yaw`, in −π/4..=π/4.
fn quarter_turn(square_yaw: f64, yaw: f64) -> f64 {
    let difference = square_yaw - yaw;
    difference - FRAC_PI_2 * libm::round(difference / FRAC_PI_2)
}

/// Turn that brings the fingers to two faces of the cube.
fn grasp_turn(square_yaw: f64, yaw: f64, wrist: f64) -> f64 {
    let turn = quarter_turn(square_yaw, yaw);
    if wrist - turn > WRIST_REACH {
        turn + FRAC_PI_2
    } else if wrist - turn < -WRIST_REACH {
        turn - FRAC_PI_2
    } else {
        turn
    }
}

/// Turn to a free yaw that leaves the wrist within half a turn of its middle.
fn unwinding_turn(target: f64, yaw: f64, wrist: f64) -> f64 {
    wrist - wrapped(wrist - (target - yaw))
}

/// A scripted expert for one target at a time.
pub(super) enum Oracle {
    /// See [`Markov`].
    Markov(Markov),
    /// See [`Plan`].
    Plan(Plan),
}

impl Oracle {
    /// The next action, before clipping.
    pub(super) fn act(&mut self, view: &View, target: &Target, rng: &mut Rng) -> [f64; ACTION_DIM] {
        match self {
            Self::Markov(oracle) => oracle.act(view, target, rng),
            Self::Plan(oracle) => oracle.act(view),
        }
    }

    /// Whether the target has been dealt with, well or badly. To be asked after the step that followed [`Oracle::act`].
    pub(super) fn done(&self, view: &View, target: &Target) -> bool {
        match self {
            Self::Markov(oracle) => oracle.done(view, target),
            Self::Plan(oracle) => oracle.next >= oracle.samples.len(),
        }
    }
}

/// Steps after which the reactive oracle gives a target up.
const MARKOV_STEPS: usize = 200;
/// Gain of the position command, and of the yaw command.
const MARKOV_GAINS: (f64, f64) = (5.0, 3.0);
/// A position error is scaled up to this length, so that commands do not fade near the target.
const MARKOV_REACH: f64 = 0.4;
/// Largest standard deviation of the position noise; yaw has 3 and closing 10 times as much.
const MARKOV_NOISE: f64 = 0.1;

/// Decides from the present state alone.
pub(super) struct Markov {
    /// Where the arm goes after the placement.
    rest: ToolPose,
    /// Standard deviation of the position noise.
    sigma: f64,
    steps: usize,
}

impl Markov {
    /// An oracle whose noise level was drawn by [`Markov::noise_level`].
    pub(super) fn new(sigma: f64, rng: &mut Rng) -> Self {
        Self {
            rest: TabletopArm::random_tool_pose(&ARM_START, rng),
            sigma,
            steps: 0,
        }
    }

    /// Noise level of an episode.
    pub(super) fn noise_level(noise: f64, rng: &mut Rng) -> f64 {
        noise * rng.random_range(0.0..MARKOV_NOISE)
    }

    fn act(&mut self, view: &View, target: &Target, rng: &mut Rng) -> [f64; ACTION_DIM] {
        self.steps += 1;
        let (cube, pinch) = (view.cube, view.tool.position);
        let above = pinch[2] > 0.16;
        let at_cube_xy = planar_distance(&pinch, &cube) <= 0.04;
        let at_cube = distance(&pinch, &cube) <= 0.02;
        let at_target_xy = planar_distance(&cube, &target.position) <= 0.04;
        let at_target = distance(&cube, &target.position) <= 0.02;
        let raised = |[x, y, z]: [f64; 3], by: f64| [x, y, z + by];

        let grasp = grasp_turn(view.cube_yaw, view.tool.yaw, view.wrist);
        let place = quarter_turn(target.yaw, view.cube_yaw);
        let rest = unwinding_turn(self.rest.yaw, view.tool.yaw, view.wrist);
        let (open, close) = (-1.0, 1.0);
        let (goal, turn, grip) = if !at_target {
            if !at_cube_xy {
                (raised(cube, 0.18), grasp, open)
            } else if !at_cube {
                (cube, grasp, open)
            } else if view.contact <= 0.5 {
                (cube, grasp, close)
            } else if !above && !at_target_xy {
                ([cube[0], cube[1], 0.36], place, close)
            } else if !at_target_xy {
                (raised(target.position, 0.18), place, close)
            } else {
                (target.position, place, close)
            }
        } else if view.contact >= 0.1 {
            (target.position, place, open)
        } else if !above {
            ([cube[0], cube[1], 0.32], rest, open)
        } else {
            (self.rest.position, rest, open)
        };

        let mut offset: [f64; 3] = std::array::from_fn(|axis| goal[axis] - pinch[axis]);
        let length = distance(&goal, &pinch);
        if length < MARKOV_REACH {
            offset = offset.map(|x| x * MARKOV_REACH / (length + 1e-6));
        }
        let [x, y, z] = offset.map(|x| MARKOV_GAINS.0 * x);
        let command = [x, y, z, MARKOV_GAINS.1 * turn, grip].map(|a| a.clamp(-1.0, 1.0));
        let scales = [1.0, 1.0, 1.0, 3.0, 10.0];
        std::array::from_fn(|index| {
            let noise: f64 = StandardNormal.sample(rng);
            command[index] + self.sigma * scales[index] * noise
        })
    }

    fn done(&self, view: &View, target: &Target) -> bool {
        let at_target = distance(&view.cube, &target.position) <= 0.02;
        let at_rest = distance(&view.tool.position, &self.rest.position) <= 0.04;
        (at_target && at_rest) || self.steps >= MARKOV_STEPS
    }
}

/// Length of a sample of a plan, in seconds.
const PLAN_STEP: f64 = 0.05;
/// Each key frame but the first comes up to this much early or late, in seconds.
const PLAN_JITTER: f64 = 0.08;
/// Standard deviation of the noise on a plan, in action scales, before filtering.
const PLAN_NOISE: f64 = 0.1;
/// Gaussian of 0.5 samples, cut at two samples.
const PLAN_KERNEL: [f64; 5] = [0.000_264, 0.106_450, 0.786_572, 0.106_450, 0.000_264];

/// One moment of a plan.
#[derive(Clone, Copy, Debug)]
struct Sample {
    position: [f64; 3],
    yaw: f64,
    closed: f64,
}

/// Follows key frames that were laid out when the target was drawn.
pub(super) struct Plan {
    samples: Vec<Sample>,
    next: usize,
}

impl Plan {
    /// Plans from the present state.
    pub(super) fn new(view: &View, target: &Target, noise: f64, rng: &mut Rng) -> Self {
        let start = view.tool;
        let raised =
            |[x, y, z]: [f64; 3], rng: &mut Rng| [x, y, z + 0.1 + rng.random_range(0.0..0.1)];
        let frame = |position, yaw, closed| Sample {
            position,
            yaw,
            closed,
        };
        let pick_yaw = start.yaw + grasp_turn(view.cube_yaw, start.yaw, view.wrist);
        let place_yaw = pick_yaw + quarter_turn(target.yaw, view.cube_yaw);
        let above_cube = raised(view.cube, rng);
        let above_target = raised(target.position, rng);
        let clearance = [
            f64::midpoint(above_cube[0], above_target[0]) + rng.random_range(-0.1..0.1),
            f64::midpoint(above_cube[1], above_target[1]) + rng.random_range(-0.1..0.1),
            start.position[2] + rng.random_range(0.0..0.2),
        ];
        let rest = TabletopArm::random_tool_pose(&ARM_START, rng);
        let wrist_at_place = view.wrist - (place_yaw - start.yaw);
        let rest_yaw = place_yaw + unwinding_turn(rest.yaw, place_yaw, wrist_at_place);
        let mut frames = [
            (0.0, frame(start.position, start.yaw, 0.0)),
            (0.4, frame(above_cube, pick_yaw, 0.0)),
            (1.0, frame(view.cube, pick_yaw, 0.0)),
            (1.4, frame(view.cube, pick_yaw, 1.0)),
            (1.8, frame(above_cube, pick_yaw, 1.0)),
            (
                2.2,
                frame(clearance, f64::midpoint(pick_yaw, place_yaw), 1.0),
            ),
            (2.6, frame(above_target, place_yaw, 1.0)),
            (3.2, frame(target.position, place_yaw, 1.0)),
            (3.6, frame(target.position, place_yaw, 0.0)),
            (4.0, frame(above_target, place_yaw, 0.0)),
            (4.4, frame(rest.position, rest_yaw, 0.0)),
        ];
        for (time, _) in &mut frames[1..] {
            *time += rng.random_range(-PLAN_JITTER..PLAN_JITTER);
        }
        let end = frames[frames.len() - 1].0;
        let count = libm::ceil(end / PLAN_STEP) as usize;
        let mut samples: Vec<Sample> = (0..count)
            .map(|index| interpolate(&frames, index as f64 * PLAN_STEP))
            .collect();
        perturb(&mut samples, noise, rng);
        Self { samples, next: 0 }
    }

    fn act(&mut self, view: &View) -> [f64; ACTION_DIM] {
        let sample = self.samples[self.next.min(self.samples.len() - 1)];
        self.next += 1;
        let tool = &view.tool;
        let [x, y, z] = std::array::from_fn(|axis| sample.position[axis] - tool.position[axis]);
        let errors = [
            x,
            y,
            z,
            wrapped(sample.yaw - tool.yaw),
            sample.closed - view.opening,
        ];
        std::array::from_fn(|index| errors[index] / ACTION_SCALE[index])
    }
}

/// The plan at a time between its first and last key frame.
fn interpolate(frames: &[(f64, Sample)], time: f64) -> Sample {
    let after = frames
        .iter()
        .position(|(t, _)| *t > time)
        .unwrap_or(frames.len() - 1)
        .max(1);
    let ((t0, a), (t1, b)) = (frames[after - 1], frames[after]);
    let weight = ((time - t0) / (t1 - t0)).clamp(0.0, 1.0);
    let mix = |a: f64, b: f64| a + weight * (b - a);
    Sample {
        position: std::array::from_fn(|axis| mix(a.position[axis], b.position[axis])),
        yaw: mix(a.yaw, b.yaw),
        closed: mix(a.closed, b.closed),
    }
}

/// Adds noise that is smooth along the plan.
fn perturb(samples: &mut [Sample], noise: f64, rng: &mut Rng) {
    let count = samples.len();
    let white: Vec<[f64; ACTION_DIM]> = (0..count)
        .map(|_| {
            std::array::from_fn(|index| {
                let draw: f64 = StandardNormal.sample(rng);
                noise * PLAN_NOISE * ACTION_SCALE[index] * draw
            })
        })
        .collect();
    for (center, sample) in samples.iter_mut().enumerate() {
        let smooth: [f64; ACTION_DIM] = std::array::from_fn(|index| {
            PLAN_KERNEL
                .iter()
                .enumerate()
                .map(|(tap, weight)| {
                    // Beyond the ends the noise is mirrored.
                    let at = (center + tap) as isize - 2;
                    let at = if at < 0 { -at - 1 } else { at } as usize;
                    let at = if at >= count { 2 * count - 1 - at } else { at };
                    weight * white[at][index]
                })
                .sum()
        });
        let [x, y, z, yaw, closed] = smooth;
        for (position, noise) in sample.position.iter_mut().zip([x, y, z]) {
            *position += noise;
        }
        sample.yaw += yaw;
        sample.closed += closed;
    }
}
