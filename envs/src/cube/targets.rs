//! Which cube goes where next.

use std::f64::consts::TAU;

use rand::RngExt;
use telic_seed::Rng;

use super::oracle::Target;
use super::{CLEARANCE, HALF_EXTENT, TOLERANCE, distance, free_place, planar_distance};

/// Cubes closer than this in the plane are over each other.
const SAME_COLUMN: f64 = 0.02;
/// A cube counts as put in its place within this distance, closer than success asks for, so that it holds.
const PLACED: f64 = 0.75 * TOLERANCE;

/// Whether no other cube is on top of `cube`.
fn is_free(cubes: &[[f64; 3]], cube: usize) -> bool {
    cubes.iter().enumerate().all(|(other, position)| {
        other == cube
            || position[2] <= cubes[cube][2]
            || planar_distance(position, &cubes[cube]) > SAME_COLUMN
    })
}

/// Everything but one entry.
fn without(cubes: &[[f64; 3]], cube: usize) -> Vec<[f64; 3]> {
    cubes
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != cube)
        .map(|(_, position)| *position)
        .collect()
}

/// A target for play: a random free cube onto another free cube with probability `p_stack`, else to a random place.
pub(super) fn play_target(cubes: &[[f64; 3]], p_stack: f64, rng: &mut Rng) -> Target {
    let free: Vec<usize> = (0..cubes.len())
        .filter(|&cube| is_free(cubes, cube))
        .collect();
    let cube = free[rng.random_range(0..free.len())];
    let stack = rng.random::<f64>() < p_stack;
    let bases: Vec<usize> = free.into_iter().filter(|&other| other != cube).collect();
    let position = if stack && !bases.is_empty() {
        let [x, y, z] = cubes[bases[rng.random_range(0..bases.len())]];
        [x, y, z + 2.0 * HALF_EXTENT]
    } else {
        free_place(&without(cubes, cube), rng)
    };
    Target {
        cube,
        position,
        yaw: rng.random_range(0.0..TAU),
    }
}

/// The next target on the way from `cubes` to `goals`: a cube whose place is free and supported, lowest place first;
/// where every place is taken, as in a swap, a cube that is in the way goes to a free place. `None` when all is done.
pub(super) fn task_target(cubes: &[[f64; 3]], goals: &[[f64; 3]], rng: &mut Rng) -> Option<Target> {
    let mut misplaced: Vec<usize> = (0..cubes.len())
        .filter(|&cube| distance(&cubes[cube], &goals[cube]) > PLACED)
        .collect();
    misplaced.sort_by(|&a, &b| goals[a][2].total_cmp(&goals[b][2]));
    let blockers = |cube: usize| {
        (0..cubes.len()).filter(move |&other| {
            other != cube
                && planar_distance(&cubes[other], &goals[cube]) < CLEARANCE
                && cubes[other][2] > goals[cube][2] - HALF_EXTENT
        })
    };
    let supported = |cube: usize| {
        goals[cube][2] < 2.0 * HALF_EXTENT
            || (0..cubes.len()).any(|other| {
                other != cube
                    && planar_distance(&cubes[other], &goals[cube]) < SAME_COLUMN
                    && (goals[cube][2] - cubes[other][2] - 2.0 * HALF_EXTENT).abs() < HALF_EXTENT
            })
    };
    let ready =
        |cube: usize| is_free(cubes, cube) && blockers(cube).next().is_none() && supported(cube);
    if let Some(&cube) = misplaced.iter().find(|&&cube| ready(cube)) {
        return Some(Target {
            cube,
            position: goals[cube],
            yaw: 0.0,
        });
    }
    // Nothing can go straight to its place: make room.
    let cube = misplaced
        .iter()
        .flat_map(|&cube| blockers(cube).chain((!is_free(cubes, cube)).then_some(cube)))
        .chain(misplaced.iter().copied())
        .map(|cube| top_of(cubes, cube))
        .next()?;
    let mut taken = without(cubes, cube);
    taken.extend_from_slice(goals);
    Some(Target {
        cube,
        position: free_place(&taken, rng),
        yaw: 0.0,
    })
}

/// The highest cube in the column of `cube`.
fn top_of(cubes: &[[f64; 3]], cube: usize) -> usize {
    (0..cubes.len())
        .filter(|&other| planar_distance(&cubes[other], &cubes[cube]) <= SAME_COLUMN)
        .max_by(|&a, &b| cubes[a][2].total_cmp(&cubes[b][2]))
        .unwrap_or(cube)
}

#[cfg(test)]
mod tests {
    use telic_seed::Seed;

    use super::*;

    #[test]
    fn a_covered_cube_is_not_moved_in_play() {
        let cubes = [[0.4, 0.0, 0.02], [0.405, 0.005, 0.06]];
        let mut rng = Seed::new(1).rng();
        for _ in 0..50 {
            assert_eq!(play_target(&cubes, 0.5, &mut rng).cube, 1);
        }
    }

    #[test]
    fn play_stacks_as_often_as_asked() {
        let cubes = [[0.4, 0.0, 0.02], [0.5, 0.2, 0.02]];
        let mut rng = Seed::new(2).rng();
        let stacked = (0..1000)
            .filter(|_| play_target(&cubes, 0.25, &mut rng).position[2] > 0.05)
            .count();
        assert!((200..300).contains(&stacked), "{stacked} of 1000");
    }

    #[test]
    fn the_base_of_a_stack_comes_first() {
        let cubes = [[0.425, -0.2, 0.02], [0.425, 0.2, 0.02]];
        let goals = [[0.425, 0.0, 0.06], [0.425, 0.0, 0.02]];
        let target = task_target(&cubes, &goals, &mut Seed::new(3).rng()).unwrap();
        assert_eq!((target.cube, target.position), (1, goals[1]));
        let target = task_target(&[cubes[0], goals[1]], &goals, &mut Seed::new(3).rng()).unwrap();
        assert_eq!((target.cube, target.position), (0, goals[0]));
        assert_eq!(task_target(&goals, &goals, &mut Seed::new(3).rng()), None);
    }

    #[test]
    fn a_swap_makes_room_first() {
        let cubes = [[0.425, -0.1, 0.02], [0.425, 0.1, 0.02]];
        let goals = [cubes[1], cubes[0]];
        let mut rng = Seed::new(4).rng();
        let mut now = cubes;
        let mut moves = 0;
        while let Some(target) = task_target(&now, &goals, &mut rng) {
            assert!(
                without(&now, target.cube)
                    .iter()
                    .all(|other| planar_distance(other, &target.position) >= CLEARANCE)
            );
            now[target.cube] = target.position;
            moves += 1;
            assert!(moves <= 3);
        }
        assert_eq!((now, moves), (goals, 3));
    }
}
