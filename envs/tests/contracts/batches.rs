//! Batches of environments give the bits of single ones.

use super::*;

/// Steps a batch and the same environments one by one, through the end of their episodes.
#[test]
fn a_batch_gives_the_bits_of_single_environments_for_any_number_of_threads() {
    for spec in specs() {
        let plan = Plan::new(spec);
        for autoreset in [AutoresetMode::NextStep, AutoresetMode::SameStep] {
            let one = batch_trace(spec, &plan, 1, autoreset);
            plan.assert_rows_end(spec, &one);
            let two = batch_trace(spec, &plan, 2, autoreset);
            assert!(
                one == two,
                "{} {autoreset:?}: threads change the result",
                spec.id
            );
            let single = single_trace(spec, &plan, autoreset);
            assert!(
                one == single,
                "{} {autoreset:?}: batching changes the result",
                spec.id
            );
        }
    }
}

/// How a batch is driven so that an episode of every row ends and the next one begins.
struct Plan {
    rows: usize,
    steps: usize,
    /// Starts in place of those of a reset of the whole batch, where its episodes would not end in time.
    starts: Vec<RowReset>,
}

impl Plan {
    /// To the step limit where that is near, and to goals that the actions lead to elsewhere. A ball that nobody touches reaches no
    /// goal, so soccer goes to its limit too, in fewer rows.
    fn new(spec: &EnvSpec) -> Self {
        let is_soccer = spec.family == "ant-soccer";
        if is_soccer || spec.max_episode_steps <= 500 {
            return Self {
                rows: if is_soccer { 2 } else { 5 },
                steps: spec.max_episode_steps + 5,
                starts: vec![],
            };
        }
        let mut plan = Self {
            rows: 5,
            steps: 60,
            starts: vec![],
        };
        for row in 0..plan.rows {
            let seed = row_seed(row).value();
            let options = plan.goal_on_the_way(spec, row, seed);
            plan.starts.push(RowReset { row, seed, options });
        }
        plan
    }

    fn actions(&self, spec: &EnvSpec) -> impl FnMut() -> Vec<f32> {
        let mut rng = Seed::new(21).child("batch").rng();
        let mut actions = vec![0.0; self.rows * spec.action_dim()];
        move || {
            random_action(&mut rng, &mut actions);
            actions.clone()
        }
    }

    /// A task whose goal the actions of a row reach within 40 steps, but not at the start.
    fn goal_on_the_way(&self, spec: &EnvSpec, row: usize, seed: u64) -> ResetOptions {
        let start = Start::Task(spec.tasks.len() - 1);
        let mut env = make(spec);
        env.reset(seed, &options(start)).unwrap();
        let first = achieved(env.as_ref());
        let distance = |to: &[f32]| {
            let squares = first.iter().zip(to).map(|(a, b)| (a - b).powi(2));
            squares.sum::<f32>().sqrt()
        };
        let mut actions = self.actions(spec);
        let dim = spec.action_dim();
        let mut farthest = first.clone();
        for _ in 0..40 {
            env.step(&actions()[row * dim..(row + 1) * dim]).unwrap();
            let here = achieved(env.as_ref());
            if distance(&here) > distance(&farthest) {
                farthest = here;
            }
        }
        // Beyond the farthest point where that is too close to the start, but still within reach of it.
        let tolerance = spec.goal.tolerance / spec.goal.metres_per_unit;
        let stretch = f32::max(1.0, 0.5 + tolerance / distance(&farthest));
        let mut goal = env.goal_observation().to_vec();
        for ((&index, from), to) in spec.goal.indices.iter().zip(&first).zip(&farthest) {
            goal[index] = from + stretch * (to - from);
        }
        ResetOptions {
            start,
            goal: Some(goal),
        }
    }

    fn assert_rows_end(&self, spec: &EnvSpec, trace: &[(Vec<u32>, Vec<bool>)]) {
        for row in 0..self.rows {
            let [terminated, truncated, _, reset] = [0_usize, 1, 2, 3].map(|kind| {
                let flag = kind * self.rows + row;
                trace.iter().filter(|(_, flags)| flags[flag]).count()
            });
            assert!(
                terminated + truncated > 0 && reset > 0,
                "{} row {row}: {terminated} + {truncated} ends, {reset} resets",
                spec.id
            );
        }
    }
}

/// Seed of a row of a batch that was reset with 77.
fn row_seed(row: usize) -> Seed {
    Seed::new(77).index(row as u64)
}

/// Numbers and flags (terminated, truncated, success, reset) of every step.
type Trace = Vec<(Vec<u32>, Vec<bool>)>;

fn batch_trace(
    spec: &'static EnvSpec,
    plan: &Plan,
    threads: usize,
    autoreset: AutoresetMode,
) -> Trace {
    let mut envs = VecEnv::new(spec, plan.rows, VecOptions { threads, autoreset }).unwrap();
    envs.reset(77, &ResetOptions::default()).unwrap();
    envs.reset_rows(&plan.starts).unwrap();
    let mut actions = plan.actions(spec);
    let mut trace = Vec::new();
    for _ in 0..plan.steps {
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

fn single_trace(spec: &'static EnvSpec, plan: &Plan, autoreset: AutoresetMode) -> Trace {
    let mut envs: Vec<_> = (0..plan.rows).map(|_| make(spec)).collect();
    let mut options = vec![ResetOptions::default(); plan.rows];
    for start in &plan.starts {
        options[start.row].clone_from(&start.options);
    }
    for (row, env) in envs.iter_mut().enumerate() {
        env.reset(row_seed(row).value(), &options[row]).unwrap();
    }
    let mut finished = vec![false; plan.rows];
    let mut episodes = vec![0_u64; plan.rows];
    let mut actions = plan.actions(spec);
    let mut trace = Vec::new();
    for _ in 0..plan.steps {
        let actions = actions();
        let mut steps = Vec::new();
        let mut resets = Vec::new();
        for (row, env) in envs.iter_mut().enumerate() {
            let mut begin_next = |env: &mut Box<dyn GoalEnv>| {
                episodes[row] += 1;
                let seed = row_seed(row).child("episode").index(episodes[row]);
                env.reset(seed.value(), &options[row]).unwrap();
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
        envs.iter()
            .for_each(|env| numbers.extend(achieved(env.as_ref())));
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

#[test]
fn a_first_reset_that_is_refused_is_an_error_of_its_row() {
    for spec in telic_envs::specs() {
        let mut envs = VecEnv::new(spec, 2, VecOptions::default()).unwrap();
        let refused = ResetOptions {
            goal: Some(vec![f32::NAN; spec.observation_dim()]),
            ..ResetOptions::default()
        };
        assert!(
            matches!(
                envs.reset(0, &refused),
                Err(VecError::Row {
                    row: 0,
                    source: EnvError::BadGoal { .. }
                })
            ),
            "{}",
            spec.id
        );
        envs.reset(0, &ResetOptions::default()).unwrap();
    }
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
