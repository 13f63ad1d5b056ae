//! Batches of environments give the bits of single ones.

use super::*;

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
