//! Layout of an observation, starts of an episode, and goals of other episodes, as published (Cui et al. 2022).

use super::*;
use crate::Start;

/// What each entry of an observation is of.
const LAYOUT: [&str; OBSERVATION_DIM] = [
    "block_0.x",
    "block_0.y",
    "block_0.yaw",
    "block_1.x",
    "block_1.y",
    "block_1.yaw",
    "effector.x",
    "effector.y",
    "effector_command.x",
    "effector_command.y",
    "target_0.x",
    "target_0.y",
    "target_0.yaw",
    "target_1.x",
    "target_1.y",
    "target_1.yaw",
];

fn started(seed: u64, task: usize) -> BlockPush {
    let mut env = BlockPush::new().unwrap();
    let options = ResetOptions {
        start: Start::Task(task),
        goal: None,
    };
    env.reset(seed, &options).unwrap();
    env
}

#[test]
fn a_borrowed_goal_asks_for_the_task() {
    for (seed, task) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let env = started(seed, task);
        let desired = *<&[f32; 4]>::try_from(env.desired_goal()).unwrap();
        // An episode that ended 2 cm beside its targets, and one whose targets were the other way round.
        let mut beside = env.goal_observation().to_vec();
        for index in GOAL_INDICES {
            beside[index] += 0.02;
        }
        let mut crossed = beside.clone();
        crossed.swap(0, 3);
        crossed.swap(1, 4);
        assert_eq!(env.goal_like(&beside).unwrap(), beside);
        assert_eq!(env.goal_like(&crossed).unwrap(), beside);
        assert_eq!(env.desired_goal(), desired);
    }
}

/// Changes one thing, whose entries have to become `expected`, and nothing else in what is observed.
fn check_change(
    env: &mut BlockPush,
    thing: &str,
    expected: &[f32],
    change: impl FnOnce(&mut BlockPush),
) {
    let mut wanted = env.observation;
    let mut values = expected.iter();
    for (entry, name) in wanted.iter_mut().zip(LAYOUT) {
        if name.rsplit_once('.').map(|(owner, _)| owner) == Some(thing) {
            *entry = *values.next().unwrap();
        }
    }
    assert_eq!(values.next(), None, "{thing}");
    change(env);
    env.observe();
    for ((found, wanted), name) in env.observation.iter().zip(wanted).zip(LAYOUT) {
        assert!(
            (found - wanted).abs() < 1e-5,
            "after a move of {thing}: {name} is {found}, expected {wanted}"
        );
    }
}

#[test]
fn each_thing_moves_its_own_entries_of_the_observation() {
    let mut env = started(0, 0);
    let names: Vec<_> = env
        .spec
        .observation
        .iter()
        .map(|entry| &entry.name[..])
        .collect();
    assert_eq!(names, LAYOUT);
    for (block, xy, yaw) in [
        ("block_0", [0.33, 0.11], 0.7),
        ("block_1", [0.61, -0.31], -2.1),
    ] {
        check_change(&mut env, block, &[xy[0], xy[1], yaw], |env| {
            let joint = env.world.joint_id(block).unwrap();
            let at = Vector::new(xy[0], xy[1], BLOCK_HALF_M);
            let pose = Pose::from_parts(at, Rotation::from_rotation_z(yaw));
            env.world.set_free_pose(joint, pose);
        });
    }
    check_change(&mut env, "effector", &[0.41, -0.22], |env| {
        for (name, position) in [("pusher_x", 0.41), ("pusher_y", -0.22)] {
            let joint = env.world.joint_id(name).unwrap();
            env.world.set_joint_position(joint, position);
        }
    });
    check_change(&mut env, "effector_command", &[0.52, 0.13], |env| {
        env.episode.command = [0.52, 0.13];
    });
    for (target, xy, yaw) in [(0, [0.21, 0.32], 1.3), (1, [0.58, 0.17], -0.4)] {
        let thing = ["target_0", "target_1"][target];
        check_change(&mut env, thing, &[xy[0], xy[1], yaw], |env| {
            env.episode.targets[target] = Planar { xy, yaw };
        });
    }
}

#[test]
fn an_action_displaces_the_command_and_the_effector_follows_it() {
    let mut env = started(0, 0);
    for (action, command) in [
        ([1.0, 0.0], [0.35, -0.4]),
        ([0.0, 0.5], [0.35, -0.375]),
        ([-0.4, -1.0], [0.33, -0.425]),
    ] {
        env.step(&action).unwrap();
        for (axis, command) in command.into_iter().enumerate() {
            let [effector, commanded] = [6, 8].map(|first| env.observation[first + axis]);
            assert!(
                (commanded - command).abs() < 1e-6,
                "{action:?}: {commanded}"
            );
            assert!((effector - command).abs() < 0.006, "{action:?}: {effector}");
        }
    }
    assert_ne!(env.observation[6..8], env.observation[8..10]);
}

#[test]
fn starts_are_drawn_from_the_published_ranges() {
    const STARTS: u64 = 300;
    // A yaw of almost half a turn may be read as a negative one.
    let turned = |yaw: f32| if yaw < -1.0 { yaw + 2.0 * PI } else { yaw };
    // Draws of x, y and yaw of blocks and targets, in halves of their ranges from the middle.
    let mut drawn: Vec<[f32; 12]> = vec![];
    let mut first_is_far = 0;
    for seed in 0..STARTS {
        let task = (seed % 2) as usize;
        let env = started(seed, task);
        let seen = env.observation;
        assert_eq!(seen[8..10], [0.3, -0.4]);
        for axis in 6..8 {
            assert!((seen[axis] - seen[axis + 2]).abs() < 1e-4, "{seen:?}");
        }
        assert!((seen[0] - seen[3]).abs() > 0.1 - 2e-3, "{seen:?}");
        let side = if seen[10] > 0.4 { 1.0 } else { -1.0 };
        first_is_far += usize::from(side > 0.0);
        let centres = [
            ([0.4, -0.2, PI / 2.0], [0.1, 0.15, PI / 2.0]),
            ([0.4, -0.2, PI / 2.0], [0.1, 0.15, PI / 2.0]),
            ([0.4 + 0.12 * side, 0.2, PI], [0.005, 0.0075, PI / 30.0]),
            ([0.4 - 0.12 * side, 0.2, PI], [0.005, 0.0075, PI / 30.0]),
        ];
        let draws: [f32; 12] = std::array::from_fn(|index| {
            let (thing, part) = (index / 3, index % 3);
            let entry = [0, 3, 10, 13][thing] + part;
            let value = if part == 2 {
                turned(seen[entry])
            } else {
                seen[entry]
            };
            (value - centres[thing].0[part]) / centres[thing].1[part]
        });
        // Blocks settle by less than a millimetre.
        assert!(draws.iter().all(|draw| draw.abs() < 1.01), "{draws:?}");
        drawn.push(draws);
        let [of_block_0, of_block_1] = if task == 0 { [10, 13] } else { [13, 10] };
        let targets = [of_block_0, of_block_0 + 1, of_block_1, of_block_1 + 1];
        assert_eq!(env.desired_goal, targets.map(|entry| seen[entry]));
    }
    for index in 0..12 {
        let column = || drawn.iter().map(move |draws| draws[index]);
        let (low, high) = (column().fold(0.0, f32::min), column().fold(0.0, f32::max));
        assert!(low < -0.9 && high > 0.9, "{index}: {low} to {high}");
    }
    // Half of 300 and five standard deviations.
    assert!((107..=193).contains(&first_is_far), "{first_is_far}");
}
