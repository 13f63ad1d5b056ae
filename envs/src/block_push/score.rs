//! The scores of an episode of block pushing, as C-BeT and BESO report them.

use serde::{Deserialize, Serialize};

use super::{Assignment, TOLERANCE_M, distance};

/// Reward for entering a target with a block for the first time.
const ENTER_REWARD: f64 = 0.49;
/// Reward of the step in which both blocks are inside different targets, in place of [`ENTER_REWARD`].
const FINISH_REWARD: f64 = 0.51;

/// Scores so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Score {
    /// `entered[block][target]`: whether the block was inside the target at any step.
    entered: [[bool; 2]; 2],
    reward: f64,
    over: bool,
}

impl Score {
    /// Takes the state after a step. Returns whether both blocks are, or once were, inside different targets.
    pub(super) fn update(&mut self, blocks: [[f32; 2]; 2], targets: [[f32; 2]; 2]) -> bool {
        if self.over {
            return true;
        }
        let inside = blocks.map(|block| targets.map(|target| is_inside(block, target)));
        let mut reward = 0.0;
        for (entered, inside) in self
            .entered
            .iter_mut()
            .flatten()
            .zip(inside.iter().flatten())
        {
            if *inside && !*entered {
                *entered = true;
                reward += ENTER_REWARD;
            }
        }
        self.over = (inside[0][0] && inside[1][1]) || (inside[0][1] && inside[1][0]);
        self.reward += if self.over { FINISH_REWARD } else { reward };
        self.over
    }

    /// Sum of the rewards, whatever the goal: 1 for two clean pushes.
    pub(super) fn reward(&self) -> f64 {
        self.reward
    }

    /// Share of the two pairs of the desired assignment that were entered.
    pub(super) fn result(&self, desired: Assignment) -> f64 {
        let entered = (0..2)
            .filter(|&block| self.entered[block][desired.target_of(block)])
            .count();
        entered as f64 / 2.0
    }
}

/// Strictly closer than the tolerance, in the plane; yaw does not count.
fn is_inside(block: [f32; 2], target: [f32; 2]) -> bool {
    distance(block, target) < TOLERANCE_M
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: [[f32; 2]; 2] = [[0.0, 0.0], [0.24, 0.0]];
    const AWAY: [f32; 2] = [0.1, -0.4];

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn two_clean_pushes_score_one() {
        let mut score = Score::default();
        assert!(!score.update([[0.0, 0.01], AWAY], TARGETS));
        assert!(close(score.reward(), 0.49));
        assert!(score.update([[0.0, 0.01], [0.24, -0.04]], TARGETS));
        assert!(close(score.reward(), 1.0));
        assert_eq!(score.result(Assignment::Straight), 1.0);
        assert_eq!(score.result(Assignment::Crossed), 0.0);
    }

    #[test]
    fn one_block_in_both_targets_scores_098_and_goes_on() {
        let mut score = Score::default();
        for block in [TARGETS[0], AWAY, TARGETS[1], TARGETS[0]] {
            assert!(!score.update([block, AWAY], TARGETS));
        }
        assert!(close(score.reward(), 0.98));
        assert_eq!(score.result(Assignment::Straight), 0.5);
        assert_eq!(score.result(Assignment::Crossed), 0.5);
    }

    #[test]
    fn both_blocks_in_one_target_do_not_end_the_episode() {
        let mut score = Score::default();
        assert!(!score.update([[0.0, 0.03], [0.0, -0.03]], TARGETS));
        assert!(close(score.reward(), 0.98));
    }

    #[test]
    fn the_border_is_outside() {
        assert!(!is_inside([0.05, 0.0], [0.0, 0.0]));
        assert!(is_inside([0.0499, 0.0], [0.0, 0.0]));
    }

    #[test]
    fn nothing_is_scored_after_the_end() {
        let mut score = Score::default();
        assert!(score.update([TARGETS[1], TARGETS[0]], TARGETS));
        assert!(close(score.reward(), 0.51));
        assert!(score.update([TARGETS[0], TARGETS[1]], TARGETS));
        assert!(close(score.reward(), 0.51));
    }
}
