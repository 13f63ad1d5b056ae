//! Portals of the teleport mazes, against the rule of OGBench (Park et al. 2024).

use super::mazes::{Cell, centre, place};
use super::*;

const ENTRANCES: [Cell; 2] = [(4, 6), (5, 1)];
const EXITS: [Cell; 3] = [(1, 7), (6, 1), (6, 10)];

fn point() -> Box<dyn GoalEnv> {
    make(telic_envs::spec("point-maze-teleport").unwrap())
}

fn is_at(xy: [f32; 2], expected: [f32; 2], slack_m: f32) -> bool {
    (0..2).all(|axis| (xy[axis] - expected[axis]).abs() <= slack_m)
}

/// The exit that a place is at.
fn exit_at(xy: [f32; 2], slack_m: f32) -> usize {
    EXITS
        .iter()
        .position(|&exit| is_at(xy, centre(exit), slack_m))
        .unwrap_or_else(|| panic!("{xy:?} is no exit"))
}

/// Puts the point into an entrance and lets it rest for a step; the exit where it is then.
fn enter(env: &mut dyn GoalEnv, entrance: Cell) -> usize {
    env.set_state(&centre(entrance), &[0.0; 2]).unwrap();
    env.step(&[0.0; 2]).unwrap();
    exit_at(place(env.observation(), 0), 1e-3)
}

/// Counts of a fair third are within five standard deviations of it but for one in a million.
fn assert_fair(what: &str, counts: [usize; EXITS.len()]) {
    let draws = counts.iter().sum::<usize>() as f32;
    let slack = 5.0 * (draws * 2.0 / 9.0).sqrt();
    for count in counts {
        assert!(
            (count as f32 - draws / 3.0).abs() < slack,
            "{what}: {counts:?}"
        );
    }
}

#[test]
fn an_entrance_leads_to_each_exit_equally_often() {
    let mut env = point();
    for entrance in ENTRANCES {
        let mut counts = [0; EXITS.len()];
        for seed in 0..1200 {
            env.reset(seed, &options(Start::Task(0))).unwrap();
            counts[enter(env.as_mut(), entrance)] += 1;
        }
        assert_fair("first steps of many episodes", counts);
    }
    env.reset(0, &options(Start::Task(0))).unwrap();
    let mut counts = [0; EXITS.len()];
    for _ in 0..900 {
        counts[enter(env.as_mut(), ENTRANCES[0])] += 1;
    }
    assert_fair("steps of one episode", counts);
}

#[test]
fn an_entrance_takes_hold_within_a_metre_and_a_half() {
    let mut env = point();
    env.reset(0, &options(Start::Task(0))).unwrap();
    for entrance in ENTRANCES {
        let [x, y] = centre(entrance);
        for side in [-1.0, 1.0] {
            let outside = [x, y + 1.51 * side];
            env.set_state(&outside, &[0.0; 2]).unwrap();
            env.step(&[0.0; 2]).unwrap();
            assert!(is_at(place(env.observation(), 0), outside, 1e-4));
            env.set_state(&[x, y + 1.49 * side], &[0.0; 2]).unwrap();
            env.step(&[0.0; 2]).unwrap();
            exit_at(place(env.observation(), 0), 1e-3);
        }
    }
}

/// The step that enters is observed before the jump. Both entrances are in corridors along y; a step is 0.2 m long.
#[test]
fn a_jump_is_seen_one_step_after_the_entrance() {
    let mut env = point();
    env.reset(0, &options(Start::Task(0))).unwrap();
    for entrance in ENTRANCES {
        let [x, y] = centre(entrance);
        for side in [-1.0, 1.0] {
            env.set_state(&[x, y + 1.65 * side], &[0.0; 2]).unwrap();
            env.step(&[0.0, -side]).unwrap();
            let entered = place(env.observation(), 0);
            assert!(is_at(entered, [x, y + 1.45 * side], 1e-4), "{entered:?}");
            env.step(&[0.0, -side]).unwrap();
            let [x, y] = place(env.observation(), 0);
            exit_at([x, y + 0.2 * side], 1e-3);
        }
    }
}

#[test]
fn a_jump_keeps_posture_and_velocities() {
    let mut env = make(telic_envs::spec("ant-maze-teleport").unwrap());
    // Tilted, turning and in the air, where nothing is touched on either side of the jump.
    let mut qpos: [f32; 15] = [
        0.0, 0.0, 4.0, 0.8, 0.3, -0.4, 0.33, 0.2, 0.9, -0.1, -0.8, 0.3, -0.7, -0.2, 1.0,
    ];
    let qvel: [f32; 14] = std::array::from_fn(|n| 0.15 * n as f32 - 1.0);
    let mut seen = [false; EXITS.len()];
    for seed in 0..20 {
        env.reset(seed, &options(Start::Task(0))).unwrap();
        let mut step_from = |[x, y]: [f32; 2]| {
            qpos[..2].copy_from_slice(&[x, y]);
            env.set_state(&qpos, &qvel).unwrap();
            env.step(&[0.0; 8]).unwrap();
            env.observation().to_vec()
        };
        let [x, y] = centre(ENTRANCES[seed as usize % 2]);
        let jumped = step_from([x + 0.3, y - 0.4]);
        let exit = exit_at(place(&jumped, 0), 0.2);
        let walked = step_from(centre(EXITS[exit]));
        for (entry, (jumped, walked)) in jumped.iter().zip(&walked).enumerate() {
            assert!(
                (jumped - walked).abs() < 1e-4,
                "exit {exit}, entry {entry}: {jumped}, without a jump {walked}"
            );
        }
        seen[exit] = true;
    }
    assert_eq!(seen, [true; EXITS.len()]);
}
