//! Mixed precision: which products of an update are computed in fewer digits.
//!
//! In [`Precision::Bf16`] the products of hidden layers take factors of `bf16` (8 significant bits, the range of `f32`), which tensor
//! cores multiply several times as fast, and give results of `bf16`, forwards and backwards. Weights,
//! biases, activations, norms, output layers, losses and the optimiser stay in `f32`, and no loss has to be scaled, since the range
//! is that of `f32` (Micikevicius et al. 2018, arXiv:1710.03740; Kalamkar et al. 2019, arXiv:1905.12322). Output layers stay exact
//! because values of some hundred steps in 8 bits would be off by a step.
//!
//! As in JAX and PyTorch, it is a property of a stretch of work on a thread and of no network: [`Precision::scope`].

use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How the products of hidden layers are computed in an update. Actions and validations are always in `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In `f32`. CUDA's tensor cores round the factors of large products to TF32, 11 significant bits.
    #[default]
    F32,
    /// From factors of `bf16`, summed in `f32`, rounded to `bf16`. A CPU computes the same roundings, without being faster.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// Runs `work` so that hidden layers on this thread multiply in this precision, forwards and backwards.
    pub fn scope<R>(self, work: impl FnOnce() -> R) -> R {
        let _before = Before(CURRENT.replace(self));
        work()
    }

    /// The precision of the scope that this thread is in.
    pub(crate) fn current() -> Self {
        CURRENT.get()
    }
}

/// Ends a scope, also when its work panics.
struct Before(Precision);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_ends_with_its_work_and_after_a_panic() {
        let panicked = std::panic::catch_unwind(|| {
            Precision::Bf16.scope(|| {
                assert_eq!(Precision::current(), Precision::Bf16);
                let inner = Precision::F32.scope(Precision::current);
                assert_eq!(
                    (inner, Precision::current()),
                    (Precision::F32, Precision::Bf16)
                );
                panic!("on purpose")
            })
        });
        assert!(panicked.is_err());
        assert_eq!(Precision::current(), Precision::F32);
    }
}
