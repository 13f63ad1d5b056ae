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

fn achieved(env: &dyn GoalEnv) -> Vec<f32> {
    let mut goal = vec![0.0; env.spec().goal_dim()];
    env.spec().goal.extract(env.observation(), &mut goal);
    goal
}

fn reached(env: &dyn GoalEnv) -> bool {
    env.spec().goal.reached(&achieved(env), env.desired_goal())
}

mod batches;
mod episodes;
mod interface;
mod mazes;
mod portals;
mod snapshots;
