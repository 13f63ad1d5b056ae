//! Following directions: walks around the circle that say how well it goes.

use serde::Serialize;
use telic_envs::gait::Gait;
use telic_envs::locomotion::{DirectionTask, DirectionTaskSpec};
use telic_policies::Metrics;
use telic_seed::Seed;

use super::check_gait;
use crate::FlowError;

/// Directions that are walked in an evaluation, evenly around the circle.
const DIRECTIONS: usize = 8;
/// What is walked before a turn and after it, in seconds.
const LEG_SECS: f64 = 10.0;
/// How much the direction changes between the two.
pub const TURNS_DEGREES: [f64; 3] = [0.0, 90.0, 180.0];

/// How well an expert follows directions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DirectionReport {
    /// One per turn and direction.
    pub legs: Vec<Leg>,
    /// Walks in which the robot left the heights of walking, or that ended on its back.
    pub falls: usize,
}

/// Ten seconds along one direction, after ten seconds along another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leg {
    /// The direction in the world, counter-clockwise from x, in degrees.
    pub direction_degrees: f64,
    /// How much it differs from the one before, in degrees; 0 for none.
    pub turn_degrees: f64,
    /// Metres per second along the direction.
    pub speed_m_per_s: f64,
    /// Angle between the direction and the way that was made, 0 to 180 degrees.
    pub heading_error_degrees: f64,
}

impl DirectionReport {
    /// Means over all directions of one of [`TURNS_DEGREES`]: speed along the direction in m/s, heading error in degrees.
    pub fn mean(&self, turn_degrees: f64) -> (f64, f64) {
        let legs = self
            .legs
            .iter()
            .filter(|leg| leg.turn_degrees == turn_degrees);
        let (mut count, mut speed, mut error) = (0.0, 0.0, 0.0);
        for leg in legs {
            count += 1.0;
            speed += leg.speed_m_per_s;
            error += leg.heading_error_degrees;
        }
        (speed / count, error / count)
    }

    pub(super) fn summary(&self) -> String {
        let (speed, error) = self.mean(0.0);
        format!(
            "{speed:.2} m/s along the direction, heading error {error:.1}°, {} falls",
            self.falls
        )
    }

    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for turn in TURNS_DEGREES {
            let (speed, error) = self.mean(turn);
            metrics.insert(format!("evaluation/speed_turn_{turn}"), speed);
            metrics.insert(format!("evaluation/heading_error_turn_{turn}"), error);
        }
        metrics.insert("evaluation/falls", self.falls as f64);
        metrics
    }
}

/// Walks with a gait along directions around the circle, straight on and after turns.
pub(super) fn evaluate(
    spec: &DirectionTaskSpec,
    gait: &Gait,
    seed: Seed,
) -> Result<DirectionReport, FlowError> {
    let mut task = (spec.make)()?;
    check_gait(gait, spec.name, task.observation_dim(), task.action_dim())?;
    let mut report = DirectionReport {
        legs: vec![],
        falls: 0,
    };
    for turn in TURNS_DEGREES {
        for index in 0..DIRECTIONS {
            let direction = 360.0 * index as f64 / DIRECTIONS as f64;
            task.reset(seed.child("evaluation").index(index as u64));
            let before = walk(task.as_mut(), gait, direction - turn, spec.control_hz);
            let after = walk(task.as_mut(), gait, direction, spec.control_hz);
            report.falls += usize::from(before.fell || after.fell || !task.is_upright());
            let [x, y] = after.moved;
            let angle = direction.to_radians();
            let along = x * libm::cos(angle) + y * libm::sin(angle);
            let across = y * libm::cos(angle) - x * libm::sin(angle);
            report.legs.push(Leg {
                direction_degrees: direction,
                turn_degrees: turn,
                speed_m_per_s: along / LEG_SECS,
                heading_error_degrees: libm::atan2(across, along).abs().to_degrees(),
            });
        }
    }
    Ok(report)
}

struct Walk {
    /// x and y in metres.
    moved: [f64; 2],
    fell: bool,
}

fn walk(task: &mut dyn DirectionTask, gait: &Gait, degrees: f64, control_hz: f64) -> Walk {
    let angle = degrees.to_radians();
    task.command([libm::cos(angle) as f32, libm::sin(angle) as f32]);
    let from = task.position();
    let mut action = vec![0.0; task.action_dim()];
    let mut fell = false;
    for _ in 0..(LEG_SECS * control_hz).round() as usize {
        gait.act(task.observation(), &mut action);
        fell |= task.step(&action).terminated;
    }
    let to = task.position();
    Walk {
        moved: [0, 1].map(|axis| f64::from(to[axis] - from[axis])),
        fell,
    }
}

#[cfg(test)]
mod tests {
    use telic_envs::locomotion::direction_tasks;

    use super::*;

    /// The last row of the tables in `docs/experts.md`.
    #[test]
    fn the_experts_in_the_repository_walk_as_their_page_says() {
        let ant: &[u8] = include_bytes!("../../envs/assets/ant_gait.safetensors");
        let humanoid: &[u8] = include_bytes!("../../envs/assets/humanoid_gait.safetensors");
        for (spec, bytes, speeds, errors, falls) in [
            (&direction_tasks()[0], ant, [1.83, 1.70, 1.67], [10.0; 3], 0),
            (
                &direction_tasks()[1],
                humanoid,
                [1.10, 1.10, 0.53],
                [7.0, 9.0, 59.0],
                6,
            ),
        ] {
            let gait = Gait::from_safetensors(bytes).unwrap();
            let report = evaluate(spec, &gait, Seed::new(0)).unwrap();
            for (leg, turn) in TURNS_DEGREES.into_iter().enumerate() {
                let (found, heading_error) = report.mean(turn);
                let what = format!("{} after {turn}°", spec.name);
                eprintln!("{what}: {found:.3} m/s, {heading_error:.1}°");
                assert!((found - speeds[leg]).abs() < 0.006, "{what}: {found} m/s");
                assert!(heading_error < errors[leg], "{what}: {heading_error}°");
            }
            assert_eq!(report.falls, falls, "{}", spec.name);
        }
    }
}
