//! The samplers of `telic-datasets` as samplers of an agent.

use telic_datasets::{HindsightSampler, SubgoalBatch, TransitionBatch, WindowBatch, WindowSampler};
use telic_seed::Rng;

use crate::BatchSampler;

/// A sampler with the size of its batches.
#[derive(Clone, Debug)]
pub struct SizedSampler<S> {
    /// What draws.
    pub sampler: S,
    /// Rows of a batch.
    pub batch_size: usize,
}

impl BatchSampler<TransitionBatch> for SizedSampler<HindsightSampler> {
    fn new_batch(&self) -> TransitionBatch {
        TransitionBatch::with_size(self.batch_size)
    }

    fn sample(&mut self, rng: &mut Rng, batch: &mut TransitionBatch) {
        self.sampler.sample(rng, batch);
    }
}

impl BatchSampler<WindowBatch> for SizedSampler<WindowSampler> {
    fn new_batch(&self) -> WindowBatch {
        WindowBatch::with_size(self.batch_size)
    }

    fn sample(&mut self, rng: &mut Rng, batch: &mut WindowBatch) {
        self.sampler.sample(rng, batch);
    }
}

/// A sampler of goals on two levels.
#[derive(Clone, Debug)]
pub struct SubgoalSampler {
    /// What draws.
    pub sampler: HindsightSampler,
    /// Steps between the levels.
    pub horizon: usize,
    /// Rows of a batch.
    pub batch_size: usize,
}

impl BatchSampler<SubgoalBatch> for SubgoalSampler {
    fn new_batch(&self) -> SubgoalBatch {
        SubgoalBatch::with_size(self.batch_size)
    }

    fn sample(&mut self, rng: &mut Rng, batch: &mut SubgoalBatch) {
        self.sampler.sample_subgoals(self.horizon, rng, batch);
    }
}
