//! Agents whose networks all learn by one step down the sum of their losses, some of them with slow copies.

use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use telic_seed::Rng;

use crate::ema::SlowCopy;
use crate::losses::Losses;
use crate::nn::{AdamConfig, LrSchedule, Mlp};
use crate::trained::Trained;
use crate::{
    Agent, BatchSampler, DataPart, Metrics, Model, Numbers, PolicyError, TensorMap, TrainingTask,
};

/// What one such algorithm is made of: its configuration, fitted to data.
pub trait Objective: Send + Sized + 'static {
    /// What one update learns from.
    type Batch: Send + 'static;

    /// Everything that learns.
    type Networks<B: Backend>: Module<B>;

    /// Networks that have learned nothing.
    fn networks<B: Backend>(&self, rng: &mut Rng, device: &B::Device) -> Self::Networks<B>;

    /// The networks that have slow copies.
    fn followed<B: Backend>(networks: &Self::Networks<B>) -> Vec<Mlp<B>> {
        let _ = networks;
        vec![]
    }

    /// See [`Agent::sampler`].
    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<Self::Batch>>, PolicyError>;

    /// The losses of the networks on a batch. They are on backend `C`, which is `I` or `I` with autodiff; `lift` makes constants
    /// of what is computed on `I`.
    fn losses<I: Backend, C: Backend<Device = I::Device>>(
        &self,
        batch: &Self::Batch,
        rng: &mut Rng,
        networks: &Self::Networks<C>,
        given: &Given<'_, I, Self::Networks<I>>,
        lift: impl Fn(Tensor<I, 2>) -> Tensor<C, 2>,
    ) -> Losses<C>;

    /// What acting needs.
    fn model<B: Backend>(&self, networks: &Self::Networks<B>) -> Model;
}

/// How the networks learn.
#[derive(Clone, Copy, Debug)]
pub struct JointTraining {
    /// Adam, one for all networks.
    pub optimizer: AdamConfig,
    /// Learning rate over the run.
    pub lr_schedule: LrSchedule,
    /// Share of the new weights in the slow copies per update.
    pub target_rate: f64,
}

/// What losses take as it is.
pub struct Given<'a, B: Backend, N> {
    /// The networks.
    pub networks: &'a N,
    /// The slow copies of [`Objective::followed`], in its order.
    pub slow: &'a [Mlp<B>],
    /// Where they are.
    pub device: &'a B::Device,
}

/// Trains the networks of an objective. The slow copies follow the weights before each step.
pub struct JointAgent<O: Objective, B: AutodiffBackend>
where
    O::Networks<B>: AutodiffModule<B>,
{
    objective: O,
    target_rate: f64,
    trained: Trained<B, O::Networks<B>>,
    slow: SlowCopy<Vec<Mlp<B::InnerBackend>>>,
}

const SLOW: &str = "slow";

impl<O: Objective, B: AutodiffBackend> JointAgent<O, B>
where
    O::Networks<B>: AutodiffModule<B, InnerModule = O::Networks<B::InnerBackend>>,
{
    /// A fresh agent.
    pub fn new(
        objective: O,
        training: JointTraining,
        task: &TrainingTask,
        device: &B::Device,
    ) -> Self {
        let networks = objective.networks::<B>(&mut task.seed.child("init").rng(), device);
        let JointTraining {
            optimizer,
            lr_schedule,
            target_rate,
        } = training;
        Self {
            target_rate,
            slow: SlowCopy::new(O::followed(&networks.valid())),
            trained: Trained::new(networks, optimizer, lr_schedule, task.steps, device),
            objective,
        }
    }

    /// The losses with their graph.
    pub fn losses(&self, batch: &O::Batch, rng: &mut Rng) -> Losses<B> {
        let networks = self.trained.module();
        let given = Given {
            networks: &networks.valid(),
            slow: self.slow.get(),
            device: self.trained.device(),
        };
        let lift = Tensor::<B, 2>::from_inner;
        self.objective.losses(batch, rng, networks, &given, lift)
    }

    /// The networks with autodiff.
    pub fn networks(&self) -> &O::Networks<B> {
        self.trained.module()
    }

    /// The slow copies.
    pub fn slow(&self) -> &[Mlp<B::InnerBackend>] {
        self.slow.get()
    }
}

impl<O: Objective, B: AutodiffBackend> Agent for JointAgent<O, B>
where
    O::Networks<B>: AutodiffModule<B, InnerModule = O::Networks<B::InnerBackend>>,
{
    type Batch = O::Batch;
    type Backend = B::InnerBackend;

    fn sampler(
        &self,
        data: &DataPart,
        batch_size: usize,
    ) -> Result<Box<dyn BatchSampler<O::Batch>>, PolicyError> {
        self.objective.sampler(data, batch_size)
    }

    fn update(&mut self, batch: &O::Batch, rng: &mut Rng) -> Numbers<B::InnerBackend> {
        let losses = self.losses(batch, rng);
        let mut numbers = losses.numbers.inner();
        let followed = O::followed(self.trained.module());
        self.slow.follow(&followed, 1.0 - self.target_rate);
        // The step changes weights in place where nothing else holds them.
        drop(followed);
        self.trained.step(losses.total, &mut numbers);
        numbers
    }

    fn evaluate(&mut self, batch: &O::Batch, rng: &mut Rng) -> Metrics {
        let networks = self.trained.module().valid();
        let given = Given {
            networks: &networks,
            slow: self.slow.get(),
            device: self.trained.device(),
        };
        let losses = self
            .objective
            .losses(batch, rng, &networks, &given, |constant| constant);
        losses.numbers.read()
    }

    fn model(&self) -> Model {
        self.objective.model(&self.trained.module().valid())
    }

    fn state(&self) -> TensorMap {
        let mut state = self.trained.state();
        self.slow.insert_into(&mut state, SLOW);
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let slow = self.slow.loaded(state, SLOW)?;
        self.trained.load_state(state)?;
        self.slow = slow;
        Ok(())
    }
}
