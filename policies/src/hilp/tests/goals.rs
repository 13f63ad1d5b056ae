//! How far away the goals of trajectories are.

use telic_datasets::HindsightSampler;

use super::*;

#[test]
fn distances_of_goals_match_published_values() {
    let goals = HilpConfig::default().goals;
    let data = crate::synthetic_dataset(1, 1, 1, 4000).unwrap();
    let sampler = HindsightSampler::new(Arc::new(data), goals).unwrap();
    let mut rng = Seed::new(6).rng();
    // Uniform numbers, and the steps that were made of them.
    let drawn: Vec<(f64, usize)> = (0..400_000)
        .map(|_| {
            let u = rng.clone().random();
            (u, sampler.draw_future(0, goals.value.geometric, &mut rng))
        })
        .collect();
    for (u, expected) in [(0.1, 11), (0.5, 69), (0.9, 230), (0.99, 459)] {
        let beside = u..u + 5e-5;
        let steps: Vec<usize> = drawn
            .iter()
            .filter(|(drawn, _)| beside.contains(drawn))
            .map(|(_, steps)| *steps)
            .collect();
        let holds = !steps.is_empty() && steps.iter().all(|steps| *steps == expected);
        assert!(holds, "{steps:?}, not {expected}");
    }
    let count = drawn.len() as f64;
    let mean = drawn.iter().map(|(_, steps)| *steps as f64).sum::<f64>() / count;
    assert!((mean - 100.0).abs() < 1.0, "{mean}");
    for (most, expected) in [(10, 0.0956), (100, 0.634), (500, 0.9934)] {
        let within = drawn.iter().filter(|(_, steps)| *steps <= most);
        let share = within.count() as f64 / count;
        assert!((share - expected).abs() < 3e-3, "{share}, not {expected}");
    }
}
