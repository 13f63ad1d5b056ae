//! Updates, evaluations and resumed runs.

use super::*;

#[test]
fn sixty_four_windows_are_learned_by_heart() {
    for mut config in [small(), clean(small()), small_mlp(), clean(small_mlp())] {
        config.network.attention_dropout = 0.0;
        config.network.residual_dropout = 0.0;
        let training = config.history_training;
        let mut agent = agent(&config);
        let windows = batch(&agent, 1);
        let before = agent.evaluate(&windows, &mut Seed::new(2).rng());
        let metrics = train(&mut agent, 0..600, |_| windows.clone());
        let (first, last) = (
            mean(&metrics[..10], "actor/loss"),
            mean(&metrics[550..], "actor/loss"),
        );
        assert!(
            last < 0.2 * first,
            "{training:?}: the loss falls from {first} to {last}"
        );
        let after = agent.evaluate(&windows, &mut Seed::new(2).rng());
        let error = |metrics: &Metrics| metrics.get("actor/action_error").unwrap();
        assert!(
            error(&after) < 0.1 * error(&before),
            "{training:?}: {} to {}",
            error(&before),
            error(&after)
        );
        assert!(
            metrics
                .iter()
                .all(|m| m.get("optimizer/gradient_norm").unwrap() > 0.0)
        );
    }
}

#[test]
fn dropout_and_masks_leave_something_to_learn() {
    let mut config = small();
    config.network.embed_dropout = 0.05;
    config.goal_mask.probability = 0.1;
    let mut agent = agent(&config);
    let windows = batch(&agent, 1);
    let metrics = train(&mut agent, 0..300, |_| windows.clone());
    assert!(mean(&metrics[270..], "actor/loss") < 0.6 * mean(&metrics[..10], "actor/loss"));
    // The actions lie on a circle in the plane: standard deviation 0.7 on a range of −1..1, where 0.5 is assumed.
    let square = mean(&metrics, "actor/target_square");
    assert!((0.8..2.0).contains(&square), "{square}");
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    for config in [small(), small_mlp()] {
        assert_resumes(&config);
    }
}

fn assert_resumes(config: &BesoConfig) {
    let run = |restart: Option<u64>| {
        let mut agent = agent(config);
        let fresh = |agent: &BesoAgent<A>| {
            let state = agent.state();
            let mut other = self::agent(config);
            other.load_state(&state).unwrap();
            other
        };
        let windows: Vec<_> = (0..8).map(|k| batch(&agent, k)).collect();
        let batch_of = |k: u64| windows[k as usize].clone();
        let split = restart.unwrap_or(8);
        let mut metrics = train(&mut agent, 0..split, batch_of);
        if restart.is_some() {
            agent = fresh(&agent);
        }
        metrics.extend(train(&mut agent, split..8, batch_of));
        (agent.state(), metrics)
    };
    let (uninterrupted, resumed) = (run(None), run(Some(3)));
    assert_eq!(uninterrupted.0.first_difference(&resumed.0), None);
    assert_eq!(uninterrupted.1, resumed.1);
    assert_ne!(agent(config).state().first_difference(&resumed.0), None);
}

#[test]
fn an_update_gives_the_same_bits_on_any_number_of_threads() {
    let mut transformer = small();
    transformer.network.embed_dim = 128;
    let mut mlp = small_mlp();
    mlp.network.hidden = vec![512, 512];
    let run = |config: &BesoConfig, threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut agent = agent(config);
            let windows = batch(&agent, 1);
            train(&mut agent, 0..2, |_| windows.clone());
            agent.state()
        })
    };
    for config in [transformer, mlp] {
        assert_eq!(run(&config, 1).first_difference(&run(&config, 3)), None);
    }
}

#[test]
fn an_evaluation_changes_nothing() {
    let mut agent = agent(&small());
    let windows = batch(&agent, 1);
    let before = agent.state();
    let metrics = agent.evaluate(&windows, &mut Seed::new(2).rng());
    assert_eq!(agent.state().first_difference(&before), None);
    assert_eq!(agent.evaluate(&windows, &mut Seed::new(2).rng()), metrics);
}

/// As many windows as transitions: those at the beginning of an episode are short.
#[test]
fn the_perceptron_trains_on_short_contexts() {
    let agent = agent(&small_mlp());
    let windows: Vec<usize> = (0..20).flat_map(|k| batch(&agent, k).missing).collect();
    let share = |missing: usize| {
        windows.iter().filter(|m| **m == missing).count() as f64 / windows.len() as f64
    };
    // Episodes have 14 transitions, and a window of 3.
    for (missing, expected) in [(2, 1.0 / 14.0), (1, 1.0 / 14.0), (0, 12.0 / 14.0)] {
        assert!(
            (share(missing) - expected).abs() < 0.03,
            "{missing}: {}",
            share(missing)
        );
    }
    assert!(
        batch(&self::agent(&small()), 0)
            .missing
            .iter()
            .all(|m| *m == 0)
    );
}
