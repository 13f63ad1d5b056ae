//! temp
use burn::backend::{Autodiff, Flex};
use ndarray::Array2;
use rand::RngExt;
use std::{sync::Arc, time::Instant};
use telic_datasets::*;
use telic_policies::beso::*;
use telic_policies::*;
use telic_seed::Seed;
#[global_allocator]
static G: mimalloc::MiMalloc = mimalloc::MiMalloc;
type A = Autodiff<Flex>;
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let v: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (v[11].parse::<f64>().unwrap() + v[12].parse::<f64>().unwrap()) * 10.0
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (d, l, h, b, drop, act): (usize, usize, usize, usize, f32, String) = (
        args[1].parse().unwrap(),
        args[2].parse().unwrap(),
        args[3].parse().unwrap(),
        args[4].parse().unwrap(),
        args[5].parse().unwrap(),
        args[6].clone(),
    );
    let eps: Vec<Episode> = (0..20)
        .map(|e| {
            let mut r = Seed::new(e).rng();
            Episode {
                observations: Array2::from_shape_simple_fn((60, 10), || r.random_range(-1.0..1.0)),
                actions: Array2::from_shape_simple_fn((60, 2), || r.random_range(-1.0..1.0)),
                ..Default::default()
            }
        })
        .collect();
    let ds = Arc::new(
        Dataset::from_episodes(
            &eps,
            Metadata {
                env: "x".into(),
                ..Default::default()
            },
        )
        .unwrap(),
    );
    let mut c = BesoConfig::default();
    c.network.embed_dim = d;
    c.network.layers = l;
    c.network.heads = h;
    c.network.attention_dropout = drop;
    c.network.residual_dropout = drop;
    c.network.activation = serde_json::from_value(serde_json::Value::String(act)).unwrap();
    let task = TrainingTask {
        data: DataPart {
            dataset: ds,
            episodes: (0..20).collect(),
        },
        seed: Seed::new(1),
        steps: 100,
        batch_size: b,
    };
    let mut agent = Beso::new_agent::<A>(&c, &task, &Default::default()).unwrap();
    let mut s = agent.sampler(&task.data, b).unwrap();
    let mut batch = s.new_batch();
    s.sample(&mut Seed::new(1).rng(), &mut batch);
    let n = if d > 150 { 12 } else { 60 };
    agent.update(&batch, &mut Seed::new(99).rng());
    let c0 = cpu();
    let mut times = vec![];
    for k in 0..n {
        let t = Instant::now();
        agent.update(&batch, &mut Seed::new(k).rng());
        times.push(t.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("cpu ms per update {:.1}", (cpu() - c0) / n as f64);
    println!(
        "update ms: min {:.1} median {:.1}",
        times[0],
        times[times.len() / 2]
    );
    let mut p = BesoPolicy::<Flex>::load(&c, &agent.model(), &Default::default()).unwrap();
    for rows in [1usize, 50] {
        p.reset(rows);
        let o = Array2::zeros((rows, 10));
        let mut a = Array2::zeros((rows, 2));
        let mut rng: Vec<_> = (0..rows as u64).map(|i| Seed::new(i).rng()).collect();
        for mode in ["renoise", "reference"] {
            p.configure(&toml::from_str(&format!("[sampler]\nhistory='{mode}'")).unwrap())
                .unwrap();
            let mut times = vec![];
            for _ in 0..300 / rows.min(10) {
                let t = Instant::now();
                p.act(o.view(), o.view(), &mut rng, &mut a).unwrap();
                times.push(t.elapsed().as_secs_f64() * 1e6);
            }
            times.sort_by(f64::total_cmp);
            println!(
                "act {rows} rows {mode}: p50 {:.0} us p99 {:.0}",
                times[times.len() / 2],
                times[times.len() * 99 / 100]
            );
        }
    }
}
