//! An agent of any algorithm on any backend, behind one object-safe trait.

use burn::tensor::backend::AutodiffBackend;
use telic_seed::Seed;

use crate::prefetch::BatchReader;
use crate::{
    Agent, Algorithm, DataPart, Metrics, Model, Numbers, Policy, PolicyError, TensorMap,
    TrainingTask,
};

/// An [`Agent`] together with its batches.
pub trait Learner: Send {
    /// Starts reading training batches at number `first`, `ahead` of them on another thread.
    fn start(&mut self, first: u64, ahead: usize) -> Result<(), PolicyError>;

    /// Update number `index` (from 0): takes the next batch, draws from the stream `update.index(index)`. A device may still be
    /// at work on it afterwards.
    ///
    /// # Errors
    /// [`PolicyError::Sampler`] if there is no batch.
    fn update(&mut self, index: u64) -> Result<(), PolicyError>;

    /// The metrics of every update since the last call, oldest first. Waits for the device.
    fn take_metrics(&mut self) -> Vec<Metrics>;

    /// Mean metrics over `batches` batches of `data`, the same ones at every call.
    fn evaluate(&mut self, data: &DataPart, batches: usize) -> Result<Metrics, PolicyError>;

    /// See [`Agent::model`].
    fn model(&self) -> Model;

    /// The policy that [`model`](Self::model) loads as, so what is evaluated is what a checkpoint gives.
    fn policy(&self) -> Result<Box<dyn Policy>, PolicyError>;

    /// See [`Agent::state`].
    fn state(&self) -> TensorMap;

    /// See [`Agent::load_state`].
    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError>;
}

/// The [`Learner`] of algorithm `A` on backend `B`.
pub(crate) struct AlgorithmLearner<A: Algorithm, B: AutodiffBackend> {
    config: A::Config,
    task: TrainingTask,
    device: B::Device,
    agent: A::Agent<B>,
    reader: Option<BatchReader<<A::Agent<B> as Agent>::Batch>>,
    unread: Vec<Numbers<<A::Agent<B> as Agent>::Backend>>,
}

impl<A: Algorithm, B: AutodiffBackend> AlgorithmLearner<A, B> {
    pub(crate) fn new(
        config: A::Config,
        task: TrainingTask,
        device: B::Device,
    ) -> Result<Self, PolicyError> {
        let agent = A::new_agent::<B>(&config, &task, &device)?;
        Ok(Self {
            config,
            task,
            device,
            agent,
            reader: None,
            unread: vec![],
        })
    }

    fn batch_seed(&self) -> Seed {
        self.task.seed.child("batches")
    }
}

impl<A: Algorithm, B: AutodiffBackend> Learner for AlgorithmLearner<A, B> {
    fn start(&mut self, first: u64, ahead: usize) -> Result<(), PolicyError> {
        let sampler = self.agent.sampler(&self.task.data, self.task.batch_size)?;
        self.reader = Some(BatchReader::new(sampler, self.batch_seed(), first, ahead)?);
        Ok(())
    }

    fn update(&mut self, index: u64) -> Result<(), PolicyError> {
        if self.reader.is_none() {
            self.start(index, 0)?;
        }
        let reader = self.reader.as_mut().expect("it was just started");
        let batch = reader.next_batch()?;
        let mut rng = self.task.seed.child("update").index(index).rng();
        self.unread.push(self.agent.update(&batch, &mut rng));
        reader.recycle(batch);
        Ok(())
    }

    fn take_metrics(&mut self) -> Vec<Metrics> {
        Numbers::read_all(std::mem::take(&mut self.unread))
    }

    fn evaluate(&mut self, data: &DataPart, batches: usize) -> Result<Metrics, PolicyError> {
        let mut sampler = self.agent.sampler(data, self.task.batch_size)?;
        let seed = self.task.seed.child("validation");
        let mut batch = sampler.new_batch();
        let mut mean = crate::metrics::MeanMetrics::new();
        for index in 0..batches as u64 {
            sampler.sample(&mut seed.child("batches").index(index).rng(), &mut batch);
            let mut rng = seed.child("evaluate").index(index).rng();
            mean.add(&self.agent.evaluate(&batch, &mut rng));
        }
        Ok(mean.take())
    }

    fn model(&self) -> Model {
        self.agent.model()
    }

    fn policy(&self) -> Result<Box<dyn Policy>, PolicyError> {
        A::load::<B::InnerBackend>(&self.config, &self.agent.model(), &self.device)
    }

    fn state(&self) -> TensorMap {
        self.agent.state()
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        self.agent.load_state(state)
    }
}
