//! Burn modules to named tensors and back.
//!
//! A parameter is named by its path in the module (`layers.0.weight`), never by its `ParamId`:
//! those are drawn at random when a module is made, so they differ between two runs.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::{PolicyError, TensorMap};

/// Adds every float parameter of `module` under `prefix.`.
pub fn insert_module<B: Backend, M: Module<B>>(tensors: &mut TensorMap, prefix: &str, module: &M) {
    module.visit(&mut Saver {
        path: vec![prefix.to_owned()],
        tensors,
    });
}

/// `module` with the parameters that [`insert_module`] saved under `prefix.`; each keeps its device and its
/// `require_grad`.
///
/// # Errors
/// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
pub fn load_module<B: Backend, M: Module<B>>(
    tensors: &TensorMap,
    prefix: &str,
    module: M,
) -> Result<M, PolicyError> {
    let mut loader = Loader {
        path: vec![prefix.to_owned()],
        tensors,
        error: None,
    };
    let module = module.map(&mut loader);
    loader.error.map_or(Ok(module), Err)
}

/// The name of every float parameter by its id, for state that is keyed by id, such as moments.
pub fn parameter_names<B: Backend, M: Module<B>>(module: &M) -> BTreeMap<ParamId, String> {
    let mut names = Names {
        path: vec![],
        names: BTreeMap::new(),
    };
    module.visit(&mut names);
    names.names
}

/// The entries of a tensor, row-major. Waits for the device.
pub fn tensor_values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.into_vec::<f32>()
        .expect("the data was just converted to f32")
}

struct Saver<'a> {
    path: Vec<String>,
    tensors: &'a mut TensorMap,
}

impl<B: Backend> ModuleVisitor<B> for Saver<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let shape = tensor.dims();
        self.tensors
            .insert_f32(self.path.join("."), &shape, tensor_values(tensor));
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

struct Loader<'a> {
    path: Vec<String>,
    tensors: &'a TensorMap,
    error: Option<PolicyError>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.error.is_some() {
            return param;
        }
        let (id, old, mapper) = param.consume();
        let shape = old.dims();
        let new = match self.tensors.get_f32(&self.path.join("."), &shape) {
            Ok(values) => {
                let data = TensorData::new(values.to_vec(), shape);
                Tensor::from_data(data, &old.device()).set_require_grad(old.is_require_grad())
            }
            Err(error) => {
                self.error = Some(error);
                old
            }
        };
        Param::from_mapped_value(id, new, mapper)
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

struct Names {
    path: Vec<String>,
    names: BTreeMap<ParamId, String>,
}

impl<B: Backend> ModuleVisitor<B> for Names {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.names.insert(param.id, self.path.join("."));
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use burn::nn::{Linear, LinearConfig};

    use super::*;

    type B = Autodiff<Flex>;

    #[derive(Module, Debug)]
    struct Net<B: Backend> {
        layers: Vec<Linear<B>>,
        head: Linear<B>,
    }

    fn net() -> Net<B> {
        let device = Default::default();
        Net {
            layers: vec![
                LinearConfig::new(3, 4).init(&device),
                LinearConfig::new(4, 4).init(&device),
            ],
            head: LinearConfig::new(4, 2).with_bias(false).init(&device),
        }
    }

    #[test]
    fn a_module_survives_the_round_trip_and_still_learns() {
        let saved = net();
        let mut tensors = TensorMap::new();
        insert_module(&mut tensors, "net", &saved);
        let names: Vec<_> = tensors.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(
            names,
            [
                "net.head.weight",
                "net.layers.0.bias",
                "net.layers.0.weight",
                "net.layers.1.bias",
                "net.layers.1.weight"
            ]
        );

        let fresh = net();
        let ids: Vec<_> = parameter_names(&fresh).into_keys().collect();
        let loaded = load_module(&tensors, "net", fresh).unwrap();
        assert_eq!(
            parameter_names(&loaded).into_keys().collect::<Vec<_>>(),
            ids
        );
        let mut again = TensorMap::new();
        insert_module(&mut again, "net", &loaded);
        assert_eq!(tensors.first_difference(&again), None);

        let loss = loaded
            .head
            .forward(Tensor::<B, 2>::ones([1, 4], &Default::default()))
            .sum();
        let gradients = loss.backward();
        assert!(loaded.head.weight.val().grad(&gradients).is_some());
    }

    #[test]
    fn a_missing_or_misshapen_parameter_is_named() {
        let mut tensors = TensorMap::new();
        insert_module(&mut tensors, "net", &net());
        let error = load_module(&tensors, "critic", net()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor `critic.layers.0.weight` is missing"
        );
        tensors.insert_f32("net.head.weight", &[2], vec![0.0; 2]);
        let error = load_module(&tensors, "net", net()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor `net.head.weight` is f32 [2] but f32 [4, 2] is expected"
        );
    }
}
