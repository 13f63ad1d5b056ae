//! Operations with hand-written CPU kernels.
//!
//! The flex backend makes one pass over memory per element-wise operation, on one core, and computes `exp` and `erf` one
//! number at a time; with widths of a few hundred those passes cost more than the matrix products. Each operation here
//! is one pass forward and one backward, on all cores, in vector instructions chosen at run time.
//!
//! Every function takes tensors of any backend. On [`Flex`] and on `Autodiff<Flex>` with `f32` it runs its kernel, elsewhere
//! the composition of burn operations that defines it; a test holds the two together.
//!
//! Rows are independent: a row gives the same bits alone and among others. Sums over rows add up blocks of a fixed size in
//! order, so bits do not depend on the number of threads either.

mod activation;
mod attention;
mod dropout;
mod few_rows;
mod interval_union;
mod norm;
mod product;
mod residual;
mod slices;

use std::any::Any;
use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;

pub use activation::{Activation, bias_activation, tanh};
pub use attention::{AttentionShape, causal_attention};
pub use dropout::Dropout;
pub use interval_union::interval_union;
pub use norm::{bias_activation_norm, layer_norm};
pub use product::{mixed_product, product};
pub use residual::bias_residual;
pub(crate) use slices::{for_blocks, simd, sum_squares};

/// One operation of `N` tensors on flex, with its gradient.
trait Kernel<const N: usize>: Clone + Debug + Send + 'static {
    /// What the gradient needs of the inputs.
    type Saved: Clone + Debug + Send + 'static;

    /// Keeps what [`backward`](Self::backward) needs; called before [`forward`](Self::forward), and only if a gradient is wanted.
    fn save(&self, inputs: &[FlexTensor; N]) -> Self::Saved;

    /// The result. Inputs that nobody else holds may be overwritten.
    fn forward(&self, inputs: [FlexTensor; N]) -> FlexTensor;

    /// The gradient of each input for the gradient of the result. What is not `wanted` may be `None`.
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// Runs a kernel if the backend is flex or autodiff on flex and all inputs are `f32`; hands the inputs back otherwise.
fn run<B: Backend, K: Kernel<N>, const N: usize>(
    kernel: &K,
    inputs: [FloatTensor<B>; N],
) -> Result<FloatTensor<B>, [FloatTensor<B>; N]> {
    type Tracked = Autodiff<Flex, NoCheckpointing>;
    let inputs = match cast::<_, [FlexTensor; N]>(inputs) {
        Ok(inputs) if inputs.iter().all(|input| input.dtype() == DType::F32) => {
            let output = kernel.forward(inputs.map(|input| input.to_contiguous()));
            return Ok(cast(output)
                .unwrap_or_else(|_| unreachable!("inputs and output are of one backend")));
        }
        Ok(inputs) => {
            return Err(
                cast(inputs).unwrap_or_else(|_| unreachable!("the cast just went the other way"))
            );
        }
        Err(inputs) => inputs,
    };
    let inputs = cast::<_, [FloatTensor<Tracked>; N]>(inputs)?;
    if inputs
        .iter()
        .any(|input| input.primitive.dtype() != DType::F32)
    {
        return Err(
            cast(inputs).unwrap_or_else(|_| unreachable!("the cast just went the other way"))
        );
    }
    let nodes = std::array::from_fn(|i| inputs[i].node.clone());
    // While one graph is walked backwards, the parts of all others that nobody refers to are freed. On another thread that may
    // be while the kernel runs, so what the output will refer to has to be held until it does.
    let held: [_; N] = std::array::from_fn(|i| inputs[i].rc.clone());
    let primitives = inputs.map(|input| input.primitive.to_contiguous());
    let output = match Step(PhantomData::<K>)
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prepared) => {
            let saved = kernel.save(&primitives);
            prepared.finish((kernel.clone(), saved), kernel.forward(primitives))
        }
        OpsKind::UnTracked(prepared) => prepared.finish(kernel.forward(primitives)),
    };
    drop(held);
    Ok(cast::<FloatTensor<Tracked>, _>(output)
        .unwrap_or_else(|_| unreachable!("inputs and output are of one backend")))
}

/// The backward step of a kernel in burn's graph.
#[derive(Debug)]
struct Step<K>(PhantomData<K>);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Step<K> {
    type State = (K, K::Saved);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (kernel, saved) = ops.state;
        let wanted = std::array::from_fn(|i| ops.parents[i].is_some());
        let computed = kernel.backward(saved, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(computed) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Whether tensors of the backend are in the memory of the host, on flex.
pub(crate) fn is_flex<B: Backend>() -> bool {
    use std::any::TypeId;
    let primitive = TypeId::of::<FloatTensor<B>>();
    primitive == TypeId::of::<FloatTensor<Flex>>()
        || primitive == TypeId::of::<FloatTensor<Autodiff<Flex>>>()
}

/// `value` as a `U`, if that is its type.
fn cast<T: 'static, U: 'static>(value: T) -> Result<U, T> {
    let mut slot = Some(value);
    if let Some(slot) = (&mut slot as &mut dyn Any).downcast_mut::<Option<U>>() {
        return Ok(slot.take().expect("the slot was just filled"));
    }
    Err(slot.expect("the slot was just filled"))
}

/// The primitive of a float tensor.
fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// The tensor of a primitive.
fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The flex tensor behind an `f32` tensor of the flex backend; hands the tensor back for any other.
pub(crate) fn into_flex<B: Backend, const D: usize>(
    value: Tensor<B, D>,
) -> Result<FlexTensor, Tensor<B, D>> {
    match cast::<FloatTensor<B>, FlexTensor>(primitive(value)) {
        Ok(flex) if flex.dtype() == DType::F32 => Ok(flex.to_contiguous()),
        Ok(flex) => {
            Err(tensor(cast(flex).unwrap_or_else(|_| {
                unreachable!("the cast just went the other way")
            })))
        }
        Err(other) => Err(tensor(other)),
    }
}

/// Inverse of [`into_flex`].
pub(crate) fn from_flex<B: Backend, const D: usize>(flex: FlexTensor) -> Tensor<B, D> {
    tensor(cast(flex).unwrap_or_else(|_| unreachable!("only called on what into_flex gave")))
}

#[cfg(test)]
mod tests;
