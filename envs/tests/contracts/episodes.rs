//! Episodes are functions of seed, task and actions, and sound in every state.

use super::*;

#[test]
fn ids_and_task_names_are_unique_and_dimensions_agree() {
    let mut ids: Vec<_> = specs().iter().map(|spec| spec.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), specs().len());
    for spec in specs() {
        let mut names: Vec<_> = spec.tasks.iter().map(|task| &task.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), spec.tasks.len(), "{}", spec.id);
        assert!(!names.is_empty(), "{}", spec.id);
        assert_eq!(spec.goal_dim() % spec.goal.point_dim, 0, "{}", spec.id);
        assert!(
            spec.goal
                .indices
                .iter()
                .all(|&index| index < spec.observation_dim()),
            "{}",
            spec.id
        );
        let env = make(spec);
        assert_eq!(env.spec().id, spec.id);
        assert_eq!(
            env.observation().len(),
            spec.observation_dim(),
            "{}",
            spec.id
        );
        assert_eq!(env.desired_goal().len(), spec.goal_dim(), "{}", spec.id);
        assert_eq!(env.rewards().len(), spec.rewards.len(), "{}", spec.id);
    }
}

#[test]
fn an_environment_refuses_to_step_before_a_reset() {
    for spec in specs() {
        let action = vec![0.0; spec.action_dim()];
        assert_eq!(
            make(spec).step(&action),
            Err(EnvError::NotReset { id: spec.id })
        );
    }
}

#[test]
fn what_is_shown_before_a_reset_has_its_dims() {
    for spec in specs() {
        let env = make(spec);
        let shown = [
            env.observation().len(),
            env.goal_observation().len(),
            env.desired_goal().len(),
        ];
        let dims = [
            spec.observation_dim(),
            spec.observation_dim(),
            spec.goal_dim(),
        ];
        assert_eq!(shown, dims, "{}", spec.id);
    }
}

#[test]
fn same_seed_gives_the_same_bits_whatever_ran_before() {
    for spec in specs() {
        for start in starts(spec) {
            let mut fresh = make(spec);
            fresh.reset(5, &options(start)).unwrap();
            let first = bits(fresh.as_ref());
            let expected = rollout(fresh.as_mut(), &mut actions_of(1), 30);

            let mut used = make(spec);
            for seed in 0..3 {
                used.reset(seed, &options(Start::RandomTask)).unwrap();
                rollout(used.as_mut(), &mut actions_of(seed + 2), 25);
            }
            let snapshot = used.snapshot();
            used.restore(&snapshot).unwrap();
            used.reset(5, &options(start)).unwrap();
            assert_eq!(bits(used.as_ref()), first, "{} {start:?}", spec.id);
            assert!(
                rollout(used.as_mut(), &mut actions_of(1), 30) == expected,
                "{} {start:?}",
                spec.id
            );
        }
    }
}

#[test]
fn different_seeds_give_different_episodes() {
    for spec in specs() {
        let mut env = make(spec);
        let mut seen: Vec<Vec<u32>> = (0..8)
            .map(|seed| {
                env.reset(seed, &options(Start::Task(0))).unwrap();
                bits(env.as_ref())
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 8, "{}", spec.id);
    }
}

#[test]
fn a_snapshot_continues_to_the_same_bits() {
    for spec in specs() {
        let mut env = make(spec);
        env.reset(11, &ResetOptions::default()).unwrap();
        rollout(env.as_mut(), &mut actions_of(0), 20);
        let snapshot = env.snapshot();
        let (at, elapsed, task) = (bits(env.as_ref()), env.elapsed_steps(), env.task());
        let expected = rollout(env.as_mut(), &mut actions_of(1), 25);
        let metrics = env.metrics();

        // Back into itself, into a fresh instance, and into one that is elsewhere.
        let mut elsewhere = make(spec);
        elsewhere.reset(99, &options(Start::Collection)).unwrap();
        rollout(elsewhere.as_mut(), &mut actions_of(3), 10);
        for mut other in [env, make(spec), elsewhere] {
            other.restore(&snapshot).unwrap();
            assert_eq!(bits(other.as_ref()), at, "{}", spec.id);
            assert_eq!(
                (other.elapsed_steps(), other.task()),
                (elapsed, task),
                "{}",
                spec.id
            );
            assert!(
                rollout(other.as_mut(), &mut actions_of(1), 25) == expected,
                "{}",
                spec.id
            );
            assert_eq!(other.metrics(), metrics, "{}", spec.id);
        }
    }
}

/// Coordinates and velocities are the whole state of what is seen, or are refused.
#[test]
fn a_state_that_is_written_back_changes_nothing() {
    for spec in specs() {
        let mut env = make(spec);
        env.reset(12, &ResetOptions::default()).unwrap();
        let mut rng = actions_of(4);
        for round in 0..20 {
            rollout(env.as_mut(), &mut rng, 5);
            let (mut qpos, mut qvel) = (Vec::new(), Vec::new());
            env.state(&mut qpos, &mut qvel);
            let before = bits(env.as_ref());
            let (observation, rewards) = (env.observation().to_vec(), env.rewards());
            let running = (env.elapsed_steps(), env.task(), env.desired_goal().to_vec());
            match env.set_state(&qpos, &qvel) {
                Ok(()) => {
                    let after = [env.observation(), &env.rewards()].concat();
                    for (index, (after, before)) in after
                        .iter()
                        .zip([observation, rewards].concat())
                        .enumerate()
                    {
                        assert!(
                            (after - before).abs() <= 1e-4,
                            "{} round {round}, {index}: {before} became {after}",
                            spec.id
                        );
                    }
                    for qpos in [&qpos[1..], &[f32::NAN].repeat(qpos.len())] {
                        let before = bits(env.as_ref());
                        let error = env.set_state(qpos, &qvel).unwrap_err();
                        assert!(matches!(error, EnvError::BadState { .. }), "{error}");
                        assert_eq!(bits(env.as_ref()), before, "{}", spec.id);
                    }
                }
                Err(error) => {
                    assert!(matches!(error, EnvError::BadState { .. }), "{error}");
                    assert_eq!(bits(env.as_ref()), before, "{}", spec.id);
                }
            }
            let after = (env.elapsed_steps(), env.task(), env.desired_goal().to_vec());
            assert_eq!(after, running, "{}", spec.id);
        }
    }
}

#[test]
fn a_bad_snapshot_is_refused_and_changes_nothing() {
    let mut of_another: Option<Vec<u8>> = None;
    for spec in specs() {
        let mut env = make(spec);
        env.reset(1, &ResetOptions::default()).unwrap();
        let good = env.snapshot();
        let before = bits(env.as_ref());
        let mut damaged = vec![
            Vec::new(),
            good[..good.len() / 2].to_vec(),
            b"not a snapshot".to_vec(),
        ];
        damaged.extend(of_another.take());
        for bytes in damaged {
            let error = env.restore(&bytes).unwrap_err();
            assert!(
                matches!(error, EnvError::BadSnapshot { .. }),
                "{} {error}",
                spec.id
            );
            assert_eq!(bits(env.as_ref()), before, "{}", spec.id);
        }
        assert_eq!(env.snapshot(), good, "{}", spec.id);
        of_another = Some(good);
    }
}

#[test]
fn a_reset_is_never_a_success_and_always_in_bounds() {
    for spec in specs() {
        let mut env = make(spec);
        for start in starts(spec) {
            for seed in 0..40 {
                env.reset(seed, &options(start)).unwrap();
                assert!(!reached(env.as_ref()), "{} {start:?} seed {seed}", spec.id);
                assert_eq!(env.elapsed_steps(), 0);
                for observation in [env.observation(), env.goal_observation()] {
                    check_bounds(spec, observation);
                }
                match start {
                    Start::Task(task) => assert_eq!(env.task(), Some(task)),
                    Start::RandomTask => assert!(env.task().unwrap() < spec.tasks.len()),
                    Start::Collection => assert_eq!(env.task(), None),
                }
            }
        }
    }
}

#[test]
fn a_reset_does_not_start_at_a_goal_that_the_caller_gives() {
    for spec in specs() {
        let mut env = make(spec);
        for seed in 0..10 {
            env.reset(seed, &options(Start::Task(0))).unwrap();
            let goal = env.observation().to_vec();
            let asked = ResetOptions {
                start: Start::Task(0),
                goal: Some(goal.clone()),
            };
            match env.reset(seed, &asked) {
                Ok(()) => {
                    assert_eq!(env.goal_observation(), goal, "{}", spec.id);
                    assert!(!reached(env.as_ref()), "{} seed {seed}", spec.id);
                }
                // A start that cannot move away from the goal has to be refused.
                Err(error) => assert!(
                    matches!(error, EnvError::BadGoal { .. }),
                    "{} {error}",
                    spec.id
                ),
            }
        }
    }
}

#[test]
fn random_tasks_cover_all_tasks() {
    for spec in specs() {
        let mut env = make(spec);
        let mut seen = vec![false; spec.tasks.len()];
        for seed in 0..100 {
            env.reset(seed, &ResetOptions::default()).unwrap();
            seen[env.task().unwrap()] = true;
            if seen.iter().all(|&seen| seen) {
                break;
            }
        }
        assert!(seen.iter().all(|&seen| seen), "{} {seen:?}", spec.id);
    }
}

fn check_bounds(spec: &EnvSpec, observation: &[f32]) {
    for (entry, &value) in spec.observation.iter().zip(observation) {
        assert!(
            value.is_finite() && (entry.low..=entry.high).contains(&value),
            "{}: `{}` is {value}, its bounds are {}..={}",
            spec.id,
            entry.name,
            entry.low,
            entry.high
        );
    }
}

/// Random actions, some far out of range, some held for long, some broken.
#[test]
fn ten_thousand_rough_actions_leave_every_state_sound() {
    for spec in specs() {
        let mut env = make(spec);
        let mut rng = Seed::new(3).child(spec.id).rng();
        let mut action = vec![0.0; spec.action_dim()];
        let mut held = 0;
        env.reset(0, &ResetOptions::default()).unwrap();
        for step in 0..10_000_u64 {
            if step % 1000 == 999 {
                env.reset(
                    step,
                    &options(if step % 2000 == 999 {
                        Start::Collection
                    } else {
                        Start::RandomTask
                    }),
                )
                .unwrap();
            }
            if held == 0 {
                random_action(&mut rng, &mut action);
                held = rng.random_range(1..=40);
                let gain = [1.0, 1.0, 3.0, 1e30][rng.random_range(0..4)];
                action.iter_mut().for_each(|value| *value *= gain);
            }
            held -= 1;
            if step % 50 == 7 {
                let before = bits(env.as_ref());
                let mut broken = action.clone();
                let index = rng.random_range(0..broken.len());
                broken[index] =
                    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][rng.random_range(0..3)];
                let error = env.step(&broken).unwrap_err();
                assert!(
                    matches!(error, EnvError::NonFiniteAction { index: found, .. } if found == index),
                    "{} {error}",
                    spec.id
                );
                assert_eq!(bits(env.as_ref()), before, "{}", spec.id);
            }
            env.step(&action).unwrap();
            check_bounds(spec, env.observation());
            assert!(env.world().is_finite(), "{}", spec.id);
        }
    }
}
