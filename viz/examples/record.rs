//! Records one episode of a scripted expert: `record ENV OUT.rrd [TASK] [SEED] [STEPS]`.
//!
//! With `STEPS` the recording stops there and opens at its end; the pictures of the documentation are made so.

use std::error::Error;

use telic_viz::{EpisodeRecorder, Opening, RecordingTarget};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [id, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: record ENV OUT.rrd [TASK] [SEED] [STEPS]".into());
    };
    let number = |index: usize| {
        rest.get(index)
            .map(|text| text.parse::<usize>())
            .transpose()
    };
    let (task, seed, steps) = (number(0)?, number(1)?.unwrap_or(0), number(2)?);

    let spec = telic_envs::spec(id)?;
    let expert = spec
        .demonstrators
        .first()
        .ok_or("the environment has no scripted expert")?;
    let mut expert = (expert.make)(0.0)?;
    expert.reset(seed as u64, task)?;

    let opening = if steps.is_some() {
        Opening::Newest
    } else {
        Opening::Playing
    };
    let mut recorder =
        EpisodeRecorder::new(spec, RecordingTarget::File(out.into()))?.with_opening(opening);
    recorder.begin_episode(expert.env(), &format!("scripted expert, seed {seed}"))?;
    let mut action = vec![0.0; spec.action_dim()];
    for _ in 0..steps.unwrap_or(spec.max_episode_steps) {
        expert.act(&mut action);
        let step = expert.step(&action)?;
        recorder.log_step(expert.env(), &action, &step)?;
        if step.terminated || step.truncated || expert.finished() {
            break;
        }
    }
    recorder.finish()?;
    Ok(())
}
