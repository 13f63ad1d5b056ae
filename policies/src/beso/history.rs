//! The last observations and actions of each row, and what past actions look like to the denoiser.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::network::NetworkKind;

/// How the past actions of the context enter while the newest one is denoised at noise level σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryMode {
    /// `a + σ n`, with `n` drawn once per action: at every level they look as in training, where one σ noises the whole
    /// window, and along the levels they move as the probability-flow path of a known action does.
    Renoise,
    /// Clean at the first level, then denoised together with the newest action. What the reference release does, and
    /// nothing that training has shown the network.
    Reference,
    /// Clean at every level. For networks trained with [`HistoryTraining::Clean`].
    Clamp,
}

impl HistoryMode {
    /// What is expected in its place for a network that learned from past actions that look so;
    /// `None` if it goes with that network. Without past actions all modes are the same.
    pub(super) fn expected_instead(
        self,
        network: NetworkKind,
        past_actions: Option<HistoryTraining>,
    ) -> Option<&'static str> {
        match (self, past_actions) {
            (Self::Renoise | Self::Reference, Some(HistoryTraining::Clean)) => {
                Some("`clamp`: past actions are clean in training (`history_training`)")
            }
            (Self::Clamp, Some(HistoryTraining::Noised)) => {
                Some("`renoise`: past actions have noise in training (`history_training`)")
            }
            (Self::Reference, _) if network == NetworkKind::Mlp => {
                Some("`renoise`: the network `mlp` does not denoise past actions")
            }
            _ => None,
        }
    }
}

/// How the past actions of a window look in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryTraining {
    /// All actions have noise of one level, and all count in the loss. Published.
    Noised,
    /// A position is drawn per window; its action has noise and counts, those before are clean.
    /// Goes with [`HistoryMode::Clamp`] only.
    Clean,
}

/// Observations and actions of one episode so far, normalised, as far as the context reaches.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// Up to W − 1 past observations, one after the other.
    observations: VecDeque<f32>,
    /// The actions executed at them.
    actions: VecDeque<f32>,
}

impl Context {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.observations.clear();
        self.actions.clear();
    }

    /// Past actions.
    pub(super) fn len(&self, action_dim: usize) -> usize {
        self.actions.len() / action_dim
    }

    /// Appends the past observations to `states` and the past actions to `actions`.
    pub(super) fn extend(&self, states: &mut Vec<f32>, actions: &mut Vec<f64>) {
        states.extend(&self.observations);
        actions.extend(self.actions.iter().map(|&a| f64::from(a)));
    }

    /// Adds a step, and drops those that a window of `window` states does not reach once the next state is there.
    pub(super) fn push(&mut self, observation: &[f32], action: &[f32], window: usize) {
        self.observations.extend(observation);
        self.actions.extend(action);
        while self.actions.len() > (window - 1) * action.len() {
            self.observations.drain(..observation.len());
            self.actions.drain(..action.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_keeps_what_a_window_reaches() {
        let mut context = Context::default();
        for step in 0..6 {
            let value = step as f32;
            assert_eq!(context.len(1), step.min(2));
            context.push(&[value, -value], &[10.0 + value], 3);
        }
        let (mut states, mut actions) = (Vec::new(), Vec::new());
        context.extend(&mut states, &mut actions);
        assert_eq!(states, [4.0, -4.0, 5.0, -5.0]);
        assert_eq!(actions, [14.0, 15.0]);
        context.clear();
        assert_eq!(context.len(1), 0);

        let mut single = Context::default();
        single.push(&[1.0], &[2.0], 1);
        assert_eq!(single.len(1), 0, "a window of one state has no past");
    }
}
