//! The actor of the baselines: a diagonal Gaussian with a fixed standard deviation around a perceptron of observation and goal.
//!
//! ```text
//! π(a | s, g) = N(μ(s, g), std²)
//! −log π(a | s, g) = |a − μ|² / (2 std²) + A ln std + (A / 2) ln 2π
//! ```
//!
//! Acting takes the mean, plus `temperature · std` times noise, cut off at −1 and 1. A policy that has learned a deviation for each entry
//! of an action uses those.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use telic_seed::{Rng, Seed};

use crate::config_table;
use crate::inputs::Inputs;
use crate::module_state::{load_module, tensor_values};
use crate::nn::{Mlp, MlpConfig};
use crate::problems::Validate;
use crate::search::{PROMPT, Search, SearchConfig};
use crate::tables::Table;
use crate::{Model, Policy, PolicyError, Problems};

/// The table `actor`. The defaults are those of OGBench for states (Park et al. 2025).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianConfig {
    /// The network of the mean: three layers of 512, tanh form of GELU, no layer norm.
    pub network: MlpConfig,
    /// Factor on the variance of the initial weights of the output layer.
    pub output_scale: f32,
    /// Standard deviation of the Gaussian, in normalised action units.
    pub std: f64,
}

impl Default for GaussianConfig {
    fn default() -> Self {
        Self {
            network: MlpConfig::default(),
            output_scale: 0.01,
            std: 1.0,
        }
    }
}

impl Validate for GaussianConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.nested("network", |problems| self.network.validate(problems));
        for (key, value) in [
            ("output_scale", f64::from(self.output_scale)),
            ("std", self.std),
        ] {
            let holds = value > 0.0 && value.is_finite();
            problems.check(holds, key, value, "a positive number");
        }
    }
}

impl GaussianConfig {
    /// The network of the mean: observation and goal side by side → action.
    pub fn network<B: Backend>(
        &self,
        inputs: &Inputs,
        rng: &mut Rng,
        device: &B::Device,
    ) -> Mlp<B> {
        let (input, output) = (2 * inputs.observation_dim(), inputs.action_dim());
        Mlp::new(&self.network, input, output, self.output_scale, rng, device)
    }

    /// The mean in a saved model, under [`ACTOR`].
    ///
    /// # Errors
    /// [`PolicyError::MissingTensor`], [`PolicyError::TensorShape`].
    pub fn load_mean<B: Backend>(
        &self,
        model: &Model,
        device: &B::Device,
    ) -> Result<Head<B>, PolicyError> {
        let inputs = Inputs::of_model(model);
        let actor = self.network::<B>(&inputs, &mut Seed::new(0).rng(), device);
        let actor = load_module(&model.weights, ACTOR, actor)?;
        Ok(Box::new(move |pairs| actor.forward(pairs)))
    }

    /// Mean of −log π for a mean squared error per action entry.
    pub fn negative_log_prob(&self, error: f64, action_dim: usize) -> f64 {
        let std = self.std;
        action_dim as f64
            * (error / (2.0 * std * std) + std.ln() + 0.5 * std::f64::consts::TAU.ln())
    }

    /// −log π for squared errors, averaged over the entries of an action.
    pub fn negative_log_probs<B: Backend, const D: usize>(
        &self,
        errors: Tensor<B, D>,
        action_dim: usize,
    ) -> Tensor<B, D> {
        let constant = self.negative_log_prob(0.0, action_dim);
        errors * (self.negative_log_prob(1.0, action_dim) - constant) + constant
    }

    /// The part of the mean of −log π that has a gradient, for a mean squared error per action entry.
    pub fn imitation_loss<B: Backend>(
        &self,
        error: Tensor<B, 1>,
        action_dim: usize,
    ) -> Tensor<B, 1> {
        error * (action_dim as f64 / (2.0 * self.std * self.std))
    }
}

/// A standard deviation per action entry that is learned and the same in all states; its ln is cut off at −5 and 2.
#[derive(Module, Debug)]
pub struct LearnedDeviation<B: Backend> {
    /// ln of the deviations, `[action_dim]`.
    log: Param<Tensor<B, 1>>,
}

impl<B: Backend> LearnedDeviation<B> {
    /// 1 in each entry.
    pub fn new(action_dim: usize, device: &B::Device) -> Self {
        Self {
            log: Param::from_tensor(Tensor::zeros([action_dim], device)),
        }
    }

    fn log_std(&self) -> Tensor<B, 1> {
        self.log.val().clamp(-5.0, 2.0)
    }

    /// `−log π` per row, `[rows, 1]`, for differences to the mean, `[rows, action_dim]`.
    pub fn negative_log_prob(&self, error: Tensor<B, 2>) -> Tensor<B, 2> {
        let dim = error.dims()[1] as f64;
        let log_std = self.log_std().unsqueeze::<2>();
        let scaled = error * log_std.clone().neg().exp();
        let squares = (scaled.clone() * scaled).sum_dim(1) / 2.0;
        squares + log_std.sum_dim(1) + 0.5 * dim * std::f64::consts::TAU.ln()
    }

    /// The deviations, `[action_dim]`.
    pub fn values(&self) -> Vec<f64> {
        let values = tensor_values(self.log_std().exp());
        values.into_iter().map(f64::from).collect()
    }
}

/// Settings of inference, saved with the policy and changed by `--set inference.…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianInference {
    /// Factor on the standard deviation; 0 acts with the mean, as OGBench evaluates.
    pub temperature: f64,
}

impl Validate for GaussianInference {
    fn validate(&self, problems: &mut Problems) {
        let holds = self.temperature >= 0.0 && self.temperature.is_finite();
        problems.check(
            holds,
            "temperature",
            self.temperature,
            "0 or a positive number",
        );
    }
}

impl GaussianInference {
    /// The settings of a model.
    pub fn settings(&self) -> toml::Table {
        let mut settings = toml::Table::new();
        settings.insert(INFERENCE.into(), config_table::to_table(self).into());
        settings
    }
}

/// Where the mean lies in a model.
pub const ACTOR: &str = "actor";
const INFERENCE: &str = "inference";

/// What is computed from observation and goal side by side, `[rows, 2 · observation_dim]`.
pub type Head<B> = Box<dyn Fn(Tensor<B, 2>) -> Tensor<B, 2> + Send>;

/// Distances `[rows, 1]` of candidates from the sub-goals of observation and goal side by side, `[rows, observation_dim]` and
/// `[rows, 2 · observation_dim]`.
pub type SubgoalHead<B> = Box<dyn Fn(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2> + Send>;

/// Observation and goal, from side by side.
pub fn halves<B: Backend>(pairs: Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
    let [rows, width] = pairs.dims();
    let goals = pairs.clone().slice([0..rows, width / 2..width]);
    [pairs.slice([0..rows, 0..width / 2]), goals]
}

/// Acts with the mean of the Gaussian, or near it.
pub struct GaussianPolicy<B: Backend> {
    inputs: Inputs,
    /// `[rows, action_dim]`.
    mean: Head<B>,
    /// `[action_dim]`.
    deviations: Vec<f64>,
    /// `[rows, 1]`; `None` if there is no value function.
    value: Option<Head<B>>,
    /// See [`with_subgoals`](Self::with_subgoals).
    subgoal: Option<SubgoalHead<B>>,
    /// See [`searching`](Self::searching).
    search: Option<Search<B>>,
    inference: GaussianInference,
    rows: usize,
    device: B::Device,
}

impl<B: Backend> GaussianPolicy<B> {
    /// A policy of these networks, with the inputs and settings of a saved model.
    ///
    /// # Errors
    /// [`PolicyError::Settings`].
    pub fn new(
        config: &GaussianConfig,
        model: &Model,
        mean: Head<B>,
        value: Option<Head<B>>,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        Self::of_parts(config, model, mean, value, None, device)
    }

    /// The same, which searches where its settings say so.
    ///
    /// # Errors
    /// [`PolicyError::Settings`].
    pub fn searching(
        config: &GaussianConfig,
        model: &Model,
        mean: Head<B>,
        value: Head<B>,
        search: Search<B>,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        Self::of_parts(config, model, mean, Some(value), Some(search), device)
    }

    fn of_parts(
        config: &GaussianConfig,
        model: &Model,
        mean: Head<B>,
        value: Option<Head<B>>,
        search: Option<Search<B>>,
        device: &B::Device,
    ) -> Result<Self, PolicyError> {
        let mut policy = Self {
            inputs: Inputs::of_model(model),
            mean,
            deviations: vec![config.std; model.data.action_dim],
            value,
            subgoal: None,
            search,
            inference: GaussianInference::default(),
            rows: 1,
            device: device.clone(),
        };
        policy.configure(&model.settings)?;
        Ok(policy)
    }

    /// Standard deviations of each entry of an action in normalised units, `[action_dim]`, in place of the configured one.
    ///
    /// # Panics
    /// If there are not as many as an action has entries.
    #[must_use]
    pub fn with_deviations(mut self, deviations: Vec<f64>) -> Self {
        assert_eq!(deviations.len(), self.inputs.action_dim());
        self.deviations = deviations;
        self
    }

    /// Heads for sub-goals.
    #[must_use]
    pub fn with_subgoals(mut self, subgoal: SubgoalHead<B>) -> Self {
        self.subgoal = Some(subgoal);
        self
    }

    /// What the networks see of observations and goals, side by side.
    fn see(&self, observations: ArrayView2<'_, f32>, goals: ArrayView2<'_, f32>) -> Tensor<B, 2> {
        // A product of one row has another order of summation than the same row among others.
        let rows = observations.nrows().max(2);
        let (width, features) = (self.inputs.observation_dim(), &self.inputs.features);
        let (mut seen, mut seen_goals) = (vec![0.0; rows * width], vec![0.0; rows * width]);
        for (row, (seen, goal)) in seen
            .chunks_exact_mut(width)
            .zip(seen_goals.chunks_exact_mut(width))
            .enumerate()
        {
            let row = row % observations.nrows();
            features.observe(&observations.row(row).to_vec(), seen);
            features.observe_goal(&goals.row(row).to_vec(), goal);
        }
        Table::side_by_side(rows, &[&seen, &seen_goals]).upload(&self.device)
    }
}

impl<B: Backend> Policy for GaussianPolicy<B> {
    fn observation_dim(&self) -> usize {
        self.inputs.data.observation_dim
    }

    fn action_dim(&self) -> usize {
        self.inputs.data.action_dim
    }

    fn reset(&mut self, rows: usize) {
        self.rows = rows;
    }

    fn reset_row(&mut self, _row: usize) {}

    fn act(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
        rngs: &mut [Rng],
        actions: &mut Array2<f32>,
    ) -> Result<(), PolicyError> {
        let (inputs, outputs) = (
            vec![self.rows, self.observation_dim()],
            vec![self.rows, self.action_dim()],
        );
        for (what, found, expected) in [
            ("observations", observations.shape(), &inputs),
            ("goals", goals.shape(), &inputs),
            ("rngs", &[rngs.len()][..], &vec![self.rows]),
            ("actions", actions.shape(), &outputs),
        ] {
            check_shape(what, found, expected)?;
        }
        check_finite("observations", observations)?;
        check_finite("goals", goals)?;
        if self.rows == 0 {
            return Ok(());
        }
        let mut pairs = self.see(observations, goals);
        if let Some(search) = &mut self.search {
            pairs = search.redirect(pairs);
        }
        let means = tensor_values((self.mean)(pairs));
        let temperature = self.inference.temperature;
        for ((mut row, mean), rng) in actions
            .rows_mut()
            .into_iter()
            .zip(means.chunks_exact(self.inputs.data.action_dim))
            .zip(rngs)
        {
            let mut action = mean.to_vec();
            if temperature > 0.0 {
                for (a, std) in action.iter_mut().zip(&self.deviations) {
                    let noise: f64 = StandardNormal.sample(rng);
                    *a += (temperature * std * noise) as f32;
                }
            }
            self.inputs.actions.invert(&mut action);
            row.iter_mut()
                .zip(action)
                .for_each(|(out, action)| *out = action.clamp(-1.0, 1.0));
        }
        Ok(())
    }

    fn settings(&self) -> toml::Table {
        let mut settings = self.inference.settings();
        if let Some(search) = &self.search {
            settings.insert(
                PROMPT.into(),
                config_table::to_table(search.config()).into(),
            );
        }
        settings
    }

    fn configure(&mut self, overrides: &toml::Table) -> Result<(), PolicyError> {
        #[derive(Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Settings {
            inference: GaussianInference,
        }

        #[derive(Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct SearchSettings {
            prompt: SearchConfig,
        }

        let mut table = self.settings();
        config_table::merge(&mut table, overrides);
        let mut problems = Problems::new();
        let mut searched = None;
        if let Some(search) = &self.search {
            let prompt: toml::Table = table.remove_entry(PROMPT).into_iter().collect();
            let settings: SearchSettings = config_table::from_table(&prompt, &mut problems);
            search.check(&settings.prompt, &mut problems);
            searched = Some(settings.prompt);
        }
        let settings: Settings = config_table::from_table(&table, &mut problems);
        problems.nested(INFERENCE, |problems| settings.inference.validate(problems));
        problems.into_result().map_err(PolicyError::Settings)?;
        self.inference = settings.inference;
        if let (Some(search), Some(config)) = (&mut self.search, searched) {
            search.configure(config);
        }
        Ok(())
    }

    fn values(
        &mut self,
        observations: ArrayView2<'_, f32>,
        goals: ArrayView2<'_, f32>,
    ) -> Result<Option<Array1<f32>>, PolicyError> {
        let Some(value) = &self.value else {
            return Ok(None);
        };
        let expected = vec![observations.nrows(), self.observation_dim()];
        check_shape("observations", observations.shape(), &expected)?;
        check_shape("goals", goals.shape(), &expected)?;
        check_finite("observations", observations)?;
        check_finite("goals", goals)?;
        if observations.nrows() == 0 {
            return Ok(Some(Array1::zeros(0)));
        }
        let mut values = tensor_values(value(self.see(observations, goals)));
        values.truncate(observations.nrows());
        Ok(Some(Array1::from_vec(values)))
    }

    fn subgoal_distances(
        &mut self,
        observation: ArrayView1<'_, f32>,
        goal: ArrayView1<'_, f32>,
        candidates: ArrayView2<'_, f32>,
    ) -> Result<Option<Array1<f32>>, PolicyError> {
        if self.subgoal.is_none() && self.search.is_none() {
            return Ok(None);
        }
        check_subgoals(observation, goal, candidates, self.observation_dim())?;
        if candidates.nrows() == 0 {
            return Ok(Some(Array1::zeros(0)));
        }
        let repeated = |row: ArrayView1<'_, f32>| {
            let rows = row.broadcast(candidates.dim());
            rows.expect("one row fits any number of rows").to_owned()
        };
        let pairs = self.see(repeated(observation).view(), repeated(goal).view());
        let [as_states, as_goals] = halves(self.see(candidates, candidates));
        let distances = match (&self.subgoal, &self.search) {
            (Some(subgoal), _) => Some(tensor_values(subgoal(pairs, as_goals))),
            (None, Some(search)) => search.steps_to_target(pairs, as_states),
            (None, None) => None,
        };
        Ok(distances.map(|mut distances| {
            distances.truncate(candidates.nrows());
            Array1::from_vec(distances)
        }))
    }
}

/// An error if a table has a number that is NaN or infinite: networks could make an action of it that looks like any other.
pub(crate) fn check_finite(
    what: &'static str,
    table: ArrayView2<'_, f32>,
) -> Result<(), PolicyError> {
    match table.indexed_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some(((row, entry), value)) => Err(PolicyError::Data {
            fact: format!("`{what}` has {value} in row {row}, entry {entry}"),
            expected: "finite numbers".to_owned(),
        }),
    }
}

/// An error if what a sub-goal is asked for with is not made of finite states of this width.
pub(crate) fn check_subgoals(
    observation: ArrayView1<'_, f32>,
    goal: ArrayView1<'_, f32>,
    candidates: ArrayView2<'_, f32>,
    width: usize,
) -> Result<(), PolicyError> {
    check_shape("observation", observation.shape(), &[width])?;
    check_shape("goal", goal.shape(), &[width])?;
    let expected = [candidates.nrows(), width];
    check_shape("candidates", candidates.shape(), &expected)?;
    check_finite("observation", observation.insert_axis(Axis(0)))?;
    check_finite("goal", goal.insert_axis(Axis(0)))?;
    check_finite("candidates", candidates)
}

/// An error if an array has another shape than it should.
pub(crate) fn check_shape(
    what: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), PolicyError> {
    if found == expected {
        Ok(())
    } else {
        Err(PolicyError::Shape {
            what,
            found: found.to_vec(),
            expected: expected.to_vec(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A policy of states of one entry answers for finite states what is asked about sub-goals, and
    /// refuses everything else.
    pub(crate) fn check_asked_for_subgoals(policy: &mut dyn Policy) {
        let (state, wide, broken) = ([0.5_f32], [0.5_f32, 0.5], [f32::NAN]);
        let (two, none) = (ndarray::array![[0.1_f32], [0.9]], Array2::zeros((0, 1)));
        let (wide_two, broken_two) = (
            Array2::zeros((2, 2)),
            ndarray::array![[0.1], [f32::INFINITY]],
        );
        let mut ask = |observation: &[f32], goal: &[f32], candidates: &Array2<f32>| {
            policy.subgoal_distances(
                ArrayView1::from(observation),
                ArrayView1::from(goal),
                candidates.view(),
            )
        };
        for candidates in [&two, &none] {
            let found = ask(&state, &state, candidates).unwrap().unwrap();
            assert_eq!(found.len(), candidates.nrows());
            assert!(found.iter().all(|distance| distance.is_finite()));
        }
        let cases: [(&[f32], &[f32], &Array2<f32>, &str); 6] = [
            (&wide, &state, &two, "`observation` has shape [2]"),
            (&state, &wide, &two, "`goal` has shape [2]"),
            (&state, &state, &wide_two, "`candidates` has shape [2, 2]"),
            (&broken, &state, &two, "`observation` has NaN in row 0"),
            (&state, &broken, &none, "`goal` has NaN in row 0"),
            (&state, &state, &broken_two, "`candidates` has inf in row 1"),
        ];
        for (observation, goal, candidates, expected) in cases {
            let error = ask(observation, goal, candidates).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn log_probabilities_match_published_values() {
        // μ = (0.1, −0.2), a = (0.3, 0.4), std 1.
        let unit = GaussianConfig::default();
        let error = f64::midpoint(0.2_f64.powi(2), 0.6_f64.powi(2));
        assert!((unit.negative_log_prob(error, 2) - 2.037_877_1).abs() < 1e-7);
        for (action_dim, constant) in [
            (2, 1.837_877),
            (5, 4.594_693),
            (8, 7.351_508),
            (21, 19.297_709),
        ] {
            assert!((unit.negative_log_prob(0.0, action_dim) - constant).abs() < 1e-6);
        }
        // At half the standard deviation the density at the mean is twice as high per entry.
        let half = GaussianConfig {
            std: 0.5,
            ..GaussianConfig::default()
        };
        let gain = unit.negative_log_prob(0.0, 3) - half.negative_log_prob(0.0, 3);
        assert!((gain - 3.0 * 2.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn noise_is_as_wide_as_each_entry_of_an_action_says() {
        let data = crate::synthetic_dataset(1, 2, 1, 3).unwrap();
        let inputs = Inputs {
            data: crate::DataSpec::of(&data),
            features: Default::default(),
            actions: Default::default(),
        };
        let settings = GaussianInference { temperature: 1.0 }.settings();
        let model = inputs.model(None, settings, crate::TensorMap::new());
        let device = Default::default();
        let mean: Head<burn::backend::Flex> = Box::new(move |pairs| pairs * 0.0);
        let config = GaussianConfig::default();
        let policy = GaussianPolicy::new(&config, &model, mean, None, &device).unwrap();
        let mut policy = policy.with_deviations(vec![0.02, 0.2]);
        let rows = 4000;
        let mut rngs: Vec<Rng> = (0..rows).map(|row| Seed::new(row).rng()).collect();
        let mut actions = Array2::zeros((rows as usize, 2));
        let zeros = Array2::zeros((rows as usize, 1));
        policy.reset(rows as usize);
        policy
            .act(zeros.view(), zeros.view(), &mut rngs, &mut actions)
            .unwrap();
        let found = actions.std_axis(Axis(0), 0.0);
        assert!((found[0] - 0.02).abs() < 0.001, "{found}");
        assert!((found[1] - 0.2).abs() < 0.01, "{found}");
    }

    #[test]
    fn sub_goals_are_asked_for_with_finite_states() {
        let data = crate::synthetic_dataset(1, 1, 1, 3).unwrap();
        let inputs = Inputs {
            data: crate::DataSpec::of(&data),
            features: Default::default(),
            actions: Default::default(),
        };
        let settings = GaussianInference::default().settings();
        let model = inputs.model(None, settings, crate::TensorMap::new());
        let mean: Head<burn::backend::Flex> = Box::new(|pairs| pairs);
        let config = GaussianConfig::default();
        let policy = GaussianPolicy::new(&config, &model, mean, None, &Default::default()).unwrap();
        let mut policy = policy.with_subgoals(Box::new(|_, candidates| candidates));
        check_asked_for_subgoals(&mut policy);
    }

    #[test]
    fn learned_deviations_match_published_values() {
        let device = Default::default();
        let of = |log: &[f32], error: &[f32]| {
            let data =
                |values: &[f32]| burn::tensor::TensorData::new(values.to_vec(), [values.len()]);
            let deviation = LearnedDeviation::<burn::backend::Flex> {
                log: Param::from_tensor(Tensor::from_data(data(log), &device)),
            };
            let error = Tensor::<burn::backend::Flex, 1>::from_data(data(error), &device);
            f64::from(tensor_values(deviation.negative_log_prob(error.unsqueeze()))[0])
        };
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
        };
        near(of(&[0.0, 0.0], &[0.3, -0.4]), 1.962_877);
        near(of(&[-1.0, -1.0], &[0.3, -0.4]), 0.761_509);
        // The third is cut off at −5.
        let error = [0.1 - 0.291_312_6, -0.4 + 0.604_367_8, 0.9 - 0.833_654_6];
        near(of(&[0.0, -0.5, -5.5], &error), 45.808_952);
        near(of(&[0.0; 3], &error), 2.798_199_8);
    }
}
