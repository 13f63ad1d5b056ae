//! A network in training: its weights, its optimiser, its schedule, and how far it is.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use crate::module_state::{insert_module, load_module};
use crate::nn::{Adam, AdamConfig, LrSchedule};
use crate::{Numbers, PolicyError, TensorMap};

/// All networks of an agent that learn, as one module with one optimiser.
pub struct Trained<B: AutodiffBackend, M: AutodiffModule<B>> {
    /// `None` only inside a step.
    module: Option<M>,
    adam: Adam<B::InnerBackend>,
    optimizer: AdamConfig,
    schedule: LrSchedule,
    /// Updates of the whole run.
    total_updates: u64,
    updates: u64,
    device: B::Device,
}

/// Where the weights lie in a state, and in a model that has nothing but them.
pub const NETWORK: &str = "network";
const LIVES: &str = "the module is only away during a step";

impl<B: AutodiffBackend, M: AutodiffModule<B>> Trained<B, M> {
    /// A module that has made no step.
    pub fn new(
        module: M,
        optimizer: AdamConfig,
        schedule: LrSchedule,
        total_updates: u64,
        device: &B::Device,
    ) -> Self {
        Self {
            module: Some(module),
            adam: Adam::new(optimizer),
            optimizer,
            schedule,
            total_updates,
            updates: 0,
            device: device.clone(),
        }
    }

    /// The module with autodiff.
    pub fn module(&self) -> &M {
        self.module.as_ref().expect(LIVES)
    }

    /// Where it is.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// Steps made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One step down the gradient of `loss`. Adds `optimizer/gradient_norm` and `optimizer/lr`.
    pub fn step(&mut self, loss: Tensor<B, 1>, numbers: &mut Numbers<B::InnerBackend>) {
        let module = self.module.take().expect(LIVES);
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        // The graph holds the weights; without it they are updated in place.
        drop(loss);
        let lr = self.optimizer.lr * self.schedule.factor(self.updates, self.total_updates);
        let (module, gradient_norm) = self.adam.step(lr, module, gradients);
        self.module = Some(module);
        self.updates += 1;
        numbers.insert("optimizer/gradient_norm", gradient_norm);
        numbers.insert("optimizer/lr", lr);
    }

    /// Everything that the next step depends on.
    pub fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        insert_module(&mut state, NETWORK, self.module());
        state.insert_map("adam", self.adam.state());
        state.insert_u64("updates", self.updates);
        state
    }

    /// Takes over a saved [`state`](Self::state).
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_state(&mut self, state: &TensorMap) -> Result<(), PolicyError> {
        let module = load_module(state, NETWORK, self.module().clone())?;
        let updates = state.get_u64("updates")?;
        self.adam
            .load_state(&state.sub_map("adam"), &module, &self.device)?;
        self.module = Some(module);
        self.updates = updates;
        Ok(())
    }
}
