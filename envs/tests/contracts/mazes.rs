//! Starts, goals and success of every maze, against the tables of OGBench (Park et al. 2024).

use super::*;

/// Row and column of a cell.
pub(super) type Cell = (u8, u8);

/// Cells of each task: of the robot at the start, of the ball where there is one, and of the goal.
type Tasks = &'static [&'static [Cell]];

const ARENA: Tasks = &[&[(1, 1), (6, 6)]];
const MEDIUM: Tasks = &[
    &[(1, 1), (6, 6)],
    &[(6, 1), (1, 6)],
    &[(5, 3), (4, 2)],
    &[(6, 5), (6, 1)],
    &[(2, 6), (1, 1)],
];
const LARGE: Tasks = &[
    &[(1, 1), (7, 10)],
    &[(5, 4), (7, 1)],
    &[(7, 4), (1, 10)],
    &[(3, 8), (5, 4)],
    &[(1, 1), (5, 4)],
];
const GIANT: Tasks = &[
    &[(1, 1), (10, 14)],
    &[(1, 14), (10, 1)],
    &[(8, 14), (1, 1)],
    &[(8, 3), (5, 12)],
    &[(5, 9), (3, 8)],
];
const TELEPORT: Tasks = &[
    &[(1, 10), (7, 1)],
    &[(1, 1), (7, 10)],
    &[(5, 6), (7, 10)],
    &[(7, 1), (7, 10)],
    &[(5, 6), (7, 1)],
];
const SOCCER_ARENA: Tasks = &[
    &[(1, 6), (2, 3), (5, 2)],
    &[(2, 2), (5, 5), (2, 2)],
    &[(6, 1), (2, 3), (6, 6)],
    &[(6, 6), (1, 1), (6, 1)],
    &[(4, 6), (6, 2), (1, 6)],
];
const SOCCER_MEDIUM: Tasks = &[
    &[(1, 1), (3, 4), (6, 6)],
    &[(6, 1), (6, 5), (1, 1)],
    &[(5, 3), (4, 2), (6, 5)],
    &[(6, 5), (1, 1), (5, 3)],
    &[(1, 6), (6, 1), (1, 6)],
];

/// Id, distance from the goal within which it is reached in metres, and tasks.
const PUBLISHED: [(&str, f32, Tasks); 14] = [
    ("point-maze-arena", 1.0, ARENA),
    ("point-maze-medium", 1.0, MEDIUM),
    ("point-maze-large", 1.0, LARGE),
    ("point-maze-giant", 1.0, GIANT),
    ("point-maze-teleport", 1.0, TELEPORT),
    ("ant-maze-medium", 0.5, MEDIUM),
    ("ant-maze-large", 0.5, LARGE),
    ("ant-maze-giant", 0.5, GIANT),
    ("ant-maze-teleport", 0.5, TELEPORT),
    ("ant-soccer-arena", 0.5, SOCCER_ARENA),
    ("ant-soccer-medium", 0.5, SOCCER_MEDIUM),
    ("humanoid-maze-medium", 0.5, MEDIUM),
    ("humanoid-maze-large", 0.5, LARGE),
    ("humanoid-maze-giant", 0.5, GIANT),
];

/// Starts and goals are drawn this far around a centre, per axis, in metres.
const NOISE_M: f32 = 1.0;
/// Position of the ball in an observation; that of the robot comes first.
const BALL: usize = 15;

/// Centre of a cell in the world, in metres.
pub(super) fn centre((row, column): Cell) -> [f32; 2] {
    [column, row].map(|index| 4.0 * f32::from(index) - 4.0)
}

/// The x and y of an observation that begin at an entry.
pub(super) fn place(observation: &[f32], first: usize) -> [f32; 2] {
    [observation[first], observation[first + 1]]
}

/// First entry of what has to come to the goal.
fn target(cells: &[Cell]) -> usize {
    if cells.len() == 3 { BALL } else { 0 }
}

#[test]
fn every_maze_has_as_many_tasks_as_published() {
    let mut found: Vec<_> = specs()
        .iter()
        .filter(|spec| spec.family.ends_with("-maze") || spec.family == "ant-soccer")
        .map(|spec| (spec.id, spec.tasks.len()))
        .collect();
    let mut published = PUBLISHED.map(|(id, _, tasks)| (id, tasks.len()));
    found.sort_unstable();
    published.sort_unstable();
    assert_eq!(found, published);
}

#[test]
fn a_task_starts_and_ends_around_its_published_cells() {
    for (id, _, tasks) in PUBLISHED {
        let mut env = make(telic_envs::spec(id).unwrap());
        let mut offsets: Vec<[f32; 6]> = vec![];
        for seed in 0..40 {
            let task = seed % tasks.len();
            env.reset(seed as u64, &options(Start::Task(task))).unwrap();
            let (seen, goal) = (env.observation(), env.goal_observation());
            let cells = tasks[task];
            let target = target(cells);
            // Without a ball the robot stands for it.
            let found = [place(seen, 0), place(seen, target), place(goal, target)];
            let expected = [cells[0], cells[cells.len() - 2], cells[cells.len() - 1]].map(centre);
            let offset: [f32; 6] =
                std::array::from_fn(|n| found[n / 2][n % 2] - expected[n / 2][n % 2]);
            assert!(
                offset.iter().all(|offset| offset.abs() <= NOISE_M + 1e-4),
                "{id} task {task} seed {seed}: {offset:?} m off the centres of {cells:?}"
            );
            assert_ne!(
                offset[..2],
                offset[4..],
                "{id}: one draw for start and goal"
            );
            assert_eq!(env.desired_goal(), found[2], "{id}");
            assert_eq!(
                place(goal, 0),
                found[2],
                "{id}: the robot is at its goal too"
            );
            offsets.push(offset);
        }
        // Each of 40 uniform draws is beyond half of the range on one side with probability 1/4.
        for n in 0..6 {
            let column = || offsets.iter().map(move |offset| offset[n]);
            let (low, high) = (column().fold(0.0, f32::min), column().fold(0.0, f32::max));
            assert!(
                low < -0.5 * NOISE_M && high > 0.5 * NOISE_M,
                "{id} {n}: offsets from {low} to {high} m"
            );
        }
    }
}

#[test]
fn a_goal_is_reached_within_the_published_distance_in_the_plane() {
    /// How far from the border of success it is tried, in metres.
    const MARGIN_M: f32 = 1e-3;
    for (id, tolerance_m, tasks) in PUBLISHED {
        let spec = telic_envs::spec(id).unwrap();
        let mut env = make(spec);
        let action = vec![0.0; spec.action_dim()];
        for (task, cells) in tasks.iter().enumerate() {
            let target = target(cells);
            env.reset(7, &options(Start::Task(task))).unwrap();
            let start = env.snapshot();
            // Where a step leads does not depend on the goal, so the goal can be put around it.
            env.step(&action).unwrap();
            let own = place(env.observation(), 0);
            let end = place(env.observation(), target);
            let mut goal = env.goal_observation().to_vec();
            for direction in [[1.0, 0.0], [0.0, -1.0], [0.6, 0.8], [-0.8, 0.6]] {
                for (distance_m, success) in [
                    (tolerance_m - MARGIN_M, true),
                    (tolerance_m + MARGIN_M, false),
                ] {
                    // Where there is a ball, the robot's place does not count.
                    let robot = if success { own.map(|x| x + 50.0) } else { own };
                    goal[..2].copy_from_slice(&robot);
                    for axis in 0..2 {
                        goal[target + axis] = end[axis] + distance_m * direction[axis];
                    }
                    env.restore(&start).unwrap();
                    env.set_goal(&goal).unwrap();
                    let expected = Step {
                        reward: if success { 0.0 } else { -1.0 },
                        terminated: success,
                        truncated: false,
                        success,
                    };
                    assert_eq!(
                        env.step(&action).unwrap(),
                        expected,
                        "{id} task {task}: {distance_m} m along {direction:?}"
                    );
                }
            }
        }
    }
}
