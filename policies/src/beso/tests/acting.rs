//! Policies with contexts, guidance and settings.

use super::*;

const SETTINGS: [&str; 7] = [
    "[sampler]\nkind = 'ddim'",
    "[sampler]\nkind = 'euler_ancestral'\nhistory = 'reference'",
    "[sampler]\nkind = 'heun'\nguidance = 0.0",
    "[sampler]\nkind = 'dpm_adaptive'\nhistory = 'renoise'",
    "[sampler]\nkind = 'lms'\nsteps = 5\nschedule = 'karras'",
    "[sampler]\nkind = 'dpmpp_2m_sde'\nhistory = 'reference'\nguidance = 1.5",
    "[sampler]\nkind = 'ddim'\nsteps = 1\nhistory = 'reference'",
];
/// Of a policy that learned from clean histories.
const CLAMPED: [&str; 1] = ["[sampler]\nkind = 'dpmpp_sde'\nhistory = 'clamp'\nguidance = 2.0"];

/// Rows start their episodes at different times, so their contexts differ in length.
#[test]
fn a_row_acts_the_same_alone_and_among_others() {
    assert_rows_are_independent(policy(), &SETTINGS);
    let of_mlp: Vec<&str> = SETTINGS
        .into_iter()
        .filter(|settings| !settings.contains("reference"))
        .collect();
    assert_rows_are_independent(policy_of(&small_mlp()), &of_mlp);
    for config in [small(), small_mlp()] {
        assert_rows_are_independent(policy_of(&clean(config)), &CLAMPED);
    }
}

fn assert_rows_are_independent(mut policy: BesoPolicy<Flex>, settings: &[&str]) {
    for settings in settings {
        set(&mut policy, settings);
        let rows = 5;
        let restart = |row: usize, step: usize| row > 0 && step == row;
        let mut together = Vec::new();
        policy.reset(rows);
        let mut rngs = streams(rows);
        for step in 0..6 {
            (0..rows)
                .filter(|&row| restart(row, step))
                .for_each(|row| policy.reset_row(row));
            let (observations, goals) = (draw(rows, 3, step as u64), draw(rows, 3, 100));
            let mut actions = Array2::zeros((rows, 2));
            policy
                .act(observations.view(), goals.view(), &mut rngs, &mut actions)
                .unwrap();
            together.push(actions);
        }
        for row in 0..rows {
            policy.reset(1);
            let mut rngs = vec![streams(rows)[row].clone()];
            for (step, together) in together.iter().enumerate() {
                if restart(row, step) {
                    policy.reset_row(0);
                }
                let (observations, goals) = (draw(rows, 3, step as u64), draw(rows, 3, 100));
                let mut actions = Array2::zeros((1, 2));
                let part = s![row..=row, ..];
                policy
                    .act(
                        observations.slice(part),
                        goals.slice(part),
                        &mut rngs,
                        &mut actions,
                    )
                    .unwrap();
                assert_eq!(
                    actions.row(0),
                    together.row(row),
                    "{settings}, row {row}, step {step}"
                );
            }
        }
    }
}

/// From outside of any pool an action wakes all threads; inside of one it keeps to those.
#[test]
fn an_action_is_the_same_on_any_number_of_threads() {
    let mut config = small();
    config.network.embed_dim = 128;
    let mut policy =
        BesoPolicy::<Flex>::load(&config, &agent(&config).model(), &Default::default()).unwrap();
    let (observations, goals) = (draw(4, 3, 1), draw(4, 3, 2));
    let mut act = || {
        policy.reset(4);
        let (mut rngs, mut actions) = (streams(4), Array2::zeros((4, 2)));
        policy
            .act(observations.view(), goals.view(), &mut rngs, &mut actions)
            .unwrap();
        actions
    };
    let expected = act();
    for threads in [1, 3] {
        assert_eq!(
            crate::Threads::new(threads).unwrap().run(&mut act),
            expected
        );
    }
}

#[test]
fn a_trained_policy_moves_towards_its_goal() {
    let config = small();
    let mut agent = agent(&config);
    let windows: Vec<_> = (0..20).map(|k| batch(&agent, k)).collect();
    train(&mut agent, 0..600, |k| windows[k as usize % 20].clone());
    let mut policy =
        BesoPolicy::<Flex>::load(&config, &agent.model(), &Default::default()).unwrap();
    let dataset = dataset();
    let episodes = dataset.num_episodes();
    let first = |episode: usize| dataset.episodes().start(episode);
    let goals = Array2::from_shape_fn((episodes, 3), |(row, i)| {
        dataset.observations()[[first(row) + 14, i]]
    });
    policy.reset(episodes);
    let mut position = Array2::<f32>::zeros((episodes, 3));
    let mut rngs = streams(episodes);
    for _ in 0..10 {
        let mut actions = Array2::zeros((episodes, 2));
        policy
            .act(position.view(), goals.view(), &mut rngs, &mut actions)
            .unwrap();
        position.slice_mut(s![.., ..2]).scaled_add(1.0, &actions);
    }
    for row in 0..episodes {
        // After 10 of 14 steps a demonstration has come to 4/14 of the distance.
        let distance = (&position.row(row) - &goals.row(row))
            .slice(s![..2])
            .mapv(|x| x * x)
            .sum()
            .sqrt();
        assert!(
            distance < 0.8,
            "row {row} is {distance} from its goal, of 1.4 at the start"
        );
    }
}

/// G9: with all weights zero, the action is the noise times the gain of the sampler.
#[test]
fn the_zero_network_scales_its_noise() {
    let config = small();
    let mut model = agent(&config).model();
    let names: Vec<String> = model
        .weights
        .iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in names {
        let tensor = model
            .weights
            .iter()
            .find(|(other, _)| *other == name)
            .unwrap()
            .1;
        let shape = tensor.shape().to_vec();
        model
            .weights
            .insert_f32(name, &shape, vec![0.0; shape.iter().product()]);
    }
    model.actions = telic_datasets::Normalizer::Identity;
    model.action_bounds = None;
    let mut policy = BesoPolicy::<Flex>::load(&config, &model, &Default::default()).unwrap();
    for (settings, gain) in [
        (
            "schedule = 'exponential'\nsigma_min = 0.005\nsteps = 3",
            0.251_868_33,
        ),
        (
            "schedule = 'linear'\nsigma_min = 0.1\nsteps = 3",
            0.339_714_58,
        ),
        (
            "schedule = 'exponential'\nsigma_min = 0.005\nsteps = 100",
            0.442_430_63,
        ),
    ] {
        set(&mut policy, &format!("[sampler]\n{settings}"));
        policy.reset(1);
        let mut actions = Array2::zeros((1, 2));
        let mut rngs = streams(1);
        policy
            .act(
                draw(1, 3, 1).view(),
                draw(1, 3, 2).view(),
                &mut rngs,
                &mut actions,
            )
            .unwrap();
        let mut rng = streams(1).remove(0);
        for action in &actions {
            let noise: f64 = StandardNormal.sample(&mut rng);
            let expected = (gain * noise).clamp(-1.0, 1.0);
            assert!(
                (f64::from(*action) - expected).abs() < 1e-6,
                "{settings}: {action} and {expected}"
            );
        }
    }
}

#[test]
fn only_the_goal_entries_of_a_goal_are_seen() {
    let mut policy = policy();
    let goal = draw(1, 3, 2);
    let act = |policy: &mut BesoPolicy<Flex>, goal: &Array2<f32>| {
        policy.reset(1);
        let mut actions = Array2::zeros((1, 2));
        policy
            .act(
                draw(1, 3, 1).view(),
                goal.view(),
                &mut streams(1),
                &mut actions,
            )
            .unwrap();
        actions
    };
    let plain = act(&mut policy, &goal);
    let mut other = goal.clone();
    other[[0, 2]] += 0.5;
    assert_eq!(act(&mut policy, &other), plain);
    other[[0, 1]] += 0.5;
    assert_ne!(act(&mut policy, &other), plain);
    // A goal of two frames: the same frame twice is the frame.
    let twice = ndarray::concatenate![ndarray::Axis(1), goal, goal];
    assert_eq!(act(&mut policy, &twice), plain);
}

#[test]
fn ways_to_treat_the_history_differ_once_there_is_one() {
    let mut model = trained_model(&small());
    let mut sequence = |config: BesoConfig, mode: &str| {
        let settings = format!("[sampler]\nhistory = '{mode}'");
        model.settings = toml::from_str(&settings).unwrap();
        let mut policy = BesoPolicy::<Flex>::load(&config, &model, &Default::default()).unwrap();
        policy.reset(1);
        let mut rngs = streams(1);
        let act = |step| {
            let mut actions = Array2::zeros((1, 2));
            policy
                .act(
                    draw(1, 3, step).view(),
                    draw(1, 3, 50).view(),
                    &mut rngs,
                    &mut actions,
                )
                .unwrap();
            actions
        };
        (0..2).map(act).collect::<Vec<_>>()
    };
    let [renoise, reference] = ["renoise", "reference"].map(|mode| sequence(small(), mode));
    // The same weights, as if they had learned from clean histories.
    let clamp = sequence(clean(small()), "clamp");
    assert_eq!(renoise[0], reference[0]);
    assert_eq!(renoise[0], clamp[0]);
    assert_ne!(renoise[1], reference[1]);
    assert_ne!(renoise[1], clamp[1]);
    assert_ne!(reference[1], clamp[1]);
}

#[test]
fn a_trace_shows_candidates_at_every_level_and_changes_no_context() {
    let mut policy = policy();
    set(&mut policy, "[sampler]\nsteps = 4");
    let (observation, goal) = (draw(1, 3, 1), draw(1, 3, 2));
    let (observation, goal) = (observation.row(0), goal.row(0));
    policy.reset(2);
    let before = policy
        .trace(1, observation, goal, 6, &mut Seed::new(1).rng())
        .unwrap()
        .unwrap();
    assert_eq!(before.levels.len(), 5);
    let sigmas: Vec<f32> = before.levels.iter().map(|level| level.sigma).collect();
    assert_eq!((sigmas[0], sigmas[3], sigmas[4]), (1.0, 0.1, 0.0));
    assert!(
        before
            .levels
            .iter()
            .all(|level| level.candidates.dim() == (6, 2))
    );
    assert!(
        before.levels[4]
            .candidates
            .iter()
            .all(|action| action.abs() <= 1.0)
    );
    let spread = |level: usize| {
        before.levels[level]
            .candidates
            .std_axis(ndarray::Axis(0), 0.0)
    };
    let narrower = |a: Array1<f32>, b: Array1<f32>| a.iter().zip(&b).all(|(a, b)| a < b);
    assert!(narrower(spread(4), spread(0)));
    assert_eq!(
        policy
            .trace(1, observation, goal, 6, &mut Seed::new(1).rng())
            .unwrap()
            .unwrap(),
        before
    );
    assert!(
        policy
            .trace(
                1,
                observation.slice(s![..2]),
                goal,
                6,
                &mut Seed::new(1).rng()
            )
            .is_err()
    );
}

#[test]
fn a_trace_refuses_numbers_that_are_not_finite() {
    let config = small();
    let model = agent(&config).model();
    let mut policy = BesoPolicy::<Flex>::load(&config, &model, &Default::default()).unwrap();
    policy.reset(1);
    let good = draw(1, 3, 1);
    let mut bad = good.clone();
    bad[[0, 2]] = f32::NAN;
    let mut trace = |observation: &Array2<f32>, goal: &Array2<f32>| {
        let mut rng = Seed::new(1).rng();
        let found = policy.trace(0, observation.row(0), goal.row(0), 2, &mut rng);
        found.err().map(|error| error.to_string())
    };
    assert_eq!(trace(&good, &good), None);
    for (what, found) in [
        ("observation", trace(&bad, &good)),
        ("goal", trace(&good, &bad)),
    ] {
        let message = found.unwrap();
        let expected = format!("`{what}` has NaN in row 0, entry 2");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn bad_settings_change_nothing() {
    let mut policy = policy();
    set(&mut policy, "[sampler]\nsteps = 7");
    let before = policy.settings();
    let bad = "[sampler]\nsteps = 0\nguidance = 3.0\nkind = 'ddpm'\n[network]\nlayers = 2";
    let error = policy
        .configure(&toml::from_str(bad).unwrap())
        .unwrap_err()
        .to_string();
    for key in ["sampler.steps", "sampler.kind", "network"] {
        assert!(error.contains(key), "{key} is not in: {error}");
    }
    assert_eq!(policy.settings(), before);
    assert_eq!(before["sampler"]["steps"].as_integer(), Some(7));
}

#[test]
fn settings_travel_with_the_model() {
    let mut config = small();
    config.sampler.kind = SamplerKind::Dpmpp2m;
    config.sampler.schedule = ScheduleKind::Karras;
    let mut model = agent(&config).model();
    // The saved settings win over those of the training configuration.
    model.settings = toml::from_str("[sampler]\nsteps = 9").unwrap();
    let policy = BesoPolicy::<Flex>::load(&config, &model, &Default::default()).unwrap();
    let sampler = &policy.settings()["sampler"];
    assert_eq!(sampler["kind"].as_str(), Some("dpmpp_2m"));
    assert_eq!(sampler["schedule"].as_str(), Some("karras"));
    assert_eq!(sampler["steps"].as_integer(), Some(9));
}

#[test]
fn wrong_shapes_are_errors_and_leave_contexts_alone() {
    let mut policy = policy();
    let plain = first_action(&mut policy, 2);
    policy.reset(1);
    let mut actions = Array2::zeros((1, 2));
    let mut act = |observations: (usize, usize), goals: (usize, usize), rngs: usize| {
        let (observations, goals) = (Array2::zeros(observations), Array2::zeros(goals));
        policy
            .act(
                observations.view(),
                goals.view(),
                &mut streams(rngs),
                &mut actions,
            )
            .map_err(|e| e.to_string())
    };
    assert!(
        act((1, 4), (1, 3), 1)
            .unwrap_err()
            .contains("`observations` has shape [1, 4]")
    );
    assert!(
        act((2, 3), (1, 3), 1)
            .unwrap_err()
            .contains("`observations` has shape [2, 3]")
    );
    assert!(
        act((1, 3), (1, 5), 1)
            .unwrap_err()
            .contains("`goals` has shape [1, 5]")
    );
    assert!(
        act((1, 3), (1, 3), 2)
            .unwrap_err()
            .contains("`rngs` has shape [2]")
    );
    let mut actions = Array2::zeros((1, 2));
    policy
        .act(
            draw(1, 3, 1).view(),
            draw(1, 3, 2).view(),
            &mut streams(1),
            &mut actions,
        )
        .unwrap();
    assert_eq!(actions, plain);
}

#[test]
fn observation_columns_select_what_is_seen() {
    let mut config = small();
    config.inputs.observation_columns = Some(vec![2, 0]);
    config.inputs.goal_columns = Some(vec![0]);
    let agent = agent(&config);
    assert_eq!(batch(&agent, 1).observation_dim, 2);
    let mut policy =
        BesoPolicy::<Flex>::load(&config, &agent.model(), &Default::default()).unwrap();
    assert_eq!(crate::Policy::observation_dim(&policy), 3);
    let act = |policy: &mut BesoPolicy<Flex>, column: usize| {
        let mut observations = draw(1, 3, 1);
        observations[[0, column]] += 0.5;
        policy.reset(1);
        let mut actions = Array2::zeros((1, 2));
        policy
            .act(
                observations.view(),
                draw(1, 3, 2).view(),
                &mut streams(1),
                &mut actions,
            )
            .unwrap();
        actions
    };
    let hidden = act(&mut policy, 1);
    assert_ne!(act(&mut policy, 0), hidden);
    assert_ne!(act(&mut policy, 2), hidden);
    let mut bad = small();
    bad.inputs.observation_columns = Some(vec![5]);
    assert!(Beso::new_agent::<A>(&bad, &task(), &Default::default()).is_err());
}

#[test]
fn past_actions_look_as_in_training() {
    for (config, refused) in [
        (small(), "clamp"),
        (clean(small()), "renoise"),
        (clean(small()), "reference"),
    ] {
        let model = agent(&config).model();
        let mut policy = BesoPolicy::<Flex>::load(&config, &model, &Default::default()).unwrap();
        let before = policy.settings();
        let overrides = toml::from_str(&format!("[sampler]\nhistory = '{refused}'")).unwrap();
        let error = policy.configure(&overrides).unwrap_err().to_string();
        let named = error.contains("`sampler.history` is") && error.contains(refused);
        assert!(named, "{error}");
        assert_eq!(policy.settings(), before);
    }
}

#[test]
fn the_perceptron_denoises_no_history() {
    let mut policy = policy_of(&small_mlp());
    let before = policy.settings();
    let overrides = toml::from_str("[sampler]\nhistory = 'reference'").unwrap();
    let error = policy.configure(&overrides).unwrap_err().to_string();
    assert!(
        error.contains("sampler.history") && error.contains("renoise"),
        "{error}"
    );
    assert_eq!(policy.settings(), before);
}
