//! The scripted pusher: drives the commanded effector behind a block and pushes it along the line to its target.
//!
//! With `u` the unit vector from block to target, it approaches `block − 0.05 u`, closes in to `block − 0.03 u` and
//! pushes by aiming at `block − 0.01 u`. Where the block stands askew by more than 0.2 rad, it first turns the block
//! by circling it at a slower pace. After the first pair it drives back the way it came, then starts on the second.
//! Phases and constants are those of Florence et al. 2021 and of the multimodal variant of C-BeT.

use std::f64::consts::FRAC_PI_4;

/// Distance of effector and waypoint that counts as arrival, in metres.
const ARRIVED_M: f64 = 0.001;
/// Distance of the first block from its target at which the second one is next, in metres.
const FIRST_DONE_M: f64 = 0.04;
/// Misalignment of block and push direction that calls for turning the block, in radians.
const TURN_RAD: f64 = 0.2;
/// Misalignment at which turning ends, in radians.
const FLAT_RAD: f64 = 0.03;
/// Radius of the arc on which the effector aims while it turns a block, in metres.
const ARC_RADIUS_M: f64 = 0.025;
/// How far ahead on that arc it aims, in radians.
const ARC_LEAD_RAD: f64 = 0.2;
/// Largest step of the commanded effector by kind of motion, in metres per control step (0.30, 0.35, 0.15 m/s at 10 Hz).
const TRAVEL_STEP_M: f64 = 0.030;
const PUSH_STEP_M: f64 = 0.035;
const TURN_STEP_M: f64 = 0.015;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    ToPreBlock,
    ToFirstPreBlock,
    ToOrigin,
    ToBlock,
    Push,
    TurnLeft,
    TurnRight,
}

/// What the oracle sees, in metres and radians.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// Positions of the blocks.
    pub(super) blocks: [[f64; 2]; 2],
    /// Yaws of the blocks.
    pub(super) yaws: [f64; 2],
    /// Positions of the targets.
    pub(super) targets: [[f64; 2]; 2],
    /// Commanded position of the effector.
    pub(super) command: [f64; 2],
}

/// The pusher's plan for one episode.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    /// Block and target, in the order in which they are served.
    pairs: [(usize, usize); 2],
    on_second: bool,
    phase: Phase,
    origin: [f64; 2],
    first_pre_block: Option<[f64; 2]>,
}

impl Oracle {
    /// Starts at the commanded position `origin`.
    pub(super) fn new(pairs: [(usize, usize); 2], origin: [f64; 2]) -> Self {
        Self {
            pairs,
            on_second: false,
            phase: Phase::ToPreBlock,
            origin,
            first_pre_block: None,
        }
    }

    /// The next displacement of the commanded effector, in metres. At most [`PUSH_STEP_M`] long.
    pub(super) fn act(&mut self, scene: &Scene) -> [f64; 2] {
        let (first_block, first_target) = self.pairs[0];
        if !self.on_second
            && length(sub(scene.targets[first_target], scene.blocks[first_block])) < FIRST_DONE_M
        {
            self.on_second = true;
            self.phase = Phase::ToFirstPreBlock;
        }
        let (block, target) = self.pairs[usize::from(self.on_second)];
        let (at, yaw) = (scene.blocks[block], scene.yaws[block]);
        let direction = unit(sub(scene.targets[target], at));
        let behind = |offset: f64| sub(at, scale(direction, offset));
        let misalignment = wrapped_quarter(libm::atan2(direction[1], direction[0]) - yaw);
        let to = |point: [f64; 2]| sub(point, scene.command);
        let arrived = |delta: [f64; 2]| length(delta) < ARRIVED_M;

        let mut delta = [0.0; 2];
        let mut limit = PUSH_STEP_M;
        // One pass in this order, so that several transitions can happen in one tick.
        if self.phase == Phase::ToPreBlock {
            limit = TRAVEL_STEP_M;
            delta = to(behind(0.05));
            if arrived(delta) {
                self.phase = Phase::ToBlock;
                self.first_pre_block.get_or_insert(behind(0.05));
            }
        }
        if self.phase == Phase::ToFirstPreBlock {
            limit = TRAVEL_STEP_M;
            delta = to(self.first_pre_block.unwrap_or(self.origin));
            if arrived(delta) {
                self.phase = Phase::ToOrigin;
            }
        }
        if self.phase == Phase::ToOrigin {
            limit = TRAVEL_STEP_M;
            delta = to(self.origin);
            if arrived(delta) {
                self.phase = Phase::ToPreBlock;
            }
        }
        if self.phase == Phase::ToBlock {
            limit = PUSH_STEP_M;
            delta = to(behind(0.03));
            if arrived(delta) {
                self.phase = Phase::Push;
            }
            if misalignment > TURN_RAD {
                self.phase = Phase::TurnLeft;
            } else if misalignment < -TURN_RAD {
                self.phase = Phase::TurnRight;
            }
        }
        if self.phase == Phase::Push {
            limit = PUSH_STEP_M;
            delta = to(behind(0.01));
            if misalignment.abs() > TURN_RAD {
                self.phase = Phase::ToPreBlock;
            }
        }
        if matches!(self.phase, Phase::TurnLeft | Phase::TurnRight) {
            limit = TURN_STEP_M;
            let left = self.phase == Phase::TurnLeft;
            let lead = if left { ARC_LEAD_RAD } else { -ARC_LEAD_RAD };
            let ray = rotated(unit(sub(scene.command, at)), lead);
            delta = to(add(at, scale(ray, ARC_RADIUS_M)));
            if (left && misalignment < FLAT_RAD) || (!left && misalignment > -FLAT_RAD) {
                self.phase = Phase::ToPreBlock;
            }
        }
        let norm = length(delta);
        if norm > limit {
            scale(delta, limit / norm)
        } else {
            delta
        }
    }
}

fn add(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

fn sub(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

fn scale(a: [f64; 2], factor: f64) -> [f64; 2] {
    [a[0] * factor, a[1] * factor]
}

fn length(a: [f64; 2]) -> f64 {
    (a[0] * a[0] + a[1] * a[1]).sqrt()
}

/// The direction of a vector; +x for a vector too short to have one.
fn unit(a: [f64; 2]) -> [f64; 2] {
    let norm = length(a);
    if norm > 1e-12 {
        scale(a, 1.0 / norm)
    } else {
        [1.0, 0.0]
    }
}

fn rotated(a: [f64; 2], angle: f64) -> [f64; 2] {
    let (sin, cos) = libm::sincos(angle);
    [cos * a[0] - sin * a[1], sin * a[0] + cos * a[1]]
}

/// An angle reduced to −π/4..=π/4: a square looks the same after a quarter turn.
fn wrapped_quarter(angle: f64) -> f64 {
    let quarter = 2.0 * FRAC_PI_4;
    angle - (angle / quarter).round() * quarter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(command: [f64; 2]) -> Scene {
        Scene {
            blocks: [[0.3, -0.2], [0.5, -0.2]],
            yaws: [0.0, 0.0],
            targets: [[0.3, 0.2], [0.5, 0.2]],
            command,
        }
    }

    #[test]
    fn angles_reduce_to_an_eighth_turn() {
        for (angle, expected) in [
            (0.1, 0.1),
            (1.6, 1.6 - 2.0 * FRAC_PI_4),
            (-3.0, -3.0 + 4.0 * FRAC_PI_4),
        ] {
            assert!((wrapped_quarter(angle) - expected).abs() < 1e-12, "{angle}");
        }
    }

    #[test]
    fn it_travels_at_030_m_per_s_to_the_far_side_of_the_block() {
        let mut oracle = Oracle::new([(0, 0), (1, 1)], [0.3, -0.4]);
        let action = oracle.act(&scene([0.3, -0.4]));
        assert!((action[1] - 0.030).abs() < 1e-12 && action[0].abs() < 1e-12);
    }

    #[test]
    fn behind_the_block_it_closes_in_and_pushes_at_035_m_per_s() {
        let mut oracle = Oracle::new([(0, 0), (1, 1)], [0.3, -0.4]);
        let closing = oracle.act(&scene([0.3, -0.25]));
        assert!((closing[1] - 0.02).abs() < 1e-12);
        let pushing = oracle.act(&scene([0.3, -0.23]));
        assert_eq!(oracle.phase, Phase::Push);
        assert!((pushing[1] - 0.02).abs() < 1e-12);
    }

    #[test]
    fn a_crooked_block_is_turned_slowly() {
        let mut oracle = Oracle::new([(0, 0), (1, 1)], [0.3, -0.4]);
        let mut crooked = scene([0.3, -0.25]);
        // The push goes along +y, so a yaw of 0.5 leaves a misalignment of −0.5.
        crooked.yaws[0] = 0.5;
        let action = oracle.act(&crooked);
        assert_eq!(oracle.phase, Phase::TurnRight);
        assert!(length(action) <= TURN_STEP_M + 1e-12);
    }

    #[test]
    fn the_second_block_follows_after_the_way_back() {
        let mut oracle = Oracle::new([(0, 0), (1, 1)], [0.3, -0.4]);
        oracle.act(&scene([0.3, -0.25]));
        let mut done = scene([0.3, 0.14]);
        done.blocks[0] = [0.3, 0.17];
        let back = oracle.act(&done);
        assert!((back[1] + 0.030).abs() < 1e-12);
        done.command = [0.3, -0.25];
        oracle.act(&done);
        assert_eq!(oracle.phase, Phase::ToOrigin);
        done.command = [0.3, -0.4];
        let idle = oracle.act(&done);
        assert_eq!(oracle.phase, Phase::ToPreBlock);
        assert!(length(idle) < ARRIVED_M);
    }
}
