//! Trained walking: a perceptron from posture and direction to torques.
//!
//! Learned online by `telic train-expert`; its weights are plain files, so that data can be collected without training.

use std::sync::OnceLock;

use safetensors::{Dtype, SafeTensors};

use crate::EnvError;

/// The mean of a soft actor-critic's actor (Haarnoja et al. 2018): a perceptron with the tanh form of GELU, whose output is squashed
/// by tanh. What it sees and does is that of the task that taught it: torques that walk, or decisions that [dribble](crate::dribbling).
#[derive(Clone, Debug, PartialEq)]
pub struct Gait {
    layers: Vec<Layer>,
}

/// `x W + b`, with `W` `[inputs, outputs]` row-major.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Gait {
    /// Reads the actor of a soft actor-critic: `actor.layers.N` and `actor.output`, the second half of whose outputs, the standard
    /// deviations, is left out.
    ///
    /// # Errors
    /// [`EnvError::Gait`] that names the tensor.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, EnvError> {
        let bad = |reason: String| EnvError::Gait { reason };
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| bad(format!("not a complete safetensors file: {error}")))?;
        let tensor = |name: &str| {
            let view = file
                .tensor(name)
                .map_err(|_| bad(format!("tensor `{name}` is missing")))?;
            if view.dtype() != Dtype::F32 {
                let found = view.dtype();
                return Err(bad(format!("tensor `{name}` is {found:?}, expected F32")));
            }
            let (chunks, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = chunks
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let value = values[index];
                return Err(bad(format!("entry {index} of tensor `{name}` is {value}")));
            }
            Ok((view.shape().to_vec(), values))
        };
        let mut layers: Vec<Layer> = vec![];
        let mut width = None;
        for index in 0.. {
            let hidden = format!("actor.layers.{index}");
            let last = file.tensor(&format!("{hidden}.weight")).is_err();
            let name = if last {
                "actor.output"
            } else {
                hidden.as_str()
            };
            let (shape, weight) = tensor(&format!("{name}.weight"))?;
            let (bias_shape, bias) = tensor(&format!("{name}.bias"))?;
            let fits = shape.len() == 2
                && shape[0] > 0
                && width.is_none_or(|width| width == shape[0])
                && bias_shape == [shape[1]]
                && (!last || (shape[1] > 0 && shape[1].is_multiple_of(2)));
            if !fits {
                return Err(bad(format!(
                    "`{name}` has weights {shape:?} and biases {bias_shape:?}, expected {}",
                    width.map_or_else(
                        || "[m, n] and [n], with an even n in the output".to_owned(),
                        |width| format!("[{width}, n] and [n], with an even n in the output"),
                    )
                )));
            }
            width = Some(shape[1]);
            let mut layer = Layer { weight, bias };
            if last {
                layer = layer.first_half();
            }
            layers.push(layer);
            if last {
                break;
            }
        }
        Ok(Self { layers })
    }

    /// Length of what it sees.
    pub fn input_dim(&self) -> usize {
        self.layers.first().map_or(0, Layer::inputs)
    }

    /// Length of an action.
    pub fn action_dim(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.bias.len())
    }

    /// Writes the action `[action_dim]` at the mean of the Gaussian, each entry in −1..=1, for an observation `[input_dim]` of the
    /// [task](crate::locomotion) that taught it.
    ///
    /// # Panics
    /// If `input` has another length than [`input_dim`](Self::input_dim).
    pub fn act(&self, input: &[f32], action: &mut [f32]) {
        assert_eq!(input.len(), self.input_dim(), "length of the input");
        let mut layers = self.layers.iter();
        let mut x = layers
            .next()
            .map_or_else(Vec::new, |layer| layer.forward(input));
        for layer in layers {
            x.iter_mut().for_each(|x| *x = gelu(*x));
            x = layer.forward(&x);
        }
        for (action, x) in action.iter_mut().zip(x) {
            *action = libm::tanhf(x);
        }
    }
}

/// Weights that come with the crate, read once.
pub(crate) fn shared(
    slot: &'static OnceLock<Result<Gait, String>>,
    bytes: &[u8],
) -> Result<&'static Gait, String> {
    slot.get_or_init(|| Gait::from_safetensors(bytes).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(Clone::clone)
}

impl Layer {
    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = self.bias.clone();
        for (x, row) in x.iter().zip(self.weight.chunks_exact(self.bias.len())) {
            out.iter_mut().zip(row).for_each(|(out, w)| *out += x * w);
        }
        out
    }

    fn first_half(&self) -> Self {
        let (all, kept) = (self.bias.len(), self.bias.len() / 2);
        let rows = self.weight.chunks_exact(all);
        Self {
            weight: rows.flat_map(|row| row[..kept].to_vec()).collect(),
            bias: self.bias[..kept].to_vec(),
        }
    }
}

fn gelu(x: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6;
    0.5 * x * (1.0 + libm::tanhf(ROOT * (x + 0.044_715 * x * x * x)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::tensor::TensorView;

    use super::*;

    /// Tensors of the given shapes with entries ½, −½, ¼, −¼, …
    fn file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, shape)| {
                (0..shape.iter().product())
                    .flat_map(|k: usize| {
                        let sign = if k.is_multiple_of(2) { 1.0 } else { -1.0 };
                        (sign * 0.5_f32.powi(k as i32 / 2 % 3 + 1)).to_le_bytes()
                    })
                    .collect()
            })
            .collect();
        let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap();
            (name.to_string(), view)
        });
        safetensors::serialize(views, None).unwrap()
    }

    const SMALL: [(&str, &[usize]); 4] = [
        ("actor.layers.0.weight", &[2, 3]),
        ("actor.layers.0.bias", &[3]),
        ("actor.output.weight", &[3, 4]),
        ("actor.output.bias", &[4]),
    ];

    #[test]
    fn an_action_is_that_of_the_layers_one_by_one() {
        let gait = Gait::from_safetensors(&file(&SMALL)).unwrap();
        assert_eq!((gait.input_dim(), gait.action_dim()), (2, 2));
        let mut action = [0.0; 2];
        gait.act(&[0.3, -0.7], &mut action);
        // Weights [[½, −½, ¼], [−¼, ⅛, −⅛]], biases (½, −½, ¼); of the output's four columns the first two count.
        let hidden = [
            0.5 * 0.3 + 0.25 * 0.7 + 0.5,
            -0.5 * 0.3 - 0.125 * 0.7 - 0.5,
            0.25 * 0.3 + 0.125 * 0.7 + 0.25,
        ]
        .map(|x: f64| {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())
        });
        // Rows [½, −½, …], [⅛, −⅛, …], [¼, −¼, …].
        let sum = 0.5 * hidden[0] + 0.125 * hidden[1] + 0.25 * hidden[2] + 0.5;
        for (found, expected) in action.into_iter().zip([sum.tanh(), (-sum).tanh()]) {
            assert!(
                (f64::from(found) - expected).abs() < 1e-6,
                "{found}, not {expected}"
            );
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_named() {
        let error = |tensors: &[(&str, &[usize])]| {
            Gait::from_safetensors(&file(tensors))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error(&SMALL[..3]),
            "weights of a gait: tensor `actor.output.bias` is missing"
        );
        let mut wrong = SMALL;
        wrong[2] = ("actor.output.weight", &[5, 4]);
        assert_eq!(
            error(&wrong),
            "weights of a gait: `actor.output` has weights [5, 4] and biases [4], expected [3, n] and [n], with an even n in the output"
        );
        let mut odd = SMALL;
        odd[2] = ("actor.output.weight", &[3, 3]);
        odd[3] = ("actor.output.bias", &[3]);
        assert!(error(&odd).contains("`actor.output`"));
    }

    proptest! {
        #[test]
        fn damaged_files_are_errors_or_gaits(at in 0usize..400, value: u8, keep in 0usize..400) {
            let whole = file(&SMALL);
            let mut bytes = whole.clone();
            let at = at % bytes.len();
            bytes[at] = value;
            for bytes in [&bytes[..], &whole[..keep.min(whole.len() - 1)]] {
                if let Ok(gait) = Gait::from_safetensors(bytes) {
                    let mut action = vec![0.0; gait.action_dim()];
                    gait.act(&vec![1.0; gait.input_dim()], &mut action);
                    prop_assert!(action.iter().all(|action| action.abs() <= 1.0));
                }
            }
        }
    }
}
