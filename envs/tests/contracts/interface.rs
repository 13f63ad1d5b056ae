//! Actions, goals, rewards and demonstrators.

use super::*;

#[test]
fn actions_out_of_range_are_clipped() {
    for spec in specs() {
        let ends = |value: f32| {
            let mut env = make(spec);
            env.reset(4, &ResetOptions::default()).unwrap();
            for _ in 0..3 {
                env.step(&vec![value; spec.action_dim()]).unwrap();
            }
            bits(env.as_ref())
        };
        assert_eq!(ends(7.5), ends(1.0), "{}", spec.id);
        assert_eq!(ends(-1e30), ends(-1.0), "{}", spec.id);
    }
}

#[test]
fn wrong_dimensions_and_numbers_are_errors() {
    for spec in specs() {
        let mut env = make(spec);
        env.reset(0, &ResetOptions::default()).unwrap();
        let before = bits(env.as_ref());
        let (observation_dim, action_dim) = (spec.observation_dim(), spec.action_dim());

        assert_eq!(
            env.step(&vec![0.0; action_dim + 1]),
            Err(EnvError::ActionDim {
                id: spec.id,
                found: action_dim + 1,
                expected: action_dim
            })
        );
        assert!(matches!(
            env.step(&[]),
            Err(EnvError::ActionDim { found: 0, .. })
        ));
        let mut broken = vec![0.0; observation_dim];
        broken[spec.goal.indices[0]] = f32::NAN;
        for goal in [vec![0.0; observation_dim + 1], Vec::new(), broken] {
            assert!(
                matches!(env.set_goal(&goal), Err(EnvError::BadGoal { .. })),
                "{}",
                spec.id
            );
            let asked = ResetOptions {
                start: Start::RandomTask,
                goal: Some(goal),
            };
            assert!(
                matches!(env.reset(3, &asked), Err(EnvError::BadGoal { .. })),
                "{}",
                spec.id
            );
        }
        let tasks = spec.tasks.len();
        assert_eq!(
            env.reset(3, &options(Start::Task(tasks))),
            Err(EnvError::UnknownTask {
                id: spec.id,
                task: tasks,
                tasks
            })
        );
        assert_eq!(
            bits(env.as_ref()),
            before,
            "{}: a refused call changed the state",
            spec.id
        );
    }
}

#[test]
fn a_goal_can_be_replaced() {
    for spec in specs() {
        let mut env = make(spec);
        env.reset(8, &ResetOptions::default()).unwrap();
        let mut other = make(spec);
        other.reset(9, &ResetOptions::default()).unwrap();
        let goal = other.goal_observation().to_vec();
        env.set_goal(&goal).unwrap();
        let mut desired = vec![0.0; spec.goal_dim()];
        spec.goal.extract(&goal, &mut desired);
        assert_eq!(env.goal_observation(), goal, "{}", spec.id);
        assert_eq!(env.desired_goal(), desired, "{}", spec.id);

        // Replacing the goal moves nothing, and where the world already is counts as reached.
        let here = env.observation().to_vec();
        env.set_goal(&here).unwrap();
        assert_eq!(env.observation(), here);
        assert!(reached(env.as_ref()), "{}", spec.id);
    }
}

#[test]
fn rewards_of_a_batch_equal_the_rewards_of_the_steps() {
    for spec in specs() {
        let (mut achieved, mut desired, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let mut record = |env: &dyn GoalEnv, step: Step| {
            assert_eq!(step.success, step.reward == 0.0, "{}", spec.id);
            let mut goal = vec![0.0; spec.goal_dim()];
            spec.goal.extract(env.observation(), &mut goal);
            achieved.extend(goal);
            desired.extend_from_slice(env.desired_goal());
            expected.push(step.reward);
        };
        let mut action = vec![0.0; spec.action_dim()];
        if let Some(demonstrator) = spec.demonstrators.first() {
            let mut demonstrator = (demonstrator.make)(0.0).unwrap();
            for seed in 0..2 {
                demonstrator.reset(seed, Some(0)).unwrap();
                while !demonstrator.finished() {
                    demonstrator.act(&mut action);
                    let step = demonstrator.step(&action).unwrap();
                    record(demonstrator.env(), step);
                }
            }
        }
        // Not every demonstrator arrives: now and then the goal is where the environment just was.
        let mut env = make(spec);
        env.reset(0, &options(Start::Task(0))).unwrap();
        let mut rng = actions_of(0);
        for step in 0..200 {
            if step % 5 == 4 {
                let here = env.observation().to_vec();
                env.set_goal(&here).unwrap();
            }
            random_action(&mut rng, &mut action);
            let step = env.step(&action).unwrap();
            record(env.as_ref(), step);
        }
        let mut rewards = vec![f32::NAN; expected.len()];
        spec.goal.rewards(&achieved, &desired, &mut rewards);
        assert_eq!(rewards, expected, "{}", spec.id);
        assert!(
            rewards.contains(&0.0) && rewards.contains(&-1.0),
            "{}",
            spec.id
        );
    }
}

#[test]
fn demonstrators_are_found_by_name_and_missing_ones_are_errors() {
    for spec in specs() {
        let found = |name| {
            spec.demonstrator(name)
                .map(|demonstrator| demonstrator.name)
        };
        let Some(first) = spec.demonstrators.first() else {
            let error = EnvError::NoDemonstrator { id: spec.id };
            assert_eq!(
                error.to_string(),
                format!("`{}` has no demonstrator", spec.id)
            );
            assert_eq!(found(None), Err(error.clone()));
            assert_eq!(found(Some("navigate")), Err(error));
            continue;
        };
        assert_eq!(found(None), Ok(first.name));
        for demonstrator in &spec.demonstrators {
            assert_eq!(found(Some(demonstrator.name)), Ok(demonstrator.name));
        }
        assert!(matches!(
            found(Some("nobody")),
            Err(EnvError::UnknownDemonstrator { .. })
        ));
    }
}

#[test]
fn play_data_replays_to_the_bit_from_its_actions() {
    for spec in specs() {
        for demonstrator in &spec.demonstrators {
            let mut expert = (demonstrator.make)(1.0).unwrap();
            let mut env = make(spec);
            for seed in [3, 4] {
                expert.reset(seed, None).unwrap();
                env.reset(seed, &options(Start::Collection)).unwrap();
                let mut action = vec![0.0; spec.action_dim()];
                let physics = |env: &dyn GoalEnv| {
                    let (mut qpos, mut qvel) = (Vec::new(), Vec::new());
                    env.state(&mut qpos, &mut qvel);
                    [env.observation(), &qpos, &qvel]
                        .concat()
                        .into_iter()
                        .map(f32::to_bits)
                        .collect::<Vec<_>>()
                };
                assert_eq!(
                    physics(env.as_ref()),
                    physics(expert.env()),
                    "{} {}",
                    spec.id,
                    demonstrator.name
                );
                let mut steps = 0;
                while !expert.finished() {
                    expert.act(&mut action);
                    assert!(
                        action.iter().all(|value| (-1.0..=1.0).contains(value)),
                        "{} {action:?}",
                        spec.id
                    );
                    expert.step(&action).unwrap();
                    env.step(&action).unwrap();
                    assert_eq!(
                        physics(env.as_ref()),
                        physics(expert.env()),
                        "{} {}",
                        spec.id,
                        demonstrator.name
                    );
                    steps += 1;
                }
                assert!(
                    (1..=demonstrator.episode_steps).contains(&steps),
                    "{} {steps}",
                    spec.id
                );
            }
        }
    }
}

#[test]
fn a_demonstrator_repeats_itself_and_owns_its_noise() {
    for spec in specs() {
        for demonstrator in &spec.demonstrators {
            let run = |before: Option<u64>| {
                let mut expert = (demonstrator.make)(1.0).unwrap();
                let mut action = vec![0.0; spec.action_dim()];
                let mut actions = Vec::new();
                for seed in before.into_iter().chain([6]) {
                    actions.clear();
                    expert.reset(seed, None).unwrap();
                    for _ in 0..40 {
                        expert.act(&mut action);
                        actions.extend(action.iter().map(|value| value.to_bits()));
                        expert.step(&action).unwrap();
                    }
                }
                actions
            };
            assert_eq!(run(None), run(Some(1)), "{} {}", spec.id, demonstrator.name);
        }
    }
}

#[test]
fn a_step_limit_truncates_and_never_terminates() {
    for spec in specs() {
        let mut env = make(spec);
        env.reset(2, &options(Start::Collection)).unwrap();
        let action = vec![0.0; spec.action_dim()];
        for elapsed in 1..=spec.max_episode_steps {
            let step = env.step(&action).unwrap();
            assert_eq!(
                step.truncated,
                elapsed == spec.max_episode_steps,
                "{} {elapsed}",
                spec.id
            );
            assert!(!step.terminated, "{} {elapsed}", spec.id);
            assert_eq!(env.elapsed_steps(), elapsed);
        }
    }
}

#[test]
fn markers_and_end_effector_are_finite_and_named_once() {
    for spec in specs() {
        let mut env = make(spec);
        env.reset(0, &ResetOptions::default()).unwrap();
        let markers = env.markers();
        assert!(
            markers
                .iter()
                .any(|marker| marker.name.starts_with("goal/")),
            "{}",
            spec.id
        );
        let mut names: Vec<_> = markers.iter().map(|marker| marker.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), markers.len(), "{}", spec.id);
        assert!(
            env.end_effector().iter().all(|value| value.is_finite()),
            "{}",
            spec.id
        );
    }
}
