//! How often every demonstrator solves every task.
#![allow(clippy::unwrap_used)]

use rayon::prelude::*;
use telic_envs::{EnvSpec, specs};

/// Whether an environment has legs: its episodes are long.
fn walks(spec: &EnvSpec) -> bool {
    spec.family.starts_with("ant-") || spec.family == "humanoid-maze"
}

fn episodes(spec: &EnvSpec) -> usize {
    if walks(spec) { 60 } else { 200 }
}

/// Steps to success, or `None`.
fn solve(spec: &EnvSpec, demonstrator: usize, episode: usize) -> Option<usize> {
    let mut expert = (spec.demonstrators[demonstrator].make)(0.0).unwrap();
    let task = episode % spec.tasks.len();
    expert.reset(episode as u64, Some(task)).unwrap();
    let mut action = vec![0.0; spec.action_dim()];
    while !expert.finished() {
        expert.act(&mut action);
        if expert.step(&action).unwrap().success {
            return Some(expert.env().elapsed_steps());
        }
    }
    None
}

/// Share of the episodes that have to be solved, in percent. The expert that dribbles and that of the humanoid are at the beginning of what
/// they could learn (`docs/experts.md`).
fn floor_percent(spec: &EnvSpec) -> usize {
    match spec.id {
        "ant-soccer-arena" => 40,
        "ant-soccer-medium" => 2,
        "humanoid-maze-medium" => 70,
        "humanoid-maze-large" => 50,
        "humanoid-maze-giant" => 60,
        _ => 95,
    }
}

/// As many as the floor says, and where that is 95 % also every task at least once.
#[test]
fn demonstrators_without_noise_solve_their_tasks() {
    let mut too_few = Vec::new();
    for spec in specs() {
        let episodes = episodes(spec);
        // Demonstrators of a maze differ in their play data and solve a task alike; walks with legs are long.
        let demonstrators = if walks(spec) {
            1
        } else {
            spec.demonstrators.len()
        };
        for demonstrator in 0..demonstrators {
            let lengths: Vec<_> = (0..episodes)
                .into_par_iter()
                .map(|episode| solve(spec, demonstrator, episode))
                .collect();
            let mut solved: Vec<_> = lengths.iter().flatten().copied().collect();
            solved.sort_unstable();
            let name = spec.demonstrators[demonstrator].name;
            let median = solved.get(solved.len() / 2).copied().unwrap_or(0);
            let tasks: Vec<_> = (0..spec.tasks.len())
                .map(|task| {
                    let of_task = lengths.iter().skip(task).step_by(spec.tasks.len());
                    let count = of_task.clone().count();
                    format!(
                        "{} {}/{count}",
                        spec.tasks[task].name,
                        of_task.flatten().count()
                    )
                })
                .collect();
            eprintln!(
                "{:<22} {name:<9} {:>3}/{episodes} solved, median {median} steps; {}",
                spec.id,
                solved.len(),
                tasks.join(", ")
            );
            let floor = floor_percent(spec);
            if solved.len() * 100 < floor * episodes {
                too_few.push(format!(
                    "{} {name}: {} of {episodes}, expected {floor} %",
                    spec.id,
                    solved.len()
                ));
            }
            for task in (0..spec.tasks.len()).filter(|_| floor == 95) {
                assert!(
                    lengths
                        .iter()
                        .skip(task)
                        .step_by(spec.tasks.len())
                        .any(Option::is_some),
                    "{} {name} never solves {}",
                    spec.id,
                    spec.tasks[task].name
                );
            }
        }
    }
    assert!(too_few.is_empty(), "too few: {too_few:?}");
}
