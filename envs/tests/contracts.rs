//! What every registered environment promises, checked on all of them.
#![allow(clippy::unwrap_used)]

use rand::RngExt;
use telic_envs::{
    AutoresetMode, EnvError, EnvSpec, GoalEnv, ResetOptions, RowReset, Start, Step, VecEnv,
    VecError, VecOptions, specs,
};
use telic_seed::{Rng, Seed};

/// Everything observable of an instance, as bits.
fn bits(env: &dyn GoalEnv) -> Vec<u32> {
    let (mut qpos, mut qvel) = (Vec::new(), Vec::new());
    env.state(&mut qpos, &mut qvel);
    [
        env.observation(),
        env.goal_observation(),
        env.desired_goal(),
        &qpos,
        &qvel,
    ]
    .concat()
    .into_iter()
    .map(f32::to_bits)
    .collect()
}

fn random_action(rng: &mut Rng, action: &mut [f32]) {
    action
        .iter_mut()
        .for_each(|value| *value = rng.random_range(-1.0..=1.0));
}

fn actions_of(seed: u64) -> Rng {
    Seed::new(seed).child("actions").rng()
}

/// Applies `steps` random actions; the bits after each.
fn rollout(env: &mut dyn GoalEnv, rng: &mut Rng, steps: usize) -> Vec<(Vec<u32>, Step)> {
    let mut action = vec![0.0; env.spec().action_dim()];
    (0..steps)
        .map(|_| {
            random_action(rng, &mut action);
            let step = env.step(&action).unwrap();
            (bits(env), step)
        })
        .collect()
}

fn starts(spec: &EnvSpec) -> Vec<Start> {
    let mut starts = vec![Start::RandomTask, Start::Collection];
    starts.extend((0..spec.tasks.len()).map(Start::Task));
    starts
}

fn options(start: Start) -> ResetOptions {
    ResetOptions { start, goal: None }
}

fn make(spec: &EnvSpec) -> Box<dyn GoalEnv> {
    (spec.make)().unwrap()
}

fn reached(env: &dyn GoalEnv) -> bool {
    let mut achieved = vec![0.0; env.spec().goal_dim()];
    env.spec().goal.extract(env.observation(), &mut achieved);
    env.spec().goal.reached(&achieved, env.desired_goal())
}

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
        assert!(!spec.demonstrators.is_empty(), "{}", spec.id);
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
        let mut demonstrator = (spec.demonstrators[0].make)(0.0).unwrap();
        let (mut achieved, mut desired, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let mut action = vec![0.0; spec.action_dim()];
        for seed in 0..2 {
            demonstrator.reset(seed, Some(0)).unwrap();
            while !demonstrator.finished() {
                demonstrator.act(&mut action);
                let step = demonstrator.step(&action).unwrap();
                assert_eq!(step.success, step.reward == 0.0, "{}", spec.id);
                let env = demonstrator.env();
                let mut goal = vec![0.0; spec.goal_dim()];
                spec.goal.extract(env.observation(), &mut goal);
                achieved.extend(goal);
                desired.extend_from_slice(env.desired_goal());
                expected.push(step.reward);
            }
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

/// Steps a batch and the same environments one by one, through the end of their episodes.
#[test]
fn a_batch_gives_the_bits_of_single_environments_for_any_number_of_threads() {
    for spec in specs() {
        for autoreset in [AutoresetMode::NextStep, AutoresetMode::SameStep] {
            let one = batch_trace(spec, 1, autoreset);
            let two = batch_trace(spec, 2, autoreset);
            assert!(
                one == two,
                "{} {autoreset:?}: threads change the result",
                spec.id
            );
            let single = single_trace(spec, autoreset);
            assert!(
                one == single,
                "{} {autoreset:?}: batching changes the result",
                spec.id
            );
        }
    }
}

const ROWS: usize = 5;

/// Long enough to pass the step limit, but of no more than 2500 steps in all.
fn batch_steps(spec: &EnvSpec) -> usize {
    if spec.max_episode_steps <= 500 {
        spec.max_episode_steps + 5
    } else {
        60
    }
}

fn batch_actions(spec: &EnvSpec) -> impl FnMut() -> Vec<f32> {
    let mut rng = Seed::new(21).child("batch").rng();
    let mut actions = vec![0.0; ROWS * spec.action_dim()];
    move || {
        random_action(&mut rng, &mut actions);
        actions.clone()
    }
}

type Trace = Vec<(Vec<u32>, Vec<bool>)>;

fn batch_trace(spec: &'static EnvSpec, threads: usize, autoreset: AutoresetMode) -> Trace {
    let mut envs = VecEnv::new(spec, ROWS, VecOptions { threads, autoreset }).unwrap();
    envs.reset(77, &ResetOptions::default()).unwrap();
    let mut actions = batch_actions(spec);
    let mut trace = Vec::new();
    for _ in 0..batch_steps(spec) {
        let batch = envs.step(&actions()).unwrap();
        let numbers = [
            &batch.observations[..],
            &batch.achieved_goals,
            &batch.desired_goals,
            &batch.goal_observations,
            &batch.rewards,
        ]
        .concat();
        let flags = [
            &batch.terminated[..],
            &batch.truncated,
            &batch.success,
            &batch.reset,
        ]
        .concat();
        trace.push((numbers.into_iter().map(f32::to_bits).collect(), flags));
    }
    trace
}

fn single_trace(spec: &'static EnvSpec, autoreset: AutoresetMode) -> Trace {
    let mut envs: Vec<_> = (0..ROWS).map(|_| make(spec)).collect();
    let seeds: Vec<_> = (0..ROWS)
        .map(|row| Seed::new(77).index(row as u64))
        .collect();
    for (env, seed) in envs.iter_mut().zip(&seeds) {
        env.reset(seed.value(), &ResetOptions::default()).unwrap();
    }
    let mut finished = [false; ROWS];
    let mut episodes = [0_u64; ROWS];
    let mut actions = batch_actions(spec);
    let mut trace = Vec::new();
    for _ in 0..batch_steps(spec) {
        let actions = actions();
        let mut steps = Vec::new();
        let mut resets = Vec::new();
        for (row, env) in envs.iter_mut().enumerate() {
            let mut begin_next = |env: &mut Box<dyn GoalEnv>| {
                episodes[row] += 1;
                let seed = seeds[row].child("episode").index(episodes[row]);
                env.reset(seed.value(), &ResetOptions::default()).unwrap();
            };
            if autoreset == AutoresetMode::NextStep && finished[row] {
                begin_next(env);
                finished[row] = false;
                steps.push(Step::default());
                resets.push(true);
                continue;
            }
            let dim = spec.action_dim();
            let step = env.step(&actions[row * dim..(row + 1) * dim]).unwrap();
            finished[row] = step.terminated || step.truncated;
            let reset = finished[row] && autoreset == AutoresetMode::SameStep;
            if reset {
                begin_next(env);
            }
            steps.push(step);
            resets.push(reset);
        }
        let mut numbers: Vec<f32> = Vec::new();
        envs.iter()
            .for_each(|env| numbers.extend(env.observation()));
        for env in &envs {
            let mut achieved = vec![0.0; spec.goal_dim()];
            spec.goal.extract(env.observation(), &mut achieved);
            numbers.extend(achieved);
        }
        envs.iter()
            .for_each(|env| numbers.extend(env.desired_goal()));
        envs.iter()
            .for_each(|env| numbers.extend(env.goal_observation()));
        numbers.extend(steps.iter().map(|step| step.reward));
        let flags = [
            steps.iter().map(|step| step.terminated).collect::<Vec<_>>(),
            steps.iter().map(|step| step.truncated).collect(),
            steps.iter().map(|step| step.success).collect(),
            resets,
        ]
        .concat();
        trace.push((numbers.into_iter().map(f32::to_bits).collect(), flags));
    }
    trace
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

#[test]
fn batch_errors_name_the_row_and_change_nothing() {
    let spec = telic_envs::spec("point-maze-medium").unwrap();
    assert!(matches!(
        VecEnv::new(spec, 0, VecOptions::default()),
        Err(VecError::Empty { what: "row" })
    ));
    let no_threads = VecOptions {
        threads: 0,
        ..VecOptions::default()
    };
    assert!(matches!(
        VecEnv::new(spec, 1, no_threads),
        Err(VecError::Empty { what: "thread" })
    ));

    let mut envs = VecEnv::new(
        spec,
        3,
        VecOptions {
            threads: 2,
            ..VecOptions::default()
        },
    )
    .unwrap();
    assert!(matches!(
        envs.step(&[0.0; 6]),
        Err(VecError::Row {
            row: 0,
            source: EnvError::NotReset { .. }
        })
    ));
    let before = envs.reset(0, &ResetOptions::default()).unwrap().clone();
    assert!(matches!(
        envs.step(&[0.0; 5]),
        Err(VecError::ActionLength {
            expected: 6,
            found: 5,
            ..
        })
    ));
    let mut actions = [0.5; 6];
    actions[5] = f32::NAN;
    let error = envs.step(&actions).unwrap_err();
    assert_eq!(
        error.to_string(),
        "row 2: action entry 1 of `point-maze-medium` is NaN, expected a finite number"
    );
    assert_eq!(envs.batch(), &before);
    let elapsed: Vec<_> = (0..3)
        .map(|row| envs.env(row).unwrap().elapsed_steps())
        .collect();
    assert_eq!(elapsed, [0, 0, 0]);
    let unknown = RowReset {
        row: 3,
        seed: 0,
        options: ResetOptions::default(),
    };
    assert!(matches!(
        envs.reset_rows(&[unknown]),
        Err(VecError::UnknownRow { row: 3, rows: 3 })
    ));
}

/// Drives row 0 to the end of its episode with the goal set to where the point is.
fn end_episode(autoreset: AutoresetMode) -> VecEnv {
    let spec = telic_envs::spec("point-maze-medium").unwrap();
    let mut envs = VecEnv::new(
        spec,
        2,
        VecOptions {
            threads: 1,
            autoreset,
        },
    )
    .unwrap();
    envs.reset(0, &ResetOptions::default()).unwrap();
    let mut ends = 0;
    // Row 0 starts a little over the tolerance away from its goal and walks into it.
    for offset in [[1.05, 0.0], [-1.05, 0.0], [0.0, 1.05], [0.0, -1.05]] {
        let at = envs.env(0).unwrap().observation().to_vec();
        let goal = vec![at[0] + offset[0], at[1] + offset[1]];
        let options = ResetOptions {
            start: Start::Task(0),
            goal: Some(goal.clone()),
        };
        let seed = Seed::new(0).index(0).value();
        envs.reset_rows(&[RowReset {
            row: 0,
            seed,
            options,
        }])
        .unwrap();
        for _ in 0..3 {
            let at = envs.env(0).unwrap().observation().to_vec();
            let batch = envs
                .step(&[goal[0] - at[0], goal[1] - at[1], 0.0, 0.0])
                .unwrap();
            if batch.terminated[0] {
                ends += 1;
                break;
            }
        }
        if ends > 0 {
            break;
        }
    }
    assert_eq!(ends, 1);
    envs
}

#[test]
fn next_step_mode_resets_in_the_step_after_the_end() {
    let mut envs = end_episode(AutoresetMode::NextStep);
    let ended = envs.batch().clone();
    assert!(ended.terminated[0] && ended.success[0] && !ended.reset[0]);
    assert_eq!(ended.rewards[0], 0.0);
    assert_eq!(ended.final_observations[..2], ended.observations[..2]);
    let next = envs.step(&[1.0; 4]).unwrap();
    assert!(next.reset[0] && !next.terminated[0] && !next.success[0]);
    assert!(!next.reset[1]);
    assert_eq!(next.rewards, [0.0, -1.0]);
    assert_eq!(envs.env(0).unwrap().elapsed_steps(), 0);
    assert!(!envs.step(&[1.0; 4]).unwrap().reset[0]);
}

#[test]
fn same_step_mode_resets_in_the_step_of_the_end() {
    let mut envs = end_episode(AutoresetMode::SameStep);
    let ended = envs.batch().clone();
    assert!(ended.terminated[0] && ended.success[0] && ended.reset[0]);
    assert_ne!(ended.final_observations[..2], ended.observations[..2]);
    let spec = envs.spec();
    assert!(spec.goal.reached(
        &ended.final_observations[..2],
        &ended.final_desired_goals[..2]
    ));
    assert_eq!(envs.env(0).unwrap().elapsed_steps(), 0);
    // The goal of the new episode may be as close as the last one; walk away from it.
    let (at, goal) = (&ended.observations[..2], &ended.desired_goals[..2]);
    let away = [at[0] - goal[0], at[1] - goal[1], 0.0, 0.0];
    assert!(!envs.step(&away).unwrap().reset[0]);
    assert_eq!(envs.env(0).unwrap().elapsed_steps(), 1);
}

#[test]
fn disabled_mode_leaves_the_reset_to_the_caller() {
    let mut envs = end_episode(AutoresetMode::Disabled);
    assert!(envs.batch().terminated[0]);
    assert!(matches!(
        envs.step(&[0.0; 4]),
        Err(VecError::Finished { row: 0 })
    ));
    let reset = RowReset {
        row: 0,
        seed: 5,
        options: ResetOptions::default(),
    };
    let before = envs.env(1).unwrap().observation().to_vec();
    let batch = envs.reset_rows(&[reset]).unwrap();
    assert_eq!(batch.reset, [true, false]);
    assert_eq!(batch.observations[2..], before);
    envs.step(&[0.0; 4]).unwrap();
}
